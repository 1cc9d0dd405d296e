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
