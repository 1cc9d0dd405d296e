"""Every constant of the risk model in one place, with its unit and its reason."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

__all__ = ["STYLES", "RiskSpec"]

STYLES: tuple[str, ...] = (
    "beta",
    "size",
    "momentum",
    "volatility",
    "liquidity",
    "reversal_week",
    "reversal_month",
)


class RiskSpec(BaseModel):
    """Settings of the factor risk model; the defaults are meant for daily equity data.

    Attributes
    ----------
    styles : tuple of str
        Style factors to use, out of `STYLES`.
    winsor : float
        Style descriptors are cut at this many equal-weighted standard deviations from their mean (after a coarse cut
        at 10 robust ones).
    return_winsor : float
        In the daily regression, and only there, returns are cut at this many robust standard deviations (1.4826 times
        the median absolute deviation) from the day's median. Specific returns keep the whole return.
    thin_category : int
        A country or sector with fewer assets than this in a day's regression is pooled in ``(other)``; a pool with
        fewer is no factor, and its assets' common return counts as specific.
    minimum_assets : int
        A day with fewer assets has no regression.
    orthogonalise : bool
        Regress residual volatility on beta and size, and mid-cap on size, and keep what is left.
    huber : float, optional
        Daily returns whose residual lies beyond this many robust standard deviations weigh less in the regression, as
        Huber's. None: least squares.
    beta_lags : int
        Days by which the market's return may lead or lag an asset's in its beta (Dimson), for closes at different hours.
    industries : bool
        Industry factors, nested in sectors, where the data have them.
    currencies : bool
        A currency factor for every currency but the base, where the data have them.
    frequency : str
        ``daily`` or ``weekly`` regressions.
    blind_factors : int
        Statistical factors of the specific returns that are added to the model; 0 switches them off.
    blind_window : int
        Days of specific returns that they are taken from.
    blind_every : int
        Days between two estimates of their exposures.
    volatility_half_life, correlation_half_life, specific_half_life : float
        Half-lives of the exponential weights, in days of regression.
    newey_west_lags, correlation_newey_west_lags, specific_newey_west_lags : int
        Lags, in days, of the Bartlett correction for serial correlation, for the volatilities and the correlations of
        factors and for specific volatilities; 0 switches it off.
    eigenvalue_floor : float
        Lowest eigenvalue of the factors' correlation matrix, whose eigenvalues average 1: keeps an optimizer from
        leaning on combinations of factors that only look riskless.
    specific_shrinkage : float
        q of the shrinkage of specific volatilities to their size bucket; 0 switches it off.
    specific_robust : bool
        An asset whose standard deviation is more than twice its robust one (from its quartiles) leans on the structural
        estimate: one jump, or weeks of a stale price, do not make its volatility.
    specific_floor : float
        Lowest specific volatility, per year.
    eigenfactor_simulations : int
        Simulations behind the correction of the variances of eigenfactors; 0 switches it off.
    eigenfactor_scale : float
        Share of the simulated bias that is corrected; 1 is all of it.
    regime_half_life, specific_regime_half_life : float, optional
        Half-lives, in days, of the volatility-regime multipliers of factors and of specific risk. None: off.
    minimum_history : int
        Days of factor returns without which no model is estimated.
    short_history_days : int
        Factors and assets with fewer days are blended with the estimate for their kind.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    styles: tuple[str, ...] = STYLES
    winsor: float = Field(default=3.0, gt=0)
    return_winsor: float = Field(default=10.0, gt=0)
    thin_category: int = Field(default=10, ge=1)
    minimum_assets: int = Field(default=20, ge=2)
    orthogonalise: bool = True
    huber: float | None = Field(default=None, gt=0)
    beta_lags: int = Field(default=0, ge=0)
    industries: bool = True
    currencies: bool = False
    frequency: Literal["daily", "weekly"] = "daily"
    blind_factors: int = Field(default=0, ge=0)
    blind_window: int = Field(default=252, ge=20)
    blind_every: int = Field(default=5, ge=1)
    volatility_half_life: float = Field(default=84.0, gt=0)
    correlation_half_life: float = Field(default=252.0, gt=0)
    newey_west_lags: int = Field(default=2, ge=0)
    correlation_newey_west_lags: int = Field(default=2, ge=0)
    eigenvalue_floor: float = Field(default=0.01, ge=0, lt=1)
    specific_half_life: float = Field(default=84.0, gt=0)
    specific_newey_west_lags: int = Field(default=1, ge=0)
    specific_shrinkage: float = Field(default=0.1, ge=0)
    specific_robust: bool = False
    specific_floor: float = Field(default=0.05, gt=0)
    eigenfactor_simulations: int = Field(default=0, ge=0)
    eigenfactor_scale: float = Field(default=1.0, ge=0)
    regime_half_life: float | None = Field(default=None, gt=0)
    specific_regime_half_life: float | None = Field(default=None, gt=0)
    minimum_history: int = Field(default=63, ge=2)
    short_history_days: int = Field(default=126, ge=1)

    @field_validator("styles")
    @classmethod
    def _known_styles(cls, styles: tuple[str, ...]) -> tuple[str, ...]:
        for style in styles:
            if style not in STYLES:
                raise ValueError(f"unknown style {style!r}; choose from {', '.join(STYLES)}")
        if len(set(styles)) != len(styles):
            raise ValueError("a style is named twice; name each once")
        return styles

    def regression_settings(self) -> tuple[object, ...]:
        """Return the settings on which a history of factor returns depends."""
        return (self.styles, self.winsor, self.return_winsor, self.thin_category, self.minimum_assets)
