"""Volatility-regime multiplier: is everything more, or less, volatile of late than the forecasts said?

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
        Returns cut at ten times the day's robust deviation.
    """

    variance: float
    days: int
    cut: int


def _variances_before(squares: FloatArray, known: FloatArray, half_life: float, first: int) -> FloatArray:
    """Return exponentially weighted variances known before each day from `first` on, shape (T - first, n).

    NaN for a series with fewer than 63 known days by then.
    """
    decay = 0.5 ** (1 / half_life)
    weights = decay ** np.arange(first - 1, -1, -1)
    total, weight = weights @ squares[:first], weights @ known[:first]
    days = known[:first].sum(axis=0)
    result = np.full((len(squares) - first, squares.shape[1]), np.nan)
    for row, square, present in zip(result, squares[first:], known[first:], strict=True):
        np.divide(total, weight, out=row, where=days >= _MINIMUM_DAYS)
        total, weight, days = decay * total + square, decay * weight + present, days + present
    return result


def _cut_ratios(ratios: FloatArray) -> tuple[FloatArray, int]:
    """Return squared returns over variances, cut at (10 r)^2, and how many were.

    r is 1.4826 times the day's median of |y|/s, and at least 1, so that a calm day cuts nothing. NaN where not known.
    """
    ordered = np.sort(ratios, axis=1)
    middle = np.maximum(np.isfinite(ratios).sum(axis=1) - 1, 0) // 2
    median = np.nan_to_num(ordered[np.arange(len(ratios)), middle])
    limit = CUT**2 * np.maximum(1.0, 1.4826**2 * median)[:, None]
    return np.minimum(ratios, limit), int((ratios > limit).sum())


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
    squares, present = returns * returns, known.astype(np.float64)
    unit = squares.sum(axis=0) / np.maximum(present.sum(axis=0), 1.0)
    counted = (weights > 0) & (unit > 0)
    if not counted.all():
        squares, present, unit, weights = squares[:, counted], present[:, counted], unit[counted], weights[counted]
    before = _variances_before(squares, present, volatility_half_life, first)
    before[(present[first:] == 0) | ~(before > 0)] = np.nan
    ratios, cut = _cut_ratios(squares[first:] / before)
    share = weights / unit
    came, forecast = np.nan_to_num(ratios * before) @ share, np.nan_to_num(before) @ share
    valid = forecast > 0
    if not valid.any():
        return RegimeMultiplier(1.0, 0, cut)
    recent = exponential_weights(len(came), half_life)[valid]
    return RegimeMultiplier(float(recent @ (came[valid] / forecast[valid]) / recent.sum()), int(valid.sum()), cut)
