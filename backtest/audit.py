"""Why a run should be believed: its numbers derived anew, its decisions shown not to depend on the future, and the audit itself on trial."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from backtest.audit_evidence import Check
from backtest.leak_trials import LeakTrial, try_leaks
from backtest.lookahead import RUN_END, Trial, draw_dates, look_ahead
from backtest.rederivation import data_of, rederive
from backtest.reproduction import reproduce, unlike_preset
from backtest.store import Run, code_fingerprint

__all__ = ["Audit", "audit"]

Progress = Callable[[str, float], None]


@dataclass(frozen=True)
class Audit:
    """What an audit found.

    Attributes
    ----------
    run : Run
    checks : tuple of Check
        What was derived anew.
    trials : tuple of Trial
        What was replaced after which date; empty where the data set is not the run's.
    leaks : tuple of LeakTrial
        The audit on trial; empty where it was not asked for.
    notes : tuple of str
    """

    run: Run
    checks: tuple[Check, ...]
    trials: tuple[Trial, ...]
    leaks: tuple[LeakTrial, ...]
    notes: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """Whether all was proven."""
        return not self.failures

    @property
    def failures(self) -> tuple[str, ...]:
        """What was not proven, one sentence each."""
        return (
            *(_of_check(check) for check in self.checks if not check.passed),
            *(_of_trial(trial) for trial in self.trials if not trial.proven),
            *(_of_leak(leak) for leak in self.leaks if not leak.right),
        )

    def to_dict(self) -> dict[str, Any]:
        """Return all of it for machines."""
        return {
            "run": str(self.run.folder),
            "passed": self.passed,
            "failures": list(self.failures),
            "notes": list(self.notes),
            "checks": [
                {
                    "name": check.name,
                    "statement": check.statement,
                    "state": check.state,
                    "worst": check.worst if math.isfinite(check.worst) else None,
                    "tolerance": check.tolerance,
                    "unit": check.unit,
                    "where": check.where,
                    "compared": check.compared,
                    "left_out": check.left_out,
                    "not_covered": check.not_covered,
                }
                for check in self.checks
            ],
            "look_ahead": [_trial_record(trial) for trial in self.trials],
            "planted_leaks": [
                {"name": leak.name, "what": leak.what, "field": leak.field, "right": leak.right}
                | {"trials": [_trial_record(trial) for trial in leak.trials]}
                for leak in self.leaks
            ],
        }


def _silent(stage: str, done: float) -> None:
    """Report progress to nobody."""


def audit(
    run: Run,
    *,
    data: str | None = None,
    dates: int = 2,
    seed: int = 0,
    fields: Sequence[str] | None = None,
    self_test: bool = True,
    workers: int = 2,
    progress: Progress | None = None,
) -> Audit:
    """Return what of a run can be proven.

    Parameters
    ----------
    run : Run
    data : str, optional
        Folder of its data set. Default: where it was when the run was made.
    dates : int
        Sessions after which the data are replaced.
    seed : int
        Of the dates and of what is put in.
    fields : sequence of str, optional
        Of the data set: see `backtest.lookahead`. Default: all.
    self_test : bool
        Plant leaks in a small synthetic market, and see that each is caught and clean code is not.
    workers : int
        Processes.
    progress : callable, optional
        Called with the stage and the share done.

    Raises
    ------
    DataError
        If the data set is not there, a table of the run is missing, or a field is none of the data set's.
    """
    report = progress or _silent
    source = data_of(run, data)
    report("deriving anew", 0.0)
    checks = rederive(run, source)
    report("deriving anew", 1.0)
    notes = [*_other_code(run), *unlike_preset(run)]
    trials: tuple[Trial, ...] = ()
    if checks[0].passed:
        report("making the run again", 0.0)
        checks = (*checks, reproduce(run, source))
        report("making the run again", 1.0)
        trials = look_ahead(
            run,
            source,
            draw_dates(run, dates, seed),
            fields=fields,
            seed=seed,
            workers=workers,
            progress=lambda done, total: report("replacing what comes after", done / total),
        )
        unmoved = sorted(
            {trial.field for trial in trials if trial.proven and not trial.moved and trial.field != RUN_END}
        )
        if unmoved:
            notes.append(
                f"Another {', '.join(unmoved)} changed nothing after the date either: the run did not use it in those days."
            )
    else:
        notes.append("Nothing was replaced and run again: the data set is not the one that the run was made on.")
    leaks: tuple[LeakTrial, ...] = ()
    if self_test:
        leaks = try_leaks(
            seed=seed, workers=workers, progress=lambda done, total: report("planted leaks", done / total)
        )
    return Audit(run, checks, trials, leaks, tuple(notes))


def _other_code(run: Run) -> Sequence[str]:
    if run.record.get("code") == code_fingerprint():
        return ()
    return (
        f"The run was made by other code than this. What is replaced is replaced for this code; {RUN_END!r} says whether it "
        "makes the same run.",
    )


def _of_check(check: Check) -> str:
    size = f"off by {check.worst:.3g} {check.unit}" if math.isfinite(check.worst) else "not a number"
    where = f" ({check.where})" if check.where else ""
    return f"{check.name}: {check.statement} does not hold; {size} at worst{where}, {check.tolerance:g} is allowed."


def _of_trial(trial: Trial) -> str:
    day = f"{trial.date:%Y-%m-%d}"
    if trial.refused:
        return f"{trial.field} after {day}: the run could not be made again, so nothing is proven: {trial.refused}"
    if trial.difference is None:
        return f"{trial.field} after {day}: no row was compared, so nothing is proven."
    if trial.field == RUN_END:
        return f"{RUN_END}: with data and run ending soon after {day} the run is another before it: {trial.difference}."
    return f"{trial.field}: what comes after {day} changes what came before: {trial.difference}."


def _of_leak(leak: LeakTrial) -> str:
    if leak.field:
        return f"planted leak {leak.name!r} ({leak.what}) was not caught by {leak.field!r}."
    wrong = next(trial for trial in leak.trials if not trial.proven)
    return f"clean code on the small market: {_of_trial(wrong)}"


def _trial_record(trial: Trial) -> dict[str, Any]:
    found = trial.difference
    return {
        "date": f"{trial.date:%Y-%m-%d}",
        "field": trial.field,
        "proven": trial.proven,
        "rows_replaced": trial.replaced,
        "rows_compared": trial.compared,
        "changes_what_follows": trial.moved,
        "first_difference": None
        if found is None
        else {
            "date": f"{found.date:%Y-%m-%d}",
            "table": found.table,
            "column": found.column,
            "which": found.which,
            "before": found.before,
            "after": found.after,
        },
        "refused": trial.refused,
    }
