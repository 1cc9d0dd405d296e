"""A run is judged by every trial that counts, on the days that they share, and what is not clear counts against it."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from run_files import write_run
from scipy.stats import binom, norm
from test_trials import trial

from backtest import Run
from backtest.overfitting import probability_of_overfitting
from backtest.sharpe import sharpe_sample
from backtest.sharpe_tests import deflated_sharpe, minimum_track_record, probabilistic_sharpe
from backtest.trial_count import noise_maximum
from backtest.trial_ledger import LEDGER, record_trial, write_trial
from backtest.trial_report import DRAWS, NOISE_RANGE, align_trials, judge, trial_report
from backtest.trials import Trial, trial_of

START = "2022-01-03"


def earning(returns: np.ndarray, *, name: str, first: int = 0) -> Trial:
    """Return a trial with these returns from business day `first` on."""
    dates = pd.bdate_range(START, periods=first + len(returns), name="date")[first:]
    return dataclasses.replace(trial(), run=name, returns=pd.Series(returns, index=dates))


def noise(seed: int, days: int, *, name: str, first: int = 0, drift: float = 0.0) -> Trial:
    return earning(np.random.default_rng(seed).normal(drift, 0.01, days), name=name, first=first)


def test_trials_are_aligned_on_the_days_that_they_share() -> None:
    run = noise(0, 300, name="run", first=50)
    others = [
        noise(1, 400, name="longer"),  # days 0-399: all of the run's 50-349
        noise(2, 200, name="early"),  # to 199: shares 150, half
        noise(3, 300, name="late", first=150),  # shares 200, and 50 with `early`: would leave too few
        noise(4, 100, name="short", first=60),  # shares 100: less than half
        noise(5, 300, name="gap", first=50),
    ]
    found = align_trials(run, others)
    assert [one.run for one in found.trials[:1]] == ["run"]
    assert {one.run for one in found.trials} == {"run", "longer", "gap", "late"}
    assert {one.run for one in found.outside} == {"early", "short"}
    assert list(found.dates) == list(pd.bdate_range(START, periods=350)[150:])
    for column, one in enumerate(found.trials):
        np.testing.assert_array_equal(found.returns[:, column], one.returns.loc[found.dates].to_numpy())
    again = align_trials(run, others[::-1])
    assert [one.run for one in again.trials] == [one.run for one in found.trials]
    np.testing.assert_array_equal(again.returns, found.returns)


def test_exactly_half_of_the_sessions_is_enough() -> None:
    run = noise(0, 100, name="run")
    assert len(align_trials(run, [noise(1, 50, name="half")]).trials) == 2
    assert len(align_trials(run, [noise(1, 49, name="less")]).trials) == 1


def test_holes_in_a_trial_leave_the_matrix_without_those_days() -> None:
    run, other = noise(0, 100, name="run"), noise(1, 100, name="holes")
    kept = np.arange(100) % 7 != 3
    holed = dataclasses.replace(other, returns=other.returns[kept])
    found = align_trials(run, [holed])
    assert list(found.dates) == list(other.returns.index[kept])
    assert found.returns.shape == (kept.sum(), 2)


def test_what_does_not_vary_or_is_not_finite_is_outside_and_never_the_run() -> None:
    run = earning(np.r_[np.zeros(60), np.random.default_rng(0).normal(0, 0.01, 40)], name="run")
    flat = earning(np.zeros(100), name="flat")
    broken = earning(np.r_[np.nan, np.ones(99)], name="broken")
    # On its days, the first 60, the run itself does not vary.
    first_half = noise(1, 60, name="first half")
    found = align_trials(run, [flat, broken, first_half, noise(2, 100, name="fits")])
    assert [one.run for one in found.trials] == ["run", "fits"]
    assert {one.run for one in found.outside} == {"flat", "broken", "first half"}


def test_a_single_trial_is_deflated_by_nothing(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", sessions=300, assets=6, models=2, attributed=False)
    record_trial(run)
    found = trial_report(run)
    assert found.evidence is not None
    sample = sharpe_sample(run.nav["return_before_fees"])
    evidence = found.evidence
    assert (len(found.family), found.distinct, found.place) == (1, 1, 1)
    assert (evidence.independent, evidence.clusters, evidence.effective_rank) == (1.0, 1, 1.0)
    assert evidence.deflated.probability == pytest.approx(probabilistic_sharpe(sample), rel=1e-12)
    assert evidence.p_value == pytest.approx(1 - probabilistic_sharpe(sample), rel=1e-9)
    assert evidence.p_value_independent == pytest.approx(evidence.p_value, rel=1e-12)
    assert evidence.overfitting is None
    assert evidence.track_record == evidence.track_record_deflated == minimum_track_record(sample)
    text = "\n".join(found.lines())
    assert "1 trial on data set 'A test market'" in text
    assert "the only trial known on this data set" in text
    assert "none, for there is no other trial on the same days" in text


def test_numbers_are_those_of_the_tests_on_the_matrix() -> None:
    common = np.random.default_rng(9).normal(0, 0.01, 400)
    own = np.random.default_rng(8).normal(3e-4, 0.01, (400, 5))
    trials = [earning(0.6 * common + own[:, i], name=f"t{i}") for i in range(5)]
    short = [noise(20 + i, 30, name=f"s{i}") for i in range(2)]
    found = judge(trials[0], [*trials[1:], *short])
    matrix = found.matrix.returns
    assert matrix.shape == (400, 5)
    luck = noise_maximum(matrix, draws=DRAWS)
    sample = sharpe_sample(trials[0].returns.to_numpy())
    t = sample.ratio / sample.standard_error
    assert found.independent == pytest.approx(luck.independent_trials + 2)
    assert found.p_value == pytest.approx(1 - (1 - luck.p_value(t)) * norm.cdf(t) ** 2)
    assert found.p_value_independent == pytest.approx(1 - norm.cdf(t) ** 7)
    variance = max((matrix.mean(axis=0) / matrix.std(axis=0, ddof=1)).var(ddof=1), 1 / 400)
    wanted = deflated_sharpe(sample, trials=found.independent, trial_variance=variance)
    assert found.deflated == wanted
    assert found.overfitting is not None
    assert found.overfitting.probability == probability_of_overfitting(matrix).probability
    assert found.picked == pytest.approx((found.overfitting.selected == 0).mean())
    assert found.track_record_deflated > found.track_record


def test_every_trial_that_counts_makes_the_evidence_weaker() -> None:
    run = noise(0, 300, name="run", drift=1e-3)
    inside, outside = noise(1, 300, name="inside"), noise(2, 40, name="outside")
    alone, one, two = judge(run, []), judge(run, [inside]), judge(run, [inside, outside])
    far = judge(run, [outside])
    assert alone.p_value < one.p_value < two.p_value
    assert alone.p_value < far.p_value == pytest.approx(1 - (1 - alone.p_value) ** 2)
    assert far.independent == 2.0
    assert far.deflated.trial_deviation == pytest.approx(300**-0.5)
    assert alone.deflated.probability > far.deflated.probability


def test_trials_with_the_same_returns_are_one_and_count_as_recorded(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", sessions=300, assets=6, models=2, attributed=False)
    record_trial(run)
    alone = trial_report(run)
    for i in range(4):
        write_trial(dataclasses.replace(trial_of(run), code=f"{i}" * 64, run=f"edit {i}"), tmp_path / LEDGER)
    found = trial_report(run)
    assert (len(found.family), found.distinct) == (5, 1)
    assert found.evidence is not None
    assert alone.evidence is not None
    assert found.evidence.p_value == alone.evidence.p_value
    assert "5 trials on data set 'A test market' (abababab), 1 with returns of their own" in found.lines()[0]


@pytest.mark.parametrize(
    ("change", "counts"),
    [
        ({}, True),
        ({"fingerprint": "ef" * 32, "data_path": "/extended"}, True),  # the data set a day later, elsewhere
        ({"data_name": "other", "data_path": "/other"}, True),  # the same files under another name
        ({"data_name": "other", "fingerprint": "ef" * 32}, True),  # the same folder, corrected and named anew
        ({"data_name": "other", "data_path": "/other", "fingerprint": "ef" * 32}, False),
    ],
)
def test_what_data_set_a_trial_is_on(change: dict[str, str], counts: bool) -> None:
    one = noise(0, 100, name="one")
    assert one.shares_data_with(dataclasses.replace(noise(1, 100, name="two"), **change)) is counts
    assert one.shares_data_with(dataclasses.replace(noise(1, 100, name="two", first=99), **change)) is counts
    assert not one.shares_data_with(dataclasses.replace(noise(1, 100, name="two", first=100), **change))


def test_data_sets_without_a_name_are_not_one_for_it() -> None:
    one = dataclasses.replace(trial(0), data_name="")
    assert not one.shares_data_with(dataclasses.replace(trial(1), data_name="", data_path="/b", fingerprint="ef" * 32))


def test_a_report_says_what_is_not_in_the_ledger_and_what_cannot_be_read(tmp_path: Path) -> None:
    run = write_run(tmp_path / "a", sessions=200, assets=6, models=2, attributed=False)
    write_run(tmp_path / "b", sessions=200, assets=6, models=2, attributed=False, seed=1)
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "run.json").write_text("[")
    record_trial(run)
    found = trial_report(run)
    assert len(found.family) == 2
    assert any("1 of them not in the ledger" in note and "--record" in note for note in found.notes)
    assert any("not counted" in note and "c" in note for note in found.notes)
    (tmp_path / LEDGER).unlink()
    assert any("2 of them not in the ledger" in note for note in trial_report(run).notes)


@pytest.mark.parametrize("sessions", [5, 19])
def test_a_run_that_is_too_short_is_counted_and_not_judged(sessions: int, tmp_path: Path) -> None:
    short = write_run(tmp_path / "short", sessions=sessions, assets=6, models=2, attributed=False, status="stopped")
    long = write_run(tmp_path / "long", sessions=200, assets=6, models=2, attributed=False, seed=1)
    for run in (short, long):
        record_trial(run)
    found = trial_report(short)
    assert (found.evidence, found.place, len(found.family)) == (None, 0, 2)
    assert "it needs 20 sessions" in found.notes[0]
    assert found.to_dict()["evidence"] is None
    other = trial_report(long).evidence
    assert other is not None
    assert [one.run for one in other.matrix.outside] == ["short"]


def test_a_bankrupt_run_is_judged_as_it_is(tmp_path: Path) -> None:
    run = write_run(tmp_path / "lost", sessions=200, assets=6, models=2, attributed=False, status="bankrupt")
    record_trial(run)
    record_trial(write_run(tmp_path / "other", sessions=200, assets=6, models=2, attributed=False, seed=1))
    found = trial_report(Run(run.folder))
    assert found.evidence is not None
    assert found.evidence.sample.ratio < 0
    assert math.isinf(found.evidence.track_record)
    assert "no length to show a ratio above 0" in "\n".join(found.lines())
    record = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert record["evidence"]["minimum_track_record_sessions"] is None
    assert (record["trials"], record["place"]) == (2, 2)


def test_the_probability_of_overfitting_needs_days() -> None:
    found = judge(noise(0, 159, name="run"), [noise(1, 159, name="other")])
    assert found.overfitting is None
    assert found.overfitting_note == "needs 160 days common to the trials; there are 159"
    assert judge(noise(0, 160, name="run"), [noise(1, 160, name="other")]).overfitting is not None


def test_the_range_that_is_shown_with_it_is_that_of_noise() -> None:
    rng = np.random.default_rng(5)
    for trials, low, high in NOISE_RANGE[:2]:
        values = [
            probability_of_overfitting(rng.standard_normal((480, trials)), blocks=16).probability for _ in range(60)
        ]
        inside = sum(low <= value <= high for value in values)
        assert binom.ppf(0.001, 60, 0.85) <= inside


def test_among_trials_without_skill_the_best_is_called_significant_as_often_as_stated() -> None:
    rng, level, called, sets = np.random.default_rng(11), 0.2, 0, 60
    for _ in range(sets):
        common = rng.standard_normal(250)
        returns = 0.01 * (0.7 * common[:, None] + rng.standard_normal((250, 8)))
        trials = [earning(returns[:, i], name=f"t{i}") for i in range(8)]
        trials += [earning(0.01 * rng.standard_normal(90), name=f"s{i}") for i in range(2)]
        samples = [sharpe_sample(one.returns.to_numpy()) for one in trials]
        best = int(np.argmax([sample.ratio / sample.standard_error for sample in samples]))
        called += judge(trials[best], trials[:best] + trials[best + 1 :]).p_value <= level
    assert 1 <= called <= binom.ppf(0.999, sets, level)
