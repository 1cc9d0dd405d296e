"""What the market file may not hold: the rules that `Dataset.panel` enforces and `check` reports.

One list of rules serves both. The panel refuses at the first error; the check lists every finding.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import numpy as np

from backtest.dataset_settings import DatasetSettings
from backtest.market_rows import MarketRows
from risk import DataError
from risk.checks import BoolArray

__all__ = ["Finding", "Severity", "find_row_errors", "find_unknown_returns", "refuse"]

# Until a share is wrong by more than this it is rounding of the tolerance, not one row more.
_ROUNDING = 1e-12


class Severity(Enum):
    """What a finding means for a backtest."""

    ERROR = "error"  # it would refuse the data
    WARNING = "warning"  # a named rule handles it
    INFO = "info"


@dataclass(frozen=True)
class Finding:
    """One thing that was found in a data set.

    Attributes
    ----------
    severity : Severity
    rule : str
        Short name of the rule, such as ``duplicate_rows``.
    file : str
    count : int
        Rows, assets, dates or models concerned, as the message says.
    message : str
        One paragraph: file, field, value, and the remedy or what the rule does.
    """

    severity: Severity
    rule: str
    file: str
    count: int
    message: str


def refuse(findings: list[Finding]) -> None:
    """Raise the first error among the findings.

    Raises
    ------
    DataError
    """
    for finding in findings:
        if finding.severity is Severity.ERROR:
            raise DataError(finding.message)


def find_row_errors(rows: MarketRows, settings: DatasetSettings) -> list[Finding]:
    """Return every rule that the rows break, in the order in which a backtest would refuse them."""
    return [*_order(rows), *_duplicates(rows), *_returns(rows, settings), *_levels(rows), *_delistings(rows, settings)]


def find_unknown_returns(rows: MarketRows, settings: DatasetSettings) -> list[Finding]:
    """Return the rows whose return is missing after the asset's first row; `rows` must be the whole file.

    Up to `max_unknown_returns` of all rows the rule is that the value is unchanged (return 0); above it, an error.
    """
    unknown = rows.unknown_returns()
    share = float(unknown.mean())
    if not unknown.any():
        return []
    count, row = int(unknown.sum()), int(unknown.argmax())
    what = f"`{rows.file}`: `return` is NaN for {_name(rows, row)}, which is not the asset's first row ({_rows(count)})"
    if share > settings.max_unknown_returns + _ROUNDING:
        text = (
            f"{what}: {share:.2g} of the rows, where at most {settings.max_unknown_returns:g} is allowed. Fill in the "
            "return or leave the row out; if it cannot be known, raise `max_unknown_returns` in dataset.toml: it is then "
            "taken as 0."
        )
        return [Finding(Severity.ERROR, "unknown_return", rows.file, count, text)]
    return [
        Finding(
            Severity.WARNING,
            "unknown_return",
            rows.file,
            count,
            f"{what}. Rule: each is taken as 0, value unchanged (`max_unknown_returns` in dataset.toml).",
        )
    ]


def _order(rows: MarketRows) -> list[Finding]:
    back = np.flatnonzero(np.diff(rows.day) < 0)
    if not len(back):
        return []
    at = int(back[0]) + 1
    before, after = rows.dates[rows.day[at - 1]].date(), rows.dates[rows.day[at]].date()
    text = (
        f"`{rows.file}`: `date` must ascend; row {at} is {after} and comes after {before} ({_rows(len(back))}). "
        "Sort the file by date and asset and write it again."
    )
    return [Finding(Severity.ERROR, "unsorted_dates", rows.file, len(back), text)]


def _duplicates(rows: MarketRows) -> list[Finding]:
    cell = rows.cell
    times = np.bincount(cell)
    count = int((times[times > 1] - 1).sum())
    if not count:
        return []
    row = int((times[cell] > 1).argmax())
    text = (
        f"`{rows.file}`: `date` and `asset` must be distinct; {_name(rows, row)} appears {times[cell[row]]} times "
        f"({_rows(count)} too many). Keep one row per date and asset."
    )
    return [Finding(Severity.ERROR, "duplicate_rows", rows.file, count, text)]


def _returns(rows: MarketRows, settings: DatasetSettings) -> list[Finding]:
    value = rows.numbers["return"]
    infinite = np.isinf(value)
    absurd = (value > settings.max_return) & ~infinite
    lost = (value <= -1.0) & ~infinite
    at = np.flatnonzero(lost)
    last = rows.last_day()[rows.asset[at]] == rows.day[at]
    lost[at[last & (value[at] == -1.0)]] = False
    return [
        *_cells(rows, "infinite_return", "return", infinite, "finite", "Correct the row; NaN means not known."),
        *_cells(
            rows,
            "absurd_return",
            "return",
            absurd,
            f"at most {settings.max_return:g}",
            "Check the row for an unadjusted split; if it is real, raise `max_return` in dataset.toml.",
        ),
        *_cells(
            rows,
            "total_loss",
            "return",
            lost,
            "above -1, or -1 on the asset's last row",
            "Correct the row, or remove the asset's rows after it.",
        ),
    ]


def _levels(rows: MarketRows) -> list[Finding]:
    found: list[Finding] = []
    empty = "Correct the value, or leave it empty where it is not known."
    for name in ("close", "market_cap"):
        if name in rows.numbers:
            value = rows.numbers[name]
            found += _cells(rows, f"bad_{name}", name, (value <= 0) | np.isinf(value), "positive and finite", empty)
    if "dollar_volume" in rows.numbers:
        value = rows.numbers["dollar_volume"]
        wrong = (value < 0) | np.isinf(value)
        found += _cells(rows, "bad_dollar_volume", "dollar_volume", wrong, "not negative and finite", empty)
    return found


def _delistings(rows: MarketRows, settings: DatasetSettings) -> list[Finding]:
    if "delisting_return" not in rows.numbers:
        return []
    value = rows.numbers["delisting_return"]
    given = ~np.isnan(value)
    early = given & (rows.day < rows.last_day()[rows.asset])
    wrong = given & ((value < -1) | (value > settings.max_return))
    field = "delisting_return"
    return [
        *_cells(rows, "early_delisting", field, early, "empty but on the asset's last row", "Move it to the last row."),
        *_cells(
            rows, "bad_delisting", field, wrong, f"from -1 to {settings.max_return:g}", "Correct it or leave it empty."
        ),
    ]


def _cells(rows: MarketRows, rule: str, field: str, wrong: BoolArray, wanted: str, remedy: str) -> list[Finding]:
    count = int(wrong.sum())
    if not count:
        return []
    row = int(wrong.argmax())
    text = (
        f"`{rows.file}`: `{field}` must be {wanted}; got {rows.numbers[field][row]:.6g} for {_name(rows, row)} "
        f"({_rows(count)}). {remedy}"
    )
    return [Finding(Severity.ERROR, rule, rows.file, count, text)]


def _name(rows: MarketRows, row: int) -> str:
    return f"{rows.assets[rows.asset[row]]!r} on {rows.dates[rows.day[row]].date()}"


def _rows(count: int) -> str:
    return "1 such row" if count == 1 else f"{count} such rows"
