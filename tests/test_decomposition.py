"""Parts of risk sum to the whole, and margins are derivatives."""

from __future__ import annotations

import numpy as np
import pytest

from risk import DataError, FactorModel, decompose


@pytest.fixture
def model() -> FactorModel:
    rng = np.random.default_rng(11)
    root = rng.standard_normal((6, 6)) * 0.1
    return FactorModel(
        [f"A{i}" for i in range(40)],
        [f"f{k}" for k in range(6)],
        rng.standard_normal((40, 6)),
        root @ root.T,
        rng.uniform(0.02, 0.2, 40),
    )


def test_parts_sum_to_the_whole(model: FactorModel) -> None:
    w = np.random.default_rng(12).standard_normal(40) / 10
    parts = decompose(model, w)
    V = model.exposures @ model.factor_covariance @ model.exposures.T + np.diag(model.specific_variance)
    assert parts.volatility == pytest.approx(np.sqrt(w @ V @ w), rel=1e-12)
    assert parts.volatility == pytest.approx(model.volatility(w), rel=1e-12)
    assert parts.factor_variance + parts.specific_variance == pytest.approx(parts.volatility**2, rel=1e-12)
    assert parts.factor_contribution.sum() + parts.specific_contribution == pytest.approx(parts.volatility, rel=1e-12)
    assert parts.contribution.sum() == pytest.approx(parts.volatility, rel=1e-12)
    assert parts.factor_share + parts.specific_share == pytest.approx(1.0, rel=1e-12)
    product = parts.exposures * parts.factor_volatility * parts.factor_correlation
    np.testing.assert_allclose(parts.factor_contribution, product, rtol=1e-12)
    np.testing.assert_allclose(parts.marginal, V @ w / parts.volatility, rtol=1e-11)


def test_correlation_of_a_factor_is_that_of_its_returns_with_the_portfolio(model: FactorModel) -> None:
    rng = np.random.default_rng(13)
    w = rng.standard_normal(40) / 10
    parts = decompose(model, w)
    factors = rng.multivariate_normal(np.zeros(6), model.factor_covariance, 100_000)
    portfolio = factors @ parts.exposures + rng.standard_normal(100_000) * np.sqrt(parts.specific_variance)
    measured = [np.corrcoef(factors[:, k], portfolio)[0, 1] for k in range(6)]
    np.testing.assert_allclose(parts.factor_correlation, measured, atol=0.02)


def test_margins_are_derivatives(model: FactorModel) -> None:
    w = np.random.default_rng(14).standard_normal(40) / 10
    step, parts = 1e-6, decompose(model, w)
    for i in (0, 17, 39):
        bump = step * np.eye(40)[i]
        slope = (model.volatility(w + bump) - model.volatility(w - bump)) / (2 * step)
        assert parts.marginal[i] == pytest.approx(slope, rel=1e-6)


def test_an_empty_portfolio_has_no_parts(model: FactorModel) -> None:
    parts = decompose(model, np.zeros(40))
    assert parts.volatility == parts.specific_contribution == parts.specific_share == parts.factor_share == 0
    assert not parts.contribution.any()
    assert not parts.marginal.any()
    assert not parts.factor_correlation.any()


def test_a_benchmark_without_a_beta_is_refused(model: FactorModel) -> None:
    for benchmark, message in (
        (np.zeros(40), "`benchmark` must hold at least one asset"),
        (np.r_[np.nan, np.ones(39)], "`benchmark` must be finite"),
        (np.ones(39), "`benchmark` must have shape"),
    ):
        with pytest.raises(DataError, match=message):
            model.beta(benchmark)


def test_results_cannot_be_changed(model: FactorModel) -> None:
    with pytest.raises(ValueError, match="read-only"):
        decompose(model, np.ones(40)).contribution[0] = 1.0


@pytest.mark.parametrize("weights", [np.ones(39), np.full(40, np.nan)])
def test_weights_of_another_shape_or_not_finite_are_refused(model: FactorModel, weights: np.ndarray) -> None:
    with pytest.raises(DataError, match="`weights` must"):
        decompose(model, weights)
