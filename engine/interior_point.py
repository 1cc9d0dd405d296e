r"""The portfolio problem as one sparse cone program, stated for Clarabel without a modelling layer between.

.. math::

    \min_x \tfrac12 x'Px + q'x \quad \text{subject to} \quad Ax + s = b, \; s \in \{0\} \times R_+ \times \text{second-order cones}

The variables are w, y = B'w with B each different column of [X, L] once, and of |w|, |w - h| and the impact only what the
problem needs. V is never formed: risk is w'Dw + y'Fy in P and, as ||(R'y, D^(1/2) w)|| <= v with F = R R', one second-order cone.

Scaling: the objective is counted in root mean squares of alpha, because tolerances are absolute; a trade with impact in a
third of the largest that its bounds allow. The cost |u|^(3/2) is power >= moved^(3/2), moved >= |u|, by root^2 <= moved and
moved^2 <= power root: two cones of size 3. What failed otherwise is said in `engine.reference`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, NamedTuple

import clarabel
import numpy as np
import numpy.typing as npt
from scipy import sparse

from engine.dual import different_columns
from engine.problem import Problem
from engine.solution import Multipliers
from risk import DataError
from risk.checks import FloatArray, freeze

__all__ = ["Answer", "ConeProgram", "Ending", "prepare", "read", "solve", "state"]

STEPS = 200
"""Interior-point steps at most. Books take 10 to 25."""


class Ending(Enum):
    """How the solver ended."""

    SOLVED = "solved"
    INFEASIBLE = "infeasible"
    STOPPED = "stopped"
    """Short of its tolerance. What it returns may still point to the right active set: refine it and ask the certificate."""


class Answer(NamedTuple):
    """Weights (N,), the prices of the limits, how the solver ended and after how many steps."""

    weights: FloatArray
    multipliers: Multipliers
    ending: Ending
    iterations: int


@dataclass(frozen=True, eq=False)
class ConeProgram:
    """A cone program and where the problem's terms stand in it.

    Attributes
    ----------
    P, A : csc_array
        P whole, with both its triangles. The first N variables are the weights.
    q, b : ndarray
    zero, nonnegative : int
        How many rows of A are equalities, and how many after them inequalities.
    cones : tuple of int
        Sizes of the second-order cones, whose rows come last.
    unit : float
        Units of the program's objective in one unit of annual alpha.
    prices : mapping of str to slice
        The rows of A whose duals are prices: `equal`, `below`, `above`, `gross`, `volatility`, `turnover`.
    """

    problem: Problem
    P: Any
    q: FloatArray
    A: Any
    b: FloatArray
    zero: int
    nonnegative: int
    cones: tuple[int, ...]
    unit: float
    prices: Mapping[str, slice]


class _Draft:
    """Variables and rows, collected in the order in which they are stated."""

    def __init__(self) -> None:
        self.sizes: dict[str, int] = {}
        self.linear: dict[str, FloatArray] = {}
        self.quadratic: dict[str, Any] = {}
        self.rows: dict[str, list[tuple[str, dict[str, Any], FloatArray]]] = {"zero": [], "nonnegative": [], "cone": []}

    def variable(self, name: str, size: int) -> None:
        self.sizes[name] = size
        self.linear[name] = np.zeros(size)

    def add(self, kind: str, name: str, blocks: dict[str, Any], b: FloatArray) -> None:
        """State b - sum of block times variable in the zero, the nonnegative or one second-order cone."""
        if len(b):
            self.rows[kind].append((name, blocks, b))


def _pick(rows: npt.NDArray[np.intp], size: int, values: FloatArray | float = 1.0) -> Any:
    """Return the (n, size) matrix that picks and scales n entries of a vector."""
    n = len(rows)
    return sparse.csr_array((np.broadcast_to(values, n).astype(np.float64), rows, np.arange(n + 1)), shape=(n, size))


def state(problem: Problem) -> ConeProgram:
    """Return the cone program of `problem`."""
    model, limits, draft = problem.model, problem.limits, _Draft()
    n, K = model.exposures.shape
    B, place = different_columns(model.exposures, limits.exposures)
    factor, row = place[:K], place[K:]
    k = B.shape[1]
    draft.variable("w", n)
    draft.variable("y", k)
    draft.linear["w"] = -problem.alpha
    draft.add("zero", "", {"w": -sparse.csr_array(B.T), "y": sparse.eye_array(k, format="csr")}, np.zeros(k))
    _state_risk(draft, problem, factor)
    _state_limits(draft, problem, row)
    size = _state_positions(draft, problem)
    _state_trades(draft, problem, size)
    return _assembled(draft, problem)


def _state_risk(draft: _Draft, problem: Problem, factor: npt.NDArray[np.intp]) -> None:
    """State (g0/2) w'Vw and w'Vw <= v^2."""
    d, v = problem.model.specific_variance, problem.volatility_limit
    n, k = len(d), draft.sizes["y"]
    values, vectors = np.linalg.eigh(problem.model.factor_covariance)
    kept = values > 0
    R = np.zeros((k, int(kept.sum())))
    np.add.at(R, factor, vectors[:, kept] * np.sqrt(values[kept]))  # R'y = root' X'w, also where columns of X repeat
    draft.quadratic["w"] = sparse.diags_array(problem.risk_aversion * d, format="csr")
    draft.quadratic["y"] = sparse.csr_array(problem.risk_aversion * (R @ R.T))
    if v is not None:
        r = R.shape[1]
        above = sparse.csr_array((1, n))
        blocks = {
            "w": sparse.vstack([above, sparse.csr_array((r, n)), sparse.diags_array(-np.sqrt(d))], format="csr"),
            "y": sparse.csr_array(np.vstack([np.zeros((1, k)), -R.T, np.zeros((n, k))])),
        }
        draft.add("cone", "volatility", blocks, np.concatenate([[v], np.zeros(r + n)]))


def _state_limits(draft: _Draft, problem: Problem, row: npt.NDArray[np.intp]) -> None:
    """State lo <= L'w <= up, where y holds L'w."""
    limits, k = problem.limits, draft.sizes["y"]
    equal = limits.lower == limits.upper
    below, above = ~equal & np.isfinite(limits.upper), ~equal & np.isfinite(limits.lower)
    draft.add("zero", "equal", {"y": _pick(row[equal], k)}, limits.upper[equal])
    draft.add("nonnegative", "below", {"y": _pick(row[below], k)}, limits.upper[below])
    draft.add("nonnegative", "above", {"y": _pick(row[above], k, -1.0)}, -limits.lower[above])


def _state_positions(draft: _Draft, problem: Problem) -> str:
    """State bounds, gross and borrowing; return the variable that is |w| or more, or nothing where none is needed."""
    lower, upper, costs, n = problem.lower, problem.upper, problem.costs, len(problem.alpha)
    crowded = float(np.maximum(np.abs(lower), np.abs(upper)).sum()) > problem.gross_limit
    borrowing = costs is not None and bool(costs.borrow.any())
    trading = problem.turnover_limit is not None or (costs is not None and bool(costs.linear.any()))
    sized = crowded or borrowing or (trading and not problem.holdings.any())
    # A name that cannot move is an equality: two opposite inequalities would leave no interior.
    closed, even = lower == upper, (lower == -upper) & (lower < upper) & sized
    names = np.arange(n)
    draft.add("zero", "", {"w": _pick(names[closed], n)}, upper[closed])
    for kept, sign, bound in ((~closed & ~even, 1.0, upper), (~closed & ~even, -1.0, -lower)):
        draft.add("nonnegative", "", {"w": _pick(names[kept], n, sign)}, bound[kept])
    if not sized:
        return ""
    draft.variable("size", n)
    identity = sparse.eye_array(n, format="csr")
    draft.add("nonnegative", "", {"w": identity, "size": -identity}, np.zeros(n))
    draft.add("nonnegative", "", {"w": -identity, "size": -identity}, np.zeros(n))
    draft.add("nonnegative", "", {"size": _pick(names[even], n)}, upper[even])
    if crowded:
        draft.add("nonnegative", "gross", {"size": sparse.csr_array(np.ones((1, n)))}, np.array([problem.gross_limit]))
    if costs is not None and borrowing:  # (-w)^+ = (|w| - w) / 2
        draft.linear["size"] += costs.borrow / 2
        draft.linear["w"] = draft.linear["w"] - costs.borrow / 2
    return "size"


def _state_trades(draft: _Draft, problem: Problem, size: str) -> None:
    """State turnover and the cost of trades; from an empty book |w - h| is |w|."""
    costs, h, n = problem.costs, problem.holdings, len(problem.alpha)
    linear = np.zeros(n) if costs is None else costs.annualisation * costs.linear
    trade = size
    if h.any() and (problem.turnover_limit is not None or linear.any()):
        trade = "trade"
        draft.variable(trade, n)
        identity = sparse.eye_array(n, format="csr")
        draft.add("nonnegative", "", {"w": identity, trade: -identity}, h)
        draft.add("nonnegative", "", {"w": -identity, trade: -identity}, -h)
    if linear.any():
        draft.linear[trade] += linear
    if problem.turnover_limit is not None:
        half = sparse.csr_array(np.full((1, n), 0.5))
        draft.add("nonnegative", "turnover", {trade: half}, np.array([problem.turnover_limit]))
    if costs is not None:
        _state_impact(draft, problem, costs.annualisation * costs.impact)


def _state_impact(draft: _Draft, problem: Problem, price: FloatArray) -> None:
    """State price |w - h|^(3/2) of the names that can move."""
    h, n = problem.holdings, len(problem.alpha)
    paid = np.flatnonzero((price > 0) & (problem.lower < problem.upper))
    m = len(paid)
    if m == 0:
        return
    unit = np.maximum(problem.upper - h, h - problem.lower)[paid] / 3
    for name in ("moved", "root", "power"):
        draft.variable(name, m)
    draft.linear["power"] += price[paid] * unit**1.5
    identity = sparse.eye_array(m, format="csr")
    for sign in (1.0, -1.0):
        blocks = {"w": _pick(paid, n, sign / unit), "moved": -identity}
        draft.add("nonnegative", "", blocks, sign * h[paid] / unit)

    def triples(values: tuple[float, float, float]) -> Any:
        """Return the (3 m, m) block with `values` in the three rows of each name's cone."""
        return sparse.kron(identity, np.array(values)[:, None], format="csr")

    ends = np.tile([0.5, 0.0, -0.5], m)
    draft.add("cone", "", {"moved": triples((-0.5, 0, -0.5)), "root": triples((0, -1, 0))}, ends)
    blocks = {"power": triples((-0.5, 0, -0.5)), "root": triples((-0.5, 0, 0.5)), "moved": triples((0, -1, 0))}
    draft.add("cone", "", blocks, np.zeros(3 * m))


