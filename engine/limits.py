"""From a mandate's words to the named rows of L: net, beta, every country, sector and style."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import sparse

from engine.linear_program import least
from engine.mandate import Mandate
from engine.problem import Limits
from risk import DataError, FactorModel
from risk.checks import FloatArray

__all__ = ["mandate_limits", "widen_to_reach"]

NEGLIGIBLE = 1e-8
"""A miss below the solver's tolerance."""


def mandate_limits(
    mandate: Mandate, model: FactorModel, *, country: Sequence[str], sector: Sequence[str], benchmark: FloatArray
) -> Limits:
    """Return the linear limits of a mandate for one date, each with the tier that the mandate gives its kind.

    Parameters
    ----------
    mandate : Mandate
    model : FactorModel
        Beta is the model's predicted beta to `benchmark`; each ``style:`` factor is a style row.
    country, sector : sequence of str, length N
        Labels in force. A family with one category is net by another name and is left out.
    benchmark : ndarray of shape (N,)
        Cap weights of the universe.

    Raises
    ------
    DataError
        If labels have another length than the model's assets, or the mandate has no linear limit at all.
    """
    n = len(model.assets)
    if len(country) != n or len(sector) != n:
        raise DataError(f"`country` and `sector` must name {n} assets; got {len(country)} and {len(sector)}.")
    names: list[str] = []
    columns: list[FloatArray] = []
    bounds: list[float] = []
    tiers: list[int] = []

    def add(name: str, column: FloatArray, bound: float, tier: int) -> None:
        names.append(name)
        columns.append(column)
        bounds.append(bound)
        tiers.append(tier)

    if mandate.net_limit is not None:
        add("net", np.ones(n), mandate.net_limit, mandate.tiers.net)
    if mandate.beta_limit is not None:
        add("beta", model.beta(benchmark), mandate.beta_limit, mandate.tiers.beta)
    for family, labels, bound, tier in (
        ("country", country, mandate.country_limit, mandate.tiers.country),
        ("sector", sector, mandate.sector_limit, mandate.tiers.sector),
    ):
        categories = sorted(set(labels))
        if bound is not None and len(categories) > 1:
            members = np.asarray(labels)
            for category in categories:
                add(f"{family}:{category}", (members == category).astype(np.float64), bound, tier)
    if mandate.style_limit is not None:
        for j, factor in enumerate(model.factors):
            if factor.startswith("style:"):
                add(factor, model.exposures[:, j], mandate.style_limit, mandate.tiers.style)
    if not names:
        raise DataError(
            f"mandate {mandate.name!r} has no net, beta, country, sector or style limit; set net_limit = 0."
        )
    upper = np.array(bounds)
    return Limits(names, np.column_stack(columns), -upper, upper, tiers)


def widen_to_reach(limits: Limits, lower: FloatArray, upper: FloatArray) -> tuple[Limits, dict[str, float]]:
    """Return limits that names which cannot be traded leave within reach, and by how much each was widened.

    A frozen name that is alone in its country, or whose peers' caps cannot offset it, leaves a row that no trade meets, and
    with it the net of all rows. Such rows are held at the level nearest to their limit: the least total widening, net last
    of all, and among equals the category with the most tradable names. Everything else stays as it is; without a name
    whose bounds exclude 0 nothing is widened.

    Parameters
    ----------
    limits : Limits
        Bands around 0, so that w = 0 meets them.
    lower, upper : ndarray of shape (N,)
        Position bounds; equal for a name that cannot move.

    Notes
    -----
    A linear program: minimise c's over lower <= w <= upper, s >= 0, lo - s <= L'w <= up + s.
    """
    if not ((lower > 0) | (upper < 0)).any():
        return limits, {}
    if _meets(limits, lower, upper):
        return limits, {}
    n, q = limits.exposures.shape
    tradable = (limits.exposures[lower < upper] != 0).sum(axis=0)
    price = np.where(np.array(limits.names) == "net", 100.0, 1.0 + 1.0 / (1.0 + tradable))
    unit = float(np.abs(np.concatenate([lower, upper])).max())  # weights of order 1, as the solver's tolerances expect
    L, slack = sparse.csr_array(limits.exposures.T), sparse.eye_array(q)
    found = least(
        np.concatenate([np.zeros(n), price]),
        sparse.vstack([sparse.hstack([L, -slack]), sparse.hstack([-L, -slack])]),
        np.concatenate([limits.upper, -limits.lower]) / unit,
        np.concatenate([lower / unit, np.zeros(q)]),
        np.concatenate([upper / unit, np.full(q, np.inf)]),
    )
    assert found is not None, "any book within its bounds is feasible with enough slack"
    level = limits.exposures.T @ (found[0][:n] * unit)
    amount = np.maximum(level - limits.upper, limits.lower - level)
    out = amount > NEGLIGIBLE
    widened = {name: float(a) for name, a, missed in zip(limits.names, amount, out, strict=True) if missed}
    floor, ceiling = np.where(out, level, limits.lower), np.where(out, level, limits.upper)
    return Limits(limits.names, limits.exposures, floor, ceiling, limits.tier), widened


def _meets(limits: Limits, lower: FloatArray, upper: FloatArray) -> bool:
    """Return whether a small move of every name that can move meets all limits: the usual case, seen without a linear program.

    The move of least norm that takes what the others miss; within bounds it proves the limits, and outside it proves nothing.
    """
    weights, free = np.clip(0.0, lower, upper), lower < upper
    level = limits.exposures.T @ weights
    missed = level - np.clip(level, limits.lower, limits.upper)
    weights[free] -= np.linalg.lstsq(limits.exposures[free].T, missed, rcond=None)[0]
    level = limits.exposures.T @ weights
    beyond = np.maximum(level - limits.upper, limits.lower - level).max()
    return bool(beyond <= NEGLIGIBLE and (lower <= weights).all() and (weights <= upper).all())
