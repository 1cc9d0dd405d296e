"""What can be lost: exposures, the factor risk model and its decomposition."""

from risk.checks import DataError
from risk.model import FactorModel
from risk.panel import Panel

__all__ = ["DataError", "FactorModel", "Panel"]
