"""One Sharpe ratio with everything that is asked of it: its errors, its correction, its probability, the record it needs."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd

from backtest.sharpe import adjusted_sharpe_ratio, robust_sharpe_error, sharpe_ratio, sharpe_sample
from backtest.sharpe_tests import minimum_track_record, probabilistic_sharpe
from backtest.statistic import Band, normal_band
from risk.losses import default_lags

__all__ = ["CONFIDENCE", "SHORTEST_SAMPLE", "SharpeRecord", "sharpe_record", "too_short"]

SHORTEST_SAMPLE = 20
"""Sessions below which nothing is annualised: the standard error of such a Sharpe ratio is above 3."""
CONFIDENCE = 0.95


@dataclass(frozen=True)
class SharpeRecord:
    """A Sharpe ratio per year, risk-free rate 0, with what is known of it.

    Attributes
    ----------
    ratio : float
        Mean over sample standard deviation, times the root of the sessions in a year; NaN where `reason` says why.
    error : float
        Standard error for independent days of any law (Mertens 2002).
    robust_error : float
        Standard error for days that depend on past ones (Newey-West; Lo 2002).
    adjusted : float
        Ratio per year with Lo's correction for autocorrelation; NaN where the sample's autocorrelations allow none.
    probability : float
        Probabilistic Sharpe ratio: confidence at which the true ratio is above 0.
    needed : float
        Minimum track record: sessions from which on such a record shows a true ratio above 0; infinite where the ratio is not.
    sessions, lags : int
        Sessions used; lags of `robust_error` and `adjusted`.
    reason : str
        Why nothing is known; empty where it is.
    """

    ratio: float
    error: float
    robust_error: float
    adjusted: float
    probability: float
    needed: float
    sessions: int
    lags: int
    reason: str = ""

    @property
    def band(self) -> Band | None:
        """95 % interval by the robust error, as of a normal law."""
        return normal_band(self.ratio, self.robust_error, f"95 %, HAC error with {self.lags} lags")

    def window_band(self, window: int) -> Band | None:
        """Return where 95 % of this fund's ratios over so many sessions lie, were its true ratio that of the run."""
        error = self.robust_error * math.sqrt(self.sessions / window)
        return normal_band(self.ratio, error, f"95 % of windows of {window} sessions at a constant ratio")


def sharpe_record(returns: pd.Series, periods_per_year: int = 252, *, least: int = SHORTEST_SAMPLE) -> SharpeRecord:
    """Return what is known of the Sharpe ratio of daily returns.

    Parameters
    ----------
    returns : Series by date
        Per session, decimals.
    periods_per_year : int
    least : int
        Sessions below which nothing is stated.

    Raises
    ------
    DataError
        If a return is not finite.

    Examples
    --------
    >>> days = pd.bdate_range("2024-01-01", periods=500)
    >>> gains = pd.Series(np.random.default_rng(0).normal(0.001, 0.01, 500), index=days)
    >>> found = sharpe_record(gains)
    >>> round(found.ratio, 2), round(found.error, 2), round(found.probability, 2), round(found.needed)
    (1.14, 0.72, 0.94, 530)
    """
    values = returns.to_numpy(dtype=np.float64)
    unknown = (math.nan,) * 6
    if len(values) < least:
        return SharpeRecord(*unknown, len(values), 0, too_short(len(values), least))
    if np.ptp(values) == 0.0:
        return SharpeRecord(*unknown, len(values), 0, "returns do not vary")
    sample, root, lags = sharpe_sample(values), math.sqrt(periods_per_year), default_lags(len(values))
    return SharpeRecord(
        ratio=sharpe_ratio(values, periods_per_year=periods_per_year),
        error=sample.standard_error * root,
        robust_error=robust_sharpe_error(values, lags) * root,
        adjusted=adjusted_sharpe_ratio(values, lags=lags, periods_per_year=periods_per_year),
        probability=probabilistic_sharpe(sample),
        needed=minimum_track_record(sample, confidence=CONFIDENCE),
        sessions=len(values),
        lags=lags,
    )


def too_short(sessions: int, least: int = SHORTEST_SAMPLE) -> str:
    """Return the reason that is given where there are too few sessions."""
    return f"needs {least} sessions; there are {sessions}"
