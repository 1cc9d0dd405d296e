r"""The portfolio problem solved in the factor dimension: semismooth Newton on the dual.

With prices theta = (z of the factors, p of the rows of L, eta of gross, tau of turnover, nu of volatility) and gamma = g0 + nu,
every asset decouples:

.. math::

    q = \alpha - X R z - L p, \qquad F = R R', \qquad
    w_i = \arg\max_{lower_i \le w \le upper_i} q_i w - \eta |w| - \tfrac{\gamma}{2} d_i w^2
          - A\,\mathrm{cost}_i(w - h_i) - \mathrm{borrow}_i(w) - \tfrac{\tau}{2} |w - h_i|

a closed form. What is left is to minimise, in K + q + 3 variables, the convex

.. math::

    f(\theta) = \sum_i \max_w[\ldots] + \frac{|z|^2}{2\gamma} + \sum_j \max(\theta_j lo_j, \theta_j up_j)

where gross, turnover and volatility are three more limits, with upper sides G, T and v^2/2 and no lower side: their prices, like
those of one-sided rows, keep one sign. The first two terms are differentiable; the slope in a price is minus what the book
uses of that limit, so that the residual of this dual is the violation of the limits. Their generalised Hessian is

.. math::

    H = [B T, \mathrm{sign}(w), \mathrm{sign}(w-h)/2, D w]'\, \mathrm{diag}(\phi)\, [\ldots] + \text{factor block}, \qquad
    \phi_i = 1 / (\gamma d_i + A\,\mathrm{cost}_i'') \text{ on free names, else } 0

B holds each different column of [X, L] once, so that the work over assets is done once where limits and factors coincide.
One step minimises the quadratic model plus the last term of f exactly (a small problem in the prices alone). A step that does not lower f is damped
by lambda times the Hessian that the book would have with ALL names free: no Hessian at the same gamma exceeds it, so that a fully damped step
cannot fail, whatever the units of the limits, and names that all sit at caps or at zero leave the step well defined.

References
----------
Qi and Sun (1993), A nonsmooth version of Newton's method. Lee, Sun and Saunders (2014), Proximal Newton-type methods for
minimizing composite functions.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg import cho_factor, cho_solve

from engine.problem import Problem
from engine.solution import Multipliers
from risk.checks import BoolArray, FloatArray, freeze

__all__ = ["Optimum", "Structure", "solve"]

TOLERANCE = 1e-11
"""Largest violation of a limit, in its own unit, at which the iteration ends. Steps converge at least quadratically."""

STEPS = 150
SHORTER = (1.0, 0.5, 0.25, 0.1, 0.03)
RIDGE = 1e-11
"""Redundant limits leave the Hessian singular; this share of the fully free one's diagonal keeps their prices finite."""


@dataclass(frozen=True, eq=False)
class Structure:
    """What problems share that differ in alpha alone.

    Attributes
    ----------
    B : ndarray of shape (N, k)
        Each different column of [X, L] once.
    T : ndarray of shape (k, r + q)
        X R z + L p = B T (z, p).
    rank : int
        r, columns of R.
    curvature : ndarray of shape (k, k)
        B' D^-1 B, over all names.
    """

    B: FloatArray
    T: FloatArray
    rank: int
    curvature: FloatArray

    @classmethod
    def of(cls, problem: Problem) -> Structure:
        """Return the structure of a problem."""
        X, L, d = problem.model.exposures, problem.limits.exposures, problem.model.specific_variance
        B, place = _different_columns(np.hstack([X, L]))
        R = _root(problem.model.factor_covariance)
        K, q, r = X.shape[1], L.shape[1], R.shape[1]
        T = np.zeros((B.shape[1], r + q))
        np.add.at(T[:, :r], place[:K], R)
        T[place[K:], r + np.arange(q)] = 1.0
        scaled = B / np.sqrt(d)[:, None]
        return cls(B, T, r, scaled.T @ scaled)


