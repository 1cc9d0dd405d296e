"""Specific variance: what is left of an asset's risk once the factors are taken out.

Three estimates are joined, all as volatilities: the asset's own, exponentially weighted; where its history says little, a
structural one from its style exposures (`risk.structural`); and a shrinkage of both towards assets of like size
(`risk.shrinkage`). All are then multiplied by the volatility regime of specific returns (`risk.multiplier`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from risk.checks import BoolArray, FloatArray, freeze
from risk.moments import exponential_weights, shared_error
from risk.multiplier import RegimeMultiplier, regime_multiplier
from risk.shrinkage import shrink_to_size
from risk.spec import RiskSpec
from risk.structural import robust_trust, structural_volatility

__all__ = ["LOOKBACK_HALF_LIVES", "OwnVariance", "SpecificRisk", "own_variance", "specific_risk"]

LOOKBACK_HALF_LIVES = 10
_BLOCK = 64


@dataclass(frozen=True, eq=False)
class OwnVariance:
    """What each asset's own specific returns say.

    Attributes
    ----------
    variance : ndarray of shape (n,)
        Per day, squared; NaN with no known day.
    days : int ndarray of shape (n,)
        Known days.
    noise : ndarray of shape (n,)
        Squared relative standard error of the volatility; NaN with no known day.
    kurtosis : float
        Of the returns (3 if normal), the median over the members.
    """

    variance: FloatArray
    days: FloatArray
    noise: FloatArray
    kurtosis: float


@dataclass(frozen=True, eq=False)
class SpecificRisk:
    """Specific variances of n assets.

    Attributes
    ----------
    variance : ndarray of shape (n,)
        Per year, squared.
    days : int ndarray of shape (n,)
        Specific returns known within the look-back.
    short : int
        Assets with a short history, whose volatility is partly or wholly structural.
    without_history : int
        Those among them with no known day: wholly structural.
    fat_tailed : int
        Assets that lean on the structural estimate as their standard deviation is far from their robust one.
    floored : int
        Assets raised to the lowest specific volatility.
    kurtosis : float
        Of daily specific returns, the median over the members.
    regime : RegimeMultiplier
        Its variance multiplier lambda^2 is 1 where the step is off.
    """

    variance: FloatArray
    days: FloatArray
    short: int
    without_history: int
    fat_tailed: int
    floored: int
    kurtosis: float
    regime: RegimeMultiplier


def own_variance(returns: FloatArray, known: BoolArray, members: BoolArray, half_life: float, lags: int) -> OwnVariance:
    """Return each asset's exponentially weighted variance, and how sure it is.

    The Newey-West moment of `risk.moments`, for each asset by itself, normalised by the weight of its known days; a day
    that is not known adds nothing.

    Parameters
    ----------
    returns : ndarray of shape (T, n)
        Per day, oldest first; 0 where not known.
    known : bool ndarray of shape (T, n)
    members : bool ndarray of shape (n,)
        Decide the kurtosis.
    half_life : float
    lags : int

    Notes
    -----
    With weights u, Bartlett weights k and kurtosis c, the variance of the estimate over the squared truth is
    (c - 1) sum u^2 + 4 sum_l k_l^2 sum_t u_t u_{t-l}, for returns that are independent; that of the volatility is a
    quarter of it. An asset known on some days only has the same with its own sums of u and u^2.
    """
    T, n = returns.shape
    weights = exponential_weights(T, half_life)
    moment, weight, squared_weight, days, second, fourth = np.zeros((6, n))
    lags = min(lags, T - 1)
    ones = np.ones(T)
    for start in range(0, T, _BLOCK):  # blocks that stay in the processor's cache
        rows = slice(start, min(start + _BLOCK, T))
        block, present = returns[rows], known[rows].astype(np.float64)
        square = block * block
        moment += weights[rows] @ square
        weight += weights[rows] @ present
        squared_weight += weights[rows] ** 2 @ present
        days += ones[rows] @ present
        second += ones[rows] @ square
        fourth += ones[rows] @ (square * square)
        for lag in range(1, lags + 1):
            late = slice(max(start, lag), rows.stop)
            early = slice(late.start - lag, rows.stop - lag)
            pair = np.sqrt(weights[late] * weights[early])
            moment += 2 * (1 - lag / (lags + 1)) * (pair @ (returns[late] * returns[early]))
    seen = weight > 0
    variance = np.divide(np.maximum(moment, 0.0), weight, out=np.full(n, np.nan), where=seen)
    moving = members & (second > 0)
    kurtosis = float(np.median((days * fourth)[moving] / second[moving] ** 2)) if moving.any() else 3.0
    whole = shared_error(weights, 0, weights, 0)
    error = (kurtosis - 1) + 2 * (shared_error(weights, lags, weights, lags) / whole - 1)
    noise = np.divide(squared_weight, weight**2, out=np.full(n, np.nan), where=seen) * (error / 4)
    return OwnVariance(variance, days, noise, kurtosis)


def specific_risk(
    specific_returns: FloatArray,
    size: FloatArray,
    members: BoolArray,
    styles: FloatArray,
    spec: RiskSpec,
    periods_per_year: float,
) -> SpecificRisk:
    """Return the forecast specific variances.

    Parameters
    ----------
    specific_returns : ndarray of shape (T, n)
        Per day, oldest first, NaN where not known.
    size : ndarray of shape (n,)
    members : bool ndarray of shape (n,)
        The estimation universe: it decides the structural estimate, the size groups and the regime.
    styles : ndarray of shape (n, S)
        Style exposures.
    spec : RiskSpec
    periods_per_year : float

    Notes
    -----
    The volatility is trust * own + (1 - trust) * structural, with trust n/F for n known days below the full length F
    (`short_history_days`, or the longest history there is), less for fat tails where `specific_robust` is on; an asset
    without history has trust 0. Then it is shrunk, multiplied by the regime, which is weighted by size, and floored.
    """
    known = np.isfinite(specific_returns)
    returns = np.where(known, specific_returns, 0.0)
    history = own_variance(returns, known, members, spec.specific_half_life, spec.specific_newey_west_lags)
    days = history.days
    own = np.sqrt(np.where(days > 0, history.variance, 0.0) * periods_per_year)
    full = max(1.0, min(float(spec.short_history_days), float(days[members].max(initial=0.0))))
    tails = robust_trust(specific_returns) if spec.specific_robust else np.ones(len(own))
    trust = np.minimum(days / full, 1.0) * tails
    structural = structural_volatility(own, members & (trust >= 1), size, styles)
    structural = np.where(np.isfinite(structural), structural, own)
    blended = np.where(trust < 1, trust * own + (1 - trust) * structural, own)
    noise = np.where(days > 0, history.noise, 0.0) * trust**2
    shrunk = shrink_to_size(blended, noise, size, members, spec.specific_shrinkage)
    regime = RegimeMultiplier(1.0, 0, 0)
    if spec.specific_regime_half_life is not None:
        cap = np.where(members & np.isfinite(size), size, 0.0)
        regime = regime_multiplier(returns, known, cap, spec.specific_half_life, spec.specific_regime_half_life)
    variance = regime.variance * shrunk**2
    floor = spec.specific_floor**2
    return SpecificRisk(
        variance=freeze(np.maximum(variance, floor)),
        days=freeze(days),
        short=int((days < full).sum()),
        without_history=int((days == 0).sum()),
        fat_tailed=int((tails < 1).sum()),
        floored=int((variance < floor).sum()),
        kurtosis=history.kurtosis,
        regime=regime,
    )
