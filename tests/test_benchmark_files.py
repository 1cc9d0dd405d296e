"""The files of the benchmark models: what is written, what is refused, and that nothing is written half."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from listed_market import market

from backtest.benchmark_models import MODELS, benchmark_predictions, write_benchmark_models
from backtest.dataset import Dataset
from backtest.learned_models import LEARNERS
from backtest.universe import UniverseRule, universe
from risk import DataError, Panel

SIMPLE = [name for name, model in MODELS.items() if model.signal is not None]


def write_data_set(folder: Path, panel: Panel) -> Dataset:
    folder.mkdir()
    day, asset = np.nonzero(panel.has_row)
    names = np.array(panel.assets)
    market_file = pd.DataFrame({"date": panel.dates[day], "asset": names[asset]})
    for column in ("returns", "close", "dollar_volume"):
        market_file[column.removesuffix("s")] = getattr(panel, column)[day, asset]
    market_file.to_parquet(folder / "market.parquet")
    labels = {
        field: [getattr(panel, names)[code] for code in getattr(panel, field)[0]]
        for field, names in (("country", "countries"), ("sector", "sectors"))
    }
    pd.DataFrame({"asset": names, **labels}).to_parquet(folder / "assets.parquet")
    (folder / "dataset.toml").write_text('name = "small"\n')
    return Dataset(folder)


@pytest.fixture
def data(tmp_path: Path) -> Dataset:
    return write_data_set(tmp_path / "data", market(np.random.default_rng(21), 330, 30))


def test_the_files_hold_what_the_models_say(data: Dataset) -> None:
    shares: list[float] = []
    summary = write_benchmark_models(data, progress=shares.append)
    read = Dataset(data.folder)
    panel = read.panel()
    who = universe(panel, UniverseRule.for_columns(read.market_columns()))
    expected = dict(benchmark_predictions(panel, who.members, who.size))
    assert list(read.prediction_dates()) == list(summary.dates) == list(expected)
    for date, frame in expected.items():
        got = read.predictions(date).values
        assert {"ridge", "gradient_boosting"}.isdisjoint(got.columns)  # they have not learned yet
        pd.testing.assert_frame_equal(
            got, frame.astype("float32").astype(float)[got.columns], check_names=False, check_like=True
        )
    stakes = read.stakes(summary.dates[0])
    assert set(stakes.index) == set(SIMPLE)
    assert (stakes == 1.0).all()
    assert (summary.models.loc[list(LEARNERS), "absent"] == len(summary.dates)).all()
    assert summary.models.loc["low_beta", "predictions"] == sum(f["low_beta"].notna().sum() for f in expected.values())
    assert shares[-1] == 1.0
    assert sorted(path.name for path in data.folder.iterdir()) == [
        "assets.parquet",
        "dataset.toml",
        "market.parquet",
        "predictions",
        "stakes.parquet",
    ]


def test_a_model_that_tells_no_two_assets_apart_is_left_out(data: Dataset) -> None:
    summary = write_benchmark_models(data, rule=UniverseRule(equal_size=True))
    assert summary.models.loc["small_size", "dates"] == 0
    assert "small_size" not in Dataset(data.folder).stakes(summary.dates[0]).index


def test_another_folder_becomes_a_whole_data_set_with_the_same_predictions(data: Dataset, tmp_path: Path) -> None:
    copy = write_benchmark_models(data, tmp_path / "copy")
    assert not (data.folder / "predictions").exists()
    own = write_benchmark_models(data)
    one, two = (
        {path.relative_to(summary.folder): path.read_bytes() for path in summary.folder.rglob("*") if path.is_file()}
        for summary in (copy, own)
    )
    assert one == two


@pytest.mark.parametrize("name", ["predictions", "stakes.parquet", "predictions.partial"])
def test_nothing_is_overwritten(data: Dataset, name: str) -> None:
    (data.folder / name).mkdir()
    with pytest.raises(DataError, match=f"{name}` .*Remove it"):
        write_benchmark_models(data)
    assert sorted(path.name for path in data.folder.iterdir()) == sorted(
        ["assets.parquet", "dataset.toml", "market.parquet", name]
    )


def test_a_folder_that_is_not_empty_or_cannot_be_written_is_refused(data: Dataset, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not an empty folder"):
        write_benchmark_models(data, tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="Copy the data set to a folder of your own"):
        write_benchmark_models(data, tmp_path / "file" / "below")


def test_work_that_fails_leaves_nothing_behind(data: Dataset, tmp_path: Path) -> None:
    def interrupt(share: float) -> None:
        if share > 0.5:
            raise KeyboardInterrupt

    for out in (None, tmp_path / "copy"):
        with pytest.raises(KeyboardInterrupt):
            write_benchmark_models(data, out, progress=interrupt)
    with pytest.raises(DataError, match="at least 20 assets"):
        write_benchmark_models(data, rule=UniverseRule(maximum_assets=5))
    assert sorted(path.name for path in data.folder.iterdir()) == ["assets.parquet", "dataset.toml", "market.parquet"]
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_files_do_not_depend_on_what_the_market_file_holds_after_them(data: Dataset, tmp_path: Path) -> None:
    panel = data.panel()
    cut = write_data_set(tmp_path / "cut", panel.until(299))
    early, late = (write_benchmark_models(each).folder / "predictions" for each in (cut, data))
    names = sorted(path.name for path in early.iterdir())
    assert len(names) == 10
    for name in names:
        assert (early / name).read_bytes() == (late / name).read_bytes()
