"""A data set as it might have gone on: all that one field says after a date, replaced by something else.

Nothing up to the date is touched, and what is put in is valid input, so that a simulation of the copy runs on past the date.
A field is a column of the market file, the existence of its rows, or another file:

    return, close, market_cap, dollar_volume, delisting_return, rows        of market
    labels (assets), predictions, stakes, exposures, scores, events, rates, fx, borrow

``everything`` replaces them all at once.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from backtest.data_copy import read_split, write_joined
from backtest.dataset import Dataset
from backtest.predictions import list_prediction_files
from backtest.tables import find_table
from risk import DataError
from risk.checks import FloatArray

__all__ = ["EVERYTHING", "fields_of", "perturb"]

EVERYTHING = "everything"
MARKET_COLUMNS = ("return", "close", "market_cap", "dollar_volume", "delisting_return")
FILES = ("predictions", "stakes", "exposures", "scores", "events", "rates", "fx", "borrow")
# Shares of rows, and of assets for good, that go where the existence of rows changes.
ROWS_DROPPED, ASSETS_DROPPED = 0.05, 0.05

Redraw = Callable[[FloatArray, np.random.Generator], FloatArray]


def _factor(spread: float) -> Redraw:
    return lambda values, rng: values * np.exp(rng.normal(0.0, spread, len(values)))


def _shift(spread: float, low: float, high: float) -> Redraw:
    return lambda values, rng: np.clip(values + rng.normal(0.0, spread, len(values)), low, high)


_REDRAW: dict[str, Redraw] = {
    "return": lambda values, rng: np.clip(rng.normal(0.0, 0.04, len(values)), -0.5, 0.5),
    "close": _factor(0.3),
    "market_cap": _factor(0.5),
    "dollar_volume": _factor(1.0),
    "stake": lambda values, rng: rng.uniform(1.0, 100.0, len(values)),
    "target": lambda values, rng: rng.uniform(0.0, 1.0, len(values)),
    "annual_rate": _shift(0.02, -0.1, 0.5),
    "rebate_annual": _shift(0.02, -1.0, 0.5),
    "fee_annual": lambda values, rng: np.clip((values + 0.001) * np.exp(rng.normal(0.0, 1.0, len(values))), 0.0, 5.0),
    "rate": _factor(0.05),
    "available": _factor(1.0),
}
"""How the numbers of a column are replaced; those of user exposures are drawn from the normal law."""


def fields_of(data: Dataset) -> tuple[str, ...]:
    """Return the fields that a data set has."""
    there = data.features()
    columns = [name for name in MARKET_COLUMNS if name in data.market.columns]
    return (*columns, "rows", "labels", *(name for name in FILES if there[name]))


def perturb(folder: Path, field: str, after: pd.Timestamp, seed: int) -> int:
    """Replace what a field says after a date in a copy of a data set, and return how many rows that concerned.

    Parameters
    ----------
    folder : Path
        Made by `copy_until`; it must have a session after the date.
    field : str
        One of `fields_of`, or ``everything``.
    after : Timestamp
    seed : int
        The same one changes the same rows in the same way.

    Raises
    ------
    DataError
        If the data set has no such field.
    """
    data = Dataset(folder)
    known = fields_of(data)
    if field == EVERYTHING:
        return sum(perturb(folder, name, after, seed) for name in known)
    if field not in known:
        raise DataError(f"fields: {field!r} is none of the data set's: {', '.join(known)}; or {EVERYTHING} at once.")
    rng = np.random.default_rng([seed, zlib.crc32(field.encode()), after.toordinal()])
    if field == "predictions":
        return _change_predictions(folder / field, data, after, rng)
    if field == "labels":
        return _change_labels(folder, _following(data, after), rng)
    if field == "events":
        return _change_events(folder, data, after, rng)
    if field == "rows":
        return _drop_rows(folder, after, rng)
    if field == "delisting_return":
        return _change_delistings(folder, after, rng)
    if field in MARKET_COLUMNS:
        head, later = read_split(folder, "market", after)
        write_joined(folder, "market", head, _redrawn(later, [field], rng))
        return len(later)
    return _change_dated(folder, field, after, _following(data, after), data.settings.currency, rng)


def _following(data: Dataset, after: pd.Timestamp) -> pd.Timestamp:
    sessions = data.dates()
    return pd.Timestamp(sessions[sessions > after][0])


def _redrawn(rows: pd.DataFrame, columns: list[str], rng: np.random.Generator) -> pd.DataFrame:
    """Return rows with other numbers in some columns; what is not known stays so."""
    result = rows.copy()
    for name in columns:
        if rows[name].dtype == bool:
            result[name] = rng.random(len(rows)) < 0.5
            continue
        values = rows[name].to_numpy(dtype=np.float64)
        drawn = _REDRAW[name](values, rng) if name in _REDRAW else rng.normal(size=len(values))
        kind = np.float32 if rows[name].dtype == np.float32 else np.float64
        result[name] = np.where(np.isnan(values), np.nan, drawn).astype(kind)
    return result


# The market.


def _change_delistings(folder: Path, after: pd.Timestamp, rng: np.random.Generator) -> int:
    """Give every asset's last row a return to be booked should the asset be gone."""
    head, later = read_split(folder, "market", after)
    last = ~later.duplicated("asset", keep="last")
    drawn = np.where(last, rng.uniform(-0.9, 0.3, len(later)), np.nan)
    write_joined(folder, "market", head, later.assign(delisting_return=drawn))
    return int(last.sum())


