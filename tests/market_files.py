"""Tiny valid data sets on disk, and ways to spoil one value of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from risk import DataError


def market_frame(
    n_assets: int = 8, n_days: int = 40, seed: int = 0, start: str = "2020-01-01", volatility: float = 0.02
) -> pd.DataFrame:
    """Return the rows of a market file: every asset A000, A001, ... on every business day, sorted by date and asset."""
    rng = np.random.default_rng(seed)
    dates = pd.bdate_range(start, periods=n_days)
    assets = [f"A{i:03d}" for i in range(n_assets)]
    returns = rng.normal(0.0003, volatility, (n_days, n_assets))
    returns[0] = np.nan
    levels = np.cumprod(1.0 + np.nan_to_num(returns), axis=0)
    close = np.exp(rng.normal(3.5, 0.5, n_assets)) * levels
    cap = np.exp(rng.normal(21.0, 1.0, n_assets)) * levels
    volume = 0.005 * cap * np.exp(rng.normal(0.0, 0.3, (n_days, n_assets)))
    return pd.DataFrame(
        {
            "date": np.repeat(dates.to_numpy(), n_assets),
            "asset": np.tile(assets, n_days),
            "return": returns.ravel(),
            "market_cap": cap.ravel(),
            "close": close.ravel(),
            "dollar_volume": volume.ravel(),
        }
    )


def assets_frame(
    assets: Sequence[str],
    countries: Sequence[str] = ("US", "JP", "DE"),
    sectors: Sequence[str] = ("Technology", "Energy"),
) -> pd.DataFrame:
    """Return the rows of an assets file: countries and sectors dealt out in turn."""
    return pd.DataFrame(
        {
            "asset": list(assets),
            "country": [countries[i % len(countries)] for i in range(len(assets))],
            "sector": [sectors[(i // len(countries)) % len(sectors)] for i in range(len(assets))],
        }
    )


def write_predictions(
    folder: Path, date: str | pd.Timestamp, values: pd.DataFrame, submitted: dict[str, str] | None = None
) -> Path:
    """Write one wide predictions file: index asset, one column per model."""
    day = pd.Timestamp(date)
    path = folder / "predictions" / f"{day.date()}.parquet"
    path.parent.mkdir(exist_ok=True)
    table = pa.Table.from_pandas(values.rename_axis("asset").reset_index(), preserve_index=False)
    if submitted is not None:
        table = table.replace_schema_metadata({**(table.schema.metadata or {}), b"submitted": json.dumps(submitted)})
    pq.write_table(table, path)
    return path


def write_market(
    folder: str | Path,
    *,
    n_assets: int = 8,
    n_days: int = 40,
    seed: int = 0,
    start: str = "2020-01-01",
    n_models: int = 0,
    predict_every: int = 5,
    countries: Sequence[str] = ("US", "JP", "DE"),
    sectors: Sequence[str] = ("Technology", "Energy"),
    without: Sequence[str] = (),
    settings: str | None = None,
) -> Path:
    """Write a valid data set and return its folder.

    `n_models` > 0 adds predictions (model_0, model_1, ...) every `predict_every` days and a stakes file; `without` names
    market columns to leave out; `settings` is the text of dataset.toml.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    market = market_frame(n_assets, n_days, seed, start).drop(columns=list(without))
    market.to_parquet(folder / "market.parquet", index=False)
    names = sorted(market["asset"].unique())
    assets_frame(names, countries, sectors).to_parquet(folder / "assets.parquet", index=False)
    if settings is not None:
        (folder / "dataset.toml").write_text(settings, encoding="utf-8")
    if n_models:
        rng = np.random.default_rng(seed + 1)
        models = [f"model_{j}" for j in range(n_models)]
        dates = pd.DatetimeIndex(market["date"].unique())
        for date in dates[::predict_every]:
            values = pd.DataFrame(rng.normal(size=(n_assets, n_models)), index=names, columns=models)
            write_predictions(folder, date, values)
        stakes = pd.DataFrame({"date": dates[0], "model": models, "stake": rng.uniform(1.0, 10.0, n_models)})
        stakes.to_parquet(folder / "stakes.parquet", index=False)
    return folder


def edit_market(folder: Path, row: int, column: str, value: object) -> tuple[str, str]:
    """Change one value of market.parquet; return the row's date and asset, as messages name them."""
    path = folder / "market.parquet"
    frame = pd.read_parquet(path)
    frame.loc[row, column] = value
    frame.to_parquet(path, index=False)
    return str(frame.loc[row, "date"].date()), str(frame.loc[row, "asset"])


def assert_refused(act: Callable[[], object], *parts: str) -> None:
    """Assert that `act` raises a DataError of one paragraph that names every part."""
    with pytest.raises(DataError) as caught:
        act()
    message = str(caught.value)
    assert "\n" not in message
    for part in parts:
        assert part in message, f"{part!r} not in {message!r}"


def rewrite(folder: Path, change: Callable[[pd.DataFrame], pd.DataFrame], name: str = "market.parquet") -> None:
    change(pd.read_parquet(folder / name)).to_parquet(folder / name, index=False)
