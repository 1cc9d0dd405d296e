# ruff: noqa: RUF001 (the true minus and multiplication signs are what a reader sees)
from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from html_page import Page, texts, values
from run_files import write_run

from backtest.series import drawdown, growth
from backtest.statistics import Unit, run_statistics
from backtest.store import SCHEMAS, Run
from reports import write, write_tearsheet
from reports.cells import basis_points, money, number, percent, scientific, with_unit
from reports.records import (
    binding_table,
    contribution_table,
    left_out_table,
    notice_table,
    recent_notices,
    solve_table,
    terms_table,
    universe_table,
)
from reports.tables import limit_table, month_table, position_table
from risk import DataError

NASTY = "<img src=x onerror=alert(1)>&'\"</script>"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("runs") / "run", sessions=300, assets=24)


@pytest.fixture(scope="module")
def page(run):
    return Page(write(run, run.folder.parent / "report.html").read_text(encoding="utf-8"))


def test_the_page_loads_nothing(run, page):
    for tag, attributes in page.tags:
        assert tag not in {"link", "iframe", "object", "embed", "base", "img", "form"}
        assert "src" not in attributes
        assert attributes.get("href", "#").startswith("#")
    policy = next(a["content"] for t, a in page.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert "default-src 'none'" in policy
    text = (run.folder.parent / "report.html").read_text(encoding="utf-8")
    style = text[text.index("<style>") : text.index("</style>")]
    assert "url(" not in style
    assert "@import" not in style
    assert len(text) < 8e6


def test_every_statistic_is_printed_with_its_definition(run, page):
    for item in run_statistics(run):
        for words in (item.label, item.definition, with_unit(item.value, item.unit)):
            assert words in page.text, item.name


def test_what_the_head_must_say(page):
    for words in ("ONE", "A test market", "70.0 million USD", "2022-01-03 to", "ab" * 32, "cd" * 32, "complete"):
        assert words in page.text
    assert "Product: lag days. Mandate: gross limit, alpha horizon days." in page.text
    assert "what they add is off: borrow, rates." in page.text


def test_figures_draw_the_series_of_the_run(run, page):
    net = page.figures["equity"]["data"][1]
    assert net["name"] == "Net of fees"
    np.testing.assert_allclose(values(net), growth(run.nav["net_return"]), rtol=1e-6)
    assert net["x"][-1] == f"{run.nav.index[-1]:%Y-%m-%d}"
    np.testing.assert_allclose(
        values(page.figures["drawdown"]["data"][0]), drawdown(run.nav["net_return"]), rtol=1e-5, atol=1e-7
    )
    beta = page.figures["panel-1"]["data"]
    assert [trace["name"] for trace in beta] == ["Lower limit", "Upper limit", "Book"]
    np.testing.assert_allclose(values(beta[1]), 0.01, rtol=1e-6)
    rows = run.table("exposures").query("factor == 'beta'")
    np.testing.assert_allclose(values(beta[2]), rows["exposure"], rtol=1e-6)
    heat = page.figures["heat-sector"]["data"][0]
    assert heat["y"] == ["Energy", "Health Care", "Technology"]
    assert len(page.figures) == sum("plot" in (a.get("class") or "").split() for _, a in page.tags)


def test_names_with_markup_are_text(tmp_path):
    bad = write_run(tmp_path / "run", sessions=60, assets=6, names=(NASTY,))
    record = json.loads((bad.folder / "run.json").read_text())
    record |= {"name": NASTY, "status": "stopped", "reason": NASTY}
    record["data"] |= {"name": NASTY, "source": NASTY, "features": {NASTY: False}}
    record["product"][NASTY] = NASTY
    (bad.folder / "run.json").write_text(json.dumps(record))
    tame = Page(write(write_run(tmp_path / "tame", sessions=60, assets=6), tmp_path / "tame.html").read_text())
    found = Page(write(Run(bad.folder), tmp_path / "bad.html").read_text(encoding="utf-8"))
    assert not [tag for tag, attributes in found.tags if tag == "img" or "onerror" in attributes]
    assert sum(tag == "script" for tag, _ in found.tags) == sum(tag == "script" for tag, _ in tame.tags)
    assert found.text.count(NASTY) >= 8
    drawn = found.figures["contribution"]["data"][0]["y"]
    assert "&lt;img src=x onerror=alert(1)&gt;&amp;'\"&lt;/script&gt;" in drawn


@pytest.mark.parametrize("status", ["stopped", "bankrupt"])
def test_a_run_that_did_not_complete_says_so_first(tmp_path, status):
    found = Page(
        write(write_run(tmp_path / "run", sessions=60, assets=6, status=status), tmp_path / "r.html").read_text()
    )
    banner = found.text.index(f"This run is {status}, not complete.")
    assert banner < found.text.index("Summary")
    if status == "bankrupt":
        assert "−100.0 %" in found.text, "a lost fund is shown as lost"


@pytest.mark.parametrize("sessions", [1, 2, 30])
def test_short_runs_show_na_with_the_reason(tmp_path, sessions):
    short = write_run(tmp_path / "run", sessions=sessions, assets=6)
    found = Page(write(short, tmp_path / "r.html").read_text())
    assert "n/a" in found.text
    assert f"needs 126 sessions; there are {sessions}" in found.text.replace("Needs", "needs")
    assert "nan" not in found.text.lower().replace("finance", "").replace("financing", "")


def test_a_run_without_decisions(tmp_path):
    bare = write_run(tmp_path / "run", sessions=3, assets=6, attributed=False)
    for name, schema in SCHEMAS.items():
        if name not in {"nav", "lines"} and bare.has(name):
            schema.empty_table().to_pandas().to_parquet(bare.folder / f"{name}.parquet")
    found = Page(write(bare, tmp_path / "r.html").read_text())
    for words in (
        "No decision was made.",
        "The run holds no positions.",
        "The run holds no exposures with limits.",
        "Nothing to report.",
    ):
        assert words in found.text


def test_a_run_that_was_not_attributed_says_how_to(tmp_path):
    found = Page(
        write(write_run(tmp_path / "run", sessions=30, assets=6, attributed=False), tmp_path / "r.html").read_text()
    )
    assert "metafolio attribute RUN" in found.text
    assert "contribution" not in found.figures


def test_an_empty_contribution(tmp_path):
    empty = write_run(tmp_path / "run", sessions=30, assets=6, attributed=False)
    SCHEMAS["contribution"].empty_table().to_pandas().to_parquet(empty.folder / "contribution.parquet")
    assert "No round has been scored." in Page(write(empty, tmp_path / "r.html").read_text()).text


def test_a_record_with_little_in_it(tmp_path):
    little = write_run(tmp_path / "run", sessions=30, assets=6)
    record = {
        "name": "One",
        "status": "complete",
        "reason": "",
        "start": "2022-01-03",
        "end": "2022-02-11",
        "later": {"key": 1},
    }
    (little.folder / "run.json").write_text(json.dumps(record))
    found = Page(write(little.folder, tmp_path / "r.html").read_text())
    assert "Capital at start" not in found.text
    assert "The run does not state them." in found.text


def test_the_same_run_gives_the_same_bytes(run, tmp_path):
    first, second = write(run, tmp_path / "a.html"), write(Run(run.folder), tmp_path / "deeper" / "b.html")
    assert first.read_bytes() == second.read_bytes()
    assert sorted(path.name for path in tmp_path.rglob("*.partial")) == []


def test_an_out_that_cannot_be_written(run, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot be written"):
        write(run, tmp_path / "file" / "report.html")
    with pytest.raises(DataError, match="holds no finished run"):
        write(tmp_path, tmp_path / "report.html")


def test_tear_sheet_loads_nothing_and_quotes_the_same_sharpe(run, tmp_path):
    named = Run(run.folder)
    named.record["name"] = NASTY
    text = write_tearsheet(named, tmp_path / "tear.html").read_text(encoding="utf-8")
    assert "&lt;img src=x onerror" in text
    assert "<img src=x" not in text
    assert not re.search(r"<(link|script|img|iframe)[^>]*(src|href)\s*=\s*[\"']https?:", text)
    assert "@import" not in text
    assert "{{" not in text, "a placeholder of the template was left"
    assert "EOY Returns" not in re.findall(r"<!-- ([^>]*) -->", text), "its chart by year names the wrong years"
    quoted = re.search(r"<td>Sharpe</td>\s*<td>([^<]*)</td>", text)
    assert quoted is not None
    assert float(quoted[1]) == pytest.approx(run_statistics(run)["sharpe_net"].value, abs=0.006)


def test_tear_sheet_refuses_what_it_cannot_describe(tmp_path):
    with pytest.raises(DataError, match="20 sessions"):
        write_tearsheet(write_run(tmp_path / "short", sessions=5, assets=6), tmp_path / "t.html")
    with pytest.raises(DataError, match="lowest return is -1"):
        write_tearsheet(write_run(tmp_path / "lost", sessions=40, assets=6, status="bankrupt"), tmp_path / "t.html")
    assert not (tmp_path / "t.html").exists()


def test_numbers_as_a_reader_sees_them():
    assert [percent(x) for x in (0.1234, -0.05, float("nan"), None)] == ["12.3 %", "−5.0 %", "n/a", "n/a"]
    assert number(-0.0004, 2) == "0.00", "no minus zero"
    assert basis_points(-0.00125, 1) == "−12.5 bp"
    assert money(450_000.0, "EUR") == "450,000 EUR"
    assert scientific(2.5e-9) == "2.5e−09"
    assert with_unit(float("nan"), Unit.MULTIPLE) == "n/a"
    assert with_unit(12.6, Unit.MULTIPLE_PER_YEAR) == "12.6×"


def test_month_table_is_shaded_by_sign():
    returns = pd.Series(0.0, index=pd.bdate_range("2023-11-01", "2024-02-29"))
    returns.iloc[0], returns.iloc[-1] = 0.1, -0.02
    first, second = month_table(returns).rows
    assert [first[11].text, first[11].shade] == ["10.0 %", 1.0]
    assert second[2].shade == pytest.approx(-0.4)
    assert first[1].text == ""
    assert first[-1].text == "10.0 %"


def test_position_table_orders_by_size_and_takes_the_last_decision():
    day = pd.to_datetime(["2024-01-02"] * 3 + ["2024-01-03"] * 3)
    weights = pd.DataFrame({"date": day, "asset": list("ABC") * 2, "target": [0.01, -0.01, 0.005] + [np.nan] * 3})
    weights["weight"] = [0, 0, 0, 0.011, -0.012, 0.014]
    signals = pd.DataFrame(
        {"date": day[:3], "asset": list("ABC"), "meta_model": [1.0, -1.0, 0.5], "alpha": [0.03, -0.03, 0.01]}
    )
    labels = pd.DataFrame({"country": ["US", "DE", "US"]}, index=list("ABC"))
    assert texts(position_table(weights, signals, labels, side=1, count=1)) == [
        ["C", "US", "1.40 %", "0.50 %", "1.0 %", "0.50"]
    ]
    assert texts(position_table(weights, signals, labels, side=-1)) == [
        ["B", "DE", "−1.20 %", "−1.00 %", "−3.0 %", "−1.00"]
    ]
    assert "1 of 2 long positions" in position_table(weights, signals, labels, side=1, count=1).note


def test_left_out_models_are_counted():
    meta = pd.DataFrame(
        {"model": ["a", "b", "c", "a"], "used": [True, False, False, False], "reason": ["", "late", "late", "constant"]}
    )
    assert texts(left_out_table(meta)) == [
        ["late", "b, c", "2", "50.00 %", "2"],
        ["constant", "a", "1", "25.00 %", "1"],
    ]


def test_binding_limits_and_their_prices():
    solves = pd.DataFrame({"binding": [["net"], ["net", "beta"], [], ["net"]]})
    duals = pd.DataFrame({"limit": ["net", "beta", "gross"] * 4, "price": [-0.2, 0.0, 0.0, 0.2, 0.4, 0.0] * 2})
    assert texts(binding_table(solves, duals)) == [
        ["net", "75 %", "0.0000", "0.2000"],
        ["beta", "25 %", "0.2000", "0.2000"],
    ]


def test_solves_that_are_not_certified_stand_out(run):
    solves = run.table("solves")
    alerts = lambda table: [row[0].text for row in table.rows if row[1].alert]  # noqa: E731
    assert alerts(solve_table(solves)) == []
    solves.loc[3, ["gap", "fallback"]] = [2e-5, "clarabel stalled"]
    assert alerts(solve_table(solves)) == ["Needed another solver", "Largest duality gap, annual alpha"]


def test_assumed_terms_are_marked():
    table = terms_table(
        {"gross_limit": 6.0, "alpha": {"horizon_days": 20}, "turnover_limit": None, "assumed": ["alpha.horizon_days"]}
    )
    assert texts(table) == [
        ["gross_limit", "6", ""],
        ["alpha.horizon_days", "20", "assumed"],
        ["turnover_limit", "none", ""],
    ]


def test_notices_by_kind():
    notices = pd.DataFrame(
        {"date": pd.to_datetime(["2024-01-02", "2024-02-01"]), "kind": "gone", "asset": ["A", "B"], "detail": ""}
    )
    assert texts(notice_table(notices.assign(amount=[-0.01, 0.002]))) == [
        ["gone", "2", "2", "2024-01-02", "2024-02-01", "1.00 %"]
    ]


def test_many_models_are_shown_from_both_ends(tmp_path):
    many = write_run(tmp_path / "run", sessions=60, assets=6, models=50)
    found = Page(write(many, tmp_path / "r.html").read_text())
    assert len(found.figures["contribution"]["data"][0]["y"]) == 40
    assert "40 of 50 models are shown" in found.text


def test_limits_without_a_side_say_none(run):
    from backtest.series import limit_use

    rows = {row[0]: row for row in texts(limit_table(limit_use(run.table("exposures"))))}
    assert rows["gross"][4:6] == ["none", "6.00"]
    assert rows["specific"][1] == "n/a"
    assert rows["beta"][6].endswith("of 300")
    assert rows["country:US"][6] == "equality"


def test_contribution_of_a_model_that_was_never_used():
    summary = pd.DataFrame(
        {"rounds": 3, "stake": 1.0, "true_contribution": 0.1, "standard_error": np.nan, "share_positive": 1.0},
        index=["a"],
    )
    meta = pd.DataFrame({"model": ["a"], "used": [False], "coverage": [0]})
    assert texts(contribution_table(summary, meta)) == [["a", "0.10000", "n/a", "100 %", "3", "100.00 %", "n/a", "0 %"]]


def test_reports_are_packaged_with_their_templates():
    folder = Path(__file__).parents[1] / "reports" / "templates"
    assert {path.name for path in folder.iterdir()} >= {"report.html", "report.css", "report.js"}


def test_reasons_that_differ_in_their_counts_are_one():
    meta = pd.DataFrame(
        {"model": ["a", "b"], "used": False, "reason": ["covers 3 of 209 assets", "covers 4 of 9 assets"]}
    )
    assert texts(left_out_table(meta)) == [["covers … of … assets", "a, b", "2", "100.00 %", "2"]]


def test_latest_notices_are_of_each_kind():
    days = pd.bdate_range("2024-01-01", periods=10)
    notices = pd.DataFrame(
        {"date": days, "kind": ["gone"] + ["carried"] * 9, "asset": "A", "detail": "", "amount": np.nan}
    )
    rows = texts(recent_notices(notices))
    assert [row[1] for row in rows] == ["carried"] * 4 + ["gone"]
    assert rows[0][0] == "2024-01-12"


def test_universe_reasons_that_never_applied_are_named():
    universe = pd.DataFrame(
        {"date": pd.to_datetime(["2024-01-02"] * 2), "reason": ["no_row", "price"], "assets": [3, 0]}
    )
    table = universe_table(universe)
    assert texts(table) == [["no row", "3.0", "3", "3"]]
    assert table.note == "Never the reason: price."
