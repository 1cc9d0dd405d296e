"""A run's decisions derived anew: every limit from targets, stored models and the data set's labels, and what else they rest on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from backtest.audit_evidence import Check, Evidence, dated_rows, labels_on
from risk.checks import BoolArray, FloatArray

__all__ = ["decision_checks"]

MET = 1e-6
"""How far a solver may be beyond a limit."""
EXACT = 1e-9
VOLUME_ROWS = 63


@dataclass
class _Worst:
    """The largest of the numbers seen, and where it was met; one that is not known is the largest."""

    amount: float = 0.0
    where: str = ""
    count: int = 0

    def see(self, amount: float, where: str, *, numbers: int = 1) -> None:
        self.count += numbers
        if not amount <= self.amount:
            self.amount, self.where = (np.inf if np.isnan(amount) else float(amount)), where


@dataclass(frozen=True)
class _Decision:
    """One decision as the run folder and the data set's labels tell it: n assets, K factors."""

    date: pd.Timestamp
    target: pd.Series
    factors: list[str]
    X: FloatArray
    F: FloatArray
    d: FloatArray
    benchmark: FloatArray
    labels: pd.DataFrame
    frozen: BoolArray
    widened: dict[str, float]

    def covariance_with(self, w: FloatArray) -> FloatArray:
        """Return V w, shape (n,)."""
        return np.asarray(self.X @ (self.F @ (self.X.T @ w)) + self.d * w)

    def variance(self) -> FloatArray:
        """Return each asset's variance per year, shape (n,)."""
        return np.asarray(((self.X @ self.F) * self.X).sum(axis=1) + self.d)


def decision_checks(evidence: Evidence) -> tuple[list[Check], pd.DataFrame]:
    """Return what must hold of a run's decisions, and each asset's variance at each of them: date, asset, variance."""
    limits: dict[str, _Worst] = {}
    variances = [pd.DataFrame({"date": pd.DatetimeIndex([]), "asset": [], "variance": []})]
    multipliers = _multipliers(evidence)
    labels = dated_rows(evidence.data.folder, "assets")
    assert labels is not None
    for decision in _decisions(evidence, labels):
        for kind, amount in _excesses(decision, evidence, multipliers[decision.date]):
            limits.setdefault(kind, _Worst()).see(amount, f"{decision.date:%Y-%m-%d}")
        known = {"asset": decision.target.index, "variance": decision.variance()}
        variances.append(pd.DataFrame({"date": decision.date, **known}))
    facts = evidence.run.table("assets")
    checks = [
        *(_limit(kind, worst) for kind, worst in limits.items()),
        _multiplier_check(evidence, multipliers),
        _label_check(facts, labels),
        _volume_check(evidence, facts),
        *_certificates(evidence),
    ]
    return checks, pd.concat(variances[1:] or variances)


def _limit(kind: str, worst: _Worst) -> Check:
    return Check(
        f"limit {kind}", "held by every target", worst.amount, MET, worst.count, where=worst.where, unit="of its unit"
    )


def _decisions(evidence: Evidence, labels: pd.DataFrame) -> Iterator[_Decision]:
    models = evidence.run.folder / "models"
    signals = {pd.Timestamp(str(date)): rows for date, rows in evidence.run.table("signals").groupby("date")}
    notices = {pd.Timestamp(str(date)): rows for date, rows in evidence.notices.groupby("date")}
    for day, book in evidence.weights.dropna(subset="target").groupby("date"):
        date = pd.Timestamp(str(day))
        target = book.set_index("asset")["target"]
        X, F, d = (
            pq.ParquetFile(models / f"date={date:%Y-%m-%d}" / f"{name}.parquet").read().to_pandas()
            for name in ("exposures", "factor_covariance", "specific_variance")
        )
        X = X.set_index("asset").reindex(target.index)
        said = notices.get(date, evidence.notices.iloc[:0])
        wider = said[said["kind"].isin(["limit widened", "limit relaxed"])]
        yield _Decision(
            date=date,
            target=target,
            factors=list(X.columns),
            X=X.to_numpy(),
            F=F.set_index("factor").to_numpy(),
            d=d.set_index("asset")["specific_variance"].reindex(target.index).to_numpy(),
            benchmark=signals[date].set_index("asset")["benchmark_weight"].reindex(target.index).to_numpy(),
            labels=labels_on(labels, date).reindex(target.index),
            frozen=np.asarray(target.index.isin(said.loc[said["kind"] == "frozen", "asset"])),
            widened={str(name): float(amount) for name, amount in wider.groupby("asset")["amount"].sum().items()},
        )


