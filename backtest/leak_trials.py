"""The audit on trial: a small market with every kind of file, on which it must catch each planted leak and find none in clean code."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import nullcontext
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pandas as pd

from backtest.dataset import Dataset
from backtest.leaks import LEAKS
from backtest.lookahead import Trial, look_ahead
from backtest.products import Product, load_product
from backtest.simulator import simulate
from backtest.synthetic import MarketSpec, write_market
from engine import Mandate

__all__ = ["CLEAN", "LeakTrial", "small_terms", "try_leak", "try_leaks", "write_small_market"]

AHEAD = 7
DECISION = 3
"""Number of the decision after which, or after whose fills, the data change."""
CLEAN = "clean code"


@dataclass(frozen=True)
class LeakTrial:
    """What the audit said of one planted leak, or of clean code.

    Attributes
    ----------
    name, what, field : str
        As of the leak; `field` is empty for clean code.
    trials : tuple of Trial
    """

    name: str
    what: str
    field: str
    trials: tuple[Trial, ...]

    @property
    def right(self) -> bool:
        """Whether the leak was caught by the field that holds it, or nothing was found in clean code."""
        if not self.field:
            return all(trial.proven for trial in self.trials)
        return any(trial.field == self.field and trial.difference is not None for trial in self.trials)


def write_small_market(folder: Path, seed: int = 0) -> Dataset:
    """Write a market of 40 assets and some 65 sessions in two currencies, with every optional file, and open it."""
    spec = MarketSpec(
        assets=40,
        years=0.26,
        models=8,
        countries=2,
        sectors=3,
        seed=seed,
        local_holidays=12,
        median_cap=8e9,
        delisting_rate=0.3,
        listing_share=0.2,
    )
    write_market(folder, spec)
    settings = (folder / "dataset.toml").read_text(encoding="utf-8")
    settings = settings.replace('return_kind = "total"', 'return_kind = "local"')
    (folder / "dataset.toml").write_text(settings, encoding="utf-8")
    assets = pd.read_parquet(folder / "assets.parquet")
    home = assets["country"] == assets["country"].iloc[0]
    assets.assign(currency=np.where(home, "USD", "EUR")).to_parquet(folder / "assets.parquet", index=False)
    rng = np.random.default_rng(seed)
    market = pd.read_parquet(folder / "market.parquet", columns=["date", "asset", "close"])
    days, names = pd.DatetimeIndex(sorted(market["date"].unique())), assets["asset"].to_numpy()
    every = pd.MultiIndex.from_product([days, names], names=["date", "asset"]).to_frame(index=False)
    tables = {
        "exposures": every[every["date"].isin(days[::10])].assign(value=lambda rows: rng.normal(size=len(rows))),
        "scores": every[every["date"].isin(days[::5])].assign(target=lambda rows: rng.uniform(size=len(rows))),
        "rates": _by_currency(days[::5], ("USD", "EUR"), "annual_rate", lambda n: 0.03 + rng.normal(0, 0.002, n)),
        "fx": _by_currency(days, ("EUR",), "rate", lambda n: 1.1 * np.exp(rng.normal(0, 0.004, n).cumsum())),
        "borrow": every[every["date"].isin(days[::5])].assign(
            fee_annual=lambda rows: rng.uniform(0.002, 0.02, len(rows)),
            available=lambda rows: np.where(rng.random(len(rows)) < 0.1, 2_000.0, np.nan),
        ),
        "events": _events(market, rng),
    }
    for name, table in tables.items():
        table.to_parquet(folder / f"{name}.parquet", index=False)
    return Dataset(folder)


def _by_currency(
    days: pd.DatetimeIndex, names: tuple[str, ...], column: str, draw: Callable[[int], np.ndarray]
) -> pd.DataFrame:
    rows = pd.MultiIndex.from_product([days, names], names=["date", "currency"]).to_frame(index=False)
    return rows.assign(**{column: draw(len(rows))})


def _events(market: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """Return dividends, suspensions and recalls of every third asset, on a tenth of its days."""
    rows = market[market["asset"].isin(sorted(market["asset"].unique())[::3])]
    rows = rows.iloc[np.sort(rng.permutation(len(rows))[: len(rows) // 10])]
    kinds = rng.choice(["dividend", "suspension", "recall"], size=len(rows))
    frame = rows[["date", "asset"]].assign(kind=kinds)
    frame["ratio"] = np.where(kinds == "recall", 0.5, np.nan)
    frame["amount"] = np.where(kinds == "dividend", 0.002 * rows["close"], np.nan)
    frame["new_asset"] = pd.Series(pd.NA, index=frame.index, dtype="string")
    return frame.sort_values(["date", "asset"])


def small_terms() -> tuple[Product, Mandate]:
    """Return terms for the small market: weekly, with a risk limit that binds, and little history asked for."""
    product, mandate = load_product("one")
    risk = product.risk_model.model_copy(
        update={
            "minimum_history": 21,
            "minimum_assets": 10,
            "thin_category": 3,
            "blind_factors": 2,
            "blind_window": 20,
            "eigenfactor_simulations": 2,
            "calibration_prior_days": 5.0,
            "calibration_floor": 0.0,
        }
    )
    universe = product.universe.model_copy(update={"history_days": 21, "minimum_dollar_volume": 1e4})
    product = product.model_copy(
        update={
            "name": "Small",
            "risk_model": risk,
            "universe": universe,
            "fx_hedge": "full",
            "participation_limit": 0.05,
        }
    )
    wide = {"position_limit": 0.10, "position_target": 0.09, "volatility_limit": 0.02, "style_limit": 0.3}
    return product, mandate.model_copy(update=wide | {"minimum_assets": 10, "minimum_model_assets": 10})


def try_leaks(
    *, seed: int = 0, workers: int = 1, progress: Callable[[int, int], None] | None = None
) -> tuple[LeakTrial, ...]:
    """Return what the audit says of clean code, with every field, and of each planted leak, with the field that holds it.

    Parameters
    ----------
    seed : int
    workers : int
        Processes; 1 works in this one.
    progress : callable, optional
        Called with (trials done, trials in all).
    """
    names = (CLEAN, *(leak.name for leak in LEAKS))
    found: dict[str, LeakTrial] = {}
    with tempfile.TemporaryDirectory(prefix="metafolio-leaks-") as work:
        data = write_small_market(Path(work) / "data", seed)
        jobs = [(name, data.folder, Path(work) / f"run-{place}", seed) for place, name in enumerate(names)]
        for trial in _each(jobs, workers):
            found[trial.name] = trial
            if progress is not None:
                progress(len(found), len(jobs))
    return tuple(found[name] for name in names)


def _each(jobs: Sequence[tuple[str, Path, Path, int]], workers: int) -> Iterator[LeakTrial]:
    """Yield trials as they are done."""
    if workers == 1:
        yield from (try_leak(*job) for job in jobs)
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        for future in as_completed([pool.submit(try_leak, *job) for job in jobs]):
            yield future.result()


def try_leak(name: str, folder: Path, out: Path, seed: int = 0) -> LeakTrial:
    """Plant a leak in this process, simulate, and audit the run while it is planted.

    Parameters
    ----------
    name : str
        Of one of `LEAKS`, or ``clean code``.
    folder : Path
        Of the small market.
    out : Path
        Of the run that is made.
    seed : int
    """
    leak = next((leak for leak in LEAKS if leak.name == name), None)
    data = Dataset(folder)
    with nullcontext() if leak is None else leak.planted():
        run = simulate(data, small_terms(), out=out)
        sessions = pd.DatetimeIndex(run.nav.index)
        decided = int(sessions.get_indexer(pd.DatetimeIndex(run.table("solves")["date"].unique()))[DECISION - 1])
        days = {"decision": sessions[decided], "fill": sessions[decided + 1]}
        dates = list(days.values()) if leak is None else [days[leak.on]]
        trials = look_ahead(run, data, dates, fields=None if leak is None else [leak.field], ahead=AHEAD, seed=seed)
    if leak is None:
        return LeakTrial(name, "the pipeline as it is", "", trials)
    return LeakTrial(name, leak.what, leak.field, trials)
