"""One day's factor returns: weighted least squares under linear constraints.

    minimise  sum_i v_i (r_i - x_i'f)^2   subject to  C f = 0

Each row of C belongs to one family of categories and holds their shares of size, so that the market factor is the
size-weighted return of all assets and a category's factor is its return beyond the market.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from risk.checks import DataError, FloatArray

__all__ = ["CrossSection", "constrained_least_squares", "constraint_rows", "robust_limits", "winsorise_returns"]

_RANK_TOLERANCE = 1e-11


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
    """

    factor_returns: FloatArray
    r_squared: float
    rank_deficient: bool


def constraint_rows(exposures: FloatArray, families: tuple[slice, ...], size: FloatArray) -> FloatArray:
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


def constrained_least_squares(
    exposures: FloatArray, returns: FloatArray, weights: FloatArray, constraints: FloatArray
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

    Raises
    ------
    DataError
        If a factor is in two rows of `constraints`.

    Notes
    -----
    With f = R g, C R = 0: g solves (R'X'vXR) g = R'X'v r, by eigenvalues of the matrix scaled to a unit diagonal;
    eigenvalues below 1e-11 of the largest are taken as zero and counted as rank deficiency.

    References
    ----------
    Menchero, Orr, Wang (2011), The Barra US Equity Model (USE4), Methodology Notes, section 2.
    """
    share = weights / weights.sum()
    basis = _feasible_basis(constraints, exposures.shape[1])
    design = exposures @ basis
    weighted = design * share[:, None]
    normal = design.T @ weighted
    scale = np.sqrt(np.diag(normal))
    scale = np.where(scale > 0, scale, 1.0)
    values, vectors = np.linalg.eigh(normal / np.outer(scale, scale))
    usable = values > _RANK_TOLERANCE * values[-1]
    inverse = np.where(usable, 1.0 / np.where(usable, values, 1.0), 0.0)
    target = (weighted.T @ returns) / scale
    factor_returns = basis @ ((vectors @ (inverse * (vectors.T @ target))) / scale)
    error = returns - exposures @ factor_returns
    total = float((share * returns * returns).sum())
    r_squared = 1.0 - float((share * error * error).sum()) / total if total > 0 else 0.0
    return CrossSection(factor_returns, r_squared, not bool(usable.all()))


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
