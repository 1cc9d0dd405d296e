"""The predictions of one date and the stakes behind the models, as they stood on that date."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from backtest.tables import Kind, Table, open_file, parse_date
from risk import DataError

__all__ = ["Predictions", "list_prediction_files", "read_predictions", "read_stakes", "stakes_in_force"]

LONG = ("asset", "model", "prediction")


@dataclass(frozen=True, eq=False)
class Predictions:
    """What the models said on one date.

    Attributes
    ----------
    date : Timestamp
    values : DataFrame of shape (N, M)
        Index asset (sorted), one column per model, any real scale; NaN where a model has no value.
    submitted : Series of length M
        Time at which each model's predictions arrived; NaT where not recorded.
    """

    date: pd.Timestamp
    values: pd.DataFrame
    submitted: pd.Series

    def late(self) -> tuple[str, ...]:
        """Return the models whose predictions arrived after the end of the day `date`."""
        after = self.submitted > self.date + pd.Timedelta(days=1)
        return tuple(str(model) for model in self.submitted.index[after])


def list_prediction_files(folder: Path) -> dict[pd.Timestamp, Path]:
    """Return the files of a `predictions` folder by date, ascending.

    Raises
    ------
    DataError
        If a file is not named YYYY-MM-DD.parquet or .csv, or a date has two files.
    """
    files: dict[pd.Timestamp, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.name.startswith((".", "_")):
            continue
        if path.suffix not in (".parquet", ".csv") or not _is_iso_date(path.stem):
            raise DataError(
                f"`{folder.name}/{path.name}` is not named by its date; wanted YYYY-MM-DD.parquet. Rename or move it."
            )
        date = parse_date(f"{folder.name}/{path.name}", path.stem)
        if date in files:
            raise DataError(f"`{folder.name}/` has both `{files[date].name}` and `{path.name}`. Remove one.")
        files[date] = path
    return files


def read_predictions(path: Path, date: pd.Timestamp) -> Predictions:
    """Return the predictions of one file, wide or long.

    Raises
    ------
    DataError
        If an asset (wide) or an asset and model (long) appears twice, or a value is not a number or infinite.
    """
    table = open_file(path, f"predictions/{path.name}")
    table.check_column("asset", Kind.TEXT)
    long = {"model", "prediction"} <= set(table.columns)
    values, submitted = _read_long(table) if long else _read_wide(table)
    if values.shape[1] == 0:
        raise DataError(f"`{table.file}` has no model. Add one column per model beside `asset`.")
    infinite = np.isinf(values.to_numpy())
    if infinite.any():
        i, j = np.argwhere(infinite)[0]
        raise DataError(
            f"`{table.file}`: model {values.columns[j]!r} is {values.to_numpy()[i, j]} for {values.index[i]!r} "
            f"({int(infinite.sum())} such values in all). Write a finite number, or leave it empty where there is none."
        )
    return Predictions(date, values, submitted)


def _read_wide(table: Table) -> tuple[pd.DataFrame, pd.Series]:
    models = [name for name in table.columns if name != "asset"]
    for name in models:
        table.check_column(name, Kind.NUMBER)
    read = table.read(table.columns)
    codes, assets = table.texts(read, "asset")
    times = np.bincount(codes, minlength=len(assets))
    if (times > 1).any():
        raise DataError(
            f"`{table.file}`: `asset` must be distinct; {assets[int(times.argmax())]!r} appears {times.max()} times. "
            "Keep one row per asset."
        )
    values = np.empty((len(assets), len(models)))
    for j, name in enumerate(models):
        values[codes, j] = table.numbers(read, name)
    frame = pd.DataFrame(values, index=pd.Index(assets, name="asset"), columns=pd.Index(models, name="model"))
    return frame, _submitted_from_metadata(table, models)


def _read_long(table: Table) -> tuple[pd.DataFrame, pd.Series]:
    table.check_column("model", Kind.TEXT)
    table.check_column("prediction", Kind.NUMBER)
    timed = "submitted" in table.columns
    if timed:
        table.check_column("submitted", Kind.DATE)
    read = table.read([*LONG, *(["submitted"] if timed else [])])
    asset, assets = table.texts(read, "asset")
    model, models = table.texts(read, "model")
    times = np.zeros((len(assets), len(models)), dtype=np.int32)
    np.add.at(times, (asset, model), 1)
    if (times > 1).any():
        i, j = np.argwhere(times > 1)[0]
        raise DataError(
            f"`{table.file}`: `asset` and `model` must be distinct; {assets[i]!r} of {models[j]!r} appears {times[i, j]} "
            "times. Keep one row per asset and model."
        )
    values = np.full(times.shape, np.nan)
    values[asset, model] = table.numbers(read, "prediction")
    columns = pd.Index(models, name="model")
    frame = pd.DataFrame(values, index=pd.Index(assets, name="asset"), columns=columns)
    if not timed:
        return frame, _submitted_from_metadata(table, list(models))
    # A model is as late as its last row.
    stamps = pd.Series(read["submitted"].cast(pa.timestamp("us"), safe=False).to_numpy()).groupby(models[model]).max()
    return frame, stamps.reindex(columns).astype("datetime64[us]")


def _submitted_from_metadata(table: Table, models: list[str]) -> pd.Series:
    result = pd.Series(pd.NaT, index=pd.Index(models, name="model"), dtype="datetime64[us]")
    text = table.metadata.get(b"submitted")
    if text is None:
        return result
    wanted = f"`{table.file}`: metadata `submitted` must be JSON of model to ISO time without time zone"
    try:
        given = json.loads(text)
    except ValueError as error:
        raise DataError(f"{wanted}; it is no JSON ({error}). Write it again.") from error
    if not isinstance(given, dict):
        raise DataError(f"{wanted}; got {type(given).__name__}. Write it again.")
    for model, stamp in given.items():
        if model not in result.index:
            raise DataError(f"{wanted}; {model!r} is no model of the file. Remove it.")
        try:
            time = pd.Timestamp(stamp)
        except (ValueError, TypeError) as error:
            raise DataError(f"{wanted}; {model!r} has {stamp!r}. Correct it.") from error
        if time.tz is not None:
            raise DataError(f"{wanted}; {model!r} has {stamp!r}. Remove its time zone.")
        result[model] = time
    return result


def read_stakes(table: Table) -> pd.DataFrame:
    """Return the whole stakes file: columns date, model, stake, ascending by date.

    Raises
    ------
    DataError
        If dates do not ascend, a date and model appears twice, or a stake is negative or not finite.
    """
    table.check_column("date", Kind.DATE)
    table.check_column("model", Kind.TEXT)
    table.check_column("stake", Kind.NUMBER)
    read = table.read(["date", "model", "stake"])
    if read.num_rows == 0:
        raise DataError(f"`{table.file}` has no rows. Write one row per model with its stake.")
    model, models = table.texts(read, "model")
    frame = pd.DataFrame(
        {"date": table.days(read), "model": models[model], "stake": table.numbers(read, "stake").astype(np.float64)}
    )
    if not frame["date"].is_monotonic_increasing:
        raise DataError(f"`{table.file}`: `date` must ascend. Sort the file by date and write it again.")
    twice = frame.duplicated(["date", "model"])
    if twice.any():
        row = frame[twice].iloc[0]
        raise DataError(f"`{table.file}`: {row['model']!r} has two stakes on {row['date'].date()}. Keep one.")
    wrong = ~(np.isfinite(frame["stake"]) & (frame["stake"] >= 0))
    if wrong.any():
        row = frame[wrong].iloc[0]
        raise DataError(
            f"`{table.file}`: `stake` must be finite and not negative; got {row['stake']} for model {row['model']!r} on "
            f"{row['date'].date()} ({int(wrong.sum())} such rows in all). Correct it; 0 leaves the model out."
        )
    return frame


def stakes_in_force(stakes: pd.DataFrame, date: pd.Timestamp, file: str) -> pd.Series:
    """Return the stake of each model at `date`: its latest row not after it; index model, sorted.

    Raises
    ------
    DataError
        If no stake is dated on or before `date`.
    """
    known = stakes[stakes["date"] <= date]
    if known.empty:
        raise DataError(
            f"`{file}` has no stake in force on {date.date()}: the first is dated {stakes['date'].iloc[0].date()}. "
            "Start later, or add the stakes that stood then."
        )
    return known.drop_duplicates("model", keep="last").set_index("model")["stake"].sort_index()


def _is_iso_date(text: str) -> bool:
    try:
        return pd.Timestamp(text).strftime("%Y-%m-%d") == text
    except ValueError:
        return False
