"""What the statistics of the best of many trials say when none has skill, and whether they find the one that has.

python benchmarks/noise_strategies.py [--replications 200] [--trials 1000] [--years 5] [--seed 0] [--processes 2]

Four tables, all over independent data sets ("replications") of daily returns, 252 a year:

1. Size: trials are pure noise (normal, and Student-t of 4 degrees of freedom). The share of data sets whose best trial is called significant
   at 5 % must lie inside the binomial 99 % band around 5 % or below it; the mean PBO within two of its standard errors of 0.5.
2. Dependence: as 1, by the structure of the trials and by the number of trials that the deflated Sharpe ratio is given.
3. Power: one trial of the noise is given a true Sharpe ratio. "Found" is the share of data sets in which that trial is the best and is
   called significant.
4. Spread of the PBO of one data set: what a single number can be read for.

Exit code 1 where a requirement of table 1 fails.
"""

from __future__ import annotations

import argparse
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import pandas as pd
from scipy.stats import binom
from threadpoolctl import threadpool_limits

from backtest.overfitting import probability_of_overfitting
from backtest.sharpe import sharpe_ratios, sharpe_sample
from backtest.sharpe_tests import deflated_sharpe
from backtest.trial_count import cluster_returns, cluster_trials, effective_rank, noise_maximum

YEAR, SIGNIFICANCE = 252, 0.05
LAWS = ("normal", "student-t 4")
PLANTED = (1.0, 1.5, 2.0, 2.5)
JUDGED_BY_PBO = (1.0, 2.0)
STRUCTURES = ("independent", "one common factor", "10 ideas, rho 0.9", "10 ideas, rho 0.5", "50 ideas, rho 0.3")
DEPENDENT_TRIALS = 300


def noise(rng: np.random.Generator, law: str, shape: tuple[int, int]) -> np.ndarray:
    """Return draws of mean 0 and variance 1."""
    return rng.standard_normal(shape) if law == "normal" else rng.standard_t(4, shape) / np.sqrt(2.0)


def best(returns: np.ndarray) -> tuple[int, np.ndarray]:
    """Return the best trial and all ratios per period."""
    ratios = sharpe_ratios(returns, periods_per_year=1)
    return int(ratios.argmax()), ratios


def tests_of_best(returns: np.ndarray, ratios: np.ndarray) -> dict[str, float]:
    """Return who is best and the two tests of it at the true number of trials, which are independent here."""
    winner = int(ratios.argmax())
    found = deflated_sharpe(
        sharpe_sample(returns[:, winner]), trials=returns.shape[1], trial_variance=float(ratios.var(ddof=1))
    )
    return {"winner": winner, "ratio": ratios[winner] * YEAR**0.5, "benchmark": found.benchmark * YEAR**0.5,
            "deflated": found.probability, "familywise": found.familywise}  # fmt: skip


def independent(replication: int, *, seed: int, law: str, years: int, trials: int) -> list[dict[str, object]]:
    """Return the tests of one data set of noise, and of the same with a planted trial."""
    rng = np.random.default_rng([seed, LAWS.index(law), years, replication])
    returns = noise(rng, law, (years * YEAR, trials))
    label = {"law": law, "years": years, "replication": replication}
    overfit = probability_of_overfitting(returns)
    ratios = best(returns)[1]
    rows = [
        label | {"planted": 0.0, "pbo": overfit.probability, "slope": overfit.slope} | tests_of_best(returns, ratios)
    ]
    plain = returns[:, 0].copy()
    for ratio in PLANTED:
        returns[:, 0] = plain + ratio / YEAR**0.5
        ratios[0] = sharpe_ratios(returns[:, :1], periods_per_year=1)[0]
        pbo = probability_of_overfitting(returns).probability if law == "normal" and ratio in JUDGED_BY_PBO else np.nan
        rows.append(label | {"planted": ratio, "pbo": pbo, "slope": np.nan} | tests_of_best(returns, ratios))
    return rows


def dependent_returns(rng: np.random.Generator, structure: str, periods: int) -> np.ndarray:
    own = rng.standard_normal((periods, DEPENDENT_TRIALS))
    if structure == "independent":
        return own
    if structure == "one common factor":
        return np.sqrt(0.5) * rng.standard_normal((periods, 1)) + np.sqrt(0.5) * own
    ideas, rho = int(structure.split()[0]), float(structure.split()[-1])
    idea = rng.standard_normal((periods, ideas))[:, np.arange(DEPENDENT_TRIALS) % ideas]
    return np.sqrt(rho) * idea + np.sqrt(1.0 - rho) * own


