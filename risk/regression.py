"""One day's factor returns: weighted least squares under linear constraints.

    minimise  sum_i v_i (r_i - x_i'f)^2   subject to  C f = 0

Each row of C belongs to one family of categories and holds their shares of size, so that the market factor is the
size-weighted return of all assets and a category's factor is its return beyond the market.

With a bound k the loss of an asset grows linearly beyond k robust standard deviations s of the residuals (Huber):

    minimise  sum_i v_i s^2 h(e_i / s)   subject to  C f = 0,    h(z) = z^2/2 up to |z| = k, k |z| - k^2/2 beyond
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from risk.checks import DataError, FloatArray

__all__ = ["CrossSection", "constrained_least_squares", "constraint_rows", "robust_limits", "winsorise_returns"]

_RANK_TOLERANCE = 1e-11
_NORMAL_MAD = 0.6744897501960817
"""Median absolute deviation of the standard normal distribution."""
_HUBER_TOLERANCE, _HUBER_ITERATIONS = 1e-9, 200


@dataclass(frozen=True, eq=False)
class CrossSection:
    """Factor returns of one day.

    Attributes
    ----------
    factor_returns : ndarray of shape (K,)
        Per day.
    r_squared : float
        1 - sum v e^2 / sum v r^2: about zero, for the market is one of the factors.
    rank_deficient : bool
        Some factors could not be told apart, and the smallest factor returns that fit were taken.
    bounded : int
        Assets whose residual lies beyond Huber's bound; 0 for least squares.
    iterations : int
        Of the robust regression; 0 for least squares.
    converged : bool
        False where the robust regression's last iterate was taken though it still moved.
    """

    factor_returns: FloatArray
    r_squared: float
    rank_deficient: bool
    bounded: int = 0
    iterations: int = 0
    converged: bool = True


def constraint_rows(
    exposures: FloatArray, families: Sequence[slice | npt.NDArray[np.int64]], size: FloatArray
) -> FloatArray:
    """Return the constraint matrix, shape (number of families, K): each category's share of size in its family."""
    rows = np.zeros((len(families), exposures.shape[1]))
    for row, family in zip(rows, families, strict=True):
        weights = size @ exposures[:, family]
        row[family] = weights / weights.sum()
    return rows


def _feasible_basis(constraints: FloatArray, columns: int) -> FloatArray:
    """Return R of shape (K, K - J) with C R = 0: each family's largest category is given by the others."""
    if ((constraints != 0).sum(axis=0) > 1).any():
        raise DataError("`constraints` must have at most one non-zero entry per factor; give one row per family.")
    pivots = np.abs(constraints).argmax(axis=1)
    keep = np.setdiff1d(np.arange(columns), pivots)
    basis = np.zeros((columns, len(keep)))
    basis[keep, np.arange(len(keep))] = 1.0
    for row, pivot in zip(constraints, pivots, strict=True):
        basis[pivot] = -row[keep] / row[pivot]
    return basis


class _Fit:
    """Least squares on one design for one vector of returns after another."""

    def __init__(self, exposures: FloatArray, weights: FloatArray, constraints: FloatArray) -> None:
        basis = _feasible_basis(constraints, exposures.shape[1])
        self._weighted = exposures * (weights / weights.sum())[:, None]
        normal = basis.T @ (exposures.T @ self._weighted) @ basis
        scale = np.sqrt(np.diag(normal))
        scale = np.where(scale > 0, scale, 1.0)
        values, vectors = np.linalg.eigh(normal / np.outer(scale, scale))
        usable = values > _RANK_TOLERANCE * values[-1]
        inverse = np.where(usable, 1.0 / np.where(usable, values, 1.0), 0.0)
        half = basis @ (vectors / scale[:, None])
        self._inverse = (half * inverse) @ half.T
        self.rank_deficient = not bool(usable.all())

    def factor_returns(self, returns: FloatArray) -> FloatArray:
        return np.asarray(self._inverse @ (self._weighted.T @ returns))


