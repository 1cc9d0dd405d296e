r"""From one optimum to the next by a linear map that is exact: the secant operator of a step.

Between two optima with prices theta = (z, p, eta, tau, nu) every relation of the optimality system is linear once its slope is read off
the two ends. With D the change over the step, a bar the mean of its ends, u = w - h, and s, t the subgradients of \|w\| and \|u\|,

.. math::

    Dw_i &= \psi_i\,(D\alpha - J D\theta)_i + f_i\,Dh_i, \qquad J = [B T, \bar s, \bar t/2, d \bar w], \\
    \psi_i &= \frac{1}{R_i + C_i}, \quad f_i = \frac{C_i}{R_i + C_i}, \qquad
    D\theta_z = \bar\gamma R'X'Dw + \bar y\, D\gamma, \\
    D|w|_i &= \sigma_i Dw_i, \quad \tfrac12 D(w'Vw) = (d \bar w)'Dw + \bar y'Dy, \qquad
    \rho_j\, D\mathrm{use}_j = \kappa_j\, D\theta_j

R is what holds a weight (risk, the kink at 0, bounds: the force that they gained per Dw), C what holds a trade (costs, turnover: per Du). A
product changes by mean times change, twice, which is exact; forces of convex terms grow with what they hold, so that psi lies between 0 and
1 / (gamma d) and f between 0 and 1. As the step shrinks, psi tends to phi and the map to dw/dalpha of `engine.derivative`.

One system in the factor dimension answers for every right-hand side. What solves it is linear in (Dalpha, Dh), and takes the step's own
changes to the step's own Dw: so it splits Dw exactly, by whatever alpha and h are sums of.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from engine.dual import Dual, Point
from risk.checks import BoolArray, FloatArray

__all__ = ["SINGULAR", "Optimum", "Parts", "Secant"]

ROUNDING = 1e-13
"""Change of a limit's use, in its largest exposure where that exceeds 1, that counts as none."""

SINGULAR = 1e-10
"""Singular values of the scaled system below this share of the largest count as 0: redundant limits share their prices."""


@dataclass(frozen=True, eq=False)
class Parts:
    """What the ray's alpha, its holdings, and where it puts closed names are sums of, each (N, m); None: nothing."""

    alpha: FloatArray
    holdings: FloatArray | None = None
    told: FloatArray | None = None


@dataclass(frozen=True, eq=False)
class Optimum:
    """A solved book on the ray.

    Attributes
    ----------
    share : float
        How far along the ray, from 0 to 1.
    dual : Dual
    point : Point
    """

    share: float
    dual: Dual
    point: Point

    def sides(self) -> tuple[FloatArray, FloatArray]:
        """Return the subgradients s of abs(w) and t of abs(w - h), (N,): signs, or what holds the name at its kink over its width."""
        assets, point = self.dual.assets, self.point
        eta, tau, gamma = self.dual.split(point.theta)
        w, u = point.weights, point.weights - assets.h
        s, t = np.sign(w), np.sign(u)
        # Borrowing widens the kink at 0 on one side: its force is borrow (s - 1) / 2.
        at_zero, at_holding = eta + assets.borrow / 2, assets.linear + tau / 2
        force = point.q - gamma * assets.d * w - assets.power * t * np.sqrt(np.abs(u)) + assets.borrow / 2
        both = (w == 0) & (u == 0)
        s = np.where((w == 0) & ~both, _share(force - at_holding * t, at_zero), s)
        t = np.where((u == 0) & ~both, _share(force - at_zero * s, at_holding), t)
        common = _share(force, at_zero + at_holding)
        return np.where(both, common, s), np.where(both, common, t)

    def free(self) -> BoolArray:
        """Return which names lie at no bound and no kink, (N,)."""
        eta, tau, _ = self.dual.split(self.point.theta)
        return self.dual.assets.free(self.point.weights, eta, tau)


