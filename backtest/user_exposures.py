"""The exposures file: the user's own factors, as of the dates on which they were known."""

from __future__ import annotations

import numpy as np
import pandas as pd

from backtest.tables import Kind, Table
from risk import DataError, Panel
from risk.panel import UserExposures

__all__ = ["read_user_exposures"]


def _factor(column: str) -> str:
    return column if column.startswith(("style:", "signal:")) else f"style:{column}"


def read_user_exposures(table: Table, panel: Panel) -> UserExposures:
    """Return the exposures in force on each day of a panel: those of the file's latest date not after it.

    Assets that the panel does not have are left out; values are kept in single precision.

    Raises
    ------
    DataError
        If there is no factor column, a column is of the wrong kind or infinite, or an asset appears twice on a date.
    """
    table.check_column("date", Kind.DATE)
    table.check_column("asset", Kind.TEXT)
    columns = [name for name in table.columns if name not in ("date", "asset")]
    for name in columns:
        table.check_column(name, Kind.NUMBER)
    if not columns:
        raise DataError(f"`{table.file}` has no factor column. Add one number column per factor, or remove the file.")
    read = table.read(["date", "asset", *columns])
    stamps, day = np.unique(table.days(read), return_inverse=True)
    codes, assets = table.texts(read, "asset")
    twice = pd.DataFrame({"day": day, "asset": codes}).duplicated().to_numpy()
    if twice.any():
        row = int(twice.argmax())
        raise DataError(
            f"`{table.file}`: `asset` {assets[codes[row]]!r} appears twice on {pd.Timestamp(stamps[day[row]]).date()} "
            f"({int(twice.sum())} such rows in all). Keep one row per date and asset."
        )
    place = pd.Index(panel.assets).get_indexer(pd.Index(assets))[codes]
    inside = place >= 0
    dated = np.full((len(stamps) + 1, len(columns), len(panel.assets)), np.nan, dtype=np.float32)
    for u, name in enumerate(columns):
        # Row 0 stays unknown: it is that of the days before the file's first date.
        dated[day[inside] + 1, u, place[inside]] = table.numbers(read, name)[inside]
    latest = np.searchsorted(stamps, panel.dates.to_numpy(dtype="datetime64[us]"), side="right")
    return UserExposures(tuple(_factor(name) for name in columns), dated[latest])
