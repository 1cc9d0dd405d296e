"""A mandate's words as rows, and what happens to rows that no trade can meet."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

import engine
from engine import ONE, Limits, Mandate, Problem, load_mandate, optimize
from engine.limits import mandate_limits, widen_to_reach
from engine.mandate import Tiers
from risk import DataError, FactorModel

COUNTRY = ("US", "US", "US", "PE", "PE", "JP", "JP")
SECTOR = ("Energy",) * 7


@pytest.fixture
def model() -> FactorModel:
    rng = np.random.default_rng(2)
    X = np.column_stack([np.ones(7), rng.standard_normal(7)])
    return FactorModel(
        [f"A{i}" for i in range(7)], ["market", "style:size"], X, [[0.03, 0.0], [0.0, 0.001]], [0.09] * 7
    )


@pytest.fixture
def limits(model: FactorModel) -> Limits:
    return mandate_limits(ONE, model, country=COUNTRY, sector=SECTOR, benchmark=np.full(7, 1 / 7))


def test_rows_are_net_beta_categories_and_styles(model: FactorModel, limits: Limits) -> None:
    # One sector is net by another name.
    assert limits.names == ("net", "beta", "country:JP", "country:PE", "country:US", "style:size")
    w = np.arange(7.0)
    level = dict(zip(limits.names, limits.exposures.T @ w, strict=True))
    assert level["net"] == w.sum()
    assert level["country:PE"] == w[3] + w[4]
    assert level["style:size"] == pytest.approx(w @ model.exposures[:, 1])
    b = np.full(7, 1 / 7)
    V = model.exposures @ model.factor_covariance @ model.exposures.T + np.diag(model.specific_variance)
    assert level["beta"] == pytest.approx(w @ V @ b / (b @ V @ b))
    bounds = dict(zip(limits.names, limits.upper, strict=True))
    assert (bounds["net"], bounds["country:PE"], bounds["beta"], bounds["style:size"]) == (0.0, 0.0, 0.01, 0.10)
    assert (limits.lower == -limits.upper).all()


def test_rows_get_the_tier_of_their_kind(model: FactorModel) -> None:
    def tiers(mandate: Mandate) -> dict[str, int]:
        limits = mandate_limits(mandate, model, country=COUNTRY, sector=SECTOR, benchmark=np.full(7, 1 / 7))
        return dict(zip(limits.names, limits.tier.tolist(), strict=True))

    neutral = {"net": 0, "country:JP": 0, "country:PE": 0, "country:US": 0}
    assert tiers(ONE) == neutral | {"beta": 1, "style:size": 2}
    other = ONE.model_copy(update={"tiers": Tiers(country=3, style=0)})
    assert tiers(other) == {"net": 0, "beta": 1, "country:JP": 3, "country:PE": 3, "country:US": 3, "style:size": 0}


def test_tiers_are_read_from_a_file_and_checked(tmp_path: Path) -> None:
    text = (Path(engine.__file__).parent / "mandates" / "one.toml").read_text()
    file = tmp_path / "mandate.toml"
    file.write_text(
        'on_infeasible = "relax"\n' + text.replace('"costs.exp', '"tiers.style", "costs.exp') + "\n[tiers]\nstyle = 4\n"
    )
    mandate = load_mandate(str(file))
    assert (mandate.on_infeasible, mandate.tiers) == ("relax", Tiers(style=4))
    assert "tiers.style" in mandate.assumed
    for wrong, words in (
        ("style = -1", "`tiers.style` = -1"),
        ("gross = 1", "unknown key `tiers.gross`"),
        ("net = 0.5", "`tiers.net`"),
    ):
        file.write_text(f"{text}\n[tiers]\n{wrong}\n")
        with pytest.raises(DataError, match=re.escape(words)):
            load_mandate(str(file))


def test_labels_of_another_length_are_refused(model: FactorModel) -> None:
    with pytest.raises(DataError, match="must name 7 assets"):
        mandate_limits(ONE, model, country=COUNTRY[:6], sector=SECTOR, benchmark=np.full(7, 1 / 7))


def test_a_book_that_can_trade_widens_nothing(limits: Limits) -> None:
    same, widened = widen_to_reach(limits, np.full(7, -0.018), np.full(7, 0.018))
    assert widened == {}
    assert (same.lower == limits.lower).all()
    assert (same.upper == limits.upper).all()


@pytest.mark.parametrize(
    ("stuck", "peer", "amount"),
    [
        (0.010, 0.0, 0.010),  # the peer may not be opened
        (0.020, 0.018, 0.002),  # the peer's cap offsets all but 0.002
        (-0.020, 0.018, 0.002),
        (0.018, 0.018, 0.0),  # the peer can just offset it
        (0.010, 0.018, 0.0),
    ],
)
def test_a_row_out_of_reach_is_widened_to_the_nearest_level_and_can_then_be_solved(
    model: FactorModel, limits: Limits, stuck: float, peer: float, amount: float
) -> None:
    lower, upper = np.full(7, -0.018), np.full(7, 0.018)
    lower[3] = upper[3] = stuck
    lower[4], upper[4] = -peer, peer
    wide, widened = widen_to_reach(limits, lower, upper)
    # What Peru keeps is offset in the country with the most tradable names, so that the book stays neutral as a whole.
    expected = {} if amount == 0 else {"country:PE": pytest.approx(amount), "country:US": pytest.approx(amount)}
    assert widened == expected
    rng = np.random.default_rng(0)
    problem = Problem(0.05 * rng.standard_normal(7), model, wide, (lower, upper), 6.0, 0.10, 15.0)
    w = optimize(problem).weights
    assert w[3] == stuck
    assert abs(w[3] + w[4]) == pytest.approx(amount, abs=1e-8)
    assert abs(w.sum()) < 1e-8
