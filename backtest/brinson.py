"""Brinson attribution of a long-short book: which groups it leaned on, and what it held within them.

The benchmark of a market-neutral fund is cash: no weight in any group. Brinson and Fachler's formulas (1985), with a
benchmark weight of 0 and the universe as the yardstick of every group's return, need no group return of the book, W_g in its
denominator, which a neutral book does not have. With w_i the weights at the close before and c_i what they earned, W_g the net weight
of group g, b_g the cap-weighted universe's return in g and b over all,

    market         =  sum_g W_g b                the net of the book in the universe
    allocation_g   =  W_g (b_g - b)              being net long or short a group that differed from the universe
    selection_g    =  sum_{i in g} (c_i - w_i b_g)      holdings against their group's return, split into the long and the short leg

and market + sum_g (allocation_g + selection_g) = gross_return, exactly. Interaction, weight times selection, is 0 times it against a
cash benchmark and lies in selection. Legs follow Menchero: a short that falls less than its group cost money, whatever the book earned on it.
A delisting is selection. A position in a group in which the universe held nothing that day is measured against the universe.

References: Brinson, Fachler (1985), Measuring Non-US Equity Portfolio Performance, Journal of Portfolio Management 11; Menchero (2002/2003),
Performance Attribution with Short Positions, Journal of Performance Measurement 7. Linking and standard errors: `backtest.linking`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from backtest.daily_book import DailyBook, asset_contributions, read_book
from backtest.linking import Period, link, mean_errors
from backtest.performance import RETURNS, Basis, charge_lines
from backtest.rulings import facts_by_date, run_facts
from backtest.statistics import trading_year
from backtest.store import Run
from risk import DataError
from risk.checks import FloatArray

__all__ = ["Brinson", "brinson"]

Family = Literal["country", "sector"]
Codes = npt.NDArray[np.intp]
EFFECTS = ("allocation", "selection_long", "selection_short")


@dataclass(frozen=True, eq=False)
class Brinson:
    """Attribution of a run's return to groups.

    Attributes
    ----------
    family : {"country", "sector"}
    basis : {"net", "before_fees", "gross"}
        Which return the lines sum to.
    lines : DataFrame by date
        Contributions per day. Columns (effect, group): ``market``, ``trading`` (earned on what was not held at the close before) and the
        charges with group ``""``; ``allocation``, ``selection_long`` and ``selection_short`` of every group. Rows sum to `returns`.
    returns : Series by date
    net, gross : DataFrame, dates by groups
        Weights of the book at the close before.
    group_returns : DataFrame, dates by groups
        Of the universe; NaN where it held nothing in the group.
    without_yardstick : dict of str to int
        Groups that the book held on days when the universe did not, and on how many.
    periods_per_year : int
    """

    family: Family
    basis: Basis
    lines: pd.DataFrame
    returns: pd.Series
    net: pd.DataFrame
    gross: pd.DataFrame
    group_returns: pd.DataFrame
    without_yardstick: dict[str, int]
    periods_per_year: int

    @property
    def effects(self) -> pd.DataFrame:
        """Lines summed over groups, by effect."""
        return self.lines.T.groupby(level="effect", sort=False).sum().T

    def linked(self, period: Period = "run", *, by_effect: bool = False) -> pd.DataFrame:
        """Return contributions linked over each period; rows sum to ``return``. See `backtest.linking.link`."""
        return link(self.effects if by_effect else self.lines, self.returns, period)

    def groups(self) -> pd.DataFrame:
        """Return every group over the whole run.

        Returns
        -------
        DataFrame by group
            ``mean_net`` and ``mean_gross`` weight, ``group_return`` (of the universe, compounded over the days that it held the
            group), linked ``allocation``, ``selection_long``, ``selection_short`` and their sum ``total``, with the standard error (per year)
            and t-statistic of its daily mean. Beside the groups only the lines of `summary` with group ``""`` remain.
        """
        whole = link(self.lines, self.returns).iloc[0]
        table = pd.DataFrame(
            {
                "mean_net": self.net.mean(),
                "mean_gross": self.gross.mean(),
                "group_return": (1.0 + self.group_returns).prod(min_count=1) - 1.0,
            }
        )
        for effect in EFFECTS:
            table[effect] = whole[effect]
        table["total"] = table[list(EFFECTS)].sum(axis=1)
        own = self.lines[list(EFFECTS)].T.groupby(level="group", sort=False).sum().T
        errors = mean_errors(own, periods_per_year=self.periods_per_year)
        return table.join(errors[["mean", "standard_error", "t_statistic"]]).rename_axis("group")

    def summary(self) -> pd.DataFrame:
        """Return each effect over the whole run: ``contribution`` (linked) and the columns of `backtest.linking.mean_errors`."""
        whole = link(self.effects, self.returns).iloc[0].drop("return")
        errors = mean_errors(self.effects, periods_per_year=self.periods_per_year)
        return pd.DataFrame({"contribution": whole}).join(errors).rename_axis("effect")


def brinson(
    run: Run,
    family: Family,
    *,
    group_returns: pd.DataFrame | None = None,
    facts: pd.DataFrame | None = None,
    basis: Basis = "net",
) -> Brinson:
    """Return a run's return by country or by sector: market, allocation, selection and charges, every day.

    Parameters
    ----------
    run : Run
    family : {"country", "sector"}
    group_returns : DataFrame with columns date, family, group, weight, group_return, optional
        Of the cap-weighted universe on each day. Default: the run's table ``group_returns``.
    facts : DataFrame with columns date, asset, country, sector, traded_value, optional
        Labels of each decision's assets, in force until the next. Default: the run's table ``assets``.
    basis : {"net", "before_fees", "gross"}

    Raises
    ------
    DataError
        If a column, a day's universe or a decision's label is missing, or a day and group appears twice.
    """
    if family not in ("country", "sector"):
        raise DataError(f"`family` must be country or sector; got {family!r}.")
    if basis not in RETURNS:
        raise DataError(f"`basis` must be net, before_fees or gross; got {basis!r}.")
    book = read_book(run)
    yardstick, market = _universe(run, _stored(run) if group_returns is None else group_returns, family, book)
    labels, names = _labels(run, book, run_facts(run) if facts is None else facts, family)
    earned, held = asset_contributions(run, book), book.weights_before
    used = {names[code] for code in np.unique(labels[held != 0])}
    groups = [*yardstick.columns, *sorted(used - set(yardstick.columns))]
    # A group that was never held has no weight to place.
    place = np.maximum(pd.Index(groups).get_indexer(pd.Index(names)), 0)[labels]
    legs = _legs(place, held, earned, len(groups))
    known = yardstick.reindex(columns=groups).to_numpy(dtype=np.float64)
    against = np.where(np.isnan(known), market[:, None], known)
    net, gross = legs["long"][0] + legs["short"][0], legs["long"][0] - legs["short"][0]
    parts = {"allocation": net * (against - market[:, None])}
    parts |= {f"selection_{side}": profit - weight * against for side, (weight, profit) in legs.items()}
    # Summed from positions, not from the account: what the account holds beside them is a line of its own.
    trading = book.account["gross_return"].to_numpy() - np.where(held != 0, earned, 0.0).sum(axis=1)
    lone = pd.DataFrame({"market": held.sum(axis=1) * market, "trading": trading}, index=book.dates)
    missing = (gross != 0) & np.isnan(known)

    def by_day(values: FloatArray) -> pd.DataFrame:
        return pd.DataFrame(values, index=book.dates, columns=pd.Index(groups, name="group"))

    return Brinson(
        family=family,
        basis=basis,
        lines=_lines(
            {effect: by_day(values) for effect, values in parts.items()}, lone, charge_lines(book.account, basis)
        ),
        returns=book.account[RETURNS[basis]],
        net=by_day(net),
        gross=by_day(gross),
        group_returns=by_day(known),
        without_yardstick={groups[g]: int(missing[:, g].sum()) for g in np.flatnonzero(missing.any(axis=0))},
        periods_per_year=trading_year(run),
    )


def _stored(run: Run) -> pd.DataFrame:
    table = run.table("group_returns") if run.has("group_returns") else pd.DataFrame()
    if table.empty:
        raise DataError(
            f"{run.folder}: has no `group_returns` table (date, family, group, weight, group_return). Run the "
            "backtest again."
        )
    return table


def _universe(run: Run, table: pd.DataFrame, family: str, book: DailyBook) -> tuple[pd.DataFrame, FloatArray]:
    """Return the universe's return by date and group, and as a whole; 0 on a day before which the book was empty."""
    missing = [name for name in ("date", "family", "group", "weight", "group_return") if name not in table]
    if missing:
        raise DataError(f"`group_returns` lacks the column(s) {', '.join(missing)}.")
    rows = table[table["family"] == family]
    if rows.duplicated(["date", "group"]).any():
        twice = rows[rows.duplicated(["date", "group"])].iloc[0]
        raise DataError(
            f"`group_returns` has {family} {twice['group']!r} twice on {twice['date']:%Y-%m-%d}; give it once."
        )
    if not np.isfinite(rows[["weight", "group_return"]].to_numpy(dtype=np.float64)).all():
        raise DataError(
            "`group_returns` must be finite; leave out the rows of groups in which the universe holds nothing."
        )
    rows = rows.assign(date=pd.DatetimeIndex(rows["date"]).as_unit("ns"), part=rows["weight"] * rows["group_return"])
    total = rows.groupby("date")[["weight", "part"]].sum().reindex(book.dates.as_unit("ns"))
    lost = total["part"].isna().to_numpy() & (book.weights_before != 0).any(axis=1)
    if lost.any():
        raise DataError(
            f"`group_returns` has no {family} on {book.dates[int(np.argmax(lost))]:%Y-%m-%d} ({int(lost.sum())} such days), when "
            f"{run.folder} held positions. Give the universe's return by {family} on every day of the run."
        )
    off = (total["weight"] - 1.0).abs() > 1e-9
    if off.any():
        at = int(np.argmax(off.to_numpy()))
        raise DataError(
            f"`group_returns`: the weights of {family} must sum to 1 on every day; on {book.dates[at]:%Y-%m-%d} they sum to "
            f"{total['weight'].iloc[at]:.9g}. Divide by their sum."
        )
    wide = rows.pivot(index="date", columns="group", values="group_return")  # noqa: PD010
    wide = wide.reindex(book.dates.as_unit("ns")).set_axis(book.dates, axis=0)
    return wide, total["part"].fillna(0.0).to_numpy(dtype=np.float64)


