r"""The portfolio problem of one date, written down in cvxpy as it is stated: the optimizer that others are checked against.

.. math::

    \max_w \; \alpha'w - \tfrac{g_0}{2} w'Vw - A\,\mathrm{cost}(w - h) - \mathrm{borrow}(w)

subject to lo <= L'w <= up, lower <= w <= upper, ||w||_1 <= G, w'Vw <= v^2 and (1/2)||w - h||_1 <= T, with V = X F X' + diag(d).

V is never formed: y = X'w is a variable. The active set of the solver's answer is solved to rounding (`engine.active_set`). A
solve ends as SOLVED only if the solver said "optimal" and the certificate, which asks no solver, agrees. Anything else raises.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from scipy import sparse

from engine.active_set import sharpened
from engine.certificate import CERTIFIED, PRICED, accepted, binds, certify
from engine.evidence import duals, settled, touches_cap
from engine.infeasibility import unsolved
from engine.problem import Problem
from engine.solution import Certificate, InfeasibleMandate, Multipliers, Solution, SolverFailure, Status
from risk import DataError
from risk.checks import BoolArray, FloatArray, freeze

if TYPE_CHECKING:
    import cvxpy as cp

__all__ = ["Extra", "solve"]

Extra = Callable[["cp.Variable"], Any]


class Attempt(NamedTuple):
    """One solver at one setting; `unit` scales the objective, counted in root mean squares of alpha."""

    solver: str
    unit: float
    settings: Mapping[str, Any]


# An attempt has to point to the right active set, which is then solved to rounding, so its tolerance need not be extreme. Tolerances
# are absolute: the objective is scaled first. The first attempt of Clarabel ended as optimal, and refined to 1e-10, on all of 180 random
# books of 60 and 400 names, and 19 real ones of 2,800; at 1e-9 one book in fifty stalls, as rounding in large cones stops it there.
# OSQP gives up on half of the programs of 400 names.
OSQP = Attempt("osqp", 1.0, {"eps_abs": 1e-6, "eps_rel": 1e-6, "max_iter": 4000, "rho": 10.0, "polishing": True})
CLARABEL = tuple(
    Attempt("clarabel", unit, {"tol_gap_abs": tolerance, "tol_gap_rel": tolerance, "tol_feas": tolerance})
    for unit, tolerance in ((1.0, 1e-8), (10.0, 1e-8), (1.0, 1e-7))
)


# User-written terms leave nothing to refine against: the solver's own digits are all there are.
UNREFINED = Attempt("clarabel", 10.0, {"tol_gap_abs": 1e-9, "tol_gap_rel": 1e-9, "tol_feas": 1e-9})


@dataclass(frozen=True, eq=False)
class Statement:
    """The problem in cvxpy's terms, and the constraints whose prices are read."""

    objective: cp.Expression
    constraints: list[cp.Constraint]
    weights: cp.Variable
    rows: tuple[tuple[cp.Constraint, BoolArray], ...]
    """The equalities, upper and lower sides of lo <= L'w <= up, each with the limits it stands for."""
    caps: tuple[cp.Constraint, cp.Constraint]
    gross: cp.Constraint
    volatility: cp.Constraint | None
    turnover: cp.Constraint | None
    added: list[cp.Constraint] | None
    """Constraints written by the user; None where nothing was."""


