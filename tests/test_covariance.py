"""The factor covariance against its formula written as loops, and what it does with factors that come and go."""

from __future__ import annotations

import numpy as np
import pytest

from risk import RiskSpec
from risk.covariance import exponential_weights, factor_covariance, newey_west

FACTORS = ("market", "country:A", "country:B", "style:size")


def returns(seed: int, days: int = 300) -> np.ndarray:
    rng = np.random.default_rng(seed)
    noise = rng.standard_normal((days + 1, 4)) * [0.01, 0.004, 0.006, 0.002]
    return noise[1:] + 0.3 * noise[:-1]


def slow_moment(f: np.ndarray, half_life: float, lags: int, i: int, j: int) -> float:
    T = len(f)
    weights = [0.5 ** ((T - 1 - t) / half_life) for t in range(T)]
    total = sum(weights)
    result = 0.0
    for lag in range(lags + 1):
        bartlett = 1 - lag / (lags + 1)
        for t in range(lag, T):
            weight = (weights[t] * weights[t - lag]) ** 0.5 / total
            if lag == 0:
                result += weight * f[t, i] * f[t, j]
            else:
                result += bartlett * weight * (f[t, i] * f[t - lag, j] + f[t - lag, i] * f[t, j])
    return result


def test_covariance_is_its_formula() -> None:
    f, spec = returns(1), RiskSpec(eigenvalue_floor=0.0)
    fast = factor_covariance(f, np.ones_like(f, dtype=bool), FACTORS, spec, 252)
    slow = np.empty((4, 4))
    for i in range(4):
        for j in range(4):
            volatility = [slow_moment(f, 84, 2, k, k) ** 0.5 for k in (i, j)]
            moments = [slow_moment(f, 252, 2, a, b) for a, b in ((i, j), (i, i), (j, j))]
            slow[i, j] = 252 * volatility[0] * volatility[1] * moments[0] / (moments[1] * moments[2]) ** 0.5
    np.testing.assert_allclose(fast.matrix, slow, rtol=1e-10)
    assert fast.floored_eigenvalues == 0
    assert fast.blended == ()


def test_without_lags_it_is_the_weighted_second_moment() -> None:
    f, weights = returns(2), exponential_weights(300, 50)
    np.testing.assert_allclose(newey_west(f, weights, 0), np.einsum("t,ti,tj->ij", weights, f, f), rtol=1e-12)
    assert weights.sum() == pytest.approx(1.0)
    assert weights[-51] == pytest.approx(weights[-1] / 2)


def test_serial_correlation_raises_the_forecast_as_theory_says() -> None:
    f = returns(3, 20_000)[:, :1]
    flat = np.full(20_000, 1 / 20_000)
    ratio = newey_west(f, flat, 2)[0, 0] / newey_west(f, flat, 0)[0, 0]
    # moving average of order 1 with 0.3: lag-1 correlation 0.3/1.09, Bartlett weight 2/3
    assert ratio == pytest.approx(1 + 2 * (2 / 3) * 0.3 / 1.09, abs=0.02)


@pytest.mark.parametrize("lags", [0, 1, 2, 5, 30])
def test_the_moment_is_positive_semidefinite_whatever_the_lags(lags: int) -> None:
    rng = np.random.default_rng(5)
    f = rng.standard_normal((40, 12)) * (-1.0) ** np.arange(40)[:, None]
    f[rng.random(f.shape) < 0.4] = 0.0
    values = np.linalg.eigvalsh(newey_west(f, exponential_weights(40, 20), lags))
    assert values[0] > -1e-12 * values[-1]


def test_days_of_absence_do_not_lower_the_volatility() -> None:
    rng = np.random.default_rng(6)
    f, present = rng.standard_normal((2000, 4)) * 0.01, np.ones((2000, 4), dtype=bool)
    present[:, 2] = rng.random(2000) < 0.5
    f[~present] = 0.0
    spec = RiskSpec(newey_west_lags=0, volatility_half_life=500.0)
    result = factor_covariance(f, present, FACTORS, spec, 252)
    np.testing.assert_allclose(np.sqrt(np.diag(result.matrix)), 0.01 * np.sqrt(252), rtol=0.06)
    assert result.days.tolist() == [2000, 2000, present[:, 2].sum(), 2000]


def test_missing_overlap_pulls_correlations_towards_zero() -> None:
    rng = np.random.default_rng(7)
    common = rng.standard_normal(1000)
    f = np.column_stack([common, common, rng.standard_normal(1000), rng.standard_normal(1000)]) * 0.01
    present = np.ones((1000, 4), dtype=bool)
    present[:750, 1] = False
    f[~present] = 0.0
    spec = RiskSpec(newey_west_lags=0, correlation_half_life=1e9, eigenvalue_floor=0.0)
    matrix = factor_covariance(f, present, FACTORS, spec, 252).matrix
    correlation = matrix[0, 1] / np.sqrt(matrix[0, 0] * matrix[1, 1])
    assert correlation == pytest.approx(0.5, abs=0.05)  # sqrt of the quarter of days that overlap


def test_a_young_factor_is_blended_with_its_family() -> None:
    f, present = returns(8), np.ones((300, 4), dtype=bool)
    f[:237, 2], present[:237, 2] = 0.0, False  # 63 days of 126
    spec = RiskSpec(newey_west_lags=0)
    result = factor_covariance(f, present, FACTORS, spec, 252)
    weights = exponential_weights(300, 84)
    own = (weights * f[:, 2] ** 2).sum() / weights[237:].sum() * 252
    family = (weights * f[:, 1] ** 2).sum() * 252
    assert result.blended == ("country:B",)
    assert result.matrix[2, 2] == pytest.approx(0.5 * own + 0.5 * family, rel=1e-12)


def test_a_factor_never_seen_gets_its_familys_variance_and_no_correlation() -> None:
    f, present = returns(9), np.ones((300, 4), dtype=bool)
    f[:, 2], present[:, 2] = 0.0, False
    result = factor_covariance(f, present, FACTORS, RiskSpec(), 252)
    assert result.matrix[2, 2] == pytest.approx(result.matrix[1, 1], rel=1e-12)
    assert np.abs(np.delete(result.matrix[2], 2)).max() == 0.0
    assert result.blended == ("country:B",)


def test_low_eigenvalues_are_raised_and_counted_and_variances_kept() -> None:
    f = returns(10)
    f[:, 2] = -2 * f[:, 1]  # a constraint: one combination never moves
    present = np.ones((300, 4), dtype=bool)
    plain = factor_covariance(f, present, FACTORS, RiskSpec(eigenvalue_floor=0.0), 252).matrix
    floored = factor_covariance(f, present, FACTORS, RiskSpec(), 252)
    assert floored.floored_eigenvalues == 1
    np.testing.assert_allclose(np.diag(floored.matrix), np.diag(plain), rtol=1e-12)
    deviation = np.sqrt(np.diag(floored.matrix))
    assert np.linalg.eigvalsh(floored.matrix / np.outer(deviation, deviation))[0] == pytest.approx(0.01, rel=0.02)
