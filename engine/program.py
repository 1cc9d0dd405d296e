r"""The limits of a problem, named and scaled, and the weights as segments on which every limit is linear.

The interval of a name breaks at the kinks of abs(w_i) and abs(w_i - h_i) into segments of fixed slope, one column for each.
As both functions are convex and limited from above only, filling segments out of order never helps: a program over segments
is exact, and it has a row for each row of L, for gross and for turnover instead of four for each name. Weights are counted in
one typical position and rows in their largest exposure, so that tolerances mean the same at any scale.
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

from engine.problem import Problem
from risk.checks import FloatArray

__all__ = ["Program", "Segments", "Sparse", "segments", "state_program"]

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
class Segments:
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


def segments(program: Program, counted: AbstractSet[int], elastic: AbstractSet[int]) -> Segments:
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
    return Segments(
        base=anchor,
        asset=i,
        direction=direction,
        low=np.where(inside, left - start, 0.0),
        high=np.where(inside, right - start, right - left),
        gross=direction * np.where(left >= 0, 1.0, -1.0),
        turnover=direction * np.where(left >= h[i], 0.5, -0.5),
        outer=np.where(gives[i], (left >= program.upper[i]).astype(np.int64) - (right <= program.lower[i]), 0),
    )
