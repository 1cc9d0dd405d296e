"""One verb of the room: from a portfolio problem to a proven book."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from engine import interior_point, reference, structured
from engine.active_set import sharpened
from engine.certificate import accepted, certify
from engine.derivative import Derivative
from engine.dual import Dual
from engine.evidence import settled
from engine.infeasibility import explain, unsolved
from engine.problem import Problem
from engine.reference import Extra
from engine.solution import Multipliers, Solution
from risk import DataError
from risk.checks import FloatArray

__all__ = ["METHODS", "optimize"]

METHODS = ("structured", "reference")

AVERSIONS = (1e4, 1e2, 10.0)
"""Multiples of the risk aversion solved on the way where signals dwarf it and the first attempt runs out of steps."""


def optimize(
    problem: Problem, *, method: str | None = None, start: Solution | None = None, extra: Extra | None = None
) -> Solution:
    """Return the best portfolio within all limits, with the evidence that it is.

    Parameters
    ----------
    problem : Problem
    method : str, optional
        ``structured``: semismooth Newton in the factor dimension, the default. ``reference``: the problem as stated, in cvxpy, the
        default where `extra` is given.
    start : Solution, optional
        Of a similar problem over as many assets and limits: saves steps, changes the result by rounding alone. Not for the reference.
    extra : callable, optional
        A function of the cvxpy weights variable that returns constraints, concave scalar terms to add to the objective
        (annual alpha), or a list of both. For the reference alone.

    Raises
    ------
    InfeasibleMandate
        If no portfolio meets all limits: names a smallest set in conflict and the least cure of each.
    SolverFailure
        If no solver ends with a solution that passes the certificate.
    DataError
        If `method` is unknown, `extra` or `start` does not go with it, or `extra` returns something else than is allowed.

    Examples
    --------
    >>> import numpy as np
    >>> from engine import Limits, Problem
    >>> from risk import FactorModel
    >>> model = FactorModel(["A", "B"], ["market"], np.ones((2, 1)), [[0.04]], [0.09, 0.09])
    >>> net = Limits(["net"], np.ones((2, 1)), [0.0], [0.0])
    >>> problem = Problem([0.009, -0.009], model, net, 0.5, gross_limit=1.0, volatility_limit=None, risk_aversion=1.0)
    >>> optimize(problem).weights.round(6).tolist()
    [0.1, -0.1]
    """
    chosen = method or ("structured" if extra is None else "reference")
    if chosen not in METHODS:
        raise DataError(f"`method` must be one of {', '.join(METHODS)}; got {method!r}.")
    if chosen == "reference":
        if start is not None:
            raise DataError('`start` goes with method "structured"; the reference\'s solvers take none.')
        return reference.solve(problem, extra)
    if extra is not None:
        raise DataError('`extra` is written in cvxpy, which method "structured" does not read; leave `method` out.')
    return _structured(problem, start)


def _structured(problem: Problem, start: Solution | None) -> Solution:
    dual = Dual(problem)
    found, why = structured.solve(problem, start=_known(problem, start), dual=dual), ""
    retries: list[tuple[str, Callable[[], structured.Optimum]]] = [
        ("higher risk aversion", lambda: _from_higher_aversion(problem, dual, found)),
    ]
    if start is not None:
        retries.insert(0, ("the empty book", lambda: structured.solve(problem, dual=dual)))
    for origin, retry in retries:
        if found.converged or found.infeasible:
            break
        found, why = retry(), f"{_ended(found)}; then solved from {origin}"
    proof = certify(problem, found.weights, found.multipliers)
    if found.converged and accepted(proof):
        return settled(
            problem,
            found.weights,
            found.multipliers,
            proof,
            method="structured",
            fallback=why,
            iterations=found.steps,
            derivative=Derivative.at(dual, found.point),
        )
    conflict = explain(problem) if found.infeasible else None
    if conflict is not None:
        raise conflict
    return _fall_back(problem, _ended(found))


def _ended(found: structured.Optimum) -> str:
    return f"structured ended after {found.steps} steps with limits missed by up to {found.residual:.1e}"


def _known(problem: Problem, start: Solution | None) -> tuple[FloatArray, Multipliers] | None:
    """Return the weights and prices to start from.

    Raises
    ------
    DataError
        If they are of another shape, or not finite.
    """
    if start is None:
        return None
    theta = start.multipliers
    if theta is None or start.weights.shape != problem.alpha.shape:
        raise DataError(f"`start` must be a solution over {len(problem.alpha)} assets; it holds {len(start.weights)}.")
    if theta.limits.shape != problem.limits.lower.shape:
        raise DataError(f"`start` must price {len(problem.limits.names)} limits; it prices {len(theta.limits)}.")
    if not np.isfinite([*theta.limits, theta.gross, theta.volatility, theta.turnover, *start.weights]).all():
        raise DataError("`start` must hold finite weights and prices; leave it out to solve from nothing.")
    return start.weights, theta


def _from_higher_aversion(problem: Problem, dual: Dual, failed: structured.Optimum) -> structured.Optimum:
    """Return the optimum by way of problems that are less like a linear program, or what failed where that does not help."""
    start, steps = None, failed.steps
    for factor in AVERSIONS:
        easier = problem.replace(risk_aversion=factor * problem.risk_aversion)
        found = structured.solve(easier, start=start, dual=Dual(easier, dual.structure))
        start, steps = (found.weights, found.multipliers), steps + found.steps
    last = structured.solve(problem, start=start, dual=dual)
    return replace(last, steps=steps + last.steps) if last.converged else failed


def _fall_back(problem: Problem, why: str) -> Solution:
    answer = interior_point.solve(problem)
    if answer.ending is not interior_point.Ending.INFEASIBLE:
        weights, multipliers, proof = sharpened(problem, answer.weights, answer.multipliers)
        if accepted(proof):
            return settled(
                problem, weights, multipliers, proof, method="clarabel", fallback=why, iterations=answer.iterations
            )
    raise unsolved(problem, f"{why}; clarabel ended as {answer.ending.value}")
