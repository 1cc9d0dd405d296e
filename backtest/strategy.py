"""One date's decision: predictions and market, as known at the close, to a book with its proof."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from backtest.conditions import Conditions
from backtest.signals import Signal
from backtest.universe import Universe
from backtest.volatility_target import risk_appetite
from engine import Mandate, Problem, TradeCosts
from engine.decay import lifetime_share
from engine.limits import mandate_limits, widen_to_reach
from engine.mandate import CostRule
from engine.metamodel import MetaModel, grinold_alpha
from risk import DataError, FactorHistory, FactorModel, Panel, RiskSpec, estimate
from risk.checks import BoolArray, FloatArray

__all__ = ["Decision", "Market", "borrow_cost", "prepare", "trade_costs"]


@dataclass(frozen=True, eq=False)
class Market:
    """What a strategy may read: every row t of every part depends on data up to t only.

    Attributes
    ----------
    panel : Panel
    universe : Universe
        `members` and `size`, shape (T, N).
    suspended : bool ndarray of shape (T, N)
        No row though the asset's country has a session.
    traded_value : ndarray of shape (T, N)
        Trailing 63-row median dollar volume, carried forward where the asset has no row.
    history : FactorHistory
    spec : RiskSpec
    signals : mapping of int to Signal
        The meta model of each decision day on which there is one.
    conditions : Conditions
        Events, currencies, interest and borrow on the panel's days.
    """

    panel: Panel
    universe: Universe
    suspended: BoolArray
    traded_value: FloatArray
    history: FactorHistory
    spec: RiskSpec
    signals: Mapping[int, Signal]
    conditions: Conditions


@dataclass(frozen=True, eq=False)
class Decision:
    """One date's problem with its meta model.

    Attributes
    ----------
    problem : Problem
    assets : bool ndarray of shape (N,)
        Which of the panel's assets the problem holds.
    members : bool ndarray of shape (n,)
        Which of the problem's assets are in the universe; the others are held and left to exit or frozen.
    frozen : bool ndarray of shape (n,)
        Suspended and held: they stay where they are.
    meta : MetaModel
        Over the members, in their order.
    scores : ndarray of shape (n,)
        Meta model over the problem's assets; 0 for one that left the universe.
    alpha_scale : ndarray of shape (n,)
        alpha = alpha_scale * scores.
    benchmark : ndarray of shape (n,)
        Cap weights of the universe.
    widened : dict of str to float
        Limits that no trade could meet because of frozen names, and by how much they were widened.
    country, sector : tuple of str
    """

    problem: Problem
    assets: BoolArray
    members: BoolArray
    frozen: BoolArray
    meta: MetaModel
    scores: FloatArray
    alpha_scale: FloatArray
    benchmark: FloatArray
    widened: dict[str, float]
    country: tuple[str, ...]
    sector: tuple[str, ...]


def borrow_cost(rule: CostRule, conditions: Conditions, t: int) -> FloatArray:
    """Return what it costs a year to be short of each asset, as known at the close of t, shape (N,).

    The dated fee, or the mandate's own where none is known, and what the rebate falls short of the currency's rate. A short that earns
    more than it pays is priced as free: a negative price would make both legs of one name a profit.
    """
    fee = np.full(len(conditions.currency), rule.borrow_fee_annual)
    if conditions.borrow_fee is not None:
        fee = np.where(np.isnan(conditions.borrow_fee[t]), fee, conditions.borrow_fee[t])
    if conditions.rebate is not None:
        rate = 0.0 if conditions.rates is None else np.nan_to_num(conditions.rates[t])[conditions.currency]
        fee = fee + np.nan_to_num(rate - conditions.rebate[t])
    price: FloatArray = np.maximum(fee, 0.0)
    return price


def trade_costs(
    rule: CostRule, model: FactorModel, traded_value: FloatArray, borrow: FloatArray, nav: float, year: int
) -> TradeCosts:
    """Return trading costs by the square-root law at this net asset value.

    Parameters
    ----------
    traded_value : ndarray of shape (N,)
        Daily dollar volume, in the fund's currency; positive where the rule has an impact.
    borrow : ndarray of shape (n,)
        Cost of being short, per year.
    nav : float
    year : int
        Trading days in a year.

    Notes
    -----
    A trade of value v costs (half_spread + commission) |v| + Y sigma_day |v| sqrt(|v| / traded_value).

    Raises
    ------
    DataError
        If Y > 0 and a traded value is not known or 0.
    """
    if rule.impact_coefficient > 0 and not (traded_value > 0).all():
        asset = model.assets[int(np.argmin(traded_value > 0))]
        raise DataError(
            f"`dollar_volume` of {asset!r} is not known or 0 so far ({int((~(traded_value > 0)).sum())} such assets in all), "
            "and the mandate's `costs.impact_coefficient` asks for it. Add `dollar_volume` to the market, leave the asset "
            "out, or set the coefficient to 0."
        )
    X = model.exposures
    variance = np.einsum("ik,ik->i", X @ model.factor_covariance, X) + model.specific_variance
    daily = np.sqrt(variance / year)
    return TradeCosts(
        linear=np.full(len(X), (rule.half_spread_bps + rule.commission_bps) / 1e4),
        impact=rule.impact_coefficient * daily * np.sqrt(nav / traded_value)
        if rule.impact_coefficient > 0
        else 0 * daily,
        borrow=borrow,
        annualisation=year / rule.expected_holding_days,
    )


def prepare(
    market: Market,
    t: int,
    meta: MetaModel,
    holdings: FloatArray,
    nav: float,
    mandate: Mandate,
    *,
    multiplier: float = 1.0,
    restricted: BoolArray | None = None,
    lowest: FloatArray | None = None,
) -> Decision:
    """Return the portfolio problem of day t.

    Parameters
    ----------
    meta : MetaModel
        Of day t, over the universe.
    holdings : ndarray of shape (N,)
        Weights at the close of t, before trading, over the panel's assets.
    nav : float
        Net asset value at the close of t.
    multiplier : float
        What the book's own past says its forecast volatility is to be multiplied by (`risk.calibration`): the mandate's
        volatility limit is on the product.
    restricted : bool ndarray of shape (N,), optional
        Names that may not be traded: they stay where they are.
    lowest : ndarray of shape (N,), optional
        Lowest weights that can be borrowed, <= `holdings`; -inf where there is no limit.

    Raises
    ------
    DataError
        If the universe is smaller than the mandate's `minimum_assets`.
    """
    panel, date = market.panel, market.panel.dates[t]
    inside = market.universe.members[t]
    if inside.sum() < mandate.minimum_assets:
        raise DataError(
            f"{date:%Y-%m-%d}: the universe has {int(inside.sum())} assets, mandate {mandate.name!r} asks for at least "
            f"{mandate.minimum_assets} (minimum_assets). Lower the product's [universe] thresholds or start later."
        )
    held = holdings != 0
    assets = inside | held
    members = inside[assets]
    locked = market.suspended[t] if restricted is None else market.suspended[t] | restricted
    frozen = (locked & held)[assets]
    names = tuple(np.array(panel.assets, dtype=object)[assets])

    model = estimate(
        panel, market.universe.members, market.universe.size, market.spec, t=t, assets=assets, history=market.history
    )
    scores = np.zeros(len(names))
    scores[members] = meta.scores
    scale = grinold_alpha(np.ones(len(names)), model.specific_variance, mandate.alpha, panel.periods_per_year)
    scale = scale * lifetime_share(mandate)

    benchmark = np.zeros(len(names))
    benchmark[members] = market.history.descriptors.size[t][inside]
    benchmark /= benchmark.sum()
    country = tuple(panel.countries[c] if c >= 0 else "" for c in panel.country[t][assets])
    sector = tuple(panel.sectors[c] if c >= 0 else "" for c in panel.sector[t][assets])
    before = holdings[assets]
    may_not_open = ~members | (locked & ~held)[assets]
    cap = np.where(may_not_open, 0.0, mandate.position_target)
    floor = -cap if lowest is None else np.maximum(-cap, lowest[assets])
    lower, upper = np.where(frozen, before, floor), np.where(frozen, before, cap)
    limits = mandate_limits(mandate, model, country=country, sector=sector, benchmark=benchmark)
    limits, widened = widen_to_reach(limits, lower, upper)
    volatility, aversion = risk_appetite(mandate, multiplier)
    problem = Problem(
        alpha=scale * scores,
        model=model,
        limits=limits,
        position_limit=(lower, upper),
        gross_limit=mandate.gross_limit,
        volatility_limit=volatility,
        risk_aversion=aversion,
        holdings=before,
        costs=trade_costs(
            mandate.costs,
            model,
            market.traded_value[t][assets],
            borrow_cost(mandate.costs, market.conditions, t)[assets],
            nav,
            panel.periods_per_year,
        ),
        turnover_limit=mandate.turnover_limit,
    )
    return Decision(problem, assets, members, frozen, meta, scores, scale, benchmark, widened, country, sector)
