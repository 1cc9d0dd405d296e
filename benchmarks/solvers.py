"""Our solver against every peer that can state the same book: times, and beside each the evidence for what it returned.

    python benchmarks/solvers.py [--quick | --full] [--sizes 500 1500] [--factors 100] [--regimes gross] [--out FOLDER] [--json]

Each peer works in a process of its own with one thread, which is ended after `--limit` seconds an act. Times are medians, in
milliseconds. What a peer returns is judged by `engine.certificate`, outside of it: `residual` is the largest of the primal, dual
and complementarity residuals and the gap, at the peer's own prices or, where it returns none, at ours; `derivative off` is the largest
difference from our S u as a share of its largest entry. Ratios are to our time in the same column.
"""

from __future__ import annotations

import argparse
import csv
import importlib.metadata
import json
import multiprocessing
import os
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from pathlib import Path

os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS"), "1"))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
from books import REGIMES, book, check
from peers import PEERS, Act, Case, Peer, Took
from rich.console import Console
from rich.table import Table
from threadpoolctl import threadpool_limits

from engine import optimize
from engine.certificate import certify
from engine.derivative import Derivative

OURS = PEERS[0].name
MAIN = ("volatility", "gross", "caps")
FORK = multiprocessing.get_context("fork")
CAPTION = """Not run: peers above 5,000 names; above 1,500 all but Clarabel on vertex books, and cvxpylayers, unless --full is given;
cvxpylayers on vertex books, and above 500 names but where gross binds."""
PACKAGES = (
    "clarabel",
    "moreau",
    "osqp",
    "ledge-portfolio",
    "cvxpylayers",
    "diffcp",
    "cvxpy",
    "scs",
    "numpy",
    "scipy",
    "torch",
)


@dataclass(frozen=True)
class Row:
    """One act of one peer on one book; times in milliseconds, NaN where there is none."""

    regime: str
    assets: int
    factors: int
    solver: str
    act: str
    milliseconds: float
    cpu_milliseconds: float
    ratio: float
    steps: int | None
    residual: float
    weights_off: float
    derivative_off: float
    note: str


def perform(channel: Connection, peer: Peer, case: Case) -> None:
    """Send a peer's acts as they come: the work of a process of its own."""
    warnings.simplefilter("ignore")
    with threadpool_limits(1):
        for act in peer.measure(case):
            channel.send(act)


def acts(peer: Peer, case: Case) -> Iterator[Act]:
    """Yield a peer's acts, the first that takes too long or fails as one without a time."""
    here, there = FORK.Pipe(duplex=False)
    process = FORK.Process(target=perform, args=(there, peer, case))
    process.start()
    there.close()
    try:
        for name in peer.acts:
            if not here.poll(case.limit):
                yield Act(name, Took(np.nan, np.nan), note=f"> {case.limit:g} s")
                return
            yield here.recv()
    except EOFError:
        yield Act(name, Took(np.nan, np.nan), note="failed, see its message above")
    finally:
        process.kill()
        process.join()


def wanted(peer: Peer, regime: str, n: int, full: bool) -> bool:
    """Return whether a peer is measured on such a book; what is left out takes minutes."""
    if peer.name == OURS:
        return True
    if peer.name.startswith("cvxpylayers"):
        return (n <= 500 and regime in MAIN) or (n <= (5000 if full else 1500) and regime == "gross")
    return n <= 5000 and (regime in MAIN or n <= 1500 or full or peer.name.startswith("Clarabel"))


def judged(case: Case, act: Act, gradient: np.ndarray) -> tuple[float, float, float]:
    """Return residual, distance of the weights from ours, and of the derivative from ours."""
    residual = off = derivative_off = np.nan
    if act.weights is not None and np.isfinite(act.weights).all():
        proof = certify(case.problem, act.weights, act.multipliers or case.prices)
        residual = max(proof.primal_residual, proof.dual_residual, proof.complementarity, abs(proof.gap))
        off = float(np.abs(act.weights - case.proven.weights).max())
    if act.gradient is not None:
        derivative_off = float(np.abs(act.gradient - gradient).max() / np.abs(gradient).max())
    return residual, off, derivative_off


