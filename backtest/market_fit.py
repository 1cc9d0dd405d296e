"""What of a fund's return is the market's: a line through its daily returns on the market's, with robust errors.

    r_t = a + b m_t + e_t        b = sum (m_t - m)(r_t - r) / sum (m_t - m)^2        a = r - b m

The errors are Newey-West's of the means of the influence series, which are exactly those of the coefficients by the usual sandwich:

    b: (m_t - m) e_t / v         a: e_t (1 - m (m_t - m)/v)         v = mean of (m_t - m)^2
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd

from risk import DataError
from risk.losses import default_lags, mean_and_error

__all__ = ["MarketFit", "market_fit"]


@dataclass(frozen=True)
class MarketFit:
    """Line of a fund's returns on the market's.

    Attributes
    ----------
    beta, beta_error : float
        Slope and its standard error.
    alpha, alpha_error : float
        Constant and its standard error, per session.
    sessions, lags, left_out : int
        Sessions used, lags of the errors, and sessions whose market return is not known.
    """

    beta: float
    beta_error: float
    alpha: float
    alpha_error: float
    sessions: int
    lags: int
    left_out: int

    @property
    def beta_t(self) -> float:
        """Slope over its error; NaN where the returns lie on a line."""
        return self.beta / self.beta_error if self.beta_error > 0 else math.nan

    @property
    def alpha_t(self) -> float:
        """Constant over its error; NaN where the returns lie on a line."""
        return self.alpha / self.alpha_error if self.alpha_error > 0 else math.nan


def market_fit(returns: pd.Series, market_return: pd.Series, *, lags: int | None = None) -> MarketFit:
    """Return the line of a fund's returns on the market's, ordinary least squares, with Newey-West errors.

    Parameters
    ----------
    returns, market_return : Series by date
        Per session, decimals; sessions without a market return (NaN) are left out.
    lags : int, optional
        Of the Bartlett kernel; 4 (T/100)^(2/9) rounded down where not given. The variances are scaled by T/(T - 1).

    Raises
    ------
    DataError
        If the dates differ, fewer than 3 sessions are known, or the market's return does not vary.

    References
    ----------
    Newey, West (1987), A Simple, Positive Semi-definite, Heteroskedasticity and Autocorrelation Consistent Covariance
    Matrix, Econometrica 55.

    Examples
    --------
    >>> days = pd.date_range("2024-01-01", periods=4)
    >>> fit = market_fit(pd.Series([0.02, 0.0, 0.01, -0.01], days), pd.Series([0.02, -0.01, 0.01, -0.02], days), lags=0)
    >>> round(fit.beta, 3), round(fit.alpha, 4), fit.sessions
    (0.7, 0.005, 4)
    """
    if not market_return.index.equals(returns.index):
        raise DataError("`market_return` must have the dates of `nav`; reindex it at the edge.")
    known = market_return.notna().to_numpy()
    x, y = market_return.to_numpy(dtype=np.float64)[known], returns.to_numpy(dtype=np.float64)[known]
    if len(x) < 3 or np.ptp(x) == 0.0:
        raise DataError(
            f"`market_return` must vary and hold 3 sessions; {len(x)} are known. Without it beta is not known."
        )
    lags = default_lags(len(x)) if lags is None else lags
    centred = x - x.mean()
    scale = float((centred**2).mean())
    beta = float((centred * y).mean() / scale)
    alpha = float(y.mean() - beta * x.mean())
    # Where the returns do not vary the rest is rounding, and so would the errors be.
    rest = y - alpha - beta * x if np.ptp(y) > 0.0 else np.zeros_like(y)
    beta_error = mean_and_error(centred * rest / scale, lags)[1]
    alpha_error = mean_and_error(rest * (1.0 - x.mean() * centred / scale), lags)[1]
    return MarketFit(beta, beta_error, alpha, alpha_error, len(x), lags, int((~known).sum()))
