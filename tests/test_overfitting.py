from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import rankdata

from backtest import overfitting
from backtest.overfitting import probability_of_overfitting
from risk import DataError


def noise(periods=403, trials=30, seed=0):
    return np.random.default_rng(seed).standard_t(5, (periods, trials)) * 0.01


def by_hand(returns, blocks):
    """Logits, picks and their ratios half by half, from the days themselves."""
    n = returns.shape[1]
    days = np.array_split(np.arange(len(returns)), blocks)
    rows = []
    for chosen in combinations(range(blocks), blocks // 2):
        inside = np.concatenate([days[k] for k in chosen])
        outside = np.concatenate([days[k] for k in range(blocks) if k not in chosen])
        x = returns[inside].mean(axis=0) / returns[inside].std(axis=0, ddof=1)
        y = returns[outside].mean(axis=0) / returns[outside].std(axis=0, ddof=1)
        rank, pick = rankdata(y), int(x.argmax())
        rows.append((math.log(rank[pick] / (n + 1 - rank[pick])), pick, x[pick], y[pick]))
    return np.array(sorted(rows))


@pytest.mark.parametrize(("blocks", "trials"), [(2, 5), (4, 30), (8, 31)])
def test_against_the_days_themselves(blocks, trials):
    returns = noise(trials=trials)
    found = probability_of_overfitting(returns, blocks=blocks)
    mine = np.array(sorted(zip(found.logits, found.selected, found.in_sample, found.out_of_sample, strict=True)))
    truth = by_hand(returns, blocks)
    assert len(found.logits) == math.comb(blocks, blocks // 2)
    np.testing.assert_allclose(mine, truth, rtol=1e-9, atol=1e-12)
    assert found.probability == pytest.approx((truth[:, 0] < 0).mean() + (truth[:, 0] == 0).mean() / 2)
    assert found.probability_of_loss == pytest.approx((truth[:, 3] < 0).mean())
    if blocks > 2:
        slope, intercept = np.polyfit(truth[:, 2], truth[:, 3], 1)
        assert (found.slope, found.intercept) == pytest.approx((slope, intercept), rel=1e-8)


def test_pieces_do_not_matter(monkeypatch):
    whole = probability_of_overfitting(noise(), blocks=10)
    monkeypatch.setattr(overfitting, "_CHUNK", 30 * 7)
    pieces = probability_of_overfitting(noise(), blocks=10)
    assert np.sort(pieces.logits) == pytest.approx(np.sort(whole.logits), abs=1e-12)
    assert pieces.slope == pytest.approx(whole.slope)


def test_the_number_of_halves_of_the_paper():
    assert len(probability_of_overfitting(noise(160, 3)).logits) == 12_870


def test_equal_trials_that_differ_by_chance_alone_are_always_overfit():
    # Every trial has the same mean over all days: what is best in one half must be poor in the other.
    returns = noise(600, 50)
    found = probability_of_overfitting(returns - returns.mean(axis=0), blocks=8)
    assert found.probability > 0.98
    assert found.slope == pytest.approx(-1.0, abs=0.1)
    assert found.probability_of_loss == 1.0


def test_a_trial_that_is_truly_better_is_no_overfit():
    returns = noise(600, 50)
    returns[:, 13] += 0.01
    found = probability_of_overfitting(returns, blocks=8)
    assert found.probability == 0.0
    assert (found.selected == 13).all()
    assert found.probability_of_loss == 0.0


@pytest.mark.parametrize(("trials", "shared"), [(2, 0.0), (9, 0.0), (40, 0.0), (40, 1.0)])
def test_noise_is_overfit_in_half_the_cases(trials, shared):
    found = []
    for seed in range(200):
        rng = np.random.default_rng([2, trials, seed])
        returns = rng.standard_t(4, (128, trials)) + shared * rng.standard_normal((128, 1))
        found.append(probability_of_overfitting(returns, blocks=8).probability)
    # Exactly 0.5 by symmetry, ties at the median counted half; 3.3 standard errors are passed by 1 seed in 1000.
    assert abs(np.mean(found) - 0.5) < 3.3 * np.std(found, ddof=1) / math.sqrt(200)


def test_odd_numbers_of_trials_have_their_middle_counted_half():
    found = probability_of_overfitting(noise(200, 5), blocks=8)
    assert (found.logits == 0).any()
    assert found.probability == pytest.approx((found.logits < 0).mean() + (found.logits == 0).mean() / 2)


@settings(max_examples=40)
@given(st.integers(0, 10_000), st.floats(1e-6, 1e6), st.integers(2, 12))
def test_scale_and_order_of_trials_do_not_matter(seed, scale, trials):
    rng = np.random.default_rng(seed)
    returns = rng.standard_normal((40, trials))
    a = probability_of_overfitting(returns, blocks=4)
    order = rng.permutation(trials)
    b = probability_of_overfitting(returns[:, order] * scale, blocks=4)
    assert b.probability == a.probability
    assert b.in_sample == pytest.approx(a.in_sample, rel=1e-9, abs=1e-12)
    assert 0 <= a.probability <= 1


@settings(max_examples=20)
@given(st.integers(0, 10_000))
def test_trials_recorded_twice_share_their_rank(seed):
    # Twins tie in both halves: with ties at their mean the logit stays the lone trial's, up to the coarser ranks.
    returns = np.random.default_rng(seed).standard_normal((48, 6))
    lone = probability_of_overfitting(returns, blocks=4)
    twins = probability_of_overfitting(np.repeat(returns, 2, axis=1), blocks=4)
    assert np.sort(twins.selected // 2).tolist() == np.sort(lone.selected).tolist()
    assert twins.probability == pytest.approx(lone.probability)


def test_a_small_spread_about_a_large_mean_keeps_its_digits():
    returns = noise(200, 8) * 1e-6 + 1.0
    found = probability_of_overfitting(returns, blocks=4)
    truth = by_hand(returns, 4)
    assert np.sort(found.in_sample) == pytest.approx(np.sort(truth[:, 2]), rel=1e-6)


def test_a_trial_that_rests_over_a_half_counts_as_nothing_there():
    returns = noise(64, 4)
    returns[:32, 2] = 0.0
    found = probability_of_overfitting(returns, blocks=2)
    assert found.undefined == 1
    assert np.isfinite(found.logits).all()
    assert probability_of_overfitting(noise(64, 4), blocks=2).undefined == 0


@pytest.mark.parametrize(
    ("returns", "blocks", "message"),
    [
        (noise(40, 1), 4, "at least 2 trials"),
        (noise(40, 3), 5, "even"),
        (noise(40, 3), 22, "even number from 2 to T/2"),
        (noise(40, 3), 0, "even"),
        (noise(40, 3)[:, 0], 4, r"\(T, n\)"),
        (np.column_stack([noise(40, 2), np.full(40, 0.001)]), 4, "trial 2 .* do not vary"),
        (np.where(np.arange(40)[:, None] == 3, np.nan, noise(40, 3)), 4, "finite"),
    ],
)
def test_what_cannot_be_judged_is_refused(returns, blocks, message):
    with pytest.raises(DataError, match=message):
        probability_of_overfitting(returns, blocks=blocks)
