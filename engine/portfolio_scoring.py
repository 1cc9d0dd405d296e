"""Scores of one date's models as portfolios and beside each other: alpha and MPC, likeness to all others, churn and turnover."""

from __future__ import annotations

import numpy as np
import pandas as pd

from engine.metamodel import check_stakes
from engine.score_alignment import Aligned, Side, align, groups, lost, model_reasons, side
from engine.scores_pairwise import pairwise_correlation
from engine.scores_portfolio import churn, meta_portfolio_contribution, portfolio_alpha, tail_churn, turnover
from engine.scoring import collect_reasons
from engine.transforms import gaussianise
from risk import DataError
from risk.checks import BoolArray, FloatArray

__all__ = ["churns", "pairwise_scores", "portfolio_scores", "turnovers"]


def portfolio_scores(
    predictions: pd.DataFrame,
    target: pd.Series[float],
    neutralisers: pd.DataFrame,
    sample_weights: pd.Series[float],
    *,
    stakes: pd.Series[float] | None = None,
) -> pd.DataFrame:
    """Return alpha and, with stakes, the meta portfolio contribution of each model.

    Parameters
    ----------
    predictions : DataFrame, assets x models
        NaN where a model does not cover an asset. ``gaussianise(table)[0]`` in its place treats a gap as Numerai Signals
        does: ranked, filled with the middle.
    target, sample_weights : Series by asset
    neutralisers : DataFrame, assets x neutralisers
        Without NaN. Needed, as the sample weights are, for every asset scored.
    stakes : Series by model, optional
        >= 0, in any unit. A model without an entry has none. Given: adds ``mpc``.

    Returns
    -------
    DataFrame
        Row per model: ``alpha``, ``mpc``, ``assets`` (covered, with a target) and ``reason``. The meta portfolio needs one set
        of assets for all, those with a target: a model that does not cover each of them has no MPC, and its stake no part in
        the meta portfolio.

    Raises
    ------
    DataError
        If ids or models repeat, something is no number, a neutraliser has NaN, a sample weight or a stake is negative.

    Examples
    --------
    >>> ids = list("abcde")
    >>> s = pd.DataFrame({"one": [1, 2, 3, 4, 5], "two": [1, 2, 1, 2, 1]}, index=ids)
    >>> N = pd.DataFrame([[1, 5], [2, 4], [3, 3], [4, 2], [5, 1]], index=ids)
    >>> v, t = pd.Series([3, 2, 1, 2, 3], index=ids), pd.Series([1, 2, 3, 2, 1], index=ids)
    >>> portfolio_scores(s, t, N, v, stakes=pd.Series({"one": 0.6, "two": 0.4}))["mpc"].round(9).tolist()
    [-0.001580069, 0.002370103]
    """
    aligned = align(predictions)
    t, N, v = (
        side("target", target, aligned),
        side("neutralisers", neutralisers, aligned),
        side("sample_weights", sample_weights, aligned),
    )
    reasons = model_reasons(aligned)
    names = ["alpha"] if stakes is None else ["alpha", "mpc"]
    values = {name: np.full(len(reasons), np.nan) for name in names}
    account: list[dict[str, str]] = [{} for _ in reasons]
    for group in groups(aligned, reasons):
        rows = group.rows & t.known
        reason = _portfolio_reason(group.rows, rows, t, N, v)
        if not reason:
            values["alpha"][group.columns] = portfolio_alpha(
                group.ranked(rows), N.values[rows], v.values[rows], t.values[rows], centre=t.mean
            )
        for j in group.columns[np.isnan(values["alpha"][group.columns])]:
            account[j]["alpha"] = reason or "constant over the assets scored"
    if stakes is not None:
        _add_mpc(aligned, check_stakes(stakes), (t, N, v), reasons, values["mpc"], account)
    covered = ~np.isnan(aligned.values)
    table = pd.DataFrame(values, index=pd.Index(aligned.models, name="model"))
    table["assets"] = (covered & t.known[:, None]).sum(axis=0)
    table["reason"] = collect_reasons(reasons, account, len(names))
    return table


