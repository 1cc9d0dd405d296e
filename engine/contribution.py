r"""True contribution: what a little more stake on each model would have added to the return of one round.

.. math::

    x = \sum_k s_k p_k, \quad \tilde x = (x - \bar x)/\mathrm{std}(x), \quad \alpha = \mathrm{scale} \circ \tilde x, \quad
    w = \mathrm{optimizer}(\alpha), \quad R = w'r, \qquad
    \mathrm{TC}_k = \frac{1}{B} \sum_b \frac{\partial R}{\partial s_k}\Big|_{\mathrm{mask}\ b} = p_k'g,
    \quad g = \frac{1}{B} \sum_b \frac{\partial R}{\partial x}\Big|_{\mathrm{mask}\ b}

One vector g per round scores every model, staked or not: an owner recomputes a score, or tests a candidate, as p'g. The
optimizer starts from an empty book and without a turnover limit; costs stay. Because the score is standardised, the
stake-weighted sum over the kept models is 0 mask by mask: TC says how to move stakes, it does not add up to the return.

The aligned objective differentiates 252/h R - A cost(w) - borrow(w) - (g0/2) w'Vw in the place of R: where the risk penalty sets the
book, return alone is gained by alpha proportional to V^-1 r, which is no forecast of r.

References
----------
Oliver (2022), True Contribution Details, Numerai forum.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
from pydantic import Field, model_validator

from engine.mandate import Positive, Spec
from engine.mask_books import CvxpylayersBooks, MaskBook, MaskBooks, Slope, StructuredBooks
from engine.masks import draw_masks
from engine.metamodel import check_stakes
from engine.prepared import Prepared
from engine.problem import Problem, aligned
from risk import DataError
from risk.checks import BoolArray, FloatArray, freeze

__all__ = ["Contribution", "ScoreRule", "true_contribution"]

FEW_DIRECTIONS = 30
"""Below so many free directions a book hardly answers to its models, and a round's scores are flagged."""

TRADING_DAYS = 252

IntArray = npt.NDArray[np.int64]
Progress = Callable[[int, int], None]


class ScoreRule(Spec):
    """How a round's return becomes a score. Its inventor published none of this: it is a choice, and written into every result."""

    objective: Literal["return", "aligned"] = "return"
    """What is differentiated: w'r over the horizon, or what the fund maximises at realised returns, per year."""
    power: Positive = 1.0
    """x~ becomes sign(x~) |x~|^power, standardised again; 1.5 leans on the strongest views."""
    horizon_days: Positive | None = None
    """Trading days that the forward returns span."""
    lag_days: float | None = Field(default=None, ge=0)
    """Trading days between the predictions and the first of them."""
    score_scale: Positive = 1.0
    """Published score per unit of derivative."""

    @model_validator(mode="after")
    def _horizon_for_aligned(self) -> ScoreRule:
        if self.objective == "aligned" and self.horizon_days is None:
            raise ValueError("objective 'aligned' needs `horizon_days`: the return is annualised by 252 / horizon_days")
        return self


@dataclass(frozen=True, eq=False)
class Contribution:
    """True contribution of every model in one round.

    Attributes
    ----------
    scores : DataFrame
        Row per model, sorted: ``true_contribution`` (in the rule's unit),
        ``mask_standard_error``, ``stake`` (share of the stake in use), ``coverage`` (assets), ``reason`` (why a model has no
        score, then NaN; else empty).
    assets : tuple of str, length N
    gradient : ndarray of shape (N,)
        g: any model's score is the product with its gaussianised predictions.
    portfolio_return : float
        w'r at full stakes, over the scoring horizon.
    mask_gradients : ndarray of shape (B, N)
        g_b of each mask; their mean is `gradient`.
    kept : ndarray of bool, shape (B, M)
        Which models each mask kept, in the order of `models`.
    models : tuple of str, length M
    mask_return : float
        Mean of w'r over the masks.
    free_directions : ndarray of int, shape (B,)
        In how many directions each mask's book could still answer to its models.
    flagged : bool
        Whether the median of `free_directions` is below 30.
    derivative_residual : float
        Largest relative miss of S (gamma V + A cost'') S = S over masks.
    fallbacks : int
        Masks whose book needed another solver or start than the first.
    options : mapping
        Everything the scores depend on beside the data.
    """

    scores: pd.DataFrame
    assets: tuple[str, ...]
    gradient: FloatArray
    portfolio_return: float
    mask_return: float
    mask_gradients: FloatArray
    kept: BoolArray
    models: tuple[str, ...]
    free_directions: IntArray
    flagged: bool
    derivative_residual: float
    fallbacks: int
    options: Mapping[str, Any]


