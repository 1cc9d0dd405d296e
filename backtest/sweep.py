"""Many runs of one product with some of its terms varied, each a run folder of its own, side by side in one table.

A run of a sweep is the run that `simulate` makes of the same terms, to the byte. Runs that read the same market share it: a worker
prepares market and risk model once. A sweep that is started again skips what is finished and goes on with what is not.
"""

from __future__ import annotations

import json
import queue
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, wait
from dataclasses import dataclass
from functools import partial
from multiprocessing import Manager, get_context
from pathlib import Path
from typing import Any

import pandas as pd

from backtest.comparison import compare_runs
from backtest.dataset import Dataset, fingerprint_of
from backtest.prepared_market import PreparedMarket, market_terms
from backtest.products import Product, load_product
from backtest.run_writer import differences
from backtest.simulator import Progress, market_of, run_inputs, run_span, simulate
from backtest.store import Run, partial_of, write_whole
from backtest.trial_ledger import LEDGER
from backtest.variants import Variant, check_names, varied
from engine import Mandate
from risk import DataError

__all__ = ["Sweep", "sweep"]

SETTINGS, TABLE = "sweep.json", "comparison.csv"
TAKEN = (SETTINGS, TABLE, LEDGER, "capacity.json")
"""Files beside the runs."""
KEPT = ("product", "mandate", "code", "versions", "nav0", "flows")
"""Inputs of a run that its `run.json` repeats."""

Tell = Callable[[str, float], None]


@dataclass(frozen=True, eq=False)
class Sweep:
    """Finished runs of a sweep.

    Attributes
    ----------
    folder : Path
    variants : tuple of Variant
        The first is what the others are compared with.
    runs : mapping of str to Run
        By name, in the order of the variants.
    table : DataFrame by variant
        As `compare_runs`, and ``note``.
    """

    folder: Path
    variants: tuple[Variant, ...]
    runs: Mapping[str, Run]
    table: pd.DataFrame


@dataclass(frozen=True, eq=False)
class _Task:
    """One run that is to be made; sent to a worker."""

    name: str
    product: Product
    mandate: Mandate
    out: str
    start: pd.Timestamp | None
    end: pd.Timestamp
    inputs: dict[str, Any]


class _Worker:
    """Makes runs on one data set, and keeps the market of the last one."""

    def __init__(self, folder: Path) -> None:
        self.data = Dataset(folder)
        self.kept: PreparedMarket | None = None

    def run(self, task: _Task, tell: Tell) -> None:
        terms = (task.product, task.mandate)
        wanted = market_terms(task.inputs)
        if self.kept is None or self.kept.terms != wanted:
            self.kept = None  # before the next one is made: a market may be large
            self.kept = PreparedMarket(*market_of(self.data, *terms, end=task.end), wanted)
        simulate(
            self.data,
            terms,
            out=task.out,
            start=task.start,
            end=task.end,
            resume=True,
            prepared=self.kept,
            progress=lambda stage, done: tell(task.name, done) if stage == "simulation" else None,
        )


_worker: _Worker | None = None
_messages: Any = None


def _start(folder: Path, messages: Any) -> None:
    """Make this process a worker."""
    global _worker, _messages
    _worker, _messages = _Worker(folder), messages


def _work(task: _Task) -> None:
    assert _worker is not None
    _worker.run(task, lambda name, done: _messages.put((name, done)))


def sweep(
    data: Dataset,
    product: str | tuple[Product, Mandate],
    variants: Sequence[Variant],
    out: str | Path,
    *,
    start: str | pd.Timestamp | None = None,
    end: str | pd.Timestamp | None = None,
    workers: int = 2,
    progress: Progress = lambda _stage, _done: None,
) -> Sweep:
    """Return the runs of a product's variants, each in `out`/NAME, and their comparison, also in `out`/comparison.csv.

    Parameters
    ----------
    data : Dataset
    product : str, or pair of Product and Mandate
        What the variants are variants of.
    variants : sequence of Variant
        The first is what the others are compared with.
    out : path-like
        New, or of the same sweep: finished runs in it are kept if nothing that decides their bytes has changed, and unfinished ones
        go on.
    start, end : date, optional
        As in `simulate`, the same for all.
    workers : int
        Processes; 1 works in this one.
    progress : callable
        Called with a stage and the share done.

    Raises
    ------
    DataError
        If a variant's name or field cannot be used, before anything is run; if a run that is there came from other inputs; or if a
        run cannot be made: those that are finished stay.
    """
    if not variants:
        raise DataError("`variants` is empty; give at least one.")
    if workers < 1:
        raise DataError(f"`workers` must be at least 1; got {workers}.")
    folder = Path(out)
    check_names(variants, TAKEN)
    terms, mandate = load_product(product) if isinstance(product, str) else product
    first, last = run_span(data, start, end)
    inputs = run_inputs(data, terms, mandate, None if start is None else first, last, terms.aum, None)
    tasks = [
        _task(variant, terms, mandate, folder, inputs, None if start is None else first, last) for variant in variants
    ]
    _open(folder, {"start": None if start is None else f"{first:%Y-%m-%d}", "end": f"{last:%Y-%m-%d}"})
    waiting = [task for task in tasks if not _finished(task)]
    _run_all(data, waiting, workers, lambda done: progress("sweep", 1.0 - (1.0 - done) * len(waiting) / len(tasks)))
    runs = {task.name: Run(task.out) for task in tasks}
    table = compare_runs(runs, progress=lambda done: progress("comparison", done))
    table["note"] = [_note(variant, runs[variant.name]) for variant in variants]
    write_whole(folder / TABLE, table.to_csv())
    return Sweep(folder, tuple(variants), runs, table)


