"""Figures of a risk report as plotly specifications: series in, drawing out; nothing here computes a risk."""

from __future__ import annotations

import html
from collections.abc import Hashable, Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd
import plotly.graph_objects as go

from reports.figures import (
    BAND,
    BEFORE,
    DIVERGING,
    GAIN_SOFT,
    GRID,
    INK,
    LIMIT,
    LOSS,
    LOSS_SOFT,
    NET,
    PERCENT,
    QUIET,
    canvas,
    days,
    marked_where_short,
    thin,
)

__all__ = [
    "bar_figure",
    "correlation_figure",
    "exception_figure",
    "forecast_figure",
    "ratio_figure",
    "series_figure",
    "share_figure",
    "use_figure",
]

LINES = (NET, LIMIT, BEFORE, LOSS, "#4d7c5a", "#7b5ea7", QUIET, "#d9a441", "#3b8ea5")
FAMILY_LINES = {
    "position": NET, "gross": LIMIT, "net": BEFORE, "volatility": LOSS, "liquidity": "#3b8ea5", "beta": "#7b5ea7",
    "country": "#4d7c5a", "sector": "#d9a441", "style": QUIET,
}  # fmt: skip


def use_figure(use: pd.DataFrame, *, shown: int) -> go.Figure:
    """Return the use of each family of limits over time, at first its last `shown` days; above 1 is a breach."""
    figure = canvas(320, legend=True, tickformat=".0%")
    for family in use:
        series = use[family]
        figure.add_scatter(
            x=days(series), y=thin(series), name=str(family), mode="lines", hovertemplate="%{y:.0%}",
            line={"color": FAMILY_LINES[str(family)], "width": 1.4},
        )  # fmt: skip
    figure.add_hline(y=1.0, line={"color": LOSS, "width": 1.4, "dash": "dash"})
    last = use.iloc[-shown:]
    figure.update_xaxes(range=[days(last)[0], days(last)[-1]])
    figure.update_yaxes(range=[0, 1.1 * max(float(np.nanmax(last.to_numpy())), 1.0)])
    return marked_where_short(figure, len(use))


def forecast_figure(record: pd.DataFrame, limit: float | None) -> go.Figure:
    """Return forecast, calibrated and realised volatility, and the limit."""
    figure = canvas(300, legend=True, tickformat=PERCENT)
    names = {
        "forecast": ("Risk model alone", BEFORE, 1.3),
        "calibrated_forecast": ("Calibrated forecast", NET, 2.0),
        "realised_volatility": ("Realised, last 63 sessions", LOSS, 1.6),
    }
    for column, (name, colour, width) in names.items():
        series = record[column].where(record[column] > 0)
        figure.add_scatter(
            x=days(series), y=thin(series), name=name, mode="lines", line={"color": colour, "width": width},
            hovertemplate="%{y:.1%}",
        )  # fmt: skip
    if limit is not None:
        figure.add_hline(y=limit, line={"color": LIMIT, "width": 1.4, "dash": "dash"}, annotation_text="limit")
    figure.update_yaxes(rangemode="tozero")
    return marked_where_short(figure, len(record))


def ratio_figure(record: pd.DataFrame) -> go.Figure:
    """Return realised over forecast volatility with its chi-square band."""
    figure = canvas(260, legend=True)
    ends = [days(record)[0], days(record)[-1]]
    low, high = float(record["lower"].iloc[-1]), float(record["upper"].iloc[-1])
    for value, fill in ((low, {}), (high, {"fill": "tonexty", "fillcolor": BAND})):
        figure.add_scatter(
            x=ends, y=[value, value], mode="lines", line={"color": QUIET, "width": 1, "dash": "dot"}, showlegend=False,
            hoverinfo="skip", **fill,
        )  # fmt: skip
    for column, name, colour in (("ratio", "Risk model alone", BEFORE), ("calibrated_ratio", "Calibrated", NET)):
        series = record[column]
        figure.add_scatter(
            x=days(series), y=thin(series), name=name, mode="lines", line={"color": colour, "width": 1.8},
            hovertemplate="%{y:.2f}",
        )  # fmt: skip
    figure.add_hline(y=1.0, line={"color": INK, "width": 1})
    return marked_where_short(figure, len(record))


def exception_figure(exceptions: pd.DataFrame, method: str) -> go.Figure:
    """Return daily results as points, the value at risk of one method as a line, and the days beyond it."""
    figure = canvas(260, legend=True, tickformat=PERCENT)
    gain, line = -exceptions["loss"], -exceptions[method]
    beyond = gain < line
    figure.add_scatter(
        x=days(gain), y=thin(gain), name="Return of the day", mode="markers", marker={"color": BEFORE, "size": 3},
        hovertemplate="%{y:.2%}",
    )  # fmt: skip
    figure.add_scatter(
        x=days(gain[beyond]), y=thin(gain[beyond]), name="Beyond the value at risk", mode="markers",
        marker={"color": LOSS, "size": 6}, hovertemplate="%{y:.2%}",
    )  # fmt: skip
    figure.add_scatter(
        x=days(line), y=thin(line), name="Minus value at risk, 99 %", mode="lines", line={"color": LIMIT, "width": 1.4},
        hovertemplate="%{y:.2%}",
    )  # fmt: skip
    figure.update_xaxes(range=[days(gain)[0], days(gain)[-1]])
    return figure


