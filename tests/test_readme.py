"""What the README shows runs as it stands."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

import metafolio

README = (Path(__file__).resolve().parent.parent / "README.md").read_text(encoding="utf-8")


def test_every_python_example_runs(
    market: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(market, tmp_path / "DATA")
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len(blocks) >= 2
    session: dict[str, object] = {}  # one after the other, as a reader types them
    for block in blocks:
        exec(compile(block, "README.md", "exec"), session)
    assert (tmp_path / "report.html").stat().st_size > 1e6
    assert "SOLVED" in capsys.readouterr().out


def test_every_command_it_names_exists() -> None:
    named = set(re.findall(r"^ {4}(?:\S*/)?metafolio ([a-z-]+)", README, re.MULTILINE)) | {"demo"}
    commands = {
        command.name or command.callback.__name__ for command in metafolio.app.registered_commands if command.callback
    }
    assert named <= commands
    assert {"demo", "check", "benchmark-models", "backtest", "optimize", "attribute", "report"} <= commands


def test_every_link_leads_somewhere() -> None:
    root = Path(__file__).resolve().parent.parent
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert (root / target).exists(), target
