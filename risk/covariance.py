"""Covariance of factor returns: lambda^2 D C D.

D are volatilities and C correlations, each a Newey-West moment with its own half-life and lags (`risk.moments`); C's
lowest eigenvalues are raised to a floor and all are corrected for the sample's own noise (`risk.eigenfactor`); the
regression's noise is taken out (`risk.noise`); lambda is the volatility regime of all factors (`risk.multiplier`).

A day on which a factor is absent adds zeros: its volatility is normalised by the weight of the days present, and its
correlations fall towards 0 with the overlap that is missing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from risk.checks import BoolArray, DataError, FloatArray, freeze
from risk.eigenfactor import adjust_eigenfactors, estimation_error
from risk.moments import exponential_weights, newey_west, newey_west_variances
from risk.multiplier import RegimeMultiplier, regime_multiplier
from risk.noise import remove_noise
from risk.spec import RiskSpec

__all__ = ["FactorCovariance", "exponential_weights", "factor_covariance", "newey_west"]

_RANK_TOLERANCE = 1e-10
_NAMED_SHARE = 0.05
# What noise alone would earn is taken off these, so that one with a short history is nothing rather than what its kind is.
_OWN = ("signal", "blind")


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
    rank : int
        Of the correlation matrix before that; below K, some combination of factors never moved.
    dependent : tuple of tuple of str
        For each eigenvalue that was raised, the factors with at least 5 % of its eigenvector, largest first: the
        combination that hardly moves. It is empty for an eigenvector spread so widely that none has.
    eigenfactor_multipliers : ndarray of shape (K,)
        gamma of `risk.eigenfactor`, lowest eigenvalue first; 1 where the step is off.
    effective_days : float
        Equally weighted, independent days that the correlations are worth.
    regime : RegimeMultiplier
        Its variance multiplier lambda^2 is 1 where the step is off.
    limited_noise : int
        Combinations of factors of which less than all of the regression's noise was taken out, as they are hardly more.
    """

    matrix: FloatArray
    days: FloatArray
    blended: tuple[str, ...]
    floored_eigenvalues: int
    rank: int
    dependent: tuple[tuple[str, ...], ...]
    eigenfactor_multipliers: FloatArray
    effective_days: float
    regime: RegimeMultiplier
    limited_noise: int


def _correlation(moment: FloatArray) -> FloatArray:
    deviation = np.sqrt(np.diag(moment))
    safe = np.where(deviation > 0, deviation, 1.0)
    correlation = moment / np.outer(safe, safe)
    np.fill_diagonal(correlation, 1.0)
    return np.asarray(correlation)


def _floor_eigenvalues(
    correlation: FloatArray, floor: float, factors: tuple[str, ...]
) -> tuple[FloatArray, int, tuple[tuple[str, ...], ...]]:
    """Return the matrix with eigenvalues of at least `floor` and a diagonal of 1, its rank before, and what was low."""
    values, vectors = np.linalg.eigh(correlation)
    rank = int((values > _RANK_TOLERANCE * values[-1]).sum())
    low = int((values < floor).sum())
    if not low:
        return correlation, rank, ()
    raised = (vectors * np.maximum(values, floor)) @ vectors.T
    return _correlation((raised + raised.T) / 2), rank, tuple(_main_factors(v, factors) for v in vectors.T[:low])


def _main_factors(vector: FloatArray, factors: tuple[str, ...]) -> tuple[str, ...]:
    order = np.argsort(-np.abs(vector), kind="stable")
    return tuple(factors[k] for k in order if vector[k] ** 2 >= _NAMED_SHARE)


def _blend_short(
    variance: FloatArray, days: FloatArray, factors: tuple[str, ...], spec: RiskSpec
) -> tuple[FloatArray, tuple[str, ...]]:
    """Return variances in which a factor with n days, n below the full length, counts n / full and its family the rest.

    The full length is `short_history_days`, or the longest history there is. The family's variance is the mean over its
    factors of full length, else over all those ever present, else the mean over all factors ever present. Signals and
    blind factors are not blended.
    """
    full = min(float(spec.short_history_days), float(days.max()))
    family = np.array([factor.partition(":")[0] for factor in factors])
    own = np.where(np.isin(family, _OWN), 1.0, np.minimum(days / full, 1.0))
    result = variance.copy()
    for k in np.flatnonzero(own < 1):
        kin = family == family[k]
        for peers in (kin & (days >= full), kin & (days > 0), days > 0):
            if peers.any():
                result[k] = own[k] * variance[k] + (1 - own[k]) * variance[peers].mean()
                break
    return result, tuple(factors[k] for k in np.flatnonzero(own < 1))


