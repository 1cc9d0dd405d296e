r"""Attribution that adds up: every staked model owns a sleeve of the constrained, cost-paying book of one date.

.. math::

    \alpha_k = \mathrm{scale} \circ s_k\,(p_k - \bar p_k) / \mathrm{std}(x), \qquad
    w = w(0) + \sum_k \mathrm{sleeve}_k, \qquad
    \mathrm{sleeve}_k = \Bigl[\int_0^1 \frac{\partial w}{\partial \alpha}\, ds\Bigr] \alpha_k
                      + \Bigl[\int_0^1 \frac{\partial w}{\partial h}\, ds\Bigr] h_k

along the ray of `engine.ray`, on which alpha and the starting book h, itself the sum of yesterday's sleeves h_k, grow from nothing; the
standardisation is held at its full-stake value. This is the Aumann-Shapley value of the game in which models bring alpha and sleeves: it adds up,
treats models of equal alpha alike, gives nothing to a model that brings nothing, and a group of models the sum of its members.
It is also the Shapley value, with a coalition's book that of its alpha alone, where the book is linear in alpha (no bound, kink or volatility limit is
met on the way) and where all models have equal alpha. Elsewhere the two differ: Shapley asks what a whole model adds to a coalition, this what
each small part of it adds to the same part of all, so that a stake cut into two models of the same predictions earns what it did in one.

Sleeves are split exactly by secant operators: they add up to the book whatever the steps, which decide only how finely credit is split.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from engine.metamodel import check_stakes
from engine.prepared import Prepared
from engine.problem import Problem, aligned
from engine.ray import BLOCK, Ray, resolve
from engine.secant import Parts
from engine.solution import SolverFailure
from engine.transforms import standardise
from risk import DataError
from risk.checks import FloatArray, check_labels, freeze

__all__ = ["BOOK", "FORCED", "Attribution", "account", "attribute", "per_unit"]

BOOK, FORCED, CASH, FEES = "(fund:book)", "(fund:forced)", "(fund:cash)", "(fund:fees)"
"""What no signal explains: the book at no signal, names put where they must be, interest, fees."""

PROBES = 32
"""Sleeves, those of the largest stakes, that the steps are made fine enough for."""

EXACT = 1e-10
"""Largest weight by which sleeves may miss the book, or yesterday's sleeves the holdings: beyond rounding something is wrong."""

TRADING_DAYS = 252


@dataclass(frozen=True, eq=False)
class Attribution:
    """One date's book and return, split between models and the fund.

    Attributes
    ----------
    table : DataFrame
        Row per model or group, sorted, then the fund's four: ``stake`` (share of the stake in use), ``gross``, ``cost``, ``financing``
        and ``net`` (= gross - cost - financing), as fractions of net asset value over the horizon of the forward returns. A cost of one row may
        be negative: its trades net against others'.
    sleeves : DataFrame of assets x rows
        What each holds, fractions of net asset value; they add up to the book. Models without stake and holdings are left out: 0.
    weights : ndarray of shape (N,)
        The book.
    net_return : float
        What the rows' ``net`` add up to.
    unused : mapping of str to str
        Models with a stake that takes no part, and why.
    steps : int
    unresolved : float
        Largest share of its size by which a sleeve of the largest stakes moved where steps were last halved; at most the tolerance.
    miss : float
        Largest weight by which the sleeves miss the book: rounding.
    fallbacks : int
        Books on the ray that needed another solver or start than the first.
    """

    table: pd.DataFrame
    sleeves: pd.DataFrame
    weights: FloatArray
    net_return: float
    unused: Mapping[str, str]
    steps: int
    unresolved: float
    miss: float
    fallbacks: int


