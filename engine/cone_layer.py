r"""The layer through cvxpylayers: Clarabel forward, LSMR on the linearised optimality conditions of the cone program backward.

Slow, and right to 1e-4 or better: the independent check of the structured derivative. No solver's word is taken here either: weights are
refined and pass the certificate.

Where trades have an impact cost, the derivative is taken of a second program, in which that cost is its second-order expansion at
the solution of the first: see `engine.conic`.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from engine.active_set import refine
from engine.batch import Book, one_blas_thread
from engine.certificate import accepted, certify
from engine.conic import ConeProgram, state_cone_program
from engine.dual import Dual, Structure
from engine.problem import Problem
from engine.solution import SolverFailure
from risk.checks import FloatArray

if TYPE_CHECKING:
    from cvxpylayers.torch import CvxpyLayer

__all__ = ["ConeBackend", "ConeBooks"]

CLARABEL = {"solve_method": "Clarabel", "tol_gap_abs": 1e-11, "tol_gap_rel": 1e-11, "tol_feas": 1e-11}


class ConeBackend:
    """Books, and their derivative by alpha, of problems that differ in alpha alone.

    Parameters
    ----------
    problem : Problem
        Its own alpha only sets the scale of the numbers.
    jobs : int
        Threads that share the solves of a batch; derivatives are taken one by one.

    Raises
    ------
    DataError
        If no name can move.
    SolverFailure
        If limits contradict each other already as equations.
    """

    alpha_alone = True

    def __init__(self, problem: Problem, jobs: int) -> None:
        self.jobs = jobs
        self.structure = Structure.of(problem)
        self.program = state_cone_program(problem)
        paying = problem.costs is not None and bool(problem.costs.impact[self.program.moving].any())
        self.exact = _cvxpy_layer(self.program)
        self.local = _cvxpy_layer(state_cone_program(problem, local=True)) if paying else None

    def solve(self, problems: Sequence[Problem], *, differentiable: bool) -> ConeBooks:
        """Return proven books, with the graph of cvxpylayers behind them where asked for."""
        program, scale = self.program, self.program.unit * self.program.worth
        alpha = np.array([problem.alpha for problem in problems]).reshape(-1, len(program.moving))
        signal = torch.from_numpy(alpha[:, program.moving] * scale)
        if not len(alpha):
            return ConeBooks(program, [], signal, signal)
        layer, parameters = self.exact, [signal]
        if differentiable and self.local is not None:
            _, weights, duals = self._call(layer, parameters)
            # Only alpha is differentiated: that the expansion moves with its book is of second order at its own solution.
            books = self._prove(problems, weights, duals)
            expansion = np.array([_expansion(book) for book in books])[:, :, program.moving]
            slope, curvature, centre = expansion.transpose(1, 0, 2)
            signal = signal - torch.from_numpy(scale * (slope - curvature * centre))
            root = torch.from_numpy(np.sqrt(scale * program.unit / 2 * curvature))
            layer, parameters = self.local, [signal, root]
        signal.requires_grad_(differentiable)
        z, weights, duals = self._call(layer, parameters)
        return ConeBooks(program, self._prove(problems, weights, duals), signal, z)

    def _call(
        self, layer: CvxpyLayer, parameters: list[torch.Tensor]
    ) -> tuple[torch.Tensor, FloatArray, list[FloatArray]]:
        options: dict[str, Any] = {**CLARABEL, "n_jobs_forward": self.jobs}
        if parameters[0].requires_grad:  # without it diffcp hands every option it does not know to Clarabel
            # LSMR is Python: a second thread only waits for the first
            options |= {"mode": "lsmr", "n_jobs_backward": 1}
        with torch.enable_grad(), _quiet(), one_blas_thread():
            z, *duals = layer(*parameters, solver_args=options)
        weights = np.tile(self.program.fixed, (len(z), 1))
        weights[:, self.program.moving] = self.program.unit * z.detach().numpy()
        return z, weights, [dual.detach().numpy().reshape(len(z), -1) for dual in duals]

    def _prove(self, problems: Sequence[Problem], weights: FloatArray, duals: list[FloatArray]) -> list[Book]:
        """Return the books, sharpened to rounding where that can be done, after each has passed the certificate."""
        books = []
        for b, (problem, w) in enumerate(zip(problems, weights, strict=True)):
            if not np.isfinite(w).all():
                raise SolverFailure(_unsolved(f"the solver returned no finite weights for book {b}"))
            theta = self.program.multipliers(w, [dual[b] for dual in duals])
            sharp, prices = refine(problem, w, theta)
            if accepted(certify(problem, sharp, prices)):
                w, theta = sharp, prices
            certificate = certify(problem, w, theta)
            if not accepted(certificate):
                raise SolverFailure(_unsolved(f"book {b} fails its certificate ({certificate})"))
            books.append(Book.of(w, theta, Dual(problem, self.structure)))
        return books


@dataclass(frozen=True, eq=False)
class ConeBooks:
    """A batch of proven books, and the graph from scaled alpha to scaled weights where it was asked for."""

    program: ConeProgram
    books: list[Book]
    signal: torch.Tensor
    z: torch.Tensor

    def gradients(self, u: FloatArray, wanted: Sequence[str]) -> Mapping[str, FloatArray]:
        """Return dLoss/dalpha, (B, N), for u = dLoss/dw, (B, N)."""
        assert list(wanted) == ["alpha"], "the layer refuses what this backend does not take"
        program, g = self.program, np.zeros_like(u)
        if not len(u):
            return {"alpha": g}
        inner = u[:, program.moving]
        # diffcp takes an incoming gradient whose entries are all below 1e-8 for 0 (np.allclose): give it one of size 1.
        size = np.abs(inner).max(axis=1, keepdims=True)
        size = np.where(size > 0, size, 1.0)
        with _quiet(), one_blas_thread():
            (pulled,) = torch.autograd.grad(self.z, self.signal, torch.from_numpy(inner / size), retain_graph=True)
        # w = unit z and signal = unit worth alpha: the units of both ends.
        g[:, program.moving] = pulled.numpy() * size * (program.unit**2 * program.worth)
        return {"alpha": g}


def _expansion(book: Book) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return slope and curvature of the annual impact cost about the book, and the weights they are taken at, each (N,)."""
    point, assets = book.derivative.point, book.dual.assets
    u = point.weights - book.problem.holdings
    size = np.sqrt(np.abs(u))
    paying = book.derivative.free & (assets.power > 0)
    curvature = np.divide(0.5 * assets.power, size, out=np.zeros_like(size), where=paying)
    return assets.power * np.sign(u) * size, curvature, point.weights


def _cvxpy_layer(program: ConeProgram) -> CvxpyLayer:
    from cvxpylayers.torch import CvxpyLayer

    parameters = [program.alpha] if program.curvature is None else [program.alpha, program.curvature]
    return CvxpyLayer(program.problem, parameters, list(program.outputs))


def _unsolved(what: str) -> str:
    return (
        f"{what}. Solve the same problem with optimize(problem): it names limits in conflict, or the solver's trouble."
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep one warning quiet that is not ours to mend.

    cvxpylayers calls np.array on tensors; torch answers NumPy 2 without its `copy` keyword, which NumPy deprecates, and copies anyway.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", message="__array__ implementation doesn't accept a copy", category=DeprecationWarning
        )
        yield
