"""What a data set's events, rates, fx and borrow files hold, and what in them is odd though no rule refuses it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from backtest.condition_files import ConditionFiles, MarketScope, find_condition_errors
from backtest.dataset import Dataset
from backtest.dated_rows import DatedRows
from backtest.event_oddities import find_event_oddities
from backtest.events import EventKind
from backtest.market_rules import Finding, Severity
from risk import Panel
from risk.checks import BoolArray

__all__ = ["check_conditions", "describe_conditions", "ended_assets"]

# Days after which a row still in force is worth a word: exchange rates move daily, interest and fees seldom.
OLD = {"fx": 7, "rates": 100, "borrow": 100}
HIGH_RATE = 0.25
HIGH_FEE = 0.10
JUMP = 0.20
PLURAL = {"asset": "assets", "currency": "currencies"}


def check_conditions(data: Dataset, files: ConditionFiles, panel: Panel) -> list[Finding]:
    """Return the findings on the four files.

    Parameters
    ----------
    data : Dataset
    files : ConditionFiles
    panel : Panel
        Of the whole market.
    """
    priced = "close" in data.market_columns()
    scope = MarketScope(panel, panel.dates, frozenset(panel.assets), data.label_table, data.settings, priced)
    errors = find_condition_errors(files, scope)
    if errors:
        return errors
    findings: list[Finding] = []
    if files.events is not None:
        findings += find_event_oddities(scope.place(files.events), scope)
    findings += _currencies(files, scope)
    for name, rows in (("rates", files.rates), ("fx", files.fx), ("borrow", files.borrow)):
        if rows is not None:
            findings += _age(rows, panel, OLD[name])
    if files.rates is not None:
        findings += _high_rates(files.rates)
    if files.fx is not None:
        findings += _jumps(files.fx)
    if files.borrow is not None:
        findings += _high_fees(files.borrow)
    if files.borrow is not None and files.rates is not None:
        findings += _net_rebates(files.borrow, scope, files.rates)
    return findings


def ended_assets(files: ConditionFiles) -> frozenset[str]:
    """Return the assets that have a merger or a delisting."""
    if files.events is None:
        return frozenset()
    return frozenset(files.events.rows.names[files.events.is_kind(EventKind.MERGER, EventKind.DELISTING)])


def describe_conditions(files: ConditionFiles) -> dict[str, dict[str, Any]]:
    """Return of each file that is there its rows, first and last date, and how many assets, currencies and kinds it has."""
    facts: dict[str, dict[str, Any]] = {}
    given = {
        "events": None if files.events is None else files.events.rows,
        "rates": files.rates,
        "fx": files.fx,
        "borrow": files.borrow,
    }
    for name, rows in given.items():
        if rows is not None:
            span = [str(pd.Timestamp(day).date()) for day in (rows.day.min(), rows.day.max())] if len(rows) else None
            facts[name] = {"rows": len(rows), "span": span, PLURAL[rows.field]: len(rows.keys)}
    if files.events is not None:
        kinds = pd.Series(files.events.kind).value_counts().sort_index()
        facts["events"]["kinds"] = {str(kind): int(count) for kind, count in kinds.items()}
    return facts


def _warning(rule: str, rows: DatedRows, wrong: BoolArray, what: str, remedy: str) -> list[Finding]:
    """Return one finding for all rows that are `wrong`, with the first of them; empty where none is."""
    count = int(wrong.sum())
    if not count:
        return []
    text = f"`{rows.file}`: {what} on {count} rows, first for {rows.about(int(wrong.argmax()))}. {remedy}"
    return [Finding(Severity.WARNING, rule, rows.file, count, text)]


def _currencies(files: ConditionFiles, scope: MarketScope) -> list[Finding]:
    """Return what is said of currencies that no number depends on."""
    found: list[Finding] = []
    base = scope.settings.currency
    if scope.foreign and files.fx is None and scope.settings.local:
        text = (
            f"`{scope.labels.file}`: assets are in {len(scope.foreign)} currencies besides {base} and there is no `fx` file. "
            "Rule: returns are taken as they are, and nothing is converted."
        )
        found.append(Finding(Severity.INFO, "not_converted", scope.labels.file, len(scope.foreign), text))
    needed = {base, *(scope.foreign if files.fx is not None else ())}
    for rows in (files.rates, files.fx):
        unused = sorted(set(rows.keys) - needed) if rows is not None else []
        if rows is not None and unused:
            text = f"`{rows.file}`: {len(unused)} currencies are of no asset of the market and unused: {', '.join(unused)}."
            found.append(Finding(Severity.INFO, "unused_currency", rows.file, len(unused), text))
    return found


def _age(rows: DatedRows, panel: Panel, limit: int) -> list[Finding]:
    """Return the days of the market on which even the file's latest row is older than `limit` calendar days."""
    days = panel.dates.to_numpy(dtype="datetime64[us]")
    latest = np.searchsorted(rows.day, days, side="right") - 1
    early = latest < 0
    old = ~early & (days - rows.day[latest] > np.timedelta64(limit, "D"))
    found: list[Finding] = []
    if early.any():
        text = (
            f"`{rows.file}`: {int(early.sum())} days of the market come before its first row, "
            f"{pd.Timestamp(rows.day[0]).date()}: nothing is known on them."
        )
        found.append(Finding(Severity.INFO, "late_start", rows.file, int(early.sum()), text))
    if old.any():
        t = int(old.argmax())
        text = (
            f"`{rows.file}`: {int(old.sum())} days of the market come more than {limit} days after its last row before them, "
            f"first {panel.dates[t].date()}, after {pd.Timestamp(rows.day[latest[t]]).date()}. Rule: that row stays in force. "
            "Add what is missing."
        )
        found.append(Finding(Severity.WARNING, "old_rows", rows.file, int(old.sum()), text))
    return found


