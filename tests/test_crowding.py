"""A book that is a simple style looks like it, and every likeness is what its definition says."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from risk import DataError, FactorModel
from risk.crowding import crowding, rank_portfolios

FACTORS = ["market", "sector:Energy", "style:size", "style:momentum", "signal:one"]


@pytest.fixture
def model() -> FactorModel:
    rng = np.random.default_rng(61)
    root = rng.standard_normal((5, 6)) * 0.1
    X = rng.standard_normal((50, 5))
    return FactorModel([f"A{i}" for i in range(50)], FACTORS, X, root @ root.T, rng.uniform(0.02, 0.2, 50))


@pytest.fixture
def w() -> np.ndarray:
    return np.random.default_rng(62).standard_normal(50) / 10


def dense(model: FactorModel) -> np.ndarray:
    return model.exposures @ model.factor_covariance @ model.exposures.T + np.diag(model.specific_variance)


def test_rank_portfolios_are_neutral_of_gross_1_and_follow_ranks(model: FactorModel) -> None:
    values = np.round(model.exposures, 1)  # with ties
    P = rank_portfolios(values)
    np.testing.assert_allclose(P.sum(axis=0), 0.0, atol=1e-15)
    np.testing.assert_allclose(np.abs(P).sum(axis=0), 1.0, rtol=1e-12)
    ranks = pd.DataFrame(values).rank()
    centred = ranks - ranks.mean()
    np.testing.assert_allclose(P, centred / centred.abs().sum(), rtol=1e-12)


def test_a_book_that_is_a_simple_style_looks_like_it(model: FactorModel) -> None:
    style = 5.0 * rank_portfolios(model.exposures[:, 3:4])[:, 0]
    result = crowding(model, -style)
    k = result.styles.index("style:momentum")
    assert result.relative_exposure[k] == pytest.approx(-1.0, rel=1e-12)
    assert result.correlation[k] == pytest.approx(-1.0, rel=1e-12)
    assert (result.overlap[k], result.opposite[k]) == (0.0, pytest.approx(1.0, rel=1e-12))
    assert result.explained == pytest.approx(1.0, rel=1e-9)


def test_likeness_is_that_of_the_direct_formulas(model: FactorModel, w: np.ndarray) -> None:
    result, V = crowding(model, w), dense(model)
    assert result.styles == ("style:size", "style:momentum", "signal:one")
    P, sigma, gross = rank_portfolios(model.exposures[:, 2:]), np.sqrt(w @ V @ w), np.abs(w).sum()
    x = model.exposures[:, 2:].T @ w
    np.testing.assert_allclose(result.exposure, x, rtol=1e-12)
    np.testing.assert_allclose(result.exposure_per_gross, x / gross, rtol=1e-12)
    np.testing.assert_allclose(result.relative_exposure, x / gross / np.diag(model.exposures[:, 2:].T @ P), rtol=1e-12)
    deviation = np.sqrt(np.diag(P.T @ V @ P))
    np.testing.assert_allclose(result.correlation, P.T @ V @ w / deviation / sigma, rtol=1e-10)
    F = model.factor_covariance
    rho = (F @ model.exposures.T @ w)[2:] / np.sqrt(np.diag(F))[2:] / sigma
    np.testing.assert_allclose(result.factor_correlation, rho, rtol=1e-11)
    same = np.sign(w)[:, None] == np.sign(P)
    smaller = np.minimum(np.abs(w / gross)[:, None], np.abs(P))
    np.testing.assert_allclose(result.overlap, (smaller * same).sum(axis=0), rtol=1e-12)
    np.testing.assert_allclose(result.opposite, (smaller * ~same).sum(axis=0), rtol=1e-12)
    beta = np.linalg.solve(P.T @ V @ P, P.T @ V @ w)
    rest = w - P @ beta
    assert result.explained == pytest.approx(1 - rest @ V @ rest / sigma**2, rel=1e-9)
    assert list(result.table().index) == list(result.styles)


def test_explained_does_not_need_the_styles_to_differ(model: FactorModel, w: np.ndarray) -> None:
    X = model.exposures.copy()
    X[:, 4] = X[:, 3]
    twice = FactorModel(model.assets, FACTORS, X, model.factor_covariance, model.specific_variance)
    both, one = crowding(twice, w), crowding(twice, w, families=("style",))
    assert both.explained == pytest.approx(one.explained, rel=1e-9)


def test_a_style_without_ranks_is_named(model: FactorModel, w: np.ndarray) -> None:
    X = model.exposures.copy()
    X[:, 2] = 0.7
    flat = FactorModel(model.assets, FACTORS, X, model.factor_covariance, model.specific_variance)
    result = crowding(flat, w)
    assert result.undefined == ("style:size",)
    assert np.isnan([result.correlation[0], result.overlap[0], result.relative_exposure[0]]).all()
    assert result.exposure[0] == pytest.approx(0.7 * w.sum(), rel=1e-12)
    assert np.isfinite(result.correlation[1:]).all()
    assert np.isfinite(result.explained)


def test_thin_shorts_are_counted(model: FactorModel) -> None:
    volume = np.r_[np.arange(1.0, 41.0), np.full(10, np.nan)]  # 1..8 are the lowest fifth of the known
    w = np.zeros(50)
    w[[0, 7, 8, 45]], w[[1, 30]] = [-0.1, -0.2, -0.3, -0.4], [0.3, 0.1]
    result = crowding(model, w, dollar_volume=volume, illiquid=0.2)
    assert result.short_illiquid == pytest.approx(0.3, rel=1e-12)
    assert result.short_unknown == pytest.approx(0.4, rel=1e-12)
    assert result.long_illiquid == pytest.approx(0.75, rel=1e-12)
    without = crowding(model, np.abs(w), dollar_volume=volume)
    assert np.isnan([without.short_illiquid, crowding(model, w).short_illiquid]).all()


def test_an_empty_book_resembles_nothing(model: FactorModel) -> None:
    result = crowding(model, np.zeros(50))
    assert not result.exposure.any()
    assert np.isnan(result.correlation).all()
    assert np.isnan(result.overlap).all()
    assert np.isnan(result.explained)


def test_bad_input_is_refused(model: FactorModel, w: np.ndarray) -> None:
    for given, message in (
        ({"families": ("blind",)}, "`families` must name"),
        ({"illiquid": 1.0}, "`illiquid` must be a share"),
        ({"dollar_volume": np.ones(49)}, "`dollar_volume` must have shape"),
        ({"dollar_volume": -np.ones(50)}, "`dollar_volume` must be >= 0"),
        ({"dollar_volume": np.full(50, np.nan)}, "known for some"),
    ):
        with pytest.raises(DataError, match=message):
            crowding(model, w, **given)
