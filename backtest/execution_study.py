"""How much of a backtest is its assumptions about trading: one of them changed at a time."""

from __future__ import annotations

from backtest.products import Product
from backtest.variants import BASE, Variant, varied
from engine import Mandate

__all__ = ["execution_variants"]

COSTS = ("half_spread_bps", "commission_bps", "impact_coefficient")


def execution_variants(product: Product, mandate: Mandate) -> list[Variant]:
    """Return the product as it is, and one variant for each assumption.

    Lag 0, 1 and 2; trading costs none and double (the optimizer prices what the ledger charges); no borrow fee; delisting at -30 % and
    -100 % where the data set says nothing; daily instead of weekly decisions; scaled towards the volatility limit, where the mandate
    has one; alpha that halves in the horizon it is stated for. What is as in the product already is left out.
    """
    costs = mandate.costs.model_dump()
    found = [
        Variant(BASE),
        Variant("lag_0", {"product.lag_days": 0}, "fills at the close that was decided on: unrealistic"),
        Variant("lag_1", {"product.lag_days": 1}),
        Variant("lag_2", {"product.lag_days": 2}),
        Variant("costs_off", {f"mandate.costs.{name}": 0.0 for name in COSTS}, "the optimizer knows"),
        Variant("costs_double", {f"mandate.costs.{name}": 2 * costs[name] for name in COSTS}, "the optimizer knows"),
        Variant("borrow_off", {"mandate.costs.borrow_fee_annual": 0.0}, "dated fees of the data set stay"),
        Variant("delisting_-30", {"product.delisting_returns": {"": -0.3}}, "where the data set says nothing"),
        Variant("delisting_-100", {"product.delisting_returns": {"": -1.0}}, "where the data set says nothing"),
        Variant("weekly", {"product.rebalance": "weekly"}),
        Variant("daily", {"product.rebalance": "daily"}),
        Variant(
            "alpha_decays",
            {"mandate.alpha.half_life_days": mandate.alpha.horizon_days},
            f"halves every {mandate.alpha.horizon_days:g} days",
        ),
    ]
    if mandate.volatility_limit is not None:
        target = {"mandate.volatility_target": mandate.volatility_limit}
        found.append(Variant("volatility_target", target, f"scaled towards {mandate.volatility_limit:.0%}"))
    base = varied(product, mandate, found[0])
    return [found[0], *(variant for variant in found[1:] if varied(product, mandate, variant) != base)]