def pairwise_scores(predictions: pd.DataFrame) -> pd.DataFrame:
    """Return each model's largest and average correlation with every other model.

    Parameters
    ----------
    predictions : DataFrame, assets x models
        Any scale; an asset that a model does not cover counts as its middle rank.

    Returns
    -------
    DataFrame
        Row per model: ``mcwnm``, ``apcwnm`` and ``reason``. Signed, of gaussianised ranks. A model that is constant, or has no
        or an infinite value, is left out of the others' too.

    Raises
    ------
    DataError
        If ids or models repeat, or a value is no number.

    Examples
    --------
    >>> table = pairwise_scores(pd.DataFrame({"a": [1.0, 2.0, 3.0], "b": [3.0, 2.0, 1.0], "c": [2.0, 4.0, 6.0]}))
    >>> table["mcwnm"].round(12).tolist()
    [1.0, -1.0, 1.0]
    """
    aligned = align(predictions)
    reasons = model_reasons(aligned)
    used = np.array([not reason for reason in reasons])
    largest, average = np.full(len(used), np.nan), np.full(len(used), np.nan)
    largest[used], average[used] = pairwise_correlation(gaussianise(aligned.values[:, used])[0])
    alone = "no other model to compare with"
    return pd.DataFrame(
        {
            "mcwnm": largest,
            "apcwnm": average,
            "reason": [reason or (alone if np.isnan(x) else "") for reason, x in zip(reasons, largest, strict=True)],
        },
        index=pd.Index(aligned.models, name="model"),
    )


def churns(now: pd.DataFrame, before: pd.DataFrame, *, top_bottom: int | None = None) -> pd.DataFrame:
    """Return the churn of each model of `now` since `before`.

    Parameters
    ----------
    now, before : DataFrame, assets x models
        A model's predictions of two dates; NaN where it does not cover an asset.
    top_bottom : int, optional
        Share of the n highest and lowest that left, over all that the model covers on either date, instead of 1 - Spearman's
        correlation over what it covers on both.

    Returns
    -------
    DataFrame
        Row per model of `now`: ``churn``, ``assets`` (covered on both dates) and ``reason``.

    Raises
    ------
    DataError
        If ids or models repeat, a value is no number, or `top_bottom` is below 1.

    Examples
    --------
    >>> table = pd.DataFrame({"a": [1.0, 2.0, 3.0]})
    >>> churns(table, -table)["churn"].tolist()
    [2.0]
    """
    if top_bottom is not None and top_bottom < 1:
        raise DataError(f"`top_bottom` must be at least 1 asset; got {top_bottom}.")
    a, b = _two_dates(now, before)
    reasons = _since(a, b, before)
    values = np.full(len(reasons), np.nan)
    covered, covered_before = ~np.isnan(a.values), ~np.isnan(b.values)
    both = covered & covered_before
    for j, reason in enumerate(reasons):
        if reason:
            continue
        if top_bottom is not None:
            values[j] = tail_churn(a.values[:, j], b.values[:, j], top_bottom)
            reasons[j] = f"fewer than 2 x {top_bottom} assets on a date" if np.isnan(values[j]) else ""
            continue
        rows = both[:, j]
        reasons[j] = lost(rows, int(covered[:, j].sum()), "assets covered were covered before") or lost(
            rows, int(covered_before[:, j].sum()), "assets covered before still are"
        )
        if not reasons[j]:
            sides = [gaussianise(table.values[rows, j : j + 1])[0] for table in (a, b)]
            values[j] = churn(sides[0], sides[1])[0]
            reasons[j] = "constant over the assets of both dates" if np.isnan(values[j]) else ""
    return pd.DataFrame(
        {"churn": values, "assets": both.sum(axis=0), "reason": reasons}, index=pd.Index(a.models, name="model")
    )


