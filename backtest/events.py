"""What happens to a share: splits, dividends, mergers, spin-offs, delistings, suspensions, recalls; and the file of them.

An event belongs to its own date and no other. On that day it takes effect before the close, on what was held at the close
before it. `backtest.event_rules` judges events against the market and gives them to its days.
"""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from backtest.dated_rows import DatedRows, read_dated_rows
from backtest.market_rules import Finding
from backtest.tables import Kind, Table
from risk.checks import BoolArray

__all__ = ["Event", "EventKind", "EventRows", "find_value_errors", "read_events"]


class EventKind(StrEnum):
    """Kinds of events, in the order in which they take effect on one day."""

    SPLIT = "split"
    DIVIDEND = "dividend"
    SPIN_OFF = "spin_off"
    MERGER = "merger"
    DELISTING = "delisting"
    SUSPENSION = "suspension"
    RECALL = "recall"


# Which kinds must have a field, and which may.
NEEDS = {
    "ratio": {EventKind.SPLIT, EventKind.SPIN_OFF},
    "amount": {EventKind.DIVIDEND},
    "new_asset": {EventKind.SPIN_OFF},
}
TAKES = {
    "ratio": {EventKind.SPLIT, EventKind.SPIN_OFF, EventKind.MERGER, EventKind.RECALL},
    "amount": {EventKind.DIVIDEND, EventKind.MERGER, EventKind.DELISTING},
    "new_asset": {EventKind.SPIN_OFF, EventKind.MERGER},
}
MEANING = {
    "ratio": "the new shares for each one held (a recall's share of the short)",
    "amount": "the cash for each share held, in the asset's currency",
    "new_asset": "the asset whose shares are received",
}


@dataclass(frozen=True)
class Event:
    """One event on a day of a panel.

    Attributes
    ----------
    t : int
        Day of the panel.
    asset : int
        Asset of the panel.
    kind : EventKind
    ratio : float
        Split: new shares for each old one, > 0. Spin-off and merger: shares of `new_asset` for each share held after a
        split of the same day; a merger for cash alone has 0. Recall: share of the short that is called back, in (0, 1]; 1
        where the file has none. 0 for other kinds.
    amount : float
        Cash for each share in the asset's currency. Dividend: for each share held at the close before, so for each old one
        where a split falls on the same day. Merger: beside the new shares; 0 where there is none. Delisting: NaN where not
        known. 0 for other kinds.
    new_asset : int
        Asset of the panel; -1 where there is none.
    cause : str
        As the file has it; empty where it has none.
    """

    t: int
    asset: int
    kind: EventKind
    ratio: float
    amount: float
    new_asset: int
    cause: str


@dataclass(frozen=True, eq=False)
class EventRows:
    """R rows of an events file, in file order.

    Attributes
    ----------
    rows : DatedRows
        By asset, with the numbers ratio and amount.
    kind, new_asset, cause : object ndarray of str, shape (R,)
        Empty texts where there is none.
    """

    rows: DatedRows
    kind: npt.NDArray[np.object_]
    new_asset: npt.NDArray[np.object_]
    cause: npt.NDArray[np.object_]

    def is_kind(self, *kinds: EventKind) -> BoolArray:
        """Return which rows are of one of `kinds`, shape (R,)."""
        return np.isin(self.kind.astype(str), [kind.value for kind in kinds])

    def about(self, row: int) -> str:
        """Return kind, asset and day of a row, as messages name them."""
        return f"the {self.kind[row]} of {self.rows.about(row)}"


def read_events(table: Table) -> EventRows:
    """Return the rows of an events file; nothing is judged but the kind of each column.

    Raises
    ------
    DataError
        If the file is damaged, a column is missing or of another kind, or a date, an asset or a kind is empty.
    """
    rows = read_dated_rows(table, "asset", ("ratio", "amount"), optional=("ratio", "amount"))
    table.check_column("kind", Kind.TEXT)
    optional = [name for name in ("new_asset", "cause") if name in table.columns]
    for name in optional:
        table.check_column(name, Kind.OPTIONAL_TEXT)
    read = table.read(["kind", *optional])
    code, kinds = table.texts(read, "kind")
    empty = np.full(len(rows), "", dtype=object)
    texts = {name: table.optional_texts(read, name) for name in optional}
    return EventRows(rows, kinds[code], texts.get("new_asset", empty), texts.get("cause", empty))


def find_value_errors(events: EventRows, known: Set[str]) -> list[Finding]:
    """Return what is wrong with the rows as they stand, in file order of the first rule that is broken.

    Parameters
    ----------
    events : EventRows
    known : set of str
        Every asset of the data set.
    """
    rows = events.rows
    return [
        *rows.order_errors(),
        *_kinds(events),
        *_assets(events, known),
        *_repeats(events),
        *_fields(events),
        *_numbers(events),
        *_new_assets(events, known),
    ]


def _kinds(events: EventRows) -> list[Finding]:
    kinds = ", ".join(EventKind)
    return events.rows.errors(
        "unknown_kind",
        ~events.is_kind(*EventKind),
        lambda row: f"`kind` is {events.kind[row]!r} for {events.rows.about(row)}",
        f"Kinds are {kinds}.",
    )


def _assets(events: EventRows, known: Set[str]) -> list[Finding]:
    names = events.rows.names
    strange = np.array([name not in known for name in events.rows.keys], dtype=np.bool_)[events.rows.key]
    return events.rows.errors(
        "unknown_asset",
        strange,
        lambda row: f"`asset` {names[row]!r} of {events.about(row)} is in neither the market nor the assets file",
        "Correct the name, or remove the row.",
    )


