"""The factor covariance against its formula written as loops, and what it does with factors that come and go."""

from __future__ import annotations

import numpy as np
import pytest
from planted_market import plain_spec

from risk import DataError
from risk.covariance import factor_covariance
from risk.eigenfactor import EstimationError, eigenfactor_bias, estimation_error, simulate_estimates
from risk.moments import exponential_weights, newey_west, shared_error

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
    f, spec = returns(1), plain_spec(eigenvalue_floor=0.0)
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
    spec = plain_spec(newey_west_lags=0, volatility_half_life=500.0)
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
    spec = plain_spec(newey_west_lags=0, correlation_half_life=1e9, eigenvalue_floor=0.0)
    matrix = factor_covariance(f, present, FACTORS, spec, 252).matrix
    correlation = matrix[0, 1] / np.sqrt(matrix[0, 0] * matrix[1, 1])
    assert correlation == pytest.approx(0.5, abs=0.05)  # sqrt of the quarter of days that overlap


def test_a_young_factor_is_blended_with_its_family() -> None:
    f, present = returns(8), np.ones((300, 4), dtype=bool)
    f[:237, 2], present[:237, 2] = 0.0, False  # 63 days of 126
    spec = plain_spec(newey_west_lags=0)
    result = factor_covariance(f, present, FACTORS, spec, 252)
    weights = exponential_weights(300, 84)
    own = (weights * f[:, 2] ** 2).sum() / weights[237:].sum() * 252
    family = (weights * f[:, 1] ** 2).sum() * 252
    assert result.blended == ("country:B",)
    assert result.matrix[2, 2] == pytest.approx(0.5 * own + 0.5 * family, rel=1e-12)


def test_a_factor_never_seen_gets_its_familys_variance_and_no_correlation() -> None:
    f, present = returns(9), np.ones((300, 4), dtype=bool)
    f[:, 2], present[:, 2] = 0.0, False
    result = factor_covariance(f, present, FACTORS, plain_spec(), 252)
    assert result.matrix[2, 2] == pytest.approx(result.matrix[1, 1], rel=1e-12)
    assert np.abs(np.delete(result.matrix[2], 2)).max() == 0.0
    assert result.blended == ("country:B",)


def test_low_eigenvalues_are_raised_and_counted_and_variances_kept() -> None:
    f = returns(10)
    f[:, 2] = -2 * f[:, 1]  # a constraint: one combination never moves
    present = np.ones((300, 4), dtype=bool)
    plain = factor_covariance(f, present, FACTORS, plain_spec(eigenvalue_floor=0.0), 252).matrix
    floored = factor_covariance(f, present, FACTORS, plain_spec(), 252)
    assert floored.floored_eigenvalues == 1
    np.testing.assert_allclose(np.diag(floored.matrix), np.diag(plain), rtol=1e-12)
    deviation = np.sqrt(np.diag(floored.matrix))
    assert np.linalg.eigvalsh(floored.matrix / np.outer(deviation, deviation))[0] == pytest.approx(0.01, rel=0.02)


def correlated(seed: int, factors: int) -> tuple[np.ndarray, np.ndarray]:
    """Return a correlation matrix with a wide spectrum, and its root."""
    rng = np.random.default_rng(seed)
    loadings = rng.standard_normal((factors, 4))
    covariance = 0.2 * loadings @ loadings.T + np.diag(rng.uniform(0.2, 1.0, factors))
    deviation = np.sqrt(np.diag(covariance))
    correlation = covariance / np.outer(deviation, deviation)
    return correlation, np.linalg.cholesky(correlation)


def names(count: int) -> tuple[str, ...]:
    return tuple(f"style:{k}" for k in range(count))


def sample_estimate(f: np.ndarray, u: np.ndarray, c: np.ndarray, lags: int, more: int) -> np.ndarray:
    volatility = np.sqrt(np.diag(newey_west(f, u, lags)))
    moment = newey_west(f, c, more)
    deviation = np.sqrt(np.diag(moment))
    return moment / np.outer(deviation, deviation) * np.outer(volatility, volatility)


