"""A fund as sold: a mandate, and the schedule, lag, fees, capacity and default size around it, as TOML."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
from pydantic import Field, model_validator

from backtest.fund_terms import FundTerms
from backtest.universe import UniverseRule
from engine import Mandate, load_mandate
from engine.mandate import NonNegative, Positive, read_spec
from risk import DataError, RiskSpec
from risk.checks import BoolArray

__all__ = ["Product", "Rebalance", "decision_days", "load_product"]

Rebalance = Literal["daily", "weekly", "monthly"]


class Product(FundTerms):
    """A fund as sold; its fees and dealing terms are those of `FundTerms`.

    Terms listed in `assumed` were never published and are our assumption.
    """

    name: str
    mandate: str
    """``one``, ``supreme`` or the path of a mandate TOML file, relative to the product's own file."""
    rebalance: Rebalance = "weekly"
    lag_days: Annotated[int, Field(ge=0)] = 1
    """Trading days from decision to fill. 0 fills at the close that was decided on, which nobody can: no product file may ask for it,
    `backtest.sweep` does to tell what a lag costs."""
    score_horizon_days: Annotated[int, Field(ge=1)] = 20
    score_lag_days: Annotated[int, Field(ge=1)] = 2
    aum: Positive = 50e6
    financing_spread_annual: NonNegative = 0.005
    """Charged on longs beyond net assets, over the currency's rate where the data set has rates."""
    cash_spread_annual: NonNegative = 0.0
    """Taken off the rate on cash; without rates cash earns nothing."""
    day_count: Literal[360, 365] = 365
    """Days of a year in interest and borrow fees."""
    participation_limit: Annotated[float, Field(gt=0, le=1)] | None = None
    """Largest share of a day's dollar volume that is traded in one name; what is beyond waits. Left out: no limit."""
    fx_hedge: Literal["none", "full"] = "none"
    """At a decision, cash in foreign currencies is changed into the base currency, or until no currency exposure is left."""
    fx_cost_bps: NonNegative = 1.0
    """Of the amount converted."""
    delisting_returns: dict[str, Annotated[float, Field(ge=-1, allow_inf_nan=False)]] = Field(default_factory=dict)
    """Return on the last price by cause of a delisting, where the data set says nothing; "" is any other cause, and 0 without it."""
    maximum_prediction_age_days: Annotated[int, Field(ge=0)] = 7
    universe: UniverseRule = UniverseRule()
    risk_model: RiskSpec = RiskSpec()
    signal_factors: bool = True
    """The fund's own signals are factors of its risk model, under no limit: what it bets on is what its book is exposed to."""
    assumed: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _assumed_are_fields(self) -> Product:
        unknown = sorted(set(self.assumed) - set(type(self).model_fields))
        if unknown:
            raise ValueError(f"assumed names no field: {', '.join(unknown)}")
        return self

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
    if product.lag_days == 0:
        raise DataError(
            f"{name}: `lag_days` = 0 fills orders at the close that they were decided on, which nobody can. Give 1 or more; "
            "`metafolio sweep --vary execution` tells what the lag costs."
        )
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
