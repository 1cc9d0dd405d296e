"""What a trade and a short position cost: one object that the optimizer prices and the ledger charges."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from risk.checks import DataError, FloatArray, check_array

__all__ = ["TradeCosts"]


@dataclass(frozen=True, eq=False, init=False)
class TradeCosts:
    """Costs of N assets, as fractions of net asset value.

    Trading u (a fraction of net asset value) costs ``linear |u| + impact |u|^(3/2)``, paid once. Being short costs
    ``borrow`` per year of its size.

    Parameters
    ----------
    linear : array_like of shape (N,)
        Half-spread and commission, as a fraction of the value traded; >= 0.
    impact : array_like of shape (N,)
        Coefficient of |u|^(3/2); >= 0. By the square-root law it is Y sigma_day sqrt(nav / dollar_volume), with sigma_day
        the daily volatility and Y about 1 (Toth et al. 2011).
    borrow : array_like of shape (N,), optional
        Fee on short positions, per year; >= 0. Default 0.
    annualisation : float
        A = 252 / expected holding days: how many times a year the optimizer expects to pay for a trade.

    Raises
    ------
    DataError
        If a coefficient is negative, not finite, or of another shape.

    Examples
    --------
    >>> costs = TradeCosts(linear=[0.001], impact=[0.1], annualisation=12.6)
    >>> costs.charge([0.04]).round(6).tolist()
    [0.00084]
    """

    linear: FloatArray
    impact: FloatArray
    borrow: FloatArray
    annualisation: float

    def __init__(
        self,
        linear: npt.ArrayLike,
        impact: npt.ArrayLike,
        borrow: npt.ArrayLike | None = None,
        *,
        annualisation: float,
    ) -> None:
        shape = np.shape(linear)
        if len(shape) != 1:
            raise DataError(f"`linear` must have shape (N,); got {shape}.")
        for name, value in (("linear", linear), ("impact", impact), ("borrow", borrow)):
            array = check_array(name, np.zeros(shape) if value is None else value, shape)
            if (array < 0).any():
                worst = int(np.argmin(array))
                raise DataError(f"`{name}` must be >= 0; got {array[worst]:.4g} at position {worst}.")
            object.__setattr__(self, name, array)
        if not (np.isfinite(annualisation) and annualisation > 0):
            raise DataError(f"`annualisation` must be a positive number of times a year; got {annualisation}.")
        object.__setattr__(self, "annualisation", float(annualisation))

    def charge(self, trades: npt.ArrayLike) -> FloatArray:
        """Return what each trade costs, shape (N,): linear |u| + impact |u|^(3/2), a fraction of net asset value."""
        u = np.abs(np.asarray(trades, dtype=np.float64))
        return self.linear * u + self.impact * u * np.sqrt(u)
