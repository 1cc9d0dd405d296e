"""Scores of one date beside numerai-tools, from gaussianised predictions.

    python benchmarks/scores.py [--quick] [--out FOLDER]

CORR, MMC and FNC of all models at once; numerai-tools on a few of the same models, its time scaled linearly to all (it works
column by column; what it does once for all, as with features, is scaled too, so its figure for the few stands beside it).
numerai-tools begins with ranks: a second ratio has ours begin there. Pairwise correlations have a row of their own. Beside
wall time stands the processor's, which a busy machine stretches less.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import pandas as pd
from numerai_tools import scoring as oracle
from rich.console import Console
from rich.table import Table

from engine import gaussianise
from engine.scores_correlation import contribution, numerai_correlation
from engine.scores_neutral import feature_neutral_correlation, neutral_basis
from engine.scores_pairwise import pairwise_correlation


def best(work, repeats: int, clock=time.perf_counter) -> float:
    """Return the least of a few times, in seconds: the wall's, or by another clock."""
    times = []
    for _ in range(repeats):
        start = clock()
        work()
        times.append(clock() - start)
    return min(times)


def table(title: str, records: list[dict[str, object]]) -> Table:
    shown = Table(title=title)
    for column in records[0]:
        shown.add_column(column, justify="right")
    for record in records:
        shown.add_row(*(f"{v:.3g}" if isinstance(v, float) else str(v) for v in record.values()))
    return shown


def measure(n: int, m: int, q: int, few: int, repeats: int) -> list[dict[str, object]]:
    """Return a row per score: our seconds, numerai-tools' seconds, their ratio and the largest difference."""
    rng = np.random.default_rng(4)
    ids = [f"n{i:06d}" for i in range(n)]
    common = rng.standard_normal((n, 1))
    raw = pd.DataFrame(0.35 * common + rng.standard_normal((n, few)), index=ids, columns=[f"m{j}" for j in range(few)])
    G = np.empty((n, m), dtype=np.float32, order="F")
    G[:, :few] = gaussianise(raw)[0]
    for start in range(few, m, 250):
        stop = min(start + 250, m)
        G[:, start:stop] = gaussianise(0.35 * common + rng.standard_normal((n, stop - start)))[0]
    F = rng.integers(0, 5, (n, q)).astype(np.float64)
    target = pd.Series(rng.choice([0, 0.25, 0.5, 0.75, 1], n, p=[0.05, 0.2, 0.5, 0.2, 0.05]), index=ids, name="target")
    meta = pd.Series(raw.mean(axis=1), name="meta")
    features = pd.DataFrame(F, index=ids, columns=[f"f{j}" for j in range(q)])
    t, market = target.to_numpy(), gaussianise(meta)[0]
    ours = {
        "CORR": lambda g: numerai_correlation(g, t),
        "MMC": lambda g: contribution(g, market, t),
        f"FNC, {q} features": lambda g: feature_neutral_correlation(g, neutral_basis(F), t),
        "CORR, TB200": lambda g: numerai_correlation(g, t, top_bottom=min(200, n // 4)),
    }
    theirs = {
        "CORR": lambda: oracle.numerai_corr(raw, target),
        "MMC": lambda: oracle.correlation_contribution(raw, meta, target),
        f"FNC, {q} features": lambda: oracle.feature_neutral_corr(raw, features, target),
        "CORR, TB200": lambda: oracle.numerai_corr(raw, target, top_bottom=min(200, n // 4)),
    }
    double = gaussianise(raw)[0]
    ranking = best(lambda: gaussianise(double), repeats) * m / few
    rows: list[dict[str, object]] = []
    for name, score in ours.items():
        reference = theirs[name]()
        seconds, peer = best(lambda s=score: s(G), repeats), best(theirs[name], 1)
        rows.append({
            "score": name, "seconds": seconds, "processor": best(lambda s=score: s(G), 1, time.process_time),
            f"numerai-tools, {few} models": peer, f"scaled to {m}": peer * m / few,
            "ratio": peer * m / few / seconds, "ratio, ours ranking too": peer * m / few / (seconds + ranking),
            "difference, float64": float(np.abs(score(double) - reference).max()),
            "difference, float32": float(np.abs(score(G)[:few] - reference).max()),
        })  # fmt: skip
    total = {key: sum(float(row[key]) for row in rows[:3]) for key in list(rows[0])[1:5]}
    scaled = total[f"scaled to {m}"]
    rows.append({
        "score": "CORR + MMC + FNC", **total, "ratio": scaled / total["seconds"],
        "ratio, ours ranking too": scaled / (total["seconds"] + ranking), "difference, float64": "", "difference, float32": "",
    })  # fmt: skip
    # The peer of the pairwise scores is the one product that they cannot do without.
    seconds, product = best(lambda: pairwise_correlation(G), repeats), best(lambda: G.T @ G, 1)
    rows.append({
        "score": "MCWNM, APCWNM (numpy's G'G for a peer)", "seconds": seconds,
        "processor": best(lambda: pairwise_correlation(G), 1, time.process_time), f"numerai-tools, {few} models": "",
        f"scaled to {m}": product, "ratio": product / seconds, "ratio, ours ranking too": "",
        "difference, float64": "", "difference, float32": "",
    })  # fmt: skip
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small sizes, to see that it runs")
    parser.add_argument("--out", type=Path, help="folder for scores.json")
    arguments = parser.parse_args()
    n, m, few, repeats = (600, 300, 20, 2) if arguments.quick else (5000, 5000, 50, 3)
    before = os.getloadavg()
    console = Console(width=180)
    found = {}
    for q in (50, 400):
        rows = measure(n, m, q if not arguments.quick else q // 5, few, repeats)
        found[f"{q} features"] = rows
        console.print(table(f"{n} assets, {m} models, float32, {os.cpu_count()} cores", rows))
    load = {"before": before, "after": os.getloadavg()}
    console.print(f"load average: {load['before'][0]:.2f} before, {load['after'][0]:.2f} after")
    if arguments.out:
        arguments.out.mkdir(parents=True, exist_ok=True)
        (arguments.out / "scores.json").write_text(json.dumps(found | {"load": load}, indent=2) + "\n")


if __name__ == "__main__":
    main()
