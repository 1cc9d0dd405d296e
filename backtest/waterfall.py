"""From gross to net: what the market gave, and what trading, financing and fees took, in parts that add up over time.

Each day's lines, as fractions of net assets at its start, sum to the day's net return:

    net return = price + dividend + delisting + fx - trading cost - financing - management fee - incentive fee

Returns compound and lines add, so over more days the lines are linked (`backtest.linking`): every line of a day is scaled by that
day's coefficient, and the parts of a period sum to its compounded net return without residual. Linked with the net return,
the subtotal before fees is not the compounded return before fees: it is what of the net return was left before fees were taken.

Per year, with n sessions, N in a year, R the compounded net return and R_a = (1 + R)^(N/n) - 1, a part C becomes C R_a / R
(C N/n where R is 0), so that the parts sum to the geometric annual return.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from backtest.lines import COST_LINES as COST
from backtest.lines import FINANCING_LINES as FINANCING
from backtest.lines import GROSS_LINES as GROSS
from backtest.linking import Period, link
from risk import DataError

__all__ = ["COST", "FEES", "FINANCING", "FLOWS", "GROSS", "daily_parts", "waterfall"]

FEES = ("management_fee", "incentive_fee")
FLOWS = ("subscription", "redemption")
TOTALS = {
    "gross_return": GROSS,
    "cost": COST,
    "financing": FINANCING,
    "return_before_fees": (*GROSS, *COST, *FINANCING),
    "fees": FEES,
    "net_return": (*GROSS, *COST, *FINANCING, *FEES),
}
COARSE = ("gross_return", "cost", "financing")
IDENTITY, CENT = 1e-9, 0.005


def daily_parts(nav: pd.DataFrame, lines: pd.DataFrame | None = None) -> pd.DataFrame:
    """Return each day's parts of the net return, signed, as fractions of net assets at the start of the day.

    Parameters
    ----------
    nav : DataFrame by date
        As `Run.nav`.
    lines : DataFrame, optional
        As the table ``lines`` of a run: ``date, line, amount``, signed changes of net assets in money. Without it gross return, trading
        cost and financing are one part each.

    Returns
    -------
    DataFrame by date
        A column for each line of `GROSS`, `COST`, `FINANCING` and `FEES` (without `lines`: ``gross_return, cost, financing`` and the
        fees); rows sum to ``net_return``. Fees are those of the first series of units, as in ``nav``; flows are no return.

    Raises
    ------
    DataError
        If a line is unknown, dates differ, or the lines do not meet the account: by half a cent in money, by 1e-9 in returns.
    """
    fees = -nav[list(FEES)]
    if lines is None:
        parts = pd.concat([nav[["gross_return"]], -nav[["cost", "financing"]], fees], axis=1)
    else:
        parts = pd.concat([_fractions(nav, lines), fees], axis=1)
    _meets(parts.sum(axis=1), nav["net_return"], "net_return")
    return parts


def _fractions(nav: pd.DataFrame, lines: pd.DataFrame) -> pd.DataFrame:
    """Return the lines before fees over net assets at the start of each day."""
    known = [*GROSS, *COST, *FINANCING, *FEES, *FLOWS]
    unknown = sorted(set(lines["line"]) - set(known))
    if unknown:
        raise DataError(
            f"`lines` has the line(s) {', '.join(unknown)}; known are {', '.join(known)}. Name it one of them."
        )
    money = lines.pivot_table(index="date", columns="line", values="amount", aggfunc="sum").reindex(columns=known)
    if not set(money.index) <= set(nav.index):
        extra = min(set(money.index) - set(nav.index))
        raise DataError(f"`lines` has {extra:%Y-%m-%d}, which `nav` has not; take both from one run.")
    # A line that a day does not have is nothing on that day: the table lists what moved.
    money = money.reindex(nav.index).fillna(0.0)
    before = nav["nav"] - money.sum(axis=1)
    previous = nav["nav"].shift().fillna(before)
    gap = (before - previous).abs()
    wrong = ~(gap <= np.maximum(CENT, 1e-12 * previous.abs()))
    if wrong.any():
        day = wrong.index[int(wrong.to_numpy().argmax())]
        raise DataError(
            f"`lines` of {day:%Y-%m-%d} miss the change of net assets by {gap[day]:,.4f}. Give every line of the account."
        )
    parts = money[[*GROSS, *COST, *FINANCING]].div(before, axis=0)
    for total, sign in (("gross_return", 1.0), ("cost", -1.0), ("financing", -1.0)):
        _meets(parts[list(TOTALS[total])].sum(axis=1), sign * nav[total], total)
    return parts


def _meets(found: pd.Series, wanted: pd.Series, name: str) -> None:
    gap = (found - wanted).abs()
    wrong = ~(gap <= IDENTITY)
    if wrong.any():
        day = wrong.index[int(wrong.to_numpy().argmax())]
        raise DataError(f"the lines of {day:%Y-%m-%d} miss `{name}` by {gap[day]:.3g}; take both tables from one run.")


def waterfall(
    nav: pd.DataFrame,
    lines: pd.DataFrame | None = None,
    *,
    period: Period = "run",
    periods_per_year: int = 252,
) -> pd.DataFrame:
    """Return the steps from gross to net, with subtotals, over a run or each of its years or months.

    Parameters
    ----------
    nav, lines
        As for `daily_parts`.
    period : {"run", "year", "month"}
    periods_per_year : int
        Sessions in a year.

    Returns
    -------
    DataFrame
        One row per step and period: ``start`` (first session), ``step`` (a line, or a subtotal: ``gross_return, cost, financing,
        return_before_fees, fees, net_return``), ``subtotal`` (bool), ``contribution`` (to the period's compounded net return, decimal),
        ``per_year`` (to the geometric annual net return). Charges are negative. Rows that are no subtotal sum to ``net_return``.

    Raises
    ------
    DataError
        As `daily_parts` and `backtest.linking.link`.

    References
    ----------
    Carino (1999), Combining Attribution Effects Over Time.

    Examples
    --------
    >>> days = pd.date_range("2024-01-01", periods=2, name="date")
    >>> nav = pd.DataFrame({"nav": [101.0, 102.0], "gross_return": [0.02, 0.02], "cost": [0.005, 0.0], "financing": 0.0,
    ...     "management_fee": [0.005, 0.0], "incentive_fee": 0.0, "net_return": [0.01, 0.02]}, index=days)
    >>> table = waterfall(nav).set_index("step")["contribution"]
    >>> table.round(6).to_dict()["net_return"], round(float(table["gross_return"] + table["cost"] + table["fees"]), 6)
    (0.0302, 0.0302)
    """
    parts = daily_parts(nav, lines)
    linked = link(parts, nav["net_return"], period).drop(columns="return")
    dates = pd.DatetimeIndex(nav.index)
    sessions = np.diff([*dates.get_indexer(linked.index), len(dates)])
    rows = []
    for (start, values), count in zip(linked.iterrows(), sessions, strict=True):
        years = float(count) / periods_per_year
        total = float(values.sum())
        scale = 1 / years if total == 0 else np.expm1(np.log1p(total) / years) / total
        for step, subtotal, columns in _steps(tuple(parts.columns)):
            value = float(values[columns].sum())
            row = {"start": start, "step": step, "subtotal": subtotal}
            rows.append(row | {"contribution": value, "per_year": value * scale})
    return pd.DataFrame(rows)


def _steps(columns: tuple[str, ...]) -> list[tuple[str, bool, list[str]]]:
    """Return (step, whether it is a subtotal, its columns) in the order of the waterfall."""
    fine = "price" in columns
    result: list[tuple[str, bool, list[str]]] = []
    for group in COARSE:
        if fine:
            result += [(line, False, [line]) for line in TOTALS[group]]
        result.append((group, fine, list(TOTALS[group]) if fine else [group]))
    before = [column for column in columns if column not in FEES]
    result.append(("return_before_fees", True, before))
    result += [(line, False, [line]) for line in FEES]
    return [*result, ("fees", True, list(FEES)), ("net_return", True, list(columns))]
