"""Value at risk and expected shortfall: closed forms, the literature's numbers, and out-of-sample records."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import norm
from scipy.stats import t as student

from risk import DataError, FactorModel
from risk.laws import EmpiricalLaw, StudentLaw, ewma_volatility, fit_dof
from risk.tail_backtest import VarMethod, backtest_var
from risk.tails import filtered_historical_tail, historical_tail, monte_carlo_tail, normal_tail, student_tail

KINDS = ("normal", "student", "historical", "filtered_historical", "monte_carlo")


@pytest.fixture(scope="module")
def model() -> FactorModel:
    rng = np.random.default_rng(21)
    root = rng.standard_normal((5, 5)) * 0.1
    return FactorModel(
        [f"A{i}" for i in range(60)],
        [f"f{k}" for k in range(5)],
        rng.standard_normal((60, 5)),
        root @ root.T,
        rng.uniform(0.02, 0.2, 60),
    )


@pytest.fixture(scope="module")
def weights() -> np.ndarray:
    return np.random.default_rng(22).standard_normal(60) / 60


@pytest.mark.parametrize("dof", [2.1, 3.0, 8.0, 150.0, math.inf])
@pytest.mark.parametrize("level", [0.9, 0.99])
def test_expected_shortfall_is_the_mean_of_the_quantiles_beyond(dof: float, level: float) -> None:
    law, q = StudentLaw(dof), 1 - level
    # With u = q y^k the integrand is tame where Q is steep.
    integral, _ = quad(lambda y: float(law.quantile(np.asarray(q * y**4))) * 4 * y**3, 0, 1, epsabs=1e-12)
    assert law.expected_shortfall(level) == pytest.approx(-integral, rel=1e-6)


@pytest.mark.parametrize("level", [0.90, 0.95, 0.975, 0.99, 0.995])
def test_expected_shortfall_is_the_integral_of_the_density(level: float) -> None:
    q = 1 - level
    for dof, density, spread in ((4.0, lambda x: student.pdf(x, 4), math.sqrt(0.5)), (math.inf, norm.pdf, 1.0)):
        law = StudentLaw(dof)
        edge = -law.value_at_risk(level) / spread
        mass, _ = quad(density, -math.inf, edge, epsabs=1e-13)
        tail, _ = quad(lambda x, f=density: x * f(x), -math.inf, edge, epsabs=1e-13)
        assert mass == pytest.approx(q, rel=1e-8)
        assert law.expected_shortfall(level) == pytest.approx(-spread * tail / q, rel=1e-8)


def test_a_t_of_many_degrees_of_freedom_is_normal() -> None:
    fat, normal = StudentLaw(1e7), StudentLaw(math.inf)
    assert fat.value_at_risk(0.99) == pytest.approx(normal.value_at_risk(0.99), rel=1e-6)
    assert fat.expected_shortfall(0.99) == pytest.approx(normal.expected_shortfall(0.99), rel=1e-6)


def test_parametric_tails_scale_with_the_model_and_the_horizon(model: FactorModel, weights: np.ndarray) -> None:
    daily = model.volatility(weights) / math.sqrt(252)
    tail = normal_tail(model, weights, level=0.975, horizon=4)
    assert tail.value_at_risk == pytest.approx(2 * daily * norm.ppf(0.975), rel=1e-12)
    assert tail.expected_shortfall == pytest.approx(2 * daily * norm.pdf(norm.ppf(0.975)) / 0.025, rel=1e-12)
    assert student_tail(model, weights, dof=5).value_at_risk == pytest.approx(
        daily * math.sqrt(3 / 5) * student.ppf(0.99, 5), rel=1e-12
    )
    assert normal_tail(model, np.zeros(60)).value_at_risk == 0


@pytest.mark.parametrize("dof", [4.0, math.inf])
def test_monte_carlo_meets_the_closed_form(model: FactorModel, weights: np.ndarray, dof: float) -> None:
    closed = student_tail(model, weights, dof=dof, level=0.975)
    drawn = monte_carlo_tail(model, weights, dof=dof, level=0.975, draws=200_000, seed=3)
    assert abs(drawn.value_at_risk - closed.value_at_risk) < 4 * drawn.value_at_risk_error
    assert abs(drawn.expected_shortfall - closed.expected_shortfall) < 4 * drawn.expected_shortfall_error
    assert drawn.value_at_risk_error < 0.01 * closed.value_at_risk
    assert monte_carlo_tail(model, weights, dof=dof, draws=2000, seed=3) == monte_carlo_tail(
        model, weights, dof=dof, draws=2000, seed=3
    )


def test_sums_of_t_returns_have_thinner_tails_than_one_scaled(model: FactorModel, weights: np.ndarray) -> None:
    scaled = student_tail(model, weights, dof=3.5, level=0.995, horizon=10)
    summed = monte_carlo_tail(model, weights, dof=3.5, level=0.995, horizon=10, draws=40_000)
    assert summed.expected_shortfall < scaled.expected_shortfall - 4 * summed.expected_shortfall_error
    normal = normal_tail(model, weights, level=0.995, horizon=10)
    assert summed.expected_shortfall > normal.expected_shortfall


def test_standard_errors_are_the_dispersion_of_repeated_samples() -> None:
    rng = np.random.default_rng(8)
    laws = [EmpiricalLaw(rng.standard_normal(2000)) for _ in range(400)]
    found = np.array(
        [(law.value_at_risk(0.95), law.expected_shortfall(0.95), *law.standard_errors(0.95)) for law in laws]
    )
    np.testing.assert_allclose(found[:, :2].mean(axis=0), [1.6449, 2.0627], atol=0.02)
    np.testing.assert_allclose(found[:, 2:].mean(axis=0), found[:, :2].std(axis=0), rtol=0.12)


def test_the_empirical_law_covers_a_new_return_of_any_law_exactly() -> None:
    rng = np.random.default_rng(9)
    sample, new = rng.standard_cauchy((40_000, 99)), rng.standard_cauchy(40_000)
    risk = np.array([EmpiricalLaw(row).value_at_risk(0.95) for row in sample])
    assert (new < -risk).mean() == pytest.approx(0.05, abs=4 * math.sqrt(0.05 * 0.95 / 40_000))


def test_empirical_shortfall_is_the_integral_of_its_quantile_function() -> None:
    law = EmpiricalLaw(np.random.default_rng(10).standard_normal(57))
    for level in (0.75, 0.9, 0.97):
        nodes = np.linspace(0, 1 - level, 200_001)
        assert law.expected_shortfall(level) == pytest.approx(
            -np.trapezoid(law.quantile(nodes), nodes) / (1 - level), rel=1e-6
        )
        assert law.expected_shortfall(level) >= law.value_at_risk(level)
    # 0.975 needs 39 returns, the level of the worst of them.
    assert EmpiricalLaw(np.arange(39.0)).value_at_risk(0.975) == pytest.approx(0, abs=1e-12)
    with pytest.raises(DataError, match="at least 39 returns"):
        EmpiricalLaw(np.arange(38.0)).value_at_risk(0.975)


def test_historical_tails_take_assets_or_a_book_and_overlapping_sums() -> None:
    rng = np.random.default_rng(11)
    returns, w = rng.standard_normal((300, 7)) * 0.01, rng.standard_normal(7)
    whole = historical_tail(returns, w, level=0.95, horizon=5)
    book = returns @ w
    sums = np.array([book[i : i + 5].sum() for i in range(296)])
    assert whole.value_at_risk == pytest.approx(EmpiricalLaw(sums).value_at_risk(0.95), rel=1e-12)
    assert whole.observations == 296
    assert historical_tail(book, level=0.95, horizon=5).value_at_risk == pytest.approx(whole.value_at_risk, rel=1e-12)
    assert whole.value_at_risk_error > historical_tail(book, level=0.95).value_at_risk_error


def test_filtered_tails_follow_the_volatility_of_today() -> None:
    rng = np.random.default_rng(12)
    annual = np.where(np.arange(1001) < 800, 0.10, 0.40)
    r = rng.standard_normal(1000) * annual[:-1] / math.sqrt(252)
    calm = filtered_historical_tail(r[:800], volatility=annual[:801].clip(max=0.1), level=0.95)
    stress = filtered_historical_tail(r, volatility=annual, level=0.95)
    assert calm.value_at_risk == pytest.approx(1.645 * 0.10 / math.sqrt(252), rel=0.15)
    assert stress.value_at_risk == pytest.approx(1.645 * 0.40 / math.sqrt(252), rel=0.15)
    assert historical_tail(r, level=0.95).value_at_risk < 0.7 * stress.value_at_risk
    ewma = filtered_historical_tail(r, half_life=30, level=0.95)
    assert ewma.observations == 970
    assert ewma.value_at_risk == pytest.approx(stress.value_at_risk, rel=0.35)
    week = filtered_historical_tail(r, volatility=annual, level=0.95, horizon=5)
    assert week.value_at_risk == pytest.approx(math.sqrt(5) * stress.value_at_risk, rel=0.1)


def test_exponentially_weighted_volatility_is_that_of_slow_sums_and_knows_no_tomorrow() -> None:
    r = np.random.default_rng(13).standard_normal(50) * 0.01
    fast = ewma_volatility(r, 7.0)
    for t in range(1, 51):
        weights = 0.5 ** ((t - 1 - np.arange(t)) / 7.0)
        assert fast[t] == pytest.approx(math.sqrt(weights @ r[:t] ** 2 / weights.sum()), rel=1e-12)
    later = np.where(np.arange(50) < 30, r, 9.0)
    np.testing.assert_array_equal(ewma_volatility(later, 7.0)[:31], fast[:31])


def test_degrees_of_freedom_are_found() -> None:
    rng = np.random.default_rng(14)
    assert fit_dof(rng.standard_t(4, 20_000) * 0.02) == pytest.approx(4, rel=0.15)
    assert fit_dof(rng.standard_normal(20_000)) > 40
    assert fit_dof(rng.uniform(-1, 1, 2000)) == pytest.approx(200, rel=0.01)


@pytest.mark.parametrize("kind", KINDS)
def test_a_backtest_forecasts_from_the_days_before_only(kind: str) -> None:
    rng = np.random.default_rng(15)
    r = rng.standard_t(5, 160) * 0.01
    method = VarMethod(kind=kind, window=60, half_life=10, draws=1000)
    record = backtest_var(r, method, level=0.95, scenarios=99)
    changed = r.copy()
    changed[100:] = -0.5
    again = backtest_var(changed, method, level=0.95, scenarios=99)
    seen = 100 - record.start + 1
    np.testing.assert_array_equal(record.value_at_risk[:seen], again.value_at_risk[:seen])
    np.testing.assert_array_equal(record.expected_shortfall[:seen], again.expected_shortfall[:seen])
    assert (record.value_at_risk[seen:] != again.value_at_risk[seen:]).any()
    assert record.start == 70
    assert len(record.exceptions) == 90
    assert (record.expected_shortfall >= record.value_at_risk).all()
    np.testing.assert_array_equal(record.exceptions, r[70:] < -record.value_at_risk)


@pytest.mark.parametrize("kind", KINDS)
def test_the_last_forecast_of_a_backtest_is_that_of_the_function(kind: str) -> None:
    rng = np.random.default_rng(16)
    r, annual = rng.standard_normal(201) * 0.01, rng.uniform(0.1, 0.3, 201)
    method = VarMethod(kind=kind, window=200, dof=5.0, draws=200_000)
    found = backtest_var(r, method, level=0.95, volatility=annual, scenarios=19).value_at_risk[-1]
    one = FactorModel(["A"], ["market"], [[0.0]], [[0.04]], [annual[-1] ** 2])
    expected = {
        "normal": normal_tail(one, [1.0], level=0.95),
        "student": student_tail(one, [1.0], dof=5.0, level=0.95),
        "historical": historical_tail(r[:200], level=0.95),
        "filtered_historical": filtered_historical_tail(r[:200], volatility=annual, level=0.95),
        "monte_carlo": monte_carlo_tail(one, [1.0], dof=5.0, level=0.95, draws=200_000),
    }[kind]
    tolerance = 0.02 if kind == "monte_carlo" else 1e-12
    assert found == pytest.approx(expected.value_at_risk, rel=tolerance)


def test_a_right_forecast_passes_and_a_low_one_fails() -> None:
    rng = np.random.default_rng(17)
    volatility = np.full(1100, 0.16)
    r = rng.standard_normal(1100) * 0.16 / math.sqrt(252)
    method = VarMethod(kind="normal", window=100)
    right = backtest_var(r, method, volatility=volatility, scenarios=199)
    low = backtest_var(r, method, volatility=0.7 * volatility, scenarios=199)
    assert right.coverage["p_value"].min() > 0.01
    assert right.shortfall["p_value"].min() > 0.01
    assert low.coverage.loc["kupiec", "p_value"] < 1e-4
    assert low.shortfall.loc["acerbi_szekely", "p_value"] < 0.01


def test_bad_input_is_refused(model: FactorModel, weights: np.ndarray) -> None:
    r = np.random.default_rng(18).standard_normal(200)
    cases = [
        (lambda: normal_tail(model, weights, level=0.05), "`level` must lie"),
        (lambda: normal_tail(model, weights, horizon=0), "`horizon` must be"),
        (lambda: normal_tail(model, weights, periods_per_year=0), "`periods_per_year` must be"),
        (lambda: normal_tail(model, weights[:-1]), "`weights` must have shape"),
        (lambda: student_tail(model, weights, dof=2.0), "`dof` must be above 2"),
        (lambda: monte_carlo_tail(model, weights, dof=4, draws=10), "`draws` must be at least"),
        (lambda: historical_tail(r[:50]), "at least 99 returns"),
        (lambda: historical_tail(np.r_[r, np.nan]), "`returns` must be finite"),
        (lambda: historical_tail(r, weights), "`returns` must have shape"),
        (lambda: filtered_historical_tail(r, half_life=500), "longer than `half_life`"),
        (lambda: filtered_historical_tail(np.zeros(200)), "`volatility` must be positive"),
        (lambda: filtered_historical_tail(r, volatility=np.ones(200)), "`volatility` must have shape"),
        (lambda: fit_dof(np.zeros(50)), "must not all be 0"),
        (lambda: ewma_volatility(r, 0.0), "`half_life` must be positive"),
        (lambda: backtest_var(r, VarMethod(kind="normal")), "`returns` must be longer"),
        (
            lambda: backtest_var(r, VarMethod(kind="normal", window=20), volatility=np.zeros(200)),
            "`volatility` must be",
        ),
    ]
    for call, message in cases:
        with pytest.raises(DataError, match=message):
            call()
