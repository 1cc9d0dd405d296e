"""The risk model at a date: its factors, what rules did to the data behind it, and whether its factors are any good."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from backtest.strategy import Market
from risk import Estimate, FactorModel, estimate_with_counts
from risk.checks import BoolArray, FloatArray
from risk.decomposition import family
from risk.diagnostics import (
    condition_number,
    exposure_autocorrelation,
    factor_strength,
    r_squared_by_year,
    regression_errors,
    variance_inflation,
)
from risk.exposures import DayExposures, day_exposures
from risk.regression import constraint_rows

__all__ = ["ModelState", "model_state"]

STRENGTH_DAYS = 63
"""Regressions whose standard errors are computed."""
STABILITY_DAYS = 21
RECENT = 63


@dataclass(frozen=True, eq=False)
class ModelState:
    """The risk model estimated at the close of a day.

    Attributes
    ----------
    date : Timestamp
    model : FactorModel
    rules : DataFrame by rule
        What was filled, pooled, blended, floored or scaled to make it: ``value``, ``meaning`` and ``names`` of what it was done to.
    factors : DataFrame by factor
        ``family``; ``volatility`` (forecast, per year); ``realised`` (of its returns over the last 252 regressions, per year); ``market_correlation``;
        ``t_mean`` (Newey-West, of its mean return over the whole history), ``mean`` (per year) and ``days``; ``mean_absolute_t`` and
        ``share_significant`` (days of abs(t) above 2, 5 % by chance) over the last 63 regressions; ``inflation`` (VIF); ``stability``
        (correlation of exposures with those 21 days before).
    correlation : DataFrame, factors by factors
        Forecast.
    r_squared : DataFrame by date
        ``day``, of each regression, and ``mean`` of the last 21.
    years : DataFrame by year
        As `r_squared_by_year`.
    condition : float
        Condition number of the last regression's design; above 30 collinearity is held to hurt.
    counts : DataFrame by rule
        ``last`` (on the day), ``recent`` (sum over 63 sessions), ``history`` (sum over all), ``days`` (sessions with any).
    note : str
        What could not be computed, and why.
    """

    date: pd.Timestamp
    model: FactorModel
    rules: pd.DataFrame
    factors: pd.DataFrame
    correlation: pd.DataFrame
    r_squared: pd.DataFrame
    years: pd.DataFrame
    condition: float
    counts: pd.DataFrame
    note: str


def model_state(market: Market) -> ModelState:
    """Return the risk model of a market's last day, and the state of its factors.

    Raises
    ------
    DataError
        If the history is too short for a model on that day.
    """
    panel, history = market.panel, market.history
    t = len(panel.dates) - 1
    members, size = market.universe.members, market.universe.size
    found = estimate_with_counts(panel, members, size, market.spec, t=t, history=history)
    model = found.model
    deviation = np.sqrt(np.maximum(np.diag(model.factor_covariance), 0.0))
    scale = np.where(deviation > 0, deviation, np.nan)
    correlation = pd.DataFrame(
        model.factor_covariance / np.outer(scale, scale),
        index=pd.Index(model.factors, name="factor"),
        columns=list(model.factors),
    )
    table = pd.DataFrame(
        {"family": [family(name) for name in model.factors], "volatility": deviation},
        index=pd.Index(model.factors, name="factor"),
    )
    table["market_correlation"] = correlation.get("market", np.nan)
    r_squared = pd.Series(history.r_squared, index=history.dates, name="r_squared").dropna()
    strength, condition, note = _strength(market)
    counts = history.counts
    return ModelState(
        date=panel.dates[t],
        model=model,
        rules=_rules(found),
        factors=table.join(strength),
        correlation=correlation,
        r_squared=pd.DataFrame({"day": r_squared, "mean": r_squared.rolling(STABILITY_DAYS).mean()}),
        years=r_squared_by_year(r_squared),
        condition=condition,
        counts=pd.DataFrame(
            {
                "last": counts.iloc[-1],
                "recent": counts.iloc[-RECENT:].sum(),
                "history": counts.sum(),
                "days": (counts > 0).sum(),
            }
        ).rename_axis("rule"),
        note=note,
    )


def _rules(found: Estimate) -> pd.DataFrame:
    covariance, specific = found.covariance, found.specific
    rows: list[tuple[str, float, str, tuple[str, ...]]] = [
        ("history", found.history_days, "regressions behind the covariance of factors", ()),
        ("filled exposures", found.filled_exposures, "styles that were not known and are 0, the market average", ()),
        ("clipped exposures", found.clipped_exposures, "style values cut at the winsor limit", ()),
        ("unclassified", len(found.unclassified), "assets without a country or sector factor", found.unclassified),
        ("pooled", len(found.pooled), "labels without a factor of their own", found.pooled),
        ("absent", len(found.absent), "styles and signals that are no factor on the day", found.absent),
        (
            "blended factors",
            len(covariance.blended),
            "short histories: variance partly that of the family",
            covariance.blended,
        ),
        ("floored eigenvalues", covariance.floored_eigenvalues, "of the factor correlations, raised to the floor", ()),
        (
            "limited noise",
            covariance.limited_noise,
            "combinations of factors that are hardly more than the regression's noise",
            (),
        ),
        ("effective days", covariance.effective_days, "equally weighted days that the correlations are worth", ()),
        ("factor regime", np.sqrt(covariance.regime.variance), "multiplier of factor volatilities; 1: off", ()),
        ("short histories", specific.short, "assets whose specific volatility is partly or wholly structural", ()),
        ("without history", specific.without_history, "assets whose specific volatility is wholly structural", ()),
        (
            "fat-tailed",
            specific.fat_tailed,
            "assets that lean on the structural estimate, as one jump is not their volatility",
            (),
        ),
        ("floored specific", specific.floored, "assets raised to the lowest specific volatility", ()),
        ("specific regime", np.sqrt(specific.regime.variance), "multiplier of specific volatilities; 1: off", ()),
    ]
    table = pd.DataFrame(rows, columns=["rule", "value", "meaning", "names"]).set_index("rule")
    return table.astype({"value": np.float64})


@dataclass(frozen=True, eq=False)
class _CrossSection:
    """A day's regression of returns on market, categories and styles, as the history ran it."""

    date: pd.Timestamp
    factors: tuple[str, ...]
    exposures: FloatArray
    residuals: FloatArray
    weights: FloatArray
    constraints: FloatArray


