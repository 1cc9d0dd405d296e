"""Numbers of a risk report with their definitions, and the report as JSON holds it: null where a number is not known."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from enum import StrEnum
from typing import Any

import numpy as np
import pandas as pd

__all__ = ["Measure", "Quantity", "in_words", "plain"]


class Quantity(StrEnum):
    """Unit of a measure; numbers are decimals, never percent."""

    SHARE = "fraction of NAV"
    PER_YEAR = "fraction of NAV per year"
    MULTIPLE = "times NAV"
    MONEY = "currency of the data set"
    RATIO = "ratio"
    BETA = "beta"
    DAYS = "trading days"
    COUNT = "count"


def in_words(value: float, unit: Quantity) -> str:
    """Return a number with its unit, for a sentence.

    Examples
    --------
    >>> in_words(0.05, Quantity.SHARE), in_words(0.005, Quantity.PER_YEAR), in_words(0.3, Quantity.MULTIPLE)
    ('5.00 % of NAV', '0.50 % of NAV per year', '0.30 times NAV')
    >>> in_words(0.05, Quantity.BETA)
    '0.050'
    """
    if unit in (Quantity.SHARE, Quantity.PER_YEAR):
        return f"{100 * value:.2f} % of NAV{' per year' * (unit is Quantity.PER_YEAR)}"
    if unit is Quantity.MULTIPLE:
        return f"{value:.2f} times NAV"
    if unit is Quantity.DAYS:
        return f"{value:.2f} trading days"
    return f"{value:.3f}" if unit is Quantity.BETA else f"{value:.2f}"


@dataclass(frozen=True)
class Measure:
    """One number of the headline with all that a reader needs to judge it.

    Attributes
    ----------
    name, label : str
        Key for machines, and what a reader sees.
    value : float
        Decimal; NaN where not known.
    unit : Quantity
    definition : str
    lower, upper : float
        Limit or band that it is held against; NaN: none.
    bound : str
        What that is: ``limit``, ``band``; empty where there is none.
    note : str
        Dates, counts, or why the value is not known.
    alert : bool
        Whether it lies outside.
    """

    name: str
    label: str
    value: float
    unit: Quantity
    definition: str
    lower: float = math.nan
    upper: float = math.nan
    bound: str = ""
    note: str = ""
    alert: bool = False


def plain(value: Any) -> Any:
    """Return a value as JSON holds it: tables as lists of rows with their index, dates as 2024-01-31, NaN and infinity as null.

    Examples
    --------
    >>> plain({"a": float("nan"), "b": np.float64(1.5), "c": pd.Timestamp("2024-01-31")})
    {'a': None, 'b': 1.5, 'c': '2024-01-31'}
    """
    if isinstance(value, pd.DataFrame):
        return [{str(key): plain(item) for key, item in row.items()} for row in _rows(value)]
    if isinstance(value, pd.Series):
        return plain(value.to_frame(value.name or "value"))
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, np.ndarray | list | tuple):
        return [plain(item) for item in value]
    return _scalar(value)


def _rows(table: pd.DataFrame) -> list[dict[Any, Any]]:
    """Return rows as records; an index without a name is a count of rows and says nothing."""
    named = any(name is not None for name in table.index.names)
    frame = table.reset_index() if named else table
    return [dict(zip(frame.columns, row, strict=True)) for row in frame.itertuples(index=False, name=None)]


def _scalar(value: Any) -> Any:
    if value is None or value is pd.NaT:
        return None
    if isinstance(value, pd.Timestamp):
        return f"{value:%Y-%m-%d}"
    if isinstance(value, bool | np.bool_):
        return bool(value)
    if isinstance(value, int | np.integer):
        return int(value)
    if isinstance(value, float | np.floating):
        number = float(value)
        return number if math.isfinite(number) else None
    return str(value)
