"""The derivative of a book against the dense optimality system, against differences, and against what it must leave unchanged."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pytest
from derivatives import dense_derivative
from hypothesis import given, settings
from hypothesis import strategies as st
from problems import REGIMES, generic, planned

from benchmarks.robustness import draw
from engine import Limits, Problem, TradeCosts, optimize, structured
from engine.active_set import sharpened
from engine.certificate import State, best_response, binds, factor_prices
from engine.derivative import Derivative, Sensitivity
from engine.validity import next_change
from risk import DataError

EXACT, DIFFERENCES = 1e-8, 1e-6
"""Allowed shares of the largest entry: against closed forms, and against central differences."""


def solved(problem: Problem, near: Derivative | None = None) -> Derivative:
    """The derivative at the optimum, its last digits included."""
    start = None if near is None else (near.point.weights, near.dual.multipliers(near.point.theta))
    found = structured.solve(problem, start=start)
    assert found.converged
    weights, multipliers, _ = sharpened(problem, found.weights, found.multipliers)
    return Derivative(problem, weights, multipliers)


def matrix(derivative: Derivative) -> np.ndarray:
    return derivative.times(np.eye(len(derivative.phi)))


def active_set(derivative: Derivative) -> bytes:
    """Everything that must not change for the answer to be smooth."""
    w, problem, assets = derivative.point.weights, derivative.problem, derivative.dual.assets
    parts = [derivative.free, derivative.active, w >= problem.upper, w <= problem.lower]
    if derivative.point.theta[-3] > 0 or assets.borrows:
        parts.append(np.sign(w))
    if assets.trades_matter:
        parts.append(np.sign(w - assets.h))
    return b"".join(part.tobytes() for part in parts)


# Against the dense optimality system


def assert_is_dense(problem: Problem, derivative: Derivative) -> None:
    w, theta = derivative.point.weights, derivative.dual.multipliers(derivative.point.theta)
    dense, ours = dense_derivative(problem, w, theta), matrix(derivative)
    # At a vertex all is rounding of what single names would answer.
    vertex = derivative.free_directions == 0
    size = max(float(np.abs(dense).max()), (1.0 if vertex else 1e-3) * float(derivative.phi.max(initial=0.0)))
    np.testing.assert_allclose(ours, dense, rtol=0, atol=EXACT * size)


@pytest.mark.parametrize("regime", REGIMES)
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("make", [planned, generic])
def test_is_that_of_the_dense_system(regime: str, seed: int, make: Callable[[str, int, int], Problem]) -> None:
    problem = make(regime, 50, seed)
    derivative = solved(problem)
    assert derivative.free.any()
    assert_is_dense(problem, derivative)
    assert derivative.free_directions == rank_by_hand(derivative)


DEGENERATE = {"zero alpha", "constant alpha", "huge alpha", "wild impact"}
"""Traits under which prices are 0 but for rounding, or names answer by scales so different that no rank is certain."""


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.integers(10_000, 10**6))
def test_is_that_of_the_dense_system_on_unpleasant_problems(seed: int) -> None:
    case = draw(seed)
    if len(case.problem.alpha) > 90 or DEGENERATE & set(case.traits):
        return
    found = structured.solve(case.problem)
    if not found.converged:
        return
    derivative = Derivative(case.problem, found.weights, found.multipliers)
    # The oracle divides impact, 0 or not, by the root of the trade.
    if case.problem.costs is None or (found.weights != case.problem.holdings)[derivative.free].all():
        assert_is_dense(case.problem, derivative)


def rank_by_hand(derivative: Derivative) -> int:
    """Free names less the rank on them of the rows that bind, from the definition and by another decomposition."""
    problem, w = derivative.problem, derivative.point.weights
    theta = derivative.dual.multipliers(derivative.point.theta)
    states = best_response(problem, factor_prices(problem, w, theta), theta).states
    held = binds(problem, w, theta)
    rows = [problem.limits.exposures[:, j] for j, name in enumerate(problem.limits.names) if held[name]]
    signs = {"gross": np.sign(w), "turnover": np.sign(w - problem.holdings)}
    rows += [row for name, row in signs.items() if held.get(name, False)]
    if held.get("volatility", False):
        rows.append(problem.model.covariance_times(w))
    free = states == State.FREE
    if not rows:
        return int(free.sum())
    on_free = np.array(rows)[:, free]
    lengths = np.linalg.norm(on_free, axis=1, keepdims=True)
    gram = (on_free / np.where(lengths > 0, lengths, 1.0)) @ (on_free / np.where(lengths > 0, lengths, 1.0)).T
    return int(free.sum()) - int((np.linalg.eigvalsh(gram) > 1e-12).sum())


# What it must leave unchanged


@pytest.mark.parametrize("regime", REGIMES)
@pytest.mark.parametrize("seed", range(4))
def test_leaves_unchanged_what_holds(regime: str, seed: int) -> None:
    problem = generic(regime, 60, seed)
    derivative = solved(problem)
    w, S = derivative.point.weights, matrix(derivative)
    theta = derivative.dual.multipliers(derivative.point.theta)
    held, u = binds(problem, w, theta), w - problem.holdings
    size = float(np.abs(S).max())
    assert size > 0

    def assert_unmoved(direction: np.ndarray) -> None:
        np.testing.assert_allclose(S @ direction, 0.0, atol=EXACT * size * float(np.abs(direction).max()))

    np.testing.assert_allclose(S, S.T, rtol=0, atol=EXACT * size)
    assert np.linalg.eigvalsh((S + S.T) / 2)[0] >= -EXACT * size
    for j, name in enumerate(problem.limits.names):
        if held[name]:
            assert_unmoved(problem.limits.exposures[:, j])
    if held["gross"]:
        assert_unmoved(np.sign(w))
    if held.get("volatility", False):
        assert_unmoved(problem.model.covariance_times(w))
    if held.get("turnover", False):
        assert_unmoved(np.sign(u))
    at_bound = (w == problem.lower) | (w == problem.upper)
    costs = problem.costs
    at_zero = (w == 0) & held["gross"]
    untraded = (u == 0) & (costs is not None or held.get("turnover", False))
    for fixed in (at_bound, at_zero, untraded):
        assert not S[fixed].any()
        assert not S[:, fixed].any()


EXPECTED = {
    "volatility": "volatility",
    "gross": "gross",
    "gross and volatility": "volatility",
    "turnover": "turnover",
}


@pytest.mark.parametrize("regime", EXPECTED)
def test_the_regimes_are_what_their_names_say(regime: str) -> None:
    for seed in range(4):
        solution = optimize(generic(regime, 60, seed))
        assert EXPECTED[regime] in solution.binding, f"seed {seed}: {solution.binding}"
        assert regime != "gross and volatility" or "gross" in solution.binding


@pytest.mark.parametrize("seed", range(4))
def test_a_book_that_volatility_and_zero_centred_rows_hold_ignores_the_scale_of_alpha(seed: int) -> None:
    made = generic("volatility", 60, seed)
    zero = np.zeros(len(made.limits.names))
    limits = Limits(made.limits.names, made.limits.exposures, zero, zero)
    # Without caps, and with risk aversion negligible beside the price of volatility, w depends on the direction of alpha alone.
    problem = made.replace(limits=limits, position_limit=50.0, gross_limit=500.0, risk_aversion=1.3)
    derivative = solved(problem)
    assert derivative.active[-1]
    S = matrix(derivative)
    np.testing.assert_allclose(
        S @ problem.alpha, 0.0, atol=EXACT * float(np.abs(S).max() * np.abs(problem.alpha).max())
    )
    np.testing.assert_allclose(
        solved(problem.replace(alpha=1.7 * problem.alpha)).point.weights, derivative.point.weights, atol=1e-9
    )


@pytest.mark.parametrize("seed", range(4))
def test_a_book_of_linear_answers_scales_with_alpha(seed: int) -> None:
    problem = generic("interior", 60, seed)
    zero = np.zeros(len(problem.limits.names))
    problem = problem.replace(limits=Limits(problem.limits.names, problem.limits.exposures, zero, zero))
    derivative = solved(problem)
    np.testing.assert_allclose(derivative.times(problem.alpha), derivative.point.weights, atol=1e-10)


# Vertices


@pytest.mark.parametrize("seed", range(6))
def test_a_vertex_has_no_derivative_and_says_so(seed: int) -> None:
    problem = generic("position", 60, seed).replace(risk_aversion=1e-3)
    solution = optimize(problem)
    derivative = solved(problem)
    assert solution.vertex
    assert solution.free_directions == derivative.free_directions == rank_by_hand(derivative) == 0
    np.testing.assert_allclose(matrix(derivative), 0.0, atol=EXACT * float(derivative.phi.max(initial=0.0)))
    moved = problem.replace(alpha=problem.alpha * (1 + 1e-7 * np.arange(60)))
    np.testing.assert_allclose(solved(moved).point.weights, derivative.point.weights, atol=1e-11)


# Against differences


@dataclass(frozen=True)
class Knob:
    """One number that a problem depends on: the problem at a change of it, the derivative to check, and the change's size."""

    name: str
    at: Callable[[float], Problem]
    claimed: float
    step: float


