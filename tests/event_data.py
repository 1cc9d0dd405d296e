"""Tiny data sets of given closes with events, rates, fx and borrow files, for tests that compute by hand.

    data = write_data(
        tmp_path / "data",
        {"A": [10.0, 5.0, 5.5], "B": [20.0, 20.0, None]},
        events=[event(1, "A", "split", ratio=2), event(2, "B", "merger", amount=21.0)],
        returns={"A": [None, 0.0, 0.1]},
    )
    conditions = data.conditions(data.panel())

Days are counted from 0: the business days from 2024-01-01 on (a Monday).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from backtest.dataset import Dataset

START = "2024-01-01"
Path_ = Sequence[float | None]


def day(t: int | str | pd.Timestamp) -> pd.Timestamp:
    """Return business day number t, or the date that is given as such."""
    return pd.bdate_range(START, periods=t + 1)[-1] if isinstance(t, int) else pd.Timestamp(t)


def event(t: int | str | pd.Timestamp, asset: str, kind: str, **fields: Any) -> dict[str, Any]:
    """Return a row of an events file; `fields` are ratio, amount, new_asset, cause."""
    return {"date": day(t), "asset": asset, "kind": kind, **fields}


def simple_returns(closes: Path_) -> list[float | None]:
    """Return close over the last known close less 1; None without a close and on the first one."""
    last: float | None = None
    found: list[float | None] = []
    for close in closes:
        found.append(None if close is None or last is None else close / last - 1.0)
        last = last if close is None else close
    return found


def write_data(
    folder: Path,
    closes: Mapping[str, Path_],
    *,
    returns: Mapping[str, Path_] | None = None,
    volumes: Mapping[str, Path_] | None = None,
    delisting_return: Mapping[str, float] | None = None,
    currency: Mapping[str, str] | None = None,
    country: Mapping[str, str] | None = None,
    events: Sequence[Mapping[str, Any]] | None = None,
    rates: Sequence[tuple[int | str, str, float]] | None = None,
    fx: Sequence[tuple[int | str, str, float]] | None = None,
    borrow: Sequence[Mapping[str, Any]] | None = None,
    settings: str = "",
    csv: bool = False,
) -> Dataset:
    """Write a data set and open it.

    Parameters
    ----------
    folder : Path
        Made here.
    closes : mapping of asset to one value for each business day from 2024-01-01 on
        None: no row that day.
    returns : mapping, optional
        Of assets whose returns are not `simple_returns` of their closes (splits, dividends).
    volumes : mapping, optional
        Dollar volumes; 1e9 where not given.
    delisting_return : mapping, optional
        Stands on the asset's last row.
    currency, country : mapping, optional
        Labels; without `currency` the assets file has no such column, and `country` is US where not given.
    events : sequence of rows, optional
        As `event` makes them.
    rates, fx : sequence of (day, currency, value), optional
    borrow : sequence of rows, optional
        Mappings with ``date`` (see `day`), ``asset``, ``fee_annual`` and, where wanted, ``rebate_annual``, ``available``.
    settings : str
        Text of dataset.toml.
    csv : bool
        Write the optional files as CSV.
    """
    folder.mkdir(parents=True)
    rows = []
    for asset, path in closes.items():
        earned = (returns or {}).get(asset) or simple_returns(path)
        traded = (volumes or {}).get(asset) or [1e9] * len(path)
        last = max(t for t, close in enumerate(path) if close is not None)
        for t, close in enumerate(path):
            if close is not None:
                row = {"date": day(t), "asset": asset, "return": earned[t], "close": close, "dollar_volume": traded[t]}
                gone = (delisting_return or {}).get(asset) if t == last else None
                rows.append(row | ({"delisting_return": gone} if delisting_return else {}))
    numbers = ["return", "close", "dollar_volume", *(["delisting_return"] if delisting_return else [])]
    market = pd.DataFrame(rows).astype(dict.fromkeys(numbers, float)).sort_values(["date", "asset"])
    market.to_parquet(folder / "market.parquet", index=False)
    assets = pd.DataFrame({"asset": sorted(closes), "sector": "Energy"})
    assets["country"] = [(country or {}).get(asset, "US") for asset in assets["asset"]]
    if currency is not None:
        assets["currency"] = [currency.get(asset) for asset in assets["asset"]]
    assets.to_parquet(folder / "assets.parquet", index=False)
    if settings:
        (folder / "dataset.toml").write_text(settings, encoding="utf-8")
    tables = {
        "events": None if events is None else pd.DataFrame(list(events)),
        "rates": None if rates is None else pd.DataFrame(list(rates), columns=["date", "currency", "annual_rate"]),
        "fx": None if fx is None else pd.DataFrame(list(fx), columns=["date", "currency", "rate"]),
        "borrow": None if borrow is None else pd.DataFrame(list(borrow)),
    }
    for name, table in tables.items():
        if table is not None:
            write_table(folder, name, table.assign(date=pd.DatetimeIndex([day(t) for t in table["date"]])), csv=csv)
    return Dataset(folder)


def write_table(folder: Path, name: str, table: pd.DataFrame, *, csv: bool = False) -> None:
    """Write one optional file."""
    if csv:
        table.to_csv(folder / f"{name}.csv", index=False)
    else:
        table.to_parquet(folder / f"{name}.parquet", index=False)
