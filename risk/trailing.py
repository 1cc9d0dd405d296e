"""State that trailing descriptors are made from: one object per idea, updated by a day at a time.

Row t of a descriptor is made of the same operations in the same order however many days follow it and however the days
were handed in, so that its bits cannot depend on the future nor on when it was computed.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd

from risk.checks import BoolArray, FloatArray

__all__ = ["Beta", "MedianVolume", "RunningSum", "Seasonality", "Volatility", "group_return", "past_return"]

BETA_WINDOW, BETA_HALF_LIFE, BETA_MINIMUM = 252, 63.0, 63
VOLATILITY_HALF_LIFE, VOLATILITY_MINIMUM = 42.0, 21
MONTH = 21
SEASON_YEARS, SEASON_DAYS = 5, 10

Groups = npt.NDArray[np.int64]


class RunningSum:
    """Cumulative sum of rows that keeps the last `longest` + 1 of them."""

    def __init__(self, longest: int, assets: int) -> None:
        self._rows = np.zeros((longest + 1, assets))
        self._day = 0

    def add(self, row: npt.NDArray[np.generic]) -> None:
        """Take in the day's row, shape (N,)."""
        last = self._rows[self._day % len(self._rows)]
        self._day += 1
        self._rows[self._day % len(self._rows)] = last + row

    def over(self, far: int, near: int = 0) -> FloatArray:
        """Return the sum over the days (t - far, t - near], shape (N,)."""
        return self._back(near) - self._back(far)

    def _back(self, days: int) -> FloatArray:
        day = self._day - days
        return self._rows[day % len(self._rows)] if day > 0 else np.zeros(self._rows.shape[1])


class Beta:
    """Exponentially weighted beta to the market over a window.

    With M_s the market's return summed over the days s - L to s + L:

        beta = cov(r, M) / cov(m, M)

    L = 0 is the regression of r on m. With L > 0 M is an instrument: closes at different hours move part of an asset's
    answer to the next or the last session, and of the market's own return too. Day s is read when s + L is known.

    References
    ----------
    Scholes, Williams (1977), Estimating Betas from Nonsynchronous Data, Journal of Financial Economics 5.
    """

    def __init__(self, assets: int, lags: int) -> None:
        self._lags = lags
        self._returns = np.full((BETA_WINDOW + lags + 1, assets), np.nan)
        self._market: list[float] = []
        self._sums = np.zeros((6, assets))
        self._known = RunningSum(BETA_WINDOW, assets)
        self._decay = 0.5 ** (1.0 / BETA_HALF_LIFE)

    def add(self, returns: FloatArray, market: float) -> None:
        """Take in the day's returns, NaN where not known, and the market's."""
        self._returns[len(self._market) % len(self._returns)] = returns
        self._market.append(market)
        day = len(self._market) - 1 - self._lags
        if day < 0:
            return
        terms = self._terms(day)
        self._sums = self._decay * self._sums + terms
        if day >= BETA_WINDOW:
            self._sums -= self._decay**BETA_WINDOW * self._terms(day - BETA_WINDOW)
        self._known.add(terms[0])

    def _terms(self, day: int) -> FloatArray:
        r, m = self._returns[day % len(self._returns)], self._market[day]
        around = sum(self._market[day - self._lags : day + self._lags + 1]) if day >= self._lags else float("nan")
        known = np.isfinite(r) & np.isfinite(m) & np.isfinite(around)
        weight = known.astype(np.float64)
        r = np.where(known, r, 0.0)
        m, around = (m, around) if np.isfinite(m) and np.isfinite(around) else (0.0, 0.0)
        return np.stack([weight, weight * m, weight * around, r, weight * (m * around), r * around])

    def value(self) -> FloatArray:
        """Return the betas, shape (N,)."""
        enough = self._known.over(BETA_WINDOW) >= BETA_MINIMUM
        weight = np.where(enough, self._sums[0], np.nan)
        _, m, around, r, squared, product = self._sums / weight
        variance = squared - m * around
        return np.asarray((product - around * r) / np.where(variance > 0, variance, np.nan))


