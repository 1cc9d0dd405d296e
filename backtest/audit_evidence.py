"""What an audit works from: the tables of a run and the rows of its data set, as arrays of days by assets.

Read with the arithmetic of nothing: no panel, no universe, no ledger. What a file says is laid out by day and asset.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from backtest.dataset import Dataset
from backtest.store import Run
from backtest.tables import find_table
from risk import DataError
from risk.checks import BoolArray, FloatArray

__all__ = ["Check", "Evidence", "as_of", "dated_rows", "labels_on", "read_evidence"]

Codes = npt.NDArray[np.intp]


@dataclass(frozen=True)
class Check:
    """One thing that was derived anew, and by how much the run differs from it.

    Attributes
    ----------
    name, statement : str
        What must hold.
    worst : float
        Largest difference, in units of `tolerance`'s; NaN where nothing was compared.
    tolerance : float
    compared, left_out : int
        Numbers compared, and those that could not be.
    where : str
        Day and asset of the worst.
    unit : str
    not_covered : str
        Why nothing could be derived; empty where it was.
    """

    name: str
    statement: str
    worst: float
    tolerance: float
    compared: int
    left_out: int = 0
    where: str = ""
    unit: str = "of net assets"
    not_covered: str = ""

    @property
    def passed(self) -> bool:
        """Whether it holds everywhere it was looked at."""
        return bool(self.not_covered) or self.compared == 0 or self.worst <= self.tolerance

    @property
    def state(self) -> str:
        """Holds, fails, not covered, or nothing to compare."""
        if self.not_covered:
            return "not covered"
        if not self.compared:
            return "nothing to compare"
        return "holds" if self.passed else "FAILS"


@dataclass(frozen=True, eq=False)
class Evidence:
    """A run of D days and A assets beside its data set.

    Attributes
    ----------
    run : Run
    data : Dataset
        Opened; its files are read here, and nothing else of it is used but its settings.
    nav : DataFrame by date
        The account.
    before : ndarray of shape (D,)
        Net assets at the close before each day.
    assets : Index of length A
        Every asset that was held, traded or aimed at.
    shares, price, value, pnl : ndarray of shape (D, A)
        Of the positions; 0 (price NaN) where there is none. Values in base money.
    traded, paid : ndarray of shape (D, A)
        Value and cost of the trades, base money.
    trades, weights, notices : DataFrame
        With the columns ``t`` (row of `nav`) and ``i`` (place in `assets`); trades also ``d``, the row on which it was decided.
    lines : DataFrame by date, or None
        One column per line of the account.
    has_row : bool ndarray of shape (D, A)
    returns, close : ndarray of shape (D, A)
        Of the market file, NaN where there is none.
    delisting_return : ndarray of shape (A,)
    currency : int ndarray of shape (A,)
        Column of `quotes`.
    quotes : ndarray of shape (D, C)
        Base units for one unit of each currency; the first is the base currency, 1.
    currencies : tuple of str, length C
    events : DataFrame or None
        Rows of the events file on days and assets of the run, with ``t``, ``i`` and ``j`` (of `new_asset`, -1).
    """

    run: Run
    data: Dataset
    nav: pd.DataFrame
    before: FloatArray
    assets: pd.Index
    shares: FloatArray
    price: FloatArray
    value: FloatArray
    pnl: FloatArray
    traded: FloatArray
    paid: FloatArray
    trades: pd.DataFrame
    weights: pd.DataFrame
    notices: pd.DataFrame
    lines: pd.DataFrame | None
    has_row: BoolArray
    returns: FloatArray
    close: FloatArray
    delisting_return: FloatArray
    currency: Codes
    quotes: FloatArray
    currencies: tuple[str, ...]
    events: pd.DataFrame | None

    @property
    def record(self) -> dict[str, Any]:
        """`run.json`."""
        return self.run.record

    @property
    def dates(self) -> pd.DatetimeIndex:
        """Days of the account."""
        return pd.DatetimeIndex(self.nav.index)

    @property
    def fx(self) -> FloatArray:
        """Base units for one unit of each asset's currency, shape (D, A)."""
        return self.quotes[:, self.currency]

    def noticed(self, *kinds: str) -> BoolArray:
        """Return where the run noted one of some kinds, shape (D, A)."""
        where = np.zeros(self.value.shape, dtype=np.bool_)
        rows = self.notices[self.notices["kind"].isin(kinds) & (self.notices["i"] >= 0)]
        where[rows["t"].to_numpy(), rows["i"].to_numpy()] = True
        return where

    def check(
        self,
        name: str,
        statement: str,
        difference: FloatArray,
        tolerance: float,
        *,
        among: BoolArray | None = None,
        unit: str = "of net assets",
    ) -> Check:
        """Return the worst of a difference by day, or by day and asset; a difference that is not known is the worst.

        Parameters
        ----------
        difference : ndarray of shape (D,) or (D, A)
        among : bool ndarray, optional
            Where it was looked at.
        """
        size = np.where(np.isnan(difference), np.inf, np.abs(difference))
        looked = np.ones(size.shape, dtype=np.bool_) if among is None else among
        size = np.where(looked, size, -1.0)
        at = [int(place) for place in np.unravel_index(int(size.argmax()), size.shape)]
        compared = int(looked.sum())
        where = f"{self.dates[at[0]]:%Y-%m-%d}" + (f" {self.assets[at[1]]}" if len(at) > 1 else "")
        left_out = int((~looked & (difference != 0)).sum())
        worst = float(size[tuple(at)]) if compared else float("nan")
        return Check(name, statement, worst, tolerance, compared, left_out, where if worst > 0 else "", unit)


