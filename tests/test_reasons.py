"""Why a position is what it is: the words of every state, and words that agree with the numbers they tell."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from problems import REGIMES, planned

import metafolio
from backtest import Dataset, Run, live_book
from engine import Limits, Problem, TradeCosts, optimize
from engine.prices import limit_costs, parts
from engine.reasons import describe_costs, position_reasons
from risk import FactorModel

NEUTRAL = Limits(["net"], np.ones((4, 1)), [0.0], [0.0])
FREE = Limits(["net"], np.ones((4, 1)), [-9.0], [9.0])
MODEL = FactorModel([*"ABCD"], ["market"], np.ones((4, 1)), [[0.0]], np.full(4, 0.1))


def told(alpha: list[float], **changes: object) -> list[str]:
    """Return the reasons of four assets with risk aversion 1, specific variance 0.1 and no factor risk."""
    terms: dict[str, object] = {
        "model": MODEL,
        "limits": FREE,
        "position_limit": 0.5,
        "gross_limit": 9.0,
        "volatility_limit": None,
        "risk_aversion": 1.0,
    }
    problem = Problem(np.array(alpha), **(terms | changes))  # type: ignore[arg-type]
    return position_reasons(problem, optimize(problem))["reason"].tolist()


def costs(linear: float = 0.0, impact: float = 0.0, borrow: float = 0.0) -> TradeCosts:
    return TradeCosts(np.full(4, linear), np.full(4, impact), np.full(4, borrow), annualisation=10.0)


def test_a_free_position_names_its_signal_and_what_holds_it_back() -> None:
    assert told([0.02, -0.03, 0.0, 0.0])[:3] == [
        "long on signal +2.0 %/yr; held back by specific risk (2.0 %/yr)",
        "short on signal -3.0 %/yr; held back by specific risk (3.0 %/yr)",
        "no position: nothing speaks for a position",
    ]


def test_a_position_at_its_cap_names_the_cap_and_its_price() -> None:
    assert told([0.021, -0.03, 0.0, 0.0], position_limit=0.018)[:2] == [
        "long on signal +2.1 %/yr; held at the 1.8 % cap (price 1.9 %/yr)",
        "short on signal -3.0 %/yr; held at the 1.8 % cap (price 2.8 %/yr)",
    ]
    lower = np.array([0.1, -0.5, 0.0, -0.5])
    upper = np.array([0.5, -0.1, 0.5, 0.0])
    assert told([-0.02, 0.02, -0.02, 0.04], position_limit=(lower, upper)) == [
        "long, against signal -2.0 %/yr: may not be less than 10 % (price 3.0 %/yr)",
        "short, against signal +2.0 %/yr: may not be less than 10 % (price 3.0 %/yr)",
        "no position: may not be short (signal -2.0 %/yr, price 2.0 %/yr)",
        "no position: may not be long (signal +4.0 %/yr, price 4.0 %/yr)",
    ]


def test_a_hedge_is_told_as_one() -> None:
    # Neutral: the short in D pays for the long in A, whatever its own signal.
    assert told([0.04, 0.0, 0.0, 0.0], limits=NEUTRAL)[1] == (
        "short, with no signal: hedges market (1.0 %/yr); held back by specific risk (1.0 %/yr)"
    )
    assert told([0.04, 0.004, -0.001, 0.0], limits=NEUTRAL)[1].startswith(
        "short, against signal +0.4 %/yr: hedges market (1.1"
    )
    assert told([0.04, 0.0, -0.001, 0.0], limits=NEUTRAL)[2].startswith(
        "short, with signal -0.1 %/yr: hedges market (1.0"
    )
    style = Limits(["style:momentum"], [[1.0], [1.0], [0.0], [0.0]], [0.0], [0.0])
    assert told([0.04, 0.01, 0.0, 0.0], limits=style)[1] == (
        "short, against signal +1.0 %/yr: hedges style:momentum (2.5 %/yr); held back by specific risk (1.5 %/yr)"
    )


def test_no_position_names_what_it_would_have_to_pay_for() -> None:
    alpha = [0.09, 0.003, -0.004, 0.0]
    assert told(alpha, costs=costs(linear=0.0005))[1] == (
        "no position: signal +0.3 %/yr does not pay for trading cost (0.5 %/yr)"
    )
    assert told(alpha, costs=costs(linear=0.0005, borrow=0.005))[2] == (
        "no position: signal -0.4 %/yr does not pay for borrow fee and trading cost (1.0 %/yr)"
    )
    # Gross of 0.4 leaves A with 0.4, at a price of 9 - 4 = 5 % a year.
    assert told(alpha, gross_limit=0.4)[1:3] == [
        "no position: signal +0.3 %/yr does not pay for the gross limit (5.0 %/yr)",
        "no position: signal -0.4 %/yr does not pay for the gross limit (5.0 %/yr)",
    ]
    pair = Limits(["style:size"], [[1.0], [1.0], [0.0], [1.0]], [-9.0], [0.4])
    # Size is worth 9 - 4 = 5 % a year: more than B's signal, less than a short costs.
    rest = told([0.09, 0.048, 0.0, 0.0], limits=pair, costs=costs(borrow=0.06))
    assert (
        rest[1]
        == "no position: signal +4.8 %/yr is outweighed by style:size (5.0 %/yr), and a short does not pay for borrow fee (6.0 %/yr)"
    )
    assert rest[3] == "no position: hedging style:size (5.0 %/yr) does not pay for borrow fee (6.0 %/yr)"
    # With a trading cost of 0.5 %, size is worth 4.5 %.
    rest = told([0.09, 0.047, 0.0, 0.0], limits=pair, costs=costs(linear=0.0005, borrow=0.06))
    assert (
        rest[1] == "no position: signal +4.7 %/yr, less style:size (4.5 %/yr), does not pay for trading cost (0.5 %/yr)"
    )
    rest = told([0.09, -0.01, 0.0, 0.0], limits=pair, costs=costs(linear=0.0005, borrow=0.06))
    assert rest[1] == (
        "no position: hedging style:size (4.5 %/yr), with signal -1.0 %/yr, does not pay for borrow fee and trading cost (6.5 %/yr)"
    )


def test_what_is_held_is_kept_sold_or_closed() -> None:
    held = np.array([0.3, 0.3, 0.3, -0.3])
    # The holding's risk costs 3 % a year; trading costs 1 %.
    words = told([0.035, 0.025, -0.005, 0.0], holdings=held, costs=costs(linear=0.001))
    assert words[0] == "kept: buying would gain 0.5 %/yr and cost 1.0 %/yr"
    assert words[1] == "kept: selling would gain 0.5 %/yr and cost 1.0 %/yr"
    assert words[2] == "long, against signal -0.5 %/yr: selling more would cost more than it gains"
    assert words[3] == "short, with no signal: buying back more would cost more than it gains"
    words = told([-0.015, 0.0, 0.0, 0.0], holdings=held, costs=costs(linear=0.001, borrow=0.02))
    assert (
        words[0]
        == "closed: signal -1.5 %/yr speaks for a short, but does not pay for borrow fee and trading cost (3.0 %/yr)"
    )


def test_a_name_that_cannot_move_says_so() -> None:
    held = np.array([0.2, 0.0, 0.1, 0.0])
    fixed = np.array([0.2, 0.0, 0.0, 0.1])
    words = told([0.05, 0.05, 0.05, 0.05], holdings=held, position_limit=(fixed, fixed), costs=costs(linear=0.001))
    assert words == ["cannot trade", "no position allowed", "must be closed", "fixed at 10 %"]


def test_drivers_that_are_one_thing_are_told_once() -> None:
    problem = planned("equalities only", 60, 1)
    text = " ".join(position_reasons(problem, optimize(problem))["reason"])
    assert "market/country/sector" in text
    assert not re.search(r"country:|sector:|\bnet\b", text)


RATE = r"([+-]?\d+\.\d+) %/yr"


@pytest.mark.parametrize("regime", REGIMES)
@pytest.mark.parametrize("seed", range(3))
def test_words_agree_with_the_numbers(regime: str, seed: int) -> None:
    problem = planned(regime, 60, seed)
    solution = optimize(problem)
    table = position_reasons(problem, solution)
    assert list(table.columns[:3]) == ["weight", "held_by", "reason"]
    pd.testing.assert_frame_equal(table.iloc[:, 3:], parts(problem, solution).frame())
    for row, alpha, h in zip(table.itertuples(), problem.alpha, problem.holdings, strict=True):
        text, w = str(row.reason), float(row.weight)
        rates = [float(rate) for rate in re.findall(RATE, text)]
        signal = re.search(f"signal {RATE}", text)
        assert signal is None or float(signal[1]) == pytest.approx(100 * alpha, abs=0.0501)
        if text.startswith(("long", "short")):
            assert text.startswith("long" if w > 0 else "short")
        elif text.startswith("kept"):
            assert w == h != 0
            assert rates[0] <= rates[1]
        elif row.held_by != "closed":
            assert w == 0
            assert text.startswith("no position" if h == 0 else "closed")
        if "outweighed" in text:
            assert -0.1 <= rates[1] - abs(rates[0]) <= rates[2] + 0.1
            assert np.sign(rates[0]) == (-1 if "a long does" in text else 1)
        elif "does not pay" in text:
            less = -rates[1] if "less" in text else abs(rates[1]) if "with signal" in text else 0.0
            assert abs(rates[0]) + less <= rates[-1] + 0.15
        assert ("cap (price" in text) == (row.held_by == "bound" and w != 0)


def test_costs_in_words() -> None:
    problem = planned("gross", 60, 0)
    lines = describe_costs(limit_costs(problem, optimize(problem)))
    assert lines[0] == "gross 30 % costs 3.75 %/yr (next 10 % of gross: at most 0.48 %/yr)"
    assert lines[1].startswith("country limits cost 0.05 %/yr")
    assert lines[-1] == "no cost: sector limits, style limits, position caps"
    assert any(line.startswith("net neutrality costs 0.01 %/yr") for line in lines)


# ---------------------------------------------------------------------------------------------------- the live book


@pytest.fixture(scope="module")
def books(market: Path, run: Run, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """Holdings of the run on one of its dates, and the arguments that make that date's book."""
    folder = tmp_path_factory.mktemp("live")
    date = run.table("solves")["date"].iloc[-3]
    positions = run.table("positions")
    held = positions[(positions["date"] == date) & (positions["shares"] != 0)]
    held[["asset", "shares"]].to_csv(folder / "held.csv", index=False)
    held["asset"].iloc[:2].to_frame().to_csv(folder / "barred.csv", index=False)
    lists = ["--holdings", str(folder / "held.csv"), "--restricted", str(folder / "barred.csv")]
    size = ["--nav", repr(float(run.nav["nav"][date]))]
    return folder, ["optimize", str(market), "--date", f"{date:%Y-%m-%d}", *lists, *size]


