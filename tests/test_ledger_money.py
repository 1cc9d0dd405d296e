"""Financing and currencies, long and short, computed by hand: every line and cent of the day.

Each book starts on Friday 2024-01-05; to Monday it is three days.
"""

from __future__ import annotations

import numpy as np
import pytest
from ledger_book import Book, event

from backtest.events import EventKind
from backtest.ledger_rules import FinancingRule, LedgerRules
from engine import TradeCosts
from risk import DataError

MONDAY, TUESDAY = "2024-01-08", "2024-01-09"
ACTUAL_360 = LedgerRules(financing=FinancingRule(spread=0.006, borrow_fee=0.0036, day_count=360))
RATES = {"USD": 0.036}


# One currency


def test_interest_on_cash_over_a_weekend() -> None:
    book = Book(950_000, {"A": 1_000}, rules=ACTUAL_360, rates=RATES)
    day = book.pass_day(MONDAY)
    # 950,000 x 3.6 % x 3 / 360
    book.check(
        day,
        cash=950_285,
        shares={"A": 1_000},
        value={"A": 50_000},
        nav=1_000_285,
        credit_interest=950_000 * 0.036 * 3 / 360,
    )


def test_interest_on_cash_less_a_spread() -> None:
    rules = LedgerRules(financing=FinancingRule(cash_spread=0.012, day_count=360))
    book = Book(1_000_000, {}, rules=rules, rates=RATES)
    day = book.pass_day(MONDAY)
    book.check(day, cash=1_000_200, shares={}, value={}, nav=1_000_200, credit_interest=1_000_000 * 0.024 * 3 / 360)


def test_interest_on_debt_is_the_rate_and_a_spread() -> None:
    book = Book(-500_000, {"A": 30_000}, rules=ACTUAL_360, rates=RATES)
    day = book.pass_day(MONDAY)
    # 1,500,000 of longs, a million of it one's own: 500,000 x 4.2 % x 3 / 360
    book.check(
        day,
        cash=-500_175,
        shares={"A": 30_000},
        value={"A": 1_500_000},
        nav=999_825,
        debit_interest=-500_000 * 0.042 * 3 / 360,
    )


def test_rates_are_those_of_the_close_before() -> None:
    book = Book(1_000_000, {}, rules=ACTUAL_360, rates=RATES)
    book.pass_day(MONDAY, rates={"USD": 0.072})
    day = book.pass_day(TUESDAY, rates={"USD": 0.0})
    # One day at 7.2 %, on 1,000,300.
    book.check(
        day, cash=1_000_500.06, shares={}, value={}, nav=1_000_500.06, credit_interest=1_000_300 * 0.072 * 1 / 360
    )


def test_a_short_earns_a_rebate_and_pays_a_fee_over_a_weekend() -> None:
    book = Book(1_050_000, {"A": -1_000}, rules=ACTUAL_360, rates=RATES)
    day = book.pass_day(MONDAY)
    # A million of one's own at 3.6 %: 300. Proceeds of 50,000 at 3.6 %: 15. The fund's fee of 0.36 %: 1.50.
    book.check(
        day,
        cash=1_050_313.50,
        shares={"A": -1_000},
        value={"A": -50_000},
        nav=1_000_313.50,
        credit_interest=300,
        rebate=15,
        borrow_fee=-1.50,
    )


def test_each_short_has_its_own_fee_and_rebate_where_they_are_known() -> None:
    book = Book(
        1_000_000 + 50_000 + 13_000,
        {"A": -1_000, "B": -100},
        rules=ACTUAL_360,
        rates=RATES,
        borrow_fee={"A": 0.108},
        rebate={"A": -0.012},
    )
    day = book.pass_day(MONDAY)
    # Fees: 50,000 x 10.8 % + 13,000 x 0.36 %, over 120. Rebates: -50,000 x 1.2 % + 13,000 x 3.6 %, over 120.
    book.check(
        day,
        cash=1_063_000 + 300 - 45.39 - 1.10,
        shares={"A": -1_000, "B": -100},
        value={"A": -50_000, "B": -13_000},
        nav=1_000_253.51,
        credit_interest=300,
        borrow_fee=-(45 + 0.39),
        rebate=-5 + 3.90,
    )


