"""Trailing descriptors of every asset on every day: what the style exposures are standardised from.

The days are walked once, with one row of state. The walk can be taken up where it ended, which costs a day for a day.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from risk.checks import BoolArray, DataError, FloatArray
from risk.panel import Panel
from risk.rows import GrowingRows
from risk.spec import RiskSpec
from risk.trailing import Beta, MedianVolume, RunningSum, Seasonality, Volatility, group_return, past_return

__all__ = ["Descriptors", "compound", "trailing_descriptors"]

MOMENTUM_FAR, MOMENTUM_NEAR = 252, 21
MONTH, WEEK = 21, 5
LOWEST_RETURN = -0.9999
# A return beyond +49 % or -33 % while the market cap moved by less than a quarter of it, in logs.
SPLIT_JUMP, SPLIT_SHARE = 0.4, 0.25
_RULES = ("floored", "stale", "suspected_splits")


@dataclass(frozen=True, eq=False)
class Descriptors:
    """Raw descriptors; NaN where not known.

    Attributes
    ----------
    styles : tuple of str, length S
    raw : float32 ndarray of shape (T, S, N)
        ``beta`` to the size-weighted members; ``size`` and ``mid_cap`` log size; ``momentum``, ``industry_momentum``, the
        reversals and ``seasonality`` log returns; ``residual_volatility`` the whole one, per day; ``liquidity`` log of daily
        value traded over size.
    size : ndarray of shape (T, N)
        Size as last known at t: a missing row means unchanged. NaN before the first.
    usable : bool ndarray of shape (T, N)
        Returns that regressions read: those known, less those of stale prices and suspected splits.
    counts : int ndarray of shape (T, 3)
        Returns at or below -99.99 %, which entered the compounded descriptors as -99.99 %; stale ones; those of suspected
        splits.
    """

    styles: tuple[str, ...]
    raw: npt.NDArray[np.float32]
    size: FloatArray
    usable: BoolArray
    counts: npt.NDArray[np.int64]
    _state: _State
    _rows: tuple[GrowingRows, ...]


def compound(returns: FloatArray, known: BoolArray) -> FloatArray:
    """Return log(1 + r), 0 where not known, with r held above -99.99 %."""
    return np.asarray(np.log1p(np.maximum(np.where(known, returns, 0.0), LOWEST_RETURN)))


def _market_return(returns: FloatArray, size: FloatArray, members: BoolArray) -> float:
    """Return the size-weighted return of the members, NaN where none of them has one."""
    held = members & np.isfinite(returns)
    return float((size[held] * returns[held]).sum() / size[held].sum()) if held.any() else float("nan")


class _State:
    """What the days so far leave behind: enough to describe the next one."""

    def __init__(self, assets: int, spec: RiskSpec) -> None:
        self._spec = spec
        self._total, self._known = RunningSum(MOMENTUM_FAR, assets), RunningSum(MOMENTUM_FAR, assets)
        self._beta, self._volatility = Beta(assets, spec.beta_lags), Volatility(assets)
        self._volume, self._season = MedianVolume(assets), Seasonality(assets)
        self._size, self._zeros = np.full(assets, np.nan), np.zeros(assets, dtype=np.int64)

    def step(
        self, panel: Panel, members: BoolArray, size: FloatArray, t: int
    ) -> tuple[npt.NDArray[np.float32], FloatArray, BoolArray, tuple[int, int, int]]:
        """Take in day t and return its rows of raw descriptors, sizes, usable returns and counts."""
        row, date = panel.returns[t], panel.dates[t]
        seen = np.isfinite(row)
        split = seen & _suspected_splits(panel, t)
        self._zeros = np.where(seen & (row == 0), self._zeros + 1, np.where(seen, 0, self._zeros))
        stale = seen & (self._zeros > self._spec.stale_returns) & (self._spec.stale_returns > 0)
        known, usable = seen & ~split, seen & ~split & ~stale
        returns, log_returns = np.where(usable, row, np.nan), compound(row, known)
        market = _market_return(returns, self._size, members[t - 1]) if t else float("nan")
        self._total.add(log_returns)
        self._known.add(known)
        self._beta.add(returns, market)
        self._volatility.add(np.where(usable, row, 0.0), usable)
        self._volume.add(panel.dollar_volume[t])
        beyond = usable & np.isfinite(market)
        log_market = np.log1p(max(market, LOWEST_RETURN)) if np.isfinite(market) else 0.0
        self._season.add(date, np.where(beyond, log_returns - log_market, 0.0), beyond)
        self._size = np.where(np.isfinite(size[t]) & (size[t] > 0), size[t], self._size)
        _check_sizes(panel, members[t], self._size, t)
        raw = np.empty((len(self._spec.styles), len(row)), dtype=np.float32)
        for column, style in enumerate(self._spec.styles):
            raw[column] = self._describe(style, panel, members[t], t)
        floored = int((known & (row <= LOWEST_RETURN)).sum())
        return raw, self._size, usable, (floored, int(stale.sum()), int(split.sum()))

    def _describe(self, style: str, panel: Panel, members: BoolArray, t: int) -> FloatArray:
        if style == "beta":
            return self._beta.value()
        if style in ("size", "mid_cap"):
            return np.asarray(np.log(self._size))
        if style == "momentum":
            return past_return(self._total, self._known, MOMENTUM_FAR, MOMENTUM_NEAR)
        if style == "residual_volatility":
            return self._volatility.value()
        if style == "liquidity":
            return np.asarray(np.log(self._volume.value() / self._size))
        if style == "reversal_week":
            return past_return(self._total, self._known, WEEK)
        if style == "reversal_month":
            return past_return(self._total, self._known, MONTH)
        if style == "seasonality":
            return self._season.value(panel.dates[t])
        momentum = past_return(self._total, self._known, MOMENTUM_FAR, MOMENTUM_NEAR)
        labels = [codes[t].astype(np.int64) for codes in (panel.industry, panel.sector) if codes is not None]
        return group_return(momentum, self._size, members, labels, self._spec.thin_category)


def trailing_descriptors(
    panel: Panel,
    members: BoolArray,
    size: FloatArray,
    spec: RiskSpec,
    *,
    before: Descriptors | None = None,
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
    spec : RiskSpec
        Its `styles`, `beta_lags`, `stale_returns` and `thin_category` count.
    before : Descriptors, optional
        Of the panel's first days, with the same settings: only the days after them are walked.
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
    63, from 63 returns on (`risk.trailing.Beta`). momentum: log return from 252 to 21 days ago. residual_volatility:
    exponentially weighted root mean square, half-life 42, from 21 returns on; what beta and size say of it is taken out
    later. liquidity: log of the 21-day median value traded over size. reversal_week, reversal_month: log return of the last
    5 and 21 days. industry_momentum: size-weighted momentum of the members of the industry, itself included, or of the
    sector where they are fewer than `thin_category`. seasonality: mean log return beyond the market's, over the last five years, in the
    calendar month of the next weekday. A day without a row adds a return of 0; a window is known when the asset has rows
    on half of it.

    Two kinds of return are not believed. After more than `stale_returns` zeros in a row a price is stale. A return beyond
    +49 % or -33 % whose market cap moved, in logs, by less than a quarter of it is a split, or the like, that the data do
    not adjust for. Both count as not known in betas, volatilities, seasonality and regressions, and the latter as 0 in
    compounded returns.
    """
    days, assets = panel.returns.shape
    kinds: tuple[tuple[tuple[int, ...], npt.DTypeLike], ...] = (
        ((len(spec.styles), assets), np.float32),
        ((assets,), np.float64),
        ((assets,), np.bool_),
        ((len(_RULES),), np.int64),
    )
    if before is None:
        start, state = 0, _State(assets, spec)
        tables = tuple(GrowingRows(shape, kind, days) for shape, kind in kinds)
    else:
        start, state = len(before.raw), copy.deepcopy(before._state)
        tables = tuple(table.continued(start, days - start) for table in before._rows)
    for t in range(start, days):
        for table, row in zip(tables, state.step(panel, members, size, t), strict=True):
            table.append(np.asarray(row))
        if progress is not None:
            progress(t + 1, days)
    raw, sizes, usable, counts = (table.view() for table in tables)
    return Descriptors(spec.styles, raw, sizes, usable, counts, state, tables)


def _suspected_splits(panel: Panel, t: int) -> BoolArray:
    if panel.market_cap is None or t == 0:
        return np.zeros(len(panel.assets), dtype=np.bool_)
    jump = np.abs(np.log1p(np.maximum(panel.returns[t], LOWEST_RETURN)))
    moved = np.abs(np.log(panel.market_cap[t] / panel.market_cap[t - 1]))
    return np.asarray((jump > SPLIT_JUMP) & (moved < SPLIT_SHARE * jump))


def _check_sizes(panel: Panel, members: BoolArray, size: FloatArray, t: int) -> None:
    bad = members & ~np.isfinite(size)
    if bad.any():
        raise DataError(
            f"`size` must be known and positive for every member; {panel.assets[int(np.argmax(bad))]!r} has none up to "
            f"{panel.dates[t].date()} ({int(bad.sum())} such members that day). Leave it out of `members` until it has."
        )
