"""A run judged by all trials on its data set: how many, how many independent ones they amount to, and what is left of its Sharpe ratio.

The trials that count are those of the ledger and those whose run folders lie beside it unrecorded, on the same data set by name, folder
or files, with at least one session in common with the run. Where it is not clear whether a trial counts or is independent, it is and
does: so many trials are rather too many, and the evidence rather too weak.

- Trials that earned the same on the same days, to the bit, are one: the highest of equal ratios is that ratio.
- The others enter one matrix of returns on common days as long as at least half of the run's sessions are left (`align_trials`).
- What does not fit in, for it is too short or does not vary, counts as one independent trial each.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import ndtr

from backtest.overfitting import BacktestOverfitting, probability_of_overfitting
from backtest.sharpe import SharpeSample, sharpe_ratios, sharpe_sample
from backtest.sharpe_tests import DeflatedSharpe, deflated_sharpe, minimum_track_record
from backtest.statistics import SHORTEST_SAMPLE
from backtest.store import Run
from backtest.trial_count import cluster_trials, effective_rank, noise_maximum
from backtest.trial_folder import read_folder
from backtest.trials import Trial, trial_of
from risk.checks import FloatArray, freeze

__all__ = ["Evidence", "TrialMatrix", "TrialReport", "align_trials", "judge", "trial_report"]

LEAST_SHARE = 0.5
"""Of the run's sessions that must stay common to all trials of the matrix."""
BLOCKS, BLOCK_DAYS = 16, 10
"""Blocks of the test for overfitting, and the least days of one."""
NOISE_RANGE = ((2, 0.02, 0.95), (5, 0.13, 0.89), (20, 0.19, 0.83), (100, 0.26, 0.73), (1000, 0.33, 0.68))
"""From so many trials on, between what the probability of overfitting of trials without skill lies in nine data sets of ten (docs/statistics.md)."""
DRAWS = 2000
"""Of the noise maximum: no p-value is below 1/2001."""


@dataclass(frozen=True, eq=False)
class TrialMatrix:
    """Returns of trials on the days that all of them have.

    Attributes
    ----------
    dates : DatetimeIndex of shape (T,)
    returns : ndarray of shape (T, m)
        Before fees, per session; column 0 is the run's.
    trials : tuple of m Trial
    outside : tuple of Trial
        Those that are too short, do not vary, or would leave too few days.
    """

    dates: pd.DatetimeIndex
    returns: FloatArray
    trials: tuple[Trial, ...]
    outside: tuple[Trial, ...]


def align_trials(run: Trial, others: Sequence[Trial]) -> TrialMatrix:
    """Return the returns of a run and of other trials on their common days.

    Parameters
    ----------
    run : Trial
        With at least 20 sessions, on which it varies.
    others : sequence of Trial
        With returns of their own.

    Notes
    -----
    Those that share most sessions with the run are added first, then by key, as long as at least half of its sessions, and 20 of them,
    are common to all: one trial that went bankrupt in its first month must not cost the days of all others.
    """
    dates = run.dates
    least = max(SHORTEST_SAMPLE, math.ceil(LEAST_SHARE * len(dates)))
    inside, outside = [run], []
    for trial in sorted(others, key=lambda one: (-len(dates.intersection(one.dates)), one.key)):
        common = dates.intersection(trial.dates)
        fits = len(common) >= least and np.isfinite(trial.returns.to_numpy()).all()
        if fits and np.ptp(run.returns.reindex(common).to_numpy()) > 0.0:
            inside.append(trial)
            dates = common
        else:
            outside.append(trial)
    matrix = np.column_stack([trial.returns.reindex(dates).to_numpy() for trial in inside])
    varies = np.ptp(matrix, axis=0) > 0.0
    outside += [trial for trial, moves in zip(inside, varies, strict=True) if not moves]
    kept = tuple(trial for trial, moves in zip(inside, varies, strict=True) if moves)
    return TrialMatrix(dates, freeze(np.ascontiguousarray(matrix[:, varies])), kept, tuple(outside))


@dataclass(frozen=True, eq=False)
class Evidence:
    """What is left of a run's Sharpe ratio before fees, given the trials beside it. Ratios are per session.

    Attributes
    ----------
    sample : SharpeSample
        Of the run, over all its sessions.
    matrix : TrialMatrix
    independent : float
        Number of independent trials: those with the expected maximum of the matrix (`noise_maximum`), and one for each outside of it.
    clusters : int
        Ideas in the matrix (`cluster_trials`). Beside it, not for it: the best trial must not be deflated by them.
    effective_rank : float
        Of the matrix.
    deflated : DeflatedSharpe
        At `independent` trials. Blunt: among trials without skill it calls far fewer than 5 % significant at 5 %.
    p_value : float
        Familywise: probability that the best of the trials would show so high a ratio, in standard errors, if none had skill. Of the matrix by
        simulation, which keeps its level under every dependence; the others as independent.
    p_value_independent : float
        The same were all trials independent (Sidak), which it does not exceed but by the error of the simulation.
    overfitting : BacktestOverfitting or None
        Of the matrix; None where `overfitting_note` says why not.
    picked : float
        Share of its halves in which this run is the best trial; NaN without it.
    track_record, track_record_deflated : float
        Sessions from which on such returns would show at 95 % a true ratio above 0, and above the best of the trials without skill.
    """

    sample: SharpeSample
    matrix: TrialMatrix
    independent: float
    clusters: int
    effective_rank: float
    deflated: DeflatedSharpe
    p_value: float
    p_value_independent: float
    overfitting: BacktestOverfitting | None
    overfitting_note: str
    picked: float
    track_record: float
    track_record_deflated: float


