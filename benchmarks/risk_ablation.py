"""What each step of the risk model brings: forecast against realised risk of the fund's own book and of books that owe it nothing.

    python benchmarks/risk_ablation.py DATA [DATA ...] [--product one] [--every 4] [--jobs 2] [--out FOLDER]

For every variant of RiskSpec the model is estimated at every n-th decision, the product's book is optimised under it (costs,
holdings and all limits; from the book before, without drift or fills), and its return until the next decision is what that model
let the optimizer do. Steps are added one by one; then each is taken out of
the whole, and what the default leaves off is put on.

    forecast, realised   volatility of the book, per year: mean forecast; root mean square of daily returns
    ratio                root mean square of daily return over daily forecast: 1 is right
    calibrated           the same, with each forecast times `risk.calibration.forecast_multiplier` of the days before it, and the
                         volatility limit on the product, in a second walk
    random, eigen        mean bias statistic of 200 random market-neutral books and of the 20 largest eigenfactor portfolios of
                         the model, returns from one decision to the next; s.e. by dates. (The largest eigenvectors of
                         the whole covariance are mostly a handful of assets whose volatility has just peaked, and fall short.)
    QLIKE                of the random books: mean of log h + r^2/h less that of the first variant; below 0 is better

Two variants run side by side, each on one BLAS thread.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import lru_cache
from itertools import pairwise
from multiprocessing import get_context
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table
from threadpoolctl import threadpool_limits

from backtest import Dataset
from backtest.products import Product, load_product
from backtest.simulator import market_of
from backtest.strategy import Market, prepare
from engine import Mandate, optimize
from risk import RiskSpec, bias_statistic, factor_history, forecast_multiplier, qlike
from risk.model_portfolios import eigenfactor_portfolios
from risk.portfolios import random_market_neutral
from risk.spec import STYLES

RANDOM_BOOKS, EIGEN_BOOKS, NAMES = 200, 20, 100
STEPS: dict[str, dict[str, Any]] = {
    "blind factors": {"blind_factors": 0},
    "signals": {},
    "half-lives": {"volatility_half_life": 84.0, "specific_half_life": 84.0},
    "Newey-West": {"newey_west_lags": 0, "correlation_newey_west_lags": 0, "specific_newey_west_lags": 0},
    "specific shrinkage": {"specific_shrinkage": 0.0},
    "regression noise": {"regression_noise": False},
    "eigenfactors": {"eigenfactor_simulations": 0},
}
"""What takes each of the default's steps out again; signals are no setting of RiskSpec."""
OPTIONS: dict[str, dict[str, Any]] = {
    "industries": {"industries": True},
    "all styles": {"styles": STYLES},
    "Huber": {"huber": 2.0},
    "robust specific": {"specific_robust": True},
    "regimes": {"regime_half_life": 21.0, "specific_regime_half_life": 21.0},
    "regimes, half-lives 84": {
        "regime_half_life": 21.0,
        "specific_regime_half_life": 21.0,
        "volatility_half_life": 84.0,
        "specific_half_life": 84.0,
    },
}
"""Steps that the default leaves off."""


def variants(whole: RiskSpec) -> Iterator[tuple[str, RiskSpec, bool]]:
    """Yield (name, settings, signal factors): none of the steps, added one by one; of all, one left out; and options put on."""
    steps = list(STEPS)
    for count in range(len(steps) + 1):
        off: dict[str, Any] = {}
        for step in steps[count:]:
            off |= STEPS[step]
        yield f"+ {steps[count - 1]}" if count else "none", whole.model_copy(update=off), "signals" in steps[:count]
    for step, off in STEPS.items():
        yield f"all but {step}", whole.model_copy(update=off), step != "signals"
    for option, on in OPTIONS.items():
        yield f"all and {option}", whole.model_copy(update=on), True


@lru_cache(maxsize=1)
def _base(folder: str, name: str) -> tuple[Market, Product, Mandate]:
    product, mandate = load_product(name)
    market, _ = market_of(Dataset(folder), product, mandate)
    return market, product, mandate


