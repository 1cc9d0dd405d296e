"""A random market with what real ones have, and a universe, for the tests of the benchmark models."""

from __future__ import annotations

import numpy as np
import pandas as pd

from risk import Panel


def market(rng: np.random.Generator, days: int, assets: int, *, volatile: float = 0.03, reward: float = 0.0) -> Panel:
    """Return a panel with holidays, a late listing, a leaver, a split and missing labels.

    Daily volatilities lie between 0.005 and `volatile`; each name earns `reward` per unit of its own.
    """
    volatility = rng.uniform(0.005, volatile, assets)
    common = 0.006 * rng.standard_normal(days)
    shocks = rng.standard_t(5, (days, assets)) * np.sqrt(3 / 5)
    returns = np.clip(common[:, None] + volatility * (shocks + reward), -0.5, 1.0)
    close = 50.0 * np.cumprod(1.0 + returns, axis=0)
    close[days // 2 :, 3] /= 4.0
    has_row = rng.random((days, assets)) > 0.02
    has_row[: days // 3, 4] = False
    has_row[-60:, 5] = False
    for asset in range(assets):  # a return spans the days without a row, and the first row has none
        previous, growth = -1, 1.0
        for day in range(days):
            growth *= 1.0 + returns[day, asset]
            if has_row[day, asset]:
                returns[day, asset] = growth - 1.0 if previous >= 0 else np.nan
                previous, growth = day, 1.0
    returns[~has_row] = np.nan
    volume = np.where(has_row, rng.lognormal(15.0, 1.0, (days, assets)), np.nan)
    country = np.broadcast_to((np.arange(assets) % 3).astype(np.int16), (days, assets)).copy()
    sector = np.broadcast_to((np.arange(assets) // 2 % 4).astype(np.int16), (days, assets)).copy()
    country[:, 7], sector[:, 8] = -1, -1
    return Panel(
        dates=pd.bdate_range("2015-01-01", periods=days),
        assets=tuple(f"A{i:03d}" for i in range(assets)),
        returns=returns,
        has_row=has_row,
        close=np.where(has_row, close, np.nan),
        market_cap=None,
        dollar_volume=volume,
        country=country,
        sector=sector,
        countries=("DE", "FR", "SE"),
        sectors=("a", "b", "c", "d"),
        delisting_return=np.full(assets, np.nan),
    )


def random_universe(rng: np.random.Generator, panel: Panel) -> tuple[np.ndarray, np.ndarray]:
    members = rng.random(panel.returns.shape) > 0.1
    size = np.exp(rng.normal(20.0, 1.5, panel.returns.shape))
    size[:, 9] = np.nan
    return members, size
