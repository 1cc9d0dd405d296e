"""Time the decomposition of a book's risk against the direct formulas with the full covariance, in one run on one thread.

    python benchmarks/risk_decomposition.py [--assets 5000] [--factors 70] [--sleeves 50] [--repeats 50]

The direct formulas get V = X F X' + diag(d) ready made; what it costs to form it is a line of its own. Times are medians.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1"))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np

from risk.checks import FloatArray
from risk.decomposition import Decomposition, decompose
from risk.model import FactorModel

COUNTRIES, SECTORS, STYLES = 40, 12, 10


def random_model(rng: np.random.Generator, n: int, k: int) -> tuple[FactorModel, dict[str, list[str]]]:
    """Return a model of market, countries, sectors, styles and blind factors, and the assets' labels."""
    factors = ["market", *(f"country:{i:02d}" for i in range(COUNTRIES)), *(f"sector:{i:02d}" for i in range(SECTORS))]
    factors += [f"style:{i:02d}" for i in range(STYLES)]
    factors += [f"blind:{i:02d}" for i in range(1, k - len(factors) + 1)]
    country, sector = rng.integers(COUNTRIES, size=n), rng.integers(SECTORS, size=n)
    X = np.hstack([np.ones((n, 1)), np.eye(COUNTRIES)[country], np.eye(SECTORS)[sector]])
    X = np.hstack([X, rng.standard_normal((n, k - X.shape[1]))])
    root = rng.standard_normal((k, k + 10)) * 0.02
    labels = {"country": [f"{i:02d}" for i in country], "sector": [f"{i:02d}" for i in sector]}
    assets = [f"A{i:04d}" for i in range(n)]
    return FactorModel(assets, factors, X, root @ root.T, rng.uniform(0.02, 0.3, n)), labels


def direct(
    V: FloatArray, w: FloatArray, labels: dict[str, list[str]], sleeves: FloatArray
) -> tuple[FloatArray, dict[str, FloatArray], FloatArray]:
    """Return the contributions of assets, groups and sleeves from V itself."""
    covariance = V @ w
    sigma = np.sqrt(w @ covariance)
    contribution = w * covariance / sigma
    groups = {}
    for name, values in labels.items():
        array = np.array(values)
        groups[name] = np.array([contribution[array == label].sum() for label in np.unique(array)])
        for label in np.unique(array):
            alone = np.where(array == label, w, 0.0)
            np.sqrt(alone @ V @ alone)
    return contribution, groups, sleeves @ covariance / sigma


def median_milliseconds(work: Callable[[], object], repeats: int) -> tuple[float, float]:
    """Return the median time of a call by the clock and of the processor, after one that is not counted."""
    work()
    clock, processor = [], []
    for _ in range(repeats):
        began, busy = time.perf_counter(), time.process_time()
        work()
        processor.append(1e3 * (time.process_time() - busy))
        clock.append(1e3 * (time.perf_counter() - began))
    return statistics.median(clock), statistics.median(processor)


def largest_difference(
    parts: Decomposition, expected: tuple[FloatArray, dict[str, FloatArray], FloatArray]
) -> tuple[float, float]:
    """Return how far the parts are from the direct formulas and from summing to the whole, over the volatility."""
    contribution, groups, sleeves = expected
    assert parts.sleeves is not None
    pairs = [(parts.contribution, contribution), (parts.sleeves.contribution, sleeves)]
    pairs += [(parts.group(name).contribution, values) for name, values in groups.items()]
    wholes = [ours.sum() for ours, _ in pairs] + [parts.factor_contribution.sum() + parts.specific_contribution]
    off = max(np.abs(ours - theirs).max() for ours, theirs in pairs)
    return off / parts.volatility, max(abs(whole - parts.volatility) for whole in wholes) / parts.volatility


def main() -> None:
    """Print the times, their ratios and how far the results agree."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--assets", type=int, default=5000)
    parser.add_argument("--factors", type=int, default=70)
    parser.add_argument("--sleeves", type=int, default=50)
    parser.add_argument("--repeats", type=int, default=50)
    given = parser.parse_args()
    if given.factors <= 1 + COUNTRIES + SECTORS + STYLES:
        parser.error(f"--factors must exceed {1 + COUNTRIES + SECTORS + STYLES}")
    rng = np.random.default_rng(0)
    model, labels = random_model(rng, given.assets, given.factors)
    w = rng.standard_normal(given.assets)
    w = 6.0 * (w - w.mean()) / np.abs(w - w.mean()).sum()
    sleeves = rng.standard_normal((given.sleeves, given.assets)) * np.abs(w).mean()
    sleeves[-1] += w - sleeves.sum(axis=0)
    X, F, d = model.exposures, model.factor_covariance, model.specific_variance
    print(
        f"{given.assets} assets, {given.factors} factors, {given.sleeves} sleeves, one thread; medians of {given.repeats}"
    )
    V = X @ F @ X.T + np.diag(d)
    forming = median_milliseconds(lambda: X @ F @ X.T + np.diag(d), 1)
    names = [f"model {i}" for i in range(given.sleeves)]
    plain = median_milliseconds(lambda: decompose(model, w), given.repeats)
    grouped = median_milliseconds(lambda: decompose(model, w, groups=labels), given.repeats)
    full = median_milliseconds(
        lambda: decompose(model, w, groups=labels, sleeves=sleeves, sleeve_names=names), given.repeats
    )
    dense = median_milliseconds(lambda: direct(V, w, labels, sleeves), 3)
    off, gap = largest_difference(
        decompose(model, w, groups=labels, sleeves=sleeves, sleeve_names=names), direct(V, w, labels, sleeves)
    )
    print(f"{'':40s} {'clock':>12s} {'processor':>12s} {'ratio':>9s}")
    for name, (clock, processor) in (
        ("factors and assets", plain),
        (f"with {COUNTRIES} countries and {SECTORS} sectors", grouped),
        (f"and {given.sleeves} sleeves", full),
        ("direct formulas, V given", dense),
        ("forming V", forming),
    ):
        print(f"{name:40s} {clock:9.2f} ms {processor:9.2f} ms {clock / full[0]:7.2f} x")
    print(f"largest difference from the direct formulas {off:.1e}, of the sums from the whole {gap:.1e}, as shares")


if __name__ == "__main__":
    main()
