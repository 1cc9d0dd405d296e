"""A book that is scaled towards a volatility: the best book at that volatility, within all limits, or what stopped it."""

from __future__ import annotations

import numpy as np
import pytest
from problems import random_problem

from backtest.volatility_target import LEAST_AVERSION, missed_target, risk_appetite
from engine import ONE, Mandate, Problem, optimize
from engine.size import NO_LIMITS, size_stoppers


def targeted(problem: Problem, target: float) -> tuple[Mandate, Problem]:
    """Return a mandate with a target, and the problem that it makes of one without."""
    mandate = ONE.model_copy(update={"volatility_target": target, "risk_aversion": problem.risk_aversion})
    limit, aversion = risk_appetite(mandate, 1.0)
    return mandate, problem.replace(volatility_limit=limit, risk_aversion=aversion)


@pytest.fixture
def problem() -> Problem:
    """A book without a volatility limit and much risk aversion: it is far less volatile than its limits let it be."""
    return random_problem(np.random.default_rng(8), 120, costs="impact").replace(
        volatility_limit=None, risk_aversion=100.0
    )


def test_without_a_target_limit_and_risk_aversion_are_the_mandates() -> None:
    assert risk_appetite(ONE, 1.0) == (ONE.volatility_limit, ONE.risk_aversion)
    assert risk_appetite(ONE, 1.25) == (0.08, ONE.risk_aversion)
    assert risk_appetite(ONE.model_copy(update={"volatility_limit": None}), 1.0) == (None, ONE.risk_aversion)


def test_the_book_is_the_best_one_at_the_risk_aversion_that_leads_to_the_target(problem: Problem) -> None:
    base = optimize(problem)
    target = 1.3 * base.volatility
    mandate, scaled = targeted(problem, target)
    book = optimize(scaled)
    assert book.volatility == pytest.approx(target, rel=1e-6)
    assert missed_target(mandate, scaled, book, 1.0) is None
    low, high = scaled.risk_aversion, problem.risk_aversion
    for _ in range(60):
        middle = (low + high) / 2
        found = optimize(problem.replace(risk_aversion=middle))
        low, high = (middle, high) if found.volatility > target else (low, middle)
    np.testing.assert_allclose(book.weights, found.weights, atol=2e-6)
    assert book.certificate.primal_residual < 1e-6


def test_forecasts_are_multiplied_before_they_meet_the_target(problem: Problem) -> None:
    target = 1.2 * optimize(problem).volatility
    mandate, _ = targeted(problem, target)
    limit, aversion = risk_appetite(mandate, 1.1)
    scaled = problem.replace(volatility_limit=limit, risk_aversion=aversion)
    book = optimize(scaled)
    assert 1.1 * book.volatility == pytest.approx(target, rel=1e-6)
    assert missed_target(mandate, scaled, book, 1.1) is None


def test_a_gross_limit_in_the_way_is_named_with_the_level_that_is_reached(problem: Problem) -> None:
    base = optimize(problem)
    narrow = problem.replace(gross_limit=1.05 * base.gross)
    mandate, scaled = targeted(narrow, 20 * base.volatility)
    book = optimize(scaled)
    missed = missed_target(mandate, scaled, book, 1.0)
    assert missed is not None
    assert missed.stopped_by == "gross"
    assert missed.reached == book.volatility
    assert base.volatility < book.volatility < 20 * base.volatility
    assert f"reaches {book.volatility:.2%} of {mandate.volatility_target:.2%}" in missed.detail
    # Less risk aversion still leads nowhere: it is not what stopped the book.
    further = optimize(scaled.replace(risk_aversion=LEAST_AVERSION * scaled.risk_aversion))
    assert further.volatility < 1.05 * book.volatility


def test_costs_are_named_where_no_limit_is_in_the_way(problem: Problem) -> None:
    wide = problem.replace(position_limit=9.0, gross_limit=1e3)
    mandate, scaled = targeted(wide, 50.0)
    book = optimize(scaled)
    missed = missed_target(mandate, scaled, book, 1.0)
    assert missed is not None
    shares = size_stoppers(scaled, book)
    assert shares["trading costs"] > shares.drop("trading costs").max()
    assert shares["position"] == shares["gross"] == 0.0
    assert "trading costs" in missed.detail


@pytest.mark.parametrize("seed", range(6))
def test_what_stops_a_book_adds_up_to_what_it_gains(seed: int) -> None:
    problem = random_problem(np.random.default_rng(seed), 80, costs="impact", holdings=True)
    book = optimize(problem)
    shares = size_stoppers(problem, book)
    assert shares.sum() == pytest.approx(1.0, abs=1e-6)
    assert shares.is_monotonic_decreasing
    assert set(NO_LIMITS) <= set(shares.index)
    assert shares["net"] == pytest.approx(0.0, abs=1e-9), "a neutral book stays neutral when it is scaled"
    # A larger book gains, to first order, its shares times their relative widening: try the gross limit.
    if shares["gross"] > 0.01:
        step = 1e-4
        wider = optimize(problem.replace(gross_limit=problem.gross_limit * (1 + step)))
        gain = wider.certificate.objective - book.certificate.objective
        assert gain == pytest.approx(shares["gross"] * (problem.alpha @ book.weights) * step, rel=0.05)


def test_an_empty_book_is_stopped_by_nothing() -> None:
    problem = random_problem(np.random.default_rng(0), 60)
    still = problem.replace(alpha=np.zeros(60), holdings=0.0)
    assert (size_stoppers(still, optimize(still)) == 0).all()
