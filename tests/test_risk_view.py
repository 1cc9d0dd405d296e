"""The risk report as numbers: parts meet the whole, nothing after the date is read, and what is not there is said."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from market_files import assert_refused, rewrite

from backtest import Dataset, Run, live_book, simulate
from backtest.monitoring import monitor
from backtest.products import load_product
from backtest.risk_forecast import book_record, forecast_check
from backtest.risk_losses import HISTORICAL_RATIO, WINDOW, book_tails, historical_over_parametric, past_returns
from backtest.risk_model_state import model_state
from backtest.risk_notes import NEEDS_DATA, loss_notes
from backtest.risk_record import Quantity, in_words, plain
from backtest.risk_run import RunUntil, read_risk_book, run_market
from backtest.risk_scenarios import scenarios
from backtest.risk_studies import weekly_studies
from backtest.risk_view import RiskView, book_risk, model_risk
from backtest.rulings import run_facts
from backtest.simulator import market_of
from backtest.strategy import Market
from risk import DataError


@pytest.fixture(scope="module")
def view(run: Run) -> RiskView:
    return book_risk(run)


@pytest.fixture(scope="module")
def own_market(run: Run) -> Market:
    return run_market(run, pd.Timestamp(run.nav.index[-1]), lambda _stage, _done: None)


@pytest.fixture(scope="module")
def model(market: Path) -> RiskView:
    return model_risk(Dataset(market), "one")


def copied(run: Run, folder: Path, **changes: object) -> Run:
    """Return a copy of a run whose record's `data` has other entries."""
    shutil.copytree(run.folder, folder)
    record = json.loads((folder / "run.json").read_text())
    record["data"] |= changes
    (folder / "run.json").write_text(json.dumps(record))
    return Run(folder)


def assert_same(first: object, second: object, where: str) -> None:
    """Assert that two records hold the same, numbers to rounding."""
    if isinstance(first, dict) and isinstance(second, dict):
        assert first.keys() == second.keys(), where
        for key in first:
            assert_same(first[key], second[key], f"{where}.{key}")
    elif isinstance(first, list) and isinstance(second, list):
        assert len(first) == len(second), where
        for j, (one, other) in enumerate(zip(first, second, strict=True)):
            assert_same(one, other, f"{where}[{j}]")
    elif isinstance(first, float):
        assert first == pytest.approx(second, rel=1e-7, abs=1e-9), where
    else:
        assert first == second, where


def test_contributions_sum_to_the_forecast_of_the_account(run: Run, view: RiskView) -> None:
    assert view.sources is not None
    forecast = float(run.nav["forecast"].iloc[-1])
    for table in (view.sources.families, view.sources.assets, view.sources.countries, view.sources.sectors):
        assert table["contribution"].sum() == pytest.approx(forecast, abs=1e-12)
    factors = view.sources.factors
    np.testing.assert_allclose(
        factors["contribution"], factors["exposure"] * factors["volatility"] * factors["correlation"], atol=1e-14
    )
    measures = {measure.name: measure.value for measure in view.headline}
    assert measures["volatility"] == pytest.approx(float(run.nav["calibrated_forecast"].iloc[-1]), rel=1e-12)
    assert measures["beta"] == pytest.approx(view.sources.predicted_beta, abs=1e-12)
    assert measures["gross"] == pytest.approx(float(run.nav["gross"].iloc[-1]), rel=1e-12)
    assert measures["nav"] == run.nav["nav"].iloc[-1]


def test_attribution_sums_to_the_net_return_of_the_span(run: Run, view: RiskView) -> None:
    found = view.attribution
    assert found is not None
    net = float((1 + run.nav["net_return"]).prod() - 1)
    assert found.total == pytest.approx(net, abs=1e-12)
    assert found.families["contribution"].sum() == pytest.approx(net, abs=1e-12)
    assert found.lines["contribution"].sum() == pytest.approx(net, abs=1e-12)
    for family in ("country", "sector"):
        assert found.effects[f"{family}_contribution"].sum() == pytest.approx(net, abs=1e-12)
    by_year = found.years.drop(columns="return").sum(axis=1)
    np.testing.assert_allclose(by_year, found.years["return"], atol=1e-12)


