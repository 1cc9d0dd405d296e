"""Forecast against realised volatility of a book, day by day.

A forecast made at the close of t - 1 is judged by the return of t alone: z_t = r_t / (sigma_{t-1} / sqrt(252)). Over a window
of n returns the ratio of realised to forecast is the standard deviation of z. Where forecasts are right and returns normal,
(n - 1) ratio^2 has a chi-square distribution with n - 1 degrees of freedom, and so the ratio lies in

    sqrt(chi2((1 - c)/2; n - 1)/(n - 1)) ... sqrt(chi2((1 + c)/2; n - 1)/(n - 1))

with probability c: 0.82 to 1.18 for n = 63 and c = 0.95. Windows of neighbouring days share their returns, so days outside
come in runs; and fat tails widen the band by more than the formula says.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import stats

from risk import DataError
from risk.checks import FloatArray

__all__ = ["calibrated_record", "chi_square_band", "forecast_record"]


def chi_square_band(window: int, confidence: float) -> tuple[float, float]:
    """Return the band of realised over forecast volatility that right forecasts of normal returns stay in.

    Parameters
    ----------
    window : int
        Returns in the standard deviation, at least 2.
    confidence : float
        Between 0 and 1.

    Examples
    --------
    >>> low, high = chi_square_band(63, 0.95)
    >>> round(low, 3), round(high, 3)
    (0.824, 1.175)
    """
    if window < 2 or not 0 < confidence < 1:
        raise DataError(f"`window` must be >= 2 and `confidence` within 0 and 1; got {window} and {confidence}.")
    low, high = (stats.chi2.ppf((1 + side * confidence) / 2, window - 1) / (window - 1) for side in (-1, 1))
    return float(np.sqrt(low)), float(np.sqrt(high))


def calibrated_record(
    returns: pd.Series,
    forecast: FloatArray,
    calibrated: FloatArray,
    *,
    window: int = 63,
    confidence: float = 0.95,
    periods_per_year: int = 252,
) -> pd.DataFrame:
    """Return `forecast_record` of the risk model's forecasts, and beside it how the calibrated ones fare.

    Parameters
    ----------
    calibrated : ndarray of shape (T,)
        What the book's own past made of each forecast, per year.

    Returns
    -------
    DataFrame by date
        The columns of `forecast_record`, then ``calibrated_forecast``, ``calibrated_mean_forecast``, ``calibrated_ratio`` and
        ``calibrated_outside``.
    """
    record, second = (
        forecast_record(returns, made, window=window, confidence=confidence, periods_per_year=periods_per_year)
        for made in (forecast, calibrated)
    )
    beside = second[["forecast", "mean_forecast", "ratio", "outside"]]
    return record.join(beside.add_prefix("calibrated_"))


def forecast_record(
    returns: pd.Series, forecast: FloatArray, *, window: int = 63, confidence: float = 0.95, periods_per_year: int = 252
) -> pd.DataFrame:
    """Return forecast and realised volatility of each day.

    Parameters
    ----------
    returns : Series by date, length T
        Of the book, per day, before costs: what the risk model forecasts.
    forecast : ndarray of shape (T,)
        Volatility of the book held at each close, per year; NaN where there was no model.
    window : int
        Returns that a realised volatility is taken over.

    Returns
    -------
    DataFrame by date
        ``forecast`` (at the close, for the next day on), ``realised_return``, ``standardised`` (the return over yesterday's
        forecast, per day), and over the last `window` returns: ``realised_volatility`` (sample standard deviation, per year),
        ``mean_forecast`` (root mean square of the forecasts made for them), ``ratio`` (standard deviation of the standardised
        returns), ``lower`` and ``upper`` (its chi-square band), ``outside``. NaN while there are fewer returns whose forecast was
        above 0.

    Raises
    ------
    DataError
        If shapes differ, a return is not finite, or `window` or `confidence` is out of range.

    References
    ----------
    Menchero, Orr, Wang (2011), The Barra US Equity Model (USE4), on bias statistics and their confidence interval.
    """
    r = returns.to_numpy(dtype=np.float64)
    if forecast.shape != r.shape:
        raise DataError(f"`forecast` must have shape {r.shape}, as the returns; got {forecast.shape}.")
    if not np.isfinite(r).all():
        raise DataError(f"`returns` must be finite; got {int((~np.isfinite(r)).sum())} that are not.")
    lower, upper = chi_square_band(window, confidence)
    made = np.concatenate([[np.nan], forecast[:-1]])
    made[~(made > 0)] = np.nan
    judged = pd.DataFrame({"r": np.where(np.isfinite(made), r, np.nan), "z": r * np.sqrt(periods_per_year) / made})
    rolling = judged.rolling(window).std(ddof=1)
    ratio = rolling["z"].to_numpy()
    return pd.DataFrame(
        {
            "forecast": forecast,
            "realised_return": r,
            "standardised": judged["z"].to_numpy(),
            "realised_volatility": rolling["r"].to_numpy() * np.sqrt(periods_per_year),
            "mean_forecast": np.sqrt(pd.Series(made**2).rolling(window).mean().to_numpy()),
            "ratio": ratio,
            "lower": lower,
            "upper": upper,
            "outside": (ratio < lower) | (ratio > upper),
        },
        index=returns.index,
    )
