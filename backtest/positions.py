"""Shares, prices and values of N assets, each in its own currency, and how a day's close changes them.

Value follows the data set's return, whatever the closes say; shares follow the events. With v the value of yesterday, r the
return, n the shares, D the dividend and X the value of shares spun off, both for one share of yesterday:

    returns with dividends inside      value = v (1 + r) - n D - n X        price line = v r - n D
    price returns                      value = v (1 + r)                    price line = v r + n X

and n D is the dividend line of both. Where the data set lists its events, shares become n times the split's ratio, and price
the close. Where the close then says another value, by more than rounding, something happened that no event tells: shares are
restated as value / close. Where it lists none, they always are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from backtest.corporate_actions import Actions
from backtest.market_day import MarketDay
from risk import DataError
from risk.checks import BoolArray, FloatArray

__all__ = ["Mark", "Positions"]

SAME = 1e-6
"""Relative difference between close and return that is rounding: returns of six decimals have 5e-7 of it."""


@dataclass(frozen=True, eq=False)
class Mark:
    """What one close did to N positions, in each asset's own currency.

    Attributes
    ----------
    price, dividend : ndarray of shape (N,)
        Profit by line.
    factor : ndarray of shape (N,)
        Shares that one share of yesterday has become: orders are restated by it.
    restated : bool ndarray of shape (N,)
        Held where close and return differ by more than rounding and no event says why.
    """

    price: FloatArray
    dividend: FloatArray
    factor: FloatArray
    restated: BoolArray


class Positions:
    """Positions in N assets.

    Attributes
    ----------
    shares : ndarray of shape (N,)
        Short negative.
    price : ndarray of shape (N,)
        Last close, moved on by returns where a row has no close. NaN where there was none yet.
    value : ndarray of shape (N,)
        Own currency.
    estimated : bool ndarray of shape (N,)
        Received in a merger or spin-off before its first close, at the value of what it was received for.
    """

    def __init__(self, assets: tuple[str, ...]) -> None:
        n = len(assets)
        self.assets = assets
        self.shares, self.value, self.price = np.zeros(n), np.zeros(n), np.full(n, np.nan)
        self.estimated = np.zeros(n, dtype=np.bool_)

    def start(self, price: FloatArray, shares: Mapping[str, float]) -> None:
        """Take prices before the first day, shape (N,), and shares by asset that are held already.

        Raises
        ------
        DataError
            If an asset is not known or has no price, or a price is not positive.
        """
        bad = np.flatnonzero(price <= 0)
        if len(bad):
            raise DataError(f"the price of {self.assets[bad[0]]!r} must be positive; got {price[bad[0]]:.6g}.")
        self.price = np.array(price, dtype=np.float64)
        place = {name: i for i, name in enumerate(self.assets)}
        for name, count in shares.items():
            if name not in place:
                raise DataError(f"holdings: {name!r} is no asset of the market data. Correct the name, or remove it.")
            if not np.isfinite(price[place[name]]):
                raise DataError(f"holdings: {name!r} has no price before the first day. Start later, or remove it.")
            self.add(place[name], float(count))

    def mark(self, market: MarketDay, actions: Actions, rate: FloatArray, *, dividends_inside: bool) -> Mark:
        """Mark every position at the close of a day, and return what changed.

        Parameters
        ----------
        market : MarketDay
        actions : Actions
            Of the day.
        rate : ndarray of shape (N,)
            Base units for one unit of each asset's currency, today.
        dividends_inside : bool
            Whether returns hold dividends and spin-offs.

        Raises
        ------
        DataError
            If a close is not positive, or a dividend is more than a share was worth.
        """
        row, priced, close, ratio = market.has_row, market.priced, market.close, actions.ratio
        self._refuse(priced & ~(close > 0), close, market, "`close` must be positive")
        r = np.where(row, np.nan_to_num(market.returns), 0.0)
        worth = self.price * (1 + r)  # of one share of yesterday, with all that it pays out today
        gain = np.where(row & (self.value != 0), self.value * r, 0.0)

        out = actions.dividend if dividends_inside else np.zeros_like(worth)
        left = self._less(worth, out)
        price = np.where(priced, close, left / ratio)
        in_kind = self._value_spin_offs(actions, left, price, rate)
        if dividends_inside:
            out = out + in_kind
        left = self._less(worth, out)
        self._refuse(left < 0, left, market, "a share's value after the day's return and dividend must not be negative")
        price = np.where(priced | np.isnan(worth), price, left / ratio)

        moved = priced & np.isfinite(self.price) & np.isfinite(market.returns) & ~self.estimated
        factor = np.divide(left, price, out=ratio.copy(), where=moved)
        kept = np.zeros_like(row) if market.events is None else np.abs(factor - ratio) <= SAME * ratio
        factor = np.where(kept, ratio, factor)
        before, exact, value = self.shares, self.shares * ratio, self.value + gain - self.shares * out
        # What a return is rounded by; on its first close, all that a position received without one turns out to be worth.
        rounding = np.where(kept & row & (before != 0), exact * price - value, 0.0)
        self.value = value + rounding
        self.shares = np.divide(value, price, out=np.where(kept, exact, 0.0), where=~kept & (value != 0))
        self.price = price
        self.estimated &= ~priced
        for spin_off in actions.spin_offs:
            self.add(spin_off.child, before[spin_off.parent] * spin_off.ratio)
        dividend = before * actions.dividend
        # What was spun off is no profit where returns hold it: it only moves from parent to child.
        profit = gain + rounding - before * (out - in_kind if dividends_inside else -in_kind)
        listed = market.events is not None
        return Mark(profit, dividend, factor, (before != 0) & moved & ~kept & listed)

    def _less(self, worth: FloatArray, out: FloatArray) -> FloatArray:
        """Return what is left of a share that pays something out; a price that was never seen refutes no payment."""
        left = worth - out
        return np.where(self.estimated, np.maximum(left, 0.0), left)

    def _value_spin_offs(self, actions: Actions, left: FloatArray, price: FloatArray, rate: FloatArray) -> FloatArray:
        """Return what is spun off for each share of yesterday, in its own currency, shape (N,).

        A company without a close yet is worth what the parent's return holds and the parent's close does not; that price is
        written into `price`.
        """
        in_kind = np.zeros_like(left)
        for spin_off in actions.spin_offs:
            i, j = spin_off.parent, spin_off.child
            if np.isfinite(price[j]):
                in_kind[i] += spin_off.ratio * price[j] * rate[j] / rate[i]
                continue
            gap = left[i] - in_kind[i] - actions.ratio[i] * price[i]
            gap = gap if gap > SAME * left[i] else 0.0
            in_kind[i] += gap
            if self.shares[i] != 0:
                price[j], self.estimated[j] = gap * rate[i] / rate[j] / spin_off.ratio, True
        return in_kind

    def estimate(self, i: int, price: float) -> None:
        """Give an asset that never had a close a price until it has one."""
        self.price[i], self.estimated[i] = price, True

    def add(self, i: int, shares: float) -> None:
        """Add shares at the price of the day."""
        if shares != 0:
            self.shares[i] += shares
            self.value[i] += shares * self.price[i]

    def remove(self, i: int) -> tuple[float, float]:
        """Take a position out, and return its shares and value."""
        shares, value = float(self.shares[i]), float(self.value[i])
        self.shares[i] = self.value[i] = 0.0
        return shares, value

    def _refuse(self, wrong: BoolArray, value: FloatArray, market: MarketDay, rule: str) -> None:
        if wrong.any():
            i = int(wrong.argmax())
            raise DataError(f"{rule}: {self.assets[i]!r} has {value[i]:.6g} on {market.date:%Y-%m-%d}.")
