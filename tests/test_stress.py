"""Stresses lose what direct formulas say, in parts that sum; conditional moves, worst cases and reverse stresses are optimal."""

from __future__ import annotations

import numpy as np
import pytest

from risk import DataError, FactorModel, decompose
from risk.scenario import Stress, stress_parts, stress_table
from risk.stress import (
    conditional_shock,
    deleveraging,
    factor_shock,
    market_move,
    reverse_stress,
    worst_case,
)

FACTORS = ["market", "country:FR", "country:US", "style:size", "style:momentum", "signal:one"]


def model_of(F: np.ndarray) -> FactorModel:
    rng = np.random.default_rng(31)
    X = rng.standard_normal((30, 6))
    return FactorModel([f"A{i}" for i in range(30)], FACTORS, X, F, rng.uniform(0.02, 0.2, 30))


@pytest.fixture
def model() -> FactorModel:
    root = np.random.default_rng(32).standard_normal((6, 8)) * 0.1
    return model_of(root @ root.T)


@pytest.fixture
def w() -> np.ndarray:
    return np.random.default_rng(33).standard_normal(30) / 10


def check_parts(stress: Stress, model: FactorModel, w: np.ndarray, specific: np.ndarray | None = None) -> None:
    """The parts are exposures times shocks, and sum to w'(X f + e)."""
    e = np.zeros(len(w)) if specific is None else specific
    assert stress.profit == pytest.approx(w @ (model.exposures @ stress.shocks + e), rel=1e-12, abs=1e-16)
    assert stress.loss == -stress.profit
    np.testing.assert_allclose(stress.profit_by_factor, (w @ model.exposures) * stress.shocks, rtol=1e-12)
    assert stress_parts([stress]).loc[stress.name].sum() == pytest.approx(stress.loss, rel=1e-12, abs=1e-16)


def distance(F: np.ndarray, shocks: np.ndarray, years: float) -> float:
    return float(np.sqrt(shocks @ np.linalg.solve(F, shocks) / years))


def test_a_shock_moves_its_factors_alone(model: FactorModel, w: np.ndarray) -> None:
    stress = factor_shock(model, w, "crash", {"style:momentum": 0.03, "market": -0.2}, years=0.25)
    np.testing.assert_array_equal(stress.shocks, [-0.2, 0, 0, 0, 0.03, 0])
    check_parts(stress, model, w)
    assert stress.distance == pytest.approx(distance(model.factor_covariance, stress.shocks, 0.25), rel=1e-9)


def test_the_others_move_as_simulated_factors_do(model: FactorModel, w: np.ndarray) -> None:
    stress = conditional_shock(model, w, "crash", {"market": -0.2, "style:size": 0.1})
    check_parts(stress, model, w)
    draws = np.random.default_rng(34).multivariate_normal(np.zeros(6), model.factor_covariance, 200_000)
    slopes = np.linalg.lstsq(draws[:, [0, 3]], draws, rcond=None)[0]  # regression of every factor on the two
    np.testing.assert_allclose(stress.shocks, np.array([-0.2, 0.1]) @ slopes, atol=0.004)
    F, S = model.factor_covariance, [0, 3]
    direct = F[:, S] @ np.linalg.inv(F[np.ix_(S, S)]) @ [-0.2, 0.1]
    np.testing.assert_allclose(stress.shocks, direct, rtol=1e-10)
    assert (stress.shocks[0], stress.shocks[3]) == (-0.2, 0.1)


def test_the_expected_move_is_the_likeliest(model: FactorModel, w: np.ndarray) -> None:
    expected = conditional_shock(model, w, "crash", {"market": -0.2})
    alone = factor_shock(model, w, "crash", {"market": -0.2})
    assert expected.distance == pytest.approx(0.2 / np.sqrt(model.factor_covariance[0, 0] / 12), rel=1e-9)
    assert expected.distance < alone.distance
    rng = np.random.default_rng(35)
    for _ in range(20):
        other = expected.shocks + 0.05 * np.r_[0.0, rng.standard_normal(5)]
        assert distance(model.factor_covariance, other, 1 / 12) > expected.distance


