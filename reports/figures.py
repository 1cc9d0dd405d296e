"""Figures of a run as plotly specifications: series in, drawing out; nothing here computes a return or a risk."""

from __future__ import annotations

import html
from collections.abc import Hashable
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import plotly.graph_objects as go

from reports.cells import percent

__all__ = [
    "as_json",
    "charges_figure",
    "contribution_figure",
    "drawdown_figure",
    "equity_figure",
    "heat_figure",
    "limit_figure",
    "rolling_beta_figure",
    "rolling_sharpe_figure",
    "turnover_figure",
    "volatility_figure",
    "waterfall_figure",
]

GAIN_SOFT, LOSS_SOFT = "#a9c4da", "#e0b3ae"
INK, QUIET, GRID = "#1c2733", "#5c6b7a", "#e6eaee"
NET, BEFORE, LIMIT, LOSS = "#17456e", "#7ea6c9", "#b4661f", "#a23b3b"
BAND = "rgba(23, 69, 110, 0.07)"
PERCENT = ".3~%"
"""As many decimals as the ticks need, up to three."""
CHARGES = {"cost": "#17456e", "financing": "#7ea6c9", "management_fee": "#b4661f", "incentive_fee": "#d9a441"}
DIVERGING = [[0.0, "#a23b3b"], [0.25, "#dba9a4"], [0.5, "#ffffff"], [0.75, "#9dbcd6"], [1.0, "#17456e"]]
FONT = "Inter, 'Helvetica Neue', 'Segoe UI', Arial, 'Liberation Sans', sans-serif"


def as_json(figure: go.Figure) -> str:
    """Return the specification as JSON that is safe inside a script element."""
    text: str = figure.to_json()
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026").replace("\u2028", "\\u2028")


def equity_figure(net: pd.Series, before_fees: pd.Series) -> go.Figure:
    """Return the value of 1 over time, net and before fees."""
    figure = canvas(340, legend=True)
    figure.add_scatter(
        x=days(before_fees), y=thin(before_fees), name="Before fees", line={"color": BEFORE, "width": 1.5}
    )
    figure.add_scatter(x=days(net), y=thin(net), name="Net of fees", line={"color": NET, "width": 2.2})
    figure.add_hline(y=1.0, line={"color": QUIET, "width": 1, "dash": "dot"})
    return marked_where_short(figure, len(net))


def drawdown_figure(fall: pd.Series) -> go.Figure:
    """Return the fall from the highest value so far."""
    figure = canvas(200, tickformat=PERCENT)
    figure.add_scatter(
        x=days(fall), y=thin(fall), name="Drawdown", fill="tozeroy", fillcolor="rgba(162, 59, 59, 0.15)",
        line={"color": LOSS, "width": 1.2}, hovertemplate="%{y:.2%}",
    )  # fmt: skip
    figure.update_yaxes(rangemode="tozero")
    return marked_where_short(figure, len(fall))


def rolling_sharpe_figure(net: pd.Series, before_fees: pd.Series, band: tuple[float, float] | None) -> go.Figure:
    """Return rolling Sharpe ratios, and the band of what windows of a fund of constant skill show."""
    figure = canvas(280, legend=True)
    ends = [days(net)[0], days(net)[-1]]
    if band is not None:
        edge = {"color": "rgba(0,0,0,0)", "width": 0}
        figure.add_scatter(x=ends, y=[band[0]] * 2, mode="lines", line=edge, showlegend=False, hoverinfo="skip")
        figure.add_scatter(
            x=ends, y=[band[1]] * 2, mode="lines", line=edge, fill="tonexty", fillcolor=BAND, name="Constant skill, 95 % of windows",
            hoverinfo="skip",
        )  # fmt: skip
    figure.add_hline(y=0.0, line={"color": QUIET, "width": 1, "dash": "dot"})
    for series, name, line in (
        (before_fees, "Before fees", {"color": BEFORE, "width": 1.5}),
        (net, "Net of fees", {"color": NET, "width": 2.2}),
    ):
        figure.add_scatter(x=days(series), y=thin(series), name=name, mode="lines", line=line, hovertemplate="%{y:.2f}")
    return marked_where_short(figure, len(net))


def rolling_beta_figure(beta: pd.Series) -> go.Figure:
    """Return the rolling slope on the market's return."""
    figure = canvas(180)
    figure.add_hline(y=0.0, line={"color": QUIET, "width": 1, "dash": "dot"})
    figure.add_scatter(
        x=days(beta),
        y=thin(beta),
        name="Beta",
        mode="lines",
        line={"color": NET, "width": 1.6},
        hovertemplate="%{y:.3f}",
    )
    return marked_where_short(figure, len(beta))


