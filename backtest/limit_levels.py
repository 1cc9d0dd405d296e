"""The level of everything that a mandate limits, at every close, and what it would have been without the day's trades.

Three levels tell where a change came from. With w the weights at the close, u those that the close would have found
without the day's trades, L the rows of the model and labels in force, L_- those in force the day before:

    closing = L'w        drifted = L'u        before = L_-'u        (closing - drifted: trades; drifted - before: the model)
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from backtest.daily_book import DailyBook
from backtest.rulings import Ruling
from risk import DataError
from risk.checks import FloatArray, freeze

__all__ = ["LimitLevels", "Liquidation", "days_to_liquidate", "limit_levels"]

WHOLE_BOOK = ("position", "gross", "net")
MODELLED = ("volatility", "liquidity")


@dataclass(frozen=True, eq=False)
class LimitLevels:
    """Levels of Q limits over T days; NaN where a day has no such row: a category without assets, a day before any model.

    Attributes
    ----------
    dates : DatetimeIndex of length T
    names : tuple of str, length Q
        ``position`` (the largest absolute weight), ``gross``, ``net``, ``volatility`` (the
        risk model's forecast, per year), ``liquidity`` (days), then ``beta``, ``country:``, ``sector:`` and ``style:`` rows, as `docs/notation.md` names them.
    closing, drifted, before : ndarray of shape (T, Q)
        As the module says.
    unmodelled : ndarray of shape (T,)
        Gross of positions that the model in force does not hold: they are in position, gross and net and in no other row.
    unknown_volume : ndarray of shape (T,)
        Gross of positions without a known traded value.
    """

    dates: pd.DatetimeIndex
    names: tuple[str, ...]
    closing: FloatArray
    drifted: FloatArray
    before: FloatArray
    unmodelled: FloatArray
    unknown_volume: FloatArray


@dataclass(frozen=True, eq=False)
class _Rows:
    """A ruling's linear rows."""

    ruling: Ruling
    names: tuple[str, ...]
    matrix: FloatArray


@dataclass(frozen=True)
class Liquidation:
    """How fast positions are taken to be sold.

    Attributes
    ----------
    participation : float
        Share of each asset's daily traded value that may be ours.
    share : float
        Share of gross that is to be sold.
    """

    participation: float
    share: float


def limit_levels(
    book: DailyBook,
    drifted: FloatArray,
    rulings: Iterable[Ruling],
    liquidation: Liquidation,
) -> LimitLevels:
    """Return every limit's level on every day of a book.

    Parameters
    ----------
    drifted : ndarray of shape (T, N)
        As `drifted_weights` returns them.
    rulings : iterable of Ruling
        With labels.
    liquidation : Liquidation

    Raises
    ------
    DataError
        If rulings have no labels.
    """
    T, nav = len(book.dates), book.account["nav"].to_numpy(dtype=np.float64)
    unmodelled, unknown = np.abs(book.weights).sum(axis=1), np.zeros(T)
    parts: list[tuple[int, tuple[str, ...], FloatArray, FloatArray]] = []
    switches: list[tuple[int, tuple[str, ...], FloatArray]] = []
    old: _Rows | None = None
    for ruling in rulings:
        days = slice(ruling.first, ruling.stop)
        rows = _rows(ruling)
        held = book.weights[days][:, ruling.assets]
        parts.append(
            (
                ruling.first,
                rows.names,
                _levels(rows, held, nav[days], liquidation),
                _levels(rows, drifted[days][:, ruling.assets], nav[days], liquidation),
            )
        )
        if old is not None:
            yesterday = slice(ruling.first, ruling.first + 1)
            level = _levels(old, drifted[yesterday][:, old.ruling.assets], nav[yesterday], liquidation)
            switches.append((ruling.first, old.names, level))
        unmodelled[days] -= np.abs(held).sum(axis=1)
        unknown[days] = np.abs(held[:, ~_known(ruling)]).sum(axis=1)
        old = rows
    return _assembled(book, drifted, parts, switches, unmodelled, unknown)


def _assembled(
    book: DailyBook,
    drifted: FloatArray,
    parts: list[tuple[int, tuple[str, ...], FloatArray, FloatArray]],
    switches: list[tuple[int, tuple[str, ...], FloatArray]],
    unmodelled: FloatArray,
    unknown: FloatArray,
) -> LimitLevels:
    """Return the levels of all rulings side by side, each under its name."""
    names = sorted({name for _, present, _, _ in parts for name in present}, key=_order)
    column = {name: j for j, name in enumerate([*WHOLE_BOOK, *MODELLED, *names])}
    closing, moved = _whole_book(book.weights, len(column)), _whole_book(drifted, len(column))
    for first, present, at_close, untraded in parts:
        where = np.ix_(range(first, first + len(at_close)), [column[name] for name in (*MODELLED, *present)])
        closing[where], moved[where] = at_close, untraded
    before = moved.copy()
    for first, present, level in switches:
        before[first, len(WHOLE_BOOK) :] = np.nan
        before[first, [column[name] for name in (*MODELLED, *present)]] = level[0]
    return LimitLevels(
        dates=book.dates,
        names=tuple(column),
        closing=freeze(closing),
        drifted=freeze(moved),
        before=freeze(before),
        unmodelled=freeze(np.where(np.abs(unmodelled) < 1e-12, 0.0, unmodelled)),
        unknown_volume=freeze(unknown),
    )


def _order(name: str) -> tuple[int, str]:
    """Sort beta first, then countries, sectors and styles, each by name."""
    return (("beta", "country", "sector", "style").index(name.partition(":")[0]), name)


def _whole_book(weights: FloatArray, columns: int) -> FloatArray:
    levels = np.full((len(weights), columns), np.nan)
    size = np.abs(weights)
    levels[:, 0], levels[:, 1], levels[:, 2] = size.max(axis=1, initial=0.0), size.sum(axis=1), weights.sum(axis=1)
    return levels


def _rows(ruling: Ruling) -> _Rows:
    if ruling.country is None or ruling.sector is None:
        raise DataError("`rulings` have no labels, and limits by country and sector need them; give `facts`.")
    names, blocks = ["beta"], [ruling.beta()[:, None]]
    for family, labels in (("country", ruling.country), ("sector", ruling.sector)):
        codes, categories = pd.factorize(labels, sort=True)
        if len(categories) > 1:  # One category is net by another name.
            names += [f"{family}:{category}" for category in categories]
            blocks.append((codes[:, None] == np.arange(len(categories))).astype(np.float64))
    styles = [j for j, factor in enumerate(ruling.factors) if factor.startswith("style:")]
    names += [ruling.factors[j] for j in styles]
    blocks.append(ruling.exposures[:, styles])
    return _Rows(ruling, tuple(names), np.hstack(blocks))


def _levels(rows: _Rows, weights: FloatArray, nav: FloatArray, liquidation: Liquidation) -> FloatArray:
    """Return forecast volatility, days to liquidate and the linear rows of some days, shape (days, 2 + rows)."""
    volatility = np.sqrt(np.maximum(rows.ruling.variance(weights), 0.0))
    days = np.full(len(weights), np.nan)
    traded = rows.ruling.traded_value
    if traded is not None and _known(rows.ruling).any():
        capacity = liquidation.participation * np.where(_known(rows.ruling), traded, 0.0)
        for t, value in enumerate(np.abs(weights * nav[:, None])):
            days[t] = days_to_liquidate(value, capacity, liquidation.share)
    return np.column_stack([volatility, days, weights @ rows.matrix])


def _known(ruling: Ruling) -> npt.NDArray[np.bool_]:
    if ruling.traded_value is None:
        return np.zeros(len(ruling.assets), dtype=np.bool_)
    return ruling.traded_value > 0


def days_to_liquidate(value: FloatArray, capacity: FloatArray, share: float) -> float:
    """Return within how many days positions of a share of a book's gross are sold entirely, each at its own pace.

    One number of `risk.liquidity`, whose definition it follows, without the rest: it is wanted for every day of a run.

    Parameters
    ----------
    value : ndarray of shape (N,)
        Absolute position values, in money.
    capacity : ndarray of shape (N,)
        What may be sold of each in a day, in money; 0 where it cannot be sold.
    share : float

    Returns
    -------
    float
        0 for an empty book; infinite where positions that cannot be sold are needed to reach the share.

    Examples
    --------
    >>> days_to_liquidate(np.array([4.0, 6.0]), np.array([4.0, 1.0]), 0.4)
    1.0
    """
    held = value > 0
    if not held.any():
        return 0.0
    days = np.divide(value[held], capacity[held], out=np.full(int(held.sum()), np.inf), where=capacity[held] > 0)
    order = np.argsort(days)
    sold = np.cumsum(value[held][order])
    # A share that misses by rounding alone meets it.
    return float(days[order][np.searchsorted(sold, share * sold[-1] * (1 - 1e-12))])