def turnovers(now: pd.DataFrame, before: pd.DataFrame) -> pd.DataFrame:
    """Return half the sum of absolute changes of each model's weights since `before`.

    Parameters
    ----------
    now, before : DataFrame, assets x models
        Weights, as `engine.scores_portfolio.neutral_weights` with ``normalise=True``; NaN where there is none.

    Returns
    -------
    DataFrame
        Row per model of `now`: ``turnover`` over the assets of both dates, ``assets`` (how many) and ``reason``.

    Raises
    ------
    DataError
        If ids or models repeat, or a value is no number.

    Examples
    --------
    >>> turnovers(pd.DataFrame({"a": [0.5, -0.5]}), pd.DataFrame({"a": [-0.5, 0.5]}))["turnover"].tolist()
    [1.0]
    """
    a, b = _two_dates(now, before)
    reasons = _since(a, b, before)
    covered, covered_before = ~np.isnan(a.values), ~np.isnan(b.values)
    both = covered & covered_before
    for j in range(len(reasons)):
        reasons[j] = (
            reasons[j]
            or lost(both[:, j], int(covered[:, j].sum()), "weights had one before")
            or lost(both[:, j], int(covered_before[:, j].sum()), "weights before still have one")
        )
    scored = np.array([not reason for reason in reasons])
    values = np.full(len(scored), np.nan)
    first, second = (np.where(both, table.values, 0.0)[:, scored] for table in (a, b))
    values[scored] = turnover(first, second)
    return pd.DataFrame(
        {"turnover": values, "assets": both.sum(axis=0), "reason": reasons}, index=pd.Index(a.models, name="model")
    )


def _portfolio_reason(covered: BoolArray, rows: BoolArray, t: Side, N: Side, v: Side) -> str:
    """Return why a model has no neutral weights on `rows`, or an empty string."""
    reason = lost(rows, t.total, "assets of `target` covered") or lost(
        rows, int(covered.sum()), "assets covered are in `target`"
    )
    for other in (N, v):
        if without := int((rows & ~other.known).sum()):
            reason = reason or f"no `{other.name}` for {without} of {int(rows.sum())} assets scored"
        reason = reason or lost(rows, other.total, f"assets of `{other.name}` scored")
    return reason


def _add_mpc(
    aligned: Aligned,
    stakes: dict[str, float],
    sides: tuple[Side, Side, Side],
    reasons: list[str],
    values: FloatArray,
    account: list[dict[str, str]],
) -> None:
    """Write the contribution of the models that cover every asset with a target, and why the others have none."""
    t, N, v = sides
    rows = t.known
    everywhere = np.ones(len(rows), dtype=bool)
    reason = _portfolio_reason(everywhere, rows, t, N, v)
    gaps = np.isnan(aligned.values[rows]).sum(axis=0)
    used = np.array([not why for why in reasons]) & (gaps == 0)
    share = np.array([stakes.get(name, 0.0) for name in aligned.models])
    if not reason and not share[used].any():
        reason = "no model that covers every asset scored has a stake"
    if not reason and used.any():
        G = gaussianise(aligned.values[np.ix_(rows, used)])[0]
        values[used] = meta_portfolio_contribution(G, share[used], N.values[rows], v.values[rows], t.values[rows])
    for j in np.flatnonzero(np.isnan(values)):
        gap = f"{gaps[j]} of {int(rows.sum())} assets scored are not covered" if gaps[j] else ""
        account[j]["mpc"] = reason or gap or "model or meta portfolio is constant over the assets scored"


def _two_dates(now: pd.DataFrame, before: pd.DataFrame) -> tuple[Aligned, Aligned]:
    """Return both dates on the union of their assets, with the models of `now`; NaN where a date has none."""
    a, b = align(now), align(before)
    assets = a.assets.union(b.assets)
    first, second = (
        pd.DataFrame(side_.values, index=side_.assets, columns=list(side_.models)).reindex(
            index=assets, columns=list(a.models)
        )
        for side_ in (a, b)
    )
    return align(first), align(second)


def _since(a: Aligned, b: Aligned, before: pd.DataFrame) -> list[str]:
    """Return why each model of the later date has no change since the earlier one, or an empty string."""
    earlier = set(map(str, before.columns))
    reasons = []
    for name, now, then in zip(a.models, model_reasons(a), model_reasons(b), strict=True):
        if name not in earlier:
            reasons.append("no predictions before")
        else:
            reasons.append(now or (f"{then} before" if then else ""))
    return reasons
