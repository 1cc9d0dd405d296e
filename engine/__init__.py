"""What to hold, and why: mandate, portfolio problem, optimizer and true contribution of one date."""

from engine.costs import TradeCosts
from engine.mandate import Mandate, load_mandate
from engine.optimizer import optimize
from engine.problem import Limits, Problem
from engine.solution import Certificate, InfeasibleMandate, Solution, SolverFailure, Status

ONE = load_mandate("one")
SUPREME = load_mandate("supreme")

__all__ = [
    "ONE",
    "SUPREME",
    "Certificate",
    "InfeasibleMandate",
    "Limits",
    "Mandate",
    "Problem",
    "Solution",
    "SolverFailure",
    "Status",
    "TradeCosts",
    "load_mandate",
    "optimize",
]
