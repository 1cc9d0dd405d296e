"""Today's portfolio through days of the past: named windows of a history of factor returns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Protocol

import numpy as np
import numpy.typing as npt
import pandas as pd

from risk.checks import BoolArray, DataError, FloatArray, check_array, freeze
from risk.model import FactorModel
from risk.scenario import Stress, make_stress

__all__ = ["NOT_IN_DATA", "WINDOWS", "FactorReturns", "Replay", "replay"]

WINDOWS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "quant unwind 2007": ("2007-08-06", "2007-08-09"),
        "Lehman 2008": ("2008-09-12", "2008-11-20"),
        "crisis 2008-2009": ("2008-09-12", "2009-03-09"),
        "momentum crash 2009": ("2009-03-09", "2009-05-08"),
        "COVID crash 2020": ("2020-02-20", "2020-03-23"),
        "momentum unwind 2020": ("2020-11-09", "2020-11-13"),
        "short squeeze 2021": ("2021-01-22", "2021-01-29"),
        "rates 2022": ("2022-01-03", "2022-06-16"),
        "bank failures 2023": ("2023-03-08", "2023-03-17"),
        "carry unwind 2024": ("2024-08-01", "2024-08-05"),
        "tariffs 2025": ("2025-04-03", "2025-04-08"),
    }
)
"""First and last day of the returns of each window."""
NOT_IN_DATA = "not in the data"


class FactorReturns(Protocol):
    """What a replay reads of a history: T days of K factors, as `risk.history.FactorHistory` has them."""

    @property
    def dates(self) -> pd.DatetimeIndex:
        """Days, ascending, length T."""

    @property
    def factors(self) -> tuple[str, ...]:
        """Names, length K."""

    @property
    def factor_returns(self) -> FloatArray:
        """Per day, shape (T, K); 0 where not `present`."""

    @property
    def present(self) -> BoolArray:
        """Whether the factor has a return that day, shape (T, K)."""


@dataclass(frozen=True, eq=False)
class Replay:
    """One window replayed. Where it is `NOT_IN_DATA`, as `stress.note` says, its numbers are NaN and counts 0.

    Attributes
    ----------
    stress : Stress
        Shocks are the sums of the window's factor returns; specific returns are none, and its distance is of a period as
        long as the window.
    start, end : Timestamp
        First and last day of the window.
    days : int
        Days with a regression in it.
    worst_day : float
        Least profit of a day, a fraction of net asset value.
    worst_date : Timestamp or None
    drawdown : float
        Largest loss from the best level so far, the start included, of the summed daily profits; >= 0.
    absent_days : ndarray of shape (K,)
        Days on which a factor of the model had no return: there its part is 0.
    absent : tuple of str
        Factors of the model without a return on any day.
    own_profit : float
        From the assets' own returns of the window, of those that have them; NaN where none were given.
    own_absent : tuple of str
        Positions with a return on fewer than half of the days: they are not in `own_profit`.
    own_absent_gross : float
        Their share of gross; NaN where no returns were given.
    """

    stress: Stress
    start: pd.Timestamp
    end: pd.Timestamp
    days: int
    worst_day: float
    worst_date: pd.Timestamp | None
    drawdown: float
    absent_days: npt.NDArray[np.int64]
    absent: tuple[str, ...]
    own_profit: float
    own_absent: tuple[str, ...]
    own_absent_gross: float

    @property
    def in_data(self) -> bool:
        """Whether the history holds the window."""
        return self.days > 0


def _aligned(model: FactorModel, history: FactorReturns, rows: npt.NDArray[np.intp]) -> tuple[FloatArray, BoolArray]:
    """Return the window's returns of the model's factors, 0 where absent, and whether each is present."""
    column = {name: k for k, name in enumerate(history.factors)}
    returns, present = (
        np.zeros((len(rows), len(model.factors))),
        np.zeros((len(rows), len(model.factors)), dtype=np.bool_),
    )
    here = np.array([k for k, name in enumerate(model.factors) if name in column], dtype=np.intp)
    there = np.array([column[model.factors[k]] for k in here], dtype=np.intp)
    returns[:, here] = history.factor_returns[np.ix_(rows, there)]
    present[:, here] = history.present[np.ix_(rows, there)]
    return np.where(present, returns, 0.0), present


def _absence(factors: tuple[str, ...], absent_days: npt.NDArray[np.int64], days: int) -> str:
    """Return which factors have no return on some or all days, counted as 0 there."""
    never = [name for name, count in zip(factors, absent_days, strict=True) if count == days]
    partly = [name for name, count in zip(factors, absent_days, strict=True) if 0 < count < days]
    said = [f"without a return then, counted as 0: {', '.join(never)}"] if never else []
    if partly:
        most = int(max(count for count in absent_days if count < days))
        said.append(f"on up to {most} of {days} days, counted as 0 there: {', '.join(partly)}")
    return "; ".join(said)


def _own(
    model: FactorModel, w: FloatArray, asset_returns: FloatArray | None, rows: npt.NDArray[np.intp]
) -> tuple[float, tuple[str, ...], float]:
    """Return the profit by the assets' own returns, who has none, and their share of gross."""
    if asset_returns is None:
        return float("nan"), (), float("nan")
    returns = asset_returns[rows]
    known = np.isfinite(returns)
    enough = 2 * known.sum(axis=0) >= len(rows)
    absent, gross = (w != 0) & ~enough, float(np.abs(w).sum())
    profit = float(np.where(known, returns, 0.0).sum(axis=0) @ np.where(enough, w, 0.0))
    names = tuple(model.assets[i] for i in np.flatnonzero(absent))
    return profit, names, float(np.abs(w[absent]).sum()) / gross if gross > 0 else 0.0


