r"""True contribution: what a little more stake on each model would have added to the return of one round.

.. math::

    x = \sum_k s_k p_k, \quad \tilde x = (x - \bar x)/\mathrm{std}(x), \quad \alpha = \mathrm{scale} \circ \tilde x, \quad
    w = \mathrm{optimizer}(\alpha), \quad R = w'r, \qquad
    \mathrm{TC}_k = \frac{1}{B} \sum_b \frac{\partial R}{\partial s_k}\Big|_{\mathrm{mask}\ b} = p_k'g,
    \quad g = \frac{1}{B} \sum_b \frac{\partial R}{\partial x}\Big|_{\mathrm{mask}\ b}

One vector g per round scores every model, staked or not: an owner recomputes a score, or tests a candidate, as p'g. The
optimizer starts from an empty book and without a turnover limit; costs stay. Because the score is standardised, the
stake-weighted sum over the kept models is 0 mask by mask: TC says how to move stakes, it does not add up to the return.

References
----------
Oliver (2022), True Contribution Details, Numerai forum.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from engine.masks import masked_sums, weighted_sum
from engine.metamodel import check_stakes
from engine.problem import Problem, aligned
from engine.transforms import gaussianise, standardise
from risk import DataError
from risk.checks import BoolArray, FloatArray, check_array, check_labels, freeze

if TYPE_CHECKING:
    import torch

    Optimizer = Callable[[torch.Tensor], torch.Tensor]

__all__ = ["Contribution", "MaskGradients", "mask_gradients", "true_contribution"]

CHUNK = 8
"""Masks solved in one call: often enough for a progress bar, rarely enough that the call itself costs nothing."""

FEW_DIRECTIONS = 30
"""Below so many free directions a book hardly answers to its models, and a round's scores are flagged."""

IntArray = npt.NDArray[np.int64]
Progress = Callable[[int, int], None]


@dataclass(frozen=True, eq=False)
class MaskGradients:
    """Derivative of the return with respect to the stake-weighted sum, mask by mask.

    Attributes
    ----------
    gradients : ndarray of shape (B, N)
        g_b = dR/dx at mask b.
    returns : ndarray of shape (B,)
        R at mask b, over the scoring horizon.
    kept : ndarray of bool, shape (B, M)
        Which models each mask keeps.
    redrawn : int
        Masks drawn again because they kept no stake, or only stakes that cancel.
    """

    gradients: FloatArray
    returns: FloatArray
    kept: BoolArray
    redrawn: int


@dataclass(frozen=True, eq=False)
class Contribution:
    """True contribution of every model in one round.

    Attributes
    ----------
    scores : DataFrame
        Row per model, sorted: ``true_contribution`` (return over the scoring horizon per unit of stake share),
        ``mask_standard_error``, ``stake`` (share of the stake in use), ``coverage`` (assets), ``reason`` (why a model has no
        score, then NaN; else empty).
    assets : tuple of str, length N
    gradient : ndarray of shape (N,)
        g: any model's score is the product with its gaussianised predictions.
    portfolio_return : float
        w'r at full stakes, over the scoring horizon.
    mask_return : float
        Mean of w'r over the masks.
    free_directions : ndarray of int, shape (B,)
        In how many directions each mask's book could still answer to its models.
    flagged : bool
        Whether the median of `free_directions` is below 30.
    derivative_residual : float
        Largest relative miss of the derivative's identity over masks; see `OptimizerLayer`.
    options : mapping
        Everything the scores depend on beside the data.
    """

    scores: pd.DataFrame
    assets: tuple[str, ...]
    gradient: FloatArray
    portfolio_return: float
    mask_return: float
    free_directions: IntArray
    flagged: bool
    derivative_residual: float
    options: Mapping[str, Any]


