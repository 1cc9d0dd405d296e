"""Does a run find what was planted? Information coefficient, volatility, beta and true contribution against the truth.

    python benchmarks/truth.py [--assets 300] [--years 5] [--models 40] [--masks 4] [--seed 1 2 3]

For each seed: writes a synthetic market, runs One on it, scores every round, and prints each realised figure beside the
planted one with the standard error of the difference; then the mean over the seeds.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

from backtest import Dataset, Run, attribute_run, simulate
from backtest.contributions import scoring_block
from backtest.synthetic import MarketSpec, Truth, read_truth, write_market


def block_error(values: np.ndarray, block: int, draws: int = 2000, seed: int = 0) -> float:
    """Return the standard error of a mean by a circular block bootstrap (Politis and Romano 1992)."""
    rng = np.random.default_rng(seed)
    n = len(values)
    starts = rng.integers(0, n, (draws, -(-n // block)))
    index = (starts[:, :, None] + np.arange(block)).reshape(draws, -1)[:, :n] % n
    return float(values[index].mean(axis=1).std(ddof=1))


def row(name: str, realised: float, planted: float, error: float) -> dict[str, object]:
    """Return one line of the table."""
    z = (realised - planted) / error
    return {"figure": name, "realised": realised, "planted": planted, "standard error": error, "z": z}


def information_coefficient(run: Run, truth: Truth, horizon: int = 20) -> dict[str, object]:
    """Compare the meta model's correlation with the next specific returns to its planted one, mean over decisions."""
    specific = pd.read_parquet(truth.folder / "truth" / "specific_returns.parquet")
    table = specific.pivot_table(index="date", columns="asset", values="specific_return")
    scale = pd.Series(np.sqrt(truth.risk_model.specific_variance), index=list(truth.risk_model.assets))
    signals, models = run.table("signals"), run.table("meta_model")
    found, planted, dates = [], [], []
    for date, scores in signals.groupby("date"):
        t = table.index.get_loc(date)
        ahead = table.iloc[t + 1 : t + 1 + horizon]
        if len(ahead) < horizon:
            continue
        member = scores[scores["benchmark_weight"] > 0].set_index("asset")["meta_model"]
        complete = ahead.loc[:, ahead.notna().all()].sum()
        common = member.index.intersection(complete.index)
        found.append(np.corrcoef(member[common], complete[common] / scale[common])[0, 1])
        used = models[(models["date"] == date) & models["used"]].set_index("model")["stake"]
        planted.append(truth.meta_model_coefficient(used, horizon=horizon))
        dates.append(date)
    difference = np.array(found) - np.array(planted)
    block = scoring_block(pd.DatetimeIndex(dates), pd.DatetimeIndex(run.nav.index), horizon)
    return row(
        "information coefficient, 20 days",
        float(np.mean(found)),
        float(np.mean(planted)),
        block_error(difference, block),
    )


def held_books(run: Run, truth: Truth) -> tuple[pd.DataFrame, np.ndarray, np.ndarray]:
    """Return, for each day of the account but the first, the true variance and the true beta of the book that earned it."""
    model = truth.risk_model
    place = {asset: i for i, asset in enumerate(model.assets)}
    weights = run.table("weights").dropna(subset="weight")
    signals = run.table("signals")
    benchmarks = dict(iter(signals.groupby("date")))
    nav = run.nav
    books = dict(iter(weights.groupby("date")))
    variance, beta, current = [], [], None
    for date in nav.index[:-1]:
        if date in benchmarks:
            frame = benchmarks[date]
            b = np.zeros(len(place))
            b[[place[asset] for asset in frame["asset"]]] = frame["benchmark_weight"]
            current = model.beta(b)
        w = np.zeros(len(place))
        if date in books:
            frame = books[date]
            w[[place[asset] for asset in frame["asset"]]] = frame["weight"]
        variance.append(model.variance(w))
        beta.append(0.0 if current is None else float(w @ current))
    return nav.iloc[1:], np.array(variance), np.array(beta)


