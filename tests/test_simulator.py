"""A run's limits, account and decisions, judged by code that shares nothing with the simulator."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from market_files import rewrite
from market_files import write_market as write_small

import engine
from backtest import Dataset, Run, live_book, simulate
from backtest.live import LiveBook
from backtest.products import decision_days
from benchmarks.verify import account_differences, limit_violations, residuals
from engine import InfeasibleMandate, Problem, Solution, optimize
from engine.relaxation import relax
from risk import DataError


def test_every_limit_holds_at_every_rebalance(run: Run) -> None:
    assert len(run.table("solves")) > 20
    worst = limit_violations(run.folder)
    assert set(worst.index) == {"position", "gross", "net", "country", "sector", "style", "beta", "volatility"}
    assert (worst <= 1e-6).all(), worst


def test_every_solve_is_certified(run: Run) -> None:
    assert (residuals(run.folder) <= 1e-6).all()
    assert set(run.table("solves")["status"]) == {"solved"}


def test_the_parts_of_the_account_meet_the_whole(run: Run) -> None:
    differences = account_differences(run.folder)
    money = differences.index.str.contains("money")
    assert (differences[money] < 0.01).all(), differences
    assert (differences[~money] < 1e-12).all(), differences


def test_decisions_fall_on_the_first_session_of_a_week_and_fill_one_session_later(run: Run) -> None:
    sessions = run.nav.index
    decided = pd.DatetimeIndex(run.table("solves")["date"])
    weeks = decided.isocalendar()
    assert not (weeks["year"] * 100 + weeks["week"]).duplicated().any()
    trades = run.table("trades")
    ordered = trades[trades["reason"] == "rebalance"]
    lag = sessions.get_indexer(pd.DatetimeIndex(ordered["date"])) - sessions.get_indexer(
        pd.DatetimeIndex(ordered["decided"])
    )
    assert lag.min() == 1
    assert np.isin(pd.DatetimeIndex(ordered["decided"]), decided).all()


def test_the_hard_position_limit_is_monitored_every_day(run: Run) -> None:
    weights = run.table("weights")
    over = weights[weights["weight"].abs() > run.record["mandate"]["position_limit"]]
    notices = run.table("notices")
    breaches = notices[notices["kind"] == "passive breach"]
    assert over["date"].isin(run.table("solves")["date"]).any(), "a decision day must be among them"
    assert over.merge(breaches, on=["date", "asset"], how="left")["kind"].notna().all()


def test_a_gone_asset_is_booked_once_and_leaves_the_book(run: Run) -> None:
    notices = run.table("notices")
    gone = notices[notices["kind"] == "gone"]
    assert len(gone), "the market delists 15 % a year; the run must meet a leaver"
    positions = run.table("positions")
    for row in gone.itertuples():
        after = positions[(positions["asset"] == row.asset) & (positions["date"] > row.date)]
        assert (after["shares"] == 0).all()


def test_models_that_are_left_out_are_listed_with_a_reason(run: Run) -> None:
    models = run.table("meta_model")
    out = models[~models["used"]]
    assert len(out)
    assert (out["reason"] != "").all()
    assert (models.loc[models["used"], "reason"] == "").all()


def test_the_run_says_what_it_was(run: Run) -> None:
    record = json.loads((run.folder / "run.json").read_text())
    assert record["status"] == "complete"
    assert record["size_source"] == "market_cap"
    assert record["mandate"]["volatility_limit"] == 0.10
    assert len(record["data"]["fingerprint"]) == len(record["code"]) == 64
    assert record["data"]["features"]["borrow"] is False
    assert record["universe_not_applied"] == []
    forecast = run.table("solves")["volatility"].mean()
    assert record["statistics"]["forecast_volatility"] == pytest.approx(forecast, rel=1e-12)
    assert record["statistics"]["volatility_ratio"] == pytest.approx(
        record["statistics"]["volatility_before_fees"] / forecast, rel=1e-12
    )


def test_the_account_and_the_exposures_tell_one_forecast(run: Run) -> None:
    exposures = run.table("exposures").set_index("date")
    level = exposures.loc[exposures["factor"] == "volatility", "exposure"]
    held = run.nav["forecast"].reindex(level.index)
    assert len(level) > 100
    np.testing.assert_array_equal(held, level)
    date = level.index[-1]
    model = run.model(max(day for day in run.model_dates() if day <= date))
    weights = run.table("weights").query("date == @date").set_index("asset")["weight"]
    own = model.volatility(weights.reindex(model.assets).fillna(0.0).to_numpy())
    assert own == pytest.approx(level.iloc[-1], rel=1e-12)


def test_the_same_inputs_give_the_same_bytes(market: Path, run: Run, tmp_path: Path) -> None:
    again = simulate(Dataset(market), "one", out=tmp_path / "again")
    names = sorted(path.relative_to(run.folder) for path in run.folder.rglob("*") if path.is_file())
    assert names == sorted(path.relative_to(again.folder) for path in again.folder.rglob("*") if path.is_file())
    for name in names:
        if name.name != "timing.jsonl":
            assert (run.folder / name).read_bytes() == (again.folder / name).read_bytes(), name


def test_decisions_that_come_faster_than_fills_still_lead_to_their_targets(tmp_path: Path) -> None:
    data = write_small(tmp_path / "data", n_assets=30, n_days=270, n_models=3)
    product = tmp_path / "product.toml"
    product.write_text(
        'name = "Fast"\nmandate = "one"\nrebalance = "daily"\nlag_days = 3\n[risk_model]\nminimum_history = 126\n'
    )
    run = simulate(Dataset(data), str(product), out=tmp_path / "run")
    sessions, trades = run.nav.index, run.table("trades")
    lag = sessions.get_indexer(trades["date"]) - sessions.get_indexer(trades["decided"])
    assert set(lag) == {3}
    weights = run.table("weights").pivot_table(index="date", columns="asset", values=["target", "weight"])
    reached, aimed = weights["weight"].fillna(0.0).iloc[3:], weights["target"].shift(3).fillna(0.0).iloc[3:]
    # What differs is three days of drift.
    assert (reached - aimed).abs().to_numpy().max() < 0.005
    assert run.nav["gross"].iloc[-1] > 0.5 * aimed.iloc[-1].abs().sum() > 0
    assert (limit_violations(run.folder) <= 1e-6).all()
    assert (account_differences(run.folder) < 0.01).all()


@pytest.mark.parametrize("on_infeasible", ["stop", "hold"])
def test_a_date_without_a_portfolio_stops_the_run_or_holds_the_book_as_the_mandate_says(
    market: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, on_infeasible: str
) -> None:
    asked = 0

    def refuse_the_fifth(problem: Problem) -> Solution:
        nonlocal asked
        asked += 1
        if asked == 5:
            raise InfeasibleMandate("No portfolio meets all limits: a planted conflict.", ("net",), {"net": 0.1})
        return optimize(problem)

    monkeypatch.setattr("backtest.simulator.optimize", refuse_the_fifth)
    mandate = (Path(engine.__file__).parent / "mandates" / "one.toml").read_text()
    (tmp_path / "mandate.toml").write_text(f'on_infeasible = "{on_infeasible}"\n' + mandate)
    product = tmp_path / "product.toml"
    product.write_text('name = "Stuck"\nmandate = "mandate.toml"\n[risk_model]\nminimum_history = 126\n')
    run = simulate(Dataset(market), str(product), out=tmp_path / "run")
    assert (account_differences(run.folder) < 0.01).all()
    solves, notices = run.table("solves"), run.table("notices")
    if on_infeasible == "stop":
        assert run.record["status"] == "stopped"
        assert "planted conflict" in run.record["reason"]
        assert len(solves) == 4
    else:
        assert run.record["status"] == "complete"
        assert len(solves) == asked - 1
        held = notices[notices["kind"] == "held"]
        assert len(held) == 1
        trades = run.table("trades")
        assert not ((trades["decided"] == held["date"].iloc[0]) & (trades["reason"] != "trim")).any()


def test_a_run_may_begin_on_the_holiday_of_a_country(tmp_path: Path) -> None:
    data = write_small(tmp_path / "data", n_assets=30, n_days=280, n_models=3)
    country = pd.read_parquet(data / "assets.parquet").set_index("asset")["country"]
    first = pd.Timestamp(Dataset(data).dates()[270])

    def close_japan(frame: pd.DataFrame) -> pd.DataFrame:
        return frame[(frame["date"] != first) | (frame["asset"].map(country) != "JP")]

    rewrite(data, close_japan)
    product = tmp_path / "product.toml"
    product.write_text('name = "Daily"\nmandate = "one"\nrebalance = "daily"\n[risk_model]\nminimum_history = 126\n')
    run = simulate(Dataset(data), str(product), out=tmp_path / "run", start=first)
    assert run.record["start"] == f"{first:%Y-%m-%d}"
    held = run.table("positions")
    assert (held["asset"].map(country) == "JP").any()
    assert np.isfinite(run.nav["nav"]).all()
    assert (account_differences(run.folder) < 0.01).all()


@pytest.fixture(scope="module")
def crowded_exit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A market in which sixteen of forty names fall below the universe's lowest price on one day."""
    folder = write_small(tmp_path_factory.mktemp("crowded") / "data", n_assets=40, n_days=290, n_models=3)

    def consolidate(frame: pd.DataFrame) -> pd.DataFrame:
        cheap = (frame["asset"] >= "A024") & (frame["date"] >= frame["date"].unique()[272])
        return frame.assign(close=frame["close"].where(~cheap, frame["close"] / 1e5))

    rewrite(folder, consolidate)
    return folder


