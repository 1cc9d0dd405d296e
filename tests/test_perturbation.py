"""What is replaced after a date is valid input, is other input, and leaves everything up to the date as it was."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from market_files import write_market

from backtest import Dataset
from backtest.data_copy import copy_until
from backtest.leak_trials import write_small_market
from backtest.perturbation import EVERYTHING, fields_of, perturb
from risk import DataError

FIELDS = (
    *("return", "close", "market_cap", "dollar_volume", "delisting_return", "rows", "labels", "predictions"),
    *("stakes", "exposures", "scores", "events", "rates", "fx", "borrow"),
)
FILE = {"labels": "assets"} | dict.fromkeys(FIELDS[:6], "market")


@pytest.fixture(scope="module")
def market(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return write_small_market(tmp_path_factory.mktemp("perturbation") / "data")


def copy(market: Dataset, folder: Path, *, ahead: int = 10) -> tuple[Path, pd.Timestamp]:
    """Return a copy that ends some sessions after a date, and the date."""
    sessions = market.dates()
    copy_until(market, folder, sessions[50 + ahead], sessions[-1])
    return folder, pd.Timestamp(sessions[50])


def table(folder: Path, name: str) -> pd.DataFrame:
    """Return a table with its date column; labels and predictions with the date on which they begin to count."""
    if name == "predictions":
        parts = (
            pd.read_parquet(path).assign(date=pd.Timestamp(path.stem)) for path in sorted((folder / name).iterdir())
        )
        return pd.concat(parts, ignore_index=True)
    frame = pd.read_parquet(folder / f"{name}.parquet")
    if name == "assets":
        since = frame["valid_from"] if "valid_from" in frame else pd.Series(pd.NaT, index=frame.index)
        frame = frame.assign(date=pd.to_datetime(since).fillna(pd.Timestamp(0))).drop(
            columns="valid_from", errors="ignore"
        )
    return frame


def test_the_small_market_has_every_field(market: Dataset) -> None:
    assert fields_of(market) == FIELDS


@pytest.mark.parametrize("field", FIELDS)
def test_one_field_changes_after_the_date_and_nothing_else_anywhere(
    market: Dataset, tmp_path: Path, field: str
) -> None:
    before, date = copy(market, tmp_path / "before")
    after, _ = copy(market, tmp_path / "after")
    assert perturb(after, field, date, 0) > 0
    changed = FILE.get(field, field)
    for name in {"market", "assets", "predictions", *FIELDS[8:]}:
        old, new = table(before, name), table(after, name)
        if name != changed:
            pd.testing.assert_frame_equal(old, new)
            continue
        known = [frame[frame["date"] <= date].reset_index(drop=True) for frame in (old, new)]
        pd.testing.assert_frame_equal(*known, check_dtype=False)
        later = [frame[frame["date"] > date].reset_index(drop=True) for frame in (old, new)]
        assert not later[0].equals(later[1])
        if changed == "market" and field != "rows":
            others = [name for name in old if name != field]
            pd.testing.assert_frame_equal(later[0][others], later[1][others], check_dtype=False)


@pytest.mark.parametrize("field", [*FIELDS, EVERYTHING])
def test_what_is_put_in_is_a_valid_data_set(market: Dataset, tmp_path: Path, field: str) -> None:
    folder, date = copy(market, tmp_path / "data")
    perturb(folder, field, date, 1)
    data = Dataset(folder)
    panel = data.panel()
    assert panel.assets == market.panel().assets
    assert panel.dates.equals(market.dates()[:61])
    data.conditions(panel)
    data.user_exposures(panel)
    for day in data.prediction_dates():
        if day <= panel.dates[-1]:
            assert data.predictions(day).values.notna().to_numpy().any()
    assert (data.stakes(panel.dates[-1]) > 0).any()


def test_the_same_seed_puts_in_the_same(market: Dataset, tmp_path: Path) -> None:
    found = []
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        folder, date = copy(market, tmp_path / name)
        perturb(folder, EVERYTHING, date, seed)
        found.append(Dataset(folder).fingerprint())
    assert found[0] == found[1] != found[2]


def test_a_copy_holds_the_assets_of_the_run_wherever_it_ends(market: Dataset, tmp_path: Path) -> None:
    sessions, whole = market.dates(), market.panel()
    first = whole.has_row.argmax(axis=0)
    assert (first > 20).any(), "an asset must list after the copy's end"
    left_out = copy_until(market, tmp_path / "data", sessions[20], sessions[-1])
    panel = Dataset(tmp_path / "data").panel()
    assert left_out == int(whole.has_row[21:].sum())
    assert panel.assets == whole.assets
    assert (panel.has_row[:-1] == whole.has_row[:20]).all()
    listed = first > 20
    assert panel.has_row[-1, listed].all()
    assert np.isnan(panel.returns[-1, listed]).all()
    # Up to an earlier end there are those assets alone that are listed by then.
    copy_until(market, tmp_path / "bare", sessions[20], sessions[5])
    assert Dataset(tmp_path / "bare").panel().assets == tuple(np.array(whole.assets)[first <= 5])


@pytest.mark.parametrize("layout", ["csv", "partitions"])
def test_other_layouts_of_the_files_are_copied_too(tmp_path: Path, layout: str) -> None:
    folder = write_market(tmp_path / "data", n_assets=8, n_days=40, n_models=3)
    for name in ("market", "stakes", "assets"):
        frame = pd.read_parquet(folder / f"{name}.parquet")
        if layout == "csv":
            frame.to_csv(folder / f"{name}.csv", index=False)
        elif name == "market":
            for day, rows in frame.groupby("date"):
                part = folder / "market" / f"date={day:%Y-%m-%d}"
                part.mkdir(parents=True)
                rows.drop(columns="date").to_parquet(part / "rows.parquet", index=False)
        else:
            continue
        (folder / f"{name}.parquet").unlink()
    if layout == "csv":
        for path in (folder / "predictions").glob("*.parquet"):
            pd.read_parquet(path).to_csv(path.with_suffix(".csv"), index=False)
            path.unlink()
    data = Dataset(folder)
    date = pd.Timestamp(data.dates()[20])
    copy_until(data, tmp_path / "copy", data.dates()[30], data.dates()[-1])
    kept = Dataset(tmp_path / "copy").panel(end=date)
    perturb(tmp_path / "copy", EVERYTHING, date, 0)
    changed = Dataset(tmp_path / "copy").panel()
    np.testing.assert_array_equal(changed.returns[:21], kept.returns)
    np.testing.assert_array_equal(kept.returns, data.panel(end=date).returns)
    assert not np.array_equal(changed.returns[21:], data.panel().returns[21:31], equal_nan=True)


def test_a_field_that_is_not_there_is_refused(market: Dataset, tmp_path: Path) -> None:
    shutil.copytree(market.folder, tmp_path / "data")
    (tmp_path / "data" / "fx.parquet").unlink()
    (tmp_path / "data" / "dataset.toml").unlink()
    folder, date = copy(Dataset(tmp_path / "data"), tmp_path / "copy")
    with pytest.raises(DataError, match="'fx' is none of the data set's"):
        perturb(folder, "fx", date, 0)
