"""Replace everything after a date, and every decision up to it is bit-identical."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from backtest import Dataset, Run, simulate
from backtest.synthetic import MarketSpec, write_market

SPEC = MarketSpec(assets=60, years=1.3, models=8, countries=3, sectors=4, seed=9, local_holidays=4)


@pytest.fixture(scope="module")
def market(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lookahead") / "data"
    write_market(folder, SPEC)
    return folder


@pytest.fixture(scope="module")
def run(market: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return simulate(Dataset(market), "one", out=tmp_path_factory.mktemp("lookahead-run") / "run")


@pytest.fixture(scope="module")
def cut(run: Run) -> pd.Timestamp:
    """A decision date in the middle of the run."""
    return pd.Timestamp(run.table("solves")["date"].iloc[len(run.table("solves")) // 2])


def rows(run: Run, table: str, *, until: pd.Timestamp) -> pd.DataFrame:
    frame = run.table(table)
    return frame[frame["date"] <= until].reset_index(drop=True)


def noise_after(folder: Path, cut: pd.Timestamp) -> None:
    """Replace prices, caps, volumes, predictions, stakes and labels after `cut` by noise."""
    rng = np.random.default_rng(0)
    market = pd.read_parquet(folder / "market.parquet")
    later = market["date"] > cut
    count = int(later.sum())
    market.loc[later, "return"] = rng.normal(0, 0.05, count).astype(market["return"].dtype)
    for column, scale in (("close", 100.0), ("market_cap", 1e9), ("dollar_volume", 1e7)):
        market.loc[later, column] = rng.lognormal(0, 1, count).astype(market[column].dtype) * scale
    market = market[~later | (rng.random(len(market)) > 0.05)]
    market.to_parquet(folder / "market.parquet", index=False)
    stakes = pd.read_parquet(folder / "stakes.parquet")
    changed = stakes["date"] > cut
    stakes.loc[changed, "stake"] = rng.uniform(1, 100, int(changed.sum()))
    stakes.to_parquet(folder / "stakes.parquet", index=False)
    for path in (folder / "predictions").glob("*.parquet"):
        if pd.Timestamp(path.stem) > cut:
            frame = pd.read_parquet(path)
            models = [name for name in frame if name != "asset"]
            frame[models] = rng.normal(size=(len(frame), len(models))).astype(np.float32)
            frame.to_parquet(path, index=False)
    assets = pd.read_parquet(folder / "assets.parquet")
    assets["valid_from"] = pd.Timestamp("2000-01-01")
    moved = assets.assign(
        valid_from=cut + pd.Timedelta(days=1), sector=assets["sector"].sample(frac=1, random_state=1).to_numpy()
    )
    pd.concat([assets, moved]).sort_values(["asset", "valid_from"]).to_parquet(folder / "assets.parquet", index=False)


def truncate_after(folder: Path, cut: pd.Timestamp) -> None:
    """Remove everything after `cut`."""
    market = pd.read_parquet(folder / "market.parquet")
    market[market["date"] <= cut].to_parquet(folder / "market.parquet", index=False)
    stakes = pd.read_parquet(folder / "stakes.parquet")
    stakes[stakes["date"] <= cut].to_parquet(folder / "stakes.parquet", index=False)
    for path in (folder / "predictions").glob("*.parquet"):
        if pd.Timestamp(path.stem) > cut:
            path.unlink()


@pytest.mark.parametrize("change", [noise_after, truncate_after])
def test_decisions_up_to_a_date_do_not_depend_on_what_comes_after(
    market: Path, run: Run, cut: pd.Timestamp, tmp_path: Path, change: object
) -> None:
    folder = tmp_path / "data"
    shutil.copytree(market, folder)
    change(folder, cut)  # type: ignore[operator]
    other = simulate(Dataset(folder), "one", out=tmp_path / "run")
    compared = 0
    for table in ("weights", "trades", "signals", "solves", "duals", "meta_model", "universe"):
        before, after = (rows(r, table, until=cut) for r in (run, other))
        assert len(before)
        pd.testing.assert_frame_equal(before, after, check_exact=True)
        compared += len(before)
    assert compared > 1000
    for date in run.model_dates():
        if date <= cut:
            first, second = run.model(date), other.model(date)
            assert (first.exposures == second.exposures).all()
            assert (first.factor_covariance == second.factor_covariance).all()
            assert (first.specific_variance == second.specific_variance).all()


def test_a_decision_in_profit_does_not_know_that_the_run_ends_with_it(market: Path, run: Run, tmp_path: Path) -> None:
    nav, decided = run.nav, pd.DatetimeIndex(run.table("solves")["date"])
    start = nav["nav"].groupby(nav.index.year).transform("first")
    profit = decided[(nav["nav"] > start)[decided].to_numpy()]
    assert len(profit), "the fund must be in profit for a fee to be due"
    last = profit[-1]
    other = simulate(Dataset(market), "one", out=tmp_path / "run", end=last)
    assert other.nav["incentive_fee"].iloc[-1] > 0
    targets = [
        rows(r, "weights", until=last).query("date == @last").set_index("asset")["target"].dropna()
        for r in (run, other)
    ]
    pd.testing.assert_series_equal(*targets, check_exact=True)
    for table in ("signals", "solves", "duals"):
        before, after = (rows(r, table, until=last) for r in (run, other))
        pd.testing.assert_frame_equal(before, after, check_exact=True)


def test_noise_after_the_date_does_change_what_comes_after(
    market: Path, run: Run, cut: pd.Timestamp, tmp_path: Path
) -> None:
    folder = tmp_path / "data"
    shutil.copytree(market, folder)
    noise_after(folder, cut)
    other = simulate(Dataset(folder), "one", out=tmp_path / "run")
    before, after = (r.table("weights") for r in (run, other))
    assert before.loc[before["date"] > cut, "weight"].sum() != after.loc[after["date"] > cut, "weight"].sum()
