"""A risk report in the terminal: status, headline and the limits that need attention."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from backtest.risk_view import RiskView
from reports.cells import date
from reports.risk_cells import absences, bound_text, level_text, measure_text

__all__ = ["risk_lines"]

COLOURS = {"ok": "green", "drift": "yellow", "soft": "yellow", "hard": "bold red", "model": "cyan"}


def risk_lines(view: RiskView, console: Console) -> None:
    """Print the head of a risk report."""
    _line(console, f"{view.name}, close of {date(view.date)}")
    console.print(view.status.text, style=COLOURS[view.status.level], markup=False, highlight=False, soft_wrap=True)
    console.print()
    table = Table("measure", "value", "limit or band", "note", box=None, pad_edge=False, header_style="bold")
    for measure in view.headline:
        cells = (measure.label, measure_text(measure, view.currency), bound_text(measure), measure.note)
        table.add_row(*map(escape, cells), style="red" if measure.alert else None)
    console.print(table, highlight=False)
    if view.limits is not None and view.limits.table["breach"].any():
        _breaches(view, console)
    for titles, reason in absences(view.missing):
        _line(console, f"not available: {titles}. {reason}")
    for note in view.notes:
        _line(console, note)


def _breaches(view: RiskView, console: Console) -> None:
    assert view.limits is not None
    console.print()
    table = Table(
        "breached", "worst level", "beyond by", "severity", "since", "by", box=None, pad_edge=False, header_style="bold"
    )
    rows = view.limits.breaches
    for _, row in rows[rows["open"]].iterrows():
        name = str(row["limit"])
        family = name.partition(":")[0]
        cells = (
            f"{name} {row['asset']}".strip(),
            level_text(family, row["worst"]),
            level_text(family, row["excess"], exact=True),
        )
        severity = "hard" if row["hard"] else "soft"
        table.add_row(*map(escape, cells), severity, date(row["start"]), f"{row['kind']} ({row['cause']})")
    console.print(table, highlight=False)


def _line(console: Console, text: str) -> None:
    console.print(text, markup=False, highlight=False, soft_wrap=True)
