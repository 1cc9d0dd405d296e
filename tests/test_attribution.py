"""Sleeves add up to the book, and credit is what brute force along the ray, closed forms and Shapley's value say it is."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise, permutations

import numpy as np
import pandas as pd
import pytest
from problems import REGIMES, generic, planned
from test_derivative import matrix, solved

from engine import Attribution, Problem, attribute, grinold_alpha, meta_model, optimize
from engine.attribution import BOOK, FORCED
from engine.mandate import AlphaRule
from engine.metamodel import alpha_scale
from engine.prepared import Prepared
from engine.ray import polished, resolve
from engine.secant import Optimum, Parts, Secant
from engine.solution import SolverFailure
from engine.transforms import gaussianise
from risk import DataError

N, MODELS = 80, [f"m{k}" for k in range(8)]
HORIZON = 20.0


def tournament(problem: Problem, seed: int = 1) -> tuple[pd.DataFrame, pd.Series, np.ndarray, np.ndarray]:
    """Predictions, stakes, scale and returns."""
    rng, n = np.random.default_rng(seed), len(problem.alpha)
    common = rng.standard_normal((n, 1))
    table = pd.DataFrame(common + rng.standard_normal((n, 8)), index=problem.model.assets, columns=MODELS)
    stakes = pd.Series(rng.uniform(1, 5, 8), index=MODELS)
    return (
        table,
        stakes,
        0.05 * np.sqrt(problem.model.specific_variance * 252 / 20),
        0.05 * rng.standard_normal(n),
    )


def owners(problem: Problem, seed: int = 2) -> pd.DataFrame:
    """A starting book's sleeves: of models staked today, of one that is gone, and of the fund."""
    rng = np.random.default_rng(seed)
    names = ["m0", "m3", "gone", BOOK]
    before = pd.DataFrame(
        0.02 * rng.standard_normal((len(problem.alpha), 4)), index=problem.model.assets, columns=names
    )
    before["m1"] = problem.holdings - before.sum(axis=1)
    return before


def attributed(problem: Problem, **options: object) -> Attribution:
    table, stakes, scale, r = tournament(problem)
    settings = {"alpha_scale": scale, "horizon_days": HORIZON} | options
    if problem.holdings.any():
        settings = {"sleeves_before": owners(problem)} | settings
    return attribute(table, stakes, problem, r, **settings)  # type: ignore[arg-type]


def contributions(problem: Problem) -> np.ndarray:
    """alpha_k by the definition, (N, M)."""
    table, stakes, scale, _ = tournament(problem)
    P, _ = gaussianise(table.to_numpy())
    s = (stakes / stakes.sum()).to_numpy()
    x = P @ s
    return np.asarray(scale[:, None] * (P - P.mean(axis=0)) * s / x.std())


# The identity


@pytest.mark.parametrize("regime", REGIMES)
@pytest.mark.parametrize("draw", [planned, generic])
def test_sleeves_and_rows_add_up(regime: str, draw: Callable[[str, int, int], Problem]) -> None:
    problem = draw(regime, N, 1)
    _, _, _, r = tournament(problem)
    parts = attributed(problem, interest=0.003, fees=0.001, tolerance=0.2)
    assert np.abs(parts.sleeves.sum(axis=1) - parts.weights).max() <= 1e-12
    # The book is the one that the optimizer finds for the same alpha.
    alpha = contributions(problem).sum(axis=1)
    assert np.abs(optimize(problem.replace(alpha=alpha)).weights - parts.weights).max() <= 1e-7
    w, costs = parts.weights, problem.costs
    gross = float(r @ w)
    cost = 0.0 if costs is None else float(costs.charge(w - problem.holdings).sum())
    borrow = 0.0 if costs is None else float(costs.borrow @ np.maximum(-w, 0.0)) * HORIZON / 252
    assert parts.table["gross"].sum() == pytest.approx(gross, abs=1e-12)
    assert parts.table["cost"].sum() == pytest.approx(cost + 0.001, abs=1e-12)
    assert parts.table["financing"].sum() == pytest.approx(borrow - 0.003, abs=1e-12)
    assert parts.net_return == pytest.approx(gross - cost - borrow + 0.003 - 0.001, abs=1e-9)
    table = parts.table
    np.testing.assert_allclose(table["net"], table["gross"] - table["cost"] - table["financing"], rtol=0, atol=1e-15)


