"""What the market says at the close of one day: all that the ledger is told from outside."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import pandas as pd

from backtest.conditions import Conditions
from backtest.events import Event, EventKind
from risk import Panel
from risk.checks import BoolArray, FloatArray

__all__ = ["MarketDay", "market_day"]


@dataclass(frozen=True, eq=False)
class MarketDay:
    """One day of N assets and C currencies, known at its close.

    Attributes
    ----------
    t : int
    date : Timestamp
    returns : ndarray of shape (N,)
        Simple return in the asset's own currency since its last row; NaN where there is no row, and on the first one.
    close : ndarray of shape (N,)
        In the asset's own currency; NaN where not known.
    has_row : bool ndarray of shape (N,)
    gone : bool ndarray of shape (N,), optional
        Without a row for so long that the position is booked out today.
    delisting_return : ndarray of shape (N,), optional
        What the market file gives for an asset that leaves; NaN where it gives none.
    dollar_volume : ndarray of shape (N,), optional
        Value traded today, in base money; NaN where not known.
    fx : ndarray of shape (C,)
        Base units for one unit of the currency; the first is the base currency's, 1.
    rates : ndarray of shape (C,), optional
        Interest per year from this close to the next.
    borrow_fee, rebate : ndarray of shape (N,), optional
        Per year, from this close to the next; NaN where not known.
    available : ndarray of shape (N,), optional
        Shares that can be borrowed; NaN: not known, no limit.
    events : tuple of Event, optional
        Those of the day, in the order in which they take effect. None: the data set lists no events at all.
    """

    t: int
    date: pd.Timestamp
    returns: FloatArray
    close: FloatArray
    has_row: BoolArray
    gone: BoolArray | None = None
    delisting_return: FloatArray | None = None
    dollar_volume: FloatArray | None = None
    fx: FloatArray = field(default_factory=lambda: np.ones(1))
    rates: FloatArray | None = None
    borrow_fee: FloatArray | None = None
    rebate: FloatArray | None = None
    available: FloatArray | None = None
    events: tuple[Event, ...] | None = None

    @cached_property
    def priced(self) -> BoolArray:
        """Assets with a row and a close, shape (N,)."""
        return self.has_row & np.isfinite(self.close)

    @cached_property
    def tradable(self) -> BoolArray:
        """Assets in which an order can fill: priced, and no suspension today, shape (N,)."""
        suspended = [event.asset for event in self.events or () if event.kind is EventKind.SUSPENSION]
        tradable = self.priced.copy()
        tradable[suspended] = False
        return tradable


def market_day(panel: Panel, conditions: Conditions, t: int, *, gone: BoolArray, lists_events: bool) -> MarketDay:
    """Return day t of a panel under its conditions of trading.

    Parameters
    ----------
    panel : Panel
    conditions : Conditions
        Of the panel.
    t : int
    gone : bool ndarray of shape (N,)
    lists_events : bool
        Whether the data set has a file of events; if not, a share count follows from value and close.
    """

    def on(array: FloatArray | None) -> FloatArray | None:
        return None if array is None else array[t]

    return MarketDay(
        t=t,
        date=panel.dates[t],
        returns=panel.returns[t],
        close=panel.close[t],
        has_row=panel.has_row[t],
        gone=gone,
        delisting_return=panel.delisting_return,
        dollar_volume=panel.dollar_volume[t],
        fx=conditions.fx[t],
        rates=on(conditions.rates),
        borrow_fee=on(conditions.borrow_fee),
        rebate=on(conditions.rebate),
        available=on(conditions.available),
        events=conditions.events_on(t) if lists_events else None,
    )
