"""Tables of a risk report, each column with its meaning: what the book holds, its limits, and where its risk comes from."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from backtest.monitoring import Monitoring
from reports.cells import Cell, Table, date, integer, number, percent
from reports.risk_cells import level_text

__all__ = [
    "Row",
    "Sheet",
    "asset_sheet",
    "breach_sheet",
    "crowding_sheet",
    "factor_sheet",
    "family_sheet",
    "group_sheet",
    "limit_sheet",
    "measure_sheet",
    "sheet",
]

Row = Sequence[Cell | str]


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


def sheet(
    columns: Sequence[tuple[str, str]], rows: Sequence[Row], *, empty: str, words: Sequence[int] = (0,), note: str = ""
) -> Sheet:
    """Return a table whose columns are pairs of label and meaning; columns `words` hold words, the others numbers."""
    table = Table.of([label for label, _ in columns], rows, empty=empty, words=words, note=note)
    return Sheet(table, tuple(meaning for _, meaning in columns))


def measure_sheet(rows: Sequence[tuple[str, str, str]], empty: str = "Not known.") -> Sheet:
    """Return (measure, value, meaning) as a table."""
    columns = [("Measure", ""), ("Value", ""), ("Meaning", "")]
    return sheet(columns, [list(row) for row in rows], empty=empty, words=(0, 2))


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
    return sheet(columns, rows, empty="No limit is monitored.", words=(0, 6, 7, 8, 9))


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
    return sheet(columns, rows, empty="No limit was ever breached.", words=(0, 1, 2, 6, 7), note=note)


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
    return sheet(columns, rows, empty="No factor.")


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
    return sheet(columns, rows, empty="No factor.")


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
    return sheet(columns, rows, empty="No group.")


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
    return sheet(columns, rows, empty="No position.", words=(0, 1, 2), note=note)


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
    return sheet(columns, rows, empty="The model has no styles.")
