r"""The portfolio problem as one well-scaled cone program in cvxpy, for differentiable layers.

The statement of `engine.problem` in variables of order 1, arranged so that the iterative derivative of diffcp (LSMR on the
linearised optimality conditions) needs hundreds of steps and not ten thousands:

- weights are counted in `unit` (about one position), the objective in `worth` (about one position's alpha);
- names that cannot move, limits that cannot bind and repeated equalities are taken out first;
- equalities L_=' w = b become Q'w = const with orthonormal Q. Every other row is measured against what they leave free, so
  the large exposures they hold (market, countries, sectors) no longer dominate the risk rows;
- factor risk enters as the rows S U' of a singular value decomposition, orthogonal to each other and to Q. They stand in the
  cone itself: lifting y = X'w into variables of its own tripled the LSMR steps;
- one cone t >= w'Vw / reference^2 serves the risk penalty and, as t <= limit, the volatility limit. Each cone is scaled so
  that primal and dual parts are of equal size, which is where LSMR is fastest;
- the cost u^(3/2) is x >= u^(3/2) by two cones of size 3, s^2 <= u and u^2 <= x s, since diffcp has no power cone. For a
  derivative that statement is a poor one: where u = 0 (every name that is not traded) the cones meet their duals on the
  boundary, where the projection has no derivative. A `local` program has the second-order expansion of the cost about a
  known solution instead: with the same weights and, as its Hessian is the same, the same derivative.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from engine.problem import Problem
from engine.solution import Multipliers, SolverFailure
from risk import DataError
from risk.checks import BoolArray, FloatArray

if TYPE_CHECKING:
    import cvxpy as cp

__all__ = ["ConeProgram", "state_cone_program"]

CONSISTENT = 1e-9
"""Relative size below which a row is a combination of others; a limit such a row misses by more is a conflict."""


@dataclass(frozen=True, eq=False)
class _Rows:
    """Linear limits on the names that move: Q'w = target and, orthogonal to Q, rows that can bind."""

    basis: FloatArray
    """Q, (n, r)."""
    target: FloatArray
    """Q'w, (r,)."""
    index: list[int]
    """Which limits the inequality rows are, (p,)."""
    rows: FloatArray
    """(n, p), of norm 1."""
    norms: FloatArray
    """What each was divided by, (p,)."""
    lower: FloatArray
    upper: FloatArray
    """Bounds of rows'w, (p,); infinite where that side cannot bind."""


@dataclass(frozen=True, eq=False)
class ConeProgram:
    """A scaled cone program and the way back to weights and prices.

    Attributes
    ----------
    problem : cvxpy.Problem
    alpha : cvxpy.Parameter
        alpha of the moving names times `unit` times `worth`.
    curvature : cvxpy.Parameter or None
        Of a local program: root of half the second derivative of the impact cost in the scaled weights.
    outputs : tuple of cvxpy.Variable
        Scaled weights of the moving names, then the dual variables that `multipliers` reads.
    moving : ndarray of bool, shape (N,)
        Names with lower < upper.
    fixed : ndarray of shape (N,)
        Weights of the others; 0 where a name moves.
    unit : float
        Weight that the variable counts as 1.
    worth : float
        Units of the scaled objective in one unit of annual alpha.
    """

    source: Problem
    problem: cp.Problem
    alpha: cp.Parameter
    curvature: cp.Parameter | None
    outputs: tuple[cp.Variable, ...]
    moving: BoolArray
    fixed: FloatArray
    unit: float
    worth: float
    reference: float
    parts: tuple[str, ...]
    limits: _Rows

    def multipliers(self, weights: FloatArray, duals: Sequence[FloatArray]) -> Multipliers:
        """Return the prices of the limits in annual alpha from the dual variables, in the order of `outputs`."""
        price = dict(zip(self.parts, duals, strict=True))
        source, limits = self.source, self.limits
        scale = 1 / (self.worth * self.unit)
        row_prices = np.zeros(len(limits.index))
        for side, sign in (("below", 1.0), ("above", -1.0)):
            if side in price:
                chosen = np.isfinite(limits.upper if side == "below" else limits.lower)
                row_prices[chosen] += sign * scale * price[side] / limits.norms[chosen]
        p = np.zeros(len(source.limits.names))
        p[limits.index] = row_prices
        volatility = (
            float(2 * price["volatility"][0] / (self.worth * self.reference**2)) if "volatility" in price else 0.0
        )
        if "equal" in price:
            # The cone program's other rows are orthogonal to Q; what they would pull along Q is part of its multiplier.
            gamma = source.risk_aversion + max(volatility, 0.0)
            X, L = source.model.exposures, source.limits.exposures
            pull = gamma * (X @ (source.model.factor_covariance @ (X.T @ weights))) + L @ p
            along = limits.basis @ (scale * price["equal"] - limits.basis.T @ pull[self.moving])
            equal = source.limits.lower == source.limits.upper
            p[equal] = np.linalg.lstsq(L[self.moving][:, equal], along, rcond=CONSISTENT)[0]
        root = np.sqrt(self.moving.sum())
        gross = float(scale * price["gross"][0] / root) if "gross" in price else 0.0
        turnover = float(scale * price["turnover"][0] / root) if "turnover" in price else 0.0
        return Multipliers(p, gross, volatility, turnover)


