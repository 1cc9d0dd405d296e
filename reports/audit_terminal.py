"""An audit in the terminal: what was derived anew, what does not depend on the future, and which planted leaks were caught."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from backtest.audit import Audit
from backtest.audit_evidence import Check
from backtest.leak_trials import LeakTrial
from backtest.lookahead import Trial
from reports.cells import date, integer, scientific

__all__ = ["audit_lines"]

GOOD, BAD = "green", "bold red"


def audit_lines(found: Audit, console: Console) -> None:
    """Print an audit."""
    _line(console, "derived anew from the run folder and the data set")
    _checks(found.checks, console)
    if found.trials:
        _line(
            console,
            "\nreplaced after a date, and run again: is all that was written up to the date the same, to the bit?",
        )
        _trials(found.trials, console)
    if found.leaks:
        _line(console, "\nself-test: leaks planted one by one in the pipeline, on a small synthetic market")
        _leaks(found.leaks, console)
    console.print()
    for note in found.notes:
        _line(console, note)
    if found.passed:
        _line(console, _conclusion(found), GOOD)


def _conclusion(found: Audit) -> str:
    derived = sum(check.compared for check in found.checks)
    text = f"proven: {integer(derived)} numbers of {len(found.checks)} kinds derived anew"
    if found.trials:
        compared = sum(trial.compared for trial in found.trials)
        dates = len({trial.date for trial in found.trials})
        text += f"; {integer(compared)} rows the same with {len(found.trials)} replacements after {dates} dates"
    if found.leaks:
        text += f"; {sum(bool(leak.field) for leak in found.leaks)} planted leaks caught, none seen in clean code"
    return text + "."


def _checks(checks: Sequence[Check], console: Console) -> None:
    table = Table("check", "what must hold", box=None, pad_edge=False, header_style="bold")
    for name in ("worst", "allowed", "compared", "left out"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    for check in checks:
        what = check.statement + (f" ({check.not_covered})" if check.not_covered else "")
        sizes = scientific(check.worst), scientific(check.tolerance)
        counts = integer(check.compared), integer(check.left_out) if check.left_out else ""
        table.add_row(
            escape(check.name), escape(what), *sizes, *counts, check.state, style=None if check.passed else BAD
        )
    console.print(table, highlight=False)


def _trials(trials: Sequence[Trial], console: Console) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("after", "replaced"):
        table.add_column(name, no_wrap=True)
    for name in ("rows replaced", "rows compared"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("first difference")
    table.add_column("later rows", no_wrap=True)
    for trial in trials:
        told = trial.refused or ("none" if trial.difference is None else str(trial.difference))
        numbers = integer(trial.replaced), integer(trial.compared)
        later = "differ" if trial.moved else "the same"
        style = None if trial.proven else BAD
        table.add_row(date(trial.date), escape(trial.field), *numbers, escape(told), later, style=style)
    console.print(table, highlight=False)


def _leaks(leaks: Sequence[LeakTrial], console: Console) -> None:
    table = Table(
        "planted", "what it does", "caught by", "first difference", box=None, pad_edge=False, header_style="bold"
    )
    for leak in leaks:
        shown = [trial for trial in leak.trials if trial.difference is not None and trial.field in (leak.field, "")]
        told = str(shown[0].difference) if shown else "none"
        by = leak.field if leak.right else "NOT CAUGHT"
        if not leak.field:
            by = "nothing, as it must" if leak.right else "FALSELY CAUGHT"
        table.add_row(escape(leak.name), escape(leak.what), by, escape(told), style=None if leak.right else BAD)
    console.print(table, highlight=False)


def _line(console: Console, text: str, style: str | None = None) -> None:
    console.print(text, style=style, markup=False, highlight=False, soft_wrap=True)
