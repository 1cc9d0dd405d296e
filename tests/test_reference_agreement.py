"""Both optimizers against the same problem, dense, in a solver of another kind (sequential quadratic programming)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from problems import REGIMES, planned
from scipy.optimize import LinearConstraint, NonlinearConstraint, minimize

from engine import Problem, Status, TradeCosts, optimize
from engine.certificate import accepted
from engine.optimizer import METHODS


def slsqp(problem: Problem) -> np.ndarray:
    """The same problem, dense and in another solver: variables w, |w| and |w - h| stacked."""
    n = len(problem.alpha)
    V = problem.model.exposures @ problem.model.factor_covariance @ problem.model.exposures.T
    V += np.diag(problem.model.specific_variance)
    costs = problem.costs or TradeCosts(np.zeros(n), np.zeros(n), annualisation=1.0)

    def loss(z: np.ndarray) -> float:
        w, held, traded = z[:n], z[n : 2 * n], np.maximum(z[2 * n :], 0)
        paid = (
            costs.annualisation * (costs.linear @ traded + costs.impact @ traded**1.5) + costs.borrow @ (held - w) / 2
        )
        return float(-(problem.alpha @ w) + problem.risk_aversion / 2 * w @ V @ w + paid)

    def slope(z: np.ndarray) -> np.ndarray:
        w, traded = z[:n], np.maximum(z[2 * n :], 0)
        marginal = costs.annualisation * (costs.linear + 1.5 * costs.impact * np.sqrt(traded))
        return np.concatenate(
            [-problem.alpha + problem.risk_aversion * V @ w - costs.borrow / 2, costs.borrow / 2, marginal]
        )

    eye, none, ones = np.eye(n), np.zeros((n, n)), np.ones((1, n))
    h = problem.holdings
    rows = [
        np.hstack([-eye, eye, none]),
        np.hstack([eye, eye, none]),
        np.hstack([-eye, none, eye]),
        np.hstack([eye, none, eye]),
    ]
    lows = [np.zeros(n), np.zeros(n), -h, h]
    constraints: list[Any] = [LinearConstraint(np.vstack(rows), np.concatenate(lows), np.inf)]
    # SLSQP needs independent equalities: net = sum of countries = sum of sectors leaves two too many.
    Lt = np.hstack([problem.limits.exposures.T, np.zeros((len(problem.limits.names), 2 * n))])
    equal = problem.limits.lower == problem.limits.upper
    kept: list[int] = []
    for j in np.flatnonzero(equal):
        if np.linalg.matrix_rank(problem.limits.exposures[:, [*kept, j]]) > len(kept):
            kept.append(int(j))
    equal[:], dependent = False, equal.copy()
    equal[kept] = True
    for side in (equal, ~dependent):
        if side.any():
            constraints.append(LinearConstraint(Lt[side], problem.limits.lower[side], problem.limits.upper[side]))
    constraints.append(LinearConstraint(np.hstack([0 * ones, ones, 0 * ones]), -np.inf, problem.gross_limit))
    if problem.turnover_limit is not None:
        constraints.append(LinearConstraint(np.hstack([0 * ones, 0 * ones, ones]), -np.inf, 2 * problem.turnover_limit))
    if problem.volatility_limit is not None:
        v = problem.volatility_limit
        zero = np.zeros(2 * n)
        constraints.append(
            NonlinearConstraint(
                lambda z: z[:n] @ V @ z[:n] / v,
                -np.inf,
                v,
                jac=lambda z: np.concatenate([2 * V @ z[:n] / v, zero])[None],
            )
        )
    bounds = [*zip(problem.lower, problem.upper, strict=True), *[(0, None)] * (2 * n)]
    start = np.concatenate([np.zeros(n), np.full(n, 1e-3), np.abs(h) + 1e-3])
    result = minimize(
        loss,
        start,
        jac=slope,
        bounds=bounds,
        constraints=constraints,
        method="SLSQP",
        options={"ftol": 1e-13, "maxiter": 500},
    )
    return np.asarray(result.x[:n])


@pytest.mark.parametrize("regime", REGIMES)
@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("method", METHODS)
def test_agrees_with_another_solver(regime: str, seed: int, method: str) -> None:
    problem = planned(regime, 12, seed)
    ours, theirs = optimize(problem, method=method), slsqp(problem)
    assert ours.status is Status.SOLVED
    assert accepted(ours.certificate)
    assert problem.objective(theirs) <= ours.certificate.objective + 1e-7
    np.testing.assert_allclose(ours.weights, theirs, atol=2e-4)
    assert problem.objective(theirs) == pytest.approx(ours.certificate.objective, abs=1e-7)
