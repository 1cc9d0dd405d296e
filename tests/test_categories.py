"""Categories of several families at once: every identity between them has its constraint, no more and no less."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from planted_market import PlantedMarket, plain_spec, plant

from risk import Panel, RiskSpec, factor_history
from risk.categories import day_categories
from risk.exposures import day_exposures
from risk.regression import constraint_rows

SPEC = plain_spec(styles=(), thin_category=3, currencies=True)


def labelled(
    country: np.ndarray, currency: np.ndarray, sector: np.ndarray, industry: np.ndarray, *, base: str = "C0"
) -> Panel:
    """Return a panel of one day with these codes; labels are a letter and their code."""
    market = plant(1, 1, len(country))

    def names(letter: str, codes: np.ndarray) -> tuple[str, ...]:
        return tuple(f"{letter}{code}" for code in range(int(codes.max()) + 1))

    codes = {"country": country, "currency": currency, "sector": sector, "industry": industry}
    return dataclasses.replace(
        market.panel,
        **{name: array.astype(np.int16)[None, :] for name, array in codes.items()},
        countries=names("L", country),
        currencies=names("C", currency),
        sectors=names("S", sector),
        industries=names("I", industry),
        base_currency=base,
    )


def design(panel: Panel, size: np.ndarray, spec: RiskSpec = SPEC) -> tuple[tuple[str, ...], np.ndarray, np.ndarray]:
    """Return factors, exposures and constraints of the panel's day."""
    everyone = np.ones(len(size), dtype=bool)
    day = day_exposures(panel, 0, np.zeros((0, len(size)), np.float32), size, everyone, everyone, spec)
    return day.factors, day.matrix, constraint_rows(day.matrix, day.families, size)


