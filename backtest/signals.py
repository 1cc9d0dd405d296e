"""What the fund bets on, day by day: the meta model of every decision, and the exposures that it stands for.

An optimizer goes where its risk model is blind, and specific returns of assets that a fund's signals like have much in common.
Two factors are therefore in the model and under no limit: ``signal:meta_model``, the score z, and ``signal:alpha``, z times the
asset's volatility, which is the direction of alpha under Grinold's rule. Between decisions both stay as they were.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from backtest.dataset import Dataset
from backtest.products import Product, decision_days
from backtest.universe import Universe
from engine import Mandate
from engine.metamodel import MetaModel, meta_model
from risk import DataError, Panel
from risk.panel import UserExposures

__all__ = ["SIGNALS", "Signal", "known_signals", "signal_at", "signal_exposures"]

SIGNALS = ("signal:meta_model", "signal:alpha")
VOLATILITY_HALF_LIFE, VOLATILITY_MINIMUM = 84, 21


@dataclass(frozen=True, eq=False)
class Signal:
    """One decision's meta model.

    Attributes
    ----------
    published : Timestamp
        Date of the predictions behind it.
    meta : MetaModel
        Over the universe of the decision, in the panel's order.
    """

    published: pd.Timestamp
    meta: MetaModel


def signal_at(data: Dataset, product: Product, mandate: Mandate, panel: Panel, universe: Universe, t: int) -> Signal:
    """Return the meta model as known at the close of day t.

    Raises
    ------
    DataError
        If there are no recent predictions, or no staked model can be used.
    """
    date = panel.dates[t]
    predictions = data.latest_predictions(date, product.maximum_prediction_age_days)
    stakes = data.stakes(date)
    try:
        meta = meta_model(
            predictions.values,
            stakes,
            assets=tuple(np.array(panel.assets, dtype=object)[universe.members[t]]),
            submitted=predictions.submitted,
            deadline=predictions.date + pd.Timedelta(days=1, microseconds=-1),
            minimum_assets=mandate.minimum_model_assets,
        )
    except DataError as error:
        raise DataError(
            f"decision of {date:%Y-%m-%d}, `predictions/{predictions.date:%Y-%m-%d}` with the stakes in force: {error}"
        ) from error
    return Signal(predictions.date, meta)


def known_signals(
    data: Dataset,
    product: Product,
    mandate: Mandate,
    panel: Panel,
    universe: Universe,
    *,
    also: int | None = None,
    progress: Callable[[int, int], None],
) -> dict[int, Signal]:
    """Return the signals of all decision days on which there is one.

    A day without one is left out here; a decision on it says why by asking for it again (`signal_at`).

    Parameters
    ----------
    also : int, optional
        Another day, on which a decision is made outside the schedule.
    progress : callable
        Called with (days done, days in all).
    """
    scheduled = decision_days(panel.dates, product.rebalance)
    if also is not None:
        scheduled[also] = True
    days = np.flatnonzero(scheduled)
    found = {}
    for done, t in enumerate(map(int, days)):
        with suppress(DataError):
            found[t] = signal_at(data, product, mandate, panel, universe, t)
        progress(done + 1, len(days))
    return found


def signal_exposures(
    panel: Panel, universe: Universe, signals: Mapping[int, Signal], beside: UserExposures | None = None
) -> UserExposures | None:
    """Return the factors that the signals stand for, on every day of the panel, after those of `beside`.

    NaN outside the universe of the last decision, before the first, and of ``signal:alpha`` where fewer than 21 returns
    are known. The volatility is the exponentially weighted root mean square of daily returns, half-life 84. Without any
    signal there is no such factor.

    Raises
    ------
    DataError
        If `beside` has a factor of the same name.
    """
    if not signals:
        return beside
    values = np.full((len(panel.dates), len(SIGNALS), len(panel.assets)), np.nan, dtype=np.float32)
    volatility = (
        pd.DataFrame(panel.returns)
        .pow(2)
        .ewm(halflife=VOLATILITY_HALF_LIFE, min_periods=VOLATILITY_MINIMUM)
        .mean()
        .pow(0.5)
        .to_numpy()
    )
    days = sorted(signals)
    for t, following in zip(days, [*days[1:], len(panel.dates)], strict=True):
        score: npt.NDArray[np.float64] = np.full(len(panel.assets), np.nan)
        score[universe.members[t]] = signals[t].meta.scores
        values[t:following] = np.stack([score, score * volatility[t]])
    if beside is None:
        return UserExposures(SIGNALS, values)
    taken = [name for name in SIGNALS if name in beside.factors]
    if taken:
        raise DataError(
            f"`exposures`: the column {taken[0]!r} has the name of the fund's own signal. Rename it, or set `signal_factors = false` "
            "in the product."
        )
    return UserExposures((*beside.factors, *SIGNALS), np.concatenate([beside.values, values], axis=1))
