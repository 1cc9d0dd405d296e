r"""The least widening of named limits under which a portfolio exists, and the proof where none does.

Every limit g of a problem may count, be left out, or be elastic: widened by x_g >= 0 at a cost. Over the weights w this is

.. math::

    \min_{w, x \ge 0} \; \sum_g c_g x_g \quad \text{s.t. every limit that counts, each elastic one widened by its } x_g

The interval of a name breaks at the kinks of abs(w_i) and abs(w_i - h_i) into segments of fixed slope, one column for each.
As both functions are convex and limited from above only, filling segments out of order never helps: the program is exact,
and it has a row for each row of L, for gross and for turnover instead of four for each name. Weights are counted in one
typical position and rows in their largest exposure, so that tolerances mean the same at any scale. Linear programs go to
HiGHS, those in which the volatility cone counts to Clarabel.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

from engine.linear_program import least
from engine.problem import Problem
from engine.solution import SolverFailure
from risk.checks import FloatArray

__all__ = ["MET", "Program", "Widening", "least_widening", "state_program", "support"]

MET = 1e-7
"""Limits that all hold once widened by this in sum, each in its own size, count as met: solvers leave as much."""

CONE_TOLERANCES = (1e-9, 1e-8, 1e-7)
"""Clarabel's, tried in turn: where limits leave hardly more than one portfolio it cannot reach the first."""

Sparse = Any
"""A scipy sparse array; its stubs follow no shapes through hstack and vstack."""


@dataclass(frozen=True, eq=False)
class Program:
    """The limits of a problem, named and scaled.

    Attributes
    ----------
    names : tuple of str
        Rows of L, `gross`, `position` (the caps of all names that may be 0 and may move, one limit), `position:ASSET` for a
        name that may not be 0, `turnover` and `volatility` where the problem has them.
    size : ndarray, one for each name
        What counts as 1 of each limit, in its own unit.
    unit : float
        Weight that counts as 1.
    owner : ndarray of int, shape (N,)
        The limit that a name's bounds belong to; -1 for a name closed at 0, which is a fact and no limit.
    lower, upper, holdings : ndarray of shape (N,)
        Scaled.
    rows : sparse array of shape (r, N)
        L', scaled.
    floor, ceiling : ndarray, one for each name
        Sides of every limit but positions, scaled.
    root : sparse array of shape (K + N, N) or None
        Volatility = norm(root w), scaled.
    """

    problem: Problem
    names: tuple[str, ...]
    size: FloatArray
    unit: float
    owner: npt.NDArray[np.int64]
    lower: FloatArray
    upper: FloatArray
    holdings: FloatArray
    rows: Sparse
    floor: FloatArray
    ceiling: FloatArray
    root: Sparse | None

    def place(self, name: str) -> int:
        """Return the number of a limit, -1 where the problem has none of that name."""
        return self.names.index(name) if name in self.names else -1


@dataclass(frozen=True, eq=False)
class Widening:
    """Optimum of a widening program.

    Attributes
    ----------
    weights : ndarray of shape (N,)
    amounts : ndarray, one for each limit
        x, in each limit's own unit.
    total : float
        Its sum in sizes.
    prices : ndarray, one for each limit
        Multipliers of rows, gross, turnover (positive at the upper side) and volatility, in sizes; 0 for positions.
    """

    weights: FloatArray
    amounts: FloatArray
    total: float
    prices: FloatArray


@dataclass(frozen=True, eq=False)
class _Segments:
    """w = base + sum of direction * z over the segments of a name, low <= z <= high.

    `outer` is 1 (-1) for a segment above (below) a bound that is elastic; `gross` and `turnover` are slopes in z.
    """

    base: FloatArray
    asset: npt.NDArray[np.int64]
    direction: FloatArray
    low: FloatArray
    high: FloatArray
    gross: FloatArray
    turnover: FloatArray
    outer: npt.NDArray[np.int64]

    def spread(self) -> Sparse:
        """Return the (N, n) matrix from segments to weights."""
        n = len(self.asset)
        return sparse.csc_array((self.direction, (self.asset, np.arange(n))), shape=(len(self.base), n))


