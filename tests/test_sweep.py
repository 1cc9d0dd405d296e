"""Variants of a product: the runs that they are, what is kept and refused, and how they are compared."""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import metafolio
from backtest import Dataset, Run, simulate
from backtest.comparison import compare_runs, sharpe_difference
from backtest.execution_study import execution_variants
from backtest.prepared_market import PreparedMarket, market_terms
from backtest.products import Product, load_product
from backtest.sharpe import sharpe_ratio
from backtest.simulator import market_of, run_inputs, run_span
from backtest.study import study
from backtest.sweep import Sweep, sweep
from backtest.synthetic import MarketSpec, write_market
from backtest.variants import Variant, check_names, read_variants, varied
from engine import Mandate
from risk import DataError

SPEC = MarketSpec(assets=60, years=1.3, models=8, countries=3, sectors=4, seed=9, local_holidays=4, median_cap=8e9)
VARIANTS = (
    Variant("base"),
    Variant("dear", {"mandate.costs.half_spread_bps": 15, "mandate": {"costs": {"commission_bps": 2}}}),
    Variant("lag_0", {"product.lag_days": 0}, "unrealistic"),
    Variant("daily", {"product.rebalance": "daily"}),
    Variant("scaled", {"mandate.volatility_target": 0.10}),
)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sweep") / "data"
    write_market(folder, SPEC)
    return folder


