"""What a dealing day did with each request, and the money that came of it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from enum import StrEnum

import pandas as pd

from backtest.flows import Flow

__all__ = ["Deal", "DealKind", "Dealing", "Lot", "Outcome", "Waiting", "deal_table"]


class DealKind(StrEnum):
    """What was asked for."""

    SUBSCRIPTION = "subscription"
    REDEMPTION = "redemption"


class Outcome(StrEnum):
    """What became of it."""

    DEALT = "dealt"
    WAITING = "waiting"
    REFUSED = "refused"


@dataclass
class Lot:
    """Units that one investor bought on one day.

    Attributes
    ----------
    investor : str
    series : int
        Position of its series in `ShareRegister.series`.
    opened : Timestamp
        Day of the subscription: the lockup runs from here.
    units : float
        Units still held.
    """

    investor: str
    series: int
    opened: pd.Timestamp
    units: float


@dataclass
class Waiting:
    """A request and what is left of it; `told` is the reason to wait that is on record."""

    flow: Flow
    left: float
    told: str = ""


@dataclass(frozen=True)
class Deal:
    """One line of the record of dealing; all but `units` and `price` in money.

    Attributes
    ----------
    date, requested : Timestamp
        Dealing day, and day of the request.
    investor : str
    kind : DealKind
    outcome : Outcome
    amount : float
        Paid in, paid out, refused or still waiting; infinite where everything was asked for.
    units : float
        Issued or cancelled.
    price : float
        Per unit: what the investor paid or was paid for it; NaN where nothing was dealt.
    management_fee : float
        A subscription's first month; negative where a redemption got back the month that had just begun.
    incentive_fee : float
        Taken on what was redeemed.
    series : int
        -1 where nothing was dealt.
    detail : str
        Why it waits or was refused.
    """

    date: pd.Timestamp
    requested: pd.Timestamp
    investor: str
    kind: DealKind
    outcome: Outcome
    amount: float
    units: float = 0.0
    price: float = float("nan")
    management_fee: float = 0.0
    incentive_fee: float = 0.0
    series: int = -1
    detail: str = ""


@dataclass(frozen=True)
class Dealing:
    """All of one day's dealing."""

    deals: tuple[Deal, ...] = field(default=())

    def _dealt(self, kind: DealKind) -> float:
        return sum(deal.amount for deal in self.deals if deal.outcome is Outcome.DEALT and deal.kind is kind)

    @property
    def subscription(self) -> float:
        """Money paid in."""
        return self._dealt(DealKind.SUBSCRIPTION)

    @property
    def redemption(self) -> float:
        """Money paid out."""
        return self._dealt(DealKind.REDEMPTION)

    @property
    def management_fee(self) -> float:
        """Fees of newcomers' first month less what was given back to leavers, in money."""
        return sum(deal.management_fee for deal in self.deals)

    @property
    def incentive_fee(self) -> float:
        """Fees taken on what was redeemed, in money."""
        return sum(deal.incentive_fee for deal in self.deals)

    @property
    def change(self) -> float:
        """By how much net assets moved."""
        return self.subscription - self.redemption - self.management_fee - self.incentive_fee


def deal_table(deals: tuple[Deal, ...]) -> pd.DataFrame:
    """Return deals as a table, one row each, columns as the fields of `Deal`; enumerations as their text."""
    rows = [asdict(deal) | {"kind": deal.kind.value, "outcome": deal.outcome.value} for deal in deals]
    return pd.DataFrame(rows, columns=list(Deal.__dataclass_fields__))
