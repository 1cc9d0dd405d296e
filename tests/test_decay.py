"""What alpha that decays is worth: the trade of Garleanu and Pedersen, found by dynamic programming, is that of one period."""

from __future__ import annotations

import math

import numpy as np
import pytest

from engine import ONE, Mandate
from engine.decay import lifetime_share


def best_trade(alpha: np.ndarray, h: np.ndarray, V: np.ndarray, g: float, k: float, phi: float) -> np.ndarray:
    """Return the first position of the infinite problem by iterating on its value -x'Px/2 + x'Q alpha until it stands still.

    maximise the sum over periods of x'alpha - (g/2) x'Vx - (k/2) u'Vu, alpha keeping the share 1 - phi.
    """
    n = len(V)
    P, Q = np.zeros((n, n)), np.zeros((n, n))
    for _ in range(4000):
        bend = np.linalg.inv(g * V + k * V + P)
        signal = np.eye(n) + (1 - phi) * Q
        P, Q = k * V - k**2 * V @ bend @ V, k * V @ bend @ signal
    bend = np.linalg.inv(g * V + k * V + P)
    return np.asarray(bend @ (k * V @ h + (np.eye(n) + (1 - phi) * Q) @ alpha))


@pytest.mark.parametrize(("g", "k", "phi"), [(1.0, 1.0, 0.5), (2.0, 30.0, 0.1), (5.0, 0.4, 0.9), (1.0, 8.0, 0.0)])
def test_one_period_with_a_share_of_cost_and_alpha_makes_the_trade_of_all_periods(
    g: float, k: float, phi: float
) -> None:
    rng = np.random.default_rng(4)
    root = rng.standard_normal((4, 4))
    V, alpha, h = root @ root.T + np.eye(4), rng.standard_normal(4), rng.standard_normal(4)
    s = (-g / k + math.sqrt((g / k) ** 2 + 4 * g / k)) / 2
    assert s**2 / (1 - s) == pytest.approx(g / k)
    f = 1 / (1 + phi * (1 - s) / s)
    one_period = np.linalg.solve(g * V + s * k * V, f * alpha + s * k * V @ h)
    aim = f * np.linalg.solve(g * V, alpha)
    np.testing.assert_allclose(one_period, h + s * (aim - h), rtol=1e-10)
    np.testing.assert_allclose(best_trade(alpha, h, V, g, k, phi), one_period, rtol=1e-8)


def with_decay(half_life: float | None, *, horizon: float = 20, holding: float = 60) -> Mandate:
    alpha = ONE.alpha.model_copy(update={"half_life_days": half_life, "horizon_days": horizon})
    costs = ONE.costs.model_copy(update={"expected_holding_days": holding})
    return ONE.model_copy(update={"alpha": alpha, "costs": costs})


def test_the_share_is_alphas_mean_over_a_life_by_its_mean_over_the_horizon() -> None:
    days = (np.arange(4_000_000) + 0.5) / 1000
    alpha = 0.5 ** (days / 7)
    life = np.exp(-days / 30) / 30
    stated = alpha[days < 20].mean()
    assert lifetime_share(with_decay(7, horizon=20, holding=30)) == pytest.approx(
        (alpha * life).sum() / 1000 / stated, rel=1e-5
    )


def test_the_discrete_share_tends_to_that_in_days() -> None:
    step, life, holding = 0.01, 5.0, 40.0
    s, phi = step / holding, 1 - 0.5 ** (step / life)
    per_step = 1 / (1 + phi * (1 - s) / s)
    # Stated for an instant, alpha's mean over the horizon is alpha.
    assert lifetime_share(with_decay(life, horizon=1e-9, holding=holding)) == pytest.approx(per_step, rel=1e-3)


def test_no_half_life_is_no_decay_and_a_long_one_next_to_none() -> None:
    assert lifetime_share(with_decay(None)) == 1.0
    assert lifetime_share(with_decay(1e9)) == pytest.approx(1.0, abs=1e-6)
    shares = [lifetime_share(with_decay(life)) for life in (10, 20, 40, 80)]
    assert shares == sorted(shares)
    assert lifetime_share(with_decay(10, holding=2)) > 1 > lifetime_share(with_decay(10, holding=60))