class Secant:
    """The linear map of one step.

    Parameters
    ----------
    start, end : Optimum
        Of problems that share model and limits, and differ in alpha, holdings and the place of closed names.
    kept : ndarray of shape (N,)
        f of closed names (lower = upper), which move as they are told: the share of what is held in them that stays. NaN elsewhere.

    Attributes
    ----------
    width : float
        Share of the ray.
    """

    def __init__(self, start: Optimum, end: Optimum, kept: FloatArray) -> None:
        self.start, self.end, self.width = start, end, end.share - start.share
        self._s, self._t = start.sides(), end.sides()
        self._answers(kept)
        self._relations()

    def _answers(self, kept: FloatArray) -> None:
        """Set psi and f, (N,), and J's own columns, (N, 3)."""
        a, b = self.start, self.end
        assets, after = a.dual.assets, b.dual.assets
        (_, tau0, gamma0), (_, tau1, gamma1) = a.dual.split(a.point.theta), b.dual.split(b.point.theta)
        w0, w1 = a.point.weights, b.point.weights
        u0, u1 = w0 - assets.h, w1 - after.h
        (s0, t0), (s1, t1) = self._s, self._t
        change = b.point.theta - a.point.theta
        columns = np.stack([(s0 + s1) / 2, (t0 + t1) / 4, assets.d * (w0 + w1) / 2])
        self.columns = columns.T
        push = b.point.q - a.point.q - self.columns @ change[-3:]
        trade = (assets.linear + (tau0 + tau1) / 4) * (t1 - t0)
        trade = trade + assets.power * (np.sign(u1) * np.sqrt(np.abs(u1)) - np.sign(u0) * np.sqrt(np.abs(u0)))
        moved = w1 - w0
        risk = (gamma0 + gamma1) / 2 * assets.d
        # A name that stays on one smooth piece is held by its risk and its costs alone; of what others gained, rounding may not make
        # a name more willing than its own risk lets it be.
        eta, tau = (a.point.theta[-3] + b.point.theta[-3]) / 2, (tau0 + tau1) / 2
        smooth = a.free() & b.free()
        smooth &= (np.sign(w0) == np.sign(w1)) | (eta + assets.borrow == 0)
        smooth &= (np.sign(u0) == np.sign(u1)) | (assets.linear + tau == 0)
        gained = np.where(smooth, risk * moved, push - trade)
        holds_weight = np.maximum(_ratio(gained, moved, np.where(smooth, risk, np.inf)), risk)
        holds_trade = self._holds_trade(u0, u1, trade, tau)
        total = holds_weight + holds_trade
        self.psi = np.where(np.isfinite(total), 1.0 / total, 0.0)
        finite = np.isfinite(holds_trade)
        f = np.where(finite, np.where(finite, holds_trade, 0.0) * self.psi, 1.0)
        # Nothing is held and the kinks at 0 and at the holding are one: the one at 0 decides as far as it has a width, since what the
        # book does not hold is nobody's. Where the holding stays 0 the step is exact with any f.
        one_kink = (w0 == 0) & (u0 == 0) | (w1 == 0) & (u1 == 0)
        f[one_kink & (assets.h == 0) & (after.h == 0) & (eta + assets.borrow > 0)] = 0.0
        closed = ~np.isnan(kept)
        self.psi[closed] = 0.0
        self.f = np.where(closed, kept, f)
        self._moves = (w0, w1, u0, u1)

    def _holds_trade(self, u0: FloatArray, u1: FloatArray, gained: FloatArray, tau: float) -> FloatArray:
        """Return the force that trades gained per change of theirs, (N,); inf for one that stays at its kink."""
        assets = self.start.dual.assets
        if not assets.trades_matter:
            return np.zeros_like(u0)
        # On one side of the kink sqrt(u1) - sqrt(u0) over u1 - u0, without the difference.
        roots = np.sqrt(np.abs(u0)) + np.sqrt(np.abs(u1))
        bend = np.divide(assets.power, roots, out=np.zeros_like(roots), where=roots > 0)
        one_side = (np.sign(u0) == np.sign(u1)) & (u0 != 0)
        kink = (u0 == 0) & (u1 == 0) & (assets.linear + tau + assets.power > 0)
        crossing = np.maximum(_ratio(gained, u1 - u0, bend), 0.0)
        return np.where(kink, np.inf, np.where(one_side, bend, crossing))

    def _relations(self) -> None:
        """Set the rows on which prices answer, E' (the change of what each limit is used), and the inverse of the system."""
        a, b, dual = self.start.point, self.end.point, self.start.dual
        r, m, s = dual.rank, dual.linear, dual.structure
        (_, _, gamma0), (_, _, gamma1) = dual.split(a.theta), dual.split(b.theta)
        gamma, y = (gamma0 + gamma1) / 2, (a.theta[:r] / gamma0 + b.theta[:r] / gamma1) / 2
        w0, w1, u0, u1 = self._moves
        self._uses = np.stack(
            [
                _ratio(np.abs(w1) - np.abs(w0), w1 - w0, np.sign(w0)),
                _ratio(np.abs(u1) - np.abs(u0), u1 - u0, np.sign(u0)) / 2,
                self.columns[:, 2],
            ]
        ).T
        unit = np.sqrt(np.diag(dual.largest_hessian(a)) + np.diag(self.end.dual.largest_hessian(b)) + 1e-300)
        p0, p1 = a.theta[r:], b.theta[r:]
        used, priced = np.abs(b.slope[r:] - a.slope[r:]), unit[r:] ** 2 * np.abs(p1 - p0)
        # A limit that others imply can lose its price and still be met: what its use changed by is rounding.
        stays = dual.equal | (p0 * p1 > 0) | (used <= ROUNDING * np.append(s.scale[:-3], [1.0, 1.0, 1.0]))
        whole = np.where(stays, 1.0, used + priced)
        rho = np.where(stays, 1.0, np.divide(priced, whole, out=np.zeros_like(used), where=whole > 0))
        kappa = np.where(stays, 0.0, np.divide(used, whole, out=np.ones_like(used), where=whole > 0))
        on = dual.equal | (p0 != 0) | (p1 != 0)
        self.on = np.concatenate([np.ones(r, dtype=bool), on])
        self.rho = np.concatenate([np.ones(r), rho])
        scaled = self.psi[:, None] * s.B
        K = np.empty((dual.size, dual.size))
        K[:m, :m] = s.T.T @ (s.B.T @ scaled) @ s.T
        K[:m, m:] = s.T.T @ (scaled.T @ self.columns)
        K[m:, :m] = (self._uses.T @ scaled) @ s.T
        K[m:, m:] = self._uses.T @ (self.psi[:, None] * self.columns)
        K[np.arange(r), np.arange(r)] += 1.0 / gamma
        K[:r, -1] -= y / gamma
        K[-1, :r] -= y / gamma
        K[-1, -1] += float(y @ y) / gamma
        K *= self.rho[:, None]
        K[np.arange(r, dual.size), np.arange(r, dual.size)] += kappa * unit[r:] ** 2
        unit = unit[self.on]
        self._inverse = np.linalg.pinv(K[np.ix_(self.on, self.on)] / np.outer(unit, unit), rcond=SINGULAR)
        self._inverse /= np.outer(unit, unit)

    def split(self, parts: Parts) -> FloatArray:
        """Return how the book moves over the step with each part of the ray, (N, m)."""
        s, m = self.start.dual.structure, self.start.dual.linear
        own = self.psi[:, None] * parts.alpha
        if parts.holdings is not None:
            own += self.f[:, None] * parts.holdings
        if parts.told is not None:
            own += parts.told
        right = np.concatenate([s.T.T @ (s.B.T @ own), self._uses.T @ own])
        if parts.holdings is not None:
            right[-2] -= self._uses[:, 1] @ parts.holdings
        x = np.zeros_like(right)
        x[self.on] = self._inverse @ (self.rho[:, None] * right)[self.on]
        own -= self.psi[:, None] * (s.B @ (s.T @ x[:m]) + self.columns @ x[m:])
        own *= self.width
        return own


def _share(force: FloatArray, width: FloatArray) -> FloatArray:
    """Return force / width within [-1, 1]; 0 where the kink has no width."""
    return np.clip(np.divide(force, width, out=np.zeros_like(force), where=width > 0), -1.0, 1.0)


def _ratio(change: FloatArray, by: FloatArray, otherwise: FloatArray) -> FloatArray:
    """Return change / by, or what holds where `by` is 0."""
    return np.divide(change, by, out=np.array(otherwise, dtype=np.float64), where=by != 0)
