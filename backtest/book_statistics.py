"""Forecast, exposure, trading, charges and size of an account, as statistics with their definitions."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import numpy as np
import pandas as pd

from backtest.return_statistics import NO_SESSIONS, annual_volatility
from backtest.sharpe_record import SHORTEST_SAMPLE, too_short
from backtest.statistic import Band, Group, Statistic, Unit
from backtest.track_record import holding_period
from risk import DataError
from risk.evaluation import bias_statistic

__all__ = ["book_statistics", "forecast_statistics"]

MOSTLY = 0.5
"""Share of decisions from which on a limit is given as the reason."""


def forecast_statistics(
    before: pd.Series,
    solves: pd.DataFrame | None,
    volatility_limit: float | None = None,
    periods_per_year: int = 252,
) -> Iterator[Statistic]:
    """Yield realised volatility against what was forecast and against the mandate's limit."""
    realised = annual_volatility(before, periods_per_year)
    few = "" if len(before) > 1 else f"needs 2 sessions; there are {len(before)}"
    forecast = calibrated = math.nan
    if solves is not None and not solves.empty:
        forecast = float(solves["volatility"].mean())
        calibrated = float((solves["volatility"] * solves["multiplier"]).mean())
    none = "" if forecast > 0 else "the run holds no decision with a forecast above 0"
    group = Group.FORECAST
    yield Statistic(
        "forecast_volatility", "Forecast volatility, mean", forecast, Unit.PER_YEAR,
        "Mean over decisions of the risk model's forecast for the target book.", none, "Of the factor model, uncalibrated.", group=group,
    )  # fmt: skip
    yield Statistic(
        "volatility_ratio", "Realised / forecast volatility", realised / forecast if forecast > 0 else math.nan, Unit.RATIO,
        "Volatility before fees over the mean forecast.", few or none, "Above 1 the model understated risk.", group=group,
    )  # fmt: skip
    yield Statistic(
        "calibrated_forecast", "Calibrated forecast, mean", calibrated, Unit.PER_YEAR,
        "Mean over decisions of the forecast times what the book's own past forecasts and returns said by then.", none,
        "What the volatility limit is held against.", group=group,
    )  # fmt: skip
    yield Statistic(
        "calibrated_ratio", "Realised / calibrated forecast", realised / calibrated if calibrated > 0 else math.nan, Unit.RATIO,
        "Volatility before fees over the mean calibrated forecast.", few or none, "Above 1 the calibrated model understated risk.", group=group,
    )  # fmt: skip
    bound = {name: _bound(name, solves) for name in ("volatility", "gross")}
    yield _against_limit(before, volatility_limit, bound, periods_per_year)
    for name, share in bound.items():
        yield Statistic(
            f"{name}_limit_bound", f"{name.capitalize()} limit bound", share, Unit.SHARE_OF_DECISIONS,
            f"Share of decisions whose target lay at the {name} limit.", "" if share >= 0 else "the run holds no decision", group=group,
        )  # fmt: skip


def _bound(name: str, solves: pd.DataFrame | None) -> float:
    """Return the share of decisions in which a limit bound; NaN without decisions."""
    if solves is None or solves.empty:
        return math.nan
    return float(np.mean([name in list(binding) for binding in solves["binding"]]))


def _against_limit(
    before: pd.Series, limit: float | None, bound: Mapping[str, float], periods_per_year: int
) -> Statistic:
    value, note, band = math.nan, "the mandate states no volatility limit", None
    if limit is not None:
        note = too_short(len(before))
        if len(before) >= SHORTEST_SAMPLE:
            found = bias_statistic(before.to_numpy() / (limit / math.sqrt(periods_per_year)))
            value = found.bias
            band = Band(found.lower, found.upper, "95 % were the true volatility the limit: chi-square, normal returns")
            wide = f"at the returns' own kurtosis the band is {found.wide_lower:.2f} to {found.wide_upper:.2f}"
            note = f"{_verdict(value, band, bound)}; {wide}"
    return Statistic(
        "volatility_to_limit", "Realised volatility / limit", value, Unit.RATIO,
        "Volatility before fees over the mandate's volatility limit; the interval is where it lies if the true volatility is the limit.", note,
        "The limit binds on each decision's calibrated forecast, not on what is realised.", band, Group.FORECAST,
    )  # fmt: skip


