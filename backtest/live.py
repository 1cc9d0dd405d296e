"""The live use: one date's book and the orders that lead to it from what is held."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from backtest.dataset import Dataset
from backtest.journal import widenings
from backtest.products import load_product
from backtest.signals import signal_at
from backtest.simulator import Progress, market_of, solve_by_mandate
from backtest.store import write_whole
from backtest.strategy import Decision, prepare
from backtest.tables import parse_date
from engine import InfeasibleMandate, Mandate, Problem, Solution
from engine.reasons import position_reasons
from risk import DataError, Panel
from risk.checks import BoolArray, FloatArray

__all__ = ["LiveBook", "check_out", "live_book", "write_book"]


@dataclass(frozen=True, eq=False)
class LiveBook:
    """One date's book.

    Attributes
    ----------
    orders : DataFrame
        asset, target_weight, trade_shares, trade_value, cost (money), reason; every asset held or wanted.
    problem : Problem
        As it was solved, over every asset that could have been wanted.
    solution : Solution
        `relaxed` names every limit that was widened, for frozen names or because the mandate relaxes, and by how much.
    """

    orders: pd.DataFrame
    problem: Problem
    solution: Solution


def _read_asset_file(path: Path, columns: tuple[str, ...]) -> pd.DataFrame:
    """Return a CSV of assets, one row each, indexed by asset.

    Raises
    ------
    DataError
        If the file cannot be read, lacks a column, or names an asset twice or not at all.
    """
    try:
        # Only an empty cell is missing: an asset may well be called NA.
        frame = pd.read_csv(path, dtype={"asset": str}, keep_default_na=False, na_values=[""])
    except (OSError, UnicodeDecodeError, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise DataError(f"{path}: cannot be read as CSV ({error}).") from error
    missing = [name for name in ("asset", *columns) if name not in frame.columns]
    if missing:
        raise DataError(
            f"{path}: has no column {', '.join(missing)}; it has {', '.join(map(str, frame.columns))}. "
            "Separate columns with commas and name them in the first row."
        )
    if frame["asset"].isna().any():
        raise DataError(f"{path}: row {int(frame['asset'].isna().argmax()) + 2} has no asset.")
    if frame["asset"].duplicated().any():
        raise DataError(f"{path}: asset {frame['asset'][frame['asset'].duplicated()].iloc[0]!r} stands in it twice.")
    return frame.set_index("asset")


def _positions(path: Path, panel: Panel) -> FloatArray:
    held = pd.to_numeric(_read_asset_file(path, ("shares",))["shares"], errors="coerce")
    if not np.isfinite(held.to_numpy()).all():
        raise DataError(f"{path}: `shares` of {held.index[~np.isfinite(held.to_numpy())][0]!r} is not a finite number.")
    _check_known(path, held.index, panel)
    return held.reindex(list(panel.assets), fill_value=0.0).to_numpy()


def _check_known(path: Path, assets: pd.Index, panel: Panel) -> None:
    unknown = sorted(set(assets) - set(panel.assets))
    if unknown:
        more = f" and {len(unknown) - 1} more" if len(unknown) > 1 else ""
        raise DataError(
            f"{path}: not in the market data up to {panel.dates[-1]:%Y-%m-%d}: `asset` {unknown[0]!r}{more}. Correct the "
            "names, or remove them."
        )


def live_book(
    data: Dataset,
    product: str,
    date: str | pd.Timestamp,
    *,
    holdings: Path | None = None,
    nav: float | None = None,
    restricted: Path | None = None,
    multiplier: float = 1.0,
    progress: Progress = lambda _stage, _done: None,
) -> LiveBook:
    """Return the orders of one date, with the problem and the solution that they come from.

    Parameters
    ----------
    data : Dataset
        Nothing dated after `date` is read.
    product : str
    date : date
        A trading day of the data; the decision is made at its close.
    holdings : Path, optional
        CSV of asset, shares. Default: an empty book.
    nav : float, optional
        Net asset value in the data set's currency. Default: the product's size.
    restricted : Path, optional
        CSV of asset: names that may not be traded. One that the market does not have restricts nothing.
    multiplier : float
        What the book's past says its forecast volatility is to be multiplied by: the volatility limit is on the product.
        A run's last one is in its `nav.parquet`, calibrated_forecast over forecast.

    Raises
    ------
    DataError
        If a file, the date or the size cannot be used.
    InfeasibleMandate
        If no portfolio meets all limits, unless the mandate relaxes those in the way.
    """
    terms, mandate = load_product(product)
    nav = terms.size("nav", nav)
    if not (np.isfinite(multiplier) and multiplier > 0):
        raise DataError(
            f"multiplier must be a positive number; got {multiplier}. Give 1 to take forecasts as they are."
        )
    if "close" not in data.market_columns():
        raise DataError(f"`{data.market.file}` has no column `close`, and orders are in shares. Add the column.")
    day = parse_date("date", date)
    dates = data.dates()
    if day not in dates:
        near = dates[dates <= day]
        hint = (
            f"the last one before it is {near[-1]:%Y-%m-%d}" if len(near) else f"the first one is {dates[0]:%Y-%m-%d}"
        )
        raise DataError(f"{day:%Y-%m-%d} is no trading day of {data.folder}; {hint}.")
    with threadpool_limits(1):
        market, gone = market_of(data, terms, mandate, end=day, decide_at_end=True, progress=progress)
        panel, t = market.panel, len(market.panel.dates) - 1
        price = pd.DataFrame(panel.close).ffill().to_numpy()[t]
        shares = np.zeros(len(panel.assets)) if holdings is None else _positions(holdings, panel)
        barred = np.zeros(len(panel.assets), dtype=np.bool_)
        if restricted is not None:
            barred = np.isin(panel.assets, _read_asset_file(restricted, ()).index)
        weights = np.where(shares != 0, shares * np.nan_to_num(price), 0.0) / nav
        decision = prepare(
            market,
            t,
            (market.signals.get(t) or signal_at(data, terms, mandate, panel, market.universe, t)).meta,
            weights,
            nav,
            mandate,
            multiplier=multiplier,
            restricted=barred | gone[t],
        )
        decision, solution = _solved(decision, mandate)
    costs = decision.problem.costs
    assert costs is not None
    change = np.where(decision.frozen, 0.0, solution.weights - decision.problem.holdings)
    frame = pd.DataFrame(
        {
            "asset": np.array(panel.assets, dtype=object)[decision.assets],
            "target_weight": solution.weights,
            "trade_shares": change * nav / price[decision.assets],
            "trade_value": change * nav,
            "cost": costs.charge(change) * nav,
            "reason": _reasons(
                decision.members,
                decision.frozen,
                barred[decision.assets],
                gone[t][decision.assets],
                decision.problem.holdings,
                change,
                position_reasons(decision.problem, solution)["reason"].tolist(),
            ),
        }
    )
    moved = (frame["target_weight"].abs() > _DUST) | (decision.problem.holdings != 0)
    book = frame[moved].reset_index(drop=True)
    _same_currency(data, day, book["asset"])
    return LiveBook(book, decision.problem, solution)


def _solved(decision: Decision, mandate: Mandate) -> tuple[Decision, Solution]:
    """Return a decision as it was solved and its book, with every limit that was widened.

    Raises
    ------
    InfeasibleMandate
        If no portfolio meets all limits and the mandate stops, holds, or relaxes none of those in the way: a book that is
        held has no orders, and no proof.
    """
    try:
        decision, solution, _ = solve_by_mandate(decision, mandate)
    except InfeasibleMandate as error:
        if mandate.on_infeasible != "hold":
            raise
        message = f"{error} Mandate {mandate.name!r} holds the book on such a date: there are no orders."
        raise InfeasibleMandate(message, error.conflict, error.relaxation) from error
    return decision, replace(solution, relaxed=widenings(decision, solution))


def _same_currency(data: Dataset, day: pd.Timestamp, assets: pd.Series[str]) -> None:
    """Refuse a book in several currencies: a number of shares needs prices in the currency of net assets.

    Raises
    ------
    DataError
    """
    labels = data.labels(day)
    if "currency" not in labels:
        return
    quoted = labels["currency"].reindex(assets)
    other = quoted[quoted.notna() & (quoted != data.settings.currency)]
    if len(other):
        raise DataError(
            f"`assets` of {data.folder}: {other.index[0]!r} is quoted in {other.iloc[0]} and {len(other)} assets of this book "
            f"in another currency than the data set's {data.settings.currency}, and currencies are not converted. Give `close` "
            f"in {data.settings.currency} and label the assets so."
        )


_DUST = 1e-9


def _reasons(
    members: BoolArray,
    frozen: BoolArray,
    barred: BoolArray,
    gone: BoolArray,
    before: FloatArray,
    change: FloatArray,
    why: list[str],
) -> list[str]:
    """Return what is done with each name, and why."""
    told = []
    for inside, stuck, restricted, left, held, traded, reason in zip(
        members, frozen, barred, gone, before, change, why, strict=True
    ):
        if stuck:
            told.append("gone: settle and remove it" if left else "restricted" if restricted else "suspended")
        elif not inside:
            told.append("exit: left the universe")
        elif abs(traded) <= _DUST:
            told.append(f"unchanged: {reason.removeprefix('kept: ')}")
        elif held == 0:
            told.append(f"open: {reason}")
        elif abs(held + traded) <= _DUST:
            told.append(f"exit: {reason.removeprefix('closed: ')}")
        else:
            told.append(f"rebalance: {reason}")
    return told


def check_out(out: Path) -> None:
    """Refuse a file that exists already, before any work is done.

    Raises
    ------
    DataError
    """
    if out.exists():
        raise DataError(f"{out}: exists already. Give another --out, or remove it first; nothing is overwritten.")


def write_book(book: pd.DataFrame, out: Path) -> None:
    """Write orders as CSV: whole or not at all.

    Raises
    ------
    DataError
        If `out` exists or its folder cannot be written.
    """
    check_out(out)
    write_whole(out, book.to_csv(index=False))
