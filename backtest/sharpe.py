"""The Sharpe ratio as an estimate, with its error; `backtest.sharpe_tests` says what it proves.

For T returns per period with mean m, standard deviation s (divisor T - 1), skewness g3 and kurtosis g4 (3 for a normal law),

    S = m/s        se(S)^2 = (1 - g3 S + (g4 - 1) S^2/4) / (T - 1)

Everything of a `SharpeSample` is **per period**; a ratio per year is that of a period times the root of the periods in a year.

References: Lo (2002), The Statistics of Sharpe Ratios, Financial Analysts Journal 58(4). Mertens (2002), Comments on Variance of
the IID Estimator in Lo. Bailey, Lopez de Prado (2012), The Sharpe Ratio Efficient Frontier, Journal of Risk 15(2).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import kurtosis, skew

from risk import DataError
from risk.checks import FloatArray, check_array
from risk.laws import check_series
from risk.losses import default_lags, mean_and_error

__all__ = [
    "SharpeSample",
    "adjusted_sharpe_ratio",
    "aggregation_factor",
    "check_trials",
    "excess_returns",
    "robust_sharpe_error",
    "sharpe_influence",
    "sharpe_ratio",
    "sharpe_ratios",
    "sharpe_sample",
]

LEAST = 4
"""Returns without which there is no kurtosis."""


@dataclass(frozen=True)
class SharpeSample:
    """What is known of a Sharpe ratio, per period.

    Attributes
    ----------
    ratio : float
        Mean over standard deviation (divisor T - 1).
    skewness, kurtosis : float
        Third and fourth standardised moments (divisor T); the kurtosis of a normal law is 3.
    periods : int
        T.
    """

    ratio: float
    skewness: float
    kurtosis: float
    periods: int

    @property
    def standard_error(self) -> float:
        """Standard error for independent returns of any law with these moments (Mertens 2002), divisor T - 1."""
        # Never negative for moments of a sample, whose kurtosis is at least 1 + skewness^2.
        spread = 1.0 - self.skewness * self.ratio + (self.kurtosis - 1.0) / 4.0 * self.ratio**2
        if spread < 0:
            raise DataError(f"kurtosis {self.kurtosis} is below 1 + {self.skewness}^2: no law has these moments.")
        return math.sqrt(spread / (self.periods - 1))


def excess_returns(returns: npt.ArrayLike, risk_free: npt.ArrayLike | None = None) -> FloatArray:
    """Return returns per period over the risk-free rate per period; as they are where none is given.

    Parameters
    ----------
    returns : array_like of shape (T,)
    risk_free : array_like of shape (T,), optional
        Simple rate earned over the same periods, not annual.

    Raises
    ------
    DataError
        If an entry is not finite or the lengths differ.
    """
    r = check_series("returns", returns)
    return r if risk_free is None else np.asarray(r - check_array("risk_free", risk_free, r.shape))


def sharpe_ratio(
    returns: npt.ArrayLike, *, risk_free: npt.ArrayLike | None = None, periods_per_year: float = 252
) -> float:
    """Return the Sharpe ratio per year: mean over standard deviation (divisor T - 1), times the root of the periods in a year.

    Parameters
    ----------
    returns : array_like of shape (T,)
        Per period, T at least 2.
    risk_free : array_like of shape (T,), optional
        Rate per period; 0 where not given.
    periods_per_year : float

    Returns
    -------
    float
        NaN where the returns do not vary.

    Raises
    ------
    DataError
        If an entry is not finite, the lengths differ or T is below 2.

    Examples
    --------
    >>> round(sharpe_ratio([0.01, -0.02, 0.03, 0.00], periods_per_year=12), 3)
    0.832
    """
    x = check_series("returns", excess_returns(returns, risk_free), least=2)
    return float(_ratios(x[:, None])[0] * math.sqrt(_year(periods_per_year)))


def sharpe_ratios(returns: npt.ArrayLike, *, periods_per_year: float = 252) -> FloatArray:
    """Return the Sharpe ratio per year of each trial, (n,), from returns of shape (T, n); NaN where a trial does not vary."""
    return np.asarray(_ratios(check_trials(returns)) * math.sqrt(_year(periods_per_year)))


def check_trials(returns: npt.ArrayLike, *, least: int = 2) -> FloatArray:
    """Return `returns` as a finite array of shape (T, n) with T at least `least` and n at least 1.

    Raises
    ------
    DataError
        If it has another shape or an entry is not finite.
    """
    r = check_array("returns", returns, np.shape(returns))
    if r.ndim != 2 or len(r) < least or r.shape[1] < 1:
        raise DataError(
            f"`returns` must have shape (T, n), a column for each trial, T at least {least}; got {r.shape}."
        )
    return r


def _ratios(returns: FloatArray) -> FloatArray:
    """Return the ratio per period of each column."""
    # The spread, not the standard deviation, tells a constant: rounding leaves the latter at 1e-19 and the ratio at 1e16.
    varies = np.ptp(returns, axis=0) > 0.0
    ratio = np.full(returns.shape[1], np.nan)
    np.divide(returns.mean(axis=0), returns.std(axis=0, ddof=1), out=ratio, where=varies)
    return ratio


def _year(periods_per_year: float) -> float:
    if not 0 < periods_per_year < math.inf:
        raise DataError(f"`periods_per_year` must be positive, as 252 for days; got {periods_per_year!r}.")
    return periods_per_year


def sharpe_sample(returns: npt.ArrayLike, *, risk_free: npt.ArrayLike | None = None) -> SharpeSample:
    """Return the Sharpe ratio per period with the moments on which its error depends.

    Parameters
    ----------
    returns : array_like of shape (T,)
        Per period, T at least 4.
    risk_free : array_like of shape (T,), optional
        Rate per period; 0 where not given.

    Raises
    ------
    DataError
        If an entry is not finite, the lengths differ, there are fewer than 4 returns, or they do not vary.

    Examples
    --------
    >>> sample = sharpe_sample([0.01, -0.02, 0.03, 0.00])
    >>> round(sample.ratio, 3), round(sample.standard_error, 3), sample.periods
    (0.24, 0.581, 4)
    """
    x = _check_varying(excess_returns(returns, risk_free))
    scale = x / np.abs(x).max()
    return SharpeSample(float(_ratios(x[:, None])[0]), float(skew(scale)), float(kurtosis(scale, fisher=False)), len(x))


def robust_sharpe_error(returns: npt.ArrayLike, lags: int | None = None) -> float:
    """Return the standard error of the ratio per period for returns of any law whose values may depend on past ones.

    Parameters
    ----------
    returns : array_like of shape (T,)
        Per period, over the risk-free rate.
    lags : int, optional
        Of the Bartlett kernel; 4 (T/100)^(2/9) rounded down where not given.

    Raises
    ------
    DataError
        If an entry is not finite, there are fewer than 4 returns or they do not vary, or `lags` is not in 0 ... T - 1.

    Notes
    -----
    The ratio is a smooth function of the first two moments, so its error is that of the mean of its influence series

        u_t = z_t - (S/2)(z_t^2 - 1)        z_t = (r_t - m)/s

    by Newey and West (Lo 2002, generalised method of moments). Without lags it is the standard error of `SharpeSample`
    (there s has the divisor T - 1, here T).
    """
    x = _check_varying(returns)
    return mean_and_error(sharpe_influence(x), _check_lags(lags, len(x)))[1]


def sharpe_influence(returns: FloatArray) -> FloatArray:
    """Return u_t of `robust_sharpe_error`, shape (T,): what each return adds to T times the ratio's error."""
    z = (returns - returns.mean()) / returns.std()
    return np.asarray(z - 0.5 * returns.mean() / returns.std() * (z**2 - 1.0))


