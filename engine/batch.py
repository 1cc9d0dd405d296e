"""Many books of one mandate, side by side: problems that differ in neither the model nor the limits' exposures.

What such problems share is prepared once, and every solve starts from the solution of one base problem. So a book depends on its
own problem and on the base alone: not on its place in a batch, nor on the company it is solved in, nor on how many threads solve.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

from threadpoolctl import ThreadpoolController

from engine import structured
from engine.certificate import accepted, certify
from engine.derivative import Derivative
from engine.dual import Dual, Point, Structure
from engine.optimizer import optimize
from engine.problem import Problem
from engine.solution import InfeasibleMandate, Multipliers, SolverFailure
from risk.checks import FloatArray

__all__ = ["Batch", "Book", "one_blas_thread"]

CONTROLLER = ThreadpoolController()

DERIVATIVE_TOLERANCE = 1e-2
"""Largest relative miss of S (gamma V + A cost'') S = S. LSMR stops at its limit of steps unannounced, far beyond it; the structured
derivative meets the identity to rounding."""

Item = TypeVar("Item")
Result = TypeVar("Result")


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Run small dense kernels on one thread: faster than on two, and with the same last bits on every machine."""
    with CONTROLLER.limit(limits=1):
        yield


@dataclass(frozen=True, eq=False)
class Book:
    """One proven book.

    Attributes
    ----------
    problem : Problem
    weights : ndarray of shape (N,)
    multipliers : Multipliers
    dual : Dual
        Of `problem`.
    point : Point
        The dual at the multipliers.
    fallback : str
        Why it was not solved from the base solution, and how it was; empty where it was.
    """

    problem: Problem
    weights: FloatArray
    multipliers: Multipliers
    dual: Dual
    point: Point
    fallback: str = ""

    @classmethod
    def of(cls, weights: FloatArray, multipliers: Multipliers, dual: Dual, fallback: str = "") -> Book:
        """Return the book that another solver than the dual's own has found."""
        return cls(dual.problem, weights, multipliers, dual, dual.at(dual.prices(weights, multipliers)), fallback)

    @cached_property
    def derivative(self) -> Derivative:
        """How the book answers to what it depends on."""
        return Derivative.at(self.dual, self.point)

    def prove(self, which: str, u: FloatArray, gradient: FloatArray) -> float:
        """Return by how much gradient = S u misses its identity, and refuse one that is plainly wrong.

        Raises
        ------
        SolverFailure
            Which names the book by `which`.
        """
        miss = self.derivative.miss(u, gradient)
        if not miss <= DERIVATIVE_TOLERANCE:
            raise SolverFailure(
                f"the derivative of {which} misses S (gamma V + A cost'') S = S by {miss:.2g} (relative), as can happen where a book has "
                "hardly a free direction, or LSMR did not converge. A higher risk aversion gives the book more."
            )
        return miss


class Batch:
    """The solver of many problems that share a model and the limits' exposures.

    Parameters
    ----------
    problem : Problem
        The base: every solve starts from its solution, where it has one.
    jobs : int
        Threads that share the work. No result depends on it.
    """

    def __init__(self, problem: Problem, jobs: int = 2) -> None:
        self.problem, self.jobs = problem, jobs
        self.structure = Structure.of(problem)

    @cached_property
    def start(self) -> tuple[FloatArray, Multipliers] | None:
        """Where every solve starts; None, the empty book without prices, where the base has no solution."""
        found = structured.solve(self.problem, dual=Dual(self.problem, self.structure))
        return (found.weights, found.multipliers) if found.converged else None

    def each(self, function: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
        """Return `function` of each item, in their order, with the threads side by side."""
        with one_blas_thread():
            _ = self.start  # made by one thread, read by all
            if self.jobs == 1 or len(items) < 2:
                return [function(item) for item in items]
            with ThreadPoolExecutor(self.jobs) as pool:
                return list(pool.map(function, items))

    def solve(self, problems: Sequence[Problem]) -> list[Book]:
        """Return the proven book of each problem.

        Raises
        ------
        InfeasibleMandate
            If no portfolio meets all limits of one of them.
        SolverFailure
            If no solver's book passes the certificate. Both carry the place in the batch as a note.
        """

        def book(place: int) -> Book:
            try:
                return self.book(problems[place])
            except (InfeasibleMandate, SolverFailure) as error:
                error.add_note(f"This is book {place} of the batch.")
                raise

        return self.each(book, range(len(problems)))

    def book(self, problem: Problem) -> Book:
        """Return the proven book of one problem; see `solve`."""
        dual = Dual(problem, self.structure)
        found = structured.solve(problem, start=self.start, dual=dual)
        if found.converged and accepted(certify(problem, found.weights, found.multipliers)):
            return Book(problem, found.weights, found.multipliers, dual, found.point)
        solution = optimize(problem)
        assert solution.multipliers is not None, "only user-written terms leave a solution without them"
        how = solution.fallback or "solved from the empty book"
        why = f"from the base solution {found.steps} steps left limits missed by up to {found.residual:.1e}; {how}"
        return Book.of(solution.weights, solution.multipliers, dual, why)
