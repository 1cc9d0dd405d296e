"""Named models that anyone can compute from a data set's market file alone.

They give real prices a real set of staked models: a fund can be run on them, and a model owner can be compared with them.
Each is point in time: its predictions at t read rows up to t. Higher predicts a higher return; ranks are what counts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from backtest import price_signals as signals
from backtest.benchmark_files import open_target, write_date, write_equal_stakes
from backtest.cross_section import YEAR, CrossSection
from backtest.dataset import Dataset
from backtest.learned_models import LEARNERS, WalkForward, feature_matrix
from backtest.products import decision_days
from backtest.universe import UniverseRule, universe
from risk import DataError, Panel
from risk.checks import BoolArray, FloatArray

__all__ = [
    "MODELS",
    "BenchmarkModel",
    "BenchmarkSummary",
    "benchmark_predictions",
    "weekly_dates",
    "write_benchmark_models",
]

MIN_MEMBERS = 20

Progress = Callable[[float], None]


@dataclass(frozen=True)
class BenchmarkModel:
    """A named model.

    Attributes
    ----------
    name, description : str
    signal : function of a CrossSection to an array of shape (n,), or None
        None: learned from the other models, see `backtest.learned_models`.
    """

    name: str
    description: str
    signal: Callable[[CrossSection], FloatArray] | None


MODELS: dict[str, BenchmarkModel] = {
    name: BenchmarkModel(name, description, signal)
    for name, description, signal in (
        ("momentum_12_1", "return of the last year without the last month", signals.momentum_12_1),
        ("momentum_6_1", "return of the last six months without the last", signals.momentum_6_1),
        (
            "momentum_12_1_volatility_scaled",
            "12-1 momentum per unit of volatility",
            signals.momentum_12_1_volatility_scaled,
        ),
        ("momentum_12_1_size_neutral", "12-1 momentum less what size explains", signals.momentum_12_1_size_neutral),
        ("residual_momentum", "12-1 mean over deviation of residual returns", signals.residual_momentum),
        ("sector_momentum", "six-month return of the asset's sector", signals.sector_momentum),
        ("high_52_week", "price over its 52-week high", signals.high_52_week),
        ("seasonality", "return in the same season of earlier years", signals.seasonality),
        ("reversal_week", "minus the residual return of the last week", signals.reversal_week),
        ("reversal_month", "minus the residual return of the last month", signals.reversal_month),
        ("low_volatility", "minus the volatility of the last year", signals.low_volatility),
        ("low_volatility_size_neutral", "low volatility less what size explains", signals.low_volatility_size_neutral),
        ("low_beta", "minus the beta of the last year", signals.low_beta),
        ("low_idiosyncratic_volatility", "minus the month's residual volatility", signals.low_idiosyncratic_volatility),
        ("low_maximum_return", "minus the largest daily return of the month", signals.low_maximum_return),
        ("small_size", "minus the logarithm of size", signals.small_size),
        ("volume_shock", "the week's dollar volume over that of ten weeks before", signals.volume_shock),
        ("illiquidity", "absolute return per dollar traded over a year", signals.illiquidity),
        ("ridge", "ridge regression on the models above, walk-forward", None),
        ("gradient_boosting", "boosted trees on the models above, walk-forward", None),
    )
}


@dataclass(frozen=True, eq=False)
class BenchmarkSummary:
    """What `write_benchmark_models` wrote, and what it left out.

    Attributes
    ----------
    folder : Path
        The data set that now has predictions and stakes.
    dates : DatetimeIndex
        Dates with a predictions file.
    skipped_dates : DatetimeIndex
        Weekly dates without one, because the universe had fewer than 20 members.
    models : DataFrame
        Index: every model. `dates`: how many files hold it; `predictions`: how many values it has in them; `absent`: how
        many files do not hold it, because it knew nothing or told no two assets apart.
    learned_rows : int
        Rows that a learned model predicted.
    filled_features : int
        Signals of those rows that were not known and were taken as 0, the median.
    """

    folder: Path
    dates: pd.DatetimeIndex
    skipped_dates: pd.DatetimeIndex
    models: pd.DataFrame
    learned_rows: int
    filled_features: int


def weekly_dates(dates: pd.DatetimeIndex) -> npt.NDArray[np.intp]:
    """Return the positions of the first trading day of each ISO week that has a year of history, ascending.

    They are the decision days of a weekly rebalance: see `decision_days`.

    Examples
    --------
    >>> weekly_dates(pd.bdate_range("2020-01-01", periods=262))
    array([253, 258])
    """
    first = np.flatnonzero(decision_days(dates, "weekly"))
    return first[first >= YEAR]


def benchmark_predictions(
    panel: Panel,
    members: BoolArray,
    size: FloatArray,
    dates: Iterable[pd.Timestamp] | None = None,
    *,
    progress: Progress | None = None,
) -> Iterator[tuple[pd.Timestamp, pd.DataFrame]]:
    """Return an iterator over decision dates of the benchmark models' predictions.

    Parameters
    ----------
    panel : Panel
        T days by N assets.
    members : bool ndarray of shape (T, N)
        The universe, point in time: who is in it at the close of each day.
    size : ndarray of shape (T, N)
        Market cap or size proxy; NaN where not known.
    dates : iterable of Timestamp, optional
        Trading days to predict on. Default: `weekly_dates`, without those on which the universe has fewer than 20 members.
        What is predicted on a date does not depend on which others are asked for.
    progress : callable, optional
        Called after each date with the share of the work that is done.

    Yields
    ------
    date : Timestamp
    predictions : DataFrame of shape (n, models)
        Index: the date's members. NaN where not known; the learned models' columns are all NaN until they have learned.

    Raises
    ------
    DataError
        If shapes disagree, the panel has no weekly date with a year of history, the universe never has 20 members, or a
        date that was asked for is no trading day, has no year of history or has fewer than 20 members.
    """
    for name, array in (("members", members), ("size", size)):
        if array.shape != panel.returns.shape:
            raise DataError(f"`{name}` must have the panel's shape {panel.returns.shape}; got {array.shape}.")
    counts = members.sum(axis=1)
    schedule = weekly_dates(panel.dates)
    if not len(schedule):
        raise DataError(
            f"`panel.dates` must hold at least {YEAR} trading days before a week begins, as the models look back a year; "
            f"got {len(panel.dates)} days. Use a data set with a longer history."
        )
    usable = schedule[counts[schedule] >= MIN_MEMBERS]
    if not len(usable):
        raise DataError(
            f"`members` must hold at least {MIN_MEMBERS} assets on a weekly date, as ranks of fewer say nothing; the most "
            f"is {int(counts[schedule].max())}. Use a data set with more assets, or a wider universe rule."
        )
    asked = usable if dates is None else _positions(panel.dates, dates, counts)
    return _walk(panel, members, size, usable, asked, progress)


def _positions(
    days: pd.DatetimeIndex, dates: Iterable[pd.Timestamp], counts: npt.NDArray[np.int64]
) -> npt.NDArray[np.intp]:
    """Return where the dates asked for stand in the panel, ascending, each checked."""
    wanted = pd.DatetimeIndex(list(dates)).unique().sort_values()
    positions = days.get_indexer(wanted)
    for date, t in zip(wanted, positions, strict=True):
        if t < 0:
            raise DataError(f"`dates` must be trading days of the panel; {date} is none. Choose days of `panel.dates`.")
        if t < YEAR:
            raise DataError(
                f"`dates` must have {YEAR} trading days before them; {date:%Y-%m-%d} has {t}. "
                f"Begin at {days[min(YEAR, len(days) - 1)]:%Y-%m-%d} or later."
            )
        if counts[t] < MIN_MEMBERS:
            raise DataError(
                f"`members` must hold at least {MIN_MEMBERS} assets on a date that is asked for; {date:%Y-%m-%d} has "
                f"{int(counts[t])}. Leave the date out, or use a wider universe rule."
            )
    return positions


def _walk(
    panel: Panel,
    members: BoolArray,
    size: FloatArray,
    schedule: npt.NDArray[np.intp],
    asked: npt.NDArray[np.intp],
    progress: Progress | None,
) -> Iterator[tuple[pd.Timestamp, pd.DataFrame]]:
    """Walk from week to week up to the last date asked for, learning on the schedule and predicting where asked."""
    learner = WalkForward(panel.returns)
    weekly, wanted = set(schedule.tolist()), set(asked.tolist())
    days = sorted(weekly | wanted)
    days = [t for t in days if t <= max(wanted, default=-1)]
    assets = np.asarray(panel.assets, dtype=object)
    simple = [(name, model.signal) for name, model in MODELS.items() if model.signal is not None]
    for done, t in enumerate(days, start=1):
        section = CrossSection.at(panel, members, size, t)
        values = {name: signal(section) for name, signal in simple}
        features = feature_matrix(np.column_stack(list(values.values())))
        if t in weekly:
            learner.renew(t)
        if t in wanted:
            values |= learner.predict(features)
            index = pd.Index(assets[section.columns], name="asset")
            yield panel.dates[t], pd.DataFrame(values, index=index, columns=list(MODELS))
        if t in weekly:
            learner.add(t, section, features)
        if progress is not None:
            progress(done / len(days))


def write_benchmark_models(
    data: Dataset, out: Path | None = None, *, rule: UniverseRule | None = None, progress: Progress | None = None
) -> BenchmarkSummary:
    """Write the benchmark models' weekly predictions, and a stake of 1 for each model, whole or not at all.

    Parameters
    ----------
    data : Dataset
    out : Path, optional
        Default: the data set's own folder. Another folder, which must not exist or be empty, becomes a copy of the data
        set with these predictions and stakes.
    rule : UniverseRule, optional
        Whom the models predict. Default: the rule for the columns that the market file has.
    progress : callable, optional
        Called after each date with the share of the work that is done.

    Raises
    ------
    DataError
        If there are predictions or stakes already, the place cannot be written, the history is shorter than a year, or
        the universe never has 20 members.

    Notes
    -----
    A `Dataset` that was opened before does not see what was written: open `BenchmarkSummary.folder`.
    """
    with open_target(data.folder, data.folder if out is None else Path(out)) as work:
        panel = data.panel()
        chosen = rule or UniverseRule.for_columns(data.market_columns())
        who = universe(panel, chosen, stale_days=data.settings.stale_days)
        counts = pd.DataFrame(0, index=pd.Index(list(MODELS), name="model"), columns=["dates", "predictions"])
        dates: list[pd.Timestamp] = []
        learned_rows = filled = 0
        for date, predictions in benchmark_predictions(panel, who.members, who.size, progress=progress):
            written = write_date(work, date, predictions)
            dates.append(date)
            counts.loc[written.columns, "dates"] += 1
            counts.loc[written.columns, "predictions"] += written.count()
            learned = predictions[predictions[list(LEARNERS)].notna().any(axis=1)]
            learned_rows += len(learned)
            filled += int(learned.drop(columns=list(LEARNERS)).isna().sum().sum())
        # A model that never spoke gets no stake: it would be a stake on nothing.
        write_equal_stakes(work, dates[0], list(counts.index[counts["dates"] > 0]))
    counts["absent"] = len(dates) - counts["dates"]
    schedule = panel.dates[weekly_dates(panel.dates)]
    return BenchmarkSummary(
        folder=data.folder if out is None else Path(out),
        dates=pd.DatetimeIndex(dates, name="date"),
        skipped_dates=schedule.difference(dates),
        models=counts,
        learned_rows=learned_rows,
        filled_features=filled,
    )
