"""What is missing or odd in the predictions and stakes of a data set."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import numpy as np
import pandas as pd

from backtest.dataset import Dataset
from backtest.market_rules import Finding, Severity
from backtest.predictions import Predictions
from risk import DataError

__all__ = ["COUNTS", "attempt", "check_models"]

# Per model: the dates on which it has predictions, and those on which they cannot be used in full.
COUNTS = ("dates", "constant", "missing", "few", "late", "unknown_assets")
FEW_ASSETS = 10
GAP_DAYS = 7

Result = TypeVar("Result")


def attempt(findings: list[Finding], file: str, read: Callable[[], Result]) -> Result | None:
    """Return what `read` returns; where it refuses its input, add the refusal to `findings` and return None."""
    try:
        return read()
    except DataError as error:
        findings.append(Finding(Severity.ERROR, "refused", file, 1, str(error)))
        return None


def check_models(
    data: Dataset, trading_days: pd.DatetimeIndex | None, assets: frozenset[str] | None
) -> tuple[list[Finding], pd.DataFrame | None]:
    """Return the findings on predictions and stakes, and a table of counts per model; None where no file can be read.

    Parameters
    ----------
    data : Dataset
    trading_days : DatetimeIndex or None
        Days of the market; None where it cannot be read.
    assets : frozenset of str or None
        Assets of the market; None where it cannot be read.
    """
    findings: list[Finding] = []
    dates = attempt(findings, "predictions/", data.prediction_dates)
    if dates is None:
        return findings, None
    if not len(dates):
        text = "`predictions/` has no file. Write one per date, or those of the benchmark models, before a backtest."
        findings.append(Finding(Severity.WARNING, "no_predictions", "predictions/", 0, text))
        return findings, None
    rows: list[pd.DataFrame] = []
    for date in dates:
        given = attempt(findings, f"predictions/{date.date()}", lambda day=date: data.predictions(day))  # type: ignore[misc]
        if given is not None:
            rows.append(_judge(given, assets))
    findings += _prediction_dates(dates, trading_days)
    if not rows:
        return findings, None
    table = pd.concat(rows).groupby(level=0, sort=True).sum()
    findings += _models(table)
    return [*findings, *_stakes(data, dates, table)], table


def _judge(given: Predictions, assets: frozenset[str] | None) -> pd.DataFrame:
    frame = given.values
    values = frame.to_numpy()
    known = ~np.isnan(values)
    count = known.sum(axis=0)
    high, low = np.where(known, values, -np.inf).max(axis=0), np.where(known, values, np.inf).min(axis=0)
    foreign = np.zeros(len(values), dtype=np.bool_) if assets is None else ~frame.index.isin(list(assets))
    table = {
        "dates": count > 0,
        "constant": (count > 1) & (high == low),
        "missing": count == 0,
        "few": (count > 0) & (count < FEW_ASSETS),
        "late": given.submitted.index.isin(given.late()),
        "unknown_assets": (known & foreign[:, None]).sum(axis=0),
    }
    return pd.DataFrame(table, index=frame.columns).astype(np.int64)


def _prediction_dates(dates: pd.DatetimeIndex, trading_days: pd.DatetimeIndex | None) -> list[Finding]:
    found: list[Finding] = []
    off = dates[~dates.isin(trading_days)] if trading_days is not None else dates[:0]
    if len(off):
        text = (
            f"`predictions/`: {len(off)} of {len(dates)} dates are no trading days, first {off[0].date()}. Rule: the latest "
            "file not after a decision counts, so they serve the next one."
        )
        found.append(Finding(Severity.WARNING, "not_a_trading_day", "predictions/", len(off), text))
    days = np.diff(dates.to_numpy()) / np.timedelta64(1, "D")
    wide = np.flatnonzero(days > GAP_DAYS)
    if len(wide):
        at = int(wide[0])
        text = (
            f"`predictions/`: {len(wide)} gaps of more than {GAP_DAYS} days, first after {dates[at].date()} "
            f"({days[at]:.0f} days). A decision inside a gap is refused; add files or choose a rarer rebalance."
        )
        found.append(Finding(Severity.WARNING, "prediction_gap", "predictions/", len(wide), text))
    return found


def _models(table: pd.DataFrame) -> list[Finding]:
    left_out = "Rule: left out of the meta model on those dates."
    says = {
        "constant": f"have the same value for every asset. {left_out}",
        "missing": f"have no value at all (NaN). {left_out}",
        "few": f"have fewer than {FEW_ASSETS} assets. Rule: the mandate's least coverage decides.",
        "late": f"arrived after the end of their date. {left_out}",
        "unknown_assets": "name assets that the market file does not have. Rule: those rows are dropped.",
    }
    found: list[Finding] = []
    for count, what in says.items():
        some = table[count][table[count] > 0]
        if len(some):
            unit = "rows" if count == "unknown_assets" else "dates"
            worst = some.sort_values(ascending=False, kind="stable").head(5)
            names = ", ".join(f"{model!r} ({times} {unit})" for model, times in worst.items())
            more = ", ..." if len(some) > len(worst) else ""
            text = f"`predictions/`: {len(some)} models {what} They are {names}{more}."
            found.append(Finding(Severity.WARNING, f"model_{count}", "predictions/", len(some), text))
    return found


def _stakes(data: Dataset, dates: pd.DatetimeIndex, table: pd.DataFrame) -> list[Finding]:
    found: list[Finding] = []
    stakes = attempt(found, "stakes", lambda: data.all_stakes)
    if stakes is None:
        return found
    predicting = set(table.index)
    staked = set(stakes["model"])
    zero = sorted(set(stakes.loc[stakes["stake"] == 0, "model"]))
    early = dates[dates < stakes["date"].iloc[0]]
    for rule, names, severity, what in (
        (
            "no_stake",
            sorted(predicting - staked),
            Severity.WARNING,
            "have predictions but no stake. Rule: not in the meta model",
        ),
        ("no_model", sorted(staked - predicting), Severity.INFO, "have a stake but no predictions"),
        ("zero_stake", zero, Severity.WARNING, "have a stake of 0 on some dates. Rule: not in the meta model then"),
    ):
        if names:
            shown = ", ".join(repr(name) for name in names[:5]) + (", ..." if len(names) > 5 else "")
            found.append(
                Finding(severity, rule, "stakes", len(names), f"`stakes`: {len(names)} models {what}: {shown}.")
            )
    if len(early):
        text = (
            f"`stakes`: no stake is in force on {len(early)} prediction dates, the last of them {early[-1].date()}. "
            "A backtest must start later, or add the stakes that stood then."
        )
        found.append(Finding(Severity.WARNING, "early_predictions", "stakes", len(early), text))
    return found
