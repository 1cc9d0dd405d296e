"""A fund as sold: a mandate, and the schedule, lag, fees, capacity and default size around it, as TOML."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
from pydantic import Field

from backtest.universe import UniverseRule
from engine import Mandate, load_mandate
from engine.mandate import NonNegative, Positive, Spec, read_spec
from risk import DataError, RiskSpec
from risk.checks import BoolArray

__all__ = ["Product", "Rebalance", "decision_days", "load_product"]

Rebalance = Literal["daily", "weekly", "monthly"]


class Product(Spec):
    """Terms of one fund.

    Terms listed in `assumed` were never published and are our assumption.
    """

    name: str
    mandate: str
    """``one``, ``supreme`` or the path of a mandate TOML file, relative to the product's own file."""
    rebalance: Rebalance = "weekly"
    lag_days: Annotated[int, Field(ge=1)] = 1
    """Trading days from decision to fill."""
    score_horizon_days: Annotated[int, Field(ge=1)] = 20
    score_lag_days: Annotated[int, Field(ge=1)] = 2
    aum: Positive = 50e6
    capacity: Positive | None = None
    management_fee_annual: NonNegative = 0.01
    """A twelfth of it is charged on net assets at the start of each month, in advance."""
    incentive_fee: Annotated[float, Field(ge=0, le=1)] = 0.20
    """Share of a calendar year's profit after all other charges; a run's last day closes its year."""
    financing_spread_annual: NonNegative = 0.005
    """Charged on longs beyond net assets."""
    maximum_prediction_age_days: Annotated[int, Field(ge=0)] = 7
    universe: UniverseRule = UniverseRule()
    risk_model: RiskSpec = RiskSpec()
    signal_factors: bool = True
    """The fund's own signals are factors of its risk model, under no limit: what it bets on is what its book is exposed to."""
    assumed: tuple[str, ...] = ()

    def size(self, name: str, given: float | None) -> float:
        """Return net assets in money: those given, or the product's own.

        Raises
        ------
        DataError
            If they are no positive amount, or above the product's capacity.
        """
        money = self.aum if given is None else given
        if not (np.isfinite(money) and money > 0):
            raise DataError(f"{name} must be a positive amount of money; got {money}.")
        if self.capacity is not None and money > self.capacity:
            raise DataError(
                f"{name} {money:,.0f} is above the capacity of {self.name}, {self.capacity:,.0f}; give less, or a product "
                "file with another `capacity`."
            )
        return float(money)


def load_product(name: str) -> tuple[Product, Mandate]:
    """Return a product and its mandate, by the name of a preset (``one``, ``supreme``) or the path of a TOML file.

    Raises
    ------
    DataError
        If the name is unknown or a file has a wrong field; the message names file, field, value and remedy.
    """
    preset = resources.files("backtest") / "products" / f"{name}.toml"
    if preset.is_file():
        with resources.as_file(preset) as path:
            product = read_spec(Product, path)
        return product, load_mandate(product.mandate)
    if not name.endswith(".toml"):
        raise DataError(f"unknown product {name!r}; give `one`, `supreme` or the path of a TOML file.")
    product = read_spec(Product, Path(name))
    mandate = product.mandate
    if mandate.endswith(".toml") and not Path(mandate).is_absolute():
        mandate = str(Path(name).parent / mandate)
    return product, load_mandate(mandate)


def decision_days(dates: pd.DatetimeIndex, rebalance: Rebalance) -> BoolArray:
    """Return which trading days are decision days, shape (T,): the first session of each day, week or month.

    The first session, not the last: that a week has ended is known only when the next one has begun. Day 0 has no
    session before it, so it is never known to be a first one.
    """
    key: npt.NDArray[np.integer[Any]] = np.arange(len(dates))
    if rebalance == "weekly":
        calendar = dates.isocalendar()
        key = (calendar["year"].astype(int) * 100 + calendar["week"].astype(int)).to_numpy()
    elif rebalance == "monthly":
        key = np.asarray(dates.year * 12 + dates.month)
    first: BoolArray = np.zeros(len(dates), dtype=np.bool_)
    first[1:] = key[1:] != key[:-1]
    return first
