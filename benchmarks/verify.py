"""Re-derive a run's limits and account from its folder and its data set, with code that shares nothing with metafolio.

    python benchmarks/verify.py RUN

Prints the worst violation of every limit over all rebalances, the worst residual of the solves and the worst difference
between the parts of the account and the whole. Exit code 1 where anything is above 1e-6 (money: one cent).
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd

TOLERANCE = 1e-6


def _label_table(record: dict) -> pd.DataFrame:
    folder = Path(record["data"]["path"])
    path = folder / "assets.parquet"
    return pd.read_parquet(path) if path.exists() else pd.read_csv(folder / "assets.csv", parse_dates=["valid_from"])


def _labels(table: pd.DataFrame, date: pd.Timestamp) -> pd.DataFrame:
    if "valid_from" in table:
        table = table[table["valid_from"] <= date].sort_values("valid_from").groupby("asset").tail(1)
    return table.set_index("asset")


def multiplier(nav: pd.DataFrame, record: dict) -> float:
    """Return what the days up to a decision said that its forecast must be multiplied by: a sum written out."""
    rule = record["product"]["risk_model"]
    if rule["calibration_half_life"] is None:
        return 1.0
    daily = nav["forecast"].to_numpy()[:-1] / np.sqrt(record["data"]["periods_per_year"])
    earned = nav["gross_return"].to_numpy()[1:]
    z, u = [], []
    for age, (f, r) in enumerate(zip(daily[::-1], earned[::-1], strict=True)):
        u.append(0.5 ** (age / rule["calibration_half_life"]) if f > 0 else 0.0)
        z.append(np.sqrt(u[-1]) * r / f if f > 0 else 0.0)
    total = rule["calibration_prior_days"]
    for lag in range(rule["calibration_lags"] + 1):
        share = 1.0 if lag == 0 else 2 * (1 - lag / (rule["calibration_lags"] + 1))
        total += share * sum(z[i] * z[i + lag] for i in range(len(z) - lag))
    return max(float(np.sqrt(total / (rule["calibration_prior_days"] + sum(u)))), rule["calibration_floor"])


def limit_violations(run: Path) -> pd.Series:
    """Return the worst violation of each kind of limit over all decisions, recomputed from targets, labels and model."""
    record = json.loads((run / "run.json").read_text())
    mandate = record["mandate"]
    weights = pd.read_parquet(run / "weights.parquet").dropna(subset="target")
    signals = pd.read_parquet(run / "signals.parquet")
    notices = pd.read_parquet(run / "notices.parquet")
    nav = pd.read_parquet(run / "nav.parquet").set_index("date")
    table = _label_table(record)
    worst: dict[str, float] = {}

    def note(kind: str, amount: float) -> None:
        worst[kind] = max(worst.get(kind, -np.inf), float(amount))

    for date, book in weights.groupby("date"):
        w = book.set_index("asset")["target"]
        folder = run / "models" / f"date={date:%Y-%m-%d}"
        X = pd.read_parquet(folder / "exposures.parquet").set_index("asset").loc[w.index]
        F = pd.read_parquet(folder / "factor_covariance.parquet").set_index("factor").to_numpy()
        d = pd.read_parquet(folder / "specific_variance.parquet").set_index("asset")["specific_variance"].loc[w.index]
        labels = _labels(table, date).reindex(w.index)
        today = notices[notices["date"] == date]
        frozen = set(today.loc[today["kind"] == "frozen", "asset"])
        # By a frozen name, or by a mandate that lets limits give way; either is recorded, and both may widen one limit.
        wider = today[today["kind"].isin(["limit widened", "limit relaxed"])]
        widened = wider.groupby("asset")["amount"].sum()

        def covariance_with(v: np.ndarray, X: pd.DataFrame = X, F: np.ndarray = F, d: pd.Series = d) -> np.ndarray:
            return X.to_numpy() @ (F @ (X.to_numpy().T @ v)) + d.to_numpy() * v

        free = w[~w.index.isin(frozen)]
        note("position", free.abs().max() - mandate["position_target"])
        note("gross", w.abs().sum() - mandate["gross_limit"])
        if mandate["net_limit"] is not None:
            note("net", abs(w.sum()) - mandate["net_limit"] - widened.get("net", 0.0))
        for family in ("country", "sector"):
            limit = mandate[f"{family}_limit"]
            if limit is not None and len(labels[family].unique()) > 1:
                for category, total in w.groupby(labels[family]).sum().items():
                    note(family, abs(total) - limit - widened.get(f"{family}:{category}", 0.0))
        if mandate["style_limit"] is not None:
            for factor in (name for name in X if name.startswith("style:")):
                note("style", abs(w @ X[factor]) - mandate["style_limit"] - widened.get(factor, 0.0))
        if mandate["beta_limit"] is not None:
            b = signals[signals["date"] == date].set_index("asset")["benchmark_weight"].loc[w.index].to_numpy()
            Vb = covariance_with(b)
            note("beta", abs(w @ (Vb / (b @ Vb))) - mandate["beta_limit"] - widened.get("beta", 0.0))
        if mandate["volatility_limit"] is not None:
            forecast = np.sqrt(w @ covariance_with(w.to_numpy()))
            note("volatility", forecast * multiplier(nav[:date], record) - mandate["volatility_limit"])
    return pd.Series(worst)


def residuals(run: Path) -> pd.Series:
    """Return the worst residual of the solves, as the run recorded them."""
    solves = pd.read_parquet(run / "solves.parquet")
    return solves[["primal_residual", "gap"]].max()


def account_differences(run: Path) -> pd.Series:
    """Return by how much the account's parts differ from its whole, at worst over all days."""
    record = json.loads((run / "run.json").read_text())
    nav = pd.read_parquet(run / "nav.parquet").set_index("date")
    before = nav["nav"].shift(1).fillna(record["nav0"])
    pnl = pd.read_parquet(run / "positions.parquet").groupby("date")["pnl"].sum().reindex(nav.index, fill_value=0.0)
    value = pd.read_parquet(run / "positions.parquet").groupby("date")["value"].sum().reindex(nav.index, fill_value=0.0)
    trades = pd.read_parquet(run / "trades.parquet").groupby("date")["cost"].sum().reindex(nav.index, fill_value=0.0)
    charges = nav["cost"] + nav["financing"] + nav["management_fee"] + nav["incentive_fee"]
    return pd.Series(
        {
            "nav = before + pnl - charges (money)": (nav["nav"] - before - pnl + charges * before).abs().max(),
            "nav = cash + positions (money)": (nav["nav"] - nav["cash"] - value).abs().max(),
            "gross_return = pnl": (nav["gross_return"] - pnl / before).abs().max(),
            "cost = trades": (nav["cost"] - trades).abs().max(),
            "net_return compounds nav": (nav["nav"] / before - 1 - nav["net_return"]).abs().max(),
            "return_before_fees": (nav["return_before_fees"] - nav["gross_return"] + nav["cost"] + nav["financing"])
            .abs()
            .max(),
        }
    )


def main() -> int:
    """Print the three tables of a run."""
    run = Path(sys.argv[1])
    limits, solves, account = limit_violations(run), residuals(run), account_differences(run)
    money = account.index.str.contains("money")
    failed = (limits > TOLERANCE).any() or (solves > TOLERANCE).any()
    failed |= (account[money] > 0.01).any() or (account[~money] > 1e-9).any()
    for title, table in (("worst limit violation", limits), ("worst residual", solves), ("worst difference", account)):
        print(f"{title}\n{table.to_string(float_format=lambda x: f'{x:.3g}')}\n")
    print("FAILED" if failed else "all hold")
    return int(failed)


if __name__ == "__main__":
    raise SystemExit(main())
