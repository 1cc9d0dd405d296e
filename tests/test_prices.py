"""Duals as prices: what limits cost against solves without them, and the parts that hold every asset where it is."""

from __future__ import annotations

import numpy as np
import pytest
from market_files import assert_refused
from problems import REGIMES, planned, random_problem

from engine import Limits, Problem, Solution, optimize
from engine.certificate import accepted, certify
from engine.prices import OWN, family, limit_costs, parts, without
from risk import FactorModel

PRICED = ("position", "gross", "volatility", "turnover")


def solved(regime: str, n: int, seed: int) -> tuple[Problem, Solution]:
    problem = planned(regime, n, seed)
    return problem, optimize(problem)


def dropped(problem: Problem, name: str) -> Problem:
    """Return the problem without a family of limits, written out by itself: rows of L are taken away."""
    n, G, lower, upper = len(problem.alpha), problem.gross_limit, problem.lower, problem.upper
    kept = [j for j, row in enumerate(problem.limits.names) if row.split(":")[0] != name]
    L = problem.limits
    closed = lower == upper
    changes = {
        "position": {
            "position_limit": (
                np.where(closed, lower, np.minimum(lower, -G)),
                np.where(closed, upper, np.maximum(upper, G)),
            )
        },
        "gross": {"gross_limit": max(G, n * float(np.maximum(-lower, upper).max()))},
        "volatility": {"volatility_limit": None},
        "turnover": {"turnover_limit": None},
    }
    if name in PRICED:
        return problem.replace(**changes[name])
    names = [L.names[j] for j in kept]
    return problem.replace(limits=Limits(names, L.exposures[:, kept], L.lower[kept], L.upper[kept]))


@pytest.mark.parametrize("regime", REGIMES)
def test_a_cost_is_the_gain_of_the_reference_method_without_the_limit(regime: str) -> None:
    problem, solution = solved(regime, 14, 3)
    costs = limit_costs(problem, solution)
    assert list(costs.index[:5]) == ["net", "country", "sector", "beta", "style"]
    for name, row in costs.iterrows():
        better = optimize(dropped(problem, str(name)), method="reference")
        gain = better.certificate.objective - solution.certificate.objective
        assert row["cost"] == pytest.approx(gain, abs=3e-7), name


@pytest.mark.parametrize("regime", REGIMES)
def test_a_limit_without_a_price_costs_nothing_and_the_same_prices_prove_the_same_book_without_it(regime: str) -> None:
    problem, solution = solved(regime, 50, 4)
    costs = limit_costs(problem, solution)
    free = costs.index[costs["price"] == 0]
    assert len(free) > 0
    assert (costs.loc[free, ["cost", "holding"]] == 0).all(axis=None)
    assert solution.multipliers is not None
    relaxed = without(problem, [str(name) for name in free])
    assert accepted(certify(relaxed, solution.weights, solution.multipliers))
    np.testing.assert_allclose(optimize(relaxed).weights, solution.weights, atol=1e-9)


@pytest.mark.parametrize("seed", range(6))
def test_dropping_more_limits_never_gains_less(seed: int) -> None:
    rng = np.random.default_rng(seed)
    problem = random_problem(rng, 40, gross_limit=0.8, volatility_limit=0.04, costs="impact", holdings=True, signal=0.1)
    names = rng.permutation([*limit_costs(problem, optimize(problem)).index]).tolist()
    best = [optimize(without(problem, names[:count])).certificate.objective for count in range(len(names) + 1)]
    assert (np.diff(best) >= -1e-10).all()
    assert best[-1] > best[0] + 1e-3


@pytest.mark.parametrize("regime", ["gross", "gross and volatility", "turnover", "position", "equalities only"])
def test_a_price_bounds_what_the_next_unit_gains_and_is_what_a_small_one_does(regime: str) -> None:
    problem, solution = solved(regime, 50, 5)
    costs = limit_costs(problem, solution)
    L = problem.limits

    def wider(name: str, step: float) -> Problem:
        if name in ("gross", "volatility", "turnover"):
            return problem.replace(**{f"{name}_limit": getattr(problem, f"{name}_limit") + step})
        if name == "position":
            return problem.replace(position_limit=(problem.lower - step, problem.upper + step))
        rows = step * np.array([family(row) == name for row in L.names])
        return problem.replace(limits=Limits(L.names, L.exposures, L.lower - rows, L.upper + rows))

    for name in ("gross", "volatility", "turnover", "position", "style", "beta"):
        if name not in costs.index or costs.loc[name, "price"] == 0:
            continue
        price = float(costs.loc[name, "price"])
        for step in (0.5, 0.05, 1e-5):
            gain = optimize(wider(name, step)).certificate.objective - solution.certificate.objective
            assert gain <= price * step + 1e-10
        assert gain == pytest.approx(price * 1e-5, rel=0.02, abs=1e-9), name


