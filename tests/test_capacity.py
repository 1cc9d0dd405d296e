"""What a product earns by its size: the curve, the size of highest profit and the size at which alpha ends, against closed forms."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from backtest import Run
from backtest.capacity import capacity_curve, capacity_sizes, capacity_variants
from backtest.dataset import Dataset
from backtest.products import load_product
from backtest.study import Study, study
from backtest.synthetic import MarketSpec, write_market
from backtest.variants import varied
from reports.study_terminal import size_text, study_lines
from risk import DataError

DAYS = pd.bdate_range("2020-01-01", periods=1000)
SIZES = [10e6 * 2.0**k for k in range(7)]


def account(size: float, net: np.ndarray, *, status: str = "complete", fees: float = 0.0) -> Run:
    """Return what a curve reads of a run, with these net returns."""
    nav = pd.DataFrame({"net_return": net, "return_before_fees": net + fees}, index=DAYS[: len(net)])
    nav = nav.assign(cost=1e-4, turnover=0.01, gross=2.0)
    tables = {"nav": nav, "notices": pd.DataFrame({"kind": ["partial fill", "frozen"]})}
    record = {"nav0": size, "status": status, "reason": "no money left" if status == "bankrupt" else ""}
    return cast(Run, SimpleNamespace(record=record, nav=nav, table=tables.__getitem__))


def runs(alpha: float, drag: float, *, noise: float = 0.0, own: float = 0.0, seed: int = 0) -> dict[str, Run]:
    """Return runs that earn alpha - drag sqrt(size / 10 million) a year, with luck of the days in common and of their own."""
    rng = np.random.default_rng(seed)
    days = rng.standard_normal(len(DAYS))
    days = noise * (days - days.mean()) / days.std()
    found = {}
    for size in SIZES:
        yearly = alpha - drag * np.sqrt(size / 10e6)
        mine = rng.standard_normal(len(DAYS))
        found[f"aum_{size / 1e6:g}m"] = account(size, yearly / 252 + days + own * (mine - mine.mean()))
    return found


def test_the_peak_and_the_end_of_alpha_are_those_of_a_square_root_drag() -> None:
    # A (a - b sqrt(A)) is highest at sqrt(A) = 2a / 3b and 0 at sqrt(A) = a / b.
    for a, b in ((0.06, 0.012), (0.05, 0.015), (0.03, 0.0045)):
        curve = capacity_curve(runs(a, b, noise=0.004))
        assert curve.peak.estimate == pytest.approx(10e6 * (2 * a / (3 * b)) ** 2, rel=0.02)
        assert curve.zero.estimate == pytest.approx(10e6 * (a / b) ** 2, rel=0.02)
        table = curve.table
        np.testing.assert_allclose(table["alpha_net"], a - b * np.sqrt(table.index.to_numpy() / 10e6), atol=1e-12)
        np.testing.assert_allclose(table["profit"], table["alpha_net"] * table.index.to_numpy(), rtol=1e-12)


def test_luck_that_all_sizes_share_is_in_the_level_and_not_in_the_difference() -> None:
    curve = capacity_curve(runs(0.06, 0.012, noise=0.004))
    level = curve.table["alpha_net_upper"] - curve.table["alpha_net_lower"]
    difference = curve.table["alpha_net_difference_upper"] - curve.table["alpha_net_difference_lower"]
    error = 0.004 * np.sqrt(252) / np.sqrt(len(DAYS) / 252)
    np.testing.assert_allclose(level, 2 * 1.96 * error, rtol=0.15)
    assert (difference < 1e-9).all()
    assert (curve.peak.lower, curve.zero.lower) < (curve.peak.estimate, curve.zero.estimate)
    assert curve.peak.upper > curve.peak.estimate


def test_sharpe_ratios_and_their_intervals_are_those_of_the_series() -> None:
    given = runs(0.06, 0.012, noise=0.004, own=0.001)
    curve = capacity_curve(given)
    for name, run in given.items():
        row = curve.table[curve.table["variant"] == name].iloc[0]
        r = run.nav["net_return"]
        assert row["sharpe_net"] == pytest.approx(r.mean() / r.std(ddof=1) * np.sqrt(252), rel=1e-12)
        assert row["sharpe_net_lower"] < row["sharpe_net"] < row["sharpe_net_upper"]
        assert (row["cost"], row["turnover"], row["partial_fills"]) == (pytest.approx(0.0252), pytest.approx(2.52), 1)
    np.testing.assert_allclose(
        curve.table["sharpe_net_upper"] - curve.table["sharpe_net_lower"],
        2 * 1.96 * np.sqrt(252 / len(DAYS)),
        rtol=0.15,
    )


def test_the_interval_of_the_peak_covers_the_true_one() -> None:
    rng, covered = np.random.default_rng(3), 0
    a, b, noise = 0.06, 0.012, 0.0015
    truth = 10e6 * (2 * a / (3 * b)) ** 2
    for draw in range(60):
        luck = rng.normal(0.0, noise, len(DAYS))
        given = {f"{size:g}": account(size, (a - b * np.sqrt(size / 10e6)) / 252 + luck) for size in SIZES}
        peak = capacity_curve(given, resamples=300, seed=draw).peak
        covered += peak.lower <= truth <= peak.upper
    # 99 % band of 60 draws at 95 %, less what a bootstrap falls short of it.
    assert covered >= 51


def test_a_fund_that_always_loses_has_its_peak_below_and_one_that_scales_above() -> None:
    loses = capacity_curve(runs(-0.01, 0.005, noise=0.0005))
    assert (loses.peak.estimate, loses.zero.estimate) == (0.0, 0.0)
    scales = capacity_curve(runs(0.06, 0.0, noise=0.0005))
    assert (scales.peak.estimate, scales.zero.estimate) == (np.inf, np.inf)
    assert size_text(loses.peak.estimate, loses) == "below 10.0 million"
    assert size_text(scales.peak.estimate, scales) == "above 640.0 million"
    record = json.loads(json.dumps(scales.to_dict(), allow_nan=False))
    assert record["peak"]["estimate"] is None
    assert len(record["sizes"]) == len(SIZES)


def test_runs_that_ended_early_are_left_out_and_named() -> None:
    given = runs(0.06, 0.012, noise=0.004)
    ruined = account(1280e6, np.full(30, -0.05), status="bankrupt")
    curve = capacity_curve({**given, "aum_1280m": ruined})
    assert curve.left_out == ("aum_1280m: bankrupt, no money left",)
    assert curve.sessions == len(DAYS)
    assert curve.table.index[-1] == 640e6


def test_a_curve_without_enough_to_go_by_is_refused() -> None:
    given = runs(0.06, 0.012, noise=0.004)
    with pytest.raises(DataError, match="at least three complete runs; got 2"):
        capacity_curve(dict(list(given.items())[:2]))
    with pytest.raises(DataError, match="two runs have the same size"):
        capacity_curve({**given, "again": given["aum_10m"]})
    short = {name: account(run.record["nav0"], run.nav["net_return"].to_numpy()[:19]) for name, run in given.items()}
    with pytest.raises(DataError, match="19 sessions in common"):
        capacity_curve(short)


def test_sizes_double_from_an_eighth_to_twice_the_capacity() -> None:
    one, mandate = load_product("one")
    sizes = capacity_sizes(one)
    assert (sizes[0], sizes[-1]) == (one.aum / 8, one.aum * 16)
    assert sizes[-2] >= 500e6 > sizes[-3]
    unlimited = one.model_copy(update={"capacity": None})
    assert capacity_sizes(unlimited)[-1] == 8 * one.aum
    variants = capacity_variants(one)
    assert variants[0].name == "aum_70m"
    terms = [varied(one, mandate, variant)[0] for variant in variants]
    assert sorted(term.aum for term in terms) == list(sizes)
    for variant, term in zip(variants, terms, strict=True):
        assert term.size("aum", None) == term.aum
        assert term.participation_limit == 0.10
        assert ("above the capacity" in variant.note) == (term.aum > 500e6)
        assert "participation 10% assumed" in variant.note
    own = one.model_copy(update={"participation_limit": 0.02})
    assert all(varied(own, mandate, variant)[0].participation_limit == 0.02 for variant in capacity_variants(own))


@pytest.mark.parametrize("sizes", [[1e6, 2e6], [1e6, 2e6, 2e6], [0.0, 1e6, 2e6], [-1e6, 1e6, 2e6], [1e6, 2e6, np.inf]])
def test_sizes_that_make_no_curve_are_refused(sizes: list[float]) -> None:
    one, _ = load_product("one")
    with pytest.raises(DataError, match="size"):
        capacity_variants(one, sizes)


TINY = 'name = "Tiny"\nmandate = "one"\naum = 2e6\ncapacity = {capacity}\nparticipation_limit = 0.002\n[risk_model]\nminimum_history = 126\n'


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("capacity") / "data"
    write_market(folder, MarketSpec(assets=60, years=1.2, models=8, countries=3, sectors=4, seed=9))
    return folder


@pytest.fixture(scope="module")
def found(data: Path) -> Study:
    product = data.parent / "tiny.toml"
    product.write_text(TINY.format(capacity=2e6))
    return study(Dataset(data), str(product), "capacity", data.parent / "out")


def test_a_product_above_its_own_capacity_is_refused_before_anything_runs(data: Path, tmp_path: Path) -> None:
    product = tmp_path / "tiny.toml"
    product.write_text(TINY.format(capacity=1e6))
    with pytest.raises(DataError, match="variant 'base': aum 2,000,000 is above the capacity of Tiny, 1,000,000"):
        study(Dataset(data), str(product), "execution", tmp_path / "out")
    assert list(tmp_path.iterdir()) == [product]


def test_the_same_product_at_every_size_trades_less_and_pays_more_for_a_trade_as_it_grows(found: Study) -> None:
    curve = found.curve
    assert curve is not None
    table = curve.table
    assert list(table.index) == [0.25e6, 0.5e6, 1e6, 2e6, 4e6]
    assert table["turnover"].is_monotonic_decreasing
    assert (table["cost"] / table["turnover"]).is_monotonic_increasing
    assert table.loc[2e6, "alpha_net_difference"] == 0.0
    notes = found.sweep.table["note"]
    assert "above the capacity" in notes["aum_4m"]
    assert "above the capacity" not in notes["aum_2m"]
    record: dict[str, Any] = json.loads((found.sweep.folder / "capacity.json").read_text())
    assert record == found.to_dict()["capacity"]


def test_no_trade_is_beyond_the_products_share_of_the_days_volume(data: Path, found: Study) -> None:
    volume = pd.read_parquet(data / "market.parquet").set_index(["date", "asset"])["dollar_volume"]
    curve = found.curve
    assert curve is not None
    for name, run in found.sweep.runs.items():
        trades = run.table("trades")
        value = (trades["shares"] * trades["price"]).abs().groupby([trades["date"], trades["asset"]]).sum()
        assert (value <= 0.002 * volume.reindex(value.index) * (1 + 1e-9)).all()
        waited = curve.table.set_index("variant").loc[name, "partial_fills"]
        assert waited == (run.table("notices")["kind"] == "partial fill").sum()
    assert curve.table["partial_fills"].iloc[-1] > curve.table["partial_fills"].iloc[0]


def test_the_curve_is_printed_with_its_peak(found: Study) -> None:
    console = Console(width=90)
    with console.capture() as shown:
        study_lines(found, console)
    text = shown.get()
    assert "net profit is highest at" in text
    assert [line.split()[0] for line in text.splitlines()[1:6]] == ["0.25", "0.50", "1.00", "2.00", "4.00"]
