"""Random portfolio problems of the shape a fund meets: countries, sectors, styles, fat-tailed risk, costs, a starting book."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from engine.costs import TradeCosts
from engine.problem import Limits, Problem
from risk import FactorModel


def labels(rng: np.random.Generator, n: int, count: int) -> np.ndarray:
    """Return (n, count) dummies with unequal groups, every group met at least once where n allows."""
    shares = rng.dirichlet(np.full(count, 1.5))
    member = np.concatenate([np.arange(count), rng.choice(count, n, p=shares)])[:n]
    return np.eye(count)[rng.permutation(member)]


def random_model(
    rng: np.random.Generator, n: int, countries: int, sectors: int, styles: int, rank: int | None = None
) -> FactorModel:
    """Return a model of 1 + countries + sectors + styles factors; `rank` makes the factor covariance singular."""
    style = rng.standard_t(5, (n, styles)) / np.sqrt(5 / 3)
    X = np.hstack([np.ones((n, 1)), labels(rng, n, countries), labels(rng, n, sectors), style])
    k = X.shape[1]
    volatility = np.concatenate([[0.16], rng.uniform(0.04, 0.12, countries + sectors), rng.uniform(0.01, 0.06, styles)])
    root = rng.standard_normal((k, k if rank is None else rank))
    correlation = root @ root.T / root.shape[1]
    if rank is None:
        correlation = 0.7 * correlation + 0.3 * np.eye(k)
    names = ["market"]
    names += [f"country:{j}" for j in range(countries)] + [f"sector:{j}" for j in range(sectors)]
    names += [f"style:{j}" for j in range(styles)]
    specific = rng.lognormal(np.log(0.30), 0.4, n) ** 2
    assets = [f"A{i:04d}" for i in range(n)]
    return FactorModel(assets, names, X, correlation * np.outer(volatility, volatility), specific)


def random_limits(rng: np.random.Generator, model: FactorModel, band: float = 0.02, style: float = 0.1) -> Limits:
    """Return net = 0, bands on countries and sectors (0 makes them equalities), beta within 0.01 and styles."""
    X, names = model.exposures, model.factors
    groups = [j for j, name in enumerate(names) if name.startswith(("country:", "sector:"))]
    styles = [j for j, name in enumerate(names) if name.startswith("style:")]
    n = len(model.assets)
    beta = model.beta(rng.dirichlet(np.ones(n)))
    L = np.column_stack([np.ones(n), X[:, groups], beta, X[:, styles]])
    width = np.concatenate([[0.0], np.full(len(groups), band), [0.01], np.full(len(styles), style)])
    return Limits(
        ["net", *(names[j] for j in groups), "beta", *(names[j] for j in styles)],
        L,
        -width,
        width,
        [0] + [1] * (len(width) - 1),
    )


def random_costs(rng: np.random.Generator, n: int, *, impact: bool = True, annualisation: float = 12.6) -> TradeCosts:
    """Return costs of a few basis points, square-root impact and borrow fees."""
    coefficient = rng.lognormal(np.log(0.02), 0.6, n) if impact else np.zeros(n)
    return TradeCosts(
        linear=rng.uniform(0.0002, 0.0015, n),
        impact=coefficient,
        borrow=rng.uniform(0.0, 0.01, n),
        annualisation=annualisation,
    )


def random_book(rng: np.random.Generator, lower: np.ndarray, upper: np.ndarray, share: float = 0.6) -> np.ndarray:
    """Return a starting book within the bounds, 0 in the other names."""
    held = rng.random(len(lower)) < share
    return np.where(held, lower + rng.random(len(lower)) * (upper - lower), 0.0)


def random_problem(
    rng: np.random.Generator,
    n: int = 60,
    *,
    countries: int = 3,
    sectors: int = 4,
    styles: int = 3,
    rank: int | None = None,
    band: float = 0.02,
    style: float = 0.1,
    position_limit: float = 0.04,
    unequal: bool = False,
    gross_limit: float = 2.0,
    volatility_limit: float | None = 0.10,
    risk_aversion: float = 15.0,
    costs: str = "none",
    holdings: bool = False,
    turnover_limit: float | None = None,
    signal: float = 0.03,
) -> Problem:
    """Return a feasible problem; w = 0 meets every limit but turnover, and a turnover limit is set from the book.

    `costs` is ``none``, ``linear`` or ``impact``. `turnover_limit` is a multiple of what returning the book to zero takes.
    `unequal` draws bounds by name, some one-sided and some closed (lower = upper = 0). `signal` is the information
    coefficient in Grinold's rule over 20 days.
    """
    model = random_model(rng, n, countries, sectors, styles, rank)
    limits = random_limits(rng, model, band, style)
    upper = np.full(n, position_limit)
    lower = -upper
    if unequal:
        upper, lower = upper * rng.uniform(0.2, 1.5, n), lower * rng.uniform(0.2, 1.5, n)
        lower[rng.random(n) < 0.15] = 0.0
        closed = rng.random(n) < 0.1
        lower, upper = np.where(closed, 0.0, lower), np.where(closed, 0.0, upper)
    h = random_book(rng, lower, upper) if holdings else np.zeros(n)
    score = rng.standard_t(6, n)
    score = (score - score.mean()) / score.std()
    alpha = signal * np.sqrt(model.specific_variance) * np.sqrt(252 / 20) * score
    return Problem(
        alpha,
        model,
        limits,
        (lower, upper),
        gross_limit,
        volatility_limit,
        risk_aversion,
        holdings=h,
        costs=None if costs == "none" else random_costs(rng, n, impact=costs == "impact"),
        turnover_limit=None if turnover_limit is None else turnover_limit * max(np.abs(h).sum() / 2, 0.05),
    )


def with_limits(limits: Limits, changes: Sequence[tuple[str, float, float]]) -> Limits:
    """Return `limits` with some rows' bounds replaced."""
    lower, upper = limits.lower.copy(), limits.upper.copy()
    for name, lo, up in changes:
        j = limits.names.index(name)
        lower[j], upper[j] = lo, up
    return Limits(limits.names, limits.exposures, lower, upper, limits.tier)


