"""Planted conflicts of many kinds, and an own dense statement of when named limits hold together."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Sequence

import cvxpy as cp
import numpy as np
from problems import random_book, random_model
from scipy.optimize import linprog

from engine import Limits, Problem


def every_name(problem: Problem) -> set[str]:
    """Return the names of all limits that a problem has."""
    forced = (problem.lower > 0) | (problem.upper < 0)
    names = {*problem.limits.names, "gross", "position"}
    names |= {f"position:{asset}" for asset, out in zip(problem.model.assets, forced, strict=True) if out}
    names |= {"turnover"} if problem.turnover_limit is not None else set()
    return names | ({"volatility"} if problem.volatility_limit is not None else set())


def owner_of(problem: Problem) -> list[str]:
    """Return, for each name, the limit that its bounds belong to; empty for one closed at 0."""
    return [
        "" if lo == up == 0 else f"position:{asset}" if lo > 0 or up < 0 else "position"
        for asset, lo, up in zip(problem.model.assets, problem.lower, problem.upper, strict=True)
    ]


def least(problem: Problem, hard: set[str], elastic: set[str], budgets: Sequence[tuple[set[str], float]] = ()) -> float:
    """Least sum of widenings of `elastic` with `hard` kept and the rest left out; inf if there is no portfolio.

    `budgets` names limits that may be widened by at most so much in sum. With volatility by cvxpy, else by a linear program
    in [w, |w|, |w - h|, x].
    """
    order = sorted(elastic.union(*(names for names, _ in budgets)))
    n, m = len(problem.alpha), len(order)
    width = 3 * n + m
    A: list[np.ndarray] = []
    b: list[float] = []

    def add(row: np.ndarray, bound: float, name: str) -> None:
        """Keep row [w, |w|, |w - h|] <= bound where its limit counts."""
        if not np.isfinite(bound) or not (name == "" or name in hard or name in order):
            return
        full = np.zeros(width)
        full[: 3 * n] = row
        if name in order:
            full[3 * n + order.index(name)] = -1.0
        A.append(full)
        b.append(bound)

    eye, none = np.eye(n), np.zeros((n, n))
    for i in range(n):
        for sign in (1.0, -1.0):
            add(np.concatenate([sign * eye[i], -eye[i], none[i]]), 0.0, "")
            add(np.concatenate([sign * eye[i], none[i], -eye[i]]), sign * problem.holdings[i], "")
    zero = np.zeros(n)
    for name, column, lo, up in zip(
        problem.limits.names, problem.limits.exposures.T, problem.limits.lower, problem.limits.upper, strict=True
    ):
        add(np.concatenate([column, zero, zero]), up, name)
        add(np.concatenate([-column, zero, zero]), -lo, name)
    for i, name in enumerate(owner_of(problem)):
        add(np.concatenate([eye[i], zero, zero]), problem.upper[i], name)
        add(np.concatenate([-eye[i], zero, zero]), -problem.lower[i], name)
    add(np.concatenate([zero, np.ones(n), zero]), problem.gross_limit, "gross")
    if problem.turnover_limit is not None:
        add(np.concatenate([zero, zero, np.full(n, 0.5)]), problem.turnover_limit, "turnover")
    for names, budget in budgets:
        A.append(np.concatenate([np.zeros(3 * n), [float(name in names) for name in order]]))
        b.append(budget)
    cost = np.concatenate([np.zeros(3 * n), [float(name in elastic) for name in order]])
    low = np.concatenate([np.full(3 * n, -np.inf), np.zeros(m)])
    if "volatility" in hard | set(order):
        return _least_with_volatility(problem, cost, np.array(A), np.array(b), order)
    tight = {"primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10}
    bounds = np.column_stack([low, np.full(width, np.inf)])
    result = linprog(cost, A_ub=np.array(A), b_ub=np.array(b), bounds=bounds, method="highs-ds", options=tight)
    assert result.status in (0, 2), result.message
    return float(result.fun) if result.status == 0 else float("inf")


def _least_with_volatility(problem: Problem, cost: np.ndarray, A: np.ndarray, b: np.ndarray, order: list[str]) -> float:
    assert problem.volatility_limit is not None
    n = len(problem.alpha)
    z = cp.Variable(len(cost))
    X, F, d = problem.model.exposures, problem.model.factor_covariance, problem.model.specific_variance
    root = np.linalg.cholesky(X @ F @ X.T + np.diag(d)).T
    limit = problem.volatility_limit + (z[3 * n + order.index("volatility")] if "volatility" in order else 0.0)
    goal = cp.Problem(cp.Minimize(cost @ z), [A @ z <= b, z[3 * n :] >= 0, cp.norm(root @ z[:n]) <= limit])
    for tolerance in (1e-10, 1e-9, 1e-8):
        accuracy = dict.fromkeys(("tol_gap_abs", "tol_gap_rel", "tol_feas"), tolerance)
        with warnings.catch_warnings(), contextlib.suppress(cp.SolverError):
            # Where it does not get there it says so, and the next tolerance is tried.
            warnings.simplefilter("ignore", UserWarning)
            goal.solve(solver=cp.CLARABEL, **accuracy)
        if goal.status in (cp.OPTIMAL, cp.INFEASIBLE):
            break
    assert goal.status in (cp.OPTIMAL, cp.OPTIMAL_INACCURATE, cp.INFEASIBLE, cp.INFEASIBLE_INACCURATE), goal.status
    return float(goal.value)


def holds(problem: Problem, names: set[str], tolerance: float = 1e-8) -> bool:
    """Return whether the limits in `names` can hold together."""
    rows = {name for name in names if not name.startswith("position") and name != "volatility"}
    if least(problem, names - rows - {"volatility"}, rows) > tolerance:
        return False
    return "volatility" not in names or least(problem, names - {"volatility"}, {"volatility"}) <= tolerance


class Parts:
    """Arguments of a feasible problem, changed by a plant before it is built."""

    def __init__(self, rng: np.random.Generator, volatility: float | None = None) -> None:
        self.rng, self.n = rng, int(rng.integers(30, 50))
        self.model = random_model(rng, self.n, 2, 3, 2)
        self.names = ["net", *self.model.factors[1:6], "beta", *self.model.factors[6:]]
        X = self.model.exposures
        beta = self.model.beta(rng.dirichlet(np.ones(self.n)))
        self.L = np.column_stack([np.ones(self.n), X[:, 1:6], beta, X[:, 6:]])
        band = float(rng.choice([0.0, 0.01]))
        self.high = np.array([0.0, *[band] * 5, 0.02, 0.1, 0.1])
        self.low = -self.high
        self.upper = rng.uniform(0.03, 0.06, self.n)
        self.lower = -self.upper
        self.holdings = np.zeros(self.n)
        self.gross, self.volatility, self.turnover = 1.5, volatility, None
        self.tier: list[int] | None = None
        self.expected: set[str] = set()

    def column(self, name: str) -> np.ndarray:
        return self.L[:, self.names.index(name)]

    def members(self, name: str) -> np.ndarray:
        return np.flatnonzero(self.column(name))

    def rows(self, *rows: tuple[str, np.ndarray, float, float]) -> None:
        """Replace all rows."""
        self.names = [row[0] for row in rows]
        self.L = np.column_stack([row[1] for row in rows])
        self.low, self.high = np.array([row[2] for row in rows]), np.array([row[3] for row in rows])

    def only(self, *names: str) -> None:
        """Leave other rows so wide that they cannot bind."""
        for name in set(self.names) - set(names):
            self.bound(name, -99.0, 99.0)

    def bound(self, name: str, low: float, high: float) -> None:
        j = self.names.index(name)
        self.low[j], self.high[j] = low, high

    def freeze(self, names: np.ndarray | list[int], weight: float | np.ndarray) -> None:
        self.lower[names] = self.upper[names] = self.holdings[names] = weight

    def problem(self) -> Problem:
        alpha = 0.1 * np.sqrt(self.model.specific_variance) * self.rng.standard_normal(self.n)
        limits = Limits(self.names, self.L, self.low, self.high, self.tier)
        return Problem(
            alpha,
            self.model,
            limits,
            (self.lower, self.upper),
            self.gross,
            self.volatility,
            10.0,
            self.holdings,
            None,
            self.turnover,
        )


def turnover_too_small(parts: Parts) -> None:
    parts.holdings = np.abs(random_book(parts.rng, parts.lower, parts.upper))
    parts.turnover = float(parts.rng.uniform(0.0, 0.1))
    parts.expected = {"turnover"}


def book_outside_a_style(parts: Parts) -> None:
    parts.holdings = 0.04 * np.sign(parts.L[:, -1])
    parts.gross, parts.turnover = 9.0, 0.02
    parts.expected = {"turnover"}


def forced_exits_beyond_turnover(parts: Parts) -> None:
    # Names that left the universe must be sold, and that alone is more than may be traded.
    gone = parts.rng.choice(parts.n, 6, replace=False)
    parts.lower[gone] = parts.upper[gone] = 0.0
    parts.holdings[gone] = 0.05
    parts.turnover = 0.1
    parts.expected = {"turnover"}


def frozen_country_not_offset(parts: Parts) -> None:
    # All names of one country are frozen long: nothing there can offset them.
    parts.only("country:0")
    parts.freeze(parts.members("country:0"), 0.01)
    parts.expected = {"country:0"}


def frozen_beyond_the_caps_of_its_sector(parts: Parts) -> None:
    parts.only("net", "sector:1")
    member = parts.members("sector:1")
    parts.freeze(member[:1], 0.06 * len(member))
    parts.gross, parts.expected = 9.0, {f"position:{parts.model.assets[member[0]]}", "sector:1"}


def frozen_against_one_side(parts: Parts) -> None:
    # Nobody in the sector may be short, two are frozen long, and only the sector's upper side is limited.
    member = parts.members("sector:1")
    parts.rows(("net", np.ones(parts.n), -0.2, 0.2), ("sector:1", parts.column("sector:1"), -np.inf, 0.02))
    parts.lower[member] = 0.0
    parts.freeze(member[:2], 0.05)
    parts.expected = {"sector:1"}


def frozen_outside_a_style(parts: Parts) -> None:
    style = parts.L[:, -1]
    steep = np.argsort(style)[-4:]
    parts.upper[:], parts.lower[:] = 0.001, -0.001
    parts.rows(("style:1", style, -0.05, 0.05))
    parts.freeze(steep, 0.06)
    parts.gross, parts.expected = 9.0, {"style:1"}


def volatility_below_frozen(parts: Parts) -> None:
    parts.freeze([0, 1, 2], 0.2)
    parts.rows(("net", np.ones(parts.n), -1.0, 1.0))
    parts.volatility, parts.expected = 0.03, {"volatility"}


def style_minimum_against_volatility(parts: Parts) -> None:
    parts.bound(parts.names[-1], 0.6, np.inf)
    parts.upper[:], parts.lower[:] = 0.3, -0.3
    parts.gross, parts.volatility, parts.expected = 9.0, 0.01, {"volatility", parts.names[-1]}


def gross_below_frozen(parts: Parts) -> None:
    parts.freeze([3, 4, 5, 6], float(parts.rng.choice([-0.1, 0.1])))
    parts.rows(("net", np.ones(parts.n), -1.0, 1.0))
    parts.gross, parts.expected = 0.25, {"gross"}


def gross_below_a_minimum(parts: Parts) -> None:
    parts.rows(("net", np.ones(parts.n), 0.5, np.inf))
    parts.gross, parts.expected = 0.3, {"gross", "net"}


def gross_below_a_hedged_group(parts: Parts) -> None:
    # A group of 0.3 long and its hedge need a gross of 0.6.
    group = (np.arange(parts.n) < 20).astype(float)
    parts.rows(("net", np.ones(parts.n), 0.0, 0.0), ("group", group, 0.3, np.inf))
    parts.gross, parts.expected = 0.5, {"gross", "net", "group"}


def net_beyond_the_caps(parts: Parts) -> None:
    half = (np.arange(parts.n) < 15).astype(float)
    parts.rows(("net", np.ones(parts.n), 4.0, 5.0), ("half", half, -0.1, 0.1))
    parts.gross, parts.expected = 9.0, {"net", "position"}


def group_minimum_against_caps(parts: Parts) -> None:
    member = parts.column("sector:0")
    parts.rows(("net", np.ones(parts.n), -9.0, 9.0), ("sector:0", member, 0.07 * member.sum(), np.inf))
    parts.gross, parts.expected = 9.0, {"sector:0", "position"}


def long_only_against_a_short_limit(parts: Parts) -> None:
    parts.lower = np.zeros(parts.n)
    parts.rows(("net", np.ones(parts.n), -1.0, 1.0), ("short", np.ones(parts.n), -np.inf, -0.1))
    parts.expected = {"short", "position"}


def countries_against_net(parts: Parts) -> None:
    for name in parts.names[1:3]:
        parts.bound(name, 0.05, 0.2)
    parts.expected = {"net", *parts.names[1:3]}


def duplicates_that_disagree(parts: Parts) -> None:
    beta = parts.column("beta")
    parts.rows(("one", beta, 0.05, 0.2), ("other", beta, -0.2, 0.01), ("net", np.ones(parts.n), -0.1, 0.1))
    parts.expected = {"one", "other"}


def rows_of_other_scales_that_disagree(parts: Parts) -> None:
    beta = parts.column("beta")
    parts.rows(("one", 1e5 * beta, 5e3, 2e4), ("other", -1e-4 * beta, -1e-6, np.inf), ("net", beta, -9.0, 9.0))
    parts.expected = {"one", "other"}


def style_against_closed_names(parts: Parts) -> None:
    # Only closed names have the exposure that is asked for.
    closed = np.arange(8)
    style = np.where(np.arange(parts.n) < 8, parts.L[:, -1], 0.0)
    parts.rows(("net", np.ones(parts.n), 0.0, 0.0), ("style:1", style, 0.02, 0.1))
    parts.lower[closed] = parts.upper[closed] = 0.0
    parts.expected = {"style:1"}


def row_without_exposures(parts: Parts) -> None:
    parts.rows(("net", np.ones(parts.n), 0.0, 0.0), ("sector:Nowhere", np.zeros(parts.n), -np.inf, -0.1))
    parts.expected = {"sector:Nowhere"}


PLANTS: list[Callable[[Parts], None]] = [
    turnover_too_small,
    book_outside_a_style,
    forced_exits_beyond_turnover,
    frozen_country_not_offset,
    frozen_beyond_the_caps_of_its_sector,
    frozen_against_one_side,
    frozen_outside_a_style,
    volatility_below_frozen,
    style_minimum_against_volatility,
    gross_below_frozen,
    gross_below_a_minimum,
    gross_below_a_hedged_group,
    net_beyond_the_caps,
    group_minimum_against_caps,
    long_only_against_a_short_limit,
    countries_against_net,
    duplicates_that_disagree,
    rows_of_other_scales_that_disagree,
    style_against_closed_names,
    row_without_exposures,
]
