r"""How the book answers to alpha, limits, costs and holdings: the implicit derivative on the active set.

At a solution, with H and J of `engine.dual` on the factors and on the limits that hold, and u = dLoss/dw,

.. math::

    H z = J'(\phi \circ u), \qquad \frac{d\,\mathrm{Loss}}{d c} = (u - J z)' \frac{\partial w}{\partial c} + z' \frac{\partial b}{\partial c}

for anything the problem depends on: the first factor is what a name's own answer to c is worth once the prices have moved, the second what
a limit's bound b is worth. For alpha, dw/dalpha at fixed prices is phi, so that dLoss/dalpha = S u = phi o (u - J z) with S symmetric and
positive semidefinite. Redundant limits share z by least squares: S is unique, their prices are not. A name exactly at a kink or a bound counts
as held there; where no name but those that the limits tie is free (a vertex), S is 0.

References
----------
Robinson (1980), Strongly regular generalized equations. Amos and Kolter (2017), OptNet.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.linalg import cho_factor, cho_solve
from scipy.linalg.lapack import dpotrf

from engine.dual import Dual, Point
from engine.problem import Problem
from engine.solution import Multipliers
from risk import DataError
from risk.checks import BoolArray, FloatArray, check_array, freeze

__all__ = ["Derivative", "Sensitivity"]

DEPENDENT = 1e-10
"""A limit whose part that factors and other limits do not explain is below this share counts as redundant."""


@dataclass(frozen=True, eq=False)
class Sensitivity:
    """dLoss/dc for everything that the book depends on, with the active set held.

    Attributes
    ----------
    alpha, holdings, lower, upper, linear, impact, borrow : ndarray of shape (N,)
        Of each name; `lower` and `upper` are 0 where another thing holds the name, the costs are 0 without `TradeCosts`, and
        `holdings` is 0 where a kink at 0 and one at a holding of 0 coincide.
    limit_lower, limit_upper : ndarray of shape (q,)
        Of each side of a row; an equality's moves as one and is given under both.
    gross_limit, volatility_limit, turnover_limit, risk_aversion : float
        0 where a limit does not bind.
    """

    alpha: FloatArray
    holdings: FloatArray
    lower: FloatArray
    upper: FloatArray
    linear: FloatArray
    impact: FloatArray
    borrow: FloatArray
    limit_lower: FloatArray
    limit_upper: FloatArray
    gross_limit: float
    volatility_limit: float
    turnover_limit: float
    risk_aversion: float


class Derivative:
    """The derivative of one solved book.

    Parameters
    ----------
    problem : Problem
    weights : array_like of shape (N,)
    multipliers : Multipliers
        Of the solution.
    dual : Dual, optional
        Of this problem, where it is at hand.

    Attributes
    ----------
    free : ndarray of bool, shape (N,)
        Names at no kink and no bound.
    free_directions : int
        Free names less the rank on them of the limits that hold.

    Examples
    --------
    >>> from engine import Limits, optimize
    >>> from risk import FactorModel
    >>> model = FactorModel(["A", "B", "C"], ["market"], np.ones((3, 1)), [[0.04]], [0.09, 0.09, 0.09])
    >>> problem = Problem([0.03, 0.0, -0.03], model, Limits(["net"], np.ones((3, 1)), [0.0], [0.0]), 0.5, 2.0, None, 1.0)
    >>> solution = optimize(problem)
    >>> derivative = Derivative(problem, solution.weights, solution.multipliers)
    >>> derivative.times(np.array([1.0, 0.0, 0.0])).round(3).tolist()
    [7.407, -3.704, -3.704]
    """

    def __init__(
        self, problem: Problem, weights: npt.ArrayLike, multipliers: Multipliers, *, dual: Dual | None = None
    ) -> None:
        w = check_array("weights", weights, problem.alpha.shape)
        self.problem = problem
        self.dual = Dual(problem) if dual is None else dual
        self._settle(self.dual.at(self.dual.prices(w, multipliers)))

    @classmethod
    def at(cls, dual: Dual, point: Point) -> Derivative:
        """Return the derivative at a solution that the solver has at hand."""
        self = cls.__new__(cls)
        self.problem, self.dual = dual.problem, dual
        self._settle(point)
        return self

    def _settle(self, point: Point) -> None:
        dual, r = self.dual, self.dual.rank
        self.point = point
        eta, tau, self.gamma = dual.split(point.theta)
        self.free = dual.assets.free(point.weights, eta, tau)
        self.phi = dual.assets.flexibility(point.weights, self.free, self.gamma)
        self.columns = dual.columns(point.weights)
        H = dual.hessian(point)
        active = dual.equal | (point.theta[r:] != 0)
        on = r + np.flatnonzero(active)
        # The factors first, which are never redundant; then what they leave of the limits.
        self._factors = cho_factor(H[:r, :r], lower=True, check_finite=False)
        self._across = H[:r, on]
        explained = cho_solve(self._factors, self._across, check_finite=False)
        S = H[np.ix_(on, on)] - self._across.T @ explained
        rest = np.diag(S)
        length = np.where(rest > DEPENDENT * np.diag(H)[on], np.sqrt(np.maximum(rest, 1e-300)), np.inf)
        self._inverse, self.rank = _pseudo_inverse(S / np.outer(length, length))
        self._inverse /= np.outer(length, length)
        self.active: BoolArray = active

    @property
    def free_directions(self) -> int:
        """Free names less the rank on them of the limits that hold."""
        return int(self.free.sum()) - self.rank

    def _solve(self, right: FloatArray) -> FloatArray:
        """Return z with H z = right on factors and active limits, 0 on the others; `right` (r + q + 3, m)."""
        r = self.dual.rank
        first = cho_solve(self._factors, right[:r], check_finite=False)
        limits = self._inverse @ (right[r:][self.active] - self._across.T @ first)
        z = np.zeros_like(right)
        z[:r] = first - cho_solve(self._factors, self._across @ limits, check_finite=False)
        z[r:][self.active] = limits
        return z

    def _onto_prices(self, x: FloatArray) -> FloatArray:
        """Return J'x, (r + q + 3, m)."""
        s = self.dual.structure
        return np.concatenate([s.T.T @ (s.B.T @ x), self.columns.T @ x])

    def _onto_assets(self, z: FloatArray) -> FloatArray:
        """Return J z, (N, m)."""
        s, m = self.dual.structure, self.dual.linear
        return np.asarray(s.B @ (s.T @ z[:m]) + self.columns @ z[m:])

    def _pulled(self, u: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return u - J z, (N, m), and z, (r + q + 3, m): what is left of u, or of a change of alpha, once prices have moved."""
        z = self._solve(self._onto_prices(self.phi[:, None] * u))
        return u - self._onto_assets(z), z

    def times(self, u: npt.ArrayLike) -> FloatArray:
        """Return S u: dLoss/dalpha for u = dLoss/dw, or dw for u = dalpha; S is symmetric.

        Parameters
        ----------
        u : array_like of shape (N,) or (N, m)
        """
        given = np.asarray(u, dtype=np.float64)
        if given.shape[:1] != self.phi.shape or given.ndim > 2 or not np.isfinite(given).all():
            raise DataError(
                f"`u` must be finite and of shape ({len(self.phi)},) or ({len(self.phi)}, m); got {given.shape}."
            )
        left, _ = self._pulled(given.reshape(len(self.phi), -1))
        return (self.phi[:, None] * left).reshape(given.shape)

    def miss(self, u: FloatArray, moved: FloatArray) -> float:
        """Return |m'(gamma V + A cost'') m - u'm| / u'm for m = S u: an identity that checks a derivative without another solve."""
        curvature = np.divide(1.0, self.phi, out=np.zeros_like(self.phi), where=self.free)  # gamma d + A cost''
        r, s = self.dual.rank, self.dual.structure
        factor = s.T[:, :r].T @ (s.B.T @ moved)
        energy = self.gamma * float(factor @ factor) + float(curvature @ moved**2)
        # What u'S u could be were every name free and by itself; below a millionth of it the derivative counts as 0.
        most = float(np.sum(u**2 / self.dual.assets.d)) / self.gamma
        return abs(energy - float(u @ moved)) / max(abs(float(u @ moved)), 1e-6 * most, 1e-300)

    def answer(self, change: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return how weights, (N,), and prices z, p, eta, tau, nu, (r + q + 3,), answer to a change of alpha, (N,)."""
        left, z = (array[:, 0] for array in self._pulled(change[:, None]))
        return self.phi * left, z

    def pull_back(self, u: npt.ArrayLike) -> Sensitivity:
        """Return dLoss/dc for everything that the book depends on, from u = dLoss/dw, (N,)."""
        given = check_array("u", u, self.phi.shape)
        point, assets, problem, dual = self.point, self.dual.assets, self.problem, self.dual
        left, z = (array[:, 0] for array in self._pulled(given[:, None]))
        w, r = point.weights, dual.rank
        price = z[r:]
        eta, tau, nu = price[-3], price[-2], price[-1]
        moved = self.phi * left  # dLoss/dalpha
        over, under = self._held()
        u_h = w - assets.h
        side, size = np.sign(u_h), np.sqrt(np.abs(u_h))
        costs = problem.costs
        A = 0.0 if costs is None else costs.annualisation
        # A free name follows its holding as far as the bend of its impact cost ties it; one that does not trade follows wholly.
        ties = np.where(self.free, 1.0 - self.phi * self.gamma * assets.d, 0.0)
        # At a holding of 0 the kink there moves with it, unless a price or fee on |w| holds a kink of its own at 0.
        moves = (w != 0) | (point.theta[-3] + assets.borrow == 0)
        ties[~over & ~under & ~self.free & (u_h == 0) & moves] = 1.0
        held = left * ties + tau * side / 2 if assets.trades_matter else np.zeros_like(w)
        factor = point.theta[:r] / self.gamma
        aversion = -float(moved @ (assets.d * w)) - float(z[:r] @ factor) / self.gamma
        aversion += float(nu) * float(factor @ factor) / self.gamma
        rows, p = price[:-3], point.theta[r : r + len(price) - 3]
        equal = dual.equal[:-3]
        return Sensitivity(
            alpha=freeze(moved),
            holdings=freeze(held),
            lower=freeze(np.where(under, left, 0.0)),
            upper=freeze(np.where(over, left, 0.0)),
            linear=freeze(-A * side * moved),
            impact=freeze(-1.5 * A * side * size * moved),
            borrow=freeze(np.where(w < 0, moved, 0.0) if costs is not None else np.zeros_like(w)),
            limit_lower=freeze(np.where(equal | (p < 0), rows, 0.0)),
            limit_upper=freeze(np.where(equal | (p > 0), rows, 0.0)),
            gross_limit=float(eta),
            volatility_limit=float(nu) * (problem.volatility_limit or 0.0),
            turnover_limit=float(tau),
            risk_aversion=aversion,
        )

    def _held(self) -> tuple[BoolArray, BoolArray]:
        """Return which names their upper bound holds and which their lower: without it they would go beyond."""
        eta, tau, gamma = self.dual.split(self.point.theta)
        wanted = self.dual.assets.unbounded(self.point.q, eta, tau, gamma)
        return wanted > self.problem.upper, wanted < self.problem.lower


def _pseudo_inverse(S: FloatArray) -> tuple[FloatArray, int]:
    """Return the pseudo-inverse of a positive semidefinite matrix with a diagonal of 1 (or 0), and its rank."""
    n = len(S)
    half, failed = dpotrf(S, lower=1)
    if not failed and (np.diag(half) ** 2 > DEPENDENT * max(n, 1)).all():
        return np.asarray(cho_solve((half, True), np.eye(n), check_finite=False)), n
    values, vectors = np.linalg.eigh(S)
    kept = values > DEPENDENT * max(n, 1)
    scaled = vectors[:, kept] / np.sqrt(values[kept])
    return np.asarray(scaled @ scaled.T), int(kept.sum())
