from __future__ import annotations

import json
import math

import numpy as np
import pandas as pd
import pytest
import quantstats
from daily_account import account, daily, decisions
from scipy.stats import chi2

from backtest.contributions import contribution_summary, scoring_block
from backtest.series import (
    drawdown,
    growth,
    limit_use,
    monthly_returns,
    rolling_volatility,
    worst_drawdown,
)
from backtest.statistics import Unit, by_year, statistics
from risk import DataError


def test_agree_with_quantstats_where_the_definitions_are_the_same():
    nav = account(daily(), fees=5e-5)
    found = statistics(nav)
    net, before = nav["net_return"], nav["return_before_fees"]
    assert found["sharpe_before_fees"].value == pytest.approx(quantstats.stats.sharpe(before, periods=252), rel=1e-12)
    assert found["sharpe_net"].value == pytest.approx(quantstats.stats.sharpe(net, periods=252), rel=1e-12)
    assert found["volatility_net"].value == pytest.approx(quantstats.stats.volatility(net, periods=252), rel=1e-12)
    assert found["max_drawdown"].value == pytest.approx(quantstats.stats.max_drawdown(net), rel=1e-12)
    assert found["total_return_net"].value == pytest.approx(quantstats.stats.comp(net), rel=1e-12)
    assert found["sharpe_before_fees_ltm"].value == pytest.approx(
        quantstats.stats.sharpe(before.iloc[-252:]), rel=1e-12
    )
    pd.testing.assert_series_equal(
        drawdown(net), quantstats.stats.to_drawdown_series(net), check_names=False, check_freq=False
    )


def test_hand_computed_numbers():
    returns = [0.01, -0.02] * 63
    trade = [0.5, 0.0] * 63
    nav = account(returns, fees=0.001, turnover=trade, cost=0.0002, financing=-0.0001, net=[0.01, -0.03] * 63)
    found = statistics(nav)
    # 126 sessions are half a year: annual is the square; (1.009 * 0.979) ** 63 ** 2.
    assert found["annual_return_net"].value == pytest.approx((1.009 * 0.979) ** 126 - 1, rel=1e-12)
    assert found["annual_return_before_fees"].value == pytest.approx((1.01 * 0.98) ** 126 - 1, rel=1e-12)
    deviation = 0.015 * math.sqrt(126 / 125)
    assert found["volatility_before_fees"].value == pytest.approx(deviation * math.sqrt(252), rel=1e-12)
    assert found["sharpe_before_fees"].value == pytest.approx(-0.005 / deviation * math.sqrt(252), rel=1e-12)
    assert found["sharpe_net"].value == pytest.approx(-0.006 / deviation * math.sqrt(252), rel=1e-12)
    assert found["turnover"].value == pytest.approx(0.25 * 252)
    assert found["cost"].value == pytest.approx(0.0002 * 252)
    assert found["financing"].value == pytest.approx(-0.0001 * 252), "a credit is negative"
    assert found["fees"].value == pytest.approx(0.001 * 252)
    assert found["average_gross"].value == 4.0
    assert found["average_absolute_net"].value == pytest.approx(0.02)
    assert found["hit_rate"].value == 0.5
    assert found["hit_rate"].unit is Unit.SHARE
    # Two values as often: skewness 0 and kurtosis 1, so that nothing is left of the terms in s.
    assert found["sharpe_standard_error"].value == pytest.approx(math.sqrt(252 / 125), rel=1e-12)
    assert found["longest_drawdown"].value == 125
    assert found["time_below_high"].value == pytest.approx(125 / 126)
    assert found["slugging"].value == pytest.approx(0.5)
    assert found["hit_rate_monthly"].value == 0.0
    assert found["holding_period"].value == pytest.approx(4 / 0.25)
    assert "extrapolated from 126 sessions" in found["annual_return_net"].note


def test_periods_per_year_scale_everything_annual():
    nav = account(daily())
    a, b = statistics(nav), statistics(nav, periods_per_year=63)
    assert a["sharpe_net"].value == pytest.approx(2 * b["sharpe_net"].value)
    assert a["volatility_net"].value == pytest.approx(2 * b["volatility_net"].value)
    assert a["total_return_net"].value == b["total_return_net"].value


def test_the_standard_error_of_sharpe_is_its_spread_over_samples():
    values = [statistics(account(daily(504, seed)))["sharpe_before_fees"].value for seed in range(200)]
    stated = statistics(account(daily(504)))["sharpe_standard_error"].value
    assert np.std(values, ddof=1) == pytest.approx(stated, rel=0.2)


