from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from market_files import assert_refused, assets_frame, edit_market, rewrite, write_market, write_predictions

from backtest.dataset import Dataset
from backtest.dataset_settings import DatasetSettings

REAL = Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_market(tmp_path / "data", n_models=3)


# The panel


def test_panel_equals_a_pivot_of_the_file(folder: Path) -> None:
    drop = [13, 50, 51, 200]
    rewrite(folder, lambda frame: frame.drop(index=drop))
    panel = Dataset(folder).panel()
    frame = pd.read_parquet(folder / "market.parquet")
    for name, field in (("return", "returns"), ("close",) * 2, ("market_cap",) * 2, ("dollar_volume",) * 2):
        wanted = frame.pivot_table(index="date", columns="asset", values=name, dropna=False)
        np.testing.assert_array_equal(getattr(panel, field), wanted.to_numpy())
        assert not getattr(panel, field).flags.writeable
    assert panel.has_row.sum() == len(frame) == 8 * 40 - 4
    assert panel.assets == tuple(sorted(frame["asset"].unique()))
    assert panel.dates.equals(pd.DatetimeIndex(frame["date"].unique()))
    labels = pd.read_parquet(folder / "assets.parquet").set_index("asset")
    assert [panel.countries[c] for c in panel.country[7]] == labels["country"].loc[list(panel.assets)].tolist()
    assert [panel.sectors[c] for c in panel.sector[7]] == labels["sector"].loc[list(panel.assets)].tolist()


def test_panel_does_not_depend_on_the_order_of_rows_within_a_day(folder: Path) -> None:
    before = Dataset(folder).panel()
    shuffled = lambda frame: frame.sample(frac=1, random_state=1).sort_values("date", kind="stable")  # noqa: E731
    rewrite(folder, shuffled)
    after = Dataset(folder).panel()
    assert before.assets == after.assets
    np.testing.assert_array_equal(before.returns, after.returns)


def test_a_span_is_the_slice_of_the_whole(folder: Path) -> None:
    data = Dataset(folder)
    whole, days = data.panel(), data.dates()
    part = data.panel(start=days[5], end=str(days[20].date()))
    assert part.dates.equals(days[5:21])
    np.testing.assert_array_equal(part.returns, whole.returns[5:21])
    np.testing.assert_array_equal(part.country, whole.country[5:21])


def test_assets_without_rows_in_the_span_are_not_in_it(folder: Path) -> None:
    rewrite(folder, lambda frame: frame[(frame["asset"] != "A003") | (frame["date"] < "2020-01-10")])
    data = Dataset(folder)
    assert "A003" in data.panel().assets
    assert "A003" not in data.panel(start="2020-01-10").assets


def test_csv_partitions_and_parquet_give_the_same_panel(folder: Path, tmp_path: Path) -> None:
    wanted = Dataset(folder).panel()
    frame = pd.read_parquet(folder / "market.parquet")
    assets = pd.read_parquet(folder / "assets.parquet")
    plain = tmp_path / "plain"
    plain.mkdir()
    frame.to_csv(plain / "market.csv", index=False)
    assets.to_csv(plain / "assets.csv", index=False)
    split = tmp_path / "split"
    for date, rows in frame.groupby("date"):
        part = split / "market" / f"date={date.date()}"
        part.mkdir(parents=True)
        rows.drop(columns="date").to_parquet(part / "part-0.parquet", index=False)
    assets.to_parquet(split / "assets.parquet", index=False)
    for other in (plain, split):
        data = Dataset(other)
        panel = data.panel()
        assert panel.dates.equals(wanted.dates)
        assert panel.assets == wanted.assets
        np.testing.assert_allclose(panel.returns, wanted.returns, rtol=1e-12)
        np.testing.assert_allclose(panel.close, wanted.close, rtol=1e-12)
        np.testing.assert_array_equal(panel.country, wanted.country)
        late = data.panel(start=wanted.dates[30])
        np.testing.assert_allclose(late.returns, wanted.returns[30:], rtol=1e-12)


def test_csv_tickers_of_digits_stay_text(tmp_path: Path) -> None:
    (tmp_path / "assets.csv").write_text("asset,country,sector\n0700,HK,Tech\n0005,HK,Banks\n")
    (tmp_path / "market.csv").write_text(
        "date,asset,return\n2024-01-02,0005,\n2024-01-02,0700,\n2024-01-03,0005,0.01\n"
    )
    assert Dataset(tmp_path).panel().assets == ("0005", "0700")


