"""Splits, dividends and spin-offs, long and short, computed by hand: every line, share and cent of the day."""

from __future__ import annotations

import pytest
from ledger_book import Book, event, long, notices, short

from backtest.events import EventKind
from backtest.ledger_rules import LedgerRules
from risk import DataError

MONDAY, TUESDAY, WEDNESDAY = "2024-01-08", "2024-01-09", "2024-01-10"
PRICE_RETURNS = LedgerRules(dividends_inside=False)


# Splits


def test_long_through_a_split_of_two_for_one() -> None:
    book = long()
    day = book.pass_day(MONDAY, r={"A": 0.04}, close={"A": 26.0}, events=[event(EventKind.SPLIT, "A", ratio=2)])
    book.check(day, cash=950_000, shares={"A": 2_000}, value={"A": 2_000 * 26}, nav=1_002_000, price=1_000 * 50 * 0.04)


def test_short_through_a_split_of_two_for_one() -> None:
    book = short()
    day = book.pass_day(MONDAY, r={"A": 0.04}, close={"A": 26.0}, events=[event(EventKind.SPLIT, "A", ratio=2)])
    book.check(
        day, cash=1_050_000, shares={"A": -2_000}, value={"A": -2_000 * 26}, nav=998_000, price=-1_000 * 50 * 0.04
    )


def test_long_through_a_reverse_split_of_one_for_fifty() -> None:
    book = long()
    day = book.pass_day(MONDAY, r={"A": -0.02}, close={"A": 2_450.0}, events=[event(EventKind.SPLIT, "A", ratio=0.02)])
    book.check(day, cash=950_000, shares={"A": 20}, value={"A": 20 * 2_450}, nav=999_000, price=-1_000 * 50 * 0.02)


def test_short_through_a_reverse_split_of_one_for_fifty() -> None:
    book = short()
    day = book.pass_day(MONDAY, r={"A": -0.02}, close={"A": 2_450.0}, events=[event(EventKind.SPLIT, "A", ratio=0.02)])
    book.check(day, cash=1_050_000, shares={"A": -20}, value={"A": -20 * 2_450}, nav=1_001_000, price=1_000 * 50 * 0.02)


@pytest.mark.parametrize(
    ("book", "ordered", "filled", "cash", "shares", "nav"),
    [
        # 50 became 50 shares of 1.02: the order of 600 is one of 30,000, for 30,600.
        (long(), 600, 30_000, 950_000 - 30_600, 50_000 + 30_000, 1_001_000),
        (short(), -600, -30_000, 1_050_000 + 30_600, -50_000 - 30_000, 999_000),
    ],
)
def test_a_fifty_for_one_split_on_the_day_of_the_fill(
    book: Book, ordered: float, filled: float, cash: float, shares: float, nav: float
) -> None:
    book.order(A=ordered)
    day = book.pass_day(MONDAY, r={"A": 0.02}, close={"A": 1.02}, events=[event(EventKind.SPLIT, "A", ratio=50)])
    assert day.fills.shares == pytest.approx([filled], abs=1e-9)
    book.check(day, cash=cash, shares={"A": shares}, value={"A": shares * 1.02}, nav=nav, price=nav - 1_000_000)


@pytest.mark.parametrize(("ordered", "filled"), [(600.0, 12.0), (-600.0, -12.0)])
def test_a_reverse_split_of_one_for_fifty_on_the_day_of_the_fill(ordered: float, filled: float) -> None:
    book = Book(1_000_000, {})
    book.order(A=ordered)
    day = book.pass_day(MONDAY, close={"A": 2_500.0}, events=[event(EventKind.SPLIT, "A", ratio=0.02)])
    assert day.fills.shares == pytest.approx([filled], abs=1e-9)
    book.check(day, cash=1_000_000 - filled * 2_500, shares={"A": filled}, value={"A": filled * 2_500}, nav=1_000_000)


