from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from numerai_tools.scoring import gaussian, tie_kept_rank
from scipy.stats import norm

from engine.transforms import gaussianise, standardise
from risk import DataError


def slow_gaussian_rank(column: np.ndarray) -> np.ndarray:
    """Rank by counting, one name at a time."""
    known = column[~np.isnan(column)]
    out = np.zeros(len(column))
    for i, value in enumerate(column):
        if not np.isnan(value):
            rank = (known < value).sum() + ((known == value).sum() + 1) / 2
            out[i] = norm.ppf((rank - 0.5) / len(known))
    return out


@pytest.fixture
def raw(rng: np.random.Generator) -> np.ndarray:
    values = rng.standard_normal((120, 300))  # more models than one block
    values[:, ::2] = values[:, ::2].round(1)  # many ties
    values[:, 1] = np.exp(5 * values[:, 1])
    return values


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(11)


def test_equals_numerai_tools_on_full_coverage(raw: np.ndarray) -> None:
    prepared, coverage = gaussianise(raw)
    expected = gaussian(tie_kept_rank(pd.DataFrame(raw))).to_numpy()
    np.testing.assert_allclose(prepared, expected, rtol=0, atol=1e-12)
    assert (coverage == len(raw)).all()


def test_equals_counting_where_names_are_not_covered(raw: np.ndarray, rng: np.random.Generator) -> None:
    raw[rng.random(raw.shape) < rng.random(raw.shape[1])] = np.nan
    raw[:, 7] = np.nan
    prepared, coverage = gaussianise(raw)
    for j in range(0, raw.shape[1], 13):
        np.testing.assert_allclose(prepared[:, j], slow_gaussian_rank(raw[:, j]), rtol=0, atol=1e-12)
    np.testing.assert_array_equal(coverage, (~np.isnan(raw)).sum(axis=0))
    assert (prepared[np.isnan(raw)] == 0).all()
    assert coverage[7] == 0


def test_one_column_equals_a_table_of_one(raw: np.ndarray) -> None:
    column, count = gaussianise(raw[:, 0])
    table, counts = gaussianise(raw[:, :1])
    np.testing.assert_array_equal(column, table[:, 0])
    assert count.shape == ()
    assert int(count) == int(counts[0])


def test_only_the_order_counts(raw: np.ndarray) -> None:
    np.testing.assert_array_equal(gaussianise(raw)[0], gaussianise(3.0 * raw**3 - 7.0)[0])
    np.testing.assert_allclose(gaussianise(raw)[0], -gaussianise(-raw)[0], rtol=0, atol=1e-12)


def test_constant_column_is_zero() -> None:
    assert (gaussianise(np.full(9, 0.3))[0] == 0).all()


@pytest.mark.parametrize("values", [np.array([1.0, np.inf]), np.zeros((2, 2, 2)), np.float64(1.0)])
def test_refuses_infinite_values_and_other_shapes(values: np.ndarray) -> None:
    with pytest.raises(DataError, match="values"):
        gaussianise(values)


def test_standardise_has_mean_zero_and_deviation_one(rng: np.random.Generator) -> None:
    z = standardise(50 + rng.standard_normal(1000))
    assert abs(z.mean()) < 1e-13
    assert abs(z.std() - 1) < 1e-13


@pytest.mark.parametrize("shape", [(0,), (0, 2), (3, 0)])
def test_nothing_to_rank_is_nothing_ranked(shape: tuple[int, ...]) -> None:
    prepared, coverage = gaussianise(np.empty(shape))
    assert prepared.shape == shape
    assert coverage.shape == shape[1:]


@pytest.mark.parametrize(
    "values", [np.full(5, 0.1), 0.1 + np.zeros(30) + 1e-17, np.zeros(4), np.array([]), np.ones((2, 2))]
)
def test_standardise_refuses_what_has_no_spread(values: np.ndarray) -> None:
    with pytest.raises(DataError):
        standardise(values)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_standardise_refuses_what_is_not_known(bad: float) -> None:
    with pytest.raises(DataError, match="finite"):
        standardise([1.0, bad, 2.0])
