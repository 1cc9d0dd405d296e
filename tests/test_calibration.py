"""What a book's own past says of its forecasts: right where they were right, the ratio where they were not."""

from __future__ import annotations

import numpy as np
import pytest

from risk import DataError, RiskSpec
from risk.calibration import forecast_multiplier

PLAIN = RiskSpec(calibration_half_life=252.0, calibration_prior_days=63.0, calibration_lags=0, calibration_floor=0.0)


def drawn(days: int, ratio: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return forecasts that differ from day to day, and returns with `ratio` times their volatility."""
    rng = np.random.default_rng(seed)
    forecast = rng.uniform(0.05, 0.15, days)
    return forecast, ratio * forecast / np.sqrt(252) * rng.standard_normal(days)


def test_without_a_past_the_forecast_stands() -> None:
    assert forecast_multiplier(np.zeros(0), np.zeros(0), PLAIN, 252) == 1.0


@pytest.mark.parametrize("ratio", [0.5, 1.0, 2.0])
def test_a_constant_ratio_is_found(ratio: float) -> None:
    spec = PLAIN.model_copy(update={"calibration_half_life": 1e9})
    assert forecast_multiplier(*drawn(20_000, ratio), spec, 252) == pytest.approx(ratio, rel=0.02)


def test_it_is_the_weighted_mean_by_hand() -> None:
    forecast, realised = drawn(40, 1.5)
    weights = 0.5 ** (np.arange(39, -1, -1) / 252.0)
    z2 = realised**2 * 252 / forecast**2
    expected = np.sqrt((63 + weights @ z2) / (63 + weights.sum()))
    assert forecast_multiplier(forecast, realised, PLAIN, 252) == pytest.approx(expected, rel=1e-12)


def test_returns_that_follow_each_other_count_as_such() -> None:
    forecast, realised = drawn(20_000, 1.0)
    followed = realised.copy()
    followed[1:] += 0.5 * realised[:-1] * forecast[1:] / forecast[:-1]
    spec = PLAIN.model_copy(update={"calibration_half_life": 1e9, "calibration_lags": 100})
    assert forecast_multiplier(forecast, followed, spec, 252) == pytest.approx(1.5, rel=0.1)


def test_a_quiet_time_does_not_loosen_the_limit() -> None:
    quiet = drawn(500, 0.5)
    assert forecast_multiplier(*quiet, PLAIN, 252) < 0.8
    assert forecast_multiplier(*quiet, RiskSpec(), 252) == 1.0


def test_days_without_a_book_tell_nothing() -> None:
    forecast, realised = drawn(100, 2.0)
    padded = np.insert(forecast, 0, [0.0, 0.0]), np.insert(realised, 0, [0.0, 0.0])
    assert forecast_multiplier(*padded, PLAIN, 252) == pytest.approx(
        forecast_multiplier(forecast, realised, PLAIN, 252)
    )


def test_it_is_off_where_the_spec_says_so() -> None:
    assert forecast_multiplier(*drawn(500, 3.0), RiskSpec(calibration_half_life=None), 252) == 1.0


@pytest.mark.parametrize(
    ("forecast", "realised", "wrong"),
    [([0.1], [0.0, 0.1], "of one length"), ([-0.1], [0.0], "at least 0"), ([0.1], [np.nan], "finite")],
)
def test_what_cannot_be_used_is_refused(forecast: list[float], realised: list[float], wrong: str) -> None:
    with pytest.raises(DataError, match=wrong):
        forecast_multiplier(np.array(forecast), np.array(realised), RiskSpec(), 252)
