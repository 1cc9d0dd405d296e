"""quantstats and empyrical-reloaded beside ours: equal where definitions are, and different for the stated reason where not."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pandas as pd
import pytest
import quantstats.stats as peer

from backtest.series import drawdown, drawdowns, growth, monthly_returns, period_returns, rolling_beta, rolling_sharpe
from backtest.sharpe import SharpeSample, adjusted_sharpe_ratio, sharpe_ratio, sharpe_sample
from backtest.sharpe_tests import probabilistic_sharpe
from backtest.track_record import excess_kurtosis, hit_rate, monthly_hit_rate, skewness, slugging, tail_ratio
from risk.tails import historical_tail

T = 700


@pytest.fixture
def returns():
    x = np.random.default_rng(0).standard_t(5, T) * 0.004 + 4e-4
    return pd.Series(x, index=pd.bdate_range("2021-01-04", periods=T))


@pytest.fixture
def market(returns):
    x = 0.5 * returns.to_numpy() + np.random.default_rng(1).normal(0, 0.01, T)
    return pd.Series(x, index=returns.index)


@pytest.fixture
def empyrical():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("empyrical")


def expected_shortfall(returns):
    """Ours, and checked to be the mean of the quantiles with the i-th of n lowest at i/(n + 1)."""
    ours = historical_tail(returns, level=0.95).expected_shortfall
    middle = (np.arange(20_000) + 0.5) / 20_000 * 0.05
    assert ours == pytest.approx(-np.quantile(returns, middle, method="weibull").mean(), rel=1e-4)
    return ours


def test_equal_to_quantstats(returns, market):
    assert sharpe_ratio(returns) == pytest.approx(peer.sharpe(returns, periods=252), rel=1e-12)
    assert slugging(returns) == pytest.approx(peer.payoff_ratio(returns), rel=1e-12)
    assert tail_ratio(returns) == pytest.approx(peer.tail_ratio(returns), rel=1e-12)
    assert hit_rate(returns) == pytest.approx(peer.win_rate(returns), rel=1e-12)
    assert monthly_hit_rate(returns) == pytest.approx(peer.win_rate(returns, aggregate="ME"), rel=1e-12)
    theirs = peer.rolling_sharpe(returns, rolling_period=126, periods_per_year=252)
    assert rolling_sharpe(returns, window=126).iloc[125:].to_numpy() == pytest.approx(theirs.iloc[125:].to_numpy())
    beta = peer.rolling_greeks(returns, market, periods=126)["beta"]
    assert rolling_beta(returns, market, window=126).iloc[125:].to_numpy() == pytest.approx(beta.iloc[125:].to_numpy())
    table = peer.monthly_returns(returns)
    assert monthly_returns(returns)["year"].to_numpy() == pytest.approx(table["EOY"].to_numpy(dtype=float), rel=1e-9)


def test_moments_differ_from_quantstats_by_the_correction_for_small_samples(returns):
    assert peer.skew(returns) == pytest.approx(skewness(returns) * math.sqrt(T * (T - 1)) / (T - 2), rel=1e-9)
    corrected = (T - 1) / ((T - 2) * (T - 3)) * ((T + 1) * excess_kurtosis(returns) + 6)
    assert peer.kurtosis(returns) == pytest.approx(corrected, rel=1e-9)


def test_the_probabilistic_ratio_differs_from_quantstats_by_those_moments(returns):
    ours = sharpe_sample(returns)
    theirs = SharpeSample(ours.ratio, peer.skew(returns), peer.kurtosis(returns) + 3, T)
    assert peer.probabilistic_sharpe_ratio(returns) == pytest.approx(probabilistic_sharpe(theirs), rel=1e-10)
    assert probabilistic_sharpe(ours) == pytest.approx(probabilistic_sharpe(theirs), abs=1e-4)
    assert probabilistic_sharpe(ours) != probabilistic_sharpe(theirs)


def test_hits_differ_from_quantstats_by_days_at_zero(returns):
    still = returns.where(np.arange(T) % 7 != 0, 0.0)
    assert hit_rate(still) == pytest.approx(peer.win_rate(still) * (still != 0).mean(), rel=1e-12)


def test_months_of_quantstats_are_pooled_over_years_unless_asked(returns):
    pooled = (1 + returns).groupby(returns.index.month).prod() - 1
    assert peer.win_rate(returns, aggregate="month") == pytest.approx((pooled > 0).mean())
    assert len(period_returns(returns, "month")) > len(pooled) == 12


def test_tails_differ_from_quantstats_by_the_law(returns):
    # Theirs is the quantile of a normal law with the sample's mean and deviation, negative for a loss.
    assert peer.value_at_risk(returns, confidence=0.95) == pytest.approx(
        returns.mean() - 1.6448536 * returns.std(), rel=1e-7
    )
    assert historical_tail(returns, level=0.95).value_at_risk == pytest.approx(
        -np.quantile(returns, 0.05, method="weibull"), rel=1e-12
    )
    # Historical: they average what is at or below the interpolated quantile, ours is the mean of our quantiles below 5 %.
    theirs = peer.conditional_value_at_risk(returns, confidence=0.95, method="historical")
    assert theirs == pytest.approx(returns[returns <= returns.quantile(0.05)].mean(), rel=1e-12)
    assert expected_shortfall(returns) != pytest.approx(-theirs, rel=1e-6)


def test_drawdowns_of_quantstats_end_a_day_earlier_and_count_calendar_days(returns):
    theirs = peer.drawdown_details(drawdown(returns))
    ours = drawdowns(returns)
    assert len(theirs) == len(ours)
    assert theirs["max drawdown"].to_numpy() / 100 == pytest.approx(ours["depth"].to_numpy(), rel=1e-12)
    assert pd.to_datetime(theirs["valley"]).tolist() == ours["trough"].tolist()
    # Theirs starts on the first day below the high, ours on the day of the high; theirs ends on the last day below it.
    place = pd.Series(np.arange(T), index=returns.index)
    back = ours["recovered"].notna().to_numpy()
    assert (place[pd.to_datetime(theirs["start"])].to_numpy()[1:] == place[ours["peak"]].to_numpy()[1:] + 1).all()
    assert (
        place[pd.to_datetime(theirs["end"])[back]].to_numpy() == place[ours["recovered"][back]].to_numpy() - 1
    ).all()


def test_the_adjusted_ratio_differs_from_quantstats_by_the_sign_of_autocorrelation():
    shocks = np.random.default_rng(2).normal(0, 0.01, T + 1)
    falls_back = pd.Series(shocks[1:] - 0.4 * shocks[:-1] + 1e-3, index=pd.bdate_range("2021-01-04", periods=T))
    # Theirs takes the absolute value of the first autocorrelation and its powers, so that it always lowers the ratio.
    assert peer.smart_sharpe(falls_back, periods=252) < sharpe_ratio(falls_back)
    assert adjusted_sharpe_ratio(falls_back) > sharpe_ratio(falls_back)


def test_equal_to_empyrical(empyrical, returns, market):
    assert sharpe_ratio(returns) == pytest.approx(empyrical.sharpe_ratio(returns), rel=1e-12)
    rate = np.full(T, 1e-4)
    assert sharpe_ratio(returns, risk_free=rate) == pytest.approx(
        empyrical.sharpe_ratio(returns, risk_free=1e-4), rel=1e-10
    )
    assert tail_ratio(returns) == pytest.approx(empyrical.tail_ratio(returns), rel=1e-12)
    assert drawdown(returns).min() == pytest.approx(empyrical.max_drawdown(returns), rel=1e-12)
    assert growth(returns).iloc[-1] ** (252 / T) - 1 == pytest.approx(empyrical.annual_return(returns), rel=1e-10)
    rolling = empyrical.roll_sharpe_ratio(returns, window=126)
    assert rolling_sharpe(returns, window=126).iloc[125:].to_numpy() == pytest.approx(rolling.to_numpy(), rel=1e-9)
    beta = empyrical.roll_beta(returns, market, window=126)
    assert rolling_beta(returns, market, window=126).iloc[125:].to_numpy() == pytest.approx(beta.to_numpy(), rel=1e-9)
    monthly = empyrical.aggregate_returns(returns, "monthly")
    assert period_returns(returns, "month").to_numpy() == pytest.approx(monthly.to_numpy(), rel=1e-9, abs=1e-15)


def test_tails_differ_from_empyrical_by_where_an_order_statistic_stands(empyrical, returns):
    assert empyrical.value_at_risk(returns) == pytest.approx(np.quantile(returns, 0.05, method="linear"), rel=1e-12)
    worst = np.sort(returns.to_numpy())[: int(0.05 * (T - 1)) + 1]
    assert empyrical.conditional_value_at_risk(returns) == pytest.approx(worst.mean(), rel=1e-12)
    assert expected_shortfall(returns) != pytest.approx(-worst.mean(), rel=1e-6)
