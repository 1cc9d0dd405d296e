"""The market as a table of days by assets, cut so that row t holds only what is known at t's close."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pandas as pd

from risk.checks import BoolArray, DataError, FloatArray, check_labels, freeze

__all__ = ["Panel", "UserExposures"]

Codes = npt.NDArray[np.int16]
_BY_DAY = ("returns", "has_row", "close", "market_cap", "dollar_volume", "country", "sector", "industry", "currency")


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
    industry, currency : int16 ndarray of shape (T, N) or None
        Like `country`; None: the data has no such column. A currency is given only where `returns` are in the base currency:
        local returns hold no currency risk.
    industries, currencies : tuple of str
    base_currency : str
        Of the returns; no factor.
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
    industry: Codes | None = None
    currency: Codes | None = None
    industries: tuple[str, ...] = ()
    currencies: tuple[str, ...] = ()
    base_currency: str = ""

    def __post_init__(self) -> None:
        shape = (len(self.dates), len(self.assets))
        for name in _BY_DAY:
            array = getattr(self, name)
            if array is not None and array.shape != shape:
                raise DataError(f"`{name}` must have shape {shape}; got {array.shape}.")
        if not self.dates.is_monotonic_increasing or self.dates.has_duplicates:
            raise DataError("`dates` must be strictly ascending; sort them and remove duplicates.")

    def until(self, t: int) -> Panel:
        """Return the panel of days 0..t: everything that is known at the close of day t."""
        given = {name: getattr(self, name) for name in _BY_DAY}
        cut = {name: array[: t + 1] for name, array in given.items() if array is not None}
        return replace(self, dates=self.dates[: t + 1], **cut)


@dataclass(frozen=True, eq=False)
class UserExposures:
    """Exposures that the user brings, over the days and assets of a panel.

    They are standardised like every style, over each day's members. A ``style:`` of a name that the model estimates itself
    takes its place; every other factor stands beside the estimated ones. ``signal:`` factors are in the model and under no
    limit: what the fund means to bet on.

    Attributes
    ----------
    factors : tuple of str, length U
        Full names, as ``style:value`` or ``signal:meta_model``.
    values : float32 ndarray of shape (T, U, N)
        Raw; row t holds what is known at t's close, NaN what is not.

    Raises
    ------
    DataError
        If a name has another family or repeats, the shape does not fit, or a value is infinite.
    """

    factors: tuple[str, ...]
    values: npt.NDArray[np.float32]

    def __post_init__(self) -> None:
        factors = check_labels("factors", self.factors)
        for factor in factors:
            family, _, name = factor.partition(":")
            if family not in ("style", "signal") or not name:
                raise DataError(f"`factors` must be named style:NAME or signal:NAME; got {factor!r}.")
        values = np.asarray(self.values, dtype=np.float32)
        if values.ndim != 3 or values.shape[1] != len(factors):
            raise DataError(
                f"`values` must have shape (days, {len(factors)}, assets), one row per factor; got {values.shape}."
            )
        if np.isinf(values).any():
            raise DataError("`values` must not be infinite; write NaN where an exposure is not known.")
        object.__setattr__(self, "factors", factors)
        object.__setattr__(self, "values", freeze(values))

    def until(self, t: int) -> UserExposures:
        """Return the exposures of days 0..t."""
        return UserExposures(self.factors, self.values[: t + 1])
