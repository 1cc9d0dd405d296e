"""Solve a thousand random problems of every kind, and hold each book against Clarabel and its own proof.

    python -m benchmarks.robustness [--count 1000] [--first 0] [--large 6]

Problems are drawn to be unpleasant: vertices, ties, rows that repeat, depend on others or are empty, names that cannot move, units
that differ by eight powers of ten. Each is feasible by construction: its limits are set around a planted book. Prints the worst
certificate, the worst objective against Clarabel's, fallbacks and steps, and every problem that misses a threshold. Exit code 1
where one does.
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from dataclasses import dataclass

import numpy as np
from threadpoolctl import threadpool_limits

from engine import Limits, Problem, Solution, SolverFailure, TradeCosts, interior_point, optimize
from engine.certificate import best_response, factor_prices
from engine.solution import Multipliers
from risk import FactorModel

CERTIFIED, WITHIN, NO_WORSE, FALLBACKS = 1e-8, 1e-9, 1e-7, 0.005
"""Allowed: largest residual of a certificate, violation of a limit, objective below Clarabel's (relative), share of fallbacks."""


@dataclass(frozen=True, eq=False)
class Case:
    """A problem, the traits it was drawn with, and the planted book within its limits."""

    seed: int
    traits: tuple[str, ...]
    problem: Problem
    planted: np.ndarray

    def __str__(self) -> str:
        n, k = self.problem.model.exposures.shape
        return f"seed {self.seed}: N={n}, K={k}, {', '.join(self.traits)}"


@dataclass(frozen=True)
class Verdict:
    """What was found about one solution.

    Attributes
    ----------
    certificate, relative : float
        Largest residual; and the same in units of the problem where these are larger than 1: rows with the largest exposure, prices
        with alpha, complementarity and gap with the objective's terms.
    violation : float
        Largest violation of a limit, recomputed; of a row in units of its largest exposure.
    gap, short : float
        Its own gap, and by how much it is short of Clarabel's objective, as shares of the objective's terms.
    method : str
    steps : int
    seconds : float
    compared : bool
        Whether Clarabel reached its tolerance, and its book the limits.
    """

    certificate: float
    relative: float
    violation: float
    gap: float
    short: float
    method: str
    steps: int
    seconds: float
    compared: bool

    @property
    def sound(self) -> bool:
        """Whether it meets every threshold; a fallback is counted, not refused."""
        return self.relative <= CERTIFIED and self.violation <= WITHIN and max(self.gap, self.short) <= NO_WORSE