def crowded_product(folder: Path, on_infeasible: str) -> str:
    """Return a product whose turnover limit is less than the sixteen exits."""
    mandate = (Path(engine.__file__).parent / "mandates" / "one.toml").read_text()
    (folder / "mandate.toml").write_text(f'on_infeasible = "{on_infeasible}"\nturnover_limit = 0.05\n{mandate}')
    product = folder / "product.toml"
    product.write_text('name = "Crowded"\nmandate = "mandate.toml"\n[risk_model]\nminimum_history = 126\n')
    return str(product)


@pytest.mark.parametrize("on_infeasible", ["stop", "hold", "relax"])
def test_exits_beyond_the_turnover_limit_stop_hold_or_widen_it(
    crowded_exit: Path, tmp_path: Path, on_infeasible: str
) -> None:
    run = simulate(Dataset(crowded_exit), crowded_product(tmp_path, on_infeasible), out=tmp_path / "run", aum=1e6)
    solves, notices = run.table("solves").set_index("date"), run.table("notices")
    assert (account_differences(run.folder) < 0.01).all()
    if on_infeasible == "stop":
        assert run.record["status"] == "stopped"
        assert "turnover (<= 0.05)" in run.record["reason"]
        return
    assert run.record["status"] == "complete"
    if on_infeasible == "hold":
        assert (notices["kind"] == "held").sum() > 0
        assert (solves["relaxed"] == "").all()
        return
    relaxed = solves["relaxed"][solves["relaxed"] != ""].map(json.loads)
    assert len(relaxed) == run.record["counts"]["limit relaxed"] == (notices["kind"] == "limit relaxed").sum() > 0
    weights = run.table("weights").set_index("date")
    for date, amounts in relaxed.items():
        book = weights.loc[date].fillna(0.0)
        traded = (book["target"] - book["weight"]).abs().sum() / 2
        assert set(amounts) == {"turnover"}
        # The least: what was allowed was needed, all of it.
        assert 0.05 < traded == pytest.approx(0.05 + amounts["turnover"], abs=1e-6)
        today = notices[(notices["date"] == date) & (notices["kind"] == "limit relaxed")]
        assert (today["asset"].item(), today["amount"].item()) == ("turnover", amounts["turnover"])
        assert "turnover (<= 0.05)" in today["detail"].item()
    assert (limit_violations(run.folder) <= 1e-6).all()