def read_evidence(run: Run, data: Dataset) -> Evidence:
    """Return a run and its data set laid out by day and asset.

    Raises
    ------
    DataError
        If a table names a day that the account has not.
    """
    nav = run.nav
    dates = pd.DatetimeIndex(nav.index)
    tables = {name: run.table(name) for name in ("positions", "trades", "weights", "notices")}
    assets = pd.Index(
        sorted({str(name) for key in ("positions", "trades", "weights") for name in tables[key]["asset"].unique()})
    )
    for name, frame in tables.items():
        frame["t"] = dates.get_indexer(pd.DatetimeIndex(frame["date"]))
        frame["i"] = assets.get_indexer(pd.Index(frame["asset"]))
        strange = frame["t"] < 0
        if strange.any():
            raise DataError(
                f"{run.folder}: `{name}` has rows on {frame.loc[strange, 'date'].iloc[0]}, a day that `nav` has not."
            )
    trades = tables["trades"].assign(d=dates.get_indexer(pd.DatetimeIndex(tables["trades"]["decided"])))
    before = np.concatenate([[float(run.record["nav0"])], nav["nav"].to_numpy()[:-1]])
    shape = (len(dates), len(assets))
    market = _market(data, dates, assets)
    held = tables["positions"]

    def laid_out(frame: pd.DataFrame, amount: Any, empty: float = 0.0) -> FloatArray:
        table = np.full(shape, empty)
        if empty == 0.0:
            np.add.at(table, (frame["t"].to_numpy(), frame["i"].to_numpy()), amount)
        else:
            table[frame["t"].to_numpy(), frame["i"].to_numpy()] = amount
        return table

    money = before[trades["t"].to_numpy()]
    amounts: dict[str, Any] = {name: laid_out(held, held[name]) for name in ("shares", "value", "pnl")}
    return Evidence(
        run=run,
        data=data,
        nav=nav,
        before=before,
        assets=assets,
        **amounts,
        price=laid_out(held, held["price"], np.nan),
        traded=laid_out(trades, trades["trade"] * money),
        paid=laid_out(trades, trades["cost"] * money),
        trades=trades,
        weights=tables["weights"],
        notices=tables["notices"],
        lines=_lines(run, dates),
        **market,
        **_currencies(data, dates, assets),
        events=_events(data, dates, assets),
    )


def dated_rows(folder: Path, name: str) -> pd.DataFrame | None:
    """Return all rows of a data set's table, dates as Timestamps; None where there is no such file."""
    table = find_table(folder, name)
    if table is None:
        return None
    rows: pd.DataFrame = table.source.to_table().to_pandas()
    return rows.assign(date=pd.to_datetime(rows["date"])) if "date" in rows else rows


def labels_on(rows: pd.DataFrame, date: pd.Timestamp) -> pd.DataFrame:
    """Return the labels of a data set's assets on a date, by asset, from the rows of its assets file."""
    if "valid_from" in rows:
        since = pd.to_datetime(rows["valid_from"])
        rows = rows[since.isna() | (since <= date)].sort_values("valid_from", na_position="first", kind="stable")
    return rows.drop_duplicates("asset", keep="last").set_index("asset")


