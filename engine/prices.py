r"""What every limit costs today, and what moves every asset: the duals of a solved book as prices.

At the optimum the gain from one more unit of an asset's weight is 0. With gamma = g0 + nu and u = w - h that is

.. math::

    0 = \alpha_i - \gamma (X F X'w)_i - \gamma d_i w_i - \sum_j L_{ij} p_j - \eta\, s_i - \tfrac{\tau}{2} t_i
        - A\, lin_i\, t_i - \tfrac{3}{2} A\, imp_i \sqrt{|u_i|}\, \mathrm{sign}(u_i) + borrow_i\, b_i - \mu_i

with s = sign(w), t = sign(u), b = 1 on shorts, and mu_i the price of the asset's own bound: > 0 at the upper, < 0 at the lower. Where w_i = 0,
s_i may be anything in [-1, 1] and b_i in [0, 1]; where u_i = 0, t_i in [-1, 1]. The asset stays there because what moves it is less than the
width of its kinks; each kink is charged the same fraction of its own width, so that the parts are known and still add up.

A price tells what the next unit of a limit is worth, and bounds what more units are worth: the best objective is concave in the limits. What a
limit costs altogether takes another solve, without it.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import pandas as pd

from engine.certificate import BestResponse, accepted, best_response, certify, factor_prices
from engine.optimizer import optimize
from engine.problem import RESERVED, Limits, Problem
from engine.solution import Multipliers, Solution, Status
from risk import DataError
from risk.checks import FloatArray, freeze

__all__ = ["Parts", "family", "limit_costs", "parts", "without"]

OWN = ("alpha", "factor_risk", "specific_risk", "gross", "turnover", "linear_cost", "impact_cost", "borrow", "position")
"""Parts of an asset that are no rows of L."""

TAKEN = {*OWN, *RESERVED, "weight", "held_by", "reason"}
"""Columns that a row of L may not be taken for."""


def family(row: str) -> str:
    """Return the family of a row of L: what stands before its colon.

    Examples
    --------
    >>> family("country:US"), family("net"), family("gross:longs")
    ('country', 'net', 'limit:gross')
    """
    return _column(row.partition(":")[0])


def _column(name: str) -> str:
    return f"limit:{name}" if name in TAKEN or name.startswith("limit:") else name


def _families(limits: Limits) -> dict[str, list[int]]:
    """Return each family's rows, in the order in which the families first appear."""
    members: dict[str, list[int]] = {}
    for j, name in enumerate(limits.names):
        members.setdefault(family(name), []).append(j)
    return members


def _prices(problem: Problem, solution: Solution) -> Multipliers:
    """Return the multipliers of a solution that is one of this problem.

    Raises
    ------
    DataError
    """
    theta = solution.multipliers
    if theta is None or solution.status is not Status.SOLVED:
        raise DataError(
            f"`solution` must be proven for its prices to tell anything; got status {solution.status.value!r}. Solve without terms "
            "of your own (`extra`): limits can be written as rows of `Limits`."
        )
    if not accepted(certify(problem, solution.weights, theta)):
        raise DataError("`solution` is no optimum of `problem`; give the problem that it was solved for.")
    return theta


@dataclass(frozen=True, eq=False)
class Parts:
    """What one more unit of each asset's weight would gain (+) or cost (-), annual alpha; the parts of an asset sum to 0.

    Attributes
    ----------
    problem : Problem
    multipliers : Multipliers
    response : BestResponse
        Each asset's best weight at the prices, which is where the parts are taken: within the certificate's dual residual
        it is the weight itself.
    alpha, specific_risk, gross, turnover, linear_cost, impact_cost, borrow, position : ndarray of shape (N,)
        `position` is the price of the asset's own bound.
    factors : ndarray of shape (N, K)
        By factor: they sum to the factor risk. Price of the volatility limit included, as in `specific_risk`.
    rows : ndarray of shape (N, q)
        By row of L. Of rows that depend on each other only the sum is unique.
    """

    problem: Problem
    multipliers: Multipliers
    response: BestResponse
    alpha: FloatArray
    factors: FloatArray
    specific_risk: FloatArray
    rows: FloatArray
    gross: FloatArray
    turnover: FloatArray
    linear_cost: FloatArray
    impact_cost: FloatArray
    borrow: FloatArray
    position: FloatArray

    def frame(self, *, by_row: bool = False) -> pd.DataFrame:
        """Return the parts as a table, assets x (alpha, factor_risk, specific_risk, families or rows of L, gross, ...)."""
        limits = self.problem.limits
        groups = {_column(name): [j] for j, name in enumerate(limits.names)} if by_row else _families(limits)
        columns = {"alpha": self.alpha, "factor_risk": self.factors.sum(axis=1), "specific_risk": self.specific_risk}
        columns |= {name: self.rows[:, members].sum(axis=1) for name, members in groups.items()}
        columns |= {name: getattr(self, name) for name in OWN[3:]}
        index = pd.Index(self.problem.model.assets, name="asset", dtype=object)
        return pd.DataFrame(columns, index=index) + 0.0  # no -0.0


