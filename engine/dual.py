r"""The dual of the portfolio problem: every asset answers to prices by itself, and the prices live in the factor dimension.

With prices theta = (z of the factors, p of the rows of L, eta of gross, tau of turnover, nu of volatility) and gamma = g0 + nu,

.. math::

    q = \alpha - X R z - L p, \qquad F = R R', \qquad
    w_i = \arg\max_{lower_i \le w \le upper_i} q_i w - \eta |w| - \tfrac{\gamma}{2} d_i w^2
          - A\,\mathrm{cost}_i(w - h_i) - \mathrm{borrow}_i(w) - \tfrac{\tau}{2} |w - h_i|

is a closed form, and

.. math::

    f(\theta) = \sum_i \max_w[\ldots] + \frac{|z|^2}{2\gamma} + \sum_j \max(\theta_j lo_j, \theta_j up_j)

is convex. Gross, turnover and volatility are three more limits, with upper sides G, T and v^2/2 and no lower side: their prices, like
those of one-sided rows, keep one sign. The first two terms are differentiable; their slope in a price is minus what the book
uses of that limit, so that the residual of this dual is the violation of the limits. Their generalised Hessian is

.. math::

    H = J'\, \mathrm{diag}(\phi)\, J + \text{factor block}, \qquad J = [B T, \mathrm{sign}(w), \mathrm{sign}(w-h)/2, D w], \qquad
    \phi_i = 1 / (\gamma d_i + A\,\mathrm{cost}_i'') \text{ on free names, else } 0

B holds each different column of [X, L] once, so that the work over assets is done once where limits and factors coincide.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from engine.problem import Problem
from engine.solution import Multipliers
from risk.checks import BoolArray, FloatArray, freeze

__all__ = ["Assets", "Dual", "Point", "Structure", "different_columns"]

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Structure:
    """What problems share that differ in neither the model nor the limits' exposures.

    Attributes
    ----------
    B : ndarray of shape (N, k)
        Each different column of [X, L] once.
    T : ndarray of shape (k, r + q)
        X R z + L p = B T (z, p).
    rank : int
        r, columns of R.
    rows : ndarray of int, shape (q,)
        Where each column of L stands in B.
    curvature : ndarray of shape (k, k)
        B' D^-1 B, over all names.
    metric : ndarray of shape (r + q, r + q)
        T' B' D^-1 B T.
    looseness : float
        Sum of 1 / d.
    scale : ndarray of shape (q + 3,)
        Largest exposure of each row, at least 1: what its violation is counted in. 1 for gross, turnover and volatility.
    """

    B: FloatArray
    T: FloatArray
    rank: int
    rows: IntArray
    curvature: FloatArray
    metric: FloatArray
    looseness: float
    scale: FloatArray

    @classmethod
    def of(cls, problem: Problem) -> Structure:
        """Return the structure of a problem."""
        X, L, d = problem.model.exposures, problem.limits.exposures, problem.model.specific_variance
        B, place = different_columns(X, L)
        R = _root(problem.model.factor_covariance)
        K, q, r = X.shape[1], L.shape[1], R.shape[1]
        T = np.zeros((B.shape[1], r + q))
        np.add.at(T[:, :r], place[:K], R)
        T[place[K:], r + np.arange(q)] = 1.0
        scaled = B / np.sqrt(d)[:, None]
        curvature = scaled.T @ scaled
        metric = _between(T[:, :r], place[K:], curvature)
        scale = np.append(np.maximum(np.maximum(B.max(axis=0), -B.min(axis=0)), 1.0)[place[K:]], [1.0, 1.0, 1.0])
        return cls(B, T, r, place[K:], curvature, metric, float(np.sum(1.0 / d)), scale)


def _between(R: FloatArray, rows: IntArray, gram: FloatArray) -> FloatArray:
    """Return T' gram T for T = [R, the columns of the identity at `rows`]: the second part only picks."""
    r = R.shape[1]
    left = gram @ R
    result = np.empty((r + len(rows), r + len(rows)))
    result[:r, :r] = R.T @ left
    result[r:, :r] = left[rows]
    result[:r, r:] = left[rows].T
    result[r:, r:] = gram[np.ix_(rows, rows)]
    return result