def state_program(problem: Problem) -> Program:
    """Return the limits of `problem`, named and scaled."""
    limits, assets = problem.limits, problem.model.assets
    names = [*limits.names, "gross", "position"]
    owner = np.full(len(assets), names.index("position"))
    owner[(problem.lower == 0) & (problem.upper == 0)] = -1
    forced = np.flatnonzero((problem.lower > 0) | (problem.upper < 0))
    owner[forced] = len(names) + np.arange(len(forced))
    names += [f"position:{assets[i]}" for i in forced]
    names += ["turnover"] if problem.turnover_limit is not None else []
    names += ["volatility"] if problem.volatility_limit is not None else []

    largest = float(np.maximum(np.abs(problem.lower), np.abs(problem.upper)).max())
    unit = min(largest, problem.gross_limit) or 1.0
    size = np.full(len(names), unit)
    floor, ceiling = np.full(len(names), -np.inf), np.full(len(names), np.inf)
    q = len(limits.names)
    steepest = np.abs(limits.exposures[owner >= 0]).max(axis=0, initial=0.0)
    sides = np.maximum(*(np.where(np.isfinite(side), np.abs(side), 0.0) for side in (limits.lower, limits.upper)))
    # A row without exposures holds or not whatever the weights: its own side is its size.
    size[:q] = np.where(steepest > 0, steepest * unit, np.where(sides > 0, sides, 1.0))
    floor[:q], ceiling[:q] = limits.lower / size[:q], limits.upper / size[:q]
    ceiling[q] = problem.gross_limit / unit
    if problem.turnover_limit is not None:
        ceiling[names.index("turnover")] = problem.turnover_limit / unit
    root = None
    if problem.volatility_limit is not None:
        size[-1] = unit * float(np.sqrt(problem.model.specific_variance.mean()))
        ceiling[-1] = problem.volatility_limit / size[-1]
        values, vectors = np.linalg.eigh(problem.model.factor_covariance)
        factor = (problem.model.exposures @ vectors * np.sqrt(np.maximum(values, 0.0))).T
        specific = sparse.diags_array(np.sqrt(problem.model.specific_variance))
        root = sparse.csr_array(sparse.vstack([factor, specific])) * (unit / size[-1])
    return Program(
        problem,
        tuple(names),
        size,
        unit,
        owner,
        problem.lower / unit,
        problem.upper / unit,
        problem.holdings / unit,
        sparse.csr_array(limits.exposures.T * (unit / size[:q])[:, None]),
        floor,
        ceiling,
        root,
    )


def _segments(program: Program, counted: AbstractSet[int], elastic: AbstractSet[int]) -> _Segments:
    """Return the segments of all names where `elastic` limits give, and those in neither set do not count."""
    kept = np.isin(program.owner, [-1, *counted])
    gives = np.isin(program.owner, list(elastic))
    lower, upper = np.where(kept, program.lower, -np.inf), np.where(kept, program.upper, np.inf)
    h, knots = program.holdings, []
    if program.place("gross") in counted | elastic:
        knots.append(np.zeros(len(h)))
    if program.place("turnover") in counted | elastic:
        knots.append(h)
    if gives.any():
        knots += [program.lower, program.upper]
    # Within the bounds as they are, so that what lies beyond an elastic one is counted outwards from it.
    anchor = np.clip(
        knots[0] if knots else 0.0, np.where(gives, program.lower, lower), np.where(gives, program.upper, upper)
    )
    points = np.sort(np.column_stack([lower, *(np.clip(knot, lower, upper) for knot in knots), upper]), axis=1)
    i, j = np.nonzero(points[:, 1:] > points[:, :-1])
    left, right, start = points[i, j], points[i, j + 1], anchor[i]
    # Without knots a name is one column, and 0 may lie inside it.
    inside = (left < start) & (start < right)
    direction = np.where((left >= start) | inside, 1.0, -1.0)
    return _Segments(
        base=anchor,
        asset=i,
        direction=direction,
        low=np.where(inside, left - start, 0.0),
        high=np.where(inside, right - start, right - left),
        gross=direction * np.where(left >= 0, 1.0, -1.0),
        turnover=direction * np.where(left >= h[i], 0.5, -0.5),
        outer=np.where(gives[i], (left >= program.upper[i]).astype(np.int64) - (right <= program.lower[i]), 0),
    )