def dependent(replication: int, *, seed: int, structure: str, years: int) -> dict[str, object]:
    """Return whether the best of dependent trials without skill is called significant, by the number of trials counted."""
    rng = np.random.default_rng([seed, 7, STRUCTURES.index(structure), replication])
    returns = dependent_returns(rng, structure, years * YEAR)
    winner, ratios = best(returns)
    sample, variance = sharpe_sample(returns[:, winner]), float(ratios.var(ddof=1))
    clusters, luck = cluster_trials(returns), noise_maximum(returns, seed=replication)
    counts = {"all": DEPENDENT_TRIALS, "ideas": clusters.count, "rank": effective_rank(returns),
              "maximum": luck.independent_trials}  # fmt: skip
    row: dict[str, object] = {"structure": structure} | {f"n_{name}": value for name, value in counts.items()}
    for name, count in counts.items():
        row[name] = deflated_sharpe(sample, trials=count, trial_variance=variance).probability > 1 - SIGNIFICANCE
    ideas = cluster_returns(returns, clusters)
    first, of_ideas = best(ideas)
    spread = float(of_ideas.var(ddof=1)) if clusters.count > 1 else 0.0
    found = deflated_sharpe(sharpe_sample(ideas[:, first]), trials=clusters.count, trial_variance=spread)
    row["best idea"] = found.probability > 1 - SIGNIFICANCE
    sidak = deflated_sharpe(sample, trials=DEPENDENT_TRIALS, trial_variance=variance).familywise
    row["familywise"] = sidak > 1 - SIGNIFICANCE
    row["simulated"] = luck.p_value(sample.ratio / sample.standard_error) <= SIGNIFICANCE
    row["pbo"] = probability_of_overfitting(returns).probability
    return row


def error(values: pd.Series) -> float:
    return float(values.std(ddof=1) / np.sqrt(len(values)))


def size_table(noise_rows: pd.DataFrame, band: tuple[float, float]) -> tuple[pd.DataFrame, bool]:
    """Return table 1 and whether every requirement holds."""
    lines, holds = [], True
    for (law, years), g in noise_rows.groupby(["law", "years"]):
        deflated, familywise = (g["deflated"] > 0.95).mean(), (g["familywise"] > 0.95).mean()
        away = (g["pbo"].mean() - 0.5) / error(g["pbo"])
        holds &= deflated <= band[1] and abs(away) <= 2.0
        lines.append({"law": law, "T": years * YEAR, "best ratio": g["ratio"].mean(), "its error": error(g["ratio"]),
                      "benchmark": g["benchmark"].mean(), "deflated": deflated, "familywise": familywise,
                      "mean PBO": g["pbo"].mean(), "PBO error": error(g["pbo"]), "away": away, "slope": g["slope"].mean()})  # fmt: skip
    return pd.DataFrame(lines), bool(holds)


def power_table(rows: pd.DataFrame) -> pd.DataFrame:
    lines = []
    for (law, years, planted), g in rows[rows["planted"] > 0].groupby(["law", "years", "planted"]):
        mine = g["winner"] == 0
        found = {name: (mine & (g[name] > 0.95)).mean() for name in ("deflated", "familywise")}
        errors = {f"{name} error": (p * (1 - p) / len(g)) ** 0.5 for name, p in found.items()}
        lines.append({"law": law, "T": years * YEAR, "true ratio": planted, "is best": mine.mean()} | found | errors
                     | {"mean PBO": g["pbo"].mean(), "PBO error": error(g["pbo"])})  # fmt: skip
    return pd.DataFrame(lines)


def show(title: str, table: pd.DataFrame) -> None:
    print(f"\n{title}\n{table.to_string(index=False, float_format=lambda x: f'{x:.3f}')}", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--replications", type=int, default=200)
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--years", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    began, count = time.perf_counter(), options.replications
    band = tuple(binom.ppf([0.005, 0.995], count, SIGNIFICANCE) / count)
    print(
        f"{count} data sets of {options.trials} trials; binomial 99 % band of a 5 % test: {band[0]:.3f} to {band[1]:.3f}"
    )
    rows: list[dict[str, object]] = []
    structured: list[dict[str, object]] = []
    with ProcessPoolExecutor(options.processes, initializer=threadpool_limits, initargs=(1,)) as pool:
        for law, years in ((LAWS[0], options.years), (LAWS[1], options.years), (LAWS[0], 2 * options.years)):
            job = partial(independent, seed=options.seed, law=law, years=years, trials=options.trials)
            rows += [row for group in pool.map(job, range(count), chunksize=5) for row in group]
        for structure in STRUCTURES:
            job = partial(dependent, seed=options.seed, structure=structure, years=options.years)
            structured += pool.map(job, range(count), chunksize=5)
    table = pd.DataFrame(rows)
    sizes, holds = size_table(table[table["planted"] == 0], band)
    means = pd.DataFrame(structured).groupby("structure", sort=False).mean().reset_index()
    pbo = table[table["planted"] == 0].groupby(["law", "years"])["pbo"].describe(percentiles=[0.05, 0.5, 0.95])
    show(
        "1. Size: share significant at 5 % among trials without skill (ratios per year; away: mean PBO - 0.5 in its errors)",
        sizes,
    )
    # fmt: off
    show(f"2. Dependence, {DEPENDENT_TRIALS} trials: numbers counted (n_), share significant at 5 % by the deflated ratio of the best trial "
         "with each, of the best idea; by Sidak's rule with all; by the simulated maximum", means)
    # fmt: on
    show("3. Power of finding one planted trial", power_table(table))
    show("4. PBO of one data set of noise", pbo.reset_index())
    print(f"\n{time.perf_counter() - began:.0f} s; requirements of table 1 {'hold' if holds else 'FAIL'}")
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