def different_columns(X: FloatArray, L: FloatArray) -> tuple[FloatArray, IntArray]:
    """Return the different columns of [X, L], and for each of its columns where it stands among them."""
    # Equal columns have equal weighted sums; only columns with equal ones are compared entry by entry.
    weights = np.cos(np.arange(len(X)))
    sums = np.round(np.concatenate([weights @ X, weights @ L]), 9).tolist()
    columns = [*X.T, *L.T]
    kept: list[int] = []
    place = np.empty(len(columns), dtype=np.int64)
    candidates: dict[float, list[int]] = {}
    for j, total in enumerate(sums):
        same = candidates.setdefault(total, [])
        twin = next((i for i in same if np.array_equal(columns[kept[i]], columns[j])), None)
        if twin is None:
            twin = len(kept)
            same.append(twin)
            kept.append(j)
        place[j] = twin
    K = X.shape[1]
    B = np.empty((len(X), len(kept)))
    from_x = [j for j in kept if j < K]
    B[:, : len(from_x)] = X if len(from_x) == K else X[:, from_x]
    B[:, len(from_x) :] = L[:, [j - K for j in kept[len(from_x) :]]]
    return B, place


def _root(F: FloatArray) -> FloatArray:
    """Return R with F = R R', its columns spanning the range of F."""
    try:
        return np.asarray(np.linalg.cholesky(F))
    except np.linalg.LinAlgError:
        values, vectors = np.linalg.eigh(F)
        inside = values > 1e-15 * values.max(initial=0.0)
        inside[-1] = True  # one column, of zeros, where F is 0
        return np.asarray(vectors[:, inside] * np.sqrt(np.maximum(values[inside], 0.0)))


class Assets:
    """Every asset's best weight at given prices."""

    def __init__(self, problem: Problem) -> None:
        costs, n = problem.costs, len(problem.alpha)
        A = 0.0 if costs is None else costs.annualisation
        zeros = np.zeros(n)
        linear, impact, borrow = (zeros, zeros, zeros) if costs is None else (costs.linear, costs.impact, costs.borrow)
        self.alpha, self.d = problem.alpha, problem.model.specific_variance
        self.lower, self.upper = problem.lower, problem.upper
        self.linear, self.power, self.borrow = A * linear, 1.5 * A * impact, borrow
        self.impact, self.borrows = bool(self.power.any()), bool(self.borrow.any())
        self.trades_matter = problem.turnover_limit is not None or bool(self.linear.any()) or self.impact
        self.h = problem.holdings if self.trades_matter else zeros
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
        """Return every asset's best weight within its bounds, (N,)."""
        return np.minimum(np.maximum(self.unbounded(q, eta, tau, gamma), self.lower), self.upper)

    def unbounded(self, q: FloatArray, eta: float, tau: float, gamma: float) -> FloatArray:
        """Return every asset's best weight were there no bounds, (N,): concavity makes clipping it exact."""
        a = gamma * self.d
        trade = self.linear + tau / 2
        long, short = q - eta - trade, -q - eta - trade - self.borrow
        if not self.held:
            return self.size(long, a) - self.size(short, a)
        h, pull = self.h, a * self.h
        above, below = h + self.size(long - pull, a), h - self.size(short + pull, a)
        price = np.where(h > 0, eta, -eta - self.borrow)
        between = h + self.side * self.size(self.side * (q - price - pull) - trade, a)
        w = np.minimum(np.maximum(between, self.low), self.high)
        return w + np.maximum(above - self.high, 0.0) + np.minimum(below - self.low, 0.0)

    def value(self, q: FloatArray, w: FloatArray, eta: float, tau: float, gamma: float) -> float:
        """Return the sum of what the assets gain at weights w."""
        size = np.abs(w)
        u = np.abs(w - self.h) if self.held else size
        total = float(q @ w) - eta * float(size.sum()) - gamma / 2 * float((self.d * w) @ w)
        if self.trades_matter:
            total -= float((self.linear + tau / 2) @ u)
        if self.borrows:
            total -= float(self.borrow @ (size - w)) / 2
        if self.impact:
            total -= float(self.power @ (u * np.sqrt(u))) / 1.5
        return total

    def free(self, w: FloatArray, eta: float, tau: float) -> BoolArray:
        """Return which names lie at no bound and no kink, (N,); a kink of no width is none."""
        inside: BoolArray = (w > self.lower) & (w < self.upper)
        trade = self.linear + tau / 2
        if self.trades_matter:
            inside &= (w != self.h) | (trade + self.power == 0)
        free: BoolArray = inside & ((w != 0) | (eta + self.borrow == 0))
        return free

    def flexibility(self, w: FloatArray, free: BoolArray, gamma: float) -> FloatArray:
        """Return phi = dw/dq, (N,)."""
        a = gamma * self.d
        if self.impact:
            size = np.sqrt(np.abs(w - self.h))
            a = a + np.divide(0.5 * self.power, size, out=np.zeros_like(a), where=free)
        return np.where(free, 1.0 / a, 0.0)


