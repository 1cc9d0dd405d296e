from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from engine.mandate import AlphaRule
from engine.metamodel import MetaModel, alpha_scale, grinold_alpha, meta_model
from engine.transforms import gaussianise
from risk import DataError

ASSETS = [f"A{i:02d}" for i in range(40)]


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(3)


@pytest.fixture
def predictions(rng: np.random.Generator) -> pd.DataFrame:
    return pd.DataFrame(rng.random((40, 4)), index=ASSETS, columns=["delta", "alpha", "charlie", "bravo"])


@pytest.fixture
def stakes() -> pd.Series:
    return pd.Series({"alpha": 3.0, "bravo": 1.0, "charlie": 4.0, "delta": 2.0})


def build(predictions: pd.DataFrame, stakes: pd.Series, **options: object) -> MetaModel:
    return meta_model(predictions, stakes, assets=ASSETS, **options)  # type: ignore[arg-type]


def test_equals_the_sum_by_hand(predictions: pd.DataFrame, stakes: pd.Series) -> None:
    result = build(predictions, stakes)
    x = sum(stakes[name] / 10 * gaussianise(predictions[name].to_numpy())[0] for name in stakes.index)
    np.testing.assert_allclose(result.scores, (x - x.mean()) / x.std(), rtol=0, atol=1e-13)
    assert result.names == ("alpha", "bravo", "charlie", "delta")
    np.testing.assert_allclose(result.stakes, [0.3, 0.1, 0.4, 0.2])
    assert result.models["used"].all()
    assert (result.models["reason"] == "").all()


def test_order_of_models_and_assets_and_unit_of_stakes_do_not_matter(
    predictions: pd.DataFrame, stakes: pd.Series, rng: np.random.Generator
) -> None:
    result = build(predictions, stakes)
    other = build(predictions.iloc[rng.permutation(40), [3, 1, 0, 2]], stakes.iloc[[2, 0, 3, 1]] * 4)
    np.testing.assert_array_equal(result.scores, other.scores)


def test_every_model_left_out_is_listed_with_its_reason(predictions: pd.DataFrame, stakes: pd.Series) -> None:
    clean = build(predictions, stakes)
    predictions["constant"] = 0.5
    predictions["empty"] = np.nan
    predictions["narrow"] = np.where(np.arange(40) < 3, np.arange(40.0), np.nan)
    predictions["infinite"] = np.where(np.arange(40) == 3, np.inf, np.arange(40.0))
    predictions["late"] = np.arange(40.0)
    predictions["unstaked"] = np.arange(40.0)
    predictions["zero"] = np.arange(40.0)
    extra = pd.Series({"constant": 1, "empty": 1, "narrow": 1, "infinite": 1, "late": 1, "zero": 0, "absent": 5.0})
    submitted = pd.Series({"late": pd.Timestamp("2024-01-05 00:01"), "alpha": pd.Timestamp("2024-01-05")})
    result = build(predictions, pd.concat([stakes, extra]), submitted=submitted, deadline=pd.Timestamp("2024-01-05"))
    assert result.models.loc[~result.models["used"], "reason"].to_dict() == {
        "absent": "no prediction",
        "constant": "constant",
        "empty": "no value",
        "infinite": "infinite value",
        "late": "late",
        "narrow": "covers 3 of 40 assets, fewer than 20",
        "unstaked": "no stake",
        "zero": "no stake",
    }
    assert result.models.loc["narrow", "coverage"] == 3
    assert result.models.loc["narrow", "filled"] == 0
    np.testing.assert_array_equal(result.scores, clean.scores)


def test_names_not_covered_are_set_to_zero_and_counted(predictions: pd.DataFrame, stakes: pd.Series) -> None:
    predictions.loc[ASSETS[:7], "bravo"] = np.nan
    result = build(predictions, stakes)
    assert result.models.loc["bravo", ["coverage", "filled"]].tolist() == [33, 7]
    within = {name: gaussianise(predictions[name].dropna().to_numpy())[0] for name in stakes.index}
    within["bravo"] = np.concatenate([np.zeros(7), within["bravo"]])
    x = sum(stakes[name] / 10 * within[name] for name in stakes.index)
    np.testing.assert_allclose(result.scores, (x - x.mean()) / x.std(), rtol=0, atol=1e-13)


