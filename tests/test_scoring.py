"""Scores equal numerai-tools, one model at a time; what has no score says why."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numerai_tools import scoring as oracle
from numerai_tools import signals

from engine.portfolio_scoring import churns, pairwise_scores, portfolio_scores, turnovers
from engine.scores_correlation import contribution, numerai_correlation, signed_power
from engine.scores_neutral import feature_neutral_correlation, neutral_basis
from engine.scores_pairwise import exposure_dissimilarity, feature_exposures, pairwise_correlation
from engine.scores_portfolio import meta_portfolio_contribution, neutral_weights, portfolio_alpha, tail_churn
from engine.scoring import scores
from engine.transforms import gaussianise
from risk import DataError

REAL = Path(__file__).parents[2] / "shared" / "data" / "numerai"
BINS = [0.0, 0.25, 0.5, 0.75, 1.0]


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(5)


class Date:
    """A date with models that have ties, gaps, opposites and too few assets, and a target with other ids."""

    def __init__(self, rng: np.random.Generator, n: int = 400, m: int = 14) -> None:
        ids = np.array([f"n{i:05d}" for i in rng.permutation(n)])
        values = rng.standard_normal((n, m)) + 0.6 * rng.standard_normal((n, 1))
        values[:, 1] = values[:, 1].round(1)  # ties, also across the boundary of a tail
        values[:, 2] = -values[:, 0]
        values[rng.random((n, m)) < np.where(np.arange(m) % 3 == 0, 0.1, 0.0)] = np.nan
        values[20:, 4] = np.nan  # 20 assets
        values[rng.random(n) < 0.15, 5] = np.nan
        self.predictions = pd.DataFrame(values, index=ids, columns=[f"model {j}" for j in range(m)])
        more = [f"z{i:05d}" for i in range(n // 40)]
        every = np.r_[ids, more]
        target = pd.Series(rng.choice(BINS, len(every), p=[0.05, 0.2, 0.5, 0.2, 0.05]), index=every, name="target")
        target[rng.permutation(every)[: n // 30]] = np.nan
        self.target = target.sample(frac=1, random_state=1)
        self.meta = pd.Series(np.nanmean(values, axis=1), index=ids, name="meta").sample(frac=0.97, random_state=2)
        features = rng.integers(0, 5, (n, 9)).astype(float) + 0.1 * rng.standard_normal((n, 9))
        features[:, 8] = 2 * features[:, 0]  # a direction twice
        self.features = pd.DataFrame(features, index=ids, columns=[f"feature {j}" for j in range(9)])


@pytest.fixture
def date(rng: np.random.Generator) -> Date:
    return Date(rng)


def one_by_one(table: pd.DataFrame, score: Callable[[pd.DataFrame], pd.Series]) -> pd.Series:
    """Score each model alone on what it covers; NaN where numerai-tools refuses for lost ids."""
    found = {}
    for name in table:
        try:
            found[name] = float(score(table[[name]].dropna().sort_index()).iloc[0])
        except AssertionError as refusal:
            if "overlapping ids" not in str(refusal):
                raise
            found[name] = np.nan
    return pd.Series(found)


def assert_equal(ours: pd.Series, theirs: pd.Series, *, refused: int = 0) -> None:
    np.testing.assert_allclose(ours.to_numpy(), theirs.to_numpy(), rtol=0, atol=1e-12)
    assert theirs.isna().sum() == refused
    assert theirs.abs().max() > 1e-3


@pytest.mark.parametrize("top_bottom", [None, 20, 100])
@pytest.mark.parametrize("target_power", [True, False])
def test_corr(date: Date, top_bottom: int | None, target_power: bool) -> None:
    target = date.target.dropna()
    column = "corr" if top_bottom is None else f"corr_tb{top_bottom}"
    ours = scores(
        date.predictions, date.target, top_bottom=() if top_bottom is None else (top_bottom,), target_power=target_power
    )
    theirs = one_by_one(
        date.predictions,
        lambda p: oracle.numerai_corr(p, target, top_bottom=top_bottom, target_pow15=target_power),
    )
    assert_equal(ours[column], theirs, refused=1)


@pytest.mark.parametrize("top_bottom", [None, 20, 100])
@pytest.mark.parametrize("scale", [1.0, 0.02])
def test_mmc_and_bmc(date: Date, top_bottom: int | None, scale: float) -> None:
    target = (date.target - (scale < 1)) * scale  # bins in [0, 1] are made -2 to 2; anything else is left
    counts = () if top_bottom is None else (top_bottom,)
    suffix = "" if top_bottom is None else f"_tb{top_bottom}"
    other = date.predictions["model 1"].rename("benchmark")
    ours = scores(date.predictions, target, meta_model=date.meta, benchmark=other, top_bottom=counts)
    for column, against in (("mmc", date.meta), ("bmc", other)):
        theirs = one_by_one(
            date.predictions,
            lambda p, against=against: oracle.correlation_contribution(p, against, target.dropna(), top_bottom),
        )
        np.testing.assert_allclose(ours[column + suffix], theirs, rtol=0, atol=1e-12)
        assert theirs.isna().sum() >= 1  # the model of 20 assets
        assert theirs.notna().sum() >= 8


@pytest.mark.parametrize("top_bottom", [None, 20, 100])
def test_fnc(date: Date, top_bottom: int | None) -> None:
    counts = () if top_bottom is None else (top_bottom,)
    ours = scores(date.predictions, date.target, features=date.features, top_bottom=counts)
    theirs = one_by_one(
        date.predictions,
        lambda p: oracle.feature_neutral_corr(
            p, date.features.loc[p.index], date.target.dropna(), top_bottom=top_bottom
        ),
    )
    assert_equal(ours["fnc" if top_bottom is None else f"fnc_tb{top_bottom}"], theirs, refused=1)


def test_neutral_correlation_and_contribution(date: Date) -> None:
    target = date.target.dropna()
    ours = scores(date.predictions, date.target, features=date.features, meta_model=date.meta)
    theirs = one_by_one(date.predictions, lambda p: oracle.neutral_correlation(p, date.features, target))
    assert_equal(ours["neutral_corr"], theirs, refused=1)
    theirs = one_by_one(date.predictions, lambda p: oracle.neutral_contribution(p, date.meta, date.features, target))
    np.testing.assert_allclose(ours["neutral_mmc"], theirs, rtol=0, atol=1e-12)
    assert theirs.notna().sum() >= 8


def test_correlation_with_the_meta_model(date: Date) -> None:
    ours = scores(date.predictions, date.target, meta_model=date.meta)
    theirs = one_by_one(date.predictions, lambda p: oracle.numerai_corr(p, date.meta, target_pow15=False))
    assert_equal(ours["cwmm"], theirs, refused=1)


def test_exposures(date: Date) -> None:
    full = date.predictions.drop(columns="model 4")
    features = date.features.assign(constant=3.0)
    example = date.predictions["model 1"]
    ours = scores(full, date.target, features=features, example=example)
    vectors = {}
    for name in full:
        known = full[[name]].dropna().sort_index()
        gaussian = oracle.gaussian(oracle.tie_kept_rank(known))[name]
        there = date.features.loc[known.index]
        assert ours["max_feature_exposure"][name] == pytest.approx(
            oracle.max_feature_correlation(gaussian, there)[1], abs=1e-12
        )
        vectors[name] = there.corrwith(gaussian)
        assert ours["feature_exposure_rms"][name] == pytest.approx(np.sqrt((vectors[name] ** 2).mean()), abs=1e-12)
    E = vectors["model 1"]
    for name in full:
        assert ours["exposure_dissimilarity"][name] == pytest.approx(1 - (vectors[name] @ E) / (E @ E), abs=1e-12)
    assert ours["exposure_dissimilarity"]["model 1"] == pytest.approx(0, abs=1e-12)


def test_pairwise_correlation_equals_numpy_over_several_blocks(rng: np.random.Generator) -> None:
    G = gaussianise(rng.standard_normal((60, 1100)) + 0.5 * rng.standard_normal((60, 1)))[0].copy()
    G[:, 7] = 0.0
    C = np.corrcoef(np.delete(G, 7, axis=1).T)
    np.fill_diagonal(C, np.nan)
    largest, average = pairwise_correlation(G)
    assert np.isnan([largest[7], average[7]]).all()
    np.testing.assert_allclose(np.delete(largest, 7), np.nanmax(C, axis=1), rtol=0, atol=1e-12)
    np.testing.assert_allclose(np.delete(average, 7), np.nanmean(C, axis=1), rtol=0, atol=1e-12)
    single, single_average = pairwise_correlation(G.astype(np.float32))
    np.testing.assert_allclose(single, largest, rtol=0, atol=2e-6)
    np.testing.assert_allclose(single_average, average, rtol=0, atol=2e-6)


def test_pairwise_scores_leave_out_what_ranks_nothing(date: Date) -> None:
    table = date.predictions.assign(flat=1.0, nothing=np.nan, infinite=np.inf)
    ours = pairwise_scores(table)
    assert ours["reason"].tolist()[-3:] == ["constant", "no value", "infinite value"]
    assert ours.iloc[:-3].notna().all().all()
    pd.testing.assert_frame_equal(ours.iloc[:-3], pairwise_scores(date.predictions))
    assert pairwise_scores(date.predictions[["model 1"]])["reason"].tolist() == ["no other model to compare with"]


def liquid(date: Date, rng: np.random.Generator) -> tuple[pd.DataFrame, pd.Series]:
    v = pd.Series(rng.random(len(date.features)) + 0.1, index=date.features.index, name="v")
    root = np.sqrt(v.to_numpy())[:, None]
    scaled = np.linalg.qr(date.features.to_numpy()[:, :8] * root)[0] / root
    return pd.DataFrame(scaled, index=date.features.index), v  # N' diag(v) N = 1


def test_alpha(date: Date, rng: np.random.Generator) -> None:
    N, v = liquid(date, rng)
    ours = portfolio_scores(date.predictions, date.target, N, v)
    theirs = one_by_one(date.predictions, lambda p: oracle.alpha(p, N, v, date.target.dropna()))
    assert_equal(ours["alpha"], theirs, refused=1)


@pytest.mark.filterwarnings("ignore:invalid value")
def test_meta_portfolio_contribution(date: Date, rng: np.random.Generator) -> None:
    N, v = liquid(date, rng)
    stakes = pd.Series(rng.pareto(1.5, 13), index=date.predictions.columns[:13])
    stakes.iloc[3] = 0.0
    middle = pd.DataFrame(gaussianise(date.predictions)[0], date.predictions.index, date.predictions.columns)
    ours = portfolio_scores(middle, date.target, N, v, stakes=stakes)
    staked = stakes.reindex(middle.columns, fill_value=0.0)
    theirs = oracle.meta_portfolio_contribution(middle.sort_index(), staked, N, v, date.target.dropna())
    assert_equal(ours["mpc"], theirs)
    assert abs((ours["mpc"] * staked / staked.sum()).sum()) < 1e-15
    # A model with a gap on the assets scored has no part in the meta portfolio.
    complete = middle.copy()
    gap = date.target.dropna().index.intersection(middle.index)[0]
    complete.loc[gap, "model 0"] = np.nan
    ours = portfolio_scores(complete, date.target, N, v, stakes=stakes)
    kept = middle.drop(columns="model 0")
    theirs = oracle.meta_portfolio_contribution(kept.sort_index(), staked.drop("model 0"), N, v, date.target.dropna())
    assert_equal(ours["mpc"].drop("model 0"), theirs)
    assert "are not covered" in ours["reason"]["model 0"]


def test_golden_values_of_numerai() -> None:
    s = np.array([[1, 1], [2, 2], [3, 1], [4, 2], [5, 1]], dtype=float)
    N = np.array([[1, 5], [2, 4], [3, 3], [4, 2], [5, 1]], dtype=float)
    G = gaussianise(s)[0]
    mpc = meta_portfolio_contribution(G, [0.6, 0.4], N, [3, 2, 1, 2, 3], [1, 2, 3, 2, 1])
    assert mpc[0] == pytest.approx(-0.001580068753957352, abs=1e-15)
    assert portfolio_alpha(G[:, :1], N, [1, 0.5, 1, 0.5, 1], [1, 0, 1, 0, 1])[0] == pytest.approx(0, abs=1e-12)


def test_meta_portfolio_contribution_is_the_gradient(rng: np.random.Generator) -> None:
    G = gaussianise(rng.standard_normal((80, 6)))[0]
    N, v, t = rng.standard_normal((80, 3)) / 9, rng.random(80), rng.standard_normal(80)
    share = np.array([0.4, 0.3, 0.2, 0.1, 0.0, 0.0])
    W = neutral_weights(G, N, v)
    W = W - W.mean(axis=0)

    def score(stakes: np.ndarray) -> float:
        x = W @ stakes
        return float(x @ (t - t.mean()) / np.linalg.norm(x)) / 50

    step = 1e-6
    slopes = [(score(share + step * e) - score(share - step * e)) / (2 * step) for e in np.eye(6)]
    np.testing.assert_allclose(meta_portfolio_contribution(G, share, N, v, t), slopes, rtol=0, atol=1e-9)


@pytest.mark.parametrize("top_bottom", [None, 25])
def test_churn(date: Date, rng: np.random.Generator, top_bottom: int | None) -> None:
    now = date.predictions
    before = (now + 0.3 * rng.standard_normal(now.shape)).drop(index=now.index[::17], columns="model 6")
    ours = churns(now, before.sample(frac=1, random_state=4), top_bottom=top_bottom)
    for name in before:
        sides = [side[name].dropna().sort_index() for side in (now, before)]
        if name == "model 4" and top_bottom:
            assert ours["reason"][name] == "fewer than 2 x 25 assets on a date"
            continue
        assert ours["churn"][name] == pytest.approx(signals.churn(*sides, top_bottom), abs=1e-12)
    assert ours["reason"]["model 6"] == "no predictions before"
    assert churns(now, now.iloc[:200])["reason"]["model 1"].endswith(
        "assets covered were covered before, fewer than 80%"
    )
    assert churns(now.assign(flat=1.0), before.assign(flat=1.0))["reason"]["flat"] == "constant"


def test_turnover(date: Date, rng: np.random.Generator) -> None:
    N, v = liquid(date, rng)
    weights = []
    for noise in (0.0, 0.5):
        raw = date.predictions.drop(columns="model 4").fillna(0.0).sort_index()
        raw = raw + noise * rng.standard_normal(raw.shape)
        at = (N.loc[raw.index], v[raw.index])
        ours = neutral_weights(gaussianise(raw)[0], at[0], at[1], normalise=True)
        weights.append(pd.DataFrame(ours, raw.index, raw.columns))
        theirs = oracle.generate_neutralized_weights(raw, *at, center_and_normalize=True)
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-12)
    now, before = weights[0], weights[1].iloc[10:]
    found = turnovers(now, before)
    for name in now:
        assert found["turnover"][name] == pytest.approx(signals.turnover(now[name], before[name]), abs=1e-12)
    assert turnovers(now, before.iloc[:100])["turnover"].isna().all()


def test_tail_churn_takes_a_gap_for_none() -> None:
    assert tail_churn([1.0, 2.0, 3.0, np.nan], [1.0, 2.0, 3.0, np.nan], 1) == 0
    assert np.isnan(tail_churn([1.0, np.nan, np.nan], [1.0, 2.0, 3.0], 1))
    with pytest.raises(DataError, match="at least 1"):
        tail_churn([1.0], [1.0], 0)


def test_single_precision_is_near_double(rng: np.random.Generator) -> None:
    n, m = 3000, 600
    G = gaussianise(rng.standard_normal((n, m)) + 0.5 * rng.standard_normal((n, 1)))[0]
    t, meta = rng.choice(BINS, n), gaussianise(rng.standard_normal(n))[0]
    Q = neutral_basis(rng.integers(0, 5, (n, 30)))
    single = G.astype(np.float32)
    for score, accuracy in (
        (lambda g: numerai_correlation(g, t), 1e-6),
        (lambda g: contribution(g, meta, t), 1e-6),
        (lambda g: feature_neutral_correlation(g, Q, t), 2e-5),  # two assets next to each other may change ranks
        (lambda g: numerai_correlation(g, t, top_bottom=200), 1e-6),
    ):
        np.testing.assert_allclose(score(single), score(G), rtol=0, atol=accuracy)


def test_threads_and_company_change_no_score(rng: np.random.Generator) -> None:
    G = gaussianise(rng.standard_normal((150, 700)))[0]
    t, Q = rng.choice(BINS, 150), neutral_basis(rng.standard_normal((150, 5)))
    for score in (
        lambda g, jobs: numerai_correlation(g, t, jobs=jobs),
        lambda g, jobs: feature_neutral_correlation(g, Q, t, jobs=jobs),
    ):
        np.testing.assert_array_equal(score(G, 1), score(G, 3))
        np.testing.assert_allclose(score(G[:, [600, 3]], 1), score(G, 1)[[600, 3]], rtol=0, atol=1e-14)


def test_identities(date: Date) -> None:
    table = date.predictions[["model 0", "model 1", "model 2", "model 7"]].dropna()
    table = table.assign(copy=table["model 1"], opposite=-table["model 1"])
    found = scores(table, date.target, meta_model=table["model 7"], features=date.features)
    for column in ("corr", "mmc", "fnc", "neutral_corr", "cwmm"):
        assert found[column]["copy"] == pytest.approx(found[column]["model 1"], abs=1e-14)
        assert found[column]["opposite"] == pytest.approx(-found[column]["model 1"], abs=1e-12)
    assert found["mmc"]["model 7"] == pytest.approx(0, abs=1e-14)
    np.testing.assert_array_equal(signed_power([-4.0, 9.0]), [-8.0, 27.0])
    np.testing.assert_allclose(signed_power([-4.0, 9.0], 2.0), [-16.0, 81.0])


def test_a_bad_model_has_a_reason_and_stops_no_other(date: Date) -> None:
    given = {"meta_model": date.meta, "features": date.features, "top_bottom": (20, 190)}
    good = scores(date.predictions, date.target, **given)
    name = "a 'quoted' <b>name</b> " + "x" * 10_000
    bad = date.predictions.assign(
        **{name: 1.0, "nothing": np.nan, "infinite": np.inf, "three": np.nan, "explained": date.features["feature 0"]}
    )
    bad.loc[bad.index[:3], "three"] = [1.0, 2.0, 3.0]
    table = scores(bad, date.target, **given)
    pd.testing.assert_frame_equal(table.loc[good.index], good)
    columns = [c for c in table if c not in ("assets", "no_target", "no_prediction", "reason")]
    assert table.loc[[name, "nothing", "infinite", "three"], columns].isna().all().all()
    assert table["reason"][[name, "nothing", "infinite"]].tolist() == ["constant", "no value", "infinite value"]
    assert f"3 of {date.target.notna().sum()} assets of `target` covered, fewer than 80%" in table["reason"]["three"]
    assert table["assets"]["three"] <= 3
    for column in columns:  # a score is missing exactly where a reason names it, or all are
        for model, reason in table["reason"].items():
            whole = reason in {"constant", "no value", "infinite value"}
            named = any(column in part.split(":")[0].split(", ") for part in reason.split("; ")) or whole
            assert bool(np.isnan(table[column][model])) == named, (model, column, reason)
    assert (table["assets"] + table["no_prediction"] == date.target.notna().sum()).all()


def test_a_model_that_features_explain_has_no_fnc(date: Date) -> None:
    ranks = pd.DataFrame(gaussianise(date.features)[0], date.features.index, date.features.columns)
    found = scores(date.predictions.assign(explained=date.features["feature 0"]), date.target, features=ranks)
    assert np.isnan(found["fnc"]["explained"])
    assert "the features explain it" in found["reason"]["explained"]
    assert found["corr"].drop("model 4").notna().all()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda d: {"target": d.target * np.nan}, "`target` is not known for any asset"),
        (lambda d: {"target": d.target.iloc[:0]}, "`target` is not known for any asset"),
        (lambda d: {"target": d.target * 0 + 0.5}, "`target` is constant"),
        (lambda d: {"target": d.target.rename(lambda i: f"other {i}")}, "assets of `target` covered, fewer than 80%"),
        (lambda d: {"meta_model": d.meta * 0}, "mmc, cwmm, neutral_mmc|mmc, cwmm: `meta_model` is constant"),
        (lambda d: {"meta_model": d.meta.iloc[:50]}, "assets covered are in `meta_model`, fewer than 80%"),
        (lambda d: {"features": d.features.iloc[5:]}, "fnc: no features for 5 of"),
        (lambda d: {"features": d.features * 0}, "every feature is constant"),
    ],
)
def test_what_models_are_scored_against_may_fail_without_an_exception(
    date: Date, change: Callable[[Date], dict[str, object]], reason: str
) -> None:
    given: dict[str, object] = {"target": date.target, "meta_model": date.meta, "features": date.features}
    given |= change(date)
    target = given.pop("target")
    found = scores(date.predictions, target, **given)
    assert found["reason"].str.contains(reason).sum() >= 9


def test_other_ids_in_the_target_are_refused_as_the_oracle_refuses(date: Date) -> None:
    table = date.predictions[["model 1"]]
    kept = date.target.dropna().index.intersection(table.index)
    edge = int(np.ceil(0.8 * len(date.target.dropna())))
    for count, scored in ((edge, True), (edge - 1, False)):
        part = table.loc[kept[:count]]
        found = scores(part, date.target)
        assert found["corr"].notna().item() is scored
        assert one_by_one(part, lambda p: oracle.numerai_corr(p, date.target.dropna())).notna().item() is scored
        assert found["no_prediction"].item() == len(date.target.dropna()) - count


def test_refuses_what_is_ambiguous(date: Date) -> None:
    p, t = date.predictions, date.target
    with pytest.raises(DataError, match=r"distinct.*model 0"):
        scores(p.rename(columns={"model 1": "model 0"}), t)
    with pytest.raises(DataError, match="distinct"):
        scores(p, pd.concat([t, t.iloc[:1]]))
    with pytest.raises(DataError, match=r"features.*'feature 2'.*filled here"):
        scores(p, t, features=date.features.mask(date.features == date.features.iloc[3, 2]))
    with pytest.raises(DataError, match="top_bottom"):
        scores(p, t, top_bottom=(0,))
    with pytest.raises(DataError, match="example"):
        scores(p, t, example=p["model 1"])
    with pytest.raises(DataError, match="numbers"):
        scores(p.astype(object).assign(word="high"), t)
    with pytest.raises(DataError, match="float16"):
        numerai_correlation(np.zeros((3, 2), dtype=np.float16), [1.0, 2.0, 3.0])
    with pytest.raises(DataError, match="basis"):
        feature_neutral_correlation(np.zeros((3, 2)), np.zeros((2, 1)), [1.0, 2.0, 3.0])
    with pytest.raises(DataError, match="stakes"):
        meta_portfolio_contribution(np.zeros((3, 2)), [0.0, 0.0], np.zeros((3, 1)), np.ones(3), [1.0, 2.0, 3.0])
    with pytest.raises(DataError, match="sample_weights"):
        neutral_weights(np.zeros((3, 2)), np.zeros((3, 1)), [1.0, -1.0, 1.0])
    with pytest.raises(DataError, match="exposures"):
        exposure_dissimilarity(np.zeros((3, 2)), np.zeros(2))
    with pytest.raises(DataError, match="features"):
        feature_exposures(np.zeros((3, 2)), [[1.0], [np.nan], [2.0]])


@pytest.mark.skipif(not REAL.exists(), reason="no ../shared/data/numerai beside the checkout")
def test_real_predictions_and_targets() -> None:
    table = pd.read_parquet(REAL / "validation_2020.parquet")
    rng = np.random.default_rng(8)
    mean = []
    for _, era in table.groupby("era"):
        target = era.set_index("id")["target"].astype(np.float64)
        example = era.set_index("id")["example_prediction"]
        noisy = example + 0.01 * rng.standard_normal(len(example))
        models = pd.DataFrame({"example": example.astype(np.float64), "noisy": noisy, "rounded": noisy.round(2)})
        ours = scores(models, target, meta_model=example, top_bottom=(200, 500))
        for count, suffix in ((None, ""), (200, "_tb200"), (500, "_tb500")):
            theirs = one_by_one(models, lambda p, c=count, t=target: oracle.numerai_corr(p, t, top_bottom=c))
            np.testing.assert_allclose(ours[f"corr{suffix}"], theirs, rtol=0, atol=1e-12)
        theirs = one_by_one(models, lambda p, t=target, e=example: oracle.correlation_contribution(p, e, t))
        np.testing.assert_allclose(ours["mmc"], theirs, rtol=0, atol=1e-12)
        mean.append(ours["corr"]["example"])
    assert len(mean) == 28
    assert np.mean(mean) == pytest.approx(0.0298, abs=5e-5)


@pytest.mark.skipif(not REAL.exists(), reason="no ../shared/data/numerai beside the checkout")
def test_real_features() -> None:
    table = pd.read_parquet(REAL / "sample_2019.parquet").drop_duplicates("id").set_index("id")
    features = table[[f"x{j}" for j in range(1, 51)]].astype(np.float64)
    rng = np.random.default_rng(9)
    X = features.to_numpy()
    models = pd.DataFrame(
        {
            f"m{j}": X @ rng.standard_normal(50) + X[:, j] ** 2 * X[:, j + 1] + rng.standard_normal(len(X))
            for j in range(4)
        },
        index=features.index,
    )
    for name in ("bernie", "hillary"):
        target = table[name].astype(np.float64).dropna()
        rows = target.index
        assert len(rows) > 1000
        ours = scores(models.loc[rows], target, features=features.loc[rows])
        ranked = models.loc[rows].sort_index()
        for column, score in (
            ("fnc", lambda p, f, t: oracle.feature_neutral_corr(p, f.loc[p.index], t)),
            ("neutral_corr", oracle.neutral_correlation),
        ):
            arguments = (features.loc[ranked.index], target)
            theirs = one_by_one(ranked, lambda p, score=score, a=arguments: score(p, *a))
            np.testing.assert_allclose(ours[column], theirs, rtol=0, atol=1e-12)
        for model in models:
            gaussian = oracle.gaussian(oracle.tie_kept_rank(ranked[[model]]))[model]
            largest = oracle.max_feature_correlation(gaussian, features.loc[ranked.index])[1]
            assert ours["max_feature_exposure"][model] == pytest.approx(largest, abs=1e-12)
