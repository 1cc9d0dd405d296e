"""The problem as a cone program of our own against the reference statement, on every regime and at the edges."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from problems import REGIMES, planned, random_costs, random_problem, with_limits

from benchmarks.books import REGIMES as BOOKS
from benchmarks.books import book, check
from engine import Limits, Problem, optimize
from engine.active_set import refine
from engine.certificate import accepted, certify
from engine.interior_point import Answer, Ending, solve, state
from engine.solution import Solution
from risk import DataError, FactorModel


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(5)


def check_agrees(problem: Problem) -> tuple[Answer, Solution]:
    """Check the raw answer against the reference to the solver's digits, and the refined one to its certificate."""
    answer, reference = solve(problem), optimize(problem, method="reference")
    assert answer.ending is Ending.SOLVED
    objective = reference.certificate.objective
    raw = certify(problem, answer.weights, answer.multipliers)
    np.testing.assert_allclose(answer.weights, reference.weights, atol=1e-4)
    assert raw.primal_residual <= 1e-6
    assert abs(raw.gap) <= 1e-5
    weights, multipliers = refine(problem, answer.weights, answer.multipliers)
    proof = certify(problem, weights, multipliers)
    assert accepted(proof)
    assert proof.objective == pytest.approx(objective, rel=1e-8, abs=1e-12)
    np.testing.assert_allclose(weights, reference.weights, atol=1e-5)
    return answer, reference


@pytest.mark.parametrize("regime", REGIMES)
@pytest.mark.parametrize(("n", "seed"), [(30, 2), (90, 3)])
def test_agrees_with_the_reference(regime: str, n: int, seed: int) -> None:
    check_agrees(planned(regime, n, seed))


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_everything_at_once(seed: int) -> None:
    problem = random_problem(
        np.random.default_rng(seed),
        60,
        rank=2,
        band=0.0,
        unequal=True,
        position_limit=0.08,
        gross_limit=1.6,
        volatility_limit=0.085,
        costs="impact",
        holdings=True,
        turnover_limit=1.2,
        signal=0.1,
    )
    answer, reference = check_agrees(problem)
    # Prices of limits of which there is one are unique: those the solver returns are those of the reference.
    theta = reference.multipliers
    assert theta is not None
    assert answer.multipliers.gross == pytest.approx(theta.gross, abs=1e-4)
    assert answer.multipliers.turnover == pytest.approx(theta.turnover, abs=1e-4)
    assert answer.multipliers.volatility == pytest.approx(theta.volatility, abs=1e-3 * (1 + theta.volatility))


def test_only_what_a_problem_needs_is_stated(rng: np.random.Generator) -> None:
    def variables(**changes: Any) -> int:
        return int(state(problem.replace(**changes)).A.shape[1])

    problem = random_problem(rng, 50, volatility_limit=None, gross_limit=1.5)
    shared = np.unique(np.hstack([problem.model.exposures, problem.limits.exposures]), axis=1).shape[1]
    assert shared < problem.model.exposures.shape[1] + problem.limits.exposures.shape[1]
    loose = problem.replace(gross_limit=50.0)  # no book within its caps reaches it
    assert state(loose).A.shape[1] == 50 + shared
    assert "gross" not in state(loose).prices
    assert variables() == 100 + shared
    # From an empty book |w - h| is |w|; only a held one needs its own, and only where trading has a price or a limit.
    book = np.where(rng.random(50) < 0.5, 0.01, 0.0)
    linear, impact = random_costs(rng, 50, impact=False), random_costs(rng, 50)
    assert variables(holdings=book) == 100 + shared
    assert variables(costs=linear) == variables(turnover_limit=1.0) == 100 + shared
    assert variables(costs=linear, holdings=book) == variables(turnover_limit=1.0, holdings=book) == 150 + shared
    assert variables(costs=impact, holdings=book) == 300 + shared
    closed = np.zeros(50)
    assert variables(costs=impact, position_limit=(closed, closed)) == 50 + shared + 50


def test_one_name() -> None:
    model = FactorModel(["A"], ["market"], np.ones((1, 1)), [[0.04]], [0.09])
    net = Limits(["net"], np.ones((1, 1)), [-np.inf], [0.02])
    problem = Problem([0.05], model, net, 0.5, gross_limit=1.0, volatility_limit=0.1, risk_aversion=2.0)
    # Without the limit w = 0.05 / (2 * 0.13); with it 0.02, at a price of 0.05 - 2 * 0.13 * 0.02.
    answer, _ = check_agrees(problem)
    assert answer.weights == pytest.approx([0.02], abs=1e-8)
    assert answer.multipliers.limits == pytest.approx([0.05 - 2 * 0.13 * 0.02], abs=1e-6)
    short = problem.replace(alpha=[-0.05], limits=Limits(["net"], np.ones((1, 1)), [-0.02], [np.inf]))
    answer, _ = check_agrees(short)
    assert answer.multipliers.limits == pytest.approx([-(0.05 - 2 * 0.13 * 0.02)], abs=1e-6)


