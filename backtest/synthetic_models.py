"""Models of known skill, overlap and turnover, and what they predict, stake and hand in late.

A model's prediction on date t, of unit variance in its population, is

    skilled, anti   x = sum_j c_j z_j + sqrt(1 - |c|^2) ( sqrt(1-q) own noise + sqrt(q) its group's noise )
    noise           x = own noise
    copy            x = r x_source + sqrt(1 - r^2) own noise,    r = 1 or 0.995

with z the latents of `synthetic_latents`, so its information coefficient is known. Models of one overlap group lean on the
same two or three latents and share a part q (`crowding`) of their noise. Noise is AR(1) per asset; its half-life sets the
model's turnover. What is written is offset + scale * x, which changes no rank.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from backtest.synthetic_latents import Float32Array, Latents
from backtest.synthetic_spec import MarketSpec
from risk.checks import BoolArray, FloatArray

__all__ = ["ModelBook", "NoisePath", "draw_models", "draw_stakes", "mixing", "model_table", "plant_blemishes"]

IntArray = npt.NDArray[np.intp]

KINDS = ("skilled", "copy", "noise", "anti")
GROUP_HALF_LIFE = 20.0
NEAR_COPY = 0.995
SCORE_LAG = 2
MEAN_STAKE = 200.0


@dataclass(frozen=True, eq=False)
class ModelBook:
    """M models: what they know and how they behave.

    Attributes
    ----------
    names : tuple of str, length M
        In an order that does not give the kind away.
    kind : tuple of str, length M
        skilled, copy, noise or anti.
    loadings : ndarray of shape (M, J)
        c, on the latents; a copy's are its source's times r.
    noise_scale : ndarray of shape (M,)
        sqrt(1 - |c|^2); 0 for copies.
    noise_half_life : ndarray of shape (M,)
        In sessions.
    group : int ndarray of shape (M,)
        Overlap group; -1 for noise.
    source : int ndarray of shape (M,)
        The model that a copy copies; -1 for the others.
    likeness : ndarray of shape (M,)
        r of copies, 0 for the others.
    covers : bool ndarray of shape (M, N)
    joins : int ndarray of shape (M,)
        Position of its first prediction date.
    offset, scale : ndarray of shape (M,)
    crowding : float
        q.
    """

    names: tuple[str, ...]
    kind: tuple[str, ...]
    loadings: FloatArray
    noise_scale: FloatArray
    noise_half_life: FloatArray
    group: IntArray
    source: IntArray
    likeness: FloatArray
    covers: BoolArray
    joins: IntArray
    offset: FloatArray
    scale: FloatArray
    crowding: float


def _kinds(spec: MarketSpec, rng: np.random.Generator) -> list[str]:
    counts = [round(share * spec.models) for share in (spec.copy_share, spec.noise_share, spec.anti_share)]
    counts.insert(0, spec.models - sum(counts))
    ordered = [kind for kind, count in zip(KINDS, counts, strict=True) for _ in range(count)]
    return [ordered[i] for i in rng.permutation(spec.models)]


def _directions(latents: Latents, group: IntArray, groups: int, rng: np.random.Generator) -> FloatArray:
    """Return unit loadings (M, J): each group's two or three latents, tilted by each model in its own way."""
    count = len(latents.half_lives)
    leaning = np.zeros((groups, count))
    for row in leaning:
        chosen = rng.permutation(count)[: min(count, int(rng.integers(2, 4)))]
        row[chosen] = rng.uniform(0.5, 1.5, len(chosen))
    tilted = leaning[np.maximum(group, 0)] * np.exp(0.3 * rng.standard_normal((len(group), count)))
    return np.asarray(tilted / np.linalg.norm(tilted, axis=1, keepdims=True), dtype=np.float64)