def test_shocks_of_factors_that_move_as_one_must_agree(w: np.ndarray) -> None:
    root = np.random.default_rng(36).standard_normal((6, 6)) * 0.1
    root[2] = -root[1]  # country:US is the opposite of country:FR
    root[5] = 0.0  # and the signal does not move at all
    model = model_of(root @ root.T)
    one = conditional_shock(model, w, "one", {"country:FR": 0.02})
    both = conditional_shock(model, w, "both", {"country:FR": 0.02, "country:US": -0.02})
    np.testing.assert_allclose(one.shocks, both.shocks, rtol=1e-9, atol=1e-15)
    assert one.shocks[2] == pytest.approx(-0.02, rel=1e-9)
    assert both.distance == pytest.approx(one.distance, rel=1e-6)
    for shocks in ({"country:FR": 0.02, "country:US": 0.02}, {"signal:one": 0.01}):
        with pytest.raises(DataError, match="contradict the factor covariance"):
            conditional_shock(model, w, "no", shocks)
        assert factor_shock(model, w, "no", shocks).distance == np.inf
    assert conditional_shock(model, w, "still", {"market": 0.1, "signal:one": 0.0}).shocks[5] == 0


def test_a_market_move_costs_its_beta(model: FactorModel, w: np.ndarray) -> None:
    b = np.abs(np.random.default_rng(37).standard_normal(30))
    stress = market_move(model, w, "market -10 %", b, -0.1)
    beta = model.beta(b)
    assert stress.loss == pytest.approx(0.1 * w @ beta, rel=1e-12)
    specific = -0.1 * model.specific_variance * b / model.variance(b)
    check_parts(stress, model, w, specific)
    assets = model.exposures @ stress.shocks + specific
    np.testing.assert_allclose(assets, -0.1 * beta, rtol=1e-10, atol=1e-15)
    assert stress.distance == pytest.approx(0.1 / np.sqrt(model.variance(b) / 12), rel=1e-9)
    own = market_move(model, b / b.sum(), "itself", b / b.sum(), -0.1)
    assert own.loss == pytest.approx(0.1, rel=1e-12)


@pytest.mark.parametrize("specific", [False, True])
def test_no_scenario_as_likely_costs_more_than_the_worst(model: FactorModel, w: np.ndarray, specific: bool) -> None:
    years, x = 0.25, model.exposures.T @ w
    stress = worst_case(model, w, "worst", 3.0, years=years, specific=specific)
    parts = decompose(model, w)
    risk = parts.volatility if specific else np.sqrt(parts.factor_variance)
    assert stress.loss == pytest.approx(3.0 * np.sqrt(years) * risk, rel=1e-12)
    e = -3.0 * np.sqrt(years) * model.specific_variance * w / risk if specific else np.zeros(30)
    check_parts(stress, model, w, e)
    assert stress.distance == pytest.approx(3.0, rel=1e-9)
    root, rng = np.linalg.cholesky(model.factor_covariance), np.random.default_rng(38)
    for _ in range(500):
        z = rng.standard_normal(36 if specific else 6)
        z *= 3.0 * np.sqrt(years) / np.linalg.norm(z)
        loss = -x @ root @ z[:6] - (w @ (np.sqrt(model.specific_variance) * z[6:]) if specific else 0.0)
        assert loss <= stress.loss


@pytest.mark.parametrize("specific", [False, True])
def test_the_reverse_stress_loses_that_much_and_is_the_likeliest(
    model: FactorModel, w: np.ndarray, specific: bool
) -> None:
    stress = reverse_stress(model, w, "lose 10 %", 0.1, specific=specific)
    assert stress.loss == pytest.approx(0.1, rel=1e-12)
    forward = worst_case(model, w, "worst", 1.0, specific=specific)
    assert stress.distance == pytest.approx(0.1 / forward.loss, rel=1e-9)
    again = worst_case(model, w, "worst", 0.1 / forward.loss, specific=specific)
    np.testing.assert_allclose(stress.shocks, again.shocks, rtol=1e-10)
    if not specific:
        rng, x = np.random.default_rng(39), model.exposures.T @ w
        for _ in range(100):
            other = stress.shocks + 0.02 * rng.standard_normal(6)
            other *= -0.1 / (x @ other)  # the same loss
            assert distance(model.factor_covariance, other, 1 / 12) >= stress.distance * (1 - 1e-9)


