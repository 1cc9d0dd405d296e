"""Headline numbers of a run, each with its definition: the same word never means two formulas.

All are functions of the daily account (`nav` of the run folder). NaN means "not known", and the note says why.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import pandas as pd

from backtest.series import growth, worst_drawdown
from backtest.store import Run
from risk import DataError

__all__ = [
    "Statistic",
    "Statistics",
    "Unit",
    "by_year",
    "run_statistics",
    "statistics",
]

SHORTEST_SAMPLE = 20
"""Sessions below which nothing is annualised: the standard error of such a Sharpe ratio is above 3."""
TWELVE_MONTHS, SHORTEST_TWELVE_MONTHS = 252, 126
COLUMNS = [
    *("gross_return", "cost", "financing", "return_before_fees", "management_fee", "incentive_fee", "net_return"),
    *("gross", "net", "turnover"),
]


class Unit(StrEnum):
    """Unit of a statistic; numbers are decimals, never percent."""

    FRACTION = "fraction of NAV"
    PER_YEAR = "fraction of NAV per year"
    RATIO = "ratio"
    MULTIPLE = "times NAV"
    MULTIPLE_PER_YEAR = "times NAV per year"
    SHARE = "share of sessions"
    COUNT = "count"


@dataclass(frozen=True)
class Statistic:
    """One number with its definition.

    Attributes
    ----------
    name, label : str
        Key for machines, and what a reader sees.
    value : float
        Decimal; NaN where not known.
    unit : Unit
    definition : str
    note : str
        Why the value is NaN, or dates and counts that belong to it.
    """

    name: str
    label: str
    value: float
    unit: Unit
    definition: str
    note: str = ""


@dataclass(frozen=True)
class Statistics:
    """Statistics in the order in which they are printed; ``statistics["sharpe_net"]`` finds one by name."""

    items: tuple[Statistic, ...]

    def __iter__(self) -> Iterator[Statistic]:
        return iter(self.items)

    def __getitem__(self, name: str) -> Statistic:
        for item in self.items:
            if item.name == name:
                return item
        raise KeyError(name)

    def as_record(self) -> dict[str, float | None]:
        """Return values by name for `run.json`; None where not known."""
        return {item.name: None if math.isnan(item.value) else item.value for item in self.items}


def statistics(
    nav: pd.DataFrame,
    *,
    market_return: pd.Series | None = None,
    solves: pd.DataFrame | None = None,
    periods_per_year: int = 252,
) -> Statistics:
    """Return the headline statistics of a daily account.

    Parameters
    ----------
    nav : DataFrame indexed by date
        As `Run.nav`; decimals per session. A column ``market_return`` is used where the argument is not given.
    market_return : Series, optional
        Return of the cap-weighted universe on the same dates; NaN where not known.
    solves : DataFrame, optional
        Decisions of the run with their forecast ``volatility``, per year, and the ``multiplier`` that calibrates it.
    periods_per_year : int

    Raises
    ------
    DataError
        If a column is missing or holds NaN, the dates are not strictly ascending, or `market_return` has other dates.

    References
    ----------
    Lo (2002), The Statistics of Sharpe Ratios. Newey and West (1987, 1994) for the t-statistic of beta.
    """
    _check(nav)
    if market_return is None and "market_return" in nav:
        market_return = nav["market_return"]
    before, net, years = nav["return_before_fees"], nav["net_return"], periods_per_year
    forecast = np.nan if solves is None or solves.empty else float(solves["volatility"].mean())
    calibrated = np.nan
    if solves is not None and not solves.empty:
        calibrated = float((solves["volatility"] * solves["multiplier"]).mean())
    no_forecast = "" if forecast > 0 else "the run holds no decision with a forecast above 0"
    realised, why = _volatility(before, years)
    sharpe, sharpe_note = _sharpe(before, years)
    sharpe_net, sharpe_net_note = _sharpe(net, years)
    error = _sharpe_error(sharpe, len(nav), years)
    beta, beta_t, beta_note = _beta(before, market_return)
    fall, fall_note = _worst(net)
    last_before, last_note = _last_twelve_months(before, years)
    last_net, last_net_note = _last_twelve_months(net, years)
    yearly = _yearly_means(nav, years)
    none = "" if len(nav) else "the run has no sessions"
    short = _short(len(nav)) if len(nav) < SHORTEST_SAMPLE else ""
    P, R = Unit.PER_YEAR, Unit.RATIO
    rows = [
        ("annual_return_net", "Annual return, net", *_annual(net, years), P, f"Geometric: (product of 1 + net return)^({years} / sessions) - 1; after costs, financing and fees."),
        ("annual_return_before_fees", "Annual return, before fees", *_annual(before, years), P, f"Geometric: (product of 1 + return before fees)^({years} / sessions) - 1; after costs and financing, before management and incentive fee."),
        ("total_return_net", "Total return, net", _total(net), none, Unit.FRACTION, "Product of 1 + net return over the whole run, minus 1; not annualised."),
        ("volatility_before_fees", "Volatility, before fees", realised, why, P, f"Sample standard deviation (divisor n - 1) of daily returns before fees, times the root of {years}."),
        ("volatility_net", "Volatility, net", *_volatility(net, years), P, f"Sample standard deviation (divisor n - 1) of daily net returns, times the root of {years}."),
        ("sharpe_before_fees", "Sharpe ratio, before fees", sharpe, sharpe_note or f"standard error {error:.2f}", R, f"Mean / sample standard deviation of daily returns before fees (after costs and financing), times the root of {years}; risk-free rate 0. The convention of the fund's own slides."),
        ("sharpe_net", "Sharpe ratio, net", sharpe_net, sharpe_net_note, R, f"Mean / sample standard deviation of daily net returns, times the root of {years}; risk-free rate 0."),
        ("sharpe_standard_error", "Standard error of the Sharpe ratio", error, sharpe_note, R, f"Of the ratio before fees: root of (1 + s^2 / 2) {years} / sessions, s the daily ratio (Lo 2002, independent returns)."),
        ("sharpe_before_fees_ltm", "LTM Sharpe ratio, before fees", last_before, last_note, R, f"Last twelve months: the Sharpe ratio before fees of the last {TWELVE_MONTHS} sessions."),
        ("sharpe_net_ltm", "LTM Sharpe ratio, net", last_net, last_net_note, R, f"Last twelve months: the net Sharpe ratio of the last {TWELVE_MONTHS} sessions."),
        ("max_drawdown", "Maximum drawdown, net", fall, fall_note, Unit.FRACTION, "Deepest fall of the compounded net value from its highest value so far, at daily closes."),
        ("hit_rate", "Hit rate", float((before > 0).mean()) if len(nav) else np.nan, none, Unit.SHARE, "Share of sessions with a return before fees above 0."),
        ("beta", "Realised beta", beta, beta_note, R, "Slope of daily returns before fees on the return of the cap-weighted universe, ordinary least squares with a constant."),
        ("beta_t_statistic", "t-statistic of beta", beta_t, beta_note, R, "Beta over its standard error, robust to heteroskedasticity and autocorrelation (Newey-West)."),
        ("forecast_volatility", "Forecast volatility, mean", forecast, no_forecast, P, "Mean over decisions of the risk model's forecast for the target book."),
        ("volatility_ratio", "Realised / forecast volatility", realised / forecast if forecast > 0 else np.nan, why or no_forecast, R, "Volatility before fees over the mean forecast; above 1 the model understated risk."),
        ("calibrated_forecast", "Calibrated forecast, mean", calibrated, no_forecast, P, "Mean over decisions of the forecast times what the book's own past forecasts and returns said by then: what the volatility limit is held against."),
        ("calibrated_ratio", "Realised / calibrated forecast", realised / calibrated if calibrated > 0 else np.nan, why or no_forecast, R, "Volatility before fees over the mean calibrated forecast."),
        ("average_gross", "Gross exposure, mean", float(nav["gross"].mean()) if len(nav) else np.nan, none, Unit.MULTIPLE, "Mean over sessions of the sum of absolute weights at the close."),
        ("average_absolute_net", "Absolute net exposure, mean", float(nav["net"].abs().mean()) if len(nav) else np.nan, none, Unit.FRACTION, "Mean over sessions of the absolute sum of weights at the close."),
        ("turnover", "Turnover", yearly["turnover"], short, Unit.MULTIPLE_PER_YEAR, f"Half of the sum of absolute trade weights, mean per session times {years}."),
        ("cost", "Trading cost", yearly["cost"], short, P, f"Spread, commission and impact: mean per session times {years}. A charge is positive."),
        ("financing", "Financing", yearly["financing"], short, P, f"Borrow fees and interest, mean per session times {years}. A charge is positive, a credit negative."),
        ("fees", "Fees", yearly["fees"], short, P, f"Management and incentive fee, mean per session times {years}."),
        ("sessions", "Sessions", float(len(nav)), "", Unit.COUNT, "Trading days of the account."),
    ]  # fmt: skip
    return Statistics(
        tuple(Statistic(name, label, value, unit, text, note) for name, label, value, note, unit, text in rows)
    )


def run_statistics(run: Run) -> Statistics:
    """Return the statistics of a finished run, those of its decisions' forecasts included."""
    return statistics(run.nav, solves=run.table("solves"), periods_per_year=trading_year(run))


