"""Does the best trial in one half of the days stay good in the other? Probability of backtest overfitting by CSCV.

Combinatorially symmetric cross-validation: the days are cut into S blocks of successive days; every choice of S/2 of them is once the
half in which the best of n trials is picked, and the rest the half in which it is judged by its rank among all trials. With rank r
(1 the worst) of the pick in the judging half,

    omega = r/(n + 1)      logit = ln(omega/(1 - omega))      PBO = share of halves with logit < 0, those at 0 counted half

Trials without skill give 0.5 in the mean, whatever their law and however they depend on one another, as long as none is special and
the days are independent. A trial that is truly better brings it down; above 0.5 the pick is chosen for what does not last.

Reference: Bailey, Borwein, Lopez de Prado, Zhu (2017), The Probability of Backtest Overfitting, Journal of Computational Finance 20(4).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations, islice
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from backtest.sharpe import check_trials
from risk import DataError
from risk.checks import FloatArray, freeze

__all__ = ["BacktestOverfitting", "probability_of_overfitting"]

_CHUNK = 1 << 18
"""Ratios held at once, to bound memory and stay in the cache."""
_CONSTANT = 1e-10
"""Share of its second moment below which the variance of a half is rounding."""


class _Picks(NamedTuple):
    """The best trial of each half: its rank in the other half, its ratios in both, its column."""

    rank: FloatArray
    in_sample: FloatArray
    out_of_sample: FloatArray
    selected: npt.NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class BacktestOverfitting:
    """How the best trials of halves of the days fared in the other halves.

    Attributes
    ----------
    probability : float
        PBO: share of halves whose pick ranks below the median of all trials in the other half. The halves overlap, so their number
        is no sample size: with trials without skill one data set's PBO lies far from 0.5 by chance (`benchmarks/noise_strategies.py`).
    logits : ndarray of shape (C,)
        Of the pick's relative rank, one for each of the C halves.
    selected : ndarray of shape (C,)
        Column of the pick.
    in_sample, out_of_sample : ndarray of shape (C,)
        Its Sharpe ratio per period in the half where it was picked, and in the other.
    slope, intercept : float
        Of `out_of_sample` on `in_sample`, ordinary least squares; NaN where the latter does not vary. A pick's two ratios sum to about
        twice its ratio of all days, so that the slope tends to -1 where one trial is picked in most halves, skilled or not.
    probability_of_loss : float
        Share of halves whose pick has a ratio below 0 in the other.
    blocks, trials : int
    undefined : int
        Ratios of a trial that did not vary over a half: there it counts as 0.
    """

    probability: float
    logits: FloatArray
    selected: npt.NDArray[np.intp]
    in_sample: FloatArray
    out_of_sample: FloatArray
    slope: float
    intercept: float
    probability_of_loss: float
    blocks: int
    trials: int
    undefined: int


def probability_of_overfitting(returns: npt.ArrayLike, *, blocks: int = 16) -> BacktestOverfitting:
    """Return the probability of backtest overfitting of a set of trials, judged by their Sharpe ratios.

    Parameters
    ----------
    returns : array_like of shape (T, n)
        Per period, a column for each trial that was made, n at least 2; over the risk-free rate where that is wanted.
    blocks : int
        S, even, between 2 and T/2. Where it does not divide T, the first blocks are a day longer.

    Raises
    ------
    DataError
        If a return is not finite, there is one trial, a trial does not vary, or `blocks` is odd or out of range.

    Notes
    -----
    A half's ratio follows from its blocks' sums and sums of squares: C = S!/(S/2)!^2 halves (12,870 for 16) of n trials cost two
    products of (C/2, S) by (S, n), done in pieces of bounded memory.

    Examples
    --------
    >>> days = np.random.default_rng(0).standard_normal((400, 20))
    >>> skilled = days + np.where(np.arange(20) == 7, 0.3, 0.0)
    >>> found = probability_of_overfitting(skilled, blocks=8)
    >>> found.probability, int(np.bincount(found.selected).argmax())
    (0.0, 7)
    """
    r = check_trials(returns)
    T, n = r.shape
    _check(r, blocks)
    sizes = np.full(blocks, T // blocks)
    sizes[: T % blocks] += 1
    starts = np.cumsum(sizes) - sizes
    mean = r.mean(axis=0)
    centred = r - mean
    # About each trial's mean: no digits are lost where the mean is large beside the deviations.
    sums = np.add.reduceat(centred, starts, axis=0)
    squares = np.add.reduceat(centred**2, starts, axis=0)
    chunk = max(1, _CHUNK // n)
    parts: list[_Picks] = []
    undefined = 0
    for half in _halves(blocks, chunk):
        first, empty = _ratios(half, sums, squares, sizes, mean)
        second, empty_too = _ratios(1.0 - half, sums, squares, sizes, mean)
        parts += [_pick(first, second), _pick(second, first)]
        undefined += empty + empty_too
    ranks, inside, outside = (np.concatenate(column) for column in zip(*(part[:3] for part in parts), strict=True))
    selected = np.concatenate([part.selected for part in parts])
    logits = np.log(ranks / (n + 1 - ranks))
    slope, intercept = _line(inside, outside)
    return BacktestOverfitting(
        probability=float((logits < 0).mean() + 0.5 * (logits == 0).mean()),
        logits=freeze(logits),
        selected=freeze(selected),
        in_sample=freeze(inside),
        out_of_sample=freeze(outside),
        slope=slope,
        intercept=intercept,
        probability_of_loss=float((outside < 0).mean()),
        blocks=blocks,
        trials=n,
        undefined=undefined,
    )


def _check(returns: FloatArray, blocks: int) -> None:
    T, n = returns.shape
    if n < 2:
        raise DataError("`returns` must hold at least 2 trials: with one there is nothing to choose.")
    if blocks != int(blocks) or blocks % 2 or not 2 <= blocks <= T / 2:
        raise DataError(f"`blocks` must be an even number from 2 to T/2 = {T // 2}; got {blocks!r}.")
    constant = np.flatnonzero(np.ptp(returns, axis=0) == 0.0)
    if len(constant):
        raise DataError(f"`returns`: trial {constant[0]} and {len(constant)} in all do not vary. Leave them out.")


def _halves(blocks: int, chunk: int) -> Iterator[FloatArray]:
    """Yield membership of blocks, (at most `chunk`, S), of the halves that hold block 0; their complements are the others."""
    chosen = combinations(range(1, blocks), blocks // 2 - 1)
    while rows := list(islice(chosen, chunk)):
        half = np.zeros((len(rows), blocks))
        half[:, 0] = 1.0
        np.put_along_axis(half, np.array(rows, dtype=np.intp).reshape(len(rows), -1), 1.0, axis=1)
        yield half


def _ratios(
    half: FloatArray, sums: FloatArray, squares: FloatArray, sizes: npt.NDArray[np.intp], mean: FloatArray
) -> tuple[FloatArray, int]:
    """Return each trial's Sharpe ratio over each half, and the number of those that are undefined and set to 0."""
    days = (half @ sizes)[:, None]
    drift = half @ sums
    drift /= days
    second = half @ squares
    second /= days
    variance = second - drift**2
    constant = variance <= _CONSTANT * second
    empty = int(constant.sum())
    if empty:
        variance[constant] = math.inf
    variance *= days / (days - 1.0)
    drift += mean
    drift /= np.sqrt(variance, out=variance)
    return drift, empty


def _pick(inside: FloatArray, outside: FloatArray) -> _Picks:
    """Return the best trial of each half by the ratios in it, and how it ranks in the other half (ties at their mean)."""
    pick = inside.argmax(axis=1)
    row = np.arange(len(pick))
    value = outside[row, pick]
    below = np.count_nonzero(outside < value[:, None], axis=1)
    not_above = np.count_nonzero(outside <= value[:, None], axis=1)
    return _Picks((below + not_above + 1) / 2.0, inside[row, pick], value, pick)


def _line(x: FloatArray, y: FloatArray) -> tuple[float, float]:
    """Return slope and intercept of y on x."""
    if np.ptp(x) == 0.0:
        return math.nan, math.nan
    centred = x - x.mean()
    slope = float(centred @ y / (centred @ centred))
    return slope, float(y.mean() - slope * x.mean())