def _different_columns(table: FloatArray) -> tuple[FloatArray, np.ndarray]:
    """Return the different columns of `table`, and for each of its columns where it stands among them."""
    # Equal columns have equal sums whatever the weights; only those are compared entry by entry.
    weights = np.cos(np.arange(len(table)))
    sums = [(weights[:, None] * table).sum(axis=0)] if len(table) < 2 else [weights @ table]
    kept: list[int] = []
    place = np.empty(table.shape[1], dtype=np.int64)
    candidates: dict[float, list[int]] = {}
    for j, total in enumerate(sums[0].tolist()):
        same = candidates.setdefault(total, [])
        twin = next((i for i in same if np.array_equal(table[:, kept[i]], table[:, j])), None)
        if twin is None:
            twin = len(kept)
            same.append(twin)
            kept.append(j)
        place[j] = twin
    return np.ascontiguousarray(table[:, kept]), place


def _root(F: FloatArray) -> FloatArray:
    """Return R with F = R R', its columns spanning the range of F."""
    try:
        lower: FloatArray = np.linalg.cholesky(F)
    except np.linalg.LinAlgError:
        values, vectors = np.linalg.eigh(F)
        inside = values > 1e-15 * values.max(initial=0.0)
        return np.asarray(vectors[:, inside] * np.sqrt(values[inside]))
    return lower


@dataclass(frozen=True, eq=False)
class Optimum:
    """Where the iteration ended.

    Attributes
    ----------
    weights : ndarray of shape (N,)
    multipliers : Multipliers
    residual : float
        Largest violation of a limit, in its own unit.
    steps : int
    converged : bool
    """

    weights: FloatArray
    multipliers: Multipliers
    residual: float
    steps: int
    converged: bool


class _Assets:
    """Every asset's best weight at given prices."""

    def __init__(self, problem: Problem) -> None:
        costs, n = problem.costs, len(problem.alpha)
        A = 0.0 if costs is None else costs.annualisation
        zeros = np.zeros(n)
        linear, impact, borrow = (
            (zeros, zeros, zeros) if costs is None else (costs.linear, costs.impact, costs.borrow)
        )
        self.alpha, self.d = problem.alpha, problem.model.specific_variance
        self.lower, self.upper = problem.lower, problem.upper
        self.linear, self.power, self.borrow = A * linear, 1.5 * A * impact, borrow
        self.impact = bool(self.power.any())
        trades_matter = problem.turnover_limit is not None or bool(self.linear.any()) or self.impact
        self.h = problem.holdings if trades_matter else zeros
        self.held = bool(self.h.any())
        self.low, self.high = np.minimum(self.h, 0.0), np.maximum(self.h, 0.0)
        self.side = np.where(self.h > 0, -1.0, 1.0)  # between the kinks a long is being sold, a short bought back

    def size(self, rhs: FloatArray, a: FloatArray) -> FloatArray:
        """Return |u| >= 0 with a |u| + power sqrt|u| = rhs, 0 where rhs <= 0."""
        rhs = np.maximum(rhs, 0.0)
        if not self.impact:
            return rhs / a
        # The root as 2 c / (b + sqrt(b^2 + 4 a c)): nothing cancels where the impact term leads.
        z = 2.0 * rhs / np.maximum(self.power + np.sqrt(self.power * self.power + 4.0 * a * rhs), 1e-300)
        return z * z

    def weights(self, q: FloatArray, eta: float, tau: float, gamma: float) -> FloatArray:
        a = gamma * self.d
        trade = self.linear + tau / 2
        long, short = q - eta - trade, -q - eta - trade - self.borrow
        if not self.held:
            w = self.size(long, a) - self.size(short, a)
        else:
            h, pull = self.h, a * self.h
            above, below = h + self.size(long - pull, a), h - self.size(short + pull, a)
            price = np.where(h > 0, eta, -eta - self.borrow)
            between = h + self.side * self.size(self.side * (q - price - pull) - trade, a)
            w = np.clip(between, self.low, self.high)
            w = w + np.maximum(above - self.high, 0.0) + np.minimum(below - self.low, 0.0)
        return np.minimum(np.maximum(w, self.lower), self.upper)

    def value(self, q: FloatArray, w: FloatArray, eta: float, tau: float, gamma: float) -> float:
        size, u = np.abs(w), np.abs(w - self.h)
        total = float(q @ w) - eta * float(size.sum()) - gamma / 2 * float((self.d * w) @ w)
        total -= float((self.linear + tau / 2) @ u) + float(self.borrow @ (size - w)) / 2
        if self.impact:
            total -= float(self.power @ (u * np.sqrt(u))) / 1.5
        return total

    def free(self, w: FloatArray) -> BoolArray:
        inside = (w > self.lower) & (w < self.upper) & (w != 0)
        return inside & (w != self.h) if self.held else inside

    def flexibility(self, w: FloatArray, free: BoolArray, gamma: float) -> FloatArray:
        """Return phi = dw/dq, (N,)."""
        a = gamma * self.d
        if self.impact:
            size = np.sqrt(np.abs(w - self.h))
            a = a + np.divide(0.5 * self.power, size, out=np.zeros_like(a), where=free)
        return np.where(free, 1.0 / a, 0.0)


