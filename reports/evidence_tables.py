"""Tables of evidence: what the Sharpe ratio proves, drawdowns, gross to net, what was published."""

from __future__ import annotations

import math
from collections.abc import Mapping

import pandas as pd

from backtest.published import PublishedFigure
from backtest.sharpe_record import SharpeRecord
from backtest.statistic import Band, Statistic, Unit
from reports.cells import UNKNOWN, Cell, Table, band_text, date, integer, money, number, percent, with_unit

__all__ = ["drawdown_table", "published_table", "sharpe_table", "step_label", "waterfall_table"]

STEPS = {
    "price": "Price changes",
    "dividend": "Dividends",
    "delisting": "Delistings",
    "fx": "Currency",
    "gross_return": "Gross return",
    "spread": "Spread",
    "commission": "Commission",
    "impact": "Impact",
    "fx_cost": "Currency conversion",
    "cost": "Trading cost",
    "debit_interest": "Interest paid",
    "credit_interest": "Interest earned",
    "rebate": "Short rebate",
    "borrow_fee": "Borrow fees",
    "financing": "Financing",
    "return_before_fees": "Before fees",
    "management_fee": "Management fee",
    "incentive_fee": "Incentive fee",
    "fees": "Fees",
    "net_return": "Net return",
}


def sharpe_table(records: Mapping[str, SharpeRecord], bands: Mapping[str, Band | None], periods_per_year: int) -> Table:
    """Return each Sharpe ratio with its intervals, errors, correction and tests.

    Parameters
    ----------
    records : mapping
        By what is shown.
    bands : mapping
        Bootstrap interval of each.
    periods_per_year : int
    """
    rows: list[list[Cell | str]] = []
    for label, record in records.items():
        needed = f"{number(record.needed / periods_per_year, 1)} years" if math.isfinite(record.needed) else "never"
        rows.append(
            [
                label,
                Cell(number(record.ratio), strong=True),
                band_text(bands[label], Unit.RATIO) or UNKNOWN,
                band_text(record.band, Unit.RATIO) or UNKNOWN,
                number(record.error),
                number(record.robust_error),
                number(record.adjusted),
                percent(record.probability),
                Cell(UNKNOWN if record.reason else needed, alert=record.needed > record.sessions),
                f"{number(record.sessions / periods_per_year, 1)} years",
            ]
        )
    columns = [
        *("Sharpe ratio", "Ratio", "95 %, bootstrap", "95 %, HAC", "Error, independent", "Error, HAC"),
        *("Adjusted", "Probability above 0", "Record needed", "Record"),
    ]
    return Table.of(columns, rows, empty="The run has no sessions.")


def drawdown_table(falls: pd.DataFrame, *, count: int = 5) -> Table:
    """Return the deepest drawdowns with their dates and lengths."""
    deepest = falls.sort_values("depth", kind="stable").head(count)
    rows: list[list[Cell | str]] = []
    for _, row in deepest.iterrows():
        below = bool(pd.isna(row["recovered"]))
        rows.append(
            [
                date(row["peak"]),
                date(row["trough"]),
                Cell("not recovered" if below else date(row["recovered"]), alert=below),
                percent(row["depth"], 2),
                integer(row["sessions"]),
                integer(row["sessions_to_trough"]),
                "" if below else integer(row["sessions_to_recover"]),
            ]
        )
    columns = ["Start", "Trough", "Recovery", "Depth", "Sessions", "To the trough", "To recover"]
    left = len(falls) - len(rows)
    note = f"{left} shallower ones are left out." if left > 0 else ""
    return Table.of(columns, rows, empty="The net value never fell below its high.", words=(0, 1, 2), note=note)


def step_label(step: str) -> str:
    """Return the words for a step from gross to net."""
    return STEPS[step]


def waterfall_table(run: pd.DataFrame, years: pd.DataFrame) -> Table:
    """Return the steps from gross to net: per year, over the run and in each calendar year.

    Parameters
    ----------
    run, years : DataFrame
        As `backtest.waterfall.waterfall` returns them for the run and for its years.
    """
    by_year = {
        str(year): rows.set_index("step")["contribution"] for year, rows in years.groupby(years["start"].dt.year)
    }
    rows: list[list[Cell | str]] = []
    for _, row in run.iterrows():
        strong = bool(row["subtotal"]) or row["step"] == "gross_return"
        values = [row["per_year"], row["contribution"], *(year[row["step"]] for year in by_year.values())]
        rows.append([Cell(text, strong=strong) for text in (step_label(row["step"]), *(percent(v, 2) for v in values))])
    return Table.of(["Step", "Per year", "Whole run", *by_year], rows, empty="The run has no sessions.")


def published_table(figures: Mapping[PublishedFigure, Statistic | None]) -> Table:
    """Return what was published of a fund, and ours beside it where a definition is near."""
    rows: list[list[Cell | str]] = [
        [
            figure.item,
            figure.period,
            _published(figure),
            Cell("" if ours is None else with_unit(ours.value, ours.unit), strong=True),
            "" if ours is None else band_text(ours.band, ours.unit),
            figure.basis,
            f"{figure.source.value}; {figure.address}",
        ]
        for figure, ours in figures.items()
    ]
    columns = ["Published of the fund", "Its period", "Published", "Ours", "Ours, 95 %", "Basis", "Source"]
    return Table.of(columns, rows, empty="Nothing was published.", words=(0, 1, 5, 6))


def _published(figure: PublishedFigure) -> str:
    if figure.unit == "ratio":
        return number(figure.value)
    return money(figure.value, "USD") if "dollars" in figure.unit else percent(figure.value)
