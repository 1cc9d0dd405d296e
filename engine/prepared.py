r"""Prepared predictions P (N, M) of thousands of models, in memory or not, and the two products that true contribution takes.

.. math::

    x_b = \sum_k \mathrm{kept}_{bk}\, s_k\, p_k, \qquad \mathrm{score}_{bk} = p_k' g_b

P is read once per product, in blocks of fixed size along its memory. A block's product runs on one BLAS thread in P's own
precision, blocks are added in their order in float64, and threads share the blocks: so no bit of a result depends on how many
threads there are.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import pandas as pd
from threadpoolctl import ThreadpoolController

from engine.sources import BLOCK, ArraySource, Chunks, ChunkSource, IntArray, Piece, Source, Values
from engine.transforms import gaussianise
from risk import DataError
from risk.checks import BoolArray, FloatArray, check_array, check_labels, freeze

__all__ = ["Prepared"]

CONTROLLER = ThreadpoolController()

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True, eq=False, init=False)
class Prepared:
    """Gaussianised predictions of M models over N assets, which may be larger than memory.

    Parameters
    ----------
    models : sequence of str, length M
    values : ndarray or memmap of shape (N, M), or an iterable of chunks
        p_k by column, float32 or float64, in any memory order; it is neither copied nor changed. A chunk is a pair of models,
        the next m of `models`, and their values, (N, m), an array of its own. The iterable is read anew for every product: a
        list, or an object with ``__iter__`` that reads files, but no generator.
    coverage : array_like of int, shape (M,), optional
        Assets that each model covers, where known.
    reasons : mapping of str to str, optional
        Models that are known not to be usable, and why.
    jobs : int
        Threads that share the blocks. No result depends on it.

    Attributes
    ----------
    models : tuple of str, length M
    shape : tuple of int
        (N, M).
    coverage : ndarray of int, shape (M,), or None
    reasons : tuple of str, length M
        Why a model cannot be used: as given, or ``constant``; empty where it can.

    Raises
    ------
    DataError
        If models repeat, shapes or types disagree, or a value is not finite. All values are read once to know.

    Examples
    --------
    >>> P = Prepared(["up", "down", "flat"], np.array([[1.0, -1.0, 0.0], [0.0, 0.0, 0.0], [-1.0, 1.0, 0.0]]))
    >>> P.reasons
    ('', '', 'constant')
    >>> P.combine([0.75, 0.25, 0.0], [[True, True, True], [False, True, True]]).tolist()
    [[0.5, 0.0, -0.5], [-0.25, 0.0, 0.25]]
    >>> P.project([[0.03, 0.02, -0.01]]).round(6).tolist()
    [[0.04, -0.04, 0.0]]

    A reader of another kind of file is a class that yields its chunks, here one ``.npy`` file per model:

    >>> import tempfile, pathlib
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> for name, column in [("up", [1.0, 0.0, -1.0]), ("down", [-1.0, 0.0, 1.0])]:
    ...     np.save(folder / f"{name}.npy", np.array(column, dtype=np.float32))
    >>> class OneFileEach:
    ...     def __iter__(self):
    ...         for name in ("up", "down"):
    ...             yield [name], np.load(folder / f"{name}.npy")[:, None]
    >>> Prepared(["up", "down"], OneFileEach()).project([[0.03, 0.02, -0.01]]).round(6).tolist()
    [[0.04, -0.04]]
    """

    models: tuple[str, ...]
    shape: tuple[int, int]
    coverage: IntArray | None
    reasons: tuple[str, ...]
    jobs: int
    _source: Source

    def __init__(
        self,
        models: Sequence[str],
        values: Values | Chunks,
        *,
        coverage: npt.ArrayLike | None = None,
        reasons: Mapping[str, str] | None = None,
        jobs: int = 2,
    ) -> None:
        names, known = check_labels("models", models), dict(reasons or {})
        if jobs < 1:
            raise DataError(f"`jobs` must be at least 1 thread; got {jobs}.")
        if not set(known) <= set(names):
            raise DataError(f"`reasons` names {min(set(known) - set(names))!r}, which is none of the models.")
        source: Source = ArraySource(values, names) if isinstance(values, np.ndarray) else ChunkSource(values, names)
        object.__setattr__(self, "models", names)
        object.__setattr__(self, "shape", (source.assets, len(names)))
        object.__setattr__(self, "coverage", _counts(coverage, self.shape))
        object.__setattr__(self, "jobs", jobs)
        object.__setattr__(self, "_source", source)
        constant = self._find_constant()
        found = (known.get(name, "constant" if flat else "") for name, flat in zip(names, constant, strict=True))
        object.__setattr__(self, "reasons", tuple(found))

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type in which P is kept and multiplied: float32 or float64."""
        return self._source.dtype

    @classmethod
    def from_frame(
        cls,
        predictions: pd.DataFrame,
        assets: Sequence[str],
        *,
        staked: Sequence[str] = (),
        dtype: type[Any] = np.float32,
        jobs: int = 2,
    ) -> Prepared:
        """Return raw predictions gaussianised, with their coverage and why a model cannot be used.

        Parameters
        ----------
        predictions : DataFrame of assets x models
            Any scale; NaN where a model does not cover an asset.
        assets : sequence of str, length N
            Which `predictions` must have as its index, in this order.
        staked : sequence of str
            Models with a stake: those without a column become models that no asset is known of.
        dtype : type
            ``np.float32`` or ``np.float64``, in which predictions are kept and multiplied.
        jobs : int
            Threads. No result depends on it.

        Raises
        ------
        DataError
            If the index is another, there is no model, a name repeats, or a column holds no numbers.

        Notes
        -----
        Reasons are ``no value``, ``infinite value``, ``constant`` and ``no prediction`` (staked, but not in the table).

        Examples
        --------
        >>> table = pd.DataFrame({"good": [3.0, 1.0, 2.0], "empty": [float("nan")] * 3}, index=["A", "B", "C"])
        >>> P = Prepared.from_frame(table, ["A", "B", "C"], staked=["good", "absent"])
        >>> dict(zip(P.models, P.reasons)), P.coverage.tolist()
        ({'good': '', 'empty': 'no value', 'absent': 'no prediction'}, [3, 0, 0])
        """
        if tuple(str(a) for a in predictions.index) != tuple(assets):
            raise DataError(
                "`predictions` must have the problem's assets as its index, in their order; reindex it at the edge."
            )
        if predictions.shape[1] == 0:
            raise DataError("`predictions` holds no model for this round; leave the round out.")
        columns = check_labels("models of `predictions`", predictions.columns)
        present = set(columns)
        absent = [name for name in staked if name not in present]
        values = np.zeros((len(assets), len(columns) + len(absent)), dtype=dtype, order="F")
        coverage = np.zeros(values.shape[1], dtype=np.int64)
        reasons = dict.fromkeys(absent, "no prediction")
        for start in range(0, len(columns), BLOCK):
            block = slice(start, min(start + BLOCK, len(columns)))
            raw = _numbers(predictions.iloc[:, block])
            infinite = np.isinf(raw).any(axis=0)
            if infinite.any():
                raw = np.where(infinite, np.nan, raw)
            values[:, block], coverage[block] = gaussianise(raw, dtype=dtype, jobs=jobs)
            reasons |= {columns[start + j]: "no value" for j in np.flatnonzero(coverage[block] == 0)}
            reasons |= {columns[start + j]: "infinite value" for j in np.flatnonzero(infinite)}
        return cls([*columns, *absent], values, coverage=coverage, reasons=reasons, jobs=jobs)

    def combine(self, shares: npt.ArrayLike, kept: npt.ArrayLike) -> FloatArray:
        """Return x_b = sum_k kept_bk s_k p_k of each mask, shape (B, N).

        Parameters
        ----------
        shares : array_like of shape (M,)
            s_k >= 0; models with 0 take no part, not even in the rounding.
        kept : array_like of bool, shape (B, M)

        Raises
        ------
        DataError
            If a shape is another, a share is negative or not finite, or one is given to a model that cannot be used.
        """
        s = self._check_shares(shares)
        masks = np.asarray(kept)
        if masks.dtype != np.bool_ or masks.ndim != 2 or masks.shape[1] != len(s):
            raise DataError(f"`kept` must be bool of shape (B, {len(s)}); got {masks.dtype} of shape {masks.shape}.")
        staked = np.flatnonzero(s)
        used, scale = self._in_own_precision(s[None, staked])
        left = (masks if len(staked) == len(s) else masks[:, staked]) * used

        def term(piece: Piece) -> tuple[slice, Values]:
            return piece.rows, left[:, piece.models] @ piece.matrix().T

        return self._added(term, staked, (len(left), self.shape[0]), scale)

    def project(self, vectors: npt.ArrayLike) -> FloatArray:
        """Return p_k'g_b of every model and vector, shape (B, M).

        Parameters
        ----------
        vectors : array_like of shape (B, N)
            g_b by row.

        Raises
        ------
        DataError
            If the shape is another or an entry is not finite.
        """
        given = np.asarray(vectors)
        if given.ndim != 2:
            raise DataError(f"`vectors` must have shape (B, {self.shape[0]}), one by row; got {given.shape}.")
        shape = (len(given), self.shape[0])
        # As it is where it will do: fresh pages for a copy take a tenth of the time of the product.
        fits = given.dtype == np.float64 and given.shape == shape and bool(np.isfinite(given).all())
        left, scale = self._in_own_precision(given if fits else check_array("vectors", given, shape))

        def term(piece: Piece) -> tuple[slice, Values]:
            return piece.models, left[:, piece.rows] @ piece.matrix()

        return self._added(term, np.arange(self.shape[1]), (len(left), self.shape[1]), scale)

    def _added(
        self,
        term: Callable[[Piece], tuple[slice, Values]],
        models: IntArray,
        shape: tuple[int, int],
        scale: FloatArray,
    ) -> FloatArray:
        """Return scale times the terms of all pieces, each added to its columns, in the order of the pieces."""
        total = np.zeros(shape)
        with CONTROLLER.limit(limits=1):
            for place, part in _in_order(term, self._source.pieces(models), self.jobs):
                total[:, place] += part
        total *= scale
        if not np.isfinite(total).all():
            raise DataError(
                "a product is not finite: `values` no longer are what they were when they were checked, or are too large for "
                f"{self.dtype}. Give gaussianised predictions from a source that does not change."
            )
        return total

    def _in_own_precision(self, left: FloatArray) -> tuple[Values, FloatArray]:
        """Return rows of size 1 in the predictions' type, and the power of two of each, (B, 1): float32 has a short range."""
        size = np.maximum(left.max(axis=1, initial=0.0, keepdims=True), -left.min(axis=1, initial=0.0, keepdims=True))
        scale = np.ldexp(1.0, np.clip(np.frexp(size)[1], -1000, 1000))  # 1/scale is exact as well
        own = np.multiply(left, 1 / scale, out=np.empty(left.shape, self.dtype), casting="same_kind")
        return own, scale

    def _check_shares(self, shares: npt.ArrayLike) -> FloatArray:
        s = check_array("shares", shares, (self.shape[1],))
        if (s < 0).any():
            k = int(np.argmin(s))
            raise DataError(f"`shares` of model {self.models[k]!r} is {s[k]}; give 0 for a model that takes no part.")
        idle = [k for k, reason in enumerate(self.reasons) if reason and s[k]]
        if idle:
            k = idle[0]
            raise DataError(
                f"`shares` of model {self.models[k]!r} is {s[k]}, but it cannot be used ({self.reasons[k]}): "
                "give it 0 and share the stake among the others."
            )
        return s

    def _find_constant(self) -> BoolArray:
        """Return which models say the same of every asset, (M,), having read every value."""
        low, high = np.full(self.shape[1], np.inf), np.full(self.shape[1], -np.inf)

        def bounds(piece: Piece) -> tuple[slice, Values, Values]:
            values = piece.matrix()
            return piece.models, values.min(axis=0), values.max(axis=0)

        for models, least, most in _in_order(bounds, self._source.pieces(np.arange(self.shape[1])), self.jobs):
            low[models], high[models] = np.minimum(low[models], least), np.maximum(high[models], most)  # NaN stays NaN
        bad = ~(np.isfinite(low) & np.isfinite(high))
        if bad.any():
            raise DataError(
                f"`values` of model {self.models[int(np.argmax(bad))]!r} are not all finite ({int(bad.sum())} such models in "
                "all). Gaussianise raw predictions first: gaussianise(values) sets to 0 what a model does not cover."
            )
        return np.asarray(low == high)


