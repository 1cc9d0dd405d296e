"""Where a book's return came from: factors, specific return, costs, financing and fees, exactly, every day.

A position held at the close of t - 1 earns its return of t; fills are made at closes and earn nothing on their day. With w the
weights at the close of t - 1, X their exposures, f the factor returns of t and r the positions' returns,

    gross_return(t) = w'r = sum_k x_k f_k + delisting + trading + specific        x = X'w
    net_return(t)   = gross_return - cost - financing - management_fee - incentive_fee

``delisting`` is what positions lost or gained when they were booked out as gone, ``trading`` what the account earned on anything
not held at the close before, and ``specific`` what positions earned beside their factors: each line is summed by itself, and they meet the
account to rounding. With the exposures of the day's own regression ``specific`` is w'e, e the specific returns of the risk model's history.
Linking and standard errors: `backtest.linking`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from backtest.daily_book import DailyBook, asset_contributions, read_book
from backtest.linking import Period, link, mean_errors
from backtest.rulings import rulings
from backtest.statistics import trading_year
from backtest.store import Run
from risk import DataError
from risk.checks import BoolArray

__all__ = ["Basis", "Performance", "charge_lines", "performance"]

Basis = Literal["net", "before_fees", "gross"]
CHARGES = {
    "net": ("cost", "financing", "management_fee", "incentive_fee"),
    "before_fees": ("cost", "financing"),
    "gross": (),
}
RETURNS = {"net": "net_return", "before_fees": "return_before_fees", "gross": "gross_return"}


@dataclass(frozen=True, eq=False)
class Performance:
    """Attribution of a run's return.

    Attributes
    ----------
    basis : {"net", "before_fees", "gross"}
        Which return the lines sum to.
    lines : DataFrame by date
        Contributions per day: every factor, ``specific``, ``delisting``, ``trading``, then the charges as negative numbers. Rows
        sum to `returns`.
    returns : Series by date
    exposures : DataFrame by date
        Of the book at the close before, by factor; 0 where the day had no such factor.
    factor_returns : DataFrame by date
        Per day, by factor; 0 where the day had no such factor.
    exposure_source : {"regression", "model"}
        Exposures of the day's own regression, or those of the model in force, up to a decision old.
    without_factors : int
        Days whose factor returns are not known: all of their return is specific.
    unpriced : dict of str to int
        Factors of the model in force that had no return on a day when the book had exposure to them, and on how many days; that
        exposure's return is in ``specific``.
    periods_per_year : int
    """

    basis: Basis
    lines: pd.DataFrame
    returns: pd.Series
    exposures: pd.DataFrame
    factor_returns: pd.DataFrame
    exposure_source: Literal["regression", "model"]
    without_factors: int
    unpriced: dict[str, int]
    periods_per_year: int

    @property
    def families(self) -> pd.DataFrame:
        """Lines with factors summed by family (``country:DE`` in ``country``)."""
        family = [str(name).partition(":")[0] for name in self.lines.columns]
        return self.lines.T.groupby(family, sort=False).sum().T

    def linked(self, period: Period = "run", *, by_family: bool = False) -> pd.DataFrame:
        """Return contributions linked over each period; rows sum to ``return``. See `backtest.linking.link`."""
        return link(self.families if by_family else self.lines, self.returns, period)

    def summary(self, *, by_family: bool = False) -> pd.DataFrame:
        """Return each line over the whole run.

        Returns
        -------
        DataFrame by line
            ``contribution`` (linked: they sum to the run's return), ``mean_exposure`` and ``mean_absolute_exposure`` (factors only), then
            the columns of `backtest.linking.mean_errors`.
        """
        lines = self.families if by_family else self.lines
        whole = link(lines, self.returns).iloc[0].drop("return")
        table = pd.DataFrame({"contribution": whole})
        if not by_family:
            table["mean_exposure"] = self.exposures.mean()
            table["mean_absolute_exposure"] = self.exposures.abs().mean()
        return table.join(mean_errors(lines, periods_per_year=self.periods_per_year)).rename_axis("line")


def performance(run: Run, factor_returns: pd.DataFrame | None = None, *, basis: Basis = "net") -> Performance:
    """Return a run's return by factor, specific return and charges, every day.

    Parameters
    ----------
    run : Run
    factor_returns : DataFrame with columns date, factor, factor_return, [exposure], optional
        Each day's factor returns and, where given, the book's exposure at the close before in that day's regression; without
        ``exposure`` that of the model in force is taken. Default: the run's table ``factor_returns``.
    basis : {"net", "before_fees", "gross"}

    Raises
    ------
    DataError
        If a column is missing, a date and factor appears twice, a number is not finite, or no date is one of the run's.
    """
    if basis not in RETURNS:
        raise DataError(f"`basis` must be net, before_fees or gross; got {basis!r}.")
    table = _check(_stored(run) if factor_returns is None else factor_returns)
    book = read_book(run)
    returns = _wide(table, "factor_return", book)
    known = returns.notna().to_numpy()
    stored = "exposure" in table
    if stored:
        exposures = _wide(table, "exposure", book).fillna(0.0)
        unpriced: dict[str, int] = {}
    else:
        exposures, unpriced = _model_exposures(run, book, returns)
    returns = returns.fillna(0.0)
    factors = exposures * returns
    lines = pd.concat([factors, _own_lines(run, book, factors), charge_lines(book.account, basis)], axis=1)
    return Performance(
        basis=basis,
        lines=lines,
        returns=book.account[RETURNS[basis]],
        exposures=exposures,
        factor_returns=returns,
        exposure_source="regression" if stored else "model",
        without_factors=int((~known.any(axis=1)).sum()),
        unpriced=unpriced,
        periods_per_year=trading_year(run),
    )


def charge_lines(account: pd.DataFrame, basis: Basis) -> pd.DataFrame:
    """Return the account's charges of a basis as contributions: negative numbers."""
    return -account[list(CHARGES[basis])]


def _stored(run: Run) -> pd.DataFrame:
    table = run.table("factor_returns") if run.has("factor_returns") else pd.DataFrame()
    if table.empty:
        raise DataError(
            f"{run.folder}: has no `factor_returns` table (date, factor, factor_return, exposure). Run the backtest again."
        )
    return table


def _check(table: pd.DataFrame) -> pd.DataFrame:
    missing = [name for name in ("date", "factor", "factor_return") if name not in table]
    if missing:
        raise DataError(
            f"`factor_returns` lacks the column(s) {', '.join(missing)}; it needs date, factor, factor_return."
        )
    twice = table.duplicated(["date", "factor"])
    if twice.any():
        row = table[twice].iloc[0]
        raise DataError(
            f"`factor_returns` has {row['factor']!r} twice on {row['date']:%Y-%m-%d}; give each day's return once."
        )
    for name in ("factor_return", "exposure"):
        if name in table and not np.isfinite(table[name].to_numpy(dtype=np.float64)).all():
            row = table[~np.isfinite(table[name].to_numpy(dtype=np.float64))].iloc[0]
            raise DataError(
                f"`factor_returns`: `{name}` of {row['factor']!r} on {row['date']:%Y-%m-%d} is {row[name]}. Leave out the row of a "
                "factor that a day does not have."
            )
    return table


def _wide(table: pd.DataFrame, column: str, book: DailyBook) -> pd.DataFrame:
    """Return a column by date and factor over the book's days, factors in order of appearance; NaN where there is no row."""
    order = list(dict.fromkeys(table["factor"]))
    wide = table.assign(date=pd.DatetimeIndex(table["date"]).as_unit("ns")).pivot(  # noqa: PD010
        index="date", columns="factor", values=column
    )
    inside = wide.index.isin(book.dates.as_unit("ns"))
    if not inside.any():
        raise DataError(
            f"`factor_returns` has no day of the run, {book.dates[0]:%Y-%m-%d} to {book.dates[-1]:%Y-%m-%d}; take those of its data."
        )
    wide = wide.reindex(index=book.dates.as_unit("ns"), columns=order).astype(np.float64)
    return wide.set_axis(book.dates, axis=0)


def _model_exposures(run: Run, book: DailyBook, returns: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, int]]:
    """Return exposures at the close before in the model in force then, and the factors that had no return to meet them."""
    columns = {name: k for k, name in enumerate(returns.columns)}
    known = returns.notna().to_numpy()
    exposures = np.zeros(returns.shape)
    unpriced: dict[str, int] = {}
    for ruling in rulings(run, book):
        # In force at the closes first ... stop - 1, whose weights earn the days first + 1 ... stop.
        days = np.arange(ruling.first, min(ruling.stop, len(book.dates) - 1))
        x = book.weights[days][:, ruling.assets] @ ruling.exposures
        for k, factor in enumerate(ruling.factors):
            here = np.zeros(len(days), dtype=np.bool_)
            if factor in columns:
                here = known[days + 1, columns[factor]]
                exposures[days + 1, columns[factor]] = np.where(here, x[:, k], 0.0)
            lost = int((~here & (x[:, k] != 0)).sum())
            if lost:
                unpriced[factor] = unpriced.get(factor, 0) + lost
    return pd.DataFrame(exposures, index=returns.index, columns=returns.columns), unpriced


