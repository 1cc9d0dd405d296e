"""Fills, costs, financing and currencies, long and short, computed by hand: every line, share and cent of the day."""

from __future__ import annotations

import numpy as np
import pytest
from ledger_book import Book, event, long, notices, short

from backtest.events import EventKind
from backtest.ledger_rules import LedgerRules
from engine import TradeCosts
from risk import DataError

MONDAY, TUESDAY, WEDNESDAY = "2024-01-08", "2024-01-09", "2024-01-10"
ALL = np.ones(4, dtype=bool)


# Costs


@pytest.mark.parametrize(("ordered", "cash"), [(400.0, -20_000 - 13), (-400.0, 20_000 - 13)])
def test_half_spread_and_commission(ordered: float, cash: float) -> None:
    book = Book(1_000_000, {}, rules=LedgerRules(commission=0.5e-4))
    book.ledger.set_costs(ALL, TradeCosts([6.5e-4] * 4, [0.0] * 4, annualisation=10), 1_000_000)
    book.order(A=ordered)
    day = book.pass_day(MONDAY)
    # 6 and 0.5 basis points of 20,000 are 12 and 1.
    book.check(
        day,
        cash=1_000_000 + cash,
        shares={"A": ordered},
        value={"A": ordered * 50},
        nav=999_987,
        spread=-12,
        commission=-1,
    )
    assert day.fills.cost == pytest.approx([13.0])


@pytest.mark.parametrize("sign", [1, -1])
def test_impact_grows_with_the_power_of_three_halves(sign: int) -> None:
    book = Book(1_000_000, {})
    book.ledger.set_costs(ALL, TradeCosts([0.0] * 4, [0.1, 0.2, 0.0, 0.0], annualisation=10), 1_000_000)
    book.order(A=sign * 800, B=sign * 1_000)
    day = book.pass_day(MONDAY, r={"B": 90 / 130 - 1})
    # 0.04 of a million in A: 0.1 x 0.04^1.5 = 0.0008; 0.09 of it in B: 0.2 x 0.09^1.5 = 0.0054. Together 6,200.
    assert day.fills.impact == pytest.approx([800.0, 5_400.0])
    book.check(
        day,
        cash=1_000_000 - sign * 40_000 - sign * 90_000 - 6_200,
        shares={"A": sign * 800, "B": sign * 1_000},
        value={"A": sign * 40_000, "B": sign * 90_000},
        nav=993_800,
        impact=-6_200,
    )


def test_costs_below_the_commission_in_them_are_refused() -> None:
    book = Book(1_000_000, {}, rules=LedgerRules(commission=1e-3))
    with pytest.raises(DataError, match="hold a commission"):
        book.ledger.set_costs(ALL, TradeCosts([5e-4] * 4, [0.0] * 4, annualisation=10), 1_000_000)


# Fills


@pytest.mark.parametrize(
    ("book", "ordered", "cash", "shares"),
    [
        (long(), -2_500, 950_000 + 2_500 * 52, -1_500),
        (short(), 2_500, 1_050_000 - 2_500 * 52, 1_500),
    ],
)
def test_a_trade_through_zero(book: Book, ordered: float, cash: float, shares: float) -> None:
    gain = book.ledger.shares[0] * 2
    book.order(A=ordered)
    day = book.pass_day(MONDAY, close={"A": 52.0}, r={"A": 0.04})
    book.check(day, cash=cash, shares={"A": shares}, value={"A": shares * 52}, nav=1_000_000 + gain, price=gain)
    # From here on the position of the other sign earns.
    day = book.pass_day(TUESDAY, r={"A": -0.5})
    assert day.lines["price"] == pytest.approx(-shares * 26, abs=0.005)


@pytest.mark.parametrize(
    ("book", "ordered", "cash"), [(long(), -1_000, 950_000 + 51_700), (short(), 1_000, 1_050_000 - 51_700)]
)
def test_a_position_that_is_closed_is_gone_to_the_last_digit(book: Book, ordered: float, cash: float) -> None:
    gain = -ordered * 1.7
    book.order(A=ordered)
    day = book.pass_day(MONDAY, close={"A": 51.7}, r={"A": 0.034})
    book.check(day, cash=cash, shares={}, value={}, nav=1_000_000 + gain, price=gain)
    assert book.ledger.shares[0] == book.ledger.value[0] == 0.0


