"""Time and memory of the risk model with every step on: ten years of days, 3,000 assets, 70 factors and the blind ones.

    python benchmarks/risk_speed.py [--years 10] [--assets 3000] --peer-python PYTHON [--peer-days 504]

A panel is drawn once and read by a process of its own for each measurement, whose processor seconds (one thread: on an idle
machine they are the seconds of the clock) and highest memory (everything counted, the panel and the interpreter too) are printed:

- ours: the history, then a model at every weekly rebalance, two at a time; then a day more, history and model, eleven times;
- ours over `--peer-days` with one model at the end, and skfolio's factor model fitted on the same days, then carried on by a week
  at a time and by one day (`risk_skfolio.py`); skfolio keeps every exposure of every day, so ten years do not fit;
- one day's regression as toraniko writes it, with the weights as a dense diagonal N x N matrix: a baseline of a few lines of ours;
- the decomposition of a 5,000-asset book.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from risk import FactorModel, Panel, RiskSpec, decompose, estimate, factor_history
from risk.history import extended_history
from risk.spec import STYLES

FACTORS, COUNTRIES, SECTORS, PEER_STYLES = 70, 20, 11, 7
INDUSTRIES = FACTORS - 1 - COUNTRIES - SECTORS - (len(STYLES) - 1)  # industry momentum gives way to industries
PEER_SECTORS = FACTORS - 1 - COUNTRIES - PEER_STYLES
YEAR, HISTORY_DAYS, PEER_WEEKS, MORE_DAYS = 252, 126, 26, 11

EVERY_STEP = RiskSpec(
    styles=STYLES,
    orthogonalise=True,
    huber=1.345,
    beta_lags=1,
    industries=True,
    blind_factors=20,
    newey_west_lags=5,
    correlation_newey_west_lags=2,
    specific_newey_west_lags=5,
    specific_robust=True,
    regime_half_life=42.0,
    specific_regime_half_life=42.0,
    minimum_history=HISTORY_DAYS,
)
"""Currencies stay off: the panel has one. Calibration belongs to a book, not to the model."""


def draw(folder: Path, days: int, assets: int) -> None:
    """Write the panel's arrays: one market, groups and styles of a realistic size, fat tails, late listings, missing rows."""
    rng = np.random.default_rng(0)
    groups = {"country": COUNTRIES, "sector": SECTORS, "industry": INDUSTRIES, "peer_sector": PEER_SECTORS}
    codes = {name: rng.permutation(np.arange(assets) % count) for name, count in groups.items()}
    codes["sector"] = codes["industry"] % SECTORS  # nested
    returns = 0.015 * rng.standard_t(5, (days, assets))
    returns += (0.01 * rng.standard_normal(days))[:, None]
    for name in ("country", "industry"):
        returns += (0.005 * rng.standard_normal((days, groups[name])))[:, codes[name]]
    np.clip(returns, -0.5, 1.0, out=returns)
    row = rng.random((days, assets)) > 0.005
    row &= np.arange(days)[:, None] >= np.where(rng.random(assets) < 0.2, rng.integers(0, days, assets), 0)
    close = 50 * np.exp(np.cumsum(np.log1p(returns), axis=0) - 0.0002 * np.arange(days)[:, None])
    cap = close * rng.lognormal(17, 1.5, assets)
    volume = cap * rng.lognormal(-5.5, 0.7, assets) * rng.lognormal(0, 0.5, (days, assets))
    first = row.argmax(axis=0)
    members = (np.cumsum(row, axis=0) >= HISTORY_DAYS) & row
    returns[first, np.arange(assets)] = np.nan
    for name, array in (("returns", returns), ("close", close), ("size", cap), ("volume", volume)):
        np.save(folder / f"{name}.npy", np.where(row, array, np.nan))
    np.save(folder / "row.npy", row)
    np.save(folder / "members.npy", members)
    np.savez(folder / "codes.npz", **codes)


