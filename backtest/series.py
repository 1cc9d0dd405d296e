"""What a finished account looks like over time: curves, drawdowns, calendar tables, use of limits.

Pure functions of the tables of a run folder; `backtest.statistics` turns them into headline numbers and `reports` draws them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from risk import DataError

__all__ = [
    "Drawdown",
    "cumulative_charges",
    "drawdown",
    "drawdowns",
    "growth",
    "limit_use",
    "monthly_returns",
    "monthly_turnover",
    "period_returns",
    "rolling_beta",
    "rolling_sharpe",
    "rolling_volatility",
    "worst_drawdown",
]

CHARGES = ("cost", "financing", "management_fee", "incentive_fee")


def growth(returns: pd.Series) -> pd.Series:
    """Return what one unit invested before the first session is worth at the end of each session.

    Notes
    -----
    ``prod(1 + r)``; from the first return of -100 % or less on it is 0, as a fund that lost everything earns nothing more.

    Examples
    --------
    >>> growth(pd.Series([0.1, -0.5, 0.2])).round(3).tolist()
    [1.1, 0.55, 0.66]
    >>> growth(pd.Series([0.1, -1.2, 0.2])).tolist()
    [1.1, 0.0, 0.0]
    """
    return _factors(returns).cumprod().rename("growth")


def _factors(returns: pd.Series) -> pd.Series:
    """Return 1 + r, and 0 from the first total loss on."""
    factor = 1.0 + returns.to_numpy(dtype=np.float64)
    ruined = np.logical_or.accumulate(factor <= 0)
    return pd.Series(np.where(ruined, 0.0, factor), index=returns.index)


def drawdown(returns: pd.Series) -> pd.Series:
    """Return the loss since the highest value so far, as a fraction <= 0 of it; the start counts as a high.

    Examples
    --------
    >>> drawdown(pd.Series([0.1, -0.5, 0.2])).round(3).tolist()
    [0.0, -0.5, -0.4]
    """
    value = growth(returns)
    return (value / value.cummax().clip(lower=1.0) - 1.0).rename("drawdown")


@dataclass(frozen=True)
class Drawdown:
    """The deepest fall of an account.

    Attributes
    ----------
    depth : float
        Fraction <= 0 of the high before it.
    peak, trough : Timestamp or None
        Day of that high (the first session where the account never rose above its start) and of the low. None: it never fell.
    recovered : Timestamp or None
        First day back at the high; None where it is still below.
    """

    depth: float
    peak: pd.Timestamp | None
    trough: pd.Timestamp | None
    recovered: pd.Timestamp | None


def worst_drawdown(returns: pd.Series) -> Drawdown:
    """Return the deepest drawdown of a series of returns, with its dates.

    Examples
    --------
    >>> days = pd.date_range("2024-01-01", periods=4)
    >>> worst = worst_drawdown(pd.Series([0.1, -0.5, 0.2, 1.0], index=days))
    >>> round(worst.depth, 3), worst.peak.day, worst.trough.day, worst.recovered.day
    (-0.5, 1, 2, 4)
    """
    fall = drawdown(returns).to_numpy()
    if not len(fall) or fall.min() == 0.0:
        return Drawdown(0.0, None, None, None)
    dates = pd.DatetimeIndex(returns.index)
    low = int(np.argmin(fall))
    highs = np.flatnonzero(fall[:low] == 0.0)
    back = np.flatnonzero(fall[low:] == 0.0)
    return Drawdown(
        float(fall[low]),
        dates[int(highs[-1]) if len(highs) else 0],
        dates[low],
        dates[low + int(back[0])] if len(back) else None,
    )


def drawdowns(returns: pd.Series) -> pd.DataFrame:
    """Return every drawdown of a series of returns, in order of time.

    Parameters
    ----------
    returns : Series by date
        Per session.

    Returns
    -------
    DataFrame
        ``depth`` (fraction < 0 of the high), ``peak`` (day of that high; the first session where the account never rose above its start),
        ``trough``, ``recovered`` (first day back at the high; NaT where it is still below), ``sessions`` (from the high to recovery, or to
        the last session), ``sessions_to_trough`` and ``sessions_to_recover`` (from trough to recovery; NaN where it is still below).

    Examples
    --------
    >>> days = pd.date_range("2024-01-01", periods=6)
    >>> falls = drawdowns(pd.Series([0.1, -0.5, 0.2, 1.0, -0.1, 0.05], index=days))
    >>> falls["depth"].round(3).tolist(), falls["sessions"].tolist(), falls["recovered"].isna().tolist()
    ([-0.5, -0.1], [3, 2], [False, True])
    """
    fall = drawdown(returns).to_numpy()
    dates = pd.DatetimeIndex(returns.index)
    # A high, the start among them, is where the fall is exactly 0; day -1 is the start.
    step = np.diff(np.concatenate([[0], (fall < 0.0).astype(np.int8), [0]]))
    first, back = np.flatnonzero(step == 1), np.flatnonzero(step == -1)
    trough = np.array([a + int(np.argmin(fall[a:b])) for a, b in zip(first, back, strict=True)], dtype=np.intp)
    over = back < len(fall)
    end = np.where(over, back, len(fall) - 1)
    return pd.DataFrame(
        {
            "depth": fall[trough],
            "peak": dates[np.maximum(first - 1, 0)],
            "trough": dates[trough],
            "recovered": dates[end].where(over),
            "sessions": end - (first - 1),
            "sessions_to_trough": trough - (first - 1),
            "sessions_to_recover": np.where(over, end - trough, np.nan),
        }
    )


def rolling_sharpe(returns: pd.Series, *, window: int = 252, periods_per_year: int = 252) -> pd.Series:
    """Return the annual Sharpe ratio, risk-free rate 0, of the last `window` sessions; NaN until there are as many.

    Mean over sample standard deviation (divisor n - 1) times the root of `periods_per_year`; NaN where a window's returns do not vary.
    """
    values = returns.to_numpy(dtype=np.float64)
    ratio = np.full(len(values), np.nan)
    if len(values) >= window:
        last = np.lib.stride_tricks.sliding_window_view(values, window)
        varies = np.ptp(last, axis=1) > 0.0
        scale = np.sqrt(periods_per_year)
        np.divide(last.mean(axis=1) * scale, last.std(axis=1, ddof=1), out=ratio[window - 1 :], where=varies)
    return pd.Series(ratio, index=returns.index, name="sharpe")


def rolling_beta(returns: pd.Series, market_return: pd.Series, *, window: int = 252) -> pd.Series:
    """Return the slope of returns on the market's over the last `window` sessions; NaN until all of them are known.

    Raises
    ------
    DataError
        If the two have other dates.
    """
    if not market_return.index.equals(returns.index):
        raise DataError("`market_return` must have the dates of `returns`; reindex it at the edge.")
    covariance = returns.rolling(window).cov(market_return)
    return (covariance / market_return.rolling(window).var()).rename("beta")


def rolling_volatility(returns: pd.Series, *, window: int = 63, periods_per_year: int = 252) -> pd.Series:
    """Return the annualised sample standard deviation of the last `window` sessions; NaN until there are as many."""
    deviation: pd.Series = returns.rolling(window).std(ddof=1) * np.sqrt(periods_per_year)
    return deviation


def monthly_returns(returns: pd.Series) -> pd.DataFrame:
    """Return compounded returns by calendar year (rows) and month 1..12, with the whole year in column ``year``.

    A month without a session is NaN; the first and last month hold the sessions that there were.
    """
    dates = pd.DatetimeIndex(returns.index)
    grown = _factors(returns)
    months = pd.DataFrame({"year": dates.year, "month": dates.month, "factor": grown.to_numpy()})
    table = months.pivot_table(index="year", columns="month", values="factor", aggfunc="prod") - 1.0
    table = table.reindex(columns=range(1, 13))
    table["year"] = grown.groupby(dates.year).prod() - 1.0
    return table.rename_axis(index="year", columns="month")


def period_returns(returns: pd.Series, period: Literal["month", "year"] = "month") -> pd.Series:
    """Return compounded returns by calendar month or year, labelled by its first day; the first and last as far as they go.

    Examples
    --------
    >>> days = pd.to_datetime(["2024-01-30", "2024-01-31", "2024-02-01"])
    >>> period_returns(pd.Series([0.1, 0.1, -0.5], index=days)).round(3).tolist()
    [0.21, -0.5]
    """
    labels = pd.DatetimeIndex(returns.index).to_period({"month": "M", "year": "Y"}[period]).to_timestamp()
    total: pd.Series = _factors(returns).groupby(labels).prod() - 1.0
    return total.rename("return")


def monthly_turnover(nav: pd.DataFrame) -> pd.Series:
    """Return turnover by calendar month, half of sum abs(trade weights), labelled by the month's first day."""
    dates = pd.DatetimeIndex(nav.index)
    total: pd.Series = nav["turnover"].groupby(dates.to_period("M").to_timestamp()).sum()
    return total