def _lines(run: Run, dates: pd.DatetimeIndex) -> pd.DataFrame | None:
    if not run.has("lines"):
        return None
    rows = run.table("lines")
    return rows.pivot_table(index="date", columns="line", values="amount", aggfunc="sum").reindex(dates).fillna(0.0)


def _market(data: Dataset, dates: pd.DatetimeIndex, assets: pd.Index) -> dict[str, Any]:
    columns = ["return", *(name for name in ("close", "delisting_return") if name in data.market.columns)]
    rows = data.market.read(["date", "asset", *columns], None, dates[-1]).to_pandas()
    place = assets.get_indexer(pd.Index(rows["asset"].astype(str)))
    left = np.full(len(assets), np.nan)
    if "delisting_return" in rows:
        given = rows["delisting_return"].notna().to_numpy() & (place >= 0)
        left[place[given]] = rows["delisting_return"].to_numpy()[given]
    t = dates.get_indexer(pd.DatetimeIndex(rows["date"]))
    inside = (t >= 0) & (place >= 0)
    at = t[inside], place[inside]
    has_row = np.zeros((len(dates), len(assets)), dtype=np.bool_)
    has_row[at] = True
    found: dict[str, Any] = {"has_row": has_row, "delisting_return": left}
    for name, column in (("returns", "return"), ("close", "close")):
        table = np.full(has_row.shape, np.nan)
        if column in rows:
            table[at] = rows[column].to_numpy(dtype=np.float64)[inside]
        found[name] = table
    return found


def _currencies(data: Dataset, dates: pd.DatetimeIndex, assets: pd.Index) -> dict[str, Any]:
    """Return each asset's currency, that of its label on its first row, and what it was worth."""
    base = data.settings.currency
    quotes, labels = dated_rows(data.folder, "fx"), dated_rows(data.folder, "assets")
    names = np.full(len(assets), base, dtype=object)
    if quotes is not None and labels is not None and "currency" in labels:
        days = data.market.read(["date", "asset"], None, dates[-1]).to_pandas()
        first = days.groupby(days["asset"].astype(str))["date"].min().reindex(assets)
        for place, (asset, date) in enumerate(first.items()):
            label = labels_on(labels[labels["asset"] == asset], date)["currency"].get(asset)
            names[place] = label if isinstance(label, str) else base
    currencies = (base, *sorted({*names} - {base}))
    table = np.ones((len(dates), len(currencies)))
    for column, name in enumerate(currencies[1:], start=1):
        assert quotes is not None
        table[:, column] = as_of(quotes[quotes["currency"] == name], "rate", dates)
    return {"currency": pd.Index(currencies).get_indexer(pd.Index(names)), "quotes": table, "currencies": currencies}


def as_of(rows: pd.DataFrame, column: str, dates: pd.DatetimeIndex) -> FloatArray:
    """Return the number of the latest row not after each date; NaN before the first, and where that row has none."""
    ordered = rows.sort_values("date", kind="stable")
    stamps = ordered["date"].to_numpy(dtype="datetime64[ns]")
    values = np.concatenate([[np.nan], ordered[column].to_numpy(dtype=np.float64)])
    return np.asarray(values[np.searchsorted(stamps, dates.to_numpy(dtype="datetime64[ns]"), side="right")])


def _events(data: Dataset, dates: pd.DatetimeIndex, assets: pd.Index) -> pd.DataFrame | None:
    rows = dated_rows(data.folder, "events")
    if rows is None:
        return None
    rows = rows.reindex(columns=["date", "asset", "kind", "ratio", "amount", "new_asset", "cause"])
    rows["t"] = dates.get_indexer(pd.DatetimeIndex(rows["date"]))
    rows["i"] = assets.get_indexer(pd.Index(rows["asset"].astype(str)))
    rows["j"] = assets.get_indexer(pd.Index(rows["new_asset"].fillna("").astype(str)))
    rows[["ratio", "amount"]] = rows[["ratio", "amount"]].astype(np.float64)
    return rows[(rows["t"] >= 0) & (rows["i"] >= 0)].reset_index(drop=True)
