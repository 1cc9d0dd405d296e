r"""The proof of a solution, recomputed from weights and multipliers in float64: the solver's word is not evidence.

Given multipliers theta = (p of the limits, eta of gross, nu of volatility, tau of turnover), gamma = g0 + nu and the
factor prices p_X = gamma F X'w, every asset decouples. With q = alpha - X p_X - L p and u = w_i - h_i,

.. math::

    \phi_i(w) = q_i w - \eta |w| - \tfrac{\gamma}{2} d_i w^2 - A (lin_i |u| + imp_i |u|^{3/2}) - \tfrac{\tau}{2} |u|
                - borrow_i (-w)^+

and for any theta with eta, nu, tau >= 0, whatever w it came from, weak duality bounds the objective of every portfolio
within the limits by

.. math::

    f = \sum_i \max_{lower_i \le w \le upper_i} \phi_i(w) + \tfrac{\gamma}{2} y'Fy
        + \sum_j \max(p_j lo_j, p_j up_j) + \eta G + \tau T + (\gamma - g_0) v^2 / 2, \qquad y = X'w,

because p_X'y' - gamma y'Fy'/2 is largest at y' = y (F is positive semidefinite). Hence gap = f - objective(w) >= 0 for a
portfolio within the limits, and a gap of 0 proves that none is better.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import numpy.typing as npt

from engine.problem import Problem
from engine.solution import Certificate, Multipliers
from risk import DataError
from risk.checks import FloatArray

__all__ = [
    "CERTIFIED",
    "PRICED",
    "BestResponse",
    "State",
    "accepted",
    "best_response",
    "binds",
    "certify",
]

CERTIFIED = 1e-6
"""Largest residual of an accepted solution: limits in their own unit, gap relative to 1 + |objective|, prices per year."""

PRICED = 1e-12
"""Annual alpha per unit below which a limit counts as having no price."""


class State(IntEnum):
    """Where an asset's best response lies. A tie counts as fixed."""

    FREE = 0
    ZERO = 1
    HOLDING = 2
    LOWER = 3
    UPPER = 4
    CLOSED = 5
    """lower = upper: the name cannot move."""


@dataclass(frozen=True, eq=False)
class BestResponse:
    """What each asset would do at the given prices.

    Attributes
    ----------
    weights : ndarray of shape (N,)
        The maximiser of phi_i.
    values : ndarray of shape (N,)
        max phi_i, annual alpha.
    states : ndarray of shape (N,)
        `State` of each asset.
    bound_prices : ndarray of shape (N,)
        Slope of phi_i outwards at a bound that holds it: > 0 at the upper, < 0 at the lower, 0 elsewhere.
    prices : ndarray of shape (N,)
        q, annual alpha.
    """

    weights: FloatArray
    values: FloatArray
    states: npt.NDArray[np.int64]
    bound_prices: FloatArray
    prices: FloatArray


@dataclass(frozen=True, eq=False)
class _Asset:
    """The pieces of phi: curvature gamma d, |w| coefficient, linear and 3/2-power coefficients of |u|, borrow fee."""

    q: FloatArray
    curvature: FloatArray
    eta: float
    linear: FloatArray
    power: FloatArray
    borrow: FloatArray
    h: FloatArray

    def value(self, w: FloatArray) -> FloatArray:
        u = np.abs(w - self.h)
        risk = self.curvature * w * w / 2
        trade = self.linear * u + self.power / 1.5 * u * np.sqrt(u)
        return self.q * w - self.eta * np.abs(w) - risk - trade - self.borrow * np.maximum(-w, 0.0)

    def slope(self, w: FloatArray, long: FloatArray, buy: FloatArray) -> FloatArray:
        """Slope at w, on the side where sign(w) counts as `long` and sign(u) as `buy` (+1 or -1)."""
        smooth: FloatArray = self.q - self.curvature * w - self.eta * long + self.borrow * (long < 0)
        return smooth - buy * (self.linear + self.power * np.sqrt(np.abs(w - self.h)))

    def stationary(self, long: FloatArray, buy: FloatArray) -> FloatArray:
        """Stationary point of the piece (long, buy): with z = sqrt|u|, curvature z^2 + power z = rhs."""
        pull = self.q - self.eta * long + self.borrow * (long < 0) - self.curvature * self.h
        rhs = np.maximum(buy * pull - self.linear, 0.0)
        # The root as 2 c / (b + sqrt(b^2 + 4 a c)): nothing cancels where the impact term leads.
        denominator = self.power + np.sqrt(self.power**2 + 4 * self.curvature * rhs)
        z = np.divide(2 * rhs, denominator, out=np.zeros_like(rhs), where=denominator > 0)
        w: FloatArray = self.h + buy * z * z
        return w


