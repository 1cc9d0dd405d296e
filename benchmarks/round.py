"""A round of true contribution against the two float32 products it cannot do without, and how it grows.

    python benchmarks/round.py [--quick] [--out FOLDER]

Per book: the products alone (masks x models x assets and back, two BLAS threads), the whole round from gaussianised predictions,
their ratio, the peak memory that the round adds to the predictions, and the worst evidence of its books. Then rank and
gaussianise against numpy's argsort of the same array, and rounds over N, K, models and masks.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import pandas as pd
from books import book
from rich.console import Console
from rich.table import Table

from engine import Prepared, gaussianise, true_contribution

MEGABYTE = 2**20


def best(work, repeats: int = 3) -> float:
    """Return the least of a few wall times, in seconds."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


def peak() -> float:
    """Return the peak memory of this process so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(regime: str, n: int, k: int, models: int, masks: int, repeats: int) -> dict[str, object]:
    """Return the times of one round and of its products."""
    problem = book(regime, n, k, seed=1).problem
    rng = np.random.default_rng(2)
    common = rng.standard_normal((n, 1), dtype=np.float32)
    values = np.empty((n, models), dtype=np.float32, order="F")
    for start in range(0, models, 500):
        stop = min(start + 500, models)
        raw = 0.35 * common + rng.standard_normal((n, stop - start), dtype=np.float32)
        values[:, start:stop] = gaussianise(raw, dtype=np.float32)[0]
    names = [f"model{j:05d}" for j in range(models)]
    stakes = pd.Series(rng.pareto(1.5, models) + 0.01, index=names)
    returns = rng.standard_t(4, n) * 0.05
    scale = 0.03 * np.sqrt(problem.model.specific_variance * 252 / 20)
    S = rng.random((masks, models), dtype=np.float32)
    G = rng.standard_normal((masks, n)).astype(np.float32)

    def products() -> None:
        S @ values.T
        G @ values

    alone = best(products, repeats)
    before = peak()
    prepared = Prepared(names, values)
    found = []

    def round_() -> None:
        found.append(true_contribution(prepared, stakes, problem, returns, alpha_scale=scale, masks=masks))

    whole = best(round_, repeats)
    tc = found[-1]
    same = all(np.array_equal(tc.gradient, other.gradient) for other in found)
    return {
        "regime": regime, "N": n, "K": k, "models": models, "masks": masks,
        "products_s": alone, "round_s": whole, "ratio": whole / alone,
        "added_memory": (peak() - before) * MEGABYTE / values.nbytes,
        "free_directions": int(np.median(tc.free_directions)), "fallbacks": tc.fallbacks,
        "identity_miss": tc.derivative_residual, "same_bytes": same,
    }  # fmt: skip


def ranking(n: int, repeats: int) -> list[dict[str, object]]:
    """Return the time of gaussianising n x n raw predictions beside numpy's argsort of n x n distinct numbers."""
    raw = np.random.default_rng(3).standard_normal((n, n))
    rows = []
    for name, values in (
        ("distinct", raw),
        ("ties", raw.round(2)),
        ("10 % missing", np.where(raw > 1.2815, np.nan, raw)),
    ):
        argsort, ours = best(lambda: np.argsort(raw, axis=0), repeats), best(lambda v=values: gaussianise(v), repeats)
        rows.append({"values": name, "argsort_s": argsort, "gaussianise_s": ours, "ratio": ours / argsort})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small sizes, to see that it runs")
    parser.add_argument("--out", type=Path, help="folder for round.json")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(measure(**json.loads(arguments.one))))
        return
    size, repeats = (600, 2) if arguments.quick else (5000, 3)
    base = {"regime": "gross", "n": size, "k": 100, "models": size, "masks": 100, "repeats": repeats}
    cases = [base | {"regime": regime} for regime in ("gross", "volatility", "caps", "vertex, g0=20")]
    for field, values in (("n", (0.25, 0.5)), ("models", (0.2, 2)), ("masks", (0.25, 0.5, 2))):
        cases += [base | {field: int(base[field] * v)} for v in values]
    cases.append(base | {"k": 50})
    # Each round in a process of its own: peak memory is a process's.
    rows = [
        json.loads(
            subprocess.run(
                [sys.executable, __file__, "--one", json.dumps(case)], check=True, capture_output=True, text=True
            ).stdout
        )
        for case in cases
    ]
    ranks = ranking(size, repeats)
    console = Console(width=150)
    for title, records in (
        (f"A round of true contribution ({os.cpu_count()} cores)", rows),
        ("Rank and gaussianise", ranks),
    ):
        table = Table(title=title)
        for column in records[0]:
            table.add_column(column, justify="right")
        for record in records:
            table.add_row(*(f"{v:.3g}" if isinstance(v, float) else str(v) for v in record.values()))
        console.print(table)
    if arguments.out:
        arguments.out.mkdir(parents=True, exist_ok=True)
        (arguments.out / "round.json").write_text(json.dumps({"rounds": rows, "ranking": ranks}, indent=2) + "\n")


if __name__ == "__main__":
    main()
