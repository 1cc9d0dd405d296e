"""From gross to net: hand-computed steps, and parts that sum to the compounded net return for any account."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from fund_days import run_fund
from hypothesis import given, settings
from hypothesis import strategies as st

from backtest import Run
from backtest.flows import Flow, Flows
from backtest.fund_terms import FundTerms
from backtest.share_register import ShareRegister
from backtest.waterfall import COST, FEES, FINANCING, FLOWS, GROSS, daily_parts, waterfall
from risk import DataError

LINES = (*GROSS, *COST, *FINANCING)


def account(sessions: int, seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return `nav` and `lines` of a fund with fees and flows, whose lines before fees are random."""
    rng = np.random.default_rng(seed)
    dates = pd.bdate_range("2021-11-08", periods=sessions, name="date")
    shares = rng.normal(0, 0.002, (sessions, len(LINES)))
    shares[:, len(GROSS) : len(GROSS) + len(COST)] = -np.abs(shares[:, len(GROSS) : len(GROSS) + len(COST)]) / 10
    flows = Flows(tuple(Flow(day, "B", 2e5) for day in dates[::25]))
    book = ShareRegister(FundTerms(crystallisation="quarterly"), 1e6, dates[0], flows=flows)
    found = run_fund(book, 1e6, list(dates), shares.sum(axis=1).tolist())
    before = np.array([1e6, *found.nav[:-1]])
    money = pd.DataFrame(shares * before[:, None], index=dates, columns=list(LINES))
    money["management_fee"], money["incentive_fee"] = -np.array(found.management), -np.array(found.incentive)
    money["subscription"] = found.flow
    money["redemption"] = 0.0
    lines = money.reset_index().melt("date", var_name="line", value_name="amount")
    nav = pd.DataFrame(
        {
            "nav": found.nav,
            "gross_return": shares[:, : len(GROSS)].sum(axis=1),
            "cost": -shares[:, len(GROSS) : len(GROSS) + len(COST)].sum(axis=1),
            "financing": -shares[:, len(GROSS) + len(COST) :].sum(axis=1),
            "management_fee": found.management_rate,
            "incentive_fee": found.incentive_rate,
            "net_return": found.net_return,
        },
        index=dates,
    )
    return nav, lines