def changed(array: np.ndarray, i: int, by: float) -> np.ndarray:
    result = np.array(array)
    result[i] += by
    return result


def knobs(problem: Problem, derivative: Derivative, claim: Sensitivity, rng: np.random.Generator) -> Iterator[Knob]:
    w = derivative.point.weights
    alpha_size = float(np.sqrt(np.mean(problem.alpha**2)))

    def some(names: np.ndarray, count: int = 3) -> list[int]:
        return [int(i) for i in rng.permutation(np.flatnonzero(names))[:count]]

    for i in [*some(derivative.free), *some(~derivative.free)]:
        yield Knob(
            f"alpha {i}",
            lambda e, i=i: problem.replace(alpha=changed(problem.alpha, i, e)),
            claim.alpha[i],
            0.003 * alpha_size,
        )
    for name in ("gross_limit", "volatility_limit", "turnover_limit", "risk_aversion"):
        value = getattr(problem, name)
        if value is not None:
            at = lambda e, name=name, value=value: problem.replace(**{name: value + e})  # noqa: E731
            yield Knob(name, at, getattr(claim, name), 0.01 * value)
    yield from _bounds(problem, derivative, claim, some)
    yield from _rows(problem, derivative, claim)
    if problem.holdings.any():
        for i in some((problem.holdings != 0) & (problem.lower < problem.upper), 8):
            at = lambda e, i=i: problem.replace(holdings=changed(problem.holdings, i, e))  # noqa: E731
            yield Knob(f"holdings {i}", at, claim.holdings[i], 0.001 * float(np.abs(problem.holdings).max()))
    costs = problem.costs
    if costs is None:
        return
    for name in ("linear", "impact", "borrow"):
        for i in [*some(w < 0), *some(derivative.free & (w > 0), 2)]:
            value = getattr(costs, name)[i]
            if value > 0:
                yield Knob(
                    f"{name} {i}",
                    lambda e, name=name, i=i: problem.replace(costs=_dearer(costs, name, i, e)),
                    getattr(claim, name)[i],
                    0.005 * value,
                )


