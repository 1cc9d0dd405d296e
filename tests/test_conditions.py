"""Rates, fx and borrow on the days of a panel: the latest row not after each, and what is refused."""

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
from backtest.market_rules import Severity
from backtest.quality import QualityReport, check

NAN = np.nan
CLOSES = {"A": [10.0, 11.0, 12.0, 13.0], "B": [20.0] * 4, "C": [None, None, 5.0, 5.0]}
LOCAL = 'return_kind = "local"\n'
CURRENCY = {"A": "USD", "B": "EUR", "C": "JPY"}
FX = [("2023-12-29", "EUR", 1.10), (1, "JPY", 0.007), (2, "EUR", 1.20)]
ONE = {"date": 0, "asset": "A", "fee_annual": 0.01}


def data_of(tmp_path: Path, **options: Any) -> Dataset:
    return write_data(tmp_path / "data", options.pop("closes", CLOSES), **options)


def conditions_of(tmp_path: Path, **options: Any) -> Conditions:
    data = data_of(tmp_path, **options)
    return data.conditions(data.panel())


def refused(data: Dataset, *parts: str) -> None:
    assert_refused(lambda: data.conditions(data.panel()), *parts)


# What is off


def test_without_any_file_everything_is_off(tmp_path: Path) -> None:
    data = data_of(tmp_path, currency=CURRENCY)
    for given in (data.conditions(data.panel()), Conditions.off(data.panel())):
        assert given.currencies == ("USD",)
        assert given.currency.tolist() == [0, 0, 0]
        assert given.fx.tolist() == [[1.0]] * 4
        assert not given.converted
        assert given.rates is given.borrow_fee is given.rebate is given.available is given.events is None
        given.check_from(data.panel(), 0)


# Currencies


@pytest.mark.parametrize("csv", [False, True])
def test_exchange_rates_are_the_latest_not_after_each_day(tmp_path: Path, *, csv: bool) -> None:
    given = conditions_of(tmp_path, currency=CURRENCY, fx=FX, settings=LOCAL, csv=csv)
    assert given.converted
    assert given.currencies == ("USD", "EUR", "JPY")
    assert given.currency.tolist() == [0, 1, 2]
    wanted = [[1.0, 1.1, NAN], [1.0, 1.1, 0.007], [1.0, 1.2, 0.007], [1.0, 1.2, 0.007]]
    np.testing.assert_array_equal(given.fx, wanted)
    assert not given.fx.flags.writeable


def test_the_base_comes_first_and_an_asset_without_label_is_in_it(tmp_path: Path) -> None:
    given = conditions_of(
        tmp_path,
        currency={"A": "USD", "C": "CHF"},
        fx=[(0, "USD", 0.9), (0, "CHF", 0.95)],
        settings=LOCAL + 'currency = "EUR"\n',
    )
    assert given.currencies == ("EUR", "CHF", "USD")
    assert given.currency.tolist() == [2, 0, 1]


def test_a_currency_without_rows_is_refused_by_name(tmp_path: Path) -> None:
    refused(
        data_of(tmp_path, currency=CURRENCY, fx=FX[:1], settings=LOCAL),
        "`fx.parquet`",
        "`currency`",
        "'JPY'",
        "Add its rows",
    )


def test_returns_in_the_base_currency_are_not_converted_twice(tmp_path: Path) -> None:
    data = data_of(tmp_path, currency=CURRENCY, fx=FX)
    refused(data, "`dataset.toml`", "`return_kind` is 'total'", "EUR, JPY", "'local'")
    (data.folder / "dataset.toml").write_text('return_kind = "local_price"\n')
    given = Dataset(data.folder).conditions(data.panel())
    assert not given.dividends_inside


@pytest.mark.parametrize(
    ("kind", "inside"), [("total", True), ("price", False), ("local", True), ("local_price", False)]
)
def test_the_kind_of_return_says_whether_dividends_are_inside(tmp_path: Path, kind: str, *, inside: bool) -> None:
    assert conditions_of(tmp_path, settings=f'return_kind = "{kind}"\n').dividends_inside is inside


