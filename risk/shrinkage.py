"""Shrinkage of specific volatilities to assets of like size, by Bayes' rule.

An estimated volatility s_i is the true one with a relative error of known variance n_i. Among the assets of a size decile
with mean m, the spread of estimates S^2 = mean (s - m)^2 is the spread of truths plus noise, so that the best linear guess
of the truth is

    v_i m + (1 - v_i) s_i,      v_i = q n_i m^2 / (q n_i m^2 + t^2),      t^2 = max(0, S^2 - q m^2 mean n)

with q the strength: 1 is Bayes' rule, 0 none. The lowest estimates, which an optimizer buys, are raised most. USE4 takes
v_i = q |s_i - m| / (S + q |s_i - m|) with a q to be tuned, which shrinks the extremes alike whether they are noise or not.
"""

from __future__ import annotations

import numpy as np

from risk.checks import BoolArray, FloatArray

__all__ = ["shrink_to_size"]

_BUCKETS, _BUCKET_MINIMUM = 10, 10


def shrink_to_size(
    volatility: FloatArray, noise: FloatArray, size: FloatArray, members: BoolArray, strength: float
) -> FloatArray:
    """Return volatilities shrunk towards the mean of the members of like size.

    Parameters
    ----------
    volatility : ndarray of shape (n,)
    noise : ndarray of shape (n,)
        Squared relative standard error of each volatility.
    size : ndarray of shape (n,)
        NaN where not known: such an asset is compared with all members.
    members : bool ndarray of shape (n,)
        Decide the deciles of size (fewer groups, of at least ten, where there are fewer than 100), means and spreads.
    strength : float
        q of the module's formula.

    References
    ----------
    Menchero, Orr, Wang (2011), The Barra US Equity Model (USE4), Methodology Notes, section 5.
    Efron, Morris (1973), Stein's Estimation Rule and Its Competitors, Journal of the American Statistical Association 68.

    Examples
    --------
    >>> import numpy as np
    >>> s, everyone = np.array([0.2, 0.4]), np.array([True, True])
    >>> shrink_to_size(s, np.full(2, 0.05), np.ones(2), everyone, 1.0).round(3).tolist()
    [0.245, 0.355]
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
        mean = float(volatility[peers].mean())
        error = strength * mean**2 * noise
        spread = max(0.0, float(((volatility[peers] - mean) ** 2).mean() - error[peers].mean()))
        total = error[mine] + spread
        share = np.divide(error[mine], total, out=np.zeros_like(total), where=total > 0)
        result[mine] = share * mean + (1 - share) * volatility[mine]
    return result
