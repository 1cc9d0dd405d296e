from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.signal import lfilter
from scipy.stats import kstest, norm

from backtest.sharpe import (
    SharpeSample,
    adjusted_sharpe_ratio,
    aggregation_factor,
    excess_returns,
    robust_sharpe_error,
    sharpe_ratio,
    sharpe_ratios,
    sharpe_sample,
)
from backtest.sharpe_tests import (
    deflated_sharpe,
    expected_maximum,
    minimum_track_record,
    probabilistic_sharpe,
)
from risk import DataError

SAMPLES = st.builds(
    SharpeSample,
    ratio=st.floats(-0.5, 0.5),
    skewness=st.floats(-1.5, 1.5),
    kurtosis=st.floats(3.5, 12.0),
    periods=st.integers(20, 5000),
)


def daily(periods=900, seed=0):
    return np.random.default_rng(seed).standard_t(5, periods) * 0.004 + 4e-4


def test_hand_computed_ratio():
    # Mean 0.005, squared deviations sum to 13e-4: 0.005 / sqrt(13e-4 / 3) = 0.2402 per month.
    gains = [0.01, -0.02, 0.03, 0.00]
    assert sharpe_ratio(gains, periods_per_year=12) == pytest.approx(0.005 / math.sqrt(13e-4 / 3) * math.sqrt(12))
    rates = [0.001, 0.002, 0.001, 0.002]
    over = [0.009, -0.022, 0.029, -0.002]
    assert sharpe_ratio(gains, risk_free=rates) == pytest.approx(sharpe_ratio(over), rel=1e-12)
    assert excess_returns(gains, rates) == pytest.approx(over)


def test_trials_side_by_side_are_the_trials_one_by_one():
    returns = np.random.default_rng(1).normal(3e-4, 0.01, (300, 7))
    returns[:, 3] = 0.001
    together = sharpe_ratios(returns)
    assert together == pytest.approx([sharpe_ratio(column) for column in returns.T], nan_ok=True, rel=1e-12)
    assert np.isnan(together).tolist() == [False, False, False, True, False, False, False]


def test_moments_against_sums():
    x = daily()
    z = (x - x.mean()) / x.std()
    sample = sharpe_sample(x)
    assert sample.skewness == pytest.approx((z**3).mean(), rel=1e-10)
    assert sample.kurtosis == pytest.approx((z**4).mean(), rel=1e-10)
    assert sample.ratio * math.sqrt(252) == pytest.approx(sharpe_ratio(x), rel=1e-12)
    assert sharpe_sample(x * 1e-80).kurtosis == pytest.approx(sample.kurtosis, rel=1e-10), "no underflow"


def test_mertens_is_the_influence_series_without_lags():
    x = daily()
    # They differ by the divisor of the standard deviation alone: T - 1 in the ratio, T in the series.
    assert robust_sharpe_error(x, 0) == pytest.approx(sharpe_sample(x).standard_error, rel=1e-4)


@pytest.mark.parametrize("law", ["normal", "student", "skewed"])
def test_the_standard_error_is_the_spread_over_samples(law):
    rng = np.random.default_rng(7)
    draw = {
        "normal": lambda: rng.standard_normal((500, 2000)),
        "student": lambda: rng.standard_t(8, (500, 2000)) / math.sqrt(8 / 6),
        "skewed": lambda: 1.0 - rng.standard_exponential((500, 2000)),
    }[law]()
    returns = draw + 0.2
    spread = sharpe_ratios(returns, periods_per_year=1).std(ddof=1)
    stated = np.mean([sharpe_sample(column).standard_error for column in returns.T[:200]])
    # 2000 draws know a standard deviation to 1.6 % (normal); 4 % is 2.5 of that.
    assert stated == pytest.approx(spread, rel=0.04)
    if law == "skewed":
        assert stated > 1.15 * SharpeSample(0.2, 0.0, 3.0, 500).standard_error, "negative skewness widens the error"


def test_the_robust_error_follows_autocorrelation():
    rng = np.random.default_rng(3)
    noise = rng.standard_normal((1100, 1000))
    returns = lfilter([1.0], [1.0, -0.3], noise, axis=0)[100:] * math.sqrt(1 - 0.09)
    spread = sharpe_ratios(returns, periods_per_year=1).std(ddof=1)
    robust = np.mean([robust_sharpe_error(column) for column in returns.T[:100]])
    plain = np.mean([sharpe_sample(column).standard_error for column in returns.T[:100]])
    # True inflation of the error is sqrt(1.3/0.7) = 1.36; six Bartlett lags see most of it.
    assert plain < 0.78 * spread
    assert robust == pytest.approx(spread, rel=0.10)