def _counts(coverage: npt.ArrayLike | None, shape: tuple[int, int]) -> IntArray | None:
    if coverage is None:
        return None
    counts = check_array("coverage", coverage, (shape[1],))
    if ((counts < 0) | (counts > shape[0]) | (counts != np.floor(counts))).any():
        raise DataError(f"`coverage` must be whole numbers from 0 to {shape[0]}, the assets each model covers.")
    return freeze(counts.astype(np.int64))


def _numbers(table: pd.DataFrame) -> Values:
    """Return a few columns as float32 where all of them are, else as float64."""
    single = all(dtype == np.float32 for dtype in table.dtypes)
    try:
        return table.to_numpy(dtype=np.float32 if single else np.float64)
    except (TypeError, ValueError) as error:
        text = next(
            (c for c, dtype in table.dtypes.items() if not pd.api.types.is_numeric_dtype(dtype)), table.columns[0]
        )
        raise DataError(f"`predictions` of model {text!r} must be numbers; {error}.") from error


def _in_order(work: Callable[[Item], Result], items: Iterable[Item], jobs: int) -> Iterator[Result]:
    """Yield the work on each item, in their order, done by `jobs` threads that run at most `jobs` items ahead."""
    if jobs == 1:
        yield from map(work, items)
        return
    with ThreadPoolExecutor(jobs) as pool:
        ahead: deque[Future[Result]] = deque()
        for item in items:
            ahead.append(pool.submit(work, item))
            if len(ahead) > jobs:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()
