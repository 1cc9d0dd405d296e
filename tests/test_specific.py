"""Specific risk: its formula, short histories, shrinkage and floor."""

from __future__ import annotations

import numpy as np
import pytest
from planted_market import plain_spec

from risk.moments import exponential_weights, newey_west_variances
from risk.multiplier import regime_multiplier
from risk.shrinkage import shrink_to_size
from risk.specific import OwnVariance, own_variance, specific_risk
from risk.structural import robust_trust, structural_volatility


def own(e: np.ndarray, half_life: float, lags: int) -> OwnVariance:
    known = np.isfinite(e)
    return own_variance(np.where(known, e, 0.0), known, np.ones(e.shape[1], bool), half_life, lags)


@pytest.mark.parametrize("lags", [0, 1, 5])
def test_own_variance_is_its_formula(lags: int) -> None:
    rng = np.random.default_rng(21)
    e = rng.standard_normal((150, 6)) * 0.02
    e[rng.random(e.shape) < 0.2] = np.nan
    e[:, 5] = np.nan
    fast = own(e, 84.0, lags)
    for i in range(5):
        top = bottom = 0.0
        for t in range(150):
            weight = 0.5 ** ((149 - t) / 84)
            if np.isfinite(e[t, i]):
                top, bottom = top + weight * e[t, i] ** 2, bottom + weight
            for lag in range(1, min(lags, t) + 1):
                if np.isfinite(e[t, i] * e[t - lag, i]):
                    bartlett = 1 - lag / (lags + 1)
                    top += 2 * bartlett * weight * 0.5 ** (0.5 * lag / 84) * e[t, i] * e[t - lag, i]
        assert fast.variance[i] == pytest.approx(top / bottom, rel=1e-10)
    assert fast.days.tolist() == np.isfinite(e).sum(axis=0).tolist()
    assert np.isnan(fast.variance[5])


@pytest.mark.parametrize(("lags", "uneven", "kurtosis"), [(0, 0.0, 3.0), (3, 0.0, 3.0), (1, 0.5, 4.92)])
def test_the_noise_of_a_volatility_is_what_repetition_shows(lags: int, uneven: float, kurtosis: float) -> None:
    rng = np.random.default_rng(25)
    e = rng.standard_normal((300, 4000)) * rng.choice([1 - uneven, 1 + uneven], (300, 4000))
    e[:150, 2000:] = np.nan
    result = own(e, 42.0, lags)
    assert result.kurtosis == pytest.approx(kurtosis, rel=0.05)
    for half in (slice(0, 2000), slice(2000, None)):
        volatility = np.sqrt(result.variance[half])
        seen = volatility.var() / volatility.mean() ** 2
        assert seen == pytest.approx(result.noise[half].mean(), rel=0.12)


def test_shrinkage_by_hand() -> None:
    volatility, size, members = np.array([0.2, 0.4, 0.3]), np.array([1.0, 3.0, np.nan]), np.array([True, True, False])
    noise = np.array([0.01, 0.03, 0.02])
    error = 0.3**2 * noise  # mean .3
    truth = 0.1**2 - (error[0] + error[1]) / 2  # spread of the members less their noise
    share = error / (error + truth)
    np.testing.assert_allclose(
        shrink_to_size(volatility, noise, size, members, 1.0), share * 0.3 + (1 - share) * volatility, rtol=1e-12
    )
    assert (shrink_to_size(volatility, noise, size, members, 0.0) == volatility).all()


def test_estimates_that_are_all_noise_are_shrunk_to_the_mean() -> None:
    volatility = np.array([0.2, 0.4])
    shrunk = shrink_to_size(volatility, np.full(2, 9.0), np.ones(2), np.ones(2, bool), 1.0)
    np.testing.assert_allclose(shrunk, 0.3, rtol=1e-12)


def test_shrinkage_compares_with_assets_of_like_size() -> None:
    size = np.r_[np.full(100, 1.0), np.full(100, 100.0)]
    volatility = np.r_[np.full(100, 0.6), np.full(100, 0.2)]
    np.testing.assert_allclose(
        shrink_to_size(volatility, np.full(200, 0.01), size, np.ones(200, bool), 5.0), volatility
    )