def _pieces(problem: Problem, factor_prices: FloatArray, multipliers: Multipliers) -> _Asset:
    zeros = np.zeros(len(problem.alpha))
    costs = problem.costs
    A = 1.0 if costs is None else costs.annualisation
    linear, impact, borrow = (zeros,) * 3 if costs is None else (costs.linear, costs.impact, costs.borrow)
    gamma = problem.risk_aversion + multipliers.volatility
    return _Asset(
        q=problem.alpha - problem.model.exposures @ factor_prices - problem.limits.exposures @ multipliers.limits,
        curvature=gamma * problem.model.specific_variance,
        eta=multipliers.gross,
        linear=A * linear + multipliers.turnover / 2,
        power=1.5 * A * impact,
        borrow=borrow,
        h=problem.holdings,
    )


def best_response(problem: Problem, factor_prices: npt.ArrayLike, multipliers: Multipliers) -> BestResponse:
    """Return each asset's best weight at given prices, exactly: phi_i is strictly concave with kinks at 0 and h_i.

    Parameters
    ----------
    problem : Problem
    factor_prices : array_like of shape (K,)
        p_X, the price of a unit of each factor exposure.
    multipliers : Multipliers
        Non-negative but for `limits`.

    Notes
    -----
    The slope falls along w. Its one-sided values at the two kinks tell on which of the three pieces it crosses zero; on a
    piece the crossing is the root of a quadratic in sqrt|u|. Clipping to the bounds is exact because phi_i is concave.
    """
    f = _pieces(problem, np.asarray(factor_prices, dtype=np.float64), multipliers)
    h, lower, upper = f.h, problem.lower, problem.upper
    low, high = np.minimum(0.0, h), np.maximum(0.0, h)
    plus, minus = np.ones_like(h), -np.ones_like(h)
    # Between the kinks a held long is being sold and a held short bought back; with h = 0 there is no such piece.
    long, buy = np.where(h > 0, 1.0, -1.0), np.where(h < 0, 1.0, -1.0)
    apart = h != 0
    above = f.slope(high, plus, plus) > 0
    at_high = ~above & (f.slope(high, long, buy) >= 0)
    between = ~above & ~at_high & apart & (f.slope(low, long, buy) > 0)
    at_low = ~above & ~at_high & ~between & (f.slope(low, minus, minus) >= 0)
    kink = np.where(at_high, high, low)
    w = np.where(
        above,
        np.maximum(f.stationary(plus, plus), high),
        np.where(between, np.clip(f.stationary(long, buy), low, high), np.minimum(f.stationary(minus, minus), low)),
    )
    w = np.where(at_high | at_low, kink, w)

    states = np.full(len(h), State.FREE, dtype=np.int64)
    # A kink of no width, without a price or cost on either side, is none.
    smooth = (f.slope(kink, plus, plus) == f.slope(kink, minus, minus)) & (f.power == 0)
    at_kink = (at_high | at_low) & ~smooth
    states[at_kink] = np.where(kink == 0, State.ZERO, State.HOLDING)[at_kink]
    # At a bound the next slope outwards decides: a kink that lies on the bound holds the name by itself.
    over, under = w > upper, w < lower
    w = np.clip(w, lower, upper)
    states[over], states[under] = State.UPPER, State.LOWER
    states[(states == State.FREE) & (w == upper)], states[(states == State.FREE) & (w == lower)] = (
        State.UPPER,
        State.LOWER,
    )
    states[lower == upper] = State.CLOSED
    outwards = np.where(
        over,
        f.slope(w, np.where(w >= 0, 1.0, -1.0), np.where(w >= h, 1.0, -1.0)),
        np.where(under, f.slope(w, np.where(w > 0, 1.0, -1.0), np.where(w > h, 1.0, -1.0)), 0.0),
    )
    return BestResponse(w, f.value(w), states, outwards, f.q)