def _labels(run: Run, book: DailyBook, facts: pd.DataFrame, family: str) -> tuple[Codes, list[str]]:
    """Return each position's group at the close before, as codes of shape (T, N) into a list of names.

    Code 0 is the empty label: of assets without one, and of positions that the decision in force did not know.
    """
    rows = facts_by_date(facts)
    decided = [date for date in run.model_dates() if date <= book.dates[-1]]
    lost = [date for date in decided if date not in rows]
    if lost:
        raise DataError(
            f"`facts` has no rows for the decision of {lost[0]:%Y-%m-%d} ({len(lost)} such); give every decision's."
        )
    first = book.dates.get_indexer(pd.DatetimeIndex(decided))
    codes = np.zeros(book.weights.shape, dtype=np.intp)
    names: list[str] = [""]
    for date, start, stop in zip(decided, first.tolist(), [*first[1:].tolist(), len(book.dates)], strict=True):
        labels = rows[date][family].cat
        if len(names) == 1:
            names += [str(name) for name in labels.categories]
        columns = pd.Index(book.assets).get_indexer(pd.Index(rows[date]["asset"].to_numpy(dtype=object)))
        known = columns >= 0
        # In force at the closes start ... stop - 1, whose weights earn the days start + 1 ... stop.
        codes[start + 1 : stop + 1, columns[known]] = labels.codes.to_numpy()[known] + 1
    return codes, names