def _dearer(costs: TradeCosts, name: str, i: int, by: float) -> TradeCosts:
    parts = {part: getattr(costs, part) for part in ("linear", "impact", "borrow")}
    parts[name] = changed(parts[name], i, by)
    return TradeCosts(parts["linear"], parts["impact"], parts["borrow"], annualisation=costs.annualisation)


def _bounds(
    problem: Problem, derivative: Derivative, claim: Sensitivity, some: Callable[..., list[int]]
) -> Iterator[Knob]:
    lower, upper, w = problem.lower, problem.upper, derivative.point.weights
    size = float(upper.max() - lower.min())
    can_move = lower < upper
    for i in [*some((w == upper) & can_move), *some(derivative.free, 1)]:
        at = lambda e, i=i: problem.replace(position_limit=(lower, changed(upper, i, e)))  # noqa: E731
        yield Knob(f"upper {i}", at, claim.upper[i], 0.001 * size)
    for i in [*some((w == lower) & can_move), *some(derivative.free, 1)]:
        at = lambda e, i=i: problem.replace(position_limit=(changed(lower, i, e), upper))  # noqa: E731
        yield Knob(f"lower {i}", at, claim.lower[i], 0.001 * size)
    for i in some(~can_move):
        at = lambda e, i=i: problem.replace(position_limit=(changed(lower, i, e), changed(upper, i, e)))  # noqa: E731
        yield Knob(f"closed {i}", at, claim.lower[i] + claim.upper[i], 0.001 * size)


