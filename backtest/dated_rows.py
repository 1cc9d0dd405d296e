"""Rows of a file by date and asset, or by date and currency: read, judged row by row, and carried to the days of a panel.

Day t has the latest row of each asset or currency that is not dated after t, however old.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from backtest.market_rules import Finding, Severity
from backtest.tables import Kind, Table
from risk.checks import BoolArray, FloatArray

__all__ = ["DatedRows", "read_dated_rows"]

NONE = -1


@dataclass(frozen=True, eq=False)
class DatedRows:
    """R rows of a file, in file order; nothing is judged but the kind of each column.

    Attributes
    ----------
    file : str
    field : str
        What a row is about besides its date: ``asset`` or ``currency``.
    day : datetime64[us] ndarray of shape (R,)
    keys : tuple of str, length K
        Distinct assets or currencies, sorted.
    key : int32 ndarray of shape (R,)
        Position in `keys`.
    numbers : mapping of str to float64 ndarray of shape (R,)
        NaN where the file has no value, or no such column.
    """

    file: str
    field: str
    day: npt.NDArray[np.datetime64]
    keys: tuple[str, ...]
    key: npt.NDArray[np.int32]
    numbers: Mapping[str, FloatArray]

    def __len__(self) -> int:
        return len(self.day)

    @property
    def names(self) -> npt.NDArray[np.object_]:
        """Asset or currency of each row, shape (R,)."""
        return np.array([*self.keys, ""], dtype=object)[self.key]

    def date(self, row: int) -> pd.Timestamp:
        """Return the day of a row."""
        return pd.Timestamp(self.day[row])

    def about(self, row: int) -> str:
        """Return a row's asset or currency and its day, as messages name them."""
        return f"{self.keys[self.key[row]]!r} on {self.date(row).date()}"

    def errors(self, rule: str, wrong: BoolArray, what: Callable[[int], str], remedy: str) -> list[Finding]:
        """Return one error for all rows that are `wrong`, which names the first; empty where none is.

        Parameters
        ----------
        rule : str
        wrong : bool ndarray of shape (R,)
        what : callable
            Says of a row what is wrong with it.
        remedy : str
        """
        count = int(wrong.sum())
        if not count:
            return []
        row = int(wrong.argmax())
        rows = "1 such row" if count == 1 else f"{count} such rows"
        text = f"`{self.file}` row {row}: {what(row)} ({rows}). {remedy}"
        return [Finding(Severity.ERROR, rule, self.file, count, text)]

    def number_errors(self, field: str, wrong: BoolArray, wanted: str, remedy: str) -> list[Finding]:
        """Return one error for the rows whose number is `wrong`; empty where none is."""

        def what(row: int) -> str:
            value = self.numbers[field][row]
            given = "an empty value" if np.isnan(value) else f"{value:.6g}"
            return f"`{field}` must be {wanted}; got {given} for {self.about(row)}"

        return self.errors(f"bad_{field}", wrong, what, remedy)

    def order_errors(self) -> list[Finding]:
        """Return an error where dates do not ascend."""
        back = np.zeros(len(self), dtype=np.bool_)
        back[1:] = np.diff(self.day) < np.timedelta64(0)

        def what(row: int) -> str:
            return f"`date` must ascend; {self.date(row).date()} comes after {self.date(row - 1).date()}"

        return self.errors("unsorted_dates", back, what, "Sort the file by date and write it again.")

    def repeat_errors(self, *besides: npt.NDArray[np.object_], remedy: str = "Keep one of them.") -> list[Finding]:
        """Return an error where rows have the same date and asset or currency, and the same of every column `besides`."""
        # Most files repeat nothing, which a sort of one number per row tells in little memory.
        cell = np.sort(self.day.astype("datetime64[D]").astype(np.int64) * max(len(self.keys), 1) + self.key)
        if not (cell[1:] == cell[:-1]).any():
            return []
        columns = {"day": self.day, "key": self.key} | {str(i): column for i, column in enumerate(besides)}
        again: BoolArray = pd.DataFrame(columns).duplicated().to_numpy()

        def what(row: int) -> str:
            return f"`date` and `{self.field}` must be distinct; {self.about(row)} stands on an earlier row too"

        return self.errors("duplicate_rows", again, what, remedy)

    def sources(self, dates: pd.DatetimeIndex, keys: Sequence[str]) -> npt.NDArray[np.int32]:
        """Return the row in force on each day for each of `keys`, -1 where there is none yet, shape (T, K).

        Rows of other keys, and those after the last day, are left out. Dates of the rows must ascend.
        """
        place = pd.Index(keys).get_indexer(pd.Index(self.keys, dtype=object))
        column = place[self.key] if len(self) else np.zeros(0, dtype=np.intp)
        start = np.searchsorted(dates.to_numpy(dtype="datetime64[us]"), self.day)
        rows = np.flatnonzero((column >= 0) & (start < len(dates)))
        source = np.full((len(dates), len(keys)), NONE, dtype=np.int32)
        # Of several rows that begin to count on the same day the latest does: rows ascend, and so do their numbers.
        np.maximum.at(source, (start[rows], column[rows]), rows.astype(np.int32))
        return np.asarray(np.maximum.accumulate(source, axis=0))

    def as_of(self, field: str, dates: pd.DatetimeIndex, keys: Sequence[str]) -> FloatArray:
        """Return a number as it is known on each day for each of `keys`, NaN where no row is in force, shape (T, K)."""
        return self.at(field, self.sources(dates, keys))

    def at(self, field: str, source: npt.NDArray[np.int32]) -> FloatArray:
        """Return a number of the rows `source`, NaN where that is -1."""
        result = np.full(source.shape, np.nan)
        known = source != NONE
        result[known] = self.numbers[field][source[known]]
        return result


def read_dated_rows(
    table: Table, field: str, numbers: Sequence[str], *, flags: Sequence[str] = (), optional: Sequence[str] = ()
) -> DatedRows:
    """Return the rows of a file with the columns date, `field` and the named numbers.

    Parameters
    ----------
    table : Table
    field : str
        ``asset`` or ``currency``.
    numbers : sequence of str
    flags : sequence of str
        Those of `numbers` that may be true or false instead: true is read as NaN, no limit, and false as 0.
    optional : sequence of str
        Those of `numbers` that the file need not have.

    Raises
    ------
    DataError
        If the file is damaged, a column is missing or of another kind, or a date, an asset or a currency is empty.
    """
    table.check_column("date", Kind.DATE)
    table.check_column(field, Kind.TEXT)
    present = [name for name in numbers if name in table.columns or name not in optional]
    for name in present:
        table.check_column(name, Kind.NUMBER_OR_FLAG if name in flags else Kind.NUMBER)
    read = table.read(["date", field, *present])
    key, keys = table.texts(read, field)
    # A column that is not there takes no memory.
    values: dict[str, FloatArray] = {name: np.broadcast_to(np.float64(np.nan), read.num_rows) for name in numbers}
    values |= {name: _number_or_flag(table, read, name) for name in present}
    return DatedRows(table.file, field, table.days(read), tuple(str(name) for name in keys), key, values)


def _number_or_flag(table: Table, read: pa.Table, name: str) -> FloatArray:
    """Return a column as float64, NaN where it is empty; of true or false, true as NaN and false as 0."""
    numbers = table.numbers(read, name).astype(np.float64)
    return np.where(numbers == 1.0, np.nan, numbers) if pa.types.is_boolean(read[name].type) else numbers
