"""Planted conflicts: the set named is in conflict, is irreducible, and each cure is enough and the least."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from conflicts import PLANTS, Parts, every_name, holds, least, long_only_against_a_short_limit, volatility_below_frozen
from hypothesis import given, settings
from hypothesis import strategies as st
from problems import random_model
from scipy.optimize import linprog

from engine import InfeasibleMandate, Limits, Problem, SolverFailure, optimize
from engine.infeasibility import explain
from engine.program import state_program
from engine.widening import least_widening, support
from risk import FactorModel

SEEDS = 10
"""Conflicts of each of the 20 kinds."""


def assert_explained(problem: Problem, found: InfeasibleMandate, tolerance: float = 1e-8) -> None:
    """Check the set and its cures against solvers and statements of our own."""
    conflict, everything = set(found.conflict), every_name(problem)
    assert set(found.relaxation) == conflict <= everything
    assert not holds(problem, conflict, tolerance), "the set can hold"
    for name in conflict:
        assert holds(problem, conflict - {name}, tolerance), f"{name} is not needed"
    for name, amount in found.relaxation.items():
        own = least(problem, everything - {name}, {name})
        if np.isfinite(amount):
            assert amount == pytest.approx(own, rel=1e-6, abs=1e-9), name
        else:
            assert own == np.inf, f"{name} alone would cure"


@pytest.mark.parametrize("plant", PLANTS)
def test_planted_conflict_is_named_and_its_cures_are_least(plant: Callable[[Parts], None]) -> None:
    for seed in range(SEEDS):
        parts = Parts(np.random.default_rng(1000 + seed), volatility=None if seed % 3 else 0.5)
        plant(parts)
        problem = parts.problem()
        found = explain(problem)
        assert found is not None
        assert parts.expected <= set(found.conflict)
        assert str(found).startswith("No portfolio meets all limits. In conflict: ")
        assert_explained(problem, found)


@pytest.mark.parametrize("plant", [long_only_against_a_short_limit, volatility_below_frozen])
def test_the_optimizer_raises_the_explanation(plant: Callable[[Parts], None]) -> None:
    parts = Parts(np.random.default_rng(5))
    plant(parts)
    problem = parts.problem()
    with pytest.raises(InfeasibleMandate) as caught:
        optimize(problem)
    found = explain(problem)
    assert found is not None
    assert (str(caught.value), caught.value.conflict) == (str(found), found.conflict)


@settings(max_examples=80, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**32 - 1), volatile=st.booleans())
def test_any_small_mandate_is_feasible_or_explained(seed: int, volatile: bool) -> None:
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 9))
    model = random_model(rng, n, 1, 1, 1)
    lower = rng.integers(-3, 3, n) / 20
    upper = np.maximum(lower, rng.integers(-2, 4, n) / 20)
    low = np.where(rng.random(3) < 0.3, -np.inf, rng.integers(-4, 3, 3) / 10)
    high = np.where(rng.random(3) < 0.3, np.inf, np.maximum(low, rng.integers(-3, 5, 3) / 10))
    limits = Limits([*"abc"], rng.integers(-2, 3, (n, 3)), low, high)
    problem = Problem(
        np.zeros(n),
        model,
        limits,
        (lower, upper),
        gross_limit=float(rng.integers(1, 8)) / 10,
        volatility_limit=float(rng.uniform(0.01, 0.1)) if volatile else None,
        risk_aversion=10.0,
        holdings=rng.integers(-3, 4, n) / 20,
        turnover_limit=float(rng.integers(0, 6)) / 10 if rng.random() < 0.7 else None,
    )
    found = explain(problem)
    if found is None:
        assert holds(problem, every_name(problem), 1e-7)
    else:
        assert_explained(problem, found, 1e-7)


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


@pytest.mark.parametrize("volatility", [None, 0.12])
def test_feasible_problem_has_nothing_to_explain(volatility: float | None) -> None:
    assert explain(Parts(np.random.default_rng(0), volatility).problem()) is None


def single(lower: float, upper: float, low: float, high: float, **changes: Any) -> Problem:
    """Return a problem of one name of 30 % volatility with one row, its weight."""
    model = FactorModel(["A"], ["market"], [[1.0]], [[0.0]], [0.09])
    arguments: dict[str, Any] = {"gross_limit": 1.0, "volatility_limit": None, "risk_aversion": 1.0, **changes}
    return Problem([0.0], model, Limits(["row"], [[1.0]], [low], [high]), ([lower], [upper]), **arguments)


@pytest.mark.parametrize(
    ("problem", "expected"),
    [
        (single(-0.1, 0.1, 0.2, np.inf), {"row": 0.1, "position": 0.1}),
        (single(0.0, 0.0, 0.2, np.inf), {"row": 0.2}),  # a closed name is a fact
        (single(0.3, 0.3, -np.inf, 0.1), {"row": 0.2, "position:A": 0.2}),
        (single(-0.5, 0.5, 0.4, 0.4, gross_limit=0.1), {"row": 0.3, "gross": 0.3}),
        (
            single(-0.5, 0.5, -np.inf, np.inf, holdings=[2.0], turnover_limit=0.25, gross_limit=2.0),
            {"turnover": 0.5, "position": 1.0},
        ),
        (single(0.5, 0.9, 0.0, 1.0, volatility_limit=0.06), {"position:A": 0.3, "volatility": 0.09}),
    ],
)
def test_a_single_name(problem: Problem, expected: dict[str, float]) -> None:
    found = explain(problem)
    assert found is not None
    assert found.relaxation == pytest.approx(expected, rel=1e-6)


def test_closed_names_only() -> None:
    n = 4
    model = random_model(np.random.default_rng(0), n, 1, 1, 1)
    closed = (np.zeros(n), np.zeros(n))
    for low, expected in ((0.0, None), (0.1, {"net": 0.1})):
        limits = Limits(["net", "free"], np.ones((n, 2)), [low, -np.inf], [0.5, np.inf])
        found = explain(Problem(np.zeros(n), model, limits, closed, 1.0, 0.1, 10.0))
        assert (found and found.relaxation) == expected


@pytest.mark.parametrize("scale", [1e-7, 1e-3, 1e3, 1e6])
@pytest.mark.parametrize("plant", PLANTS)
def test_the_unit_of_the_weights_does_not_matter(plant: Callable[[Parts], None], scale: float) -> None:
    def found(unit: float) -> InfeasibleMandate:
        parts = Parts(np.random.default_rng(3), volatility=0.5)
        plant(parts)
        parts.lower, parts.upper, parts.holdings = parts.lower * unit, parts.upper * unit, parts.holdings * unit
        parts.low, parts.high, parts.gross = parts.low * unit, parts.high * unit, parts.gross * unit
        parts.volatility = None if parts.volatility is None else parts.volatility * unit
        parts.turnover = None if parts.turnover is None else parts.turnover * unit
        conflict = explain(parts.problem())
        assert conflict is not None
        return conflict

    one, other = found(1.0), found(scale)
    assert one.conflict == other.conflict
    for name, amount in one.relaxation.items():
        assert other.relaxation[name] == pytest.approx(amount * scale, rel=2e-6, abs=1e-9 * scale)


@pytest.mark.parametrize("volatility", [None, 0.5])
def test_prices_that_do_not_prove_a_conflict_are_not_believed(volatility: float | None) -> None:
    parts = Parts(np.random.default_rng(0), volatility)
    problem = parts.problem()
    program = state_program(problem)
    everything = set(range(len(program.names)))
    rows = {g for g in everything if not program.names[g].startswith(("position", "volatility"))}
    found = least_widening(program, everything - rows - {program.place("volatility")}, dict.fromkeys(rows, 1.0))
    assert found is not None
    for _ in range(20):
        made_up = replace(
            found,
            weights=parts.rng.uniform(parts.lower, parts.upper),
            prices=np.abs(parts.rng.standard_normal(len(found.prices))) * np.where(np.isfinite(program.ceiling), 1, -1),
        )
        with pytest.raises(SolverFailure, match="do not prove it"):
            support(program, everything, made_up)