def test_losses_by_family_sum_to_the_loss_of_each_scenario(view: RiskView) -> None:
    found = view.scenarios
    assert found is not None
    np.testing.assert_allclose(found.parts.sum(axis=1), found.stresses["loss"], atol=1e-12)
    assert found.stresses.loc["likeliest way to lose 5%", "loss"] == pytest.approx(0.05)
    assert (found.stresses.loc[found.stresses["group"] == "one factor", "loss"] >= 0).all()
    assert found.regimes.loc["volatility x 2", "ratio"] == pytest.approx(2.0)
    assert not found.replays.loc["Lehman 2008", "in_data"]


def test_value_at_risk_is_on_the_calibrated_forecast(view: RiskView) -> None:
    sigma = next(measure.value for measure in view.headline if measure.name == "volatility") / np.sqrt(252)
    normal = view.tails[(view.tails["method"] == "normal")].set_index(["level", "horizon"])
    assert normal.loc[(0.99, 1), "value_at_risk"] == pytest.approx(2.3263478740 * sigma, rel=1e-9)
    assert normal.loc[(0.99, 10), "value_at_risk"] == pytest.approx(2.3263478740 * sigma * np.sqrt(10), rel=1e-9)
    known = view.tails[view.tails["note"] == ""]
    assert (known["expected_shortfall"] > known["value_at_risk"]).all()


def test_windows_that_share_days_are_no_record_of_ten_days(run: Run, own_market: Market, view: RiskView) -> None:
    book = read_risk_book(run, pd.Timestamp(run.nav.index[-1]), run_facts(run))
    past, _ = past_returns(book, own_market)
    ten = view.tails[(view.tails["method"] == "historical") & (view.tails["horizon"] == 10)].iloc[0]
    assert np.isnan([ten["value_at_risk"], ten["expected_shortfall"]]).all()
    assert f"{len(past)} days hold {len(past) // 10}" in ten["note"]
    longer = np.random.default_rng(1).standard_normal(1000) / 100
    tails, _ = book_tails(book, np.zeros(3), longer, "")
    ten = tails[(tails["method"] == "historical") & (tails["horizon"] == 10)].iloc[0]
    sums = np.sort(np.convolve(longer, np.ones(10), mode="valid"))
    assert -sums[12] < ten["value_at_risk"] < -sums[7]
    assert ten["note"] == ""


def test_volatility_on_past_returns_stands_beside_the_forecasts(
    run: Run, own_market: Market, view: RiskView, tmp_path: Path
) -> None:
    book = read_risk_book(run, pd.Timestamp(run.nav.index[-1]), run_facts(run))
    past, _ = past_returns(book, own_market)
    found = {measure.name: measure for measure in view.headline}
    assert found["volatility_past"].value == pytest.approx(np.std(past, ddof=1) * np.sqrt(252), rel=1e-12)
    assert "In sample" in found["volatility_past"].definition
    assert found["volatility_uncalibrated"].value == pytest.approx(float(run.nav["forecast"].iloc[-1]), rel=1e-12)
    today = found["volatility_today_uncalibrated"].value
    assert found["volatility_today_calibrated"].value == pytest.approx(today * book.multiplier, rel=1e-12)
    assert [measure.name for measure in view.headline[:3]] == [
        "volatility",
        "volatility_uncalibrated",
        "volatility_past",
    ]
    moved = book_risk(copied(run, tmp_path / "run", path=str(tmp_path / "gone")))
    unknown = next(measure for measure in moved.headline if measure.name == "volatility_past")
    assert np.isnan(unknown.value)
    assert "data set" in unknown.note


def test_historical_losses_far_above_the_forecast_are_said() -> None:
    def tails(historical: float) -> pd.DataFrame:
        rows = [("normal", 0.01), ("student", 0.012), ("historical", historical)]
        table = pd.DataFrame(rows, columns=["method", "value_at_risk"])
        return table.assign(level=0.99, horizon=1)

    assert historical_over_parametric(tails(0.024)) == pytest.approx(2.0)
    assert any("is 2.0 times" in note for note in loss_notes(tails(0.024), 0.0))
    assert loss_notes(tails(0.99 * 0.012 * HISTORICAL_RATIO), 0.0) == []
    assert loss_notes(tails(np.nan), 0.0) == []
    assert "3.0 % of gross" in loss_notes(tails(np.nan), 0.03)[0]
    assert loss_notes(pd.DataFrame(), 0.0) == []


