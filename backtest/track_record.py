"""Facts of a track record that are no test: its tails, how often it wins, how much, how long it holds.

Functions of returns per period, decimals, or of the daily account. NaN means that the number does not exist, and the docstring says
when. Value at risk and expected shortfall of past returns are `risk.tails.historical_tail`, drawdowns and rolling numbers are in
`backtest.series`, the Sharpe ratio and its tests in `backtest.sharpe` and `backtest.sharpe_tests`.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.stats import kurtosis, skew

from backtest.series import period_returns
from risk import DataError
from risk.checks import FloatArray
from risk.laws import check_level, check_series

__all__ = ["excess_kurtosis", "hit_rate", "holding_period", "monthly_hit_rate", "skewness", "slugging", "tail_ratio"]


def skewness(returns: npt.ArrayLike) -> float:
    """Return the third standardised moment, divisor T; NaN where the returns do not vary.

    Raises
    ------
    DataError
        If an entry is not finite or there are fewer than 3.

    Examples
    --------
    >>> round(skewness([-0.03, 0.01, 0.01, 0.01]), 3)
    -1.155
    """
    x = check_series("returns", returns, least=3)
    return float(skew(_scaled(x))) if np.ptp(x) > 0.0 else math.nan


def excess_kurtosis(returns: npt.ArrayLike) -> float:
    """Return the fourth standardised moment less 3, divisor T; 0 for a normal law, NaN where the returns do not vary.

    Raises
    ------
    DataError
        If an entry is not finite or there are fewer than 4.

    Examples
    --------
    >>> round(excess_kurtosis([-0.01, 0.01, -0.01, 0.01]), 3)
    -2.0
    """
    x = check_series("returns", returns, least=4)
    return float(kurtosis(_scaled(x))) if np.ptp(x) > 0.0 else math.nan


def _scaled(returns: FloatArray) -> FloatArray:
    """Return the returns in units of the largest deviation: moments of 1e-5 to the fourth power would count as none."""
    centred = returns - returns.mean()
    return np.asarray(centred / np.abs(centred).max())


def tail_ratio(returns: npt.ArrayLike, *, level: float = 0.95) -> float:
    """Return how far the upper tail reaches against the lower: the quantile at `level` over minus the one at 1 - `level`.

    Parameters
    ----------
    returns : array_like of shape (T,)
    level : float
        Between 0.5 and 1.

    Returns
    -------
    float
        Above 1 where gains reach further; NaN where the lower quantile is no loss.

    Raises
    ------
    DataError
        If an entry is not finite, there is none, or `level` is out of range.

    Notes
    -----
    Quantiles are interpolated linearly between order statistics.

    Examples
    --------
    >>> round(tail_ratio([-0.02, -0.01, 0.0, 0.01, 0.04]), 3)
    1.889
    """
    lower, upper = np.quantile(check_series("returns", returns), [1.0 - check_level(level), level])
    return float(upper / -lower) if lower < 0 else math.nan


def hit_rate(returns: npt.ArrayLike) -> float:
    """Return the share of periods with a return above 0; those at 0 count as misses.

    Raises
    ------
    DataError
        If an entry is not finite or there is none.

    Examples
    --------
    >>> hit_rate([0.01, -0.01, 0.0, 0.02])
    0.5
    """
    return float((check_series("returns", returns) > 0).mean())


def monthly_hit_rate(returns: pd.Series) -> float:
    """Return the share of calendar months with a compounded return above 0, the first and the last as far as they go.

    Parameters
    ----------
    returns : Series by date
        Per session.

    Raises
    ------
    DataError
        As `hit_rate`.

    Examples
    --------
    >>> days = pd.to_datetime(["2024-01-30", "2024-01-31", "2024-02-01", "2024-03-01"])
    >>> round(monthly_hit_rate(pd.Series([0.02, -0.01, -0.01, 0.01], index=days)), 3)
    0.667
    """
    return hit_rate(period_returns(returns, "month").to_numpy())


def slugging(returns: npt.ArrayLike) -> float:
    """Return the mean gain over the mean loss, periods at 0 left out; NaN without a gain or without a loss.

    Raises
    ------
    DataError
        If an entry is not finite or there is none.

    Examples
    --------
    >>> round(slugging([0.01, 0.03, -0.01, 0.0]), 3)
    2.0
    """
    x = check_series("returns", returns)
    gains, losses = x[x > 0], x[x < 0]
    return float(gains.mean() / -losses.mean()) if len(gains) and len(losses) else math.nan


def holding_period(gross: npt.ArrayLike, turnover: npt.ArrayLike) -> float:
    """Return how many sessions a position is held in the mean: mean gross exposure over mean turnover per session.

    Parameters
    ----------
    gross : array_like of shape (T,)
        Sum of absolute weights at the close.
    turnover : array_like of shape (T,)
        Half of the sum of absolute trade weights, as the account's column: a book of gross G that is replaced whole sells G and buys
        G, which is a turnover of G.

    Returns
    -------
    float
        Infinite where there is gross but no trade, NaN where there is neither.

    Raises
    ------
    DataError
        If an entry is not finite or negative, the lengths differ, or there is none.

    Notes
    -----
    Little's law: mean stock over mean flow. Building the book up counts as half its turnover, so short runs read a little long.

    Examples
    --------
    >>> holding_period([4.0, 4.0], [0.1, 0.3])
    20.0
    """
    g, flow = check_series("gross", gross), check_series("turnover", turnover)
    if len(g) != len(flow):
        raise DataError(f"`turnover` must have the length of `gross`, {len(g)}; got {len(flow)}.")
    for name, values in (("gross", g), ("turnover", flow)):
        if (values < 0).any():
            raise DataError(f"`{name}` must not be negative; got {values.min():.6g}. Take the columns of `Run.nav`.")
    if flow.mean() > 0:
        return float(g.mean() / flow.mean())
    return math.inf if g.mean() > 0 else math.nan
