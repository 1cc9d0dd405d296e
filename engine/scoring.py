"""Scores of one date's models, by model: tables in, a table out.

Each model is scored on the assets that it covers, as numerai-tools would score it alone. What cannot be scored is NaN with
a reason beside it; no model stops the others.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import pandas as pd

from engine.score_alignment import Group, Side, align, groups, lost, model_reasons, side
from engine.scores_correlation import contribution, numerai_correlation
from engine.scores_neutral import (
    feature_neutral_correlation,
    neutral_basis,
    neutral_contribution,
    neutral_correlation,
)
from engine.scores_pairwise import exposure_dissimilarity, feature_exposures
from engine.transforms import gaussianise
from risk import DataError
from risk.checks import BoolArray, FloatArray

__all__ = ["collect_reasons", "scores"]

Result = FloatArray | str
"""Scores of a group's models, or why none of them has one."""


def scores(
    predictions: pd.DataFrame,
    target: pd.Series[float],
    *,
    meta_model: pd.Series[float] | None = None,
    benchmark: pd.Series[float] | None = None,
    features: pd.DataFrame | None = None,
    example: pd.Series[float] | None = None,
    top_bottom: Sequence[int] = (),
    target_power: bool = True,
) -> pd.DataFrame:
    """Return one date's scores by model.

    Parameters
    ----------
    predictions : DataFrame, assets x models
        Any scale; NaN where a model does not cover an asset.
    target : Series by asset
        NaN where it is not resolved. Assets without predictions count as lost.
    meta_model : Series by asset, optional
        For ``mmc`` and ``cwmm``.
    benchmark : Series by asset, optional
        For ``bmc``.
    features : DataFrame, assets x features, optional
        Without NaN. For ``fnc``, ``neutral_corr``, ``max_feature_exposure`` and ``feature_exposure_rms``; with a meta
        model for ``neutral_mmc``.
    example : Series by asset, optional
        The example model's predictions. With features for ``exposure_dissimilarity``.
    top_bottom : sequence of int
        200 adds ``corr_tb200``, ``mmc_tb200`` and ``fnc_tb200``: over the 200 lowest and highest alone.
    target_power : bool
        False where the target is a return: then CORR and FNC do not raise it to the power 1.5.

    Returns
    -------
    DataFrame
        Row per model in the order of `predictions`: the scores; ``assets`` (covered, with a target); ``no_target`` (covered
        without one); ``no_prediction`` (targets not covered); ``reason`` (empty, or why which scores are NaN).

    Raises
    ------
    DataError
        If ids or models repeat, something is no number, features have NaN, or `top_bottom` has less than 1.

    Notes
    -----
    Equal to numerai-tools on ``predictions[[model]].dropna()`` and ``target.dropna()``, which refuses where more than 20 % of
    either side is lost; here that model's score is NaN with the counts. Exposures are those of gaussianised ranks.

    Examples
    --------
    >>> ids = list("abcd")
    >>> models = pd.DataFrame({"good": [1.0, 2.0, 3.0, 4.0], "flat": [5.0] * 4}, index=ids)
    >>> table = scores(models, pd.Series([0.0, 0.25, 0.75, 1.0], index=ids))
    >>> table["corr"].round(3).tolist(), table["reason"].tolist()
    ([0.981, nan], ['', 'constant'])
    """
    for count in top_bottom:
        if count < 1:
            raise DataError(f"`top_bottom` must hold counts of at least 1 asset; got {count}.")
    aligned = align(predictions)
    given = {"meta_model": meta_model, "benchmark": benchmark, "features": features}
    sides = {name: side(name, data, aligned) for name, data in given.items() if data is not None}
    E = _example_exposures(features, example)
    date = _Date(side("target", target, aligned), sides, E, target_power)
    wanted = _wanted(date, top_bottom)
    reasons = model_reasons(aligned)
    values = {name: np.full(len(reasons), np.nan) for name in wanted}
    account: list[dict[str, str]] = [{} for _ in reasons]
    for group in groups(aligned, reasons):
        date.bases.clear()
        for name, score in wanted.items():
            result = score.of(group)
            if isinstance(result, str):
                missing, why = group.columns, result
            else:
                values[name][group.columns] = result
                missing, why = group.columns[np.isnan(result)], score.if_none
            for j in missing:
                account[j][name] = why
    covered = ~np.isnan(aligned.values)
    both = (covered & date.target.known[:, None]).sum(axis=0)
    table = pd.DataFrame(values, index=pd.Index(aligned.models, name="model"))
    table["assets"], table["no_target"] = both, covered.sum(axis=0) - both
    table["no_prediction"] = date.target.total - both
    table["reason"] = collect_reasons(reasons, account, len(wanted))
    return table


