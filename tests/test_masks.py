"""Masks: a pure function of seed, model, mask and draw, and as good as independent coins."""

from __future__ import annotations

import numpy as np
import pytest

from engine.masks import GAMMA, _kept, _mix, draw_masks, keep_table
from engine.prepared import Prepared
from risk import DataError

MODELS = [f"m{k}" for k in range(300)]


def check_like_coins(table: np.ndarray, probability: float) -> None:
    """Rates of rows and columns, and correlations between columns, as independent draws would have them (5 sigma)."""
    b, m = table.shape
    spread = probability * (1 - probability)
    assert abs(table.mean() - probability) < 5 * np.sqrt(spread / table.size)
    for counts, n in ((table.sum(axis=0), b), (table.sum(axis=1), m)):
        chi = ((counts - n * probability) ** 2 / (n * spread)).sum()
        assert abs(chi - len(counts)) < 5 * np.sqrt(2 * len(counts))
    for z in (table, table.T):
        n, columns = z.shape
        z = (z - probability) / np.sqrt(spread)
        products = (z.T @ z)[np.triu_indices(columns, 1)] / np.sqrt(n)  # mean 0, variance 1
        assert np.abs(products).max() < 8  # of tens of thousands, with longer tails the further from one half
        variance = 2 / len(products) + 4 * (1 / spread - 4) / (columns * n)
        assert abs(np.mean(products**2) - 1) < 5 * np.sqrt(variance)