def test_holds_over_many_dates_rolled_forward() -> None:
    """Sleeves drift with returns, and are tomorrow's owners of the holdings."""
    problem = planned("impact", N, 4)
    before = owners(problem)
    rng = np.random.default_rng(6)
    for day in range(5):
        table, stakes, scale, _ = tournament(problem, seed=10 + day)
        stakes = stakes.drop(MODELS[day])
        r = 0.03 * rng.standard_normal(N)
        parts = attribute(
            table,
            stakes,
            problem,
            r,
            alpha_scale=scale,
            sleeves_before=before,
            horizon_days=HORIZON,
            tolerance=0.2,
        )
        assert np.abs(parts.sleeves.sum(axis=1) - parts.weights).max() <= 1e-12
        assert {"gone", MODELS[day]} <= set(parts.table.index)
        before = parts.sleeves.mul(1 + r, axis=0) / (1 + parts.net_return)
        problem = problem.replace(holdings=before.sum(axis=1).to_numpy())


def test_a_thousand_small_stakes() -> None:
    """More sleeves than assets: split by matrices, in blocks."""
    problem = planned("impact", 60, 2)
    rng, m = np.random.default_rng(3), 700
    P = pd.DataFrame(rng.standard_normal((60, m)), index=problem.model.assets, columns=[f"x{k:04d}" for k in range(m)])
    stakes = pd.Series(rng.exponential(size=m), index=P.columns)
    scale = 0.05 * np.sqrt(problem.model.specific_variance * 12.6)
    given = {"alpha_scale": scale, "horizon_days": HORIZON, "tolerance": 0.05}
    before = owners(problem)
    parts = attribute(P, stakes, problem, np.zeros(60), sleeves_before=before, **given)
    assert np.abs(parts.sleeves.sum(axis=1) - parts.weights).max() <= 1e-12
    names = {name: f"group {name[-1]}" for name in P}
    few = attribute(
        P, stakes, problem, np.zeros(60), sleeves_before=before, groups=names, **given | {"tolerance": 0.01}
    )
    assert len(few.sleeves.columns) == 10 + 5 + 2 - 1
    summed = parts.sleeves.rename(columns=names).T.groupby(level=0).sum().T[few.sleeves.columns]
    assert np.abs(summed - few.sleeves).sum().max() <= 0.1 * np.abs(few.sleeves).sum().mean()
    np.testing.assert_allclose(few.weights, parts.weights, rtol=0, atol=1e-12)


# What the credit is


def test_linear_book_is_the_closed_form() -> None:
    problem = planned("interior", N, 1)
    wide = problem.limits.lower < problem.limits.upper
    limits = type(problem.limits)(
        problem.limits.names,
        problem.limits.exposures,
        np.where(wide, -9.0, problem.limits.lower),
        np.where(wide, 9.0, problem.limits.upper),
    )
    problem = problem.replace(limits=limits, gross_limit=99.0)
    parts = attributed(problem)
    model, L = problem.model, limits.exposures[:, ~wide]
    V = model.exposures @ model.factor_covariance @ model.exposures.T + np.diag(model.specific_variance)
    inverse = np.linalg.inv(V)
    S = (inverse - inverse @ L @ np.linalg.solve(L.T @ inverse @ L, L.T @ inverse)) / problem.risk_aversion
    np.testing.assert_allclose(parts.sleeves[MODELS], S @ contributions(problem), rtol=0, atol=1e-12)
    assert parts.unresolved <= 1e-10


BRUTE = ("gross", "volatility", "gross and volatility", "position", "linear costs", "impact", "turnover")
STEPS = 500
"""Of brute force: the derivative at the middle of each."""


