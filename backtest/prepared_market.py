"""A market with its risk model, made once for all runs that read the same one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from backtest.strategy import Market
from risk import DataError
from risk.checks import BoolArray

__all__ = ["PreparedMarket", "market_terms"]

PRODUCT_TERMS = ("rebalance", "maximum_prediction_age_days", "universe", "risk_model", "signal_factors")
"""Fields of a product that decide which names are in the universe, and their risk model: signals are among its factors."""
MANDATE_TERMS = ("minimum_model_assets",)


def market_terms(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of a run's inputs on which its market depends; two runs with the same ones can share it."""
    product, mandate = inputs["product"], inputs["mandate"]
    return {
        **{key: inputs[key] for key in ("files", "last")},
        **{f"product.{name}": product[name] for name in PRODUCT_TERMS},
        **{f"mandate.{name}": mandate[name] for name in MANDATE_TERMS},
    }


@dataclass(frozen=True, eq=False)
class PreparedMarket:
    """What `market_of` returned, and the terms that it was made for.

    Attributes
    ----------
    market : Market
    gone : bool ndarray of shape (T, N)
    terms : mapping
        As `market_terms`.
    """

    market: Market
    gone: BoolArray
    terms: Mapping[str, Any]

    def serve(self, inputs: Mapping[str, Any]) -> tuple[Market, BoolArray]:
        """Return market and leavers for a run with these inputs.

        Raises
        ------
        DataError
            If they were made for other terms.
        """
        wanted = market_terms(inputs)
        other = [name for name in wanted if wanted[name] != self.terms[name]]
        if other:
            raise DataError(f"`prepared` was made for another {', '.join(other)}; prepare a market for this run's own.")
        return self.market, self.gone
