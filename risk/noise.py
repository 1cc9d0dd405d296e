"""What the daily regression's own noise does to both halves of the model, and how it is taken out.

A regression finds factor returns f + P e, with e the specific returns and P (K, n) its matrix, P X = I on what the
constraints allow. So their covariance is F + W with W = P D P', and with few assets W is not small: a country of 20
assets with 35 % specific volatility has 8 % of it. The specific returns that are left, e - X P e, have variances

    v_i = d_i (1 - 2 h_i) + x_i'W x_i,      h_i = (X P)_ii

for an asset of the regression, and d_i + x_i'W x_i for another: without correction the risk of factors is too high and
that of neutral books too low.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from risk.checks import FloatArray, freeze

__all__ = ["RegressionNoise", "later_leverage", "regression_noise", "remove_noise", "variance_outside"]

_LARGEST_SHARE = 0.75


@dataclass(frozen=True, eq=False)
class RegressionNoise:
    """Noise of a regression of n assets on K factors.

    Attributes
    ----------
    covariance : ndarray of shape (K, K)
        W, in the unit of the specific variances.
    leverage : ndarray of shape (n,)
        h, from 0 to 1 for equal specific variances.
    fit : ndarray of shape (K, n)
        P.
    """

    covariance: FloatArray
    leverage: FloatArray
    fit: FloatArray

    def covariance_of(self, specific_variance: FloatArray) -> FloatArray:
        """Return W for other specific variances of the same regression."""
        return _covariance(self.fit, specific_variance)

    @property
    def kept(self) -> FloatArray:
        """1 - 2h, at least a quarter: an asset that is nearly a factor by itself says little of its specific risk."""
        return np.asarray(np.maximum(1 - 2 * self.leverage, 1 - _LARGEST_SHARE))


def variance_outside(covariance: FloatArray, residual_variance: FloatArray, exposures: FloatArray) -> FloatArray:
    """Return v - x'Wx, shape (n,), with W (K, K); at least a quarter of v. It is d of assets that were in no regression."""
    of_factors = np.einsum("nk,nk->n", exposures @ covariance, exposures)
    return np.asarray(np.maximum(residual_variance - of_factors, (1 - _LARGEST_SHARE) * residual_variance))


def later_leverage(exposures: FloatArray, residual_variance: FloatArray) -> FloatArray:
    """Return the leverage of a regression with weights 1/v on exposures (n, R), at most three quarters: it leaves d (1 - h)."""
    if not exposures.shape[1]:
        return np.zeros(len(exposures))
    weighted = exposures / residual_variance[:, None]
    inverse = np.linalg.pinv(weighted.T @ exposures, rcond=1e-10, hermitian=True)
    return np.asarray(np.minimum(np.einsum("nr,nr->n", weighted @ inverse, exposures), _LARGEST_SHARE))


def regression_noise(
    exposures: FloatArray, weights: FloatArray, constraints: FloatArray, specific_variance: FloatArray
) -> RegressionNoise:
    """Return the noise of one day's weighted least squares under constraints.

    Parameters
    ----------
    exposures : ndarray of shape (n, K)
    weights : ndarray of shape (n,)
        Positive.
    constraints : ndarray of shape (J, K)
    specific_variance : ndarray of shape (n,)

    Notes
    -----
    With a basis R of {f : C f = 0}, P = R (R'X'vXR)^+ R'X'v.
    """
    share = weights / weights.sum()
    _, singular, rows = np.linalg.svd(constraints, full_matrices=True)
    basis = rows[int((singular > 1e-12).sum()) :].T
    design = exposures @ basis
    normal = np.linalg.pinv(design.T @ (share[:, None] * design), rcond=1e-11, hermitian=True)
    fit = (basis @ normal) @ (design.T * share)
    leverage = np.einsum("nk,kn->n", exposures, fit)
    return RegressionNoise(freeze(_covariance(fit, specific_variance)), freeze(leverage), freeze(fit))


def _covariance(fit: FloatArray, specific_variance: FloatArray) -> FloatArray:
    covariance = (fit * specific_variance) @ fit.T
    return np.asarray((covariance + covariance.T) / 2)


def remove_noise(covariance: FloatArray, noise: FloatArray, largest: float = _LARGEST_SHARE) -> tuple[FloatArray, int]:
    """Return a covariance less its noise, shape (K, K), and the number of combinations where that was limited.

    Both are compared along the eigenvectors of G = F^-1/2 W F^-1/2: of each combination's variance at most the `largest`
    share is taken, so that what is left is positive semidefinite, whatever the noise.
    """
    values, vectors = np.linalg.eigh(covariance)
    solid = values > 1e-12 * values[-1]
    root = vectors[:, solid] * np.sqrt(values[solid])
    inverse = vectors[:, solid] / np.sqrt(values[solid])
    shares, turned = np.linalg.eigh(inverse.T @ noise @ inverse)
    half = root @ turned
    left = (half * (1 - np.minimum(shares, largest))) @ half.T
    return np.asarray((left + left.T) / 2), int((shares > largest).sum())
