"""Headline numbers of a run, each with its definition: the same word never means two formulas.

All are functions of the daily account (`nav` of the run folder). NaN means "not known", and the note says why. Intervals that need
resampling are added by `backtest.statistic_intervals`, for the report.
"""

from __future__ import annotations

import math

import pandas as pd

from backtest.book_statistics import book_statistics, forecast_statistics
from backtest.forecast_record import chi_square_band
from backtest.return_statistics import (
    annual_volatility,
    drawdown_statistics,
    market_statistics,
    return_statistics,
    tail_statistics,
    total_return,
    win_statistics,
)
from backtest.series import worst_drawdown
from backtest.sharpe_record import SHORTEST_SAMPLE, sharpe_record
from backtest.sharpe_statistics import sharpe_records, sharpe_statistics
from backtest.statistic import Statistic, Statistics, Unit
from backtest.store import Run
from risk import DataError

__all__ = [
    "SHORTEST_SAMPLE",
    "SUMMARY",
    "Statistic",
    "Statistics",
    "Unit",
    "by_year",
    "run_statistics",
    "statistics",
    "trading_year",
]

COLUMNS = [
    *("gross_return", "cost", "financing", "return_before_fees", "management_fee", "incentive_fee", "net_return"),
    *("gross", "net", "turnover"),
]
SUMMARY = (
    *("annual_return_net", "annual_return_before_fees", "total_return_net", "volatility_before_fees", "volatility_net"),
    *("sharpe_before_fees", "sharpe_net", "sharpe_robust_error", "sharpe_before_fees_ltm", "sharpe_net_ltm"),
    *("probabilistic_sharpe", "minimum_track_record", "max_drawdown", "longest_drawdown", "hit_rate", "slugging"),
    *("beta", "beta_t_statistic", "forecast_volatility", "calibrated_ratio", "volatility_to_limit"),
    *("average_gross", "average_absolute_net", "turnover", "holding_period", "cost", "financing", "fees"),
    *("capacity_used", "sessions"),
)
"""Those that fit on a screen."""


def statistics(
    nav: pd.DataFrame,
    *,
    market_return: pd.Series | None = None,
    solves: pd.DataFrame | None = None,
    volatility_limit: float | None = None,
    capacity: float | None = None,
    periods_per_year: int = 252,
) -> Statistics:
    """Return the headline statistics of a daily account.

    Parameters
    ----------
    nav : DataFrame indexed by date
        As `Run.nav`; decimals per session. A column ``market_return`` is used where the argument is not given.
    market_return : Series, optional
        Return of the cap-weighted universe on the same dates; NaN where not known.
    solves : DataFrame, optional
        Decisions of the run with their forecast ``volatility``, per year, the ``multiplier`` that calibrates it, and the names of the
        limits that were ``binding``.
    volatility_limit : float, optional
        Of the mandate, per year.
    capacity : float, optional
        Of the product, in money.
    periods_per_year : int

    Raises
    ------
    DataError
        If a column is missing or holds NaN, the dates are not strictly ascending, or `market_return` has other dates.

    References
    ----------
    Those of `backtest.sharpe`, `backtest.sharpe_tests`, `backtest.track_record`, `backtest.market_fit` and `risk.evaluation`.
    """
    _check(nav)
    if market_return is None and "market_return" in nav:
        market_return = nav["market_return"]
    before, year = nav["return_before_fees"], periods_per_year
    return Statistics(
        (
            *return_statistics(nav, year),
            *sharpe_statistics(sharpe_records(nav, year), year),
            *drawdown_statistics(nav["net_return"]),
            *tail_statistics(before),
            *market_statistics(before, market_return, year),
            *win_statistics(before),
            *forecast_statistics(before, solves, volatility_limit, year),
            *book_statistics(nav, capacity, year),
        )
    )


def run_statistics(run: Run) -> Statistics:
    """Return the statistics of a finished run, those of its decisions' forecasts, limits and capacity included."""
    return statistics(
        run.nav,
        solves=run.table("solves"),
        volatility_limit=run.record.get("mandate", {}).get("volatility_limit"),
        capacity=run.record.get("product", {}).get("capacity"),
        periods_per_year=trading_year(run),
    )


def trading_year(run: Run) -> int:
    """Return the number of trading days in a year that the run's data set states; 252 where it states none."""
    return int(run.record.get("data", {}).get("periods_per_year", 252))


def by_year(
    nav: pd.DataFrame,
    solves: pd.DataFrame | None = None,
    *,
    volatility_limit: float | None = None,
    periods_per_year: int = 252,
) -> pd.DataFrame:
    """Return performance, and realised against forecast volatility and its limit, by calendar year.

    Returns
    -------
    DataFrame by year
        ``sessions``, ``return_net``, ``return_before_fees`` (compounded, not annualised), ``sharpe_before_fees``,
        ``sharpe_net``, ``max_drawdown`` (from the year's own start), ``volatility`` (realised, before fees), ``forecast_volatility`` (mean over the decisions
        dated in the year), ``volatility_limit``, ``band_lower`` and ``band_upper`` (in which the realised one lies with 95 % were the true one the limit: chi-square,
        normal returns), ``ratio`` (realised / forecast), ``turnover`` (sum) and ``cost`` (sum). NaN: fewer than 20 sessions, or no decision.
    """
    _check(nav)
    forecasts = pd.Series(dtype=float)
    if solves is not None and not solves.empty:
        forecasts = solves["volatility"].groupby(pd.DatetimeIndex(solves["date"]).year).mean()
    limit = math.nan if volatility_limit is None else volatility_limit
    rows = {}
    for year, days in nav.groupby(pd.DatetimeIndex(nav.index).year):
        before, net, short = days["return_before_fees"], days["net_return"], len(days) < SHORTEST_SAMPLE
        volatility, forecast = annual_volatility(before, periods_per_year), float(forecasts.get(year, math.nan))
        volatility = math.nan if short else volatility
        low, high = (math.nan, math.nan) if short else chi_square_band(len(days), 0.95)
        rows[year] = {
            "sessions": len(days),
            "return_net": total_return(net),
            "return_before_fees": total_return(before),
            "sharpe_before_fees": sharpe_record(before, periods_per_year).ratio,
            "sharpe_net": sharpe_record(net, periods_per_year).ratio,
            "max_drawdown": worst_drawdown(net).depth,
            "volatility": volatility,
            "forecast_volatility": forecast,
            "volatility_limit": limit,
            "band_lower": limit * low,
            "band_upper": limit * high,
            "ratio": volatility / forecast if forecast > 0 else math.nan,
            "turnover": float(days["turnover"].sum()),
            "cost": float(days["cost"].sum()),
        }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("year")


def _check(nav: pd.DataFrame) -> None:
    missing = [name for name in COLUMNS if name not in nav]
    if missing:
        raise DataError(f"`nav` lacks the column(s) {', '.join(missing)}; give the account as `Run.nav` returns it.")
    if not isinstance(nav.index, pd.DatetimeIndex) or not nav.index.is_monotonic_increasing or nav.index.has_duplicates:
        raise DataError("`nav` must be indexed by strictly ascending dates; give the account as `Run.nav` returns it.")
    bad = nav[COLUMNS].isna().any(axis=1)
    if bad.any():
        raise DataError(
            f"`nav` holds NaN on {nav.index[bad][0]:%Y-%m-%d} and {int(bad.sum())} such days; run the backtest again."
        )
