"""How the numbers of a risk report look: each in the unit of its measure or limit."""

from __future__ import annotations

import math
from collections.abc import Mapping

from backtest.risk_record import Measure, Quantity
from reports.cells import UNKNOWN, integer, money, number, percent

__all__ = ["absences", "bound_text", "level_text", "measure_text", "p_text", "unit_text"]

TITLES = {
    "market": "Data set of the run",
    "sources": "Where risk comes from",
    "scenarios": "What if",
    "tails": "Value at risk",
    "replays": "Replays of the past",
    "forecast": "Record of the forecast",
    "model": "The risk model at the date",
    "studies": "Study portfolios",
    "attribution": "Attribution of performance",
}
UNITS = {
    Quantity.SHARE: "percent of NAV",
    Quantity.PER_YEAR: "percent of NAV per year",
    Quantity.MULTIPLE: "times NAV",
    Quantity.MONEY: "currency of the data set",
}
"""Of what is shown in another unit than it is computed in, or has no better name."""


def unit_text(unit: Quantity) -> str:
    """Return the unit that a measure is shown in."""
    return UNITS.get(unit, unit.value)


def absences(missing: Mapping[str, str]) -> list[tuple[str, str]]:
    """Return the parts that are not there with why they are not, each reason said once.

    Examples
    --------
    >>> absences({"model": "No data.", "tails.historical": "No data.", "studies": "Too short."})
    [('The risk model at the date; Value at risk, historical', 'No data.'), ('Study portfolios', 'Too short.')]
    """
    parts: dict[str, list[str]] = {}
    for name, reason in missing.items():
        parts.setdefault(reason, []).append(_title(name))
    return [("; ".join(titles), reason) for reason, titles in parts.items()]


def _title(name: str) -> str:
    part, _, detail = name.partition(".")
    title = TITLES.get(part, part)
    return f"{title}, {detail.replace('_', ' ')}" if detail else title


def _text(value: float, unit: Quantity, currency: str = "") -> str:
    if unit in (Quantity.SHARE, Quantity.PER_YEAR):
        return percent(value, 2)
    if unit is Quantity.MULTIPLE:
        text = number(value, 2)
        return text if text == UNKNOWN else f"{text}\N{MULTIPLICATION SIGN}"
    if unit is Quantity.MONEY:
        return money(value, currency)
    if unit is Quantity.COUNT:
        return integer(value)
    if unit is Quantity.DAYS:
        return "never" if value == math.inf else number(value, 2)
    return number(value, 3 if unit is Quantity.BETA else 2)


def measure_text(measure: Measure, currency: str = "") -> str:
    """Return the value of a measure in its unit."""
    return _text(measure.value, measure.unit, currency)


def bound_text(measure: Measure) -> str:
    """Return what a measure is held against; empty where that is nothing."""
    if not measure.bound:
        return ""
    low, high = measure.lower, measure.upper
    if math.isfinite(low) and math.isfinite(high):
        if low == -high:
            edge = _text(high, measure.unit)
            sign = "\N{PLUS-MINUS SIGN}" if high else ""
            return f"{measure.bound} {sign}{edge}"
        return f"{measure.bound} {_text(low, measure.unit)} to {_text(high, measure.unit)}"
    if math.isfinite(high):
        return f"{measure.bound} at most {_text(high, measure.unit)}"
    return f"{measure.bound} at least {_text(low, measure.unit)}" if math.isfinite(low) else ""


def level_text(family: str, value: float, *, exact: bool = False) -> str:
    """Return the level of a limit, or its bound, in the unit of its family; `exact` where rounding would leave nothing of it."""
    if family in ("position", "net", "country", "sector", "volatility"):
        return percent(value, 4 if exact and abs(value) < 5e-5 else 2)
    if family == "liquidity":
        return _text(value, Quantity.DAYS)
    return number(value, 2 if family == "gross" else 3)


def p_text(value: float) -> str:
    """Return a p-value: those under a thousandth as such.

    Examples
    --------
    >>> p_text(0.0004), p_text(0.25)
    ('< 0.001', '0.250')
    """
    if value is None or not math.isfinite(value):
        return UNKNOWN
    return "< 0.001" if value < 0.001 else number(value, 3)
