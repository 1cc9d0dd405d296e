"""The files of trading conditions: events, rates, fx and borrow; what each may not hold, and what the market asks of them."""

from __future__ import annotations

from collections.abc import Callable, Set
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import pandas as pd

from backtest.dataset_settings import DatasetSettings
from backtest.dated_rows import DatedRows, read_dated_rows
from backtest.event_rules import PlacedEvents, find_placing_errors
from backtest.events import EventRows, find_value_errors, read_events
from backtest.labels import LabelTable
from backtest.market_rules import Finding, Severity
from backtest.tables import Table, find_table
from risk import DataError, Panel

__all__ = ["ConditionFiles", "MarketScope", "find_condition_errors", "read_condition_files"]

# Interest per year, as a decimal: what lies outside was written in percent, or is wrong.
LOWEST_RATE, HIGHEST_RATE = -0.2, 2.0
# 1,000 % a year: no broker asks for more, and a fee above was written in percent.
HIGHEST_FEE = 10.0

Rows = TypeVar("Rows", EventRows, DatedRows)


@dataclass(frozen=True, eq=False)
class ConditionFiles:
    """The four files as they stand, not judged; None where there is no such file."""

    events: EventRows | None
    rates: DatedRows | None
    fx: DatedRows | None
    borrow: DatedRows | None


@dataclass(frozen=True, eq=False)
class MarketScope:
    """What the files are judged against.

    Attributes
    ----------
    panel : Panel
    dates : DatetimeIndex
        All trading days of the data set.
    assets : set of str
        All assets of the data set's market file; those of its assets file are known too.
    labels : LabelTable
    settings : DatasetSettings
    priced : bool
        Whether the market has closes.
    """

    panel: Panel
    dates: pd.DatetimeIndex
    assets: Set[str]
    labels: LabelTable
    settings: DatasetSettings
    priced: bool

    @cached_property
    def known(self) -> Set[str]:
        """Every asset of the data set."""
        return self.assets | self.labels.assets

    @cached_property
    def currencies(self) -> npt.NDArray[np.object_]:
        """Each asset's currency on its first row of the panel, shape (N,); the base where it has no label then."""
        codes, names = self._codes
        first = self.panel.has_row.argmax(axis=0)
        labels = np.array([*names, self.settings.currency], dtype=object)
        return np.asarray(labels[codes[first, np.arange(codes.shape[1])]])

    @cached_property
    def foreign(self) -> tuple[str, ...]:
        """Currencies of the panel's assets other than the base, sorted."""
        return tuple(sorted({str(name) for name in self.currencies} - {self.settings.currency}))

    def relabelled(self) -> list[str]:
        """Return the assets that have another currency on a later row than on their first."""
        codes, _ = self._codes
        first = self.panel.has_row.argmax(axis=0)
        other = self.panel.has_row & (codes != codes[first, np.arange(codes.shape[1])])
        return [self.panel.assets[i] for i in np.flatnonzero(other.any(axis=0))]

    @cached_property
    def _codes(self) -> tuple[npt.NDArray[np.int16], tuple[str, ...]]:
        codes, names = self.labels.optional_codes("currency", self.panel.dates, self.panel.assets)
        return (np.full(self.panel.returns.shape, -1, dtype=np.int16), ()) if codes is None else (codes, names)

    def place(self, events: EventRows) -> PlacedEvents:
        """Return the events with their places in the panel."""
        return PlacedEvents(events, self.panel, self.settings.stale_days)


def read_condition_files(folder: Path) -> tuple[ConditionFiles, list[Finding]]:
    """Return the rows of the four files, not judged, and an error for each that cannot be read, which is None then.

    A file is refused if it is damaged, a column is missing or of another kind, or a date or name is empty.
    """
    findings: list[Finding] = []

    def rows_of(name: str, read: Callable[[Table], Rows]) -> Rows | None:
        try:
            table = find_table(folder, name)
            return None if table is None else read(table)
        except DataError as error:
            findings.append(Finding(Severity.ERROR, "refused", name, 1, str(error)))
            return None

    files = ConditionFiles(
        events=rows_of("events", read_events),
        rates=rows_of("rates", lambda table: read_dated_rows(table, "currency", ("annual_rate",))),
        fx=rows_of("fx", lambda table: read_dated_rows(table, "currency", ("rate",))),
        borrow=rows_of("borrow", _read_borrow),
    )
    return files, findings


def _read_borrow(table: Table) -> DatedRows:
    names = ("fee_annual", "rebate_annual", "available")
    return read_dated_rows(table, "asset", names, flags=names[2:], optional=names[1:])


def find_condition_errors(files: ConditionFiles, scope: MarketScope) -> list[Finding]:
    """Return every rule that the files break, in the order in which a backtest would refuse them."""
    return [
        *([] if files.events is None else _event_errors(files.events, scope)),
        *([] if files.rates is None else _rate_errors(files.rates, scope, converted=files.fx is not None)),
        *([] if files.fx is None else _fx_errors(files.fx, scope)),
        *([] if files.borrow is None else _borrow_errors(files.borrow, scope)),
    ]