@dataclass(frozen=True, eq=False)
class _Statement:
    """min cost'[z, x] over A [z, x] <= b and the bounds of z; row r belongs to limit owner[r] (-1: none) with sign[r].

    `pairs` marks rows whose other side follows as a row of its own with the same bound: equalities.
    """

    segments: _Segments
    order: list[int]
    cost: FloatArray
    A: Sparse
    b: FloatArray
    owner: npt.NDArray[np.int64]
    sign: FloatArray


def _state(
    program: Program,
    counted: AbstractSet[int],
    cost: Mapping[int, float],
    budgets: Sequence[tuple[Mapping[int, float], float]],
) -> _Statement:
    elastic = {*cost, *(g for prices, _ in budgets for g in prices)}
    order = sorted(elastic)
    column = {g: k for k, g in enumerate(order)}
    z = _segments(program, counted, elastic)
    n, m = len(z.asset), len(order)

    q, gross, turnover = program.rows.shape[0], program.place("gross"), program.place("turnover")
    used = np.array(sorted(g for g in counted | elastic if g < q), dtype=np.int64)
    body: list[Sparse] = [program.rows[used] @ z.spread()]
    fixed = [program.rows[used] @ z.base]
    for g, slope, level in (
        (gross, z.gross, np.abs(z.base).sum()),
        (turnover, z.turnover, np.abs(z.base - program.holdings).sum() / 2),
    ):
        if g in counted | elastic:
            body.append(sparse.csr_array(slope[None, :]))
            fixed.append(np.array([level]))
            used = np.append(used, g)
    R, level = sparse.vstack(body, format="csr"), np.concatenate(fixed)
    top, bottom = np.isfinite(program.ceiling[used]), np.isfinite(program.floor[used])
    owner = np.concatenate([used[top], used[bottom]])
    sign = np.repeat([1.0, -1.0], [top.sum(), bottom.sum()])
    give = np.flatnonzero(np.isin(owner, order))
    E = sparse.csr_array((-np.ones(len(give)), (give, [column[g] for g in owner[give]])), shape=(len(owner), m))
    blocks = [sparse.hstack([sparse.vstack([R[top], -R[bottom]]), E])]
    bounds = [(program.ceiling[used] - level)[top], (level - program.floor[used])[bottom]]

    for side in (1, -1):  # what lies beyond an elastic bound is at most what the bound is widened by
        beyond = np.flatnonzero(z.outer == side)
        names, row = np.unique(z.asset[beyond], return_inverse=True)
        if len(names):
            wide = sparse.csr_array((np.ones(len(beyond)), (row, beyond)), shape=(len(names), n))
            of = [column[int(g)] for g in program.owner[names]]
            given = sparse.csr_array((-np.ones(len(names)), (np.arange(len(names)), of)), shape=(len(names), m))
            blocks.append(sparse.hstack([wide, given]))
            bounds.append(np.zeros(len(names)))
    for prices, budget in budgets:
        spent = np.zeros((1, n + m))
        spent[0, [n + column[g] for g in prices]] = list(prices.values())
        blocks.append(sparse.csr_array(spent))
        bounds.append(np.array([budget]))
    b = np.concatenate(bounds)
    rest = len(b) - len(owner)
    return _Statement(
        z,
        order,
        np.concatenate([np.zeros(n), [cost.get(g, 0.0) for g in order]]),
        sparse.vstack(blocks, format="csc"),
        b,
        np.append(owner, np.full(rest, -1)),
        np.append(sign, np.zeros(rest)),
    )