def two_days() -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return 1,000 that earns 100 and pays 20, then earns 108 and pays 10 of interest and 10 to the manager."""
    dates = pd.DatetimeIndex(["2023-12-29", "2024-01-02"], name="date")
    nav = pd.DataFrame(
        {
            "nav": [1_080.0, 1_168.0],
            "gross_return": [0.10, 0.10],
            "cost": [0.02, 0.0],
            "financing": [0.0, 10 / 1080],
            "management_fee": [0.0, 10 / 1080],
            "incentive_fee": 0.0,
            "net_return": [0.08, 88 / 1080],
        },
        index=dates,
    )
    rows = [(0, "price", 90.0), (0, "dividend", 10.0), (0, "spread", -20.0)]
    rows += [(1, "price", 108.0), (1, "borrow_fee", -10.0), (1, "management_fee", -10.0)]
    return nav, pd.DataFrame(
        [(dates[day], line, amount) for day, line, amount in rows], columns=["date", "line", "amount"]
    )


def test_the_steps_by_hand() -> None:
    nav, lines = two_days()
    table = waterfall(nav, lines).set_index("step")["contribution"]
    total = 1_168 / 1_000 - 1
    # Carino: a day's lines times ln(1 + R_t)/R_t over ln(1 + R)/R.
    first, second = np.log(1.08) / 0.08, np.log(1 + 88 / 1080) / (88 / 1080)
    whole = np.log(1 + total) / total
    assert table["net_return"] == pytest.approx(0.168, abs=1e-15)
    assert table["price"] == pytest.approx((0.09 * first + 0.10 * second) / whole, abs=1e-15)
    assert table["spread"] == pytest.approx(-0.02 * first / whole, abs=1e-15)
    assert table["borrow_fee"] == pytest.approx(-10 / 1080 * second / whole, abs=1e-15)
    assert table["gross_return"] == pytest.approx(table["price"] + table["dividend"], abs=1e-15)
    assert list(table.index) == [
        *(*GROSS, "gross_return", *COST, "cost", *FINANCING, "financing"),
        *("return_before_fees", *FEES, "fees", "net_return"),
    ]


def test_a_period_of_years_is_linked_by_itself() -> None:
    nav, lines = two_days()
    table = waterfall(nav, lines, period="year").set_index(["start", "step"])["contribution"]
    assert table[nav.index[0], "price"] == pytest.approx(0.09, abs=1e-15)
    assert table[nav.index[1], "management_fee"] == pytest.approx(-10 / 1080, abs=1e-15)


def test_per_year_sums_to_the_geometric_annual_return() -> None:
    nav, lines = account(300, 4)
    table = waterfall(nav, lines, periods_per_year=250).set_index("step")
    annual = float((1 + nav["net_return"]).prod()) ** (250 / 300) - 1
    assert table.loc["net_return", "per_year"] == pytest.approx(annual, abs=1e-12)
    assert table.loc[~table["subtotal"], "per_year"].sum() == pytest.approx(annual, abs=1e-12)


@settings(max_examples=25, deadline=None)
@given(sessions=st.integers(2, 160), seed=st.integers(0, 2**20), period=st.sampled_from(["run", "year", "month"]))
def test_the_parts_sum_to_the_compounded_net_return(sessions: int, seed: int, period: str) -> None:
    nav, lines = account(sessions, seed)
    fine = waterfall(nav, lines, period=period)  # type: ignore[arg-type]
    coarse = waterfall(nav, period=period)  # type: ignore[arg-type]
    frequency = {"run": None, "year": "Y", "month": "M"}[period]
    keys = np.zeros(sessions) if frequency is None else nav.index.to_period(frequency)
    whole = (1 + nav["net_return"]).groupby(keys).prod() - 1
    for table in (fine, coarse):
        parts = table[~table["subtotal"]].groupby("start")["contribution"].sum()
        assert parts.to_numpy() == pytest.approx(whole.to_numpy(), abs=1e-12)
        ends = table[table["step"] == "net_return"]["contribution"]
        assert ends.to_numpy() == pytest.approx(whole.to_numpy(), abs=1e-12)
    for step in ("gross_return", "cost", "financing", "return_before_fees", "fees"):
        a, b = (table[table["step"] == step]["contribution"].to_numpy() for table in (fine, coarse))
        assert a == pytest.approx(b, abs=1e-12)


def test_a_run_has_a_waterfall(run: Run) -> None:
    table = waterfall(run.nav).set_index("step")["contribution"]
    assert table["net_return"] == pytest.approx(run.record["statistics"]["total_return_net"], abs=1e-12)
    assert table["cost"] < 0
    assert table["management_fee"] < 0


def test_flows_are_no_return() -> None:
    nav, lines = account(60, 2)
    assert lines.loc[lines["line"] == "subscription", "amount"].sum() > 0
    assert not set(FLOWS) & set(daily_parts(nav, lines).columns)


def test_lines_that_do_not_meet_the_account_are_refused() -> None:
    nav, lines = two_days()
    with pytest.raises(DataError, match=r"2024-01-02 miss the change of net assets by 10\.00"):
        waterfall(nav, lines[lines["line"] != "borrow_fee"])
    with pytest.raises(DataError, match=r"line\(s\) luck; known are price"):
        waterfall(nav, lines.replace({"line": {"price": "luck"}}))
    with pytest.raises(DataError, match="2024-01-02 miss `cost`"):
        waterfall(nav, lines.replace({"line": {"borrow_fee": "impact"}}))
    with pytest.raises(DataError, match="2024-01-02 miss `net_return`"):
        waterfall(nav.assign(net_return=[0.08, 0.08]), lines)
    with pytest.raises(DataError, match="2024-01-02, which `nav` has not"):
        waterfall(nav.iloc[:1], lines)
