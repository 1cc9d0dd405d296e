"""A run while it is under way: tables in parts, a checkpoint to go on from, and one writer at a time.

Until the run is whole all of it is in `RUN.partial`: parts of tables, checkpoint, lock, and `final`, which becomes `RUN` by one
rename. What a process wrote after its last checkpoint is forgotten by the one that resumes, so the final files depend on
the rows alone and not on when anything was killed.
"""

from __future__ import annotations

import fcntl
import json
import os
import pickle
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from backtest.store import FORMAT, LATER_TABLES, SCHEMAS, Run, partial_of
from risk import DataError, FactorModel
from risk.checks import FloatArray

__all__ = ["DiskError", "RunWriter", "differences"]

ROW_GROUP = 100_000
LOCK, INPUTS, CHECKPOINT, PARTS, FINAL = "lock", "inputs.json", "checkpoint", "parts", "final"


class DiskError(DataError):
    """A run folder cannot be written; what it holds can be resumed."""


class RunWriter:
    """Writes one run. Use as a context manager; call `finish` once, or nothing appears under the final name.

    Parameters
    ----------
    out : Path
        Final folder; must not exist.
    inputs : mapping, optional
        Everything that decides the run's bytes, as JSON: only a run with the same inputs can be resumed.
    resume : bool
        Go on with what an earlier process left, from its last checkpoint; from the start where it left nothing.

    Attributes
    ----------
    state : object or None
        What the last checkpoint held; None where the run begins.

    Raises
    ------
    DataError
        If `out` exists, its parent cannot be written, another process is writing it, or what is there to be resumed came
        from other inputs: the message names those that changed.
    """

    def __init__(self, out: Path, inputs: Mapping[str, Any] | None = None, *, resume: bool = False) -> None:
        self.out, self.partial = out, partial_of(out)
        self.final = self.partial / FINAL
        self.state: Any = None
        self._pending: dict[str, list[pa.RecordBatch]] = {}
        self._part = 0
        self._models: list[str] = []
        record = json.loads(json.dumps({"format": FORMAT, **(inputs or {})}, default=str))
        if out.exists():
            if (out / "run.json").is_file() and resume:
                shutil.rmtree(self.partial, ignore_errors=True)  # its last process was killed while it cleaned up
            raise DataError(f"{out}: exists already. Give another --out, or remove it first; nothing is overwritten.")
        if self.partial.exists() and not resume:
            raise DataError(
                f"{self.partial}: is left from a run that did not finish, or is in use. Go on with it by --resume, give "
                "another --out, or remove it first; nothing is overwritten."
            )
        try:
            self.final.mkdir(parents=True, exist_ok=resume)
            self._lock = (self.partial / LOCK).open("a+")
        except OSError as error:
            raise DataError(
                f"{self.partial}: cannot be made ({error.strerror}). Give an --out that can be written."
            ) from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._lock.close()
            raise DataError(
                f"{self.partial}: another process is writing it. Wait for it, or give another --out."
            ) from error
        try:
            self._begin(record)
        except BaseException:
            self._lock.close()
            raise

    def _begin(self, inputs: dict[str, Any]) -> None:
        """Load the last checkpoint, and remove what was written after it."""
        path = self.partial / INPUTS
        if path.is_file():
            before = json.loads(path.read_text(encoding="utf-8"))
            changed = list(differences(before, inputs))
            if changed:
                raise DataError(
                    f"{self.partial}: cannot be resumed, for its inputs changed: {'; '.join(changed[:8])}"
                    f"{f' and {len(changed) - 8} more' if len(changed) > 8 else ''}. Put them back, or remove the folder and "
                    "run again."
                )
        checkpoint = self.partial / CHECKPOINT
        if checkpoint.is_file():
            self._part, self._models, self.state = pickle.loads(checkpoint.read_bytes())
        with self._disk():
            for part in (self.partial / PARTS).glob("*/*.arrow"):
                if int(part.stem) >= self._part:
                    part.unlink()
            for folder in (self.final / "models").glob("*"):
                if folder.name not in self._models:
                    shutil.rmtree(folder)
            for table in self.final.glob("*.parquet"):
                table.unlink()
            _replace(path, json.dumps(inputs, indent=2, sort_keys=True).encode())

    @contextmanager
    def _disk(self) -> Iterator[None]:
        """Say what to do where the disk refuses."""
        try:
            yield
        except OSError as error:
            kept = "what was done until its last checkpoint is kept" if self.state is not None else "nothing is kept"
            raise DiskError(
                f"{self.partial}: cannot be written ({error.strerror or error}); {kept}. Make room and run again"
                f"{' with --resume' if self.state is not None else ''}."
            ) from error

    def append(self, table: str, columns: Mapping[str, Any] | pd.DataFrame) -> None:
        """Append rows to a table of `SCHEMAS`.

        Parameters
        ----------
        table : str
        columns : mapping of str to array_like, or DataFrame
            Exactly the table's columns, in any order; a text, number or date stands for all rows.
        """
        schema = SCHEMAS[table]
        if set(columns) != set(schema.names):
            raise ValueError(f"table {table!r} has columns {schema.names}; got {list(columns)}.")
        rows = _rows(schema, columns)
        if rows.num_rows:
            self._pending.setdefault(table, []).append(rows)

    def checkpoint(self, state: object) -> None:
        """Write what is pending, and `state`, from which a run that is killed goes on.

        `state` is pickled: read back only by the same code, from the user's own folder.
        """
        with self._disk():
            for table, parts in self._pending.items():
                path = self.partial / PARTS / table / f"{self._part:06d}.arrow"
                path.parent.mkdir(parents=True, exist_ok=True)
                with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, parts[0].schema) as writer:
                    for part in parts:
                        writer.write_batch(part)
            self._pending = {}
            self._part += 1
            _replace(self.partial / CHECKPOINT, pickle.dumps((self._part, self._models, state), protocol=5))
        self.state = state

    def table(self, name: str) -> pd.DataFrame:
        """Return all rows of a table so far."""
        batches = list(self._batches(name))
        frame: pd.DataFrame = pa.Table.from_batches(batches, SCHEMAS[name]).to_pandas()
        return frame

    def _batches(self, name: str) -> Iterator[pa.RecordBatch]:
        for path in sorted((self.partial / PARTS / name).glob("*.arrow")):
            with pa.memory_map(str(path)) as file:
                reader = pa.ipc.open_file(file)
                yield from (reader.get_batch(i) for i in range(reader.num_record_batches))
        yield from self._pending.get(name, [])

    def write_model(self, date: pd.Timestamp, model: FactorModel) -> None:
        """Store the risk model in force from `date` on."""
        folder = self.final / "models" / f"date={date:%Y-%m-%d}"
        factors, text, number = list(model.factors), pa.string(), pa.float64()
        assets, named = pa.array(model.assets, text), pa.array(factors, text)
        tables = {
            "exposures": {"asset": assets, **_columns(factors, model.exposures)},
            "factor_covariance": {"factor": named, **_columns(factors, model.factor_covariance)},
            "specific_variance": {"asset": assets, "specific_variance": pa.array(model.specific_variance, number)},
        }
        with self._disk():
            folder.mkdir(parents=True)
            for name, columns in tables.items():
                # Numbers of a model hardly repeat: a dictionary of them only takes time.
                pq.write_table(pa.table(columns), folder / f"{name}.parquet", compression="zstd", use_dictionary=False)
        self._models.append(folder.name)

    def log_timing(self, row: Mapping[str, Any]) -> None:
        """Append one line to `timing.jsonl`: clock, memory, host, whatever may differ between two equal runs."""
        with self._disk(), (self.final / "timing.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")

    def finish(self, record: Mapping[str, Any]) -> Run:
        """Join the parts of every table, write `run.json` and give the folder its final name."""
        with self._disk():
            for name, schema in SCHEMAS.items():
                if name not in LATER_TABLES or self._pending.get(name):
                    _write_table(self.final / f"{name}.parquet", schema, self._batches(name))
            text = json.dumps({"format": FORMAT, **record}, indent=2, sort_keys=True, default=str, allow_nan=False)
            _replace(self.final / "run.json", (text + "\n").encode())
            self.final.rename(self.out)
            shutil.rmtree(self.partial, ignore_errors=True)
        return Run(self.out)

    def __enter__(self) -> RunWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Data that cannot be used would be refused again; a full disk, a defect or Ctrl-C need not cost what was done.
        refused = kind is not None and issubclass(kind, DataError) and not issubclass(kind, DiskError)
        if kind is not None and (refused or self.state is None):
            shutil.rmtree(self.partial, ignore_errors=True)
        self._lock.close()