def test_a_level_beyond_its_limit_says_so_in_its_own_unit(view: RiskView) -> None:
    assert view.limits is not None
    table = view.limits.table
    seen = 0
    for measure in view.headline:
        if measure.name in table.index and measure.name in view.status.drifted:
            room, beyond = table.loc[measure.name, "tolerance"], -table.loc[measure.name, "headroom"]
            assert (
                f"by {in_words(beyond, measure.unit)}, within the {in_words(room, measure.unit)} left" in measure.note
            )
            seen += 1
    assert seen
    assert in_words(0.05, Quantity.SHARE) == "5.00 % of NAV"
    assert in_words(0.005, Quantity.PER_YEAR) == "0.50 % of NAV per year"


def test_how_a_run_ended_is_not_known_before(run: Run, tmp_path: Path) -> None:
    stopped = copied(run, tmp_path / "run")
    stopped.record.update(status="stopped", reason="2020-08-12: no portfolio meets the limits")
    last = book_risk(stopped)
    assert any("ended early on this day (stopped). 2020-08-12: no portfolio" in note for note in last.notes)
    before = book_risk(stopped, date=run.nav.index[-2])
    assert not any("stopped" in note for note in before.notes)


def test_a_run_without_calibration_is_reported_as_such(market: Path, tmp_path: Path) -> None:
    path = tmp_path / "plain.toml"
    path.write_text('name = "Plain"\nmandate = "one"\n[risk_model]\nminimum_history = 126\ncalibration_half_life = 0\n')
    assert load_product(str(path))[0].risk_model.calibration_half_life is None
    bare = simulate(Dataset(market), str(path), out=tmp_path / "run")
    np.testing.assert_array_equal(bare.nav["calibrated_forecast"], bare.nav["forecast"])
    assert set(bare.table("solves")["multiplier"]) == {1.0}
    found = book_risk(Run(bare.folder))
    assert any("Calibration is off" in note for note in found.notes)
    measures = {measure.name: measure for measure in found.headline}
    assert measures["volatility"].label == "Forecast volatility, calibration off"
    assert measures["volatility"].value == pytest.approx(measures["volatility_uncalibrated"].value, rel=1e-12)
    assert found.sources is not None
    assert found.sources.calibrated_volatility == found.sources.volatility
    day = bare.table("solves")["date"].iloc[-1]
    book = live_book(Dataset(market), str(path), f"{day:%Y-%m-%d}")
    assert book.solution.volatility <= 0.10 + 1e-9
    json.dumps(found.to_dict(), allow_nan=False)


def test_what_is_not_there_is_said_in_sentences(run: Run, tmp_path: Path) -> None:
    moved = book_risk(copied(run, tmp_path / "moved", path=str(tmp_path / "gone")))
    early = book_risk(run, date=run.nav.index[3])
    assert "needs 20 sessions" in early.missing["attribution"]
    weekly = copied(run, tmp_path / "weekly")
    weekly.record["product"]["risk_model"]["frequency"] = "weekly"
    assert "regressions are weekly" in book_risk(weekly).missing["attribution"]
    for one in (moved, early):
        assert one.missing
        for name, text in one.missing.items():
            assert text.endswith("."), name
            assert text[0].isupper(), name
            assert name == "market" or "`" not in text


def test_past_returns_are_the_assets_own_or_those_of_their_factors(run: Run, own_market: Market) -> None:
    day = pd.Timestamp(run.nav.index[-1])
    book = read_risk_book(run, day, run_facts(run))
    past, missing = past_returns(book, own_market)
    history, panel = own_market.history, own_market.panel
    days = np.flatnonzero(history.present.any(axis=1))[-500:]
    slow = []
    for t in days:
        total = 0.0
        for name, weight, row in zip(book.model.assets, book.weights, book.model.exposures, strict=True):
            own = panel.returns[t, panel.assets.index(name)]
            if np.isnan(own):
                pairs = zip(book.model.factors, row, strict=True)
                own = sum(x * history.factor_returns[t, history.factors.index(factor)] for factor, x in pairs)
            total += weight * own
        slow.append(total)
    np.testing.assert_allclose(past, slow, atol=1e-14)
    assert 0 <= missing < 1


