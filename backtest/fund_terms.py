"""What a fund asks of its investors: fees, when they fall due, how newcomers are told from the old, lockup and notice."""

from __future__ import annotations

from typing import Annotated, Literal

import pandas as pd
from pydantic import Field, field_validator

from engine.mandate import NonNegative, Positive, Spec

__all__ = ["Calendar", "FundTerms", "period_begins"]

Calendar = Literal["monthly", "quarterly", "yearly"]
_FREQUENCY = {"monthly": "M", "quarterly": "Q", "yearly": "Y"}


class FundTerms(Spec):
    """Fees and dealing terms of a fund; rates are decimals per year.

    The defaults are what Numerai One's published net returns assume: a management fee of 1/12 of 1 % of beginning net assets
    each month, paid in advance, and 20 % of trading profits yearly. That statement names neither high-water mark nor hurdle,
    lockup, notice or dealing days: those are our assumption wherever a product does not say otherwise.
    """

    management_fee_annual: NonNegative = 0.01
    """A twelfth of it is charged on net assets at the start of each month, in advance."""
    incentive_fee: NonNegative = 0.20
    """Share of a period's profit after all other charges; a run's last day closes its period."""
    crystallisation: Calendar = "yearly"
    """How often the incentive fee is taken: at the first session of a period, on the close before it."""
    high_water_mark: bool = False
    """Whether a loss must be made good before an incentive fee is due again; without it every period starts afresh."""
    hurdle_annual: NonNegative = 0.0
    """Profit up to this return is free of the incentive fee: simple, actual/365, from the period's start, and not carried over."""
    equalisation: Literal["series", "none"] = "series"
    """``series``: every subscription is a series with a mark of its own. ``none``: all share one mark, old investors' and newcomers'."""
    lockup_months: Annotated[int, Field(ge=0)] = 0
    """Units bought in one month can be redeemed on the dealing day of the month so many months later, and not before."""
    notice_days: Annotated[int, Field(ge=0)] = 0
    """Calendar days from the request for a redemption to the earliest day on which it is dealt."""
    dealing: Literal["monthly", "quarterly"] = "monthly"
    """Subscriptions and redemptions are dealt at the close of the first session of a month or quarter."""
    capacity: Positive | None = None
    """Money. No subscription takes net assets above it; profit may."""

    @field_validator("management_fee_annual", "incentive_fee", "hurdle_annual")
    @classmethod
    def _decimal(cls, rate: float) -> float:
        if rate > 1:
            raise ValueError(f"must be a decimal of at most 1; write {rate / 100:g} for {rate:g} %")
        return rate


def period_begins(previous: pd.Timestamp, date: pd.Timestamp, calendar: Calendar) -> bool:
    """Return whether a session is the first of its month, quarter or year, given the session before it.

    Examples
    --------
    >>> period_begins(pd.Timestamp("2024-03-28"), pd.Timestamp("2024-04-01"), "quarterly")
    True
    >>> period_begins(pd.Timestamp("2024-04-30"), pd.Timestamp("2024-05-02"), "quarterly")
    False
    """
    frequency = _FREQUENCY[calendar]
    return bool(date.to_period(frequency) != previous.to_period(frequency))
