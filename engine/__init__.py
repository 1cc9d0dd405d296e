"""What to hold, and why: mandate, portfolio problem, optimizer and true contribution of one date."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from engine.attribution import Attribution, attribute
from engine.contribution import Contribution, ScoreRule, true_contribution
from engine.costs import TradeCosts
from engine.mandate import Mandate, load_mandate
from engine.metamodel import MetaModel, alpha_scale, grinold_alpha, meta_model
from engine.optimizer import optimize
from engine.prepared import Prepared
from engine.prices import limit_costs
from engine.problem import Limits, Problem
from engine.reasons import position_reasons
from engine.relaxation import relax
from engine.solution import Certificate, InfeasibleMandate, Solution, SolverFailure, Status
from engine.transforms import gaussianise, standardise

if TYPE_CHECKING:
    from engine.adapter import cvxpy_program, solver_interface
    from engine.layer import OptimizerLayer

ONE = load_mandate("one")
SUPREME = load_mandate("supreme")

__all__ = [
    "ONE",
    "SUPREME",
    "Attribution",
    "Certificate",
    "Contribution",
    "InfeasibleMandate",
    "Limits",
    "Mandate",
    "MetaModel",
    "OptimizerLayer",
    "Prepared",
    "Problem",
    "ScoreRule",
    "Solution",
    "SolverFailure",
    "Status",
    "TradeCosts",
    "alpha_scale",
    "attribute",
    "cvxpy_program",
    "gaussianise",
    "grinold_alpha",
    "limit_costs",
    "load_mandate",
    "meta_model",
    "optimize",
    "position_reasons",
    "relax",
    "solver_interface",
    "standardise",
    "true_contribution",
]


HEAVY = {
    "OptimizerLayer": "engine.layer",
    "cvxpy_program": "engine.adapter",
    "solver_interface": "engine.adapter",
}
"""Names whose modules import torch, cvxpy and cvxpylayers: when they are asked for, not with the room."""


def __getattr__(name: str) -> Any:
    """Import what is heavy when it is asked for."""
    if name in HEAVY:
        return getattr(import_module(HEAVY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
