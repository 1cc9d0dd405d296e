"""Whose forecast is right: our risk model, skfolio's factor model and plain moving averages, on the same books and dates.

    python benchmarks/risk_peers.py RUN --peer-python PYTHON [--every 2] [--spec '{"blind_factors": 20}']

RUN is a finished run folder, PYTHON an interpreter of an environment that has skfolio 1.12. At every n-th rebalance of the
run each model forecasts the variance of the same books from the same data up to that close:

- ours: `risk.estimate` with RiskSpec's defaults, or `--spec`;
- skfolio: its characteristics factor model (`risk_skfolio.py` says how it is fitted and what was decided for it);
- EWMA: the exponentially weighted mean square of the returns that today's weights would have had.

Books: the run's own target; random market-neutral ones of 100 members, net 0; eigen portfolios of the correlations of the last
252 days, from the returns alone: the 20 largest and the 20 smallest components. Names that one of the models has no forecast
for are left out of the book for all. Weights are held fixed until the next rebalance.

What differs: the run's book was optimised on our model as it was then, so it sits in that model's blind spots; skfolio's
descriptors are its own (`risk_skfolio.py`); EWMA sees each book's own past and no model.

Loss: QLIKE = log s^2 + r^2 / s^2, of the week's return and as the mean over its days. Differences are to ours, positive where ours
is better; t by Diebold and Mariano (1995), on the mean over the books of a kind at each date, Newey-West errors. Bias: standard
deviation of r / s over time, mean over books; 1 is right.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from backtest import Dataset
from backtest.products import Product
from backtest.simulator import market_of
from backtest.strategy import Market
from backtest.universe import find_presence
from engine import Mandate
from risk import RiskSpec, estimate
from risk.evaluation import bias_statistic
from risk.losses import compare_losses, qlike
from risk.portfolios import random_market_neutral

PEER_WARM_UP = 315
"""Days with sizes before the first forecast: a year for momentum, 42 regressions for the peer's variances, some to settle."""
HALF_LIVES = (42, 63)
EIGEN_WINDOW, EIGEN_COUNT = 252, 20
NAMES = 100


def active_assets(market: Market, stale_days: int) -> tuple[np.ndarray, np.ndarray]:
    """Return which assets are listed, not gone and of known size, and their last known sizes, both of shape (T, N)."""
    presence = find_presence(market.panel, stale_days)
    size = pd.DataFrame(market.universe.size).ffill().to_numpy()
    return presence.listed & ~presence.gone & (size > 0), size


def export(market: Market, active: np.ndarray, size: np.ndarray, asked: np.ndarray, folder: Path) -> None:
    """Write what the peer may read: the panel up to the last row asked for."""
    panel, stop = market.panel, int(asked[-1]) + 1
    np.savez(
        folder / "panel.npz",
        asked=asked,
        dates=panel.dates[:stop].to_numpy().astype("datetime64[D]"),
        returns=panel.returns[:stop],
        members=market.universe.members[:stop],
        active=active[:stop],
        market_cap=size[:stop],
        dollar_volume=panel.dollar_volume[:stop],
        country=panel.country[:stop],
        sector=panel.sector[:stop],
        country_labels=np.array(panel.countries, dtype=str),
        sector_labels=np.array(panel.sectors, dtype=str),
    )


def random_books(assets: np.ndarray, members: np.ndarray, count: int) -> np.ndarray:
    """Return (count, n) weights, net 0 and gross 2, of `NAMES` members each: the same names while they are members."""
    books = np.zeros((count, len(assets)))
    held = min(NAMES, int(members.sum()))
    books[:, members] = random_market_neutral(list(assets[members]), count, held=held, gross=2.0)
    return books


