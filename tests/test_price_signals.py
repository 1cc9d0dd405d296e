"""Price signals: each equals its published formula, computed slowly, one asset at a time."""

from __future__ import annotations

from dataclasses import replace
from statistics import NormalDist

import numpy as np
import pandas as pd
import pytest
from listed_market import market, random_universe

from backtest.benchmark_models import MODELS, benchmark_predictions
from backtest.cross_section import CrossSection, gaussianise, without_group_means
from risk import Panel

SIMPLE = [name for name, model in MODELS.items() if model.signal is not None]
Case = tuple[Panel, np.ndarray, np.ndarray]
Predicted = dict[pd.Timestamp, pd.DataFrame]


@pytest.fixture(scope="module")
def case() -> Case:
    rng = np.random.default_rng(7)
    panel = market(rng, 660, 48)
    return panel, *random_universe(rng, panel)


@pytest.fixture(scope="module")
def predicted(case: Case) -> Predicted:
    return dict(benchmark_predictions(*case))


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


@pytest.mark.filterwarnings("ignore:All-NaN slice:RuntimeWarning")
@pytest.mark.parametrize("which", [0, 40, -1])
def test_each_signal_equals_its_slow_formula(case: Case, predicted: Predicted, which: int) -> None:
    panel, members, size = case
    date = list(predicted)[which]
    t = int(panel.dates.get_indexer([date])[0])
    want, got = slow(panel, members, size, t), predicted[date]
    assert list(got.index) == list(want.index)
    assert set(SIMPLE) == set(want.columns)
    for name in SIMPLE:
        np.testing.assert_allclose(got[name], want[name], rtol=1e-8, atol=1e-10, err_msg=name)


def test_what_is_not_known_is_nan(predicted: Predicted) -> None:
    first = next(iter(predicted.values()))
    assert first.loc["A004", ["momentum_12_1", "low_volatility", "low_beta", "residual_momentum"]].isna().all()
    assert np.isfinite(first.loc["A004", ["small_size", "reversal_week"]].to_numpy(float)).all()
    for frame in predicted.values():
        if "A009" in frame.index:
            assert frame.loc["A009", ["small_size", "momentum_12_1_size_neutral"]].isna().all()
        if "A008" in frame.index:
            assert np.isnan(frame.loc["A008", "sector_momentum"])


def test_a_split_does_not_move_any_prediction(case: Case) -> None:
    panel, members, size = case
    date = panel.dates[500]
    halved = replace(panel, close=panel.close / np.where(np.arange(660) > 400, 2.0, 1.0)[:, None])
    pd.testing.assert_frame_equal(
        dict(benchmark_predictions(panel, members, size, [date]))[date],
        dict(benchmark_predictions(halved, members, size, [date]))[date],
    )


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


def test_a_cross_section_holds_no_row_after_its_day(case: Case) -> None:
    section = CrossSection.at(*case, 300)
    assert len(section.dates) == len(section.past_returns) == len(section.past_dollar_volume) == 301
