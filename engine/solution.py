"""What a solve returns: weights, their proof, the price of every limit; or one of two errors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from risk.checks import FloatArray

__all__ = ["Certificate", "InfeasibleMandate", "Multipliers", "Solution", "SolverFailure", "Status"]


class Status(Enum):
    """How a solve ended. There is no "inaccurate": that is a failure."""

    SOLVED = "solved"
    SOLVED_UNPROVEN = "solved_unproven"
    """Feasible by our own check and optimal by the solver's word: user-written terms have no dual bound of ours."""


class InfeasibleMandate(ValueError):
    """No portfolio meets all limits. The message names a smallest set in conflict and the least cure of each.

    Attributes
    ----------
    conflict : tuple of str
        Names of limits that cannot hold together, while any of them removed the others can.
    relaxation : mapping of str to float
        For each, the least amount by which it alone must be widened, in its own unit.
    """

    def __init__(self, message: str, conflict: tuple[str, ...], relaxation: Mapping[str, float]) -> None:
        super().__init__(message)
        self.conflict = conflict
        self.relaxation = dict(relaxation)


class SolverFailure(RuntimeError):
    """The solver gave no solution that passes the certificate; the message holds its status and the residuals."""


@dataclass(frozen=True, eq=False)
class Multipliers:
    """Multipliers of one solution, in annual alpha.

    Attributes
    ----------
    limits : ndarray of shape (q,)
        p: positive where the upper side holds, negative where the lower side does.
    gross : float
        eta >= 0, per unit of gross.
    volatility : float
        nu >= 0, multiplier of (w'Vw - v^2) / 2; the price per unit of volatility is nu v.
    turnover : float
        tau >= 0, per unit of turnover.
    """

    limits: FloatArray
    gross: float
    volatility: float
    turnover: float


@dataclass(frozen=True)
class Certificate:
    """Evidence recomputed from the weights and multipliers in float64, outside the solver.

    Attributes
    ----------
    primal_residual : float
        Largest violation of any limit, in that limit's own unit.
    dual_residual : float
        Largest |gamma d_i (w_i - w_i*)| over assets, with w* the best response to the multipliers: annual alpha.
    complementarity : float
        Largest multiplier times slack: annual alpha.
    gap : float
        Dual bound minus objective: no portfolio within the limits has an objective above `objective + gap`. NaN where
        user-written terms leave no bound.
    objective : float
        alpha'w - (g0/2) w'Vw - A cost - borrow, per year.
    """

    primal_residual: float
    dual_residual: float
    complementarity: float
    gap: float
    objective: float

    @property
    def worst(self) -> float:
        """Largest of the four residuals."""
        return max(self.primal_residual, self.dual_residual, self.complementarity, abs(self.gap))


@dataclass(frozen=True, eq=False)
class Solution:
    """One date's book.

    Attributes
    ----------
    weights : ndarray of shape (N,)
        Target weights, fractions of net asset value, in the order of `model.assets`.
    status : Status
    certificate : Certificate
    duals : mapping of str to float
        Gain of annual alpha per unit by which each named limit is relaxed, signed; see `docs/notation.md`.
    binding : tuple of str
        Names of limits that hold with equality or at a bound and have a price; `position` where any name is at its cap.
    free_directions : int
        Free names minus the rank of the rows that bind on them: the directions in which the book can still answer.
        0 where user-written terms leave it unknown.
    near_kink : float
        Share of names that a thousandth of alpha's size would free from, or bring to, a kink or bound; NaN where unknown.
    next_change : float
        By what share alpha can grow or shrink before the active set changes and the derivative with it, to first order; NaN
        where unknown.
    volatility, gross : float
        Forecast volatility per year, and sum of abs(w).
    method : str
        ``structured``, ``clarabel`` (its fallback), ``reference:clarabel``, ``reference:osqp``.
    fallback : str
        Why another solver or start than the first had to be used; empty where none was.
    iterations : int
    relaxed : mapping of str to float
        Limits that were widened, and by how much.
    multipliers : Multipliers or None
    """

    weights: FloatArray
    status: Status
    certificate: Certificate
    duals: Mapping[str, float]
    binding: tuple[str, ...]
    free_directions: int
    near_kink: float
    next_change: float
    volatility: float
    gross: float
    method: str
    fallback: str
    iterations: int
    relaxed: Mapping[str, float]
    multipliers: Multipliers | None

    @property
    def vertex(self) -> bool:
        """Whether the limits leave the book no direction to answer in: every derivative is 0."""
        return self.free_directions == 0
