from __future__ import annotations

import warnings
from collections.abc import Iterator

import cvxpy as cp
import numpy as np
import pytest
import torch
from cvxpylayers.torch import CvxpyLayer
from problems import random_problem, with_limits

from engine import OptimizerLayer, cvxpy_program, optimize, solver_interface
from engine.problem import Problem
from engine.solution import InfeasibleMandate
from risk import DataError

OPTIONS = {"solve_method": "Clarabel", "mode": "lsmr", "tol_gap_abs": 1e-10, "tol_gap_rel": 1e-10, "tol_feas": 1e-10}

PROBLEMS = {
    "gross": {"gross_limit": 0.6},
    "volatility": {"volatility_limit": 0.03, "band": 0.0},
    "costs and turnover": {"holdings": True, "costs": "linear", "turnover_limit": 0.4},
    "impact and closed names": {"costs": "impact", "unequal": True},
}


@pytest.fixture(params=PROBLEMS, ids=str)
def problem(request: pytest.FixtureRequest) -> Problem:
    return random_problem(
        np.random.default_rng(60 + list(PROBLEMS).index(request.param)), 40, **PROBLEMS[request.param]
    )


@pytest.fixture
def quiet() -> Iterator[None]:
    """cvxpylayers calls np.array on tensors, which NumPy 2 deprecates."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="__array__ implementation", category=DeprecationWarning)
        yield


def pulled(weights: torch.Tensor, signal: torch.Tensor, u: np.ndarray) -> np.ndarray:
    (g,) = torch.autograd.grad(weights, signal, torch.from_numpy(u))
    return g.numpy()


def signals(problem: Problem, count: int) -> torch.Tensor:
    scales = np.random.default_rng(1).uniform(0.7, 1.3, (count, len(problem.alpha)))
    return torch.tensor(problem.alpha * scales, requires_grad=True)


def test_the_interface_gives_what_the_layer_gives(problem: Problem) -> None:
    program, alpha, weights = cvxpy_program(problem)
    adapted = CvxpyLayer(program, [alpha], [weights], solver=solver_interface(problem))
    layer, x = OptimizerLayer(problem), signals(problem, 3)
    u = np.random.default_rng(2).standard_normal(x.shape)
    (w,) = adapted(x)
    own = layer(x)
    assert w.shape == x.shape
    np.testing.assert_allclose(w.detach(), own.detach(), rtol=0, atol=1e-14)
    g = pulled(own, x, u)
    np.testing.assert_allclose(pulled(w, x, u), g, rtol=0, atol=1e-12 * np.abs(g).max())
    for b in range(3):  # one signal without a batch axis
        row = x[b].detach().requires_grad_()
        (single,) = adapted(row)
        assert single.shape == row.shape
        np.testing.assert_array_equal(single.detach(), w[b].detach())
        np.testing.assert_allclose(pulled(single, row, u[b]), g[b], rtol=0, atol=1e-12 * np.abs(g).max())


@pytest.mark.usefixtures("quiet")
def test_the_interface_agrees_with_cvxpylayers_own_solver(problem: Problem) -> None:
    program, alpha, weights = cvxpy_program(problem)
    x = signals(problem, 1)[0].detach().requires_grad_()
    u = np.random.default_rng(3).standard_normal(len(x))
    (theirs,) = CvxpyLayer(program, [alpha], [weights])(x, solver_args=OPTIONS)
    (ours,) = CvxpyLayer(program, [alpha], [weights], solver=solver_interface(problem))(x)
    np.testing.assert_allclose(ours.detach(), theirs.detach(), rtol=0, atol=1e-5)
    if problem.costs is not None and problem.costs.impact.any():
        return  # an impact cost in cones has no derivative at names that do not trade: see cvxpy_program
    g = pulled(ours, x, u)
    np.testing.assert_allclose(pulled(theirs, x, u), g, rtol=0, atol=1e-3 * np.abs(g).max())


def test_a_program_in_the_users_own_words_is_served() -> None:
    problem = random_problem(np.random.default_rng(70), 30, gross_limit=0.5)
    model, limits = problem.model, problem.limits
    V = model.exposures @ model.factor_covariance @ model.exposures.T + np.diag(model.specific_variance)
    w, alpha = cp.Variable(30), cp.Parameter(30)
    y = limits.exposures.T @ w
    cost = problem.risk_aversion / 2 * cp.quad_form(w, cp.psd_wrap(V)) - alpha @ w
    constraints = [y <= limits.upper, y >= limits.lower, cp.abs(w) <= problem.upper, cp.norm1(w) <= 0.5]
    constraints.append(cp.quad_form(w, cp.psd_wrap(V)) <= problem.volatility_limit**2)
    program = cp.Problem(cp.Minimize(252 * cost), constraints)  # another unit, another sign, other variables
    adapted = CvxpyLayer(program, [alpha], [w], solver=solver_interface(problem))
    layer, x = OptimizerLayer(problem), signals(problem, 2)
    u = np.random.default_rng(4).standard_normal(x.shape)
    own, g = layer(x), pulled(layer(x), x, u)
    np.testing.assert_allclose(adapted(x)[0].detach(), own.detach(), rtol=0, atol=1e-12)
    np.testing.assert_allclose(pulled(adapted(x)[0], x, u), g, rtol=0, atol=1e-10 * np.abs(g).max())
    assert alpha.value is None


def test_without_a_gradient_none_is_prepared() -> None:
    problem = random_problem(np.random.default_rng(71), 30)
    program, alpha, weights = cvxpy_program(problem)
    adapted = CvxpyLayer(program, [alpha], [weights], solver=solver_interface(problem))
    with torch.no_grad():
        (w,) = adapted(torch.tensor(problem.alpha))
    assert not w.requires_grad
    np.testing.assert_allclose(w, optimize(problem).weights, rtol=0, atol=1e-10)


def test_a_program_of_another_problem_is_refused() -> None:
    problem = random_problem(np.random.default_rng(72), 30, gross_limit=0.5)
    for other in (problem.replace(gross_limit=0.45), problem.replace(risk_aversion=15.5)):
        program, alpha, weights = cvxpy_program(other)
        with pytest.raises(DataError, match="states another problem"):
            CvxpyLayer(program, [alpha], [weights], solver=solver_interface(problem))
    program, alpha, weights = cvxpy_program(problem, extra=lambda w: [cp.sum(w) >= 1])
    with pytest.raises(DataError, match="ends the program as infeasible"):
        CvxpyLayer(program, [alpha], [weights], solver=solver_interface(problem))
    program, alpha, weights = cvxpy_program(problem)
    with pytest.raises(DataError, match="empty book"):
        CvxpyLayer(program, [alpha], [weights], solver=solver_interface(problem.replace(alpha=np.zeros(30))))


def test_a_program_of_another_shape_is_refused() -> None:
    problem = random_problem(np.random.default_rng(73), 20)
    program, alpha, weights = cvxpy_program(problem)
    slack = cp.Parameter(nonneg=True, value=0.5)
    with_two = cp.Problem(program.objective, [*program.constraints, cp.norm1(weights) <= slack])
    with pytest.raises(DataError, match=r"one parameter, alpha of shape \(20,\)"):
        CvxpyLayer(with_two, [alpha, slack], [weights], solver=solver_interface(problem))
    with pytest.raises(DataError, match="return one variable"):
        CvxpyLayer(program, [alpha], [weights, weights], solver=solver_interface(problem))
    priced = program.constraints[-1].dual_variables[0]
    with pytest.raises(DataError, match="return one variable"):
        CvxpyLayer(program, [alpha], [priced], solver=solver_interface(problem))
    for elsewhere in ([weights[0] <= 1 + alpha[0]], [alpha[0] * weights[0] <= 1]):
        changed = cp.Problem(program.objective, [*program.constraints, *elsewhere])
        with pytest.raises(DataError, match="alone, as alpha'w"):
            CvxpyLayer(changed, [alpha], [weights], solver=solver_interface(problem))
    partly = cp.Problem(cp.Maximize(alpha[:-1] @ weights[:-1] + 0 * alpha[-1]), program.constraints)
    with pytest.raises(DataError, match="alone, as alpha'w"):
        CvxpyLayer(partly, [alpha], [weights], solver=solver_interface(problem))


def test_a_call_it_cannot_serve_is_refused() -> None:
    problem = random_problem(np.random.default_rng(74), 20)
    program, alpha, weights = cvxpy_program(problem)
    adapted = CvxpyLayer(program, [alpha], [weights], solver=solver_interface(problem))
    with pytest.raises(DataError, match="no options; got solver_args"):
        adapted(torch.tensor(problem.alpha), solver_args={"eps": 1e-3})
    with pytest.raises(DataError, match="must be float64; got float32"):
        adapted(torch.tensor(problem.alpha).float())


def test_limits_in_conflict_are_named_through_the_interface() -> None:
    problem = random_problem(np.random.default_rng(44), 30)
    beyond = problem.replace(limits=with_limits(problem.limits, [("style:0", 1e3, 2e3)]))
    with pytest.raises(InfeasibleMandate, match="style:0"):
        OptimizerLayer(beyond)(torch.tensor(problem.alpha))
    program, alpha, weights = cvxpy_program(beyond)
    with pytest.raises(DataError, match="ends the program as infeasible"):
        CvxpyLayer(program, [alpha], [weights], solver=solver_interface(beyond))


@pytest.mark.usefixtures("quiet")
def test_terms_of_ones_own_are_differentiated_by_cvxpylayers() -> None:
    problem = random_problem(np.random.default_rng(75), 30)
    free = optimize(problem).weights
    pair = np.zeros(30)
    pair[np.argsort(-free)[:2]] = 1.0
    allowed = 0.5 * float(pair @ free)

    def extra(w: cp.Variable) -> list[object]:
        return [pair @ w <= allowed, -0.5 * cp.sum_squares(w)]

    program, alpha, weights = cvxpy_program(problem, extra)
    layer = CvxpyLayer(program, [alpha], [weights])
    x = torch.tensor(problem.alpha, requires_grad=True)
    (w,) = layer(x, solver_args=OPTIONS)
    np.testing.assert_allclose(w.detach(), optimize(problem, extra=extra).weights, rtol=0, atol=1e-5)
    u = np.random.default_rng(5).standard_normal(30)
    g = pulled(w, x, u)
    assert float(pair @ w.detach().numpy()) == pytest.approx(allowed, abs=1e-7)
    assert abs(g @ pair) < 1e-3 * np.abs(g).max()
    assert abs(g.sum()) < 1e-3 * np.abs(g).max()


def test_the_program_starts_at_the_problems_alpha() -> None:
    problem = random_problem(np.random.default_rng(76), 30, costs="impact", holdings=True)
    program, alpha, weights = cvxpy_program(problem)
    assert program.is_dpp()
    np.testing.assert_array_equal(alpha.value, problem.alpha)
    program.solve(solver=cp.CLARABEL)
    assert program.value == pytest.approx(optimize(problem).certificate.objective, abs=1e-7)
    np.testing.assert_allclose(weights.value, optimize(problem).weights, rtol=0, atol=1e-5)
