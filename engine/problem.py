r"""The portfolio problem of one date.

.. math::

    \max_w \; \alpha'w - \tfrac{g_0}{2} w'Vw - A\,\mathrm{cost}(w - h) - \mathrm{borrow}(w)

subject to lo <= L'w <= up, lower <= w <= upper, ||w||_1 <= G, w'Vw <= v^2 and (1/2)||w - h||_1 <= T, with V = X F X' + diag(d).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from engine.costs import TradeCosts
from risk import DataError, FactorModel
from risk.checks import FloatArray, check_array, check_labels, freeze

__all__ = ["Limits", "Problem"]

RESERVED = ("position", "gross", "volatility", "turnover")
"""Limits that are no rows of L: a solution reports its duals and binding limits under these names as well."""

PositionLimit = float | npt.ArrayLike | tuple[npt.ArrayLike, npt.ArrayLike]


@dataclass(frozen=True, eq=False, init=False)
class Limits:
    """Named linear limits lower <= L'w <= upper.

    Parameters
    ----------
    names : sequence of str, length q
        Not ``position``, ``gross``, ``volatility`` or ``turnover``: those limits are no rows of L.
    exposures : array_like of shape (N, q)
    lower, upper : array_like of shape (q,)
        May be -inf or inf for a one-sided limit; equal for an equality.
    tier : array_like of int, shape (q,), optional
        0 is never relaxed. Default 0.

    Raises
    ------
    DataError
        If shapes disagree, a name repeats or is reserved, a bound is NaN or an infinity that nothing can meet, or a lower
        bound exceeds its upper bound.
    """

    names: tuple[str, ...]
    exposures: FloatArray
    lower: FloatArray
    upper: FloatArray
    tier: npt.NDArray[np.int64]

    def __init__(
        self,
        names: Sequence[str],
        exposures: npt.ArrayLike,
        lower: npt.ArrayLike,
        upper: npt.ArrayLike,
        tier: npt.ArrayLike | None = None,
    ) -> None:
        labels = check_labels("names", names)
        q = len(labels)
        for label in labels:
            if label in RESERVED or label.startswith("position:"):
                raise DataError(
                    f"limit {label!r} must have another name: {', '.join(RESERVED)} are limits of the problem itself, and a "
                    "solution could not tell the two apart."
                )
        L = np.asarray(exposures, dtype=np.float64)
        if L.ndim != 2 or L.shape[1] != q:
            raise DataError(f"`exposures` must have shape (N, {q}), a column for each name; got {L.shape}.")
        L = check_array("exposures", L, (L.shape[0], q))
        bounds = []
        for name, value in (("lower", lower), ("upper", upper)):
            bound = np.array(value, dtype=np.float64)
            if bound.shape != (q,):
                raise DataError(f"`{name}` must have shape ({q},); got {bound.shape}.")
            if np.isnan(bound).any():
                raise DataError(
                    f"`{name}` of limit {labels[int(np.argmax(np.isnan(bound)))]!r} is NaN; use inf for no limit."
                )
            never = np.isposinf(bound) if name == "lower" else np.isneginf(bound)
            if never.any():
                j = int(np.argmax(never))
                raise DataError(
                    f"`{name}` of limit {labels[j]!r} is {bound[j]}, which no portfolio meets; no limit is lower -inf, upper inf."
                )
            bounds.append(freeze(bound))
        crossed = bounds[0] > bounds[1]
        if crossed.any():
            j = int(np.argmax(crossed))
            raise DataError(f"limit {labels[j]!r} has lower {bounds[0][j]:.6g} above upper {bounds[1][j]:.6g}.")
        given = check_array("tier", np.zeros(q) if tier is None else tier, (q,))
        wrong = (given < 0) | (given != np.floor(given))
        if wrong.any():
            j = int(np.argmax(wrong))
            raise DataError(
                f"`tier` of limit {labels[j]!r} is {given[j]:g}; it must be a whole number: 0 is never relaxed, higher ones sooner."
            )
        tiers = given.astype(np.int64)
        for name, item in (
            ("names", labels),
            ("exposures", L),
            ("lower", bounds[0]),
            ("upper", bounds[1]),
            ("tier", freeze(tiers)),
        ):
            object.__setattr__(self, name, item)


def aligned(name: str, value: Any, assets: tuple[str, ...]) -> FloatArray:
    """Return `value` (scalar, array or Series over `assets`) as a finite array of shape (N,).

    Raises
    ------
    DataError
        If a Series has another index than the model's assets: nothing is reordered or intersected.
    """
    if isinstance(value, pd.Series):
        if tuple(str(a) for a in value.index) != assets:
            raise DataError(
                f"`{name}` must have the model's assets as its index, in their order; reindex it at the edge."
            )
        value = value.to_numpy()
    elif np.ndim(value) == 0:
        value = np.full(len(assets), value)
    return check_array(name, value, (len(assets),))


@dataclass(frozen=True, eq=False, init=False)
class Problem:
    """One date's portfolio problem; arrays follow `model.assets`.

    Parameters
    ----------
    alpha : array_like or Series of shape (N,)
        Expected residual return, per year.
    model : FactorModel
    limits : Limits
    position_limit : float, array_like of shape (N,), or pair (lower, upper)
        Scalar or array c: -c <= w <= c, c > 0. A pair sets the two sides by themselves; lower = upper freezes a name.
    gross_limit : float
        Sum of abs(w), > 0.
    volatility_limit : float or None
        Forecast volatility, per year.
    risk_aversion : float
        g0 > 0. With g0 = 0 and slack volatility the optimum is a vertex of a linear program: concentrated, unstable, and
        every model's true contribution is 0. A sound value is expected Sharpe ratio / volatility limit.
    holdings : array_like or Series of shape (N,), optional
        Weights before trading. Default: an empty book.
    costs : TradeCosts, optional
    turnover_limit : float, optional
        Half of sum abs(w - h).

    Raises
    ------
    DataError
        If an argument has another shape or index, is not finite, or is out of its range.
    """

    alpha: FloatArray
    model: FactorModel
    limits: Limits
    lower: FloatArray
    upper: FloatArray
    gross_limit: float
    volatility_limit: float | None
    risk_aversion: float
    holdings: FloatArray
    costs: TradeCosts | None
    turnover_limit: float | None

    def __init__(
        self,
        alpha: Any,
        model: FactorModel,
        limits: Limits,
        position_limit: PositionLimit,
        gross_limit: float,
        volatility_limit: float | None,
        risk_aversion: float,
        holdings: Any = None,
        costs: TradeCosts | None = None,
        turnover_limit: float | None = None,
    ) -> None:
        assets = model.assets
        n = len(assets)
        if limits.exposures.shape[0] != n:
            raise DataError(
                f"`limits.exposures` must have {n} rows, one for each asset; got {limits.exposures.shape[0]}."
            )
        if costs is not None and costs.linear.shape != (n,):
            raise DataError(f"`costs` must hold {n} assets; got {costs.linear.shape[0]}.")
        if isinstance(position_limit, tuple):
            if len(position_limit) != 2:
                raise DataError(
                    f"`position_limit` is a tuple of {len(position_limit)}; a tuple is the pair (lower, upper). Give caps by name as a "
                    "list or an array."
                )
            lower, upper = (aligned(f"position_limit[{i}]", side, assets) for i, side in enumerate(position_limit))
        else:
            upper = aligned("position_limit", position_limit, assets)
            if (upper <= 0).any():
                i = int(np.argmin(upper))
                raise DataError(
                    f"`position_limit` must be positive; got {upper[i]:.4g} for {assets[i]!r}. "
                    "To forbid a name give the pair (lower, upper) with both 0."
                )
            lower = freeze(-upper)
        if (lower > upper).any():
            i = int(np.argmax(lower > upper))
            raise DataError(f"`position_limit` of {assets[i]!r} has lower {lower[i]:.6g} above upper {upper[i]:.6g}.")
        for name, value in (
            ("risk_aversion", risk_aversion),
            ("gross_limit", gross_limit),
            ("volatility_limit", volatility_limit),
            ("turnover_limit", turnover_limit),
        ):
            if not isinstance(value, Real | None) or isinstance(value, bool):
                raise DataError(f"`{name}` must be a number; got {value!r}.")
        if risk_aversion is None or not (np.isfinite(risk_aversion) and risk_aversion > 0):
            raise DataError(
                f"`risk_aversion` must be > 0; got {risk_aversion}. At 0 the optimum is a vertex: concentrated, unstable and with "
                "zero derivative. A sound value is expected Sharpe ratio / volatility limit (1.5 / 0.10 = 15)."
            )
        for name, value in (
            ("gross_limit", gross_limit),
            ("volatility_limit", volatility_limit),
            ("turnover_limit", turnover_limit),
        ):
            if value is None and name != "gross_limit":
                continue
            if value is None or not np.isfinite(value) or value < 0 or (value == 0 and name != "turnover_limit"):
                allowed = "finite and >= 0" if name == "turnover_limit" else "a positive finite number"
                raise DataError(f"`{name}` must be {allowed}; got {value}.")
        for name, item in (
            ("alpha", aligned("alpha", alpha, assets)),
            ("model", model),
            ("limits", limits),
            ("lower", lower),
            ("upper", upper),
            ("gross_limit", float(gross_limit)),
            ("volatility_limit", None if volatility_limit is None else float(volatility_limit)),
            ("risk_aversion", float(risk_aversion)),
            ("holdings", aligned("holdings", 0.0 if holdings is None else holdings, assets)),
            ("costs", costs),
            ("turnover_limit", None if turnover_limit is None else float(turnover_limit)),
        ):
            object.__setattr__(self, name, item)

    def replace(self, **changes: Any) -> Problem:
        """Return the same problem with some of its arguments replaced, checked like any other."""
        arguments: dict[str, Any] = {
            "alpha": self.alpha,
            "model": self.model,
            "limits": self.limits,
            "position_limit": (self.lower, self.upper),
            "gross_limit": self.gross_limit,
            "volatility_limit": self.volatility_limit,
            "risk_aversion": self.risk_aversion,
            "holdings": self.holdings,
            "costs": self.costs,
            "turnover_limit": self.turnover_limit,
        }
        return Problem(**(arguments | changes))

    def objective(self, weights: npt.ArrayLike) -> float:
        """Return alpha'w - (g0/2) w'Vw - A cost(w - h) - borrow(w), per year."""
        w = np.asarray(weights, dtype=np.float64)
        value = float(self.alpha @ w) - self.risk_aversion / 2 * self.model.variance(w)
        if self.costs is not None:
            value -= self.costs.annualisation * float(self.costs.charge(w - self.holdings).sum())
            value -= float(self.costs.borrow @ np.maximum(-w, 0.0))
        return value