def test_a_singular_covariance_has_a_worst_case_within_its_range(w: np.ndarray) -> None:
    root = np.random.default_rng(40).standard_normal((6, 2)) * 0.1
    model = model_of(root @ root.T)
    stress = worst_case(model, w, "worst", 2.0)
    assert stress.distance == pytest.approx(2.0, rel=1e-9)
    coordinates = np.linalg.lstsq(root, stress.shocks, rcond=None)[0]
    np.testing.assert_allclose(root @ coordinates, stress.shocks, atol=1e-14)
    assert np.linalg.norm(coordinates) * np.sqrt(12) == pytest.approx(2.0, rel=1e-9)


def test_a_book_without_factor_risk_has_nothing_to_lose_to_factors(model: FactorModel) -> None:
    neutral = np.linalg.svd(model.exposures.T)[2][-1] / 10
    stress = worst_case(model, neutral, "worst", 3.0)
    assert stress.loss == 0
    assert "no scenario loses anything" in stress.note
    with pytest.raises(DataError, match=r"has no factor risk.*specific=True"):
        reverse_stress(model, neutral, "lose", 0.1)
    assert reverse_stress(model, neutral, "lose", 0.1, specific=True).loss == pytest.approx(0.1, rel=1e-12)
    with pytest.raises(DataError, match="has no risk"):
        reverse_stress(model, np.zeros(30), "lose", 0.1, specific=True)


def test_deleveraging_hits_each_style_from_its_worse_side(model: FactorModel, w: np.ndarray) -> None:
    stress = deleveraging(model, w, "unwind", 3.0, years=0.02)
    check_parts(stress, model, w)
    assert (stress.profit_by_factor[3:] < 0).all()
    assert not stress.shocks[:3].any()
    for k in (3, 4, 5):
        deviation = np.sqrt(0.02 * model.factor_covariance[k, k])
        alone = [factor_shock(model, w, "one", {FACTORS[k]: sign * 3.0 * deviation}).loss for sign in (-1, 1)]
        assert -stress.profit_by_factor[k] == pytest.approx(max(alone), rel=1e-12)
    held = deleveraging(model, w, "unwind", 3.0, specific_size=2.0, years=0.02)
    e = -np.sign(w) * 2.0 * np.sqrt(0.02 * model.specific_variance)
    check_parts(held, model, w, e)
    assert held.loss == pytest.approx(stress.loss - w @ e, rel=1e-12)
    assert held.distance == pytest.approx(np.hypot(stress.distance, 2.0 * np.sqrt(len(w))), rel=1e-9)


def test_the_table_says_name_definition_loss_and_the_worst_factor(model: FactorModel, w: np.ndarray) -> None:
    stresses = [worst_case(model, w, "worst", 3.0), factor_shock(model, w, "none", {"market": 0.0})]
    table, parts = stress_table(stresses), stress_parts(stresses)
    assert list(table.index) == ["worst", "none"]
    assert table.loc["worst", "loss"] == stresses[0].loss
    assert table.loc["worst", "largest_factor"] == parts.loc["worst"].drop("specific").idxmax()
    assert table.loc["worst", "largest_factor_loss"] == parts.loc["worst"].max()
    assert table.loc["none", "largest_factor"] == ""
    assert table["definition"].str.len().min() > 10
    with pytest.raises(DataError, match="all of the same factors"):
        stress_parts([])


def test_bad_input_is_refused(model: FactorModel, w: np.ndarray) -> None:
    for shocks, message in (
        ({"style:unheard": 0.1}, "got 'style:unheard'"),
        ({}, "got none"),
        ({"market": np.nan}, "must be finite"),
    ):
        for stress in (factor_shock, conditional_shock):
            with pytest.raises(DataError, match=message):
                stress(model, w, "bad", shocks)
    with pytest.raises(DataError, match="`years` must be a positive"):
        factor_shock(model, w, "bad", {"market": 0.1}, years=0.0)
    with pytest.raises(DataError, match="`size` must be a finite number >= 0"):
        worst_case(model, w, "bad", -1.0)
    with pytest.raises(DataError, match="`loss` must be positive"):
        reverse_stress(model, w, "bad", 0.0)
    with pytest.raises(DataError, match="`benchmark` must hold"):
        market_move(model, w, "bad", np.zeros(30), -0.1)
    with pytest.raises(DataError, match="`families` must name"):
        deleveraging(model, w, "bad", families=("blind",))
    with pytest.raises(DataError, match="`weights` must have shape"):
        factor_shock(model, w[1:], "bad", {"market": 0.1})
