"""Prepared predictions: the same products from any source, on any number of threads, in little memory."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from threadpoolctl import threadpool_limits

from engine.prepared import Prepared, _in_order
from engine.sources import BLOCK
from engine.transforms import gaussianise
from risk import DataError

N, M, B = BLOCK + 90, 2 * BLOCK + 70, 7
MODELS = [f"m{k:04d}" for k in range(M)]
ASSETS = [f"A{i:03d}" for i in range(N)]

Chunk = tuple[list[str], np.ndarray]


@pytest.fixture(scope="module")
def values() -> np.ndarray:
    raw = np.random.default_rng(4).standard_normal((N, M))
    raw[:, 5] = 1.0  # constant: no model of it
    return gaussianise(raw)[0]


@pytest.fixture(scope="module")
def shares() -> np.ndarray:
    """A third of the models without a stake; those with one are in the first and the last place."""
    rng = np.random.default_rng(5)
    s = rng.random(M) * (rng.random(M) < 2 / 3)
    s[5], s[[0, -1]] = 0.0, 0.5
    return s / s.sum()


@pytest.fixture(scope="module")
def kept() -> np.ndarray:
    return np.random.default_rng(6).random((B, M)) < 0.5


@pytest.fixture(scope="module")
def vectors() -> np.ndarray:
    return np.random.default_rng(7).standard_normal((B, N)) * 1e-4


def cut(values: np.ndarray, widths: list[int]) -> list[Chunk]:
    edges = np.cumsum([0, *widths])
    assert edges[-1] == M
    return [(MODELS[a:b], values[:, a:b]) for a, b in pairwise(edges)]


def sources(values: np.ndarray, folder: Path) -> dict[str, object]:
    """The same numbers in every kind of source."""
    np.save(folder / "c.npy", np.ascontiguousarray(values))
    np.save(folder / "f.npy", np.asfortranarray(values))
    return {
        "C": np.ascontiguousarray(values),
        "F": np.asfortranarray(values),
        "C on disk": np.load(folder / "c.npy", mmap_mode="r"),
        "F on disk": np.load(folder / "f.npy", mmap_mode="r"),
        "strided": np.repeat(np.ascontiguousarray(values), 2, axis=1)[:, ::2],
        "reversed": np.ascontiguousarray(values[::-1, ::-1])[::-1, ::-1],
        "single models": cut(values, [1] * M),
        "chunks of rows": cut(np.ascontiguousarray(values), [M]),
        "uneven chunks": cut(np.ascontiguousarray(values), [M - 300, 40, 1, 259]),
        "chunks of columns": cut(np.asfortranarray(values), [BLOCK, 3, M - BLOCK - 3]),
    }


def products(P: Prepared, shares: np.ndarray, kept: np.ndarray, vectors: np.ndarray) -> tuple[np.ndarray, ...]:
    return P.combine(shares, kept), P.project(vectors), P.combine(shares, kept[:1]), P.project(vectors[:1])


def assert_same_bits(a: tuple[np.ndarray, ...], b: tuple[np.ndarray, ...]) -> None:
    for one, other in zip(a, b, strict=True):
        np.testing.assert_array_equal(one, other, strict=True)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_every_source_gives_both_products(
    values: np.ndarray, shares: np.ndarray, kept: np.ndarray, vectors: np.ndarray, dtype: type, tmp_path: Path
) -> None:
    held = values.astype(dtype)
    exact = held.astype(np.float64)
    terms = kept * shares
    tolerance = 20 * float(np.finfo(dtype).eps)
    for name, source in sources(held, tmp_path).items():
        P = Prepared(MODELS, source)  # type: ignore[arg-type]
        assert P.shape == (N, M)
        assert P.dtype == dtype
        x, scores, x0, scores0 = products(P, shares, kept, vectors)
        for got, expected, size in (
            (x, terms @ exact.T, terms @ np.abs(exact).T),
            (x0, terms[:1] @ exact.T, terms[:1] @ np.abs(exact).T),
            (scores, vectors @ exact, np.abs(vectors) @ np.abs(exact)),
            (scores0, vectors[:1] @ exact, np.abs(vectors[:1]) @ np.abs(exact)),
        ):
            assert got.dtype == np.float64, name
            assert got.shape == expected.shape, name
            assert (np.abs(got - expected) <= tolerance * size).all(), name


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_threads_change_no_bit(
    values: np.ndarray, shares: np.ndarray, kept: np.ndarray, vectors: np.ndarray, dtype: type, tmp_path: Path
) -> None:
    for name, source in sources(values.astype(dtype), tmp_path).items():
        one = products(Prepared(MODELS, source, jobs=1), shares, kept, vectors)  # type: ignore[arg-type]
        for jobs in (2, 5):
            with threadpool_limits(2):  # BLAS's own threads do not count either
                other = products(Prepared(MODELS, source, jobs=jobs), shares, kept, vectors)  # type: ignore[arg-type]
            assert_same_bits(one, other)
        assert name


def test_disk_and_chunks_change_no_bit(
    values: np.ndarray, shares: np.ndarray, kept: np.ndarray, vectors: np.ndarray, tmp_path: Path
) -> None:
    every = sources(values.astype(np.float32), tmp_path)
    results = {
        name: products(Prepared(MODELS, source), shares, kept, vectors)  # type: ignore[arg-type]
        for name, source in every.items()
    }
    assert_same_bits(results["C on disk"], results["C"])
    for name in ("F on disk", "single models", "chunks of rows", "uneven chunks", "chunks of columns"):
        assert_same_bits(results[name], results["F"])


@pytest.mark.parametrize("order", ["C", "F"])
def test_models_without_stake_take_no_part(
    values: np.ndarray, shares: np.ndarray, kept: np.ndarray, order: str
) -> None:
    held = np.asarray(values, dtype=np.float32, order=order)  # type: ignore[call-overload]
    staked = np.flatnonzero(shares)
    alone = Prepared([MODELS[k] for k in staked], np.asarray(held[:, staked], order=order))  # type: ignore[call-overload]
    x = Prepared(MODELS, held).combine(shares, kept)
    np.testing.assert_array_equal(x, alone.combine(shares[staked], kept[:, staked]))
    assert (Prepared(MODELS, held).combine(0 * shares, kept) == 0).all()


def test_order_of_models_costs_rounding_only(
    values: np.ndarray, shares: np.ndarray, kept: np.ndarray, vectors: np.ndarray
) -> None:
    order = np.random.default_rng(8).permutation(M)
    held = values.astype(np.float32)
    P, Q = Prepared(MODELS, held), Prepared([MODELS[k] for k in order], held[:, order])
    x = P.combine(shares, kept)
    np.testing.assert_allclose(Q.combine(shares[order], kept[:, order]), x, rtol=0, atol=1e-6 * np.abs(x).max())
    scores = P.project(vectors)
    np.testing.assert_allclose(Q.project(vectors), scores[:, order], rtol=0, atol=1e-6 * np.abs(scores).max())


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 5), st.integers(0, 2**32 - 1), st.booleans())
def test_combine_and_project_are_transposes(n: int, m: int, b: int, seed: int, by_rows: bool) -> None:
    """sum_b g_b'x_b = sum_bk kept_bk s_k p_k'g_b."""
    rng = np.random.default_rng(seed)
    values = np.asarray(rng.standard_normal((n, m)), order="C" if by_rows else "F")
    values[:, np.ptp(values, axis=0) == 0] = 0.0
    P = Prepared([str(k) for k in range(m)], values)
    s = rng.random(m) * np.array([not reason for reason in P.reasons])
    kept, g = rng.random((b, m)) < 0.5, rng.standard_normal((b, n))
    left, right = (g * P.combine(s, kept)).sum(), (kept * s * P.project(g)).sum()
    assert left == pytest.approx(right, abs=1e-12 * (1 + m * n * b))


@pytest.mark.parametrize("power", [-900, -200, 0, 200, 900])
def test_any_unit_of_shares_and_vectors_keeps_every_bit(
    values: np.ndarray, shares: np.ndarray, kept: np.ndarray, vectors: np.ndarray, power: int
) -> None:
    P = Prepared(MODELS, values.astype(np.float32))
    unit = 2.0**power
    np.testing.assert_array_equal(P.combine(unit * shares, kept), unit * P.combine(shares, kept))
    mixed = vectors * np.where(np.arange(B) % 2, unit, 1.0)[:, None]
    scores = P.project(mixed)
    np.testing.assert_array_equal(scores[1::2], unit * P.project(vectors)[1::2])
    np.testing.assert_array_equal(scores[::2], P.project(vectors)[::2])


def test_no_mask_and_no_vector_give_no_row(values: np.ndarray, shares: np.ndarray) -> None:
    P = Prepared(MODELS, values)
    assert P.combine(shares, np.zeros((0, M), dtype=bool)).shape == (0, N)
    assert P.project(np.zeros((0, N))).shape == (0, M)


def test_an_array_is_neither_copied_nor_changed() -> None:
    n = m = 1500
    held = np.random.default_rng(0).standard_normal((n, m), dtype=np.float32)
    before, s, masks = held.copy(), np.full(m, 1 / m), np.ones((10, m), dtype=bool)
    for array in (held, held.T):
        tracemalloc.start()
        P = Prepared([str(k) for k in range(m)], array)
        P.combine(s, masks)
        P.project(np.ones((10, n)))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 0.2 * held.nbytes
    np.testing.assert_array_equal(held, before)


class Generated:
    """Chunks that exist only while they are read."""

    def __init__(self, n: int, m: int, width: int) -> None:
        self.n, self.m, self.width, self.readings = n, m, width, 0

    def __iter__(self) -> Iterator[Chunk]:
        self.readings += 1
        for start in range(0, self.m, self.width):
            block = np.random.default_rng(start).standard_normal((self.n, self.width), dtype=np.float32)
            yield [str(k) for k in range(start, start + self.width)], block


def test_more_models_than_are_held_in_memory() -> None:
    n, m = 400, 20_000
    source = Generated(n, m, 100)
    tracemalloc.start()
    P = Prepared([str(k) for k in range(m)], source)
    x = P.combine(np.full(m, 1 / m), np.ones((2, m), dtype=bool))
    scores = P.project(np.ones((2, n)))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 0.2 * 4 * n * m
    expected = sum(block.sum(axis=1, dtype=np.float64) for _, block in source) / m
    np.testing.assert_allclose(x[0], expected, rtol=0, atol=1e-8)
    np.testing.assert_array_equal(scores[0], scores[1])
    assert source.readings == 5  # a glance at the first chunk, the check, two products, and the line above


def test_reasons_and_coverage(values: np.ndarray) -> None:
    P = Prepared(MODELS, values)
    assert [name for name, reason in zip(P.models, P.reasons, strict=True) if reason == "constant"] == [MODELS[5]]
    assert P.coverage is None
    counts = np.full(M, N)
    P = Prepared(MODELS, values, coverage=counts, reasons={MODELS[5]: "no value", MODELS[9]: "late"})
    assert (P.reasons[5], P.reasons[9], P.reasons[10]) == ("no value", "late", "")
    assert P.coverage is not None
    np.testing.assert_array_equal(P.coverage, counts)
    with pytest.raises(ValueError, match="read-only"):
        P.coverage[0] = 1
    for bad in (counts[:-1], counts + 1, counts - 0.5, -counts):
        with pytest.raises(DataError, match="coverage"):
            Prepared(MODELS, values, coverage=bad)
    with pytest.raises(DataError, match=r"reasons.*stranger"):
        Prepared(MODELS, values, reasons={"stranger": "late"})


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("order", ["C", "F"])
def test_a_value_that_is_not_finite_names_model_and_remedy(values: np.ndarray, bad: float, order: str) -> None:
    broken = np.array(values, dtype=np.float32, order=order)  # type: ignore[call-overload]
    broken[N - 1, M - 3] = broken[3, M - 2] = bad
    for source in (broken, cut(broken, [100, M - 100])):
        with pytest.raises(DataError, match=rf"{MODELS[M - 3]}.*2 such models.*[Gg]aussianise"):
            Prepared(MODELS, source)


def test_refuses_what_is_no_matrix_of_these_models(values: np.ndarray) -> None:
    with pytest.raises(DataError, match=rf"shape \(N, {M}\)"):
        Prepared(MODELS, values[:, :-1])
    with pytest.raises(DataError, match="shape"):
        Prepared(MODELS, values[:0])
    with pytest.raises(DataError, match="shape"):
        Prepared(MODELS, values[0])
    with pytest.raises(DataError, match=r"m0001.*more than once"):
        Prepared(["m0001", *MODELS[1:]], values)
    with pytest.raises(DataError, match=r"int64.*astype"):
        Prepared(MODELS, values.astype(np.int64))
    with pytest.raises(DataError, match=">f4"):
        Prepared(MODELS, values.astype(">f4"))
    with pytest.raises(DataError, match="masked"):
        Prepared(MODELS, np.ma.masked_less(values, -1.0))
    with pytest.raises(DataError, match="from_frame"):
        Prepared(MODELS, pd.DataFrame(values, columns=MODELS))  # type: ignore[arg-type]
    with pytest.raises(DataError, match="jobs"):
        Prepared(MODELS, values, jobs=0)


def test_refuses_chunks_that_do_not_follow_the_models(values: np.ndarray) -> None:
    chunks = cut(values, [200, 200, M - 400])
    with pytest.raises(DataError, match="read again; got generator"):
        Prepared(MODELS, (chunk for chunk in chunks))
    with pytest.raises(DataError, match="read again; got int"):
        Prepared(MODELS, 3)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="no chunk"):
        Prepared(MODELS, [])
    with pytest.raises(DataError, match="pair"):
        Prepared(MODELS, [values])  # type: ignore[list-item]
    with pytest.raises(DataError, match=r"yields models m0400.*has m0200"):
        Prepared(MODELS, [chunks[0], chunks[2], chunks[1]])
    with pytest.raises(DataError, match=f"ends after 400 of {M} models; 'm0400'"):
        Prepared(MODELS, chunks[:2])
    with pytest.raises(DataError, match="yields models extra"):
        Prepared(MODELS, [*chunks, (["extra"], values[:, :1])])
    with pytest.raises(DataError, match="'m0200' must be float64 of"):
        Prepared(MODELS, [chunks[0], (chunks[1][0], chunks[1][1].astype(np.float32)), chunks[2]])
    with pytest.raises(DataError, match=f"got float64 of {N - 1}"):
        Prepared(MODELS, [chunks[0], (chunks[1][0], chunks[1][1][:-1]), chunks[2]])
    with pytest.raises(DataError, match=r"m0200.*shape \(N, 200\)"):
        Prepared(MODELS, [chunks[0], (chunks[1][0], chunks[1][1][:, :-1]), chunks[2]])


def test_a_source_that_changes_after_the_check_is_found_out(values: np.ndarray, shares: np.ndarray) -> None:
    chunks = cut(values.copy(), [300, M - 300])
    P = Prepared(MODELS, chunks)
    removed = chunks.pop()
    with pytest.raises(DataError, match="ends after 300"):
        P.project(np.ones((1, N)))
    removed[1][0, -1] = np.nan
    chunks.append(removed)
    with pytest.raises(DataError, match="no longer"):
        P.combine(shares, np.ones((1, M), dtype=bool))


def test_refuses_shares_masks_and_vectors_that_do_not_fit(
    values: np.ndarray, shares: np.ndarray, kept: np.ndarray, vectors: np.ndarray
) -> None:
    P = Prepared(MODELS, values)

    def changed(k: int, share: float) -> np.ndarray:
        result = shares.copy()
        result[k] = share
        return result

    with pytest.raises(DataError, match="shares"):
        P.combine(shares[:-1], kept)
    with pytest.raises(DataError, match="shares"):
        P.combine(changed(3, np.nan), kept)
    with pytest.raises(DataError, match=r"m0003.*-0.1"):
        P.combine(changed(3, -0.1), kept)
    with pytest.raises(DataError, match=r"m0005.*constant.*give it 0"):
        P.combine(changed(5, 0.1), kept)
    for bad in (kept[0], kept[:, :-1], kept.astype(float)):
        with pytest.raises(DataError, match="kept"):
            P.combine(shares, bad)
    for wrong in (vectors[0], vectors[:, :-1], np.where(vectors == vectors[2, 3], np.nan, vectors)):
        with pytest.raises(DataError, match="vectors"):
            P.project(wrong)


def raw_table(dtype: type = np.float64) -> pd.DataFrame:
    rng = np.random.default_rng(9)
    raw = rng.standard_normal((N, M)).round(2)
    raw[rng.random(raw.shape) < 0.1] = np.nan
    return pd.DataFrame(raw.astype(dtype), index=ASSETS, columns=MODELS)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("raw_dtype", [np.float32, np.float64])
def test_a_frame_is_gaussianised_column_by_column(dtype: type, raw_dtype: type) -> None:
    table = raw_table(raw_dtype)
    P = Prepared.from_frame(table, ASSETS, dtype=dtype)
    expected, coverage = gaussianise(table.to_numpy())
    assert P.dtype == dtype
    assert P.models == tuple(MODELS)
    assert P.coverage is not None
    np.testing.assert_array_equal(P.coverage, coverage)
    assert set(P.reasons) == {""}
    np.testing.assert_array_equal(
        P.project(np.eye(N)[:20]), expected.astype(dtype)[:20]
    )  # unit vectors read values out
    one = Prepared.from_frame(table, ASSETS, dtype=dtype, jobs=1)
    np.testing.assert_array_equal(one.project(np.ones((3, N))), P.project(np.ones((3, N))))


def test_a_frame_of_columns_of_many_types_is_read_as_numbers() -> None:
    table = raw_table().round(0)
    mixed = table.copy()
    mixed["m0001"] = mixed["m0001"].astype(np.float32)
    mixed["m0002"] = mixed["m0002"].fillna(0.0).astype(np.int64)
    mixed["m0003"] = mixed["m0003"].astype("Float64")
    mixed["m0300"] = mixed["m0300"].astype(object)
    table["m0002"] = table["m0002"].fillna(0.0)
    one, other = (Prepared.from_frame(frame, ASSETS) for frame in (table, mixed))
    np.testing.assert_array_equal(one.project(np.eye(N)[:9]), other.project(np.eye(N)[:9]))
    np.testing.assert_array_equal(one.coverage, other.coverage)


def test_why_a_model_of_a_frame_cannot_be_used() -> None:
    table = raw_table().assign(m0001=1.0, m0002=np.nan, m0300=np.inf)
    table.loc[ASSETS[3:], "m0400"] = np.nan
    table.loc[ASSETS[0], "m0401"] = -np.inf
    P = Prepared.from_frame(table, ASSETS, staked=["m0000", "absent", "gone"])
    unusable = {name: reason for name, reason in zip(P.models, P.reasons, strict=True) if reason}
    assert unusable == {
        "m0001": "constant",
        "m0002": "no value",
        "m0300": "infinite value",
        "m0401": "infinite value",
        "absent": "no prediction",
        "gone": "no prediction",
    }
    assert P.shape == (N, M + 2)
    assert P.coverage is not None
    counts = dict(zip(P.models, P.coverage.tolist(), strict=True))
    assert [counts[name] for name in ("m0001", "m0002", "m0300", "m0400", "absent")] == [N, 0, 0, 3, 0]
    assert (P.project(np.ones((1, N)))[0, [1, 2, 300, 401, -2, -1]] == 0).all()


def test_refuses_a_frame_it_cannot_read() -> None:
    table = raw_table()
    with pytest.raises(DataError, match="index"):
        Prepared.from_frame(table.iloc[::-1], ASSETS)
    with pytest.raises(DataError, match="no model"):
        Prepared.from_frame(table.iloc[:, :0], ASSETS)
    with pytest.raises(DataError, match=r"m0000.*more than once"):
        Prepared.from_frame(table.rename(columns={"m0001": "m0000"}), ASSETS)
    with pytest.raises(DataError, match=r"m0300.*numbers"):
        Prepared.from_frame(table.assign(m0300="high"), ASSETS)
    with pytest.raises(DataError, match=r"dtype.*int"):
        Prepared.from_frame(table, ASSETS, dtype=int)


def test_work_comes_back_in_order_and_reads_little_ahead() -> None:
    read: list[int] = []

    def items() -> Iterator[int]:
        for k in range(50):
            read.append(k)
            yield k

    for jobs in (1, 2, 4):
        read.clear()
        for k, result in enumerate(_in_order(lambda item: item**2, items(), jobs)):
            assert result == k**2
            assert len(read) <= k + jobs + 1
        assert len(read) == 50


def test_an_error_of_a_thread_reaches_the_caller() -> None:
    def fail(item: int) -> int:
        if item == 7:
            raise DataError("seven")
        return item

    for jobs in (1, 3):
        with pytest.raises(DataError, match="seven"):
            list(_in_order(fail, range(20), jobs))
