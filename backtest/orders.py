"""Orders in shares, from the decision that gives them to the day on which nothing of them is left."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from risk.checks import BoolArray, FloatArray

__all__ = ["OrderBook", "Orders"]


@dataclass
class Orders:
    """What one day's decision ordered and has not been filled.

    Attributes
    ----------
    decided : int
    shares : ndarray of shape (N,)
        Buy +; 0 where nothing is ordered, or left.
    reason : list of str, length N
    binding : bool
        No later decision withdraws it: a recall.
    """

    decided: int
    shares: FloatArray
    reason: list[str]
    binding: bool = False


class OrderBook:
    """Orders in N assets that wait for their day.

    Parameters
    ----------
    n : int
    lag : int
        Trading days from decision to fill.
    """

    def __init__(self, n: int, lag: int) -> None:
        self.n, self.lag = n, lag
        self._open: list[Orders] = []

    @property
    def pending(self) -> BoolArray:
        """Assets with an order that has not filled, shape (N,)."""
        waiting = np.zeros(self.n, dtype=np.bool_)
        for orders in self._open:
            waiting |= orders.shares != 0
        return waiting

    @property
    def recalled(self) -> FloatArray:
        """Shares that are to be bought back for lenders, shape (N,)."""
        shares = np.zeros(self.n)
        for orders in self._open:
            if orders.binding:
                shares += orders.shares
        return shares

    def coming(self, t: int) -> FloatArray:
        """Return shares that a decision of day t counts on: on their way, or recalled, shape (N,)."""
        shares = np.zeros(self.n)
        for orders in self._open:
            if orders.binding or orders.decided + self.lag > t:
                shares += orders.shares
        return shares

    def most_short(self, available: FloatArray | None, held: FloatArray) -> FloatArray:
        """Return how many shares may be short: what can be borrowed, and no more than a recall leaves, shape (N,).

        Parameters
        ----------
        available : ndarray of shape (N,) or None
            Shares that can be borrowed; NaN, or None for all: not known, no limit.
        held : ndarray of shape (N,)
            Shares, short negative.
        """
        limit = np.full(self.n, np.inf) if available is None else np.where(np.isnan(available), np.inf, available)
        recalled = self.recalled
        return np.where(recalled != 0, np.minimum(limit, np.maximum(-held - recalled, 0.0)), limit)

    def due(self, t: int) -> list[Orders]:
        """Return orders whose day has come, the oldest first."""
        return [orders for orders in self._open if orders.decided + self.lag <= t]

    def place(self, t: int, shares: FloatArray, reason: list[str]) -> None:
        """Take the orders of a decision of day t."""
        self._open.append(Orders(t, shares, reason))

    def restate(self, factor: FloatArray) -> None:
        """Multiply every order as the holding is: had the shares been held, they would now be this many.

        Without it an order decided before a split would fill at a multiple of its size.
        """
        for orders in self._open:
            orders.shares = orders.shares * factor

    def drop(self, assets: BoolArray) -> BoolArray:
        """Take back every order in some assets, and return which had one."""
        had = self.pending & assets
        for orders in self._open:
            orders.shares = np.where(assets, 0.0, orders.shares)
        return had

    def recall(self, t: int, i: int, shares: float) -> None:
        """Order shares of a short to be bought back; what waits to be bought anyway is part of it, sales are taken back."""
        left = shares
        for orders in self._open:
            if not orders.binding:
                part = min(max(orders.shares[i], 0.0), left)
                orders.shares[i] = max(orders.shares[i], 0.0) - part
                left -= part
        called = np.zeros(self.n)
        called[i] = shares
        self._open.append(Orders(t, called, ["recall"] * self.n, binding=True))

    def withdraw_late(self, t: int) -> None:
        """Withdraw orders that were due by t and have not filled: the decision of t takes the book as it is."""
        self._open = [orders for orders in self._open if orders.binding or orders.decided + self.lag > t]

    def forget_filled(self) -> None:
        """Forget orders of which nothing is left."""
        self._open = [orders for orders in self._open if orders.shares.any()]
