"""Tables of what has been: forecasts against what followed, what earned the return, and the state of the risk model."""

from __future__ import annotations

from typing import Any

import pandas as pd

from reports.cells import Cell, integer, number, percent
from reports.risk_cells import p_text
from reports.risk_tables import Row, Sheet, sheet

__all__ = [
    "bias_sheet",
    "brinson_sheet",
    "count_sheet",
    "effect_sheet",
    "line_sheet",
    "loss_sheet",
    "model_sheet",
    "rule_sheet",
    "study_sheet",
    "year_sheet",
]


BIAS = (
    "Standard deviation of returns, each over the volatility that was forecast for it: 1 is right, above 1 risk was understated. Realised "
    "over forecast volatility of 63 days, and by year, are the same statistic of daily returns."
)
QUOTIENT = "Over the column before it is not the bias: wild periods count for more in both, and every period counts alike in the bias."


def bias_sheet(bias: pd.DataFrame) -> Sheet:
    """Return the bias statistics of the book's forecasts."""
    rows: list[Row] = [
        [
            str(name),
            "1 day" if row["horizon"] == 1 else f"{row['horizon']:.0f} days",
            Cell(number(row["bias"], 2), alert=not row["inside"]),
            f"{number(row['wide_lower'], 2)} to {number(row['wide_upper'], 2)}",
            number(row["standard_error"], 2),
            integer(row["periods"]),
            percent(row["forecast_volatility"], 2),
            percent(row["realised_volatility"], 2),
            number(row["rolling_deviation"], 2),
            number(row["expected_deviation"], 2),
        ]
        for name, row in bias.iterrows()
    ]
    columns = [
        (
            "Forecast",
            "Risk model: as estimated. Calibrated: times the multiplier of the day, which knew the past only.",
        ),
        ("Returns over", "Periods that do not overlap."),
        ("Bias", BIAS),
        ("Band, 95 %", "Where right forecasts lie; widened for the fat tails of the returns."),
        ("Standard error", "Newey-West."),
        ("Periods", ""),
        ("Forecast, r.m.s.", "Root mean square of forecasts, per year."),
        ("Realised, r.m.s.", f"Root mean square of returns, per year. {QUOTIENT}"),
        ("Rolling |B - 1|", "Mean over rolling years of the distance of the bias from 1."),
        ("Best possible", "What right forecasts of normal returns have on average."),
    ]
    return sheet(columns, rows, empty="Not known.", words=(0, 1))


def year_sheet(years: pd.DataFrame) -> Sheet:
    """Return realised over forecast volatility by year."""
    rows: list[Row] = [
        [
            str(year),
            integer(row["days"]),
            percent(row["realised"], 1),
            percent(row["forecast"], 1),
            number(row["ratio"], 2),
            percent(row["calibrated"], 1),
            number(row["calibrated_ratio"], 2),
        ]
        for year, row in years.iterrows()
    ]
    columns = [
        ("Year", ""),
        ("Days", ""),
        ("Realised", "Volatility of daily returns before costs, per year."),
        ("Risk model", "Root mean square of its forecasts."),
        ("Bias, risk model", BIAS),
        ("Calibrated", "Root mean square of the calibrated forecasts."),
        ("Bias, calibrated", "The same of the calibrated forecasts."),
    ]
    return sheet(columns, rows, empty="Not known.")


def loss_sheet(losses: pd.DataFrame) -> Sheet:
    """Return QLIKE of the forecasts."""
    rows: list[Row] = [
        [
            str(name),
            number(row["qlike"], 3),
            number(row["difference"], 3) if pd.notna(row["difference"]) else "",
            number(row["standard_error"], 3) if pd.notna(row["standard_error"]) else "",
            p_text(row["p_value"]) if pd.notna(row["p_value"]) else "",
        ]
        for name, row in losses.iterrows()
    ]
    columns = [
        ("Forecast", "Moving average: of the book's own squared returns, half-life 21 days."),
        (
            "QLIKE",
            "Mean of log h + v/h, h the forecast and v the squared return of the next day, per year: lower is better.",
        ),
        ("Difference", "To the moving average: negative is better than it."),
        ("Standard error", "Newey-West."),
        ("p", "Of no difference (Diebold and Mariano)."),
    ]
    return sheet(columns, rows, empty="Not known.")