def test_shares_stay_exact_where_returns_are_rounded_to_six_decimals() -> None:
    book = long()
    # 50.37 / 50 - 1 is 0.0074, and the file says 4e-7 more: the value is that of shares and close.
    day = book.pass_day(MONDAY, r={"A": 0.0074004}, close={"A": 50.37})
    assert book.ledger.shares[0] == 1_000.0
    book.check(day, cash=950_000, shares={"A": 1_000}, value={"A": 50_370}, nav=1_000_370, price=370)
    assert notices(day) == []


def test_an_order_stays_exact_where_returns_are_rounded() -> None:
    book = Book(1_000_000, {})
    book.order(A=600)
    day = book.pass_day(MONDAY, r={"A": 0.0074004}, close={"A": 50.37})
    assert day.fills.shares.tolist() == [600.0]


def test_a_return_that_differs_from_the_close_by_more_than_rounding_is_followed() -> None:
    book = long()
    # A return of 0.741 % says 50,370.50, and the close of 50.37 then 1,000.01 shares.
    day = book.pass_day(MONDAY, r={"A": 0.00741}, close={"A": 50.37})
    assert notices(day) == [("restated", "")]
    book.check(day, cash=950_000, shares={"A": 50_370.5 / 50.37}, value={"A": 50_370.5}, nav=1_000_370.5, price=370.5)


@pytest.mark.parametrize(("book", "shares"), [(long(), 2_000), (short(), -2_000)])
def test_a_split_that_no_event_tells_is_restated_and_said_so(book: Book, shares: float) -> None:
    day = book.pass_day(MONDAY, close={"A": 25.0})
    assert notices(day) == [("restated", "")]
    book.check(day, cash=book.ledger.cash[0], shares={"A": shares}, value={"A": shares * 25}, nav=1_000_000)


# Dividends


@pytest.mark.parametrize(
    ("book", "cash", "shares", "value", "nav", "price", "dividend"),
    [
        # 50 became 49.50 and 1.25 in cash.
        (long(), 950_000 + 1_250, 1_000, 49_500, 1_000_750, -500, 1_250),
        (short(), 1_050_000 - 1_250, -1_000, -49_500, 999_250, 500, -1_250),
    ],
)
def test_a_dividend_inside_total_returns(
    book: Book, cash: float, shares: float, value: float, nav: float, price: float, dividend: float
) -> None:
    paid = [event(EventKind.DIVIDEND, "A", amount=1.25)]
    day = book.pass_day(MONDAY, r={"A": (49.5 + 1.25) / 50 - 1}, close={"A": 49.5}, events=paid)
    book.check(day, cash=cash, shares={"A": shares}, value={"A": value}, nav=nav, price=price, dividend=dividend)


@pytest.mark.parametrize(("sign", "cash", "nav"), [(1, 950_000 + 1_250, 1_000_750), (-1, 1_050_000 - 1_250, 999_250)])
def test_a_dividend_on_top_of_price_returns(sign: int, cash: float, nav: float) -> None:
    book = (long if sign > 0 else short)(rules=PRICE_RETURNS)
    paid = [event(EventKind.DIVIDEND, "A", amount=1.25)]
    day = book.pass_day(MONDAY, r={"A": 49.5 / 50 - 1}, close={"A": 49.5}, events=paid)
    book.check(
        day,
        cash=cash,
        shares={"A": sign * 1_000},
        value={"A": sign * 49_500},
        nav=nav,
        price=sign * -500,
        dividend=sign * 1_250,
    )


@pytest.mark.parametrize(("sign", "cash", "nav"), [(1, 950_000 + 1_250, 1_000_750), (-1, 1_050_000 - 1_250, 999_250)])
def test_a_dividend_for_each_old_share_on_the_day_of_a_split(sign: int, cash: float, nav: float) -> None:
    book = (long if sign > 0 else short)()
    both = [event(EventKind.SPLIT, "A", ratio=2), event(EventKind.DIVIDEND, "A", amount=1.25)]
    day = book.pass_day(MONDAY, r={"A": (2 * 24.75 + 1.25) / 50 - 1}, close={"A": 24.75}, events=both)
    book.check(
        day,
        cash=cash,
        shares={"A": sign * 2_000},
        value={"A": sign * 2_000 * 24.75},
        nav=nav,
        price=sign * -500,
        dividend=sign * 1_250,
    )


