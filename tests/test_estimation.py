"""The whole model on markets whose truth is known, and on what it must refuse."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
import pydantic
import pytest
from planted_market import PlantedMarket, plain_spec, plant

from risk import DataError, FactorHistory, FactorModel, Panel, RiskSpec, estimate, estimate_with_counts, factor_history
from risk.panel import UserExposures

SIZE_ONLY = plain_spec(styles=("size",), return_winsor=50.0)
DATA = Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture(scope="module")
def market() -> PlantedMarket:
    return plant(31, 900, 200)


@pytest.fixture(scope="module")
def history(market: PlantedMarket) -> FactorHistory:
    return factor_history(market.panel, market.members, market.size, SIZE_ONLY)


@pytest.fixture(scope="module")
def ragged() -> PlantedMarket:
    """A market with missing rows, thin categories, and members that come and go."""
    market = plant(32, 260, 60, countries=("CA", "DE", "FR", "IE", "US"), missing=0.03)
    rng = np.random.default_rng(33)
    members = rng.random(market.members.shape) < 0.9
    size = np.where(market.panel.has_row, market.size * np.exp(rng.normal(0, 0.1, market.size.shape)), np.nan)
    members[:5] = False
    return dataclasses.replace(market, members=members & (np.isfinite(size).cumsum(axis=0) > 0), size=size)


def regression_noise(market: PlantedMarket, model: FactorModel) -> np.ndarray:
    """Return the covariance, per day, of the regression's error, by pseudo-inverse: (K, K)."""
    X, caps, names = model.exposures, market.size[-1], model.factors
    v = np.sqrt(caps)
    pinv = np.linalg.pinv(np.sqrt(v)[:, None] * X) * np.sqrt(v)
    shift = np.eye(len(names))
    for family in ("country", "sector"):
        columns = [k for k, name in enumerate(names) if name.startswith(family)]
        share = caps @ X[:, columns] / caps.sum()
        shift[np.ix_(columns, columns)] -= np.outer(np.ones(len(columns)), share)
        shift[0, columns] += share
    noise = shift @ pinv * market.specific_volatility
    return noise @ noise.T


def test_planted_factor_returns_are_recovered(market: PlantedMarket, history: FactorHistory) -> None:
    assert set(history.factors) == set(market.factor_returns.columns)
    truth = market.factor_returns[list(history.factors)].to_numpy()[1:]
    found = history.factor_returns[1:]
    model = estimate(market.panel, market.members, market.size, SIZE_ONLY, history=history)
    expected = np.sqrt(np.diag(regression_noise(market, model)))
    # 899 days give a standard deviation to 2.4 %.
    np.testing.assert_allclose((found - truth).std(axis=0), expected, rtol=0.08)
    assert (np.abs((found - truth).mean(axis=0)) < 4 * expected / np.sqrt(899)).all()


def test_planted_covariance_is_recovered_in_annual_units(market: PlantedMarket, history: FactorHistory) -> None:
    spec = SIZE_ONLY.model_copy(update={"volatility_half_life": 1e6, "correlation_half_life": 1e6})
    model = estimate(market.panel, market.members, market.size, spec, history=history)
    names = list(model.factors)
    truth = market.factor_covariance.loc[names, names].to_numpy() * 252
    # Estimated factor returns carry the regression's own error: its variance is added to the truth.
    expected = truth + regression_noise(market, model) * 252
    deviation = np.sqrt(np.diag(expected))
    np.testing.assert_allclose(np.sqrt(np.diag(model.factor_covariance)), deviation, rtol=0.12)
    error = (model.factor_covariance - expected) / np.outer(deviation, deviation)
    assert np.abs(error).max() < 0.2  # 899 days with two lags: a correlation's standard error is about 5 %


def test_specific_volatility_is_recovered(market: PlantedMarket, history: FactorHistory) -> None:
    spec = SIZE_ONLY.model_copy(update={"specific_half_life": 300.0, "specific_shrinkage": 0.0})
    model = estimate(market.panel, market.members, market.size, spec, history=history)
    ratio = np.sqrt(model.specific_variance / 252) / market.specific_volatility
    assert np.median(ratio) == pytest.approx(1.0, abs=0.03)
    assert ratio.std() < 0.07


