"""Fees, series, dealing: hand-computed examples to the cent, and the identities that hold for any of them."""

from __future__ import annotations

import copy
import math
import pickle

import numpy as np
import pandas as pd
import pytest
from fund_days import CENT, NO_FEE, register, run_fund, sessions, value_of
from hypothesis import given, settings
from hypothesis import strategies as st

from backtest.dealing import DealKind, Outcome
from backtest.flows import Flow, Flows
from backtest.fund_terms import FundTerms
from backtest.ledger import LedgerError
from backtest.share_register import ShareRegister
from risk import DataError

INCENTIVE = FundTerms(management_fee_annual=0.0)
YEARS = sessions("2022-01-03", "2022-12-30", "2023-01-03", "2023-12-29", "2024-01-02", "2024-12-31")
"""First and last sessions of three years; the second of each pair earns the year's return."""


# One investor


def test_without_flows_the_fees_are_a_twelfth_in_advance_and_a_share_of_the_calendar_years_profit() -> None:
    rng = np.random.default_rng(5)
    dates = list(pd.bdate_range("2021-03-09", "2023-08-17"))
    returns = rng.normal(0.0003, 0.01, len(dates))
    book = ShareRegister(FundTerms(), 70e6, dates[0])
    nav = start = 70e6
    for t, date in enumerate(dates):
        charges = book.open_day(date, nav)
        incentive = 0.0
        if t and date.year != dates[t - 1].year:
            incentive = 0.20 * max(nav - start, 0.0)
            start = nav - incentive
        management = 0.0
        if t == 0 or date.month != dates[t - 1].month:
            management = max(nav - incentive, 0.0) * 0.01 / 12
        # To the last bit: one mechanism for one investor and for many.
        assert (charges.management_fee, charges.incentive_fee) == (management, incentive)
        assert book.lead_fees == (management / nav, incentive / nav)
        nav += nav * returns[t] - management - incentive
        book.close_day(nav)
        assert not book.deal().deals
    assert book.finish(nav).incentive_fee == 0.20 * max(nav - start, 0.0)


@pytest.mark.parametrize(
    ("mark", "fees"),
    [(True, [20_000.00, 0.00, 7_560.00]), (False, [20_000.00, 0.00, 29_160.00])],
)
def test_a_high_water_mark_asks_that_a_losing_year_be_made_good(mark: bool, fees: list[float]) -> None:
    # 1,000,000 -> 1,100,000 - 20,000 -> 972,000 -> 1,117,800; the mark is 1,080,000.
    terms = FundTerms(management_fee_annual=0.0, high_water_mark=mark)
    account = run_fund(ShareRegister(terms, 1e6, YEARS[0]), 1e6, YEARS, [0, 0.10, 0, -0.10, 0, 0.15])
    assert [account.incentive[t] for t in (2, 4, 5)] == pytest.approx(fees, abs=CENT)
    assert account.nav[-1] == pytest.approx(1_117_800 - fees[2], abs=CENT)


def test_the_incentive_fee_is_on_profit_after_the_management_fee() -> None:
    # 1,000,000 - 1,000 = 999,000; + 10 % = 1,098,900; 20 % of 98,900 = 19,780.
    days = sessions("2023-12-01", "2023-12-29", "2024-01-02")
    account = run_fund(
        ShareRegister(FundTerms(management_fee_annual=0.012), 1e6, days[0]), 1e6, days, [0, 0.10, 0], finish=False
    )
    assert account.management == pytest.approx([1_000.00, 0.00, (1_098_900 - 19_780) * 0.001], abs=CENT)
    assert account.incentive == pytest.approx([0.00, 0.00, 19_780.00], abs=CENT)


@pytest.mark.parametrize(
    ("calendar", "fees"),
    [
        # +1 % in each of four months, 20 %: 0.2 % of 1,000,000, and so on from what is left.
        ("monthly", {"2024-02-01": 2_000.00, "2024-03-01": 2_016.00, "2024-04-01": 2_032.13, "2024-04-30": 2_048.39}),
        # Three months: 1,030,301.00 pays 6,060.20; one month more on the 1,024,240.80 that are left.
        ("quarterly", {"2024-04-01": 6_060.20, "2024-04-30": 2_048.48}),
        # Four months: 1,040,604.01.
        ("yearly", {"2024-04-30": 8_120.80}),
    ],
)
def test_crystallisation_takes_the_fee_when_a_period_has_ended(calendar: str, fees: dict[str, float]) -> None:
    days = sessions(
        *(
            "2024-01-02",
            "2024-01-31",
            "2024-02-01",
            "2024-02-29",
            "2024-03-01",
            "2024-03-28",
            "2024-04-01",
            "2024-04-30",
        )
    )
    terms = FundTerms.model_validate({"management_fee_annual": 0.0, "crystallisation": calendar})
    account = run_fund(ShareRegister(terms, 1e6, days[0]), 1e6, days, [0, 0.01] * 4)
    assert account.incentive == pytest.approx([fees.get(f"{day:%Y-%m-%d}", 0.0) for day in days], abs=CENT)