def _event_errors(events: EventRows, scope: MarketScope) -> list[Finding]:
    found = find_value_errors(events, scope.known)
    # Where an event stands in the market means nothing before it is one.
    return found or find_placing_errors(scope.place(events), scope.dates, priced=scope.priced)


def _rate_errors(rows: DatedRows, scope: MarketScope, *, converted: bool) -> list[Finding]:
    rate = rows.numbers["annual_rate"]
    needed = (scope.settings.currency, *(scope.foreign if converted else ()))
    return [
        *_row_errors(rows),
        *rows.number_errors(
            "annual_rate",
            ~((rate > LOWEST_RATE) & (rate < HIGHEST_RATE)),
            f"finite and between {LOWEST_RATE:g} and {HIGHEST_RATE:g}",
            "Rates are decimals per year: 5 % is 0.05.",
        ),
        *_absent_currencies(rows, needed, "the interest of cash and of shorts' proceeds in it is not known"),
    ]


def _fx_errors(rows: DatedRows, scope: MarketScope) -> list[Finding]:
    rate, settings, base = rows.numbers["rate"], scope.settings, scope.settings.currency
    found = [
        *_row_errors(rows),
        *rows.number_errors(
            "rate",
            ~(np.isfinite(rate) & (rate > 0)),
            "positive and finite",
            f"It is the price of one unit of the currency in {base}; leave out days on which it is not known.",
        ),
        *rows.number_errors(
            "rate",
            (rows.names == base) & np.isfinite(rate) & (rate != 1),
            f"1 for {base}, in which the data set is kept",
            "Remove these rows, or quote every currency in it.",
        ),
        *_absent_currencies(rows, scope.foreign, "positions in it cannot be converted"),
    ]
    moved = scope.relabelled()
    if moved:
        text = (
            f"`{scope.labels.file}`: `currency` of {moved[0]!r} changes while it has rows ({len(moved)} such assets), and "
            f"`{rows.file}` converts a position from one currency alone. Give the line in the new currency a name of its own."
        )
        found.append(Finding(Severity.ERROR, "changing_currency", scope.labels.file, len(moved), text))
    if scope.foreign and not settings.local:
        text = (
            f"`dataset.toml`: `return_kind` is {settings.return_kind!r}, returns in {base}, while `{rows.file}` converts "
            f"positions in {', '.join(scope.foreign)} by itself: the currency would count twice. Give returns in each asset's "
            "own currency and set `return_kind` to 'local' (or 'local_price', without dividends), or remove the file."
        )
        found.append(Finding(Severity.ERROR, "converted_twice", "dataset.toml", len(scope.foreign), text))
    return found


def _borrow_errors(rows: DatedRows, scope: MarketScope) -> list[Finding]:
    fee, rebate, available = (rows.numbers[name] for name in ("fee_annual", "rebate_annual", "available"))
    strange = np.array([name not in scope.known for name in rows.keys], dtype=np.bool_)[rows.key]
    return [
        *_row_errors(rows),
        *rows.errors(
            "unknown_asset",
            strange,
            lambda row: f"`asset` of {rows.about(row)} is in neither the market nor the assets file",
            "Correct the name, or remove its rows.",
        ),
        *rows.number_errors(
            "fee_annual",
            ~((fee >= 0) & (fee <= HIGHEST_FEE)),
            f"from 0 to {HIGHEST_FEE:g}",
            "Fees are decimals per year: 0.5 % is 0.005; repeat the one in force where only another column changes.",
        ),
        *rows.number_errors(
            "rebate_annual",
            ~((rebate >= -HIGHEST_FEE) & (rebate <= HIGHEST_RATE)) & ~np.isnan(rebate),
            f"from {-HIGHEST_FEE:g} to {HIGHEST_RATE:g}, or empty",
            "Rebates are decimals per year: 4 % is 0.04; empty is the rate of the currency.",
        ),
        *rows.number_errors(
            "available",
            ((available < 0) | np.isinf(available)),
            "not negative and finite, or empty",
            "Give the shares that can be borrowed, 0 where there is no locate, empty where there is no limit.",
        ),
    ]


def _row_errors(rows: DatedRows) -> list[Finding]:
    found = [*rows.order_errors(), *rows.repeat_errors()]
    if not len(rows):
        text = f"`{rows.file}` has no rows. Add them, or remove the file."
        found.append(Finding(Severity.ERROR, "no_rows", rows.file, 0, text))
    return found


def _absent_currencies(rows: DatedRows, needed: tuple[str, ...], why: str) -> list[Finding]:
    absent = [name for name in needed if name not in rows.keys]
    if not absent:
        return []
    text = (
        f"`{rows.file}`: `currency` has no row of {', '.join(map(repr, absent))}: {why}. It has "
        f"{', '.join(rows.keys)}. Add its rows."
    )
    return [Finding(Severity.ERROR, "no_currency", rows.file, len(absent), text)]
