"""Terms of a fund: what the published statement says by default, and what is refused."""

from __future__ import annotations

import itertools
from pathlib import Path

import pandas as pd
import pytest

from backtest.fund_terms import FundTerms, period_begins
from engine.mandate import read_spec
from risk import DataError


def test_the_defaults_are_the_published_statement() -> None:
    terms = FundTerms()
    assert (terms.management_fee_annual, terms.incentive_fee, terms.crystallisation) == (0.01, 0.20, "yearly")
    assert not terms.high_water_mark
    assert (terms.hurdle_annual, terms.lockup_months, terms.notice_days) == (0.0, 0, 0)


@pytest.mark.parametrize("field", ["management_fee_annual", "incentive_fee", "hurdle_annual"])
@pytest.mark.parametrize(
    ("value", "words"), [("20", "write 0.2 for 20 %"), ("-0.1", "greater than or equal to 0"), ("nan", "finite")]
)
def test_a_rate_that_is_no_decimal_is_refused_with_the_remedy(
    tmp_path: Path, field: str, value: str, words: str
) -> None:
    path = tmp_path / "terms.toml"
    path.write_text(f"{field} = {value}\n")
    with pytest.raises(DataError, match=words) as caught:
        read_spec(FundTerms, path)
    assert f"`{field}`" in str(caught.value)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("value", ["0.0", "1.0"])
def test_the_whole_may_be_asked_for(tmp_path: Path, value: str) -> None:
    path = tmp_path / "terms.toml"
    path.write_text(f"incentive_fee = {value}\n")
    assert read_spec(FundTerms, path).incentive_fee == float(value)


@pytest.mark.parametrize(
    "line",
    [
        'crystallisation = "daily"',
        'dealing = "yearly"',
        'equalisation = "units"',
        "lockup_months = -1",
        "notice_days = 1.5",
        "capacity = 0",
    ],
)
def test_terms_that_are_none_are_refused(tmp_path: Path, line: str) -> None:
    path = tmp_path / "terms.toml"
    path.write_text(line + "\n")
    with pytest.raises(DataError, match=line.split()[0]):
        read_spec(FundTerms, path)


@pytest.mark.parametrize(("calendar", "count"), [("monthly", 24), ("quarterly", 8), ("yearly", 2)])
def test_a_period_begins_once(calendar: str, count: int) -> None:
    dates = pd.bdate_range("2021-12-30", "2023-12-29")
    begins = [
        date
        for before, date in itertools.pairwise(dates)
        if period_begins(before, date, calendar)  # type: ignore[arg-type]
    ]
    assert len(begins) == count
    assert all(date.day <= 3 for date in begins)
