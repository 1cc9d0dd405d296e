"""Are the factors any good? Strength, collinearity, stability and explanatory power, from arrays of any factor model.

A cross-section is X (n, K) of exposures, regression weights v (n,), and constraints C (J, K) with C f = 0 that tell the
factors apart (one row per family of categories). With R an orthonormal basis of the null space of C the estimator is f = R g, and

    Cov f = s^2 R (R'X'vXR)^-1 R'        s^2 = sum v e^2 / (n - rank)

whatever basis is taken. NaN means "not known": a factor that the constraints do not tell apart has no standard error.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.linalg import null_space

from risk.checks import DataError, FloatArray, check_array, freeze
from risk.losses import default_lags, mean_and_error

__all__ = [
    "condition_number",
    "exposure_autocorrelation",
    "factor_strength",
    "r_squared_by_year",
    "regression_errors",
    "variance_inflation",
]

_TOLERANCE = 1e-10


def _check_cross_section(
    exposures: npt.ArrayLike, weights: npt.ArrayLike, constraints: npt.ArrayLike | None
) -> tuple[FloatArray, FloatArray, FloatArray]:
    shape = np.shape(exposures)
    if len(shape) != 2 or 0 in shape:
        raise DataError(f"`exposures` must have shape (n, K); got {shape}.")
    X, v = check_array("exposures", exposures, shape), check_array("weights", weights, (shape[0],))
    if (v < 0).any() or not v.any():
        raise DataError("`weights` must not be negative, nor all 0.")
    rows = (0, shape[1]) if constraints is None else (np.shape(constraints)[0], shape[1])
    return X, v, check_array("constraints", np.zeros(rows) if constraints is None else constraints, rows)


def _bread(X: FloatArray, v: FloatArray, constraints: FloatArray) -> tuple[FloatArray, FloatArray, int]:
    """Return R (R'X'vXR)^+ R', which of the K factors are told apart, and the rank."""
    K = X.shape[1]
    # Columns in units of their weighted length: a rank is not a matter of units.
    length = np.sqrt(v @ (X * X))
    scale = np.where(length > 0, length, 1.0)
    basis = null_space(constraints / scale) if len(constraints) else np.eye(K)
    _, values, right = np.linalg.svd((np.sqrt(v)[:, None] * X / scale) @ basis, full_matrices=False)
    usable = values > _TOLERANCE * max(float(values.max(initial=0.0)), 1e-300)
    within = basis @ right[usable].T
    bread = (within / values[usable] ** 2) @ within.T / np.outer(scale, scale)
    # Factor k is told apart if every direction of the null space that moves it is seen by the assets.
    unseen = basis - within @ right[usable]
    return bread, np.linalg.norm(unseen, axis=1) < 1e-7, int(usable.sum())


def regression_errors(
    exposures: npt.ArrayLike,
    residuals: npt.ArrayLike,
    weights: npt.ArrayLike,
    constraints: npt.ArrayLike | None = None,
    *,
    robust: bool = False,
) -> FloatArray:
    """Return the standard errors of one day's factor returns, shape (K,), per day.

    Parameters
    ----------
    exposures : array_like of shape (n, K)
    residuals : array_like of shape (n,)
        Returns less exposures times factor returns, per day.
    weights : array_like of shape (n,)
        Of the regression.
    constraints : array_like of shape (J, K), optional
    robust : bool
        White's sandwich with the factor n/(n - rank) (HC1), which does not need weights to be inverse variances.

    Raises
    ------
    DataError
        If shapes disagree, an entry is not finite, weights are negative, or n is not above the rank.

    References
    ----------
    White (1980), A Heteroskedasticity-Consistent Covariance Matrix Estimator, Econometrica 48.
    """
    X, v, C = _check_cross_section(exposures, weights, constraints)
    e = check_array("residuals", residuals, v.shape)
    bread, known, rank = _bread(X, v, C)
    if len(v) <= rank:
        raise DataError(
            f"`exposures` must have more rows than its rank {rank}; got {len(v)}: no residual is left over."
        )
    if robust:
        meat = (X * ((v * e) ** 2)[:, None]).T @ X
        covariance = bread @ meat @ bread * (len(v) / (len(v) - rank))
    else:
        covariance = bread * float(v @ (e * e)) / (len(v) - rank)
    return freeze(np.where(known, np.sqrt(np.maximum(np.diag(covariance), 0.0)), np.nan))