@lru_cache(maxsize=2)
def _history(folder: str, name: str, spec: RiskSpec, signals: bool) -> Any:
    market = _base(folder, name)[0]
    user = market.history.user if signals else None
    return factor_history(market.panel, market.universe.members, market.universe.size, spec, user=user)


def _market(folder: str, name: str, spec: RiskSpec, signals: bool) -> Market:
    # What only covariances depend on leaves the history as it is.
    kept = {field: getattr(spec, field) for field in RiskSpec.model_fields if field in REGRESSIONS}
    history = _history(folder, name, RiskSpec(**kept), signals)
    return replace(_base(folder, name)[0], history=history, spec=spec)


REGRESSIONS = (
    *(
        "styles",
        "winsor",
        "return_winsor",
        "thin_category",
        "minimum_assets",
        "stale_returns",
        "orthogonalise",
        "huber",
    ),
    *("beta_lags", "industries", "currencies", "frequency", "blind_factors", "blind_window", "blind_every"),
)


def _days(market: Market, every: int) -> list[int]:
    known = np.isfinite(market.history.r_squared).cumsum()
    days = [t for t in sorted(market.signals) if known[t] >= market.spec.minimum_history and t + 2 < len(known)]
    return days[::every]


def walk(market: Market, product: Product, mandate: Mandate, days: list[int], calibrated: bool) -> pd.DataFrame:
    """Return the book's daily returns beside the forecasts they were made under: columns date, forecast, multiplier, return."""
    returns, year = np.nan_to_num(market.panel.returns), market.panel.periods_per_year
    holdings, rows = np.zeros(len(market.panel.assets)), []
    for t, following in pairwise(days):
        past = np.array([row[1] for row in rows]), np.array([row[3] for row in rows])
        multiplier = forecast_multiplier(*past, market.spec, year) if calibrated and rows else 1.0
        inside = market.universe.members[t]
        holdings = np.where(inside, holdings, 0.0)
        meta = market.signals[t].meta
        decision = prepare(market, t, meta, holdings, product.aum, mandate, multiplier=multiplier)
        solution = optimize(decision.problem)
        holdings = np.zeros(len(inside))
        holdings[decision.assets] = solution.weights
        value = np.cumprod(1 + returns[t + 2 : following + 2], axis=0) @ holdings
        daily = np.diff(np.concatenate([[holdings.sum()], value]))
        rows += [(market.panel.dates[t], solution.volatility, multiplier, r, solution.gross) for r in daily]
    return pd.DataFrame(rows, columns=["date", "forecast", "multiplier", "return", "gross"])


def judged(market: Market, days: list[int]) -> dict[str, float]:
    """Return bias and loss of forecasts for books that owe the model nothing, and for its own largest eigenvectors."""
    returns, year = np.nan_to_num(market.panel.returns), market.panel.periods_per_year
    outcomes: dict[str, list[np.ndarray]] = {"random": [], "eigen": []}
    losses = []
    for t, following in pairwise(days):
        meta = market.signals[t].meta
        empty = np.zeros(len(market.panel.assets))
        model = prepare(market, t, meta, empty, 1.0, _loosest()).problem.model
        inside = market.universe.members[t]
        ahead = returns[t + 1 : following + 1][:, inside].sum(axis=0)
        length = following - t
        for kind, books in (
            ("random", random_market_neutral(model.assets, RANDOM_BOOKS, held=min(NAMES, len(model.assets)), seed=t)),
            ("eigen", eigenfactor_portfolios(model)[:EIGEN_BOOKS]),
        ):
            exposures = books @ model.exposures
            variance = np.einsum("pk,pk->p", exposures @ model.factor_covariance, exposures)
            variance = (variance + (books * books) @ model.specific_variance) * length / year
            earned = books @ ahead
            outcomes[kind].append(earned / np.sqrt(variance))
            if kind == "random":
                losses.append(qlike(earned**2, variance).mean())
    found = {"qlike": float(np.mean(losses))}
    for kind, rows in outcomes.items():
        bias = bias_statistic(np.array(rows))
        found |= {kind: bias.bias, f"{kind} error": bias.standard_error}
    return found


