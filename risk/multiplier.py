"""Volatility-regime multiplier: by how much all is more, or less, volatile of late than the forecasts said.

For each day t, the cross-sectional bias statistic compares what came with the exponentially weighted variances s^2 that
were known before that day, over all series k at once:

    B_t^2 = sum_k c_k y_kt^2 / a_k  /  sum_k c_k s_kt^2 / a_k,        lambda^2 = sum_t u_t B_t^2

with c the weights of the cross-section, a_k the plain mean square of series k (so that each counts in its own unit) and u
exponential weights of a short half-life. Forecast variances are multiplied by lambda^2. One common number can react in
weeks, as many series speak for it; their own variances cannot.

A mean of ratios y^2/s^2, the usual form, is too high by the noise of each s: for Student returns of 4 degrees of freedom
and a half-life of 42 days by 5 to 8 % of the variance. The ratio of two means is not.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from risk.checks import BoolArray, FloatArray
from risk.moments import exponential_weights

__all__ = ["CUT", "RegimeMultiplier", "regime_multiplier"]

CUT = 10.0
_MINIMUM_DAYS = 63
_WINDOW_HALF_LIVES = 5
_BLOCK = 64


@dataclass(frozen=True)
class RegimeMultiplier:
    """A multiplier of variances.

    Attributes
    ----------
    variance : float
        lambda^2; 1 where no day counts.
    days : int
        Days that count: some series had its 63 days before them.
    cut : int
        Returns cut at ten times what they were forecast to be, on that day.
    """

    variance: float
    days: int
    cut: int


@dataclass(frozen=True, eq=False)
class _State:
    """What is known of each series before a day: decayed sums of squares and of presence, days, plain sum of squares."""

    total: FloatArray
    weight: FloatArray
    days: FloatArray
    plain: FloatArray


def _state_before(returns: FloatArray, known: BoolArray, decay: float, first: int) -> _State:
    weights = decay ** np.arange(first - 1, -1, -1)
    total, weight, days, plain = np.zeros((4, returns.shape[1]))
    for start in range(0, first, _BLOCK):  # blocks that stay in the processor's cache
        rows = slice(start, min(start + _BLOCK, first))
        square, present = returns[rows] ** 2, known[rows].astype(np.float64)
        total += weights[rows] @ square
        weight += weights[rows] @ present
        days += present.sum(axis=0)
        plain += square.sum(axis=0)
    return _State(total, weight, days, plain)


def _variances_before(squares: FloatArray, known: FloatArray, decay: float, state: _State) -> FloatArray:
    """Return the exponentially weighted variances known before each day, shape (T, n), from the state before the first.

    0 for a series with fewer than 63 known days by then.
    """
    total, weight, days = state.total.copy(), state.weight.copy(), state.days.copy()
    result = np.zeros(squares.shape)
    for row, square, present in zip(result, squares, known, strict=True):
        np.divide(total, weight, out=row, where=days >= _MINIMUM_DAYS)
        total *= decay
        total += square
        weight *= decay
        weight += present
        days += present
    return result


def _cut_squares(squares: FloatArray, variances: FloatArray) -> tuple[FloatArray, int]:
    """Return squares of at most (10 r)^2 variances, and how many were cut; variances of 0 do not count.

    r^2 is the day's mean of squares over variances, each first cut at 10^2, and at least 1: what all series do on a day
    of crisis is kept, what one does is not.
    """
    ratios = np.divide(squares, variances, out=np.zeros_like(squares), where=variances > 0)
    counts = np.maximum((variances > 0).sum(axis=1), 1)
    limit = CUT**2 * np.maximum(1.0, np.minimum(ratios, CUT**2).sum(axis=1) / counts)[:, None]
    return np.minimum(ratios, limit) * variances, int((ratios > limit).sum())


def regime_multiplier(
    returns: FloatArray, known: BoolArray, weights: FloatArray, volatility_half_life: float, half_life: float
) -> RegimeMultiplier:
    """Return the multiplier lambda^2 of the module's formula.

    Parameters
    ----------
    returns : ndarray of shape (T, n)
        Per day, oldest first; 0 where not known.
    known : bool ndarray of shape (T, n)
        A series counts only on days that it is known, with 63 known days before them.
    weights : ndarray of shape (n,)
        c above, not negative.
    volatility_half_life : float
        Of the variances s^2.
    half_life : float
        Of the weights u, over the last five half-lives.

    References
    ----------
    Menchero, Orr, Wang (2011), The Barra US Equity Model (USE4), Methodology Notes, sections 4 and 5.
    """
    first = max(0, len(returns) - int(_WINDOW_HALF_LIVES * half_life))
    decay = 0.5 ** (1 / volatility_half_life)
    state = _state_before(returns, known, decay, first)
    squares, present = returns[first:] ** 2, known[first:].astype(np.float64)
    before = _variances_before(squares, present, decay, state) * (present * (weights > 0))
    unit = (state.plain + squares.sum(axis=0)) / np.maximum(state.days + present.sum(axis=0), 1.0)
    share = np.divide(weights, unit, out=np.zeros_like(unit), where=unit > 0)
    kept, cut = _cut_squares(squares, before)
    came, forecast = kept @ share, before @ share
    valid = forecast > 0
    if not valid.any():
        return RegimeMultiplier(1.0, 0, cut)
    recent = exponential_weights(len(came), half_life)[valid]
    return RegimeMultiplier(float(recent @ (came[valid] / forecast[valid]) / recent.sum()), int(valid.sum()), cut)
