from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
import pytest
from numerai_tools.scoring import generate_neutralized_weights, meta_portfolio_contribution
from problems import random_problem

from engine import Contribution, Problem, optimize, true_contribution
from engine.contribution import BACKENDS
from engine.mask_books import MaskBook, Slope
from engine.masks import keep_table
from engine.transforms import gaussianise, standardise
from risk import DataError

N, MODELS = 40, ["alpha", "bravo", "charlie", "delta", "echo", "foxtrot"]


@pytest.fixture(scope="module")
def problem() -> Problem:
    return random_problem(np.random.default_rng(1), N, costs="impact", band=0.0)


@pytest.fixture(scope="module")
def predictions(problem: Problem) -> pd.DataFrame:
    rng = np.random.default_rng(2)
    common = rng.standard_normal((N, 1))
    table = pd.DataFrame(common + 1.5 * rng.standard_normal((N, 6)), index=problem.model.assets, columns=MODELS)
    table["copy"] = table["bravo"]
    table["reversed"] = -table["bravo"]
    table["unstaked"] = rng.standard_normal(N)
    return table


@pytest.fixture(scope="module")
def stakes() -> pd.Series:
    return pd.Series(dict(zip(MODELS, [5.0, 1.0, 3.0, 2.0, 4.0, 2.5], strict=True)) | {"copy": 0.5, "unstaked": 0.0})


@pytest.fixture(scope="module")
def returns() -> np.ndarray:
    return np.random.default_rng(3).standard_t(4, N) * 0.06


@pytest.fixture(scope="module")
def scale(problem: Problem) -> np.ndarray:
    return 0.03 * np.sqrt(problem.model.specific_variance * 252 / 20)


@pytest.fixture(scope="module")
def result(
    predictions: pd.DataFrame, stakes: pd.Series, problem: Problem, returns: np.ndarray, scale: np.ndarray
) -> Contribution:
    return true_contribution(
        predictions, stakes, problem, returns, alpha_scale=scale, masks=12, seed=7, precision="float64"
    )


class Linear:
    """The optimizer of numerai-tools' meta portfolio: w = x / ||x||_2 / 50, and x~ = sqrt(n) x / ||x||_2."""

    def solve(self, alphas: np.ndarray, slope: Slope) -> Iterator[MaskBook]:
        unit = 50 * np.sqrt(alphas.shape[1])
        for alpha in alphas:
            yield MaskBook(alpha / unit, slope(alpha / unit) / unit, alphas.shape[1], 0.0, "")


