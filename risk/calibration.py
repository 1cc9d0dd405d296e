"""What a book's own past says of its forecasts: an optimizer leans on whatever the risk model does not see.

With f_s the forecast volatility of the book held at the close of day s and r_{s+1} what it earned the next day,
z_s = r_{s+1} / (f_s / sqrt(252)) has variance 1 where forecasts are right. The multiplier of today's forecast is

    m^2 = (n0 + sum_s u_s z_s^2 + 2 sum_{l=1..L} (1 - l/(L+1)) sum_s sqrt(u_s u_{s-l}) z_s z_{s-l}) / (n0 + sum_s u_s)

with u_s = 2^(-(t - 1 - s)/half-life): an exponentially weighted variance with the Bartlett correction for serial correlation,
in which n0 days of forecasts that were right are the start. It reads nothing after t.
"""

from __future__ import annotations

import numpy as np

from risk.checks import DataError, FloatArray
from risk.moments import newey_west
from risk.spec import RiskSpec

__all__ = ["forecast_multiplier"]


def forecast_multiplier(forecast: FloatArray, realised: FloatArray, spec: RiskSpec, periods_per_year: int) -> float:
    """Return the factor by which a book's forecast volatility is to be multiplied; 1 where calibration is off.

    Parameters
    ----------
    forecast : ndarray of shape (n,)
        Volatility of the book at each day's close, per year, oldest first; days on which it was 0 tell nothing.
    realised : ndarray of shape (n,)
        Return of that book over the next day.
    spec : RiskSpec
        `calibration_half_life`, `calibration_prior_days` n0, `calibration_floor` and `calibration_lags` L.
    periods_per_year : int

    Raises
    ------
    DataError
        If the two differ in length, or an entry is negative or not finite.

    Examples
    --------
    >>> spec = RiskSpec(calibration_prior_days=1.0, calibration_lags=0)
    >>> f = np.full(3, np.sqrt(252) * 0.01)
    >>> round(forecast_multiplier(f, np.array([0.02, -0.02, 0.02]), spec, 252), 3)
    1.802
    """
    f, r = np.asarray(forecast, dtype=np.float64), np.asarray(realised, dtype=np.float64)
    if f.ndim != 1 or f.shape != r.shape:
        raise DataError(f"`forecast` and `realised` must be of one length; got shapes {f.shape} and {r.shape}.")
    if not (np.isfinite(f).all() and np.isfinite(r).all() and (f >= 0).all()):
        raise DataError("`forecast` must be at least 0 and `realised` finite on every day; leave out days not known.")
    if spec.calibration_half_life is None:
        return 1.0
    held = f > 0
    weights = np.where(held, 0.5 ** (np.arange(len(f) - 1, -1, -1) / spec.calibration_half_life), 0.0)
    z = np.divide(r, f / np.sqrt(periods_per_year), out=np.zeros_like(f), where=held)
    seen = float(newey_west(z[:, None], weights, spec.calibration_lags)[0, 0]) if len(z) else 0.0
    variance = (spec.calibration_prior_days + seen) / (spec.calibration_prior_days + float(weights.sum()))
    return max(float(np.sqrt(variance)), spec.calibration_floor)
