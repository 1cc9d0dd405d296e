"""From a mandate's words to the named rows of L: net, beta, every country, sector and style."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from engine.mandate import Mandate
from engine.problem import Limits
from risk import DataError, FactorModel
from risk.checks import BoolArray, FloatArray

__all__ = ["mandate_limits", "widen_for_frozen"]


def mandate_limits(
    mandate: Mandate, model: FactorModel, *, country: Sequence[str], sector: Sequence[str], benchmark: FloatArray
) -> Limits:
    """Return the linear limits of a mandate for one date.

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

    def add(name: str, column: FloatArray, bound: float) -> None:
        names.append(name)
        columns.append(column)
        bounds.append(bound)

    if mandate.net_limit is not None:
        add("net", np.ones(n), mandate.net_limit)
    if mandate.beta_limit is not None:
        add("beta", model.beta(benchmark), mandate.beta_limit)
    for family, labels, bound in (
        ("country", country, mandate.country_limit),
        ("sector", sector, mandate.sector_limit),
    ):
        categories = sorted(set(labels))
        if bound is not None and len(categories) > 1:
            members = np.asarray(labels)
            for category in categories:
                add(f"{family}:{category}", (members == category).astype(np.float64), bound)
    if mandate.style_limit is not None:
        for j, factor in enumerate(model.factors):
            if factor.startswith("style:"):
                add(factor, model.exposures[:, j], mandate.style_limit)
    if not names:
        raise DataError(
            f"mandate {mandate.name!r} has no net, beta, country, sector or style limit; set net_limit = 0."
        )
    upper = np.array(bounds)
    return Limits(names, np.column_stack(columns), -upper, upper)


def widen_for_frozen(limits: Limits, frozen: BoolArray, weights: FloatArray) -> tuple[Limits, dict[str, float]]:
    """Return limits that untradable names can meet, and by how much each was widened.

    A row on which no tradable name has an exposure is settled by frozen names alone: no trade can cure it, so it gets
    its own bound at their exposure, and the amount is reported. Every other row stays as it is.

    Parameters
    ----------
    limits : Limits
    frozen : bool ndarray of shape (N,)
    weights : ndarray of shape (N,)
        Weights at which the frozen names stand.
    """
    stuck = ~(limits.exposures[~frozen] != 0).any(axis=0)
    level = limits.exposures[frozen].T @ weights[frozen]
    lower = np.where(stuck, np.minimum(limits.lower, level), limits.lower)
    upper = np.where(stuck, np.maximum(limits.upper, level), limits.upper)
    amount = np.maximum(upper - limits.upper, limits.lower - lower)
    widened = {name: float(a) for name, a in zip(limits.names, amount, strict=True) if a > 0}
    return Limits(limits.names, limits.exposures, lower, upper, limits.tier), widened
