"""Interest on cash and debt, rebates and fees on shorts: what the book of yesterday owes for the days since, by currency.

In one currency with longs L, shorts S and cash B, all of yesterday's close, B holds the proceeds S of the shorts: they lie with
the lender and earn a rebate. Net assets in the currency are L - S + B, and

    debit  = max(S - B, 0) = max(L - net, 0)     pays the rate and a spread
    credit = max(B - S, 0) = max(net - L, 0)     earns the rate less a spread

each short earns its rebate on its value, the currency's rate where none is known, and pays its borrow fee. Simple interest for
the calendar days since yesterday's close, over the days of a year.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from backtest.ledger_rules import FinancingRule
from backtest.lines import FINANCING_LINES
from backtest.market_day import MarketDay
from risk import DataError
from risk.checks import FloatArray

__all__ = ["Accrual", "FinancingTerms", "accrue"]


@dataclass(frozen=True, eq=False)
class FinancingTerms:
    """What is in force from one close to the next: see `MarketDay`."""

    date: pd.Timestamp
    rates: FloatArray | None
    borrow_fee: FloatArray | None
    rebate: FloatArray | None

    @classmethod
    def of(cls, market: MarketDay) -> FinancingTerms:
        """Return the terms that a day's close sets."""
        return cls(market.date, market.rates, market.borrow_fee, market.rebate)


@dataclass(frozen=True, eq=False)
class Accrual:
    """What has accrued, in each currency: received +, paid -.

    Attributes
    ----------
    lines : mapping of str to ndarray of shape (C,)
    total : ndarray of shape (C,)
    """

    lines: Mapping[str, FloatArray]
    total: FloatArray


def accrue(
    rule: FinancingRule,
    terms: FinancingTerms,
    days: int,
    value: FloatArray,
    net: FloatArray,
    members: Sequence[npt.NDArray[np.intp]],
    currencies: Sequence[str],
) -> Accrual:
    """Return what accrued on a book over a number of calendar days.

    Parameters
    ----------
    rule : FinancingRule
    terms : FinancingTerms
    days : int
    value : ndarray of shape (N,)
        Of positions, each in its own currency.
    net : ndarray of shape (C,)
        Net assets by currency: cash and positions.
    members : sequence of C int arrays
        The assets of each currency.
    currencies : sequence of C str

    Raises
    ------
    DataError
        If there are rates and the one of a currency with a position or cash is not known.
    """
    annual = {name: np.zeros(len(members)) for name in FINANCING_LINES}
    for c, mine in enumerate(members):
        v = value[mine]
        longs, shorts = float(v[v > 0].sum()), -float(v[v < 0].sum())
        debit, credit = max(longs - net[c], 0.0), max(net[c] - longs, 0.0)
        rate = 0.0 if terms.rates is None else float(terms.rates[c])
        if np.isnan(rate):
            if not (longs or shorts or net[c]):
                continue
            raise DataError(
                f"`rates`: the rate of {currencies[c]!r} is not known on {terms.date:%Y-%m-%d}, and the book has "
                "positions or cash in it. Add the row that stood then, or start later."
            )
        annual["debit_interest"][c] = -(rule.spread + rate) * debit
        annual["borrow_fee"][c] = -_on_shorts(v, shorts, terms.borrow_fee, mine, rule.borrow_fee)
        annual["rebate"][c] = _on_shorts(v, shorts, terms.rebate, mine, rate)
        if terms.rates is not None:
            annual["credit_interest"][c] = (rate - rule.cash_spread) * credit
    total = annual["debit_interest"] + annual["borrow_fee"] + annual["rebate"] + annual["credit_interest"]
    year = float(rule.day_count)
    return Accrual({name: amount * days / year for name, amount in annual.items()}, total * days / year)


def _on_shorts(
    value: FloatArray, shorts: float, rate: FloatArray | None, mine: npt.NDArray[np.intp], otherwise: float
) -> float:
    """Return what shorts are charged in a year, each at its own rate where that is known."""
    if rate is None or not shorts:
        return otherwise * shorts
    own = np.where(np.isnan(rate[mine]), otherwise, rate[mine])
    return float((own * np.maximum(-value, 0.0)).sum())
