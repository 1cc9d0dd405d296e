"""Along a long way from one signal to another, the derivative adds up to the change of the book's return, piece by smooth piece."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
from problems import generic
from test_derivative import active_set, solved

from engine.derivative import Derivative
from engine.validity import next_change

Here = Callable[[float], Derivative]

NODES, SHARES = np.polynomial.legendre.leggauss(9)
BRACKET = 1e-9
"""Width, in shares of the way, to which a break is located."""


def way(regime: str, n: int, seed: int) -> tuple[Here, np.ndarray]:
    """The derivative at each share of the way from one signal to another, and the change of alpha along all of it."""
    problem = generic(regime, n, seed)
    rng = np.random.default_rng([seed, n, 9])
    change = np.sqrt(problem.model.specific_variance) * rng.standard_normal(n)
    change *= np.sqrt(np.mean(problem.alpha**2) / np.mean(change**2))
    near = solved(problem)

    def at(share: float) -> Derivative:
        nonlocal near
        near = solved(problem.replace(alpha=problem.alpha + share * change), near)
        return near

    return at, change


def breaks(at: Here, change: np.ndarray) -> list[float]:
    """Where the active set changes: foretold by the ratio test, and bisected where what was foretold came too early or too late."""
    found: list[float] = []
    share, derivative = 0.0, at(0.0)
    while share < 1.0:
        here = active_set(derivative)
        foretold = share + next_change(derivative, change)
        ahead = min(foretold + BRACKET / 2, 1.0)
        reached = at(ahead)
        if active_set(reached) != here:
            low, high = share, ahead
            guess = foretold - BRACKET / 2
            while high - low > BRACKET:
                middle = guess if low < guess < high else (low + high) / 2
                there = at(middle)
                low, high, reached = (middle, high, reached) if active_set(there) == here else (low, middle, there)
                guess = low
            found.append((low + high) / 2)
            ahead = high
        share, derivative = ahead, reached
    return found


KINKS = {
    "gross": 20,
    "volatility": 2,
    "gross and volatility": 20,
    "position": 20,
    "linear costs": 20,
    "turnover": 10,
    "impact": 20,
}
"""How many there are on the way, at least."""


@pytest.mark.parametrize("regime", KINKS)
def test_pieces_add_up_to_the_change(regime: str) -> None:
    n = 60
    at, change = way(regime, n, 1)
    r = np.random.default_rng(4).standard_normal(n)
    cuts = [0.0, *breaks(at, change), 1.0]
    assert len(cuts) - 2 >= KINKS[regime]
    pieces = []
    for low, high in pairwise(cuts):
        rates = [float(r @ at((low + high) / 2 + (high - low) / 2 * x).times(change)) for x in NODES]
        pieces.append((high - low) / 2 * float(SHARES @ rates))
    total = float(r @ (at(1.0).point.weights - at(0.0).point.weights))
    assert abs(sum(pieces) - total) <= 1e-6 * float(np.abs(pieces).sum())


def test_plain_quadrature_does_not() -> None:
    """What the breaks are located for."""
    n = 60
    at, change = way("gross", n, 1)
    r = np.random.default_rng(4).standard_normal(n)
    nodes, shares = np.polynomial.legendre.leggauss(200)
    rates = [float(r @ at((1 + x) / 2).times(change)) for x in nodes]
    total = float(r @ (at(1.0).point.weights - at(0.0).point.weights))
    error = abs(float(shares @ rates) / 2 - total) / (float(shares @ np.abs(rates)) / 2)
    assert 1e-5 < error < 0.1
