"""Whatever happens, every change of net asset value has a name, and a short earns what the same long loses."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backtest.events import Event, EventKind
from backtest.ledger import Ledger
from backtest.ledger_rules import FinancingRule, LedgerRules
from backtest.lines import GROSS_LINES
from backtest.market_day import MarketDay
from engine import TradeCosts

NAMES = tuple(f"A{i}" for i in range(7))
N, DAYS = len(NAMES), 15
CURRENCIES = ("USD", "EUR", "JPY")
CURRENCY = np.array([0, 0, 1, 1, 2, 0, 1])
NEW = 6
"""Has no row before day 9, and is received at most once before, on day 4."""


@dataclass(frozen=True)
class Story:
    """What a market says on each of its days, and closes before the first."""

    price: np.ndarray
    fx: np.ndarray
    days: list[MarketDay]


def tell(seed: int, *, listed: bool, consistent: bool) -> Story:
    """Invent a market with events of every kind, holidays, missing closes, leavers and changing terms.

    Unless `consistent`, closes follow returns only roughly, as where an event is missing from the file.
    """
    rng = np.random.default_rng(seed)
    close, fx = rng.uniform(5, 200, N), np.array([1.0, 1.1, 0.007])
    price = np.where(np.arange(N) == NEW, np.nan, close)
    days, ended, start_fx = [], np.zeros(N, dtype=bool), fx
    for t, date in enumerate(pd.bdate_range("2024-01-05", periods=DAYS)):
        fx = fx * np.array([1.0, *np.exp(rng.normal(0, 0.02, 2))])
        has_row = (rng.random(N) > 0.15) & ~ended & ((np.arange(N) != NEW) | (t >= 9))
        returns = rng.uniform(-0.2, 0.25, N)
        events = invent_events(rng, t, has_row, ended, close * fx[CURRENCY]) if listed else ()
        ratio, paid = np.ones(N), np.zeros(N)
        for event in events:
            if event.kind is EventKind.SPLIT:
                ratio[event.asset] = event.ratio
            if event.kind is EventKind.DIVIDEND:
                paid[event.asset] = event.amount
            ended[event.asset] |= event.kind in (EventKind.MERGER, EventKind.DELISTING)
        after = (close * (1 + returns) - paid) / ratio
        if not consistent:
            after *= np.exp(rng.normal(0, 0.01, N) * (rng.random(N) < 0.3))
        close = np.where(has_row, after, close)
        days.append(
            MarketDay(
                t=t,
                date=date,
                returns=np.where(has_row, returns, np.nan),
                close=np.where(has_row & (rng.random(N) > 0.1), close, np.nan),
                has_row=has_row,
                gone=~has_row & (rng.random(N) < 0.05),
                delisting_return=np.where(rng.random(N) < 0.5, np.nan, rng.uniform(-1, 0.1, N)),
                dollar_volume=np.where(rng.random(N) < 0.1, np.nan, rng.uniform(0, 1e6, N)),
                fx=fx,
                rates=rng.uniform(-0.01, 0.08, 3),
                borrow_fee=np.where(rng.random(N) < 0.5, np.nan, rng.uniform(0, 0.5, N)),
                rebate=np.where(rng.random(N) < 0.5, np.nan, rng.uniform(-0.1, 0.05, N)),
                available=np.where(rng.random(N) < 0.5, np.nan, rng.integers(0, 2_000, N).astype(float)),
                events=events if listed else None,
            )
        )
    return Story(price, start_fx, days)


def invent_events(
    rng: np.random.Generator, t: int, has_row: np.ndarray, ended: np.ndarray, price: np.ndarray
) -> tuple[Event, ...]:
    """Return events in the order in which they take effect; `price` is yesterday's, in dollars."""
    made = []
    for kind in EventKind:
        for i in map(int, np.flatnonzero(rng.random(N) < 0.04)):
            other = (i + 1 + int(rng.integers(N - 1))) % N
            swap = kind in (EventKind.MERGER, EventKind.SPIN_OFF)
            ex_date = kind in (EventKind.SPLIT, EventKind.DIVIDEND, EventKind.SPIN_OFF)
            split = any(event.asset == other and event.kind is EventKind.SPLIT for event in made)
            chain = kind is EventKind.SPIN_OFF and any(event.kind is kind for event in made)
            twice = other == NEW and t < 9 and (t != 4 or any(event.new_asset == NEW for event in made))
            if ended[i] or (ex_date and not has_row[i]) or (swap and (ended[other] or split or twice or chain)):
                continue
            ratio = 1.0 if kind is EventKind.RECALL else float(rng.choice([0.02, 0.5, 2.0]))
            if kind is EventKind.SPIN_OFF:
                ratio = float(0.05 * price[i] / price[other])  # a twentieth of the company
            amount = float(rng.uniform(0, 0.01)) if kind is not EventKind.DELISTING or rng.random() < 0.5 else math.nan
            made.append(Event(t, i, kind, ratio, amount, other if swap else -1, str(rng.choice(["", "bankruptcy"]))))
    return tuple(made)