def test_ranks_are_taken_within_the_universe(predictions: pd.DataFrame, stakes: pd.Series) -> None:
    outside = pd.DataFrame(1e6, index=["X1", "X2"], columns=predictions.columns)
    result = build(pd.concat([outside, predictions]), stakes)
    np.testing.assert_array_equal(result.scores, build(predictions, stakes).scores)
    assert result.ignored_assets == 2
    wider = meta_model(predictions, stakes, assets=[*ASSETS, "Y1"])
    assert (wider.models["filled"] == 1).all()


def test_constant_within_the_universe_is_constant(predictions: pd.DataFrame, stakes: pd.Series) -> None:
    predictions["alpha"] = 1.0
    outside = pd.DataFrame(7.0, index=["X1"], columns=predictions.columns)
    assert build(pd.concat([predictions, outside]), stakes).models.loc["alpha", "reason"] == "constant"


@pytest.mark.parametrize(
    ("stakes", "message"),
    [
        ({"alpha": -1.0}, "alpha.*-1"),
        ({"alpha": np.nan}, "alpha.*nan"),
        ({"alpha": np.inf}, "alpha.*inf"),
        ({"alpha": 0.0, "absent": 2.0}, "none of 5 models.*Leave the date out"),
        ({}, "empty"),
    ],
)
def test_refuses_bad_stakes(predictions: pd.DataFrame, stakes: dict[str, float], message: str) -> None:
    with pytest.raises(DataError, match=message):
        build(predictions, pd.Series(stakes, dtype=float))


def test_refuses_what_is_ambiguous(predictions: pd.DataFrame, stakes: pd.Series) -> None:
    with pytest.raises(DataError, match="A00"):
        build(pd.concat([predictions, predictions.iloc[:1]]), stakes)
    with pytest.raises(DataError, match="alpha"):
        build(
            predictions.join(predictions[["alpha"]].rename(columns={"alpha": "echo"})).rename(
                columns={"echo": "alpha"}
            ),
            stakes,
        )
    with pytest.raises(DataError, match="alpha"):
        build(predictions, pd.concat([stakes, stakes.iloc[:1]]))
    with pytest.raises(DataError, match="together"):
        build(predictions, stakes, deadline=pd.Timestamp("2024-01-05"))
    with pytest.raises(DataError, match="no model"):
        build(predictions.iloc[:, :0], stakes)


def test_models_that_cancel_are_refused(predictions: pd.DataFrame) -> None:
    predictions["bravo"] = -predictions["alpha"]
    with pytest.raises(DataError, match="cancel"):
        build(predictions, pd.Series({"alpha": 1.0, "bravo": 1.0}))


def test_grinold_rule_by_hand() -> None:
    rule = AlphaRule(information_coefficient=0.03, horizon_days=20)
    scores, variance = np.array([1.0, -2.0]), np.array([0.09, 0.16])
    expected = [0.03 * 0.3 * np.sqrt(252 / 20), -2 * 0.03 * 0.4 * np.sqrt(252 / 20)]
    np.testing.assert_allclose(grinold_alpha(scores, variance, rule), expected, rtol=1e-14)
    np.testing.assert_allclose(grinold_alpha(scores, variance, rule, 260), np.array(expected) * np.sqrt(260 / 252))
    np.testing.assert_array_equal(grinold_alpha(scores, variance, rule), scores * alpha_scale(variance, rule))
    with pytest.raises(DataError, match="scores"):
        grinold_alpha(scores[:1], variance, rule)
    with pytest.raises(DataError, match="`scores` must be finite"):
        grinold_alpha([np.nan, 1.0], variance, rule)
    with pytest.raises(DataError, match="specific_variance"):
        alpha_scale([0.0], rule)