def test_forecasts_are_unbiased_for_portfolios_that_were_not_used(
    market: PlantedMarket, history: FactorHistory
) -> None:
    model = estimate(market.panel, market.members, market.size, SIZE_ONLY, t=599, history=history)
    rng = np.random.default_rng(34)
    w = np.abs(rng.standard_normal((60, 200)))
    w[30:] = rng.standard_normal((30, 200))  # thirty long books, thirty long-short
    realised = (market.panel.returns[600:] @ w.T).std(axis=0) * np.sqrt(252)
    bias = realised / [model.volatility(row) for row in w]
    assert bias[:30].mean() == pytest.approx(1.0, abs=0.12)
    assert bias[30:].mean() == pytest.approx(1.0, abs=0.06)


def test_the_model_is_symmetric_and_positive_semidefinite(market: PlantedMarket, history: FactorHistory) -> None:
    for t in (100, 400, 899):
        F = estimate(market.panel, market.members, market.size, SIZE_ONLY, t=t, history=history).factor_covariance
        assert (F == F.T).all()
        assert np.linalg.eigvalsh(F)[0] >= 0


def test_families_are_neutral_by_size_on_every_day(market: PlantedMarket, history: FactorHistory) -> None:
    for family, codes, labels in (
        ("country", market.panel.country[0], market.panel.countries),
        ("sector", market.panel.sector[0], market.panel.sectors),
    ):
        share = np.bincount(codes, weights=market.size[0]) / market.size[0].sum()
        columns = [history.factors.index(f"{family}:{label}") for label in labels]
        np.testing.assert_allclose(history.factor_returns[:, columns] @ share, 0.0, atol=1e-12)


def test_returns_are_the_sum_of_their_parts(market: PlantedMarket, history: FactorHistory) -> None:
    model = estimate(market.panel, market.members, market.size, SIZE_ONLY, history=history)
    # Sizes and labels are constant here, so the last exposures are those of every day.
    sums = history.factor_returns[1:] @ model.exposures.T + history.specific_returns[1:]
    np.testing.assert_allclose(sums, market.panel.returns[1:], atol=1e-8)


def test_a_jump_moves_its_own_specific_return_and_hardly_the_factors(
    market: PlantedMarket, history: FactorHistory
) -> None:
    spec = SIZE_ONLY.model_copy(update={"return_winsor": 10.0})
    returns = market.panel.returns.copy()
    largest = int(np.argmax(market.size[0]))
    returns[500, largest] = 4.0
    panel = dataclasses.replace(market.panel, returns=returns, market_cap=None)
    jumped = factor_history(panel, market.members, market.size, spec)
    assert jumped.counts["winsorised"].iloc[500] == 1
    assert np.abs(jumped.factor_returns[500] - history.factor_returns[500]).max() < 0.06
    assert jumped.specific_returns[500, largest] > 3.8


def test_exposures_are_those_known_the_day_before(market: PlantedMarket) -> None:
    # Returns here are independent from day to day: last week's return explains nothing, unless today is part of it.
    spec = plain_spec(styles=("reversal_week",))
    history = factor_history(market.panel, market.members, market.size, spec)
    returns = history.factor_returns[10:, history.factors.index("style:reversal_week")]
    assert abs(returns.mean()) < 4 * returns.std() / np.sqrt(len(returns))


def test_labels_are_those_of_the_day_before(market: PlantedMarket) -> None:
    country = market.panel.country.copy()
    country[500:, :30] = (country[500:, :30] + 1) % 3
    moved = factor_history(
        dataclasses.replace(market.panel, country=country), market.members, market.size, SIZE_ONLY
    ).factor_returns
    first = factor_history(market.panel, market.members, market.size, SIZE_ONLY).factor_returns
    assert (moved[:501] == first[:501]).all()
    assert (moved[501] != first[501]).any()


def same_bits(first: object, second: object) -> None:
    for name in ("assets", "factors"):
        assert getattr(first, name) == getattr(second, name)
    for name in ("exposures", "factor_covariance", "specific_variance"):
        assert getattr(first, name).tobytes() == getattr(second, name).tobytes(), name


