"""A backtest as a trial: what was tried, on which data, and what it earned, so that the best one can be judged by all of them.

A trial is read from a finished run folder alone. It is the same as another one where data, product, mandate, code, span, size and all its
returns are. `backtest.trial_ledger` keeps trials, `backtest.trial_report` judges a run by them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from backtest.sharpe import sharpe_ratio
from backtest.statistics import SHORTEST_SAMPLE
from backtest.store import Run
from risk import DataError

__all__ = ["Trial", "merge_trials", "pack_returns", "runs_in", "trial_of", "unpack_returns"]


@dataclass(frozen=True, eq=False)
class Trial:
    """One backtest on a data set.

    Attributes
    ----------
    run : str
        Name of its run folder; of the last one where it was made several times.
    data_name, data_path, fingerprint : str
        Of the data set; the last is the SHA-256 of its files.
    product : str
        Its name.
    configuration : str
        Product, mandate and flows in full, as JSON with sorted keys.
    code : str
        SHA-256 of metafolio's source.
    start, end : str
        First decision and last session, as 2024-01-31.
    nav0 : float
        Net assets at the start.
    status : str
        ``complete``, ``stopped`` or ``bankrupt``.
    sharpe_before_fees, sharpe_net : float
        Per year, over its own sessions; NaN below 20 of them and where returns do not vary.
    returns : Series by date
        Per session, before fees, after costs and financing; decimals.
    times : int
        How often it was recorded.
    first_recorded, last_recorded : str
        UTC, ISO 8601; empty where it is in no ledger.
    """

    run: str
    data_name: str
    data_path: str
    fingerprint: str
    product: str
    configuration: str
    code: str
    start: str
    end: str
    nav0: float
    status: str
    sharpe_before_fees: float
    sharpe_net: float
    returns: pd.Series
    times: int = 1
    first_recorded: str = ""
    last_recorded: str = ""

    @cached_property
    def dates(self) -> pd.DatetimeIndex:
        """Sessions."""
        return pd.DatetimeIndex(self.returns.index)

    @cached_property
    def configuration_hash(self) -> str:
        """SHA-256 of product, mandate and flows."""
        return hashlib.sha256(self.configuration.encode()).hexdigest()

    @cached_property
    def returns_hash(self) -> str:
        """SHA-256 of dates and returns: trials that earned the same on the same days, to the bit, share it."""
        return hashlib.sha256(b"".join(pack_returns(self.returns))).hexdigest()

    @cached_property
    def key(self) -> str:
        """SHA-256 of everything that makes it this trial: names, times and places are no part of it."""
        parts = [self.fingerprint, self.configuration_hash, self.code, self.start, self.end, self.nav0, self.status]
        return hashlib.sha256(json.dumps([*parts, self.returns_hash]).encode()).hexdigest()

    def shares_data_with(self, other: Trial) -> bool:
        """Return True where both are trials on one data set, by its name, its folder or its files, with a session in common.

        The fingerprint alone would not do: a data set that is extended or corrected by a day has another one.
        """
        same = (
            (self.data_name != "" and self.data_name == other.data_name)
            or self.data_path == other.data_path
            or self.fingerprint == other.fingerprint
        )
        return same and not self.dates.intersection(other.dates).empty

    def to_dict(self) -> dict[str, Any]:
        """Return all but the returns, as JSON takes it."""
        record = {field.name: getattr(self, field.name) for field in fields(self)}
        del record["returns"]
        record["configuration"] = json.loads(self.configuration)
        for name in ("sharpe_before_fees", "sharpe_net"):
            record[name] = None if np.isnan(record[name]) else record[name]
        return {"key": self.key, **record, "sessions": len(self.returns)}


def trial_of(run: Run) -> Trial:
    """Return a finished run as a trial, in no ledger yet.

    Raises
    ------
    DataError
        If the run folder lacks what a trial needs.
    """
    record, nav = run.record, run.nav
    try:
        data = record["data"]
        year = data["periods_per_year"]
        return Trial(
            run=run.folder.resolve().name,
            data_name=data["name"],
            data_path=data["path"],
            fingerprint=data["fingerprint"],
            product=record["name"],
            configuration=json.dumps(
                {"mandate": record["mandate"], "product": record["product"], "flows": record.get("flows")},
                sort_keys=True,
            ),
            code=record["code"],
            start=record["start"],
            end=record["end"],
            nav0=float(record["nav0"]),
            status=record["status"],
            sharpe_before_fees=_sharpe(nav["return_before_fees"], year),
            sharpe_net=_sharpe(nav["net_return"], year),
            returns=nav["return_before_fees"].rename(None),
        )
    except KeyError as error:
        raise DataError(f"{run.folder}: its run.json or nav has no {error}. Run the backtest again.") from error


def _sharpe(returns: pd.Series, periods_per_year: int) -> float:
    return sharpe_ratio(returns, periods_per_year=periods_per_year) if len(returns) >= SHORTEST_SAMPLE else np.nan


def merge_trials(trials: Iterable[Trial]) -> list[Trial]:
    """Return trials of several ledgers, each once, the last recorded first; `times` are summed."""
    found: dict[str, Trial] = {}
    for trial in trials:
        known = found.setdefault(trial.key, trial)
        if known is not trial:
            last = max(known, trial, key=lambda item: item.last_recorded)
            first = min(filter(None, (known.first_recorded, trial.first_recorded)), default="")
            found[trial.key] = replace(last, times=known.times + trial.times, first_recorded=first)
    return sorted(found.values(), key=lambda trial: trial.last_recorded, reverse=True)


def runs_in(folder: Path) -> tuple[list[Run], list[str]]:
    """Return the finished runs that lie in a folder, and why others there cannot be read."""
    runs, unreadable = [], []
    for path in sorted(folder.glob("*/run.json")):
        try:
            runs.append(Run(path.parent))
        except DataError as error:
            unreadable.append(str(error))
    return runs, unreadable


def pack_returns(returns: pd.Series) -> tuple[bytes, bytes]:
    """Return dates, as days since 1970, and returns as little-endian bytes."""
    days: npt.NDArray[Any] = returns.index.to_numpy().astype("datetime64[D]")
    return days.astype("<i4").tobytes(), returns.to_numpy(dtype="<f8").tobytes()


def unpack_returns(dates: bytes, returns: bytes) -> pd.Series:
    """Return what `pack_returns` packed.

    Raises
    ------
    ValueError
        If there are not as many dates as returns.
    """
    days, values = np.frombuffer(dates, "<i4"), np.frombuffer(returns, "<f8")
    index = pd.DatetimeIndex(days.astype("datetime64[D]").astype("datetime64[ms]"), name="date")
    return pd.Series(values.astype(np.float64), index=index)