def trading_year(run: Run) -> int:
    """Return the number of trading days in a year that the run's data set states; 252 where it states none."""
    return int(run.record.get("data", {}).get("periods_per_year", 252))


def by_year(
    nav: pd.DataFrame,
    solves: pd.DataFrame | None = None,
    *,
    volatility_limit: float | None = None,
    periods_per_year: int = 252,
) -> pd.DataFrame:
    """Return performance, and realised against forecast volatility and its limit, by calendar year.

    Returns
    -------
    DataFrame by year
        ``sessions``, ``return_net``, ``return_before_fees`` (compounded, not annualised), ``sharpe_before_fees``,
        ``sharpe_net``, ``max_drawdown`` (from the year's own start), ``volatility`` (realised, before fees), ``forecast_volatility`` (mean over the decisions
        dated in the year), ``volatility_limit``, ``ratio`` (realised / forecast), ``turnover`` (sum) and ``cost`` (sum). NaN: fewer than 20
        sessions, or no decision.
    """
    _check(nav)
    forecasts = pd.Series(dtype=float)
    if solves is not None and not solves.empty:
        forecasts = solves["volatility"].groupby(pd.DatetimeIndex(solves["date"]).year).mean()
    rows = {}
    for year, days in nav.groupby(pd.DatetimeIndex(nav.index).year):
        before, net = days["return_before_fees"], days["net_return"]
        volatility, forecast = _volatility(before, periods_per_year)[0], float(forecasts.get(year, np.nan))
        if len(days) < SHORTEST_SAMPLE:
            volatility = np.nan
        rows[year] = {
            "sessions": len(days),
            "return_net": _total(net),
            "return_before_fees": _total(before),
            "sharpe_before_fees": _sharpe(before, periods_per_year)[0],
            "sharpe_net": _sharpe(net, periods_per_year)[0],
            "max_drawdown": worst_drawdown(net).depth,
            "volatility": volatility,
            "forecast_volatility": forecast,
            "volatility_limit": np.nan if volatility_limit is None else volatility_limit,
            "ratio": volatility / forecast if forecast > 0 else np.nan,
            "turnover": float(days["turnover"].sum()),
            "cost": float(days["cost"].sum()),
        }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("year")