@pytest.mark.parametrize(("lags", "more"), [(0, 0), (1, 4), (5, 2)])
def test_volatilities_and_correlations_have_their_own_lags(lags: int, more: int) -> None:
    f = returns(11, 120)
    spec = plain_spec(eigenvalue_floor=0.0, newey_west_lags=lags, correlation_newey_west_lags=more)
    fast = factor_covariance(f, np.ones_like(f, dtype=bool), FACTORS, spec, 252).matrix
    for i in range(4):
        for j in range(4):
            volatility = [slow_moment(f, 84, lags, k, k) ** 0.5 for k in (i, j)]
            moments = [slow_moment(f, 252, more, a, b) for a, b in ((i, j), (i, i), (j, j))]
            slow = 252 * volatility[0] * volatility[1] * moments[0] / (moments[1] * moments[2]) ** 0.5
            assert fast[i, j] == pytest.approx(slow, rel=1e-10)


@pytest.mark.parametrize(("first", "second"), [(0, 0), (2, 2), (5, 1)])
def test_the_shared_error_is_the_trace_of_both_kernels(first: int, second: int) -> None:
    u, c = exponential_weights(60, 20.0), exponential_weights(60, 45.0)
    distance = np.abs(np.subtract.outer(np.arange(60), np.arange(60)))
    kernels = [
        np.sqrt(np.outer(w, w)) * np.maximum(0.0, 1 - distance / (lags + 1)) for w, lags in ((u, first), (c, second))
    ]
    assert shared_error(u, first, c, second) == pytest.approx(np.trace(kernels[0] @ kernels[1]), rel=1e-10)


def test_drawn_estimates_have_the_errors_of_estimates_from_data() -> None:
    correlation, root = correlated(12, 5)
    u, c = exponential_weights(500, 60.0), exponential_weights(500, 180.0)
    rng = np.random.default_rng(13)
    made = np.array([sample_estimate(rng.standard_normal((500, 5)) @ root.T, u, c, 3, 1) for _ in range(1500)])
    error = EstimationError(shared_error(u, 3, u, 3), shared_error(c, 1, c, 1), shared_error(u, 3, c, 1))
    drawn = simulate_estimates(correlation, error, 3000)
    np.testing.assert_allclose(drawn.std(axis=0), made.std(axis=0), rtol=0.08)
    np.testing.assert_allclose(drawn.mean(axis=0), made.mean(axis=0), atol=0.025)
    flat = [(x - x.mean(axis=0)).reshape(len(x), -1)[:, np.r_[0:5]] for x in (drawn, made)]
    np.testing.assert_allclose(np.corrcoef(flat[0].T), np.corrcoef(flat[1].T), atol=0.09)


@pytest.mark.parametrize(("half_life", "steady"), [(60.0, 180.0), (90.0, 90.0), (180.0, 90.0)])
def test_the_bias_of_eigenfactors_is_what_repetition_from_data_shows(half_life: float, steady: float) -> None:
    correlation, root = correlated(14, 12)
    u, c = exponential_weights(700, half_life), exponential_weights(700, steady)
    rng, ratios, errors = np.random.default_rng(15), [], []
    for _ in range(250):
        f = rng.standard_normal((700, 12)) @ root.T
        f *= np.sqrt(rng.choice([0.4, 1.6], 700))[:, None]  # fat tails that all factors share
        estimate = sample_estimate(f, u, c, 2, 2)
        values, vectors = np.linalg.eigh(estimate)
        ratios.append(np.einsum("ik,ik->k", vectors, correlation @ vectors) / values)
        volatility = np.sqrt(np.diag(estimate))
        standard = estimate / np.outer(volatility, volatility)
        errors.append(estimation_error(f / volatility, standard, u, 2, c, 2))
    # The tails are priced: a share 1 + .6^2 of the error that normal returns have.
    plain = shared_error(c, 2, c, 2)
    share = 1 / plain * np.mean([e.correlation for e in errors])
    assert share == pytest.approx(1 + 0.36 / (19 / 9), rel=0.05)
    mean = EstimationError(*np.mean([[e.volatility, e.correlation, e.shared] for e in errors], axis=0))
    seen = np.sqrt(np.mean(ratios, axis=0))
    np.testing.assert_allclose(eigenfactor_bias(correlation, mean, 600, 0.0), seen, rtol=0.04)
    assert seen[0] > 1.1