def true_contribution(
    predictions: pd.DataFrame | Prepared | npt.NDArray[Any],
    stakes: pd.Series[float],
    problem: Problem,
    forward_returns: npt.ArrayLike | pd.Series[float],
    *,
    alpha_scale: npt.ArrayLike,
    masks: int = 100,
    keep_probability: float = 0.5,
    seed: int = 0,
    rule: ScoreRule | None = None,
    precision: Literal["float32", "float64"] = "float32",
    backend: Literal["structured", "cvxpylayers"] = "structured",
    jobs: int = 2,
    progress: Progress | None = None,
) -> Contribution:
    """Return the true contribution of every model in one round.

    Parameters
    ----------
    predictions : DataFrame of assets x models, Prepared, or ndarray of shape (N, M)
        A DataFrame holds raw predictions over `problem.model.assets`, in their order; NaN where a model does not cover an
        asset (0 after gaussianising, counted in ``coverage``). `Prepared` and an array hold what is gaussianised already; an array,
        which may be a memory map, in the order of `stakes`.
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
    rule : ScoreRule, optional
        Objective, power, scale, and the horizon and lag that are recorded.
    precision : str
        In which a DataFrame's predictions are kept and multiplied; sums are float64 in any case.
    backend : str
        ``structured``, or ``cvxpylayers`` for comparison.
    jobs : int
        Threads. No bit of the result depends on it.
    progress : callable, optional
        Called with masks done and masks in all.

    Raises
    ------
    DataError
        If shapes or assets disagree, a forward return is not known, no usable model has a stake, or an option is out of range.
    SolverFailure, InfeasibleMandate
        If a mask's book cannot be proven.

    Notes
    -----
    A model without a usable prediction has no score, and its stake takes no part; ``reason`` says why.

    Examples
    --------
    >>> from engine import Limits
    >>> from risk import FactorModel
    >>> assets = ["A", "B", "C", "D"]
    >>> model = FactorModel(assets, ["market"], np.ones((4, 1)), [[0.04]], [0.09, 0.09, 0.09, 0.09])
    >>> net = Limits(["net"], np.ones((4, 1)), [0.0], [0.0])
    >>> problem = Problem(np.zeros(4), model, net, 0.5, gross_limit=1.0, volatility_limit=None, risk_aversion=2.0)
    >>> predictions = pd.DataFrame({"good": [1.0, 2.0, 3.0, 4.0], "poor": [2.0, 1.0, 4.0, 3.0]}, index=assets)
    >>> stakes, returns = pd.Series({"good": 3.0, "poor": 1.0}), [-0.02, 0.0, 0.01, 0.03]
    >>> tc = true_contribution(predictions, stakes, problem, returns, alpha_scale=0.03, masks=16)
    >>> tc.scores["true_contribution"].round(4).to_dict()
    {'good': 0.0142, 'poor': -0.0013}
    """
    assets, rule = problem.model.assets, ScoreRule() if rule is None else rule
    if backend not in BACKENDS:
        raise DataError(f"unknown backend {backend!r}; available: {', '.join(sorted(BACKENDS))}.")
    if precision not in ("float32", "float64"):
        raise DataError(f"`precision` must be float32 or float64; got {precision!r}.")
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer):
        raise DataError(f"`seed` must be a whole number; got {seed!r}.")
    r = _known_returns(forward_returns, assets)
    scale = aligned("alpha_scale", alpha_scale, assets)
    if (scale < 0).any() or not scale.any():
        i = int(np.argmin(scale))
        raise DataError(
            f"`alpha_scale` of {assets[i]!r} is {scale[i]:.4g}; it turns a score into annual alpha and must not be negative, nor 0 "
            "for every asset. Reverse a model's predictions instead."
        )
    prepared = _prepared(predictions, stakes, assets, precision, jobs)
    shares = _shares(prepared, stakes)

    x, kept, redrawn = draw_masks(prepared, shares, masks, keep_probability, seed)
    full = prepared.combine(shares, np.ones((1, len(shares)), dtype=bool))
    signal = _Signal(np.vstack([full, x]), rule.power)
    alphas = scale * signal.values
    empty = problem.replace(alpha=alphas[0], holdings=None, turnover_limit=None)
    found: list[MaskBook] = []
    for book in BACKENDS[backend](empty, jobs).solve(alphas, _slope(rule, empty, r)):
        found.append(book)
        if progress is not None and len(found) > 1:
            progress(len(found) - 1, masks)
    by_mask = rule.score_scale * signal.pull_back(scale * np.array([book.gradient for book in found]))[1:]
    g = by_mask.mean(axis=0)
    by_model = prepared.project(np.vstack([g, by_mask]))
    books, returns = found[1:], np.array([book.weights for book in found]) @ r
    free = np.array([book.free_directions for book in books])
    return Contribution(
        scores=_scores(prepared, shares, by_model[0], by_model[1:]),
        assets=assets,
        gradient=freeze(g),
        portfolio_return=float(returns[0]),
        mask_return=float(returns[1:].mean()),
        mask_gradients=freeze(by_mask),
        kept=freeze(kept),
        models=prepared.models,
        free_directions=freeze(free),
        flagged=bool(np.median(free) < FEW_DIRECTIONS),
        derivative_residual=max(book.miss for book in books),
        fallbacks=sum(bool(book.fallback) for book in found),
        options={
            "masks": masks,
            "keep_probability": keep_probability,
            "seed": seed,
            "redrawn": redrawn,
            "backend": backend,
            "precision": prepared.dtype.name,
            "normalisation": "mean 0, standard deviation 1 (divisor N)",
            **rule.model_dump(),
            "alpha_scale_median": float(np.median(scale)),
            "start": "empty book, no turnover limit, costs kept",
            "unit": "return over the scoring horizon per unit of stake share"
            if rule.objective == "return"
            else "annual return less cost and risk penalty per unit of stake share",
        },
    )


