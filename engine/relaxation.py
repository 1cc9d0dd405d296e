r"""The least that a mandate gives way where its limits cannot all hold, less precious limits first.

A lexicographic goal programme (Charnes and Cooper 1961): with tier 0, position caps, gross and volatility hard,

.. math::

    S_1 = \min \sum_{g \in \text{tier } 1} x_g, \qquad
    S_2 = \min \sum_{g \in \text{tier } 2} x_g \; \text{ s.t. } \sum_{g \in \text{tier } 1} x_g \le S_1, \qquad \ldots

and last of all the turnover limit. Tiers after the one that is minimised are left out, so that a limit is widened only where
all less precious ones together cannot do without it: turnover gives way first, then the highest tier, then the next.
Within a tier the sum of widenings counts, each x_g >= 0 in its limit's own unit.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from engine.infeasibility import explain
from engine.problem import Limits, Problem
from engine.program import Program, state_program
from engine.solution import InfeasibleMandate, SolverFailure
from engine.widening import MET, Widening, least_widening

__all__ = ["relax"]

ROOM = 1e-6
"""Added to every relaxed limit, in its size: its largest exposure times a typical position, so some 1e-8 of net assets.
At the least widening itself only one portfolio may be left, and rounding would decide whether there is one: of 344 relaxed
problems the structured solver left 17 without proof with a room of 1e-9, 7 with 1e-8 and none with 1e-7 or this."""

SPARE = MET / 10
"""By this, in sizes, a level may exceed its least sum while the next is minimised: less than what counts as missed."""

PRICED = 1e-4
"""Price of volatility above which a level leaves one portfolio only, in sizes of the level's widening."""

EXACT = 1e-10
"""Limits that a linear program misses by no more than it is solved to, in their sizes, hold as they are from then on."""


def relax(problem: Problem) -> tuple[Problem, Mapping[str, float]]:
    """Return the problem with the limits that stand in the way widened by the least amounts, and those amounts by name.

    Rows of tier 0, position caps, gross and volatility stay as they are. A row is widened on the side that it needs; its
    amount includes the room that is added for rounding. Where nothing needs to give, the problem itself and no amounts
    are returned.

    Where the volatility limit decides, amounts of the levels after the first that it decides are least to about 1e-3 of a
    typical position only: on the curved side of a cone a rounding of 1e-8 in one level is worth its root in the next.

    Raises
    ------
    InfeasibleMandate
        If limits that are never relaxed are in conflict by themselves; the message names them.
    SolverFailure
        If that cannot be decided.

    Examples
    --------
    >>> import numpy as np
    >>> from engine import Limits, Problem
    >>> from risk import FactorModel
    >>> model = FactorModel(["A", "B"], ["market"], np.ones((2, 1)), [[0.04]], [0.09, 0.09])
    >>> net = Limits(["net"], np.ones((2, 1)), [0.0], [0.0])
    >>> book = [0.3, 0.1]
    >>> problem = Problem([0.0, 0.0], model, net, 0.5, 1.0, None, 15.0, holdings=book, turnover_limit=0.15)
    >>> relaxed, amounts = relax(problem)
    >>> {name: round(amount, 5) for name, amount in amounts.items()}
    {'turnover': 0.05}
    """
    program = state_program(problem)
    levels = _levels(program)
    found = _lexicographic(program, levels) if levels else None
    if found is not None:
        return _widened(program, levels, found)
    conflict = _conflict_of_tier_0(problem)
    if conflict is not None:
        raise conflict
    if levels:
        raise SolverFailure(
            "The limits that are never relaxed leave almost no portfolio, and no least relaxation of the others was found."
        )
    return problem, {}


def _widened(program: Program, levels: list[list[int]], found: Widening) -> tuple[Problem, dict[str, float]]:
    """Return the problem that the portfolio of `found` meets with some room, and what was added to each limit."""
    problem, limits, q = program.problem, program.problem.limits, len(program.problem.limits.names)
    size, may = program.size[:q], np.isin(np.arange(q), [g for level in levels for g in level])
    used = limits.exposures.T @ found.weights
    over, under = used - limits.upper, limits.lower - used
    up = np.where(may & (over > MET * size), over + ROOM * size, 0.0)
    down = np.where(may & (under > MET * size), under + ROOM * size, 0.0)
    amounts = {name: float(amount) for name, amount in zip(limits.names, up + down, strict=True) if amount > 0}
    if amounts:
        wider = Limits(limits.names, limits.exposures, limits.lower - down, limits.upper + up, limits.tier)
        problem = problem.replace(limits=wider)
    if problem.turnover_limit is not None:
        unit = float(program.size[program.place("turnover")])
        missing = float(np.abs(found.weights - problem.holdings).sum()) / 2 - problem.turnover_limit
        if missing > MET * unit:
            amounts["turnover"] = missing + ROOM * unit
            problem = problem.replace(turnover_limit=problem.turnover_limit + amounts["turnover"])
    return problem, amounts


def _levels(program: Program) -> list[list[int]]:
    """Return the limits that may be relaxed: tier 1 first, turnover last."""
    tier = program.problem.limits.tier
    levels = [np.flatnonzero(tier == level).tolist() for level in np.unique(tier[tier > 0])]
    turnover = program.place("turnover")
    return [*levels, [turnover]] if turnover >= 0 else levels


def _lexicographic(program: Program, levels: list[list[int]]) -> Widening | None:
    """Return the least widening level by level; None where what is never relaxed leaves no portfolio."""
    hard = set(range(len(program.names))) - {g for level in levels for g in level}
    limit, cone = program.problem.volatility_limit, program.place("volatility")
    if cone >= 0:
        # A portfolio that happens to be within the volatility limit is the answer, and is a vertex.
        found = _level_by_level(program, levels, hard - {cone})
        if found is None or program.problem.model.volatility(found.weights) <= (limit or 0.0):
            return found
    return _level_by_level(program, levels, hard)


def _level_by_level(program: Program, levels: list[list[int]], hard: set[int]) -> Widening | None:
    budgets: list[tuple[dict[int, float], float]] = []
    found: Widening | None = None
    cone = program.place("volatility")
    linear = cone not in hard
    for level in levels:
        largest = float(program.size[level].max())
        prices = {g: float(program.size[g]) / largest for g in level}  # the sum counts in the limits' own units
        found = least_widening(program, hard, prices, budgets)
        if found is None:
            return None
        if cone >= 0 and found.prices[cone] > PRICED:
            # Volatility is strictly convex: where it has a price, no other portfolio is as good, and the rest is decided.
            return found
        if linear and (found.amounts[level] <= EXACT * program.size[level]).all():
            hard = hard | set(level)
        else:
            budgets.append((prices, float(found.amounts[level].sum()) / largest + SPARE))
    return found


def _conflict_of_tier_0(problem: Problem) -> InfeasibleMandate | None:
    """Return why what is never relaxed cannot hold by itself, or None where it can."""
    limits = problem.limits
    gives = limits.tier > 0
    lower, upper = np.where(gives, -np.inf, limits.lower), np.where(gives, np.inf, limits.upper)
    bare = Limits(limits.names, limits.exposures, lower, upper, limits.tier)
    conflict = explain(problem.replace(limits=bare, turnover_limit=None))
    if conflict is None:
        return None
    message = f"{conflict} None of these may be relaxed, whatever else gives way."
    return InfeasibleMandate(message, conflict.conflict, conflict.relaxation)
