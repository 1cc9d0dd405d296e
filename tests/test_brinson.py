"""Brinson attribution of a long-short book: every effect by its formula, and parts that meet the account."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from account_run import GONE, NAMES, Story, write_account

from backtest import Run
from backtest.brinson import brinson
from risk import DataError


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Story:
    return write_account(tmp_path_factory.mktemp("account") / "run", days=60)


def slow_lines(story: Story, t: int, family: str) -> dict[tuple[str, str], float]:
    """Return one day's effects by the formulas of Brinson and Fachler, name by name."""
    rows = story.group_returns[
        (story.group_returns["date"] == story.dates[t]) & (story.group_returns["family"] == family)
    ]
    b = dict(zip(rows["group"], rows["group_return"], strict=True))
    whole = float((rows["weight"] * rows["group_return"]).sum())
    lines = {("market", ""): 0.0}
    lines |= {(effect, g): 0.0 for effect in ("allocation", "selection_long", "selection_short") for g in b}
    labels = story.in_force(max(t - 1, 0))[1][family]
    for i, name in enumerate(NAMES):
        weight, r = (story.weights[t - 1, i] if t else 0.0), story.returns[t, i]
        if i == GONE and t == len(story.dates) // 2:
            r = -0.4
        group = labels[name]
        lines["market", ""] += weight * whole
        lines["allocation", group] += weight * (b[group] - whole)
        lines["selection_long" if weight > 0 else "selection_short", group] += weight * (r - b[group])
    return lines


@pytest.mark.parametrize("family", ["country", "sector"])
def test_every_effect_of_every_day_is_its_formula(story: Story, family: Any) -> None:
    found = brinson(story.run, family, group_returns=story.group_returns, facts=story.facts)
    for t in range(len(story.dates)):
        for key, wanted in slow_lines(story, t, family).items():
            assert found.lines[key].iloc[t] == pytest.approx(wanted, abs=1e-14), (t, key)
    assert not found.without_yardstick


@pytest.mark.parametrize(
    ("basis", "column"), [("net", "net_return"), ("before_fees", "return_before_fees"), ("gross", "gross_return")]
)
def test_effects_meet_the_account_and_link_without_residual(story: Story, basis: Any, column: str) -> None:
    found = brinson(story.run, "sector", group_returns=story.group_returns, facts=story.facts, basis=basis)
    np.testing.assert_allclose(found.lines.sum(axis=1), story.run.nav[column], rtol=0, atol=1e-14)
    for period in ("run", "month"):
        linked = found.linked(period)  # type: ignore[arg-type]
        parts = linked.drop(columns="return", level="effect")
        np.testing.assert_allclose(parts.sum(axis=1), linked["return", ""], rtol=0, atol=1e-14)
        by_effect = found.linked(period, by_effect=True)  # type: ignore[arg-type]
        np.testing.assert_allclose(by_effect["allocation"], parts["allocation"].sum(axis=1), rtol=0, atol=1e-15)
    growth = (1 + story.run.nav[column]).prod() - 1
    assert found.summary()["contribution"].sum() == pytest.approx(growth, abs=1e-13)


def test_group_table_adds_up(story: Story) -> None:
    found = brinson(story.run, "country", group_returns=story.group_returns, facts=story.facts)
    groups, summary = found.groups(), found.summary()
    for effect in ("allocation", "selection_long", "selection_short"):
        assert groups[effect].sum() == pytest.approx(summary.loc[effect, "contribution"], abs=1e-14)
    assert groups["mean_net"].sum() == pytest.approx(story.weights[:-1].sum() / len(story.dates), abs=1e-14)
    assert groups["mean_gross"].sum() == pytest.approx(np.abs(story.weights[:-1]).sum() / len(story.dates), abs=1e-14)
    rows = story.group_returns.query("family == 'country' and group == 'DE'")["group_return"]
    assert groups.loc["DE", "group_return"] == pytest.approx(np.prod(1 + rows) - 1, abs=1e-13)
    own = found.lines[[("allocation", "DE"), ("selection_long", "DE"), ("selection_short", "DE")]].sum(axis=1)
    assert groups.loc["DE", "mean"] == pytest.approx(own.mean() * 252, rel=1e-10)


