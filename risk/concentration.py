"""How few positions, and how few independent bets, a portfolio hangs on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from risk.checks import DataError, FloatArray, check_array, freeze
from risk.model import FactorModel

__all__ = ["Concentration", "concentration"]


@dataclass(frozen=True, eq=False)
class Concentration:
    """Concentration of a portfolio; all of an empty portfolio's numbers are 0.

    Attributes
    ----------
    positions : int
        Assets with a weight other than 0.
    effective_positions : float
        (sum |w|)^2 / sum w^2: the number of equal positions that are as concentrated (1 / Herfindahl of |w|).
    effective_longs, effective_shorts : float
        The same of either side.
    effective_risk_positions : float
        (sum |c|)^2 / sum c^2 of the contributions to risk c_i = w_i (V w)_i / sigma.
    effective_bets : float
        exp(-sum p ln p), with p the shares of variance of uncorrelated bets: K factor bets and N specific returns.
    effective_factor_bets : float
        The same of the factor bets alone; 0 where there is no factor risk.
    top : tuple of int, length n
    top_gross : ndarray of shape (n,)
        Share of gross in the `top` largest positions.
    top_risk : ndarray of shape (n,)
        Share of variance from the `top` assets that contribute most; above 1 where the others hedge them.
    factors : tuple of str, length K
    factor_bets : ndarray of shape (K,)
        p of each factor's bet; with the specific share of variance they sum to 1.
    """

    positions: int
    effective_positions: float
    effective_longs: float
    effective_shorts: float
    effective_risk_positions: float
    effective_bets: float
    effective_factor_bets: float
    top: tuple[int, ...]
    top_gross: FloatArray
    top_risk: FloatArray
    factors: tuple[str, ...]
    factor_bets: FloatArray


def _effective(values: FloatArray) -> float:
    """Return (sum |v|)^2 / sum v^2; 0 where all are 0."""
    size = float(np.abs(values).max(initial=0.0))
    if size == 0:
        return 0.0
    scaled = np.abs(values) / size
    return float(scaled.sum() ** 2 / (scaled @ scaled))


def _entropy_number(variances: FloatArray) -> float:
    """Return exp(-sum p ln p) of the shares p of each variance; 0 where all are 0."""
    total = float(variances.sum())
    if total == 0:
        return 0.0
    p = variances[variances > 0] / total
    return float(np.exp(-(p @ np.log(p))))


def _factor_bets(model: FactorModel, x: FloatArray) -> FloatArray:
    """Return the variance of each of K uncorrelated bets nearest to the factors, shape (K,): they sum to x'F x.

    With F = S C S, S the volatilities, z = C^(-1/2) S^(-1) f are uncorrelated, of variance 1, and of all such rotations
    the one most correlated with the factors, one by one. The portfolio's exposure to them is C^(1/2) S x: no inverse.
    """
    deviation = np.sqrt(np.maximum(np.diag(model.factor_covariance), 0.0))
    scale = np.where(deviation > 0, deviation, 1.0)
    values, vectors = np.linalg.eigh(model.factor_covariance / np.outer(scale, scale))
    exposure = vectors @ (np.sqrt(np.maximum(values, 0.0)) * (vectors.T @ (deviation * x)))
    return np.asarray(exposure * exposure)


def concentration(model: FactorModel, weights: npt.ArrayLike, *, top: Sequence[int] = (1, 5, 10, 20)) -> Concentration:
    """Return how concentrated a portfolio is in positions, in risk and in independent bets.

    Parameters
    ----------
    model : FactorModel
    weights : array_like of shape (N,)
        Fractions of net asset value.
    top : sequence of int
        Numbers of assets to add up; more than there are is all of them.

    Returns
    -------
    Concentration

    Raises
    ------
    DataError
        If `weights` has another shape or an entry is not finite, or a number in `top` is below 1.

    Notes
    -----
    A bet is a factor made uncorrelated with the others by the rotation that stays nearest to all of them (the symmetric
    one, on correlations), or a specific return. The bets' variances are >= 0 and sum to the portfolio's, so that their
    entropy counts them: one bet alone gives 1, n equal ones n.

    References
    ----------
    Meucci (2009), Managing Diversification, Risk 22; Meucci, Santangelo, Deguest (2015), Risk Budgeting and
    Diversification Based on Optimised Uncorrelated Factors, Risk 11; Kessy, Lewin, Strimmer (2018), Optimal Whitening and
    Decorrelation, The American Statistician 72.

    Examples
    --------
    >>> import numpy as np
    >>> model = FactorModel(["A", "B"], ["market"], np.ones((2, 1)), [[0.04]], [0.09, 0.09])
    >>> result = concentration(model, [0.5, -0.5], top=[1])
    >>> round(result.effective_positions, 6), round(result.effective_bets, 6), result.top_gross.tolist()
    (2.0, 2.0, [0.5])
    """
    w = check_array("weights", weights, (len(model.assets),))
    if any(count < 1 for count in top):
        raise DataError(f"`top` must hold numbers of assets from 1 on; got {min(top)}.")
    x = model.exposures.T @ w
    bets, specific = _factor_bets(model, x), model.specific_variance * w * w
    contribution = w * model.covariance_times(w)
    variance, gross = float(contribution.sum()), float(np.abs(w).sum())
    # Largest first; the n-th entry of the running sum is that of the n largest.
    by_size, by_risk = np.cumsum(-np.sort(-np.abs(w))), np.cumsum(-np.sort(-contribution))
    last = np.minimum(np.asarray(top, dtype=np.int64), len(w)) - 1
    total = float(bets.sum() + specific.sum())
    return Concentration(
        positions=int(np.count_nonzero(w)),
        effective_positions=_effective(w),
        effective_longs=_effective(np.maximum(w, 0.0)),
        effective_shorts=_effective(np.minimum(w, 0.0)),
        effective_risk_positions=_effective(contribution),
        effective_bets=_entropy_number(np.concatenate([bets, specific])),
        effective_factor_bets=_entropy_number(bets),
        top=tuple(int(count) for count in top),
        top_gross=freeze(by_size[last] / gross if gross > 0 else np.zeros(len(last))),
        top_risk=freeze(by_risk[last] / variance if variance > 0 else np.zeros(len(last))),
        factors=model.factors,
        factor_bets=freeze(bets / total if total > 0 else np.zeros(len(bets))),
    )