def test_published_example_of_the_probabilistic_ratio():
    # Bailey and Lopez de Prado (2012): 24 months, ratio 0.458, skewness -2.448, kurtosis 10.164.
    assert probabilistic_sharpe(SharpeSample(0.458, 0.0, 3.0, 24)) == pytest.approx(0.982, abs=5e-4)
    assert probabilistic_sharpe(SharpeSample(0.458, -2.448, 10.164, 24)) == pytest.approx(0.913, abs=5e-4)


@pytest.mark.parametrize(("periods", "years"), [(250, 2.73), (52, 2.83), (12, 3.24)])
def test_published_track_record_lengths(periods, years):
    # The same paper: years that show an annual ratio of 2 to be above 1 at 95 % for independent normal returns.
    sample = SharpeSample(2 / math.sqrt(periods), 0.0, 3.0, 100)
    assert minimum_track_record(sample, 1 / math.sqrt(periods)) / periods == pytest.approx(years, abs=5e-3)


@pytest.mark.parametrize(
    ("skewness", "kurtosis", "trials", "probability"), [(-3, 10, 100, 0.9004), (-3, 10, 46, 0.9505), (0, 3, 88, 0.9505)]
)
def test_published_example_of_the_deflated_ratio(skewness, kurtosis, trials, probability):
    # Bailey and Lopez de Prado (2014): annual ratio 2.5 over 1250 days of 250 a year, variance of the trials 1/2 per year.
    best = SharpeSample(2.5 / math.sqrt(250), skewness, kurtosis, 1250)
    found = deflated_sharpe(best, trials=trials, trial_variance=0.5 / 250)
    assert found.probability == pytest.approx(probability, abs=5e-5)
    if trials == 100:
        assert found.benchmark == pytest.approx(0.1132, abs=5e-5)


@pytest.mark.parametrize(("trials", "exact"), [(2, 0.56419), (10, 1.53875), (100, 2.50759), (1000, 3.24144)])
def test_expected_maximum_against_the_integral(trials, exact):
    grid = np.linspace(-10, 10, 200001)
    density = trials * norm.pdf(grid) * norm.cdf(grid) ** (trials - 1)
    integral = float(((grid * density)[1:] + (grid * density)[:-1]).sum() / 2 * (grid[1] - grid[0]))
    assert integral == pytest.approx(exact, abs=1e-4)
    assert expected_maximum(trials) == pytest.approx(integral, rel=0.08 if trials == 2 else 0.025)


@given(st.floats(1.0, 1e9), st.floats(1.0, 1e3))
def test_the_expected_maximum_grows_with_trials(trials, more):
    assert expected_maximum(trials * more) >= expected_maximum(trials) - 1e-12


@given(SAMPLES, st.floats(-0.2, 0.2))
def test_the_minimum_record_is_where_the_confidence_is_reached(sample, benchmark):
    length = minimum_track_record(sample, benchmark, confidence=0.95)
    if sample.ratio <= benchmark:
        assert length == math.inf
    elif length < 1e9:
        # As many periods as a real number: the formula of the error needs no whole one.
        longer = SharpeSample(sample.ratio, sample.skewness, sample.kurtosis, length)
        assert probabilistic_sharpe(longer, benchmark) == pytest.approx(0.95, abs=1e-9)


@given(SAMPLES, st.floats(1.0, 1e6), st.floats(0.0, 0.01))
def test_deflating_never_raises_confidence(sample, trials, variance):
    found = deflated_sharpe(sample, trials=trials, trial_variance=variance)
    assert 0 <= found.probability <= probabilistic_sharpe(sample) + 1e-12
    assert found.familywise <= probabilistic_sharpe(sample) + 1e-12
    assert deflated_sharpe(sample, trials=1, trial_variance=variance).probability == probabilistic_sharpe(sample)
    assert deflated_sharpe(sample, trials=2 * trials, trial_variance=variance).probability <= found.probability + 1e-12


@given(st.floats(1e-4, 1e4), st.integers(0, 1000))
def test_the_ratio_has_no_unit(scale, seed):
    x = daily(40, seed)
    a, b = sharpe_sample(x), sharpe_sample(scale * x)
    assert (b.ratio, b.skewness, b.kurtosis) == pytest.approx((a.ratio, a.skewness, a.kurtosis), rel=1e-7, abs=1e-9)
    assert robust_sharpe_error(scale * x) == pytest.approx(robust_sharpe_error(x), rel=1e-7)
    assert sharpe_sample(-x).ratio == pytest.approx(-a.ratio)
    assert sharpe_sample(-x).standard_error == pytest.approx(a.standard_error)


