"""The risk report of a run, or of a risk model alone, as numbers: everything is computed here, and nothing in the page.

A part that needs what is not there says so in `missing`; but limits are monitored or the report is refused, for silence about
limits would be read as none being breached.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, Literal

import pandas as pd
from threadpoolctl import threadpool_limits

from backtest.dataset import Dataset
from backtest.monitoring import Monitoring, monitor
from backtest.monitoring_rule import MonitoringRule
from backtest.products import load_product
from backtest.risk_attribution import Attribution
from backtest.risk_forecast import ForecastCheck, book_record, forecast_check
from backtest.risk_headline import book_headline, model_headline
from backtest.risk_model_state import ModelState, model_state
from backtest.risk_notes import loss_notes, run_notes
from backtest.risk_parts import book_parts, market_parts
from backtest.risk_record import Measure, plain
from backtest.risk_run import RunUntil, book_facts, read_risk_book, run_market, run_session
from backtest.risk_scenarios import Scenarios
from backtest.risk_sources import Sources
from backtest.risk_status import Status, limit_use, status_of
from backtest.risk_studies import Studies, weekly_studies
from backtest.simulator import market_of
from backtest.store import Run
from backtest.strategy import Market
from backtest.tables import parse_date
from engine import Mandate
from risk import DataError

__all__ = ["RiskView", "Status", "book_risk", "model_risk"]

Progress = Callable[[str, float], None]


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
        Parts that are not there, and a sentence that says why.
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
        missing["market"] = f"The data set of the run cannot be used. {error}"
    with threadpool_limits(1):
        progress("limits", 0.0)
        facts = book_facts(until, market, missing.get("market", ""))
        rule = MonitoringRule()
        limits = monitor(until, date=day, rule=rule, facts=facts)
        book = read_risk_book(until, day, facts)
        progress("limits", 1.0)
        record = book_record(until.nav)
        own = book_parts(book, record, market, rule)
        progress("forecast checks", 0.0)
        checked = forecast_check(record, year=book.year, progress=lambda done: progress("forecast checks", done))
        progress("forecast checks", 1.0)
        others = market_parts(until, market, facts, progress)
    mandate = Mandate.model_validate(run.record["mandate"])
    checks = {f"forecast.{name}": text for name, text in checked.missing.items()}
    return RiskView(
        subject="run",
        name=str(run.record["name"]),
        folder=str(run.folder),
        date=day,
        currency=str(run.record.get("data", {}).get("currency", "")),
        status=status_of(limits),
        headline=book_headline(book, limits, mandate, own.sources, own.tails, own.past, others.state),
        limits=limits,
        use=limit_use(limits, mandate),
        sources=own.sources,
        scenarios=own.scenarios,
        tails=own.tails,
        forecast=checked,
        attribution=others.attribution,
        model=others.state,
        studies=others.studies,
        missing=missing | own.missing | checks | others.missing,
        notes=(*run_notes(run, book, recomputed=market is not None), *loss_notes(own.tails, own.proxied)),
        mandate=dict(run.record["mandate"]),
        product=dict(run.record["product"]),
        rule=rule.model_dump(mode="json"),
    )


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
