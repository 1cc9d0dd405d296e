from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from market_files import assert_refused

from backtest.dataset import Dataset
from backtest.universe import REASONS, UniverseRule, absence, find_presence, universe
from risk import Panel

REAL = Path(__file__).parents[2] / "shared" / "data"
RULE = UniverseRule(minimum_price=5.0, minimum_dollar_volume=2e6, minimum_market_cap=1e8, history_days=5)


def make_panel(days: int = 90, assets: int = 14, seed: int = 0, holes: float = 0.0, caps: bool = True) -> Panel:
    """Return a market of three countries (0 to 2) whose prices, volumes and caps lie around the thresholds of RULE."""
    rng = np.random.default_rng(seed)
    shape = (days, assets)
    has_row = rng.random(shape) >= holes
    country = np.broadcast_to(np.arange(assets) % 3, shape).astype(np.int16)
    if holes:
        # Whole countries on holiday, on top of single holes.
        shut = rng.random((days, 3)) < 0.1
        has_row &= ~shut[np.arange(days)[:, None], country]

    def draw(middle: float, spread: float) -> npt.NDArray[np.float64]:
        values = middle * np.exp(rng.normal(0.5, 0.7, assets) + np.cumsum(rng.normal(0, spread, shape), axis=0))
        return np.where(has_row, values, np.nan)

    cap = draw(1e8, 0.1)
    cap[rng.random(shape) < holes] = np.nan
    return Panel(
        dates=pd.bdate_range("2020-01-01", periods=days),
        assets=tuple(f"A{i:02d}" for i in range(assets)),
        returns=np.where(has_row, rng.normal(0, 0.02, shape), np.nan),
        has_row=has_row,
        close=draw(5.0, 0.05),
        market_cap=cap if caps else None,
        dollar_volume=draw(2e6, 0.3),
        country=country,
        sector=np.zeros(shape, dtype=np.int16),
        countries=("DE", "JP", "US"),
        sectors=("Energy",),
        delisting_return=np.full(assets, np.nan),
    )


def without(panel: Panel, cells: npt.NDArray[np.bool_]) -> Panel:
    """Return the panel with the rows of `cells` removed."""
    blank = {name: np.where(cells, np.nan, getattr(panel, name)) for name in ("returns", "close", "dollar_volume")}
    cap = None if panel.market_cap is None else np.where(cells, np.nan, panel.market_cap)
    return dataclasses.replace(panel, has_row=panel.has_row & ~cells, market_cap=cap, **blank)


def cells(panel: Panel, days: slice, assets: object) -> npt.NDArray[np.bool_]:
    chosen = np.zeros(panel.has_row.shape, dtype=np.bool_)
    chosen[days, assets] = True  # type: ignore[index]
    return chosen


def slow_reason(panel: Panel, rule: UniverseRule, t: int, i: int) -> str:
    """Return why asset i is no member at t, '' if it is one: the rule read aloud, one cell at a time."""
    if not panel.has_row[t, i]:
        seen = panel.has_row[: t + 1, i]
        trades = panel.has_row[:, panel.country[t] == panel.country[t, i]].any(axis=1)
        if not seen.any() or trades[t]:
            return "no_row"
        last = int(np.flatnonzero(seen)[-1])
        shut = t - int(np.flatnonzero(trades[: t + 1])[-1])
        if trades[last + 1 : t + 1].sum() >= 10 or shut >= 10:
            return "no_row"
        return slow_reason(panel, rule, t - 1, i)
    if panel.country[t, i] < 0 or panel.sector[t, i] < 0:
        return "label"
    if panel.has_row[: t + 1, i].sum() < rule.history_days:
        return "history"
    if not panel.close[t, i] >= rule.minimum_price:
        return "price"
    volume = pd.Series(panel.dollar_volume[max(t - 62, 0) : t + 1, i]).dropna()
    if len(volume) < 21 or volume.median() < rule.minimum_dollar_volume:
        return "dollar_volume"
    assert panel.market_cap is not None
    cap = pd.Series(panel.market_cap[max(t - 21, 0) : t + 1, i]).dropna()
    if cap.empty or cap.iloc[-1] < rule.minimum_market_cap:
        return "market_cap"
    return ""


@pytest.mark.parametrize("seed", range(3))
def test_members_and_reasons_equal_the_rule_read_cell_by_cell(seed: int) -> None:
    panel = make_panel(seed=seed, holes=0.15)
    found = universe(panel, RULE)
    days, assets = panel.has_row.shape
    reasons = [[slow_reason(panel, RULE, t, i) for i in range(assets)] for t in range(days)]
    np.testing.assert_array_equal(found.members, np.array(reasons) == "")
    counts = {reason: [row.count(reason) for row in reasons] for reason in REASONS}
    pd.testing.assert_frame_equal(found.excluded, pd.DataFrame(counts, index=panel.dates))
    assert all(sum(counts[reason]) > 0 for reason in ("no_row", "history", "price", "dollar_volume", "market_cap"))
    assert 0.05 < found.members.mean() < 0.95


