"""Hand-computed books: every line to the cent."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from backtest.ledger import Ledger, LedgerError
from backtest.ledger_rules import FinancingRule, LedgerRules
from backtest.lines import Day, Fills
from backtest.market_day import MarketDay
from engine import TradeCosts

DATES = pd.to_datetime(["2024-01-05", "2024-01-08", "2024-01-09", "2024-01-10", "2024-01-11"])
BOTH = np.array([True, True])


def book(*, lag: int = 1, spread: float = 0.0, borrow: float = 0.0, linear: float = 0.0, impact: float = 0.0) -> Ledger:
    rules = LedgerRules(lag=lag, financing=FinancingRule(spread=spread, borrow_fee=borrow))
    ledger = Ledger(["A", "B"], 1_000_000.0, rules)
    costs = TradeCosts(linear=[linear] * 2, impact=[impact] * 2, annualisation=12.6)
    ledger.set_costs(BOTH, costs, 1_000_000.0)
    return ledger


def market_of(
    t: int, returns: list[float], close: list[float], rows: list[bool] | None = None, **more: np.ndarray
) -> MarketDay:
    has_row = np.array([True, True] if rows is None else rows)
    return MarketDay(t, DATES[t], np.array(returns), np.array(close), has_row, **more)


def step(ledger: Ledger, t: int, returns: list[float], close: list[float], rows: list[bool] | None = None) -> Day:
    market = market_of(t, returns, close, rows)
    day = ledger.open_day(market)
    ledger.fill(day, market)
    ledger.close_day(day)
    return day


def carried(day: Day) -> list[int]:
    return [notice.asset for notice in day.notices if notice.kind == "carried order"]


def only(fills: Fills) -> tuple[float, float, float]:
    """Return shares, price and value of the day's single trade."""
    assert len(fills) == 1
    return fills.shares[0], fills.price[0], fills.value[0]


def test_an_order_is_fixed_in_shares_at_the_decision_and_fills_at_the_close_one_day_later() -> None:
    ledger = book(linear=0.001)
    step(ledger, 0, [np.nan, np.nan], [50.0, 20.0])
    ledger.order(0, np.array([0.10, -0.10]), BOTH, ["rebalance"] * 2)
    day = step(ledger, 1, [0.10, -0.05], [55.0, 19.0])
    # 100,000 / 50 = 2,000 shares long and 100,000 / 20 = 5,000 short, whatever the price moved to overnight.
    assert day.fills.shares == pytest.approx([2_000.0, -5_000.0])
    assert day.fills.price.tolist() == [55.0, 19.0]
    assert day.pnl.sum() == 0.0
    assert day.cost == pytest.approx(0.001 * (110_000 + 95_000))
    assert ledger.cash[0] == pytest.approx(1_000_000 - 110_000 + 95_000 - 205)
    assert ledger.nav == pytest.approx(1_000_000 - 205)


def test_longs_and_shorts_gain_with_the_sign_of_their_position() -> None:
    ledger = book()
    step(ledger, 0, [np.nan, np.nan], [50.0, 20.0])
    ledger.order(0, np.array([0.10, -0.10]), BOTH, ["rebalance"] * 2)
    step(ledger, 1, [0.0, 0.0], [50.0, 20.0])
    day = step(ledger, 2, [0.02, 0.03], [51.0, 20.6])
    assert day.pnl.tolist() == pytest.approx([2_000.0, -3_000.0])
    assert ledger.nav == pytest.approx(999_000.0)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_split_changes_shares_and_never_value(sign: float) -> None:
    ledger = book()
    step(ledger, 0, [np.nan, np.nan], [50.0, 20.0])
    ledger.order(0, np.array([sign * 0.10, 0.0]), BOTH, ["rebalance"] * 2)
    step(ledger, 1, [0.0, 0.0], [50.0, 20.0])
    step(ledger, 2, [0.0, 0.0], [1.0, 20.0])  # 50 for 1
    assert ledger.shares[0] == pytest.approx(sign * 100_000.0)
    assert ledger.nav == pytest.approx(1_000_000.0)


def test_an_order_pending_over_a_split_fills_at_its_own_size() -> None:
    ledger = book()
    step(ledger, 0, [np.nan, np.nan], [50.0, 20.0])
    ledger.order(0, np.array([0.10, 0.0]), BOTH, ["rebalance"] * 2)
    day = step(ledger, 1, [0.0, 0.0], [1.0, 20.0])  # the split falls between decision and fill
    assert only(day.fills) == pytest.approx((100_000.0, 1.0, 100_000.0))


def test_a_missing_row_is_unchanged_and_the_next_return_spans_it() -> None:
    ledger = book()
    step(ledger, 0, [np.nan, np.nan], [50.0, 20.0])
    ledger.order(0, np.array([0.10, 0.0]), BOTH, ["rebalance"] * 2)
    step(ledger, 1, [0.0, 0.0], [50.0, 20.0])
    quiet = step(ledger, 2, [np.nan, 0.0], [np.nan, 20.0], [False, True])
    assert quiet.pnl.sum() == 0.0
    loud = step(ledger, 3, [0.08, 0.0], [54.0, 20.0])
    assert loud.pnl[0] == pytest.approx(8_000.0)


