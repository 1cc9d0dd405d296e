"""Benchmark models: each equals its formula, none looks ahead, the learned ones learn what there is and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from statistics import NormalDist

import numpy as np
import pandas as pd
import pytest

from backtest.benchmark_models import MODELS, benchmark_predictions, weekly_dates
from backtest.cross_section import CrossSection, gaussianise, without_group_means
from backtest.learned_models import LEARNERS, forward_target
from risk import DataError, Panel

SIMPLE = [name for name, model in MODELS.items() if model.signal is not None]


def market(rng: np.random.Generator, days: int, assets: int, *, volatile: float = 0.03, reward: float = 0.0) -> Panel:
    """Return a panel with holidays, a late listing, a leaver, a split and missing labels.

    Daily volatilities lie between 0.005 and `volatile`; each name earns `reward` per unit of its own.
    """
    volatility = rng.uniform(0.005, volatile, assets)
    common = 0.006 * rng.standard_normal(days)
    shocks = rng.standard_t(5, (days, assets)) * np.sqrt(3 / 5)
    returns = np.clip(common[:, None] + volatility * (shocks + reward), -0.5, 1.0)
    close = 50.0 * np.cumprod(1.0 + returns, axis=0)
    close[days // 2 :, 3] /= 4.0
    has_row = rng.random((days, assets)) > 0.02
    has_row[: days // 3, 4] = False
    has_row[-60:, 5] = False
    for asset in range(assets):  # a return spans the days without a row, and the first row has none
        previous, growth = -1, 1.0
        for day in range(days):
            growth *= 1.0 + returns[day, asset]
            if has_row[day, asset]:
                returns[day, asset] = growth - 1.0 if previous >= 0 else np.nan
                previous, growth = day, 1.0
    returns[~has_row] = np.nan
    volume = np.where(has_row, rng.lognormal(15.0, 1.0, (days, assets)), np.nan)
    country = np.broadcast_to((np.arange(assets) % 3).astype(np.int16), (days, assets)).copy()
    sector = np.broadcast_to((np.arange(assets) // 2 % 4).astype(np.int16), (days, assets)).copy()
    country[:, 7], sector[:, 8] = -1, -1
    return Panel(
        dates=pd.bdate_range("2015-01-01", periods=days),
        assets=tuple(f"A{i:03d}" for i in range(assets)),
        returns=returns,
        has_row=has_row,
        close=np.where(has_row, close, np.nan),
        market_cap=None,
        dollar_volume=volume,
        country=country,
        sector=sector,
        countries=("DE", "FR", "SE"),
        sectors=("a", "b", "c", "d"),
        delisting_return=np.full(assets, np.nan),
    )


def universe(rng: np.random.Generator, panel: Panel) -> tuple[np.ndarray, np.ndarray]:
    members = rng.random(panel.returns.shape) > 0.1
    size = np.exp(rng.normal(20.0, 1.5, panel.returns.shape))
    size[:, 9] = np.nan
    return members, size


def collect(predictions: Iterator[tuple[pd.Timestamp, pd.DataFrame]]) -> dict[pd.Timestamp, pd.DataFrame]:
    return dict(predictions)


@pytest.fixture(scope="module")
def case() -> tuple[Panel, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(7)
    panel = market(rng, 660, 48)
    return panel, *universe(rng, panel)


@pytest.fixture(scope="module")
def predicted(case: tuple[Panel, np.ndarray, np.ndarray]) -> dict[pd.Timestamp, pd.DataFrame]:
    return collect(benchmark_predictions(*case))


# A slow twin: one asset at a time, plain loops over its own rows, from the published formula.


def compound(window: np.ndarray) -> float:
    known = [x for x in window if not np.isnan(x)]
    return float(np.prod([1.0 + x for x in known]) - 1.0) if len(known) >= 0.8 * len(window) else np.nan


def deviation(window: np.ndarray) -> float:
    series = pd.Series(window)
    return float(series.std()) if series.count() >= 0.8 * len(window) else np.nan


def less_means(day: np.ndarray, country: np.ndarray, sector: np.ndarray) -> np.ndarray:
    left = pd.Series(day) - np.nanmean(day)
    for labels in (country, sector):
        group = left.groupby(labels)
        left = left - group.transform("mean").where(group.transform("count") >= 5, 0.0)
    return left.to_numpy()


def slow_gauss(values: np.ndarray) -> np.ndarray:
    ranks = pd.Series(values).rank()
    return ((ranks - 0.5) / ranks.count()).map(lambda p: NormalDist().inv_cdf(p), na_action="ignore").to_numpy()


def slow_without_size(values: np.ndarray, size: np.ndarray) -> np.ndarray:
    both = ~np.isnan(values) & ~np.isnan(size)
    y, x = slow_gauss(np.where(both, values, np.nan)), np.log(size)
    fit = np.polyfit(x[both], y[both], 1)
    return y - np.polyval(fit, x)


def slow_beta(window: np.ndarray, market_return: np.ndarray) -> float:
    known = ~np.isnan(window)
    if known.sum() < 0.8 * len(window):
        return np.nan
    both = np.cov(window[known], market_return[known])
    return float(both[0, 1] / both[1, 1])


def slow_seasonality(panel: Panel, t: int, columns: np.ndarray) -> np.ndarray:
    seasons = []
    for years in range(1, 6):
        same = panel.dates[t] - pd.DateOffset(years=years)
        anchor = [s for s in range(t) if panel.dates[s] <= same]
        if anchor:
            window = panel.returns[anchor[-1] + 3 : anchor[-1] + 23, columns]
            season = np.array([compound(asset) for asset in window.T])
            seasons.append(season - np.nanmean(season))
    stacked = np.array(seasons)
    count = (~np.isnan(stacked)).sum(axis=0)
    return np.where(count > 0, np.nansum(stacked, axis=0) / np.maximum(count, 1), np.nan)


def slow(panel: Panel, members: np.ndarray, size: np.ndarray, t: int) -> pd.DataFrame:
    columns = np.flatnonzero(members[t])
    year = panel.returns[t - 251 : t + 1, columns]
    volume = panel.dollar_volume[t - 251 : t + 1, columns]
    country, sector = panel.country[t, columns], panel.sector[t, columns]
    residual = np.array([less_means(day, country, sector) for day in year])
    out: dict[str, np.ndarray] = {}

    def each(function, window):  # type: ignore[no-untyped-def]
        return np.array([function(asset) for asset in window.T])

    out["momentum_12_1"] = each(compound, year[:231])
    out["momentum_6_1"] = each(compound, year[126:231])
    out["low_volatility"] = -each(deviation, year)
    out["momentum_12_1_volatility_scaled"] = out["momentum_12_1"] / -out["low_volatility"]
    mean = np.array([np.nanmean(asset) for asset in residual[:231].T])
    out["residual_momentum"] = mean / each(deviation, residual[:231])
    half = pd.Series(each(compound, year[126:]))
    out["sector_momentum"] = half.groupby(sector).transform("mean").where(sector >= 0).to_numpy()
    out["reversal_week"] = -less_means(each(compound, year[-5:]), country, sector)
    out["reversal_month"] = -less_means(each(compound, year[-21:]), country, sector)
    market_return = np.nanmean(year, axis=1)
    out["low_beta"] = -each(lambda asset: slow_beta(asset, market_return), year)
    out["low_idiosyncratic_volatility"] = -each(deviation, residual[-21:])
    out["low_maximum_return"] = np.where(np.isnan(each(compound, year[-21:])), np.nan, -np.nanmax(year[-21:], axis=0))
    path = np.cumprod(1.0 + np.nan_to_num(year), axis=0)
    out["high_52_week"] = np.where(np.isnan(each(compound, year)), np.nan, path[-1] / path.max(axis=0))
    out["small_size"] = -np.log(size[t, columns])
    recent, before = pd.DataFrame(volume[-5:]), pd.DataFrame(volume[-55:-5])
    shock = np.log(recent.mean() / before.mean())
    out["volume_shock"] = shock.where((recent.count() >= 4) & (before.count() >= 40)).to_numpy()
    impact = pd.DataFrame(np.abs(year) / volume)
    out["illiquidity"] = np.log(impact.mean()).where(impact.count() >= 0.8 * 252).to_numpy()
    out["momentum_12_1_size_neutral"] = slow_without_size(out["momentum_12_1"], size[t, columns])
    out["low_volatility_size_neutral"] = slow_without_size(out["low_volatility"], size[t, columns])
    out["seasonality"] = slow_seasonality(panel, t, columns)
    return pd.DataFrame(out, index=[panel.assets[i] for i in columns])


def test_at_least_twelve_models_and_two_learned() -> None:
    assert len(MODELS) >= 14
    assert {name for name, model in MODELS.items() if model.signal is None} == set(LEARNERS)
    assert all(model.name == name and model.description for name, model in MODELS.items())


@pytest.mark.filterwarnings("ignore:All-NaN slice:RuntimeWarning")
@pytest.mark.parametrize("which", [0, 40, -1])
def test_each_signal_equals_its_slow_formula(
    case: tuple[Panel, np.ndarray, np.ndarray], predicted: dict[pd.Timestamp, pd.DataFrame], which: int
) -> None:
    panel, members, size = case
    date = list(predicted)[which]
    t = int(panel.dates.get_indexer([date])[0])
    want, got = slow(panel, members, size, t), predicted[date]
    assert list(got.index) == list(want.index)
    assert set(SIMPLE) == set(want.columns)
    for name in SIMPLE:
        np.testing.assert_allclose(got[name], want[name], rtol=1e-8, atol=1e-10, err_msg=name)


def test_what_is_not_known_is_nan(predicted: dict[pd.Timestamp, pd.DataFrame]) -> None:
    first = next(iter(predicted.values()))
    assert first.loc["A004", ["momentum_12_1", "low_volatility", "low_beta", "residual_momentum"]].isna().all()
    assert np.isfinite(first.loc["A004", ["small_size", "reversal_week"]].to_numpy(float)).all()
    for frame in predicted.values():
        if "A009" in frame.index:
            assert frame.loc["A009", ["small_size", "momentum_12_1_size_neutral"]].isna().all()
        if "A008" in frame.index:
            assert np.isnan(frame.loc["A008", "sector_momentum"])


def test_a_split_does_not_move_any_prediction(case: tuple[Panel, np.ndarray, np.ndarray]) -> None:
    panel, members, size = case
    date = panel.dates[500]
    halved = replace(panel, close=panel.close / np.where(np.arange(660) > 400, 2.0, 1.0)[:, None])
    pd.testing.assert_frame_equal(
        collect(benchmark_predictions(panel, members, size, [date]))[date],
        collect(benchmark_predictions(halved, members, size, [date]))[date],
    )


def test_only_members_get_predictions(
    case: tuple[Panel, np.ndarray, np.ndarray], predicted: dict[pd.Timestamp, pd.DataFrame]
) -> None:
    panel, members, _ = case
    for date, frame in predicted.items():
        t = panel.dates.get_loc(date)
        assert list(frame.index) == [panel.assets[i] for i in np.flatnonzero(members[t])]


def test_what_non_members_do_moves_nothing(case: tuple[Panel, np.ndarray, np.ndarray]) -> None:
    panel, members, size = case
    never = members.copy()
    never[:, :6] = False
    rng = np.random.default_rng(1)
    returns = panel.returns.copy()
    returns[:, :6] = rng.normal(0.0, 0.1, (660, 6))
    other = replace(panel, returns=returns)
    date = panel.dates[640]
    one, two = (collect(benchmark_predictions(p, never, size, [date]))[date] for p in (panel, other))
    pd.testing.assert_frame_equal(one, two, check_exact=True)


# No look-ahead.


def noise_after(case: tuple[Panel, np.ndarray, np.ndarray], t: int) -> tuple[Panel, np.ndarray, np.ndarray]:
    panel, members, size = case
    rng = np.random.default_rng(99)
    shape = panel.returns.shape
    later = (np.arange(shape[0]) > t)[:, None]
    labels = rng.integers(0, 3, shape).astype(np.int16)
    noisy = replace(
        panel,
        returns=np.where(later, rng.normal(0.0, 0.2, shape), panel.returns),
        has_row=np.where(later, rng.random(shape) > 0.5, panel.has_row),
        close=np.where(later, rng.lognormal(0.0, 1.0, shape), panel.close),
        dollar_volume=np.where(later, rng.lognormal(9.0, 3.0, shape), panel.dollar_volume),
        country=np.where(later, labels, panel.country),
        sector=np.where(later, labels, panel.sector),
        delisting_return=rng.normal(0.0, 1.0, shape[1]),
    )
    return noisy, np.where(later, rng.random(shape) > 0.3, members), np.where(later, rng.lognormal(9, 1, shape), size)


def learned_from(predicted: dict[pd.Timestamp, pd.DataFrame]) -> list[pd.Timestamp]:
    return [date for date, frame in predicted.items() if frame["ridge"].notna().any()]


@pytest.mark.parametrize("place", ["day before the first fit", "first fit", "first renewal", "in between"])
def test_nothing_after_t_moves_a_prediction_up_to_t(
    case: tuple[Panel, np.ndarray, np.ndarray], predicted: dict[pd.Timestamp, pd.DataFrame], place: str
) -> None:
    panel = case[0]
    start = learned_from(predicted)
    date = {"first fit": start[0], "first renewal": start[13]}.get(place, start[5])
    t = int(panel.dates.get_loc(date)) if place != "day before the first fit" else panel.dates.get_loc(start[0]) - 1
    expected = {day: frame for day, frame in predicted.items() if day <= panel.dates[t]}
    noisy = collect(benchmark_predictions(*noise_after(case, t)))
    cut = collect(benchmark_predictions(panel.until(t), case[1][: t + 1], case[2][: t + 1]))
    assert list(cut) == list(expected)
    for day, frame in expected.items():
        pd.testing.assert_frame_equal(noisy[day], frame, check_exact=True, obj=f"noise after {day}")
        pd.testing.assert_frame_equal(cut[day], frame, check_exact=True, obj=f"cut at {day}")
    # The noise does reach what comes later, so the comparison above is able to fail.
    after = next(day for day in predicted if day > panel.dates[t] + pd.Timedelta(days=30))
    assert not noisy[after].equals(predicted[after])


def test_a_fit_waits_until_the_forward_window_has_ended(
    case: tuple[Panel, np.ndarray, np.ndarray], predicted: dict[pd.Timestamp, pd.DataFrame]
) -> None:
    panel = case[0]
    schedule = weekly_dates(panel.dates)
    first = learned_from(predicted)[0]
    t = panel.dates.get_loc(first)
    assert (schedule + 22 <= t).sum() == 52
    # The last row of the newest window is used: the fit moves when that row moves.
    newest = schedule[51]
    assert newest + 22 <= t
    returns = panel.returns.copy()
    returns[newest + 22] = np.random.default_rng(5).permutation(returns[newest + 22])
    moved = collect(benchmark_predictions(replace(panel, returns=returns), *case[1:], [first]))[first]
    assert not moved["ridge"].equals(predicted[first]["ridge"])


def test_a_date_does_not_depend_on_which_others_are_asked_for(
    case: tuple[Panel, np.ndarray, np.ndarray], predicted: dict[pd.Timestamp, pd.DataFrame]
) -> None:
    panel, members, size = case
    weekly = list(predicted)[-3]
    midweek = panel.dates[panel.dates.get_loc(weekly) + 2]
    got = collect(benchmark_predictions(panel, members, size, [midweek, weekly]))
    assert list(got) == [weekly, midweek]
    pd.testing.assert_frame_equal(got[weekly], predicted[weekly], check_exact=True)
    assert got[midweek]["ridge"].notna().any()


def test_the_same_input_gives_the_same_bits(
    case: tuple[Panel, np.ndarray, np.ndarray], predicted: dict[pd.Timestamp, pd.DataFrame]
) -> None:
    last = list(predicted)[-1]
    again = collect(benchmark_predictions(*case, [last]))[last]
    pd.testing.assert_frame_equal(again, predicted[last], check_exact=True)


def test_weekly_dates_are_first_trading_days_of_iso_weeks() -> None:
    days = pd.bdate_range("2018-01-01", "2020-01-10").drop(["2019-04-22", "2019-12-30"])
    got = days[weekly_dates(days)]
    assert pd.Timestamp("2019-04-23") in got  # the Monday is a holiday
    assert pd.Timestamp("2019-12-31") in got  # 31 December is in the first ISO week of 2020, as 1 January is
    assert pd.Timestamp("2020-01-01") not in got
    assert got[0] >= days[252]
    assert all(day.day_of_week == 0 for day in got.drop([pd.Timestamp("2019-04-23"), pd.Timestamp("2019-12-31")]))


# What is learned.


def weekly_ics(panel: Panel, members: np.ndarray, size: np.ndarray) -> pd.DataFrame:
    """Return rank ICs of every fifth weekly date, whose forward windows do not overlap."""
    rows = {}
    for date, frame in collect(benchmark_predictions(panel, members, size)).items():
        t = int(panel.dates.get_indexer([date])[0])
        if t + 22 < len(panel.dates) and frame["ridge"].notna().any():
            columns = np.flatnonzero(members[t])
            target = forward_target(panel.returns, t, columns, panel.country[t, columns], panel.sector[t, columns])
            rows[date] = frame.rank().corrwith(pd.Series(target, frame.index))
    return pd.DataFrame(rows).T.iloc[::5]


def t_statistic(ics: pd.Series) -> float:
    return float(ics.mean() / (ics.std() / np.sqrt(len(ics))))


def test_learned_models_learn_a_planted_signal_against_the_models_they_learn_from() -> None:
    rng = np.random.default_rng(11)
    panel = market(rng, 900, 80, reward=0.25)
    members, size = np.ones(panel.returns.shape, bool), np.exp(rng.normal(20.0, 1.5, panel.returns.shape))
    ics = weekly_ics(panel, members, size)
    assert ics["low_volatility"].mean() < -0.2
    for name in LEARNERS:
        assert ics[name].mean() > 0.2
        assert t_statistic(ics[name]) > 3.0


def test_learned_models_find_nothing_in_noise() -> None:
    rng = np.random.default_rng(12)
    # Equal volatilities: among unequal ones the volatile have the lower median compound return, which ranks do see.
    panel = market(rng, 900, 80, volatile=0.005)
    members, size = np.ones(panel.returns.shape, bool), np.exp(rng.normal(20.0, 1.5, panel.returns.shape))
    ics = weekly_ics(panel, members, size)
    for name in LEARNERS:
        assert abs(ics[name].mean()) < 3.0 / np.sqrt(79 * len(ics))


# Parts.


def test_means_of_small_groups_are_kept() -> None:
    values = np.array([1.0, 2.0, 3.0, 4.0, 5.0, 9.0, np.nan])
    country = np.array([0, 0, 0, 0, 0, 1, 0], dtype=np.int16)
    sector = np.zeros(7, dtype=np.int16)
    left = without_group_means(values, country, sector)
    # Market mean 4; country 0 then has mean -1 and loses it; country 1 has one name and keeps 5; last the sector mean 5/6.
    np.testing.assert_allclose(left, np.array([-2.0, -1.0, 0.0, 1.0, 2.0, 5.0, np.nan]) - 5.0 / 6.0)


def test_gaussianised_ranks_keep_ties_and_nan() -> None:
    got = gaussianise(np.array([3.0, 1.0, np.nan, 1.0, 8.0]))
    low, high = NormalDist().inv_cdf(0.25), NormalDist().inv_cdf(0.875)
    np.testing.assert_allclose(got, [NormalDist().inv_cdf(0.625), low, np.nan, low, high])


def test_a_cross_section_holds_no_row_after_its_day(case: tuple[Panel, np.ndarray, np.ndarray]) -> None:
    section = CrossSection.at(*case, 300)
    assert len(section.dates) == len(section.past_returns) == len(section.past_dollar_volume) == 301


# Bad input.


def test_five_assets_are_refused() -> None:
    rng = np.random.default_rng(3)
    panel = market(rng, 300, 10)
    members = np.zeros(panel.returns.shape, bool)
    members[:, :5] = True
    with pytest.raises(DataError, match=r"`members` must hold at least 20 assets .* the most is 5\."):
        benchmark_predictions(panel, members, panel.dollar_volume)


def test_a_short_history_is_refused() -> None:
    panel = market(np.random.default_rng(3), 200, 30)
    with pytest.raises(DataError, match=r"252 trading days .* got 200 days"):
        benchmark_predictions(panel, np.ones(panel.returns.shape, bool), panel.dollar_volume)


def test_bad_dates_and_shapes_are_refused(case: tuple[Panel, np.ndarray, np.ndarray]) -> None:
    panel, members, size = case
    with pytest.raises(DataError, match=r"`size` must have the panel's shape"):
        benchmark_predictions(panel, members, size[:-1])
    with pytest.raises(DataError, match=r"2017-01-01 .* is none"):
        benchmark_predictions(panel, members, size, [pd.Timestamp("2017-01-01")])
    with pytest.raises(DataError, match="has 10"):
        benchmark_predictions(panel, members, size, [panel.dates[10]])
    empty = members.copy()
    empty[400] = False
    with pytest.raises(DataError, match="has 0"):
        benchmark_predictions(panel, empty, size, [panel.dates[400]])
    assert panel.dates[400] not in collect(benchmark_predictions(panel, empty, size))
