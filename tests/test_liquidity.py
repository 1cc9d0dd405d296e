"""Days to sell follow from volumes; what has no volume is named and never counts as sold."""

from __future__ import annotations

import numpy as np
import pytest

from risk import DataError
from risk.liquidity import liquidity, trailing_dollar_volume

NAMES = ["A", "B", "C", "D", "E"]
WEIGHTS = np.array([0.4, -0.3, 0.2, -0.1, 0.0])
NAV = 1e6


def test_days_are_value_over_a_share_of_volume() -> None:
    result = liquidity(NAMES, WEIGHTS, [1e6, 3e5, 1e5, 1e4, np.nan], NAV, participation=0.2)
    np.testing.assert_allclose(result.days, [2.0, 5.0, 10.0, 50.0, 0.0], rtol=1e-12)
    assert result.unknown == ()
    assert result.unknown_gross == 0.0


def test_shares_sold_count_positions_in_part_by_side() -> None:
    result = liquidity(NAMES, WEIGHTS, [1e6, 3e5, 1e5, 1e4, np.nan], NAV, participation=0.2, horizons=(1, 5, 50))
    expected = [0.4 / 2 + 0.3 / 5 + 0.2 / 10 + 0.1 / 50, 0.4 + 0.3 + 0.2 / 2 + 0.1 / 10, 1.0]
    np.testing.assert_allclose(result.liquidated, expected, rtol=1e-12)
    np.testing.assert_allclose(result.liquidated_long, [(0.2 + 0.02) / 0.6, 0.5 / 0.6, 1.0], rtol=1e-12)
    weighted = 0.6 * result.liquidated_long + 0.4 * result.liquidated_short
    np.testing.assert_allclose(weighted, result.liquidated, rtol=1e-12)
    np.testing.assert_array_equal(result.table()["liquidated"], result.liquidated)


def test_quantiles_are_weighted_by_gross() -> None:
    result = liquidity(
        NAMES, WEIGHTS, [1e6, 3e5, 1e5, 1e4, 1.0], NAV, participation=0.2, quantiles=(0.1, 0.4, 0.41, 0.9, 1.0)
    )
    np.testing.assert_allclose(result.quantile_days, [2.0, 2.0, 5.0, 10.0, 50.0], rtol=1e-12)


@pytest.mark.parametrize("volume", [np.nan, 0.0])
def test_a_position_without_a_volume_is_named_and_is_never_sold(volume: float) -> None:
    result = liquidity(NAMES, WEIGHTS, [1e6, volume, 1e5, 1e4, volume], NAV, participation=0.2, horizons=(1000,))
    assert result.unknown == ("B",)
    assert result.unknown_gross == pytest.approx(0.3, rel=1e-12)
    assert np.isnan(result.days[1])
    assert result.liquidated[0] == pytest.approx(0.7, rel=1e-12)
    assert result.liquidated_short[0] == pytest.approx(0.25, rel=1e-12)
    assert np.isinf(result.quantile_days[-1])
    assert np.isfinite(result.quantile_days[:2]).all()


def test_shares_sold_grow_with_time_and_participation() -> None:
    rng = np.random.default_rng(71)
    names, w, volume = [f"A{i}" for i in range(200)], rng.standard_normal(200), rng.lognormal(12, 2, 200)
    slow, fast = (liquidity(names, w, volume, 1e5, participation=p, horizons=range(1, 40)) for p in (0.05, 0.1))
    assert (np.diff(slow.liquidated) >= 0).all()
    assert (fast.liquidated >= slow.liquidated).all()
    np.testing.assert_allclose(slow.days, 2 * fast.days, rtol=1e-12)
    np.testing.assert_allclose(slow.liquidated[1::2], fast.liquidated[: len(slow.liquidated[1::2])], rtol=1e-12)


def test_the_cost_is_that_of_daily_trades_by_the_square_root_law() -> None:
    volume, volatility = np.array([1e6, 3e5, 1e5, np.nan, np.nan]), np.full(5, 0.02)
    result = liquidity(NAMES, WEIGHTS, volume, NAV, participation=0.2, half_spread=0.001, daily_volatility=volatility)
    assert result.cost is not None
    day = 0.2 * volume[:3] / NAV  # the weight sold on each of 2, 5 and 10 days
    trades = np.array([2, 5, 10]) * (0.001 * day + 0.02 * np.sqrt(NAV / volume[:3]) * day**1.5)
    np.testing.assert_allclose(result.cost[:3], trades, rtol=1e-12)
    assert np.isnan(result.cost[3])
    assert result.cost[4] == 0.0
    assert result.total_cost == pytest.approx(trades.sum(), rel=1e-12)
    small = liquidity(["A"], [0.01], [1e6], NAV, participation=0.2, half_spread=0.0, daily_volatility=[0.02])
    assert small.total_cost == pytest.approx(0.01 * 0.02 * np.sqrt(0.01), rel=1e-12)  # gone within the day
    assert np.isnan(liquidity(NAMES, WEIGHTS, volume, NAV).total_cost)


def test_an_empty_book_is_sold_at_once() -> None:
    result = liquidity(NAMES, np.zeros(5), np.full(5, np.nan), NAV)
    assert result.unknown == ()
    assert not result.days.any()
    assert not result.quantile_days.any()
    assert np.isnan(result.liquidated).all()


def test_trailing_volume_is_the_median_of_the_last_known_days() -> None:
    table = np.array([[9.0, 9.0, 9.0], [1.0, np.nan, np.nan], [3.0, 4.0, np.nan], [0.0, 8.0, 5.0]])
    np.testing.assert_array_equal(trailing_dollar_volume(table, days=3), [1.0, 6.0, np.nan])
    np.testing.assert_array_equal(trailing_dollar_volume(table, days=10), [2.0, 8.0, 7.0])
    for bad, message in ((-table, "must be >= 0"), (table[:0], "must have shape"), (table[0], "must have shape")):
        with pytest.raises(DataError, match=message):
            trailing_dollar_volume(bad)
    with pytest.raises(DataError, match="`days` must be at least 1"):
        trailing_dollar_volume(table, days=0)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"dollar_volume": np.ones(4)}, "`dollar_volume` must have shape"),
        ({"dollar_volume": [1, 1, -2, 1, 1]}, "'C' has -2"),
        ({"dollar_volume": [1, 1, np.inf, 1, 1]}, "'C' has inf"),
        ({"nav": 0.0}, "`nav` must be a positive"),
        ({"participation": 0.0}, "`participation` must lie"),
        ({"quantiles": (0.5, 1.1)}, "`quantiles` must lie"),
        ({"horizons": (0.0,)}, "`horizons` must be a positive"),
        ({"half_spread": 0.001}, "`daily_volatility` must be given"),
        ({"half_spread": -0.001, "daily_volatility": np.ones(5)}, "`half_spread` must be >= 0"),
        ({"half_spread": 0.001, "daily_volatility": np.ones(5), "impact": -1.0}, "`impact` must be >= 0"),
    ],
)
def test_bad_input_is_refused(given: dict[str, object], message: str) -> None:
    arguments = {"dollar_volume": np.ones(5), "nav": NAV} | given
    with pytest.raises(DataError, match=message):
        liquidity(NAMES, WEIGHTS, **arguments)
