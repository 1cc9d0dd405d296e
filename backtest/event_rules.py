"""Events against the market: what may not stand beside its rows, and what falls on which day of a panel."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pandas as pd

from backtest.events import Event, EventKind, EventRows
from backtest.market_rules import Finding
from backtest.universe import find_presence
from risk import Panel
from risk.checks import BoolArray

__all__ = ["PlacedEvents", "find_placing_errors"]

# An ex-date is a day on which the share trades without the right: there is a row.
EX_DATES = (EventKind.SPLIT, EventKind.DIVIDEND, EventKind.SPIN_OFF)
ENDS = (EventKind.MERGER, EventKind.DELISTING)
ORDER = {kind: place for place, kind in enumerate(EventKind)}


@dataclass(frozen=True, eq=False)
class PlacedEvents:
    """Event rows with their places in a panel.

    Attributes
    ----------
    events : EventRows
    panel : Panel
    stale_days : int
        Sessions of its country without a row after which an asset is gone.
    """

    events: EventRows
    panel: Panel
    stale_days: int

    @cached_property
    def t(self) -> npt.NDArray[np.intp]:
        """Day of each row, -1 where it is none of the panel's, shape (R,)."""
        return self.panel.dates.get_indexer(pd.DatetimeIndex(self.events.rows.day))

    @cached_property
    def asset(self) -> npt.NDArray[np.intp]:
        """Asset of each row, -1 where it has no row in the panel's days, shape (R,)."""
        return self._assets.get_indexer(pd.Index(self.events.rows.names))

    @cached_property
    def new_asset(self) -> npt.NDArray[np.intp]:
        """New asset of each row, -1 where there is none or it has no row in the panel's days, shape (R,)."""
        return self._assets.get_indexer(pd.Index(self.events.new_asset))

    @cached_property
    def inside(self) -> BoolArray:
        """Which rows can concern a book: on a day of the panel, of an asset that has had a row by then, shape (R,)."""
        known = (self.t >= 0) & (self.asset >= 0)
        inside: BoolArray = known & (self._first[self.asset] <= self.t)
        return inside

    @cached_property
    def has_row(self) -> BoolArray:
        """Whether the asset has a row that day, shape (R,); False for rows that are not inside."""
        result: BoolArray = self.inside & self.panel.has_row[self.t, self.asset]
        return result

    @cached_property
    def gone(self) -> BoolArray:
        """Where assets are gone, shape (T, N)."""
        return find_presence(self.panel, self.stale_days).gone

    def left_out(self) -> dict[str, int]:
        """Return how many rows are not inside, by reason."""
        outside = self.t < 0
        absent = ~outside & (self.asset < 0)
        return {
            "on other days": int(outside.sum()),
            "of assets without a row in these days": int(absent.sum()),
            "before the asset's first row": int((~outside & ~absent & ~self.inside).sum()),
        }

    def by_day(self) -> Mapping[int, tuple[Event, ...]]:
        """Return the events of each day that has any, in the order of their kinds, and within a kind of the file."""
        ratio, amount = (self.events.rows.numbers[name] for name in ("ratio", "amount"))
        listed: dict[int, list[Event]] = {}
        for row in np.flatnonzero(self.inside):
            kind = EventKind(self.events.kind[row])
            missing = {EventKind.RECALL: 1.0}.get(kind, 0.0), {EventKind.DELISTING: np.nan}.get(kind, 0.0)
            event = Event(
                t=int(self.t[row]),
                asset=int(self.asset[row]),
                kind=kind,
                ratio=float(missing[0] if np.isnan(ratio[row]) else ratio[row]),
                amount=float(missing[1] if np.isnan(amount[row]) else amount[row]),
                new_asset=int(self.new_asset[row]),
                cause=str(self.events.cause[row]),
            )
            listed.setdefault(event.t, []).append(event)
        return {t: tuple(sorted(listed[t], key=lambda event: ORDER[event.kind])) for t in sorted(listed)}

    def ended(self, row: int) -> str:
        """Return why nobody can receive shares of a row's new asset that day; empty where one can."""
        t, j, assets = int(self.t[row]), int(self.new_asset[row]), self.panel.assets
        if self.panel.has_row[t, j] and (t, j) not in self._ends:
            return ""
        last = max((day for day, asset in self._ends if asset == j and day <= t), default=-1)
        if last == t or (last >= 0 and not self.panel.has_row[last : t + 1, j].any()):
            return f"{assets[j]!r} has its own merger or delisting on {self.panel.dates[last].date()}"
        return f"{assets[j]!r} is gone by then" if self.gone[t, j] else ""

    @cached_property
    def _assets(self) -> pd.Index:
        return pd.Index(self.panel.assets)

    @cached_property
    def _first(self) -> npt.NDArray[np.intp]:
        return np.asarray(self.panel.has_row.argmax(axis=0))

    @cached_property
    def _ends(self) -> set[tuple[int, int]]:
        rows = np.flatnonzero(self.inside & self.events.is_kind(*ENDS))
        return {(int(self.t[row]), int(self.asset[row])) for row in rows}