def least_widening(
    program: Program,
    counted: AbstractSet[int],
    cost: Mapping[int, float],
    budgets: Sequence[tuple[Mapping[int, float], float]] = (),
) -> Widening | None:
    """Return the least widening of the limits in `cost`; None where the limits in `counted` leave no portfolio.

    Parameters
    ----------
    program : Program
    counted : set of int
        Limits that hold as they are. What is neither here nor elastic is left out.
    cost : mapping of int to float
        Elastic limits and c_g, per size.
    budgets : sequence of (mapping of int to float, float)
        Further elastic limits: the sum of prices times x must not exceed the amount.

    Raises
    ------
    SolverFailure
        If a solver ends as neither optimal nor infeasible.
    """
    statement = _state(program, counted, cost, budgets)
    cone = program.place("volatility")
    solve = _cone if cone >= 0 and cone in {*counted, *statement.order} else _linear
    found = solve(program, statement)
    if found is None:
        return None
    solution, multipliers, cone_price = found
    n = len(statement.segments.asset)
    amounts, prices = np.zeros(len(program.names)), np.zeros(len(program.names))
    amounts[statement.order] = np.maximum(solution[n:], 0.0)
    owned = statement.owner >= 0
    np.add.at(prices, statement.owner[owned], (statement.sign * multipliers)[owned])
    prices[cone] += cone_price
    w = statement.segments.base + statement.segments.spread() @ solution[:n]
    return Widening(w * program.unit, amounts * program.size, float(amounts.sum()), prices)


_Found = tuple[FloatArray, FloatArray, float] | None


def _linear(_: Program, statement: _Statement) -> _Found:
    z, m = statement.segments, len(statement.order)
    low, high = np.append(z.low, np.zeros(m)), np.append(z.high, np.full(m, np.inf))
    found = least(statement.cost, statement.A, statement.b, low, high)
    return None if found is None else (found[0], -found[1], 0.0)


def _cone(program: Program, statement: _Statement) -> _Found:
    import clarabel

    assert program.root is not None
    z, m, cone = statement.segments, len(statement.order), program.place("volatility")
    n, width = len(z.asset), len(z.asset) + m
    low, high = np.append(z.low, np.zeros(m)), np.append(z.high, np.full(m, np.inf))
    eye, top, bottom = sparse.eye_array(width, format="csr"), np.isfinite(high), np.isfinite(low)
    first = sparse.lil_array((1, width))
    if cone in statement.order:
        first[0, n + statement.order.index(cone)] = -1.0
    body = sparse.hstack([-program.root @ z.spread(), sparse.csr_array((program.root.shape[0], m))])
    stacked: Sparse = sparse.vstack([statement.A, eye[top], -eye[bottom], first, body], format="csc")
    bounds = np.concatenate([statement.b, high[top], -low[bottom], [program.ceiling[cone]], program.root @ z.base])
    flat = len(bounds) - 1 - program.root.shape[0]
    cones = [clarabel.NonnegativeConeT(flat), clarabel.SecondOrderConeT(1 + program.root.shape[0])]
    settings = clarabel.DefaultSettings()
    settings.verbose = False
    quadratic = sparse.csc_array((width, width))
    result: Any = None
    for tolerance in CONE_TOLERANCES:
        settings.tol_gap_abs = settings.tol_gap_rel = settings.tol_feas = tolerance
        result = clarabel.DefaultSolver(quadratic, statement.cost, stacked, bounds, cones, settings).solve()
        if result.status in (clarabel.SolverStatus.Solved, clarabel.SolverStatus.PrimalInfeasible):
            break
    if result.status in (clarabel.SolverStatus.PrimalInfeasible, clarabel.SolverStatus.AlmostPrimalInfeasible):
        return None
    if result.status not in (clarabel.SolverStatus.Solved, clarabel.SolverStatus.AlmostSolved):
        raise SolverFailure(f"Clarabel could not tell which limits are in conflict: {result.status}.")
    prices = np.array(result.z)
    return np.array(result.x), prices[: len(statement.b)], float(prices[flat])


