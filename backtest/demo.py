"""The whole chain on a market whose truth is known: data, One and Supreme side by side, and contributions."""

from __future__ import annotations

import queue
import shutil
from concurrent.futures import Future, ProcessPoolExecutor
from multiprocessing import Manager, get_context
from pathlib import Path
from typing import Any

from backtest.dataset import Dataset
from backtest.quality import QualityReport, check
from backtest.rounds import attribute_run
from backtest.simulator import Progress, simulate
from backtest.store import Run
from backtest.synthetic import MarketSpec, write_market
from risk import DataError

__all__ = ["DEMO_MARKET", "run_demo"]

DEMO_MARKET = MarketSpec(assets=250, years=3.5, models=40, countries=6, sectors=8)
AUM = 20e6
"""Net assets that a market of this size can carry: at One's own size trading costs would be the whole story."""
ROUNDS, MASKS = 40, 3


def _simulate(data: str, product: str, out: str, messages: queue.Queue[tuple[str, float]]) -> str:
    simulate(
        Dataset(data),
        product,
        out=out,
        aum=AUM,
        progress=lambda stage, done: messages.put((f"{product}: {stage}", done)),
    )
    return out


def run_demo(out: Path, seed: int, progress: Progress) -> tuple[QualityReport, list[Run]]:
    """Return what `check` says of a synthetic market, and the finished runs of One and Supreme on it, all under `out`.

    Raises
    ------
    DataError
        If `out` exists or cannot be written. Whatever ends the work early, `out` is removed.
    """
    if out.exists():
        raise DataError(f"{out}: exists already. Give another --out, or remove it first; nothing is overwritten.")
    try:
        return _run(out, seed, progress)
    except BaseException:
        shutil.rmtree(out, ignore_errors=True)
        raise


def _run(out: Path, seed: int, progress: Progress) -> tuple[QualityReport, list[Run]]:
    data = out / "data"
    write_market(
        data, DEMO_MARKET.model_copy(update={"seed": seed}), progress=lambda done: progress("synthetic market", done)
    )
    found = check(Dataset(data))
    with Manager() as manager, ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        messages: Any = manager.Queue()
        jobs = [pool.submit(_simulate, str(data), name, str(out / name), messages) for name in ("one", "supreme")]
        _relay(jobs, messages, progress)
        runs = [Run(job.result()) for job in jobs]
    return found, [
        attribute_run(run, masks=MASKS, seed=seed, rounds=ROUNDS, progress=_named(run, progress)) for run in runs
    ]


def _named(run: Run, progress: Progress) -> Progress:
    return lambda stage, done: progress(f"{run.folder.name}: {stage}", done)


def _relay(jobs: list[Future[str]], messages: queue.Queue[tuple[str, float]], progress: Progress) -> None:
    """Hand on what the workers report until they are done."""
    while not all(job.done() for job in jobs):
        try:
            progress(*messages.get(timeout=0.2))
        except queue.Empty:
            continue
    while not messages.empty():
        progress(*messages.get())