def test_nothing_after_the_date_is_read(run: Run, tmp_path: Path) -> None:
    dates = pd.DatetimeIndex(run.nav.index)
    day = pd.Timestamp(dates[-20])
    before = book_risk(run, date=day).to_dict()
    later = tmp_path / "later"
    shutil.copytree(run.folder, later)
    for name in (
        "nav",
        "weights",
        "positions",
        "trades",
        "signals",
        "assets",
        "factor_returns",
        "group_returns",
        "notices",
    ):
        table = pd.read_parquet(later / f"{name}.parquet")
        table[table["date"] <= day].to_parquet(later / f"{name}.parquet", index=False)
    for path in (later / "models").glob("date=*"):
        if pd.Timestamp(path.name.removeprefix("date=")) > day:
            shutil.rmtree(path)
    after = book_risk(Run(later)).to_dict()
    assert before["date"] == after["date"] == f"{day:%Y-%m-%d}"
    # To rounding: assets that were first held later are columns of zeros, and sums are taken in another order.
    assert_same(before | {"folder": ""}, after | {"folder": ""}, "report")


def test_json_holds_no_number_that_is_none(view: RiskView, model: RiskView) -> None:
    for one in (view, model):
        text = json.dumps(one.to_dict(), allow_nan=False)
        assert json.loads(text)["hard_breach"] is one.hard_breach
    assert plain(pd.Series([1.0, np.nan], index=pd.Index(["a", "b"], name="k"), name="v")) == [
        {"k": "a", "v": 1.0},
        {"k": "b", "v": None},
    ]
    assert plain(np.inf) is None
    assert plain(np.bool_(True)) is True
    assert plain(pd.NaT) is None


def test_status_follows_the_breaches_of_the_day(run: Run) -> None:
    limits = monitor(run)
    worst = {True: "hard", False: "soft"}
    seen = set()
    for date in limits.levels.index:
        open_then = limits.breaches[(limits.breaches["start"] <= date) & (limits.breaches["end"] >= date)]
        seen.add("ok" if open_then.empty else worst[bool(open_then["hard"].any())])
        if len(open_then) and bool(open_then["hard"].any()):
            found = book_risk(RunUntil(run, date), date=date)
            assert found.hard_breach
            assert set(found.status.hard) == set(open_then[open_then["hard"]]["limit"])
            assert all(name in found.status.text for name in found.status.hard)
            break
    assert "ok" in seen


def test_use_above_one_is_a_breach(view: RiskView) -> None:
    limits = view.limits
    assert limits is not None
    for family in view.use:
        over = view.use.index[view.use[family] > 1 + 1e-9]
        rows = limits.breaches[limits.breaches["limit"].str.partition(":")[0] == family]
        beyond = {day for _, row in rows.iterrows() for day in view.use.loc[row["start"] : row["end"]].index}
        assert set(over) <= beyond, family


def test_a_run_whose_data_have_moved_says_so_and_keeps_its_limits(run: Run, tmp_path: Path) -> None:
    found = book_risk(copied(run, tmp_path / "run", path=str(tmp_path / "gone")))
    assert found.limits is not None
    assert found.sources is not None
    assert found.attribution is not None
    assert "gone" in found.missing["market"]
    for part in ("model", "studies", "replays", "tails.historical"):
        assert found.missing[part] == NEEDS_DATA
    assert found.model is None
    assert found.studies is None
    assert "historical" not in set(found.tails["method"])


def test_data_that_changed_are_not_used(run: Run, tmp_path: Path) -> None:
    found = book_risk(copied(run, tmp_path / "run", fingerprint="0" * 64))
    assert "has changed since" in found.missing["market"]
    assert found.model is None