@dataclass(frozen=True, eq=False)
class _Point:
    """The dual and the book at some prices."""

    theta: FloatArray
    q: FloatArray
    w: FloatArray
    slope: FloatArray
    """Of the differentiable part of f, (r + q + 3,); in a price, minus what the book uses of that limit."""
    f: float
    residual: float
    """Largest violation of a limit, and of R'X'w = z / gamma."""


class _Newton:
    """One problem on its structure."""

    def __init__(self, problem: Problem, structure: Structure) -> None:
        self.problem, self.structure = problem, structure
        self.assets = _Assets(problem)
        q = len(problem.limits.names)
        T, v = problem.turnover_limit, problem.volatility_limit
        whole = [problem.gross_limit, np.inf if T is None else T, np.inf if v is None else v * v / 2]
        self.upper = np.concatenate([problem.limits.upper, whole])
        self.lower = np.concatenate([problem.limits.lower, [-np.inf] * 3])
        self.r, self.m = structure.rank, structure.rank + q
        self.equal = self.lower == self.upper
        self.inside = np.zeros(len(problem.alpha), dtype=bool)
        self.gram = np.zeros_like(structure.curvature)

    def split(self, theta: FloatArray) -> tuple[float, float, float]:
        """Return eta, tau and gamma."""
        eta, tau, nu = theta[self.m :].tolist()
        return eta, tau, self.problem.risk_aversion + nu

    def at(self, theta: FloatArray) -> _Point:
        s, d = self.structure, self.assets.d
        eta, tau, gamma = self.split(theta)
        z = theta[: self.r]
        q = self.assets.alpha - s.B @ (s.T @ theta[: self.m])
        w = self.assets.weights(q, eta, tau, gamma)
        linear = -(s.T.T @ (s.B.T @ w))
        linear[: self.r] += z / gamma
        used = [np.abs(w).sum(), np.abs(w - self.assets.h).sum() / 2, (float((d * w) @ w) + float(z @ z) / gamma**2) / 2]
        slope = np.concatenate([linear, -np.array(used)])
        prices = theta[self.r :]
        bound = np.where(prices > 0, self.upper, np.where(prices < 0, self.lower, 0.0))
        f = self.assets.value(q, w, eta, tau, gamma) + float(z @ z) / (2 * gamma)
        f += float(prices[prices != 0] @ bound[prices != 0])
        miss = self.missing(prices, slope[self.r :])
        residual = max(float(np.abs(miss).max(initial=0.0)), float(np.abs(linear[: self.r]).max(initial=0.0)))
        return _Point(theta, q, w, slope, f, residual)

    def missing(self, prices: FloatArray, slope: FloatArray) -> FloatArray:
        """Return the steepest descent's slope of f in each price: bound minus use where the limit has a price or is broken."""
        above, below = self.upper + slope, self.lower + slope
        at_zero = np.minimum(above, 0.0) + np.maximum(below, 0.0)
        return np.where((prices > 0) | self.equal, above, np.where(prices < 0, below, at_zero))

    def hessian(self, point: _Point) -> tuple[FloatArray, FloatArray]:
        """Return H at a point, and the Hessian with all names free, both (r + q + 3, r + q + 3)."""
        s, assets, w = self.structure, self.assets, point.w
        eta, tau, gamma = self.split(point.theta)
        free = assets.free(w)
        phi = assets.flexibility(w, free, gamma)
        columns = np.column_stack([np.sign(w), np.sign(w - assets.h) / 2, assets.d * w])  # (N, 3)
        weighted = phi[:, None] * columns
        size = self.m + 3
        H, most = np.empty((size, size)), np.zeros((size, size))
        H[: self.m, : self.m] = s.T.T @ (self._gram(free, phi, gamma) @ s.T)
        H[: self.m, self.m :] = s.T.T @ (s.B.T @ weighted)
        H[self.m :, : self.m] = H[: self.m, self.m :].T
        H[self.m :, self.m :] = columns.T @ weighted
        most[: self.m, : self.m] = s.T.T @ (s.curvature @ s.T) / gamma
        loose = 1.0 / (gamma * assets.d)
        last = self.m + np.arange(3)
        most[last, last] = [loose.sum(), loose.sum() / 4, float((assets.d * w) @ w) / gamma]
        z, r = point.theta[: self.r], np.arange(self.r)
        for block in (H, most):
            block[r, r] += 1.0 / gamma
            block[-1, -1] += float(z @ z) / gamma**3
        H[: self.r, -1] -= z / gamma**2
        H[-1, : self.r] -= z / gamma**2
        return H, most

    def _gram(self, free: BoolArray, phi: FloatArray, gamma: float) -> FloatArray:
        """Return B' diag(phi) B, mended where few names changed since the last call."""
        B = self.structure.B
        if self.assets.impact:
            scaled = B[free] * np.sqrt(phi[free])[:, None]
            return scaled.T @ scaled
        count, changed, fixed = int(free.sum()), int((free != self.inside).sum()), int((~free).sum())
        if count <= min(changed, fixed):
            self.gram, self.inside = np.zeros_like(self.gram), np.zeros_like(free)
        elif fixed < changed:
            self.gram, self.inside = self.structure.curvature, np.ones_like(free)
        for rows, sign in ((free & ~self.inside, 1.0), (self.inside & ~free, -1.0)):
            if rows.any():
                scaled = B[rows] / np.sqrt(self.assets.d[rows])[:, None]
                self.gram = self.gram + sign * (scaled.T @ scaled)
        self.inside = free
        return self.gram / gamma

    def step(self, point: _Point, M: FloatArray) -> FloatArray:
        """Return the step that minimises slope'x + x'Mx/2 + sum of max(lo, up) terms at theta + x."""
        r = self.r
        t, s = point.theta[r:], point.slope
        factor = cho_factor(M[:r, :r], lower=True, check_finite=False)
        Y = cho_solve(factor, np.column_stack([M[:r, r:], s[:r]]), check_finite=False)
        S = M[r:, r:] - M[r:, :r] @ Y[:, :-1]
        b = s[r:] - M[r:, :r] @ Y[:, -1]
        x = self._limit_step(t, b, S)
        return np.concatenate([-Y[:, -1] - Y[:, :-1] @ x, x])

    def _limit_step(self, t: FloatArray, b: FloatArray, S: FloatArray) -> FloatArray:
        """Return the minimiser of b'x + x'Sx/2 + sum_j max((t+x)_j lo_j, (t+x)_j up_j), by its active set."""
        side = np.where(self.equal | (t > 0), 1, np.where(t < 0, -1, 0))
        side = np.where(side == 0, np.where(b < -self.upper, 1, np.where(-b < self.lower, -1, 0)), side)
        x = np.zeros_like(t)
        for attempt in range(4 * len(t) + 10):
            on = side != 0
            x = np.where(on, 0.0, -t)
            bound = np.where(side > 0, self.upper, self.lower)[on]
            if on.any():
                x[on] = np.linalg.solve(S[np.ix_(on, on)], -(b[on] + bound) - S[np.ix_(on, ~on)] @ x[~on])
            use = -(b + S @ x)
            new = np.where(on & (side * (t + x) >= 0), side, 0)
            new = np.where(self.equal, 1, new)
            new = np.where(~on, np.where(use > self.upper, 1, np.where(use < self.lower, -1, 0)), new)
            changed = np.flatnonzero(new != side)
            if changed.size == 0:
                break
            if attempt > 8:  # one at a time, the last one first: principal pivoting cannot cycle
                changed = changed[-1:]
            side = side.copy()
            side[changed] = new[changed]
        return x


