"""Where a book's risk comes from: the tables of the report, from the decompositions of `risk`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from backtest.risk_run import RiskBook
from risk import Decomposition, concentration, crowding, decompose, decompose_beta, liquidity
from risk.concentration import Concentration
from risk.crowding import Crowding
from risk.decomposition import Parts, family
from risk.liquidity import Liquidity

__all__ = ["Sources", "risk_sources"]


@dataclass(frozen=True, eq=False)
class Sources:
    """Forecast risk of the book in parts, under the model in force, before calibration. Volatilities are per year.

    Attributes
    ----------
    volatility, factor_share, specific_share : float
        Of the book; shares of its variance.
    multiplier, calibrated_volatility : float
        What the book's own past multiplies every volatility and contribution by, and the book's volatility times it.
    families : DataFrame by family
        ``contribution`` to volatility (they sum to it, ``specific`` included), ``share`` of it, ``alone`` (volatility of the family's
        exposures alone).
    factors : DataFrame by factor
        ``family``, ``exposure`` x, ``volatility`` sigma of the factor, ``correlation`` rho with the book, ``contribution`` = x sigma rho, ``share``,
        ``marginal`` = sigma rho; the largest contribution first.
    countries, sectors : DataFrame by group
        As `Parts.table`, and ``share``.
    assets : DataFrame by asset
        ``weight``, ``country``, ``sector``, ``contribution``, ``share``, ``marginal``, ``beta``, ``days`` (to sell); positions only, the largest
        contribution first.
    beta : DataFrame by factor
        Contribution of each factor, and ``specific``, to predicted beta.
    predicted_beta, benchmark_volatility : float
    concentration : Concentration
    crowding : DataFrame by style
    crowding_explained : float
        Share of forecast variance that simple style portfolios explain together.
    thin : dict of str to float
        Share of longs, and of shorts, in the least traded fifth of assets; and of shorts whose volume is not known.
    liquidity : DataFrame by share of gross
        ``days`` within which that share of gross is sold.
    liquidated : DataFrame by days
    liquidity_unknown : float
        Share of gross whose volume is not known.
    participation : float
    """

    volatility: float
    factor_share: float
    specific_share: float
    multiplier: float
    calibrated_volatility: float
    families: pd.DataFrame
    factors: pd.DataFrame
    countries: pd.DataFrame
    sectors: pd.DataFrame
    assets: pd.DataFrame
    beta: pd.DataFrame
    predicted_beta: float
    benchmark_volatility: float
    concentration: Concentration
    crowding: pd.DataFrame
    crowding_explained: float
    thin: dict[str, float]
    liquidity: pd.DataFrame
    liquidated: pd.DataFrame
    liquidity_unknown: float
    participation: float


def risk_sources(book: RiskBook, *, participation: float) -> Sources:
    """Return where the risk of a book that holds something comes from.

    Parameters
    ----------
    participation : float
        Share of each asset's median daily volume that is sold a day.
    """
    model, w = book.model, book.weights
    parts = decompose(model, w, groups={"country": list(book.country), "sector": list(book.sector)})
    beta = decompose_beta(model, w, book.benchmark)
    sold = liquidity(model.assets, w, book.traded_value, book.nav, participation=participation)
    likeness = _crowding(book)
    return Sources(
        volatility=parts.volatility,
        factor_share=parts.factor_share,
        specific_share=parts.specific_share,
        multiplier=book.multiplier,
        calibrated_volatility=parts.volatility * book.multiplier,
        families=_families(parts),
        factors=_factors(parts),
        countries=_groups(parts.group("country"), parts.volatility),
        sectors=_groups(parts.group("sector"), parts.volatility),
        assets=_assets(book, parts, beta.asset_beta, sold),
        beta=pd.DataFrame(
            {"contribution": [*beta.factor_contribution, beta.specific_contribution]},
            index=pd.Index([*model.factors, "specific"], name="factor"),
        ),
        predicted_beta=beta.beta,
        benchmark_volatility=beta.benchmark_volatility,
        concentration=concentration(model, w),
        crowding=pd.DataFrame() if likeness is None else likeness.table(),
        crowding_explained=np.nan if likeness is None else likeness.explained,
        thin=_thin(likeness),
        liquidity=pd.DataFrame({"days": sold.quantile_days}, index=pd.Index(sold.quantiles, name="share_of_gross")),
        liquidated=sold.table(),
        liquidity_unknown=sold.unknown_gross,
        participation=participation,
    )


def _crowding(book: RiskBook) -> Crowding | None:
    """Return likeness to simple styles; None for a model that has none."""
    if not any(family(name) in ("style", "signal") for name in book.model.factors):
        return None
    volume = book.traded_value if np.isfinite(book.traded_value).any() else None
    return crowding(book.model, book.weights, dollar_volume=volume)


def _thin(likeness: Crowding | None) -> dict[str, float]:
    if likeness is None:
        return {"long": np.nan, "short": np.nan, "short_unknown": np.nan}
    return {"long": likeness.long_illiquid, "short": likeness.short_illiquid, "short_unknown": likeness.short_unknown}


def _families(parts: Decomposition) -> pd.DataFrame:
    contribution = np.append(parts.family_contribution, parts.specific_contribution)
    alone = np.append(parts.family_volatility, np.sqrt(parts.specific_variance))
    return pd.DataFrame(
        {"contribution": contribution, "share": contribution / parts.volatility, "alone": alone},
        index=pd.Index([*parts.families, "specific"], name="family"),
    )


def _factors(parts: Decomposition) -> pd.DataFrame:
    table = pd.DataFrame(
        {
            "family": [family(name) for name in parts.factors],
            "exposure": parts.exposures,
            "volatility": parts.factor_volatility,
            "correlation": parts.factor_correlation,
            "contribution": parts.factor_contribution,
            "share": parts.factor_contribution / parts.volatility,
            "marginal": parts.factor_marginal,
        },
        index=pd.Index(parts.factors, name="factor"),
    )
    return table.sort_values("contribution", ascending=False, kind="stable")


def _groups(parts: Parts, volatility: float) -> pd.DataFrame:
    table = parts.table()
    table.insert(4, "share", table["contribution"] / volatility)
    return table.sort_values("contribution", ascending=False, kind="stable")


def _assets(book: RiskBook, parts: Decomposition, beta: np.ndarray, sold: Liquidity) -> pd.DataFrame:
    table = pd.DataFrame(
        {
            "weight": book.weights,
            "country": book.country,
            "sector": book.sector,
            "contribution": parts.contribution,
            "share": parts.contribution / parts.volatility,
            "marginal": parts.marginal,
            "beta": beta,
            "days": sold.days,
        },
        index=pd.Index(book.model.assets, name="asset"),
    )
    return table[table["weight"] != 0].sort_values("contribution", ascending=False, kind="stable")