@pytest.mark.parametrize("caps", [True, False])
@pytest.mark.parametrize("maximum", [None, 4])
def test_nothing_after_a_day_changes_what_was_chosen(caps: bool, maximum: int | None) -> None:
    panel = make_panel(seed=5, holes=0.1, caps=caps, days=150)
    rule = RULE.model_copy(update={"maximum_assets": maximum})
    whole = universe(panel, rule)
    presence = find_presence(panel, 3)
    assert whole.members[100:].any()
    other = make_panel(seed=6, holes=0.3, caps=caps, days=150)
    for t in (0, 30, 85, 149):
        after = cells(panel, slice(t + 1, None), slice(None))
        replaced = dataclasses.replace(
            panel,
            **{
                name: np.where(after, getattr(other, name), getattr(panel, name))
                for name in ("returns", "has_row", "close", "dollar_volume")
            },
            market_cap=np.where(after, other.market_cap, panel.market_cap) if caps else None,
            country=np.where(after, np.int16(-1), panel.country),
        )
        for changed in (panel.until(t), replaced):
            again = universe(changed, rule)
            np.testing.assert_array_equal(again.members[: t + 1], whole.members[: t + 1])
            np.testing.assert_array_equal(again.size[: t + 1], whole.size[: t + 1])
            np.testing.assert_array_equal(again.carried_caps[: t + 1], whole.carried_caps[: t + 1])
            pd.testing.assert_frame_equal(again.excluded.iloc[: t + 1], whole.excluded.iloc[: t + 1])
            for name in ("listed", "holiday", "suspended", "gone"):
                before = getattr(presence, name)[: t + 1]
                np.testing.assert_array_equal(getattr(find_presence(changed, 3), name)[: t + 1], before)


def test_members_and_excluded_add_up_to_all_assets() -> None:
    panel = make_panel(holes=0.2)
    found = universe(panel, RULE.model_copy(update={"maximum_assets": 3}))
    total = found.members.sum(axis=1) + found.excluded.sum(axis=1).to_numpy()
    np.testing.assert_array_equal(total, len(panel.assets))
    assert found.excluded["size_rank"].sum() > 0


def test_a_holiday_keeps_membership_and_a_suspension_ends_it() -> None:
    full = make_panel()
    rule = UniverseRule(minimum_price=0, minimum_dollar_volume=0, history_days=5)
    german = full.country[0] == 0
    panel = without(full, cells(full, slice(50, 53), german) | cells(full, slice(60, 62), 1))
    found, presence = universe(panel, rule), find_presence(panel, 10)
    assert found.members[49:54, german].all()
    np.testing.assert_array_equal(presence.holiday.any(axis=1).nonzero()[0], [50, 51, 52])
    assert found.members[59, 1]
    assert found.members[62, 1]
    assert not found.members[60:62, 1].any()
    np.testing.assert_array_equal(np.argwhere(presence.suspended), [[60, 1], [61, 1]])
    assert found.excluded["no_row"].sum() == 2


def test_an_asset_that_was_no_member_is_none_on_the_holiday() -> None:
    full = make_panel()
    german = full.country[0] == 0
    panel = without(full, cells(full, slice(3, 5), german))
    found = universe(panel, UniverseRule(minimum_price=0, minimum_dollar_volume=0, history_days=6))
    assert (found.excluded["history"].iloc[3:5] == len(panel.assets)).all()
    first = np.argmax(found.members, axis=0)
    np.testing.assert_array_equal(first, np.where(german, 7, 5))


def test_gone_counts_sessions_of_the_country_and_ends_with_a_row() -> None:
    full = make_panel()
    german = full.country[0] == 0
    # Asset 0 has no row from day 20 to 49; its country is shut on days 25 and 26.
    panel = without(full, cells(full, slice(20, 50), 0) | cells(full, slice(25, 27), german))
    suspended, gone = absence(panel, 10)
    np.testing.assert_array_equal(np.flatnonzero(gone[:, 0]), np.arange(31, 50))
    np.testing.assert_array_equal(np.flatnonzero(suspended[:, 0]), [20, 21, 22, 23, 24, 27, 28, 29, 30])
    assert not gone[:, 1:].any()
    nameless = dataclasses.replace(panel, country=np.where(np.arange(14) == 0, -1, panel.country).astype(np.int16))
    np.testing.assert_array_equal(np.flatnonzero(absence(nameless, 10)[1][:, 0]), np.arange(29, 50))


def test_the_only_asset_of_its_country_can_be_gone() -> None:
    full = make_panel(assets=3)
    panel = without(full, cells(full, slice(30, None), 2))
    presence = find_presence(panel, 10)
    np.testing.assert_array_equal(np.flatnonzero(presence.gone[:, 2]), np.arange(39, 90))
    np.testing.assert_array_equal(np.flatnonzero(presence.holiday[:, 2]), np.arange(30, 39))
    assert not universe(panel, UniverseRule(minimum_price=0, minimum_dollar_volume=0)).members[39:, 2].any()


