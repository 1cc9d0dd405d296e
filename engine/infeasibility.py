r"""Why no portfolio meets all limits: a smallest set of named limits in conflict, and the least cure of each.

Every named limit g gets a slack x_g >= 0 by which it is widened. The limits of a set S can hold together if and only if

.. math::

    \min_{w, x \ge 0} \; \sum_{g \in S} x_g \quad \text{s.t. each limit of } S \text{ widened by its } x_g

is 0. Where it is not, the limits with a multiplier at its optimum are in conflict by themselves (Farkas), which leaves few to
try; a deletion filter (Chinneck 2008, Feasibility and Infeasibility in Optimization) makes them irreducible. The least cure
of one limit is its least x_g with every other limit of the problem hard. Linear programs go to HiGHS, those with the volatility cone to Clarabel.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse

from engine.linear_program import least
from engine.problem import Problem
from engine.solution import InfeasibleMandate, SolverFailure
from risk.checks import FloatArray

__all__ = ["explain"]

SHOWN = 8
"""Names in one enumeration of a message; the exception's attributes hold all."""

Sparse = Any
"""A scipy sparse array; its stubs follow no shapes through hstack and vstack."""

MET = 1e-7
"""Limits that all hold once widened by this in sum count as met: solvers leave as much."""


@dataclass(frozen=True, eq=False)
class _Program:
    """Rows z_rows = matrix @ [w, |w|, |w - h|] <= bound + x[owner], and the cone of volatility.

    Attributes
    ----------
    names : tuple of str
        The named limits g.
    matrix, bound, owner
        Shapes (r, 3N), (r,), (r,); owner -1 holds always.
    root : ndarray of shape (K + N, N) or None
        ||root w|| <= v + x, with the volatility limit's place in `names`.
    """

    names: tuple[str, ...]
    matrix: Sparse
    bound: FloatArray
    owner: np.ndarray
    root: Sparse | None
    cone: int
    limit: float


@dataclass(frozen=True, eq=False)
class _Least:
    """Optimum of the widening program: sum of x, x and price by limit, and the weights."""

    total: float
    widened: FloatArray
    price: FloatArray
    weights: FloatArray


def _program(problem: Problem) -> _Program:
    limits, n = problem.limits, len(problem.alpha)
    eye, none, one = sparse.eye_array(n), sparse.csr_array((n, n)), np.ones((1, n))
    names = [*limits.names, "gross", "position"]
    blocks: list[tuple[Sparse, FloatArray, np.ndarray]] = []

    def add(rows: list[Any], bound: FloatArray, owner: int | np.ndarray) -> None:
        kept = np.isfinite(bound)
        full = sparse.hstack([sparse.csr_array(part) for part in rows]).tocsr()
        blocks.append((full[kept], bound[kept], np.broadcast_to(owner, bound.shape)[kept]))

    h, zero = problem.holdings, np.zeros(n)
    add([eye, -eye, none], zero, -1)
    add([-eye, -eye, none], zero, -1)
    Lt, empty = limits.exposures.T, sparse.csr_array((len(limits.names), n))
    add([Lt, empty, empty], limits.upper, np.arange(len(limits.names)))
    add([-Lt, empty, empty], -limits.lower, np.arange(len(limits.names)))
    add([0 * one, one, 0 * one], np.array([problem.gross_limit]), names.index("gross"))
    # A name that may not be 0 is a limit by itself; one closed at 0 is a fact; the caps of all others are one limit.
    owner = np.full(n, names.index("position"))
    owner[(problem.lower == 0) & (problem.upper == 0)] = -1
    for i in np.flatnonzero((problem.lower > 0) | (problem.upper < 0)):
        owner[i] = len(names)
        names.append(f"position:{problem.model.assets[i]}")
    add([eye, none, none], problem.upper, owner)
    add([-eye, none, none], -problem.lower, owner)
    if problem.turnover_limit is not None:
        add([eye, none, -eye], h, -1)
        add([-eye, none, -eye], -h, -1)
        add([0 * one, 0 * one, one / 2], np.array([problem.turnover_limit]), len(names))
        names.append("turnover")
    root = None
    if problem.volatility_limit is not None:
        values, vectors = np.linalg.eigh(problem.model.factor_covariance)
        factor = (problem.model.exposures @ vectors * np.sqrt(np.maximum(values, 0.0))).T
        root = sparse.csr_array(sparse.vstack([factor, sparse.diags_array(np.sqrt(problem.model.specific_variance))]))
        names.append("volatility")
    matrix, bound, owners = zip(*blocks, strict=True)
    return _Program(
        tuple(names),
        sparse.vstack(matrix).tocsr(),
        np.concatenate(bound),
        np.concatenate(owners),
        root,
        len(names) - 1 if root is not None else -1,
        problem.volatility_limit or 0.0,
    )