def _high_rates(rows: DatedRows) -> list[Finding]:
    return _warning(
        "high_rate",
        rows,
        np.abs(rows.numbers["annual_rate"]) > HIGH_RATE,
        f"`annual_rate` is beyond {HIGH_RATE:.0%} a year",
        "Check that rates are decimals: 5 % is 0.05.",
    )


def _jumps(rows: DatedRows) -> list[Finding]:
    before = pd.Series(rows.numbers["rate"]).groupby(rows.key).shift().to_numpy()
    with np.errstate(invalid="ignore"):
        jump = np.abs(rows.numbers["rate"] / before - 1.0) > JUMP
    return _warning(
        "fx_jump",
        rows,
        jump,
        f"`rate` moves by more than {JUMP:.0%}",
        "Check for a rate quoted the other way round, or a redenomination.",
    )


def _high_fees(rows: DatedRows) -> list[Finding]:
    fee = rows.numbers["fee_annual"]
    middle = float(np.median(fee))
    if middle <= HIGH_FEE:
        return []
    text = (
        f"`{rows.file}`: the median `fee_annual` is {middle:.1%} a year, where most shares cost less than 1 %. Check that fees "
        "are decimals: 0.5 % is 0.005."
    )
    return [Finding(Severity.WARNING, "high_fees", rows.file, len(rows), text)]


def _net_rebates(rows: DatedRows, scope: MarketScope, rates: DatedRows) -> list[Finding]:
    """Return rebates that look like the rate less the fee: with them the fee would be charged twice."""
    fee, rebate = rows.numbers["fee_annual"], rows.numbers["rebate_annual"]
    currency = pd.Series(scope.currencies, index=list(scope.panel.assets)).reindex(list(rows.keys)).to_numpy()[rows.key]
    days, day = np.unique(rows.day, return_inverse=True)
    known = rates.as_of("annual_rate", pd.DatetimeIndex(days), rates.keys)
    place = pd.Index(rates.keys).get_indexer(pd.Index(currency))
    rate = np.where(place >= 0, known[day, place], np.nan)
    with np.errstate(invalid="ignore"):
        telling = (fee > 0) & np.isfinite(rebate) & np.isfinite(rate)
        net = telling & (np.abs(rebate - (rate - fee)) <= 0.1 * fee)
    if not telling.any() or net.sum() <= 0.5 * telling.sum():
        return []
    return _warning(
        "net_rebate",
        rows,
        net,
        "`rebate_annual` is the rate less the fee",
        "It is the interest before the fee, which is charged besides: leave it empty, or give it before the fee.",
    )
