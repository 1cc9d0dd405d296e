"""The fund's books: shares, cash, orders and charges, one day at a time, and the identity that proves them.

    nav(t) - nav(t-1) = price + dividend + delisting + fx - costs - financing - fees + subscriptions - redemptions

Both sides are computed by themselves: the left from shares, prices, exchange rates and cash, the right from the day's lines
(`backtest.lines`). A day goes: `open_day` (currencies, financing of yesterday's book, the close, corporate actions, leavers),
`fill`, on some days `sweep`, `charge_fees`, `deal`; then `close_day`, and after it the orders of a decision.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from backtest.corporate_actions import collect_actions
from backtest.events import Event, EventKind
from backtest.execution import CostSchedule, execute, volume_room
from backtest.financing import FinancingTerms, accrue
from backtest.ledger_rules import LedgerRules
from backtest.lines import GROSS_LINES, Day, Fills
from backtest.market_day import MarketDay
from backtest.orders import OrderBook, Orders
from backtest.positions import Positions
from backtest.restructuring import Settlement, delist, merge
from engine import TradeCosts
from risk import DataError
from risk.checks import BoolArray, FloatArray

__all__ = ["Ledger", "LedgerError"]

CENT = 0.005
DUST = 1e-9
"""A trade closed the position if less than this of its value is left: rounding."""


class LedgerError(AssertionError):
    """The books do not add up: a defect of this program, never of the data."""


class Ledger:
    """Positions of N assets and cash in C currencies.

    Parameters
    ----------
    assets : sequence of N str
    nav : float
        Cash at the start, in the base currency.
    rules : LedgerRules
    currencies : sequence of C str
        The base currency first.
    currency : int ndarray of shape (N,), optional
        Position of each asset's currency in `currencies`. Default: the base currency.

    Attributes
    ----------
    cash : ndarray of shape (C,)
        Each in its own currency; with the proceeds of shorts.
    fx : ndarray of shape (C,)
        Base units for one unit of each currency, at the last close.
    """

    def __init__(
        self,
        assets: Sequence[str],
        nav: float,
        rules: LedgerRules,
        *,
        currencies: Sequence[str] = ("",),
        currency: npt.NDArray[np.intp] | None = None,
    ) -> None:
        n = len(assets)
        self.assets, self.rules, self.currencies = tuple(assets), rules, tuple(currencies)
        self.currency = np.zeros(n, dtype=np.intp) if currency is None else np.array(currency, dtype=np.intp)
        self.cash, self.fx = np.zeros(len(currencies)), np.ones(len(currencies))
        self.cash[0] = nav
        self.orders = OrderBook(n, rules.lag)
        self._positions = Positions(self.assets)
        self._members = [np.flatnonzero(self.currency == c) for c in range(len(currencies))]
        self._costs = CostSchedule(n, rules.commission)
        self._terms: FinancingTerms | None = None

    # The book as it stands.

    @property
    def shares(self) -> FloatArray:
        """Shares held, short negative, shape (N,)."""
        return self._positions.shares

    @property
    def price(self) -> FloatArray:
        """Last price in each asset's own currency, shape (N,); NaN where there was none yet."""
        return self._positions.price

    @property
    def value(self) -> FloatArray:
        """Positions in base money, shape (N,)."""
        return self._positions.value * self._rate

    @property
    def nav(self) -> float:
        """Net asset value in base money: cash, and shares times price."""
        return self._in_base(self._net())

    @property
    def total_cash(self) -> float:
        """Cash of all currencies in base money."""
        return self._in_base(self.cash)

    @property
    def weights(self) -> FloatArray:
        """Positions as fractions of net asset value, shape (N,); NaN where that is 0."""
        nav = self.nav
        weights: FloatArray = np.divide(self.value, nav, out=np.full(len(self.assets), np.nan), where=nav != 0)
        return weights

    @property
    def _rate(self) -> FloatArray:
        """Base units for one unit of each asset's currency, shape (N,)."""
        rate: FloatArray = self.fx[self.currency]
        return rate

    def _in_base(self, amount: FloatArray) -> float:
        return float(amount @ self.fx)

    def _net(self) -> FloatArray:
        """Return net assets by currency, each in its own, shape (C,)."""
        shares, price = self.shares, np.nan_to_num(self.price)
        net: FloatArray = self.cash + np.array([float(shares[mine] @ price[mine]) for mine in self._members])
        return net

    def expected_weights(self, t: int) -> FloatArray:
        """Return what a decision of day t starts from: positions and orders on their way, fractions of net assets, shape (N,).

        An order that was due by t and has not filled is not on its way: the decision replaces it. A recall always is.
        """
        coming = self.orders.coming(t) * np.nan_to_num(self.price)
        expected: FloatArray = (self._positions.value + coming) * self._rate / self.nav
        return expected

    def most_short(self, market: MarketDay) -> FloatArray:
        """Return how many shares of each asset may be short: what lenders have, less what they call back, shape (N,).

        Infinite where not known. A short that is larger already is kept.
        """
        return self.orders.most_short(market.available, self.shares)

    def lowest_weights(self, t: int, market: MarketDay) -> FloatArray:
        """Return the lowest weights that a decision of day t can ask for, shape (N,): `most_short`, or the short that is held."""
        limit = self.most_short(market)
        known, price = np.isfinite(limit), np.nan_to_num(self.price) * self._rate
        lowest = np.where(known, -np.where(known, limit, 0.0) * price / self.nav, -np.inf)
        return np.minimum(self.expected_weights(t), lowest)

    # Before the first day.

    def start(
        self, price: FloatArray, *, shares: Mapping[str, float] | None = None, fx: FloatArray | None = None
    ) -> None:
        """Give the last closes before the first day, and a book that is held already.

        Parameters
        ----------
        price : ndarray of shape (N,)
            NaN where there was none.
        shares : mapping of asset to float, optional
            Net assets are then the cash and these.
        fx : ndarray of shape (C,), optional
            At those closes. Default: 1.

        Raises
        ------
        DataError
            If an asset is not known to the ledger, has no price, or a price is not positive.
        """
        self._positions.start(price, {} if shares is None else shares)
        if fx is not None:
            self.fx = np.array(fx, dtype=np.float64)

    def set_costs(self, assets: BoolArray, costs: TradeCosts, nav: float) -> None:
        """Charge from now on what the optimizer priced at this net asset value.

        In money, |v| = |u| nav, a trade costs linear |v| + impact / sqrt(nav) |v|^(3/2), whatever the nav of the day it fills.
        """
        self._costs.set(assets, costs, nav)

    def order(self, t: int, target: FloatArray, which: BoolArray, reason: list[str]) -> None:
        """Fix orders in shares at the close of day t: target * nav / close - shares held, for the assets in `which`.

        Shares on their way count as held: an order is never called back before its day.

        Raises
        ------
        DataError
            If an asset without a price has a target other than 0.
        """
        price, asset = self.price * self._rate, np.flatnonzero(which)
        aimed = target[asset] != 0
        unknown = asset[aimed & ~(price[asset] > 0)]
        if len(unknown):
            day = f"day {t}" if self._terms is None else f"{self._terms.date:%Y-%m-%d}"
            raise DataError(f"{self.assets[unknown[0]]!r} is ordered on {day} and has no price so far.")
        wanted = np.divide(target[asset] * self.nav, price[asset], out=np.zeros(len(asset)), where=aimed)
        shares = np.zeros(len(self.assets))
        shares[asset] = wanted - self.shares[asset] - self.orders.coming(t)[asset]
        self.orders.place(t, shares, list(reason))

    # The day.

    def open_day(self, market: MarketDay) -> Day:
        """Mark the book at a day's close, with all that happened since the close before.

        Financing is charged on yesterday's positions. An asset without a row is unchanged, and its next return spans the gap.
        The price of one with a row and no close moves by its return.

        Raises
        ------
        DataError
            If a price or an exchange rate is not positive, an event cannot be booked, or days do not ascend.
        """
        actions, net = collect_actions(market, self.assets), self._net()
        day = Day(market.t, self._in_base(net), np.zeros(len(self.assets)))
        self._convert(day, market)
        self._finance(day, market, net)
        mark = self._positions.mark(market, actions, self._rate, dividends_inside=self.rules.dividends_inside)
        self.orders.restate(mark.factor)
        np.add.at(self.cash, self.currency, mark.dividend)
        price, dividend = mark.price * self._rate, mark.dividend * self._rate
        day.pnl += price + dividend
        day.book("price", price.sum())
        day.book("dividend", dividend.sum())
        if mark.restated.any():
            count, amount = int(mark.restated.sum()), float(np.abs(self.value[mark.restated]).sum())
            day.note("restated", -1, amount, f"{count} positions whose close and return differ and no event says why")
        self._happen(day, market)
        self._terms = FinancingTerms.of(market)
        return day

    def _convert(self, day: Day, market: MarketDay) -> None:
        """Take the day's exchange rates: what was held yesterday gains or loses by them."""
        held = np.array([self.shares[mine].any() for mine in self._members]) | (self.cash != 0)
        used = held | np.array([market.priced[mine].any() for mine in self._members])
        wrong = np.flatnonzero(used & ~(market.fx > 0))
        if len(wrong):
            raise DataError(
                f"`fx`: {self.currencies[wrong[0]]!r} is {market.fx[wrong[0]]} on {market.date:%Y-%m-%d} and must be positive: "
                "there is a price, a position or cash in it."
            )
        fx = np.where(market.fx > 0, market.fx, self.fx)  # where it is not known, nothing is in the currency yet
        change = np.where(held, fx - self.fx, 0.0)
        on_positions = self._positions.value * change[self.currency]
        day.fx_on_cash = float(self.cash @ change)
        day.pnl += on_positions
        day.book("fx", on_positions.sum() + day.fx_on_cash)
        self.fx = fx

    def _finance(self, day: Day, market: MarketDay, net: FloatArray) -> None:
        """Charge and credit interest, rebates and borrow fees for the days since yesterday's close."""
        if self._terms is None:
            return
        days = (market.date - self._terms.date).days
        if days <= 0:
            raise DataError(f"days must ascend; {market.date:%Y-%m-%d} comes after {self._terms.date:%Y-%m-%d}.")
        value = self._positions.value
        accrual = accrue(self.rules.financing, self._terms, days, value, net, self._members, self.currencies)
        self.cash += accrual.total
        for name, amount in accrual.lines.items():
            day.book(name, self._in_base(amount))

    def _happen(self, day: Day, market: MarketDay) -> None:
        """Book mergers, delistings and recalls, and what is gone without one."""
        ended = np.zeros(len(self.assets), dtype=np.bool_) if market.gone is None else market.gone.copy()
        for event in market.events or ():
            i, held = event.asset, self.shares[event.asset] != 0
            if event.kind is EventKind.MERGER and held:
                self._settle(day, merge(self._positions, event, self._rate))
            elif event.kind is EventKind.DELISTING and held:
                self._settle(day, delist(self._positions, i, event, market, self.rules, float(self._rate[i])))
            elif event.kind is EventKind.RECALL:
                self._recall(day, event)
            ended[i] |= event.kind in (EventKind.MERGER, EventKind.DELISTING)
            if event.ratio and event.kind in (EventKind.MERGER, EventKind.SPIN_OFF):
                self._note_estimate(day, event.new_asset)
        for i in map(int, np.flatnonzero(ended & (self.shares != 0))):
            self._settle(day, delist(self._positions, i, None, market, self.rules, float(self._rate[i])))
        if ended.any():
            for i in map(int, np.flatnonzero(self.orders.drop(ended))):
                day.note("order dropped", i, np.nan, "the asset is gone")

    def _note_estimate(self, day: Day, i: int) -> None:
        if self._positions.estimated[i] and self.shares[i] != 0:
            day.note("no close yet", i, self.value[i], "held at what it was received for until its first close")

    def _settle(self, day: Day, settled: Settlement) -> None:
        self.cash[self.currency[settled.asset]] += settled.cash
        day.pnl[settled.asset] += settled.profit
        day.book(settled.line, settled.profit)
        day.note(settled.kind, settled.asset, settled.received, settled.detail)

    def _recall(self, day: Day, event: Event) -> None:
        """Order the part of a short that its lender calls back; what is recalled already is not called twice."""
        i = event.asset
        called = event.ratio * max(-float(self.shares[i] + self.orders.recalled[i]), 0.0)
        if called > 0:
            self.orders.recall(day.t, i, called)
            day.note("recall", i, called * float(self.price[i] * self._rate[i]), "bought back at the next session")

    def fill(self, day: Day, market: MarketDay) -> None:
        """Fill the orders that are due, at this day's close: what cannot trade, or has no volume left, waits."""
        held = self._positions
        price = held.price * self._rate
        room, limit = volume_room(market, price, self.rules.participation_limit), self.most_short(market)
        parts: list[Fills] = []
        waiting: set[int] = set()
        for orders in self.orders.due(day.t):
            done = execute(orders, market.tradable, held.shares, limit, room)
            waiting.update(done.waiting.tolist())
            for i, shares in zip(done.short_of_volume, done.left, strict=True):
                day.note("partial fill", i, shares * price[i], "the rest waits for another day's volume")
            for i, shares in zip(done.unlocated, done.cancelled, strict=True):
                day.note("no locate", i, shares * price[i], "cannot be borrowed; cancelled")
            parts.append(self._trade(orders, done.asset, done.shares))
        for i in sorted(waiting):
            day.note("carried order", i, np.nan, "no row or no close on the day of its fill; waits for the next")
        self.orders.forget_filled()
        day.fills = fills = Fills.gathered(parts)
        currency = self.currency[fills.asset]
        np.subtract.at(self.cash, currency, fills.shares * fills.price + fills.cost / self.fx[currency])
        for line in ("spread", "commission", "impact"):
            day.book(line, -getattr(fills, line).sum())

    def _trade(self, orders: Orders, asset: npt.NDArray[np.intp], shares: FloatArray) -> Fills:
        """Change positions by what fills, and return the trades."""
        held, price = self._positions, self.price[asset]
        own = shares * price
        held.shares[asset] += shares
        held.value[asset] += own
        closed = asset[np.abs(held.value[asset]) <= DUST * np.abs(own)]
        np.add.at(self.cash, self.currency[closed], held.value[closed])
        held.value[closed] = held.shares[closed] = 0.0
        value = own * self._rate[asset]
        spread, commission, impact = self._costs.charge(asset, value)
        reason = tuple(orders.reason[i] for i in asset)
        decided = np.full(len(asset), orders.decided, dtype=np.intp)
        return Fills(asset, decided, shares, price, value, spread, commission, impact, reason)

    def sweep(self, day: Day) -> None:
        """Convert cash between foreign currencies and the base.

        None is left in a foreign currency or, with a full hedge, as much debt as the net value of its positions: what they
        lose by the exchange rate the debt gains.
        """
        for c in range(1, len(self.cash)):
            mine = self._members[c]
            aim = -float(self._positions.value[mine].sum()) if self.rules.fx_hedge == "full" else 0.0
            bought = aim - self.cash[c]
            cost = self.rules.fx_cost * abs(bought) * self.fx[c]
            self.cash[c] = aim
            self.cash[0] -= bought * self.fx[c] + cost
            day.book("fx_cost", -cost)

    def charge_fees(self, day: Day, management_fee: float, incentive_fee: float) -> None:
        """Take fees, in base money, from cash."""
        self._pay(day, "management_fee", -management_fee)
        self._pay(day, "incentive_fee", -incentive_fee)

    def deal(self, day: Day, *, subscription: float = 0.0, redemption: float = 0.0) -> None:
        """Take in and pay out investors' money, both >= 0, in base money."""
        self._pay(day, "subscription", subscription)
        self._pay(day, "redemption", -redemption)

    def _pay(self, day: Day, line: str, amount: float) -> None:
        self.cash[0] += amount
        day.book(line, amount)

    def close_day(self, day: Day) -> float:
        """Prove the day's identities and return its net asset value.

        Raises
        ------
        LedgerError
            If lines and books differ by half a cent, positions' profits and gross lines do, or shares times price and value.
        """
        nav, value = self.nav, self.value
        lines = sum(day.lines.values())
        earned = sum(day.lines[name] for name in GROSS_LINES)
        # Beyond ten billion in gross value half a cent is under the resolution of float64 sums.
        tolerance = max(CENT, 1e-13 * float(np.abs(value).sum()))
        for what, one, other in (
            ("nav moved by {:.4f}, its lines add up to {:.4f}", nav - day.nav_before, lines),
            ("profits of positions and cash are {:.4f}, the gross lines {:.4f}", day.gross, earned),
            ("positions are worth {1:.4f}, shares times price {0:.4f}", nav - self.total_cash, float(value.sum())),
        ):
            if not abs(one - other) <= tolerance:
                raise LedgerError(f"day {day.t}: {what.format(one, other)}.")
        return nav
