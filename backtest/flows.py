"""Money that investors bring and take: requests by name and date, or the net assets that the fund is to have."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from backtest.tables import Kind, Table, open_file
from risk import DataError

__all__ = ["Flow", "Flows", "aum_path", "read_flows"]


@dataclass(frozen=True)
class Flow:
    """A request to subscribe or redeem.

    Attributes
    ----------
    date : Timestamp
        Day of the request; it is dealt on the first dealing day that the fund's terms allow.
    investor : str
    amount : float
        Money. Positive: to subscribe. Negative: to be paid out after fees; ``-inf`` is all that the investor holds.
    """

    date: pd.Timestamp
    investor: str
    amount: float


@dataclass(frozen=True)
class Flows:
    """Requests in the order of their dates, or a path of net assets; at most one of the two.

    Attributes
    ----------
    requests : tuple of Flow
    path : tuple of (Timestamp, float)
        Net assets are brought to this amount of money on the first dealing day that is not before the date, and move with
        performance from there; where several dates fall before one dealing day the last one counts. Lockup and notice do not apply: the path says what happened, not who asked.
    """

    requests: tuple[Flow, ...] = ()
    path: tuple[tuple[pd.Timestamp, float], ...] = ()

    def __post_init__(self) -> None:
        if self.requests and self.path:
            raise DataError("flows hold both requests and a path of net assets; give one of the two.")

    def to_record(self) -> dict[str, Any]:
        """Return them for JSON, which knows no infinity: an amount of everything is the text ``-inf``."""
        record = asdict(self)
        for row in record["requests"]:
            row["amount"] = row["amount"] if math.isfinite(row["amount"]) else str(row["amount"])
        return record


def aum_path(path: Sequence[tuple[pd.Timestamp, float]], *, source: str = "aum path") -> Flows:
    """Return a path of net assets as flows.

    Raises
    ------
    DataError
        If it is empty, its dates do not strictly ascend or an amount is no positive money.

    Examples
    --------
    >>> aum_path([(pd.Timestamp("2024-01-31"), 70e6), (pd.Timestamp("2024-06-30"), 100e6)]).path[1][1]
    100000000.0
    """
    if not path:
        raise DataError(f"{source}: holds no row; give at least one date with its net assets, or leave it out.")
    for date, aum in path:
        if not (math.isfinite(aum) and aum > 0):
            raise DataError(
                f"{source}: `aum` on {date:%Y-%m-%d} must be a positive amount of money; got {aum}. "
                "A fund without capital has no return: end the run before."
            )
    for (before, _), (after, _) in itertools.pairwise(path):
        if after <= before:
            raise DataError(f"{source}: {after:%Y-%m-%d} comes after {before:%Y-%m-%d}; sort by date, one row each.")
    return Flows(path=tuple((date, float(aum)) for date, aum in path))


def read_flows(path: str | Path) -> Flows:
    """Return the flows of a CSV or Parquet file.

    Parameters
    ----------
    path : path-like
        Columns ``date, investor, amount`` (requests; see `Flow`), or ``date, aum`` (a path of net assets; see `Flows`).

    Raises
    ------
    DataError
        If the file cannot be read, a column is missing or of the wrong kind, dates do not ascend, an investor has no
        name, or an amount is 0, no number, or infinite on the side of subscriptions.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"{path}: is not there. Give a CSV or Parquet file with date, investor, amount (or date, aum).")
    table = open_file(path, str(path))
    amounts = "aum" if "aum" in table.columns else "amount"
    table.check_column("date", Kind.DATE)
    table.check_column(amounts, Kind.NUMBER)
    if amounts == "amount":
        table.check_column("investor", Kind.TEXT)
    elif "amount" in table.columns:
        raise DataError(f"`{path}` has both `aum` and `amount`; keep the column that is meant.")
    rows = table.read(["date", amounts] if amounts == "aum" else ["date", "investor", amounts])
    dates = pd.DatetimeIndex(table.days(rows))
    money = table.numbers(rows, amounts).tolist()
    if amounts == "aum":
        return aum_path(list(zip(dates, money, strict=True)), source=str(path))
    return _requests(table, dates, _names(table, rows), money)


def _names(table: Table, rows: object) -> list[str]:
    codes, names = table.texts(rows, "investor")
    return [str(names[code]) for code in codes]


def _requests(table: Table, dates: pd.DatetimeIndex, investors: list[str], money: list[float]) -> Flows:
    if not len(dates):
        raise DataError(f"`{table.file}`: holds no row; give at least one request, or leave the file out.")
    if not dates.is_monotonic_increasing:
        raise DataError(f"`{table.file}`: `date` must ascend; sort the file by date.")
    for row, (date, investor, amount) in enumerate(zip(dates, investors, money, strict=True), 1):
        if math.isnan(amount) or amount == 0 or amount == math.inf:
            raise DataError(
                f"`{table.file}`: `amount` of row {row} ({investor}, {date:%Y-%m-%d}) must be money, above 0 to subscribe and "
                f"below 0 to redeem (-inf: everything); got {amount}."
            )
    return Flows(requests=tuple(map(Flow, dates, investors, money)))