def _verdict(ratio: float, band: Band, bound: Mapping[str, float]) -> str:
    """Return where realised volatility lies and why it is not at the limit."""
    if ratio > band.upper:
        return "above the band: forecasts at or below the limit were too low"
    if ratio >= band.lower:
        return "inside the band"
    if bound["volatility"] > MOSTLY:
        return "below the band: the limit bound in most decisions, on forecasts above what was realised"
    if bound["gross"] > MOSTLY:
        return "below the band: the gross limit bound in most decisions, and the volatility limit lies beyond it"
    return (
        "below the band: neither it nor the gross limit bound in most decisions; alpha against risk aversion, costs and other "
        "limits set the size"
    )


def book_statistics(
    nav: pd.DataFrame, capacity: float | None = None, periods_per_year: int = 252
) -> Iterator[Statistic]:
    """Yield exposures, turnover, holding period, charges, capacity used and the number of sessions."""
    none = "" if len(nav) else NO_SESSIONS
    group = Group.BOOK
    yield Statistic(
        "average_gross", "Gross exposure, mean", float(nav["gross"].mean()) if len(nav) else math.nan, Unit.MULTIPLE,
        "Mean over sessions of the sum of absolute weights at the close.", none, group=group,
    )  # fmt: skip
    yield Statistic(
        "average_absolute_net", "Absolute net exposure, mean", float(nav["net"].abs().mean()) if len(nav) else math.nan, Unit.FRACTION,
        "Mean over sessions of the absolute sum of weights at the close.", none, group=group,
    )  # fmt: skip
    yield from _yearly(nav, periods_per_year)
    held, note = math.nan, none
    if len(nav):
        held = holding_period(nav["gross"].to_numpy(), nav["turnover"].to_numpy())
        held, note = (held, "") if math.isfinite(held) else (math.nan, "nothing was traded")
    yield Statistic(
        "holding_period", "Holding period, mean", held, Unit.SESSIONS, "Mean gross exposure over mean turnover a session.", note,
        "Little's law; building the book up counts as half its turnover, so short runs read long.", group=group,
    )  # fmt: skip
    yield from _capacity(nav, capacity)
    yield Statistic("sessions", "Sessions", float(len(nav)), Unit.COUNT, "Trading days of the account.", group=group)


def _yearly(nav: pd.DataFrame, year: int) -> Iterator[Statistic]:
    short = too_short(len(nav)) if len(nav) < SHORTEST_SAMPLE else ""
    fees = nav["management_fee"] + nav["incentive_fee"]
    for name, label, series, unit, definition, convention in (
        ("turnover", "Turnover", nav["turnover"], Unit.MULTIPLE_PER_YEAR, "Half of the sum of absolute trade weights", "One side: replacing a book of gross G is a turnover of G."),
        ("cost", "Trading cost", nav["cost"], Unit.PER_YEAR, "Spread, commission and impact", "A charge is positive; not compounded."),
        ("financing", "Financing", nav["financing"], Unit.PER_YEAR, "Borrow fees and interest", "A charge is positive, a credit negative; not compounded."),
        ("fees", "Fees", fees, Unit.PER_YEAR, "Management and incentive fee", "A charge is positive; not compounded."),
    ):  # fmt: skip
        value = math.nan if short else float(series.mean()) * year
        yield Statistic(
            name,
            label,
            value,
            unit,
            f"{definition}, mean per session times {year}.",
            short,
            convention,
            group=Group.BOOK,
        )


def _capacity(nav: pd.DataFrame, capacity: float | None) -> Iterator[Statistic]:
    last = most = math.nan
    note = "the product states no capacity"
    if capacity is not None:
        if "nav" not in nav:
            raise DataError("`nav` lacks the column nav; give the account as `Run.nav` returns it.")
        note = f"of {capacity / 1e6:,.0f} million" if len(nav) else NO_SESSIONS
        if len(nav):
            last, most = float(nav["nav"].iloc[-1]) / capacity, float(nav["nav"].max()) / capacity
    yield Statistic(
        "capacity_used", "Capacity used, at the end", last, Unit.SHARE_OF_CAPACITY,
        "Net assets of the last session over the product's capacity.", note, "Capacity as the product states it, not as measured.", group=Group.BOOK,
    )  # fmt: skip
    yield Statistic(
        "capacity_used_most", "Capacity used, at most", most, Unit.SHARE_OF_CAPACITY,
        "Highest net assets of a session over the product's capacity.", note, "Subscriptions stop at it; profit may exceed it.", group=Group.BOOK,
    )  # fmt: skip