def test_a_hurdle_frees_its_return_pro_rata_of_the_year() -> None:
    # 4 January to 29 December is 359 days: 5 % x 359/365 of 1,000,000 = 49,178.08; 20 % of (100,000 - 49,178.08) = 10,164.38.
    days = sessions("2023-01-04", "2023-12-29", "2024-01-02")
    terms = FundTerms(management_fee_annual=0.0, hurdle_annual=0.05)
    account = run_fund(ShareRegister(terms, 1e6, days[0]), 1e6, days, [0, 0.10, 0])
    assert account.incentive[2] == pytest.approx(10_164.38, abs=CENT)
    low = run_fund(ShareRegister(terms, 1e6, days[0]), 1e6, days, [0, 0.04, 0])
    assert low.incentive == [0.0, 0.0, 0.0]


def test_a_hurdle_starts_again_with_the_period() -> None:
    # 2023: 1,100,000 less 10,164.38 = 1,089,835.62. 2024: 29 December to 31 December 2024 is 368 days, 5.0411 % of that is
    # 54,939.66; 20 % of (10 % of it, 108,983.56, less 54,939.66) = 10,808.78.
    days = sessions("2023-01-04", "2023-12-29", "2024-01-02", "2024-12-31")
    terms = FundTerms(management_fee_annual=0.0, hurdle_annual=0.05)
    account = run_fund(ShareRegister(terms, 1e6, days[0]), 1e6, days, [0, 0.10, 0, 0.10])
    assert account.incentive == pytest.approx([0.00, 0.00, 10_164.38, 10_808.78], abs=CENT)


# Several investors


def test_each_series_pays_on_its_own_profit() -> None:
    # A 1,000,000 + 10 %, then B 500,000; - 5 %: A 1,045,000 pays 9,000, B 475,000 nothing. Then + 10 %: A 1,139,600 pays 20,720;
    # B 522,500 pays 20 % of 22,500 above its mark of 500,000.
    days = sessions("2022-01-03", "2022-07-01", "2022-12-30", "2023-01-03", "2023-12-29", "2024-01-02")
    terms = FundTerms(management_fee_annual=0.0, high_water_mark=True)
    book = register(terms, 1e6, days[0], ("2022-06-15", "B", 500_000))
    account = run_fund(book, 1e6, days, [0, 0.10, -0.05, 0, 0.10, 0], finish=False)
    assert account.nav[1] == pytest.approx(1_600_000, abs=CENT)
    assert account.incentive[3] == pytest.approx(9_000.00, abs=CENT)
    assert account.incentive[5] == pytest.approx(20_720.00 + 4_500.00, abs=CENT)
    assert value_of(book, "founder") == pytest.approx(1_118_880.00, abs=CENT)
    assert value_of(book, "B") == pytest.approx(518_000.00, abs=CENT)
    per_unit = book.statement.set_index("investor")["nav_per_unit"]
    assert per_unit["founder"] == pytest.approx(111.888)
    assert per_unit["B"] == pytest.approx(103.60)


def test_without_equalisation_a_newcomer_pays_on_profit_made_before() -> None:
    # The pool: 1,100,000 + 500,000, - 5 % = 1,520,000, 20,000 above its mark of 1,500,000: 4,000, of which B bears 5/16.
    days = sessions("2022-01-03", "2022-07-01", "2022-12-30", "2023-01-03")
    terms = FundTerms(management_fee_annual=0.0, equalisation="none")
    book = register(terms, 1e6, days[0], ("2022-06-15", "B", 500_000))
    account = run_fund(book, 1e6, days, [0, 0.10, -0.05, 0], finish=False)
    assert account.incentive[3] == pytest.approx(4_000.00, abs=CENT)
    assert value_of(book, "B") == pytest.approx(475_000 - 1_250.00, abs=CENT)
    assert account.deals[0].units == pytest.approx(500_000 / 110)