def _replace(path: Path, content: bytes) -> None:
    """Write a file that is there whole or as it was."""
    partial = path.with_name(path.name + ".partial")
    with partial.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def _columns(names: list[str], matrix: FloatArray) -> dict[str, pa.Array]:
    by_column = np.ascontiguousarray(matrix.T)
    return {name: pa.array(column) for name, column in zip(names, by_column, strict=True)}


def _rows(schema: pa.Schema, columns: Mapping[str, Any] | pd.DataFrame) -> pa.RecordBatch:
    """Return columns as rows of a schema; NaN is null, as it is where pandas writes."""
    lengths = {len(column) for column in map(columns.__getitem__, schema.names) if not _is_scalar(column)}
    if len(lengths) > 1:
        raise ValueError(f"columns have lengths {sorted(lengths)}; they must be one, or scalars.")
    count = lengths.pop() if lengths else 1
    arrays = []
    for field in schema:
        column = columns[field.name]
        if _is_scalar(column):
            arrays.append(pa.repeat(pa.scalar(column, field.type, from_pandas=True), count))
        else:
            values = column if isinstance(column, list | tuple) else np.asarray(column)
            arrays.append(pa.array(values, field.type, from_pandas=True))
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _is_scalar(value: object) -> bool:
    return value is None or value is pd.NaT or isinstance(value, str | float | int | pd.Timestamp | np.generic)


def _write_table(path: Path, schema: pa.Schema, batches: Iterator[pa.RecordBatch]) -> None:
    """Write batches in row groups of one size, so that the bytes do not tell where a part ended."""
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        waiting: list[pa.RecordBatch] = []
        rows = 0
        for batch in batches:
            waiting.append(batch)
            rows += batch.num_rows
            while rows >= ROW_GROUP:
                whole = pa.Table.from_batches(waiting, schema).combine_chunks()
                writer.write_table(whole.slice(0, ROW_GROUP))
                waiting = whole.slice(ROW_GROUP).to_batches()
                rows -= ROW_GROUP
        if waiting or rows:
            writer.write_table(pa.Table.from_batches(waiting, schema).combine_chunks())


def differences(before: Any, now: Any, name: str = "") -> Iterator[str]:
    """Yield each entry that differs between two JSON records, with both values."""
    if isinstance(before, dict) and isinstance(now, dict):
        for key in sorted({*before, *now}):
            yield from differences(before.get(key), now.get(key), f"{name}.{key}" if name else key)
    elif before != now:
        yield f"`{name}` was {_short(before)} and is {_short(now)}"


def _short(value: Any) -> str:
    text = "absent" if value is None else str(value)
    return text if len(text) <= 40 else text[:12] + "..."
