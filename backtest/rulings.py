"""What rules from one decision to the next: the risk model in force, the benchmark and every asset's labels."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow.parquet as pq

from backtest.daily_book import DailyBook, read_rows
from backtest.store import Run
from risk import DataError
from risk.checks import FloatArray

__all__ = ["FACT_COLUMNS", "Ruling", "facts_by_date", "rulings", "run_facts"]

Codes = npt.NDArray[np.intp]
FACT_COLUMNS = ("date", "asset", "country", "sector", "traded_value")


@dataclass(frozen=True, eq=False)
class Ruling:
    """What rules from one decision to the next: its risk model, benchmark and labels, over the decision's n assets.

    Attributes
    ----------
    date : Timestamp
    first, stop : int
        Rows of the account on which it is in force: from the close of its own date on.
    assets : int ndarray of shape (n,)
        Columns of the book.
    factors : tuple of str, length K
    exposures : ndarray of shape (n, K)
    factor_covariance : ndarray of shape (K, K)
        Per year.
    specific_variance : ndarray of shape (n,)
        Per year.
    benchmark : ndarray of shape (n,)
        Cap weights of the universe.
    country, sector : str ndarray of shape (n,), or None
        None where labels were not asked for.
    traded_value : ndarray of shape (n,), or None
        Trailing median dollar volume per day; NaN where not known.
    """

    date: pd.Timestamp
    first: int
    stop: int
    assets: Codes
    factors: tuple[str, ...]
    exposures: FloatArray
    factor_covariance: FloatArray
    specific_variance: FloatArray
    benchmark: FloatArray
    country: npt.NDArray[np.object_] | None
    sector: npt.NDArray[np.object_] | None
    traded_value: FloatArray | None

    def variance(self, weights: FloatArray) -> FloatArray:
        """Return w'Vw, per year, of each row of weights over the ruling's assets, shape (days,)."""
        x = weights @ self.exposures
        total: FloatArray = ((x @ self.factor_covariance) * x).sum(axis=1) + (
            weights * weights
        ) @ self.specific_variance
        return total

    def beta(self) -> FloatArray:
        """Return each asset's predicted beta to the benchmark, V b / b'Vb, shape (n,)."""
        b = self.benchmark
        covariance = self.exposures @ (self.factor_covariance @ (self.exposures.T @ b)) + self.specific_variance * b
        beta: FloatArray = covariance / float(covariance @ b)
        return beta


def rulings(run: Run, book: DailyBook, facts: pd.DataFrame | None = None) -> Iterator[Ruling]:
    """Yield each decision's model, benchmark and labels with the days on which it is in force, in order of time.

    Parameters
    ----------
    facts : DataFrame with columns date, asset, country, sector, traded_value, optional
        A row for every decision and asset of its model. None: no labels.

    Raises
    ------
    DataError
        If no decision's model is stored, or `facts` lacks a column, a decision or an asset.
    """
    dates = [date for date in run.model_dates() if date <= book.dates[-1]]
    if not dates:
        raise DataError(f"{run.folder}: holds no risk model up to {book.dates[-1]:%Y-%m-%d}; run the backtest again.")
    first = book.dates.get_indexer(pd.DatetimeIndex(dates))
    if (first < 0).any():
        raise DataError(f"{run.folder}: a model is dated on no day of the account; run the backtest again.")
    assets = np.array(book.assets, dtype=object)
    signals = _by_date(read_rows(run, "signals", "benchmark_weight"))
    labels = None if facts is None else facts_by_date(facts)
    for date, start, stop in zip(dates, first, [*first[1:], len(book.dates)], strict=True):
        folder = run.folder / "models" / f"date={date:%Y-%m-%d}"
        names, factors, exposures = _matrix(folder / "exposures.parquet")
        columns = pd.Index(assets).get_indexer(pd.Index(names))
        if (columns < 0).any():
            raise DataError(f"{folder}: has {names[int(np.argmin(columns))]!r}, which `weights` never had.")
        benchmark = _aligned(signals, date, names, "signals")["benchmark_weight"].to_numpy(dtype=np.float64)
        fact = None if labels is None else _aligned(labels, date, names, "facts")
        yield Ruling(
            date=date,
            first=int(start),
            stop=int(stop),
            assets=columns,
            factors=factors,
            exposures=exposures,
            factor_covariance=_matrix(folder / "factor_covariance.parquet")[2],
            specific_variance=_matrix(folder / "specific_variance.parquet")[2][:, 0],
            benchmark=benchmark,
            country=None if fact is None else fact["country"].to_numpy(dtype=object),
            sector=None if fact is None else fact["sector"].to_numpy(dtype=object),
            traded_value=None if fact is None else fact["traded_value"].to_numpy(dtype=np.float64),
        )


def run_facts(run: Run) -> pd.DataFrame:
    """Return the labels and tradable volume that a run stored with each decision.

    Raises
    ------
    DataError
        If the run was made before runs held them.
    """
    columns = ("country", "sector", "traded_value")
    facts = read_rows(run, "assets", *columns, text=columns[:2]) if run.has("assets") else pd.DataFrame()
    if facts.empty:
        raise DataError(
            f"{run.folder}: has no `assets` table (date, asset, country, sector, traded_value), without which no position "
            "has a country or sector. Run the backtest again."
        )
    return facts


def facts_by_date(facts: pd.DataFrame) -> dict[pd.Timestamp, pd.DataFrame]:
    """Return each decision's labels and volumes, text as categories.

    Raises
    ------
    DataError
        If a column is missing, or a date, asset or label on a row.
    """
    missing = [name for name in FACT_COLUMNS if name not in facts]
    if missing:
        raise DataError(f"`facts` lacks the column(s) {', '.join(missing)}; it needs {', '.join(FACT_COLUMNS)}.")
    for name in FACT_COLUMNS[:4]:
        if facts[name].isna().any():
            raise DataError(
                f'`facts`: `{name}` is missing on {int(facts[name].isna().sum())} rows; write "" for no label.'
            )
    return _by_date(
        facts[list(FACT_COLUMNS)].astype({"asset": "category", "country": "category", "sector": "category"})
    )


def _by_date(table: pd.DataFrame) -> dict[pd.Timestamp, pd.DataFrame]:
    """Return each date's rows; a run writes them in order of date."""
    rows = table if table["date"].is_monotonic_increasing else table.sort_values("date", kind="stable")
    days, starts = np.unique(rows["date"].to_numpy(), return_index=True)
    stops = [*starts[1:], len(rows)]
    return {pd.Timestamp(day): rows.iloc[a:b] for day, a, b in zip(days, starts, stops, strict=True)}