def collect_reasons(reasons: Sequence[str], account: Sequence[Mapping[str, str]], count: int) -> list[str]:
    """Return one line per model: its own reason, or which of its `count` scores have none, and why.

    Examples
    --------
    >>> collect_reasons(["constant", "", ""], [{}, {"corr": "late", "mmc": "late"}, {"fnc": "no features"}], 2)
    ['constant', 'late', 'fnc: no features']
    """
    lines = []
    for reason, missing in zip(reasons, account, strict=True):
        names: dict[str, list[str]] = {}
        for score, why in missing.items():
            names.setdefault(why, []).append(score)
        parts = [why if len(which) == count else f"{', '.join(which)}: {why}" for why, which in names.items()]
        lines.append(reason or "; ".join(parts))
    return lines


@dataclass(frozen=True)
class _Score:
    of: Callable[[Group], Result]
    if_none: str
    """Why a model of a group that has scores may have none."""


@dataclass(frozen=True, eq=False)
class _Date:
    """What the models of a date are scored against, and how."""

    target: Side
    sides: dict[str, Side]
    example: FloatArray | None
    target_power: bool
    bases: dict[bytes, FloatArray] = field(default_factory=dict)

    def basis(self, rows: BoolArray) -> FloatArray:
        key = rows.tobytes()
        if key not in self.bases:
            self.bases[key] = neutral_basis(self.sides["features"].values[rows])
        return self.bases[key]

    def corr(self, group: Group, count: int | None = None) -> Result:
        rows = group.rows & self.target.known
        t = self.target.values[rows]
        if reason := self._unscored(group.rows, rows, self.target, count) or _flat(t, "target"):
            return reason
        return numerai_correlation(
            group.ranked(rows), t, top_bottom=count, target_power=self.target_power, centre=self.target.mean
        )

    def cwmm(self, group: Group) -> Result:
        meta = self.sides["meta_model"]
        rows = group.rows & meta.known
        m = meta.values[rows]
        if reason := self._unscored(group.rows, rows, meta, None) or _flat(m, "meta_model"):
            return reason
        return numerai_correlation(group.ranked(rows), m, target_power=False)

    def contribution(self, group: Group, name: str, count: int | None = None) -> Result:
        meta = self.sides[name]
        first = group.rows & meta.known
        rows = first & self.target.known
        t, m = self.target.values[rows], meta.values[rows]
        reason = self._unscored(group.rows, first, meta, None) or self._unscored(first, rows, self.target, count)
        if reason := reason or _flat(t, "target") or _flat(m, name):
            return reason
        return contribution(group.ranked(rows), gaussianise(m)[0], t, top_bottom=count)

    def fnc(self, group: Group, count: int | None = None) -> Result:
        rows = group.rows & self.target.known
        t = self.target.values[rows]
        if reason := self._unscored(group.rows, rows, self.target, count) or _flat(t, "target"):
            return reason
        if without := int((group.rows & ~self.sides["features"].known).sum()):
            return f"no features for {without} of {int(group.rows.sum())} assets covered"
        return feature_neutral_correlation(
            group.ranked(group.rows), self.basis(group.rows), t,
            rows=rows[group.rows], top_bottom=count, target_power=self.target_power, centre=self.target.mean,
        )  # fmt: skip

    def neutral(self, group: Group, *, with_meta_model: bool) -> Result:
        others = [self.sides["features"], *([self.sides["meta_model"]] if with_meta_model else [])]
        rows = group.rows & self.target.known
        for other in others:
            rows = rows & other.known
        t = self.target.values[rows]
        reason = self._unscored(group.rows, rows, self.target, None)
        for other in others:
            reason = reason or lost(rows, other.total, f"assets of `{other.name}` scored")
        if reason := reason or _flat(t, "target"):
            return reason
        if not with_meta_model:
            return neutral_correlation(group.ranked(rows), self.basis(rows), t)
        m = gaussianise(self.sides["meta_model"].values[rows])[0]
        return neutral_contribution(group.ranked(rows), m, self.basis(rows), t)

    def exposure(self, group: Group, summary: Callable[[FloatArray], FloatArray]) -> Result:
        rows = group.rows & self.sides["features"].known
        if reason := self._unscored(group.rows, rows, self.sides["features"], None):
            return reason
        U = feature_exposures(group.ranked(rows), self.sides["features"].values[rows])
        U = U[~np.isnan(U).all(axis=1)]
        return summary(U) if len(U) else "every feature is constant"

    def dissimilarity(self, group: Group) -> Result:
        rows = group.rows & self.sides["features"].known
        if reason := self._unscored(group.rows, rows, self.sides["features"], None):
            return reason
        assert self.example is not None
        U = feature_exposures(group.ranked(rows), self.sides["features"].values[rows])
        both = ~np.isnan(self.example) & ~np.isnan(U).all(axis=1)
        return exposure_dissimilarity(U[both], self.example[both])

    def _unscored(self, covered: BoolArray, rows: BoolArray, other: Side, count: int | None) -> str:
        """Return what aligning a model with `other` loses too much of, or that its tails overlap."""
        if other.total == 0:
            return f"`{other.name}` is not known for any asset"
        reason = lost(rows, other.total, f"assets of `{other.name}` covered") or lost(
            rows, int(covered.sum()), f"assets covered are in `{other.name}`"
        )
        if not reason and count is not None and 2 * count > rows.sum():
            return f"{int(rows.sum())} assets, fewer than 2 x {count}"
        return reason


