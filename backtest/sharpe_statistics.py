"""The Sharpe ratios of an account, and what they prove, as statistics with their definitions."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import pandas as pd

from backtest.sharpe_record import SharpeRecord, sharpe_record
from backtest.statistic import Group, Statistic, Unit

__all__ = ["SharpeRecords", "sharpe_records", "sharpe_statistics"]

WORDS = {"before_fees": "before fees", "net": "net"}
RETURNS = {
    "before_fees": "Daily returns after costs and financing, before management and incentive fee: the convention of the fund's own slides",
    "net": "Daily returns after costs, financing and fees; an incentive fee is taken on one day and counts as that day's loss",
}


class SharpeRecords(NamedTuple):
    """The Sharpe ratios of an account: whole run and last twelve months, before fees and net."""

    before_fees: SharpeRecord
    net: SharpeRecord
    before_fees_ltm: SharpeRecord
    net_ltm: SharpeRecord


def sharpe_records(nav: pd.DataFrame, periods_per_year: int = 252) -> SharpeRecords:
    """Return the Sharpe ratios of an account with what is known of them.

    Parameters
    ----------
    nav : DataFrame by date
        With ``return_before_fees`` and ``net_return``.
    periods_per_year : int
        Also the sessions of the last twelve months; with fewer than half of them those are not known.
    """
    series = nav["return_before_fees"], nav["net_return"]
    whole = [sharpe_record(returns, periods_per_year) for returns in series]
    last = [
        sharpe_record(returns.iloc[-periods_per_year:], periods_per_year, least=periods_per_year // 2)
        for returns in series
    ]
    return SharpeRecords(*whole, *last)


def sharpe_statistics(records: SharpeRecords, periods_per_year: int = 252) -> Iterator[Statistic]:
    """Yield the Sharpe ratios of an account, their errors and tests."""
    year = periods_per_year
    for basis, record in (("before_fees", records.before_fees), ("net", records.net)):
        yield Statistic(
            f"sharpe_{basis}", f"Sharpe ratio, {WORDS[basis]}", record.ratio, Unit.RATIO,
            f"Mean / sample standard deviation (divisor n - 1) of daily returns {WORDS[basis]}, times the root of {year}; risk-free rate 0.",
            record.reason or f"standard error {record.error:.2f}", f"{RETURNS[basis]}.", record.band, Group.SHARPE,
        )  # fmt: skip
    for basis, record in (("before_fees", records.before_fees_ltm), ("net", records.net_ltm)):
        short = f"{record.sessions} sessions" if record.sessions < year else ""
        yield Statistic(
            f"sharpe_{basis}_ltm", f"LTM Sharpe ratio, {WORDS[basis]}", record.ratio, Unit.RATIO,
            f"Last twelve months: the Sharpe ratio {WORDS[basis]} of the last {year} sessions.",
            record.reason or short, f"{RETURNS[basis]}; n/a with fewer than {year // 2} sessions.", record.band, Group.SHARPE,
        )  # fmt: skip
    yield from _errors(records.before_fees)
    for basis, record in (("before_fees", records.before_fees), ("net", records.net)):
        yield from _tests(basis, record, year)


def _errors(record: SharpeRecord) -> Iterator[Statistic]:
    yield Statistic(
        "sharpe_standard_error", "Standard error of the Sharpe ratio", record.error, Unit.RATIO,
        "Root of (1 - g3 s + (g4 - 1) s^2 / 4) / (n - 1), per year; s the daily ratio before fees, g3 and g4 its returns' skewness and kurtosis.",
        record.reason, "Independent days of any law (Mertens 2002).", group=Group.SHARPE,
    )  # fmt: skip
    yield Statistic(
        "sharpe_robust_error", "Standard error, robust", record.robust_error, Unit.RATIO,
        "Newey-West error of the mean of the ratio's influence series, per year.",
        record.reason or f"{record.lags} lags", "Days may depend on past ones (HAC; Lo 2002); before fees.", group=Group.SHARPE,
    )  # fmt: skip


def _tests(basis: str, record: SharpeRecord, year: int) -> Iterator[Statistic]:
    words, key = WORDS[basis], "" if basis == "before_fees" else "_net"
    lags = f"{record.lags} lags"
    if math.isnan(record.adjusted):
        lags = "the sample's autocorrelations imply a variance of the year's return that is not positive"
    yield Statistic(
        f"sharpe_adjusted{key}", f"Sharpe ratio, {words}, adjusted for autocorrelation", record.adjusted, Unit.RATIO,
        f"Daily ratio times q / root of (q + 2 sum of (q - k) rho_k), q = {year}, rho_k the autocorrelation at lag k.",
        record.reason or lags, "Autocorrelations of the Newey-West lags, 0 beyond (Lo 2002).", group=Group.SHARPE,
    )  # fmt: skip
    yield Statistic(
        f"probabilistic_sharpe{key}", f"Probabilistic Sharpe ratio, {words}", record.probability, Unit.PROBABILITY,
        "Confidence at which the true ratio is above 0: normal law of the ratio over its standard error.",
        record.reason,
        "One-sided, independent days of any law (Bailey, Lopez de Prado 2012); of one fund, as if it had not been chosen among others.",
        group=Group.SHARPE,
    )  # fmt: skip
    known = math.isfinite(record.needed)
    verdict = "the ratio is not above 0: no record of its kind would show it"
    if known:
        enough = "long enough" if record.sessions >= record.needed else "too short"
        verdict = f"{record.needed / year:.1f} years; the run has {record.sessions} sessions, {enough}"
    yield Statistic(
        f"minimum_track_record{key}", f"Minimum track record, {words}",
        float(math.ceil(record.needed)) if known else math.nan, Unit.SESSIONS,
        "Sessions from which on such a record shows a true ratio above 0 at 95 % confidence.",
        record.reason or verdict, "Ratio, skewness and kurtosis as they are (Bailey, Lopez de Prado 2012).", group=Group.SHARPE,
    )  # fmt: skip