def test_levels_bounds_and_headroom_are_those_of_the_tightest_limit() -> None:
    problem, solution = solved("gross", 60, 0)
    costs = limit_costs(problem, solution)
    y = dict(zip(problem.limits.names, problem.limits.exposures.T @ solution.weights, strict=True))
    for name in ("country", "sector", "style"):
        row = costs.loc[name]
        rows = [j for j, label in enumerate(problem.limits.names) if family(label) == name]
        assert row["rows"] == len(rows)
        assert row["level"] == pytest.approx(y[row["tightest"]])
        room = np.array([0.02 if name != "style" else 0.1]) - np.abs([y[problem.limits.names[j]] for j in rows])
        assert row["headroom"] == pytest.approx(float(room.min()), abs=1e-9)
        assert abs(row["bound"] - row["level"]) == pytest.approx(row["headroom"], abs=1e-12)
    assert costs.loc["gross", "bound"] == problem.gross_limit
    assert costs.loc["gross", "level"] == pytest.approx(solution.gross)
    assert costs.loc["position", "level"] == pytest.approx(
        solution.weights[list(problem.model.assets).index(costs.loc["position", "tightest"])]
    )
    for name in ("gross", "position"):
        assert costs.loc[name, "price"] == pytest.approx(solution.duals[name])


def test_names_that_cannot_move_stay_closed_without_caps_and_no_limit_is_known_by_another_name() -> None:
    problem = planned("unequal bounds", 60, 1)
    closed = problem.lower == problem.upper
    assert closed.any()
    free = without(problem, ["position", "gross"])
    assert (free.lower[closed] == problem.lower[closed]).all()
    assert (free.upper[~closed] == problem.gross_limit).all()
    assert free.gross_limit >= np.maximum(free.upper, -free.lower).sum() - 1e-9
    assert_refused(lambda: without(problem, ["countries"]), "`families`", "country", "'countries'")


@pytest.mark.parametrize("regime", REGIMES)
@pytest.mark.parametrize("seed", range(2))
def test_the_parts_of_every_asset_add_up_to_nothing(regime: str, seed: int) -> None:
    problem, solution = solved(regime, 40, seed)
    found = parts(problem, solution)
    theta = solution.multipliers
    assert theta is not None
    for by_row in (False, True):
        frame = found.frame(by_row=by_row)
        assert tuple(frame.index) == problem.model.assets
        np.testing.assert_allclose(frame.sum(axis=1), 0.0, atol=1e-9)
    np.testing.assert_allclose(found.response.weights, solution.weights, atol=1e-9)
    # Against the statement itself, from the weights.
    gamma = problem.risk_aversion + theta.volatility
    V = problem.model.exposures @ problem.model.factor_covariance @ problem.model.exposures.T
    family_frame = found.frame()
    np.testing.assert_allclose(family_frame["alpha"], problem.alpha)
    np.testing.assert_allclose(family_frame["factor_risk"], -gamma * V @ solution.weights, atol=1e-9)
    np.testing.assert_allclose(
        family_frame["specific_risk"], -gamma * problem.model.specific_variance * solution.weights, atol=1e-9
    )
    limits = -problem.limits.exposures @ theta.limits
    np.testing.assert_allclose(family_frame[["net", "country", "sector", "beta", "style"]].sum(axis=1), limits)
    np.testing.assert_allclose(frame[list(problem.limits.names)].sum(axis=1), limits)


