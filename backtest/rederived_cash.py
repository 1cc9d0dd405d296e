"""A fund's cash by currency, followed from its first day: what the books' total, financing and currency lines must be.

On a day, in this order: exchange rates move the cash of the close before; interest, rebates and borrow fees accrue on the book of the
close before; dividends and what came of leavers come in; trades and their costs go out; on a decision day, and on one with trades, foreign cash is
swept; fees go out, and investors' money comes and goes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from backtest.audit_evidence import Evidence, as_of, dated_rows
from backtest.rederived_profits import Profits
from risk.checks import BoolArray, FloatArray

__all__ = ["Cash", "derive_cash"]


@dataclass(frozen=True, eq=False)
class Cash:
    """Of each of D days, in base money, shape (D,).

    Attributes
    ----------
    total : ndarray
        At the close.
    on_rates : ndarray
        What cash in foreign currencies earned by exchange rates.
    financing : ndarray
        Interest and fees paid, less those received.
    conversion : ndarray
        What sweeps cost.
    """

    total: FloatArray
    on_rates: FloatArray
    financing: FloatArray
    conversion: FloatArray


@dataclass(frozen=True, eq=False)
class _Terms:
    """What is in force from each close to the next: rates (D, C), fees and rebates on shorts (D, A)."""

    given: bool
    rate: FloatArray
    fee: FloatArray
    rebate: FloatArray


def derive_cash(evidence: Evidence, profits: Profits) -> Cash:
    """Return what a run's cash must have been."""
    product, dates = evidence.record["product"], evidence.dates
    terms = _terms(evidence)
    sweeps = _decision_days(dates, product["rebalance"]) | (evidence.traded != 0).any(axis=1)
    fx, quotes = evidence.fx, evidence.quotes
    value = evidence.value / fx
    moves = (profits.dividends + profits.settled - evidence.traded - evidence.paid) / fx
    other = _fees_and_flows(evidence)
    cash = np.zeros(quotes.shape[1])
    cash[0] = evidence.record["nav0"]
    columns = np.zeros((4, len(dates)))
    for t in range(len(dates)):
        if t:
            columns[1, t] = cash @ (quotes[t] - quotes[t - 1])
            days = (dates[t] - dates[t - 1]).days
            accrued = _accrual(evidence, terms, t - 1, value[t - 1], cash) * days / product.get("day_count", 365)
            cash = cash + accrued
            columns[2, t] = -accrued @ quotes[t]
        np.add.at(cash, evidence.currency, moves[t])
        if sweeps[t]:
            columns[3, t] = _sweep(evidence, value[t], quotes[t], cash)
        cash[0] += other[t]
        columns[0, t] = cash @ quotes[t]
    return Cash(*columns)


def _sweep(evidence: Evidence, value: FloatArray, quotes: FloatArray, cash: FloatArray) -> float:
    """Change foreign cash into the base currency, or hedge positions with it; return the cost."""
    product, cost = evidence.record["product"], 0.0
    for c in range(1, len(cash)):
        wanted = -value[evidence.currency == c].sum() if product.get("fx_hedge") == "full" else 0.0
        sold = (cash[c] - wanted) * quotes[c]
        fee = abs(sold) * product.get("fx_cost_bps", 0.0) / 1e4
        cash[c] = wanted
        cash[0] += sold - fee
        cost += fee
    return cost


def _accrual(evidence: Evidence, terms: _Terms, t: int, value: FloatArray, cash: FloatArray) -> FloatArray:
    """Return what a year on the book of day t brings in each currency, in its own money: received +, shape (C,)."""
    product, total = evidence.record["product"], np.zeros(len(cash))
    on_shorts = (terms.rebate[t] - terms.fee[t]) * np.maximum(-value, 0.0)
    for c in range(len(cash)):
        mine = evidence.currency == c
        # Cash holds the shorts' proceeds, which lie with their lenders: what is left of it pays for the longs.
        free = cash[c] + np.minimum(value[mine], 0.0).sum()
        total[c] = on_shorts[mine].sum()
        rate = terms.rate[t, c] if terms.given else 0.0
        if free < 0:
            total[c] += (rate + product["financing_spread_annual"]) * free
        elif terms.given and free > 0:
            total[c] += (rate - product.get("cash_spread_annual", 0.0)) * free
    return total


def _terms(evidence: Evidence) -> _Terms:
    dates, folder = evidence.dates, evidence.data.folder
    rows, shape = dated_rows(folder, "rates"), evidence.value.shape
    rate = np.zeros((len(dates), len(evidence.currencies)))
    if rows is not None:
        for c, name in enumerate(evidence.currencies):
            rate[:, c] = as_of(rows[rows["currency"] == name], "annual_rate", dates)
    fee = np.full(shape, float(evidence.record["mandate"]["costs"]["borrow_fee_annual"]))
    rebate = rate[:, evidence.currency]
    borrow = dated_rows(folder, "borrow")
    for asset, own in () if borrow is None else borrow.groupby("asset"):
        place = evidence.assets.get_indexer(pd.Index([str(asset)]))[0]
        for term, table in (("fee_annual", fee), ("rebate_annual", rebate)):
            if place >= 0 and term in own:
                known = as_of(own, term, dates)
                table[:, place] = np.where(np.isnan(known), table[:, place], known)
    return _Terms(rows is not None, rate, fee, rebate)


def _decision_days(dates: pd.DatetimeIndex, rebalance: str) -> BoolArray:
    """Return which days are the first of their week, month or day; the run begins on one."""
    period = dates.to_period({"daily": "D", "weekly": "W", "monthly": "M"}[rebalance])
    return np.concatenate([[True], np.asarray(period[1:] != period[:-1])])


def _fees_and_flows(evidence: Evidence) -> FloatArray:
    """Return what fees took and investors brought each day, in base money."""
    if evidence.lines is None:
        fees = evidence.nav["management_fee"] + evidence.nav["incentive_fee"]
        return -fees.to_numpy() * evidence.before
    names = ["management_fee", "incentive_fee", "subscription", "redemption"]
    return np.asarray(evidence.lines.reindex(columns=names, fill_value=0.0).sum(axis=1))
