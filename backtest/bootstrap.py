"""Intervals of any statistic of a return series by the stationary bootstrap, which keeps dependence between days.

A resample strings together blocks of the series that start anywhere and whose lengths are geometric with mean b; the series is
taken as a circle, so that the resamples are stationary and every day is as likely. The block length is chosen from the series.

References: Politis, Romano (1994), The Stationary Bootstrap, JASA 89. Politis, White (2004), Automatic Block-Length Selection for
the Dependent Bootstrap, Econometric Reviews 23, with the correction of Patton, Politis, White (2009), Econometric Reviews 28.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from backtest.sharpe import excess_returns, sharpe_influence, sharpe_sample
from risk import DataError
from risk.checks import FloatArray, check_array
from risk.laws import check_series

__all__ = [
    "Interval",
    "bootstrap_interval",
    "sharpe_interval",
    "stationary_block_length",
    "stationary_indices",
]

_CHUNK = 1 << 20
"""Returns resampled at once, to bound memory."""
LEAST = 20


@dataclass(frozen=True)
class Interval:
    """A statistic with its bootstrap interval.

    Attributes
    ----------
    estimate, lower, upper, standard_error : float
        In the statistic's unit; the error is the standard deviation over resamples.
    level : float
    block_length : float
        Mean length of a block, in periods.
    resamples : int
    """

    estimate: float
    lower: float
    upper: float
    standard_error: float
    level: float
    block_length: float
    resamples: int


def stationary_block_length(series: npt.ArrayLike) -> float:
    """Return the mean block length with which the stationary bootstrap estimates the error of the mean best.

    Parameters
    ----------
    series : array_like of shape (T,)
        For another statistic than the mean give its influence series: a smooth statistic errs as the mean of that does.

    Returns
    -------
    float
        In periods, between 1 and min(3 sqrt(T), T/3); 1 where the series does not vary.

    Raises
    ------
    DataError
        If an entry is not finite or there are fewer than 20.

    Notes
    -----
    With R(k) the autocovariances (divisor T), lambda the flat-top window (1 up to 1/2, then falling to 0 at 1) and M twice
    the lag after which max(5, sqrt(log10 T)) autocorrelations in a row are within 2 sqrt(log10(T)/T) of 0,

        G = sum_{|k| <= M} lambda(k/M) |k| R(k)     g = sum_{|k| <= M} lambda(k/M) R(k)     b = (G^2/g^2)^(1/3) T^(1/3)

    Examples
    --------
    >>> noise = np.random.default_rng(0).standard_normal(1000)
    >>> persistent = np.convolve(noise, np.ones(10), mode="valid")
    >>> stationary_block_length(noise) < 5 < 10 < stationary_block_length(persistent)
    True
    """
    x = check_series("series", series, least=LEAST)
    T = len(x)
    if np.ptp(x) == 0.0:
        return 1.0
    run = max(5, math.ceil(math.sqrt(math.log10(T))))
    last = min(math.ceil(math.sqrt(T)) + run, T - 1)
    z = (x - x.mean()) / x.std()
    rho = np.array([z[k:] @ z[: T - k] for k in range(last + 1)]) / T
    M = min(2 * _cutoff(np.abs(rho[1:]), 2.0 * math.sqrt(math.log10(T) / T), run), last)
    k = np.arange(1, M + 1)
    window = np.minimum(1.0, 2.0 * (1.0 - k / M)) * rho[1 : M + 1]
    spectrum = 1.0 + 2.0 * float(window.sum())
    largest = min(3.0 * math.sqrt(T), T / 3.0)
    if spectrum <= 0:
        return largest
    slope = 2.0 * float((k * window).sum())
    return float(min(max(1.0, (slope**2 / spectrum**2 * T) ** (1.0 / 3.0)), largest))


def _cutoff(size: FloatArray, bound: float, run: int) -> int:
    """Return the smallest lag, at least 1, after which `run` autocorrelations in a row are small; else the last large one."""
    large = size >= bound
    for lag in range(len(large) - run + 1):
        if not large[lag : lag + run].any():
            return max(lag, 1)
    return int(np.flatnonzero(large)[-1]) + 1


def stationary_indices(
    periods: int, block_length: float, resamples: int, rng: np.random.Generator
) -> npt.NDArray[np.intp]:
    """Return the days of each resample, shape (resamples, periods): blocks of geometric length on a circle.

    Raises
    ------
    DataError
        If `periods` or `resamples` is below 1, or `block_length` is not between 1 and `periods`.
    """
    if periods < 1 or resamples < 1 or not 1 <= block_length <= periods:
        raise DataError(
            f"wanted periods and resamples of at least 1 and a block length from 1 to {periods}; got {periods}, {resamples} and "
            f"{block_length}."
        )
    shape = (resamples, periods)
    start = rng.integers(periods, size=shape)
    position = np.arange(periods)
    opens = rng.random(shape) * block_length < 1.0
    opens[:, 0] = True
    opened = np.maximum.accumulate(np.where(opens, position, 0), axis=1)
    return np.asarray((np.take_along_axis(start, opened, axis=1) + position - opened) % periods, dtype=np.intp)


def _resampled(
    rows: FloatArray,
    statistic: Callable[[FloatArray], FloatArray],
    *,
    block_length: float,
    resamples: int,
    seed: int,
) -> FloatArray:
    """Return a statistic of each stationary resample, shape (resamples,); parameters as of `bootstrap_interval`."""
    rng = np.random.default_rng(seed)
    chunk = max(1, _CHUNK // rows.size)
    parts = []
    for first in range(0, resamples, chunk):
        days = stationary_indices(len(rows), block_length, min(chunk, resamples - first), rng)
        parts.append(np.asarray(statistic(rows[days]), dtype=np.float64))
        if parts[-1].shape != days.shape[:1]:
            raise DataError(
                f"`statistic` must return one number for each resample, shape ({len(days)},); got {parts[-1].shape}."
            )
    return np.concatenate(parts)


def bootstrap_interval(
    returns: npt.ArrayLike,
    statistic: Callable[[FloatArray], FloatArray],
    *,
    block_length: float | None = None,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Interval:
    """Return a statistic of a return series with its interval.

    Parameters
    ----------
    returns : array_like of shape (T,) or (T, K)
        T at least 20. Series side by side are resampled by the same days.
    statistic : callable
        From samples of shape (B, T), or (B, T, K), to the statistic of each, shape (B,).
    block_length : float, optional
        Mean length in periods. Where not given, the largest `stationary_block_length` of the series and of their squares.
    level : float
        Between 0.5 and 1, ends excluded.
    resamples, seed : int

    Raises
    ------
    DataError
        If an entry of `returns` or the statistic of a resample is not finite, T is below 20, or an argument is out of range.

    Notes
    -----
    Percentile interval: the (1 - level)/2 and (1 + level)/2 quantiles of the statistic over resamples. Where a statistic depends on
    the order of days over longer spans than a block, as a drawdown does, resamples break those spans up.

    Examples
    --------
    >>> gains = np.random.default_rng(0).normal(1.0, 2.0, 400)
    >>> found = bootstrap_interval(gains, lambda sample: sample.mean(axis=1), seed=1)
    >>> found.lower < 1.0 < found.upper, round(found.standard_error, 2)
    (True, 0.1)
    """
    rows = check_array("returns", returns, np.shape(returns))
    if rows.ndim not in (1, 2) or len(rows) < LEAST or rows.size == 0:
        raise DataError(f"`returns` must have shape (T,) or (T, K) with T at least {LEAST}; got {rows.shape}.")
    if not 0.5 < level < 1:
        raise DataError(f"`level` must lie between 0.5 and 1, as 0.95; got {level!r}.")
    if resamples < 2:
        raise DataError(f"`resamples` must be at least 2; got {resamples}.")
    if block_length is None:
        columns = rows.reshape(len(rows), -1).T
        block_length = max(stationary_block_length(v) for x in columns for v in (x, (x - x.mean()) ** 2))
    values = _resampled(rows, statistic, block_length=block_length, resamples=resamples, seed=seed)
    estimate = float(np.asarray(statistic(rows[None]), dtype=np.float64)[0])
    bad = int((~np.isfinite(values)).sum())
    if bad or not math.isfinite(estimate):
        raise DataError(
            f"`statistic` must be finite; it is {estimate} of the returns and not finite in {bad} of {resamples} resamples."
        )
    lower, upper = np.quantile(values, [(1.0 - level) / 2.0, (1.0 + level) / 2.0])
    error = float(values.std(ddof=1))
    return Interval(estimate, float(lower), float(upper), error, level, float(block_length), resamples)


def sharpe_interval(
    returns: npt.ArrayLike,
    *,
    risk_free: npt.ArrayLike | None = None,
    periods_per_year: float = 252,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Interval:
    """Return the Sharpe ratio per year with its interval; the block length is that of its influence series.

    Parameters
    ----------
    returns : array_like of shape (T,)
        Per period, T at least 20.
    risk_free : array_like of shape (T,), optional
        Rate per period; 0 where not given.
    periods_per_year, level, resamples, seed
        As for `sharpe_ratio` and `bootstrap_interval`.

    Raises
    ------
    DataError
        As `sharpe_sample` and `bootstrap_interval`.

    Examples
    --------
    >>> gains = np.random.default_rng(0).normal(0.0005, 0.01, 1000)
    >>> found = sharpe_interval(gains)
    >>> round(found.estimate, 2), round(found.standard_error, 2)
    (0.03, 0.51)
    """
    x = excess_returns(returns, risk_free)
    sharpe_sample(x)
    block, root = stationary_block_length(sharpe_influence(x)), math.sqrt(periods_per_year)

    def ratio(sample: FloatArray) -> FloatArray:
        return np.asarray(sample.mean(axis=1) / sample.std(axis=1, ddof=1) * root)

    return bootstrap_interval(x, ratio, block_length=block, level=level, resamples=resamples, seed=seed)
