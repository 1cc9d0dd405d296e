"""Tests of VaR coverage: their exact laws, the literature's numbers, and records at the limits."""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, binomtest, kstest

from risk import DataError
from risk.var_tests import (
    CoverageTest,
    _conditional_law,
    _independence_given,
    _pof,
    binomial,
    christoffersen_independence,
    conditional_coverage,
    coverage_tests,
    kupiec,
    traffic_light,
)


def record(periods: int, exceptions: int) -> np.ndarray:
    return np.arange(periods) < exceptions


def test_statistics_are_those_of_a_published_record() -> None:
    # The worked example of MathWorks, Risk Management Toolbox, varbacktest/cc (mathworks.com/help/risk/varbacktest.cc.html):
    # 1043 days at 95 %, 57 failures, N00 932, N01 53, N10 53, N11 4.
    exceptions = np.zeros(1043, bool)
    exceptions[10 : 10 + 53 * 10 : 10] = True
    exceptions[11 : 11 + 4 * 10 : 10] = True
    before, after = exceptions[:-1], exceptions[1:]
    assert [(~before & ~after).sum(), (~before & after).sum(), (before & ~after).sum(), (before & after).sum()] == [
        932, 53, 53, 4,
    ]  # fmt: skip
    unconditional, independence = kupiec(exceptions, 0.95), christoffersen_independence(exceptions, 0.95)
    both = conditional_coverage(exceptions, 0.95)
    for test, statistic, p_value in (
        (unconditional, 0.46147, 0.49694), (independence, 0.25866, 0.61104), (both, 0.72013, 0.69763),
    ):  # fmt: skip
        assert test.statistic == pytest.approx(statistic, abs=6e-6)
        assert test.asymptotic_p_value == pytest.approx(p_value, abs=6e-6)


def test_supervisors_zones_are_0_to_4_5_to_9_and_10_or_more() -> None:
    zones = [traffic_light(record(250, x), 0.99) for x in range(12)]
    assert zones == ["green"] * 5 + ["yellow"] * 5 + ["red"] * 2


def runs_and_statistic(bits: tuple[bool, ...], q: float) -> tuple[float, float]:
    """LR_ind and LR_cc of a record by the textbook's formulas, with 0 log 0 = 0 spelled out."""
    n = {(a, b): 0 for a in (0, 1) for b in (0, 1)}
    for a, b in itertools.pairwise(bits):
        n[int(a), int(b)] += 1

    def term(count: int, probability: float) -> float:
        return count * math.log(probability) if count else 0.0

    n0, n1, ones = n[0, 0] + n[0, 1], n[1, 0] + n[1, 1], n[0, 1] + n[1, 1]
    p01, p11, p = n[0, 1] / max(n0, 1), n[1, 1] / max(n1, 1), ones / max(n0 + n1, 1)
    apart = term(n[0, 0], 1 - p01) + term(n[0, 1], p01) + term(n[1, 0], 1 - p11) + term(n[1, 1], p11)
    independence = 2 * (apart - term(n0 + n1 - ones, 1 - p) - term(ones, p))
    x, T = sum(bits), len(bits)
    free = term(x, x / T) + term(T - x, 1 - x / T)
    return independence, independence + 2 * (free - term(x, q) - term(T - x, 1 - q))


@pytest.mark.parametrize("periods", [1, 2, 5, 11])
def test_exact_laws_are_those_of_every_record_counted(periods: int) -> None:
    q = 0.23
    conditional: dict[float, float] = defaultdict(float)
    given_x: dict[int, dict[float, float]] = defaultdict(lambda: defaultdict(float))
    for bits in itertools.product([False, True], repeat=periods):
        independence, both = runs_and_statistic(bits, q)
        x = sum(bits)
        conditional[round(both, 7) + 0.0] += q**x * (1 - q) ** (periods - x)
        given_x[x][round(independence, 7) + 0.0] += 1 / math.comb(periods, x)

    def collected(values: np.ndarray, probabilities: np.ndarray) -> dict[float, float]:
        law: dict[float, float] = defaultdict(float)
        for value, probability in zip(values, probabilities, strict=True):
            law[round(float(value), 7) + 0.0] += float(probability)
        return law

    assert collected(*_conditional_law(periods, q)) == pytest.approx(conditional, abs=1e-12)
    for x in range(periods + 1):
        assert collected(*_independence_given(x, periods)) == pytest.approx(given_x[x], abs=1e-12)


@given(st.lists(st.booleans(), min_size=1, max_size=60), st.sampled_from([0.9, 0.95, 0.99]), st.integers(0, 99))
@settings(max_examples=60, deadline=None)
def test_every_record_has_finite_statistics_and_ordered_p_values(bits: list[bool], level: float, seed: int) -> None:
    exceptions = np.array(bits)
    table = coverage_tests(exceptions, level, seed=seed)
    assert np.isfinite(table.drop(columns="definition").to_numpy(float)).all()
    assert (table["randomised_p_value"] <= table["p_value"]).all()
    assert table["p_value"].between(0, 1).all()
    independence, both = runs_and_statistic(tuple(bits), 1 - level)
    assert christoffersen_independence(exceptions, level).statistic == pytest.approx(independence, abs=1e-9)
    assert conditional_coverage(exceptions, level).statistic == pytest.approx(both, abs=1e-9)


