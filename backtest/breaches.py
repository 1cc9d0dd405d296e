"""Breaches: unbroken runs of days on which a level is beyond its monitored bound, and by whose doing they began."""

from __future__ import annotations

import numpy as np
import pandas as pd

from backtest.daily_book import DailyBook
from backtest.limit_levels import LimitLevels
from backtest.monitoring_rule import Bound, MonitoringRule, family_of
from risk.checks import FloatArray

__all__ = ["excess_over", "find_breaches"]

ROUNDING = 1e-9


def excess_over(level: FloatArray, bound: Bound) -> FloatArray:
    """Return by how much a level is beyond its monitored bound; 0 within, and where level or bound is not known."""
    lower, upper, tolerance = bound
    over: FloatArray = np.fmax(np.fmax(lower - tolerance - level, level - upper - tolerance), 0.0)
    return np.where(over > ROUNDING, over, 0.0)


def find_breaches(
    book: DailyBook,
    drifted: FloatArray,
    found: LimitLevels,
    bounds: dict[str, Bound],
    rule: MonitoringRule,
) -> pd.DataFrame:
    """Return every unbroken run of days beyond a limit; positions by asset, all other limits by name.

    Columns are those of `Monitoring.breaches`.
    """
    rows = []
    for j, name in enumerate(found.names):
        bound = bounds[family_of(name)]
        if name == "position" or not excess_over(found.closing[:, j], bound).any():
            continue
        rows += _runs(name, "", book.dates, bound, found.closing[:, j], found.drifted[:, j], found.before[:, j])
    bound = bounds["position"]
    for i in np.flatnonzero(excess_over(np.abs(book.weights).max(axis=0), bound)):
        size, untraded = np.abs(book.weights[:, i]), np.abs(drifted[:, i])
        found_runs = _runs("position", book.assets[i], book.dates, bound, size, untraded, untraded)
        rows += [{**row, "worst": float(book.weights[book.dates.get_loc(row["worst_date"]), i])} for row in found_runs]
    columns = ["limit", "asset", "start", "end", "open", "days", "worst", "worst_date", "excess"]
    columns += ["kind", "cause", "worsened"]
    table = pd.DataFrame(rows, columns=columns).astype({"open": bool})
    table = table.sort_values(["start", "limit", "asset"], ignore_index=True)
    return table.assign(hard=[family_of(name) in rule.hard for name in table["limit"]])


def _runs(
    name: str,
    asset: str,
    dates: pd.DatetimeIndex,
    bound: Bound,
    closing: FloatArray,
    drifted: FloatArray,
    before: FloatArray,
) -> list[dict[str, object]]:
    excess = excess_over(closing, bound)
    edges = np.diff(np.concatenate([[0], (excess > 0).astype(np.int8), [0]]))
    rows: list[dict[str, object]] = []
    worsened = excess > excess_over(drifted, bound) + ROUNDING
    for first, stop in zip(np.flatnonzero(edges == 1).tolist(), np.flatnonzero(edges == -1).tolist(), strict=True):
        worst = first + int(np.argmax(excess[first:stop]))
        cause = "drift" if excess_over(before[first : first + 1], bound).any() else "model"
        if not excess_over(drifted[first : first + 1], bound).any():
            cause = "trade"
        rows.append(
            {
                "limit": name,
                "asset": asset,
                "start": dates[first],
                "end": dates[stop - 1],
                "open": bool(stop == len(dates)),
                "days": int(stop - first),
                "worst": float(closing[worst]),
                "worst_date": dates[worst],
                "excess": float(excess[worst]),
                "kind": "active" if cause == "trade" else "passive",
                "cause": cause,
                "worsened": int(worsened[first:stop].sum()),
            }
        )
    return rows
