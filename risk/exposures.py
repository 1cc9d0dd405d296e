"""Exposures of one day: a market column of ones, country and sector membership, standardised styles and signals."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from risk.checks import BoolArray, FloatArray
from risk.panel import Panel, UserExposures
from risk.regression import robust_limits
from risk.spec import RiskSpec

__all__ = [
    "OTHER",
    "Categories",
    "DayExposures",
    "day_exposures",
    "factor_order",
    "pool_categories",
    "standardise",
    "style_names",
]

OTHER = "(other)"
_COARSE = 10.0
_FAMILIES = ("market", "country", "currency", "sector", "industry", "style", "signal", "blind")


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
    column: npt.NDArray[np.int64]
    pooled: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class DayExposures:
    """Exposures of all assets to the factors of one day.

    Attributes
    ----------
    factors : tuple of str, length K
    matrix : ndarray of shape (N, K)
    families : tuple of slice
        The columns of each family whose factor returns are constrained to a size-weighted sum of zero.
    filled : int ndarray of shape (N,)
        Styles of each asset that were not known and are 0, the market average.
    clipped : int
        Members' style values cut at the winsor limit.
    unclassified : bool ndarray of shape (N,)
        Assets without a column in a family that has factors: their label is thin, and so is the pool.
    pooled : tuple of str
    absent : tuple of str
        Styles and signals that are no factor that day: fewer than half of the members have one, or all have the same.
    """

    factors: tuple[str, ...]
    matrix: FloatArray
    families: tuple[slice, ...]
    filled: npt.NDArray[np.int64]
    clipped: int
    unclassified: BoolArray
    pooled: tuple[str, ...]
    absent: tuple[str, ...]


def standardise(raw: FloatArray, members: BoolArray, size: FloatArray, winsor: float) -> tuple[FloatArray, int] | None:
    """Return exposures with size-weighted mean 0 and standard deviation 1 over the members, and the values cut.

    Over the members whose value is known: values are cut at 10 robust standard deviations (1.4826 median absolute
    deviations) from the median, so that an absurd one cannot widen what follows; then at `winsor` equal-weighted
    standard deviations from the equal-weighted mean; then shifted and scaled. Assets that are no members get the
    members' limits, shift and scale. As the last mean is by size, exposures may pass `winsor` a little.

    Parameters
    ----------
    raw : ndarray of shape (N,)
        NaN where not known.
    members : bool ndarray of shape (N,)
    size : ndarray of shape (N,)
        Positive for the members.
    winsor : float

    Returns
    -------
    tuple of ndarray of shape (N,) and int, or None
        NaN where `raw` is; the number of members cut. None where fewer than half of the members have a value, or
        all have the same.
    """
    known = members & np.isfinite(raw)
    if 2 * int(known.sum()) < int(members.sum()) or not known.any():
        return None
    values = np.clip(raw, *robust_limits(raw[known], _COARSE))
    centre, width = values[known].mean(), winsor * values[known].std()
    values = np.clip(values, centre - width, centre + width)
    sample, weights = values[known], size[known]
    scale = sample.std()
    if not scale > 1e-12 * max(1.0, float(np.abs(sample).max())):
        return None
    cut = int((values[known] != raw[known]).sum())
    return (values - (weights * sample).sum() / weights.sum()) / scale, cut


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


def day_exposures(
    panel: Panel,
    t: int,
    raw: npt.NDArray[np.float32],
    size: FloatArray,
    members: BoolArray,
    sample: BoolArray,
    spec: RiskSpec,
    user: UserExposures | None = None,
) -> DayExposures:
    """Return the exposures of all assets as known at the close of day t.

    Parameters
    ----------
    panel : Panel
    t : int
        Row of the labels in force and of `user`.
    raw : float32 ndarray of shape (S, N)
        Descriptors of day t, in the order of `spec.styles`.
    size : ndarray of shape (N,)
    members : bool ndarray of shape (N,)
        Styles are standardised over these.
    sample : bool ndarray of shape (N,)
        The assets of the regression (the members, for a forecast): they decide which categories stand alone.
    spec : RiskSpec
    user : UserExposures, optional
    """
    n = len(members)
    factors, blocks, families = ["market"], [np.ones((n, 1))], []
    unclassified, pooled = np.zeros(n, dtype=np.bool_), []
    for family, codes, labels in (
        ("country", panel.country[t], panel.countries),
        ("sector", panel.sector[t], panel.sectors),
    ):
        categories = pool_categories(codes[sample], labels, spec.thin_category)
        pooled += [f"{family}:{label}" for label in categories.pooled]
        if not categories.names:
            continue
        column = categories.column[codes.astype(np.int64)]
        unclassified |= column < 0
        families.append(slice(len(factors), len(factors) + len(categories.names)))
        factors += [f"{family}:{name}" for name in categories.names]
        blocks.append((column[:, None] == np.arange(len(categories.names))).astype(np.float64))
    filled, clipped = np.zeros(n, dtype=np.int64), 0
    absent = []
    rows = {f"style:{style}": row for style, row in zip(spec.styles, raw, strict=True)}
    if user is not None:
        rows |= dict(zip(user.factors, user.values[t], strict=True))
    for style in style_names(spec, user):
        standard = standardise(rows[style].astype(np.float64), members, size, spec.winsor)
        if standard is None:
            absent.append(style)
            continue
        missing = ~np.isfinite(standard[0])
        filled += missing
        clipped += standard[1]
        factors.append(style)
        blocks.append(np.where(missing, 0.0, standard[0])[:, None])
    return DayExposures(
        tuple(factors), np.hstack(blocks), tuple(families), filled, clipped, unclassified, tuple(pooled), tuple(absent)
    )


def style_names(spec: RiskSpec, user: UserExposures | None) -> tuple[str, ...]:
    """Return the names of all styles, the user's last, then of the signals.

    Examples
    --------
    >>> user = UserExposures(("signal:mix", "style:value", "style:size"), np.zeros((1, 3, 1)))
    >>> style_names(RiskSpec(styles=("beta", "size")), user)
    ('style:beta', 'style:size', 'style:value', 'signal:mix')
    """
    own = tuple(f"style:{style}" for style in spec.styles)
    beside = () if user is None else tuple(name for name in user.factors if name not in own)
    return own + tuple(sorted(beside, key=lambda name: name.startswith("signal:")))


def factor_order(factors: set[str], spec: RiskSpec, user: UserExposures | None = None) -> tuple[str, ...]:
    """Return factors in the order of every result: market, categories by name, ``(other)`` last, styles, signals."""
    styles = style_names(spec, user)

    def key(factor: str) -> tuple[int, int, str]:
        family, _, name = factor.partition(":")
        place = styles.index(factor) if factor in styles else int(name == OTHER)
        return _FAMILIES.index(family), place, name

    return tuple(sorted(factors, key=key))
