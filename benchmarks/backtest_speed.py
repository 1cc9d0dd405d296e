"""Time and memory of a whole backtest of One, beside cvxportfolio's of a few weeks of it on the same data.

    python benchmarks/backtest_speed.py [--assets 3000] [--years 11.5] [--spans 2 4 8] --peer-python PYTHON [--peer 500:1.5:limited 0:2]

A synthetic market is written (or `--data` names one), and every measurement is a process of its own, one after the other:

- ours: `metafolio backtest`, from reading the files to the last table on disk: seconds by the clock, processor seconds, highest
  memory, seconds per rebalance, worst residual of a solve. The first simulated year needs a year of prices before it;
- ours to the end of 2, 4, 8 simulated years: what an added year costs;
- cvxportfolio's (`backtest_peer.py`), from a year after our first rebalance on, with the risk models and alphas of our run.

Ratios are of seconds per rebalance: theirs after the start (compilation and the first solve), ours with marking, fees and tables.
The load is the number of processes that wanted a core in the minute before; above the number of cores the clock counts others' work
too, so one ratio is given by processor seconds. A case that does not fit into memory ends the comparison with its error.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402

from backtest import Dataset, Run  # noqa: E402
from backtest.products import decision_days  # noqa: E402
from backtest.synthetic import MarketSpec, write_market  # noqa: E402
from risk import FactorModel, Panel  # noqa: E402

RESIDUALS = ["primal_residual", "dual_residual", "complementarity", "gap"]
DAYS_A_YEAR = 252
COSTS = {1.0: "not priced", 1.5: "to the power of 3/2", 2.0: "squared"}
LISTED_WEEKS = 54
"""Of prices before its first rebalance: cvxportfolio asks for a year of them."""


@dataclass(frozen=True)
class Spent:
    """What a process took: seconds by the clock and of a processor, megabytes at most, and what it printed."""

    clock: float
    cpu: float
    peak: float
    printed: str


@dataclass(frozen=True)
class Timing:
    """What a backtest took, in seconds, and how well it solved."""

    spent: Spent
    run: Run
    rebalances: int
    market: float
    simulation: float
    prepare: float
    solve: float
    residual: float

    @property
    def years(self) -> float:
        """Return the simulated years."""
        return len(self.run.nav) / DAYS_A_YEAR


@dataclass(frozen=True)
class Case:
    """What cvxportfolio is asked for: so many names (0: all), its optimizer's impact, and whether volatility is limited.

    Impact is priced as trades to the power of `exponent`; 1: not at all.
    """

    names: int
    exponent: float
    limited: bool

    @classmethod
    def read(cls, text: str) -> Case:
        """Return the case of a text like 500:1.5:limited or 0:2."""
        names, exponent, *more = text.split(":")
        if float(exponent) not in COSTS or more not in ([], ["limited"]):
            raise argparse.ArgumentTypeError(
                f"{text!r} must be NAMES:EXPONENT or NAMES:EXPONENT:limited, EXPONENT 1, 1.5 or 2"
            )
        return cls(int(names), float(exponent), bool(more))


def spend(*command: object) -> Spent:
    """Run a process and return what it took, its children with it."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    began = time.perf_counter()
    process = subprocess.Popen([*map(str, command)], stdout=subprocess.PIPE, text=True, env=environment)
    assert process.stdout is not None
    printed = process.stdout.read()
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(map(str, command))} ended with exit code {process.returncode}")
    return Spent(time.perf_counter() - began, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024, printed)


def ours(data: Path, out: Path, end: pd.Timestamp | None = None) -> Timing:
    """Run `metafolio backtest` and read what it logged."""
    span = () if end is None else ("--end", f"{end:%Y-%m-%d}")
    command = (sys.executable, "-m", "metafolio", "backtest", data, "--product", "one", "--out", out, "--quiet", *span)
    spent = spend(*command)
    run = Run(out)
    log = pd.read_json(out / "timing.jsonl", lines=True)
    whole = log.set_index("step")["all_seconds"]
    decisions = log[log["solve_seconds"].notna()]
    return Timing(
        spent,
        run,
        len(decisions),
        whole["market and risk model"],
        whole["run"] - whole["market and risk model"],
        decisions["prepare_seconds"].mean(),
        decisions["solve_seconds"].mean(),
        float(run.table("solves")[RESIDUALS].abs().max(axis=None)),
    )


