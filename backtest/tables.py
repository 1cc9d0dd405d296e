"""One table of a data set on disk: found, opened and read with every failure named.

Parquet and CSV go through the same lazy pyarrow data set, so that a filter on dates reads only what it needs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.dataset as ds

from risk import DataError

__all__ = ["Kind", "Table", "find_table", "parse_date"]

# Text columns of the data set: a CSV reader left to guess would read the asset "0700" as the number 700.
TEXT_COLUMNS = (
    *("asset", "model", "country", "sector", "name", "industry", "currency"),
    *("kind", "new_asset", "cause", "investor"),
)
READ_FAILURES = (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, OSError)


class Kind(Enum):
    """What a column holds."""

    DATE = "a date or time stamp without time zone"
    TEXT = "text"
    OPTIONAL_TEXT = "text, or empty on every row"
    NUMBER = "a number"
    NUMBER_OR_FLAG = "a number, or true or false"


def parse_date(name: str, value: str | pd.Timestamp) -> pd.Timestamp:
    """Return `value` as a time-zone naive day.

    Raises
    ------
    DataError
        If it is no date, has a time zone or a time of day.

    Examples
    --------
    >>> parse_date("start", "2024-01-31")
    Timestamp('2024-01-31 00:00:00')
    """
    try:
        date = pd.Timestamp(value)
    except ValueError as error:
        raise DataError(f"`{name}` must be a date such as 2024-01-31; got {value!r}.") from error
    if pd.isna(date):
        raise DataError(f"`{name}` must be a date such as 2024-01-31; got {value!r}.")
    if date.tz is not None:
        raise DataError(
            f"`{name}` must have no time zone; got {date}. Pass the local trading day, as tz_localize(None)."
        )
    if date != date.normalize():
        raise DataError(f"`{name}` must be a day without time of day; got {date}. Pass {date.date()}.")
    return date


@dataclass(frozen=True, eq=False)
class Table:
    """A file (or a folder of date=... partitions) of a data set.

    Attributes
    ----------
    file : str
        Name shown in messages, relative to the data set's folder.
    source : pyarrow.dataset.Dataset
        Opened, not read.
    """

    file: str
    source: Any

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns, in file order."""
        return tuple(self.source.schema.names)

    @property
    def metadata(self) -> dict[bytes, bytes]:
        """Key-value metadata of the file's schema."""
        return dict(self.source.schema.metadata or {})

    def check_column(self, name: str, kind: Kind) -> None:
        """Refuse a column that is missing or of another kind.

        Raises
        ------
        DataError
            Naming the file, the column, what it holds and the remedy.
        """
        if name not in self.columns:
            raise DataError(
                f"`{self.file}` has no column `{name}`; it has {', '.join(self.columns)}. Add or rename the column."
            )
        found = self.source.schema.field(name).type
        if pa.types.is_timestamp(found) and found.tz is not None:
            raise DataError(
                f"`{self.file}`: `{name}` must have no time zone; got {found}. "
                "Write the local trading day: dates.dt.tz_localize(None).dt.normalize()."
            )
        if not _is_kind(found, kind):
            raise DataError(
                f"`{self.file}`: `{name}` must be {kind.value}; got type {found}. Convert the column and write it again."
            )

    def read(
        self, columns: Sequence[str], start: pd.Timestamp | None = None, end: pd.Timestamp | None = None
    ) -> pa.Table:
        """Return the named columns as an arrow table, rows from `start` to `end` inclusive, in file order.

        Raises
        ------
        DataError
            If the file is truncated or damaged.
        """
        keep = None
        for bound, is_start in ((start, True), (end, False)):
            if bound is not None:
                scalar = pa.scalar(bound.to_pydatetime(), pa.timestamp("ms")).cast(
                    self.source.schema.field("date").type
                )
                side = ds.field("date") >= scalar if is_start else ds.field("date") <= scalar
                keep = side if keep is None else keep & side
        try:
            return self.source.to_table(columns=list(columns), filter=keep)
        except READ_FAILURES as error:
            raise _unreadable(self.file, error) from error

    def days(self, table: pa.Table, name: str = "date", *, optional: bool = False) -> npt.NDArray[np.datetime64]:
        """Return a date column of a table read from this file as datetime64[us] days; NaT where missing, if optional.

        Raises
        ------
        DataError
            If a date is missing or has a time of day.
        """
        column = table[name]
        if column.null_count and not optional:
            raise DataError(f"`{self.file}`: `{name}` is empty on {column.null_count} rows. Give every row its date.")
        stamps: npt.NDArray[np.datetime64] = column.cast(pa.timestamp("ns"), safe=False).to_numpy()
        days = stamps.astype("datetime64[D]")
        wrong = (days != stamps) & ~np.isnat(stamps)
        if wrong.any():
            raise DataError(
                f"`{self.file}`: `{name}` must be days without time of day; got {stamps[int(wrong.argmax())]} "
                f"({int(wrong.sum())} such rows in all). Write dates.dt.normalize()."
            )
        return days.astype("datetime64[us]")

    def texts(self, table: pa.Table, name: str) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.object_]]:
        """Return a text column as codes into its sorted distinct values.

        Raises
        ------
        DataError
            If a value is missing or empty.
        """
        column = table[name]
        if not pa.types.is_dictionary(column.type):
            column = column.dictionary_encode()
        column = column.unify_dictionaries().combine_chunks()
        if column.null_count:
            raise DataError(f"`{self.file}`: `{name}` is empty on {column.null_count} rows. Name it on every row.")
        values = np.array(column.dictionary.to_pylist(), dtype=object)
        codes = np.asarray(column.indices.to_numpy(zero_copy_only=False), dtype=np.int32)
        used = np.flatnonzero(np.bincount(codes, minlength=len(values))) if len(values) else np.zeros(0, dtype=np.intp)
        if (values[used] == "").any():
            raise DataError(f"`{self.file}`: `{name}` is an empty text on some rows. Name it on every row.")
        names, inverse = np.unique(values[used].astype(str), return_inverse=True)
        position = np.full(len(values), -1, dtype=np.int32)
        position[used] = inverse
        return position[codes], names.astype(object)

    def optional_texts(self, table: pa.Table, name: str) -> npt.NDArray[np.object_]:
        """Return a text column row by row, an empty text where it has none."""
        return np.array([text or "" for text in table[name].to_pylist()], dtype=object)

    def numbers(self, table: pa.Table, name: str) -> npt.NDArray[np.floating[Any]]:
        """Return a number column with NaN where it is empty; single precision stays single, for its memory."""
        column = table[name]
        if not pa.types.is_floating(column.type):
            column = column.cast(pa.float64())
        array: npt.NDArray[np.floating[Any]] = column.to_numpy()
        return array


