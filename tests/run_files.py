"""A small finished run, written as a simulation writes one, for tests of what is computed and shown from a run folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from backtest.run_writer import RunWriter
from backtest.store import SCHEMAS, Run
from risk import FactorModel

COUNTRIES, SECTORS = ("DE", "US"), ("Energy", "Health Care", "Technology")
STYLES = ("style:beta", "style:size", "style:momentum")


def write_run(
    out: Path,
    *,
    sessions: int = 520,
    assets: int = 60,
    models: int = 8,
    status: str = "complete",
    attributed: bool = True,
    names: tuple[str, ...] = (),
    seed: int = 0,
) -> Run:
    """Write a plausible run of `sessions` days and weekly decisions; `names` replace the first assets' and models' names."""
    rng = np.random.default_rng(seed)
    dates = pd.bdate_range("2022-01-03", periods=sessions)
    asset_names = [*names, *(f"A{i:03d}" for i in range(len(names), assets))]
    model_names = [*names, *(f"model_{i:02d}" for i in range(len(names), models))]
    nav = _nav(rng, dates)
    if status == "bankrupt":
        nav.loc[sessions - 1, ["gross_return", "return_before_fees", "net_return"]] = -1.1
        nav.loc[sessions - 1, "nav"] = -5e6
    decisions = dates[::5]
    with RunWriter(out) as writer:
        writer.append("nav", nav)
        if status != "bankrupt":
            writer.append("lines", _lines(nav))
        base = np.clip(rng.normal(0, 0.02, assets), -0.018, 0.018)
        for t, date in enumerate(dates):
            _day(writer, rng, date, t, asset_names, base)
        for date in decisions:
            _decision(writer, rng, date, asset_names, model_names)
        writer.write_model(decisions[-1], _model(rng, asset_names))
        run = writer.finish(_record(dates, status))
    if attributed:
        scored = _contribution(rng, decisions[:-4], model_names)
        scored.to_parquet(out / "contribution.parquet", index=False)
    return run


def _nav(rng: np.random.Generator, dates: pd.DatetimeIndex) -> pd.DataFrame:
    n = len(dates)
    market = rng.normal(3e-4, 0.01, n)
    gross_return = 8e-4 + 0.02 * market + 0.005 * rng.standard_t(5, n)
    cost = np.where(np.arange(n) % 5 == 1, 6e-4, 0.0)
    financing = np.full(n, 5e-5)
    management = np.where(np.arange(n) % 21 == 0, 0.01 / 12, 0.0)
    incentive = np.where(np.arange(n) % 252 == 251, 0.01, 0.0)
    before = gross_return - cost - financing
    net = before - management - incentive
    nav = 70e6 * np.cumprod(1 + net)
    return pd.DataFrame(
        {
            "date": dates,
            "nav": nav,
            "gross_return": gross_return,
            "cost": cost,
            "financing": financing,
            "return_before_fees": before,
            "management_fee": management,
            "incentive_fee": incentive,
            "net_return": net,
            "nav_per_share": 100 * np.cumprod(1 + net),
            "cash": nav,
            "gross": 4.5 + 0.3 * np.sin(np.arange(n) / 40),
            "net": rng.normal(0, 0.002, n),
            "turnover": np.where(np.arange(n) % 5 == 1, 0.25, 0.0),
            "market_return": market,
            "forecast": 0.08,
            "calibrated_forecast": 0.088,
        }
    )


def _lines(nav: pd.DataFrame) -> pd.DataFrame:
    """Return each day's lines in money: a tenth of the gross return is dividends, a third of the cost impact."""
    before = nav["nav"] / (1 + nav["net_return"])
    parts = {
        "price": 0.9 * nav["gross_return"],
        "dividend": 0.1 * nav["gross_return"],
        "spread": -nav["cost"] * 2 / 3,
        "impact": -nav["cost"] / 3,
        "borrow_fee": -nav["financing"],
        "management_fee": -nav["management_fee"],
        "incentive_fee": -nav["incentive_fee"],
    }
    money = pd.DataFrame(parts).mul(before, axis=0).assign(date=nav["date"])
    lines = money.melt("date", var_name="line", value_name="amount")
    return lines[lines["amount"] != 0]


def _day(
    writer: RunWriter, rng: np.random.Generator, date: pd.Timestamp, t: int, assets: list[str], base: np.ndarray
) -> None:
    drift = t % 5 / 4
    weight = base * (1 + drift * rng.normal(0, 0.03, len(base)))
    target = base if t % 5 == 0 else np.full(len(base), np.nan)
    writer.append("weights", pd.DataFrame({"date": date, "asset": assets, "target": target, "weight": weight}))
    limits = {"net": 0.0, "beta": 0.01, **{f"country:{c}": 0.0 for c in COUNTRIES}}
    limits |= {f"sector:{s}": 0.0 for s in SECTORS} | dict.fromkeys(STYLES, 0.1)
    rows = [
        (name, limit * np.sin(t / 50) * 0.9 + drift * rng.normal(0, 0.002), rng.uniform(0, 0.004), -limit, limit)
        for name, limit in limits.items()
    ]
    rows += [
        ("gross", 4.5, np.nan, np.nan, 6.0),
        ("position", float(np.abs(weight).max()), np.nan, np.nan, 0.02),
        ("volatility", 0.08 + 0.01 * np.sin(t / 60), 0.08, np.nan, 0.10),
        ("specific", np.nan, 0.078, np.nan, np.nan),
        ("market", rng.normal(0, 0.003), 0.001, np.nan, np.nan),
    ]
    frame = pd.DataFrame(rows, columns=["factor", "exposure", "forecast_risk", "limit_lower", "limit_upper"])
    writer.append("exposures", frame.assign(date=date))
    if t % 40 == 3:
        row = {"date": date, "kind": "passive breach", "asset": assets[0], "amount": 0.0203}
        writer.append("notices", pd.DataFrame([{**row, "detail": "traded back at its next session"}]))


