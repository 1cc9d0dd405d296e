r"""The optimizer as a layer of a network: alpha in, weights out, and the derivative of the weights.

.. math::

    w^*(\alpha) = \arg\max_w \{ \text{engine.problem} \}, \qquad
    \frac{\partial\,\mathrm{loss}}{\partial \alpha} = S u, \quad u = \frac{\partial\,\mathrm{loss}}{\partial w},
    \quad S = \frac{\partial w^*}{\partial \alpha}

S is symmetric and positive semidefinite and obeys every limit that binds: S L = 0, S sign(w) = 0 under gross, S V w = 0 under
volatility, 0 on names at a cap or at a kink. It also obeys S (gamma V + A cost'') S = S, which checks a derivative without
another solve. No solver's word is taken: weights pass the certificate, derivatives that identity, or the layer raises.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch

from engine.batch import Batch, Book, one_blas_thread
from engine.derivative import Sensitivity
from engine.problem import Limits, Problem
from risk import DataError
from risk.checks import FloatArray

__all__ = ["OptimizerLayer"]


class Solved(Protocol):
    """A batch of proven books that can be differentiated."""

    @property
    def books(self) -> list[Book]: ...

    def gradients(self, u: FloatArray, wanted: Sequence[str]) -> Mapping[str, FloatArray]:
        """Return dLoss/dc by name, (B, ...), for u = dLoss/dw, (B, N)."""
        ...


class Backend(Protocol):
    """What solves a batch of problems."""

    alpha_alone: bool
    """Whether they may differ in alpha alone."""

    def solve(self, problems: Sequence[Problem], *, differentiable: bool) -> Solved:
        """Return proven books."""
        ...


@dataclass(frozen=True, eq=False)
class _StructuredBooks:
    batch: Batch
    books: list[Book]

    def gradients(self, u: FloatArray, wanted: Sequence[str]) -> Mapping[str, FloatArray]:
        def pulled(pair: tuple[Book, FloatArray]) -> list[FloatArray | float]:
            book, slope = pair
            sensitivity = book.derivative.pull_back(slope)
            return [_part(name, book, sensitivity) for name in wanted]

        rows = self.batch.each(pulled, list(zip(self.books, u, strict=True)))
        return {name: np.array([row[i] for row in rows]) for i, name in enumerate(wanted)}


class _StructuredBackend:
    alpha_alone = False

    def __init__(self, problem: Problem, jobs: int) -> None:
        self.batch = Batch(problem, jobs)

    def solve(self, problems: Sequence[Problem], *, differentiable: bool) -> Solved:  # noqa: ARG002
        """Return proven books; their derivatives are taken when they are asked for."""
        return _StructuredBooks(self.batch, self.batch.solve(problems))


def _part(name: str, book: Book, sensitivity: Sensitivity) -> FloatArray | float:
    """Return the derivative by one input of the layer."""
    if name == "position_limit":
        return sensitivity.upper - sensitivity.lower
    if name in ("limit_lower", "limit_upper"):
        # The bounds of an equality move as one: what that is worth is given once, under the side that the row presses against.
        limits, above = book.problem.limits, book.multipliers.limits >= 0
        here = above if name == "limit_upper" else ~above
        side = sensitivity.limit_upper if name == "limit_upper" else sensitivity.limit_lower
        return np.where((limits.lower == limits.upper) & ~here, 0.0, side)
    part: FloatArray | float = getattr(sensitivity, name)
    return part


def _through_cvxpylayers(problem: Problem, jobs: int) -> Backend:
    from engine.cone_layer import ConeBackend

    return ConeBackend(problem, jobs)


BACKENDS: dict[str, Callable[[Problem, int], Backend]] = {
    "structured": _StructuredBackend,
    "cvxpylayers": _through_cvxpylayers,
}


class OptimizerLayer(torch.nn.Module):
    """Weights as a differentiable function of alpha and of the mandate's numbers.

    Parameters
    ----------
    problem : Problem
        Everything but alpha. Every solve starts from the solution at its own alpha.
    backend : str
        ``structured``: the solver and derivative of `optimize`. ``cvxpylayers``: Clarabel forward, LSMR backward, by alpha alone: slow,
        for comparison.
    jobs : int
        Threads that share a batch. No result depends on it.

    Attributes
    ----------
    fallbacks : dict of int to str
        Of the last forward call: books that were not solved from the start, and why.
    derivative_residual : ndarray of shape (B,)
        Of the last backward call: relative miss of u'S (gamma V + A cost'') S u = u'S u.

    Raises
    ------
    DataError
        If the backend is unknown, `jobs` is less than 1 or, with cvxpylayers, no name can move.
    SolverFailure
        With cvxpylayers, if limits contradict each other already as equations.

    Notes
    -----
    Terms of your own go to cvxpylayers directly: see `engine.adapter`.

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

    The mandate's own numbers may be learned too:

    >>> gross = torch.tensor(0.4, dtype=torch.float64, requires_grad=True)
    >>> layer(alpha, gross_limit=gross)[0].backward()
    >>> float(gross.grad.round(decimals=6))
    0.5
    """

    def __init__(self, problem: Problem, backend: str = "structured", *, jobs: int = 2) -> None:
        super().__init__()
        if backend not in BACKENDS:
            raise DataError(f"unknown backend {backend!r}; available: {', '.join(BACKENDS)}.")
        if jobs < 1:
            raise DataError(f"`jobs` must be at least 1 thread; got {jobs}.")
        self.problem = problem
        self.backend = backend
        self.fallbacks: dict[int, str] = {}
        self.derivative_residual = np.zeros(0)
        self._solver = BACKENDS[backend](problem, jobs)
        self._books: list[Book] = []

    @property
    def free_directions(self) -> npt.NDArray[np.int64]:
        """Of the last forward call, (B,): in how many directions each book still answers to alpha. 0: the derivative is 0."""
        with one_blas_thread():
            return np.array([book.derivative.free_directions for book in self._books], dtype=np.int64)

    def forward(
        self,
        alpha: torch.Tensor,
        *,
        risk_aversion: torch.Tensor | None = None,
        gross_limit: torch.Tensor | None = None,
        volatility_limit: torch.Tensor | None = None,
        turnover_limit: torch.Tensor | None = None,
        position_limit: torch.Tensor | None = None,
        holdings: torch.Tensor | None = None,
        limit_lower: torch.Tensor | None = None,
        limit_upper: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Return the optimal weights of each alpha.

        Everything but alpha replaces the problem's own value, is differentiated too, and broadcasts over the batch: one value for all
        books or, with a first axis of length B, one for each.

        Parameters
        ----------
        alpha : Tensor of float64, shape (N,) or (B, N)
            Expected residual return, per year.
        risk_aversion, gross_limit, volatility_limit, turnover_limit : Tensor of float64, shape () or (B,), optional
        position_limit : Tensor of float64, shape (), (N,) or (B, N), optional
            c > 0: -c <= w <= c.
        holdings : Tensor of float64, shape (N,) or (B, N), optional
            Weights before trading.
        limit_lower, limit_upper : Tensor of float64, shape (q,) or (B, q), optional
            Bounds of the rows of `problem.limits`. An equality stays one only if both are given, and then its bounds move as one: their
            two gradients are right added up.

        Returns
        -------
        Tensor of float64, shape of alpha
            Fractions of net asset value.

        Raises
        ------
        DataError
            If a shape, type or device is another, or a value is out of its range.
        InfeasibleMandate
            If no portfolio meets all limits.
        SolverFailure
            If a book does not pass the certificate, or, in the backward pass, a derivative its identity.
        """
        n, q = len(self.problem.alpha), len(self.problem.limits.names)
        _check("alpha", alpha, f"({n},) or (B, {n})", alpha.ndim in (1, 2) and alpha.shape[-1] == n)
        candidates: dict[str, tuple[torch.Tensor | None, tuple[int, ...]]] = {
            "risk_aversion": (risk_aversion, ()),
            "gross_limit": (gross_limit, ()),
            "volatility_limit": (volatility_limit, ()),
            "turnover_limit": (turnover_limit, ()),
            "position_limit": (position_limit, (n,)),
            "holdings": (holdings, (n,)),
            "limit_lower": (limit_lower, (q,)),
            "limit_upper": (limit_upper, (q,)),
        }
        inputs = {"alpha": alpha.reshape(-1, n)}
        batch = alpha.shape[:-1]
        for name, (value, shape) in candidates.items():
            if value is None:
                continue
            if self._solver.alpha_alone:
                raise DataError(f'backend "{self.backend}" takes alpha alone; `{name}` goes with backend "structured".')
            wanted = (*batch, *shape)
            _check(name, value, f"{wanted}, or one that broadcasts to it", _broadcasts(value, wanted))
            inputs[name] = value.broadcast_to(wanted).reshape(len(inputs["alpha"]), *shape)
        differentiable = torch.is_grad_enabled() and any(value.requires_grad for value in inputs.values())
        weights: torch.Tensor = _Solve.apply(self, differentiable, tuple(inputs), *inputs.values())  # type: ignore[no-untyped-call]
        return weights.reshape(alpha.shape)

    def solve(self, inputs: Mapping[str, FloatArray], *, differentiable: bool) -> Solved:
        """Return the proven books of a batch; `inputs` by name, each (B, ...)."""
        count = len(inputs["alpha"])
        problems = [_with(self.problem, {name: value[b] for name, value in inputs.items()}) for b in range(count)]
        solved = self._solver.solve(problems, differentiable=differentiable)
        self._books = solved.books
        self.fallbacks = {b: book.fallback for b, book in enumerate(solved.books) if book.fallback}
        return solved

    def prove(self, books: list[Book], u: FloatArray, g: FloatArray) -> None:
        """Record how far each g = S u, (B, N), misses its identity, and refuse one that is plainly wrong."""
        pairs = zip(books, u, g, strict=True)
        self.derivative_residual = np.array([book.prove(f"book {b}", *pair) for b, (book, *pair) in enumerate(pairs)])