def test_without_close_an_index_compounds_from_one(folder: Path) -> None:
    rewrite(folder, lambda frame: frame.drop(columns="close").drop(index=[8, 16, 24]))
    panel = Dataset(folder).panel()
    expected = np.cumprod(1 + np.nan_to_num(panel.returns[:, 0]))
    seen = panel.has_row[:, 0]
    np.testing.assert_allclose(panel.close[seen, 0], expected[seen], rtol=1e-12)
    assert panel.close[0, 0] == 1.0
    assert np.isnan(panel.close[1:4, 0]).all()


def test_a_return_on_the_first_row_does_not_move_the_index(folder: Path) -> None:
    edit_market(folder, 0, "return", 0.5)
    rewrite(folder, lambda frame: frame.drop(columns="close"))
    assert Dataset(folder).panel().close[0, 0] == 1.0


def test_missing_caps_and_volumes_stay_unknown(folder: Path) -> None:
    edit_market(folder, 20, "market_cap", np.nan)
    edit_market(folder, 21, "dollar_volume", np.nan)
    panel = Dataset(folder).panel()
    assert panel.market_cap is not None
    assert np.isnan(panel.market_cap[2, 4])
    assert np.isnan(panel.dollar_volume[2, 5])
    assert np.isnan(panel.market_cap).sum() == np.isnan(panel.dollar_volume).sum() == 1
    rewrite(folder, lambda frame: frame.drop(columns="market_cap"))
    assert Dataset(folder).panel().market_cap is None


def test_delisting_return_stands_on_the_last_row(folder: Path) -> None:
    rewrite(folder, lambda frame: frame[(frame["asset"] != "A002") | (frame["date"] < "2020-01-20")])
    frame = pd.read_parquet(folder / "market.parquet").assign(delisting_return=np.nan)
    last = frame.index[frame["asset"] == "A002"][-1]
    frame.loc[last, "delisting_return"] = -0.3
    frame.to_parquet(folder / "market.parquet", index=False)
    panel = Dataset(folder).panel()
    assert panel.delisting_return[2] == -0.3
    assert np.isnan(np.delete(panel.delisting_return, 2)).all()
    edit_market(folder, 5, "delisting_return", 0.1)
    assert_refused(
        Dataset(folder).panel, "market.parquet", "delisting_return", "0.1", "'A005'", "2020-01-01", "last row"
    )


# Labels in force


def test_labels_are_those_valid_at_the_date(folder: Path) -> None:
    labels = assets_frame([f"A{i:03d}" for i in range(8)]).assign(valid_from=pd.NaT)
    move = pd.DataFrame(
        {"asset": ["A000", "A001"], "country": ["FR", None], "sector": ["Energy", "Energy"], "valid_from": "2020-01-15"}
    )
    frame = pd.concat([move.assign(valid_from=pd.to_datetime(move["valid_from"])), labels])
    frame["valid_from"] = pd.to_datetime(frame["valid_from"])
    frame.to_parquet(folder / "assets.parquet", index=False)
    data = Dataset(folder)
    panel = data.panel()
    day = panel.dates.get_loc("2020-01-15")
    named = [panel.countries[c] if c >= 0 else None for c in panel.country[:, 0]]
    assert named == ["US"] * day + ["FR"] * (len(panel.dates) - day)
    assert (panel.country[day:, 1] == -1).all()
    assert (panel.country[:day, 1] >= 0).all()
    assert data.labels("2020-01-14").loc["A000", "country"] == "US"
    assert data.labels("2020-01-15").loc["A000", "country"] == "FR"
    assert data.labels("2020-01-15").loc["A001", "country"] is None


def test_a_label_that_starts_later_is_not_known_before(folder: Path) -> None:
    labels = assets_frame([f"A{i:03d}" for i in range(8)]).assign(valid_from=pd.Timestamp("2020-01-20"))
    labels.to_parquet(folder / "assets.parquet", index=False)
    panel = Dataset(folder).panel()
    known = (panel.country >= 0).all(axis=1)
    np.testing.assert_array_equal(known, panel.dates >= "2020-01-20")
    assert Dataset(folder).labels("2020-01-19").empty


