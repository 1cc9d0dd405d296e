"""A fund under all conditions of trading at once: events, three currencies, interest, borrow, and investors who come and go."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from backtest import Dataset, Run, simulate
from backtest.flows import Flow, Flows
from backtest.lines import COST_LINES, FINANCING_LINES, GROSS_LINES
from backtest.performance import performance
from backtest.synthetic import MarketSpec, write_market

SPEC = MarketSpec(assets=70, years=1.6, models=8, countries=3, sectors=4, seed=5)
PRODUCT = """
name = "International"
mandate = "one"
aum = 20e6
rebalance = "weekly"
participation_limit = 0.02
fx_hedge = "full"
day_count = 360
lockup_months = 1
capacity = 30e6
delisting_returns = { bankruptcy = -0.3 }
[risk_model]
minimum_history = 126
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder = tmp_path_factory.mktemp("conditions") / "data"
    write_market(folder, SPEC)
    settings = (folder / "dataset.toml").read_text()
    (folder / "dataset.toml").write_text(settings.replace('return_kind = "total"', 'return_kind = "local"'))
    market = pd.read_parquet(folder / "market.parquet")
    assets = pd.read_parquet(folder / "assets.parquet")
    countries = sorted(assets["country"].unique())
    money = dict(zip(countries, ("USD", "EUR", "JPY"), strict=True))
    assets.assign(currency=assets["country"].map(money)).to_parquet(folder / "assets.parquet", index=False)
    days = pd.DatetimeIndex(sorted(market["date"].unique()))
    rng = np.random.default_rng(0)
    fx = pd.concat(
        pd.DataFrame({"date": days, "currency": name, "rate": start * np.exp(rng.normal(0, 0.004, len(days)).cumsum())})
        for name, start in (("EUR", 1.1), ("JPY", 0.008))
    )
    fx.sort_values(["date", "currency"]).to_parquet(folder / "fx.parquet", index=False)
    rates = pd.DataFrame({"date": days[0], "currency": list(money.values()), "annual_rate": [0.05, 0.03, 0.001]})
    rates.to_parquet(folder / "rates.parquet", index=False)
    alive = market.groupby("asset")["date"].agg(["min", "max"])
    lasting = sorted(alive.index[(alive["min"] == days[0]) & (alive["max"] == days[-1])])
    borrow = pd.DataFrame({"date": days[0], "asset": lasting[:20], "fee_annual": 0.04, "rebate_annual": np.nan})
    borrow["available"] = np.where(np.arange(20) < 5, 0.0, 3_000.0)
    borrow.to_parquet(folder / "borrow.parquet", index=False)
    traded = market.set_index(["asset", "date"]).index
    events = [
        {"date": days[t], "asset": name, "kind": kind, **fields}
        for name, t, kind, fields in (
            *((name, 300, "dividend", {"amount": 0.01}) for name in lasting[:10]),
            *((name, 320, "suspension", {}) for name in lasting[20:25]),
            *((name, 330, "recall", {}) for name in lasting[25:60]),
        )
        if (name, days[t]) in traded
    ]
    ends = alive["max"][alive["max"] < days[-12]]
    events += [{"date": end, "asset": name, "kind": "delisting", "cause": "bankruptcy"} for name, end in ends.items()]
    frame = pd.DataFrame(events, columns=["date", "asset", "kind", "ratio", "amount", "new_asset", "cause"])
    frame = frame.astype({"ratio": float, "amount": float, "new_asset": "string", "cause": "string"})
    frame.sort_values(["date", "asset"]).to_parquet(folder / "events.parquet", index=False)
    return Dataset(folder)


