"""Statistics against the functions that define them, and the intervals that stand beside them."""

from __future__ import annotations

import json
import math

import numpy as np
import pandas as pd
import pytest
from daily_account import account, daily, decisions

from backtest.series import rolling_sharpe
from backtest.sharpe import adjusted_sharpe_ratio, robust_sharpe_error, sharpe_ratio, sharpe_sample
from backtest.sharpe_record import sharpe_record
from backtest.sharpe_tests import minimum_track_record, probabilistic_sharpe
from backtest.statistic_intervals import _estimators, with_bootstrap
from backtest.statistics import SUMMARY, statistics
from risk.tails import historical_tail


def test_one_formula_for_each_word():
    nav = account(daily(), fees=5e-5)
    found, before = statistics(nav), nav["return_before_fees"].to_numpy()
    sample = sharpe_sample(before)
    assert found["sharpe_before_fees"].value == sharpe_ratio(before)
    assert found["sharpe_standard_error"].value == pytest.approx(sample.standard_error * math.sqrt(252), rel=1e-12)
    assert found["sharpe_robust_error"].value == pytest.approx(robust_sharpe_error(before) * math.sqrt(252), rel=1e-12)
    assert found["sharpe_adjusted_net"].value == adjusted_sharpe_ratio(nav["net_return"])
    assert found["probabilistic_sharpe"].value == probabilistic_sharpe(sample)
    assert found["minimum_track_record"].value == math.ceil(minimum_track_record(sample))
    assert found["expected_shortfall_95"].value == historical_tail(before, level=0.95).expected_shortfall
    band = found["sharpe_before_fees"].band
    assert (band.lower + band.upper) / 2 == pytest.approx(found["sharpe_before_fees"].value, rel=1e-12)
    assert (band.upper - band.lower) / 2 == pytest.approx(1.959964 * found["sharpe_robust_error"].value, rel=1e-6)


def test_a_record_that_proves_nothing_has_no_length():
    found = statistics(account(-np.abs(daily())))
    assert math.isnan(found["minimum_track_record"].value)
    assert "not above 0" in found["minimum_track_record"].note
    assert found["probabilistic_sharpe"].value < 1e-6


def test_windows_of_a_constant_fund_stay_in_their_band():
    inside = []
    for seed in range(40):
        returns = pd.Series(np.random.default_rng(seed).normal(4e-4, 0.005, 2520))
        band = sharpe_record(returns).window_band(252)
        windows = rolling_sharpe(returns, window=252).to_numpy()[251::252]
        inside += [band.lower < ratio < band.upper for ratio in windows]
    # The band is about the run's own ratio, so that windows of that run lie in it a little more often than 95 %.
    assert 0.93 <= np.mean(inside) <= 0.99


def test_bootstrap_intervals_are_of_the_statistics_they_stand_beside():
    nav = account(daily(), fees=5e-5).assign(nav=1e8)
    found = statistics(nav)
    resampled = with_bootstrap(found, nav, resamples=200, seed=3)
    changed = [old.name for old, new in zip(found, resampled, strict=True) if old.band != new.band]
    estimators = _estimators(nav, 252)
    assert set(changed) == set(estimators)
    for name, (returns, of) in estimators.items():
        assert resampled[name].band.lower < resampled[name].value < resampled[name].band.upper or name == "max_drawdown"
        assert "bootstrap in blocks of" in resampled[name].band.method
        if of is not None:
            assert of(returns.to_numpy()[None])[0] == pytest.approx(found[name].value, rel=1e-9), name
    assert resampled["beta"] == found["beta"]
    assert resampled == with_bootstrap(found, nav, resamples=200, seed=3)
    assert resampled["sharpe_net"].band != with_bootstrap(found, nav, resamples=200, seed=4)["sharpe_net"].band


def test_what_cannot_be_resampled_says_so_or_keeps_its_band():
    gains = np.abs(daily(40))
    gains[5] = -1e-3
    nav = account(gains)
    resampled = with_bootstrap(statistics(nav), nav, resamples=300)
    assert resampled["slugging"].band is None
    assert "no bootstrap interval: `statistic` must be finite" in resampled["slugging"].note
    lost = account([*daily(60), -1.5])
    found = statistics(lost)
    assert with_bootstrap(found, lost, resamples=50)["max_drawdown"].band is None
    few = account(daily(10))
    assert with_bootstrap(statistics(few), few) == statistics(few)


def test_a_record_holds_bands_and_every_word_is_explained():
    nav = account(daily())
    found = statistics(nav, solves=decisions(nav), volatility_limit=0.1)
    record = found.as_record()
    assert record["sharpe_net_lower"] < record["sharpe_net"] < record["sharpe_net_upper"]
    assert "turnover_lower" not in record
    json.dumps(record, allow_nan=False)
    names = [item.name for item in found]
    assert len(set(names)) == len(names)
    assert set(SUMMARY) <= set(names)
    assert [item.name for group in found.groups().values() for item in group] == names, "groups stand together"
    for item in found:
        assert item.definition.endswith(".")
        assert item.convention == "" or item.convention.endswith(".")
        assert not item.note.endswith(".")