def test_a_fraction_of_a_share_that_rounding_leaves_is_no_position() -> None:
    book = Book(1_000_000, {})
    for ordered in (0.1, 0.2, -0.3):  # 0.1 + 0.2 - 0.3 is 5.6e-17 in floating point
        book.order(A=ordered)
    day = book.pass_day(MONDAY)
    assert book.ledger.shares[0] == book.ledger.value[0] == 0.0
    book.check(day, cash=1_000_000, shares={}, value={}, nav=1_000_000)


@pytest.mark.parametrize("sign", [1, -1])
def test_an_order_waits_while_trading_is_suspended(sign: int) -> None:
    book = Book(1_000_000, {})
    book.order(A=sign * 200)
    day = book.pass_day(MONDAY, r={"A": 0.02}, events=[event(EventKind.SUSPENSION, "A")])
    book.check(day, cash=1_000_000, shares={}, value={}, nav=1_000_000)
    assert notices(day) == [("carried order", "A")]
    day = book.pass_day(TUESDAY, r={"A": 0.02})
    book.check(
        day,
        cash=1_000_000 - sign * 200 * 52.02,
        shares={"A": sign * 200},
        value={"A": sign * 200 * 52.02},
        nav=1_000_000,
    )


@pytest.mark.parametrize("sign", [1, -1])
def test_a_suspended_position_is_marked_at_its_close(sign: int) -> None:
    book = (long if sign > 0 else short)()
    day = book.pass_day(MONDAY, r={"A": -0.1}, events=[event(EventKind.SUSPENSION, "A")])
    book.check(
        day,
        cash=book.ledger.cash[0],
        shares={"A": sign * 1_000},
        value={"A": sign * 45_000},
        nav=1_000_000 - sign * 5_000,
        price=-sign * 5_000,
    )


@pytest.mark.parametrize("sign", [1, -1])
def test_a_holiday_in_one_country(sign: int) -> None:
    book = Book(1_000_000 - sign * 63_000, {"A": sign * 1_000, "B": sign * 100})
    book.order(A=sign * 100, B=sign * 10)
    cash = 1_000_000 - sign * 63_000 - sign * 10 * 131.3
    day = book.pass_day(MONDAY, r={"B": 0.01}, shut="A")
    book.check(
        day,
        cash=cash,
        shares={"A": sign * 1_000, "B": sign * 110},
        value={"A": sign * 50_000, "B": sign * 110 * 131.3},
        nav=1_000_000 + sign * 130,
        price=sign * 130,
    )
    assert notices(day) == [("carried order", "A")]
    # The return of A spans both days.
    day = book.pass_day(TUESDAY, r={"A": 0.03})
    book.check(
        day,
        cash=cash - sign * 100 * 51.5,
        shares={"A": sign * 1_100, "B": sign * 110},
        value={"A": sign * 1_100 * 51.5, "B": sign * 110 * 131.3},
        nav=1_000_000 + sign * 130 + sign * 1_500,
        price=sign * 1_500,
    )


# Participation: at most a tenth of the day's volume


TENTH = LedgerRules(participation_limit=0.1)


@pytest.mark.parametrize("sign", [1, -1])
def test_a_large_order_fills_over_three_days(sign: int) -> None:
    book = Book(1_000_000, {}, rules=TENTH)
    book.order(A=sign * 1_000)
    # A tenth of 200,000 is 400 shares at 50.
    day = book.pass_day(MONDAY, volume={"A": 200_000})
    book.check(day, cash=1_000_000 - sign * 20_000, shares={"A": sign * 400}, value={"A": sign * 20_000}, nav=1_000_000)
    assert notices(day) == [("partial fill", "A")]
    assert day.notices[0].amount == pytest.approx(sign * 600 * 50)
    # A tenth of 204,000 is 400 shares at 51, and the 400 that are held gain a dollar each.
    day = book.pass_day(TUESDAY, volume={"A": 204_000}, r={"A": 0.02})
    book.check(
        day,
        cash=1_000_000 - sign * (20_000 + 20_400),
        shares={"A": sign * 800},
        value={"A": sign * 40_800},
        nav=1_000_000 + sign * 400,
        price=sign * 400,
    )
    # The last 200 are within a tenth of 204,000.
    day = book.pass_day(WEDNESDAY, volume={"A": 204_000})
    book.check(
        day,
        cash=1_000_000 - sign * (20_000 + 20_400 + 10_200),
        shares={"A": sign * 1_000},
        value={"A": sign * 51_000},
        nav=1_000_000 + sign * 400,
    )
    assert notices(day) == []
    assert not book.ledger.orders.pending.any()


