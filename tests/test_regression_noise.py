"""The noise of the regression: its closed forms against explicit matrices and against repetition."""

from __future__ import annotations

import numpy as np
import pytest
from planted_market import plain_spec

from risk.covariance import factor_covariance
from risk.noise import regression_noise, remove_noise, variance_outside
from risk.regression import constrained_least_squares, constraint_rows

FACTORS = ("market", "country:A", "country:B", "country:C", "style:size")


def cross_section(seed: int, n: int = 40) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return X, regression weights, constraints and specific variances per year."""
    rng = np.random.default_rng(seed)
    size = np.exp(rng.normal(0, 1, n))
    X = np.column_stack([np.ones(n), np.eye(3)[np.arange(n) % 3], rng.standard_normal(n)])
    return X, np.sqrt(size), constraint_rows(X, (slice(1, 4),), size), np.exp(rng.normal(-2, 0.5, n))


def regression_matrix(X: np.ndarray, weights: np.ndarray, constraints: np.ndarray) -> np.ndarray:
    """Return P, shape (K, n), one regression of the engine per column."""
    columns = [constrained_least_squares(X, unit, weights, constraints).factor_returns for unit in np.eye(len(X))]
    return np.column_stack(columns)


def test_noise_and_leverage_are_those_of_the_regression_itself() -> None:
    X, weights, constraints, d = cross_section(1)
    P = regression_matrix(X, weights, constraints)
    noise = regression_noise(X, weights, constraints, d)
    np.testing.assert_allclose(noise.covariance, P @ np.diag(d) @ P.T, rtol=1e-10, atol=1e-14)
    np.testing.assert_allclose(noise.leverage, np.diag(X @ P), rtol=1e-10)
    assert noise.leverage.sum() == pytest.approx(len(FACTORS) - 1, rel=1e-12)


def test_specific_variances_are_what_they_were_before_the_regression() -> None:
    X, weights, constraints, d = cross_section(2)
    leaves = np.eye(len(X)) - X @ regression_matrix(X, weights, constraints)
    residual = np.diag(leaves @ np.diag(d) @ leaves.T)
    noise = regression_noise(X, weights, constraints, d)
    np.testing.assert_allclose(variance_outside(noise.covariance, residual, X) / noise.kept, d, rtol=1e-10)
    assert residual.sum() < 0.95 * d.sum()


def test_an_asset_that_is_a_factor_by_itself_keeps_a_quarter() -> None:
    X, weights, constraints, d = cross_section(3)
    X = np.column_stack([X, np.eye(len(X))[0]])
    noise = regression_noise(X, weights, np.column_stack([constraints, [0.0]]), d)
    assert noise.leverage[0] == pytest.approx(1.0)
    restored = variance_outside(noise.covariance, np.r_[0.0, d[1:]], X) / noise.kept
    assert np.isfinite(restored).all()
    assert (restored >= 0).all()


def test_noise_is_subtracted_where_there_is_more_than_noise() -> None:
    rng = np.random.default_rng(4)
    root = rng.standard_normal((6, 6))
    noise = 0.05 * root @ root.T
    truth = root @ np.diag(rng.uniform(0.5, 2, 6)) @ root.T
    less, limited = remove_noise(truth + noise, noise)
    np.testing.assert_allclose(less, truth, rtol=1e-9, atol=1e-9)
    assert limited == 0


def test_what_is_hardly_more_than_noise_keeps_a_quarter_and_is_counted() -> None:
    covariance, noise = np.diag([1.0, 2.0, 4.0]), np.diag([1.5, 0.5, 0.0])
    less, limited = remove_noise(covariance, noise)
    np.testing.assert_allclose(less, np.diag([0.25, 1.5, 4.0]), rtol=1e-12, atol=1e-12)
    assert limited == 1


def test_a_covariance_without_full_rank_keeps_its_rank() -> None:
    covariance = np.array([[1.0, -1.0], [-1.0, 1.0]])
    less, limited = remove_noise(covariance, 0.1 * covariance)
    np.testing.assert_allclose(less, 0.9 * covariance, atol=1e-12)
    assert limited == 0


def test_the_forecast_is_that_of_the_factors_themselves() -> None:
    X, weights, constraints, d = cross_section(5, 240)
    rng = np.random.default_rng(6)
    P = regression_matrix(X, weights, constraints)
    f = rng.standard_normal((6000, 5)) * [0.1, 0.06, 0.06, 0.06, 0.03]
    f[:, 1:4] -= f[:, 1:4] @ constraints[0, 1:4][:, None]
    seen = (f @ X.T + rng.standard_normal((6000, 240)) * np.sqrt(d)) @ P.T
    here = np.ones(f.shape, dtype=bool)
    lasting = {"volatility_half_life": 1e9, "correlation_half_life": 1e9, "eigenvalue_floor": 1e-4}
    spec = plain_spec(newey_west_lags=0, correlation_newey_west_lags=0, **lasting)
    noise = regression_noise(X, weights, constraints, d).covariance
    with_noise = factor_covariance(seen, here, FACTORS, spec, 1).matrix
    without = factor_covariance(seen, here, FACTORS, spec, 1, regression_noise=noise)
    truth = f.T @ f / len(f)
    assert (np.diag(with_noise) / np.diag(truth)).max() > 1.3
    np.testing.assert_allclose(np.diag(without.matrix), np.diag(truth), rtol=0.06)
    assert without.limited_noise == 0
