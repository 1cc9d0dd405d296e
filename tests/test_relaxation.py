"""What gives way: only what may, in the order that it may, each level by the least that an own statement finds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
from conflicts import PLANTS, Parts, every_name, holds, least
from hypothesis import given, settings
from hypothesis import strategies as st
from problems import random_model

from engine import InfeasibleMandate, Limits, Problem, optimize
from engine.certificate import accepted
from engine.relaxation import relax
from risk import FactorModel

AGREED = 1e-5
"""Relative; the room that is added to a relaxed limit is some 1e-7 of it."""


def levels_of(problem: Problem) -> list[set[str]]:
    """Return what may give way, the most precious first."""
    tiers = problem.limits.tier
    names = np.array(problem.limits.names)
    levels = [set(names[tiers == tier].tolist()) for tier in sorted(set(tiers[tiers > 0].tolist()))]
    return [*levels, {"turnover"}] if problem.turnover_limit is not None else levels


def least_by_level(problem: Problem) -> list[float]:
    """Return the least sum of widenings of every level in turn."""
    levels = levels_of(problem)
    hard = every_name(problem).difference(*levels)
    budgets: list[tuple[set[str], float]] = []
    steepest = dict(zip(problem.limits.names, np.abs(problem.limits.exposures).max(axis=0), strict=True))
    sums: list[float] = []
    for level in levels:
        sums.append(least(problem, hard, level, budgets))
        room = (1e-9 if problem.volatility_limit is None else 1e-8) * min(steepest.get(name, 1.0) for name in level)
        budgets.append((level, sums[-1] + room))
    return sums


def assert_relaxed(before: Problem, after: Problem, amounts: Mapping[str, float]) -> None:
    """Check that bounds moved by the amounts, on one side, and that nothing else did."""
    old, new = before.limits, after.limits
    assert (old.names, old.tier.tolist()) == (new.names, new.tier.tolist())
    assert (old.exposures == new.exposures).all()
    for j, name in enumerate(old.names):
        sides = ((new.lower[j], old.lower[j]), (old.upper[j], new.upper[j]))
        moved = np.array([0.0 if inner == outer else abs(outer - inner) for inner, outer in sides])
        assert new.lower[j] <= old.lower[j] <= old.upper[j] <= new.upper[j]
        assert (moved > 0).sum() == (name in amounts)
        assert moved.sum() == pytest.approx(amounts.get(name, 0.0), rel=1e-9, abs=1e-15)
        assert old.tier[j] > 0 or not moved.any()
    for field in ("lower", "upper", "holdings", "alpha"):
        assert (getattr(before, field) == getattr(after, field)).all()
    assert (before.gross_limit, before.volatility_limit) == (after.gross_limit, after.volatility_limit)
    if before.turnover_limit is None or after.turnover_limit is None:
        assert before.turnover_limit is after.turnover_limit is None
    else:
        assert after.turnover_limit - before.turnover_limit == pytest.approx(amounts.get("turnover", 0.0), abs=1e-15)
    assert set(amounts) <= {*old.names, "turnover"}


def assert_least(before: Problem, after: Problem, amounts: Mapping[str, float], *, size: float = 1.0) -> None:
    """Check every level's sum against an own lexicographic programme, and that the last relaxed level cannot give less."""
    # On the curved side of the volatility limit a level's rounding of 1e-8 moves the next level by its root.
    small = 2e-6 * size if before.volatility_limit is None else 1e-3
    levels = levels_of(before)
    given_way = [sum(amounts.get(name, 0.0) for name in level) for level in levels]
    assert given_way == pytest.approx(least_by_level(before), rel=AGREED, abs=small)
    assert holds(after, every_name(after), 1e-8)
    last = next((level for level in reversed(levels) if level & set(amounts)), None)
    if last is not None:
        rows = [name in last for name in before.limits.names]
        limits = Limits(
            before.limits.names,
            before.limits.exposures,
            np.where(rows, before.limits.lower, after.limits.lower),
            np.where(rows, before.limits.upper, after.limits.upper),
        )
        turnover = before.turnover_limit if "turnover" in last else after.turnover_limit
        tighter = after.replace(limits=limits, turnover_limit=turnover)
        needed = least(tighter, every_name(after) - last, last)
        assert sum(amounts.get(name, 0.0) for name in last) == pytest.approx(needed, rel=AGREED, abs=small)


def relaxed_or_refused(problem: Problem) -> tuple[Problem, Mapping[str, float]] | None:
    """Return what `relax` does; None where it refuses, rightly."""
    never = every_name(problem).difference(*levels_of(problem))
    if holds(problem, never, 1e-7):
        return relax(problem)
    with pytest.raises(InfeasibleMandate) as caught:
        relax(problem)
    assert set(caught.value.conflict) <= never
    assert not holds(problem, set(caught.value.conflict), 1e-7)
    return None


