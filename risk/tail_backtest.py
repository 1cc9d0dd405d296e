"""Value at risk out of sample: every day's forecast from the days before it, and the tests of its record."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
from pydantic import BaseModel, ConfigDict, Field

from risk.checks import BoolArray, DataError, FloatArray, freeze
from risk.laws import EmpiricalLaw, StudentLaw, check_level, check_series, fit_dof
from risk.shortfall_tests import acerbi_szekely, mcneil_frey
from risk.tails import forecast_volatility
from risk.var_tests import coverage_tests

__all__ = ["VarBacktest", "VarMethod", "backtest_var"]

Law = StudentLaw | EmpiricalLaw


class VarMethod(BaseModel):
    """How a value at risk is forecast from the past.

    Attributes
    ----------
    kind : str
        ``normal``, ``student``, ``historical``, ``filtered_historical`` or ``monte_carlo``, as the functions of `risk.tails`.
    window : int
        Returns in the empirical law, and in the estimate of degrees of freedom.
    half_life : float
        Periods, of the volatility where none is given.
    dof : float, optional
        Degrees of freedom of ``student`` and ``monte_carlo``; None estimates them over the window, every `refit` periods.
    refit : int
        Periods.
    draws : int
        Of ``monte_carlo``, for every forecast.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["normal", "student", "historical", "filtered_historical", "monte_carlo"]
    window: int = Field(default=500, ge=20)
    half_life: float = Field(default=21.0, gt=0)
    dof: float | None = Field(default=None, gt=2)
    refit: int = Field(default=21, ge=1)
    draws: int = Field(default=5000, ge=1000)


@dataclass(frozen=True, eq=False)
class VarBacktest:
    """A record of forecasts and what came.

    Attributes
    ----------
    method : VarMethod
    level : float
    start : int
        Row of the returns that the first forecast is for.
    returns, value_at_risk, expected_shortfall, volatility : ndarray of shape (T - start,)
        Per period; the forecasts know only the rows before.
    exceptions : bool ndarray of shape (T - start,)
        Whether the loss went beyond the value at risk.
    coverage : DataFrame
        `coverage_tests` of the exceptions.
    shortfall : DataFrame
        The tests of expected shortfall, indexed by name, columns as `ShortfallTest`.
    """

    method: VarMethod
    level: float
    start: int
    returns: FloatArray
    value_at_risk: FloatArray
    expected_shortfall: FloatArray
    volatility: FloatArray
    exceptions: BoolArray
    coverage: pd.DataFrame
    shortfall: pd.DataFrame


def _laws(returns: FloatArray, sigma: FloatArray, start: int, method: VarMethod, seed: int) -> list[tuple[Law, float]]:
    """Return each day's law and the scale to multiply it by."""
    laws: list[tuple[Law, float]] = []
    law: Law = StudentLaw(math.inf)
    outcomes = returns / np.where(sigma > 0, sigma, np.nan)
    for t in range(start, len(returns)):
        past = slice(t - method.window, t)
        if method.kind == "historical":
            laws.append((EmpiricalLaw(returns[past]), 1.0))
            continue
        if method.kind == "filtered_historical":
            law = EmpiricalLaw(outcomes[past])
        elif method.kind in ("student", "monte_carlo"):
            if (t - start) % method.refit == 0:
                dof = fit_dof(outcomes[past]) if method.dof is None else method.dof
            law = StudentLaw(dof)
            if method.kind == "monte_carlo":
                # Under the multivariate t every book's return is the same t times its own volatility (risk.tails).
                rng = np.random.default_rng([seed, t])
                shocks = rng.standard_normal(method.draws) * np.sqrt((dof - 2) / rng.chisquare(dof, method.draws))
                law = EmpiricalLaw(shocks)
        laws.append((law, float(sigma[t])))
    return laws


def backtest_var(
    returns: npt.ArrayLike,
    method: VarMethod,
    *,
    level: float = 0.99,
    volatility: npt.ArrayLike | None = None,
    periods_per_year: float = 252,
    scenarios: int = 999,
    seed: int = 0,
) -> VarBacktest:
    """Return forecasts of value at risk and expected shortfall for each period, made from the periods before, and tests.

    Parameters
    ----------
    returns : array_like of shape (T,)
        Of the book, per period. For a horizon of h days give sums over h days that do not overlap.
    method : VarMethod
    level : float
    volatility : array_like of shape (T,), optional
        Annual forecast made before each return, as the factor model's for that day's book; without it, the
        exponentially weighted volatility of the returns before.
    periods_per_year : float
    scenarios : int
        Records drawn from the forecasts for the tests of expected shortfall.
    seed : int
        Of scenarios, draws and ties.

    Returns
    -------
    VarBacktest

    Raises
    ------
    DataError
        If an entry is not finite, a volatility is not positive, or no period is left after the window.

    Notes
    -----
    The first forecast is for row `window` (plus `half_life` where volatility is estimated here), for every method alike,
    so that methods are judged on the same dates. The tests take the forecasts as given. Estimating them moves the level:
    a window that holds an exception raises the next forecasts, so that the number of exceptions varies less than the
    binomial and a right law is rejected less often than the nominal level, while noise in the volatility adds exceptions.
    `benchmarks/risk_tails.py --estimated` prints the shares.

    References
    ----------
    Escanciano, Olmo (2010), Backtesting Parametric Value-at-Risk with Estimation Risk, Journal of Business and Economic Statistics 28.
    """
    r = check_series("returns", returns)
    check_level(level)
    sigma, first = forecast_volatility(r, volatility, len(r), method.half_life, periods_per_year)
    start = first + method.window
    if start >= len(r):
        raise DataError(
            f"`returns` must be longer than the {start} periods that the first forecast needs; got {len(r)}. Shorten "
            "`window` or `half_life` of the method, or give more returns."
        )
    laws = _laws(r, sigma, start, method, seed)
    risk = np.array([scale * law.value_at_risk(level) for law, scale in laws])
    shortfall = np.array([scale * law.expected_shortfall(level) for law, scale in laws])
    uniform = np.random.default_rng([seed, 1, len(r)]).random((scenarios, len(laws)))
    drawn = np.column_stack([scale * law.quantile(uniform[:, j]) for j, (law, scale) in enumerate(laws)])
    after, spread = r[start:], sigma[start:]
    shortfall_tests = [
        acerbi_szekely(after, risk, shortfall, level, drawn, seed=seed),
        mcneil_frey(after, risk, shortfall, spread, level, scenarios=drawn, seed=seed),
    ]
    exceptions = after < -risk
    return VarBacktest(
        method=method,
        level=level,
        start=start,
        returns=freeze(after),
        value_at_risk=freeze(risk),
        expected_shortfall=freeze(shortfall),
        volatility=freeze(spread),
        exceptions=freeze(exceptions),
        coverage=coverage_tests(exceptions, level, seed=seed),
        shortfall=pd.DataFrame(shortfall_tests).set_index("name"),
    )
