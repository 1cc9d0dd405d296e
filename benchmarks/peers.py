"""Solvers that answer the same portfolio problem, each through its own interface and at its best setting that we found.

A peer yields what it measured, act by act, so that whatever came before a time-out is kept:

- `cold`: from the problem's arrays to a book, statement and set-up included;
- `warm`: the same problem from the solution of its neighbour, all that the two share having been prepared, where a peer can;
- `derivative`: S u for one u, at that solution.

Where a peer has no limit on gross or volatility, its loop over their price is ours (OSQP), or it is given the price that our
solution found (Ledge), which spares it the loop.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, TypeVar

import numpy as np
from books import Book
from scipy import sparse

from engine import Problem, Solution, interior_point, optimize
from engine.derivative import Derivative
from engine.dual import different_columns
from engine.interior_point import ConeProgram
from engine.solution import Multipliers

__all__ = ["PEERS", "Act", "Case", "Peer", "Took"]

Result = TypeVar("Result")


class Took(NamedTuple):
    """Wall and processor time, in seconds: with one thread on an idle machine they are the same."""

    wall: float
    cpu: float


@dataclass(frozen=True, eq=False)
class Case:
    """One book to solve, its proven solution and its neighbour's, and how long to measure."""

    book: Book
    proven: Solution
    neighbour: Solution
    repeats: int
    limit: float
    """Seconds after which a solve is given up."""

    @property
    def problem(self) -> Problem:
        """The book's own."""
        return self.book.problem

    @property
    def prices(self) -> Multipliers:
        """Multipliers of the proven solution."""
        assert self.proven.multipliers is not None
        return self.proven.multipliers

    @property
    def u(self) -> np.ndarray:
        """The direction of every derivative, (N,): what a book earned, say."""
        return np.random.default_rng(1).standard_normal(len(self.problem.alpha))

    def timed(self, work: Callable[[], Result], before: Callable[[], object] = lambda: None) -> tuple[Took, Result]:
        """Return the median time of `work`, each time after `before`, and its last result; slow work is done once."""
        times: list[tuple[float, float]] = []
        while not times or (len(times) < self.repeats and sum(wall for wall, _ in times) < 2.0):
            before()
            began = time.perf_counter(), time.process_time()
            result = work()
            times.append((time.perf_counter() - began[0], time.process_time() - began[1]))
        wall, cpu = np.median(times, axis=0)
        return Took(float(wall), float(cpu)), result


@dataclass(frozen=True, eq=False)
class Act:
    """One thing that a peer did.

    Attributes
    ----------
    name : str
        `cold`, `warm`, `derivative`, or another that is no column of the table.
    took : Took
    weights : ndarray of shape (N,) or None
    multipliers : Multipliers or None
        None where the peer returns none: its weights are then judged at ours.
    steps : int or None
    gradient : ndarray of shape (N,) or None
    note : str
        What fell short or was spared.
    """

    name: str
    took: Took
    weights: np.ndarray | None = None
    multipliers: Multipliers | None = None
    steps: int | None = None
    gradient: np.ndarray | None = None
    note: str = ""


class Peer(NamedTuple):
    """A solver: its name in tables, what it will measure, and how."""

    name: str
    acts: tuple[str, ...]
    measure: Callable[[Case], Iterator[Act]]


def structured(case: Case) -> Iterator[Act]:
    """Measure `optimize`, proof included."""
    problem, u = case.problem, case.u
    for name, start in (("cold", None), ("warm", case.neighbour)):

        def solve(start: Solution | None = start) -> Solution:
            return optimize(problem, method="structured", start=start)

        took, solution = case.timed(solve)
        yield Act(name, took, solution.weights, solution.multipliers, solution.iterations, note=solution.fallback)
    assert solution.multipliers is not None
    weights, multipliers = solution.weights, solution.multipliers
    took, gradient = case.timed(lambda: Derivative(problem, weights, multipliers).times(u))
    yield Act("derivative", took, gradient=gradient)


def clarabel(case: Case) -> Iterator[Act]:
    """Measure Clarabel on our own statement, and by itself what comes before its first step."""
    took, answer = case.timed(lambda: interior_point.solve(case.problem))
    note = "" if answer.ending is interior_point.Ending.SOLVED else f"ended as {answer.ending.value}"
    yield Act("cold", took, answer.weights, answer.multipliers, answer.iterations, note=note)
    took, _ = case.timed(lambda: interior_point.prepare(interior_point.state(case.problem), 1e-8))
    yield Act("set-up", took, note=f"of which set-up {1e3 * took.wall:.0f} ms")