def test_a_long_short_book_pays_on_longs_beyond_net_assets() -> None:
    # 2 million long, 2 million short, a million of one's own: cash is a million, its proceeds two.
    book = Book(1_000_000, {"A": 40_000, "C": -50_000}, rules=ACTUAL_360, rates=RATES)
    day = book.pass_day(MONDAY)
    book.check(
        day,
        cash=1_000_000 - 350 + 600 - 60,
        shares={"A": 40_000, "C": -50_000},
        value={"A": 2_000_000, "C": -2_000_000},
        nav=1_000_190,
        debit_interest=-1_000_000 * 0.042 * 3 / 360,
        rebate=2_000_000 * 0.036 * 3 / 360,
        borrow_fee=-2_000_000 * 0.0036 * 3 / 360,
    )


def test_without_rates_debt_pays_the_spread_and_cash_earns_nothing() -> None:
    book = Book(1_000_000, {"A": 40_000, "C": -50_000}, rules=ACTUAL_360)
    day = book.pass_day(MONDAY)
    book.check(
        day,
        cash=1_000_000 - 50 - 60,
        shares={"A": 40_000, "C": -50_000},
        value={"A": 2_000_000, "C": -2_000_000},
        nav=999_890,
        debit_interest=-1_000_000 * 0.006 * 3 / 360,
        borrow_fee=-2_000_000 * 0.0036 * 3 / 360,
    )


def test_a_rate_that_is_not_known_is_refused() -> None:
    book = Book(1_000_000, {}, rates={"USD": float("nan")})
    with pytest.raises(DataError, match="the rate of 'USD' is not known on 2024-01-05"):
        book.pass_day(MONDAY)


# Two currencies: C is quoted in euros, at 40; a euro is 1.10


def euros(cash: float, shares: dict[str, float], **more: object) -> Book:
    return Book(cash, shares, currency={"C": "EUR"}, fx={"EUR": 1.10}, **more)


@pytest.mark.parametrize("sign", [1, -1])
def test_a_position_in_euros_gains_by_price_and_by_currency(sign: int) -> None:
    book = euros(1_000_000 - sign * 44_000, {"C": sign * 1_000})
    day = book.pass_day(MONDAY, r={"C": 0.05}, fx={"EUR": 1.12})
    # 40,000 euros gain 2 cents each; 2,000 euros more are 1.12 each.
    book.check(
        day,
        cash=1_000_000 - sign * 44_000,
        shares={"C": sign * 1_000},
        value={"C": sign * 47_040},
        nav=1_000_000 + sign * 3_040,
        fx=sign * 40_000 * 0.02,
        price=sign * 2_000 * 1.12,
    )
    assert day.pnl[2] == pytest.approx(sign * 3_040, abs=0.005)


@pytest.mark.parametrize("sign", [1, -1])
def test_a_trade_in_euros_settles_in_euros_and_the_cash_moves_with_the_currency(sign: int) -> None:
    book = euros(1_000_000, {})
    book.order(C=sign * 500)
    day = book.pass_day(MONDAY)
    book.check(
        day,
        cash={"USD": 1_000_000, "EUR": -sign * 20_000},
        shares={"C": sign * 500},
        value={"C": sign * 22_000},
        nav=1_000_000,
    )
    # Bought for euros that are owed: the currency moves both sides, and only the gain of 1,000 euros counts.
    day = book.pass_day(TUESDAY, r={"C": 0.05}, fx={"EUR": 1.20})
    book.check(
        day,
        cash={"USD": 1_000_000, "EUR": -sign * 20_000},
        shares={"C": sign * 500},
        value={"C": sign * 25_200},
        nav=1_000_000 + sign * 1_200,
        price=sign * 1_000 * 1.20,
    )
    assert (day.pnl[2], day.fx_on_cash) == (pytest.approx(sign * 3_200), pytest.approx(-sign * 2_000))


@pytest.mark.parametrize("sign", [1, -1])
def test_a_trade_in_euros_costs_euros(sign: int) -> None:
    book = euros(1_000_000, {}, rules=LedgerRules(commission=1e-4))
    book.ledger.set_costs(np.ones(4, dtype=bool), TradeCosts([6e-4] * 4, [0.0] * 4, annualisation=10), 1_000_000)
    book.order(C=sign * 500)
    day = book.pass_day(MONDAY)
    # 5 and 1 basis points of 20,000 euros are 10 and 2 euros, 11.00 and 2.20 dollars.
    book.check(
        day,
        cash={"USD": 1_000_000, "EUR": -sign * 20_000 - 12},
        shares={"C": sign * 500},
        value={"C": sign * 22_000},
        nav=1_000_000 - 13.20,
        spread=-11.00,
        commission=-2.20,
    )


