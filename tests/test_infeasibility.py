"""Planted conflicts: the set named is in conflict, is irreducible, and each cure is enough and the least."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import cvxpy as cp
import numpy as np
import pytest
from problems import random_book, random_costs, random_limits, random_model
from scipy.optimize import linprog

from engine import InfeasibleMandate, Limits, Problem, optimize
from engine.infeasibility import explain
from risk import FactorModel


def tightness(problem: Problem, names: set[str], widened: Mapping[str, float]) -> float:
    """Least t such that the limits in `names`, widened, hold up to t: an own, dense statement."""
    w, t = cp.Variable(len(problem.alpha)), cp.Variable()
    lower, upper, limits = problem.lower, problem.upper, problem.limits

    def room(labels: list[str]) -> np.ndarray:
        """What each named limit is widened by; infinite if it does not count."""
        return np.array([widened.get(label, 0.0) if label in names else np.inf for label in labels])

    owners = [
        f"position:{asset}" if lo > 0 or up < 0 else "position"
        for asset, lo, up in zip(problem.model.assets, lower, upper, strict=True)
    ]
    closed = (lower == 0) & (upper == 0)
    y, rows, caps = limits.exposures.T @ w, room(list(limits.names)), np.where(closed, 0.0, room(owners))
    give = cp.multiply(~closed, t)
    constraints = [t >= -1]
    for spare, limit in (
        (-y + t, limits.upper + rows),
        (y + t, -limits.lower + rows),
        (-w + give, upper + caps),
        (w + give, -lower + caps),
    ):
        counts = np.isfinite(limit)
        constraints.append(spare[counts] + limit[counts] >= 0)
    X, F = problem.model.exposures, problem.model.factor_covariance
    root = np.linalg.cholesky(X @ F @ X.T + np.diag(problem.model.specific_variance))
    for name, limit, used in (
        ("gross", problem.gross_limit, cp.norm1(w)),
        ("turnover", problem.turnover_limit, cp.norm1(w - problem.holdings) / 2),
        ("volatility", problem.volatility_limit, cp.norm(root.T @ w)),
    ):
        if limit is not None and name in names:
            constraints.append(limit + widened.get(name, 0.0) + t >= used)
    goal = cp.Problem(cp.Minimize(t), constraints)
    goal.solve(solver=cp.CLARABEL)
    return float(t.value)


def every_name(problem: Problem) -> set[str]:
    outside = (problem.lower > 0) | (problem.upper < 0)
    return {
        *problem.limits.names,
        *("gross", "volatility", "turnover", "position"),
        *(f"position:{asset}" for asset, out in zip(problem.model.assets, outside, strict=True) if out),
    }


class Parts:
    """Arguments of a feasible problem, changed by a plant before it is built."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng, self.n = rng, 30
        self.model = random_model(rng, self.n, 2, 3, 2)
        self.limits = random_limits(rng, self.model, band=float(rng.choice([0.0, 0.01])), style=0.1)
        self.upper = rng.uniform(0.03, 0.06, self.n)
        self.lower = -self.upper
        self.holdings = np.zeros(self.n)
        self.gross, self.volatility, self.turnover = 1.5, 0.12, None
        self.expected: set[str] = set()

    def freeze(self, names: list[int], weight: float) -> None:
        self.lower[names] = self.upper[names] = self.holdings[names] = weight

    def problem(self) -> Problem:
        alpha = 0.1 * np.sqrt(self.model.specific_variance) * self.rng.standard_normal(self.n)
        return Problem(
            alpha,
            self.model,
            self.limits,
            (self.lower, self.upper),
            self.gross,
            self.volatility,
            10.0,
            self.holdings,
            random_costs(self.rng, self.n),
            self.turnover,
        )


def turnover_too_small(parts: Parts) -> None:
    parts.holdings = np.abs(random_book(parts.rng, parts.lower, parts.upper))
    parts.turnover = float(parts.rng.uniform(0.0, 0.1))
    parts.expected = {"turnover"}


def book_outside_a_style(parts: Parts) -> None:
    style = parts.limits.exposures[:, -1]
    parts.holdings = 0.04 * np.sign(style)
    parts.turnover = 0.02
    parts.expected = {"turnover"}


def frozen_name_not_offset(parts: Parts) -> None:
    # All names of one country are frozen long: nothing there can offset them.
    country = np.flatnonzero(parts.limits.exposures[:, parts.limits.names.index("country:0")])
    parts.freeze(country.tolist(), 0.03)
    parts.expected = {"country:0"}


def frozen_against_one_side(parts: Parts) -> None:
    # Nobody in the sector may be short, two are frozen long, and only the sector's upper side is limited.
    member = parts.limits.exposures[:, parts.limits.names.index("sector:1")]
    parts.limits = Limits(
        ["net", "sector:1"], np.column_stack([np.ones(parts.n), member]), [-0.2, -np.inf], [0.2, 0.02]
    )
    parts.lower[member > 0] = 0.0
    parts.freeze(np.flatnonzero(member)[:2].tolist(), 0.05)
    parts.expected = {"sector:1"}


def volatility_below_frozen(parts: Parts) -> None:
    parts.freeze([0, 1, 2], 0.2)
    parts.limits = Limits(["net"], np.ones((parts.n, 1)), [-1.0], [1.0])
    parts.volatility = 0.03
    parts.expected = {"volatility"}


