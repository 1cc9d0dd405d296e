"""Between cvxpy and this package: our problem as a program that cvxpylayers can differentiate, our solver inside a `CvxpyLayer`.

Terms of your own. `cvxpy_program` states a problem with alpha as its parameter and takes terms that the structured solver cannot read.
cvxpylayers differentiates it; no certificate covers the result::

    program, alpha, weights = cvxpy_program(problem, extra=lambda w: [w[0] + w[1] <= 0.01])
    layer = CvxpyLayer(program, [alpha], [weights])
    (w,) = layer(signal, solver_args={"solve_method": "Clarabel", "mode": "lsmr"})

A program of your own. Where it states one of our problems, `solver_interface` puts our solver and derivative behind it::

    layer = CvxpyLayer(program, [alpha], [weights], solver=solver_interface(problem))
    (w,) = layer(signal)  # (N,) or (B, N)

That serves alpha and weights alone: no other parameter, no price of a constraint. `OptimizerLayer` differentiates by limits too, and is the
faster way where nothing ties you to `CvxpyLayer`, which copies all coefficients of the program for every book of a batch.
"""

from __future__ import annotations

from typing import Any

import cvxpy as cp
import numpy as np
import torch
from cvxpylayers.interfaces.base import SolverInterface

from engine.layer import OptimizerLayer
from engine.optimizer import optimize
from engine.problem import Problem
from engine.reference import Extra, state
from risk import DataError

__all__ = ["cvxpy_program", "solver_interface"]

SAME = 1e-3
"""Largest difference between two books that count as the same, in the largest weight: a generic solver's digits."""


def cvxpy_program(problem: Problem, extra: Extra | None = None) -> tuple[cp.Problem, cp.Parameter, cp.Variable]:
    """Return the problem in cvxpy, its parameter alpha and its variable weights, both of shape (N,).

    Parameters
    ----------
    problem : Problem
        Its alpha is the parameter's first value.
    extra : callable, optional
        A function of the weights that returns constraints, concave scalar terms to add to the objective (annual alpha), or a list of
        both, as in `optimize`.

    Raises
    ------
    DataError
        If `extra` returns something else than is allowed.

    Notes
    -----
    cvxpylayers' own derivative of this program is wrong where trades have an impact cost: u^(3/2) is stated by cones, on whose boundary
    every name lies that does not trade, and LSMR ends far off without a word. With `solver_interface` it is right.

    Examples
    --------
    >>> from engine import Limits
    >>> from risk import FactorModel
    >>> model = FactorModel(["A", "B"], ["market"], np.ones((2, 1)), [[0.04]], [0.09, 0.09])
    >>> net = Limits(["net"], np.ones((2, 1)), [0.0], [0.0])
    >>> program, alpha, weights = cvxpy_program(Problem([0.009, -0.009], model, net, 0.5, 1.0, None, 1.0))
    >>> _ = program.solve(solver="CLARABEL")
    >>> weights.value.round(4).tolist()
    [0.1, -0.1]
    """
    n = len(problem.alpha)
    statement = state(problem.replace(alpha=np.zeros(n)), extra)
    alpha = cp.Parameter(n, name="alpha", value=problem.alpha)
    objective = cp.Maximize(alpha @ statement.weights + statement.objective)
    return cp.Problem(objective, statement.constraints), alpha, statement.weights


def solver_interface(problem: Problem, *, jobs: int = 2) -> SolverInterface:
    """Return the structured solver and its derivative as the `solver` of a torch `CvxpyLayer`.

    When the layer is made, its program is solved once by Clarabel, at the problem's own alpha, and has to give our book. That finds
    programs that state something else, but for a limit that does not bind there.

    Parameters
    ----------
    problem : Problem
        What the layer's program states. Its parameter is alpha, in the order of `model.assets`, and stands in the objective alone, as
        alpha'w; the variable returned is w.
    jobs : int
        Threads that share a batch.

    Raises
    ------
    DataError
        From the layer, when it is made with a program of another shape or another optimum, or called with options or float32.
    InfeasibleMandate, SolverFailure
        From the layer, as `OptimizerLayer` raises them.

    Examples
    --------
    >>> from cvxpylayers.torch import CvxpyLayer
    >>> from engine import Limits
    >>> from risk import FactorModel
    >>> model = FactorModel(["A", "B", "C"], ["market"], np.ones((3, 1)), [[0.04]], [0.09, 0.09, 0.09])
    >>> net = Limits(["net"], np.ones((3, 1)), [0.0], [0.0])
    >>> problem = Problem([0.03, 0.0, -0.03], model, net, 0.5, 2.0, None, 1.0)
    >>> w, alpha = cp.Variable(3), cp.Parameter(3)
    >>> risk = 0.04 * cp.square(cp.sum(w)) + 0.09 * cp.sum_squares(w)
    >>> limits = [cp.sum(w) == 0, cp.norm1(w) <= 2, cp.abs(w) <= 0.5]
    >>> program = cp.Problem(cp.Maximize(alpha @ w - risk / 2), limits)
    >>> layer = CvxpyLayer(program, [alpha], [w], solver=solver_interface(problem))
    >>> signal = torch.tensor([0.03, 0.0, -0.03], dtype=torch.float64, requires_grad=True)
    >>> layer(signal)[0][0].backward()
    >>> signal.grad.numpy().round(3).tolist()
    [7.407, -3.704, -3.704]
    """
    return _Structured(OptimizerLayer(problem, jobs=jobs))


