"""The market as a table of days by assets, cut so that row t holds only what is known at t's close."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from risk.checks import BoolArray, DataError, FloatArray

__all__ = ["Panel"]

Codes = npt.NDArray[np.int16]


@dataclass(frozen=True, eq=False)
class Panel:
    """Daily market data of T days by N assets.

    Attributes
    ----------
    dates : DatetimeIndex of length T
        Trading days, time-zone naive, strictly ascending.
    assets : tuple of str, length N
    returns : ndarray of shape (T, N)
        Simple return over (t-1, t]; where rows are missing in between, since the asset's last row. NaN where the asset
        has no row, and on its first row.
    has_row : bool ndarray of shape (T, N)
        True where the data has a row for that day and asset.
    close : ndarray of shape (T, N)
        Closing price; NaN where there is no row. Where the data has no prices, an index that starts at 1.
    market_cap : ndarray of shape (T, N) or None
        NaN where not known. None: the data has no such column and the size proxy is used.
    dollar_volume : ndarray of shape (T, N)
        Value traded that day; NaN where not known.
    country, sector : int16 ndarray of shape (T, N)
        Index into `countries`, `sectors` of the label in force that day; -1 where there is none.
    countries, sectors : tuple of str
    delisting_return : ndarray of shape (N,)
        Return booked when the asset is gone; NaN where none is given.
    periods_per_year : int
    """

    dates: pd.DatetimeIndex
    assets: tuple[str, ...]
    returns: FloatArray
    has_row: BoolArray
    close: FloatArray
    market_cap: FloatArray | None
    dollar_volume: FloatArray
    country: Codes
    sector: Codes
    countries: tuple[str, ...]
    sectors: tuple[str, ...]
    delisting_return: FloatArray
    periods_per_year: int = 252

    def __post_init__(self) -> None:
        shape = (len(self.dates), len(self.assets))
        for name in ("returns", "has_row", "close", "market_cap", "dollar_volume", "country", "sector"):
            array = getattr(self, name)
            if array is not None and array.shape != shape:
                raise DataError(f"`{name}` must have shape {shape}; got {array.shape}.")
        if not self.dates.is_monotonic_increasing or self.dates.has_duplicates:
            raise DataError("`dates` must be strictly ascending; sort them and remove duplicates.")

    def until(self, t: int) -> Panel:
        """Return the panel of days 0..t: everything that is known at the close of day t."""
        cut = slice(0, t + 1)
        return Panel(
            dates=self.dates[cut],
            assets=self.assets,
            returns=self.returns[cut],
            has_row=self.has_row[cut],
            close=self.close[cut],
            market_cap=None if self.market_cap is None else self.market_cap[cut],
            dollar_volume=self.dollar_volume[cut],
            country=self.country[cut],
            sector=self.sector[cut],
            countries=self.countries,
            sectors=self.sectors,
            delisting_return=self.delisting_return,
            periods_per_year=self.periods_per_year,
        )
