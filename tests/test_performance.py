"""Performance by factor: parts meet the account every day and over every period, and errors are what they are said to be."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from account_run import FACTORS, GONE, Story, write_account

from backtest import Run
from backtest.account_rows import factor_rows
from backtest.daily_book import read_book
from backtest.dataset import Dataset
from backtest.linking import link, mean_errors
from backtest.performance import performance
from backtest.products import Product
from backtest.simulator import market_of
from backtest.strategy import Market
from engine import Mandate
from risk import DataError


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Story:
    return write_account(tmp_path_factory.mktemp("account") / "run", days=60)


@pytest.fixture(scope="module")
def market_read(run: Run) -> Market:
    terms = run.record
    product, mandate = Product.model_validate(terms["product"]), Mandate.model_validate(terms["mandate"])
    return market_of(Dataset(terms["data"]["path"]), product, mandate)[0]


def slow_lines(story: Story, t: int) -> dict[str, float]:
    """Return one day's lines by the definitions, asset by asset, with the exposures of the model in force."""
    lines = dict.fromkeys([*FACTORS, "specific", "delisting", "trading"], 0.0)
    if t == 0:
        return lines
    model, _ = story.in_force(t - 1)
    today = story.factor_returns[story.factor_returns["date"] == story.dates[t]].set_index("factor")["factor_return"]
    for i, weight in enumerate(story.weights[t - 1]):
        from_factors = 0.0
        for k, factor in enumerate(FACTORS):
            part = weight * model.exposures[i, k] * today[factor]
            lines[factor] += part
            from_factors += part
        if i == GONE and t == len(story.dates) // 2:
            lines["delisting"] += -0.4 * weight
            lines["specific"] -= from_factors
        else:
            lines["specific"] += weight * story.returns[t, i] - from_factors
    return lines


def test_every_line_of_every_day_is_its_definition(story: Story) -> None:
    found = performance(story.run, story.factor_returns)
    assert found.exposure_source == "model"
    for t in range(len(story.dates)):
        for name, wanted in slow_lines(story, t).items():
            assert found.lines[name].iloc[t] == pytest.approx(wanted, abs=1e-14), (t, name)
    assert found.lines["delisting"].ne(0).sum() == 1


@pytest.mark.parametrize(
    ("basis", "column"), [("net", "net_return"), ("before_fees", "return_before_fees"), ("gross", "gross_return")]
)
def test_lines_meet_the_account_every_day(story: Story, basis: Any, column: str) -> None:
    found = performance(story.run, story.factor_returns, basis=basis)
    np.testing.assert_allclose(found.lines.sum(axis=1), story.run.nav[column], rtol=0, atol=1e-14)
    np.testing.assert_allclose(found.families.sum(axis=1), story.run.nav[column], rtol=0, atol=1e-14)
    charges = {"net": 4, "before_fees": 2, "gross": 0}[basis]
    assert found.lines.shape[1] == len(FACTORS) + 3 + charges
    assert (found.lines.iloc[:, len(found.lines.columns) - charges :] <= 0).to_numpy().all()


def test_given_exposures_are_taken(story: Story) -> None:
    rng = np.random.default_rng(3)
    table = story.factor_returns.assign(exposure=rng.normal(0, 1, len(story.factor_returns)))
    found = performance(story.run, table)
    assert found.exposure_source == "regression"
    for factor in FACTORS:
        rows = table[table["factor"] == factor]
        np.testing.assert_allclose(found.lines[factor].iloc[1:], rows["exposure"] * rows["factor_return"], atol=1e-16)
    np.testing.assert_allclose(found.lines.sum(axis=1), story.run.nav["net_return"], rtol=0, atol=1e-13)


def test_factors_and_days_without_a_return_are_counted_and_specific(story: Story) -> None:
    day = story.dates[20]
    table = story.factor_returns
    gap = (table["date"] == day) & (table["factor"] == "style:size")
    whole, found = performance(story.run, table), performance(story.run, table[~gap])
    assert found.unpriced == {"style:size": 1}
    moved = whole.lines.loc[day, "style:size"]
    assert found.lines.loc[day, "specific"] == pytest.approx(whole.lines.loc[day, "specific"] + moved, abs=1e-16)
    no_day = performance(story.run, table[table["date"] != day])
    assert no_day.without_factors == whole.without_factors + 1 == 2
    assert (no_day.lines.loc[day, list(FACTORS)] == 0).all()


@pytest.mark.parametrize("period", ["run", "year", "month"])
def test_linked_contributions_sum_to_the_compounded_return(story: Story, period: Any) -> None:
    found = performance(story.run, story.factor_returns)
    linked = found.linked(period)
    np.testing.assert_allclose(linked.drop(columns="return").sum(axis=1), linked["return"], rtol=0, atol=1e-14)
    nav = np.concatenate([[1e6], story.nav])
    for start, row in linked.iterrows():
        inside = {"run": np.ones(len(story.dates), dtype=bool)} | {
            "year": story.dates.year == start.year,
            "month": (story.dates.month == start.month) & (story.dates.year == start.year),
        }
        days = np.flatnonzero(inside[period])
        assert start == story.dates[days[0]]
        assert row["return"] == pytest.approx(nav[days[-1] + 1] / nav[days[0]] - 1, abs=1e-13)
    by_family = found.linked(period, by_family=True)
    np.testing.assert_allclose(by_family["style"], linked["style:size"] + linked["style:value"], rtol=0, atol=1e-15)


