"""Covariance of factor returns: D C D with its own half-life for the volatilities D and the correlations C.

For a series y with exponential weights u (sum 1) the Newey-West moment is

    G = sum_t z_t z_t' + sum_{l=1..L} (1 - l/(L+1)) sum_t (z_t z_{t-l}' + z_{t-l} z_t'),    z_t = sqrt(u_t) y_t

about a mean of zero, as daily factor returns have means far below their errors. Weighting the series before the lags are
taken keeps G positive semidefinite, whatever the lags. A day on which a factor is absent adds zeros to z: its volatility
is normalised by the weight of the days present, and its correlations fall towards 0 with the overlap that is missing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from risk.checks import BoolArray, FloatArray, freeze
from risk.spec import RiskSpec

__all__ = ["FactorCovariance", "exponential_weights", "factor_covariance", "newey_west"]


@dataclass(frozen=True, eq=False)
class FactorCovariance:
    """Forecast covariance of K factors.

    Attributes
    ----------
    matrix : ndarray of shape (K, K)
        Per year, squared; symmetric, positive semidefinite.
    days : int ndarray of shape (K,)
        Days on which each factor was present.
    blended : tuple of str
        Factors with a short history, whose variance is partly or wholly that of their family.
    floored_eigenvalues : int
        Eigenvalues of the correlation matrix that were raised to the floor. The constraint of each family of
        categories makes one of them nearly 0 by construction.
    """

    matrix: FloatArray
    days: FloatArray
    blended: tuple[str, ...]
    floored_eigenvalues: int


def exponential_weights(days: int, half_life: float) -> FloatArray:
    """Return weights of sum 1, shape (days,), oldest first, halving every `half_life` days back.

    Examples
    --------
    >>> exponential_weights(3, 1.0).tolist()
    [0.14285714285714285, 0.2857142857142857, 0.5714285714285714]
    """
    weights = 0.5 ** (np.arange(days - 1, -1, -1) / half_life)
    return np.asarray(weights / weights.sum())


def newey_west(series: FloatArray, weights: FloatArray, lags: int) -> FloatArray:
    """Return the moment G of the module's first lines, shape (K, K), for a series of shape (T, K).

    References
    ----------
    Newey, West (1987), A Simple, Positive Semi-definite, Heteroskedasticity and Autocorrelation Consistent Covariance
    Matrix, Econometrica 55.
    """
    z = np.sqrt(weights)[:, None] * series
    moment = z.T @ z
    for lag in range(1, min(lags, len(z) - 1) + 1):
        lagged = z[lag:].T @ z[:-lag]
        moment += (1 - lag / (lags + 1)) * (lagged + lagged.T)
    return np.asarray((moment + moment.T) / 2)


def _correlation(moment: FloatArray) -> FloatArray:
    deviation = np.sqrt(np.diag(moment))
    safe = np.where(deviation > 0, deviation, 1.0)
    correlation = moment / np.outer(safe, safe)
    np.fill_diagonal(correlation, 1.0)
    return np.asarray(correlation)


def _floor_eigenvalues(correlation: FloatArray, floor: float) -> tuple[FloatArray, int]:
    """Return the correlation matrix with its eigenvalues raised to `floor` and its diagonal 1, and how many were."""
    values, vectors = np.linalg.eigh(correlation)
    low = int((values < floor).sum())
    if not low:
        return correlation, 0
    raised = (vectors * np.maximum(values, floor)) @ vectors.T
    return _correlation((raised + raised.T) / 2), low


def _blend_short(
    variance: FloatArray, days: FloatArray, factors: tuple[str, ...], spec: RiskSpec
) -> tuple[FloatArray, tuple[str, ...]]:
    """Return variances in which a factor with n days, n below the full length, counts n / full and its family the rest.

    The full length is `short_history_days`, or the longest history there is. The family's variance is the mean over its
    factors of full length, else over all those ever present, else the mean over all factors ever present.
    """
    full = min(float(spec.short_history_days), float(days.max()))
    own = np.minimum(days / full, 1.0)
    family = np.array([factor.partition(":")[0] for factor in factors])
    result = variance.copy()
    for k in np.flatnonzero(own < 1):
        kin = family == family[k]
        for peers in (kin & (days >= full), kin & (days > 0), days > 0):
            if peers.any():
                result[k] = own[k] * variance[k] + (1 - own[k]) * variance[peers].mean()
                break
    return result, tuple(factors[k] for k in np.flatnonzero(own < 1))


def factor_covariance(
    returns: FloatArray, present: BoolArray, factors: tuple[str, ...], spec: RiskSpec, periods_per_year: int
) -> FactorCovariance:
    """Return the forecast covariance of factors from their daily returns.

    Parameters
    ----------
    returns : ndarray of shape (T, K)
        Per day, oldest first; 0 where absent.
    present : bool ndarray of shape (T, K)
    factors : tuple of str, length K
    spec : RiskSpec
    periods_per_year : int

    Notes
    -----
    Covariances of days are multiplied by `periods_per_year`. Volatility and correlation both take
    `spec.newey_west_lags`. The correlation matrix's eigenvalues are raised to `spec.eigenvalue_floor`.

    References
    ----------
    Menchero, Orr, Wang (2011), The Barra US Equity Model (USE4), Methodology Notes, section 4.
    """
    T = len(returns)
    weights = exponential_weights(T, spec.volatility_half_life)
    known = weights @ present
    variance = np.array(
        [newey_west(returns[:, [k]], weights, spec.newey_west_lags)[0, 0] for k in range(returns.shape[1])]
    )
    variance = np.maximum(variance, 0.0) / np.where(known > 0, known, 1.0)
    days = present.sum(axis=0).astype(np.float64)
    variance, blended = _blend_short(variance, days, factors, spec)
    moment = newey_west(returns, exponential_weights(T, spec.correlation_half_life), spec.newey_west_lags)
    correlation, floored = _floor_eigenvalues(_correlation(moment), spec.eigenvalue_floor)
    deviation = np.sqrt(variance * periods_per_year)
    matrix = correlation * np.outer(deviation, deviation)
    return FactorCovariance(freeze((matrix + matrix.T) / 2), freeze(days), blended, floored)
