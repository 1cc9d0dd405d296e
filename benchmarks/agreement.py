"""Every decision of a backtest solved twice, from the same inputs: by the structured solver and by the reference.

    python benchmarks/agreement.py DATA [--product one]

Prints, over all decision dates, the largest difference in the objective (relative) and in a weight, the worst evidence of both, the solver
that was used, and their times.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from backtest import Dataset, simulate, simulator
from engine import Problem, Solution, SolverFailure, optimize


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--product", default="one")
    arguments = parser.parse_args()
    rows: list[dict[str, object]] = []
    failures: Counter[str] = Counter()

    def both(problem: Problem) -> Solution:
        start = time.perf_counter()
        ours = optimize(problem)
        between = time.perf_counter()
        try:
            theirs = optimize(problem, method="reference")
        except SolverFailure as failure:
            failures[str(failure)[:120]] += 1
            return ours
        end = time.perf_counter()
        size = abs(theirs.certificate.objective)
        rows.append(
            {
                "N": len(problem.alpha),
                "objective (relative)": abs(ours.certificate.objective - theirs.certificate.objective) / size,
                "weight": float(np.abs(ours.weights - theirs.weights).max()),
                "worst evidence": ours.certificate.worst,
                "worst evidence, reference": theirs.certificate.worst,
                "violation": ours.certificate.primal_residual,
                "steps": ours.iterations,
                "ms": 1e3 * (between - start),
                "ms, reference": 1e3 * (end - between),
                "method": ours.method,
            }
        )
        return ours

    simulator.optimize = both  # type: ignore[attr-defined]
    with tempfile.TemporaryDirectory() as folder, threadpool_limits(1):
        simulate(Dataset(arguments.data), product=arguments.product, out=Path(folder) / "run")
    table = pd.DataFrame(rows)
    print(f"{len(table)} decisions of {arguments.data} under {arguments.product}")
    print(table.drop(columns="method").agg(["min", "median", "max"]).T.to_string(float_format="{:.3g}".format))
    print("solved by", dict(Counter(table["method"])))
    print("reference failed on", sum(failures.values()), dict(failures))


if __name__ == "__main__":
    main()
