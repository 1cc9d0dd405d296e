"""Is the forecast right: the book's own record of forecast volatility against what followed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from backtest.risk_losses import WINDOW, tail_backtests
from risk import compare_losses, evaluate, qlike
from risk.checks import FloatArray
from risk.laws import ewma_volatility

__all__ = ["ForecastCheck", "book_record", "forecast_check"]

HORIZONS = (1, 5, 21)
LEAST_PERIODS = 12
EWMA_HALF_LIFE = 21.0
FORECASTS = {"forecast": "risk model", "calibrated_forecast": "calibrated"}


@dataclass(frozen=True, eq=False)
class ForecastCheck:
    """The book's record.

    Attributes
    ----------
    days : int
        Days with a forecast before them.
    bias : DataFrame by forecast and horizon
        As `risk.evaluation.evaluate`, of returns over 1, 5 and 21 days that do not overlap.
    years : DataFrame by year
        ``days``, ``realised`` (volatility of daily returns before costs), ``forecast``, ``calibrated`` (root mean squares), ``ratio`` and
        ``calibrated_ratio`` (standard deviations of returns over their forecasts).
    losses : DataFrame by forecast
        ``qlike`` (mean loss), and for all but the last, the moving average of the book's own returns, ``difference`` to it, its
        ``standard_error`` and ``p_value``: negative is better than the moving average.
    tails : DataFrame by method and level
        As `tail_backtests`.
    exceptions : DataFrame by date
        ``loss``, and ``value_at_risk`` at 99 % by method, on the days of the backtests.
    missing : dict of str to str
        What could not be computed, and why.
    """

    days: int
    bias: pd.DataFrame
    years: pd.DataFrame
    losses: pd.DataFrame
    tails: pd.DataFrame
    exceptions: pd.DataFrame
    missing: dict[str, str]


def book_record(account: pd.DataFrame) -> pd.DataFrame:
    """Return each day's gross return with the forecasts made for it at the close before; days without one are left out.

    Parameters
    ----------
    account : DataFrame by date
        As `Run.nav`; ``forecast`` and ``calibrated_forecast`` per year.
    """
    made = account[list(FORECASTS)].shift(1)
    record = made.assign(realised=account["gross_return"])
    return record[(made > 0).all(axis=1)]


def forecast_check(record: pd.DataFrame, *, year: int, progress: Callable[[float], None]) -> ForecastCheck:
    """Return how right the forecasts of a book have been.

    Parameters
    ----------
    record : DataFrame
        As `book_record`.
    """
    missing: dict[str, str] = {}
    bias = [_bias(record, days, year) for days in HORIZONS if len(record) // days >= LEAST_PERIODS]
    short = [days for days in HORIZONS if len(record) // days < LEAST_PERIODS]
    if short:
        missing["bias"] = (
            f"Returns over {', '.join(map(str, short))} days need {LEAST_PERIODS} periods; the book has {len(record)} days."
        )
    tails, exceptions = pd.DataFrame(), pd.DataFrame()
    if len(record) > WINDOW + 20:
        forecast = record["calibrated_forecast"].to_numpy()
        tails, found = tail_backtests(record["realised"].to_numpy(), forecast, year=year, progress=progress)
        start = next(iter(found.values())).start
        exceptions = pd.DataFrame(
            {
                "loss": -record["realised"].to_numpy()[start:],
                **{name: one.value_at_risk for name, one in found.items()},
            },
            index=record.index[start:],
        )
    else:
        missing["tails"] = (
            f"Backtests of value at risk need more than {WINDOW + 20} days of the book; it has {len(record)}."
        )
    return ForecastCheck(
        days=len(record),
        bias=pd.concat(bias) if bias else pd.DataFrame(),
        years=_years(record, year),
        losses=_losses(record, year, missing),
        tails=tails,
        exceptions=exceptions,
        missing=missing,
    )


def _bias(record: pd.DataFrame, days: int, year: int) -> pd.DataFrame:
    """Return the bias of both forecasts over periods of some days that do not overlap, the last days left over if any."""
    count = len(record) // days
    realised = record["realised"].to_numpy()[: count * days].reshape(count, days).sum(axis=1)
    books = {label: (realised, record[name].to_numpy()[: count * days : days]) for name, label in FORECASTS.items()}
    window = max(LEAST_PERIODS, year // days)
    table = evaluate(books, periods_per_year=year, horizon=days, window=window)
    table.insert(0, "horizon", days)
    return table.rename_axis("forecast")


def _years(record: pd.DataFrame, year: int) -> pd.DataFrame:
    def one(rows: pd.DataFrame) -> pd.Series:
        r = rows["realised"]
        found = {"days": float(len(r)), "realised": r.std() * np.sqrt(year)}
        for name, label in (("forecast", "forecast"), ("calibrated_forecast", "calibrated")):
            found[label] = np.sqrt((rows[name] ** 2).mean())
            ratio = "ratio" if label == "forecast" else "calibrated_ratio"
            found[ratio] = (r / rows[name]).std() * np.sqrt(year)
        return pd.Series(found)

    dates = pd.DatetimeIndex(record.index)
    columns = ["days", "realised", "forecast", "ratio", "calibrated", "calibrated_ratio"]
    years = {key: one(rows) for key, rows in record.groupby(dates.year)}
    return pd.DataFrame(years, index=columns).T.rename_axis("year")


def _losses(record: pd.DataFrame, year: int, missing: dict[str, str]) -> pd.DataFrame:
    """Return QLIKE of each forecast beside that of a moving average of the book's own returns, on the same days."""
    start = int(EWMA_HALF_LIFE)
    if len(record) < start + 20:
        missing["losses"] = f"Losses of the forecasts need {start + 20} days of the book; it has {len(record)}."
        return pd.DataFrame()
    r = record["realised"].to_numpy()
    squares = r[start:] ** 2 * year
    average = ewma_volatility(r, EWMA_HALF_LIFE)[start:-1] ** 2 * year
    if not (average > 0).all():
        missing["losses"] = "The book earned exactly 0 on too many days."
        return pd.DataFrame()
    losses: dict[str, FloatArray] = {
        label: qlike(squares, record[name].to_numpy()[start:] ** 2) for name, label in FORECASTS.items()
    }
    benchmark = qlike(squares, average)
    rows = {label: {"qlike": float(loss.mean()), **_against(loss, benchmark)} for label, loss in losses.items()}
    rows["moving average"] = {"qlike": float(benchmark.mean())}
    columns = ["qlike", "difference", "standard_error", "p_value"]
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns).rename_axis("forecast")


def _against(loss: FloatArray, benchmark: FloatArray) -> dict[str, float]:
    found = compare_losses(loss, benchmark)
    return {
        "difference": found.mean_difference,
        "standard_error": found.standard_error,
        "p_value": found.p_value,
    }
