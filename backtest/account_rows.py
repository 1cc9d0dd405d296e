"""What a run must write down beside its account, so that limits, factors and groups can be told apart from it later.

Three tables, each from what was known at its time:

    assets          of a decision: labels and median daily volume of every asset of its model
    factor_returns  of a day: each factor's return and the book's exposure to it at the close before
    group_returns   of a day: the cap-weighted universe's return by country and by sector
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from backtest.strategy import Market
from risk.checks import BoolArray, FloatArray
from risk.exposures import day_exposures
from risk.residual_factors import blind_names

__all__ = ["asset_rows", "factor_rows", "group_rows"]

UNLABELLED = ""


def asset_rows(market: Market, t: int, chosen: BoolArray) -> pd.DataFrame:
    """Return the labels and tradable volume of a decision's assets, known at the close of day t.

    Parameters
    ----------
    chosen : bool ndarray of shape (N,)
        As `Decision.assets`.

    Returns
    -------
    DataFrame with columns date, asset, country, sector, traded_value
        A label that is not known is empty; a volume that is not known is NaN.
    """
    panel = market.panel
    names = np.array(panel.assets, dtype=object)[chosen]
    return pd.DataFrame(
        {
            "date": panel.dates[t],
            "asset": names,
            "country": _labels(panel.country[t][chosen], panel.countries),
            "sector": _labels(panel.sector[t][chosen], panel.sectors),
            "traded_value": market.traded_value[t][chosen],
        }
    )


def _labels(codes: npt.NDArray[np.int16], labels: Sequence[str]) -> npt.NDArray[np.object_]:
    """Return the label of each code; the last entry answers for code -1."""
    return np.array([*labels, UNLABELLED], dtype=object)[codes.astype(np.intp)]


def factor_rows(market: Market, t: int, weights: FloatArray) -> pd.DataFrame:
    """Return day t's factor returns and the exposures that a book brought into the day.

    Parameters
    ----------
    weights : ndarray of shape (N,)
        At the close of t - 1. A position without a return on day t earns nothing and brings no exposure.

    Returns
    -------
    DataFrame with columns date, factor, factor_return, exposure
        Empty on a day without a regression, and always where regressions are weekly. The exposures are those of the day's
        regression, known at the close of t - 1: what is left of the day's return is w'e, e the history's specific returns.
    """
    panel, history, members = market.panel, market.history, market.universe.members
    daily = t > 0 and history.spec.frequency == "daily"
    columns = np.flatnonzero(history.present[t]) if daily else np.zeros(0, dtype=np.intp)
    factors = [history.factors[k] for k in columns]
    exposure = np.zeros(len(factors))
    if factors:
        known = np.isfinite(panel.returns[t])
        raw, size = history.descriptors.raw[t - 1], history.descriptors.size[t - 1]
        # Made again, as the history does not keep them: ten years would be more memory than the rest of the model.
        # Those in the regression, and no others, decide which categories stand alone.
        sample = members[t - 1] & np.isfinite(history.specific_returns[t])
        day = day_exposures(panel, t - 1, raw, size, members[t - 1], sample, history.spec, history.user)
        held = np.where(known, weights, 0.0)
        brought = dict(zip(day.factors, held @ day.matrix, strict=True))
        brought |= dict(zip(blind_names(history.spec), held @ history.blind_exposures(t - 1), strict=True))
        exposure = np.array([brought[factor] for factor in factors])
    return pd.DataFrame(
        {
            "date": panel.dates[t],
            "factor": pd.Series(factors, dtype=object),
            "factor_return": history.factor_returns[t, columns],
            "exposure": exposure,
        }
    )


def group_rows(market: Market, t: int) -> pd.DataFrame:
    """Return the universe's return of day t by country and by sector, chosen, labelled and weighted at the close of t - 1.

    A member without a row is unchanged, as it is in the book. Within a family, weights sum to 1 and returns, so weighted,
    to the account's `market_return`.

    Returns
    -------
    DataFrame with columns date, family, group, weight, group_return
        Empty where the universe was.
    """
    panel = market.panel
    inside = market.universe.members[t - 1] if t else np.zeros(len(panel.assets), dtype=np.bool_)
    size = market.history.descriptors.size[t - 1][inside]
    gain = size * np.nan_to_num(panel.returns[t][inside])
    rows: dict[str, list[Any]] = {"family": [], "group": [], "weight": [], "group_return": []}
    for family, codes, labels in (
        ("country", panel.country[t - 1], panel.countries),
        ("sector", panel.sector[t - 1], panel.sectors),
    ):
        place = codes[inside].astype(np.intp) % (len(labels) + 1)
        total = np.bincount(place, size, len(labels) + 1)
        gains = np.bincount(place, gain, len(labels) + 1)
        some = np.flatnonzero(total > 0)
        names = (*labels, UNLABELLED)
        rows["family"] += [family] * len(some)
        rows["group"] += [names[k] for k in some]
        rows["weight"] += (total[some] / total.sum()).tolist()
        rows["group_return"] += (gains[some] / total[some]).tolist()
    return pd.DataFrame({"date": panel.dates[t], **rows})
