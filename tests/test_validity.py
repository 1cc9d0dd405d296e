"""How far a derivative holds: to the next change of the active set and no further; and how many names are near one."""

from __future__ import annotations

import numpy as np
import pytest
from problems import REGIMES, generic, planned
from test_derivative import active_set, matrix, solved

from engine import Limits, Problem, optimize
from engine.derivative import Derivative
from engine.solution import Multipliers
from engine.validity import NEAR, near_kink, next_change

LINEAR = ("interior", "gross", "position", "turnover", "unequal bounds", "equalities only")
"""Regimes in which prices answer linearly: volatility is slack and trades have no impact."""

BENT = ("volatility", "gross and volatility", "impact", "impact from an empty book", "singular factor covariance")


def directions(problem: Problem, seed: int) -> list[np.ndarray]:
    """Two of anywhere, and more and less of the same signal."""
    rng = np.random.default_rng([seed, 3])
    size = float(np.sqrt(np.mean(problem.alpha**2)))
    anywhere = [size * rng.standard_normal(len(problem.alpha)) for _ in range(2)]
    return [*anywhere, problem.alpha, -problem.alpha]


def implied(derivative: Derivative) -> np.ndarray:
    """The rows that lie at a bound without a price: other limits hold them there, (q,)."""
    dual, point = derivative.dual, derivative.point
    use = -point.slope[dual.rank :]
    at_bound = (use > dual.upper - 1e-12) | (use < dual.lower + 1e-12)
    return (at_bound & ~derivative.active)[:-3]


def is_unique(derivative: Derivative) -> bool:
    """Whether one active set alone explains the book: limits that depend on each other share their price by choice."""
    return derivative.rank == int(derivative.active.sum()) and not implied(derivative).any()


def moved(derivative: Derivative, direction: np.ndarray, by: float) -> Derivative:
    return solved(derivative.problem.replace(alpha=derivative.problem.alpha + by * direction), derivative)


@pytest.mark.parametrize("regime", LINEAR)
@pytest.mark.parametrize("seed", range(6))
def test_the_book_answers_linearly_up_to_the_next_change(regime: str, seed: int) -> None:
    problem = generic(regime, 60, seed)
    derivative = solved(problem)
    assert not derivative.active[-1], "volatility binds"
    for direction in directions(problem, seed):
        reach = min(next_change(derivative, direction), 10.0)
        assert reach > 0
        answer = reach * derivative.times(direction)
        for share in (0.3, 0.99):
            there = moved(derivative, direction, share * reach).point.weights
            np.testing.assert_allclose(there, derivative.point.weights + share * answer, rtol=0, atol=1e-10)


@pytest.mark.parametrize("regime", LINEAR)
@pytest.mark.parametrize("seed", range(6))
def test_the_active_set_is_the_same_just_before_the_next_change(regime: str, seed: int) -> None:
    problem = generic(regime, 60, seed)
    derivative = solved(problem)
    if not is_unique(derivative):
        return
    for direction in directions(problem, seed):
        reach = next_change(derivative, direction)
        if reach < 10:
            assert active_set(moved(derivative, direction, 0.99 * reach)) == active_set(derivative)


@pytest.mark.parametrize("regime", ["gross", "turnover"])
@pytest.mark.parametrize("seed", range(8))
def test_the_derivative_is_another_just_after_the_next_change(regime: str, seed: int) -> None:
    problem = generic(regime, 60, seed)
    derivative = solved(problem)
    if not is_unique(derivative):
        return
    here = matrix(derivative)
    for direction in directions(problem, seed):
        reach = next_change(derivative, direction)
        there = moved(derivative, direction, 1.01 * reach)
        assert active_set(there) != active_set(derivative)
        assert np.abs(matrix(there) - here).max() > 1e-6 * np.abs(here).max()


@pytest.mark.parametrize("regime", BENT)
@pytest.mark.parametrize("seed", range(4))
def test_where_prices_bend_the_next_change_is_right_to_first_order(regime: str, seed: int) -> None:
    """Walk by what is foretold: each walk ends at the break, and the closer, the better the word."""
    problem = generic(regime, 60, seed)
    start = solved(problem)
    here = active_set(start)
    direction = directions(problem, seed)[0]
    low, high = 0.0, min(4 * next_change(start, direction), 1.0)
    while active_set(moved(start, direction, high)) == here:
        low, high = high, 2 * high
    for _ in range(45):
        middle = (low + high) / 2
        low, high = (middle, high) if active_set(moved(start, direction, middle)) == here else (low, middle)
    errors = []
    for distance in (0.1 * low, 0.01 * low):
        foretold = next_change(moved(start, direction, low - distance), direction)
        errors.append(abs(foretold - distance) / distance)
    assert errors[1] < 0.05
    assert errors[1] < 0.3 * errors[0] or errors[0] < 0.01


