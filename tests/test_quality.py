from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from market_files import edit_market, rewrite, write_market, write_predictions

from backtest.dataset import Dataset
from backtest.market_rules import Finding, Severity
from backtest.quality import QualityReport, check
from backtest.universe import UniverseRule
from risk import DataError

REAL = Path(__file__).parents[2] / "shared" / "data"
RULE = UniverseRule(minimum_dollar_volume=0, history_days=10)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_market(tmp_path / "data", n_assets=12, n_models=3)


def report_of(folder: Path) -> QualityReport:
    return check(Dataset(folder), RULE)


def the(report: QualityReport, rule: str) -> Finding:
    """Return the one finding of a rule."""
    found = [finding for finding in report.findings if finding.rule == rule]
    assert len(found) == 1, [finding.rule for finding in report.findings]
    return found[0]


def test_clean_data_is_usable_and_says_what_it_is(folder: Path) -> None:
    report = report_of(folder)
    assert report.usable
    assert report.counts == {"assets": 12, "dates": 40, "rows": 480, "prediction_dates": 8, "models": 3}
    assert report.span == (pd.Timestamp("2020-01-01"), pd.Timestamp("2020-02-25"))
    assert [finding.rule for finding in report.findings] == ["first_return"]
    assert report.excluded is not None
    assert report.excluded.loc["members", "last"] == 12
    assert report.excluded.loc["history", "mean"] == pytest.approx(12 * 9 / 40)
    assert report.excluded["mean"].sum() == pytest.approx(12)
    assert report.lines()[0] == "data: 12 assets, 40 trading days, 480 rows, 2020-01-01 to 2020-02-25"
    assert report.lines()[-1] == "usable"


def test_the_report_is_plain_json(folder: Path) -> None:
    edit_market(folder, 100, "return", np.inf)
    given = json.loads(json.dumps(report_of(folder).to_dict()))
    assert given["usable"] is False
    assert given["findings"][0]["severity"] == "error"
    assert given["findings"][0]["rule"] == "infinite_return"
    assert given["universe"] is None
    assert given["models"]["model_0"]["dates"] == 8


def test_every_error_is_listed_and_the_panel_refuses_the_first(folder: Path) -> None:
    spoiled = {
        100: ("return", np.inf, "infinite_return"),
        110: ("return", 9.5, "absurd_return"),
        120: ("return", -1.0, "total_loss"),
        130: ("return", np.nan, "unknown_return"),
        140: ("close", -3.0, "bad_close"),
        150: ("market_cap", 0.0, "bad_market_cap"),
        160: ("dollar_volume", -1.0, "bad_dollar_volume"),
    }
    where = {rule: edit_market(folder, row, column, value) for row, (column, value, rule) in spoiled.items()}
    frame = pd.read_parquet(folder / "market.parquet")
    frame = pd.concat([frame, frame.iloc[[200]]])
    frame.to_parquet(folder / "market.parquet", index=False)
    report = report_of(folder)
    errors = [finding for finding in report.findings if finding.severity is Severity.ERROR]
    assert {finding.rule for finding in errors} == {*where, "unsorted_dates", "duplicate_rows"}
    for rule, (date, asset) in where.items():
        finding = the(report, rule)
        assert date in finding.message
        assert repr(asset) in finding.message
        assert finding.count == 1
    assert not report.usable
    assert report.lines()[-1] == "not usable: 9 error(s) above"
    assert report.excluded is None
    with pytest.raises(DataError) as caught:
        Dataset(folder).panel()
    assert str(caught.value) == errors[0].message


def test_an_unreadable_file_does_not_hide_the_others(folder: Path) -> None:
    (folder / "market.parquet").write_bytes(b"PAR1")
    stakes = pd.read_parquet(folder / "stakes.parquet")
    stakes.assign(stake=-1.0).to_parquet(folder / "stakes.parquet", index=False)
    (folder / "predictions" / "2020-01-01.parquet").write_bytes(b"")
    report = report_of(folder)
    refusals = [finding.message for finding in report.findings if finding.severity is Severity.ERROR]
    assert len(refusals) == 3
    for name in ("market.parquet", "predictions/2020-01-01.parquet", "stakes.parquet"):
        assert any(name in message for message in refusals)
    assert report.span is None
    assert report.models is not None
    assert report.models.loc["model_0", "dates"] == 7


