"""Parts of risk sum to the whole, and margins are derivatives."""

from __future__ import annotations

import numpy as np
import pytest

from risk import DataError, FactorModel, decompose
from risk.beta import decompose_beta
from risk.decomposition import Parts

LABELS = {"country": ["US", "FR", "DE", "US"] * 10, "sector": ["Energy"] * 25 + ["Banks"] * 15}


@pytest.fixture
def model() -> FactorModel:
    rng = np.random.default_rng(11)
    root = rng.standard_normal((6, 6)) * 0.1
    return FactorModel(
        [f"A{i}" for i in range(40)],
        ["market", "country:FR", "country:US", "style:size", "style:beta", "blind:01"],
        rng.standard_normal((40, 6)),
        root @ root.T,
        rng.uniform(0.02, 0.2, 40),
    )


def dense(model: FactorModel) -> np.ndarray:
    return model.exposures @ model.factor_covariance @ model.exposures.T + np.diag(model.specific_variance)


def book(seed: int = 12) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(40) / 10


def sleeves_of(w: np.ndarray, count: int = 5) -> np.ndarray:
    sleeves = np.random.default_rng(15).standard_normal((count, 40)) / 10
    sleeves[-1] += w - sleeves.sum(axis=0)
    return sleeves


def check_parts(parts: Parts, portfolios: np.ndarray, model: FactorModel, w: np.ndarray) -> None:
    """The parts of a book are those of the direct formulas, and they sum to it."""
    V, sigma = dense(model), model.volatility(w)
    np.testing.assert_allclose(parts.contribution, portfolios @ V @ w / sigma, rtol=1e-11, atol=1e-15)
    np.testing.assert_allclose(parts.volatility, np.sqrt(np.diag(portfolios @ V @ portfolios.T)), rtol=1e-11)
    np.testing.assert_allclose(parts.correlation, parts.contribution / parts.volatility, rtol=1e-12)
    np.testing.assert_allclose(parts.net, portfolios.sum(axis=1), rtol=1e-11, atol=1e-15)
    np.testing.assert_allclose(parts.gross, np.abs(portfolios).sum(axis=1), rtol=1e-12)
    np.testing.assert_allclose(parts.exposures.sum(axis=0), model.exposures.T @ w, rtol=1e-11, atol=1e-14)
    assert parts.contribution.sum() == pytest.approx(sigma, rel=1e-12)


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
    assert parts.family_contribution.sum() + parts.specific_contribution == pytest.approx(parts.volatility, rel=1e-12)
    np.testing.assert_allclose(parts.exposures * parts.factor_marginal, parts.factor_contribution, rtol=1e-12)
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


def test_groups_are_the_portfolios_of_their_assets(model: FactorModel) -> None:
    w = book()
    parts = decompose(model, w, groups=LABELS)
    for name, labels in LABELS.items():
        grouped, array = parts.group(name), np.array(labels)
        assert grouped.labels == tuple(sorted(set(labels)))
        check_parts(grouped, np.array([np.where(array == label, w, 0.0) for label in grouped.labels]), model, w)
        by_asset = [parts.contribution[array == label].sum() for label in grouped.labels]
        np.testing.assert_allclose(grouped.contribution, by_asset, rtol=1e-11, atol=1e-15)
        assert grouped.specific_contribution.sum() == pytest.approx(parts.specific_contribution, rel=1e-12)
        assert grouped.factor_contribution.sum() == pytest.approx(parts.factor_contribution.sum(), rel=1e-12)
        assert list(grouped.table().index) == list(grouped.labels)


def test_sleeves_share_out_the_risk_of_their_sum(model: FactorModel) -> None:
    w = book()
    sleeves = sleeves_of(w)
    parts = decompose(model, w, sleeves=sleeves, sleeve_names=list("abcde")).sleeves
    assert parts is not None
    assert parts.labels == tuple("abcde")
    check_parts(parts, sleeves, model, w)


def test_a_sleeve_that_is_the_book_has_its_volatility(model: FactorModel) -> None:
    w = book()
    parts = decompose(model, w, sleeves=[w, 0 * w], sleeve_names=["all", "nothing"]).sleeves
    assert parts is not None
    np.testing.assert_allclose(parts.contribution, [model.volatility(w), 0.0], rtol=1e-12)
    np.testing.assert_allclose(parts.correlation, [1.0, 0.0], rtol=1e-12)


def test_families_are_their_factors(model: FactorModel) -> None:
    w = book()
    parts = decompose(model, w)
    assert parts.families == ("market", "country", "style", "blind")
    np.testing.assert_allclose(parts.family_contribution[1], parts.factor_contribution[1:3].sum(), rtol=1e-12)
    x, F = parts.exposures[3:5], model.factor_covariance[3:5, 3:5]
    np.testing.assert_allclose(parts.family_volatility[2], np.sqrt(x @ F @ x), rtol=1e-12)