def test_the_eigenfactor_step_keeps_variances_and_raises_what_an_optimiser_would_buy() -> None:
    correlation, root = correlated(16, 25)
    rng = np.random.default_rng(17)
    off, on = plain_spec(eigenvalue_floor=0.0), plain_spec(eigenvalue_floor=0.0, eigenfactor_simulations=40)
    ratios = []
    for _ in range(10):
        f = rng.standard_normal((800, 25)) @ root.T * 0.01
        here = np.ones(f.shape, dtype=bool)
        plain, adjusted = (factor_covariance(f, here, names(25), spec, 252) for spec in (off, on))
        np.testing.assert_allclose(np.diag(adjusted.matrix), np.diag(plain.matrix), rtol=1e-12)
        assert adjusted.eigenfactor_multipliers[0] > 1.05 > 1.0 > adjusted.eigenfactor_multipliers[-1]
        truth = correlation * 0.01**2 * 252
        for alpha in rng.standard_normal((20, 25)):
            books = [np.linalg.solve(model.matrix, alpha) for model in (plain, adjusted)]
            pairs = zip(books, (plain.matrix, adjusted.matrix), strict=True)
            ratios.append([(y @ truth @ y) / (y @ F @ y) for y, F in pairs])
    bias = np.sqrt(np.mean(ratios, axis=0))
    assert bias[0] > 1.08
    assert abs(bias[1] - 1) < 0.04


def test_the_eigenfactor_step_gives_the_same_bits_whatever_came_before() -> None:
    f, spec = returns(18), plain_spec(eigenfactor_simulations=10)
    here = np.ones(f.shape, dtype=bool)
    first = factor_covariance(f, here, FACTORS, spec, 252).matrix
    np.random.default_rng(0).standard_normal(99)
    factor_covariance(f[:200], here[:200], FACTORS, spec, 252)
    np.testing.assert_array_equal(factor_covariance(f, here, FACTORS, spec, 252).matrix, first)


def test_a_combination_that_never_moves_is_named_and_left_at_zero_without_a_floor() -> None:
    f = returns(19)
    f[:, 2] = -2 * f[:, 1]
    spec = plain_spec(eigenfactor_simulations=20, eigenvalue_floor=0.0)
    free = factor_covariance(f, np.ones(f.shape, dtype=bool), FACTORS, spec, 252)
    assert free.rank == 3
    assert free.eigenfactor_multipliers[0] == 1.0
    still = np.array([0.0, 2.0, 1.0, 0.0])
    assert abs(still @ free.matrix @ still) < 1e-12
    floored = factor_covariance(f, np.ones(f.shape, dtype=bool), FACTORS, plain_spec(eigenfactor_simulations=20), 252)
    assert floored.rank == 3
    assert len(floored.dependent) == floored.floored_eigenvalues == 1
    assert set(floored.dependent[0]) == {"country:A", "country:B"}
    assert np.isfinite(floored.matrix).all()


def test_fewer_days_than_factors_need_a_floor() -> None:
    root = correlated(20, 30)[1]
    f = np.random.default_rng(21).standard_normal((25, 30)) @ root.T * 0.01
    here = np.ones(f.shape, dtype=bool)
    with pytest.raises(DataError, match="effective observations"):
        factor_covariance(f, here, names(30), plain_spec(eigenvalue_floor=0.0, eigenfactor_simulations=10), 252)
    result = factor_covariance(f, here, names(30), plain_spec(eigenfactor_simulations=10), 252)
    assert result.rank == 25
    assert result.eigenfactor_multipliers[0] > 2
    assert np.linalg.eigvalsh(result.matrix)[0] > 0


def test_factors_that_were_never_there_are_refused() -> None:
    with pytest.raises(DataError, match="present"):
        factor_covariance(np.zeros((70, 4)), np.zeros((70, 4), dtype=bool), FACTORS, plain_spec(), 252)


def test_the_regime_multiplies_the_whole_covariance() -> None:
    f, here = returns(22), np.ones((300, 4), dtype=bool)
    f[-30:] *= 2
    here[-40:, 3], f[-40:, 3] = False, 0.0
    calm, tense = (factor_covariance(f, here, FACTORS, plain_spec(regime_half_life=h), 252) for h in (None, 21.0))
    assert calm.regime.variance == 1.0
    assert tense.regime.variance > 1.3
    assert tense.regime.days == 105
    np.testing.assert_allclose(tense.matrix, calm.matrix * tense.regime.variance, rtol=1e-12)
