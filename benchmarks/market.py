"""Time the synthetic market: seconds, peak memory and disk.

python benchmarks/market.py [--assets 1500] [--years 5] [--models 200]

The market is written to a temporary folder and removed.
"""

from __future__ import annotations

import argparse
import os
import resource
import tempfile
import time
from pathlib import Path

from backtest.synthetic import MarketSpec, write_market


def main() -> None:
    """Print one line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--assets", type=int, default=1500)
    parser.add_argument("--years", type=float, default=5.0)
    parser.add_argument("--models", type=int, default=200)
    given = parser.parse_args()
    spec = MarketSpec(assets=given.assets, years=given.years, models=given.models)
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        write_market(Path(folder) / "data", spec)
        seconds = time.perf_counter() - began
        size = sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file()) / 1e6
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"{spec.assets} assets, {spec.years:g} years, {spec.models} models: {seconds:.1f} s, {peak:.0f} MB at most, "
        f"{size:.0f} MB on disk, {os.cpu_count()} cores"
    )


if __name__ == "__main__":
    main()
