r"""Scores of many models on one date, from gaussianised predictions: CORR, MMC and their variants.

With :math:`g_k` the gaussianised ranks of model k, t the centred target, :math:`x^{(1.5)} = \mathrm{sign}(x)|x|^{1.5}` and
m the gaussianised meta model:

.. math::

    \mathrm{CORR}_k &= \mathrm{corr}(g_k^{(1.5)},\, t^{(1.5)}) \\
    \mathrm{MMC}_k &= \tfrac1n\, t' (g_k - m\, (m'g_k)/(m'm)), \qquad \text{t times 4 where it lies in [0, 1]}

Here arrays have no gap; `engine.scoring` aligns tables, restricts each model to what it covers and names what is wrong.
Columns are taken in blocks, so the memory beside the predictions is a few MB; single precision stays single.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt
from threadpoolctl import ThreadpoolController

from risk import DataError
from risk.checks import FloatArray, check_array

__all__ = [
    "contribution",
    "correlation",
    "numerai_correlation",
    "signed_power",
]

Values = npt.NDArray[Any]

CONTROLLER = ThreadpoolController()

WIDTH = 256
"""Models scored at a time by one thread."""


def signed_power(values: npt.ArrayLike, power: float = 1.5) -> Values:
    """Return sign(x)|x|^power, in the precision of `values`.

    Examples
    --------
    >>> signed_power([-4.0, 0.0, 4.0]).tolist()
    [-8.0, 0.0, 8.0]
    """
    x = np.asarray(values)
    if power == 1.5:  # one square root instead of a power: several times as fast, and the last bit at most
        return np.asarray(x * np.sqrt(np.abs(x)))
    return np.asarray(np.sign(x) * np.abs(x) ** power)


def numerai_correlation(
    gaussian: Values,
    target: npt.ArrayLike,
    *,
    top_bottom: int | None = None,
    target_power: bool = True,
    centre: float | None = None,
    jobs: int = 2,
) -> FloatArray:
    """Return CORR of each model, shape (M,): correlation of both sides to the power 1.5.

    Parameters
    ----------
    gaussian : ndarray of shape (N, M), float32 or float64
        Gaussianised ranks, as `engine.transforms.gaussianise` returns them.
    target : array_like of shape (N,)
    top_bottom : int, optional
        Score each model on its n lowest and n highest predictions alone; among equal predictions the earlier rows are
        the lower ones.
    target_power : bool
        False where the target is a return, whose tails are heavy as they are.
    centre : float, optional
        What the target is measured from before the power; its mean unless given.
    jobs : int
        Threads. No result depends on it.

    Returns
    -------
    ndarray of shape (M,)
        NaN for a model, or a target, without spread. Where 2 * `top_bottom` exceeds N: NaN throughout.

    Raises
    ------
    DataError
        If shapes differ or the target is not finite.

    References
    ----------
    Numerai, numerai-tools, ``numerai_corr``.

    Examples
    --------
    >>> numerai_correlation(np.array([[-1.0, 1.0], [0.0, 0.0], [1.0, -1.0]]), [0.0, 0.5, 1.0]).round(12).tolist()
    [1.0, -1.0]
    """
    n, m = check_gaussian(gaussian)
    t = check_array("target", target, (n,))
    t = t - (t.mean() if centre is None else centre)
    if target_power:
        t = signed_power(t)
    return in_blocks(lambda block: correlation(signed_power(block), t, top_bottom=top_bottom), gaussian, m, jobs)


def contribution(
    gaussian: Values,
    meta_model: npt.ArrayLike,
    target: npt.ArrayLike,
    *,
    top_bottom: int | None = None,
    jobs: int = 2,
) -> FloatArray:
    """Return MMC of each model, shape (M,), or BMC where `meta_model` is the benchmark's.

    Parameters
    ----------
    gaussian : ndarray of shape (N, M), float32 or float64
    meta_model : array_like of shape (N,)
        Gaussianised ranks of the meta model. A meta model without spread gives NaN.
    target : array_like of shape (N,)
        Multiplied by 4 where every value lies in [0, 1], as Numerai's five bins do.
    top_bottom : int, optional
        Sum over the n lowest and n highest entries of each orthogonalised model alone, divided by 2n.
    jobs : int
        Threads.

    Raises
    ------
    DataError
        If shapes differ, or meta model or target is not finite.

    Notes
    -----
    (1/n) (t - mean t)'(g - m (m'g)/(m'm)): proportional to the derivative of corr(t, m + e g) at e = 0. The meta model is
    not freed of the model's own stake.

    References
    ----------
    Numerai, numerai-tools, ``correlation_contribution``.

    Examples
    --------
    >>> g = np.array([[-1.0, 1.0], [0.0, 0.0], [1.0, -1.0]])
    >>> bool(abs(contribution(g, g[:, 0], [0.0, 0.5, 1.0])).max() < 1e-15)  # the meta model and its opposite add nothing
    True
    """
    n, m = check_gaussian(gaussian)
    market = check_array("meta_model", meta_model, (n,))
    t = _bins(check_array("target", target, (n,)))
    power = float(market @ market)
    if power == 0:
        return np.full(m, np.nan)
    if top_bottom is None:
        sides = np.column_stack([t, market]).astype(gaussian.dtype)
        on_target, on_market = (sides.T @ gaussian).astype(np.float64)
        result = (on_target - (t @ market) * on_market / power) / n
        return np.asarray(np.where(has_spread(gaussian), result, np.nan))
    return in_blocks(
        lambda block: _tail_products(_off(block, market / power, market), t, top_bottom), gaussian, m, jobs
    )


def correlation(values: Values, target: FloatArray, *, top_bottom: int | None = None) -> FloatArray:
    """Return the Pearson correlation of each column of (N, M) with the target (N,); NaN where a side has no spread.

    With `top_bottom`, over the n lowest and n highest entries of each column alone.
    """
    n = len(target)
    if top_bottom is not None:
        return _tail_correlation(values, target, top_bottom)
    t = target - target.mean() if n else target
    norm = float(np.sqrt(t @ t))
    if n == 0 or norm <= 1e-12 * np.sqrt(n) * float(np.abs(target).max()):
        return np.full(values.shape[1], np.nan)
    sums = np.column_stack([t / norm, np.ones(n)]).astype(values.dtype)
    top, total = (sums.T @ values).astype(np.float64)
    squares = squared_norms(values)
    spread = squares - total**2 / n
    seen = spread > 1e-12 * squares
    return np.asarray(np.divide(top, np.sqrt(np.where(seen, spread, 1.0)), out=np.full(len(top), np.nan), where=seen))


def _tail_correlation(values: Values, target: FloatArray, count: int) -> FloatArray:
    if not _fits(count, len(target)):
        return np.full(values.shape[1], np.nan)
    chosen = _tails(values, count)
    x = np.where(chosen, values.astype(np.float64), 0.0)
    n = 2 * count
    t_mean = (target @ chosen) / n
    x = np.where(chosen, x - x.sum(axis=0) / n, 0.0)
    t = np.where(chosen, target[:, None] - t_mean, 0.0)
    top, xx, tt = (np.einsum("ij,ij->j", a, b) for a, b in ((x, t), (x, x), (t, t)))
    floor = 1e-24 * n * max(float(np.abs(target).max(initial=0.0)) ** 2, 1e-300)
    seen = (xx > 0) & (tt > floor)
    return np.asarray(np.divide(top, np.sqrt(np.where(seen, xx * tt, 1.0)), out=np.full(len(top), np.nan), where=seen))


def _tails(values: Values, count: int) -> npt.NDArray[np.bool_]:
    """Return which entries are among each column's `count` lowest or highest; of equal ones the earlier row is lower."""
    n = len(values)
    ordered = np.partition(values, (count - 1, n - count), axis=0)
    low, high = ordered[count - 1], ordered[n - count]
    below, above, at_low, at_high = values < low, values > high, values == low, values == high
    below |= at_low & (np.cumsum(at_low, axis=0) <= count - below.sum(axis=0))
    above |= at_high & (np.cumsum(at_high[::-1], axis=0)[::-1] <= count - above.sum(axis=0))
    return np.asarray(below | above)


def _fits(count: int, n: int) -> bool:
    """Return whether n assets have `count` lowest and as many highest."""
    if count < 1:
        raise DataError(f"`top_bottom` must be at least 1 asset at either end; got {count}.")
    return 2 * count <= n


def _tail_products(values: Values, t: FloatArray, count: int) -> FloatArray:
    """Return sum of t times value over each column's tails, divided by how many there are."""
    if not _fits(count, len(t)):
        return np.full(values.shape[1], np.nan)
    return np.asarray(t @ np.where(_tails(values, count), values, 0.0) / (2 * count))


def _off(block: Values, scaled: FloatArray, market: FloatArray) -> Values:
    """Return the block without its part along the meta model; NaN where a column has no spread."""
    left = block - np.outer(market, scaled @ block)
    left[:, ~has_spread(block)] = np.nan
    return np.asarray(left)


def _bins(target: FloatArray) -> FloatArray:
    """Return the centred target; bins 0, 0.25, ..., 1 become -2, ..., 2 first."""
    t = target * 4 if ((target >= 0) & (target <= 1)).all() else target
    return np.asarray(t - t.mean()) if len(t) else t


def squared_norms(values: Values) -> FloatArray:
    """Return the sum of squares of each column."""
    return np.asarray(np.einsum("ij,ij->j", values, values), dtype=np.float64)


def has_spread(values: Values) -> npt.NDArray[np.bool_]:
    return np.asarray((values != values[:1]).any(axis=0))


def check_gaussian(gaussian: Values) -> tuple[int, int]:
    if gaussian.ndim != 2 or gaussian.dtype not in (np.float32, np.float64):
        raise DataError(
            f"`gaussian` must be float32 or float64 of shape (N, M); got {gaussian.dtype} of {gaussian.shape}."
        )
    return gaussian.shape[0], gaussian.shape[1]


def in_blocks(score: Callable[[Values], FloatArray], values: Values, m: int, jobs: int) -> FloatArray:
    """Return the scores of all columns, a block at a time, the blocks shared by threads."""
    blocks = [values[:, start : start + WIDTH] for start in range(0, m, WIDTH)]
    if not blocks:
        return np.empty(0)
    if jobs == 1 or len(blocks) == 1:
        return np.concatenate([score(block) for block in blocks])
    with CONTROLLER.limit(limits=1), ThreadPoolExecutor(jobs) as pool:  # or products' threads wait for each other's
        return np.concatenate(list(pool.map(score, blocks)))