def test_an_order_without_a_row_on_its_day_is_carried_to_the_next() -> None:
    ledger = book()
    step(ledger, 0, [np.nan, np.nan], [50.0, 20.0])
    ledger.order(0, np.array([0.10, 0.0]), BOTH, ["rebalance"] * 2)
    day = step(ledger, 1, [np.nan, 0.0], [np.nan, 20.0], [False, True])
    assert (len(day.fills), carried(day)) == (0, [0])
    day = step(ledger, 2, [0.10, 0.0], [55.0, 20.0])
    assert only(day.fills) == pytest.approx((2_000.0, 55.0, 110_000.0))


def test_an_order_on_its_way_is_kept_and_counted_by_the_next_decision() -> None:
    ledger = book(lag=2)
    step(ledger, 0, [np.nan, np.nan], [50.0, 20.0])
    ledger.order(0, np.array([0.10, 0.0]), BOTH, ["rebalance"] * 2)
    step(ledger, 1, [0.0, 0.0], [50.0, 20.0])
    assert ledger.weights.tolist() == [0.0, 0.0]
    assert ledger.expected_weights(1).tolist() == pytest.approx([0.10, 0.0])
    ledger.order(1, np.array([0.15, 0.0]), BOTH, ["rebalance"] * 2)
    first = step(ledger, 2, [0.0, 0.0], [50.0, 20.0])
    second = step(ledger, 3, [0.0, 0.0], [50.0, 20.0])
    assert [(day.fills.decided.tolist(), only(day.fills)[0]) for day in (first, second)] == [
        ([0], pytest.approx(2_000.0)),
        ([1], pytest.approx(1_000.0)),
    ]
    assert ledger.weights[0] == pytest.approx(0.15)
    assert not ledger.orders.pending.any()


def test_a_carried_order_of_a_name_that_the_next_decision_leaves_alone_is_withdrawn() -> None:
    ledger = book()
    step(ledger, 0, [np.nan, np.nan], [50.0, 20.0])
    ledger.order(0, np.array([0.10, 0.0]), BOTH, ["rebalance"] * 2)
    step(ledger, 1, [np.nan, 0.0], [np.nan, 20.0], [False, True])
    ledger.orders.withdraw_late(1)
    ledger.order(1, np.array([0.0, 0.05]), np.array([False, True]), ["rebalance"] * 2)
    day = step(ledger, 2, [0.0, 0.0], [50.0, 20.0])
    assert day.fills.asset.tolist() == [1]


def test_a_carried_order_is_replaced_by_the_next_decision() -> None:
    ledger = book()
    step(ledger, 0, [np.nan, np.nan], [50.0, 20.0])
    ledger.order(0, np.array([0.10, 0.0]), BOTH, ["rebalance"] * 2)
    step(ledger, 1, [np.nan, 0.0], [np.nan, 20.0], [False, True])
    assert ledger.expected_weights(1).tolist() == [0.0, 0.0]
    ledger.orders.withdraw_late(1)
    ledger.order(1, np.array([0.04, 0.0]), BOTH, ["rebalance"] * 2)
    day = step(ledger, 2, [0.0, 0.0], [50.0, 20.0])
    assert (day.fills.decided.tolist(), only(day.fills)[0]) == ([1], pytest.approx(800.0))


def test_a_row_without_a_close_moves_by_its_return_and_fills_nothing() -> None:
    ledger = book()
    step(ledger, 0, [np.nan, np.nan], [50.0, 20.0])
    ledger.order(0, np.array([0.10, 0.0]), BOTH, ["rebalance"] * 2)
    step(ledger, 1, [0.0, 0.0], [50.0, 20.0])
    ledger.order(1, np.array([0.10, -0.10]), BOTH, ["rebalance"] * 2)
    day = step(ledger, 2, [0.04, 0.05], [np.nan, np.nan])
    assert ledger.nav == pytest.approx(1_004_000.0)
    assert ledger.price.tolist() == pytest.approx([52.0, 21.0])
    assert (len(day.fills), carried(day)) == (0, [1])
    day = step(ledger, 3, [0.0, 0.0], [52.0, 21.0])
    assert only(day.fills)[0] == pytest.approx(-5_000.0)


@pytest.mark.parametrize(
    ("sign", "delisting", "nav"), [(1, -0.30, 970_000), (-1, -0.30, 1_030_000), (1, np.nan, 1_000_000)]
)
def test_a_leaver_is_booked_with_its_delisting_return(sign: int, delisting: float, nav: float) -> None:
    ledger = book()
    step(ledger, 0, [np.nan, np.nan], [50.0, 20.0])
    ledger.order(0, np.array([sign * 0.10, 0.0]), BOTH, ["rebalance"] * 2)
    step(ledger, 1, [0.0, 0.0], [50.0, 20.0])
    day = ledger.open_day(
        market_of(
            2,
            [np.nan, 0.0],
            [np.nan, 20.0],
            [False, True],
            gone=np.array([True, False]),
            delisting_return=np.array([delisting, np.nan]),
        )
    )
    assert ledger.close_day(day) == pytest.approx(nav)
    assert ledger.value[0] == ledger.shares[0] == 0.0
    assert [(notice.kind, notice.asset) for notice in day.notices] == [("gone", 0)]


