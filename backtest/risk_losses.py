"""Value at risk and expected shortfall of a book by five methods, and the record of each on the book's own past."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict

import numpy as np
import pandas as pd

from backtest.risk_run import RiskBook
from backtest.strategy import Market
from risk import DataError, Tail
from risk.checks import FloatArray
from risk.laws import fit_dof
from risk.tail_backtest import VarBacktest, VarMethod, backtest_var
from risk.tails import filtered_historical_tail, historical_tail, monte_carlo_tail, normal_tail, student_tail
from risk.var_tests import traffic_light

__all__ = [
    "HISTORICAL_RATIO",
    "LEVELS",
    "METHODS",
    "PERIODS",
    "WINDOW",
    "book_tails",
    "historical_over_parametric",
    "parametric_method",
    "past_returns",
    "tail_backtests",
]

PERIODS = ((0.95, 1), (0.99, 1), (0.99, 10))
"""Confidence levels and horizons, in trading days, of the report."""
LEVELS = (0.95, 0.99)
"""Levels of the backtests, of one day."""
PAST = 500
"""Days of past returns behind the historical methods."""
WINDOW = 250
"""Days before the first forecast of a backtest, and in each of its historical forecasts."""
METHODS = ("normal", "student", "historical", "filtered_historical", "monte_carlo")
LEAST_OUTCOMES = 60
"""Days without which degrees of freedom are not estimated."""
HISTORICAL_RATIO = 1.5
"""Historical over parametric value at risk above which the report says that the past held more than the forecast allows for."""


def past_returns(book: RiskBook, market: Market) -> tuple[FloatArray, float]:
    """Return what today's book would have earned on each of the last days, and the share of gross times days that is a proxy.

    An asset without a return on a day counts with its exposures of today times that day's factor returns: a short history
    neither hides its risk nor drops it from the book.

    Raises
    ------
    DataError
        If the risk model's regressions are weekly: its factor returns then stand for no day.
    """
    history = market.history
    if history.spec.frequency != "daily":
        raise DataError("Past losses of a day need daily factor returns, and the risk model's regressions are weekly.")
    days = np.flatnonzero(history.present.any(axis=1))[-PAST:]
    place = pd.Index(market.panel.assets).get_indexer(pd.Index(book.model.assets))
    returns = market.panel.returns[np.ix_(days, place)]
    column = {name: k for k, name in enumerate(history.factors)}
    here = [k for k, name in enumerate(book.model.factors) if name in column]
    there = [column[book.model.factors[k]] for k in here]
    proxy = history.factor_returns[days][:, there] @ book.model.exposures[:, here].T
    known = np.isfinite(returns)
    size = np.abs(book.weights)
    missing = float(((~known) @ size).sum()) / (len(days) * float(size.sum())) if len(days) else np.nan
    return np.where(known, returns, proxy) @ book.weights, missing


def book_tails(
    book: RiskBook, outcomes: FloatArray, past: FloatArray | None, missing: str
) -> tuple[pd.DataFrame, dict[str, str]]:
    """Return the book's value at risk and expected shortfall by method, level and horizon, and why some are not known.

    Parameters
    ----------
    outcomes : ndarray of shape (T,)
        The book's past returns over the calibrated forecasts made for them: their tail is that of the Student-t methods.
    past : ndarray of shape (S,) or None
        As `past_returns`; None without a data set.
    missing : str
        Why there are none.

    Returns
    -------
    DataFrame with the fields of `Tail` and ``note``, one row for each method, level and horizon
        Of a method that has too few windows for a level and horizon the numbers are NaN, and ``note`` says why.
    """
    # Volatility is homogeneous: weights times the multiplier have the calibrated one.
    model, w, year = book.model, book.weights * book.multiplier, book.year
    rows: list[Tail] = []
    gaps: dict[str, str] = {}
    dof = fit_dof(outcomes) if len(outcomes) >= LEAST_OUTCOMES else None
    if dof is None:
        why = f"Its degrees of freedom need {LEAST_OUTCOMES} days of the book's returns with a forecast; there are {len(outcomes)}."
        gaps |= {"student": why, "monte_carlo": why}
    if past is None:
        gaps |= {"historical": missing, "filtered_historical": missing}
    for level, days in PERIODS:
        rows.append(normal_tail(model, w, level=level, horizon=days, periods_per_year=year))
        if dof is not None:
            rows.append(student_tail(model, w, dof=dof, level=level, horizon=days, periods_per_year=year))
            rows.append(monte_carlo_tail(model, w, dof=dof, level=level, horizon=days, periods_per_year=year))
        # The first of the past returns only start the moving average of the filtered method.
        wanted = round(1 / (1 - level)) + days + 21
        if past is not None and len(past) >= wanted:
            rows.append(_historical(past, level, days))
            rows.append(filtered_historical_tail(past, level=level, horizon=days, periods_per_year=year))
        elif past is not None:
            text = f"At {100 * level:.0f} % over {days} day{'s'[: days != 1]} it needs {wanted} past days; there are {len(past)}."
            gaps |= {"historical": text, "filtered_historical": text}
    table = pd.DataFrame([asdict(row) for row in rows])
    return table.assign(note=np.where(table["value_at_risk"].isna(), table["definition"], "")), gaps


def _historical(past: FloatArray, level: float, days: int) -> Tail:
    """Return the tail of past returns; NaN, and why, where too few windows are independent: those that share days count once."""
    windows, wanted = len(past) // days, round(1 / (1 - level))
    if windows >= wanted:
        return historical_tail(past, level=level, horizon=days)
    why = (
        f"{100 * level:.0f} % over {days} days needs {wanted} windows that do not overlap, for one loss beyond it, and {len(past)} days "
        f"hold {windows}"
    )
    return Tail("historical", np.nan, np.nan, np.nan, np.nan, level, days, windows, why)


def parametric_method(tails: pd.DataFrame) -> str:
    """Return the method by a law on the calibrated forecast that the headline shows: Student-t, or normal where that is not known."""
    return "student" if "student" in set(tails["method"]) else "normal"


def historical_over_parametric(tails: pd.DataFrame) -> float:
    """Return historical over parametric value at risk, 99 %, one day; NaN where either is not known."""
    if tails.empty:
        return np.nan
    day = tails[(tails["level"] == 0.99) & (tails["horizon"] == 1)].set_index("method")["value_at_risk"]
    made = float(day[parametric_method(tails)])
    return float(day.get("historical", np.nan)) / made if made > 0 else np.nan


def tail_backtests(
    returns: FloatArray, forecast: FloatArray, *, year: int, progress: Callable[[float], None]
) -> tuple[pd.DataFrame, dict[str, VarBacktest]]:
    """Return how each method's one-day value at risk has fared on the book's returns, and the records at the highest level.

    Parameters
    ----------
    returns : ndarray of shape (T,)
        The book's daily returns before costs; T above `WINDOW`.
    forecast : ndarray of shape (T,)
        Calibrated volatility forecast for each, per year.

    Returns
    -------
    DataFrame with a row for each method and level
        ``days``, ``exceptions``, ``expected`` (their number if the level holds), ``zone``, and the p-values of the tests by name.
    """
    rows, records = [], {}
    for done, name in enumerate(METHODS):
        for level in LEVELS:
            method = VarMethod.model_validate({"kind": name, "window": WINDOW})
            record = backtest_var(returns, method, level=level, volatility=forecast, periods_per_year=year)
            tests = pd.concat([record.coverage["p_value"], record.shortfall["p_value"]])
            rows.append(
                {
                    "method": name,
                    "level": level,
                    "days": len(record.exceptions),
                    "exceptions": int(record.exceptions.sum()),
                    "expected": (1 - level) * len(record.exceptions),
                    "zone": traffic_light(record.exceptions, level),
                    **{f"p_{test}": float(value) for test, value in tests.items()},
                }
            )
            records[name] = record
        progress((done + 1) / len(METHODS))
    return pd.DataFrame(rows), records