def solve(problem: Problem, *, structure: Structure | None = None, start: tuple[FloatArray, Multipliers] | None = None) -> Optimum:
    """Return the optimum of `problem`, or where the iteration gave up.

    Parameters
    ----------
    problem : Problem
    structure : Structure, optional
        Of this problem, where it is at hand.
    start : tuple of weights (N,) and Multipliers, optional
        Of a similar problem.
    """
    structure = Structure.of(problem) if structure is None else structure
    newton = _Newton(problem, structure)
    point = newton.at(_start(newton, start))
    damping = 0.0 if start is not None else 1e-3
    steps = 0
    while point.residual > TOLERANCE and steps < STEPS:
        steps += 1
        H, most = newton.hessian(point)
        ridge = np.diag(RIDGE * np.diag(most) + 1e-300)
        for _ in range(12):
            x = newton.step(point, H + damping * most + ridge)
            found = _search(newton, point, x)
            if found is not None:
                break
            damping = max(10 * damping, 1e-4)
        else:
            break
        point, t = found
        if t == 1.0:
            damping = damping / 10 if damping > 1e-7 else 0.0
        elif t < 0.2:
            damping = max(3 * damping, 1e-4)
    theta, q = point.theta, len(problem.limits.names)
    eta, tau, gamma = newton.split(theta)
    multipliers = Multipliers(
        freeze(theta[newton.r : newton.r + q].copy()), eta, gamma - problem.risk_aversion, tau
    )
    return Optimum(freeze(point.w), multipliers, point.residual, steps, point.residual <= TOLERANCE)