def eigen_books(returns: np.ndarray, members: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the largest and the smallest components, (EIGEN_COUNT, n) each, of the members with a return on 90 % of days.

    Of the T x T matrix of the standardised returns, so that nothing is N x N; gross 2.
    """
    known = np.isfinite(returns)
    usable = members & (known.mean(axis=0) >= 0.9)
    filled = np.where(known, returns, 0.0)
    usable &= filled.any(axis=0)
    deviation = np.sqrt((filled[:, usable] ** 2).mean(axis=0))
    scaled = filled[:, usable] / deviation
    values, vectors = np.linalg.eigh(scaled @ scaled.T)
    vectors = vectors[:, values > 1e-10 * values[-1]]  # a day on which nothing traded makes an empty component
    books = np.zeros((vectors.shape[1], len(members)))
    books[:, usable] = vectors.T @ scaled / deviation
    books *= 2 / np.abs(books).sum(axis=1, keepdims=True)
    return books[-EIGEN_COUNT:], books[:EIGEN_COUNT]


def factor_variance(
    books: np.ndarray, exposures: np.ndarray, covariance: np.ndarray, specific: np.ndarray
) -> np.ndarray:
    x = books @ exposures
    return np.asarray(((x @ covariance) * x).sum(axis=1) + books**2 @ specific)


def moving_average(past: np.ndarray, half_life: float) -> np.ndarray:
    """Return the variance per day of books whose past returns are the columns of `past`."""
    weights = 0.5 ** (np.arange(len(past) - 1, -1, -1) / half_life)
    return np.asarray((weights / weights.sum()) @ past**2)


def one_date(
    market: Market, spec: RiskSpec, row: int, after: int, target: np.ndarray, folder: Path, count: int
) -> pd.DataFrame:
    """Return a line per book and model: forecast variance per day, the week's return and its days'."""
    panel, members = market.panel, market.universe.members[row]
    wanted = members | (target != 0)
    ours = estimate(
        panel, market.universe.members, market.universe.size, spec, t=row, assets=wanted, history=market.history
    )
    with np.load(folder / f"model-{row}.npz") as file:
        X, F, d = file["exposures"], file["covariance"], file["variance"]
    common = wanted & np.isfinite(X).all(axis=1) & np.isfinite(d)
    inside = common[wanted]
    left_out = float(np.abs(target[~common]).sum() / np.abs(target).sum())
    returns = np.nan_to_num(panel.returns[: after + 1, common])
    largest, smallest = eigen_books(panel.returns[row + 1 - EIGEN_WINDOW : row + 1, common], members[common])
    kinds = {
        "the run's book": target[common][None],
        f"{count} random": random_books(np.array(panel.assets)[common], members[common], count),
        f"eigen, {EIGEN_COUNT} largest": largest,
        f"eigen, {EIGEN_COUNT} smallest": smallest,
    }
    books = np.vstack(list(kinds.values()))
    past, week = returns[: row + 1] @ books.T, returns[row + 1 :] @ books.T
    variances = {
        "ours": factor_variance(books, ours.exposures[inside], ours.factor_covariance, ours.specific_variance[inside])
        / panel.periods_per_year,
        "skfolio": factor_variance(books, X[common], F, d[common]),
        **{f"EWMA {half}": moving_average(past, half) for half in HALF_LIVES},
    }
    kind = np.repeat(list(kinds), [len(each) for each in kinds.values()])
    days = len(week)
    lines = []
    for name, variance in variances.items():
        lines.append(
            pd.DataFrame(
                {
                    "row": row,
                    "book": np.arange(len(books)),
                    "kind": kind,
                    "model": name,
                    "volatility": np.sqrt(variance * panel.periods_per_year),
                    "z": week.sum(axis=0) / np.sqrt(variance * days),
                    "z_day": list((week / np.sqrt(variance)).T),
                    "qlike": qlike(week.sum(axis=0) ** 2, variance * days),
                    "qlike_day": qlike(week**2, np.tile(variance, (days, 1))).mean(axis=0),
                    "left_out": left_out,
                }
            )
        )
    return pd.concat(lines)


def summary(lines: pd.DataFrame) -> pd.DataFrame:
    """Return the table: a row per kind of book and model."""
    rows = []
    for kind, mine in lines.groupby("kind", sort=False):
        losses = {
            loss: mine.pivot_table(index="row", columns="model", values=loss, aggfunc="mean")
            for loss in ("qlike", "qlike_day")
        }
        for model, part in mine.groupby("model", sort=False):
            daily = np.vstack([np.concatenate(list(z)) for _, z in part.groupby("book")["z_day"]]).T
            weekly = bias_statistic(part.pivot_table(index="row", columns="book", values="z").to_numpy())
            row: dict[str, object] = {
                "books": kind,
                "model": model,
                "forecast": part["volatility"].mean(),
                "bias, week": weekly.bias,
                "error": weekly.standard_error,
                "bias, day": bias_statistic(daily).bias,
            }
            for loss, name in (("qlike", "week"), ("qlike_day", "day")):
                row[f"QLIKE, {name}"] = losses[loss][model].mean()
                if model != "ours":
                    test = compare_losses(losses[loss][model].to_numpy(), losses[loss]["ours"].to_numpy())
                    row[f"less ours, {name}"], row[f"t, {name}"] = test.mean_difference, test.statistic
            rows.append(row)
    return pd.DataFrame(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--peer-python", required=True, help="interpreter of an environment with skfolio 1.12")
    parser.add_argument("--every", type=int, default=2)
    parser.add_argument("--books", type=int, default=200)
    parser.add_argument("--spec", default="{}", help="RiskSpec as JSON")
    parser.add_argument("--out", type=Path, help="keep every forecast as Parquet")
    given = parser.parse_args()
    began = time.perf_counter()
    terms = json.loads((given.run / "run.json").read_text())
    spec = RiskSpec.model_validate_json(given.spec)
    data, product = Dataset(terms["data"]["path"]), Product.model_validate({**terms["product"], "risk_model": spec})
    with threadpool_limits(1):
        market, _ = market_of(data, product, Mandate.model_validate(terms["mandate"]))
        dates = market.panel.dates
        weights = pd.read_parquet(given.run / "weights.parquet", columns=["date", "asset", "target"]).dropna()
        decided = dates.get_indexer(pd.DatetimeIndex(weights["date"].unique()))
        active, size = active_assets(market, data.settings.stale_days)
        first = int(np.argmax(active.any(axis=1))) + PEER_WARM_UP
        pairs = [(row, after) for row, after in pairwise(decided) if row >= first][:: given.every]
        targets = weights.pivot_table(index="date", columns="asset", values="target").reindex(
            columns=list(market.panel.assets)
        )
        prepared = time.perf_counter()
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            export(market, active, size, np.array([row for row, _ in pairs]), folder)
            script = Path(__file__).with_name("risk_skfolio.py")
            peer = subprocess.run(
                [given.peer_python, str(script), "forecasts", name], check=True, stdout=subprocess.PIPE, text=True
            )
            told = json.loads(peer.stdout)
            fitted = time.perf_counter()
            lines = pd.concat(
                one_date(market, spec, row, after, targets.loc[dates[row]].fillna(0.0).to_numpy(), folder, given.books)
                for row, after in pairs
            )
    ended = time.perf_counter()
    left_out = lines.groupby("row")["left_out"].first()
    print(
        f"{given.run.name}: {len(pairs)} dates, {dates[pairs[0][0]]:%Y-%m-%d} to {dates[pairs[-1][0]]:%Y-%m-%d}, every "
        f"{given.every}; ours prepared in {prepared - began:.0f} s, skfolio fitted in {fitted - prepared:.0f} s "
        f"({len(told['factors'])} factors, {told['joined']} sessions joined), forecasts and books {ended - fitted:.0f} s"
    )
    print(
        f"share of the run's book without a forecast by the peer: mean {left_out.mean():.2%}, most {left_out.max():.2%}"
    )
    print(summary(lines).to_string(index=False, float_format="{:.3f}".format, na_rep=""))
    if given.out is not None:
        lines.to_parquet(given.out)


if __name__ == "__main__":
    main()
