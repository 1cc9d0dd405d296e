"""Where a portfolio's forecast risk comes from: factors, specific risk and assets, in parts that sum to the whole."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from risk.checks import FloatArray, check_array, freeze
from risk.model import FactorModel

__all__ = ["Decomposition", "decompose"]


@dataclass(frozen=True, eq=False)
class Decomposition:
    """Forecast risk of a portfolio in parts. All of an empty portfolio's parts are 0.

    Attributes
    ----------
    assets : tuple of str, length N
    factors : tuple of str, length K
    volatility : float
        sigma = sqrt(w'Vw), per year.
    factor_variance, specific_variance : float
        Parts of sigma^2, per year, squared: they sum to it.
    exposures : ndarray of shape (K,)
        x = X'w.
    factor_volatility : ndarray of shape (K,)
        Of each factor, per year.
    factor_correlation : ndarray of shape (K,)
        rho: of each factor with the portfolio.
    factor_contribution : ndarray of shape (K,)
        Exposure times volatility times correlation, x_k (F x)_k / sigma, per year.
    specific_contribution : float
        Per year; with `factor_contribution` it sums to `volatility`.
    marginal : ndarray of shape (N,)
        Change of volatility per unit of weight, (V w)_i / sigma, per year.
    contribution : ndarray of shape (N,)
        w_i times `marginal`, per year: sums to `volatility`.
    """

    assets: tuple[str, ...]
    factors: tuple[str, ...]
    volatility: float
    factor_variance: float
    specific_variance: float
    exposures: FloatArray
    factor_volatility: FloatArray
    factor_correlation: FloatArray
    factor_contribution: FloatArray
    specific_contribution: float
    marginal: FloatArray
    contribution: FloatArray

    @property
    def specific_share(self) -> float:
        """Specific variance as a share of variance; 0 for an empty portfolio."""
        total = self.factor_variance + self.specific_variance
        return self.specific_variance / total if total > 0 else 0.0

    @property
    def factor_share(self) -> float:
        """Factor variance as a share of variance; 0 for an empty portfolio."""
        total = self.factor_variance + self.specific_variance
        return self.factor_variance / total if total > 0 else 0.0


def decompose(model: FactorModel, weights: npt.ArrayLike) -> Decomposition:
    """Return the portfolio's forecast volatility by factor, specific risk and asset.

    Parameters
    ----------
    model : FactorModel
    weights : array_like of shape (N,)
        Fractions of net asset value in the order of `model.assets`.

    Returns
    -------
    Decomposition

    Raises
    ------
    DataError
        If `weights` has another shape or an entry is not finite.

    References
    ----------
    Grinold, Kahn (2000), Active Portfolio Management, chapter 3; Menchero, Davis (2011), Risk Contribution Is Exposure
    Times Volatility Times Correlation, Journal of Portfolio Management 37.

    Examples
    --------
    >>> import numpy as np
    >>> model = FactorModel(["A", "B"], ["market"], np.ones((2, 1)), [[0.04]], [0.09, 0.09])
    >>> parts = decompose(model, [0.6, 0.4])
    >>> round(parts.volatility, 4), round(parts.factor_share, 4)
    (0.2946, 0.4608)
    """
    w = check_array("weights", weights, (len(model.assets),))
    x = model.exposures.T @ w
    covariance = model.factor_covariance @ x
    factor_variance, specific = float(x @ covariance), model.specific_variance * w
    specific_variance = float(specific @ w)
    factor_variance = max(factor_variance, 0.0)
    sigma = float(np.sqrt(factor_variance + specific_variance))
    inverse = 1.0 / sigma if sigma > 0 else 0.0
    deviation = np.sqrt(np.diag(model.factor_covariance))
    marginal = (model.exposures @ covariance + specific) * inverse
    return Decomposition(
        assets=model.assets,
        factors=model.factors,
        volatility=sigma,
        factor_variance=factor_variance,
        specific_variance=specific_variance,
        exposures=freeze(x),
        factor_volatility=freeze(deviation),
        factor_correlation=freeze(covariance * inverse / np.where(deviation > 0, deviation, 1.0)),
        factor_contribution=freeze(x * covariance * inverse),
        specific_contribution=specific_variance * inverse,
        marginal=freeze(marginal),
        contribution=freeze(w * marginal),
    )
