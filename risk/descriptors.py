"""Trailing descriptors of every asset on every day: what the style exposures are standardised from.

The days are walked once, with one row of state, so that row t is made of the same operations in the same order however
many days follow it: its bits cannot depend on the future.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from risk.checks import BoolArray, DataError, FloatArray, freeze
from risk.panel import Panel

__all__ = ["Descriptors", "trailing_descriptors"]

BETA_WINDOW, BETA_HALF_LIFE, BETA_MINIMUM = 252, 63.0, 63
MOMENTUM_FAR, MOMENTUM_NEAR = 252, 21
VOLATILITY_HALF_LIFE, VOLATILITY_MINIMUM = 42.0, 21
MONTH, WEEK = 21, 5
LOWEST_RETURN = -0.9999


@dataclass(frozen=True, eq=False)
class Descriptors:
    """Raw descriptors; NaN where not known.

    Attributes
    ----------
    styles : tuple of str, length S
    raw : float32 ndarray of shape (T, S, N)
        ``beta`` to the size-weighted members; ``size`` log; ``momentum`` and the reversals log returns; ``residual_volatility``
        per day; ``liquidity`` log of daily value traded over size.
    size : ndarray of shape (T, N)
        Size as last known at t: a missing row means unchanged. NaN before the first.
    floored_returns : int ndarray of shape (T,)
        Returns at or below -99.99 % that entered the compounded descriptors as -99.99 %.
    """

    styles: tuple[str, ...]
    raw: npt.NDArray[np.float32]
    size: FloatArray
    floored_returns: npt.NDArray[np.int64]


class _RunningSum:
    """Cumulative sum of rows that keeps the last `longest` + 1 of them."""

    def __init__(self, longest: int, assets: int) -> None:
        self._rows = np.zeros((longest + 1, assets))
        self._day = 0

    def add(self, row: npt.NDArray[np.generic]) -> None:
        last = self._rows[self._day % len(self._rows)]
        self._day += 1
        self._rows[self._day % len(self._rows)] = last + row

    def over(self, far: int, near: int = 0) -> FloatArray:
        """Return the sum over the days (t - far, t - near]."""
        return self._back(near) - self._back(far)

    def _back(self, days: int) -> FloatArray:
        day = self._day - days
        return self._rows[day % len(self._rows)] if day > 0 else np.zeros(self._rows.shape[1])


class _Beta:
    """Exponentially weighted regression on the market over a window, updated by a day at a time."""

    def __init__(self, returns: FloatArray) -> None:
        self._returns = returns
        self._market = np.full(len(returns), np.nan)
        self._sums = np.zeros((5, returns.shape[1]))
        self._known = _RunningSum(BETA_WINDOW, returns.shape[1])
        self._decay = 0.5 ** (1.0 / BETA_HALF_LIFE)

    def _terms(self, t: int) -> FloatArray:
        r, m = self._returns[t], self._market[t]
        known = np.isfinite(r) & np.isfinite(m)
        r0, m0 = np.where(known, r, 0.0), np.where(known, m, 0.0)
        return np.stack([known.astype(np.float64), m0, r0, m0 * m0, m0 * r0])

    def add(self, t: int, market: float) -> None:
        self._market[t] = market
        terms = self._terms(t)
        self._sums = self._decay * self._sums + terms
        if t >= BETA_WINDOW:
            self._sums -= self._decay**BETA_WINDOW * self._terms(t - BETA_WINDOW)
        self._known.add(terms[0])

    def value(self) -> FloatArray:
        enough = self._known.over(BETA_WINDOW) >= BETA_MINIMUM
        weight = np.where(enough, self._sums[0], np.nan)
        _, m, r, mm, mr = self._sums / weight
        variance = mm - m * m
        return np.asarray((mr - m * r) / np.where(variance > 0, variance, np.nan))


class _Volatility:
    """Exponentially weighted root mean square of daily returns, in the asset's own days: a missing row changes nothing."""

    def __init__(self, assets: int) -> None:
        self._square, self._weight, self._count = np.zeros(assets), np.zeros(assets), np.zeros(assets)
        self._decay = 0.5 ** (1.0 / VOLATILITY_HALF_LIFE)

    def add(self, row: FloatArray, known: BoolArray) -> None:
        step = np.where(known, self._decay, 1.0)
        self._square = step * self._square + row * row
        self._weight = step * self._weight + known
        self._count += known

    def value(self) -> FloatArray:
        weight = np.where(self._count >= VOLATILITY_MINIMUM, self._weight, np.nan)
        return np.asarray(np.sqrt(self._square / weight))


