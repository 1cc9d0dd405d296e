"""What one share becomes on the day of a split, a dividend or a spin-off, and which events a ledger can take."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from backtest.events import Event, EventKind
from backtest.market_day import MarketDay
from risk import DataError
from risk.checks import FloatArray

__all__ = ["Actions", "SpinOff", "collect_actions"]

EX_DATES = (EventKind.SPLIT, EventKind.DIVIDEND, EventKind.SPIN_OFF)


@dataclass(frozen=True)
class SpinOff:
    """Shares of `child` for each share of `parent` that was held before the day."""

    parent: int
    child: int
    ratio: float


@dataclass(frozen=True, eq=False)
class Actions:
    """What one share of the day before becomes, for N assets.

    Attributes
    ----------
    ratio : ndarray of shape (N,)
        Shares of the same asset; 1 without a split.
    dividend : ndarray of shape (N,)
        Cash, in the asset's own currency.
    spin_offs : tuple of SpinOff
    """

    ratio: FloatArray
    dividend: FloatArray
    spin_offs: tuple[SpinOff, ...]


def collect_actions(market: MarketDay, assets: tuple[str, ...]) -> Actions:
    """Return what the day's events make of one share of each asset.

    A dividend is paid for each share of the day before; the ratio of a spin-off counts for each share after a split.

    Raises
    ------
    DataError
        If an event is of an asset that the ledger does not know, lacks a number that it needs, or is an ex-date of an asset
        without a row; if an asset is spun off and spins off on the same day.
    """
    ratio, dividend, spun = np.ones(len(assets)), np.zeros(len(assets)), []
    for event in market.events or ():
        _check(event, market, assets)
        if event.kind is EventKind.SPLIT:
            ratio[event.asset] *= event.ratio
        elif event.kind is EventKind.DIVIDEND:
            dividend[event.asset] += event.amount
        elif event.kind is EventKind.SPIN_OFF:
            spun.append(event)
    parents = {event.asset for event in spun}
    for event in spun:
        if event.new_asset in parents:
            raise DataError(
                f"{market.date:%Y-%m-%d}: {assets[event.new_asset]!r} is spun off from {assets[event.asset]!r} and spins off a "
                "company itself. Date one of the two on another day."
            )
    spin_offs = tuple(SpinOff(event.asset, event.new_asset, event.ratio * ratio[event.asset]) for event in spun)
    return Actions(ratio, dividend, spin_offs)


def _check(event: Event, market: MarketDay, assets: tuple[str, ...]) -> None:
    """Refuse an event that would spoil the books."""
    kind, date = event.kind, market.date
    if not 0 <= event.asset < len(assets):
        raise DataError(f"{date:%Y-%m-%d}: {kind} of asset {event.asset}; the ledger knows 0 to {len(assets) - 1}.")
    name = assets[event.asset]
    about = f"{date:%Y-%m-%d}: {kind} of {name!r}"
    swap = kind is EventKind.SPIN_OFF or (kind is EventKind.MERGER and event.ratio != 0)
    if swap and (event.new_asset == event.asset or not 0 <= event.new_asset < len(assets)):
        raise DataError(f"{about} gives shares of asset {event.new_asset}, which is no other asset of the ledger.")
    if kind in EX_DATES and not market.has_row[event.asset]:
        raise DataError(f"{about}: the asset has no row that day. Date the event on its next row.")
    positive = kind in (EventKind.SPLIT, EventKind.SPIN_OFF, EventKind.RECALL)
    wanted: Iterable[tuple[str, float, bool]] = (
        ("ratio", event.ratio, event.ratio > 0 if positive else event.ratio >= 0),
        ("amount", event.amount, event.amount >= 0 or (kind is EventKind.DELISTING and np.isnan(event.amount))),
    )
    for field, value, good in wanted:
        if not good or np.isinf(value):
            raise DataError(f"{about}: `{field}` is {value}; it must be {'positive' if positive else 'not negative'}.")
