"""Published figures of the two funds: each with source and basis, ours only where a definition is near."""

from __future__ import annotations

import dataclasses
import re

import numpy as np
import pytest

from backtest import Run
from backtest.published import FIGURES, Source, beside, published
from risk import DataError


def test_every_figure_says_what_it_is_and_where_it_is_from() -> None:
    for figure in FIGURES:
        assert all(dataclasses.asdict(figure)[name] for name in ("item", "period", "unit", "basis", "address")), figure
        assert np.isfinite(figure.value)
        if figure.source in (Source.COPY, Source.READ_OFF):
            assert re.match(r"https://", figure.address), figure


def test_a_definition_that_was_not_stated_has_no_number_of_ours() -> None:
    assert not [figure for figure in FIGURES if figure.ours and "not stated" in figure.basis]


def test_ours_stands_beside_in_the_same_unit(run: Run) -> None:
    table = beside("One", run.record["statistics"])
    assert len(table) == len(published("one"))
    ours = table[(table["item"] == "Volatility") & (table["period"] == "2021")].iloc[0]
    assert ours["value"] == 0.1012
    assert ours["ours"] == run.record["statistics"]["volatility_before_fees"]
    assert table["ours"].isna().sum() > table["ours"].notna().sum() > 0


def test_what_was_never_published_is_refused() -> None:
    with pytest.raises(DataError, match="known are One and Supreme"):
        published("Two")
    with pytest.raises(DataError, match="lacks 'sharpe_before_fees'"):
        beside("One", {})