def weekly_market(panel: Panel) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Return each name's return and dollar volume of the week that begins at a decision's close, and its price there.

    NaN before a name is listed; a day without trading is a return of 0, as in our ledger.
    """
    at = np.flatnonzero(decision_days(panel.dates, "weekly"))
    price = pd.DataFrame(panel.close, panel.dates, panel.assets).ffill().iloc[at[:-1]]
    growth = np.cumsum(np.log1p(np.nan_to_num(panel.returns)), axis=0)[at]
    returns = pd.DataFrame(np.expm1(np.diff(growth, axis=0)), price.index, price.columns)
    traded = np.add.reduceat(np.nan_to_num(panel.dollar_volume[: at[-1] + 1]), at[:-1] + 1, axis=0)
    volume = pd.DataFrame(traded, price.index, price.columns)
    listed = price.notna()
    return returns.where(listed), volume.where(listed), price


def write_peer_input(data: Dataset, run: Run, folder: Path, rebalances: int, case: Case) -> None:
    """Write what cvxportfolio gets: weekly market data from the start on, alphas and risk models of some rebalances.

    The names are those of our universe at all of these rebalances with prices for a year before, as many as the case
    says.
    """
    known = pd.DatetimeIndex(run.model_dates())
    first = int(known.searchsorted(known[0] + pd.DateOffset(years=1)))
    dates = known[first : first + rebalances]
    panel = data.panel(end=known[first + rebalances + 1])  # its backtest ends a week after its last rebalance
    returns, volume, price = weekly_market(panel)
    signals = run.table("signals").pivot_table(index="date", columns="asset").loc[dates]
    alpha = signals["alpha"]
    models = [run.model(date) for date in dates]
    if any(model.factors != models[0].factors for model in models):
        raise SystemExit("the risk model's factors differ between these weeks; choose another seed")
    eligible = alpha.columns[alpha.notna().all()]
    eligible = eligible[price.loc[dates[0] - pd.DateOffset(weeks=LISTED_WEEKS) :, eligible].notna().all()]
    names = eligible[: case.names or None]
    if len(names) < case.names:
        raise SystemExit(f"only {len(names)} names trade throughout, and {case.names} are asked for")
    rows = [pd.Index(model.assets).get_indexer_for(names) for model in models]
    column, day = pd.Index(panel.assets).get_indexer_for(names), panel.dates.get_loc(dates[0])
    mandate = run.record["mandate"]
    costs = mandate["costs"]
    weights = [
        signals["benchmark_weight"].loc[date, list(model.assets)] for date, model in zip(dates, models, strict=True)
    ]
    limited = limited_exposures(models, [row.fillna(0.0).to_numpy() for row in weights])
    np.savez(
        folder / "peer.npz",
        assets=np.array(names, dtype=str),
        weeks=price.index.to_numpy().astype("datetime64[ns]"),
        dates=dates.to_numpy().astype("datetime64[ns]"),
        returns=returns[names],
        volumes=volume[names],
        prices=price[names],
        alpha=alpha[names],
        factors=np.array(models[0].factors, dtype=str),
        exposures=np.stack([model.exposures[at].T for model, at in zip(models, rows, strict=True)]),
        factor_covariance=np.stack([model.factor_covariance for model in models]),
        specific_variance=np.stack([model.specific_variance[at] for model, at in zip(models, rows, strict=True)]),
        groups=np.hstack([one_hot(panel.country[day, column]), one_hot(panel.sector[day, column])]),
        limited=np.stack([exposures[:, at] for exposures, at in zip(limited, rows, strict=True)]),
        limits=[mandate["beta_limit"], *[mandate["style_limit"]] * (len(limited[0]) - 1)],
        volatility=mandate["volatility_limit"] if case.limited else np.inf,
        aversion=mandate["risk_aversion"],
        cap=mandate["position_target"],
        gross=mandate["gross_limit"],
        linear=(costs["half_spread_bps"] + costs["commission_bps"]) / 1e4,
        impact=costs["impact_coefficient"],
        exponent=case.exponent,
        fee=costs["borrow_fee_annual"],
        annualisation=DAYS_A_YEAR / costs["expected_holding_days"],
        nav=run.record["nav0"],
    )


def limited_exposures(models: list[FactorModel], benchmarks: list[np.ndarray]) -> list[np.ndarray]:
    """Return for every model beta to the universe and the styles, the rows that the mandate holds near 0."""
    return [
        np.vstack([model.beta(benchmark), model.exposures[:, [name.startswith("style:") for name in model.factors]].T])
        for model, benchmark in zip(models, benchmarks, strict=True)
    ]


def one_hot(codes: np.ndarray) -> np.ndarray:
    """Return membership columns of all groups but the last, which dollar neutrality implies."""
    return (codes[:, None] == np.unique(codes)[:-1]).astype(float)


def load() -> str:
    return f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"


def report_ours(all_years: Timing) -> None:
    spent, count = all_years.spent, all_years.rebalances
    print(
        f"ours, {all_years.years:.1f} years simulated, {all_years.run.table('solves')['assets'].mean():.0f} names on average, "
        f"{count} rebalances: {spent.clock:.1f} s by the clock, {spent.cpu:.1f} s of a processor, {spent.peak:.0f} MB ({load()})"
    )
    print(
        f"  reading, signals and risk model's history {all_years.market:.1f} s; simulation {all_years.simulation:.1f} s; per rebalance "
        f"{1e3 * all_years.simulation / count:.0f} ms, of which prepare {1e3 * all_years.prepare:.0f} and solve "
        f"{1e3 * all_years.solve:.0f}; worst residual {all_years.residual:.1e}",
        flush=True,
    )


def report_years(timings: list[Timing]) -> None:
    shorter: Timing | None = None
    for timing in timings:
        line = (
            f"  {timing.years:.1f} years: {timing.spent.clock:.1f} s, {timing.spent.clock / timing.years:.1f} s a year; of a processor "
            f"{timing.spent.cpu:.1f} s, {timing.spent.cpu / timing.years:.1f} s a year; {timing.spent.peak:.0f} MB"
        )
        if shorter is not None:
            added = timing.years - shorter.years
            line += (
                f"; an added year {(timing.spent.clock - shorter.spent.clock) / added:.1f} s, of a processor "
                f"{(timing.spent.cpu - shorter.spent.cpu) / added:.1f} s"
            )
        print(line)
        shorter = timing
    sys.stdout.flush()


def report_peer(told: dict[str, float], all_years: Timing) -> None:
    print(
        f"cvxportfolio, {told['assets']:.0f} names, {told['factors']:.0f} factors, impact {COSTS[told['exponent']]}, volatility {'limited' if told['limited'] else 'not limited'}: start {told['start']:.1f} s ({told['start_cpu']:.1f} s of a "
        f"processor), then {told['rebalance']:.2f} s ({told['rebalance_fastest']:.2f} to {told['rebalance_slowest']:.2f}; "
        f"{told['rebalance_cpu']:.2f} s of a processor) for each of {told['rebalances'] - 1:.0f} rebalances; {told['peak']:.0f} MB; gross "
        f"{told['gross']:.2f}, over a limit by {told['over']:.1e} ({load()})"
    )
    count, decision = all_years.rebalances, all_years.prepare + all_years.solve
    print(
        f"  theirs / ours, per rebalance, by the clock: {told['rebalance'] / decision:.1f} of prepare and solve, "
        f"{told['rebalance'] * count / all_years.simulation:.1f} of the simulation, {told['rebalance'] * count / all_years.spent.clock:.1f} "
        f"of everything, reading and the risk model's history too; {told['rebalance_cpu'] * count / all_years.spent.cpu:.1f} of "
        "everything by processor seconds",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--assets", type=int, default=3000)
    parser.add_argument("--years", type=float, default=11.5)
    parser.add_argument("--models", type=int, default=20)
    parser.add_argument("--data", type=Path, help="a synthetic market that is there already")
    parser.add_argument("--spans", type=float, nargs="*", default=[2, 4, 8], help="simulated years of shorter runs")
    parser.add_argument("--peer-python", help="interpreter of an environment with cvxportfolio 1.5.1")
    parser.add_argument(
        "--peer",
        nargs="*",
        type=Case.read,
        default=[Case(500, 1.5, True), Case(0, 1.0, False), Case(0, 2.0, False)],
        help="NAMES:EXPONENT[:limited]; 0 names: all; exponent of the impact that its optimizer prices, 1: none; volatility limited",
    )
    parser.add_argument("--weeks", type=int, default=8, help="rebalances of the peer, the first among them")
    given = parser.parse_args()
    if given.peer and not given.peer_python:
        parser.error("--peer-python is missing: the interpreter of an environment with cvxportfolio 1.5.1")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data = given.data
        if data is None:
            data = folder / "data"
            spec = MarketSpec(
                assets=given.assets, years=given.years, models=given.models, countries=12, sectors=11, seed=3
            )
            write_market(data, spec)
        print(f"at the start: {load()}", flush=True)
        whole = ours(data, folder / "runs" / "all")
        report_ours(whole)
        start = whole.run.nav.index[0]
        ends = [start + pd.DateOffset(days=round(365.25 * years)) for years in given.spans]
        timings = [ours(data, folder / "runs" / f"{i}", end) for i, end in enumerate(ends)]
        report_years([*timings, whole])
        for case in given.peer:
            write_peer_input(Dataset(data), whole.run, folder, given.weeks, case)
            told = json.loads(spend(given.peer_python, Path(__file__).with_name("backtest_peer.py"), folder).printed)
            report_peer(told, whole)


if __name__ == "__main__":
    main()
