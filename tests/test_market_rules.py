from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from market_files import assert_refused, assets_frame, edit_market, market_frame, rewrite, write_market

from backtest.dataset import Dataset

REAL = Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_market(tmp_path / "data", n_models=3)


# Bad market files


@pytest.mark.parametrize(
    ("column", "value", "shown", "remedy"),
    [
        ("return", np.inf, "inf", "Correct the row"),
        ("return", -np.inf, "-inf", "Correct the row"),
        ("return", 9.0, "9", "raise `max_return` in dataset.toml"),
        ("return", -1.0, "-1", "remove the asset's rows after it"),
        ("return", -1.2, "-1.2", "remove the asset's rows after it"),
        ("return", np.nan, "NaN", "raise `max_unknown_returns` in dataset.toml"),
        ("close", 0.0, "0", "leave it empty"),
        ("close", np.inf, "inf", "leave it empty"),
        ("market_cap", 0.0, "0", "leave it empty"),
        ("market_cap", -5.0, "-5", "leave it empty"),
        ("dollar_volume", -1.0, "-1", "leave it empty"),
    ],
)
def test_a_bad_value_is_refused_by_name(folder: Path, column: str, value: float, shown: str, remedy: str) -> None:
    date, asset = edit_market(folder, 100, column, value)
    assert_refused(
        Dataset(folder).panel, "market.parquet", f"`{column}`", shown, repr(asset), date, "1 such row", remedy
    )


def test_a_total_loss_is_accepted_on_the_last_row_only(folder: Path) -> None:
    rewrite(folder, lambda frame: frame[(frame["asset"] != "A004") | (frame["date"] <= "2020-01-20")])
    frame = pd.read_parquet(folder / "market.parquet")
    last = int(frame.index[frame["asset"] == "A004"][-1])
    edit_market(folder, last, "return", -1.0)
    assert np.nanmin(Dataset(folder).panel().returns[:, 4]) == -1.0
    edit_market(folder, last, "return", -1.01)
    assert_refused(Dataset(folder).panel, "-1.01", "'A004'")


def test_max_return_is_a_setting(folder: Path) -> None:
    edit_market(folder, 100, "return", 9.0)
    (folder / "dataset.toml").write_text("max_return = 10.0\n")
    assert np.nanmax(Dataset(folder).panel().returns) == 9.0


def test_an_unknown_return_is_taken_as_zero_and_listed_where_it_is_rare_enough(folder: Path) -> None:
    date, asset = edit_market(folder, 100, "return", np.nan)
    (folder / "dataset.toml").write_text(f"max_unknown_returns = {1 / 320}\n")
    data = Dataset(folder)
    t, i = data.dates().get_loc(date), int(asset[1:])
    panel = data.panel()
    assert panel.returns[t, i] == 0.0
    assert np.isnan(panel.returns[0]).all()
    assert np.isnan(panel.returns).sum() == 8
    listed = data.unknown_returns()
    assert listed.to_dict("records") == [{"date": pd.Timestamp(date), "asset": asset}]
    np.testing.assert_array_equal(data.panel(start=panel.dates[t]).returns, panel.returns[t:])
    edit_market(folder, 101, "return", np.nan)
    assert_refused(Dataset(folder).panel, "2 such rows", repr(asset), date)


def test_zero_volume_and_unknown_close_are_accepted(folder: Path) -> None:
    edit_market(folder, 100, "dollar_volume", 0.0)
    edit_market(folder, 101, "close", np.nan)
    panel = Dataset(folder).panel()
    assert (panel.dollar_volume == 0).sum() == 1
    assert (np.isnan(panel.close) & panel.has_row).sum() == 1


def test_unsorted_dates_are_refused(folder: Path) -> None:
    rewrite(folder, lambda frame: pd.concat([frame.iloc[8:16], frame.iloc[:8], frame.iloc[16:]]))
    for act in (Dataset(folder).panel, Dataset(folder).dates, lambda: Dataset(folder).panel(start="2020-01-10")):
        assert_refused(act, "market.parquet", "`date` must ascend", "2020-01-01", "2020-01-02", "Sort the file")


def test_duplicated_rows_are_refused(folder: Path) -> None:
    rewrite(folder, lambda frame: pd.concat([frame.iloc[:43], frame.iloc[42:]]))
    assert_refused(
        Dataset(folder).panel, "market.parquet", "'A002'", "2020-01-08", "2 times", "Keep one row per date and asset"
    )


def test_dates_with_a_time_zone_are_refused(folder: Path) -> None:
    rewrite(folder, lambda frame: frame.assign(date=frame["date"].dt.tz_localize("UTC")))
    for act in (Dataset(folder).panel, Dataset(folder).dates):
        assert_refused(act, "market.parquet", "`date`", "UTC", "tz_localize(None)")


def test_dates_with_a_time_of_day_are_refused(folder: Path) -> None:
    rewrite(folder, lambda frame: frame.assign(date=frame["date"] + pd.Timedelta(hours=16)))
    assert_refused(Dataset(folder).panel, "market.parquet", "`date`", "2020-01-01T16:00", "normalize()")