@pytest.fixture(scope="module")
def done(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    return sweep(Dataset(data), "one", VARIANTS, tmp_path_factory.mktemp("runs") / "out")


def digests(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "timing.jsonl"
    }


# The runs.


@pytest.mark.parametrize("name", ["daily"])
def test_a_run_of_a_sweep_is_the_run_of_its_terms_to_the_byte(
    data: Path, done: Sweep, tmp_path: Path, name: str
) -> None:
    terms = varied(*load_product("one"), next(variant for variant in VARIANTS if variant.name == name))
    alone = simulate(Dataset(data), terms, out=tmp_path / name)
    assert digests(alone.folder) == digests(done.folder / name)


def test_every_variant_has_a_run_and_only_its_fields_differ(done: Sweep) -> None:
    base = done.runs["base"].record
    assert list(done.runs) == list(done.table.index) == [variant.name for variant in VARIANTS]
    assert {run.record["status"] for run in done.runs.values()} == {"complete"}
    costs = done.runs["dear"].record["mandate"]["costs"]
    assert costs == base["mandate"]["costs"] | {"half_spread_bps": 15.0, "commission_bps": 2.0}
    for name, run in done.runs.items():
        other = {key for key in base["product"] if run.record["product"][key] != base["product"][key]}
        assert other == {"lag_0": {"lag_days"}, "daily": {"rebalance"}}.get(name, set())
    decisions = {name: len(run.table("solves")) for name, run in done.runs.items()}
    assert decisions["daily"] > 4 * decisions["base"] == 4 * decisions["lag_0"]


def test_without_a_lag_orders_fill_at_the_close_that_was_decided_on_and_the_books_are_in_order(done: Sweep) -> None:
    run = done.runs["lag_0"]
    trades = run.table("trades")
    ordered = trades[trades["reason"] == "rebalance"]
    # A name without a row waits; every other one fills at once.
    assert (ordered["date"] == ordered["decided"]).mean() > 0.9
    base = done.runs["base"].table("trades")
    assert (base["date"] > base["decided"]).all()
    nav = run.nav
    np.testing.assert_allclose(100 * (1 + nav["net_return"]).cumprod(), nav["nav_per_share"], rtol=1e-12)
    lines = run.table("lines").groupby("date")["amount"].sum()
    before = nav["nav"].shift(fill_value=run.record["nav0"])
    np.testing.assert_allclose(lines.reindex(nav.index, fill_value=0.0), nav["nav"] - before, atol=0.01)
    solves, weights = run.table("solves"), run.table("weights")
    first = weights[weights["date"] == solves["date"].iloc[0]]
    assert np.abs(first["weight"]).sum() > 0, "the first decision is filled on its own day"


def test_a_target_that_the_limits_keep_out_of_reach_is_said_at_every_decision(done: Sweep) -> None:
    run, base = done.runs["scaled"], done.runs["base"]
    notices = run.table("notices")
    missed = notices[notices["kind"] == "volatility target missed"].set_index("date")
    solves = run.table("solves").set_index("date")
    reached = solves["volatility"] * solves["multiplier"]
    np.testing.assert_array_equal(missed["amount"], reached[reached < 0.0999])
    assert len(missed) == done.table.loc["scaled", "targets_missed"] > 0
    assert set(missed["asset"]) == {"position"}, "60 names of at most 1.8 % each"
    assert (reached <= 0.10 + 1e-6).all()
    assert reached.mean() > 1.2 * base.table("solves")["volatility"].mean()


# What is kept, goes on and is refused.


def test_finished_runs_stay_and_what_is_missing_or_half_done_is_made(
    data: Path, done: Sweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    shutil.copytree(done.folder, out)
    shutil.rmtree(out / "dear")
    shutil.rmtree(out / "scaled")

    class Stopped(Exception):
        pass

    def stop(stage: str, share: float) -> None:
        if stage == "simulation" and share > 0.5:
            raise Stopped

    with pytest.raises(Stopped):
        simulate(Dataset(data), varied(*load_product("one"), VARIANTS[1]), out=out / "dear", progress=stop)
    assert (out / "dear.partial" / "checkpoint").is_file()
    made: list[str] = []

    def counted(data: Dataset, terms: tuple[Product, Mandate], *, out: str, **rest: Any) -> Run:
        made.append(Path(out).name)
        return simulate(data, terms, out=out, **rest)

    monkeypatch.setattr("backtest.sweep.simulate", counted)
    shares: list[float] = []
    again = sweep(
        Dataset(data),
        "one",
        VARIANTS,
        out,
        workers=1,
        progress=lambda stage, share: shares.append(share) if stage == "sweep" else None,
    )
    assert sorted(made) == ["dear", "scaled"]
    assert shares == sorted(shares)
    assert min(shares) >= 0.6
    for name in again.runs:
        assert digests(out / name) == digests(done.folder / name)
    pd.testing.assert_frame_equal(again.table, done.table)


def test_a_finished_run_of_other_terms_is_refused_by_field(data: Path, done: Sweep) -> None:
    other = (*VARIANTS[:1], Variant("dear", {"mandate.costs.half_spread_bps": 20}))
    with pytest.raises(
        DataError, match=r"dear: is a finished run.*`mandate\.costs\.half_spread_bps` was 15.0 and is 20"
    ):
        sweep(Dataset(data), "one", other, done.folder)


def test_a_sweep_over_other_days_and_a_folder_of_something_else_are_refused(
    data: Path, done: Sweep, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match="holds a sweep over other days: `start` was absent and is 2019-06-03"):
        sweep(Dataset(data), "one", VARIANTS, done.folder, start="2019-06-03")
    (tmp_path / "letter.txt").write_text("dear reader")
    with pytest.raises(DataError, match="holds no sweep"):
        sweep(Dataset(data), "one", VARIANTS, tmp_path)


def test_a_prepared_market_serves_only_runs_that_would_prepare_the_same(data: Path, tmp_path: Path) -> None:
    source, (product, mandate) = Dataset(data), load_product("one")
    _, last = run_span(source, None, None)
    inputs = run_inputs(source, product, mandate, None, last, product.aum, None)
    prepared = PreparedMarket(*market_of(source, product, mandate, end=last), market_terms(inputs))
    daily = product.model_copy(update={"rebalance": "daily"})
    with pytest.raises(DataError, match=r"made for another product\.rebalance"):
        simulate(source, (daily, mandate), out=tmp_path / "run", prepared=prepared)
    assert not list(tmp_path.iterdir())


# Terms that cannot be.


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mandate.cots.half_spread_bps": 1}, r"variant 'odd': unknown field `mandate\.cots`; known are name, position_limit"),
        ({"mandate.costs.spread": 1}, r"unknown field `mandate\.costs\.spread`; known are half_spread_bps, commission_bps"),
        ({"product.universe.price": 1}, r"unknown field `product\.universe\.price`; known are minimum_price"),
        ({"lag_days": 1}, r"unknown field `lag_days`; a field begins with product\. or mandate\."),
        ({"mandate": 3}, r"`mandate` = 3 is no field"),
        ({"product.mandate": "supreme"}, "names a file"),
        ({"mandate.costs": {"commission_bps": 1}, "mandate.costs.commission_bps": 2}, r"costs\.commission_bps` is given twice"),
        ({"product.lag_days": -1}, r"variant 'odd', product: `lag_days` = -1"),
        ({"mandate.volatility_target": 0.2}, r"volatility_target 0\.2 must not exceed volatility_limit 0\.1"),
        ({"product.incentive_fee": 20}, r"incentive_fee.*write 0\.2 for 20 %"),
        ({"product.aum": 0}, r"`aum` = 0: Input should be greater than 0"),
        ({"product.aum": -1e6}, r"`aum` = -1000000\.0: Input should be greater than 0"),
        ({"product.aum": 6e8}, r"variant 'odd': aum 600,000,000 is above the capacity of One, 500,000,000"),
    ],
)  # fmt: skip
def test_a_variant_that_cannot_be_is_refused_before_anything_runs(
    data: Path, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        sweep(Dataset(data), "one", [Variant("base"), Variant("odd", changes)], tmp_path / "out")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["a/b", "../up", "", ".hidden", "run.partial", "two words", "-x"])
