from __future__ import annotations

import tracemalloc

import numpy as np
import pandas as pd
import pytest
from numerai_tools.scoring import gaussian, tie_kept_rank
from scipy.stats import norm

from engine.transforms import BLOCK, gaussianise, standardise
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


def assert_same_bits(a: np.ndarray, b: np.ndarray) -> None:
    assert a.dtype == b.dtype
    np.testing.assert_array_equal(a, b, strict=True)
    np.testing.assert_array_equal(np.signbit(a), np.signbit(b))


@pytest.fixture
def mixed(raw: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Columns with and without ties, gaps in every third, one not covered at all, over several blocks."""
    gaps = (rng.random(raw.shape) < rng.random(raw.shape[1])) & (np.arange(raw.shape[1]) % 3 == 0)
    raw[gaps] = np.nan
    raw[:, 7] = np.nan
    raw[:, 8] = 4.0
    return np.tile(raw, (1, 16))


def test_threads_and_memory_order_change_no_bit(mixed: np.ndarray) -> None:
    assert mixed.size > 2 * BLOCK
    one, coverage = gaussianise(mixed, jobs=1)
    for values, jobs in ((mixed, 2), (mixed, 5), (np.asfortranarray(mixed), 2), (np.repeat(mixed, 2, 1)[:, ::2], 1)):
        other, counts = gaussianise(values, jobs=jobs)
        assert_same_bits(other, one)
        np.testing.assert_array_equal(counts, coverage)


def test_a_column_depends_on_itself_alone(mixed: np.ndarray, rng: np.random.Generator) -> None:
    whole, coverage = gaussianise(mixed)
    order = rng.permutation(mixed.shape[1])[:50]
    part, counts = gaussianise(mixed[:, order])
    assert_same_bits(part, whole[:, order])
    np.testing.assert_array_equal(counts, coverage[order])
    for j in (0, 1, 3, 7, 8):
        assert_same_bits(gaussianise(mixed[:, j])[0], whole[:, j])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_single_precision_is_the_rounded_double_and_half_the_memory(mixed: np.ndarray, dtype: type) -> None:
    values = mixed.astype(dtype)
    double, coverage = gaussianise(values.astype(np.float64))
    single, counts = gaussianise(values, dtype=np.float32)
    assert_same_bits(single, double.astype(np.float32))
    assert_same_bits(gaussianise(values)[0], double)
    np.testing.assert_array_equal(counts, coverage)
    assert 2 * single.nbytes == double.nbytes


def test_input_is_neither_changed_nor_copied_whole(mixed: np.ndarray) -> None:
    values = mixed.astype(np.float32)
    before = values.copy()
    tracemalloc.start()
    prepared, _ = gaussianise(values, dtype=np.float32, jobs=1)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    np.testing.assert_array_equal(values, before)
    assert (
        peak - prepared.nbytes < 12 * BLOCK
    )  # of 2.6 * 4 * BLOCK bytes of input; a block's copy, its masks and one column


def test_one_column_equals_a_table_of_one(raw: np.ndarray) -> None:
    column, count = gaussianise(raw[:, 0])
    table, counts = gaussianise(raw[:, :1])
    np.testing.assert_array_equal(column, table[:, 0])
    assert count.shape == ()
    assert int(count) == int(counts[0])


def test_only_the_order_counts(raw: np.ndarray) -> None:
    np.testing.assert_array_equal(gaussianise(raw)[0], gaussianise(3.0 * raw**3 - 7.0)[0])
    np.testing.assert_array_equal(gaussianise(raw)[0], -gaussianise(-raw)[0])


@pytest.mark.parametrize("n", [1, 2, 3, 10])
def test_zeros_of_either_sign_and_neighbouring_numbers_rank_as_they_compare(n: int) -> None:
    values = np.r_[np.zeros(n), -np.zeros(n), np.nextafter(0, 1), np.full(n, np.nan)]
    np.testing.assert_allclose(gaussianise(values)[0], slow_gaussian_rank(values), rtol=0, atol=1e-12)
    assert gaussianise(values)[1] == 2 * n + 1


def test_constant_column_is_zero() -> None:
    assert (gaussianise(np.full(9, 0.3))[0] == 0).all()


@pytest.mark.parametrize("values", [np.array([1.0, np.inf]), np.zeros((2, 2, 2)), np.float64(1.0)])
def test_refuses_infinite_values_and_other_shapes(values: np.ndarray) -> None:
    with pytest.raises(DataError, match="values"):
        gaussianise(values)


@pytest.mark.parametrize("infinity", [np.inf, -np.inf])
def test_an_infinite_value_is_named_by_its_place(mixed: np.ndarray, infinity: float) -> None:
    mixed[[3, 60], [4000, 4700]] = infinity
    for jobs in (1, 2):
        with pytest.raises(DataError, match=rf"got {infinity} in row 3 of column 4000\. Give NaN"):
            gaussianise(mixed, jobs=jobs)


def test_refuses_options_out_of_range() -> None:
    with pytest.raises(DataError, match="jobs"):
        gaussianise([1.0, 2.0], jobs=0)
    with pytest.raises(DataError, match=r"dtype.*float16"):
        gaussianise([1.0, 2.0], dtype=np.float16)  # type: ignore[call-overload]


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
