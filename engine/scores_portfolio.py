r"""Scores of many models as portfolios on one date: alpha, meta portfolio contribution, churn and turnover.

With :math:`S` the gaussianised ranks to the power 1.5, N the neutralisers and v the sample weights:

.. math::

    W = \mathrm{diag}(v)\,(S - N N' \mathrm{diag}(v)\, S), \qquad
    \alpha_k = W_k'(t - \bar t)/n, \qquad
    \mathrm{MPC} = \tfrac1{50}\, \nabla_\sigma \frac{(W_c\,\sigma)'\, t_c}{\lVert W_c\,\sigma \rVert_2}

with c for centred over assets and sigma the shares of the stake. N' W = 0 where N' diag(v) N = 1; the scale of N is its maker's.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr

from engine.scores_correlation import WIDTH, has_spread, signed_power
from risk import DataError
from risk.checks import FloatArray, check_array

__all__ = ["churn", "meta_portfolio_contribution", "neutral_weights", "portfolio_alpha", "tail_churn", "turnover"]

Values = npt.NDArray[Any]

MPC_SCALE = 1 / 50
"""Numerai's factor from gradient to published score, since 2026."""


def neutral_weights(
    gaussian: Values, neutralisers: npt.ArrayLike, sample_weights: npt.ArrayLike, *, normalise: bool = False
) -> FloatArray:
    """Return the neutral weights W of each model, shape (N, M).

    Parameters
    ----------
    gaussian : ndarray of shape (N, M)
        Gaussianised ranks.
    neutralisers : array_like of shape (N, q)
    sample_weights : array_like of shape (N,)
        Each asset's weight, >= 0 (liquidity, residual volatility).
    normalise : bool
        Centre over assets and scale to a gross of 1, as `turnover` compares them.

    Raises
    ------
    DataError
        If shapes differ, or neutralisers or sample weights are not finite, or a sample weight is negative.

    References
    ----------
    Numerai, numerai-tools, ``generate_neutralized_weights``.

    Examples
    --------
    >>> W = neutral_weights(np.array([[-1.0], [0.0], [1.0]]), [[1.0], [0.0], [0.0]], [1.0, 1.0, 1.0])
    >>> W[:, 0].tolist()  # what the neutraliser is exposed to is gone
    [0.0, 0.0, 1.0]
    """
    N, v = _market(gaussian, neutralisers, sample_weights)
    S = signed_power(np.asarray(gaussian, dtype=np.float64))
    W = (S - N @ (N.T @ (v[:, None] * S))) * v[:, None]
    if normalise:
        W = W - W.mean(axis=0)
        gross = np.abs(W).sum(axis=0)
        W = np.divide(W, gross, out=np.full_like(W, np.nan), where=gross > 0)
    return np.asarray(W)


def portfolio_alpha(
    gaussian: Values,
    neutralisers: npt.ArrayLike,
    sample_weights: npt.ArrayLike,
    target: npt.ArrayLike,
    *,
    centre: float | None = None,
) -> FloatArray:
    """Return alpha of each model, shape (M,): its neutral weights times the centred target, per asset.

    Parameters
    ----------
    gaussian, neutralisers, sample_weights
        See `neutral_weights`.
    target : array_like of shape (N,)
    centre : float, optional
        What the target is measured from; its mean unless given.

    Raises
    ------
    DataError
        As `neutral_weights`, and if the target is not finite or has another length.

    References
    ----------
    Numerai, numerai-tools, ``alpha``.

    Examples
    --------
    >>> portfolio_alpha(np.array([[-1.0], [0.0], [1.0]]), [[0.0], [0.0], [0.0]], [1.0, 1.0, 1.0], [0.0, 0.0, 3.0]).tolist()
    [1.0]
    """
    N, v = _market(gaussian, neutralisers, sample_weights)
    t = check_array("target", target, (len(gaussian),))
    t = t - (t.mean() if centre is None else centre)
    result = _transposed_product(gaussian, N, v, t[:, None])[:, 0] / len(t)
    return np.asarray(np.where(has_spread(gaussian), result, np.nan))


