"""What may not pass: the errors of the house and the checks that raise them.

Every message names the thing, what was wanted, what was given and the remedy.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["DataError", "check_array", "check_labels", "freeze"]

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]


class DataError(ValueError):
    """Input that cannot be used: the message names the file or argument, the field, the value and the remedy."""


def freeze(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return a read-only view, so that a result cannot be changed after it was checked."""
    view = array.view()
    view.flags.writeable = False
    return view


def check_array(name: str, value: npt.ArrayLike, shape: tuple[int, ...]) -> FloatArray:
    """Return `value` as a finite read-only float64 array of exactly `shape`.

    Raises
    ------
    DataError
        If an entry is no number, the shape differs, or an entry is NaN or infinite.
    """
    try:
        array = np.array(value, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(f"`{name}` must be numbers of shape {shape}; {error}.") from error
    if array.shape != shape:
        raise DataError(f"`{name}` must have shape {shape}; got {array.shape}.")
    bad = ~np.isfinite(array)
    if bad.any():
        where = tuple(int(i) for i in np.argwhere(bad)[0])
        raise DataError(
            f"`{name}` must be finite; got {array[where]} at position {where} and {int(bad.sum())} such entries in all. "
            "Decide missing values before the call: nothing is filled here."
        )
    return freeze(array)


def check_labels(name: str, labels: Any) -> tuple[str, ...]:
    """Return `labels` as a tuple of distinct strings.

    Raises
    ------
    DataError
        If a label appears twice or there is none.
    """
    result = tuple(str(label) for label in labels)
    if not result:
        raise DataError(f"`{name}` must not be empty.")
    if len(set(result)) != len(result):
        seen: set[str] = set()
        twice = next(label for label in result if label in seen or seen.add(label))  # type: ignore[func-returns-value]
        raise DataError(f"`{name}` must be distinct; {twice!r} appears more than once.")
    return result