def _projected(problem: Problem, multipliers: Multipliers) -> tuple[Multipliers, float]:
    """Return multipliers of the admissible sign, and the largest amount that was taken away to make them so."""
    q = len(problem.limits.names)
    p = np.asarray(multipliers.limits, dtype=np.float64)
    if p.shape != (q,):
        raise DataError(f"`multipliers.limits` must have shape ({q},), one for each limit; got {p.shape}.")
    if not np.isfinite([*p, multipliers.gross, multipliers.volatility, multipliers.turnover]).all():
        raise DataError("`multipliers` must be finite; a solver that returns NaN or infinite prices has not solved.")
    floor = np.where(np.isfinite(problem.limits.lower), -np.inf, 0.0)
    ceiling = np.where(np.isfinite(problem.limits.upper), np.inf, 0.0)
    allowed = np.clip(p, floor, ceiling)
    nu = max(multipliers.volatility, 0.0) if problem.volatility_limit is not None else 0.0
    tau = max(multipliers.turnover, 0.0) if problem.turnover_limit is not None else 0.0
    eta = max(multipliers.gross, 0.0)
    removed = max(
        float(np.abs(p - allowed).max(initial=0.0)),
        abs(eta - multipliers.gross),
        abs(nu - multipliers.volatility),
        abs(tau - multipliers.turnover),
    )
    return Multipliers(allowed, eta, nu, tau), removed


@dataclass(frozen=True, eq=False)
class _Use:
    """What a book uses of each limit.

    Attributes
    ----------
    rows : ndarray of shape (q,)
        L'w.
    factors : ndarray of shape (K,)
        X'w.
    variance : float
        w'Vw, per year.
    whole : mapping of str to (limit, use)
        Gross, volatility (both per year) and turnover; no entry where there is no limit.
    """

    rows: FloatArray
    factors: FloatArray
    variance: float
    whole: dict[str, tuple[float, float]]

    @classmethod
    def of(cls, problem: Problem, w: FloatArray) -> _Use:
        model = problem.model
        y = model.exposures.T @ w
        variance = float(y @ model.factor_covariance @ y + (model.specific_variance * w) @ w)
        whole = {"gross": (problem.gross_limit, float(np.abs(w).sum()))}
        if problem.volatility_limit is not None:
            whole["volatility"] = (problem.volatility_limit, float(np.sqrt(max(variance, 0.0))))
        if problem.turnover_limit is not None:
            whole["turnover"] = (problem.turnover_limit, float(np.abs(w - problem.holdings).sum()) / 2)
        return cls(problem.limits.exposures.T @ w, y, variance, whole)


def _primal_residual(problem: Problem, w: FloatArray, use: _Use) -> float:
    rows = np.maximum(problem.limits.lower - use.rows, use.rows - problem.limits.upper).max(initial=0.0)
    bounds = np.maximum(problem.lower - w, w - problem.upper).max(initial=0.0)
    return max(float(rows), float(bounds), *(used - limit for limit, used in use.whole.values()), 0.0)


def _complementarity(problem: Problem, w: FloatArray, theta: Multipliers, response: BestResponse, use: _Use) -> float:
    """Return the largest multiplier times slack, bounds of names included."""
    side = np.where(theta.limits > 0, problem.limits.upper, problem.limits.lower)
    priced = theta.limits != 0
    rows = np.abs(theta.limits[priced] * (side[priced] - use.rows[priced]))
    held = response.bound_prices != 0
    bound = np.where(response.bound_prices > 0, problem.upper, problem.lower)
    names = np.abs(response.bound_prices[held] * (bound[held] - w[held]))
    slack = {name: limit - used for name, (limit, used) in use.whole.items()}
    others = [abs(theta.gross * slack["gross"])]
    if problem.volatility_limit is not None:
        others.append(abs(theta.volatility * (problem.volatility_limit**2 - use.variance) / 2))
    if problem.turnover_limit is not None:
        others.append(abs(theta.turnover * slack["turnover"]))
    return float(max(rows.max(initial=0.0), names.max(initial=0.0), *others))