def _drop_rows(folder: Path, after: pd.Timestamp, rng: np.random.Generator) -> int:
    """Take away rows here and there, and all rows of some assets.

    Not of assets in later events, which may ask for a row, nor of those that list after the date: they keep the row without
    which the copy would hold fewer assets.
    """
    head, later = read_split(folder, "market", after)
    known = pc.unique(head["asset"]).to_pylist()
    named = _names_in_events(folder, after, later["date"].max())
    free = later["asset"].isin(known) & ~later["asset"].isin(named)
    names = later.loc[free, "asset"].unique()
    leavers = rng.permutation(names)[: max(2, round(ASSETS_DROPPED * len(names)))]
    gone = free & (later["asset"].isin(leavers) | (rng.random(len(later)) < ROWS_DROPPED))
    write_joined(folder, "market", head, later[~gone])
    return int(gone.sum())


def _names_in_events(folder: Path, after: pd.Timestamp, until: pd.Timestamp) -> set[str]:
    """Return the assets that events between two dates name."""
    if find_table(folder, "events") is None:
        return set()
    _, rows = read_split(folder, "events", after)
    rows = rows[rows["date"] <= until]
    return {str(name) for column in ("asset", "new_asset") if column in rows for name in rows[column].dropna()}


# Labels, predictions and events.


def _change_labels(folder: Path, following: pd.Timestamp, rng: np.random.Generator) -> int:
    """Deal out countries, sectors and industries anew from the next session on.

    Rows that come later are dealt out among themselves, so that no label vanishes. Currencies stay: that of a position must
    not change.
    """
    table = find_table(folder, "assets")
    assert table is not None
    rows = table.source.to_table().to_pandas()
    since = pd.to_datetime(rows["valid_from"]) if "valid_from" in rows else pd.Series(pd.NaT, index=rows.index)
    rows = rows.assign(valid_from=since).sort_values("valid_from", na_position="first", kind="stable")
    dealt = [name for name in ("country", "sector", "industry") if name in rows]

    def deal(frame: pd.DataFrame) -> pd.DataFrame:
        shuffled = frame[dealt].to_numpy(dtype=object)[rng.permutation(len(frame))]
        return frame.assign(**{name: shuffled[:, place] for place, name in enumerate(dealt)})

    late = rows["valid_from"] >= following
    now = deal(rows[~late].drop_duplicates("asset", keep="last")).assign(valid_from=following)
    rest = deal(rows[rows["valid_from"] > following])
    for path in (folder / "assets.parquet", folder / "assets.csv"):
        path.unlink(missing_ok=True)
    pd.concat([rows[~late], now, rest]).to_parquet(folder / "assets.parquet", index=False)
    return len(now) + len(rest)


