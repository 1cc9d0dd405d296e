"""A run's trades derived anew: each from the target behind it, and its cost from what was last decided on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from backtest.audit_evidence import Check, Evidence
from risk.checks import BoolArray, FloatArray

__all__ = ["trade_checks"]

EXACT, MARKED = 1e-9, 1e-6
# What the run noted of an order that did not fill on its day, or not in full.
UNFILLED = ("carried order", "partial fill", "no locate", "order dropped", "recall", "gone", "merger", "delisting")


def trade_checks(evidence: Evidence, variances: pd.DataFrame) -> Iterator[Check]:
    """Yield what must hold of a run's trades: size, day, reason, cost and share of the volume.

    Parameters
    ----------
    variances : DataFrame
        Of each asset at each decision, per year: date, asset, variance.
    """
    lag = int(evidence.record["product"]["lag_days"])
    trades, orders = evidence.trades, _orders(evidence)
    early = (trades["t"] - trades["d"] < lag).to_numpy()
    yield _count(evidence, "lag", f"no trade within less than {lag} session(s) of its decision", early)
    ordered = pd.MultiIndex.from_frame(trades[["d", "i"]]).isin(pd.MultiIndex.from_frame(orders[["d", "i"]]))
    orphans = ~ordered & (trades["reason"] != "recall").to_numpy()
    yield _count(evidence, "orders", "every trade follows from a target, a trim or a recall", orphans)
    yield _fill_check(evidence, orders, lag)
    yield _cost_check(evidence, variances)
    limit = evidence.record["product"].get("participation_limit")
    if limit is not None:
        yield _volume_check(evidence, float(limit))


def _count(evidence: Evidence, name: str, statement: str, wrong: BoolArray) -> Check:
    """Return a check that no trade is wrong."""
    where = ""
    if wrong.any():
        first = evidence.trades.iloc[int(wrong.argmax())]
        where = f"{first['date']:%Y-%m-%d} {first['asset']}"
    return Check(name, statement, float(wrong.sum()), 0.0, len(wrong), where=where, unit="trades")


def _orders(evidence: Evidence) -> pd.DataFrame:
    """Return every order: the row d of its decision, its asset i, and its value then, in base money."""
    notices = evidence.notices

    def noted(kind: str) -> pd.MultiIndex:
        return pd.MultiIndex.from_frame(notices.loc[notices["kind"] == kind, ["t", "i"]])

    aimed = evidence.weights.dropna(subset="target")[["t", "i", "target"]]
    aimed = aimed[~pd.MultiIndex.from_frame(aimed[["t", "i"]]).isin(noted("frozen"))]
    trims = evidence.trades.loc[evidence.trades["reason"] == "trim", ["d", "i"]].drop_duplicates()
    trims = trims.rename(columns={"d": "t"})
    trims = trims[pd.MultiIndex.from_frame(trims).isin(noted("passive breach"))]
    cap = evidence.record["mandate"]["position_target"]
    trims["target"] = np.sign(evidence.value[trims["t"], trims["i"]]) * cap
    orders = pd.concat([aimed, trims]).rename(columns={"t": "d"}).reset_index(drop=True)
    d, i = orders["d"].to_numpy(), orders["i"].to_numpy()
    orders["value"] = orders["target"] * evidence.nav["nav"].to_numpy()[d] - evidence.value[d, i]
    return orders


def _growth(evidence: Evidence) -> FloatArray:
    """Return by what the value of an order grows over each day, shape (D, A): NaN where its asset ends or is divided."""
    growth = 1 + np.where(evidence.has_row, np.nan_to_num(evidence.returns), 0.0)
    if evidence.events is not None:
        rows = evidence.events
        ends = rows[rows["kind"].isin(["merger", "spin_off", "delisting"])]
        growth[ends["t"], ends["i"]] = np.nan
        if evidence.data.settings.dividends_inside:
            # An order gets no dividend.
            paid = rows[(rows["kind"] == "dividend") & (rows["t"] > 0)]
            t, i = paid["t"].to_numpy(), paid["i"].to_numpy()
            np.subtract.at(growth, (t, i), paid["amount"].to_numpy() / evidence.close[t - 1, i])
    fx = evidence.fx
    return growth * fx / np.vstack([fx[:1], fx[:-1]])


def _fill_check(evidence: Evidence, orders: pd.DataFrame, lag: int) -> Check:
    """Return whether orders filled on their day in the size that the target asked for, where nothing was noted of them."""
    statement = "a fill = target x nav - value held, at the decision, moved on by the asset's return"
    if lag == 0:
        return Check(
            "fills", statement, np.nan, EXACT, 0, not_covered="without lag there is no close between decision and fill"
        )
    orders = orders[orders["d"] + lag < len(evidence.dates)]
    d, i = orders["d"].to_numpy(), orders["i"].to_numpy()
    growth, noticed = _growth(evidence), evidence.noticed(*UNFILLED)
    expected = orders["value"].to_numpy() - _coming(evidence, growth, lag)[d, i]
    # A recall that waits is part of what the decision counts on.
    unusual = noticed[d, i]
    for step in range(1, lag + 1):
        expected = expected * growth[d + step, i]
        unusual = unusual | noticed[d + step, i]
    s = d + lag
    unusual |= ~evidence.has_row[s, i] | np.isnan(expected)
    if "close" in evidence.data.market.columns:
        unusual |= np.isnan(evidence.close[s, i])
    trades = evidence.trades
    due = trades[(trades["t"] - trades["d"] == lag) & (trades["reason"] != "recall")]
    filled = np.zeros(evidence.value.shape)
    np.add.at(filled, (due["t"], due["i"]), (due["trade"] * evidence.before[due["t"]]).to_numpy())
    off, among = np.zeros(filled.shape), np.zeros(filled.shape, dtype=np.bool_)
    off[s, i] = (filled[s, i] - expected) / evidence.before[s]
    among[s[~unusual], i[~unusual]] = True
    return evidence.check("fills", statement, off, EXACT if evidence.events is None else MARKED, among=among)


def _coming(evidence: Evidence, growth: FloatArray, lag: int) -> FloatArray:
    """Return what was on its way at each close, shape (D, A): the value then of earlier orders that filled later."""
    coming = np.zeros(evidence.value.shape)
    trades = evidence.trades
    worth = (trades["trade"] * evidence.before[trades["t"]]).to_numpy()
    for t, d, i, value in zip(trades["t"], trades["d"], trades["i"], worth, strict=True) if lag > 1 else ():
        for day in range(t - 1, d, -1):
            value /= growth[day + 1, i]
            if d + lag > day:
                coming[day, i] += value
    return coming


def _cost_check(evidence: Evidence, variances: pd.DataFrame) -> Check:
    """Return whether every trade paid half-spread, commission and square-root impact at the last decision's prices."""
    rule, year = evidence.record["mandate"]["costs"], evidence.record["data"]["periods_per_year"]
    facts = evidence.run.table("assets")[["date", "asset", "traded_value"]]
    priced = variances.merge(facts, on=["date", "asset"], how="left")
    if rule["impact_coefficient"]:
        priced["impact"] = rule["impact_coefficient"] * np.sqrt(priced["variance"] / year / priced["traded_value"])
    else:
        priced["impact"] = 0.0
    stamp: Any = {"date": "datetime64[ns]", "asset": object}
    trades = pd.merge_asof(
        evidence.trades[["date", "asset", "t", "i", "trade", "cost"]].astype(stamp).sort_values("date", kind="stable"),
        priced[["date", "asset", "impact"]].astype(stamp).sort_values("date", kind="stable"),
        on="date",
        by="asset",
        allow_exact_matches=evidence.record["product"]["lag_days"] == 0,
    )
    # An asset that no decision has priced yet pays the commission alone.
    half_spread = np.where(trades["impact"].isna(), 0.0, rule["half_spread_bps"])
    before = evidence.before[trades["t"]]
    value = trades["trade"].abs().to_numpy() * before
    charged = (half_spread + rule["commission_bps"]) / 1e4 * value + trades["impact"].fillna(
        0.0
    ).to_numpy() * value**1.5
    off = np.zeros(evidence.value.shape)
    at = trades["t"].to_numpy(), trades["i"].to_numpy()
    np.maximum.at(off, at, np.abs(trades["cost"].to_numpy() - charged / before))
    statement = "cost of a trade = half-spread + commission + Y sigma_day sqrt(value / traded value)"
    return evidence.check("trading costs", statement, off, EXACT, among=evidence.traded != 0)


def _volume_check(evidence: Evidence, limit: float) -> Check:
    """Return whether no day's trades in an asset are more than their share of its dollar volume."""
    columns = ["date", "asset", "dollar_volume"]
    rows = evidence.data.market.read(columns, evidence.dates[0], evidence.dates[-1]).to_pandas()
    place: npt.NDArray[np.intp] = evidence.assets.get_indexer(pd.Index(rows["asset"].astype(str)))
    t, known = evidence.dates.get_indexer(pd.DatetimeIndex(rows["date"])), place >= 0
    volume = np.zeros(evidence.value.shape)
    volume[t[known], place[known]] = np.nan_to_num(rows["dollar_volume"].to_numpy(dtype=np.float64))[known]
    over = np.maximum(np.abs(evidence.traded) - limit * volume, 0.0) / evidence.before[:, None]
    statement = f"a day's trades in an asset are at most {limit:g} of its dollar volume"
    return evidence.check("participation", statement, over, EXACT, among=evidence.traded != 0)
