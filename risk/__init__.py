"""What can be lost: exposures, the factor risk model and its decomposition."""

from risk.checks import DataError
from risk.decomposition import Decomposition, decompose
from risk.estimation import Estimate, estimate, estimate_with_counts
from risk.history import FactorHistory, factor_history
from risk.model import FactorModel
from risk.panel import Panel
from risk.spec import RiskSpec

__all__ = [
    "DataError",
    "Decomposition",
    "Estimate",
    "FactorHistory",
    "FactorModel",
    "Panel",
    "RiskSpec",
    "decompose",
    "estimate",
    "estimate_with_counts",
    "factor_history",
]
