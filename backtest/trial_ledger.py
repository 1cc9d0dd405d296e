"""The trial ledger: every backtest that was made on a data set, recorded as it finishes.

One SQLite file, `metafolio-trials.sqlite`, in the folder that holds the run folders. A run is recorded there once it is finished, be it
complete, stopped or bankrupt, with its returns per day; one that is made again is counted once, and `times` says how often it was made.
Nothing of it is ever written into a run folder, and all of it but the times follows from the run folders that are still there.

Every write is one immediate transaction under the file's own lock, and waits its turn.
"""

from __future__ import annotations

import sqlite3
import warnings
import zlib
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from backtest.store import Run
from backtest.trials import Trial, pack_returns, trial_of, unpack_returns
from risk import DataError

__all__ = [
    "LEDGER",
    "TrialLedgerError",
    "TrialNotRecorded",
    "find_ledgers",
    "note_trial",
    "read_trials",
    "record_trial",
    "write_trial",
]

LEDGER = "metafolio-trials.sqlite"
WAIT = 60.0
"""Seconds that a process waits for others to write."""
_APPLICATION, _VERSION = 0x4D464F54, 1  # "MFOT": tells a trial ledger from any other database
_COLUMNS = (
    "key TEXT PRIMARY KEY NOT NULL, times INTEGER NOT NULL, first_recorded TEXT NOT NULL, last_recorded TEXT NOT NULL, "
    "run TEXT NOT NULL, data_name TEXT NOT NULL, data_path TEXT NOT NULL, fingerprint TEXT NOT NULL, product TEXT NOT NULL, "
    "configuration TEXT NOT NULL, configuration_hash TEXT NOT NULL, code TEXT NOT NULL, start TEXT NOT NULL, end TEXT NOT NULL, "
    "nav0 REAL NOT NULL, status TEXT NOT NULL, sessions INTEGER NOT NULL, sharpe_before_fees REAL, sharpe_net REAL, "
    "dates BLOB NOT NULL, returns BLOB NOT NULL"
)
_NAMES = tuple(column.split()[0] for column in _COLUMNS.split(", "))
_WRITE = (
    f"INSERT INTO trials ({', '.join(_NAMES)}) VALUES ({', '.join('?' * len(_NAMES))}) ON CONFLICT (key) DO UPDATE SET "
    "times = times + 1, last_recorded = excluded.last_recorded, run = excluded.run"
)


class TrialLedgerError(DataError):
    """A trial ledger cannot be read or written."""


class TrialNotRecorded(UserWarning):
    """A run is finished and whole, and could not be recorded as a trial."""


def record_trial(run: Run, ledger: Path | None = None) -> Trial:
    """Record a finished run in a trial ledger, and return it as a trial.

    Parameters
    ----------
    run : Run
    ledger : Path, optional
        Default: `metafolio-trials.sqlite` in the folder that holds the run folder.

    Raises
    ------
    TrialLedgerError
        If the ledger cannot be written: it is damaged, no ledger, of a later version, locked for longer than a minute, or its folder
        is read-only.
    DataError
        As `trial_of`.
    """
    trial = trial_of(run)
    write_trial(trial, run.folder.resolve().parent / LEDGER if ledger is None else ledger)
    return trial


def note_trial(run: Run) -> None:
    """Record a run that has just finished, and warn where it cannot be: the run itself is whole.

    Warns
    -----
    TrialNotRecorded
    """
    try:
        record_trial(run)
    except DataError as error:
        text = f"the run in {run.folder} is whole, and is not in the trial ledger. {error}"
        warnings.warn(text, TrialNotRecorded, stacklevel=3)


def write_trial(trial: Trial, ledger: Path, *, wait: float = WAIT) -> None:
    """Add a trial to a ledger, which is made where there is none; one that is there already is counted once more.

    Parameters
    ----------
    trial : Trial
    ledger : Path
    wait : float
        Seconds to wait for other processes.

    Raises
    ------
    TrialLedgerError
        As `record_trial`.
    """
    dates, returns = pack_returns(trial.returns)
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    row = {
        **{name: getattr(trial, name) for name in _NAMES if hasattr(trial, name)},
        "times": 1,
        "first_recorded": now,
        "last_recorded": now,
        "sessions": len(trial.returns),
        "dates": zlib.compress(dates, 9),
        "returns": zlib.compress(returns, 9),
    }
    with _database(ledger, "written", "rwc", wait) as database:
        # Immediate: two that read first and then both want to write would wait for each other.
        database.execute("BEGIN IMMEDIATE")
        if _is_new(database, ledger):
            database.execute(f"CREATE TABLE trials ({_COLUMNS})")
            database.execute(f"PRAGMA application_id = {_APPLICATION}")
            database.execute(f"PRAGMA user_version = {_VERSION}")
        database.execute(_WRITE, [row[name] for name in _NAMES])
        database.execute("COMMIT")


