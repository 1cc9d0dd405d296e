"""The front door: what a user types, what is printed, what is left behind, and the exit code."""

from __future__ import annotations

import json
import shutil
import sys
from importlib import resources
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from market_files import edit_market, rewrite
from market_files import write_market as write_small

import metafolio
from backtest import Run
from backtest.synthetic import MarketSpec
from benchmarks.verify import account_differences, limit_violations
from engine import InfeasibleMandate


def call(*arguments: str | Path, monkeypatch: pytest.MonkeyPatch) -> int:
    """Run the command line and return its exit code."""
    monkeypatch.setattr(sys, "argv", ["metafolio", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        metafolio.main()
    code = ended.value.code
    assert isinstance(code, int)
    return code


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A valid data set of 40 assets and 320 days with six models."""
    return write_small(tmp_path / "data", n_assets=40, n_days=320, n_models=6)


def backtest(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *more: str) -> int:
    code = call("backtest", data, "--out", tmp_path / "run", "--quiet", *more, monkeypatch=monkeypatch)
    left = {path.name for path in tmp_path.iterdir()} & {"run", "run.partial"}
    assert left == ({"run"} if code == 0 else set()), "half-written"
    return code


def test_backtest_writes_a_run_and_json_for_machines(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("backtest", small, "--out", tmp_path / "run", "--json", monkeypatch=monkeypatch) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["status"] == "complete"
    assert record["statistics"]["sessions"] == len(Run(tmp_path / "run").nav)


def test_report_is_one_file_that_needs_no_network(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "report.html"
    assert call("report", run.folder, "--out", out, monkeypatch=monkeypatch) == 0
    assert str(out) in capsys.readouterr().out.replace("\n", "")
    assert "Sharpe" in out.read_text(encoding="utf-8")


def test_check_says_usable_and_fails_where_a_backtest_would(
    small: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("check", small, monkeypatch=monkeypatch) == 0
    assert "usable" in capsys.readouterr().out
    edit_market(small, 50, "return", np.inf)
    assert call("check", small, monkeypatch=monkeypatch) == 1


def test_benchmark_models_make_a_data_set_that_can_be_backtested(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.rmtree(small / "predictions")
    (small / "stakes.parquet").unlink()
    assert call("benchmark-models", small, "--quiet", monkeypatch=monkeypatch) == 0
    assert backtest(small, tmp_path, monkeypatch) == 0
    assert call("benchmark-models", small, "--quiet", monkeypatch=monkeypatch) == 1


def test_optimize_gives_orders_that_lead_from_holdings_to_the_target(
    market: Path, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    date = run.table("solves")["date"].iloc[-3]
    positions = run.table("positions")
    held = positions[(positions["date"] == date) & (positions["shares"] != 0)]
    nav = float(run.nav["nav"][date])
    held[["asset", "shares"]].to_csv(tmp_path / "held.csv", index=False)
    barred = held["asset"].iloc[:2]
    barred.to_frame().to_csv(tmp_path / "barred.csv", index=False)
    free = ("optimize", market, "--date", f"{date:%Y-%m-%d}", "--holdings", tmp_path / "held.csv", "--nav", f"{nav!r}")
    assert call(*free, "--out", tmp_path / "orders.csv", "--json", monkeypatch=monkeypatch) == 0
    assert json.loads(capsys.readouterr().out)["status"] == "solved"
    orders = pd.read_csv(tmp_path / "orders.csv").set_index("asset")
    assert list(orders) == ["target_weight", "trade_shares", "trade_value", "cost", "reason"]
    # The same date, book and data as in the run: the same decision.
    weights = run.table("weights")
    decided = weights[weights["date"] == date].set_index("asset")["target"]
    both = orders.index.intersection(decided.index)
    np.testing.assert_allclose(orders.loc[both, "target_weight"], decided[both], atol=1e-9)
    price = held.set_index("asset")["price"]
    after = (held.set_index("asset")["shares"] + orders["trade_shares"].reindex(price.index)) * price / nav
    np.testing.assert_allclose(after, orders["target_weight"].reindex(price.index), atol=1e-12)
    assert abs(orders["target_weight"].sum()) < 1e-6

    assert (
        call(
            *free,
            "--restricted",
            tmp_path / "barred.csv",
            "--out",
            tmp_path / "two.csv",
            "--quiet",
            monkeypatch=monkeypatch,
        )
        == 0
    )
    restricted = pd.read_csv(tmp_path / "two.csv").set_index("asset")
    assert (restricted.loc[barred, "trade_shares"] == 0).all()
    assert (restricted.loc[barred, "reason"] == "restricted").all()
    assert call(*free, "--out", tmp_path / "two.csv", "--quiet", monkeypatch=monkeypatch) == 1


def test_attribute_writes_scores_that_are_predictions_times_the_gradient(
    run: Run, market: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from engine import gaussianise

    folder = tmp_path / "run"
    shutil.copytree(run.folder, folder)
    arguments = ("attribute", folder, "--masks", "2", "--rounds", "2", "--seed", "5", "--json")
    assert call(*arguments, monkeypatch=monkeypatch) == 0
    record = json.loads(capsys.readouterr().out)
    assert {"model", "true_contribution"} <= set(record["models"][0])
    scores, gradient = Run(folder).table("contribution"), Run(folder).table("gradient")
    for date, round_scores in scores.groupby("date"):
        g = gradient[gradient["date"] == date].set_index("asset")["gradient"]
        predictions = (
            pd.read_parquet(market / "predictions" / f"{date:%Y-%m-%d}.parquet").set_index("asset").reindex(g.index)
        )
        known = round_scores.dropna(subset="true_contribution").set_index("model")["true_contribution"]
        prepared, _ = gaussianise(predictions[list(known.index)].to_numpy(np.float64))
        np.testing.assert_allclose(prepared.T @ g.to_numpy(), known, atol=1e-6 * np.abs(known).max())
    first = (folder / "contribution.parquet").read_bytes()
    assert call(*arguments, monkeypatch=monkeypatch) == 0
    assert (folder / "contribution.parquet").read_bytes() == first


BAD = {
    "an infinite return": (lambda data: edit_market(data, 400, "return", np.inf), "return"),
    "+900 %": (lambda data: edit_market(data, 400, "return", 9.0), "max_return"),
    "-100 % before the last row": (lambda data: edit_market(data, 400, "return", -1.0), "return"),
    "an unknown return": (lambda data: edit_market(data, 400, "return", np.nan), "return"),
    "unsorted dates": (lambda data: rewrite(data, lambda frame: frame.iloc[::-1]), "date"),
    "a row twice": (
        lambda data: rewrite(data, lambda frame: frame.loc[frame.index.repeat(1 + (frame.index == 77))]),
        "2 times",
    ),
    "time zones": (
        lambda data: rewrite(data, lambda frame: frame.assign(date=frame["date"].dt.tz_localize("UTC"))),
        "zone",
    ),
    "no close above 0": (lambda data: edit_market(data, 400, "close", 0.0), "close"),
    "a truncated file": (lambda data: truncate(data / "market.parquet"), "market.parquet"),
    "no stakes": (lambda data: (data / "stakes.parquet").unlink(), "stakes"),
    "a negative stake": (lambda data: rewrite(data, lambda frame: frame.assign(stake=-1.0), "stakes.parquet"), "stake"),
    "no predictions": (lambda data: shutil.rmtree(data / "predictions"), "predictions"),
    "a gap in predictions": (lambda data: drop_predictions(data), "predictions"),
    "no labels": (lambda data: rewrite(data, lambda frame: frame.assign(country=None), "assets.parquet"), "countr"),
}


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def drop_predictions(data: Path) -> None:
    for path in sorted((data / "predictions").glob("*.parquet"))[-12:-2]:
        path.unlink()


@pytest.mark.parametrize("case", sorted(BAD))
def test_bad_data_is_one_paragraph_exit_code_1_and_nothing_half_written(
    case: str, small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    spoil, word = BAD[case]
    spoil(small)
    assert backtest(small, tmp_path, monkeypatch) == 1
    message = capsys.readouterr().err
    assert "Traceback" not in message
    assert word in " ".join(message.split()), message
    assert "\n\n" not in message.strip()


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("gros_limit = 4.0", "gros_limit"),
        ("position_limit = -0.02", "position_limit"),
        ("position_target = 0.5", "position_target"),
        ("risk_aversion = 0.0", "risk_aversion"),
        ('style_limit = "much"', "style_limit"),
        ("net_limit = ", "TOML"),
    ],
)
def test_a_mandate_with_a_mistake_names_file_field_and_value(
    text: str,
    word: str,
    small: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    lines = {"position_limit": "0.02", "position_target": "0.018", "gross_limit": "4.0", "risk_aversion": "15.0"}
    lines |= {"name": '"MINE"', text.split(" = ")[0]: text.split(" = ")[1]}
    (tmp_path / "mandate.toml").write_text("\n".join(f"{key} = {value}" for key, value in lines.items()))
    (tmp_path / "product.toml").write_text('name = "Mine"\nmandate = "mandate.toml"\n')
    assert backtest(small, tmp_path, monkeypatch, "--product", str(tmp_path / "product.toml")) == 1
    message = " ".join(capsys.readouterr().err.split())
    assert word in message
    assert "mandate.toml" in message


@pytest.mark.parametrize(
    "arguments",
    [
        ("backtest",),
        ("backtest", "DATA"),
        ("nonsense",),
        ("attribute", "RUN", "--masks", "0"),
        ("demo", "--seed", "-1"),
    ],
)
def test_bad_usage_is_exit_code_2(arguments: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    assert call(*arguments, monkeypatch=monkeypatch) == 2


@pytest.mark.parametrize("data", ["missing", "empty"])
def test_a_folder_without_data_is_refused(
    data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    assert backtest(tmp_path / data, tmp_path, monkeypatch) == 1
    assert data in capsys.readouterr().err


def test_a_universe_of_five_assets_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_small(tmp_path / "data", n_assets=5, n_days=320, n_models=3)
    assert backtest(data, tmp_path, monkeypatch) == 1
    message = capsys.readouterr().err
    assert "at most 5 assets" in message
    assert "`risk_model.minimum_assets`" in message
    rewrite(data, lambda frame: frame.assign(close=0.5))
    assert backtest(data, tmp_path, monkeypatch) == 1
    assert "5 by price" in capsys.readouterr().err


def test_a_date_on_which_no_model_can_be_used_is_named(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = sorted((small / "predictions").glob("*.parquet"))[-2]
    frame = pd.read_parquet(path)
    frame.assign(**dict.fromkeys(frame.columns[1:], 1.0)).to_parquet(path, index=False)
    assert backtest(small, tmp_path, monkeypatch) == 1
    message = capsys.readouterr().err
    assert f"`predictions/{path.stem}`" in message
    assert "6 constant" in message


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_a_demo_that_is_cut_off_leaves_nothing_behind(
    error: type[BaseException], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut_off(_data: object) -> None:
        raise error

    monkeypatch.setattr("backtest.demo.DEMO_MARKET", MarketSpec(assets=30, years=1.0, models=3, countries=1, sectors=2))
    monkeypatch.setattr("backtest.demo.check", cut_off)
    assert call("demo", "--out", tmp_path / "demo", "--quiet", monkeypatch=monkeypatch) in {1, 130}
    assert not list(tmp_path.iterdir())


def test_a_model_of_three_assets_and_a_constant_one_are_left_out_and_listed(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path in (small / "predictions").glob("*.parquet"):
        frame = pd.read_parquet(path)
        frame.loc[3:, "model_1"] = np.nan
        frame["model_2"] = 0.5
        frame["model_3"] = np.nan
        frame.to_parquet(path, index=False)
    assert backtest(small, tmp_path, monkeypatch) == 0
    models = Run(tmp_path / "run").table("meta_model").set_index("model")
    assert models.loc["model_1", "reason"].str.contains("3 of").all()
    assert models.loc["model_2", "reason"].eq("constant").all()
    assert models.loc["model_3", "reason"].eq("no value").all()
    assert not models.loc[["model_1", "model_2", "model_3"], "used"].any()
    assert (limit_violations(tmp_path / "run") <= 1e-6).all()


def test_an_asset_without_a_label_is_left_out_and_counted(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rewrite(small, lambda frame: frame.assign(sector=frame["sector"].mask(frame["asset"] == "A007")), "assets.parquet")
    assert backtest(small, tmp_path, monkeypatch) == 0
    run = Run(tmp_path / "run")
    assert "A007" not in set(run.table("weights")["asset"])
    excluded = run.table("universe")
    assert (excluded.loc[excluded["reason"] == "label", "assets"] == 1).all()


def test_an_output_that_cannot_be_written_is_refused(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("no folder")
    assert call("backtest", small, "--out", tmp_path / "file" / "run", "--quiet", monkeypatch=monkeypatch) == 1
    assert "cannot be made" in " ".join(capsys.readouterr().err.split())


def test_a_folder_that_is_no_run_is_refused(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("report", small, "--out", tmp_path / "r.html", monkeypatch=monkeypatch) == 1
    assert "run.json" in capsys.readouterr().err
    assert not (tmp_path / "r.html").exists()


@pytest.mark.parametrize("column", ["close", "market_cap", "dollar_volume"])
def test_a_market_without_an_optional_column_is_run_with_what_it_has(
    column: str, small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rewrite(small, lambda frame: frame.drop(columns=column))
    product: tuple[str, ...] = ()
    if column == "dollar_volume":
        # Impact is a function of the volume: without it the run is refused, unless the mandate charges none.
        assert backtest(small, tmp_path, monkeypatch) == 1
        message = " ".join(capsys.readouterr().err.split())
        assert "dollar_volume" in message
        assert "impact_coefficient" in message
        mandate = resources.files("engine") / "mandates" / "one.toml"
        free = mandate.read_text().replace("impact_coefficient = 0.7", "impact_coefficient = 0.0")
        (tmp_path / "free.toml").write_text(free)
        terms = 'name = "Free"\nmandate = "free.toml"\n[risk_model]\nminimum_history = 126\n'
        (tmp_path / "product.toml").write_text(terms)
        product = ("--product", str(tmp_path / "product.toml"))
    assert backtest(small, tmp_path, monkeypatch, *product) == 0
    run = Run(tmp_path / "run")
    asked = {"close": ["minimum_price"], "dollar_volume": ["minimum_dollar_volume"], "market_cap": []}
    assert run.record["universe_not_applied"] == asked[column]
    excluded = run.table("universe").groupby("reason")["assets"].max()
    assert excluded[{"close": "price"}.get(column, column)] == 0
    assert (limit_violations(tmp_path / "run") <= 1e-6).all()


def test_a_close_that_is_empty_on_some_days_leaves_the_account_whole(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def empty_a_week(frame: pd.DataFrame) -> pd.DataFrame:
        days = frame["date"].unique()[296:299]
        some = frame["date"].isin(days) & frame["asset"].isin([f"A{i:03d}" for i in range(0, 40, 3)])
        return frame.assign(close=frame["close"].mask(some))

    rewrite(small, empty_a_week)
    assert backtest(small, tmp_path, monkeypatch) == 0
    assert (account_differences(tmp_path / "run") < 0.01).all()
    assert np.isfinite(Run(tmp_path / "run").table("positions")["price"]).all()


@pytest.mark.parametrize("date", ["nonsense", "", "nan", "2021-03-22T10:00", "2021-03-22T00:00+01:00"])
def test_a_date_that_is_none_is_refused_by_name(
    date: str, small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("optimize", small, "--date", date, "--out", tmp_path / "o.csv", monkeypatch=monkeypatch) == 1
    message = capsys.readouterr().err
    assert "`date` must" in message
    assert not (tmp_path / "o.csv").exists()


@pytest.mark.parametrize("out", [".", "/", ""])
def test_an_output_without_a_name_is_refused(
    out: str, run: Run, market: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments in (("backtest", market), ("report", run.folder)):
        assert call(*arguments, "--out", out, "--quiet", monkeypatch=monkeypatch) == 1
        assert "--out" in capsys.readouterr().err


def test_a_report_that_cannot_take_its_place_leaves_nothing_behind(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "folder").mkdir()
    assert call("report", run.folder, "--out", tmp_path / "folder", monkeypatch=monkeypatch) == 1
    assert "cannot be written" in " ".join(capsys.readouterr().err.split())
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_names_that_look_like_something_else_are_names(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assets = {"A000": "NA", "A001": "nan", "A002": "0700", "A003": "<b>x</b>", "A004": '[/] "Q"', "A005": "1e5"}
    models = {"model_0": "date", "model_1": "<script>alert(1)</script>", "model_2": "[/red]", "model_3": "stake"}
    for name in ("market.parquet", "assets.parquet"):
        rewrite(small, lambda frame: frame.assign(asset=frame["asset"].replace(assets)), name)
    rewrite(small, lambda frame: frame.assign(model=frame["model"].replace(models)), "stakes.parquet")
    for path in (small / "predictions").glob("*.parquet"):
        frame = pd.read_parquet(path).rename(columns=models)
        frame.assign(asset=frame["asset"].replace(assets)).to_parquet(path, index=False)
    (tmp_path / "product.toml").write_text(
        'name = "One [/] two"\nmandate = "one"\n[risk_model]\nminimum_history = 126\n'
    )
    folder, data = tmp_path / "r [red] x=1", tmp_path / "data [bold]"
    small.rename(data)
    product = ("--product", tmp_path / "product.toml")
    assert call("backtest", data, *product, "--out", folder, monkeypatch=monkeypatch) == 0
    assert "One [/] two" in capsys.readouterr().out
    assert call("attribute", folder, "--masks", "2", "--rounds", "1", monkeypatch=monkeypatch) == 0
    assert "[/red]" in capsys.readouterr().out
    assert call("report", folder, "--out", tmp_path / "r.html", monkeypatch=monkeypatch) == 0
    page = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert "<script>alert(1)" not in page
    assert "<b>x</b>" not in page
    positions = Run(folder).table("positions")
    date = Run(folder).table("solves")["date"].iloc[-1]
    held = positions[(positions["date"] == date) & (positions["shares"] != 0)]
    held[["asset", "shares"]].to_csv(tmp_path / "held.csv", index=False)
    pd.DataFrame({"asset": ["NA", "nan"]}).to_csv(tmp_path / "barred.csv", index=False)
    lists = ("--holdings", tmp_path / "held.csv", "--restricted", tmp_path / "barred.csv")
    arguments = ("optimize", data, "--date", f"{date:%Y-%m-%d}", *product, *lists, "--out", tmp_path / "o [red].csv")
    assert call(*arguments, monkeypatch=monkeypatch) == 0
    assert "o [red].csv" in capsys.readouterr().out.replace("\n", "")
    orders = pd.read_csv(tmp_path / "o [red].csv", keep_default_na=False).set_index("asset")
    assert (orders.loc[["NA", "nan"], "reason"] == "restricted").all()
    assert "0700" in orders.index
    assert call(*arguments, monkeypatch=monkeypatch) == 1


def test_an_asset_that_the_market_does_not_have_is_named(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "held.csv").write_text("asset,shares\nXX,1\n")
    lists = ("--holdings", tmp_path / "held.csv", "--out", tmp_path / "o.csv")
    assert call("optimize", small, "--date", "2021-03-22", *lists, "--quiet", monkeypatch=monkeypatch) == 1
    assert "`asset` 'XX'. Correct" in capsys.readouterr().err
    rewrite(small, lambda frame: frame.drop(columns="close"))
    assert call("optimize", small, "--date", "2021-03-22", *lists, "--quiet", monkeypatch=monkeypatch) == 1
    assert "no column `close`" in capsys.readouterr().err


def test_an_asset_that_is_gone_gets_no_order_and_one_that_is_suspended_waits(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def end_two(frame: pd.DataFrame) -> pd.DataFrame:
        days = frame["date"].unique()
        gone = (frame["asset"] == "A001") & (frame["date"] > days[290])
        suspended = (frame["asset"] == "A002") & (frame["date"] > days[315])
        return frame[~gone & ~suspended]

    rewrite(small, end_two)
    (tmp_path / "held.csv").write_text("asset,shares\nA001,1000\nA002,1000\nA006,-100\n")
    lists = ("--holdings", tmp_path / "held.csv", "--out", tmp_path / "o.csv")
    assert call("optimize", small, "--date", "2021-03-22", *lists, "--quiet", monkeypatch=monkeypatch) == 0
    orders = pd.read_csv(tmp_path / "o.csv").set_index("asset")
    assert orders.loc[["A001", "A002"], "trade_shares"].eq(0).all()
    assert orders.loc["A001", "reason"].startswith("gone")
    assert orders.loc["A002", "reason"] == "suspended"
    assert orders.loc["A006", "reason"].startswith("rebalance: short")


def test_a_run_that_stops_says_why_whatever_its_names(
    market: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(_decision: object) -> None:
        raise InfeasibleMandate("No portfolio meets all limits of [/red].", ("net",), {"net": 0.1})

    monkeypatch.setattr("backtest.simulator.optimize", refuse)
    assert call("backtest", market, "--out", tmp_path / "run", "--quiet", monkeypatch=monkeypatch) == 1
    message = capsys.readouterr().err
    assert "all limits of [/red]. What was done" in message
    assert call("report", tmp_path / "run", "--out", tmp_path / "r.html", monkeypatch=monkeypatch) == 0
    (tmp_path / "run" / "run.json").write_text("{")
    assert call("report", tmp_path / "run", "--out", tmp_path / "r.html", monkeypatch=monkeypatch) == 1
    assert "no valid JSON" in capsys.readouterr().err


def test_a_fund_above_its_capacity_is_refused(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert backtest(small, tmp_path, monkeypatch, "--aum", "5e9") == 1
    assert "above the capacity of One, 500,000,000" in capsys.readouterr().err


def test_live_orders_in_another_currency_are_refused(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rewrite(small, lambda frame: frame.assign(currency="GBP"), "assets.parquet")
    date = sorted((small / "predictions").glob("*.parquet"))[-1].stem
    out = tmp_path / "orders.csv"
    assert call("optimize", small, "--date", date, "--out", out, "--quiet", monkeypatch=monkeypatch) == 1
    assert "is quoted in GBP" in capsys.readouterr().err
    assert not out.exists()


def test_check_names_files_that_are_given_and_not_used(
    small: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pd.DataFrame({"date": [pd.Timestamp("2020-01-01")], "asset": ["A000"], "target": [0.5]}).to_parquet(
        small / "scores.parquet"
    )
    assert call("check", small, monkeypatch=monkeypatch) == 0
    assert "given, and not used yet: scores" in capsys.readouterr().out


def test_risk_of_a_run_writes_a_page_and_numbers(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "risk.html"
    code = call("risk", run.folder, "--out", out, "--json", monkeypatch=monkeypatch)
    record = json.loads(capsys.readouterr().out)
    assert code == (metafolio.HARD_BREACH if record["hard_breach"] else 0)
    assert record["date"] == f"{run.nav.index[-1]:%Y-%m-%d}"
    assert {"headline", "limits", "sources", "scenarios", "forecast", "attribution", "model"} <= set(record)
    assert "Limits, monitored daily" in out.read_text(encoding="utf-8")
    assert call("risk", run.folder, "--out", out, "--quiet", monkeypatch=monkeypatch) == 1
    assert "exists already" in capsys.readouterr().err


def test_risk_exits_with_3_on_a_hard_breach_and_0_without(
    run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from backtest.monitoring import monitor

    breaches = monitor(run).breaches
    hard = breaches[breaches["hard"]]
    day = hard["start"].iloc[0]
    arguments = ("risk", run.folder, "--date", f"{day:%Y-%m-%d}")
    assert call(*arguments, monkeypatch=monkeypatch) == 3
    assert "HARD BREACH" in capsys.readouterr().out
    dates = pd.DatetimeIndex(run.nav.index)
    inside = [((hard["start"] <= date) & (date <= hard["end"])).any() for date in dates]
    calm = next(date for date, beyond in zip(dates, inside, strict=True) if date > day and not beyond)
    assert call("risk", run.folder, "--date", f"{calm:%Y-%m-%d}", "--quiet", monkeypatch=monkeypatch) == 0
    assert capsys.readouterr().out == ""


def test_risk_of_a_data_set_is_its_model(
    market: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "model.html"
    assert call("risk", market, "--product", "supreme", "--out", out, monkeypatch=monkeypatch) == 0
    assert "risk model alone" in capsys.readouterr().out
    assert "Report of a risk model" in out.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("folder", "more", "code", "word"),
    [
        ("missing", (), 1, "is no folder"),
        ("empty", (), 1, "neither a finished run"),
        ("run", ("--date", "nonsense"), 1, "`date` must be a date"),
        ("run", ("--date", "1999-01-04"), 1, "before the run's first decision"),
        ("run", ("--product", "one"), 2, "a run has its own product"),
        ("market", ("--product", "three"), 1, "unknown product"),
        ("market", ("--date", "1999-01-04"), 1, "no trading day"),
    ],
)
def test_risk_of_what_it_cannot_report_on_is_refused(
    folder: str, more: tuple[str, ...], code: int, word: str, run: Run, market: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    (tmp_path / "empty").mkdir()
    path = {"run": run.folder, "market": market}.get(folder, tmp_path / folder)
    out = tmp_path / "risk.html"
    assert call("risk", path, "--out", out, *more, "--quiet", monkeypatch=monkeypatch) == code
    message = " ".join(capsys.readouterr().err.replace("\u2502", " ").split())
    assert word in message
    assert not out.exists()
