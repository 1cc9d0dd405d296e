"""Portfolio problems of the shape of a market-neutral equity fund, by seed: what the solvers are timed on.

A market of N names in countries and sectors of unequal size with fat-tailed styles; a meta model of sixty staked models;
limits on net, countries, sectors, beta and styles. Each regime is named for the limit that decides its book, and `check`
refuses a solution in which it does not.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from engine import Limits, Problem
from engine.certificate import binds
from engine.solution import Multipliers
from risk import FactorModel

# Countries, sectors and styles beside the market factor, by K.
GROUPS = {50: (16, 11, 22), 100: (30, 25, 44)}
MODELS = 60
COMMON = 0.115
"""Correlation of two models' predictions: meta models of two halves of the stakes then correlate by 0.87 or so."""


@dataclass(frozen=True, eq=False)
class Book:
    """One problem and the same with the signal of another half of the stakes, whose solution a warm start begins from."""

    regime: str
    problem: Problem
    neighbour: Problem

    @property
    def name(self) -> str:
        """Return regime and size."""
        n, k = self.problem.model.exposures.shape
        return f"{self.regime}, N={n}, K={k}"


@dataclass(frozen=True)
class Regime:
    """Limits of one kind of book, which bind, and which must not."""

    cap: float
    gross: float
    volatility: float
    risk_aversion: float
    binding: tuple[str, ...]
    slack: tuple[str, ...] = ()
    shrink: float = 0.0
    """Caps shrink with N to this power, and volatility, which diversifies, with its root; stated for 500 names."""


REGIMES = {
    "volatility": Regime(0.05, 9.0, 0.08, 15.0, ("volatility",), ("gross",), shrink=1.0),
    "gross": Regime(0.05, 3.0, 0.12, 15.0, ("gross",), ("volatility",)),
    "caps": Regime(0.01202, 6.0, 0.20, 10.0, ("position",), ("gross", "volatility"), shrink=1.0),
    **{
        f"vertex, g0={g0:g}": Regime(0.018, 4.0, 0.20, g0, ("gross", "position"), ("volatility",), shrink=0.5)
        for g0 in (0.5, 2.0, 20.0)
    },
}


def groups(rng: np.random.Generator, n: int, count: int) -> np.ndarray:
    """Return (n, count) dummies of unequal groups, none of them empty."""
    member = np.concatenate([np.arange(count), rng.choice(count, n - count, p=rng.dirichlet(np.full(count, 2.0)))])
    return np.eye(count)[rng.permutation(member)]


def market(rng: np.random.Generator, n: int, k: int) -> FactorModel:
    """Return a model of one market, the countries, sectors and styles of `k`, and lognormal specific risk about 30 %."""
    countries, sectors, styles = GROUPS[k]
    style = np.clip(rng.standard_t(5, (n, styles)) / np.sqrt(5 / 3), -4.0, 4.0)
    X = np.hstack([np.ones((n, 1)), groups(rng, n, countries), groups(rng, n, sectors), style])
    risk = np.concatenate([[0.16], rng.uniform(0.04, 0.12, countries + sectors), rng.uniform(0.01, 0.06, styles)])
    root = rng.standard_normal((k, k))
    correlation = 0.5 * root @ root.T / k + 0.5 * np.eye(k)
    names = ["market"]
    for kind, count in (("country", countries), ("sector", sectors), ("style", styles)):
        names += [f"{kind}:{j}" for j in range(count)]
    specific = rng.lognormal(np.log(0.30), 0.4, n) ** 2
    return FactorModel([f"A{i:05d}" for i in range(n)], names, X, correlation * np.outer(risk, risk), specific)


def neutrality(rng: np.random.Generator, model: FactorModel) -> Limits:
    """Return net 0, countries and sectors within 1 %, beta within 1 % and styles within 5 % of a standard deviation."""
    n, kept = len(model.assets), np.arange(1, len(model.factors))
    beta = model.beta(rng.dirichlet(np.full(n, 0.5)))
    names = ["net", "beta", *model.factors[1:]]
    width = np.array([0.0, 0.01, *(0.05 if name.startswith("style") else 0.01 for name in model.factors[1:])])
    return Limits(names, np.column_stack([np.ones(n), beta, model.exposures[:, kept]]), -width, width)


def signals(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the meta models of two random halves of the same stakes, each of mean 0 and standard deviation 1."""
    common, own = rng.standard_normal((n, 1)), rng.standard_normal((n, MODELS))
    predictions = np.sqrt(COMMON) * common + np.sqrt(1 - COMMON) * own
    stakes = rng.lognormal(0.0, 0.6, MODELS)
    drawn = np.arange(MODELS) * 4 // MODELS  # quarters of the models: 0 and 1 make one half, 1 and 2 the other
    halves = []
    for kept in ((0, 1), (1, 2)):
        x = predictions @ (stakes * np.isin(drawn, kept))
        halves.append((x - x.mean()) / x.std())
    return halves[0], halves[1]


def book(regime: str, n: int, k: int, seed: int = 0) -> Book:
    """Return a book; alpha by Grinold's rule with an information coefficient of 0.03 over 20 days."""
    rng = np.random.default_rng([seed, n, k])
    terms, model = REGIMES[regime], market(rng, n, k)
    small = (500 / n) ** terms.shrink
    volatility = float(terms.volatility * np.sqrt(small))
    limits = neutrality(rng, model)
    one, other = (0.03 * np.sqrt(model.specific_variance * 252 / 20) * x for x in signals(rng, n))
    problem = Problem(one, model, limits, terms.cap * small, terms.gross, volatility, terms.risk_aversion)
    return Book(regime, problem, problem.replace(alpha=other))


def check(made: Book, weights: np.ndarray, multipliers: Multipliers) -> None:
    """Refuse a solution in which the limit that the regime is named for does not bind, or one that should not does.

    Raises
    ------
    AssertionError
        Named for the limit.
    """
    problem, terms = made.problem, REGIMES[made.regime]
    held = binds(problem, weights, multipliers)
    size = np.abs(weights)
    at_cap = float((size >= problem.upper - 1e-9).sum() / max((size > 1e-9).sum(), 1))
    held["position"] = at_cap > 0.05
    for name in terms.binding:
        assert held[name], (
            f"{made.name}: {name} should bind and does not ({at_cap:.1%} of the names held are at their cap)"
        )
    for name in terms.slack:
        assert not held[name], f"{made.name}: {name} should be slack and binds"