class Volatility:
    """Exponentially weighted root mean square of daily returns, in the asset's own days: a missing row changes nothing."""

    def __init__(self, assets: int) -> None:
        self._square, self._weight, self._count = np.zeros(assets), np.zeros(assets), np.zeros(assets)
        self._decay = 0.5 ** (1.0 / VOLATILITY_HALF_LIFE)

    def add(self, returns: FloatArray, known: BoolArray) -> None:
        """Take in the day's returns, 0 where not known."""
        step = np.where(known, self._decay, 1.0)
        self._square = step * self._square + returns * returns
        self._weight = step * self._weight + known
        self._count += known

    def value(self) -> FloatArray:
        """Return the volatilities per day, shape (N,)."""
        weight = np.where(self._count >= VOLATILITY_MINIMUM, self._weight, np.nan)
        return np.asarray(np.sqrt(self._square / weight))


class MedianVolume:
    """Median value traded over the last month, of the days on which it is known."""

    def __init__(self, assets: int) -> None:
        self._rows = np.full((assets, MONTH), np.nan)
        self._day = 0

    def add(self, row: FloatArray) -> None:
        """Take in the day's value traded, shape (N,)."""
        self._rows[:, self._day % MONTH] = row
        self._day += 1

    def value(self) -> FloatArray:
        """Return the medians, shape (N,); NaN with too few days, or where most have no trade."""
        ordered = np.sort(self._rows, axis=1)
        known = np.isfinite(ordered).sum(axis=1)
        low, high = np.maximum(known - 1, 0) // 2, known // 2
        every = np.arange(len(ordered))
        median = (ordered[every, low] + ordered[every, np.minimum(high, MONTH - 1)]) / 2
        return np.where((2 * known >= MONTH) & (median > 0), median, np.nan)


class Seasonality:
    """Mean log return beyond the market's in one calendar month of the last years.

    References
    ----------
    Heston, Sadka (2008), Seasonality in the Cross-Section of Stock Returns, Journal of Financial Economics 87.
    """

    def __init__(self, assets: int) -> None:
        # One more year than is averaged: the current one is on its way.
        self._sums = np.zeros((12, SEASON_YEARS + 1, assets))
        self._days = np.zeros((12, SEASON_YEARS + 1, assets), dtype=np.int16)
        self._year = np.full((12, SEASON_YEARS + 1), -1)

    def add(self, date: pd.Timestamp, excess: FloatArray, known: BoolArray) -> None:
        """Take in the day's log returns beyond the market's, 0 where not known."""
        at = (date.month - 1, date.year % (SEASON_YEARS + 1))
        if self._year[at] != date.year:
            self._year[at], self._sums[at], self._days[at] = date.year, 0.0, 0
        self._sums[at] += excess
        self._days[at] += known

    def value(self, date: pd.Timestamp) -> FloatArray:
        """Return the mean over the years before, shape (N,), of the month in which the next weekday after `date` lies."""
        following = date + pd.offsets.BDay(1)
        age = following.year - self._year[following.month - 1]
        usable = ((age >= 1) & (age <= SEASON_YEARS))[:, None] & (self._days[following.month - 1] >= SEASON_DAYS)
        years = usable.sum(axis=0)
        total = np.where(usable, self._sums[following.month - 1], 0.0).sum(axis=0)
        return np.asarray(total / np.where(years > 0, years, np.nan))


def past_return(total: RunningSum, rows: RunningSum, far: int, near: int = 0) -> FloatArray:
    """Return the compounded log return over (t - far, t - near]; NaN with rows on fewer than half of those days."""
    return np.where(2 * rows.over(far, near) >= far - near, total.over(far, near), np.nan)


def group_return(
    value: FloatArray, size: FloatArray, members: BoolArray, groups: list[Groups], thin: int
) -> FloatArray:
    """Return the size-weighted mean of each asset's group, itself included where it is a member.

    Parameters
    ----------
    value, size : ndarray of shape (N,)
    members : bool ndarray of shape (N,)
    groups : list of int ndarray of shape (N,)
        Finest first, -1 where there is none. The first group with at least `thin` members counts.
    thin : int

    Returns
    -------
    ndarray of shape (N,)
        NaN where every group has fewer.
    """
    weight = np.where(members & np.isfinite(value), size, 0.0)
    moment = weight * np.where(weight > 0, value, 0.0)
    result = np.full(len(value), np.nan)
    for codes in reversed(groups):
        inside = codes >= 0
        at = codes[inside]
        count, total, mass = (
            np.bincount(at, weights=one[inside])[at] for one in ((weight > 0).astype(float), moment, weight)
        )
        result[inside] = np.where(count >= thin, total / np.where(mass > 0, mass, np.nan), result[inside])
    return result
