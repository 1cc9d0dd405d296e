r"""The portfolio problem solved in the factor dimension: semismooth Newton on the dual of `engine.dual`.

One step minimises the quadratic model of the dual's differentiable part plus its last term, sum_j max(theta_j lo_j, theta_j up_j), exactly:
a small problem in the prices alone. A step that does not lower f is damped by lambda times the Hessian that the book would have
with ALL names free. No Hessian at the same gamma exceeds that one, so that a fully damped step cannot fail, whatever the units of the
limits; and names that all sit at caps or at zero leave the step well defined.

References
----------
Qi and Sun (1993), A nonsmooth version of Newton's method. Lee, Sun and Saunders (2014), Proximal Newton-type methods for
minimizing composite functions.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.linalg.lapack import dpotrf, dtrtrs

from engine.dual import Dual, Point
from engine.problem import Problem
from engine.solution import Multipliers
from risk.checks import FloatArray, freeze

__all__ = ["Optimum", "solve"]

TOLERANCE = 1e-11
"""Largest violation of a limit, in its own unit, at which the iteration ends. Steps converge at least quadratically."""

ACCEPTED = 1e-9
"""Where rounding stops it above that, an end below this still counts, in a row's largest exposure where that exceeds 1."""

STEPS = 150
RAISES = 12
AT_ONCE = 12
GUESSES = 8
FIRST_DAMPING = 1e-3
LENGTHS = (1.0, 0.8, 0.65, 0.5, 0.4, 0.3, 0.2, 0.1, 0.03)
RIDGE = 1e-11
"""Redundant limits leave the Hessian singular; this share of the fully free one's diagonal keeps their prices finite. It grows with the
damping: where few names meet many limits, rounding can outweigh it."""


@dataclass(frozen=True, eq=False)
class Optimum:
    """Where the iteration ended.

    Attributes
    ----------
    weights : ndarray of shape (N,)
    multipliers : Multipliers
    point : Point
        The dual there.
    steps : int
    converged : bool
    infeasible : bool
        The dual fell below what the worst portfolio within the gross limit would lose: by weak duality there is none.
    """

    weights: FloatArray
    multipliers: Multipliers
    point: Point
    steps: int
    converged: bool
    infeasible: bool

    @property
    def residual(self) -> float:
        """Largest violation of a limit, in its own unit."""
        return self.point.residual


def solve(
    problem: Problem, *, start: tuple[FloatArray, Multipliers] | None = None, dual: Dual | None = None
) -> Optimum:
    """Return the optimum of `problem`, or where the iteration gave up.

    Parameters
    ----------
    problem : Problem
    start : tuple of weights (N,) and Multipliers, optional
        Of a similar problem.
    dual : Dual, optional
        Of this problem, where it is at hand.
    """
    dual = Dual(problem) if dual is None else dual
    point = dual.at(_first_prices(dual) if start is None else dual.prices(*start))
    damping, ridge = FIRST_DAMPING if start is None else 0.0, RIDGE
    steps = 0
    while point.residual > TOLERANCE and steps < STEPS and not _impossible(dual, point):
        H, most = dual.hessian(point), dual.largest_hessian(point)
        found = None
        for _ in range(RAISES):
            M = H + damping * most if damping else H.copy()
            M[np.diag_indices_from(M)] += ridge * np.diag(most) + 1e-300
            found = _search(dual, point, _newton_step(dual, point, M))
            if found is not None:
                break
            damping, ridge = max(10 * damping, 1e-4), min(30 * ridge, 1e-9)
        if found is None:
            break
        steps += 1
        point, length = found
        if length == 1.0:
            damping, ridge = damping / 10 if damping > 1e-7 else 0.0, max(ridge / 10, RIDGE)
        elif length < 0.3:
            damping = max(3 * damping, 1e-4)
    return Optimum(
        weights=freeze(point.weights),
        multipliers=dual.multipliers(point.theta),
        point=point,
        steps=steps,
        converged=dual.missed(point) <= ACCEPTED,
        infeasible=_impossible(dual, point),
    )


def _impossible(dual: Dual, point: Point) -> bool:
    """Return whether f lies below what any portfolio can lose, so that none meets all limits."""
    return point.f < 0 and point.f < dual.floor - point.rounding


def _first_prices(dual: Dual) -> FloatArray:
    """Return prices near those of the optimum: the book with equalities alone, scaled down until volatility and gross hold.

    Without bounds and costs the prices of factors and equalities do not depend on gamma, which then follows from volatility: the
    one price in which f is far from quadratic.
    """
    assets, s, problem = dual.assets, dual.structure, dual.problem
    g0, G, v = problem.risk_aversion, problem.gross_limit, problem.volatility_limit
    theta = np.zeros(dual.size)
    on = np.concatenate([np.ones(dual.rank, dtype=bool), dual.equal[:-3]])
    M = s.metric[np.ix_(on, on)]
    M[np.arange(dual.rank), np.arange(dual.rank)] += 1.0
    M[np.diag_indices_from(M)] *= 1.0 + 1e-9
    theta[: dual.linear][on] = _solved(M, (s.T.T @ (s.B.T @ (assets.alpha / assets.d)))[on])
    q = assets.alpha - s.B @ (s.T @ theta[: dual.linear])
    z = theta[: dual.rank]
    eta, gamma = 0.0, g0
    for _ in range(GUESSES):
        w = assets.weights(q, eta, 0.0, gamma)
        # Newton on gross in eta, which is convex and falling; volatility falls about as 1 / gamma.
        loose = float(np.sum((w != 0) / assets.d)) / gamma
        excess = float(np.abs(w).sum()) - G
        eta = max(eta + excess / loose, 0.0) if loose > 0 else eta
        if v is not None:
            variance = float((assets.d * w) @ w) + float(z @ z) / gamma**2
            gamma = max(gamma * np.sqrt(variance) / v, g0)
    theta[-3], theta[-1] = eta, gamma - g0
    return theta


