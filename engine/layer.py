r"""The optimizer as a layer of a network: alpha in, weights out, and the derivative of the weights with respect to alpha.

.. math::

    w^*(\alpha) = \arg\max_w \{ \text{engine.problem} \}, \qquad
    \frac{\partial\,\mathrm{loss}}{\partial \alpha} = S u, \quad u = \frac{\partial\,\mathrm{loss}}{\partial w},
    \quad S = \frac{\partial w^*}{\partial \alpha}

S is symmetric and positive semidefinite and obeys every limit that binds: S L = 0, S sign(w) = 0 under gross, S V w = 0 under
volatility, 0 on names at a cap or at a kink. It also obeys S (gamma V + A cost'') S = S, which checks a derivative without
another solve. No solver's word is taken: weights pass the certificate, derivatives that identity, or the layer raises.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from threadpoolctl import ThreadpoolController

from engine.active_set import refine
from engine.certificate import BestResponse, State, accepted, best_response, certify, factor_prices, free_directions
from engine.conic import ConeProgram, state_cone_program
from engine.problem import Problem
from engine.solution import Multipliers, SolverFailure
from risk import DataError
from risk.checks import FloatArray

if TYPE_CHECKING:
    from cvxpylayers.torch import CvxpyLayer

__all__ = ["OptimizerLayer"]

CLARABEL = {"solve_method": "Clarabel", "tol_gap_abs": 1e-11, "tol_gap_rel": 1e-11, "tol_feas": 1e-11}
DERIVATIVE_TOLERANCE = 1e-2
"""Largest relative miss of S (gamma V + A cost'') S = S: beyond it LSMR has stopped at its limit of steps, unannounced."""

CONTROLLER = ThreadpoolController()


@dataclass(frozen=True, eq=False)
class _Book:
    """One proven book."""

    problem: Problem
    weights: FloatArray
    multipliers: Multipliers
    response: BestResponse

    def impact_curvature(self) -> FloatArray:
        """Return A cost'' of the names that are free to move, (N,)."""
        costs, result = self.problem.costs, np.zeros(len(self.weights))
        if costs is not None:
            paying = (self.response.states == State.FREE) & (costs.impact > 0)
            trades = np.abs(self.response.weights - self.problem.holdings)[paying]
            result[paying] = 0.75 * costs.annualisation * costs.impact[paying] / np.sqrt(trades)
        return result

    def impact_slope(self) -> FloatArray:
        """Return A d(impact |u|^(3/2))/du, (N,)."""
        costs = self.problem.costs
        if costs is None:
            return np.zeros(len(self.weights))
        u = self.response.weights - self.problem.holdings
        return 1.5 * costs.annualisation * costs.impact * np.sign(u) * np.sqrt(np.abs(u))

    def derivative_miss(self, u: FloatArray, g: FloatArray) -> float:
        """Return |g'(gamma V + A cost'') g - u'g| / u'g for g = S u."""
        free = self.response.states == State.FREE
        gamma = self.problem.risk_aversion + self.multipliers.volatility
        curvature = self.impact_curvature()
        moved = np.where(free, g, 0.0)
        energy = gamma * self.problem.model.variance(moved) + float(curvature @ moved**2)
        # What u'S u could be were every name free and by itself; below a millionth of it the derivative counts as 0.
        most = float(np.sum(u**2 / (gamma * self.problem.model.specific_variance)))
        return abs(energy - float(u @ g)) / max(abs(float(u @ g)), 1e-6 * most, 1e-300)


@dataclass(frozen=True, eq=False)
class _Solved:
    """A batch of proven books, and the graph from scaled alpha to scaled weights where it was asked for."""

    signal: torch.Tensor
    z: torch.Tensor
    books: list[_Book]

    @property
    def weights(self) -> FloatArray:
        """Weights by book, (B, N)."""
        return np.array([book.weights for book in self.books])