class _Structured(SolverInterface):  # type: ignore[misc]
    """Reads alpha out of the canonical objective q = slope alpha + constant, and hands its gradient back through it."""

    canon_solver = "CLARABEL"

    def __init__(self, layer: OptimizerLayer) -> None:
        self.layer = layer

    def setup(self, ctx: Any) -> None:
        """Check that the program is that of the problem, and find weights and alpha in its canonical form."""
        n = len(self.layer.problem.alpha)
        returned = ctx.var_recover
        if [p.shape for p in ctx.parameters] != [(n,)] or [(v.shape, v.source) for v in returned] != [((n,), "primal")]:
            raise DataError(
                f"the program must have one parameter, alpha of shape ({n},), and return one variable, the weights of shape ({n},); got "
                f"parameters {[p.shape for p in ctx.parameters]} and variables {[v.shape for v in ctx.variables]}."
            )
        self.place = returned[0].primal
        # A column for each entry of alpha, then what depends on none; in the objective a row for each variable, then a constant.
        q = ctx.q.tocsc()[:-1]
        quadratic, rows = ctx.reduced_P.reduced_mat, ctx.reduced_A.reduced_mat
        elsewhere = sum(int(table.tocsc()[:, :n].count_nonzero()) for table in (quadratic, rows) if table is not None)
        self.slope = torch.from_numpy(q[self.place, :n].diagonal())
        self.constant = torch.from_numpy(q[self.place, n:].toarray()[:, 0])
        if elsewhere or q[:, :n].count_nonzero() != n or not bool(self.slope.all()):
            raise DataError(
                "alpha must stand in the program's objective alone, as alpha'w; here it stands elsewhere too."
            )
        self._compare(ctx.problem, ctx.parameters[0], ctx.variables[0])

    def _compare(self, program: cp.Problem, alpha: cp.Parameter, weights: cp.Variable) -> None:
        problem = self.layer.problem
        before, alpha.value = alpha.value, problem.alpha
        program.solve(solver=cp.CLARABEL)
        alpha.value = before
        if program.status != cp.OPTIMAL:
            raise DataError(
                f"Clarabel ends the program as {program.status} at the problem's own alpha, to which it is compared."
            )
        own = optimize(problem).weights
        largest = float(np.abs(own).max())
        if largest == 0:
            raise DataError(
                "the problem's own alpha gives an empty book, which tells nothing of the program; give it a typical alpha."
            )
        apart = float(np.abs(weights.value - own).max()) / largest
        if not apart <= SAME:
            raise DataError(
                f"the program states another problem: at the problem's own alpha its book differs by {apart:.1e} of the largest weight. "
                "Compare it with cvxpy_program(problem)."
            )

    def set_params(self, params: list[Any]) -> None:
        """Refuse what would lose digits on its way through the canonical form."""
        if params[0].dtype != np.float64:
            raise DataError(f"`alpha` must be float64; got {params[0].dtype}. Convert it with alpha.double().")

    def solve_torch_batch(
        self, _P: Any, q: torch.Tensor, _A: Any, _dims: Any, solver_args: dict[str, Any], needs_grad: bool
    ) -> tuple[torch.Tensor, torch.Tensor, Any]:
        """Return variables (B, n_variables) of which the weights alone are set, no duals, and what the derivative needs."""
        if solver_args:
            raise DataError(f"the structured solver has no options; got solver_args {sorted(solver_args)}.")
        with torch.set_grad_enabled(needs_grad):
            alpha = ((q[:, self.place].detach() - self.constant) / self.slope).requires_grad_(needs_grad)
            weights = self.layer(alpha)
        variables = q.new_zeros(len(q), q.shape[1] - 1)
        variables[:, self.place] = weights.detach()
        return variables, q.new_zeros(len(q), 0), (alpha, weights)

    def derivative_torch_batch(
        self, dprimal: torch.Tensor, _ddual: torch.Tensor, saved_state: Any
    ) -> tuple[None, torch.Tensor, None]:
        """Return dLoss/dq, (B, n_variables + 1); the other coefficients do not depend on alpha."""
        alpha, weights = saved_state
        (g,) = torch.autograd.grad(weights, alpha, dprimal[:, self.place], retain_graph=True)
        dq = dprimal.new_zeros(len(dprimal), dprimal.shape[1] + 1)
        dq[:, self.place] = g / self.slope
        return None, dq, None
