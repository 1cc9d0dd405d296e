"""Does anything look ahead? The data after a date are replaced, the run is made again, and all it wrote up to the date must stay.

For a session t* drawn at random, a decision date or one on which orders fill:

    run end   data and run end some sessions after t*: every row of every table up to t* must be the same
    last day  the run ends on t* itself: every row before t*, and the decision and the trades of t*, must be the same
    a field   what it says after t* is replaced (`backtest.perturbation`): every row up to t* must be the same

The same is the same to the bit. A field is compared with the run of the first line, so a difference is due to the field alone.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, as_completed
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from backtest.data_copy import copy_until
from backtest.dataset import Dataset
from backtest.flows import Flow, Flows
from backtest.perturbation import EVERYTHING, fields_of, perturb
from backtest.products import Product
from backtest.run_difference import DECISION_TABLES, Difference, first_difference
from backtest.simulator import simulate
from backtest.store import Run
from engine import Mandate
from risk import DataError

__all__ = ["AHEAD", "LAST_DAY", "RUN_END", "Trial", "draw_dates", "look_ahead", "make_again"]

AHEAD = 15
"""Sessions after the date that a run on other data sees, unless another number is given."""
RUN_END, LAST_DAY = "run end", "last day"
# Whatever the run reads after the date shows in one of these.
_TELLING = ("meta_model", "signals", "weights", "nav")


@dataclass(frozen=True)
class Trial:
    """One replacement and what it changed.

    Attributes
    ----------
    date : Timestamp
        t*.
    field : str
    replaced : int
        Rows of the data set that were replaced, added or taken away.
    compared : int
        Rows of the run that were compared.
    difference : Difference or None
        The earliest; None where there is none.
    moved : bool
        Whether anything after the date is another. If not, the run used nothing of what was replaced.
    refused : str
        Why the simulation ended without a result, which proves nothing; empty where it did not.
    """

    date: pd.Timestamp
    field: str
    replaced: int
    compared: int
    difference: Difference | None = None
    moved: bool = False
    refused: str = ""

    @property
    def proven(self) -> bool:
        """Whether rows were compared and all of them are the same."""
        return not self.refused and self.difference is None and self.compared > 0


@dataclass(frozen=True)
class _Case:
    """A run, a date, and a folder to work in."""

    run: Path
    data: Path
    date: pd.Timestamp
    horizon: pd.Timestamp
    work: Path
    seed: int

    @property
    def reference(self) -> Path:
        """The run on data that end soon after the date."""
        return self.work / "reference"


def look_ahead(
    run: Run,
    data: Dataset,
    dates: Sequence[pd.Timestamp],
    *,
    fields: Sequence[str] | None = None,
    ahead: int = AHEAD,
    seed: int = 0,
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Trial, ...]:
    """Return what the replacement of each field after each date changed in a run up to that date.

    Parameters
    ----------
    run : Run
    data : Dataset
        That the run was made on, unchanged.
    dates : sequence of Timestamp
        Sessions of the run before its last.
    fields : sequence of str, optional
        See `backtest.perturbation`; also ``run end`` (which is always tried) and ``last day``. Default: all of them.
    ahead : int
        Sessions after each date that are simulated.
    seed : int
    workers : int
        Processes; 1 works in this one.
    progress : callable, optional
        Called with (trials done, trials in all).

    Raises
    ------
    DataError
        If a field is none of the data set's.
    """
    known = (RUN_END, LAST_DAY, *fields_of(data))
    chosen = known if fields is None else tuple(dict.fromkeys([RUN_END, *fields]))
    strange = [name for name in chosen if name not in (*known, EVERYTHING)]
    if strange:
        raise DataError(
            f"fields: {strange[0]!r} is none of the data set's. Choose from {', '.join(known)}, {EVERYTHING}."
        )
    total, done = len(chosen) * len(dates), 0
    found: dict[tuple[pd.Timestamp, str], Trial] = {}
    with tempfile.TemporaryDirectory(prefix="metafolio-audit-") as work, _workers(workers) as pool:
        cases = [_case(run, data, date, ahead, Path(work) / f"{date:%Y-%m-%d}", seed) for date in dates]
        # The first field of every date makes the run that the others are compared with.
        for stage in (chosen[:1], chosen[1:]):
            jobs = [(case, field) for case in cases for field in stage]
            for trial in _each(pool, jobs):
                found[trial.date, trial.field] = trial
                done += 1
                if progress is not None:
                    progress(done, total)
    return tuple(found[date, field] for date in dates for field in chosen)


def draw_dates(run: Run, count: int, seed: int) -> tuple[pd.Timestamp, ...]:
    """Return sessions of a run at random, in order of time: in turn a decision date, and one on which a decision's orders fill.

    What a decision knows too much shows when the data after it change, and what a fill knows too much when those after the fill
    do. None is the run's last session.

    Raises
    ------
    DataError
        If the run has no decision before its last session.
    """
    sessions = pd.DatetimeIndex(run.nav.index)
    decided = sessions.get_indexer(pd.DatetimeIndex(run.table("solves")["date"].unique()))
    rng = np.random.default_rng(seed)
    drawn: set[int] = set()
    for turn in range(count):
        eligible = decided + (run.record["product"]["lag_days"] if turn % 2 else 0)
        eligible = np.setdiff1d(eligible[eligible < len(sessions) - 1], list(drawn))
        if len(eligible):
            drawn.add(int(rng.choice(eligible)))
    if not drawn:
        raise DataError(f"{run.folder}: has no decision before its last session. Audit a longer run.")
    return tuple(pd.Timestamp(sessions[t]) for t in sorted(drawn))


@contextmanager
def _workers(count: int) -> Any:
    """Yield a pool of processes, or None for this one."""
    pool = nullcontext() if count == 1 else ProcessPoolExecutor(count, mp_context=get_context("spawn"))
    with pool as executor:
        yield executor


def _each(pool: Executor | None, jobs: Sequence[tuple[_Case, str]]) -> Any:
    if pool is None:
        yield from (_try(*job) for job in jobs)
    else:
        for future in as_completed([pool.submit(_try, *job) for job in jobs]):
            yield future.result()


def _case(run: Run, data: Dataset, date: pd.Timestamp, ahead: int, work: Path, seed: int) -> _Case:
    sessions = data.dates()
    place = int(sessions.get_indexer(pd.DatetimeIndex([date]))[0])
    horizon = min(sessions[min(place + ahead, len(sessions) - 1)], pd.Timestamp(run.record["end"]))
    return _Case(run.folder.resolve(), data.folder.resolve(), date, pd.Timestamp(horizon), work, seed)


def _try(case: _Case, field: str) -> Trial:
    """Replace one field after the case's date, run again and compare."""
    run, folder = Run(case.run), case.work / field.replace(" ", "-")
    data = folder / "data"
    try:
        left_out = copy_until(Dataset(case.data), data, case.horizon, pd.Timestamp(run.record["end"]))
        if field == RUN_END:
            again = make_again(run, data, case.reference, case.horizon)
            compared, difference = first_difference(run, again, until=case.date)
            return Trial(case.date, field, left_out, compared, difference, moved=left_out > 0)
        if field == LAST_DAY:
            return _try_last_day(case, run, data, folder)
        replaced = perturb(data, field, case.date, case.seed)
        again = make_again(run, data, folder / "run", case.horizon)
        reference = Run(case.reference)
        compared, difference = first_difference(reference, again, until=case.date)
        since = case.date + pd.Timedelta(days=1)
        _, later = first_difference(reference, again, since=since, until=case.horizon, tables=_TELLING)
        return Trial(case.date, field, replaced, compared, difference, moved=later is not None)
    except DataError as error:
        return Trial(case.date, field, 0, 0, refused=str(error))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _try_last_day(case: _Case, run: Run, data: Path, folder: Path) -> Trial:
    """End the run on the case's date, and compare what came before it, its decision and its trades.

    Assets that list after the date are left out of both runs: the one that ends there cannot hold them.
    """
    reference = Run(case.reference)
    sessions = Dataset(data).dates()
    if _lists_after(data, case.date):
        bare = folder / "listed"
        # What ends on the date holds the assets that have a row by then, and no other.
        copy_until(Dataset(case.data), bare, case.horizon, case.date)
        data, reference = bare, make_again(run, bare, folder / "before", case.horizon)
    again = make_again(run, data, folder / "run", case.date)
    before = sessions[sessions < case.date][-1]
    compared, difference = first_difference(reference, again, until=before)
    decided, other = first_difference(reference, again, until=case.date, since=case.date, tables=DECISION_TABLES)
    cut = int((sessions > case.date).sum())
    return Trial(case.date, LAST_DAY, cut, compared + decided, difference or other, moved=cut > 0)


def _lists_after(data: Path, date: pd.Timestamp) -> bool:
    """Return whether a market has an asset whose first row comes after a date."""
    rows = Dataset(data).market.source.to_table(columns=["date", "asset"]).to_pandas()
    return bool((rows.groupby("asset", observed=True)["date"].min() > date).any())


def make_again(run: Run, data: Path, out: Path, end: pd.Timestamp) -> Run:
    """Make a run again, on other data and up to another day."""
    record = run.record
    terms = Product.model_validate(record["product"]), Mandate.model_validate(record["mandate"])
    return simulate(
        Dataset(data),
        terms,
        out=out,
        start=record["start"],
        end=end,
        aum=record["nav0"],
        flows=_flows(record.get("flows")),
    )


def _flows(record: dict[str, Any] | None) -> Flows | None:
    """Return flows as they stand in a run's record."""
    if record is None:
        return None
    requests = tuple(
        Flow(pd.Timestamp(row["date"]), row["investor"], float(row["amount"])) for row in record["requests"]
    )
    return Flows(requests, tuple((pd.Timestamp(date), float(aum)) for date, aum in record["path"]))