def test_an_asset_that_changes_its_currency_is_refused_where_positions_are_converted(tmp_path: Path) -> None:
    data = data_of(tmp_path, fx=FX, settings=LOCAL)
    labels = pd.read_parquet(data.folder / "assets.parquet")
    first = labels.assign(currency="EUR", valid_from=pd.Timestamp("2020-01-01"))
    moved = labels[labels["asset"] == "B"].assign(currency="JPY", valid_from=day(2))
    pd.concat([first, moved]).to_parquet(data.folder / "assets.parquet", index=False)
    refused(Dataset(data.folder), "`assets.parquet`", "`currency` of 'B' changes", "a name of its own")
    # Before the change nothing is known of it.
    data = Dataset(data.folder)
    assert data.conditions(data.panel(end=day(1))).currency.tolist() == [1, 1]


def test_a_run_starts_where_its_currencies_are_known(tmp_path: Path) -> None:
    rates = [(0, "USD", 0.05), (1, "EUR", 0.03), (2, "JPY", 0.001)]
    data = data_of(tmp_path, currency=CURRENCY, fx=FX, rates=rates, settings=LOCAL)
    panel = data.panel()
    given = data.conditions(panel)
    # The first asset in JPY has its first row on day 2, when both are known.
    given.check_from(panel, 1)
    assert_refused(lambda: given.check_from(panel, 0), "`rates`", "'EUR'", "needed from 2024-01-01", "2024-01-02")
    late = data_of(tmp_path / "late", currency=CURRENCY, fx=[*FX[:1], (3, "JPY", 0.007)], settings=LOCAL)
    assert_refused(
        lambda: late.conditions(late.panel()).check_from(late.panel(), 0), "`fx`", "'JPY'", "2024-01-03", "2024-01-04"
    )
    short = late.panel(end=day(2))
    assert_refused(lambda: late.conditions(short).check_from(short, 0), "'JPY'", "not known yet on the last day")


BAD_FX: list[tuple[list[tuple[int | str, str, float]], tuple[str, ...]]] = [
    ([(0, "EUR", 0.0)], ("`rate`", "positive", "got 0", "'EUR' on 2024-01-01")),
    ([(0, "EUR", -1.1)], ("`rate`", "positive", "-1.1", "price of one unit of the currency in USD")),
    ([(0, "EUR", NAN)], ("`rate`", "an empty value", "leave out days")),
    ([(0, "EUR", np.inf)], ("`rate`", "finite", "inf")),
    ([(0, "EUR", 1.1), (0, "EUR", 1.2)], ("row 1", "`date` and `currency`", "'EUR' on 2024-01-01")),
    ([(1, "EUR", 1.1), (0, "EUR", 1.2)], ("row 1", "`date` must ascend", "Sort")),
    ([(0, "EUR", 1.1), (0, "USD", 1.1)], ("row 1", "1 for USD", "1.1")),
]


@pytest.mark.parametrize(("rows", "parts"), BAD_FX)
def test_bad_exchange_rates_are_refused(
    tmp_path: Path, rows: list[tuple[int | str, str, float]], parts: tuple[str, ...]
) -> None:
    data = data_of(tmp_path, currency={"A": "USD", "B": "EUR"}, fx=rows, settings=LOCAL)
    refused(data, "`fx.parquet`", *parts)


# Interest


def test_rates_may_lie_on_any_day_and_stay_in_force(tmp_path: Path) -> None:
    rates = [
        ("2023-12-30", "USD", 0.05),
        ("2024-01-02", "CHF", 0.01),
        ("2024-01-04", "USD", -0.01),
        ("2024-02-10", "USD", 0.9),
    ]
    given = conditions_of(tmp_path, rates=rates)
    assert given.rates is not None
    assert given.rates.tolist() == [[0.05], [0.05], [0.05], [-0.01]]


