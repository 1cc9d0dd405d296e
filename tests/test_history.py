"""A history that grows by days or counts in weeks, and what its rules do with bad input."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest
from planted_market import PlantedMarket, plain_spec, plant

from risk import DataError, FactorHistory, RiskSpec, estimate, estimate_with_counts, factor_history
from risk.history import extended_history
from risk.panel import UserExposures
from risk.spec import STYLES

EVERYTHING = plain_spec(styles=STYLES, huber=2.0, beta_lags=1, thin_category=6, blind_factors=3, blind_window=60)
SIZE_ONLY = plain_spec(styles=("size",), return_winsor=50.0)


@pytest.fixture(scope="module")
def ragged() -> PlantedMarket:
    """A market with missing rows, thin categories, industries, and members that come and go."""
    market = plant(52, 330, 70, countries=("CA", "DE", "FR", "IE", "US"), missing=0.03)
    rng = np.random.default_rng(53)
    shape = market.panel.returns.shape
    size = np.where(market.panel.has_row, market.size * np.exp(rng.normal(0, 0.1, shape)), np.nan)
    members = (rng.random(shape) < 0.9) & (np.isfinite(size).cumsum(axis=0) > 0)
    industry = np.tile((market.panel.sector[0] * 3 + rng.integers(0, 3, 70)).astype(np.int16), (330, 1))
    panel = dataclasses.replace(market.panel, industry=industry, industries=tuple("abcdef"))
    return dataclasses.replace(market, panel=panel, members=members, size=size)


def user_of(market: PlantedMarket) -> UserExposures:
    shape = (len(market.panel.dates), 1, len(market.panel.assets))
    return UserExposures(("signal:mix",), np.random.default_rng(54).standard_normal(shape).astype(np.float32))


def history_until(market: PlantedMarket, days: int, spec: RiskSpec) -> FactorHistory:
    panel = market.panel.until(days - 1)
    return factor_history(panel, market.members[:days], market.size[:days], spec, user=user_of(market).until(days - 1))


def one_day_more(history: FactorHistory, market: PlantedMarket, days: int = 1) -> FactorHistory:
    t = len(history.dates) + days
    return extended_history(
        history, market.panel.until(t - 1), market.members[:t], market.size[:t], user=user_of(market).until(t - 1)
    )


def assert_same_bits(first: FactorHistory, second: FactorHistory) -> None:
    assert (first.factors, first.assets, first.spec) == (second.factors, second.assets, second.spec)
    for name in ("factor_returns", "present", "noise", "specific_returns", "r_squared"):
        assert getattr(first, name).tobytes() == getattr(second, name).tobytes(), name
    for name in ("raw", "size", "usable", "counts"):
        assert getattr(first.descriptors, name).tobytes() == getattr(second.descriptors, name).tobytes(), name
    pd.testing.assert_frame_equal(first.counts, second.counts, check_freq=False)


@pytest.mark.parametrize("frequency", ["daily", "weekly"])
@pytest.mark.parametrize("start", [40, 262])
def test_a_history_grown_day_by_day_is_the_one_computed_at_once(
    ragged: PlantedMarket, start: int, frequency: str
) -> None:
    spec = EVERYTHING.model_copy(update={"frequency": frequency})
    grown = history_until(ragged, start, spec)
    for _ in range(6):
        grown = one_day_more(grown, ragged)
    grown = one_day_more(grown, ragged, 20)
    assert_same_bits(grown, history_until(ragged, start + 26, spec))
    t = start + 25
    if frequency == "daily" and t > 63:
        again = history_until(ragged, start + 26, spec)
        models = [
            estimate(ragged.panel.until(t), ragged.members[: t + 1], ragged.size[: t + 1], spec, history=one)
            for one in (grown, again)
        ]
        assert models[0].factor_covariance.tobytes() == models[1].factor_covariance.tobytes()
        assert models[0].specific_variance.tobytes() == models[1].specific_variance.tobytes()


def test_two_histories_may_grow_from_one(ragged: PlantedMarket) -> None:
    first = history_until(ragged, 270, EVERYTHING)
    bits = first.specific_returns.tobytes(), first.descriptors.raw.tobytes()
    one = one_day_more(first, ragged)
    shifted = dataclasses.replace(ragged.panel, returns=ragged.panel.returns + 0.01)
    other = one_day_more(first, dataclasses.replace(ragged, panel=shifted))
    twin = one_day_more(first, ragged, 2)
    assert (first.specific_returns.tobytes(), first.descriptors.raw.tobytes()) == bits
    assert_same_bits(one, history_until(ragged, 271, EVERYTHING))
    assert_same_bits(twin, history_until(ragged, 272, EVERYTHING))
    assert (other.factor_returns[-1] != one.factor_returns[-1]).any()
    assert other.factor_returns[:-1].tobytes() == one.factor_returns[:-1].tobytes()


def test_days_are_added_without_moving_the_table(ragged: PlantedMarket) -> None:
    first = history_until(ragged, 270, EVERYTHING)
    more = one_day_more(first, ragged)
    assert np.shares_memory(first.descriptors.raw, more.descriptors.raw)
    assert np.shares_memory(first.specific_returns, more.specific_returns)
    with pytest.raises(ValueError, match="read-only"):
        more.specific_returns[0, 0] = 1.0


def test_what_does_not_follow_on_is_refused(ragged: PlantedMarket) -> None:
    history = history_until(ragged, 100, SIZE_ONLY)
    panel, members, size = ragged.panel, ragged.members, ragged.size
    with pytest.raises(DataError, match="begin with the days of `history`"):
        extended_history(history, dataclasses.replace(panel, dates=panel.dates.shift(1)), members, size)
    with pytest.raises(DataError, match="begin with the days of `history`"):
        extended_history(history, panel.until(98), members[:99], size[:99])
    with pytest.raises(DataError, match="give the same ones"):
        extended_history(history, panel, members, size)
    with pytest.raises(DataError, match="must have shape"):
        extended_history(history, panel, members[:50], size, user=user_of(ragged))


# Weeks


def test_weekly_regressions_fit_compounded_returns_on_exposures_known_before_them() -> None:
    market = plant(55, 403, 120)
    spec = SIZE_ONLY.model_copy(update={"frequency": "weekly"})
    history = factor_history(market.panel, market.members, market.size, spec)
    rows = np.flatnonzero(np.isfinite(history.r_squared))
    assert rows.tolist() == list(range(5, 403, 5))
    growth = 1 + market.panel.returns
    weekly = np.array([growth[t - 4 : t + 1].prod(axis=0) - 1 for t in rows])
    model = estimate(market.panel, market.members, market.size, SIZE_ONLY)
    sums = history.factor_returns[rows] @ model.exposures.T + history.specific_returns[rows]
    np.testing.assert_allclose(sums, weekly, atol=1e-8)
    # The same returns of the same exposures, so nearly the sum of the daily factor returns.
    daily = factor_history(market.panel, market.members, market.size, SIZE_ONLY)
    total = np.array([daily.factor_returns[t - 4 : t + 1].sum(axis=0) for t in rows])
    assert np.corrcoef(total[:, 0], history.factor_returns[rows, 0])[0, 1] > 0.99


def test_weekly_models_are_in_annual_units() -> None:
    market = plant(56, 1500, 150)
    flat = {"volatility_half_life": 1e6, "correlation_half_life": 1e6, "specific_half_life": 1e6, "newey_west_lags": 0}
    specs = [SIZE_ONLY.model_copy(update={**flat, "frequency": frequency}) for frequency in ("daily", "weekly")]
    daily, weekly = (estimate(market.panel, market.members, market.size, spec) for spec in specs)
    # 300 weeks give a standard deviation to 4 %.
    ratio = np.sqrt(np.diag(weekly.factor_covariance) / np.diag(daily.factor_covariance))
    np.testing.assert_allclose(ratio, 1.0, atol=0.16)
    assert np.sqrt(weekly.specific_variance / daily.specific_variance).mean() == pytest.approx(1.0, abs=0.03)


def test_too_few_weeks_are_refused() -> None:
    market = plant(57, 64, 40)
    with pytest.raises(DataError, match=r"at least 13 weeks of factor returns .* it gives 12"):
        estimate(market.panel, market.members, market.size, SIZE_ONLY.model_copy(update={"frequency": "weekly"}))


# Bad input


@pytest.fixture(scope="module")
def plain() -> PlantedMarket:
    return plant(58, 200, 60)


def replaced(market: PlantedMarket, **fields: np.ndarray | None) -> PlantedMarket:
    return dataclasses.replace(market, panel=dataclasses.replace(market.panel, **fields))  # type: ignore[arg-type]


def history_of(market: PlantedMarket, spec: RiskSpec = SIZE_ONLY) -> FactorHistory:
    return factor_history(market.panel, market.members, market.size, spec)


def test_a_stale_price_counts_as_not_known_until_it_moves(plain: PlantedMarket) -> None:
    returns = plain.panel.returns.copy()
    returns[100:130, 7] = 0.0
    moved = replaced(plain, returns=returns)
    history = history_of(moved)
    assert (history.counts["stale"].to_numpy().nonzero()[0] == np.arange(110, 130)).all()
    assert np.isnan(history.specific_returns[110:130, 7]).all()
    assert np.isfinite(history.specific_returns[[100, 109, 130], 7]).all()
    assert (history.counts["missing"].iloc[110:130] == 1).all()
    # For the others it is as if the asset had no rows.
    gone = returns.copy()
    gone[110:130, 7] = np.nan
    assert history.factor_returns.tobytes() == history_of(replaced(plain, returns=gone)).factor_returns.tobytes()
    off = history_of(moved, SIZE_ONLY.model_copy(update={"stale_returns": 0}))
    assert not off.counts["stale"].any()


def test_a_split_that_was_not_adjusted_is_told_from_a_loss_by_the_market_cap(plain: PlantedMarket) -> None:
    returns, cap = plain.panel.returns.copy(), plain.panel.market_cap
    assert cap is not None
    returns[150, 3] = -0.9
    split = history_of(replaced(plain, returns=returns))
    assert split.counts["suspected_splits"].to_numpy().nonzero()[0].tolist() == [150]
    assert np.isnan(split.specific_returns[150, 3])
    fallen = cap.copy()
    fallen[150:, 3] *= 0.1
    loss = history_of(replaced(plain, returns=returns, market_cap=fallen))
    assert not loss.counts["suspected_splits"].any()
    assert loss.specific_returns[150, 3] < -0.8
    momentum = plain_spec(styles=("reversal_week",))
    raw = [
        history_of(replaced(plain, returns=returns, market_cap=c), momentum).descriptors.raw[150, 0, 3]
        for c in (cap, fallen)
    ]
    assert abs(raw[0]) < 0.2
    assert raw[1] < -2
    # Without market caps nothing tells them apart: the return is cut in the regression, and counted there.
    unknown = history_of(replaced(plain, returns=returns, market_cap=None), plain_spec(styles=("size",)))
    assert unknown.counts["winsorised"].iloc[150] >= 1


def test_a_holiday_of_many_leaves_a_regression_of_the_rest(plain: PlantedMarket) -> None:
    returns, row = plain.panel.returns.copy(), plain.panel.has_row.copy()
    away = plain.panel.country[0] == 0
    away[:4] = True
    returns[120, away], row[120, away] = np.nan, False
    history = history_of(replaced(plain, returns=returns, has_row=row))
    assert history.counts["missing"].iloc[120] == away.sum() >= 20
    assert history.counts["assets"].iloc[120] == 60 - away.sum()
    absent = history.factors.index("country:CA")
    assert not history.present[120, absent]
    assert history.present[119, absent]
    assert history.present[120, 0]
    assert np.isnan(history.specific_returns[120]).tolist() == away.tolist()


def test_a_country_of_one_asset_and_a_sector_of_one_move_with_the_market(plain: PlantedMarket) -> None:
    country, sector = plain.panel.country.copy(), plain.panel.sector.copy()
    country[country == 2] = 0
    country[:, 5] = 2
    sector[:] = np.arange(60) % 2
    sector[:, 9] = -1
    result = estimate_with_counts(
        *(lambda m: (m.panel, m.members, m.size))(replaced(plain, country=country, sector=sector)), SIZE_ONLY
    )
    assert set(result.unclassified) == {"A005", "A009"}
    columns = [name.startswith(("country", "sector")) for name in result.model.factors]
    assert result.model.exposures[5, columns].sum() == result.model.exposures[9, columns].sum() == 1
    assert "country:US" not in result.model.factors


def test_exposures_that_are_all_equal_are_no_factor_and_counted(plain: PlantedMarket) -> None:
    same = dataclasses.replace(plain, size=np.full_like(plain.size, 1e9))
    history = history_of(same)
    assert "style:size" not in history.factors
    assert (history.counts["absent"].iloc[1:] == 1).all()
    result = estimate_with_counts(same.panel, same.members, same.size, SIZE_ONLY, history=history)
    assert result.absent == ("style:size",)


def test_an_asset_of_three_days_has_average_styles_and_the_risk_of_its_like(plain: PlantedMarket) -> None:
    returns, row = plain.panel.returns.copy(), plain.panel.has_row.copy()
    returns[:-3, 0], row[:-3, 0] = np.nan, False
    new = replaced(plain, returns=returns, has_row=row)
    new = dataclasses.replace(new, size=np.where(row, plain.size, np.nan), members=row.copy())
    spec = plain_spec(styles=("beta", "size", "momentum", "residual_volatility"))
    result = estimate_with_counts(new.panel, new.members, new.size, spec)
    assert result.filled_exposures == 3
    columns = [result.model.factors.index(f"style:{name}") for name in ("beta", "momentum", "residual_volatility")]
    assert (result.model.exposures[0, columns] == 0).all()
    assert result.specific.short >= 1
    assert 0.05 < np.sqrt(result.model.specific_variance[0]) < 1.0


def test_an_asset_without_volume_has_the_average_liquidity_and_is_counted(plain: PlantedMarket) -> None:
    volume = plain.panel.dollar_volume.copy()
    volume[:, 4] = 0.0
    spec = plain_spec(styles=("size", "liquidity"))
    dry = replaced(plain, dollar_volume=volume)
    result = estimate_with_counts(dry.panel, dry.members, dry.size, spec)
    assert result.filled_exposures == 1
    assert result.model.exposures[4, result.model.factors.index("style:liquidity")] == 0.0


def test_a_date_before_the_first_regressions_is_refused(plain: PlantedMarket) -> None:
    history = history_of(plain)
    with pytest.raises(DataError, match=r"at least 63 days of factor returns up to .*; it gives 0. Start later"):
        estimate(plain.panel, plain.members, plain.size, SIZE_ONLY, t=0, history=history)
