"""What to hold, and why: mandate, portfolio problem, optimizer and true contribution of one date."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from engine.contribution import Contribution, ScoreRule, true_contribution
from engine.costs import TradeCosts
from engine.mandate import Mandate, load_mandate
from engine.metamodel import MetaModel, alpha_scale, grinold_alpha, meta_model
from engine.optimizer import optimize
from engine.prepared import Prepared
from engine.problem import Limits, Problem
from engine.solution import Certificate, InfeasibleMandate, Solution, SolverFailure, Status
from engine.transforms import gaussianise, standardise

if TYPE_CHECKING:
    from engine.layer import OptimizerLayer

ONE = load_mandate("one")
SUPREME = load_mandate("supreme")

__all__ = [
    "ONE",
    "SUPREME",
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
    "gaussianise",
    "grinold_alpha",
    "load_mandate",
    "meta_model",
    "optimize",
    "standardise",
    "true_contribution",
]


def __getattr__(name: str) -> type[OptimizerLayer]:
    """Import torch when the layer is asked for, not with the room."""
    if name == "OptimizerLayer":
        layer: type[OptimizerLayer] = import_module("engine.layer").OptimizerLayer
        return layer
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
