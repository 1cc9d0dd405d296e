"""Which assets a model is scored on: predictions and what they are scored against, aligned by asset, losses counted."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from engine.transforms import gaussianise
from risk import DataError
from risk.checks import BoolArray, FloatArray, check_labels

__all__ = ["MAX_LOST", "Aligned", "Group", "Side", "align", "groups", "lost", "model_reasons", "side"]

MAX_LOST = 0.2
"""Share of either side's assets that aligning may lose before a score is refused (numerai-tools)."""


@dataclass(frozen=True, eq=False)
class Aligned:
    """One date's predictions, rows in the order of their ids: (N,) ids, (M,) models, (N, M) values."""

    assets: pd.Index[str]
    models: tuple[str, ...]
    values: npt.NDArray[np.floating]


@dataclass(frozen=True, eq=False)
class Side:
    """What models are scored against, aligned to the predictions' rows.

    Attributes
    ----------
    name : str
    values : ndarray of shape (N,) or (N, q)
        NaN where the asset has none.
    known : ndarray of bool, shape (N,)
    total : int
        Assets that have a value, with predictions or without.
    mean : float
        Over all of them.
    """

    name: str
    values: FloatArray
    known: BoolArray
    total: int
    mean: float


@dataclass(frozen=True, eq=False)
class Group:
    """Models that cover the same assets."""

    aligned: Aligned
    rows: BoolArray
    columns: npt.NDArray[np.intp]
    prepared: dict[bytes, FloatArray]

    def ranked(self, rows: BoolArray) -> FloatArray:
        """Return the group's gaussianised ranks among `rows`, shape (rows.sum(), models of the group)."""
        key = rows.tobytes()
        if key not in self.prepared:
            self.prepared.clear()  # scores that share rows follow each other; one copy is held at a time
            inside = self.aligned.values if rows.all() else self.aligned.values[rows]
            whole = len(self.columns) == inside.shape[1]
            self.prepared[key] = gaussianise(inside if whole else inside[:, self.columns])[0]
        return self.prepared[key]


def align(predictions: pd.DataFrame) -> Aligned:
    """Return the predictions sorted by asset id.

    Raises
    ------
    DataError
        If a label repeats, there is none, or a value is no number.
    """
    models = check_labels("models of `predictions`", predictions.columns)
    assets = pd.Index(check_labels("assets of `predictions`", predictions.index))
    values = _numbers("predictions", predictions)
    if not assets.is_monotonic_increasing:
        order = np.argsort(assets.to_numpy(dtype=str), kind="stable")
        assets, values = assets[order], values[order]
    return Aligned(assets, models, values)


def side(name: str, data: pd.Series[float] | pd.DataFrame, aligned: Aligned) -> Side:
    """Return a Series, or a DataFrame without gaps, aligned to the predictions' rows.

    Raises
    ------
    DataError
        If an id repeats, a value is no number or infinite, or a DataFrame has a NaN.
    """
    labels = check_labels(f"assets of `{name}`", data.index) if len(data) else ()
    values = _numbers(name, data).astype(np.float64, copy=False)
    if np.isinf(values).any():
        raise DataError(
            f"`{name}` must not be infinite; {int(np.isinf(values).sum())} entries are. Give NaN for not known."
        )
    if isinstance(data, pd.DataFrame) and np.isnan(values).any():
        column = data.columns[int(np.argmax(np.isnan(values).any(axis=0)))]
        raise DataError(
            f"`{name}` must be finite; column {str(column)[:80]!r} has {int(np.isnan(values).any(axis=1).sum())} rows with NaN "
            "beside it or in it. Leave the column out, or fill it before the call: nothing is filled here."
        )
    there = ~np.isnan(values) if values.ndim == 1 else np.ones(len(values), dtype=bool)
    place = pd.Index(labels, dtype=object).get_indexer(aligned.assets)
    if len(labels):
        placed = np.where((place >= 0).reshape(-1, *[1] * (values.ndim - 1)), values[place], np.nan)
        known = (place >= 0) & there[place]
    else:
        placed, known = np.full((len(place), *values.shape[1:]), np.nan), np.zeros(len(place), dtype=bool)
    mean = float(values[there].mean()) if values.ndim == 1 and there.any() else float("nan")
    return Side(name, placed, known, int(there.sum()), mean)


def model_reasons(aligned: Aligned) -> list[str]:
    """Return why each model cannot be scored at all, or an empty string."""
    reasons = []
    for j in range(len(aligned.models)):
        column = aligned.values[:, j]
        known = column[~np.isnan(column)]
        if len(known) == 0:
            reasons.append("no value")
        elif np.isinf(known).any():
            reasons.append("infinite value")
        else:
            reasons.append("constant" if known.min() == known.max() else "")
    return reasons


def groups(aligned: Aligned, reasons: list[str]) -> Iterator[Group]:
    """Yield the models without a reason against them, those that cover the same assets together."""
    members: dict[bytes, list[int]] = {}
    for j, reason in enumerate(reasons):
        if not reason:
            members.setdefault(np.isnan(aligned.values[:, j]).tobytes(), []).append(j)
    for missing, columns in members.items():
        yield Group(aligned, ~np.frombuffer(missing, dtype=bool), np.array(columns), {})


def lost(kept: BoolArray, of: int, what: str) -> str:
    """Return what is wrong if fewer than 80 % of `of` things are kept, or an empty string."""
    count = int(kept.sum())
    if of == 0:
        return f"0 {what}"
    return f"{count} of {of} {what}, fewer than {1 - MAX_LOST:.0%}" if count / of < 1 - MAX_LOST else ""


def _numbers(name: str, data: pd.Series[float] | pd.DataFrame) -> npt.NDArray[np.floating]:
    try:
        values = data.to_numpy()
        return values if values.dtype in (np.float32, np.float64) else data.to_numpy(dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(f"`{name}` must be numbers; {error}. Check the columns' types.") from error
