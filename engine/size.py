r"""What keeps a book from being larger: every limit, risk and cost, by what one more percent of the book would pay them.

At the optimum one more unit of any asset gains nothing (`engine.prices`): 0 = alpha_i - sum of what the limits, risk and costs take from it.
Times w_i and added up over assets that is Euler's identity for a book that is scaled,

.. math::

    \alpha'w = \gamma\, w'Vw + \sum_j p_j L_j'w + \eta\, \|w\|_1 + \ldots

An equality at 0, such as net, takes nothing: a neutral book stays neutral when it is scaled.
"""

from __future__ import annotations

import pandas as pd

from engine.prices import parts
from engine.problem import Problem
from engine.solution import Solution

__all__ = ["NO_LIMITS", "size_stoppers"]

RISK, COSTS = ("factor_risk", "specific_risk"), ("linear_cost", "impact_cost")
NO_LIMITS = ("risk", "trading costs", "borrow")
"""What stops a book and is no limit."""


def size_stoppers(problem: Problem, solution: Solution) -> pd.Series:
    """Return what takes the gain of a larger book, as shares of alpha'w, the largest first.

    Parameters
    ----------
    problem : Problem
    solution : Solution
        Of this problem.

    Returns
    -------
    Series
        By ``risk`` (with the price of the volatility limit), ``trading costs``, ``borrow``, ``position``, ``gross``, ``turnover`` and the
        families of rows. The shares add up to 1. One that is negative gains from a larger book: costs where the book is coming down.
        All are 0 where alpha'w is not positive.

    Raises
    ------
    DataError
        If the solution is not proven (`extra`) or not one of this problem.

    Examples
    --------
    >>> import numpy as np
    >>> from engine import Limits, optimize
    >>> from risk import FactorModel
    >>> model = FactorModel(["A", "B"], ["market"], np.ones((2, 1)), [[0.04]], [0.1, 0.1])
    >>> problem = Problem([0.03, -0.03], model, Limits(["net"], np.ones((2, 1)), [0.0], [0.0]), 0.2, 0.2, None, 1.0)
    >>> size_stoppers(problem, optimize(problem)).round(3).loc[["gross", "risk", "position"]].tolist()
    [0.667, 0.333, 0.0]
    """
    found = parts(problem, solution)
    frame = found.frame()
    taken = {str(name): -float(frame[name] @ found.response.weights) for name in frame.columns}
    gained = -taken.pop("alpha")
    for whole, pieces in (("risk", RISK), ("trading costs", COSTS)):
        taken[whole] = sum(taken.pop(name) for name in pieces)
    shares = pd.Series(taken) / gained if gained > 0 else pd.Series(taken) * 0.0
    return (shares + 0.0).sort_values(ascending=False, kind="stable")