def read(folder: Path, days: int | None) -> tuple[Panel, np.ndarray, np.ndarray]:
    """Return the panel of the last `days`, its members and its sizes."""
    size, returns, close, volume, row, members = (
        np.load(folder / f"{name}.npy")[-days if days else None :]
        for name in ("size", "returns", "close", "volume", "row", "members")
    )
    codes = np.load(folder / "codes.npz")
    labels = {name: np.broadcast_to(codes[name].astype(np.int16), row.shape) for name in codes.files}
    panel = Panel(
        dates=pd.bdate_range("2016-01-01", periods=len(row)),
        assets=tuple(f"A{i:05d}" for i in range(row.shape[1])),
        returns=returns,
        has_row=row,
        close=close,
        market_cap=size,
        dollar_volume=volume,
        country=labels["country"],
        sector=labels["sector"],
        countries=tuple(f"C{i:02d}" for i in range(COUNTRIES)),
        sectors=tuple(f"S{i:02d}" for i in range(SECTORS)),
        delisting_return=np.full(row.shape[1], np.nan),
        industry=labels["industry"],
        industries=tuple(f"I{i:02d}" for i in range(INDUSTRIES)),
    )
    return panel, members, size


def peak() -> float:
    """Return the highest memory of this process so far, MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def ours(folder: Path, days: int | None, weekly: bool) -> dict[str, float]:
    """Time the history of all days but the last ones and a model of its last day, or of every week; then a day more at a time."""
    panel, members, size = read(folder, days)
    last, empty = len(panel.dates) - MORE_DAYS, peak()
    clock, began = time.perf_counter(), time.process_time()
    history = factor_history(panel.until(last - 1), members[:last], size[:last], EVERY_STEP)
    regressed = time.process_time()
    weeks = np.arange(last - 1, 2 * HISTORY_DAYS + 21, -5)[: None if weekly else 1]
    with ThreadPoolExecutor(2) as pool:
        models = pool.map(lambda t: estimate(panel, members, size, EVERY_STEP, t=int(t), history=history), weeks)
        model = next(models)
        for _ in models:
            pass
    ended, clock, most = time.process_time(), time.perf_counter() - clock, peak()
    more = []
    for t in range(last, last + MORE_DAYS):
        until, rows = panel.until(t), slice(0, t + 1)
        again = time.process_time()
        history = extended_history(history, until, members[rows], size[rows])
        extended = time.process_time()
        estimate(until, members[rows], size[rows], EVERY_STEP, t=t, history=history)
        more.append((extended - again, time.process_time() - again))
    return {
        "days": last,
        "history": regressed - began,
        "models": len(weeks),
        "model": (ended - regressed) / len(weeks),
        "all": ended - began,
        "clock": clock,
        "factors": len(model.factors),
        "panel MB": empty,
        "peak": most,
        "day, history": float(np.median(more, axis=0)[0]),
        "day": float(np.median(more, axis=0)[1]),
        "day, most": max(whole for _, whole in more),
    }


def dense_regression(assets: int) -> dict[str, float]:
    """Time weighted least squares with the weights as a dense diagonal matrix, median over dates."""
    rng = np.random.default_rng(1)
    X = rng.standard_normal((assets, FACTORS))
    seconds = []
    for _ in range(5):
        weights, r = rng.lognormal(8, 1, assets), 0.02 * rng.standard_normal(assets)
        began = time.process_time()
        W = np.diag(weights)
        np.linalg.inv(X.T @ W @ X) @ X.T @ W @ r
        seconds.append(time.process_time() - began)
    return {"date": float(np.median(seconds)), "peak": peak()}


def decomposition() -> dict[str, float]:
    """Time the parts of a 5,000-asset book's risk, median over books."""
    rng = np.random.default_rng(2)
    root = rng.standard_normal((FACTORS, FACTORS))
    n = 5000
    names = [f"style:{k}" for k in range(FACTORS)]
    exposures, specific = rng.standard_normal((n, FACTORS)), rng.lognormal(-2.4, 0.5, n)
    model = FactorModel([str(i) for i in range(n)], names, exposures, 0.001 * root @ root.T, specific)
    seconds = []
    for _ in range(200):
        w = rng.standard_normal(n) / n
        began = time.process_time()
        decompose(model, w)
        seconds.append(time.process_time() - began)
    return {"book": float(np.median(seconds)), "peak": peak()}


def child(act: str, *arguments: object) -> dict[str, float]:
    """Return what this file measures in a process of its own."""
    command = [sys.executable, __file__, "--child", act, *map(str, arguments)]
    return dict(json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout))


