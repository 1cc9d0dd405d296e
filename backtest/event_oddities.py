"""Events that no rule refuses and that closes, returns or later rows speak against.

On an ex-date prices obey, for one old share, with `ratio` 1 where nothing is split and `amount` 0 where nothing is paid,

    close(t) ratio + amount = close(t-1) (1 + r)      r holds dividends
    close(t) ratio          = close(t-1) (1 + r)      r does not
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from backtest.condition_files import MarketScope
from backtest.event_rules import PlacedEvents
from backtest.events import EventKind
from backtest.market_rules import Finding, Severity
from risk.checks import BoolArray, FloatArray

__all__ = ["find_event_oddities"]

# A split ratio that is wrong by less is rounding, or a dividend of the same day.
FIT = 0.02
# Of the price: a smaller dividend is lost in the rounding of closes and returns.
SMALL_DIVIDEND = 5e-4
MERGER_FIT = 0.3
SPLIT = 0.2  # no ordinary dividend moves a price by as much


@dataclass(frozen=True, eq=False)
class _ExDates:
    """Rows of events on ex-dates with prices of that day and the row before, each array of shape (R,), NaN elsewhere."""

    before: FloatArray
    close: FloatArray
    returns: FloatArray
    ratio: FloatArray
    amount: FloatArray
    plain: BoolArray
    """No spin-off falls on the day and both closes and the return are known."""

    def gap(self, amount: FloatArray | float) -> FloatArray:
        """Return by how much an old share's value that day differs from what the return says, as a share of it."""
        expected = self.before * (1.0 + self.returns)
        result: FloatArray = np.abs(self.close * self.ratio + amount - expected) / expected
        return result


def find_event_oddities(placed: PlacedEvents, scope: MarketScope) -> list[Finding]:
    """Return what is odd in events that passed every rule.

    Parameters
    ----------
    placed : PlacedEvents
        In the panel of the whole market.
    scope : MarketScope
        Of the same panel.
    """
    found = [*_left_out(placed), *_rows_after_end(placed), *_unpaid(placed)]
    if not scope.priced:
        return found
    before = pd.DataFrame(placed.panel.close).ffill().shift().to_numpy()
    found += _mergers(placed, scope, before)
    if scope.settings.close_kind == "adjusted":
        return [*found, *_adjusted(placed)]
    days = _ex_dates(placed, before)
    return [
        *found,
        *_splits(placed, days, dividends_inside=scope.settings.dividends_inside),
        *_dividends(placed, days, dividends_inside=scope.settings.dividends_inside),
        *_unlisted_splits(placed, before),
    ]


def _odd(
    placed: PlacedEvents,
    rule: str,
    wrong: BoolArray,
    what: str,
    remedy: str,
    detail: Callable[[int], str] | None = None,
    severity: Severity = Severity.WARNING,
) -> list[Finding]:
    """Return one finding for all rows that are `wrong`, with the first of them; empty where none is."""
    count = int(wrong.sum())
    if not count:
        return []
    row, file = int(wrong.argmax()), placed.events.rows.file
    seen = f" ({detail(row)})" if detail else ""
    text = f"`{file}`: {count} {what}, first {placed.events.about(row)}{seen}. {remedy}"
    return [Finding(severity, rule, file, count, text)]


def _ex_dates(placed: PlacedEvents, before: FloatArray) -> _ExDates:
    events, panel = placed.events, placed.panel
    cell = placed.t * len(panel.assets) + placed.asset
    split, dividend = events.is_kind(EventKind.SPLIT), events.is_kind(EventKind.DIVIDEND)
    ratio, amount = events.rows.numbers["ratio"], events.rows.numbers["amount"]
    ratio_of = pd.Series(ratio[split & placed.inside], index=cell[split & placed.inside])
    amount_of = pd.Series(amount[dividend & placed.inside], index=cell[dividend & placed.inside])
    spun = np.isin(cell, cell[events.is_kind(EventKind.SPIN_OFF)])
    at = (placed.t, placed.asset)
    old, close, returns = (
        np.where(placed.has_row, array[at], np.nan) for array in (before, panel.close, panel.returns)
    )
    return _ExDates(
        before=old,
        close=close,
        returns=returns,
        ratio=np.asarray(ratio_of.reindex(cell).fillna(1.0), dtype=np.float64),
        amount=np.asarray(amount_of.reindex(cell).fillna(0.0), dtype=np.float64),
        plain=placed.has_row & ~spun & np.isfinite(old) & np.isfinite(close) & np.isfinite(returns) & (returns > -1),
    )


