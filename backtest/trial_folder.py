"""All trials that a folder of runs knows of: its ledger, the ledgers below it, and the runs that lie there unrecorded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from backtest.store import Run
from backtest.trial_ledger import LEDGER, find_ledgers, read_trials
from backtest.trials import Trial, merge_trials, runs_in, trial_of
from risk import DataError

__all__ = ["TrialFolder", "read_folder"]


@dataclass(frozen=True, eq=False)
class TrialFolder:
    """All trials that a folder knows of.

    Attributes
    ----------
    trials : tuple of Trial
        The last recorded first, then those in no ledger.
    unrecorded : tuple of Run
        Finished runs in the folder, or beside the ledgers below it, that are in no ledger.
    unreadable : tuple of str
        Why other run folders there cannot be read; they are in no count.
    ledgers : tuple of Path
    """

    trials: tuple[Trial, ...]
    unrecorded: tuple[Run, ...]
    unreadable: tuple[str, ...]
    ledgers: tuple[Path, ...]


def read_folder(folder: Path, *, also: Sequence[Path] = ()) -> TrialFolder:
    """Return the trials of the ledgers in a folder and two levels below, and of the run folders beside them.

    Parameters
    ----------
    folder : Path
        That holds run folders.
    also : sequence of Path
        Other such folders.

    Raises
    ------
    DataError
        If one is no folder, a ledger cannot be read, or there is neither a ledger nor a run.
    """
    ledgers: dict[Path, None] = {}
    places: dict[Path, None] = {}
    for place in (folder, *also):
        if not place.is_dir():
            raise DataError(f"{place}: is no folder. Give one in which `metafolio backtest` made runs, or a run.")
        found = find_ledgers(place.resolve())
        ledgers |= dict.fromkeys(found)
        places |= dict.fromkeys([place.resolve(), *(ledger.parent for ledger in found)])
    trials = merge_trials(trial for ledger in ledgers for trial in read_trials(ledger))
    known = {trial.key for trial in trials}
    unrecorded: list[Run] = []
    unreadable: list[str] = []
    for place in places:
        runs, problems = runs_in(place)
        unreadable += problems
        for run in runs:
            trial = trial_of(run)
            if trial.key not in known:
                known.add(trial.key)
                trials.append(trial)
                unrecorded.append(run)
    if not trials:
        why = f" {unreadable[0]}" if unreadable else ""
        raise DataError(f"{folder}: holds no finished run and no {LEDGER}.{why} Give a folder in which runs were made.")
    return TrialFolder(tuple(trials), tuple(unrecorded), tuple(unreadable), tuple(ledgers))