@pytest.mark.parametrize("regime", BRUTE)
def test_equals_brute_force_along_the_ray(regime: str) -> None:
    """The derivative by alpha and by holdings, summed over tiny steps; on its own only as exact as they are small."""
    n, tolerance = 30, 0.01
    problem = generic(regime, n, 1)
    before = owners(problem) if problem.holdings.any() else pd.DataFrame(index=problem.model.assets)
    parts = attributed(problem, tolerance=tolerance)
    A = contributions(problem)
    H = before.reindex(columns=MODELS, fill_value=0.0).to_numpy()
    alpha, near = A.sum(axis=1), None
    sleeves = np.zeros_like(A)
    # Squared, so that steps are small where the book is.
    edges = np.linspace(0.0, 1.0, STEPS + 1) ** 2
    for low, high in pairwise(edges):
        s = (low + high) / 2
        near = solved(problem.replace(alpha=s * alpha, holdings=s * problem.holdings), near)
        sleeves += (high - low) * near.times(A)
        if problem.holdings.any():
            by_holdings = np.array([near.pull_back(row).holdings for row in np.eye(n)])
            sleeves += (high - low) * by_holdings @ H
    ours = parts.sleeves[MODELS].to_numpy()
    size = np.abs(ours).sum(axis=0)
    off = np.abs(ours - sleeves).sum(axis=0) / np.maximum(size, size.mean())
    assert off.max() <= tolerance


def test_error_falls_with_the_tolerance() -> None:
    problem = generic("gross and volatility", N, 1)
    fine = attributed(problem, tolerance=1e-4).sleeves
    errors, steps = [], []
    for tolerance in (0.1, 0.01, 0.001):
        parts = attributed(problem, tolerance=tolerance)
        assert parts.unresolved <= tolerance
        error = float(np.abs(parts.sleeves - fine).sum().max() / np.abs(fine[MODELS]).sum().mean())
        assert error <= tolerance
        errors.append(error)
        steps.append(parts.steps)
    assert errors[2] < errors[1] / 3 < errors[0] / 9
    assert steps == sorted(set(steps))


@pytest.mark.parametrize("regime", REGIMES)
def test_short_steps_are_the_derivative(regime: str) -> None:
    problem = generic(regime, 40, 5)
    a = solved(problem)
    b = solved(problem.replace(alpha=problem.alpha * (1 + 1e-9)), a)
    free = np.full(40, np.nan)
    step = Secant(*(Optimum(s, d.dual, polished(d.dual, d.point)) for s, d in ((0.0, a), (1.0, b))), free)
    S = matrix(a)
    np.testing.assert_allclose(step.split(Parts(np.eye(40))), S, rtol=0, atol=1e-5 * np.abs(S).max())


# Fairness


def test_alike_models_get_alike_and_order_and_scale_do_not_matter() -> None:
    problem = generic("impact", N, 2)
    table, stakes, scale, r = tournament(problem)
    table["twin"], table["idle"], table["scaled"] = table["m2"], table["m2"], 7.0 * table["m2"] + 1.0
    stakes["twin"] = stakes["scaled"] = stakes["m2"]
    stakes["idle"] = 0.0
    given = {"alpha_scale": scale, "sleeves_before": None, "horizon_days": HORIZON, "tolerance": 0.05}
    parts = attribute(table, stakes, problem, r, **given)
    for name in ("twin", "scaled"):
        np.testing.assert_allclose(parts.sleeves[name], parts.sleeves["m2"], rtol=0, atol=1e-14)
    assert (parts.table.loc["idle"] == 0).all()
    assert "idle" not in parts.sleeves
    other = attribute(table[sorted(table, reverse=True)], stakes[::-1], problem, r, **given)
    pd.testing.assert_frame_equal(other.table, parts.table, check_exact=True)
    pd.testing.assert_frame_equal(other.sleeves, parts.sleeves, check_exact=True)
    scaled = attribute(table, 3.7 * stakes, problem, r, **given)
    np.testing.assert_allclose(scaled.sleeves, parts.sleeves, rtol=0, atol=1e-10)


