"""The headline of a risk report: the numbers that a risk officer reads first, each with its definition and its limit."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from backtest.monitoring import Monitoring
from backtest.risk_losses import parametric_method
from backtest.risk_model_state import ModelState
from backtest.risk_record import Measure, Quantity, in_words
from backtest.risk_run import RiskBook
from backtest.risk_sources import Sources
from backtest.risk_studies import Studies
from backtest.strategy import Market
from engine import Mandate
from risk.checks import FloatArray

__all__ = ["book_headline", "model_headline"]


def book_headline(
    book: RiskBook,
    limits: Monitoring,
    mandate: Mandate,
    sources: Sources | None,
    tails: pd.DataFrame,
    past: FloatArray | None,
    state: ModelState | None,
) -> tuple[Measure, ...]:
    """Return the headline of a run's book.

    Parameters
    ----------
    past : ndarray of shape (S,) or None
        What today's weights would have earned on each of the last days; None where that is not known.
    state : ModelState or None
        The risk model of the day itself.
    """
    rule = limits.rule
    largest = str(limits.table["asset"].get("position", ""))
    found = [
        *_volatilities(book, limits, mandate, past),
        _loss(tails, "value_at_risk", "Value at risk, 99 %, one day"),
        _loss(tails, "expected_shortfall", "Expected shortfall, 99 %, one day"),
        _limited(limits, "gross", "Gross", Quantity.MULTIPLE, "Sum of absolute weights."),
        _limited(limits, "net", "Net", Quantity.SHARE, "Sum of weights."),
        _limited(
            limits, "beta", "Predicted beta", Quantity.BETA, "Forecast covariance with the cap-weighted universe, over its variance."
        ),
        _limited(limits, "position", "Largest position", Quantity.SHARE, "Largest absolute weight.", largest),
        _limited(
            limits, "liquidity", "Days to sell 95 % of gross", Quantity.DAYS,
            f"Each position at {100 * rule.participation:.0f} % of its median daily volume.",
            "" if rule.liquidity_limit_days else "no limit in the mandate",
        ),
        Measure(
            "specific_share", "Specific share of variance", math.nan if sources is None else sources.specific_share, Quantity.RATIO,
            "Part of the forecast variance that no factor explains: bets on single names.",
        ),
        Measure("nav", "Net assets", book.nav, Quantity.MONEY, "At the close.", note=f"{book.date:%Y-%m-%d}"),
    ]  # fmt: skip
    if state is not None and not book.empty:
        found += _fresh(book, state)
    return tuple(found)


def _limited(
    limits: Monitoring, name: str, label: str, unit: Quantity, definition: str, note: str = ""
) -> Measure:  # fmt: skip
    """Return a monitored level with its limit, and what is left of the tolerance for drift where it is beyond."""
    table = limits.table
    if name not in table.index:
        return Measure(name, label, math.nan, unit, definition, note="not known on this day")
    numbers = table.loc[[name], ["level", "lower", "upper", "tolerance", "headroom"]].to_numpy(dtype=np.float64)
    level, lower, upper, tolerance, headroom = numbers[0].tolist()
    breach = bool(table.loc[[name], "breach"].iloc[0])
    if bool(table.loc[[name], "outside_limit"].iloc[0]) and not breach:
        beyond = f"beyond the limit of decisions by {in_words(-headroom, unit)}, within the {in_words(tolerance, unit)} left to drift (assumed)"
        note = f"{note}; {beyond}" if note else beyond
    bound = "limit" if np.isfinite([lower, upper]).any() else ""
    return Measure(name, label, level, unit, definition, lower, upper, bound, note, breach)


def _volatilities(
    book: RiskBook, limits: Monitoring, mandate: Mandate, past: FloatArray | None
) -> tuple[Measure, ...]:  # fmt: skip
    """Return the book's volatility as it is forecast, as past returns have it, and as it was realised."""
    last, window = limits.forecast.iloc[-1], limits.rule.window
    made, realised, ratio, own_ratio = (
        float(last[name]) for name in ("forecast", "realised_volatility", "calibrated_ratio", "ratio")
    )
    label, told = "Forecast volatility, calibrated", f"risk model alone times {book.multiplier:.2f}"
    if not book.calibrates:
        label, told = "Forecast volatility, calibration off", "the product's calibration is off: times 1"
    if mandate.volatility_limit is None:
        told += "; the mandate has no volatility limit"
    short = "" if np.isfinite(realised) else f"fewer than {window} days"
    return (
        _limited(
            limits, "volatility", label, Quantity.PER_YEAR,
            "The risk model's forecast for the book held, times what the book's own past forecasts and returns say. The limit is on it.",
            told,
        ),
        Measure(
            "volatility_uncalibrated", "Forecast volatility, risk model alone", made, Quantity.PER_YEAR,
            "For the book held, by the risk model of the decision in force, before calibration.",
        ),
        _past_volatility(book, made * book.multiplier, past),
        Measure(
            "realised", "Realised volatility", realised, Quantity.PER_YEAR,
            f"Sample standard deviation of the fund's last {window} daily returns before costs, times the root of {book.year}: of the books "
            "held then.",
            note=short,
        ),
        Measure(
            "ratio", "Realised over calibrated forecast", ratio, Quantity.RATIO,
            f"Standard deviation of the last {window} daily returns, each over the calibrated forecast of the day before. Band: where "
            f"right forecasts of normal returns lie with {100 * limits.rule.confidence:.0f} % probability (chi-square).",
            float(last["lower"]), float(last["upper"]), "band",
            f"of the risk model alone {own_ratio:.2f}" if np.isfinite(own_ratio) else f"fewer than {window} days",
            bool(last["calibrated_outside"]),
        ),
    )  # fmt: skip