def test_a_book_of_group_portfolios_has_no_selection(story: Story) -> None:
    table = story.group_returns.copy()
    for t, date in enumerate(story.dates):
        for family in ("country", "sector"):
            labels = story.in_force(max(t - 1, 0))[1][family]
            for group in labels.unique():
                at = (table["date"] == date) & (table["family"] == family) & (table["group"] == group)
                held = story.weights[t - 1] * (labels == group).to_numpy() if t else np.zeros(len(NAMES))
                # The yardstick is what the book itself earned in the group.
                if abs(held.sum()) > 1e-9:
                    earned = np.where(np.arange(len(NAMES)) == GONE, 0.0, held * story.returns[t]).sum()
                    table.loc[at, "group_return"] = earned / held.sum()
    found = brinson(story.run, "country", group_returns=table, facts=story.facts)
    both = found.effects["selection_long"] + found.effects["selection_short"]
    held = np.abs(story.weights[:-1, GONE]) > 0
    quiet = ~np.concatenate([[True], held])
    assert quiet.sum() > 20
    np.testing.assert_allclose(both[quiet], 0.0, atol=1e-14)


def test_a_group_without_universe_is_measured_against_the_whole(story: Story) -> None:
    day = story.dates[30]
    at = (story.group_returns["date"] == day) & (story.group_returns["family"] == "country")
    table = story.group_returns[~(at & (story.group_returns["group"] == "DE"))].copy()
    table.loc[at & (table["group"] == "US"), "weight"] = 1.0
    found = brinson(story.run, "country", group_returns=table, facts=story.facts)
    assert found.without_yardstick == {"DE": 1}
    assert found.lines["allocation", "DE"].loc[day] == 0.0
    np.testing.assert_allclose(found.lines.sum(axis=1), story.run.nav["net_return"], rtol=0, atol=1e-14)


def test_positions_without_a_label_have_a_group_of_their_own(story: Story) -> None:
    facts = story.facts[story.facts["asset"] != "N02"]
    found = brinson(story.run, "country", group_returns=story.group_returns, facts=facts)
    assert list(found.net.columns) == ["DE", "US", ""]
    np.testing.assert_allclose(found.net[""].iloc[1:], story.weights[:-1, 2], rtol=0, atol=1e-15)
    np.testing.assert_allclose(found.lines.sum(axis=1), story.run.nav["net_return"], rtol=0, atol=1e-14)


def test_a_simulated_run_meets_its_account_and_its_market(run: Run) -> None:
    for family, rows in run.table("group_returns").groupby("family"):
        found = brinson(run, family)
        np.testing.assert_allclose(found.lines.sum(axis=1), run.nav["net_return"], rtol=0, atol=1e-12)
        whole = (rows["weight"] * rows["group_return"]).groupby(rows["date"]).sum()
        np.testing.assert_allclose(whole.reindex(run.nav.index), run.nav["market_return"], rtol=0, atol=1e-14)
        np.testing.assert_allclose(found.gross.sum(axis=1).iloc[1:], run.nav["gross"].iloc[:-1], rtol=0, atol=1e-12)


BAD_TABLES = {
    "lacks the column": lambda table: table.drop(columns="weight"),
    "twice on": lambda table: pd.concat([table, table.iloc[:1]]),
    "must be finite": lambda table: table.assign(group_return=table["group_return"].where(table.index != 0)),
    "must sum to 1": lambda table: table.assign(weight=table["weight"] * 1.1),
    "has no country on": lambda table: table[table["date"] != table["date"].iloc[40]],
}


@pytest.mark.parametrize("message", BAD_TABLES)
def test_group_returns_that_do_not_fit_are_refused(story: Story, message: str) -> None:
    with pytest.raises(DataError, match=message):
        brinson(story.run, "country", group_returns=BAD_TABLES[message](story.group_returns), facts=story.facts)


def test_what_is_not_there_is_named(story: Story) -> None:
    with pytest.raises(DataError, match="`family` must be country or sector; got 'style'"):
        brinson(story.run, "style")  # type: ignore[arg-type]
    with pytest.raises(DataError, match="has no `group_returns` table"):
        brinson(story.run, "sector")
    late = story.facts[story.facts["date"] != story.facts["date"].iloc[0]]
    with pytest.raises(DataError, match="`facts` has no rows for the decision of 2023-03-01"):
        brinson(story.run, "sector", group_returns=story.group_returns, facts=late)
