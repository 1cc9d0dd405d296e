"""Returns, drawdowns, tails, market and wins of an account, as statistics with their definitions."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pandas as pd

from backtest.market_fit import market_fit
from backtest.series import drawdown, drawdowns, growth, period_returns, worst_drawdown
from backtest.sharpe_record import SHORTEST_SAMPLE, too_short
from backtest.statistic import Group, Statistic, Unit, normal_band
from backtest.track_record import excess_kurtosis, skewness, slugging, tail_ratio
from risk.losses import default_lags, mean_and_error
from risk.tails import historical_tail

__all__ = [
    "annual_volatility",
    "drawdown_statistics",
    "market_statistics",
    "return_statistics",
    "tail_statistics",
    "total_return",
    "win_statistics",
]

TAIL_LEVELS = (0.95, 0.99)
NO_SESSIONS = "the run has no sessions"
BEFORE = "Daily returns before fees (fees fall on single days)"
FEWEST_MONTHS = 12


def total_return(returns: pd.Series) -> float:
    """Return the compounded return of a series; NaN where it is empty."""
    return float(growth(returns).iloc[-1]) - 1.0 if len(returns) else math.nan


def annual_volatility(returns: pd.Series, periods_per_year: int) -> float:
    """Return the sample standard deviation (divisor n - 1) per year; NaN with fewer than 2 returns."""
    return float(returns.std(ddof=1) * math.sqrt(periods_per_year)) if len(returns) > 1 else math.nan


def _annual(returns: pd.Series, years: int) -> tuple[float, str]:
    if len(returns) < SHORTEST_SAMPLE:
        return math.nan, too_short(len(returns))
    note = f"extrapolated from {len(returns)} sessions" if len(returns) < years else ""
    return float((1.0 + total_return(returns)) ** (years / len(returns)) - 1.0), note


def return_statistics(nav: pd.DataFrame, periods_per_year: int = 252) -> Iterator[Statistic]:
    """Yield returns and volatilities, net and before fees."""
    year = periods_per_year
    before, net = nav["return_before_fees"], nav["net_return"]
    value, note = _annual(net, year)
    yield Statistic(
        "annual_return_net", "Annual return, net", value, Unit.PER_YEAR,
        f"Geometric: (product of 1 + net return)^({year} / sessions) - 1.", note, "After costs, financing and fees.",
    )  # fmt: skip
    value, note = _annual(before, year)
    yield Statistic(
        "annual_return_before_fees", "Annual return, before fees", value, Unit.PER_YEAR,
        f"Geometric: (product of 1 + return before fees)^({year} / sessions) - 1.", note,
        "After costs and financing, before management and incentive fee.",
    )  # fmt: skip
    yield Statistic(
        "total_return_net", "Total return, net", total_return(net), Unit.FRACTION,
        "Product of 1 + net return over the whole run, minus 1.", "" if len(nav) else NO_SESSIONS, "Not annualised.",
    )  # fmt: skip
    few = "" if len(nav) > 1 else f"needs 2 sessions; there are {len(nav)}"
    for name, words, returns in (("before_fees", "before fees", before), ("net", "net", net)):
        yield Statistic(
            f"volatility_{name}", f"Volatility, {words}", annual_volatility(returns, year), Unit.PER_YEAR,
            f"Sample standard deviation of daily {'net returns' if name == 'net' else 'returns before fees'}, times the root of {year}.",
            few, "Divisor n - 1.",
        )  # fmt: skip


def drawdown_statistics(net: pd.Series) -> Iterator[Statistic]:
    """Yield how deep and how long the net value lay below its high."""
    none = "" if len(net) else NO_SESSIONS
    worst = worst_drawdown(net)
    note = none or "never below its high"
    if worst.peak is not None and worst.trough is not None:
        end = "not recovered" if worst.recovered is None else f"recovered {worst.recovered:%Y-%m-%d}"
        note = f"from {worst.peak:%Y-%m-%d} to {worst.trough:%Y-%m-%d}, {end}"
    convention = "Compounded net value at daily closes; the start counts as a high."
    yield Statistic(
        "max_drawdown", "Maximum drawdown, net", worst.depth if len(net) else math.nan, Unit.FRACTION,
        "Deepest fall of the compounded net value from its highest value so far.", note, convention, group=Group.DRAWDOWN,
    )  # fmt: skip
    falls = drawdowns(net) if len(net) else pd.DataFrame()
    longest, note = 0.0, none
    if len(falls):
        row = falls.sort_values("sessions", kind="stable").iloc[-1]
        end = "not recovered" if pd.isna(row["recovered"]) else f"recovered {row['recovered']:%Y-%m-%d}"
        longest, note = float(row["sessions"]), f"from {row['peak']:%Y-%m-%d}, {end}"
    yield Statistic(
        "longest_drawdown", "Longest drawdown, net", longest if len(net) else math.nan, Unit.SESSIONS,
        "Sessions from a high until the value is back at it, or until the run ends.", note, convention, group=Group.DRAWDOWN,
    )  # fmt: skip
    below = float((drawdown(net) < 0).mean()) if len(net) else math.nan
    yield Statistic(
        "time_below_high", "Time below the high, net", below, Unit.SHARE,
        "Share of sessions that close below the highest value so far.", none, convention, group=Group.DRAWDOWN,
    )  # fmt: skip


def tail_statistics(before: pd.Series) -> Iterator[Statistic]:
    """Yield skewness, kurtosis, tail ratio, value at risk and expected shortfall of daily returns."""
    values = before.to_numpy(dtype=np.float64)
    reason = ""
    if len(values) < SHORTEST_SAMPLE:
        reason = too_short(len(values))
    elif np.ptp(values) == 0.0:
        reason = "returns do not vary"
    group = Group.TAILS
    yield Statistic(
        "skewness", "Skewness", math.nan if reason else skewness(values), Unit.RATIO,
        "Third moment about the mean over the standard deviation cubed.", reason, f"{BEFORE}; divisor n.", group=group,
    )  # fmt: skip
    yield Statistic(
        "excess_kurtosis", "Excess kurtosis", math.nan if reason else excess_kurtosis(values), Unit.RATIO,
        "Fourth moment about the mean over the variance squared, minus 3: 0 for a normal law.", reason,
        f"{BEFORE}; divisor n.", group=group,
    )  # fmt: skip
    ratio = math.nan if reason else tail_ratio(values)
    note = reason or ("" if math.isfinite(ratio) else "the 5 % quantile is no loss")
    yield Statistic(
        "tail_ratio", "Tail ratio", ratio, Unit.RATIO,
        "95 % quantile over minus the 5 % quantile: above 1 gains reach further than losses.", note,
        f"{BEFORE}; linear between order statistics.", group=group,
    )  # fmt: skip
    for level in TAIL_LEVELS:
        yield from _losses(values, level)


def _losses(values: np.ndarray, level: float) -> Iterator[Statistic]:
    """Yield value at risk and expected shortfall of one session."""
    words, key, least = f"{100 * level:.0f} %", f"{100 * level:.0f}", math.ceil(1 / (1 - level) - 1e-9) - 1
    reason = "" if len(values) >= max(least, SHORTEST_SAMPLE) else too_short(len(values), max(least, SHORTEST_SAMPLE))
    risk = risk_error = shortfall = shortfall_error = math.nan
    if not reason:
        tail = historical_tail(values, level=level)
        risk, risk_error = tail.value_at_risk, tail.value_at_risk_error
        shortfall, shortfall_error = tail.expected_shortfall, tail.expected_shortfall_error
    convention = f"{BEFORE}; empirical, the i-th lowest of n at i / (n + 1); a loss is positive."
    method = "95 %, order statistics of independent days"
    yield Statistic(
        f"value_at_risk_{key}", f"Value at risk, {words}, one session", risk, Unit.PER_SESSION,
        f"Loss that 1 session in {round(1 / (1 - level))} exceeds.", reason, convention, normal_band(risk, risk_error, method), Group.TAILS,
    )  # fmt: skip
    yield Statistic(
        f"expected_shortfall_{key}", f"Expected shortfall, {words}, one session", shortfall, Unit.PER_SESSION,
        f"Mean loss of the worst {100 * (1 - level):.0f} % of sessions.", reason, convention, normal_band(shortfall, shortfall_error, method), Group.TAILS,
    )  # fmt: skip


def market_statistics(
    before: pd.Series, market_return: pd.Series | None, periods_per_year: int = 252
) -> Iterator[Statistic]:
    """Yield beta and alpha to the cap-weighted universe with their t-statistics."""
    fit, note = None, "the market's return was not given"
    if market_return is not None:
        known = market_return[market_return.notna()]
        if len(known) < SHORTEST_SAMPLE and market_return.index.equals(before.index):
            note = too_short(len(known))
        elif len(known) and np.ptp(known.to_numpy()) == 0.0:
            note = "the market's return does not vary"
        else:
            fit = market_fit(before, market_return)
            left_out = f", {fit.left_out} without a market return left out" if fit.left_out else ""
            note = f"{fit.sessions} sessions, {fit.lags} lags{left_out}"
    year, nan = periods_per_year, math.nan
    beta, beta_error, beta_t = (nan, nan, nan) if fit is None else (fit.beta, fit.beta_error, fit.beta_t)
    alpha, alpha_error, alpha_t = (
        (nan, nan, nan) if fit is None else (fit.alpha * year, fit.alpha_error * year, fit.alpha_t)
    )
    method = "95 %, HAC error"
    line = "ordinary least squares with a constant; risk-free rate 0"
    yield Statistic(
        "beta", "Realised beta", beta, Unit.SLOPE,
        "Slope of daily returns before fees on the return of the cap-weighted universe.", note, f"Same day; {line}.",
        normal_band(beta, beta_error, method), Group.MARKET,
    )  # fmt: skip
    robust = "Error robust to heteroskedasticity and autocorrelation (Newey-West, scaled by n / (n - 1))."
    yield Statistic(
        "beta_t_statistic", "t-statistic of beta", beta_t, Unit.RATIO, "Beta over its standard error.",
        _exact(note, beta_t), robust, group=Group.MARKET,
    )  # fmt: skip
    yield Statistic(
        "market_alpha", "Alpha to the market", alpha, Unit.PER_YEAR,
        f"Constant of the same line, times {year}: mean return before fees that beta does not explain.", note, f"Arithmetic; {line}.",
        normal_band(alpha, alpha_error, method), Group.MARKET,
    )  # fmt: skip
    yield Statistic(
        "market_alpha_t_statistic", "t-statistic of alpha", alpha_t, Unit.RATIO, "Alpha over its standard error.",
        _exact(note, alpha_t), robust, group=Group.MARKET,
    )  # fmt: skip


def _exact(note: str, t: float) -> str:
    return f"{note}; no error is left" if math.isnan(t) and "lags" in note else note


def win_statistics(before: pd.Series) -> Iterator[Statistic]:
    """Yield how often days and months gain, and what a gain is to a loss."""
    months = period_returns(before, "month") if len(before) else before
    daily = ("", "", "Daily returns before fees", "sessions", Unit.SHARE, before)
    monthly = (
        "_monthly",
        ", months",
        "Months of returns before fees, compounded, the first and last as far as they go",
        "months",
        Unit.SHARE_OF_MONTHS,
        months,
    )
    for key, words, which, noun, unit, returns in (daily, monthly):
        values = returns.to_numpy(dtype=np.float64)
        reason = "" if len(values) else NO_SESSIONS
        hits = (values > 0).astype(np.float64)
        rate = float(hits.mean()) if len(values) else math.nan
        least = SHORTEST_SAMPLE if key == "" else FEWEST_MONTHS
        error = (
            mean_and_error(hits, default_lags(len(hits)))[1] if len(values) >= least and np.ptp(hits) > 0 else math.nan
        )
        yield Statistic(
            f"hit_rate{key}", f"Hit rate{words}", rate, unit, f"Share of {noun} with a return before fees above 0.", reason,
            f"{which}; 0 is a miss.", normal_band(rate, error, "95 %, HAC error"), Group.WINS,
        )  # fmt: skip
        ratio = slugging(values) if len(values) else math.nan
        note = reason or ("" if math.isfinite(ratio) else f"no {noun} with a gain, or none with a loss")
        yield Statistic(
            f"slugging{key}", f"Slugging ratio{words}", ratio, Unit.RATIO, "Mean gain over mean loss.", note,
            f"{which}; those at 0 left out.", group=Group.WINS,
        )  # fmt: skip