def _excesses(decision: _Decision, evidence: Evidence, multiplier: float) -> Iterator[tuple[str, float]]:
    """Yield by how much a decision's target is beyond each limit of the mandate; below 0 it is within."""
    mandate, w, wider = evidence.record["mandate"], decision.target.to_numpy(), decision.widened
    yield "position", np.abs(w[~decision.frozen]).max(initial=0.0) - mandate["position_target"]
    yield "gross", np.abs(w).sum() - mandate["gross_limit"]
    if mandate["net_limit"] is not None:
        yield "net", abs(w.sum()) - mandate["net_limit"] - wider.get("net", 0.0)
    for family in ("country", "sector"):
        bound, labels = mandate[f"{family}_limit"], decision.labels[family].fillna("").to_numpy()
        if bound is not None and len(set(labels)) > 1:
            for category, total in decision.target.groupby(labels).sum().items():
                yield family, abs(total) - bound - wider.get(f"{family}:{category}", 0.0)
    if mandate["style_limit"] is not None:
        for k, factor in enumerate(decision.factors):
            if factor.startswith("style:"):
                yield "style", abs(w @ decision.X[:, k]) - mandate["style_limit"] - wider.get(factor, 0.0)
    if mandate["beta_limit"] is not None:
        with_benchmark = decision.covariance_with(decision.benchmark)
        beta = w @ with_benchmark / (decision.benchmark @ with_benchmark)
        yield "beta", abs(beta) - mandate["beta_limit"] - wider.get("beta", 0.0)
    for name, bound in (("volatility", "volatility_limit"), ("volatility target", "volatility_target")):
        if mandate.get(bound) is not None:
            yield name, np.sqrt(w @ decision.covariance_with(w)) * multiplier - mandate[bound]
    if mandate["turnover_limit"] is not None and evidence.record["product"]["lag_days"] == 1:
        t = evidence.dates.get_loc(decision.date)
        held = pd.Series(evidence.value[t] / evidence.nav["nav"].to_numpy()[t], index=evidence.assets)
        traded = decision.target.sub(held[held != 0], fill_value=0.0).abs().sum() / 2
        yield "turnover", traded - mandate["turnover_limit"] - wider.get("turnover", 0.0)


def _multipliers(evidence: Evidence) -> dict[pd.Timestamp, float]:
    """Return by what each decision's forecast must be multiplied: a sum over the days before it, written out."""
    rule, nav = evidence.record["product"]["risk_model"], evidence.nav
    dates = pd.DatetimeIndex(evidence.weights.dropna(subset="target")["date"].unique())
    half_life, lags, prior = (rule[f"calibration_{name}"] for name in ("half_life", "lags", "prior_days"))
    if half_life is None:
        return dict.fromkeys(dates, 1.0)
    daily = nav["forecast"].to_numpy() / np.sqrt(evidence.record["data"]["periods_per_year"])
    earned = nav["gross_return"].to_numpy()
    found = {}
    for date, t in zip(dates, evidence.dates.get_indexer(dates), strict=True):
        forecast, realised = daily[:t][::-1], earned[1 : t + 1][::-1]
        share = np.where(forecast > 0, 0.5 ** (np.arange(t) / half_life), 0.0)
        z = np.sqrt(share) * np.divide(realised, forecast, out=np.zeros(t), where=forecast > 0)
        total = prior + float(z @ z)
        for lag in range(1, min(lags, t - 1) + 1):
            total += 2 * (1 - lag / (lags + 1)) * float(z[:-lag] @ z[lag:])
        found[date] = max(float(np.sqrt(total / (prior + share.sum()))), rule["calibration_floor"])
    return found


