"""Dealing days: lockup, notice, capacity, and a path of net assets."""

from __future__ import annotations

import math

import pandas as pd
import pytest
from fund_days import CENT, NO_FEE, register, run_fund, sessions

from backtest.dealing import Outcome, deal_table
from backtest.flows import aum_path
from backtest.fund_terms import FundTerms
from backtest.share_register import ShareRegister
from risk import DataError

# Lockup, notice, capacity


def test_lockup_and_notice_are_both_kept() -> None:
    dates = list(pd.bdate_range("2022-01-05", "2023-12-29"))
    terms = FundTerms(management_fee_annual=0.0, incentive_fee=0.0, lockup_months=12, notice_days=45)
    book = register(terms, 1e6, dates[0], ("2022-03-01", "B", 100_000), ("2023-01-20", "B", -40_000))
    account = run_fund(book, 1e6, dates, [0.0] * len(dates))
    found = deal_table(tuple(account.deals))[["date", "kind", "outcome"]].to_numpy().tolist()
    first = pd.Timestamp
    assert found == [
        [first("2022-03-01"), "subscription", "dealt"],
        # 45 days from 20 January end on 6 March; the lockup ended in March already.
        [first("2023-02-01"), "redemption", "waiting"],
        [first("2023-04-03"), "redemption", "dealt"],
    ]
    assert "notice of 45 days ends 2023-03-06" in account.deals[1].detail
    assert account.deals[2].requested == first("2023-01-20")


def test_what_is_locked_waits_and_the_rest_is_paid() -> None:
    dates = list(pd.bdate_range("2022-01-05", "2023-07-31"))
    terms = FundTerms(management_fee_annual=0.0, incentive_fee=0.0, lockup_months=12)
    book = register(
        *(terms, 1e6, dates[0], ("2022-03-01", "B", 100_000), ("2022-06-01", "B", 100_000)),
        ("2023-01-10", "B", -math.inf),
    )
    account = run_fund(book, 1e6, dates, [0.0] * len(dates))
    out = [
        (f"{deal.date:%Y-%m}", deal.outcome.value, deal.amount) for deal in account.deals if deal.kind == "redemption"
    ]
    assert out == [
        ("2023-02", "waiting", math.inf),
        ("2023-03", "dealt", pytest.approx(100_000)),
        ("2023-03", "waiting", math.inf),
        ("2023-06", "dealt", pytest.approx(100_000)),
    ]
    assert "B" not in set(book.statement["investor"])
    assert book.waiting == ()


def test_a_lockup_of_a_year_is_twelve_months_whatever_day_the_first_session_falls_on() -> None:
    dates = list(pd.bdate_range("2022-12-01", "2024-02-29"))
    terms = FundTerms(management_fee_annual=0.0, incentive_fee=0.0, lockup_months=12)
    book = register(terms, 1e6, dates[0], ("2023-02-01", "B", 100_000), ("2023-12-30", "B", -100_000))
    account = run_fund(book, 1e6, dates, [0.0] * len(dates))
    assert account.deals[0].date == pd.Timestamp("2023-02-01")
    assert account.deals[-1].date == pd.Timestamp("2024-02-01")
    # Bought on 3 January, the first session of 2023 in a market closed on the 2nd; sold on 2 January 2024.
    dates = [day for day in dates if day != pd.Timestamp("2023-01-02")]
    book = register(terms, 1e6, dates[0], ("2023-01-01", "B", 100_000), ("2023-12-15", "B", -100_000))
    deals = run_fund(book, 1e6, dates, [0.0] * len(dates)).deals
    assert [f"{deal.date:%Y-%m-%d}" for deal in deals] == ["2023-01-03", "2024-01-01"]


def test_a_subscription_beyond_capacity_is_taken_up_to_it() -> None:
    days = sessions("2022-01-03", "2022-02-01", "2022-03-01", "2022-04-01")
    terms = FundTerms(management_fee_annual=0.0, incentive_fee=0.0, capacity=1_500_000)
    book = register(
        *(terms, 1e6, days[0], ("2022-01-10", "B", 800_000), ("2022-02-10", "C", 100_000)),
        *(("2022-03-10", "C", 100_000), ("2022-04-01", "founder", -50_000)),
    )
    account = run_fund(book, 1e6, days, [0, 0, 0.10, 0])
    rows = [(deal.investor, deal.outcome.value, deal.amount) for deal in account.deals]
    assert rows == [
        ("B", "dealt", pytest.approx(500_000)),
        ("B", "refused", pytest.approx(300_000)),
        ("C", "refused", pytest.approx(100_000)),
        # Profit took net assets to 1,650,000: what leaves in April makes no room under 1,500,000.
        ("founder", "dealt", pytest.approx(50_000)),
        ("C", "refused", pytest.approx(100_000)),
    ]
    assert "capacity, 1,500,000" in account.deals[1].detail


