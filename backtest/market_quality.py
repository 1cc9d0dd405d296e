"""What is missing or odd in a market that a backtest accepts, and which named rule handles it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd

from backtest.dataset_settings import DatasetSettings
from backtest.labels import LabelTable
from backtest.market_rows import MarketRows
from backtest.market_rules import Finding, Severity
from backtest.universe import find_presence
from risk import Panel

__all__ = ["find_market_oddities"]

GAP_DAYS = 5  # a long weekend with a holiday on either side
SPLIT = 0.2  # no ordinary dividend moves a price by as much


def find_market_oddities(
    rows: MarketRows,
    panel: Panel,
    labels: LabelTable,
    settings: DatasetSettings,
    ended: frozenset[str] = frozenset(),
) -> list[Finding]:
    """Return what is missing or odd, none of it an error.

    Parameters
    ----------
    rows : MarketRows
        The whole file.
    panel : Panel
        Made of the same rows.
    labels : LabelTable
    settings : DatasetSettings
    ended : frozenset of str
        Assets whose end is an event: nothing is missing where they leave.
    """
    return [
        *_first_rows(rows),
        *_gaps(rows),
        *_labels(rows, panel, labels),
        *_caps(rows, panel),
        *_empty(rows, "close", "Rule: the asset is left out of the universe (price) on those days."),
        *_empty(
            rows,
            "dollar_volume",
            "Rule: trailing medians pass over it.",
            " Impact costs need it: a backtest asks for a mandate whose `costs.impact_coefficient` is 0.",
        ),
        *_stale(rows, panel, settings),
        *_absences(rows, panel, settings, ended),
        *_splits(rows, panel, settings),
    ]


def _examples(names: list[str]) -> str:
    shown = ", ".join(names[:5])
    return f"{shown}, ..." if len(names) > 5 else shown


def _named(panel: Panel, chosen: npt.ArrayLike) -> str:
    return _examples([panel.assets[i] for i in np.flatnonzero(chosen)])


def _first_rows(rows: MarketRows) -> list[Finding]:
    count = int(np.isnan(rows.numbers["return"]).sum() - rows.unknown_returns().sum())
    if not count:
        return []
    text = f"`{rows.file}`: `return` is NaN on the first row of {count} assets, as it may be."
    return [Finding(Severity.INFO, "first_return", rows.file, count, text)]


def _gaps(rows: MarketRows) -> list[Finding]:
    days = np.diff(rows.dates.to_numpy()) / np.timedelta64(1, "D")
    at = np.flatnonzero(days > GAP_DAYS)
    if not len(at):
        return []
    worst = int(at[np.argmax(days[at])])
    text = (
        f"`{rows.file}`: `date` has {len(at)} gaps of more than {GAP_DAYS} calendar days; the longest is "
        f"{days[worst]:.0f} days after {rows.dates[worst].date()}. Check that no day is missing: the next return spans it."
    )
    return [Finding(Severity.WARNING, "date_gap", rows.file, len(at), text)]


def _labels(rows: MarketRows, panel: Panel, labels: LabelTable) -> list[Finding]:
    found: list[Finding] = []
    for field, codes in (("country", panel.country), ("sector", panel.sector)):
        without = (panel.has_row & (codes < 0)).any(axis=0)
        if without.any():
            text = (
                f"`{labels.file}`: `{field}` is missing for {int(without.sum())} assets ({_named(panel, without)}) on some "
                "or all of their days. Rule: left out of the universe (label) on those days."
            )
            found.append(Finding(Severity.WARNING, f"no_{field}", labels.file, int(without.sum()), text))
    unused = sorted(labels.assets - set(rows.assets))
    if unused:
        text = f"`{labels.file}`: {len(unused)} assets have no row in `{rows.file}` ({_examples(unused)}); they are unused."
        found.append(Finding(Severity.INFO, "unused_label", labels.file, len(unused), text))
    return found


def _caps(rows: MarketRows, panel: Panel) -> list[Finding]:
    if panel.market_cap is None:
        text = (
            f"`{rows.file}` has no column `market_cap`. Rule: size is the trailing 252-day median dollar volume, and the run "
            "names it."
        )
        return [Finding(Severity.WARNING, "no_market_cap", rows.file, len(panel.assets), text)]
    missing = panel.has_row & np.isnan(panel.market_cap)
    if not missing.any():
        return []
    never = ~(panel.market_cap > 0).any(axis=0)
    named = f" ({_named(panel, never)})" if never.any() else ""
    text = (
        f"`{rows.file}`: `market_cap` is empty on {int(missing.sum())} rows ({missing.sum() / panel.has_row.sum():.2%}) of "
        f"{int(missing.any(axis=0).sum())} assets; {int(never.sum())} never have one{named}. Rule: carried "
        "for up to 21 days, then the asset is left out of the universe (market_cap)."
    )
    return [Finding(Severity.WARNING, "missing_market_cap", rows.file, int(missing.any(axis=0).sum()), text)]


def _empty(rows: MarketRows, field: str, rule: str, without: str = "") -> list[Finding]:
    if field not in rows.numbers:
        text = f"`{rows.file}` has no column `{field}`; the universe rule asks nothing of it.{without}"
        return [Finding(Severity.WARNING, f"no_{field}", rows.file, len(rows.assets), text)]
    count = int(np.isnan(rows.numbers[field]).sum())
    if not count:
        return []
    text = f"`{rows.file}`: `{field}` is empty on {count} rows. {rule}"
    return [Finding(Severity.WARNING, f"missing_{field}", rows.file, count, text)]


def _stale(rows: MarketRows, panel: Panel, settings: DatasetSettings) -> list[Finding]:
    run = np.zeros(len(panel.assets), dtype=np.int64)
    longest = run.copy()
    for has_row, returns in zip(panel.has_row, panel.returns, strict=True):
        run = np.where(has_row, np.where(returns == 0, run + 1, 0), run)
        longest = np.maximum(longest, run)
    stale = longest >= settings.stale_days
    if not stale.any():
        return []
    text = (
        f"`{rows.file}`: `return` is 0 for {settings.stale_days} rows or more in a row for {int(stale.sum())} assets "
        f"({_named(panel, stale)}); the longest run is {longest.max()} rows of {panel.assets[int(longest.argmax())]!r}. "
        "Check for prices that were carried forward: leave such rows out, and the asset counts as suspended."
    )
    return [Finding(Severity.WARNING, "stale_price", rows.file, int(stale.sum()), text)]


def _absences(rows: MarketRows, panel: Panel, settings: DatasetSettings, ended: frozenset[str]) -> list[Finding]:
    presence = find_presence(panel, settings.stale_days)
    found: list[Finding] = []
    for rule, cells, what in (
        ("holiday", presence.holiday, "its country had no session. Rule: it keeps its membership"),
        (
            "suspended",
            presence.suspended,
            "its country traded. Rule: no member of the universe, held at its last price",
        ),
    ):
        if cells.any():
            text = f"`{rows.file}`: {int(cells.sum())} days of {int(cells.any(axis=0).sum())} assets have no row and {what}."
            found.append(Finding(Severity.INFO, rule, rows.file, int(cells.sum()), text))
    left = presence.gone[-1]
    unpaid = left & np.isnan(panel.delisting_return) & ~np.isin(panel.assets, list(ended))
    if unpaid.any():
        text = (
            f"`{rows.file}`: {int(unpaid.sum())} of {int(left.sum())} assets that left have no `delisting_return` "
            f"({_named(panel, unpaid)}). Rule: booked at the last price after {settings.stale_days} sessions."
        )
        found.append(Finding(Severity.WARNING, "no_delisting_return", rows.file, int(unpaid.sum()), text))
    return found


def _splits(rows: MarketRows, panel: Panel, settings: DatasetSettings) -> list[Finding]:
    if "close" not in rows.numbers:
        return []
    with np.errstate(all="ignore"):
        before = pd.DataFrame(panel.close).ffill().shift().to_numpy()
        change = np.abs((1.0 + panel.returns) * before / panel.close - 1.0)
        implied = change > SPLIT
    if not implied.any():
        return []
    t, i = (int(at[0]) for at in np.nonzero(implied))
    adjusted = settings.close_kind == "adjusted"
    text = (
        f"`{rows.file}`: `close` and `return` differ by more than {SPLIT:.0%} on {int(implied.sum())} rows of "
        f"{int(implied.any(axis=0).sum())} assets, first {panel.assets[i]!r} on {panel.dates[t].date()} (return "
        f"{panel.returns[t, i]:.4f}, close {before[t, i]:.6g} to {panel.close[t, i]:.6g}). "
        + (
            "Closes are said to be adjusted: correct one of the two, or set close_kind in dataset.toml."
            if adjusted
            else "Rule: read as splits of a raw close; the return counts."
        )
    )
    severity = Severity.WARNING if adjusted else Severity.INFO
    return [Finding(severity, "implied_split", rows.file, int(implied.sum()), text)]
