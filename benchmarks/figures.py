"""Print a run's figures: statistics, volatility against forecast and limit by year, solves, seconds and memory.

python benchmarks/figures.py RUN...
"""

from __future__ import annotations

import json
import os
import sys

import pandas as pd

from backtest import Run
from backtest.statistics import by_year, run_statistics, trading_year
from reports.cells import with_unit


def show(run: Run) -> None:
    """Print one run."""
    record = run.record
    print(f"{record['name']} on {record['data']['name']}, {record['start']} to {record['end']}: {record['status']}")
    print(f"size proxy: {record['size_source']}; counts: {record['counts']}")
    for statistic in run_statistics(run):
        print(f"  {statistic.label:<36}{with_unit(statistic.value, statistic.unit):>12}  {statistic.note}")
    years = by_year(
        run.nav,
        run.table("solves"),
        volatility_limit=record["mandate"]["volatility_limit"],
        periods_per_year=trading_year(run),
    )
    print(years.to_string(float_format=lambda x: f"{x:.4f}"))
    solves = run.table("solves")
    print(
        f"solves: {len(solves)}, {dict(solves['method'].value_counts())}, with fallback {int((solves['fallback'] != '').sum())}"
    )
    print(f"  worst primal residual {solves['primal_residual'].max():.2g}, gap {solves['gap'].max():.2g}")
    print(
        f"  assets {solves['assets'].min()} to {solves['assets'].max()}, free directions, median {solves['free_directions'].median():.0f}"
    )
    timing = pd.DataFrame([json.loads(line) for line in (run.folder / "timing.jsonl").read_text().splitlines()])
    solve = timing["solve_seconds"].dropna()
    total = timing.loc[timing["step"] == "run", "all_seconds"].iloc[0]
    size = sum(path.stat().st_size for path in run.folder.rglob("*") if path.is_file()) / 1e6
    print(
        f"  {total:.1f} s in all, {solve.median():.2f} s a solve (median), {timing['peak_megabytes'].max():.0f} MB at most, "
        f"{size:.0f} MB on disk, {os.cpu_count()} cores\n"
    )


if __name__ == "__main__":
    for folder in sys.argv[1:]:
        show(Run(folder))
