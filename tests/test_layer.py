from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from derivatives import dense_derivative
from problems import random_problem, with_limits

from engine.certificate import State, best_response, binds, factor_prices
from engine.layer import OptimizerLayer
from engine.optimizer import optimize
from engine.problem import Problem
from engine.solution import Solution, SolverFailure
from risk import DataError

PROBLEMS = {
    "equalities": {"band": 0.0},
    "bands": {"band": 0.02, "unequal": True},
    "linear costs": {"costs": "linear"},
    "impact": {"costs": "impact", "band": 0.0},
    "gross": {"gross_limit": 0.6},
    "gross and impact": {"gross_limit": 0.15, "costs": "impact", "signal": 0.06},
    "volatility": {"volatility_limit": 0.03, "band": 0.0},
    "volatility and impact": {"volatility_limit": 0.01, "costs": "impact", "unequal": True, "signal": 0.06},
    "turnover": {"holdings": True, "costs": "linear", "turnover_limit": 0.4, "gross_limit": 0.8},
    "all": {"holdings": True, "costs": "impact", "turnover_limit": 0.6, "unequal": True, "volatility_limit": 0.05},
    "few factors": {"volatility_limit": None, "rank": 3},
    "near a vertex": {"risk_aversion": 2.0},
}


@pytest.fixture(scope="module", params=PROBLEMS, ids=str)
def case(request: pytest.FixtureRequest) -> tuple[str, Problem, Solution, OptimizerLayer]:
    seed = 100 + list(PROBLEMS).index(request.param)
    problem = random_problem(np.random.default_rng(seed), **PROBLEMS[request.param])
    return request.param, problem, optimize(problem), OptimizerLayer(problem)


def gradient(layer: OptimizerLayer, alpha: np.ndarray, u: np.ndarray) -> np.ndarray:
    x = torch.tensor(alpha, requires_grad=True)
    (layer(x) @ torch.tensor(u)).backward()
    assert x.grad is not None
    return x.grad.numpy()


def test_weights_are_those_of_the_reference(case: tuple[str, Problem, Solution, OptimizerLayer]) -> None:
    _, problem, solution, layer = case
    plain = layer(torch.tensor(problem.alpha)).numpy()
    np.testing.assert_allclose(plain, solution.weights, rtol=0, atol=1e-6)
    differentiable = layer(torch.tensor(problem.alpha, requires_grad=True)).detach().numpy()
    np.testing.assert_allclose(differentiable, solution.weights, rtol=0, atol=1e-6)
    assert layer.free_directions.tolist() == [solution.free_directions]


def test_derivative_is_that_of_the_dense_optimality_system(
    case: tuple[str, Problem, Solution, OptimizerLayer],
) -> None:
    _, problem, solution, layer = case
    S = dense_derivative(problem, solution.weights, solution.multipliers)
    u = np.random.default_rng(0).standard_normal(len(problem.alpha))
    g = gradient(layer, problem.alpha, u)
    np.testing.assert_allclose(g, S @ u, rtol=0, atol=1e-4 * np.abs(S @ u).max())
    assert layer.derivative_residual[0] < 1e-4


def test_derivative_obeys_every_limit_that_binds(case: tuple[str, Problem, Solution, OptimizerLayer]) -> None:
    name, problem, solution, layer = case
    u = np.random.default_rng(1).standard_normal(len(problem.alpha))
    g = gradient(layer, problem.alpha, u)
    size = np.abs(g).sum()
    response = best_response(
        problem, factor_prices(problem, solution.weights, solution.multipliers), solution.multipliers
    )
    assert np.abs(g[response.states != State.FREE]).max(initial=0.0) < 1e-6 * size
    for j, limit in enumerate(problem.limits.names):
        if limit in solution.binding:
            row = problem.limits.exposures[:, j]
            assert abs(g @ row) < 1e-6 * size * np.abs(row).max(), limit
    rows = {
        "gross": np.sign(solution.weights),
        "volatility": problem.model.covariance_times(solution.weights) / 0.05,
        "turnover": np.sign(solution.weights - problem.holdings),
    }
    for limit, row in rows.items():
        if limit in solution.binding:
            assert abs(g @ row) < 1e-6 * size, limit
        if limit in name.split():  # the case is what its name says
            assert limit in solution.binding


