"""Which models added to the book, over rounds: mean true contribution with a standard error that knows of overlap."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from backtest.store import Run
from risk import DataError
from risk.checks import BoolArray, FloatArray

__all__ = ["contribution_summary", "run_contributions", "scoring_block"]


def scoring_block(rounds: pd.DatetimeIndex, sessions: pd.DatetimeIndex, scoring_days: int) -> int:
    """Return the bootstrap's block length: twice the number of rounds whose scoring windows overlap one another.

    Parameters
    ----------
    rounds, sessions : DatetimeIndex
        Dates of the rounds, and of the account.
    scoring_days : int
        Sessions from a round to the end of its scoring window: lag and horizon.

    Examples
    --------
    >>> days = pd.bdate_range("2024-01-01", periods=60)
    >>> scoring_block(days[::5], days, 22)
    10
    """
    gaps = np.diff(sessions.searchsorted(rounds.unique().sort_values()))
    return 2 * math.ceil(scoring_days / max(float(np.median(gaps)), 1.0)) if len(gaps) else 2


def contribution_summary(contribution: pd.DataFrame, *, block: int, draws: int = 1000, seed: int = 0) -> pd.DataFrame:
    """Return each model's mean true contribution over rounds, with a standard error that respects overlapping rounds.

    Parameters
    ----------
    contribution : DataFrame with columns date, model, stake, true_contribution, [mask_standard_error]
        A row for each round and model that was scored.
    block : int
        Length of the bootstrap's blocks, in rounds: twice the number of rounds whose scoring windows overlap.
    draws, seed : int

    Returns
    -------
    DataFrame by model, best first
        ``rounds``, ``stake`` (mean), ``true_contribution`` (mean), ``standard_error`` (NaN where there are fewer than two blocks of
        rounds), ``share_positive`` (of rounds).

    References
    ----------
    Politis and Romano (1992), A circular block-resampling procedure for stationary data. All models share the drawn rounds.
    """
    if block < 1 or draws < 2:
        raise DataError(f"`block` must be >= 1 and `draws` >= 2; got {block} and {draws}.")
    if contribution.duplicated(["date", "model"]).any():
        raise DataError("contribution: a round and model appear twice; run `metafolio attribute` again.")
    scores = contribution.set_index(["date", "model"])["true_contribution"].unstack("model").sort_index()  # noqa: PD010
    known = scores.notna().to_numpy()
    values = np.where(known, scores.to_numpy(dtype=np.float64), 0.0)
    by_model = contribution.groupby("model")
    summary = pd.DataFrame(
        {
            "rounds": known.sum(axis=0),
            "stake": by_model["stake"].mean().reindex(scores.columns).to_numpy(),
            "true_contribution": scores.mean().to_numpy(),
            "standard_error": _bootstrap_error(values, known, block, draws, seed),
            "share_positive": np.where(
                known.any(axis=0), (values > 0).sum(axis=0) / np.maximum(known.sum(axis=0), 1), np.nan
            ),
        },
        index=pd.Index(scores.columns, name="model"),
    )
    return summary.sort_values("true_contribution", ascending=False, kind="stable")


def _bootstrap_error(values: FloatArray, known: BoolArray, block: int, draws: int, seed: int) -> FloatArray:
    rounds = len(values)
    if rounds < 2 * block:
        return np.full(values.shape[1], np.nan)
    rng = np.random.default_rng(seed)
    starts = rng.integers(rounds, size=(draws, -(-rounds // block)))
    picked = ((starts[:, :, None] + np.arange(block)) % rounds).reshape(draws, -1)[:, :rounds]
    times = np.zeros((draws, rounds))
    np.add.at(times, (np.arange(draws)[:, None], picked), 1.0)
    counts = times @ known
    means = np.divide(times @ values, counts, out=np.full(counts.shape, np.nan), where=counts > 0)
    return np.array(
        [np.std(column[np.isfinite(column)], ddof=1) if np.isfinite(column).sum() > 1 else np.nan for column in means.T]
    )


def run_contributions(run: Run) -> pd.DataFrame:
    """Return `contribution_summary` of an attributed run, with blocks as long as its scoring windows ask for."""
    scored, terms = run.table("contribution"), run.record["product"]
    days = int(terms["score_horizon_days"]) + int(terms["score_lag_days"])
    block = scoring_block(pd.DatetimeIndex(scored["date"]), pd.DatetimeIndex(run.nav.index), days)
    return contribution_summary(scored, block=block)
