"""A finished run's book as arrays of days by assets."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow.parquet as pq

from backtest.store import Run
from risk import DataError
from risk.checks import FloatArray, freeze

__all__ = ["DailyBook", "asset_contributions", "drifted_weights", "read_book", "read_rows"]

Codes = npt.NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class DailyBook:
    """What a run held at the close of each day.

    Attributes
    ----------
    account : DataFrame indexed by date
        As `Run.nav`.
    nav_before : ndarray of shape (T,)
        Net asset value at the close before; the run's start value on its first day.
    assets : tuple of str, length N
        Every asset that the run ever held or aimed at, sorted.
    weights : ndarray of shape (T, N)
        At the close, after the day's trades: fractions of that close's net asset value.
    """

    account: pd.DataFrame
    nav_before: FloatArray
    assets: tuple[str, ...]
    weights: FloatArray

    @property
    def dates(self) -> pd.DatetimeIndex:
        """Sessions of the account, length T."""
        return pd.DatetimeIndex(self.account.index)

    @property
    def weights_before(self) -> FloatArray:
        """Weights at the close before, which earn the day's return, shape (T, N); none on the first day."""
        return np.vstack([np.zeros((1, len(self.assets))), self.weights[:-1]])


def read_book(run: Run, until: pd.Timestamp | None = None) -> DailyBook:
    """Return a run's daily book, up to and with a day where one is given.

    Raises
    ------
    DataError
        If the run has no sessions, a table is missing, or a date and asset appears twice.
    """
    account = run.nav if until is None else run.nav.loc[:until]
    if account.empty:
        raise DataError(f"{run.folder}: the account has no sessions. Run the backtest again over a longer span.")
    table = read_rows(run, "weights", "weight")
    assets = np.unique(table["asset"].cat.categories[np.unique(table["asset"].cat.codes)].to_numpy(dtype=object))
    nav = account["nav"].to_numpy(dtype=np.float64)
    dates = pd.DatetimeIndex(account.index)
    return DailyBook(
        account=account,
        nav_before=freeze(np.concatenate([[float(run.record["nav0"])], nav[:-1]])),
        assets=tuple(assets),
        weights=freeze(_cells(run, "weights", table, "weight", dates, assets)),
    )


def drifted_weights(run: Run, book: DailyBook) -> FloatArray:
    """Return the weights that the closes would have found without the day's trades, shape (T, N).

    Notes
    -----
    The trades and their cost are undone at the prices they were made: (w nav - trade value) / (nav + cost).
    """
    trades = read_rows(run, "trades", "trade")
    value = _cells(run, "trades", trades, "trade", book.dates, np.array(book.assets, dtype=object), add=True)
    nav = book.account["nav"].to_numpy(dtype=np.float64)
    cost = book.account["cost"].to_numpy(dtype=np.float64) * book.nav_before
    drifted: FloatArray = (book.weights * nav[:, None] - value * book.nav_before[:, None]) / (nav + cost)[:, None]
    # A position closed by its trade leaves rounding behind where nothing was held.
    opened = np.abs(drifted) <= 1e-12 * np.abs(value)
    return np.where(opened, 0.0, drifted)


def asset_contributions(run: Run, book: DailyBook) -> FloatArray:
    """Return what each position earned in the day as a fraction of the net assets before it, shape (T, N)."""
    table = read_rows(run, "positions", "pnl")
    pnl = _cells(run, "positions", table, "pnl", book.dates, np.array(book.assets, dtype=object))
    contribution: FloatArray = pnl / book.nav_before[:, None]
    return contribution


def read_rows(run: Run, name: str, *columns: str, text: tuple[str, ...] = ()) -> pd.DataFrame:
    """Return a table's date, asset and given columns; assets and `text` as categories, which read ten times faster.

    Raises
    ------
    DataError
        If the run has no such table.
    """
    path = run.folder / f"{name}.parquet"
    if not path.is_file():
        raise DataError(f"{path}: is not there; run the backtest again.")
    table = pq.read_table(path, columns=["date", "asset", *columns], read_dictionary=["asset", *text])
    return pd.DataFrame(table.to_pandas())


def _cells(
    run: Run,
    name: str,
    table: pd.DataFrame,
    column: str,
    dates: pd.DatetimeIndex,
    assets: npt.NDArray[np.object_],
    *,
    add: bool = False,
) -> FloatArray:
    """Return a column of a table as an array of days by assets, 0 where it has no row; days after the last are left out."""
    days = table["date"].to_numpy().astype("datetime64[ns]")
    table, days = table[days <= dates[-1].to_datetime64()], days[days <= dates[-1].to_datetime64()]
    row = dates.as_unit("ns").get_indexer(pd.DatetimeIndex(days))
    cell = _columns(run, name, table["asset"], assets) + row * len(assets)
    if (row < 0).any():
        raise DataError(f"{run.folder}: `{name}` has days that the account has not; run the backtest again.")
    values = table[column].to_numpy(dtype=np.float64)
    flat = np.zeros(len(dates) * len(assets))
    if add:
        np.add.at(flat, cell, values)
    else:
        seen = np.zeros(len(flat), dtype=np.bool_)
        seen[cell] = True
        if int(seen.sum()) < len(cell):
            raise DataError(f"{run.folder}: `{name}` has a date and asset twice; run the backtest again.")
        flat[cell] = values
    return flat.reshape(len(dates), len(assets))


def _columns(run: Run, name: str, column: pd.Series, assets: npt.NDArray[np.object_]) -> Codes:
    """Return each row's column of the book."""
    place = pd.Index(assets).get_indexer(column.cat.categories)
    codes = place[column.cat.codes.to_numpy()] if len(place) else np.zeros(0, dtype=np.intp)
    if (codes < 0).any():
        stranger = column.iloc[int(np.argmin(codes))]
        raise DataError(f"{run.folder}: `{name}` has {stranger!r}, which `weights` never had; run the backtest again.")
    return codes
