from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backtest.series import (
    drawdown,
    drawdowns,
    monthly_returns,
    period_returns,
    rolling_beta,
    rolling_sharpe,
    rolling_volatility,
    worst_drawdown,
)
from backtest.sharpe import sharpe_ratio, sharpe_sample
from backtest.track_record import (
    excess_kurtosis,
    hit_rate,
    holding_period,
    monthly_hit_rate,
    skewness,
    slugging,
    tail_ratio,
)
from risk import DataError
from risk.tails import historical_tail

RETURNS = st.lists(st.sampled_from([-0.3, -0.02, -0.01, 0.0, 0.01, 0.02, 0.4]), min_size=1, max_size=60)


def daily(values, start="2021-01-04"):
    return pd.Series(np.asarray(values, dtype=float), index=pd.bdate_range(start, periods=len(values)))


def sample(periods=700, seed=0):
    return daily(np.random.default_rng(seed).standard_t(5, periods) * 0.004 + 4e-4)


def test_every_drawdown_by_hand():
    # Value: 0.95 | 0.95*1.1 = 1.045 | 0.9405 | 0.8465 | 1.0581 | 1.0581 | 1.0052
    falls = drawdowns(daily([-0.05, 0.1, -0.1, -0.1, 0.25, 0.0, -0.05]))
    assert falls["depth"].tolist() == pytest.approx([-0.05, 0.9 * 0.9 - 1, -0.05])
    days = pd.bdate_range("2021-01-04", periods=7)
    assert falls["peak"].tolist() == [days[0], days[1], days[5]]
    assert falls["trough"].tolist() == [days[0], days[3], days[6]]
    assert falls["recovered"].tolist()[:2] == [days[1], days[4]]
    assert falls["recovered"].isna().tolist() == [False, False, True]
    assert falls["sessions"].tolist() == [2, 3, 1]
    assert falls["sessions_to_trough"].tolist() == [1, 2, 1]
    assert falls["sessions_to_recover"].tolist()[:2] == [1.0, 1.0]
    assert math.isnan(falls["sessions_to_recover"].iloc[2])


@given(RETURNS)
def test_drawdowns_cover_the_days_below_the_high(values):
    returns = daily(values)
    falls, fall = drawdowns(returns), drawdown(returns)
    below = int((fall < 0).sum())
    # From the high to recovery is one session more than there are below; an open one ends at the last session.
    assert int(falls["sessions"].sum()) == below + int(falls["recovered"].notna().sum())
    assert int(falls["recovered"].isna().sum()) == int(fall.iloc[-1] < 0)
    worst = worst_drawdown(returns)
    if falls.empty:
        assert worst.depth == 0.0
        return
    deepest = falls.loc[falls["depth"].idxmin()]
    assert deepest["depth"] == worst.depth
    assert (deepest["peak"], deepest["trough"]) == (worst.peak, worst.trough)
    assert (None if pd.isna(deepest["recovered"]) else deepest["recovered"]) == worst.recovered
    assert (falls["trough"] >= falls["peak"]).all()
    assert falls["depth"].tolist() == [fall[trough] for trough in falls["trough"]]


def test_no_drawdown_and_no_day_at_all():
    for returns in (daily([0.01, 0.0, 0.02]), daily([])):
        falls = drawdowns(returns)
        assert falls.empty
        assert falls.columns.tolist()[0] == "depth"


def test_a_total_loss_is_never_recovered():
    falls = drawdowns(daily([0.1, -1.5, 3.0]))
    assert falls["depth"].tolist() == [-1.0]
    assert falls["recovered"].isna().all()


def test_rolling_numbers_are_those_of_their_window():
    returns, market = sample(400), sample(400, 1)
    returns = returns + 0.3 * market
    rolling, beta = rolling_sharpe(returns, window=126), rolling_beta(returns, market, window=126)
    assert rolling.iloc[:125].isna().all()
    assert beta.iloc[:125].isna().all()
    for last in (125, 300, 399):
        days = slice(last - 125, last + 1)
        assert rolling.iloc[last] == pytest.approx(sharpe_ratio(returns.iloc[days]), rel=1e-10)
        assert beta.iloc[last] == pytest.approx(np.polyfit(market.iloc[days], returns.iloc[days], 1)[0], rel=1e-8)
    scale = rolling * rolling_volatility(returns, window=126) / 252
    assert scale.dropna().to_numpy() == pytest.approx(returns.rolling(126).mean().dropna().to_numpy(), abs=1e-12)
    assert rolling_sharpe(returns.iloc[:100]).isna().all()
    market.iloc[50] = np.nan
    unknown = rolling_beta(returns, market, window=126)
    assert unknown.iloc[125:176].isna().all()
    assert unknown.iloc[176] == pytest.approx(beta.iloc[176], rel=1e-8)
    with pytest.raises(DataError, match="dates of `returns`"):
        rolling_beta(returns, market.iloc[1:])