def read_trials(ledger: Path, *, wait: float = WAIT) -> list[Trial]:
    """Return the trials of a ledger, the last recorded first.

    Raises
    ------
    TrialLedgerError
        If the ledger is not there, cannot be read, or a row of it is damaged.
    """
    if not ledger.is_file():
        raise TrialLedgerError(f"{ledger}: is not there. Give a folder in which `metafolio backtest` made runs.")
    with _database(ledger, "read", "rw", wait) as database:
        if _is_new(database, ledger):
            return []
        order = "ORDER BY last_recorded DESC, rowid DESC"
        rows = database.execute(f"SELECT {', '.join(_NAMES)} FROM trials {order}").fetchall()
    return [_trial(dict(zip(_NAMES, row, strict=True)), ledger) for row in rows]


def _trial(row: dict[str, Any], ledger: Path) -> Trial:
    """Return a row as a trial, its returns unpacked and its key proven."""
    try:
        row["returns"] = unpack_returns(zlib.decompress(row["dates"]), zlib.decompress(row["returns"]))
        for name in ("sharpe_before_fees", "sharpe_net"):
            row[name] = np.nan if row[name] is None else row[name]
        trial = Trial(**{field.name: row[field.name] for field in fields(Trial)})
        if trial.key != row["key"] or len(trial.returns) != row["sessions"]:
            raise ValueError("its content is not what was recorded")
    except (ValueError, TypeError, zlib.error) as error:
        raise TrialLedgerError(
            f"{ledger}: the trial {row['run']!r} of {row['last_recorded']} is damaged ({error}). {_remake(ledger)}"
        ) from error
    return trial


def find_ledgers(folder: Path) -> list[Path]:
    """Return the ledger of a folder of runs and those of the folders in it, two levels down, where sweeps leave theirs."""
    return [path for pattern in ("", "*/", "*/*/") for path in sorted(folder.glob(pattern + LEDGER))]


def _is_new(database: sqlite3.Connection, ledger: Path) -> bool:
    """Return True for a database without anything in it, False for a ledger that this version reads; refuse any other."""
    (application,) = database.execute("PRAGMA application_id").fetchone()
    (version,) = database.execute("PRAGMA user_version").fetchone()
    (tables,) = database.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if application == 0 and tables == 0:
        return True
    if application != _APPLICATION:
        raise TrialLedgerError(f"{ledger}: is another program's database. Move it away.")
    if version > _VERSION:
        raise TrialLedgerError(f"{ledger}: was made by a later version of metafolio. Install that version.")
    return False


@contextmanager
def _database(ledger: Path, verb: str, mode: str, wait: float) -> Iterator[sqlite3.Connection]:
    """Open a ledger; what is not committed is rolled back, and what SQLite refuses is said in words.

    A rollback journal, not a write-ahead log: the latter needs files beside it even to be read, and fails on network drives.
    """
    try:
        address = f"{ledger.absolute().as_uri()}?mode={mode}"
        with closing(sqlite3.connect(address, timeout=wait, isolation_level=None, uri=True)) as database:
            yield database
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code == sqlite3.SQLITE_BUSY:
            remedy = f"Another process holds it. Try again when that is done. {_later(ledger)}"
        elif code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            remedy = _remake(ledger)
        else:
            remedy = f"Make its folder readable and writable. {_later(ledger)}"
        raise TrialLedgerError(f"{ledger}: the trial ledger cannot be {verb} ({error}). {remedy}") from error


def _later(ledger: Path) -> str:
    return f"`metafolio trials {ledger.parent} --record` adds the runs there that it lacks."


def _remake(ledger: Path) -> str:
    return (
        f"Move it away: `metafolio trials {ledger.parent} --record` makes another one of the runs that are still there; put back a "
        "copy, if there is one, for trials whose run folders are gone."
    )