@dataclass(frozen=True, eq=False)
class Point:
    """The dual and the book at some prices.

    Attributes
    ----------
    theta : ndarray of shape (r + q + 3,)
        Prices z, p, eta, tau, nu.
    q : ndarray of shape (N,)
        Alpha less factor and limit prices.
    weights : ndarray of shape (N,)
        Each asset's answer.
    slope : ndarray of shape (r + q + 3,)
        Of the differentiable part of f: in a limit's price, minus what the book uses of that limit.
    f : float
    rounding : float
        By how much f may be off: its terms are larger than it is.
    residual : float
        Largest violation of a limit, in its own unit, or of R'X'w = z / gamma.
    """

    theta: FloatArray
    q: FloatArray
    weights: FloatArray
    slope: FloatArray
    f: float
    rounding: float
    residual: float


class Dual:
    """The dual of one problem.

    Parameters
    ----------
    problem : Problem
    structure : Structure, optional
        Of this problem, or of one that differs in neither model nor limits' exposures.
    """

    def __init__(self, problem: Problem, structure: Structure | None = None) -> None:
        self.problem = problem
        self.structure = Structure.of(problem) if structure is None else structure
        self.assets = Assets(problem)
        T, v = problem.turnover_limit, problem.volatility_limit
        whole = [problem.gross_limit, np.inf if T is None else T, np.inf if v is None else v * v / 2]
        self.upper = np.concatenate([problem.limits.upper, whole])
        self.lower = np.concatenate([problem.limits.lower, [-np.inf] * 3])
        self.equal = self.lower == self.upper
        self.rank = self.structure.rank
        self.linear = self.structure.T.shape[1]
        self.size = self.linear + 3
        self._inside = np.zeros(len(problem.alpha), dtype=bool)
        self._gram = np.zeros_like(self.structure.curvature)

    def split(self, theta: FloatArray) -> tuple[float, float, float]:
        """Return eta, tau and gamma."""
        eta, tau, nu = theta[self.linear :].tolist()
        return eta, tau, self.problem.risk_aversion + nu

    def prices(self, weights: FloatArray, multipliers: Multipliers) -> FloatArray:
        """Return theta of a book and its multipliers, (r + q + 3,); a price that no limit here allows is left out."""
        gamma = self.problem.risk_aversion + multipliers.volatility
        R = self.structure.T[:, : self.rank]
        t = np.concatenate([multipliers.limits, [multipliers.gross, multipliers.turnover, multipliers.volatility]])
        allowed = np.where(t > 0, np.isfinite(self.upper), np.where(t < 0, np.isfinite(self.lower), True))
        return np.concatenate([gamma * (R.T @ (self.structure.B.T @ weights)), np.where(allowed, t, 0.0)])

    def multipliers(self, theta: FloatArray) -> Multipliers:
        """Return the limits' part of theta."""
        p = freeze(theta[self.rank : self.linear].copy())
        eta, tau, nu = theta[self.linear :].tolist()
        return Multipliers(p, eta, nu, tau)

    def bound_cost(self, theta: FloatArray) -> float:
        """Return sum_j max(theta_j lo_j, theta_j up_j) over the limits."""
        t = theta[self.rank :]
        on = t != 0
        return float(t[on] @ np.where(t > 0, self.upper, self.lower)[on])

    @cached_property
    def floor(self) -> float:
        """Return an objective that every portfolio within the gross limit exceeds.

        f is above the objective of any portfolio that meets all limits: where f falls below the floor, there is none.
        """
        problem, G, held = self.problem, self.problem.gross_limit, float(np.abs(self.problem.holdings).sum())
        y = G * np.abs(problem.model.exposures).max(axis=0)  # no factor exposure is larger
        variance = float(y @ np.abs(problem.model.factor_covariance) @ y) + G**2 * float(self.assets.d.max())
        loss = G * float(np.abs(problem.alpha).max()) + problem.risk_aversion / 2 * variance
        loss += float(self.assets.linear.max()) * (G + held) + float(self.assets.borrow.max()) * G
        return -loss - float(self.assets.power.max()) / 1.5 * float((G + held) ** 1.5)

    def at(self, theta: FloatArray) -> Point:
        """Return the dual and the book at prices theta."""
        s, d, r = self.structure, self.assets.d, self.rank
        eta, tau, gamma = self.split(theta)
        z = theta[:r]
        q = self.assets.alpha - s.B @ (s.T @ theta[: self.linear])
        w = self.assets.weights(q, eta, tau, gamma)
        linear = -(s.T.T @ (s.B.T @ w))
        y = z / gamma
        linear[:r] += y
        variance = float((d * w) @ w) + float(y @ y)
        used = [float(np.abs(w).sum()), float(np.abs(w - self.assets.h).sum()) / 2, variance / 2]
        slope = np.concatenate([linear, np.negative(used)])
        bounds = self.bound_cost(theta)
        f = self.assets.value(q, w, eta, tau, gamma) + gamma / 2 * float(y @ y) + bounds
        rounding = 1e-14 * (abs(f) + abs(bounds) + float(np.abs(q) @ np.abs(w)))
        residual = float(np.abs(linear[:r]).max(initial=0.0))
        residual = max(residual, float(np.abs(self.violations(theta, slope)).max()))
        return Point(theta, q, w, slope, f, rounding, residual)

    def missed(self, point: Point) -> float:
        """Return the residual of a point with violations counted in each row's largest exposure, where that exceeds 1."""
        limits = np.abs(self.violations(point.theta, point.slope)) / self.structure.scale
        return max(float(limits.max()), float(np.abs(point.slope[: self.rank]).max()))

    def violations(self, theta: FloatArray, slope: FloatArray) -> FloatArray:
        """Return bound minus use of each limit that has a price or is broken, else 0: (q + 3,)."""
        t, s = theta[self.rank :], slope[self.rank :]
        above, below = self.upper + s, self.lower + s
        broken = np.minimum(above, 0.0) + np.maximum(below, 0.0)
        return np.where((t > 0) | self.equal, above, np.where(t < 0, below, broken))

    def columns(self, weights: FloatArray) -> FloatArray:
        """Return the columns of J for gross, turnover and volatility, (N, 3), contiguous by column."""
        result = np.empty((3, len(weights)))
        np.sign(weights, out=result[0])
        result[1] = np.sign(weights - self.assets.h) / 2 if np.isfinite(self.upper[-2]) else 0.0
        np.multiply(self.assets.d, weights, out=result[2])
        return result.T

    def hessian(self, point: Point) -> FloatArray:
        """Return H at a point, (r + q + 3, r + q + 3)."""
        s, m, r = self.structure, self.linear, self.rank
        eta, tau, gamma = self.split(point.theta)
        free = self.assets.free(point.weights, eta, tau)
        phi = self.assets.flexibility(point.weights, free, gamma)
        rows = np.flatnonzero(free)
        # Where few names are free, only their rows are touched; where most are, copying them costs more than their zeros.
        B, columns = s.B, self.columns(point.weights)
        if 2 * len(rows) < len(free):
            B, columns, phi = B[rows], columns[rows], phi[rows]
        H = np.empty((self.size, self.size))
        H[:m, :m] = _between(s.T[:, :r], s.rows, self._weighted_gram(free, phi[phi > 0], gamma))
        weighted = phi[:, None] * columns
        # One vector at a time: BLAS is slow on products with three columns.
        H[:m, m:] = s.T.T @ np.column_stack([B.T @ column for column in weighted.T])
        H[m:, :m] = H[:m, m:].T
        H[m:, m:] = columns.T @ weighted
        y = point.theta[:r] / gamma
        H[np.arange(r), np.arange(r)] += 1.0 / gamma
        H[:r, -1] -= y / gamma
        H[-1, :r] -= y / gamma
        H[-1, -1] += float(y @ y) / gamma
        return H

    def largest_hessian(self, point: Point) -> FloatArray:
        """Return what H would be with all names free, but for the cross terms of gross, turnover and volatility."""
        s, m, r, d, w = self.structure, self.linear, self.rank, self.assets.d, point.weights
        _, _, gamma = self.split(point.theta)
        y, most = point.theta[:r] / gamma, np.zeros((self.size, self.size))
        most[:m, :m] = s.metric / gamma
        most[np.arange(r), np.arange(r)] += 1.0 / gamma
        loose = s.looseness / gamma
        risk = (float((d * w) @ w) + float(y @ y)) / gamma
        most[np.arange(m, m + 3), np.arange(m, m + 3)] = [loose, loose / 4, risk]
        return most

    def _weighted_gram(self, free: BoolArray, phi: FloatArray, gamma: float) -> FloatArray:
        """Return B' diag(phi) B over free names, `phi` given for these alone; mended where few changed since the last call."""
        B, d = self.structure.B, self.assets.d
        if self.assets.impact:
            scaled = B[free] * np.sqrt(phi)[:, None]
            return np.asarray(scaled.T @ scaled)
        count, changed, fixed = int(free.sum()), int((free != self._inside).sum()), int((~free).sum())
        if count <= min(changed, fixed):
            self._gram, self._inside = np.zeros_like(self._gram), np.zeros_like(free)
        elif fixed < changed:
            self._gram, self._inside = self.structure.curvature, np.ones_like(free)
        for rows, sign in ((free & ~self._inside, 1.0), (self._inside & ~free, -1.0)):
            if rows.any():
                scaled = B[rows] / np.sqrt(d[rows])[:, None]
                self._gram = self._gram + sign * (scaled.T @ scaled)
        self._inside = free
        return self._gram / gamma
