"""How much of an order fills on its day, and what the trade costs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from backtest.market_day import MarketDay
from backtest.orders import Orders
from engine import TradeCosts
from risk import DataError
from risk.checks import BoolArray, FloatArray

__all__ = ["CostSchedule", "Execution", "execute", "volume_room"]

Index = npt.NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class Execution:
    """What becomes of one decision's orders on a day; each array has one entry per asset named.

    Attributes
    ----------
    asset, shares : ndarray
        What fills.
    waiting : ndarray
        Assets that cannot trade that day.
    short_of_volume, left : ndarray
        Assets of which a part waits for another day's volume, and the shares of that part.
    unlocated, cancelled : ndarray
        Assets that lenders do not have, and the shares that are not sold.
    """

    asset: Index
    shares: FloatArray
    waiting: Index
    short_of_volume: Index
    left: FloatArray
    unlocated: Index
    cancelled: FloatArray


def volume_room(market: MarketDay, price: FloatArray, limit: float | None) -> FloatArray:
    """Return how many shares of each asset may trade that day, shape (N,).

    Parameters
    ----------
    market : MarketDay
    price : ndarray of shape (N,)
        In base money.
    limit : float or None
        Largest share of the day's dollar volume; where that is not known, nothing may. None: no limit.

    Raises
    ------
    DataError
        If there is a limit and no dollar volume.
    """
    if limit is None:
        return np.full(len(price), np.inf)
    if market.dollar_volume is None:
        raise DataError("`participation_limit` asks for `dollar_volume`. Add it to the market, or remove the limit.")
    volume = limit * np.nan_to_num(market.dollar_volume)
    return np.divide(volume, price, out=np.zeros_like(volume), where=price > 0)


def execute(
    orders: Orders, tradable: BoolArray, held: FloatArray, most_short: FloatArray, room: FloatArray
) -> Execution:
    """Take what fills from a decision's orders, and the volume that it uses from `room`.

    A sale that opens or widens a short fills up to what can be borrowed, and the rest is cancelled. What the day's volume does
    not take waits.

    Parameters
    ----------
    orders : Orders
        What waits stays in them.
    tradable : bool ndarray of shape (N,)
    held, most_short, room : ndarray of shape (N,)
        Shares held, shares that may be short, and shares that may still trade that day.
    """
    asset = np.flatnonzero(orders.shares)
    waiting, asset = asset[~tradable[asset]], asset[tradable[asset]]
    ordered = orders.shares[asset]
    located = np.maximum(ordered, np.minimum(-most_short[asset] - held[asset], 0.0))
    filled = np.clip(located, -room[asset], room[asset])
    left = located - filled
    orders.shares[asset] = left
    room[asset] -= np.abs(filled)
    partly, refused, some = left != 0, located != ordered, filled != 0
    return Execution(
        asset[some], filled[some], waiting, asset[partly], left[partly], asset[refused], (ordered - located)[refused]
    )


class CostSchedule:
    """What trading each of N assets costs: what the optimizer priced when it last decided.

    Parameters
    ----------
    n : int
    commission : float
        Fraction of the value traded; all that is charged on an asset which no decision has priced yet.
    """

    def __init__(self, n: int, commission: float) -> None:
        self.commission = commission
        self._linear, self._impact = np.full(n, commission), np.zeros(n)

    def set(self, assets: BoolArray, costs: TradeCosts, nav: float) -> None:
        """Take the costs of some assets, as they were priced at a net asset value.

        Raises
        ------
        DataError
            If linear costs are below the commission that is a part of them.
        """
        if (costs.linear < self.commission * (1 - 1e-12)).any():
            raise DataError(
                f"`linear` costs of {costs.linear.min():.4g} hold a commission of {self.commission:.4g}: they must not be below it."
            )
        self._linear[assets] = costs.linear
        self._impact[assets] = costs.impact / np.sqrt(nav)

    def charge(self, asset: Index, value: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Return half-spread, commission and impact of trades, each >= 0, in base money.

        Parameters
        ----------
        asset : int ndarray of shape (n,)
        value : ndarray of shape (n,)
            Traded, in base money.
        """
        v = np.abs(value)
        commission = self.commission * v
        # A square root is the same on every machine, a power of 1.5 is not.
        return self._linear[asset] * v - commission, commission, self._impact[asset] * (v * np.sqrt(v))
