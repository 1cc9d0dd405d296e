"""One verb of the room: from a portfolio problem to a proven book."""

from __future__ import annotations

from engine import reference
from engine.problem import Problem
from engine.reference import Extra
from engine.solution import Solution
from risk import DataError

__all__ = ["METHODS", "optimize"]

METHODS = ("reference",)


def optimize(problem: Problem, *, method: str = "reference", extra: Extra | None = None) -> Solution:
    """Return the best portfolio within all limits, with the evidence that it is.

    Parameters
    ----------
    problem : Problem
    method : str
        ``reference``: the problem as stated, in cvxpy.
    extra : callable, optional
        A function of the cvxpy weights variable that returns constraints, concave scalar terms to add to the objective
        (annual alpha), or a list of both.

    Raises
    ------
    InfeasibleMandate
        If no portfolio meets all limits: names a smallest set in conflict and the least cure of each.
    SolverFailure
        If no solver ends with a solution that passes the certificate.
    DataError
        If `method` is unknown, or `extra` returns something else than is allowed.

    Examples
    --------
    >>> import numpy as np
    >>> from engine import Limits, Problem
    >>> from risk import FactorModel
    >>> model = FactorModel(["A", "B"], ["market"], np.ones((2, 1)), [[0.04]], [0.09, 0.09])
    >>> net = Limits(["net"], np.ones((2, 1)), [0.0], [0.0])
    >>> problem = Problem([0.009, -0.009], model, net, 0.5, gross_limit=1.0, volatility_limit=None, risk_aversion=1.0)
    >>> optimize(problem).weights.round(6).tolist()
    [0.1, -0.1]
    """
    if method not in METHODS:
        raise DataError(f"`method` must be one of {', '.join(METHODS)}; got {method!r}.")
    return reference.solve(problem, extra)