class _Draw:
    """Random choices that leave their names behind."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng([seed, 20])
        self.traits: list[str] = []

    def one(self, share: float, trait: str) -> bool:
        """Return True in `share` of all draws, and then keep the trait."""
        hit = bool(self.rng.random() < share)
        if hit:
            self.traits.append(trait)
        return hit

    def kind(self, **shares: float) -> str:
        """Return one of several names by their shares, and keep it."""
        names, weights = list(shares), np.array(list(shares.values()))
        name = str(self.rng.choice(names, p=weights / weights.sum()))
        self.traits.append(name.replace("_", " "))
        return name

    def log(self, low: float, high: float, size: int | None = None) -> np.ndarray:
        """Return log-uniform numbers."""
        return np.exp(self.rng.uniform(np.log(low), np.log(high), size))


def groups(rng: np.random.Generator, n: int, count: int) -> np.ndarray:
    """Return (n, count) dummies of unequal groups; some may be empty."""
    return np.eye(count)[rng.choice(count, n, p=rng.dirichlet(np.full(count, 1.5)))]


def _model(d: _Draw, n: int, families: tuple[int, int, int]) -> FactorModel:
    """Return a model of market, countries, sectors and styles, its units and its rank as they fall."""
    rng, (countries, sectors, styles) = d.rng, families
    tails = 2 if d.one(0.15, "fat tails") else 6
    style = rng.standard_t(tails, (n, styles)) / 1.5
    X = np.hstack([np.ones((n, 1)), groups(rng, n, countries), groups(rng, n, sectors), style])
    if d.one(0.05, "repeated factor"):
        X = np.hstack([X, X[:, -1:]])
    k = X.shape[1]
    volatility = np.concatenate([[0.16], rng.uniform(0.02, 0.12, k - 1)])
    rank = k if not d.one(0.12, "singular F") else int(rng.integers(1, min(k, 3) + 1))
    root = rng.standard_normal((k, rank))
    F = root @ root.T / rank
    if rank == k:
        F = 0.7 * F + 0.3 * np.eye(k)
    F = F * np.outer(volatility, volatility)
    if d.one(0.02, "zero F"):
        F = np.zeros((k, k))
    if d.one(0.12, "ill-scaled F"):
        unit = d.log(1e-4, 1e4, k)
        X, F = X * unit, F / np.outer(unit, unit)
    spread = 1.5 if d.one(0.1, "uneven specific risk") else 0.4
    specific = rng.lognormal(np.log(0.30), spread, n) ** 2
    if d.one(0.08, "equal specific risk"):
        specific = np.full(n, 0.09)
    return FactorModel([f"A{i}" for i in range(n)], [f"f{j}" for j in range(k)], X, (F + F.T) / 2, specific)


def _bounds(d: _Draw, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Return bounds of the names, every kind of them."""
    rng = d.rng
    cap = float(d.log(0.004, 0.4)) if not d.one(0.1, "hardly any caps") else 50.0
    upper = np.full(n, cap)
    lower = -upper
    if d.one(0.3, "unequal bounds"):
        upper, lower = upper * rng.uniform(0.1, 1.5, n), lower * rng.uniform(0.1, 1.5, n)
    if d.one(0.1, "one-sided names"):
        long = rng.random(n) < 0.3
        lower, upper = np.where(long, 0.0, lower), np.where(~long & (rng.random(n) < 0.3), 0.0, upper)
    if d.one(0.06, "bounds away from zero"):
        lower = np.where(rng.random(n) < 0.2, upper / 3, lower)
    if d.one(0.2, "closed names"):
        closed = rng.random(n) < (0.95 if d.one(0.25, "nearly all closed") else 0.15)
        at = np.where(rng.random(n) < 0.5, 0.0, lower + rng.random(n) * (upper - lower))
        lower, upper = np.where(closed, at, lower), np.where(closed, at, upper)
    return lower, upper


def _alpha(d: _Draw, model: FactorModel) -> np.ndarray:
    """Return alpha by Grinold's rule, or one that no rule gives."""
    rng, n = d.rng, len(model.assets)
    kind = d.kind(grinold=10, fat_alpha=1.5, zero_alpha=0.4, constant_alpha=0.4, sparse_alpha=0.7, two_valued_alpha=0.7)
    score = rng.standard_normal(n)
    if kind == "fat_alpha":
        score = rng.standard_t(2, n)
    elif kind == "zero_alpha":
        score = np.zeros(n)
    elif kind == "constant_alpha":
        return np.full(n, 0.03)
    elif kind == "sparse_alpha":
        score = np.where(rng.random(n) < 0.1, score, 0.0)
    elif kind == "two_valued_alpha":
        return np.where(score > 0, 0.02, -0.02)
    alpha = float(d.log(0.005, 0.1)) * np.sqrt(model.specific_variance * 252 / 20) * score
    if d.one(0.04, "tiny alpha"):
        alpha = alpha * 1e-7
    if d.one(0.04, "huge alpha"):
        alpha = alpha * 1e4
    return np.asarray(alpha)


def _planted(d: _Draw, lower: np.ndarray, upper: np.ndarray) -> np.ndarray:
    """Return the empty book, or where that is not allowed or not wanted another within the bounds."""
    book = np.clip(0.0, lower, upper)
    if d.one(0.3, "limits away from zero"):
        share = d.rng.random(len(lower))
        book = np.where(d.rng.random(len(lower)) < 0.5, lower + share * (upper - lower), book)
    return np.asarray(book)