def find_table(folder: Path, name: str) -> Table | None:
    """Return the table `name` of a data set, or None where there is no such file; nothing is read but its schema.

    Raises
    ------
    DataError
        If it is there twice, truncated, damaged or separated by something else than commas.
    """
    options = [folder / f"{name}.parquet", folder / f"{name}.csv", folder / name]
    found = [path for path in options if (path.is_dir() if path.suffix == "" else path.is_file())]
    if not found:
        return None
    if len(found) > 1:
        raise DataError(
            f"`{folder.name}` has both `{found[0].name}` and `{found[1].name}`: which one counts is not clear. Remove one."
        )
    path = found[0]
    if path.is_dir():
        return _open_partitions(path)
    return open_file(path, path.name)


def open_file(path: Path, file: str) -> Table:
    """Return one Parquet or CSV file, opened; `file` is its name in messages.

    Raises
    ------
    DataError
        If it is truncated, damaged or separated by something else than commas.
    """
    if path.suffix == ".csv":
        texts = {column: pa.string() for column in TEXT_COLUMNS}
        layout = ds.CsvFileFormat(convert_options=pyarrow.csv.ConvertOptions(column_types=texts))
    else:
        layout = ds.ParquetFileFormat()
    try:
        source = ds.dataset(str(path), format=layout)
    except READ_FAILURES as error:
        raise _unreadable(file, error) from error
    if path.suffix == ".csv" and len(source.schema.names) == 1:
        raise DataError(
            f"`{file}` has one column only, {source.schema.names[0]!r}: its separator is not a comma. "
            "Write it with commas, or as Parquet."
        )
    return Table(file, source)


def _open_partitions(folder: Path) -> Table:
    parts = sorted(path for path in folder.iterdir() if not path.name.startswith((".", "_")))
    for part in parts:
        if not (part.is_dir() and part.name.startswith("date=")):
            raise DataError(
                f"`{folder.name}/{part.name}` is no partition; wanted folders named date=YYYY-MM-DD. Move it away."
            )
        parse_date(f"{folder.name}/{part.name}", part.name.removeprefix("date="))
    files = [str(path) for part in parts for path in sorted(part.glob("*.parquet"))]
    if not files:
        raise DataError(f"`{folder.name}/` has no Parquet file; wanted {folder.name}/date=YYYY-MM-DD/*.parquet.")
    layout = ds.partitioning(pa.schema([("date", pa.timestamp("ms"))]), flavor="hive")
    try:
        source = ds.dataset(files, format="parquet", partitioning=layout, partition_base_dir=str(folder))
    except READ_FAILURES as error:
        raise _unreadable(f"{folder.name}/", error) from error
    return Table(f"{folder.name}/", source)


def _is_kind(found: Any, kind: Kind) -> bool:
    if kind is Kind.DATE:
        return bool(pa.types.is_timestamp(found) or pa.types.is_date(found))
    if kind is Kind.TEXT:
        inner = found.value_type if pa.types.is_dictionary(found) else found
        return bool(pa.types.is_string(inner) or pa.types.is_large_string(inner))
    if kind is Kind.OPTIONAL_TEXT:
        return bool(pa.types.is_null(found)) or _is_kind(found, Kind.TEXT)
    if kind is Kind.NUMBER_OR_FLAG and pa.types.is_boolean(found):
        return True
    return bool(pa.types.is_floating(found) or pa.types.is_integer(found) or pa.types.is_null(found))


def _unreadable(file: str, error: BaseException) -> DataError:
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    return DataError(
        f"`{file}` cannot be read: {reason} The file is truncated, damaged or of another format; write it again."
    )