def volatility_and_beta(run: Run, truth: Truth) -> list[dict[str, object]]:
    """Compare realised volatility and beta of the book, gross of costs, to those under the true covariance."""
    nav, variance, beta = held_books(run, truth)
    invested = variance > 0
    r = nav["gross_return"].to_numpy()[invested]
    daily = variance[invested] / 252
    ratio = r**2 / daily
    market = nav["market_return"].to_numpy()[invested]
    slope = float(np.cov(r, market)[0, 1] / market.var(ddof=1))
    residual = r - r.mean() - slope * (market - market.mean())
    influence = residual * (market - market.mean()) / market.var()
    forecast = run.table("solves")["volatility"].mean()
    rows = [
        row("volatility / true volatility", float(np.sqrt(ratio.mean())), 1.0, block_error(ratio, 20) / 2),
        row("realised beta", slope, float(beta[invested].mean()), block_error(influence, 20)),
    ]
    true_target = float(np.sqrt(variance[invested]).mean())
    rows.append(
        {
            "figure": "volatility a year, true mean (planted) and forecast (realised)",
            "realised": forecast,
            "planted": true_target,
        }
    )
    return rows


def contribution_by_kind(run: Run, truth: Truth) -> list[dict[str, object]]:
    """Compare mean true contribution of skilled, noise and anti-skilled models, paired by round."""
    scored = run.table("contribution").dropna(subset="true_contribution")
    scored = scored.assign(kind=scored["model"].map(truth.models["kind"]))
    means = scored.pivot_table(index="date", columns="kind", values="true_contribution")
    product = run.record["product"]
    days = product["score_horizon_days"] + product["score_lag_days"]
    block = scoring_block(pd.DatetimeIndex(means.index), pd.DatetimeIndex(run.nav.index), days)
    rows = []
    for better, worse in (("skilled", "noise"), ("noise", "anti")):
        difference = (means[better] - means[worse]).dropna().to_numpy()
        rows.append(row(f"TC, {better} above {worse}", float(difference.mean()), 0.0, block_error(difference, block)))
    return rows


def study(spec: MarketSpec, masks: int) -> pd.DataFrame:
    """Write a market, run One on it, score every round, and return the table."""
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data"
        write_market(data, spec)
        run = simulate(Dataset(data), "one", out=Path(folder) / "one")
        attribute_run(run, masks=masks, seed=spec.seed)
        truth = read_truth(data)
        rows = [
            information_coefficient(run, truth),
            *volatility_and_beta(run, truth),
            *contribution_by_kind(run, truth),
        ]
        print(
            f"{spec.assets} assets, {spec.years} years, {spec.models} models, seed {spec.seed}; "
            f"{len(run.table('solves'))} decisions"
        )
    return pd.DataFrame(rows).set_index("figure")


def main() -> None:
    """Print a table for each seed and, for several, their mean: independent markets, so errors add up in squares."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("assets", 300), ("models", 40), ("masks", 4)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--years", type=float, default=5.0)
    parser.add_argument("--seed", type=int, nargs="+", default=[1, 2, 3])
    given = parser.parse_args()
    tables = []
    for seed in given.seed:
        spec = MarketSpec(
            assets=given.assets, years=given.years, models=given.models, countries=6, sectors=8, seed=seed
        )
        tables.append(study(spec, given.masks))
        print(tables[-1].to_string(float_format=lambda x: f"{x:.4f}"), end="\n\n")
    if len(tables) > 1:
        mean = sum(table[["realised", "planted"]] for table in tables) / len(tables)
        mean["standard error"] = np.sqrt(sum(table["standard error"] ** 2 for table in tables)) / len(tables)
        mean["z"] = (mean["realised"] - mean["planted"]) / mean["standard error"]
        print(f"mean of {len(tables)} markets\n{mean.to_string(float_format=lambda x: f'{x:.4f}')}")


if __name__ == "__main__":
    main()