def test_without_equalisation_a_newcomer_earns_a_loss_back_free_of_fee() -> None:
    # 1,000,000 - 20 % = 800,000, then B 800,000, + 10 %: 1,760,000 is under the mark of 1,800,000.
    days = sessions("2022-01-03", "2022-07-01", "2022-12-30", "2023-01-03")
    shared = FundTerms(management_fee_annual=0.0, equalisation="none", high_water_mark=True)
    own = FundTerms(management_fee_annual=0.0, high_water_mark=True)
    paid = {}
    for terms in (shared, own):
        book = register(terms, 1e6, days[0], ("2022-06-15", "B", 800_000))
        paid[terms.equalisation] = run_fund(book, 1e6, days, [0, -0.20, 0.10, 0], finish=False).incentive[3]
    assert paid == pytest.approx({"none": 0.00, "series": 16_000.00}, abs=CENT)


def test_without_equalisation_the_fee_on_the_whole_is_on_the_profit_of_the_whole() -> None:
    # 998,001 + 500,000 - 500 = 1,497,501, + 10 % = 1,647,251.10; 1,500,000 were paid in: 20 % of 147,251.10.
    days = sessions("2022-01-03", "2022-02-01", "2022-02-28")
    terms = FundTerms(management_fee_annual=0.012, equalisation="none")
    book = register(terms, 1e6, days[0], ("2022-02-01", "B", 500_000))
    account = run_fund(book, 1e6, days, [0, 0, 0.10])
    assert account.incentive == pytest.approx([0.00, 0.00, 29_450.22], abs=CENT)


def test_a_partial_redemption_takes_its_part_of_the_fee_and_leaves_the_mark_of_the_rest() -> None:
    # 120 per unit less 20 % of 20: 116. 290,000 is 2,500 units, which pay 10,000. The rest: 900,000, + 10 % = 990,000,
    # against its mark of 750,000: 48,000.
    days = sessions("2022-01-03", "2022-07-01", "2022-12-30")
    book = register(INCENTIVE, 1e6, days[0], ("2022-06-30", "founder", -290_000))
    account = run_fund(book, 1e6, days, [0, 0.20, 0.10])
    (deal,) = account.deals
    assert (deal.kind, deal.outcome) == (DealKind.REDEMPTION, Outcome.DEALT)
    assert (deal.amount, deal.units, deal.price) == pytest.approx((290_000.00, 2_500, 116.0))
    assert deal.incentive_fee == pytest.approx(10_000.00, abs=CENT)
    assert account.nav[1] == pytest.approx(900_000.00, abs=CENT)
    assert account.incentive[2] == pytest.approx(48_000.00, abs=CENT)
    assert book.nav_per_share == pytest.approx((990_000 - 48_000) / 7_500)


def test_a_redemption_takes_the_oldest_units_first() -> None:
    days = sessions("2022-01-03", "2022-02-01", "2022-03-01", "2022-04-01")
    book = register(
        NO_FEE, 1e6, days[0], ("2022-02-01", "B", 100_000), ("2022-03-01", "B", 100_000), ("2022-04-01", "B", -165_000)
    )
    account = run_fund(book, 1e6, days, [0, 0, 0.10, 0])
    out = [deal for deal in account.deals if deal.kind is DealKind.REDEMPTION]
    # The first lot is worth 110,000; 55,000 of the second's 100,000 follow.
    assert [(deal.series, deal.amount) for deal in out] == [(1, pytest.approx(110_000)), (2, pytest.approx(55_000))]
    assert value_of(book, "B") == pytest.approx(45_000.00, abs=CENT)


def test_capital_pays_the_months_fee_for_months_that_it_is_in_the_fund() -> None:
    # 0.1 % a month. February: 999,000 pays 999; B's 500,000 pay 500. March: 998,001 pays 998.00; a quarter of A leaves at its worth
    # before that, 99.8001 a unit, and gets 249.50 of it back; B's 499,500 pay 499.50.
    days = sessions("2022-01-03", "2022-02-01", "2022-03-01")
    terms = FundTerms(management_fee_annual=0.012, incentive_fee=0.0)
    book = register(terms, 1e6, days[0], ("2022-02-01", "B", 500_000), ("2022-03-01", "founder", -249_500.25))
    account = run_fund(book, 1e6, days, [0, 0, 0])
    assert account.management == pytest.approx([1_000.00, 999.00 + 500.00, 998.00 + 499.50 - 249.50], abs=CENT)
    deal = account.deals[-1]
    assert (deal.units, deal.price) == pytest.approx((2_500, 99.8001))
    assert deal.management_fee == pytest.approx(-249.50, abs=CENT)
    assert value_of(book, "founder") == pytest.approx(0.75 * 997_003.00, abs=CENT)
    assert account.deals[0].price == pytest.approx(100.0)


