"""The certificate proves what is right and refuses what is not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from problems import random_costs, random_limits, random_model, random_problem

from engine.certificate import State, accepted, best_response, certify
from engine.derivative import Derivative
from engine.optimizer import optimize
from engine.problem import Limits, Problem
from engine.solution import Multipliers
from risk import DataError, FactorModel


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


def some_multipliers(rng: np.random.Generator, problem: Problem, size: float = 0.01) -> Multipliers:
    return Multipliers(
        limits=size * rng.standard_normal(len(problem.limits.names)),
        gross=size * rng.random(),
        volatility=20 * rng.random() if problem.volatility_limit is not None else 0.0,
        turnover=size * rng.random() if problem.turnover_limit is not None else 0.0,
    )


def phi(problem: Problem, w: np.ndarray, q: np.ndarray, theta: Multipliers) -> np.ndarray:
    """The asset's own problem, written out a second time from its definition."""
    gamma = problem.risk_aversion + theta.volatility
    u = np.abs(w - problem.holdings)
    value = (
        q * w - theta.gross * np.abs(w) - gamma * problem.model.specific_variance * w**2 / 2 - theta.turnover / 2 * u
    )
    if problem.costs is not None:
        value -= problem.costs.annualisation * (problem.costs.linear * u + problem.costs.impact * u**1.5)
        value -= problem.costs.borrow * np.where(w < 0, -w, 0.0)
    return value


@pytest.mark.parametrize("costs", ["none", "linear", "impact"])
@pytest.mark.parametrize("holdings", [False, True])
def test_best_response_beats_every_other_weight(rng: np.random.Generator, costs: str, holdings: bool) -> None:
    problem = random_problem(
        rng, 300, costs=costs, holdings=holdings, unequal=True, turnover_limit=1.0, position_limit=0.03, signal=0.1
    )
    theta = some_multipliers(rng, problem)
    prices = 0.01 * rng.standard_normal(len(problem.model.factors))
    best = best_response(problem, prices, theta)
    q = problem.alpha - problem.model.exposures @ prices - problem.limits.exposures @ theta.limits

    assert (best.weights >= problem.lower).all()
    assert (best.weights <= problem.upper).all()
    np.testing.assert_allclose(best.values, phi(problem, best.weights, q, theta), atol=1e-15)
    for share in np.linspace(0, 1, 2001):
        other = problem.lower + share * (problem.upper - problem.lower)
        assert (phi(problem, other, q, theta) <= best.values + 1e-15).all()
    # Near the answer, where a grid is blind: no step of any size helps.
    for step in (1e-3, 1e-5, 1e-7):
        for sign in (-1, 1):
            other = np.clip(best.weights + sign * step, problem.lower, problem.upper)
            assert (phi(problem, other, q, theta) <= best.values + 1e-16).all()
    seen = set(best.states.tolist())
    assert {State.FREE, State.LOWER, State.UPPER, State.CLOSED} <= seen
    assert State.ZERO in seen
    assert not (holdings and costs != "none") or State.HOLDING in seen


def test_states_and_bound_prices_agree_with_slopes(rng: np.random.Generator) -> None:
    problem = random_problem(
        rng, 300, costs="impact", holdings=True, unequal=True, turnover_limit=1.0, position_limit=0.03, signal=0.1
    )
    theta = some_multipliers(rng, problem)
    best = best_response(problem, np.zeros(len(problem.model.factors)), theta)
    q, w, step = best.prices, best.weights, 1e-9
    right = (phi(problem, w + step, q, theta) - phi(problem, w, q, theta)) / step
    left = (phi(problem, w, q, theta) - phi(problem, w - step, q, theta)) / step
    free = best.states == State.FREE
    assert np.abs(right[free]).max() < 1e-5
    assert np.abs(left[free]).max() < 1e-5
    at_kink = np.isin(best.states, [State.ZERO, State.HOLDING])
    assert (right[at_kink] < 1e-6).all()
    assert (left[at_kink] > -1e-6).all()
    upper, lower = best.states == State.UPPER, best.states == State.LOWER
    np.testing.assert_allclose(best.bound_prices[upper], right[upper], atol=1e-4)
    np.testing.assert_allclose(best.bound_prices[lower], left[lower], atol=1e-4)
    assert (best.bound_prices[upper] > 0).all()
    assert (best.bound_prices[lower] < 0).all()
    assert not best.bound_prices[free | at_kink].any()


def test_any_multipliers_bound_any_portfolio(rng: np.random.Generator) -> None:
    for _ in range(20):
        problem = random_problem(rng, 40, costs="impact", holdings=True, turnover_limit=3.0, gross_limit=4.0, rank=2)
        feasible = optimize(problem).weights * rng.random()
        if np.abs(feasible - problem.holdings).sum() / 2 > problem.turnover_limit:
            continue
        for size in (0.001, 0.01, 0.1):
            proof = certify(problem, feasible, some_multipliers(rng, problem, size))
            assert proof.primal_residual <= 1e-9
            assert proof.gap >= -1e-12


def full_problem(rng: np.random.Generator) -> Problem:
    """Volatility, gross, turnover, caps, equalities and bands all have a price here."""
    n = 80
    model = random_model(rng, n, 3, 4, 3)
    limits = random_limits(rng, model, band=0.0, style=0.02)
    h = rng.uniform(-0.03, 0.03, n)
    alpha = 0.25 * np.sqrt(model.specific_variance) * rng.standard_normal(n)
    costs = random_costs(rng, n)
    return Problem(alpha, model, limits, 0.08, 1.6, 0.085, 5.0, holdings=h, costs=costs, turnover_limit=0.62)


