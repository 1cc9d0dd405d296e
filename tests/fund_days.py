"""A fund that earns given returns on its net assets and does what its share register asks: no assets, no trades."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import pandas as pd

from backtest.dealing import Deal
from backtest.flows import Flow, Flows
from backtest.fund_terms import FundTerms
from backtest.share_register import ShareRegister

CENT = 0.005
NO_FEE = FundTerms(management_fee_annual=0.0, incentive_fee=0.0)


@dataclass
class Account:
    """What happened on each day, in money but for the fractions `management_rate` and `incentive_rate` of the first series."""

    nav: list[float] = field(default_factory=list)
    management: list[float] = field(default_factory=list)
    incentive: list[float] = field(default_factory=list)
    flow: list[float] = field(default_factory=list)
    management_rate: list[float] = field(default_factory=list)
    incentive_rate: list[float] = field(default_factory=list)
    net_return: list[float] = field(default_factory=list)
    per_share: list[float] = field(default_factory=list)
    deals: list[Deal] = field(default_factory=list)


def run_fund(
    register: ShareRegister, nav: float, dates: Sequence[pd.Timestamp], returns: Sequence[float], *, finish: bool = True
) -> Account:
    """Run a fund over days of given returns before fees, as fractions of net assets when the day began."""
    account = Account()
    for number, (date, earned) in enumerate(zip(dates, returns, strict=True), 1):
        charges = register.open_day(date, nav)
        management, incentive = charges.management_fee, charges.incentive_fee
        nav += nav * earned - management - incentive
        register.close_day(nav)
        dealing = register.deal()
        nav += dealing.change
        management += dealing.management_fee
        incentive += dealing.incentive_fee
        if finish and number == len(dates):
            last = register.finish(nav)
            nav -= last.incentive_fee
            incentive += last.incentive_fee
        assert abs(register.net_assets - nav) < 0.005
        rates = register.lead_fees
        account.nav.append(nav)
        account.management.append(management)
        account.incentive.append(incentive)
        account.flow.append(dealing.subscription - dealing.redemption)
        account.management_rate.append(rates[0])
        account.incentive_rate.append(rates[1])
        account.net_return.append(earned - rates[0] - rates[1])
        account.per_share.append(register.nav_per_share)
        account.deals += dealing.deals
    return account


def sessions(*days: str) -> list[pd.Timestamp]:
    """Return days as time stamps."""
    return [pd.Timestamp(day) for day in days]


def flows(*rows: tuple[str, str, float]) -> Flows:
    return Flows(tuple(Flow(pd.Timestamp(date), investor, amount) for date, investor, amount in rows))


def register(terms: FundTerms, nav: float, start: pd.Timestamp, *rows: tuple[str, str, float]) -> ShareRegister:
    return ShareRegister(terms, nav, start, flows=flows(*rows))


def value_of(book: ShareRegister, investor: str) -> float:
    table = book.statement
    return float(table.loc[table["investor"] == investor, "value"].sum())
