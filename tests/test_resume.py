"""A run that is killed at any moment and resumed ends in the same bytes; one that cannot be resumed says why."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

from backtest import Dataset, Run, simulate
from backtest.run_writer import DiskError, RunWriter
from backtest.synthetic import MarketSpec, write_market
from risk import DataError

SPEC = MarketSpec(assets=60, years=1.3, models=8, countries=3, sectors=4, seed=9, local_holidays=4)
KILLS = 4
"""`benchmarks/kill.py` does twenty."""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("resume") / "data"
    write_market(folder, SPEC)
    return folder


@pytest.fixture(scope="module")
def undisturbed(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return simulate(Dataset(data), out=tmp_path_factory.mktemp("undisturbed") / "run").folder


def digests(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of every file but the one that may differ."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "timing.jsonl"
    }


def start(data: Path, out: Path) -> subprocess.Popen[bytes]:
    code = f"from backtest import Dataset, simulate; simulate(Dataset({str(data)!r}), out={str(out)!r}, resume=True)"
    return subprocess.Popen([sys.executable, "-c", code], env={**os.environ, "OMP_NUM_THREADS": "1"})


def test_a_killed_run_resumes_to_the_same_bytes(data: Path, undisturbed: Path, tmp_path: Path) -> None:
    out, rng, killed = tmp_path / "run", random.Random(1), 0
    partial = tmp_path / "run.partial"
    while not out.exists():
        process = start(data, out)
        if killed < KILLS:
            before = _last_part(partial)
            while process.poll() is None and _last_part(partial) <= before:
                time.sleep(0.01)
            time.sleep(rng.uniform(0, 0.3))
            process.send_signal(signal.SIGKILL)
            killed += 1
        assert process.wait(timeout=300) in (0, -signal.SIGKILL)
    assert killed == KILLS
    assert digests(out) == digests(undisturbed)
    assert not partial.exists()


def _last_part(partial: Path) -> int:
    return max((int(path.stem) for path in partial.glob("parts/nav/*.arrow")), default=-1)


class Stopped(Exception):
    """Ends a simulation from outside."""


def left_half(data: Path, out: Path) -> Path:
    """Leave a run behind that was interrupted in the middle."""

    def stop(stage: str, done: float) -> None:
        if stage == "simulation" and done > 0.5:
            raise Stopped

    with pytest.raises(Stopped):
        simulate(Dataset(data), out=out, progress=stop)
    return out.with_name(out.name + ".partial")


def test_an_interrupted_run_is_not_overwritten_and_goes_on(data: Path, undisturbed: Path, tmp_path: Path) -> None:
    partial = left_half(data, tmp_path / "run")
    with pytest.raises(DataError, match="--resume"):
        simulate(Dataset(data), out=tmp_path / "run")
    assert partial.exists()
    run = simulate(Dataset(data), out=tmp_path / "run", resume=True)
    assert digests(run.folder) == digests(undisturbed)


def test_other_inputs_are_refused_by_name(data: Path, tmp_path: Path) -> None:
    own = tmp_path / "data"
    shutil.copytree(data, own)
    left_half(own, tmp_path / "run")
    with pytest.raises(DataError, match=r"`nav0` was .* and is 1000000"):
        simulate(Dataset(own), out=tmp_path / "run", aum=1e6, resume=True)
    with pytest.raises(DataError, match=r"`mandate\.beta_limit` was 0.01 and is 0.05"):
        simulate(Dataset(own), "supreme", out=tmp_path / "run", aum=70e6, resume=True)
    stakes = pd.read_parquet(own / "stakes.parquet")
    stakes.assign(stake=stakes["stake"] * 2).to_parquet(own / "stakes.parquet", index=False)
    with pytest.raises(DataError, match=r"`files\.stakes\.parquet` was"):
        simulate(Dataset(own), out=tmp_path / "run", resume=True)
    assert (tmp_path / "run.partial" / "checkpoint").is_file()


def test_other_code_is_refused(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    left_half(data, tmp_path / "run")
    monkeypatch.setattr("backtest.simulator.code_fingerprint", lambda: "0" * 64)
    with pytest.raises(DataError, match="`code` was"):
        simulate(Dataset(data), out=tmp_path / "run", resume=True)


def test_one_folder_has_one_writer(tmp_path: Path) -> None:
    with RunWriter(tmp_path / "run") as writer:
        writer.checkpoint("half")
        with pytest.raises(DataError, match="another process is writing"):
            RunWriter(tmp_path / "run", resume=True)
        assert (tmp_path / "run.partial" / "checkpoint").is_file()


def test_a_full_disk_leaves_what_can_be_resumed(
    data: Path, undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, calls = os.fsync, []

    def full(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) == 9:
            raise OSError(28, "No space left on device")
        write(descriptor)

    monkeypatch.setattr("backtest.run_writer.os.fsync", full)
    with pytest.raises(DiskError, match=r"No space left on device.*--resume"):
        simulate(Dataset(data), out=tmp_path / "run")
    monkeypatch.undo()
    assert not (tmp_path / "run").exists()
    assert digests(simulate(Dataset(data), out=tmp_path / "run", resume=True).folder) == digests(undisturbed)


def test_nothing_is_left_of_a_run_whose_data_is_refused(data: Path, tmp_path: Path) -> None:
    own = tmp_path / "data"
    shutil.copytree(data, own)
    shutil.rmtree(own / "predictions")
    with pytest.raises(DataError, match="predictions"):
        simulate(Dataset(own), out=tmp_path / "run")
    assert not (tmp_path / "run.partial").exists()


def test_resume_without_anything_to_resume_starts(data: Path, undisturbed: Path, tmp_path: Path) -> None:
    assert digests(simulate(Dataset(data), out=tmp_path / "run", resume=True).folder) == digests(undisturbed)


def test_a_folder_of_a_later_version_is_refused(undisturbed: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(undisturbed, folder)
    record = (folder / "run.json").read_text()
    (folder / "run.json").write_text(record.replace('"format": 1', '"format": 99'))
    with pytest.raises(DataError, match="later version"):
        Run(folder)