def _change_predictions(folder: Path, data: Dataset, after: pd.Timestamp, rng: np.random.Generator) -> int:
    """Write other predictions after the date: on the next session too, and none beyond the last one."""
    files = list_prediction_files(folder)
    known = [date for date in files if date <= after]
    files.setdefault(_following(data, after), files[max(known) if known else min(files)])
    count = 0
    # Read before any is removed: one file may stand for two dates.
    later = {date: _read(path) for date, path in files.items() if date > after}
    for date in later:
        for path in (folder / f"{date:%Y-%m-%d}.parquet", folder / f"{date:%Y-%m-%d}.csv"):
            path.unlink(missing_ok=True)
    for date, rows in later.items():
        if date <= data.dates()[-1]:
            pq.write_table(_other_predictions(rows, rng), folder / f"{date:%Y-%m-%d}.parquet")
            count += rows.num_rows
    return count


def _read(path: Path) -> pa.Table:
    return pa.csv.read_csv(path) if path.suffix == ".csv" else pq.read_table(path)


def _other_predictions(rows: pa.Table, rng: np.random.Generator) -> pa.Table:
    for place, column in enumerate(rows.schema):
        if pa.types.is_floating(column.type) or pa.types.is_integer(column.type):
            drawn = pa.array(rng.normal(size=rows.num_rows))
            rows = rows.set_column(place, column.name, pc.if_else(pc.is_valid(rows[column.name]), drawn, None))
    return rows


def _change_events(folder: Path, data: Dataset, after: pd.Timestamp, rng: np.random.Generator) -> int:
    """Take away a tenth of the events after a date, and add others on assets that have none, where nothing forbids them."""
    head, later = read_split(folder, "events", after)
    _, days = read_split(folder, "market", after)
    named = _names_in_events(folder, after, days["date"].max())
    free = days[~days["asset"].isin(named) & days["return"].notna()]
    new = free.iloc[rng.permutation(len(free))].drop_duplicates("asset")
    new = new.iloc[: max(5, len(new) // 5)]
    kinds = ["suspension", "recall"]
    if "close" in data.market.columns and {"ratio", "amount"} <= set(later):
        kinds += ["split", "dividend", "delisting"]
    new = new.assign(kind=rng.choice(kinds, size=len(new)))
    added = new[["date", "asset", "kind"]].reindex(columns=later.columns)
    if "split" in kinds:
        added["ratio"] = np.where(added["kind"] == "split", 2.0, np.nan)
        added["amount"] = added["kind"].map({"dividend": 0.01, "delisting": 0.5}).to_numpy() * new["close"].to_numpy()
    kept = later[rng.random(len(later)) < 0.9]
    write_joined(folder, "events", head, pd.concat([kept, added]) if len(kept) else added)
    return len(later) - len(kept) + len(added)


# Files of rows by date.


def _change_dated(
    folder: Path, field: str, after: pd.Timestamp, following: pd.Timestamp, base: str, rng: np.random.Generator
) -> int:
    """Redraw every number of the rows after a date, and give each key a row on the next session."""
    head, later = read_split(folder, field, after)
    key = {"stakes": "model", "rates": "currency", "fx": "currency"}.get(field, "asset")
    before = head.to_pandas()
    latest = (before if len(before) else later).drop_duplicates(key, keep="last")
    new = latest[~latest[key].isin(later.loc[later["date"] == following, key])].assign(date=following)
    rows = pd.concat([new, later]) if len(later) else new
    numbers = [str(name) for name in rows if name not in ("date", key)]
    rows = _redrawn(rows.reset_index(drop=True), numbers, rng)
    if field == "fx":
        rows.loc[rows["currency"] == base, "rate"] = 1.0
    write_joined(folder, field, head, rows)
    return len(rows)
