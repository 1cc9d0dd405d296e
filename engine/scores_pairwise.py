"""How much a model is like features, like an example and like every other model, on one date."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from risk import DataError
from risk.checks import FloatArray, check_array

__all__ = ["exposure_dissimilarity", "feature_exposures", "pairwise_correlation"]

Values = npt.NDArray[Any]

WIDTH = 512
"""Models correlated with all others at a time: bounds the memory beside the normalised predictions to WIDTH x M."""


def feature_exposures(gaussian: Values, features: npt.ArrayLike) -> FloatArray:
    """Return the correlation of each feature with each model's gaussianised ranks, shape (q, M).

    Parameters
    ----------
    gaussian : ndarray of shape (N, M), float32 or float64
    features : array_like of shape (N, q)

    Returns
    -------
    ndarray of shape (q, M)
        NaN in the row of a constant feature and in the column of a constant model. A model's largest absolute entry is its
        maximum feature exposure; the root of the mean square of its column summarises all.

    Raises
    ------
    DataError
        If shapes differ or a feature is not finite.

    Examples
    --------
    >>> feature_exposures(np.array([[-1.0], [0.0], [1.0]]), [[2.0, 5.0], [4.0, 5.0], [6.0, 5.0]]).round(12).tolist()
    [[1.0], [nan]]
    """
    table = np.asarray(features, dtype=np.float64)
    if gaussian.ndim != 2 or table.ndim != 2:
        raise DataError(
            f"`gaussian` must have shape (N, M) and `features` (N, q); got {gaussian.shape} and {table.shape}."
        )
    table = check_array("features", table, (len(gaussian), table.shape[1]))
    F, F_seen = _normalised(np.asarray(table, dtype=gaussian.dtype))
    blocks = []
    for start in range(0, gaussian.shape[1], WIDTH):
        Z, seen = _normalised(gaussian[:, start : start + WIDTH])
        blocks.append(np.where(F_seen[:, None] & seen, F.T @ Z, np.nan).astype(np.float64))
    return np.concatenate(blocks, axis=1) if blocks else np.empty((table.shape[1], 0))


def exposure_dissimilarity(exposures: FloatArray, example: FloatArray) -> FloatArray:
    """Return 1 - U'E/(E'E) of each model, shape (M,): 0 for the example's exposures, 1 for none, below 0 for larger ones.

    Parameters
    ----------
    exposures : ndarray of shape (q, M)
        U, from `feature_exposures`. Rows that are NaN in `example` (constant features) do not count.
    example : ndarray of shape (q,)
        E, of the example model on the same date.

    Returns
    -------
    ndarray of shape (M,)
        NaN for a constant model, and throughout where the example has no exposure.

    Raises
    ------
    DataError
        If shapes differ.

    References
    ----------
    Oliver (2022), True Contribution Details.

    Examples
    --------
    >>> exposure_dissimilarity(np.array([[0.1, 0.0, 0.2], [0.2, 0.0, 0.4]]), np.array([0.1, 0.2])).round(12).tolist()
    [0.0, 1.0, -1.0]
    """
    if exposures.ndim != 2 or example.shape != exposures.shape[:1]:
        raise DataError(
            f"`exposures` must have shape (q, M) and `example` (q,); got {exposures.shape} and {example.shape}."
        )
    known = ~np.isnan(example)
    E = example[known]
    size = float(E @ E)
    if size == 0:
        return np.full(exposures.shape[1], np.nan)
    return np.asarray(1 - E @ exposures[known] / size)


def pairwise_correlation(gaussian: Values) -> tuple[FloatArray, FloatArray]:
    """Return each model's largest and average correlation with every other model: MCWNM and APCWNM, each of shape (M,).

    Parameters
    ----------
    gaussian : ndarray of shape (N, M), float32 or float64
        Gaussianised ranks, in whose precision the products are taken; 0 where a model does not cover the asset.

    Returns
    -------
    largest, average : ndarray of shape (M,)
        Signed: an opposite counts as -1. NaN for a constant model, which is nobody's other either, and where there is no other.

    Notes
    -----
    N M^2 multiplications for the largest, of which symmetry saves half; N M for the average, which is
    (z_k' sum_j z_j - 1)/(M - 1) with z the columns of mean 0 and norm 1.

    References
    ----------
    Numerai, documentation, definitions of APCWNM and MCWNM.

    Examples
    --------
    >>> g = np.array([[-1.0, -1.0, 1.0], [0.0, 0.0, 0.0], [1.0, 1.0, -1.0]])
    >>> largest, average = pairwise_correlation(g)
    >>> largest.round(12).tolist(), abs(average).round(12).tolist()
    ([1.0, 1.0, -1.0], [0.0, 0.0, 1.0])
    """
    if gaussian.ndim != 2:
        raise DataError(f"`gaussian` must have shape (N, M); got {gaussian.shape}.")
    m = gaussian.shape[1]
    largest, average = np.full(m, np.nan), np.full(m, np.nan)
    Z, seen = _normalised(gaussian)
    if not seen.all():
        Z = Z[:, seen]
    count = Z.shape[1]
    if count < 2:
        return largest, average
    best = np.full(count, -np.inf, dtype=Z.dtype)
    for start in range(0, count, WIDTH):
        stop = min(start + WIDTH, count)
        C = Z[:, start:stop].T @ Z[:, start:]  # the pairs before `start` were seen from the other side
        np.fill_diagonal(C, -np.inf)
        np.maximum(best[start:stop], C.max(axis=1), out=best[start:stop])
        np.maximum(best[stop:], C[:, stop - start :].max(axis=0), out=best[stop:])
    largest[seen] = best
    total = Z.sum(axis=1, dtype=np.float64)
    own = np.concatenate(
        [
            np.einsum("ij,ij->j", block, block) - total @ block
            for block in (Z[:, s : s + WIDTH].astype(np.float64) for s in range(0, count, WIDTH))
        ]
    )
    average[seen] = -own / (count - 1)
    return largest, average


def _normalised(values: Values) -> tuple[Values, npt.NDArray[np.bool_]]:
    """Return the columns with mean 0 and norm 1, and which of them have spread; the others are 0."""
    Z = np.empty_like(values, order="F")
    seen = np.asarray((values != values[:1]).any(axis=0))
    for start in range(0, values.shape[1], WIDTH):
        block = values[:, start : start + WIDTH]
        block = block - block.mean(axis=0, dtype=np.float64).astype(values.dtype)
        norm = np.sqrt(np.einsum("ij,ij->j", block, block))
        norm[~seen[start : start + WIDTH]] = np.inf
        Z[:, start : start + WIDTH] = block / norm
    return Z, seen
