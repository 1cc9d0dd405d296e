"""How much money a product can carry: what it earns at every size, and the size at which it earns most money.

The product is simulated anew at each size, so that the optimizer knows what a trade of that size costs and trades less as the fund grows.
All sizes live through the same market, and are resampled by the same days: the luck of those days is in every point of the
curve, and what size costs is known far better than what the fund earns.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
from scipy.interpolate import CubicSpline

from backtest.bootstrap import LEAST, stationary_block_length, stationary_indices
from backtest.products import Product
from backtest.statistics import trading_year
from backtest.store import Run
from backtest.variants import Variant
from risk import DataError
from risk.checks import FloatArray

__all__ = ["PARTICIPATION", "CapacityCurve", "SizeEstimate", "capacity_curve", "capacity_sizes", "capacity_variants"]

PARTICIPATION = 0.10
"""Share of a day's dollar volume that is traded at most where the product sets no limit: assumed."""
BELOW, BEYOND = 3, 1
"""Doublings below the product's size, and beyond its capacity, that are studied."""
FINE = 64
"""Points between two sizes at which the curve is read."""


def capacity_sizes(product: Product) -> tuple[float, ...]:
    """Return the sizes at which a product is studied, in money: doublings of its own.

    From an eighth of its size to the first one that is at least twice its capacity, or eight times its size where it has none.

    Examples
    --------
    >>> from backtest.products import load_product
    >>> one, _ = load_product("one")
    >>> [size / 1e6 for size in capacity_sizes(one)]
    [8.75, 17.5, 35.0, 70.0, 140.0, 280.0, 560.0, 1120.0]
    """
    most = product.aum * 4 if product.capacity is None else product.capacity
    above = max(0, math.ceil(math.log2(most / product.aum) - 1e-9)) + BEYOND
    return tuple(product.aum * 2.0**k for k in range(-BELOW, above + 1))


def capacity_variants(product: Product, sizes: Sequence[float] | None = None) -> list[Variant]:
    """Return a variant for each size; the first is the one nearest to the product's own, which the others are compared with.

    Parameters
    ----------
    product : Product
    sizes : sequence of float, optional
        In money. Default: `capacity_sizes`.

    Raises
    ------
    DataError
        If a size is no positive amount, one appears twice, or there are fewer than three.
    """
    sizes = capacity_sizes(product) if sizes is None else tuple(sizes)
    for size in sizes:
        if not (np.isfinite(size) and size > 0):
            raise DataError(f"a size must be a positive amount of money; got {size}.")
    if len(sizes) < 3 or len(set(sizes)) < len(sizes):
        raise DataError(
            f"a curve takes at least three sizes, each once; got {', '.join(f'{size:,.0f}' for size in sizes)}."
        )
    base = min(sizes, key=lambda size: abs(math.log(size / product.aum)))
    return [_at_size(product, size) for size in sorted(sizes, key=lambda size: (size != base, size))]


def _at_size(product: Product, size: float) -> Variant:
    changes: dict[str, Any] = {"product.aum": size}
    notes = []
    if product.capacity is not None and size > product.capacity:
        changes["product.capacity"] = size
        notes.append("above the capacity")
    if product.participation_limit is None:
        changes["product.participation_limit"] = PARTICIPATION
        notes.append(f"participation {PARTICIPATION:.0%} assumed")
    return Variant(f"aum_{size / 1e6:.6g}m", changes, ", ".join(notes))


@dataclass(frozen=True)
class SizeEstimate:
    """A size of the fund with its bootstrap interval, in money; 0: below the smallest that was run, inf: above the largest.

    Attributes
    ----------
    estimate, lower, upper : float
    """

    estimate: float
    lower: float
    upper: float