def find_placing_errors(placed: PlacedEvents, dates: pd.DatetimeIndex, *, priced: bool) -> list[Finding]:
    """Return what is wrong with events beside the market's rows, in the order in which a backtest would refuse it.

    Parameters
    ----------
    placed : PlacedEvents
        Of rows without an error in their values.
    dates : DatetimeIndex
        All trading days of the data set.
    priced : bool
        Whether the market has closes.
    """
    return [
        *_sessions(placed.events, dates),
        *_prices(placed, priced),
        *_ex_dates(placed),
        *_recalls_and_ends(placed),
        *_receivers(placed),
    ]


def _sessions(events: EventRows, dates: pd.DatetimeIndex) -> list[Finding]:
    """Return events between sessions; those before the first or after the last day of the data are none of its days."""
    rows = events.rows
    days = dates.to_numpy(dtype="datetime64[us]")
    wrong = (rows.day > days[0]) & (rows.day < days[-1]) & ~np.isin(rows.day, days)
    after = days[np.minimum(np.searchsorted(days, rows.day), len(days) - 1)]
    remedy = f"Date it on the next session, {pd.Timestamp(after[int(wrong.argmax())]).date()}." if wrong.any() else ""
    return rows.errors(
        "no_session",
        wrong,
        lambda row: f"`date` {rows.date(row).date()} of {events.about(row)} is no session of the market",
        remedy,
    )


def _prices(placed: PlacedEvents, priced: bool) -> list[Finding]:
    rows = placed.events.rows
    counts = ~np.isnan(rows.numbers["ratio"]) | ~np.isnan(rows.numbers["amount"])
    per_share = counts & ~placed.events.is_kind(EventKind.RECALL)
    return rows.errors(
        "no_close",
        per_share & (not priced),
        lambda row: f"{placed.events.about(row)} counts per share, and the market has no column `close`",
        "Add closes to the market file, or remove these rows.",
    )


def _ex_dates(placed: PlacedEvents) -> list[Finding]:
    events, panel = placed.events, placed.panel
    wrong = placed.inside & ~placed.has_row & events.is_kind(*EX_DATES)

    def what(row: int) -> str:
        return f"{events.about(row)} falls on a day on which the asset has no row"

    if not wrong.any():
        return []
    row = int(wrong.argmax())
    later = np.flatnonzero(panel.has_row[placed.t[row] :, placed.asset[row]])
    remedy = (
        f"Date it on the asset's next row, {panel.dates[placed.t[row] + later[0]].date()}."
        if len(later)
        else "It comes after the asset's last row: remove it."
    )
    return events.rows.errors("no_row", wrong, what, remedy)


def _recalls_and_ends(placed: PlacedEvents) -> list[Finding]:
    """Return mergers, delistings and recalls of assets that were gone the day before.

    A suspension of one that is gone is true and changes nothing.
    """
    events = placed.events
    late = placed.inside & ~placed.has_row & events.is_kind(*ENDS, EventKind.RECALL)
    if late.any():
        before = np.maximum(placed.t - 1, 0)
        late &= placed.gone[before, placed.asset]

    def what(row: int) -> str:
        seen = np.flatnonzero(placed.panel.has_row[: placed.t[row], placed.asset[row]])
        last = placed.panel.dates[seen[-1]].date()
        return f"{events.about(row)} comes after the asset was gone: its last row is on {last}"

    return events.rows.errors(
        "late_event",
        late,
        what,
        f"Date it within `stale_days` ({placed.stale_days}) sessions of that row, raise `stale_days` in dataset.toml, or "
        "remove it.",
    )


def _receivers(placed: PlacedEvents) -> list[Finding]:
    events = placed.events
    swaps = placed.inside & (events.new_asset != "")
    absent = swaps & (placed.new_asset < 0)
    why = {int(row): placed.ended(int(row)) for row in np.flatnonzero(swaps & ~absent)}
    ended = np.zeros(len(swaps), dtype=np.bool_)
    ended[[row for row, reason in why.items() if reason]] = True
    last = placed.panel.dates[-1].date()
    return [
        *events.rows.errors(
            "absent_new_asset",
            absent,
            lambda row: f"`new_asset` {events.new_asset[row]!r} of {events.about(row)} has no row up to {last}",
            "Give it market rows from the day on which it trades, end later, or give its value as cash in `amount`.",
        ),
        *events.rows.errors(
            "ended_new_asset",
            ended,
            lambda row: f"shares received in {events.about(row)} cannot be held: {why[row]}",
            "Name the asset that a holder has in the end, or give its value as cash in `amount`.",
        ),
    ]
