"""One day's regression against independent solutions of the same problem."""

from __future__ import annotations

import numpy as np
import pytest
import statsmodels.api as sm
from scipy.stats import norm

from risk import DataError
from risk.regression import constrained_least_squares, constraint_rows, winsorise_returns

FAMILIES = (slice(1, 5), slice(5, 8))


def cross_section(seed: int, n: int = 150) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    country, sector = rng.permutation(np.arange(n) % 4), rng.permutation(np.arange(n) % 3)
    X = np.column_stack([np.ones(n), np.eye(4)[country], np.eye(3)[sector], rng.standard_normal((n, 3))])
    caps = np.exp(rng.normal(0.0, 1.5, n))
    returns = 0.01 + X[:, 1:] @ rng.normal(0.0, 0.01, 10) + rng.standard_t(3, n) * 0.02
    return X, returns, caps, constraint_rows(X, FAMILIES, caps)


@pytest.mark.parametrize("seed", range(5))
def test_factor_returns_solve_the_karush_kuhn_tucker_system(seed: int) -> None:
    X, returns, caps, C = cross_section(seed)
    v = np.sqrt(caps)
    kkt = np.block([[X.T @ (v[:, None] * X), C.T], [C, np.zeros((2, 2))]])
    direct = np.linalg.solve(kkt, np.r_[X.T @ (v * returns), 0.0, 0.0])[: X.shape[1]]
    fit = constrained_least_squares(X, returns, v, C)
    np.testing.assert_allclose(fit.factor_returns, direct, rtol=0, atol=1e-10)
    assert not fit.rank_deficient


def test_factor_returns_are_those_of_statsmodels_on_a_reparametrised_design() -> None:
    X, returns, caps, C = cross_section(7)
    # The first country and sector are written through the others, as a textbook would.
    Z = np.column_stack(
        [X[:, 0]]
        + [X[:, k] - X[:, 1] * C[0, k] / C[0, 1] for k in (2, 3, 4)]
        + [X[:, k] - X[:, 5] * C[1, k] / C[1, 5] for k in (6, 7)]
        + [X[:, 8:]]
    )
    slow = sm.WLS(returns, Z, weights=np.sqrt(caps)).fit()
    fit = constrained_least_squares(X, returns, np.sqrt(caps), C)
    np.testing.assert_allclose(fit.factor_returns[[0, 2, 3, 4, 6, 7, 8, 9, 10]], slow.params, rtol=0, atol=1e-10)
    share = np.sqrt(caps) / np.sqrt(caps).sum()
    assert fit.r_squared == pytest.approx(1 - (share * slow.resid**2).sum() / (share * returns**2).sum(), abs=1e-12)


def test_families_sum_to_zero_by_size() -> None:
    for seed in range(20):
        X, returns, caps, C = cross_section(seed)
        fit = constrained_least_squares(X, returns, np.sqrt(caps), C)
        by_hand = [caps @ X[:, family] @ fit.factor_returns[family] / caps.sum() for family in FAMILIES]
        np.testing.assert_allclose(by_hand, 0.0, atol=1e-15)
        np.testing.assert_allclose(C @ fit.factor_returns, 0.0, atol=1e-15)


def test_factors_that_cannot_be_told_apart_are_reported_and_fit_the_same() -> None:
    X, returns, caps, _ = cross_section(3)
    X = np.column_stack([X[:, :5], X[:, 1:5], X[:, 8:]])  # sectors are the countries once more
    C = constraint_rows(X, (slice(1, 5), slice(5, 9)), caps)
    v = np.sqrt(caps)
    fit = constrained_least_squares(X, returns, v, C)
    assert fit.rank_deficient
    np.testing.assert_allclose(C @ fit.factor_returns, 0.0, atol=1e-14)
    smaller = constrained_least_squares(X[:, [0, 1, 2, 3, 4, 9, 10, 11]], returns, v, C[:1, [0, 1, 2, 3, 4, 9, 10, 11]])
    np.testing.assert_allclose(
        X @ fit.factor_returns, X[:, [0, 1, 2, 3, 4, 9, 10, 11]] @ smaller.factor_returns, atol=1e-10
    )


