"""From weights, prices and their proof to a solution: what binds, what each limit is worth, how far the derivative holds."""

from __future__ import annotations

import numpy as np

from engine.certificate import CERTIFIED, PRICED, State, best_response, binds, factor_prices
from engine.derivative import Derivative
from engine.problem import Problem
from engine.solution import Certificate, Multipliers, Solution, Status
from engine.validity import near_kink, next_change
from risk.checks import FloatArray

__all__ = ["duals", "settled", "touches_cap"]


def settled(
    problem: Problem,
    weights: FloatArray,
    multipliers: Multipliers,
    proof: Certificate,
    *,
    method: str,
    fallback: str,
    iterations: int,
    derivative: Derivative | None = None,
) -> Solution:
    """Return a proven solution with everything that follows from its weights and multipliers."""
    w, theta = weights, multipliers
    response = best_response(problem, factor_prices(problem, w, theta), theta)
    widening = float(np.abs(response.bound_prices[response.states != State.CLOSED]).sum())
    held = binds(problem, w, theta) | {"position": widening > PRICED and touches_cap(problem, w)}
    derivative = Derivative(problem, w, theta) if derivative is None else derivative
    return Solution(
        weights=w,
        status=Status.SOLVED,
        certificate=proof,
        duals=duals(problem, theta, widening),
        binding=tuple(name for name, holds in held.items() if holds),
        free_directions=derivative.free_directions,
        near_kink=near_kink(derivative),
        next_change=next_change(derivative, problem.alpha, both_ways=True),
        volatility=problem.model.volatility(w),
        gross=float(np.abs(w).sum()),
        method=method,
        fallback=fallback,
        iterations=iterations,
        relaxed={},
        multipliers=theta,
    )


def duals(problem: Problem, theta: Multipliers, widening: float) -> dict[str, float]:
    """Return the gain of annual alpha per unit of each limit; `widening` is that of all position caps together."""
    return dict(zip(problem.limits.names, theta.limits.tolist(), strict=True)) | {
        "position": widening,
        "gross": theta.gross,
        "volatility": theta.volatility * (problem.volatility_limit or 0.0),
        "turnover": theta.turnover,
    }


def touches_cap(problem: Problem, weights: FloatArray) -> bool:
    """Return whether a name that can move lies at a bound."""
    room = np.minimum(problem.upper - weights, weights - problem.lower)[problem.lower < problem.upper]
    return bool(room.min(initial=1.0) <= CERTIFIED)