@pytest.mark.parametrize("regime", REGIMES)
@pytest.mark.parametrize("seed", range(2))
def test_every_part_at_a_kink_lies_between_its_sides_and_every_other_on_its_own(regime: str, seed: int) -> None:
    problem, solution = solved(regime, 40, seed)
    found, theta, costs = parts(problem, solution), solution.multipliers, problem.costs
    assert theta is not None
    w = solution.weights
    u = w - problem.holdings
    zero = np.zeros_like(w)
    A = 0.0 if costs is None else costs.annualisation
    linear, impact, borrow = (zero,) * 3 if costs is None else (costs.linear, costs.impact, costs.borrow)
    shares = []
    for part, side, below, above in (
        (found.gross, w, -theta.gross + zero, theta.gross + zero),
        (found.borrow, w, -borrow, zero),
        (found.turnover, u, -theta.turnover / 2 + zero, theta.turnover / 2 + zero),
        (found.linear_cost, u, -A * linear, A * linear),
    ):
        charged = -part
        low, high = np.where(side > 0, above, below), np.where(side < 0, below, above)
        assert (charged >= low - 1e-9).all()
        assert (charged <= high + 1e-9).all()
        shares.append(np.divide(charged - low, high - low, out=np.full_like(w, np.nan), where=high > low))
    # Kinks at the same weight are charged the same fraction of their widths.
    spread = np.nanmax(np.vstack([shares, zero[None] - 1]), axis=0) - np.nanmin(
        np.vstack([shares, zero[None] + 2]), axis=0
    )
    assert (spread <= 1e-9).all()
    np.testing.assert_allclose(-found.impact_cost, 1.5 * A * impact * np.sqrt(np.abs(u)) * np.sign(u), atol=1e-7)


@pytest.mark.parametrize("regime", ["position", "unequal bounds", "linear costs", "impact"])
@pytest.mark.parametrize("seed", range(2))
def test_a_bound_has_a_price_only_where_it_holds_and_pushes_inwards(regime: str, seed: int) -> None:
    problem, solution = solved(regime, 40, seed)
    price = -parts(problem, solution).position
    w = solution.weights
    closed = problem.lower == problem.upper
    assert (w[(price > 0) & ~closed] == problem.upper[(price > 0) & ~closed]).all()
    assert (w[(price < 0) & ~closed] == problem.lower[(price < 0) & ~closed]).all()
    assert np.abs(price[~closed]).sum() == pytest.approx(solution.duals["position"], abs=1e-12)


@pytest.mark.parametrize("regime", REGIMES)
def test_a_book_of_the_reference_method_has_the_same_parts_and_costs(regime: str) -> None:
    problem, solution = solved(regime, 30, 2)
    other = optimize(problem, method="reference")
    np.testing.assert_allclose(parts(problem, other).frame().sum(axis=1), 0.0, atol=1e-9)
    np.testing.assert_allclose(limit_costs(problem, other)["cost"], limit_costs(problem, solution)["cost"], atol=1e-6)


def test_rows_may_have_any_name() -> None:
    names = ["alpha", "limit:alpha", "gross:longs", "gross:shorts", "weight", "reason:a"]
    assert [family(name) for name in names] == [
        "limit:alpha",
        "limit",
        "limit:gross",
        "limit:gross",
        "limit:weight",
        "limit:reason",
    ]
    rng = np.random.default_rng(0)
    model = FactorModel([*"ABCDEFGH"], ["market"], np.ones((8, 1)), [[0.04]], np.full(8, 0.09))
    limits = Limits(names, rng.standard_normal((8, 6)), np.full(6, -0.001), np.full(6, 0.001))
    problem = Problem(0.03 * rng.standard_normal(8), model, limits, 0.5, 2.0, None, 5.0)
    solution = optimize(problem)
    for by_row, count in ((False, 5), (True, 6)):
        frame = parts(problem, solution).frame(by_row=by_row)
        assert frame.columns.is_unique
        assert len(frame.columns) == len(OWN) + count
        np.testing.assert_allclose(frame.sum(axis=1), 0.0, atol=1e-9)
    assert limit_costs(problem, solution).loc["limit:gross", "rows"] == 2


def test_a_solution_without_prices_or_of_another_problem_is_refused() -> None:
    problem, solution = solved("gross", 20, 0)
    own = optimize(problem, extra=lambda w: [w[0] <= 0.01])
    assert_refused(lambda: limit_costs(problem, own), "`solution` must be proven", "solved_unproven", "extra")
    other = problem.replace(alpha=-problem.alpha)
    assert_refused(lambda: parts(other, solution), "`solution` is no optimum of `problem`")
