"""What made the money: a run's return by factor, by country and by sector up to a day, linked without residual."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from backtest.brinson import brinson
from backtest.performance import Performance, performance
from backtest.risk_run import universe_returns
from backtest.store import Run
from backtest.strategy import Market
from risk import DataError

__all__ = ["Attribution", "attribution"]

LINKING = "Carino (1999)"
LEAST_DAYS = 20
"""Sessions without which a contribution has no standard error."""


@dataclass(frozen=True, eq=False)
class Attribution:
    """Attribution of a run's net return.

    Attributes
    ----------
    first, last : Timestamp
    total : float
        Net return of the span, compounded.
    families, lines : DataFrame by line
        As `Performance.summary`: linked contributions sum to `total`; mean, standard error and t of the daily contribution, per year.
        Lines that are not factors come last.
    years : DataFrame by year
        Linked contributions of each family, and ``return``.
    country, sector : DataFrame by group
        As `Brinson.groups`.
    effects : DataFrame by effect
        Of both, as `Brinson.summary`, under columns (family, contribution) and (family, t_statistic).
    exposure_source : str
        ``regression``: exposures of the day's own regression; ``model``: those of the decision in force.
    without_factors : int
        Days whose factor returns are not known: their return is specific.
    unpriced : dict of str to int
        Factors of the decision's model that had no return on a day when the book was exposed to them: in specific, on so many days.
    without_yardstick : dict of str to int
        Groups held on days when the universe held none.
    linking : str
    """

    first: pd.Timestamp
    last: pd.Timestamp
    total: float
    families: pd.DataFrame
    lines: pd.DataFrame
    years: pd.DataFrame
    country: pd.DataFrame
    sector: pd.DataFrame
    effects: pd.DataFrame
    exposure_source: str
    without_factors: int
    unpriced: dict[str, int]
    without_yardstick: dict[str, int]
    linking: str = LINKING


def attribution(run: Run, market: Market | None, facts: pd.DataFrame, missing: str) -> Attribution:
    """Return the attribution of a run's net return.

    Parameters
    ----------
    run : Run
        Up to the day of the report.
    market : Market or None
    missing : str
        Why there is no market.

    Raises
    ------
    DataError
        If the run has no factor returns of its own and no market, is shorter than 20 days, or lost everything: a sentence for the
        reader of the report.
    """
    _check(run)
    returns, groups = _factor_returns(run, market, missing), universe_returns(run, market, missing)
    try:
        found = performance(run, returns, basis="net")
        parts = {family: brinson(run, family, group_returns=groups, facts=facts) for family in ("country", "sector")}
    except DataError as error:
        raise DataError(f"The tables of the run cannot be attributed. {error}") from error
    years = found.linked("year", by_family=True)
    return Attribution(
        first=pd.Timestamp(found.returns.index[0]),
        last=pd.Timestamp(found.returns.index[-1]),
        total=float(found.linked().iloc[0]["return"]),
        families=found.summary(by_family=True),
        lines=_lines(found),
        years=years.set_axis(pd.DatetimeIndex(years.index).year, axis=0).rename_axis("year"),
        country=parts["country"].groups(),
        sector=parts["sector"].groups(),
        effects=pd.concat(
            [
                part.summary()[["contribution", "t_statistic"]].add_prefix(f"{family}_")
                for family, part in parts.items()
            ],
            axis=1,
        ),
        exposure_source=found.exposure_source,
        without_factors=found.without_factors,
        unpriced=found.unpriced,
        without_yardstick={
            f"{family} {group}": days
            for family, part in parts.items()
            for group, days in part.without_yardstick.items()
        },
    )


def _check(run: Run) -> None:
    """Refuse an account that cannot be linked or has no standard errors."""
    net = run.nav["net_return"]
    if len(net) < LEAST_DAYS:
        raise DataError(
            f"Attribution needs {LEAST_DAYS} sessions for its standard errors; up to this day the run has {len(net)}."
        )
    if (net <= -1).any():
        raise DataError(
            f"The fund lost everything on {net.index[int(np.argmax(net <= -1))]:%Y-%m-%d}, and returns cannot be linked beyond that day. Give "
            "a date before it."
        )


def _factor_returns(run: Run, market: Market | None, missing: str) -> pd.DataFrame:
    """Return the run's own factor returns and exposures, or the history's returns: exposures are then those of the model in force."""
    if run.record["product"].get("risk_model", {}).get("frequency", "daily") != "daily":
        raise DataError("The risk model's regressions are weekly: there are no daily factor returns to attribute to.")
    if run.has("factor_returns"):
        return run.table("factor_returns")
    if market is None:
        raise DataError(missing)
    history = market.history
    day, factor = np.nonzero(history.present)
    return pd.DataFrame(
        {
            "date": history.dates[day],
            "factor": np.array(history.factors, dtype=object)[factor],
            "factor_return": history.factor_returns[day, factor],
        }
    )


def _lines(found: Performance) -> pd.DataFrame:
    """Return every line, the largest contribution of a factor first, then what is no factor."""
    table = found.summary()
    own = table["mean_exposure"].isna()
    factors = table[~own].sort_values("contribution", key=abs, ascending=False, kind="stable")
    return pd.concat([factors, table[own]])
