"""True contribution over a run: one round for each decision whose scoring horizon has ended."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from threadpoolctl import threadpool_limits

from backtest.dataset import Dataset
from backtest.forward import forward_returns
from backtest.products import Product
from backtest.simulator import Progress, market_of
from backtest.store import SCHEMAS, Run, write_whole
from backtest.strategy import Market, prepare
from engine import Contribution, Mandate, Problem, ScoreRule, true_contribution
from risk import DataError
from risk.checks import BoolArray, FloatArray

__all__ = ["attribute_run", "round_of"]

Round = tuple[pd.Timestamp, pd.DataFrame, pd.Series, Problem, FloatArray, FloatArray]


def round_of(
    data: Dataset,
    product: Product,
    mandate: Mandate,
    market: Market,
    gone: BoolArray,
    t: int,
    nav: float,
    multiplier: float = 1.0,
) -> Round | None:
    """Return what `true_contribution` takes for the decision of day t, or None where its horizon has not ended.

    The book starts empty. Every model with a usable prediction takes part, staked or not.
    """
    ahead = forward_returns(market.panel, gone, t, lag=product.score_lag_days, horizon=product.score_horizon_days)
    if ahead is None:
        return None
    date = market.panel.dates[t]
    predictions = data.latest_predictions(date, product.maximum_prediction_age_days)
    empty = np.zeros(len(market.panel.assets))
    decision = prepare(market, t, market.signals[t].meta, empty, nav, mandate, multiplier=multiplier)
    models = decision.meta.models
    scored = models.index[models["used"] | (models["reason"] == "no stake")]
    values = predictions.values.reindex(index=decision.problem.model.assets)[list(scored)]
    stakes = models.loc[scored, "stake"].fillna(0.0)
    return date, values, stakes, decision.problem, ahead[decision.assets], decision.alpha_scale


def _score(job: tuple[Round, int, int, ScoreRule]) -> tuple[pd.Timestamp, Contribution]:
    (date, predictions, stakes, problem, ahead, scale), masks, seed, rule = job
    # Rounds run side by side, so each takes one thread.
    with threadpool_limits(1):
        return date, true_contribution(
            predictions, stakes, problem, ahead, alpha_scale=scale, masks=masks, seed=seed, rule=rule, jobs=1
        )


def _plain(value: Any) -> Any:
    """Return arrays and numpy numbers as JSON holds them."""
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else str(value)


def attribute_run(
    run: Run,
    *,
    masks: int = 100,
    seed: int = 0,
    rounds: int | None = None,
    workers: int | None = None,
    progress: Progress = lambda _stage, _done: None,
) -> Run:
    """Write `contribution.parquet` and `gradient.parquet` into a finished run.

    Parameters
    ----------
    masks : int
        Stake-dropout masks of a round.
    seed : int
    rounds : int, optional
        Only the last so many resolved rounds. Default: all.
    workers : int, optional
        Processes; the result does not depend on it. Default: the machine's cores.

    Raises
    ------
    DataError
        If the data set has moved or changed since the run, or no round is resolved.
    """
    data = Dataset(run.record["data"]["path"])
    if data.fingerprint() != run.record["data"]["fingerprint"]:
        raise DataError(f"{data.folder}: has changed since {run.folder} was made; run the backtest again.")
    product = Product.model_validate(run.record["product"])
    mandate = Mandate.model_validate(run.record["mandate"])
    with threadpool_limits(1):
        market, gone = market_of(data, product, mandate, progress=progress)
    nav, multiplier = run.nav["nav"], run.table("solves").set_index("date")["multiplier"]
    positions = market.panel.dates.get_indexer(pd.DatetimeIndex(multiplier.index))
    horizon = product.score_lag_days + product.score_horizon_days
    resolved = [int(t) for t in positions if t + horizon < len(market.panel.dates)]
    resolved = resolved if rounds is None else resolved[-rounds:]
    if not resolved:
        raise DataError(f"{run.folder}: no round is resolved; a score needs {horizon} trading days after its decision.")

    rule = ScoreRule(horizon_days=product.score_horizon_days, lag_days=product.score_lag_days)

    def jobs() -> Iterator[tuple[Round, int, int, ScoreRule]]:
        for t in resolved:
            date = market.panel.dates[t]
            item = round_of(data, product, mandate, market, gone, t, float(nav[date]), float(multiplier[date]))
            assert item is not None
            yield item, masks, seed, rule

    scores, gradients, log = [], [], []
    with threadpool_limits(1), ProcessPoolExecutor(workers or os.cpu_count(), mp_context=get_context("spawn")) as pool:
        for done, (date, result) in enumerate(pool.map(_score, jobs())):
            progress("true contribution", done / len(resolved))
            table = result.scores.reset_index(names="model")
            scores.append(table[["model", "stake", "true_contribution", "mask_standard_error"]].assign(date=date))
            gradients.append(pd.DataFrame({"date": date, "asset": result.assets, "gradient": result.gradient}))
            log.append(
                {
                    "date": f"{date:%Y-%m-%d}",
                    "portfolio_return": result.portfolio_return,
                    "mask_return": result.mask_return,
                    "free_directions": int(np.median(result.free_directions)),
                    "flagged": bool(result.flagged),
                    "derivative_residual": result.derivative_residual,
                    "fallbacks": result.fallbacks,
                    "options": dict(result.options),
                }
            )
    for name, frames in (("contribution", scores), ("gradient", gradients)):
        schema = SCHEMAS[name]
        table = pa.Table.from_pandas(pd.concat(frames)[schema.names], schema, preserve_index=False)
        partial = run.folder / f"{name}.parquet.partial"
        pq.write_table(table, partial, compression="zstd")
        partial.rename(run.folder / f"{name}.parquet")
    # Everything that a score depends on beside the data: without it nobody could compute it again.
    write_whole(run.folder / "contribution.json", json.dumps({"rounds": log}, indent=2, default=_plain) + "\n")
    progress("true contribution", 1.0)
    return run
