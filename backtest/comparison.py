"""Runs side by side, each against the first on the same days.

Variants of one product earn nearly the same returns, so the difference of two is known far better than either of them: it is
resampled in pairs, both runs by the same days.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from backtest.bootstrap import LEAST, Interval, bootstrap_interval, stationary_block_length
from backtest.sharpe import sharpe_influence, sharpe_ratio
from backtest.statistics import trading_year
from backtest.store import Run
from risk import DataError
from risk.checks import FloatArray, check_array
from risk.laws import check_series

__all__ = ["SHARPES", "compare_runs", "sharpe_difference"]

SHARPES = {"sharpe_before_fees": "return_before_fees", "sharpe_net": "net_return"}
"""Sharpe ratios that are compared, and the column of the account that each is of."""


def sharpe_difference(
    returns: npt.ArrayLike,
    base: npt.ArrayLike,
    *,
    periods_per_year: float = 252,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Interval:
    """Return by how much the Sharpe ratio per year of one series is above that of another over the same periods.

    Parameters
    ----------
    returns, base : array_like of shape (T,)
        Per period, T at least 20; they must vary.
    periods_per_year : float
    level, resamples, seed
        As for `bootstrap_interval`.

    Raises
    ------
    DataError
        If the two differ in length, or one of them cannot be used.

    Notes
    -----
    Percentile interval of the stationary bootstrap of pairs (Ledoit and Wolf 2008, Robust Performance Hypothesis Testing with the
    Sharpe Ratio, resample pairs as well; theirs is studentised). A difference of ratios errs as the mean of the difference of their
    influence series does, and the block length is that series'.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> gains = rng.normal(0.0005, 0.01, 1000)
    >>> found = sharpe_difference(gains - 0.0001, gains)
    >>> round(found.estimate, 2), found.upper < 0
    (-0.16, True)
    """
    one = check_series("returns", returns, least=LEAST)
    two = check_array("base", base, one.shape)
    for name, series in (("returns", one), ("base", two)):
        if np.ptp(series) == 0.0:
            raise DataError(f"`{name}` must vary for a Sharpe ratio; all {len(series)} are {series[0]:.6g}.")
    root = np.sqrt(periods_per_year)

    def gap(sample: FloatArray) -> FloatArray:
        ratios = sample.mean(axis=1) / sample.std(axis=1, ddof=1)
        return np.asarray((ratios[:, 0] - ratios[:, 1]) * root)

    block = stationary_block_length(sharpe_influence(one) - sharpe_influence(two))
    pair = np.column_stack([one, two])
    return bootstrap_interval(pair, gap, block_length=block, level=level, resamples=resamples, seed=seed)


def compare_runs(
    runs: Mapping[str, Run],
    *,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
    progress: Callable[[float], None] = lambda _done: None,
) -> pd.DataFrame:
    """Return runs side by side, each compared with the first on the sessions that both have.

    Parameters
    ----------
    runs : mapping of str to Run
    level, resamples, seed
        Of the intervals, as for `bootstrap_interval`.
    progress : callable
        Called with the share of the runs done.

    Returns
    -------
    DataFrame by run
        ``status``, ``sessions`` (its own), ``common_sessions`` (with the first); ``sharpe_before_fees`` and ``sharpe_net`` over its own, each
        with ``..._difference`` to the first over the common ones, ``..._lower`` and ``..._upper``; ``annual_before_fees`` and ``annual_net``
        (mean times sessions in a year, not compounded), ``cost`` and ``financing`` a year, ``turnover`` a year, ``gross`` (mean), ``volatility``
        (of returns before fees, a year), ``forecast`` (mean of the calibrated forecasts at the decisions), ``targets_missed`` (decisions
        short of the volatility target). NaN where there are fewer than 20 sessions or returns do not vary.
    """
    names = list(runs)
    first, draws = runs[names[0]].nav, {"level": level, "resamples": resamples, "seed": seed}
    rows = []
    for done, name in enumerate(names):
        run = runs[name]
        nav, year = run.nav, trading_year(run)
        common = nav.index.intersection(first.index)
        row: dict[str, Any] = {"status": run.record["status"], "sessions": len(nav), "common_sessions": len(common)}
        for statistic, column in SHARPES.items():
            row |= _sharpe(statistic, nav, first, common, column, year, draws)
        rows.append(row | _account(run, nav, year))
        progress((done + 1) / len(names))
    return pd.DataFrame(rows, index=pd.Index(names, name="variant"))


def _sharpe(
    statistic: str,
    nav: pd.DataFrame,
    first: pd.DataFrame,
    common: pd.Index,
    column: str,
    year: int,
    draws: Mapping[str, Any],
) -> dict[str, float]:
    """Return a run's Sharpe ratio and its difference to the first run's, with its interval; NaN where they cannot be told."""
    names = (statistic, *(f"{statistic}_{part}" for part in ("difference", "lower", "upper")))
    row = dict.fromkeys(names, np.nan)
    if len(nav) >= LEAST:
        row[statistic] = sharpe_ratio(nav[column].to_numpy(), periods_per_year=year)
    pair = [frame.loc[common, column].to_numpy() for frame in (nav, first)]
    if len(common) >= LEAST and all(np.ptp(returns) > 0 for returns in pair):
        gap = sharpe_difference(*pair, periods_per_year=year, **draws)
        row |= dict(zip(names[1:], (gap.estimate, gap.lower, gap.upper), strict=True))
    return row


def _account(run: Run, nav: pd.DataFrame, year: int) -> dict[str, float]:
    """Return what a run earned, paid, held and traded."""
    solves, notices = run.table("solves"), run.table("notices")
    enough = len(nav) >= LEAST
    return {
        "annual_before_fees": float(nav["return_before_fees"].mean() * year) if enough else np.nan,
        "annual_net": float(nav["net_return"].mean() * year) if enough else np.nan,
        "cost": float(nav["cost"].mean() * year),
        "financing": float(nav["financing"].mean() * year),
        "turnover": float(nav["turnover"].mean() * year),
        "gross": float(nav["gross"].mean()),
        "volatility": float(nav["return_before_fees"].std(ddof=1) * np.sqrt(year)) if enough else np.nan,
        "forecast": float((solves["volatility"] * solves["multiplier"]).mean()),
        "targets_missed": int((notices["kind"] == "volatility target missed").sum()),
    }
