r"""The books of a round's stake masks, side by side, and the derivative of what each of them earned.

All masks start from one book, the one at full stakes, and never from each other: no result depends on how many are solved at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
from threadpoolctl import ThreadpoolController

from engine import structured
from engine.certificate import accepted, certify
from engine.derivative import Derivative
from engine.dual import Dual, Structure
from engine.optimizer import optimize
from engine.problem import Problem
from engine.solution import Multipliers, SolverFailure
from risk.checks import FloatArray

__all__ = ["Book", "Books", "CvxpylayersBooks", "Slope", "StructuredBooks"]

CONTROLLER = ThreadpoolController()

DERIVATIVE_TOLERANCE = 1e-2
"""Largest relative miss of S (gamma V + A cost'') S = S that a derivative may have."""

Slope = Callable[[FloatArray], FloatArray]
"""From weights (N,) to dR/dw (N,)."""


class Book(NamedTuple):
    """One mask's book and what it says about its alpha.

    `gradient` is S dR/dw, (N,); `miss` the relative miss of the derivative's identity; `fallback` why another solver was needed.
    """

    weights: FloatArray
    gradient: FloatArray
    free_directions: int
    miss: float
    fallback: str


class Books(Protocol):
    """An optimizer that differentiates."""

    def solve(self, alphas: FloatArray, slope: Slope) -> Iterator[Book]:
        """Yield the book of each alpha, (B, N), in their order."""
        ...


@dataclass(frozen=True, eq=False)
class StructuredBooks:
    """Books through the structured solver and its derivative.

    Parameters
    ----------
    problem : Problem
        With the alpha that all books start from.
    jobs : int
        Threads, of one BLAS thread each.
    """

    problem: Problem
    jobs: int

    def solve(self, alphas: FloatArray, slope: Slope) -> Iterator[Book]:
        """Yield the book of each alpha, (B, N), in their order."""
        with CONTROLLER.limit(limits=1), ThreadPoolExecutor(self.jobs) as pool:
            structure = Structure.of(self.problem)
            first = optimize(self.problem)
            assert first.multipliers is not None
            start = first.weights, first.multipliers

            def book(alpha: FloatArray) -> Book:
                return _book(self.problem.replace(alpha=alpha), structure, start, slope)

            yield from pool.map(book, alphas)


def _book(problem: Problem, structure: Structure, start: tuple[FloatArray, Multipliers], slope: Slope) -> Book:
    dual = Dual(problem, structure)
    found = structured.solve(problem, start=start, dual=dual)
    if found.converged and accepted(certify(problem, found.weights, found.multipliers)):
        weights, derivative, fallback = found.weights, Derivative.at(dual, found.point), ""
    else:
        solution = optimize(problem)
        assert solution.multipliers is not None
        weights, fallback = solution.weights, solution.fallback or "cold start"
        derivative = Derivative(problem, weights, solution.multipliers, dual=dual)
    u = slope(weights)
    gradient = derivative.times(u)
    miss = derivative.miss(u, gradient)
    if not miss <= DERIVATIVE_TOLERANCE:
        raise SolverFailure(
            f"the derivative of a book misses S (gamma V + A cost'') S = S by {miss:.2g} (relative), as can happen where a book "
            "has hardly a free direction. A higher risk aversion gives it more."
        )
    return Book(weights, gradient, derivative.free_directions, miss, fallback)


@dataclass(frozen=True, eq=False)
class CvxpylayersBooks:
    """Books through `OptimizerLayer` with cvxpylayers behind it: slower by orders of magnitude, for comparison."""

    problem: Problem

    def solve(self, alphas: FloatArray, slope: Slope) -> Iterator[Book]:
        """Yield the book of each alpha, (B, N), in their order."""
        import torch

        from engine.layer import OptimizerLayer

        layer = OptimizerLayer(self.problem, "cvxpylayers", jobs=1)
        for alpha in alphas:
            leaf = torch.from_numpy(alpha.copy()).requires_grad_()
            weights = layer(leaf)
            w: npt.NDArray[np.float64] = weights.detach().numpy()
            weights.backward(torch.from_numpy(np.array(slope(w))))
            assert leaf.grad is not None
            yield Book(w, leaf.grad.numpy(), int(layer.free_directions[0]), float(layer.derivative_residual[0]), "")
