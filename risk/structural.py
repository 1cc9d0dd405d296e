"""Structural specific volatility: what assets of like exposures have, for those whose own history says little.

How far an asset's own history is trusted, from 0 to 1, is

    trust_i = min(1, n_i / full) * min(1, exp(1 - Z_i)),      Z_i = |s_i - r_i| / r_i

with n_i its known days, and, where asked for, r_i its robust standard deviation (interquartile range / 1.349) and s_i the
plain one without returns beyond 10 r_i, both of its last 252 days. Z is near 0 for normal returns; one above 1 says that
a few days, or a change of kind halfway, made the standard deviation.
"""

from __future__ import annotations

import numpy as np

from risk.checks import BoolArray, FloatArray

__all__ = ["robust_trust", "structural_volatility"]

_ROBUST_DAYS, _ROBUST_MINIMUM = 252, 63
_ROBUST_CUT = 10.0
_NORMAL_RANGE = 1.3489795003921634
_PER_COEFFICIENT = 10


def robust_trust(specific_returns: FloatArray) -> FloatArray:
    """Return min(1, exp(1 - Z)) of the module's formula, shape (n,); 1 with fewer than 63 known days of the last 252.

    Parameters
    ----------
    specific_returns : ndarray of shape (T, n)
        Per day, oldest first, NaN where not known.

    References
    ----------
    Menchero, Orr, Wang (2011), The Barra US Equity Model (USE4), Methodology Notes, section 5.
    """
    ordered = np.sort(np.ascontiguousarray(specific_returns[-_ROBUST_DAYS:].T), axis=1)  # NaN go last
    days = np.isfinite(ordered).sum(axis=1)
    enough = days >= _ROBUST_MINIMUM
    last, row = np.maximum(days - 1, 0), np.arange(len(ordered))
    lower, upper = (ordered[row, np.rint(share * last).astype(np.intp)] for share in (0.25, 0.75))
    robust = np.where(enough, (upper - lower) / _NORMAL_RANGE, 1.0)
    inside = np.where(np.abs(ordered) <= _ROBUST_CUT * robust[:, None], ordered, 0.0)
    count = (np.abs(ordered) <= _ROBUST_CUT * robust[:, None]).sum(axis=1)
    plain = np.sqrt(np.einsum("nt,nt->n", inside, inside) / np.maximum(count, 1))
    distance = np.divide(np.abs(plain - robust), robust, out=np.full_like(robust, np.inf), where=robust > 0)
    return np.asarray(np.where(enough, np.minimum(1.0, np.exp(1 - distance)), 1.0))


def structural_volatility(
    volatility: FloatArray, trusted: BoolArray, size: FloatArray, styles: FloatArray
) -> FloatArray:
    """Return the volatility that trusted assets with like style exposures have, shape (n,).

    log s is regressed on the style exposures over the trusted assets, weighted by the root of size, and exp of the fit
    is scaled so that its mean over them, so weighted, is theirs. With fewer than ten of them per coefficient: their mean.
    NaN where none is trusted.

    Parameters
    ----------
    volatility : ndarray of shape (n,)
    trusted : bool ndarray of shape (n,)
    size : ndarray of shape (n,)
        Assets of unknown size do not take part in the regression.
    styles : ndarray of shape (n, S)

    References
    ----------
    Menchero, Orr, Wang (2011), The Barra US Equity Model (USE4), Methodology Notes, section 5.
    """
    usable = trusted & (volatility > 0) & (size > 0)
    if not usable.any():
        return np.full(len(volatility), np.nan)
    weights = np.sqrt(size[usable])
    if usable.sum() < _PER_COEFFICIENT * (styles.shape[1] + 1):
        return np.full(len(volatility), float(np.average(volatility[usable], weights=weights)))
    design = np.column_stack([np.ones(len(styles)), styles])
    root, target = np.sqrt(weights), np.log(volatility[usable])
    slopes = np.linalg.lstsq(design[usable] * root[:, None], target * root, rcond=None)[0]
    # Exposures of assets outside the sample may lie outside its range, and exp would run away with them.
    fit = np.exp(np.clip(design @ slopes, target.min(), target.max()))
    scale = np.average(volatility[usable], weights=weights) / np.average(fit[usable], weights=weights)
    return np.asarray(fit * scale)