def _start(newton: _Newton, start: tuple[FloatArray, Multipliers] | None) -> FloatArray:
    theta = np.zeros(newton.m + 3)
    if start is not None:
        w, given = start
        gamma = newton.problem.risk_aversion + given.volatility
        s = newton.structure
        theta[: newton.r] = gamma * (s.T[:, : newton.r].T @ (s.B.T @ w))
        theta[newton.r :] = np.concatenate([given.limits, [given.gross, given.turnover, given.volatility]])
        t = theta[newton.r :]
        # A price that this problem's limits do not allow is none.
        t[((t > 0) & ~np.isfinite(newton.upper)) | ((t < 0) & ~np.isfinite(newton.lower))] = 0.0
    return theta


def _search(newton: _Newton, point: _Point, x: FloatArray) -> tuple[_Point, float] | None:
    """Return the first of the shortened steps that lowers f enough, with its length."""
    r = newton.r
    t = point.theta[r:]

    def bounds(prices: FloatArray) -> float:
        on = prices != 0
        return float(prices[on] @ np.where(prices > 0, newton.upper, newton.lower)[on])

    expected = float(point.slope @ x) + bounds(t + x[r:]) - bounds(t)
    rounding = 1e-14 * (1.0 + abs(point.f))
    for length in SHORTER:
        trial = newton.at(point.theta + length * x)
        if trial.f <= point.f + 1e-4 * length * expected and -expected > rounding:
            return trial, length
        # Where f has no digits left, the violations of the limits still have.
        if trial.residual < 0.9 * point.residual and trial.f <= point.f + rounding:
            return trial, length
    return None