def judge(run: Trial, others: Sequence[Trial]) -> Evidence:
    """Return the evidence for a run among other trials on its data, whose returns are all of their own.

    Parameters
    ----------
    run : Trial
        With at least 20 sessions, on which it varies.
    others : sequence of Trial

    Notes
    -----
    The variance among trials is that of the matrix on its days. With trials outside of it, which count as independent, it is at
    least 1/T, that of independent trials without skill; so it is where the matrix holds the run alone.
    """
    sample = sharpe_sample(run.returns.to_numpy())
    matrix = align_trials(run, others)
    m, k = len(matrix.trials), len(matrix.outside)
    statistic = sample.ratio / sample.standard_error
    single = float(ndtr(statistic))
    variance = float(sharpe_ratios(matrix.returns, periods_per_year=1).var(ddof=1)) if m > 1 else 0.0
    if k:
        variance = max(variance, 1.0 / sample.periods)
    inside, among, clusters, rank = single, 1.0, 1, 1.0
    if m > 1:
        luck = noise_maximum(matrix.returns, draws=DRAWS)
        inside, among = 1.0 - luck.p_value(statistic), luck.independent_trials
        clusters, rank = cluster_trials(matrix.returns).count, effective_rank(matrix.returns)
    deflated = deflated_sharpe(sample, trials=among + k, trial_variance=variance)
    overfitting, note = _overfitting(matrix)
    return Evidence(
        sample=sample,
        matrix=matrix,
        independent=among + k,
        clusters=clusters,
        effective_rank=rank,
        deflated=deflated,
        p_value=1.0 - inside * single**k,
        p_value_independent=1.0 - single ** (m + k),
        overfitting=overfitting,
        overfitting_note=note,
        picked=math.nan if overfitting is None else float((overfitting.selected == 0).mean()),
        track_record=minimum_track_record(sample),
        track_record_deflated=minimum_track_record(sample, deflated.benchmark),
    )


def _overfitting(matrix: TrialMatrix) -> tuple[BacktestOverfitting | None, str]:
    """Return the probability of overfitting of the matrix, or why there is none."""
    days, trials = matrix.returns.shape
    if trials < 2:
        return None, "there is no other trial on the same days"
    if days < BLOCKS * BLOCK_DAYS:
        return None, f"needs {BLOCKS * BLOCK_DAYS} days common to the trials; there are {days}"
    return probability_of_overfitting(matrix.returns, blocks=BLOCKS), ""