def state(problem: Problem, extra: Extra | None = None) -> Statement:
    """Return the problem in cvxpy, in the order in which the mathematics states it."""
    import cvxpy as cp

    limits, model, costs = problem.limits, problem.model, problem.costs
    n, k = model.exposures.shape
    F, d = model.factor_covariance, model.specific_variance  # (K, K), (N,)
    h, g0 = problem.holdings, problem.risk_aversion  # (N,), scalar

    closed = problem.lower == problem.upper  # (N,), names that cannot move

    # Columns that X and L share (countries, sectors, styles) appear once in B (N, k_B): a tenth of the solver's work.
    B, place = np.unique(np.hstack([model.exposures, limits.exposures]), axis=1, return_inverse=True)
    factor, row = np.split(place.reshape(-1), [k])  # (K,), (q,): where each column stands in B

    w = cp.Variable(n, name="weights")  # (N,)
    y = cp.Variable(B.shape[1])  # (k_B,)
    held = cp.Variable(n)  # (N,), at least |w|
    traded = cp.Variable(n) if h.any() else held  # (N,), at least |w - h|
    constraints = [y == sparse.csr_array(B.T) @ w, held >= w, held >= -w]
    constraints += [traded >= w - h, traded >= h - w] if h.any() else []

    # alpha'w - (g0/2) w'Vw
    objective = problem.alpha @ w - g0 / 2 * (cp.quad_form(y[factor], cp.psd_wrap(F)) + d @ cp.square(w))
    # - A cost(w - h) - borrow(w), with (-w)^+ = (|w| - w) / 2
    if costs is not None:
        objective -= costs.annualisation * (costs.linear @ traded) + costs.borrow @ (held - w) / 2
        paid = np.flatnonzero(~closed & (costs.impact > 0))
        size = _typical_trade(problem)[paid]  # in this unit trades are of order 1, as the cone solver likes them
        if paid.size:
            # power >= moved^(3/2), moved >= |trade|, as root^2 <= moved and moved^2 <= power root. On real books of 2,800 names
            # power cones took twice the steps and now and then broke the solver's linear algebra; `traded` in the place of
            # `moved` stalled.
            moved, root, power = (cp.Variable(paid.size) for _ in range(3))
            trade = cp.multiply(1 / size, (w - h)[paid])
            constraints += [moved >= trade, moved >= -trade]
            constraints.append(cp.SOC((moved + 1) / 2, cp.vstack([root, (moved - 1) / 2])))
            constraints.append(cp.SOC((power + root) / 2, cp.vstack([moved, (power - root) / 2])))
            objective -= (costs.annualisation * costs.impact[paid] * size**1.5) @ power

    # lo <= L'w <= up
    equal = limits.lower == limits.upper  # (q,)
    above, below = ~equal & np.isfinite(limits.lower), ~equal & np.isfinite(limits.upper)
    rows = (
        (y[row[equal]] == limits.upper[equal], equal),
        (y[row[below]] <= limits.upper[below], below),
        (y[row[above]] >= limits.lower[above], above),
    )
    # lower <= w <= upper; a closed name is an equality: two opposite inequalities would leave no interior
    caps = (w[~closed] <= problem.upper[~closed], w[~closed] >= problem.lower[~closed])
    constraints += [*(constraint for constraint, _ in rows), *caps, w[closed] == problem.lower[closed]]
    # ||w||_1 <= G
    gross = cp.sum(held) <= problem.gross_limit
    # w'Vw <= v^2
    volatility = None
    if problem.volatility_limit is not None:
        values, vectors = np.linalg.eigh(F)
        root = vectors * np.sqrt(np.maximum(values, 0.0))  # (K, K): F = root root', a singular F included
        risk = cp.hstack([root.T @ y[factor], cp.multiply(np.sqrt(d), w)])  # (K + N,)
        volatility = cp.SOC(cp.Constant(problem.volatility_limit), risk)
    # (1/2) ||w - h||_1 <= T
    turnover = None if problem.turnover_limit is None else cp.sum(traded) / 2 <= problem.turnover_limit
    constraints += [limit for limit in (gross, volatility, turnover) if limit is not None]

    added = None
    if extra is not None:
        terms, added = _written(extra, w)
        objective, constraints = objective + sum(terms), constraints + added
    return Statement(objective, constraints, w, rows, caps, gross, volatility, turnover, added)


def _typical_trade(problem: Problem) -> FloatArray:
    """Return a third of the largest trade that each name's bounds allow, (N,)."""
    return np.maximum(problem.upper - problem.holdings, problem.holdings - problem.lower) / 3


def _written(extra: Extra, weights: cp.Variable) -> tuple[list[cp.Expression], list[cp.Constraint]]:
    """Return what `extra` adds to the objective and to the constraints.

    Raises
    ------
    DataError
        If it returns anything but constraints and concave scalar terms.
    """
    import cvxpy as cp

    result = extra(weights)
    terms: list[cp.Expression] = []
    constraints: list[cp.Constraint] = []
    for item in result if isinstance(result, list | tuple) else [result]:
        if isinstance(item, cp.Constraint) and item.is_dcp():
            constraints.append(item)
        elif isinstance(item, cp.Expression) and item.is_scalar() and item.is_concave():
            terms.append(item)
        else:
            raise DataError(
                "`extra` must return convex cvxpy constraints, concave scalar terms to add to the maximised objective, or "
                f"a list of them; got {type(item).__name__}: {item}."
            )
    return terms, constraints


