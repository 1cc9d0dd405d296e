"""Tables of what a book could lose: scenarios, replays, worse regimes, value at risk and its record."""

from __future__ import annotations

import math

import pandas as pd

from reports.cells import Cell, date, integer, number, percent
from reports.risk_cells import p_text
from reports.risk_tables import Row, Sheet, sheet

__all__ = ["regime_sheet", "replay_sheet", "stress_sheet", "tail_sheet", "var_sheet"]

METHODS = {
    "normal": "Normal",
    "student": "Student-t",
    "historical": "Historical",
    "filtered_historical": "Filtered historical",
    "monte_carlo": "Monte Carlo, Student-t",
}
METHOD_MEANINGS = {
    "normal": "calibrated forecast, normal law",
    "student": "calibrated forecast, tails fitted to the book's past returns over their forecasts",
    "historical": "today's weights on the last {count} days of returns",
    "filtered_historical": "the same, {count} days, each over its own volatility, at today's",
    "monte_carlo": "{count} draws of factors and specific returns with common Student-t shocks",
}


def stress_sheet(stresses: pd.DataFrame) -> Sheet:
    """Return the scenarios with their losses."""
    rows: list[Row] = []
    for name, row in stresses.iterrows():
        largest = f"{row['largest_factor']} {percent(row['largest_factor_loss'], 2)}" if row["largest_factor"] else ""
        rows.append(
            [
                str(name),
                Cell(percent(row["loss"], 2)),
                percent(row["specific_loss"], 2),
                largest,
                number(row["distance"], 1) if math.isfinite(row["distance"]) else "impossible",
                ". ".join(text for text in (str(row["definition"]), str(row["note"])) if text),
            ]
        )
    columns = [
        ("Scenario", ""),
        ("Loss", "Fraction of net assets; negative is a gain."),
        ("Specific part", "Of the loss, from single names."),
        ("Costliest factor", "Part of the loss by that factor alone."),
        ("Distance", "Mahalanobis distance in standard deviations of the period (a month, a week for deleveraging): above 3 the model "
         "holds it very unlikely; impossible: the factor covariance rules it out."),
        ("Definition", "Returns and losses in it are fractions: -0.2 is -20 %; the period of a standard deviation is named."),
    ]  # fmt: skip
    return sheet(columns, rows, empty="No scenario.", words=(0, 3, 5))


def replay_sheet(replays: pd.DataFrame) -> Sheet:
    """Return the windows of the past that the data hold, and name those that they do not."""
    held = replays[replays["in_data"].astype(bool)]
    rows: list[Row] = [
        [
            str(name),
            f"{date(row['start'])} to {date(row['end'])}",
            *(percent(row[column], 2) for column in ("loss", "own_loss")),
            percent(row["own_absent_gross"], 0),
            percent(-row["worst_day"], 2),
            percent(row["drawdown"], 2),
            str(row["note"]),
        ]
        for name, row in held.iterrows()
    ]
    columns = [
        ("Window", ""),
        ("Days", ""),
        (
            "Loss, factors",
            "Today's exposures times the factor returns of then, added over days; specific returns are not in it.",
        ),
        ("Loss, own returns", "Today's weights times the assets' own returns of then."),
        ("Without returns", "Share of gross that has no returns of then, and is not in the column before."),
        ("Worst day, factors", "Largest loss of a day, by factors."),
        ("Drawdown, factors", "Largest fall within the window, by factors."),
        ("Note", ""),
    ]
    away = replays[~replays["in_data"].astype(bool)]
    names = ", ".join(f"{name} ({date(row['start'])} to {date(row['end'])})" for name, row in away.iterrows())
    note = f"Not replayed: {names}. Reason: {away['note'].iloc[0]}." if len(away) else ""
    return sheet(columns, rows, empty=f"Nothing was replayed. {note}", words=(0, 1, 7), note=note if rows else "")


