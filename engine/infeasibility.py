r"""Why no portfolio meets all limits: a smallest set of named limits in conflict, and the least cure of each.

Limits are widened by x_g >= 0 each (`engine.widening`); those of a set S can hold together if and only if the least sum of
x_g over S is 0. Where it is not, the multipliers prove which limits are in conflict by themselves (Farkas), which leaves few
to try; a deletion filter (Chinneck 2008, Feasibility and Infeasibility in Optimization) makes them irreducible. The least
cure of one limit is its least x_g with every other limit of the problem hard.
"""

from __future__ import annotations

import math
from collections.abc import Set as AbstractSet

from engine.problem import Problem
from engine.program import Program, state_program
from engine.solution import InfeasibleMandate, SolverFailure
from engine.widening import MET, Widening, least_widening, support

__all__ = ["explain", "unsolved"]

SHOWN = 8
"""Names in one enumeration of a message; the exception's attributes hold all."""


def explain(problem: Problem) -> InfeasibleMandate | None:
    """Return why no portfolio meets all limits of `problem`, or None where one does.

    Notes
    -----
    Named limits are the rows of L by their names, `gross`, `volatility`, `turnover`, `position` (the caps of all names that
    may be 0 and may move, widened together) and `position:ASSET` for a name whose bounds exclude 0. A limit's cure is
    infinite where it alone does not help because limits outside the set are in conflict too.

    Raises
    ------
    SolverFailure
        If that cannot be decided.
    """
    program = state_program(problem)
    cures: dict[int, Widening | None] = {}
    conflict = _conflict(program, cures)
    if conflict is None:
        return None
    cures = {g: cures[g] if g in cures else _least_cure(program, g) for g in sorted(conflict)}
    described = [_described(problem, program.names[g]) for g in cures]
    message = f"No portfolio meets all limits. In conflict: {_listed(described)}."
    working = [_cure(problem, program.names[g], g, cure) for g, cure in cures.items() if cure is not None]
    if working:
        message += f" Any one of these cures it: {'; '.join(working[:SHOWN])}."
    if len(working) < len(cures):
        rest = _listed([program.names[g] for g, cure in cures.items() if cure is None])
        message += f" {rest} alone cannot: other limits are in conflict as well."
    relaxation = {program.names[g]: math.inf if cure is None else float(cure.amounts[g]) for g, cure in cures.items()}
    return InfeasibleMandate(message, tuple(program.names[g] for g in cures), relaxation)


def unsolved(problem: Problem, why: str) -> InfeasibleMandate | SolverFailure:
    """Return what to raise where no solver's book was proven: the conflict of limits or, where there is none, `why`."""
    return explain(problem) or SolverFailure(
        f"No proven solution: {why}. By a separate check the limits can be met, perhaps with almost no room left, as where a "
        "turnover or gross limit leaves one book only: widen it slightly, or look for data of absurd scale."
    )


def _conflict(program: Program, cures: dict[int, Widening | None]) -> set[int] | None:
    """Return an irreducible set of limits in conflict, or None where all can hold; `cures` keeps those found on the way."""
    everything = set(range(len(program.names)))
    # Without volatility first: it is a linear program then, and few conflicts need the cone.
    limits = everything - {program.place("volatility")}
    members = _support(program, limits)
    if members is None:
        limits = everything
        members = _support(program, limits)
    if members is None:
        return None
    # What is tried first leaves first: an answer that names no caps, or no whole-book limit, is easier to act on.
    for name in ("gross", "position"):
        smaller = _support(program, limits - {program.place(name)}) if program.place(name) in members else None
        if smaller is not None:
            members, limits = smaller, limits - {program.place(name)}
    return _irreducible(program, members, cures)