def solve(problem: Problem, extra: Extra | None = None) -> Solution:
    """Return the optimum of `problem` with its proof.

    OSQP solves where the problem is a quadratic program. Clarabel does where it has a cone (volatility limit, impact) or
    where OSQP's answer does not pass the certificate; `Solution.fallback` then says so.

    Parameters
    ----------
    problem : Problem
    extra : callable, optional
        A function of the cvxpy weights variable that returns constraints, concave scalar terms to add to the objective
        (annual alpha), or a list of both. No dual bound of ours holds then: the status is SOLVED_UNPROVEN, the gap NaN.

    Raises
    ------
    InfeasibleMandate
        If no portfolio meets all limits.
    SolverFailure
        If no attempt ends as optimal and passes the certificate.
    DataError
        If `extra` returns something else than is allowed.
    """
    import cvxpy as cp

    statement = state(problem, extra)
    quadratic = extra is None and problem.volatility_limit is None and not _pays_impact(problem)
    scale = float(np.sqrt(np.mean(problem.alpha**2))) or 1.0
    failures: list[str] = []
    first = [] if extra is None else [UNREFINED]
    for attempt in (*([OSQP] if quadratic else first), *CLARABEL):
        unit = attempt.unit / scale
        goal = cp.Problem(cp.Maximize(statement.objective * unit), statement.constraints)
        status = _run(goal, attempt)
        if status == cp.OPTIMAL:
            solution = _read(problem, statement, attempt, unit, int(goal.solver_stats.num_iters), "; ".join(failures))
            proof = solution.certificate
            if accepted(proof) or (extra is not None and proof.primal_residual <= CERTIFIED):
                return solution
            status = f"optimal, but {_residuals(proof)}"
        failures.append(f"{attempt.solver} ended as {status}")
        if status == cp.INFEASIBLE:
            break
    error = unsolved(problem, "; ".join(failures))
    if extra is not None and status == cp.INFEASIBLE and isinstance(error, SolverFailure):
        message = (
            "No portfolio meets all limits. The mandate's own can be met; those written in `extra` conflict with them."
        )
        raise InfeasibleMandate(message, ("extra",), {})
    raise error


def _pays_impact(problem: Problem) -> bool:
    return problem.costs is not None and bool(problem.costs.impact.any())


def _run(goal: cp.Problem, attempt: Attempt) -> str:
    """Return the status that a solver ends with."""
    import cvxpy as cp

    with warnings.catch_warnings():
        # cvxpy warns where a solution is inaccurate; here that is a failure, and the message holds its status.
        warnings.simplefilter("ignore", UserWarning)
        try:
            goal.solve(solver=attempt.solver.upper(), **attempt.settings)
        except cp.error.SolverError as error:
            return f"an error ({str(error).splitlines()[0]})"
    return str(goal.status)


def _residuals(proof: Certificate) -> str:
    return (
        f"its primal residual is {proof.primal_residual:.1e}, dual {proof.dual_residual:.1e}, complementarity "
        f"{proof.complementarity:.1e} and gap {proof.gap:.1e}, where {CERTIFIED:.0e} is allowed"
    )


def _prices(problem: Problem, statement: Statement, unit: float) -> Multipliers:
    """Return the multipliers as cvxpy holds them; the price of ||risk|| <= v is nu v."""
    p = np.zeros(len(problem.limits.names))
    for sign, (constraint, rows) in zip((1.0, 1.0, -1.0), statement.rows, strict=True):
        p[rows] += sign * constraint.dual_value / unit
    nu = tau = 0.0
    if statement.volatility is not None and problem.volatility_limit is not None:
        nu = float(np.ravel(statement.volatility.dual_value[0])[0]) / unit / problem.volatility_limit
    if statement.turnover is not None:
        tau = float(statement.turnover.dual_value) / unit
    return Multipliers(freeze(p), float(statement.gross.dual_value) / unit, nu, tau)


def _read(
    problem: Problem, statement: Statement, attempt: Attempt, unit: float, iterations: int, fallback: str
) -> Solution:
    """Return cvxpy's answer as a solution, with evidence of our own."""
    w = freeze(np.array(statement.weights.value, dtype=np.float64))
    theta = _prices(problem, statement, unit)
    method = f"reference:{attempt.solver}"
    if statement.added is None:
        w, theta, proof = sharpened(problem, w, theta)
        return settled(problem, w, theta, proof, method=method, fallback=fallback, iterations=iterations)
    violations = [float(np.max(constraint.violation(), initial=0.0)) for constraint in statement.added]
    proof = certify(problem, w, None)
    widening = sum(float(np.sum(constraint.dual_value)) for constraint in statement.caps) / unit
    held = binds(problem, w, theta) | {"position": widening > PRICED and touches_cap(problem, w)}
    return Solution(
        weights=w,
        status=Status.SOLVED_UNPROVEN,
        certificate=replace(proof, primal_residual=max([proof.primal_residual, *violations])),
        duals=duals(problem, theta, widening),
        binding=tuple(name for name, holds in held.items() if holds),
        free_directions=0,
        near_kink=float("nan"),
        next_change=float("nan"),
        volatility=problem.model.volatility(w),
        gross=float(np.abs(w).sum()),
        method=method,
        fallback=fallback,
        iterations=iterations,
        relaxed={},
        multipliers=theta,
    )