@pytest.mark.parametrize("nav", [0.0, -1.0, math.nan, math.inf])
def test_a_start_without_money_is_refused(nav: float) -> None:
    with pytest.raises(DataError, match="positive amount"):
        ShareRegister(NO_FEE, nav, pd.Timestamp("2022-01-03"))


def test_a_leaver_pays_the_incentive_fee_on_worth_before_the_month_that_has_just_begun() -> None:
    # January: 1,000,000 - 1,000, + 10 % = 1,098,900. February charges 1,098.90; a unit leaves at 109.89 less 20 % of 9.89.
    days = sessions("2022-01-03", "2022-01-31", "2022-02-01")
    terms = FundTerms(management_fee_annual=0.012)
    book = register(terms, 1e6, days[0], ("2022-02-01", "founder", -269_780.00))
    account = run_fund(book, 1e6, days, [0, 0.10, 0], finish=False)
    (deal,) = account.deals
    assert (deal.units, deal.price) == pytest.approx((2_500, 107.912))
    assert deal.incentive_fee == pytest.approx(4_945.00, abs=CENT)
    assert account.nav[-1] == pytest.approx(0.75 * (1_098_900 - 1_098.90), abs=CENT)


def test_books_that_differ_from_the_register_are_a_defect() -> None:
    book = ShareRegister(NO_FEE, 1e6, pd.Timestamp("2022-01-03"))
    with pytest.raises(LedgerError, match="1,000,000"):
        book.open_day(pd.Timestamp("2022-01-03"), 1e6 + 0.01)


# What holds for any of them

TERMS = st.builds(
    FundTerms,
    management_fee_annual=st.sampled_from([0.0, 0.01, 0.02]),
    incentive_fee=st.sampled_from([0.0, 0.2, 1.0]),
    crystallisation=st.sampled_from(["monthly", "quarterly", "yearly"]),
    high_water_mark=st.booleans(),
    hurdle_annual=st.sampled_from([0.0, 0.05]),
    equalisation=st.sampled_from(["series", "none"]),
    lockup_months=st.sampled_from([0, 3]),
    notice_days=st.sampled_from([0, 40]),
    dealing=st.sampled_from(["monthly", "quarterly"]),
    capacity=st.sampled_from([None, 2e6]),
)
AMOUNT = st.one_of(st.floats(1e3, 2e6), st.floats(-1e6, -1e3), st.just(-math.inf))
REQUESTS = st.lists(st.tuples(st.integers(0, 250), st.sampled_from(["founder", "B", "C"]), AMOUNT), max_size=12)
DATES = list(pd.bdate_range("2022-11-07", "2023-10-27"))


def requested(rows: list[tuple[int, str, float]]) -> Flows:
    return Flows(tuple(Flow(DATES[min(day, len(DATES) - 1)], name, money) for day, name, money in sorted(rows)))


def random_returns(seed: int) -> list[float]:
    return np.random.default_rng(seed).normal(0.0003, 0.012, len(DATES)).tolist()


@settings(max_examples=40, deadline=None)
@given(terms=TERMS, rows=REQUESTS, seed=st.integers(0, 2**20))
def test_what_came_in_less_what_went_out_and_what_was_charged_is_what_is_there(
    terms: FundTerms, rows: list[tuple[int, str, float]], seed: int
) -> None:
    book = ShareRegister(terms, 1e6, DATES[0], flows=requested(rows))
    # run_fund asserts every day that units times net assets per unit are the fund's net assets, to the cent.
    returns = random_returns(seed)
    account = run_fund(book, 1e6, DATES, returns)
    before = np.array([1e6, *account.nav[:-1]])
    charged = np.sum(account.management) + np.sum(account.incentive)
    assert account.nav[-1] == pytest.approx(1e6 + before @ returns - charged + np.sum(account.flow), abs=CENT)
    assert min(account.incentive) >= 0
    # Net assets per share compound the net return, which is the return before fees less the first series' own fees.
    assert account.per_share == pytest.approx(100 * np.cumprod(1 + np.array(account.net_return)), rel=1e-10)
    table = book.statement
    assert (table["units"] > 0).all()
    assert table["value"].sum() == pytest.approx(account.nav[-1], abs=CENT)
    if terms.capacity is not None:
        came = np.array([flow > 0 for flow in account.flow])
        assert (np.array(account.nav)[came] <= terms.capacity + CENT).all()