def attribute(
    predictions: pd.DataFrame | Prepared,
    stakes: pd.Series[float],
    problem: Problem,
    forward_returns: npt.ArrayLike | pd.Series[float],
    *,
    alpha_scale: npt.ArrayLike,
    sleeves_before: pd.DataFrame | None = None,
    groups: Mapping[str, str] | None = None,
    horizon_days: float | None = None,
    interest: float = 0.0,
    fees: float = 0.0,
    tolerance: float = 0.01,
    steps: int = 4096,
    jobs: int = 2,
) -> Attribution:
    """Return what each staked model holds of one date's book, and what that earned and cost.

    Parameters
    ----------
    predictions : DataFrame of assets x models, or Prepared
        Raw predictions over `problem.model.assets`, in their order, NaN where a model does not cover an asset; or gaussianised.
    stakes : Series by model
        In any unit, >= 0: those of the models that the book was made from (`MetaModel.names`, `.stakes`).
    problem : Problem
        Of the date, holdings, costs and turnover limit included. Its alpha is not used.
    forward_returns : array_like or Series of shape (N,)
        Realised simple return over the horizon. The sleeves do not depend on it.
    alpha_scale : float or array_like of shape (N,)
        alpha = alpha_scale * standardised meta model, per year; see `engine.metamodel.alpha_scale`.
    sleeves_before : DataFrame of assets x rows, optional
        Who owns `problem.holdings`: the previous date's sleeves, drifted. Rows may be of models that have no stake any more. Default: the fund
        owns them, as ``(fund:book)``.
    groups : mapping of str to str, optional
        Models whose sleeve and row are kept together under one name; the row of a group is the sum of its models'.
    horizon_days : float, optional
        Trading days that the forward returns span; borrow fees accrue over them. Needed where there are any.
    interest, fees : float
        Earned on cash, and charged by the manager, over the horizon: rows of their own.
    tolerance : float
        Share of its size by which no sleeve of the largest stakes may still move where steps are halved.
    steps : int
        At most.
    jobs : int
        Threads that prepare predictions. No bit of the result depends on it.

    Raises
    ------
    DataError
        If shapes or assets disagree, a forward return is not known, no usable model has a stake, the meta model is constant,
        `sleeves_before` does not add up to the holdings, or an option is out of range.
    SolverFailure, InfeasibleMandate
        If a book on the ray cannot be proven, or `steps` steps are too few.

    Notes
    -----
    Memory beside the sleeves: one block of models, and two N x N matrices where there are more sleeves than assets.

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
    >>> parts = attribute(predictions, stakes, problem, returns, alpha_scale=0.03)
    >>> parts.table["net"].round(4).to_dict()
    {'good': 0.0099, 'poor': 0.0015, '(fund:book)': 0.0, '(fund:forced)': 0.0, '(fund:cash)': 0.0, '(fund:fees)': 0.0}
    >>> round(parts.net_return, 4), bool(np.allclose(parts.sleeves.sum(axis=1), parts.weights, atol=1e-12))
    (0.0114, True)
    """
    assets = problem.model.assets
    r = aligned("forward_returns", forward_returns, assets)
    borrow_years = _years(problem, horizon_days)
    if not (np.isfinite(tolerance) and tolerance > 0) or steps < 2 or not np.isfinite([interest, fees]).all():
        raise DataError(
            f"`tolerance` must be > 0, `steps` at least 2, `interest` and `fees` finite; got {tolerance}, {steps}, {interest}, {fees}."
        )
    signals = _Signals(predictions, stakes, aligned("alpha_scale", alpha_scale, assets), groups or {}, assets, jobs)
    before = _owners(sleeves_before, problem)
    rows = [*sorted({*signals.rows, *before.columns} - {BOOK, FORCED}), BOOK, FORCED]
    before = before.reindex(columns=rows, fill_value=0.0)
    ray, values = _split(problem, signals, rows, before.to_numpy(), tolerance, steps)
    weights = ray.weights
    miss = float(np.abs(values.sum(axis=1) - weights).max())
    if miss > EXACT:
        raise SolverFailure(
            f"sleeves miss the book by {miss:.1e} of net asset value: the ray's books are not solved well enough."
        )
    sleeves = pd.DataFrame(values, index=pd.Index(assets, name="asset"), columns=pd.Index(rows, name="row"), copy=False)
    trades, costs = weights - problem.holdings, problem.costs
    nothing = np.zeros(len(assets))
    table = account(
        sleeves,
        before,
        returns=r,
        cost=nothing if costs is None else per_unit(costs.charge(trades), trades),
        financing=nothing if costs is None else np.where(weights < 0, -costs.borrow * borrow_years, 0.0),
    )
    idle = sorted({signals.row(name) for name in signals.prepared.models} - set(rows))
    table = table.reindex([*sorted([*rows[:-2], *idle]), BOOK, FORCED, CASH, FEES], fill_value=0.0)
    table.loc[CASH, ["financing", "net"]] = [0.0 - interest, interest]
    table.loc[FEES, ["cost", "net"]] = [fees, 0.0 - fees]
    table.insert(0, "stake", signals.stake_by_row().reindex(table.index, fill_value=0.0))
    return Attribution(
        table=table,
        sleeves=sleeves,
        weights=freeze(weights.copy()),
        net_return=float(table["net"].sum()),
        unused=signals.unused,
        steps=len(ray.steps),
        unresolved=ray.unresolved,
        miss=miss,
        fallbacks=ray.fallbacks,
    )