def test_financing_is_borrow_on_shorts_and_spread_on_longs_beyond_net_assets() -> None:
    ledger = book(spread=0.0073, borrow=0.0365)
    step(ledger, 0, [np.nan, np.nan], [50.0, 20.0])
    ledger.order(0, np.array([1.5, -0.5]), BOTH, ["rebalance"] * 2)
    step(ledger, 1, [0.0, 0.0], [50.0, 20.0])
    day = step(ledger, 2, [0.0, 0.0], [50.0, 20.0])  # one calendar day
    assert day.financing == pytest.approx(0.0073 * 500_000 / 365 + 0.0365 * 500_000 / 365)


def test_financing_runs_over_the_weekend() -> None:
    ledger = book(borrow=0.0365)
    ledger.start(np.array([50.0, 20.0]), shares={"B": -25_000.0})
    step(ledger, 0, [np.nan, np.nan], [50.0, 20.0])
    day = step(ledger, 1, [0.0, 0.0], [50.0, 20.0])  # Friday to Monday
    assert day.financing == pytest.approx(0.0365 * 500_000 * 3 / 365)


def test_impact_grows_with_the_three_halves_power_of_the_trade() -> None:
    ledger = book(impact=0.1)
    step(ledger, 0, [np.nan, np.nan], [50.0, 20.0])
    ledger.order(0, np.array([0.04, 0.0]), BOTH, ["rebalance"] * 2)
    day = step(ledger, 1, [0.0, 0.0], [50.0, 20.0])
    assert day.cost == pytest.approx(0.1 * 0.04**1.5 * 1_000_000)


def test_the_ledger_charges_what_the_optimizer_priced() -> None:
    rng = np.random.default_rng(5)
    costs = TradeCosts(linear=rng.uniform(0, 1e-3, 2), impact=rng.uniform(0, 0.2, 2), annualisation=12.6)
    ledger = Ledger(["A", "B"], 7_000_000.0, LedgerRules())
    ledger.set_costs(BOTH, costs, 7_000_000.0)
    step(ledger, 0, [np.nan, np.nan], [50.0, 20.0])
    target = np.array([0.015, -0.018])
    ledger.order(0, target, BOTH, ["rebalance"] * 2)
    day = step(ledger, 1, [0.0, 0.0], [50.0, 20.0])
    assert day.cost / 7_000_000 == pytest.approx(float(costs.charge(target).sum()), rel=1e-12)


def test_fees_leave_cash() -> None:
    ledger = book()
    day = ledger.open_day(market_of(0, [np.nan, np.nan], [50.0, 20.0]))
    ledger.charge_fees(day, 833.33, 200.0)
    assert ledger.close_day(day) == pytest.approx(1_000_000 - 1_033.33)


def test_books_that_do_not_add_up_are_refused() -> None:
    ledger = book()
    day = ledger.open_day(market_of(0, [np.nan, np.nan], [50.0, 20.0]))
    ledger.cash += 0.01
    with pytest.raises(LedgerError, match="lines add up"):
        ledger.close_day(day)


def test_the_identity_holds_over_a_long_random_life() -> None:
    rng = np.random.default_rng(11)
    n, days = 40, 300
    dates = pd.bdate_range("2020-01-01", periods=days)
    rules = LedgerRules(financing=FinancingRule(spread=0.005, borrow_fee=0.01))
    ledger = Ledger([f"A{i}" for i in range(n)], 50e6, rules)
    ledger.set_costs(np.ones(n, dtype=bool), TradeCosts([5e-4] * n, [0.05] * n, annualisation=12.6), 50e6)
    close, total, navs = rng.uniform(5, 500, n), 0.0, []
    for t in range(days):
        has_row = rng.random(n) > 0.05
        returns = np.where(has_row, rng.standard_t(4, n) * 0.02, np.nan)
        close = np.where(has_row, close * (1 + np.nan_to_num(returns)) / rng.choice([1, 2], n, p=[0.99, 0.01]), close)
        market = MarketDay(t, dates[t], returns, np.where(has_row, close, np.nan), has_row)
        day = ledger.open_day(market)
        ledger.fill(day, market)
        navs.append(ledger.close_day(day))
        total += day.pnl.sum() - day.cost - day.financing
        if t % 5 == 1:
            known = np.isfinite(ledger.price)
            ledger.order(t, rng.normal(0, 0.05, n), known, ["rebalance"] * n)
    assert navs[-1] - 50e6 == pytest.approx(total, abs=0.01)
    assert abs(total) > 1e4
