"""The market of a synthetic world: calendar, assets, true factors, returns, prices and volumes.

    r_i(t) = sum_k X_ik f_k(t) + e_i(t)        simple daily return, X constant in time

The columns of X are the market (ones), countries and sectors (0 or 1; a family of one is dropped) and three styles:
`style:beta`, `style:size` (log capitalisation at listing) and `style:residual_volatility` (log specific volatility), each with
capitalisation-weighted mean 0 and standard deviation 1. Country and sector returns sum to zero over capitalisation at
listing, as the risk model's do, so X and F are the form it estimates. The beta style moves with the market: its return is
`beta_dispersion` times the market's plus its own. Factor shocks are normal and independent over time. There is no true
momentum, reversal or liquidity factor, no volatility clustering, no dividend and no share issue; what momentum there is
comes from the persistence of the planted alpha. Exposures stay as planted while capitalisations drift with prices.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.special import stdtr

from backtest.synthetic_latents import Float32Array
from backtest.synthetic_spec import COUNTRIES, SECTORS, SESSIONS_PER_YEAR, VOLATILITY_REACH, MarketSpec
from risk import FactorModel
from risk.checks import BoolArray, FloatArray

__all__ = ["Assets", "Prices", "Returns", "calendar", "draw_assets", "draw_prices", "draw_returns", "draw_rows"]

IntArray = npt.NDArray[np.intp]

TAIL_LIMIT = 12.0
"""Specific shocks beyond this many standard deviations are drawn again; the variance is that of what is left."""
RETURN_FLOOR, RETURN_CEILING = -0.95, 8.0
COMMON_HOLIDAYS = (
    *((1, 1), (1, 2), (2, 17), (4, 18), (4, 21), (5, 1), (5, 28)),
    *((7, 4), (9, 2), (11, 27), (12, 24), (12, 25), (12, 26)),
)


def calendar(spec: MarketSpec) -> pd.DatetimeIndex:
    """Return the sessions: weekdays over `spec.years` calendar years but for the common holidays, length T."""
    end = spec.start + dt.timedelta(days=round(spec.years * 365.25) - 1)
    days = pd.bdate_range(spec.start, end)
    closed = [(int(day.month), int(day.day)) in COMMON_HOLIDAYS for day in days]
    return pd.DatetimeIndex(days[~np.array(closed)])


@dataclass(frozen=True, eq=False)
class Assets:
    """N assets with their labels and the true factor model.

    Attributes
    ----------
    names : tuple of str, length N
    country, sector : int ndarray of shape (N,)
        Positions in `COUNTRIES` and `SECTORS`.
    cap : ndarray of shape (N,)
        Capitalisation at listing.
    model : FactorModel
        The truth, annual.
    mixing : ndarray of shape (K, S)
        Factor returns are mixing times independent shocks of annual variance 1; F = mixing mixing'.
    drift : ndarray of shape (K,)
        Mean factor returns, per year.
    """

    names: tuple[str, ...]
    country: IntArray
    sector: IntArray
    cap: FloatArray
    model: FactorModel
    mixing: FloatArray
    drift: FloatArray


def _labels(count: int, n: int, rng: np.random.Generator) -> IntArray:
    """Return one of `count` labels for each of n assets, skewed (share falling by a quarter), none empty."""
    share = 0.75 ** np.arange(count)
    codes = rng.choice(count, size=n, p=share / share.sum())
    codes[rng.permutation(n)[:count]] = np.arange(count)
    return np.asarray(codes, dtype=np.intp)


def _bounded_normal(shift: FloatArray, scale: float, limit: float, rng: np.random.Generator) -> FloatArray:
    """Return shift + scale * normal, drawn again wherever it lies beyond `limit` from 0."""
    value = shift + scale * rng.standard_normal(len(shift))
    while (beyond := np.abs(value) > limit).any():
        value[beyond] = shift[beyond] + scale * rng.standard_normal(int(beyond.sum()))
    return value


def _style(raw: FloatArray, cap: FloatArray) -> FloatArray:
    """Return `raw` with capitalisation-weighted mean 0 and standard deviation 1; zeros where it does not vary."""
    centred = raw - np.average(raw, weights=cap)
    spread = float(np.std(raw))
    return np.asarray(centred / spread if spread > 1e-12 else np.zeros_like(raw), dtype=np.float64)


def _family(count: int, codes: IntArray, cap: FloatArray, volatility: float, rng: np.random.Generator) -> FloatArray:
    """Return the mixing block (count, count) of a family whose returns sum to zero over capitalisation."""
    weights = np.bincount(codes, weights=cap, minlength=count) / cap.sum()
    own = volatility * np.exp(0.2 * rng.standard_normal(count))
    return np.asarray((np.eye(count) - np.outer(np.ones(count), weights)) * own, dtype=np.float64)


def draw_assets(spec: MarketSpec, rng: np.random.Generator) -> Assets:
    """Return the assets, their labels and the true factor model of `spec`."""
    n = spec.assets
    country, sector = _labels(spec.countries, n, rng), _labels(spec.sectors, n, rng)
    size = rng.standard_normal(n)
    cap = spec.median_cap * np.exp(spec.cap_dispersion * size)
    # Small names are the volatile ones (correlation -0.4), and volatile names have the higher betas (0.4).
    spread = _bounded_normal(-0.4 * np.clip(size, -2.5, 2.5), np.sqrt(1 - 0.4**2), VOLATILITY_REACH, rng)
    volatility = spec.specific_volatility * np.exp(spec.specific_dispersion * spread)
    beta = 0.4 * spread + np.sqrt(1 - 0.4**2) * rng.standard_normal(n)

    names, columns, blocks = ["market"], [np.ones(n)], [np.array([[spec.market_volatility]])]
    for prefix, labels, codes, level in (
        ("country", COUNTRIES[: spec.countries], country, spec.country_volatility),
        ("sector", SECTORS[: spec.sectors], sector, spec.sector_volatility),
    ):
        if len(labels) > 1:
            names += [f"{prefix}:{label}" for label in labels]
            columns += [(codes == position).astype(np.float64) for position in range(len(labels))]
            blocks.append(_family(len(labels), codes, cap, level, rng))
    names += ["style:beta", "style:size", "style:residual_volatility"]
    columns += [_style(raw, cap) for raw in (beta, np.log(cap), np.log(volatility))]
    blocks.append(spec.style_volatility * np.eye(3))

    mixing = np.zeros((len(names), len(names)))
    at = 0
    for block in blocks:
        mixing[at : at + len(block), at : at + len(block)] = block
        at += len(block)
    mixing[-3, 0] = spec.beta_dispersion * spec.market_volatility
    drift = np.zeros(len(names))
    drift[0], drift[-3] = spec.market_drift, spec.market_drift * spec.beta_dispersion
    labels_of = [f"A{i:05d}" for i in range(1, n + 1)]
    model = FactorModel(labels_of, names, np.column_stack(columns), mixing @ mixing.T, volatility**2)
    return Assets(model.assets, country, sector, cap, model, mixing, drift)


@dataclass(frozen=True, eq=False)
class Returns:
    """Daily returns as planted, before holidays.

    Attributes
    ----------
    total : ndarray of shape (T, N)
        Simple return of each session.
    factor : ndarray of shape (T, K)
    specific : float32 ndarray of shape (T, N)
    redrawn, clipped : int
        Specific shocks drawn again beyond `TAIL_LIMIT`; total returns held to [-0.95, 8].
    """

    total: FloatArray
    factor: FloatArray
    specific: Float32Array
    redrawn: int
    clipped: int


def truncated_variance(degrees: float, limit: float) -> float:
    """Return the variance of a Student-t held to [-limit, limit] by drawing again.

    Notes
    -----
    x^2 = n ((1 + x^2/n) - 1), and (1 + x^2/n) times the density of n degrees is (n-1)/(n-2) times that of
    x sqrt((n-2)/n) under n - 2 degrees, so the integral of x^2 is n ((n-1)/(n-2) P_{n-2} - P_n).
    """
    inside = 2 * float(stdtr(degrees, limit)) - 1
    shifted = 2 * float(stdtr(degrees - 2, limit * np.sqrt((degrees - 2) / degrees))) - 1
    return degrees * ((degrees - 1) / (degrees - 2) * shifted - inside) / inside


def _shocks(shape: tuple[int, int], degrees: float, rng: np.random.Generator) -> tuple[FloatArray, int]:
    """Return Student-t shocks of variance 1 within `TAIL_LIMIT`, and how many were drawn again."""
    limit = TAIL_LIMIT * np.sqrt(degrees / (degrees - 2))
    shocks = rng.standard_t(degrees, size=shape)
    redrawn = 0
    while (beyond := np.abs(shocks) > limit).any():
        count = int(beyond.sum())
        shocks[beyond] = rng.standard_t(degrees, size=count)
        redrawn += count
    return shocks / np.sqrt(truncated_variance(degrees, limit)), redrawn


def draw_returns(
    spec: MarketSpec, assets: Assets, scores: Float32Array, daily_coefficient: float, rng: np.random.Generator
) -> Returns:
    """Return T sessions of returns; `scores` (T, N), known at each close, drive the next session's mean."""
    sessions = len(scores)
    model = assets.model
    shocks = rng.standard_normal((sessions, assets.mixing.shape[1]))
    factor = shocks @ assets.mixing.T / np.sqrt(SESSIONS_PER_YEAR) + assets.drift / SESSIONS_PER_YEAR
    specific, redrawn = _shocks((sessions, len(model.assets)), spec.tail_degrees, rng)
    specific *= np.sqrt(1 - daily_coefficient**2)
    specific[1:] += daily_coefficient * scores[:-1]
    specific *= np.sqrt(model.specific_variance / SESSIONS_PER_YEAR)
    total = factor @ model.exposures.T + specific
    outside = (total < RETURN_FLOOR) | (total > RETURN_CEILING)
    np.clip(total, RETURN_FLOOR, RETURN_CEILING, out=total)
    return Returns(total, factor, specific.astype(np.float32), redrawn, int(outside.sum()))