def test_limits_that_cannot_be_monitored_are_refused(run: Run, tmp_path: Path) -> None:
    spoilt = copied(run, tmp_path / "run", path=str(tmp_path / "gone"))
    (spoilt.folder / "assets.parquet").unlink()
    assert_refused(lambda: book_risk(spoilt), "limits cannot be monitored", "gone")


def test_labels_are_rebuilt_from_the_data_where_a_run_has_none(run: Run, tmp_path: Path, view: RiskView) -> None:
    older = copied(run, tmp_path / "run")
    for name in ("assets", "group_returns"):
        (older.folder / f"{name}.parquet").unlink()
    found = book_risk(older)
    assert found.limits is not None
    assert view.limits is not None
    pd.testing.assert_frame_equal(found.limits.table, view.limits.table)


@pytest.mark.parametrize(
    ("date", "words"),
    [
        ("1999-01-04", ("before the run's first decision",)),
        ("2199-01-04", ("after the run's last session",)),
        ("nonsense", ("`date` must be a date",)),
    ],
)
def test_a_date_without_a_book_is_refused(run: Run, date: str, words: tuple[str, ...]) -> None:
    assert_refused(lambda: book_risk(run, date=date), *words)


def test_a_date_between_sessions_names_the_one_before(run: Run) -> None:
    dates = pd.DatetimeIndex(run.nav.index)
    gap = next(day for day, following in pairwise(dates) if (following - day).days > 1)
    assert_refused(lambda: book_risk(run, date=gap + pd.Timedelta(days=1)), f"{gap:%Y-%m-%d}", "no session")


def test_an_empty_book_has_no_sources_and_says_why(run: Run, tmp_path: Path) -> None:
    sold = copied(run, tmp_path / "run", path=str(tmp_path / "gone"))
    weights = pd.read_parquet(sold.folder / "weights.parquet")
    last = weights["date"] == weights["date"].max()
    weights.assign(weight=weights["weight"].mask(last, 0.0)).to_parquet(sold.folder / "weights.parquet", index=False)
    found = book_risk(sold)
    assert found.sources is None
    assert found.scenarios is None
    assert found.tails.empty
    assert "The book is empty" in found.missing["sources"]
    assert not found.status.hard
    assert {measure.name: measure.note for measure in found.headline}["value_at_risk_99"] == "the book is empty"


def test_the_record_is_yesterdays_forecast_against_todays_return(run: Run) -> None:
    record = book_record(run.nav)
    day = record.index[5]
    before = run.nav.index[run.nav.index.get_loc(day) - 1]
    assert record.loc[day, "forecast"] == run.nav.loc[before, "forecast"]
    assert record.loc[day, "realised"] == run.nav.loc[day, "gross_return"]
    assert (record["forecast"] > 0).all()


def test_a_right_forecast_passes_and_half_of_it_does_not() -> None:
    rng = np.random.default_rng(5)
    days = pd.bdate_range("2020-01-01", periods=WINDOW + 500)
    sigma = 0.1 * np.exp(0.2 * np.sin(np.arange(len(days)) / 60))
    account = pd.DataFrame({"gross_return": 0.0, "forecast": sigma / 2, "calibrated_forecast": sigma}, index=days)
    account.loc[days[1:], "gross_return"] = sigma[:-1] / np.sqrt(252) * rng.standard_normal(len(days) - 1)
    found = forecast_check(book_record(account), year=252, progress=lambda _done: None)
    daily = found.bias[found.bias["horizon"] == 1]
    assert daily.loc["calibrated", "inside"]
    assert daily.loc["risk model", "bias"] == pytest.approx(2 * daily.loc["calibrated", "bias"])
    assert not daily.loc["risk model", "inside"]
    assert found.losses.loc["calibrated", "qlike"] < found.losses.loc["risk model", "qlike"]
    normal = found.tails[(found.tails["method"] == "normal") & (found.tails["level"] == 0.95)].iloc[0]
    assert normal["p_kupiec"] > 0.01
    assert 0 < normal["exceptions"] < 0.1 * normal["days"]
    wrong = forecast_check(
        book_record(account.assign(calibrated_forecast=sigma / 2)), year=252, progress=lambda _done: None
    )
    assert wrong.tails[wrong.tails["method"] == "normal"]["p_kupiec"].max() < 0.01


