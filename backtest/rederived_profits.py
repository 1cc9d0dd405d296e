"""What every position earned, from its value at the close before, the data set's return, and the events file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from backtest.audit_evidence import Evidence
from risk.checks import BoolArray, FloatArray

__all__ = ["Profits", "derive_profits", "yesterday"]


@dataclass(frozen=True, eq=False)
class Profits:
    """Profits of D days and A assets, in base money.

    Attributes
    ----------
    profit : ndarray of shape (D, A)
        With exchange rates, dividends and what came of leavers.
    dividends, settled : ndarray of shape (D, A)
        Cash for dividends, and for positions that ended.
    unknown : bool ndarray of shape (D, A)
        Where the profit cannot be derived: an asset received before its first close.
    ended : bool ndarray of shape (D, A)
        Where a position left, or what it was worth went over to another asset.
    """

    profit: FloatArray
    dividends: FloatArray
    settled: FloatArray
    unknown: BoolArray
    ended: BoolArray


def yesterday(array: FloatArray) -> FloatArray:
    """Return each row's predecessor, 0 before the first."""
    return np.vstack([np.zeros(array.shape[1]), array[:-1]])


def derive_profits(evidence: Evidence) -> Profits:
    """Return what a run's positions must have earned."""
    value, fx = yesterday(evidence.value), evidence.fx
    moved = fx / np.vstack([fx[:1], fx[:-1]])
    r = np.where(evidence.has_row, np.nan_to_num(evidence.returns), 0.0)
    first = evidence.has_row & np.isnan(evidence.returns) & (value != 0) & (evidence.pnl != 0)
    gone = evidence.noticed("gone")
    profits = Profits(value * ((1 + r) * moved - 1), np.zeros_like(value), np.zeros_like(value), first, gone.copy())
    left = value + profits.profit
    loss = np.where(gone, left * _on_leaving(evidence, ""), 0.0)
    profits.profit[:] += loss
    profits.settled[:] += np.where(gone, left + loss, 0.0)
    if evidence.events is not None:
        shares = yesterday(evidence.shares)
        for row in evidence.events.to_dict("records"):
            event = {str(name): value for name, value in row.items()}
            if shares[event["t"], event["i"]]:
                _book(
                    evidence,
                    event,
                    float(shares[event["t"], event["i"]]),
                    float(value[event["t"], event["i"]]),
                    profits,
                )
    return profits


def _on_leaving(evidence: Evidence, cause: str) -> FloatArray:
    """Return the return of an asset that leaves: the data set's, or what the product assumes for the cause, shape (A,)."""
    assumed = evidence.record["product"].get("delisting_returns", {})
    given = evidence.delisting_return
    return np.where(np.isnan(given), assumed.get(cause, assumed.get("", 0.0)), given)


def _book(evidence: Evidence, event: dict[str, Any], held: float, value: float, profits: Profits) -> None:
    """Add what an event does to a position of `held` shares worth `value` at the close before."""
    at, kind = (event["t"], event["i"]), event["kind"]
    rate, inside = float(evidence.fx[at]), evidence.data.settings.dividends_inside
    now = held * _split(evidence, *at)
    cash = now * float(np.nan_to_num(event["amount"])) * rate
    if kind == "dividend":  # for each share before a split of the same day
        paid = held * event["amount"] * rate
        profits.dividends[at] += paid
        profits.profit[at] += 0.0 if inside else paid
    elif kind == "delisting":
        marked = value + profits.profit[at]
        cause = event["cause"] if isinstance(event["cause"], str) else ""
        received = marked * (1 + _on_leaving(evidence, cause)[event["i"]]) if np.isnan(event["amount"]) else cash
        profits.profit[at] += received - marked
        profits.settled[at] += received
        profits.ended[at] = True
    elif kind in ("merger", "spin_off"):
        swapped = _new_shares(evidence, event, now)
        profits.unknown[at] |= bool(np.isnan(swapped))
        if kind == "merger":
            profits.profit[at] = swapped + cash - value
            profits.settled[at] += cash
        elif not inside:
            profits.profit[at] += swapped
        profits.ended[at] = True
        if event["j"] >= 0:
            profits.ended[event["t"], event["j"]] = True


def _split(evidence: Evidence, t: int, i: int) -> float:
    """Return into how many shares one became that day."""
    assert evidence.events is not None
    rows = evidence.events
    today = rows[(rows["t"] == t) & (rows["i"] == i) & (rows["kind"] == "split")]
    return float(today["ratio"].to_numpy().prod())


def _new_shares(evidence: Evidence, event: dict[str, Any], held: float) -> float:
    """Return what the shares of another asset that are received are worth; NaN where it has no close that day."""
    if not event["ratio"] > 0:
        return 0.0
    at = event["t"], event["j"]
    return float(held * event["ratio"] * evidence.close[at] * evidence.fx[at]) if event["j"] >= 0 else float("nan")