def test_derivative_is_symmetric_and_positive() -> None:
    problem = random_problem(np.random.default_rng(3), 20, costs="impact", gross_limit=0.3)
    layer = OptimizerLayer(problem)
    x = torch.tensor(np.tile(problem.alpha, (20, 1)), requires_grad=True)
    layer(x).backward(torch.eye(20, dtype=torch.float64))
    assert x.grad is not None
    S = x.grad.numpy()
    np.testing.assert_allclose(S, S.T, rtol=0, atol=1e-6 * np.abs(S).max())
    assert np.linalg.eigvalsh((S + S.T) / 2)[0] > -1e-6 * np.abs(S).max()


def regime(layer: OptimizerLayer, alpha: np.ndarray) -> tuple[np.ndarray, dict[str, bool], np.ndarray]:
    """Return the names' states, the limits that bind, and the weights of a certified book."""
    (book,) = layer.solve(alpha[None], differentiable=True).books
    return book.response.states, binds(book.problem, book.weights, book.multipliers), book.weights


@pytest.mark.parametrize("name", ["equalities", "linear costs", "impact", "gross", "volatility", "turnover"])
def test_derivative_is_the_slope_of_weights(name: str) -> None:
    problem = random_problem(np.random.default_rng(17), **PROBLEMS[name])
    u, direction = np.random.default_rng(2).standard_normal((2, len(problem.alpha)))
    layer = OptimizerLayer(problem)
    here = regime(layer, problem.alpha)
    g = gradient(layer, problem.alpha, u)
    for step in (
        1e-2 * np.abs(problem.alpha).mean() / 2.0 ** np.arange(10)
    ):  # until below the nearest kink on both sides
        ends = np.stack([problem.alpha + step * direction, problem.alpha - step * direction])
        high, low = (regime(layer, end) for end in ends)
        if all((end[0] == here[0]).all() and end[1] == here[1] for end in (high, low)):
            break
    else:
        pytest.fail("the point lies at a kink; take another")
    # Weights are good to 1e-8; the smooth cases leave a third-order term.
    slope = float((high[2] - low[2]) @ u) / (2 * step)
    assert abs(g @ direction - slope) < 1e-8 * np.abs(u).sum() / step + 1e-3 * np.linalg.norm(g * direction)


@pytest.mark.parametrize("name", ["impact", "turnover"])
def test_a_batch_is_its_rows_whatever_the_threads(name: str) -> None:
    problem = random_problem(np.random.default_rng(23), **PROBLEMS[name])
    layer = OptimizerLayer(problem, jobs=2)
    rng = np.random.default_rng(4)
    alphas = problem.alpha * rng.uniform(0.5, 1.5, (3, len(problem.alpha)))
    u = rng.standard_normal(alphas.shape)
    x = torch.tensor(alphas, requires_grad=True)
    w = OptimizerLayer(problem, jobs=1)(x)
    (w * torch.tensor(u)).sum().backward()
    assert x.grad is not None
    for b in range(3):
        row = torch.tensor(alphas[b], requires_grad=True)
        single = layer(row)
        np.testing.assert_array_equal(single.detach().numpy(), w[b].detach().numpy())
        (single @ torch.tensor(u[b])).backward()
        assert row.grad is not None
        np.testing.assert_array_equal(row.grad.numpy(), x.grad[b].numpy())


def test_a_gradient_of_any_size_comes_through() -> None:
    problem = random_problem(np.random.default_rng(5), 30)
    layer = OptimizerLayer(problem)
    u = np.random.default_rng(6).standard_normal(30)
    g = gradient(layer, problem.alpha, u)
    np.testing.assert_allclose(gradient(layer, problem.alpha, 1e-12 * u), 1e-12 * g, rtol=0, atol=1e-18)
    assert (gradient(layer, problem.alpha, 0 * u) == 0).all()


