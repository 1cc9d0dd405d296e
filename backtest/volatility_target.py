"""A book that is scaled towards a volatility: how it gets there, and what stopped it where it does not."""

from __future__ import annotations

from dataclasses import dataclass

from engine import Mandate, Problem, Solution
from engine.size import NO_LIMITS, size_stoppers

__all__ = ["LEAST_AVERSION", "MissedTarget", "missed_target", "risk_appetite"]

LEAST_AVERSION = 0.01
"""Of the mandate's risk aversion, on the way to a target. Without any, a book that cannot reach it were a vertex of a linear program."""
REACHED = 1e-4
"""Relative shortfall that is none."""
WORTH_NAMING = 0.005


@dataclass(frozen=True)
class MissedTarget:
    """A decision whose book falls short of the mandate's volatility target.

    Attributes
    ----------
    reached : float
        Forecast volatility of the book, calibrated as the target is, per year.
    stopped_by : str
        The limit that takes most of what a larger book would gain; empty where none does: trading costs stopped it.
    detail : str
        What took how much of it.
    """

    reached: float
    stopped_by: str
    detail: str


def risk_appetite(mandate: Mandate, multiplier: float) -> tuple[float | None, float]:
    """Return volatility limit and risk aversion of a decision whose forecasts are to be multiplied by `multiplier`.

    A target is reached by the problem itself: next to no risk aversion of its own, and the volatility limit at the target. The price of
    that limit is then the risk aversion at which the best book has just that volatility, and every other limit holds as it does
    without a target. The best book's volatility falls with risk aversion; one that is short of the target at next to none has reached
    what a best book can.
    """
    target, limit = mandate.volatility_target, mandate.volatility_limit
    if target is not None:
        return target / multiplier, LEAST_AVERSION * mandate.risk_aversion
    return None if limit is None else limit / multiplier, mandate.risk_aversion


def missed_target(mandate: Mandate, problem: Problem, solution: Solution, multiplier: float) -> MissedTarget | None:
    """Return by what a solved decision was kept short of the mandate's volatility target; None: it was not, or there is no target."""
    target, reached = mandate.volatility_target, solution.volatility * multiplier
    if target is None or reached >= target * (1 - REACHED):
        return None
    shares = size_stoppers(problem, solution)
    limits = shares.drop(list(NO_LIMITS))
    stopped_by = str(limits.index[0]) if limits.iloc[0] > WORTH_NAMING else ""
    taken = ", ".join(f"{name} {share:.0%}" for name, share in shares.items() if share > WORTH_NAMING)
    detail = (
        f"reaches {reached:.2%} of {target:.2%} a year; what a larger book would gain is taken by {taken or 'nothing'}"
    )
    return MissedTarget(reached, stopped_by, detail)
