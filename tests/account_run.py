"""A run of a few names and weeks whose account follows from its returns and orders, for tests that check it the slow way."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from backtest.run_writer import RunWriter
from backtest.store import SCHEMAS, Run
from engine import load_mandate
from risk import FactorModel

COUNTRIES, SECTORS = ("DE", "US"), ("Energy", "Technology")
FACTORS = ("market", "country:DE", "country:US", "style:size", "style:value")
NAMES = tuple(f"N{i:02d}" for i in range(12))
GONE = 3
UNKNOWN_VOLUME = 5


@dataclass(frozen=True, eq=False)
class Story:
    """What happened, as arrays of days by names, and the run folder that it was written into."""

    run: Run
    dates: pd.DatetimeIndex
    returns: np.ndarray
    values: np.ndarray
    trades: np.ndarray
    nav: np.ndarray
    models: dict[pd.Timestamp, FactorModel]
    benchmark: np.ndarray
    facts: pd.DataFrame
    factor_returns: pd.DataFrame
    group_returns: pd.DataFrame

    @property
    def weights(self) -> np.ndarray:
        return self.values / self.nav[:, None]

    def in_force(self, t: int) -> tuple[FactorModel, pd.DataFrame]:
        """Return the model and the labels in force at the close of day t."""
        date = max(day for day in self.models if day <= self.dates[t])
        return self.models[date], self.facts[self.facts["date"] == date].set_index("asset")


@dataclass
class _Fund:
    """Positions and cash; one name is booked out at a loss half-way through."""

    nav: float
    values: np.ndarray = field(default_factory=lambda: np.zeros(len(NAMES)))
    alive: np.ndarray = field(default_factory=lambda: np.ones(len(NAMES), dtype=bool))

    def __post_init__(self) -> None:
        self.cash = self.nav

    def day(self, returns: np.ndarray, traded: np.ndarray, fee: float, *, gone: bool) -> dict[str, Any]:
        before, financing = self.nav, 1e-5 * float(np.abs(self.values).sum())
        pnl = self.values * np.where(np.arange(len(NAMES)) == GONE, -0.4, returns) if gone else self.values * returns
        self.values = self.values + pnl
        if gone:
            self.cash += self.values[GONE]
            self.values[GONE], self.alive[GONE] = 0.0, False
        traded = np.where(self.alive, traded, 0.0)
        cost = 1e-3 * float(np.abs(traded).sum())
        self.values = self.values + traded
        self.cash -= traded.sum() + cost + financing + fee
        self.nav = self.cash + float(self.values.sum())
        return {"before": before, "pnl": pnl, "traded": traded, "cost": cost, "financing": financing, "fee": fee}


def write_account(out: Path, *, days: int = 30, seed: int = 0, deviation: float = 0.02) -> Story:
    """Write a run of weekly decisions filled at the next close, with cost, financing, fees and a delisting."""
    rng = np.random.default_rng(seed)
    dates = pd.bdate_range("2023-03-01", periods=days)
    n = len(NAMES)
    returns, benchmark = rng.normal(0, deviation, (days, n)), rng.uniform(1, 5, n)
    benchmark /= benchmark.sum()
    fund, orders = _Fund(1e6), np.zeros(n)
    models: dict[pd.Timestamp, FactorModel] = {}
    facts, values, trades, navs = [], [], [], []
    with RunWriter(out) as writer:
        for t, date in enumerate(dates):
            fee = 1e-3 * fund.nav if t % 10 == 0 else 0.0
            day = fund.day(returns[t], orders, fee, gone=t == days // 2)
            aimed, orders = np.full(n, np.nan), np.zeros(n)
            if t % 5 == 0:
                aimed = np.where(fund.alive, 0.018 * rng.choice([-1.0, 1.0], n), 0.0)
                orders = aimed * fund.nav - fund.values
                models[date] = _model(rng)
                facts.append(_decide(writer, date, models[date], benchmark, moved=t >= 15))
            if t == days // 2:
                notice = {"date": date, "kind": "gone", "asset": NAMES[GONE], "amount": 0.0, "detail": "delisted"}
                writer.append("notices", pd.DataFrame([notice]))
            _write_day(writer, date, fund, day, aimed)
            values.append(fund.values)
            trades.append(day["traded"])
            navs.append(fund.nav)
        mandate = load_mandate("one").model_dump(mode="json")
        run = writer.finish({"mandate": mandate, "data": {"periods_per_year": 252}, "nav0": 1e6})
    return Story(
        run, dates, returns, np.array(values), np.array(trades), np.array(navs), models, benchmark,
        pd.concat(facts, ignore_index=True), _factor_returns(rng, dates), _group_returns(rng, dates),
    )  # fmt: skip


def _model(rng: np.random.Generator) -> FactorModel:
    n = len(NAMES)
    country = np.arange(n) % 2
    X = np.column_stack([np.ones(n), country == 0, country == 1, rng.standard_normal((n, 2))])
    root = rng.normal(0, 0.1, (len(FACTORS), len(FACTORS)))
    return FactorModel(NAMES, FACTORS, X, root @ root.T, rng.uniform(0.04, 0.16, n))


def _decide(
    writer: RunWriter, date: pd.Timestamp, model: FactorModel, benchmark: np.ndarray, *, moved: bool
) -> pd.DataFrame:
    """Write a decision's model, signals and solve, and return its labels, two of them changed once `moved`, and volumes."""
    writer.write_model(date, model)
    signals = pd.DataFrame({"date": date, "asset": NAMES, "meta_model": 0.0, "alpha": 0.0})
    writer.append("signals", signals.assign(benchmark_weight=benchmark))
    solve: dict[str, Any] = dict.fromkeys(SCHEMAS["solves"].names, 0)
    solve |= {"date": date, "predictions_date": date, "status": "solved", "method": "", "fallback": "", "binding": []}
    writer.append("solves", pd.DataFrame([solve | {"relaxed": '{"style:size": 0.05}'}]))
    place = np.arange(len(NAMES))
    volume = np.where(place == UNKNOWN_VOLUME, np.nan, 1e5 * (1 + place))
    country, sector = place % 2, place // 2 % 2
    if moved:
        country[0], sector[1] = 1 - country[0], 1 - sector[1]
    labels = {"country": np.array(COUNTRIES)[country], "sector": np.array(SECTORS)[sector]}
    return pd.DataFrame({"date": date, "asset": NAMES, **labels, "traded_value": volume})