def test_studies_of_a_model_on_the_market_that_it_was_estimated_on(own_market: Market, model: RiskView) -> None:
    found = weekly_studies(own_market, lambda _done: None)
    assert set(found.summary.index) == {
        "random market-neutral",
        "eigen portfolios",
        "cap-weighted universe",
        "minimum variance",
    }
    assert found.summary.loc["random market-neutral", "books"] == 200
    assert 0.85 < found.summary.loc["random market-neutral", "bias"] < 1.15
    assert model.studies is not None
    assert found.last < own_market.panel.dates[-1]


def test_a_data_set_has_a_model_and_no_limits(model: RiskView, market: Path) -> None:
    assert model.limits is None
    assert not model.hard_breach
    assert model.model is not None
    state = model.model
    assert state.date == Dataset(market).dates()[-1]
    np.testing.assert_allclose(np.diag(state.correlation), 1.0, atol=1e-12)
    deviation = state.factors["volatility"].to_numpy()
    covariance = state.correlation.to_numpy() * np.outer(deviation, deviation)
    np.testing.assert_allclose(covariance, state.model.factor_covariance, atol=1e-14)
    assert {"market", "style"} <= set(state.factors["family"])
    assert (state.factors["inflation"].dropna() >= 1 - 1e-9).all()


def test_a_data_set_too_short_for_a_model_is_refused(market: Path) -> None:
    early = Dataset(market).dates()[30]
    with pytest.raises(DataError):
        model_risk(Dataset(market), "one", date=early)
    assert_refused(lambda: model_risk(Dataset(market), "one", date="1999-01-04"), "no trading day", "the first one is")


def test_scenarios_of_a_model_without_styles(run: Run) -> None:
    book = read_risk_book(run, pd.Timestamp(run.nav.index[-1]), run_facts(run))
    plain_factors = [k for k, name in enumerate(book.model.factors) if not name.startswith(("style", "signal"))]
    model = type(book.model)(
        book.model.assets,
        [book.model.factors[k] for k in plain_factors],
        book.model.exposures[:, plain_factors],
        book.model.factor_covariance[np.ix_(plain_factors, plain_factors)],
        book.model.specific_variance,
    )
    found = scenarios(replace(book, model=model), None, "no data")
    assert "deleveraging" not in set(found.stresses["group"])
    assert found.replays.empty
    assert found.replays_missing == "no data"
    tails, gaps = book_tails(replace(book, model=model), np.zeros(3), None, "no data")
    assert set(tails["method"]) == {"normal"}
    assert gaps["historical"] == "no data"
    assert "60 days" in gaps["student"]


def test_a_label_that_is_missing_is_a_group_of_its_own(run: Run) -> None:
    facts = run_facts(run).astype({"country": str, "sector": str})
    lost = facts["asset"].iloc[0]
    facts.loc[facts["asset"] == lost, "country"] = ""
    book = read_risk_book(run, pd.Timestamp(run.nav.index[-1]), facts)
    assert book.country[book.model.assets.index(str(lost))] == "(none)"


def test_bad_market_is_told_apart_from_a_bad_run(run: Run, market: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    shutil.copytree(market, data)
    rewrite(data, lambda frame: frame.iloc[::-1])
    found = book_risk(copied(run, tmp_path / "run", path=str(data), fingerprint=Dataset(data).fingerprint()))
    assert "date" in found.missing["market"]
    assert found.limits is not None


def test_weekly_regressions_leave_out_what_needs_daily_ones(run: Run, market: Path) -> None:
    product, mandate = load_product("one")
    spec = product.risk_model.model_copy(update={"frequency": "weekly"})
    weekly, _ = market_of(Dataset(market), product.model_copy(update={"risk_model": spec}), mandate)
    book = read_risk_book(run, pd.Timestamp(run.nav.index[-1]), run_facts(run))
    assert_refused(lambda: past_returns(book, weekly), "weekly")
    found = scenarios(book, weekly, "")
    assert found.replays.loc["COVID crash 2020", "in_data"]
    assert found.replays["own_loss"].isna().all()
    state = model_state(weekly)
    assert "daily regressions only" in state.note
    assert "inflation" not in state.factors