class OptimizerLayer(torch.nn.Module):
    """Weights as a differentiable function of alpha.

    Parameters
    ----------
    problem : Problem
        Everything but alpha; its own alpha only sets the scale of the numbers.
    backend : str
        ``cvxpylayers``: Clarabel forward, LSMR backward.
    jobs : int
        Threads that share the solves of a batch; the derivatives are taken one by one. No result depends on it.

    Attributes
    ----------
    free_directions : ndarray of int, shape (B,)
        Of the last forward call: in how many directions each book still answers to alpha. 0: the derivative is 0.
    derivative_residual : ndarray of shape (B,)
        Of the last backward call: relative miss of u'S (gamma V + A cost'') S u = u'S u.

    Raises
    ------
    DataError
        If the backend is unknown or no name can move.
    SolverFailure
        If limits contradict each other already as equations.

    Notes
    -----
    Where trades have an impact cost, the derivative is taken of a second program, in which that cost is its second-order
    expansion at the solution of the first: see `engine.conic`.

    Examples
    --------
    >>> from engine import Limits
    >>> from risk import FactorModel
    >>> model = FactorModel(["A", "B", "C"], ["market"], np.ones((3, 1)), [[0.04]], [0.09, 0.09, 0.09])
    >>> limits = Limits(["net"], np.ones((3, 1)), [0.0], [0.0])
    >>> layer = OptimizerLayer(Problem([0.03, 0.0, -0.03], model, limits, 0.5, 2.0, None, 1.0))
    >>> alpha = torch.tensor([0.03, 0.0, -0.03], dtype=torch.float64, requires_grad=True)
    >>> weights = layer(alpha)
    >>> weights[0].backward()
    >>> alpha.grad.numpy().round(3).tolist()
    [7.407, -3.704, -3.704]
    """

    def __init__(self, problem: Problem, backend: str = "cvxpylayers", *, jobs: int = 2) -> None:
        super().__init__()
        if backend not in BACKENDS:
            raise DataError(f"unknown backend {backend!r}; available: {', '.join(sorted(BACKENDS))}.")
        self.problem = problem
        self.jobs = jobs
        self.free_directions = np.zeros(0, dtype=np.int64)
        self.derivative_residual = np.zeros(0)
        self.program = state_cone_program(problem)
        paying = problem.costs is not None and bool(problem.costs.impact[self.program.moving].any())
        self._exact = BACKENDS[backend](self.program)
        self._local = BACKENDS[backend](state_cone_program(problem, local=True)) if paying else None

    def forward(self, alpha: torch.Tensor) -> torch.Tensor:
        """Return the optimal weights of each alpha.

        Parameters
        ----------
        alpha : Tensor of float64, shape (N,) or (B, N)
            Expected residual return, per year.

        Returns
        -------
        Tensor of float64, same shape
            Fractions of net asset value.

        Raises
        ------
        DataError
            If the shape or the type is another, or an entry is not finite.
        SolverFailure
            If a book does not pass the certificate, or, in the backward pass, a derivative its identity.
        """
        n = len(self.problem.alpha)
        if alpha.dtype != torch.float64 or alpha.ndim not in (1, 2) or alpha.shape[-1] != n:
            raise DataError(
                f"`alpha` must be float64 of shape ({n},) or (B, {n}); got {alpha.dtype}, {tuple(alpha.shape)}."
            )
        if not bool(torch.isfinite(alpha).all()):
            raise DataError("`alpha` must be finite; decide missing forecasts before the call: nothing is filled here.")
        weights: torch.Tensor = _Solve.apply(alpha.reshape(-1, n), self)  # type: ignore[no-untyped-call]
        return weights.reshape(alpha.shape)

    def solve(self, alpha: FloatArray, *, differentiable: bool) -> _Solved:
        """Return proven books of a batch of alphas (B, N), with the graph of cvxpylayers behind them where asked for."""
        scale = self.program.unit * self.program.worth
        signal = torch.from_numpy(alpha[:, self.program.moving] * scale)
        layer, parameters = self._exact, [signal]
        if differentiable and self._local is not None:
            _, weights, duals = self._call(layer, parameters)
            # Only alpha is differentiated: that the expansion moves with its book is of second order at its own solution.
            books = self._prove(alpha, weights, duals)
            curvature = np.array([book.impact_curvature()[self.program.moving] for book in books])
            slope = np.array([book.impact_slope()[self.program.moving] for book in books])
            centre = np.array([book.response.weights[self.program.moving] for book in books])
            signal = signal - torch.from_numpy(scale * (slope - curvature * centre))
            root = torch.from_numpy(np.sqrt(scale * self.program.unit / 2 * curvature))
            layer, parameters = self._local, [signal, root]
        signal.requires_grad_(differentiable)
        z, weights, duals = self._call(layer, parameters)
        return _Solved(signal, z, self._prove(alpha, weights, duals))

    def _call(
        self, layer: CvxpyLayer, parameters: list[torch.Tensor]
    ) -> tuple[torch.Tensor, FloatArray, list[FloatArray]]:
        options: dict[str, Any] = {**CLARABEL, "n_jobs_forward": self.jobs}
        if parameters[0].requires_grad:  # without it diffcp hands every option it does not know to Clarabel
            options |= {
                "mode": "lsmr",
                "n_jobs_backward": 1,
            }  # LSMR is Python: a second thread only waits for the first
        with torch.enable_grad(), _quiet_and_alone():
            z, *duals = layer(*parameters, solver_args=options)
        weights = np.tile(self.program.fixed, (len(z), 1))
        weights[:, self.program.moving] = self.program.unit * z.detach().numpy()
        return z, weights, [dual.detach().numpy().reshape(len(z), -1) for dual in duals]

    def _prove(self, alpha: FloatArray, weights: FloatArray, duals: list[FloatArray]) -> list[_Book]:
        """Return the books, sharpened to rounding where that can be done, after each has passed the certificate."""
        books = []
        for b, (a, w) in enumerate(zip(alpha, weights, strict=True)):
            if not np.isfinite(w).all():
                raise SolverFailure(_unsolved(f"the solver returned no finite weights for book {b}"))
            problem = self.problem.replace(alpha=a)
            theta = self.program.multipliers(w, [dual[b] for dual in duals])
            sharp, prices = refine(problem, w, theta)
            if accepted(certify(problem, sharp, prices)):
                w, theta = sharp, prices
            certificate = certify(problem, w, theta)
            if not accepted(certificate):
                raise SolverFailure(_unsolved(f"book {b} fails its certificate ({certificate})"))
            books.append(_Book(problem, w, theta, best_response(problem, factor_prices(problem, w, theta), theta)))
        return books

    def _prove_derivative(self, books: list[_Book], u: FloatArray, g: FloatArray) -> None:
        """Record how far each g = S u, (B, N), misses its identity, and refuse one that is plainly wrong."""
        misses = [book.derivative_miss(*pair) for book, *pair in zip(books, u, g, strict=True)]
        self.derivative_residual = np.array(misses)
        worst = int(np.argmax(self.derivative_residual))
        if not misses[worst] <= DERIVATIVE_TOLERANCE:
            raise SolverFailure(
                f"the derivative of book {worst} misses S (gamma V + A cost'') S = S by {misses[worst]:.2g} (relative): LSMR did "
                "not converge, as happens where a book has hardly a free direction. A higher risk aversion gives it more."
            )