def test_limits_that_others_imply_foretell_nothing() -> None:
    found = compared = 0
    for regime in ("gross", "position", "unequal bounds", "turnover"):
        for seed in range(20):
            problem = planned(regime, 60, seed)  # two countries, two sectors: a bound of one is a bound of the other
            derivative = solved(problem)
            idle, limits = implied(derivative), problem.limits
            if not idle.any():
                continue
            found += 1
            names = [name for name, out in zip(limits.names, idle, strict=True) if not out]
            kept = Limits(names, limits.exposures[:, ~idle], limits.lower[~idle], limits.upper[~idle])
            theta = derivative.dual.multipliers(derivative.point.theta)
            fewer = Multipliers(theta.limits[~idle], theta.gross, theta.volatility, theta.turnover)
            without = Derivative(problem.replace(limits=kept), derivative.point.weights, fewer)
            for direction in directions(problem, seed):
                if min(next_change(one, direction, both_ways=True) for one in (derivative, without)) < 1e-12:
                    continue  # a name lies on a kink: on which side of it is rounding
                compared += 1
                reach = next_change(without, direction)
                assert next_change(derivative, direction) == pytest.approx(reach, rel=1e-6)
    assert found >= 5
    assert compared >= 3 * found


def test_what_never_changes_is_infinitely_far() -> None:
    derivative = solved(generic("gross", 40, 0))
    assert next_change(derivative, np.zeros(40)) == np.inf


@pytest.mark.parametrize("regime", REGIMES)
def test_a_longer_direction_is_shorter_in_proportion(regime: str) -> None:
    problem = generic(regime, 60, 1)
    derivative = solved(problem)
    direction = directions(problem, 1)[0]
    assert next_change(derivative, 4 * direction) == pytest.approx(next_change(derivative, direction) / 4, rel=1e-12)


@pytest.mark.parametrize("regime", REGIMES)
def test_the_solution_says_how_much_signal_may_grow_or_shrink(regime: str) -> None:
    problem = generic(regime, 60, 1)
    solution = optimize(problem)
    derivative = Derivative(problem, solution.weights, solution.multipliers)
    both = next_change(derivative, problem.alpha), next_change(derivative, -problem.alpha)
    assert solution.next_change == pytest.approx(min(both), rel=1e-9)
    assert solution.near_kink == near_kink(derivative)


def pieces(derivative: Derivative, q: np.ndarray) -> np.ndarray:
    """On which smooth piece every name's answer to q lies at the book's prices, (N, m): written out from the asset's own problem."""
    eta, tau, gamma = derivative.dual.split(derivative.point.theta)
    assets, problem = derivative.dual.assets, derivative.problem
    w = assets.weights(q, eta, tau, gamma)
    zero = (eta + assets.borrow > 0) * np.sign(w)
    traded = (assets.linear + tau / 2 + assets.power > 0) * np.sign(w - assets.h)
    return np.column_stack([zero, traded, w >= problem.upper, w <= problem.lower])


def near_by_hand(derivative: Derivative) -> float:
    """The share of names whose own alpha, a thousandth of alpha's size up or down, takes them to another piece."""
    problem, q = derivative.problem, derivative.point.q
    step = NEAR * float(np.sqrt(np.mean(problem.alpha**2)))
    here = pieces(derivative, q)
    changes = [(pieces(derivative, q + sign * step) != here).any(axis=1) for sign in (-1, 1)]
    movable = problem.lower < problem.upper
    return float((changes[0] | changes[1])[movable].mean())


@pytest.mark.parametrize("regime", REGIMES)
def test_names_near_a_kink_are_those_that_a_small_change_takes_there(regime: str) -> None:
    found = []
    for seed in range(3):
        derivative = solved(generic(regime, 400, seed))
        found.append(near_kink(derivative))
        assert found[-1] == pytest.approx(near_by_hand(derivative), abs=1e-12)
    assert max(found) < 0.1


def test_names_that_cannot_move_are_near_nothing() -> None:
    problem = generic("gross", 20, 0)
    book = optimize(problem).weights
    assert near_kink(solved(problem.replace(position_limit=(book, book)))) == 0.0
