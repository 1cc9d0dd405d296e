"""Tables that grow by a row a day without being copied."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from risk.checks import freeze

__all__ = ["GrowingRows"]

# A table is moved once in so many days; memory that is set aside and not yet written to costs nothing.
_SPARE = 256


class GrowingRows:
    """Rows of one shape and kind; those that were written stay as they are."""

    def __init__(self, shape: tuple[int, ...], kind: npt.DTypeLike, rows: int) -> None:
        self._buffer = np.empty((rows + _SPARE, *shape), dtype=kind)
        self._length = 0

    def continued(self, length: int, rows: int) -> GrowingRows:
        """Return a table that starts with the first `length` rows of this one and has room for `rows` more.

        It is this one, unless its room is used up or something else was written behind those rows before.
        """
        if self._length == length and length + rows <= len(self._buffer):
            return self
        other = GrowingRows(self._buffer.shape[1:], self._buffer.dtype, length + rows)
        other._buffer[:length] = self._buffer[:length]
        other._length = length
        return other

    def append(self, row: npt.NDArray[Any] | float) -> None:
        """Write the next row."""
        self._buffer[self._length] = row
        self._length += 1

    def view(self) -> npt.NDArray[Any]:
        """Return the rows so far, read-only."""
        return freeze(self._buffer[: self._length])