def live(story: Story, ledger: Ledger, seed: int, *, trade: bool) -> list[dict[str, float]]:
    """Pass every day, and return the lines of each; the ledger proves its identities, and here they are proved once more."""
    rng = np.random.default_rng(seed)
    lines = []
    for market in story.days:
        before = worth(ledger)
        day = ledger.open_day(market)
        if trade:
            ledger.fill(day, market)
            if rng.random() < 0.5:
                ledger.sweep(day)
            ledger.charge_fees(day, *rng.uniform(0, 500, 2))
            ledger.deal(day, subscription=rng.uniform(0, 5e4), redemption=rng.uniform(0, 5e4))
        nav = ledger.close_day(day)
        assert nav == pytest.approx(worth(ledger), abs=0.005)
        assert nav - before == pytest.approx(sum(day.lines.values()), abs=0.005)
        assert day.gross == pytest.approx(sum(day.lines[name] for name in GROSS_LINES), abs=0.005)
        lines.append(day.lines)
        if trade and nav > 0 and rng.random() < 0.6:
            ledger.orders.withdraw_late(market.t)
            known = ledger.price > 0
            ledger.order(market.t, rng.normal(0, 0.2, N), known & (rng.random(N) < 0.7), ["rebalance"] * N)
    return lines


def worth(ledger: Ledger) -> float:
    """Return net assets the slow way."""
    total = math.fsum(cash * fx for cash, fx in zip(ledger.cash, ledger.fx, strict=True))
    held = [i for i in range(N) if ledger.shares[i] != 0]
    return total + math.fsum(ledger.shares[i] * ledger.price[i] * ledger.fx[CURRENCY[i]] for i in held)


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 10**9),
    listed=st.booleans(),
    consistent=st.booleans(),
    inside=st.booleans(),
    limited=st.booleans(),
    hedge=st.sampled_from(["none", "full"]),
    lag=st.integers(1, 3),
)
def test_every_change_of_net_assets_has_a_line(
    seed: int, listed: bool, consistent: bool, inside: bool, limited: bool, hedge: str, lag: int
) -> None:
    story = tell(seed, listed=listed, consistent=consistent)
    rules = LedgerRules(
        lag=lag,
        financing=FinancingRule(spread=0.01, cash_spread=0.002, borrow_fee=0.02, day_count=360),
        commission=1e-4,
        participation_limit=0.1 if limited else None,
        fx_hedge=hedge,  # type: ignore[arg-type]
        fx_cost=2e-4,
        dividends_inside=inside,
        delisting={"bankruptcy": -1.0, "": -0.1},
    )
    ledger = Ledger(NAMES, 1e6, rules, currencies=CURRENCIES, currency=CURRENCY)
    ledger.start(story.price, shares={"A0": 500.0, "A2": -300.0, "A4": 1_000.0}, fx=story.fx)
    ledger.set_costs(np.ones(N, dtype=bool), TradeCosts([6e-4] * N, [0.05] * N, annualisation=10), 1e6)
    start = ledger.nav
    lines = live(story, ledger, seed, trade=True)
    total = math.fsum(amount for day in lines for amount in day.values())
    assert ledger.nav - start == pytest.approx(total, abs=0.01)


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 10**9), listed=st.booleans(), consistent=st.booleans(), inside=st.booleans())
def test_a_short_earns_what_the_same_long_loses(seed: int, listed: bool, consistent: bool, inside: bool) -> None:
    story = tell(seed, listed=listed, consistent=consistent)
    # Interest is not the same on both sides, and would leave other amounts of foreign cash.
    days = [replace(market, rates=None, borrow_fee=None, rebate=None) for market in story.days]
    story = replace(story, days=days)
    rules = LedgerRules(dividends_inside=inside, delisting={"bankruptcy": -1.0, "": -0.1})
    shares = {"A0": 500.0, "A1": 200.0, "A2": 300.0, "A3": 100.0, "A4": 1_000.0, "A5": 50.0}
    earned = []
    for sign in (1.0, -1.0):
        ledger = Ledger(NAMES, 0.0, rules, currencies=CURRENCIES, currency=CURRENCY)
        ledger.start(story.price, shares={name: sign * held for name, held in shares.items()}, fx=story.fx)
        earned.append(live(story, ledger, seed, trade=False))
    moved = 0.0
    for ours, theirs in zip(*earned, strict=True):
        for name in GROSS_LINES:
            assert ours[name] == pytest.approx(-theirs[name], abs=0.005)
            moved += abs(ours[name])
    assert moved > 100
