"""Where two runs first differ: every table, row by row, to the bit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow.parquet as pq

from backtest.store import LATER_TABLES, SCHEMAS, Run

__all__ = ["DECISION_TABLES", "Difference", "first_difference"]

DECISION_TABLES = ("universe", "meta_model", "assets", "signals", "models", "solves", "duals", "targets", "trades")
"""What a day's decision reads and makes, and its trades; `targets` are the rows of `weights` that have one."""
_ORDER = (
    *(name for name in DECISION_TABLES if name != "targets"),
    *(name for name in SCHEMAS if name not in {*DECISION_TABLES, *LATER_TABLES}),
)
# Where several columns of a row differ, these say the least.
_CERTIFICATE = ("primal_residual", "dual_residual", "complementarity", "gap", "iterations")
_NAMES = ("asset", "factor", "limit", "model", "line", "family", "group", "investor", "kind")
_MODEL_PARTS = ("exposures", "factor_covariance", "specific_variance")


@dataclass(frozen=True)
class Difference:
    """The first cell in which two runs differ.

    Attributes
    ----------
    date : Timestamp
    table, column : str
        Column ``(row)``: one run has a row that the other has not.
    which : str
        What the row is about: its asset, factor, limit and the like.
    before, after : str
        The values.
    """

    date: pd.Timestamp
    table: str
    column: str
    which: str
    before: str
    after: str

    def __str__(self) -> str:
        about = f" of {self.which}" if self.which else ""
        return f"{self.table}.{self.column}{about} on {self.date:%Y-%m-%d}: {self.before} became {self.after}"


def first_difference(
    before: Run,
    after: Run,
    *,
    until: pd.Timestamp,
    since: pd.Timestamp | None = None,
    tables: Sequence[str] = _ORDER,
) -> tuple[int, Difference | None]:
    """Return how many rows of two runs were compared, and the earliest difference.

    Parameters
    ----------
    before, after : Run
    until, since : Timestamp
        Rows of these days and those between; from the first on without `since`.
    tables : sequence of str
        Of a run folder; ``models`` and ``targets`` beside them. Among differences of one day that in the first of them counts.
    """
    rows, found = 0, []
    for table in tables:
        if table == "models":
            parts: Iterator[tuple[str, pd.DataFrame, pd.DataFrame]] = _models(before, after, since, until)
        else:
            parts = iter([(table, _rows(before, table, since, until), _rows(after, table, since, until))])
        for name, first, second in parts:
            rows += len(first)
            difference = _compare(name, first, second)
            if difference is not None:
                found.append(difference)
    return rows, min(found, key=lambda difference: difference.date) if found else None


def _rows(run: Run, table: str, since: pd.Timestamp | None, until: pd.Timestamp) -> pd.DataFrame:
    name = "weights" if table == "targets" else table
    path = run.folder / f"{name}.parquet"
    if not path.is_file():
        return pd.DataFrame({"date": pd.DatetimeIndex([])})
    keep = [("date", "<=", until), *([] if since is None else [("date", ">=", since)])]
    frame: pd.DataFrame = pq.read_table(path, filters=keep).to_pandas()
    if table == "targets":
        frame = frame.dropna(subset="target")[["date", "asset", "target"]].reset_index(drop=True)
    return frame


def _models(
    before: Run, after: Run, since: pd.Timestamp | None, until: pd.Timestamp
) -> Iterator[tuple[str, pd.DataFrame, pd.DataFrame]]:
    dates = sorted({*before.model_dates(), *after.model_dates()})
    for date in dates:
        if date <= until and (since is None or date >= since):
            for part in _MODEL_PARTS:
                yield f"models/{part}", _model_part(before.folder, date, part), _model_part(after.folder, date, part)


def _model_part(folder: Path, date: pd.Timestamp, part: str) -> pd.DataFrame:
    path = folder / "models" / f"date={date:%Y-%m-%d}" / f"{part}.parquet"
    if not path.is_file():
        return pd.DataFrame({"date": pd.DatetimeIndex([])})
    # Partition columns in the path are no part of the file.
    frame: pd.DataFrame = pq.ParquetFile(path).read().to_pandas()
    frame.insert(0, "date", date)
    return frame


def _compare(table: str, first: pd.DataFrame, second: pd.DataFrame) -> Difference | None:
    """Return the first difference of two tables whose rows are in order of date."""
    shared = min(len(first), len(second))
    place, column = shared, "(row)"
    if shared and list(first.columns) != list(second.columns):
        other = sorted({*first.columns} ^ {*second.columns})
        date = pd.Timestamp(first["date"].iloc[0])
        return Difference(date, table, ", ".join(other) or "(order of columns)", "", "in one", "not in the other")
    for name in sorted(first.columns, key=lambda name: name in _CERTIFICATE) if shared else ():
        differs = _differs(first[name].iloc[:shared], second[name].iloc[:shared])
        at = int(differs.argmax())
        if differs[at] and at < place:
            place, column = at, str(name)
    if place == len(first) == len(second):
        return None
    row = (first if place < len(first) else second).iloc[place]
    if column == "(row)":
        told = ["a row" if place < len(frame) else "none" for frame in (first, second)]
    else:
        told = _texts(first[column].iloc[place], second[column].iloc[place])
    return Difference(pd.Timestamp(row["date"]), table, column, _about(row), *told)


def _texts(a: object, b: object) -> list[str]:
    """Return two values as texts: numbers with as many digits as it takes to tell them apart."""
    if isinstance(a, float) and isinstance(b, float):
        for digits in range(6, 17):
            if f"{a:.{digits}g}" != f"{b:.{digits}g}":
                return [f"{a:.{digits}g}", f"{b:.{digits}g}"]
        return [f"{a:.17g}", f"{b:.17g}"]
    return [str(a), str(b)]


def _differs(first: pd.Series, second: pd.Series) -> npt.NDArray[np.bool_]:
    """Return where two columns differ in a bit; what is not known is the same as what is not known."""
    if first.dtype == np.float64 and second.dtype == np.float64:
        a, b = first.to_numpy(), second.to_numpy()
        return np.asarray((a.view(np.int64) != b.view(np.int64)) & ~(np.isnan(a) & np.isnan(b)))
    if first.dtype == object or second.dtype == object:
        return np.array([not _same(a, b) for a, b in zip(first, second, strict=True)], dtype=np.bool_)
    same = (first == second) | (first.isna() & second.isna())
    return np.asarray(~same.to_numpy(dtype=np.bool_))


def _same(a: object, b: object) -> bool:
    """Return whether two entries are the same: lists element by element."""
    if isinstance(a, np.ndarray | list) or isinstance(b, np.ndarray | list):
        return np.array_equal(np.asarray(a, dtype=object), np.asarray(b, dtype=object))
    return bool(a == b) or bool(a != a and b != b)


def _about(row: pd.Series) -> str:
    """Return the names that say what a row is about."""
    names = [str(row[name]) for name in _NAMES if row.get(name)]
    return " ".join(names) if names else str(row.get("reason", ""))