def call(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["metafolio", *arguments])
    with pytest.raises(SystemExit) as ended:
        metafolio.main()
    assert ended.value.code == 0


def test_orders_say_what_is_done_and_why(
    books: tuple[Path, list[str]], market: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, arguments = books
    call([*arguments, "--out", str(folder / "orders.csv"), "--json"], monkeypatch)
    record = json.loads(capsys.readouterr().out)
    orders = pd.read_csv(folder / "orders.csv").set_index("asset")
    held = pd.read_csv(folder / "held.csv").set_index("asset")["shares"].reindex(orders.index, fill_value=0.0)
    seen = set()
    for asset, row in orders.iterrows():
        done, _, why = row["reason"].partition(": ")
        seen.add(done)
        moves = row["trade_shares"] != 0
        after = row["target_weight"] != 0
        expected = {
            "open": moves and held[asset] == 0 and after,
            "rebalance": moves and held[asset] != 0 and after,
            "exit": moves and held[asset] != 0 and not after,
            "unchanged": abs(row["trade_value"]) < 1 and held[asset] != 0,
            "restricted": not moves,
        }
        assert expected[done], (asset, row["reason"])
        assert bool(why) == (done != "restricted")
        if done in ("open", "rebalance"):
            assert why.startswith("long" if row["target_weight"] > 0 else "short")
    assert {"rebalance", "unchanged", "restricted"} <= seen
    book = live_book(
        Dataset(market),
        "one",
        arguments[3],
        holdings=folder / "held.csv",
        restricted=folder / "barred.csv",
        nav=float(arguments[-1]),
    )
    pd.testing.assert_frame_equal(book.orders.set_index("asset"), orders, check_dtype=False)
    costs = limit_costs(book.problem, book.solution)
    assert {row["limit"]: row["cost"] for row in record["limits"]} == pytest.approx(costs["cost"].to_dict(), abs=1e-12)


def test_the_summary_shows_what_every_limit_costs_and_the_proof(
    books: tuple[Path, list[str]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, arguments = books
    call([*arguments, "--out", str(folder / "shown.csv")], monkeypatch)
    printed = capsys.readouterr().out
    for name in ("position", "country", "sector", "style", "net", "beta", "gross", "volatility"):
        assert re.search(rf"^{name} .* %$", printed, re.MULTILINE), name
    assert "proven: no book within these limits is better" in printed
    assert f"orders: {folder / 'shown.csv'}" in printed.replace("\n", "")
