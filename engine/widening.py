r"""The least widening of named limits under which a portfolio exists, and the proof where none does.

Every limit g of a problem may count, be left out, or be elastic: widened by x_g >= 0 at a cost. Over the weights w this is

.. math::

    \min_{w, x \ge 0} \; \sum_g c_g x_g \quad \text{s.t. every limit that counts, each elastic one widened by its } x_g

stated over the segments of `engine.program`. Linear programs go to HiGHS, those in which the volatility cone counts to
Clarabel.
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
from engine.program import Program, Segments, Sparse, segments
from engine.solution import SolverFailure
from risk.checks import FloatArray

__all__ = ["MET", "Widening", "least_widening", "support"]

MET = 1e-7
"""Limits that all hold once widened by this in sum, each in its own size, count as met: solvers leave as much."""

CONE_TOLERANCES = (1e-9, 1e-8, 1e-7)
"""Clarabel's, tried in turn: where limits leave hardly more than one portfolio it cannot reach the first."""


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
class _Statement:
    """min cost'[z, x] over A [z, x] <= b and the bounds of z; row r belongs to limit owner[r] (-1: none) with sign[r]."""

    segments: Segments
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
    z = segments(program, counted, elastic)
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

    for row, bound in _beyond(program, z, column):
        blocks.append(row)
        bounds.append(bound)
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


def _beyond(program: Program, z: Segments, column: Mapping[int, int]) -> list[tuple[Sparse, FloatArray]]:
    """Return rows by which what lies beyond an elastic bound is at most what that bound is widened by."""
    found = []
    for side in (1, -1):
        outside = np.flatnonzero(z.outer == side)
        names, row = np.unique(z.asset[outside], return_inverse=True)
        if len(names):
            wide = sparse.csr_array((np.ones(len(outside)), (row, outside)), shape=(len(names), len(z.asset)))
            limit = [column[int(g)] for g in program.owner[names]]
            given = sparse.csr_array(
                (-np.ones(len(names)), (np.arange(len(names)), limit)), shape=(len(names), len(column))
            )
            found.append((sparse.hstack([wide, given]), np.zeros(len(names))))
    return found


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