def test_what_comes_later_changes_no_day_before(tmp_path: Path) -> None:
    borrow = [
        *({"date": t, "asset": a, "fee_annual": 0.01 * t, "available": 10.0 + t} for t in range(4) for a in ("A", "B")),
    ]
    rates = [(t, c, 0.01 * t) for t in range(4) for c in ("EUR", "JPY", "USD")]
    fx = [(t, c, 1.0 + t) for t in range(4) for c in ("EUR", "JPY")]
    events = [event(t, "A", "split", ratio=2.0) for t in (1, 3)]
    data = data_of(tmp_path, currency=CURRENCY, rates=rates, fx=fx, borrow=borrow, events=events, settings=LOCAL)
    whole = data.conditions(data.panel())
    panel = data.panel(end=day(2))
    for name, rows in (("rates", rates), ("fx", fx)):
        column = "annual_rate" if name == "rates" else "rate"
        table = pd.DataFrame(rows, columns=["date", "currency", column])
        table["date"] = [day(t) for t in table["date"]]
        table.loc[table["date"] > day(2), column] *= 0.5
        write_table(data.folder, name, table)
    table = pd.DataFrame([{**row, "date": day(row["date"])} for row in borrow])
    table.loc[table["date"] > day(2), ["fee_annual", "available"]] = 5.0
    write_table(data.folder, "borrow", table)
    write_table(data.folder, "events", pd.DataFrame([events[0], event(3, "B", "suspension")]))
    for given in (Dataset(data.folder).conditions(data.panel()), Dataset(data.folder).conditions(panel)):
        for name in ("fx", "rates", "borrow_fee", "rebate", "available"):
            wanted, got = getattr(whole, name), getattr(given, name)
            if wanted is None:
                assert got is None
            else:
                np.testing.assert_array_equal(got[:3], wanted[:3])
        for t in range(3):
            assert given.events_on(t) == whole.events_on(t)


BAD_RATES: list[tuple[list[tuple[int | str, str, float]], tuple[str, ...]]] = [
    ([(0, "USD", 5.25)], ("`annual_rate`", "between -0.2 and 2", "5.25", "'USD' on 2024-01-01", "5 % is 0.05")),
    ([(0, "USD", -0.3)], ("`annual_rate`", "-0.3")),
    ([(0, "USD", NAN)], ("`annual_rate`", "an empty value")),
    ([(0, "USD", np.inf)], ("`annual_rate`", "inf")),
    ([(0, "USD", 0.05), (0, "USD", 0.04)], ("row 1", "`date` and `currency`", "'USD' on 2024-01-01", "Keep one")),
    ([(2, "USD", 0.05), (0, "USD", 0.04)], ("row 1", "`date` must ascend")),
    ([(0, "EUR", 0.05)], ("`currency`", "'USD'", "It has EUR")),
]


@pytest.mark.parametrize(("rows", "parts"), BAD_RATES)
@pytest.mark.parametrize("csv", [False, True])
def test_bad_rates_are_refused(
    tmp_path: Path, rows: list[tuple[int | str, str, float]], parts: tuple[str, ...], *, csv: bool
) -> None:
    refused(data_of(tmp_path, rates=rows, csv=csv), f"`rates.{'csv' if csv else 'parquet'}`", *parts)


def test_every_converted_currency_needs_its_rate(tmp_path: Path) -> None:
    data = data_of(tmp_path, currency=CURRENCY, rates=[(0, "USD", 0.05), (0, "EUR", 0.03)], fx=FX, settings=LOCAL)
    refused(data, "`rates.parquet`", "'JPY'")


def test_an_empty_file_of_rates_is_refused(tmp_path: Path) -> None:
    data = data_of(tmp_path, rates=[(0, "USD", 0.05)])
    write_table(data.folder, "rates", pd.read_parquet(data.folder / "rates.parquet").iloc[:0])
    refused(Dataset(data.folder), "`rates.parquet` has no rows")


