"""What a risk report reads: a run as it stood at the close of a day, the book held then, and the market that it came from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from threadpoolctl import threadpool_limits

from backtest.account_rows import asset_rows, group_rows
from backtest.daily_book import read_rows
from backtest.dataset import Dataset
from backtest.products import Product
from backtest.rulings import facts_by_date, run_facts
from backtest.simulator import market_of
from backtest.statistics import trading_year
from backtest.store import Run
from backtest.strategy import Market
from backtest.tables import parse_date
from engine import Mandate
from risk import DataError, FactorModel, RiskSpec
from risk.checks import FloatArray, freeze

__all__ = ["RiskBook", "RunUntil", "book_facts", "read_risk_book", "run_market", "run_session", "universe_returns"]

Progress = Callable[[str, float], None]
Labels = npt.NDArray[np.object_]
UNLABELLED = "(none)"
"""Group of the assets that have no label: no asset's risk is left out."""


class RunUntil(Run):
    """A run as it stood at the close of a day: its tables and models without anything dated later."""

    def __init__(self, run: Run, day: pd.Timestamp) -> None:
        self.folder, self.record, self.day = run.folder, run.record, day

    def table(self, name: str) -> pd.DataFrame:
        """Return a table's rows up to the day."""
        rows = super().table(name)
        return rows[rows["date"] <= self.day]

    def model_dates(self) -> list[pd.Timestamp]:
        """Return the dates of stored risk models up to the day."""
        return [date for date in super().model_dates() if date <= self.day]


def run_session(run: Run, date: str | pd.Timestamp | None) -> pd.Timestamp:
    """Return the day of a report on a run: its last session by default.

    Raises
    ------
    DataError
        If the run has no session, or the date is none of its sessions.
    """
    dates = pd.DatetimeIndex(run.nav.index)
    if not len(dates):
        raise DataError(f"{run.folder}: the account has no sessions. Run the backtest again over a longer span.")
    if date is None:
        return pd.Timestamp(dates[-1])
    day = parse_date("date", date)
    if day < dates[0]:
        raise DataError(
            f"`date` {day:%Y-%m-%d} is before the run's first decision, on {dates[0]:%Y-%m-%d}: there was no book. Give a date from "
            f"then to {dates[-1]:%Y-%m-%d}, or the data set instead of the run for its risk model alone."
        )
    if day > dates[-1]:
        raise DataError(
            f"`date` {day:%Y-%m-%d} is after the run's last session, {dates[-1]:%Y-%m-%d}. Give a date within the run, or run the "
            "backtest again on data that reach further."
        )
    if day not in dates:
        before = dates[int(dates.searchsorted(day)) - 1]
        raise DataError(f"`date` {day:%Y-%m-%d} is no session of the run; the last one before it is {before:%Y-%m-%d}.")
    return day


@dataclass(frozen=True, eq=False)
class RiskBook:
    """The book at the close of a day, over the n assets of the risk model in force.

    Attributes
    ----------
    date, decided : Timestamp
        The day, and that of the decision whose model is in force.
    model : FactorModel
    weights, benchmark : ndarray of shape (n,)
        Fractions of net asset value; cap weights of the universe at the decision.
    country, sector : object ndarray of shape (n,)
        ``(none)`` where an asset has no label.
    traded_value : ndarray of shape (n,)
        Median daily dollar volume at the decision; NaN where not known.
    nav : float
        Net asset value, in money.
    multiplier : float
        What the book's own past forecasts and returns say its forecast volatility is to be multiplied by.
    calibrates : bool
        Whether the product calibrates its forecasts; where it does not, the multiplier is 1.
    outside : Series by asset
        Weights of positions that the model does not hold: they are in gross and net, and in no other risk number.
    year : int
        Trading days in a year.
    """

    date: pd.Timestamp
    decided: pd.Timestamp
    model: FactorModel
    weights: FloatArray
    benchmark: FloatArray
    country: Labels
    sector: Labels
    traded_value: FloatArray
    nav: float
    multiplier: float
    calibrates: bool
    outside: pd.Series
    year: int

    @property
    def empty(self) -> bool:
        """Whether nothing is held that the model knows."""
        return not bool(self.weights.any())


