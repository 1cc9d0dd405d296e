"""A run made again on its own data, and compared byte by byte: the check that sees everything the run folder says."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import pandas as pd

from backtest.audit_evidence import Check
from backtest.dataset import Dataset
from backtest.lookahead import make_again
from backtest.run_writer import differences
from backtest.store import LATER_TABLES, Run, code_fingerprint
from engine import load_mandate
from risk import DataError

__all__ = ["reproduce", "unlike_preset"]

NEVER_COMPARED = frozenset(
    {"run.json", "timing.jsonl", "contribution.json", *(f"{name}.parquet" for name in LATER_TABLES)}
)


def reproduce(run: Run, data: Dataset) -> Check:
    """Return whether the run, made again from its terms and data, has the same files and the same record.

    Not covered where the code is not the one that made the run: its last digits may rightly differ.

    Parameters
    ----------
    run : Run
    data : Dataset
        The one that the run was made on.
    """
    statement = "the run made again on its data has the same bytes in every file"
    if run.record.get("code") != code_fingerprint():
        why = "the run was made by other code than this"
        return Check("made again", statement, float("nan"), 0.0, 0, unit="files that differ", not_covered=why)
    with tempfile.TemporaryDirectory() as work:
        try:
            again = make_again(run, data.folder, Path(work) / "run", pd.Timestamp(run.record["end"]))
        except (DataError, ValueError, KeyError, TypeError) as error:
            where = f"it cannot be made again: {error}"
            return Check("made again", statement, 1.0, 0.0, 1, where=where, unit="files that differ")
        names = sorted({*_files(run.folder), *_files(again.folder)})
        different = [name for name in names if _content(run.folder / name) != _content(again.folder / name)]
        said = [f"run.json: {what}" for what in differences(_record(run), _record(again))]
    found = [*said, *different]
    return Check(
        "made again",
        statement,
        float(len(found)),
        0.0,
        len(names) + 1,
        where="; ".join(found[:3]) + (f" and {len(found) - 3} more" if len(found) > 3 else ""),
        unit="files that differ",
    )


def unlike_preset(run: Run) -> tuple[str, ...]:
    """Return a sentence for each term in which a run's mandate is not the preset that its product names."""
    name = str(run.record.get("product", {}).get("mandate", ""))
    if name.endswith(".toml"):
        return ()
    try:
        preset = load_mandate(name).model_dump(mode="json")
    except DataError:
        return (f"The run names the mandate {name!r}, which is no preset.",)
    changed = list(differences(preset, run.record.get("mandate", {})))
    return (f"The run's mandate is not the preset {name!r}: {'; '.join(changed)}.",) if changed else ()


def _files(folder: Path) -> list[str]:
    paths = (path for path in folder.rglob("*") if path.is_file() and path.name not in NEVER_COMPARED)
    return [path.relative_to(folder).as_posix() for path in paths]


def _content(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None


def _record(run: Run) -> dict[str, Any]:
    """Return `run.json` but for where the data lie."""
    record: dict[str, Any] = json.loads(json.dumps(run.record))
    record.get("data", {}).pop("path", None)
    return record
