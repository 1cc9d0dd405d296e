"""A ledger of assets A, B, C, D whose days are told by what changed, and checked to the cent, line by line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytest

from backtest.events import Event, EventKind
from backtest.ledger import Ledger
from backtest.ledger_rules import LedgerRules
from backtest.lines import LINES, Day
from backtest.market_day import MarketDay

NAMES = "ABCD"
PRICES = {"A": 50.0, "B": 130.0, "C": 40.0}
"""Closes before the first day; D has none."""
FRIDAY = "2024-01-05"
CENT = 0.005


def by_name(values: Mapping[str, float], otherwise: float) -> np.ndarray:
    return np.array([values.get(name, otherwise) for name in NAMES])


def event(
    kind: EventKind, asset: str, *, ratio: float = 0.0, amount: float = 0.0, new: str = "", cause: str = ""
) -> Event:
    return Event(-1, NAMES.index(asset), kind, ratio, amount, NAMES.index(new) if new else -1, cause)


class Book:
    """Starts at the close of Friday 2024-01-05 with cash, shares and `PRICES`.

    `currency` names the assets that are not in dollars.
    """

    def __init__(
        self,
        cash: float,
        shares: Mapping[str, float],
        *,
        rules: LedgerRules | None = None,
        prices: Mapping[str, float] = PRICES,
        currency: Mapping[str, str] | None = None,
        fx: Mapping[str, float] | None = None,
        **friday: Any,
    ) -> None:
        codes = ("USD", *(fx or {}))
        place = np.array([codes.index((currency or {}).get(name, "USD")) for name in NAMES])
        self.codes = codes
        self.ledger = Ledger(NAMES, cash, rules or LedgerRules(), currencies=codes, currency=place)
        self.close, self.fx = dict(prices), {"USD": 1.0, **(fx or {})}
        self.ledger.start(by_name(prices, np.nan), shares=shares, fx=np.array(list(self.fx.values())))
        self.t = -1
        self.market: MarketDay
        self.pass_day(FRIDAY, **friday)

    @property
    def nav(self) -> float:
        return self.ledger.nav

    def open(
        self,
        date: str,
        *,
        r: Mapping[str, float] | None = None,
        close: Mapping[str, float] | None = None,
        shut: str = "",
        fx: Mapping[str, float] | None = None,
        events: Sequence[Event] | None = (),
        gone: str = "",
        volume: Mapping[str, float] | None = None,
        **terms: Mapping[str, float],
    ) -> Day:
        """Open a day. `close` follows from the return `r` where it is not given; assets in `shut` have no row."""
        self.t += 1
        self.fx |= fx or {}
        moved = {name: price * (1 + (r or {}).get(name, 0.0)) for name, price in self.close.items()}
        self.close |= {name: price for name, price in {**moved, **(close or {})}.items() if name not in shut}
        has_row = np.array([name in self.close and name not in shut for name in NAMES])
        arrays = {name: by_name(values, np.nan) for name, values in terms.items() if name != "rates"}
        if "rates" in terms:
            arrays["rates"] = np.array([terms["rates"][code] for code in self.codes])
        self.market = MarketDay(
            t=self.t,
            date=pd.Timestamp(date),
            returns=np.where(has_row, by_name(r or {}, 0.0), np.nan),
            close=np.where(has_row, by_name(self.close, np.nan), np.nan),
            has_row=has_row,
            gone=np.array([name in gone for name in NAMES]),
            dollar_volume=by_name(volume or {}, np.nan),
            fx=np.array([self.fx[code] for code in self.codes]),
            events=None if events is None else tuple(events),
            **arrays,
        )
        return self.ledger.open_day(self.market)

    def pass_day(self, date: str, *, sweep: bool = False, **told: Any) -> Day:
        """Open, fill and close a day."""
        day = self.open(date, **told)
        self.ledger.fill(day, self.market)
        if sweep:
            self.ledger.sweep(day)
        self.ledger.close_day(day)
        return day

    def order(self, **shares: float) -> None:
        """Order shares of assets at the close of the day that was passed last."""
        wanted = by_name(shares, 0.0)
        self.ledger.orders.place(self.t, wanted, ["rebalance"] * len(NAMES))

    def check(
        self,
        day: Day,
        *,
        cash: float | Mapping[str, float],
        shares: Mapping[str, float],
        value: Mapping[str, float],
        nav: float,
        **lines: float,
    ) -> None:
        """Compare everything to the cent: assets and lines that are not named must be 0."""
        unknown = set(lines) - set(LINES)
        assert not unknown, unknown
        held = {"USD": cash} if not isinstance(cash, Mapping) else cash
        assert dict(zip(self.codes, self.ledger.cash, strict=True)) == pytest.approx(
            {code: held.get(code, 0.0) for code in self.codes}, abs=CENT
        )
        assert self.ledger.shares == pytest.approx(by_name(shares, 0.0), abs=CENT)
        assert self.ledger.value == pytest.approx(by_name(value, 0.0), abs=CENT)
        assert self.ledger.nav == pytest.approx(nav, abs=CENT)
        assert day.lines == pytest.approx({name: lines.get(name, 0.0) for name in LINES}, abs=CENT)


def long(**more: Any) -> Book:
    """1,000 shares at 50 and 950,000 in cash: a million."""
    return Book(950_000, {"A": 1_000}, **more)


def short(**more: Any) -> Book:
    """1,000 shares sold at 50 and 1,050,000 in cash: a million."""
    return Book(1_050_000, {"A": -1_000}, **more)


def notices(day: Day) -> list[tuple[str, str]]:
    return [(notice.kind, NAMES[notice.asset] if notice.asset >= 0 else "") for notice in day.notices]
