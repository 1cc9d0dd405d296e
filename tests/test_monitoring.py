"""Limits monitored daily: every level by a slow twin, and who broke what, since when."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from account_run import GONE, NAMES, UNKNOWN_VOLUME, Story, write_account
from scipy import stats

from backtest import Run
from backtest.breaches import find_breaches
from backtest.daily_book import DailyBook, drifted_weights, read_book
from backtest.forecast_record import chi_square_band, forecast_record
from backtest.limit_levels import LimitLevels, Liquidation, days_to_liquidate, limit_levels
from backtest.monitoring import Monitoring, MonitoringRule, monitor
from backtest.rulings import rulings
from risk import DataError
from risk.liquidity import liquidity


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Story:
    return write_account(tmp_path_factory.mktemp("account") / "run")


@pytest.fixture(scope="module")
def monitored(story: Story) -> Monitoring:
    return monitor(story.run, facts=story.facts)


def slow_level(story: Story, t: int, name: str, weights: np.ndarray) -> float:
    model, labels = story.in_force(t)
    family, _, category = name.partition(":")
    if family == "position":
        return max(abs(w) for w in weights)
    if family == "gross":
        return sum(abs(w) for w in weights)
    if family == "net":
        return sum(weights)
    if family == "volatility":
        V = model.exposures @ model.factor_covariance @ model.exposures.T + np.diag(model.specific_variance)
        return float(np.sqrt(weights @ V @ weights))
    if family == "beta":
        return float(sum(w * b for w, b in zip(weights, model.beta(story.benchmark), strict=True)))
    if family in ("country", "sector"):
        return float(sum(w for w, label in zip(weights, labels[family], strict=True) if label == category))
    return float(weights @ model.exposures[:, model.factors.index(name)])


def test_every_level_of_every_day_is_its_definition(story: Story, monitored: Monitoring) -> None:
    names = [name for name in monitored.levels if name != "liquidity"]
    assert {"beta", "country:DE", "sector:Energy", "style:value", "volatility", "net", "gross", "position"} <= set(
        names
    )
    for t in range(len(story.dates)):
        for name in names:
            wanted = slow_level(story, t, name, story.weights[t])
            assert monitored.levels[name].iloc[t] == pytest.approx(wanted, abs=1e-12), (t, name)


def test_drifted_weights_are_the_book_of_the_close_before_moved_by_its_returns(story: Story) -> None:
    book = read_book(story.run)
    drifted = drifted_weights(story.run, book)
    for t in range(1, len(story.dates)):
        value = story.values[t - 1] * (1 + story.returns[t])
        if t >= len(story.dates) // 2:
            value[GONE] = 0.0
        undone = story.nav[t] + 1e-3 * np.abs(story.trades[t]).sum()
        np.testing.assert_allclose(drifted[t], value / undone, rtol=0, atol=1e-12)


def test_liquidity_is_that_of_the_risk_report_on_every_day(story: Story, monitored: Monitoring) -> None:
    for t in range(1, len(story.dates)):
        _, labels = story.in_force(t)
        sold = liquidity(
            NAMES,
            story.weights[t],
            labels["traded_value"].to_numpy(),
            story.nav[t],
            participation=0.1,
            quantiles=(0.8,),
        )
        weights, capacity = story.weights[t], 0.1 * np.nan_to_num(labels["traded_value"].to_numpy())
        assert days_to_liquidate(np.abs(weights) * story.nav[t], capacity, 0.8) == pytest.approx(sold.quantile_days[0])
        assert monitored.unknown_volume.iloc[t] == pytest.approx(abs(weights[UNKNOWN_VOLUME]), abs=1e-15)
    # One name in twelve has no known volume: 95 % of gross can never be said to be sold.
    assert np.isinf(monitored.levels["liquidity"].iloc[-1])
    assert np.isfinite(
        monitor(story.run, facts=story.facts, rule=MonitoringRule(liquidated_share=0.8)).levels["liquidity"]
    ).all()


def book_of(weights: np.ndarray) -> DailyBook:
    dates = pd.bdate_range("2023-01-02", periods=len(weights))
    account = pd.DataFrame({"nav": 1e6, "cost": 0.0, "gross_return": 0.0}, index=dates)
    return DailyBook(account, np.full(len(dates), 1e6), tuple("ABCD"[: weights.shape[1]]), weights)


def levels_of(name: str, closing: list[float], drifted: list[float], before: list[float]) -> LimitLevels:
    columns = [np.array(level)[:, None] for level in (closing, drifted, before)]
    dates = pd.bdate_range("2023-01-02", periods=len(closing))
    return LimitLevels(dates, (name,), *columns, np.zeros(len(closing)), np.zeros(len(closing)))


def breaches_of(found: LimitLevels, rule: MonitoringRule) -> pd.DataFrame:
    empty = np.zeros((len(found.dates), 1))
    bounds = dict.fromkeys(("position", "net", "style"), (-0.0, 0.0, 0.02))
    return find_breaches(book_of(empty), empty, found, bounds, rule)


@pytest.mark.parametrize(
    ("drifted", "before", "kind", "cause"),
    [
        (0.01, 0.01, "active", "trade"),
        (0.05, 0.05, "passive", "drift"),
        (0.05, 0.01, "passive", "model"),
        (0.01, 0.05, "active", "trade"),
    ],
)
def test_a_breach_is_by_whoever_took_the_level_out(drifted: float, before: float, kind: str, cause: str) -> None:
    found = levels_of("net", [0.01, 0.04, 0.06, 0.0], [0.01, drifted, 0.06, 0.0], [0.01, before, 0.06, 0.0])
    row = breaches_of(found, MonitoringRule()).iloc[0]
    assert (row["kind"], row["cause"], row["hard"]) == (kind, cause, True)
    assert (row["start"], row["end"], row["days"]) == (found.dates[1], found.dates[2], 2)
    assert (row["worst"], row["worst_date"], row["open"]) == (0.06, found.dates[2], False)
    assert row["excess"] == pytest.approx(0.04)


def test_levels_within_tolerance_are_no_breach_and_soft_families_are_not_hard() -> None:
    within = levels_of("net", [0.02, -0.02], [0.02, -0.02], [0.02, -0.02])
    assert breaches_of(within, MonitoringRule()).empty
    beyond = levels_of("style:size", [0.0, -0.03], [0.0, -0.03], [0.0, -0.03])
    row = breaches_of(beyond, MonitoringRule()).iloc[0]
    assert not row["hard"]
    assert row["open"]
    assert breaches_of(beyond, MonitoringRule(hard=("style",))).iloc[0]["hard"]


def test_trades_that_take_a_breach_further_out_are_counted() -> None:
    found = levels_of("net", [0.05, 0.06, 0.07], [0.05, 0.05, 0.07], [0.05, 0.05, 0.07])
    row = breaches_of(found, MonitoringRule()).iloc[0]
    assert (row["cause"], row["days"], row["worsened"]) == ("drift", 3, 1)


def test_a_position_is_followed_by_name_and_sign() -> None:
    weights = np.array([[0.01, -0.015], [0.021, -0.015], [0.021, -0.025], [0.019, -0.030]])
    drifted = weights.copy()
    drifted[2, 1] = -0.019
    found = levels_of("position", *[np.abs(weights).max(axis=1).tolist()] * 3)
    bounds = {"position": (np.nan, 0.02, 0.0)}
    table = find_breaches(book_of(weights), drifted, found, bounds, MonitoringRule())
    assert table[["asset", "days", "kind", "worst"]].to_numpy().tolist() == [
        ["A", 2, "passive", 0.021],
        ["B", 2, "active", -0.030],
    ]


def test_a_change_of_model_is_seen_as_such(story: Story) -> None:
    book = read_book(story.run)
    found = limit_levels(
        book, drifted_weights(story.run, book), rulings(story.run, book, story.facts), Liquidation(0.1, 0.95)
    )
    style = found.names.index("style:size")
    decided = story.dates.get_indexer(pd.DatetimeIndex(list(story.models)))
    same = np.setdiff1d(np.arange(len(story.dates)), decided)
    np.testing.assert_array_equal(found.before[same, style], found.drifted[same, style])
    for t in decided[1:]:
        model, _ = story.in_force(t - 1)
        drifted = drifted_weights(story.run, book)[t]
        assert found.before[t, style] == pytest.approx(drifted @ model.exposures[:, 3], abs=1e-12)
        assert abs(found.before[t, style] - found.drifted[t, style]) > 1e-6


def test_the_table_of_a_date_reads_nothing_after_it(story: Story, monitored: Monitoring) -> None:
    day = story.dates[17]
    then = monitor(story.run, date=day, facts=story.facts)
    assert then.date == day
    pd.testing.assert_frame_equal(then.levels, monitored.levels.loc[:day], check_freq=False)
    pd.testing.assert_frame_equal(then.forecast, monitored.forecast.loc[:day], check_freq=False)
    known = story.facts[story.facts["date"] <= day]
    pd.testing.assert_frame_equal(monitor(story.run, date=day, facts=known).table, then.table)
    later = monitored.breaches[monitored.breaches["start"] <= day]
    assert len(later) == len(then.breaches) > 0
    assert (then.breaches["end"] <= day).all()
    np.testing.assert_array_equal(then.breaches["start"], later["start"])


def test_the_table_says_level_limit_headroom_and_since_when(story: Story) -> None:
    rule = MonitoringRule(net_tolerance=0.001, country_tolerance=10.0, liquidity_limit_days=5.0)
    found = monitor(story.run, facts=story.facts, rule=rule)
    net, country = found.table.loc["net"], found.table.loc["country:DE"]
    assert net["headroom"] == pytest.approx(-abs(found.levels["net"].iloc[-1]))
    assert net["margin"] == pytest.approx(0.001 - abs(found.levels["net"].iloc[-1]))
    beyond_own = found.levels["net"].ne(0).to_numpy()
    assert net["outside_since"] == found.levels.index[len(beyond_own) - int(np.argmin(beyond_own[::-1]))]
    assert net["breach"]
    assert net["hard"]
    assert found.hard_breach
    beyond = found.levels["net"].abs().gt(0.001).to_numpy()
    first = len(beyond) - int(np.argmin(beyond[::-1]))
    assert net["since"] == story.dates[first]
    assert net["days"] == len(beyond) - first
    assert country["outside_limit"]
    assert not country["breach"]
    assert pd.isna(country["since"])
    assert found.table.loc["position", "upper"] == 0.02
    assert found.table.loc["style:size", "relaxed"] == 0.05
    assert found.table.loc["net", "relaxed"] == 0.0
    # 95 % of gross is never sold, as one volume is not known: beyond any number of days, and soft.
    assert found.table.loc["liquidity", "breach"]
    assert not found.table.loc["liquidity", "hard"]
    position = found.table.loc["position"]
    assert abs(story.weights[-1][NAMES.index(position["asset"])]) == position["level"]


def test_the_position_row_tells_of_the_asset_that_it_names(story: Story) -> None:
    bound = float(np.quantile(np.abs(story.weights), 0.7))
    record = json.loads((story.run.folder / "run.json").read_text())
    tight = story.run.folder.parent / "tight"
    shutil.copytree(story.run.folder, tight)
    record["mandate"] |= {"position_limit": bound, "position_target": bound}
    (tight / "run.json").write_text(json.dumps(record))
    whole = monitor(Run(tight), facts=story.facts)
    positions = whole.breaches[whole.breaches["limit"] == "position"]
    told = 0
    for day in whole.levels.index:
        now = positions[(positions["start"] <= day) & (positions["end"] >= day)]
        if now["start"].nunique() < 2 or told == 5:
            continue
        row = monitor(Run(tight), date=day, facts=story.facts).table.loc["position"]
        own = now[now["asset"] == row["asset"]]
        assert row["since"] == own["start"].item()
        assert row["kind"] == own["kind"].item()
        told += 1
    assert told


def test_a_calibrated_forecast_is_what_the_limit_is_held_against(
    story: Story, monitored: Monitoring, tmp_path: Path
) -> None:
    folder = tmp_path / "calibrated"
    folder.mkdir()
    for path in story.run.folder.iterdir():
        (folder / path.name).symlink_to(path)
    nav = story.run.table("nav").assign(forecast=0.05, calibrated_forecast=0.10)
    (folder / "nav.parquet").unlink()
    nav.to_parquet(folder / "nav.parquet")
    doubled = monitor(Run(folder), facts=story.facts)
    np.testing.assert_allclose(doubled.levels["volatility"], 2 * monitored.levels["volatility"], rtol=1e-12)
    np.testing.assert_allclose(doubled.levels["beta"], monitored.levels["beta"], rtol=1e-12)
    np.testing.assert_allclose(doubled.forecast["forecast"], monitored.forecast["forecast"], rtol=1e-12)
    np.testing.assert_allclose(doubled.forecast["calibrated_forecast"], 2 * doubled.forecast["forecast"], rtol=1e-12)


def test_forecast_and_realised_are_their_definitions() -> None:
    rng = np.random.default_rng(1)
    returns = pd.Series(rng.normal(0, 0.01, 40), pd.bdate_range("2023-01-02", periods=40))
    forecast = rng.uniform(0.1, 0.2, 40)
    forecast[:3] = 0.0
    record = forecast_record(returns, forecast, window=10, confidence=0.9)
    z = [returns.iloc[t] / (forecast[t - 1] / np.sqrt(252)) for t in range(4, 40)]
    for t in (13, 20, 39):
        row = record.iloc[t]
        last = z[t - 4 - 9 : t - 4 + 1]
        assert row["ratio"] == pytest.approx(np.std(last, ddof=1), rel=1e-12)
        assert row["realised_volatility"] == pytest.approx(np.std(returns.iloc[t - 9 : t + 1], ddof=1) * np.sqrt(252))
        assert row["mean_forecast"] == pytest.approx(np.sqrt(np.mean(forecast[t - 10 : t] ** 2)))
        assert row["outside"] == (not row["lower"] <= row["ratio"] <= row["upper"])
    assert record["ratio"].iloc[:13].isna().all()
    assert not record["outside"].iloc[:13].any()


def test_the_band_holds_what_it_says_of_right_forecasts() -> None:
    low, high = chi_square_band(63, 0.95)
    assert stats.chi2.cdf(62 * high**2, 62) - stats.chi2.cdf(62 * low**2, 62) == pytest.approx(0.95, abs=1e-12)
    ratio = np.random.default_rng(2).standard_normal((4000, 63)).std(axis=1, ddof=1)
    inside = int(((ratio > low) & (ratio < high)).sum())
    assert stats.binomtest(inside, 4000, 0.95).pvalue > 0.001


def test_a_simulated_run_is_monitored_as_it_monitored_itself(run: Run) -> None:
    found = monitor(run)
    own = run.table("exposures").pivot(index="date", columns="factor", values="exposure")  # noqa: PD010
    names = [name for name in found.levels if name in own and name != "volatility"]
    assert {"net", "gross", "position", "beta"} <= set(names)
    np.testing.assert_allclose(found.levels[names], own[names].reindex(found.levels.index), rtol=0, atol=1e-12)
    np.testing.assert_allclose(found.forecast["forecast"], own["volatility"].to_numpy(), rtol=0, atol=1e-12)
    over = run.table("notices").query("kind == 'passive breach'")
    position = found.breaches[found.breaches["limit"] == "position"]
    assert position["days"].sum() == len(over) > 0


BAD_FACTS = {
    "lacks the column": lambda facts: facts.drop(columns="sector"),
    "no rows for the decision of": lambda facts: facts[facts["date"] != facts["date"].iloc[-1]],
    "no row for 'N00'": lambda facts: facts[facts["asset"] != "N00"],
    "`country` is missing": lambda facts: facts.assign(country=facts["country"].where(facts["asset"] != "N00")),
    "twice": lambda facts: pd.concat([facts, facts.iloc[:1]]),
}


@pytest.mark.parametrize("message", BAD_FACTS)
def test_labels_that_do_not_fit_are_refused(story: Story, message: str) -> None:
    with pytest.raises(DataError, match=message):
        monitor(story.run, facts=BAD_FACTS[message](story.facts))


@pytest.mark.parametrize(
    ("date", "message"),
    [("2023-03-04", "last one before it is 2023-03-03"), ("2022-01-03", "outside the run"), ("soon", "must be a date")],
)
def test_a_date_without_a_session_is_refused(story: Story, date: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        monitor(story.run, date=date, facts=story.facts)


def test_a_run_without_labels_says_how_to_get_them(story: Story) -> None:
    with pytest.raises(DataError, match="Run the backtest again"):
        monitor(story.run)


def test_a_rule_names_only_known_families() -> None:
    with pytest.raises(ValueError, match="unknown family 'turnover'"):
        MonitoringRule(hard=("turnover",))
    with pytest.raises(ValueError, match="net_tolerance"):
        MonitoringRule(net_tolerance=-0.1)
    assert set(MonitoringRule().assumed) <= set(MonitoringRule.model_fields)


def test_bad_windows_and_returns_are_refused() -> None:
    returns = pd.Series([0.0, 0.1])
    with pytest.raises(DataError, match="`window` must be >= 2"):
        forecast_record(returns, np.ones(2), window=1)
    with pytest.raises(DataError, match="must have shape"):
        forecast_record(returns, np.ones(3))
    with pytest.raises(DataError, match="must be finite"):
        forecast_record(pd.Series([np.nan, 0.1]), np.ones(2))