def constrained_least_squares(
    exposures: FloatArray, returns: FloatArray, weights: FloatArray, constraints: FloatArray, huber: float | None = None
) -> CrossSection:
    """Return the factor returns that fit the assets' returns best, under the constraints.

    Parameters
    ----------
    exposures : ndarray of shape (n, K)
    returns : ndarray of shape (n,)
        Per day.
    weights : ndarray of shape (n,)
        Positive; the root of size, as the specific variance of an asset falls about with the root of its size.
    constraints : ndarray of shape (J, K)
        Each factor in at most one row.
    huber : float, optional
        k of the module's first lines. None: least squares.

    Raises
    ------
    DataError
        If a factor is in two rows of `constraints`.

    Notes
    -----
    With f = R g, C R = 0: g solves (R'X'vXR) g = R'X'v r, by eigenvalues of the matrix scaled to a unit diagonal;
    eigenvalues below 1e-11 of the largest are taken as zero and counted as rank deficiency.

    The robust factor returns are the fixed point of least squares on pseudo-returns x_i'f + clip(e_i, -k s, k s), s the
    median of |e| over that of a standard normal variable: that of reweighted least squares, but on one design for all
    iterations. Where s is 0, as most returns are fitted exactly, least squares are kept.

    References
    ----------
    Menchero, Orr, Wang (2011), The Barra US Equity Model (USE4), Methodology Notes, section 2.
    Huber, Ronchetti (2009), Robust Statistics, section 7.8.
    """
    fit = _Fit(exposures, weights, constraints)
    factor_returns = fit.factor_returns(returns)
    error = returns - exposures @ factor_returns
    bounded, iterations, converged = 0, 0, True
    if huber is not None:
        factor_returns, error, bound, iterations = _bounded_influence(fit, exposures, factor_returns, error, huber)
        bounded, converged = int((np.abs(error) > bound).sum()), iterations <= _HUBER_ITERATIONS
    share = weights / weights.sum()
    total = float((share * returns * returns).sum())
    r_squared = 1.0 - float((share * error * error).sum()) / total if total > 0 else 0.0
    return CrossSection(factor_returns, r_squared, fit.rank_deficient, bounded, iterations, converged)


def _bounded_influence(
    fit: _Fit, exposures: FloatArray, factor_returns: FloatArray, error: FloatArray, huber: float
) -> tuple[FloatArray, FloatArray, float, int]:
    """Return factor returns, residuals, the bound, and iterations: one more than the limit where they still moved."""
    for iteration in range(1, _HUBER_ITERATIONS + 1):
        bound = huber * float(np.median(np.abs(error))) / _NORMAL_MAD
        if not bound > 0:
            return factor_returns, error, float("inf"), iteration
        # Least squares of the fit itself change nothing, so only the clipped residuals are regressed. They answer for the
        # share of assets within the bound: the step is lengthened by it.
        clipped = np.clip(error, -bound, bound)
        step = fit.factor_returns(clipped) * (len(error) / (clipped == error).sum())
        factor_returns, error = factor_returns + step, error - exposures @ step
        if np.abs(step).max() <= _HUBER_TOLERANCE * bound:
            return factor_returns, error, bound, iteration
    return factor_returns, error, bound, _HUBER_ITERATIONS + 1


def winsorise_returns(returns: FloatArray, limit: float) -> tuple[FloatArray, int]:
    """Return a day's returns cut at `limit` robust standard deviations from their median, and how many were cut.

    The deviation is 1.4826 times the median absolute deviation, which a single return of +400 % cannot widen. Where it
    is 0, because most returns are equal, nothing is cut.

    Examples
    --------
    >>> import numpy as np
    >>> cut, count = winsorise_returns(np.array([-0.01, 0.0, 0.01, 4.0]), 10.0)
    >>> count, round(float(cut[3]), 4)
    (1, 0.1533)
    """
    low, high = robust_limits(returns, limit)
    cut = np.clip(returns, low, high)
    return cut, int((cut != returns).sum())


def robust_limits(values: FloatArray, limit: float) -> tuple[float, float]:
    """Return the median less and plus `limit` times 1.4826 median absolute deviations; infinite where that is 0.

    Examples
    --------
    >>> import numpy as np
    >>> robust_limits(np.array([1.0, 1.0, 1.0, 9.0]), 3.0)
    (-inf, inf)
    """
    median = float(np.median(values))
    width = limit * 1.4826 * float(np.median(np.abs(values - median)))
    return (median - width, median + width) if width > 0 else (-np.inf, np.inf)