class _Solve(torch.autograd.Function):
    """A batch of solves as one node of the graph; the graph of cvxpylayers stays inside it."""

    @staticmethod
    def forward(ctx: Any, alpha: torch.Tensor, layer: OptimizerLayer) -> torch.Tensor:
        solved = layer.solve(alpha.detach().numpy().copy(), differentiable=ctx.needs_input_grad[0])
        layer.free_directions = np.array([free_directions(b.problem, b.weights, b.multipliers) for b in solved.books])
        ctx.layer, ctx.solved = layer, solved
        return torch.from_numpy(solved.weights)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, u: torch.Tensor) -> tuple[torch.Tensor, None]:
        program, solved = ctx.layer.program, ctx.solved
        moving = torch.from_numpy(program.moving)
        # diffcp takes an incoming gradient whose entries are all below 1e-8 for 0 (np.allclose): give it one of size 1.
        size = u[:, moving].abs().amax(dim=1, keepdim=True)
        size = torch.where(size > 0, size, torch.ones_like(size))
        with _quiet_and_alone():
            (inner,) = torch.autograd.grad(solved.z, solved.signal, u[:, moving] / size, retain_graph=True)
        # w = unit z and signal = unit worth alpha: the units of both ends.
        g = torch.zeros_like(u)
        g[:, moving] = inner * size * (program.unit**2 * program.worth)
        ctx.layer._prove_derivative(solved.books, u.numpy(), g.numpy())
        return g, None


def _through_cvxpylayers(program: ConeProgram) -> CvxpyLayer:
    from cvxpylayers.torch import CvxpyLayer

    parameters = [program.alpha] if program.curvature is None else [program.alpha, program.curvature]
    return CvxpyLayer(program.problem, parameters, list(program.outputs))


BACKENDS: dict[str, Callable[[ConeProgram], CvxpyLayer]] = {"cvxpylayers": _through_cvxpylayers}


def _unsolved(what: str) -> str:
    return (
        f"{what}. Solve the same problem with optimize(problem): it names limits in conflict, or the solver's trouble."
    )


@contextmanager
def _quiet_and_alone() -> Iterator[None]:
    """Run cvxpylayers with one BLAS thread and without one warning that is not ours to mend.

    Small dense kernels are slower with two threads, and their last bits would depend on the machine. cvxpylayers calls
    np.array on tensors; torch answers NumPy 2 without its `copy` keyword, which NumPy deprecates, and copies anyway.
    """
    with CONTROLLER.limit(limits=1), warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", message="__array__ implementation doesn't accept a copy", category=DeprecationWarning
        )
        yield
