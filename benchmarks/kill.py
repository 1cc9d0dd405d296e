"""Kill a run with SIGKILL at random moments, resume it each time, and compare every byte with an undisturbed run.

python benchmarks/kill.py [--kills 20] [--seed 0]
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from backtest import Dataset, simulate  # noqa: E402
from backtest.synthetic import MarketSpec, write_market  # noqa: E402

SPEC = MarketSpec(assets=120, years=2.5, models=12, countries=3, sectors=4, seed=4, local_holidays=4)
CODE = (
    "import sys; from backtest import Dataset, simulate; simulate(Dataset(sys.argv[1]), out=sys.argv[2], resume=True)"
)


def digests(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of every file of a run but `timing.jsonl`."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "timing.jsonl"
    }


def resumed(data: Path, out: Path, kills: int, longest: float, rng: random.Random) -> tuple[int, int]:
    """Run until complete, killed so many times at random moments; return kills and starts."""
    killed = starts = 0
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    while not out.exists():
        starts += 1
        process = subprocess.Popen([sys.executable, "-c", CODE, str(data), str(out)], env=environment)
        if killed < kills:
            try:
                process.wait(rng.uniform(0.0, longest))
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                killed += 1
        if process.wait() not in (0, -signal.SIGKILL):
            raise SystemExit(f"a resumed run failed with exit code {process.returncode}")
    return killed, starts


def main() -> None:
    """Print how many kills a run survived and whether its bytes are those of an undisturbed one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    rng = random.Random(given.seed)
    with tempfile.TemporaryDirectory() as work:
        data = Path(work) / "data"
        write_market(data, SPEC)
        began = time.perf_counter()
        whole = simulate(Dataset(data), out=Path(work) / "undisturbed" / "run").folder
        took = time.perf_counter() - began
        killed = runs = starts = 0
        while killed < given.kills:
            out = Path(work) / f"killed-{runs}" / "run"
            more, started = resumed(data, out, min(given.kills - killed, 10), 1.3 * took + 3.0, rng)
            killed, starts, runs = killed + more, starts + started, runs + 1
            first, second = digests(whole), digests(out)
            if first != second:
                different = sorted(name for name in {*first, *second} if first.get(name) != second.get(name))
                raise SystemExit(f"after {killed} kills these files differ: {', '.join(different)}")
    print(
        f"{killed} kills at random moments of {runs} runs ({starts} starts; undisturbed {took:.1f} s): "
        f"all {len(first)} files have the same bytes"
    )


if __name__ == "__main__":
    main()