def test_shares_bought_on_the_ex_date_have_no_right_to_the_dividend() -> None:
    book = long()
    book.order(A=500)
    paid = [event(EventKind.DIVIDEND, "A", amount=1.25)]
    day = book.pass_day(MONDAY, r={"A": (49.5 + 1.25) / 50 - 1}, close={"A": 49.5}, events=paid)
    book.check(
        day,
        cash=950_000 + 1_250 - 500 * 49.5,
        shares={"A": 1_500},
        value={"A": 1_500 * 49.5},
        nav=1_000_750,
        price=-500,
        dividend=1_250,
    )


# Spin-offs: one share of C for each five of A


SPIN = [event(EventKind.SPIN_OFF, "A", ratio=0.2, new="C")]


@pytest.mark.parametrize("rules", [LedgerRules(), PRICE_RETURNS])
@pytest.mark.parametrize(("sign", "cash", "nav"), [(1, 950_000, 1_001_000), (-1, 1_050_000, 999_000)])
def test_a_spin_off(sign: int, cash: float, nav: float, rules: LedgerRules) -> None:
    book = (long if sign > 0 else short)(rules=rules)
    # 50 became 43 and 0.2 x 40 = 8: a total return of 2 %, and a price return of -14 % with 8 on top.
    gain = (43 + 8) / 50 - 1 if rules.dividends_inside else 43 / 50 - 1
    day = book.pass_day(MONDAY, r={"A": gain}, close={"A": 43.0}, events=SPIN)
    book.check(
        day,
        cash=cash,
        shares={"A": sign * 1_000, "C": sign * 200},
        value={"A": sign * 43_000, "C": sign * 8_000},
        nav=nav,
        price=sign * 1_000,
    )
    assert day.pnl[0] == pytest.approx(sign * 1_000, abs=0.005)
    assert notices(day) == []


def test_a_spin_off_counts_for_each_share_after_a_split_of_the_day() -> None:
    book = long()
    # 2,000 shares at 21.50, and 0.1 x 2,000 of C at 40: 51,000.
    both = [event(EventKind.SPLIT, "A", ratio=2), event(EventKind.SPIN_OFF, "A", ratio=0.1, new="C")]
    day = book.pass_day(MONDAY, r={"A": 0.02}, close={"A": 21.5}, events=both)
    book.check(
        day,
        cash=950_000,
        shares={"A": 2_000, "C": 200},
        value={"A": 43_000, "C": 8_000},
        nav=1_001_000,
        price=1_000,
    )


def test_an_order_pending_over_a_spin_off_keeps_its_shares() -> None:
    book = long()
    book.order(A=-300)
    day = book.pass_day(MONDAY, r={"A": (43 + 8) / 50 - 1}, close={"A": 43.0}, events=SPIN)
    book.check(
        day,
        cash=950_000 + 300 * 43,
        shares={"A": 700, "C": 200},
        value={"A": 700 * 43, "C": 8_000},
        nav=1_001_000,
        price=1_000,
    )


@pytest.mark.parametrize(("sign", "cash"), [(1, 950_000), (-1, 1_050_000)])
def test_a_spin_off_of_a_company_without_a_close(sign: int, cash: float) -> None:
    book = (long if sign > 0 else short)()
    # The return says 51, the close 43: what was spun off is worth 8 a share, 40 for each of 200 shares of D.
    spun = [event(EventKind.SPIN_OFF, "A", ratio=0.2, new="D")]
    day = book.pass_day(MONDAY, r={"A": 51 / 50 - 1}, close={"A": 43.0}, events=spun)
    book.check(
        day,
        cash=cash,
        shares={"A": sign * 1_000, "D": sign * 200},
        value={"A": sign * 43_000, "D": sign * 8_000},
        nav=1_000_000 + sign * 1_000,
        price=sign * 1_000,
    )
    assert notices(day) == [("no close yet", "D")]
    book.order(D=-sign * 200)
    day = book.pass_day(TUESDAY)
    assert notices(day) == [("carried order", "D")]
    day = book.pass_day(WEDNESDAY, close={"D": 36.0})
    book.check(
        day,
        cash=cash + sign * 200 * 36,
        shares={"A": sign * 1_000},
        value={"A": sign * 43_000},
        nav=1_001_000 - 800 if sign > 0 else 999_000 + 800,
        price=sign * 200 * (36 - 40),
    )