def test_linking_is_carino() -> None:
    rng = np.random.default_rng(5)
    days = pd.bdate_range("2023-01-02", periods=50)
    lines = pd.DataFrame(rng.normal(0, 0.02, (50, 3)), days, columns=list("abc"))
    lines.iloc[7] = [0.01, -0.02, 0.01]  # a day whose return is 0
    returns = lines.sum(axis=1)
    assert abs(returns.iloc[7]) < 1e-17
    returns.iloc[7] = 0.0
    total = np.prod(1 + returns) - 1
    whole = np.log(1 + total) / total
    for name in lines:
        wanted = sum(c * (np.log(1 + r) / r if r else 1.0) / whole for c, r in zip(lines[name], returns, strict=True))
        assert link(lines, returns)[name].iloc[0] == pytest.approx(wanted, abs=1e-13)


def test_errors_are_those_of_newey_and_west(story: Story) -> None:
    found = performance(story.run, story.factor_returns)
    table = found.summary()
    T, lags = len(story.dates), 3
    assert (table["lags"] == lags).all()
    for name in (*FACTORS, "specific"):
        y = found.lines[name].to_numpy()
        e = y - y.mean()
        S = e @ e + sum(2 * (1 - j / (lags + 1)) * (e[j:] @ e[:-j]) for j in range(1, lags + 1))
        assert table.loc[name, "mean"] == pytest.approx(y.mean() * 252, rel=1e-10)
        assert table.loc[name, "standard_error"] == pytest.approx(np.sqrt(S) / T * 252, rel=1e-10)
        assert table.loc[name, "t_statistic"] == pytest.approx(y.mean() * T / np.sqrt(S), rel=1e-10)
    assert table["contribution"].sum() == pytest.approx(story.nav[-1] / 1e6 - 1, abs=1e-14)
    assert np.isnan(table.loc["incentive_fee", "t_statistic"])
    mean = found.exposures["style:size"].abs().mean()
    assert table.loc["style:size", "mean_absolute_exposure"] == pytest.approx(mean)


def test_the_specific_line_of_a_simulated_run_is_its_positions_specific_returns(run: Run, market_read: Market) -> None:
    found = performance(run)
    np.testing.assert_allclose(found.lines.sum(axis=1), run.nav["net_return"], rtol=0, atol=1e-12)
    assert found.lines["trading"].abs().max() < 1e-15
    book = read_book(run)
    panel, history = market_read.panel, market_read.history
    columns = pd.Index(panel.assets).get_indexer(pd.Index(book.assets))
    days = panel.dates.get_indexer(book.dates)
    weights, returns = book.weights_before, panel.returns[days][:, columns]
    specific = history.specific_returns[days][:, columns]
    for t in range(1, len(days)):
        held = (weights[t] != 0) & np.isfinite(returns[t])
        if np.isfinite(specific[t, held]).all():  # and not where a return was no use to the regression
            assert found.lines["specific"].iloc[t] == pytest.approx(weights[t, held] @ specific[t, held], abs=1e-14)
    usable = [np.isfinite(specific[t][(weights[t] != 0) & np.isfinite(returns[t])]).all() for t in range(1, len(days))]
    assert np.mean(usable) > 0.8


def test_factor_rows_read_nothing_after_their_day(run: Run, market_read: Market) -> None:
    t = market_read.panel.dates.get_loc(run.nav.index[40])
    weights = np.random.default_rng(0).normal(0, 0.01, len(market_read.panel.assets))
    rows = factor_rows(market_read, t, weights)
    known = np.isfinite(market_read.panel.returns[t])
    market = rows.set_index("factor").loc["market"]
    assert market["exposure"] == pytest.approx(weights[known].sum(), abs=1e-15)
    assert market["factor_return"] == market_read.history.factor_returns[t, market_read.history.factors.index("market")]
    assert factor_rows(market_read, 0, weights).empty


BAD_TABLES = {
    "lacks the column": lambda table: table.drop(columns="factor_return"),
    "twice": lambda table: pd.concat([table, table.iloc[:1]]),
    "is nan": lambda table: table.assign(factor_return=table["factor_return"].where(table.index != 3)),
    "no day of the run": lambda table: table.assign(date=table["date"] - pd.Timedelta(days=3650)),
}


@pytest.mark.parametrize("message", BAD_TABLES)
def test_factor_returns_that_do_not_fit_are_refused(story: Story, message: str) -> None:
    with pytest.raises(DataError, match=message):
        performance(story.run, BAD_TABLES[message](story.factor_returns))


def test_a_run_without_factor_returns_says_how_to_get_them(story: Story) -> None:
    with pytest.raises(DataError, match="Run the backtest again"):
        performance(story.run)


def test_what_cannot_be_linked_is_refused() -> None:
    days = pd.bdate_range("2023-01-02", periods=25)
    lines = pd.DataFrame({"a": 0.01, "b": 0.0}, index=days)
    with pytest.raises(DataError, match=r"2023-01-02 they miss it by 0\.01"):
        link(lines, pd.Series(0.0, days))
    with pytest.raises(DataError, match="must have the same dates"):
        link(lines, pd.Series(0.01, days[::-1]))
    with pytest.raises(DataError, match="`period` must be"):
        link(lines, lines.sum(axis=1), "week")  # type: ignore[arg-type]
    lost = lines.assign(a=-1.0)
    with pytest.raises(DataError, match="lost 100% of net assets"):
        link(lost, lost.sum(axis=1))
    with pytest.raises(DataError, match="at least 20 days"):
        mean_errors(lines.iloc[:19])
    with pytest.raises(DataError, match="`basis` must be"):
        performance(None, lines, basis="all")  # type: ignore[arg-type]
