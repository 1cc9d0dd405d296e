"""The events file: what is read, on which day it counts, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from event_data import day, event, write_data, write_table
from market_files import assert_refused

from backtest.conditions import Conditions
from backtest.dataset import Dataset
from backtest.events import Event, EventKind

FIVE = [10.0, 11.0, 12.0, 13.0, 14.0]
CLOSES = {"A": FIVE, "B": [20.0] * 5, "C": [None, None, 5.0, 5.0, 5.0], "D": [8.0, 8.0, None, None, None]}


def data_of(tmp_path: Path, *events: dict[str, Any], **options: Any) -> Dataset:
    return write_data(tmp_path / "data", options.pop("closes", CLOSES), events=events, **options)


def conditions_of(tmp_path: Path, *events: dict[str, Any], **options: Any) -> Conditions:
    data = data_of(tmp_path, *events, **options)
    return data.conditions(data.panel())


# What is read


@pytest.mark.parametrize("csv", [False, True])
def test_every_kind_is_read_with_its_fields(tmp_path: Path, *, csv: bool) -> None:
    given = conditions_of(
        tmp_path,
        event(1, "A", "recall"),
        event(1, "A", "suspension"),
        event(1, "A", "dividend", amount=0.25),
        event(1, "A", "split", ratio=2.0, cause="two for one"),
        event(2, "B", "spin_off", ratio=0.5, new_asset="C"),
        event(2, "D", "delisting", cause="bankruptcy"),
        event(3, "A", "recall", ratio=0.4),
        event(4, "B", "merger", ratio=1.5, amount=3.0, new_asset="A"),
        csv=csv,
    )
    a, b, c, d = range(4)
    assert given.events_on(0) == ()
    # Within a day by kind, whatever the order of the file.
    assert given.events_on(1) == (
        Event(1, a, EventKind.SPLIT, 2.0, 0.0, -1, "two for one"),
        Event(1, a, EventKind.DIVIDEND, 0.0, 0.25, -1, ""),
        Event(1, a, EventKind.SUSPENSION, 0.0, 0.0, -1, ""),
        Event(1, a, EventKind.RECALL, 1.0, 0.0, -1, ""),
    )
    spin_off, delisting = given.events_on(2)
    assert spin_off == Event(2, b, EventKind.SPIN_OFF, 0.5, 0.0, c, "")
    assert (delisting.asset, delisting.kind, delisting.cause) == (d, EventKind.DELISTING, "bankruptcy")
    assert np.isnan(delisting.amount)
    assert given.events_on(3) == (Event(3, a, EventKind.RECALL, 0.4, 0.0, -1, ""),)
    assert given.events_on(4) == (Event(4, b, EventKind.MERGER, 1.5, 3.0, a, ""),)


def test_events_of_one_kind_stay_in_file_order(tmp_path: Path) -> None:
    given = conditions_of(tmp_path, event(2, "B", "dividend", amount=1.0), event(2, "A", "dividend", amount=2.0))
    assert [happened.asset for happened in given.events_on(2)] == [1, 0]


def test_a_worthless_delisting_is_not_an_unknown_one(tmp_path: Path) -> None:
    given = conditions_of(tmp_path, event(2, "D", "delisting", amount=0.0))
    assert given.events_on(2)[0].amount == 0.0


def test_without_the_file_there_are_no_events_and_with_an_empty_one_there_is_a_file(tmp_path: Path) -> None:
    data = write_data(tmp_path / "data", CLOSES)
    given = data.conditions(data.panel())
    assert given.events is None
    assert given.events_on(3) == ()
    write_table(data.folder, "events", pd.DataFrame([event(1, "A", "split", ratio=2.0)]).iloc[:0])
    empty = Dataset(data.folder)
    assert empty.conditions(empty.panel()).events == {}


def test_columns_that_are_empty_throughout_are_taken_as_empty(tmp_path: Path) -> None:
    row = event(1, "A", "suspension", ratio=None, amount=None, new_asset=None, cause=None)
    assert conditions_of(tmp_path, row).events_on(1) == (Event(1, 0, EventKind.SUSPENSION, 0.0, 0.0, -1, ""),)


# On which day an event counts


def test_an_event_belongs_to_its_own_day_in_any_span(tmp_path: Path) -> None:
    data = data_of(tmp_path, event(1, "A", "split", ratio=2.0), event(3, "A", "dividend", amount=1.0))
    days = data.dates()
    whole = data.conditions(data.panel())
    assert whole.events is not None
    assert sorted(whole.events) == [1, 3]
    late = data.conditions(data.panel(start=days[2]))
    assert late.events == {1: (Event(1, 0, EventKind.DIVIDEND, 0.0, 1.0, -1, ""),)}
    assert late.left_out["on other days"] == 1
    # What comes after the span changes nothing in it.
    early = data.conditions(data.panel(end=days[2]))
    assert early.events == {1: whole.events[1]}


def test_events_before_the_first_row_and_outside_the_data_are_left_out_and_counted(tmp_path: Path) -> None:
    given = conditions_of(
        tmp_path,
        event("2023-06-30", "A", "dividend", amount=1.0),
        event(1, "C", "dividend", amount=1.0),
        event("2024-03-02", "A", "split", ratio=2.0),
    )
    assert given.events == {}
    assert given.left_out == {
        "on other days": 2,
        "of assets without a row in these days": 0,
        "before the asset's first row": 1,
    }


def test_an_event_on_the_first_row_counts(tmp_path: Path) -> None:
    assert conditions_of(tmp_path, event(2, "C", "suspension")).events_on(2)[0].asset == 2


def test_an_asset_that_is_known_by_other_days_alone_is_left_out(tmp_path: Path) -> None:
    data = data_of(tmp_path, event(3, "D", "suspension"))
    given = data.conditions(data.panel(start=day(2)))
    assert given.events == {}
    assert given.left_out["of assets without a row in these days"] == 1


def test_an_asset_may_be_suspended_without_a_row_and_end_within_stale_days(tmp_path: Path) -> None:
    given = conditions_of(
        tmp_path, event(2, "D", "suspension"), event(3, "D", "recall"), event(4, "D", "merger", amount=9.0)
    )
    assert given.events is not None
    assert sorted(given.events) == [2, 3, 4]


def test_the_last_day_of_an_end_is_that_on_which_the_asset_is_gone(tmp_path: Path) -> None:
    end = event(4, "D", "delisting")  # three sessions after the last row
    assert conditions_of(tmp_path / "three", end, settings="stale_days = 3\n").events_on(4)
    data = data_of(tmp_path, end, settings="stale_days = 2\n")
    assert_refused(
        lambda: data.conditions(data.panel()),
        "`events.parquet` row 0",
        "the delisting of 'D' on 2024-01-05",
        "last row is on 2024-01-02",
        "`stale_days` (2)",
    )


def test_sessions_are_those_of_the_asset_s_own_country(tmp_path: Path) -> None:
    # D's country is shut on day 3, so that day 4 is its second session without a row.
    closes = {"A": FIVE, "D": [8.0, 8.0, None, None, None], "E": [1.0, 1.0, 1.0, None, 1.0]}
    end = event(4, "D", "delisting")
    options = {"closes": closes, "country": {"D": "JP", "E": "JP"}, "settings": "stale_days = 2\n"}
    assert conditions_of(tmp_path, end, **options).events_on(4)


# What is refused

REFUSED: list[tuple[dict[str, Any], tuple[str, ...]]] = [
    (event(1, "A", "Split", ratio=2.0), ("`kind`", "'Split'", "'A' on 2024-01-02", "split, dividend")),
    (event(1, "X", "split", ratio=2.0), ("`asset`", "'X'", "2024-01-02", "Correct the name")),
    (event("2024-01-03T12:00", "A", "split", ratio=2.0), ("`date`", "12:00", "normalize")),
    (event(1, "A", "split"), ("`ratio` is empty", "the split of 'A' on 2024-01-02", "new shares")),
    (event(1, "A", "split", ratio=-2.0), ("`ratio`", "positive", "-2", "1:50")),
    (event(1, "A", "split", ratio=0.0), ("`ratio`", "positive", "got 0")),
    (event(1, "A", "split", ratio=np.inf), ("`ratio`", "finite", "inf")),
    (event(1, "A", "split", ratio=2.0, amount=1.0), ("`amount`", "means nothing", "Leave it empty")),
    (event(1, "A", "split", ratio=2.0, new_asset="B"), ("`new_asset`", "means nothing")),
    (event(1, "A", "dividend"), ("`amount` is empty", "the dividend of 'A'", "the cash for each share")),
    (event(1, "A", "dividend", amount=-0.1), ("`amount`", "positive in a dividend", "-0.1")),
    (event(1, "A", "dividend", amount=0.0), ("`amount`", "positive in a dividend", "got 0")),
    (event(1, "A", "dividend", amount=np.inf), ("`amount`", "finite", "inf")),
    (event(1, "A", "dividend", amount=1.0, ratio=1.0), ("`ratio`", "means nothing")),
    (event(1, "A", "merger"), ("`ratio` and `amount`", "the merger of 'A'", "make it a delisting")),
    (event(1, "A", "merger", ratio=0.0, amount=0.0), ("`ratio` and `amount`", "both empty or 0")),
    (event(1, "A", "merger", ratio=1.0), ("`new_asset` is empty", "pays in shares")),
    (event(1, "A", "merger", amount=1.0, new_asset="B"), ("`new_asset` 'B'", "has no `ratio`")),
    (event(1, "A", "merger", ratio=1.0, new_asset="X"), ("`new_asset` 'X'", "neither the market nor", "`amount`")),
    (event(1, "A", "merger", ratio=1.0, new_asset="A"), ("`new_asset` 'A'", "the asset itself")),
    (event(1, "A", "merger", ratio=-1.0, new_asset="B"), ("`ratio`", "not negative in a merger")),
    (event(1, "A", "merger", amount=-1.0), ("`amount`", "not negative", "-1")),
    (event(1, "A", "spin_off", ratio=1.0), ("`new_asset` is empty", "the spin_off of 'A'")),
    (event(1, "A", "spin_off", new_asset="B"), ("`ratio` is empty", "the spin_off of 'A'")),
    (event(1, "A", "delisting", amount=-1.0), ("`amount`", "not negative")),
    (event(1, "A", "delisting", ratio=0.5), ("`ratio`", "means nothing")),
    (event(1, "A", "recall", ratio=1.5), ("`ratio`", "above 0 and at most 1", "1.5")),
    (event(1, "A", "recall", ratio=0.0), ("`ratio`", "above 0 and at most 1", "got 0")),
    (event(1, "A", "suspension", amount=1.0), ("`amount`", "means nothing")),
    (event(1, "A", ""), ("`kind`", "an empty text")),
    (
        event(2, "D", "dividend", amount=1.0),
        ("the dividend of 'D' on 2024-01-03", "no row", "after the asset's last row"),
    ),
]


@pytest.mark.parametrize(("row", "parts"), REFUSED)
@pytest.mark.parametrize("csv", [False, True])
def test_a_bad_row_is_refused_by_name(
    tmp_path: Path, row: dict[str, Any], parts: tuple[str, ...], *, csv: bool
) -> None:
    data = data_of(tmp_path, row, csv=csv)
    file = "`events.csv`" if csv else "`events.parquet`"
    assert_refused(lambda: data.conditions(data.panel()), file, *parts)


def test_the_row_that_is_named_is_the_first_bad_one_and_all_are_counted(tmp_path: Path) -> None:
    good, bad = event(1, "A", "split", ratio=2.0), [event(t, "B", "split", ratio=-1.0) for t in (2, 3)]
    data = data_of(tmp_path, good, *bad)
    assert_refused(lambda: data.conditions(data.panel()), "`events.parquet` row 1:", "2024-01-03", "2 such rows")


def test_a_day_between_sessions_is_refused_with_the_next_one(tmp_path: Path) -> None:
    closes = {name: [*path, 1.0] for name, path in CLOSES.items()}
    data = data_of(tmp_path, event("2024-01-06", "A", "split", ratio=2.0), closes=closes)
    assert_refused(
        lambda: data.conditions(data.panel()),
        "`events.parquet` row 0",
        "`date` 2024-01-06 of the split of 'A'",
        "no session",
        "next session, 2024-01-08",
    )


def test_an_ex_date_without_a_row_is_refused_with_the_next_one(tmp_path: Path) -> None:
    closes = {"A": FIVE, "B": [20.0, None, None, 21.0, 21.0]}
    data = data_of(tmp_path, event(1, "B", "split", ratio=2.0), closes=closes)
    assert_refused(lambda: data.conditions(data.panel()), "the split of 'B' on 2024-01-02", "next row, 2024-01-04")


def test_rows_that_stand_twice_are_refused(tmp_path: Path) -> None:
    dividends = [event(1, "A", "dividend", amount=amount) for amount in (1.0, 2.0)]
    data = data_of(tmp_path, *dividends)
    assert_refused(
        lambda: data.conditions(data.panel()), "row 1", "`date` and `asset`", "'A' on 2024-01-02", "add up the amounts"
    )
    ends = [event(1, "A", "merger", amount=1.0), event(1, "A", "delisting")]
    other = data_of(tmp_path / "ends", *ends)
    assert_refused(
        lambda: other.conditions(other.panel()), "row 1", "'A' on 2024-01-02", "both a merger and a delisting"
    )


def test_two_companies_may_be_spun_off_on_one_day(tmp_path: Path) -> None:
    rows = [event(2, "A", "spin_off", ratio=0.1, new_asset=name) for name in ("B", "C")]
    given = conditions_of(tmp_path, *rows)
    assert [happened.new_asset for happened in given.events_on(2)] == [1, 2]


def test_unsorted_dates_and_time_zones_are_refused(tmp_path: Path) -> None:
    data = data_of(tmp_path, event(2, "A", "split", ratio=2.0), event(1, "B", "split", ratio=2.0))
    assert_refused(
        lambda: data.conditions(data.panel()),
        "row 1",
        "`date` must ascend",
        "2024-01-02 comes after 2024-01-03",
        "Sort",
    )
    zoned = pd.DataFrame([event(1, "A", "suspension")])
    zoned["date"] = pd.DatetimeIndex(zoned["date"]).tz_localize("America/New_York")
    write_table(data.folder, "events", zoned)
    assert_refused(lambda: Dataset(data.folder).conditions(data.panel()), "time zone", "tz_localize(None)")


def test_missing_columns_and_wrong_kinds_are_refused(tmp_path: Path) -> None:
    data = data_of(tmp_path, event(1, "A", "suspension"))
    panel = data.panel()
    good = pd.DataFrame([event(1, "A", "split", ratio=2.0)])
    for name in ("date", "asset", "kind"):
        write_table(data.folder, "events", good.drop(columns=name))
        assert_refused(lambda: data.conditions(panel), "events.parquet", f"no column `{name}`")
    write_table(data.folder, "events", good.assign(ratio="2:1"))
    assert_refused(lambda: data.conditions(panel), "`ratio` must be a number")
    write_table(data.folder, "events", good.assign(new_asset=3.0))
    assert_refused(lambda: data.conditions(panel), "`new_asset` must be text")
    (data.folder / "events.parquet").write_bytes(b"PAR1")
    assert_refused(lambda: data.conditions(panel), "events.parquet", "cannot be read")


def test_shares_of_an_asset_that_cannot_be_held_are_refused(tmp_path: Path) -> None:
    into = {"ratio": 1.0, "new_asset": "B"}
    same_day = data_of(tmp_path / "same", event(2, "A", "merger", **into), event(2, "B", "delisting"))
    assert_refused(
        lambda: same_day.conditions(same_day.panel()),
        "row 0",
        "the merger of 'A' on 2024-01-03",
        "'B' has its own merger or delisting on 2024-01-03",
    )
    closes = {"A": FIVE, "B": [20.0, 20.0, None, None, None]}
    earlier = data_of(
        tmp_path / "earlier", event(2, "B", "delisting"), event(3, "A", "spin_off", **into), closes=closes
    )
    assert_refused(lambda: earlier.conditions(earlier.panel()), "row 1", "delisting on 2024-01-03")
    gone = data_of(tmp_path / "gone", event(4, "A", "merger", **into), closes=closes, settings="stale_days = 2\n")
    assert_refused(lambda: gone.conditions(gone.panel()), "the merger of 'A'", "'B' is gone by then")


def test_shares_of_an_asset_without_a_row_yet_can_be_held_if_it_has_one_in_the_span(tmp_path: Path) -> None:
    data = data_of(tmp_path, event(1, "A", "spin_off", ratio=1.0, new_asset="C"))
    assert data.conditions(data.panel()).events_on(1)[0].new_asset == 2
    short = data.panel(end=day(1))
    assert_refused(lambda: data.conditions(short), "`new_asset` 'C'", "no row up to 2024-01-02", "end later")


def test_amounts_per_share_want_closes(tmp_path: Path) -> None:
    data = data_of(tmp_path, event(1, "A", "suspension"), event(2, "A", "recall", ratio=0.5))
    market = pd.read_parquet(data.folder / "market.parquet").drop(columns="close")
    market.to_parquet(data.folder / "market.parquet", index=False)
    bare = Dataset(data.folder)
    assert bare.conditions(bare.panel()).events_on(1)
    write_table(data.folder, "events", pd.DataFrame([event(1, "A", "dividend", amount=1.0)]))
    assert_refused(lambda: bare.conditions(bare.panel()), "the dividend of 'A'", "no column `close`")