def test_a_redemption_makes_room_for_a_subscription_of_the_same_day() -> None:
    days = sessions("2022-01-03", "2022-02-01")
    terms = FundTerms(management_fee_annual=0.0, incentive_fee=0.0, capacity=1e6)
    book = register(terms, 1e6, days[0], ("2022-01-10", "B", 300_000), ("2022-01-20", "founder", -200_000))
    account = run_fund(book, 1e6, days, [0, 0])
    assert account.nav[-1] == pytest.approx(1e6)
    assert [(deal.investor, deal.amount) for deal in account.deals] == [
        ("founder", pytest.approx(200_000)),
        ("B", pytest.approx(200_000)),
        ("B", pytest.approx(100_000)),
    ]


def test_quarterly_dealing_waits_for_the_quarter() -> None:
    days = sessions("2022-01-03", "2022-02-01", "2022-03-01", "2022-04-01")
    terms = FundTerms(management_fee_annual=0.0, dealing="quarterly")
    account = run_fund(register(terms, 1e6, days[0], ("2022-01-10", "B", 1.0)), 1e6, days, [0.0] * 4)
    assert [deal.date for deal in account.deals] == [days[3]]


def test_more_than_is_held_pays_what_is_held_and_refuses_the_rest() -> None:
    days = sessions("2022-01-03", "2022-02-01", "2022-03-01")
    book = register(
        *(NO_FEE, 1e6, days[0], ("2022-02-01", "B", 100_000), ("2022-03-01", "B", -130_000)),
        ("2022-03-01", "nobody", -10.0),
    )
    deals = run_fund(book, 1e6, days, [0, 0, 0]).deals[1:]
    assert [(deal.outcome.value, deal.amount) for deal in deals] == [
        ("dealt", pytest.approx(100_000)),
        ("refused", pytest.approx(30_000)),
        ("refused", 10.0),
    ]
    assert "nobody holds no more units" in deals[2].detail


def test_all_of_the_fund_cannot_be_redeemed() -> None:
    days = sessions("2022-01-03", "2022-02-01")
    book = register(NO_FEE, 1e6, days[0], ("2022-02-01", "founder", -math.inf))
    account = run_fund(book, 1e6, days, [0, 0])
    assert account.nav[-1] == 1e6
    assert account.deals[0].outcome is Outcome.REFUSED
    assert "end the run before" in account.deals[0].detail


def test_requests_that_no_dealing_day_reached_stay_on_record() -> None:
    days = sessions("2022-01-03", "2022-01-31")
    book = register(NO_FEE, 1e6, days[0], ("2022-01-10", "B", 5.0), ("2022-02-01", "B", 6.0))
    assert not run_fund(book, 1e6, days, [0, 0]).deals
    assert [flow.amount for flow in book.waiting] == [5.0, 6.0]


# A path of net assets


def test_a_path_of_net_assets_is_met_on_dealing_days_and_left_to_performance_between() -> None:
    days = sessions("2022-01-03", "2022-02-01", "2022-02-15", "2022-03-01", "2022-04-01")
    terms = FundTerms(management_fee_annual=0.012, capacity=3e6, lockup_months=24)
    path = aum_path(list(zip(sessions("2022-01-20", "2022-02-25"), [3e6, 0.5e6], strict=True)))
    book = ShareRegister(terms, 1e6, days[0], flows=path)
    account = run_fund(book, 1e6, days, [0, 0.01, 0.02, 0, 0.05], finish=False)
    assert account.nav[1] == pytest.approx(3e6, abs=CENT)
    assert account.nav[2] == pytest.approx(3.06e6, abs=CENT)
    assert account.nav[3] == pytest.approx(0.5e6, abs=CENT)
    assert account.nav[4] == pytest.approx(0.5e6 * (1.05 - 0.001), abs=CENT)


def test_a_path_takes_the_latest_date_that_is_due() -> None:
    days = sessions("2022-01-03", "2022-03-01")
    path = aum_path(list(zip(sessions("2022-01-20", "2022-02-25"), [3e6, 2e6], strict=True)))
    assert run_fund(ShareRegister(NO_FEE, 1e6, days[0], flows=path), 1e6, days, [0, 0]).nav[-1] == pytest.approx(2e6)


def test_a_path_above_capacity_is_refused() -> None:
    with pytest.raises(DataError, match="above the fund's capacity"):
        ShareRegister(
            FundTerms(capacity=1e6),
            1e6,
            pd.Timestamp("2022-01-03"),
            flows=aum_path([(pd.Timestamp("2022-02-01"), 2e6)]),
        )


def test_a_flow_before_the_first_session_is_refused() -> None:
    with pytest.raises(DataError, match="2022-01-01 is before the first session, 2022-01-03"):
        register(NO_FEE, 1e6, pd.Timestamp("2022-01-03"), ("2022-01-01", "B", 1.0))