def waterfall_figure(steps: pd.Series, totals: pd.Series) -> go.Figure:
    """Return steps from gross to net as bars that hang from one another.

    Parameters
    ----------
    steps : Series of float by label
        Signed, decimals.
    totals : Series of bool by label
        Which are sums of what stands above them.
    """
    figure = canvas(60 + 26 * len(steps), tickformat="", margin={"l": 10, "r": 56, "t": 8, "b": 34})
    figure.add_waterfall(
        orientation="h", y=[_plain(name) for name in steps.index], x=thin(steps),
        measure=["total" if total else "relative" for total in totals], text=[percent(value, 2) for value in steps],
        textposition="outside", cliponaxis=False, textfont={"size": 11, "color": INK}, hoverinfo="skip",
        increasing={"marker": {"color": GAIN_SOFT}}, decreasing={"marker": {"color": LOSS_SOFT}}, totals={"marker": {"color": NET}},
        connector={"line": {"color": GRID, "width": 1}},
    )  # fmt: skip
    figure.update_layout(hovermode="closest", bargap=0.3)
    figure.update_yaxes(autorange="reversed", automargin=True, showgrid=False, type="category", dtick=1)
    figure.update_xaxes(type="linear", showgrid=True, zeroline=True, zerolinecolor=QUIET, tickformat=PERCENT)
    return figure


def volatility_figure(realised: pd.Series, forecast: pd.Series, decided: pd.Series, limit: float | None) -> go.Figure:
    """Return realised volatility against the forecast of the book held, of each target, and the limit.

    Parameters
    ----------
    realised, forecast, decided : Series by date
        Rolling realised; forecast for the book of each day; forecast for the target of each decision.
    limit : float or None
    """
    figure = canvas(320, tickformat=PERCENT, legend=True)
    if limit is not None:
        ends = days(realised)
        if ends:
            figure.add_scatter(
                x=[ends[0], ends[-1]], y=[limit, limit], name="Limit on the forecast", mode="lines", hovertemplate="%{y:.1%}",
                fill="tozeroy", fillcolor=BAND, line={"color": LIMIT, "width": 1.4, "dash": "dash"},
            )  # fmt: skip
    for series, name, line in (
        (forecast, "Forecast, book held", {"color": BEFORE, "width": 1.5}),
        (realised, "Realised, last 63 sessions", {"color": NET, "width": 2.2}),
    ):
        figure.add_scatter(x=days(series), y=thin(series), name=name, mode="lines", line=line, hovertemplate="%{y:.1%}")
    figure.add_scatter(
        x=days(decided), y=thin(decided), name="Forecast, target", mode="markers", hovertemplate="%{y:.1%}",
        marker={"color": QUIET, "size": 3.5},
    )  # fmt: skip
    figure.update_yaxes(rangemode="tozero")
    if len(realised) > 1:
        # Markers make plotly pad the axis; lines alone do not.
        figure.update_xaxes(range=[days(realised)[0], days(realised)[-1]])
    return marked_where_short(figure, len(realised))


def limit_figure(values: pd.Series, lower: pd.Series, upper: pd.Series, *, tickformat: str) -> go.Figure:
    """Return one exposure over time inside the band of its limits; a limit that is NaN is not drawn."""
    figure = canvas(150, tickformat=tickformat, margin={"l": 48, "r": 8, "t": 6, "b": 22})
    edge = {"color": LIMIT, "width": 1, "dash": "dash"}
    filled = lower.notna().any() and upper.notna().any()
    for series, name in ((lower, "Lower limit"), (upper, "Upper limit")):
        if series.notna().any():
            band = {"fill": "tonexty", "fillcolor": BAND} if filled and name == "Upper limit" else {}
            figure.add_scatter(x=days(series), y=thin(series), name=name, mode="lines", line=edge, **band)
    figure.add_scatter(x=days(values), y=thin(values), name="Book", mode="lines", line={"color": NET, "width": 1.3})
    figure.update_yaxes(nticks=5)
    figure.update_xaxes(nticks=5)
    return marked_where_short(figure, len(values))


def heat_figure(table: pd.DataFrame) -> go.Figure:
    """Return a heat map of exposures, names down and dates across; the colours are symmetric around 0."""
    names = [_plain(name) for name in table.columns]
    height = 60 + 24 * max(len(names), 2)
    figure = canvas(height, margin={"l": 10, "r": 10, "t": 8, "b": 28})
    scale = float(np.nanmax(np.abs(table.to_numpy()))) if table.notna().to_numpy().any() else 0.0
    figure.add_heatmap(
        x=days(table.iloc[:, 0]), y=names, z=table.to_numpy(dtype=np.float32).T, colorscale=DIVERGING, zmid=0.0,
        zmin=-scale or -1e-4, zmax=scale or 1e-4, hovertemplate="%{y}<br>%{x|%Y-%m-%d}<br>%{z:.2%}<extra></extra>",
        colorbar={"tickformat": ".1%", "thickness": 10, "outlinewidth": 0, "nticks": 5, "tickfont": {"size": 11}},
    )  # fmt: skip
    figure.update_layout(hovermode="closest")
    figure.update_yaxes(autorange="reversed", automargin=True, showgrid=False, ticks="", type="category")
    figure.update_xaxes(showgrid=False)
    return figure