def test_a_stake_cut_in_two_earns_what_it_did() -> None:
    problem = generic("gross", N, 2)
    table, stakes, scale, r = tournament(problem)
    whole = attribute(table, stakes, problem, r, alpha_scale=scale, tolerance=0.002)
    table["half"], stakes["half"] = table["m1"], 0.25 * stakes["m1"]
    stakes["m1"] *= 0.75
    cut = attribute(table, stakes, problem, r, alpha_scale=scale, tolerance=0.002)
    size = float(np.abs(whole.sleeves["m1"]).sum())
    assert np.abs(cut.sleeves["m1"] + cut.sleeves["half"] - whole.sleeves["m1"]).sum() <= 0.01 * size
    np.testing.assert_allclose(cut.sleeves["half"], cut.sleeves["m1"] / 3, rtol=0, atol=1e-14)


def shapley(problem: Problem, A: np.ndarray, r: np.ndarray) -> np.ndarray:
    """Mean over all orders of what each model's alpha adds to the return of those before it."""
    value: dict[frozenset[int], float] = {}

    def worth(members: frozenset[int]) -> float:
        if members not in value:
            alpha = A[:, sorted(members)].sum(axis=1)
            value[members] = float(r @ optimize(problem.replace(alpha=alpha)).weights)
        return value[members]

    m = A.shape[1]
    total = np.zeros(m)
    orders = list(permutations(range(m)))
    for order in orders:
        for place, k in enumerate(order):
            total[k] += worth(frozenset(order[: place + 1])) - worth(frozenset(order[:place]))
    return total / len(orders)


def game(regime: str, stakes: list[float], copies: bool) -> tuple[np.ndarray, np.ndarray]:
    """Four models' attribution and Shapley value."""
    problem = planned(regime, N, 1)
    if regime == "interior":
        limits = problem.limits
        far = np.where(limits.lower < limits.upper, 9.0, 0.0)
        problem = problem.replace(limits=type(limits)(limits.names, limits.exposures, -far, far), gross_limit=99.0)
    table, _, scale, r = tournament(problem)
    table = table[MODELS[:4]]
    if copies:
        table = pd.DataFrame(dict.fromkeys(table, table["m0"]))
    shares = pd.Series(stakes, index=table.columns)
    ours = attribute(table, shares, problem, r, alpha_scale=scale, tolerance=1e-3).table["gross"][table.columns]
    P, _ = gaussianise(table.to_numpy())
    s = (shares / shares.sum()).to_numpy()
    A = scale[:, None] * (P - P.mean(axis=0)) * s / (P @ s).std()
    return ours.to_numpy(), shapley(problem, A, r)


def test_is_the_shapley_value_where_the_book_is_linear() -> None:
    ours, exact = game("interior", [1.0, 2.0, 3.0, 4.0], copies=False)
    np.testing.assert_allclose(ours, exact, rtol=0, atol=1e-9)
    assert np.ptp(ours) > 1e-3


@pytest.mark.parametrize("regime", ["gross", "volatility", "position"])
def test_is_the_shapley_value_where_all_models_are_alike(regime: str) -> None:
    ours, exact = game(regime, [1.0] * 4, copies=True)
    np.testing.assert_allclose(ours, exact, rtol=0, atol=1e-8)


@pytest.mark.parametrize(("stakes", "copies"), [([1.0, 1.0, 1.0, 5.0], True), ([1.0, 2.0, 3.0, 4.0], False)])
def test_is_not_the_shapley_value_elsewhere(stakes: list[float], copies: bool) -> None:
    """A limit that only large coalitions meet: they still add up to the same return."""
    ours, exact = game("position", stakes, copies)
    assert ours.sum() == pytest.approx(exact.sum(), abs=1e-8)
    assert np.abs(ours - exact).max() > 1e-2 * np.abs(exact).sum()
    if copies:
        np.testing.assert_allclose(ours / ours.sum(), np.array(stakes) / sum(stakes), rtol=0, atol=1e-12)


