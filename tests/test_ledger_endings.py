"""Positions that end in a merger or a delisting, long and short, computed by hand: every line, share and cent of the day."""

from __future__ import annotations

import pytest
from ledger_book import Book, event, long, notices, short

from backtest.events import EventKind
from backtest.ledger_rules import LedgerRules

MONDAY, TUESDAY, WEDNESDAY = "2024-01-08", "2024-01-09", "2024-01-10"


# Mergers: A has no row on the day, and was last worth 50


@pytest.mark.parametrize(("sign", "cash", "nav"), [(1, 950_000, 1_002_000), (-1, 1_050_000, 998_000)])
def test_a_merger_for_stock(sign: int, cash: float, nav: float) -> None:
    book = (long if sign > 0 else short)()
    swap = [event(EventKind.MERGER, "A", ratio=0.4, new="B")]
    day = book.pass_day(MONDAY, shut="A", events=swap)
    # 0.4 x 130 = 52 for a share of 50.
    book.check(day, cash=cash, shares={"B": sign * 400}, value={"B": sign * 400 * 130}, nav=nav, price=sign * 2_000)
    assert notices(day) == [("merger", "A")]


@pytest.mark.parametrize(("sign", "cash", "nav"), [(1, 950_000 + 53_500, 1_003_500), (-1, 1_050_000 - 53_500, 996_500)])
def test_a_merger_for_cash(sign: int, cash: float, nav: float) -> None:
    book = (long if sign > 0 else short)()
    day = book.pass_day(MONDAY, shut="A", events=[event(EventKind.MERGER, "A", amount=53.5)])
    book.check(day, cash=cash, shares={}, value={}, nav=nav, price=sign * 3_500)


@pytest.mark.parametrize(("sign", "cash", "nav"), [(1, 950_000 + 20_000, 1_002_500), (-1, 1_050_000 - 20_000, 997_500)])
def test_a_merger_for_stock_and_cash(sign: int, cash: float, nav: float) -> None:
    book = (long if sign > 0 else short)()
    day = book.pass_day(MONDAY, shut="A", events=[event(EventKind.MERGER, "A", ratio=0.25, amount=20, new="B")])
    # 0.25 x 130 + 20 = 52.50
    book.check(day, cash=cash, shares={"B": sign * 250}, value={"B": sign * 250 * 130}, nav=nav, price=sign * 2_500)


def test_a_merger_on_a_last_day_of_trading_with_a_short_in_the_buyer() -> None:
    book = Book(950_000 + 13_000, {"A": 1_000, "B": -100})
    # A closes at 51.50, B rises by 1 % to 131.30, and 0.4 x 131.30 = 52.52.
    day = book.pass_day(MONDAY, r={"A": 0.03, "B": 0.01}, events=[event(EventKind.MERGER, "A", ratio=0.4, new="B")])
    book.check(
        day,
        cash=963_000,
        shares={"B": 400 - 100},
        value={"B": 300 * 131.30},
        nav=963_000 + 39_390,
        price=1_500 - 130 + 1_000 * (52.52 - 51.50),
    )


def test_orders_in_an_asset_that_merges_are_dropped_and_those_in_the_buyer_stay() -> None:
    book = long()
    book.order(A=-500, B=10)
    day = book.pass_day(MONDAY, shut="A", events=[event(EventKind.MERGER, "A", ratio=0.4, new="B")])
    assert notices(day) == [("merger", "A"), ("order dropped", "A")]
    book.check(
        day,
        cash=950_000 - 1_300,
        shares={"B": 410},
        value={"B": 410 * 130},
        nav=1_002_000,
        price=2_000,
    )
    assert not book.ledger.orders.pending.any()


@pytest.mark.parametrize("sign", [1, -1])
def test_a_merger_into_an_asset_without_a_close_is_held_at_the_value_it_was_received_for(sign: int) -> None:
    book = (long if sign > 0 else short)()
    cash = 950_000 + 10_000 if sign > 0 else 1_050_000 - 10_000
    # 2 shares of D and 10 in cash for a share of 50: D is taken at (50 - 10) / 2 = 20.
    swap = [event(EventKind.MERGER, "A", ratio=2, amount=10, new="D")]
    day = book.pass_day(MONDAY, shut="A", events=swap)
    book.check(day, cash=cash, shares={"D": sign * 2_000}, value={"D": sign * 40_000}, nav=1_000_000)
    assert notices(day) == [("merger", "A"), ("no close yet", "D")]
    del book.close["A"]
    day = book.pass_day(TUESDAY)
    book.check(day, cash=cash, shares={"D": sign * 2_000}, value={"D": sign * 40_000}, nav=1_000_000)
    day = book.pass_day(WEDNESDAY, close={"D": 21.5})
    book.check(
        day,
        cash=cash,
        shares={"D": sign * 2_000},
        value={"D": sign * 43_000},
        nav=1_000_000 + sign * 3_000,
        price=sign * 3_000,
    )