def _check(name: str, value: torch.Tensor, shape: str, fits: bool) -> None:
    """Refuse what the layer cannot use; ranges and missing values are the problem's to refuse."""
    if value.dtype != torch.float64 or not fits:
        raise DataError(
            f"`{name}` must be float64 of shape {shape}; got {value.dtype}, {tuple(value.shape)}. Convert it with "
            f"{name}.double(): gradients come back in its own type."
        )
    if value.device.type != "cpu":
        raise DataError(f"`{name}` must be in main memory; got {value.device}. {name}.cpu() carries gradients back.")


def _broadcasts(value: torch.Tensor, shape: tuple[int, ...]) -> bool:
    missing = len(shape) - value.ndim
    return missing >= 0 and all(own in (1, size) for own, size in zip(value.shape, shape[missing:], strict=True))


def _with(problem: Problem, values: Mapping[str, FloatArray]) -> Problem:
    """Return the problem with the layer's inputs in the place of its own values."""
    changes: dict[str, Any] = {name: value if value.ndim else float(value) for name, value in values.items()}
    lower, upper = changes.pop("limit_lower", None), changes.pop("limit_upper", None)
    if lower is not None or upper is not None:
        own = problem.limits
        lower, upper = (own.lower if lower is None else lower), (own.upper if upper is None else upper)
        changes["limits"] = Limits(own.names, own.exposures, lower, upper, own.tier)
    return problem.replace(**changes)


class _Solve(torch.autograd.Function):
    """A batch of solves as one node of the graph."""

    @staticmethod
    def forward(
        ctx: Any, layer: OptimizerLayer, differentiable: bool, names: tuple[str, ...], *inputs: torch.Tensor
    ) -> torch.Tensor:
        values = {name: value.detach().numpy() for name, value in zip(names, inputs, strict=True)}
        solved = layer.solve(values, differentiable=differentiable)
        ctx.layer, ctx.names, ctx.solved = layer, names, solved
        ctx.shapes = {name: value.shape for name, value in values.items()}
        weights = np.array([book.weights for book in solved.books]).reshape(values["alpha"].shape)
        return torch.from_numpy(weights)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, u: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        needed = dict(zip(ctx.names, ctx.needs_input_grad[3:], strict=True))
        wanted = [name for name in ctx.names if needed[name] or name == "alpha"]  # alpha's proves the derivative of all
        slope = u.numpy()
        found = ctx.solved.gradients(slope, wanted)
        ctx.layer.prove(ctx.solved.books, slope, found["alpha"])
        given = (
            torch.from_numpy(found[name]).reshape(ctx.shapes[name]) if needed[name] else None for name in ctx.names
        )
        return None, None, None, *given