# Borrowing


@pytest.mark.parametrize("csv", [False, True])
def test_borrow_terms_are_the_latest_of_each_asset(tmp_path: Path, *, csv: bool) -> None:
    borrow = [
        {"date": "2023-12-30", "asset": "A", "fee_annual": 0.01, "rebate_annual": 0.04, "available": 100.0},
        {"date": 1, "asset": "B", "fee_annual": 0.5, "rebate_annual": -0.1, "available": 0.0},
        {"date": "2024-01-03", "asset": "A", "fee_annual": 0.02, "rebate_annual": NAN, "available": NAN},
    ]
    given = conditions_of(tmp_path, borrow=borrow, csv=csv)
    np.testing.assert_array_equal(
        given.borrow_fee, [[0.01, NAN, NAN], [0.01, 0.5, NAN], [0.02, 0.5, NAN], [0.02, 0.5, NAN]]
    )
    # An empty cell is not known from its date on: it does not keep the one before.
    np.testing.assert_array_equal(
        given.rebate, [[0.04, NAN, NAN], [0.04, -0.1, NAN], [NAN, -0.1, NAN], [NAN, -0.1, NAN]]
    )
    np.testing.assert_array_equal(
        given.available, [[100.0, NAN, NAN], [100.0, 0.0, NAN], [NAN, 0.0, NAN], [NAN, 0.0, NAN]]
    )


@pytest.mark.parametrize("csv", [False, True])
def test_available_may_be_true_or_false(tmp_path: Path, *, csv: bool) -> None:
    borrow = [
        ONE | {"available": True},
        ONE | {"asset": "B", "available": False},
        ONE | {"date": 2, "available": False},
    ]
    given = conditions_of(tmp_path, borrow=borrow, csv=csv)
    np.testing.assert_array_equal(given.available, [[NAN, 0, NAN], [NAN, 0, NAN], [0, 0, NAN], [0, 0, NAN]])
    assert given.rebate is None


def test_shares_counted_before_a_split_are_restated_after_it(tmp_path: Path) -> None:
    borrow = [ONE | {"available": 100.0}, ONE | {"date": 3, "available": 7.0}]
    split = [event(1, "A", "split", ratio=0.02), event(3, "A", "split", ratio=3.0)]
    given = conditions_of(tmp_path, borrow=borrow, events=split)
    assert given.available is not None
    assert given.available[:, 0].tolist() == [100.0, 2.0, 2.0, 7.0]


BAD_BORROW: list[tuple[list[dict[str, Any]], tuple[str, ...]]] = [
    ([ONE | {"fee_annual": 10.5}], ("`fee_annual`", "from 0 to 10", "10.5", "'A' on 2024-01-01", "0.5 % is 0.005")),
    ([ONE | {"fee_annual": -0.01}], ("`fee_annual`", "-0.01")),
    ([ONE | {"fee_annual": NAN}], ("`fee_annual`", "an empty value", "repeat the one in force")),
    ([ONE | {"fee_annual": np.inf}], ("`fee_annual`", "inf")),
    ([ONE | {"rebate_annual": 4.0}], ("`rebate_annual`", "4 % is 0.04")),
    ([ONE | {"rebate_annual": np.inf}], ("`rebate_annual`", "inf")),
    ([ONE | {"available": -1.0}], ("`available`", "not negative", "-1")),
    ([ONE | {"available": np.inf}], ("`available`", "empty where there is no limit")),
    ([ONE | {"asset": "X"}], ("`asset` of 'X' on 2024-01-01", "neither the market nor")),
    ([ONE, ONE | {"fee_annual": 0.02}], ("row 1", "`date` and `asset`", "'A' on 2024-01-01")),
    ([ONE | {"date": 1}, ONE], ("row 1", "`date` must ascend")),
]


