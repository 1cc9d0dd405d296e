"""Where a matrix of predictions P (N, M) is read from, block by block along its memory: an array, or chunks of models."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import pandas as pd

from risk import DataError
from risk.checks import freeze

__all__ = ["BLOCK", "ArraySource", "ChunkSource", "Piece", "Source"]

BLOCK = 256
"""Rows, or models, multiplied at a time: enough for BLAS to run at full speed, few enough to read ahead."""

IntArray = npt.NDArray[np.int64]
Values = npt.NDArray[Any]
Chunks = Iterable[tuple[Sequence[str], Values]]


class Piece(NamedTuple):
    """A block of P: which rows, which of the models that take part, and the values to pick those models from."""

    rows: slice
    models: slice
    values: Values
    pick: IntArray | None = None

    def matrix(self) -> Values:
        """Return the values of the models that take part, as BLAS can read them; where that is a copy, a worker makes it."""
        by_rows = _by_rows(self.values)
        if self.pick is not None:
            return self.values.take(self.pick, axis=1) if by_rows else self.values.T.take(self.pick, axis=0).T
        if self.values.itemsize in self.values.strides:
            return self.values
        return np.array(self.values, order="C" if by_rows else "F")


class Source(Protocol):
    """Where P is read from."""

    assets: int
    dtype: np.dtype[Any]

    def pieces(self, models: IntArray) -> Iterator[Piece]:
        """Yield the columns of these models, ascending, piece by piece."""
        ...


class ArraySource:
    """P in one array, on disk or in memory, read along it."""

    def __init__(self, values: Values, names: tuple[str, ...]) -> None:
        if values.ndim != 2 or values.shape[1] != len(names) or not len(values):
            raise DataError(f"`values` must have shape (N, {len(names)}), a column per model; got {values.shape}.")
        _check_type(values)
        self.values, self.assets, self.dtype = freeze(np.asarray(values)), len(values), values.dtype

    def pieces(self, models: IntArray) -> Iterator[Piece]:
        """Yield rows of an array in C order, else columns."""
        all_of_them = len(models) == self.values.shape[1]
        if _by_rows(self.values):
            for start in range(0, self.assets, BLOCK):
                rows = slice(start, start + BLOCK)
                yield Piece(rows, slice(None), self.values[rows], None if all_of_them else models)
            return
        for start in range(0, len(models), BLOCK):
            part = slice(start, start + BLOCK)
            values = self.values[:, part] if all_of_them else self.values
            yield Piece(slice(None), part, values, None if all_of_them else models[part])


class ChunkSource:
    """P in chunks of models of any width, joined or cut to blocks: how it is cut changes no result."""

    def __init__(self, chunks: Chunks, names: tuple[str, ...]) -> None:
        if isinstance(chunks, pd.DataFrame):
            raise DataError(
                "`values` is a DataFrame: Prepared.from_frame gaussianises one; give .to_numpy() if it is done."
            )
        if isinstance(chunks, Iterator) or not isinstance(chunks, Iterable):
            raise DataError(
                f"`values` must be an array or chunks that can be read again; got {type(chunks).__name__}. "
                "Give a list, or an object whose __iter__ reads anew."
            )
        first = next(iter(chunks), None)
        if first is None:
            raise DataError(f"`values` yields no chunk; give (names, array) pairs of {len(names)} models.")
        _, values = _check_chunk(first)
        self.chunks, self.names, self.assets, self.dtype = chunks, names, len(values), values.dtype

    def pieces(self, models: IntArray) -> Iterator[Piece]:
        """Yield blocks of columns, whatever the width of the chunks."""
        start, parts = 0, deque[Values]()
        for values in self._wanted(models):
            rest = values
            while rest.shape[1]:
                room = BLOCK - sum(part.shape[1] for part in parts)
                parts.append(rest[:, :room])
                rest = rest[:, room:]
                if parts[-1].shape[1] == room:
                    yield _joined(start, parts)
                    start += BLOCK
                    parts.clear()
        if parts:
            yield _joined(start, parts)

    def _wanted(self, models: IntArray) -> Iterator[Values]:
        """Yield of each chunk the columns that are asked for, having checked that it is what it was."""
        done = 0
        for chunk in self.chunks:
            names, values = _check_chunk(chunk)
            if names != self.names[done : done + len(names)]:
                raise DataError(
                    f"`values` yields models {', '.join(names[:3])}... where `models` has "
                    f"{', '.join(self.names[done : done + 3]) or 'no more'}...: chunks must follow the order of `models`."
                )
            if len(values) != self.assets or values.dtype != self.dtype:
                raise DataError(
                    f"`values` of model {names[0]!r} must be {self.dtype} of {self.assets} assets, as the first chunk; "
                    f"got {values.dtype} of {len(values)}."
                )
            inside = models[np.searchsorted(models, done) : np.searchsorted(models, done + len(names))] - done
            yield values if len(inside) == len(names) else Piece(slice(None), slice(None), values, inside).matrix()
            done += len(names)
        if done != len(self.names):
            raise DataError(f"`values` ends after {done} of {len(self.names)} models; {self.names[done]!r} is missing.")


def _joined(start: int, parts: deque[Values]) -> Piece:
    """Return the parts as one block in Fortran order, whatever theirs: BLAS may round otherwise in another."""
    if len(parts) == 1:
        values = np.asfortranarray(parts[0])
    else:
        values = np.empty((len(parts[0]), sum(part.shape[1] for part in parts)), parts[0].dtype, order="F")
        np.concatenate(parts, axis=1, out=values)
    return Piece(slice(None), slice(start, start + values.shape[1]), values)


def _check_chunk(chunk: Any) -> tuple[tuple[str, ...], Values]:
    if not (isinstance(chunk, tuple) and len(chunk) == 2 and isinstance(chunk[1], np.ndarray)):
        raise DataError(f"a chunk of `values` must be a pair (names, array); got {type(chunk).__name__}.")
    names, values = tuple(str(name) for name in chunk[0]), chunk[1]
    if values.ndim != 2 or values.shape[1] != len(names) or not values.size:
        raise DataError(
            f"the chunk of `values` of models {', '.join(names[:3])}... must have shape (N, {len(names)}); got {values.shape}."
        )
    _check_type(values)
    return names, values


def _check_type(values: Values) -> None:
    if isinstance(values, np.ma.MaskedArray):
        raise DataError("`values` is a masked array: give gaussianise(values.filled(np.nan)), 0 where not covered.")
    if values.dtype not in (np.float32, np.float64):
        raise DataError(
            f"`values` must be float32 or float64; got {values.dtype}. Convert it with .astype(np.float32)."
        )


def _by_rows(values: Values) -> bool:
    """Return whether a row lies closer together in memory than a column."""
    return abs(values.strides[0]) >= abs(values.strides[1])
