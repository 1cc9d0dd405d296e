"""Tables of performance, limits and positions."""

from __future__ import annotations

import numpy as np
import pandas as pd

from backtest.series import monthly_returns
from reports.cells import Cell, Table, date, integer, number, percent

__all__ = ["exposure_text", "limit_table", "month_table", "position_table", "year_table"]

MONTHS = "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split()  # noqa: SIM905
SHADED_FULLY = 0.05
"""A month that gained or lost this much has the strongest background."""


def month_table(net_return: pd.Series) -> Table:
    """Return compounded net returns by year and month, shaded by sign and size."""
    rows = []
    for year, values in monthly_returns(net_return).iterrows():
        cells = [
            Cell(
                "" if np.isnan(value) else percent(value),
                shade=float(np.clip(np.nan_to_num(value) / SHADED_FULLY, -1, 1)),
            )
            for value in values.iloc[:12]
        ]
        rows.append([Cell(str(year)), *cells, Cell(percent(float(values["year"])))])
    return Table.of(["Year", *MONTHS, "Year"], rows, empty="The run has no sessions.")


def year_table(years: pd.DataFrame) -> Table:
    """Return performance, and realised against forecast volatility and its limit, by calendar year."""
    rows: list[list[Cell | str]] = []
    for year, row in years.iterrows():
        over = bool(row["volatility"] > row["band_upper"])
        rows.append(
            [
                str(year),
                integer(row["sessions"]),
                percent(row["return_net"]),
                percent(row["return_before_fees"]),
                number(row["sharpe_before_fees"]),
                number(row["sharpe_net"]),
                percent(row["max_drawdown"]),
                Cell(percent(row["volatility"]), alert=over),
                percent(row["forecast_volatility"]),
                percent(row["volatility_limit"]),
                _band(row["band_lower"], row["band_upper"]),
                number(row["ratio"]),
                number(row["turnover"], 1),
                percent(row["cost"], 2),
            ]
        )
    columns = [
        "Year",
        "Sessions",
        "Return, net",
        "Return, before fees",
        "Sharpe, before fees",
        "Sharpe, net",
        "Max. drawdown",
    ]
    columns += [
        "Volatility, realised",
        "Volatility, forecast",
        "Volatility limit",
        "Band of the limit",
        "Realised / forecast",
        "Turnover, \N{MULTIPLICATION SIGN} NAV",
        "Trading cost",
    ]
    return Table.of(columns, rows, empty="The run has no sessions.")


def _band(lower: float, upper: float) -> str:
    return f"{percent(lower)} to {percent(upper)}" if np.isfinite(lower) else percent(lower)


def exposure_text(name: str, value: float) -> str:
    """Return an exposure in the unit of its name: weights and volatility as percent, gross, beta and styles as numbers."""
    family = name.split(":", 1)[0]
    if family in {"net", "market", "country", "sector", "position", "volatility"}:
        return percent(value, 2)
    return number(value, 2 if family == "gross" else 3)


def limit_table(use: pd.DataFrame) -> Table:
    """Return each exposure's place against its limits, those with a limit first."""
    limited = use["limit_lower"].notna() | use["limit_upper"].notna()
    ordered = pd.concat([use[limited], use[~limited]])
    rows: list[list[Cell | str]] = []
    for key, row in ordered.iterrows():
        name, bounded = str(key), bool(np.isfinite([row["limit_lower"], row["limit_upper"]]).any())
        rows.append(
            [
                name,
                *(exposure_text(name, row[column]) for column in ("last", "lowest", "highest")),
                *(
                    exposure_text(name, row[column]) if np.isfinite(row[column]) else "none"
                    for column in ("limit_lower", "limit_upper")
                ),
                _days_beyond(row) if bounded else "",
                exposure_text(name, row["largest_excess"]) if bounded else "",
                percent(row["forecast_risk"], 2),
            ]
        )
    columns = [
        "Exposure",
        "Last",
        "Lowest",
        "Highest",
        "Lower limit",
        "Upper limit",
        "Days beyond",
        "Farthest beyond",
        "Forecast risk, last",
    ]
    return Table.of(columns, rows, empty="The run holds no exposures.")


def _days_beyond(row: pd.Series) -> str:
    if row["limit_lower"] == row["limit_upper"]:
        return "equality"
    return f"{integer(row['beyond'])} of {integer(row['dates'])}"


def position_table(
    weights: pd.DataFrame, signals: pd.DataFrame, labels: pd.DataFrame, *, side: int, count: int = 15
) -> Table:
    """Return the largest positions of the last date on one side.

    Parameters
    ----------
    weights, signals : DataFrame
        Tables of the run folder.
    labels : DataFrame indexed by asset
        Any columns; shown as they are.
    side : {1, -1}
        Long or short.
    count : int
    """
    if weights.empty:
        return Table.of(["Asset"], [], empty="The run holds no positions.")
    last = weights["date"].max()
    book = weights[weights["date"] == last].set_index("asset")["weight"] * side
    book = book[book > 0].sort_values(ascending=False, kind="stable")
    decided = signals["date"].max()
    signal = signals[signals["date"] == decided].set_index("asset")
    target = weights[weights["date"] == decided].set_index("asset")["target"]
    rows = []
    for asset, size in book.head(count).items():
        words = [str(labels[column].get(asset, "")) for column in labels.columns]
        rows.append(
            [
                str(asset),
                *words,
                percent(size * side, 2),
                percent(target.get(asset, np.nan), 2),
                percent(signal["alpha"].get(asset, np.nan), 1),
                number(signal["meta_model"].get(asset, np.nan)),
            ]
        )
    columns = [
        "Asset",
        *(str(column).capitalize() for column in labels.columns),
        "Weight",
        "Target",
        "Alpha, a year",
        "Meta model",
    ]
    word = "long" if side > 0 else "short"
    note = f"{min(count, len(book))} of {len(book)} {word} positions at the close of {date(last)}; target, alpha and meta model as decided on {date(decided)}."
    return Table.of(
        columns, rows, empty=f"No {word} position on {date(last)}.", words=range(1 + labels.shape[1]), note=note
    )