@pytest.fixture(scope="module")
def run(data: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("conditions-run")
    (folder / "product.toml").write_text(PRODUCT)
    day = data.dates()[300]
    flows = Flows(
        (
            Flow(day, "pension", 5e6),
            Flow(day, "office", 20e6),
            Flow(day, "founder", -1e6),
            Flow(day + pd.Timedelta(days=70), "pension", -np.inf),
        )
    )
    return simulate(data, str(folder / "product.toml"), out=folder / "run", flows=flows)


def test_net_assets_move_by_the_sum_of_their_lines(run: Run) -> None:
    lines = run.table("lines").pivot_table(index="date", columns="line", values="amount", aggfunc="sum").fillna(0.0)
    nav = run.nav["nav"]
    moved = nav.diff().fillna(nav.iloc[0] - 20e6)
    assert (moved - lines.sum(axis=1).reindex(nav.index, fill_value=0.0)).abs().max() < 0.005
    expected = {"price", "fx", "spread", "impact", "fx_cost", "debit_interest", "rebate", "borrow_fee", "subscription"}
    assert expected <= set(lines)


def test_returns_are_the_lines_over_net_assets_before(run: Run) -> None:
    nav = run.nav
    before = nav["nav"].shift(1).fillna(20e6)
    lines = run.table("lines").pivot_table(index="date", columns="line", values="amount", aggfunc="sum").fillna(0.0)
    lines = lines.reindex(nav.index, fill_value=0.0)
    for column, names, sign in (
        ("gross_return", GROSS_LINES, 1),
        ("cost", COST_LINES, -1),
        ("financing", FINANCING_LINES, -1),
    ):
        total = sign * lines.reindex(columns=list(names), fill_value=0.0).sum(axis=1)
        np.testing.assert_allclose(nav[column] * before, total, rtol=0, atol=0.005)
    np.testing.assert_allclose(nav["nav_per_share"], 100 * (1 + nav["net_return"]).cumprod(), rtol=1e-12)


def test_investors_own_the_fund(run: Run) -> None:
    shares, nav = run.table("shares"), run.nav["nav"]
    owned = shares.groupby("date")["value"].sum()
    dealt = owned.index[:-1]
    np.testing.assert_allclose(owned[dealt], nav[dealt], rtol=0, atol=0.005)
    deals = run.table("deals").set_index(["investor", "kind", "outcome"]).sort_index()
    assert deals.loc[("pension", "subscription", "dealt"), "amount"].sum() == pytest.approx(5e6)
    assert deals.loc[("pension", "redemption", "dealt"), "amount"].sum() > 4e6
    assert "pension" not in set(shares.loc[shares["date"] == shares["date"].max(), "investor"])
    assert "refused" in set(deals.loc["office"].index.get_level_values("outcome"))
    assert owned[dealt].max() <= 30e6 + 0.01


def test_what_cannot_be_borrowed_is_not_shorted(run: Run, data: Dataset) -> None:
    borrow = pd.read_parquet(data.folder / "borrow.parquet").set_index("asset")["available"]
    weights = run.table("weights")
    short = weights[weights["asset"].isin(borrow.index)]
    none = borrow.index[borrow == 0]
    assert (short[short["asset"].isin(none)]["target"].dropna() >= -1e-9).all()
    held = run.table("positions")
    held = held[held["asset"].isin(borrow.index)]
    assert (held["shares"] >= -held["asset"].map(borrow) - 1e-6).all()


def test_recalls_are_bought_back_and_told(run: Run) -> None:
    notices, trades = run.table("notices"), run.table("trades")
    called = notices[notices["kind"] == "recall"]
    assert len(called) >= 3
    bought = trades[trades["reason"] == "recall"]
    assert set(called["asset"]) == set(bought["asset"])
    assert (bought["shares"] > 0).all()


def test_orders_of_suspended_names_wait(run: Run, data: Dataset) -> None:
    events = pd.read_parquet(data.folder / "events.parquet")
    out = events[events["kind"] == "suspension"]
    trades = run.table("trades").merge(out[["date", "asset"]], on=["date", "asset"])
    assert not len(trades)


def test_attribution_to_factors_adds_up(run: Run) -> None:
    found = performance(run)
    np.testing.assert_allclose(found.lines.sum(axis=1), run.nav["net_return"], rtol=0, atol=1e-12)


def test_a_killed_run_under_all_conditions_resumes(data: Dataset, run: Run, tmp_path: Path) -> None:
    """Ledger, register and orders on their way are part of the checkpoint."""
    flows = run.record["flows"]["requests"]
    own = Flows(tuple(Flow(pd.Timestamp(f["date"]), f["investor"], float(f["amount"])) for f in flows))

    def stop(stage: str, done: float) -> None:
        if stage == "simulation" and done > 0.6:
            raise KeyboardInterrupt

    product = str(run.folder.parent / "product.toml")
    with pytest.raises(KeyboardInterrupt):
        simulate(data, product, out=tmp_path / "run", flows=own, progress=stop)
    again = simulate(data, product, out=tmp_path / "run", flows=own, resume=True)
    for path in run.folder.glob("*.parquet"):
        assert path.read_bytes() == (again.folder / path.name).read_bytes(), path.name
