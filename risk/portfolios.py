"""Books to judge a risk model by that know nothing of it: random, and by a score (`risk.model_portfolios` has the others).

A book is an array (N,), several are (P, N). Random books are keyed: what an asset weighs in book p depends on the seed, on p
and on the asset's name only, up to the book's own centring and scale, so that neither the order of assets nor the company of
other books matters.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b

import numpy as np
import numpy.typing as npt
from scipy.special import log_ndtr
from scipy.stats import rankdata

from risk.checks import BoolArray, DataError, FloatArray, check_array, check_labels, freeze

__all__ = [
    "keyed_normals",
    "long_short",
    "random_long_only",
    "random_market_neutral",
]


def keyed_normals(names: Sequence[str], books: int, seed: int, *, stream: str = "weights") -> FloatArray:
    """Return standard normals of shape (books, len(names)), each column a function of seed, stream and name only.

    More books continue the columns: the first rows stay as they were.

    Raises
    ------
    DataError
        If a name repeats or there is no name or no book.

    Examples
    --------
    >>> import numpy as np
    >>> both, alone = keyed_normals(["A", "B"], 3, 1), keyed_normals(["B"], 2, 1)
    >>> bool(np.array_equal(both[:2, 1], alone[:, 0]))
    True
    """
    labels = check_labels("names", names)
    if books < 1:
        raise DataError(f"`books` must be at least 1; got {books}.")
    result = np.empty((books, len(labels)))
    for i, label in enumerate(labels):
        key = int.from_bytes(blake2b(f"{seed}|{stream}|{label}".encode(), digest_size=16).digest(), "little")
        result[:, i] = np.random.Generator(np.random.Philox(key=key)).standard_normal(books)
    return freeze(result)


def _held(assets: Sequence[str], books: int, held: int | None, seed: int, least: int) -> BoolArray:
    """Return which assets each book holds: those with the lowest keyed draws."""
    n = len(assets)
    count = n if held is None else held
    if not least <= count <= n:
        raise DataError(f"`held` must lie between {least} and the {n} assets; got {count}.")
    order = np.argsort(keyed_normals(assets, books, seed, stream="choice"), axis=1)
    chosen = np.zeros((books, n), dtype=np.bool_)
    np.put_along_axis(chosen, order[:, :count], True, axis=1)
    return chosen


def random_market_neutral(
    assets: Sequence[str], books: int, *, held: int | None = None, gross: float = 1.0, seed: int = 0
) -> FloatArray:
    """Return random long-short books of net 0, shape (books, N): normals, less their mean over the assets held.

    Parameters
    ----------
    assets : sequence of str, length N
    books : int
    held : int, optional
        Assets in each book, chosen at random; by default all.
    gross : float
        sum abs(w).
    seed : int

    Raises
    ------
    DataError
        If names repeat, `held` is not between 2 and N, or `gross` is not positive.
    """
    chosen = _held(assets, books, held, seed, 2)
    w = np.where(chosen, keyed_normals(assets, books, seed), 0.0)
    w = np.where(chosen, w - (w.sum(axis=1) / chosen.sum(axis=1))[:, None], 0.0)
    return freeze(w * (_check_gross(gross) / np.abs(w).sum(axis=1))[:, None])


def random_long_only(assets: Sequence[str], books: int, *, held: int | None = None, seed: int = 0) -> FloatArray:
    """Return random long books of net 1, shape (books, N), uniform on the simplex of the assets held.

    Parameters and errors as in `random_market_neutral`, with `held` at least 1.
    """
    chosen = _held(assets, books, held, seed, 1)
    w = np.where(chosen, -log_ndtr(keyed_normals(assets, books, seed)), 0.0)
    return freeze(w / w.sum(axis=1)[:, None])


def _check_gross(gross: float) -> float:
    if not (gross > 0 and np.isfinite(gross)):
        raise DataError(f"`gross` must be positive; got {gross!r}.")
    return float(gross)


def long_short(score: npt.ArrayLike, *, share: float = 0.2, gross: float = 1.0) -> FloatArray:
    """Return the book long the best and short the worst assets by a score, equally weighted, net 0.

    Parameters
    ----------
    score : array_like of shape (N,)
        Finite; leave out assets without one.
    share : float
        Share of the assets on each side, at most 0.5; at least one asset.
    gross : float

    Raises
    ------
    DataError
        If an entry is not finite, all are equal, or `share` is not in (0, 0.5].

    Notes
    -----
    Assets tied at the cut share the places that are left, so that the order of assets does not matter.

    Examples
    --------
    >>> long_short([3.0, 1.0, 2.0, 2.0, 0.0, 5.0], share=0.34).tolist()
    [0.25, -0.25, 0.0, 0.0, -0.25, 0.25]
    """
    s = check_array("score", score, np.shape(score))
    if s.ndim != 1 or len(s) < 2 or np.ptp(s) == 0:
        raise DataError(
            f"`score` must have shape (N,), N at least 2, and not be the same for all; got shape {s.shape}."
        )
    if not 0 < share <= 0.5:
        raise DataError(f"`share` must lie in (0, 0.5]; got {share!r}.")
    count = max(1, int(share * len(s) + 1e-9))

    def side(values: FloatArray) -> FloatArray:
        best, worst = rankdata(-values, "min"), rankdata(-values, "max")
        return np.asarray(np.clip((count - best + 1) / (worst - best + 1), 0.0, 1.0))

    w = side(s) - side(-s)
    return freeze(w * (_check_gross(gross) / np.abs(w).sum()))
