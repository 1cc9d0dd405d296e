from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from derivatives import dense_derivative
from problems import random_problem, with_limits

from engine import structured
from engine.certificate import State, best_response, binds, factor_prices
from engine.layer import OptimizerLayer
from engine.optimizer import optimize
from engine.problem import Problem
from engine.solution import InfeasibleMandate, Solution, SolverFailure
from engine.structured import Optimum
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
# Of weights, of gradients against the dense oracle, and of what a limit leaves of a gradient.
# Clarabel ends a step earlier or later by its last bit, and LSMR's derivative is as good as its duals: mostly 1e-6, at worst 1e-4.
DIGITS = {"structured": (1e-9, 1e-8, 1e-8), "cvxpylayers": (1e-6, 5e-4, 1e-6)}

Case = tuple[str, Problem, Solution]


@pytest.fixture(scope="module", params=PROBLEMS, ids=str)
def case(request: pytest.FixtureRequest) -> Case:
    seed = 100 + list(PROBLEMS).index(request.param)
    problem = random_problem(np.random.default_rng(seed), **PROBLEMS[request.param])
    return request.param, problem, optimize(problem, method="reference")


@pytest.fixture(scope="module")
def layers(case: Case) -> dict[str, OptimizerLayer]:
    return {backend: OptimizerLayer(case[1], backend) for backend in DIGITS}


def tensor(value: object) -> torch.Tensor:
    return torch.tensor(value, dtype=torch.float64, requires_grad=True)


def gradient(layer: OptimizerLayer, alpha: np.ndarray, u: np.ndarray) -> np.ndarray:
    x = tensor(alpha)
    (layer(x) @ torch.tensor(u)).backward()
    assert x.grad is not None
    return x.grad.numpy()


@pytest.mark.parametrize("backend", DIGITS)
def test_weights_are_those_of_the_reference(case: Case, layers: dict[str, OptimizerLayer], backend: str) -> None:
    _, problem, solution = case
    layer, atol = layers[backend], DIGITS[backend][0]
    plain = layer(torch.tensor(problem.alpha)).numpy()
    np.testing.assert_allclose(plain, solution.weights, rtol=0, atol=atol)
    differentiable = layer(tensor(problem.alpha)).detach().numpy()
    np.testing.assert_allclose(differentiable, solution.weights, rtol=0, atol=atol)
    assert layer.free_directions.tolist() == [solution.free_directions]
    assert layer.fallbacks == {}


@pytest.mark.parametrize("backend", DIGITS)
def test_derivative_is_that_of_the_dense_optimality_system(
    case: Case, layers: dict[str, OptimizerLayer], backend: str
) -> None:
    _, problem, solution = case
    layer, digits = layers[backend], DIGITS[backend][1]
    S = dense_derivative(problem, solution.weights, solution.multipliers)
    u = np.random.default_rng(0).standard_normal(len(problem.alpha))
    g = gradient(layer, problem.alpha, u)
    np.testing.assert_allclose(g, S @ u, rtol=0, atol=digits * np.abs(S @ u).max())
    assert layer.derivative_residual[0] < digits


@pytest.mark.parametrize("backend", DIGITS)
def test_derivative_obeys_every_limit_that_binds(case: Case, layers: dict[str, OptimizerLayer], backend: str) -> None:
    name, problem, solution = case
    u = np.random.default_rng(1).standard_normal(len(problem.alpha))
    g = gradient(layers[backend], problem.alpha, u)
    size = DIGITS[backend][2] * np.abs(g).sum()
    response = best_response(
        problem, factor_prices(problem, solution.weights, solution.multipliers), solution.multipliers
    )
    assert np.abs(g[response.states != State.FREE]).max(initial=0.0) < size
    for j, limit in enumerate(problem.limits.names):
        if limit in solution.binding:
            row = problem.limits.exposures[:, j]
            assert abs(g @ row) < size * np.abs(row).max(), limit
    rows = {
        "gross": np.sign(solution.weights),
        "volatility": problem.model.covariance_times(solution.weights) / 0.05,
        "turnover": np.sign(solution.weights - problem.holdings),
    }
    for limit, row in rows.items():
        if limit in solution.binding:
            assert abs(g @ row) < size, limit
        if limit in name.split():  # the case is what its name says
            assert limit in solution.binding