def gross_below_frozen(parts: Parts) -> None:
    parts.freeze([3, 4, 5, 6], float(parts.rng.choice([-0.1, 0.1])))
    parts.limits = Limits(["net"], np.ones((parts.n, 1)), [-1.0], [1.0])
    parts.gross = 0.25
    parts.expected = {"gross"}


def net_beyond_the_caps(parts: Parts) -> None:
    parts.limits = Limits(["net", "half"], np.column_stack([np.ones(30), np.arange(30) < 15]), [2.5, -0.1], [3.0, 0.1])
    parts.gross, parts.volatility = 9.0, 9.0
    parts.expected = {"net", "position"}


def long_only_against_a_short_limit(parts: Parts) -> None:
    parts.lower = np.zeros(parts.n)
    parts.limits = Limits(["net", "short"], np.ones((parts.n, 2)), [-1.0, -np.inf], [1.0, -0.1])
    parts.expected = {"short", "position"}


PLANTS: list[Callable[[Parts], None]] = [
    turnover_too_small,
    book_outside_a_style,
    frozen_name_not_offset,
    frozen_against_one_side,
    volatility_below_frozen,
    gross_below_frozen,
    net_beyond_the_caps,
    long_only_against_a_short_limit,
]


@pytest.mark.parametrize("plant", PLANTS)
@pytest.mark.parametrize("seed", range(6))
def test_planted_conflict_is_named_and_its_cures_are_least(plant: Callable[[Parts], None], seed: int) -> None:
    parts = Parts(np.random.default_rng(100 + seed))
    plant(parts)
    problem = parts.problem()
    with pytest.raises(InfeasibleMandate) as caught:
        optimize(problem)
    error = caught.value
    assert parts.expected <= set(error.conflict)
    assert set(error.relaxation) == set(error.conflict) <= every_name(problem)
    assert str(error).startswith("No portfolio meets all limits. In conflict: ")
    assert tightness(problem, set(error.conflict), {}) > 1e-7
    for name in error.conflict:
        assert tightness(problem, set(error.conflict) - {name}, {}) <= 1e-7, f"{name} is not needed"
    everything = every_name(problem)
    for name, amount in error.relaxation.items():
        if np.isfinite(amount):
            assert amount > 0
            assert tightness(problem, everything, {name: amount * (1 + 1e-6) + 1e-7}) <= 1e-7
            assert tightness(problem, everything, {name: 0.999 * amount}) > 0
        else:
            assert tightness(problem, everything - {name}, {}) > 1e-7, f"{name} alone would cure"


def test_words_a_manager_can_act_on() -> None:
    model = FactorModel(["A", "B", "C"], ["market"], np.ones((3, 1)), [[0.04]], np.full(3, 0.09))
    limits = Limits(["net", "country:US"], [[1, 1], [1, 0], [1, 0]], [0.0, 0.0], [0.0, 0.0])
    bounds = (np.array([0.03, -0.05, -0.05]), np.array([0.03, 0.05, 0.05]))
    with pytest.raises(InfeasibleMandate) as caught:
        optimize(Problem([0.1, 0.0, -0.1], model, limits, bounds, 1.0, None, 10.0))
    assert str(caught.value) == (
        "No portfolio meets all limits. In conflict: country:US (= 0) and position:A (= 0.03). Any one of these cures it: "
        "country:US to 0.03 (+0.03); position:A to 0 (-0.03)."
    )
    assert caught.value.conflict == ("country:US", "position:A")
    assert caught.value.relaxation == pytest.approx({"country:US": 0.03, "position:A": 0.03})


def test_two_conflicts_at_once_have_no_single_cure() -> None:
    model = FactorModel([*"ABCD"], ["market"], np.ones((4, 1)), [[0.04]], np.full(4, 0.09))
    limits = Limits(["one", "other"], [[1, 0], [0, 1], [0, 0], [0, 0]], [0.2, 0.3], [0.4, 0.4])
    with pytest.raises(InfeasibleMandate, match="alone cannot: other limits are in conflict as well") as caught:
        optimize(Problem(np.zeros(4), model, limits, (np.full(4, 0.0), [0.0, 0.0, 0.1, 0.1]), 1.0, 0.1, 10.0))
    assert len(caught.value.conflict) == 1
    assert set(caught.value.relaxation.values()) == {np.inf}


def test_simplex_that_stops_without_a_status_is_not_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    model = FactorModel(["A", "B", "C"], ["market"], np.ones((3, 1)), [[0.04]], [0.09] * 3)
    net = Limits(["net"], np.ones((3, 1)), [0.2], [0.2])
    problem = Problem([0.0] * 3, model, net, 0.5, gross_limit=0.15, volatility_limit=None, risk_aversion=15.0)
    solve = linprog

    def stopping(*args: Any, method: str, **options: Any) -> Any:
        result = solve(*args, method=method, **options)
        if method == "highs":
            result.status, result.x = 4, None
        return result

    monkeypatch.setattr("engine.linear_program.linprog", stopping)
    found = explain(problem)
    assert found is not None
    assert found.relaxation == pytest.approx({"net": 0.05, "gross": 0.05}, abs=1e-8)


def test_feasible_problem_has_nothing_to_explain() -> None:
    assert explain(Parts(np.random.default_rng(0)).problem()) is None
