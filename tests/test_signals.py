"""The fund's signals as factors: known when they are used, and of one name with nothing else."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from market_files import write_market as write_small

from backtest import Dataset
from backtest.products import load_product
from backtest.signals import SIGNALS, known_signals, signal_exposures
from backtest.universe import universe
from risk import DataError, UserExposures


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory):
    data = Dataset(write_small(tmp_path_factory.mktemp("signals") / "data", n_assets=30, n_days=270, n_models=3))
    product, mandate = load_product("one")
    panel = data.panel()
    members = universe(panel, product.universe.applied_to(data.market_columns()), stale_days=data.settings.stale_days)
    signals = known_signals(data, product, mandate, panel, members, progress=lambda _done, _total: None)
    return data, product, mandate, panel, members, signals


def test_a_signal_is_in_force_from_its_decision_to_the_next(parts) -> None:
    _, _, _, panel, members, signals = parts
    found = signal_exposures(panel, members, signals)
    assert found.factors == SIGNALS
    days = sorted(signals)
    assert len(days) > 5
    assert np.isnan(found.values[: days[0]]).all()
    for t, following in itertools.pairwise(days):
        inside = members.members[t]
        np.testing.assert_allclose(found.values[t, 0, inside], signals[t].meta.scores, rtol=1e-6)
        np.testing.assert_array_equal(found.values[following - 1], found.values[t])
        assert np.isnan(found.values[t][:, ~inside]).all()


def test_alpha_is_the_score_times_volatility(parts) -> None:
    _, _, _, panel, members, signals = parts
    found = signal_exposures(panel, members, signals)
    t = sorted(signals)[-1]
    weights = 0.5 ** (np.arange(t, -1, -1) / 84)
    known = np.isfinite(panel.returns[: t + 1])
    square = np.where(known, panel.returns[: t + 1], 0.0) ** 2
    volatility = np.sqrt((weights @ square) / (weights @ known))
    inside = members.members[t]
    np.testing.assert_allclose(found.values[t, 1, inside], signals[t].meta.scores * volatility[inside], rtol=1e-4)


def test_a_decision_outside_the_schedule_has_its_signal(parts) -> None:
    data, product, mandate, panel, members, signals = parts
    last = len(panel.dates) - 1
    more = known_signals(data, product, mandate, panel, members, also=last, progress=lambda _done, _total: None)
    assert set(more) == {*signals, last}


def test_a_column_of_the_same_name_is_refused_with_the_remedy(parts) -> None:
    _, _, _, panel, members, signals = parts
    shape = (len(panel.dates), 1, len(panel.assets))
    user = UserExposures(("signal:meta_model",), np.zeros(shape, dtype=np.float32))
    with pytest.raises(DataError, match="Rename it, or set `signal_factors = false`"):
        signal_exposures(panel, members, signals, user)