def bar_figure(
    names: Sequence[Hashable], values: npt.ArrayLike, *, tickformat: str = PERCENT, loss: bool = False
) -> go.Figure:
    """Return horizontal bars around 0, the first on top; with `loss` positive numbers are the bad ones."""
    sizes = np.asarray(values, dtype=np.float32)
    figure = canvas(46 + 22 * max(len(names), 3), tickformat="", margin={"l": 10, "r": 16, "t": 6, "b": 34})
    good, bad = (LOSS_SOFT, GAIN_SOFT) if loss else (GAIN_SOFT, LOSS_SOFT)
    figure.add_bar(
        x=sizes, y=[_plain(name) for name in names], orientation="h", name="",
        marker={"color": [good if value > 0 else bad for value in sizes]}, hovertemplate="%{y}: %{x:.3%}<extra></extra>",
    )  # fmt: skip
    figure.update_layout(hovermode="closest", bargap=0.35)
    figure.update_yaxes(autorange="reversed", automargin=True, showgrid=False, type="category", dtick=1)
    figure.update_xaxes(
        type="linear",
        zeroline=True,
        zerolinecolor=QUIET,
        showgrid=True,
        gridcolor=GRID,
        tickformat=tickformat,
        hoverformat=".3%",
    )
    return figure


def series_figure(
    table: pd.DataFrame, *, tickformat: str = "", band: tuple[float, float] | None = None, hover: str = "%{y:.2f}"
) -> go.Figure:
    """Return lines over time, within a band where one is given."""
    figure = canvas(260, legend=len(table.columns) > 1, tickformat=tickformat)
    if band is not None and len(table):
        ends = [days(table)[0], days(table)[-1]]
        for value, fill in ((band[0], {}), (band[1], {"fill": "tonexty", "fillcolor": BAND})):
            figure.add_scatter(
                x=ends, y=[value, value], mode="lines", line={"color": QUIET, "width": 1, "dash": "dot"}, showlegend=False,
                hoverinfo="skip", **fill,
            )  # fmt: skip
    for j, name in enumerate(table):
        series = table[name]
        figure.add_scatter(
            x=days(series), y=thin(series), name=_plain(name), mode="lines", hovertemplate=hover,
            line={"color": LINES[j % len(LINES)], "width": 1.6},
        )  # fmt: skip
    return marked_where_short(figure, len(table))


def share_figure(table: pd.DataFrame) -> go.Figure:
    """Return the R-squared of each regression as points, and its mean as a line."""
    figure = canvas(240, legend=True, tickformat=".0%")
    figure.add_scatter(
        x=days(table), y=thin(table["day"]), name="Regression of the day", mode="markers", hovertemplate="%{y:.0%}",
        marker={"color": BEFORE, "size": 2.5},
    )  # fmt: skip
    figure.add_scatter(
        x=days(table), y=thin(table["mean"]), name="Mean of 21", mode="lines", hovertemplate="%{y:.0%}",
        line={"color": NET, "width": 1.8},
    )  # fmt: skip
    figure.update_xaxes(range=[days(table)[0], days(table)[-1]])
    return figure


def correlation_figure(table: pd.DataFrame) -> go.Figure:
    """Return a square heat map of correlations."""
    names = [_plain(name) for name in table.columns]
    figure = canvas(90 + 22 * max(len(names), 3), margin={"l": 10, "r": 10, "t": 8, "b": 10})
    figure.add_heatmap(
        x=names, y=names, z=table.to_numpy(dtype=np.float32), colorscale=DIVERGING, zmid=0.0, zmin=-1.0, zmax=1.0,
        hovertemplate="%{y} with %{x}: %{z:.2f}<extra></extra>",
        colorbar={"thickness": 10, "outlinewidth": 0, "nticks": 5, "tickfont": {"size": 11}},
    )  # fmt: skip
    figure.update_layout(hovermode="closest")
    figure.update_yaxes(autorange="reversed", automargin=True, showgrid=False, type="category", dtick=1)
    figure.update_xaxes(automargin=True, type="category", dtick=1, tickangle=-60)
    return figure


def _plain(name: Hashable) -> str:
    """Return a name that plotly draws letter by letter: it reads a subset of HTML in its labels."""
    return html.escape(str(name), quote=False)