def _task(
    variant: Variant,
    product: Product,
    mandate: Mandate,
    folder: Path,
    inputs: dict[str, Any],
    start: pd.Timestamp | None,
    end: pd.Timestamp,
) -> _Task:
    """Return what a variant asks for; `inputs` are those of the product as it is.

    Raises
    ------
    DataError
        If its terms cannot be used, its size among them.
    """
    terms, promised = varied(product, mandate, variant)
    try:
        nav0 = terms.size("aum", None)
    except DataError as error:
        raise DataError(f"variant {variant.name!r}: {error}") from error
    own = {"product": terms.model_dump(mode="json"), "mandate": promised.model_dump(mode="json"), "nav0": nav0}
    return _Task(variant.name, terms, promised, str(folder / variant.name), start, end, inputs | own)


def _note(variant: Variant, run: Run) -> str:
    early = "" if run.record["status"] == "complete" else f"{run.record['status']}: {run.record['reason']}"
    return "; ".join(text for text in (variant.note, early) if text)


def _open(folder: Path, settings: dict[str, Any]) -> None:
    """Make the folder of a sweep, or check that what is there is one over the same days."""
    path = folder / SETTINGS
    if path.is_file():
        before = json.loads(path.read_text(encoding="utf-8"))
        other = list(differences(before, settings))
        if other:
            raise DataError(f"{folder}: holds a sweep over other days: {'; '.join(other)}. Give another --out.")
        return
    if folder.exists() and any(folder.iterdir()):
        raise DataError(f"{folder}: exists already and holds no sweep. Give another --out; nothing is overwritten.")
    partial_of(folder)  # refuses a folder without a name of its own
    write_whole(path, json.dumps(settings, indent=2) + "\n")


def _finished(task: _Task) -> bool:
    """Return whether a run is there already.

    Raises
    ------
    DataError
        If what is there came from other inputs.
    """
    if not (Path(task.out) / "run.json").is_file():
        return False
    record, inputs = Run(task.out).record, task.inputs
    before = {name: record[name] for name in KEPT} | {"data": record["data"]["fingerprint"]}
    now = {name: inputs[name] for name in KEPT} | {"data": fingerprint_of(inputs["files"])}
    other = list(differences(before, json.loads(json.dumps(now, default=str))))
    if other:
        raise DataError(
            f"{task.out}: is a finished run of other inputs: {'; '.join(other[:8])}. Give another --out, or remove that run."
        )
    return True


def _run_all(data: Dataset, tasks: list[_Task], workers: int, progress: Callable[[float], None]) -> None:
    """Make runs, those of one market after each other."""
    keys = [json.dumps(market_terms(task.inputs), sort_keys=True, default=str) for task in tasks]
    tasks = [tasks[i] for i in sorted(range(len(tasks)), key=lambda i: (-keys.count(keys[i]), keys[i], i))]
    done = dict.fromkeys((task.name for task in tasks), 0.0)

    def tell(name: str, share: float) -> None:
        done[name] = share
        progress(sum(done.values()) / len(done))

    if min(workers, len(tasks)) <= 1:
        worker = _Worker(data.folder)
        for task in tasks:
            _named(task, partial(worker.run, task, tell))
        return
    with Manager() as manager:
        messages: Any = manager.Queue()
        with ProcessPoolExecutor(
            min(workers, len(tasks)),
            get_context("spawn"),
            initializer=_start,
            initargs=(data.folder, messages),
        ) as pool:
            jobs = [pool.submit(_work, task) for task in tasks]
            try:
                _relay(jobs, messages, tell)
                for task, job in zip(tasks, jobs, strict=True):
                    _named(task, job.result)
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise


def _named(task: _Task, work: Callable[[], None]) -> None:
    """Do a task's work; an error names the variant."""
    try:
        work()
    except DataError as error:
        raise DataError(f"variant {task.name!r}: {error}") from error


def _relay(jobs: list[Future[None]], messages: queue.Queue[tuple[str, float]], tell: Tell) -> None:
    """Hand on what the workers report, until all are done or one has failed."""
    while True:
        ended, going = wait(jobs, timeout=0)
        if not going or any(job.exception() for job in ended):
            return
        try:
            tell(*messages.get(timeout=0.2))
        except queue.Empty:
            continue
