"""Exposures: descriptors against slow twins, standardisation identities, pooling of thin categories."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from planted_market import PlantedMarket, plain_spec, plant

from risk import DataError
from risk.categories import pool_categories
from risk.descriptors import trailing_descriptors
from risk.exposures import day_exposures, factor_order, standardise
from risk.panel import UserExposures
from risk.spec import STYLES


@pytest.fixture(scope="module")
def market() -> PlantedMarket:
    market = plant(1, 400, 40, missing=0.05)
    members = np.random.default_rng(2).random(market.members.shape) < 0.7
    return dataclasses.replace(market, members=members)


@pytest.fixture(scope="module")
def raw(market: PlantedMarket) -> dict[str, np.ndarray]:
    result = trailing_descriptors(market.panel, market.members, market.size, plain_spec(styles=STYLES))
    return {style: result.raw[:, k] for k, style in enumerate(STYLES)}


@pytest.mark.parametrize("t", [100, 300, 399])
def test_beta_is_a_weighted_regression_on_the_members_return(
    market: PlantedMarket, raw: dict[str, np.ndarray], t: int
) -> None:
    returns, size = market.panel.returns, market.size
    # The universe of the evening before, at its sizes.
    members = np.vstack([np.zeros((1, 40), dtype=bool), market.members[:-1]])
    weights = np.where(np.isfinite(returns) & members, size, 0.0)
    weights[0] = np.nan
    index = (weights * np.nan_to_num(returns)).sum(axis=1) / weights.sum(axis=1)
    days = np.arange(max(1, t - 251), t + 1)
    for i in range(5):
        mine = days[np.isfinite(returns[days, i])]
        slow = sm.WLS(returns[mine, i], sm.add_constant(index[mine]), weights=0.5 ** ((t - mine) / 63)).fit()
        assert raw["beta"][t, i] == pytest.approx(slow.params[1], rel=1e-6)


def test_past_returns_compound_over_their_windows(market: PlantedMarket, raw: dict[str, np.ndarray]) -> None:
    growth = np.log1p(np.nan_to_num(market.panel.returns))
    t = 399
    np.testing.assert_allclose(raw["momentum"][t], growth[t - 251 : t - 20].sum(axis=0), rtol=2e-6, atol=1e-7)
    np.testing.assert_allclose(raw["reversal_week"][t], growth[t - 4 : t + 1].sum(axis=0), rtol=2e-6, atol=1e-7)
    np.testing.assert_allclose(raw["reversal_month"][t], growth[t - 20 : t + 1].sum(axis=0), rtol=2e-6, atol=1e-7)
    assert np.isnan(raw["momentum"][120]).all()


def test_volatility_and_liquidity_match_pandas(market: PlantedMarket, raw: dict[str, np.ndarray]) -> None:
    returns = pd.DataFrame(market.panel.returns)
    t = 350
    for i in range(5):
        mine = returns.iloc[: t + 1, i].dropna()
        slow = np.sqrt((mine**2).ewm(halflife=42).mean().iloc[-1])
        assert raw["residual_volatility"][t, i] == pytest.approx(slow, rel=1e-6)
    median = pd.DataFrame(market.panel.dollar_volume).iloc[t - 20 : t + 1].median()
    np.testing.assert_allclose(raw["liquidity"][t], np.log(median / market.size[t]), rtol=1e-6)
    np.testing.assert_allclose(raw["size"][t], np.log(market.size[t]), rtol=1e-6)


def test_size_is_carried_over_missing_rows_and_must_be_known_for_members(market: PlantedMarket) -> None:
    size = np.where(market.panel.has_row, market.size * (1 + 0.001 * np.arange(400))[:, None], np.nan)
    members = market.members.copy()
    members[:10] = False
    result = trailing_descriptors(market.panel, members, size, plain_spec(styles=("size",)))
    np.testing.assert_array_equal(result.size[20:], pd.DataFrame(size).ffill().to_numpy()[20:])
    size[:, 3] = np.nan
    members[20:, 3] = True
    with pytest.raises(DataError, match="'A003' has none"):
        trailing_descriptors(market.panel, members, size, plain_spec(styles=("size",)))


def test_a_total_loss_is_floored_and_counted(market: PlantedMarket) -> None:
    returns = market.panel.returns.copy()
    returns[50, 2] = -1.0
    panel = dataclasses.replace(market.panel, returns=returns, market_cap=None)
    result = trailing_descriptors(panel, market.members, market.size, plain_spec(styles=("reversal_week",)))
    assert result.counts[:, 0].nonzero()[0].tolist() == [50]
    assert not np.isinf(result.raw).any()
    assert result.raw[50, 0, 2] < np.log(1e-3)


def test_styles_have_mean_zero_by_size_and_standard_deviation_one() -> None:
    rng = np.random.default_rng(4)
    raw, size, members = rng.standard_t(3, 300), np.exp(rng.normal(0, 1, 300)), rng.random(300) < 0.8
    values, cut = standardise(raw, members, size, 3.0)  # type: ignore[misc]
    inside = values[members]
    assert (size[members] * inside).sum() / size[members].sum() == pytest.approx(0.0, abs=1e-14)
    assert inside.std() == pytest.approx(1.0, abs=1e-14)
    # One line maps every value that was not cut, member or not: outsiders are measured with the members' ruler.
    order = np.argsort(raw)[20:-20]
    slope = np.diff(values[order]) / np.diff(raw[order])
    np.testing.assert_allclose(slope, slope[0], rtol=1e-6)
    assert 0 < cut < 20


def test_a_wild_outlier_is_cut_and_leaves_the_others_apart() -> None:
    raw = np.r_[np.linspace(-1, 1, 199), 1e6]
    values, cut = standardise(raw, np.ones(200, bool), np.ones(200), 3.0)  # type: ignore[misc]
    assert cut == 1
    assert values.max() < 10
    assert np.ptp(values[:199]) > 0.5


def test_a_style_that_few_members_have_or_all_share_is_absent() -> None:
    everyone, size = np.ones(10, bool), np.ones(10)
    assert standardise(np.r_[np.arange(4.0), np.full(6, np.nan)], everyone, size, 3.0) is None
    assert standardise(np.full(10, 0.3), everyone, size, 3.0) is None
    assert standardise(np.r_[np.arange(5.0), np.full(5, np.nan)], everyone, size, 3.0) is not None


def codes(*counts: int) -> np.ndarray:
    """Return codes in which label k occurs counts[k] times, the last entry being assets without a label."""
    values = [*range(len(counts) - 1), -1]
    return np.repeat(np.array(values, dtype=np.int16), counts)


def test_thin_categories_are_pooled_and_columns_are_in_the_order_of_names() -> None:
    pooled = pool_categories(codes(4, 30, 8, 20, 3), ("Malta", "US", "Cyprus", "Canada"), 10)
    assert pooled.names == ("Canada", "US", "(other)")
    assert pooled.column.tolist() == [2, 1, 2, 0, 2]
    assert pool_categories(codes(10, 9, 1, 0), ("A", "B", "C"), 10).names == ("A", "(other)")
    assert pooled.pooled == ("Cyprus", "Malta", "")


def test_a_label_without_assets_falls_in_the_pool_of_others() -> None:
    pooled = pool_categories(codes(30, 20, 12, 0, 0), ("A", "B", "C", "D"), 15)
    assert pooled.names == ("A", "B")
    assert pooled.column.tolist() == [0, 1, -1, -1, -1]  # a pool of 12 is thin itself
    pooled = pool_categories(codes(30, 20, 12, 0, 4), ("A", "B", "C", "D"), 15)
    assert pooled.column.tolist() == [0, 1, 2, 2, 2]


@pytest.mark.parametrize("counts", [(50, 0, 0), (50, 4, 0), (0, 0, 50), (5, 5, 5)])
def test_a_family_with_one_category_is_dropped(counts: tuple[int, ...]) -> None:
    pooled = pool_categories(codes(*counts), ("A", "B"), 10)
    assert pooled.names == ()
    assert (pooled.column == -1).all()


def test_exposures_of_a_day_count_what_they_fill(market: PlantedMarket) -> None:
    spec = plain_spec(styles=("size", "momentum"))
    descriptors = trailing_descriptors(market.panel, market.members, market.size, spec)
    raw = descriptors.raw[399].copy()
    raw[1, :3] = np.nan
    day = day_exposures(market.panel, 399, raw, market.size[399], market.members[399], market.members[399], spec)
    assert day.factors[0] == "market"
    assert day.factors[-2:] == ("style:size", "style:momentum")
    assert day.filled.tolist() == [1, 1, 1] + [0] * 37
    assert (day.matrix[:3, -1] == 0).all()
    for family in day.families:
        assert (day.matrix[:, family].sum(axis=1) == 1).all()
    assert factor_order(set(day.factors), spec) == day.factors


def test_renumbering_the_labels_changes_nothing(market: PlantedMarket) -> None:
    spec = plain_spec(styles=("size",))
    raw = trailing_descriptors(market.panel, market.members, market.size, spec).raw[50]
    names = market.panel.countries
    other = dataclasses.replace(
        market.panel, countries=("Atlantis", *names[::-1]), country=(len(names) - market.panel.country).astype(np.int16)
    )
    first, second = (
        day_exposures(panel, 50, raw, market.size[50], market.members[50], market.members[50], spec)
        for panel in (market.panel, other)
    )
    assert first.factors == second.factors
    assert first.matrix.tobytes() == second.matrix.tobytes()


def user_exposures(market: PlantedMarket, *factors: str) -> UserExposures:
    shape = (len(market.panel.dates), len(factors), len(market.panel.assets))
    return UserExposures(factors, np.random.default_rng(5).standard_normal(shape).astype(np.float32))


def test_user_exposures_stand_beside_the_styles_or_take_their_place(market: PlantedMarket) -> None:
    spec = plain_spec(styles=("size", "reversal_week"))
    raw = trailing_descriptors(market.panel, market.members, market.size, spec).raw[300]
    user = user_exposures(market, "signal:mix", "style:size", "style:value")
    size, members = market.size[300], market.members[300]
    day = day_exposures(market.panel, 300, raw, size, members, members, spec, user)
    assert day.factors[-4:] == ("style:size", "style:reversal_week", "style:value", "signal:mix")
    assert factor_order(set(day.factors), spec, user) == day.factors
    for factor in user.factors:
        own = user.values[300, user.factors.index(factor)].astype(float)
        wanted, _ = standardise(own, members, size, spec.winsor)  # type: ignore[misc]
        column = day.matrix[:, day.factors.index(factor)]
        if factor.startswith("style:"):
            assert (column == wanted).all()
        else:
            others = np.column_stack([day.matrix[:, :-1], column])
            slopes = np.linalg.lstsq(others, wanted, rcond=None)[0]
            np.testing.assert_allclose(others @ slopes, wanted, atol=1e-9)


def test_user_exposures_that_are_not_known_are_filled_counted_or_absent(market: PlantedMarket) -> None:
    spec = plain_spec(styles=("size",))
    raw = trailing_descriptors(market.panel, market.members, market.size, spec).raw[300]
    user = user_exposures(market, "style:value", "style:quality", "signal:mix")
    values = user.values.copy()
    values[300, 0, :5], values[300, 1, 5:], values[300, 2] = np.nan, np.nan, 1.0
    size, members = market.size[300], market.members[300]
    day = day_exposures(market.panel, 300, raw, size, members, members, spec, dataclasses.replace(user, values=values))
    assert day.absent == ("style:quality", "signal:mix")
    assert day.factors[-2:] == ("style:size", "style:value")
    assert day.filled.tolist() == [1] * 5 + [0] * 35
    assert (day.matrix[:5, -1] == 0).all()


@pytest.mark.parametrize(
    ("factors", "shape", "part"),
    [
        (("country:US",), (3, 1, 2), "style:NAME or signal:NAME; got 'country:US'"),
        (("style:",), (3, 1, 2), "got 'style:'"),
        (("style:a", "style:a"), (3, 2, 2), "more than once"),
        (("style:a",), (3, 2, 2), r"\(days, 1, assets\)"),
    ],
)
def test_user_exposures_that_make_no_sense_are_refused(
    factors: tuple[str, ...], shape: tuple[int, ...], part: str
) -> None:
    with pytest.raises(DataError, match=part):
        UserExposures(factors, np.zeros(shape, dtype=np.float32))


def test_infinite_user_exposures_are_refused() -> None:
    with pytest.raises(DataError, match="write NaN"):
        UserExposures(("style:a",), np.full((1, 1, 2), np.inf, dtype=np.float32))


def test_a_signal_is_what_no_other_factor_says_of_it() -> None:
    market = plant(61, 300, 120)
    rng = np.random.default_rng(62)
    t, spec = 280, plain_spec(styles=("size", "reversal_week"))
    history = trailing_descriptors(market.panel, market.members, market.size, spec)
    plain = day_exposures(
        market.panel, t, history.raw[t], history.size[t], market.members[t], market.members[t], spec, None
    )
    styles = plain.matrix[:, -2:]
    values = np.full((300, 2, 120), np.nan, dtype=np.float32)
    values[t, 0] = 0.5 * styles[:, 0] + rng.standard_normal(120)
    values[t, 1] = 0.3 * styles[:, 0] + 0.2 * styles[:, 1]
    user = UserExposures(("signal:mix", "signal:style"), values)
    day = day_exposures(
        market.panel, t, history.raw[t], history.size[t], market.members[t], market.members[t], spec, user
    )
    assert day.factors == (*plain.factors, "signal:mix")
    assert "signal:style" in day.absent
    signal, weights = day.matrix[:, -1], np.sqrt(history.size[t])
    np.testing.assert_allclose(plain.matrix.T @ (weights * signal), 0.0, atol=1e-6 * weights.sum())
    assert signal.std() > 0.3