def _limits(d: _Draw, model: FactorModel, planted: np.ndarray, families: tuple[int, int, int]) -> Limits:
    """Return named rows around the planted book, with every kind of redundancy."""
    rng, (countries, sectors, styles) = d.rng, families
    n, grouped = len(planted), countries + sectors
    base = groups(rng, n, countries), groups(rng, n, sectors)
    same = d.one(0.6, "rows are factors") and len(model.factors) >= 1 + grouped + styles
    family = model.exposures[:, 1 : 1 + grouped] if same else np.hstack(base)
    style = model.exposures[:, 1 + grouped : 1 + grouped + styles] if same else rng.standard_normal((n, styles))
    columns = [np.ones((n, 1)), family, style, model.beta(np.full(n, 1 / n))[:, None]]
    L = np.hstack([block for block in columns if d.rng.random() < 0.85] or columns[:1])
    if d.one(0.12, "repeated row"):
        L = np.hstack([L, L[:, rng.integers(L.shape[1], size=1)]])
    if d.one(0.12, "dependent row"):
        L = np.hstack([L, (L @ rng.standard_normal(L.shape[1]))[:, None]])
    if d.one(0.08, "empty row"):
        L = np.hstack([L, np.zeros((n, 1))])
    if d.one(0.1, "ill-scaled L"):
        L = L * d.log(1e-4, 1e4, L.shape[1])
    q = L.shape[1]
    size = np.abs(L).max(axis=0) * 0.02
    width = rng.uniform(0.0, 2.0, q) * size * (0.0 if d.one(0.15, "equalities only") else 1.0)
    width = np.where(rng.random(q) < 0.3, 0.0, width)
    below, above = width * rng.uniform(0.1, 1.0, q), width * rng.uniform(0.1, 1.0, q)
    if d.one(0.15, "one-sided rows"):
        side = rng.random(q)
        below, above = np.where(side < 0.25, np.inf, below), np.where(side > 0.8, np.inf, above)
    use = L.T @ planted
    return Limits([f"l{j}" for j in range(q)], L, use - below, use + above)


def _costs(d: _Draw, n: int) -> TradeCosts | None:
    rng = d.rng
    kind = d.kind(no_costs=5, linear_costs=2, impact=2, wild_impact=1, borrow_only=0.5)
    if kind == "no_costs":
        return None
    linear = rng.uniform(0.0, 0.0015, n) * (kind != "borrow_only")
    impact = np.zeros(n)
    if kind == "impact":
        impact = d.log(0.005, 0.1, n)
    elif kind == "wild_impact":
        impact = d.log(1e-6, 10.0, n) * (rng.random(n) < 0.9)
    borrow = rng.uniform(0.0, 0.01, n) * (rng.random(n) < 0.5) if rng.random() < 0.5 or kind == "borrow_only" else None
    return TradeCosts(linear, impact, borrow, annualisation=12.6)


def _holdings(d: _Draw, lower: np.ndarray, upper: np.ndarray) -> np.ndarray:
    """Return a book to start from, on most draws empty."""
    rng, n = d.rng, len(lower)
    if not d.one(0.4, "holdings"):
        return np.zeros(n)
    beyond = 0.3 if d.one(0.3, "holdings beyond bounds") else 0.0
    share = rng.uniform(-beyond, 1.0 + beyond, n)
    return np.where(rng.random(n) < 0.7, lower + share * (upper - lower), 0.0)


def draw(seed: int, n: int | None = None) -> Case:
    """Return the problem of a seed; `n` names, or few."""
    d = _Draw(seed)
    rng = d.rng
    sizes = [1, 2, 3, 5, 8, 12, 20, 30, 45, 60, 90, 130, 200, 300]
    few = int(rng.choice(sizes))
    n = few if n is None else n
    if d.one(0.12, "vertex-like"):
        return _vertex(d, seed, max(n, 40))
    families = (int(rng.integers(1, 9)), int(rng.integers(1, 9)), int(rng.integers(0, 9)))
    if n >= 1000:
        families = (15, 11, int(rng.choice([22, 60])))
    model = _model(d, n, families)
    lower, upper = _bounds(d, n)
    planted = _planted(d, lower, upper)
    holdings = _holdings(d, lower, upper)
    turnover = None
    if d.one(0.2, "turnover limit"):
        turnover = float(np.abs(planted - holdings).sum()) / 2 * float(rng.choice([1.02, 1.2, 2.0])) + 0.001
        if d.one(0.15, "no turnover"):
            planted, turnover = np.clip(holdings, lower, upper), 0.0
            holdings = planted
    limits = _limits(d, model, planted, families)
    gross = float(np.abs(planted).sum()) * float(rng.choice([1.02, 1.3, 3.0])) + float(d.log(0.01, 10.0))
    if d.one(0.05, "tiny gross"):
        gross = max(float(np.abs(planted).sum()) * 1.02, 1e-4)
    volatility = None
    if d.one(0.5, "volatility limit"):
        volatility = model.volatility(planted) * float(rng.choice([1.02, 1.3, 3.0])) + float(d.log(0.002, 0.2))
    problem = Problem(
        _alpha(d, model),
        model,
        limits,
        (lower, upper),
        gross,
        volatility,
        float(d.log(0.05, 200.0)),
        holdings=holdings,
        costs=_costs(d, n),
        turnover_limit=turnover,
    )
    return Case(seed, tuple(d.traits), problem, planted)