def moreau(case: Case) -> Iterator[Act]:
    """Measure Moreau's interior point on the cone program that Clarabel gets.

    Its derivative is of a solution to 1e-10 with weights counted in tenths: at 1e-8, or in other units, parts of it came out wrong
    by up to a half.
    """
    import moreau

    def prepared(program: ConeProgram, unit: float, **ipm: Any) -> Any:
        cones = moreau.Cones(
            num_zero_cones=program.zero, num_nonneg_cones=program.nonnegative, so_cone_dims=list(program.cones)
        )
        settings = moreau.Settings(
            solver="ipm",
            device="cpu",
            enable_grad=bool(ipm),
            time_limit=case.limit,
            ipm_settings=moreau.IPMSettings(**ipm),
        )
        P, A = sparse.csr_matrix(program.P * unit), sparse.csr_matrix(program.A)
        m, n = A.shape
        solver = moreau.CompiledSolver(n, m, P.indptr, P.indices, A.indptr, A.indices, cones, settings)
        solver.setup([P.data], [A.data])
        return solver

    def act(name: str, took: Took, solver: Any, found: Any) -> Act:
        weights, multipliers = interior_point.read(program, found.x[0], found.z[0])
        status = str(solver.info.status[0])
        note = "" if status == "Solved" else f"ended as {status}"
        return Act(name, took, weights, multipliers, int(solver.info.iterations[0]), note=note)

    def cold() -> tuple[Any, Any]:
        stated = interior_point.state(case.problem)
        solver = prepared(stated, 1.0)
        return solver, solver.solve([stated.q], [stated.b])

    program, other = interior_point.state(case.problem), interior_point.state(case.book.neighbour)
    took, (solver, found) = case.timed(cold)
    yield act("cold", took, solver, found)

    q = other.q * (program.unit / other.unit)  # one objective unit for both: P and the duals of the start are in it
    start = solver.solve([q], [other.b]).to_warm_start()
    took, found = case.timed(lambda: solver.solve([program.q], [program.b], warm_start=start))
    yield act("warm", took, solver, found)

    unit, tolerance = 0.1, dict.fromkeys(("tol_gap_abs", "tol_gap_rel", "tol_feas"), 1e-10)
    began = time.perf_counter()
    solver = prepared(program, unit, diff_method="exact", **tolerance)
    solver.solve([program.q], [program.b / unit])
    ready = time.perf_counter() - began
    incoming = np.zeros((1, len(program.q)))
    incoming[0, : len(case.u)] = case.u
    took, back = case.timed(lambda: solver.backward(incoming))
    gradient = -program.unit * unit * np.asarray(back["dq"]).reshape(-1)[: len(case.u)]
    yield Act("derivative", took, gradient=gradient, note=f"made differentiable in {ready:.2g} s")


class SplitProgram:
    """min w'Vw/2 - r alpha'w/g0 over the linear limits, for OSQP: w = w+ - w-, y = B'w; r = g0/gamma stands for the volatility limit.

    The search for r changes the linear term alone, so that one factorisation serves it. Splitting w keeps P diagonal but for F, and is
    exact because w+ and w- are never both positive at an optimum; |w| <= t in its place took three to ten times as long.
    """

    def __init__(self, problem: Problem, limit: float) -> None:
        import osqp

        model, limits = problem.model, problem.limits
        n, K = model.exposures.shape
        B, place = different_columns(model.exposures, limits.exposures)
        k, row = B.shape[1], place[K:]
        F = np.zeros((k, k))
        np.add.at(F, (place[:K, None], place[None, :K]), model.factor_covariance)
        d, one, Bt = model.specific_variance, sparse.eye_array(n), sparse.csc_array(B.T)
        whole = sparse.csr_array(np.ones((1, n)))
        picked = sparse.csr_array((np.ones(len(row)), (np.arange(len(row)), row)), shape=(len(row), k))
        rows = [[Bt, -Bt, -sparse.eye_array(k)], [one, None, None], [None, one, None], [None, None, picked]]
        self.problem, self.unit = problem, 1.0 / float(np.sqrt(np.mean(problem.alpha**2)))
        self.start = first_ratio(problem)
        P = sparse.block_diag([sparse.diags_array(np.concatenate([d, d])), sparse.csc_array(F)])
        self.solver = osqp.OSQP()
        self.solver.setup(
            sparse.csc_matrix(sparse.triu(P * (problem.risk_aversion * self.unit))),
            np.zeros(2 * n + k),
            sparse.csc_matrix(sparse.block_array([*rows, [whole, whole, None]])),
            np.concatenate([np.zeros(k + 2 * n), limits.lower, [-np.inf]]),
            np.concatenate([np.zeros(k), problem.upper, -problem.lower, limits.upper, [problem.gross_limit]]),
            verbose=False,
            eps_abs=1e-6,
            eps_rel=1e-6,
            max_iter=1_000_000,
            polishing=True,
            time_limit=limit,
        )

    def at(self, alpha: np.ndarray, r: float) -> tuple[np.ndarray, Multipliers]:
        """Return weights and prices at r."""
        n, q = len(alpha), len(self.problem.limits.names)
        a = r * self.unit * alpha
        self.solver.update(q=np.concatenate([-a, a, np.zeros(self.solver.n - 2 * n)]))
        found = self.solver.solve(raise_error=False)
        self.steps += int(found.info.iter)
        self.rounds += 1
        self.status = found.info.status
        price = found.y[-q - 1 :] / (r * self.unit)
        nu = self.problem.risk_aversion * (1.0 / r - 1.0)
        return found.x[:n] - found.x[n : 2 * n], Multipliers(price[:q], max(float(price[q]), 0.0), nu, 0.0)

    def solve(self, alpha: np.ndarray) -> Act:
        """Return the book; volatility by a secant on r, kept between the two sides that are known."""
        v, model = self.problem.volatility_limit or np.inf, self.problem.model
        self.steps, self.rounds = 0, 0
        low, high, r = 0.0, 1.0, self.start  # from where the last problem ended
        previous: tuple[float, float] = (0.0, -v)
        for _ in range(20):
            weights, multipliers = self.at(alpha, r)
            miss = model.volatility(weights) - v
            if self.status != "solved" or abs(miss) <= 1e-9 * v or (miss < 0 and r == 1.0):
                break
            low, high = (low, r) if miss > 0 else (r, high)
            slope = (miss - previous[1]) / (r - previous[0])
            previous, tried = (r, miss), r - miss / slope if slope > 0 else np.inf
            r = tried if low < tried < high else (1.0 if tried >= high == 1.0 else (low + high) / 2)
        self.start = r
        note = "" if self.status == "solved" else f"did not reach 1e-6: {self.status}"
        loop = "loop over volatility" if self.rounds > 1 else ""
        return Act(
            "", Took(np.nan, np.nan), weights, multipliers, self.steps, note="; ".join(filter(None, (note, loop)))
        )


