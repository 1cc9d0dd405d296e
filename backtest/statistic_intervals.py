"""Intervals of an account's statistics by the stationary bootstrap of its days: for the report, where seconds do not matter."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pandas as pd

from backtest.bootstrap import LEAST, Interval, bootstrap_interval, sharpe_interval
from backtest.series import period_returns
from backtest.sharpe_statistics import sharpe_records
from backtest.statistic import Band, Statistic, Statistics
from risk import DataError
from risk.checks import FloatArray

__all__ = ["with_bootstrap"]


class _Estimator(NamedTuple):
    """A series of an account and the statistic of it; without one, the Sharpe ratio."""

    returns: pd.Series
    of: Callable[[FloatArray], FloatArray] | None


def with_bootstrap(
    found: Statistics,
    nav: pd.DataFrame,
    *,
    periods_per_year: int = 252,
    resamples: int = 2000,
    seed: int = 0,
) -> Statistics:
    """Return the statistics with bootstrap intervals where a resample of the account's days has the statistic.

    Parameters
    ----------
    found : Statistics
        Of `nav`, as `backtest.statistics.statistics` returns them.
    nav : DataFrame by date
    periods_per_year, resamples, seed : int

    Returns
    -------
    Statistics
        Bands of Sharpe ratios, returns, volatilities, drawdown, skewness, kurtosis, tail ratio, hit rate and slugging replaced by the
        percentile interval at 95 %; the others as they were. Where one is refused, its note says so.

    Notes
    -----
    Resamples keep dependence over about a block. A drawdown lasts longer than that: its interval says how deep the same days
    would have fallen in another order.
    """
    estimators = _estimators(nav, periods_per_year)
    items = []
    for item in found:
        estimator = estimators.get(item.name)
        if estimator is None or math.isnan(item.value) or len(estimator.returns) < LEAST:
            items.append(item)
            continue
        items.append(_resampled(item, estimator, periods_per_year, resamples, seed))
    return Statistics(tuple(items))


def _resampled(item: Statistic, estimator: _Estimator, year: int, resamples: int, seed: int) -> Statistic:
    values = estimator.returns.to_numpy(dtype=np.float64)
    try:
        if estimator.of is None:
            interval = sharpe_interval(values, periods_per_year=year, resamples=resamples, seed=seed)
        else:
            interval = bootstrap_interval(values, estimator.of, resamples=resamples, seed=seed)
    except DataError as error:
        reason = f"no bootstrap interval: {str(error).rstrip('.')}"
        return replace(item, note=f"{item.note}; {reason}" if item.note else reason)
    return replace(item, band=_band(interval, "months" if item.name.endswith("_monthly") else "sessions"))


def _band(interval: Interval, noun: str) -> Band:
    method = f"{100 * interval.level:.0f} %, bootstrap in blocks of {interval.block_length:.1f} {noun}"
    return Band(interval.lower, interval.upper, method)


def _estimators(nav: pd.DataFrame, year: int) -> dict[str, _Estimator]:
    """Return the series and estimator of each statistic that is resampled."""
    before, net = nav["return_before_fees"], nav["net_return"]
    months = period_returns(before, "month") if len(before) else before
    records = sharpe_records(nav, year)

    def volatility(sample: FloatArray) -> FloatArray:
        return np.asarray(sample.std(axis=1, ddof=1) * math.sqrt(year))

    def annual(sample: FloatArray) -> FloatArray:
        return np.asarray(np.expm1(np.log1p(sample).mean(axis=1) * year))

    found = {
        "sharpe_before_fees": _Estimator(before, None),
        "sharpe_net": _Estimator(net, None),
        "sharpe_before_fees_ltm": _Estimator(before.iloc[-records.before_fees_ltm.sessions :], None),
        "sharpe_net_ltm": _Estimator(net.iloc[-records.net_ltm.sessions :], None),
        "volatility_before_fees": _Estimator(before, volatility),
        "volatility_net": _Estimator(net, volatility),
        "skewness": _Estimator(before, _skewness),
        "excess_kurtosis": _Estimator(before, _excess_kurtosis),
        "tail_ratio": _Estimator(before, _tail_ratio),
        "hit_rate": _Estimator(before, _hit_rate),
        "slugging": _Estimator(before, _slugging),
        "hit_rate_monthly": _Estimator(months, _hit_rate),
        "slugging_monthly": _Estimator(months, _slugging),
    }
    # After a total loss nothing compounds: neither has an interval.
    if len(net) and net.min() > -1.0:
        found |= {"annual_return_net": _Estimator(net, annual), "max_drawdown": _Estimator(net, _deepest)}
    if len(before) and before.min() > -1.0:
        found |= {"annual_return_before_fees": _Estimator(before, annual)}
    return found


def _deepest(sample: FloatArray) -> FloatArray:
    value = np.cumprod(1.0 + sample, axis=1)
    high = np.maximum(np.maximum.accumulate(value, axis=1), 1.0)
    return np.asarray((value / high - 1.0).min(axis=1))


def _moment(sample: FloatArray, power: int) -> FloatArray:
    centred = sample - sample.mean(axis=1, keepdims=True)
    square = centred**2
    top = (square * centred if power == 3 else square**2).mean(axis=1)
    scale = square.mean(axis=1) ** (power / 2)
    return np.asarray(np.divide(top, scale, out=np.full(len(sample), np.nan), where=scale > 0))


def _skewness(sample: FloatArray) -> FloatArray:
    return _moment(sample, 3)


def _excess_kurtosis(sample: FloatArray) -> FloatArray:
    return np.asarray(_moment(sample, 4) - 3.0)


def _tail_ratio(sample: FloatArray) -> FloatArray:
    lower, upper = np.quantile(sample, [0.05, 0.95], axis=1)
    return np.asarray(np.divide(upper, -lower, out=np.full(len(sample), np.nan), where=lower < 0))


def _hit_rate(sample: FloatArray) -> FloatArray:
    return np.asarray((sample > 0).mean(axis=1))


def _slugging(sample: FloatArray) -> FloatArray:
    won, lost = (sample > 0).sum(axis=1), (sample < 0).sum(axis=1)
    gains, losses = np.maximum(sample, 0.0).sum(axis=1), np.maximum(-sample, 0.0).sum(axis=1)
    both = (won > 0) & (lost > 0)
    return np.asarray(np.divide(gains * lost, losses * won, out=np.full(len(sample), np.nan), where=both))
