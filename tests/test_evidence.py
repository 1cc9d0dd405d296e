# ruff: noqa: RUF001 (the true minus sign is what a reader sees)
"""What a report says of its own numbers: intervals, tests, drawdowns, gross to net, published figures, trials."""

from __future__ import annotations

import json
import math

import numpy as np
import pandas as pd
import pytest
from html_page import Page, texts, values
from run_files import write_run

from backtest.published import NEVER_FITTED, published
from backtest.series import drawdowns, rolling_beta, rolling_sharpe
from backtest.sharpe_record import sharpe_record
from backtest.statistic import Band, Unit
from backtest.statistic_intervals import with_bootstrap
from backtest.statistics import run_statistics
from backtest.store import Run
from backtest.trial_report import trial_report
from backtest.waterfall import waterfall
from reports import write
from reports.cells import band_text, with_unit
from reports.evidence_tables import drawdown_table, sharpe_table, waterfall_table
from reports.records import assumed_table
from reports.trials import trial_statistics


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("runs") / "run", sessions=300, assets=12)


@pytest.fixture(scope="module")
def page(run):
    return Page(write(run, run.folder.parent / "report.html").read_text(encoding="utf-8"))


def test_every_statistic_stands_beside_its_convention_and_interval(run, page):
    for item in with_bootstrap(run_statistics(run), run.nav):
        assert item.convention in page.text
        if item.band is not None:
            assert band_text(item.band, item.unit) in page.text, item.name
            assert f"Interval: {item.band.method}." in page.text


def test_intervals_in_the_unit_of_their_statistic():
    assert band_text(Band(-0.0123, 0.25, "95 %"), Unit.PER_YEAR) == "−1.23 % to 25.0 %"
    assert band_text(None, Unit.RATIO) == ""
    assert [with_unit(0.0123, unit) for unit in (Unit.SLOPE, Unit.SESSIONS)] == ["0.012", "0"]


def test_sharpe_table_marks_a_record_that_is_too_short():
    days = pd.bdate_range("2020-01-01", periods=500)
    rng = np.random.default_rng(0)
    series = {
        "good": rng.normal(2e-3, 0.01, 500),
        "poor": rng.normal(1e-4, 0.01, 500),
        "bad": rng.normal(-2e-3, 0.01, 500),
    }
    records = {name: sharpe_record(pd.Series(x, days)) for name, x in series.items()}
    records["short"] = sharpe_record(pd.Series(series["good"][:5], days[:5]))
    bands = dict.fromkeys(records) | {"good": Band(1.0, 2.0, "95 %")}
    table = sharpe_table(records, bands, 252)
    rows = {row[0].text: row for row in table.rows}
    assert {name: row[8].alert for name, row in rows.items()} == {
        "good": False,
        "poor": True,
        "bad": True,
        "short": False,
    }
    assert rows["good"][2].text == "1.00 to 2.00"
    assert rows["good"][1].text == f"{records['good'].ratio:.2f}"
    assert rows["bad"][8].text == "never"
    assert [cell.text for cell in rows["short"]] == ["short", *["n/a"] * 8, "0.0 years"]


@pytest.mark.parametrize(("drift", "said"), [(3e-3, "lies above 0"), (-3e-3, "lies below 0"), (0.0, "holds 0")])
def test_the_verdict_follows_the_interval(tmp_path, drift, said):
    made = write_run(tmp_path / "run", sessions=120, assets=6)
    nav = pd.read_parquet(made.folder / "nav.parquet")
    shift = drift - nav["gross_return"].mean()
    for name in ("gross_return", "return_before_fees", "net_return"):
        nav[name] += shift
    nav.to_parquet(made.folder / "nav.parquet")
    (made.folder / "lines.parquet").unlink()
    found = Page(write(Run(made.folder), tmp_path / "r.html").read_text())
    assert f"Before fees the interval of the ratio {said}" in found.text


def test_deepest_drawdowns_come_first():
    net = pd.Series([0.1, -0.02, 0.05, -0.3, 0.5, -0.1, 0.2, -0.05], pd.bdate_range("2024-01-01", periods=8))
    table = drawdown_table(drawdowns(net), count=3)
    assert texts(table) == [
        ["2024-01-03", "2024-01-04", "2024-01-05", "−30.00 %", "2", "1", "1"],
        ["2024-01-05", "2024-01-08", "2024-01-09", "−10.00 %", "2", "1", "1"],
        ["2024-01-09", "2024-01-10", "not recovered", "−5.00 %", "1", "1", ""],
    ]
    assert table.note == "1 shallower ones are left out."
    assert drawdown_table(drawdowns(net.abs())).rows == ()


def test_rolling_figures_draw_full_windows_only(run, page):
    nav = run.nav
    net = next(trace for trace in page.figures["rolling-sharpe"]["data"] if trace.get("name") == "Net of fees")
    np.testing.assert_allclose(values(net), rolling_sharpe(nav["net_return"]).iloc[251:], rtol=1e-5)
    assert net["x"][0] == f"{nav.index[251]:%Y-%m-%d}"
    beta = page.figures["rolling-beta"]["data"][0]
    expected = rolling_beta(nav["return_before_fees"], nav["market_return"]).iloc[251:]
    np.testing.assert_allclose(values(beta), expected, rtol=1e-5)
    band = [values(trace)[0] for trace in page.figures["rolling-sharpe"]["data"][:2]]
    wanted = sharpe_record(nav["return_before_fees"]).window_band(252)
    assert band == pytest.approx([wanted.lower, wanted.upper], rel=1e-6)


