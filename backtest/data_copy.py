"""A copy of a data set that ends soon after a date, in which what comes after the date can be written anew."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from backtest.dataset import Dataset
from backtest.tables import find_table

__all__ = ["copy_until", "read_split", "write_joined"]

_DAY = pa.timestamp("ms")


def copy_until(data: Dataset, folder: Path, horizon: pd.Timestamp, end: pd.Timestamp) -> int:
    """Make a copy of a data set whose market ends on `horizon`, and return how many of its rows were left out.

    It holds the assets that have a row by `end`, and no other: those that list between the horizon and a later end have their
    first row moved to the horizon, without a return. Two copies with the same assets have the same terms in every sum and in
    the same order, so that what does not depend on the future is the same to the bit. Files other than market and settings
    are links.

    Parameters
    ----------
    data : Dataset
    folder : Path
        Must not exist.
    horizon, end : Timestamp
        Sessions.
    """
    folder.mkdir(parents=True)
    for path in sorted(data.folder.rglob("*")):
        name = path.relative_to(data.folder)
        # Hidden files are no part of a data set; market and settings are written anew.
        if path.is_file() and not name.parts[0].startswith((".", "market", "dataset.toml")):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            os.symlink(path.resolve(), folder / name)
    # How many returns may be unknown is a share of the whole file: of a part of it, it may be more.
    settings = data.settings.model_dump(mode="json") | {"max_unknown_returns": 1.0}
    # JSON's texts and numbers are TOML's.
    text = "".join(f"{key} = {json.dumps(value)}\n" for key, value in settings.items())
    (folder / "dataset.toml").write_text(text, encoding="utf-8")
    rows = _plain(data.market.source.to_table())
    head, tail = _split(rows, horizon)
    listed = pc.unique(_split(rows, end)[0]["asset"])
    head = head.filter(pc.is_in(head["asset"], value_set=listed))
    later = tail.filter(pc.less_equal(tail["date"], _scalar(end))).to_pandas()
    new = later[~later["asset"].isin(pc.unique(head["asset"]).to_pylist())].drop_duplicates("asset").copy()
    new["date"] = horizon
    new[[name for name in ("return", "delisting_return") if name in new]] = np.nan
    write_joined(folder, "market", head, new)
    return int(rows.num_rows - head.num_rows)


def read_split(folder: Path, name: str, date: pd.Timestamp) -> tuple[pa.Table, pd.DataFrame]:
    """Return the rows of a copy's table up to a date, and those after it."""
    table = find_table(folder, name)
    assert table is not None, f"{folder} has no {name}"
    head, tail = _split(_plain(table.source.to_table()), date)
    return head, tail.to_pandas()


def write_joined(folder: Path, name: str, head: pa.Table, later: pd.DataFrame) -> None:
    """Write a copy's table: rows up to a date, and others after them, which are sorted by date."""
    ordered = later[head.column_names].sort_values("date", kind="stable")
    tail = _plain(pa.Table.from_pandas(ordered, preserve_index=False))
    for path in (folder / f"{name}.parquet", folder / f"{name}.csv"):
        path.unlink(missing_ok=True)
    whole = pa.concat_tables([head, tail], promote_options="permissive")
    pq.write_table(whole, folder / f"{name}.parquet", compression="lz4")


def _scalar(date: pd.Timestamp) -> pa.Scalar:
    return pa.scalar(date.to_pydatetime(), _DAY)


def _plain(rows: pa.Table) -> pa.Table:
    """Return rows with dates in milliseconds and texts as plain texts."""
    for place, column in enumerate(rows.schema):
        if column.name == "date":
            rows = rows.set_column(place, column.name, rows[column.name].cast(_DAY, safe=False))
        elif pa.types.is_dictionary(column.type):
            rows = rows.set_column(place, column.name, rows[column.name].cast(pa.string()))
    return rows.replace_schema_metadata(None)


def _split(rows: pa.Table, date: pd.Timestamp) -> tuple[pa.Table, pa.Table]:
    late = pc.greater(rows["date"], _scalar(date))
    return rows.filter(pc.invert(late)), rows.filter(late)