def _loosest() -> Mandate:
    return load_product("one")[1].model_copy(update={"minimum_assets": 2})


def measured(job: tuple[str, str, str, RiskSpec, bool, int]) -> dict[str, Any]:
    """Return one variant's row."""
    folder, name, label, spec, signals, every = job
    with threadpool_limits(1):
        market = _market(folder, name, spec, signals)
        _, product, mandate = _base(folder, name)
        days = _days(market, every)
        year = market.panel.periods_per_year
        row: dict[str, Any] = {"data": Path(folder).name, "variant": label, "decisions": len(days) - 1}
        for prefix, calibrated in (("", False), ("calibrated ", True)):
            book = walk(market, product, mandate, days, calibrated)
            daily = book["return"] / (book["forecast"] * book["multiplier"] / np.sqrt(year))
            row |= {
                f"{prefix}forecast": float((book["forecast"] * book["multiplier"]).mean()),
                f"{prefix}realised": float(np.sqrt((book["return"] ** 2).mean() * year)),
                f"{prefix}ratio": float(np.sqrt((daily**2).mean())),
                f"{prefix}gross": float(book["gross"].mean()),
            }
            by_year = np.sqrt((daily**2).groupby(book["date"].dt.year).mean())
            row |= {f"{prefix}ratio {y}": float(value) for y, value in by_year.items()}
        return row | judged(market, days)


def show(rows: list[dict[str, Any]], console: Console) -> None:
    """Print one table per data set."""
    frame = pd.DataFrame(rows)
    for data, table in frame.groupby("data", sort=False):
        title = f"{data}: {int(table['decisions'].iloc[0])} decisions"
        printed = Table(
            *("variant", "gross", "forecast", "realised", "ratio", "calibrated", "random", "eigen", "QLIKE"),
            title=title,
        )
        for column in printed.columns[1:]:
            column.justify = "right"
        first = table["qlike"].iloc[0]
        for row in table.to_dict(orient="records"):
            printed.add_row(
                row["variant"],
                f"{row['gross']:.2f}",
                f"{row['forecast']:.2%}",
                f"{row['realised']:.2%}",
                f"{row['ratio']:.2f}",
                f"{row['calibrated ratio']:.2f}",
                f"{row['random']:.3f} ({row['random error']:.3f})",
                f"{row['eigen']:.2f} ({row['eigen error']:.2f})",
                f"{row['qlike'] - first:+.3f}",
            )
        console.print(printed)
        whole = table.dropna(axis="columns")[table["variant"].isin(["none", f"+ {list(STEPS)[-1]}"])].set_index(
            "variant"
        )
        for label in whole.index:
            for prefix in ("", "calibrated "):
                years = [column for column in whole if column.startswith(f"{prefix}ratio 2")]
                told = ", ".join(f"{column[-4:]} {whole.loc[label, column]:.2f}" for column in sorted(years))
                console.print(f"{label}: realised over {prefix}forecast by year: {told}", highlight=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="+")
    parser.add_argument("--product", default="one")
    parser.add_argument("--every", type=int, default=4)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    whole = load_product(options.product)[0].risk_model
    work = [
        (folder, options.product, label, spec, signals, options.every)
        for folder in options.data
        for label, spec, signals in variants(whole)
    ]
    rows = []
    with ProcessPoolExecutor(options.jobs, mp_context=get_context("spawn")) as pool:
        for row in pool.map(measured, work):
            rows.append(row)
            print(f"{len(rows)} of {len(work)}: {row['data']}, {row['variant']}", file=sys.stderr, flush=True)
            if options.out is not None:
                options.out.mkdir(parents=True, exist_ok=True)
                pd.DataFrame(rows).to_csv(options.out / "ablation.csv", index=False)
    show(rows, Console(width=140))


if __name__ == "__main__":
    main()
