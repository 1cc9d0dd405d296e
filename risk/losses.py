"""Losses of forecasts of variance, and whether one forecaster loses less than another.

Arrays are (T,) for one book or (T, P) for P books on the same dates.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import t as student

from risk.checks import DataError, FloatArray, check_array, freeze

__all__ = [
    "LossComparison",
    "check_books",
    "check_positive",
    "compare_losses",
    "default_lags",
    "mean_and_error",
    "qlike",
]


@dataclass(frozen=True)
class LossComparison:
    """Diebold and Mariano's test of two forecasters by their losses.

    Attributes
    ----------
    mean_difference : float
        Loss of the first less that of the second: positive where the second is better.
    standard_error : float
        Newey-West.
    statistic, p_value : float
        Two-sided, Student-t with T - 1 degrees of freedom.
    periods, lags : int
    """

    mean_difference: float
    standard_error: float
    statistic: float
    p_value: float
    periods: int
    lags: int


def check_books(name: str, value: npt.ArrayLike) -> FloatArray:
    """Return `value` as a finite read-only array of shape (T,) or (T, P).

    Raises
    ------
    DataError
        If it has another number of dimensions, is empty, or an entry is no finite number.
    """
    array = check_array(name, value, np.shape(value))
    if array.ndim not in (1, 2) or 0 in array.shape:
        raise DataError(f"`{name}` must have shape (T,) or (T, P); got {array.shape}.")
    return array


def check_positive(name: str, value: npt.ArrayLike, shape: tuple[int, ...]) -> FloatArray:
    """Return `value` as an array of exactly `shape` and above 0.

    Raises
    ------
    DataError
        If the shape differs or an entry is not finite or not positive.
    """
    array = check_array(name, value, shape)
    if (array <= 0).any():
        where = tuple(int(i) for i in np.argwhere(array <= 0)[0])
        raise DataError(
            f"`{name}` must be positive; got {array[where]:.4g} at position {where}. An empty book has no risk to judge: "
            "leave out its dates."
        )
    return array


def default_lags(periods: int) -> int:
    """Return Newey and West's lags for a series of T periods, 4 (T/100)^(2/9) rounded down.

    Examples
    --------
    >>> default_lags(100), default_lags(1000)
    (4, 6)
    """
    return math.floor(4 * math.pow(periods / 100, 2 / 9))


def mean_and_error(series: npt.ArrayLike, lags: int) -> tuple[float, float]:
    """Return the mean of a series and its Newey-West standard error, scaled by T/(T - 1); 0 where nothing varies.

    Parameters
    ----------
    series : array_like of shape (T,)
    lags : int
        Of the Bartlett kernel, below T.

    References
    ----------
    Newey, West (1987), A Simple, Positive Semi-definite, Heteroskedasticity and Autocorrelation Consistent Covariance
    Matrix, Econometrica 55.
    """
    from statsmodels.regression.linear_model import OLS

    x = np.asarray(series, dtype=np.float64)
    mean = float(x.mean())
    if np.ptp(x) == 0:
        return float(x[0]), 0.0
    fit = OLS(x, np.ones(len(x))).fit(cov_type="HAC", cov_kwds={"maxlags": lags, "use_correction": True})
    return mean, float(fit.bse[0])


def qlike(realised_variance: npt.ArrayLike, forecast_variance: npt.ArrayLike) -> FloatArray:
    """Return the QLIKE loss of a forecast of variance, log h + v/h, entry by entry; lower is better.

    Parameters
    ----------
    realised_variance : array_like of shape (T,) or (T, P)
        v >= 0, as the squared return times periods per year: an unbiased proxy keeps the ranking of forecasts.
    forecast_variance : array_like of the same shape
        h > 0, same unit.

    Raises
    ------
    DataError
        If shapes disagree, an entry is not finite, v is negative or h not positive.

    Notes
    -----
    Patton's v/h - log(v/h) - 1 differs from it by log v + 1, which no forecast changes and which is infinite on a day of no
    return. Its mean is least for h = E v.

    References
    ----------
    Patton (2011), Volatility Forecast Comparison Using Imperfect Volatility Proxies, Journal of Econometrics 160.

    Examples
    --------
    >>> qlike([0.04], [0.04]).round(4).tolist()
    [-2.2189]
    """
    v = check_books("realised_variance", realised_variance)
    h = check_positive("forecast_variance", forecast_variance, v.shape)
    if (v < 0).any():
        raise DataError(f"`realised_variance` must not be negative; its lowest entry is {v.min():.4g}.")
    return freeze(np.log(h) + v / h)


def compare_losses(
    first: npt.ArrayLike, second: npt.ArrayLike, *, horizon: int = 1, lags: int | None = None
) -> LossComparison:
    """Return Diebold and Mariano's test of whether two forecasters lose the same on average.

    Parameters
    ----------
    first, second : array_like of shape (T,) or (T, P)
        Losses on the same dates, as `qlike` gives them; those of several books are averaged date by date.
    horizon : int
        Rows that a return spans: 20 for 20-day returns of every day.
    lags : int, optional
        Of Newey-West; by default the larger of horizon - 1 and 4 (T/100)^(2/9), for losses cluster with volatility.

    Raises
    ------
    DataError
        If shapes disagree, an entry is not finite, or there are not more rows than lags plus 1.

    References
    ----------
    Diebold, Mariano (1995), Comparing Predictive Accuracy, Journal of Business and Economic Statistics 13.
    """
    a = check_books("first", first)
    difference = a - check_array("second", second, a.shape)
    d = difference.mean(axis=1) if difference.ndim == 2 else difference
    T = len(d)
    count = max(horizon - 1, default_lags(T)) if lags is None else lags
    if count < 0 or count + 1 >= T:
        raise DataError(f"`lags` must lie between 0 and T - 2 = {T - 2}; got {count}. Give more rows.")
    mean, error = mean_and_error(d, count)
    if error == 0:
        # Nothing varies: the same forecaster twice, or one that loses by a constant.
        equal = mean == 0
        return LossComparison(mean, 0.0, 0.0 if equal else math.copysign(math.inf, mean), float(equal), T, count)
    return LossComparison(mean, error, mean / error, 2 * float(student.sf(abs(mean / error), T - 1)), T, count)
