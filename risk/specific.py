"""Specific variance: what is left of an asset's risk once the factors are taken out.

Three estimates are joined, all as volatilities s: the asset's own exponentially weighted one; for a short history a
structural one from its style exposures; and a shrinkage of both towards the assets of like size.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from risk.checks import BoolArray, FloatArray, freeze
from risk.covariance import exponential_weights
from risk.spec import RiskSpec

__all__ = ["LOOKBACK_HALF_LIVES", "SpecificRisk", "own_variance", "shrink_to_size", "specific_risk"]

LOOKBACK_HALF_LIVES = 10
_BUCKETS, _BUCKET_MINIMUM = 10, 10


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
    floored : int
        Assets raised to the lowest specific volatility.
    """

    variance: FloatArray
    days: FloatArray
    short: int
    floored: int


def own_variance(specific_returns: FloatArray, half_life: float, lags: int) -> tuple[FloatArray, FloatArray]:
    """Return each asset's exponentially weighted variance per day and its number of known days, both of shape (n,).

    The Newey-West moment of `risk.covariance`, for each asset by itself, normalised by the weight of its known days; a
    day that is not known adds nothing. NaN with no known day.

    Parameters
    ----------
    specific_returns : ndarray of shape (T, n)
        Per day, oldest first, NaN where not known.
    half_life : float
    lags : int
    """
    known = np.isfinite(specific_returns)
    weights = exponential_weights(len(specific_returns), half_life)
    z = np.where(known, specific_returns, 0.0)
    z *= np.sqrt(weights)[:, None]
    moment = np.einsum("tn,tn->n", z, z)
    for lag in range(1, min(lags, len(z) - 1) + 1):
        moment += 2 * (1 - lag / (lags + 1)) * np.einsum("tn,tn->n", z[lag:], z[:-lag])
    weight = weights @ known
    days = known.sum(axis=0).astype(np.float64)
    return np.maximum(moment, 0.0) / np.where(weight > 0, weight, np.nan), days


def _structural(volatility: FloatArray, full: BoolArray, styles: FloatArray) -> FloatArray:
    """Return the volatility that assets of full history with like style exposures have.

    log s is regressed on the style exposures over the assets of full history, and exp of the fit is rescaled so that
    its mean over them is theirs (USE4, section 5). With too few of them for that: their mean.
    """
    usable = full & (volatility > 0)
    if not usable.any():
        return np.full(len(volatility), np.nan)
    if usable.sum() < _BUCKET_MINIMUM * (styles.shape[1] + 1):
        return np.full(len(volatility), float(volatility[usable].mean()))
    design = np.column_stack([np.ones(len(styles)), styles])
    slopes = np.linalg.lstsq(design[usable], np.log(volatility[usable]), rcond=None)[0]
    # Exposures of assets outside the sample may lie outside its range, and exp would run away with them.
    lowest, highest = np.log(volatility[usable]).min(), np.log(volatility[usable]).max()
    fit = np.exp(np.clip(design @ slopes, lowest, highest))
    return np.asarray(fit * (volatility[usable].mean() / fit[usable].mean()))


def shrink_to_size(volatility: FloatArray, size: FloatArray, members: BoolArray, strength: float) -> FloatArray:
    """Return volatilities shrunk towards the size-weighted mean of the members of like size.

    Parameters
    ----------
    volatility : ndarray of shape (n,)
    size : ndarray of shape (n,)
        NaN where not known: such an asset is compared with all members.
    members : bool ndarray of shape (n,)
        Decide the deciles of size (fewer groups, of at least ten, where there are fewer than 100) and their means.
    strength : float
        q below.

    Notes
    -----
    s_sh = l m + (1 - l) s with l = q |s - m| / (D + q |s - m|), m the size-weighted mean and D the standard deviation
    of s in the group.

    References
    ----------
    Menchero, Orr, Wang (2011), The Barra US Equity Model (USE4), Methodology Notes, section 5.
    """
    groups = max(1, min(_BUCKETS, int(members.sum()) // _BUCKET_MINIMUM))
    edges = np.quantile(size[members], np.arange(1, groups) / groups)
    group = np.where(np.isfinite(size), np.searchsorted(edges, size, side="right"), -1)
    result = volatility.copy()
    for g in range(-1, groups):
        mine = group == g
        peers = members & (mine | (g < 0))
        if not mine.any() or not peers.any():
            continue
        mean = float((size[peers] * volatility[peers]).sum() / size[peers].sum())
        spread = float(np.sqrt(((volatility[peers] - mean) ** 2).mean()))
        distance = strength * np.abs(volatility[mine] - mean)
        total = spread + distance
        share = np.where(total > 0, distance / np.where(total > 0, total, 1.0), 0.0)
        result[mine] = share * mean + (1 - share) * volatility[mine]
    return result


def specific_risk(
    specific_returns: FloatArray,
    size: FloatArray,
    members: BoolArray,
    styles: FloatArray,
    spec: RiskSpec,
    periods_per_year: int,
) -> SpecificRisk:
    """Return the forecast specific variances.

    Parameters
    ----------
    specific_returns : ndarray of shape (T, n)
        Per day, oldest first, NaN where not known.
    size : ndarray of shape (n,)
    members : bool ndarray of shape (n,)
        The estimation universe: it decides the structural estimate and the size groups.
    styles : ndarray of shape (n, S)
        Style exposures.
    spec : RiskSpec
    periods_per_year : int

    Notes
    -----
    With n known days, n below the full length F (`short_history_days`, or the longest history there is), the volatility
    is (n/F) own + (1 - n/F) structural; then it is shrunk (`shrink_to_size`) and floored.
    """
    variance, days = own_variance(specific_returns, spec.specific_half_life, spec.specific_newey_west_lags)
    own = np.sqrt(np.where(days > 0, variance, 0.0) * periods_per_year)
    full = max(1.0, min(float(spec.short_history_days), float(days[members].max(initial=0.0))))
    trust = np.minimum(days / full, 1.0)
    structural = _structural(own, members & (trust >= 1), styles)
    blended = np.where(trust < 1, trust * own + (1 - trust) * np.where(np.isfinite(structural), structural, 0.0), own)
    shrunk = shrink_to_size(blended, size, members, spec.specific_shrinkage)
    floored = int((shrunk < spec.specific_floor).sum())
    result = np.maximum(shrunk, spec.specific_floor) ** 2
    return SpecificRisk(freeze(result), freeze(days), int((trust < 1).sum()), floored)