def _aligned(
    tables: dict[pd.Timestamp, pd.DataFrame], date: pd.Timestamp, names: npt.NDArray[np.object_], what: str
) -> pd.DataFrame:
    """Return the date's rows in the order of `names`, every one of them there once."""
    if date not in tables:
        raise DataError(f"`{what}` has no rows for the decision of {date:%Y-%m-%d}; run the backtest again.")
    rows = tables[date]
    found = rows["asset"].to_numpy(dtype=object)
    if len(found) == len(names) and (found == names).all():
        return rows
    place = pd.Index(found)
    if place.has_duplicates:
        raise DataError(
            f"`{what}` has {place[place.duplicated()][0]!r} twice on {date:%Y-%m-%d}; name each asset once."
        )
    at = place.get_indexer(pd.Index(names))
    if (at < 0).any():
        raise DataError(
            f"`{what}` has no row for {names[int(np.argmin(at))]!r} on {date:%Y-%m-%d} ({int((at < 0).sum())} such assets "
            "in all), and the model of that decision holds it. Give a row for each."
        )
    return pd.DataFrame(rows.iloc[at])


def _matrix(path: Path) -> tuple[npt.NDArray[np.object_], tuple[str, ...], FloatArray]:
    """Return a stored table as row names, column names and numbers."""
    if not path.is_file():
        raise DataError(f"{path}: is not there; run the backtest again.")
    # One small file after another: opening a thread pool for each would take longer than reading it.
    table = pq.ParquetFile(path).read(use_threads=False)
    names = np.asarray(table.column(0).to_numpy(), dtype=object)
    columns = table.column_names[1:]
    return names, tuple(columns), np.column_stack([table.column(name).to_numpy() for name in columns])