def _kink(side: FloatArray, below: FloatArray, above: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return the interval of slopes of a term that has slope `below` where side < 0 and `above` where side > 0."""
    return np.where(side > 0, above, below), np.where(side < 0, below, above)


def parts(problem: Problem, solution: Solution) -> Parts:
    """Return what holds every asset where it is.

    Parameters
    ----------
    problem : Problem
    solution : Solution
        Of this problem.

    Raises
    ------
    DataError
        If the solution is not proven (`extra`) or not one of this problem.

    Examples
    --------
    >>> from engine import Limits, optimize
    >>> from risk import FactorModel
    >>> model = FactorModel(["A", "B", "C"], ["market"], np.ones((3, 1)), [[0.04]], [0.1, 0.1, 0.1])
    >>> problem = Problem([0.03, 0.0, -0.03], model, Limits(["net"], np.ones((3, 1)), [0.0], [0.0]), 0.2, 2.0, None, 1.0)
    >>> parts(problem, optimize(problem)).frame().loc["A", ["alpha", "specific_risk", "position"]].round(3).tolist()
    [0.03, -0.02, -0.01]
    """
    theta = _prices(problem, solution)
    model, costs, h = problem.model, problem.costs, problem.holdings
    factor = factor_prices(problem, solution.weights, theta)
    response = best_response(problem, factor, theta)
    w, ones = response.weights, np.ones_like(h)
    A = 0.0 if costs is None else costs.annualisation
    linear, impact, borrow = (0.0 * ones,) * 3 if costs is None else (costs.linear, costs.impact, costs.borrow)
    u = w - h
    specific = (problem.risk_aversion + theta.volatility) * model.specific_variance * w
    bend = 1.5 * A * impact * np.sqrt(np.abs(u)) * np.sign(u)
    kinks = [
        _kink(w, -theta.gross * ones, theta.gross * ones),
        _kink(w, -borrow, 0.0 * ones),
        _kink(u, -theta.turnover / 2 * ones, theta.turnover / 2 * ones),
        _kink(u, -A * linear, A * linear),
    ]
    low, high = (np.sum([kink[side] for kink in kinks], axis=0) for side in (0, 1))
    pull = response.prices - specific - bend
    share = np.divide(pull - low, high - low, out=np.zeros_like(pull), where=high > low).clip(0.0, 1.0)
    gross, short, turnover, paid = (below + share * (above - below) for below, above in kinks)
    return Parts(
        problem=problem,
        multipliers=theta,
        response=response,
        alpha=problem.alpha,
        factors=freeze(-model.exposures * factor),
        specific_risk=freeze(-specific),
        rows=freeze(-problem.limits.exposures * theta.limits),
        gross=freeze(-gross),
        turnover=freeze(-turnover),
        linear_cost=freeze(-paid),
        impact_cost=freeze(-bend),
        borrow=freeze(-short),
        position=freeze(-response.bound_prices),
    )


def without(problem: Problem, families: Collection[str]) -> Problem:
    """Return the problem without some of its limits, by the names that `limit_costs` gives them.

    Parameters
    ----------
    problem : Problem
    families : collection of str
        Families of rows of L, ``position``, ``gross``, ``volatility``, ``turnover``. Position caps give way to the gross
        limit, |w_i| <= G; names that cannot move (lower = upper) stay where they are. Gross gives way to the sum of the caps.

    Raises
    ------
    DataError
        If the problem has no such family of limits.
    """
    limits, lower, upper, gross = problem.limits, problem.lower, problem.upper, problem.gross_limit
    known = [*_families(limits), *RESERVED]
    for name in families:
        if name not in known:
            raise DataError(f"`families` must be among {', '.join(known)}; got {name!r}.")
    dropped = np.array([family(name) in families for name in limits.names])
    floor, ceiling = np.where(dropped, -np.inf, limits.lower), np.where(dropped, np.inf, limits.upper)
    if "position" in families:
        moves = lower < upper
        lower, upper = (
            np.where(moves, np.minimum(lower, -gross), lower),
            np.where(moves, np.maximum(upper, gross), upper),
        )
    if "gross" in families:
        gross = max(gross, float(np.maximum(np.abs(lower), np.abs(upper)).sum()))
    return problem.replace(
        limits=Limits(limits.names, limits.exposures, floor, ceiling, limits.tier),
        position_limit=(lower, upper),
        gross_limit=gross,
        volatility_limit=None if "volatility" in families else problem.volatility_limit,
        turnover_limit=None if "turnover" in families else problem.turnover_limit,
    )


def limit_costs(problem: Problem, solution: Solution) -> pd.DataFrame:
    """Return what each family of limits costs today: the gain of the objective, annual alpha, were it not there.

    Parameters
    ----------
    problem : Problem
    solution : Solution
        Of this problem.

    Returns
    -------
    DataFrame
        By family of limits (``net``, ``country``, ..., ``position``, ``gross``, ``volatility``, ``turnover``): `rows`, how many
        limits it has; `holding`, how many have a price; `tightest`, the one with the highest price, else the least room; its
        `level`, the `bound` next to it and the `headroom` between them, in the limit's own unit; `price`, annual alpha per
        unit by which every limit of the family is widened; `cost`, annual alpha. Each cost is that of one family alone: they do
        not add up.

    Raises
    ------
    DataError
        If the solution is not proven (`extra`) or not one of this problem.
    SolverFailure
        If a problem without one of its limits cannot be solved.

    Notes
    -----
    A family without a price costs 0 and is not solved for: the same prices prove the same book without it. For any other the
    problem is solved again from this solution. Rounding below 0 is taken as 0.
    """
    theta = _prices(problem, solution)
    w, model = solution.weights, problem.model
    records = {name: _rows(problem, w, theta, rows) for name, rows in _families(problem.limits).items()}
    records["position"] = _caps(problem, w, theta)
    records["gross"] = _whole("gross", float(np.abs(w).sum()), problem.gross_limit, theta.gross)
    if problem.volatility_limit is not None:
        v = problem.volatility_limit
        records["volatility"] = _whole("volatility", model.volatility(w), v, theta.volatility * v)
    if problem.turnover_limit is not None:
        used = float(np.abs(w - problem.holdings).sum()) / 2
        records["turnover"] = _whole("turnover", used, problem.turnover_limit, theta.turnover)
    today = problem.objective(w)
    for name, record in records.items():
        gain = 0.0
        if record["price"] != 0:
            relaxed = without(problem, [name])
            gain = relaxed.objective(optimize(relaxed, start=solution).weights) - today
        record["cost"] = max(gain, 0.0)
    return pd.DataFrame.from_dict(records, orient="index").rename_axis("limit")


def _record(
    names: tuple[str, ...], level: FloatArray, lower: FloatArray, upper: FloatArray, price: FloatArray
) -> dict[str, int | float | str]:
    """Return a family's record from its limits: `price` is > 0 where the upper side holds, < 0 where the lower does."""
    over, under = upper - level, level - lower
    at_upper = np.where(price != 0, price > 0, over <= under)
    room = np.where(at_upper, over, under)
    # The highest price, and among limits without one the least room.
    j = int(np.lexsort((room, -np.abs(price)))[0])
    return {
        "rows": len(names),
        "holding": int((price != 0).sum()),
        "tightest": names[j],
        "level": float(level[j]),
        "bound": float((upper if at_upper[j] else lower)[j]),
        "headroom": float(room[j]),
        "price": float(np.abs(price).sum()),
    }


def _rows(problem: Problem, w: FloatArray, theta: Multipliers, rows: list[int]) -> dict[str, int | float | str]:
    limits = problem.limits
    level = limits.exposures[:, rows].T @ w
    names = tuple(limits.names[j] for j in rows)
    return _record(names, level, limits.lower[rows], limits.upper[rows], theta.limits[rows])


def _caps(problem: Problem, w: FloatArray, theta: Multipliers) -> dict[str, int | float | str]:
    response = best_response(problem, factor_prices(problem, w, theta), theta)
    # A name that cannot move has no cap: its bound stays.
    price = np.where(problem.lower < problem.upper, response.bound_prices, 0.0)
    return _record(problem.model.assets, w, problem.lower, problem.upper, price)


def _whole(name: str, level: float, limit: float, price: float) -> dict[str, int | float | str]:
    return _record((name,), np.array([level]), np.array([-np.inf]), np.array([limit]), np.array([price]))
