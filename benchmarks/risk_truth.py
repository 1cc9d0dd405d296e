"""Is a forecast of risk right where the truth is known? Bias statistics of books whose covariance was written down first.

    python benchmarks/risk_truth.py [--quick] [--worlds 120] [--seed 1] [--json]

A world is 500 assets in 10 countries and 8 sectors with 6 styles, a factor covariance F that meets the constraints of its
families and specific variances d with a spread as in real data (0.35 of the logarithm). Returns r = X f + e are drawn
from it; a regression finds factor and specific returns; `factor_covariance` and `specific_risk` forecast from the last
1,000 days; the next 21 days judge; then on, 12 times. Three kinds of world: normal; heavy (f Student of 5 degrees of
freedom with tails common to all factors, e Student of 4, each asset its own); clustered (heavy, and volatilities of
factors and of specific returns each follow a slow common cycle, standard deviation 0.35 and half-life 40 days).

The bias statistic of a book is the root mean square of its daily return over its forecast. `drawn` takes it from the drawn
returns, `exact` from the variance that the truth gives them: the same without the luck of the draw. Books of a world
are averaged; the standard error is a jackknife over worlds. QLIKE is the mean of z^2 - log z^2: lower is better.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1"))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.table import Table
from scipy.linalg import null_space

from risk import RiskSpec
from risk.covariance import factor_covariance
from risk.noise import regression_noise
from risk.specific import LOOKBACK_HALF_LIVES, specific_risk

FloatArray = npt.NDArray[np.float64]
Books = dict[str, Callable[[FloatArray, FloatArray], FloatArray]]
YEAR, HISTORY, AHEAD, DATES, BOOKS = 252, 1000, 21, 12, 40
ASSETS, COUNTRIES, SECTORS, STYLES = 500, 10, 8, 6
FULL = RiskSpec(eigenfactor_simulations=40, regression_noise=True)


def changed(**settings: object) -> RiskSpec:
    """Return the recommended settings but for some."""
    return RiskSpec(**{**FULL.model_dump(), **settings})


STEPS = {
    "all steps": FULL,
    "no eigenfactor step": changed(eigenfactor_simulations=0),
    "no shrinkage": changed(specific_shrinkage=0.0),
    "regression noise left in": changed(regression_noise=False),
    "no Newey-West": changed(newey_west_lags=0, correlation_newey_west_lags=0, specific_newey_west_lags=0),
}
REGIMES = {
    "all steps": FULL,
    **{
        f"and regimes, half-life {h:.0f}": changed(regime_half_life=h, specific_regime_half_life=h)
        for h in (10.0, 21.0, 42.0)
    },
}
MADE = {"normal": STEPS, "heavy": STEPS, "clustered": REGIMES}
RANDOM = ("random, long only", "random, long-short", "random, 30 names")


@dataclass(frozen=True, eq=False)
class World:
    """One truth, X (N, K), F (K, K) and d (N,) per day, the f and e drawn from it, and what a regression sees of them."""

    exposures: FloatArray
    factors: tuple[str, ...]
    size: FloatArray
    constraints: FloatArray
    covariance: FloatArray
    variance: FloatArray
    returns: FloatArray
    specific: FloatArray
    factor_level: FloatArray
    specific_level: FloatArray
    seen_factors: FloatArray
    seen_specific: FloatArray


def cycle(rng: np.random.Generator, days: int) -> FloatArray:
    """Return a slow common factor of volatility, shape (days,): exp of an autoregression."""
    decay = 0.5 ** (1 / 40)
    x = np.empty(days)
    x[0] = rng.standard_normal()
    for t in range(1, days):
        x[t] = decay * x[t - 1] + np.sqrt(1 - decay**2) * rng.standard_normal()
    return np.exp(0.35 * x)


def truth(
    rng: np.random.Generator,
) -> tuple[FloatArray, tuple[str, ...], FloatArray, FloatArray, FloatArray, FloatArray]:
    """Return X, names, sizes, F and d per day, and the family constraints C of shape (2, K) with C F = 0."""
    size = np.exp(rng.normal(0, 1.3, ASSETS))
    groups = [rng.permutation(np.arange(ASSETS) % count) for count in (COUNTRIES, SECTORS)]
    styles = rng.standard_normal((ASSETS, STYLES))
    styles[:, 0] = (np.log(size) - np.log(size).mean()) / np.log(size).std()
    styles -= np.average(styles, axis=0, weights=size)
    X = np.column_stack([np.ones(ASSETS), np.eye(COUNTRIES)[groups[0]], np.eye(SECTORS)[groups[1]], styles])
    names = ("market", *(f"country:{k}" for k in range(COUNTRIES)), *(f"sector:{k}" for k in range(SECTORS)))
    names += tuple(f"style:{k}" for k in range(STYLES))
    families = (slice(1, 1 + COUNTRIES), slice(1 + COUNTRIES, 1 + COUNTRIES + SECTORS))
    C, K = np.zeros((2, X.shape[1])), X.shape[1]
    project = np.eye(K)
    for row, family in zip(C, families, strict=True):
        row[family] = size @ X[:, family] / size.sum()
        project[family, family] -= row[family]
    level = np.r_[0.16, np.full(COUNTRIES, 0.08), np.full(SECTORS, 0.06), np.full(STYLES, 0.03)]
    level *= np.exp(rng.normal(0, 0.3, K))
    loadings = 0.5 * rng.standard_normal((K, 4))
    covariance = loadings @ loadings.T + np.diag(rng.uniform(0.1, 1.0, K))
    deviation = np.sqrt(np.diag(covariance)) / level
    F = project @ (covariance / np.outer(deviation, deviation)) @ project.T / YEAR
    log_volatility = np.log(0.30) - 0.12 * styles[:, 0] + 0.25 * styles[:, 1] + 0.2 * rng.standard_normal(ASSETS)
    return X, names, size, F, np.exp(2 * log_volatility) / YEAR, C


def draw_world(kind: str, seed: int) -> World:
    """Return a world of `kind` and what a weighted regression under the constraints sees of it."""
    rng = np.random.default_rng([seed, list(MADE).index(kind)])
    X, names, size, F, d, C = truth(rng)
    days = HISTORY + DATES * AHEAD
    values, vectors = np.linalg.eigh(F)
    f = rng.standard_normal((days, len(F))) @ (vectors * np.sqrt(np.maximum(values, 0.0))).T
    if kind == "normal":
        e = rng.standard_normal((days, ASSETS))
    else:
        f *= np.sqrt(3 / rng.chisquare(5, days))[:, None]
        e = rng.standard_t(4, (days, ASSETS)) / np.sqrt(2)
    e *= np.sqrt(d)
    levels = [cycle(rng, days) if kind == "clustered" else np.ones(days) for _ in range(2)]
    f, e = f * levels[0][:, None], e * levels[1][:, None]
    basis, weights = null_space(C), np.sqrt(size)[:, None]
    design = X @ basis
    fit = basis @ np.linalg.solve(design.T @ (weights * design), (weights * design).T)
    returns = f @ X.T + e
    seen = returns @ fit.T
    return World(X, names, size, C, F, d, f, e, levels[0] ** 2, levels[1] ** 2, seen, returns - seen @ X.T)


def make_books(world: World, rng: np.random.Generator) -> Books:
    """Return, by name, functions of a forecast (F, d) that give books of shape (N, BOOKS); the signals stay the same."""
    X, size = world.exposures, world.size
    long = size[:, None] * rng.uniform(0, 1, (ASSETS, BOOKS))
    both = rng.standard_normal((ASSETS, BOOKS))
    few = rng.standard_normal((ASSETS, BOOKS)) * (rng.permuted(np.tile(np.arange(ASSETS), (BOOKS, 1)), axis=1).T < 30)
    values, vectors = np.linalg.eigh(world.covariance)
    of_factors = X @ (vectors * np.sqrt(np.maximum(values, 0.0))) @ rng.standard_normal((len(values), BOOKS))
    scores = rng.standard_normal((ASSETS, BOOKS))

    def optimise(F: FloatArray, d: FloatArray) -> FloatArray:
        scaled = X / d[:, None]
        # V^-1 a = D^-1 a - D^-1 X F (I + X'D^-1 X F)^-1 X'D^-1 a
        inner = np.linalg.solve(np.eye(len(F)) + X.T @ scaled @ F, scaled.T @ of_factors)
        return of_factors / d[:, None] - scaled @ (F @ inner)

    def neutral(_: FloatArray, d: FloatArray) -> FloatArray:
        root = np.sqrt(d)[:, None]
        return (scores - X @ np.linalg.lstsq(X / root, scores / root, rcond=None)[0]) / d[:, None]

    return {
        RANDOM[0]: lambda F, d: long,  # noqa: ARG005
        RANDOM[1]: lambda F, d: both - both.mean(axis=0),  # noqa: ARG005
        RANDOM[2]: lambda F, d: few,  # noqa: ARG005
        "factor-space optimised": optimise,
        "factor-neutral optimised": neutral,
    }


def forecast_risk(world: World, spec: RiskSpec, start: int) -> tuple[FloatArray, FloatArray]:
    """Return the forecasts F and d per day from the days before `start`."""
    past = slice(start - HISTORY, start)
    recent = slice(max(past.start, start - int(LOOKBACK_HALF_LIVES * spec.specific_half_life)), start)
    X, everyone, weights = world.exposures, np.ones(ASSETS, dtype=bool), np.sqrt(world.size)
    d = specific_risk(world.seen_specific[recent], world.size, everyone, X[:, -STYLES:], spec, YEAR).variance
    noise = None
    if spec.regression_noise:
        d = regression_noise(X, weights, world.constraints, d).specific_variance(d, X)
        noise = regression_noise(X, weights, world.constraints, d).covariance
    here = np.ones((HISTORY, len(world.factors)), dtype=bool)
    model = factor_covariance(world.seen_factors[past], here, world.factors, spec, YEAR, regression_noise=noise)
    return model.matrix / YEAR, d / YEAR


def judge(world: World, spec: RiskSpec, start: int, books: Books) -> dict[str, tuple[FloatArray, FloatArray, float]]:
    """Return, by book, mean squares drawn and exact (BOOKS,) and the loss QLIKE, of the 21 days from `start` on."""
    ahead = slice(start, start + AHEAD)
    F, d = forecast_risk(world, spec, start)
    factor_level, specific_level = world.factor_level[ahead].mean(), world.specific_level[ahead].mean()
    result = {}
    for name, make in books.items():
        w = make(F, d)
        y = world.exposures.T @ w
        forecast = np.einsum("kb,kb->b", y, F @ y) + d @ w**2
        real = world.returns[ahead] @ y + world.specific[ahead] @ w
        true = factor_level * np.einsum("kb,kb->b", y, world.covariance @ y) + specific_level * (world.variance @ w**2)
        square = real**2 / forecast
        loss = square - np.log(square)
        result[name] = (square.mean(axis=0), true / forecast, float(loss.mean()))
    square = world.specific[ahead] ** 2 / d
    for g, assets in enumerate(np.array_split(np.argsort(d), 10)):
        exact = specific_level * (world.variance[assets] / d[assets]).mean()
        result[f"volatility decile {g + 1}"] = (np.array([square[:, assets].mean()]), np.array([exact]), np.nan)
    return result


Squares = dict[tuple[str, str, str], list[tuple[FloatArray, FloatArray, float]]]


def simulate(kind: str, worlds: int, seed: int) -> Squares:
    """Return by (kind, spec, book) one entry per world: mean squares of its books, drawn and exact, and the loss."""
    found: Squares = {}
    for w in range(worlds):
        world = draw_world(kind, seed + w)
        books = make_books(world, np.random.default_rng([seed + w, 99]))
        for name, spec in MADE[kind].items():
            judged = [judge(world, spec, HISTORY + k * AHEAD, books) for k in range(DATES)]
            for book in judged[0]:
                parts = [j[book] for j in judged]
                mean = tuple(np.mean([p[i] for p in parts], axis=0) for i in range(3))
                found.setdefault((kind, name, book), []).append(mean)
    return found


def statistic(squares: FloatArray) -> tuple[float, float]:
    """Return the mean bias statistic of books from mean squares (worlds, books), and its jackknife error over worlds."""
    n = len(squares)
    total = squares.sum(axis=0)
    left_out = np.sqrt((total - squares) / (n - 1)).mean(axis=1)
    return float(np.sqrt(total / n).mean()), float(np.sqrt((n - 1) * left_out.var()))


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    world: str
    forecast: str
    book: str
    days: int
    drawn: float
    drawn_error: float
    exact: float
    exact_error: float
    qlike: float


def rows(found: Squares) -> list[Row]:
    """Return the table: random books of all three kinds are also given together."""
    result = []
    for (kind, name, book), worlds in found.items():
        both = [np.array([w[i] for w in worlds]) for i in range(2)]
        loss = float(np.mean([w[2] for w in worlds]))
        numbers = [x for squares in both for x in statistic(squares)]
        result.append(Row(kind, name, book, len(worlds) * DATES * AHEAD, *numbers, loss))
    for kind, name in dict.fromkeys((r.world, r.forecast) for r in result):
        parts = [found[kind, name, book] for book in RANDOM]
        both = [np.concatenate([np.array([w[i] for w in part]) for part in parts], axis=1) for i in range(2)]
        numbers = [x for squares in both for x in statistic(squares)]
        loss = float(np.mean([w[2] for part in parts for w in part]))
        result.append(Row(kind, name, "random, all", len(parts[0]) * DATES * AHEAD, *numbers, loss))
    return result


def verdicts(table: list[Row]) -> list[tuple[str, str, bool]]:
    """Return target, measured and met, for each kind of world without clusters."""
    at = {(r.world, r.forecast, r.book): r for r in table}
    result = []
    for kind in ("normal", "heavy"):
        full = {book: at[kind, "all steps", book] for book in {r.book for r in table}}
        a = full["random, all"].drawn
        result.append((f"{kind}: random portfolios 1.00 +- 0.03", f"{a:.3f}", abs(a - 1) <= 0.03))
        for book, without in (
            ("factor-space optimised", "no eigenfactor step"),
            ("factor-neutral optimised", "no shrinkage"),
        ):
            on, off = full[book].drawn, at[kind, without, book].drawn
            text = f"{on:.3f}; {off:.3f} without"
            result.append((f"{kind}: {book} nearer to 1 than with {without}", text, abs(on - 1) < abs(off - 1)))
        deciles = [r.drawn for book, r in full.items() if book.startswith("volatility")]
        text = f"{min(deciles):.3f} to {max(deciles):.3f}"
        result.append(
            (
                f"{kind}: specific risk by volatility decile 0.95 to 1.05",
                text,
                min(deciles) >= 0.95 and max(deciles) <= 1.05,
            )
        )
    return result


def show(table: list[Row], console: Console) -> None:
    grid = Table("world", "forecast", "book", "T (days)", "drawn", "s.e.", "exact", "s.e.", "QLIKE")
    order = {book: k for k, book in enumerate(("random, all", *dict.fromkeys(r.book for r in table)))}
    for r in sorted(table, key=lambda r: (list(MADE).index(r.world), order[r.book])):
        if r.book.startswith("volatility") and r.forecast not in ("all steps", "no shrinkage"):
            continue
        numbers = [f"{x:.3f}" for x in (r.drawn, r.drawn_error, r.exact, r.exact_error)]
        loss = "" if np.isnan(r.qlike) else f"{r.qlike:.4f}"
        grid.add_row(r.world, r.forecast, r.book, f"{r.days:,}", *numbers, loss)
    console.print(grid)
    for target, measured, met in verdicts(table):
        console.print(f"{'met   ' if met else 'MISSED'}  {target}: {measured}", markup=False)


def main() -> int:
    """Run the worlds, print the table and the targets; exit code 1 when one is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="four worlds of each kind: seconds, and wide errors")
    parser.add_argument("--worlds", type=int, default=120, help="worlds of each kind")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true", help="print rows as JSON")
    arguments = parser.parse_args()
    began, found = time.perf_counter(), {}
    for kind in MADE:
        found |= simulate(kind, 4 if arguments.quick else arguments.worlds, arguments.seed)
    table = rows(found)
    if arguments.json:
        print(json.dumps([vars(r) for r in table], indent=1))
    else:
        console = Console(width=140)
        show(table, console)
        console.print(f"{time.perf_counter() - began:.0f} s")
    return 0 if all(met for *_, met in verdicts(table)) else 1


if __name__ == "__main__":
    sys.exit(main())
