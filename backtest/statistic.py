"""A number with what it means: definition, convention, interval, and the reason where it is not known."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from scipy.special import ndtri

__all__ = ["Band", "Group", "Statistic", "Statistics", "Unit", "normal_band"]


class Unit(StrEnum):
    """Unit of a statistic; numbers are decimals, never percent."""

    FRACTION = "fraction of NAV"
    PER_SESSION = "fraction of NAV per session"
    PER_YEAR = "fraction of NAV per year"
    RATIO = "ratio"
    SLOPE = "slope"
    MULTIPLE = "times NAV"
    MULTIPLE_PER_YEAR = "times NAV per year"
    SHARE = "share of sessions"
    SHARE_OF_MONTHS = "share of months"
    SHARE_OF_DECISIONS = "share of decisions"
    SHARE_OF_CAPACITY = "share of capacity"
    PROBABILITY = "probability"
    SESSIONS = "sessions"
    COUNT = "count"


class Group(StrEnum):
    """What a statistic answers."""

    RETURN = "Return and volatility"
    SHARPE = "Sharpe ratio, and what it proves"
    DRAWDOWN = "Drawdown"
    TAILS = "Shape and tails of daily returns"
    MARKET = "Market"
    WINS = "How often it wins, and how much"
    FORECAST = "Volatility against forecast and limit"
    BOOK = "Book, trading and charges"


@dataclass(frozen=True)
class Band:
    """Interval of a statistic.

    Attributes
    ----------
    lower, upper : float
        In the statistic's unit.
    method : str
        What the interval is and how it was found, its level included.
    """

    lower: float
    upper: float
    method: str


@dataclass(frozen=True)
class Statistic:
    """One number with its definition.

    Attributes
    ----------
    name, label : str
        Key for machines, and what a reader sees.
    value : float
        Decimal; NaN where not known.
    unit : Unit
    definition : str
        The formula in words.
    note : str
        Why the value is NaN, or dates and counts that belong to it.
    convention : str
        What the formula leaves open: which returns, divisors, days, rates.
    band : Band, optional
        None for facts of the account, which are counted and not estimated, and where it is not known.
    group : Group
    """

    name: str
    label: str
    value: float
    unit: Unit
    definition: str
    note: str = ""
    convention: str = ""
    band: Band | None = None
    group: Group = Group.RETURN


@dataclass(frozen=True)
class Statistics:
    """Statistics in the order in which they are printed; ``statistics["sharpe_net"]`` finds one by name."""

    items: tuple[Statistic, ...]

    def __iter__(self) -> Iterator[Statistic]:
        return iter(self.items)

    def __getitem__(self, name: str) -> Statistic:
        for item in self.items:
            if item.name == name:
                return item
        raise KeyError(name)

    def select(self, names: Sequence[str]) -> Statistics:
        """Return the statistics of these names, in their order."""
        return Statistics(tuple(self[name] for name in names))

    def groups(self) -> dict[Group, Statistics]:
        """Return the statistics by group, in order of their first."""
        found: dict[Group, list[Statistic]] = {}
        for item in self.items:
            found.setdefault(item.group, []).append(item)
        return {group: Statistics(tuple(items)) for group, items in found.items()}

    def as_record(self) -> dict[str, float | None]:
        """Return values by name for `run.json`, and ``NAME_lower``, ``NAME_upper`` where there is a band; None where not known."""
        record: dict[str, float | None] = {}
        for item in self.items:
            record[item.name] = None if math.isnan(item.value) else item.value
            if item.band is not None:
                record |= {f"{item.name}_lower": item.band.lower, f"{item.name}_upper": item.band.upper}
        return record


def normal_band(estimate: float, error: float, method: str, *, level: float = 0.95) -> Band | None:
    """Return estimate -+ z error, z the normal quantile; None where either is not finite.

    Examples
    --------
    >>> normal_band(1.0, 0.5, "95 %, known error")
    Band(lower=0.020..., upper=1.979..., method='95 %, known error')
    """
    if not (math.isfinite(estimate) and math.isfinite(error)):
        return None
    reach = float(ndtri(0.5 + level / 2)) * error
    return Band(estimate - reach, estimate + reach, method)
