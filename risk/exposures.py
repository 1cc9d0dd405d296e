"""Exposures of one day: a market column of ones, membership of categories, standardised styles and signals."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from risk.categories import OTHER, DayCategories, day_categories
from risk.checks import BoolArray, FloatArray
from risk.panel import Panel, UserExposures
from risk.regression import robust_limits
from risk.spec import RiskSpec

__all__ = ["DayExposures", "day_exposures", "factor_order", "orthogonalise", "standardise", "style_names"]

_COARSE = 10.0
_FAMILIES = ("market", "country", "currency", "sector", "industry", "style", "signal", "blind")
# What these styles are regressed on: size and its cube, risk and beta tell the same story in part.
_AGAINST = {"style:residual_volatility": ("style:beta", "style:size"), "style:mid_cap": ("style:size",)}
# Share of a style's variance within a family of categories below which the categories say it already.
_LEAST_WITHIN = 0.02


@dataclass(frozen=True, eq=False)
class DayExposures:
    """Exposures of all assets to the factors of one day.

    Attributes
    ----------
    factors : tuple of str, length K
    matrix : ndarray of shape (N, K)
    families : tuple of int ndarray
        Groups of columns whose factor returns are constrained to a size-weighted sum of zero (`risk.categories`).
    filled : int ndarray of shape (N,)
        Styles of each asset that were not known and are 0, the market average.
    clipped : int
        Members' style values cut at the winsor limit.
    unclassified : bool ndarray of shape (N,)
        Assets without a column among the countries or sectors that are factors: their label is thin, and so is the pool.
    pooled : tuple of str
        Labels without a column of their own: thin countries and sectors are in ``(other)``, thin industries move with
        their sector, and a currency of one country with that.
    absent : tuple of str
        Styles and signals that are no factor that day: fewer than half of the members have one, all have the same, or
        a family of categories explains more than 98 % of it (industry momentum and the user's own are looked at).
    """

    factors: tuple[str, ...]
    matrix: FloatArray
    families: tuple[npt.NDArray[np.int64], ...]
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
    scaled = _rescale(values, known, size)
    return None if scaled is None else (scaled, int((values[known] != raw[known]).sum()))


def _rescale(values: FloatArray, known: BoolArray, size: FloatArray) -> FloatArray | None:
    """Return values with size-weighted mean 0 and standard deviation 1 over the known; None where all are the same."""
    sample, weights = values[known], size[known]
    scale = sample.std()
    if not scale > 1e-12 * max(1.0, float(np.abs(sample).max())):
        return None
    return np.asarray((values - (weights * sample).sum() / weights.sum()) / scale)


def orthogonalise(
    style: FloatArray, others: list[FloatArray], members: BoolArray, size: FloatArray
) -> FloatArray | None:
    """Return what the others do not say of a style, standardised again; None where nothing is left.

    Regression with intercept over the members whose style is known, weighted by the root of size, as the daily regression
    is: its styles are then uncorrelated in its own weights.

    Parameters
    ----------
    style : ndarray of shape (N,)
        NaN where not known.
    others : list of ndarray of shape (N,)
        NaN, where not known, counts 0.
    members : bool ndarray of shape (N,)
    size : ndarray of shape (N,)
    """
    known = members & np.isfinite(style)
    design = np.column_stack([np.ones(len(style)), *[np.nan_to_num(other) for other in others]])
    root = np.sqrt(np.sqrt(size[known]))
    slopes = np.linalg.lstsq(design[known] * root[:, None], style[known] * root, rcond=None)[0]
    return _rescale(style - design @ slopes, known, size)


def _beyond(
    signal: FloatArray, others: FloatArray, known: BoolArray, fitted: BoolArray, size: FloatArray
) -> FloatArray | None:
    """Return what no other factor says of a signal, 0 where it is not known; None where that is next to nothing.

    Signals are regressed after the other factors. Were they not orthogonal to these, in the weights of that regression, most of
    what they earn would be gone by then, and a book without any style would keep an exposure that earns nothing.
    """
    weights = np.sqrt(size[fitted])
    X, z = others[fitted], signal[fitted]
    slopes = np.linalg.pinv(X.T @ (weights[:, None] * X), rcond=1e-10, hermitian=True) @ (X.T @ (weights * z))
    left = np.where(known, signal - others @ slopes, 0.0)
    mean = (weights * z).sum() / weights.sum()
    if (weights * left[fitted] ** 2).sum() < _LEAST_WITHIN * (weights * (z - mean) ** 2).sum():
        return None
    return left


def _is_of_categories(style: FloatArray, categories: DayCategories, sample: BoolArray, size: FloatArray) -> bool:
    """Return whether a family of categories explains nearly all of a style over the regression's assets."""
    known = sample & np.isfinite(style)
    if not known.any():
        return False
    weights, values = np.sqrt(size[known]), style[known]
    mean = (weights * values).sum() / weights.sum()
    total = (weights * (values - mean) ** 2).sum()
    column = {name: family.column[known] + 1 for name, family in categories.families.items()}
    if "industry" in column:
        column["industry"] += column["sector"] * (int(column["industry"].max()) + 1)
    for at in column.values():
        mass = np.bincount(at, weights=weights)
        means = np.bincount(at, weights=weights * values) / np.where(mass > 0, mass, 1.0)
        if (weights * (values - means[at]) ** 2).sum() < _LEAST_WITHIN * total:
            return True
    return False


@dataclass(frozen=True, eq=False)
class _Styles:
    columns: dict[str, FloatArray]
    clipped: int
    absent: tuple[str, ...]


def _standard_styles(
    rows: dict[str, FloatArray], own: frozenset[str], members: BoolArray, size: FloatArray, spec: RiskSpec
) -> _Styles:
    """Return the styles of a day, NaN where not known; `own` are those that the model estimates itself."""
    columns: dict[str, FloatArray] = {}
    clipped, absent = 0, []
    for name, row in rows.items():
        standard = standardise(row, members, size, spec.winsor)
        if standard is not None and name == "style:mid_cap" and name in own:
            standard = standardise(standard[0] ** 3, members, size, spec.winsor)
        if standard is None:
            absent.append(name)
            continue
        columns[name] = standard[0]
        clipped += standard[1]
    for name, against in _AGAINST.items():
        others = [columns[other] for other in against if other in columns]
        if not (spec.orthogonalise and name in own and name in columns and others):
            continue
        left = orthogonalise(columns[name], others, members, size)
        if left is None:
            absent.append(name)
            del columns[name]
        else:
            columns[name] = left
    return _Styles(columns, clipped, tuple(absent))


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
    categories = day_categories(panel, t, sample, spec)
    factors, blocks, start = ["market"], [np.ones((n, 1))], {}
    for name, family in categories.families.items():
        start[name] = len(factors)
        factors += [f"{name}:{label}" for label in family.names]
        blocks.append((family.column[:, None] == np.arange(len(family.names))).astype(np.float64))
    thin = [
        family.column < 0
        for name, family in categories.families.items()
        if name in ("country", "sector") and family.names
    ]
    given = {f"style:{style}": row for style, row in zip(spec.styles, raw, strict=True)}
    theirs = {} if user is None else dict(zip(user.factors, user.values[t], strict=True))
    rows = {name: (given | theirs)[name].astype(np.float64) for name in style_names(spec, user)}
    styles = _standard_styles(rows, frozenset(given) - frozenset(theirs), members, size, spec)
    looked_at = {"style:industry_momentum", *theirs}
    said = [
        name
        for name, column in styles.columns.items()
        if name in looked_at and _is_of_categories(column, categories, sample, size)
    ]
    kept = [name for name in rows if name in styles.columns and name not in said]
    missing = [~np.isfinite(styles.columns[name]) for name in kept]
    columns = {name: np.where(bad, 0.0, styles.columns[name]) for name, bad in zip(kept, missing, strict=True)}
    signals = [name for name in kept if name.startswith("signal:")]
    others = np.hstack([*blocks, *(columns[name][:, None] for name in kept if name not in signals)])
    for name in signals:
        known = np.isfinite(styles.columns[name])
        left = _beyond(columns.pop(name), others, known, members & known, size)
        if left is None:
            said.append(name)
        else:
            columns[name] = left
    blocks += [column[:, None] for column in columns.values()]
    return DayExposures(
        factors=(*factors, *columns),
        matrix=np.hstack(blocks),
        families=tuple(np.array([start[family] + k for family, k in group]) for group in categories.groups),
        filled=np.sum(missing, axis=0, dtype=np.int64) if missing else np.zeros(n, dtype=np.int64),
        clipped=styles.clipped,
        unclassified=np.any(thin, axis=0) if thin else np.zeros(n, dtype=np.bool_),
        pooled=tuple(f"{name}:{label}" for name, family in categories.families.items() for label in family.pooled),
        absent=(*styles.absent, *said),
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