def scrambled(market: PlantedMarket, t: int) -> tuple[Panel, np.ndarray, np.ndarray]:
    """Return the market with everything after row t replaced."""
    rng = np.random.default_rng(35)
    panel, shape = market.panel, market.panel.returns[t + 1 :].shape

    def after(array: np.ndarray, future: np.ndarray) -> np.ndarray:
        return np.concatenate([array[: t + 1], future.astype(array.dtype)])

    other = dataclasses.replace(
        panel,
        returns=after(panel.returns, rng.normal(0, 0.5, shape)),
        has_row=after(panel.has_row, np.ones(shape)),
        close=after(panel.close, np.full(shape, 7.0)),
        dollar_volume=after(panel.dollar_volume, rng.random(shape) * 1e9),
        country=after(panel.country, rng.integers(-1, 6, shape)),
        countries=(*panel.countries, "ZZ"),
        sector=after(panel.sector, rng.integers(-1, 2, shape)),
    )
    size = after(market.size, np.exp(rng.normal(20, 3, shape)))
    return other, after(market.members, rng.random(shape) < 0.5), size


def test_nothing_after_the_day_changes_a_bit(ragged: PlantedMarket) -> None:
    t = 200
    shape = (len(ragged.panel.dates), 2, 60)
    user = UserExposures(("style:value", "signal:mix"), np.random.default_rng(40).random(shape).astype(np.float32))
    full = factor_history(ragged.panel, ragged.members, ragged.size, user=user)
    other, members, size = scrambled(ragged, t)
    values = user.values.copy()
    values[t + 1 :] = np.nan
    future = factor_history(other, members, size, user=dataclasses.replace(user, values=values))
    cut = factor_history(ragged.panel.until(t), ragged.members[: t + 1], ragged.size[: t + 1], user=user.until(t))
    for one in (future, full):
        columns = [one.factors.index(name) for name in cut.factors]
        assert not np.delete(one.present[: t + 1], columns, axis=1).any()
        pairs = (
            (cut.factor_returns, one.factor_returns[: t + 1][:, columns]),
            (cut.present, one.present[: t + 1][:, columns]),
            (cut.specific_returns, one.specific_returns[: t + 1]),
            (cut.r_squared, one.r_squared[: t + 1]),
            (cut.descriptors.raw, one.descriptors.raw[: t + 1]),
            (cut.descriptors.size, one.descriptors.size[: t + 1]),
        )
        assert all(a.tobytes() == b.tobytes() for a, b in pairs)
        pd.testing.assert_frame_equal(cut.counts, one.counts.iloc[: t + 1], check_freq=False)
    assets = ragged.members[t] | (np.arange(60) < 3)
    models = [
        estimate(ragged.panel, ragged.members, ragged.size, t=t, assets=assets, history=full),
        estimate(ragged.panel, ragged.members, ragged.size, t=t, assets=assets, user=user),
        estimate(other, members, size, t=t, assets=assets, history=future),
        estimate(ragged.panel.until(t), ragged.members[: t + 1], ragged.size[: t + 1], assets=assets, history=full),
        estimate(ragged.panel.until(t), ragged.members[: t + 1], ragged.size[: t + 1], assets=assets, history=cut),
    ]
    for model in models[1:]:
        same_bits(models[0], model)


def planted_signal(market: PlantedMarket, premium: float) -> tuple[PlantedMarket, UserExposures]:
    """Return the market with a factor more, of daily volatility 1 %, and the raw exposures to it."""
    rng = np.random.default_rng(39)
    T, N = market.panel.returns.shape
    raw = rng.standard_normal((T, 1, N)).astype(np.float32)
    standard = (raw[:, 0] - (raw[:, 0] * market.size).sum(axis=1, keepdims=True) / market.size[:1].sum()) / raw[
        :, 0
    ].std(axis=1, keepdims=True)
    returns = market.panel.returns.copy()
    returns[1:] += standard[:-1] * (premium + 0.01 * rng.standard_normal((T - 1, 1)))
    return dataclasses.replace(market, panel=dataclasses.replace(market.panel, returns=returns)), UserExposures(
        ("signal:mix",), raw
    )