def factor_covariance(
    returns: FloatArray,
    present: BoolArray,
    factors: tuple[str, ...],
    spec: RiskSpec,
    periods_per_year: float,
    regression_noise: FloatArray | None = None,
    later_noise: FloatArray | None = None,
) -> FactorCovariance:
    """Return the forecast covariance of factors from their daily returns.

    Parameters
    ----------
    returns : ndarray of shape (T, K)
        Per day, oldest first; 0 where absent.
    present : bool ndarray of shape (T, K)
    factors : tuple of str, length K
    spec : RiskSpec
    periods_per_year : float
    regression_noise : ndarray of shape (K, K), optional
        Covariance, per year, of the errors with which regressions found the returns (`risk.noise`), taken off the
        covariance: a book that is nearly a factor's own portfolio would have its specific risk counted twice.
    later_noise : ndarray of shape (K, K), optional
        The same of the second regression, of signals and blind factors. Of these nothing may be left: what moves no more than
        noise does is no factor.

    Raises
    ------
    DataError
        If no factor was ever present, or the eigenfactor step meets fewer effective days than factors without a floor.

    Notes
    -----
    Covariances of days are multiplied by `periods_per_year`.

    References
    ----------
    Menchero, Orr, Wang (2011), The Barra US Equity Model (USE4), Methodology Notes, section 4.
    """
    days = present.sum(axis=0).astype(np.float64)
    if not days.any():
        raise DataError("`present` must have a factor on some day; all are absent. Give days of factor returns.")
    T, K = returns.shape
    recent = exponential_weights(T, spec.volatility_half_life)
    steady = exponential_weights(T, spec.correlation_half_life)
    known = recent @ present
    known = np.where(known > 0, known, 1.0)
    variance = newey_west_variances(returns, recent, spec.newey_west_lags) / known
    variance, blended = _blend_short(variance, days, factors, spec)
    moment = newey_west(returns, steady, spec.correlation_newey_west_lags)
    correlation, rank, dependent = _floor_eigenvalues(_correlation(moment), spec.eigenvalue_floor, factors)
    safe = np.where(variance > 0, variance, 1.0)
    error = estimation_error(
        returns / np.sqrt(safe), correlation, recent, spec.newey_west_lags, steady, spec.correlation_newey_west_lags
    )
    multipliers, limited = np.ones(K), 0
    if spec.eigenfactor_simulations and spec.eigenfactor_scale:
        correlation, multipliers = adjust_eigenfactors(
            correlation, error, spec.eigenfactor_simulations, spec.eigenfactor_scale, spec.eigenvalue_floor
        )
    unit = periods_per_year * np.sqrt(np.outer(safe, safe))
    if later_noise is not None:
        correlation, _ = remove_noise(correlation, later_noise / unit, 1.0)
    if regression_noise is not None:
        correlation, limited = remove_noise(correlation, regression_noise / unit)
    regime = RegimeMultiplier(1.0, 0, 0)
    if spec.regime_half_life is not None:
        regime = regime_multiplier(returns, present, np.ones(K), spec.volatility_half_life, spec.regime_half_life)
    deviation = np.sqrt(variance * regime.variance * periods_per_year)
    matrix = correlation * np.outer(deviation, deviation)
    return FactorCovariance(
        matrix=freeze((matrix + matrix.T) / 2),
        days=freeze(days),
        blended=blended,
        floored_eigenvalues=len(dependent),
        rank=rank,
        dependent=dependent,
        eigenfactor_multipliers=freeze(multipliers),
        effective_days=1 / error.correlation,
        regime=regime,
        limited_noise=limited,
    )