def factor_prices(problem: Problem, weights: FloatArray, multipliers: Multipliers) -> FloatArray:
    """Return p_X = gamma F X'w, shape (K,): read from the weights, not from the solver."""
    gamma = problem.risk_aversion + multipliers.volatility
    return gamma * (problem.model.factor_covariance @ (problem.model.exposures.T @ weights))


def _dual_bound(problem: Problem, theta: Multipliers, response: BestResponse, y: FloatArray) -> float:
    gamma = problem.risk_aversion + theta.volatility
    side = np.where(theta.limits > 0, problem.limits.upper, problem.limits.lower)
    priced = theta.limits != 0
    f: float = float(response.values.sum()) + gamma / 2 * float(y @ problem.model.factor_covariance @ y)
    f += float(theta.limits[priced] @ side[priced]) + theta.gross * problem.gross_limit
    if problem.turnover_limit is not None:
        f += theta.turnover * problem.turnover_limit
    if problem.volatility_limit is not None:
        f += theta.volatility * problem.volatility_limit**2 / 2
    return float(f)


def certify(problem: Problem, weights: npt.ArrayLike, multipliers: Multipliers | None) -> Certificate:
    """Return the evidence for `weights` as the optimum of `problem`.

    Parameters
    ----------
    problem : Problem
    weights : array_like of shape (N,)
    multipliers : Multipliers or None
        Any; those of a wrong sign are set to 0 and the amount counts in `dual_residual`. None (user-written terms, for
        which there is no bound of ours) leaves all but the primal residual and the objective NaN.

    Raises
    ------
    DataError
        If a shape is wrong or an entry is not finite.
    """
    w = np.asarray(weights, dtype=np.float64)
    if w.shape != problem.alpha.shape or not np.isfinite(w).all():
        raise DataError(f"`weights` must be finite and of shape {problem.alpha.shape}; got shape {w.shape}.")
    use = _Use.of(problem, w)
    primal, objective = _primal_residual(problem, w, use), problem.objective(w)
    if multipliers is None:
        return Certificate(primal, float("nan"), float("nan"), float("nan"), objective)
    theta, removed = _projected(problem, multipliers)
    gamma = problem.risk_aversion + theta.volatility
    response = best_response(problem, gamma * (problem.model.factor_covariance @ use.factors), theta)
    distance = gamma * problem.model.specific_variance * np.abs(w - response.weights)
    return Certificate(
        primal_residual=primal,
        dual_residual=max(float(distance.max()), removed),
        complementarity=_complementarity(problem, w, theta, response, use),
        gap=_dual_bound(problem, theta, response, use.factors) - objective,
        objective=objective,
    )


def accepted(certificate: Certificate) -> bool:
    """Return whether the evidence proves a solution to `CERTIFIED`; a NaN never does.

    A gap below -tolerance is refused too: it can only come from weights outside the limits.
    """
    return (
        certificate.primal_residual <= CERTIFIED
        and abs(certificate.gap) <= CERTIFIED * (1 + abs(certificate.objective))
        and certificate.dual_residual <= CERTIFIED
        and certificate.complementarity <= CERTIFIED
    )


def binds(problem: Problem, weights: npt.ArrayLike, multipliers: Multipliers) -> dict[str, bool]:
    """Return, for every row of L and for gross, volatility and turnover, whether it holds as an equality or has a price.

    Equalities always count; another limit counts where its slack is at most `CERTIFIED` and its price above `PRICED`.
    """
    w = np.asarray(weights, dtype=np.float64)
    limits, theta, use = problem.limits, multipliers, _Use.of(problem, w)
    slack = np.where(theta.limits > 0, limits.upper - use.rows, use.rows - limits.lower)
    rows = (limits.lower == limits.upper) | ((np.abs(theta.limits) > PRICED) & (slack <= CERTIFIED))
    result = dict(zip(limits.names, rows.tolist(), strict=True))
    price = {"gross": theta.gross, "turnover": theta.turnover}
    price["volatility"] = theta.volatility * (problem.volatility_limit or 0.0)
    for name, (limit, used) in use.whole.items():
        result[name] = price[name] > PRICED and limit - used <= CERTIFIED
    return result