def test_a_factor_in_two_constraints_is_refused() -> None:
    X, returns, caps, C = cross_section(1)
    with pytest.raises(DataError, match="one row per family"):
        constrained_least_squares(X, returns, caps, np.vstack([C, C[:1]]))


def test_winsorised_returns_by_hand() -> None:
    returns = np.array([-0.02, -0.01, 0.0, 0.01, 0.02, 4.0, -0.9])
    cut, count = winsorise_returns(returns, 10.0)
    # median 0; absolute deviations 0, .01, .01, .02, .02, .9, 4: their median .02
    assert count == 2
    np.testing.assert_allclose(cut, [-0.02, -0.01, 0.0, 0.01, 0.02, 0.29652, -0.29652], atol=1e-15)


def test_most_returns_equal_cuts_nothing() -> None:
    returns = np.array([0.0, 0.0, 0.0, 0.5])
    cut, count = winsorise_returns(returns, 10.0)
    assert count == 0
    assert (cut == returns).all()


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("huber", [0.8, 1.345, 3.0])
def test_robust_factor_returns_are_the_fixed_point_of_reweighted_least_squares(seed: int, huber: float) -> None:
    X, returns, caps, C = cross_section(seed)
    v = np.sqrt(caps)
    fit = constrained_least_squares(X, returns, v, C, huber)
    error = returns - X @ fit.factor_returns
    scale = np.median(np.abs(error)) / norm.ppf(0.75)
    weight = v * np.minimum(1.0, huber * scale / np.abs(error))
    again = constrained_least_squares(X, returns, weight, C)
    np.testing.assert_allclose(again.factor_returns, fit.factor_returns, rtol=0, atol=1e-10)
    assert fit.converged
    assert fit.bounded == (np.abs(error) > huber * scale).sum() > 0


def test_robust_factor_returns_are_those_of_statsmodels_for_equal_sizes() -> None:
    X, returns, _, _ = cross_section(5)
    caps = np.ones(len(returns))
    C = constraint_rows(X, FAMILIES, caps)
    Z = np.column_stack(
        [X[:, 0]]
        + [X[:, k] - X[:, 1] * C[0, k] / C[0, 1] for k in (2, 3, 4)]
        + [X[:, k] - X[:, 5] * C[1, k] / C[1, 5] for k in (6, 7)]
        + [X[:, 8:]]
    )
    slow = sm.RLM(returns, Z, M=sm.robust.norms.HuberT(1.5)).fit(maxiter=500, tol=1e-15, conv="coefs")
    fit = constrained_least_squares(X, returns, caps, C, 1.5)
    np.testing.assert_allclose(fit.factor_returns[[0, 2, 3, 4, 6, 7, 8, 9, 10]], slow.params, rtol=0, atol=1e-10)


def test_a_wild_return_moves_robust_factor_returns_less() -> None:
    X, returns, caps, C = cross_section(6)
    wild = returns.copy()
    wild[int(np.argmax(caps))] += 0.5
    shift = {
        huber: np.abs(
            np.subtract(
                *(constrained_least_squares(X, r, np.sqrt(caps), C, huber).factor_returns for r in (wild, returns))
            )
        ).max()
        for huber in (None, 1.345)
    }
    assert shift[1.345] < 0.15 * shift[None]


def test_an_exact_fit_has_no_scale_and_is_kept() -> None:
    X, _, caps, C = cross_section(8)
    fit = constrained_least_squares(X, X[:, -1] * 0.01, np.sqrt(caps), C, 1.345)
    assert fit.factor_returns[-1] == pytest.approx(0.01)
    assert fit.converged