# The fund's rows


def test_what_no_signal_explains_is_the_funds() -> None:
    """A long-only book holds something at no signal; without owners the starting book is the fund's."""
    problem = planned("linear costs", N, 3)
    limits = problem.limits
    bounds = [side.copy() for side in (limits.lower, limits.upper)]
    one = limits.names.index("net")
    for side in bounds:
        side[one] = 0.5
    bounds[0][one + 1 :], bounds[1][one + 1 :] = -1.0, 1.0
    problem = problem.replace(limits=type(limits)(limits.names, limits.exposures, *bounds))
    parts = attributed(problem, sleeves_before=None, tolerance=0.1)
    empty = problem.replace(alpha=np.zeros(N), holdings=None)
    start = optimize(empty).weights
    assert start.sum() == pytest.approx(0.5, abs=1e-9)
    assert np.abs(parts.sleeves.sum(axis=1) - parts.weights).max() <= 1e-12
    # Models are neutral; the fund holds all of the net exposure.
    assert np.abs(parts.sleeves[MODELS].sum()).max() <= 1e-9
    assert parts.sleeves[BOOK].sum() == pytest.approx(0.5, abs=1e-9)


def test_names_that_cannot_trade_stay_with_their_owners() -> None:
    problem = planned("linear costs", N, 3)
    h = problem.holdings
    i, j, k = np.flatnonzero(h > 0.01)[:3]
    lower, upper = problem.lower.copy(), problem.upper.copy()
    lower[i] = upper[i] = h[i]  # cannot trade
    lower[j] = upper[j] = h[j] / 2  # half has to go
    lower[k] = upper[k] = h[k] + 0.01  # bought in
    problem = problem.replace(position_limit=(lower, upper))
    before = owners(problem)
    parts = attributed(problem, tolerance=0.1)
    assert np.abs(parts.sleeves.sum(axis=1) - parts.weights).max() <= 1e-12
    kept = before.reindex(columns=parts.sleeves.columns, fill_value=0.0)
    np.testing.assert_allclose(parts.sleeves.iloc[i], kept.iloc[i], rtol=0, atol=1e-15)
    np.testing.assert_allclose(parts.sleeves.iloc[j], kept.iloc[j] / 2, rtol=0, atol=1e-15)
    assert parts.sleeves[FORCED].iloc[k] == pytest.approx(0.01, abs=1e-15)


def test_costs_are_paid_for_net_trades() -> None:
    """Also by who trades against the others: with a negative cost."""
    problem = planned("linear costs", N, 1)
    assert problem.costs is not None
    table, stakes, scale, r = tournament(problem)
    table["against"], stakes["against"] = -table.mean(axis=1), 3.0
    before = pd.DataFrame({"m0": problem.holdings}, index=problem.model.assets)
    given = {"alpha_scale": scale, "sleeves_before": before, "horizon_days": HORIZON, "tolerance": 0.1}
    parts = attribute(table, stakes, problem, r, **given)
    had = before.reindex(columns=parts.sleeves.columns, fill_value=0.0)
    u = parts.weights - problem.holdings
    assert (u == 0).any()
    rate = np.where(u == 0, 0.0, problem.costs.linear * np.sign(u))
    expected = rate @ (parts.sleeves - had).to_numpy()
    np.testing.assert_allclose(parts.table["cost"][parts.sleeves.columns], expected, rtol=0, atol=1e-15)
    assert parts.table.loc["against", "cost"] < 0 < parts.table["cost"].sum()


def test_the_book_is_that_of_the_meta_model() -> None:
    problem = generic("gross", N, 7)
    table, stakes, _, r = tournament(problem)
    rule = AlphaRule(information_coefficient=0.03, horizon_days=20)
    meta = meta_model(table, stakes, assets=problem.model.assets)
    variance = problem.model.specific_variance
    book = optimize(problem.replace(alpha=grinold_alpha(meta.scores, variance, rule))).weights
    parts = attribute(
        table,
        pd.Series(meta.stakes, index=meta.names),
        problem,
        r,
        alpha_scale=alpha_scale(variance, rule),
        tolerance=0.2,
    )
    np.testing.assert_allclose(parts.weights, book, rtol=0, atol=1e-10)