@pytest.mark.parametrize("backend", DIGITS)
def test_derivative_is_symmetric_and_positive(backend: str) -> None:
    problem = random_problem(np.random.default_rng(3), 20, costs="impact", gross_limit=0.3)
    layer = OptimizerLayer(problem, backend)
    x = tensor(np.tile(problem.alpha, (20, 1)))
    layer(x).backward(torch.eye(20, dtype=torch.float64))
    assert x.grad is not None
    S, digits = x.grad.numpy(), {"structured": 1e-12, "cvxpylayers": 1e-6}[backend]
    np.testing.assert_allclose(S, S.T, rtol=0, atol=digits * np.abs(S).max())
    assert np.linalg.eigvalsh((S + S.T) / 2)[0] > -digits * np.abs(S).max()


@pytest.mark.parametrize("regime", ["volatility", "gross and impact"])
def test_both_backends_agree_on_larger_books(regime: str) -> None:
    problem = random_problem(np.random.default_rng(31), 200, **PROBLEMS[regime])
    u = np.random.default_rng(32).standard_normal(200)
    ours, theirs = (gradient(OptimizerLayer(problem, backend), problem.alpha, u) for backend in DIGITS)
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-4 * np.abs(ours).max())


def regime(layer: OptimizerLayer, alpha: np.ndarray) -> tuple[np.ndarray, dict[str, bool], np.ndarray]:
    """Return the names' states, the limits that bind, and the weights of a certified book."""
    (book,) = layer.solve({"alpha": alpha[None]}, differentiable=False).books
    response = best_response(
        book.problem, factor_prices(book.problem, book.weights, book.multipliers), book.multipliers
    )
    return response.states, binds(book.problem, book.weights, book.multipliers), book.weights


@pytest.mark.parametrize("backend", DIGITS)
@pytest.mark.parametrize("name", ["equalities", "linear costs", "impact", "gross", "volatility", "turnover"])
def test_derivative_is_the_slope_of_weights(name: str, backend: str) -> None:
    problem = random_problem(np.random.default_rng(17), **PROBLEMS[name])
    u, direction = np.random.default_rng(2).standard_normal((2, len(problem.alpha)))
    layer = OptimizerLayer(problem, backend)
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


def check_smooth(layer: OptimizerLayer) -> None:
    """Refuse a point where a derivative may not exist: redundant limits that hold, or a name close to a kink."""
    for book in layer.solve({"alpha": layer.problem.alpha[None]}, differentiable=True).books:
        assert book.derivative.rank == book.derivative.active.sum()
        assert optimize(book.problem).near_kink == 0
        assert book.derivative.free_directions > 0


# Of random_problem with 14 names, and the seed of a point that `check_smooth` admits.
SMOOTH = {
    "gross": ({"gross_limit": 0.3, "position_limit": 0.2}, 5),
    "volatility": ({"volatility_limit": 0.02, "position_limit": 0.2, "gross_limit": 5.0}, 5),
    "caps": ({"position_limit": 0.02}, 6),
    "impact": ({"costs": "impact", "holdings": True, "signal": 0.1, "position_limit": 0.1}, 3),
    "turnover": (
        {"costs": "linear", "holdings": True, "turnover_limit": 1.0, "position_limit": 0.1, "signal": 0.1},
        3,
    ),
    "turnover, impact and volatility": (
        {
            "costs": "impact",
            "holdings": True,
            "turnover_limit": 1.2,
            "position_limit": 0.1,
            "signal": 0.1,
            "volatility_limit": 0.02,
        },
        1,
    ),
}


def smooth_problem(name: str) -> Problem:
    arguments, seed = SMOOTH[name]
    rng = np.random.default_rng(seed)
    problem = random_problem(rng, 14, countries=3, sectors=3, styles=1, **arguments)
    # A name without a holding that stays at 0 lies at two kinks at once.
    h = np.where(problem.holdings == 0, 0.01 * rng.standard_normal(14), problem.holdings)
    return problem.replace(holdings=h) if problem.costs is not None else problem