def _check_varying(returns: npt.ArrayLike) -> FloatArray:
    x = check_series("returns", returns, least=LEAST)
    if np.ptp(x) == 0.0:
        raise DataError(f"`returns` must vary for a Sharpe ratio; all {len(x)} are {x[0]:.6g}. Leave the series out.")
    return x


def _check_lags(lags: int | None, periods: int) -> int:
    if lags is None:
        return default_lags(periods)
    if not 0 <= lags < periods:
        raise DataError(f"`lags` must lie between 0 and {periods - 1}; got {lags}.")
    return lags


def aggregation_factor(autocorrelations: npt.ArrayLike, periods: int) -> float:
    """Return Lo's factor from a Sharpe ratio per period to one of `periods` periods, for returns that depend on past ones.

    Parameters
    ----------
    autocorrelations : array_like of shape (L,)
        Of lags 1 ... L; those beyond are 0.
    periods : int
        q, as 12 from months to a year.

    Returns
    -------
    float
        NaN where the autocorrelations imply a variance of the sum of q returns that is not positive.

    Raises
    ------
    DataError
        If an autocorrelation is not finite or not between -1 and 1, or `periods` is below 1.

    Notes
    -----
    eta(q) = q / sqrt(q + 2 sum_{k=1}^{q-1} (q - k) rho_k), the root of q where there is no autocorrelation (Lo 2002).

    Examples
    --------
    >>> round(aggregation_factor([], 12), 3), round(aggregation_factor([0.2], 12), 3)
    (3.464, 2.963)
    """
    rho = check_array("autocorrelations", autocorrelations, np.shape(autocorrelations))
    if rho.ndim != 1 or (np.abs(rho) > 1).any():
        raise DataError(f"`autocorrelations` must be a list of numbers between -1 and 1; got {rho}.")
    if periods != int(periods) or periods < 1:
        raise DataError(f"`periods` must be a whole number of at least 1; got {periods!r}.")
    used = rho[: periods - 1]
    variance = periods + 2.0 * float(((periods - np.arange(1, len(used) + 1)) * used).sum())
    return periods / math.sqrt(variance) if variance > 0 else math.nan


def adjusted_sharpe_ratio(returns: npt.ArrayLike, *, lags: int | None = None, periods_per_year: int = 252) -> float:
    """Return the Sharpe ratio per year with Lo's correction for autocorrelated returns.

    Parameters
    ----------
    returns : array_like of shape (T,)
        Per period, over the risk-free rate.
    lags : int, optional
        Autocorrelations taken from the sample; 4 (T/100)^(2/9) rounded down where not given. Those beyond count as 0: with daily
        returns the 251 of a year would be mostly noise.
    periods_per_year : int
        Whole number of periods.

    Returns
    -------
    float
        NaN where the returns do not vary, or as `aggregation_factor`.

    Raises
    ------
    DataError
        If an entry is not finite, there are fewer than 4 returns, or `lags` is not in 0 ... T - 1.

    Examples
    --------
    >>> gains = [0.01, 0.02, 0.01, -0.01, -0.02, -0.01, 0.02, 0.03]
    >>> adjusted_sharpe_ratio(gains, lags=1, periods_per_year=12) < sharpe_ratio(gains, periods_per_year=12)
    True
    """
    x = check_series("returns", returns, least=LEAST)
    lags = _check_lags(lags, len(x))
    if np.ptp(x) == 0.0:
        return math.nan
    z = x - x.mean()
    rho = np.array([z[k:] @ z[: len(z) - k] for k in range(1, lags + 1)]) / (z @ z)
    return sharpe_ratio(x, periods_per_year=1) * aggregation_factor(rho, periods_per_year)