def _holidays(spec: MarketSpec, sessions: int, rng: np.random.Generator) -> BoolArray:
    """Return which countries are closed on which session, shape (T, countries); never all on one, none on the first."""
    closed = np.zeros((sessions, spec.countries), dtype=np.bool_)
    count = min(round(spec.local_holidays * sessions / SESSIONS_PER_YEAR), sessions - 1)
    for country in range(spec.countries):
        closed[1 + rng.permutation(sessions - 1)[:count], country] = True
    closed[closed.all(axis=1)] = False
    return closed


def draw_rows(
    spec: MarketSpec, assets: Assets, sessions: int, rng: np.random.Generator
) -> tuple[BoolArray, BoolArray, FloatArray]:
    """Return who is listed when, who has a row when, and what leavers' holders receive.

    Returns
    -------
    listed, has_row : bool ndarray of shape (T, N)
        A listed asset has a row but on its country's holidays; its first and last listed sessions have rows.
    delisting_return : ndarray of shape (N,)
        Of leavers: none (45 %), a premium up to 30 % (20 %), a loss of 10 % to 60 % (25 %), all (10 %). NaN where none.
    """
    n = len(assets.names)
    opened = ~_holidays(spec, sessions, rng)[:, assets.country]
    first = np.where(rng.random(n) < spec.listing_share, rng.integers(1, max(2, int(0.8 * sessions)), size=n), 0)
    life = rng.exponential(size=n) * SESSIONS_PER_YEAR / max(spec.delisting_rate, 1e-9)
    last = first + 20 + np.ceil(np.minimum(life, 10.0 * sessions)).astype(np.intp)
    session = np.arange(sessions)[:, None]
    has_row = opened & (session >= first) & (session <= last)
    rows = np.where(has_row, session, -1)
    final = rows.max(axis=0)
    initial = np.where(has_row, session, sessions).min(axis=0)
    listed = (session >= initial) & (session <= np.where(last < sessions - 1, final, sessions - 1))
    leaves = last < sessions - 1
    fate, size = rng.random(n), rng.random(n)
    received = np.select(
        [~leaves | (fate < 0.45), fate < 0.65, fate < 0.90], [np.full(n, np.nan), 0.3 * size, -0.1 - 0.5 * size], -1.0
    )
    return listed, has_row, np.asarray(received, dtype=np.float64)


