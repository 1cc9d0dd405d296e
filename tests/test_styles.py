"""Styles that are made of others, of groups, of months and of closes at different hours."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest
from planted_market import PlantedMarket, plain_spec, plant

from risk import RiskSpec, factor_history
from risk.descriptors import trailing_descriptors
from risk.exposures import DayExposures, day_exposures, standardise
from risk.panel import UserExposures
from risk.trailing import group_return


@pytest.fixture(scope="module")
def market() -> PlantedMarket:
    return plant(11, 320, 80, missing=0.03)


def exposures_of(market: PlantedMarket, t: int, spec: RiskSpec, user: UserExposures | None = None) -> DayExposures:
    raw = trailing_descriptors(market.panel, market.members, market.size, spec).raw[t]
    members = market.members[t]
    return day_exposures(market.panel, t, raw, market.size[t], members, members, spec, user)


def weighted_covariance(first: np.ndarray, second: np.ndarray, weights: np.ndarray) -> float:
    share = weights / weights.sum()
    return float(share @ (first * second) - (share @ first) * (share @ second))


def assert_standardised(values: np.ndarray, size: np.ndarray) -> None:
    assert size @ values / size.sum() == pytest.approx(0.0, abs=1e-12)
    assert values.std() == pytest.approx(1.0, abs=1e-12)


@pytest.mark.parametrize(
    "styles", [("mid_cap", "size", "residual_volatility", "beta"), ("beta", "size", "residual_volatility", "mid_cap")]
)
def test_mid_cap_and_residual_volatility_say_what_size_and_beta_do_not(
    market: PlantedMarket, styles: tuple[str, ...]
) -> None:
    day = exposures_of(market, 300, plain_spec(styles=styles))
    size = market.size[300]
    column = {name: day.matrix[:, day.factors.index(f"style:{name}")] for name in styles}
    root = np.sqrt(size)
    for style, others in (("mid_cap", ("size",)), ("residual_volatility", ("beta", "size"))):
        assert_standardised(column[style], size)
        for other in others:
            assert weighted_covariance(column[style], column[other], root) == pytest.approx(0.0, abs=1e-12)


def test_mid_cap_is_what_is_left_of_the_cube_of_size(market: PlantedMarket) -> None:
    size = market.size[300]
    everyone = np.ones(80, dtype=bool)
    standard, _ = standardise(np.log(size).astype(np.float32).astype(float), everyone, size, 3.0)  # type: ignore[misc]
    cube, _ = standardise(standard**3, everyone, size, 3.0)  # type: ignore[misc]
    root = size**0.25
    Z = np.column_stack([np.ones(80), standard])
    left = cube - Z @ np.linalg.lstsq(Z * root[:, None], cube * root, rcond=None)[0]
    day = exposures_of(market, 300, plain_spec(styles=("size", "mid_cap")))
    wanted = (left - size @ left / size.sum()) / left.std()
    np.testing.assert_allclose(day.matrix[:, -1], wanted, atol=1e-6)
    plain = exposures_of(market, 300, plain_spec(styles=("size", "mid_cap"), orthogonalise=False))
    np.testing.assert_allclose(plain.matrix[:, -1], cube, atol=1e-6)


def test_the_users_own_styles_are_taken_as_they_are(market: PlantedMarket) -> None:
    values = np.random.default_rng(1).standard_normal((320, 2, 80)).astype(np.float32)
    user = UserExposures(("style:mid_cap", "style:residual_volatility"), values)
    day = exposures_of(market, 300, plain_spec(styles=("size", "mid_cap", "residual_volatility")), user)
    for k in range(2):
        wanted, _ = standardise(values[300, k].astype(float), market.members[300], market.size[300], 3.0)  # type: ignore[misc]
        assert (day.matrix[:, day.factors.index(user.factors[k])] == wanted).all()


def test_the_return_of_a_group_is_its_members_mean_by_size() -> None:
    value, size = np.array([1.0, 2.0, 4.0, 8.0, np.nan, 5.0]), np.array([1.0, 2.0, 3.0, 4.0, 5.0, np.nan])
    fine, coarse = np.array([0, 0, 0, 1, 1, -1]), np.array([0, 0, 0, 0, 0, -1])
    members = np.array([True, True, True, True, True, False])
    found = group_return(value, size, members, [fine, coarse], 2)
    # The second group has one member with a value: the coarse one counts.
    np.testing.assert_allclose(found, [17 / 6, 17 / 6, 17 / 6, 49 / 10, 49 / 10, np.nan])
    assert np.isnan(group_return(value, size, members, [fine, coarse], 5)).all()


def with_industries(market: PlantedMarket, count: int) -> PlantedMarket:
    codes = np.tile((np.arange(80) % count).astype(np.int16), (len(market.panel.dates), 1))
    panel = dataclasses.replace(market.panel, industry=codes, industries=tuple(f"I{k}" for k in range(count)))
    return dataclasses.replace(market, panel=panel)


def test_industry_momentum_is_the_industrys_and_absent_where_their_group_is_a_factor(
    market: PlantedMarket,
) -> None:
    moved = with_industries(market, 4)
    spec = plain_spec(styles=("momentum", "industry_momentum"), industries=False, thin_category=5)
    raw = trailing_descriptors(moved.panel, moved.members, moved.size, spec).raw[300].astype(float)
    group = np.arange(80) % 4 == 1
    np.testing.assert_allclose(raw[1, group], np.average(raw[0, group], weights=moved.size[300, group]), rtol=1e-5)
    assert "style:industry_momentum" in exposures_of(moved, 300, spec).factors
    both = spec.model_copy(update={"industries": True})
    sector = np.zeros_like(moved.panel.sector)
    alone = dataclasses.replace(moved, panel=dataclasses.replace(moved.panel, sector=sector))
    day = exposures_of(alone, 300, both)
    assert any(name.startswith("industry:") for name in day.factors)
    assert day.absent == ("style:industry_momentum",)


def test_seasonality_is_the_mean_of_the_same_month_in_the_years_before() -> None:
    market = plant(12, 900, 30)
    spec = plain_spec(styles=("seasonality",))
    raw = trailing_descriptors(market.panel, market.members, market.size, spec).raw[:, 0].astype(float)
    panel, share = market.panel, market.size[0] / market.size[0].sum()
    growth = np.log1p(panel.returns) - np.log1p(panel.returns @ share)[:, None]
    growth[0] = 0.0
    monthly = pd.DataFrame(growth, index=panel.dates).groupby([panel.dates.year, panel.dates.month]).sum()
    for day, years in (("2016-03-15", (2015,)), ("2018-03-15", (2015, 2016, 2017)), ("2018-04-30", (2015, 2016, 2017))):
        month = 5 if day == "2018-04-30" else 3  # the next session is in May
        wanted = np.mean([monthly.loc[(year, month)] for year in years], axis=0)
        np.testing.assert_allclose(raw[panel.dates.get_loc(day)], wanted, rtol=1e-5, atol=1e-8)
    first_year = panel.dates.year == 2015
    assert np.isnan(raw[first_year][:-1]).all()
    history = factor_history(panel, market.members, market.size, spec)
    present = history.present[:, history.factors.index("style:seasonality")]
    assert not present[first_year].any()
    assert present[~first_year][1:].all()
    assert (history.counts["absent"].to_numpy()[2:200] == 1).all()


def two_zones(seed: int, betas: np.ndarray) -> PlantedMarket:
    """Return a market whose second half closes half a day before the first, and answers with its betas to one factor.

    The factor's day has two halves: the early zone's session t holds the late half of t - 1 and the early half of t.
    """
    market = plant(seed, 500, len(betas))
    rng = np.random.default_rng(seed)
    halves = 0.01 / np.sqrt(2) * rng.standard_normal((501, 2))
    late, early = halves[1:].sum(axis=1), halves[:-1, 1] + halves[1:, 0]
    is_early = np.arange(len(betas)) >= len(betas) // 2
    factor = np.where(is_early, early[:, None], late[:, None])
    returns = betas * factor + 0.005 * rng.standard_normal((500, len(betas)))
    size = np.ones_like(returns)
    panel = dataclasses.replace(market.panel, returns=returns, market_cap=None)
    return dataclasses.replace(market, panel=panel, size=size)


def test_betas_of_markets_that_close_at_different_hours_are_recovered_with_lags_only() -> None:
    is_early = np.arange(200) >= 100
    mixed = two_zones(13, np.where(is_early, 1.0, 0.2))
    beta = {
        lags: trailing_descriptors(
            mixed.panel, mixed.members, mixed.size, plain_spec(styles=("beta",), beta_lags=lags)
        ).raw[-1, 0]
        for lags in (0, 1)
    }
    ratio = {lags: beta[lags][~is_early].mean() / beta[lags][is_early].mean() for lags in (0, 1)}
    assert ratio[1] == pytest.approx(0.2, abs=0.03)
    assert abs(ratio[0] - 0.2) > 0.06
