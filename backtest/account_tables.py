"""The tables of `backtest.account_rows` for a run that was made without them: built again from its data set."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from backtest.account_rows import asset_rows, factor_rows, group_rows
from backtest.daily_book import read_book
from backtest.dataset import Dataset
from backtest.products import Product
from backtest.rulings import rulings
from backtest.simulator import market_of
from backtest.store import Run
from backtest.strategy import Market
from engine import Mandate
from risk import DataError

__all__ = ["AccountTables", "account_tables"]


@dataclass(frozen=True, eq=False)
class AccountTables:
    """Tables as the run folder holds them.

    Attributes
    ----------
    assets : DataFrame with columns date, asset, country, sector, traded_value
    factor_returns : DataFrame with columns date, factor, factor_return, exposure
    group_returns : DataFrame with columns date, family, group, weight, group_return
    """

    assets: pd.DataFrame
    factor_returns: pd.DataFrame
    group_returns: pd.DataFrame


def account_tables(run: Run, market: Market | None = None) -> AccountTables:
    """Return the tables of a run, from its data set and the risk settings of its product.

    Parameters
    ----------
    market : Market, optional
        Of the run's data and product, where it is at hand; by default it is read, which takes as long as a backtest's start.

    Raises
    ------
    DataError
        If the data set has moved or changed since the run, or `market` lacks the run's days or assets.
    """
    book = read_book(run)
    if market is None:
        data = Dataset(run.record["data"]["path"])
        if data.fingerprint() != run.record["data"]["fingerprint"]:
            raise DataError(f"{data.folder}: has changed since {run.folder} was made; run the backtest again.")
        product = Product.model_validate(run.record["product"])
        mandate = Mandate.model_validate(run.record["mandate"])
        with threadpool_limits(1):
            market, _ = market_of(data, product, mandate, end=book.dates[-1])
    days = market.panel.dates.get_indexer(book.dates)
    places = pd.Index(market.panel.assets).get_indexer(pd.Index(book.assets))
    if (days < 0).any() or (places < 0).any():
        raise DataError("`market` must hold every day and asset of the run; read it from the run's own data set.")
    weights = np.zeros((len(book.dates), len(market.panel.assets)))
    weights[:, places] = book.weights_before
    decided = []
    for ruling in rulings(run, book):
        chosen = np.zeros(len(market.panel.assets), dtype=np.bool_)
        chosen[places[ruling.assets]] = True
        decided.append(asset_rows(market, int(days[ruling.first]), chosen))
    return AccountTables(
        assets=pd.concat(decided, ignore_index=True),
        factor_returns=pd.concat(
            [factor_rows(market, int(t), w) for t, w in zip(days, weights, strict=True)], ignore_index=True
        ),
        group_returns=pd.concat([group_rows(market, int(t)) for t in days], ignore_index=True),
    )