@pytest.mark.parametrize("on_infeasible", ["stop", "hold", "relax"])
def test_live_orders_follow_the_mandate_as_well(crowded_exit: Path, tmp_path: Path, on_infeasible: str) -> None:
    data = Dataset(crowded_exit)
    panel = data.panel()
    names, price = list(panel.assets[24:]), panel.close[-1, 24:]
    held = pd.DataFrame({"asset": names, "shares": 0.018 * np.tile([1, -1], 8) * 1e8 / price})
    held.to_csv(tmp_path / "held.csv", index=False)
    product = crowded_product(tmp_path, on_infeasible)

    def book() -> LiveBook:
        return live_book(data, product, panel.dates[-1], holdings=tmp_path / "held.csv", nav=1e8)

    if on_infeasible != "relax":
        with pytest.raises(InfeasibleMandate, match=r"turnover \(<= 0.05\)") as caught:
            book()
        assert ("there are no orders" in str(caught.value)) == (on_infeasible == "hold")
        return
    found = book()
    assert found.solution.relaxed == pytest.approx({"turnover": 16 * 0.018 / 2 - 0.05}, abs=1e-6)
    exits = found.orders.set_index("asset").loc[names]
    assert exits["target_weight"].abs().max() < 1e-9
    traded = found.orders["trade_value"].abs().sum() / 2 / 1e8
    assert traded == pytest.approx(0.05 + found.solution.relaxed["turnover"], abs=1e-6)