def variance_inflation(
    exposures: npt.ArrayLike,
    weights: npt.ArrayLike,
    constraints: npt.ArrayLike | None = None,
    *,
    market: int | None = 0,
) -> FloatArray:
    """Return by how much the other factors inflate the variance of each factor's return, shape (K,); infinite if collinear.

    For a factor without constraint it is the textbook's 1/(1 - R^2) of its exposures on all others, weighted. A category's
    variance is compared with that in a regression on the market and its own family under the same constraint, which a dummy of a
    family needs to be told apart at all.

    Parameters
    ----------
    exposures, weights, constraints
        As `regression_errors`.
    market : int, optional
        Column that every comparison holds, the intercept; None if there is none.

    Raises
    ------
    DataError
        As `regression_errors`, or if `market` is no column.

    References
    ----------
    Belsley, Kuh, Welsch (1980), Regression Diagnostics.
    """
    X, v, C = _check_cross_section(exposures, weights, constraints)
    K = X.shape[1]
    if market is not None and not 0 <= market < K:
        raise DataError(f"`market` must be a column, 0 to {K - 1}, or None; got {market}.")
    bread, known, _ = _bread(X, v, C)
    result = np.full(K, np.inf)
    for k in np.flatnonzero(known):
        family = (C[C[:, k] != 0] != 0).any(axis=0) if len(C) else np.zeros(K, dtype=np.bool_)
        family[k] = True
        if market is not None:
            family[market] = True
        rows = C[(C[:, family] != 0).any(axis=1)][:, family] if len(C) else C[:, family]
        alone, apart, _ = _bread(X[:, family], v, rows)
        j = int(np.flatnonzero(np.flatnonzero(family) == k)[0])
        if apart[j]:
            result[k] = bread[k, k] / alone[j, j]
    return freeze(result)


def condition_number(
    exposures: npt.ArrayLike, weights: npt.ArrayLike, constraints: npt.ArrayLike | None = None
) -> float:
    """Return the condition number of the weighted design on the constraints, columns scaled to equal length.

    The ratio of its largest to its smallest singular value: above 30 collinearity is held to hurt; infinite where factors cannot be told apart.
    Parameters and errors as in `regression_errors`.

    References
    ----------
    Belsley, Kuh, Welsch (1980), Regression Diagnostics.
    """
    X, v, C = _check_cross_section(exposures, weights, constraints)
    length = np.sqrt(v @ (X * X))
    if (length == 0).any():
        return math.inf
    basis = null_space(C / length) if len(C) else np.eye(X.shape[1])
    values = np.linalg.svd((np.sqrt(v)[:, None] * X / length) @ basis, compute_uv=False)
    singular = len(v) < basis.shape[1] or values[-1] <= _TOLERANCE * values[0]
    return math.inf if singular else float(values[0] / values[-1])


def exposure_autocorrelation(before: npt.ArrayLike, after: npt.ArrayLike, weights: npt.ArrayLike) -> FloatArray:
    """Return each factor's correlation across assets with itself some days before, shape (K,): its stability.

    Taken over 21 days it says how much of a factor's book must be traded in a month to stay with it. NaN for a factor
    that is the same for all.

    Parameters
    ----------
    before, after : array_like of shape (n, K)
        Exposures of the same assets and factors on two days.
    weights : array_like of shape (n,)
        As size.

    Raises
    ------
    DataError
        If shapes disagree, an entry is not finite, or weights are negative or all 0.
    """
    X, v, _ = _check_cross_section(before, weights, None)
    Y, share = check_array("after", after, X.shape), v / v.sum()
    x, y = X - share @ X, Y - share @ Y
    xx, yy, xy = share @ (x * x), share @ (y * y), share @ (x * y)
    varies = (xx > 1e-20 * (share @ (X * X))) & (yy > 1e-20 * (share @ (Y * Y)))
    return freeze(np.where(varies, xy / np.sqrt(np.where(varies, xx * yy, 1.0)), np.nan))