def measure(regime: str, n: int, k: int, seed: int, repeats: int, limit: float, full: bool) -> Iterator[Row]:
    """Yield the rows of one book."""
    made = book(regime, n, k, seed)
    with threadpool_limits(1):
        proven = optimize(made.problem)
        assert proven.multipliers is not None
        assert not proven.fallback
        check(made, proven.weights, proven.multipliers)
        case = Case(made, proven, optimize(made.neighbour), repeats, limit)
        gradient = Derivative(made.problem, proven.weights, proven.multipliers).times(case.u)
    ours: dict[str, float] = {}
    for peer in PEERS:
        if not wanted(peer, regime, n, full):
            continue
        for act in acts(peer, case):
            if peer.name == OURS:
                ours[act.name] = act.took.wall
            ratio = act.took.wall / ours[act.name] if act.name in ours else np.nan
            wall, cpu = 1e3 * act.took.wall, 1e3 * act.took.cpu
            evidence = judged(case, act, gradient)
            yield Row(regime, n, k, peer.name, act.name, wall, cpu, ratio, act.steps, *evidence, act.note)


def cell(rows: dict[str, Row], act: str) -> tuple[str, str]:
    """Return time and ratio as printed."""
    row = rows.get(act)
    if row is None:
        return "", ""
    if np.isnan(row.milliseconds):
        return row.note, ""
    return f"{row.milliseconds:,.3g}" if row.milliseconds < 100 else f"{row.milliseconds:,.0f}", f"{row.ratio:.1f}"


def tabulated(rows: Sequence[Row]) -> Table:
    """Return the table: one line a peer and book."""
    table = Table(title="milliseconds, one thread; ratios to ours", caption=CAPTION, caption_justify="left")
    for name in ("book", "solver"):
        table.add_column(name, no_wrap=True)
    for name in ("cold", "x", "warm", "x", "derivative", "x", "steps", "residual", "derivative off"):
        table.add_column(name, justify="right")
    table.add_column("what was spared or fell short")
    last = ""
    for (regime, n, k, solver), group in grouped(rows).items():
        name = f"{regime}, N={n:,}, K={k}"
        if name != last:
            table.add_section()
        solves = [row for row in group.values() if not np.isnan(row.residual)]
        worst = max((row.residual for row in solves), default=np.nan)
        derivative = group.get("derivative")
        off = f"{derivative.derivative_off:.0e}" if derivative and not np.isnan(derivative.derivative_off) else ""
        notes = "; ".join(dict.fromkeys(row.note for row in group.values() if row.note))
        steps = "/".join(str(row.steps) for row in solves if row.steps is not None)
        times = [text for act in ("cold", "warm", "derivative") for text in cell(group, act)]
        table.add_row(
            name if name != last else "", solver, *times, steps, "" if np.isnan(worst) else f"{worst:.0e}", off, notes
        )
        last = name
    return table


def grouped(rows: Sequence[Row]) -> dict[tuple[str, int, int, str], dict[str, Row]]:
    """Return the acts of each peer on each book."""
    groups: dict[tuple[str, int, int, str], dict[str, Row]] = {}
    for row in rows:
        groups.setdefault((row.regime, row.assets, row.factors, row.solver), {})[row.act] = row
    return groups


def figures(rows: Sequence[Row], along: str) -> str:
    """Return an HTML fragment: time against `along` (``assets`` or ``factors``), a panel for each main regime, log scales."""
    import plotly.graph_objects as go
    from plotly.subplots import make_subplots

    other = "factors" if along == "assets" else "assets"
    shared = [row for row in rows if row.solver != OURS]
    held = max(getattr(row, other) for row in (shared or rows))
    found = {row.regime for row in rows}
    regimes = [regime for regime in MAIN if regime in found] or sorted(found)
    figure = make_subplots(cols=len(regimes), subplot_titles=regimes, shared_yaxes=True)
    styles = {"cold": ("solid", "circle"), "warm": ("dot", "circle-open"), "derivative": ("dash", "x")}
    colours = dict(zip((peer.name for peer in PEERS), COLOURS, strict=True))
    shown: set[str] = set()
    for column, regime in enumerate(regimes, 1):
        for solver, colour in colours.items():
            for act, (dash, symbol) in styles.items():
                here = [
                    r
                    for r in rows
                    if (r.regime, r.solver, r.act) == (regime, solver, act) and getattr(r, other) == held
                ]
                points = sorted((getattr(r, along), r.milliseconds) for r in here if not np.isnan(r.milliseconds))
                if not points:
                    continue
                name = f"{solver}, {act}"
                line = {"color": colour, "dash": dash, "width": 3 if solver == OURS else 1.5}
                trace = go.Scatter(
                    x=[x for x, _ in points],
                    y=[y for _, y in points],
                    name=name,
                    legendgroup=name,
                    showlegend=name not in shown,
                    mode="lines+markers",
                    line=line,
                    marker={"symbol": symbol, "size": 8},
                )
                figure.add_trace(trace, row=1, col=column)
                shown.add(name)
    title = f"Time against {along}, {'K' if other == 'factors' else 'N'} = {held:,}"
    figure.update_xaxes(type="log", title=along, tickvals=sorted({getattr(row, along) for row in rows}))
    figure.update_yaxes(type="log", dtick=1, title="ms", col=1)
    figure.update_layout(title=title, template="plotly_white", width=1200, height=520)
    return str(figure.to_html(full_html=False, include_plotlyjs=along == "assets"))


