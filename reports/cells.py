"""How a number looks: percent, basis points, money and dates; and tables of such cells, ready for a page.

The only place where a decimal becomes percent or basis points. What is not known is shown as n/a.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from backtest.statistic import Band, Unit

__all__ = [
    "UNKNOWN",
    "Cell",
    "Column",
    "Table",
    "band_text",
    "basis_points",
    "date",
    "integer",
    "money",
    "number",
    "percent",
    "scientific",
    "with_unit",
]

UNKNOWN = "n/a"
MINUS = "\N{MINUS SIGN}"


def number(value: float | None, decimals: int = 2) -> str:
    """Return a number with a true minus sign and thousands separators.

    Examples
    --------
    >>> number(1234.567, 1), number(float("nan")), number(-0.001)
    ('1,234.6', 'n/a', '0.00')
    """
    if value is None or not math.isfinite(value):
        return UNKNOWN
    text = f"{value:,.{decimals}f}"
    if text.startswith("-"):
        return MINUS + text[1:] if any(digit in text for digit in "123456789") else text[1:]
    return text


def percent(value: float | None, decimals: int = 1) -> str:
    """Return a decimal as percent.

    Examples
    --------
    >>> percent(0.1234), percent(-0.00012, 2)
    ('12.3 %', '−0.01 %')
    """
    text = number(None if value is None else 100 * value, decimals)
    return text if text == UNKNOWN else f"{text} %"


def basis_points(value: float | None, decimals: int = 0) -> str:
    """Return a decimal as basis points.

    Examples
    --------
    >>> basis_points(0.0012)
    '12 bp'
    """
    text = number(None if value is None else 1e4 * value, decimals)
    return text if text == UNKNOWN else f"{text} bp"


def integer(value: float | None) -> str:
    """Return a count."""
    return number(value, 0)


def scientific(value: float | None) -> str:
    """Return a residual, with one decimal and its power of ten."""
    return UNKNOWN if value is None or not math.isfinite(value) else f"{value:.1e}".replace("-", MINUS)


def money(value: float | None, currency: str = "") -> str:
    """Return an amount in millions, or whole units where it is under one million.

    Examples
    --------
    >>> money(70e6, "USD"), money(1500.0)
    ('70.0 million USD', '1,500')
    """
    if value is None or not math.isfinite(value):
        return UNKNOWN
    text = f"{number(value / 1e6, 1)} million" if abs(value) >= 1e6 else number(value, 0)
    return f"{text} {currency}".strip()


def date(value: Any) -> str:
    """Return a date as 2024-01-31."""
    return UNKNOWN if value is None or pd.isna(value) else f"{pd.Timestamp(value):%Y-%m-%d}"


def with_unit(value: float, unit: Unit) -> str:
    """Return a statistic's value as its unit is read: fractions as percent, multiples with an x."""
    if unit in (Unit.COUNT, Unit.SESSIONS):
        return integer(value)
    if unit in (Unit.RATIO, Unit.SLOPE):
        return number(value, 2 if unit is Unit.RATIO else 3)
    if unit in (Unit.MULTIPLE, Unit.MULTIPLE_PER_YEAR):
        text = number(value, 2 if unit is Unit.MULTIPLE else 1)
        return text if text == UNKNOWN else f"{text}\N{MULTIPLICATION SIGN}"
    return percent(value, 2 if abs(value) < 0.1 else 1)


def band_text(band: Band | None, unit: Unit) -> str:
    """Return an interval in the unit of its statistic; empty where there is none.

    Examples
    --------
    >>> band_text(Band(-0.5, 1.25, "95 %"), Unit.RATIO)
    '−0.50 to 1.25'
    """
    return "" if band is None else f"{with_unit(band.lower, unit)} to {with_unit(band.upper, unit)}"


@dataclass(frozen=True)
class Cell:
    """One cell: its text, whether it calls for attention or is a total, and a background from -1 (loss) to 1 (gain)."""

    text: str
    alert: bool = False
    shade: float = 0.0
    strong: bool = False


@dataclass(frozen=True)
class Column:
    """One column: its heading, and whether it holds numbers (aligned right)."""

    label: str
    numeric: bool = True


@dataclass(frozen=True)
class Table:
    """A table ready for a page.

    Attributes
    ----------
    columns : tuple of Column
    rows : tuple of tuple of Cell
    empty : str
        What is said in place of a table without rows.
    note : str
        What was left out of it, or how to read it.
    """

    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    empty: str
    note: str = ""

    @classmethod
    def of(
        cls,
        columns: Sequence[str],
        rows: Sequence[Sequence[Cell | str]],
        *,
        empty: str,
        words: Sequence[int] = (0,),
        note: str = "",
    ) -> Table:
        """Return a table whose columns `words` hold words and whose others hold numbers."""
        heads = tuple(Column(label, numeric=j not in words) for j, label in enumerate(columns))
        cells = tuple(tuple(c if isinstance(c, Cell) else Cell(c) for c in row) for row in rows)
        return cls(heads, cells, empty, note)
