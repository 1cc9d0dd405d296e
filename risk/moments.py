"""Second moments of serially correlated series, and how many observations they are worth.

For a series y with exponential weights u (sum 1) the Newey-West moment is

    G = sum_t z_t z_t' + sum_{l=1..L} (1 - l/(L+1)) sum_t (z_t z_{t-l}' + z_{t-l} z_t'),    z_t = sqrt(u_t) y_t

about a mean of zero, as daily returns have means far below their errors. Weighting the series before the lags are
taken keeps G positive semidefinite, whatever the lags. With M_ts = sqrt(u_t u_s) k(t - s), k the Bartlett weights,
G = sum_ts M_ts y_t y_s', and for independent normal y two such estimates a and b have

    cov(Ga_ij, Gb_kl) = (S_ik S_jl + S_il S_jk) tr(Ma Mb),

so that 1/tr(M M) is the number of equally weighted, independent days with the same error.
"""

from __future__ import annotations

import numpy as np

from risk.checks import FloatArray

__all__ = ["exponential_weights", "newey_west", "newey_west_variances", "shared_error"]


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


def newey_west_variances(series: FloatArray, weights: FloatArray, lags: int) -> FloatArray:
    """Return the diagonal of `newey_west`, shape (K,), without the rest of it; never negative."""
    z = np.sqrt(weights)[:, None] * series
    moment = np.einsum("tk,tk->k", z, z)
    for lag in range(1, min(lags, len(z) - 1) + 1):
        moment += 2 * (1 - lag / (lags + 1)) * np.einsum("tk,tk->k", z[lag:], z[:-lag])
    return np.asarray(np.maximum(moment, 0.0))


def shared_error(
    first: FloatArray, first_lags: int, second: FloatArray, second_lags: int, excess: float = 0.0
) -> float:
    """Return tr(Ma Mb) of the module's last formula for two sets of weights, each of shape (T,).

    With equal arguments, 1 over the result is the effective number of observations. Where the weights hold a measured
    quantity whose square is too large by 1 + `excess`, the squares are divided by that.

    Examples
    --------
    >>> flat = exponential_weights(200, 1e9)
    >>> round(1 / shared_error(flat, 0, flat, 0))
    200
    """
    root = np.sqrt(first * second)
    total = float(root @ root) / (1 + excess)
    for lag in range(1, min(first_lags, second_lags, len(root) - 1) + 1):
        bartlett = (1 - lag / (first_lags + 1)) * (1 - lag / (second_lags + 1))
        total += 2 * bartlett * float(root[lag:] @ root[:-lag])
    return total
