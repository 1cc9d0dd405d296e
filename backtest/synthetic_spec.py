"""What a synthetic market is asked to be: its size and every parameter of its truth."""

from __future__ import annotations

import datetime as dt
import math
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

__all__ = ["COUNTRIES", "SECTORS", "SESSIONS_PER_YEAR", "SIGNAL_HORIZON", "VOLATILITY_REACH", "MarketSpec"]

SESSIONS_PER_YEAR = 252
SIGNAL_HORIZON = 20
"""Sessions over which `MarketSpec.information_coefficient` is stated."""
VOLATILITY_REACH = 2.5
"""No asset's log specific volatility is further than this many dispersions from the median (redrawn, not clipped)."""

COUNTRIES = ("US", "JP", "GB", "CA", "FR", "DE", "CH", "AU", "SE", "NL", "IT", "ES", "KR", "TW", "HK", "DK", "NO", "FI")
SECTORS = (
    "Energy",
    "Materials",
    "Industrials",
    "Consumer Discretionary",
    "Consumer Staples",
    "Health Care",
    "Financials",
    "Information Technology",
    "Communication Services",
    "Utilities",
    "Real Estate",
)

Share = Annotated[float, Field(ge=0, le=0.6)]
Volatility = Annotated[float, Field(ge=0, le=0.6)]


class MarketSpec(BaseModel):
    """Size, seed and true parameters of a synthetic market; volatilities are annual, as decimals.

    Parameters
    ----------
    name : str
        Written into `dataset.toml`.
    assets, years, models, countries, sectors : int, float, int, int, int
        `years` are calendar years of about 252 sessions.
    seed : int
        The same spec and seed give the same bytes.
    start : date
        The first session is the first weekday from here on that is no common holiday.
    prediction_every : {"day", "week", "month"}
        Predictions are dated on the first session of each day, ISO week or month.
    blemishes : bool
        Plant late, constant, missing and nearly empty predictions; each is listed in the truth.
    market_volatility, market_drift : float
        Of the market factor, per year.
    country_volatility, sector_volatility : float
        Median of the family; each member's own is lognormal around it (log standard deviation 0.2), before the
        family is made to sum to zero over capitalisation.
    style_volatility : float
        Of each style factor's own return (beta, size, volatility).
    beta_dispersion : float
        Cross-sectional standard deviation of the true market beta.
    specific_volatility, specific_dispersion : float
        Median, and standard deviation of the logarithm, of specific volatility across assets.
    tail_degrees : float
        Student-t degrees of freedom of daily specific shocks.
    median_cap, cap_dispersion : float
        Capitalisation at listing: lognormal, in `currency`.
    listing_share : float
        Share of assets that list after the start.
    delisting_rate : float
        Per listed asset and year, from the 21st session after listing.
    split_rate : float
        Two-for-one splits per asset and year while the price is above 20.
    local_holidays : int
        Per country and year, beside the common ones; a market of one country has none.
    information_coefficient : float
        Correlation of the perfect forecast with the specific return of the next 20 sessions.
    half_lives : tuple of float
        Of the latent signals, in sessions; all have the same weight.
    skill_low, skill_high : float
        Range of the skilled models' own information coefficients.
    copy_share, noise_share, anti_share : float
        Of the models; the rest is skilled.
    crowding : float
        Share of a model's own noise that its overlap group has in common.
    partial_share, late_share : float
        Shares of the models that cover 80 % of the assets, and that join after the start.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = "synthetic market"
    currency: str = Field("USD", pattern="^[A-Z]{3}$")
    assets: int = Field(1500, ge=20, le=20_000)
    years: float = Field(5.0, ge=0.25, le=60)
    models: int = Field(200, ge=1, le=20_000)
    countries: int = Field(8, ge=1, le=len(COUNTRIES))
    sectors: int = Field(10, ge=1, le=len(SECTORS))
    seed: int = Field(0, ge=0)
    start: dt.date = dt.date(2019, 1, 7)
    prediction_every: Literal["day", "week", "month"] = "week"
    blemishes: bool = True

    market_volatility: Volatility = 0.16
    market_drift: float = Field(0.05, ge=-0.5, le=0.5)
    country_volatility: Volatility = 0.08
    sector_volatility: Volatility = 0.07
    style_volatility: Volatility = 0.03
    beta_dispersion: float = Field(0.25, ge=0, le=1)
    specific_volatility: float = Field(0.32, gt=0, le=1)
    specific_dispersion: float = Field(0.35, ge=0, le=1)
    tail_degrees: float = Field(4.5, ge=3, le=100)
    median_cap: float = Field(4e9, gt=0, le=1e13)
    cap_dispersion: float = Field(1.3, gt=0, le=3)
    listing_share: Share = 0.10
    delisting_rate: Share = 0.03
    split_rate: Share = 0.03
    local_holidays: int = Field(3, ge=0, le=12)

    information_coefficient: float = Field(0.06, gt=0, le=0.5)
    half_lives: tuple[Annotated[float, Field(gt=0, le=2520)], ...] = Field((5, 10, 20, 40, 80), min_length=1)
    skill_low: float = Field(0.01, gt=0)
    skill_high: float = Field(0.04, gt=0)
    copy_share: Share = 0.10
    noise_share: Share = 0.20
    anti_share: Share = 0.10
    crowding: float = Field(0.3, ge=0, lt=1)
    partial_share: Share = 0.05
    late_share: Share = 0.10

    @model_validator(mode="after")
    def _check(self) -> Self:
        least = 2 * (self.countries + self.sectors)
        if self.assets < least:
            raise ValueError(
                f"`assets` must be at least twice `countries` + `sectors`, {least} here, so that signals can be "
                f"neutral to all of them; got {self.assets}. Ask for more assets, or fewer countries or sectors."
            )
        highest = self.specific_volatility * math.exp(VOLATILITY_REACH * self.specific_dispersion)
        if highest > 1.1:
            raise ValueError(
                f"`specific_volatility` {self.specific_volatility} with `specific_dispersion` "
                f"{self.specific_dispersion} reaches {highest:.2f} a year; at most 1.1 is allowed, or daily returns "
                "would fall to -100 %. Lower one of the two."
            )
        if not self.skill_low <= self.skill_high < self.information_coefficient:
            raise ValueError(
                f"`skill_low` <= `skill_high` < `information_coefficient` is wanted, for no model can know more than "
                f"there is to know; got {self.skill_low}, {self.skill_high}, {self.information_coefficient}."
            )
        if self.copy_share + self.noise_share + self.anti_share >= 1:
            raise ValueError("`copy_share` + `noise_share` + `anti_share` must be below 1; the rest is skilled.")
        return self
