"""One date's cross-section: the members of the universe, their own past, and what is asked of it.

A `CrossSection` holds rows 0..t and nothing else, so that what is computed from it cannot look ahead even by mistake.

Three rules hold for all that is computed here. A window of D days needs values on at least 80 % of them, else the result is
NaN: not known. A missing row means unchanged: the next return spans it, so returns compound over the rows there are. Prices
enter only through returns: a raw close jumps at a split.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pandas as pd

import engine
from risk import Panel
from risk.checks import BoolArray, FloatArray

__all__ = [
    "HORIZON",
    "LAG",
    "YEAR",
    "Codes",
    "CrossSection",
    "covered",
    "gaussianise",
    "mean_and_deviation",
    "ratio",
    "without_group_means",
]

Codes = npt.NDArray[np.int16]

YEAR = 252  # trading days that a cross-section looks back
HORIZON, LAG = 20, 2  # the forward window that is scored: from t + LAG to t + LAG + HORIZON
MIN_COVERAGE = 0.8
SMALLEST_GROUP = 5  # a mean of fewer names is mostly the name itself: subtracting it would erase the signal


@dataclass(frozen=True, eq=False)
class CrossSection:
    """The members of the universe at the close of one day, with their past.

    Attributes
    ----------
    dates : DatetimeIndex of length t + 1
        The panel's days up to the decision date, which is the last.
    columns : int ndarray of shape (n,)
        Where the members stand among the panel's assets.
    past_returns, past_dollar_volume : ndarray of shape (t + 1, N)
        The panel's rows up to the decision date, all assets.
    size : ndarray of shape (n,)
        The members' market cap or size proxy; NaN where not known.
    country, sector : int16 ndarray of shape (n,)
        The labels in force; -1 where there is none.
    """

    dates: pd.DatetimeIndex
    columns: npt.NDArray[np.intp]
    past_returns: FloatArray
    past_dollar_volume: FloatArray
    size: FloatArray
    country: Codes
    sector: Codes

    @classmethod
    def at(cls, panel: Panel, members: BoolArray, size: FloatArray, t: int) -> CrossSection:
        """Return the cross-section of day t; everything it holds is cut at row t."""
        columns = np.flatnonzero(members[t])
        return cls(
            dates=panel.dates[: t + 1],
            columns=columns,
            past_returns=panel.returns[: t + 1],
            past_dollar_volume=panel.dollar_volume[: t + 1],
            size=size[t, columns],
            country=panel.country[t, columns],
            sector=panel.sector[t, columns],
        )

    @cached_property
    def returns(self) -> FloatArray:
        """The members' returns of the last year, (252, n); NaN where there is no row."""
        window: FloatArray = self.past_returns[-YEAR:][:, self.columns]
        return window

    @cached_property
    def known(self) -> BoolArray:
        """Where `returns` are known, (252, n)."""
        return np.isfinite(self.returns)

    @cached_property
    def growth(self) -> FloatArray:
        """One plus return, 1 where there is no row, (252, n)."""
        return np.where(self.known, 1.0 + self.returns, 1.0)

    @cached_property
    def residuals(self) -> FloatArray:
        """Daily returns after market, country and sector means, (252, n)."""
        return without_group_means(self.returns, self.country, self.sector)

    @cached_property
    def log_size(self) -> FloatArray:
        """Logarithm of size, (n,); NaN where it is not known or not positive."""
        return np.log(np.where(self.size > 0.0, self.size, np.nan))

    def compounded(self, days: int, skip: int = 0) -> FloatArray:
        """Return the members' compound return over the last `days` days but the last `skip`, (n,)."""
        rows = slice(YEAR - days, YEAR - skip)
        total: FloatArray = np.multiply.reduce(self.growth[rows], axis=0) - 1.0
        return np.where(covered(self.known[rows]), total, np.nan)


def gaussianise(values: FloatArray) -> FloatArray:
    """Return `engine.gaussianise` of the values that are known, and NaN where one is not; shape of `values` (n,)."""
    known = np.isfinite(values)
    scores, _ = engine.gaussianise(np.where(known, values, np.nan))
    return np.where(known, scores, np.nan)


def without_group_means(values: FloatArray, country: Codes, sector: Codes) -> FloatArray:
    """Return `values` less the market mean, then the country means, then the sector means of what is left.

    Parameters
    ----------
    values : ndarray of shape (n,) or (D, n)
        NaN where not known: it is in no mean and stays NaN.
    country, sector : int16 ndarray of shape (n,)
        -1 is a group of its own.

    Notes
    -----
    Means are equally weighted, row by row. A group with fewer than 5 known values keeps its mean.
    """
    rows = np.atleast_2d(values)
    known = np.isfinite(rows)
    left = np.where(known, rows, 0.0)
    for labels in (np.zeros_like(country), country, sector):
        _, codes = np.unique(labels, return_inverse=True)
        order = np.argsort(codes, kind="stable")
        starts = np.searchsorted(codes[order], np.arange(int(codes.max(initial=-1)) + 1))
        counts = np.add.reduceat(known[:, order], starts, axis=1, dtype=np.int64)
        means = np.add.reduceat(left[:, order], starts, axis=1) / np.maximum(counts, 1)
        means[counts < SMALLEST_GROUP] = 0.0
        left = np.where(known, left - means[:, codes], 0.0)
    return np.where(known, left, np.nan).reshape(values.shape)


def covered(known: BoolArray) -> BoolArray:
    """Return which columns of (D, n) are known on at least 80 % of the D days, (n,)."""
    enough: BoolArray = known.sum(axis=0) >= MIN_COVERAGE * len(known)
    return enough


def mean_and_deviation(values: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return mean and sample standard deviation down the known entries of (D, n); NaN where too few are known."""
    known = np.isfinite(values)
    count = known.sum(axis=0)
    mean = np.where(known, values, 0.0).sum(axis=0) / np.maximum(count, 1)
    square = np.where(known, values - mean, 0.0) ** 2
    deviation = np.sqrt(square.sum(axis=0) / np.maximum(count - 1, 1))
    enough = covered(known)
    return np.where(enough, mean, np.nan), np.where(enough, deviation, np.nan)


def ratio(above: FloatArray, below: FloatArray) -> FloatArray:
    """Return above / below; NaN where `below` is not positive."""
    return above / np.where(below > 0.0, below, np.nan)
