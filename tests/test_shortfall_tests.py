"""Tests of expected shortfall: published critical values, power, exact p-values."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import kstest, ttest_1samp

from risk import DataError
from risk.laws import StudentLaw
from risk.shortfall_tests import _studentised, _szekely, acerbi_szekely, mcneil_frey, monte_carlo_p_value

LEVEL = 0.975


def forecasts(law: StudentLaw, periods: int) -> tuple[np.ndarray, np.ndarray]:
    return np.full(periods, law.value_at_risk(LEVEL)), np.full(periods, law.expected_shortfall(LEVEL))


def draws(law: StudentLaw, shape: tuple[int, int], seed: int) -> np.ndarray:
    return law.quantile(np.random.default_rng(seed).random(shape))


@pytest.mark.parametrize(("dof", "critical"), [(3.0, -0.42986), (float("inf"), -0.34639)])
def test_critical_values_are_those_that_mathworks_prints(dof: float, critical: float) -> None:
    # MathWorks, Risk Management Toolbox, esbacktest/unconditionalT and unconditionalNormal (mathworks.com/help/risk):
    # T = 1966 at 97.5 %, test level 99 %.
    law = StudentLaw(dof)
    var, shortfall = forecasts(law, 1966)
    rng = np.random.default_rng(1)
    z = np.empty(4000)
    for i in range(0, 4000, 500):
        drawn = rng.standard_normal((500, 1966))
        if dof == 3.0:
            drawn /= np.sqrt(rng.chisquare(3.0, (500, 1966)))  # a t of variance 1: sqrt((3 - 2)/3) sqrt(3) = 1
        z[i : i + 500] = _szekely(drawn, var, shortfall, 1 - LEVEL)
    # The share below the printed value must be 1 %, within four binomial standard errors.
    assert (z < critical).mean() == pytest.approx(0.01, abs=4 * np.sqrt(0.01 * 0.99 / len(z)))
    assert z.mean() == pytest.approx(0, abs=4 * z.std() / np.sqrt(len(z)))


def test_statistics_are_those_of_slow_sums() -> None:
    rng = np.random.default_rng(2)
    r, sigma = rng.standard_t(4, 300), rng.uniform(0.8, 1.2, 300)
    var, shortfall = 1.5 * sigma, 2.1 * sigma
    total, excess = 0.0, []
    for t in range(300):
        if -r[t] > var[t]:
            total += -r[t] / shortfall[t]
            excess.append((-r[t] - shortfall[t]) / sigma[t])
    scenarios = rng.standard_t(4, (99, 300))
    z = acerbi_szekely(r, var, shortfall, LEVEL, scenarios)
    assert z.statistic == pytest.approx(1 - total / (300 * (1 - LEVEL)), rel=1e-12)
    assert z.exceptions == len(excess)
    test = mcneil_frey(r, var, shortfall, sigma, LEVEL)
    assert test.statistic == pytest.approx(ttest_1samp(excess, 0).statistic, rel=1e-12)


def test_p_values_are_uniform_under_the_null() -> None:
    law = StudentLaw(4.0)
    var, shortfall = forecasts(law, 250)
    scenarios = draws(law, (499, 250), 3)
    records = draws(law, (400, 250), 4)
    z = [acerbi_szekely(r, var, shortfall, LEVEL, scenarios, seed=i).p_value for i, r in enumerate(records)]
    m = [
        mcneil_frey(r, var, shortfall, np.ones(250), LEVEL, scenarios=scenarios, seed=i).p_value
        for i, r in enumerate(records)
    ]
    assert kstest(z, "uniform").pvalue > 0.01
    assert kstest(m, "uniform").pvalue > 0.01


def test_understated_tails_are_found() -> None:
    normal, fat = StudentLaw(float("inf")), StudentLaw(3.0)
    var, shortfall = forecasts(normal, 1000)
    scenarios, r = draws(normal, (499, 1000), 5), draws(fat, (1, 1000), 6)[0]
    assert acerbi_szekely(1.3 * r, var, shortfall, LEVEL, scenarios).p_value < 0.01
    for given in (scenarios, None):
        assert mcneil_frey(r, var, shortfall, np.ones(1000), LEVEL, scenarios=given).p_value < 0.01
    # Tails of the right size, but of a fatter law's number: only the test that counts them sees it.
    assert acerbi_szekely(0.5 * r, var, shortfall, LEVEL, scenarios).p_value > 0.5


@pytest.mark.parametrize("exceptions", [0, 1])
def test_records_with_hardly_an_exception_have_an_answer(exceptions: int) -> None:
    r = np.full(50, 0.01)
    r[:exceptions] = -9.0
    var, shortfall = forecasts(StudentLaw(5.0), 50)
    bootstrap = mcneil_frey(r, var, shortfall, np.ones(50), LEVEL)
    assert (bootstrap.p_value, bootstrap.method, bootstrap.statistic) == (1.0, "too few exceptions", 0.0)
    simulated = mcneil_frey(r, var, shortfall, np.ones(50), LEVEL, scenarios=draws(StudentLaw(5.0), (99, 50), 7))
    assert 0 < simulated.p_value <= 1
    if not exceptions:
        assert acerbi_szekely(r, var, shortfall, LEVEL, draws(StudentLaw(5.0), (99, 50), 7)).statistic == 1


def test_equal_exceedances_have_no_spread_and_a_statistic_of_zero() -> None:
    assert _studentised(np.ones((1, 5)), np.ones((1, 5))).tolist() == [0.0]


def test_ties_are_broken_evenly() -> None:
    p = [monte_carlo_p_value(np.zeros(99), 0.0, seed=seed) for seed in range(500)]
    assert kstest(p, "uniform").pvalue > 0.01
    assert monte_carlo_p_value(np.zeros(99), 1.0) == 0.01
    assert monte_carlo_p_value(np.zeros(99), -1.0) == 1.0


def test_bad_forecasts_and_scenarios_are_refused() -> None:
    good, scenarios = np.ones(30), np.zeros((19, 30))
    for var, shortfall, drawn, message in (
        (np.zeros(30), good, scenarios, "`value_at_risk` must be positive"),
        (good, -good, scenarios, "`expected_shortfall` must be positive"),
        (good[:-1], good, scenarios, "`value_at_risk` must have shape"),
        (good, good, np.zeros((5, 30)), "`scenarios` must have shape"),
        (good, good, np.full((19, 30), np.nan), "`scenarios` must be finite"),
    ):
        with pytest.raises(DataError, match=message):
            acerbi_szekely(good, var, shortfall, LEVEL, drawn)