def _check(nav: pd.DataFrame) -> None:
    missing = [name for name in COLUMNS if name not in nav]
    if missing:
        raise DataError(f"`nav` lacks the column(s) {', '.join(missing)}; give the account as `Run.nav` returns it.")
    if not isinstance(nav.index, pd.DatetimeIndex) or not nav.index.is_monotonic_increasing or nav.index.has_duplicates:
        raise DataError("`nav` must be indexed by strictly ascending dates; give the account as `Run.nav` returns it.")
    bad = nav[COLUMNS].isna().any(axis=1)
    if bad.any():
        raise DataError(
            f"`nav` holds NaN on {nav.index[bad][0]:%Y-%m-%d} and {int(bad.sum())} such days; run the backtest again."
        )


def _total(returns: pd.Series) -> float:
    return float(growth(returns).iloc[-1]) - 1.0 if len(returns) else np.nan


def _annual(returns: pd.Series, years: int) -> tuple[float, str]:
    if len(returns) < SHORTEST_SAMPLE:
        return np.nan, _short(len(returns))
    note = f"extrapolated from {len(returns)} sessions" if len(returns) < years else ""
    return float((1.0 + _total(returns)) ** (years / len(returns)) - 1.0), note


def _volatility(returns: pd.Series, years: int) -> tuple[float, str]:
    if len(returns) < 2:
        return np.nan, f"needs 2 sessions; there are {len(returns)}"
    return float(returns.std(ddof=1) * math.sqrt(years)), ""


