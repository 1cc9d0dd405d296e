"""The headline of a risk report: the numbers that a risk officer reads first, each with its definition and its limit."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from backtest.monitoring import Monitoring
from backtest.risk_model_state import ModelState
from backtest.risk_record import Measure, Quantity
from backtest.risk_run import RiskBook
from backtest.risk_sources import Sources
from backtest.risk_studies import Studies
from backtest.strategy import Market
from engine import Mandate

__all__ = ["book_headline", "model_headline"]


def book_headline(
    book: RiskBook,
    limits: Monitoring,
    mandate: Mandate,
    sources: Sources | None,
    tails: pd.DataFrame,
    state: ModelState | None,
) -> tuple[Measure, ...]:
    """Return the headline of a run's book."""
    table = limits.table
    last = limits.forecast.iloc[-1]
    none = math.nan
    window, confidence = limits.rule.window, limits.rule.confidence

    numbers = table[["level", "lower", "upper", "tolerance"]].astype(np.float64)
    drifted = set(table.index[table["outside_limit"] & ~table["breach"]])

    def limited(name: str, label: str, unit: Quantity, definition: str, note: str = "") -> Measure:
        if name not in table.index:
            return Measure(name, label, none, unit, definition, note="not known on this day")
        level, lower, upper, tolerance = numbers.loc[[name]].to_numpy()[0].tolist()
        bound = "limit" if np.isfinite([lower, upper]).any() else ""
        breach = name in set(table.index[table["breach"]])
        if name in drifted:
            note = f"{note}; " * bool(note) + f"beyond the limit of decisions, within {tolerance:g} for drift (assumed)"
        return Measure(name, label, level, unit, definition, lower, upper, bound, note, breach)  # fmt: skip

    largest = str(table["asset"].get("position", ""))
    made = float(last["forecast"])
    found = [
        limited(
            "volatility", "Forecast volatility, calibrated", Quantity.PER_YEAR,
            "The risk model's forecast for the book held, times what the book's own past forecasts and returns say. The limit is on it.",
            f"risk model alone {made:.2%}, times {book.multiplier:.2f}",
        ),
        Measure(
            "realised", "Realised volatility", float(last["realised_volatility"]), Quantity.PER_YEAR,
            f"Sample standard deviation of the last {window} daily returns before costs, times the root of {book.year}.",
            note="" if np.isfinite(last["realised_volatility"]) else f"fewer than {window} days",
        ),
        Measure(
            "ratio", "Realised over calibrated forecast", float(last["calibrated_ratio"]), Quantity.RATIO,
            f"Standard deviation of the last {window} daily returns, each over the calibrated forecast of the day before. Band: where "
            f"right forecasts of normal returns lie with {confidence:.0%} probability (chi-square).",
            float(last["lower"]), float(last["upper"]), "band", f"of the risk model alone {last['ratio']:.2f}" if np.isfinite(last["ratio"]) else f"fewer than {window} days",
            bool(last["calibrated_outside"]),
        ),
        _loss(tails, "value_at_risk", "Value at risk, 99 %, one day"),
        _loss(tails, "expected_shortfall", "Expected shortfall, 99 %, one day"),
        limited("gross", "Gross", Quantity.MULTIPLE, "Sum of absolute weights."),
        limited("net", "Net", Quantity.SHARE, "Sum of weights."),
        limited("beta", "Predicted beta", Quantity.BETA, "Forecast covariance with the cap-weighted universe, over its variance."),
        limited("position", "Largest position", Quantity.SHARE, "Largest absolute weight.", largest),
        limited(
            "liquidity", "Days to sell 95 % of gross", Quantity.DAYS,
            f"Each position at {limits.rule.participation:.0%} of its median daily volume.",
            "" if limits.rule.liquidity_limit_days else "no limit in the mandate",
        ),
        Measure(
            "specific_share", "Specific share of variance", none if sources is None else sources.specific_share, Quantity.RATIO,
            "Part of the forecast variance that no factor explains: bets on single names.",
        ),
        Measure("nav", "Net assets", book.nav, Quantity.MONEY, "At the close.", note=f"{book.date:%Y-%m-%d}"),
    ]  # fmt: skip
    if state is not None and not book.empty:
        found.append(_fresh(book, state))
    if mandate.volatility_limit is None:
        found[0] = Measure(**{**vars(found[0]), "note": f"{found[0].note}; the mandate has no volatility limit"})
    return tuple(found)


def _loss(tails: pd.DataFrame, column: str, label: str) -> Measure:
    definition = {
        "value_at_risk": "Loss that one day in a hundred exceeds, by the calibrated forecast and Student-t tails of the book's own past "
        "(normal where that is not known).",
        "expected_shortfall": "Mean loss of the worst day in a hundred, by the same law.",
    }[column]
    value, note = math.nan, "the book is empty"
    if len(tails):
        rows = tails[(tails["level"] == 0.99) & (tails["horizon"] == 1)].set_index("method")[column]
        method = "student" if "student" in rows else "normal"
        value = float(rows[method])
        note = f"over methods {rows.min():.2%} to {rows.max():.2%}; shown: {method}"
    return Measure(f"{column}_99", label, value, Quantity.SHARE, definition, note=note)


def _fresh(book: RiskBook, state: ModelState) -> Measure:
    """Return the book's forecast under the model of the day itself, over the assets that it holds."""
    model = state.model
    weights = pd.Series(book.weights, index=list(book.model.assets))
    held = weights[weights != 0]
    outside = float(held[~held.index.isin(model.assets)].abs().sum())
    value = model.volatility(weights.reindex(list(model.assets)).fillna(0.0).to_numpy())
    return Measure(
        "volatility_today", "Forecast by the day's own model", value, Quantity.PER_YEAR,
        "The risk model estimated again at this close, before calibration: what the next decision would see.",
        note=f"{outside:.2%} of NAV is outside its universe" if outside > 0 else "",
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
            f"{row['books']} books, {row['periods']} weeks" if row else "not known",
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
