"""Daily contributions over longer periods without residual, and how surely their mean is known.

Returns compound and contributions add, so the contributions of a month do not sum to its return. Carino's coefficients make
them: with day t's return R_t = sum_k c_{k,t} and the period's R = prod(1 + R_t) - 1,

    kappa_t = ln(1 + R_t)/R_t  (1 at R_t = 0)      kappa = ln(1 + R)/R      C_k = sum_t c_{k,t} kappa_t / kappa

and sum_k C_k = sum_t ln(1 + R_t) / kappa = R. Every contribution of a day is scaled by the same factor, within a per cent of 1
for returns under 2 %: signs and proportions within a day stay as they are, and the order of days does not matter. Linked
contributions of months do not add up to the year's, as their returns do not; each period is linked from its own days.

References: Carino (1999), Combining Attribution Effects Over Time, Journal of Performance Measurement 3(4).
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import pandas as pd

from risk import DataError
from risk.checks import FloatArray

__all__ = ["Period", "link", "mean_errors"]

Period = Literal["run", "year", "month"]
_FREQUENCY = {"year": "Y", "month": "M"}
IDENTITY = 1e-9
ROUNDING = 1e-14


def link(lines: pd.DataFrame, returns: pd.Series, period: Period = "run") -> pd.DataFrame:
    """Return contributions linked over each period; every row sums to the period's compounded return.

    Parameters
    ----------
    lines : DataFrame by date
        Contributions per day; every row sums to that day's return.
    returns : Series by date
        Per day.
    period : {"run", "year", "month"}
        Calendar periods; the first and last hold the days that there are.

    Returns
    -------
    DataFrame
        One row per period, indexed by its first session; the columns of `lines`, then ``return`` (under columns of several
        levels its others are empty).

    Raises
    ------
    DataError
        If dates differ or are none, a row does not sum to its return, or a day lost everything, after which nothing compounds.

    Examples
    --------
    >>> days = pd.date_range("2024-01-01", periods=2)
    >>> lines = pd.DataFrame({"a": [0.10, 0.00], "b": [0.00, 0.10]}, index=days)
    >>> link(lines, lines.sum(axis=1)).round(4).to_numpy().tolist()
    [[0.105, 0.105, 0.21]]
    """
    _check(lines, returns, period)
    r = returns.to_numpy(dtype=np.float64)
    dates = pd.DatetimeIndex(returns.index)
    group = np.zeros(len(r), dtype=np.intp)
    if period != "run":
        group = pd.factorize(dates.to_period(_FREQUENCY[period]))[0]
    starts = np.flatnonzero(np.diff(group, prepend=-1))
    total = np.expm1(np.add.reduceat(np.log1p(r), starts))
    weight = (_log_ratio(r) / _log_ratio(total)[group])[:, None] * lines.to_numpy(dtype=np.float64)
    result = pd.DataFrame(np.add.reduceat(weight, starts, axis=0), index=dates[starts], columns=lines.columns)
    result[("return", *[""] * (lines.columns.nlevels - 1)) if lines.columns.nlevels > 1 else "return"] = total
    return result.rename_axis(index="start")


def _log_ratio(returns: FloatArray) -> FloatArray:
    """Return ln(1 + R)/R, 1 where R is 0."""
    return np.divide(np.log1p(returns), returns, out=np.ones_like(returns), where=returns != 0)


def _check(lines: pd.DataFrame, returns: pd.Series, period: str) -> None:
    if period not in ("run", "year", "month"):
        raise DataError(f"`period` must be run, year or month; got {period!r}.")
    if not len(returns) or not lines.index.equals(returns.index):
        raise DataError("`lines` and `returns` must have the same dates, at least one; take both from one account.")
    gap = np.abs(lines.to_numpy(dtype=np.float64).sum(axis=1) - returns.to_numpy(dtype=np.float64))
    if not (gap <= IDENTITY).all():
        day = returns.index[int(np.argmax(~(gap <= IDENTITY)))]
        raise DataError(
            f"`lines` must sum to the day's return; on {day:%Y-%m-%d} they miss it by {gap[~(gap <= IDENTITY)][0]:.3g}. "
            "Give every line of the account, charges as negative numbers."
        )
    if (returns <= -1).any():
        day = returns.index[int(np.argmax((returns <= -1).to_numpy()))]
        raise DataError(
            f"`returns` cannot be linked: {day:%Y-%m-%d} lost {-float(returns[day]):.0%} of net assets. Link the days before it."
        )


def mean_errors(lines: pd.DataFrame, *, periods_per_year: int = 252) -> pd.DataFrame:
    """Return each line's mean daily contribution, its standard error and t-statistic.

    Returns
    -------
    DataFrame by line
        ``mean`` and ``standard_error`` (both per year: daily numbers times `periods_per_year`), ``t_statistic`` (NaN where a line does
        not vary by more than rounding), ``sessions``, ``lags``.

    Raises
    ------
    DataError
        If there are fewer than 20 days.

    Notes
    -----
    Regression on a constant, errors by Newey and West (1987) with Bartlett weights and floor(4 (T/100)^(2/9)) lags, divisor T.
    The one source of error is the sample: which days the run happened to hold, with their volatility and serial
    correlation. Not in it: the error of each day's estimated factor returns, which moves return between a factor and the specific line and
    leaves their sum as it is; that exposures are themselves estimates; and that the run was chosen after it was seen.
    """
    from statsmodels.regression.linear_model import OLS

    T = len(lines)
    if T < 20:
        raise DataError(f"`lines` must hold at least 20 days for a standard error; got {T}. Take a longer run.")
    lags = math.floor(4 * (T / 100) ** (2 / 9))
    ones, rows = np.ones((T, 1)), []
    for column in lines.columns:
        y = lines[column].to_numpy(dtype=np.float64)
        mean, error = float(y.mean()), 0.0
        if np.ptp(y) > ROUNDING:
            fit = OLS(y, ones).fit(cov_type="HAC", cov_kwds={"maxlags": lags})
            mean, error = float(fit.params[0]), float(fit.bse[0])
        rows.append(
            {
                "mean": mean * periods_per_year,
                "standard_error": error * periods_per_year,
                "t_statistic": mean / error if error > 0 else np.nan,
                "sessions": T,
                "lags": lags,
            }
        )
    return pd.DataFrame(rows, index=lines.columns)
