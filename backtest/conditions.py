"""Conditions of trading on the days of a panel: events, currencies, interest, borrow fees and shares to borrow.

Each is a file of the data set that may be missing; then what it feeds is off. A number on day t is that of the latest row not
dated after t; an event belongs to its own day.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pandas as pd

from backtest.condition_files import ConditionFiles, MarketScope
from backtest.dated_rows import DatedRows
from backtest.events import Event, EventKind
from risk import DataError, Panel
from risk.checks import FloatArray, freeze

__all__ = ["Conditions", "build_conditions"]


@dataclass(frozen=True, eq=False)
class Conditions:
    """Conditions of T days by N assets in C currencies.

    Attributes
    ----------
    currencies : tuple of str, length C
        The base currency of the data set, then the others of the panel's assets, sorted. Without an fx file the base alone:
        nothing is converted.
    currency : int ndarray of shape (N,)
        Position of each asset's currency in `currencies`; the base's where it has no label.
    fx : ndarray of shape (T, C)
        Base units for one unit of the currency at the close of t; column 0 is 1. NaN before a currency's first row.
    converted : bool
        Whether there is an fx file.
    rates : ndarray of shape (T, C) or None
        Interest per year, as known at the close of t and in force until the close of t+1; NaN before a currency's first row.
        None: no file.
    borrow_fee : ndarray of shape (T, N) or None
        Fee per year on a short, as known at the close of t; NaN where the asset has no row yet. None: no file.
    rebate : ndarray of shape (T, N) or None
        Interest per year that a short's proceeds earn, before its fee; NaN where not given: the rate. None: none in the file.
    available : ndarray of shape (T, N) or None
        Shares that can be borrowed, in the shares of day t; NaN where not known: no limit; 0: no locate. None: none in
        the file.
    events : mapping of int to tuple of Event, or None
        By day of the panel. Within a day: splits, dividends, spin-offs, mergers, delistings, suspensions, recalls; of one
        kind in file order. None: no file.
    left_out : mapping of str to int
        Rows of the events file that are none of this panel's, by reason.
    dividends_inside : bool
        Whether the panel's returns hold dividends; else `events` pays them on top.
    """

    currencies: tuple[str, ...]
    currency: npt.NDArray[np.intp]
    fx: FloatArray
    converted: bool = False
    rates: FloatArray | None = None
    borrow_fee: FloatArray | None = None
    rebate: FloatArray | None = None
    available: FloatArray | None = None
    events: Mapping[int, tuple[Event, ...]] | None = None
    left_out: Mapping[str, int] = field(default_factory=dict)
    dividends_inside: bool = True

    def __post_init__(self) -> None:
        days, assets = len(self.fx), len(self.currency)
        shapes = {"fx": (days, len(self.currencies)), "rates": (days, len(self.currencies))}
        shapes |= dict.fromkeys(("borrow_fee", "rebate", "available"), (days, assets))
        for name, shape in shapes.items():
            array = getattr(self, name)
            if array is not None:
                if array.shape != shape:
                    raise DataError(f"`{name}` must have shape {shape}; got {array.shape}.")
                object.__setattr__(self, name, freeze(array))
        object.__setattr__(self, "currency", freeze(self.currency))

    @classmethod
    def off(cls, panel: Panel) -> Conditions:
        """Return the conditions of a data set without any of the files: one currency, no events."""
        days, assets = panel.returns.shape
        return cls((panel.base_currency,), np.zeros(assets, dtype=np.intp), np.ones((days, 1)))

    def events_on(self, t: int) -> tuple[Event, ...]:
        """Return the events of day t, in the order in which they take effect; none where there is no file."""
        return () if self.events is None else self.events.get(t, ())

    def check_from(self, panel: Panel, t: int) -> None:
        """Refuse a start on day t where a currency's exchange rate or interest is not known yet.

        The base currency is needed from day t on, another from then or the first row of its first asset.

        Raises
        ------
        DataError
        """
        first = panel.has_row.argmax(axis=0)
        for c, currency in enumerate(self.currencies):
            mine = first[self.currency == c]
            start = t if c == 0 or not len(mine) else max(t, int(mine.min()))
            for name, array in (("fx", self.fx), ("rates", self.rates)):
                if array is None or np.isfinite(array[start, c]):
                    continue
                known = np.flatnonzero(np.isfinite(array[:, c]))
                when = (
                    f"first known on {panel.dates[known[0]].date()}" if len(known) else "not known yet on the last day"
                )
                raise DataError(
                    f"`{name}`: {currency!r} is needed from {panel.dates[start].date()} on and is {when}. Start later, or "
                    "add the row that stood then."
                )


def build_conditions(files: ConditionFiles, scope: MarketScope) -> Conditions:
    """Return the conditions on the days of a panel from files that have passed every check."""
    panel, base = scope.panel, scope.settings.currency
    currencies = (base, *scope.foreign) if files.fx is not None else (base,)
    place = pd.Index(currencies).get_indexer(pd.Index(scope.currencies))
    fx = np.ones((len(panel.dates), len(currencies)))
    if files.fx is not None:
        fx[:, 1:] = files.fx.as_of("rate", panel.dates, currencies[1:])
    placed = None if files.events is None else scope.place(files.events)
    events = None if placed is None else placed.by_day()
    terms: dict[str, FloatArray | None] = dict.fromkeys(("fee_annual", "rebate_annual", "available"))
    if files.borrow is not None:
        source = files.borrow.sources(panel.dates, panel.assets)
        terms = {name: _given(files.borrow, name, source) for name in terms}
        if terms["available"] is not None:
            _restate(terms["available"], files.borrow, source, panel.dates, events or {})
    return Conditions(
        currencies=currencies,
        currency=np.where(place >= 0, place, 0) if files.fx is None else place,
        fx=fx,
        converted=files.fx is not None,
        rates=None if files.rates is None else files.rates.as_of("annual_rate", panel.dates, currencies),
        borrow_fee=terms["fee_annual"],
        rebate=terms["rebate_annual"],
        available=terms["available"],
        events=events,
        left_out={} if placed is None else placed.left_out(),
        dividends_inside=scope.settings.dividends_inside,
    )


def _given(rows: DatedRows, name: str, source: npt.NDArray[np.int32]) -> FloatArray | None:
    """Return a number by day and asset; None where no row of the file has one."""
    return None if np.isnan(rows.numbers[name]).all() else rows.at(name, source)


def _restate(
    available: FloatArray,
    rows: DatedRows,
    source: npt.NDArray[np.int32],
    dates: pd.DatetimeIndex,
    events: Mapping[int, tuple[Event, ...]],
) -> None:
    """Turn shares counted before a split into shares of the days after it."""
    for t, happened in events.items():
        for event in happened:
            if event.kind is EventKind.SPLIT:
                row = source[t:, event.asset]
                old = (row >= 0) & (rows.day[row] < dates[t].to_datetime64())
                available[t:, event.asset][old] *= event.ratio
