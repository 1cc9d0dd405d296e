"""skfolio's characteristics factor model, fitted as a user who knows it would. Runs in an interpreter that has skfolio.

    python benchmarks/risk_skfolio.py forecasts FOLDER   one model per row asked for: FOLDER/model-<row>.npz
    python benchmarks/risk_skfolio.py speed FOLDER       processor seconds and peak MB, as JSON

FOLDER holds panel.npz, written by `risk_peers.py` or `risk_speed.py`. The model: a global factor, country and sector one-hot
with zero-sum families, its own descriptors nearest to ours, and otherwise its defaults: root-cap weights, a
regime-adjusted exponentially weighted factor covariance and specific variance of half-life 40. The first row asked for is
fitted, every later one reached by `partial_fit` in steps from row to row.

Four things it does not decide by itself, decided here:

- An asset without a descriptor has no exposures in it, hence no forecast. Its score is 0, the average, where at least half
  of the estimation universe has one, as in our model.
- Levels of a category are fixed. Those with fewer than ten members at the first row asked for are pooled in ``(other)``.
- It refuses a session on which the category that closes a zero-sum family does not trade, as the largest market of
  Europe's does not on its holidays. Such a session is joined to the next.
- On a session on which any other category does not trade, its regression is singular but for rounding, and the default
  regressor returned country factors of -200 % a day. A ridge of 1e-6 of an average asset's weight gives them 0.
"""

from __future__ import annotations

import json
import resource
import sys
import time
import warnings
from itertools import pairwise
from pathlib import Path

import numpy as np
from skfolio.containers import AssetPanel, FieldCategorical
from skfolio.descriptor import (
    BaseDescriptor,
    EWMarketBeta,
    EWShareTurnover,
    EWVolatility,
    LogMarketCap,
    Reversal,
    RollingMomentum,
)
from skfolio.factor_exposure import FixedWeightedFactor, GlobalFactor, OneHotCategoricalFactors
from skfolio.linear_model import CSLinearRegressorWrapper
from skfolio.preprocessing import CSStandardScaler
from skfolio.prior import CharacteristicsFactorModel
from sklearn.linear_model import Ridge

THIN = 10
KEPT_DAYS = 60
"""Days of history that the fitted object keeps: its estimates are recursions and need none of it."""


class FilledScaler(CSStandardScaler):
    """Standard scores, 0 where the value is not known and at least half of the estimation universe has one."""

    def transform(self, X, cs_weights=None, cs_groups=None):
        """Return the scores."""
        scores = super().transform(X, cs_weights=cs_weights, cs_groups=cs_groups)
        inside = np.ones(scores.shape, dtype=bool) if cs_weights is None else np.asarray(cs_weights) > 0
        enough = 2 * (inside & np.isfinite(scores)).sum(axis=1) >= inside.sum(axis=1)
        return np.where(np.isnan(scores) & enough[:, None], 0.0, scores)


def style(descriptor: BaseDescriptor) -> FixedWeightedFactor:
    return FixedWeightedFactor(descriptors=[("value", descriptor)], scoring_transformer=FilledScaler())


STYLES = {
    "beta": EWMarketBeta(half_life=63),
    "size": LogMarketCap(),
    "momentum": RollingMomentum(window=231, skip=21),
    "volatility": EWVolatility(half_life=42, min_periods=21),
    "liquidity": EWShareTurnover(half_life=21),
    "reversal_week": Reversal(window=5),
    "reversal_month": Reversal(window=21),
}


def pooled(codes: np.ndarray, labels: np.ndarray, sample: np.ndarray, family: str) -> FieldCategorical:
    """Return a category with its thin levels, and the assets without one, in ``(other)``; `sample` holds the codes that count."""
    counts = np.bincount(sample[sample >= 0], minlength=len(labels))
    kept = np.flatnonzero(counts >= THIN)
    column = np.full(len(labels) + 1, len(kept), dtype=np.int64)
    column[kept] = np.arange(len(kept))
    levels = [f"{family}:{labels[code]}" for code in kept]
    if (column[codes.astype(np.int64)] == len(kept)).any():
        levels.append(f"{family}:(other)")
    return FieldCategorical(values=column[codes.astype(np.int64)], levels=np.array(levels, dtype=str))


def largest(field: FieldCategorical, row: int, weights: np.ndarray) -> int:
    return int(np.bincount(field.values[row], weights=weights, minlength=len(field.levels)).argmax())


def join_sessions(returns: np.ndarray, closed: np.ndarray) -> np.ndarray:
    """Return returns in which those of a closed session are compounded into the next session's; NaN where both are."""
    result = returns.copy()
    for t in np.flatnonzero(closed[:-1]):
        both = np.stack([result[t], result[t + 1]])
        known = np.isfinite(both)
        result[t + 1] = np.where(known.any(axis=0), np.where(known, 1 + both, 1.0).prod(axis=0) - 1, np.nan)
    return result


