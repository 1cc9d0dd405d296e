r"""The last digits: Newton on the optimality conditions of the active set that a solver's prices point to.

An interior point stops with every name a little off its kink or bound and every price a little off zero. With names at a kink
or bound fixed there, limits without a price left out, and the free names' signs known, the optimality conditions are smooth:

.. math::

    \alpha - \gamma V w - J \theta - A\,\mathrm{cost}'(w - h) = 0 \quad \text{on free names}, \qquad
    J = [L_{active}, \mathrm{sign}(w), V w, \mathrm{sign}(w - h) / 2]

with the active limits holding as equalities. One step solves a system in the factor dimension; two steps reach rounding. Whether the result is
right is not decided here: it is a candidate for the certificate like any other.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from engine.certificate import State, accepted, best_response, certify, factor_prices
from engine.problem import Problem
from engine.solution import Certificate, Multipliers
from risk.checks import BoolArray, FloatArray, freeze

__all__ = ["refine", "sharpened"]

STEPS = 3
"""Newton steps on one active set."""

ROUNDS = 4
"""Active sets read at most: a few names near a kink are often misread at first, and seen at the next reading."""

TIE = 1e-9
"""A price has to exceed its slack by this much to count as the larger one."""


@dataclass(frozen=True, eq=False)
class _Active:
    """What is held fixed: free names (N,), limits that hold (q,), and whether gross, volatility and turnover do."""

    free: BoolArray
    limits: BoolArray
    target: FloatArray
    gross: bool
    volatility: bool
    turnover: bool


def _active(problem: Problem, w: FloatArray, theta: Multipliers, free: BoolArray) -> _Active:
    """Read the active set: of a price and its slack one tends to zero, and the larger one tells which."""
    limits, p = problem.limits, theta.limits
    y = limits.exposures.T @ w
    at_upper = (p > 0) | ((p == 0) & (y > limits.upper))
    target = np.where(at_upper, limits.upper, limits.lower)
    slack = np.where(at_upper, limits.upper - y, y - limits.lower)
    v, T = problem.volatility_limit, problem.turnover_limit
    return _Active(
        free=free,
        limits=(limits.lower == limits.upper) | (np.abs(p) > slack + TIE),
        target=target,
        gross=bool(theta.gross > problem.gross_limit - np.abs(w).sum() + TIE),
        volatility=v is not None and theta.volatility * v > v - problem.model.volatility(w) + TIE,
        turnover=T is not None and bool(theta.turnover > T - np.abs(w - problem.holdings).sum() / 2 + TIE),
    )


def refine(problem: Problem, weights: FloatArray, multipliers: Multipliers) -> tuple[FloatArray, Multipliers]:
    """Return weights and multipliers that meet the optimality conditions of their active set to rounding.

    A wrong active set gives a wrong answer, or what was given; the certificate tells.

    Parameters
    ----------
    problem : Problem
    weights : ndarray of shape (N,)
        A solver's answer, right to about 1e-6.
    multipliers : Multipliers
        Its prices.
    """
    w, theta = weights, multipliers
    known = b""
    for _ in range(ROUNDS):
        theta = replace(
            theta,
            gross=max(theta.gross, 0.0),
            volatility=max(theta.volatility, 0.0),
            turnover=max(theta.turnover, 0.0),
        )
        response = best_response(problem, factor_prices(problem, w, theta), theta)
        active = _active(problem, w, theta, response.states == State.FREE)
        found = response.states.tobytes() + active.limits.tobytes()
        found += bytes([active.gross, active.volatility, active.turnover])
        if found == known:
            break
        known = found
        w = response.weights.copy()
        for _ in range(STEPS):
            w, theta = _step(problem, active, w, theta)
            if theta.volatility <= -problem.risk_aversion:  # no risk aversion left: the active set was wrong
                return weights, multipliers
    return freeze(w), theta


def sharpened(
    problem: Problem, weights: FloatArray, multipliers: Multipliers
) -> tuple[FloatArray, Multipliers, Certificate]:
    """Return a solver's answer or, where its evidence is no worse, that of its active set solved to rounding."""
    given = certify(problem, weights, multipliers)
    w, theta = refine(problem, weights, multipliers)
    refined = certify(problem, w, theta)
    if accepted(refined) and (refined.worst <= given.worst or not accepted(given)):
        return w, theta, refined
    return weights, multipliers, given


def _step(problem: Problem, active: _Active, w: FloatArray, theta: Multipliers) -> tuple[FloatArray, Multipliers]:
    model, costs, free = problem.model, problem.costs, active.free
    gamma = problem.risk_aversion + theta.volatility
    u = w - problem.holdings
    risk = model.covariance_times(w)  # (N,), V w
    slope = problem.alpha - gamma * risk - problem.limits.exposures @ theta.limits
    slope = slope - theta.gross * np.sign(w) - theta.turnover / 2 * np.sign(u)
    curvature = gamma * model.specific_variance
    if costs is not None:
        size, A = np.sqrt(np.abs(u)), costs.annualisation
        slope = slope - A * np.sign(u) * (costs.linear + 1.5 * costs.impact * size) + costs.borrow * (w < 0)
        bend = 0.75 * A * costs.impact
        curvature = curvature + np.divide(bend, size, out=np.zeros_like(bend), where=(bend > 0) & (size > 0))

    # Columns of J with how far each limit is from holding.
    limits = problem.limits.exposures[:, active.limits]
    columns, missing = [limits], [active.target[active.limits] - limits.T @ w]
    if active.gross:
        columns.append(np.sign(w)[:, None])
        missing.append(np.array([problem.gross_limit - np.abs(w).sum()]))
    if active.volatility and problem.volatility_limit is not None:
        columns.append(risk[:, None])
        missing.append(np.array([(problem.volatility_limit**2 - float(w @ risk)) / 2]))
    if active.turnover and problem.turnover_limit is not None:
        columns.append(np.sign(u)[:, None] / 2)
        missing.append(np.array([problem.turnover_limit - np.abs(u).sum() / 2]))

    # (gamma V + cost'') dw + J dtheta = slope, J'dw = missing, with gamma V = gamma d + C C', C = X root sqrt(gamma).
    values, vectors = np.linalg.eigh(model.factor_covariance)
    C = model.exposures @ (vectors * np.sqrt(np.maximum(values, 0.0) * gamma))  # (N, K)
    B = np.hstack([C, *columns])[free]  # (n, K + a)
    phi = 1.0 / curvature[free]
    H = B.T @ (phi[:, None] * B)
    H[np.diag_indices(C.shape[1])] += 1.0
    rhs = B.T @ (phi * slope[free]) - np.concatenate([np.zeros(C.shape[1]), *missing])
    # Least squares in columns of length 1: redundant limits share their price, and units do not decide what is redundant. A limit
    # with no free name in it keeps its price.
    length = np.sqrt(np.diag(H))
    scale = np.divide(1.0, length, out=np.zeros_like(length), where=length > 1e-9 * length.max())
    z = scale * np.linalg.lstsq(H * np.outer(scale, scale), scale * rhs, rcond=1e-13)[0]
    step = phi * (slope[free] - B @ z)

    moved = w.copy()
    moved[free] += step
    change = z[C.shape[1] :]
    count = int(active.limits.sum())
    p = np.where(active.limits, theta.limits, 0.0)
    p[active.limits] += change[:count]
    rest = iter(change[count:].tolist())
    return moved, Multipliers(
        freeze(p),
        theta.gross + next(rest) if active.gross else 0.0,
        theta.volatility + next(rest) if active.volatility else 0.0,
        theta.turnover + next(rest) if active.turnover else 0.0,
    )