def _decision(
    writer: RunWriter, rng: np.random.Generator, date: pd.Timestamp, assets: list[str], models: list[str]
) -> None:
    solve: dict[str, Any] = {
        "date": date,
        "predictions_date": date,
        "status": "solved",
        "method": "reference:clarabel",
        "fallback": "",
        "relaxed": "",
        "primal_residual": 10 ** rng.uniform(-12, -8),
        "dual_residual": 10 ** rng.uniform(-11, -8),
        "complementarity": 10 ** rng.uniform(-11, -8),
        "gap": 10 ** rng.uniform(-11, -8),
        "objective": 0.3,
        "volatility": 0.08 + 0.01 * rng.uniform(),
        "multiplier": 1.1,
        "gross": 4.5,
        "iterations": int(rng.integers(12, 22)),
        "free_directions": int(rng.integers(20, 40)),
        "assets": len(assets),
        "models": len(models) - 1,
        "binding": ["net", "position", *(["style:size"] if rng.uniform() < 0.4 else [])],
    }
    writer.append("solves", pd.DataFrame([solve]))
    prices = {"net": rng.normal(0, 0.05), "position": 0.8, "style:size": rng.normal(0.02, 0.01), "gross": 0.0}
    writer.append("duals", pd.DataFrame({"date": date, "limit": list(prices), "price": list(prices.values())}))
    score = rng.standard_normal(len(assets))
    signals = pd.DataFrame({"date": date, "asset": assets, "meta_model": score, "alpha": 0.03 * score})
    signals["benchmark_weight"] = 1.0 / len(assets)
    writer.append("signals", signals)
    meta = pd.DataFrame({"date": date, "model": models, "stake": 100.0, "coverage": len(assets), "filled": 0})
    meta["used"] = np.arange(len(models)) > 0
    meta["reason"] = np.where(meta["used"], "", "late")
    writer.append("meta_model", meta)
    left_out = pd.DataFrame({"date": date, "reason": ["price", "dollar volume"], "assets": [3, 17]})
    writer.append("universe", left_out)


def _model(rng: np.random.Generator, assets: list[str]) -> FactorModel:
    n = len(assets)
    country = np.eye(len(COUNTRIES))[np.arange(n) % len(COUNTRIES)]
    sector = np.eye(len(SECTORS))[np.arange(n) % len(SECTORS)]
    factors = ["market", *(f"country:{c}" for c in COUNTRIES), *(f"sector:{s}" for s in SECTORS), *STYLES]
    X = np.hstack([np.ones((n, 1)), country, sector, rng.standard_normal((n, len(STYLES)))])
    return FactorModel(assets, factors, X, 0.01 * np.eye(len(factors)), np.full(n, 0.09))


def _contribution(rng: np.random.Generator, rounds: pd.DatetimeIndex, models: list[str]) -> pd.DataFrame:
    skill = np.linspace(0.004, -0.004, len(models))
    empty = SCHEMAS["contribution"].empty_table().to_pandas()
    parts = [
        pd.DataFrame({"model": models, "true_contribution": skill + rng.normal(0, 0.006, len(models))}).assign(
            date=date, stake=1 / len(models), mask_standard_error=5e-4
        )
        for date in rounds
    ]
    return pd.concat(parts)[list(empty.columns)] if parts else empty


def _record(dates: pd.DatetimeIndex, status: str) -> dict[str, Any]:
    stopped = {
        "stopped": f"{dates[-1]:%Y-%m-%d}: no portfolio meets `net` and `country:US`",
        "bankrupt": "net asset value fell to -5,000,000.00",
    }
    return {
        "name": "One",
        "status": status,
        "reason": stopped.get(status, ""),
        "product": {
            "name": "One", "mandate": "one", "rebalance": "weekly", "lag_days": 1, "score_horizon_days": 20, "score_lag_days": 2,
            "aum": 70e6, "capacity": 500e6, "management_fee_annual": 0.01, "incentive_fee": 0.2, "universe": {"minimum_price": 1.0},
            "assumed": ["lag_days"],
        },
        "mandate": {
            "name": "ONE", "position_limit": 0.02, "position_target": 0.018, "gross_limit": 6.0, "risk_aversion": 15.0, "net_limit": 0.0,
            "beta_limit": 0.01, "style_limit": 0.1, "volatility_limit": 0.1, "turnover_limit": None,
            "alpha": {"information_coefficient": 0.03, "horizon_days": 20}, "assumed": ["gross_limit", "alpha.horizon_days"],
        },
        "data": {
            "path": "market", "name": "A test market", "fingerprint": "ab" * 32, "currency": "USD", "return_kind": "total",
            "source": "made for tests", "periods_per_year": 252, "features": {"predictions": True, "rates": False, "borrow": False},
        },
        "code": "cd" * 32,
        "versions": {"python": "3.11", "numpy": "2.4"},
        "seed": None,
        "start": f"{dates[0]:%Y-%m-%d}",
        "end": f"{dates[-1]:%Y-%m-%d}",
        "nav0": 70e6,
        "size_source": "market_cap",
        "statistics": {},
        "counts": {"passive breach": 13},
    }  # fmt: skip
