"""How often the tests of value at risk and expected shortfall reject a forecast that is right.

python benchmarks/risk_tails.py [--replications 200] [--significance 0.05] [--seed 0] [--estimated]

Records are simulated under the null: returns are a unit-variance Student-t of 5 degrees of freedom and the forecast is the true law.
Each test's share of rejections is printed by each of its p-values, with the band in which it lies with probability 99 % if the
test's level is the nominal one. What must lie in its band is the randomised p-value of the discrete coverage tests and the Monte Carlo
p-value of the tests of shortfall; the exact p-value without randomising stays at or below the nominal level, and the asymptotic and the
bootstrap one are shown for what they are. With c cells, about c/100 leave a 99 % band by chance.

--estimated adds a study of whole backtests, whose forecasts are estimated from a rolling window. There the tests' null does not hold
exactly, so a share outside its band is no fault of a test: ``normal`` is the wrong law for these returns, and its rejections are power; the
others' shares say what estimation does to the level.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import pandas as pd
from scipy.stats import binom

from risk.laws import StudentLaw
from risk.shortfall_tests import acerbi_szekely, mcneil_frey
from risk.tail_backtest import VarMethod, backtest_var
from risk.var_tests import coverage_tests

LAW = StudentLaw(5.0)
LENGTHS = (250, 1000)
COVERAGE_LEVELS, SHORTFALL_LEVEL = (0.95, 0.99), 0.975
SCENARIOS = 199
"""Significance times (scenarios + 1) is whole at 5 % and 10 %."""
KINDS = ("normal", "student", "historical", "filtered_historical", "monte_carlo")


def unit_returns(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return rng.standard_t(LAW.dof, shape) * np.sqrt((LAW.dof - 2) / LAW.dof)


def coverage_rows(replications: int, seed: int) -> list[dict[str, object]]:
    """Return one row for each replication, test, length and level with its three p-values."""
    rows: list[dict[str, object]] = []
    for level in COVERAGE_LEVELS:
        risk = LAW.value_at_risk(level)
        for periods in LENGTHS:
            rng = np.random.default_rng([seed, periods, round(1000 * level)])
            for replication in range(replications):
                exceptions = unit_returns(rng, (periods,)) < -risk
                table = coverage_tests(exceptions, level, seed=int(rng.integers(2**31)))
                for name, row in table.iterrows():
                    rows.append({"test": name, "level": level, "periods": periods, "replication": replication,
                                 "randomised": row["randomised_p_value"], "exact": row["p_value"],
                                 "asymptotic": row["asymptotic_p_value"]})  # fmt: skip
    return rows


def shortfall_rows(replications: int, seed: int) -> list[dict[str, object]]:
    """Return one row for each replication, test and length with its Monte Carlo and bootstrap p-values."""
    rows: list[dict[str, object]] = []
    level = SHORTFALL_LEVEL
    for periods in LENGTHS:
        rng = np.random.default_rng([seed, periods, round(1000 * level)])
        var, shortfall = np.full(periods, LAW.value_at_risk(level)), np.full(periods, LAW.expected_shortfall(level))
        for replication in range(replications):
            r, scenarios = unit_returns(rng, (periods,)), unit_returns(rng, (SCENARIOS, periods))
            tie = int(rng.integers(2**31))
            ones = np.ones(periods)
            z = acerbi_szekely(r, var, shortfall, level, scenarios, seed=tie)
            drawn = mcneil_frey(r, var, shortfall, ones, level, scenarios=scenarios, seed=tie)
            boot = mcneil_frey(r, var, shortfall, ones, level, bootstraps=SCENARIOS, seed=tie)
            for test, bootstrap in ((z, np.nan), (drawn, boot.p_value)):
                rows.append({"test": test.name, "level": level, "periods": periods, "replication": replication,
                             "randomised": test.p_value, "bootstrap": bootstrap})  # fmt: skip
    return rows


def estimated_rows(replications: int, seed: int) -> list[dict[str, object]]:
    """Return one row for each replication, method and test of a rolling backtest at 99 % over 500 days."""
    rows: list[dict[str, object]] = []
    rng = np.random.default_rng([seed, 99])
    for replication in range(replications):
        r = unit_returns(rng, (1021,)) * 0.01
        for kind in KINDS:
            method = VarMethod(kind=kind, window=500, refit=250, draws=2000)
            record = backtest_var(r, method, scenarios=SCENARIOS, seed=int(rng.integers(2**31)))
            tests = {**record.coverage["randomised_p_value"], **record.shortfall["p_value"]}
            for test, p_value in tests.items():
                rows.append({"test": f"{kind}: {test}", "level": 0.99, "periods": len(record.returns),
                             "replication": replication, "randomised": p_value})  # fmt: skip
    return rows


def rejection_shares(rows: list[dict[str, object]], significance: float) -> pd.DataFrame:
    """Return shares of p-values at or below the significance, and the band of the first of them."""
    table = pd.DataFrame(rows)
    kinds = [name for name in ("randomised", "exact", "asymptotic", "bootstrap") if name in table]
    rejected = table.assign(**{name: (table[name] <= significance).where(table[name].notna()) for name in kinds})
    groups = rejected.groupby(["test", "level", "periods"], sort=False)
    shares = groups[kinds].mean().astype(float)
    count = groups.size()
    low, high = binom.ppf(0.005, count, significance) / count, binom.ppf(0.995, count, significance) / count
    return shares.assign(
        replications=count, low=low, high=high, inside=(shares["randomised"] >= low) & (shares["randomised"] <= high)
    )


def show(title: str, table: pd.DataFrame, seconds: float) -> None:
    print(f"{title} ({seconds:.0f} s): {int(table['inside'].sum())} of {len(table)} cells inside")
    print(table.to_string(float_format=lambda x: f"{x:.4f}", na_rep="-"), end="\n\n")


def main() -> None:
    """Print a table for each study."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--replications", type=int, default=200)
    parser.add_argument("--significance", type=float, default=0.05)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--estimated", action="store_true")
    given = parser.parse_args()
    studies = [("coverage of VaR", coverage_rows), ("expected shortfall", shortfall_rows)]
    if given.estimated:
        studies.append(("rolling backtests, estimated forecasts", estimated_rows))
    for title, study in studies:
        began = time.perf_counter()
        table = rejection_shares(study(given.replications, given.seed), given.significance)
        show(f"{title}, rejections at {given.significance:.0%}", table, time.perf_counter() - began)


if __name__ == "__main__":
    main()