def test_assets_without_labels_get_no_code(folder: Path) -> None:
    frame = pd.read_parquet(folder / "assets.parquet")
    frame.loc[0, "country"] = None
    frame.loc[1, "sector"] = ""
    frame.drop(index=2).to_parquet(folder / "assets.parquet", index=False)
    panel = Dataset(folder).panel()
    assert panel.country[0].tolist()[:3] == [-1, panel.countries.index("JP"), -1]
    assert panel.sector[0].tolist()[:3] == [panel.sectors.index("Technology"), -1, -1]
    assert "" not in panel.sectors


def test_industries_and_currencies_are_read_where_they_are_given(folder: Path) -> None:
    panel = Dataset(folder).panel()
    assert panel.industry is panel.currency is None
    frame = pd.read_parquet(folder / "assets.parquet")
    frame = frame.assign(industry=["Banks", "Autos", None] * 2 + ["Autos", "Autos"], currency=["EUR", "USD"] * 4)
    frame.to_parquet(folder / "assets.parquet", index=False)
    panel = Dataset(folder).panel()
    assert panel.industries == ("Autos", "Banks")
    assert panel.industry is not None
    assert panel.currency is not None
    assert panel.industry[-1].tolist() == [1, 0, -1, 1, 0, -1, 0, 0]
    assert panel.currency[0].tolist() == [0, 1] * 4
    assert (panel.currencies, panel.base_currency) == (("EUR", "USD"), "USD")
    assert panel.until(3).industry.shape == (4, 8)  # type: ignore[union-attr]
    (folder / "dataset.toml").write_text('return_kind = "local"\n')
    assert Dataset(folder).panel().currency is None


def test_an_asset_labelled_twice_is_refused(folder: Path) -> None:
    rewrite(folder, lambda frame: pd.concat([frame, frame.iloc[[3]]]), "assets.parquet")
    assert_refused(Dataset(folder).panel, "assets.parquet", "'A003'", "two rows", "Keep one")


# The folder and its settings


def test_a_folder_that_is_none_is_refused(tmp_path: Path) -> None:
    assert_refused(lambda: Dataset(tmp_path / "absent"), "absent", "no folder", "assets.parquet")
    assert_refused(lambda: Dataset(tmp_path), tmp_path.name, "empty", "market.parquet")
    write_market(tmp_path)
    (tmp_path / "market.parquet").unlink()
    assert_refused(lambda: Dataset(tmp_path), "no `market.parquet`")


def test_settings_have_stated_defaults_and_are_read(tmp_path: Path) -> None:
    plain = Dataset(write_market(tmp_path / "plain")).settings
    assert plain == DatasetSettings(name="plain")
    assert (plain.currency, plain.return_kind, plain.close_kind, plain.periods_per_year) == ("USD", "total", "raw", 252)
    text = 'name = "Asia"\ncurrency = "JPY"\nperiods_per_year = 245\nreturn_kind = "local"\n'
    data = Dataset(write_market(tmp_path / "asia", settings=text))
    assert (data.settings.name, data.settings.currency, data.panel().periods_per_year) == ("Asia", "JPY", 245)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("curency = 'USD'", ("`curency`", "currency")),
        ("return_kind = 'gross'", ("`return_kind`", "'gross'", "'total'")),
        ("max_return = -1.0", ("`max_return`", "-1.0", "greater than 0")),
        ("currency = USD", ("no valid TOML", "line 1")),
    ],
)
def test_a_typo_in_the_settings_is_refused(tmp_path: Path, text: str, parts: tuple[str, ...]) -> None:
    folder = write_market(tmp_path / "data", settings=text)
    assert_refused(lambda: Dataset(folder), "dataset.toml", *parts)


def test_fingerprint_follows_content_and_names(folder: Path, tmp_path: Path) -> None:
    first = Dataset(folder).fingerprint()
    twin = write_market(tmp_path / "twin", n_models=3)
    assert Dataset(twin).fingerprint() == first
    assert re.fullmatch("[0-9a-f]{64}", first)
    (twin / "stakes.parquet").rename(twin / "scores.parquet")
    assert Dataset(twin).fingerprint() != first
    edit_market(folder, 100, "close", 1.0)
    assert Dataset(folder).fingerprint() != first


def test_features_say_what_is_there(folder: Path) -> None:
    there = Dataset(folder).features()
    assert {name for name, given in there.items() if given} == {"predictions", "stakes"}
    assert set(there) == {"predictions", "stakes", "exposures", "scores", "events", "rates", "fx", "borrow"}
    assert Dataset(folder).market_columns() == ("market_cap", "close", "dollar_volume")