def _least(program: _Program, hard: set[int], elastic: set[int]) -> _Least | None:
    """Return the least widening of `elastic` with `hard` kept, other limits left out; None if there is none."""
    keep = np.isin(program.owner, [-1, *hard, *elastic])
    order = sorted(elastic)
    place = {g: j for j, g in enumerate(order)}
    owner = program.owner[keep]
    columns = np.array([place.get(int(g), -1) for g in owner])
    rows = np.flatnonzero(columns >= 0)
    widen = sparse.csr_array((-np.ones(len(rows)), (rows, columns[rows])), shape=(len(owner), len(order)))
    A: Sparse = sparse.hstack([program.matrix[keep], widen]).tocsc()
    solve = _cone if program.cone in hard | elastic else _linear
    found = solve(program, A, program.bound[keep], place)
    if found is None:
        return None
    z, prices, cone_price = found
    widened, price = np.zeros(len(program.names)), np.zeros(len(program.names))
    widened[order] = z[A.shape[1] - len(order) :]
    np.add.at(price, owner[owner >= 0], np.abs(prices[owner >= 0]))
    price[program.cone] += cone_price if program.cone in hard | elastic else 0.0
    return _Least(float(widened.sum()), widened, price, z[: program.matrix.shape[1] // 3])


_Found = tuple[FloatArray, FloatArray, float] | None


def _linear(program: _Program, A: Sparse, b: FloatArray, place: dict[int, int]) -> _Found:
    n = program.matrix.shape[1] // 3
    cost = np.concatenate([np.zeros(3 * n), np.ones(len(place))])
    found = least(cost, A, b, np.where(cost > 0, 0.0, -np.inf), np.full(len(cost), np.inf))
    return None if found is None else (*found, 0.0)


def _cone(program: _Program, A: Sparse, b: FloatArray, place: dict[int, int]) -> _Found:
    import clarabel

    assert program.root is not None
    n, m = program.matrix.shape[1] // 3, len(place)
    size = 3 * n + m
    cost = np.concatenate([np.zeros(3 * n), np.ones(m)])
    positive = sparse.csc_array((-np.ones(m), (np.arange(m), 3 * n + np.arange(m))), shape=(m, size))
    first = sparse.lil_array((1, size))
    if program.cone in place:
        first[0, 3 * n + place[program.cone]] = -1.0
    body = sparse.hstack([-program.root, sparse.csr_array((program.root.shape[0], size - n))])
    stacked: Sparse = sparse.vstack([A, positive, first, body], format="csc")
    bounds = np.concatenate([b, np.zeros(m), [program.limit], np.zeros(program.root.shape[0])])
    cones = [clarabel.NonnegativeConeT(len(b) + m), clarabel.SecondOrderConeT(1 + program.root.shape[0])]
    settings = clarabel.DefaultSettings()
    settings.verbose = False
    settings.tol_gap_abs = settings.tol_gap_rel = settings.tol_feas = 1e-9
    quadratic = sparse.csc_array((size, size))
    result = clarabel.DefaultSolver(quadratic, cost, stacked, bounds, cones, settings).solve()
    if result.status in (clarabel.SolverStatus.PrimalInfeasible, clarabel.SolverStatus.AlmostPrimalInfeasible):
        return None
    if result.status not in (clarabel.SolverStatus.Solved, clarabel.SolverStatus.AlmostSolved):
        raise SolverFailure(f"Clarabel could not tell which limits are in conflict: {result.status}.")
    z = np.array(result.z)
    return np.array(result.x), z[: len(b)], float(z[len(b) + m])


def explain(problem: Problem) -> InfeasibleMandate | None:
    """Return why no portfolio meets all limits of `problem`, or None where one does.

    Notes
    -----
    Named limits are the rows of L by their names, `gross`, `volatility`, `turnover`, `position` (the caps of all names that
    may be 0 and may move, widened together) and `position:ASSET` for a name whose bounds exclude 0. A limit's cure is
    infinite where it alone does not help because limits outside the set are in conflict too.

    Raises
    ------
    SolverFailure
        If that cannot be decided.
    """
    program = _program(problem)
    everything = set(range(len(program.names)))
    # Without volatility first: it is a linear program then, and few conflicts need the cone.
    conflict = _conflict(program, everything - {program.cone}) or _conflict(program, everything)
    if conflict is None:
        return None
    cures = {g: _least(program, everything - {g}, {g}) for g in sorted(conflict)}
    described = [_described(problem, program.names[g]) for g in cures]
    message = f"No portfolio meets all limits. In conflict: {_listed(described)}."
    working = [_cure(problem, program.names[g], g, cure) for g, cure in cures.items() if cure is not None]
    if working:
        message += f" Any one of these cures it: {'; '.join(working[:SHOWN])}."
    if len(working) < len(cures):
        rest = _listed([program.names[g] for g, cure in cures.items() if cure is None])
        message += f" {rest} alone cannot: other limits are in conflict as well."
    relaxation = {program.names[g]: math.inf if cure is None else float(cure.widened[g]) for g, cure in cures.items()}
    return InfeasibleMandate(message, tuple(program.names[g] for g in cures), relaxation)


def _conflict(program: _Program, limits: set[int]) -> set[int] | None:
    """Return an irreducible set of `limits` in conflict, or None where they can all hold."""
    members = _support(program, limits)
    if members is None:
        return None
    # What is tried first leaves first: an answer that names no caps, or no whole-book limit, is easier to act on.
    first = ("position", "gross", "volatility")
    for g in sorted(
        members, key=lambda g: (program.names[g] not in first, program.names[g].startswith("position:"), g)
    ):
        if g in members:
            members = _support(program, members - {g}) or members
    return members


def _support(program: _Program, limits: set[int]) -> set[int] | None:
    """Return those of `limits` that carry a multiplier where they cannot all hold, or None where they can."""
    least = _least(program, set(), limits)
    if least is None or least.total <= MET:
        return None
    return {g for g in limits if least.price[g] > 1e-6 * least.price.max()}


def _listed(items: list[str]) -> str:
    if len(items) > SHOWN:
        items = [*items[:SHOWN], f"{len(items) - SHOWN} more"]
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}"


def _bounds(problem: Problem, name: str) -> tuple[float, float]:
    """Return lower and upper side of a named limit; (nan, nan) for the caps taken together."""
    if name in problem.limits.names:
        j = problem.limits.names.index(name)
        return float(problem.limits.lower[j]), float(problem.limits.upper[j])
    if name.startswith("position:"):
        i = problem.model.assets.index(name.removeprefix("position:"))
        return float(problem.lower[i]), float(problem.upper[i])
    whole = {"gross": problem.gross_limit, "volatility": problem.volatility_limit, "turnover": problem.turnover_limit}
    limit = whole.get(name)
    return -math.inf, math.nan if limit is None else limit


def _described(problem: Problem, name: str) -> str:
    lower, upper = _bounds(problem, name)
    if math.isnan(upper):
        return "position (the caps of all names that can move)"
    if lower == upper:
        return f"{name} (= {upper:.6g})"
    if not math.isfinite(lower):
        return f"{name} (<= {upper:.6g})"
    if not math.isfinite(upper):
        return f"{name} (>= {lower:.6g})"
    return f"{name} ({lower:.6g} to {upper:.6g})"


def _cure(problem: Problem, name: str, g: int, cure: _Least) -> str:
    """Return the cure in words, its amount rounded up to four digits so that what is printed is enough."""
    amount = _rounded_up(float(cure.widened[g]))
    lower, upper = _bounds(problem, name)
    if math.isnan(upper):
        return f"every position cap wider by {amount:.4g}"
    if name in problem.limits.names:
        used = float(problem.limits.exposures[:, problem.limits.names.index(name)] @ cure.weights)
    elif name.startswith("position:"):
        used = float(cure.weights[problem.model.assets.index(name.removeprefix("position:"))])
    else:
        used = math.inf
    side, signed = (upper, amount) if used > upper else (lower, -amount)
    bound = round(side + signed, 12) + 0.0  # no "-0", no 3e-18
    return f"{name} to {bound:.6g} ({signed:+.4g})"


def _rounded_up(amount: float) -> float:
    if amount <= 0:
        return 0.0
    digit = 10.0 ** (math.floor(math.log10(amount)) - 3)
    return math.ceil(amount / digit) * digit