def _rows(problem: Problem, derivative: Derivative, claim: Sensitivity) -> Iterator[Knob]:
    limits = problem.limits
    if derivative.rank < int(derivative.active.sum()):  # redundant rows: what one of them is worth alone is not defined
        return
    for j, name in enumerate(limits.names):
        equal = limits.lower[j] == limits.upper[j]
        sides = (
            (("equal", claim.limit_upper),) if equal else (("lower", claim.limit_lower), ("upper", claim.limit_upper))
        )
        for side, values in sides:

            def at(e: float, j: int = j, side: str = side) -> Problem:
                lower = limits.lower if side == "upper" else changed(limits.lower, j, e)
                upper = limits.upper if side == "lower" else changed(limits.upper, j, e)
                return problem.replace(limits=Limits(limits.names, limits.exposures, lower, upper))

            yield Knob(f"{side} side of {name}", at, float(values[j]), 1e-4)


def difference(knob: Knob, u: np.ndarray, near: Derivative) -> float | None:
    """d u'w by a difference of fourth order within one active set; None where a kink is too near."""
    step = knob.step
    for _ in range(4):
        ends = [solved(knob.at(share * step), near) for share in (-2, -1, 1, 2)]
        if all(active_set(end) == active_set(near) for end in ends):
            far_below, below, above, far_above = (float(u @ end.point.weights) for end in ends)
            return (8 * (above - below) - (far_above - far_below)) / (12 * step)
        step /= 8
    return None


@pytest.mark.parametrize("regime", REGIMES)
@pytest.mark.parametrize("seed", range(2))
def test_is_that_of_differences_for_everything_the_book_depends_on(regime: str, seed: int) -> None:
    problem = generic(regime, 40, seed)
    derivative, rng = solved(problem), np.random.default_rng(seed)
    u = rng.standard_normal(40)
    tried, missed = 0, []
    for knob in knobs(problem, derivative, derivative.pull_back(u), rng):
        tried += 1
        found = difference(knob, u, derivative)
        if found is None:
            missed.append(knob.name)
            continue
        assert knob.claimed == pytest.approx(found, rel=DIFFERENCES, abs=DIFFERENCES), knob.name
    assert tried >= 8
    assert len(missed) <= 0.15 * tried, f"kinks nearby: {missed}"


@pytest.mark.parametrize("regime", REGIMES)
@pytest.mark.parametrize("seed", range(3))
def test_is_that_of_differences_below_the_next_change(regime: str, seed: int) -> None:
    problem = generic(regime, 80, seed)
    derivative, rng = solved(problem), np.random.default_rng([seed, 1])
    for _ in range(3):
        direction = 0.1 * np.sqrt(np.mean(problem.alpha**2)) * rng.standard_normal(80)
        reach = min(next_change(derivative, direction), next_change(derivative, -direction), 1.0)
        step = min(0.2 * reach, 0.01)  # below the nearest kink, and short where prices bend
        ends = [
            solved(problem.replace(alpha=problem.alpha + share * step * direction), derivative).point.weights
            for share in (-2, -1, 1, 2)
        ]
        found = (8 * (ends[2] - ends[1]) - (ends[3] - ends[0])) / (12 * step)
        claimed = derivative.times(direction)
        size = max(float(np.abs(claimed).max()), 1e-3 * float(np.abs(derivative.phi * direction).max()))
        np.testing.assert_allclose(claimed, found, rtol=0, atol=DIFFERENCES * size)