@pytest.mark.parametrize("lines", [True, False])
def test_bars_from_gross_to_net_meet_the_net_return(tmp_path, lines):
    made = write_run(tmp_path / "run", sessions=300, assets=6)
    if not lines:
        (made.folder / "lines.parquet").unlink()
    found = Page(write(made, tmp_path / "r.html").read_text())
    bars = found.figures["waterfall"]["data"][0]
    sizes = dict(zip(bars["y"], values(bars, "x"), strict=True))
    steps = [size for size, kind in zip(sizes.values(), bars["measure"], strict=True) if kind == "relative"]
    expected = run_statistics(made)["annual_return_net"].value
    assert sum(steps) == pytest.approx(expected, rel=1e-5)
    assert sizes["Net return"] == pytest.approx(expected, rel=1e-6)
    # A total is drawn from 0: it must be what the bars above it add up to.
    kinds, running = bars["measure"], 0.0
    for size, kind in zip(sizes.values(), kinds, strict=True):
        running += size if kind == "relative" else 0.0
        assert kind == "relative" or size == pytest.approx(running, rel=1e-5)
    assert ("Impact" in sizes, "Trading cost" in sizes) == (lines, not lines)
    assert ("The run has no table of lines" in found.text) == (not lines)


def test_waterfall_table_has_the_run_and_its_years(run):
    nav, lines = run.nav, run.table("lines")
    table = waterfall_table(waterfall(nav, lines), waterfall(nav, lines, period="year"))
    assert [column.label for column in table.columns] == ["Step", "Per year", "Whole run", "2022", "2023"]
    last = texts(table)[-1]
    total = (1 + nav["net_return"]).prod() - 1
    assert [last[0], last[2]] == ["Net return", f"{100 * total:.2f} %"]
    assert {row[0].text for row in table.rows if row[1].strong} == {
        *("Gross return", "Trading cost", "Financing", "Before fees", "Fees", "Net return")
    }


def test_an_account_that_lost_everything_has_no_steps(tmp_path):
    lost = write_run(tmp_path / "run", sessions=60, assets=6, status="bankrupt")
    found = Page(write(lost, tmp_path / "r.html").read_text())
    assert "nothing compounds, and there are no steps from gross to net" in found.text
    assert "waterfall" not in found.figures


def test_published_figures_stand_beside_ours_where_the_fund_has_that_name(run, page, tmp_path):
    assert NEVER_FITTED in page.text
    assert f"All that was published, {len(published('One'))} figures" in page.text
    ours = with_bootstrap(run_statistics(run), run.nav)["sharpe_before_fees_ltm"]
    assert f"2.07 {with_unit(ours.value, ours.unit)} {band_text(ours.band, ours.unit)} gross of fees" in page.text
    other = write_run(tmp_path / "run", sessions=40, assets=6)
    record = json.loads((other.folder / "run.json").read_text())
    record["product"]["name"] = "Mine"
    (other.folder / "run.json").write_text(json.dumps(record))
    assert NEVER_FITTED not in Page(write(Run(other.folder), tmp_path / "r.html").read_text()).text


def test_assumed_terms_are_listed_with_their_values():
    record = {
        "product": {"lag_days": 1, "risk_model": {"a": 1, "b": None}, "assumed": ["lag_days", "risk_model"]},
        "mandate": {"alpha": {"horizon_days": 20}, "gross_limit": 6.0, "assumed": ["alpha.horizon_days"]},
    }
    assert texts(assumed_table(record)) == [
        ["Product", "lag_days", "1"],
        ["Product", "risk_model.a", "1"],
        ["Product", "risk_model.b", "none"],
        ["Mandate", "alpha.horizon_days", "20"],
    ]
    assert assumed_table({}).rows == ()


def test_trials_are_shown_where_they_are_given(tmp_path, page):
    assert "this report was given no count" in page.text
    made = [write_run(tmp_path / name, sessions=300, assets=6, seed=seed) for seed, name in enumerate("abc")]
    report = trial_report(made[0])
    shown = trial_statistics(report)
    evidence = report.evidence
    assert shown["trials"].value == 3
    assert shown["deflated_sharpe"].value == evidence.deflated.probability
    assert shown["deflated_benchmark"].value == pytest.approx(evidence.deflated.benchmark * math.sqrt(252))
    assert shown["familywise_p_value"].value == evidence.p_value
    assert shown["probability_of_overfitting"].value == evidence.overfitting.probability
    assert shown["probability_of_overfitting"].band.upper == 0.95, "three trials say as little as two"
    found = Page(write(made[0], tmp_path / "r.html", trials=report).read_text())
    assert "this report was given no count" not in found.text
    for item in shown:
        for words in (item.label, item.definition, item.convention, with_unit(item.value, item.unit)):
            assert words in found.text, item.name


def test_a_run_that_is_too_short_is_counted_and_not_judged(tmp_path):
    shown = trial_statistics(trial_report(write_run(tmp_path / "run", sessions=10, assets=6)))
    assert [item.name for item in shown] == ["trials"]
    assert "needs 20 sessions; there are 10" in shown["trials"].note
