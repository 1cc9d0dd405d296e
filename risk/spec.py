"""Every constant of the risk model in one place, with its unit and its reason."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

__all__ = ["REGRESSION_SETTINGS", "STYLES", "RiskSpec"]

STYLES: tuple[str, ...] = (
    "beta",
    "size",
    "momentum",
    "residual_volatility",
    "liquidity",
    "reversal_week",
    "reversal_month",
    "mid_cap",
    "industry_momentum",
    "seasonality",
)
_DEFAULT_STYLES = STYLES[:7]


SESSIONS_PER_WEEK = 5
REGRESSION_SETTINGS = (
    *("styles", "winsor", "return_winsor", "thin_category", "minimum_assets", "stale_returns", "orthogonalise"),
    *("huber", "beta_lags", "industries", "currencies", "frequency"),
    *("blind_factors", "blind_window", "blind_every"),
)
_HALF_LIVES = (
    *("volatility_half_life", "correlation_half_life", "specific_half_life"),
    *("regime_half_life", "specific_regime_half_life"),
)
_LENGTHS = (
    *("newey_west_lags", "correlation_newey_west_lags", "specific_newey_west_lags"),
    *("minimum_history", "short_history_days", "blind_window", "blind_every"),
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
    stale_returns : int
        An asset whose return was exactly 0 on more than this many of its days in a row has a stale price: until it moves,
        its returns are not known. 0 switches the rule off.
    orthogonalise : bool
        Regress residual volatility on beta and size, and mid-cap on size, and keep what is left.
    huber : float, optional
        Daily returns whose residual lies beyond this many robust standard deviations weigh less in the regression, as
        Huber's. None: least squares.
    beta_lags : int
        Days by which the market's return may lead or lag an asset's in its beta (Scholes and Williams), for closes at
        different hours.
    industries : bool
        Industry factors, nested in sectors, where the data have them.
    currencies : bool
        A currency factor for every currency but the base, where the data have them.
    frequency : str
        ``daily`` regressions, or ``weekly`` ones of the returns over five sessions.
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
        Strength of the shrinkage of specific volatilities to their size decile: 1 is Bayes' rule for the noise of each
        estimate, 0 switches it off.
    specific_robust : bool
        An asset whose standard deviation is more than twice its robust one (from its quartiles) leans on the structural
        estimate: one jump, or weeks of a stale price, do not make its volatility.
    specific_floor : float
        Lowest specific volatility, per year.
    eigenfactor_simulations : int
        Simulations behind the correction of the variances of eigenfactors; 0 switches it off.
    eigenfactor_scale : float
        Share of the simulated bias that is corrected; 1 is all of it.
    regression_noise : bool
        Take the noise of the daily regression out of the factor covariance, and put it back into specific variances.
    regime_half_life, specific_regime_half_life : float, optional
        Half-lives, in days, of the volatility-regime multipliers of factors and of specific risk. None: off.
    calibration_half_life : float, optional
        Half-life, in days, of what a book's own past forecasts and returns say of its forecast. None, or 0 as in a file, which
        knows no None: off.
    calibration_prior_days : float
        Days of forecasts that were right with which the calibration begins.
    calibration_lags : int
        Lags, in days, of its correction for serial correlation.
    calibration_floor : float
        Lowest multiplier: by default a quiet time does not loosen the volatility limit.
    minimum_history : int
        Days of factor returns without which no model is estimated.
    short_history_days : int
        Factors and assets with fewer days are blended with the estimate for their kind.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    styles: tuple[str, ...] = _DEFAULT_STYLES
    winsor: float = Field(default=3.0, gt=0)
    return_winsor: float = Field(default=10.0, gt=0)
    thin_category: int = Field(default=10, ge=1)
    minimum_assets: int = Field(default=20, ge=2)
    stale_returns: int = Field(default=10, ge=0)
    orthogonalise: bool = True
    huber: float | None = Field(default=None, gt=0)
    beta_lags: int = Field(default=0, ge=0)
    industries: bool = False
    currencies: bool = False
    frequency: Literal["daily", "weekly"] = "daily"
    blind_factors: int = Field(default=20, ge=0)
    blind_window: int = Field(default=252, ge=20)
    blind_every: int = Field(default=5, ge=1)
    volatility_half_life: float = Field(default=42.0, gt=0)
    correlation_half_life: float = Field(default=252.0, gt=0)
    newey_west_lags: int = Field(default=2, ge=0)
    correlation_newey_west_lags: int = Field(default=2, ge=0)
    eigenvalue_floor: float = Field(default=0.01, ge=0, lt=1)
    specific_half_life: float = Field(default=42.0, gt=0)
    specific_newey_west_lags: int = Field(default=1, ge=0)
    specific_shrinkage: float = Field(default=1.0, ge=0)
    specific_robust: bool = False
    specific_floor: float = Field(default=0.05, gt=0)
    eigenfactor_simulations: int = Field(default=20, ge=0)
    eigenfactor_scale: float = Field(default=1.0, ge=0)
    regression_noise: bool = True
    regime_half_life: float | None = Field(default=None, gt=0)
    specific_regime_half_life: float | None = Field(default=None, gt=0)
    calibration_half_life: float | None = Field(default=252.0, gt=0)
    calibration_prior_days: float = Field(default=63.0, gt=0)
    calibration_lags: int = Field(default=4, ge=0)
    calibration_floor: float = Field(default=1.0, ge=0)
    minimum_history: int = Field(default=63, ge=2)
    short_history_days: int = Field(default=126, ge=1)

    @field_validator("calibration_half_life", mode="before")
    @classmethod
    def _zero_is_off(cls, half_life: object) -> object:
        return None if half_life == 0 else half_life

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
        return tuple(getattr(self, name) for name in REGRESSION_SETTINGS)

    @property
    def sessions(self) -> int:
        """Sessions that a regression spans: 1, or 5 if weekly."""
        return 1 if self.frequency == "daily" else SESSIONS_PER_WEEK

    def in_regressions(self) -> RiskSpec:
        """Return the settings with every length in regressions in place of days: the same, unless they are weekly.

        Examples
        --------
        >>> weekly = RiskSpec(frequency="weekly").in_regressions()
        >>> weekly.volatility_half_life, weekly.newey_west_lags, weekly.minimum_history
        (8.4, 1, 13)
        """
        scaled = {name: getattr(self, name) / self.sessions for name in _HALF_LIVES if getattr(self, name) is not None}
        counted = {name: -(-getattr(self, name) // self.sessions) for name in _LENGTHS}
        return self if self.sessions == 1 else self.model_copy(update=scaled | counted)
