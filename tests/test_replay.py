"""A replay is today's exposures times the window's returns; what the data do not have is said, not guessed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest

from risk import DataError, FactorModel
from risk.replay import NOT_IN_DATA, WINDOWS, replay
from risk.scenario import stress_table


@dataclass(frozen=True)
class History:
    dates: pd.DatetimeIndex
    factors: tuple[str, ...]
    factor_returns: np.ndarray
    present: np.ndarray


@pytest.fixture
def history() -> History:
    """Business days from August 2019 on; the first 20 without a regression, momentum only from 2020-03-02 on."""
    rng, dates = np.random.default_rng(81), pd.bdate_range("2019-08-01", "2020-12-31")
    present = np.ones((len(dates), 4), dtype=np.bool_)
    present[:20] = False
    present[dates < "2020-03-02", 2] = False
    returns = np.where(present, rng.standard_normal((len(dates), 4)) * 0.01, 0.0)
    return History(dates, ("market", "style:size", "style:momentum", "country:Gone"), returns, present)


@pytest.fixture
def model() -> FactorModel:
    rng = np.random.default_rng(82)
    root = rng.standard_normal((4, 6)) * 0.1
    factors = ["style:momentum", "market", "blind:01", "style:size"]  # in another order, and one that is new
    return FactorModel(
        [f"A{i}" for i in range(12)], factors, rng.standard_normal((12, 4)), root @ root.T, np.full(12, 0.1)
    )


@pytest.fixture
def w() -> np.ndarray:
    return np.random.default_rng(83).standard_normal(12) / 5


def test_each_day_earns_exposures_times_returns(model: FactorModel, w: np.ndarray, history: History) -> None:
    (result,) = replay(model, w, history, windows={"crash": ("2020-02-20", "2020-03-23")})
    frame = pd.DataFrame(history.factor_returns, history.dates, list(history.factors)).loc["2020-02-20":"2020-03-23"]
    x = dict(zip(model.factors, model.exposures.T @ w, strict=True))
    daily = sum(x[name] * frame[name] for name in ("market", "style:size", "style:momentum"))
    stress = result.stress
    assert result.in_data
    assert result.days == len(frame)
    assert stress.profit == pytest.approx(daily.sum(), rel=1e-12)
    assert stress.profit_by_factor.sum() == pytest.approx(stress.profit, rel=1e-12)
    assert stress.profit_by_factor[3] == pytest.approx(x["style:size"] * frame["style:size"].sum(), rel=1e-12)
    assert (result.worst_day, result.worst_date) == (pytest.approx(daily.min(), rel=1e-12), daily.idxmin())
    level = np.r_[0.0, daily.cumsum()]
    deepest = max(level[i] - level[j] for i in range(len(level)) for j in range(i, len(level)))
    assert result.drawdown == pytest.approx(deepest, rel=1e-12)


def test_factors_without_a_return_then_are_named_and_earn_nothing(
    model: FactorModel, w: np.ndarray, history: History
) -> None:
    early, late = replay(
        model, w, history, windows={"a": ("2020-01-02", "2020-02-28"), "b": ("2020-02-20", "2020-03-06")}
    )
    assert early.absent == ("style:momentum", "blind:01")
    assert late.absent == ("blind:01",)
    assert "blind:01" in late.stress.note
    assert not early.stress.profit_by_factor[[0, 2]].any()
    days = pd.bdate_range("2020-02-20", "2020-02-28")
    np.testing.assert_array_equal(late.absent_days, [len(days), 0, late.days, 0])


@pytest.mark.parametrize(
    "window",
    [
        ("2008-09-12", "2008-11-20"),  # before
        ("2019-08-05", "2019-10-01"),  # begins before the first regression
        ("2020-12-01", "2021-01-05"),  # ends after the last day
        ("2020-02-22", "2020-02-23"),  # a weekend
    ],
)
def test_a_window_that_the_data_do_not_hold_is_said_to_be_so(
    model: FactorModel, w: np.ndarray, history: History, window: tuple[str, str]
) -> None:
    (result,) = replay(model, w, history, windows={"past": window}, asset_returns=np.zeros((len(history.dates), 12)))
    assert not result.in_data
    assert np.isnan([result.stress.loss, result.worst_day, result.drawdown, result.own_profit]).all()
    row = stress_table([result.stress]).loc["past"]
    assert row["note"] == f"{NOT_IN_DATA}, which has factor returns of 2019-08-29 to 2020-12-31"
    assert np.isnan(row["loss"])
    assert row["largest_factor"] == ""


def test_named_windows_are_replayed_where_the_data_have_them(
    model: FactorModel, w: np.ndarray, history: History
) -> None:
    results = {result.stress.name: result.in_data for result in replay(model, w, history)}
    assert list(results) == list(WINDOWS)
    assert [name for name, held in results.items() if held] == ["COVID crash 2020", "momentum unwind 2020"]


def test_own_returns_count_the_assets_that_have_them(model: FactorModel, w: np.ndarray, history: History) -> None:
    rng, inside = np.random.default_rng(84), (history.dates >= "2020-02-20") & (history.dates <= "2020-03-23")
    returns = rng.standard_normal((len(history.dates), 12)) * 0.02
    rows = np.flatnonzero(inside)
    returns[rows[:3], 0] = np.nan  # a holiday or two
    returns[rows[: len(rows) // 2 + 1], 5] = np.nan  # listed too late
    returns[:, 7] = np.nan
    w = np.where(np.arange(12) == 9, 0.0, w)
    returns[:, 9] = np.nan  # not held
    (result,) = replay(model, w, history, windows={"crash": ("2020-02-20", "2020-03-23")}, asset_returns=returns)
    assert result.own_absent == ("A5", "A7")
    assert result.own_absent_gross == pytest.approx(np.abs(w[[5, 7]]).sum() / np.abs(w).sum(), rel=1e-12)
    kept = [i for i in range(12) if i not in (5, 7, 9)]
    assert result.own_profit == pytest.approx(np.nansum(returns[rows][:, kept] * w[kept]), rel=1e-12)


def test_own_returns_made_of_factors_alone_give_the_same(model: FactorModel, w: np.ndarray, history: History) -> None:
    column = {name: k for k, name in enumerate(history.factors)}
    aligned = [
        history.factor_returns[:, column[f]] if f in column else np.zeros(len(history.dates)) for f in model.factors
    ]
    assets = np.array(aligned).T @ model.exposures.T
    for result in replay(model, w, history, asset_returns=assets):
        if result.in_data:
            assert result.own_profit == pytest.approx(result.stress.profit, rel=1e-11)
            assert result.own_absent == ()


def test_bad_input_is_refused(model: FactorModel, w: np.ndarray, history: History) -> None:
    with pytest.raises(DataError, match="`asset_returns` must have shape"):
        replay(model, w, history, asset_returns=np.zeros((3, 12)))
    with pytest.raises(DataError, match="in order"):
        replay(model, w, history, windows={"backwards": ("2020-03-01", "2020-02-01")})
    with pytest.raises(DataError, match="`weights` must be finite"):
        replay(model, w * np.nan, history)