def _vertex(d: _Draw, seed: int, n: int) -> Case:
    """Return a European type of book: many countries and sectors held at zero, caps and gross binding, volatility slack."""
    rng = d.rng
    families = (int(rng.integers(3, 17)), int(rng.integers(3, 12)), int(rng.integers(0, 6)))
    X = np.hstack([groups(rng, n, families[0]), groups(rng, n, families[1]), rng.standard_normal((n, families[2]))])
    k = X.shape[1]
    root = rng.standard_normal((k, k))
    F = (root @ root.T / k + np.eye(k)) * np.outer(*[rng.uniform(0.02, 0.1, k)] * 2)
    specific = rng.lognormal(np.log(0.25), 0.4, n) ** 2
    model = FactorModel([f"A{i}" for i in range(n)], [f"f{j}" for j in range(k)], X, F, specific)
    L = np.hstack([np.ones((n, 1)), X])
    width = float(rng.choice([0.0, 0.0, 0.0123])) * np.ones(k + 1)
    width[0] = 0.0
    risk_aversion = float(d.log(0.5, 20.0))
    cap = float(rng.choice([0.018, 6 / n]))
    alpha = float(rng.uniform(0.02, 0.04)) * np.sqrt(specific * 252 / 20) * rng.standard_normal(n)
    limits = Limits([f"l{j}" for j in range(k + 1)], L, -width, width)
    gross = float(rng.choice([0.3, 0.6])) * cap * n
    return Case(seed, tuple(d.traits), Problem(alpha, model, limits, cap, gross, 0.5, risk_aversion), np.zeros(n))


def violation(problem: Problem, w: np.ndarray) -> float:
    """Return the largest violation of a limit, written out from the problem's definition; of a row in its largest exposure."""
    limits, V = problem.limits, problem.model
    y, x = limits.exposures.T @ w, V.exposures.T @ w
    largest = np.abs(limits.exposures).max(axis=0)
    unit = np.where(largest > 0, largest, 1.0)
    worst = [
        np.max((limits.lower - y) / unit),
        np.max((y - limits.upper) / unit),
        np.max(problem.lower - w),
        np.max(w - problem.upper),
        np.sum(np.abs(w)) - problem.gross_limit,
    ]
    if problem.volatility_limit is not None:
        risk = np.sqrt(x @ V.factor_covariance @ x + V.specific_variance @ (w * w))
        worst.append(risk - problem.volatility_limit)
    if problem.turnover_limit is not None:
        worst.append(np.sum(np.abs(w - problem.holdings)) / 2 - problem.turnover_limit)
    return float(max(0.0, *worst))


def size(problem: Problem, w: np.ndarray) -> float:
    """Return the size of the objective's terms."""
    traded = 0.0
    if problem.costs is not None:
        traded = problem.costs.annualisation * float(problem.costs.charge(w - problem.holdings).sum())
    return float(np.abs(problem.alpha) @ np.abs(w)) + problem.risk_aversion / 2 * problem.model.variance(w) + traded


def bought(problem: Problem, w: np.ndarray, prices: Multipliers) -> float:
    """Return what a book may gain by lying outside the limits: the optimum is concave in them, with the prices as slopes."""
    y, limits = problem.limits.exposures.T @ w, problem.limits
    gain = float(np.abs(prices.limits) @ np.maximum(np.maximum(limits.lower - y, y - limits.upper), 0.0))
    gain += prices.gross * max(float(np.abs(w).sum()) - problem.gross_limit, 0.0)
    if problem.volatility_limit is not None:
        gain += prices.volatility * max(problem.model.variance(w) - problem.volatility_limit**2, 0.0) / 2
    if problem.turnover_limit is not None:
        gain += prices.turnover * max(float(np.abs(w - problem.holdings).sum()) / 2 - problem.turnover_limit, 0.0)
    slopes = np.abs(best_response(problem, factor_prices(problem, w, prices), prices).bound_prices)
    return gain + float(slopes @ np.maximum(np.maximum(problem.lower - w, w - problem.upper), 0.0))


