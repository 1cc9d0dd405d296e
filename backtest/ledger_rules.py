"""How a fund trades, pays and converts, beside what the market says: what a ledger is told once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

__all__ = ["FinancingRule", "LedgerRules"]


@dataclass(frozen=True)
class FinancingRule:
    """What the fund's brokers charge, beside what the data set dates.

    Attributes
    ----------
    spread : float
        Per year, on debit over the currency's rate; without rates over 0.
    cash_spread : float
        Per year, off the rate on credit; without rates cash earns nothing.
    borrow_fee : float
        Per year, on a short whose own fee is not known.
    day_count : int
        Days of a year: 360 in dollars and euros, 365 in pounds.
    """

    spread: float = 0.0
    cash_spread: float = 0.0
    borrow_fee: float = 0.0
    day_count: int = 365


@dataclass(frozen=True)
class LedgerRules:
    """Terms under which a ledger keeps its books.

    Attributes
    ----------
    lag : int
        Trading days from order to fill.
    financing : FinancingRule
    commission : float
        Fraction of the value traded: the part of linear costs that is no half-spread.
    participation_limit : float or None
        Largest share of a day's dollar volume that is traded in one name. None: no limit.
    fx_hedge : {"none", "full"}
        `Ledger.sweep` leaves no cash in foreign currencies, or as much debt as there are positions: no currency exposure.
    fx_cost : float
        Fraction of the amount converted.
    dividends_inside : bool
        Whether the data set's returns hold dividends and spin-offs.
    delisting : mapping of str to float
        Return on the last price by cause, for leavers of whose value the data say nothing; "" is for a cause that is not
        listed or not known, and 0 without it.
    """

    lag: int = 1
    financing: FinancingRule = FinancingRule()
    commission: float = 0.0
    participation_limit: float | None = None
    fx_hedge: Literal["none", "full"] = "none"
    fx_cost: float = 0.0
    dividends_inside: bool = True
    delisting: Mapping[str, float] = field(default_factory=dict)

    def delisting_return(self, cause: str) -> float:
        """Return what is assumed of a leaver of whose value the data say nothing."""
        return self.delisting.get(cause, self.delisting.get("", 0.0))