# The user's own exposures


def test_user_exposures_are_the_latest_not_after(folder: Path) -> None:
    panel = Dataset(folder).panel()
    assert Dataset(folder).user_exposures(panel) is None
    frame = pd.DataFrame(
        {
            "date": pd.to_datetime(["2020-01-02", "2020-01-02", "2020-01-09", "2020-01-09"]),
            "asset": ["A002", "A001", "A001", "unknown"],
            "value": [1.0, 2.0, 3.0, 4.0],
            "signal:mix": [5, 6, None, 8],
        }
    )
    frame.to_parquet(folder / "exposures.parquet", index=False)
    user = Dataset(folder).user_exposures(panel)
    assert user is not None
    assert user.factors == ("style:value", "signal:mix")
    before, first, second = (
        user.values[panel.dates.get_loc(day)] for day in ("2020-01-01", "2020-01-08", "2020-01-09")
    )
    assert np.isnan(before).all()
    np.testing.assert_array_equal(first[:, :4], [[np.nan, 2, 1, np.nan], [np.nan, 6, 5, np.nan]])
    np.testing.assert_array_equal(second[:, :4], [[np.nan, 3, np.nan, np.nan], [np.nan] * 4])


def test_user_exposures_that_cannot_be_used_are_refused(folder: Path) -> None:
    panel, path = Dataset(folder).panel(), folder / "exposures.parquet"
    frame = pd.DataFrame({"date": pd.Timestamp("2020-01-02"), "asset": ["A001", "A001"], "value": [1.0, 2.0]})
    cases = [
        (frame, ("'A001'", "twice on 2020-01-02", "Keep one")),
        (frame[["date", "asset"]], ("no factor column", "Add one")),
        (frame.assign(value="high"), ("`value`", "number")),
    ]
    for table, parts in cases:
        table.to_parquet(path, index=False)
        assert_refused(lambda: Dataset(folder).user_exposures(panel), "exposures.parquet", *parts)


# Point in time


def test_everything_up_to_a_date_is_the_same_when_the_future_is_replaced(folder: Path) -> None:
    before = Dataset(folder)
    cut = before.dates()[20]
    wanted = before.panel(end=cut)
    rng = np.random.default_rng(3)

    def scramble(frame: pd.DataFrame) -> pd.DataFrame:
        future = frame["date"] > cut
        frame.loc[future, "return"] = rng.normal(0, 0.1, int(future.sum()))
        frame.loc[future, "close"] *= 3.0
        return frame[~(future & (frame["asset"] == "A001"))]

    stakes = before.stakes(cut)
    rewrite(folder, scramble)
    new = pd.read_parquet(folder / "stakes.parquet").assign(date=cut + pd.Timedelta(days=1), stake=99.0)
    rewrite(folder, lambda frame: pd.concat([frame, new]), "stakes.parquet")
    write_predictions(folder, cut + pd.Timedelta(days=1), pd.DataFrame({"x": [1.0]}, index=["A000"]))
    after = Dataset(folder)
    panel = after.panel().until(20)
    for name in ("returns", "has_row", "close", "market_cap", "dollar_volume", "country", "sector"):
        np.testing.assert_array_equal(getattr(panel, name), getattr(wanted, name))
    pd.testing.assert_series_equal(after.stakes(cut), stakes)
    assert after.latest_predictions(cut).date <= cut


@pytest.mark.parametrize("name", ["us", "europe"])
def test_real_data_is_read(name: str) -> None:
    if not (REAL / name).is_dir():
        pytest.skip(f"real data not found at {REAL / name}")
    data = Dataset(REAL / name)
    panel = data.panel(start="2023-01-03", end="2023-03-31")
    assert panel.dates[0] == pd.Timestamp("2023-01-03")
    assert np.isfinite(panel.close[panel.has_row]).all()
    frame = pd.read_parquet(REAL / name / "market.parquet", filters=[("date", "==", pd.Timestamp("2023-02-01"))])
    t = panel.dates.get_loc("2023-02-01")
    wanted = frame.set_index("asset")["return"].reindex(list(panel.assets)).to_numpy(dtype=np.float64)
    unknown = data.unknown_returns()
    wanted[np.isin(panel.assets, unknown.loc[unknown["date"] == "2023-02-01", "asset"])] = 0.0
    np.testing.assert_array_equal(panel.returns[t], wanted)