def run_market(run: Run, day: pd.Timestamp, progress: Progress) -> Market:
    """Return the market of a run up to a day, read and regressed again from its data set.

    Raises
    ------
    DataError
        If the data set has moved, changed since the run, or can no longer be used.
    """
    record = run.record.get("data", {})
    data = Dataset(record.get("path", ""))
    if data.fingerprint() != record.get("fingerprint"):
        raise DataError(f"{data.folder}: has changed since {run.folder} was made; run the backtest again.")
    product, mandate = Product.model_validate(run.record["product"]), Mandate.model_validate(run.record["mandate"])
    with threadpool_limits(1):
        return market_of(data, product, mandate, end=day, progress=progress)[0]


def book_facts(run: Run, market: Market | None, missing: str) -> pd.DataFrame:
    """Return labels and traded values of each decision's assets: the run's own, or rebuilt from its market.

    Parameters
    ----------
    missing : str
        Why there is no market.

    Raises
    ------
    DataError
        If the run has none and there is no market: no limit by country or sector could be monitored, and a report that is
        silent about limits would be read as one that found no breach.
    """
    if run.has("assets"):
        return run_facts(run)
    if market is None:
        raise DataError(
            f"{run.folder}: its limits cannot be monitored, for it has no `assets` table of labels, and they cannot be rebuilt: "
            f"{missing}"
        )
    places = pd.Index(market.panel.assets)
    rows = []
    for date in run.model_dates():
        path = run.folder / "models" / f"date={date:%Y-%m-%d}" / "specific_variance.parquet"
        chosen = np.zeros(len(places), dtype=np.bool_)
        chosen[places.get_indexer(pd.Index(pd.read_parquet(path, columns=["asset"])["asset"]))] = True
        rows.append(asset_rows(market, int(market.panel.dates.get_indexer(pd.DatetimeIndex([date]))[0]), chosen))
    return pd.concat(rows, ignore_index=True)


def universe_returns(run: Run, market: Market | None, missing: str) -> pd.DataFrame:
    """Return the cap-weighted universe's return by country and sector on each day of a run.

    Raises
    ------
    DataError
        If the run has none and there is no market, for the reason given.
    """
    if run.has("group_returns"):
        return run.table("group_returns")
    if market is None:
        raise DataError(missing)
    days = market.panel.dates.get_indexer(pd.DatetimeIndex(run.nav.index))
    return pd.concat([group_rows(market, int(t)) for t in days], ignore_index=True)


def read_risk_book(run: Run, day: pd.Timestamp, facts: pd.DataFrame) -> RiskBook:
    """Return the book at the close of a day, with the model, benchmark and labels in force.

    Raises
    ------
    DataError
        If no risk model is stored up to the day.
    """
    decided = [date for date in run.model_dates() if date <= day]
    if not decided:
        raise DataError(
            f"{run.folder}: holds no risk model up to {day:%Y-%m-%d}. Give a later date, or run the backtest again."
        )
    ruling = decided[-1]
    model = run.model(ruling)
    names = pd.Index(model.assets)
    rows = read_rows(run, "weights", "weight")
    held = rows[rows["date"] == day].astype({"asset": str}).set_index("asset")["weight"]
    held = held[held != 0]
    signals = run.table("signals")
    benchmark = signals[signals["date"] == ruling].set_index("asset")["benchmark_weight"].reindex(names).fillna(0.0)
    labels = facts_by_date(facts)[ruling].astype({"asset": str}).set_index("asset").reindex(names)
    account = run.nav.reindex(columns=["nav", "forecast", "calibrated_forecast"]).loc[[day]].to_numpy(dtype=np.float64)
    nav, made, calibrated = account[0].tolist()

    def words(family: str) -> Labels:
        return labels[family].astype(object).fillna("").replace("", UNLABELLED).to_numpy(dtype=object)

    return RiskBook(
        date=day,
        decided=ruling,
        model=model,
        weights=freeze(held.reindex(names).fillna(0.0).to_numpy(dtype=np.float64)),
        benchmark=freeze(benchmark.to_numpy(dtype=np.float64)),
        country=words("country"),
        sector=words("sector"),
        traded_value=freeze(labels["traded_value"].to_numpy(dtype=np.float64)),
        nav=nav,
        multiplier=calibrated / made if made > 0 and np.isfinite(calibrated) else 1.0,
        calibrates=_calibrates(run),
        outside=held[~held.index.isin(names)],
        year=trading_year(run),
    )


def _calibrates(run: Run) -> bool:
    """Return whether a run's product calibrates its forecasts, which is its default."""
    settings = run.record["product"].get("risk_model", {})
    return settings.get("calibration_half_life", RiskSpec().calibration_half_life) is not None
