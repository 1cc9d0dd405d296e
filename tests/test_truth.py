"""On a market whose truth is known, a run finds what was planted."""

from __future__ import annotations

from pathlib import Path

import pytest

from backtest import Dataset, Run, attribute_run, simulate
from backtest.synthetic import MarketSpec, Truth, read_truth, write_market
from benchmarks.truth import contribution_by_kind, information_coefficient, volatility_and_beta

# Small, so skill is planted well above what a real tournament has: what is tested is the chain, not its power.
SPEC = MarketSpec(
    assets=90, years=2.5, models=20, countries=3, sectors=4, seed=4, information_coefficient=0.25, skill_low=0.05,
    skill_high=0.12, noise_share=0.3, anti_share=0.2, local_holidays=2,
)  # fmt: skip


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Truth]:
    folder = tmp_path_factory.mktemp("truth")
    write_market(folder / "data", SPEC)
    run = simulate(Dataset(folder / "data"), "one", out=folder / "one", aum=5e6)
    return attribute_run(run, masks=2, seed=1, workers=2), read_truth(Path(folder / "data"))


def test_the_information_coefficient_is_the_planted_one(found: tuple[Run, Truth]) -> None:
    row = information_coefficient(*found)
    assert row["planted"] > 3 * row["standard error"], "no skill at all would pass"
    assert abs(row["z"]) < 3


def test_volatility_and_beta_are_those_of_the_true_covariance(found: tuple[Run, Truth]) -> None:
    volatility, beta, _ = volatility_and_beta(*found)
    assert volatility["standard error"] < 0.1
    assert abs(volatility["z"]) < 3
    assert beta["standard error"] < 0.05
    assert abs(beta["z"]) < 3


def test_skilled_models_contribute_more_than_noise_and_noise_more_than_anti_skilled_ones(
    found: tuple[Run, Truth],
) -> None:
    for row in contribution_by_kind(*found):
        assert row["z"] > 2, row


def test_forecast_volatility_of_the_risk_model_is_near_the_true_one(found: tuple[Run, Truth]) -> None:
    row = volatility_and_beta(*found)[-1]
    assert row["realised"] == pytest.approx(row["planted"], rel=0.15)