@dataclass
class _Statement:
    """A cone program in the making: z the scaled weights of the names that move."""

    z: cp.Variable
    objective: Any
    unit: float
    worth: float
    constraints: list[Any] = field(default_factory=list)
    duals: dict[str, cp.Variable] = field(default_factory=dict)

    def add(self, name: str, constraint: Any) -> None:
        """Add a constraint whose price is wanted."""
        self.constraints.append(constraint)
        self.duals[name] = constraint.dual_variables[0]


def state_cone_program(problem: Problem, *, local: bool = False) -> ConeProgram:
    """Return the scaled cone program of a problem; its alpha sets the scale and may be replaced by any other.

    Parameters
    ----------
    problem : Problem
    local : bool
        State the impact cost by its second-order expansion, whose slope goes into `alpha` and whose curvature is the
        parameter `curvature`, instead of by cones.

    Raises
    ------
    DataError
        If no name can move.
    SolverFailure
        If limits contradict each other already as equations.
    """
    import cvxpy as cp

    moving = problem.upper > problem.lower
    n = int(moving.sum())
    if n == 0:
        raise DataError(
            "no name can move: `position_limit` has lower = upper for every asset. There is nothing to optimise."
        )
    fixed = np.where(moving, 0.0, problem.lower)
    unit, worth = _scales(problem, moving)
    limits = _rows(problem, moving, fixed)

    z, alpha = cp.Variable(n), cp.Parameter(n)
    statement = _Statement(z, alpha @ z, unit, worth)
    reference = _state_risk(statement, problem, moving, fixed, limits)
    if limits.basis.shape[1]:
        statement.add("equal", limits.basis.T @ z == limits.target / unit)
    for name, bound, sign in (("below", limits.upper, 1.0), ("above", limits.lower, -1.0)):
        chosen = np.isfinite(bound)
        if chosen.any():
            statement.add(name, sign * limits.rows[:, chosen].T @ z <= sign * bound[chosen] / unit)
    curvature = _state_sizes(statement, problem, moving, fixed, local)
    return ConeProgram(
        source=problem,
        problem=cp.Problem(cp.Maximize(statement.objective), statement.constraints),
        alpha=alpha,
        curvature=curvature,
        outputs=(z, *statement.duals.values()),
        moving=moving,
        fixed=fixed,
        unit=unit,
        worth=worth,
        reference=reference,
        parts=tuple(statement.duals),
        limits=limits,
    )


def _scales(problem: Problem, moving: BoolArray) -> tuple[float, float]:
    """Return the weight that counts as 1, and the worth of one unit of annual alpha in the scaled objective."""
    d = problem.model.specific_variance[moving]
    largest = np.maximum(np.abs(problem.lower), np.abs(problem.upper))[moving]
    sizes = [float(np.median(largest)), 2 * problem.gross_limit / len(d)]
    if problem.volatility_limit is not None:
        sizes.append(2 * problem.volatility_limit / float(np.sqrt(d.sum())))
    unit = min(sizes)
    typical = float(np.sqrt(np.mean(problem.alpha[moving] ** 2)))
    return unit, 1 / (unit * (typical if typical > 0 else problem.risk_aversion * float(np.median(d)) * unit))