@pytest.mark.parametrize("name", SMOOTH)
def test_gradients_of_all_inputs_are_those_of_finite_differences(name: str) -> None:
    problem = smooth_problem(name)
    layer = OptimizerLayer(problem, jobs=1)
    check_smooth(layer)
    limits = problem.limits
    band = torch.tensor(limits.lower < limits.upper)
    given = {
        "risk_aversion": problem.risk_aversion,
        "gross_limit": problem.gross_limit,
        "volatility_limit": problem.volatility_limit,
        "turnover_limit": problem.turnover_limit,
        "position_limit": problem.upper,
        "holdings": problem.holdings,
    }
    inputs = {key: tensor(value) for key, value in given.items() if value is not None}

    def weights(alpha: torch.Tensor, middle: torch.Tensor, width: torch.Tensor, *rest: torch.Tensor) -> torch.Tensor:
        half = torch.where(band, width, 0.0) / 2  # equalities stay what they are: their bounds move as one
        bounds = {"limit_lower": middle - half, "limit_upper": middle + half}
        return layer(alpha, **bounds, **dict(zip(inputs, rest, strict=True)))

    at = (problem.alpha, (limits.lower + limits.upper) / 2, limits.upper - limits.lower)
    assert torch.autograd.gradcheck(
        weights, (*map(tensor, at), *inputs.values()), eps=1e-6, atol=1e-6, rtol=1e-4, raise_exception=True
    )


def test_a_batch_of_every_input_passes_gradcheck() -> None:
    problem = smooth_problem("gross")
    layer = OptimizerLayer(problem, jobs=2)
    check_smooth(layer)
    alphas = tensor(np.stack([problem.alpha, 0.99 * problem.alpha]))

    def weights(alpha: torch.Tensor, aversion: torch.Tensor, gross: torch.Tensor) -> torch.Tensor:
        return layer(alpha, risk_aversion=aversion, gross_limit=gross)

    inputs = (alphas, tensor(problem.risk_aversion), tensor([0.3, 0.28]))
    assert torch.autograd.gradcheck(weights, inputs, eps=1e-6, atol=1e-6, rtol=1e-4)


def test_what_is_given_replaces_the_problems_own() -> None:
    problem = random_problem(np.random.default_rng(40), 40, holdings=True, costs="linear", turnover_limit=1.0)
    h = np.random.default_rng(41).uniform(-0.02, 0.02, 40)
    wide = problem.limits.upper + 0.01
    given = {
        "risk_aversion": 20.0,
        "gross_limit": 0.7,
        "volatility_limit": 0.05,
        "turnover_limit": 0.5,
        "position_limit": 0.03,
        "holdings": h,
    }
    layer = OptimizerLayer(problem)
    inputs = {name: torch.tensor(value, dtype=torch.float64) for name, value in given.items()}
    w = layer(torch.tensor(problem.alpha), **inputs, limit_upper=torch.tensor(wide)).numpy()
    moved = problem.limits
    changed = with_limits(moved, list(zip(moved.names, moved.lower, wide, strict=True)))
    expected = optimize(problem.replace(**given, limits=changed)).weights
    np.testing.assert_allclose(w, expected, rtol=0, atol=1e-10)
    assert np.abs(w - optimize(problem).weights).max() > 1e-3


