"""Limits monitored daily: level, limit, headroom, breach, since when, by whose doing; and forecasts against what followed.

A mandate's limits bind on the target, fixed at one close and filled at a later one; prices then move the book until the
next decision. A limit of 0 is off by some 1e-3 on every day of a fund's life, and a daily alarm says nothing. So each
limit is monitored at its bound plus a stated **tolerance** for drift:

    breach:  level > upper + tolerance   or   level < lower - tolerance

Between the bound and its tolerance a level is ``outside_limit``, shown and not called a breach. A position has no tolerance: its
drift is what lies between `position_target`, at which the optimizer aims, and `position_limit`.

A breach is **active** where a trade made it: beyond at the close, and within had the day's trades not been made. It is
**passive** where prices did (``drift``) or where the next model and labels measure the same book otherwise (``model``). It is
**hard** where the limit is one that the fund promises (`MonitoringRule.hard`), soft otherwise; hard says what is broken, active
who broke it, and a scheduler stops on hard.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from backtest.breaches import excess_over, find_breaches
from backtest.daily_book import DailyBook, drifted_weights, read_book
from backtest.forecast_record import calibrated_record
from backtest.limit_levels import LimitLevels, Liquidation, limit_levels
from backtest.monitoring_rule import Bound, MonitoringRule, family_of
from backtest.rulings import rulings, run_facts
from backtest.statistics import trading_year
from backtest.store import Run
from backtest.tables import parse_date
from engine import Mandate
from risk import DataError
from risk.checks import FloatArray, freeze

__all__ = ["Monitoring", "MonitoringRule", "monitor"]

UNITS = {"volatility": "per year", "liquidity": "days", "beta": "beta", "style": "standard deviations"}


@dataclass(frozen=True, eq=False)
class Monitoring:
    """Every limit of a run up to a date, with nothing read that came after it.

    Attributes
    ----------
    date : Timestamp
    rule : MonitoringRule
    table : DataFrame by limit
        As of `date`; ``volatility`` is the calibrated forecast where the run calibrated its forecasts, the risk model's otherwise.
        ``family``, ``unit``, ``level``, ``lower`` and ``upper`` (the mandate's bounds; NaN: none), ``tolerance``,
        ``headroom`` (to the mandate's own bound; negative beyond it), ``margin`` (to the monitored bound, that is with tolerance;
        negative in a breach), ``outside_limit`` (beyond the mandate's own bound) and ``outside_since``, ``breach``, ``hard`` (whether a breach of this limit is), ``since`` and ``days`` (first day and length of the breach in force),
        ``kind`` and ``cause`` of it, ``drifted`` (level without the day's trades), ``relaxed`` (by how much the decision in force was
        allowed to widen it), ``asset`` (of a position: the largest).
    levels : DataFrame, dates by limits
    breaches : DataFrame
        One row for each unbroken run of days beyond: ``limit``, ``asset`` (of a position), ``start``, ``end`` (last day beyond), ``open``
        (still beyond on `date`), ``days``, ``worst`` and ``worst_date`` (furthest level), ``excess`` (of it, beyond the monitored bound),
        ``kind`` (active, passive), ``cause`` (trade, drift, model), ``worsened`` (its days on which trades took the level further out), ``hard``.
        In order of start.
    forecast : DataFrame by date
        As `calibrated_record`: forecast and calibrated volatility against what followed.
    unmodelled, unknown_volume : Series by date
        Gross of positions outside the model in force, and of those without a known traded value.
    """

    date: pd.Timestamp
    rule: MonitoringRule
    table: pd.DataFrame
    levels: pd.DataFrame
    breaches: pd.DataFrame
    forecast: pd.DataFrame
    unmodelled: pd.Series
    unknown_volume: pd.Series

    @property
    def hard_breach(self) -> bool:
        """Whether a hard limit is breached on `date`: what a scheduler acts on."""
        return bool((self.table["breach"] & self.table["hard"]).any())


def monitor(
    run: Run,
    *,
    date: str | pd.Timestamp | None = None,
    rule: MonitoringRule | None = None,
    facts: pd.DataFrame | None = None,
) -> Monitoring:
    """Return where a run's book stood against every limit of its mandate, each day up to a date.

    Parameters
    ----------
    run : Run
    date : date, optional
        A session of the run; its last by default.
    rule : MonitoringRule, optional
    facts : DataFrame with columns date, asset, country, sector, traded_value, optional
        Labels and median daily dollar volume of each decision's assets; the run's table ``assets`` by default.

    Raises
    ------
    DataError
        If the date is no session of the run, the run holds no model or no labels, or `facts` misses a decision.
    """
    rule = MonitoringRule() if rule is None else rule
    day = _session(run, date)
    book = read_book(run, until=day)
    drifted = drifted_weights(run, book)
    found = limit_levels(
        book,
        drifted,
        rulings(run, book, run_facts(run) if facts is None else facts),
        Liquidation(rule.participation, rule.liquidated_share),
    )
    forecast = found.closing[:, found.names.index("volatility")]
    found = _calibrated(found, _multipliers(book))
    bounds = rule.bounds(Mandate.model_validate(run.record["mandate"]))
    breaches = find_breaches(book, drifted, found, bounds, rule)
    return Monitoring(
        date=day,
        rule=rule,
        table=_table(run, book, found, bounds, breaches, rule),
        levels=pd.DataFrame(found.closing, index=book.dates, columns=pd.Index(found.names, name="limit")),
        breaches=breaches,
        forecast=calibrated_record(
            book.account["gross_return"],
            forecast,
            found.closing[:, found.names.index("volatility")],
            window=rule.window,
            confidence=rule.confidence,
            periods_per_year=trading_year(run),
        ),
        unmodelled=pd.Series(found.unmodelled, index=book.dates, name="unmodelled"),
        unknown_volume=pd.Series(found.unknown_volume, index=book.dates, name="unknown_volume"),
    )


def _multipliers(book: DailyBook) -> FloatArray:
    """Return what the run multiplied each day's forecast by, from its account; 1 where it did not, or held nothing."""
    account = book.account
    if "calibrated_forecast" not in account:
        return np.ones(len(account))
    made, calibrated = (account[name].to_numpy(dtype=np.float64) for name in ("forecast", "calibrated_forecast"))
    ratio: FloatArray = np.divide(calibrated, made, out=np.ones_like(made), where=made > 0)
    return ratio


def _calibrated(found: LimitLevels, multiplier: FloatArray) -> LimitLevels:
    """Return levels whose volatility is the calibrated forecast: the one that the mandate's limit is held against."""
    scale = np.where(np.array(found.names) == "volatility", multiplier[:, None], 1.0)
    return replace(
        found,
        closing=freeze(found.closing * scale),
        drifted=freeze(found.drifted * scale),
        before=freeze(found.before * scale),
    )


def _session(run: Run, date: str | pd.Timestamp | None) -> pd.Timestamp:
    dates = pd.DatetimeIndex(run.nav.index)
    if not len(dates):
        raise DataError(f"{run.folder}: the account has no sessions. Run the backtest again over a longer span.")
    if date is None:
        return pd.Timestamp(dates[-1])
    day = parse_date("date", date)
    if day in dates:
        return day
    if not dates[0] <= day <= dates[-1]:
        raise DataError(
            f"`date` {day:%Y-%m-%d} is outside the run, which goes from {dates[0]:%Y-%m-%d} to {dates[-1]:%Y-%m-%d}."
        )
    before = dates[int(dates.searchsorted(day)) - 1]
    raise DataError(f"`date` {day:%Y-%m-%d} is no session of the run; the last one before it is {before:%Y-%m-%d}.")


def _table(
    run: Run,
    book: DailyBook,
    found: LimitLevels,
    bounds: dict[str, Bound],
    breaches: pd.DataFrame,
    rule: MonitoringRule,
) -> pd.DataFrame:
    """Return every limit on the book's last day: see `Monitoring.table`."""
    level = dict(zip(found.names, found.closing[-1], strict=True))
    frame = pd.DataFrame({"limit": [name for name, value in level.items() if not np.isnan(value)]}).set_index("limit")
    family = [family_of(name) for name in frame.index]
    frame["family"], frame["unit"] = family, [UNITS.get(name, "fraction of NAV") for name in family]
    frame["level"] = [level[name] for name in frame.index]
    for place, column in enumerate(("lower", "upper", "tolerance")):
        frame[column] = [bounds[name][place] for name in family]
    frame["headroom"] = np.fmin(frame["level"] - frame["lower"], frame["upper"] - frame["level"])
    frame["margin"] = frame["headroom"] + frame["tolerance"]
    limits = list(zip(family, frame["level"], strict=True))
    closing = pd.DataFrame(found.closing, columns=list(found.names))[list(frame.index)]
    frame["outside_since"] = [
        _outside_since(closing[name].to_numpy(), bounds[kind], book.dates)
        for name, kind in zip(frame.index, family, strict=True)
    ]
    frame["outside_limit"] = frame["outside_since"].notna()
    frame["breach"] = [bool(excess_over(np.array([value]), bounds[name]) > 0) for name, value in limits]
    frame["hard"] = [name in rule.hard for name in family]
    weights = book.weights[-1]
    frame["asset"] = ""
    if weights.any():
        frame.loc["position", "asset"] = book.assets[int(np.argmax(np.abs(weights)))]
    # Several positions may be beyond at once, each with a row of `breaches`: the row of the limit is that of the largest.
    current = breaches[breaches["open"]]
    current = current[(current["limit"] != "position") | (current["asset"] == frame.loc["position", "asset"])]
    current = current.set_index("limit")
    frame = frame.join(current[["start", "days", "kind", "cause"]].rename(columns={"start": "since"}))
    frame["days"] = frame["days"].fillna(0).astype(np.int64)
    frame["drifted"] = pd.Series(found.drifted[-1], index=found.names).reindex(frame.index)
    frame["relaxed"] = pd.Series(_relaxed(run, book.dates[-1]), dtype=np.float64).reindex(frame.index).fillna(0.0)
    return frame


def _outside_since(levels: FloatArray, bound: Bound, dates: pd.DatetimeIndex) -> pd.Timestamp | None:
    """Return since when a level has been beyond the mandate's own bound without a break; None where it is within."""
    within = np.flatnonzero(~(excess_over(levels, (*bound[:2], 0.0 * bound[2])) > 0))
    first = int(within[-1]) + 1 if len(within) else 0
    return dates[first] if first < len(dates) else None


def _relaxed(run: Run, day: pd.Timestamp) -> dict[str, float]:
    """Return by how much the decision in force was allowed to widen each limit."""
    solves = run.table("solves")
    past = solves[solves["date"] <= day]
    text = past["relaxed"].iloc[-1] if len(past) else ""
    return {name: float(amount) for name, amount in json.loads(text).items()} if text else {}