def _write_day(writer: RunWriter, date: pd.Timestamp, fund: _Fund, day: dict[str, Any], aimed: np.ndarray) -> None:
    names, before, weights = np.array(NAMES, dtype=object), day["before"], fund.values / fund.nav
    gross_return, cost, financing = day["pnl"].sum() / before, day["cost"] / before, day["financing"] / before
    row = dict.fromkeys(SCHEMAS["nav"].names, np.nan) | {
        "date": date, "nav": fund.nav, "gross_return": gross_return, "cost": cost, "financing": financing,
        "return_before_fees": gross_return - cost - financing, "management_fee": day["fee"] / before, "incentive_fee": 0.0,
        "net_return": fund.nav / before - 1, "gross": np.abs(weights).sum(), "net": weights.sum(),
    }  # fmt: skip
    writer.append("nav", pd.DataFrame([row]))
    rows = np.isfinite(aimed) | (weights != 0)
    table = pd.DataFrame({"date": date, "asset": names[rows], "target": aimed[rows], "weight": weights[rows]})
    writer.append("weights", table)
    rows = (fund.values != 0) | (day["pnl"] != 0)
    table = pd.DataFrame({"date": date, "asset": names[rows], "value": fund.values[rows], "pnl": day["pnl"][rows]})
    writer.append("positions", table.assign(shares=0.0, price=1.0))
    rows = day["traded"] != 0
    if rows.any():
        table = pd.DataFrame({"date": date, "asset": names[rows], "trade": day["traded"][rows] / before})
        writer.append("trades", table.assign(decided=date, reason="rebalance", shares=0.0, price=1.0, cost=0.0))


def _factor_returns(rng: np.random.Generator, dates: pd.DatetimeIndex) -> pd.DataFrame:
    rows = [{"date": d, "factor": f, "factor_return": rng.normal(0, 0.01)} for d in dates[1:] for f in FACTORS]
    return pd.DataFrame(rows)


def _group_returns(rng: np.random.Generator, dates: pd.DatetimeIndex) -> pd.DataFrame:
    rows = []
    for date in dates:
        for family, groups in (("country", COUNTRIES), ("sector", SECTORS)):
            share = rng.uniform(0.2, 0.8)
            for group, weight in zip(groups, (share, 1 - share), strict=True):
                row = {"date": date, "family": family, "group": group, "weight": weight}
                rows.append(row | {"group_return": rng.normal(0, 0.01)})
    return pd.DataFrame(rows)
