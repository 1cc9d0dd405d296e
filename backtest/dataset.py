"""A data set: a folder of Parquet files, opened lazily and read by date.

Everything that is wrong with a file is refused here, with the file, the field, the value and the remedy, so that what lies
behind this edge can trust its arrays. A row labelled t holds what is known at t's close; labels, stakes and predictions are
as of their date.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from backtest.condition_files import MarketScope, find_condition_errors, read_condition_files
from backtest.conditions import Conditions, build_conditions
from backtest.dataset_settings import DatasetSettings, read_settings
from backtest.labels import LabelTable, read_labels
from backtest.market_rows import OPTIONAL_COLUMNS, MarketRows, build_panel, check_market_columns, read_rows
from backtest.market_rules import find_row_errors, find_unknown_returns, refuse
from backtest.predictions import Predictions, list_prediction_files, read_predictions, read_stakes, stakes_in_force
from backtest.tables import Table, find_table, parse_date
from backtest.user_exposures import read_user_exposures
from risk import DataError, Panel
from risk.panel import UserExposures

__all__ = ["Dataset", "Predictions", "fingerprint_of"]

OPTIONAL_FILES = ("stakes", "exposures", "scores", "events", "rates", "fx", "borrow")


def fingerprint_of(files: Mapping[str, str]) -> str:
    """Return one SHA-256 for the names of files and theirs."""
    lines = "".join(f"{name}\0{content}\n" for name, content in sorted(files.items()))
    return hashlib.sha256(lines.encode()).hexdigest()


class Dataset:
    """A folder of market data, labels, predictions and stakes.

    Parameters
    ----------
    folder : str or Path
        Laid out as: `assets` and `market` (Parquet, CSV, or `market/date=YYYY-MM-DD/*.parquet`); optional `dataset.toml`,
        `predictions/YYYY-MM-DD.parquet`, `stakes`, `exposures`, `scores`, `events`, `rates`, `fx`, `borrow`.

    Raises
    ------
    DataError
        If the folder is missing or empty, has no assets or market file, or its `dataset.toml` is wrong.
    """

    folder: Path
    settings: DatasetSettings

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        if not self.folder.is_dir():
            raise DataError(
                f"`{self.folder}` is no folder. Give the folder that holds assets.parquet and market.parquet."
            )
        if not any(self.folder.iterdir()):
            raise DataError(f"`{self.folder}` is empty. Put assets.parquet and market.parquet into it.")
        for name in ("assets", "market"):
            if not any((self.folder / f"{name}{suffix}").exists() for suffix in (".parquet", ".csv", "")):
                raise DataError(
                    f"`{self.folder}` has no `{name}.parquet` (or .csv). A data set needs assets and market."
                )
        self.settings = read_settings(self.folder)

    def __repr__(self) -> str:
        return f"Dataset({str(self.folder)!r})"

    @cached_property
    def market(self) -> Table:
        """The market file, opened."""
        table = self._table("market")
        check_market_columns(table)
        return table

    @cached_property
    def label_table(self) -> LabelTable:
        """Every row of the assets file."""
        return read_labels(self._table("assets"))

    def market_columns(self) -> tuple[str, ...]:
        """Return which of market_cap, close, dollar_volume and delisting_return the market file has."""
        return tuple(name for name in OPTIONAL_COLUMNS if name in self.market.columns)

    def dates(self) -> pd.DatetimeIndex:
        """Return all trading days of the market file, ascending.

        Raises
        ------
        DataError
            If the file's dates do not ascend, have a time zone or a time of day.
        """
        return self._calendar[0]

    def panel(self, start: str | pd.Timestamp | None = None, end: str | pd.Timestamp | None = None) -> Panel:
        """Return the market from `start` to `end` inclusive, over every asset that has a row in that span.

        Parameters
        ----------
        start, end : str or Timestamp, optional
            Days within the data's span; all of it where not given.

        Returns
        -------
        Panel
            Assets sorted by name. Labels are those in force on each day. Without a `close` column, `close` is an index
            that starts at 1 on the asset's first row. A return that is not known after an asset's first row is 0 there
            and listed by `unknown_returns`.

        Raises
        ------
        DataError
            If the span is outside the data, dates do not ascend, a date and asset appears twice, a return is infinite,
            above `max_return`, -1 or below before the asset's last row, or unknown more often than
            `max_unknown_returns`; if a close or market cap is not positive, or a dollar volume negative.
        """
        first, last = self._span(start, end)
        rows = read_rows(self.market, first, last)
        refuse(find_row_errors(rows, self.settings))
        unknown = np.zeros(len(rows.day), dtype=np.bool_)
        if np.isnan(rows.numbers["return"]).any():
            listed = self.unknown_returns()
            missing = np.flatnonzero(np.isnan(rows.numbers["return"]))
            keys = pd.MultiIndex.from_arrays(
                [rows.dates[rows.day[missing]], np.array(rows.assets)[rows.asset[missing]]]
            )
            unknown[missing] = keys.isin(pd.MultiIndex.from_frame(listed))
        return build_panel(rows, self.label_table, self.settings, unknown)

    def unknown_returns(self) -> pd.DataFrame:
        """Return the date and asset of every return that is not known and that the panel takes as 0, value unchanged.

        Raises
        ------
        DataError
            If they are more than `max_unknown_returns` of all rows.
        """
        return self._unknown

    def market_rows(self) -> MarketRows:
        """Return every row of the market file, not judged: what `check` looks at."""
        return read_rows(self.market)

    def labels(self, date: str | pd.Timestamp) -> pd.DataFrame:
        """Return the labels known at `date`: index asset; country, sector and, where given, name, industry, currency.

        Raises
        ------
        DataError
        """
        return self.label_table.in_force(parse_date("date", date))

    def prediction_dates(self) -> pd.DatetimeIndex:
        """Return the dates that have a predictions file, ascending; empty where there is none.

        Raises
        ------
        DataError
            If a file in `predictions/` is not named by its date.
        """
        return pd.DatetimeIndex(list(self._prediction_files), name="date")

    def predictions(self, date: str | pd.Timestamp) -> Predictions:
        """Return the predictions of exactly `date`.

        Raises
        ------
        DataError
            If there is no such file, or it holds repeated assets or values that are no finite numbers.
        """
        day = parse_date("date", date)
        if day not in self._prediction_files:
            raise DataError(f"{self._no_predictions(day, f'on {day.date()}')}")
        return read_predictions(self._prediction_files[day], day)

    def latest_predictions(self, date: str | pd.Timestamp, max_age_days: int = 7) -> Predictions:
        """Return the latest predictions dated not after `date` and at most `max_age_days` calendar days before it.

        Raises
        ------
        DataError
            If there are none.
        """
        day = parse_date("date", date)
        dates = self.prediction_dates()
        at = int(dates.searchsorted(day, side="right")) - 1
        if at < 0 or day - dates[at] > pd.Timedelta(days=max_age_days):
            raise DataError(self._no_predictions(day, f"on or within {max_age_days} days before {day.date()}"))
        return self.predictions(dates[at])

    def stakes(self, date: str | pd.Timestamp) -> pd.Series:
        """Return each model's stake in force at `date`, index model; 0 means that the model is left out.

        Raises
        ------
        DataError
            If there is no stakes file, none is in force yet, or a stake in it is negative or not finite.
        """
        return stakes_in_force(self.all_stakes, parse_date("date", date), self._stakes_table.file)

    @cached_property
    def all_stakes(self) -> pd.DataFrame:
        """The whole stakes file: date, model, stake."""
        return read_stakes(self._stakes_table)

    def user_exposures(self, panel: Panel) -> UserExposures | None:
        """Return the user's own exposures over the days and assets of a panel; None without the file.

        Day t has those of the file's latest date not after t, however old: an asset without a row there is not known, and
        neither is any before the first. A column ``value`` is the factor ``style:value``; one that is named ``style:...``
        or ``signal:...`` keeps its name.

        Raises
        ------
        DataError
            If a column is of the wrong kind or infinite, or an asset appears twice on a date.
        """
        table = find_table(self.folder, "exposures")
        return None if table is None else read_user_exposures(table, panel)

    def conditions(self, panel: Panel) -> Conditions:
        """Return events, currencies, interest, borrow fees and shares to borrow on the days of a panel of this data set.

        From the files `events`, `rates`, `fx` and `borrow`; what a missing one feeds is off. A number on day t is that of the
        latest row not dated after t; an event belongs to its own day.

        Raises
        ------
        DataError
            If a file is damaged, lacks a column, names an unknown asset, kind or currency, repeats a key, holds a number out of
            its range, or does not fit the market: see `docs/data.md`.
        """
        files, refused = read_condition_files(self.folder)
        refuse(refused)
        scope = MarketScope(
            panel=panel,
            dates=self.dates(),
            assets=self._calendar[1],
            labels=self.label_table,
            settings=self.settings,
            priced="close" in self.market.columns,
        )
        refuse(find_condition_errors(files, scope))
        return build_conditions(files, scope)

    def features(self) -> dict[str, bool]:
        """Return which optional files exist, so that a run can say what is off."""
        there = {
            name: any((self.folder / f"{name}{end}").is_file() for end in (".parquet", ".csv"))
            for name in OPTIONAL_FILES
        }
        folder = self.folder / "predictions"
        return {"predictions": folder.is_dir() and any(folder.iterdir()), **there}

    def fingerprint(self) -> str:
        """Return the SHA-256 of the folder: names and contents of its files, hidden ones left out."""
        return fingerprint_of(self.file_fingerprints())

    def file_fingerprints(self) -> dict[str, str]:
        """Return the SHA-256 of every file by its name relative to the folder, sorted, hidden ones left out."""
        paths = {path.relative_to(self.folder).as_posix(): path for path in self.folder.rglob("*") if path.is_file()}
        found = {}
        for name in sorted(paths):
            if not any(part.startswith(".") for part in name.split("/")):
                with paths[name].open("rb") as file:
                    found[name] = hashlib.file_digest(file, "sha256").hexdigest()
        return found

    def _table(self, name: str) -> Table:
        table = find_table(self.folder, name)
        if table is None:
            raise DataError(f"`{self.folder}` has no `{name}.parquet` (or .csv). Add it.")
        return table

    @cached_property
    def _stakes_table(self) -> Table:
        table = find_table(self.folder, "stakes")
        if table is None:
            raise DataError(
                f"`{self.folder}` has no `stakes.parquet`. Write one with the columns date, model, stake; equal stakes will do."
            )
        return table

    @cached_property
    def _prediction_files(self) -> dict[pd.Timestamp, Path]:
        folder = self.folder / "predictions"
        return list_prediction_files(folder) if folder.is_dir() else {}

    @cached_property
    def _calendar(self) -> tuple[pd.DatetimeIndex, frozenset[str]]:
        """All trading days and all assets of the market file."""
        rows = read_rows(self.market, columns=("return",))
        refuse(find_row_errors(rows, self.settings)[:1])
        return rows.dates, frozenset(rows.assets)

    @cached_property
    def _unknown(self) -> pd.DataFrame:
        rows = read_rows(self.market, columns=("return",))
        refuse(find_unknown_returns(rows, self.settings))
        at = np.flatnonzero(rows.unknown_returns())
        return pd.DataFrame({"date": rows.dates[rows.day[at]], "asset": np.array(rows.assets)[rows.asset[at]]})

    def _span(
        self, start: str | pd.Timestamp | None, end: str | pd.Timestamp | None
    ) -> tuple[pd.Timestamp | None, pd.Timestamp | None]:
        if start is None and end is None:
            return None, None
        dates = self.dates()
        low, high = dates[0], dates[-1]
        first = low if start is None else parse_date("start", start)
        last = high if end is None else parse_date("end", end)
        span = f"`{self.market.file}` spans {low.date()} to {high.date()}"
        for name, day in (("start", first), ("end", last)):
            if not low <= day <= high:
                raise DataError(f"`{name}` is {day.date()}, but {span}. Choose a day within it.")
        if first > last:
            raise DataError(f"`start` {first.date()} is after `end` {last.date()}; {span}. Swap them.")
        return first, last

    def _no_predictions(self, day: pd.Timestamp, when: str) -> str:
        dates = self.prediction_dates()
        before = dates[dates <= day]
        if not len(dates):
            last = f"`{self.folder / 'predictions'}` has no file"
        elif not len(before):
            last = f"the first in predictions/ is {dates[0].date()}"
        else:
            last = f"the last before it in predictions/ is {before[-1].date()}"
        return (
            f"There are no predictions {when}: {last}. Add predictions/{day.date()}.parquet, choose dates that have "
            "predictions, or write those of the benchmark models."
        )