def test_parts_meet_the_whole_where_the_factors_lose_rank(model: FactorModel) -> None:
    root = np.random.default_rng(16).standard_normal((6, 2))
    flat = FactorModel(model.assets, model.factors, model.exposures, root @ root.T, np.full(40, 1e-12))
    null = np.linalg.svd(root.T @ model.exposures.T)[2][-1]  # a book without factor risk, but for rounding
    for w in (book(), null):
        parts = decompose(flat, w, groups=LABELS)
        for whole in (
            parts.contribution.sum(),
            parts.factor_contribution.sum() + parts.specific_contribution,
            parts.group("country").contribution.sum(),
        ):
            assert whole == pytest.approx(parts.volatility, rel=1e-12, abs=1e-12)


def test_beta_comes_in_parts(model: FactorModel) -> None:
    w, b, V = book(), np.abs(book(17)), dense(model)
    parts = decompose_beta(model, w, b)
    assert parts.beta == pytest.approx(w @ V @ b / (b @ V @ b), rel=1e-11)
    assert parts.contribution.sum() == pytest.approx(parts.beta, rel=1e-12)
    assert parts.factor_contribution.sum() + parts.specific_contribution == pytest.approx(parts.beta, rel=1e-12)
    np.testing.assert_allclose(parts.asset_beta, V @ b / (b @ V @ b), rtol=1e-11)
    assert parts.correlation == pytest.approx(w @ V @ b / np.sqrt((w @ V @ w) * (b @ V @ b)), rel=1e-11)
    residual = w - parts.beta * b
    assert residual @ V @ b == pytest.approx(0.0, abs=1e-14)
    assert parts.residual_volatility == pytest.approx(np.sqrt(residual @ V @ residual), rel=1e-11)


def test_the_benchmark_has_a_beta_of_1_and_nothing_one_of_0(model: FactorModel) -> None:
    b = np.abs(book(17))
    own, nothing = decompose_beta(model, b, b), decompose_beta(model, np.zeros(40), b)
    assert (own.beta, own.correlation) == (pytest.approx(1.0, rel=1e-12), pytest.approx(1.0, rel=1e-12))
    assert own.residual_volatility == pytest.approx(0.0, abs=1e-8)
    assert nothing.beta == nothing.correlation == nothing.residual_volatility == 0


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (["US"] * 39, "must have shape"),
        (["US"] * 39 + [None], "position 39 has none"),
        (["US"] * 39 + [""], "position 39 has none"),
        (["US"] * 39 + [float("nan")], "position 39 has none"),
    ],
)
def test_an_asset_without_a_label_is_refused(model: FactorModel, labels: list[str], message: str) -> None:
    with pytest.raises(DataError, match=message):
        decompose(model, book(), groups={"country": labels})


def test_sleeves_that_are_not_the_book_are_refused(model: FactorModel) -> None:
    w = book()
    sleeves, names = sleeves_of(w), list("abcde")
    sleeves[2, 7] += 1e-9
    with pytest.raises(DataError, match=r"must sum to `weights` within 1e-12; 'A7' is off by 1e-09"):
        decompose(model, w, sleeves=sleeves, sleeve_names=names)
    parts = decompose(model, w, sleeves=sleeves, sleeve_names=names, tolerance=1e-8)
    assert parts.sleeves is not None
    assert parts.sleeves.contribution.sum() == pytest.approx(parts.volatility, rel=1e-7)
    for given in ({"sleeves": sleeves}, {"sleeve_names": names}):
        with pytest.raises(DataError, match="must be given together"):
            decompose(model, w, **given)
    with pytest.raises(DataError, match="`sleeves` must have shape"):
        decompose(model, w, sleeves=sleeves[:, 1:], sleeve_names=names)
    with pytest.raises(DataError, match="`sleeve_names` must be distinct"):
        decompose(model, w, sleeves=sleeves, sleeve_names=list("aacde"))


def test_a_grouping_that_was_not_asked_for_is_named(model: FactorModel) -> None:
    with pytest.raises(DataError, match="got 'industry', grouped by country, sector"):
        decompose(model, book(), groups=LABELS).group("industry")


def test_results_cannot_be_changed(model: FactorModel) -> None:
    with pytest.raises(ValueError, match="read-only"):
        decompose(model, np.ones(40)).contribution[0] = 1.0


@pytest.mark.parametrize("weights", [np.ones(39), np.full(40, np.nan)])
def test_weights_of_another_shape_or_not_finite_are_refused(model: FactorModel, weights: np.ndarray) -> None:
    with pytest.raises(DataError, match="`weights` must"):
        decompose(model, weights)
