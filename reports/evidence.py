"""The part of a report that an allocator reads who suspects self-deception: what the numbers prove, and what they do not."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from backtest import series
from backtest.published import FIGURES, NEVER_FITTED, published
from backtest.sharpe_statistics import sharpe_records
from backtest.statistic import Statistics
from backtest.statistics import trading_year
from backtest.store import Run
from backtest.waterfall import waterfall
from reports import figures
from reports.cells import Table
from reports.evidence_tables import drawdown_table, published_table, sharpe_table, step_label, waterfall_table

__all__ = ["evidence", "evidence_figures", "gross_to_net"]

ROWS = {
    "before_fees": "Before fees",
    "net": "Net of fees",
    "before_fees_ltm": "Before fees, last twelve months",
    "net_ltm": "Net of fees, last twelve months",
}


def evidence(run: Run, nav: pd.DataFrame, found: Statistics) -> dict[str, Any]:
    """Return what is shown of the Sharpe ratio's worth, of drawdowns and of published figures.

    Parameters
    ----------
    run : Run
    nav : DataFrame by date
    found : Statistics
        With bootstrap intervals.
    """
    year = trading_year(run)
    records = sharpe_records(nav, year)._asdict()
    bands = {label: found[f"sharpe_{key}"].band for key, label in ROWS.items()}
    beside, all_published = _published(run, found)
    return {
        "verdict": _verdict(found),
        "sharpe": sharpe_table({label: records[key] for key, label in ROWS.items()}, bands, year),
        "reasons": list(dict.fromkeys(record.reason for record in records.values() if record.reason)),
        "drawdowns": drawdown_table(series.drawdowns(nav["net_return"])),
        "beside": beside,
        "published": all_published,
        "never_fitted": NEVER_FITTED,
        "window": year,
    }


def _verdict(found: Statistics) -> str:
    """Return in a sentence whether the intervals of the Sharpe ratios hold 0."""
    words = {"sharpe_before_fees": "Before fees", "sharpe_net": "Net of fees"}
    said = []
    for name, label in words.items():
        band = found[name].band
        if band is None or math.isnan(found[name].value):
            said.append(f"{label} the ratio is not known.")
        elif band.lower > 0:
            said.append(f"{label} the interval of the ratio lies above 0.")
        elif band.upper < 0:
            said.append(f"{label} the interval of the ratio lies below 0.")
        else:
            said.append(f"{label} the interval of the ratio holds 0: this record does not show that it is above.")
    return " ".join(said)


def _published(run: Run, found: Statistics) -> tuple[Table | None, Table | None]:
    """Return what was published of a fund of the product's name: where we have a figure to put beside it, and all of it."""
    name = str(run.record.get("product", {}).get("name", ""))
    if name not in {figure.fund for figure in FIGURES}:
        return None, None
    beside = {figure: found[figure.ours] if figure.ours else None for figure in published(name)}
    return published_table({figure: ours for figure, ours in beside.items() if ours is not None}), published_table(
        beside
    )


def evidence_figures(nav: pd.DataFrame, periods_per_year: int) -> dict[str, go.Figure]:
    """Return rolling Sharpe ratios and beta over a year's sessions; without as many, none."""
    year = periods_per_year
    if len(nav) < year:
        return {}
    before = nav["return_before_fees"]
    net_ratio, before_ratio = (
        series.rolling_sharpe(returns, window=year, periods_per_year=year).iloc[year - 1 :]
        for returns in (nav["net_return"], before)
    )
    band = sharpe_records(nav, year).before_fees.window_band(year)
    edges = None if band is None else (band.lower, band.upper)
    drawn = {"rolling-sharpe": figures.rolling_sharpe_figure(net_ratio, before_ratio, edges)}
    beta = series.rolling_beta(before, nav["market_return"], window=year).iloc[year - 1 :]
    if beta.notna().any():
        drawn["rolling-beta"] = figures.rolling_beta_figure(beta)
    return drawn


def gross_to_net(run: Run, nav: pd.DataFrame) -> Mapping[str, Any] | None:
    """Return the steps from gross to net as table and drawing, or None where an account that lost everything compounds nothing."""
    if nav.empty or nav["net_return"].min() <= -1.0:
        return None
    year = trading_year(run)
    lines = run.table("lines") if run.has("lines") else None
    whole = waterfall(nav, lines, periods_per_year=year)
    years = waterfall(nav, lines, period="year", periods_per_year=year)
    annual = len(nav) >= year
    column = "per_year" if annual else "contribution"
    # Sums of a group are no running totals: its lines are drawn, or the group where there are no lines.
    groups = ["fees"] if lines is None else ["cost", "financing", "fees"]
    drawn = whole[((whole[column] != 0) | whole["subtotal"]) & ~whole["step"].isin(groups)]
    labels = [step_label(step) for step in drawn["step"]]
    steps, totals = pd.Series(drawn[column].to_numpy(), labels), pd.Series(drawn["subtotal"].to_numpy(), labels)
    return {
        "table": waterfall_table(whole, years),
        "figure": figures.waterfall_figure(steps, totals),
        "annual": annual,
        "fine": lines is not None,
    }