@pytest.mark.parametrize("sign", [1, -1])
def test_under_price_returns_a_company_without_a_close_counts_from_its_first(sign: int) -> None:
    book = (long if sign > 0 else short)(rules=PRICE_RETURNS)
    cash = book.ledger.cash[0]
    spun = [event(EventKind.SPIN_OFF, "A", ratio=0.2, new="D")]
    day = book.pass_day(MONDAY, r={"A": 43 / 50 - 1}, close={"A": 43.0}, events=spun)
    book.check(
        day,
        cash=cash,
        shares={"A": sign * 1_000, "D": sign * 200},
        value={"A": sign * 43_000},
        nav=1_000_000 - sign * 7_000,
        price=-sign * 7_000,
    )
    day = book.pass_day(TUESDAY, close={"D": 40.0})
    book.check(
        day,
        cash=cash,
        shares={"A": sign * 1_000, "D": sign * 200},
        value={"A": sign * 43_000, "D": sign * 8_000},
        nav=1_000_000 + sign * 1_000,
        price=sign * 8_000,
    )


# What cannot be booked


def test_a_close_of_zero_is_refused_by_asset_and_date() -> None:
    with pytest.raises(DataError, match=r"`close` must be positive: 'A' has 0 on 2024-01-08"):
        long().pass_day(MONDAY, close={"A": 0.0})
    with pytest.raises(DataError, match=r"'C' has -1 on 2024-01-08"):
        long().pass_day(MONDAY, close={"C": -1.0})


def test_a_price_of_zero_and_an_unknown_asset_are_refused_at_the_start() -> None:
    with pytest.raises(DataError, match="price of 'A' must be positive; got 0"):
        Book(1_000_000, {}, prices={"A": 0.0})
    with pytest.raises(DataError, match="holdings: 'XYZ' is no asset of the market data"):
        Book(1_000_000, {"XYZ": 100})
    with pytest.raises(DataError, match="holdings: 'D' has no price"):
        Book(1_000_000, {"D": 100})


def test_an_order_in_an_asset_that_never_had_a_price_is_refused() -> None:
    book = long()
    target = book.ledger.weights * 0
    target[3] = 0.01
    with pytest.raises(DataError, match="'D' is ordered on 2024-01-05 and has no price"):
        book.ledger.order(0, target, target != 0, ["rebalance"] * 4)


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ({"kind": EventKind.SPLIT, "ratio": 0.0}, "split of 'A': `ratio` is 0"),
        ({"kind": EventKind.SPLIT, "ratio": float("nan")}, "`ratio` is nan"),
        ({"kind": EventKind.DIVIDEND, "amount": -1.0}, "`amount` is -1"),
        ({"kind": EventKind.DIVIDEND, "amount": 60.0}, "must not be negative: 'A' has -10"),
        ({"kind": EventKind.MERGER, "ratio": 1.0, "new": "A"}, "no other asset of the ledger"),
        ({"kind": EventKind.SPIN_OFF, "ratio": 1.0}, "no other asset of the ledger"),
    ],
)
def test_an_event_that_would_spoil_the_books_is_refused(what: dict[str, object], message: str) -> None:
    what = dict(what)
    with pytest.raises(DataError, match=message):
        long().pass_day(MONDAY, events=[event(what.pop("kind"), "A", **what)])  # type: ignore[arg-type]


def test_an_ex_date_without_a_row_is_refused() -> None:
    with pytest.raises(DataError, match="dividend of 'A': the asset has no row that day"):
        long().pass_day(MONDAY, shut="A", events=[event(EventKind.DIVIDEND, "A", amount=1.0)])


def test_an_asset_that_is_spun_off_and_spins_off_on_one_day_is_refused() -> None:
    both = [*SPIN, event(EventKind.SPIN_OFF, "C", ratio=1.0, new="D")]
    with pytest.raises(DataError, match="'C' is spun off from 'A' and spins off a company itself"):
        long().pass_day(MONDAY, events=both)
