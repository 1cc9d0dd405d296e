"""The categories of one day: which labels stand alone, and which sums of their factor returns are zero.

Memberships of two families overlap: the countries add up to the market, and so do the sectors; a sector's industries add up
to the sector; the countries of one currency to the currency. Every such identity needs one constraint, no more and no
less, or factor returns would not be identified, or would be bent. Each constraint is a size-weighted sum of zero over a
group of columns:

    all sectors; in each sector, its industries; the countries of a currency that is no other country's; all currencies
    and the countries that are in no such group.

So the market is the size-weighted return of all assets, a sector's return is its own beyond the market's, an industry's its
own beyond its sector's, a currency's that of its countries beyond the market's.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from risk.checks import BoolArray
from risk.panel import Panel
from risk.spec import RiskSpec

__all__ = ["OTHER", "Categories", "DayCategories", "Family", "day_categories", "pool_categories"]

OTHER = "(other)"

Columns = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Categories:
    """The categories of one family on one day.

    Attributes
    ----------
    names : tuple of str
        Sorted by name, ``(other)`` last; empty where the family has one category or none.
    column : int ndarray
        Column of each label's code; the last entry is for code -1. -1: no exposure to this family. A label that no
        asset of the regression has goes to ``(other)`` where there is one.
    pooled : tuple of str
        Labels with assets that day that are in ``(other)``; an asset without a label counts as label ``""``.
    """

    names: tuple[str, ...]
    column: Columns
    pooled: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Family:
    """One family of categories on one day.

    Attributes
    ----------
    names : tuple of str, length C
        Without the family's own, in the order of columns.
    column : int ndarray of shape (N,)
        Column of each asset, -1 where it has none.
    pooled : tuple of str
        Labels with assets in the regression that have no column of their own.
    """

    names: tuple[str, ...]
    column: Columns
    pooled: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class DayCategories:
    """The families of one day and their constraints.

    Attributes
    ----------
    families : dict of str to Family
        In the order of factors: country, currency, sector, industry.
    groups : tuple of tuple of (str, int)
        Families and columns whose size-weighted factor returns sum to zero; every column in at most one group.
    """

    families: dict[str, Family]
    groups: tuple[tuple[tuple[str, int], ...], ...]


def pool_categories(codes: npt.NDArray[np.int16], labels: tuple[str, ...], thin: int) -> Categories:
    """Return the categories of a family, the thin ones pooled.

    Categories of fewer than `thin` assets, and the assets without a label, are pooled in ``(other)``. A pool that is
    still thin is no factor: its assets have no exposure to the family. With one category left, pool included, the
    family says nothing beside the market and is dropped.

    Parameters
    ----------
    codes : int ndarray
        One per asset of the regression; -1 where there is no label.
    labels : tuple of str
    thin : int
    """
    counts = np.bincount(codes.astype(np.int64) % (len(labels) + 1), minlength=len(labels) + 1)
    by_name = sorted(range(len(labels)), key=lambda code: labels[code])
    kept = [code for code in by_name if counts[code] >= thin]
    pool = [code for code in by_name if 0 < counts[code] < thin] + ([-1] if counts[-1] else [])
    pooled = bool(pool) and int(counts[pool].sum()) >= thin
    names = tuple(labels[code] for code in kept) + ((OTHER,) if pooled else ())
    column = np.full(len(labels) + 1, -1, dtype=np.int64)
    if len(names) <= 1:
        return Categories((), column, ())
    column[:] = len(kept) if pooled else -1
    column[kept] = np.arange(len(kept))
    return Categories(names, column, tuple(labels[code] if code >= 0 else "" for code in pool) if pooled else ())


def _family(codes: npt.NDArray[np.int16], labels: tuple[str, ...], sample: BoolArray, thin: int) -> Family:
    categories = pool_categories(codes[sample], labels, thin)
    return Family(categories.names, categories.column[codes.astype(np.int64)], categories.pooled)


def _choose(codes: Columns, labels: tuple[str, ...], kept: list[int], sample: BoolArray) -> Family:
    """Return the family of the kept codes; other labels of the regression have no column, nor have assets of no label."""
    kept = sorted(kept, key=lambda code: labels[code])
    column = np.full(len(labels) + 1, -1, dtype=np.int64)
    column[kept] = np.arange(len(kept))
    left = sorted(labels[code] for code in np.unique(codes[sample]) if code >= 0 and column[code] < 0)
    return Family(tuple(labels[code] for code in kept), column[codes], tuple(left))


def _industries(
    codes: npt.NDArray[np.int16], labels: tuple[str, ...], sector: Family, sample: BoolArray, thin: int
) -> tuple[Family, list[list[int]]]:
    """Return the industries that stand beside their sector, and each sector's columns.

    An industry belongs to the sector in which most of its assets of the regression are; its assets in other sectors have
    no industry. One of fewer than `thin` assets is no factor, and its assets move with their sector; nor is one that is
    alone in its sector then.
    """
    industry = codes.astype(np.int64)
    width = max(len(sector.names), 1)
    place = sector.column if sector.names else np.zeros(len(codes), dtype=np.int64)
    inside = sample & (industry >= 0) & (place >= 0)
    counts = np.bincount(industry[inside] * width + place[inside], minlength=len(labels) * width).reshape(-1, width)
    home = counts.argmax(axis=1)
    thick = counts.max(axis=1) >= thin
    kept = [code for code in np.flatnonzero(thick).tolist() if int((thick & (home == home[code])).sum()) > 1]
    away = (industry >= 0) & (place != np.append(home, -1)[industry])
    family = _choose(np.where(away, -1, industry), labels, kept, sample)
    column_home = [int(home[code]) for code in sorted(kept, key=lambda code: labels[code])]
    groups = [[k for k, at in enumerate(column_home) if at == s] for s in range(width)]
    return family, [group for group in groups if group]


def _currencies(
    codes: npt.NDArray[np.int16], labels: tuple[str, ...], base: str, country: Family, sample: BoolArray, thin: int
) -> tuple[Family, list[list[tuple[str, int]]]]:
    """Return the currencies that can be told from countries and market, and the constraints of both families.

    The base currency is no factor. Nor is a currency of fewer than `thin` assets, of every asset, or of exactly one
    country's: the country's factor holds it.
    """
    currency, total = codes.astype(np.int64), int(sample.sum())
    counts = np.bincount(currency[sample] + 1, minlength=len(labels) + 1)[1:]
    of_country = np.bincount(country.column[sample] + 1, minlength=len(country.names) + 1)[1:]

    def is_told_apart(code: int) -> bool:
        at = np.unique(country.column[sample & (currency == code)])
        alone = len(at) == 1 and at[0] >= 0 and counts[code] == of_country[at[0]]
        return labels[code] != base and thin <= counts[code] < total and not alone

    family = _choose(currency, labels, [code for code in range(len(labels)) if is_told_apart(code)], sample)
    left = tuple(label for label in family.pooled if label != base)
    family = Family(family.names, family.column, left)
    every = [("currency", k) for k in range(len(family.names))]
    if not country.names:
        return family, [every] if every and (family.column[sample] >= 0).all() else []
    # Which countries touch which currencies; assets of no currency factor are the last column.
    width = len(family.names) + 1
    both = sample & (country.column >= 0)
    pairs = country.column[both] * width + family.column[both] % width
    touch = np.bincount(pairs, minlength=len(country.names) * width).reshape(-1, width) > 0
    joined = (touch.T.astype(np.int64) @ touch) > 0
    for _ in range(width.bit_length()):
        joined = (joined.astype(np.int64) @ joined) > 0
    groups, rest = [], list(range(len(country.names)))
    for k in range(width - 1):
        together = joined[k]
        if together[-1] or not together.any() or int(np.flatnonzero(together)[0]) != k:
            continue
        mine = [c for c in rest if (touch[c] & together).any()]
        rest = [c for c in rest if c not in mine]
        groups.append([("country", c) for c in mine])
    return family, [*groups, [("country", c) for c in rest] + every]


def day_categories(panel: Panel, t: int, sample: BoolArray, spec: RiskSpec) -> DayCategories:
    """Return the categories of all assets by the labels of day t.

    Parameters
    ----------
    panel : Panel
    t : int
    sample : bool ndarray of shape (N,)
        The assets of the regression: they decide which categories stand alone.
    spec : RiskSpec
    """
    thin = spec.thin_category
    country = _family(panel.country[t], panel.countries, sample, thin)
    sector = _family(panel.sector[t], panel.sectors, sample, thin)
    families, groups = {"country": country}, [[("country", k) for k in range(len(country.names))]]
    if spec.currencies and panel.currency is not None:
        families["currency"], groups = _currencies(
            panel.currency[t], panel.currencies, panel.base_currency, country, sample, thin
        )
    families["sector"] = sector
    groups.append([("sector", k) for k in range(len(sector.names))])
    if spec.industries and panel.industry is not None:
        families["industry"], within = _industries(panel.industry[t], panel.industries, sector, sample, thin)
        groups += [[("industry", k) for k in columns] for columns in within]
    return DayCategories(families, tuple(tuple(group) for group in groups if group))
