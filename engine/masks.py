r"""Stake-dropout masks of a round, keyed by model: a score must not depend on the order or the company of models.

.. math::

    \mathrm{kept}_{bk} = [\,\mathrm{mix}(\mathrm{key}_k + \gamma\,(1 + b + 2^{32} d)) < 2^{64}\,\mathrm{probability}\,]

with key_k a hash of (seed, model id), b the mask's number and d how often it was drawn before; all arithmetic is modulo 2^64.
gamma and mix are those of SplitMix64, so every model owns a random sequence, and its entries can be had in any order.

References
----------
Steele, Lea, Flood (2014), Fast splittable pseudorandom number generators.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from hashlib import blake2b

import numpy as np
import numpy.typing as npt

from engine.prepared import Prepared
from risk import DataError
from risk.checks import BoolArray, FloatArray, check_array

__all__ = ["draw_masks", "keep_table"]

REDRAWS = 1000
ROUNDING = {np.dtype(np.float32): 1e-5, np.dtype(np.float64): 1e-12}
"""What is left of predictions that cancel, at most, as a share of what they would add up to if they agreed."""

GAMMA = np.uint64(0x9E3779B97F4A7C15)
"""2^64 over the golden ratio, made odd: its multiples spread over all 64-bit numbers and never repeat."""

Bits = npt.NDArray[np.uint64]
IntArray = npt.NDArray[np.int64]


def keep_table(seed: int, models: Sequence[str], masks: int, probability: float, *, draw: int = 0) -> BoolArray:
    """Return which models each mask keeps, shape (B, M).

    Parameters
    ----------
    seed : int
    models : sequence of str, length M
    masks : int
        B.
    probability : float
        With which a mask keeps a model, each independently of all others.
    draw : int
        How often the masks were drawn before; see `draw_masks`.

    Raises
    ------
    DataError
        If an option is out of its range.

    Notes
    -----
    An entry depends on seed, model, mask number and draw alone. So a model's masks depend neither on the order of models nor
    on which others there are (but for the rare mask that keeps no usable stake and is drawn again), and a lower probability
    keeps a subset.

    Examples
    --------
    >>> keep_table(0, ["ridge", "boosted"], masks=6, probability=0.5).astype(int).T.tolist()
    [[0, 1, 0, 0, 1, 1], [0, 0, 1, 0, 1, 0]]
    """
    if not 0 <= draw < REDRAWS:
        raise DataError(f"`draw` must be 0 to {REDRAWS - 1}; got {draw}.")
    _check_options(masks, probability)
    return _kept(_keys(seed, models), np.arange(masks), draw, probability)


def draw_masks(
    prepared: Prepared, shares: npt.ArrayLike, masks: int, probability: float, seed: int
) -> tuple[FloatArray, BoolArray, int]:
    """Return x of each mask, (B, N); which models it keeps, (B, M); and how many draws of a mask had to be thrown away.

    Parameters
    ----------
    prepared : Prepared
        p_k of M models over N assets.
    shares : array_like of shape (M,)
        s_k >= 0.
    masks, probability, seed
        As in `keep_table`.

    Raises
    ------
    DataError
        If an option or a share is out of its range, or a mask keeps no usable stake however often it is drawn.

    Notes
    -----
    A mask that keeps no stake, or only stakes on predictions that cancel, ranks nothing: it alone is drawn again.
    """
    s = check_array("shares", shares, (len(prepared.models),))
    _check_options(masks, probability)
    keys, again, thrown_away = _keys(seed, prepared.models), np.arange(masks), 0
    kept, sums = np.empty((masks, len(s)), dtype=bool), np.empty((masks, prepared.shape[0]))
    draws = REDRAWS if probability < 1 else 1  # with probability 1 every draw is the same
    for draw in range(draws):
        kept[again] = _kept(keys, again, draw, probability)
        total = kept[again] @ s
        staked, total = again[total > 0], total[total > 0]
        if len(staked):
            x = prepared.combine(s, kept[staked])
            usable = x.std(axis=1) > ROUNDING[prepared.dtype] * total
            sums[staked] = x
            again = np.setdiff1d(again, staked[usable])
        if not len(again):
            return sums, kept, thrown_away
        thrown_away += len(again)
    raise DataError(
        f"mask {again[0]} kept no usable stake in {draws} draws with `keep_probability` {probability}; staked models that "
        "cancel, or a probability near 0, leave no meta model. Raise it, or leave the round out."
    )


def _check_options(masks: int, probability: float) -> None:
    if not 1 <= masks <= 2**32:
        raise DataError(f"`masks` must be 1 to 2^32; got {masks}.")
    if not 0 < probability <= 1:
        raise DataError(f"`keep_probability` must be above 0 and at most 1; got {probability}.")


def _keys(seed: int, models: Sequence[str]) -> Bits:
    """Return a 64-bit key of each model, (M,)."""
    # The zero byte ends the seed, so no seed runs into a name. Any str has these bytes, one with a lone surrogate too.
    texts = (f"{seed}\x00{model}".encode(errors="surrogatepass") for model in models)
    return np.frombuffer(b"".join(blake2b(text, digest_size=8).digest() for text in texts), dtype="<u8")


def _kept(keys: Bits, masks: IntArray, draw: int, probability: float) -> BoolArray:
    """Return which models (M,) the masks of these numbers (B,) keep, (B, M)."""
    counter = masks.astype(np.uint64) + np.uint64((draw << 32) + 1)
    # Compared as whole numbers: as floats the largest of them would round to 2^64 and miss probability 1.
    largest = math.ceil(probability * 2.0**64) - 1
    return np.asarray(_mix(keys + (counter * GAMMA)[:, None]) <= np.uint64(largest))


def _mix(x: Bits) -> Bits:
    """Return the bits of x, stirred in place: SplitMix64's finaliser, one to one."""
    spare = np.empty_like(x)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        x ^= np.right_shift(x, np.uint64(shift), out=spare)
        x *= np.uint64(factor)
    x ^= np.right_shift(x, np.uint64(31), out=spare)
    return x