def judge(problem: Problem, solution: Solution, seconds: float) -> Verdict:
    """Return the evidence about a solution, Clarabel's included where Clarabel reaches its tolerance."""
    w, proof = solution.weights, solution.certificate
    answer = interior_point.solve(problem, 1e-10)
    theirs = answer.weights
    compared, terms = answer.ending is interior_point.Ending.SOLVED, size(problem, w)
    # Tolerances are absolute, in limits or in root mean squares of alpha: books of less than 1 % of the fund cannot be told apart
    # to 1e-7 of their size.
    least = 0.01 * float(np.sqrt(np.mean(problem.alpha**2))) or 1.0
    short = 0.0
    if compared:
        scale = max(terms, size(problem, theirs)) + least
        gain = bought(problem, theirs, solution.multipliers) if solution.multipliers else 0.0
        compared = gain <= NO_WORSE * scale
        short = (problem.objective(theirs) - gain - proof.objective) / scale if compared else 0.0
    rows = max(1.0, float(np.abs(problem.limits.exposures).max()))
    return Verdict(
        certificate=proof.worst,
        relative=max(
            proof.primal_residual / rows,
            proof.dual_residual / (1.0 + float(np.abs(problem.alpha).max())),
            proof.complementarity / (1.0 + terms + least),
            abs(proof.gap) / (1.0 + terms + least),
        ),
        violation=violation(problem, w),
        gap=abs(proof.gap) / (terms + least),
        short=short,
        method=solution.method,
        steps=solution.iterations,
        seconds=seconds,
        compared=compared,
    )


def solve(case: Case) -> Verdict:
    """Return the verdict on one case."""
    began = time.perf_counter()
    solution = optimize(case.problem)
    return judge(case.problem, solution, time.perf_counter() - began)


def report(found: list[tuple[Case, Verdict]], failed: list[tuple[Case, str]]) -> bool:
    """Print the figures; return whether all thresholds are met."""
    verdicts = [verdict for _, verdict in found]
    fallbacks = [(case, v) for case, v in found if v.method != "structured"]
    for case, v in found:
        if not v.sound:
            print(f"MISSED  {case}\n        {v}")
    for case, v in fallbacks:
        print(f"FALLBACK  {case}\n        {v}")
    for case, why in failed:
        print(f"FAILED  {case}\n        {why}")
    print(f"{len(found) + len(failed)} problems; failed {len(failed)}, fallbacks {len(fallbacks)}")
    print(
        f"compared with Clarabel {sum(v.compared for v in verdicts)}; on the others it stopped short, or outside the limits"
    )
    for name in ("certificate", "relative", "violation", "gap", "short"):
        worst = max(found, key=lambda pair: getattr(pair[1], name))
        print(f"  worst {name:<12}{getattr(worst[1], name):9.1e}   {worst[0]}")
    steps = np.percentile([v.steps for v in verdicts], [50, 90, 99, 100])
    print(f"  steps: median {steps[0]:.0f}, 90 % {steps[1]:.0f}, 99 % {steps[2]:.0f}, most {steps[3]:.0f}")
    milliseconds = np.percentile([v.seconds * 1e3 for v in verdicts], [50, 99, 100])
    print("  milliseconds: median {:.1f}, 99 % {:.1f}, most {:.0f}".format(*milliseconds))
    many = len(fallbacks) > FALLBACKS * (len(found) + len(failed))
    return not failed and not many and all(v.sound for v in verdicts)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--large", type=int, default=6, help="problems of 1,000 to 3,000 names beside these")
    given = parser.parse_args()
    warnings.simplefilter("error")
    wanted: list[tuple[int, int | None]] = [(given.first + i, None) for i in range(given.count)]
    wanted += [(given.first + given.count + i, (1000, 2000, 3000)[i % 3]) for i in range(given.large)]
    found, failed = [], []
    with threadpool_limits(1):
        for seed, n in wanted:
            case = draw(seed, n)
            try:
                found.append((case, solve(case)))
            except (SolverFailure, ArithmeticError, RuntimeWarning, ValueError) as error:
                failed.append((case, f"{type(error).__name__}: {error}"))
    return 0 if report(found, failed) else 1


if __name__ == "__main__":
    sys.exit(main())
