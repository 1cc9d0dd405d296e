"""What would have happened: decide at the close of t, fill at t + lag, mark every day, and write it all down."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from backtest.dataset import Dataset
from backtest.events import EventKind
from backtest.flows import Flows
from backtest.journal import Journal
from backtest.ledger import Ledger
from backtest.ledger_rules import FinancingRule, LedgerRules
from backtest.lines import Day
from backtest.market_day import MarketDay, market_day
from backtest.prepared_market import PreparedMarket
from backtest.products import Product, decision_days, load_product
from backtest.run_writer import RunWriter
from backtest.share_register import ShareRegister
from backtest.signals import known_signals, signal_at, signal_exposures
from backtest.store import Run, code_fingerprint
from backtest.strategy import Decision, Market, prepare
from backtest.tables import parse_date
from backtest.trial_ledger import note_trial
from backtest.universe import Universe, absence, trailing_median, universe
from engine import InfeasibleMandate, Mandate, Solution, SolverFailure, optimize
from engine.relaxation import relax
from risk import DataError, Decomposition, RiskSpec, decompose, factor_history
from risk.calibration import forecast_multiplier
from risk.checks import BoolArray, FloatArray

__all__ = ["market_of", "run_inputs", "run_span", "simulate", "solve_by_mandate"]

Progress = Callable[[str, float], None]

UNTRADABLE = (EventKind.SUSPENSION, EventKind.MERGER, EventKind.DELISTING)
"""Events after which a name cannot be traded that day; after the last two it has no more rows."""
LIBRARIES = ("numpy", "pandas", "scipy", "cvxpy", "clarabel", "osqp", "pyarrow")


def _silent(stage: str, done: float) -> None:
    """Report progress to nobody."""


def market_of(
    data: Dataset,
    product: Product,
    mandate: Mandate,
    *,
    end: pd.Timestamp | None = None,
    decide_at_end: bool = False,
    progress: Progress = _silent,
) -> tuple[Market, BoolArray]:
    """Return what a strategy may read up to `end`, and which assets are gone on which day, shape (T, N).

    With `decide_at_end` the last day is a decision day, whatever the product's schedule.
    """
    progress("reading market", 0.0)
    panel = data.panel(end=end)
    rule = product.universe.applied_to(data.market_columns())
    members = universe(panel, rule, stale_days=data.settings.stale_days)
    _check_width(data, product, members)
    suspended, gone = absence(panel, data.settings.stale_days)
    conditions = data.conditions(panel)
    if conditions.events:
        suspended = suspended.copy()
        for day, events in conditions.events.items():
            suspended[day, [event.asset for event in events if event.kind in UNTRADABLE]] = True
    # A name that left the universe is still traded out of at what its trading last was.
    traded = pd.DataFrame(trailing_median(panel.dollar_volume, 63, 1)).ffill().to_numpy()
    progress("reading market", 1.0)
    signals = known_signals(
        data,
        product,
        mandate,
        panel,
        members,
        also=len(panel.dates) - 1 if decide_at_end else None,
        progress=lambda done, total: progress("meta model", done / total),
    )
    user = data.user_exposures(panel)
    history = factor_history(
        panel,
        members.members,
        members.size,
        product.risk_model,
        user=signal_exposures(panel, members, signals, user) if product.signal_factors else user,
        progress=lambda done, total: progress("risk model", done / total),
    )
    return Market(panel, members, suspended, traded, history, product.risk_model, signals, conditions), gone


def _check_width(data: Dataset, product: Product, found: Universe) -> None:
    """Refuse a universe that is too narrow for the risk model on every day."""
    count, wanted = found.members.sum(axis=1), product.risk_model.minimum_assets
    if count.max() >= wanted:
        return
    day = int(np.flatnonzero(count == count.max())[-1])
    out = found.excluded.iloc[day]
    reasons = ", ".join(f"{number} by {reason}" for reason, number in out[out > 0].items()) or "none"
    raise DataError(
        f"`{data.market.file}` of {data.folder}: the universe has at most {count[day]} assets on a day "
        f"({found.excluded.index[day]:%Y-%m-%d}; left out: {reasons}), and product {product.name!r} asks for {wanted} "
        "(`risk_model.minimum_assets`). Add assets, or lower it or the thresholds of the product's [universe]."
    )


def solve_by_mandate(decision: Decision, mandate: Mandate) -> tuple[Decision, Solution, InfeasibleMandate | None]:
    """Return a decision as it was solved, its book, and the conflict for which limits were relaxed (None: there was none).

    Limits give way only where the mandate says `relax`; `Solution.relaxed` then holds which, and by how much.

    Raises
    ------
    InfeasibleMandate
        If no portfolio meets all limits and the mandate relaxes none, or not those that are in the way.
    SolverFailure
    """
    try:
        return decision, optimize(decision.problem), None
    except InfeasibleMandate as conflict:
        if mandate.on_infeasible != "relax":
            raise
        problem, amounts = relax(decision.problem)
        if not amounts:
            raise
        return replace(decision, problem=problem), replace(optimize(problem), relaxed=amounts), conflict


class _Calibration:
    """The book's forecasts, what it earned on the day after each, and what that says of the next forecast."""

    def __init__(self, spec: RiskSpec, periods_per_year: int) -> None:
        self._spec, self._year = spec, periods_per_year
        self._forecasts: list[float] = []
        self._realised: list[float] = []
        self.multiplier = 1.0

    def forecast(self, volatility: float) -> None:
        self._forecasts.append(volatility)

    def add(self, gross_return: float) -> None:
        """Add what the book of the last forecast earned."""
        if not self._forecasts:
            return
        self._realised.append(gross_return)
        self.multiplier = forecast_multiplier(
            np.array(self._forecasts), np.array(self._realised), self._spec, self._year
        )