def meta_portfolio_contribution(
    gaussian: Values,
    stakes: npt.ArrayLike,
    neutralisers: npt.ArrayLike,
    sample_weights: npt.ArrayLike,
    target: npt.ArrayLike,
) -> FloatArray:
    """Return MPC of each model, shape (M,): what a little more stake on it does to the meta portfolio's score.

    Parameters
    ----------
    gaussian, neutralisers, sample_weights
        See `neutral_weights`.
    stakes : array_like of shape (M,)
        >= 0, in any unit. A model without a stake has a score too.
    target : array_like of shape (N,)

    Returns
    -------
    ndarray of shape (M,)
        Stake-weighted they add up to 0: the meta portfolio is scaled to a norm of 1. NaN throughout where the meta portfolio is 0.

    Raises
    ------
    DataError
        As `portfolio_alpha`, and if a stake is negative, not finite, or none is positive.

    Notes
    -----
    x = W_c sigma;  MPC_k = (W_k't_c - (W_k'x)(x't_c)/(x'x)) / |x| / 50. Only products with W are taken; W itself is never held.

    References
    ----------
    Numerai, numerai-tools, ``meta_portfolio_contribution`` (L2 norm, since 2025-12).

    Examples
    --------
    >>> g = np.array([[-1.0, 1.0], [0.0, -1.0], [1.0, 0.0]])
    >>> score = meta_portfolio_contribution(g, [3.0, 1.0], np.zeros((3, 1)), np.ones(3), [0.0, 0.0, 1.0])
    >>> bool(abs(0.75 * score[0] + 0.25 * score[1]) < 1e-15)
    True
    """
    N, v = _market(gaussian, neutralisers, sample_weights)
    n, m = gaussian.shape
    t = check_array("target", target, (n,))
    t_c = t - t.mean()
    share = check_array("stakes", stakes, (m,))
    if (share < 0).any() or not share.any():
        raise DataError("`stakes` must be >= 0 and one of them positive; without a stake there is no meta portfolio.")
    share = share / share.sum()
    S_share = np.zeros(n)
    for start in range(0, m, WIDTH):
        block = slice(start, start + WIDTH)
        S_share += signed_power(gaussian[:, block]) @ share[block]
    x = (S_share - N @ (N.T @ (v * S_share))) * v
    size = float(np.linalg.norm(x))
    x = x - x.mean()
    norm = float(np.linalg.norm(x))
    if norm <= 1e-12 * size or norm == 0:
        return np.full(m, np.nan)
    gradient = t_c / norm - x * (x @ t_c) / norm**3
    result = _transposed_product(gaussian, N, v, (gradient - gradient.mean())[:, None])[:, 0] * MPC_SCALE
    return np.asarray(np.where(has_spread(gaussian), result, np.nan))


def churn(now: Values, before: Values) -> FloatArray:
    """Return 1 - Spearman's correlation between two dates of each model, shape (M,), from gaussianised ranks.

    Parameters
    ----------
    now, before : ndarray of shape (N, M)
        Gaussianised over the assets of both dates, in the same order.

    Raises
    ------
    DataError
        If the shapes differ.

    Notes
    -----
    Phi of a gaussianised rank is (rank - 0.5)/n again, ties at their average rank.

    References
    ----------
    Numerai, numerai-tools, ``signals.churn``.

    Examples
    --------
    >>> g = np.array([[-1.0, 1.0], [0.0, 0.0], [1.0, -1.0]])
    >>> churn(g, -g).tolist(), churn(g, g).round(12).tolist()
    ([2.0, 2.0], [0.0, 0.0])
    """
    _same(now, before)
    a, b = (ndtr(np.asarray(side, dtype=np.float64)) for side in (now, before))
    a, b = a - a.mean(axis=0), b - b.mean(axis=0)
    top, aa, bb = (np.einsum("ij,ij->j", x, y) for x, y in ((a, b), (a, a), (b, b)))
    seen = has_spread(now) & has_spread(before)
    return np.asarray(
        1 - np.divide(top, np.sqrt(np.where(seen, aa * bb, 1.0)), out=np.full(len(top), np.nan), where=seen)
    )