@pytest.mark.parametrize(("rows", "parts"), BAD_BORROW)
def test_bad_borrow_terms_are_refused(tmp_path: Path, rows: list[dict[str, Any]], parts: tuple[str, ...]) -> None:
    refused(data_of(tmp_path, borrow=rows), "`borrow.parquet`", *parts)


def test_time_zones_texts_and_missing_columns_are_refused(tmp_path: Path) -> None:
    data = data_of(tmp_path, borrow=[ONE], rates=[(0, "USD", 0.05)])
    rates = pd.read_parquet(data.folder / "rates.parquet")
    write_table(data.folder, "rates", rates.assign(date=rates["date"].dt.tz_localize("UTC")))
    refused(data, "`rates.parquet`", "`date` must have no time zone")
    write_table(data.folder, "rates", rates.assign(date=rates["date"] + pd.Timedelta(hours=9)))
    refused(data, "`rates.parquet`", "without time of day")
    write_table(data.folder, "rates", rates.drop(columns="annual_rate"))
    refused(data, "`rates.parquet` has no column `annual_rate`")
    write_table(data.folder, "rates", rates)
    borrow = pd.read_parquet(data.folder / "borrow.parquet")
    write_table(data.folder, "borrow", borrow.assign(available="plenty"))
    refused(data, "`borrow.parquet`", "`available` must be a number, or true or false")
    write_table(data.folder, "borrow", borrow.drop(columns="fee_annual"))
    refused(data, "`borrow.parquet` has no column `fee_annual`")


def test_a_file_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    data = data_of(tmp_path, rates=[(0, "USD", 0.05)])
    (data.folder / "rates.csv").write_text("date,currency,annual_rate\n2024-01-01,USD,0.05\n")
    refused(data, "`rates.parquet` and `rates.csv`", "Remove one")


# What `check` says


def report_of(tmp_path: Path, **options: Any) -> QualityReport:
    return check(data_of(tmp_path, **options))


def found(report: QualityReport) -> dict[str, str]:
    """Return the messages of the findings on the four files by rule."""
    files = ("events", "rates", "fx", "borrow", "assets", "dataset")
    return {f.rule: f.message for f in report.findings if f.file.startswith(files)}


def test_check_describes_what_is_given(tmp_path: Path) -> None:
    options = {
        "events": [event(1, "A", "suspension"), event(1, "B", "suspension"), event(3, "A", "recall")],
        "rates": [(0, "USD", 0.05)],
        "borrow": [ONE],
    }
    report = report_of(tmp_path, **options)
    assert found(report) == {}
    assert report.usable
    assert report.conditions == {
        "events": {
            "rows": 3,
            "span": ["2024-01-02", "2024-01-04"],
            "assets": 2,
            "kinds": {"recall": 1, "suspension": 2},
        },
        "rates": {"rows": 1, "span": ["2024-01-01", "2024-01-01"], "currencies": 1},
        "borrow": {"rows": 1, "span": ["2024-01-01", "2024-01-01"], "assets": 1},
    }
    assert "events: 3 rows, 2024-01-02 to 2024-01-04, 2 assets, 1 recall, 2 suspension" in report.lines()


def test_check_lists_the_errors_of_every_file(tmp_path: Path) -> None:
    report = report_of(
        tmp_path,
        events=[event(1, "X", "split", ratio=-1.0), event(2, "A", "split")],
        rates=[(0, "USD", 5.0)],
        fx=[(0, "EUR", -1.0)],
        borrow=[ONE | {"fee_annual": 25.0}],
    )
    errors = {(f.file, f.rule) for f in report.findings if f.severity is Severity.ERROR}
    assert errors == {
        ("events.parquet", "unknown_asset"),
        ("events.parquet", "no_ratio"),
        ("events.parquet", "bad_ratio"),
        ("rates.parquet", "bad_annual_rate"),
        ("fx.parquet", "bad_rate"),
        ("borrow.parquet", "bad_fee_annual"),
    }
    assert not report.usable