# Input


def test_unusable_models_are_named_and_prepared_predictions_are_taken() -> None:
    problem = generic("gross", N, 7)
    table, stakes, scale, r = tournament(problem)
    plain = attribute(table, stakes, problem, r, alpha_scale=scale, tolerance=0.1)
    table["flat"] = 1.0
    stakes["flat"], stakes["absent"] = 3.0, 1.0
    parts = attribute(table, stakes, problem, r, alpha_scale=scale, tolerance=0.1)
    assert dict(parts.unused) == {"flat": "constant", "absent": "no prediction"}
    assert parts.table.loc["flat", "stake"] == 0
    np.testing.assert_allclose(parts.sleeves, plain.sleeves, rtol=0, atol=1e-14)
    P, _ = gaussianise(table[MODELS].to_numpy())
    single = Prepared(MODELS, P.astype(np.float32))
    near = attribute(single, stakes[MODELS], problem, r, alpha_scale=scale, tolerance=0.1)
    assert np.abs(near.sleeves.sum(axis=1) - near.weights).max() <= 1e-12
    np.testing.assert_allclose(near.weights, plain.weights, rtol=0, atol=1e-5)


def test_refuses_what_it_cannot_split() -> None:
    problem = planned("linear costs", N, 1)
    table, stakes, scale, r = tournament(problem)
    before = owners(problem)

    def refused(match: str, **changes: object) -> None:
        given: dict[str, object] = {
            "predictions": table,
            "stakes": stakes,
            "problem": problem,
            "forward_returns": r,
            "alpha_scale": scale,
            "sleeves_before": before,
            "horizon_days": HORIZON,
        }
        with pytest.raises(DataError, match=match):
            attribute(**(given | changes))  # type: ignore[arg-type]

    refused("forward_returns", forward_returns=np.where(np.arange(N) == 3, np.nan, r))
    refused("horizon_days", horizon_days=None)
    refused("horizon_days", horizon_days=-1.0)
    refused("tolerance", tolerance=0.0)
    refused(
        "add up to the holdings; of 'A0004'",
        sleeves_before=before.add(pd.Series({"A0004": 1e-6}), axis=0, fill_value=0.0),
    )
    refused("index", sleeves_before=before[::-1])
    refused("finite", sleeves_before=before.replace(before.iloc[0, 0], np.nan))
    refused("begins the rows of the fund", predictions=table.rename(columns={"m0": "(fund:me)"}))
    refused("begins the rows of the fund", groups={"m0": "(fund:book)"})
    refused("no stake", stakes=0.0 * stakes)
    refused("index", predictions=table[::-1])
    table["against"] = -table["m0"]
    refused("constant", predictions=table, stakes=pd.Series({"m0": 1.0, "against": 1.0}))


def test_too_few_steps_are_refused() -> None:
    problem = generic("gross and volatility", N, 1)
    with pytest.raises(SolverFailure, match=r"steps leave sleeves that move"):
        attributed(problem, tolerance=1e-3, steps=16)


def test_resolves_for_the_probes_that_are_given() -> None:
    problem = generic("gross", N, 1)
    A = contributions(problem)
    ray = resolve(problem, A.sum(axis=1), Parts(A[:, :1]), np.full(N, np.nan), tolerance=0.01, most=500)
    assert ray.unresolved <= 0.01
    np.testing.assert_allclose(ray.split(Parts(A)).sum(axis=1), ray.weights - ray.start, rtol=0, atol=1e-12)
    by_alpha, by_holdings = ray.operators(holdings=False)
    assert by_holdings is None
    np.testing.assert_allclose(by_alpha @ A, ray.split(Parts(A)), rtol=0, atol=1e-12)
