"""What a simulation writes down: a row for every position, trade, solve, exposure, exclusion and notice."""

from __future__ import annotations

import json
import resource
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from backtest.account_rows import asset_rows, factor_rows, group_rows
from backtest.dataset import Dataset, fingerprint_of
from backtest.dealing import Dealing, Outcome, deal_table
from backtest.ledger import Ledger
from backtest.lines import Day
from backtest.products import Product
from backtest.run_writer import RunWriter
from backtest.share_register import ShareRegister
from backtest.statistics import statistics
from backtest.store import Run
from backtest.strategy import Decision, Market
from backtest.volatility_target import missed_target
from engine import InfeasibleMandate, Mandate, Solution
from risk import Decomposition
from risk.checks import BoolArray, FloatArray

__all__ = ["Journal", "widenings"]


def widenings(decision: Decision, solution: Solution) -> dict[str, float]:
    """Return by how much each limit was widened in all: for frozen names, and because the mandate gives way."""
    names = [*decision.widened, *(name for name in solution.relaxed if name not in decision.widened)]
    return {name: decision.widened.get(name, 0.0) + solution.relaxed.get(name, 0.0) for name in names}


class Journal:
    """Turns days and decisions into the tables of the run folder."""

    def __init__(
        self,
        writer: RunWriter,
        data: Dataset,
        product: Product,
        mandate: Mandate,
        market: Market,
        inputs: Mapping[str, Any],
    ) -> None:
        self.writer, self.data, self.product, self.mandate, self.market = writer, data, product, mandate, market
        self.inputs = inputs
        self.assets = np.array(market.panel.assets, dtype=object)
        self.dates = market.panel.dates
        self.last_weights = np.zeros(len(self.assets))
        """Weights at the last close."""

    def _notice(self, t: int, kind: str, asset: str, amount: float, detail: str) -> None:
        row = {"date": self.dates[t], "kind": kind, "asset": asset, "amount": amount, "detail": detail}
        self.writer.append("notices", row)

    def day(
        self,
        day: Day,
        nav: float,
        weights: FloatArray,
        target: FloatArray | None,
        ledger: Ledger,
        register: ShareRegister,
        decision: Decision | None,
        risk: Decomposition | None,
        multiplier: float,
    ) -> None:
        """Write one day's account, positions, trades and exposures.

        `risk` is that of the book at the close under the decision's model (None: there was no decision yet), and
        `multiplier` what the book's own past says its forecast volatility is to be multiplied by.
        """
        forecast = 0.0 if risk is None else risk.volatility
        t, date, before = day.t, self.dates[day.t], day.nav_before
        gross_return, cost, financing = day.gross / before, day.cost / before, day.financing / before
        before_fees = gross_return - cost - financing
        management, incentive = register.lead_fees
        row = {
            "date": date,
            "nav": nav,
            "gross_return": gross_return,
            "cost": cost,
            "financing": financing,
            "return_before_fees": before_fees,
            "management_fee": management,
            "incentive_fee": incentive,
            "net_return": before_fees - management - incentive,
            "nav_per_share": register.nav_per_share,
            "cash": ledger.total_cash,
            "gross": float(np.abs(weights).sum()),
            "net": float(weights.sum()),
            "turnover": day.traded / before / 2,
            "market_return": self._market_return(t),
            "forecast": forecast,
            "calibrated_forecast": forecast * multiplier,
        }
        self.writer.append("nav", row)
        lines = {name: amount for name, amount in day.lines.items() if amount}
        self.writer.append("lines", {"date": date, "line": list(lines), "amount": list(lines.values())})
        for notice in day.notices:
            name = self.assets[notice.asset] if notice.asset >= 0 else ""
            self._notice(t, notice.kind, name, notice.amount / before, notice.detail)
        self._positions(day, weights, target, ledger)
        self._trades(day)
        self.writer.append("factor_returns", factor_rows(self.market, t, self.last_weights))
        self.writer.append("group_returns", group_rows(self.market, t))
        self.last_weights = weights.copy()
        if decision is not None and risk is not None:
            self._exposures(date, decision, weights[decision.assets], risk)

    def _market_return(self, t: int) -> float:
        """Return the day's return of the cap-weighted universe, chosen and weighted at yesterday's close.

        A member without a row is unchanged, as it is in the book: on a day when one country trades, the others weigh 0.
        """
        inside = self.market.universe.members[t - 1]
        size = self.market.history.descriptors.size[t - 1][inside]
        returns = np.nan_to_num(self.market.panel.returns[t][inside])
        return float(size @ returns / size.sum()) if size.size else np.nan

    def _positions(self, day: Day, weights: FloatArray, target: FloatArray | None, ledger: Ledger) -> None:
        date = self.dates[day.t]
        aimed = np.full(len(weights), np.nan) if target is None else target
        rows = np.isfinite(aimed) | (weights != 0)
        self.writer.append(
            "weights",
            {"date": date, "asset": self.assets[rows], "target": aimed[rows], "weight": weights[rows]},
        )
        rows = (ledger.shares != 0) | (day.pnl != 0)
        self.writer.append(
            "positions",
            {
                "date": date,
                "asset": self.assets[rows],
                "shares": ledger.shares[rows],
                "price": ledger.price[rows],
                "value": ledger.value[rows],
                "pnl": day.pnl[rows],
            },
        )

    def _trades(self, day: Day) -> None:
        fills = day.fills
        if not len(fills):
            return
        trades = {
            "date": self.dates[day.t],
            "decided": self.dates[fills.decided],
            "asset": self.assets[fills.asset],
            "reason": fills.reason,
            "shares": fills.shares,
            "price": fills.price,
            "trade": fills.value / day.nav_before,
            "cost": fills.cost / day.nav_before,
        }
        self.writer.append("trades", trades)

    def _exposures(self, date: pd.Timestamp, decision: Decision, weights: FloatArray, parts: Decomposition) -> None:
        """Write the book's level against every limit, and each factor's share of the forecast volatility."""
        problem = decision.problem
        model, limits = problem.model, problem.limits
        risk = dict(zip(model.factors, parts.factor_contribution, strict=True))
        level = dict(zip(limits.names, limits.exposures.T @ weights, strict=True))
        level |= dict(zip(model.factors, parts.exposures, strict=True))
        level |= {
            "gross": float(np.abs(weights).sum()),
            "position": float(np.abs(weights).max(initial=0.0)),
            "volatility": parts.volatility,
            "specific": np.nan,
        }
        risk["specific"] = parts.specific_contribution
        risk["volatility"] = parts.volatility
        lower = dict(zip(limits.names, limits.lower, strict=True))
        upper = dict(zip(limits.names, limits.upper, strict=True))
        upper |= {"gross": problem.gross_limit, "position": self.mandate.position_limit}
        if problem.volatility_limit is not None:
            upper["volatility"] = problem.volatility_limit
        columns = {"exposure": level, "forecast_risk": risk, "limit_lower": lower, "limit_upper": upper}
        numbers = {name: [values.get(row, np.nan) for row in level] for name, values in columns.items()}
        self.writer.append("exposures", {"date": date, "factor": list(level), **numbers})

    def decided(
        self, t: int, decision: Decision, solution: Solution, published: pd.Timestamp, multiplier: float
    ) -> None:
        """Write one solve with its signals, model and everything that was left out."""
        date, certificate = self.dates[t], solution.certificate
        relaxed = widenings(decision, solution)
        self.writer.append(
            "solves",
            {
                "date": date,
                "predictions_date": published,
                "status": solution.status.value,
                "method": solution.method,
                "fallback": solution.fallback,
                "relaxed": json.dumps(relaxed, sort_keys=True) if relaxed else "",
                "primal_residual": certificate.primal_residual,
                "dual_residual": certificate.dual_residual,
                "complementarity": certificate.complementarity,
                "gap": certificate.gap,
                "objective": certificate.objective,
                "volatility": solution.volatility,
                "multiplier": multiplier,
                "gross": solution.gross,
                "iterations": solution.iterations,
                "free_directions": solution.free_directions,
                "assets": len(solution.weights),
                "models": int(decision.meta.models["used"].sum()),
                "binding": [list(solution.binding)],
            },
        )
        duals = solution.duals
        self.writer.append("duals", {"date": date, "limit": list(duals), "price": list(duals.values())})
        names = self.assets[decision.assets]
        self.writer.append(
            "signals",
            {
                "date": date,
                "asset": names,
                "meta_model": decision.scores,
                "alpha": decision.problem.alpha,
                "benchmark_weight": decision.benchmark,
            },
        )
        models = decision.meta.models
        self.writer.append(
            "meta_model",
            {
                "date": date,
                "model": models.index.to_numpy(),
                **{column: models[column].to_numpy() for column in ("reason", "stake", "used", "coverage", "filled")},
            },
        )
        excluded = self.market.universe.excluded.loc[date]
        reasons = {"reason": list(excluded.index), "assets": excluded.to_numpy(dtype=np.int64)}
        self.writer.append("universe", {"date": date, **reasons})
        self.writer.append("assets", asset_rows(self.market, t, decision.assets))
        self.writer.write_model(date, decision.problem.model)
        for i in np.flatnonzero(decision.frozen):
            self._notice(t, "frozen", names[i], float(decision.problem.holdings[i]), "no row while its country trades")
        for limit, amount in decision.widened.items():
            self._notice(t, "limit widened", limit, amount, "frozen names that no trade can offset")
        missed = missed_target(self.mandate, decision.problem, solution, multiplier)
        if missed is not None:
            self._notice(t, "volatility target missed", missed.stopped_by, missed.reached, missed.detail)

    def dealt(self, t: int, dealing: Dealing, register: ShareRegister, nav: float) -> None:
        """Write what a dealing day did with the requests of investors, and who owns what after it."""
        if not dealing.deals:
            return
        self.writer.append("deals", deal_table(dealing.deals))
        self.writer.append("shares", register.statement.assign(date=self.dates[t]))
        for deal in dealing.deals:
            if deal.outcome is not Outcome.DEALT:
                kind = f"{deal.kind.value} {deal.outcome.value}"
                self._notice(t, kind, "", deal.amount / nav, f"{deal.investor}: {deal.detail}")

    def relaxed(self, t: int, solution: Solution, conflict: InfeasibleMandate) -> None:
        """Write the limits that gave way because not all could hold, and why."""
        for limit, amount in solution.relaxed.items():
            self._notice(t, "limit relaxed", limit, amount, str(conflict))

    def held(self, t: int, decision: Decision, conflict: InfeasibleMandate) -> None:
        """Write a decision that found no portfolio and left the book as it was."""
        self._notice(t, "held", "", float(np.abs(decision.problem.holdings).sum()), str(conflict))

    def breach(self, t: int, over: BoolArray, weights: FloatArray) -> None:
        """Write names that drifted over the position limit."""
        for i in np.flatnonzero(over):
            self._notice(t, "passive breach", self.assets[i], float(weights[i]), "traded back at its next session")

    def timing(self, label: str, **seconds: float) -> None:
        """Log what a step took, and the largest memory so far."""
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        rounded = {f"{name}_seconds": round(value, 4) for name, value in seconds.items()}
        self.writer.log_timing({"step": label, **rounded, "peak_megabytes": round(peak, 1)})

    def finish(self, status: str, reason: str, start: pd.Timestamp, end: pd.Timestamp, register: ShareRegister) -> Run:
        """Write who owns the fund, and `run.json`, and close the run."""
        self.writer.append("shares", register.statement.assign(date=end))
        data, universe = self.data, self.market.universe
        nav, solves = self.writer.table("nav").set_index("date"), self.writer.table("solves")
        counts = self.writer.table("notices")["kind"].value_counts().to_dict()
        inputs = {key: value for key, value in self.inputs.items() if key not in {"files", "first", "last"}}
        record = inputs | {
            "name": self.product.name,
            "status": status,
            "reason": reason,
            "data": {
                "path": str(data.folder.resolve()),
                "fingerprint": fingerprint_of(self.inputs["files"]),
                "features": data.features(),
                **data.settings.model_dump(mode="json"),
            },
            "requests_not_reached": [
                {"date": f"{flow.date:%Y-%m-%d}", "investor": flow.investor, "amount": str(flow.amount)}
                for flow in register.waiting
            ],
            "seed": None,
            "start": f"{start:%Y-%m-%d}",
            "end": f"{end:%Y-%m-%d}",
            "size_source": universe.size_source,
            "universe_not_applied": self.product.universe.not_applied(data.market_columns()),
            "counts": counts | {"unknown returns taken as 0": len(data.unknown_returns())},
            "statistics": statistics(
                nav,
                solves=solves,
                volatility_limit=self.mandate.volatility_limit,
                capacity=self.product.capacity,
                periods_per_year=data.settings.periods_per_year,
            ).as_record(),
        }
        return self.writer.finish(record)