@pytest.mark.parametrize("probability", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("draw", [0, 1])
def test_masks_are_like_independent_coins(probability: float, draw: int) -> None:
    check_like_coins(keep_table(3, MODELS, 400, probability, draw=draw), probability)


def test_seeds_and_draws_are_like_independent_coins() -> None:
    """One model's masks at 200 neighbouring seeds, and at 200 draws."""
    check_like_coins(np.column_stack([keep_table(seed, ["m1"], 400, 0.5)[:, 0] for seed in range(200)]), 0.5)
    check_like_coins(np.column_stack([keep_table(0, ["m1"], 400, 0.5, draw=d)[:, 0] for d in range(200)]), 0.5)


def test_similar_and_strange_names_have_masks_of_their_own() -> None:
    strange = [
        "",
        " ",
        "m",
        "m ",
        "M",
        "m1",
        "m2",
        "m12",
        "1m",
        "\x00",
        "m\x00",
        "é",
        "e\u0301",
        "模型",
        "🦊",
        "\ud800",
        "\udfff",
        "0",
    ]
    table = keep_table(0, strange, 2000, 0.5)
    check_like_coins(table, 0.5)
    assert not (keep_table(1, ["1x"], 64, 0.5) == keep_table(11, ["x"], 64, 0.5)).all()
    assert not (keep_table(-1, ["x"], 64, 0.5) == keep_table(1, ["x"], 64, 0.5)).all()
    assert keep_table(2**80, ["x"], 64, 0.5).any()


def test_an_entry_depends_on_seed_model_mask_and_draw_alone() -> None:
    table = keep_table(5, MODELS, 40, 0.3, draw=2)
    order = np.random.default_rng(0).permutation(len(MODELS))
    np.testing.assert_array_equal(keep_table(5, [MODELS[k] for k in order], 40, 0.3, draw=2), table[:, order])
    np.testing.assert_array_equal(keep_table(5, MODELS[7:9], 25, 0.3, draw=2), table[:25, 7:9])
    assert keep_table(5, [], 3, 0.5).shape == (3, 0)


def test_a_lower_probability_keeps_a_subset() -> None:
    low, high = keep_table(0, MODELS, 50, 0.2), keep_table(0, MODELS, 50, 0.6)
    assert (low <= high).all()
    assert keep_table(0, MODELS, 50, 1.0).all()
    assert not keep_table(0, MODELS, 50, 1e-300).any()


def test_bits_are_those_of_splitmix64() -> None:
    """The first five numbers of the published C program at seed 1234567."""
    bits = _mix(np.uint64(1234567) + np.arange(1, 6, dtype=np.uint64) * GAMMA)
    assert bits.tolist() == [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]


def test_probability_one_keeps_the_largest_hash_as_well() -> None:
    def undo_shift(x: int, shift: int) -> int:
        result = x
        for _ in range(64 // shift):
            result = x ^ (result >> shift)
        return result

    x = undo_shift(2**64 - 1, 31)
    x = undo_shift(x * pow(0x94D049BB133111EB, -1, 2**64) % 2**64, 27)
    x = undo_shift(x * pow(0xBF58476D1CE4E5B9, -1, 2**64) % 2**64, 30)
    key = np.array([(x - int(GAMMA)) % 2**64], dtype=np.uint64)
    assert _mix(key + GAMMA).tolist() == [2**64 - 1]
    assert _kept(key, np.arange(1), 0, 1.0).all()
    assert not _kept(key, np.arange(1), 0, 1 - 2.0**-53).any()


@pytest.mark.parametrize(("masks", "probability", "draw"), [(0, 0.5, 0), (3, 0.0, 0), (3, 1.1, 0), (3, np.nan, 0)])
def test_refuses_options_out_of_range(masks: int, probability: float, draw: int) -> None:
    with pytest.raises(DataError, match=r"masks|probability"):
        keep_table(0, ["a"], masks, probability, draw=draw)
    with pytest.raises(DataError, match="draw"):
        keep_table(0, ["a"], 3, 0.5, draw=-1)


def columns(m: int, dtype: type = np.float64) -> np.ndarray:
    return np.random.default_rng(1).standard_normal((30, m)).astype(dtype)


def test_only_a_mask_without_stake_is_drawn_again() -> None:
    P, s = Prepared(["a", "b", "c"], columns(3)), [0.7, 0.3, 0.0]
    sums, kept, thrown_away = draw_masks(P, s, 60, 0.4, seed=2)
    draws = np.array([keep_table(2, P.models, 60, 0.4, draw=d) for d in range(30)])
    first = draws[:, :, :2].any(axis=2).argmax(axis=0)  # c has no stake: keeping it alone is keeping nothing
    np.testing.assert_array_equal(kept, draws[first, np.arange(60)])
    assert thrown_away == first.sum() > 10
    assert first.max() > 1
    np.testing.assert_allclose(sums, (kept * np.array(s)) @ columns(3).T, rtol=0, atol=1e-14)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_mask_whose_kept_stakes_cancel_is_drawn_again(dtype: type) -> None:
    pair = columns(2)
    values = np.column_stack([pair, -pair.sum(axis=1)]).astype(dtype)  # all three together leave only rounding
    sums, kept, thrown_away = draw_masks(Prepared(["a", "b", "c"], values), [1 / 3] * 3, 64, 0.5, seed=0)
    count = kept.sum(axis=1)
    assert ((count == 1) | (count == 2)).all()
    draws = np.array([keep_table(0, ["a", "b", "c"], 64, 0.5, draw=d).sum(axis=1) for d in range(40)])
    assert thrown_away == ((draws == 1) | (draws == 2)).argmax(axis=0).sum() > 0
    np.testing.assert_allclose(sums, kept @ values.T.astype(np.float64) / 3, rtol=0, atol=3e-7)


@pytest.mark.parametrize(("dtype", "rest"), [(np.float32, 1e-4), (np.float64, 1e-11)])
def test_a_small_spread_that_is_no_rounding_is_kept(dtype: type, rest: float) -> None:
    P = columns(2)
    near = np.column_stack([P[:, 0], -P[:, 0] + rest * P[:, 1]]).astype(dtype)
    _, kept, thrown_away = draw_masks(Prepared(["a", "b"], near), [0.5, 0.5], 5, 1.0, seed=0)
    assert kept.all()
    assert thrown_away == 0


def test_a_hopeless_round_is_refused_with_the_remedy() -> None:
    P = columns(1)
    opposite = Prepared(["a", "b"], np.hstack([P, -P]))
    with pytest.raises(DataError, match=r"mask 0 kept no usable stake in 1000 draws.*1e-09.*Raise it"):
        draw_masks(opposite, [0.5, 0.5], 2, 1e-9, seed=0)
    with pytest.raises(DataError, match=r"in 1 draws.*cancel"):
        draw_masks(opposite, [0.5, 0.5], 2, 1.0, seed=0)
    with pytest.raises(DataError, match="keep_probability"):
        draw_masks(opposite, [0.5, 0.5], 2, 0.0, seed=0)
    with pytest.raises(DataError, match="shares"):
        draw_masks(opposite, [0.5], 2, 0.5, seed=0)


def test_thousands_of_models_are_hashed_once_each(monkeypatch: pytest.MonkeyPatch) -> None:
    import engine.masks

    calls, blake2b = [], engine.masks.blake2b
    monkeypatch.setattr(engine.masks, "blake2b", lambda *a, **k: (calls.append(a), blake2b(*a, **k))[1])
    keep_table(0, MODELS, 100, 0.5)
    assert len(calls) == len(MODELS)