def _splits(placed: PlacedEvents, days: _ExDates, *, dividends_inside: bool) -> list[Finding]:
    with np.errstate(invalid="ignore", divide="ignore"):
        gap = days.gap(days.amount if dividends_inside else 0.0)
        wrong = placed.events.is_kind(EventKind.SPLIT) & days.plain & (gap > FIT)
    return _odd(
        placed,
        "odd_split",
        wrong,
        "splits do not fit the closes",
        "Correct ratio or date; where closes are adjusted already, set close_kind in dataset.toml and leave splits out. "
        "Rule: shares change by the ratio, and value follows the return.",
        lambda row: (
            f"ratio {days.ratio[row]:.6g}, close {days.before[row]:.6g} to {days.close[row]:.6g} with a return of "
            f"{days.returns[row]:.4f}, which is a ratio of {days.before[row] * (1 + days.returns[row]) / days.close[row]:.4g}"
        ),
    )


def _dividends(placed: PlacedEvents, days: _ExDates, *, dividends_inside: bool) -> list[Finding]:
    dividend = placed.events.is_kind(EventKind.DIVIDEND) & days.plain
    with np.errstate(invalid="ignore", divide="ignore"):
        seen = dividend & (days.amount > SMALL_DIVIDEND * days.before)
        inside = days.gap(days.amount) < days.gap(0.0)
        large = dividend & (days.amount >= days.before)
    wrong = seen & (inside != dividends_inside)
    kind = "are not in the returns" if dividends_inside else "are in the returns already and would be paid twice"
    remedy = "'price' (or 'local_price')" if dividends_inside else "'total' (or 'local')"

    def detail(row: int) -> str:
        return (
            f"amount {days.amount[row]:.6g}, close {days.before[row]:.6g} to {days.close[row]:.6g} with a return of "
            f"{days.returns[row]:.4f}"
        )

    return [
        *_odd(
            placed,
            "odd_dividend",
            wrong,
            f"of {int(seen.sum())} dividends {kind}, by closes and returns",
            f"Check their dates and amounts; if it is most of them, `return_kind` in dataset.toml is {remedy}.",
            detail,
        ),
        *_odd(
            placed,
            "large_dividend",
            large,
            "dividends are as large as the price",
            "Check the amount's unit: it is cash for one share in the asset's currency.",
            detail,
        ),
    ]


def _unlisted_splits(placed: PlacedEvents, before: FloatArray) -> list[Finding]:
    """Return closes that change by a ratio which no event explains, in a file that lists splits."""
    events, panel = placed.events, placed.panel
    if not events.is_kind(EventKind.SPLIT).any():
        return []
    with np.errstate(invalid="ignore", divide="ignore"):
        implied = np.abs((1.0 + panel.returns) * before / panel.close - 1.0) > SPLIT
    rows = placed.has_row & events.is_kind(EventKind.SPLIT, EventKind.DIVIDEND, EventKind.SPIN_OFF)
    implied[placed.t[rows], placed.asset[rows]] = False
    count = int(implied.sum())
    if not count:
        return []
    t, i = (int(at[0]) for at in np.nonzero(implied))
    text = (
        f"`{events.rows.file}` has no event for {count} closes that differ from their return by more than {SPLIT:.0%}, first "
        f"{panel.assets[i]!r} on {panel.dates[t].date()} (close {before[t, i]:.6g} to {panel.close[t, i]:.6g}, return "
        f"{panel.returns[t, i]:.4f}). Add the splits. Rule: value follows the return, and shares are restated."
    )
    return [Finding(Severity.WARNING, "unlisted_split", events.rows.file, count, text)]