BACKENDS: dict[str, Callable[[Problem, int], MaskBooks]] = {
    "structured": StructuredBooks,
    "cvxpylayers": lambda problem, _jobs: CvxpylayersBooks(problem),
}


class _Signal:
    """Signals x (B, N) made scores of mean 0 and standard deviation 1, raised to a power and standardised again."""

    def __init__(self, x: FloatArray, power: float) -> None:
        self.power = power
        self._first, self._spread = _standardised(x)
        self.values = self._first
        if power != 1.0:
            self.values, self._second_spread = _standardised(np.sign(self._first) * np.abs(self._first) ** power)

    def pull_back(self, gradient: FloatArray) -> FloatArray:
        """Return dR/dx from dR/dvalues, (B, N)."""
        g = gradient
        if self.power != 1.0:
            g = _standardised_back(self.values, self._second_spread, g)
            g = g * self.power * np.abs(self._first) ** (self.power - 1)
        return _standardised_back(self._first, self._spread, g)


def _standardised(x: FloatArray) -> tuple[FloatArray, FloatArray]:
    centred = x - x.mean(axis=1, keepdims=True)
    spread = np.sqrt(np.mean(centred**2, axis=1, keepdims=True))
    return centred / spread, spread


def _standardised_back(y: FloatArray, spread: FloatArray, g: FloatArray) -> FloatArray:
    result: FloatArray = (g - g.mean(axis=1, keepdims=True) - y * np.mean(g * y, axis=1, keepdims=True)) / spread
    return result


