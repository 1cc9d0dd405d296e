"""One series of units: what it is worth, the mark that its incentive fee is measured from, and its charges of a day.

With value V at the close before the period, mark B, hurdle h and d days since the mark was set,

    incentive fee     p max(V - B (1 + h d / 365), 0)
    mark afterwards   V - fee, or the greater of that and B under a high-water mark
    management fee    m / 12 max(V - incentive fee of that day, 0), at the first session of a month

All are money for the units that were issued, whether they are still held or not, so that a series can be followed after its
last holder left; what is charged in fact is the share still held.
"""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from backtest.fund_terms import FundTerms

__all__ = ["ISSUE_PRICE", "FeeSeries"]

ISSUE_PRICE = 100.0
"""What a unit of a new series costs, in money."""


@dataclass
class FeeSeries:
    """Units that were issued on one day and share one mark.

    Attributes
    ----------
    opened : Timestamp
        Day of the subscription.
    issued : float
        Units issued.
    value : float
        Net assets of the units issued, in money.
    mark : float
        What the next incentive fee is measured from, for the units issued, in money.
    since : Timestamp
        When the mark was set; the hurdle runs from here.
    opening : float
        `value` at the start of the day.
    management, incentive : float
        Charges of the day on the units issued.
    """

    opened: pd.Timestamp
    issued: float
    value: float
    mark: float
    since: pd.Timestamp
    opening: float = 0.0
    management: float = 0.0
    incentive: float = 0.0

    @classmethod
    def issue(cls, date: pd.Timestamp, amount: float) -> FeeSeries:
        """Return a new series for an amount of money."""
        return cls(date, amount / ISSUE_PRICE, amount, amount, date, amount)

    @property
    def nav_per_unit(self) -> float:
        """Net assets of one unit, before an incentive fee that is not due yet."""
        return self.value / self.issued

    @property
    def mark_per_unit(self) -> float:
        """What a unit's next incentive fee is measured from."""
        return self.mark / self.issued

    def accrued(self, terms: FundTerms, date: pd.Timestamp, *, refund: float = 0.0) -> float:
        """Return the incentive fee that would be due on `date`, were `refund` of other charges given back first."""
        years = (date - self.since).days / 365
        return terms.incentive_fee * max(self.value + refund - self.mark * (1 + terms.hurdle_annual * years), 0.0)

    def crystallise(self, terms: FundTerms, date: pd.Timestamp) -> float:
        """Return the incentive fee due at the close of `date` and start the next period after it; it is not deducted here."""
        fee = self.accrued(terms, date)
        after = self.value - fee
        self.mark = max(self.mark, after) if terms.high_water_mark else after
        self.since = date
        return fee

    def open_day(self, terms: FundTerms, previous: pd.Timestamp, *, month: bool, period: bool) -> None:
        """Fix the day's charges on the close of `previous`: whether a month begins, and a period of the incentive fee."""
        self.opening = self.value
        self.incentive = self.crystallise(terms, previous) if period else 0.0
        self.management = month_fee(terms, self.value - self.incentive) if month else 0.0

    def close_day(self, growth: float) -> None:
        """Take the day's profit, before fees, on what the series was worth at its start, and its charges."""
        self.value = self.opening * growth - self.management - self.incentive


def month_fee(terms: FundTerms, net_assets: float) -> float:
    """Return a month's management fee in advance, in money.

    Examples
    --------
    >>> month_fee(FundTerms(management_fee_annual=0.012), 1_000_000.0)
    1000.0
    """
    return max(net_assets, 0.0) * terms.management_fee_annual / 12