@dataclass(frozen=True, eq=False)
class TrialReport:
    """A run among the trials on its data set, as they are known when it is asked for.

    Attributes
    ----------
    trial : Trial
    family : tuple of Trial
        All that count, this one among them, the last recorded first.
    distinct : int
        Of them with returns of their own.
    place : int
        Of this run among the family by Sharpe ratio before fees, each over its own sessions, 1 the highest; 0 where it has none.
    evidence : Evidence or None
        None where the run is shorter than 20 sessions or does not vary.
    notes : tuple of str
        What a reader must know of the count.
    periods_per_year : int
    """

    trial: Trial
    family: tuple[Trial, ...]
    distinct: int
    place: int
    evidence: Evidence | None
    notes: tuple[str, ...]
    periods_per_year: int

    def lines(self) -> list[str]:
        """Return the report as lines of text."""
        n, own = len(self.family), self.distinct
        same = "" if own == n else f", {own} with returns of their own"
        data = f"{self.trial.data_name!r} ({self.trial.fingerprint[:8]})"
        lines = [f"{self.trial.run}: {n} trial{'s'[: n != 1]} on data set {data}{same}"]
        if self.evidence is not None:
            lines += _evidence_lines(self.evidence, self.place, n, self.periods_per_year)
        return [*lines, *(f"note: {note}" for note in self.notes)]

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON takes it, its ratios per year; None where a number does not exist or is infinite."""
        record: dict[str, Any] = {
            "trials": len(self.family),
            "distinct": self.distinct,
            "place": self.place,
            "notes": list(self.notes),
            "family": [trial.key for trial in self.family],
        }
        found, year = self.evidence, self.periods_per_year
        if found is None:
            return {**record, "evidence": None}
        over = found.overfitting
        numbers = {
            "sharpe_before_fees": found.sample.ratio * year**0.5,
            "standard_error": found.sample.standard_error * year**0.5,
            "independent_trials": found.independent,
            "clusters": found.clusters,
            "effective_rank": found.effective_rank,
            "deflated_sharpe": found.deflated.probability,
            "deflated_benchmark": found.deflated.benchmark * year**0.5,
            "familywise_p_value": found.p_value,
            "familywise_p_value_independent": found.p_value_independent,
            "probability_of_overfitting": math.nan if over is None else over.probability,
            "picked": found.picked,
            "minimum_track_record_sessions": found.track_record,
            "minimum_track_record_sessions_deflated": found.track_record_deflated,
        }
        known = {name: value if math.isfinite(value) else None for name, value in numbers.items()}
        matrix = {
            "common_days": len(found.matrix.dates),
            "inside": len(found.matrix.trials),
            "outside": len(found.matrix.outside),
        }
        return {**record, "evidence": {**known, "matrix": matrix, "overfitting_note": found.overfitting_note}}


def _evidence_lines(found: Evidence, place: int, trials: int, year: int) -> list[str]:
    sample, deflated, matrix = found.sample, found.deflated, found.matrix
    outside = f"; {len(matrix.outside)} that do not fit in count as one each" if matrix.outside else ""
    lines = [
        f"Sharpe ratio before fees {sample.ratio * year**0.5:.2f} a year, standard error {sample.standard_error * year**0.5:.2f}, "
        f"{sample.periods} sessions: number {place} of {trials}",
        f"independent trials {found.independent:.1f} ({len(matrix.trials)} on {len(matrix.dates)} common days{outside}); beside it, "
        f"and not to deflate by: {found.clusters} cluster{'s'[: found.clusters != 1]}, effective rank {found.effective_rank:.1f}",
        f"familywise p-value {found.p_value:.4f}: the best of the trials would show this if none had skill "
        f"(were all independent: {found.p_value_independent:.4f})",
        f"deflated Sharpe ratio {deflated.probability:.3f} against {deflated.benchmark * year**0.5:.2f} a year, the best of them without "
        "skill; blunt: from 0.95 on it is safe, below it says little",
    ]
    over = found.overfitting
    if over is None:
        lines.append(f"probability of backtest overfitting: none, for {found.overfitting_note}")
    else:
        _, low, high = max(row for row in NOISE_RANGE if row[0] <= over.trials)
        lines.append(
            f"probability of backtest overfitting {over.probability:.2f} over {over.trials} trials, this run the pick of "
            f"{found.picked:.0%} of halves; weak: of so many trials without skill nine data sets of ten show {low:.2f} to {high:.2f}"
        )
    lengths = [
        f"{sessions / year:.1f} years" if math.isfinite(sessions) else "no length"
        for sessions in (found.track_record, found.track_record_deflated)
    ]
    lines.append(
        f"minimum track record at 95 %: {lengths[0]} to show a ratio above 0, {lengths[1]} above that of the best without skill; "
        f"there are {sample.periods / year:.1f} years"
    )
    return lines


def trial_report(run: Run, *, also: Sequence[Path] = ()) -> TrialReport:
    """Return a run judged by all trials on its data set that are known in the folder that holds it.

    Parameters
    ----------
    run : Run
        Recorded or not.
    also : sequence of Path
        Other folders of runs whose trials count.

    Raises
    ------
    DataError
        If a ledger cannot be read.
    """
    trial, place = trial_of(run), run.folder.resolve().parent
    found = read_folder(place, also=also)
    family = tuple(one for one in found.trials if one.key == trial.key or trial.shares_data_with(one))
    trial = next(one for one in family if one.key == trial.key)
    distinct = {other.returns_hash: other for other in reversed(family) if other.returns_hash != trial.returns_hash}
    evidence, notes = None, []
    values = trial.returns.to_numpy()
    if len(values) < SHORTEST_SAMPLE:
        notes.append(f"no evidence: it needs {SHORTEST_SAMPLE} sessions; there are {len(values)}")
    elif not np.isfinite(values).all() or np.ptp(values) == 0.0:
        notes.append("no evidence: the run's returns do not vary or are not finite")
    else:
        evidence = judge(trial, list(distinct.values()))
    keys = {one.key for one in family}
    lost = sum(trial_of(one).key in keys for one in found.unrecorded)
    if len(family) == 1:
        notes.append(
            "the only trial known on this data set: the ratio is deflated by nothing, as if nothing else was tried"
        )
    if lost:
        notes.append(
            f"{lost} of them not in the ledger, read from run folders; `metafolio trials {place} --record` adds them"
        )
    notes += [f"not counted: {problem}" for problem in found.unreadable]
    ratio = trial.sharpe_before_fees
    higher = sum(one.sharpe_before_fees > ratio for one in family)
    return TrialReport(
        trial=trial,
        family=family,
        distinct=1 + len(distinct),
        place=0 if math.isnan(ratio) else 1 + higher,
        evidence=evidence,
        notes=tuple(notes),
        periods_per_year=run.record["data"]["periods_per_year"],
    )