def with_random_tiers(plant: Callable[[Parts], None], seed: int) -> Problem:
    rng = np.random.default_rng(seed)
    parts = Parts(rng, volatility=float(rng.uniform(0.05, 0.3)) if seed % 4 == 0 else None)
    plant(parts)
    parts.tier = rng.integers(0, 4, len(parts.names)).tolist()
    return parts.problem()


@pytest.mark.parametrize("plant", PLANTS)
def test_every_level_gives_way_by_the_least(plant: Callable[[Parts], None]) -> None:
    for seed in range(4):
        problem = with_random_tiers(plant, seed)
        size = max(1.0, float(np.abs(problem.limits.exposures).max()))
        found = relaxed_or_refused(problem)
        if found is None:
            continue
        after, amounts = found
        assert_relaxed(problem, after, amounts)
        assert_least(problem, after, amounts, size=size)
        assert amounts, "the plant is a conflict, so something must give"
        solution = optimize(after)
        assert accepted(solution.certificate)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**32 - 1), volatile=st.booleans())
def test_tier_0_never_changes_and_no_level_gives_more_than_it_must(seed: int, volatile: bool) -> None:
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 8))
    lower = rng.integers(-3, 2, n) / 20
    upper = np.maximum(lower, rng.integers(-1, 4, n) / 20)
    low = np.where(rng.random(4) < 0.4, -np.inf, rng.integers(-4, 3, 4) / 10)
    high = np.where(rng.random(4) < 0.4, np.inf, np.maximum(low, rng.integers(-3, 5, 4) / 10))
    problem = Problem(
        np.zeros(n),
        random_model(rng, n, 1, 1, 1),
        Limits([*"abcd"], rng.integers(-2, 3, (n, 4)), low, high, rng.integers(0, 4, 4)),
        (lower, upper),
        gross_limit=float(rng.integers(2, 9)) / 10,
        volatility_limit=float(rng.uniform(0.02, 0.1)) if volatile else None,
        risk_aversion=10.0,
        holdings=rng.integers(-3, 4, n) / 20,
        turnover_limit=float(rng.integers(0, 5)) / 10 if rng.random() < 0.6 else None,
    )
    found = relaxed_or_refused(problem)
    if found is None:
        return
    after, amounts = found
    assert_relaxed(problem, after, amounts)
    assert_least(problem, after, amounts)
    if not amounts:
        assert after is problem
        assert holds(problem, every_name(problem), 1e-7)


def two_rows(tiers: list[int], **changes: Any) -> Problem:
    """Return a problem of three names in which a wants 0.3 in A, b 0.2 in A + B at most, and B is frozen at 0.1."""
    model = FactorModel([*"ABC"], ["market"], np.ones((3, 1)), [[0.04]], [0.09] * 3)
    limits = Limits([*"ab"], [[1, 1], [0, 1], [0, 0]], [0.3, -np.inf], [np.inf, 0.2], tiers)
    arguments: dict[str, Any] = {"gross_limit": 2.0, "volatility_limit": None, "risk_aversion": 10.0, **changes}
    return Problem([0.0] * 3, model, limits, ([-0.5, 0.1, -0.5], [0.5, 0.1, 0.5]), **arguments)


@pytest.mark.parametrize(
    ("tiers", "expected"), [([1, 2], {"b": 0.2}), ([2, 1], {"a": 0.2}), ([0, 1], {"b": 0.2}), ([1, 0], {"a": 0.2})]
)
def test_the_less_precious_limit_gives_way(tiers: list[int], expected: dict[str, float]) -> None:
    assert relax(two_rows(tiers))[1] == pytest.approx(expected, abs=1e-6)


def test_limits_of_one_tier_share_the_least_sum() -> None:
    _, amounts = relax(two_rows([1, 1]))
    assert sum(amounts.values()) == pytest.approx(0.2, abs=2e-6)


@pytest.mark.parametrize("tiers", [[0, 1], [1, 0], [1, 2], [2, 1], [1, 1]])
def test_a_grid_finds_nothing_less(tiers: list[int]) -> None:
    # Widenings on a grid of 0.02, by brute force: the lexicographic least is within a step of ours.
    step, grid = 0.02, 0.02 * np.arange(26)
    problem = two_rows(tiers, gross_limit=0.42)
    feasible = []
    for a in grid if tiers[0] else [0.0]:
        for b in grid if tiers[1] else [0.0]:
            # A in [-0.5, 0.5], B = 0.1 and |A| + |B| + |C| <= 0.42 leave A in [-0.32, 0.32].
            if max(0.3 - a, -0.32) <= min(0.1 + b, 0.32) + 1e-12:
                feasible.append({"a": a, "b": b})
    order = sorted({tier for tier in tiers if tier})

    def sums(amounts: Mapping[str, float]) -> list[float]:
        return [sum(amounts.get(name, 0.0) for name, tier in zip("ab", tiers, strict=True) if tier == t) for t in order]

    best = min(map(sums, feasible))
    assert sums(relax(problem)[1]) == pytest.approx(best, abs=step)