def simulate(
    data: Dataset,
    product: str | tuple[Product, Mandate] = "one",
    *,
    out: str | Path,
    start: str | pd.Timestamp | None = None,
    end: str | pd.Timestamp | None = None,
    aum: float | None = None,
    flows: Flows | None = None,
    resume: bool = False,
    prepared: PreparedMarket | None = None,
    progress: Progress = _silent,
) -> Run:
    """Return the finished run of a product on a data set; its folder is `out`.

    Parameters
    ----------
    data : Dataset
    product : str, or pair of Product and Mandate
        ``one``, ``supreme`` or the path of a product TOML file; or the terms themselves.
    out : path-like
        Must not exist. Nothing appears there until the run is complete, stopped or bankrupt; until then it is in
        ``out.partial``.
    start, end : date, optional
        Default: the first decision day on which the risk model has its history and predictions are there; the data's end.
    aum : float, optional
        Net asset value at the start, in the data set's currency. Default: the product's.
    flows : Flows, optional
        What investors bring and take, or the path of net assets.
    resume : bool
        Go on with an unfinished run from its last decision; the result has the same bytes as that of an undisturbed one.
    prepared : PreparedMarket, optional
        Market and risk model that several runs share. Default: made here.
    progress : callable
        Called with the stage and the share done.

    Raises
    ------
    DataError
        If data, dates, size or product cannot be used: nothing is left then. If the run cannot be written, or its inputs or
        code changed before it is resumed: what there is stays.

    Warns
    -----
    TrialNotRecorded
        If the trial ledger beside `out` cannot be written. The run itself is whole.
    """
    terms, mandate = load_product(product) if isinstance(product, str) else product
    nav0 = terms.size("aum", aum)
    first, last = run_span(data, start, end)
    began = time.perf_counter()
    inputs = run_inputs(data, terms, mandate, first if start is not None else None, last, nav0, flows)
    with RunWriter(Path(out), inputs, resume=resume) as writer, threadpool_limits(1):
        if prepared is None:
            market, gone = market_of(data, terms, mandate, end=last, progress=progress)
        else:
            market, gone = prepared.serve(inputs)
        journal = Journal(writer, data, terms, mandate, market, inputs)
        journal.timing("market and risk model", all=time.perf_counter() - began)
        simulation = _Simulation(data, terms, mandate, market, gone, nav0, flows, journal, progress)
        run = simulation.run(first, explicit=start is not None, began=began)
    note_trial(run)
    return run


