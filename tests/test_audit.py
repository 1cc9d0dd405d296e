"""An audit catches what was planted and what was tampered with, and finds nothing where there is nothing."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import metafolio
from backtest import Dataset, Run, leak_trials, simulate
from backtest.audit import audit
from backtest.audit_evidence import Check
from backtest.leak_trials import CLEAN, LeakTrial, small_terms, try_leak, write_small_market
from backtest.leaks import LEAKS, Leak
from backtest.lookahead import RUN_END, draw_dates, look_ahead
from backtest.perturbation import fields_of
from backtest.rederivation import rederive
from backtest.reproduction import reproduce, unlike_preset
from engine import load_mandate
from risk import DataError

# The self-test: every leak in the pipeline, and clean code.


@pytest.mark.parametrize("leak", LEAKS, ids=lambda leak: leak.name)
def test_a_planted_leak_is_caught_by_the_field_that_holds_it(small: Run, tmp_path: Path, leak: Leak) -> None:
    found = try_leak(leak.name, data_of(small).folder, tmp_path / "run")
    assert found.right
    caught = next(trial for trial in found.trials if trial.field == leak.field)
    assert caught.difference is not None
    assert caught.difference.date <= caught.date
    assert not caught.proven


def test_there_are_twelve_leaks_of_different_names() -> None:
    assert len({leak.name for leak in LEAKS}) == 12


def test_nothing_is_found_in_clean_code(small: Run, tmp_path: Path) -> None:
    clean = try_leak(CLEAN, data_of(small).folder, tmp_path / "run")
    assert clean.right
    fields = {trial.field for trial in clean.trials}
    assert fields == {RUN_END, "last day", *fields_of(data_of(small))}
    assert len(fields) == 17
    for trial in clean.trials:
        assert trial.proven, trial
        assert trial.compared > 1000
        assert trial.replaced > 0
    unused = {trial.field for trial in clean.trials if not trial.moved}
    assert unused <= {"scores", "delisting_return"}, "what is replaced must matter to what comes after"


def test_the_self_test_tries_clean_code_and_every_leak(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, int]] = []

    def blind(name: str, folder: Path, out: Path, seed: int) -> LeakTrial:
        assert (folder / "market.parquet").is_file()
        assert not out.exists()
        assert seed == 5
        return LeakTrial(name, "", "return", ())

    monkeypatch.setattr(leak_trials, "try_leak", blind)
    found = leak_trials.try_leaks(seed=5, progress=lambda done, total: seen.append((done, total)))
    assert [trial.name for trial in found] == [CLEAN, *(leak.name for leak in LEAKS)]
    assert not any(trial.right for trial in found), "what is not caught is not right"
    assert seen == [(i, 13) for i in range(1, 14)]


def test_a_leak_is_gone_when_it_is_dug_up() -> None:
    for leak in LEAKS:
        honest = [getattr(owner, name) for owner, name in leak.places]
        with leak.planted():
            assert all(getattr(owner, name) is not f for (owner, name), f in zip(leak.places, honest, strict=True))
        assert all(getattr(owner, name) is f for (owner, name), f in zip(leak.places, honest, strict=True))


# The account, derived anew.


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run on the small market: two currencies, events, rates, borrow, a full hedge and a participation limit."""
    folder = tmp_path_factory.mktemp("audit")
    return simulate(write_small_market(folder / "data"), small_terms(), out=folder / "run")


def data_of(run: Run) -> Dataset:
    return Dataset(run.record["data"]["path"])


def failed(checks: tuple[Check, ...]) -> set[str]:
    return {check.name for check in checks if not check.passed}


@pytest.mark.parametrize("which", ["small", "run"])
def test_an_honest_run_is_derived_anew_without_a_gap(which: str, request: pytest.FixtureRequest) -> None:
    run: Run = request.getfixturevalue(which)
    checks = rederive(run, data_of(run))
    assert failed(checks) == set()
    assert not [check.name for check in checks if check.not_covered]
    known = {check.name: check for check in checks}
    limits = {"position", "gross", "net", "country", "sector", "style", "beta", "volatility"}
    assert {f"limit {name}" for name in limits} <= set(known)
    for name in (
        "nav lines",
        "nav books",
        "gross return",
        "cash",
        "financing",
        "management fee",
        "fills",
        "trading costs",
    ):
        assert known[name].compared > 20, name
        assert known[name].worst < 1e-7, name