def draw_models(spec: MarketSpec, latents: Latents, dates: int, rng: np.random.Generator) -> ModelBook:
    """Return the models of `spec` for a market with `dates` prediction dates.

    Notes
    -----
    A model's information coefficient is uniform between `skill_low` and `skill_high`, or 80 % of what its latents can
    give where that is less; then the lower end is at most half of the upper. An anti model's is minus such a draw.
    """
    m = spec.models
    kind = np.array(_kinds(spec, rng))
    group = rng.integers(0, max(1, min(12, m // 8)), size=m)
    direction = _directions(latents, group, int(group.max()) + 1, rng)
    ceiling = latents.information_coefficient(direction)
    high = np.minimum(spec.skill_high, 0.8 * ceiling)
    low = np.minimum(spec.skill_low, 0.5 * high)
    skill = low + (high - low) * rng.random(m)
    sign = np.select([kind == "skilled", kind == "anti"], [1.0, -1.0], 0.0)
    loadings = (sign * skill / ceiling)[:, None] * direction
    noise_scale = np.sqrt(1 - np.sum(loadings**2, axis=1))
    half_life = np.exp(rng.uniform(np.log(3.0), np.log(60.0), m))
    offset, scale = rng.uniform(-1, 1, m), np.exp(rng.uniform(np.log(0.01), np.log(10.0), m))

    covers = np.ones((m, spec.assets), dtype=np.bool_)
    joins = np.zeros(m, dtype=np.intp)
    order = rng.permutation(np.flatnonzero(kind != "copy"))
    partial, late = round(spec.partial_share * m), round(spec.late_share * m)
    # The first skilled model is kept whole, so that there is always one to copy.
    order = order[order != np.flatnonzero(kind == "skilled")[0]]
    covers[order[:partial]] = rng.random((len(order[:partial]), spec.assets)) < 0.8
    latecomers = order[partial : partial + late]
    joins[latecomers] = (dates * rng.uniform(0.1, 0.6, len(latecomers))).astype(np.intp)

    source, likeness = np.full(m, -1, dtype=np.intp), np.zeros(m)
    whole = np.flatnonzero((kind == "skilled") & (joins == 0) & covers.all(axis=1))
    for place, copy in enumerate(np.flatnonzero(kind == "copy")):
        origin = int(rng.choice(whole))
        source[copy], likeness[copy] = origin, 1.0 if place % 2 == 0 else NEAR_COPY
        loadings[copy], noise_scale[copy] = likeness[copy] * loadings[origin], 0.0
        group[copy] = group[origin]
        if likeness[copy] == 1.0:
            offset[copy], scale[copy] = offset[origin], scale[origin]
    group[kind == "noise"] = -1
    digits = max(3, len(str(m)))
    names = tuple(f"model_{i:0{digits}d}" for i in range(1, m + 1))
    return ModelBook(
        names,
        tuple(str(each) for each in kind),
        loadings,
        noise_scale,
        half_life,
        group,
        source,
        likeness,
        covers,
        joins,
        offset,
        scale,
        spec.crowding,
    )


class NoisePath:
    """The models' noise, stepped from one prediction date to the next; holds M + groups rows of N assets."""

    def __init__(self, book: ModelBook, rng: np.random.Generator) -> None:
        self._book = book
        self._rng = rng
        groups = int(book.group.max(initial=-1)) + 1
        self._half_life = np.concatenate([book.noise_half_life, np.full(groups, GROUP_HALF_LIFE)])
        self._shape = (len(book.names) + groups, book.covers.shape[1])
        self._noise: Float32Array | None = None

    def predict(self, z: Float32Array, elapsed: int) -> Float32Array:
        """Return x (M, N) given the latents (J, N), `elapsed` sessions after the previous call."""
        fresh = self._rng.standard_normal(self._shape, dtype=np.float32)
        if self._noise is not None:
            f = (0.5 ** (elapsed / self._half_life))[:, None].astype(np.float32)
            fresh *= np.sqrt(1 - f**2)
            fresh += f * self._noise
        self._noise = fresh
        book, m = self._book, len(self._book.names)
        grouped = book.group >= 0
        own = book.noise_scale * np.where(grouped, np.sqrt(1 - book.crowding), 1.0)
        x = book.loadings.astype(np.float32) @ z + own.astype(np.float32)[:, None] * fresh[:m]
        shared = (book.noise_scale * np.sqrt(book.crowding)).astype(np.float32)
        for k in np.flatnonzero(grouped & (book.noise_scale > 0)):
            x[k] += shared[k] * fresh[m + book.group[k]]
        for k in np.flatnonzero(book.source >= 0):
            r = np.float32(book.likeness[k])
            x[k] = x[book.source[k]] if r == 1 else r * x[book.source[k]] + np.sqrt(1 - r * r) * fresh[k]
        return np.asarray(x, dtype=np.float32)


def model_table(book: ModelBook, latents: Latents, dates: pd.DatetimeIndex) -> pd.DataFrame:
    """Return the truth about the models, one row each, as `truth/models.parquet` holds it."""
    five = 0.5 ** (5.0 / latents.half_lives)
    own = 0.5 ** (5.0 / book.noise_half_life)
    shared = np.where(book.group >= 0, book.crowding, 0.0)
    persistence = book.loadings**2 @ five + book.noise_scale**2 * (
        (1 - shared) * own + shared * 0.5 ** (5.0 / GROUP_HALF_LIFE)
    )
    for k in np.flatnonzero(book.source >= 0):
        r2 = book.likeness[k] ** 2
        persistence[k] = r2 * persistence[book.source[k]] + (1 - r2) * own[k]
    table = pd.DataFrame(
        {
            "model": book.names,
            "kind": book.kind,
            "information_coefficient": latents.information_coefficient(book.loadings),
            "information_coefficient_lagged": latents.information_coefficient(book.loadings, lag=SCORE_LAG),
            "overlap_group": [f"group_{g + 1:02d}" if g >= 0 else None for g in book.group],
            "noise_half_life": book.noise_half_life,
            "weekly_autocorrelation": persistence,
            "copied_from": [book.names[s] if s >= 0 else None for s in book.source],
            "copy_correlation": [r if r > 0 else None for r in book.likeness],
            "coverage": book.covers.mean(axis=1),
            "first_date": dates[book.joins],
            "offset": book.offset,
            "scale": book.scale,
        }
    )
    for j in range(book.loadings.shape[1]):
        table[f"loading_{j + 1}"] = book.loadings[:, j]
    return table


def mixing(table: pd.DataFrame, crowding: float) -> FloatArray:
    """Return each model's prediction as a sum of independent sources of variance 1.

    Parameters
    ----------
    table : DataFrame
        As `model_table` returns it, indexed by model.
    crowding : float
        q.

    Returns
    -------
    ndarray of shape (M, J + G + M)
        Weights on the latents, the groups' noise and the models' own noise; rows have length 1, and A A' is the true
        correlation of the models.
    """
    loadings = table.filter(regex=r"^loading_\d+$").to_numpy(np.float64)
    codes, groups = pd.factorize(table["overlap_group"])
    noise = np.sqrt(1 - np.sum(loadings**2, axis=1))
    shared = np.zeros((len(table), len(groups)))
    grouped = np.flatnonzero(codes >= 0)
    shared[grouped, codes[grouped]] = noise[grouped] * np.sqrt(crowding)
    own = np.diag(noise * np.where(codes >= 0, np.sqrt(1 - crowding), 1.0))
    sources = np.hstack([loadings, shared, own])
    for k in np.flatnonzero(table["copied_from"].notna()):
        r = float(table["copy_correlation"].iloc[k])
        sources[k] = r * sources[table.index.get_loc(table["copied_from"].iloc[k])]
        sources[k, loadings.shape[1] + len(groups) + k] = np.sqrt(1 - r * r)
    return np.asarray(sources, dtype=np.float64)


def draw_stakes(book: ModelBook, dates: pd.DatetimeIndex, rng: np.random.Generator) -> pd.DataFrame:
    """Return stakes (date, model, stake): lognormal, skewed, each moved in 15 % of the months.

    Opening stakes are scaled so that every kind's share of the money is its share of the models: money knows nothing of
    skill, and one large stake does not decide whether the market's meta model has any.
    """
    month = dates.year * 12 + dates.month
    opens = np.flatnonzero(np.concatenate([[False], np.diff(month) != 0]))
    stake = np.exp(rng.normal(0.0, 1.2, len(book.names)))
    kind = np.array(book.kind)
    for each in KINDS:
        chosen = kind == each
        if chosen.any():
            stake[chosen] *= MEAN_STAKE / stake[chosen].mean()
    rows = [
        (dates[int(at)], name, float(amount)) for at, name, amount in zip(book.joins, book.names, stake, strict=True)
    ]
    for at in opens:
        changes = rng.random(len(stake)) < 0.15
        step = np.exp(0.4 * rng.standard_normal(len(stake)))
        for k in np.flatnonzero(changes & (book.joins < at)):
            stake[k] *= step[k]
            rows.append((dates[int(at)], book.names[k], float(stake[k])))
    table = pd.DataFrame(rows, columns=["date", "model", "stake"])
    return table.sort_values(["date", "model"], ignore_index=True)


def plant_blemishes(
    spec: MarketSpec, book: ModelBook, dates: pd.DatetimeIndex, rng: np.random.Generator
) -> pd.DataFrame:
    """Return what is wrong on purpose: date, model, kind (late, constant, missing, sparse), one a row.

    late: handed in after the close (two models, three dates each); constant: one value for all assets; missing: a column
    without a value; sparse: a value for three assets only. None in a market of fewer than 10 models or 10 dates.
    """
    columns = ["date", "model", "kind"]
    if not spec.blemishes or spec.models < 10 or len(dates) < 10:
        return pd.DataFrame(columns=columns)
    eligible = (book.joins == 0) & (book.source < 0) & book.covers.all(axis=1)
    chosen = rng.permutation(np.flatnonzero(eligible))[:5]
    rows = []
    for kind, k, count in zip(("late", "late", "constant", "missing", "sparse"), chosen, (3, 3, 1, 1, 1), strict=False):
        for at in np.sort(rng.permutation(np.arange(1, len(dates)))[:count]):
            rows.append((dates[int(at)], book.names[k], kind))
    return pd.DataFrame(rows, columns=columns).sort_values(columns, ignore_index=True)