def _sharpe(returns: pd.Series, years: int) -> tuple[float, str]:
    values = returns.to_numpy(dtype=np.float64)
    if len(values) < SHORTEST_SAMPLE:
        return np.nan, _short(len(values))
    # The spread, not the standard deviation, tells a constant: rounding leaves the latter at 1e-19 and the ratio at 1e16.
    if np.ptp(values) == 0.0:
        return np.nan, "returns do not vary"
    return float(values.mean() / values.std(ddof=1) * math.sqrt(years)), ""


def _sharpe_error(sharpe: float, sessions: int, years: int) -> float:
    return math.sqrt((1.0 + sharpe**2 / years / 2.0) * years / sessions) if sessions else np.nan


def _last_twelve_months(returns: pd.Series, years: int) -> tuple[float, str]:
    last = returns.iloc[-TWELVE_MONTHS:]
    if len(last) < SHORTEST_TWELVE_MONTHS:
        return np.nan, f"needs {SHORTEST_TWELVE_MONTHS} sessions; there are {len(last)}"
    value, note = _sharpe(last, years)
    return value, note or (f"{len(last)} sessions" if len(last) < TWELVE_MONTHS else "")


def _short(sessions: int) -> str:
    return f"needs {SHORTEST_SAMPLE} sessions; there are {sessions}"


def _worst(net: pd.Series) -> tuple[float, str]:
    if not len(net):
        return np.nan, "the run has no sessions"
    worst = worst_drawdown(net)
    if worst.peak is None or worst.trough is None:
        return 0.0, "never below its high"
    end = "not recovered" if worst.recovered is None else f"recovered {worst.recovered:%Y-%m-%d}"
    return worst.depth, f"from {worst.peak:%Y-%m-%d} to {worst.trough:%Y-%m-%d}, {end}"


def _yearly_means(nav: pd.DataFrame, years: int) -> dict[str, float]:
    if len(nav) < SHORTEST_SAMPLE:
        return dict.fromkeys(("turnover", "cost", "financing", "fees"), np.nan)
    means = {name: float(nav[name].mean()) * years for name in ("turnover", "cost", "financing")}
    return {**means, "fees": float((nav["management_fee"] + nav["incentive_fee"]).mean()) * years}


def _beta(returns: pd.Series, market_return: pd.Series | None) -> tuple[float, float, str]:
    if market_return is None:
        return np.nan, np.nan, "the market's return was not given"
    if not market_return.index.equals(returns.index):
        raise DataError("`market_return` must have the dates of `nav`; reindex it at the edge.")
    known = market_return.notna().to_numpy()
    x, y = market_return.to_numpy(dtype=np.float64)[known], returns.to_numpy(dtype=np.float64)[known]
    if len(x) < SHORTEST_SAMPLE:
        return np.nan, np.nan, _short(len(x))
    if np.ptp(x) == 0.0:
        return np.nan, np.nan, "the market's return does not vary"
    from statsmodels.regression.linear_model import OLS

    lags = math.floor(4 * (len(x) / 100) ** (2 / 9))
    fit = OLS(y, np.column_stack([np.ones_like(x), x])).fit(cov_type="HAC", cov_kwds={"maxlags": lags})
    left_out = f", {int((~known).sum())} without a market return left out" if not known.all() else ""
    t = float(fit.tvalues[1]) if np.ptp(y) > 0 else np.nan
    return float(fit.params[1]), t, f"{len(x)} sessions, {lags} lags{left_out}"