def test_names_that_cannot_move_stay(rng: np.random.Generator) -> None:
    problem = random_problem(rng, 60, costs="impact", holdings=True, turnover_limit=0.8)
    lower, upper = problem.lower.copy(), problem.upper.copy()
    lower[:8] = upper[:8] = problem.holdings[:8]
    answer, _ = check_agrees(problem.replace(position_limit=(lower, upper)))
    np.testing.assert_allclose(answer.weights[:8], problem.holdings[:8], atol=1e-8)
    # Nothing can move at all.
    still = solve(problem.replace(position_limit=(np.zeros(60), np.zeros(60)), holdings=np.zeros(60)))
    np.testing.assert_allclose(still.weights, 0.0, atol=1e-9)


def test_limits_without_bounds_are_no_limits(rng: np.random.Generator) -> None:
    problem = random_problem(rng, 50)
    q = len(problem.limits.names)
    none = Limits(problem.limits.names, problem.limits.exposures, np.full(q, -np.inf), np.full(q, np.inf))
    answer, _ = check_agrees(problem.replace(limits=none))
    assert not answer.multipliers.limits.any()


def test_duplicate_rows_share_their_price(rng: np.random.Generator) -> None:
    problem = random_problem(rng, 60, band=0.0, style=0.01)
    limits = problem.limits
    twice = Limits(
        [*limits.names, *(f"{name} again" for name in limits.names), "nobody"],
        np.hstack([limits.exposures, limits.exposures, np.zeros((60, 1))]),
        [*limits.lower, *limits.lower, 0.0],
        [*limits.upper, *limits.upper, 0.0],
    )
    doubled, _ = check_agrees(problem.replace(limits=twice))
    np.testing.assert_allclose(doubled.weights, solve(problem).weights, atol=1e-5)
    q = len(limits.names)
    style = [j for j, name in enumerate(limits.names) if name.startswith("style:")]
    first, second = doubled.multipliers.limits[:q][style], doubled.multipliers.limits[q : 2 * q][style]
    single = solve(problem).multipliers.limits[style]
    assert np.abs(single).max() > 1e-3
    np.testing.assert_allclose(first + second, single, atol=1e-4)


def test_no_signal_is_no_book(rng: np.random.Generator) -> None:
    answer, _ = check_agrees(random_problem(rng, 40, costs="impact").replace(alpha=np.zeros(40)))
    np.testing.assert_allclose(answer.weights, 0.0, atol=1e-7)


def test_infeasible_is_a_status(rng: np.random.Generator) -> None:
    problem = random_problem(rng, 40)
    impossible = with_limits(problem.limits, [("net", 3.0, 3.0)])
    answer = solve(problem.replace(limits=impossible))
    assert answer.ending is Ending.INFEASIBLE
    assert np.isnan(answer.weights).all()
    assert np.isnan([*answer.multipliers.limits, answer.multipliers.gross]).all()


def test_an_unmet_tolerance_is_not_solved(rng: np.random.Generator) -> None:
    problem = random_problem(rng, 40)
    answer = solve(problem, tolerance=1e-30)
    assert answer.ending is Ending.STOPPED
    # It is none the less near enough to be refined, which is for the certificate to say.
    assert accepted(certify(problem, *refine(problem, answer.weights, answer.multipliers)))
    for wrong in (0.0, -1e-8, np.nan):
        with pytest.raises(DataError, match="`tolerance` must be positive"):
            solve(problem, tolerance=wrong)


@pytest.mark.parametrize("regime", BOOKS)
def test_benchmark_books_are_what_they_are_named_for(regime: str) -> None:
    made = book(regime, 500, 50)
    answer = solve(made.problem)
    weights, multipliers = refine(made.problem, answer.weights, answer.multipliers)
    assert accepted(certify(made.problem, weights, multipliers))
    check(made, weights, multipliers)
    one, other = made.problem.alpha, made.neighbour.alpha
    risk = np.sqrt(made.problem.model.specific_variance)
    assert 0.8 < np.corrcoef(one / risk, other / risk)[0, 1] < 0.93
    # The check refuses a book that another limit decides.
    with pytest.raises(AssertionError, match="should"):
        check(made, np.zeros(500), multipliers)
