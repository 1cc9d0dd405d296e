"""From raw predictions to comparable ones: ranks, gaussianised; and a score of mean 0 and standard deviation 1."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any, TypeVar, overload

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri

from risk import DataError
from risk.checks import FloatArray, freeze

__all__ = ["gaussianise", "standardise"]

IntArray = npt.NDArray[np.int64]
Values = npt.NDArray[Any]
Real = TypeVar("Real", np.float32, np.float64)

BLOCK = 2**17
"""Entries ranked at a time by one thread: bounds the memory beside predictions and result to a few MB, inside the cache."""


@overload
def gaussianise(values: npt.ArrayLike, *, jobs: int = ...) -> tuple[FloatArray, IntArray]: ...


@overload
def gaussianise(values: npt.ArrayLike, *, dtype: type[Real], jobs: int = ...) -> tuple[npt.NDArray[Real], IntArray]: ...


def gaussianise(values: npt.ArrayLike, *, dtype: type[Any] = np.float64, jobs: int = 2) -> tuple[Values, IntArray]:
    """Return gaussianised ranks of each column, and how many names each column covers.

    Parameters
    ----------
    values : array_like of shape (N,) or (N, M)
        Predictions on any scale. NaN: the name is not covered. Float32 is ranked as it is, in half the memory.
    dtype : type
        Of the result: ``np.float64``, or ``np.float32`` for half the memory.
    jobs : int
        Threads that share the columns. No result depends on it.

    Returns
    -------
    prepared : ndarray, same shape as `values`
        Phi^-1((rank - 0.5) / n) over the n names that a column covers, with ties kept at their average rank; 0 where
        the column does not cover the name. Each column lies together in memory (Fortran order).
    coverage : ndarray of int, shape (M,), or () for one column
        n of each column; the other N - n entries were set to 0.

    Raises
    ------
    DataError
        If `values` has another number of dimensions or holds an infinite value, or an option is out of its range.

    Notes
    -----
    A column's result depends on that column alone, bit for bit, and reversed predictions give exactly the opposite. A
    constant column gives zeros.

    Examples
    --------
    >>> prepared, coverage = gaussianise([0.2, float("nan"), 0.9, 0.2])
    >>> prepared.round(4).tolist(), int(coverage)
    ([-0.4307, 0.0, 0.9674, -0.4307], 3)
    """
    if dtype not in (np.float32, np.float64):
        raise DataError(f"`dtype` must be np.float32 or np.float64; got {dtype!r}.")
    if jobs < 1:
        raise DataError(f"`jobs` must be at least 1 thread; got {jobs}.")
    array = np.asarray(values)
    if array.dtype != np.float32:
        array = np.asarray(array, dtype=np.float64)
    if array.ndim not in (1, 2):
        raise DataError(f"`values` must have shape (N,) or (N, M); got {array.shape}.")
    table = array[:, None] if array.ndim == 1 else array
    n, m = table.shape
    prepared = np.empty((n, m), dtype=dtype, order="F")
    coverage = np.empty(m, dtype=np.int64)
    width = max(1, BLOCK // max(1, n))

    def work(start: int) -> None:
        block = slice(start, start + width)
        coverage[block] = _gaussian_ranks(table[:, block], prepared[:, block], start)

    starts = range(0, m, width)
    if jobs == 1 or len(starts) == 1:
        list(map(work, starts))
    else:
        with ThreadPoolExecutor(jobs) as pool:  # sorting, taking and comparing let other threads run
            list(pool.map(work, starts))
    return freeze(prepared.reshape(array.shape)), freeze(coverage.reshape(array.shape[1:]))


def _gaussian_ranks(values: Values, prepared: Values, start: int) -> IntArray:
    """Write the gaussianised ranks of a block of columns that begins at `start`; return how many names each covers."""
    rows = np.array(values.T, order="C")  # sorting runs along memory
    infinite = np.isinf(rows)
    if infinite.any():
        j, i = (int(k) for k in np.argwhere(infinite)[0])
        raise DataError(
            f"`values` must not be infinite; got {rows[j, i]} in row {i} of column {start + j}. Give NaN for not covered."
        )
    missing = np.isnan(rows)
    np.copyto(rows, np.inf, where=missing)  # last in order, as NaN would be, but sorted as fast as numbers are
    coverage: IntArray = rows.shape[1] - np.count_nonzero(missing, axis=1)
    for row, n, out in zip(rows, coverage, prepared.T, strict=True):
        order = np.argsort(row)
        ordered = row[order[:n]]
        out[order[:n]] = _at_average_ranks(ordered, prepared.dtype)
        out[order[n:]] = 0.0
    return coverage


def _at_average_ranks(ordered: Values, dtype: np.dtype[Any]) -> Values:
    """Return Phi^-1((rank - 0.5) / n) of n ascending values, the ranks of equal ones averaged."""
    n = len(ordered)
    table = _half_rank_quantiles(n, dtype)
    changes = ordered[1:] != ordered[:-1]
    if changes.all():
        return table[::2]
    first = np.concatenate([[0], np.flatnonzero(changes) + 1])
    last = np.append(first[1:], n) - 1
    return np.repeat(table[first + last], last - first + 1)


@lru_cache(maxsize=8)
def _half_rank_quantiles(n: int, dtype: np.dtype[Any]) -> Values:
    """Return the scores of n names at every whole and half rank from 1 to n: all that ties can lead to, 2n - 1 in all.

    Entry k, of rank 1 + k/2, is Phi^-1((k + 1)/(2n)). The upper half is the lower one's opposite, bit for bit.
    """
    lower = ndtri(np.arange(1, n) / (2 * n))
    return freeze(np.concatenate([lower, np.zeros(min(n, 1)), -lower[::-1]]).astype(dtype))


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