class _MedianVolume:
    """Median value traded over the last month, of the days on which it is known."""

    def __init__(self, assets: int) -> None:
        self._rows = np.full((assets, MONTH), np.nan)

    def add(self, t: int, row: FloatArray) -> None:
        self._rows[:, t % MONTH] = row

    def value(self) -> FloatArray:
        ordered = np.sort(self._rows, axis=1)
        known = np.isfinite(ordered).sum(axis=1)
        low, high = np.maximum(known - 1, 0) // 2, known // 2
        every = np.arange(len(ordered))
        median = (ordered[every, low] + ordered[every, np.minimum(high, MONTH - 1)]) / 2
        return np.where((2 * known >= MONTH) & (median > 0), median, np.nan)


def _past_return(total: _RunningSum, rows: _RunningSum, far: int, near: int = 0) -> FloatArray:
    """Return the compounded log return over (t - far, t - near]; NaN with rows on fewer than half of those days."""
    return np.where(2 * rows.over(far, near) >= far - near, total.over(far, near), np.nan)


def _market_return(returns: FloatArray, size: FloatArray, members: BoolArray) -> float:
    """Return the size-weighted return of the members, NaN where none of them has one."""
    held = members & np.isfinite(returns)
    return float((size[held] * returns[held]).sum() / size[held].sum()) if held.any() else float("nan")


def trailing_descriptors(
    panel: Panel,
    members: BoolArray,
    size: FloatArray,
    styles: tuple[str, ...],
    *,
    progress: Callable[[int, int], None] | None = None,
) -> Descriptors:
    """Return the descriptors behind the style exposures, each row from data up to that row only.

    Parameters
    ----------
    panel : Panel
    members : bool ndarray of shape (T, N)
        The estimation universe of each day.
    size : ndarray of shape (T, N)
        Market capitalisation or the data set's proxy, NaN where not known.
    styles : tuple of str
    progress : callable, optional
        Called with (days done, days in all).

    Returns
    -------
    Descriptors

    Raises
    ------
    DataError
        If a member has no positive size yet.

    Notes
    -----
    beta: regression with intercept on the size-weighted return of the members of the day before, 252 days, half-life
    63, from 63 returns on. momentum: log return from 252 to 21 days ago. volatility: exponentially weighted root mean
    square, half-life 42, from 21 returns on. liquidity: log of the 21-day median value traded over size. reversal_week,
    reversal_month: log return of the last 5 and 21 days. A day without a row adds a return of 0; a window is known when
    the asset has rows on half of it.
    """
    shape = panel.returns.shape
    raw = np.full((shape[0], len(styles), shape[1]), np.nan, dtype=np.float32)
    carried, floored = np.full(shape, np.nan), np.zeros(shape[0], dtype=np.int64)
    total, rows = _RunningSum(MOMENTUM_FAR, shape[1]), _RunningSum(MOMENTUM_FAR, shape[1])
    beta, volatility, volume = _Beta(panel.returns), _Volatility(shape[1]), _MedianVolume(shape[1])
    last_size = np.full(shape[1], np.nan)
    for t in range(shape[0]):
        row = panel.returns[t]
        known = np.isfinite(row)
        filled = np.where(known, row, 0.0)
        floored[t] = int((filled <= LOWEST_RETURN).sum())
        total.add(np.log1p(np.maximum(filled, LOWEST_RETURN)))
        rows.add(known)
        beta.add(t, _market_return(row, last_size, members[t - 1]) if t else float("nan"))
        volatility.add(filled, known)
        volume.add(t, panel.dollar_volume[t])
        last_size = np.where(np.isfinite(size[t]) & (size[t] > 0), size[t], last_size)
        carried[t] = last_size
        _check_sizes(panel, members[t], last_size, t)
        for column, style in enumerate(styles):
            if style == "beta":
                raw[t, column] = beta.value()
            elif style == "size":
                raw[t, column] = np.log(last_size)
            elif style == "momentum":
                raw[t, column] = _past_return(total, rows, MOMENTUM_FAR, MOMENTUM_NEAR)
            elif style == "residual_volatility":
                raw[t, column] = volatility.value()
            elif style == "liquidity":
                raw[t, column] = np.log(volume.value() / last_size)
            elif style == "reversal_week":
                raw[t, column] = _past_return(total, rows, WEEK)
            elif style == "reversal_month":
                raw[t, column] = _past_return(total, rows, MONTH)
        if progress is not None:
            progress(t + 1, shape[0])
    frozen: npt.NDArray[np.float32] = freeze(raw)
    return Descriptors(styles, frozen, freeze(carried), freeze(floored))


def _check_sizes(panel: Panel, members: BoolArray, size: FloatArray, t: int) -> None:
    bad = members & ~np.isfinite(size)
    if bad.any():
        raise DataError(
            f"`size` must be known and positive for every member; {panel.assets[int(np.argmax(bad))]!r} has none up to "
            f"{panel.dates[t].date()} ({int(bad.sum())} such members that day). Leave it out of `members` until it has."
        )
