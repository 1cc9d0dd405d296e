"""Fees and investors' money in closed form: followed on one share from the first day, as the terms say."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from backtest.audit_evidence import Check, Evidence
from risk.checks import FloatArray

__all__ = ["fee_checks", "unit_value"]

EXACT, CENT = 1e-9, 0.005
FEES = {
    "management fee": "a twelfth of the yearly rate on net assets at the start of each month",
    "incentive fee": "its share of the profit since the last fee, at the end of each period and of the run",
}
ISSUE_PRICE = 100.0


def unit_value(evidence: Evidence) -> FloatArray:
    """Return net assets per share before the first day and at each close, shape (D + 1,); those of the fund where it has no shares."""
    if "nav_per_share" in evidence.nav:
        return np.concatenate([[ISSUE_PRICE], evidence.nav["nav_per_share"].to_numpy()])
    return np.concatenate([[float(evidence.record["nav0"])], evidence.nav["nav"].to_numpy()])


def fee_checks(evidence: Evidence) -> Iterator[Check]:
    """Yield what must hold of fees, deals and shares."""
    deals = evidence.run.table("deals") if evidence.run.has("deals") else pd.DataFrame()
    if len(deals) and evidence.record["product"].get("equalisation", "series") == "none":
        why = "all investors share one mark, which flows move"
        yield from (Check(name, says, float("nan"), EXACT, 0, not_covered=why) for name, says in FEES.items())
    else:
        yield from _fees(evidence, in_money=not len(deals))
    if len(deals):
        yield from _deals(evidence, deals)


def _fees(evidence: Evidence, *, in_money: bool) -> Iterator[Check]:
    opening = unit_value(evidence)[:-1]
    for (name, statement), fee in zip(FEES.items(), _due(evidence, opening), strict=True):
        column = name.replace(" ", "_")
        told = evidence.nav[column].to_numpy()
        yield evidence.check(name, statement, told - fee / opening, EXACT)
        if evidence.lines is not None and in_money:
            line = evidence.lines.get(column, pd.Series(0.0, evidence.dates)).to_numpy()
            yield evidence.check(f"{name} line", "the line = the fee x nav(t-1)", line / evidence.before + told, EXACT)


def _due(evidence: Evidence, opening: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return management and incentive fee of each day, in the money of a share."""
    product, dates = evidence.record["product"], evidence.dates
    months = dates.to_period("M")
    periods = dates.to_period(
        {"monthly": "M", "quarterly": "Q", "yearly": "Y"}[product.get("crystallisation", "yearly")]
    )
    management, incentive = np.zeros(len(dates)), np.zeros(len(dates))
    mark, since = opening[0], dates[0]

    def crystallise(worth: float, date: pd.Timestamp) -> float:
        nonlocal mark, since
        hurdle = mark * (1 + product.get("hurdle_annual", 0.0) * (date - since).days / 365)
        fee = float(product["incentive_fee"] * max(worth - hurdle, 0.0))
        mark = max(mark, worth - fee) if product.get("high_water_mark", False) else worth - fee
        since = date
        return fee

    for t in range(len(dates)):
        if t and periods[t] != periods[t - 1]:
            incentive[t] = crystallise(opening[t], dates[t - 1])
        if t == 0 or months[t] != months[t - 1]:
            management[t] = product["management_fee_annual"] / 12 * max(opening[t] - incentive[t], 0.0)
    # The last day closes its period, after all else.
    before_fees = 1 + evidence.nav["return_before_fees"].iloc[-1]
    incentive[-1] += crystallise(opening[-1] * before_fees - management[-1] - incentive[-1], dates[-1])
    return management, incentive


def _deals(evidence: Evidence, deals: pd.DataFrame) -> Iterator[Check]:
    """Yield that deals are the lines of investors' money, and that what investors own is the fund."""
    done = deals[deals["outcome"] == "dealt"]
    for kind, sign in (("subscription", 1), ("redemption", -1)):
        paid = done[done["kind"] == kind].groupby("date")["amount"].sum().reindex(evidence.dates, fill_value=0.0)
        assert evidence.lines is not None
        line = evidence.lines.get(kind, pd.Series(0.0, evidence.dates))
        yield evidence.check(kind, f"{kind}s dealt = the line", (line - sign * paid).to_numpy(), CENT, unit="money")
    shares = evidence.run.table("shares")
    # The last day may have two statements, after its dealing and after its fee: the later one counts.
    latest = shares.drop_duplicates(["date", "series", "investor", "opened"], keep="last")
    owned = latest.groupby("date")["value"].sum().reindex(evidence.dates)
    told = owned.notna().to_numpy()
    off = np.where(told, owned.to_numpy() - evidence.nav["nav"].to_numpy(), 0.0)
    yield evidence.check("shares", "what investors own = nav, after each dealing", off, CENT, among=told, unit="money")
