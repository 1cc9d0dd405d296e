"""Signals and blind factors: what specific returns have in common is found, out of sample, and keeps its meaning."""

from __future__ import annotations

import numpy as np
import pytest

from risk import RiskSpec
from risk.residual_factors import MINIMUM_DAYS, ResidualFactors, ResidualReturns, blind_names

N, J = 300, 3
SPEC = RiskSpec(blind_factors=J, blind_window=120)
NO_SIGNAL = np.zeros((N, 0))


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


def planted(rng: np.random.Generator, days: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return specific returns with three common movements: exposures (N, 3), factor returns (T, 3), returns (T, N)."""
    volatility = rng.uniform(0.01, 0.03, N)
    B = rng.standard_normal((N, J)) * volatility[:, None]
    g = rng.standard_normal((days, J)) * [0.6, 0.45, 0.3]
    return B, g, g @ B.T + rng.standard_normal((days, N)) * volatility


def walk(returns: np.ndarray, spec: RiskSpec = SPEC) -> tuple[ResidualFactors, list[ResidualReturns]]:
    factors = ResidualFactors(returns.shape[1], spec)
    return factors, [factors.add(row, np.zeros((returns.shape[1], 0))) for row in returns]


def test_planted_movements_are_found_out_of_sample(rng: np.random.Generator) -> None:
    _, g, returns = planted(rng, 500)
    _, days = walk(returns)
    found = np.array([day.factor_returns for day in days])[300:]
    explained = 1 - (g[300:] - found @ np.linalg.lstsq(found, g[300:], rcond=None)[0]).var(axis=0) / g[300:].var(axis=0)
    assert (explained > 0.8).all(), explained


def test_parts_and_rest_are_the_whole(rng: np.random.Generator) -> None:
    _, _, returns = planted(rng, 150)
    factors = ResidualFactors(N, SPEC)
    signals = rng.standard_normal((N, 2))
    for row in returns:
        before = factors.exposures.astype(np.float64)
        day = factors.add(row, signals)
        np.testing.assert_allclose(np.hstack([signals, before]) @ day.factor_returns + day.rest, row, atol=1e-14)


def test_factor_returns_are_weighted_least_squares(rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("risk.residual_factors.HALF_LIFE", 1e9)
    _, _, returns = planted(rng, 40)
    factors = ResidualFactors(N, SPEC.model_copy(update={"blind_factors": 0}))
    signals = rng.standard_normal((N, 2))
    for row in returns:
        day = factors.add(row, signals)
    precision = 1 / (returns[:-1] ** 2).mean(axis=0)
    root = np.sqrt(precision)[:, None]
    expected = np.linalg.lstsq(signals * root, returns[-1] * root[:, 0], rcond=None)[0]
    np.testing.assert_allclose(day.factor_returns, expected, rtol=1e-7)
    np.testing.assert_allclose(day.noise, np.linalg.inv((signals * root).T @ (signals * root)), rtol=1e-7)


def test_the_noise_is_what_noise_earns(rng: np.random.Generator) -> None:
    returns = rng.standard_normal((900, N)) * rng.uniform(0.01, 0.03, N)
    _, days = walk(returns)
    found = np.array([day.factor_returns for day in days])[200:]
    noise = np.array([day.noise for day in days])[200:]
    ratio = (found**2).mean(axis=0) / np.diag(noise.mean(axis=0))
    # 700 days: a standard error of 5 %; the precision is itself an estimate.
    np.testing.assert_allclose(ratio, 1.0, atol=0.2)


def test_a_factor_keeps_its_meaning_from_estimate_to_estimate(rng: np.random.Generator) -> None:
    _, _, returns = planted(rng, 260)
    factors = ResidualFactors(N, SPEC)
    turned = []
    for row in returns:
        before = factors.exposures
        factors.add(row, NO_SIGNAL)
        if factors.exposures is not before and before.any():
            a, b = before.astype(float), factors.exposures.astype(float)
            turned.append([a[:, j] @ b[:, j] / np.linalg.norm(a[:, j]) / np.linalg.norm(b[:, j]) for j in range(J)])
    assert len(turned) > 20
    assert np.min(turned) > 0.5
    assert np.mean(turned) > 0.95


@pytest.mark.parametrize("leave", [True, False])
def test_factors_keep_their_meaning_when_their_number_changes(rng: np.random.Generator, leave: bool) -> None:
    """38 assets have three factors and 29 have two; by then the first two movements have changed places in size."""
    volatility = rng.uniform(0.01, 0.03, 38)
    B = rng.standard_normal((38, J)) * volatility[:, None]
    strength = np.where(np.arange(400)[:, None] < 130, [0.9, 0.7, 0.3], [0.7, 0.9, 0.3])
    returns = rng.standard_normal((400, J)) * strength @ B.T + rng.standard_normal((400, 38)) * volatility
    returns[slice(290, None) if leave else slice(0, 290), 29:] = np.nan
    factors, numbers, likeness = ResidualFactors(38, SPEC), [], []
    for row in returns:
        before = factors.exposures[:29].astype(float)
        factors.add(row, NO_SIGNAL[:38])
        after = factors.exposures[:29].astype(float)
        number = int(after.any(axis=0).sum())
        if numbers and numbers[-1] and number != numbers[-1]:
            a, b = (both[:, :2] / np.linalg.norm(both[:, :2], axis=0) for both in (before, after))
            likeness.append((a * b).sum(axis=0))
        numbers.append(number)
    assert (numbers[250], numbers[-1]) == ((3, 2) if leave else (2, 3))
    assert np.min(likeness) > 0.8, likeness


def test_taken_up_again_it_gives_the_same_bits(rng: np.random.Generator) -> None:
    _, _, returns = planted(rng, 200)
    whole, days = walk(returns)
    half, _ = walk(returns[:130])
    again = half.copy()
    kept = half.exposures
    for row, day in zip(returns[130:], days[130:], strict=True):
        np.testing.assert_array_equal(again.add(row, NO_SIGNAL).factor_returns, day.factor_returns)
    np.testing.assert_array_equal(again.exposures, whole.exposures)
    np.testing.assert_array_equal(half.exposures, kept)


def test_assets_without_history_are_left_alone(rng: np.random.Generator) -> None:
    _, _, returns = planted(rng, 200)
    returns[:-5, 7] = np.nan
    factors, days = walk(returns)
    assert not factors.exposures[7].any()
    assert days[-1].rest[7] == returns[-1, 7]
    assert np.isnan(days[100].rest[7])


def test_few_assets_have_few_factors(rng: np.random.Generator) -> None:
    factors, days = walk(rng.standard_normal((130, 25)) * 0.01)
    assert days[-1].present.tolist() == [True, True, False]
    assert not factors.exposures[:, 2].any()


def test_a_day_with_few_returns_has_none(rng: np.random.Generator) -> None:
    _, _, returns = planted(rng, 140)
    returns[-1, 20:] = np.nan
    _, days = walk(returns)
    assert days[-2].present.all()
    assert not days[-1].present.any()
    assert not days[-1].factor_returns.any()


@pytest.mark.parametrize("days", [1, MINIMUM_DAYS - 1])
def test_before_precision_is_known_nothing_is_common(rng: np.random.Generator, days: int) -> None:
    returns = rng.standard_normal((days, N)) * 0.01
    factors = ResidualFactors(N, SPEC)
    for row in returns:
        day = factors.add(row, np.ones((N, 1)))
        assert not day.present.any()
        np.testing.assert_array_equal(day.rest, row)


def test_names_count_from_one() -> None:
    assert blind_names(RiskSpec(blind_factors=12))[-1] == "blind:12"


def test_errors_that_go_together_are_told_in_full(rng: np.random.Generator) -> None:
    """Two signals that are nearly one: their returns err in opposite ways, and only their sum is known."""
    factors = ResidualFactors(N, SPEC.model_copy(update={"blind_factors": 0}))
    z = rng.standard_normal(N)
    signals = np.column_stack([z, z + 0.2 * rng.standard_normal(N)])
    days = [factors.add(row, signals) for row in rng.standard_normal((900, N)) * 0.02][100:]
    found = np.array([day.factor_returns for day in days])
    noise = np.mean([day.noise for day in days], axis=0)
    for combination in ([1.0, 0.0], [1.0, 1.0], [1.0, -1.0]):
        c = np.array(combination)
        assert ((found @ c) ** 2).mean() == pytest.approx(c @ noise @ c, rel=0.2)


def test_one_jump_is_nobodys_factor(rng: np.random.Generator) -> None:
    _, _, returns = planted(rng, 200)
    jumped = returns.copy()
    jumped[-1, 3] += 4.0
    (_, calm), (_, after) = walk(returns), walk(jumped)
    moved = np.abs(after[-1].factor_returns - calm[-1].factor_returns)
    assert (moved < 0.1).all(), moved
    assert after[-1].rest[3] > 3.5