def _repeats(events: EventRows) -> list[Finding]:
    """Return rows that stand twice; two companies may be spun off on one day."""
    partner = np.where(events.is_kind(EventKind.SPIN_OFF), events.new_asset, "")
    found = events.rows.repeat_errors(
        events.kind, partner, remedy="Keep one row of a kind; add up the amounts of dividends paid on one day."
    )
    ends = events.is_kind(EventKind.MERGER, EventKind.DELISTING)
    place = np.flatnonzero(ends)
    both = np.zeros(len(ends), dtype=np.bool_)
    keys = np.stack([events.rows.day.astype(np.int64), events.rows.key.astype(np.int64)], axis=1)[place]
    _, first, inverse = np.unique(keys, axis=0, return_index=True, return_inverse=True)
    earlier = place[first[inverse]]
    both[place] = events.kind[place] != events.kind[earlier]
    return found + events.rows.errors(
        "two_ends",
        both,
        lambda row: f"{events.rows.about(row)} has both a merger and a delisting",
        "Keep the one that says what a holder received.",
    )


def _fields(events: EventRows) -> list[Finding]:
    """Return fields that a kind needs and lacks, and those that it has and cannot use."""
    found: list[Finding] = []
    for field, meaning in MEANING.items():
        given = events.new_asset != "" if field == "new_asset" else ~np.isnan(events.rows.numbers[field])
        found += events.rows.errors(
            f"no_{field}",
            events.is_kind(*NEEDS[field]) & ~given,
            lambda row, field=field: f"`{field}` is empty for {events.about(row)}",  # type: ignore[misc]
            f"Give {meaning}.",
        )
        found += events.rows.errors(
            f"useless_{field}",
            events.is_kind(*(set(EventKind) - TAKES[field])) & given,
            lambda row, field=field: f"`{field}` means nothing for {events.about(row)}",  # type: ignore[misc]
            f"Leave it empty: it is {meaning}.",
        )
    return found


def _numbers(events: EventRows) -> list[Finding]:
    ratio, amount = events.rows.numbers["ratio"], events.rows.numbers["amount"]
    swap = events.is_kind(EventKind.SPLIT, EventKind.SPIN_OFF)
    recall, merger = events.is_kind(EventKind.RECALL), events.is_kind(EventKind.MERGER)
    dividend, delisting = events.is_kind(EventKind.DIVIDEND), events.is_kind(EventKind.DELISTING)
    errors = events.rows.number_errors
    nothing = ~(np.nan_to_num(ratio) != 0) & ~(np.nan_to_num(amount) != 0)
    return [
        *errors("ratio", np.isinf(ratio), "finite", "Correct it."),
        *errors(
            "ratio",
            swap & (ratio <= 0),
            "positive in a split or spin-off",
            "Give the new shares for each old one: 2 for 2:1, 0.02 for a reverse split of 1:50.",
        ),
        *errors("ratio", merger & (ratio < 0), "not negative in a merger", "Leave it empty where only cash is paid."),
        *errors(
            "ratio",
            recall & ((ratio <= 0) | (ratio > 1)) & ~np.isinf(ratio),
            "above 0 and at most 1 in a recall",
            "Give the share of the short that is called back; empty is all of it.",
        ),
        *errors("amount", np.isinf(amount), "finite", "Correct it."),
        *errors(
            "amount",
            dividend & (amount <= 0),
            "positive in a dividend",
            "Give the cash for each share, or remove the row.",
        ),
        *errors(
            "amount",
            (merger | delisting) & (amount < 0),
            "not negative",
            "Give the cash for each share; leave it empty where there is none, or where it is not known.",
        ),
        *events.rows.errors(
            "empty_merger",
            merger & nothing,
            lambda row: f"`ratio` and `amount` are both empty or 0 for {events.about(row)}",
            "Give the new shares or the cash for each share; where a holder received nothing, make it a delisting.",
        ),
    ]


def _new_assets(events: EventRows, known: Set[str]) -> list[Finding]:
    given = events.new_asset != ""
    swap = events.is_kind(EventKind.MERGER, EventKind.SPIN_OFF)
    merger = events.is_kind(EventKind.MERGER)
    in_shares = np.nan_to_num(events.rows.numbers["ratio"]) != 0
    strange = np.array([name not in known for name in events.new_asset], dtype=np.bool_)

    def of(row: int) -> str:
        return f"`new_asset` {events.new_asset[row]!r} of {events.about(row)}"

    errors = events.rows.errors
    return [
        *errors(
            "no_new_asset",
            merger & in_shares & ~given,
            lambda row: f"`new_asset` is empty for {events.about(row)}, which pays in shares",
            "Name the asset whose shares are received, or leave `ratio` empty.",
        ),
        *errors(
            "useless_new_asset",
            merger & ~in_shares & given,
            lambda row: f"{of(row)} has no `ratio`",
            "Give the new shares for each one held, or leave `new_asset` empty where only cash is paid.",
        ),
        *errors(
            "unknown_new_asset",
            swap & given & strange,
            lambda row: f"{of(row)} is in neither the market nor the assets file",
            "Correct the name or add the asset; where it is not in the data, give its value at that close as cash in `amount`.",
        ),
        *errors(
            "same_new_asset",
            swap & given & (events.new_asset == events.rows.names),
            lambda row: f"{of(row)} is the asset itself",
            "Name the other company; for new shares of the same one write a split.",
        ),
    ]