TERMS = {
    "two days' lag": {"lag_days": 2},
    "daily": {"rebalance": "daily", "participation_limit": None},
    "quarterly fee above a mark": {"crystallisation": "quarterly", "high_water_mark": True, "hurdle_annual": 0.02},
    "no hedge": {"fx_hedge": "none", "day_count": 360, "cash_spread_annual": 0.01},
}


@pytest.mark.parametrize("change", TERMS.values(), ids=TERMS)
def test_other_terms_are_derived_too(small: Run, tmp_path: Path, change: dict[str, object]) -> None:
    product, mandate = small_terms()
    run = simulate(data_of(small), (product.model_copy(update=change), mandate), out=tmp_path / "run")
    checks = rederive(run, data_of(run))
    assert failed(checks) == set()
    assert not [check.name for check in checks if check.not_covered]


def test_a_volatility_target_is_held_as_a_limit_is(small: Run, tmp_path: Path) -> None:
    product, mandate = small_terms()
    target = mandate.model_copy(update={"volatility_target": 0.015})
    run = simulate(data_of(small), (product, target), out=tmp_path / "run")
    checks = {check.name: check for check in rederive(run, data_of(run))}
    assert checks["limit volatility target"].compared == len(run.table("solves"))
    assert failed(tuple(checks.values())) == set()


def test_without_lag_all_but_the_fills_is_derived(small: Run, tmp_path: Path) -> None:
    product, mandate = small_terms()
    run = simulate(data_of(small), (product.model_copy(update={"lag_days": 0}), mandate), out=tmp_path / "run")
    checks = rederive(run, data_of(run))
    assert failed(checks) == set()
    assert [check.name for check in checks if check.not_covered] == ["fills"]


def test_corporate_actions_on_price_returns_are_derived_too(small: Run, tmp_path: Path) -> None:
    shutil.copytree(data_of(small).folder, tmp_path / "data")
    for name in ("fx", "borrow", "rates"):
        (tmp_path / "data" / f"{name}.parquet").unlink()
    settings = tmp_path / "data" / "dataset.toml"
    settings.write_text(settings.read_text().replace('"local"', '"price"'))
    held, days = small.table("positions"), small.nav.index
    names = sorted(held.loc[held["date"] == days[8], "asset"])
    market = pd.read_parquet(tmp_path / "data" / "market.parquet")
    rows = market[market["date"].isin(days[8:18])].groupby("asset").size()
    names = [name for name in names if rows.get(name) == 10]
    kinds = (
        ("split", {"ratio": 2.0}),
        ("dividend", {"amount": 0.5}),
        ("merger", {"ratio": 0.5, "amount": 1.0, "new_asset": names[0]}),
        ("merger", {"amount": 20.0}),
        ("spin_off", {"ratio": 0.1, "new_asset": names[0]}),
        ("delisting", {"cause": "bankruptcy"}),
        ("delisting", {"amount": 3.0}),
    )
    assert len(names) > len(kinds)
    events = [
        {"date": days[10], "asset": name, "kind": kind, **fields}
        for name, (kind, fields) in zip(names[1:], kinds, strict=False)
    ]
    frame = pd.DataFrame(events, columns=["date", "asset", "kind", "ratio", "amount", "new_asset", "cause"])
    frame.astype({"new_asset": "string", "cause": "string"}).to_parquet(
        tmp_path / "data" / "events.parquet", index=False
    )
    product, mandate = small_terms()
    product = product.model_copy(update={"delisting_returns": {"bankruptcy": -0.4}})
    run = simulate(Dataset(tmp_path / "data"), (product, mandate), out=tmp_path / "run")
    assert {"merger", "delisting"} <= set(run.table("notices")["kind"])
    lines = run.table("lines")
    assert {"dividend", "delisting"} <= set(lines.loc[lines["date"] == days[10], "line"])
    assert failed(rederive(run, data_of(run))) == set()


def edit(folder: Path, table: str, column: str, change: Callable[[pd.Series], pd.Series]) -> None:
    """Change one number of a run: the first there is that is not 0; of a target or weight, that behind a plain trade."""
    path = folder / f"{table}.parquet"
    frame = pd.read_parquet(path)
    chosen = frame[column].notna() & ((frame[column] != 0) | (frame[column] == 0).all())
    if table == "weights":
        noted = pd.read_parquet(folder / "notices.parquet")["asset"]
        trades = pd.read_parquet(folder / "trades.parquet")
        plain = trades[~trades["asset"].isin(noted) & (trades["reason"] == "rebalance")].iloc[0]
        chosen &= (frame["asset"] == plain["asset"]) & (frame["date"] >= plain["decided"])
    row = frame.index[chosen][:1]
    frame.loc[row, column] = change(frame.loc[row, column])
    frame.to_parquet(path, index=False)


