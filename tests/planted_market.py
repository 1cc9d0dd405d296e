"""A market whose factor returns are known: a market, countries, sectors and a size premium, plus specific returns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from risk import Panel, RiskSpec

STEPS_OFF: Mapping[str, object] = {
    "industries": True,
    "blind_factors": 0,
    "volatility_half_life": 84.0,
    "specific_half_life": 84.0,
    "regression_noise": False,
    "eigenfactor_simulations": 0,
}
"""A model whose parts can be told apart by hand."""


def plain_spec(**fields: object) -> RiskSpec:
    """Return settings with every later step off, but for `fields`."""
    return RiskSpec.model_validate({**STEPS_OFF, **fields})


@dataclass(frozen=True, eq=False)
class PlantedMarket:
    """A panel, its universe, and the truth it was made from (per day)."""

    panel: Panel
    members: np.ndarray
    size: np.ndarray
    factor_returns: pd.DataFrame
    factor_covariance: pd.DataFrame
    specific_volatility: np.ndarray


def plant(
    seed: int,
    days: int,
    assets: int,
    *,
    countries: tuple[str, ...] = ("CA", "DE", "US"),
    sectors: tuple[str, ...] = ("Energy", "Tech"),
    missing: float = 0.0,
) -> PlantedMarket:
    """Return a market with constant sizes and labels, and rows missing at random with probability `missing`."""
    rng = np.random.default_rng(seed)
    caps = np.exp(rng.normal(22.0, 1.0, assets))
    country = (np.arange(assets) % len(countries)).astype(np.int16)
    sector = rng.permutation(np.arange(assets) % len(sectors)).astype(np.int16)
    names = ["market", *(f"country:{c}" for c in countries), *(f"sector:{s}" for s in sectors), "style:size"]
    deviations = np.r_[0.01, rng.uniform(0.003, 0.008, len(names) - 2), 0.002]
    mixing = np.eye(len(names)) + 0.3 * rng.standard_normal((len(names), len(names))) / np.sqrt(len(names))
    factors = rng.standard_normal((days, len(names))) @ (deviations[:, None] * mixing).T
    truth = (deviations[:, None] * mixing) @ (deviations[:, None] * mixing).T
    project = np.eye(len(names))
    for family, codes in (("country", country), ("sector", sector)):
        columns = [k for k, name in enumerate(names) if name.startswith(family)]
        share = np.bincount(codes, weights=caps, minlength=len(columns)) / caps.sum()
        project[np.ix_(columns, columns)] -= np.outer(np.ones(len(columns)), share)
    factors, truth = factors @ project.T, project @ truth @ project.T
    log_caps = np.log(caps)
    style = (log_caps - (caps * log_caps).sum() / caps.sum()) / log_caps.std()
    X = np.column_stack(
        [
            np.ones(assets),
            country[:, None] == np.arange(len(countries)),
            sector[:, None] == np.arange(len(sectors)),
            style,
        ]
    ).astype(float)
    specific_volatility = rng.uniform(0.01, 0.03, assets)
    returns = factors @ X.T + rng.standard_normal((days, assets)) * specific_volatility
    has_row = rng.random((days, assets)) >= missing
    returns = np.where(has_row, returns, np.nan)
    size = np.tile(caps, (days, 1))
    volume = size * np.exp(rng.normal(-5.0, 0.5, (days, assets)))
    panel = Panel(
        dates=pd.bdate_range("2015-01-01", periods=days),
        assets=tuple(f"A{i:03d}" for i in range(assets)),
        returns=returns,
        has_row=has_row,
        close=np.where(has_row, 100.0, np.nan),
        market_cap=np.where(has_row, size, np.nan),
        dollar_volume=np.where(has_row, volume, np.nan),
        country=np.tile(country, (days, 1)),
        sector=np.tile(sector, (days, 1)),
        countries=countries,
        sectors=sectors,
        delisting_return=np.full(assets, np.nan),
    )
    dates = panel.dates
    return PlantedMarket(
        panel,
        np.ones((days, assets), dtype=np.bool_),
        size,
        pd.DataFrame(factors, index=dates, columns=names),
        pd.DataFrame(truth, index=names, columns=names),
        specific_volatility,
    )