def _day(market: Market, t: int) -> tuple[DayExposures, BoolArray]:
    """Return the exposures known at the close of t - 1 and the sample of the regression of day t."""
    history, members = market.history, market.universe.members
    sample = members[t - 1] & np.isfinite(history.specific_returns[t])
    raw, size = history.descriptors.raw[t - 1], history.descriptors.size[t - 1]
    found = day_exposures(market.panel, t - 1, raw, size, members[t - 1], sample, history.spec, history.user)
    return found, sample


def _cross_section(market: Market, t: int) -> _CrossSection:
    history = market.history
    day, sample = _day(market, t)
    first_stage = [k for k, name in enumerate(day.factors) if family(name) != "signal"]
    names = tuple(day.factors[k] for k in first_stage)
    column = {name: k for k, name in enumerate(history.factors)}
    X = day.matrix[sample][:, first_stage]
    caps = history.descriptors.size[t - 1][sample]
    f = history.factor_returns[t, [column[name] for name in names]]
    rows = constraint_rows(X, day.families, caps)
    return _CrossSection(market.panel.dates[t], names, X, market.panel.returns[t][sample] - X @ f, np.sqrt(caps), rows)


def _strength(market: Market) -> tuple[pd.DataFrame, float, str]:
    """Return the strength, collinearity and stability of factors, the condition number, and what is not known."""
    history = market.history
    returns = pd.DataFrame(
        np.where(history.present, history.factor_returns, np.nan), history.dates, list(history.factors)
    )
    days = np.flatnonzero(np.isfinite(history.r_squared))
    year = market.panel.periods_per_year / history.spec.sessions
    whole = factor_strength(returns.iloc[days], periods_per_year=year)[["days", "mean", "t_mean"]]
    whole["realised"] = returns.iloc[days[-252:]].std() * np.sqrt(year)
    if history.spec.frequency != "daily":
        return whole, np.nan, "Standard errors, inflation and stability are computed for daily regressions only."
    sections = [_cross_section(market, int(t)) for t in days[-STRENGTH_DAYS:]]
    errors = pd.DataFrame(
        [
            pd.Series(
                regression_errors(one.exposures, one.residuals, one.weights, one.constraints, robust=True),
                index=list(one.factors),
            )
            for one in sections
        ],
        index=pd.DatetimeIndex([one.date for one in sections]),
    ).reindex(columns=returns.columns)
    recent = factor_strength(returns.loc[errors.index], standard_errors=errors.where(errors > 0), periods_per_year=year)
    last = sections[-1]
    inflation = pd.Series(variance_inflation(last.exposures, last.weights, last.constraints), index=list(last.factors))
    table = whole.join(recent[["mean_absolute_t", "share_significant"]])
    table["inflation"] = inflation
    table["stability"] = _stability(market, int(days[-1]))
    return table, condition_number(last.exposures, last.weights, last.constraints), ""


def _stability(market: Market, t: int) -> pd.Series:
    """Return the correlation of each factor's exposures with those of 21 days before, over the members of both days."""
    before = t - STABILITY_DAYS
    if before < 1 or not np.isfinite(market.history.r_squared[before]):
        return pd.Series(dtype=np.float64)
    (new, now), (old, then) = _day(market, t), _day(market, before)
    both, common = now & then, [name for name in new.factors if name in old.factors]
    place_new = [new.factors.index(name) for name in common]
    place_old = [old.factors.index(name) for name in common]
    caps = market.history.descriptors.size[t - 1][both]
    X, Y = old.matrix[both][:, place_old], new.matrix[both][:, place_new]
    return pd.Series(exposure_autocorrelation(X, Y, caps), index=common)