@pytest.mark.parametrize("seed", range(40))
def test_constraints_are_exactly_as_many_as_identities(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n, countries, currencies, sectors = 400, *rng.integers(2, 7, 3)
    country, sector = rng.integers(0, countries, n), rng.integers(0, sectors, n)
    # Currencies are those of the country, or mixed in one country or in all of them.
    currency = rng.integers(0, currencies, countries)[country]
    mixed = (country == 0) if seed % 3 == 1 else np.full(n, seed % 3 == 2)
    currency = np.where(mixed & (rng.random(n) < 0.4), rng.integers(0, currencies, n), currency)
    industry = sector * 3 + rng.integers(0, 3, n)
    panel = labelled(country, currency, sector, industry, base="C0" if seed % 2 else "none")
    size = np.exp(rng.normal(0, 1, n))
    _, X, C = design(panel, size)
    rank = np.linalg.matrix_rank(X)
    assert np.linalg.matrix_rank(np.vstack([X, C])) == X.shape[1]
    assert rank + len(C) == X.shape[1]
    assert ((C != 0).sum(axis=0) <= 1).all()


def test_industries_stand_within_their_sector_and_thin_ones_move_with_it() -> None:
    sector = np.repeat([0, 1, 2], [14, 10, 9])
    industry = np.repeat([0, 1, 2, 3, 4, 5, 6], [6, 6, 2, 8, 2, 5, 4])
    zeros, size = np.zeros(33, dtype=int), np.arange(1.0, 34)
    panel = labelled(zeros, zeros, sector, industry)
    factors, X, C = design(panel, size)
    # I2 and I4 are thin; I3 is alone in its sector then.
    assert factors == (
        "market",
        *("sector:S0", "sector:S1", "sector:S2"),
        *("industry:I0", "industry:I1"),
        *("industry:I5", "industry:I6"),
    )
    assert (X[12:14] == [1, 1, 0, 0, 0, 0, 0, 0]).all()
    assert (X[14:24] == [1, 0, 1, 0, 0, 0, 0, 0]).all()
    share = np.array([size[:6].sum(), size[6:12].sum()]) / size[:12].sum()
    np.testing.assert_allclose(C[1], [0, 0, 0, 0, *share, 0, 0], atol=1e-15)
    assert len(C) == 3
    categories = day_categories(panel, 0, np.ones(33, dtype=bool), SPEC)
    assert categories.families["industry"].pooled == ("I2", "I3", "I4")
    assert "industry" not in day_categories(panel, 0, np.ones(33, dtype=bool), plain_spec(industries=False)).families


def test_an_industry_counts_where_most_of_it_is() -> None:
    sector = np.repeat([0, 1], [10, 10])
    industry = np.r_[np.repeat([0, 1], 5), np.repeat([2, 3, 0], [4, 4, 2])]
    zeros = np.zeros(20, dtype=int)
    factors, X, _ = design(labelled(zeros, zeros, sector, industry), np.ones(20))
    column = factors.index("industry:I0")
    assert X[:5, column].all()
    assert not X[5:, column].any()


def test_the_countries_of_a_currency_are_measured_against_it_and_a_currency_of_one_country_is_that_country() -> None:
    country = np.repeat([0, 1, 2, 3], 5)
    currency = np.repeat([1, 1, 2, 0], 5)  # L0 and L1 share C1; L2 alone has C2; L3 has the base currency
    zeros, size = np.zeros(20, dtype=int), np.arange(1.0, 21)
    panel = labelled(country, currency, zeros, zeros)
    factors, X, C = design(panel, size)
    assert factors == ("market", "country:L0", "country:L1", "country:L2", "country:L3", "currency:C1")
    assert day_categories(panel, 0, np.ones(20, dtype=bool), SPEC).families["currency"].pooled == ("C2",)
    assert (C != 0).tolist() == [[False, True, True, False, False, False], [False, False, False, True, True, True]]
    # Any return is fitted as by countries alone, and the currency is the size-weighted return of its countries.
    returns = np.random.default_rng(0).standard_normal(20)
    by_country = np.array([np.average(returns[country == k], weights=np.sqrt(size)[country == k]) for k in range(4)])
    f = np.linalg.lstsq(np.vstack([X * size[:, None] ** 0.25, C]), np.r_[returns * size**0.25, 0, 0], rcond=None)[0]
    mass = np.bincount(country, weights=size)
    assert f[0] == pytest.approx(by_country @ mass / mass.sum())
    assert f[0] + f[5] == pytest.approx(by_country[:2] @ mass[:2] / mass[:2].sum())


@pytest.fixture(scope="module")
def market() -> PlantedMarket:
    return plant(3, 160, 120)


def with_industries(market: PlantedMarket, volatility: float) -> tuple[PlantedMarket, np.ndarray]:
    """Return the market with four industries in each sector, and their factor returns, zero by size in each sector."""
    rng = np.random.default_rng(4)
    shape = market.panel.returns.shape
    industry = (market.panel.sector[0] * 4 + rng.permutation(shape[1]) % 4).astype(np.int16)
    f = volatility * rng.standard_normal((shape[0], 8))
    mass = np.bincount(industry, weights=market.size[0])
    for columns in (slice(0, 4), slice(4, 8)):
        f[:, columns] -= (f[:, columns] @ mass[columns] / mass[columns].sum())[:, None]
    panel = dataclasses.replace(
        market.panel,
        returns=market.panel.returns + f[:, industry],
        industry=np.tile(industry, (shape[0], 1)),
        industries=tuple(f"I{k}" for k in range(8)),
    )
    return dataclasses.replace(market, panel=panel), f


def test_planted_industry_returns_are_recovered_and_the_others_stay(market: PlantedMarket) -> None:
    moved, truth = with_industries(market, 0.02)
    spec = plain_spec(styles=("size",), return_winsor=50.0)
    history = factor_history(moved.panel, moved.members, moved.size, spec)
    columns = [history.factors.index(f"industry:I{k}") for k in range(8)]
    for k, column in enumerate(columns):
        assert np.corrcoef(history.factor_returns[1:, column], truth[1:, k])[0, 1] > 0.95
    mass = np.bincount(moved.panel.industry[0], weights=moved.size[0])  # type: ignore[index]
    for part in (slice(0, 4), slice(4, 8)):
        np.testing.assert_allclose(history.factor_returns[:, columns[part]] @ mass[part], 0.0, atol=1e-12 * mass.sum())
    before = factor_history(market.panel, market.members, market.size, spec)
    sector = before.factors.index("sector:Tech")
    again = history.factors.index("sector:Tech")
    assert np.corrcoef(history.factor_returns[1:, again], before.factor_returns[1:, sector])[0, 1] > 0.9
