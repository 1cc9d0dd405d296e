r"""The stake-weighted meta model of one date, and the alpha it stands for.

.. math::

    p_k = \Phi^{-1}\bigl((\mathrm{rank} - 0.5)/n\bigr), \qquad x = \sum_k s_k p_k, \qquad
    \tilde x = (x - \bar x)/\mathrm{std}(x), \qquad \alpha = \mathrm{scale} \circ \tilde x

with s_k the shares of the stake in use. A model that cannot be used is left out of the date and listed with its reason.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from engine.mandate import AlphaRule
from engine.transforms import gaussianise, standardise
from risk import DataError
from risk.checks import FloatArray, check_array, check_labels, freeze

__all__ = ["MetaModel", "alpha_scale", "check_stakes", "grinold_alpha", "meta_model"]

FINE = ""


@dataclass(frozen=True, eq=False)
class MetaModel:
    """One date's meta model and the account of every model behind it.

    Attributes
    ----------
    assets : tuple of str, length N
        The date's universe.
    scores : ndarray of shape (N,)
        Stake-weighted combination of the models in use: mean 0, standard deviation 1.
    names : tuple of str
        Models in use, sorted.
    stakes : ndarray of shape (M_used,)
        Their shares of the stake in use; they add up to 1.
    models : DataFrame
        Row per model seen in the predictions or the stakes, sorted: ``stake``, ``used``, ``reason`` (empty where used),
        ``coverage`` (assets of the universe covered) and ``filled`` (assets of the universe set to 0; 0 where not used).
    ignored_assets : int
        Assets that have predictions and are not in the universe.
    """

    assets: tuple[str, ...]
    scores: FloatArray
    names: tuple[str, ...]
    stakes: FloatArray
    models: pd.DataFrame
    ignored_assets: int


def meta_model(
    predictions: pd.DataFrame,
    stakes: pd.Series[float],
    *,
    assets: Sequence[str],
    submitted: pd.Series[pd.Timestamp] | None = None,
    deadline: pd.Timestamp | None = None,
    minimum_assets: int = 20,
) -> MetaModel:
    """Return the stake-weighted meta model over the universe of one date.

    Parameters
    ----------
    predictions : DataFrame, assets x models
        Any real scale; NaN where a model does not cover an asset. Assets outside `assets` are ignored and counted;
        ranks are taken within `assets` alone.
    stakes : Series by model
        In any unit, >= 0. A model without a row has no stake.
    assets : sequence of str
        The universe of the date, in the order of the result.
    submitted : Series of Timestamp by model, optional
        When each model was handed in. A model without an entry is taken to be in time.
    deadline : Timestamp, optional
        A model submitted after it is late. Given together with `submitted` or not at all.
    minimum_assets : int
        A model that covers fewer assets of the universe is left out.

    Raises
    ------
    DataError
        If labels repeat, a stake is negative, NaN or infinite, no model with a stake can be used, or those that can
        cancel to a constant.

    Notes
    -----
    Models are added in sorted order, so the result does not depend on the order of columns or rows.
    """
    universe = check_labels("assets", assets)
    if predictions.shape[1] == 0:
        raise DataError(
            "`predictions` holds no model for this date; leave the date out or check the file of that date."
        )
    columns = check_labels("models of `predictions`", predictions.columns)
    table, ignored = _within(predictions, universe)
    shares = check_stakes(stakes)
    if (submitted is None) != (deadline is None):
        raise DataError("give `submitted` and `deadline` together: one alone does not tell which model is late.")
    late = _late(submitted, deadline)

    names = sorted({*columns, *shares})
    position = {name: j for j, name in enumerate(columns)}
    reasons, coverage = [], []
    for name in names:
        column = table[:, position[name]] if name in position else None
        covered = 0 if column is None else int(np.count_nonzero(~np.isnan(column)))
        coverage.append(covered)
        reasons.append(
            _reason(column, covered, len(universe), shares.get(name, 0.0), name in late, minimum_assets=minimum_assets)
        )
    used = [name for name, reason in zip(names, reasons, strict=True) if reason == FINE]
    if not used:
        counts = pd.Series(reasons).value_counts().sort_index()
        account = ", ".join(f"{count} {reason}" for reason, count in counts.items())
        raise DataError(
            f"none of {len(names)} models can be used on this date ({account}). "
            "Leave the date out, or give predictions and positive stakes for it."
        )
    prepared, _ = gaussianise(table[:, [position[name] for name in used]])
    stake = np.array([shares[name] for name in used])
    stake = stake / stake.sum()
    combined = prepared @ stake
    # Gaussianised ranks are of size 1 and shares add up to 1: a spread of rounding size is what is left of opposites.
    if combined.std() <= 1e-12:
        raise DataError(
            f"the {len(used)} models in use cancel to a constant: their stake-weighted sum ranks nothing. "
            "Leave the date out, or change the stakes of models that are each other's opposite."
        )
    kept = np.array([reason == FINE for reason in reasons])
    models = pd.DataFrame(
        {
            "stake": [shares.get(name, 0.0) for name in names],
            "used": kept,
            "reason": reasons,
            "coverage": coverage,
            "filled": np.where(kept, len(universe) - np.array(coverage), 0),
        },
        index=pd.Index(names, name="model"),
    )
    return MetaModel(
        assets=universe,
        scores=standardise(combined),
        names=tuple(used),
        stakes=freeze(stake),
        models=models,
        ignored_assets=ignored,
    )


def alpha_scale(specific_variance: npt.ArrayLike, rule: AlphaRule, periods_per_year: float = 252) -> FloatArray:
    """Return the expected residual return per year of a score of 1, shape (N,).

    Parameters
    ----------
    specific_variance : array_like of shape (N,)
        Per year.
    rule : AlphaRule
        Information coefficient and horizon.
    periods_per_year : float
        Trading days in a year.

    Notes
    -----
    IC * sigma_i * sqrt(periods_per_year / horizon): an information coefficient per horizon, earned that often a year on
    a volatility that grows with the square root of time.

    References
    ----------
    Grinold (1994), Alpha is volatility times IC times score.

    Examples
    --------
    >>> alpha_scale([0.09], AlphaRule(information_coefficient=0.02, horizon_days=63)).round(6).tolist()
    [0.012]
    """
    variance = np.asarray(specific_variance, dtype=np.float64)
    if variance.ndim != 1 or not (variance > 0).all() or not np.isfinite(variance).all():
        raise DataError("`specific_variance` must have shape (N,) and be positive and finite; see FactorModel.")
    scale = rule.information_coefficient * np.sqrt(periods_per_year / rule.horizon_days)
    return freeze(scale * np.sqrt(variance))


def grinold_alpha(
    scores: npt.ArrayLike, specific_variance: npt.ArrayLike, rule: AlphaRule, periods_per_year: float = 252
) -> FloatArray:
    """Return alpha_i = IC * sigma_i * sqrt(periods_per_year / horizon) * score_i, per year, shape (N,).

    Raises
    ------
    DataError
        If `scores` and `specific_variance` differ in shape, or a score is not finite.
    """
    scale = alpha_scale(specific_variance, rule, periods_per_year)
    return freeze(scale * check_array("scores", scores, scale.shape))


def check_stakes(stakes: pd.Series[float]) -> dict[str, float]:
    """Return stakes by model name.

    Raises
    ------
    DataError
        If a model appears twice, or a stake is negative, NaN or infinite.
    """
    if len(stakes) == 0:
        raise DataError(
            "`stakes` is empty: without a stake there is no meta model. Give a stake for at least one model."
        )
    names = check_labels("models of `stakes`", stakes.index)
    values = stakes.to_numpy(dtype=np.float64)
    bad = ~(np.isfinite(values) & (values >= 0))
    if bad.any():
        j = int(np.argmax(bad))
        raise DataError(
            f"`stakes` of model {names[j]!r} is {values[j]}; a stake is a finite number >= 0. "
            "Give 0 for a model that stakes nothing."
        )
    return dict(zip(names, values.tolist(), strict=True))


def _within(predictions: pd.DataFrame, universe: tuple[str, ...]) -> tuple[FloatArray, int]:
    """Return the predictions of the universe's assets in its order, and how many assets lie outside it."""
    rows = check_labels("assets of `predictions`", predictions.index)
    place = pd.Index(rows).get_indexer(pd.Index(universe))
    table = predictions.to_numpy(dtype=np.float64)
    inside = np.where((place >= 0)[:, None], table[place], np.nan)
    return inside, len(set(rows) - set(universe))


def _late(submitted: pd.Series[pd.Timestamp] | None, deadline: pd.Timestamp | None) -> set[str]:
    if submitted is None or deadline is None:
        return set()
    names = check_labels("models of `submitted`", submitted.index) if len(submitted) else ()
    return {name for name, time in zip(names, submitted, strict=True) if pd.notna(time) and time > deadline}


def _reason(
    column: FloatArray | None, covered: int, assets: int, stake: float, late: bool, *, minimum_assets: int
) -> str:
    """Return why a model is left out, or an empty string."""
    if stake == 0:
        return "no stake"
    if column is None:
        return "no prediction"
    if late:
        return "late"
    if covered == 0:
        return "no value"
    if np.isinf(column).any():
        return "infinite value"
    if covered < minimum_assets:
        return f"covers {covered} of {assets} assets, fewer than {minimum_assets}"
    if np.nanmin(column) == np.nanmax(column):
        return "constant"
    return FINE