TAMPERED = {
    "target": ("weights", "target", lambda w: w + 0.001, {"limit net", "limit country", "fills"}),
    "weight": ("weights", "weight", lambda w: w + 0.001, {"weights"}),
    "nav": ("nav", "nav", lambda nav: nav + 1.0, {"nav lines", "nav books"}),
    "gross return": ("nav", "gross_return", lambda r: r + 1e-5, {"gross return", "gross return lines"}),
    "cost": ("nav", "cost", lambda c: c * 0.99, {"cost", "cost lines"}),
    "financing": ("nav", "financing", lambda c: c * 0.9, {"financing", "financing lines"}),
    "management fee": ("nav", "management_fee", lambda fee: fee / 2, {"management fee", "net return"}),
    "incentive fee": ("nav", "incentive_fee", lambda fee: fee + 1e-4, {"incentive fee", "net return"}),
    "net return": ("nav", "net_return", lambda r: r + 1e-5, {"net return", "nav per share"}),
    "line": ("lines", "amount", lambda a: a + 1.0, {"nav lines"}),
    "shares": ("positions", "shares", lambda n: n * 1.01, {"nav books", "position values"}),
    "profit": ("positions", "pnl", lambda p: p + 100.0, {"profits", "positions"}),
    "price": ("positions", "price", lambda p: p * 1.01, {"closes", "position values"}),
    "trade": ("trades", "trade", lambda v: v * 1.1, {"trade values", "fills", "trading costs", "cash"}),
    "trade's cost": ("trades", "cost", lambda c: c * 0.5, {"trading costs", "cost"}),
    "model": ("assets", "traded_value", lambda v: v * 2, {"traded values"}),
    "multiplier": ("solves", "multiplier", lambda m: m * 1.01, {"multiplier"}),
}


@pytest.mark.parametrize(("table", "column", "change", "named"), TAMPERED.values(), ids=TAMPERED)
def test_a_tampered_number_fails_the_checks_that_name_it(
    small: Run, tmp_path: Path, table: str, column: str, change: Callable[[pd.Series], pd.Series], named: set[str]
) -> None:
    shutil.copytree(small.folder, tmp_path / "run")
    edit(tmp_path / "run", table, column, change)
    found = failed(rederive(Run(tmp_path / "run"), data_of(small)))
    assert named <= found, found


def test_a_risk_model_that_was_changed_later_no_longer_holds_the_limits(small: Run, tmp_path: Path) -> None:
    shutil.copytree(small.folder, tmp_path / "run")
    path = tmp_path / "run" / "models" / f"date={small.model_dates()[1]:%Y-%m-%d}" / "specific_variance.parquet"
    frame = pd.read_parquet(path)
    frame.assign(specific_variance=4 * frame["specific_variance"]).to_parquet(path, index=False)
    found = failed(rederive(Run(tmp_path / "run"), data_of(small)))
    assert {"limit volatility", "trading costs"} <= found


def test_a_trade_that_is_taken_out_is_missed(small: Run, tmp_path: Path) -> None:
    shutil.copytree(small.folder, tmp_path / "run")
    path = tmp_path / "run" / "trades.parquet"
    pd.read_parquet(path).drop(index=3).to_parquet(path, index=False)
    assert {"fills", "cash", "positions", "cost"} <= failed(rederive(Run(tmp_path / "run"), data_of(small)))


# Dates, and what cannot be audited.


def test_dates_are_decisions_and_fills_in_turn_and_never_the_last_session(small: Run) -> None:
    decided, sessions = set(small.table("solves")["date"]), small.nav.index
    fills = {sessions[sessions.get_loc(date) + 1] for date in decided if date < sessions[-1]}
    for seed in range(10):
        drawn = draw_dates(small, 4, seed)
        assert list(drawn) == sorted(set(drawn))
        assert sum(date in decided for date in drawn) == sum(date in fills for date in drawn) == 2
        assert sessions[-1] not in drawn
    assert draw_dates(small, 4, 0) == draw_dates(small, 4, 0)
    assert len({draw_dates(small, 4, seed) for seed in range(10)}) > 1