@pytest.mark.parametrize("volume", [{}, {"A": 0.0}])
def test_nothing_fills_on_a_day_without_known_volume(volume: dict[str, float]) -> None:
    book = Book(1_000_000, {}, rules=TENTH)
    book.order(A=100)
    day = book.pass_day(MONDAY, volume=volume)
    book.check(day, cash=1_000_000, shares={}, value={}, nav=1_000_000)
    assert notices(day) == [("partial fill", "A")]
    assert len(day.fills) == 0


def test_the_rest_of_a_partial_fill_goes_through_a_split() -> None:
    book = Book(1_000_000, {}, rules=TENTH)
    book.order(A=1_000)
    book.pass_day(MONDAY, volume={"A": 200_000})
    split = [event(EventKind.SPLIT, "A", ratio=2)]
    day = book.pass_day(TUESDAY, close={"A": 25.0}, events=split, volume={"A": 1_000_000})
    # 400 are 800, and the 600 that are left are 1,200.
    book.check(day, cash=1_000_000 - 20_000 - 30_000, shares={"A": 2_000}, value={"A": 50_000}, nav=1_000_000)


def test_two_decisions_share_the_volume_of_a_day() -> None:
    book = Book(1_000_000, {}, rules=TENTH)
    book.order(A=300)
    book.order(A=300)
    day = book.pass_day(MONDAY, volume={"A": 200_000})
    assert day.fills.shares == pytest.approx([300.0, 100.0])
    book.check(day, cash=980_000, shares={"A": 400}, value={"A": 20_000}, nav=1_000_000)


def test_a_participation_limit_asks_for_volume() -> None:
    book = Book(1_000_000, {}, rules=TENTH)
    day = book.open(MONDAY)
    object.__setattr__(book.market, "dollar_volume", None)
    with pytest.raises(DataError, match="asks for `dollar_volume`"):
        book.ledger.fill(day, book.market)


# The end


def test_books_are_in_order_below_zero() -> None:
    book = Book(100_000 + 500_000, {"A": -10_000})
    assert book.nav == 100_000
    day = book.pass_day(MONDAY, r={"A": 0.24})
    # 10,000 shares at 62: 620,000 to be bought back with 600,000.
    book.check(day, cash=600_000, shares={"A": -10_000}, value={"A": -620_000}, nav=-20_000, price=-120_000)


def test_weights_of_a_fund_that_is_worth_nothing_are_not_known() -> None:
    book = Book(100_000 + 500_000, {"A": -10_000})
    book.pass_day(MONDAY, r={"A": 0.20})
    assert book.nav == pytest.approx(0.0, abs=1e-6)
    book = Book(0.0, {})
    assert np.isnan(book.ledger.weights).all()


def test_fees_and_investors_money() -> None:
    book = long()
    day = book.open(MONDAY, r={"A": 0.01})
    book.ledger.charge_fees(day, 833.33, 100.0)
    book.ledger.deal(day, subscription=25_000.0, redemption=10_000.0)
    book.ledger.close_day(day)
    book.check(
        day,
        cash=950_000 - 933.33 + 15_000,
        shares={"A": 1_000},
        value={"A": 50_500},
        nav=1_014_566.67,
        price=500,
        management_fee=-833.33,
        incentive_fee=-100,
        subscription=25_000,
        redemption=-10_000,
    )


def test_days_must_ascend() -> None:
    with pytest.raises(DataError, match="days must ascend; 2024-01-04 comes after 2024-01-05"):
        long().pass_day("2024-01-04")
