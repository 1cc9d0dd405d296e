"""Benchmark models: none looks ahead, and the learned ones learn what there is and nothing else."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from listed_market import market, random_universe

from backtest.benchmark_models import MODELS, benchmark_predictions, weekly_dates
from backtest.cross_section import CrossSection
from backtest.learned_models import LEARNERS, WalkForward, forward_target
from risk import DataError, Panel

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


def test_at_least_twelve_models_and_two_learned() -> None:
    assert len(MODELS) >= 14
    assert {name for name, model in MODELS.items() if model.signal is None} == set(LEARNERS)
    assert all(model.name == name and model.description for name, model in MODELS.items())


def test_only_members_get_predictions(case: Case, predicted: Predicted) -> None:
    panel, members, _ = case
    for date, frame in predicted.items():
        t = panel.dates.get_loc(date)
        assert list(frame.index) == [panel.assets[i] for i in np.flatnonzero(members[t])]


def test_what_non_members_do_moves_nothing(case: Case) -> None:
    panel, members, size = case
    never = members.copy()
    never[:, :6] = False
    rng = np.random.default_rng(1)
    returns = panel.returns.copy()
    returns[:, :6] = rng.normal(0.0, 0.1, (660, 6))
    other = replace(panel, returns=returns)
    date = panel.dates[640]
    one, two = (dict(benchmark_predictions(p, never, size, [date]))[date] for p in (panel, other))
    pd.testing.assert_frame_equal(one, two, check_exact=True)


# No look-ahead.


def noise_after(case: Case, t: int) -> Case:
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


def learned_from(predicted: Predicted) -> list[pd.Timestamp]:
    return [date for date, frame in predicted.items() if frame["ridge"].notna().any()]


@pytest.mark.parametrize("place", ["day before the first fit", "first fit", "first renewal", "in between"])
def test_nothing_after_t_moves_a_prediction_up_to_t(case: Case, predicted: Predicted, place: str) -> None:
    panel = case[0]
    start = learned_from(predicted)
    date = {"first fit": start[0], "first renewal": start[13]}.get(place, start[5])
    t = int(panel.dates.get_loc(date)) if place != "day before the first fit" else panel.dates.get_loc(start[0]) - 1
    expected = {day: frame for day, frame in predicted.items() if day <= panel.dates[t]}
    noisy = dict(benchmark_predictions(*noise_after(case, t)))
    cut = dict(benchmark_predictions(panel.until(t), case[1][: t + 1], case[2][: t + 1]))
    assert list(cut) == list(expected)
    for day, frame in expected.items():
        pd.testing.assert_frame_equal(noisy[day], frame, check_exact=True, obj=f"noise after {day}")
        pd.testing.assert_frame_equal(cut[day], frame, check_exact=True, obj=f"cut at {day}")
    # The noise does reach what comes later, so the comparison above is able to fail.
    after = next(day for day in predicted if day > panel.dates[t] + pd.Timedelta(days=30))
    assert not noisy[after].equals(predicted[after])


def test_a_fit_waits_until_the_forward_window_has_ended(case: Case, predicted: Predicted) -> None:
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
    moved = dict(benchmark_predictions(replace(panel, returns=returns), *case[1:], [first]))[first]
    assert not moved["ridge"].equals(predicted[first]["ridge"])


def walk_daily(case: Case, returns: np.ndarray, last: int) -> tuple[list[int], np.ndarray]:
    """Return the days on which a learner that sees a cross-section every day predicts, and its last predictions."""
    panel, members, size = case
    learner, days, ridge = WalkForward(returns), [], np.empty(0)
    for t in range(252, last + 1):
        section = CrossSection.at(panel, members, size, t)
        features = np.random.default_rng(t).standard_normal((len(section.columns), 3)).astype(np.float32)
        learner.renew(t)
        ridge = learner.predict(features)["ridge"]
        if np.isfinite(ridge).any():
            days.append(t)
        learner.add(t, section, features)
    return days, ridge


def test_a_fit_reads_the_row_of_its_day_and_none_after_it(case: Case) -> None:
    # 52 cross-sections from day 252 on, the last of which needs 22 more days: exact to the day, unlike a weekly grid.
    first = 252 + 51 + 22
    returns = case[0].returns
    days, ridge = walk_daily(case, returns, first)
    assert days == [first]
    later, same_day = returns.copy(), returns.copy()
    later[first + 1 :] = 0.5
    same_day[first] = same_day[first][::-1]
    np.testing.assert_array_equal(walk_daily(case, later, first)[1], ridge)
    assert not np.array_equal(walk_daily(case, same_day, first)[1], ridge)


def test_the_target_is_earned_from_two_to_twenty_two_days_ahead() -> None:
    n, t, one_group = 30, 5, np.zeros(30, dtype=np.int16)
    ranks = np.random.default_rng(4).permutation(n)

    def target(row: int) -> np.ndarray:
        returns = np.zeros((40, n))
        returns[row] = 0.01 * ranks
        return forward_target(returns, t, np.arange(n), one_group, one_group)

    for inside in (t + 3, t + 22):
        np.testing.assert_array_equal(np.argsort(target(inside)), np.argsort(ranks))
    for outside in (t + 2, t + 23):
        np.testing.assert_allclose(target(outside), 0.0, atol=1e-12)


def test_a_date_does_not_depend_on_which_others_are_asked_for(case: Case, predicted: Predicted) -> None:
    panel, members, size = case
    weekly = list(predicted)[-3]
    midweek = panel.dates[panel.dates.get_loc(weekly) + 2]
    got = dict(benchmark_predictions(panel, members, size, [midweek, weekly]))
    assert list(got) == [weekly, midweek]
    pd.testing.assert_frame_equal(got[weekly], predicted[weekly], check_exact=True)
    assert got[midweek]["ridge"].notna().any()


def test_the_same_input_gives_the_same_bits(case: Case, predicted: Predicted) -> None:
    last = list(predicted)[-1]
    again = dict(benchmark_predictions(*case, [last]))[last]
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
    for date, frame in dict(benchmark_predictions(panel, members, size)).items():
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


def test_bad_dates_and_shapes_are_refused(case: Case) -> None:
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
    assert panel.dates[400] not in dict(benchmark_predictions(panel, empty, size))