def study_sheet(summary: pd.DataFrame) -> Sheet:
    """Return the bias of study portfolios."""
    rows: list[Row] = [
        [
            str(name),
            integer(row["books"]),
            integer(row["periods"]),
            Cell(number(row["bias"], 2), alert=not row["inside"]),
            number(row["standard_error"], 2),
            f"{number(row['lower'], 2)} to {number(row['upper'], 2)}",
            percent(row["share_inside"], 0),
            percent(row["forecast"], 1),
            percent(row["realised"], 1),
            str(row["definition"]),
        ]
        for name, row in summary.iterrows()
    ]
    columns = [
        ("Portfolios", ""),
        ("Books", ""),
        ("Periods", "From one decision to the next, or weeks."),
        ("Bias", f"{BIAS} Mean over books."),
        ("Standard error", "Newey-West, of the mean."),
        ("Band of one, 95 %", "Where a right forecast's lies; widened for fat tails."),
        ("Inside", "Share of the books."),
        ("Forecast, r.m.s.", "Root mean square over books and periods, per year."),
        ("Realised, r.m.s.", f"Root mean square over books and periods, per year. {QUOTIENT}"),
        ("What they are", ""),
    ]
    return sheet(columns, rows, empty="Not known.", words=(0, 9))


def line_sheet(lines: pd.DataFrame, *, exposures: bool, count: int | None = None) -> Sheet:
    """Return attributed return by line, with its standard error."""
    shown = lines if count is None else lines.head(count)
    rows: list[Row] = []
    for name, row in shown.iterrows():
        cells: list[Cell | str] = [str(name).replace("_", " "), percent(row["contribution"], 2)]
        if exposures:
            cells += [number(row["mean_exposure"], 3), number(row["mean_absolute_exposure"], 3)]
        cells += [percent(row["mean"], 2), percent(row["standard_error"], 2)]
        rows.append([*cells, number(row["t_statistic"], 1)])
    columns = [("Line", ""), ("Contribution", "Linked over days: the lines sum to the net return of the span.")]
    if exposures:
        columns += [("Mean exposure", ""), ("Mean absolute exposure", "")]
    columns += [
        ("Mean, per year", "Of the daily contribution, times trading days."),
        ("Standard error", "Newey-West; of the sample of days only, not of the estimated factor returns."),
        ("t", "Mean over standard error: within about 2 of 0, chance is enough to explain it."),
    ]
    return sheet(columns, rows, empty="Nothing to attribute.")


def brinson_sheet(groups: pd.DataFrame) -> Sheet:
    """Return Brinson's effects by group."""
    ordered = groups.sort_values("mean_gross", ascending=False, kind="stable")
    rows: list[Row] = [
        [
            str(name) or "(none)",
            percent(row["mean_net"], 2),
            percent(row["mean_gross"], 0),
            percent(row["group_return"], 0),
            *(percent(row[column], 2) for column in ("allocation", "selection_long", "selection_short", "total")),
            number(row["t_statistic"], 1),
        ]
        for name, row in ordered.iterrows()
    ]
    columns = [
        ("Group", ""),
        ("Mean net", "Mean net weight."),
        ("Mean gross", ""),
        ("Group's return", "Of the cap-weighted universe, compounded over the days on which it held the group."),
        ("Allocation", "Net weight times what the group earned beyond the universe: leaning on the group."),
        ("Selection, long", "What longs earned beyond their group."),
        ("Selection, short", "What shorts earned beyond being short their group."),
        ("Total", "Of the three, linked."),
        ("t", "Of the total."),
    ]
    return sheet(columns, rows, empty="Nothing to attribute.")


def effect_sheet(effects: pd.DataFrame) -> Sheet:
    """Return Brinson's effects in sum, by country and by sector."""
    rows: list[Row] = [
        [
            str(name).replace("_", " "),
            percent(row["country_contribution"], 2),
            number(row["country_t_statistic"], 1),
            percent(row["sector_contribution"], 2),
            number(row["sector_t_statistic"], 1),
        ]
        for name, row in effects.iterrows()
    ]
    columns = [
        ("Effect", "Market: the book's net in the universe. Trading: earned on what was not held at the close before."),
        ("By country", "Linked contribution to net return."),
        ("t", ""),
        ("By sector", "Linked contribution to net return."),
        ("t", ""),
    ]
    return sheet(columns, rows, empty="Nothing to attribute.")