REGIMES: dict[str, dict[str, Any]] = {
    "interior": {"gross_limit": 9.0, "position_limit": 9.0, "volatility_limit": None, "risk_aversion": 50.0},
    "volatility": {"gross_limit": 9.0, "position_limit": 0.5, "volatility_limit": 0.02, "risk_aversion": 1.0},
    "gross": {"gross_limit": 0.3, "position_limit": 0.1, "volatility_limit": None, "risk_aversion": 5.0},
    "gross and volatility": {"gross_limit": 0.4, "position_limit": 0.3, "volatility_limit": 0.03, "risk_aversion": 1.0},
    "position": {"gross_limit": 9.0, "position_limit": 0.02, "volatility_limit": None, "risk_aversion": 1.0},
    "linear costs": {"costs": "linear", "holdings": True, "signal": 0.1, "position_limit": 0.1},
    "impact": {"costs": "impact", "holdings": True, "signal": 0.1, "position_limit": 0.1},
    "impact from an empty book": {"costs": "impact", "signal": 0.1, "position_limit": 0.1},
    "turnover": {"holdings": True, "turnover_limit": 1.1, "position_limit": 0.1},
    "unequal bounds": {"unequal": True, "position_limit": 0.1},
    "singular factor covariance": {"rank": 1, "position_limit": 0.1, "volatility_limit": 0.03},
    "equalities only": {"band": 0.0, "position_limit": 0.2, "gross_limit": 1.0},
}
"""Arguments of `random_problem` under which each kind of limit or cost decides."""


def planned(regime: str, n: int, seed: int) -> Problem:
    """Return a problem of a named regime."""
    return random_problem(np.random.default_rng(seed), n, countries=2, sectors=2, styles=2, **REGIMES[regime])


def generic(regime: str, n: int, seed: int) -> Problem:
    """Return a problem of a named regime in which no bound is a sum of others: prices and active sets are unique.

    But for equalities: net is the sum of the countries and of the sectors.
    """
    rng = np.random.default_rng([seed, n])
    terms = {"band": 0.0217, "style": 0.0713, **REGIMES[regime]}
    terms["position_limit"] = 1.0137 * terms.get("position_limit", 0.04)
    problem = random_problem(rng, n, countries=3, sectors=4, styles=2, **terms)
    limits = problem.limits
    lower, upper = (side * rng.uniform(0.8, 1.2, len(side)) for side in (limits.lower, limits.upper))
    return problem.replace(limits=Limits(limits.names, limits.exposures, lower, upper, limits.tier))
