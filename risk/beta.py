"""Predicted beta of a portfolio to a benchmark, and which assets and factors it comes from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from risk.checks import FloatArray, check_array, freeze
from risk.model import FactorModel

__all__ = ["BetaDecomposition", "decompose_beta"]


@dataclass(frozen=True, eq=False)
class BetaDecomposition:
    """Predicted beta of a portfolio to a benchmark, in parts.

    Attributes
    ----------
    beta : float
        w'V b / b'V b.
    asset_beta : ndarray of shape (N,)
        (V b)_i / b'V b.
    contribution : ndarray of shape (N,)
        w_i times `asset_beta`: sums to `beta`.
    factor_contribution : ndarray of shape (K,)
        x_k (F X'b)_k / b'V b; with `specific_contribution` it sums to `beta`.
    specific_contribution : float
        Of names held in both.
    correlation : float
        Of portfolio and benchmark; 0 for an empty portfolio.
    benchmark_volatility, residual_volatility : float
        Of the benchmark, and of the portfolio less beta times the benchmark; per year.
    """

    beta: float
    asset_beta: FloatArray
    contribution: FloatArray
    factor_contribution: FloatArray
    specific_contribution: float
    correlation: float
    benchmark_volatility: float
    residual_volatility: float


def decompose_beta(model: FactorModel, weights: npt.ArrayLike, benchmark: npt.ArrayLike) -> BetaDecomposition:
    """Return the portfolio's predicted beta to a benchmark, by asset and by factor.

    Parameters
    ----------
    model : FactorModel
    weights : array_like of shape (N,)
        Fractions of net asset value.
    benchmark : array_like of shape (N,)
        Weights of the benchmark; those of the cap-weighted universe sum to 1.

    Returns
    -------
    BetaDecomposition

    Raises
    ------
    DataError
        If an array has another shape, an entry is not finite, or the benchmark holds nothing.

    Examples
    --------
    >>> import numpy as np
    >>> model = FactorModel(["A", "B"], ["market"], [[1.5], [0.5]], [[0.04]], [0.09, 0.09])
    >>> parts = decompose_beta(model, [0.5, -0.5], [0.5, 0.5])
    >>> round(parts.beta, 4), parts.contribution.round(4).tolist()
    (0.2353, [0.6176, -0.3824])
    """
    n = len(model.assets)
    w, b = check_array("weights", weights, (n,)), check_array("benchmark", benchmark, (n,))
    asset_beta = model.beta(b)
    variance = model.variance(b)
    contribution = w * asset_beta
    beta, own = float(contribution.sum()), max(model.variance(w), 0.0)
    covariance = model.factor_covariance @ (model.exposures.T @ b)
    return BetaDecomposition(
        beta=beta,
        asset_beta=freeze(asset_beta),
        contribution=freeze(contribution),
        factor_contribution=freeze(model.exposures.T @ w * covariance / variance),
        specific_contribution=float(w @ (model.specific_variance * b)) / variance,
        correlation=beta * float(np.sqrt(variance / own)) if own > 0 else 0.0,
        benchmark_volatility=float(np.sqrt(variance)),
        residual_volatility=model.volatility(w - beta * b),
    )
