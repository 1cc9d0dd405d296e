"""The rows of the market file as flat arrays, and the dense panel that is made of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from backtest.dataset_settings import DatasetSettings
from backtest.labels import LabelTable
from backtest.tables import Kind, Table
from risk import DataError, Panel
from risk.checks import BoolArray, FloatArray, freeze

__all__ = ["OPTIONAL_COLUMNS", "MarketRows", "build_panel", "check_market_columns", "read_rows"]

OPTIONAL_COLUMNS = ("market_cap", "close", "dollar_volume", "delisting_return")
Index = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class MarketRows:
    """R rows of the market file, in file order.

    Attributes
    ----------
    file : str
    dates : DatetimeIndex of length T
        Distinct days, ascending.
    assets : tuple of str, length N
        Distinct assets, sorted.
    day, asset : int32 ndarray of shape (R,)
        Positions in `dates` and `assets`.
    numbers : mapping of str to ndarray of shape (R,)
        One array per number column that was read; NaN where the file has no value.
    """

    file: str
    dates: pd.DatetimeIndex
    assets: tuple[str, ...]
    day: npt.NDArray[np.int32]
    asset: npt.NDArray[np.int32]
    numbers: Mapping[str, npt.NDArray[np.floating[Any]]]

    @property
    def cell(self) -> Index:
        """Position of each row in a flattened (T, N) array, shape (R,)."""
        return self.day.astype(np.int64) * len(self.assets) + self.asset

    def first_day(self) -> Index:
        """Return the position of each asset's first day, shape (N,)."""
        first = np.full(len(self.assets), len(self.dates), dtype=np.int64)
        np.minimum.at(first, self.asset, self.day)
        return first

    def last_day(self) -> Index:
        """Return the position of each asset's last day within the rows read, shape (N,)."""
        last = np.full(len(self.assets), -1, dtype=np.int64)
        np.maximum.at(last, self.asset, self.day)
        return last

    def unknown_returns(self) -> BoolArray:
        """Return where a return is missing other than on the asset's first row, shape (R,)."""
        missing = np.isnan(self.numbers["return"])
        rows = np.flatnonzero(missing)
        unknown = np.zeros(len(missing), dtype=np.bool_)
        if len(rows):
            unknown[rows] = self.day[rows] > self.first_day()[self.asset[rows]]
        return unknown

    def dense(self, name: str) -> FloatArray:
        """Return one column as an array of shape (T, N), NaN where there is no row."""
        table = np.full(len(self.dates) * len(self.assets), np.nan, dtype=np.float64)
        if name in self.numbers:
            table[self.cell] = self.numbers[name]
        return table.reshape(len(self.dates), len(self.assets))


def check_market_columns(table: Table) -> None:
    """Refuse a market file without the columns date, asset and return, or with a column of the wrong kind.

    Raises
    ------
    DataError
    """
    table.check_column("date", Kind.DATE)
    table.check_column("asset", Kind.TEXT)
    table.check_column("return", Kind.NUMBER)
    for name in OPTIONAL_COLUMNS:
        if name in table.columns:
            table.check_column(name, Kind.NUMBER)


def read_rows(
    table: Table,
    start: pd.Timestamp | None = None,
    end: pd.Timestamp | None = None,
    columns: tuple[str, ...] = ("return", *OPTIONAL_COLUMNS),
) -> MarketRows:
    """Return the rows from `start` to `end` inclusive; their values are not judged here.

    Raises
    ------
    DataError
        If the file is damaged, a column is of the wrong kind, a date or an asset is missing, or there is no row.
    """
    check_market_columns(table)
    present = [name for name in columns if name in table.columns]
    read = table.read(["date", "asset", *present], start, end)
    if read.num_rows == 0:
        span = f" between {start.date()} and {end.date()}" if start is not None and end is not None else ""
        raise DataError(f"`{table.file}` has no rows{span}. Add the market's rows or choose another span.")
    order, stamps = pd.factorize(table.days(read))
    ranked = np.argsort(stamps)
    position = np.empty(len(stamps), dtype=np.int32)
    position[ranked] = np.arange(len(stamps), dtype=np.int32)
    asset, names = table.texts(read, "asset")
    return MarketRows(
        file=table.file,
        dates=pd.DatetimeIndex(stamps[ranked], name="date"),
        assets=tuple(str(name) for name in names),
        day=position[order],
        asset=asset,
        numbers={name: table.numbers(read, name) for name in present},
    )


def build_panel(rows: MarketRows, labels: LabelTable, settings: DatasetSettings, unknown: BoolArray) -> Panel:
    """Return the dense panel of rows that have passed every check.

    Parameters
    ----------
    rows : MarketRows
    labels : LabelTable
    settings : DatasetSettings
    unknown : bool ndarray of shape (R,)
        Rows whose return is not known other than on an asset's first row: it is taken as 0, value unchanged.
    """
    shape = (len(rows.dates), len(rows.assets))
    cell = rows.cell
    has_row = np.zeros(shape[0] * shape[1], dtype=np.bool_)
    has_row[cell] = True
    has_row = has_row.reshape(shape)
    returns = rows.dense("return")
    returns.ravel()[cell[unknown]] = 0.0
    close = rows.dense("close") if "close" in rows.numbers else _index_levels(returns, has_row)
    country, countries = labels.codes("country", rows.dates, rows.assets)
    sector, sectors = labels.codes("sector", rows.dates, rows.assets)
    industry, industries = labels.optional_codes("industry", rows.dates, rows.assets)
    currency, currencies = (None, ()) if settings.local else labels.optional_codes("currency", rows.dates, rows.assets)
    return Panel(
        dates=rows.dates,
        assets=rows.assets,
        returns=freeze(returns),
        has_row=freeze(has_row),
        close=freeze(close),
        market_cap=freeze(rows.dense("market_cap")) if "market_cap" in rows.numbers else None,
        dollar_volume=freeze(rows.dense("dollar_volume")),
        country=country,
        sector=sector,
        countries=countries,
        sectors=sectors,
        delisting_return=freeze(_delisting_returns(rows)),
        periods_per_year=settings.periods_per_year,
        industry=industry,
        currency=currency,
        industries=industries,
        currencies=currencies,
        base_currency=settings.currency,
    )


def _index_levels(returns: FloatArray, has_row: BoolArray) -> FloatArray:
    """Return an index per asset that is 1 on its first row and compounds the returns after it."""
    growth = 1.0 + np.nan_to_num(returns, nan=0.0)
    first = has_row.argmax(axis=0)
    growth[first, np.arange(growth.shape[1])] = 1.0
    levels = np.asarray(np.cumprod(growth, axis=0), dtype=np.float64)
    levels[~has_row] = np.nan
    return levels


def _delisting_returns(rows: MarketRows) -> FloatArray:
    result = np.full(len(rows.assets), np.nan)
    if "delisting_return" in rows.numbers:
        given = np.flatnonzero(~np.isnan(rows.numbers["delisting_return"]))
        result[rows.asset[given]] = rows.numbers["delisting_return"][given]
    return result
