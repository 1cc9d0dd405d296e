"""The books of a round's stake masks, and the derivative of what each of them earned."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np

from engine.batch import Batch
from engine.problem import Problem
from risk.checks import FloatArray

__all__ = ["CvxpylayersBooks", "MaskBook", "MaskBooks", "Slope", "StructuredBooks"]

CHUNK = 10
"""Masks solved in one call: often enough for a progress bar."""

Slope = Callable[[FloatArray], FloatArray]
"""From weights (N,) to dR/dw (N,)."""


class MaskBook(NamedTuple):
    """One mask's book and what it says about its alpha.

    `gradient` is S dR/dw, (N,); `miss` the relative miss of the derivative's identity; `fallback` why another solver or start was
    needed.
    """

    weights: FloatArray
    gradient: FloatArray
    free_directions: int
    miss: float
    fallback: str


class MaskBooks(Protocol):
    """An optimizer that differentiates."""

    def solve(self, alphas: FloatArray, slope: Slope) -> Iterator[MaskBook]:
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
        Threads. No result depends on it.
    """

    problem: Problem
    jobs: int

    def solve(self, alphas: FloatArray, slope: Slope) -> Iterator[MaskBook]:
        """Yield the book of each alpha, (B, N), in their order."""
        batch = Batch(self.problem, self.jobs)

        def answer(alpha: FloatArray) -> MaskBook:
            book = batch.book(self.problem.replace(alpha=alpha))
            u = slope(book.weights)
            gradient = book.derivative.times(u)
            miss = book.prove("a mask's book", u, gradient)
            return MaskBook(book.weights, gradient, book.derivative.free_directions, miss, book.fallback)

        for start in range(0, len(alphas), CHUNK):
            yield from batch.each(answer, list(alphas[start : start + CHUNK]))


@dataclass(frozen=True, eq=False)
class CvxpylayersBooks:
    """Books through `OptimizerLayer` with cvxpylayers behind it: slower by orders of magnitude, for comparison."""

    problem: Problem

    def solve(self, alphas: FloatArray, slope: Slope) -> Iterator[MaskBook]:
        """Yield the book of each alpha, (B, N), in their order."""
        import torch

        from engine.layer import OptimizerLayer

        layer = OptimizerLayer(self.problem, "cvxpylayers", jobs=1)
        for alpha in alphas:
            leaf = torch.from_numpy(np.array(alpha)).requires_grad_()
            weights = layer(leaf)
            w: FloatArray = weights.detach().numpy()
            weights.backward(torch.from_numpy(np.array(slope(w))))
            assert leaf.grad is not None
            miss = float(layer.derivative_residual[0])
            yield MaskBook(w, leaf.grad.numpy(), int(layer.free_directions[0]), miss, "")
