r"""The way from no signal and no book to today's, in steps fine enough: what is credited along it.

On the ray alpha(s) = s alpha, h(s) = s h, s from 0 to 1, the book goes from w(0), which no signal explains, to w(1). Closed names
(lower = upper), which no signal moves, go from 0 to their bound. Every step's secant operator splits the step exactly, so that the steps decide
only how finely credit is split, not whether it adds up. The step whose halves split the probes most differently is halved, until

.. math::

    \max_k \frac{\sum_j \lVert (T_j - T_{j,1} - T_{j,2})\, a_k \rVert_1}{\lVert \sum_j (T_{j,1} + T_{j,2})\, a_k \rVert_1} \le \mathrm{tolerance}

over probes a_k; the halves are what is used, so that the left side bounds what halving every step once more can be expected to change.

References
----------
Aumann and Shapley (1974), Values of Non-Atomic Games.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from engine import structured
from engine.batch import one_blas_thread
from engine.certificate import accepted, certify
from engine.dual import Dual, Point, Structure
from engine.optimizer import optimize
from engine.problem import Problem
from engine.secant import SINGULAR, Optimum, Parts, Secant
from engine.solution import InfeasibleMandate, SolverFailure
from risk.checks import BoolArray, FloatArray

__all__ = ["Ray", "resolve"]

POLISHES = 3
"""Newton steps on a solved book's active set at most: two reach rounding."""

ROUNDING = 1e-15
"""Residual of a book that needs no polish."""

FIRST = tuple(0.5**k for k in range(6, -1, -1))
"""Ends of the first steps: limits are met early on the ray, and a step that is too long to see them may look resolved."""

BLOCK = 256
"""Columns split at a time: bounds the memory beside the result to some arrays of N x 256."""


@dataclass(frozen=True, eq=False)
class Ray:
    """A resolved ray, which splits the book by whatever alpha and holdings are sums of.

    Attributes
    ----------
    steps : tuple of Secant
        From s = 0 to 1.
    unresolved : float
        Largest share of a probe's part that still moved where each step was halved; at most the tolerance.
    fallbacks : int
        Books that needed another solver or start than the first.
    """

    steps: tuple[Secant, ...]
    unresolved: float
    fallbacks: int

    @property
    def start(self) -> FloatArray:
        """The book at no signal, (N,)."""
        return self.steps[0].start.point.weights

    @property
    def weights(self) -> FloatArray:
        """The book, (N,)."""
        return self.steps[-1].end.point.weights

    def split(self, parts: Parts) -> FloatArray:
        """Return what each part of the ray brings of w(1) - w(0), (N, m)."""
        with one_blas_thread():
            total = np.zeros_like(parts.alpha)
            for step in self.steps:
                total += step.split(parts)
            return total

    def operators(self, *, holdings: bool) -> tuple[FloatArray, FloatArray | None]:
        """Return what `split` does as matrices, (N, N): to alpha, and to holdings where asked for.

        Worth their memory for more columns than assets.
        """
        n = len(self.weights)

        def columns(of_alpha: bool) -> FloatArray:
            result = np.empty((n, n), order="F")
            for first in range(0, n, BLOCK):
                width = min(BLOCK, n - first)
                unit, zero = np.zeros((n, width)), np.zeros((n, width))
                unit[first + np.arange(width), np.arange(width)] = 1.0
                result[:, first : first + width] = self.split(Parts(unit) if of_alpha else Parts(zero, unit))
            return result

        return columns(True), columns(False) if holdings else None


def resolve(
    problem: Problem, alpha: FloatArray, probes: Parts, kept: FloatArray, *, tolerance: float, most: int
) -> Ray:
    """Return the ray to the book of alpha (N,), resolved to `tolerance` for the probes.

    Parameters
    ----------
    problem : Problem
        Everything but alpha.
    alpha : ndarray of shape (N,)
    probes : Parts
        Some of what is to be split.
    kept : ndarray of shape (N,)
        Of closed names the share of what is held in them that stays; NaN elsewhere.
    tolerance : float
    most : int
        Steps at most.

    Raises
    ------
    SolverFailure
        If `most` steps do not resolve the ray, or a book on it cannot be proven.
    InfeasibleMandate
        If no portfolio meets all limits at no signal from an empty book, or at the end.
    """
    with one_blas_thread():
        walk = _Walk(problem, alpha, probes, kept)
        ends = [walk.at(0.0, None)]
        for share in FIRST:
            ends.append(walk.at(share, ends[-1]))
        coarse_steps = [walk.halved(Secant(*pair, kept)) for pair in pairwise(ends)]
        parts = np.sum([step.parts for step in coarse_steps], axis=0)
        missed = np.sum([step.missed for step in coarse_steps], axis=0)
        queue = [(-step.worst(_sizes(parts)), step.share, step) for step in coarse_steps]
        heapq.heapify(queue)
        while (moved := float((missed / _sizes(parts)).max(initial=0.0))) > tolerance:
            if 2 * len(queue) + 2 > most:
                raise SolverFailure(
                    f"{2 * len(queue)} steps leave sleeves that move by {moved:.2g} of their size where steps are halved; wanted "
                    f"{tolerance:g}. Give a larger `tolerance` or more `steps`."
                )
            coarse = heapq.heappop(queue)[-1]
            parts -= coarse.parts
            missed -= coarse.missed
            for half in coarse.halves:
                finer = walk.halved(half)
                parts += finer.parts
                missed += finer.missed
                heapq.heappush(queue, (-finer.worst(_sizes(parts)), finer.share, finer))
    leaves = sorted(queue, key=lambda item: item[1])
    steps = tuple(step for _, _, leaf in leaves for step in leaf.halves)
    return Ray(steps, moved, walk.fallbacks)


