"""The reference optimizer against hand calculations, its own duals and every kind of odd data."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import cvxpy as cp
import numpy as np
import pandas as pd
import pytest
from problems import (
    REGIMES,
    planned,
    random_book,
    random_costs,
    random_limits,
    random_model,
    random_problem,
    with_limits,
)

from engine import InfeasibleMandate, SolverFailure, Status, TradeCosts, reference
from engine import optimize as optimize_by
from engine.certificate import CERTIFIED
from engine.problem import Limits, Problem
from risk import DataError, FactorModel

optimize = partial(optimize_by, method="reference")


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(11)


@pytest.mark.parametrize("regime", REGIMES)
@pytest.mark.parametrize("seed", [2, 3, 4])
def test_every_solution_carries_its_proof(regime: str, seed: int) -> None:
    problem = planned(regime, 100, seed)
    solution = optimize(problem)
    proof = solution.certificate
    assert abs(proof.gap) <= CERTIFIED * (1 + abs(proof.objective))
    assert max(proof.primal_residual, proof.dual_residual, proof.complementarity) <= CERTIFIED
    # The active set is solved to rounding.
    assert max(proof.primal_residual, proof.dual_residual, proof.complementarity, abs(proof.gap)) <= 1e-12
    assert proof.objective == problem.objective(solution.weights)
    assert solution.volatility == problem.model.volatility(solution.weights)
    assert solution.gross == pytest.approx(np.abs(solution.weights).sum())
    assert not solution.weights.flags.writeable
    cone = problem.volatility_limit is not None or REGIMES[regime].get("costs") == "impact"
    assert solution.method == ("reference:clarabel" if cone or solution.fallback else "reference:osqp")
    if regime in ("volatility", "gross", "position", "turnover"):
        assert regime in solution.binding


def test_two_assets_by_hand() -> None:
    # Net 0 leaves w = (x, -x): maximise 0.06 x - (g0/2) 2 x^2 0.09 with the market hedged away.
    model = FactorModel(["A", "B"], ["market"], np.ones((2, 1)), [[0.04]], [0.09, 0.09])
    net = Limits(["net"], np.ones((2, 1)), [0.0], [0.0])
    alpha = np.array([0.05, -0.01])

    def book(**changes: Any) -> Any:
        arguments = {
            "position_limit": 1.0,
            "gross_limit": 2.0,
            "volatility_limit": None,
            "risk_aversion": 2.0,
        } | changes
        return optimize(Problem(alpha, model, net, **arguments))

    free = book()
    assert free.weights == pytest.approx([1 / 6, -1 / 6], abs=1e-8)
    assert free.certificate.objective == pytest.approx(0.005, abs=1e-12)
    assert free.duals["net"] == pytest.approx(0.02, abs=1e-8)  # alpha of what is held equally: (0.05 - 0.01) / 2
    # Gross 0.2: x = 0.1, eta = (0.06 - 2 * 0.18 * 0.1) / 2.
    gross = book(gross_limit=0.2)
    assert gross.weights == pytest.approx([0.1, -0.1], abs=1e-8)
    assert gross.duals["gross"] == pytest.approx(0.012, abs=1e-8)
    assert gross.binding == ("net", "gross")
    # Volatility 0.03 = sqrt(0.18) x; price per unit of volatility (0.06 - 0.36 x) / sqrt(0.18).
    x = 0.03 / np.sqrt(0.18)
    volatility = book(volatility_limit=0.03)
    assert volatility.weights == pytest.approx([x, -x], abs=1e-8)
    assert volatility.duals["volatility"] == pytest.approx((0.06 - 0.36 * x) / np.sqrt(0.18), rel=1e-7)
    # Caps 0.05: widening both by e gains (0.06 - 0.36 * 0.05) e.
    cap = book(position_limit=0.05)
    assert cap.weights == pytest.approx([0.05, -0.05], abs=1e-8)
    assert cap.duals["position"] == pytest.approx(0.042, abs=1e-8)
    # A linear cost of 0.001 twenty times a year and 0.005 to borrow B: 0.06 - 0.04 - 0.005 = 0.36 x.
    costs = TradeCosts([0.001, 0.001], [0.0, 0.0], [0.0, 0.005], annualisation=20.0)
    paid = book(costs=costs)
    assert paid.weights == pytest.approx([0.015 / 0.36, -0.015 / 0.36], abs=1e-8)
    # Impact 0.01 |u|^1.5: 0.06 - 0.36 x - 2 * 20 * 1.5 * 0.01 sqrt(x) = 0.
    impact = book(costs=TradeCosts([0.0, 0.0], [0.01, 0.01], annualisation=20.0))
    root = (-0.6 + np.sqrt(0.36 + 4 * 0.36 * 0.06)) / (2 * 0.36)
    assert impact.weights == pytest.approx([root**2, -(root**2)], abs=1e-7)


def test_names_at_a_kink_are_exactly_there() -> None:
    problem = planned("linear costs", 100, 5)
    solution = optimize(problem)
    traded = solution.weights != problem.holdings
    assert 20 < traded.sum() < 95
    assert np.abs(solution.weights - problem.holdings)[traded].min() > 1e-6
    at_cap = np.abs(solution.weights) == problem.upper
    assert not ((np.abs(solution.weights) > problem.upper - 1e-7) & ~at_cap).any()


def busy() -> Problem:
    """One book in which limits of every kind have a price."""
    n, rng = 80, np.random.default_rng(7)
    model = random_model(rng, n, 3, 4, 3)
    even = random_limits(rng, model, band=0.01, style=0.02)
    h = rng.uniform(-0.03, 0.03, n)
    alpha = 0.25 * np.sqrt(model.specific_variance) * rng.standard_normal(n)
    costs = random_costs(rng, n)
    # Uneven bands: with even ones net 0 can be met with every sector at a band, and its price is not unique.
    lower, upper = (side * rng.uniform(0.5, 1.5, len(even.names)) for side in (even.lower, even.upper))
    limits = Limits(even.names, even.exposures, lower, upper)
    return Problem(alpha, model, limits, 0.08, 1.6, 0.085, 5.0, h, costs, turnover_limit=0.62)


def test_duals_are_the_gain_per_unit_of_every_limit() -> None:
    problem = busy()
    solution = optimize(problem)
    step = 1e-5

    def gain(make: Callable[[float], Problem]) -> float:
        up, down = (optimize(make(side * step)).certificate.objective for side in (1, -1))
        return (up - down) / (2 * step)

    limits = problem.limits
    checked = []
    for name, lower, upper in zip(limits.names, limits.lower, limits.upper, strict=True):
        dual = solution.duals[name]
        if name not in solution.binding:
            assert dual == pytest.approx(0.0, abs=1e-6)
            continue
        # A positive dual prices the upper side, a negative one the lower: moving that side by e changes the objective by dual e.
        if lower == upper:
            moved = gain(lambda e: problem.replace(limits=with_limits(limits, [(name, lower + e, upper + e)])))  # noqa: B023
        elif dual > 0:
            moved = gain(lambda e: problem.replace(limits=with_limits(limits, [(name, lower, upper + e)])))  # noqa: B023
        else:
            moved = gain(lambda e: problem.replace(limits=with_limits(limits, [(name, lower + e, upper)])))  # noqa: B023
        assert dual == pytest.approx(moved, rel=2e-3, abs=2e-5), name
        checked.append(name)
    assert len(checked) >= 4
    assert gain(lambda e: problem.replace(gross_limit=1.6 + e)) == pytest.approx(solution.duals["gross"], rel=2e-3)
    assert gain(lambda e: problem.replace(turnover_limit=0.62 + e)) == pytest.approx(
        solution.duals["turnover"], rel=2e-3
    )
    assert gain(lambda e: problem.replace(volatility_limit=0.085 + e)) == pytest.approx(
        solution.duals["volatility"], rel=5e-3
    )
    assert gain(lambda e: problem.replace(position_limit=0.08 + e)) == pytest.approx(
        solution.duals["position"], rel=2e-3
    )
    assert {"gross", "turnover", "volatility", "position"} <= set(solution.binding)
    assert min(solution.duals[name] for name in ("gross", "turnover", "volatility", "position")) > 1e-3


def test_redundant_and_empty_rows(rng: np.random.Generator) -> None:
    problem = random_problem(rng, 60, band=0.0)
    L, names = problem.limits.exposures, problem.limits.names
    more = Limits(
        [*names, "net again", "nobody", "nobody either"],
        np.column_stack([L, np.ones(60), np.zeros(60), np.zeros(60)]),
        [*problem.limits.lower, -0.01, 0.0, -1.0],
        [*problem.limits.upper, 0.0, 0.0, 0.5],
    )
    plain, doubled = optimize(problem), optimize(problem.replace(limits=more))
    np.testing.assert_allclose(plain.weights, doubled.weights, atol=1e-6)
    assert plain.free_directions == doubled.free_directions
    with pytest.raises(InfeasibleMandate) as refused:
        optimize(problem.replace(limits=with_limits(more, [("nobody", 0.1, 0.2)])))
    assert refused.value.conflict == ("nobody",)
    assert refused.value.relaxation["nobody"] == pytest.approx(0.1, abs=1e-9)


def test_names_that_cannot_move_stay(rng: np.random.Generator) -> None:
    problem = random_problem(rng, 60, costs="impact", holdings=True)
    lower, upper = problem.lower.copy(), problem.upper.copy()
    lower[:8] = upper[:8] = problem.holdings[:8]
    solution = optimize(problem.replace(position_limit=(lower, upper)))
    np.testing.assert_allclose(solution.weights[:8], problem.holdings[:8], atol=1e-9)
    # Nothing can move at all: the book is what it is, and that is proven.
    still = problem.replace(position_limit=(np.zeros(60), np.zeros(60)), holdings=np.zeros(60))
    empty = optimize(still)
    np.testing.assert_allclose(empty.weights, 0.0, atol=1e-12)
    assert empty.free_directions == 0


def test_no_turnover_at_all_keeps_the_book(rng: np.random.Generator) -> None:
    problem = random_problem(rng, 40, costs="linear")
    solution = optimize(problem.replace(turnover_limit=0.0))
    np.testing.assert_allclose(solution.weights, 0.0, atol=1e-7)


def test_no_signal_is_no_book(rng: np.random.Generator) -> None:
    solution = optimize(random_problem(rng, 40, costs="impact").replace(alpha=np.zeros(40)))
    np.testing.assert_allclose(solution.weights, 0.0, atol=1e-7)
    assert solution.certificate.objective == pytest.approx(0.0, abs=1e-10)


def test_quadratic_program_goes_to_osqp_and_says_when_it_did_not_do(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    problem = random_problem(rng, 40, volatility_limit=None, costs="linear", holdings=True)
    first = optimize(problem)
    assert (first.method, first.fallback) == ("reference:osqp", "")
    monkeypatch.setattr(reference, "OSQP", reference.OSQP._replace(settings={"max_iter": 5}))
    second = optimize(problem)
    assert second.method == "reference:clarabel"
    assert second.fallback.startswith("osqp ended as user_limit")
    np.testing.assert_allclose(first.weights, second.weights, atol=1e-6)
    # An answer that the solver itself calls optimal, at a loose tolerance, does not pass the certificate.
    monkeypatch.setattr("engine.active_set.refine", lambda problem, weights, multipliers: (weights, multipliers))  # noqa: ARG005
    monkeypatch.setattr(reference, "OSQP", reference.OSQP._replace(settings={"eps_abs": 1e-2, "eps_rel": 1e-2}))
    third = optimize(problem)
    assert third.fallback.startswith("osqp ended as optimal, but its primal residual is")


def test_inaccurate_is_not_solved(rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    problem = random_problem(rng, 40)
    starved = tuple(attempt._replace(settings={"max_iter": 3}) for attempt in reference.CLARABEL)
    monkeypatch.setattr(reference, "CLARABEL", starved)
    with pytest.raises(SolverFailure, match="No proven solution: clarabel ended as user_limit"):
        optimize(problem)
    loose = tuple(
        attempt._replace(settings={"tol_gap_abs": 1e-2, "tol_gap_rel": 1e-2, "tol_feas": 1e-2}) for attempt in starved
    )
    monkeypatch.setattr(reference, "CLARABEL", loose)
    monkeypatch.setattr("engine.active_set.refine", lambda problem, weights, multipliers: (weights, multipliers))  # noqa: ARG005
    with pytest.raises(SolverFailure, match=r"ended as optimal, but its primal residual is .* where 1e-06 is allowed"):
        optimize(problem)


def test_prices_read_wrongly_are_not_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = busy()
    right = reference._prices

    def flipped(*arguments: Any) -> Any:
        theta = right(*arguments)
        return type(theta)(-theta.limits, theta.gross, theta.volatility, theta.turnover)

    monkeypatch.setattr(reference, "_prices", flipped)
    with pytest.raises(SolverFailure, match="gap"):
        optimize(problem)


def test_extra_constraint_and_objective_term(rng: np.random.Generator) -> None:
    problem = random_problem(rng, 40, holdings=True, costs="linear")
    plain = optimize(problem)
    best = int(np.argmax(plain.weights))

    capped = optimize(problem, extra=lambda w: w[best] <= 0.01)
    assert capped.weights[best] <= 0.01 + 1e-8
    assert capped.status is Status.SOLVED_UNPROVEN
    assert np.isnan(capped.certificate.gap)
    assert capped.certificate.primal_residual <= CERTIFIED
    # The same limit written as a bound, with a proof.
    upper = problem.upper.copy()
    upper[best] = 0.01
    np.testing.assert_allclose(
        capped.weights, optimize(problem.replace(position_limit=(problem.lower, upper))).weights, atol=1e-5
    )

    # A term: 3 w'Vw more is the same as risk aversion higher by 6, up to the volatility limit's price.
    d, F, X = problem.model.specific_variance, problem.model.factor_covariance, problem.model.exposures
    term = optimize(problem, extra=lambda w: -3 * (cp.quad_form(X.T @ w, cp.psd_wrap(F)) + d @ cp.square(w)))
    np.testing.assert_allclose(term.weights, optimize(problem.replace(risk_aversion=21.0)).weights, atol=1e-5)

    mixed = optimize(problem, extra=lambda w: [w[best] <= 0.01, -cp.norm1(w) * 0.01, cp.sum(w[:3]) == 0])
    assert abs(mixed.weights[:3].sum()) <= 1e-8
    assert mixed.weights[best] <= 0.01 + 1e-8
    assert mixed.gross < capped.gross
    unchanged = optimize(problem, extra=lambda _: [])
    np.testing.assert_allclose(unchanged.weights, plain.weights, atol=1e-6)
    assert unchanged.status is Status.SOLVED_UNPROVEN


def test_extra_that_cannot_be_used(rng: np.random.Generator) -> None:
    problem = random_problem(rng, 20)
    for wrong in (
        lambda w: cp.sum_squares(w),
        lambda w: w,
        lambda _: None,
        lambda w: [w[0] <= 1, 3],
        lambda w: cp.norm1(w) >= 1,
    ):
        with pytest.raises(DataError, match="`extra` must return"):
            optimize(problem, extra=wrong)
    with pytest.raises(InfeasibleMandate, match="written in `extra` conflict") as refused:
        optimize(problem, extra=lambda w: w[0] >= 0.5)
    assert refused.value.conflict == ("extra",)


def test_unknown_method_names_what_there_is(rng: np.random.Generator) -> None:
    with pytest.raises(DataError, match=r"`method` must be one of structured, reference; got 'magic'"):
        optimize_by(random_problem(rng, 20), method="magic")


def test_bad_problems_are_refused_with_their_name(rng: np.random.Generator) -> None:
    problem = random_problem(rng, 20)
    nan = problem.alpha.copy()
    nan[3] = np.nan
    wrong_order = pd.Series(problem.alpha, index=problem.model.assets[::-1])
    cases: list[tuple[dict[str, Any], str]] = [
        ({"alpha": nan}, r"`alpha` must be finite; got nan at position \(3,\)"),
        ({"alpha": problem.alpha[:-1]}, r"`alpha` must have shape \(20,\); got \(19,\)"),
        ({"alpha": wrong_order}, "`alpha` must have the model's assets as its index"),
        ({"alpha": ["high"] * 20}, "`alpha` must be numbers"),
        ({"position_limit": "2 %"}, "`position_limit` must be numbers"),
        ({"risk_aversion": 0.0}, "`risk_aversion` must be > 0; got 0.0"),
        ({"risk_aversion": np.inf}, "`risk_aversion` must be > 0"),
        ({"position_limit": -0.02}, "`position_limit` must be positive; got -0.02"),
        ({"position_limit": (np.full(20, 0.1), np.full(20, 0.0))}, "has lower 0.1 above upper 0"),
        ({"gross_limit": 0.0}, "`gross_limit` must be a positive finite number"),
        ({"volatility_limit": np.nan}, "`volatility_limit` must be a positive finite number"),
        ({"turnover_limit": -1.0}, "`turnover_limit` must be finite and >= 0"),
        ({"holdings": np.zeros(3)}, "`holdings` must have shape"),
        ({"costs": random_costs(rng, 19)}, "`costs` must hold 20 assets; got 19"),
        ({"limits": random_limits(rng, random_model(rng, 19, 2, 2, 2))}, "`limits.exposures` must have 20 rows"),
    ]
    for changes, message in cases:
        with pytest.raises(DataError, match=message):
            problem.replace(**changes)


@pytest.mark.parametrize("name", ["position", "gross", "volatility", "turnover", "position:A0001"])
def test_rows_may_not_take_the_name_of_another_limit(name: str) -> None:
    with pytest.raises(DataError, match=f"limit '{name}' must have another name"):
        Limits([name], np.ones((2, 1)), [0.0], [0.0])


@pytest.mark.parametrize(("lower", "upper", "side"), [(np.inf, np.inf, "lower"), (-np.inf, -np.inf, "upper")])
def test_bounds_that_nothing_meets_are_refused(lower: float, upper: float, side: str) -> None:
    with pytest.raises(DataError, match=f"`{side}` of limit 'net' is -?inf, which no portfolio meets"):
        Limits(["net"], np.ones((2, 1)), [lower], [upper])


def test_book_outside_its_bounds_is_brought_back(rng: np.random.Generator) -> None:
    problem = random_problem(rng, 40, costs="impact")
    h = random_book(rng, 2 * problem.lower, 2 * problem.upper)
    assert (np.abs(h) > problem.upper).any()
    solution = optimize(problem.replace(holdings=h))
    assert (np.abs(solution.weights) <= problem.upper + CERTIFIED).all()