def _state_risk(statement: _Statement, problem: Problem, moving: BoolArray, fixed: FloatArray, limits: _Rows) -> float:
    """State risk penalty and volatility limit by one cone; return the volatility that it counts as 1."""
    import cvxpy as cp

    unit, limit = statement.unit, problem.volatility_limit
    d = problem.model.specific_variance[moving]
    factor, constant = _factor_rows(problem, moving, fixed, limits)
    reference = max(unit / 2 * float(np.sqrt(d.sum())), float(np.linalg.norm(constant)))
    reference = reference if limit is None else min(reference, limit)
    specific = cp.multiply(np.sqrt(d) * unit / reference, statement.z)
    risk = cp.hstack([specific, unit / reference * factor.T @ statement.z + constant / reference])
    t, penalty = cp.Variable(), problem.risk_aversion / 2 * reference**2 * statement.worth
    statement.constraints.append(_square(t, risk, penalty))
    statement.objective -= penalty * t
    if limit is not None:
        statement.add("volatility", t <= (limit / reference) ** 2)
    return reference


def _square(t: cp.Variable, rows: cp.Expression, price: float) -> cp.Constraint:
    """Return t >= |rows|^2 as a cone whose primal and dual parts are of equal size where t costs `price`."""
    import cvxpy as cp

    even = np.sqrt(price) / 2
    return cp.SOC(even * (1 + t), even * cp.hstack([2 * rows, 1 - t]))


def _state_sizes(
    statement: _Statement, problem: Problem, moving: BoolArray, fixed: FloatArray, local: bool
) -> cp.Parameter | None:
    """State what depends on |w| and |w - h|: bounds, gross, turnover, costs and borrowing; return the curvature."""
    import cvxpy as cp

    z, unit, costs = statement.z, statement.unit, problem.costs
    n, root = z.size, np.sqrt(z.size)
    lower, upper, h = problem.lower[moving], problem.upper[moving], problem.holdings[moving]
    room = problem.gross_limit - float(np.abs(fixed).sum())
    crowded = float(np.maximum(np.abs(lower), np.abs(upper)).sum()) > room
    turnover = _turnover_room(problem, moving, fixed)
    linear, impact, borrow = (
        (np.zeros(n),) * 3 if costs is None else (costs.linear[moving], costs.impact[moving], costs.borrow[moving])
    )
    impact = np.zeros(n) if local else impact
    trading = turnover is not None or bool((linear + impact).any())
    apart = trading and bool(h.any())

    size: Any = None
    if crowded or borrow.any() or (trading and not apart):
        size = cp.Variable(n)
        statement.constraints += [z <= size, -z <= size]
    if size is not None and bool((lower == -upper).all()):
        statement.constraints.append(size <= upper / unit)
    else:
        statement.constraints += [z <= upper / unit, -z <= -lower / unit]
    if crowded:
        statement.add("gross", cp.sum(size) / root <= room / unit / root)
    if borrow.any():
        statement.objective -= statement.worth * unit * borrow @ (size - z) / 2  # (-w)^+ = (|w| - w) / 2

    trade = size
    if apart:
        trade = cp.Variable(n)
        statement.constraints += [z - h / unit <= trade, h / unit - z <= trade]
    if turnover is not None:
        statement.add("turnover", cp.sum(trade) / 2 / root <= turnover / unit / root)
    if costs is None:
        return None
    if linear.any():
        statement.objective -= statement.worth * unit * costs.annualisation * linear @ trade
    if impact.any():
        _state_impact(statement, trade, statement.worth * costs.annualisation * unit**1.5 * impact)
    if not local:
        return None
    curvature, t = cp.Parameter(n, nonneg=True), cp.Variable()
    statement.constraints.append(_square(t, cp.multiply(curvature, z) / root, n))
    statement.objective -= n * t
    return curvature


def _turnover_room(problem: Problem, moving: BoolArray, fixed: FloatArray) -> float | None:
    """Return what is left of the turnover limit for the names that move, or None where it cannot bind."""
    if problem.turnover_limit is None:
        return None
    room = problem.turnover_limit - float(np.abs(fixed - problem.holdings)[~moving].sum()) / 2
    furthest = np.maximum(np.abs(problem.lower - problem.holdings), np.abs(problem.upper - problem.holdings))
    return room if float(furthest[moving].sum()) / 2 > room else None