def test_drawdown_dates():
    net = [0.1, 0.0, -0.2, -0.1, 0.5, -0.3]
    worst = worst_drawdown(account(net)["net_return"])
    assert worst.depth == pytest.approx(-0.3, abs=1e-12)
    assert (worst.peak, worst.trough, worst.recovered) == (pd.Timestamp("2021-01-08"), pd.Timestamp("2021-01-11"), None)
    shallower = worst_drawdown(account(net[:5])["net_return"])
    assert shallower.depth == pytest.approx(0.8 * 0.9 - 1)
    assert shallower.peak == pd.Timestamp("2021-01-05"), "the last day at the high, not the first"
    assert shallower.recovered == pd.Timestamp("2021-01-08")
    assert "not recovered" in statistics(account(net))["max_drawdown"].note


def test_a_loss_on_the_first_day_is_a_drawdown_from_the_start():
    assert statistics(account([-0.05, 0.01]))["max_drawdown"].value == pytest.approx(-0.05)


def test_a_fund_that_lost_everything_stays_at_nothing():
    net = account([*daily(30), -1.2, 0.5, -3.0])["net_return"]
    assert growth(net).iloc[-3:].tolist() == [0.0, 0.0, 0.0]
    found = statistics(account(net))
    assert found["annual_return_net"].value == -1.0
    assert found["max_drawdown"].value == -1.0
    assert monthly_returns(net).loc[2021, "year"] == -1.0


@pytest.mark.parametrize("sessions", [0, 1, 2, 19])
def test_short_samples_are_not_known_and_say_why(sessions):
    found = statistics(account(daily(sessions)))
    for name in (
        "annual_return_net",
        "sharpe_before_fees",
        "sharpe_net",
        "sharpe_standard_error",
        "sharpe_before_fees_ltm",
        "beta",
    ):
        assert math.isnan(found[name].value)
        assert found[name].note
    assert math.isnan(found["volatility_net"].value) == (sessions < 2)
    for item in found:
        assert bool(item.note) or not math.isnan(item.value), f"{item.name} is NaN without a reason"
        assert item.definition.endswith(".")
    json.dumps(found.as_record(), allow_nan=False)


def test_returns_that_do_not_vary_have_no_sharpe():
    found = statistics(account([0.001] * 130))
    assert math.isnan(found["sharpe_before_fees"].value)
    assert found["sharpe_before_fees"].note == "returns do not vary"
    assert found["annual_return_net"].value == pytest.approx(1.001**252 - 1)
    assert found["volatility_net"].value == pytest.approx(0.0, abs=1e-15)


def test_last_twelve_months_need_126_sessions():
    assert math.isnan(statistics(account(daily(125)))["sharpe_net_ltm"].value)
    found = statistics(account(daily(126)))["sharpe_net_ltm"]
    assert found.value == statistics(account(daily(126)))["sharpe_net"].value
    assert found.note == "126 sessions"
    assert statistics(account(daily(700)))["sharpe_net_ltm"].value == pytest.approx(
        statistics(account(daily(700)[-252:]))["sharpe_net"].value
    )


def newey_west_t(y, x, lags):
    """Slope, its t, constant and its t by the textbook sums, Bartlett weights, no small-sample factor."""
    X = np.column_stack([np.ones_like(x), x])
    bread = np.linalg.inv(X.T @ X)
    b = bread @ X.T @ y
    moment = X * (y - X @ b)[:, None]
    meat = moment.T @ moment
    for k in range(1, lags + 1):
        cross = moment[k:].T @ moment[:-k]
        meat += (1 - k / (lags + 1)) * (cross + cross.T)
    error = np.sqrt(np.diag(bread @ meat @ bread))
    return b[1], b[1] / error[1], b[0], b[0] / error[0]


def test_beta_and_its_t_against_textbook_sums():
    rng = np.random.default_rng(3)
    market = rng.normal(3e-4, 0.01, 600)
    nav = account(daily(600) + 0.05 * market)
    market_return = pd.Series(market, index=nav.index)
    found = statistics(nav, market_return=market_return)
    slope, t, constant, constant_t = newey_west_t(nav["return_before_fees"].to_numpy(), market, 5)
    small = math.sqrt(599 / 600)  # the variance of every robust error is scaled by n / (n - 1)
    assert found["beta"].value == pytest.approx(slope, rel=1e-10)
    assert found["beta_t_statistic"].value == pytest.approx(t * small, rel=1e-8)
    assert found["market_alpha"].value == pytest.approx(252 * constant, rel=1e-10)
    assert found["market_alpha_t_statistic"].value == pytest.approx(constant_t * small, rel=1e-8)
    assert found["beta"].band.upper == pytest.approx(slope * (1 + 1.959964 / (t * small)), rel=1e-6)
    assert found["beta"].note == "600 sessions, 5 lags"
    assert statistics(nav.assign(market_return=market))["beta"].value == found["beta"].value
    market_return.iloc[[0, 7]] = np.nan
    assert "2 without a market return left out" in statistics(nav, market_return=market_return)["beta"].note
    with pytest.raises(DataError, match="dates of `nav`"):
        statistics(nav, market_return=market_return.iloc[1:])