def factor_strength(
    factor_returns: pd.DataFrame,
    *,
    standard_errors: pd.DataFrame | None = None,
    lags: int | None = None,
    periods_per_year: float = 252,
) -> pd.DataFrame:
    """Return how strong each factor is: whether it is paid, and whether it moves assets at all. One row per factor.

    Parameters
    ----------
    factor_returns : DataFrame of shape (T, K)
        Per day; NaN where a factor was not in the regression. Of a FactorHistory:
        ``pd.DataFrame(np.where(h.present, h.factor_returns, np.nan), h.dates, h.factors)``.
    standard_errors : DataFrame, optional
        Of the daily regressions, with the same index and columns (`regression_errors`); NaN where not known.
    lags : int, optional
        Of Newey-West; by default 4 (T/100)^(2/9).
    periods_per_year : float

    Returns
    -------
    DataFrame
        ``days`` with a return; ``mean`` and ``volatility`` per year; ``t_mean``, Newey-West, NaN below 20 days; ``lags``;
        and with standard errors ``mean_absolute_t`` and ``share_significant``, days of abs(t) above 2 (5 % by chance), over ``tested`` days.

    Raises
    ------
    DataError
        If an entry is infinite, or `standard_errors` has another index or other columns or is not positive.
    """
    if np.isinf(factor_returns.to_numpy(dtype=np.float64)).any():
        raise DataError("`factor_returns` must not be infinite.")
    rows = {}
    for name in factor_returns.columns:
        r = factor_returns[name].dropna().to_numpy(dtype=np.float64)
        count = min(default_lags(len(r)) if lags is None else lags, max(len(r) - 2, 0))
        mean, error = mean_and_error(r, count) if len(r) >= 20 else (float(r.mean()) if len(r) else math.nan, 0.0)
        rows[name] = {
            "days": len(r),
            "mean": mean * periods_per_year,
            "volatility": float(r.std(ddof=1)) * math.sqrt(periods_per_year) if len(r) > 1 else math.nan,
            "t_mean": mean / error if error > 0 else math.nan,
            "lags": count,
        }
    table = pd.DataFrame.from_dict(rows, orient="index").rename_axis("factor").astype({"days": int, "lags": int})
    if standard_errors is None:
        return table
    same = standard_errors.index.equals(factor_returns.index) and standard_errors.columns.equals(factor_returns.columns)
    if not same or (standard_errors <= 0).any(axis=None):
        raise DataError("`standard_errors` must be positive and have the index and columns of `factor_returns`.")
    absolute = (factor_returns / standard_errors).abs()
    tested = absolute.notna().sum()
    return table.assign(
        tested=tested,
        mean_absolute_t=absolute.mean(),
        share_significant=(absolute > 2).sum() / tested.where(tested > 0),
    )


def r_squared_by_year(r_squared: pd.Series) -> pd.DataFrame:
    """Return the R-squared of the daily regressions by year: days, mean, median and 5 % and 95 % quantiles.

    Parameters
    ----------
    r_squared : Series indexed by date
        NaN on a day without a regression.

    Raises
    ------
    DataError
        If the index holds no dates.
    """
    if not isinstance(r_squared.index, pd.DatetimeIndex):
        raise DataError(f"`r_squared` must be indexed by date; got {type(r_squared.index).__name__}.")
    known = r_squared.dropna()
    groups = known.groupby(pd.DatetimeIndex(known.index).year)
    return pd.DataFrame(
        {
            "days": groups.size(),
            "mean": groups.mean(),
            "median": groups.median(),
            "low": groups.quantile(0.05),
            "high": groups.quantile(0.95),
        }
    ).rename_axis("year")
