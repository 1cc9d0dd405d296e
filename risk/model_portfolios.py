"""Books that lean on a risk model, in closed form: of least risk, optimised in or beside the factors, and eigenvectors.

With V = X F X' + diag(d), F = R R' and Y = X R every inverse goes through Woodbury's identity,

    V^-1 a = z - D^-1 Y (I + Y'D^-1 Y)^-1 Y'z,    z = D^-1 a

whose K x K matrix has no eigenvalue below 1, also where F is singular. A book is an array (N,), several are (P, N).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.linalg import cho_factor, cho_solve
from scipy.sparse.linalg import LinearOperator, eigsh

from risk.checks import DataError, FloatArray, check_array, freeze
from risk.model import FactorModel

__all__ = [
    "covariance_solve",
    "eigen_portfolios",
    "eigenfactor_portfolios",
    "factor_neutral",
    "factor_optimised",
    "minimum_risk",
]


def _root(model: FactorModel) -> FloatArray:
    """Return Y = X R with F = R R', shape (N, K)."""
    values, vectors = np.linalg.eigh(model.factor_covariance)
    return np.asarray(model.exposures @ (vectors * np.sqrt(np.maximum(values, 0.0))))


def _check_vectors(name: str, value: npt.ArrayLike, n: int) -> FloatArray:
    shape = np.shape(value)
    if len(shape) not in (1, 2) or shape[-1] != n:
        raise DataError(f"`{name}` must have shape ({n},) or (P, {n}); got {shape}.")
    return check_array(name, value, shape)


def covariance_solve(model: FactorModel, vectors: npt.ArrayLike) -> FloatArray:
    """Return V^-1 a for a vector (N,) or for each row of (P, N), by Woodbury's identity.

    Raises
    ------
    DataError
        If `vectors` has another shape or an entry is not finite.

    Examples
    --------
    >>> model = FactorModel(["A", "B"], ["market"], np.ones((2, 1)), [[0.04]], [0.09, 0.09])
    >>> model.covariance_times(covariance_solve(model, [1.0, -2.0])).round(12).tolist()
    [1.0, -2.0]
    """
    a = _check_vectors("vectors", vectors, len(model.assets))
    root = _root(model)
    scaled = root / model.specific_variance[:, None]
    inner = cho_factor(np.eye(root.shape[1]) + root.T @ scaled)
    z = a / model.specific_variance
    return np.asarray(z - cho_solve(inner, (z @ root).T).T @ scaled.T)


def minimum_risk(model: FactorModel, alpha: npt.ArrayLike) -> FloatArray:
    """Return the book of least risk with alpha'w = 1: V^-1 alpha / (alpha' V^-1 alpha).

    With alpha all ones it is the minimum-variance book of net 1; with any other, the book of the best ratio of alpha to risk.

    Parameters
    ----------
    model : FactorModel
    alpha : array_like of shape (N,) or (P, N)

    Raises
    ------
    DataError
        If a shape is wrong, an entry is not finite or a row is all 0.
    """
    a = _check_vectors("alpha", alpha, len(model.assets))
    if not a.any(axis=-1).all():
        raise DataError("`alpha` must not be all 0: no book has an alpha of 1 then.")
    w = covariance_solve(model, a)
    return freeze(w / (a * w).sum(axis=-1, keepdims=True))


def factor_optimised(model: FactorModel, views: npt.ArrayLike) -> FloatArray:
    """Return `minimum_risk` of an alpha that lies in the factors: alpha = X views.

    Such books lean on the combinations of factors whose risk is most understated (the eigenfactor adjustment's case).

    Parameters
    ----------
    model : FactorModel
    views : array_like of shape (K,) or (P, K)
        Expected return of each factor, as `keyed_normals(model.factors, ...)`.

    Raises
    ------
    DataError
        As `minimum_risk`.
    """
    f = _check_vectors("views", views, len(model.factors))
    return minimum_risk(model, f @ model.exposures.T)


def factor_neutral(model: FactorModel, alpha: npt.ArrayLike) -> FloatArray:
    """Return the optimised book without factor exposure: D^-1 (alpha - X beta), with alpha'w = 1 and X'w = 0.

    Parameters
    ----------
    model : FactorModel
    alpha : array_like of shape (N,) or (P, N)

    Raises
    ------
    DataError
        If a shape is wrong, an entry is not finite, or an alpha lies in the factors altogether.

    Notes
    -----
    beta is the regression of alpha on X with weights 1/d. X may have dependent columns: it is reduced to its range.
    """
    a = _check_vectors("alpha", alpha, len(model.assets))
    inverse = 1.0 / np.sqrt(model.specific_variance)
    left, values, _ = np.linalg.svd(model.exposures * inverse[:, None], full_matrices=False)
    basis = left[:, values > 1e-10 * values[0]]
    scaled = a * inverse
    residual = scaled - (scaled @ basis) @ basis.T
    residual -= (residual @ basis) @ basis.T  # twice: exposures at rounding of the book's size, not of alpha's
    w, value = residual * inverse, (residual * residual).sum(axis=-1, keepdims=True)
    if (value <= 1e-20 * (scaled * scaled).sum(axis=-1, keepdims=True)).any():
        raise DataError("`alpha` must not lie in the factors altogether: nothing is left for a factor-neutral book.")
    return freeze(w / value)


def _signed(w: FloatArray) -> FloatArray:
    """Return books of gross 1 whose largest weight is positive."""
    largest = np.take_along_axis(w, np.abs(w).argmax(axis=1)[:, None], axis=1)
    return freeze(w * np.sign(largest) / np.abs(w).sum(axis=1, keepdims=True))


def eigenfactor_portfolios(model: FactorModel) -> FloatArray:
    """Return for each eigenvector u of F the book of least specific risk with exposures X'w = u, largest first.

    Shape (rank of X, N) or fewer, gross 1. Where columns of X depend on each other (countries and sectors sum to the market) only
    some exposures can be had: u is replaced by the nearest that can, and an eigenvector with none is left out.

    Parameters
    ----------
    model : FactorModel
    """
    inverse = 1.0 / np.sqrt(model.specific_variance)
    left, values, right = np.linalg.svd(model.exposures * inverse[:, None], full_matrices=False)
    rank = int((values > 1e-10 * values[0]).sum())
    _, vectors = np.linalg.eigh(model.factor_covariance)
    within = right[:rank] @ vectors[:, ::-1]
    reachable = np.linalg.norm(within, axis=0) > 1e-8
    return _signed(((left[:, :rank] / values[:rank]) @ within[:, reachable]).T * inverse)


def eigen_portfolios(model: FactorModel, count: int) -> FloatArray:
    """Return the leading eigenvectors of V as books of gross 1, shape (count, N), largest first.

    By Lanczos on products V w, from a fixed start: V is never formed.

    Parameters
    ----------
    model : FactorModel
    count : int
        Below N.

    Raises
    ------
    DataError
        If `count` is not between 1 and N - 1.
    """
    n = len(model.assets)
    if not 1 <= count < n:
        raise DataError(f"`count` must lie between 1 and N - 1 = {n - 1}; got {count}.")
    operator = LinearOperator((n, n), matvec=model.covariance_times, dtype=np.float64)
    start = np.random.default_rng(0).standard_normal(n)
    values, vectors = eigsh(operator, k=count, which="LA", v0=start)
    return _signed(vectors[:, np.argsort(values)[::-1]].T)