def _state_impact(statement: _Statement, trade: cp.Expression, price: FloatArray) -> None:
    """State x >= u^(3/2) at `price` per unit of x, for the names where it has one."""
    import cvxpy as cp

    paid = np.flatnonzero(price)
    x, s, u = cp.Variable(paid.size), cp.Variable(paid.size), trade[paid]
    level = np.sqrt(np.maximum(price[paid], 0.01))  # a nearly free trade must not shrink its rows to nothing
    for rows in (cp.vstack([u + 1, u - 1, 2 * s]), cp.vstack([x + s, x - s, 2 * u])):
        scaled = cp.multiply(np.tile(level, (3, 1)), rows)
        statement.constraints.append(cp.SOC(scaled[0], scaled[1:], axis=0))
    statement.objective -= price[paid] @ x


def _rows(problem: Problem, moving: BoolArray, fixed: FloatArray) -> _Rows:
    """Return the linear limits, presolved: independent equalities, and the inequalities that can bind beside them."""
    names, L = problem.limits.names, problem.limits.exposures[moving]
    offset = problem.limits.exposures.T @ fixed
    low, high = problem.limits.lower - offset, problem.limits.upper - offset
    equal = problem.limits.lower == problem.limits.upper

    scale = np.linalg.norm(L, axis=0)
    E = L[:, equal] / np.where(scale > 0, scale, 1.0)[equal]
    b = high[equal] / np.where(scale > 0, scale, 1.0)[equal]
    U, s, Vt = np.linalg.svd(E, full_matrices=False)
    rank = int((s > CONSISTENT * max(E.shape)).sum())
    Q, target = U[:, :rank], Vt[:rank] @ b / s[:rank]
    missed = np.abs(Vt[:rank].T @ (s[:rank] * target) - b)
    if (missed > CONSISTENT * (1 + np.abs(b))).any():
        worst = np.flatnonzero(equal)[int(np.argmax(missed))]
        raise SolverFailure(_conflict(names[worst]))

    top = np.maximum(L * problem.upper[moving, None], L * problem.lower[moving, None]).sum(axis=0)
    bottom = np.minimum(L * problem.upper[moving, None], L * problem.lower[moving, None]).sum(axis=0)
    index, rows, norms, lower, upper = [], [], [], [], []
    for j in np.flatnonzero(~equal & ((top > high) | (bottom < low))):
        held = Q.T @ L[:, j]
        rest, shift = L[:, j] - Q @ held, float(held @ target)
        norm = float(np.linalg.norm(rest))
        if norm <= CONSISTENT * scale[j]:
            if max(low[j] - shift, shift - high[j]) > CONSISTENT * (1 + abs(shift)):
                raise SolverFailure(_conflict(names[j]))
            continue
        index.append(int(j))
        rows.append(rest / norm)
        norms.append(norm)
        lower.append((low[j] - shift) / norm if bottom[j] < low[j] else -np.inf)
        upper.append((high[j] - shift) / norm if top[j] > high[j] else np.inf)
    table = np.array(rows).T if rows else np.zeros((len(L), 0))
    return _Rows(Q, target, index, table, np.array(norms), np.array(lower), np.array(upper))


def _factor_rows(
    problem: Problem, moving: BoolArray, fixed: FloatArray, limits: _Rows
) -> tuple[FloatArray, FloatArray]:
    """Return (n, r) R and (r,) k with |R'w + k|^2 + w'Dw the variance of the book, for every w that meets the equalities.

    The last row of R is 0 where part of the variance does not depend on w.
    """
    values, vectors = np.linalg.eigh(problem.model.factor_covariance)
    root = vectors * np.sqrt(np.maximum(values, 0.0))
    G = problem.model.exposures @ root
    Q = limits.basis
    k = G.T @ fixed + (Q.T @ G[moving]).T @ limits.target
    G = G[moving] - Q @ (Q.T @ G[moving])
    U, s, Vt = np.linalg.svd(G, full_matrices=False)
    kept = s > 1e-10 * float(np.linalg.norm(root))
    rest = float(k @ k) - float(np.sum((Vt[kept] @ k) ** 2)) + float(problem.model.specific_variance @ fixed**2)
    R, constant = U[:, kept] * s[kept], Vt[kept] @ k
    if rest > 1e-20:
        R, constant = np.column_stack([R, np.zeros(len(R))]), np.append(constant, np.sqrt(rest))
    return R, constant


def _conflict(name: str) -> str:
    return (
        f"limit {name!r} contradicts the other limits of equal bounds, or names that cannot move. "
        "Solve it with optimize(problem), which names the conflict and the least relaxation."
    )
