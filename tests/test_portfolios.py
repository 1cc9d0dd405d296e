"""Books to judge a model by: keyed, neutral, optimal, and never from a formed covariance."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import kstest

from risk import DataError, FactorModel
from risk.model_portfolios import (
    covariance_solve,
    eigen_portfolios,
    eigenfactor_portfolios,
    factor_neutral,
    factor_optimised,
    minimum_risk,
)
from risk.portfolios import keyed_normals, long_short, random_long_only, random_market_neutral

ASSETS = [f"A{i}" for i in range(80)]


def make_model(*, singular: bool) -> FactorModel:
    rng = np.random.default_rng(31)
    root = rng.standard_normal((7, 4 if singular else 7)) * 0.1
    X = rng.standard_normal((80, 7))
    if singular:
        X[:, 6] = X[:, 0] + X[:, 1]
    return FactorModel(ASSETS, [f"f{k}" for k in range(7)], X, root @ root.T, rng.uniform(0.02, 0.2, 80))


def dense(model: FactorModel) -> np.ndarray:
    return model.exposures @ model.factor_covariance @ model.exposures.T + np.diag(model.specific_variance)


@pytest.fixture(params=[False, True], ids=["regular", "singular"])
def model(request: pytest.FixtureRequest) -> FactorModel:
    return make_model(singular=request.param)


def test_random_books_do_not_depend_on_order_company_or_number() -> None:
    order = np.random.default_rng(1).permutation(80)
    for make in (random_market_neutral, random_long_only):
        for held in (None, 12):
            books = make(ASSETS, 5, held=held, seed=7)
            again = make([ASSETS[i] for i in order], 5, held=held, seed=7)
            np.testing.assert_allclose(again, books[:, order], rtol=1e-12, atol=1e-16)
            np.testing.assert_array_equal(make(ASSETS, 3, held=held, seed=7), books[:3])
            assert (make(ASSETS, 5, held=held, seed=8) != books).any()


def test_random_books_are_neutral_or_long_and_of_their_gross() -> None:
    neutral = random_market_neutral(ASSETS, 50, held=20, gross=4.0)
    np.testing.assert_allclose(neutral.sum(axis=1), 0, atol=1e-14)
    np.testing.assert_allclose(np.abs(neutral).sum(axis=1), 4, rtol=1e-13)
    assert ((neutral != 0).sum(axis=1) == 20).all()
    long = random_long_only(ASSETS, 50, held=20)
    np.testing.assert_allclose(long.sum(axis=1), 1, rtol=1e-13)
    assert (long >= 0).all()
    assert ((long > 0).sum(axis=1) == 20).all()


def test_keyed_normals_are_normal_and_uncorrelated() -> None:
    z = keyed_normals(ASSETS, 500, 3)
    assert kstest(z.ravel(), "norm").pvalue > 0.01
    correlation = np.corrcoef(z.T)[np.triu_indices(80, 1)]
    assert np.abs(correlation).max() < 5.5 / np.sqrt(500)
    assert np.abs(np.corrcoef(z.ravel(), keyed_normals(ASSETS, 500, 4).ravel())[0, 1]) < 4 / np.sqrt(40_000)


def test_scores_make_books_that_ties_and_order_do_not_change() -> None:
    rng = np.random.default_rng(5)
    score = rng.integers(0, 6, 80).astype(float)
    w, order = long_short(score, share=0.3), rng.permutation(80)
    np.testing.assert_allclose(long_short(score[order], share=0.3), w[order], rtol=1e-13)
    assert w.sum() == pytest.approx(0, abs=1e-14)
    assert np.abs(w).sum() == pytest.approx(1, rel=1e-13)
    for value in np.unique(score):
        assert np.ptp(w[score == value]) < 1e-16
    assert (np.diff([w[score == value][0] for value in np.unique(score)]) >= 0).all()


def test_products_with_the_inverse_are_those_of_the_dense_one(model: FactorModel) -> None:
    a = np.random.default_rng(6).standard_normal((3, 80))
    np.testing.assert_allclose(covariance_solve(model, a), np.linalg.solve(dense(model), a.T).T, rtol=1e-9, atol=1e-10)
    np.testing.assert_allclose(covariance_solve(model, a[0]), covariance_solve(model, a)[0], rtol=1e-12)


def test_minimum_risk_has_its_alpha_and_no_book_with_it_has_less_risk(model: FactorModel) -> None:
    rng = np.random.default_rng(7)
    alpha = np.vstack([np.ones(80), rng.standard_normal(80)])
    books = minimum_risk(model, alpha)
    np.testing.assert_allclose((alpha * books).sum(axis=1), 1, rtol=1e-11)
    for a, w in zip(alpha, books, strict=True):
        step = rng.standard_normal((50, 80))
        step -= np.outer(step @ a / (a @ a), a)
        assert all(model.variance(w + 0.1 * move) > model.variance(w) for move in step)


def test_factor_optimised_is_minimum_risk_of_an_alpha_in_the_factors(model: FactorModel) -> None:
    views = keyed_normals(model.factors, 4, 1)
    books = factor_optimised(model, views)
    for view, w in zip(views, books, strict=True):
        a = model.exposures @ view
        direct = np.linalg.solve(dense(model), a)
        np.testing.assert_allclose(w, direct / (a @ direct), rtol=1e-8, atol=1e-10)


def test_factor_neutral_has_no_exposure_and_is_the_best_without(model: FactorModel) -> None:
    alpha = np.random.default_rng(8).standard_normal((3, 80))
    books = factor_neutral(model, alpha)
    np.testing.assert_allclose(books @ model.exposures, 0, atol=1e-12)
    np.testing.assert_allclose((alpha * books).sum(axis=1), 1, rtol=1e-11)
    # The slow twin: the stationarity system of least risk under the constraints, dense.
    rank = np.linalg.matrix_rank(model.exposures)
    basis = np.linalg.svd(model.exposures, full_matrices=False)[0][:, :rank]
    A = np.column_stack([basis, alpha[0]])
    kkt = np.block([[dense(model), A], [A.T, np.zeros((rank + 1, rank + 1))]])
    twin = np.linalg.solve(kkt, np.r_[np.zeros(80 + rank), 1.0])[:80]
    np.testing.assert_allclose(books[0], twin, rtol=1e-7, atol=1e-10)


def test_an_alpha_in_the_factors_has_no_factor_neutral_book(model: FactorModel) -> None:
    with pytest.raises(DataError, match="must not lie in the factors"):
        factor_neutral(model, model.exposures @ np.arange(1.0, 8.0))


def test_eigen_portfolios_are_the_leading_eigenvectors(model: FactorModel) -> None:
    books = eigen_portfolios(model, 5)
    values, vectors = np.linalg.eigh(dense(model))
    for k, w in enumerate(books):
        expected = vectors[:, -1 - k]
        assert abs(w @ expected) / np.linalg.norm(w) == pytest.approx(1, abs=1e-9)
        assert model.variance(w) / (w @ w) == pytest.approx(values[-1 - k], rel=1e-10)
    np.testing.assert_allclose(np.abs(books).sum(axis=1), 1, rtol=1e-12)
    np.testing.assert_array_equal(eigen_portfolios(model, 5), books)
    assert (np.take_along_axis(books, np.abs(books).argmax(axis=1)[:, None], axis=1) > 0).all()


def test_eigenfactor_portfolios_have_uncorrelated_factor_returns() -> None:
    model = make_model(singular=False)
    books = eigenfactor_portfolios(model)
    exposures = books @ model.exposures
    values, vectors = np.linalg.eigh(model.factor_covariance)
    assert len(books) == 7
    for k, x in enumerate(exposures):
        assert abs(x @ vectors[:, -1 - k]) / np.linalg.norm(x) == pytest.approx(1, rel=1e-9)
        assert x @ model.factor_covariance @ x / (x @ x) == pytest.approx(values[-1 - k], rel=1e-8)
    # Of all books with these exposures it has the least specific risk.
    free = np.linalg.svd(model.exposures.T)[2][7:]
    for move in free[:20]:
        changed = books[0] + 0.01 * move
        assert (model.specific_variance * changed) @ changed > (model.specific_variance * books[0]) @ books[0]


def test_exposures_that_cannot_be_had_are_replaced_by_the_nearest() -> None:
    model = make_model(singular=True)
    books = eigenfactor_portfolios(model)
    assert np.isfinite(books).all()
    exposures = books @ model.exposures
    np.testing.assert_allclose(exposures[:, 6], exposures[:, 0] + exposures[:, 1], atol=1e-12)


def test_bad_input_is_refused(model: FactorModel) -> None:
    cases = [
        (lambda: random_market_neutral(ASSETS, 0), "`books` must be at least 1"),
        (lambda: random_market_neutral(ASSETS, 2, held=1), "`held` must lie"),
        (lambda: random_long_only(ASSETS, 2, held=81), "`held` must lie"),
        (lambda: random_market_neutral(["A", "A"], 2), "must be distinct"),
        (lambda: random_market_neutral(ASSETS, 2, gross=0), "`gross` must be positive"),
        (lambda: long_short(np.ones(5)), "not be the same for all"),
        (lambda: long_short([1.0, np.nan]), "`score` must be finite"),
        (lambda: long_short([1.0, 2.0], share=0.6), "`share` must lie"),
        (lambda: covariance_solve(model, np.ones(79)), "`vectors` must have shape"),
        (lambda: minimum_risk(model, np.zeros(80)), "must not be all 0"),
        (lambda: factor_optimised(model, np.ones(6)), "`views` must have shape"),
        (lambda: eigen_portfolios(model, 80), "`count` must lie"),
    ]
    for call, message in cases:
        with pytest.raises(DataError, match=message):
            call()