def peer(python: str, folder: Path, days: int) -> dict[str, float]:
    """Return what skfolio takes for the same days: a fit of all but the last weeks, the weeks, one day."""
    panel, members, size = read(folder, days + 5 * PEER_WEEKS + 1)
    T = len(panel.dates)
    sector = np.load(folder / "codes.npz")["peer_sector"].astype(np.int16)
    np.savez(
        folder / "panel.npz",
        asked=np.array([*range(days - 1, T - 1, 5), T - 1]),
        dates=panel.dates.to_numpy().astype("datetime64[D]"),
        returns=panel.returns,
        members=members,
        active=np.maximum.accumulate(panel.has_row, axis=0),
        market_cap=pd.DataFrame(size).ffill().to_numpy(),
        dollar_volume=panel.dollar_volume,
        country=panel.country,
        sector=np.broadcast_to(sector, size.shape),
        country_labels=np.array(panel.countries),
        sector_labels=np.array([f"S{i:02d}" for i in range(PEER_SECTORS)]),
    )
    script = Path(__file__).with_name("risk_skfolio.py")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    command = [python, str(script), "speed", str(folder)]
    told = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
    return dict(json.loads(told.stdout))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--years", type=float, default=10.0)
    parser.add_argument("--assets", type=int, default=3000)
    parser.add_argument("--peer-python", help="interpreter of an environment with skfolio 1.12")
    parser.add_argument("--peer-days", type=int, default=2 * YEAR)
    parser.add_argument("--child", nargs="+", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        act, *rest = given.child
        with threadpool_limits(1):
            if act == "ours":
                told = ours(Path(rest[0]), int(rest[1]) or None, rest[2] == "weekly")
            else:
                told = dense_regression(int(rest[0])) if act == "dense" else decomposition()
        print(json.dumps(told))
        return
    if not given.peer_python:
        parser.error("--peer-python is missing: the interpreter of an environment with skfolio 1.12")
    days = int(given.years * YEAR) + MORE_DAYS
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        draw(folder, days, given.assets)
        all_days = child("ours", folder, 0, "weekly")
        same = child("ours", folder, given.peer_days + MORE_DAYS, "last")
        theirs = peer(given.peer_python, folder, given.peer_days)
    dense, parts = child("dense", given.assets), child("decomposition")
    report(given.assets, all_days, same, theirs, dense, parts)


def report(
    assets: int,
    all_days: dict[str, float],
    same: dict[str, float],
    theirs: dict[str, float],
    dense: dict[str, float],
    parts: dict[str, float],
) -> None:
    print(
        f"{assets} assets; ours with {all_days['factors']:.0f} factors, skfolio with {theirs['factors']:.0f}; processor seconds"
    )
    print(
        f"ours, {all_days['days']:.0f} days: history {all_days['history']:.1f} s, {all_days['models']:.0f} models "
        f"{1e3 * all_days['model']:.0f} ms each, in all {all_days['all']:.1f} s ({all_days['clock']:.1f} s by the clock); {all_days['peak']:.0f} MB at most, of which "
        f"{all_days['panel MB']:.0f} MB before the start"
    )
    print(
        f"one more day: {1e3 * all_days['day']:.0f} ms, {1e3 * all_days['day, history']:.0f} ms of it the history (median of {MORE_DAYS}; most {1e3 * all_days['day, most']:.0f} ms)"
    )
    print(
        f"{same['days']:.0f} days and one model: ours {same['all']:.1f} s and {same['peak']:.0f} MB, skfolio {theirs['fit']:.1f} s and "
        f"{theirs['peak']:.0f} MB: {theirs['fit'] / same['all']:.1f} times the time, {theirs['peak'] / same['peak']:.1f} times the memory"
    )
    week = 5 * all_days["history"] / all_days["days"] + all_days["model"]
    print(
        f"one more week and its model: ours {1e3 * week:.0f} ms, skfolio {1e3 * theirs['update']:.0f} ms ({theirs['update'] / week:.1f}); "
        f"one more day: skfolio {1e3 * theirs['day']:.0f} ms ({theirs['day'] / all_days['day']:.1f})"
    )
    day = all_days["history"] / all_days["days"]
    print(
        f"one day: regression with dense weights {1e3 * dense['date']:.0f} ms; ours with descriptors and all {1e3 * day:.1f} ms "
        f"({dense['date'] / day:.1f})"
    )
    print(f"decomposition of a 5,000-asset book: {1e3 * parts['book']:.2f} ms")


if __name__ == "__main__":
    main()