def _wanted(date: _Date, top_bottom: Sequence[int]) -> dict[str, _Score]:
    """Return the scores that the given sides allow, by name."""
    flat = "constant over the assets scored"
    explained = f"{flat}, or the features explain it"
    tails = "model or target constant in the tails"
    wanted = {"corr": _Score(date.corr, flat)}
    wanted |= {f"corr_tb{n}": _Score(partial(date.corr, count=n), tails) for n in top_bottom}
    for name, label in (("meta_model", "mmc"), ("benchmark", "bmc")):
        if name in date.sides:
            contribute = partial(date.contribution, name=name)
            wanted[label] = _Score(contribute, flat)
            wanted |= {f"{label}_tb{n}": _Score(partial(contribute, count=n), flat) for n in top_bottom}
    if "meta_model" in date.sides:
        wanted["cwmm"] = _Score(date.cwmm, flat)
    if "features" not in date.sides:
        return wanted
    wanted["fnc"] = _Score(date.fnc, explained)
    wanted |= {f"fnc_tb{n}": _Score(partial(date.fnc, count=n), explained) for n in top_bottom}
    wanted["neutral_corr"] = _Score(partial(date.neutral, with_meta_model=False), explained)
    if "meta_model" in date.sides:
        wanted["neutral_mmc"] = _Score(partial(date.neutral, with_meta_model=True), f"{explained}, or the meta model")
    wanted["max_feature_exposure"] = _Score(partial(date.exposure, summary=_largest), flat)
    wanted["feature_exposure_rms"] = _Score(partial(date.exposure, summary=_root_mean_square), flat)
    if date.example is not None:
        wanted["exposure_dissimilarity"] = _Score(date.dissimilarity, f"{flat}, or the example has no exposure")
    return wanted


def _largest(U: FloatArray) -> FloatArray:
    return np.asarray(np.abs(U).max(axis=0))


def _root_mean_square(U: FloatArray) -> FloatArray:
    return np.asarray(np.sqrt((U**2).mean(axis=0)))


def _example_exposures(features: pd.DataFrame | None, example: pd.Series[float] | None) -> FloatArray | None:
    """Return the example's exposure to each feature over the assets that have both, shape (q,)."""
    if example is None:
        return None
    if features is None:
        raise DataError("`example` is compared by its exposures: give `features` with it, or leave it out.")
    aligned = align(example.to_frame("example"))
    table = side("features", features, aligned)
    rows = table.known & ~np.isnan(aligned.values[:, 0])
    return feature_exposures(gaussianise(aligned.values[rows])[0], table.values[rows])[:, 0]


def _flat(values: FloatArray, name: str) -> str:
    return f"`{name}` is constant" if values.min() == values.max() else ""