def test_a_signal_is_a_factor_whose_returns_and_variance_are_found(market: PlantedMarket) -> None:
    moved, user = planted_signal(market, 0.002)
    spec = SIZE_ONLY.model_copy(update={"winsor": 10.0, "volatility_half_life": 1e6})
    history = factor_history(moved.panel, moved.members, moved.size, spec, user=user)
    returns = history.factor_returns[1:, history.factors.index("signal:mix")]
    assert returns.mean() == pytest.approx(0.002, abs=4 * 0.01 / 30)
    model = estimate(moved.panel, moved.members, moved.size, spec, history=history)
    assert model.factors[-1] == "signal:mix"
    assert np.sqrt(model.factor_covariance[-1, -1] / 252) == pytest.approx(0.01, rel=0.12)
    same_bits(model, estimate(moved.panel, moved.members, moved.size, spec, user=user))
    with pytest.raises(DataError, match="other `user` exposures"):
        estimate(
            moved.panel,
            moved.members,
            moved.size,
            spec,
            user=dataclasses.replace(user, factors=("signal:x",)),
            history=history,
        )
    with pytest.raises(DataError, match="`user` must have values of shape"):
        factor_history(moved.panel, moved.members, moved.size, spec, user=user.until(5))
    with pytest.raises(DataError, match="up to row 899"):
        estimate(moved.panel, moved.members, moved.size, spec, user=user.until(5), history=history)


def test_held_assets_outside_the_universe_are_modelled_without_moving_the_others(ragged: PlantedMarket) -> None:
    history = factor_history(ragged.panel, ragged.members, ragged.size, plain_spec())
    members = ragged.members[250]
    everyone = np.ones(60, dtype=bool)
    inside = estimate(ragged.panel, ragged.members, ragged.size, plain_spec(), t=250, history=history)
    both = estimate(ragged.panel, ragged.members, ragged.size, plain_spec(), t=250, assets=everyone, history=history)
    assert len(both.assets) == 60 > len(inside.assets) == members.sum()
    assert both.factors == inside.factors
    assert (both.exposures[members] == inside.exposures).all()
    np.testing.assert_allclose(both.specific_variance[members], inside.specific_variance, rtol=1e-14)
    assert (both.factor_covariance == inside.factor_covariance).all()


def test_one_country_is_no_family() -> None:
    market = plant(36, 120, 40, countries=("US",))
    model = estimate(market.panel, market.members, market.size)
    assert not any(name.startswith("country") for name in model.factors)
    assert {"market", "sector:Energy", "sector:Tech", "style:size"} <= set(model.factors)


def test_thin_countries_are_pooled_and_named() -> None:
    market = plant(37, 120, 60, countries=("A", "B", "C", "D"))
    country = market.panel.country.copy()
    country[country >= 2] = 0
    country[:, [0, 4, 8, 12, 16, 20]] = 2
    country[:, [24, 28, 32, 36]] = 3
    country[:, 40] = -1
    panel = dataclasses.replace(market.panel, country=country)
    result = estimate_with_counts(panel, market.members, market.size)
    names = [name for name in result.model.factors if name.startswith("country")]
    assert names == ["country:A", "country:B", "country:(other)"]
    assert result.pooled == ("country:C", "country:D", "country:")
    assert result.model.exposures[:, result.model.factors.index("country:(other)")].sum() == 11
    assert result.unclassified == ()


def test_styles_that_are_not_known_yet_are_absent_and_then_young(ragged: PlantedMarket) -> None:
    history = factor_history(ragged.panel, ragged.members, ragged.size, plain_spec())
    momentum = history.factors.index("style:momentum")
    assert not history.present[:137, momentum].any()
    assert history.present[140:, momentum].all()
    result = estimate_with_counts(ragged.panel, ragged.members, ragged.size, plain_spec(), t=200, history=history)
    assert "style:momentum" in result.covariance.blended
    assert "market" not in result.covariance.blended
    assert result.filled_exposures >= 0


def test_a_newcomer_has_a_structural_specific_risk(market: PlantedMarket) -> None:
    returns, row = market.panel.returns.copy(), market.panel.has_row.copy()
    returns[:-5, 0], row[:-5, 0] = np.nan, False
    size, members = np.where(row, market.size, np.nan), row.copy()
    panel = dataclasses.replace(market.panel, returns=returns, has_row=row)
    result = estimate_with_counts(panel, members, size, SIZE_ONLY)
    assert result.specific.short == 1
    typical = np.median(market.specific_volatility) * np.sqrt(252)
    assert np.sqrt(result.model.specific_variance[0]) == pytest.approx(typical, rel=0.4)


