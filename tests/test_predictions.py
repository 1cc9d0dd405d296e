from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from market_files import assert_refused, write_market, write_predictions

from backtest.dataset import Dataset

REAL = Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_market(tmp_path / "data", n_models=3)


# Predictions


def test_wide_and_long_predictions_are_the_same(folder: Path) -> None:
    data = Dataset(folder)
    date = data.prediction_dates()[1]
    wide = data.predictions(date)
    path = folder / "predictions" / f"{date.date()}.parquet"
    long = wide.values.reset_index().melt(id_vars="asset", var_name="model", value_name="prediction")
    long.assign(submitted=date + pd.Timedelta(hours=3)).dropna().to_parquet(path, index=False)
    again = Dataset(folder).predictions(date)
    pd.testing.assert_frame_equal(again.values, wide.values)
    assert (again.submitted == date + pd.Timedelta(hours=3)).all()
    assert wide.submitted.isna().all()
    assert wide.submitted.index.equals(wide.values.columns)


def test_a_long_model_without_a_value_is_unknown(folder: Path) -> None:
    path = folder / "predictions" / "2020-01-01.parquet"
    rows = {"asset": ["A1", "A2", "A1"], "model": ["m", "m", "k"], "prediction": [1.0, 2.0, 3.0]}
    pd.DataFrame(rows).to_parquet(path, index=False)
    values = Dataset(folder).predictions("2020-01-01").values
    assert values.loc["A1"].to_dict() == {"m": 1.0, "k": 3.0}
    assert np.isnan(values.loc["A2", "k"])


def test_submission_times_in_metadata_tell_who_was_late(folder: Path) -> None:
    frame = pd.DataFrame({"on_time": [1.0, 2.0], "late": [2.0, 1.0], "silent": [0.0, 1.0]}, index=["A000", "A001"])
    write_predictions(folder, "2020-01-01", frame, {"on_time": "2020-01-01T20:00:00", "late": "2020-01-02T09:00:00"})
    given = Dataset(folder).predictions("2020-01-01")
    assert given.late() == ("late",)
    assert given.submitted["on_time"] == pd.Timestamp("2020-01-01 20:00")
    assert given.submitted.isna().to_dict() == {"on_time": False, "late": False, "silent": True}


@pytest.mark.parametrize(
    ("submitted", "parts"),
    [
        ({"ghost": "2020-01-01"}, ("'ghost'", "no model")),
        ({"m": "noon"}, ("'m'", "'noon'")),
        ({"m": "2020-01-01T00:00:00Z"}, ("'m'", "time zone")),
    ],
)
def test_bad_submission_times_are_refused(folder: Path, submitted: dict[str, str], parts: tuple[str, ...]) -> None:
    write_predictions(folder, "2020-01-01", pd.DataFrame({"m": [1.0]}, index=["A000"]), submitted)
    assert_refused(
        lambda: Dataset(folder).predictions("2020-01-01"), "predictions/2020-01-01.parquet", "submitted", *parts
    )


@pytest.mark.parametrize(
    ("frame", "parts"),
    [
        ({"asset": ["A", "A"], "m": [1.0, 2.0]}, ("`asset`", "'A'", "2 times", "Keep one row per asset")),
        ({"asset": ["A", "B"], "m": [1.0, np.inf]}, ("'m'", "inf", "'B'", "finite")),
        ({"asset": ["A", "B"], "m": ["1", "x"]}, ("`m`", "string", "Convert")),
        ({"asset": ["A", "B"]}, ("no model",)),
        ({"m": [1.0]}, ("no column `asset`",)),
        (
            {"asset": ["A", "A"], "model": ["m", "m"], "prediction": [1.0, 2.0]},
            ("'A'", "'m'", "2 times", "Keep one row per asset and model"),
        ),
        ({"asset": ["A", None], "m": [1.0, 2.0]}, ("`asset`", "empty")),
    ],
)
def test_bad_predictions_are_refused(folder: Path, frame: dict[str, list[object]], parts: tuple[str, ...]) -> None:
    pd.DataFrame(frame).to_parquet(folder / "predictions" / "2020-01-01.parquet", index=False)
    assert_refused(lambda: Dataset(folder).predictions("2020-01-01"), "predictions/2020-01-01.parquet", *parts)


