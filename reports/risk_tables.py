"""Tables of a risk report, each column with its meaning."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from backtest.monitoring import Monitoring
from reports.cells import Cell, Table, date, integer, number, percent
from reports.risk_cells import level_text, p_text

__all__ = [
    "Sheet",
    "asset_sheet",
    "bias_sheet",
    "breach_sheet",
    "brinson_sheet",
    "count_sheet",
    "crowding_sheet",
    "effect_sheet",
    "factor_sheet",
    "family_sheet",
    "group_sheet",
    "limit_sheet",
    "line_sheet",
    "loss_sheet",
    "measure_sheet",
    "model_sheet",
    "regime_sheet",
    "replay_sheet",
    "rule_sheet",
    "stress_sheet",
    "study_sheet",
    "tail_sheet",
    "var_sheet",
    "year_sheet",
]

Row = Sequence[Cell | str]
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
    "historical": "today's weights on the last 500 days of returns",
    "filtered_historical": "the same, each day over its own volatility, at today's",
    "monte_carlo": "100,000 draws of factors and specific returns with common Student-t shocks",
}


@dataclass(frozen=True)
class Sheet:
    """A table and what each of its columns means."""

    table: Table
    meanings: tuple[str, ...]

    @property
    def said(self) -> list[tuple[str, str]]:
        """Columns that have a meaning, with it."""
        pairs = zip(self.table.columns, self.meanings, strict=True)
        return [(column.label, text) for column, text in pairs if text]


def _sheet(
    columns: Sequence[tuple[str, str]], rows: Sequence[Row], *, empty: str, words: Sequence[int] = (0,), note: str = ""
) -> Sheet:
    table = Table.of([label for label, _ in columns], rows, empty=empty, words=words, note=note)
    return Sheet(table, tuple(meaning for _, meaning in columns))


def limit_sheet(limits: Monitoring, *, worst: bool) -> Sheet:
    """Return every limit on the day, or of each family the one with the least headroom."""
    table = limits.table
    if worst:
        first = table.assign(order=table["headroom"].fillna(math.inf)).sort_values("order", kind="stable")
        names = first.drop_duplicates("family").index
        table = table.loc[[name for name in table.index if name in names]]
    rows: list[Row] = []
    for key, row in table.iterrows():
        family, bounded = str(row["family"]), bool(pd.notna(row["headroom"]))
        state = "breach" if row["breach"] else "within tolerance" if row["outside_limit"] else "within"
        label = f"{key} ({row['asset']})" if row["asset"] else str(key)
        by = f"{row['kind']}: {row['cause']}" if row["breach"] else ""
        relaxed = f"widened by {level_text(family, row['relaxed'])}" if row["relaxed"] else ""
        rows.append(
            [
                label,
                Cell(level_text(family, row["level"]), alert=bool(row["breach"])),
                _bounds(family, row),
                level_text(family, row["tolerance"]) if bounded else "",
                level_text(family, row["headroom"]) if bounded else "",
                level_text(family, row["margin"]) if bounded else "",
                Cell(state if bounded else "no limit", alert=bool(row["breach"])),
                ("hard" if row["hard"] else "soft") if bounded else "",
                date(row["since"] if row["breach"] else row["outside_since"]) if row["outside_limit"] else "",
                by or relaxed,
            ]
        )
    columns = [
        ("Limit", "What is limited; of a position, the largest."),
        ("Level", "Of the book held at the close, in the unit of the limit."),
        ("Limit of the mandate", "It binds on the target of every decision."),
        (
            "Tolerance",
            "Drift beyond the limit that is not called a breach, for prices move a book between decisions (assumed).",
        ),
        ("Headroom", "What is left to the limit; negative beyond it."),
        ("To breach", "What is left to limit and tolerance together; negative in a breach."),
        (
            "State",
            "Within; within tolerance: beyond the mandate's limit by less than the tolerance; breach: beyond both.",
        ),
        (
            "Severity",
            "Hard: promised by the fund, and a scheduler stops on its breach. Soft: shown only. Which is which is assumed.",
        ),
        ("Since", "First day beyond limit and tolerance in a breach, else beyond the limit."),
        (
            "By",
            "Active: a trade made it. Passive: prices did (drift), or the next model measures the same book otherwise (model).",
        ),
    ]
    return _sheet(columns, rows, empty="No limit is monitored.", words=(0, 6, 7, 8, 9))


def _bounds(family: str, row: pd.Series) -> str:
    low, high = row["lower"], row["upper"]
    if pd.notna(low) and pd.notna(high):
        return level_text(family, 0.0) if high == 0 else f"\N{PLUS-MINUS SIGN}{level_text(family, high)}"
    return f"at most {level_text(family, high)}" if pd.notna(high) else "none"


def breach_sheet(breaches: pd.DataFrame, *, count: int) -> Sheet:
    """Return the latest breaches, newest first."""
    rows: list[Row] = []
    for _, row in breaches.iloc[::-1].head(count).iterrows():
        family = str(row["limit"]).partition(":")[0]
        rows.append(
            [
                f"{row['limit']} {row['asset']}".strip(),
                date(row["start"]),
                Cell("still open", alert=True) if row["open"] else date(row["end"]),
                integer(row["days"]),
                level_text(family, row["worst"]),
                level_text(family, row["excess"], exact=True),
                f"{row['kind']}: {row['cause']}",
                "hard" if row["hard"] else "soft",
            ]
        )
    columns = [
        ("Limit", ""),
        ("First day", ""),
        ("Last day", ""),
        ("Days", "In a row."),
        ("Worst level", ""),
        ("Beyond by", "Of the worst level, beyond limit and tolerance."),
        ("By", "Active: by a trade. Passive: by drift of prices, or a new risk model."),
        ("Severity", "Hard or soft."),
    ]
    left = len(breaches) - len(rows)
    note = f"{left} earlier ones are in the JSON output." if left > 0 else ""
    return _sheet(columns, rows, empty="No limit was ever breached.", words=(0, 1, 2, 6, 7), note=note)


def family_sheet(families: pd.DataFrame) -> Sheet:
    """Return contributions to risk by family of factors."""
    rows: list[Row] = [
        [str(name), percent(row["contribution"], 2), percent(row["share"], 1), percent(row["alone"], 2)]
        for name, row in families.iterrows()
    ]
    columns = [
        (
            "Family",
            "Blind: statistical factors of what the others leave. Signal: what the fund bets on. Specific: single names.",
        ),
        ("Contribution", "To forecast volatility, per year: the parts sum to it."),
        ("Share", "Of forecast volatility."),
        ("Alone", "Volatility of this part if there were no other, per year; these do not sum."),
    ]
    return _sheet(columns, rows, empty="No factor.")


def factor_sheet(factors: pd.DataFrame, *, count: int | None = None) -> Sheet:
    """Return x-sigma-rho by factor, those that matter most first."""
    ordered = factors.sort_values("contribution", key=abs, ascending=False, kind="stable")
    shown = ordered if count is None else ordered.head(count)
    rows: list[Row] = [
        [
            str(name),
            number(row["exposure"], 3),
            percent(row["volatility"], 1),
            number(row["correlation"], 2),
            percent(row["contribution"], 3),
            percent(row["share"], 1),
            percent(row["marginal"], 2),
        ]
        for name, row in shown.iterrows()
    ]
    columns = [
        ("Factor", ""),
        (
            "Exposure x",
            "Sum of weight times the asset's exposure: net weight for countries, sectors and industries; standard deviations for styles.",
        ),
        ("Volatility sigma", "Of the factor's return, forecast, per year."),
        ("Correlation rho", "Of the factor with the book, forecast."),
        (
            "Contribution",
            "x times sigma times rho, per year; with the specific part they sum to the book's volatility.",
        ),
        ("Share", "Of forecast volatility."),
        ("Marginal", "Change of the book's volatility per unit more of the exposure."),
    ]
    return _sheet(columns, rows, empty="No factor.")


def group_sheet(groups: pd.DataFrame, *, count: int | None = None) -> Sheet:
    """Return contributions by country or sector."""
    shown = groups if count is None else groups.head(count)
    rows: list[Row] = [
        [
            str(name),
            percent(row["net"], 2),
            percent(row["gross"], 1),
            percent(row["volatility"], 2),
            percent(row["contribution"], 2),
            percent(row["share"], 1),
            number(row["correlation"], 2),
        ]
        for name, row in shown.iterrows()
    ]
    columns = [
        ("Group", ""),
        ("Net", "Sum of weights."),
        ("Gross", "Sum of absolute weights."),
        ("Volatility alone", "Of the group's positions alone, forecast, per year."),
        ("Contribution", "To the book's forecast volatility, per year: the groups sum to it."),
        ("Share", ""),
        ("Correlation", "Of the group's positions with the whole book."),
    ]
    return _sheet(columns, rows, empty="No group.")


def asset_sheet(assets: pd.DataFrame, *, count: int) -> Sheet:
    """Return the positions that contribute most risk."""
    rows: list[Row] = [
        [
            str(name),
            str(row["country"]),
            str(row["sector"]),
            percent(row["weight"], 2),
            percent(row["contribution"], 3),
            percent(row["share"], 2),
            percent(row["marginal"], 1),
            number(row["beta"], 2),
            number(row["days"], 2),
        ]
        for name, row in assets.head(count).iterrows()
    ]
    columns = [
        ("Asset", ""),
        ("Country", ""),
        ("Sector", ""),
        ("Weight", "Fraction of net assets; shorts negative."),
        ("Contribution", "Weight times marginal, per year; all positions sum to the book's volatility."),
        ("Share", ""),
        (
            "Marginal",
            "Change of the book's volatility per unit of weight: a negative one of a short says that shorting more adds risk.",
        ),
        ("Beta", "Predicted, to the cap-weighted universe."),
        ("Days to sell", "At the stated share of its median volume; n/a: volume not known."),
    ]
    note = f"{min(count, len(assets))} of {integer(len(assets))} positions; all are in the JSON output."
    return _sheet(columns, rows, empty="No position.", words=(0, 1, 2), note=note)


def crowding_sheet(crowding: pd.DataFrame) -> Sheet:
    """Return likeness to simple styles."""
    rows: list[Row] = [
        [
            str(name),
            number(row["exposure"], 3),
            number(row["relative_exposure"], 3),
            number(row["correlation"], 2),
            number(row["factor_correlation"], 2),
            percent(row["overlap"], 0),
            percent(row["opposite"], 0),
        ]
        for name, row in crowding.iterrows()
    ]
    columns = [
        ("Style", ""),
        ("Exposure", "Standard deviations times net assets."),
        (
            "Relative",
            "Exposure per gross over that of a simple book of ranks of the style: 1 is as much style as that.",
        ),
        ("Correlation", "Forecast, with that simple book, specific risk included."),
        ("With the factor", "Forecast correlation with the factor's own return."),
        ("Same side", "Overlap of weights with the simple book, of unit gross each, where both are on one side."),
        ("Other side", "The same where they are on opposite sides."),
    ]
    return _sheet(columns, rows, empty="The model has no styles.")


def measure_sheet(rows: Sequence[tuple[str, str, str]], empty: str = "Not known.") -> Sheet:
    """Return (measure, value, meaning) as a table."""
    columns = [("Measure", ""), ("Value", ""), ("Meaning", "")]
    return _sheet(columns, [list(row) for row in rows], empty=empty, words=(0, 2))


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
        ("Definition", ""),
    ]  # fmt: skip
    return _sheet(columns, rows, empty="No scenario.", words=(0, 3, 5))


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
    return _sheet(columns, rows, empty=f"Nothing was replayed. {note}", words=(0, 1, 7), note=note if rows else "")


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
    return _sheet(columns, rows, empty="No regime.")


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
        rows.append([*cells, METHOD_MEANINGS[method]])
    note = "Fractions of net assets. \N{PLUS-MINUS SIGN}: standard error of the sample or the draws, in per cent of net assets."
    return _sheet(columns, rows, empty="Not known.", words=(0, len(columns) - 1), note=note if rows else "")


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
            percent(row["realised_volatility"], 2),
            percent(row["forecast_volatility"], 2),
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
        (
            "Bias",
            "Standard deviation of returns over their forecast volatility: 1 is right; above 1 risk was understated.",
        ),
        ("Band, 95 %", "Where right forecasts lie; widened for the fat tails of the returns."),
        ("Standard error", "Newey-West."),
        ("Periods", ""),
        ("Realised", "Root mean square of returns, per year."),
        ("Forecast", "Root mean square of forecasts, per year."),
        ("Rolling |B - 1|", "Mean over rolling years of the distance of the bias from 1."),
        ("Best possible", "What right forecasts of normal returns have on average."),
    ]
    return _sheet(columns, rows, empty="Not known.", words=(0, 1))


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
        ("Realised / risk model", "Standard deviation of returns over the forecasts made for them."),
        ("Calibrated", "Root mean square."),
        ("Realised / calibrated", ""),
    ]
    return _sheet(columns, rows, empty="Not known.")


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
    return _sheet(columns, rows, empty="Not known.")


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
    return _sheet(
        columns,
        rows,
        empty="Not known.",
        words=(0, 5),
        note="Marked: p below 0.01, or not in the green zone." if rows else "",
    )


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
            percent(row["realised"], 1),
            percent(row["forecast"], 1),
            str(row["definition"]),
        ]
        for name, row in summary.iterrows()
    ]
    columns = [
        ("Portfolios", ""),
        ("Books", ""),
        ("Periods", "From one decision to the next, or weeks."),
        ("Bias", "Mean over books; 1 is right, above 1 risk was understated."),
        ("Standard error", "Newey-West, of the mean."),
        ("Band of one, 95 %", "Where a right forecast's lies; widened for fat tails."),
        ("Inside", "Share of the books."),
        ("Realised", "Root mean square, per year."),
        ("Forecast", "Root mean square, per year."),
        ("What they are", ""),
    ]
    return _sheet(columns, rows, empty="Not known.", words=(0, 9))


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
    return _sheet(columns, rows, empty="Nothing to attribute.")


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
    return _sheet(columns, rows, empty="Nothing to attribute.")


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
    return _sheet(columns, rows, empty="Nothing to attribute.")


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
    return _sheet(columns, rows, empty="No factor.")


def _known(row: pd.Series, column: str, decimals: int) -> str:
    value: Any = row.get(column)
    return number(float(value), decimals) if value is not None and pd.notna(value) else ""


COUNTS = {
    "assets": "in the regression",
    "missing": "members without a usable return that day",
    "factors": "in the regression",
    "filled": "style values that were not known, taken as 0, the market average",
    "clipped": "style values cut at the winsor limit",
    "pooled": "labels without a factor of their own",
    "unclassified": "assets whose pool was too thin to be a factor",
    "absent": "styles and signals that were no factor",
    "winsorised": "returns cut in the regression, and only there",
    "bounded": "assets beyond Huber's bound",
    "iterations": "of the robust regression",
    "unconverged": "robust regressions that did not converge",
    "rank_deficient": "regressions that could not tell all factors apart",
    "floored": "returns of -100 % or less that a rule raised",
    "stale": "returns of a stale price, taken as not known",
    "suspected_splits": "returns that look like a split that was not adjusted, taken as not known",
}


def count_sheet(counts: pd.DataFrame) -> Sheet:
    """Return what rules did to the data behind the model."""
    rows: list[Row] = [
        [
            str(name).replace("_", " "),
            *(integer(row[column]) for column in ("last", "recent", "history")),
            COUNTS.get(str(name), ""),
        ]
        for name, row in counts.iterrows()
    ]
    columns = [("Rule", ""), ("Day", ""), ("Last 63", "Sum."), ("History", "Sum."), ("Meaning", "")]
    return _sheet(columns, rows, empty="Nothing was done.", words=(0, 4))


def rule_sheet(rules: pd.DataFrame) -> Sheet:
    """Return what was filled, pooled, blended, floored or scaled in the model of the day."""
    rows: list[Row] = []
    for name, row in rules.iterrows():
        names = list(row["names"])
        listed = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
        value = number(row["value"], 0 if float(row["value"]).is_integer() else 2)
        rows.append([str(name).capitalize(), value, ": ".join(text for text in (str(row["meaning"]), listed) if text)])
    columns = [("Rule", ""), ("Value", ""), ("Meaning", "")]
    return _sheet(columns, rows, empty="Nothing was done.", words=(0, 2))
