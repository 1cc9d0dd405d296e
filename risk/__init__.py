"""What can be lost: exposures, the factor risk model, its decomposition, stresses, tails, and whether its forecasts are right."""

from risk.beta import decompose_beta
from risk.calibration import forecast_multiplier
from risk.checks import DataError
from risk.concentration import concentration
from risk.crowding import crowding
from risk.decomposition import Decomposition, decompose
from risk.estimation import Estimate, estimate, estimate_with_counts
from risk.evaluation import bias_statistic, evaluate
from risk.history import FactorHistory, extended_history, factor_history
from risk.liquidity import liquidity
from risk.losses import compare_losses, qlike
from risk.model import FactorModel
from risk.panel import Panel, UserExposures
from risk.replay import replay
from risk.spec import RiskSpec
from risk.tails import Tail

__all__ = [
    "DataError",
    "Decomposition",
    "Estimate",
    "FactorHistory",
    "FactorModel",
    "Panel",
    "RiskSpec",
    "Tail",
    "UserExposures",
    "bias_statistic",
    "compare_losses",
    "concentration",
    "crowding",
    "decompose",
    "decompose_beta",
    "estimate",
    "estimate_with_counts",
    "evaluate",
    "extended_history",
    "factor_history",
    "forecast_multiplier",
    "liquidity",
    "qlike",
    "replay",
]