def first_ratio(problem: Problem) -> float:
    """Return a start for r: 1 unless volatility binds by a guess, then where the book without limits meets it.

    That book is V^-1 alpha r / g0; the guess clips it to the caps and scales it to gross. A start below 1 where volatility is slack costs OSQP
    a second solve.
    """
    if problem.volatility_limit is None:
        return 1.0
    model, d = problem.model, problem.model.specific_variance
    X, inner = model.exposures, np.linalg.inv(model.factor_covariance)
    inner = inner + X.T @ (X / d[:, None])
    free = problem.alpha / d
    free = (free - X @ np.linalg.solve(inner, X.T @ free) / d) / problem.risk_aversion
    held = np.clip(free, problem.lower, problem.upper)
    held *= min(1.0, problem.gross_limit / float(np.abs(held).sum()))
    if model.volatility(held) <= problem.volatility_limit:
        return 1.0
    return min(1.0, problem.volatility_limit / model.volatility(free))


def osqp_loop(case: Case) -> Iterator[Act]:
    """Measure OSQP, its tolerance 1e-6 with polishing."""

    def cold() -> tuple[SplitProgram, Act]:
        program = SplitProgram(case.problem, case.limit)
        return program, program.solve(case.problem.alpha)

    took, (program, act) = case.timed(cold)
    yield replace(act, name="cold", took=took)
    neighbour = case.book.neighbour.alpha
    took, act = case.timed(lambda: program.solve(case.problem.alpha), before=lambda: program.solve(neighbour))
    yield replace(act, name="warm", took=took)


def ledge(case: Case) -> Iterator[Act]:
    """Measure Ledge, which has neither a gross nor a volatility limit: given their prices, it solves the same book."""
    import ledge as package

    problem, model, limits, theta = case.problem, case.problem.model, case.problem.limits, case.prices
    unit = 1.0 / float(np.sqrt(np.mean(problem.alpha**2)))
    net = limits.names.index("net")
    rest = np.arange(len(limits.names)) != net
    gross = {}
    if theta.gross > 0:  # a proportional cost of leaving an empty book
        gross = {"l1_turnover_costs": theta.gross * unit, "previous_weights": np.zeros(len(problem.alpha))}

    def stated(alpha: np.ndarray) -> Any:
        return package.PortfolioProblem(
            np.ascontiguousarray(model.exposures),
            np.ascontiguousarray(model.factor_covariance),
            np.ascontiguousarray(model.specific_variance),
            alpha * unit,
            risk_aversion=(problem.risk_aversion + theta.volatility) * unit,
            budget=float(limits.upper[net]),
            lower_bounds=np.array(problem.lower),
            upper_bounds=np.array(problem.upper),
            style_matrix=np.ascontiguousarray(limits.exposures[:, rest].T),
            style_lower=limits.lower[rest],
            style_upper=limits.upper[rest],
            **gross,
        )

    def act(name: str, took: Took, found: Any) -> Act:
        note = "" if found.status == "solved" else f"ended as {found.status}; "
        given = [name for name in ("gross", "volatility") if getattr(theta, name) > 0]
        note += f"given the price of {' and '.join(given)}" if given else ""
        return Act(name, took, np.array(found.weights), None, int(found.iterations), note=note)

    options = {"raise_on_failure": False}
    took, found = case.timed(lambda: stated(problem.alpha).solve(**options))
    yield act("cold", took, found)
    neighbour = case.book.neighbour.alpha
    sequence = stated(neighbour).sequence()
    took, found = case.timed(
        lambda: sequence.solve_next(expected_returns=problem.alpha * unit, **options),
        before=lambda: sequence.solve_next(expected_returns=neighbour * unit, **options),
    )
    yield act("warm", took, found)


