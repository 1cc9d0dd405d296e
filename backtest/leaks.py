"""Twelve ways to look ahead, each planted in one function of the pipeline: what an audit must catch before it is believed.

They are the mistakes that backtests are known for: a window that is centred, labels as they are today, a statistic of the
whole sample, a file taken by its nearest date in place of its last. A leak holds in its own process, while its context is open.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import pandas as pd

from backtest import dataset, labels, simulator, strategy
from backtest import universe as membership
from engine.metamodel import MetaModel
from risk import Panel
from risk import history as regressions
from risk.calibration import forecast_multiplier
from risk.checks import FloatArray

__all__ = ["LEAKS", "Leak"]

NEAR = 5
"""Sessions by which some of them look ahead."""

Function = Callable[..., Any]


@dataclass(frozen=True)
class Leak:
    """One way to look ahead.

    Attributes
    ----------
    name : str
    what : str
        What the pipeline does wrong while it is planted.
    field : str
        Whose replacement must show it: see `backtest.lookahead`.
    places : tuple of (module or class, str)
        Under which names one function is known.
    change : callable
        Given that function, returns the one that looks ahead.
    on : {"decision", "fill"}
        The kind of session after which the data must change for it to show.
    """

    name: str
    what: str
    field: str
    places: tuple[tuple[Any, str], ...]
    change: Callable[[Function], Function]
    on: Literal["decision", "fill"] = "decision"

    @contextmanager
    def planted(self) -> Iterator[None]:
        """Let the pipeline look ahead while the context is open."""
        honest = [getattr(owner, name) for owner, name in self.places]
        leaky = self.change(honest[0])
        try:
            for owner, name in self.places:
                setattr(owner, name, leaky)
            yield
        finally:
            for (owner, name), function in zip(self.places, honest, strict=True):
                setattr(owner, name, function)


def _describe_tomorrow(honest: Function) -> Function:
    def leaky(panel: Panel, *args: Any, **options: Any) -> Any:
        moved_up = np.vstack([panel.returns[1:], panel.returns[-1:]])
        return honest(replace(panel, returns=moved_up), *args, **options)

    return leaky


def _standardise_over_time(honest: Function) -> Function:
    def leaky(*args: Any, **options: Any) -> Any:
        found = honest(*args, **options)
        raw = pd.DataFrame(found.raw.reshape(len(found.raw), -1).astype(np.float64))
        scores = (raw - raw.mean()) / raw.std().replace(0.0, np.nan)
        return replace(found, raw=scores.to_numpy(dtype=np.float32).reshape(found.raw.shape))

    return leaky


def _centre_the_window(_: Function) -> Function:
    def leaky(values: FloatArray, days: int, minimum: int) -> FloatArray:
        centred: FloatArray = pd.DataFrame(values).rolling(days, min_periods=minimum, center=True).median().to_numpy()
        return centred

    return leaky


def _label_as_today(honest: Function) -> Function:
    def leaky(table: labels.LabelTable, field: str, *args: Any) -> Any:
        always = pd.Series(pd.NaT, index=table.rows.index, dtype="datetime64[us]")
        last = table.rows.assign(valid_from=always).drop_duplicates("asset", keep="last")
        # Labels that nobody has any more are still labels.
        others = table.rows.assign(valid_from=always, asset="").drop_duplicates(field)
        return honest(replace(table, rows=pd.concat([last, others])), field, *args)

    return leaky


def _take_later_predictions(honest: Function) -> Function:
    def leaky(data: dataset.Dataset, date: pd.Timestamp, *args: Any) -> Any:
        dates = data.prediction_dates()
        later = dates[(dates > date) & (dates <= date + pd.Timedelta(days=7))]
        return data.predictions(later[0]) if len(later) else honest(data, date, *args)

    return leaky


def _take_later_stakes(honest: Function) -> Function:
    return lambda data, date: honest(data, date + pd.Timedelta(days=7))


def _scale_by_what_follows(honest: Function) -> Function:
    def leaky(market: strategy.Market, t: int, meta: MetaModel, *args: Any, **options: Any) -> Any:
        ahead = np.nan_to_num(market.panel.returns[t + 1 : t + 1 + NEAR, market.universe.members[t]])
        scaled = meta.scores * (1 + np.sqrt((ahead**2).sum(axis=0)))
        return honest(market, t, replace(meta, scores=scaled), *args, **options)

    return leaky


def _estimate_later(honest: Function) -> Function:
    def leaky(panel: Panel, *args: Any, t: int, **options: Any) -> Any:
        return honest(panel, *args, t=min(t + NEAR, len(panel.dates) - 1), **options)

    return leaky


def _calibrate_on_tomorrow(honest: Function) -> Function:
    def leaky(simulation: Any, t: int, nav: float) -> Any:
        panel, record = simulation.panel, simulation.calibration
        kept = record.multiplier
        if t + 1 < len(panel.dates) and record._forecasts:
            tomorrow = float(simulation.ledger.weights @ np.nan_to_num(panel.returns[t + 1]))
            made = np.array([*record._forecasts, record._forecasts[-1]])
            earned = np.array([*record._realised, tomorrow])
            rule = simulation.product.risk_model
            record.multiplier = forecast_multiplier(made, earned, rule, panel.periods_per_year)
        try:
            return honest(simulation, t, nav)
        finally:
            record.multiplier = kept

    return leaky


def _fill_what_gains(honest: Function) -> Function:
    def leaky(simulation: Any, t: int) -> Any:
        close = simulation.panel.close
        for orders in simulation.ledger.orders.due(t) if t + 1 < len(close) else []:
            loses = orders.shares * (close[t + 1] - close[t]) < 0
            orders.shares = np.where(loses, 0.0, orders.shares)
        return honest(simulation, t)

    return leaky


def _keep_survivors(honest: Function) -> Function:
    def leaky(panel: Panel, *args: Any, **options: Any) -> Any:
        found, end = honest(panel, *args, **options), len(panel.dates) - 1
        last = end - panel.has_row[::-1].argmax(axis=0)
        return replace(found, members=found.members & (last == end))

    return leaky


def _know_the_end(honest: Function) -> Function:
    def leaky(simulation: Any, t: int, nav: float) -> Any:
        last = t == len(simulation.panel.dates) - 1
        return honest(simulation, t, nav * (1 - simulation.product.incentive_fee) if last else nav)

    return leaky


_DESCRIPTORS = ((regressions, "trailing_descriptors"),)
_MEDIANS = ((membership, "trailing_median"), (simulator, "trailing_median"))
_DECIDE = ((simulator._Simulation, "_decide"),)

LEAKS = (
    Leak(
        "tomorrow in descriptors",
        "style descriptors of a day hold the return of the next",
        "return",
        _DESCRIPTORS,
        _describe_tomorrow,
    ),
    Leak(
        "whole-sample standardisation",
        "descriptors are standardised by the mean and deviation of all days",
        "return",
        _DESCRIPTORS,
        _standardise_over_time,
    ),
    Leak(
        "volume to come",
        "the median volume behind universe and costs is that of a centred window",
        "dollar_volume",
        _MEDIANS,
        _centre_the_window,
    ),
    Leak(
        "labels of today",
        "country and sector are those of an asset's last row in the file",
        "labels",
        ((labels.LabelTable, "codes"),),
        _label_as_today,
    ),
    Leak(
        "predictions to come",
        "a decision takes the next predictions where there are some within a week",
        "predictions",
        ((dataset.Dataset, "latest_predictions"),),
        _take_later_predictions,
    ),
    Leak(
        "stakes to come",
        "a decision takes the stakes of a week later",
        "stakes",
        ((dataset.Dataset, "stakes"),),
        _take_later_stakes,
    ),
    Leak(
        "volatility to come",
        "alpha is scaled by the volatility of the days that follow",
        "return",
        ((simulator, "prepare"),),
        _scale_by_what_follows,
    ),
    Leak(
        "covariance to come",
        "the risk model of a decision is that of a week later",
        "return",
        ((strategy, "estimate"),),
        _estimate_later,
    ),
    Leak(
        "calibration on tomorrow",
        "the forecast is calibrated on a return that is not earned yet",
        "return",
        _DECIDE,
        _calibrate_on_tomorrow,
    ),
    Leak(
        "fills that gain",
        "an order is dropped where the close after its fill is worse",
        "close",
        ((simulator._Simulation, "_account"),),
        _fill_what_gains,
        "fill",
    ),
    Leak(
        "survivors",
        "names without a row on the last day are left out of the universe from the start",
        "rows",
        ((simulator, "universe"),),
        _keep_survivors,
    ),
    Leak(
        "end of the run known",
        "the last decision sets aside what the run's end will cost",
        "last day",
        _DECIDE,
        _know_the_end,
    ),
)
"""All of them."""
