"""How long it takes to sell a portfolio at a share of what trades, and what that costs.

A position of value |w| NAV, sold at the share p of its dollar volume V a day, is gone after |w| NAV / (p V) days. Where
the volume is not known, or is 0, no number of days is: such positions are reported by name, count as not sold after any
number of days, and stay in every share's denominator.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from risk.checks import DataError, FloatArray, check_array, check_labels, freeze

__all__ = ["Liquidity", "liquidity", "trailing_dollar_volume"]


@dataclass(frozen=True, eq=False)
class Liquidity:
    """Days to sell a portfolio, each position at its own pace and all at once.

    Attributes
    ----------
    assets : tuple of str, length N
    participation : float
        Share of a day's dollar volume that is sold.
    days : ndarray of shape (N,)
        Trading days to sell each position; 0 without one, NaN where the volume is not known or 0.
    quantiles : tuple of float, length q
    quantile_days : ndarray of shape (q,)
        Days within which positions of that share of gross are sold entirely; infinite where those without a volume are
        needed to reach it.
    horizons : tuple of float, length h
        Trading days.
    liquidated, liquidated_long, liquidated_short : ndarray of shape (h,)
        Share of gross, of the longs and of the shorts sold by then, positions in part included; NaN of a side that is
        empty.
    unknown : tuple of str
        Positions whose volume is not known or 0.
    unknown_gross : float
        Their share of gross.
    cost : ndarray of shape (N,) or None
        Of selling each position at that pace, a fraction of net asset value >= 0; NaN for `unknown` ones. None where no
        cost was asked for.
    """

    assets: tuple[str, ...]
    participation: float
    days: FloatArray
    quantiles: tuple[float, ...]
    quantile_days: FloatArray
    horizons: tuple[float, ...]
    liquidated: FloatArray
    liquidated_long: FloatArray
    liquidated_short: FloatArray
    unknown: tuple[str, ...]
    unknown_gross: float
    cost: FloatArray | None = None

    @property
    def total_cost(self) -> float:
        """Cost of selling all that is not `unknown`, a fraction of net asset value; NaN where no cost was asked for."""
        return float("nan") if self.cost is None else float(np.nansum(self.cost))

    def table(self) -> pd.DataFrame:
        """Return one row per horizon: days and the shares of gross, of longs and of shorts sold by then."""
        data = {"liquidated": self.liquidated, "long": self.liquidated_long, "short": self.liquidated_short}
        return pd.DataFrame(data, index=pd.Index(self.horizons, name="days"))


def trailing_dollar_volume(dollar_volume: npt.ArrayLike, *, days: int = 21) -> FloatArray:
    """Return each asset's median value traded over the last rows, shape (N,); NaN where known on fewer than half of them.

    Parameters
    ----------
    dollar_volume : array_like of shape (T, N)
        Value traded each day up to the day of the report; NaN where not known. A day without trade is 0, not NaN.
    days : int
        Trading days; with fewer rows, all of them.

    Raises
    ------
    DataError
        If a value is negative, the table has no row, or `days` is below 1.

    Examples
    --------
    >>> trailing_dollar_volume([[1.0, float("nan")], [3.0, float("nan")], [5.0, 7.0]], days=3).tolist()
    [3.0, nan]
    """
    values = np.asarray(dollar_volume, dtype=np.float64)
    if values.ndim != 2 or not len(values):
        raise DataError(f"`dollar_volume` must have shape (T, N) with a row at least; got {values.shape}.")
    if days < 1:
        raise DataError(f"`days` must be at least 1; got {days}.")
    rows = values[-days:]
    if (rows < 0).any():
        raise DataError(f"`dollar_volume` must be >= 0; got {np.nanmin(rows):.4g}.")
    enough = 2 * np.isfinite(rows).sum(axis=0) >= len(rows)
    result = np.full(values.shape[1], np.nan)
    result[enough] = np.nanmedian(rows[:, enough], axis=0)
    return freeze(result)


def _check_positive(name: str, value: float) -> float:
    if not (np.isfinite(value) and value > 0):
        raise DataError(f"`{name}` must be a positive number; got {value}.")
    return float(value)


def _costs(
    size: FloatArray,
    rate: FloatArray,
    half_spread: npt.ArrayLike,
    daily_volatility: npt.ArrayLike | None,
    impact: float,
) -> FloatArray:
    """Return |w| (half-spread + Y sigma_day sqrt(share of volume)): the square-root law of trades of a day each."""
    n = size.shape
    spread = check_array("half_spread", np.broadcast_to(np.asarray(half_spread, dtype=np.float64), n), n)
    if daily_volatility is None:
        raise DataError("`daily_volatility` must be given with `half_spread`: impact is measured in it.")
    volatility = check_array("daily_volatility", daily_volatility, n)
    for name, array in (("half_spread", spread), ("daily_volatility", volatility), ("impact", np.array([impact]))):
        if not (array >= 0).all():
            raise DataError(f"`{name}` must be >= 0; got {array.min():.4g}.")
    # 0 x NaN: an asset that is not held costs nothing, whatever its volume.
    return np.where(size > 0, size * (spread + impact * volatility * np.sqrt(rate)), 0.0)


def liquidity(
    assets: Sequence[str],
    weights: npt.ArrayLike,
    dollar_volume: npt.ArrayLike,
    nav: float,
    *,
    participation: float = 0.1,
    horizons: Sequence[float] = (1, 5, 10, 20),
    quantiles: Sequence[float] = (0.25, 0.5, 0.75, 0.9, 0.95, 1.0),
    half_spread: npt.ArrayLike | None = None,
    daily_volatility: npt.ArrayLike | None = None,
    impact: float = 1.0,
) -> Liquidity:
    """Return how fast a portfolio can be sold at a share of the trailing dollar volume, and at what cost.

    Parameters
    ----------
    assets : sequence of str, length N
    weights : array_like of shape (N,)
        Fractions of net asset value.
    dollar_volume : array_like of shape (N,)
        Trailing value traded a day, in the currency of `nav`; NaN where not known.
    nav : float
        Net asset value.
    participation : float
        Share of a day's dollar volume that is sold, over 0 and at most 1.
    horizons : sequence of float
        Trading days.
    quantiles : sequence of float
        Of gross, over 0 and at most 1.
    half_spread : array_like of shape (N,) or float, optional
        Fraction of the value traded. None: no cost.
    daily_volatility : array_like of shape (N,), optional
        Of returns, per day; wanted with `half_spread`.
    impact : float
        Y of the square-root law.

    Returns
    -------
    Liquidity

    Raises
    ------
    DataError
        If shapes disagree, a weight is not finite, a volume is negative or infinite, or a setting is out of its range.

    Notes
    -----
    Cost of a position: |w| (half-spread + Y sigma_day sqrt(min(p, |w| NAV / V))), the square-root law for a trade of the
    share p of volume on each day.

    References
    ----------
    Toth et al. (2011), Anomalous Price Impact and the Critical Nature of Liquidity in Financial Markets, Physical Review X 1.

    Examples
    --------
    >>> result = liquidity(["A", "B"], [0.02, -0.02], [2e6, 1e5], 1e7, participation=0.1)
    >>> result.days.tolist(), result.liquidated.round(3).tolist()
    ([1.0, 20.0], [0.525, 0.625, 0.75, 1.0])
    """
    names = check_labels("assets", assets)
    w = check_array("weights", weights, (len(names),))
    volume = np.array(dollar_volume, dtype=np.float64)
    if volume.shape != w.shape:
        raise DataError(f"`dollar_volume` must have shape {w.shape}; got {volume.shape}.")
    if (volume < 0).any() or np.isinf(volume).any():
        worst = int(np.argmax((volume < 0) | np.isinf(volume)))
        raise DataError(f"`dollar_volume` must be >= 0 and finite, or NaN; {names[worst]!r} has {volume[worst]:.4g}.")
    for name, values in (("participation", (participation,)), ("quantiles", quantiles)):
        if not all(0 < value <= 1 for value in values):
            raise DataError(f"`{name}` must lie over 0 and at most 1; got {values}.")
    for horizon in horizons:
        _check_positive("horizons", horizon)
    size = np.abs(w)
    known = volume > 0
    unknown = (size > 0) & ~known
    ratio = np.full(len(w), np.nan)  # days of all trading that the position is worth
    np.divide(size * _check_positive("nav", nav), volume, out=ratio, where=known)
    ratio[size == 0] = 0.0
    days, gross = ratio / participation, float(size.sum())
    cost = (
        None
        if half_spread is None
        else _costs(size, np.minimum(ratio, participation), half_spread, daily_volatility, impact)
    )
    return Liquidity(
        assets=names,
        participation=float(participation),
        days=freeze(days),
        quantiles=tuple(float(q) for q in quantiles),
        quantile_days=freeze(_quantile_days(size, days, quantiles)),
        horizons=tuple(float(h) for h in horizons),
        liquidated=freeze(_liquidated(size, days, horizons)),
        liquidated_long=freeze(_liquidated(np.maximum(w, 0.0), days, horizons)),
        liquidated_short=freeze(_liquidated(np.maximum(-w, 0.0), days, horizons)),
        unknown=tuple(names[i] for i in np.flatnonzero(unknown)),
        unknown_gross=float(size[unknown].sum()) / gross if gross > 0 else 0.0,
        cost=None if cost is None else freeze(cost),
    )


def _quantile_days(size: FloatArray, days: FloatArray, quantiles: Sequence[float]) -> FloatArray:
    """Return the smallest number of days within which positions of each share of gross are sold entirely."""
    held = size > 0
    if not held.any():
        return np.zeros(len(quantiles))
    longest = np.where(np.isnan(days[held]), np.inf, days[held])
    order = np.argsort(longest, kind="stable")
    share = np.cumsum(size[held][order])
    # A share that misses its quantile by rounding alone meets it.
    first = np.searchsorted(share, np.asarray(quantiles) * share[-1] * (1 - 1e-12))
    return np.asarray(longest[order][first])


def _liquidated(size: FloatArray, days: FloatArray, horizons: Sequence[float]) -> FloatArray:
    """Return the share sold after each horizon; a position without a known pace is not sold at all."""
    held, total = size > 0, float(size.sum())
    if total == 0:
        return np.full(len(horizons), np.nan)
    pace = np.where(np.isnan(days[held]), np.inf, days[held])
    return np.array([size[held] @ np.minimum(horizon / pace, 1.0) for horizon in horizons]) / total
