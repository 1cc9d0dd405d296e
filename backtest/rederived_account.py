"""A run's account derived anew: from its shares, prices and trades, the data set's returns, and terms in closed form."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from backtest.audit_evidence import Check, Evidence
from backtest.rederived_cash import derive_cash
from backtest.rederived_fees import fee_checks, unit_value
from backtest.rederived_profits import derive_profits, yesterday
from risk.checks import FloatArray

__all__ = ["account_checks"]

CENT = 0.005
EXACT = 1e-9
"""Of net assets: sums of thousands of terms in another order."""
MARKED = 1e-6
"""Shares that follow the events, and a return of six decimals, may differ by so much from the close."""
LINES = {
    "gross_return": (1, ("price", "dividend", "delisting", "fx")),
    "cost": (-1, ("spread", "commission", "impact", "fx_cost")),
    "financing": (-1, ("debit_interest", "credit_interest", "rebate", "borrow_fee")),
}


def account_checks(evidence: Evidence) -> Iterator[Check]:
    """Yield what must hold of a run's account."""
    yield from _sums(evidence)
    yield from _marks(evidence)
    yield from _derived(evidence)
    yield from fee_checks(evidence)
    yield from _returns(evidence)
    yield from _weights(evidence)


def _sums(evidence: Evidence) -> Iterator[Check]:
    nav, before, lines = evidence.nav, evidence.before, evidence.lines
    worth = nav["nav"].to_numpy()
    if lines is not None:
        moved = worth - before - lines.sum(axis=1).to_numpy()
        yield evidence.check(
            "nav lines", "nav(t) - nav(t-1) = sum of the day's lines", _cents(evidence, moved), CENT, unit="money"
        )
        for column, (sign, names) in LINES.items():
            told = sign * lines.reindex(columns=list(names), fill_value=0.0).sum(axis=1).to_numpy() / before
            yield evidence.check(
                f"{column} lines".replace("_", " "),
                f"{column} = its lines over nav(t-1)",
                nav[column].to_numpy() - told,
                EXACT,
            )
    held = (evidence.shares * np.nan_to_num(evidence.price) * evidence.fx).sum(axis=1)
    off = _cents(evidence, worth - nav["cash"].to_numpy() - held)
    yield evidence.check("nav books", "nav = cash + shares x price x exchange rate", off, CENT, unit="money")


def _cents(evidence: Evidence, money: FloatArray) -> FloatArray:
    """Return money in units of which float64 resolves half: of ten billion and more that is more than a cent."""
    return np.asarray(money / np.maximum(1.0, 1e-13 * np.abs(evidence.value).sum(axis=1) / CENT))


def _marks(evidence: Evidence) -> Iterator[Check]:
    worth = evidence.shares * np.nan_to_num(evidence.price) * evidence.fx
    off = (evidence.value - worth) / evidence.before[:, None]
    yield evidence.check("position values", "value = shares x price x exchange rate", off, EXACT)
    priced = evidence.has_row & np.isfinite(evidence.close) & np.isfinite(evidence.price)
    off = np.divide(evidence.price, evidence.close, out=np.ones_like(worth), where=priced) - 1
    yield evidence.check("closes", "price = the data set's close", off, 1e-12, among=priced, unit="relative")
    trades = evidence.trades
    own = trades["shares"] * trades["price"] * evidence.fx[trades["t"], trades["i"]] / evidence.before[trades["t"]]
    off = np.zeros_like(worth)
    np.maximum.at(off, (trades["t"].to_numpy(), trades["i"].to_numpy()), (trades["trade"] - own).abs().to_numpy())
    yield evidence.check("trade values", "trade = shares x price over nav(t-1)", off, EXACT)


def _derived(evidence: Evidence) -> Iterator[Check]:
    """Yield profits, positions, cash, costs and financing against those derived from the data set."""
    nav, before, value = evidence.nav, evidence.before, yesterday(evidence.value)
    found = derive_profits(evidence)
    cash = derive_cash(evidence, found)
    close = EXACT if evidence.events is None else MARKED
    yield evidence.check(
        "profits",
        "a position's profit = its value x the data set's return, and events",
        (evidence.pnl - found.profit) / before[:, None],
        close,
        among=~found.unknown,
    )
    earned = (np.where(found.unknown, evidence.pnl, found.profit).sum(axis=1) + cash.on_rates) / before
    leverage = np.maximum(1.0, np.abs(value).sum(axis=1) / before)
    yield evidence.check(
        "gross return",
        "gross_return = these profits over nav(t-1)",
        (nav["gross_return"].to_numpy() - earned) / leverage,
        close,
    )
    kept = evidence.value - value - evidence.pnl - evidence.traded + found.dividends
    yield evidence.check(
        "positions",
        "value = value before + profit + trades - dividends",
        kept / before[:, None],
        close,
        among=~found.ended,
    )
    off = (nav["cash"].to_numpy() - cash.total) / before
    yield evidence.check("cash", "cash = all that was paid and received since the start, by currency", off, close)
    charged = (evidence.paid.sum(axis=1) + cash.conversion) / before
    yield evidence.check(
        "cost", "cost = the trades' costs and those of conversion", nav["cost"].to_numpy() - charged, EXACT
    )
    yield evidence.check(
        "financing",
        "financing = interest, rebates and borrow fees on the book of the close before",
        nav["financing"].to_numpy() - cash.financing / before,
        EXACT,
    )
    turnover = np.abs(evidence.traded).sum(axis=1) / 2 / before
    yield evidence.check(
        "turnover", "turnover = half of the value traded", nav["turnover"].to_numpy() - turnover, EXACT
    )


def _returns(evidence: Evidence) -> Iterator[Check]:
    nav = {name: evidence.nav[name].to_numpy() for name in evidence.nav}
    parts = nav["gross_return"] - nav["cost"] - nav["financing"]
    yield evidence.check(
        "return before fees", "gross_return - cost - financing", nav["return_before_fees"] - parts, EXACT
    )
    after = nav["return_before_fees"] - nav["management_fee"] - nav["incentive_fee"]
    yield evidence.check("net return", "return_before_fees - fees", nav["net_return"] - after, EXACT)
    unit = unit_value(evidence)
    growth = unit[1:] / unit[:-1] - 1
    yield evidence.check("nav per share", "net assets per share grow by net_return", growth - nav["net_return"], EXACT)


def _weights(evidence: Evidence) -> Iterator[Check]:
    rows, table = evidence.weights, np.zeros(evidence.value.shape)
    table[rows["t"], rows["i"]] = rows["weight"]
    own = evidence.value / evidence.nav["nav"].to_numpy()[:, None]
    yield evidence.check("weights", "weight = value / nav", table - own, EXACT)
    for name, total in (("gross", np.abs(own)), ("net", own)):
        off = evidence.nav[name].to_numpy() - total.sum(axis=1)
        yield evidence.check(
            name, f"{name} = sum of the weights{' without sign' if name == 'gross' else ''}", off, EXACT
        )