def test_bayes_rule_has_the_least_error_and_no_bias_in_any_decile() -> None:
    rng = np.random.default_rng(26)
    truth, size = np.exp(rng.normal(-1, 0.35, 20_000)), np.exp(rng.normal(0, 1, 20_000))
    noise = np.full(20_000, 0.15**2)
    estimate = truth * (1 + 0.15 * rng.standard_normal(20_000))
    errors = []
    for strength in (0.0, 0.5, 1.0, 2.0):
        shrunk = shrink_to_size(estimate, noise, size, np.ones(20_000, bool), strength)
        errors.append(((shrunk - truth) ** 2).mean())
        if strength == 1.0:
            deciles = np.array_split(np.argsort(shrunk), 10)
            assert max(abs(truth[d].mean() / shrunk[d].mean() - 1) for d in deciles) < 0.04
    assert errors[2] < min(errors[0], errors[1], errors[3])


def sample(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return specific returns whose volatility is exp of a style exposure, with that exposure."""
    rng = np.random.default_rng(seed)
    style = rng.standard_normal((200, 1))
    truth = 0.02 * np.exp(0.5 * style[:, 0])
    return rng.standard_normal((600, 200)) * truth, np.exp(rng.normal(0, 1, 200)), style, truth * np.sqrt(252)


def test_annual_volatilities_are_recovered() -> None:
    e, size, style, truth = sample(22)
    spec = plain_spec(specific_shrinkage=0.0)
    result = specific_risk(e, size, np.ones(200, bool), style, spec, 252)
    ratio = np.sqrt(result.variance) / truth
    assert np.mean(ratio) == pytest.approx(1.0, abs=0.02)
    assert np.std(ratio) < 0.08  # half-life 84 is worth 242 days: 1/sqrt(484) = 4.5 %, Newey-West a little more
    assert result.short == 0


def test_a_short_history_leans_on_assets_like_it() -> None:
    e, size, style, truth = sample(23)
    spec = plain_spec(specific_shrinkage=0.0)
    e[:-5, :20] = np.nan
    e[:, 20:30] = np.nan
    result = specific_risk(e, size, np.ones(200, bool), style, spec, 252)
    assert result.short == 30
    ratio = np.sqrt(result.variance[:30]) / truth[:30]
    assert ratio.min() > 0.8  # five days alone would be off by a third
    assert ratio.max() < 1.25


def test_a_riskless_asset_is_floored_and_counted() -> None:
    e, size, style, _ = sample(24)
    e[:, 7] = 0.0
    result = specific_risk(e, size, np.ones(200, bool), style, plain_spec(specific_shrinkage=0.0), 252)
    assert result.floored == 1
    assert result.variance[7] == pytest.approx(0.05**2)
    assert (result.variance > 0).all()


def test_assets_without_history_are_structural() -> None:
    e, size, style, truth = sample(27)
    e[:, 20:30] = np.nan
    result = specific_risk(e, size, np.ones(200, bool), style, plain_spec(), 252)
    assert result.without_history == 10
    assert result.short == 10
    ratio = np.sqrt(result.variance[20:30]) / truth[20:30]
    assert ratio.min() > 0.9
    assert ratio.max() < 1.1


def test_a_universe_without_any_history_is_floored_and_counted() -> None:
    e, size, style, _ = sample(28)
    result = specific_risk(np.full_like(e, np.nan), size, np.ones(200, bool), style, plain_spec(), 252)
    assert result.floored == result.without_history == 200


def test_the_structural_fit_is_weighted_least_squares() -> None:
    rng = np.random.default_rng(29)
    style, size = rng.standard_normal((80, 2)), np.exp(rng.normal(0, 1, 80))
    volatility = np.exp(-1 + 0.2 * style[:, 0] - 0.1 * style[:, 1] + 0.1 * rng.standard_normal(80))
    trusted = np.arange(80) < 60
    fast = structural_volatility(volatility, trusted, size, style)
    design = np.column_stack([np.ones(80), style])
    w = np.sqrt(size[:60])
    slopes = np.linalg.solve(design[:60].T @ (w[:, None] * design[:60]), design[:60].T @ (w * np.log(volatility[:60])))
    fit = np.exp(design @ slopes)
    fit *= (w @ volatility[:60]) / (w @ fit[:60])
    inside = (fit > volatility[:60].min()) & (fit < volatility[:60].max())
    np.testing.assert_allclose(fast[inside], fit[inside], rtol=1e-10)


def test_robust_trust_is_its_formula() -> None:
    rng = np.random.default_rng(30)
    e = rng.standard_normal((400, 4)) * 0.01
    e[-253:, 1] *= np.where(np.arange(253) < 40, 9.0, 1.0)  # a change of kind
    e[-20, 2] = 5.0  # one jump, beyond ten robust deviations
    e[-252:-40, 3] = np.nan  # too short to judge
    trust = robust_trust(e)
    recent = np.sort(e[-252:, 1])
    robust = (recent[188] - recent[63]) / 1.3489795
    inside = recent[np.abs(recent) <= 10 * robust]
    z = abs(np.sqrt((inside**2).mean()) - robust) / robust
    assert z > 1
    assert trust[1] == pytest.approx(np.exp(1 - z), rel=1e-6)
    assert trust[[0, 2, 3]].tolist() == [1.0, 1.0, 1.0]


def test_a_history_that_moved_on_few_days_leans_on_assets_like_it() -> None:
    e, size, style, truth = sample(31)
    e[:, 7] = 0.0
    e[::13, 7] = 0.5
    plain = specific_risk(e, size, np.ones(200, bool), style, plain_spec(specific_shrinkage=0.0), 252)
    robust = specific_risk(
        e, size, np.ones(200, bool), style, plain_spec(specific_shrinkage=0.0, specific_robust=True), 252
    )
    assert (plain.fat_tailed, robust.fat_tailed) == (0, 1)
    assert np.sqrt(plain.variance[7]) > 5 * truth[7]
    assert np.sqrt(robust.variance[7]) == pytest.approx(truth[7], rel=0.15)
    np.testing.assert_array_equal(np.delete(robust.variance, 7) > 0, True)


def slow_multiplier(y: np.ndarray, weights: np.ndarray, volatility_half_life: float, half_life: float) -> float:
    T, n = y.shape
    top = bottom = 0.0
    unit = [np.mean([v * v for v in y[:, k] if np.isfinite(v)]) for k in range(n)]
    for t in range(T - int(5 * half_life), T):
        came = forecast = 0.0
        for k in range(n):
            past = [s for s in range(t) if np.isfinite(y[s, k])]
            if len(past) < 63 or not np.isfinite(y[t, k]):
                continue
            u = [0.5 ** ((t - s) / volatility_half_life) for s in past]
            variance = sum(a * y[s, k] ** 2 for a, s in zip(u, past, strict=True)) / sum(u)
            came += weights[k] * y[t, k] ** 2 / unit[k]
            forecast += weights[k] * variance / unit[k]
        if forecast > 0:
            u_t = 0.5 ** ((T - 1 - t) / half_life)
            top, bottom = top + u_t * came / forecast, bottom + u_t
    return top / bottom


def test_the_multiplier_is_its_formula() -> None:
    rng = np.random.default_rng(32)
    y = rng.standard_normal((200, 5)) * [0.01, 0.02, 0.005, 0.03, 0.01]
    y[-30:] *= 1.7
    y[rng.random(y.shape) < 0.1] = np.nan
    y[:150, 3] = np.nan  # too young until the end
    weights = np.array([1.0, 2.0, 0.0, 4.0, 0.5])
    known = np.isfinite(y)
    fast = regime_multiplier(np.where(known, y, 0.0), known, weights, 60.0, 15.0)
    assert fast.variance == pytest.approx(slow_multiplier(y, weights, 60.0, 15.0), rel=1e-10)
    assert (fast.days, fast.cut) == (75, 0)


def test_a_market_twice_as_volatile_is_seen_in_weeks() -> None:
    rng = np.random.default_rng(33)
    y = rng.standard_normal((800, 300)) * 0.01
    y[-42:] *= 2
    found = regime_multiplier(y, np.ones(y.shape, bool), np.ones(300), 84.0, 21.0).variance
    variance = newey_west_variances(y, exponential_weights(800, 84.0), 0).mean()
    assert variance / 0.01**2 < 2.0  # its own history has heard of less than a third of the change
    assert 2.6 < found * variance / 0.01**2 < 5.2
    calm = regime_multiplier(y[:-42], np.ones((758, 300), bool), np.ones(300), 84.0, 21.0).variance
    assert calm == pytest.approx(1.0, abs=0.01)


def test_one_return_does_not_make_a_regime_and_is_counted() -> None:
    rng = np.random.default_rng(34)
    y = rng.standard_normal((400, 50)) * 0.01
    base = regime_multiplier(y, np.ones(y.shape, bool), np.ones(50), 84.0, 42.0)
    y[-1, 0] = 3.0  # 300 deviations
    jump = regime_multiplier(y, np.ones(y.shape, bool), np.ones(50), 84.0, 42.0)
    assert jump.cut == base.cut + 1
    assert jump.variance - base.variance < 0.2  # uncut: 300^2/50 of the last day's 2 %, 30


def test_a_multiplier_without_history_is_one() -> None:
    y = np.ones((62, 3)) * 0.01
    result = regime_multiplier(y, np.ones(y.shape, bool), np.ones(3), 84.0, 42.0)
    assert (result.variance, result.days) == (1.0, 0)
