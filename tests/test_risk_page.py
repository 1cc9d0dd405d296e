"""The risk page: one file that loads nothing, says everything that the view holds, and marks what is outside."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from market_files import assert_refused
from rich.console import Console
from test_reports import NASTY, Page
from typer.testing import CliRunner

import metafolio
from backtest import Dataset, Run
from backtest.risk_record import Measure, Quantity
from backtest.risk_view import RiskView, Status, book_risk, model_risk
from reports.risk_cells import bound_text, level_text, measure_text, p_text
from reports.risk_loss_tables import stress_sheet, tail_sheet
from reports.risk_page import write_risk
from reports.risk_record_tables import bias_sheet, count_sheet, study_sheet
from reports.risk_tables import breach_sheet, limit_sheet
from reports.risk_terminal import risk_lines


@pytest.fixture(scope="module")
def view(run: Run) -> RiskView:
    return book_risk(run)


@pytest.fixture(scope="module")
def model(market: Path) -> RiskView:
    return model_risk(Dataset(market), "one")


def page_of(view: RiskView, folder: Path) -> Page:
    return Page(write_risk(view, folder / "risk.html").read_text(encoding="utf-8"))


def test_the_page_loads_nothing_and_is_the_same_every_time(view: RiskView, tmp_path: Path) -> None:
    page = page_of(view, tmp_path)
    for tag, attributes in page.tags:
        assert tag not in {"link", "iframe", "object", "embed", "base", "img", "form"}
        assert "src" not in attributes
        assert attributes.get("href", "#").startswith("#")
    text = (tmp_path / "risk.html").read_text(encoding="utf-8")
    assert "default-src 'none'" in text
    assert len(text) < 8e6
    assert write_risk(view, tmp_path / "again.html").read_text(encoding="utf-8") == text


def test_every_link_leads_to_a_section(view: RiskView, model: RiskView, tmp_path: Path) -> None:
    for one in (view, model):
        page = page_of(one, tmp_path)
        sections = {attributes.get("id") for tag, attributes in page.tags if tag == "section"}
        links = {str(attributes["href"])[1:] for tag, attributes in page.tags if tag == "a"}
        assert links == sections


def test_every_headline_has_value_limit_definition_and_unit(view: RiskView, tmp_path: Path) -> None:
    text = page_of(view, tmp_path).text
    for measure in view.headline:
        for words in (measure.label, measure_text(measure, view.currency), bound_text(measure), measure.definition):
            assert words in text, measure.name
    assert f"close of {view.date:%Y-%m-%d}" in text
    assert "set by us" in text


def test_every_limit_factor_and_scenario_is_on_the_page(view: RiskView, tmp_path: Path) -> None:
    text = page_of(view, tmp_path).text
    assert view.limits is not None
    assert view.sources is not None
    assert view.scenarios is not None
    names = [*view.limits.table.index, *view.sources.factors.index, *view.scenarios.stresses.index]
    names += [*view.scenarios.replays.index, *view.scenarios.regimes.index]
    for name in names:
        assert str(name) in text, name


def test_every_figure_has_its_data(view: RiskView, tmp_path: Path) -> None:
    page = page_of(view, tmp_path)
    places = {attributes["id"] for _, attributes in page.tags if attributes.get("class") == "plot"}
    assert places == set(page.figures)
    assert {"use", "volatility", "ratio", "families", "stresses", "attribution", "correlation"} <= places


def test_a_hard_breach_is_the_first_thing_said(view: RiskView, tmp_path: Path) -> None:
    assert view.limits is not None
    table = view.limits.table.copy()
    table.loc["gross", ["breach", "margin", "since", "days", "kind", "cause"]] = [
        True,
        -0.25,
        view.date,
        3,
        "passive",
        "drift",
    ]
    told = {"limit": "gross", "asset": "", "start": view.date, "end": view.date, "open": True, "days": 3, "worst": 6.55}
    told |= {"worst_date": view.date, "excess": 0.25, "kind": "passive", "cause": "drift", "worsened": 0, "hard": True}
    breaches = pd.concat([view.limits.breaches, pd.DataFrame([told])], ignore_index=True)
    limits = replace(view.limits, table=table, breaches=breaches)
    page = page_of(replace(view, limits=limits, status=Status("hard", "HARD BREACH of gross", ("gross",))), tmp_path)
    text = page.text
    assert text.index("HARD BREACH of gross") < text.index("Headline")
    assert "(3 sessions), at worst 6.55, 0.25 beyond limit and tolerance; passive (drift), hard." in text
    row = next(row for row in limit_sheet(limits, worst=True).table.rows if row[0].text == "gross")
    assert row[1].alert
    assert row[6].text == "breach"


def test_names_are_shown_letter_by_letter(view: RiskView, tmp_path: Path) -> None:
    assert view.sources is not None
    families = view.sources.families.rename(index={"market": NASTY})
    assets = view.sources.assets.rename(index={view.sources.assets.index[0]: NASTY})
    sources = replace(view.sources, families=families, assets=assets)
    write_risk(replace(view, name=NASTY, sources=sources, notes=(NASTY,)), tmp_path / "nasty.html")
    text = (tmp_path / "nasty.html").read_text(encoding="utf-8")
    assert "<img" not in text
    assert "&lt;img src=x onerror=alert(1)&gt;" in text


def test_what_is_not_there_is_said_with_its_reason(view: RiskView, tmp_path: Path) -> None:
    parts = dict.fromkeys(
        ("sources", "scenarios", "attribution", "model", "studies", "tails"), "the data set has moved"
    )
    bare = replace(
        view,
        sources=None,
        scenarios=None,
        attribution=None,
        model=None,
        studies=None,
        tails=pd.DataFrame(),
        missing=parts,
    )
    text = page_of(bare, tmp_path).text
    assert text.count("not available the data set has moved") == len(parts)


def test_a_reason_is_said_once_at_the_top(view: RiskView, tmp_path: Path) -> None:
    reason = "The data set has moved far away."
    bare = replace(view, model=None, studies=None, missing=dict.fromkeys(("model", "studies", "replays"), reason))
    text = page_of(bare, tmp_path).text
    head = text[: text.index("Headline")]
    assert head.count(reason) == 1
    assert "The risk model at the date; Study portfolios; Replays of the past" in head
    console = Console(file=io.StringIO(), width=200)
    risk_lines(bare, console)
    assert isinstance(console.file, io.StringIO)
    assert console.file.getvalue().count(reason) == 1


def test_every_table_scrolls_in_a_box_of_its_own(view: RiskView, model: RiskView, tmp_path: Path) -> None:
    for one in (view, model):
        text = write_risk(one, tmp_path / "wide.html").read_text(encoding="utf-8")
        (tmp_path / "wide.html").unlink()
        assert text.count('<div class="scroll" tabindex="0"><table') == text.count("<table") > 5


def test_the_ten_day_tail_that_is_not_known_says_why(view: RiskView, tmp_path: Path) -> None:
    row = next(row for row in tail_sheet(view.tails).table.rows if row[0].text == "Historical")
    assert [cell.text for cell in row].count("n/a") == 2
    assert "windows that do not overlap" in page_of(view, tmp_path).text


def test_counts_of_factors_are_not_of_assets(view: RiskView) -> None:
    assert view.model is not None
    found = count_sheet(view.model.counts).table
    rows = {row[0].text: [cell.text for cell in row] for row in found.rows}
    absent = rows["Styles and signals without a factor"]
    counts = view.model.counts.loc["absent"]
    assert absent[3:5] == [f"{counts['history']:,}", f"{counts['days']:,}"]
    assert "no asset" in absent[5]
    assert len(rows) == len(view.model.counts)


def test_bias_and_quotient_are_told_apart(view: RiskView) -> None:
    assert view.studies is not None
    assert view.forecast is not None
    for shown in (study_sheet(view.studies.summary), bias_sheet(view.forecast.bias)):
        meanings = dict(zip((column.label for column in shown.table.columns), shown.meanings, strict=True))
        assert "same statistic" in meanings["Bias"]
        assert "it is not the bias" in meanings["Realised, r.m.s."]


def test_help_names_the_exit_codes_and_the_days_that_can_be_asked_for() -> None:
    text = " ".join(CliRunner().invoke(metafolio.app, ["risk", "--help"]).output.replace("\u2502", " ").split())
    for words in (
        "Exit code 0:",
        "1: there is no report",
        "2: bad usage",
        "3: the report is made",
        "a session of the run",
    ):
        assert words in text, words


def test_a_model_alone_has_no_limits_on_its_page(model: RiskView, tmp_path: Path) -> None:
    page = page_of(model, tmp_path)
    assert "No book, and so no limits" in page.text
    assert "Limits, monitored daily" not in page.text
    assert {"correlation", "r_squared", "studies"} <= set(page.figures)


def test_a_folder_that_cannot_be_written_is_refused(view: RiskView, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    assert_refused(lambda: write_risk(view, tmp_path / "file" / "risk.html"), "cannot be written")


def test_figures_are_valid_json(view: RiskView, tmp_path: Path) -> None:
    for name, figure in page_of(view, tmp_path).figures.items():
        json.dumps(figure, allow_nan=False)
        assert figure["data"], name


@pytest.mark.parametrize(
    ("lower", "upper", "unit", "words"),
    [
        (-0.01, 0.01, Quantity.BETA, "limit \N{PLUS-MINUS SIGN}0.010"),
        (-0.0, 0.0, Quantity.SHARE, "limit 0.00 %"),
        (float("nan"), 6.0, Quantity.MULTIPLE, "limit at most 6.00\N{MULTIPLICATION SIGN}"),
        (0.8, 1.2, Quantity.RATIO, "limit 0.80 to 1.20"),
    ],
)
def test_bounds_in_words(lower: float, upper: float, unit: Quantity, words: str) -> None:
    assert bound_text(Measure("m", "M", 0.0, unit, "", lower, upper, "limit")) == words
    assert bound_text(Measure("m", "M", 0.0, unit, "")) == ""


def test_units_of_levels_and_p_values() -> None:
    assert level_text("country", -0.0125) == "\N{MINUS SIGN}1.25 %"
    assert level_text("liquidity", float("inf")) == "never"
    assert level_text("style", 0.1) == "0.100"
    assert p_text(0.0) == "< 0.001"
    assert p_text(float("nan")) == "n/a"


def test_tables_without_rows_say_so(view: RiskView) -> None:
    assert view.limits is not None
    assert view.scenarios is not None
    assert tail_sheet(pd.DataFrame()).table.rows == ()
    none = breach_sheet(view.limits.breaches.iloc[:0], count=5).table
    assert none.rows == ()
    assert none.empty == "No limit was ever breached."
    assert stress_sheet(view.scenarios.stresses.iloc[:0]).table.empty == "No scenario."
