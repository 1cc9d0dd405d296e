"""The same market in a worse regime: volatilities higher, everything more alike. The result is a risk model like any other."""

from __future__ import annotations

from typing import Literal

import numpy as np

from risk.checks import DataError
from risk.model import FactorModel

__all__ = ["REGIME_FACTOR", "shift_regime"]

REGIME_FACTOR = "regime:correlation"


def shift_regime(
    model: FactorModel,
    *,
    volatility: float = 1.0,
    specific: float | None = None,
    correlation: float = 0.0,
    between: Literal["assets", "factors"] = "assets",
) -> FactorModel:
    """Return the risk model after volatilities are scaled and correlations moved towards 1.

    Decompose a portfolio with it, and with the model as it was, for its volatility in either regime and the parts.

    Parameters
    ----------
    model : FactorModel
    volatility : float
        a: factor volatilities times this; > 0.
    specific : float, optional
        Specific volatilities times this; > 0. None: `volatility`.
    correlation : float
        b: share of the way of every correlation to 1, at least 0 and below 1.
    between : str
        ``assets``: correlations of the assets' returns, whose volatilities stay as scaled: V' = (1 - b) V + b s s', with
        s the assets' volatilities, so that one factor more, `REGIME_FACTOR` with exposures s, says it all.
        ``factors``: correlations of the factors, C' = (1 - b) C + b 1 1'. That moves countries, sectors and styles, whose
        signs are conventions, up together, and the assets' volatilities with them.

    Returns
    -------
    FactorModel
        Both are sums of positive semidefinite matrices, and so are themselves.

    Raises
    ------
    DataError
        If a setting is out of its range, or the model has been shifted between assets before.

    Examples
    --------
    >>> import numpy as np
    >>> model = FactorModel(["A", "B"], ["market"], np.ones((2, 1)), [[0.04]], [0.09, 0.09])
    >>> round(shift_regime(model, correlation=0.5).volatility([0.5, 0.5]) / model.volatility([0.5, 0.5]), 4)
    1.1246
    """
    own = volatility if specific is None else specific
    for name, value in (("volatility", volatility), ("specific", own)):
        if not (np.isfinite(value) and value > 0):
            raise DataError(f"`{name}` must be a positive number; got {value}.")
    if not 0 <= correlation < 1:
        raise DataError(f"`correlation` must be a share of the way to 1, at least 0 and below 1; got {correlation}.")
    if between not in ("assets", "factors"):
        raise DataError(f"`between` must be 'assets' or 'factors'; got {between!r}.")
    F, d = volatility**2 * model.factor_covariance, own**2 * model.specific_variance
    factors, X, b = model.factors, model.exposures, correlation
    if between == "factors":
        deviation = np.sqrt(np.maximum(np.diag(F), 0.0))
        F = (1 - b) * F + b * np.outer(deviation, deviation)
    elif b > 0:
        if REGIME_FACTOR in factors:
            raise DataError(f"`model` has the factor {REGIME_FACTOR!r} already; shift the model it was made of.")
        deviation = np.sqrt(np.maximum(((X @ F) * X).sum(axis=1), 0.0) + d)
        k = len(factors)
        shifted = np.zeros((k + 1, k + 1))
        shifted[:k, :k], shifted[k, k] = (1 - b) * F, b
        factors, X, F, d = (*factors, REGIME_FACTOR), np.column_stack([X, deviation]), shifted, (1 - b) * d
    return FactorModel(model.assets, factors, X, F, d)