def test_right_answer_is_accepted_and_every_injected_fault_refused(rng: np.random.Generator) -> None:
    problem = full_problem(rng)
    solution = optimize(problem)
    w, theta = solution.weights, solution.multipliers
    assert theta is not None
    assert accepted(certify(problem, w, theta))
    assert {"gross", "volatility", "turnover", "position", "net"} <= set(solution.binding)

    moved = w.copy()
    moved[np.argmax(np.abs(w))] *= 0.99
    pair = w.copy()
    pair[[0, 1]] += [1e-4, -1e-4]
    assert not accepted(certify(problem, moved, theta))
    assert not accepted(certify(problem, pair, theta))
    assert not accepted(certify(problem, 0.999 * w, theta))
    assert not accepted(certify(problem, np.zeros_like(w), theta))
    assert not accepted(certify(problem, w, replace(theta, limits=-theta.limits)))
    assert not accepted(certify(problem, w, replace(theta, limits=np.roll(theta.limits, 1))))
    for field in ("gross", "volatility", "turnover"):
        value = getattr(theta, field)
        assert value > 1e-3
        for wrong in (0.0, -value, 0.99 * value, 1.01 * value):
            assert not accepted(certify(problem, w, replace(theta, **{field: wrong}))), (field, wrong)


def test_optimum_of_another_problem_is_refused(rng: np.random.Generator) -> None:
    problem = full_problem(rng)
    solution = optimize(problem)
    shifted = problem.alpha + 1e-3 * rng.standard_normal(len(problem.alpha))
    other = Problem(
        shifted,
        problem.model,
        problem.limits,
        0.08,
        problem.gross_limit,
        problem.volatility_limit,
        problem.risk_aversion,
        problem.holdings,
        problem.costs,
        problem.turnover_limit,
    )
    assert not accepted(certify(other, solution.weights, solution.multipliers))


def test_each_limit_is_measured_in_its_own_unit(rng: np.random.Generator) -> None:
    problem = random_problem(rng, 30, turnover_limit=1.0, gross_limit=1.0)
    theta = Multipliers(np.zeros(len(problem.limits.names)), 0.0, 0.0, 0.0)
    w = np.zeros(30)
    w[0] = 0.05
    residual = certify(problem, w, theta).primal_residual
    rows = np.maximum(
        problem.limits.exposures[0] * 0.05 - problem.limits.upper,
        problem.limits.lower - problem.limits.exposures[0] * 0.05,
    )
    expected = max(
        rows.max(), 0.05 - problem.upper[0], 0.05 / 2 - problem.turnover_limit, problem.model.volatility(w) - 0.10
    )
    assert residual == pytest.approx(expected, rel=1e-12)


def test_multipliers_of_a_wrong_sign_count(rng: np.random.Generator) -> None:
    problem = random_problem(rng, 20, volatility_limit=None)
    one_sided = Limits(["net"], np.ones((20, 1)), [-np.inf], [0.1])
    problem = Problem(problem.alpha, problem.model, one_sided, 0.05, 2.0, None, 15.0)
    w = np.zeros(20)
    assert certify(problem, w, Multipliers(np.array([-0.5]), 0.0, 0.0, 0.0)).dual_residual >= 0.5
    assert certify(problem, w, Multipliers(np.array([0.0]), 0.0, 0.7, 0.0)).dual_residual >= 0.7
    assert np.isfinite(certify(problem, w, Multipliers(np.array([-0.5]), 0.0, 0.0, 0.0)).gap)


def test_evidence_needs_numbers(rng: np.random.Generator) -> None:
    problem = random_problem(rng, 20)
    zero = np.zeros(len(problem.limits.names))
    with pytest.raises(DataError, match=r"`weights` must be finite and of shape \(20,\)"):
        certify(problem, np.full(20, np.nan), Multipliers(zero, 0.0, 0.0, 0.0))
    with pytest.raises(DataError, match="`weights`"):
        certify(problem, np.zeros(19), Multipliers(zero, 0.0, 0.0, 0.0))
    with pytest.raises(DataError, match=r"`multipliers.limits` must have shape"):
        certify(problem, np.zeros(20), Multipliers(zero[:-1], 0.0, 0.0, 0.0))
    with pytest.raises(DataError, match="`multipliers` must be finite"):
        certify(problem, np.zeros(20), Multipliers(zero, float("nan"), 0.0, 0.0))
    unproven = certify(problem, np.zeros(20), None)
    assert np.isnan(unproven.gap)
    assert not accepted(unproven)


def test_free_directions_by_hand() -> None:
    # Six names, net = 0 and a redundant copy of it; one name at its cap: five free names less one row.
    model = FactorModel([*"ABCDEF"], ["market"], np.ones((6, 1)), [[0.04]], np.full(6, 0.09))
    limits = Limits(["net", "again"], np.ones((6, 2)), [0.0, 0.0], [0.0, 0.0])
    alpha = np.array([0.09, 0.02, 0.01, -0.02, -0.01, -0.03])
    problem = Problem(alpha, model, limits, 0.05, 2.0, None, 10.0)
    solution = optimize(problem)
    assert solution.weights[0] == pytest.approx(0.05, abs=1e-7)
    assert solution.free_directions == 4
    # Gross binds as well: one row more.
    tight = Problem(alpha, model, limits, 0.05, 0.12, None, 10.0)
    solution = optimize(tight)
    free = int(((np.abs(solution.weights) > 1e-6) & (np.abs(solution.weights) < 0.05 - 1e-6)).sum())
    assert "gross" in solution.binding
    assert solution.multipliers is not None
    assert Derivative(tight, solution.weights, solution.multipliers).free_directions == free - 2