def run_inputs(
    data: Dataset,
    product: Product,
    mandate: Mandate,
    first: pd.Timestamp | None,
    last: pd.Timestamp,
    nav0: float,
    flows: Flows | None,
) -> dict[str, Any]:
    """Return everything that decides the bytes of a run."""
    return {
        "product": product.model_dump(mode="json"),
        "mandate": mandate.model_dump(mode="json"),
        "files": data.file_fingerprints(),
        "code": code_fingerprint(),
        "versions": {"python": platform.python_version(), **{name: metadata.version(name) for name in LIBRARIES}},
        "first": None if first is None else f"{first:%Y-%m-%d}",
        "last": f"{last:%Y-%m-%d}",
        "nav0": nav0,
        "flows": None if flows is None else flows.to_record(),
    }


def run_span(
    data: Dataset, start: str | pd.Timestamp | None, end: str | pd.Timestamp | None
) -> tuple[pd.Timestamp, pd.Timestamp]:
    """Return the first and the last day of a run; by default those of the data.

    Raises
    ------
    DataError
        If one of them is outside the data, or the first is after the last.
    """
    dates = data.dates()
    first = dates[0] if start is None else parse_date("start", start)
    last = dates[-1] if end is None else parse_date("end", end)
    for name, value in (("start", first), ("end", last)):
        if not dates[0] <= value <= dates[-1]:
            raise DataError(
                f"{name} {value:%Y-%m-%d} is outside the data, which runs from {dates[0]:%Y-%m-%d} to {dates[-1]:%Y-%m-%d}."
            )
    if first > last:
        raise DataError(f"start {first:%Y-%m-%d} is after end {last:%Y-%m-%d}; exchange them.")
    return first, last


def _ledger_rules(product: Product, mandate: Mandate, *, dividends_inside: bool) -> LedgerRules:
    return LedgerRules(
        lag=product.lag_days,
        financing=FinancingRule(
            spread=product.financing_spread_annual,
            cash_spread=product.cash_spread_annual,
            borrow_fee=mandate.costs.borrow_fee_annual,
            day_count=product.day_count,
        ),
        commission=mandate.costs.commission_bps / 1e4,
        participation_limit=product.participation_limit,
        fx_hedge=product.fx_hedge,
        fx_cost=product.fx_cost_bps / 1e4,
        dividends_inside=dividends_inside,
        delisting=product.delisting_returns,
    )


