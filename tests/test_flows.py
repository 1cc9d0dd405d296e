"""Files of flows: what is read, and what is refused by file, row and remedy."""

from __future__ import annotations

import math
from pathlib import Path

import pandas as pd
import pytest

from backtest.flows import Flow, Flows, aum_path, read_flows
from risk import DataError

DAY = pd.Timestamp("2024-01-31")


def write(folder: Path, text: str) -> Path:
    path = folder / "flows.csv"
    path.write_text(text)
    return path


def test_requests_are_read_in_the_order_of_the_file(tmp_path: Path) -> None:
    path = write(tmp_path, "date,investor,amount\n2024-01-31,B,500000\n2024-01-31,A,-2.5\n2024-03-01,B,-inf\n")
    assert read_flows(path) == Flows(
        (Flow(DAY, "B", 5e5), Flow(DAY, "A", -2.5), Flow(pd.Timestamp("2024-03-01"), "B", -math.inf))
    )


def test_a_parquet_file_is_read_as_well(tmp_path: Path) -> None:
    path = tmp_path / "flows.parquet"
    pd.DataFrame({"date": [DAY], "investor": ["0700"], "amount": [1.0]}).to_parquet(path)
    assert read_flows(path).requests == (Flow(DAY, "0700", 1.0),)


def test_a_path_of_net_assets_is_told_by_its_column(tmp_path: Path) -> None:
    assert read_flows(write(tmp_path, "date,aum\n2024-01-31,70000000\n")).path == ((DAY, 70e6),)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("date,investor,amount\n2024-01-31,B,0\n", r"`amount` of row 1 \(B, 2024-01-31\).*got 0"),
        ("date,investor,amount\n2024-01-31,B,\n2024-01-31,C,1\n", "row 1.*got nan"),
        ("date,investor,amount\n2024-01-31,B,inf\n", "got inf"),
        ("date,investor,amount\n2024-01-31,B,much\n", "`amount` must be a number"),
        ("date,investor,amount\n2024-01-31,,1\n2024-01-31,B,1\n", "investor"),
        ("date,investor,amount\n2024-02-01,B,1\n2024-01-31,B,1\n", "must ascend; sort"),
        ("date,investor,amount\nsoon,B,1\n", "`date` must be a date"),
        ("date,investor\n2024-01-31,B\n", "no column `amount`"),
        ("date,amount\n2024-01-31,1\n", "no column `investor`"),
        ("date,aum,amount\n2024-01-31,1,1\n", "both `aum` and `amount`"),
        ("date,aum\n2024-01-31,0\n", "`aum` on 2024-01-31 must be a positive amount"),
        ("date,aum\n2024-01-31,-5\n", "positive amount"),
        ("date,aum\n2024-01-31,\n2024-02-01,4\n", "positive amount"),
        ("date,aum\n2024-01-31,1\n2024-01-31,2\n", "sort by date, one row each"),
    ],
)
def test_a_wrong_file_is_refused(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(DataError, match=words) as caught:
        read_flows(write(tmp_path, text))
    assert "flows.csv" in str(caught.value)


@pytest.mark.parametrize("columns", [["date", "investor", "amount"], ["date", "aum"]])
def test_a_file_without_rows_is_refused(tmp_path: Path, columns: list[str]) -> None:
    path = tmp_path / "flows.parquet"
    empty = {"date": pd.DatetimeIndex([]), "investor": pd.Series([], dtype=str), "amount": pd.Series([], dtype=float)}
    pd.DataFrame(empty | {"aum": pd.Series([], dtype=float)})[columns].to_parquet(path)
    with pytest.raises(DataError, match="holds no row"):
        read_flows(path)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is not there"):
        read_flows(tmp_path / "none.csv")


def test_requests_and_a_path_are_not_given_together() -> None:
    with pytest.raises(DataError, match="one of the two"):
        Flows((Flow(DAY, "B", 1.0),), ((DAY, 1.0),))


def test_a_path_is_positive_money() -> None:
    with pytest.raises(DataError, match="end the run before"):
        aum_path([(DAY, math.inf)])
