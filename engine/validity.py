"""How far a derivative holds: the book answers to alpha smoothly until a name meets a kink or bound, or a limit starts or ceases to hold."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from engine.derivative import Derivative
from risk.checks import FloatArray, check_array

__all__ = ["near_kink", "next_change"]

NEAR = 1e-3
"""Distance to a kink or bound, in root mean squares of alpha, below which a name counts as near one."""


@dataclass(frozen=True, eq=False)
class _Slopes:
    """What a name gains by moving up from its weight, and what it loses by moving down, (N,): both 0 where it is free.

    `long` and `buy` (+1 or -1) are the signs that weight and trade take on that side.
    """

    value: FloatArray
    long: FloatArray
    buy: FloatArray


def _slopes(derivative: Derivative, up: bool) -> _Slopes:
    point, assets = derivative.point, derivative.dual.assets
    w = point.weights
    eta, tau, gamma = derivative.dual.split(point.theta)
    long = np.where((w >= 0) if up else (w > 0), 1.0, -1.0)
    buy = np.where((w >= assets.h) if up else (w > assets.h), 1.0, -1.0)
    value = point.q - gamma * assets.d * w - eta * long + assets.borrow * (long < 0)
    value = value - buy * (assets.linear + tau / 2 + assets.power * np.sqrt(np.abs(w - assets.h)))
    return _Slopes(value, long, buy)


def _kinks(derivative: Derivative) -> tuple[FloatArray, FloatArray]:
    """Return the weights at which a name would cease to be free, (N, 4), and what it gains there by moving on towards them.

    The gain is that of the piece on which the name lies now: 0 when the name arrives. NaN where there is no kink, 0 without a price of
    gross or borrowing, or the holding without a cost or price of trading.
    """
    problem, point, assets = derivative.problem, derivative.point, derivative.dual.assets
    eta, tau, gamma = derivative.dual.split(point.theta)
    w, trade = point.weights, assets.linear + tau / 2
    zero = np.where(eta + assets.borrow > 0, 0.0, np.nan)
    held = np.where(trade + assets.power > 0, assets.h, np.nan)
    at = np.column_stack([problem.lower, problem.upper, zero, held])
    long, buy = np.where(w > 0, 1.0, -1.0)[:, None], np.where(w > assets.h, 1.0, -1.0)[:, None]
    gain = (point.q - trade * buy[:, 0])[:, None] - (gamma * assets.d)[:, None] * at - eta * long
    gain = (
        gain
        + assets.borrow[:, None] * (long < 0)
        - assets.power[:, None] * buy * np.sqrt(np.abs(at - assets.h[:, None]))
    )
    return at, gain


def near_kink(derivative: Derivative) -> float:
    """Return the share of names that can move whose alpha, changed by a thousandth of alpha's size, would free or fix them.

    Prices are held; alpha's size is its root mean square.
    """
    problem, w = derivative.problem, derivative.point.weights
    movable = problem.lower < problem.upper
    if not movable.any():
        return 0.0
    _, gain = _kinks(derivative)
    up = np.where(w < problem.upper, np.abs(_slopes(derivative, True).value), np.inf)
    down = np.where(w > problem.lower, np.abs(_slopes(derivative, False).value), np.inf)
    distance = np.where(derivative.free, np.fmin.reduce(np.abs(gain), axis=1), np.minimum(up, down))
    size = float(np.sqrt(np.mean(problem.alpha**2)))
    return float((distance[movable] <= NEAR * size).mean())


def next_change(derivative: Derivative, direction: npt.ArrayLike, *, both_ways: bool = False) -> float:
    """Return how many times `direction` can be added to alpha before the active set changes; inf if it never does.

    To first order: exact where prices answer linearly, as they do unless volatility binds or trades have an impact cost.

    Parameters
    ----------
    derivative : Derivative
    direction : array_like of shape (N,)
        Change of alpha, per year.
    both_ways : bool
        Whether it may also be taken off: the lesser of the two is returned.
    """

    def first(distance: FloatArray, rate: FloatArray) -> float:
        return min(_first(distance, rate), _first(distance, -rate)) if both_ways else _first(distance, rate)

    change = check_array("direction", direction, derivative.phi.shape)
    dual, point, problem = derivative.dual, derivative.point, derivative.problem
    moved, prices = derivative.answer(change)
    w, r = point.weights, dual.rank
    d_eta, d_tau, d_nu = prices[-3:].tolist()
    can_move = problem.lower < problem.upper
    at_upper, at_lower = (w == problem.upper) & can_move, (w == problem.lower) & can_move
    kinked = can_move & ~derivative.free
    at, gain = _kinks(derivative)
    long, buy = np.where(w > 0, 1.0, -1.0), np.where(w > dual.assets.h, 1.0, -1.0)
    pull = change - dual.structure.B @ (dual.structure.T @ prices[: dual.linear])
    rates = (pull - long * d_eta - buy * d_tau / 2)[:, None] - dual.assets.d[:, None] * at * d_nu
    away = derivative.free[:, None] & np.isfinite(gain)
    times = [first(-gain[away], rates[away])]
    pull = pull - dual.assets.d * w * d_nu
    for up in (True, False):
        slopes = _slopes(derivative, up)
        rate = pull - slopes.long * d_eta - slopes.buy * d_tau / 2
        beyond = at_upper if up else at_lower
        # At a bound the slope beyond it holds the name there, unless it lies at a kink that does.
        holds = slopes.value > 0 if up else slopes.value < 0
        here = (beyond & holds) | (kinked & ~beyond)
        times.append(first(-slopes.value[here], rate[here]))
    t, dt = point.theta[r:], prices[r:]
    priced = (t != 0) & ~dual.equal
    times.append(first(-t[priced], dt[priced]))
    use, d_use = -point.slope[r:], _uses(derivative, moved)
    # A limit that others imply does not move but for rounding.
    moving = np.ones(len(t), dtype=bool)
    moving[:-3] = np.abs(d_use[:-3]) > 1e-12 * (np.abs(problem.limits.exposures).T @ np.abs(moved))
    slack = (t == 0) & ~dual.equal & moving
    for bound in (dual.upper, dual.lower):
        reachable = slack & np.isfinite(bound)
        times.append(first((bound - use)[reachable], d_use[reachable]))
    return min(times)


def _uses(derivative: Derivative, moved: FloatArray) -> FloatArray:
    """Return how fast the use of each limit changes, (q + 3,)."""
    dual, point = derivative.dual, derivative.point
    s, r = dual.structure, dual.rank
    y = s.T.T @ (s.B.T @ moved)
    d_gross, d_turnover, d_specific = derivative.columns.T @ moved
    factor = point.theta[:r] / derivative.gamma
    return np.concatenate([y[r:], [d_gross, d_turnover, d_specific + factor @ y[:r]]])


def _first(distance: FloatArray, rate: FloatArray) -> float:
    """Return the least distance / rate > 0, inf where nothing moves towards it."""
    distance, rate = np.broadcast_arrays(distance, rate)
    towards = distance * rate > 0
    return float((distance[towards] / rate[towards]).min(initial=np.inf))