# Delistings


ASSUMED = LedgerRules(delisting={"performance": -0.30, "bankruptcy": -1.0, "": -0.05})


@pytest.mark.parametrize(
    ("cause", "sign", "cash", "delisting"),
    [
        ("performance", 1, 950_000 + 35_000, -15_000),
        ("performance", -1, 1_050_000 - 35_000, 15_000),
        ("bankruptcy", 1, 950_000, -50_000),
        ("bankruptcy", -1, 1_050_000, 50_000),
        ("unheard of", 1, 950_000 + 47_500, -2_500),
        ("", -1, 1_050_000 - 47_500, 2_500),
    ],
)
def test_a_delisting_of_unknown_worth_returns_what_is_assumed_for_its_cause(
    cause: str, sign: int, cash: float, delisting: float
) -> None:
    book = (long if sign > 0 else short)(rules=ASSUMED)
    left = [event(EventKind.DELISTING, "A", amount=float("nan"), cause=cause)]
    day = book.pass_day(MONDAY, shut="A", events=left)
    book.check(day, cash=cash, shares={}, value={}, nav=1_000_000 + delisting, delisting=delisting)


@pytest.mark.parametrize(
    ("sign", "cash", "delisting"), [(1, 950_000 + 12_500, -37_500), (-1, 1_050_000 - 12_500, 37_500)]
)
def test_a_delisting_with_a_cash_amount_pays_it_whatever_its_cause(sign: int, cash: float, delisting: float) -> None:
    book = (long if sign > 0 else short)(rules=ASSUMED)
    left = [event(EventKind.DELISTING, "A", amount=12.5, cause="bankruptcy")]
    day = book.pass_day(MONDAY, shut="A", events=left, delisting_return={"A": -0.9})
    book.check(day, cash=cash, shares={}, value={}, nav=1_000_000 + delisting, delisting=delisting)


@pytest.mark.parametrize(("sign", "cash", "delisting"), [(1, 990_000, -10_000), (-1, 1_010_000, 10_000)])
def test_the_delisting_return_of_the_market_comes_before_the_assumption(
    sign: int, cash: float, delisting: float
) -> None:
    book = (long if sign > 0 else short)(rules=ASSUMED)
    left = [event(EventKind.DELISTING, "A", amount=float("nan"), cause="bankruptcy")]
    day = book.pass_day(MONDAY, shut="A", events=left, delisting_return={"A": -0.2})
    book.check(day, cash=cash, shares={}, value={}, nav=1_000_000 + delisting, delisting=delisting)


def test_delisted_on_a_last_row_after_a_fall() -> None:
    book = short(rules=ASSUMED)
    left = [event(EventKind.DELISTING, "A", amount=float("nan"), cause="performance")]
    day = book.pass_day(MONDAY, r={"A": -0.20}, events=left)
    # 50 fell to 40, and 30 % less than 40 is 28.
    book.check(day, cash=1_050_000 - 28_000, shares={}, value={}, nav=1_022_000, price=10_000, delisting=12_000)


def test_delisted_while_short_and_nothing_can_be_borrowed() -> None:
    book = short(rules=ASSUMED)
    book.order(A=-500)
    left = [event(EventKind.DELISTING, "A", amount=0.0, cause="bankruptcy")]
    day = book.pass_day(MONDAY, shut="A", events=left, available={"A": 0})
    assert notices(day) == [("delisting", "A"), ("order dropped", "A")]
    book.check(day, cash=1_050_000, shares={}, value={}, nav=1_050_000, delisting=50_000)
    day = book.pass_day(TUESDAY, shut="A")
    book.check(day, cash=1_050_000, shares={}, value={}, nav=1_050_000)


@pytest.mark.parametrize(
    ("sign", "cash", "delisting"), [(1, 950_000 + 47_500, -2_500), (-1, 1_050_000 - 47_500, 2_500)]
)
def test_gone_without_an_event_returns_what_is_assumed_of_an_unknown_cause(
    sign: int, cash: float, delisting: float
) -> None:
    book = (long if sign > 0 else short)(rules=ASSUMED)
    day = book.pass_day(MONDAY, shut="A", gone="A")
    assert notices(day) == [("gone", "A")]
    book.check(day, cash=cash, shares={}, value={}, nav=1_000_000 + delisting, delisting=delisting)