def _assembled(draft: _Draft, problem: Problem) -> ConeProgram:
    unit = 1.0 / (float(np.sqrt(np.mean(problem.alpha**2))) or 1.0)
    names = list(draft.sizes)
    stated = [entry for group in draft.rows.values() for entry in group]
    A = sparse.block_array([[blocks.get(name) for name in names] for _, blocks, _ in stated], format="csc")
    empty = {name: sparse.csr_array((size, size)) for name, size in draft.sizes.items()}
    P = sparse.block_diag([draft.quadratic.get(name, empty[name]) for name in names], format="csc") * unit
    prices, first = {}, 0
    for name, _, b in stated:
        if name:
            prices[name] = slice(first, first + len(b))
        first += len(b)
    cones: list[int] = []
    for name, _, b in draft.rows["cone"]:
        cones += [len(b)] if name == "volatility" else [3] * (len(b) // 3)
    return ConeProgram(
        problem=problem,
        P=P,
        q=np.concatenate(list(draft.linear.values())) * unit,
        A=A,
        b=np.concatenate([b for _, _, b in stated]),
        zero=sum(len(b) for _, _, b in draft.rows["zero"]),
        nonnegative=sum(len(b) for _, _, b in draft.rows["nonnegative"]),
        cones=tuple(cones),
        unit=unit,
        prices=prices,
    )


def read(program: ConeProgram, x: npt.ArrayLike, z: npt.ArrayLike) -> tuple[FloatArray, Multipliers]:
    """Return weights and prices in annual alpha from a solver's variables x and duals z >= 0 of Ax + s = b."""
    problem, limits = program.problem, program.problem.limits
    dual = np.asarray(z, dtype=np.float64) / program.unit
    none = slice(0, 0)
    price = {name: dual[program.prices.get(name, none)] for name in ("gross", "volatility", "turnover")}
    equal = limits.lower == limits.upper
    p = np.zeros(len(equal))
    for name, sign, rows in (
        ("equal", 1.0, equal),
        ("below", 1.0, ~equal & np.isfinite(limits.upper)),
        ("above", -1.0, ~equal & np.isfinite(limits.lower)),
    ):
        if name in program.prices:
            p[rows] += sign * dual[program.prices[name]]
    weights = freeze(np.array(x, dtype=np.float64)[: len(problem.alpha)])
    # The cone's first dual is the gain per unit of v, which is nu v.
    nu = price["volatility"][0] / (problem.volatility_limit or 1.0) if len(price["volatility"]) else 0.0
    return weights, Multipliers(freeze(p), float(price["gross"].sum()), float(nu), float(price["turnover"].sum()))


def prepare(program: ConeProgram, tolerance: float) -> Any:
    """Return Clarabel's solver of a cone program, set up; its `solve` returns its own solution."""
    settings = clarabel.DefaultSettings()
    settings.verbose = False
    settings.max_iter = STEPS
    settings.max_threads = 1
    # Clarabel's own choice, faer for the denser ones, takes up to twice as long on books of 500 names, and as long on larger ones.
    settings.direct_solve_method = "qdldl"
    settings.tol_gap_abs = settings.tol_gap_rel = settings.tol_feas = tolerance
    cones: list[Any] = [clarabel.ZeroConeT(program.zero)]
    cones += [clarabel.NonnegativeConeT(program.nonnegative)] if program.nonnegative else []
    cones += [clarabel.SecondOrderConeT(size) for size in program.cones]
    P = sparse.csc_matrix(sparse.triu(program.P))
    return clarabel.DefaultSolver(P, program.q, sparse.csc_matrix(program.A), program.b, cones, settings)


def solve(problem: Problem, tolerance: float = 1e-8) -> Answer:
    """Return the optimum of `problem` as Clarabel finds it, right to about `tolerance`; `engine.active_set.refine` adds the digits.

    Parameters
    ----------
    problem : Problem
    tolerance : float
        Of Clarabel: gap and feasibility, absolute and relative, with the objective in root mean squares of alpha.

    Returns
    -------
    Answer
        With NaN in place of weights and prices where the problem is infeasible.

    Raises
    ------
    DataError
        If `tolerance` is not positive.

    Examples
    --------
    >>> from engine import Limits, Problem
    >>> from risk import FactorModel
    >>> model = FactorModel(["A", "B"], ["market"], np.ones((2, 1)), [[0.04]], [0.09, 0.09])
    >>> net = Limits(["net"], np.ones((2, 1)), [0.0], [0.0])
    >>> problem = Problem([0.009, -0.009], model, net, 0.5, gross_limit=1.0, volatility_limit=None, risk_aversion=1.0)
    >>> solve(problem).weights.round(6).tolist()
    [0.1, -0.1]
    """
    if not tolerance > 0:
        raise DataError(f"`tolerance` must be positive; got {tolerance}. Refining takes 1e-8 to rounding.")
    program = state(problem)
    found = prepare(program, tolerance).solve()
    weights, multipliers = read(program, found.x, found.z)
    if found.status == clarabel.SolverStatus.PrimalInfeasible:
        ending = Ending.INFEASIBLE
        weights = freeze(np.full(len(weights), np.nan))
        multipliers = Multipliers(freeze(np.full(len(multipliers.limits), np.nan)), np.nan, np.nan, np.nan)
    else:
        ending = Ending.SOLVED if found.status == clarabel.SolverStatus.Solved else Ending.STOPPED
    return Answer(weights, multipliers, ending, int(found.iterations))