@pytest.mark.parametrize("zone", ["UTC", None])
def test_dates_with_a_time_zone_are_an_error(folder: Path, zone: str | None) -> None:
    rewrite(folder, lambda frame: frame.assign(date=frame["date"].dt.tz_localize(zone)))
    assert report_of(folder).usable is (zone is None)


def test_assets_without_labels_are_warned_of_and_left_out(folder: Path) -> None:
    frame = pd.read_parquet(folder / "assets.parquet")
    frame.loc[0, "country"] = None
    frame.loc[1, "sector"] = None
    frame = pd.concat([frame, pd.DataFrame({"asset": ["ZZZ"], "country": ["US"], "sector": ["Energy"]})])
    frame.to_parquet(folder / "assets.parquet", index=False)
    report = report_of(folder)
    assert report.usable
    assert "`country` is missing for 1 assets (A000)" in the(report, "no_country").message
    assert "`sector` is missing for 1 assets (A001)" in the(report, "no_sector").message
    assert "ZZZ" in the(report, "unused_label").message
    assert report.excluded is not None
    assert report.excluded.loc["label", "last"] == 2


def test_rare_unknown_returns_are_a_warning_with_their_rule(folder: Path) -> None:
    (folder / "dataset.toml").write_text("max_unknown_returns = 0.01\n")
    date, asset = edit_market(folder, 100, "return", np.nan)
    finding = the(report_of(folder), "unknown_return")
    assert finding.severity is Severity.WARNING
    assert date in finding.message
    assert repr(asset) in finding.message
    assert "taken as 0" in finding.message
    assert "first row of 12 assets" in the(report_of(folder), "first_return").message


def test_odd_markets_are_warned_of(folder: Path) -> None:
    frame = pd.read_parquet(folder / "market.parquet")
    day = frame["date"].to_numpy()
    asset = frame["asset"].to_numpy()
    dates = pd.DatetimeIndex(frame["date"].unique())
    frame.loc[(asset == "A000") & (day >= dates[20]), "close"] /= 4  # a split
    frame.loc[(asset == "A001") & (day >= dates[10]) & (day < dates[22]), "return"] = 0.0
    frame.loc[asset == "A002", "market_cap"] = np.nan
    frame.loc[(asset == "A003") & (day == dates[5]), "market_cap"] = np.nan
    gone = (asset == "A004") & (day >= dates[25])
    shut = (day == dates[15]) & np.isin(asset, ["A000", "A003", "A006", "A009"])
    gap = (day >= dates[30]) & (day <= dates[34])
    frame[~(gone | shut | gap)].to_parquet(folder / "market.parquet", index=False)
    report = report_of(folder)
    assert report.usable
    split = the(report, "implied_split")
    # The twelve returns set to 0 do not show: they are far smaller than a split.
    assert (split.count, split.severity) == (1, Severity.INFO)
    assert f"'A000' on {dates[20].date()}" in split.message
    stale = the(report, "stale_price")
    assert stale.count == 1
    assert "12 rows of 'A001'" in stale.message
    assert "41 rows" not in the(report, "missing_market_cap").message
    assert "of 2 assets; 1 never have one (A002)" in the(report, "missing_market_cap").message
    assert "1 of 1 assets that left have no `delisting_return` (A004)" in the(report, "no_delisting_return").message
    assert the(report, "holiday").count == 4
    assert the(report, "suspended").count == 9
    assert f"after {dates[29].date()}" in the(report, "date_gap").message


def test_adjusted_closes_that_contradict_returns_are_a_warning(folder: Path) -> None:
    edit_market(folder, 100, "close", 1.0)
    (folder / "dataset.toml").write_text('close_kind = "adjusted"\n')
    finding = the(report_of(folder), "implied_split")
    assert finding.severity is Severity.WARNING
    assert finding.count == 2