@settings(max_examples=40, deadline=None)
@given(terms=TERMS, rows=REQUESTS, seed=st.integers(0, 2**20))
def test_flows_do_not_change_the_net_return_where_each_subscription_is_a_series(
    terms: FundTerms, rows: list[tuple[int, str, float]], seed: int
) -> None:
    terms = terms.model_copy(update={"equalisation": "series"})
    alone = run_fund(ShareRegister(terms, 1e6, DATES[0]), 1e6, DATES, random_returns(seed))
    book = ShareRegister(terms, 1e6, DATES[0], flows=requested(rows))
    together = run_fund(book, 1e6, DATES, random_returns(seed))
    assert together.net_return == pytest.approx(alone.net_return, abs=1e-12)
    assert together.per_share == pytest.approx(alone.per_share, rel=1e-10)


@settings(max_examples=30, deadline=None)
@given(terms=TERMS, day=st.integers(0, 150), seed=st.integers(0, 2**20))
def test_a_series_is_worth_what_a_fund_of_its_own_would_be(terms: FundTerms, day: int, seed: int) -> None:
    terms = terms.model_copy(update={"equalisation": "series", "capacity": None})
    returns = random_returns(seed)
    book = ShareRegister(terms, 1e6, DATES[0], flows=requested([(day, "B", 3e5)]))
    deal = run_fund(book, 1e6, DATES, returns).deals[0]
    at = DATES.index(deal.date)
    own = ShareRegister(terms, 3e5, DATES[at])
    # Its first day is the close of the dealing day: the month's fee, and no return.
    alone = run_fund(own, 3e5, DATES[at:], [0.0, *returns[at + 1 :]])
    assert value_of(book, "B") == pytest.approx(alone.nav[-1], abs=CENT)


def test_leaving_everybody_is_paid_what_was_earned_on_the_way() -> None:
    """A founder who leaves entirely does not end the series that the net return follows."""
    days = sessions("2022-01-03", "2022-02-01", "2022-03-01", "2022-04-01", "2022-04-29")
    book = register(
        INCENTIVE,
        1e6,
        days[0],
        ("2022-02-01", "B", 2e6),
        ("2022-03-01", "founder", -math.inf),
        ("2022-04-01", "C", 1e6),
    )
    account = run_fund(book, 1e6, days, [0, 0.10, 0.10, -0.05, 0.02])
    # 121 less 20 % of 21.
    assert account.deals[1].price == pytest.approx(116.80)
    assert account.deals[1].amount == pytest.approx(1_168_000.00, abs=CENT)
    assert set(book.statement["investor"]) == {"B", "C"}
    gain = 1.1 * 1.1 * 0.95 * 1.02 - 1
    assert book.nav_per_share == pytest.approx(100 * (1 + 0.8 * gain))


@pytest.mark.parametrize("equalisation", ["series", "none"])
def test_a_register_that_was_stored_goes_on_to_the_last_bit(equalisation: str) -> None:
    terms = FundTerms.model_validate({"equalisation": equalisation, "lockup_months": 2, "high_water_mark": True})
    rows = [(3, "B", 4e5), (60, "C", 2e5), (70, "B", -1e5), (90, "founder", -3e5), (140, "C", -math.inf)]
    book = ShareRegister(terms, 1e6, DATES[0], flows=requested(rows))
    returns = random_returns(1)
    nav = run_fund(book, 1e6, DATES[:100], returns[:100], finish=False).nav[-1]
    for again in (pickle.loads(pickle.dumps(book)), copy.deepcopy(book)):
        kept = copy.deepcopy(book)
        a = run_fund(kept, nav, DATES[100:], returns[100:])
        b = run_fund(again, nav, DATES[100:], returns[100:])
        assert (a.nav, a.deals, a.net_return) == (b.nav, b.deals, b.net_return)
        pd.testing.assert_frame_equal(kept.statement, again.statement, check_exact=True)
