from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom
from sklearn.metrics import silhouette_samples

from backtest.sharpe import sharpe_ratios, sharpe_sample
from backtest.sharpe_tests import deflated_sharpe, expected_maximum
from backtest.trial_count import cluster_returns, cluster_trials, effective_rank, noise_maximum
from risk import DataError


def variants(ideas, each, rho, periods=750, seed=0):
    rng = np.random.default_rng(seed)
    idea = np.repeat(rng.standard_normal((periods, ideas)), each, axis=1)
    return math.sqrt(rho) * idea + math.sqrt(1 - rho) * rng.standard_normal(idea.shape)


@pytest.mark.parametrize(("ideas", "each", "rho"), [(2, 20, 0.5), (7, 9, 0.6), (40, 3, 0.7), (5, 60, 0.3)])
def test_planted_ideas_are_found(ideas, each, rho):
    found = cluster_trials(variants(ideas, each, rho))
    assert found.count == ideas
    assert found.labels.tolist() == np.repeat(np.arange(ideas), each).tolist()


def test_ideas_of_one_variant_stand_alone():
    returns = np.column_stack([variants(3, 10, 0.6), np.random.default_rng(5).standard_normal((750, 25))])
    found = cluster_trials(returns)
    assert found.count == 28
    assert np.bincount(found.labels).tolist() == [10, 10, 10] + [1] * 25


@pytest.mark.parametrize("trials", [10, 100, 300])
def test_noise_forms_no_groups(trials):
    joined = 0
    for seed in range(20):
        returns = np.random.default_rng([1, seed]).standard_t(5, (500, trials))
        joined += cluster_trials(returns).count < trials
    # At most one data set in 20 holds a pair above the bound; 5 of 20 would be a chance of 1 in 400.
    assert joined <= 4


def test_silhouettes_against_scikit_learn():
    returns = variants(6, 5, 0.5, seed=3)
    found = cluster_trials(returns)
    distance = np.sqrt(np.maximum(1 - np.corrcoef(returns.T), 0) / 2)
    np.fill_diagonal(distance, 0.0)
    truth = silhouette_samples(distance, found.labels, metric="precomputed")
    assert found.silhouettes == pytest.approx(truth, abs=1e-10)
    assert found.quality == pytest.approx(truth.mean() / truth.std())


def test_no_cut_above_the_noise_has_better_silhouettes():
    from scipy.cluster.hierarchy import fcluster, linkage
    from scipy.spatial.distance import squareform

    returns = np.column_stack([variants(4, 6, 0.4, seed=8), variants(3, 4, 0.8, seed=9)])
    found = cluster_trials(returns)
    apart = 1 - np.corrcoef(returns.T)
    apart = (apart + apart.T) / 2
    np.fill_diagonal(apart, 0.0)
    tree = linkage(squareform(apart, checks=False), "average")
    qualities = {}
    for count in range(2, returns.shape[1]):
        labels = fcluster(tree, count, "maxclust")
        if tree[returns.shape[1] - count - 1, 2] < 1 - found.noise_correlation:
            s = silhouette_samples(np.sqrt(apart / 2), labels, metric="precomputed")
            qualities[count] = s.mean() / s.std()
    assert found.count == max(qualities, key=qualities.__getitem__)
    assert found.quality == pytest.approx(max(qualities.values()), rel=1e-8)


@settings(max_examples=25)
@given(st.integers(0, 10_000), st.integers(2, 15))
def test_scale_and_order_do_not_matter(seed, trials):
    rng = np.random.default_rng(seed)
    returns = rng.standard_normal((60, trials)) + rng.standard_normal((60, 1))
    order = rng.permutation(trials)
    a, b = cluster_trials(returns), cluster_trials(returns[:, order] * rng.uniform(0.1, 9.0, trials))
    assert a.count == b.count
    together = a.labels[:, None] == a.labels
    assert ((b.labels[:, None] == b.labels) == together[np.ix_(order, order)]).all()
    assert effective_rank(returns[:, order]) == pytest.approx(effective_rank(returns))
    assert 1 <= effective_rank(returns) <= trials + 1e-9


def test_copies_are_one_trial():
    one = np.random.default_rng(0).standard_normal((300, 1))
    copies = one * np.array([1.0, 2.0, 0.3, 7.0]) + 0.01
    assert cluster_trials(copies).count == 1
    assert effective_rank(copies) == pytest.approx(1.0)
    assert noise_maximum(copies).independent_trials == 1.0
    for returns in (one, copies[:, :1]):
        assert cluster_trials(returns).count == 1
        assert effective_rank(returns) == 1.0
        assert noise_maximum(returns).independent_trials == 1.0