def _legs(place: Codes, held: FloatArray, earned: FloatArray, groups: int) -> dict[str, tuple[FloatArray, FloatArray]]:
    """Return each side's weight and what it earned, by day and group."""
    return {
        side: (_by_group(place, np.where(of, held, 0.0), groups), _by_group(place, np.where(of, earned, 0.0), groups))
        for side, of in (("long", held > 0), ("short", held < 0))
    }


def _by_group(place: Codes, values: FloatArray, groups: int) -> FloatArray:
    """Return values summed by day and group, shape (T, groups)."""
    days = len(place)
    cell = place + groups * np.arange(days)[:, None]
    total: FloatArray = np.bincount(cell.ravel(), values.ravel(), days * groups).astype(np.float64)
    return total.reshape(days, groups)


def _lines(parts: dict[str, pd.DataFrame], lone: pd.DataFrame, charges: pd.DataFrame) -> pd.DataFrame:
    """Return all contributions under columns (effect, group)."""
    single = {name: frame[[name]].set_axis([""], axis=1) for frame in (lone, charges) for name in frame}
    blocks = {"market": single["market"], **parts, **{name: single[name] for name in ("trading", *charges)}}
    return pd.concat(list(blocks.values()), axis=1, keys=list(blocks), names=["effect", "group"])