@dataclass(frozen=True, eq=False)
class CapacityCurve:
    """What a product earns at every size.

    Attributes
    ----------
    table : DataFrame by size in money, ascending
        ``variant``; ``sharpe_before_fees``, ``sharpe_net``, ``alpha_net`` (mean net return a year, risk-free rate 0), ``alpha_net_difference`` (to
        the size of the first run) and ``profit`` (size times ``alpha_net``, money a year), each with ``..._lower`` and ``..._upper``; ``cost``,
        ``turnover`` (a year), ``gross`` and ``volatility`` as in `compare_runs`; ``partial_fills``, notices of orders that had to wait for volume.
    peak : SizeEstimate
        Size with the highest net profit.
    zero : SizeEstimate
        Size beyond which net alpha is negative.
    left_out : tuple of str
        Runs that ended early, with why.
    sessions : int
    level : float
        Of the intervals.
    block_length : float
        Mean length of a block, in sessions.
    """

    table: pd.DataFrame
    peak: SizeEstimate
    zero: SizeEstimate
    left_out: tuple[str, ...]
    sessions: int
    level: float
    block_length: float

    def to_dict(self) -> dict[str, Any]:
        """Return the curve for JSON; a size that was not reached is None, and NaN is None."""
        rows = self.table.reset_index().astype(object)
        sizes = {
            name: {part: _or_none(getattr(size, part)) for part in ("estimate", "lower", "upper")}
            for name, size in (("peak", self.peak), ("zero", self.zero))
        }
        return {
            "sizes": rows.where(rows.notna(), None).to_dict(orient="records"),
            **sizes,
            "left_out": list(self.left_out),
            "sessions": self.sessions,
            "level": self.level,
            "block_length": self.block_length,
        }


def _or_none(size: float) -> float | None:
    return size if 0 < size < math.inf else None


def capacity_curve(
    runs: Mapping[str, Run], *, level: float = 0.95, resamples: int = 2000, seed: int = 0
) -> CapacityCurve:
    """Return the curve of net Sharpe ratio, net alpha and net profit against size.

    Parameters
    ----------
    runs : mapping of str to Run
        Of one product at different sizes; the first is what the others are compared with. Runs that ended early are left out.
    level, resamples, seed
        Of the intervals: the stationary bootstrap, all runs by the same days.

    Raises
    ------
    DataError
        If fewer than three runs are complete, two have the same size, or they have fewer than 20 sessions in common.

    Notes
    -----
    Between two sizes net alpha is a cubic spline in log size. The peak is where size times net alpha is highest, 0 where the fund
    loses at every size; net alpha's zero is the first size at which it stops being positive. Both are found anew in every
    resample; percentile intervals.
    """
    complete = {name: run for name, run in runs.items() if run.record["status"] == "complete"}
    left_out = tuple(
        f"{name}: {run.record['status']}, {run.record['reason']}" for name, run in runs.items() if name not in complete
    )
    if len(complete) < 3:
        raise DataError(f"a curve takes at least three complete runs; got {len(complete)}. {'; '.join(left_out)}")
    first = next(iter(complete))
    names = sorted(complete, key=lambda name: float(complete[name].record["nav0"]))
    size = np.array([complete[name].record["nav0"] for name in names])
    if (np.diff(size) <= 0).any():
        raise DataError(f"two runs have the same size; sizes are {', '.join(f'{s:,.0f}' for s in size)}.")
    year = trading_year(complete[first])
    net, before = (
        _returns([complete[name] for name in names], column) for column in ("net_return", "return_before_fees")
    )
    days, block = _days(net, resamples, seed)
    mean, sharpe, sharpe_before = _moments(net, days, year), _ratios(net, days, year), _ratios(before, days, year)
    columns = {
        "sharpe_before_fees": sharpe_before,
        "sharpe_net": sharpe,
        "alpha_net": mean,
        "alpha_net_difference": mean - mean[:, [names.index(first)]],
        "profit": mean * size,
    }
    tails = [(1 - level) / 2, (1 + level) / 2]
    table = pd.DataFrame({"variant": names}, index=pd.Index(size, name="aum"))
    for name, values in columns.items():
        table[name] = values[0]
        table[f"{name}_lower"], table[f"{name}_upper"] = np.quantile(values[1:], tails, axis=0)
    beside = [_beside(complete[name], year) for name in names]
    table = pd.concat([table, pd.DataFrame(beside, index=table.index)], axis=1)
    peak, zero = (_estimate(values, tails) for values in _sizes(size, mean))
    return CapacityCurve(table, peak, zero, left_out, len(net), level, block)


