"""Bias statistics, their bands and losses: closed forms, coverage under the null, slow twins."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.stats import chi2

from risk import DataError
from risk.evaluation import (
    bias_statistic,
    evaluate,
    expected_deviation,
    mean_rolling_deviation,
    rolling_bias,
    standardised_outcomes,
)
from risk.losses import compare_losses, default_lags, mean_and_error, qlike


def test_outcomes_convert_annual_forecasts_to_the_horizon() -> None:
    r, s = np.array([0.01, -0.03]), np.array([0.2, 0.1])
    np.testing.assert_allclose(standardised_outcomes(r, s), r / (s / math.sqrt(252)), rtol=1e-14)
    np.testing.assert_allclose(
        standardised_outcomes(r, s, periods_per_year=260, horizon=5), r / (s * math.sqrt(5 / 260)), rtol=1e-14
    )


def test_bias_is_the_standard_deviation_of_outcomes_and_the_band_that_of_chi_square() -> None:
    b = np.random.default_rng(1).standard_normal((120, 3))
    found = bias_statistic(b, confidence=0.9, kurtosis=3.0)
    assert found.bias == pytest.approx(b.std(axis=0, ddof=1).mean(), rel=1e-13)
    assert found.lower == pytest.approx(math.sqrt(chi2.ppf(0.05, 119) / 119), rel=1e-13)
    assert found.upper == pytest.approx(math.sqrt(chi2.ppf(0.95, 119) / 119), rel=1e-13)
    assert (found.wide_lower, found.wide_upper) == pytest.approx((found.lower, found.upper), rel=1e-12)
    assert (found.books, found.periods) == (3, 120)
    large = bias_statistic(np.random.default_rng(2).standard_normal(20_000))
    assert large.upper - 1 == pytest.approx(math.sqrt(2 / 20_000), rel=0.03)


def test_bands_cover_as_they_say() -> None:
    rng = np.random.default_rng(3)
    normal = bias_statistic(rng.standard_normal((100, 4000)), kurtosis=3.0)
    assert normal.share_inside == pytest.approx(0.95, abs=4 * math.sqrt(0.95 * 0.05 / 4000))
    # Fat tails (t of 8 degrees of freedom, kurtosis 4.5): the normal's band is too narrow, the corrected one is not.
    fat = bias_statistic(rng.standard_t(8, (500, 4000)) * math.sqrt(6 / 8), kurtosis=4.5)
    assert fat.share_inside < 0.90
    assert fat.share_inside_wide == pytest.approx(0.95, abs=0.015)


def test_standard_errors_are_the_dispersion_of_repeated_samples() -> None:
    rng = np.random.default_rng(4)
    # Ten books that share half of their variance: the error of their mean is far above that of independent books.
    found = []
    for _ in range(400):
        common = rng.standard_normal((250, 1))
        statistic = bias_statistic(math.sqrt(0.5) * (common + rng.standard_normal((250, 10))))
        found.append((statistic.bias, statistic.standard_error))
    bias, error = np.array(found).T
    assert error.mean() == pytest.approx(bias.std(), rel=0.12)
    assert error.mean() > 1.5 / math.sqrt(2 * 250 * 10)


def test_a_single_book_is_a_family_of_one() -> None:
    b = np.random.default_rng(5).standard_normal(300)
    assert bias_statistic(b) == bias_statistic(b[:, None])


@given(st.floats(0.05, 20), st.integers(2, 80), st.integers(0, 1000))
@settings(max_examples=40, deadline=None)
def test_bias_scales_with_outcomes_and_ignores_their_mean_and_sign(scale: float, periods: int, seed: int) -> None:
    b = np.random.default_rng(seed).standard_normal(periods)
    one, other = bias_statistic(b), bias_statistic(3.0 - scale * b)
    assert other.bias == pytest.approx(scale * one.bias, rel=1e-9)
    assert other.standard_error == pytest.approx(scale * one.standard_error, rel=1e-6)
    assert other.kurtosis == pytest.approx(one.kurtosis, rel=1e-6)


def test_rolling_bias_is_that_of_each_window() -> None:
    b = np.random.default_rng(6).standard_normal((60, 2))
    found = rolling_bias(b, 12)
    assert np.isnan(found[:11]).all()
    for t in range(11, 60):
        np.testing.assert_allclose(found[t], b[t - 11 : t + 1].std(axis=0, ddof=1), rtol=1e-12)
    assert mean_rolling_deviation(b, 12) == pytest.approx(np.abs(found[11:] - 1).mean(), rel=1e-12)
    assert math.isnan(mean_rolling_deviation(b, 61))


@pytest.mark.parametrize("window", [2, 5, 12, 252])
def test_expected_deviation_is_its_integral(window: int) -> None:
    n = window - 1
    below, _ = quad(lambda x: (1 - math.sqrt(x / n)) * chi2.pdf(x, n), 0, n)
    above, _ = quad(lambda x: (math.sqrt(x / n) - 1) * chi2.pdf(x, n), n, n + 60 * math.sqrt(2 * n) + 60)
    assert expected_deviation(window) == pytest.approx(below + above, rel=1e-6)


def test_rolling_deviation_sees_errors_that_cancel() -> None:
    scale = np.where(np.arange(2000) % 1000 < 500, 0.6, 1.28)
    b = np.random.default_rng(7).standard_normal(2000) * scale
    assert bias_statistic(b).bias == pytest.approx(1, abs=0.05)
    assert mean_rolling_deviation(b, 100) > 3 * expected_deviation(100)


@given(st.floats(0.3, 3.0).filter(lambda x: abs(x - 1) > 1e-3))
@settings(max_examples=30, deadline=None)
def test_qlike_is_least_for_the_true_variance(factor: float) -> None:
    v = np.full(1, 0.04)
    assert qlike(v, factor * v)[0] > qlike(v, v)[0]
    distance = factor**-1 - math.log(factor**-1) - 1
    assert qlike(v, factor * v)[0] - qlike(v, v)[0] == pytest.approx(distance, rel=1e-6, abs=1e-12)


def test_qlike_takes_days_without_a_return_and_no_forecast_of_nothing() -> None:
    assert np.isfinite(qlike([0.0], [0.04])).all()
    with pytest.raises(DataError, match="`forecast_variance` must be positive"):
        qlike([0.04], [0.0])
    with pytest.raises(DataError, match="`realised_variance` must not be negative"):
        qlike([-0.04], [0.04])


@pytest.mark.parametrize("lags", [0, 1, 7])
def test_the_error_of_a_mean_is_newey_and_wests_by_hand(lags: int) -> None:
    x = np.random.default_rng(8).standard_normal(90).cumsum() * 0.1
    mean, error = mean_and_error(x, lags)
    e, T = x - x.mean(), 90
    variance = (e @ e) / T
    for lag in range(1, lags + 1):
        variance += 2 * (1 - lag / (lags + 1)) * (e[lag:] @ e[:-lag]) / T
    assert mean == pytest.approx(x.mean(), rel=1e-12)
    assert error == pytest.approx(math.sqrt(variance / (T - 1)), rel=1e-10)


def test_losses_compare_as_their_mean_difference_over_its_error() -> None:
    rng = np.random.default_rng(9)
    a, b = rng.standard_normal((300, 4)) + 0.1, rng.standard_normal((300, 4))
    found = compare_losses(a, b)
    assert found.lags == default_lags(300)
    assert found.statistic == pytest.approx(found.mean_difference / found.standard_error, rel=1e-12)
    assert found.mean_difference == pytest.approx((a - b).mean(), rel=1e-12)
    back = compare_losses(b, a)
    assert back.statistic == pytest.approx(-found.statistic, rel=1e-12)
    assert back.p_value == pytest.approx(found.p_value, rel=1e-12)
    assert compare_losses(a, b, horizon=21).lags == 20


def test_equal_forecasters_are_not_told_apart_and_a_better_one_is_found() -> None:
    rng = np.random.default_rng(10)
    sigma = np.exp(0.3 * rng.standard_normal(1500))
    v = (sigma * rng.standard_normal(1500)) ** 2
    right, flat = qlike(v, sigma**2), qlike(v, np.full(1500, float((sigma**2).mean())))
    assert compare_losses(flat, right).p_value < 1e-4
    assert compare_losses(flat, right).mean_difference > 0
    same = compare_losses(right, right)
    assert (same.statistic, same.p_value, same.standard_error) == (0.0, 1.0, 0.0)
    worse = compare_losses(np.ones(30), np.zeros(30))
    assert (worse.statistic, worse.p_value) == (math.inf, 0.0)
    p = []
    for _ in range(300):
        one, two = rng.standard_normal((2, 200))
        p.append(compare_losses(one, two).p_value)
    assert np.mean(np.array(p) < 0.05) == pytest.approx(0.05, abs=0.05)


def test_the_table_has_a_row_for_each_name_and_what_its_functions_say() -> None:
    rng = np.random.default_rng(11)
    family = rng.standard_normal((400, 20)) * 0.01
    right = np.full((400, 20), 0.01 * math.sqrt(252))
    table = evaluate({"right": (family, right), "low": (family[:, 0], 0.5 * right[:, 0])}, window=60)
    assert list(table.index) == ["right", "low"]
    b = standardised_outcomes(family, right)
    assert table.loc["right", "bias"] == bias_statistic(b).bias
    assert table.loc["right", "books"] == 20
    assert table.loc["right", "periods"] == 400
    assert table.loc["right", "qlike"] == pytest.approx(qlike(family**2 * 252, right**2).mean(), rel=1e-12)
    assert table.loc["right", "rolling_deviation"] == mean_rolling_deviation(b, 60)
    assert table.loc["right", "realised_volatility"] == pytest.approx(math.sqrt((family**2).mean() * 252), rel=1e-12)
    assert bool(table.loc["right", "inside"])
    assert not bool(table.loc["low", "inside"])
    assert table.loc["low", "bias"] == pytest.approx(2, rel=0.1)


def test_bad_input_is_refused() -> None:
    r, s = np.ones(10), np.ones(10)
    cases = [
        (lambda: standardised_outcomes(r, s, horizon=5, step=1), "`step` must be at least `horizon`"),
        (lambda: standardised_outcomes(r, np.zeros(10)), "`forecast` must be positive"),
        (lambda: standardised_outcomes(r, s[:-1]), "`forecast` must have shape"),
        (lambda: standardised_outcomes(np.r_[r[:-1], np.nan], s), "`realised` must be finite"),
        (lambda: standardised_outcomes(np.ones((2, 2, 2)), s), "`realised` must have shape"),
        (lambda: standardised_outcomes(r, s, horizon=0), "`horizon` and `periods_per_year`"),
        (lambda: bias_statistic([1.0]), "at least 2 periods"),
        (lambda: bias_statistic(r, confidence=1.0), "`confidence` must lie"),
        (lambda: bias_statistic(r, kurtosis=0.5), "`kurtosis` must be at least 1"),
        (lambda: rolling_bias(r, 1), "`window` must be at least 2"),
        (lambda: expected_deviation(1), "`window` must be at least 2"),
        (lambda: compare_losses(r, s[:-1]), "`second` must have shape"),
        (lambda: compare_losses(r, s, lags=9), "`lags` must lie"),
        (lambda: evaluate({}), "at least one pair"),
        (lambda: evaluate({"mine": (r, -s)}), r"`books\['mine'\]`.*`forecast` must be positive"),
    ]
    for call, message in cases:
        with pytest.raises(DataError, match=message):
            call()
