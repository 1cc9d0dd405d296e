"""What prices, volumes, sizes and labels alone say about the members of one date's cross-section.

A signal is a function of a `CrossSection`. It returns one value per member, (n,): higher means a higher expected return, NaN
that too little is known. The rules for windows and missing rows are those of `backtest.cross_section`.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from backtest.cross_section import (
    HORIZON,
    LAG,
    YEAR,
    CrossSection,
    covered,
    gaussianise,
    mean_and_deviation,
    ratio,
    without_group_means,
)
from risk.checks import FloatArray

__all__ = [
    "high_52_week",
    "illiquidity",
    "low_beta",
    "low_idiosyncratic_volatility",
    "low_maximum_return",
    "low_volatility",
    "low_volatility_size_neutral",
    "momentum_6_1",
    "momentum_12_1",
    "momentum_12_1_size_neutral",
    "momentum_12_1_volatility_scaled",
    "residual_momentum",
    "reversal_month",
    "reversal_week",
    "seasonality",
    "sector_momentum",
    "small_size",
    "volume_shock",
]

HALF_YEAR, MONTH, WEEK = 126, 21, 5
VOLUME_DAYS = 50
SEASONAL_YEARS = 5


def momentum_12_1(section: CrossSection) -> FloatArray:
    """Return of the last 252 days without the last 21.

    References
    ----------
    Jegadeesh, Titman (1993), Returns to buying winners and selling losers; the month is skipped as in Fama, French (1996).
    """
    return section.compounded(YEAR, skip=MONTH)


def momentum_6_1(section: CrossSection) -> FloatArray:
    """Return of the last 126 days without the last 21.

    References
    ----------
    Jegadeesh, Titman (1993), Returns to buying winners and selling losers.
    """
    return section.compounded(HALF_YEAR, skip=MONTH)


def momentum_12_1_volatility_scaled(section: CrossSection) -> FloatArray:
    """12-1 momentum per unit of the asset's own daily volatility of 252 days.

    References
    ----------
    Moskowitz, Ooi, Pedersen (2012), Time series momentum (each asset scaled by its own volatility).
    """
    return ratio(momentum_12_1(section), -low_volatility(section))


def residual_momentum(section: CrossSection) -> FloatArray:
    """Mean over standard deviation of the residual returns of the last 252 days without the last 21.

    Residuals are after market, country and sector means of the members, where the paper regresses on three factors.

    References
    ----------
    Blitz, Huij, Martens (2011), Residual momentum.
    """
    return ratio(*mean_and_deviation(section.residuals[: YEAR - MONTH]))


def sector_momentum(section: CrossSection) -> FloatArray:
    """Equally weighted mean of the 126-day returns of the members of the asset's sector; the same for all of them.

    References
    ----------
    Moskowitz, Grinblatt (1999), Do industries explain momentum?
    """
    half_year = section.compounded(HALF_YEAR)
    known = np.isfinite(half_year)
    codes = section.sector.astype(np.intp) + 1
    count = np.bincount(codes[known], minlength=int(codes.max(initial=0)) + 1)
    total = np.bincount(codes[known], weights=half_year[known], minlength=len(count))
    means = ratio(total.astype(np.float64), count.astype(np.float64))
    return np.where(section.sector >= 0, means[codes], np.nan)


def reversal_week(section: CrossSection) -> FloatArray:
    """Minus the return of the last 5 days after market, country and sector means.

    References
    ----------
    Lehmann (1990), Fads, martingales, and market efficiency; within industries: Da, Liu, Schaumburg (2014), A closer look
    at the short-term return reversal.
    """
    return -without_group_means(section.compounded(WEEK), section.country, section.sector)


def reversal_month(section: CrossSection) -> FloatArray:
    """Minus the return of the last 21 days after market, country and sector means.

    References
    ----------
    Jegadeesh (1990), Evidence of predictable behavior of security returns; within industries: Da, Liu, Schaumburg (2014).
    """
    return -without_group_means(section.compounded(MONTH), section.country, section.sector)


def low_volatility(section: CrossSection) -> FloatArray:
    """Minus the standard deviation of the daily returns of the last 252 days.

    References
    ----------
    Blitz, van Vliet (2007), The volatility effect: lower risk without lower return.
    """
    return -mean_and_deviation(section.returns)[1]


def low_beta(section: CrossSection) -> FloatArray:
    """Minus the least-squares beta of 252 daily returns to the equally weighted return of the members.

    References
    ----------
    Black, Jensen, Scholes (1972), The capital asset pricing model: some empirical tests; Frazzini, Pedersen (2014),
    Betting against beta.
    """
    known, returns = section.known, np.where(section.known, section.returns, 0.0)
    market = (returns.sum(axis=1) / np.maximum(known.sum(axis=1), 1))[:, None]
    count = np.maximum(known.sum(axis=0), 1)
    market_mean = np.where(known, market, 0.0).sum(axis=0) / count
    deviation = np.where(known, market - market_mean, 0.0)
    beta = ratio((deviation * returns).sum(axis=0), (deviation * deviation).sum(axis=0))
    return np.where(covered(known), -beta, np.nan)


def low_idiosyncratic_volatility(section: CrossSection) -> FloatArray:
    """Minus the standard deviation of the residual returns of the last 21 days.

    Residuals are after market, country and sector means of the members, where the paper regresses on three factors.

    References
    ----------
    Ang, Hodrick, Xing, Zhang (2006), The cross-section of volatility and expected returns.
    """
    return -mean_and_deviation(section.residuals[-MONTH:])[1]


def low_maximum_return(section: CrossSection) -> FloatArray:
    """Minus the largest daily return of the last 21 days.

    References
    ----------
    Bali, Cakici, Whitelaw (2011), Maxing out: stocks as lotteries and the cross-section of expected returns.
    """
    known = section.known[-MONTH:]
    largest = np.where(known, section.returns[-MONTH:], -np.inf).max(axis=0)
    return np.where(covered(known), -largest, np.nan)


def high_52_week(section: CrossSection) -> FloatArray:
    """Last price over the highest of the last 252 closes, both compounded from returns.

    References
    ----------
    George, Hwang (2004), The 52-week high and momentum investing.
    """
    path = np.multiply.accumulate(section.growth, axis=0)
    return np.where(covered(section.known), ratio(path[-1], path.max(axis=0)), np.nan)


def small_size(section: CrossSection) -> FloatArray:
    """Minus the logarithm of size: market cap, or its proxy where the data has none.

    References
    ----------
    Banz (1981), The relationship between return and market value of common stocks.
    """
    return -section.log_size


def volume_shock(section: CrossSection) -> FloatArray:
    """Logarithm of the mean dollar volume of the last 5 days over that of the 50 days before.

    References
    ----------
    Gervais, Kaniel, Mingelgrin (2001), The high-volume return premium.
    """
    volume = section.past_dollar_volume[-(WEEK + VOLUME_DAYS) :][:, section.columns]
    recent, before = mean_and_deviation(volume[-WEEK:])[0], mean_and_deviation(volume[:-WEEK])[0]
    return np.log(ratio(np.where(recent > 0.0, recent, np.nan), before))


def illiquidity(section: CrossSection) -> FloatArray:
    """Logarithm of the mean of absolute return per unit of dollar volume over the last 252 days.

    References
    ----------
    Amihud (2002), Illiquidity and stock returns: cross-section and time-series effects.
    """
    volume = section.past_dollar_volume[-YEAR:][:, section.columns]
    impact = mean_and_deviation(ratio(np.abs(section.returns), volume))[0]
    return np.log(np.where(impact > 0.0, impact, np.nan))


def momentum_12_1_size_neutral(section: CrossSection) -> FloatArray:
    """12-1 momentum, gaussianised, less what a straight line in log size explains.

    References
    ----------
    Hong, Lim, Stein (2000), Bad news travels slowly: size, analyst coverage, and the profitability of momentum strategies.
    """
    return _without_size(momentum_12_1(section), section.log_size)


def low_volatility_size_neutral(section: CrossSection) -> FloatArray:
    """Low volatility, gaussianised, less what a straight line in log size explains.

    References
    ----------
    Blitz, van Vliet (2007), The volatility effect; size-neutral as in Bali, Cakici (2008), Idiosyncratic volatility and the
    cross-section of expected returns.
    """
    return _without_size(low_volatility(section), section.log_size)


def seasonality(section: CrossSection) -> FloatArray:
    """Mean over up to 5 earlier years of the return, less the members' mean, of the season that is about to be scored.

    The season of k years ago is the window of `HORIZON` days that begins `LAG` days after the same calendar date.

    References
    ----------
    Heston, Sadka (2008), Seasonality in the cross-section of stock returns.
    """
    total, years = np.zeros(len(section.columns)), np.zeros(len(section.columns))
    for k in range(1, SEASONAL_YEARS + 1):
        anchor = int(section.dates.searchsorted(section.dates[-1] - pd.DateOffset(years=k), side="right")) - 1
        if anchor < 0:
            break
        window = section.past_returns[anchor + LAG + 1 : anchor + LAG + HORIZON + 1][:, section.columns]
        known = np.isfinite(window)
        season = np.multiply.reduce(np.where(known, 1.0 + window, 1.0), axis=0) - 1.0
        usable = covered(known)
        # Less the mean of that year, so that names with three and with five years behind them can be compared.
        mean = season[usable].sum() / max(int(usable.sum()), 1)
        total += np.where(usable, season - mean, 0.0)
        years += usable
    return ratio(total, years)


def _without_size(values: FloatArray, log_size: FloatArray) -> FloatArray:
    """Return the residual of the gaussianised values after a straight line in log size; NaN where either is unknown.

    Gaussianised first, because least squares on raw returns is a regression on the few largest of them.
    """
    both = np.isfinite(values) & np.isfinite(log_size)
    y = gaussianise(np.where(both, values, np.nan))
    residual = np.full(values.shape, np.nan)
    if both.any():
        x = log_size[both] - log_size[both].mean()
        centred = y[both] - y[both].mean()
        slope = (x * centred).sum() / max(float((x * x).sum()), np.finfo(np.float64).tiny)
        residual[both] = centred - slope * x
    return residual
