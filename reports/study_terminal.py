"""A sweep in the terminal: runs side by side against the first, and the curve of what a product earns by its size."""

from __future__ import annotations

import math

import pandas as pd
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from backtest.capacity import CapacityCurve, SizeEstimate
from backtest.study import Study
from reports.cells import money, number, percent

__all__ = ["size_text", "study_lines"]

PARTS = ("", "_lower", "_upper")


def study_lines(study: Study, console: Console) -> None:
    """Print a study: its curve where sizes were varied, else its runs side by side."""
    if study.curve is None:
        _side_by_side(study.sweep.table, console)
    else:
        _curve(study.curve, console)
    _line(console, f"runs and tables: {study.sweep.folder}")


def _table(*titles: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column(titles[0], no_wrap=True)
    for title in titles[1:]:
        table.add_column(title, justify="right", no_wrap=True)
    return table


def _side_by_side(table: pd.DataFrame, console: Console) -> None:
    base = str(table.index[0])
    shown = _table("variant", "before fees", "net", f"less {base}", "from", "to", "net a year", "cost")
    for name, row in table.iterrows():
        ratios = [number(row["sharpe_before_fees"]), number(row["sharpe_net"])]
        less = [number(row[f"sharpe_net_{part}"]) for part in ("difference", "lower", "upper")]
        rest = (percent(row["annual_net"]), percent(row["cost"]))
        shown.add_row(escape(str(name)), *ratios, *([""] * 3 if name == base else less), *rest)
    console.print(shown, highlight=False)
    text = (
        "before fees, net: Sharpe ratios a year, risk-free rate 0; less: difference of the latter on the same days, with its 95 % interval "
        "(stationary bootstrap of pairs); cost: a year"
    )
    _line(console, text)
    for name, note in table["note"].items():
        if note:
            _line(console, f"{name}: {note}")


def _curve(curve: CapacityCurve, console: Console) -> None:
    shown = _table("size", "Sharpe", "net", "less", "from", "to", "profit", "from", "to", "cost")
    for size, row in curve.table.iterrows():
        less = [percent(row[f"alpha_net_difference{part}"]) for part in PARTS]
        profit = [_millions(row[f"profit{part}"]) for part in PARTS]
        cells = (number(row["sharpe_net"]), percent(row["alpha_net"]), *less, *profit, percent(row["cost"]))
        shown.add_row(_millions(float(str(size))), *cells)
    console.print(shown, highlight=False)
    for text, at in (("net profit is highest at", curve.peak), ("net alpha ends at", curve.zero)):
        _line(console, f"{text} {size_text(at.estimate, curve)} ({_interval(at, curve)})")
    text = (
        f"size at the start and profit in millions; Sharpe ratio and return net, the latter less that of the product's own size; all a year; intervals of {curve.level:.0%}, all sizes resampled by the same days "
        f"({curve.sessions} sessions, blocks of {curve.block_length:.0f} in the mean)"
    )
    _line(console, text)
    for left_out in curve.left_out:
        _line(console, f"left out: {left_out}")


def _millions(amount: float) -> str:
    return number(amount / 1e6)


def _interval(size: SizeEstimate, curve: CapacityCurve) -> str:
    return f"{size_text(size.lower, curve)} to {size_text(size.upper, curve)}"


def size_text(size: float, curve: CapacityCurve) -> str:
    """Return a size in money, or on which side of the sizes that were run it lies."""
    sizes = [float(each) for each in curve.table.index]
    if size == 0:
        return f"below {money(sizes[0])}"
    return f"above {money(sizes[-1])}" if math.isinf(size) else money(size)


def _line(console: Console, text: str) -> None:
    console.print(text, markup=False, highlight=False, soft_wrap=True)
