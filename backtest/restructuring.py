"""Positions that end: in a merger, a delisting, or because nobody has seen a price for long."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from backtest.events import Event
from backtest.ledger_rules import LedgerRules
from backtest.market_day import MarketDay
from backtest.positions import Positions
from risk.checks import FloatArray

__all__ = ["Settlement", "delist", "merge"]


@dataclass(frozen=True)
class Settlement:
    """How a position ended.

    Attributes
    ----------
    asset : int
    kind, detail : str
        For the run's notices.
    line : str
        Of the account, for the profit.
    cash : float
        Received, in the asset's own currency; a short pays.
    received : float
        Cash and shares, in base money.
    profit : float
        What was received less the last value, in base money.
    """

    asset: int
    kind: str
    detail: str
    line: str
    cash: float
    received: float
    profit: float


def merge(positions: Positions, event: Event, rate: FloatArray) -> Settlement:
    """Exchange a position for shares of another asset, cash, or both.

    A new asset that has no close yet is worth what remains of the old one's last value after the cash.

    Parameters
    ----------
    positions : Positions
    event : Event
        A merger.
    rate : ndarray of shape (N,)
        Base units for one unit of each asset's currency.
    """
    i, j = event.asset, event.new_asset
    last = positions.price[i]
    shares, value = positions.remove(i)
    cash, stock = shares * event.amount, 0.0
    if shares and event.ratio:
        if not np.isfinite(positions.price[j]):
            positions.estimate(j, max(last - event.amount, 0.0) * rate[i] / rate[j] / event.ratio)
        positions.add(j, shares * event.ratio)
        stock = shares * event.ratio * float(positions.price[j] * rate[j])
    received = cash * float(rate[i]) + stock
    detail = f"each share became {event.ratio:g} of another asset and {event.amount:g} in cash"
    return Settlement(i, "merger", detail, "price", cash, received, received - value * float(rate[i]))


def delist(
    positions: Positions, i: int, event: Event | None, market: MarketDay, rules: LedgerRules, rate: float
) -> Settlement:
    """Close a position for good.

    Its worth is the event's cash amount; where that is not known, the last price and the market's delisting return; where that
    is not known either, what the rules assume for the cause.

    Parameters
    ----------
    positions : Positions
    i : int
    event : Event or None
        None: the asset is gone without one.
    market : MarketDay
    rules : LedgerRules
    rate : float
        Base units for one unit of the asset's currency.
    """
    shares, value = positions.remove(i)
    amount, cause = (np.nan, "") if event is None else (event.amount, event.cause)
    given = np.nan if market.delisting_return is None else float(market.delisting_return[i])
    return_ = rules.delisting_return(cause) if np.isnan(given) else given
    profit = value * return_ if np.isnan(amount) else shares * amount - value
    kind, detail = ("gone", "booked at the last price and its delisting return")
    if event is not None:
        how = f"a return of {return_:g} on the last price" if np.isnan(amount) else f"{amount:g} in cash for each share"
        kind, detail = "delisting", f"{cause or 'no cause given'}: {how}"
    return Settlement(i, kind, detail, "delisting", value + profit, (value + profit) * rate, profit * rate)
