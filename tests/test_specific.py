"""Specific risk: its formula, short histories, shrinkage and floor."""

from __future__ import annotations

import numpy as np
import pytest

from risk import RiskSpec
from risk.specific import own_variance, shrink_to_size, specific_risk


def test_own_variance_is_its_formula() -> None:
    rng = np.random.default_rng(21)
    e = rng.standard_normal((150, 6)) * 0.02
    e[rng.random(e.shape) < 0.2] = np.nan
    e[:, 5] = np.nan
    fast, days = own_variance(e, 84.0, 1)
    for i in range(5):
        top = bottom = 0.0
        for t in range(150):
            weight = 0.5 ** ((149 - t) / 84)
            if np.isfinite(e[t, i]):
                top, bottom = top + weight * e[t, i] ** 2, bottom + weight
                if t and np.isfinite(e[t - 1, i]):
                    top += 2 * 0.5 * weight * 0.5 ** (0.5 / 84) * e[t, i] * e[t - 1, i]
        assert fast[i] == pytest.approx(top / bottom, rel=1e-10)
    assert days.tolist() == np.isfinite(e).sum(axis=0).tolist()
    assert np.isnan(fast[5])


def test_shrinkage_by_hand() -> None:
    volatility, size, members = np.array([0.2, 0.4, 0.3]), np.array([1.0, 3.0, np.nan]), np.array([True, True, False])
    # mean .35; deviations .15 and .05: spread sqrt((.0225 + .0025) / 2)
    spread = np.sqrt(0.0125)
    expected = []
    for s in volatility:
        share = 0.1 * abs(s - 0.35) / (spread + 0.1 * abs(s - 0.35))
        expected.append(share * 0.35 + (1 - share) * s)
    np.testing.assert_allclose(shrink_to_size(volatility, size, members, 0.1), expected, rtol=1e-12)
    assert (shrink_to_size(volatility, size, members, 0.0) == volatility).all()


def test_shrinkage_compares_with_assets_of_like_size() -> None:
    size = np.r_[np.full(100, 1.0), np.full(100, 100.0)]
    volatility = np.r_[np.full(100, 0.6), np.full(100, 0.2)]
    np.testing.assert_allclose(shrink_to_size(volatility, size, np.ones(200, bool), 5.0), volatility)


def sample(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return specific returns whose volatility is exp of a style exposure, with that exposure."""
    rng = np.random.default_rng(seed)
    style = rng.standard_normal((200, 1))
    truth = 0.02 * np.exp(0.5 * style[:, 0])
    return rng.standard_normal((600, 200)) * truth, np.exp(rng.normal(0, 1, 200)), style, truth * np.sqrt(252)


def test_annual_volatilities_are_recovered() -> None:
    e, size, style, truth = sample(22)
    spec = RiskSpec(specific_shrinkage=0.0)
    result = specific_risk(e, size, np.ones(200, bool), style, spec, 252)
    ratio = np.sqrt(result.variance) / truth
    assert np.mean(ratio) == pytest.approx(1.0, abs=0.02)
    assert np.std(ratio) < 0.08  # half-life 84 is worth 242 days: 1/sqrt(484) = 4.5 %, Newey-West a little more
    assert result.short == 0


def test_a_short_history_leans_on_assets_like_it() -> None:
    e, size, style, truth = sample(23)
    spec = RiskSpec(specific_shrinkage=0.0)
    e[:-5, :20] = np.nan
    e[:, 20:30] = np.nan
    result = specific_risk(e, size, np.ones(200, bool), style, spec, 252)
    assert result.short == 30
    ratio = np.sqrt(result.variance[:30]) / truth[:30]
    assert ratio.min() > 0.8  # five days alone would be off by a third
    assert ratio.max() < 1.25


def test_a_riskless_asset_is_floored_and_counted() -> None:
    e, size, style, _ = sample(24)
    e[:, 7] = 0.0
    result = specific_risk(e, size, np.ones(200, bool), style, RiskSpec(specific_shrinkage=0.0), 252)
    assert result.floored == 1
    assert result.variance[7] == pytest.approx(0.05**2)
    assert (result.variance > 0).all()
