"""Why every position is what it is, in words: what the asset is held for, what holds it back, what keeps it where it is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from engine.certificate import State
from engine.prices import Parts, parts
from engine.problem import RESERVED, Problem
from engine.solution import Solution
from risk.checks import FloatArray

__all__ = ["describe_costs", "position_reasons"]

GROUPS = ("market", "net", "country", "sector")
"""Factors and limits that depend on each other (net is the sum of the countries): told together, for only their sum is unique."""

SHOWN = 5e-4
"""Annual alpha below which a part is not told."""

COUNTED = 5e-5
"""Annual alpha below which a number is 0.00 %/yr."""

STEPS = {
    "position": (0.001, "0.1 % on every cap"),
    "gross": (0.1, "10 % of gross"),
    "volatility": (0.01, "1 % of volatility"),
    "turnover": (0.1, "10 % of turnover"),
    "net": (0.01, "1 % of net assets"),
    "country": (0.01, "1 % on every country"),
    "sector": (0.01, "1 % on every sector"),
    "beta": (0.01, "0.01 of beta"),
    "style": (0.1, "0.1 on every style"),
}
"""By how much a limit would be widened in practice."""


def position_reasons(problem: Problem, solution: Solution) -> pd.DataFrame:
    """Return why every position is what it is: a sentence for each asset, and the parts that it is made of.

    Parameters
    ----------
    problem : Problem
    solution : Solution
        Of this problem.

    Returns
    -------
    DataFrame
        By asset: `weight`; `held_by`, which is ``nothing`` where the weight answers to small changes, else ``bound``, ``zero``,
        ``holding`` (trading does not pay) or ``closed`` (lower = upper); `reason`; then what one more unit of weight would gain (+)
        or cost (-), annual alpha, in parts that sum to 0: alpha, risk, each family of limits, costs and the asset's own bound. Risk
        counts the price of the volatility limit.

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
    >>> print(*position_reasons(problem, optimize(problem))["reason"], sep=" | ")
    long on signal +3.0 %/yr; held at the 20 % cap (price 1.0 %/yr) | no position: nothing speaks for a position | short on signal -3.0 %/yr; held at the 20 % cap (price 1.0 %/yr)
    """
    found = parts(problem, solution)
    drivers = _drivers(found)
    rows = [_Asset.of(found, drivers, i) for i in range(len(problem.alpha))]
    table = found.frame()
    table.insert(0, "weight", solution.weights)
    table.insert(1, "held_by", [row.held_by for row in rows])
    table.insert(2, "reason", [row.reason for row in rows])
    return table


def _drivers(found: Parts) -> dict[str, FloatArray]:
    """Return the parts of exposures, (N,) each, under the names that a portfolio manager knows them by.

    A style's factor and its limit are one driver, and so are market, net, countries and sectors.
    """
    problem = found.problem
    names = [*problem.model.factors, *problem.limits.names]
    heads = {name.partition(":")[0] for name in names}
    told = [head for head in GROUPS if head in heads and not (head == "net" and "market" in heads)]
    drivers: dict[str, FloatArray] = {}
    for name, part in zip(names, np.hstack([found.factors, found.rows]).T, strict=True):
        label = "/".join(told) if name.partition(":")[0] in GROUPS else name
        drivers[label] = drivers.get(label, 0.0) + part
    return drivers


@dataclass(frozen=True)
class _Asset:
    """One asset's position with its parts, annual alpha: + speaks for more weight, - for less.

    `exposures` are the drivers that the book's factors and limits make. `gross`, `borrow`, `trading` and `turnover` are the most that
    their kinks can charge.
    """

    weight: float
    holding: float
    lower: float
    upper: float
    state: int
    alpha: float
    exposures: dict[str, float]
    costs: dict[str, float]
    bound: float
    gross: float
    borrow: float
    trading: float
    turnover: float

    @classmethod
    def of(cls, found: Parts, drivers: dict[str, FloatArray], i: int) -> _Asset:
        problem, theta = found.problem, found.multipliers
        costs = problem.costs
        return cls(
            weight=float(found.response.weights[i]),
            holding=float(problem.holdings[i]),
            lower=float(problem.lower[i]),
            upper=float(problem.upper[i]),
            state=int(found.response.states[i]),
            alpha=float(found.alpha[i]),
            exposures={label: float(part[i]) for label, part in drivers.items()},
            costs={
                "specific risk": float(found.specific_risk[i]),
                "the gross limit": float(found.gross[i]),
                "borrow fee": float(found.borrow[i]),
                "trading cost": float(found.linear_cost[i] + found.impact_cost[i]),
                "the turnover limit": float(found.turnover[i]),
            },
            bound=float(found.position[i]),
            gross=theta.gross,
            borrow=0.0 if costs is None else float(costs.borrow[i]),
            trading=(0.0 if costs is None else costs.annualisation * float(costs.linear[i]))
            + abs(float(found.impact_cost[i])),
            turnover=theta.turnover / 2,
        )

    @property
    def held_by(self) -> str:
        if self.state == State.CLOSED:
            return "closed"
        if self.bound != 0:
            return "bound"
        return {State.ZERO: "zero", State.HOLDING: "holding"}.get(State(self.state), "nothing")

    @property
    def reason(self) -> str:
        held_by = self.held_by
        if held_by == "closed":
            return self._closed()
        if held_by == "holding":
            return self._kept()
        if self.weight == 0:
            return self._without_position()
        if held_by == "bound":
            return self._bounded()
        return self._held_for()

    @property
    def side(self) -> str:
        return "long" if self.weight > 0 else "short"

    def _closed(self) -> str:
        if self.weight != 0:
            return "cannot trade" if self.weight == self.holding else f"fixed at {_share(self.weight)}"
        return "must be closed" if self.holding != 0 else "no position allowed"

    def _kept(self) -> str:
        """Say that moving the holding either way costs more than it gains."""
        gain = -self.costs["trading cost"] - self.costs["the turnover limit"]
        verb = "buying" if gain > 0 else "selling"
        return f"kept: {verb} would gain {_rate(gain)} and cost {_rate(self.trading + self.turnover)}"

    def _without_position(self) -> str:
        if self.bound != 0:
            barred = "long" if self.bound < 0 else "short"
            return f"no position: may not be {barred} (signal {_signed(self.alpha)}, price {_rate(self.bound)})"
        name = "closed" if self.holding != 0 else "no position"
        pull = self.alpha + sum(self.exposures.values())
        way = 1.0 if pull > 0 else -1.0
        kinks = {"the gross limit": self.gross, "borrow fee": self.borrow if way < 0 else 0.0}
        if way * self.holding <= 0:  # leaving 0 that way would be a trade away from what was held
            kinks |= {"trading cost": self.trading, "the turnover limit": self.turnover}
        width, told = sum(kinks.values()), [label for label, kink in kinks.items() if kink > SHOWN]
        if not told:
            return f"{name}: nothing speaks for a position"
        other = "long" if way > 0 else "short"
        unpaid = f"does not pay for {_listed(told)} ({_rate(width)})"
        turned = f"speaks for a {other}, but " if way * self.holding < 0 else ""
        signal, hedge = f"signal {_signed(self.alpha)}", way * sum(self.exposures.values())
        if way * self.alpha <= -SHOWN:
            return f"{name}: {signal} is outweighed by {self._hedging(way)}, and a {other} {unpaid}"
        if hedge > max(way * self.alpha, SHOWN):
            joined = f", with {signal}," if way * self.alpha >= SHOWN else ""
            return f"{name}: hedging {self._hedging(way)}{joined} {turned}{unpaid}"
        less = f", less {self._hedging(-way)}," if way * self.alpha > width else ""
        return f"{name}: {signal}{less} {turned}{unpaid}"

    def _hedging(self, way: float) -> str:
        """Name the largest exposure that speaks for a weight of that sign, with the sum of all exposures."""
        label = max(self.exposures, key=lambda name: way * self.exposures[name])
        total = sum(self.exposures.values())
        others = " and others" if abs(total - self.exposures[label]) >= SHOWN else ""
        return f"{label}{others} ({_rate(total)})"

    def _bounded(self) -> str:
        if self.bound * self.weight > 0:
            least = self.lower if self.weight > 0 else self.upper
            return f"{self._against_signal()}: may not be less than {_share(least)} (price {_rate(self.bound)})"
        cap = self.upper if self.weight > 0 else self.lower
        return self._held_for(f"; held at the {_share(cap)} cap (price {_rate(self.bound)})")

    def _held_for(self, limited: str = "") -> str:
        """Name the largest part that speaks for the position, and `limited`: by default the largest that speak against more of it."""
        way = 1.0 if self.weight > 0 else -1.0
        speaking = {"signal": self.alpha, **self.exposures, **self.costs}
        lead = max(speaking, key=lambda label: way * speaking[label])
        limited = limited or self._held_back()
        if lead == "signal":
            return f"{self.side} on signal {_signed(self.alpha)}{limited}"
        if lead in self.costs:
            verb = "selling" if way > 0 else "buying back"
            return f"{self._against_signal()}: {verb} more would cost more than it gains"
        return f"{self._against_signal()}: hedges {lead} ({_rate(speaking[lead])}){limited}"

    def _against_signal(self) -> str:
        if abs(self.alpha) < COUNTED:
            return f"{self.side}, with no signal"
        return f"{self.side}, {'with' if self.alpha * self.weight > 0 else 'against'} signal {_signed(self.alpha)}"

    def _held_back(self) -> str:
        """Name the two largest parts that speak against more of the position."""
        way = 1.0 if self.weight > 0 else -1.0
        against = {label: -way * part for label, part in {**self.exposures, **self.costs}.items()}
        largest = sorted((item for item in against.items() if item[1] > SHOWN), key=lambda item: -item[1])[:2]
        if not largest:
            return ""
        return "; held back by " + " and ".join(f"{label} ({_rate(part)})" for label, part in largest)


def describe_costs(costs: pd.DataFrame) -> list[str]:
    """Return what the limits cost in words, the dearest first, and last those that cost nothing.

    Parameters
    ----------
    costs : DataFrame
        What `limit_costs` returns.

    Notes
    -----
    The next step of a limit is worth at most its price times the step: the best objective is concave in the limits.

    Examples
    --------
    >>> from engine import Limits, optimize
    >>> from engine.prices import limit_costs
    >>> from risk import FactorModel
    >>> model = FactorModel(["A", "B", "C"], ["market"], np.ones((3, 1)), [[0.04]], [0.1, 0.1, 0.1])
    >>> problem = Problem([0.03, 0.0, -0.03], model, Limits(["net"], np.ones((3, 1)), [0.0], [0.0]), 0.2, 0.1, None, 1.0)
    >>> print(*describe_costs(limit_costs(problem, optimize(problem))), sep="; ")
    gross 10 % costs 0.52 %/yr (next 10 % of gross: at most 0.25 %/yr); no cost: net neutrality, position caps
    """
    lines, free = [], []
    for name, row in costs.sort_values("cost", ascending=False, kind="stable").iterrows():
        limit = _limit(str(name), int(row["rows"]), float(row["bound"]))
        if row["cost"] < COUNTED:
            free.append(limit)
            continue
        step, words = STEPS.get(str(name), (0.01, "0.01"))
        most = step * row["price"]
        following = f" (next {words}: at most {_cost(most)})" if most < row["cost"] else ""
        lines.append(f"{limit} {'cost' if limit.endswith('s') else 'costs'} {_cost(row['cost'])}{following}")
    return [*lines, f"no cost: {', '.join(free)}"] if free else lines


def _limit(name: str, rows: int, bound: float) -> str:
    if name == "position":
        return "position caps"
    if name in RESERVED:
        return f"{name} {_share(bound)}"
    if name in STEPS and bound == 0:
        return f"{name} neutrality"
    return f"{name} {'limits' if rows > 1 else 'limit'}"


def _cost(value: float) -> str:
    return f"{100 * value:.2f} %/yr"


def _rate(value: float) -> str:
    """Return the size of an annual rate in percent: one decimal, two where it would be 0.0."""
    size = abs(100 * value)
    return f"{size:.1f} %/yr" if size >= 0.05 else f"{size:.2f} %/yr"


def _signed(value: float) -> str:
    return ("-" if value < 0 else "+") + _rate(value)


def _share(value: float) -> str:
    """Return the size of a weight in percent, without closing zeros."""
    return f"{abs(100 * value):.2f}".rstrip("0").rstrip(".") + " %"


def _listed(words: list[str]) -> str:
    return " and ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))