@pytest.mark.parametrize("sign", [1, -1])
def test_a_sweep_converts_the_cash_of_a_trade_at_a_cost(sign: int) -> None:
    book = euros(1_000_000, {}, rules=LedgerRules(fx_cost=2e-4))
    book.order(C=sign * 500)
    day = book.pass_day(MONDAY, sweep=True)
    # 20,000 euros are 22,000 dollars, and 2 basis points of them 4.40.
    book.check(
        day,
        cash=1_000_000 - sign * 22_000 - 4.40,
        shares={"C": sign * 500},
        value={"C": sign * 22_000},
        nav=999_995.60,
        fx_cost=-4.40,
    )


@pytest.mark.parametrize("sign", [1, -1])
def test_a_full_hedge_leaves_no_exposure_to_the_currency(sign: int) -> None:
    book = euros(1_000_000 - sign * 44_000, {"C": sign * 1_000}, rules=LedgerRules(fx_hedge="full", fx_cost=2e-4))
    day = book.pass_day(MONDAY, sweep=True)
    # 40,000 euros borrowed (lent) and sold (bought) for 44,000 dollars, less 8.80.
    book.check(
        day,
        cash={"USD": 1_000_000 - 8.80, "EUR": -sign * 40_000},
        shares={"C": sign * 1_000},
        value={"C": sign * 44_000},
        nav=999_991.20,
        fx_cost=-8.80,
    )
    day = book.pass_day(TUESDAY, fx={"EUR": 1.30})
    book.check(
        day,
        cash={"USD": 1_000_000 - 8.80, "EUR": -sign * 40_000},
        shares={"C": sign * 1_000},
        value={"C": sign * 52_000},
        nav=999_991.20,
    )


def test_interest_and_fees_by_currency() -> None:
    rates = {"USD": 0.036, "EUR": 0.024}
    book = euros(1_000_000, {"C": -1_000}, rules=ACTUAL_360, rates=rates)
    # 40,000 euros short, and no euros: the proceeds were converted, so they are owed.
    day = book.pass_day(MONDAY, fx={"EUR": 1.12})
    # Debt of 40,000 euros at 3 %, rebate at 2.4 %, fee of 0.36 %, each over 120, at 1.12; a million dollars at 3.6 %.
    book.check(
        day,
        cash={"USD": 1_000_300, "EUR": -10 + 8 - 1.20},
        shares={"C": -1_000},
        value={"C": -44_800},
        nav=1_000_300 - 3.20 * 1.12 - 44_800,
        fx=-40_000 * 0.02,
        credit_interest=300,
        debit_interest=-10 * 1.12,
        rebate=8 * 1.12,
        borrow_fee=-1.20 * 1.12,
    )


@pytest.mark.parametrize("sign", [1, -1])
def test_a_dividend_in_euros(sign: int) -> None:
    book = euros(1_000_000 - sign * 44_000, {"C": sign * 1_000})
    paid = [event(EventKind.DIVIDEND, "C", amount=0.5)]
    day = book.pass_day(MONDAY, close={"C": 39.5}, fx={"EUR": 1.20}, events=paid)
    book.check(
        day,
        cash={"USD": 1_000_000 - sign * 44_000, "EUR": sign * 500},
        shares={"C": sign * 1_000},
        value={"C": sign * 39_500 * 1.20},
        nav=1_000_000 + sign * 4_000,
        fx=sign * 40_000 * 0.10,
        price=-sign * 500 * 1.20,
        dividend=sign * 500 * 1.20,
    )


@pytest.mark.parametrize("sign", [1, -1])
def test_a_merger_across_currencies(sign: int) -> None:
    book = euros(1_000_000 - sign * 50_000, {"A": sign * 1_000})
    # Half a share of C at 40 euros of 1.20, and 28 dollars: 52 for a share of 50.
    swap = [event(EventKind.MERGER, "A", ratio=0.5, amount=28, new="C")]
    day = book.pass_day(MONDAY, shut="A", fx={"EUR": 1.20}, events=swap)
    book.check(
        day,
        cash=1_000_000 - sign * 50_000 + sign * 28_000,
        shares={"C": sign * 500},
        value={"C": sign * 24_000},
        nav=1_000_000 + sign * 2_000,
        price=sign * 2_000,
    )


