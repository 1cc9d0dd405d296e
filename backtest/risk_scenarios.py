"""What if: the scenarios of the risk report, whose sizes are our assumption and are stated beside each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from backtest.risk_run import RiskBook
from backtest.strategy import Market
from risk import replay
from risk.decomposition import family
from risk.regime_shift import shift_regime
from risk.replay import WINDOWS, Replay
from risk.scenario import Stress, stress_parts, stress_table
from risk.stress import (
    MONTH,
    conditional_shock,
    deleveraging,
    factor_shock,
    market_move,
    reverse_stress,
    worst_case,
)

__all__ = ["Scenarios", "scenarios"]

BETS = ("market", "style", "signal")
MARKET_MOVES = (-0.20, -0.10, 0.10, 0.20)
SHOCK_SIZE = 3.0
"""Standard deviations of a month, of each shock to one factor and of the worst case."""
SPECIFIC_SIZE = 0.5
"""Standard deviations of a week by which every position's specific return goes against the book in a deleveraging."""
REVERSE_LOSSES = (0.05, 0.10)
REGIMES = (
    ("volatility x 1.5", 1.5, 0.0),
    ("volatility x 2", 2.0, 0.0),
    ("correlation + 0.25 of the way to 1", 1.0, 0.25),
    ("volatility x 2, correlation + 0.5 of the way to 1", 2.0, 0.5),
)


@dataclass(frozen=True, eq=False)
class Scenarios:
    """Losses of today's book in named scenarios. A loss is a positive fraction of net asset value.

    Attributes
    ----------
    stresses : DataFrame by name
        ``group``, then the columns of `risk.scenario.stress_table`; the order is that of the report.
    parts : DataFrame by name
        Loss by family of factors, and ``specific``; a row sums to the loss.
    replays : DataFrame by window
        ``start``, ``end``, ``in_data``, ``days``, ``loss`` (by today's exposures), ``own_loss`` (by today's weights and the assets' own
        returns), ``own_absent_gross`` (share of gross without returns then), ``worst_day`` (least profit of a day), ``worst_date``, ``drawdown``, ``note``.
    replays_missing : str
        Why nothing could be replayed; empty where something was.
    regimes : DataFrame by name
        ``volatility_scale``, ``correlation_shift``, ``volatility`` (forecast, per year), ``calibrated``, ``ratio`` to today's.
    """

    stresses: pd.DataFrame
    parts: pd.DataFrame
    replays: pd.DataFrame
    replays_missing: str
    regimes: pd.DataFrame


def scenarios(book: RiskBook, market: Market | None, missing: str) -> Scenarios:
    """Return the scenarios of a book that holds something.

    Parameters
    ----------
    market : Market or None
        For replays; None where the data set cannot be read.
    missing : str
        Why.
    """
    found = list(_stresses(book))
    stresses = [stress for _, stress in found]
    table = stress_table(stresses)
    table.insert(0, "group", [group for group, _ in found])
    parts = stress_parts(stresses)
    families = [family(str(name)) for name in parts.columns]
    return Scenarios(
        stresses=table,
        parts=parts.T.groupby(families, sort=False).sum().T,
        replays=_replay_table(_replays(book, market)),
        replays_missing="" if market is not None else missing,
        regimes=_regimes(book),
    )


def _stresses(book: RiskBook) -> Iterator[tuple[str, Stress]]:
    model, w = book.model, book.weights
    if book.benchmark.any():
        for move in MARKET_MOVES:
            yield "market", market_move(model, w, f"market {move:+.0%}", book.benchmark, move)
    exposure = model.exposures.T @ w
    size = SHOCK_SIZE * np.sqrt(MONTH * np.maximum(np.diag(model.factor_covariance), 0.0))
    against = {
        name: -float(np.sign(x) or 1.0) * float(s)
        for name, x, s in zip(model.factors, exposure, size, strict=True)
        if family(name) in BETS
    }
    for name, shock in against.items():
        yield "one factor", factor_shock(model, w, f"{name} {SHOCK_SIZE:g} sd against the book", {name: shock})
    for name, shock in against.items():
        if shock:
            title = f"{name} {SHOCK_SIZE:g} sd, others follow"
            yield "one factor, others as expected", conditional_shock(model, w, title, {name: shock})
    if any(family(name) in ("style", "signal") for name in model.factors):
        yield "deleveraging", deleveraging(model, w, "styles unwound", SHOCK_SIZE)
        title = "styles unwound, and every position"
        yield "deleveraging", deleveraging(model, w, title, SHOCK_SIZE, specific_size=SPECIFIC_SIZE)
    yield "worst case", worst_case(model, w, f"worst case of the factors, {SHOCK_SIZE:g} sd", SHOCK_SIZE)
    title = f"worst case of factors and positions, {SHOCK_SIZE:g} sd"
    yield "worst case", worst_case(model, w, title, SHOCK_SIZE, specific=True)
    for loss in REVERSE_LOSSES:
        yield "reverse", reverse_stress(model, w, f"likeliest way to lose {loss:.0%}", loss, specific=True)


def _replays(book: RiskBook, market: Market | None) -> tuple[Replay, ...]:
    if market is None:
        return ()
    place = pd.Index(market.panel.assets).get_indexer(pd.Index(book.model.assets))
    # Of weekly regressions the rows between two are no part of a window.
    sessions = market.history.spec.sessions
    own = market.panel.returns[:, place] if sessions == 1 else None
    year = round(book.year / sessions)
    return replay(book.model, book.weights, market.history, windows=WINDOWS, asset_returns=own, periods_per_year=year)


def _replay_table(replays: tuple[Replay, ...]) -> pd.DataFrame:
    columns = ("start", "end", "in_data", "days", "loss", "own_loss", "own_absent_gross", "worst_day", "worst_date")
    rows = [
        {
            "start": found.start,
            "end": found.end,
            "in_data": found.in_data,
            "days": found.days,
            "loss": found.stress.loss,
            "own_loss": -found.own_profit,
            "own_absent_gross": found.own_absent_gross,
            "worst_day": found.worst_day,
            "worst_date": found.worst_date,
            "drawdown": found.drawdown,
            "note": found.stress.note,
        }
        for found in replays
    ]
    names = pd.Index([found.stress.name for found in replays], name="window")
    return pd.DataFrame(rows, index=names, columns=[*columns, "drawdown", "note"])


def _regimes(book: RiskBook) -> pd.DataFrame:
    today = book.model.volatility(book.weights)
    rows = []
    for _, scale, shift in REGIMES:
        volatility = shift_regime(book.model, volatility=scale, correlation=shift).volatility(book.weights)
        rows.append(
            {
                "volatility_scale": scale,
                "correlation_shift": shift,
                "volatility": volatility,
                "calibrated": volatility * book.multiplier,
                "ratio": volatility / today,
            }
        )
    return pd.DataFrame(rows, index=pd.Index([name for name, _, _ in REGIMES], name="regime"))