def test_names_that_cannot_move_keep_their_weight() -> None:
    base = random_problem(np.random.default_rng(7), 40, costs="impact", holdings=True)
    lower, upper = base.lower.copy(), base.upper.copy()
    lower[:6] = upper[:6] = base.holdings[:6] * 0.9
    problem = Problem(
        base.alpha,
        base.model,
        base.limits,
        (lower, upper),
        base.gross_limit,
        base.volatility_limit,
        base.risk_aversion,
        base.holdings,
        base.costs,
    )
    solution, layer = optimize(problem), OptimizerLayer(problem)
    u = np.random.default_rng(8).standard_normal(40)
    np.testing.assert_allclose(layer(torch.tensor(problem.alpha)).numpy(), solution.weights, rtol=0, atol=1e-6)
    g = gradient(layer, problem.alpha, u)
    expected = dense_derivative(problem, solution.weights, solution.multipliers) @ u
    np.testing.assert_allclose(g, expected, rtol=0, atol=1e-4 * np.abs(expected).max())
    assert (g[:6] == 0).all()


def test_refuses_what_it_cannot_use() -> None:
    problem = random_problem(np.random.default_rng(9), 20)
    with pytest.raises(DataError, match="'moreau'; available: cvxpylayers"):
        OptimizerLayer(problem, backend="moreau")
    layer = OptimizerLayer(problem)
    for bad in (torch.zeros(20), torch.zeros(19, dtype=torch.float64), torch.zeros(1, 1, 20, dtype=torch.float64)):
        with pytest.raises(DataError, match="float64 of shape"):
            layer(bad)
    with pytest.raises(DataError, match="finite"):
        layer(torch.full((20,), torch.nan, dtype=torch.float64))
    closed = Problem(problem.alpha, problem.model, problem.limits, (np.zeros(20), np.zeros(20)), 1.0, None, 15.0)
    with pytest.raises(DataError, match="no name can move"):
        OptimizerLayer(closed)


def test_limits_that_cannot_all_hold_are_no_solution() -> None:
    problem = random_problem(np.random.default_rng(10), 30, band=0.0, countries=3)
    arguments = (0.04, problem.gross_limit, problem.volatility_limit, problem.risk_aversion)
    beyond = with_limits(problem.limits, [("style:0", 1e3, 2e3)])
    layer = OptimizerLayer(Problem(problem.alpha, problem.model, beyond, *arguments))
    with pytest.raises(SolverFailure, match=r"optimize\(problem\)"):
        layer(torch.tensor(problem.alpha))
    against = with_limits(problem.limits, [("country:0", 0.1, 0.1)])  # the countries add up to net = 0
    with pytest.raises(SolverFailure, match="contradicts"):
        OptimizerLayer(Problem(problem.alpha, problem.model, against, *arguments))


def test_a_wrong_derivative_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = random_problem(np.random.default_rng(11), 40, costs="impact", volatility_limit=0.02)
    layer = OptimizerLayer(problem)
    (book,) = layer.solve(problem.alpha[None], differentiable=True).books
    u, noise = np.random.default_rng(12).standard_normal((2, 40))
    g = dense_derivative(problem, book.weights, book.multipliers) @ u
    assert book.derivative_miss(u, g) < 1e-10
    assert book.derivative_miss(u, 1.05 * g) > 0.01
    assert book.derivative_miss(u, g + 0.3 * np.abs(g).max() * noise) > 0.01
    monkeypatch.setattr("engine.layer.DERIVATIVE_TOLERANCE", 0.0)
    with pytest.raises(SolverFailure, match="derivative of book 0"):
        gradient(layer, problem.alpha, u)


def test_importing_the_room_imports_no_heavy_library() -> None:
    code = "import sys, engine; print(sorted({'torch', 'cvxpy', 'cvxpylayers', 'diffcp'} & set(sys.modules)))"
    root = Path(__file__).resolve().parent.parent
    result = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
