"""From raw predictions to comparable ones: ranks, gaussianised; and a score of mean 0 and standard deviation 1."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri

from risk import DataError
from risk.checks import FloatArray, freeze

__all__ = ["gaussianise", "standardise"]

IntArray = npt.NDArray[np.int64]

BLOCK = 256
"""Models ranked at a time: bounds the memory of 5,000 x 5,000 predictions to a few small copies."""


def gaussianise(values: npt.ArrayLike) -> tuple[FloatArray, IntArray]:
    """Return gaussianised ranks of each column, and how many names each column covers.

    Parameters
    ----------
    values : array_like of shape (N,) or (N, M)
        Predictions on any scale. NaN: the name is not covered.

    Returns
    -------
    prepared : ndarray, same shape as `values`
        Phi^-1((rank - 0.5) / n) over the n names that a column covers, with ties kept at their average rank; 0 where
        the column does not cover the name.
    coverage : ndarray of int, shape (M,), or () for one column
        n of each column; the other N - n entries were set to 0.

    Raises
    ------
    DataError
        If `values` has another number of dimensions or holds an infinite value.

    Notes
    -----
    A column's result depends on that column alone. A constant column gives zeros.

    Examples
    --------
    >>> prepared, coverage = gaussianise([0.2, float("nan"), 0.9, 0.2])
    >>> prepared.round(4).tolist(), int(coverage)
    ([-0.4307, 0.0, 0.9674, -0.4307], 3)
    """
    array = np.asarray(values, dtype=np.float64)
    if array.ndim not in (1, 2):
        raise DataError(f"`values` must have shape (N,) or (N, M); got {array.shape}.")
    if np.isinf(array).any():
        where = tuple(int(i) for i in np.argwhere(np.isinf(array))[0])
        raise DataError(
            f"`values` must not be infinite; got {array[where]} at position {where}. Give NaN for not covered."
        )
    table = array[:, None] if array.ndim == 1 else array
    prepared = np.empty(table.shape)
    for start in range(0, table.shape[1], BLOCK):
        prepared[:, start : start + BLOCK] = _gaussian_ranks(table[:, start : start + BLOCK])
    coverage = np.asarray(np.count_nonzero(~np.isnan(array), axis=0), dtype=np.int64)
    return freeze(prepared.reshape(array.shape)), freeze(coverage)


def _gaussian_ranks(values: FloatArray) -> FloatArray:
    rows = np.ascontiguousarray(values.T)  # sorting runs along memory
    n = rows.shape[1]
    order = np.argsort(rows, axis=1)  # NaN sorts last
    ordered = np.take_along_axis(rows, order, axis=1)
    position = np.arange(n)
    # NaN differs from itself, so each uncovered name is a group of one behind the covered ones and disturbs no tie.
    starts = np.ones(rows.shape, dtype=bool)
    starts[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    ends = np.ones(rows.shape, dtype=bool)
    ends[:, :-1] = starts[:, 1:]
    first = np.maximum.accumulate(np.where(starts, position, 0), axis=1)
    last = np.minimum.accumulate(np.where(ends, position, n)[:, ::-1], axis=1)[:, ::-1]
    covered = ~np.isnan(ordered)
    count = np.maximum(covered.sum(axis=1, keepdims=True), 1)
    # Average rank counted from 1 is (first + last) / 2 + 1.
    quantile = np.where(covered, ((first + last) / 2 + 0.5) / count, 0.5)
    result = np.empty(rows.shape)
    np.put_along_axis(result, order, ndtri(quantile), axis=1)
    return result.T


def standardise(values: npt.ArrayLike) -> FloatArray:
    """Return (x - mean) / standard deviation, shape (N,), with the population's standard deviation (divisor N).

    Raises
    ------
    DataError
        If `values` is not one-dimensional and finite, or is constant.

    Examples
    --------
    >>> standardise([1.0, 3.0]).tolist()
    [-1.0, 1.0]
    """
    x = np.asarray(values, dtype=np.float64)
    if x.ndim != 1 or not np.isfinite(x).all():
        raise DataError(
            f"`values` must be a finite array of shape (N,); got shape {x.shape} with NaN or inf, or not 1-d."
        )
    centred = x - x.mean() if len(x) else x
    spread = float(np.sqrt(np.mean(centred**2))) if len(x) else 0.0
    # Sums of N rounded terms leave a constant with a spread of its own rounding, not with 0.
    if spread <= 1e-12 * float(np.abs(x).max(initial=0.0)):
        raise DataError(
            f"a score of {len(x)} assets is constant: it ranks nothing and has no standard deviation. "
            "Leave this date out, or give predictions that differ."
        )
    return freeze(centred / spread)