def test_the_confidence_is_uniform_where_there_is_no_skill():
    returns = np.random.default_rng(11).standard_t(6, (400, 800))
    p = [probabilistic_sharpe(sharpe_sample(column)) for column in returns.T]
    # Rejected in 1 of 1000 seeds if the law is the uniform one.
    assert kstest(p, "uniform").pvalue > 0.001
    wrong = [probabilistic_sharpe(sharpe_sample(column), 0.05) for column in returns.T]
    assert kstest(wrong, "uniform").pvalue < 1e-6


@pytest.mark.parametrize("rho", [-0.4, -0.2, 0.2, 0.5, 0.9])
@pytest.mark.parametrize("periods", [2, 12, 250])
def test_aggregation_of_a_first_order_process(rho, periods):
    # Lo (2002), equation 22.
    closed = math.sqrt(periods) / math.sqrt(1 + 2 * rho / (1 - rho) * (1 - (1 - rho**periods) / (periods * (1 - rho))))
    assert aggregation_factor(rho ** np.arange(1, periods), periods) == pytest.approx(closed, rel=1e-12)


def test_aggregation_without_autocorrelation_is_the_root():
    assert aggregation_factor([], 252) == pytest.approx(math.sqrt(252))
    assert aggregation_factor([0.3, 0.1], 1) == 1.0
    assert math.isnan(aggregation_factor([-0.9], 12)), "such a sum would have a negative variance"


def test_the_adjusted_ratio_is_that_of_longer_periods():
    # Sums of 5 returns of a moving average: its ratio per year is what the adjusted daily ratio says.
    rng = np.random.default_rng(5)
    shocks = rng.standard_normal(200_001)
    x = shocks[1:] + 0.5 * shocks[:-1] + 0.05
    weekly = x.reshape(-1, 5).sum(axis=1)
    direct = sharpe_ratio(weekly, periods_per_year=1)
    assert adjusted_sharpe_ratio(x, lags=3, periods_per_year=5) == pytest.approx(direct, rel=0.02)
    assert sharpe_ratio(x, periods_per_year=5) > 1.2 * direct
    assert adjusted_sharpe_ratio(x[:100], lags=0, periods_per_year=5) == pytest.approx(
        sharpe_ratio(x[:100], periods_per_year=5)
    )


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: sharpe_ratio([0.1]), "at least 2"),
        (lambda: sharpe_ratio([0.1, math.nan]), "finite"),
        (lambda: sharpe_ratio([0.1, 0.2], risk_free=[0.0]), "risk_free"),
        (lambda: sharpe_ratio([0.1, 0.2], periods_per_year=0), "periods_per_year"),
        (lambda: sharpe_ratios([0.1, 0.2]), r"\(T, n\)"),
        (lambda: sharpe_sample([0.001] * 30), "vary"),
        (lambda: robust_sharpe_error([0.001] * 30), "vary"),
        (lambda: robust_sharpe_error(daily(30), 30), "lags"),
        (lambda: adjusted_sharpe_ratio(daily(30), lags=-1), "lags"),
        (lambda: SharpeSample(0.5, 3.0, 1.0, 24).standard_error, "no law"),
        (lambda: minimum_track_record(SharpeSample(0.1, 0, 3, 50), confidence=95), "confidence"),
        (lambda: expected_maximum(0.5), "trials"),
        (lambda: expected_maximum(math.nan), "trials"),
        (lambda: deflated_sharpe(SharpeSample(0.1, 0, 3, 50), trials=0, trial_variance=0.1), "trials"),
        (lambda: deflated_sharpe(SharpeSample(0.1, 0, 3, 50), trials=9, trial_variance=-1), "trial_variance"),
        (lambda: aggregation_factor([1.5], 12), "between -1 and 1"),
        (lambda: aggregation_factor([0.1], 0), "periods"),
    ],
)
def test_what_cannot_be_judged_is_refused(call, message):
    with pytest.raises(DataError, match=message):
        call()


def test_returns_that_do_not_vary_have_no_ratio():
    assert math.isnan(sharpe_ratio([0.001] * 30))
    assert math.isnan(adjusted_sharpe_ratio([0.001] * 30))