def test_a_name_that_is_no_folders_is_refused(name: str) -> None:
    with pytest.raises(DataError, match="the name is a folder's"):
        check_names([Variant(name)])


def test_names_are_given_once_and_leave_the_sweeps_own_files_alone(data: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="'wide' is there twice"):
        check_names([Variant("wide"), Variant("wide")])
    with pytest.raises(DataError, match="that of a file beside the runs"):
        sweep(Dataset(data), "one", [Variant("comparison.csv")], tmp_path / "out")


def test_fields_keep_their_tables_and_maps_are_given_whole() -> None:
    product, mandate = load_product("one")
    changes = {"product.delisting_returns": {"": -0.3, "took.over": 0.1}, "mandate": {"alpha": {"half_life_days": 9}}}
    terms, promised = varied(product, mandate, Variant("x", changes))
    assert terms == product.model_copy(update={"delisting_returns": {"": -0.3, "took.over": 0.1}})
    assert promised.alpha == mandate.alpha.model_copy(update={"half_life_days": 9})
    assert promised.costs == mandate.costs


def test_a_product_file_cannot_ask_for_lag_0(tmp_path: Path) -> None:
    path = tmp_path / "dream.toml"
    path.write_text('name = "Dream"\nmandate = "one"\nlag_days = 0\n')
    with pytest.raises(DataError, match=r"dream\.toml: `lag_days` = 0 fills orders at the close"):
        load_product(str(path))


def test_the_execution_study_leaves_out_what_the_product_is_already() -> None:
    product, mandate = load_product("one")
    names = [variant.name for variant in execution_variants(product, mandate)]
    assert names[0] == "base"
    assert {"lag_0", "lag_2", "costs_off", "costs_double", "borrow_off", "delisting_-30", "delisting_-100"} < set(names)
    assert {"daily", "volatility_target", "alpha_decays"} < set(names)
    assert not {"lag_1", "weekly"} & set(names)
    other = (
        product.model_copy(update={"lag_days": 2, "rebalance": "daily"}),
        mandate.model_copy(update={"volatility_limit": None}),
    )
    names = [variant.name for variant in execution_variants(*other)]
    assert {"lag_1", "weekly"} < set(names)
    assert not {"lag_2", "daily", "volatility_target"} & set(names)


# Files and the front door.


def test_variants_are_read_from_toml(tmp_path: Path) -> None:
    path = tmp_path / "vary.toml"
    path.write_text('[wide]\nmandate.style_limit = 0.2\nnote = "styles"\n\n[slow.product]\nrebalance = "monthly"\n')
    base, wide, slow = read_variants(path)
    assert (base.name, wide.name, slow.name) == ("base", "wide", "slow")
    assert wide.note == "styles"
    product, mandate = load_product("one")
    assert varied(product, mandate, wide)[1].style_limit == 0.2
    assert varied(product, mandate, slow)[0].rebalance == "monthly"


@pytest.mark.parametrize(
    ("text", "message"),
    [("", "holds no variant"), ("wide = 3\n", r"`wide` = 3 is no variant"), ("[wide\n", "is not valid TOML"),
     ("[wide]\n[wide]\n", "is not valid TOML")],
)  # fmt: skip
def test_a_file_that_holds_no_variants_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "vary.toml"
    path.write_text(text)
    with pytest.raises(DataError, match=message):
        read_variants(path)


def test_an_unknown_study_and_a_size_above_capacity_are_refused(data: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="unknown --vary 'size'; give `execution`, `capacity` or the path"):
        study(Dataset(data), "one", "size", tmp_path / "out")
    with pytest.raises(DataError, match="aum 600,000,000 is above the capacity"):
        study(Dataset(data), "one", "execution", tmp_path / "out", aum=6e8)
    with pytest.raises(DataError, match="must be a positive amount"):
        study(Dataset(data), "one", "execution", tmp_path / "out", aum=0)