def test_a_file_that_cannot_be_read_does_not_hide_the_others(tmp_path: Path) -> None:
    data = data_of(tmp_path, rates=[(0, "USD", 5.0)], borrow=[ONE])
    (data.folder / "borrow.parquet").write_bytes(b"PAR1")
    errors = [f.message for f in check(data).findings if f.severity is Severity.ERROR]
    assert len(errors) == 2
    assert "borrow.parquet" in errors[0]
    assert "`annual_rate`" in errors[1]


SPLIT_CLOSES = {"A": [10.0, 5.0, 5.0], "B": [20.0, 20.0, 20.0]}


@pytest.mark.parametrize(("ratio", "odd"), [(2.0, False), (2.01, False), (0.5, True), (1.0, True)])
def test_a_split_that_does_not_fit_the_closes_is_odd(tmp_path: Path, ratio: float, *, odd: bool) -> None:
    report = report_of(
        tmp_path, closes=SPLIT_CLOSES, returns={"A": [None, 0.0, 0.0]}, events=[event(1, "A", "split", ratio=ratio)]
    )
    assert report.usable
    assert ("odd_split" in found(report)) is odd
    if odd:
        message = found(report)["odd_split"]
        assert "the split of 'A' on 2024-01-02" in message
        assert "close 10 to 5" in message
        assert "which is a ratio of 2)" in message


def test_a_split_and_a_dividend_of_one_day_fit_together(tmp_path: Path) -> None:
    # 10 becomes two shares of 4.5 and 1 in cash for the old share: nothing was earned.
    events = [event(1, "A", "split", ratio=2.0), event(1, "A", "dividend", amount=1.0)]
    closes = {"A": [10.0, 4.5, 4.5], "B": [20.0] * 3}
    total = report_of(tmp_path / "total", closes=closes, returns={"A": [None, 0.0, 0.0]}, events=events)
    assert found(total) == {}
    price = report_of(
        tmp_path / "price",
        closes=closes,
        returns={"A": [None, -0.1, 0.0]},
        events=events,
        settings='return_kind = "price"\n',
    )
    assert found(price) == {}


@pytest.mark.parametrize(
    ("kind", "earned", "odd"),
    [("total", 0.0, None), ("total", -0.05, "not in"), ("price", -0.05, None), ("price", 0.0, "twice")],
)
def test_dividends_are_held_against_the_kind_of_return(
    tmp_path: Path, kind: str, earned: float, odd: str | None
) -> None:
    report = report_of(
        tmp_path,
        closes={"A": [10.0, 9.5, 9.5], "B": [20.0] * 3},
        returns={"A": [None, earned, 0.0]},
        events=[event(1, "A", "dividend", amount=0.5)],
        settings=f'return_kind = "{kind}"\n',
    )
    if odd is None:
        assert found(report) == {}
    else:
        message = found(report)["odd_dividend"]
        assert odd in message
        assert "1 of 1 dividends" in message
        assert "the dividend of 'A' on 2024-01-02" in message
        assert "`return_kind`" in message


def test_closes_that_are_adjusted_want_no_splits(tmp_path: Path) -> None:
    report = report_of(tmp_path, events=[event(1, "A", "split", ratio=2.0)], settings='close_kind = "adjusted"\n')
    assert "give raw closes" in found(report)["adjusted_closes"]
    assert "odd_split" not in found(report)


def test_splits_that_no_event_lists_are_named(tmp_path: Path) -> None:
    closes = SPLIT_CLOSES | {"B": [20.0, 20.0, 5.0]}
    returns = {"A": [None, 0.0, 0.0], "B": [None, 0.0, 0.0]}
    report = report_of(tmp_path, closes=closes, returns=returns, events=[event(1, "A", "split", ratio=2.0)])
    assert set(found(report)) == {"unlisted_split"}
    assert "no event for 1 closes" in found(report)["unlisted_split"]
    assert "'B' on 2024-01-03" in found(report)["unlisted_split"]


