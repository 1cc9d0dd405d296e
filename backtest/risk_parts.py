"""Parts of a risk report that may not be there: each is computed, or the report says in a sentence why it is not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from backtest.monitoring_rule import MonitoringRule
from backtest.risk_attribution import Attribution, attribution
from backtest.risk_losses import book_tails, past_returns
from backtest.risk_model_state import ModelState, model_state
from backtest.risk_notes import NEEDS_DATA
from backtest.risk_run import RiskBook
from backtest.risk_scenarios import Scenarios, scenarios
from backtest.risk_sources import Sources, risk_sources
from backtest.risk_studies import Studies, run_studies
from backtest.store import Run
from backtest.strategy import Market
from risk import DataError
from risk.checks import FloatArray

__all__ = ["BookParts", "MarketParts", "book_parts", "market_parts"]

Progress = Callable[[str, float], None]


@dataclass(frozen=True, eq=False)
class BookParts:
    """What a book that holds something has.

    Attributes
    ----------
    sources, scenarios : Sources, Scenarios or None
    tails : DataFrame
        As `book_tails`; empty for an empty book.
    past : ndarray of shape (S,) or None
        What today's weights would have earned on each of the last days.
    proxied : float
        Share of gross times days in it that is a proxy.
    missing : dict of str to str
        Why parts are not there.
    """

    sources: Sources | None
    scenarios: Scenarios | None
    tails: pd.DataFrame
    past: FloatArray | None
    proxied: float
    missing: dict[str, str]


@dataclass(frozen=True, eq=False)
class MarketParts:
    """What is computed from the data set of a run; `missing` says why parts are not there."""

    state: ModelState | None
    studies: Studies | None
    attribution: Attribution | None
    missing: dict[str, str]


def book_parts(book: RiskBook, record: pd.DataFrame, market: Market | None, rule: MonitoringRule) -> BookParts:
    """Return where a book's risk comes from, and what it could lose.

    Parameters
    ----------
    record : DataFrame
        As `book_record`.
    market : Market or None
        None where the data set cannot be used.
    """
    if book.empty:
        text = f"The book is empty at the close of {book.date:%Y-%m-%d}."
        missing = dict.fromkeys(("sources", "scenarios", "tails"), text)
        return BookParts(None, None, pd.DataFrame(), None, 0.0, missing)
    past, proxied, why = None, 0.0, NEEDS_DATA
    if market is not None:
        try:
            past, proxied = past_returns(book, market)
        except DataError as error:
            why = str(error)
    outcomes = (record["realised"] / record["calibrated_forecast"] * np.sqrt(book.year)).to_numpy()
    tails, gaps = book_tails(book, outcomes, past, why)
    missing = {f"tails.{name}": text for name, text in gaps.items()}
    what_if = scenarios(book, market, NEEDS_DATA)
    if what_if.replays_missing:
        missing["replays"] = what_if.replays_missing
    return BookParts(risk_sources(book, participation=rule.participation), what_if, tails, past, proxied, missing)


def market_parts(run: Run, market: Market | None, facts: pd.DataFrame, progress: Progress) -> MarketParts:
    """Return the model of the day, studies of the run's models, and the attribution of its return."""
    missing: dict[str, str] = {}
    state: ModelState | None = None
    studied: Studies | None = None
    attributed: Attribution | None = None
    if market is None:
        missing |= dict.fromkeys(("model", "studies"), NEEDS_DATA)
    else:
        state = model_state(market)
        if state.note:
            missing["model.factors"] = state.note
        try:
            studied = run_studies(run, market, lambda done: progress("study portfolios", done))
        except DataError as error:
            missing["studies"] = str(error)
    progress("attribution", 0.0)
    try:
        attributed = attribution(run, market, facts, NEEDS_DATA)
    except DataError as error:
        missing["attribution"] = str(error)
    progress("attribution", 1.0)
    return MarketParts(state, studied, attributed, missing)
