from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.signal import lfilter
from scipy.stats import binom

from backtest import bootstrap
from backtest.bootstrap import bootstrap_interval, sharpe_interval, stationary_block_length, stationary_indices
from backtest.sharpe import sharpe_ratio, sharpe_sample
from risk import DataError


def first_order(rho, periods, rng):
    return lfilter([1.0], [1.0, -rho], rng.standard_normal(periods + 200))[200:]


def mean(sample):
    return sample.mean(axis=1)


@given(st.integers(1, 60), st.floats(1.0, 60.0), st.integers(1, 8), st.integers(0, 99))
def test_resamples_are_blocks_on_a_circle(periods, block, resamples, seed):
    block = min(block, periods)
    days = stationary_indices(periods, block, resamples, np.random.default_rng(seed))
    assert days.shape == (resamples, periods)
    assert days.min() >= 0
    assert days.max() < periods


def test_block_lengths_are_geometric():
    days = stationary_indices(1000, 8.0, 200, np.random.default_rng(0))
    joined = np.diff(days, axis=1) % 1000 == 1
    # A block goes on with probability 7/8, and a new one follows on by chance once in 8000: 199,800 draws, 4 errors.
    p = 7 / 8 + 1 / 8000
    assert joined.mean() == pytest.approx(p, abs=4 * math.sqrt(p * (1 - p) / joined.size))
    counts = np.bincount(days.ravel(), minlength=1000)
    assert counts.mean() == 200
    assert counts.std() < 60, "every day is as likely"


def test_a_block_of_one_draws_days_independently():
    days = stationary_indices(50, 1.0, 4000, np.random.default_rng(1))
    x = np.random.default_rng(2).standard_normal(50)
    spread = x[days].mean(axis=1).std()
    assert spread == pytest.approx(x.std() / math.sqrt(50), rel=0.05)


@pytest.mark.parametrize("rho", [0.2, 0.5, 0.8])
def test_the_block_length_of_a_first_order_process(rho):
    # G = 2 rho/(1 - rho)^2 and g = (1 + rho)/(1 - rho), so b = (2 rho/(1 - rho^2))^(2/3) T^(1/3).
    T = 20_000
    found = [stationary_block_length(first_order(rho, T, np.random.default_rng([4, s]))) for s in range(20)]
    assert np.mean(found) == pytest.approx((2 * rho / (1 - rho**2)) ** (2 / 3) * T ** (1 / 3), rel=0.15)


def test_the_block_length_of_noise_is_short_and_bounded():
    lengths = [stationary_block_length(np.random.default_rng(s).standard_normal(1000)) for s in range(50)]
    assert np.median(lengths) < 2.5
    trend = np.arange(100.0)
    assert stationary_block_length(trend) <= min(3 * 10, 100 / 3)
    assert stationary_block_length(np.full(50, 0.1)) == 1.0


def test_the_error_of_a_mean_follows_autocorrelation():
    rng = np.random.default_rng(6)
    found = [bootstrap_interval(first_order(0.5, 1000, rng), mean, resamples=400).standard_error for _ in range(30)]
    truth = 1 / (1 - 0.5) / math.sqrt(1000)
    assert np.mean(found) == pytest.approx(truth, rel=0.12)
    assert np.mean(found) > 1.4 / math.sqrt(1 - 0.25) / math.sqrt(1000), "days that depend on one another know less"


@pytest.mark.parametrize("law", ["normal", "student"])
def test_intervals_hold_the_true_ratio_as_often_as_they_say(law):
    replications, held = 200, 0
    for seed in range(replications):
        rng = np.random.default_rng([8, seed])
        noise = rng.standard_normal(500) if law == "normal" else rng.standard_t(5, 500) / math.sqrt(5 / 3)
        found = sharpe_interval(noise + 1.0 / math.sqrt(252), level=0.90, resamples=300, seed=seed)
        held += found.lower <= 1.0 <= found.upper
    # The band of 99.8 %; the interval itself is exact only as T grows, and 1 % is left for that.
    low, high = binom.ppf([0.001, 0.999], replications, [0.89, 0.91])
    assert low <= held <= high


def test_the_ratio_and_its_interval_agree_with_the_closed_forms():
    x = np.random.default_rng(9).normal(0.0008, 0.01, 2000)
    found = sharpe_interval(x, resamples=4000)
    assert found.estimate == pytest.approx(sharpe_ratio(x), rel=1e-12)
    assert found.standard_error == pytest.approx(sharpe_sample(x).standard_error * math.sqrt(252), rel=0.06)
    rate = np.full(2000, 0.0001)
    assert sharpe_interval(x, risk_free=rate).estimate == pytest.approx(sharpe_ratio(x, risk_free=rate))


def test_the_same_seed_gives_the_same_interval_however_it_is_cut(monkeypatch):
    x = np.random.default_rng(10).standard_normal(200)
    a = bootstrap_interval(x, mean, resamples=500, seed=3)
    assert bootstrap_interval(x, mean, resamples=500, seed=3) == a
    assert bootstrap_interval(x, mean, resamples=500, seed=4) != a
    monkeypatch.setattr(bootstrap, "_CHUNK", 200 * 7)
    other = bootstrap_interval(x, mean, resamples=500, seed=3)
    assert other.standard_error == pytest.approx(a.standard_error, rel=0.15)


def test_series_side_by_side_keep_their_days():
    rng = np.random.default_rng(12)
    market = rng.standard_normal(1500)
    both = np.column_stack([0.4 * market + 0.5 * rng.standard_normal(1500), market])

    def slope(sample):
        centred = sample - sample.mean(axis=1, keepdims=True)
        return (centred[:, :, 0] * centred[:, :, 1]).sum(axis=1) / (centred[:, :, 1] ** 2).sum(axis=1)

    found = bootstrap_interval(both, slope, resamples=1000)
    assert found.lower < 0.4 < found.upper
    assert found.standard_error == pytest.approx(0.5 / math.sqrt(1500), rel=0.15)


@given(st.integers(0, 200))
def test_an_interval_surrounds_its_resamples(seed):
    x = np.random.default_rng(seed).standard_normal(30)
    found = bootstrap_interval(x, mean, resamples=50, seed=seed)
    narrow = bootstrap_interval(x, mean, resamples=50, seed=seed, level=0.6)
    assert found.lower <= narrow.lower <= narrow.upper <= found.upper


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: bootstrap_interval(np.zeros(19), mean), "at least 20"),
        (lambda: bootstrap_interval([math.nan] * 30, mean), "finite"),
        (lambda: bootstrap_interval(np.arange(30.0), mean, level=95), "level"),
        (lambda: bootstrap_interval(np.arange(30.0), mean, resamples=0), "resamples"),
        (lambda: bootstrap_interval(np.arange(30.0), mean, block_length=0.5), "block length"),
        (lambda: bootstrap_interval(np.arange(30.0), np.mean), "one number for each"),
        (lambda: bootstrap_interval(np.arange(30.0), lambda s: np.where(s[:, 0] > 20, np.nan, 1.0)), "not finite in"),
        (lambda: sharpe_interval([0.001] * 30), "vary"),
        (lambda: stationary_block_length(np.zeros(5)), "at least 20"),
    ],
)
def test_what_cannot_be_resampled_is_refused(call, message):
    with pytest.raises(DataError, match=message):
        call()