def test_mergers_and_ends_that_do_not_fit_are_odd(tmp_path: Path) -> None:
    events = [
        event(2, "A", "merger", ratio=2.0, new_asset="B"),
        event(2, "C", "delisting", cause="bankruptcy"),
        event(3, "B", "dividend", amount=30.0),
    ]
    messages = found(report_of(tmp_path, events=events, closes=CLOSES | {"C": [5.0, 5.0, None, None]}))
    assert "40 for a share that closed at 11" in messages["odd_merger"]
    assert "the merger of 'A' on 2024-01-03" in messages["rows_after_end"]
    assert "bankruptcy: 1" in messages["unpaid_delisting"]
    assert "amount 30" in messages["large_dividend"]


def test_an_end_that_is_an_event_is_not_missing(tmp_path: Path) -> None:
    closes = {"A": [1.0] * 5, "D": [8.0, 8.0, None, None, None]}
    options = {"closes": closes, "settings": "stale_days = 2\n"}
    without = {f.rule for f in report_of(tmp_path / "without", **options).findings}
    given = {
        f.rule for f in report_of(tmp_path / "given", events=[event(2, "D", "merger", amount=8.0)], **options).findings
    }
    assert without - given == {"no_delisting_return"}


def test_events_that_concern_no_day_are_counted(tmp_path: Path) -> None:
    events = [event("2020-01-01", "A", "dividend", amount=1.0), event(1, "C", "suspension")]
    assert (
        "1 on other days, 1 before the asset's first row" in found(report_of(tmp_path, events=events))["unused_events"]
    )


def test_numbers_that_look_like_percent_are_named(tmp_path: Path) -> None:
    messages = found(report_of(tmp_path, rates=[(0, "USD", 1.5)], borrow=[ONE | {"fee_annual": 0.5}]))
    assert set(messages) == {"high_rate", "high_fees"}
    assert "'USD' on 2024-01-01" in messages["high_rate"]
    assert "50.0%" in messages["high_fees"]


def test_rebates_that_are_net_of_the_fee_are_named(tmp_path: Path) -> None:
    rates = [(0, "USD", 0.05)]
    net = [ONE | {"rebate_annual": 0.04}, ONE | {"asset": "B", "fee_annual": 0.03, "rebate_annual": 0.02}]
    assert "on 2 rows" in found(report_of(tmp_path / "net", rates=rates, borrow=net))["net_rebate"]
    gross = [row | {"rebate_annual": 0.048} for row in net]
    assert found(report_of(tmp_path / "gross", rates=rates, borrow=gross)) == {}


def test_old_late_and_unused_rows_are_named(tmp_path: Path) -> None:
    messages = found(
        report_of(
            tmp_path,
            currency={"A": "USD", "B": "EUR"},
            rates=[(1, "EUR", 0.03), (1, "USD", 0.05)],
            fx=[("2023-12-01", "CHF", 1.1), ("2023-12-01", "EUR", 1.1)],
            settings=LOCAL,
        )
    )
    assert "1 days of the market come before its first row, 2024-01-02" in messages["late_start"]
    assert "4 days of the market come more than 7 days after" in messages["old_rows"]
    assert "first 2024-01-01, after 2023-12-01" in messages["old_rows"]
    assert "CHF" in messages["unused_currency"]


def test_an_exchange_rate_that_jumps_is_named(tmp_path: Path) -> None:
    fx = [(0, "EUR", 1.1), (1, "EUR", 0.91), (2, "EUR", 0.6)]
    messages = found(report_of(tmp_path, currency={"B": "EUR"}, fx=fx, settings=LOCAL))
    assert "on 1 rows, first for 'EUR' on 2024-01-03" in messages["fx_jump"]


def test_local_returns_without_exchange_rates_are_said_not_to_be_converted(tmp_path: Path) -> None:
    messages = found(report_of(tmp_path, currency=CURRENCY, settings=LOCAL))
    assert set(messages) == {"not_converted"}
