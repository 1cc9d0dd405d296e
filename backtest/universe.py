"""Which assets may be held on each day, and which are on holiday, suspended or gone.

Row t of every result uses rows up to t of the panel and nothing after them. What is left out is counted, per day and reason.

A missing row is read in three ways. Where no asset of the country has a row that day, the country is on holiday. Where its
country trades, the asset is suspended. After `stale_days` sessions of its country without a row it is gone, until it has a
row again. A country without any session for `stale_days` days is no longer on holiday: else the only asset of its country
could never be gone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
from pydantic import BaseModel, ConfigDict, Field

from risk import DataError, Panel
from risk.checks import BoolArray, FloatArray, freeze

__all__ = ["REASONS", "Presence", "Universe", "UniverseRule", "absence", "find_presence", "trailing_median", "universe"]

Reasons = npt.NDArray[np.int8]

# In the order in which they are tried: an asset is counted under the first that applies.
REASONS = ("no_row", "label", "history", "price", "dollar_volume", "market_cap", "size_rank")
VOLUME_DAYS = 63
SIZE_DAYS = 252
# A market cap that is missing is carried from the asset's last known one for at most a month.
CAP_DAYS = 21


class UniverseRule(BaseModel):
    """Who may be held.

    Attributes
    ----------
    minimum_price : float
        Lowest close, in the asset's own currency; 0 where the data set has no close.
    minimum_dollar_volume : float
        Lowest trailing 63-day median of the value traded per day, currency of the data set; 0 where it has none.
    minimum_market_cap : float
        Lowest market cap, currency of the data set; not applied where it has none.
    history_days : int
        Rows that an asset must have had up to and with the day.
    maximum_assets : int or None
        Only so many of the largest.
    equal_size : bool
        Take every size as 1: for data with neither market cap nor dollar volume.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    minimum_price: float = Field(default=1.0, ge=0)
    minimum_dollar_volume: float = Field(default=1e6, ge=0)
    minimum_market_cap: float = Field(default=0.0, ge=0)
    history_days: int = Field(default=126, ge=0)
    maximum_assets: int | None = Field(default=None, ge=1)
    equal_size: bool = False

    @classmethod
    def for_columns(cls, columns: tuple[str, ...]) -> UniverseRule:
        """Return the default rule for a market file with these optional columns: no demand on what it does not have.

        Examples
        --------
        >>> UniverseRule.for_columns(("market_cap", "dollar_volume")).minimum_price
        0.0
        """
        rule = cls().applied_to(columns)
        return rule.model_copy(update={"equal_size": "dollar_volume" not in columns and "market_cap" not in columns})

    def applied_to(self, columns: tuple[str, ...]) -> UniverseRule:
        """Return the rule without its demands on optional columns that the market file does not have.

        Examples
        --------
        >>> UniverseRule(minimum_price=5.0).applied_to(("dollar_volume",)).minimum_price
        0.0
        """
        return self.model_copy(update=dict.fromkeys(self.not_applied(columns), 0.0))

    def not_applied(self, columns: tuple[str, ...]) -> list[str]:
        """Return the demands of the rule that ask for a column which the market file does not have."""
        asks = {
            "minimum_price": "close",
            "minimum_dollar_volume": "dollar_volume",
            "minimum_market_cap": "market_cap",
        }
        return [name for name, column in asks.items() if column not in columns and getattr(self, name) > 0]


@dataclass(frozen=True, eq=False)
class Presence:
    """Where an asset stands on each day; every array is bool of shape (T, N) and known at the day's close.

    Attributes
    ----------
    listed : ndarray
        It has had a row.
    holiday : ndarray
        Listed, not gone, and its country has no session.
    suspended : ndarray
        Listed, not gone, without a row though its country has a session.
    gone : ndarray
        Without a row for `stale_days` sessions of its country, until it has one again.
    """

    listed: BoolArray
    holiday: BoolArray
    suspended: BoolArray
    gone: BoolArray


@dataclass(frozen=True, eq=False)
class Universe:
    """Who may be held on each day.

    Attributes
    ----------
    members : bool ndarray of shape (T, N)
    size : ndarray of shape (T, N)
        Market cap, or its proxy; NaN where not known, and positive for every member.
    size_source : {"market_cap", "dollar_volume", "equal"}
        What `size` is: the market cap, the trailing 252-day median dollar volume, or 1.
    excluded : DataFrame of shape (T, R)
        Assets left out per day, counted under the first reason in `REASONS` that applies. With the members they add up to N.
    carried_caps : int ndarray of shape (T,)
        Members per day whose market cap is missing and carried from at most 21 days before.
    """

    members: BoolArray
    size: FloatArray
    size_source: Literal["market_cap", "dollar_volume", "equal"]
    excluded: pd.DataFrame
    carried_caps: npt.NDArray[np.int64]


def find_presence(panel: Panel, stale_days: int) -> Presence:
    """Return where each asset stands on each day.

    Parameters
    ----------
    panel : Panel
    stale_days : int
        Sessions of an asset's country without a row after which it is gone. An asset without country counts every day.

    References
    ----------
    `docs/notation.md`, "Time": a missing row means unchanged, and the next return spans it.
    """
    days, has_row = len(panel.dates), panel.has_row
    country_open = _sessions(panel)
    row = np.arange(days, dtype=np.int32)[:, None]
    last_open = np.maximum.accumulate(np.where(country_open, row, np.int32(-1)), axis=0)
    # The last column answers for assets without country (code -1): every day is a session.
    is_open = np.take_along_axis(country_open, panel.country.astype(np.intp) % country_open.shape[1], axis=1)
    shut_days = np.take_along_axis(row - last_open, panel.country.astype(np.intp) % country_open.shape[1], axis=1)
    sessions = np.cumsum(is_open, axis=0, dtype=np.int32)
    seen = np.maximum.accumulate(np.where(has_row, sessions, np.int32(-1)), axis=0)
    listed = seen >= 0
    gone = listed & ~has_row & ((sessions - seen >= stale_days) | (shut_days >= stale_days))
    away = listed & ~has_row & ~gone
    return Presence(
        listed=freeze(listed), holiday=freeze(away & ~is_open), suspended=freeze(away & is_open), gone=freeze(gone)
    )