def true_contribution(
    predictions: pd.DataFrame | npt.ArrayLike,
    stakes: pd.Series[float],
    problem: Problem,
    forward_returns: npt.ArrayLike | pd.Series[float],
    *,
    alpha_scale: npt.ArrayLike,
    masks: int = 100,
    keep_probability: float = 0.5,
    seed: int = 0,
    backend: str = "cvxpylayers",
    progress: Progress | None = None,
) -> Contribution:
    """Return the true contribution of every model in one round.

    Parameters
    ----------
    predictions : DataFrame of assets x models, or array_like of shape (N, M)
        A DataFrame holds raw predictions over `problem.model.assets`, in their order; NaN where a model does not cover an
        asset (0 after gaussianising, counted in ``coverage``). An array holds columns that are gaussianised already, in the
        order of `stakes`.
    stakes : Series by model
        In any unit, >= 0. A model of the predictions without a row has stake 0, and a score.
    problem : Problem
        Limits, risk model, risk aversion and costs. Its alpha, holdings and turnover limit are not used.
    forward_returns : array_like or Series of shape (N,)
        Realised simple return over the scoring horizon; the horizon is the caller's.
    alpha_scale : float or array_like of shape (N,)
        alpha = alpha_scale * standardised meta model, per year; see `engine.metamodel.alpha_scale`.
    masks : int
        B, stake-dropout masks.
    keep_probability : float
        With which each model's stake is kept; the kept ones are not rescaled.
    seed : int
        Of the masks. Whether a mask keeps a model depends on seed, model and mask number alone.
    backend : str
        Of `OptimizerLayer`.
    progress : callable, optional
        Called with masks done and masks in all.

    Raises
    ------
    DataError
        If an index is another, a return is not known, no usable model has a stake, or an option is out of its range.
    SolverFailure
        If a book or a derivative is not proven.

    Examples
    --------
    >>> from engine import Limits
    >>> from risk import FactorModel
    >>> assets = ["A", "B", "C", "D"]
    >>> model = FactorModel(assets, ["market"], np.ones((4, 1)), [[0.04]], [0.09] * 4)
    >>> net = Limits(["net"], np.ones((4, 1)), [0.0], [0.0])
    >>> problem = Problem([0.0] * 4, model, net, 0.5, 2.0, None, 15.0)
    >>> predictions = pd.DataFrame({"good": [1.0, 2, 3, 4], "poor": [4.0, 3, 1, 2]}, index=assets)
    >>> stakes, returns = pd.Series({"good": 3.0, "poor": 1.0}), [-0.02, 0.0, 0.01, 0.03]
    >>> tc = true_contribution(predictions, stakes, problem, returns, alpha_scale=0.03, masks=16)
    >>> tc.scores["true_contribution"].round(4).to_dict()
    {'good': 0.0011, 'poor': -0.0002}
    """
    from engine.layer import OptimizerLayer

    assets = problem.model.assets
    r = _known_returns(forward_returns, assets)
    scale = aligned("alpha_scale", alpha_scale, assets)
    _check_options(masks, keep_probability)
    names, prepared, coverage, reasons = _prepare(predictions, stakes, assets)
    staked = check_stakes(stakes)
    # Sorted, and sums over staked models alone: the same last bits in any order and company.
    usable = sorted((j for j, reason in enumerate(reasons) if not reason), key=lambda j: names[j])
    stake = np.array([staked.get(names[j], 0.0) for j in usable])
    if not (stake > 0).any():
        raise DataError(
            f"no stake on any of the {len(usable)} models with usable predictions (of {len(names)} in all): the round has no "
            "meta model to differentiate. Leave the round out, or give positive stakes."
        )
    shares, models = stake / stake[stake > 0].sum(), [names[j] for j in usable]
    P = np.ascontiguousarray(prepared[:, usable])
    alpha_at_full_stakes = scale * standardise(weighted_sum(P, shares))
    layer = OptimizerLayer(
        problem.replace(alpha=alpha_at_full_stakes, holdings=None, turnover_limit=None), backend, jobs=1
    )
    free: list[IntArray] = []
    residuals: list[float] = []

    def optimizer(alpha: torch.Tensor) -> torch.Tensor:
        weights: torch.Tensor = layer(alpha)
        free.append(layer.free_directions)
        return weights

    def report(done: int, total: int) -> None:
        residuals.append(float(layer.derivative_residual.max()))
        if progress is not None:
            progress(done, total)

    at_masks = mask_gradients(
        P,
        shares,
        models,
        r,
        optimizer,
        scale=scale,
        masks=masks,
        keep_probability=keep_probability,
        seed=seed,
        progress=report,
    )
    full = layer.solve(alpha_at_full_stakes[None], differentiable=False).weights[0]
    by_mask = at_masks.gradients @ P  # (B, M)
    error = by_mask.std(axis=0, ddof=1) / math.sqrt(masks) if masks > 1 else np.full(len(models), np.nan)
    scores = pd.DataFrame(
        {
            "true_contribution": np.nan,
            "mask_standard_error": np.nan,
            "stake": 0.0,
            "coverage": coverage,
            "reason": reasons,
        },
        index=pd.Index(names, name="model"),
    )
    g = at_masks.gradients.mean(axis=0)
    scores.loc[models, "true_contribution"] = P.T @ g
    scores.loc[models, "mask_standard_error"] = error
    scores.loc[models, "stake"] = shares
    free_directions = np.concatenate(free)
    return Contribution(
        scores=scores.sort_index(),
        assets=assets,
        gradient=freeze(g),
        portfolio_return=float(full @ r),
        mask_return=float(at_masks.returns.mean()),
        free_directions=freeze(free_directions),
        flagged=bool(np.median(free_directions) < FEW_DIRECTIONS),
        derivative_residual=max(residuals),
        options={
            "masks": masks,
            "keep_probability": keep_probability,
            "seed": seed,
            "redrawn": at_masks.redrawn,
            "backend": backend,
            "normalisation": "mean 0, standard deviation 1 (divisor N)",
            "alpha_scale_median": float(np.median(scale)),
            "start": "empty book, no turnover limit, costs kept",
            "unit": "return over the scoring horizon per unit of stake share; horizon as in forward_returns",
        },
    )


