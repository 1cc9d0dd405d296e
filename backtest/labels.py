"""Country, sector and other labels of assets, each as of the date from which it was valid."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from backtest.tables import Kind, Table
from risk import DataError
from risk.checks import freeze

__all__ = ["LabelTable", "read_labels"]

OPTIONAL = ("name", "industry", "currency")


@dataclass(frozen=True, eq=False)
class LabelTable:
    """The rows of `assets`, oldest first.

    Attributes
    ----------
    file : str
    rows : DataFrame
        Columns asset, valid_from (NaT: valid always), country, sector and, where given, name, industry, currency;
        None where a label is missing. Sorted by valid_from, NaT first.
    """

    file: str
    rows: pd.DataFrame

    @property
    def assets(self) -> frozenset[str]:
        """Every asset that the file names."""
        return frozenset(self.rows["asset"])

    def in_force(self, date: pd.Timestamp) -> pd.DataFrame:
        """Return the labels known at `date`: index asset (sorted), one column per label, None where missing."""
        known = self.rows[self.rows["valid_from"].isna() | (self.rows["valid_from"] <= date)]
        latest = known.drop_duplicates("asset", keep="last").set_index("asset").sort_index()
        return latest.drop(columns="valid_from")

    def codes(
        self, field: str, dates: pd.DatetimeIndex, assets: tuple[str, ...]
    ) -> tuple[npt.NDArray[np.int16], tuple[str, ...]]:
        """Return the label in force per day and asset as a code, and the names that the codes index.

        Returns
        -------
        codes : int16 ndarray of shape (T, N)
            -1 where the asset has no label.
        names : tuple of str
            Sorted, so that a label that only comes later does not change the order of the others.
        """
        column = pd.Series(np.arange(len(assets)), index=list(assets))
        rows = self.rows[self.rows["asset"].isin(column.index)]
        names = tuple(sorted(rows[field].dropna().unique()))
        code_of = {name: code for code, name in enumerate(names)}
        since = rows["valid_from"].to_numpy(dtype="datetime64[us]")
        starts = np.where(np.isnat(since), 0, np.searchsorted(dates.to_numpy(dtype="datetime64[us]"), since))
        codes = np.full((len(dates), len(assets)), -1, dtype=np.int16)
        for first, asset, label in zip(starts, column[rows["asset"]], rows[field], strict=True):
            codes[first:, asset] = code_of.get(label, -1)
        return np.asarray(freeze(codes)), names

    def optional_codes(
        self, field: str, dates: pd.DatetimeIndex, assets: tuple[str, ...]
    ) -> tuple[npt.NDArray[np.int16] | None, tuple[str, ...]]:
        """Return what `codes` returns; None and no names where the file has no such column."""
        return self.codes(field, dates, assets) if field in self.rows else (None, ())


def read_labels(table: Table) -> LabelTable:
    """Return the labels of a data set.

    Raises
    ------
    DataError
        If a column is missing or of the wrong kind, or an asset has two rows valid from the same date.
    """
    for name in ("asset", "country", "sector"):
        table.check_column(name, Kind.TEXT)
    optional = [name for name in OPTIONAL if name in table.columns]
    for name in optional:
        table.check_column(name, Kind.TEXT)
    dated = "valid_from" in table.columns
    if dated:
        table.check_column("valid_from", Kind.DATE)
    names = ["country", "sector", *optional]
    read = table.read(["asset", *names, *(["valid_from"] if dated else [])])
    codes, assets = table.texts(read, "asset")
    rows = pd.DataFrame({"asset": assets[codes]}, dtype=object)
    missing = np.full(len(rows), np.datetime64("NaT"), dtype="datetime64[us]")
    rows["valid_from"] = table.days(read, "valid_from", optional=True) if dated else missing
    for name in names:
        rows[name] = pd.Series([text or None for text in read[name].to_pylist()], dtype=object)
    twice = rows.duplicated(["asset", "valid_from"])
    if twice.any():
        first = rows[twice].iloc[0]
        since = "" if pd.isna(first["valid_from"]) else f" valid from {first['valid_from'].date()}"
        raise DataError(
            f"`{table.file}`: `asset` {first['asset']!r} has two rows{since} ({int(twice.sum())} such rows in all). "
            "Keep one row per asset and `valid_from`."
        )
    rows = rows.sort_values(["valid_from", "asset"], na_position="first", kind="stable").reset_index(drop=True)
    return LabelTable(table.file, rows)
