"""Eigenfactor adjustment: the least risky combinations of factors are riskier than a sample says.

The eigenvectors of a sample covariance are chosen on the sample's own noise, so that its low eigenvalues are too low and
its high ones too high, and an optimizer buys the low ones. What the noise does is found by repeating it: with the
estimate C0 as truth, m = 1..M estimates Cm are drawn as ours is made (separate weights for volatilities and correlations,
Newey-West lags, fat tails), and for the k-th eigenvector u of each

    v(k)^2 = mean over m of  u'C0 u / u'Cm u         true variance over estimated variance

Each eigenvalue of C0 is multiplied by gamma(k)^2, gamma = 1 + scale (v - 1). All is done in units of the factors'
volatilities, so that it does not depend on the units of the exposures.

Estimates are not drawn by way of data. The two moments behind ours, of volatilities and of correlations, have errors of
known size (`risk.moments.shared_error`), and a Wishart matrix with as many degrees of freedom as there are effective
observations has the same; errors that both moments share come from one Wishart matrix that both contain.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from risk.checks import DataError, FloatArray
from risk.moments import shared_error

__all__ = ["EstimationError", "adjust_eigenfactors", "eigenfactor_bias", "estimation_error", "simulate_estimates"]

_SEED = 2011
_NULL = 1e-10


@dataclass(frozen=True)
class EstimationError:
    """Relative errors of the moments behind a covariance estimate: 1 over their effective numbers of observations.

    Attributes
    ----------
    volatility, correlation : float
        Of the moments that give the volatilities and the correlations.
    shared : float
        Of the product of both.
    """

    volatility: float
    correlation: float
    shared: float


def estimation_error(
    standardised: FloatArray,
    correlation: FloatArray,
    volatility_weights: FloatArray,
    volatility_lags: int,
    correlation_weights: FloatArray,
    correlation_lags: int,
) -> EstimationError:
    """Return the errors of our two moments, with the fat tails and the clustering that the factors have in common.

    Parameters
    ----------
    standardised : ndarray of shape (T, K)
        Factor returns over their volatilities; 0 where absent.
    correlation : ndarray of shape (K, K)
    volatility_weights, correlation_weights : ndarray of shape (T,)
    volatility_lags, correlation_lags : int

    Notes
    -----
    If the returns of day t have covariance g_t C, the moment's weights are in effect u_t g_t, and uneven days are worth
    fewer equal ones. g_t is measured by the day's mean square, whose own square is too large by 1 + 2 tr(CC)/K^2 for
    normal returns; that is taken out.
    """
    intensity = np.mean(standardised**2, axis=1)
    excess = 2 * float((correlation**2).sum()) / len(correlation) ** 2
    first, second = (u * intensity / float(u @ intensity) for u in (volatility_weights, correlation_weights))
    return EstimationError(
        shared_error(first, volatility_lags, first, volatility_lags, excess),
        shared_error(second, correlation_lags, second, correlation_lags, excess),
        shared_error(first, volatility_lags, second, correlation_lags, excess),
    )


def _wishart_factors(rng: np.random.Generator, draws: int, size: int, freedom: float) -> FloatArray:
    """Return A of shape (draws, size, size): A A' is Wishart, scaled to the mean I (Bartlett's decomposition).

    The degrees of freedom need not be whole, nor reach `size`: the matrix is then of less than full rank.
    """
    normal = rng.standard_normal((draws, size, size))
    dof = freedom - np.arange(size)
    root = np.tril(normal, -1) * np.sqrt(np.clip(dof, 0.0, 1.0))
    diagonal = np.arange(size)
    root[:, diagonal, diagonal] = np.sqrt(2 * rng.standard_gamma(np.maximum(dof, 0.0) / 2, (draws, size)))
    return np.asarray(root / np.sqrt(freedom))


def simulate_estimates(correlation: FloatArray, error: EstimationError, simulations: int) -> FloatArray:
    """Return estimates D C D drawn around a true correlation matrix, shape (simulations, K, K); always the same ones.

    Notes
    -----
    Let a >= c be the larger and the smaller error and s the shared one. The moment of the larger error is a Wishart
    matrix A of 1/a degrees of freedom; the other is p A + (1 - p) B with p = s/a and B an independent one of error
    (c - s^2/a)/(1 - p)^2: errors and shared error are then met exactly.
    """
    values, vectors = np.linalg.eigh(correlation)
    root = (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T
    rng = np.random.default_rng(_SEED)
    K = len(correlation)
    swap = error.correlation > error.volatility
    large, small = max(error.volatility, error.correlation), min(error.volatility, error.correlation)
    factors = root @ _wishart_factors(rng, simulations, K, 1 / large)
    noisy = factors @ factors.transpose(0, 2, 1)
    steady = noisy
    part, left = error.shared / large, small - error.shared**2 / large
    if left > 1e-9 * small:
        factors = root @ _wishart_factors(rng, simulations, K, (1 - part) ** 2 / left)
        steady = part * noisy + (1 - part) * (factors @ factors.transpose(0, 2, 1))
    of_volatility, of_correlation = (steady, noisy) if swap else (noisy, steady)
    ratio = np.sqrt(
        np.diagonal(of_volatility, axis1=1, axis2=2) / np.maximum(np.diagonal(of_correlation, axis1=1, axis2=2), _NULL)
    )
    return np.asarray(of_correlation * ratio[:, :, None] * ratio[:, None, :])


def eigenfactor_bias(correlation: FloatArray, error: EstimationError, simulations: int, floor: float) -> FloatArray:
    """Return v of the module's formula, shape (K,), from the lowest eigenvalue to the highest.

    Eigenvalues of 0 have no bias: v is 1. Drawn variances are raised to `floor`, as those of the estimate are.

    Raises
    ------
    DataError
        If there is no floor and there are fewer effective observations than factors: v is then infinite.
    """
    values = np.linalg.eigvalsh(correlation)
    null = values <= _NULL * values[-1]
    effective = 1 / max(error.volatility, error.correlation)
    if floor == 0 and effective < (~null).sum():
        raise DataError(
            f"`eigenfactor_simulations` needs more effective observations than factors where `eigenvalue_floor` is 0; "
            f"{effective:.0f} stand behind {int((~null).sum())} factors. Use longer half-lives, fewer lags or a floor."
        )
    estimates = simulate_estimates(correlation, error, simulations)
    drawn, turned = np.linalg.eigh(estimates)
    true = np.einsum("mik,mik->mk", turned, correlation @ turned)
    ratio = np.where(null, 1.0, true / np.maximum(drawn, max(floor, _NULL)))
    return np.asarray(np.sqrt(ratio.mean(axis=0)))


def adjust_eigenfactors(
    correlation: FloatArray, error: EstimationError, simulations: int, scale: float, floor: float
) -> tuple[FloatArray, FloatArray]:
    """Return the correlation matrix with its eigenvalues times gamma^2, and gamma, shape (K,), lowest eigenvalue first.

    Its diagonal is scaled back to 1: the factors' own variances have no such bias and stay what they are.

    References
    ----------
    Menchero, Wang, Orr (2011), Eigen-adjusted Covariance Matrices, MSCI Research Insight.
    Menchero, Orr, Wang (2011), The Barra US Equity Model (USE4), Methodology Notes, section 4.
    """
    values, vectors = np.linalg.eigh(correlation)
    gamma = np.maximum(1 + scale * (eigenfactor_bias(correlation, error, simulations, floor) - 1), 0.0)
    adjusted = (vectors * (np.maximum(values, 0.0) * gamma**2)) @ vectors.T
    deviation = np.sqrt(np.diag(adjusted))
    adjusted /= np.outer(deviation, deviation)
    return np.asarray((adjusted + adjusted.T) / 2), gamma
