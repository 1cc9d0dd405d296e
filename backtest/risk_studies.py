"""Is the model right beyond the book: forecasts for portfolios that know nothing of the fund, and for the model's own."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from backtest.store import Run
from backtest.strategy import Market
from risk import DataError, FactorModel, bias_statistic, estimate
from risk.checks import FloatArray
from risk.evaluation import BiasStatistic, rolling_bias
from risk.model_portfolios import eigen_portfolios, minimum_risk
from risk.portfolios import random_market_neutral

__all__ = ["Studies", "run_studies", "weekly_studies"]

RANDOM_BOOKS, EIGEN_BOOKS = 200, 10
PERIODS, LEAST_PERIODS = 52, 12
"""Periods of a study, the last ones, and the fewest that are judged; the latter is the window of the rolling statistic too."""
FAMILIES = {
    "random market-neutral": "random long-short books of net 0",
    "eigen portfolios": "the leading eigenvectors of the asset covariance: the model's own largest bets",
    "cap-weighted universe": "the universe, weighted by size",
    "minimum variance": "the book of net 1 that the model holds least risky: where an optimizer would go",
}


@dataclass(frozen=True, eq=False)
class Studies:
    """Forecasts of study portfolios through time.

    Attributes
    ----------
    summary : DataFrame by family of portfolios
        ``definition``, ``books``, ``periods``, ``bias`` (mean over books), ``standard_error``, ``lower`` and ``upper`` (band of one book, wide for its
        kurtosis), ``share_inside``, ``realised`` and ``forecast`` (root mean squares, per year), ``inside``.
    rolling : DataFrame, dates by families
        Mean over books of the bias statistic of the last 12 periods.
    band : tuple of float
        Chi-square band of one book's over 12 periods.
    first, last : Timestamp
        Of the forecasts.
    """

    summary: pd.DataFrame
    rolling: pd.DataFrame
    band: tuple[float, float]
    first: pd.Timestamp
    last: pd.Timestamp


def run_studies(run: Run, market: Market, progress: Callable[[float], None]) -> Studies:
    """Return the studies of the models that a run's decisions were made with, each judged until the next decision."""
    dates = run.model_dates()[-PERIODS - 1 :]
    rows = market.panel.dates.get_indexer(pd.DatetimeIndex(dates)).tolist()
    if len(rows) <= LEAST_PERIODS:
        raise DataError(
            f"Study portfolios need {LEAST_PERIODS} decisions with another after them; up to this day there are {max(len(rows) - 1, 0)}."
        )
    models = (run.model(date) for date in dates[:-1])
    return _studies(market, rows, models, progress)


def weekly_studies(market: Market, progress: Callable[[float], None]) -> Studies:
    """Return the studies of models estimated every fifth session of the last year, each judged over five sessions."""
    last = len(market.panel.dates) - 1
    known = np.isfinite(market.history.r_squared).cumsum()
    lengths = market.spec.in_regressions()
    rows = [
        t
        for t in range(last - 5 * PERIODS, last + 1, 5)
        if t >= 0
        and known[t] >= lengths.minimum_history
        and market.universe.members[t].sum() >= market.spec.minimum_assets
    ]
    if len(rows) <= LEAST_PERIODS:
        raise DataError(
            f"Study portfolios need {LEAST_PERIODS} weeks of models with another after them; up to this day there are {max(len(rows) - 1, 0)}."
        )
    members, size = market.universe.members, market.universe.size
    models = (estimate(market.panel, members, size, market.spec, t=t, history=market.history) for t in rows[:-1])
    return _studies(market, rows, models, progress)


def _books(market: Market, t: int, model: FactorModel, assets: npt.NDArray[np.intp]) -> dict[str, FloatArray]:
    """Return the books of each family, shape (P, n)."""
    size = market.history.descriptors.size[t][assets]
    inside = market.universe.members[t][assets]
    caps = np.where(inside, np.nan_to_num(size), 0.0)
    books = {
        "random market-neutral": random_market_neutral(model.assets, RANDOM_BOOKS),
        "cap-weighted universe": (caps / caps.sum())[None, :],
        "minimum variance": minimum_risk(model, np.ones(len(model.assets)))[None, :],
    }
    if len(model.assets) > EIGEN_BOOKS + 1:
        books["eigen portfolios"] = eigen_portfolios(model, EIGEN_BOOKS)
    return books


def _studies(
    market: Market, rows: Sequence[int], models: Iterable[FactorModel], progress: Callable[[float], None]
) -> Studies:
    panel, year = market.panel, market.panel.periods_per_year
    outcomes: dict[str, list[FloatArray]] = {name: [] for name in FAMILIES}
    squares: dict[str, list[tuple[float, float]]] = {name: [] for name in FAMILIES}
    for done, (t, following, model) in enumerate(zip(rows[:-1], rows[1:], models, strict=True)):
        place = pd.Index(panel.assets).get_indexer(pd.Index(model.assets))
        # A day without a row is an unchanged price: the next return spans it.
        gain = np.prod(1.0 + np.nan_to_num(panel.returns[t + 1 : following + 1][:, place]), axis=0) - 1.0
        period = (following - t) / year
        for name, w in _books(market, t, model, place).items():
            exposure = w @ model.exposures
            variance = ((exposure @ model.factor_covariance) * exposure).sum(axis=1) + (w * w) @ model.specific_variance
            realised = w @ gain
            outcomes[name].append(realised / np.sqrt(variance * period))
            squares[name].append((float((realised**2).mean() / period), float(variance.mean())))
        progress((done + 1) / (len(rows) - 1))
    dates = panel.dates[list(rows[1:])]
    complete = {name: np.array(found) for name, found in outcomes.items() if len(found) == len(dates)}
    summary = {name: _row(name, found, squares[name]) for name, found in complete.items()}
    rolling = {name: rolling_bias(found, LEAST_PERIODS).mean(axis=1) for name, found in complete.items()}
    band = bias_statistic(np.zeros(LEAST_PERIODS), kurtosis=3.0)
    return Studies(
        summary=pd.DataFrame.from_dict(summary, orient="index").rename_axis("portfolios"),
        rolling=pd.DataFrame(rolling, index=pd.DatetimeIndex(dates, name="date")).dropna(how="all"),
        band=(band.lower, band.upper),
        first=panel.dates[rows[0]],
        last=panel.dates[rows[-2]],
    )


def _row(name: str, outcomes: FloatArray, squares: Sequence[tuple[float, float]]) -> dict[str, object]:
    found: BiasStatistic = bias_statistic(outcomes)
    realised, forecast = np.sqrt(np.mean(squares, axis=0))
    return {
        "definition": FAMILIES[name],
        "books": found.books,
        "periods": found.periods,
        "bias": found.bias,
        "standard_error": found.standard_error,
        "lower": found.wide_lower,
        "upper": found.wide_upper,
        "share_inside": found.share_inside_wide,
        "realised": float(realised),
        "forecast": float(forecast),
        "inside": bool(found.wide_lower <= found.bias <= found.wide_upper) and math.isfinite(found.bias),
    }