def _irreducible(program: Program, members: dict[int, float], cures: dict[int, Widening | None]) -> set[int]:
    """Return a smallest part of `members` in conflict: what the proof needs least is tried first, half of it at once."""
    cone = program.place("volatility")
    # Volatility is known to be needed; the bound of a single name leaves last.
    rest = [g for g in members if g != cone]
    rest.sort(key=lambda g: (program.names[g].startswith("position:"), members[g], g))
    chunk = max(len(rest) // 2, 1)
    while rest:
        batch = rest[:chunk]
        if chunk == 1:
            # Where widening one limit cures everything, every conflict needs it.
            cures.setdefault(batch[0], _least_cure(program, batch[0]))
        found = None if chunk == 1 and cures[batch[0]] is not None else _support(program, set(members) - set(batch))
        if found is not None:
            members = found
            rest = [g for g in rest if g in members]
        elif chunk > 1:
            chunk //= 2
        else:
            rest = rest[1:]
    return set(members)


def _support(program: Program, limits: AbstractSet[int]) -> dict[int, float] | None:
    """Return limits of `limits` that are in conflict by themselves, each with its part in it, or None where all can hold.

    Without volatility every row is elastic; with it the others are known to hold together, and volatility alone is.
    """
    cone = program.place("volatility")
    if cone in limits:
        found = least_widening(program, limits - {cone}, {cone: 1.0})
        if found is None:
            raise SolverFailure(
                "Limits hold together without volatility, but no portfolio with the least of it was found."
            )
    else:
        rows = {g for g in limits if not program.names[g].startswith("position")}
        found = least_widening(program, limits - rows, dict.fromkeys(rows, 1.0)) if rows else None
    if found is None or found.total <= MET:
        return None
    return support(program, limits, found)


def _least_cure(program: Program, g: int) -> Widening | None:
    """Return the least widening of one limit with every other hard; None where that does not help."""
    everything, cone = set(range(len(program.names))), program.place("volatility")
    if cone in everything - {g}:
        # A vertex that happens to be within the volatility limit is the answer, and is exact.
        found = least_widening(program, everything - {g, cone}, {g: 1.0})
        if found is None or program.problem.model.volatility(found.weights) <= (
            program.problem.volatility_limit or 0.0
        ):
            return found
    return least_widening(program, everything - {g}, {g: 1.0})


def _listed(items: list[str]) -> str:
    if len(items) > SHOWN:
        items = [*items[:SHOWN], f"{len(items) - SHOWN} more"]
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}"


def _bounds(problem: Problem, name: str) -> tuple[float, float]:
    """Return lower and upper side of a named limit; (nan, nan) for the caps taken together."""
    if name in problem.limits.names:
        j = problem.limits.names.index(name)
        return float(problem.limits.lower[j]), float(problem.limits.upper[j])
    if name.startswith("position:"):
        i = problem.model.assets.index(name.removeprefix("position:"))
        return float(problem.lower[i]), float(problem.upper[i])
    whole = {"gross": problem.gross_limit, "volatility": problem.volatility_limit, "turnover": problem.turnover_limit}
    limit = whole.get(name)
    return -math.inf, math.nan if limit is None else limit


def _described(problem: Problem, name: str) -> str:
    lower, upper = _bounds(problem, name)
    if math.isnan(upper):
        return "position (the caps of all names that can move)"
    if lower == upper:
        return f"{name} (= {upper:.6g})"
    if not math.isfinite(lower):
        return f"{name} (<= {upper:.6g})"
    if not math.isfinite(upper):
        return f"{name} (>= {lower:.6g})"
    return f"{name} ({lower:.6g} to {upper:.6g})"


def _cure(problem: Problem, name: str, g: int, cure: Widening) -> str:
    """Return the cure in words, its amount rounded up to four digits so that what is printed is enough."""
    amount = _rounded_up(float(cure.amounts[g]))
    lower, upper = _bounds(problem, name)
    if math.isnan(upper):
        return f"every position cap wider by {amount:.4g}"
    if name in problem.limits.names:
        used = float(problem.limits.exposures[:, problem.limits.names.index(name)] @ cure.weights)
    elif name.startswith("position:"):
        used = float(cure.weights[problem.model.assets.index(name.removeprefix("position:"))])
    else:
        used = math.inf
    side, signed = (upper, amount) if used > upper else (lower, -amount)
    bound = round(side + signed, 12) + 0.0  # no "-0", no 3e-18
    return f"{name} to {bound:.6g} ({signed:+.4g})"


def _rounded_up(amount: float) -> float:
    if amount <= 0:
        return 0.0
    digit = 10.0 ** (math.floor(math.log10(amount)) - 3)
    return math.ceil(amount / digit) * digit
