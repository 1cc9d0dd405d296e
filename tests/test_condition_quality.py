"""What `check` says of events, rates, fx and borrow: what they hold, every error, and what is odd."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from event_data import event, write_data

from backtest.dataset import Dataset
from backtest.market_rules import Severity
from backtest.quality import QualityReport, check

CLOSES = {"A": [10.0, 11.0, 12.0, 13.0], "B": [20.0] * 4, "C": [None, None, 5.0, 5.0]}
LOCAL = 'return_kind = "local"\n'
CURRENCY = {"A": "USD", "B": "EUR", "C": "JPY"}
ONE = {"date": 0, "asset": "A", "fee_annual": 0.01}


def data_of(tmp_path: Path, **options: Any) -> Dataset:
    return write_data(tmp_path / "data", options.pop("closes", CLOSES), **options)


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


def test_an_end_on_the_last_row_is_not_odd(tmp_path: Path) -> None:
    closes = {"A": [1.0] * 4, "D": [8.0, 8.0, None, None]}
    assert found(report_of(tmp_path, closes=closes, events=[event(1, "D", "merger", amount=8.0)])) == {}


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