def _past_volatility(book: RiskBook, forecast: float, past: FloatArray | None) -> Measure:
    """Return the volatility that today's weights would have had."""
    value, note = (
        math.nan,
        "the book is empty" if book.empty else "not known: it needs the data set of the run and daily regressions",
    )
    if past is not None and len(past) > 1:
        value = float(np.std(past, ddof=1)) * math.sqrt(book.year)
        note = f"{len(past)} days"
        note += f"; {value / forecast:.2f} of the calibrated forecast" if forecast > 0 else ""
    return Measure(
        "volatility_past", "Today's book on past returns", value, Quantity.PER_YEAR,
        "Sample standard deviation of what today's weights would have earned on each of the last days, times the root of "
        f"{book.year}. In sample, so it tends to flatter: the weights were chosen with these days in sight, and no book held them then.",
        note=note,
    )  # fmt: skip


def _loss(tails: pd.DataFrame, column: str, label: str) -> Measure:
    definition = {
        "value_at_risk": "Loss that one day in a hundred exceeds, by the calibrated forecast and Student-t tails of the book's own past "
        "(normal where that is not known).",
        "expected_shortfall": "Mean loss of the worst day in a hundred, by the same law.",
    }[column]
    value, note = math.nan, "the book is empty"
    if len(tails):
        rows = tails[(tails["level"] == 0.99) & (tails["horizon"] == 1)].set_index("method")[column]
        method = parametric_method(tails)
        value = float(rows[method])
        note = f"over methods {100 * rows.min():.2f} % to {100 * rows.max():.2f} %; shown: {method}"
    return Measure(f"{column}_99", label, value, Quantity.SHARE, definition, note=note)


def _fresh(book: RiskBook, state: ModelState) -> tuple[Measure, Measure]:
    """Return the book's forecast under the model of the day itself, over the assets that it holds, calibrated and not."""
    model = state.model
    weights = pd.Series(book.weights, index=list(book.model.assets))
    held = weights[weights != 0]
    outside = float(held[~held.index.isin(model.assets)].abs().sum())
    value = model.volatility(weights.reindex(list(model.assets)).fillna(0.0).to_numpy())
    note = f"{in_words(outside, Quantity.SHARE)} is outside its universe" if outside > 0 else ""
    return (
        Measure(
            "volatility_today_calibrated", "Forecast by the day's own model, calibrated", value * book.multiplier, Quantity.PER_YEAR,
            "The risk model estimated again at this close, times the book's multiplier: what the next decision would hold against the limit.",
            note=note,
        ),
        Measure(
            "volatility_today_uncalibrated", "Forecast by the day's own model, alone", value, Quantity.PER_YEAR,
            "The same before calibration.",
            note=note,
        ),
    )  # fmt: skip


def model_headline(market: Market, state: ModelState, studied: Studies | None) -> tuple[Measure, ...]:
    """Return the headline of a risk model."""
    model, members = state.model, market.universe.members[-1]
    caps = market.history.descriptors.size[-1][members]
    none = math.nan
    recent = state.r_squared["day"].iloc[-63:]

    def bias(name: str) -> Measure:
        summary = pd.DataFrame() if studied is None else studied.summary
        row = summary.to_dict(orient="index").get(name, {})
        return Measure(
            f"bias {name}", f"Bias, {name}", float(row.get("bias", none)), Quantity.RATIO,
            "Standard deviation of returns over their forecast volatility: 1 is right, above 1 risk was understated. Band: where right "
            "forecasts lie with 95 % probability, for one book.",
            float(row.get("lower", none)), float(row.get("upper", none)), "band" if row else "",
            f"{row['books']} book{'s'[: row['books'] != 1]}, {row['periods']} weeks" if row else "not known",
            not row.get("inside", True),
        )  # fmt: skip

    return (
        Measure(
            "universe_volatility", "Forecast volatility of the universe", model.volatility(caps / caps.sum()), Quantity.PER_YEAR,
            "Of the cap-weighted universe, by the model.",
        ),
        Measure("assets", "Assets", float(len(model.assets)), Quantity.COUNT, "In the universe on the day."),
        Measure("factors", "Factors", float(len(model.factors)), Quantity.COUNT, "In the model on the day."),
        Measure(
            "r_squared", "Explained by factors", float(recent.mean()), Quantity.RATIO,
            "R-squared of the regressions of returns on market, categories and styles, mean of the last 63.",
        ),
        bias("random market-neutral"),
        bias("eigen portfolios"),
        bias("minimum variance"),
        Measure(
            "condition", "Condition number", state.condition, Quantity.RATIO,
            "Of the last regression's design: above 30 collinearity is held to hurt.", upper=30.0, bound="limit",
            alert=bool(state.condition > 30),
        ),
    )  # fmt: skip