def test_a_market_of_returns_only_is_checked_by_what_it_has(tmp_path: Path) -> None:
    folder = write_market(tmp_path / "bare", n_days=140, without=["close", "market_cap", "dollar_volume"])
    report = check(Dataset(folder))
    assert report.usable
    assert report.size_source == "equal"
    assert {"no_market_cap", "no_close", "no_dollar_volume", "no_predictions"} <= {f.rule for f in report.findings}
    assert report.excluded is not None
    assert report.excluded.loc["members", "last"] == 8


def test_models_that_cannot_be_used_are_counted(folder: Path) -> None:
    names = [f"A{i:03d}" for i in range(12)]
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "good": rng.normal(size=13),
            "constant": 0.5,
            "nothing": np.nan,
            "one": [1.0] + [np.nan] * 12,
            "three": [1.0, 2.0, 3.0] + [np.nan] * 10,
            "tardy": rng.normal(size=13),
        },
        index=[*names, "GHOST"],
    )
    write_predictions(folder, "2020-01-01", frame, {"tardy": "2020-01-02T10:00"})
    report = report_of(folder)
    assert report.usable
    assert report.models is not None
    wanted = {
        "constant": [1, 1, 0, 0, 0, 1],
        "good": [1, 0, 0, 0, 0, 1],
        "nothing": [0, 0, 1, 0, 0, 0],
        "one": [1, 0, 0, 1, 0, 0],
        "tardy": [1, 0, 0, 0, 1, 1],
        "three": [1, 0, 0, 1, 0, 0],
    }
    for model, row in wanted.items():
        assert report.models.loc[model].tolist() == row, model
    assert report.models.loc["model_0"].tolist() == [7, 0, 0, 0, 0, 0]
    for rule, model in (("constant", "constant"), ("missing", "nothing"), ("few", "three"), ("late", "tardy")):
        finding = the(report, f"model_{rule}")
        assert finding.severity is Severity.WARNING
        assert finding.count == (2 if rule == "few" else 1)
        assert f"'{model}' (1 dates)" in finding.message
    assert the(report, "model_unknown_assets").count == 3
    assert the(report, "no_stake").count == 6


def test_stakes_and_dates_that_do_not_meet_are_reported(folder: Path) -> None:
    rows = {"date": pd.Timestamp("2020-01-06"), "model": ["model_0", "model_1", "other"], "stake": [0.0, 1.0, 2.0]}
    pd.DataFrame(rows).to_parquet(folder / "stakes.parquet", index=False)
    (folder / "predictions" / "2020-01-15.parquet").rename(folder / "predictions" / "2020-01-18.parquet")
    report = report_of(folder)
    assert "'model_2'" in the(report, "no_stake").message
    assert "'other'" in the(report, "no_model").message
    assert "'model_0'" in the(report, "zero_stake").message
    assert "1 prediction dates, the last of them 2020-01-01" in the(report, "early_predictions").message
    assert "first 2020-01-18" in the(report, "not_a_trading_day").message
    assert "first after 2020-01-08 (10 days)" in the(report, "prediction_gap").message


def test_missing_stakes_are_an_error_where_there_are_predictions(folder: Path) -> None:
    (folder / "stakes.parquet").unlink()
    report = report_of(folder)
    assert not report.usable
    assert "stakes.parquet" in the(report, "refused").message


@pytest.mark.parametrize("name", ["us", "europe"])
def test_real_data_is_usable(name: str) -> None:
    if not (REAL / name).is_dir():
        pytest.skip(f"real data not found at {REAL / name}")
    report = check(Dataset(REAL / name))
    assert report.usable
    rules = {finding.rule for finding in report.findings}
    if name == "us":
        assert the(report, "no_country").count == 77
        assert the(report, "unknown_return").count == 12
        assert "`return` is NaN on the first row of 297 assets" in the(report, "first_return").message
    else:
        assert "no_market_cap" in rules
        assert report.size_source == "dollar_volume"