def _search(dual: Dual, point: Point, x: FloatArray) -> tuple[Point, float] | None:
    """Return the lowest point on a step that lowers f enough, with the share of the step; f is convex along it."""
    expected = float(point.slope @ x) + dual.bound_cost(point.theta + x) - dual.bound_cost(point.theta)
    best = None
    for length in LENGTHS:
        trial = dual.at(point.theta + length * x)
        lower = -expected > point.rounding and trial.f <= point.f + 1e-4 * length * expected
        if best is not None and not (lower and trial.f < best[0].f):
            break
        # Where f has no digits left to tell, the violations of the limits still have.
        if lower or (trial.residual < 0.9 * point.residual and trial.f <= point.f + point.rounding):
            best = trial, length
            # A quadratic would fall by half of what its slope promises: a step that does nearly as well is not shortened.
            if not lower or trial.f <= point.f + 0.4 * length * expected:
                break
    return best


def _newton_step(dual: Dual, point: Point, M: FloatArray) -> FloatArray:
    """Return the step x that minimises slope'x + x'Mx/2 plus the cost of the bounds at theta + x."""
    r, s = dual.rank, point.slope
    # LAPACK by name: at this size scipy's checks cost as much as its work.
    half, _ = dpotrf(M[:r, :r], lower=1)
    Y, _ = dtrtrs(half, np.column_stack([M[:r, r:], s[:r]]), lower=1)
    S = M[r:, r:] - Y[:, :-1].T @ Y[:, :-1]
    x = _limit_step(dual, point.theta[r:], s[r:] - Y[:, :-1].T @ Y[:, -1], S)
    z, _ = dtrtrs(half, Y[:, -1] + Y[:, :-1] @ x, lower=1, trans=1)
    return np.concatenate([-z, x])


def _limit_step(dual: Dual, t: FloatArray, b: FloatArray, S: FloatArray) -> FloatArray:
    """Return the minimiser of b'x + x'Sx/2 + sum_j max((t+x)_j lo_j, (t+x)_j up_j), by its active set."""
    side = np.where(dual.equal, 1, np.sign(t)).astype(np.int64)
    side = np.where(side == 0, _entering(dual, -b), side)
    for _ in range(AT_ONCE):
        x = _on_sides(dual, t, b, S, side)
        leaves = ~dual.equal & (side * (t + x) < 0)
        new = np.where(side == 0, _entering(dual, -(b + S @ x)), np.where(leaves, 0, side))
        if np.array_equal(new, side):
            return x
        side = new
    return _limit_step_one_by_one(dual, t, b, S)


def _limit_step_one_by_one(dual: Dual, t: FloatArray, b: FloatArray, S: FloatArray) -> FloatArray:
    """Return the same, from x = 0 down: slower, but no set of active limits is met twice."""
    side = np.where(dual.equal, 1, np.sign(t)).astype(np.int64)
    x = np.zeros_like(t)
    for _ in range(20 * len(t)):
        move = _on_sides(dual, t, b, S, side) - x
        falls = ~dual.equal & (side * (t + x + move) < 0)
        # How far along the move each price stays on its side.
        room = np.where(falls, -(t + x) / np.where(falls, move, 1.0), 1.0)
        first = int(np.argmin(room))
        x = x + min(room[first], 1.0) * move
        if falls[first]:
            side[first], x[first] = 0, -t[first]
            continue
        use = -(b + S @ x)
        excess = np.where(side == 0, np.maximum(use - dual.upper, dual.lower - use), 0.0) / np.sqrt(np.diag(S))
        worst = int(np.argmax(excess))
        if excess[worst] <= 1e-13 * float(np.abs(use / np.sqrt(np.diag(S))).max()):
            break
        side[worst] = 1 if use[worst] > dual.upper[worst] else -1
    return x


def _entering(dual: Dual, use: FloatArray) -> npt.NDArray[np.int64]:
    """Return 1 for a limit whose upper side is broken, -1 for the lower, else 0."""
    return np.where(use > dual.upper, 1, np.where(use < dual.lower, -1, 0))


def _on_sides(dual: Dual, t: FloatArray, b: FloatArray, S: FloatArray, side: npt.NDArray[np.int64]) -> FloatArray:
    """Return x where the limits on a side hold with equality in the model and all others have no price."""
    on = np.flatnonzero(side)
    x = -t
    x[on] = 0.0
    bound = np.where(side > 0, dual.upper, dual.lower)[on]
    rows = S[on]
    x[on] = _solved(rows[:, on], -(b[on] + bound) - rows @ x)
    return x


def _solved(S: FloatArray, b: FloatArray) -> FloatArray:
    try:
        return np.asarray(np.linalg.solve(S, b))
    except np.linalg.LinAlgError:  # redundant limits beyond what the ridge can part
        return np.asarray(np.linalg.lstsq(S, b)[0])
