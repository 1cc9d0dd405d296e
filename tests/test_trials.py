"""Every backtest is counted once, whoever writes at the same time and whatever happens to the ledger, and no run is lost for it."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import multiprocessing
import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from run_files import write_run

import metafolio
from backtest import Dataset, Run, simulate
from backtest.trial_folder import read_folder
from backtest.trial_ledger import (
    LEDGER,
    TrialLedgerError,
    TrialNotRecorded,
    note_trial,
    read_trials,
    record_trial,
    write_trial,
)
from backtest.trials import Trial, merge_trials, trial_of
from risk import DataError

PROCESSES, OWN = 8, 6


def small_run(out: Path, *, seed: int = 0, status: str = "complete", sessions: int = 60) -> Run:
    return write_run(out, sessions=sessions, assets=6, models=2, seed=seed, status=status, attributed=False)


def trial(seed: int = 0, *, sessions: int = 60, **changes: Any) -> Trial:
    """Return a made-up trial."""
    returns = np.random.default_rng(seed).normal(5e-4, 0.01, sessions)
    values: dict[str, Any] = {
        "run": f"run_{seed}", "data_name": "market", "data_path": "/data", "fingerprint": "ab" * 32, "product": "One",
        "configuration": json.dumps({"mandate": {}, "product": {"name": "One"}}), "code": "cd" * 32, "start": "2022-01-03",
        "end": "2022-12-30", "nav0": 70e6, "status": "complete", "sharpe_before_fees": 1.0, "sharpe_net": np.nan,
        "returns": pd.Series(returns, index=pd.bdate_range("2022-01-03", periods=sessions, name="date")),
    }  # fmt: skip
    return Trial(**(values | changes))


def digests(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of every file but the one that may differ."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "timing.jsonl"
    }


def call(*arguments: str | Path, monkeypatch: pytest.MonkeyPatch) -> int:
    """Run the command line and return its exit code."""
    monkeypatch.setattr(sys, "argv", ["metafolio", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        metafolio.main()
    assert isinstance(ended.value.code, int)
    return ended.value.code


def test_a_backtest_is_recorded_beside_its_run_as_it_was(run: Run) -> None:
    (found,) = read_trials(run.folder.parent / LEDGER)
    record, nav = run.record, run.nav
    pd.testing.assert_series_equal(
        found.returns, nav["return_before_fees"], check_exact=True, check_names=False, check_freq=False
    )
    assert (found.run, found.product, found.status, found.times) == ("one", "One", "complete", 1)
    assert (found.fingerprint, found.code) == (record["data"]["fingerprint"], record["code"])
    assert (found.start, found.end, found.nav0) == (record["start"], record["end"], record["nav0"])
    assert json.loads(found.configuration)["mandate"] == record["mandate"]
    for name in ("sharpe_before_fees", "sharpe_net"):
        assert getattr(found, name) == pytest.approx(record["statistics"][name], rel=1e-12)
    assert found.first_recorded == found.last_recorded
    assert pd.Timestamp(found.first_recorded).tz is not None
    assert found.key == trial_of(run).key


class Stopped(Exception):
    """Ends a simulation from outside."""


def test_a_resumed_run_is_one_trial_and_the_ledger_changes_no_byte_of_a_run(
    market: Path, run: Run, tmp_path: Path
) -> None:
    def stop(stage: str, done: float) -> None:
        if stage == "simulation" and done > 0.9:
            raise Stopped

    with pytest.raises(Stopped):
        simulate(Dataset(market), "one", out=tmp_path / "one", progress=stop)
    assert not (tmp_path / LEDGER).exists()
    again = simulate(Dataset(market), "one", out=tmp_path / "one", resume=True)
    (found,) = read_trials(tmp_path / LEDGER)
    assert found.times == 1
    assert found.key == trial_of(run).key
    assert digests(again.folder) == digests(run.folder)
    assert sorted(path.name for path in tmp_path.iterdir()) == [LEDGER, "one"]


def test_a_run_is_not_lost_where_the_ledger_cannot_be_written(market: Path, run: Run, tmp_path: Path) -> None:
    (tmp_path / LEDGER).write_bytes(b"no database " * 400)
    with pytest.warns(
        TrialNotRecorded, match=r"is whole, and is not in the trial ledger.*file is not a database.*--record"
    ):
        again = simulate(Dataset(market), "one", out=tmp_path / "one")
    assert digests(again.folder) == digests(run.folder)
    assert (tmp_path / LEDGER).read_bytes() == b"no database " * 400


@pytest.mark.parametrize("status", ["stopped", "bankrupt"])
def test_runs_that_ended_early_count(status: str, tmp_path: Path) -> None:
    run = small_run(tmp_path / "run", status=status)
    note_trial(run)
    assert [one.status for one in read_trials(tmp_path / LEDGER)] == [status]


def test_the_same_trial_is_counted_once_with_how_often_it_was_made(tmp_path: Path) -> None:
    ledger = tmp_path / LEDGER
    for name in ("first", "second", "third"):
        record_trial(small_run(tmp_path / name))
    (found,) = read_trials(ledger)
    assert (found.times, found.run) == (3, "third")
    assert found.first_recorded <= found.last_recorded


@pytest.mark.parametrize(
    "change",
    [
        {"nav0": 71e6},
        {"code": "ef" * 32},
        {"fingerprint": "ef" * 32},
        {"configuration": json.dumps({"mandate": {}, "product": {"name": "Two"}})},
        {"start": "2022-01-04"},
        {"end": "2022-12-29"},
        {"status": "stopped"},
    ],
)
def test_whatever_decides_a_run_makes_another_trial(change: dict[str, Any], tmp_path: Path) -> None:
    one = trial()
    other = dataclasses.replace(one, **change)
    bumped = dataclasses.replace(one, returns=one.returns.where(one.returns.index != one.returns.index[3], 0.0))
    for item in (one, other, bumped, one):
        write_trial(item, tmp_path / LEDGER)
    found = read_trials(tmp_path / LEDGER)
    assert {item.key: item.times for item in found} == {one.key: 2, other.key: 1, bumped.key: 1}
    assert len({one.key, other.key, bumped.key}) == 3


def test_names_and_places_make_no_other_trial() -> None:
    one = trial()
    assert dataclasses.replace(one, run="x", data_name="y", data_path="z", product="w").key == one.key


def test_what_is_read_is_what_was_written_the_last_first(tmp_path: Path) -> None:
    written = [trial(seed) for seed in range(5)]
    for item in written:
        write_trial(item, tmp_path / LEDGER)
    found = read_trials(tmp_path / LEDGER)
    assert [item.key for item in found] == [item.key for item in reversed(written)]
    pd.testing.assert_series_equal(
        found[-1].returns, written[0].returns, check_exact=True, check_freq=False, check_index_type=False
    )
    assert np.isnan(found[0].sharpe_net)


def _write_many(ledger: Path, process: int, barrier: Any) -> None:
    barrier.wait()
    for i in range(OWN):
        write_trial(trial(1000 * (process + 1) + i), ledger)
        write_trial(trial(7), ledger)


def test_eight_processes_record_at_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["backtest.trial_ledger"])  # imported once, not by each of them
    barrier = context.Barrier(PROCESSES)
    processes = [context.Process(target=_write_many, args=(tmp_path / LEDGER, i, barrier)) for i in range(PROCESSES)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(timeout=300)
    assert [process.exitcode for process in processes] == [0] * PROCESSES
    found = {item.key: item.times for item in read_trials(tmp_path / LEDGER)}
    own = [trial(1000 * (process + 1) + i).key for process in range(PROCESSES) for i in range(OWN)]
    assert found == dict.fromkeys(own, 1) | {trial(7).key: PROCESSES * OWN}
    assert [path.name for path in tmp_path.iterdir()] == [LEDGER]


KILLED = """
import os, signal, sqlite3, sys
database = sqlite3.connect(sys.argv[1], isolation_level=None)
database.execute("PRAGMA cache_size = 1")  # so that changed pages go to the file before the end
database.execute("BEGIN IMMEDIATE")
database.execute("UPDATE trials SET returns = randomblob(100000), times = 99")
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_writer_that_is_killed_leaves_the_ledger_as_it_was(tmp_path: Path) -> None:
    ledger = tmp_path / LEDGER
    for seed in range(6):
        write_trial(trial(seed), ledger)
    before = ledger.read_bytes()
    killed = subprocess.run([sys.executable, "-c", KILLED, str(ledger)], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert ledger.read_bytes() != before, "nothing was half-written"
    assert [(item.run, item.times) for item in read_trials(ledger)] == [(f"run_{seed}", 1) for seed in range(5, -1, -1)]
    write_trial(trial(9), ledger)
    assert len(read_trials(ledger)) == 7


def test_a_ledger_that_is_locked_is_waited_for_and_then_said(tmp_path: Path) -> None:
    ledger = tmp_path / LEDGER
    write_trial(trial(), ledger)
    with closing(sqlite3.connect(ledger, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(
            TrialLedgerError, match=r"cannot be written \(database is locked\). Another process holds it"
        ):
            write_trial(trial(1), ledger, wait=0.05)
        with pytest.raises(TrialLedgerError, match="cannot be read"):
            read_trials(ledger, wait=0.05)
        other.execute("ROLLBACK")
    write_trial(trial(1), ledger)
    assert len(read_trials(ledger)) == 2


@contextmanager
def ordinary_user() -> Iterator[None]:
    """Give up the right to write everywhere, where the tests have it."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(user)


def test_a_folder_that_is_read_only_is_said_and_can_be_read() -> None:
    # Not in the tests' own folder, which an ordinary user may not enter.
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        first, second = small_run(folder / "first"), small_run(folder / "second", seed=1)
        record_trial(first)
        (folder / LEDGER).chmod(0o444)
        folder.chmod(0o555)
        try:
            with ordinary_user():
                with pytest.warns(TrialNotRecorded, match=r"second is whole.*cannot be written.*writable"):
                    note_trial(second)
                found = read_folder(folder)
                with pytest.raises(TrialLedgerError, match="unable to open database file"):
                    write_trial(trial(), folder / "other.sqlite")
        finally:
            folder.chmod(0o755)
        assert [item.run for item in found.trials] == ["first", "second"]
        assert [run.folder.name for run in found.unrecorded] == ["second"]
        assert sorted(path.name for path in folder.iterdir()) == ["first", LEDGER, "second"]


def test_a_damaged_ledger_is_said_with_what_to_do(tmp_path: Path) -> None:
    ledger = tmp_path / LEDGER
    for seed in range(20):
        write_trial(trial(seed, sessions=900), ledger)
    whole = ledger.read_bytes()
    for content, word in (
        (b"x" * 5000, "file is not a database"),
        (whole[: len(whole) // 2], "malformed"),
        (whole[:4096] + bytes(len(whole) - 4096), "malformed"),
    ):
        ledger.write_bytes(content)
        with pytest.raises(TrialLedgerError, match=rf"{word}.*Move it away.*--record"):
            read_trials(ledger)
        assert ledger.read_bytes() == content
    ledger.write_bytes(whole)
    assert len(read_trials(ledger)) == 20


@pytest.mark.parametrize(
    "damage",
    [
        "nav0 = 1e6",
        "returns = zeroblob(20)",
        "returns = dates",
        "sessions = sessions + 1",
        "dates = 'text'",
        "returns = NULL",
        "code = 'ef'",
    ],
)
def test_a_row_that_was_changed_is_not_believed(damage: str, tmp_path: Path) -> None:
    ledger = tmp_path / LEDGER
    write_trial(trial(1), ledger)
    write_trial(trial(2), ledger)
    with closing(sqlite3.connect(ledger)) as database, database:
        if "NULL" in damage:
            database.execute("CREATE TABLE copy AS SELECT * FROM trials")
            database.execute("DROP TABLE trials")
            database.execute("ALTER TABLE copy RENAME TO trials")
        database.execute(f"UPDATE trials SET {damage} WHERE run = 'run_1'")
    with pytest.raises(TrialLedgerError, match=r"the trial 'run_1' of 2.*is damaged"):
        read_trials(ledger)


def test_what_is_no_ledger_is_left_alone(tmp_path: Path) -> None:
    ledger = tmp_path / LEDGER
    with closing(sqlite3.connect(ledger)) as database, database:
        database.execute("CREATE TABLE mine (x)")
    before = ledger.read_bytes()
    for act in (lambda: write_trial(trial(), ledger), lambda: read_trials(ledger)):
        with pytest.raises(TrialLedgerError, match="another program's database"):
            act()
    assert ledger.read_bytes() == before
    ledger.unlink()
    write_trial(trial(), ledger)
    with closing(sqlite3.connect(ledger)) as database, database:
        database.execute("PRAGMA user_version = 99")
    with pytest.raises(TrialLedgerError, match="later version"):
        write_trial(trial(), ledger)
    ledger.unlink()
    ledger.touch()  # what a process that was killed before its first transaction leaves
    assert read_trials(ledger) == []
    write_trial(trial(), ledger)
    assert len(read_trials(ledger)) == 1


def test_a_folder_counts_its_ledger_those_below_and_runs_in_none(tmp_path: Path) -> None:
    record_trial(small_run(tmp_path / "a"))
    small_run(tmp_path / "b", seed=1)
    small_run(tmp_path / "b again", seed=1)
    (tmp_path / "sweep").mkdir()
    record_trial(small_run(tmp_path / "sweep" / "c", seed=2))
    record_trial(small_run(tmp_path / "sweep" / "a", seed=0))
    small_run(tmp_path / "sweep" / "d", seed=3)
    small_run(tmp_path / "elsewhere" / "unseen" / "deep" / "e", seed=4)
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "run.json").write_text("{")
    found = read_folder(tmp_path)
    assert sorted(item.run for item in found.trials) == ["a", "b", "c", "d"]
    assert {item.run: item.times for item in found.trials} == {"a": 2, "b": 1, "c": 1, "d": 1}
    assert [run.folder.name for run in found.unrecorded] == ["b", "d"]
    assert len(found.unreadable) == 1
    assert "broken" in found.unreadable[0]
    other = tmp_path / "elsewhere" / "unseen" / "deep"
    assert len(read_folder(tmp_path, also=[other, other, tmp_path]).trials) == 5


def test_a_folder_without_runs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"no finished run and no {LEDGER}"):
        read_folder(tmp_path)
    with pytest.raises(DataError, match="is no folder"):
        read_folder(tmp_path / "missing")


def test_ledgers_are_merged_by_trial() -> None:
    one, two = trial(1, times=2, first_recorded="2024", last_recorded="2025"), trial(2, last_recorded="2026")
    late = dataclasses.replace(one, run="late", times=3, first_recorded="2023", last_recorded="2027")
    merged = merge_trials([one, two, late])
    assert [(item.run, item.times, item.first_recorded) for item in merged] == [("late", 5, "2023"), ("run_2", 1, "")]


def test_the_command_lists_records_and_judges(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "runs"
    run = small_run(folder / "a [x]", sessions=200)
    record_trial(run)
    small_run(folder / "b", seed=1, sessions=200)
    assert call("trials", folder, monkeypatch=monkeypatch) == 0
    printed = capsys.readouterr().out
    assert "a [x]" in printed
    assert "1 not in the ledger; --record adds them" in printed
    assert call("trials", run.folder, "--record", "--json", monkeypatch=monkeypatch) == 0
    record = json.loads(capsys.readouterr().out)
    assert [item["run"] for item in record["trials"]] == ["b", "a [x]"]
    assert (record["unrecorded"], record["report"]["trials"]) == (0, 2)
    assert record["report"]["evidence"]["familywise_p_value"] > 0
    assert len(read_trials(folder / LEDGER)) == 2
    assert call("trials", run.folder, monkeypatch=monkeypatch) == 0
    assert "familywise p-value" in capsys.readouterr().out
    assert call("trials", run.folder, "--quiet", monkeypatch=monkeypatch) == 0
    assert capsys.readouterr().out == ""
    monkeypatch.chdir(run.folder)
    assert call("trials", ".", "--json", monkeypatch=monkeypatch) == 0
    assert json.loads(capsys.readouterr().out)["report"]["trials"] == 2


def test_the_command_makes_a_ledger_again_once_a_damaged_one_is_moved_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    keys = {record_trial(small_run(tmp_path / name, seed=seed)).key for seed, name in enumerate("abc")}
    (tmp_path / LEDGER).write_bytes(b"x" * 5000)
    assert call("trials", tmp_path, "--record", "--quiet", monkeypatch=monkeypatch) == 1
    assert "Move it away" in capsys.readouterr().err
    (tmp_path / LEDGER).rename(tmp_path / "damaged")
    assert call("trials", tmp_path, "--record", "--quiet", monkeypatch=monkeypatch) == 0
    assert {item.key for item in read_trials(tmp_path / LEDGER)} == keys
    assert call("trials", tmp_path / "nowhere", monkeypatch=monkeypatch) == 1
    assert "is no folder" in capsys.readouterr().err