def _slope(rule: ScoreRule, problem: Problem, r: FloatArray) -> Slope:
    """Return the derivative in w of what the rule scores."""
    if rule.objective == "return":
        return lambda _: r
    assert rule.horizon_days is not None
    yearly, costs = r * (TRADING_DAYS / rule.horizon_days), problem.costs

    def slope(w: FloatArray) -> FloatArray:
        value = yearly - problem.risk_aversion * problem.model.covariance_times(w)
        if costs is not None:
            marginal = costs.linear + 1.5 * costs.impact * np.sqrt(np.abs(w))
            value = value - costs.annualisation * np.sign(w) * marginal + costs.borrow * (w < 0)
        return value

    return slope


def _prepared(
    predictions: pd.DataFrame | Prepared | npt.NDArray[Any],
    stakes: pd.Series[float],
    assets: tuple[str, ...],
    precision: str,
    jobs: int,
) -> Prepared:
    """Return the predictions of all models, staked or not."""
    staked = list(check_stakes(stakes))
    if isinstance(predictions, pd.DataFrame):
        return Prepared.from_frame(predictions, assets, staked=staked, dtype=np.dtype(precision).type, jobs=jobs)
    if not isinstance(predictions, Prepared):
        if np.shape(predictions) != (len(assets), len(staked)):
            raise DataError(
                f"`predictions` must have shape ({len(assets)}, {len(staked)}), a column for each row of `stakes`; got "
                f"{np.shape(predictions)}."
            )
        return Prepared(staked, predictions, jobs=jobs)
    if predictions.shape[0] != len(assets):
        raise DataError(
            f"`predictions` must cover {len(assets)} assets, in the problem's order; got {predictions.shape[0]}."
        )
    unknown = set(staked) - set(predictions.models)
    if unknown:
        raise DataError(
            f"`stakes` names {min(unknown)!r}, which is none of the prepared models; leave it out, or prepare it from the raw "
            "table, which lists it as having no prediction."
        )
    return predictions


def _shares(prepared: Prepared, stakes: pd.Series[float]) -> FloatArray:
    """Return each model's share of the stake on usable models, (M,)."""
    usable = np.array([not reason for reason in prepared.reasons])
    known = check_stakes(stakes)
    stake = np.array([known.get(model, 0.0) for model in prepared.models]) * usable
    if not stake.any():
        raise DataError(
            f"no stake on any of the {int(usable.sum())} models with usable predictions (of {len(usable)} in all): the round has no "
            "meta model to differentiate. Leave the round out, or give positive stakes."
        )
    shares: FloatArray = stake / stake.sum()
    return shares


def _scores(prepared: Prepared, shares: FloatArray, score: FloatArray, by_mask: FloatArray) -> pd.DataFrame:
    usable = np.array([not reason for reason in prepared.reasons])
    masks = len(by_mask)
    error = by_mask.std(axis=0, ddof=1) / math.sqrt(masks) if masks > 1 else np.full(len(score), np.nan)
    coverage = np.full(len(score), prepared.shape[0]) if prepared.coverage is None else prepared.coverage
    return pd.DataFrame(
        {
            "true_contribution": np.where(usable, score, np.nan),
            "mask_standard_error": np.where(usable, error, np.nan),
            "stake": shares,
            "coverage": coverage,
            "reason": prepared.reasons,
        },
        index=pd.Index(prepared.models, name="model"),
    ).sort_index()


def _known_returns(forward_returns: npt.ArrayLike | pd.Series[float], assets: tuple[str, ...]) -> FloatArray:
    values = np.asarray(forward_returns, dtype=np.float64)
    if values.shape == (len(assets),) and not np.isfinite(values).all():
        i = int(np.argmin(np.isfinite(values)))
        raise DataError(
            f"`forward_returns` of {assets[i]!r} is {values[i]}: a return that is not known cannot score a model. Compound a "
            "leaver to its last price and delisting return, or leave the asset out of the round's universe."
        )
    return aligned("forward_returns", forward_returns, assets)
