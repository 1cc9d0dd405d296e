"""The structured solver against Clarabel and its own proof, on problems drawn to be unpleasant and on books of real shape.

The full thousand, units and signals of absurd scale included: `python -m benchmarks.robustness`.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from problems import REGIMES, generic, planned

from benchmarks.books import REGIMES as BOOKS
from benchmarks.books import book, check
from benchmarks.robustness import CERTIFIED, NO_WORSE, WITHIN, Case, draw, judge, violation
from engine import optimize

ABSURD = {"huge alpha", "wild impact"}
"""Traits under which a fallback is no surprise: the benchmark counts them."""


def assert_sound(case: Case) -> None:
    solution = optimize(case.problem)
    verdict = judge(case.problem, solution, 0.0)
    assert verdict.relative <= CERTIFIED, case
    assert verdict.violation <= WITHIN, case
    assert verdict.gap <= NO_WORSE, case
    assert verdict.short <= NO_WORSE, case
    if not ABSURD & set(case.traits):
        assert solution.method == "structured", f"{case}: {solution.fallback}"


@settings(max_examples=250, deadline=None, derandomize=True)
@given(st.integers(0, 10**6))
def test_any_problem_is_solved_and_proven(seed: int) -> None:
    case = draw(seed)
    if "huge alpha" not in case.traits:
        assert_sound(case)


@pytest.mark.parametrize("block", range(4))
def test_the_first_problems_are_solved_and_proven(block: int) -> None:
    fallbacks = 0
    for seed in range(30 * block, 30 * (block + 1)):
        case = draw(seed)
        if "huge alpha" not in case.traits:
            assert_sound(case)
            fallbacks += optimize(case.problem).method != "structured"
    assert fallbacks == 0


@pytest.mark.parametrize("regime", REGIMES)
@pytest.mark.parametrize("make", [planned, generic])
def test_every_regime_is_solved_and_proven(regime: str, make: object) -> None:
    for seed in range(3):
        problem = (planned if make is planned else generic)(regime, 90, seed)
        assert_sound(Case(seed, (regime,), problem, np.zeros(90)))


def test_vertex_like_books_are_solved_and_proven() -> None:
    found, seed, most = 0, 0, 0
    while found < 12:
        case = draw(seed, 200 if found < 9 else 450)
        seed += 1
        if "vertex-like" in case.traits:
            found += 1
            assert_sound(case)
            most = max(most, optimize(case.problem).iterations)
    assert most <= 80


@pytest.mark.parametrize(
    ("regime", "n", "k"), [("volatility", 1000, 100), ("gross", 3000, 50), ("vertex, g0=2", 1000, 50)]
)
def test_large_books_are_solved_and_proven(regime: str, n: int, k: int) -> None:
    made = book(regime, n, k)
    solution = optimize(made.problem)
    assert solution.multipliers is not None
    check(made, solution.weights, solution.multipliers)
    verdict = judge(made.problem, solution, 0.0)
    assert verdict.sound
    assert verdict.compared
    assert solution.method == "structured"


@pytest.mark.parametrize("regime", BOOKS)
def test_books_of_every_regime_are_certified(regime: str) -> None:
    made = book(regime, 1000, 50, seed=1)
    solution = optimize(made.problem)
    warm = optimize(made.neighbour, start=solution)
    cold = optimize(made.neighbour)
    for problem, found in ((made.problem, solution), (made.neighbour, warm), (made.neighbour, cold)):
        assert found.method == "structured"
        assert found.certificate.worst <= CERTIFIED
        assert violation(problem, found.weights) <= WITHIN
    np.testing.assert_allclose(warm.weights, cold.weights, rtol=0, atol=1e-9)