def _own_lines(run: Run, book: DailyBook, factors: pd.DataFrame) -> pd.DataFrame:
    """Return what positions earned beside their factors, what the gone paid, and what was earned without a position."""
    earned, gone = asset_contributions(run, book), _gone(run, book)
    held = book.weights_before != 0
    delisting = np.where(gone & held, earned, 0.0).sum(axis=1)
    trading = np.where(held, 0.0, earned).sum(axis=1)
    positions = np.where(held & ~gone, earned, 0.0).sum(axis=1)
    missed = book.account["gross_return"].to_numpy(dtype=np.float64) - earned.sum(axis=1)
    return pd.DataFrame(
        {"specific": positions - factors.to_numpy().sum(axis=1), "delisting": delisting, "trading": trading + missed},
        index=book.account.index,
    )


def _gone(run: Run, book: DailyBook) -> BoolArray:
    """Return where the ledger booked a position out, bool of shape (T, N)."""
    notices = run.table("notices")
    notices = notices[notices["kind"] == "gone"]
    day = book.dates.as_unit("ns").get_indexer(pd.DatetimeIndex(notices["date"]).as_unit("ns"))
    place = pd.Index(book.assets).get_indexer(pd.Index(notices["asset"]))
    if (day < 0).any() or (place < 0).any():
        raise DataError(f"{run.folder}: `notices` has a day or asset that its account has not; run the backtest again.")
    gone = np.zeros(book.weights.shape, dtype=np.bool_)
    gone[day, place] = True
    return gone