def test_progress_ends_at_the_whole(ragged: PlantedMarket) -> None:
    seen: list[tuple[int, int]] = []
    factor_history(ragged.panel, ragged.members, ragged.size, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1][0] == seen[-1][1] == 2 * 260
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


def test_five_assets_are_refused() -> None:
    market = plant(38, 120, 5)
    with pytest.raises(DataError, match=r"at least 20 assets .* the most on any day is 5"):
        estimate(market.panel, market.members, market.size)


def test_a_short_panel_is_refused(market: PlantedMarket, history: FactorHistory) -> None:
    with pytest.raises(DataError, match=r"at least 63 days .* it gives 62"):
        estimate(market.panel, market.members, market.size, SIZE_ONLY, t=62, history=history)
    estimate(market.panel, market.members, market.size, SIZE_ONLY, t=63, history=history)


def test_arguments_that_do_not_belong_together_are_refused(market: PlantedMarket, history: FactorHistory) -> None:
    panel, members, size = market.panel, market.members, market.size
    with pytest.raises(DataError, match="`t` must be a row"):
        estimate(panel, members, size, SIZE_ONLY, t=900, history=history)
    with pytest.raises(DataError, match="other regression settings"):
        estimate(panel, members, size, plain_spec(), history=history)
    with pytest.raises(DataError, match="same panel"):
        estimate(dataclasses.replace(panel, dates=panel.dates.shift(1)), members, size, SIZE_ONLY, history=history)
    with pytest.raises(DataError, match="at least one asset"):
        estimate(panel, members, size, SIZE_ONLY, assets=np.zeros(200, dtype=bool), history=history)
    with pytest.raises(DataError, match="must be boolean of shape"):
        estimate(panel, members, size, SIZE_ONLY, assets=np.ones(199, dtype=bool), history=history)
    with pytest.raises(DataError, match="`members` must hold at least 20 assets"):
        estimate(panel, members & (np.arange(200) < 10), size, SIZE_ONLY, history=history)
    with pytest.raises(DataError, match="`members` must have shape"):
        factor_history(panel, members[1:], size, SIZE_ONLY)
    with pytest.raises(DataError, match="`members` must be boolean"):
        factor_history(panel, members.astype(int), size, SIZE_ONLY)


@pytest.mark.parametrize(
    ("field", "value"), [("styles", ("value",)), ("styles", ("size", "size")), ("winsor", 0), ("half_life", 3)]
)
def test_settings_that_make_no_sense_are_refused(field: str, value: object) -> None:
    with pytest.raises(pydantic.ValidationError, match=field):
        RiskSpec.model_validate({field: value})


def test_the_market_factor_is_the_us_market() -> None:
    if not DATA.exists():
        pytest.skip("the real data folder is absent")
    table = pd.read_parquet(DATA / "us" / "market.parquet", filters=[("date", "<", pd.Timestamp("2021-09-01"))])
    wide = table.pivot_table(index="date", columns="asset", values=["return", "market_cap", "dollar_volume"])
    largest = wide["market_cap"].median().nlargest(400).index
    returns, caps, volume = (
        wide[name][largest].to_numpy(dtype=float) for name in ("return", "market_cap", "dollar_volume")
    )
    labels = pd.read_parquet(DATA / "us" / "assets.parquet").set_index("asset")["sector"].reindex(largest)
    codes, names = pd.factorize(labels, sort=True)
    panel = Panel(
        dates=pd.DatetimeIndex(wide.index),
        assets=tuple(largest),
        returns=returns,
        has_row=np.isfinite(returns),
        close=np.ones_like(returns),
        market_cap=caps,
        dollar_volume=volume,
        country=np.zeros(returns.shape, dtype=np.int16),
        sector=np.tile(codes.astype(np.int16), (len(returns), 1)),
        countries=("US",),
        sectors=tuple(names),
        delisting_return=np.full(len(largest), np.nan),
    )
    history = factor_history(panel, np.isfinite(caps), caps)
    french = pd.read_parquet(DATA / "factors" / "fama_french_daily.parquet")
    french = french[french["region"] == "US"].set_index("date")["mkt_rf"]
    ours = pd.Series(history.factor_returns[:, 0], history.dates).iloc[1:]
    assert ours.corr(french.reindex(ours.index)) > 0.95
    assert np.nanmedian(history.r_squared) > 0.2