def tail_churn(now: npt.ArrayLike, before: npt.ArrayLike, count: int) -> float:
    """Return the share of a model's `count` highest and lowest assets that left between two dates.

    Parameters
    ----------
    now, before : array_like of shape (N,)
        The model's predictions of the same assets, in the same order, any scale; NaN where it covers none. Among equal
        predictions the earlier asset is the lower one.

    Returns
    -------
    float
        NaN where a date has fewer than 2 * `count` predictions.

    References
    ----------
    Numerai, numerai-tools, ``signals.churn`` with ``top_bottom``; there NaN counts as the highest prediction, here as none.

    Examples
    --------
    >>> tail_churn([1.0, 2.0, 3.0, 4.0], [2.0, 1.0, 3.0, 4.0], 1)
    0.5
    """
    if count < 1:
        raise DataError(f"`count` must be at least 1 asset at either end; got {count}.")
    ends = []
    for side in (now, before):
        x = np.asarray(side, dtype=np.float64)
        order = np.argsort(x, kind="stable")[: int(np.count_nonzero(~np.isnan(x)))]
        if len(order) < 2 * count:
            return float("nan")
        ends.append((order[:count], order[-count:]))
    (low, high), (low_before, high_before) = ends
    stayed = len(np.intersect1d(low, low_before)) + len(np.intersect1d(high, high_before))
    return 1 - (stayed / count) / 2


def turnover(now: npt.ArrayLike, before: npt.ArrayLike) -> FloatArray:
    """Return half the sum of absolute changes of each model's weights, shape (M,).

    Parameters
    ----------
    now, before : array_like of shape (N, M)
        Weights, as `neutral_weights` with ``normalise=True`` returns them, of the same assets in the same order.

    Raises
    ------
    DataError
        If the shapes differ.

    References
    ----------
    Numerai, numerai-tools, ``signals.turnover``.

    Examples
    --------
    >>> turnover([[0.5], [-0.5]], [[-0.5], [0.5]]).tolist()
    [1.0]
    """
    a, b = np.asarray(now, dtype=np.float64), np.asarray(before, dtype=np.float64)
    _same(a, b)
    return np.asarray(np.abs(a - b).sum(axis=0) / 2)


def _transposed_product(gaussian: Values, N: FloatArray, v: FloatArray, y: FloatArray) -> FloatArray:
    """Return W'y: S'(y_v - diag(v) N N' y_v) with y_v = diag(v) y, a block of models at a time."""
    y_v = v[:, None] * y
    side = y_v - v[:, None] * (N @ (N.T @ y_v))
    parts = [
        signed_power(np.asarray(gaussian[:, start : start + WIDTH], dtype=np.float64)).T @ side
        for start in range(0, gaussian.shape[1], WIDTH)
    ]
    return np.concatenate(parts) if parts else np.empty((0, y.shape[1]))


def _market(
    gaussian: Values, neutralisers: npt.ArrayLike, sample_weights: npt.ArrayLike
) -> tuple[FloatArray, FloatArray]:
    table = np.asarray(neutralisers, dtype=np.float64)
    if gaussian.ndim != 2 or table.ndim != 2:
        raise DataError(
            f"`gaussian` must have shape (N, M) and `neutralisers` (N, q); got {gaussian.shape} and {table.shape}."
        )
    N = check_array("neutralisers", table, (len(gaussian), table.shape[1]))
    v = check_array("sample_weights", sample_weights, (len(gaussian),))
    if (v < 0).any():
        raise DataError(f"`sample_weights` must be >= 0; got {v.min()}. Give 0 for an asset that does not count.")
    return N, v


def _same(now: Values, before: Values) -> None:
    if now.ndim != 2 or now.shape != before.shape:
        raise DataError(f"`now` and `before` must have the same shape (N, M); got {now.shape} and {before.shape}.")
