"""A scenario for a portfolio: shocks, profit and loss in parts that sum to it, and how likely the covariance holds it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from risk.checks import DataError, FloatArray, freeze
from risk.model import FactorModel

__all__ = ["Stress", "check_size", "check_years", "make_stress", "solve_covariance", "stress_parts", "stress_table"]

_RANGE = 1e-10
"""Eigenvalues of a correlation matrix below this share of the largest are 0: there the factors do not move."""


@dataclass(frozen=True, eq=False)
class Stress:
    """One scenario and what it does to a portfolio. Numbers are NaN where it could not be computed, and `note` says why.

    Attributes
    ----------
    name, definition : str
    factors : tuple of str, length K
    shocks : ndarray of shape (K,)
        Returns of the factors.
    profit_by_factor : ndarray of shape (K,)
        x_k times its shock, fractions of net asset value; a gain is positive.
    specific_profit : float
        Of the specific returns.
    distance : float
        Mahalanobis distance of the shocks, specific ones included, in standard deviations of a period of `years`;
        infinite for shocks that the factor covariance holds impossible.
    years : float
    note : str
        What the reader should know: empty where there is nothing.
    """

    name: str
    definition: str
    factors: tuple[str, ...]
    shocks: FloatArray
    profit_by_factor: FloatArray
    specific_profit: float
    distance: float
    years: float
    note: str = ""

    @property
    def profit(self) -> float:
        """Sum of the parts, a fraction of net asset value; a gain is positive."""
        return float(self.profit_by_factor.sum()) + self.specific_profit

    @property
    def loss(self) -> float:
        """Minus `profit`."""
        return -self.profit


def stress_table(stresses: Sequence[Stress]) -> pd.DataFrame:
    """Return one row per stress: definition, loss, its specific part, the factor that costs most, distance and note."""
    rows = []
    for stress in stresses:
        known = bool(np.isfinite(stress.profit_by_factor).all())
        worst = int(np.argmin(stress.profit_by_factor)) if known else -1
        costs = known and stress.profit_by_factor[worst] < 0
        rows.append(
            {
                "name": stress.name,
                "definition": stress.definition,
                "loss": stress.loss,
                "specific_loss": -stress.specific_profit,
                "largest_factor": stress.factors[worst] if costs else "",
                "largest_factor_loss": -float(stress.profit_by_factor[worst]) if costs else float("nan"),
                "distance": stress.distance,
                "note": stress.note,
            }
        )
    return pd.DataFrame(rows).set_index("name")


def stress_parts(stresses: Sequence[Stress]) -> pd.DataFrame:
    """Return the loss of each stress (rows) by factor, and ``specific``; a row sums to its loss.

    Raises
    ------
    DataError
        If there is no stress, or they are of other models' factors.
    """
    if len({stress.factors for stress in stresses}) != 1:
        raise DataError("`stresses` must be one or more, all of the same factors.")
    rows = [np.append(-stress.profit_by_factor, -stress.specific_profit) for stress in stresses]
    names = pd.Index([stress.name for stress in stresses], name="name")
    return pd.DataFrame(np.array(rows), index=names, columns=[*stresses[0].factors, "specific"])


def _eigen(F: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return deviations, and eigenvalues and eigenvectors of the correlations, of the directions in which F moves."""
    deviation = np.sqrt(np.maximum(np.diag(F), 0.0))
    scale = np.where(deviation > 0, deviation, 1.0)
    values, vectors = np.linalg.eigh(F / np.outer(scale, scale))
    moves = values > _RANGE * max(float(values[-1]), 0.0)
    return deviation, values[moves], vectors[:, moves]


def solve_covariance(F: FloatArray, shocks: FloatArray) -> tuple[FloatArray, float]:
    """Return F^+ s in the metric of the correlations, and s'F^+ s: infinite where s has a part that F holds impossible."""
    deviation, values, vectors = _eigen(F)
    if (shocks[deviation == 0] != 0).any():
        return np.zeros(len(shocks)), float("inf")
    scale = np.where(deviation > 0, deviation, 1.0)
    scaled = shocks / scale
    along = vectors.T @ scaled
    if np.abs(scaled - vectors @ along).max(initial=0.0) > 1e-8 * max(np.abs(scaled).max(initial=0.0), 1e-300):
        return np.zeros(len(shocks)), float("inf")
    return vectors @ (along / values) / scale, float(along @ (along / values))


def check_years(years: float) -> float:
    """Return the length of a period if it is one.

    Raises
    ------
    DataError
        If it is not positive and finite.
    """
    if not (np.isfinite(years) and years > 0):
        raise DataError(f"`years` must be a positive length of the period in years; got {years}.")
    return float(years)


def check_size(name: str, value: float) -> float:
    """Return a size if it is one.

    Raises
    ------
    DataError
        If it is negative or not finite.
    """
    if not (np.isfinite(value) and value >= 0):
        raise DataError(f"`{name}` must be a finite number >= 0; got {value}.")
    return float(value)


def make_stress(
    model: FactorModel,
    weights: FloatArray,
    name: str,
    definition: str,
    shocks: FloatArray,
    *,
    years: float,
    specific_shocks: FloatArray | None = None,
    note: str = "",
) -> Stress:
    """Return the stress of a portfolio under shocks to the factors, shape (K,), and to specific returns, shape (N,)."""
    squared, specific_profit = solve_covariance(model.factor_covariance, shocks)[1], 0.0
    if specific_shocks is not None:
        squared += float((specific_shocks * specific_shocks / model.specific_variance).sum())
        specific_profit = float(weights @ specific_shocks)
    return Stress(
        name=name,
        definition=definition,
        factors=model.factors,
        shocks=freeze(shocks),
        profit_by_factor=freeze((model.exposures.T @ weights) * shocks),
        specific_profit=specific_profit,
        distance=float(np.sqrt(squared / years)),
        years=years,
        note=note,
    )