@pytest.mark.parametrize("sign", [1, -1])
def test_a_merger_into_an_asset_abroad_without_a_close(sign: int) -> None:
    book = Book(1_000_000 - sign * 50_000, {"A": sign * 1_000}, currency={"D": "EUR"}, fx={"EUR": 1.10})
    # A share of 50 dollars becomes 2 of D: 25 dollars, 20 euros of 1.25, each.
    swap = [event(EventKind.MERGER, "A", ratio=2, new="D")]
    day = book.pass_day(MONDAY, shut="A", fx={"EUR": 1.25}, events=swap)
    held = {"cash": 1_000_000 - sign * 50_000, "shares": {"D": sign * 2_000}}
    book.check(day, **held, value={"D": sign * 50_000}, nav=1_000_000)
    assert book.ledger.price[3] == pytest.approx(20.0)
    del book.close["A"]
    day = book.pass_day(TUESDAY, close={"D": 21.0}, fx={"EUR": 1.20})
    book.check(
        day,
        **held,
        value={"D": sign * 50_400},
        nav=1_000_000 + sign * 400,
        fx=-sign * 40_000 * 0.05,
        price=sign * 2_000 * 1.20,
    )


@pytest.mark.parametrize("sign", [1, -1])
def test_a_spin_off_in_another_currency(sign: int) -> None:
    book = euros(1_000_000 - sign * 50_000, {"A": sign * 1_000})
    # 0.2 shares of C at 40 euros of 1.25 are 10 dollars; A closes at 41: together 51.
    spun = [event(EventKind.SPIN_OFF, "A", ratio=0.2, new="C")]
    day = book.pass_day(MONDAY, r={"A": 0.02}, close={"A": 41.0}, fx={"EUR": 1.25}, events=spun)
    book.check(
        day,
        cash=1_000_000 - sign * 50_000,
        shares={"A": sign * 1_000, "C": sign * 200},
        value={"A": sign * 41_000, "C": sign * 10_000},
        nav=1_000_000 + sign * 1_000,
        price=sign * 1_000,
    )


@pytest.mark.parametrize("sign", [1, -1])
def test_a_holiday_abroad_while_the_currency_moves(sign: int) -> None:
    book = euros(1_000_000 - sign * 44_000, {"C": sign * 1_000})
    held = {"cash": 1_000_000 - sign * 44_000, "shares": {"C": sign * 1_000}}
    day = book.pass_day(MONDAY, shut="C", fx={"EUR": 1.20})
    book.check(day, **held, value={"C": sign * 48_000}, nav=1_000_000 + sign * 4_000, fx=sign * 4_000)
    day = book.pass_day(TUESDAY, r={"C": 0.1}, fx={"EUR": 1.00})
    book.check(
        day,
        **held,
        value={"C": sign * 44_000},
        nav=1_000_000,
        fx=-sign * 40_000 * 0.20,
        price=sign * 4_000 * 1.00,
    )


@pytest.mark.parametrize(("sign", "left"), [(1, 28_000), (-1, -28_000)])
def test_a_delisting_in_euros(sign: int, left: float) -> None:
    book = euros(1_000_000 - sign * 44_000, {"C": sign * 1_000}, rules=LedgerRules(delisting={"": -0.3}))
    event_ = [event(EventKind.DELISTING, "C", amount=float("nan"))]
    day = book.pass_day(MONDAY, shut="C", fx={"EUR": 1.20}, events=event_)
    book.check(
        day,
        cash={"USD": 1_000_000 - sign * 44_000, "EUR": left},
        shares={},
        value={},
        nav=1_000_000 - sign * 44_000 + left * 1.20,
        fx=sign * 40_000 * 0.10,
        delisting=-sign * 12_000 * 1.20,
    )


@pytest.mark.parametrize("rate", [0.0, float("nan")])
def test_an_exchange_rate_that_is_not_positive_is_refused(rate: float) -> None:
    with pytest.raises(DataError, match=r"`fx`: 'EUR' is .* on 2024-01-08 and must be positive"):
        euros(1_000_000, {"C": 100}).pass_day(MONDAY, fx={"EUR": rate})