def test_before_its_first_row_an_asset_is_neither_suspended_nor_gone() -> None:
    full = make_panel()
    panel = without(full, cells(full, slice(0, 40), 3))
    presence = find_presence(panel, 10)
    assert not (presence.gone | presence.suspended | presence.holiday)[:40].any()
    np.testing.assert_array_equal(presence.listed[:, 3], np.arange(90) >= 40)


def test_assets_without_country_or_sector_are_left_out_and_counted() -> None:
    full = make_panel()
    country, sector = full.country.copy(), full.sector.copy()
    country[40:, 4] = -1
    sector[:, 5] = -1
    panel = dataclasses.replace(full, country=country, sector=sector)
    found = universe(panel, UniverseRule(minimum_price=0, minimum_dollar_volume=0, history_days=0))
    assert not found.members[40:, 4].any()
    assert found.members[:40, 4].all()
    assert not found.members[:, 5].any()
    assert found.excluded["label"].tolist() == [1] * 40 + [2] * 50


def test_only_so_many_of_the_largest_are_members() -> None:
    panel = make_panel()
    rule = UniverseRule(minimum_price=0, minimum_dollar_volume=0, history_days=0, maximum_assets=5)
    found = universe(panel, rule)
    assert panel.market_cap is not None
    for t in range(len(panel.dates)):
        largest = set(np.argsort(panel.market_cap[t])[-5:])
        assert set(np.flatnonzero(found.members[t])) == largest
    assert (found.excluded["size_rank"] == 9).all()


def test_members_on_holiday_keep_their_places_among_the_largest() -> None:
    full = make_panel()
    assert full.market_cap is not None
    shut = full.country[0] == full.country[0, full.market_cap[49].argmax()]
    panel = without(full, cells(full, slice(50, 52), shut))
    rule = UniverseRule(minimum_price=0, minimum_dollar_volume=0, history_days=0, maximum_assets=5)
    found = universe(panel, rule)
    assert 0 < found.members[49, shut].sum() < 5
    for t in (50, 51):
        np.testing.assert_array_equal(found.members[t, shut], found.members[49, shut])
        assert found.members[t].sum() == 5


def test_a_missing_cap_is_carried_for_a_month_and_counted() -> None:
    full = make_panel()
    assert full.market_cap is not None
    cap = full.market_cap.copy()
    cap[30:60, 2] = np.nan
    rule = UniverseRule(minimum_price=0, minimum_dollar_volume=0, history_days=0)
    found = universe(dataclasses.replace(full, market_cap=cap), rule)
    np.testing.assert_array_equal(np.flatnonzero(~found.members[:, 2]), np.arange(51, 60))
    assert (found.size[30:51, 2] == cap[29, 2]).all()
    np.testing.assert_array_equal(np.flatnonzero(found.carried_caps), np.arange(30, 51))
    assert found.excluded["market_cap"].sum() == 9


def test_size_is_the_cap_or_the_trailing_median_volume() -> None:
    panel = make_panel(days=300)
    assert universe(panel, RULE).size_source == "market_cap"
    bare = dataclasses.replace(panel, market_cap=None)
    found = universe(bare, RULE)
    assert found.size_source == "dollar_volume"
    np.testing.assert_allclose(found.size[290], np.median(panel.dollar_volume[39:291], axis=0))
    assert np.isnan(found.size[82]).all()
    assert np.isfinite(found.size[83]).all()
    assert (found.size[found.members] > 0).all()


def test_data_without_any_size_needs_a_rule_that_says_so() -> None:
    panel = make_panel()
    bare = dataclasses.replace(panel, market_cap=None, dollar_volume=np.full_like(panel.dollar_volume, np.nan))
    assert_refused(lambda: universe(bare, UniverseRule()), "`market_cap`", "`dollar_volume`", "`equal_size`")
    found = universe(bare, UniverseRule.for_columns(()).model_copy(update={"history_days": 3}))
    assert found.size_source == "equal"
    assert found.members[2:].all()


def test_results_cannot_be_changed() -> None:
    found = universe(make_panel(), RULE)
    assert not found.members.flags.writeable
    assert not found.size.flags.writeable
    with pytest.raises(dataclasses.FrozenInstanceError):
        found.members = found.members  # type: ignore[misc]


def test_real_european_holidays_do_not_empty_the_universe() -> None:
    if not (REAL / "europe").is_dir():
        pytest.skip(f"real data not found at {REAL / 'europe'}")
    panel = Dataset(REAL / "europe").panel(start="2022-01-03", end="2023-06-30")
    found = universe(panel, UniverseRule())
    # 2023-05-01: shut nearly everywhere but in London, which is shut too; 2023-05-08 is a holiday in London only.
    british = panel.country[0] == panel.countries.index("United Kingdom")
    t = panel.dates.get_loc("2023-05-08")
    assert not panel.has_row[t, british].any()
    np.testing.assert_array_equal(found.members[t, british], found.members[t - 1, british])
    assert found.members[t, british].sum() > 100
    assert found.members[200:].sum(axis=1).min() > 550