def absence(panel: Panel, stale_days: int) -> tuple[BoolArray, BoolArray]:
    """Return where assets are suspended and where they are gone, each bool of shape (T, N): see `Presence`."""
    presence = find_presence(panel, stale_days)
    return presence.suspended, presence.gone


def universe(panel: Panel, rule: UniverseRule, *, stale_days: int = 10) -> Universe:
    """Return who may be held on each day of the panel, from trailing data only.

    An asset on holiday keeps its membership of the day before; one that is suspended or gone is no member. History counts
    from the panel's first day, so give the panel at least `history_days` before the first decision.

    Parameters
    ----------
    panel : Panel
    rule : UniverseRule
    stale_days : int
        As in `dataset.toml`: sessions of its country without a row after which an asset is gone.

    Raises
    ------
    DataError
        If the panel has neither market caps nor dollar volumes and the rule does not say `equal_size`.
    """
    presence = find_presence(panel, stale_days)
    if panel.market_cap is None and not rule.equal_size and np.isnan(panel.dollar_volume).all():
        raise DataError(
            "The market has neither `market_cap` nor `dollar_volume`: no asset has a size. Add one of the columns, or set "
            "`equal_size` in the universe rule."
        )
    size, source = _sizes(panel, rule)
    reason = _reasons(panel, rule, size, source)
    held = _carry_and_rank(reason, presence.holiday, size, rule.maximum_assets)
    members = held == 0
    counts = np.stack([(held == code).sum(axis=1) for code in range(1, len(REASONS) + 1)], axis=1)
    carried = np.zeros(len(panel.dates), dtype=np.int64)
    if source == "market_cap" and panel.market_cap is not None:
        carried = (members & np.isnan(panel.market_cap)).sum(axis=1)
    return Universe(
        members=freeze(members),
        size=freeze(size),
        size_source=source,
        excluded=pd.DataFrame(counts, index=panel.dates, columns=list(REASONS)),
        carried_caps=freeze(carried),
    )


def trailing_median(values: FloatArray, days: int, minimum: int) -> FloatArray:
    """Return the median of the known values of the last `days` days, shape (T, N); NaN where fewer than `minimum`."""
    result: FloatArray = pd.DataFrame(values).rolling(days, min_periods=minimum).median().to_numpy()
    return result


def _sessions(panel: Panel) -> BoolArray:
    """Return whether each country has a row on each day, shape (T, C + 1); the last column is True always."""
    width = len(panel.countries) + 1
    result = np.zeros((len(panel.dates), width), dtype=np.bool_)
    day, asset = np.nonzero(panel.has_row)
    result[day, panel.country[day, asset]] = True
    result[:, -1] = True
    return result


def _sizes(panel: Panel, rule: UniverseRule) -> tuple[FloatArray, Literal["market_cap", "dollar_volume", "equal"]]:
    if rule.equal_size:
        return np.ones(panel.has_row.shape), "equal"
    if panel.market_cap is not None:
        caps: FloatArray = pd.DataFrame(panel.market_cap).ffill(limit=CAP_DAYS).to_numpy()
        return caps, "market_cap"
    return trailing_median(panel.dollar_volume, SIZE_DAYS, SIZE_DAYS // 3), "dollar_volume"


def _reasons(panel: Panel, rule: UniverseRule, size: FloatArray, source: str) -> Reasons:
    """Return 1 + the position in REASONS of the first that applies to the day's own row, 0 where none does."""
    fails = {
        "no_row": ~panel.has_row,
        "label": (panel.country < 0) | (panel.sector < 0),
        "history": np.cumsum(panel.has_row, axis=0, dtype=np.int32) < rule.history_days,
        # Written as "not at least", so that a price or volume that is not known fails too.
        "price": ~(panel.close >= rule.minimum_price),
    }
    if rule.minimum_dollar_volume > 0:
        volume = trailing_median(panel.dollar_volume, VOLUME_DAYS, VOLUME_DAYS // 3)
        fails["dollar_volume"] = ~(volume >= rule.minimum_dollar_volume)
    if source == "market_cap":
        fails["market_cap"] = ~((size > 0) & (size >= rule.minimum_market_cap))
    elif source == "dollar_volume":
        fails["dollar_volume"] = fails.get("dollar_volume", False) | ~(size > 0)
    reason = np.zeros(panel.has_row.shape, dtype=np.int8)
    for code in range(len(REASONS), 0, -1):
        if REASONS[code - 1] in fails:
            reason[fails[REASONS[code - 1]]] = code
    return reason


def _carry_and_rank(reason: Reasons, holiday: BoolArray, size: FloatArray, maximum: int | None) -> Reasons:
    """Return the reasons with each holiday's taken from the day before, and all but the `maximum` largest left out.

    Members on holiday keep their places; the others compete for the rest. Ties go to the first by name.
    """
    result = reason.copy()
    rank = REASONS.index("size_rank") + 1
    for t in range(len(result)):
        today = result[t]
        if t:
            today[holiday[t]] = result[t - 1, holiday[t]]
        if maximum is not None:
            rivals = np.flatnonzero((today == 0) & ~holiday[t])
            places = max(maximum - int((today == 0).sum()) + len(rivals), 0)
            today[rivals[np.argsort(-size[t, rivals], kind="stable")[places:]]] = rank
    return result