def test_the_front_door_prints_a_sweep_for_people_and_for_machines(
    data: Path, done: Sweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path, out = tmp_path / "vary.toml", tmp_path / "out"
    shutil.copytree(done.folder, out)
    path.write_text(
        '[dear.mandate.costs]\nhalf_spread_bps = 15\ncommission_bps = 2\n\n[lag_0]\nproduct.lag_days = 0\nnote = "no"\n'
    )
    arguments = ["metafolio", "sweep", str(data), "--vary", str(path), "--out", str(out)]
    monkeypatch.setattr(sys, "argv", [*arguments, "--json"])
    with pytest.raises(SystemExit) as ended:
        metafolio.main()
    assert ended.value.code == 0
    record = json.loads(capsys.readouterr().out)
    assert [row["variant"] for row in record["variants"]] == ["base", "dear", "lag_0"]
    assert record["capacity"] is None
    monkeypatch.setattr(sys, "argv", arguments)
    with pytest.raises(SystemExit) as ended:
        metafolio.main()
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    assert "dear" in shown
    assert "lag_0: no" in shown


# Comparison.


def test_each_run_is_compared_with_the_first_on_the_days_of_both(done: Sweep) -> None:
    table = done.table
    base = table.loc["base"]
    for name in ("sharpe_before_fees", "sharpe_net"):
        assert (base[f"{name}_difference"], base[f"{name}_lower"], base[f"{name}_upper"]) == (0.0, 0.0, 0.0)
        assert (table[f"{name}_lower"] <= table[f"{name}_difference"]).all()
        assert (table[f"{name}_difference"] <= table[f"{name}_upper"]).all()
    daily, first = done.runs["daily"].nav, done.runs["base"].nav
    common = daily.index.intersection(first.index)
    assert len(common) == table.loc["daily", "common_sessions"] < len(daily)
    ratios = [sharpe_ratio(nav.loc[common, "net_return"]) for nav in (daily, first)]
    assert table.loc["daily", "sharpe_net_difference"] == pytest.approx(ratios[0] - ratios[1], abs=1e-12)
    assert table.loc["lag_0", "note"] == "unrealistic"
    own = done.runs["dear"].nav
    assert table.loc["dear", "cost"] == pytest.approx(own["cost"].mean() * 252)
    assert table.loc["dear", "turnover"] < base["turnover"]
    stored = pd.read_csv(done.folder / "comparison.csv", index_col="variant")
    np.testing.assert_array_equal(stored["sharpe_net"], table["sharpe_net"])


def test_a_run_that_ended_early_is_compared_on_its_days(done: Sweep, tmp_path: Path) -> None:
    shutil.copytree(done.folder / "dear", tmp_path / "short")
    nav = pd.read_parquet(tmp_path / "short" / "nav.parquet")
    for sessions in (10, 40):
        nav.iloc[:sessions].to_parquet(tmp_path / "short" / "nav.parquet", index=False)
        row = compare_runs({"base": done.runs["base"], "short": Run(tmp_path / "short")}).loc["short"]
        assert row["sessions"] == row["common_sessions"] == sessions
        assert np.isnan(row["sharpe_net_difference"]) == (sessions < 20)


def test_the_interval_of_a_difference_covers_what_is_planted_and_pairing_narrows_it() -> None:
    rng = np.random.default_rng(5)
    covered, widths = 0, []
    for draw in range(150):
        shared = rng.normal(0.0004, 0.006, 500)
        one, two = shared + rng.normal(0.0002, 0.001, 500), shared + rng.normal(0.0, 0.001, 500)
        sd = np.hypot(0.006, 0.001)
        truth = 0.0002 / sd * np.sqrt(252)
        found = sharpe_difference(one, two, resamples=400, seed=draw)
        covered += found.lower <= truth <= found.upper
        widths.append(found.upper - found.lower)
    # Binomial 99 % band of 150 draws at 95 %, less what a bootstrap of 500 days falls short of it.
    assert covered >= 130
    alone = 2 * 1.96 * np.sqrt(2 / 500) * np.sqrt(252)
    assert np.mean(widths) < 0.4 * alone


def test_series_that_cannot_be_compared_are_refused() -> None:
    gains = np.random.default_rng(0).normal(size=30)
    with pytest.raises(DataError, match="`base` must vary"):
        sharpe_difference(gains, np.zeros(30))
    with pytest.raises(DataError, match="`base`"):
        sharpe_difference(gains, gains[:-1])
    with pytest.raises(DataError, match="at least 20"):
        sharpe_difference(gains[:19], gains[:19])
