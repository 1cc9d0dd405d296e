"""A shifted regime is the covariance that its definition says, and a risk model like any other."""

from __future__ import annotations

import numpy as np
import pytest

from risk import DataError, FactorModel, decompose
from risk.regime_shift import REGIME_FACTOR, shift_regime


@pytest.fixture
def model() -> FactorModel:
    rng = np.random.default_rng(41)
    root = rng.standard_normal((4, 3)) * 0.1  # a rank short
    names, factors = [f"A{i}" for i in range(20)], ["market", "style:a", "style:b", "style:c"]
    return FactorModel(names, factors, rng.standard_normal((20, 4)), root @ root.T, rng.uniform(0.02, 0.2, 20))


def dense(model: FactorModel) -> np.ndarray:
    return model.exposures @ model.factor_covariance @ model.exposures.T + np.diag(model.specific_variance)


def test_correlations_of_assets_move_their_share_of_the_way_to_1(model: FactorModel) -> None:
    before, after = dense(model), dense(shift_regime(model, volatility=2.0, correlation=0.3))
    s = np.sqrt(np.diag(before))
    np.testing.assert_allclose(np.sqrt(np.diag(after)), 2.0 * s, rtol=1e-12)
    C = before / np.outer(s, s)
    np.testing.assert_allclose(after / np.outer(2 * s, 2 * s), 0.7 * C + 0.3, rtol=1e-11)


def test_correlations_of_factors_move_their_share_of_the_way_to_1(model: FactorModel) -> None:
    after = shift_regime(model, volatility=1.5, specific=2.0, correlation=0.4, between="factors")
    F, s = model.factor_covariance, np.sqrt(np.diag(model.factor_covariance))
    expected = 1.5**2 * np.outer(s, s) * (0.6 * F / np.outer(s, s) + 0.4)
    np.testing.assert_allclose(after.factor_covariance, expected, rtol=1e-11)
    np.testing.assert_allclose(after.specific_variance, 4.0 * model.specific_variance, rtol=1e-12)


@pytest.mark.parametrize("between", ["assets", "factors"])
@pytest.mark.parametrize("correlation", [0.0, 0.5, 0.999])
def test_it_stays_positive_semidefinite_and_decomposes(model: FactorModel, between: str, correlation: float) -> None:
    shifted = shift_regime(model, volatility=3.0, correlation=correlation, between=between)
    F = shifted.factor_covariance
    assert np.linalg.eigvalsh(F)[0] > -1e-14 * np.abs(F).max()
    w = np.random.default_rng(42).standard_normal(20) / 10
    parts = decompose(shifted, w)
    assert parts.contribution.sum() == pytest.approx(np.sqrt(w @ dense(shifted) @ w), rel=1e-11)
    assert (REGIME_FACTOR in shifted.factors) == (between == "assets" and correlation > 0)


def test_nothing_shifted_is_the_model_as_it_was(model: FactorModel) -> None:
    same = shift_regime(model)
    np.testing.assert_array_equal(same.factor_covariance, model.factor_covariance)
    np.testing.assert_array_equal(same.specific_variance, model.specific_variance)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"volatility": 0.0}, "`volatility` must be a positive"),
        ({"specific": -1.0}, "`specific` must be a positive"),
        ({"correlation": 1.0}, "`correlation` must be a share"),
        ({"correlation": -0.1}, "`correlation` must be a share"),
        ({"between": "countries"}, "`between` must be"),
    ],
)
def test_settings_out_of_range_are_refused(model: FactorModel, setting: dict[str, float], message: str) -> None:
    with pytest.raises(DataError, match=message):
        shift_regime(model, **setting)


def test_a_second_shift_between_assets_is_refused(model: FactorModel) -> None:
    with pytest.raises(DataError, match="already"):
        shift_regime(shift_regime(model, correlation=0.1), correlation=0.1)