def test_dates_as_text_and_numbers_as_text_are_refused(folder: Path) -> None:
    kept = (folder / "market.parquet").read_bytes()
    rewrite(folder, lambda frame: frame.assign(date=frame["date"].astype(str)))
    assert_refused(Dataset(folder).panel, "market.parquet", "`date`", "string", "Convert the column")
    (folder / "market.parquet").write_bytes(kept)
    rewrite(folder, lambda frame: frame.assign(close=frame["close"].astype(str)))
    assert_refused(Dataset(folder).panel, "market.parquet", "`close`", "string", "Convert the column")


@pytest.mark.parametrize(("file", "column"), [("market", "return"), ("market", "asset"), ("assets", "sector")])
def test_a_missing_column_is_refused(folder: Path, file: str, column: str) -> None:
    rewrite(folder, lambda frame: frame.drop(columns=column), f"{file}.parquet")
    assert_refused(Dataset(folder).panel, f"{file}.parquet", f"`{column}`", "Add or rename")


def test_a_row_without_asset_or_date_is_refused(folder: Path) -> None:
    kept = (folder / "market.parquet").read_bytes()
    for column in ("asset", "date"):
        (folder / "market.parquet").write_bytes(kept)
        edit_market(folder, 100, column, None) if column == "asset" else rewrite(
            folder, lambda frame: frame.assign(date=frame["date"].where(frame.index != 100))
        )
        assert_refused(Dataset(folder).panel, "market.parquet", f"`{column}`", "1 rows")


@pytest.mark.parametrize("name", ["market.parquet", "assets.parquet"])
@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_a_truncated_file_is_refused(folder: Path, name: str, share: float) -> None:
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[: int(len(content) * share)])
    assert_refused(Dataset(folder).panel, name, "cannot be read", "truncated")


def test_a_file_damaged_in_its_middle_is_refused(folder: Path) -> None:
    content = bytearray((folder / "market.parquet").read_bytes())
    content[100:2000] = bytes(1900)
    (folder / "market.parquet").write_bytes(content)
    assert_refused(Dataset(folder).panel, "market.parquet", "cannot be read", "damaged")


def test_a_csv_with_another_separator_is_refused(tmp_path: Path) -> None:
    frame = market_frame()
    frame.to_parquet(tmp_path / "market.parquet", index=False)
    assets_frame(sorted(frame["asset"].unique())).to_csv(tmp_path / "assets.csv", sep=";", index=False)
    assert_refused(Dataset(tmp_path).panel, "assets.csv", "one column", "asset;country;sector", "commas")


def test_a_csv_with_text_among_its_numbers_is_refused(tmp_path: Path) -> None:
    (tmp_path / "assets.csv").write_text("asset,country,sector\nA,US,Tech\n")
    (tmp_path / "market.csv").write_text("date,asset,return\n2024-01-02,A,\n2024-01-03,A,n/k\n")
    assert_refused(Dataset(tmp_path).panel, "market.csv", "`return`", "string")


def test_an_empty_market_is_refused(folder: Path) -> None:
    rewrite(folder, lambda frame: frame.iloc[:0])
    assert_refused(Dataset(folder).panel, "market.parquet", "no rows")


def test_a_partition_with_a_bad_name_is_refused(folder: Path) -> None:
    (folder / "market.parquet").unlink()
    (folder / "market" / "date=20-20").mkdir(parents=True)
    assert_refused(Dataset(folder).panel, "market/date=20-20", "2024-01-31")
    (folder / "market" / "date=20-20").rmdir()
    (folder / "market" / "notes").mkdir()
    assert_refused(Dataset(folder).panel, "market/notes", "date=YYYY-MM-DD")


def test_two_market_files_are_refused(folder: Path) -> None:
    (folder / "market.csv").write_text("date,asset,return\n")
    assert_refused(Dataset(folder).panel, "market.parquet", "market.csv", "Remove one")


@pytest.mark.parametrize(
    ("start", "end", "parts"),
    [
        ("2019-12-01", None, ("`start`", "2019-12-01", "2020-01-01 to 2020-02-25", "Choose")),
        (None, "2021-01-01", ("`end`", "2021-01-01", "2020-01-01 to 2020-02-25", "Choose")),
        ("2021-01-01", None, ("`start`", "2021-01-01", "Choose")),
        ("2020-02-03", "2020-01-15", ("2020-02-03", "after", "2020-01-15", "Swap")),
        ("2020-01-18", "2020-01-19", ("no rows between 2020-01-18 and 2020-01-19",)),
        ("soon", None, ("`start`", "'soon'", "2024-01-31")),
        (pd.Timestamp("2020-01-15", tz="UTC"), None, ("`start`", "time zone", "tz_localize(None)")),
    ],
)
def test_dates_out_of_range_are_refused(folder: Path, start: str, end: str, parts: tuple[str, ...]) -> None:
    assert_refused(lambda: Dataset(folder).panel(start, end), *parts)