def mask_gradients(
    prepared: FloatArray,
    shares: FloatArray,
    models: Sequence[str],
    forward_returns: FloatArray,
    optimizer: Optimizer,
    *,
    scale: npt.ArrayLike = 1.0,
    masks: int = 100,
    keep_probability: float = 0.5,
    seed: int = 0,
    progress: Progress | None = None,
) -> MaskGradients:
    """Return dR/dx at every stake-dropout mask, through any differentiable optimizer.

    Parameters
    ----------
    prepared : ndarray of shape (N, M)
        p_k by column.
    shares : ndarray of shape (M,)
    models : sequence of str, length M
        Identities that key the masks.
    forward_returns : ndarray of shape (N,)
    optimizer : callable
        From alphas, a tensor of shape (B, N), to weights of the same shape, differentiable.
    scale : float or array_like of shape (N,)
    masks, keep_probability, seed, progress
        As in `true_contribution`.
    """
    import torch

    x, kept, redrawn = masked_sums(prepared, shares, models, masks, keep_probability, seed)
    r, factor = torch.from_numpy(np.array(forward_returns)), torch.as_tensor(np.array(scale, dtype=np.float64))
    gradients, returns = np.empty(x.shape), np.empty(masks)
    for start in range(0, masks, CHUNK):
        stop = min(start + CHUNK, masks)
        part = torch.from_numpy(x[start:stop]).requires_grad_()
        centred = part - part.mean(dim=1, keepdim=True)
        standard = centred / centred.square().mean(dim=1, keepdim=True).sqrt()
        R = optimizer(factor * standard) @ r
        # Each return depends on its own row alone, so the sum's gradient holds every mask's.
        R.sum().backward()  # type: ignore[no-untyped-call]
        assert part.grad is not None
        gradients[start:stop], returns[start:stop] = part.grad.numpy(), R.detach().numpy()
        if progress is not None:
            progress(stop, masks)
    return MaskGradients(freeze(gradients), freeze(returns), freeze(kept), redrawn)


def _prepare(
    predictions: pd.DataFrame | npt.ArrayLike, stakes: pd.Series[float], assets: tuple[str, ...]
) -> tuple[list[str], FloatArray, IntArray, list[str]]:
    """Return all models, their gaussianised predictions (N, M), coverage, and why one of them cannot be scored."""
    staked = list(check_stakes(stakes))
    if not isinstance(predictions, pd.DataFrame):
        P = check_array("predictions", predictions, (len(assets), len(staked)))
        return (
            staked,
            P,
            np.full(len(staked), len(assets)),
            ["constant" if np.ptp(column) == 0 else "" for column in P.T],
        )
    if tuple(str(a) for a in predictions.index) != assets:
        raise DataError(
            "`predictions` must have the problem's assets as its index, in their order; reindex it at the edge."
        )
    if predictions.shape[1] == 0:
        raise DataError("`predictions` holds no model for this round; leave the round out.")
    columns = list(check_labels("models of `predictions`", predictions.columns))
    raw = predictions.to_numpy(dtype=np.float64)
    infinite = np.isinf(raw).any(axis=0)
    prepared, coverage = gaussianise(np.where(infinite, np.nan, raw))
    reasons = []
    for j, column in enumerate(prepared.T):
        reason = "no value" if coverage[j] == 0 else "constant" if np.ptp(column) == 0 else ""
        reasons.append("infinite value" if infinite[j] else reason)
    absent = [name for name in staked if name not in set(columns)]
    P = np.hstack([prepared, np.zeros((len(assets), len(absent)))])
    counts = np.concatenate([coverage, np.zeros(len(absent), dtype=np.int64)])
    return columns + absent, P, counts, reasons + ["no prediction"] * len(absent)


def _known_returns(forward_returns: npt.ArrayLike | pd.Series[float], assets: tuple[str, ...]) -> FloatArray:
    values = np.asarray(forward_returns, dtype=np.float64)
    if values.shape == (len(assets),) and not np.isfinite(values).all():
        i = int(np.argmin(np.isfinite(values)))
        raise DataError(
            f"`forward_returns` of {assets[i]!r} is {values[i]}: a return that is not known cannot score a model. Compound a "
            "leaver to its last price and delisting return, or leave the asset out of the round's universe."
        )
    return aligned("forward_returns", forward_returns, assets)


def _check_options(masks: int, keep_probability: float) -> None:
    if masks < 1:
        raise DataError(f"`masks` must be at least 1; got {masks}.")
    if not 0 < keep_probability <= 1:
        raise DataError(f"`keep_probability` must be above 0 and at most 1; got {keep_probability}.")
