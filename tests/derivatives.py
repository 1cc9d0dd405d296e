"""The derivative of the weights by the dense reduced optimality system: slow, direct, and free of any iteration."""

from __future__ import annotations

import numpy as np

from engine.certificate import State, best_response, binds, factor_prices
from engine.problem import Problem
from engine.solution import Multipliers


def dense_derivative(problem: Problem, weights: np.ndarray, multipliers: Multipliers) -> np.ndarray:
    """Return S = dw/dalpha, (N, N), from [gamma V_ff + A cost''  A_f'; A_f  0] [m; .] = [u_f; 0].

    A_f holds, on the free names, the limits that bind, sign(w) if gross does, (Vw)' if volatility does, sign(w - h) if
    turnover does. Rows may be redundant: the system is solved in the null space of A_f.
    """
    w, theta = np.asarray(weights, dtype=float), multipliers
    model, costs, limits = problem.model, problem.costs, problem.limits
    V = model.exposures @ model.factor_covariance @ model.exposures.T + np.diag(model.specific_variance)
    hessian = (problem.risk_aversion + theta.volatility) * V
    response = best_response(problem, factor_prices(problem, w, theta), theta)
    free = response.states == State.FREE
    if costs is not None:
        u = np.where(free, np.abs(response.weights - problem.holdings), 1.0)
        hessian = hessian + np.diag(0.75 * costs.annualisation * costs.impact / np.sqrt(u))
    active = binds(problem, w, theta)
    rows = [limits.exposures[:, [active[name] for name in limits.names]]]
    extra = {"gross": np.sign(w), "volatility": V @ w, "turnover": np.sign(w - problem.holdings)}
    rows += [row[:, None] for name, row in extra.items() if active.get(name, False)]
    A = np.hstack(rows)[free]
    S = np.zeros_like(V)
    if not free.any():
        return S
    U, s, _ = np.linalg.svd(A / np.maximum(np.linalg.norm(A, axis=0), 1e-300), full_matrices=True)
    Z = U[:, int((s > 1e-9).sum()) :]
    inner = Z @ np.linalg.solve(Z.T @ hessian[np.ix_(free, free)] @ Z, Z.T)
    S[np.ix_(free, free)] = inner
    return S