def account(
    sleeves: pd.DataFrame, before: pd.DataFrame, *, returns: FloatArray, cost: FloatArray, financing: FloatArray
) -> pd.DataFrame:
    """Return what each row of the sleeves earned and was charged: ``gross``, ``cost``, ``financing``, ``net``.

    Parameters
    ----------
    sleeves, before : DataFrame of assets x rows
        After and before trading, the same rows.
    returns, cost, financing : ndarray of shape (N,)
        Of each asset: return; cost per unit of net trade (0 where there is none); financing per unit of weight. See `per_unit`.
    """
    if not (sleeves.index.equals(before.index) and sleeves.columns.equals(before.columns)):
        raise DataError("`before` must have the assets and rows of `sleeves`, in their order.")
    held, had = sleeves.to_numpy(), before.to_numpy()
    gross, paid, financed = returns @ held, cost @ held - cost @ had, financing @ held
    return pd.DataFrame(
        {"gross": gross, "cost": paid, "financing": financed, "net": gross - paid - financed}, index=sleeves.columns
    )


def per_unit(charge: FloatArray, amount: FloatArray) -> FloatArray:
    """Return what each unit of `amount`, a trade or a weight, was charged, (N,): 0 where there is none."""
    return np.divide(charge, amount, out=np.zeros_like(charge), where=amount != 0)


class _Signals:
    """Alpha by row: what each model, or group of models, brings of it."""

    def __init__(
        self,
        predictions: pd.DataFrame | Prepared,
        stakes: pd.Series[float],
        scale: FloatArray,
        groups: Mapping[str, str],
        assets: tuple[str, ...],
        jobs: int,
    ) -> None:
        known = check_stakes(stakes)
        if isinstance(predictions, pd.DataFrame):
            predictions = Prepared.from_frame(predictions, assets, staked=list(known), dtype=np.float64, jobs=jobs)
        if predictions.shape[0] != len(assets) or not set(known) <= set(predictions.models):
            raise DataError(
                f"`predictions` must cover {len(assets)} assets, in the problem's order, and the models of `stakes`; it has "
                f"{predictions.shape[0]} assets, and lacks {sorted(set(known) - set(predictions.models))[:3]}."
            )
        self.prepared, self._groups = predictions, dict(groups)
        reserved = [name for name in {*predictions.models, *groups.values()} if name.startswith("(fund:")]
        if reserved:
            raise DataError(f"{min(reserved)!r} must have another name: '(fund:' begins the rows of the fund itself.")
        self.unused = {
            name: reason
            for name, reason in zip(predictions.models, predictions.reasons, strict=True)
            if reason and known.get(name, 0.0) > 0
        }
        stake = np.array([0.0 if name in self.unused else known.get(name, 0.0) for name in predictions.models])
        if not stake.any():
            raise DataError(
                "no stake on a model with usable predictions: there is no meta model, and no book to split."
            )
        self.shares = stake / stake.sum()
        # In the order of their names, so that no bit depends on the order of columns.
        self._order = sorted(
            np.flatnonzero(self.shares).tolist(), key=lambda k: (self.row(predictions.models[k]), predictions.models[k])
        )
        self.rows = list(dict.fromkeys(self.row(predictions.models[k]) for k in self._order))
        x = np.zeros(len(assets))
        for models, values in self._read(self._order):
            x += values @ self.shares[models]
        scores = standardise(x)
        self.alpha = scale * scores
        self._scale = scale / float(np.std(x))

    def row(self, model: str) -> str:
        """Return the row that a model's sleeve is kept in."""
        return self._groups.get(model, model)

    def stake_by_row(self) -> pd.Series[float]:
        """Return each row's share of the stake in use."""
        names = [self.row(name) for name in self.prepared.models]
        return pd.Series(self.shares, index=names, dtype=np.float64).groupby(level=0).sum()

    def parts(self, rows: list[str]) -> FloatArray:
        """Return what some rows bring of alpha, (N, m)."""
        place = {name: j for j, name in enumerate(rows)}
        models = [k for k in self._order if self.row(self.prepared.models[k]) in place]
        result = np.zeros((len(self.alpha), len(rows)))
        for block, values in self._read(models):
            for k, column in zip(block, values.T, strict=True):
                result[:, place[self.row(self.prepared.models[k])]] += self.shares[k] * (column - column.mean())
        result *= self._scale[:, None]
        return result

    def _read(self, models: list[int]) -> Iterator[tuple[list[int], FloatArray]]:
        """Yield models, in the order given, and their predictions, (N, m), some at a time: products with 1 and 0 change no bit."""
        for first in range(0, len(models), BLOCK):
            block = models[first : first + BLOCK]
            taking = np.zeros(len(self.shares))
            taking[block] = 1.0
            each = np.zeros((len(block), len(self.shares)), dtype=bool)
            each[np.arange(len(block)), block] = True
            yield block, self.prepared.combine(taking, each).T


