"""Factor diagnostics agree with statsmodels and with direct formulas."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from statsmodels.stats.outliers_influence import variance_inflation_factor

from risk import DataError
from risk.diagnostics import (
    condition_number,
    exposure_autocorrelation,
    factor_strength,
    r_squared_by_year,
    regression_errors,
    variance_inflation,
)


@pytest.fixture
def cross_section() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Market, three sectors that sum to it, two styles; weights; residuals; the sectors' constraint."""
    rng = np.random.default_rng(41)
    n, sector = 90, np.arange(90) % 3
    styles = rng.standard_normal((n, 2)) @ [[1.0, 0.6], [0.0, 0.8]]
    X = np.column_stack([np.ones(n), sector == 0, sector == 1, sector == 2, styles]).astype(float)
    v = rng.uniform(0.5, 4.0, n)
    share = v @ X[:, 1:4] / v.sum()
    return X, v, rng.standard_normal(n) * 0.02, np.array([[0.0, *share, 0.0, 0.0]])


def reparametrised(X: np.ndarray, C: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Drop sector 0 by the constraint: f = R g, another basis than the library's."""
    R = np.delete(np.eye(6), 1, axis=1)
    R[1] = -np.delete(C[0], 1) / C[0, 1]
    return X @ R, R


@pytest.mark.parametrize("robust", [False, True])
def test_regression_errors_are_those_of_statsmodels(cross_section: tuple[np.ndarray, ...], robust: bool) -> None:
    X, v, e, C = cross_section
    design, R = reparametrised(X, C)
    returns = X @ np.array([0.01, 0.0, 0.002, -0.001, 0.003, 0.0]) + e
    fit = sm.WLS(returns, design, weights=v).fit(cov_type="HC1" if robust else "nonrobust")
    expected = np.sqrt(np.diag(R @ fit.cov_params() @ R.T))
    found = regression_errors(X, returns - design @ fit.params, v, C, robust=robust)
    np.testing.assert_allclose(found, expected, rtol=1e-10)


def test_factors_that_cannot_be_told_apart_have_no_error(cross_section: tuple[np.ndarray, ...]) -> None:
    X, v, e, _ = cross_section
    found = regression_errors(X, e, v)
    assert np.isnan(found[:4]).all(), "without its constraint a family cannot be told from the market"
    assert np.isfinite(found[4:]).all()


def test_inflation_of_styles_is_the_textbooks(cross_section: tuple[np.ndarray, ...]) -> None:
    X, v, _, C = cross_section
    # Weighted: the textbook's formula on columns times the root of the weights, intercept included.
    dropped = np.delete(X, 1, axis=1)
    for k in (4, 5):
        y, others = X[:, k], np.delete(dropped, k - 1, axis=1)
        textbook = 1 / (1 - sm.WLS(y, others, weights=v).fit().rsquared)
        assert variance_inflation(X, v, C)[k] == pytest.approx(textbook, rel=1e-10)
    plain = np.delete(X, [1, 2, 3], axis=1)
    found = variance_inflation(plain, np.ones(90))
    for k in (1, 2):
        assert found[k] == pytest.approx(variance_inflation_factor(plain, k), rel=1e-10)


def test_inflation_of_orthogonal_factors_is_one_and_of_copies_infinite() -> None:
    rng = np.random.default_rng(42)
    basis = np.linalg.qr(np.column_stack([np.ones(60), rng.standard_normal((60, 3))]))[0]
    np.testing.assert_allclose(variance_inflation(basis, np.ones(60)), 1, rtol=1e-10)
    copied = np.column_stack([basis, basis[:, 3] * 5])
    found = variance_inflation(copied, np.ones(60))
    np.testing.assert_allclose(found[:3], 1, rtol=1e-10)
    assert np.isinf(found[3:]).all()
    assert condition_number(copied, np.ones(60)) == math.inf


def test_condition_number_is_that_of_scaled_columns(cross_section: tuple[np.ndarray, ...]) -> None:
    X, v, _, C = cross_section
    plain = np.delete(X, [1, 2, 3], axis=1)
    scaled = np.sqrt(v)[:, None] * plain
    expected = np.linalg.cond(scaled / np.linalg.norm(scaled, axis=0))
    assert condition_number(plain, v) == pytest.approx(expected, rel=1e-10)
    assert condition_number(plain * [1.0, 1e6, 1e-6], v) == pytest.approx(expected, rel=1e-8)
    assert condition_number(X, v) == math.inf
    assert 1 <= condition_number(X, v, C) < 30


def test_stability_is_the_weighted_correlation(cross_section: tuple[np.ndarray, ...]) -> None:
    X, v, _, _ = cross_section
    later = X + np.random.default_rng(43).standard_normal(X.shape) * [0, 0, 0, 0, 0.5, 2.0]
    found = exposure_autocorrelation(X, later, v)
    assert np.isnan(found[0])
    np.testing.assert_allclose(found[1:4], 1, rtol=1e-12)
    for k in (4, 5):
        covariance = np.cov(X[:, k], later[:, k], aweights=v)
        assert found[k] == pytest.approx(covariance[0, 1] / math.sqrt(covariance[0, 0] * covariance[1, 1]), rel=1e-10)
    assert found[4] > found[5]


def test_strength_is_newey_and_wests_and_counts_significant_days() -> None:
    rng = np.random.default_rng(44)
    dates = pd.bdate_range("2020-01-01", periods=400)
    returns = pd.DataFrame(
        {"paid": 0.002 + rng.standard_normal(400) * 0.01, "noise": rng.standard_normal(400) * 0.01}, dates
    )
    returns.loc[dates[:50], "noise"] = np.nan
    errors = pd.DataFrame(0.01, dates, returns.columns)
    table = factor_strength(returns, standard_errors=errors)
    fit = sm.OLS(returns["paid"], np.ones(400)).fit(cov_type="HAC", cov_kwds={"maxlags": 5, "use_correction": True})
    assert table.loc["paid", "lags"] == 5
    assert table.loc["paid", "t_mean"] == pytest.approx(fit.tvalues.iloc[0], rel=1e-10)
    assert table.loc["paid", "mean"] == pytest.approx(returns["paid"].mean() * 252, rel=1e-12)
    assert table.loc["noise", "days"] == table.loc["noise", "tested"] == 350
    # Noise of one standard error is beyond two on about 4.6 % of days.
    assert table.loc["noise", "share_significant"] == pytest.approx(0.0455, abs=0.045)
    assert table.loc["noise", "share_significant"] == (returns["noise"].abs() > 0.02).sum() / 350
    assert table.loc["paid", "t_mean"] > 2 > abs(table.loc["noise", "t_mean"])


def test_factors_with_hardly_a_day_have_no_t() -> None:
    returns = pd.DataFrame({"short": [0.01] * 5 + [np.nan] * 20, "never": [np.nan] * 25})
    table = factor_strength(returns)
    assert table["days"].tolist() == [5, 0]
    assert table["t_mean"].isna().all()


def test_r_squared_by_year_leaves_out_days_without_a_regression() -> None:
    dates = pd.bdate_range("2020-12-28", periods=8)
    values = pd.Series([np.nan, 0.1, 0.2, 0.3, 0.5, np.nan, 0.7, 0.9], dates)
    table = r_squared_by_year(values)
    assert table.index.tolist() == [2020, 2021]
    assert table["days"].tolist() == [3, 3]
    assert table.loc[2021, "median"] == pytest.approx(0.7)


def test_bad_input_is_refused(cross_section: tuple[np.ndarray, ...]) -> None:
    X, v, e, C = cross_section
    frame = pd.DataFrame(np.ones((30, 2)))
    cases = [
        (lambda: regression_errors(X, e[:-1], v), "`residuals` must have shape"),
        (lambda: regression_errors(X, e, -v), "`weights` must not be negative"),
        (lambda: regression_errors(X[:3], e[:3], v[:3]), "more rows than its rank"),
        (lambda: variance_inflation(X, v, C, market=6), "`market` must be a column"),
        (lambda: variance_inflation(X, v, C[:, :-1]), "`constraints` must have shape"),
        (lambda: condition_number(np.ones(5), v), "`exposures` must have shape"),
        (lambda: exposure_autocorrelation(X, X[:-1], v), "`after` must have shape"),
        (lambda: factor_strength(frame, standard_errors=frame.iloc[:-1]), "`standard_errors` must be positive"),
        (lambda: factor_strength(frame * np.inf), "must not be infinite"),
        (lambda: r_squared_by_year(pd.Series([0.1])), "`r_squared` must be indexed by date"),
    ]
    for call, message in cases:
        with pytest.raises(DataError, match=message):
            call()
