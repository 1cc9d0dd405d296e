"""The fund's books: shares, cash, orders and charges, one day at a time, and the identity that proves them.

    nav(t) - nav(t-1) = sum of profit and loss - cost - financing - management fee - incentive fee

Both sides are computed by themselves: the left from shares, prices and cash, the right from the day's lines.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from engine import TradeCosts
from risk.checks import BoolArray, FloatArray

__all__ = ["Day", "Ledger", "LedgerError", "Trade"]

CENT = 0.005


class LedgerError(AssertionError):
    """The books do not add up: a defect of this program, never of the data."""


@dataclass(frozen=True)
class Trade:
    """One fill."""

    asset: int
    decided: int
    shares: float
    price: float
    value: float
    cost: float
    reason: str


@dataclass
class Day:
    """The lines of one day, in money. Charges are positive."""

    t: int
    nav_before: float
    pnl: FloatArray
    cost: float = 0.0
    financing: float = 0.0
    management_fee: float = 0.0
    incentive_fee: float = 0.0
    trades: list[Trade] = field(default_factory=list)
    gone: list[tuple[int, float]] = field(default_factory=list)
    """Assets booked out, and the value received for each."""
    carried: list[int] = field(default_factory=list)
    """Assets whose order was due and could not fill, as they had no row or no close."""


@dataclass
class _Orders:
    """What one day's decision ordered and has not been filled; 0 shares where nothing is."""

    decided: int
    shares: FloatArray
    reason: list[str]


