"""How much a portfolio resembles what everybody could hold: simple styles, and shorts that are hard to buy back.

A simple style portfolio is the one anyone can build: weights proportional to the rank of the style's exposure, less the
mean rank, of gross 1, half of it long.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.stats import rankdata

from risk.checks import BoolArray, DataError, FloatArray, check_array, freeze
from risk.decomposition import family
from risk.model import FactorModel

__all__ = ["STYLE_FAMILIES", "Crowding", "crowding", "rank_portfolios", "style_columns"]

STYLE_FAMILIES = ("style", "signal")
"""Families of factors that others may hold too."""


@dataclass(frozen=True, eq=False)
class Crowding:
    """Likeness of a portfolio to simple styles. NaN where a style has no simple portfolio, and for an empty portfolio.

    Attributes
    ----------
    styles : tuple of str, length S
    exposure : ndarray of shape (S,)
        x_k = X'w, in standard deviations of the style times net asset value.
    exposure_per_gross : ndarray of shape (S,)
        x_k / sum |w|: standard deviations per unit of gross.
    relative_exposure : ndarray of shape (S,)
        `exposure_per_gross` over that of the simple style portfolio: 1 is as much style as that has at the same gross.
    correlation : ndarray of shape (S,)
        Forecast correlation of the portfolio with the simple style portfolio, specific risk included.
    factor_correlation : ndarray of shape (S,)
        Of the portfolio with the factor's own return.
    overlap, opposite : ndarray of shape (S,)
        sum min(|w_i| / gross, |p_i|) over the assets held on the same side as the simple portfolio p, and on the other.
    explained : float
        Share of forecast variance that the simple style portfolios explain together (R squared of a regression).
    undefined : tuple of str
        Styles whose exposures are all equal, so that there are no ranks.
    long_illiquid, short_illiquid : float
        Share of the longs, of the shorts, in the least traded assets; NaN of an empty side or without volumes.
    short_unknown : float
        Share of the shorts in assets whose volume is not known; NaN likewise.
    illiquid : float
        The least traded share of assets, out of those whose volume is known.
    """

    styles: tuple[str, ...]
    exposure: FloatArray
    exposure_per_gross: FloatArray
    relative_exposure: FloatArray
    correlation: FloatArray
    factor_correlation: FloatArray
    overlap: FloatArray
    opposite: FloatArray
    explained: float
    undefined: tuple[str, ...]
    long_illiquid: float
    short_illiquid: float
    short_unknown: float
    illiquid: float

    def table(self) -> pd.DataFrame:
        """Return one row per style and a column for each measure."""
        columns = ("exposure", "exposure_per_gross", "relative_exposure", "correlation", "factor_correlation")
        data = {column: getattr(self, column) for column in (*columns, "overlap", "opposite")}
        return pd.DataFrame(data, index=pd.Index(self.styles, name="style"))


def style_columns(model: FactorModel, families: Sequence[str] = STYLE_FAMILIES) -> list[int]:
    """Return the places of a model's factors that are of some families.

    Raises
    ------
    DataError
        If there is none.

    Examples
    --------
    >>> model = FactorModel(["A", "B"], ["market", "style:size"], [[1, 1], [1, -1]], np.eye(2) / 25, [0.09, 0.09])
    >>> style_columns(model)
    [1]
    """
    columns = [k for k, name in enumerate(model.factors) if family(name) in families]
    if not columns:
        raise DataError(f"`families` must name a family of the model's factors; got {tuple(families)}.")
    return columns


def rank_portfolios(exposures: npt.ArrayLike) -> FloatArray:
    """Return the simple portfolio of each style: centred ranks of its exposures, of gross 1 and net 0.

    Parameters
    ----------
    exposures : array_like of shape (N, S)
        Ties share their mean rank.

    Returns
    -------
    ndarray of shape (N, S)
        NaN for a style whose exposures are all equal.

    Examples
    --------
    >>> rank_portfolios([[3.0], [-1.0], [0.5]])[:, 0].tolist()
    [0.5, -0.5, 0.0]
    """
    X = np.asarray(exposures, dtype=np.float64)
    if X.ndim != 2:
        raise DataError(f"`exposures` must have shape (N, S); got {X.shape}.")
    X = check_array("exposures", X, X.shape)
    ranks = rankdata(X, axis=0) - (len(X) + 1) / 2
    gross = np.abs(ranks).sum(axis=0)
    return freeze(ranks / np.where(gross > 0, gross, np.nan))


def _explained(covariance: FloatArray, own: FloatArray, variance: float) -> float:
    """Return the share of `variance` that a regression on portfolios of covariance `own` explains."""
    if variance <= 0 or not len(own):
        return float("nan")
    scale = np.sqrt(np.diag(own))
    beta = np.linalg.lstsq(own / np.outer(scale, scale), covariance / scale, rcond=1e-10)[0]
    return float(beta @ (covariance / scale)) / variance


def _side(weights: FloatArray, among: BoolArray) -> float:
    total = float(weights.sum())
    return float(weights[among].sum()) / total if total > 0 else float("nan")


def _illiquid(w: FloatArray, dollar_volume: npt.ArrayLike | None, share: float) -> tuple[float, float, float]:
    if not 0 < share < 1:
        raise DataError(f"`illiquid` must be a share between 0 and 1; got {share}.")
    if dollar_volume is None:
        return float("nan"), float("nan"), float("nan")
    volume = np.asarray(dollar_volume, dtype=np.float64)
    if volume.shape != w.shape:
        raise DataError(f"`dollar_volume` must have shape {w.shape}; got {volume.shape}.")
    known = np.isfinite(volume)
    if not known.any() or (volume < 0).any():
        raise DataError("`dollar_volume` must be >= 0 and known for some assets, NaN for the others.")
    low = known & (volume <= np.quantile(volume[known], share))
    long, short = np.maximum(w, 0.0), np.maximum(-w, 0.0)
    return _side(long, low), _side(short, low), _side(short, ~known)


def crowding(
    model: FactorModel,
    weights: npt.ArrayLike,
    *,
    families: Sequence[str] = STYLE_FAMILIES,
    dollar_volume: npt.ArrayLike | None = None,
    illiquid: float = 0.2,
) -> Crowding:
    """Return how much a portfolio resembles simple styles, and how much of its shorts is thinly traded.

    Parameters
    ----------
    model : FactorModel
    weights : array_like of shape (N,)
        Fractions of net asset value.
    families : sequence of str
        Families of factors that count as styles.
    dollar_volume : array_like of shape (N,), optional
        Trailing value traded a day; NaN where not known.
    illiquid : float
        The assets of the lowest volumes, as a share of those whose volume is known, that count as thinly traded.

    Returns
    -------
    Crowding

    Raises
    ------
    DataError
        If an array has another shape, a weight is not finite, a volume is negative, or the model has no such factor.

    Examples
    --------
    >>> import numpy as np
    >>> model = FactorModel(["A", "B"], ["market", "style:size"], [[1, 1], [1, -1]], np.eye(2) / 25, [0.09, 0.09])
    >>> result = crowding(model, [0.6, -0.4])
    >>> result.relative_exposure.round(4).tolist(), result.overlap.round(4).tolist()
    ([1.0], [0.9])
    """
    w = check_array("weights", weights, (len(model.assets),))
    columns = style_columns(model, families)
    X, styles = model.exposures[:, columns], tuple(model.factors[k] for k in columns)
    P = rank_portfolios(X)
    defined = np.isfinite(P[0])
    gross, variance = float(np.abs(w).sum()), max(model.variance(w), 0.0)
    exposure, with_book = X.T @ w, model.covariance_times(w)
    per_gross = exposure / (gross if gross > 0 else np.nan)
    shape = model.exposures.T @ P
    own = shape.T @ model.factor_covariance @ shape + (P * model.specific_variance[:, None]).T @ P
    sigma = np.sqrt(variance) if variance > 0 else np.nan
    deviation = np.sqrt(np.diag(model.factor_covariance)[columns])
    factor_covariance = (model.factor_covariance @ (model.exposures.T @ w))[columns]
    smaller = np.minimum(np.abs(w)[:, None] / (gross if gross > 0 else np.nan), np.abs(P))
    same = np.sign(w)[:, None] * np.sign(P)
    thin = _illiquid(w, dollar_volume, illiquid)
    return Crowding(
        styles=styles,
        exposure=freeze(exposure),
        exposure_per_gross=freeze(per_gross),
        relative_exposure=freeze(per_gross / (X * P).sum(axis=0)),
        correlation=freeze(P.T @ with_book / (np.sqrt(np.diag(own)) * sigma)),
        factor_correlation=freeze(factor_covariance / np.where(deviation > 0, deviation, np.nan) / sigma),
        overlap=freeze(np.where(defined, (smaller * (same > 0)).sum(axis=0), np.nan)),
        opposite=freeze(np.where(defined, (smaller * (same < 0)).sum(axis=0), np.nan)),
        explained=_explained((P.T @ with_book)[defined], own[np.ix_(defined, defined)], variance),
        undefined=tuple(name for name, has in zip(styles, defined, strict=True) if not has),
        long_illiquid=thin[0],
        short_illiquid=thin[1],
        short_unknown=thin[2],
        illiquid=float(illiquid),
    )