def layer_defaults(case: Case) -> Iterator[Act]:
    """Measure cvxpylayers as its documentation has it: the problem in cvxpy, SCS forward, LSQR backward."""
    import cvxpy as cp

    problem, model, limits = case.problem, case.problem.model, case.problem.limits
    n, K = model.exposures.shape
    root = np.linalg.cholesky(model.factor_covariance)
    w, y, alpha = cp.Variable(n), cp.Variable(K), cp.Parameter(n)
    risk = cp.hstack([root.T @ y, cp.multiply(np.sqrt(model.specific_variance), w)])
    use = sparse.csr_array(limits.exposures.T) @ w
    equal = limits.lower == limits.upper
    constraints = [
        y == sparse.csr_array(model.exposures.T) @ w,
        use[equal] == limits.upper[equal],
        use[~equal] <= limits.upper[~equal],
        use[~equal] >= limits.lower[~equal],
        w <= problem.upper,
        w >= problem.lower,
        cp.norm1(w) <= problem.gross_limit,
        cp.norm(risk) <= problem.volatility_limit,
    ]
    goal = cp.Problem(cp.Maximize(alpha @ w - problem.risk_aversion / 2 * cp.sum_squares(risk)), constraints)
    for act, outputs in _through_layer(case, goal, alpha, [w], 1.0, {}):
        yield act if act.name != "cold" else replace(act, weights=outputs[0])


def layer_tuned(case: Case) -> Iterator[Act]:
    """Measure cvxpylayers on a statement scaled for it, with Clarabel forward and LSMR backward."""
    from engine.conic import state_cone_program

    program = state_cone_program(case.problem)
    tolerance = dict.fromkeys(("tol_gap_abs", "tol_gap_rel", "tol_feas"), 1e-10)
    options = {"solve_method": "Clarabel", "mode": "lsmr", **tolerance}
    scale = program.unit * program.worth
    for act, outputs in _through_layer(
        case, program.problem, program.alpha, list(program.outputs), scale, options, program.unit
    ):
        if act.name == "cold":
            weights = program.unit * outputs[0]
            yield replace(act, weights=weights, multipliers=program.multipliers(weights, outputs[1:]))
        else:
            yield act


def _through_layer(
    case: Case,
    goal: Any,
    alpha: Any,
    variables: list[Any],
    scale: float,
    options: dict[str, Any],
    unit: float = 1.0,
) -> Iterator[tuple[Act, list[np.ndarray]]]:
    """Yield forward and backward of a CvxpyLayer whose parameter is `scale` alpha and whose first output is w / `unit`."""
    import torch
    from cvxpylayers.torch import CvxpyLayer

    torch.set_num_threads(1)
    began = time.perf_counter()
    layer = CvxpyLayer(goal, [alpha], variables)
    note = f"layer made in {time.perf_counter() - began:.2g} s"
    signal = torch.from_numpy(scale * case.problem.alpha).requires_grad_()
    jobs = {"n_jobs_forward": 1, "n_jobs_backward": 1}
    took, outputs = case.timed(lambda: layer(signal, solver_args=options | jobs))
    yield Act("cold", took, note=note), [output.detach().numpy().reshape(-1) for output in outputs]
    incoming = torch.from_numpy(case.u)
    took, (back,) = case.timed(lambda: torch.autograd.grad(outputs[0], signal, incoming, retain_graph=True))
    yield Act("derivative", took, gradient=scale * unit * back.numpy()), []


PEERS = (
    Peer("metafolio", ("cold", "warm", "derivative"), structured),
    Peer("Clarabel, direct", ("cold", "set-up"), clarabel),
    Peer("Moreau", ("cold", "warm", "derivative"), moreau),
    Peer("OSQP", ("cold", "warm"), osqp_loop),
    Peer("Ledge", ("cold", "warm"), ledge),
    Peer("cvxpylayers, defaults", ("cold", "derivative"), layer_defaults),
    Peer("cvxpylayers, Clarabel + LSMR", ("cold", "derivative"), layer_tuned),
)
