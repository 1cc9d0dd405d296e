"""The structured solver at the edges: answers known by hand, changes that must not matter, starts, and what it refuses."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from problems import REGIMES, generic, planned, random_problem

from benchmarks.robustness import draw
from engine import InfeasibleMandate, Limits, Problem, Solution, TradeCosts, optimize
from engine.optimizer import METHODS
from engine.solution import Multipliers
from risk import DataError, FactorModel

NET = ("net",)


def model(d: list[float], X: list[list[float]] | None = None, F: list[list[float]] | None = None) -> FactorModel:
    n = len(d)
    exposures = np.ones((n, 1)) if X is None else np.array(X)
    covariance = [[0.04]] if F is None else F
    factors = [f"f{j}" for j in range(exposures.shape[1])]
    return FactorModel([f"A{i}" for i in range(n)], factors, exposures, covariance, d)


def unlimited(n: int) -> Limits:
    return Limits(["none"], np.ones((n, 1)), [-np.inf], [np.inf])


def solved(problem: Problem, start: Solution | None = None) -> np.ndarray:
    solution = optimize(problem, start=start)
    assert solution.method == "structured", solution.fallback
    assert solution.certificate.worst <= 1e-8
    return solution.weights


# Known by hand


def test_one_name_alone() -> None:
    single = model([0.05])
    for alpha, cap, gross, expected in (
        (0.018, 1.0, 2.0, 0.018 / (2 * 0.09)),
        (-0.018, 1.0, 2.0, -0.018 / (2 * 0.09)),
        (0.018, 0.03, 2.0, 0.03),
        (0.018, 1.0, 0.04, 0.04),
        (0.0, 1.0, 2.0, 0.0),
    ):
        problem = Problem([alpha], single, unlimited(1), cap, gross, None, 2.0)
        np.testing.assert_allclose(solved(problem), [expected], atol=1e-12)


def test_one_name_held_by_its_volatility() -> None:
    problem = Problem([0.5], model([0.05]), unlimited(1), 9.0, 9.0, 0.03, 1.0)
    np.testing.assert_allclose(solved(problem), [0.03 / np.sqrt(0.09)], rtol=1e-11)


def test_two_names_of_which_one_cannot_move() -> None:
    pair = Limits(["net"], np.ones((2, 1)), [0.0], [0.0])
    problem = Problem([0.5, 0.1], model([0.05, 0.07]), pair, ([-1.0, 0.013], [1.0, 0.013]), 1.0, None, 1.0)
    np.testing.assert_allclose(solved(problem), [-0.013, 0.013], atol=1e-12)


@pytest.mark.parametrize("alpha", [0.0, 0.03])
def test_nothing_to_gain_is_an_empty_book(alpha: float) -> None:
    made = planned("gross", 40, 0)
    problem = made.replace(alpha=np.full(40, alpha))  # net is 0: a constant pays nothing
    np.testing.assert_allclose(solved(problem), 0.0, atol=1e-11)


def test_costs_above_the_gain_leave_the_holdings() -> None:
    made = generic("linear costs", 40, 0)
    assert made.costs is not None
    h = solved(made)
    dear = TradeCosts(made.costs.linear + 1.0, made.costs.impact, made.costs.borrow, annualisation=12.6)
    np.testing.assert_array_equal(solved(made.replace(holdings=h, costs=dear)), h)


def test_no_turnover_leaves_the_holdings() -> None:
    made = generic("gross", 40, 0)
    h = solved(made.replace(alpha=made.alpha[::-1]))
    h = h * 0.9
    np.testing.assert_allclose(solved(made.replace(holdings=h, turnover_limit=0.0)), h, atol=1e-11)


def test_holdings_beyond_their_bounds_are_brought_within() -> None:
    made = random_problem(np.random.default_rng(3), 40, costs="linear", holdings=True, position_limit=0.04)
    h = np.where(np.arange(40) % 3 == 0, 3.0, 1.0) * made.holdings
    beyond = np.abs(h) > 0.04
    assert beyond.any()
    w = solved(made.replace(holdings=h))
    assert (np.abs(w) <= 0.04).all()


@pytest.mark.parametrize("open_names", [0, 1, 2, 3])
def test_books_in_which_hardly_a_name_can_move(open_names: int) -> None:
    made = generic("gross", 40, 1)
    fixed = solved(made)
    lower, upper = fixed.copy(), fixed.copy()
    lower[:open_names], upper[:open_names] = made.lower[:open_names], made.upper[:open_names]
    w = solved(made.replace(position_limit=(lower, upper)))
    np.testing.assert_array_equal(w[open_names:], fixed[open_names:])
    np.testing.assert_allclose(w, fixed, atol=1e-9)


@pytest.mark.parametrize("cap", [1e-6, 1e-4])
def test_tiny_gross_is_spent_to_the_last(cap: float) -> None:
    made = generic("gross", 60, 2)
    w = solved(made.replace(gross_limit=cap))
    assert np.abs(w).sum() == pytest.approx(cap, abs=1e-11)


@pytest.mark.parametrize(
    "F",
    [
        np.diag([0.04, 4e-5, 0.0]),
        np.diag([0.04, 4e-12, 0.0]),
        np.diag([0.0, 0.0, 0.04]),
        np.outer([0.2, 0.1, -0.1], [0.2, 0.1, -0.1]),
    ],
)
def test_factor_covariances_without_full_rank(F: np.ndarray) -> None:
    rng = np.random.default_rng(0)
    X, d = rng.standard_normal((30, 3)) * [1.0, 1.0, 1e3], rng.uniform(0.04, 0.2, 30)
    alpha = 0.03 * rng.standard_normal(30)
    problem = Problem(alpha, model(d.tolist(), X.tolist(), F.tolist()), unlimited(30), 99.0, 999.0, None, 5.0)
    V = X @ F @ X.T + np.diag(d)
    np.testing.assert_allclose(solved(problem), np.linalg.solve(5.0 * V, alpha), atol=1e-10)


# What must not matter


def with_rows(problem: Problem, extra: np.ndarray, lower: np.ndarray, upper: np.ndarray) -> Problem:
    limits = problem.limits
    return problem.replace(
        limits=Limits(
            [*limits.names, *(f"extra {j}" for j in range(extra.shape[1]))],
            np.hstack([limits.exposures, extra]),
            np.concatenate([limits.lower, lower]),
            np.concatenate([limits.upper, upper]),
        )
    )


@pytest.mark.parametrize("regime", REGIMES)
def test_rows_that_say_nothing_new_change_nothing(regime: str) -> None:
    problem = generic(regime, 60, 0)
    L, lower, upper = problem.limits.exposures, problem.limits.lower, problem.limits.upper
    w = solved(problem)
    sums = (L[:, 1:4] @ np.ones(3))[:, None]
    for extra, low, up in (
        (L, lower, upper),
        (L, np.full_like(lower, -np.inf), upper),
        (2 * L[:, :4], 2 * lower[:4], 2 * upper[:4]),
        (sums, lower[1:4].sum(keepdims=True), upper[1:4].sum(keepdims=True)),
        (np.zeros((60, 2)), np.array([0.0, -1.0]), np.array([0.0, 0.0])),
        (
            problem.model.exposures,
            np.full(problem.model.exposures.shape[1], -np.inf),
            np.full(problem.model.exposures.shape[1], np.inf),
        ),
    ):
        np.testing.assert_allclose(solved(with_rows(problem, extra, low, up)), w, rtol=0, atol=1e-9)


@pytest.mark.parametrize("regime", REGIMES)
def test_units_of_limits_and_factors_do_not_matter(regime: str) -> None:
    problem, rng = generic(regime, 60, 1), np.random.default_rng(1)
    w = solved(problem)
    limits, m = problem.limits, problem.model
    rows = np.exp(rng.uniform(np.log(1e-2), np.log(1e4), len(limits.names)))
    factors = np.exp(rng.uniform(np.log(1e-4), np.log(1e4), len(m.factors)))
    F = m.factor_covariance / np.outer(factors, factors)
    scaled = problem.replace(
        limits=Limits(limits.names, limits.exposures * rows, limits.lower * rows, limits.upper * rows),
        model=FactorModel(m.assets, m.factors, m.exposures * factors, (F + F.T) / 2, m.specific_variance),
    )
    np.testing.assert_allclose(solved(scaled), w, rtol=0, atol=1e-8)


@pytest.mark.parametrize("regime", REGIMES)
def test_order_does_not_matter(regime: str) -> None:
    problem, rng = generic(regime, 60, 2), np.random.default_rng(2)
    i, j = rng.permutation(60), rng.permutation(len(problem.limits.names))
    m, limits, c = problem.model, problem.limits, problem.costs
    shuffled = Problem(
        problem.alpha[i],
        FactorModel([m.assets[a] for a in i], m.factors, m.exposures[i], m.factor_covariance, m.specific_variance[i]),
        Limits([limits.names[b] for b in j], limits.exposures[np.ix_(i, j)], limits.lower[j], limits.upper[j]),
        (problem.lower[i], problem.upper[i]),
        problem.gross_limit,
        problem.volatility_limit,
        problem.risk_aversion,
        holdings=problem.holdings[i],
        costs=None if c is None else TradeCosts(c.linear[i], c.impact[i], c.borrow[i], annualisation=c.annualisation),
        turnover_limit=problem.turnover_limit,
    )
    np.testing.assert_allclose(solved(shuffled), solved(problem)[i], rtol=0, atol=1e-9)


@pytest.mark.parametrize("regime", [name for name in REGIMES if "cost" not in name and "impact" not in name])
def test_the_opposite_signal_gives_the_opposite_book(regime: str) -> None:
    problem = generic(regime, 60, 3)
    limits = problem.limits
    mirror = problem.replace(
        alpha=-problem.alpha,
        limits=Limits(limits.names, limits.exposures, -limits.upper, -limits.lower),
        position_limit=(-problem.upper, -problem.lower),
        holdings=-problem.holdings,
    )
    np.testing.assert_allclose(solved(mirror), -solved(problem), rtol=0, atol=1e-9)


@pytest.mark.parametrize("scale", [1e-6, 1e-3, 1e2])
@pytest.mark.parametrize("regime", ["gross", "position", "unequal bounds", "linear costs"])
def test_money_of_another_unit_gives_the_same_book(regime: str, scale: float) -> None:
    problem = generic(regime, 60, 4).replace(volatility_limit=None)
    c = problem.costs
    scaled = problem.replace(
        alpha=scale * problem.alpha,
        risk_aversion=scale * problem.risk_aversion,
        costs=None
        if c is None
        else TradeCosts(scale * c.linear, scale * c.impact, scale * c.borrow, annualisation=c.annualisation),
    )
    np.testing.assert_allclose(solved(scaled), solved(problem), rtol=0, atol=1e-8)


@pytest.mark.parametrize("regime", REGIMES)
def test_a_limit_that_does_not_bind_may_go(regime: str) -> None:
    problem = generic(regime, 60, 5)
    solution = optimize(problem)
    changes: dict[str, float | None] = {}
    if "gross" not in solution.binding:
        changes["gross_limit"] = 10 * problem.gross_limit
    if "volatility" not in solution.binding:
        changes["volatility_limit"] = None
    if "turnover" not in solution.binding:
        changes["turnover_limit"] = None
    assert changes
    np.testing.assert_allclose(solved(problem.replace(**changes)), solution.weights, rtol=0, atol=1e-9)


@pytest.mark.parametrize("regime", REGIMES)
def test_the_same_problem_gives_the_same_bytes(regime: str) -> None:
    first, second = (optimize(generic(regime, 60, 6)) for _ in range(2))
    assert first.weights.tobytes() == second.weights.tobytes()
    assert first.iterations == second.iterations


# Starts


@pytest.mark.parametrize("regime", REGIMES)
@pytest.mark.parametrize("other", REGIMES)
def test_a_start_from_any_other_book_changes_nothing(regime: str, other: str) -> None:
    problem = generic(regime, 60, 7)
    np.testing.assert_allclose(
        solved(problem, start=optimize(generic(other, 60, 8))), solved(problem), rtol=0, atol=1e-9
    )


@pytest.mark.parametrize("regime", REGIMES)
def test_a_start_from_a_near_signal_gives_the_same_book(regime: str) -> None:
    for seed in range(3):
        problem = generic(regime, 120, seed)
        cold = optimize(problem)
        bent = problem.alpha * (1 + 0.05 * np.random.default_rng(seed).standard_normal(120))
        warm = optimize(problem, start=optimize(problem.replace(alpha=bent)))
        assert warm.method == "structured"
        np.testing.assert_allclose(warm.weights, cold.weights, rtol=0, atol=1e-9)
        assert optimize(problem, start=cold).iterations <= 1


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.integers(0, 10**6), st.sampled_from([0.1, 1.0]))
def test_no_start_changes_the_answer(seed: int, size: float) -> None:
    case = draw(seed)
    if "huge alpha" in case.traits:
        return
    problem, rng = case.problem, np.random.default_rng(seed)
    cold = optimize(problem)
    unit = size * float(np.sqrt(np.mean(problem.alpha**2)))
    prices = Multipliers(
        unit * rng.standard_normal(len(problem.limits.names)),
        unit * rng.random(),
        10 * rng.random(),
        unit * rng.random(),
    )
    n = len(problem.alpha)
    start = replace(cold, weights=rng.uniform(-1, 1, n) * np.abs(problem.upper).max(), multipliers=prices)
    warm = optimize(problem, start=start)
    assert warm.certificate.worst <= 1e-6
    scale = max(1.0, float(np.abs(cold.weights).max()))
    np.testing.assert_allclose(warm.weights, cold.weights, rtol=0, atol=1e-8 * scale)


@pytest.mark.parametrize("seed", [151, 23488])
def test_a_book_without_room_is_found_from_a_bad_start(seed: int) -> None:
    problem, rng = draw(seed).problem, np.random.default_rng(seed)
    cold, n = optimize(problem), len(problem.alpha)
    unit = float(np.sqrt(np.mean(problem.alpha**2)))
    prices = Multipliers(unit * rng.standard_normal(len(problem.limits.names)), unit, 10.0, unit)
    bad = replace(cold, weights=rng.uniform(-1, 1, n) * np.abs(problem.upper).max(), multipliers=prices)
    near = problem.replace(alpha=problem.alpha + 0.3 * unit * rng.standard_normal(n))
    for start in (bad, optimize(near)):
        np.testing.assert_allclose(solved(problem, start), cold.weights, rtol=0, atol=1e-9)


# What it refuses


def test_starts_of_another_shape_are_refused() -> None:
    problem = planned("gross", 20, 0)
    solution = optimize(problem)
    with pytest.raises(DataError, match=r"`start` must be a solution over 20 assets; it holds 21"):
        optimize(problem, start=optimize(planned("gross", 21, 0)))
    fewer = problem.replace(limits=Limits(NET, np.ones((20, 1)), [0.0], [0.0]))
    with pytest.raises(DataError, match=r"`start` must price \d+ limits; it prices 1"):
        optimize(problem, start=optimize(fewer))
    with pytest.raises(DataError, match="`start`"):
        optimize(problem, start=replace(solution, multipliers=None))
    with pytest.raises(DataError, match='`start` goes with method "structured"'):
        optimize(problem, method="reference", start=solution)


def test_unknown_methods_are_refused() -> None:
    problem = planned("gross", 20, 0)
    for bad in ("newton", "STRUCTURED", "clarabel"):
        with pytest.raises(DataError, match="`method` must be one of"):
            optimize(problem, method=bad)
    assert METHODS == ("structured", "reference")


def test_what_cannot_be_met_is_named() -> None:
    problem = planned("gross", 20, 0)
    impossible = Limits(["net", "long"], np.ones((20, 2)), [0.0, 0.1], [0.0, 0.2])
    with pytest.raises(InfeasibleMandate) as caught:
        optimize(problem.replace(limits=impossible))
    assert set(caught.value.conflict) == {"net", "long"}


@pytest.mark.parametrize("seed", [224, 662, 843, 21113])
def test_signals_that_dwarf_risk_aversion_are_solved_too(seed: int) -> None:
    found = optimize(draw(seed).problem)
    assert found.method == "structured"
    assert found.fallback.endswith("then solved from higher risk aversion")


def test_a_start_that_is_no_number_is_refused_by_name() -> None:
    problem = planned("gross and volatility", 20, 0)
    found = optimize(problem)
    assert found.multipliers is not None
    with pytest.raises(DataError, match="`start`"):
        optimize(problem, start=replace(found, multipliers=replace(found.multipliers, gross=np.nan)))
