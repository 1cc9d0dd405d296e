"""Stake-dropout masks of a round, keyed by model: a score must not depend on the order or the company of models."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b

import numpy as np

from risk import DataError
from risk.checks import BoolArray, FloatArray

__all__ = ["keep", "masked_sums", "weighted_sum"]

REDRAWS = 1000


def keep(seed: int, model: str, mask: int, draw: int, probability: float) -> bool:
    """Return whether a mask keeps a model's stake: a hash of all four against the probability.

    So a model's masks depend neither on the order of models nor on which others there are (but for the rare mask that
    keeps no stake at all and is drawn again).

    Examples
    --------
    >>> [keep(seed=0, model="ridge", mask=b, draw=0, probability=0.5) for b in range(6)]
    [False, False, False, False, True, False]
    """
    digest = blake2b(f"{seed}\x00{mask}\x00{draw}\x00{model}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") < probability * 2.0**64


def masked_sums(
    prepared: FloatArray, shares: FloatArray, models: Sequence[str], masks: int, probability: float, seed: int
) -> tuple[FloatArray, BoolArray, int]:
    """Return x of each mask, (B, N); which models it keeps, (B, M); and how many masks were drawn again."""
    kept = np.zeros((masks, len(models)), dtype=bool)
    sums, redrawn = np.empty((masks, len(prepared))), 0
    for b in range(masks):
        for draw in range(REDRAWS):
            kept[b] = [keep(seed, model, b, draw, probability) for model in models]
            stake = np.where(kept[b], shares, 0.0)
            sums[b] = weighted_sum(prepared, stake)
            # Against what the kept stakes would add up to if they agreed: opposites leave only rounding.
            if stake.any() and sums[b].std() > 1e-12 * float(stake.sum()):
                break
            redrawn += 1
        else:
            raise DataError(
                f"mask {b} kept no usable stake in {REDRAWS} draws with `keep_probability` {probability}; staked models that "
                "cancel, or a probability near 0, leave no meta model. Raise it, or leave the round out."
            )
    return sums, kept, redrawn


def weighted_sum(prepared: FloatArray, stake: FloatArray) -> FloatArray:
    """Return the stake-weighted sum; models without a stake take no part, not even in the rounding."""
    staked = stake > 0
    return np.asarray(np.ascontiguousarray(prepared[:, staked]) @ stake[staked])