def test_a_conflict_that_may_not_be_relaxed_stops_a_relaxing_mandate(
    crowded_exit: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def over_all_limits(problem: Problem) -> Solution:
        closed = np.full(len(problem.alpha), 0.01)
        return optimize(problem.replace(position_limit=(closed, closed)))

    def relaxing(problem: Problem) -> tuple[Problem, Mapping[str, float]]:
        closed = np.full(len(problem.alpha), 0.01)
        return relax(problem.replace(position_limit=(closed, closed)))

    monkeypatch.setattr("backtest.simulator.optimize", over_all_limits)
    monkeypatch.setattr("backtest.simulator.relax", relaxing)
    run = simulate(Dataset(crowded_exit), crowded_product(tmp_path, "relax"), out=tmp_path / "run", aum=1e6)
    assert run.record["status"] == "stopped"
    assert "None of these may be relaxed" in run.record["reason"]


@pytest.mark.parametrize(
    ("start", "end", "words"),
    [
        ("2030-01-01", None, "outside the data"),
        (None, "1999-01-01", "outside the data"),
        ("2020-03-02", "2020-02-03", "after end"),
        ("2020-13-45", None, "must be a date"),
        ("", None, "must be a date"),
        (None, "nan", "must be a date"),
        ("2020-03-02 15:00", None, "time of day"),
        (pd.Timestamp("2020-01-06", tz="UTC"), None, "time zone"),
    ],
)
def test_dates_out_of_range_are_refused(market: Path, tmp_path: Path, start: object, end: object, words: str) -> None:
    with pytest.raises(DataError, match=words):
        simulate(Dataset(market), "one", out=tmp_path / "run", start=start, end=end)  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("aum", [0.0, -1.0, float("nan"), float("inf")])
def test_a_size_that_is_no_amount_of_money_is_refused(market: Path, tmp_path: Path, aum: float) -> None:
    with pytest.raises(DataError, match="aum"):
        simulate(Dataset(market), "one", out=tmp_path / "run", aum=aum)


def test_an_output_that_exists_is_refused_and_left_alone(market: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    out.mkdir()
    (out / "mine.txt").write_text("keep")
    with pytest.raises(DataError, match="exists already"):
        simulate(Dataset(market), "one", out=out)
    assert (out / "mine.txt").read_text() == "keep"


def test_a_failure_leaves_nothing_behind(market: Path, tmp_path: Path) -> None:
    product = tmp_path / "product.toml"
    product.write_text('name = "Nobody"\nmandate = "one"\n[universe]\nminimum_market_cap = 1e15\n')
    with pytest.raises(DataError):
        simulate(Dataset(market), str(product), out=tmp_path / "run")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["product.toml"]


def test_decision_days_are_known_without_looking_ahead() -> None:
    dates = pd.bdate_range("2024-01-01", periods=60)
    for rebalance in ("daily", "weekly", "monthly"):
        whole = decision_days(dates, rebalance)
        for t in range(2, 60):
            assert (decision_days(dates[:t], rebalance) == whole[:t]).all()
    assert dates[decision_days(dates, "weekly")].day_of_week.unique().tolist() == [0]