def test_cluster_returns_are_means_at_equal_risk():
    returns = variants(3, 4, 0.5) * np.linspace(0.001, 0.02, 12)
    found = cluster_trials(returns)
    scaled = returns / returns.std(axis=0)
    expected = np.column_stack([scaled[:, found.labels == k].mean(axis=1) for k in range(3)])
    assert cluster_returns(returns, found) == pytest.approx(expected, rel=1e-12)
    with pytest.raises(DataError, match="12 trials"):
        cluster_returns(returns[:, :5], found)


def test_effective_rank_of_known_correlations():
    # Equal correlations c of n trials: n/(1 + (n - 1) c^2).
    rng = np.random.default_rng(2)
    returns = math.sqrt(0.5) * rng.standard_normal((20_000, 1)) + math.sqrt(0.5) * rng.standard_normal((20_000, 30))
    assert effective_rank(returns) == pytest.approx(30 / (1 + 29 * 0.25), rel=0.05)
    wide = np.random.default_rng(3).standard_normal((200, 400))
    assert effective_rank(wide) == pytest.approx(400, rel=0.1), "more trials than days, no dependence"


@pytest.mark.parametrize("trials", [5, 50, 500])
def test_the_maximum_of_independent_trials(trials):
    returns = np.random.default_rng(4).standard_normal((2000, trials))
    found = noise_maximum(returns, draws=4000)
    exact = {5: 1.16296, 50: 2.24907, 500: 3.03670}[trials]
    deviation = found.maxima.std(ddof=1)
    # The sample's own correlations move the mean by less than the draws' error times 3 more.
    assert found.expected == pytest.approx(exact, abs=6 * deviation / math.sqrt(4000))
    assert 0.8 * trials < found.independent_trials <= trials
    assert expected_maximum(found.independent_trials) == pytest.approx(found.excess, rel=1e-6)


def test_what_all_trials_share_leaves_their_number():
    rng = np.random.default_rng(6)
    own, market = rng.standard_normal((1000, 100)), rng.standard_normal((1000, 1))
    alone, shared = noise_maximum(own), noise_maximum(own + 2 * market)
    assert shared.independent_trials == pytest.approx(alone.independent_trials, rel=0.15)
    assert shared.expected < 0.6 * alone.expected, "one return moves them all"
    assert effective_rank(own + 2 * market) < 2


def test_the_simulated_test_has_its_level_under_dependence():
    significant = deflated = 0
    for seed in range(300):
        returns = variants(8, 8, 0.7, periods=250, seed=[9, seed])
        ratios = sharpe_ratios(returns, periods_per_year=1)
        sample = sharpe_sample(returns[:, ratios.argmax()])
        luck = noise_maximum(returns, draws=400, seed=seed)
        significant += luck.p_value(sample.ratio / sample.standard_error) <= 0.05
        found = deflated_sharpe(sample, trials=luck.independent_trials, trial_variance=float(ratios.var(ddof=1)))
        deflated += found.probability > 0.95
    low, high = binom.ppf([0.001, 0.999], 300, 0.05)
    assert low <= significant <= high
    assert deflated <= high


def test_p_values_count_draws():
    found = noise_maximum(np.random.default_rng(0).standard_normal((100, 5)), draws=199)
    assert found.p_value(math.inf) == 1 / 200
    assert found.p_value(-math.inf) == 1.0
    assert found.p_value(float(found.maxima[100])) == 100 / 200
    again = noise_maximum(np.random.default_rng(0).standard_normal((100, 5)), draws=199)
    assert (found.maxima == again.maxima).all()


@pytest.mark.parametrize("count", [cluster_trials, effective_rank, noise_maximum])
@pytest.mark.parametrize(
    ("returns", "message"),
    [
        (np.zeros((10, 3)), "at least 20"),
        (np.full((30, 3), np.nan), "finite"),
        (np.column_stack([np.arange(30.0), np.ones(30)]), "trial 1 .* do not vary"),
        (np.arange(30.0), r"\(T, n\)"),
    ],
)
def test_what_cannot_be_counted_is_refused(count, returns, message):
    with pytest.raises(DataError, match=message):
        count(returns)


def test_too_few_draws_are_refused():
    with pytest.raises(DataError, match="draws"):
        noise_maximum(np.random.default_rng(0).standard_normal((30, 3)), draws=50)