class _Simulation:
    def __init__(
        self,
        data: Dataset,
        product: Product,
        mandate: Mandate,
        market: Market,
        gone: BoolArray,
        nav0: float,
        flows: Flows | None,
        journal: Journal,
        progress: Progress,
    ) -> None:
        self.data, self.product, self.mandate, self.market, self.gone = data, product, mandate, market, gone
        self.progress = progress
        self.panel = market.panel
        conditions = market.conditions
        self.ledger = Ledger(
            self.panel.assets,
            nav0,
            _ledger_rules(product, mandate, dividends_inside=conditions.dividends_inside),
            currencies=conditions.currencies,
            currency=conditions.currency,
        )
        self.decides = decision_days(self.panel.dates, product.rebalance)
        self.journal = journal
        self.nav0, self.flows = nav0, flows
        self.calibration = _Calibration(product.risk_model, self.panel.periods_per_year)
        self.decision: Decision | None = None

    def run(self, first: pd.Timestamp, *, explicit: bool, began: float) -> Run:
        dates = self.panel.dates
        t0 = self._first_decision(first, explicit=explicit)
        # A name on holiday on the first day is ordered at its last close before.
        before = max(t0 - 1, 0)
        self.market.conditions.check_from(self.panel, t0)
        closes = pd.DataFrame(self.panel.close[: t0 + 1]).ffill().to_numpy()[before]
        self.ledger.start(closes, fx=self.market.conditions.fx[before])
        self.register = ShareRegister(self.product, self.nav0, dates[t0], flows=self.flows)
        status, reason = "complete", ""
        done = t0 - 1 if self.journal.writer.state is None else self._restore(self.journal.writer.state)
        t = done
        for t in range(done + 1, len(dates)):
            self.progress("simulation", (t - t0) / (len(dates) - t0))
            day, nav = self._account(t)
            held = self.ledger.weights.copy()
            self.calibration.add(day.gross / day.nav_before)
            target = None
            try:
                if nav <= 0:
                    status, reason = "bankrupt", f"net asset value fell to {nav:,.2f} on {dates[t]:%Y-%m-%d}"
                else:
                    over = np.abs(held) > self.mandate.position_limit
                    self.journal.breach(t, over, held)
                    target = self._decide(t, nav) if self.decides[t] else None
                    if target is None and over.any():
                        self._trim(t, held, over)
            except (InfeasibleMandate, SolverFailure) as error:
                status, reason = "stopped", f"{dates[t]:%Y-%m-%d}: {error}"
            if self.product.lag_days == 0 and status == "complete":
                nav, held = self._trade_at_once(day)
            if status != "complete" or t == len(dates) - 1:
                nav, held = self._close_run(day)
            risk = self._risk(held)
            self.calibration.forecast(0.0 if risk is None else risk.volatility)
            self.journal.day(
                day, nav, held, target, self.ledger, self.register, self.decision, risk, self.calibration.multiplier
            )
            if status != "complete":
                break
            if self.decides[t]:
                self.journal.writer.checkpoint(self._state(t))
        self.progress("simulation", 1.0)
        self.journal.timing("run", all=time.perf_counter() - began)
        return self.journal.finish(status, reason, dates[t0], dates[t], self.register)

    def _state(self, t: int) -> dict[str, Any]:
        """Return what the days after t need of those before, beside the market."""
        return {
            "t": t,
            "last_weights": self.journal.last_weights,
            **{name: getattr(self, name) for name in ("ledger", "register", "calibration", "decision")},
        }

    def _restore(self, state: Mapping[str, Any]) -> int:
        """Go back to where a checkpoint was written, and return its day."""
        self.ledger, self.register = state["ledger"], state["register"]
        self.calibration, self.decision = state["calibration"], state["decision"]
        self.journal.last_weights = state["last_weights"]
        return int(state["t"])

    def _risk(self, weights: FloatArray) -> Decomposition | None:
        """Return the forecast risk of the book under the model in force; None before the first."""
        if self.decision is None:
            return None
        return decompose(self.decision.problem.model, weights[self.decision.assets])

    def _first_decision(self, first: pd.Timestamp, *, explicit: bool) -> int:
        """Return the first decision day; by default the first on which everything that a decision needs is there."""
        dates = self.panel.dates
        days = np.flatnonzero(self.decides & (dates >= first))
        if explicit and len(days):
            return int(days[0])
        regressions = np.isfinite(self.market.history.r_squared).cumsum()
        known = self.data.prediction_dates()
        if not len(known):
            raise DataError(
                f"{self.data.folder}: has no predictions/. Add the models' predictions, or make some from prices with "
                "`metafolio benchmark-models`."
            )
        oldest = pd.Timedelta(days=self.product.maximum_prediction_age_days)
        for t in map(int, days):
            published = known[known <= dates[t]]
            enough = regressions[t] >= self.product.risk_model.in_regressions().minimum_history
            if enough and len(published) and dates[t] - published[-1] <= oldest:
                return t
        raise DataError(
            f"{self.data.folder}: no decision day between {first:%Y-%m-%d} and {dates[-1]:%Y-%m-%d} has both "
            f"{self.product.risk_model.minimum_history} days of factor returns and predictions at most "
            f"{oldest.days} days old; predictions run from {known[0]:%Y-%m-%d} to {known[-1]:%Y-%m-%d}."
        )

    def _account(self, t: int) -> tuple[Day, float]:
        """Mark, book what happened, fill what is due, charge fees, prove the day, and deal with investors at its close."""
        ledger, register = self.ledger, self.register
        market = self._market_day(t)
        day = ledger.open_day(market)
        if self.product.lag_days > 0:
            self._trade(day, market)
        charges = register.open_day(market.date, day.nav_before)
        ledger.charge_fees(day, charges.management_fee, charges.incentive_fee)
        nav = ledger.close_day(day)
        register.close_day(nav)
        if nav > 0:  # a bankrupt fund deals no more
            dealing = register.deal()
            ledger.charge_fees(day, dealing.management_fee, dealing.incentive_fee)
            ledger.deal(day, subscription=dealing.subscription, redemption=dealing.redemption)
            self.journal.dealt(t, dealing, register, nav)
            nav = ledger.close_day(day)
        return day, nav

    def _trade(self, day: Day, market: MarketDay) -> None:
        """Fill what is due; then, and on a decision day, change foreign cash."""
        self.ledger.fill(day, market)
        if self.decides[day.t] or len(day.fills):
            self.ledger.sweep(day)

    def _trade_at_once(self, day: Day) -> tuple[float, FloatArray]:
        """Fill today's decision at the close that it was made at, and return net assets and weights after it.

        Nobody can: it is for the study of what a lag costs. Fees and dealing came before, so every series pays its part of the costs.
        """
        before = self.ledger.nav
        self._trade(day, self._market_day(day.t))
        nav = self.ledger.close_day(day)
        for series in self.register.series:
            series.value *= nav / before
        return nav, self.ledger.weights.copy()

    def _market_day(self, t: int) -> MarketDay:
        conditions = self.market.conditions
        return market_day(self.panel, conditions, t, gone=self.gone[t], lists_events=conditions.events is not None)

    def _close_run(self, day: Day) -> tuple[float, FloatArray]:
        """Charge the fee on the unfinished period, and return net assets and weights after it.

        After the day's decision: that the run ends here is nothing that a decision may know.
        """
        self.ledger.charge_fees(day, 0.0, self.register.finish(self.ledger.nav).incentive_fee)
        return self.ledger.close_day(day), self.ledger.weights.copy()

    def _decide(self, t: int, nav: float) -> FloatArray | None:
        started = time.perf_counter()
        date = self.panel.dates[t]
        signal = self.market.signals.get(t)
        if signal is None:  # and what is wrong with it is raised here
            signal = signal_at(self.data, self.product, self.mandate, self.panel, self.market.universe, t)
        before, multiplier = self.ledger.expected_weights(t), self.calibration.multiplier
        lowest = None
        if self.market.conditions.available is not None or self.market.conditions.events is not None:
            lowest = self.ledger.lowest_weights(t, self._market_day(t))
        decision = prepare(self.market, t, signal.meta, before, nav, self.mandate, multiplier=multiplier, lowest=lowest)
        prepared = time.perf_counter()
        try:
            decision, solution, conflict = solve_by_mandate(decision, self.mandate)
        except InfeasibleMandate as error:
            if self.mandate.on_infeasible != "hold":
                raise
            self.journal.held(t, decision, error)
            return None
        self.decision = decision
        target = np.full(len(self.panel.assets), np.nan)
        target[decision.assets] = solution.weights
        assert decision.problem.costs is not None
        self.ledger.set_costs(decision.assets, decision.problem.costs, nav)
        # A suspended name's order would only wait for its return; it is left as it is and decided on again.
        which = decision.assets.copy()
        which[decision.assets] = ~decision.frozen
        inside = np.zeros(len(which), dtype=np.bool_)
        inside[decision.assets] = decision.members
        self.ledger.orders.withdraw_late(t)
        self.ledger.order(t, np.nan_to_num(target), which, ["rebalance" if member else "exit" for member in inside])
        self.journal.decided(t, decision, solution, signal.published, multiplier)
        if conflict is not None:
            self.journal.relaxed(t, solution, conflict)
        self.journal.timing(f"{date:%Y-%m-%d}", prepare=prepared - started, solve=time.perf_counter() - prepared)
        return target

    def _trim(self, t: int, weights: FloatArray, over: BoolArray) -> None:
        """Order names that drifted beyond the position limit back to the target cap."""
        cap = np.sign(weights) * self.mandate.position_target
        self.ledger.order(t, cap, over & ~self.ledger.orders.pending, ["trim"] * len(weights))
