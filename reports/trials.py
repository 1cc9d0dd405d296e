"""A run among all backtests on its data, as statistics that the report shows beside those of the run alone."""

from __future__ import annotations

import math
from collections.abc import Iterator

from backtest.statistic import Band, Group, Statistic, Statistics, Unit
from backtest.trial_report import NOISE_RANGE, Evidence, TrialReport

__all__ = ["trial_statistics"]


def trial_statistics(report: TrialReport) -> Statistics:
    """Return what is left of a run's Sharpe ratio before fees when every trial on its data is counted.

    Parameters
    ----------
    report : TrialReport
        As `backtest.trial_report.trial_report` returns it.
    """
    n = len(report.family)
    place = (
        f"this run is number {report.place} by Sharpe ratio before fees" if report.place else "this run has no ratio"
    )
    said = "; ".join((f"{report.distinct} with returns of their own", place, *report.notes))
    count = Statistic(
        "trials", "Trials on this data set", float(n), Unit.COUNT,
        "Backtests known on the same data with a session in common, this run among them.", said,
        "Those of the ledger and of run folders beside it; what was never recorded is in no count.", group=Group.SHARPE,
    )  # fmt: skip
    found = report.evidence
    rest = () if found is None else _judged(found, report.periods_per_year)
    return Statistics((count, *rest))


def _judged(found: Evidence, year: int) -> Iterator[Statistic]:
    root, group, deflated = math.sqrt(year), Group.SHARPE, found.deflated
    outside = f", {len(found.matrix.outside)} that do not fit in" if found.matrix.outside else ""
    yield Statistic(
        "independent_trials", "Independent trials", found.independent, Unit.COUNT,
        "Number of independent trials whose best shows as much without skill.",
        f"{len(found.matrix.trials)} on {len(found.matrix.dates)} common days{outside}; {found.clusters} clusters",
        "By simulation with the trials' correlations; those that do not fit in count as one each.", group=group,
    )  # fmt: skip
    yield Statistic(
        "deflated_benchmark", "Best of them without skill", deflated.benchmark * root, Unit.RATIO,
        "Expected highest Sharpe ratio per year of so many independent trials without skill.", "",
        "Spread of the trials' ratios times the expected maximum (Bailey, Lopez de Prado 2014).", group=group,
    )  # fmt: skip
    yield Statistic(
        "deflated_sharpe", "Deflated Sharpe ratio", deflated.probability, Unit.PROBABILITY,
        "Confidence at which the true ratio is above that of the best of them without skill.", "",
        "From 95 % on it is safe; blunt: below it says little (Bailey, Lopez de Prado 2014).", group=group,
    )  # fmt: skip
    yield Statistic(
        "familywise_p_value", "Familywise p-value", found.p_value, Unit.PROBABILITY,
        "Probability that the best of the trials would show so high a ratio if none had skill.", "",
        "By simulation with the trials' correlations; significant at 5 % below 5 %.", group=group,
    )  # fmt: skip
    over, band, note = found.overfitting, None, found.overfitting_note
    if over is not None:
        _, low, high = max(row for row in NOISE_RANGE if row[0] <= over.trials)
        band = Band(low, high, "90 % of data sets of so many trials without skill")
        note = f"over {over.trials} trials, this run the pick of {100 * found.picked:.0f} % of halves"
    yield Statistic(
        "probability_of_overfitting", "Probability of backtest overfitting", math.nan if over is None else over.probability, Unit.PROBABILITY,
        "Share of halves of the days whose best trial ranks below the median in the other half.", note,
        "CSCV (Bailey, Borwein, Lopez de Prado, Zhu 2017); weak for one data set.", band, group,
    )  # fmt: skip
    needed, known = found.track_record_deflated, math.isfinite(found.track_record_deflated)
    enough = "long enough" if found.sample.periods >= needed else "too short"
    note = (
        f"{needed / year:.1f} years; the run has {found.sample.periods} sessions, {enough}"
        if known
        else "the ratio is not above it"
    )
    yield Statistic(
        "minimum_track_record_deflated", "Minimum track record, deflated", float(math.ceil(needed)) if known else math.nan, Unit.SESSIONS,
        "Sessions from which on such a record shows a true ratio above that of the best of them without skill, at 95 %.", note,
        "Ratio, skewness and kurtosis as they are.", group=group,
    )  # fmt: skip