@dataclass(frozen=True, eq=False)
class _Halved:
    """A step in two halves: where it starts, what they bring the probes, (N, m), and by how much the whole step differs, (m,)."""

    share: float
    halves: tuple[Secant, Secant]
    parts: FloatArray
    missed: FloatArray

    def worst(self, sizes: FloatArray) -> float:
        """Return the largest share of a probe's part that moved."""
        return float((self.missed / sizes).max(initial=0.0))


def _sizes(parts: FloatArray) -> FloatArray:
    """Return what the probes' parts are measured in, (m,): parts that cancel to nothing cannot be resolved to a share of themselves."""
    size = np.abs(parts).sum(axis=0)
    floor = max(float(size.mean()), 1e-300)
    return np.asarray(np.maximum(size, floor))


class _Walk:
    """The books on the ray, each solved once, from its neighbour."""

    def __init__(self, problem: Problem, alpha: FloatArray, probes: Parts, kept: FloatArray) -> None:
        self.problem, self.alpha, self.probes, self.kept = problem, alpha, probes, kept
        self.structure = Structure.of(problem)
        self.closed: BoolArray = ~np.isnan(kept)
        self.fallbacks = 0

    def at(self, share: float, near: Optimum | None) -> Optimum:
        """Return the proven book at a share of the ray."""
        lower, upper = (np.where(self.closed, share * side, side) for side in (self.problem.lower, self.problem.upper))
        here = self.problem.replace(
            alpha=share * self.alpha, holdings=share * self.problem.holdings, position_limit=(lower, upper)
        )
        dual = Dual(here, self.structure)
        start = None if near is None else (near.point.weights, near.dual.multipliers(near.point.theta))
        found = structured.solve(here, start=start, dual=dual)
        point = found.point
        if not (found.converged and accepted(certify(here, found.weights, found.multipliers))):
            self.fallbacks += 1
            point = self._otherwise(here, dual, share)
        return Optimum(share, dual, polished(dual, point))

    def _otherwise(self, here: Problem, dual: Dual, share: float) -> Point:
        try:
            solution = optimize(here)
        except (InfeasibleMandate, SolverFailure) as error:
            error.add_note(f"This is the book at {share:g} of the way from no signal and an empty book to today's.")
            raise
        assert solution.multipliers is not None, "only user-written terms leave a solution without them"
        return dual.at(dual.prices(solution.weights, solution.multipliers))

    def halved(self, step: Secant) -> _Halved:
        """Return a step in two halves and by how much their split differs from its own."""
        middle = self.at((step.start.share + step.end.share) / 2, step.end)
        halves = Secant(step.start, middle, self.kept), Secant(middle, step.end, self.kept)
        parts = halves[0].split(self.probes) + halves[1].split(self.probes)
        return _Halved(step.start.share, halves, parts, np.abs(parts - step.split(self.probes)).sum(axis=0))


def polished(dual: Dual, point: Point) -> Point:
    """Return a solved point with its last digits: Newton on the prices that are not 0, as long as residuals fall.

    What is split adds up as well as both ends of a step meet their limits.
    """
    r = dual.rank
    for _ in range(POLISHES):
        if point.residual <= ROUNDING:
            break
        on = np.concatenate([np.ones(r, dtype=bool), dual.equal | (point.theta[r:] != 0)])
        miss = point.slope.copy()
        miss[r:] = dual.violations(point.theta, point.slope)
        unit = np.sqrt(np.diag(dual.largest_hessian(point)) + 1e-300)[on]
        inverse = np.linalg.pinv(dual.hessian(point)[np.ix_(on, on)] / np.outer(unit, unit), rcond=SINGULAR)
        theta = point.theta.copy()
        theta[on] -= (inverse @ (miss[on] / unit)) / unit
        flips = ~dual.equal & (theta[r:] * point.theta[r:] < 0)
        nearer = dual.at(theta)
        if flips.any() or not nearer.residual < point.residual:
            break
        point = nearer
    return point