def _multiplier_check(evidence: Evidence, multipliers: dict[pd.Timestamp, float]) -> Check:
    worst = _Worst()
    for row in evidence.run.table("solves")[["date", "multiplier"]].to_dict("records"):
        worst.see(abs(row["multiplier"] - multipliers.get(row["date"], np.nan)), f"{row['date']:%Y-%m-%d}")
    statement = "what forecasts are multiplied by = what forecasts and returns before say"
    return Check("multiplier", statement, worst.amount, EXACT, worst.count, where=worst.where, unit="times")


def _label_check(facts: pd.DataFrame, labels: pd.DataFrame) -> Check:
    """Return whether countries and sectors of every decision are those of the data set on its day."""
    wrong = _Worst()
    for day, rows in facts.groupby("date"):
        date = pd.Timestamp(str(day))
        known = labels_on(labels, date).reindex(rows["asset"])
        off = np.zeros(len(rows), dtype=np.bool_)
        for family in ("country", "sector"):
            off |= known[family].fillna("").to_numpy() != rows[family].to_numpy()
        first = rows["asset"].to_numpy()[int(off.argmax())]
        wrong.see(float(off.sum()), f"{date:%Y-%m-%d} {first}", numbers=len(rows))
    statement = "country and sector of a decision = the data set's on its day"
    return Check("labels", statement, wrong.amount, 0.0, wrong.count, where=wrong.where, unit="assets on a day")


def _volume_check(evidence: Evidence, facts: pd.DataFrame) -> Check:
    """Return whether a decision's traded values are medians of the last 63 sessions' dollar volumes."""
    statement = f"traded value of a decision = median dollar volume of the last {VOLUME_ROWS} sessions"
    if "dollar_volume" not in evidence.data.market.columns:
        return Check("traded values", statement, np.nan, EXACT, 0, not_covered="the data set has no dollar_volume")
    rows = evidence.data.market.read(["date", "asset", "dollar_volume"], None, evidence.dates[-1]).to_pandas()
    sessions = pd.DatetimeIndex(np.sort(rows["date"].unique()))
    names = pd.Index(sorted(facts["asset"].unique()))
    place = names.get_indexer(pd.Index(rows["asset"].astype(str)))
    volume = np.full((len(sessions), len(names)), np.nan)
    at = sessions.get_indexer(pd.DatetimeIndex(rows["date"]))[place >= 0], place[place >= 0]
    volume[at] = rows["dollar_volume"].to_numpy(dtype=np.float64)[place >= 0]
    worst, carried = _Worst(), 0
    for day, told in facts.groupby("date"):
        date = pd.Timestamp(str(day))
        t = int(sessions.get_indexer(pd.DatetimeIndex([date]))[0])
        window = volume[max(t + 1 - VOLUME_ROWS, 0) : t + 1, names.get_indexer(pd.Index(told["asset"]))]
        seen = ~np.isnan(window).all(axis=0)
        # Without any volume in the window the value is that of an earlier one.
        carried += int((~seen).sum())
        median = np.nanmedian(window[:, seen], axis=0)
        off = np.abs(told["traded_value"].to_numpy()[seen] - median) / np.maximum(median, 1.0)
        if len(off):
            asset = told["asset"].to_numpy()[seen][int(off.argmax())]
            worst.see(float(off.max()), f"{date:%Y-%m-%d} {asset}", numbers=len(off))
    return Check("traded values", statement, worst.amount, EXACT, worst.count, carried, worst.where, "relative")


def _certificates(evidence: Evidence) -> Iterator[Check]:
    """Yield what the run recorded of its solves: this is read, not derived."""
    solves = evidence.run.table("solves")
    for column, statement in (
        ("primal_residual", "recorded residual of the limits"),
        ("gap", "recorded gap to the best book"),
    ):
        worst = _Worst()
        for row in solves[["date", column]].to_dict("records"):
            worst.see(row[column], f"{row['date']:%Y-%m-%d}")
        name = f"solve {column.replace('_', ' ')}"
        yield Check(name, statement, worst.amount, MET, worst.count, where=worst.where, unit="of alpha and weights")