@dataclass(frozen=True, eq=False)
class Prices:
    """What `market.parquet` holds, each of shape (T, N), NaN where there is no row.

    Attributes
    ----------
    returns : ndarray
        Since the asset's last row; NaN on its first.
    close, market_cap, dollar_volume : ndarray
    splits : DataFrame
        session (int), asset (int), ratio (new shares for one old).
    """

    returns: FloatArray
    close: FloatArray
    market_cap: FloatArray
    dollar_volume: FloatArray
    splits: pd.DataFrame


def draw_prices(
    spec: MarketSpec, assets: Assets, total: FloatArray, listed: BoolArray, has_row: BoolArray, rng: np.random.Generator
) -> Prices:
    """Return prices that follow `total` from listing on, with splits, capitalisations and volumes.

    A price above 20 splits two for one at `spec.split_rate`; one below 1 is consolidated, one share for ten.
    """
    sessions, n = total.shape
    price = np.exp(rng.uniform(np.log(5.0), np.log(500.0), n))
    cap, growth, seen = assets.cap.copy(), np.ones(n), np.zeros(n, dtype=np.bool_)
    returns, close, market_cap = (np.full((sessions, n), np.nan) for _ in range(3))
    splits: list[pd.DataFrame] = []
    for t in range(sessions):
        factor = np.where(listed[t] & seen, 1.0 + total[t], 1.0)
        growth, price, cap = growth * factor, price * factor, cap * factor
        row = has_row[t]
        may_split = row & seen
        returns[t] = np.where(may_split, growth - 1.0, np.nan)
        draw = rng.random(n)
        ratio = np.where(may_split & (price > 20.0) & (draw < spec.split_rate / SESSIONS_PER_YEAR), 2.0, 1.0)
        ratio[may_split & (price < 1.0)] = 0.1
        price = price / ratio
        if (who := np.flatnonzero(ratio != 1.0)).size:
            splits.append(pd.DataFrame({"session": t, "asset": who, "ratio": ratio[who]}))
        close[t], market_cap[t] = np.where(row, price, np.nan), np.where(row, cap, np.nan)
        growth[row] = 1.0
        seen |= row
    # A median asset trades 0.6 % of its capitalisation a day.
    rate = 0.006 * np.exp(0.4 * rng.standard_normal(n))
    volume = market_cap * rate * np.exp(0.5 * rng.standard_normal((sessions, n), dtype=np.float32) - 0.125)
    empty = pd.DataFrame({"session": np.zeros(0, np.intp), "asset": np.zeros(0, np.intp), "ratio": np.zeros(0)})
    return Prices(returns, close, market_cap, volume, pd.concat(splits, ignore_index=True) if splits else empty)