def _returns(runs: Sequence[Run], column: str) -> FloatArray:
    """Return a column of the accounts on the sessions that all have, shape (T, K)."""
    table = pd.concat([run.nav[column] for run in runs], axis=1, join="inner")
    if len(table) < LEAST:
        raise DataError(f"the runs have {len(table)} sessions in common, and a curve takes at least {LEAST}.")
    return table.to_numpy(dtype=np.float64)


def _days(net: FloatArray, resamples: int, seed: int) -> tuple[FloatArray, float]:
    """Return how often each day is in the sample itself (row 0) and in each resample, shape (1 + B, T), and the block length."""
    block = max(stationary_block_length(column) for column in net.T)
    drawn = stationary_indices(len(net), block, resamples, np.random.default_rng(seed))
    counts = np.stack([np.bincount(days, minlength=len(net)) for days in drawn])
    return np.vstack([np.ones(len(net)), counts]), block


def _moments(returns: FloatArray, days: FloatArray, year: int) -> FloatArray:
    """Return mean returns a year in each sample, shape (1 + B, K)."""
    return np.asarray(days @ returns / len(returns) * year)


def _ratios(returns: FloatArray, days: FloatArray, year: int) -> FloatArray:
    """Return Sharpe ratios a year in each sample, shape (1 + B, K)."""
    T = len(returns)
    centred = returns - returns.mean(axis=0)  # sums of squares of what is centred keep their digits
    mean = days @ centred / T
    variance = (days @ centred**2 / T - mean**2) * T / (T - 1)
    return np.asarray((mean + returns.mean(axis=0)) / np.sqrt(variance) * np.sqrt(year))


def _sizes(size: FloatArray, alpha: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return the size of highest profit and the size at which alpha ends, in each sample, shape (1 + B,).

    Parameters
    ----------
    size : ndarray of shape (K,)
        Ascending.
    alpha : ndarray of shape (1 + B, K)
        Per year.
    """
    place = np.log(size)
    fine = np.unique(np.concatenate([np.linspace(a, b, FINE + 1) for a, b in pairwise(place)]))
    between = CubicSpline(place, np.eye(len(size)), bc_type="natural")(
        fine
    )  # the spline is linear in what it goes through
    curve = alpha @ between.T
    money = np.exp(fine)
    best = np.argmax(curve * money, axis=1)
    peak = np.where(best == len(fine) - 1, np.inf, money[best])
    peak = np.where((best == 0) | (curve.max(axis=1) <= 0), 0.0, peak)
    lost = curve <= 0
    zero = np.where(lost.any(axis=1), money[np.argmax(lost, axis=1)], np.inf)
    return peak, np.where(lost[:, 0], 0.0, zero)


def _estimate(values: FloatArray, tails: Sequence[float]) -> SizeEstimate:
    # Quantiles are values that came out: between a size and "above the largest" there is nothing.
    lower, upper = np.quantile(values[1:], tails, method="closest_observation")
    return SizeEstimate(float(values[0]), float(lower), float(upper))


def _beside(run: Run, year: int) -> dict[str, float]:
    nav, notices = run.nav, run.table("notices")
    return {
        "cost": float(nav["cost"].mean() * year),
        "turnover": float(nav["turnover"].mean() * year),
        "gross": float(nav["gross"].mean()),
        "volatility": float(nav["return_before_fees"].std(ddof=1) * np.sqrt(year)),
        "partial_fills": int((notices["kind"] == "partial fill").sum()),
    }