def regime_sheet(regimes: pd.DataFrame) -> Sheet:
    """Return forecast volatility under worse regimes."""
    rows: list[Row] = [
        [str(name), percent(row["volatility"], 2), percent(row["calibrated"], 2), number(row["ratio"], 2)]
        for name, row in regimes.iterrows()
    ]
    columns = [
        ("Regime", "Volatilities scaled; correlations of all assets moved that share of the way to 1. A market-neutral book gains from higher "
         "correlations, as its legs move together."),
        ("Volatility", "Forecast of the risk model, per year."),
        ("Calibrated", "Times what the book's own past says."),
        ("Ratio", "To today's forecast."),
    ]  # fmt: skip
    return sheet(columns, rows, empty="No regime.")


def tail_sheet(tails: pd.DataFrame) -> Sheet:
    """Return value at risk and expected shortfall by method (rows), level and horizon."""
    periods = list(dict.fromkeys(zip(tails["level"], tails["horizon"], strict=True))) if len(tails) else []
    columns = [("Method", "")]
    for level, days in periods:
        span = "1 day" if days == 1 else f"{days} days"
        columns += [
            (f"VaR {percent(level, 0)}, {span}", "Loss exceeded with the rest of that probability."),
            (f"ES {percent(level, 0)}, {span}", "Mean loss beyond the value at risk."),
        ]
    columns.append(("How", ""))
    rows: list[Row] = []
    for method in METHODS:
        mine = tails[tails["method"] == method] if len(tails) else tails
        if mine.empty:
            continue
        found = {(row["level"], row["horizon"]): row for row in mine.to_dict(orient="records")}
        cells: list[Cell | str] = [METHODS[method]]
        for period in periods:
            for column in ("value_at_risk", "expected_shortfall"):
                row = found.get(period, {})
                text, error = percent(row.get(column), 2), float(row.get(f"{column}_error", 0.0))
                cells.append(f"{text} \N{PLUS-MINUS SIGN} {number(100 * error, 2)}" if error > 0 else text)
        count = integer(float(mine["observations"].iloc[0]))
        rows.append([*cells, METHOD_MEANINGS[method].format(count=count)])
    note = "In percent of net assets. \N{PLUS-MINUS SIGN}: standard error of the sample or the draws, in the same unit."
    untold = tails[tails["note"] != ""] if len(tails) else tails
    note += "".join(f" {METHODS[str(row['method'])]}, n/a: {row['note']}." for _, row in untold.iterrows())
    return sheet(columns, rows, empty="Not known.", words=(0, len(columns) - 1), note=note if rows else "")


def var_sheet(tails: pd.DataFrame) -> Sheet:
    """Return the backtests of value at risk."""
    rows: list[Row] = []
    for _, row in tails.iterrows():
        tests = ("p_kupiec", "p_independence", "p_conditional_coverage", "p_acerbi_szekely", "p_mcneil_frey")
        rows.append(
            [
                METHODS[str(row["method"])],
                percent(row["level"], 0),
                integer(row["days"]),
                integer(row["exceptions"]),
                number(row["expected"], 1),
                Cell(str(row["zone"]), alert=row["zone"] != "green"),
                *(Cell(p_text(row[name]), alert=bool(row[name] < 0.01)) for name in tests),
            ]
        )
    columns = [
        (
            "Method",
            "Normal, Student-t and Monte Carlo: the laws of the table before, on each day's calibrated forecast. Historical and filtered "
            "historical: quantiles of the book's own last 250 returns; the ones reported before replay today's weights, which no "
            "past day held, and cannot be tested so.",
        ),
        ("Level", "Of one-day value at risk."),
        ("Days", "Out of sample."),
        ("Exceptions", "Days whose loss was beyond it."),
        ("Expected", "If the level holds."),
        ("Zone", "The supervisors' traffic light, by the probability of as many exceptions."),
        ("Kupiec", "p-value: the number of exceptions is right."),
        ("Independence", "p-value: exceptions do not follow each other (Christoffersen)."),
        ("Conditional", "p-value of both together."),
        ("Acerbi-Szekely", "p-value: number and size of losses beyond agree with expected shortfall."),
        ("McNeil-Frey", "p-value: their size alone does."),
    ]
    return sheet(
        columns,
        rows,
        empty="Not known.",
        words=(0, 5),
        note="Marked: p below 0.01, or not in the green zone." if rows else "",
    )