def _adjusted(placed: PlacedEvents) -> list[Finding]:
    per_share = placed.inside & placed.events.is_kind(EventKind.SPLIT, EventKind.DIVIDEND)
    return _odd(
        placed,
        "adjusted_closes",
        per_share,
        "splits and dividends stand beside closes that are said to be adjusted",
        "Ratios and amounts are per share as it traded: give raw closes, or leave these rows out.",
    )


def _mergers(placed: PlacedEvents, scope: MarketScope, before: FloatArray) -> list[Finding]:
    """Return mergers that pay far more or less than the last close; across currencies there is nothing to compare."""
    events = placed.events
    merger = placed.inside & events.is_kind(EventKind.MERGER)
    ratio, amount = (np.nan_to_num(events.rows.numbers[name]) for name in ("ratio", "amount"))
    inward = placed.new_asset >= 0
    merger &= ~inward | (scope.currencies[placed.new_asset] == scope.currencies[placed.asset])
    # An asset without a close before the day is priced by the day's own.
    received = before[placed.t, placed.new_asset]
    received = np.where(np.isnan(received), placed.panel.close[placed.t, placed.new_asset], received)
    paid = amount + np.where(ratio > 0, ratio * received, 0.0)
    last = before[placed.t, placed.asset]
    with np.errstate(invalid="ignore", divide="ignore"):
        wrong = merger & (np.abs(paid / last - 1.0) > MERGER_FIT)
    return _odd(
        placed,
        "odd_merger",
        wrong,
        f"mergers pay more than {MERGER_FIT:.0%} above or below the last close",
        "Check ratio and amount: they are what one share held receives.",
        lambda row: f"{paid[row]:.6g} for a share that closed at {last[row]:.6g}",
    )


def _rows_after_end(placed: PlacedEvents) -> list[Finding]:
    events, panel = placed.events, placed.panel
    ends = placed.inside & events.is_kind(EventKind.MERGER, EventKind.DELISTING)
    last = len(panel.dates) - 1 - panel.has_row[::-1].argmax(axis=0)
    wrong: npt.NDArray[np.bool_] = ends & (last[placed.asset] > placed.t)
    return _odd(
        placed,
        "rows_after_end",
        wrong,
        "mergers and delistings have market rows after them",
        "Rule: the position is closed on the event's day, and later rows are those of a new listing. Give that its own name, or "
        "correct the date.",
    )


def _unpaid(placed: PlacedEvents) -> list[Finding]:
    events = placed.events
    unknown = placed.inside & events.is_kind(EventKind.DELISTING) & np.isnan(events.rows.numbers["amount"])
    unknown &= np.isnan(placed.panel.delisting_return[placed.asset])
    causes = pd.Series(events.cause[unknown]).replace("", "no cause given").value_counts().sort_index()
    named = ", ".join(f"{cause}: {count}" for cause, count in causes.items())
    return _odd(
        placed,
        "unpaid_delisting",
        unknown,
        f"delistings have neither an `amount` nor a `delisting_return` in the market file ({named})",
        "Rule: the product's assumption for the cause.",
        severity=Severity.INFO,
    )


def _left_out(placed: PlacedEvents) -> list[Finding]:
    reasons = {reason: count for reason, count in placed.left_out().items() if count}
    if not reasons:
        return []
    file = placed.events.rows.file
    named = ", ".join(f"{count} {reason}" for reason, count in reasons.items())
    text = f"`{file}`: {sum(reasons.values())} rows concern no day of the market: {named}. Rule: left out."
    return [Finding(Severity.INFO, "unused_events", file, sum(reasons.values()), text)]