@pytest.mark.parametrize("periods", [1, 2, 250])
def test_statistics_of_no_exception_and_of_nothing_else_are_their_limits(periods: int) -> None:
    nothing, everything = record(periods, 0), record(periods, periods)
    assert kupiec(nothing, 0.99).statistic == pytest.approx(-2 * periods * math.log(0.99), rel=1e-12)
    assert kupiec(everything, 0.99).statistic == pytest.approx(-2 * periods * math.log(0.01), rel=1e-12)
    for extreme in (nothing, everything):
        assert christoffersen_independence(extreme, 0.99).statistic == 0
        assert christoffersen_independence(extreme, 0.99).p_value == 1
        assert conditional_coverage(extreme, 0.99).statistic == kupiec(extreme, 0.99).statistic


@pytest.mark.parametrize(
    ("alternative", "name"), [("two-sided", "binomial_two_sided"), ("greater", "binomial_greater")]
)
def test_binomial_p_values_are_those_of_scipy(alternative: str, name: str) -> None:
    for x in (0, 2, 5, 9, 40):
        test = binomial(record(250, x), 0.97, alternative=alternative)  # type: ignore[arg-type]
        assert test.name == name
        assert test.p_value == pytest.approx(binomtest(x, 250, 0.03, alternative).pvalue, rel=1e-9)


def exact_levels(values: np.ndarray, probabilities: np.ndarray, significance: float) -> tuple[float, float]:
    """Return P(randomised p-value <= significance) and P(exact one <= significance) from the whole law of a statistic."""
    _, index = np.unique(np.round(values, 7), return_inverse=True)
    weight = np.bincount(index, probabilities)
    above = weight[::-1].cumsum()[::-1] - weight
    randomised = weight @ np.clip((significance - above) / weight, 0, 1)
    return float(randomised), float(weight[above + weight <= significance].sum())


@pytest.mark.parametrize("periods", [250, 1000])
@pytest.mark.parametrize("q", [0.01, 0.05])
@pytest.mark.parametrize("significance", [0.01, 0.05, 0.10])
def test_levels_are_exact_without_simulation(periods: int, q: float, significance: float) -> None:
    numbers = np.arange(periods + 1)
    probability = binom.pmf(numbers, periods, q)
    likely = probability > 1e-20
    laws = [
        (_pof(numbers.astype(float), periods, q)[likely], probability[likely]),
        _conditional_law(periods, q),
        _independence_given(int(periods * q), periods),
    ]
    for values, weights in laws:
        assert weights.sum() == pytest.approx(1, abs=1e-10)
        randomised, exact = exact_levels(values, weights, significance)
        assert randomised == pytest.approx(significance, abs=1e-10)
        assert exact <= significance


@pytest.mark.parametrize("test", [kupiec, binomial, christoffersen_independence, conditional_coverage])
def test_randomised_p_values_of_drawn_records_are_uniform(test: Callable[..., CoverageTest]) -> None:
    # At 250 days and 99 % the statistics take so few values that p-values whose ties are not broken are far from uniform.
    draws = np.random.default_rng(5).random((2000, 250)) < 0.01
    results = [test(draw, 0.99, seed=i) for i, draw in enumerate(draws)]
    assert kstest([result.randomised_p_value for result in results], "uniform").pvalue > 0.01
    assert kstest([result.p_value for result in results], "uniform").pvalue < 1e-6


def test_clustered_exceptions_are_found_and_scattered_ones_are_not() -> None:
    scattered, clustered = np.zeros(500, bool), np.zeros(500, bool)
    scattered[::20], clustered[100:125] = True, True
    assert clustered.sum() == scattered.sum() == 25
    assert kupiec(clustered, 0.95).p_value > 0.9
    assert christoffersen_independence(clustered, 0.95).p_value < 1e-6
    assert christoffersen_independence(scattered, 0.95).p_value > 0.05
    assert conditional_coverage(clustered, 0.95).p_value < 1e-6


@pytest.mark.parametrize(
    ("exceptions", "level", "message"),
    [
        ([], 0.99, "`exceptions` must be boolean"),
        ([0, 1], 0.99, "`exceptions` must be boolean"),
        (np.zeros((2, 2), bool), 0.99, "`exceptions` must be boolean"),
        ([True, False], 0.01, "`level` must lie"),
        ([True, False], 1.0, "`level` must lie"),
        ([True, False], float("nan"), "`level` must lie"),
    ],
)
def test_what_is_no_record_or_no_level_is_refused(exceptions: object, level: float, message: str) -> None:
    for test in (kupiec, binomial, christoffersen_independence, conditional_coverage, traffic_light):
        with pytest.raises(DataError, match=message):
            test(exceptions, level)  # type: ignore[operator]