def test_forecast_against_realised_volatility():
    nav = account(daily())
    solves = decisions(nav)
    found = statistics(nav, solves=solves)
    assert found["forecast_volatility"].value == pytest.approx(0.08)
    assert found["volatility_ratio"].value == pytest.approx(found["volatility_before_fees"].value / 0.08)
    assert found["calibrated_forecast"].value == pytest.approx(0.10)
    assert found["calibrated_ratio"].value == pytest.approx(found["volatility_before_fees"].value / 0.10)
    assert math.isnan(statistics(nav, solves=solves.iloc[:0])["volatility_ratio"].value)
    assert math.isnan(statistics(nav, solves=solves.assign(volatility=0.0))["volatility_ratio"].value)


@pytest.mark.parametrize(
    ("volatility", "binding", "said"),
    [
        (0.10, [], "inside the band"),
        (0.13, ["volatility"], "above the band: forecasts"),
        (0.05, ["volatility"], "below the band: the limit bound"),
        (0.05, ["gross"], "below the band: the gross limit bound"),
        (0.05, ["position"], "below the band: neither"),
    ],
)
def test_realised_volatility_against_the_limit_says_why(volatility, binding, said):
    normal = np.random.default_rng(0).normal(0, volatility / math.sqrt(252), 1000)
    nav = account(normal)
    found = statistics(nav, solves=decisions(nav, binding), volatility_limit=0.10)
    item = found["volatility_to_limit"]
    assert item.value == pytest.approx(found["volatility_before_fees"].value / 0.10, rel=1e-12)
    low, high = (math.sqrt(chi2.ppf(p, 999) / 999) for p in (0.025, 0.975))
    assert (item.band.lower, item.band.upper) == pytest.approx((low, high), rel=1e-12)
    assert item.note.startswith(said)
    assert found["volatility_limit_bound"].value == ("volatility" in binding)
    assert found["gross_limit_bound"].value == ("gross" in binding)


def test_what_was_not_given_is_not_known():
    found = statistics(account(daily(60)))
    assert found["volatility_to_limit"].note == "the mandate states no volatility limit"
    assert found["capacity_used"].note == "the product states no capacity"
    assert found["gross_limit_bound"].note == "the run holds no decision"
    assert found["value_at_risk_99"].note == "needs 99 sessions; there are 60"
    assert not math.isnan(found["value_at_risk_95"].value)


def test_capacity_used():
    nav = account(daily(30)).assign(nav=np.linspace(100e6, 150e6, 30))
    nav.iloc[10, nav.columns.get_loc("nav")] = 200e6
    found = statistics(nav, capacity=500e6)
    assert [found[f"capacity_used{key}"].value for key in ("", "_most")] == pytest.approx([0.3, 0.4])
    with pytest.raises(DataError, match="lacks the column nav"):
        statistics(account(daily(30)), capacity=500e6)


def test_years_partition_the_run():
    nav = account(daily(600), turnover=0.1, start="2021-03-01")
    solves = pd.DataFrame({"date": nav.index[:300:5], "volatility": np.linspace(0.06, 0.09, 60)})
    years = by_year(nav, solves, volatility_limit=0.10)
    assert years["sessions"].sum() == 600
    assert (1 + years["return_net"]).prod() - 1 == pytest.approx(statistics(nav)["total_return_net"].value, rel=1e-12)
    assert years["turnover"].sum() == pytest.approx(60)
    in_2021 = nav.index.year == 2021
    assert years.loc[2021, "volatility"] == pytest.approx(nav.loc[in_2021, "return_before_fees"].std() * math.sqrt(252))
    of_2021 = solves.loc[solves["date"].dt.year == 2021, "volatility"].mean()
    assert years.loc[2021, "ratio"] == pytest.approx(years.loc[2021, "volatility"] / of_2021)
    assert math.isnan(years.loc[2023, "forecast_volatility"])
    assert (years["volatility_limit"] == 0.10).all()
    n = int(in_2021.sum())
    assert years.loc[2021, "band_upper"] == pytest.approx(0.10 * math.sqrt(chi2.ppf(0.975, n - 1) / (n - 1)))


def test_months_compound_to_years():
    returns = account(daily(600), start="2021-03-15")["net_return"]
    table = monthly_returns(returns)
    assert table.loc[2021, [1, 2]].isna().all()
    assert ((1 + table[list(range(1, 13))]).prod(axis=1) - 1).to_numpy() == pytest.approx(table["year"].to_numpy())
    may = returns.loc["2022-05"]
    assert table.loc[2022, 5] == pytest.approx((1 + may).prod() - 1)


