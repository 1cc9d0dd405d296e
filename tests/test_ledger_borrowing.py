"""Locates and recalls, computed by hand: every line, share and cent of the day."""

from __future__ import annotations

import numpy as np
import pytest
from ledger_book import Book, event, long, notices, short

from backtest.events import EventKind
from backtest.ledger_rules import LedgerRules

MONDAY, TUESDAY, WEDNESDAY = "2024-01-08", "2024-01-09", "2024-01-10"


# Shares to borrow


def test_a_short_that_cannot_be_borrowed_is_not_opened() -> None:
    book = Book(1_000_000, {})
    book.order(A=-400)
    day = book.pass_day(MONDAY, available={"A": 0})
    book.check(day, cash=1_000_000, shares={}, value={}, nav=1_000_000)
    assert notices(day) == [("no locate", "A")]
    assert day.notices[0].amount == pytest.approx(-20_000)
    assert not book.ledger.orders.pending.any()


def test_a_short_fills_up_to_what_can_be_borrowed_and_the_rest_is_cancelled() -> None:
    book = Book(1_000_000, {})
    book.order(A=-400)
    day = book.pass_day(MONDAY, available={"A": 300})
    book.check(day, cash=1_015_000, shares={"A": -300}, value={"A": -15_000}, nav=1_000_000)
    assert notices(day) == [("no locate", "A")]
    assert day.notices[0].amount == pytest.approx(-5_000)
    assert not book.ledger.orders.pending.any()


def test_a_sale_through_zero_needs_a_locate_for_what_is_short_after_it() -> None:
    book = long()
    book.order(A=-2_000)
    day = book.pass_day(MONDAY, available={"A": 300})
    book.check(day, cash=950_000 + 1_300 * 50, shares={"A": -300}, value={"A": -15_000}, nav=1_000_000)


def test_a_sale_of_what_is_held_needs_no_locate() -> None:
    book = long()
    book.order(A=-1_000)
    day = book.pass_day(MONDAY, available={"A": 0})
    book.check(day, cash=1_000_000, shares={}, value={}, nav=1_000_000)
    assert notices(day) == []


def test_a_short_beyond_what_can_be_borrowed_is_kept_and_may_be_bought_back() -> None:
    book = short()
    book.order(A=-100, B=0)
    day = book.pass_day(MONDAY, available={"A": 200})
    book.check(day, cash=1_050_000, shares={"A": -1_000}, value={"A": -50_000}, nav=1_000_000)
    book.order(A=300)
    day = book.pass_day(TUESDAY, available={"A": 200})
    book.check(day, cash=1_035_000, shares={"A": -700}, value={"A": -35_000}, nav=1_000_000)


def test_an_unknown_number_of_shares_to_borrow_is_no_limit() -> None:
    book = Book(1_000_000, {})
    book.order(A=-400)
    day = book.pass_day(MONDAY, available={"B": 0})
    book.check(day, cash=1_020_000, shares={"A": -400}, value={"A": -20_000}, nav=1_000_000)


def test_the_lowest_weights_are_what_can_be_borrowed_or_the_short_that_is_held() -> None:
    book = short()
    book.open(MONDAY, available={"A": 200, "B": 300})
    lowest = book.ledger.lowest_weights(1, book.market)
    # 1,000 shares of A are short already; 300 of B at 130 are 3.9 % of a million; C has no limit.
    assert lowest[:3] == pytest.approx([-0.05, -0.039, -np.inf])


# Recalls


def test_half_of_a_short_is_called_back() -> None:
    book = short()
    day = book.pass_day(MONDAY, events=[event(EventKind.RECALL, "A", ratio=0.5)])
    book.check(day, cash=1_050_000, shares={"A": -1_000}, value={"A": -50_000}, nav=1_000_000)
    assert notices(day) == [("recall", "A")]
    day = book.pass_day(TUESDAY, r={"A": 0.04})
    assert day.fills.reason == ("recall",)
    # 1,000 short lose 2 each before 500 are bought at 52.
    book.check(day, cash=1_050_000 - 26_000, shares={"A": -500}, value={"A": -26_000}, nav=998_000, price=-2_000)


def test_a_recall_of_all_closes_the_short_and_calls_nothing_of_a_long() -> None:
    all_of_it = [event(EventKind.RECALL, "A", ratio=1.0)]
    book = short()
    book.pass_day(MONDAY, events=all_of_it)
    day = book.pass_day(TUESDAY)
    book.check(day, cash=1_000_000, shares={}, value={}, nav=1_000_000)
    book = long()
    assert notices(book.pass_day(MONDAY, events=all_of_it)) == []
    day = book.pass_day(TUESDAY)
    book.check(day, cash=950_000, shares={"A": 1_000}, value={"A": 50_000}, nav=1_000_000)


def test_neither_pending_nor_later_orders_widen_a_short_that_is_recalled() -> None:
    book = short()
    book.order(A=-200)
    day = book.pass_day(MONDAY, events=[event(EventKind.RECALL, "A", ratio=0.5)])
    assert len(day.fills) == 0
    assert notices(day) == [("recall", "A")]
    assert book.ledger.expected_weights(1)[0] == pytest.approx(-0.025)
    # The decision of the day withdraws what is late, but no recall, and asks for the old short.
    book.ledger.orders.withdraw_late(1)
    book.ledger.order(1, np.array([-0.05, 0.0, 0.0, 0.0]), np.array([True, False, False, False]), ["rebalance"] * 4)
    day = book.pass_day(TUESDAY)
    assert day.fills.shares == pytest.approx([500.0])
    assert notices(day) == [("no locate", "A")]
    book.check(day, cash=1_025_000, shares={"A": -500}, value={"A": -25_000}, nav=1_000_000)


def test_what_waits_to_be_bought_is_part_of_a_recall() -> None:
    book = short(rules=LedgerRules(lag=2))
    book.order(A=700)
    book.pass_day(MONDAY, events=[event(EventKind.RECALL, "A", ratio=0.5)])
    book.pass_day(TUESDAY)
    day = book.pass_day(WEDNESDAY)
    # 700 in all, of which 500 are recalled.
    book.check(day, cash=1_050_000 - 35_000, shares={"A": -300}, value={"A": -15_000}, nav=1_000_000)


def test_orders_of_several_days_that_wait_to_buy_are_part_of_a_recall_once() -> None:
    book = short()
    book.order(A=300)
    book.pass_day(MONDAY, shut="A")
    book.order(A=400)
    # 500 of the 700 that wait are recalled, and wait a day longer.
    day = book.pass_day(TUESDAY, events=[event(EventKind.RECALL, "A", ratio=0.5)])
    book.check(day, cash=1_040_000, shares={"A": -800}, value={"A": -40_000}, nav=1_000_000)
    day = book.pass_day(WEDNESDAY)
    book.check(day, cash=1_015_000, shares={"A": -300}, value={"A": -15_000}, nav=1_000_000)


def test_a_recall_waits_out_a_suspension_and_is_not_called_twice() -> None:
    book = short()
    again = [event(EventKind.RECALL, "A", ratio=1.0)]
    book.pass_day(MONDAY, events=again)
    day = book.pass_day(TUESDAY, events=[event(EventKind.SUSPENSION, "A"), *again])
    assert notices(day) == [("carried order", "A")]
    book.ledger.orders.withdraw_late(2)
    assert book.ledger.orders.recalled[0] == 1_000.0
    assert book.ledger.expected_weights(2)[0] == 0.0
    day = book.pass_day(WEDNESDAY)
    book.check(day, cash=1_000_000, shares={}, value={}, nav=1_000_000)