def _window(name: str, window: tuple[str, str]) -> tuple[pd.Timestamp, pd.Timestamp]:
    start, end = pd.Timestamp(window[0]), pd.Timestamp(window[1])
    if not start <= end:
        raise DataError(f"`windows[{name!r}]` must be a first and a last day, in order; got {window}.")
    return start, end


def _not_in_data(model: FactorModel, name: str, start: pd.Timestamp, end: pd.Timestamp, extent: str) -> Replay:
    nan, unknown = float("nan"), freeze(np.full(len(model.factors), np.nan))
    said = f"factor returns of {start.date()} to {end.date()}"
    note = f"{NOT_IN_DATA}, which {extent}"
    stress = Stress(name, said, model.factors, unknown, unknown, nan, nan, nan, note)
    zeros = freeze(np.zeros(len(model.factors), dtype=np.int64))
    return Replay(stress, start, end, 0, nan, None, nan, zeros, (), nan, (), nan)


def replay(
    model: FactorModel,
    weights: npt.ArrayLike,
    history: FactorReturns,
    *,
    windows: Mapping[str, tuple[str, str]] = WINDOWS,
    asset_returns: npt.ArrayLike | None = None,
    periods_per_year: int = 252,
) -> tuple[Replay, ...]:
    """Return what today's portfolio would have made in each window, by its exposures of today.

    Parameters
    ----------
    model : FactorModel
        Of today.
    weights : array_like of shape (N,)
        Fractions of net asset value, the same on every day of a window.
    history : FactorReturns
        A FactorHistory, say. Its days with a regression must reach from the first to the last day of a window.
    windows : mapping of str to (str, str)
        First and last day of each window's returns, by name.
    asset_returns : array_like of shape (T, N), optional
        Returns of the model's assets on the history's dates; NaN where there is none.
    periods_per_year : int
        Rows of the history a year.

    Returns
    -------
    tuple of Replay
        One per window, in order; a window that the history does not hold is `NOT_IN_DATA`.

    Raises
    ------
    DataError
        If a shape differs, a weight is not finite, or a window ends before it begins.

    Notes
    -----
    Profits of days are added, not compounded: the portfolio is set back to its weights of today every day, so the parts
    by factor are x_k times the sum of the window's factor returns and sum to the whole. A day that an asset misses counts
    0: its next return spans it. Of weekly regressions a window counts the weeks that end in it.
    """
    w = check_array("weights", weights, (len(model.assets),))
    own = None
    if asset_returns is not None:
        own, wanted = np.asarray(asset_returns, dtype=np.float64), (len(history.dates), len(model.assets))
        if own.shape != wanted:
            raise DataError(f"`asset_returns` must have shape {wanted}, dates of `history` by assets; got {own.shape}.")
    regressed = np.asarray(history.present.any(axis=1))
    dates = history.dates[regressed]
    extent = f"has factor returns of {dates[0].date()} to {dates[-1].date()}" if len(dates) else "has no factor returns"
    results = []
    for name, window in windows.items():
        start, end = _window(name, window)
        rows = np.flatnonzero(regressed & (history.dates >= start) & (history.dates <= end))
        if not len(rows) or dates[0] > start or dates[-1] < end:
            results.append(_not_in_data(model, name, start, end, extent))
        else:
            results.append(_replay(model, w, history, name, start, end, rows, own, periods_per_year))
    return tuple(results)


def _replay(
    model: FactorModel,
    w: FloatArray,
    history: FactorReturns,
    name: str,
    start: pd.Timestamp,
    end: pd.Timestamp,
    rows: npt.NDArray[np.intp],
    asset_returns: FloatArray | None,
    periods_per_year: int,
) -> Replay:
    returns, present = _aligned(model, history, rows)
    daily = returns @ (model.exposures.T @ w)
    level = np.concatenate([[0.0], np.cumsum(daily)])
    absent_days = (~present).sum(axis=0, dtype=np.int64)
    absent = tuple(name for name, days in zip(model.factors, absent_days, strict=True) if days == len(rows))
    worst = int(np.argmin(daily))
    stress = make_stress(
        model,
        w,
        name,
        f"factor returns of {start.date()} to {end.date()} on today's exposures",
        returns.sum(axis=0),
        years=len(rows) / periods_per_year,
        note=_absence(model.factors, absent_days, len(rows)),
    )
    profit, own_absent, own_gross = _own(model, w, asset_returns, rows)
    return Replay(
        stress=stress,
        start=start,
        end=end,
        days=len(rows),
        worst_day=float(daily[worst]),
        worst_date=history.dates[rows[worst]],
        drawdown=float((np.maximum.accumulate(level) - level).max()),
        absent_days=freeze(absent_days),
        absent=absent,
        own_profit=profit,
        own_absent=own_absent,
        own_absent_gross=own_gross,
    )
