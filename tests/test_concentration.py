"""Effective numbers count equal things, and bets' variances sum to the portfolio's."""

from __future__ import annotations

import numpy as np
import pytest

from risk import DataError, FactorModel, decompose
from risk.concentration import concentration


def model_of(F: np.ndarray, n: int = 30) -> FactorModel:
    rng = np.random.default_rng(51)
    X = rng.standard_normal((n, len(F)))
    return FactorModel([f"A{i}" for i in range(n)], [f"f{k}" for k in range(len(F))], X, F, rng.uniform(0.02, 0.2, n))


@pytest.fixture
def model() -> FactorModel:
    root = np.random.default_rng(52).standard_normal((5, 3)) * 0.1  # two ranks short
    return model_of(root @ root.T)


@pytest.fixture
def w() -> np.ndarray:
    return np.random.default_rng(53).standard_normal(30) / 10


def test_equal_positions_count_themselves(model: FactorModel) -> None:
    w = np.r_[np.full(8, 0.1), np.full(2, -0.1), np.zeros(20)]
    result = concentration(model, w, top=(1, 5, 10, 100))
    assert result.positions == 10
    assert result.effective_positions == pytest.approx(10, rel=1e-12)
    assert (result.effective_longs, result.effective_shorts) == (pytest.approx(8), pytest.approx(2))
    np.testing.assert_allclose(result.top_gross, [0.1, 0.5, 1.0, 1.0], rtol=1e-12)


def test_the_effective_number_lies_between_1_and_the_count(model: FactorModel, w: np.ndarray) -> None:
    result = concentration(model, w)
    assert 1 < result.effective_positions < result.positions
    assert result.effective_positions == pytest.approx(np.abs(w).sum() ** 2 / (w @ w), rel=1e-12)
    one = concentration(model, np.eye(30)[4])
    assert one.effective_positions == one.effective_risk_positions == pytest.approx(1, rel=1e-12)


def test_bets_are_uncorrelated_and_sum_to_the_variance(model: FactorModel, w: np.ndarray) -> None:
    result, parts = concentration(model, w), decompose(model, w)
    assert result.factor_bets.sum() + parts.specific_share == pytest.approx(1.0, rel=1e-12)
    assert (result.factor_bets >= 0).all()
    # The same from the definition: z = C^(1/2)-whitened factors, each bet the part of the book's return along one of them.
    deviation = np.sqrt(np.diag(model.factor_covariance))
    values, vectors = np.linalg.eigh(model.factor_covariance / np.outer(deviation, deviation))
    half = vectors @ np.diag(np.sqrt(np.maximum(values, 0))) @ vectors.T
    np.testing.assert_allclose(half @ half, model.factor_covariance / np.outer(deviation, deviation), atol=1e-8)
    exposures = half @ (deviation * parts.exposures)
    np.testing.assert_allclose(result.factor_bets * parts.volatility**2, exposures**2, rtol=1e-6, atol=1e-12)
    p = np.r_[exposures**2, model.specific_variance * w * w] / parts.volatility**2
    assert result.effective_bets == pytest.approx(np.exp(-(p @ np.log(p))), rel=1e-6)


def test_equal_uncorrelated_bets_count_themselves() -> None:
    base = model_of(np.diag([0.04, 0.01, 0.09]))
    # Exposures of equal risk to two uncorrelated factors and none to the third; next to no specific risk.
    w = np.linalg.lstsq(base.exposures.T, np.array([0.1, 0.2, 0.0]), rcond=None)[0]
    quiet = FactorModel(base.assets, base.factors, base.exposures, base.factor_covariance, np.full(30, 1e-14))
    result = concentration(quiet, w)
    assert result.effective_factor_bets == pytest.approx(2.0, rel=1e-9)
    assert result.effective_bets == pytest.approx(2.0, rel=1e-6)
    np.testing.assert_allclose(result.factor_bets, [0.5, 0.5, 0.0], atol=1e-6)


def test_bets_do_not_depend_on_the_units_of_factors(model: FactorModel, w: np.ndarray) -> None:
    scale = np.array([1.0, 10.0, 0.1, -3.0, 2.0])
    F = model.factor_covariance * np.outer(scale, scale)
    other = FactorModel(model.assets, model.factors, model.exposures / scale, F, model.specific_variance)
    first, second = concentration(model, w), concentration(other, w)
    np.testing.assert_allclose(first.factor_bets, second.factor_bets, rtol=1e-6, atol=1e-12)
    assert first.effective_bets == pytest.approx(second.effective_bets, rel=1e-8)


def test_top_risk_adds_the_largest_contributions(model: FactorModel, w: np.ndarray) -> None:
    shares = np.sort(decompose(model, w).contribution)[::-1] / model.volatility(w)
    result = concentration(model, w, top=(1, 3, 30))
    np.testing.assert_allclose(result.top_risk, [shares[0], shares[:3].sum(), 1.0], rtol=1e-11)


def test_an_empty_book_has_none(model: FactorModel) -> None:
    result = concentration(model, np.zeros(30))
    assert (
        result.positions == result.effective_positions == result.effective_bets == result.effective_risk_positions == 0
    )
    assert not result.top_gross.any()
    assert not result.top_risk.any()
    assert not result.factor_bets.any()


def test_bad_input_is_refused(model: FactorModel, w: np.ndarray) -> None:
    with pytest.raises(DataError, match="`top` must hold numbers"):
        concentration(model, w, top=(0, 5))
    with pytest.raises(DataError, match="`weights` must be finite"):
        concentration(model, np.where(w > 0, np.nan, w))