def test_the_noise_of_the_regression_is_taken_off_factors_and_quiet_assets(
    market: PlantedMarket, history: FactorHistory
) -> None:
    plain = estimate(market.panel, market.members, market.size, SIZE_ONLY, history=history)
    spec = SIZE_ONLY.model_copy(update={"regression_noise": True})
    clean = estimate(market.panel, market.members, market.size, spec, history=history)
    noise = regression_noise(market, plain) * 252
    kept = np.linalg.eigvalsh(plain.factor_covariance - clean.factor_covariance)
    assert kept.min() > -1e-12
    assert np.trace(plain.factor_covariance - clean.factor_covariance) == pytest.approx(np.trace(noise), rel=0.35)
    # A quiet asset has the noise of all others in what the regression leaves of it, a restless one lost some of its own.
    quiet = market.specific_volatility < np.quantile(market.specific_volatility, 0.25)
    truth = (market.specific_volatility**2 * 252)[quiet].mean()
    before, after = plain.specific_variance[quiet].mean(), clean.specific_variance[quiet].mean()
    assert abs(after / truth - 1) < abs(before / truth - 1)
    assert after < before
    assert clean.specific_variance[~quiet].mean() > plain.specific_variance[~quiet].mean()


@pytest.mark.parametrize("assets", [60, 200])
def test_factors_that_are_not_there_leave_neutral_books_as_risky_as_they_are(assets: int) -> None:
    """Twenty blind factors where the truth has none, and a signal of noise."""
    market = plant(47, 700, assets)
    noise = np.random.default_rng(48).standard_normal((700, 1, assets)).cumsum(axis=0).astype(np.float32)
    user = UserExposures(("signal:noise",), noise)
    spec = RiskSpec(styles=("size",), return_winsor=50.0, specific_half_life=250.0, specific_newey_west_lags=0)
    model = estimate(market.panel, market.members, market.size, spec, user=user)
    truth = market.specific_volatility**2 * 252
    assert model.specific_variance.sum() / truth.sum() == pytest.approx(1.0, abs=0.05)


@pytest.mark.parametrize("known", ["of none", "of the others"])
def test_a_fall_of_nine_tenths_is_believed_without_its_market_cap_and_bounded(known: str) -> None:
    """A suspected split is told by the market cap. Without one the return counts, but each step limits what it does."""
    market = plant(58, 200, 200)
    caps = np.array(market.panel.market_cap)
    caps[:, 3] = np.nan
    panel = dataclasses.replace(market.panel, market_cap=None if known == "of none" else caps)
    spec = RiskSpec(blind_factors=0)

    def with_return(value: float) -> tuple[FactorHistory, FactorModel]:
        returns = panel.returns.copy()
        returns[-2, 3] = value
        fallen = dataclasses.replace(panel, returns=returns)
        history = factor_history(fallen, market.members, market.size, spec)
        return history, estimate(fallen, market.members, market.size, history=history)

    (calm, before), (history, after), (less, _) = (with_return(value) for value in (0.0, -0.9, -0.6))
    assert not history.counts["suspected_splits"].any()
    assert history.counts["winsorised"].iloc[-2] == calm.counts["winsorised"].iloc[-2] + 1
    assert history.specific_returns[-2, 3] < -0.8
    # Cut in the regression, so that how far it fell makes no difference to any factor's return of the day.
    np.testing.assert_array_equal(history.factor_returns[-2], less.factor_returns[-2])
    # The styles made of the return: near the limit for the asset itself, nearly as they were for the others.
    styles = [k for k, name in enumerate(after.factors) if name.startswith("style:")]
    assert 3 < np.abs(after.exposures[3, styles]).max() < 5.5
    assert np.abs(np.delete(after.exposures - before.exposures, 3, axis=0)).max() < 0.5
    # The risk: the asset's own is that of such falls; the others' and the factors' nearly as it was.
    own, factor = after.specific_variance / before.specific_variance, np.diag(after.factor_covariance)
    assert np.sqrt(own[3]) > 4
    assert (np.abs(np.sqrt(np.delete(own, 3)) - 1) < 0.15).all()
    assert (np.abs(np.sqrt(factor / np.diag(before.factor_covariance)) - 1) < 0.1).all()