def read(folder: Path) -> tuple[AssetPanel, list[tuple[str, str]], np.ndarray, np.ndarray]:
    """Return the panel, the zero-sum families with the category that closes each, the panel's days and the days asked for.

    Before the first day with half the members of the first day asked for, that day's stand in: all they decide there is the
    market's return.
    """
    with np.load(folder / "panel.npz") as file:
        data = {name: file[name] for name in file.files}
    asked, members, traded = data["asked"], data["members"], np.isfinite(data["returns"])
    first, count = int(asked[0]), members.sum(axis=1)
    begin = int(np.argmax(2 * count >= count[first]))
    members[:begin] = members[begin]
    members &= data["active"]
    fields = {
        family: pooled(data[family], data[f"{family}_labels"], data[family][first, members[first]], family)
        for family in ("country", "sector")
    }
    fields = {family: field for family, field in fields.items() if len(field.levels) > 1}
    closed, families = np.zeros(len(members), dtype=bool), []
    for family, field in fields.items():
        drop = largest(field, first, np.where(members[first], np.nan_to_num(data["market_cap"][first]), 0.0))
        closed |= ~(members & traded & (field.values == drop)).any(axis=1)
        families.append((family, str(field.levels[drop])))
    closed |= ~(members & traded).any(axis=1)
    kept = np.flatnonzero(~closed)
    active = data["active"][kept]
    returns = np.where(active, join_sessions(data["returns"], closed)[kept], np.nan)
    cap = np.where(active, data["market_cap"][kept], np.nan)
    cap /= np.nanmean(cap)
    panel = AssetPanel(
        fields={
            "returns": np.maximum(returns, -0.9999),
            "market_cap": cap,
            # Share turnover is volume over shares, hence value traded over market cap.
            "adj_volume": np.where(active, data["dollar_volume"][kept], np.nan),
            "adj_shares_outstanding": cap,
            **{
                family: FieldCategorical(values=np.where(active, field.values[kept], -1), levels=field.levels)
                for family, field in fields.items()
            },
        },
        observations=data["dates"][kept],
        asset_names=np.array([f"A{i:05d}" for i in range(active.shape[1])]),
        active_mask=active,
        estimation_mask=members[kept],
    )
    return panel, families, kept, asked


def model(families: list[tuple[str, str]], ridge: float | None = None) -> CharacteristicsFactorModel:
    """Return the model, with least squares or with a ridge."""
    one_hot = [(family, OneHotCategoricalFactors(family, family=family)) for family, _ in families]
    styles = [(name, style(descriptor)) for name, descriptor in STYLES.items()]
    return CharacteristicsFactorModel(
        factors=[("market", GlobalFactor()), *one_hot, *styles],
        constrained_families=families or None,
        cs_regressor=None if ridge is None else CSLinearRegressorWrapper(Ridge(alpha=ridge, fit_intercept=False)),
        max_history=KEPT_DAYS,
    )


def forecasts(folder: Path) -> None:
    """Write a model per row asked for: X (NaN where it has none), F and d, per day."""
    panel, families, kept, asked = read(folder)
    fitted, done = model(families, ridge=1e-6), 0
    for row in asked:
        stop = int(np.searchsorted(kept, row, side="right"))
        if done == 0:
            fitted.fit(characteristics=panel[:stop])
        elif stop > done:
            fitted.partial_fit(characteristics=panel[done:stop])
        done = stop
        found = fitted.factor_model_
        np.savez(
            folder / f"model-{row}.npz",
            exposures=found.loading_matrix,
            covariance=found.factor_covariance,
            variance=found.idio_covariance,
            regime=fitted.idio_variance_estimator_.regime_multiplier_,
        )
    joined = int(asked[-1] - kept[0] + 1 - np.searchsorted(kept, asked[-1], side="right"))
    print(json.dumps({"factors": list(map(str, fitted.factor_model_.factor_names)), "joined": joined}))


def speed(folder: Path) -> None:
    """Time the fit up to the first row asked for, then a `partial_fit` per row asked for, then one of a single day."""
    panel, families, kept, asked = read(folder)
    stops = [int(np.searchsorted(kept, row, side="right")) for row in asked]
    fitted = model(families)
    began = time.process_time()
    fitted.fit(characteristics=panel[: stops[0]])
    first = time.process_time() - began
    began = time.process_time()
    for start, stop in pairwise(stops[:-1]):
        fitted.partial_fit(characteristics=panel[start:stop])
    later = time.process_time() - began
    began = time.process_time()
    fitted.partial_fit(characteristics=panel[stops[-2] : stops[-1]])
    day = time.process_time() - began
    print(
        json.dumps(
            {
                "days": stops[0],
                "fit": first,
                "updates": len(stops) - 2,
                "update": later / max(len(stops) - 2, 1),
                "day": day,
                "factors": len(fitted.factor_model_.factor_names),
                "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
            }
        )
    )


if __name__ == "__main__":
    warnings.simplefilter("ignore", RuntimeWarning)  # means of all-NaN columns inside skfolio
    {"forecasts": forecasts, "speed": speed}[sys.argv[1]](Path(sys.argv[2]))
