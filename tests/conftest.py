"""A small synthetic market and a run of One on it, made once for all tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from backtest import Dataset, Run, simulate
from backtest.synthetic import MarketSpec, write_market

SPEC = MarketSpec(
    assets=70,
    years=1.6,
    models=12,
    countries=3,
    sectors=4,
    seed=3,
    delisting_rate=0.15,
    local_holidays=6,
    median_cap=8e9,
)


@pytest.fixture(scope="session")
def market(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("market") / "data"
    write_market(folder, SPEC)
    return folder


@pytest.fixture(scope="session")
def run(market: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return simulate(Dataset(market), "one", out=tmp_path_factory.mktemp("runs") / "one")
