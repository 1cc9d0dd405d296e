"""The risk report of a run, or of a risk model alone, as numbers: everything is computed here, and nothing in the page.

A part that needs what is not there says so in `missing`; but limits are monitored or the report is refused, for silence about
limits would be read as none being breached.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, Literal

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from backtest.dataset import Dataset
from backtest.monitoring import Monitoring, monitor
from backtest.monitoring_rule import FAMILIES, MonitoringRule
from backtest.products import load_product
from backtest.risk_attribution import Attribution, attribution
from backtest.risk_forecast import ForecastCheck, book_record, forecast_check
from backtest.risk_headline import book_headline, model_headline
from backtest.risk_losses import book_tails, past_returns
from backtest.risk_model_state import ModelState, model_state
from backtest.risk_record import Measure, plain
from backtest.risk_run import RiskBook, RunUntil, book_facts, read_risk_book, run_market, run_session
from backtest.risk_scenarios import Scenarios, scenarios
from backtest.risk_sources import Sources, risk_sources
from backtest.risk_studies import Studies, run_studies, weekly_studies
from backtest.simulator import market_of
from backtest.store import Run, code_fingerprint
from backtest.strategy import Market
from backtest.tables import parse_date
from engine import Mandate
from risk import DataError

__all__ = ["RiskView", "Status", "book_risk", "model_risk"]

Progress = Callable[[str, float], None]


@dataclass(frozen=True)
class Status:
    """What a scheduler acts on, in words and names.

    Attributes
    ----------
    level : {"ok", "drift", "soft", "hard", "model"}
        ``hard``: a hard limit is breached on the day. ``soft``: only soft ones are. ``drift``: none is, but limits
        that leave room are exceeded within tolerance. ``model``: there is no book, and no limit.
    text : str
    hard, soft : tuple of str
        Limits that are breached.
    drifted : tuple of str
        Limits whose own bound is exceeded by less than the tolerance for drift.
    """

    level: Literal["ok", "drift", "soft", "hard", "model"]
    text: str
    hard: tuple[str, ...] = ()
    soft: tuple[str, ...] = ()
    drifted: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class RiskView:
    """A risk report.

    Attributes
    ----------
    subject : {"run", "data"}
    name, folder : str
        Of the product, and the folder reported on.
    date : Timestamp
    currency : str
    status : Status
    headline : tuple of Measure
    limits : Monitoring or None
    use : DataFrame, dates by families of limits
        Largest use of a family's limits: level over the monitored bound (tolerance included), so that above 1 is a breach.
    sources, scenarios, tails, forecast, attribution, model, studies
        None where there is none; `missing` says why. ``tails`` has a row for each method, level and horizon.
    missing : dict of str to str
        Parts that are not there, and why.
    notes : tuple of str
        What a reader must know of the whole.
    mandate, product, rule : dict
        Terms; each has a list ``assumed`` of those that were never published.
    """

    subject: Literal["run", "data"]
    name: str
    folder: str
    date: pd.Timestamp
    currency: str
    status: Status
    headline: tuple[Measure, ...]
    limits: Monitoring | None
    use: pd.DataFrame
    sources: Sources | None
    scenarios: Scenarios | None
    tails: pd.DataFrame
    forecast: ForecastCheck | None
    attribution: Attribution | None
    model: ModelState | None
    studies: Studies | None
    missing: dict[str, str]
    notes: tuple[str, ...]
    mandate: dict[str, Any]
    product: dict[str, Any]
    rule: dict[str, Any]

    @property
    def hard_breach(self) -> bool:
        """Whether a hard limit is breached on the day."""
        return self.status.level == "hard"

    def to_dict(self) -> dict[str, Any]:
        """Return the numbers as JSON holds them; null is not known.

        Left out are the exposures of single assets, and levels of limits before the day: `use` says how near they were.
        """
        record = {field.name: plain(getattr(self, field.name)) for field in fields(self) if field.name not in _WIDE}
        if self.limits is not None:
            record["limits"] = {name: plain(getattr(self.limits, name)) for name in ("table", "breaches", "forecast")}
        record["use"] = _columns(self.use)
        if self.model is not None:
            state = {
                field.name: plain(getattr(self.model, field.name))
                for field in fields(self.model)
                if field.name not in ("model", "correlation", "r_squared")
            }
            state["assets"], state["factor_count"] = len(self.model.model.assets), len(self.model.model.factors)
            state["correlation"] = _columns(self.model.correlation)
            state["r_squared"] = _columns(self.model.r_squared)
            record["model"] = state
        return record | {"hard_breach": self.hard_breach}


_WIDE = ("limits", "use", "model")


def _columns(table: pd.DataFrame) -> dict[str, Any]:
    """Return a wide table by column, beside its index."""
    return {"index": plain(list(table.index)), **{str(name): plain(table[name].to_numpy()) for name in table.columns}}


def _ignore(stage: str, done: float) -> None:
    """Report progress to nobody."""


def book_risk(run: Run, *, date: str | pd.Timestamp | None = None, progress: Progress = _ignore) -> RiskView:
    """Return the risk report of a run's book at the close of a day, from what was known then.

    Parameters
    ----------
    run : Run
    date : date, optional
        A session of the run; its last by default.
    progress : callable
        Called with the stage and the share done.

    Raises
    ------
    DataError
        If the date is no session of the run, or its limits cannot be monitored.
    """
    day = run_session(run, date)
    until = RunUntil(run, day)
    missing: dict[str, str] = {}
    market: Market | None = None
    try:
        market = run_market(run, day, progress)
    except DataError as error:
        missing["market"] = str(error)
    why = missing.get("market", "")
    with threadpool_limits(1):
        progress("limits", 0.0)
        facts = book_facts(until, market, why)
        rule = MonitoringRule()
        limits = monitor(until, date=day, rule=rule, facts=facts)
        book = read_risk_book(until, day, facts)
        progress("limits", 1.0)
        record, notes = book_record(until.nav), _notes(run, book, market)
        sources, what_if, tails = _book_parts(book, record, market, rule, missing, notes)
        progress("forecast checks", 0.0)
        checked = forecast_check(record, year=book.year, progress=lambda done: progress("forecast checks", done))
        progress("forecast checks", 1.0)
        missing |= {f"forecast.{name}": text for name, text in checked.missing.items()}
        state, studied, attributed = _market_parts(until, market, facts, missing, progress)
    mandate = Mandate.model_validate(run.record["mandate"])
    return RiskView(
        subject="run",
        name=str(run.record["name"]),
        folder=str(run.folder),
        date=day,
        currency=str(run.record.get("data", {}).get("currency", "")),
        status=_status(limits),
        headline=book_headline(book, limits, mandate, sources, tails, state),
        limits=limits,
        use=_use(limits, mandate),
        sources=sources,
        scenarios=what_if,
        tails=tails,
        forecast=checked,
        attribution=attributed,
        model=state,
        studies=studied,
        missing=missing,
        notes=tuple(notes),
        mandate=dict(run.record["mandate"]),
        product=dict(run.record["product"]),
        rule=rule.model_dump(mode="json"),
    )


def _book_parts(
    book: RiskBook,
    record: pd.DataFrame,
    market: Market | None,
    rule: MonitoringRule,
    missing: dict[str, str],
    notes: list[str],
) -> tuple[Sources | None, Scenarios | None, pd.DataFrame]:
    """Return what a book that holds something has, and note what is not there."""
    why = missing.get("market", "")
    if book.empty:
        text = f"the book is empty at the close of {book.date:%Y-%m-%d}"
        missing |= dict.fromkeys(("sources", "scenarios", "tails"), text)
        return None, None, pd.DataFrame()
    past: np.ndarray | None = None
    if market is not None:
        try:
            past, proxied = past_returns(book, market)
        except DataError as error:
            why, proxied = str(error), 0.0
        if proxied > 0:
            notes.append(
                f"In the historical value at risk {proxied:.1%} of gross times days has no return of its own: it counts with today's "
                "exposures times that day's factor returns."
            )
    outcomes = (record["realised"] / record["calibrated_forecast"] * np.sqrt(book.year)).to_numpy()
    tails, gaps = book_tails(book, outcomes, past, why)
    missing |= {f"tails.{name}": text for name, text in gaps.items()}
    what_if = scenarios(book, market, missing.get("market", ""))
    if what_if.replays_missing:
        missing["replays"] = what_if.replays_missing
    return risk_sources(book, participation=rule.participation), what_if, tails


def _market_parts(
    run: Run, market: Market | None, facts: pd.DataFrame, missing: dict[str, str], progress: Progress
) -> tuple[ModelState | None, Studies | None, Attribution | None]:
    """Return what is computed from the data set, and note what is not there."""
    why = missing.get("market", "")
    state: ModelState | None = None
    studied: Studies | None = None
    attributed: Attribution | None = None
    if market is None:
        missing |= dict.fromkeys(("model", "studies"), why)
    else:
        state = model_state(market)
        try:
            studied = run_studies(run, market, lambda done: progress("study portfolios", done))
        except DataError as error:
            missing["studies"] = str(error)
    progress("attribution", 0.0)
    try:
        attributed = attribution(run, market, facts, why)
    except DataError as error:
        missing["attribution"] = str(error)
    progress("attribution", 1.0)
    return state, studied, attributed


def model_risk(
    data: Dataset, product: str, *, date: str | pd.Timestamp | None = None, progress: Progress = _ignore
) -> RiskView:
    """Return the report of a data set's risk model at the close of a day, under a product's universe and settings.

    Parameters
    ----------
    data : Dataset
    product : str
        ``one``, ``supreme`` or the path of a product TOML file.
    date : date, optional
        A trading day of the data; the last by default.

    Raises
    ------
    DataError
        If the date is no trading day, or the history is too short for a model on it.
    """
    terms, mandate = load_product(product)
    dates = data.dates()
    day = pd.Timestamp(dates[-1]) if date is None else parse_date("date", date)
    if day not in dates:
        near = dates[dates <= day]
        hint = (
            f"the last one before it is {near[-1]:%Y-%m-%d}" if len(near) else f"the first one is {dates[0]:%Y-%m-%d}"
        )
        raise DataError(f"`date` {day:%Y-%m-%d} is no trading day of {data.folder}; {hint}.")
    missing: dict[str, str] = {}
    studied: Studies | None = None
    with threadpool_limits(1):
        market, _ = market_of(data, terms, mandate, end=day, progress=progress)
        state = model_state(market)
        try:
            studied = weekly_studies(market, lambda done: progress("study portfolios", done))
        except DataError as error:
            missing["studies"] = str(error)
    if state.note:
        missing["model.factors"] = state.note
    return RiskView(
        subject="data",
        name=data.settings.name or data.folder.name,
        folder=str(data.folder),
        date=day,
        currency=data.settings.currency,
        status=Status("model", "No book, and so no limits: this is the risk model alone."),
        headline=model_headline(market, state, studied),
        limits=None,
        use=pd.DataFrame(),
        sources=None,
        scenarios=None,
        tails=pd.DataFrame(),
        forecast=None,
        attribution=None,
        model=state,
        studies=studied,
        missing=missing,
        notes=(),
        mandate=mandate.model_dump(mode="json"),
        product=terms.model_dump(mode="json"),
        rule=MonitoringRule().model_dump(mode="json"),
    )


def _status(limits: Monitoring) -> Status:
    table = limits.table
    hard = tuple(table.index[table["breach"] & table["hard"]])
    soft = tuple(table.index[table["breach"] & ~table["hard"]])
    drifted = tuple(table.index[table["outside_limit"] & ~table["breach"]])
    open_ = limits.breaches[limits.breaches["open"] & (limits.breaches["limit"] == "position")]
    names = {"position": f"position ({', '.join(open_['asset'])})"}
    if hard:
        return Status(
            "hard", f"HARD BREACH of {', '.join(names.get(name, name) for name in hard)}", hard, soft, drifted
        )
    if soft:
        return Status("soft", f"Soft breach of {', '.join(soft)}; no hard limit is breached", hard, soft, drifted)
    # A band of 0 is left with the first price after a decision; what is meant to have room is named.
    room = [name for name in drifted if float(table["upper"][name]) > 0]
    if room:
        return Status(
            "drift", f"No breach, but beyond their limit within tolerance: {', '.join(room)}", hard, soft, drifted
        )
    return Status("ok", "OK: no limit is breached", hard, soft, drifted)


def _use(limits: Monitoring, mandate: Mandate) -> pd.DataFrame:
    """Return each day's largest level over its monitored bound in each family of limits that has one."""
    bounds, levels = limits.rule.bounds(mandate), limits.levels
    found = {}
    for family in FAMILIES:
        lower, upper, tolerance = bounds[family]
        columns = [name for name in levels.columns if str(name).partition(":")[0] == family]
        if not columns or np.isnan(tolerance) or not upper + tolerance > 0:
            continue
        above = levels[columns] / (upper + tolerance)
        below = levels[columns] / (lower - tolerance) if np.isfinite(lower) else above
        found[family] = np.fmax(above, below).max(axis=1)
    return pd.DataFrame(found, index=levels.index)


def _notes(run: Run, book: RiskBook, market: Market | None) -> list[str]:
    notes = []
    if book.decided != book.date:
        notes.append(
            f"Risk is that of the book held at the close of {book.date:%Y-%m-%d}, by the risk model of the decision of "
            f"{book.decided:%Y-%m-%d}, which was in force."
        )
    if len(book.outside):
        notes.append(
            f"{len(book.outside)} positions, {book.outside.abs().sum():.2%} of net assets in gross, are outside the model in force: "
            "they are in gross and net, and in no other number of risk."
        )
    if run.record.get("status") != "complete":
        notes.append(f"The run is {run.record.get('status')}: {run.record.get('reason')}")
    if market is not None and run.record.get("code") != code_fingerprint():
        notes.append(
            "The run was made by another version of the code: parts that are computed from its data again (model, replays, historical "
            "losses, attribution) may differ from what ruled its decisions."
        )
    return notes