def model_sheet(factors: pd.DataFrame, *, count: int | None = None) -> Sheet:
    """Return the factors of the model, with their strength."""
    shown = factors if count is None else factors.head(count)
    rows: list[Row] = [
        [
            str(name),
            percent(row["volatility"], 1),
            percent(row["realised"], 1),
            number(row["market_correlation"], 2),
            integer(row["days"]),
            percent(row["mean"], 1),
            number(row["t_mean"], 1),
            *(
                _known(row, column, decimals)
                for column, decimals in (("mean_absolute_t", 1), ("inflation", 1), ("stability", 2))
            ),
            percent(row["share_significant"], 0) if pd.notna(row.get("share_significant")) else "",
        ]
        for name, row in shown.iterrows()
    ]
    columns = [
        ("Factor", ""),
        ("Volatility", "Forecast, per year."),
        ("Realised", "Volatility of its returns over the last 252 regressions, per year."),
        ("With market", "Forecast correlation with the market factor."),
        ("Days", "With a return, in the history."),
        ("Mean return", "Over the history, per year."),
        ("t of the mean", "Newey-West: is the factor paid?"),
        ("Mean |t|", "Of its daily return, White's errors, last 63 days: does it move assets? 0.8 by chance."),
        ("Inflation", "Variance inflation (VIF): by how much the other factors blur it; above 5 is high."),
        ("Stability", "Correlation of exposures with those of 21 days before: 1 less turnover."),
        ("Significant", "Days with |t| above 2, last 63; 5 % by chance."),
    ]
    return sheet(columns, rows, empty="No factor.")


def _known(row: pd.Series, column: str, decimals: int) -> str:
    value: Any = row.get(column)
    return number(float(value), decimals) if value is not None and pd.notna(value) else ""


COUNTS = {
    "assets": ("assets", "in the regression"),
    "missing": ("members without a return", "members of the universe without a usable return that day"),
    "factors": ("factors", "in the regression"),
    "filled": ("filled style values", "not known for a member, taken as 0, the market average"),
    "clipped": ("clipped style values", "cut at the winsor limit"),
    "pooled": ("pooled labels", "countries, sectors and industries without a factor of their own"),
    "unclassified": ("unclassified assets", "assets whose pool was too thin to be a factor"),
    "absent": (
        "styles and signals without a factor",
        "one for each style or signal on each day, and no asset: styles before they have their history, and signals on every day before "
        "their first predictions",
    ),
    "winsorised": ("winsorised returns", "cut in the regression, and only there"),
    "bounded": ("bounded assets", "beyond Huber's bound"),
    "iterations": ("iterations", "of the robust regression"),
    "unconverged": ("unconverged regressions", "robust ones"),
    "rank_deficient": ("rank-deficient regressions", "that could not tell all factors apart"),
    "floored": ("floored returns", "of -100 % or less, raised by a rule"),
    "stale": ("stale returns", "of a stale price, taken as not known"),
    "suspected_splits": (
        "suspected splits",
        "returns that look like a split that was not adjusted, taken as not known",
    ),
}
"""Of what a rule counts, a name and its meaning."""


def count_sheet(counts: pd.DataFrame) -> Sheet:
    """Return what rules did to the data behind the model."""
    rows: list[Row] = []
    for name, row in counts.iterrows():
        label, meaning = COUNTS.get(str(name), (str(name).replace("_", " "), ""))
        numbers = (integer(row[column]) for column in ("last", "recent", "history", "days"))
        rows.append([label.capitalize(), *numbers, meaning])
    columns = [
        ("Rule", ""),
        ("On the day", ""),
        ("Last 63 sessions", "Sum over them: the same asset or factor counts once a day."),
        ("Whole history", "Sum over all sessions of the data, those before the first decision included."),
        ("Sessions with any", "Of the whole history."),
        ("What is counted", ""),
    ]
    return sheet(columns, rows, empty="Nothing was done.", words=(0, 5))


def rule_sheet(rules: pd.DataFrame) -> Sheet:
    """Return what was filled, pooled, blended, floored or scaled in the model of the day."""
    rows: list[Row] = []
    for name, row in rules.iterrows():
        names = list(row["names"])
        listed = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
        value = number(row["value"], 0 if float(row["value"]).is_integer() else 2)
        rows.append([str(name).capitalize(), value, ": ".join(text for text in (str(row["meaning"]), listed) if text)])
    columns = [("Rule", ""), ("Value", ""), ("Meaning", "")]
    return sheet(columns, rows, empty="Nothing was done.", words=(0, 2))