class Ledger:
    """Positions of N assets and cash, marked daily by each asset's return.

    Value follows the data set's return; shares are value / close. So a split, or a dividend under total returns, changes
    the number of shares and never the value.

    Parameters
    ----------
    n : int
        Assets.
    nav : float
        Cash at the start.
    lag : int
        Trading days from order to fill.
    financing_spread : float
        Per year, on longs beyond net assets.
    borrow_fee : float
        Per year, on shorts.
    """

    def __init__(self, n: int, nav: float, *, lag: int, financing_spread: float, borrow_fee: float) -> None:
        self.value = np.zeros(n)
        self.price = np.full(n, np.nan)
        self.shares = np.zeros(n)
        self.cash = float(nav)
        self.lag = lag
        self.financing_spread = financing_spread
        self.borrow_fee = borrow_fee
        self._orders: list[_Orders] = []
        self._linear = np.zeros(n)
        self._impact = np.zeros(n)
        self._last_date: pd.Timestamp | None = None

    @property
    def nav(self) -> float:
        """Net asset value: cash plus the value of every position, in money."""
        return self.cash + float(self.shares @ np.nan_to_num(self.price))

    @property
    def weights(self) -> FloatArray:
        """Positions as fractions of net asset value, shape (N,)."""
        return self.value / self.nav

    @property
    def pending(self) -> BoolArray:
        """Assets with an order that has not filled, shape (N,)."""
        waiting = np.zeros(len(self.value), dtype=np.bool_)
        for orders in self._orders:
            waiting |= orders.shares != 0
        return waiting

    def expected_weights(self, t: int) -> FloatArray:
        """Return what a decision of day t starts from: positions and orders on their way, fractions of net assets, shape (N,).

        An order that was due by t and has not filled is not on its way: the decision replaces it.
        """
        expected: FloatArray = (self.value + self._on_the_way(t) * np.nan_to_num(self.price)) / self.nav
        return expected

    def _on_the_way(self, t: int) -> FloatArray:
        shares = np.zeros(len(self.value))
        for orders in self._orders:
            if orders.decided + self.lag > t:
                shares += orders.shares
        return shares

    def open_day(self, t: int, date: pd.Timestamp, returns: FloatArray, close: FloatArray, has_row: BoolArray) -> Day:
        """Mark the book at the close of day t and charge financing on yesterday's positions.

        An asset without a row is unchanged, and its next return spans the gap. The price of one with a row and no close
        moves by its return.
        """
        day = Day(t, self.nav, np.where(has_row & (self.value != 0), self.value * np.nan_to_num(returns), 0.0))
        days = 0 if self._last_date is None else (date - self._last_date).days
        longs, shorts = float(self.value[self.value > 0].sum()), -float(self.value[self.value < 0].sum())
        day.financing = (
            (self.financing_spread * max(longs - day.nav_before, 0.0) + self.borrow_fee * shorts) * days / 365.0
        )
        self.cash -= day.financing
        # A pending order is restated as the holding is: had the shares been held since yesterday's close, they would now
        # be this many. Without this an order decided before a split would fill at a multiple of its size.
        priced = has_row & np.isfinite(close)
        restated = priced & np.isfinite(self.price) & np.isfinite(returns)
        factor = np.ones_like(close)
        factor[restated] = self.price[restated] * (1 + returns[restated]) / close[restated]
        for orders in self._orders:
            orders.shares = orders.shares * factor
        self.value = self.value + day.pnl
        moved = np.where(has_row, self.price * (1 + np.nan_to_num(returns)), self.price)
        self.price = np.where(priced, close, moved)
        self.shares = np.where(self.value != 0, self.value / np.where(np.isfinite(self.price), self.price, 1.0), 0.0)
        self._last_date = date
        return day

    def book_gone(self, day: Day, gone: BoolArray, delisting_return: FloatArray) -> None:
        """Close positions in assets that are gone, at the last price plus the delisting return where given."""
        for i in np.flatnonzero(gone & (self.value != 0)):
            loss = self.value[i] * np.nan_to_num(delisting_return[i])
            day.pnl[i] += loss
            received = float(self.value[i] + loss)
            self.cash += received
            self.value[i] = self.shares[i] = 0.0
            day.gone.append((int(i), received))
        for orders in self._orders:
            orders.shares[gone] = 0.0

    def fill(self, day: Day, has_close: BoolArray) -> None:
        """Fill every order that is due, at this day's close; one whose asset has no close is carried over."""
        due = [
            (int(i), orders)
            for orders in self._orders
            if orders.decided + self.lag <= day.t
            for i in np.flatnonzero(orders.shares)
        ]
        due.sort(key=lambda pair: pair[0])
        day.carried = list(dict.fromkeys(i for i, _ in due if not has_close[i]))
        for i, orders in due:
            if not has_close[i]:
                continue
            shares, price = orders.shares[i], self.price[i]
            value = float(shares * price)
            cost = float(self._linear[i] * abs(value) + self._impact[i] * abs(value) ** 1.5)
            self.shares[i] += shares
            self.value[i] += value
            if abs(self.value[i]) <= 1e-9 * abs(value):
                # The order closed the position; what is left is rounding, worth less than a billionth of the trade.
                self.cash += self.value[i]
                self.value[i] = self.shares[i] = 0.0
            self.cash -= value + cost
            day.cost += cost
            day.trades.append(Trade(i, orders.decided, float(shares), float(price), value, cost, orders.reason[i]))
            orders.shares[i] = 0.0
        self._orders = [orders for orders in self._orders if orders.shares.any()]

    def charge_fees(self, day: Day, management_fee: float, incentive_fee: float) -> None:
        """Take fees, in money, from cash."""
        day.management_fee += management_fee
        day.incentive_fee += incentive_fee
        self.cash -= management_fee + incentive_fee

    def close_day(self, day: Day) -> float:
        """Prove the day's identity and return its net asset value.

        Raises
        ------
        LedgerError
            If the lines and the books differ by half a cent, or shares times price by as much from value.
        """
        nav = self.nav
        lines = float(day.pnl.sum()) - day.cost - day.financing - day.management_fee - day.incentive_fee
        # Beyond ten billion in gross value half a cent is under the resolution of float64 sums.
        tolerance = max(CENT, 1e-13 * float(np.abs(self.value).sum()))
        if abs(nav - day.nav_before - lines) > tolerance:
            raise LedgerError(f"day {day.t}: nav moved by {nav - day.nav_before:.4f}, its lines add up to {lines:.4f}.")
        if abs(nav - self.cash - float(self.value.sum())) > tolerance:
            raise LedgerError(
                f"day {day.t}: shares times price differ from value by {nav - self.cash - self.value.sum():.4f}."
            )
        return nav

    def withdraw_late(self, t: int) -> None:
        """Withdraw orders that were due by t and have not filled: the decision of t takes the book as it is."""
        self._orders = [orders for orders in self._orders if orders.decided + self.lag > t]

    def order(self, t: int, target: FloatArray, which: BoolArray, reason: list[str]) -> None:
        """Fix orders in shares at the close of day t: target * nav / close - shares held, for the assets in `which`.

        Shares on their way count as held: an order is never called back before its day.
        """
        nav, coming = self.nav, self._on_the_way(t)
        shares = np.zeros(len(self.value))
        for i in np.flatnonzero(which):
            shares[i] = target[i] * nav / self.price[i] - self.shares[i] - coming[i]
        self._orders.append(_Orders(t, shares, list(reason)))

    def set_costs(self, assets: BoolArray, costs: TradeCosts, nav: float) -> None:
        """Charge from now on what the optimizer priced at this net asset value.

        In money, |v| = |u| nav, a trade costs linear |v| + impact / sqrt(nav) |v|^(3/2), whatever the nav of the day it fills.
        """
        self._linear[assets] = costs.linear
        self._impact[assets] = costs.impact / np.sqrt(nav)