def test_a_shared_value_receives_the_sum_of_its_books() -> None:
    problem = random_problem(np.random.default_rng(42), 30, gross_limit=0.5)
    layer = OptimizerLayer(problem)
    alphas = problem.alpha * np.array([[1.0], [0.8], [1.3]])
    u = torch.tensor(np.random.default_rng(43).standard_normal((3, 30)))
    shared, caps = tensor(0.4), tensor(problem.upper)
    (layer(torch.tensor(alphas), gross_limit=shared, position_limit=caps) * u).sum().backward()
    each, rows = tensor([0.4] * 3), tensor(np.tile(problem.upper, (3, 1)))
    (layer(torch.tensor(alphas), gross_limit=each, position_limit=rows) * u).sum().backward()
    assert shared.grad is not None
    assert caps.grad is not None
    assert each.grad is not None
    assert rows.grad is not None
    assert (each.grad != 0).all()
    torch.testing.assert_close(shared.grad, each.grad.sum(), rtol=1e-12, atol=0)
    torch.testing.assert_close(caps.grad, rows.grad.sum(dim=0), rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("backend", DIGITS)
@pytest.mark.parametrize("name", ["impact", "turnover"])
def test_a_batch_is_its_rows_whatever_the_threads(name: str, backend: str) -> None:
    problem = random_problem(np.random.default_rng(23), **PROBLEMS[name])
    layer = OptimizerLayer(problem, backend, jobs=2)
    rng = np.random.default_rng(4)
    alphas = problem.alpha * rng.uniform(0.5, 1.5, (3, len(problem.alpha)))
    u = rng.standard_normal(alphas.shape)
    x = tensor(alphas)
    w = OptimizerLayer(problem, backend, jobs=1)(x)
    (w * torch.tensor(u)).sum().backward()
    assert x.grad is not None
    for b in reversed(range(3)):
        row = tensor(alphas[b])
        single = layer(row)
        np.testing.assert_array_equal(single.detach().numpy(), w[b].detach().numpy())
        (single @ torch.tensor(u[b])).backward()
        assert row.grad is not None
        np.testing.assert_array_equal(row.grad.numpy(), x.grad[b].numpy())


def test_threads_and_order_change_no_bit_of_a_large_batch() -> None:
    problem = random_problem(np.random.default_rng(24), 300, gross_limit=1.0, volatility_limit=0.04)
    alphas = problem.alpha * np.random.default_rng(25).uniform(0.2, 1.8, (8, 300))
    u = np.random.default_rng(26).standard_normal((8, 300))
    found = []
    for jobs, order in ((1, np.arange(8)), (2, np.arange(8)), (2, np.array([5, 2, 7, 0, 1, 6, 4, 3]))):
        x, gross = tensor(alphas[order]), tensor([1.0] * 8)
        w = OptimizerLayer(problem, jobs=jobs)(x, gross_limit=gross)
        w.backward(torch.tensor(u[order]))
        assert x.grad is not None
        assert gross.grad is not None
        back = np.argsort(order)
        found.append((w.detach().numpy()[back], x.grad.numpy()[back], gross.grad.numpy()[back]))
    for other in found[1:]:
        for one, same in zip(found[0], other, strict=True):
            np.testing.assert_array_equal(one, same)


@pytest.mark.parametrize("backend", DIGITS)
def test_a_gradient_of_any_size_comes_through(backend: str) -> None:
    problem = random_problem(np.random.default_rng(5), 30)
    layer = OptimizerLayer(problem, backend)
    u = np.random.default_rng(6).standard_normal(30)
    g = gradient(layer, problem.alpha, u)
    np.testing.assert_allclose(gradient(layer, problem.alpha, 1e-12 * u), 1e-12 * g, rtol=0, atol=1e-18)
    assert (gradient(layer, problem.alpha, 0 * u) == 0).all()


def test_what_happens_to_alpha_after_the_solve_does_not_matter() -> None:
    problem = random_problem(np.random.default_rng(44), 30, costs="impact", holdings=True)
    layer, u = OptimizerLayer(problem), np.random.default_rng(45).standard_normal(30)
    expected = gradient(layer, problem.alpha, u)
    x, h = tensor(problem.alpha), tensor(problem.holdings)
    w = layer(x, holdings=h)
    with torch.no_grad():
        x.mul_(-3.0)
        h.zero_()
    layer(torch.tensor(2 * problem.alpha))
    (w @ torch.tensor(u)).backward()
    assert x.grad is not None
    np.testing.assert_array_equal(x.grad.numpy(), expected)


@pytest.mark.parametrize("backend", DIGITS)
def test_names_that_cannot_move_keep_their_weight(backend: str) -> None:
    base = random_problem(np.random.default_rng(7), 40, costs="impact", holdings=True)
    lower, upper = base.lower.copy(), base.upper.copy()
    lower[:6] = upper[:6] = base.holdings[:6] * 0.9
    problem = base.replace(position_limit=(lower, upper))
    solution, layer = optimize(problem), OptimizerLayer(problem, backend)
    u = np.random.default_rng(8).standard_normal(40)
    np.testing.assert_allclose(layer(torch.tensor(problem.alpha)).numpy(), solution.weights, rtol=0, atol=1e-6)
    g = gradient(layer, problem.alpha, u)
    expected = dense_derivative(problem, solution.weights, solution.multipliers) @ u
    np.testing.assert_allclose(g, expected, rtol=0, atol=DIGITS[backend][1] * np.abs(expected).max())
    assert (g[:6] == 0).all()


def test_a_book_that_cannot_answer_has_no_derivative() -> None:
    problem = random_problem(np.random.default_rng(46), 20)
    layer = OptimizerLayer(problem.replace(position_limit=(np.zeros(20), np.zeros(20))))
    assert (gradient(layer, problem.alpha, np.ones(20)) == 0).all()
    assert layer.free_directions.tolist() == [0]
    assert layer.derivative_residual.tolist() == [0.0]


@pytest.mark.parametrize("backend", DIGITS)
def test_an_empty_batch_is_an_empty_answer(backend: str) -> None:
    problem = random_problem(np.random.default_rng(47), 20)
    x, gross = tensor(np.zeros((0, 20))), tensor(2.0)
    layer = OptimizerLayer(problem, backend)
    w = layer(x) if backend == "cvxpylayers" else layer(x, gross_limit=gross)
    w.sum().backward()
    assert w.shape == (0, 20)
    assert x.grad is not None
    assert x.grad.shape == (0, 20)


def test_no_derivative_is_made_where_none_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = random_problem(np.random.default_rng(48), 20)
    layer = OptimizerLayer(problem)

    def refused(*_: object, **__: object) -> None:
        raise AssertionError("a derivative was made")

    monkeypatch.setattr("engine.batch.Derivative", refused)
    assert not layer(torch.tensor(problem.alpha)).requires_grad
    with torch.no_grad():
        assert not layer(tensor(problem.alpha)).requires_grad


def test_double_backward_is_refused() -> None:
    problem = random_problem(np.random.default_rng(49), 20)
    x = tensor(problem.alpha)
    (g,) = torch.autograd.grad(OptimizerLayer(problem)(x).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        g.sum().backward()


def test_refuses_what_it_cannot_use() -> None:
    problem = random_problem(np.random.default_rng(9), 20)
    with pytest.raises(DataError, match="'moreau'; available: structured, cvxpylayers"):
        OptimizerLayer(problem, backend="moreau")
    with pytest.raises(DataError, match="`jobs` must be at least 1"):
        OptimizerLayer(problem, jobs=0)
    closed = problem.replace(position_limit=(np.zeros(20), np.zeros(20)))
    with pytest.raises(DataError, match="no name can move"):
        OptimizerLayer(closed, "cvxpylayers")
    layer = OptimizerLayer(problem)
    for bad in (torch.zeros(20), torch.zeros(19, dtype=torch.float64), torch.zeros(1, 1, 20, dtype=torch.float64)):
        with pytest.raises(DataError, match="`alpha` must be float64 of shape"):
            layer(bad)
    with pytest.raises(DataError, match="main memory; got meta"):
        layer(torch.zeros(20, dtype=torch.float64, device="meta"))
    with pytest.raises(DataError, match="`alpha` must be finite"):
        layer(torch.full((20,), torch.nan, dtype=torch.float64))


def test_refuses_settings_it_cannot_use() -> None:
    problem = random_problem(np.random.default_rng(9), 20)
    layer, alphas = OptimizerLayer(problem), torch.tensor(np.tile(problem.alpha, (2, 1)))
    refusals: list[tuple[dict[str, torch.Tensor], str]] = [
        ({"gross_limit": torch.tensor(2.0)}, "`gross_limit` must be float64"),
        ({"gross_limit": tensor([2.0, 2.0, 2.0])}, "`gross_limit` must be float64 of shape"),
        ({"holdings": tensor(np.zeros(19))}, "`holdings` must be float64 of shape"),
        ({"risk_aversion": tensor(0.0)}, "`risk_aversion` must be > 0"),
        ({"position_limit": tensor(-0.1)}, "`position_limit` must be positive"),
        ({"limit_lower": tensor(problem.limits.upper + 1)}, "above upper"),
    ]
    for given, message in refusals:
        with pytest.raises(DataError, match=message):
            layer(alphas, **given)
    with pytest.raises(DataError, match="takes alpha alone"):
        OptimizerLayer(problem, "cvxpylayers")(alphas, gross_limit=tensor(2.0))


def test_limits_that_cannot_all_hold_are_no_solution() -> None:
    problem = random_problem(np.random.default_rng(10), 30, band=0.0, countries=3)
    beyond = problem.replace(limits=with_limits(problem.limits, [("style:0", 1e3, 2e3)]))
    with pytest.raises(InfeasibleMandate, match="style:0") as refused:
        OptimizerLayer(beyond)(torch.tensor(np.tile(problem.alpha, (2, 1))))
    assert refused.value.__notes__ == ["This is book 0 of the batch."]
    with pytest.raises(SolverFailure, match=r"optimize\(problem\)"):
        OptimizerLayer(beyond, "cvxpylayers")(torch.tensor(problem.alpha))
    against = with_limits(problem.limits, [("country:0", 0.1, 0.1)])  # the countries add up to net = 0
    with pytest.raises(SolverFailure, match="contradicts"):
        OptimizerLayer(problem.replace(limits=against), "cvxpylayers")


def test_a_base_without_a_solution_stops_no_book_that_has_one() -> None:
    problem = random_problem(np.random.default_rng(44), 30)
    beyond = problem.replace(limits=with_limits(problem.limits, [("style:0", 1e3, 2e3)]))
    lower, upper = torch.tensor(problem.limits.lower), torch.tensor(problem.limits.upper)
    w = OptimizerLayer(beyond)(torch.tensor(problem.alpha), limit_lower=lower, limit_upper=upper)
    np.testing.assert_allclose(w.numpy(), optimize(problem).weights, rtol=0, atol=1e-10)


def stalled(solve: Callable[..., Optimum]) -> Callable[..., Optimum]:
    """Return the solver as it would end had its steps led nowhere."""

    def ended(problem: Problem, **options: object) -> Optimum:
        found = solve(problem, **options)
        return replace(found, steps=150, converged=False)

    return ended


def test_a_solve_that_stalls_is_made_again_and_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = random_problem(np.random.default_rng(51), 30, costs="impact", gross_limit=0.3)
    u = np.random.default_rng(52).standard_normal(30)
    expected, g = optimize(problem).weights, gradient(OptimizerLayer(problem), problem.alpha, u)
    solve = structured.solve
    monkeypatch.setattr("engine.batch.structured", SimpleNamespace(solve=stalled(solve)))
    layer = OptimizerLayer(problem)
    np.testing.assert_allclose(gradient(layer, problem.alpha, u), g, rtol=0, atol=1e-9 * np.abs(g).max())
    assert list(layer.fallbacks) == [0]
    assert layer.fallbacks[0].startswith("from the base solution 150 steps left")
    assert layer.fallbacks[0].endswith("solved from the empty book")
    monkeypatch.setattr("engine.structured.solve", stalled(solve))
    layer = OptimizerLayer(problem)
    np.testing.assert_allclose(layer(torch.tensor(problem.alpha)).numpy(), expected, rtol=0, atol=1e-9)
    np.testing.assert_allclose(gradient(layer, problem.alpha, u), g, rtol=0, atol=1e-8 * np.abs(g).max())
    assert "structured ended after 150 steps" in layer.fallbacks[0]


@pytest.mark.parametrize("backend", DIGITS)
def test_a_wrong_derivative_is_found_out(monkeypatch: pytest.MonkeyPatch, backend: str) -> None:
    problem = random_problem(np.random.default_rng(11), 40, costs="impact", volatility_limit=0.02)
    layer = OptimizerLayer(problem, backend)
    (book,) = layer.solve({"alpha": problem.alpha[None]}, differentiable=True).books
    u, noise = np.random.default_rng(12).standard_normal((2, 40))
    g = dense_derivative(problem, book.weights, book.multipliers) @ u
    assert book.derivative.miss(u, g) < 1e-10
    assert book.derivative.miss(u, 1.05 * g) > 0.01
    assert book.derivative.miss(u, g + 0.3 * np.abs(g).max() * noise) > 0.01
    monkeypatch.setattr("engine.batch.DERIVATIVE_TOLERANCE", -1.0)
    with pytest.raises(SolverFailure, match="derivative of book 0"):
        gradient(layer, problem.alpha, u)


def test_a_fixed_signal_and_a_learned_limit_meet_a_wanted_risk() -> None:
    problem = random_problem(np.random.default_rng(53), 60)
    layer, alpha = OptimizerLayer(problem), torch.tensor(problem.alpha)
    aversion, V = tensor(15.0), problem.model
    root = np.linalg.cholesky(V.exposures @ V.factor_covariance @ V.exposures.T + np.diag(V.specific_variance))
    wanted = 0.9 * optimize(problem).volatility
    for _ in range(20):  # Newton on one number
        volatility = torch.linalg.vector_norm(torch.tensor(root).T @ layer(alpha, risk_aversion=aversion))
        (slope,) = torch.autograd.grad(volatility, aversion)
        aversion = (aversion - (volatility - wanted) / slope).detach().requires_grad_()
    assert abs(float(volatility.detach()) - wanted) < 1e-9


def test_importing_the_room_imports_no_heavy_library() -> None:
    code = "import sys, engine; print(sorted({'torch', 'cvxpy', 'cvxpylayers', 'diffcp'} & set(sys.modules)))"
    root = Path(__file__).resolve().parent.parent
    result = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