def test_rolling_volatility_looks_back_only():
    returns = account(daily(200))["net_return"]
    rolling = rolling_volatility(returns, window=63)
    assert rolling.iloc[:62].isna().all()
    assert rolling.iloc[100] == pytest.approx(returns.iloc[38:101].std() * math.sqrt(252))


def test_limit_use_counts_what_is_beyond():
    dates = pd.to_datetime(["2024-01-02", "2024-01-03", "2024-01-04"])
    rows = pd.DataFrame(
        {"date": dates, "factor": "beta", "exposure": [0.005, 0.0125, -0.01], "forecast_risk": [0.1, 0.2, 0.3]}
    )
    rows = rows.assign(limit_lower=-0.01, limit_upper=0.01)
    free = rows.assign(factor="market", limit_lower=np.nan, limit_upper=np.nan, exposure=9.0)
    use = limit_use(pd.concat([rows, free]))
    assert use.loc["beta", ["dates", "beyond", "last"]].tolist() == [3, 1, -0.01]
    assert use.loc["beta", "largest_excess"] == pytest.approx(0.0025)
    assert use.loc["market", ["beyond", "largest_excess"]].tolist() == [0, 0.0]
    with pytest.raises(DataError, match="twice"):
        limit_use(pd.concat([rows, rows]))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda nav: nav.drop(columns="cost"), "cost"),
        (lambda nav: nav.iloc[::-1], "ascending"),
        (lambda nav: pd.concat([nav, nav]), "ascending"),
        (lambda nav: nav.reset_index(), "indexed by"),
        (lambda nav: nav.assign(net_return=[np.nan, *[0.0] * 29]), "2021-01-04"),
    ],
)
def test_an_account_that_cannot_be_used_is_refused(damage, message):
    with pytest.raises(DataError, match=message):
        statistics(damage(account(daily(30))))


def rounds_of(scores, start="2021-01-04"):
    dates = pd.date_range(start, periods=len(scores), freq="W-MON")
    frame = pd.DataFrame(scores, index=dates, columns=[f"m{j}" for j in range(np.shape(scores)[1])])
    long = frame.rename_axis(index="date").reset_index().melt("date", var_name="model", value_name="true_contribution")
    return long.dropna().assign(stake=1.0)


def test_bootstrap_error_of_overlapping_rounds():
    rng = np.random.default_rng(11)
    truth, stated = [], []
    for _ in range(40):
        shocks = rng.standard_normal((163, 2))
        overlapping = np.stack([shocks[k : k + 160] for k in range(4)]).mean(axis=0)
        summary = contribution_summary(rounds_of(overlapping), block=8, draws=300).sort_index()
        truth.append(summary["true_contribution"])
        stated.append(summary["standard_error"])
    spread = float(np.std(np.concatenate(truth), ddof=1))
    naive = 0.5 / math.sqrt(160)
    assert float(np.mean(stated)) == pytest.approx(spread, rel=0.2)
    assert float(np.mean(stated)) > 1.5 * naive, "rounds whose windows overlap are not independent"


def test_contribution_summary_of_models_with_gaps():
    scores = np.array([[0.1, -0.2], [0.3, np.nan], [-0.1, np.nan], [0.1, -0.4]])
    summary = contribution_summary(rounds_of(scores), block=1)
    assert summary.index.tolist() == ["m0", "m1"]
    assert summary["rounds"].tolist() == [4, 2]
    assert summary["true_contribution"].tolist() == pytest.approx([0.1, -0.3])
    assert summary["share_positive"].tolist() == [0.75, 0.0]
    assert summary["standard_error"].notna().all()
    pd.testing.assert_frame_equal(summary, contribution_summary(rounds_of(scores), block=1))
    assert contribution_summary(rounds_of(scores), block=3)["standard_error"].isna().all(), "fewer than two blocks"
    assert contribution_summary(rounds_of(scores).iloc[:0], block=1).empty
    with pytest.raises(DataError, match="twice"):
        contribution_summary(pd.concat([rounds_of(scores)] * 2), block=1)


def test_one_block_per_round_is_the_classical_error():
    scores = np.random.default_rng(5).standard_normal((400, 1))
    stated = contribution_summary(rounds_of(scores), block=1, draws=4000)["standard_error"].iloc[0]
    assert stated == pytest.approx(scores.std(ddof=0) / 20, rel=0.05)


def test_blocks_span_twice_the_overlap():
    days = pd.bdate_range("2024-01-01", periods=60)
    assert scoring_block(days[::5], days, 22) == 10
    assert scoring_block(days[::21], days, 20) == 2
    assert scoring_block(days[:1], days, 22) == 2


def test_a_record_is_fit_for_json():
    record = statistics(account(daily(1))).as_record()
    assert record["sharpe_net"] is None
    assert json.loads(json.dumps(record, allow_nan=False))["sessions"] == 1.0