def charges_figure(charges: pd.DataFrame) -> go.Figure:
    """Return the running sums of cost, financing and fees."""
    figure = canvas(280, tickformat=PERCENT, legend=True)
    for column, colour in CHARGES.items():
        series = charges[column]
        figure.add_scatter(
            x=days(series), y=thin(series), name=column.replace("_", " ").capitalize(), mode="lines",
            line={"color": colour, "width": 1.8}, hovertemplate="%{y:.2%}",
        )  # fmt: skip
    return marked_where_short(figure, len(charges))


def turnover_figure(turnover: pd.Series) -> go.Figure:
    """Return turnover by month."""
    figure = canvas(220)
    figure.add_bar(
        x=days(turnover),
        y=thin(turnover),
        name="Turnover",
        marker={"color": BEFORE},
        xperiod="M1",
        xhoverformat="%b %Y",
    )
    return figure


def contribution_figure(summary: pd.DataFrame) -> go.Figure:
    """Return mean true contribution by model, with bars of two standard errors where they are known."""
    names = [_plain(name) for name in summary.index]
    value, error = summary["true_contribution"], summary["standard_error"]
    figure = canvas(70 + 20 * max(len(names), 3), margin={"l": 10, "r": 16, "t": 8, "b": 34})
    figure.add_bar(
        x=thin(value), y=names, orientation="h", name="Mean TC",
        marker={"color": [GAIN_SOFT if v > 0 else LOSS_SOFT for v in value]},
        error_x={"type": "data", "array": thin(2 * error), "color": INK, "thickness": 1.3, "width": 3},
        hovertemplate="%{x:.5f}",
    )  # fmt: skip
    figure.update_layout(hovermode="closest", bargap=0.35)
    figure.update_yaxes(autorange="reversed", automargin=True, showgrid=False, type="category", dtick=1)
    figure.update_xaxes(type="linear", zeroline=True, zerolinecolor=QUIET, showgrid=True, hoverformat=".5f")
    return figure


def canvas(
    height: int, *, tickformat: str = "", legend: bool = False, margin: dict[str, int] | None = None
) -> go.Figure:
    """Return an empty drawing in the style of the pages."""
    axis = {"gridcolor": GRID, "linecolor": GRID, "zeroline": False, "tickfont": {"size": 11, "color": QUIET}}
    layout: dict[str, Any] = {
        "height": height,
        "margin": margin or {"l": 56, "r": 12, "t": 34 if legend else 8, "b": 30},
        "font": {"family": FONT, "size": 12, "color": INK},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "hovermode": "x unified",
        "showlegend": legend,
        "legend": {"orientation": "h", "x": 0, "y": 1.0, "yanchor": "bottom", "font": {"size": 12}},
        "xaxis": {
            **axis,
            "showgrid": False,
            "ticks": "outside",
            "ticklen": 4,
            "tickcolor": GRID,
            "hoverformat": "%Y-%m-%d",
        },
        "yaxis": {**axis, "tickformat": tickformat, "automargin": True},
        "separators": ".,",
        "hoverlabel": {"font": {"size": 12}},
        "template": None,
    }
    return go.Figure(layout=layout)


def marked_where_short(figure: go.Figure, count: int) -> go.Figure:
    """Show points and whole days where a line has fewer than eight: plotly would label such an axis in milliseconds."""
    if count < 8:
        figure.update_traces(mode="lines+markers", selector={"type": "scatter"})
        figure.update_xaxes(dtick=86_400_000, tickformat="%Y-%m-%d")
    return figure


def days(series: pd.Series | pd.DataFrame) -> list[str]:
    """Return a series' dates as text."""
    dates: list[str] = np.datetime_as_string(pd.DatetimeIndex(series.index).to_numpy(), unit="D").tolist()
    return dates


def thin(series: pd.Series) -> npt.NDArray[np.float32]:
    """Return values as float32: seven digits are more than a screen shows and halve the page."""
    return series.to_numpy(dtype=np.float32)


def _plain(name: Hashable) -> str:
    """Return a name that plotly draws letter by letter: it reads a subset of HTML in its labels."""
    return html.escape(str(name), quote=False)
