"""Linear programs, solved to 1e-10 by HiGHS: what limits and their conflicts are found with."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.optimize import linprog

from engine.solution import SolverFailure
from risk.checks import FloatArray

__all__ = ["least"]


def least(
    cost: FloatArray, A: Any, b: FloatArray, lower: FloatArray, upper: FloatArray
) -> tuple[FloatArray, FloatArray] | None:
    """Return the x that minimises cost'x over A x <= b, lower <= x <= upper, and the rows' marginals; None if infeasible.

    Parameters
    ----------
    cost, lower, upper : ndarray of shape (n,)
    A : array or sparse array of shape (m, n)
    b : ndarray of shape (m,)

    Raises
    ------
    SolverFailure
        If HiGHS ends as neither optimal nor infeasible.
    """
    bounds: Any = np.column_stack([lower, upper])
    tight = {"primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10}
    result: Any = None
    # Presolve costs more than it saves where rows are few. On some programs HiGHS's simplex stops without a status; its
    # interior point solves them to the same tolerances.
    attempts: tuple[tuple[Any, bool], ...] = (("highs", False), ("highs", True), ("highs-ipm", True))
    for method, presolve in attempts:
        options: Any = {**tight, "presolve": presolve}
        result = linprog(cost, A_ub=A, b_ub=b, bounds=bounds, method=method, options=options)
        if result.status in (0, 2):
            break
    if result.status == 2:
        return None
    if result.status != 0:
        raise SolverFailure(f"HiGHS could not tell which limits are in conflict: {result.message}")
    return result.x, result.ineqlin.marginals
