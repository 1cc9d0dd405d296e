r"""Scores of what features leave of many models on one date, from gaussianised predictions: FNC and its variants.

With :math:`g_k` the gaussianised ranks of model k and :math:`M_F` the residual maker of the features and a constant:

.. math::

    \mathrm{FNC}_k = \mathrm{corr}(\tilde g_k^{(1.5)},\, t^{(1.5)}), \qquad
        \tilde g_k \text{ the gaussianised ranks of } M_F\, g_k
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from engine.scores_correlation import (
    check_gaussian,
    contribution,
    correlation,
    in_blocks,
    numerai_correlation,
    squared_norms,
)
from engine.transforms import gaussianise
from risk import DataError
from risk.checks import FloatArray, check_array

__all__ = ["feature_neutral_correlation", "neutral_basis", "neutral_contribution", "neutral_correlation"]

Values = npt.NDArray[Any]

RCOND = 1e-6
"""Directions of the features with a singular value below this share of the largest are no directions (numerai-tools)."""

NOTHING_LEFT = 1e-9
"""A residual below this share of the norm before is rounding: its ranks would be noise."""


def neutral_basis(features: npt.ArrayLike) -> FloatArray:
    """Return an orthonormal basis, shape (N, r), of the features (N, q) and a constant.

    Raises
    ------
    DataError
        If `features` is not two-dimensional and finite.

    Notes
    -----
    Left singular vectors of [features, 1] whose singular value exceeds 1e-6 of the largest, so that neutralising with it
    equals numerai-tools' least squares; the features' units matter, as they do there.

    Examples
    --------
    >>> neutral_basis([[1.0, 2.0], [2.0, 4.0], [4.0, 8.0]]).shape  # the second feature says what the first does
    (3, 2)
    """
    table = np.asarray(features, dtype=np.float64)
    if table.ndim != 2:
        raise DataError(f"`features` must have shape (N, q); got {table.shape}.")
    check_array("features", table, table.shape)
    left, size, _ = np.linalg.svd(np.column_stack([table, np.ones(len(table))]), full_matrices=False)
    return np.asarray(left[:, size > RCOND * size.max(initial=0.0)])


def feature_neutral_correlation(
    gaussian: Values,
    basis: FloatArray,
    target: npt.ArrayLike,
    *,
    rows: npt.NDArray[np.bool_] | None = None,
    top_bottom: int | None = None,
    target_power: bool = True,
    centre: float | None = None,
    jobs: int = 2,
) -> FloatArray:
    """Return FNC of each model, shape (M,): CORR of what features leave of it, ranked and gaussianised again.

    Parameters
    ----------
    gaussian : ndarray of shape (N, M), float32 or float64
    basis : ndarray of shape (N, r)
        From `neutral_basis`.
    target : array_like of shape (N,), or of as many as `rows` keeps
    rows : ndarray of bool, shape (N,), optional
        Assets that are scored. The others take part in the neutralisation alone, as in numerai-tools.
    top_bottom, target_power, centre, jobs
        See `numerai_correlation`.

    Returns
    -------
    ndarray of shape (M,)
        NaN also for a model that features explain to rounding: the ranks of what is left would be noise.

    Raises
    ------
    DataError
        If shapes differ or the target is not finite.

    References
    ----------
    Numerai, numerai-tools, ``feature_neutral_corr``.

    Examples
    --------
    >>> g = gaussianise([[1.0], [3.0], [2.0], [4.0]])[0]
    >>> feature_neutral_correlation(g, neutral_basis([[1.0], [2.0], [3.0], [4.0]]), [0.0, 1.0, 0.0, 1.0]).round(4).tolist()
    [0.8017]
    """
    n, m = check_gaussian(gaussian)
    Q = _basis(basis, n, gaussian)
    kept = slice(None) if rows is None else rows

    def score(block: Values) -> FloatArray:
        left, explained = _residual(block, Q)
        again = gaussianise(left[kept], dtype=gaussian.dtype.type, jobs=1)[0]
        score_ = numerai_correlation(
            again, target, top_bottom=top_bottom, target_power=target_power, centre=centre, jobs=1
        )
        return np.asarray(np.where(explained, np.nan, score_))

    return in_blocks(score, gaussian, m, jobs)


def neutral_correlation(
    gaussian: Values, basis: FloatArray, target: npt.ArrayLike, *, top_bottom: int | None = None, jobs: int = 2
) -> FloatArray:
    """Return the correlation of what features leave of each model with the target, shape (M,): no rank again, no power.

    Parameters, result and errors as in `feature_neutral_correlation`.

    References
    ----------
    Numerai, numerai-tools, ``neutral_correlation``.
    """
    n, m = check_gaussian(gaussian)
    t = check_array("target", target, (n,))
    Q = _basis(basis, n, gaussian)

    def score(block: Values) -> FloatArray:
        left, explained = _residual(block, Q)
        return np.asarray(np.where(explained, np.nan, correlation(left, t, top_bottom=top_bottom)))

    return in_blocks(score, gaussian, m, jobs)


def neutral_contribution(
    gaussian: Values,
    meta_model: npt.ArrayLike,
    basis: FloatArray,
    target: npt.ArrayLike,
    *,
    top_bottom: int | None = None,
    jobs: int = 2,
) -> FloatArray:
    """Return MMC with models and meta model neutralised to the features first, shape (M,).

    Parameters, result and errors as in `contribution` and `feature_neutral_correlation`.

    References
    ----------
    Numerai, numerai-tools, ``neutral_contribution``.
    """
    n, m = check_gaussian(gaussian)
    given = check_array("meta_model", meta_model, (n,))
    check_array("target", target, (n,))
    rest, nothing = _residual(np.asarray(given)[:, None], _basis(basis, n, given))
    if nothing[0]:
        return np.full(m, np.nan)
    Q = _basis(basis, n, gaussian)

    def score(block: Values) -> FloatArray:
        left, explained = _residual(block, Q)
        return np.asarray(
            np.where(explained, np.nan, contribution(left, rest[:, 0], target, top_bottom=top_bottom, jobs=1))
        )

    return in_blocks(score, gaussian, m, jobs)


def _residual(block: Values, Q: Values) -> tuple[Values, npt.NDArray[np.bool_]]:
    """Return the part of each column outside the basis, and which columns have none."""
    left = block - Q @ (Q.T @ block)
    small = NOTHING_LEFT if block.dtype == np.float64 else np.finfo(np.float32).eps * 8
    return left, np.asarray(squared_norms(left) <= small**2 * squared_norms(block))


def _basis(basis: FloatArray, n: int, gaussian: Values) -> Values:
    if basis.ndim != 2 or len(basis) != n:
        raise DataError(f"`basis` must have shape ({n}, r); got {basis.shape}. See `neutral_basis`.")
    return np.asarray(basis, dtype=gaussian.dtype)