def cumulative_charges(nav: pd.DataFrame) -> pd.DataFrame:
    """Return the running sums of cost, financing and both fees: fractions of each day's net asset value, not compounded."""
    return nav[list(CHARGES)].cumsum()


def limit_use(exposures: pd.DataFrame, *, tolerance: float = 1e-6) -> pd.DataFrame:
    """Return how each exposure stood against its limits over the run.

    Parameters
    ----------
    exposures : DataFrame with columns date, factor, exposure, forecast_risk, limit_lower, limit_upper
        A row is beyond its limits when it is outside by more than `tolerance`; a limit that is NaN is no limit.

    Returns
    -------
    DataFrame by factor
        ``last``, ``mean``, ``lowest``, ``highest``, ``limit_lower``, ``limit_upper``, ``forecast_risk`` (all three of the last
        date), ``dates`` and ``beyond`` (numbers of dates), ``largest_excess`` (how far outside, 0 where never).

    Raises
    ------
    DataError
        If a date and factor appear twice.
    """
    if exposures.duplicated(["date", "factor"]).any():
        twice = exposures[exposures.duplicated(["date", "factor"])].iloc[0]
        raise DataError(
            f"exposures: {twice['factor']!r} appears twice on {twice['date']:%Y-%m-%d}; run the backtest again."
        )
    rows = exposures.sort_values("date", kind="stable")
    value = rows["exposure"]
    excess = np.fmax(np.fmax(rows["limit_lower"] - value, value - rows["limit_upper"]), 0.0)
    by_factor = rows.assign(excess=excess, outside=excess > tolerance).groupby("factor", sort=False)
    table = by_factor.agg(
        last=("exposure", "last"),
        mean=("exposure", "mean"),
        lowest=("exposure", "min"),
        highest=("exposure", "max"),
        limit_lower=("limit_lower", "last"),
        limit_upper=("limit_upper", "last"),
        forecast_risk=("forecast_risk", "last"),
        dates=("exposure", "size"),
        beyond=("outside", "sum"),
    )
    largest = by_factor["excess"].max()
    return table.assign(largest_excess=largest.where(largest > tolerance, 0.0))
