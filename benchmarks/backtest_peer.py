"""cvxportfolio's backtest of a few weeks, written as its documentation shows. Runs in an interpreter that has cvxportfolio.

    python benchmarks/backtest_peer.py FOLDER    seconds, processor seconds, memory and the books' quality, as JSON

FOLDER holds peer.npz, written by `backtest_speed.py`: weekly returns, prices and volumes, and for every rebalance the alpha and
the risk model that metafolio made there. The policy is single-period: alpha less the factor model's risk, trading cost and borrow, with the
mandate's limits; that on volatility only where asked for, for with it memory grows with the square of the names, as it does
with an impact to the power of 3/2. In its favour:

- it is given forecasts and risk models and estimates neither;
- it marks its books by the week, not by the day;
- its names trade in every week, so its problem is compiled once.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path

import cvxportfolio as cvx
import numpy as np
import pandas as pd

WEEKS_A_YEAR = 52
stamps: list[tuple[float, float]] = []
"""Clock and processor seconds at the end of every rebalance."""


class Stamped(cvx.BacktestResult):
    """A result that notes when each rebalance was done."""

    def log_trading(self, *arguments, **named):  # type: ignore[no-untyped-def]
        """Note the period as always, and the time."""
        super().log_trading(*arguments, **named)
        stamps.append((time.perf_counter(), time.process_time()))


def by_factor(values: np.ndarray, dates: pd.DatetimeIndex, factors: list[str], columns: list[str]) -> pd.DataFrame:
    """Return one matrix per date, as the frame of two index levels that the package asks for."""
    index = pd.MultiIndex.from_product([dates, factors])
    return pd.DataFrame(values.reshape(len(index), -1), index=index, columns=columns)


def policy(given: dict[str, np.ndarray], dates: pd.DatetimeIndex, assets: list[str]) -> cvx.SinglePeriodOptimization:
    """Return the policy; annual forecasts become weekly ones."""
    factors = [str(name) for name in given["factors"]]
    number = {name: float(values) for name, values in given.items() if values.ndim == 0}
    risk = cvx.FactorModelCovariance(
        F=by_factor(given["exposures"], dates, factors, assets),
        Sigma_F=by_factor(given["factor_covariance"] / WEEKS_A_YEAR, dates, factors, factors),
        d=pd.DataFrame(given["specific_variance"] / WEEKS_A_YEAR, dates, assets),
    )
    cost = cvx.TransactionCost(a=number["linear"])
    if number["exponent"] > 1:
        cost = cvx.TransactionCost(a=number["linear"], b=number["impact"], exponent=number["exponent"])
    objective = (
        cvx.ReturnsForecast(r_hat=pd.DataFrame(given["alpha"] / WEEKS_A_YEAR, dates, assets))
        - 0.5 * number["aversion"] * risk
        - number["annualisation"] / WEEKS_A_YEAR * cost
        - cvx.HoldingCost(short_fees=100 * number["fee"])
    )
    constraints = [
        cvx.DollarNeutral(),
        cvx.FactorNeutral(pd.DataFrame(given["groups"], assets)),
        cvx.MaxWeights(number["cap"]),
        cvx.MinWeights(-number["cap"]),
        cvx.LeverageLimit(number["gross"]),
    ]
    if np.isfinite(number["volatility"]):
        constraints.append(risk <= number["volatility"] ** 2 / WEEKS_A_YEAR)
    for exposures, limit in zip(given["limited"].swapaxes(0, 1), given["limits"], strict=True):
        exposure = pd.DataFrame(exposures, dates, assets)
        constraints += [cvx.FactorMaxLimit(exposure, limit), cvx.FactorMinLimit(exposure, -limit)]
    return cvx.SinglePeriodOptimization(
        objective, constraints, include_cash_return=False, solver="CLARABEL", fallback_solver=None
    )


def worst_violation(given: dict[str, np.ndarray], books: np.ndarray) -> float:
    """Return by how much the books, one row per rebalance, break a limit at most; a book's volatility is annual."""
    rows = np.einsum("trn,tn->tr", given["limited"], books)
    total = np.einsum("tkn,tn->tk", given["exposures"], books)
    variance = np.einsum("tk,tkj,tj->t", total, given["factor_covariance"], total)
    volatility = np.sqrt(variance + (given["specific_variance"] * books**2).sum(axis=1))
    over = (
        np.abs(books @ np.column_stack([np.ones(books.shape[1]), given["groups"]])),
        np.abs(books) - given["cap"],
        np.abs(books).sum(axis=1) - given["gross"],
        np.abs(rows) - given["limits"],
        volatility - given["volatility"],
    )
    return max(float(part.max()) for part in over)


def main() -> None:
    folder = Path(sys.argv[1])
    with np.load(folder / "peer.npz") as file:
        given = dict(file)
    assets = [str(name) for name in given["assets"]]
    weeks = pd.DatetimeIndex(given["weeks"]).tz_localize("UTC")
    dates = pd.DatetimeIndex(given["dates"]).tz_localize("UTC")
    simulator = cvx.MarketSimulator(
        returns=pd.DataFrame(given["returns"], weeks, assets),
        volumes=pd.DataFrame(given["volumes"], weeks, assets),
        prices=pd.DataFrame(given["prices"], weeks, assets),
        cash_key="cash",
        costs=[
            cvx.TransactionCost(a=float(given["linear"]), b=float(given["impact"])),
            cvx.HoldingCost(short_fees=100 * float(given["fee"])),
        ],
        base_location=folder,
        backtest_result_cls=Stamped,
    )
    began, busy = time.perf_counter(), time.process_time()
    result = simulator.backtest(
        policy(given, dates, assets), start_time=dates[0], end_time=weeks[-1], initial_value=float(given["nav"])
    )
    clock, cpu = np.diff(np.array([(began, busy), *stamps]), axis=0).T
    books = (result.w + result.z_policy)[assets].loc[dates].to_numpy()
    print(
        json.dumps(
            {
                "assets": len(assets),
                "factors": len(given["factors"]),
                "exponent": float(given["exponent"]),
                "limited": bool(np.isfinite(given["volatility"])),
                "rebalances": len(stamps),
                "start": clock[0],
                "start_cpu": cpu[0],
                "rebalance": clock[1:].mean(),
                "rebalance_fastest": clock[1:].min(),
                "rebalance_slowest": clock[1:].max(),
                "rebalance_cpu": cpu[1:].mean(),
                "own_clock": float((result.policy_times + result.simulator_times).iloc[1:].mean()),
                "gross": float(np.abs(books).sum(axis=1).mean()),
                "over": worst_violation(given, books),
                "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
            }
        )
    )


if __name__ == "__main__":
    main()