def _split(
    problem: Problem, signals: _Signals, rows: list[str], before: FloatArray, tolerance: float, steps: int
) -> tuple[Ray, FloatArray]:
    """Return the resolved ray and the sleeves, (N, rows)."""
    n, h = len(problem.alpha), problem.holdings
    closed, held = problem.lower == problem.upper, bool(before.any())
    kept = np.where(closed, np.clip(per_unit(problem.lower, h), 0.0, 1.0), np.nan)
    told = np.where(closed, problem.lower - np.where(closed, kept, 0.0) * h, 0.0)

    def parts(places: list[int]) -> Parts:
        names = [rows[j] for j in places]
        pushed = np.zeros((n, len(places)))
        if FORCED in names:
            pushed[:, names.index(FORCED)] = told
        return Parts(signals.parts(names), before[:, places] if held else None, pushed if pushed.any() else None)

    stake = signals.stake_by_row()
    by_size = sorted(range(len(rows)), key=lambda j: (-stake.get(rows[j], 0.0), rows[j]))
    probes = [*[j for j in by_size if rows[j] not in (BOOK, FORCED)][:PROBES], len(rows) - 2, len(rows) - 1]
    ray = resolve(problem, signals.alpha, parts(probes), kept, tolerance=tolerance, most=steps)
    operators = ray.operators(holdings=held) if len(rows) > n * (1 + held) else None
    sleeves = np.empty((n, len(rows)), order="F")
    for first in range(0, len(rows), BLOCK):
        places = list(range(first, min(first + BLOCK, len(rows))))
        block = parts(places)
        if operators is None or block.told is not None:
            sleeves[:, places] = ray.split(block)
        else:
            sleeves[:, places] = operators[0] @ block.alpha
            if block.holdings is not None and operators[1] is not None:
                sleeves[:, places] += operators[1] @ block.holdings
    sleeves[:, len(rows) - 2] += ray.start
    return ray, sleeves


def _owners(sleeves: pd.DataFrame | None, problem: Problem) -> pd.DataFrame:
    """Return who owns the holdings, assets x rows."""
    index = pd.Index(problem.model.assets, name="asset")
    if sleeves is None:
        return pd.DataFrame({BOOK: problem.holdings}, index=index)
    if tuple(str(a) for a in sleeves.index) != problem.model.assets:
        raise DataError(
            "`sleeves_before` must have the problem's assets as its index, in their order; reindex it at the edge."
        )
    rows = check_labels("rows of `sleeves_before`", sleeves.columns)
    values = sleeves.to_numpy(dtype=np.float64)
    if not np.isfinite(values).all():
        raise DataError("`sleeves_before` must be finite; a row that holds nothing of an asset holds 0.")
    off = np.abs(values.sum(axis=1) - problem.holdings)
    if off.max() > EXACT:
        i = int(np.argmax(off))
        raise DataError(
            f"`sleeves_before` must add up to the holdings; of {problem.model.assets[i]!r} they miss {off[i]:.2e}. Drift each sleeve as "
            f"the book drifts, and give what nobody's signal explains to {FORCED!r}."
        )
    return pd.DataFrame(values, index=index, columns=list(rows), copy=False)


def _years(problem: Problem, horizon_days: float | None) -> float:
    """Return over how many years borrow fees accrue."""
    fees = problem.costs is not None and bool(problem.costs.borrow.any())
    if horizon_days is None:
        if fees:
            raise DataError(
                "`horizon_days` is needed where there are borrow fees: they accrue over the forward returns' days."
            )
        return 0.0
    if not (np.isfinite(horizon_days) and horizon_days > 0):
        raise DataError(f"`horizon_days` must be a positive number of trading days; got {horizon_days}.")
    return horizon_days / TRADING_DAYS