def test_changed_data_are_named_and_nothing_is_run_on_them(small: Run, tmp_path: Path) -> None:
    shutil.copytree(data_of(small).folder, tmp_path / "data")
    stakes = pd.read_parquet(tmp_path / "data" / "stakes.parquet")
    stakes.assign(stake=stakes["stake"] * 2).to_parquet(tmp_path / "data" / "stakes.parquet", index=False)
    found = audit(small, data=str(tmp_path / "data"), self_test=False)
    assert not found.passed
    assert failed(found.checks) == {"data set"}
    assert found.trials == ()
    assert "data set" in found.failures[0]


def test_a_run_that_the_code_does_not_make_again_fails_at_the_run_end(small: Run, tmp_path: Path) -> None:
    shutil.copytree(small.folder, tmp_path / "run")
    edit(tmp_path / "run", "signals", "alpha", lambda alpha: alpha * 1.0000001)
    date = draw_dates(small, 1, 0)
    trials = {
        trial.field: trial for trial in look_ahead(Run(tmp_path / "run"), data_of(small), date, fields=["return"])
    }
    difference = trials[RUN_END].difference
    assert difference is not None
    assert (difference.table, difference.column) == ("signals", "alpha")
    assert trials["return"].proven, "of the code the look-ahead is proven all the same"


def call(*arguments: str | Path, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(sys, "argv", ["metafolio", "audit", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        metafolio.main()
    assert isinstance(ended.value.code, int)
    return ended.value.code


QUICK = ("--no-self-test", "--dates", "1", "--fields", "return,labels")


def test_the_command_proves_an_honest_run(
    small: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(small.folder, *QUICK, "--json", monkeypatch=monkeypatch) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["passed"]
    assert [trial["field"] for trial in told["look_ahead"]] == [RUN_END, "return", "labels"]
    assert all(trial["rows_compared"] > 100 for trial in told["look_ahead"])


def test_the_command_says_in_one_paragraph_what_does_not_hold(
    small: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(small.folder, tmp_path / "run")
    edit(tmp_path / "run", "nav", "management_fee", lambda fee: fee / 2)
    assert call(tmp_path / "run", *QUICK, monkeypatch=monkeypatch) == 1
    told = capsys.readouterr()
    assert "FAILS" in told.out
    assert "management fee: a twelfth of the yearly rate" in told.err
    assert "nav.management_fee" in told.err, "and the run cannot be made again either"
    assert len(told.err.strip().splitlines()[-1]) > 100


def test_an_unknown_field_is_refused_with_those_there_are(
    small: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(small.folder, "--no-self-test", "--fields", "weather", monkeypatch=monkeypatch) == 1
    assert "'weather' is none of the data set's" in capsys.readouterr().err
    with pytest.raises(DataError, match="cannot be opened"):
        audit(small, data="/nowhere")


def test_all_fields_at_once(small: Run) -> None:
    trials = look_ahead(small, data_of(small), draw_dates(small, 1, 5), fields=["everything"])
    assert [trial.field for trial in trials] == [RUN_END, "everything"]
    assert all(trial.proven for trial in trials)
    assert np.isfinite(trials[1].replaced)
    assert trials[1].moved


def test_a_run_made_again_shows_what_no_number_tells(small: Run, tmp_path: Path) -> None:
    """Statistics, status, owners and the last row of every table are compared with a run made again."""
    assert reproduce(small, data_of(small)).passed
    forged = tmp_path / "run"
    shutil.copytree(small.folder, forged)
    record = json.loads((forged / "run.json").read_text())
    record["statistics"]["sharpe_net"] = 9.9
    (forged / "run.json").write_text(json.dumps(record))
    shares = pd.read_parquet(forged / "shares.parquet")
    shares.assign(units=shares["units"] * 2).to_parquet(forged / "shares.parquet", index=False)
    found = reproduce(Run(forged), data_of(small))
    assert not found.passed
    assert "`statistics.sharpe_net` was 9.9" in found.where
    assert "shares.parquet" in found.where


def test_a_mandate_that_is_not_its_preset_is_told(small: Run, tmp_path: Path) -> None:
    forged = tmp_path / "run"
    shutil.copytree(small.folder, forged)
    record = json.loads((forged / "run.json").read_text())
    record["product"]["mandate"] = "one"
    record["mandate"] = load_mandate("one").model_dump(mode="json") | {"volatility_limit": 0.5}
    (forged / "run.json").write_text(json.dumps(record))
    assert "`volatility_limit` was 0.1 and is 0.5" in unlike_preset(Run(forged))[0]