COLOURS = ("#0b3d91", "#d1495b", "#edae49", "#66a182", "#8d6a9f", "#7f7f7f", "#2e4057")


def version(package: str) -> str:
    """Return the version of an installed package."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def conditions(load: tuple[float, float, float], seconds: float) -> dict[str, object]:
    """Return what the times depend on: cores, load average over the five minutes before and after, versions."""
    return {
        "cores": os.cpu_count(),
        "load_before": round(load[1], 2),
        "load_after": round(os.getloadavg()[1], 2),
        "seconds": round(seconds),
        "python": sys.version.split()[0],
        "versions": {package: version(package) for package in PACKAGES},
    }


def save(folder: Path, rows: Sequence[Row], state: dict[str, object]) -> None:
    """Write the rows as CSV, the figures as one HTML page and the conditions as JSON."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "solvers.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(Row.__dataclass_fields__))
        writer.writeheader()
        writer.writerows(asdict(row) for row in rows)
    page = figures(rows, "assets") + figures(rows, "factors")
    (folder / "solvers.html").write_text(f"<!doctype html><meta charset='utf-8'><title>Solvers</title>{page}")
    (folder / "solvers.json").write_text(json.dumps(state, indent=2) + "\n")


def arguments() -> argparse.Namespace:
    """Return the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="500 names and 50 factors alone")
    parser.add_argument("--full", action="store_true", help="cvxpylayers at 5,000 names too: tens of minutes")
    parser.add_argument("--sizes", type=int, nargs="+", default=[500, 1500, 5000, 20_000])
    parser.add_argument("--factors", type=int, nargs="+", default=[50, 100], choices=(50, 100))
    parser.add_argument("--regimes", nargs="+", default=list(REGIMES), choices=list(REGIMES))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--limit", type=float, default=60.0, help="seconds an act may take")
    parser.add_argument("--out", type=Path, help="folder for solvers.csv, solvers.html and solvers.json")
    parser.add_argument("--json", action="store_true", help="print the rows as JSON instead of the table")
    given = parser.parse_args()
    if given.quick:
        given.sizes, given.factors = [500], [50]
    return given


def main() -> None:
    """Measure, print and save."""
    given = arguments()
    load, began, rows = os.getloadavg(), time.perf_counter(), []
    books = [(regime, n, k) for n in given.sizes for k in given.factors for regime in given.regimes]
    for number, (regime, n, k) in enumerate(books, 1):
        print(
            f"\r{number}/{len(books)}: {regime}, N={n}, K={k}, {time.perf_counter() - began:.0f} s\033[K",
            end="",
            file=sys.stderr,
        )
        rows += measure(regime, n, k, given.seed, given.repeats, given.limit, given.full)
    print("\r\033[K", end="", file=sys.stderr)
    state = conditions(load, time.perf_counter() - began)
    if given.out:
        save(given.out, rows, state)
    if given.json:
        known = [
            {name: value for name, value in asdict(row).items() if value == value} for row in rows
        ]  # JSON has no NaN
        print(json.dumps({"conditions": state, "rows": known}))
        return
    console = Console(width=None if sys.stdout.isatty() else 200)
    console.print(tabulated(rows))
    console.print(
        f"{state['cores']} cores, load {state['load_before']} to {state['load_after']}, {state['seconds']} s; {state['versions']}"
    )


if __name__ == "__main__":
    main()