def test_turnover_gives_way_before_any_row_and_rows_only_where_it_does_not_help() -> None:
    model = FactorModel([*"ABC"], ["market"], np.ones((3, 1)), [[0.04]], [0.09] * 3)
    limits = Limits(["net", "style:size"], [[1, 2], [1, 0], [1, 0]], [0.0, -0.1], [0.0, 0.1], [0, 9])
    book = [0.3, 0.0, 0.0]
    problem = Problem([0.0] * 3, model, limits, 0.5, 2.0, 0.2, 10.0, holdings=book, turnover_limit=0.1)
    after, amounts = relax(problem)
    # From 0.3 to 0.05 in A, and -0.05 in B or C: (0.25 + 0.05) / 2 traded.
    assert amounts == pytest.approx({"turnover": 0.05}, abs=1e-6)
    # A is frozen: no trade moves the style, only the book's net.
    frozen = problem.replace(position_limit=([0.3, -0.5, -0.5], [0.3, 0.5, 0.5]))
    after, amounts = relax(frozen)
    assert amounts == pytest.approx({"style:size": 0.5, "turnover": 0.05}, abs=2e-6)
    assert optimize(after).weights[0] == pytest.approx(0.3, abs=1e-9)


def test_what_never_gives_way_is_named() -> None:
    problem = two_rows([1, 2], gross_limit=0.05, turnover_limit=0.0)
    with pytest.raises(InfeasibleMandate, match="None of these may be relaxed") as caught:
        relax(problem)
    assert caught.value.relaxation == pytest.approx({"gross": 0.05, "position:B": 0.05})


@pytest.mark.parametrize("changes", [{}, {"volatility_limit": 0.1}, {"turnover_limit": 0.5}])
def test_a_problem_that_can_be_solved_stays_the_same_object(changes: dict[str, Any]) -> None:
    model = random_model(np.random.default_rng(0), 12, 2, 2, 1)
    for tiers in ([0, 0], [1, 2]):
        limits = Limits(["net", "style"], model.exposures[:, [0, -1]], [0.0, -0.1], [0.0, 0.1], tiers)
        problem = Problem(np.zeros(12), model, limits, 0.1, 1.0, changes.get("volatility_limit"), 10.0)
        problem = problem.replace(**changes)
        same, amounts = relax(problem)
        assert same is problem
        assert amounts == {}


def test_nothing_may_give_way_and_nothing_can_hold() -> None:
    with pytest.raises(InfeasibleMandate) as caught:
        relax(two_rows([0, 0]))
    assert caught.value.relaxation == pytest.approx({"a": 0.2, "b": 0.2, "position:B": 0.2})


def test_volatility_is_kept_and_the_row_gives() -> None:
    model = FactorModel([*"ABC"], ["market"], np.ones((3, 1)), [[0.0]], [0.09, 0.09, 0.36])
    limits = Limits(["minimum"], [[1.0], [1.0], [1.0]], [0.5], [np.inf], [1])
    problem = Problem([0.0] * 3, model, limits, 1.0, 3.0, 0.06, 10.0)
    after, amounts = relax(problem)
    # max 1'w with w'Dw <= v^2 is v sqrt(1'D^-1 1).
    assert amounts == pytest.approx({"minimum": 0.5 - 0.06 * np.sqrt(2 / 0.09 + 1 / 0.36)}, abs=1e-6)
    solution = optimize(after)
    assert solution.volatility <= 0.06 + 1e-8


@pytest.mark.parametrize("scale", [1e-6, 1e3])
def test_the_unit_of_the_weights_does_not_matter(scale: float) -> None:
    def amounts(unit: float) -> Mapping[str, float]:
        model = FactorModel([*"ABC"], ["market"], np.ones((3, 1)), [[0.04]], [0.09] * 3)
        limits = Limits([*"ab"], [[1, 1], [0, 1], [0, 0]], [0.3 * unit, -np.inf], [np.inf, 0.2 * unit], [1, 2])
        sides = (np.array([-0.5, 0.1, -0.5]) * unit, np.array([0.5, 0.1, 0.5]) * unit)
        return relax(Problem([0.0] * 3, model, limits, sides, 2 * unit, 0.5 * unit, 10.0))[1]

    assert amounts(scale) == pytest.approx({name: amount * scale for name, amount in amounts(1.0).items()}, rel=1e-6)


@pytest.mark.parametrize(("row", "expected"), [(0.0, {}), (0.1, {"row": 0.1})])
def test_closed_names_only(row: float, expected: dict[str, float]) -> None:
    model = FactorModel(["A"], ["market"], [[1.0]], [[0.04]], [0.09])
    limits = Limits(["row", "free"], [[1.0, 0.0]], [row, -np.inf], [0.5, np.inf], [1, 1])
    _, amounts = relax(Problem([0.0], model, limits, ([0.0], [0.0]), 1.0, 0.1, 10.0))
    assert amounts == pytest.approx(expected, abs=1e-6)