def support(program: Program, counted: AbstractSet[int], found: Widening) -> dict[int, float]:
    r"""Return limits of `counted` that the multipliers of `found` prove to be in conflict by themselves, with their part in it.

    Notes
    -----
    With prices y, and the gradient of volatility as one more row, every portfolio within its bounds has

    .. math:: \sum_g y_g \, \mathrm{row}_g(w) \ge \sum_i \min_{l_i \le w_i \le u_i} \phi_i(w_i)

    and where this exceeds what the limits allow, there is none: Farkas' lemma, checked in float64 by its separable form.
    Bounds of a name that cost the proof less than its margin are not needed for it, and are left out.
    """
    for threshold in (1e-6, 0.0):
        y = np.where(np.abs(found.prices) > threshold * np.abs(found.prices).max(), found.prices, 0.0)
        members = _proven(program, counted, found.weights, y)
        if members is not None:
            return members
    raise SolverFailure("Limits are in conflict by the solver's word, but its multipliers do not prove it.")


def _proven(program: Program, counted: AbstractSet[int], weights: FloatArray, y: FloatArray) -> dict[int, float] | None:
    """Return the limits that the prices y need to prove a conflict, each with its price, or None where they prove none."""
    q, cone, turnover, h = (
        program.rows.shape[0],
        program.place("volatility"),
        program.place("turnover"),
        program.holdings,
    )
    slope = program.rows.T @ y[:q]
    allowed = np.where(y > 0, program.ceiling, program.floor)
    radius = np.full(len(h), np.inf)
    if cone >= 0 and y[cone] > 0:
        assert program.root is not None
        risk = program.root @ weights
        slope = slope + y[cone] * (program.root.T @ (risk / np.linalg.norm(risk)))
        # The limit itself keeps every name within v / sqrt(d_i), whatever other bounds it has.
        radius = program.ceiling[cone] / program.root[-len(h) :].diagonal()
    eta, tau = max(y[program.place("gross")], 0.0), max(y[turnover], 0.0) / 2 if turnover >= 0 else 0.0

    def lowest(low: FloatArray, high: FloatArray) -> FloatArray:
        """Return each name's least contribution over low <= w <= high, at a bound or a kink."""
        steep = np.abs(slope) > eta + tau + 1e-9 * np.abs(y).sum()
        points = [np.clip(0.0, low, high), np.clip(h, low, high)]
        points += [np.where(np.isfinite(side), side, points[0]) for side in (low, high)]
        values = [slope * w + eta * np.abs(w) + tau * np.abs(w - h) for w in points]
        result: FloatArray = np.where(steep & ~np.isfinite(high - low), -np.inf, np.min(values, axis=0))
        return result

    bound, free = lowest(program.lower, program.upper), lowest(-radius, radius)
    held = np.isin(program.owner, [-1, *counted])
    margin = float(np.where(held, bound, free).sum() - y[y != 0] @ allowed[y != 0])
    if not margin > 0:
        return None
    members = {g: abs(float(y[g])) for g in sorted(counted) if y[g] != 0}
    owned = held & (program.owner >= 0)
    worth = np.zeros(len(program.names))
    np.add.at(worth, program.owner[owned], np.maximum(bound - free, 0.0)[owned])
    # Caps leave first, then the bounds that the proof needs least, as long as a tenth of its margin stays.
    spare = 0.9 * margin
    for g in sorted(np.unique(program.owner[owned]).tolist(), key=lambda g: (g != program.place("position"), worth[g])):
        if worth[g] <= spare:
            spare -= worth[g]
        else:
            members[g] = float(worth[g])
    return members
