"""One day's account: every change of net asset value under a name of its own."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt

from risk.checks import FloatArray

__all__ = ["COST_LINES", "FINANCING_LINES", "GROSS_LINES", "LINES", "Day", "Fills", "Notice"]

GROSS_LINES = ("price", "dividend", "delisting", "fx")
COST_LINES = ("spread", "commission", "impact", "fx_cost")
FINANCING_LINES = ("debit_interest", "credit_interest", "rebate", "borrow_fee")
LINES = (
    *GROSS_LINES,
    *COST_LINES,
    *FINANCING_LINES,
    "management_fee",
    "incentive_fee",
    "subscription",
    "redemption",
)
"""Every reason for which net asset value may change. A gain is positive, a charge negative."""

Index = npt.NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class Fills:
    """The trades of one day, by asset; each array has one entry per trade.

    Attributes
    ----------
    asset, decided : int ndarray
        The asset, and the day on which its order was given.
    shares, price : ndarray
        Bought +; price in the asset's own currency.
    value : ndarray
        Shares times price, in base money.
    spread, commission, impact : ndarray
        What the trade cost, in base money, each >= 0.
    reason : tuple of str
    """

    asset: Index
    decided: Index
    shares: FloatArray
    price: FloatArray
    value: FloatArray
    spread: FloatArray
    commission: FloatArray
    impact: FloatArray
    reason: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.asset)

    @property
    def cost(self) -> FloatArray:
        """All that each trade cost, in base money."""
        return self.spread + self.commission + self.impact

    @classmethod
    def none(cls) -> Fills:
        """Return no trades."""
        index, number = np.zeros(0, dtype=np.intp), np.zeros(0)
        return cls(index, index, number, number, number, number, number, number, ())

    @classmethod
    def gathered(cls, parts: list[Fills]) -> Fills:
        """Return the trades of several orders as one table, by asset; an asset's own in the order in which they came."""
        if not parts:
            return cls.none()
        order = np.argsort(np.concatenate([part.asset for part in parts]), kind="stable")
        columns = ("asset", "decided", "shares", "price", "value", "spread", "commission", "impact")
        arrays = {name: np.concatenate([getattr(part, name) for part in parts])[order] for name in columns}
        reasons = list(chain.from_iterable(part.reason for part in parts))
        return cls(**arrays, reason=tuple(reasons[k] for k in order))


@dataclass(frozen=True)
class Notice:
    """Something that happened to the books and that a reader of the run should know.

    Attributes
    ----------
    kind : str
    asset : int
        -1 where it is about no single asset.
    amount : float
        Base money; NaN where there is none.
    detail : str
    """

    kind: str
    asset: int
    amount: float
    detail: str


@dataclass
class Day:
    """The account of one day, in base money.

    Attributes
    ----------
    t : int
    nav_before : float
        Net asset value at the close before.
    pnl : ndarray of shape (N,)
        What each position earned: its part of the lines price, dividend, delisting and fx.
    fx_on_cash : float
        What cash in foreign currencies earned; with `pnl` it adds up to the gross lines.
    lines : dict of str to float
        Signed changes of net asset value under each of `LINES`.
    fills : Fills
    notices : list of Notice
    """

    t: int
    nav_before: float
    pnl: FloatArray
    fx_on_cash: float = 0.0
    lines: dict[str, float] = field(default_factory=lambda: dict.fromkeys(LINES, 0.0))
    fills: Fills = field(default_factory=Fills.none)
    notices: list[Notice] = field(default_factory=list)

    def book(self, line: str, amount: float) -> None:
        """Add a change of net asset value to its line: a gain +, a charge -."""
        if line not in self.lines:
            raise KeyError(f"{line!r} is no line of the account; there are {', '.join(LINES)}")
        self.lines[line] += float(amount)

    def note(self, kind: str, asset: int | np.integer[Any], amount: float, detail: str) -> None:
        """Remember something for the run's notices."""
        self.notices.append(Notice(kind, int(asset), float(amount), detail))

    @property
    def gross(self) -> float:
        """Profit before costs, financing and fees."""
        return float(self.pnl.sum()) + self.fx_on_cash

    @property
    def cost(self) -> float:
        """What trading cost; a charge is positive."""
        return -sum(self.lines[name] for name in COST_LINES)

    @property
    def financing(self) -> float:
        """Interest and borrow fees less interest and rebates received; a charge is positive."""
        return -sum(self.lines[name] for name in FINANCING_LINES)

    @property
    def management_fee(self) -> float:
        """Charged, positive."""
        return -self.lines["management_fee"]

    @property
    def incentive_fee(self) -> float:
        """Charged, positive."""
        return -self.lines["incentive_fee"]

    @property
    def traded(self) -> float:
        """All that was bought and sold."""
        return float(sum(np.abs(self.fills.value).tolist()))
