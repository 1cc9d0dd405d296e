"""The factor risk model: V = X F X' + diag(d), never formed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from risk.checks import DataError, FloatArray, check_array, check_labels, freeze

__all__ = ["FactorModel"]


@dataclass(frozen=True, eq=False)
class FactorModel:
    """Annual covariance of N assets through K factors.

    Parameters
    ----------
    assets : sequence of str, length N
    factors : sequence of str, length K
        Names as in `docs/notation.md`: ``market``, ``country:US``, ``sector:Energy``, ``style:size``.
    exposures : array_like of shape (N, K)
    factor_covariance : array_like of shape (K, K)
        Symmetric positive semidefinite, per year.
    specific_variance : array_like of shape (N,)
        Positive, per year.

    Raises
    ------
    DataError
        If shapes disagree, an entry is not finite, labels repeat, `factor_covariance` is not symmetric or has a
        negative eigenvalue, or a specific variance is not positive.

    Examples
    --------
    >>> import numpy as np
    >>> model = FactorModel(["A", "B"], ["market"], np.ones((2, 1)), [[0.04]], [0.09, 0.09])
    >>> round(model.volatility(np.array([0.5, -0.5])), 4)
    0.2121
    """

    assets: tuple[str, ...]
    factors: tuple[str, ...]
    exposures: FloatArray
    factor_covariance: FloatArray
    specific_variance: FloatArray

    def __init__(
        self,
        assets: Any,
        factors: Any,
        exposures: npt.ArrayLike,
        factor_covariance: npt.ArrayLike,
        specific_variance: npt.ArrayLike,
    ) -> None:
        names, columns = check_labels("assets", assets), check_labels("factors", factors)
        n, k = len(names), len(columns)
        X = check_array("exposures", exposures, (n, k))
        F = check_array("factor_covariance", factor_covariance, (k, k))
        d = check_array("specific_variance", specific_variance, (n,))
        scale = float(np.abs(F).max(initial=0.0))
        if np.abs(F - F.T).max(initial=0.0) > 1e-10 * max(scale, 1e-300):
            raise DataError("`factor_covariance` must be symmetric; symmetrise it as (F + F') / 2.")
        F = freeze((F + F.T) / 2)
        lowest = float(np.linalg.eigvalsh(F)[0])
        if lowest < -1e-9 * scale:
            raise DataError(
                f"`factor_covariance` must be positive semidefinite; its lowest eigenvalue is {lowest:.3g}."
            )
        if (d <= 0).any():
            worst = int(np.argmin(d))
            raise DataError(f"`specific_variance` must be positive; {names[worst]!r} has {d[worst]:.3g}.")
        for name, value in (
            ("assets", names),
            ("factors", columns),
            ("exposures", X),
            ("factor_covariance", F),
            ("specific_variance", d),
        ):
            object.__setattr__(self, name, value)

    def covariance_times(self, weights: npt.ArrayLike) -> FloatArray:
        """Return V w, shape (N,): the covariance of each asset with the portfolio, per year."""
        w = np.asarray(weights, dtype=np.float64)
        return self.exposures @ (self.factor_covariance @ (self.exposures.T @ w)) + self.specific_variance * w

    def variance(self, weights: npt.ArrayLike) -> float:
        """Return w'Vw, per year, squared."""
        w = np.asarray(weights, dtype=np.float64)
        y = self.exposures.T @ w
        return float(y @ self.factor_covariance @ y + (self.specific_variance * w) @ w)

    def volatility(self, weights: npt.ArrayLike) -> float:
        """Return the forecast volatility sqrt(w'Vw), per year."""
        return float(np.sqrt(max(self.variance(weights), 0.0)))

    def beta(self, benchmark: npt.ArrayLike) -> FloatArray:
        """Return each asset's predicted beta to a benchmark portfolio: V b / b'Vb, shape (N,).

        Raises
        ------
        DataError
            If the benchmark has another shape, an entry is not finite, or it holds nothing.
        """
        b = check_array("benchmark", benchmark, (len(self.assets),))
        if not b.any():
            raise DataError("`benchmark` must hold at least one asset; all its weights are 0, so it has no beta.")
        return self.covariance_times(b) / self.variance(b)