def test_a_prediction_file_with_a_bad_name_is_refused(folder: Path) -> None:
    (folder / "predictions" / "latest.parquet").write_bytes(b"")
    assert_refused(Dataset(folder).prediction_dates, "predictions/latest.parquet", "YYYY-MM-DD")


def test_latest_predictions_are_never_of_the_future(folder: Path) -> None:
    data = Dataset(folder)
    dates = data.prediction_dates()
    assert data.latest_predictions(dates[1]).date == dates[1]
    assert data.latest_predictions(dates[1] - pd.Timedelta(days=1)).date == dates[0]
    assert data.latest_predictions(dates[-1] + pd.Timedelta(days=7)).date == dates[-1]


def test_a_date_without_predictions_is_refused(folder: Path) -> None:
    data = Dataset(folder)
    last = data.prediction_dates()[-1]
    late = last + pd.Timedelta(days=8)
    assert_refused(
        lambda: data.latest_predictions(late),
        f"no predictions on or within 7 days before {late.date()}",
        f"the last before it in predictions/ is {last.date()}",
        f"Add predictions/{late.date()}.parquet",
    )
    assert_refused(lambda: data.latest_predictions("2019-12-30"), "the first in predictions/ is 2020-01-01")
    assert_refused(lambda: data.predictions("2020-01-02"), "no predictions on 2020-01-02", "is 2020-01-01")
    for path in (folder / "predictions").iterdir():
        path.unlink()
    assert_refused(lambda: Dataset(folder).latest_predictions("2020-01-02"), "has no file")


# Stakes and exposures


def test_stakes_are_in_force_until_the_next(folder: Path) -> None:
    days = ["2020-01-01", "2020-01-01", "2020-01-15"]
    rows = pd.DataFrame({"date": pd.to_datetime(days), "model": ["b", "a", "a"], "stake": [5, 1, 0]})
    rows.to_parquet(folder / "stakes.parquet", index=False)
    data = Dataset(folder)
    assert data.stakes("2020-01-14").to_dict() == {"a": 1.0, "b": 5.0}
    assert data.stakes("2020-01-15").to_dict() == {"a": 0.0, "b": 5.0}
    assert_refused(
        lambda: data.stakes("2019-12-31"), "stakes.parquet", "2019-12-31", "first is dated 2020-01-01", "Start later"
    )


@pytest.mark.parametrize("value", [-1.0, np.nan, np.inf])
def test_a_bad_stake_is_refused(folder: Path, value: float) -> None:
    frame = pd.read_parquet(folder / "stakes.parquet")
    frame.loc[1, "stake"] = value
    frame.to_parquet(folder / "stakes.parquet", index=False)
    assert_refused(
        lambda: Dataset(folder).stakes("2020-01-10"), "stakes.parquet", "`stake`", str(value), "'model_1'", "Correct it"
    )


def test_stakes_that_are_missing_repeated_or_unsorted_are_refused(folder: Path) -> None:
    frame = pd.read_parquet(folder / "stakes.parquet")
    pd.concat([frame, frame.iloc[:1]]).to_parquet(folder / "stakes.parquet", index=False)
    assert_refused(
        lambda: Dataset(folder).stakes("2020-01-10"), "stakes.parquet", "'model_0'", "two stakes", "Keep one"
    )
    early = frame.assign(date=frame["date"] - pd.Timedelta(days=1))
    pd.concat([frame, early]).to_parquet(folder / "stakes.parquet", index=False)
    assert_refused(lambda: Dataset(folder).stakes("2020-01-10"), "stakes.parquet", "`date` must ascend", "Sort")
    (folder / "stakes.parquet").unlink()
    assert_refused(lambda: Dataset(folder).stakes("2020-01-10"), "stakes.parquet", "date, model, stake")


def test_metadata_written_by_other_tools_is_read(folder: Path) -> None:
    table = pa.table({"asset": ["A000"], "m": [0.5]}).replace_schema_metadata(
        {"submitted": json.dumps({"m": "2020-01-03"})}
    )
    pq.write_table(table, folder / "predictions" / "2020-01-01.parquet")
    assert Dataset(folder).predictions("2020-01-01").late() == ("m",)