@pytest.fixture
def _linear(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(BACKENDS, "linear", lambda *_: Linear())


def by_linear(P: np.ndarray, stakes: pd.Series, r: np.ndarray, **options: object) -> Contribution:
    n = len(P)
    model = random_problem(np.random.default_rng(0), n)
    return true_contribution(P, stakes, model, r, alpha_scale=1.0, backend="linear", **options)  # type: ignore[arg-type]


@pytest.mark.usefixtures("_linear")
def test_equals_meta_portfolio_contribution_where_the_optimizer_is_linear() -> None:
    signals = pd.DataFrame({"a": [1.0, 2, 3, 4, 5], "b": [1.0, 2, 1, 2, 1]})
    neutralizers = pd.DataFrame([[1.0, 5], [2, 4], [3, 3], [4, 2], [5, 1]])
    weights, target, stakes = (
        pd.Series([3.0, 2, 1, 2, 3]),
        pd.Series([1.0, 2, 3, 2, 1]),
        pd.Series({"a": 0.6, "b": 0.4}),
    )
    W = generate_neutralized_weights(signals, neutralizers, weights).to_numpy()
    scores = by_linear(W, stakes, target.to_numpy(), masks=1, keep_probability=1.0).scores["true_contribution"]
    assert scores["a"] == pytest.approx(-0.001580068753957352, rel=1e-12)  # from numerai-tools' own tests
    expected = meta_portfolio_contribution(signals, stakes, neutralizers, weights, target)
    np.testing.assert_allclose(scores, expected, rtol=1e-12)


@pytest.mark.usefixtures("_linear")
def test_equals_meta_portfolio_contribution_on_a_larger_random_case() -> None:
    rng, n, m = np.random.default_rng(5), 200, 12
    signals = pd.DataFrame(rng.random((n, m)), columns=[f"m{k:02d}" for k in range(m)])
    weights, target = pd.Series(rng.uniform(0.5, 2, n)), pd.Series(rng.standard_normal(n))
    neutralizers = pd.DataFrame(rng.standard_normal((n, 4)) / np.sqrt(n))
    stakes = pd.Series(rng.uniform(0, 3, m), index=signals.columns)
    W = generate_neutralized_weights(signals, neutralizers, weights).to_numpy()
    scores = by_linear(W, stakes, target.to_numpy(), masks=1, keep_probability=1.0).scores["true_contribution"]
    expected = meta_portfolio_contribution(signals, stakes, neutralizers, weights, target)
    np.testing.assert_allclose(scores, expected, rtol=0, atol=1e-12 * np.abs(expected).max())


def test_one_gradient_gives_every_score(result: Contribution, predictions: pd.DataFrame, stakes: pd.Series) -> None:
    for name in predictions:
        p, _ = gaussianise(predictions[name].to_numpy())
        score = result.scores.loc[name, "true_contribution"]
        assert score == pytest.approx(p @ result.gradient, rel=1e-9, abs=1e-15)
    assert result.scores["stake"].sum() == pytest.approx(1.0, abs=1e-15)
    assert result.scores.loc["alpha", "stake"] == pytest.approx(5.0 / stakes.sum(), rel=1e-14)
    assert (result.scores["mask_standard_error"] > 0).all()
    assert result.options["masks"] == 12
    assert len(result.free_directions) == 12
    assert result.derivative_residual < 1e-4


def test_duplicates_are_equal_opposites_opposite_and_a_zero_stake_has_a_score(result: Contribution) -> None:
    score = result.scores["true_contribution"]
    assert score["copy"] == pytest.approx(score["bravo"], abs=1e-15)
    assert score["reversed"] == pytest.approx(-score["bravo"], abs=1e-12)
    assert abs(score["unstaked"]) > 1e-4 * score.abs().max()
    assert (result.scores.loc[["unstaked", "reversed"], "stake"] == 0).all()


def test_kept_stakes_weigh_to_zero_mask_by_mask(
    predictions: pd.DataFrame, stakes: pd.Series, problem: Problem, returns: np.ndarray, scale: np.ndarray
) -> None:
    for precision, tolerance in (("float64", 1e-12), ("float32", 1e-6)):
        tc = true_contribution(predictions, stakes, problem, returns, alpha_scale=scale, masks=6, precision=precision)  # type: ignore[arg-type]
        P, _ = gaussianise(predictions[list(tc.models)].to_numpy())
        shares = tc.scores.loc[list(tc.models), "stake"].to_numpy()
        by_mask = tc.mask_gradients @ P
        sums = (by_mask * shares * tc.kept).sum(axis=1)
        assert np.abs(sums).max() < tolerance * np.abs(by_mask * shares).sum(axis=1).max()
        assert np.abs((by_mask * shares).sum(axis=1)).max() > 1e-3 * np.abs(by_mask * shares).sum(axis=1).max()


def test_score_is_the_slope_of_the_return_in_the_stake(
    predictions: pd.DataFrame, stakes: pd.Series, problem: Problem, returns: np.ndarray, scale: np.ndarray
) -> None:
    """The whole chain, in one mask that keeps every model, against optimizations at stakes a little higher and lower."""
    names = list(stakes.index)
    P, _ = gaussianise(predictions[names].to_numpy())
    shares = (stakes / stakes.sum()).to_numpy()
    result = true_contribution(
        predictions[names], stakes, problem, returns, alpha_scale=scale, masks=1, keep_probability=1.0
    )

    def realised(s: np.ndarray) -> float:
        return float(optimize(problem.replace(alpha=scale * standardise(P @ s))).weights @ returns)

    assert result.portfolio_return == pytest.approx(realised(shares), abs=1e-7)
    assert result.mask_return == pytest.approx(result.portfolio_return, abs=1e-7)
    for k, name in enumerate(names):
        step = 1e-4 * np.eye(len(names))[k]
        slope = (realised(shares + step) - realised(shares - step)) / 2e-4
        # Weights are good to 1e-8 and a step of 1e-4 may touch a kink: both show at 1e-3 of the largest score.
        assert result.scores.loc[name, "true_contribution"] == pytest.approx(slope, abs=2e-3 * 0.06), name


def test_order_and_company_of_models_do_not_matter(
    result: Contribution,
    predictions: pd.DataFrame,
    stakes: pd.Series,
    problem: Problem,
    returns: np.ndarray,
    scale: np.ndarray,
) -> None:
    rng = np.random.default_rng(9)
    shuffled = predictions[list(rng.permutation(predictions.columns))].drop(columns="reversed")
    shuffled["another"] = rng.standard_normal(N)
    other = true_contribution(
        shuffled,
        4 * stakes.iloc[rng.permutation(len(stakes))],
        problem,
        returns,
        alpha_scale=scale,
        masks=12,
        seed=7,
        precision="float64",
    )
    size = np.abs(result.gradient).max()
    np.testing.assert_allclose(other.gradient, result.gradient, rtol=0, atol=1e-11 * size)
    same = [name for name in result.scores.index if name in other.scores.index]
    np.testing.assert_allclose(
        other.scores.loc[same, "true_contribution"], result.scores.loc[same, "true_contribution"], rtol=1e-9
    )


def test_seed_decides_the_masks_and_nothing_else_does(
    result: Contribution,
    predictions: pd.DataFrame,
    stakes: pd.Series,
    problem: Problem,
    returns: np.ndarray,
    scale: np.ndarray,
) -> None:
    seen: list[tuple[int, int]] = []
    arguments = (predictions, stakes, problem, returns)
    options = {"alpha_scale": scale, "masks": 12, "precision": "float64", "progress": lambda *step: seen.append(step)}
    again = true_contribution(*arguments, **options, seed=7)  # type: ignore[arg-type]
    np.testing.assert_array_equal(again.gradient, result.gradient)
    assert seen == [(b, 12) for b in range(1, 13)]
    other = true_contribution(*arguments, alpha_scale=scale, masks=12, seed=8)
    assert np.abs(other.gradient - result.gradient).max() > 0.01 * np.abs(result.gradient).max()


@pytest.mark.usefixtures("_linear")
def test_a_mask_without_stake_is_drawn_again_and_counted() -> None:
    rng = np.random.default_rng(1)
    P, r = rng.standard_normal((30, 2)), rng.standard_normal(30)
    at = by_linear(P, pd.Series({"a": 0.7, "b": 0.3}), r, masks=40)
    assert at.kept.any(axis=1).all()
    kept = np.array([keep_table(0, ["a", "b"], 40, 0.5, draw=d).any(axis=1) for d in range(20)])
    assert at.options["redrawn"] == kept.argmax(axis=0).sum()  # draws of each mask before the first that keeps a model
    assert at.options["redrawn"] > 0


def test_models_that_cannot_be_scored_are_listed_and_take_no_stake(
    predictions: pd.DataFrame, stakes: pd.Series, problem: Problem, returns: np.ndarray, scale: np.ndarray
) -> None:
    options = {"alpha_scale": scale, "masks": 3}
    clean = true_contribution(predictions, stakes, problem, returns, **options)  # type: ignore[arg-type]
    bad = predictions.assign(constant=1.0, empty=np.nan, infinite=np.inf)
    extra = pd.Series({"constant": 1.0, "empty": 2.0, "infinite": 3.0, "absent": 4.0})
    dirty = true_contribution(bad, pd.concat([stakes, extra]), problem, returns, **options)  # type: ignore[arg-type]
    unscored = dirty.scores[dirty.scores["reason"] != ""]
    assert unscored["reason"].to_dict() == {
        "absent": "no prediction",
        "constant": "constant",
        "empty": "no value",
        "infinite": "infinite value",
    }
    assert unscored[["true_contribution", "mask_standard_error"]].isna().all(axis=None)
    assert (unscored["stake"] == 0).all()
    np.testing.assert_array_equal(dirty.gradient, clean.gradient)


def test_names_not_covered_count_as_zero(
    predictions: pd.DataFrame, stakes: pd.Series, problem: Problem, returns: np.ndarray, scale: np.ndarray
) -> None:
    partial = predictions.copy()
    partial.iloc[:9, 1] = np.nan
    result = true_contribution(partial, stakes, problem, returns, alpha_scale=scale, masks=2)
    assert result.scores["coverage"].to_dict() == {name: N - 9 * (name == "bravo") for name in predictions}
    P, _ = gaussianise(partial[list(stakes.index)].to_numpy())
    array = true_contribution(P, stakes, problem, returns, alpha_scale=scale, masks=2)
    np.testing.assert_allclose(array.gradient, result.gradient, rtol=0, atol=1e-5 * np.abs(array.gradient).max())


def test_holdings_and_turnover_limit_are_not_used(
    predictions: pd.DataFrame, stakes: pd.Series, returns: np.ndarray, scale: np.ndarray
) -> None:
    pair = [
        random_problem(np.random.default_rng(1), N, costs="impact", band=0.0, holdings=held, turnover_limit=limit)
        for held, limit in ((False, None), (True, 0.1))
    ]
    first, second = (
        Problem(
            pair[0].alpha,
            pair[0].model,
            pair[0].limits,
            (pair[0].lower, pair[0].upper),
            pair[0].gross_limit,
            pair[0].volatility_limit,
            pair[0].risk_aversion,
            one.holdings,
            pair[0].costs,
            one.turnover_limit,
        )
        for one in pair
    )
    assert np.abs(second.holdings).sum() > 0
    gradients = [
        true_contribution(predictions, stakes, one, returns, alpha_scale=scale, masks=2).gradient
        for one in (first, second)
    ]
    np.testing.assert_array_equal(*gradients)


def test_refuses_what_it_cannot_score(
    predictions: pd.DataFrame, stakes: pd.Series, problem: Problem, returns: np.ndarray, scale: np.ndarray
) -> None:
    def score(
        values: object = predictions,
        stake: pd.Series = stakes,
        ahead: object = returns,
        factor: object = scale,
        **options: float,
    ) -> Contribution:
        return true_contribution(values, stake, problem, ahead, alpha_scale=factor, **options)  # type: ignore[arg-type]

    unknown = returns.copy()
    unknown[5] = np.nan
    with pytest.raises(DataError, match=r"forward_returns.*A0005.*nan"):
        score(ahead=unknown)
    with pytest.raises(DataError, match="forward_returns"):
        score(ahead=returns[:-1])
    with pytest.raises(DataError, match="forward_returns"):
        score(ahead=pd.Series(returns, index=problem.model.assets[::-1]))
    with pytest.raises(DataError, match=r"predictions.*index"):
        score(values=predictions.iloc[::-1])
    with pytest.raises(DataError, match=r"predictions.*shape"):
        score(values=np.zeros((N, 3)))
    with pytest.raises(DataError, match="no model"):
        score(values=predictions.iloc[:, :0])
    with pytest.raises(DataError, match="no stake"):
        score(stake=0 * stakes)
    with pytest.raises(DataError, match="no stake"):
        score(values=predictions.assign(**dict.fromkeys(MODELS, 1.0)).drop(columns="copy"))
    with pytest.raises(DataError, match=r"bravo.*-1"):
        score(stake=pd.Series({"bravo": -1.0}))
    with pytest.raises(DataError, match="alpha_scale"):
        score(factor=scale[:-1])
    with pytest.raises(DataError, match="masks"):
        score(masks=0)
    with pytest.raises(DataError, match="keep_probability"):
        score(keep_probability=0.0)
    with pytest.raises(DataError, match="1000 draws"):
        score(keep_probability=1e-9)
    with pytest.raises(DataError, match="unknown backend"):
        score(backend="magic")  # type: ignore[arg-type]


def test_a_book_with_few_free_directions_flags_the_round(
    predictions: pd.DataFrame, stakes: pd.Series, problem: Problem, returns: np.ndarray, scale: np.ndarray
) -> None:
    result = true_contribution(predictions, stakes, problem, returns, alpha_scale=scale, masks=2)
    assert result.flagged == (np.median(result.free_directions) < 30)
    wide = random_problem(np.random.default_rng(1), N, band=0.5, style=9.0, risk_aversion=300.0)
    assert true_contribution(predictions, stakes, wide, returns, alpha_scale=scale, masks=2).flagged is False