def test_a_window_that_does_not_vary_has_no_sharpe_ratio():
    returns = daily([0.001] * 10 + [0.002, 0.001, 0.003])
    assert rolling_sharpe(returns, window=5).isna().tolist() == [True] * 10 + [False] * 3


def test_periods_are_the_cells_of_the_monthly_table():
    returns = sample(500)
    table = monthly_returns(returns)
    months, years = period_returns(returns, "month"), period_returns(returns, "year")
    for first, value in months.items():
        assert value == pytest.approx(table.loc[first.year, first.month], rel=1e-12)
    assert years.tolist() == pytest.approx(table["year"].tolist(), rel=1e-12)
    assert monthly_hit_rate(returns) == pytest.approx((months > 0).mean())


def test_moments_against_sums():
    x = sample().to_numpy()
    z = (x - x.mean()) / x.std()
    assert skewness(x) == pytest.approx((z**3).mean(), rel=1e-10)
    assert excess_kurtosis(x) == pytest.approx((z**4).mean() - 3, rel=1e-10)
    assert sharpe_sample(x).skewness == pytest.approx(skewness(x), rel=1e-9)
    assert excess_kurtosis(x * 1e-80) == pytest.approx(excess_kurtosis(x), rel=1e-9)
    assert math.isnan(skewness([0.1] * 5))
    assert math.isnan(excess_kurtosis([0.1] * 5))


def test_tails_of_a_known_law():
    uniform = np.linspace(-1, 2, 3001)
    assert tail_ratio(uniform) == pytest.approx(1.85 / 0.85)
    assert tail_ratio(-uniform) == pytest.approx(0.85 / 1.85)
    assert math.isnan(tail_ratio(np.linspace(0.0, 1.0, 50)))
    tail = historical_tail(uniform, level=0.95)
    assert tail.value_at_risk == pytest.approx(0.85, abs=2e-3)
    assert tail.expected_shortfall == pytest.approx(0.925, abs=2e-3)


@given(st.lists(st.floats(-0.2, 0.2), min_size=1, max_size=50))
def test_hits_and_their_size_explain_the_mean(values):
    x = np.array(values)
    gains, losses = (x > 0).sum(), (x < 0).sum()
    assert hit_rate(x) == gains / len(x)
    assert hit_rate(-x) == losses / len(x)
    ratio = slugging(x)
    if not (gains and losses):
        assert math.isnan(ratio)
        return
    # Profit factor: total gain over total loss is slugging times hits over misses.
    assert ratio * gains * -x[x < 0].sum() / losses == pytest.approx(x[x > 0].sum(), rel=1e-9)


def test_holding_periods():
    # A fifth of a book of gross 4 is replaced every day: held five days.
    assert holding_period([4.0] * 10, [0.8] * 10) == pytest.approx(5.0)
    assert holding_period([1.0, 1.0], [0.0, 0.0]) == math.inf
    assert math.isnan(holding_period([0.0], [0.0]))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: skewness([0.1, 0.2]), "at least 3"),
        (lambda: excess_kurtosis([0.1, 0.2, 0.3]), "at least 4"),
        (lambda: tail_ratio([0.1, 0.2], level=95), "level"),
        (lambda: hit_rate([]), "at least 1"),
        (lambda: hit_rate([math.nan]), "finite"),
        (lambda: slugging([0.1, math.inf]), "finite"),
        (lambda: holding_period([1.0], [0.1, 0.1]), "length"),
        (lambda: holding_period([1.0], [-0.1]), "negative"),
    ],
)
def test_what_has_no_answer_is_refused(call, message):
    with pytest.raises(DataError, match=message):
        call()