# One derivative, several ways to ask


@pytest.mark.parametrize("regime", REGIMES)
def test_all_ways_to_ask_agree(regime: str) -> None:
    problem = generic(regime, 60, 5)
    derivative, rng = solved(problem), np.random.default_rng(5)
    u = rng.standard_normal((60, 3))
    together = derivative.times(u)
    size = float(np.abs(together).max())
    for j in range(3):
        np.testing.assert_allclose(derivative.times(u[:, j]), together[:, j], rtol=0, atol=1e-12 * size)
        np.testing.assert_allclose(derivative.pull_back(u[:, j]).alpha, together[:, j], rtol=0, atol=1e-12 * size)
        np.testing.assert_allclose(derivative.answer(u[:, j])[0], together[:, j], rtol=0, atol=1e-12 * size)
    again = Derivative.at(derivative.dual, derivative.point)
    np.testing.assert_array_equal(again.times(u), together)


@pytest.mark.parametrize("regime", ["volatility", "gross and volatility", "turnover", "linear costs"])
def test_prices_answer_as_differences_do(regime: str) -> None:
    problem = generic(regime, 60, 2)
    derivative, rng = solved(problem), np.random.default_rng(2)
    direction = 0.1 * np.sqrt(np.mean(problem.alpha**2)) * rng.standard_normal(60)
    _, prices = derivative.answer(direction)
    step = 0.1 * min(next_change(derivative, direction), next_change(derivative, -direction), 1.0)
    below, above = (
        solved(problem.replace(alpha=problem.alpha + share * step * direction)).point.theta for share in (-1, 1)
    )
    if derivative.rank == int(derivative.active.sum()):
        np.testing.assert_allclose(
            (above - below) / (2 * step), prices, rtol=0, atol=1e-4 * float(np.abs(prices).max())
        )


def test_an_interior_book_is_solved_by_hand() -> None:
    made = generic("interior", 30, 0)
    n = len(made.alpha)
    limits = Limits(["net"], np.ones((n, 1)), [0.0], [0.0])
    problem = made.replace(limits=limits)
    V = problem.model.exposures @ problem.model.factor_covariance @ problem.model.exposures.T
    V = V + np.diag(problem.model.specific_variance)
    inverse = np.linalg.inv(V)
    net = inverse.sum(axis=1)
    S = (inverse - np.outer(net, net) / net.sum()) / problem.risk_aversion
    derivative = solved(problem)
    assert derivative.free.all()
    np.testing.assert_allclose(derivative.point.weights, S @ problem.alpha, atol=1e-11)
    np.testing.assert_allclose(matrix(derivative), S, atol=1e-12 * np.abs(S).max() + 1e-13)


def test_bad_gradients_are_refused() -> None:
    derivative = solved(generic("gross", 20, 0))
    for bad in (np.ones(19), np.ones((20, 2, 2)), np.full(20, np.nan)):
        with pytest.raises(DataError, match="`u` must be finite"):
            derivative.times(bad)
    with pytest.raises(DataError, match="`u` must have shape"):
        derivative.pull_back(np.ones(19))
    with pytest.raises(DataError, match="`weights` must have shape"):
        Derivative(derivative.problem, np.ones(19), derivative.dual.multipliers(derivative.point.theta))
    with pytest.raises(DataError, match="`direction` must have shape"):
        next_change(derivative, np.ones(19))
