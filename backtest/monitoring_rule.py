"""When a level is called a breach, and which breaches are hard: what the risk officer decides, with units and defaults."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, field_validator

from engine import Mandate

__all__ = ["FAMILIES", "Bound", "MonitoringRule", "family_of"]

FAMILIES = ("position", "gross", "net", "volatility", "liquidity", "beta", "country", "sector", "style")
Bound = tuple[float, float, float]
"""Lower bound, upper bound, tolerance; NaN: none."""
Tolerance = Annotated[float, Field(ge=0, allow_inf_nan=False)]


def family_of(limit: str) -> str:
    """Return the family of a limit.

    Examples
    --------
    >>> family_of("country:US")
    'country'
    """
    return limit.partition(":")[0]


class MonitoringRule(BaseModel):
    """When a level is called a breach, and which breaches are hard. Every default is our assumption.

    The tolerances are about three standard deviations of what prices do to a book at a volatility of 10 % between two weekly
    decisions, 3 * 10 % * sqrt(6/252) = 4.6 % of net assets: a neutral book's net moves by its own profit and loss.

    Attributes
    ----------
    position_tolerance, net_tolerance, country_tolerance, sector_tolerance : float
        Fractions of net asset value beyond the mandate's bound.
    beta_tolerance, style_tolerance : float
        In the exposure's own unit. Styles move with prices and with the next day's exposures: the widest.
    gross_tolerance, volatility_tolerance : float
        Shares of the limit: 0.05 is 5 % more than it.
    liquidity_limit_days : float, optional
        Longest time to liquidate; mandates hold none. None: the level is shown without a limit.
    participation : float
        Share of each asset's median daily volume that may be ours when the book is liquidated.
    liquidated_share : float
        Share of gross that is liquidated in that time.
    hard : tuple of str
        Families whose breach is hard. Not styles, whose limits no fund published, nor liquidity, which no mandate limits.
    window, confidence : int, float
        Of forecast against realised volatility: returns, and coverage of the band.
    assumed : tuple of str
        Fields that were never published by a fund and are our assumption.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    position_tolerance: Tolerance = 0.0
    gross_tolerance: Tolerance = 0.05
    net_tolerance: Tolerance = 0.05
    volatility_tolerance: Tolerance = 0.05
    beta_tolerance: Tolerance = 0.05
    country_tolerance: Tolerance = 0.05
    sector_tolerance: Tolerance = 0.03
    style_tolerance: Tolerance = 0.25
    liquidity_limit_days: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    participation: Annotated[float, Field(gt=0, le=1)] = 0.1
    liquidated_share: Annotated[float, Field(gt=0, le=1)] = 0.95
    hard: tuple[str, ...] = ("position", "gross", "net", "volatility", "beta", "country", "sector")
    window: Annotated[int, Field(ge=2)] = 63
    confidence: Annotated[float, Field(gt=0, lt=1)] = 0.95
    assumed: tuple[str, ...] = (
        "gross_tolerance", "net_tolerance", "volatility_tolerance", "beta_tolerance", "country_tolerance", "sector_tolerance",
        "style_tolerance", "participation", "liquidated_share", "hard", "window", "confidence",
    )  # fmt: skip

    @field_validator("hard")
    @classmethod
    def _known_families(cls, hard: tuple[str, ...]) -> tuple[str, ...]:
        for family in hard:
            if family not in FAMILIES:
                raise ValueError(f"unknown family {family!r}; choose from {', '.join(FAMILIES)}")
        return hard

    def bounds(self, mandate: Mandate) -> dict[str, Bound]:
        """Return each family's lower bound, upper bound and tolerance; NaN where the mandate has no such limit."""
        none = np.nan

        def band(limit: float | None, tolerance: float) -> Bound:
            return (none, none, none) if limit is None else (-limit, limit, tolerance)

        volatility, liquidity = mandate.volatility_limit, self.liquidity_limit_days
        return {
            "position": (none, mandate.position_limit, self.position_tolerance),
            "gross": (none, mandate.gross_limit, self.gross_tolerance * mandate.gross_limit),
            "net": band(mandate.net_limit, self.net_tolerance),
            "volatility": (none,) * 3 if volatility is None else (none, volatility, self.volatility_tolerance * volatility),
            "liquidity": (none,) * 3 if liquidity is None else (none, liquidity, 0.0),
            "beta": band(mandate.beta_limit, self.beta_tolerance),
            "country": band(mandate.country_limit, self.country_tolerance),
            "sector": band(mandate.sector_limit, self.sector_tolerance),
            "style": band(mandate.style_limit, self.style_tolerance),
        }  # fmt: skip
