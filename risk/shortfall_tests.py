"""Is an expected shortfall right? Tests against what the forecast itself says could have happened.

With L_t = -r_t the loss, VaR_t, ES_t and sigma_t forecasts made before it, I_t = 1 where L_t > VaR_t, and q = 1 - level:

    Acerbi-Szekely  Z = 1 - (1/(T q)) sum_t L_t I_t / ES_t         mean 0 if the forecast holds, below 0 if risk is understated
    McNeil-Frey     e_t = (L_t - ES_t)/sigma_t where I_t = 1        mean 0 if the forecast holds, above 0 if ES is too low

Both are one-sided: what is tested is that losses in the tail are no worse than forecast. Their distributions have no closed form.
The p-value is Dufour's: `scenarios` are S records of T returns, each drawn from the forecast of its day, and the record
is ranked among them, ties broken by seeded uniforms. It is exact if the forecast holds and significance times (S + 1) is whole.
Without scenarios McNeil-Frey is bootstrapped, as published; its level is then off with few exceptions (`benchmarks/risk_tails.py`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from risk.checks import DataError, FloatArray, check_array
from risk.laws import check_level, check_series

__all__ = ["ShortfallTest", "acerbi_szekely", "mcneil_frey", "monte_carlo_p_value"]


@dataclass(frozen=True)
class ShortfallTest:
    """One test of a record of returns against forecasts of expected shortfall.

    Attributes
    ----------
    name, definition : str
    level : float
    periods, exceptions : int
        T, and days on which the loss went beyond the value at risk.
    statistic : float
    p_value : float
        One-sided, small where shortfall is understated.
    method : str
        ``monte_carlo`` or ``bootstrap``; ``too few exceptions`` where the bootstrap has under two to work with, and the
        p-value is then 1.
    simulations : int
    """

    name: str
    definition: str
    level: float
    periods: int
    exceptions: int
    statistic: float
    p_value: float
    method: str
    simulations: int


def monte_carlo_p_value(simulated: FloatArray, observed: float, *, seed: int = 0) -> float:
    """Return the share of S simulated statistics and the observed one that are at least as large as the observed one.

    (number above + number tied with a larger uniform + 1)/(S + 1): uniform on its steps under the null, ties or not.

    References
    ----------
    Dufour (2006), Monte Carlo Tests with Nuisance Parameters, Journal of Econometrics 133.

    Examples
    --------
    >>> monte_carlo_p_value(np.array([0.1, 0.5, 0.9]), 0.6)
    0.5
    """
    uniforms = np.random.default_rng(seed).random(len(simulated) + 1)
    tied = np.abs(simulated - observed) <= 1e-12 * (1 + abs(observed))
    above = (simulated > observed) & ~tied
    return float((above.sum() + (tied & (uniforms[1:] >= uniforms[0])).sum() + 1) / (len(simulated) + 1))


def _check_forecasts(returns: npt.ArrayLike, forecasts: dict[str, npt.ArrayLike]) -> tuple[FloatArray, ...]:
    r = check_series("returns", returns)
    checked = [check_array(name, value, r.shape) for name, value in forecasts.items()]
    for name, value in zip(forecasts, checked, strict=True):
        if (value <= 0).any():
            t = int(np.argmin(value))
            raise DataError(
                f"`{name}` must be positive, a loss; got {value[t]:.4g} at position {t}. Leave out days without a book."
            )
    return r, *checked


def _check_scenarios(scenarios: npt.ArrayLike, periods: int) -> FloatArray:
    shape = np.shape(scenarios)
    if len(shape) != 2 or shape[1] != periods or shape[0] < 19:
        raise DataError(f"`scenarios` must have shape (S, {periods}) with S at least 19; got {shape}.")
    return check_array("scenarios", scenarios, shape)


def _szekely(returns: FloatArray, var: FloatArray, shortfall: FloatArray, q: float) -> FloatArray:
    """Return Z of each record in the last axis."""
    ratio = np.where(returns < -var, returns / shortfall, 0.0)
    return np.asarray(1 + ratio.mean(axis=-1) / q)


def _studentised(excess: FloatArray, counted: FloatArray) -> FloatArray:
    """Return sqrt(n) mean / standard deviation of the counted entries of each row; 0 for fewer than two or equal ones."""
    n = counted.sum(axis=-1)
    total = (excess * counted).sum(axis=-1)
    mean = total / np.maximum(n, 1)
    square = (counted * (excess - mean[..., None]) ** 2).sum(axis=-1) / np.maximum(n - 1, 1)
    usable = (n >= 2) & (square > 0)
    return np.where(usable, np.sqrt(n) * mean / np.sqrt(np.where(usable, square, 1.0)), 0.0)


def acerbi_szekely(
    returns: npt.ArrayLike,
    value_at_risk: npt.ArrayLike,
    expected_shortfall: npt.ArrayLike,
    level: float,
    scenarios: npt.ArrayLike,
    *,
    seed: int = 0,
) -> ShortfallTest:
    """Test whether losses beyond the value at risk are as many and as large as forecast: Acerbi and Szekely's second.

    Parameters
    ----------
    returns : array_like of shape (T,)
        Per period.
    value_at_risk, expected_shortfall : array_like of shape (T,)
        Positive losses, forecast before each return.
    level : float
    scenarios : array_like of shape (S, T)
        Returns drawn from the forecast of each day.
    seed : int
        Of the uniforms that break ties.

    Raises
    ------
    DataError
        If shapes disagree, an entry is not finite, or a forecast is not positive.

    References
    ----------
    Acerbi, Szekely (2014), Backtesting Expected Shortfall, Risk, December.
    """
    r, var, shortfall = _check_forecasts(
        returns, {"value_at_risk": value_at_risk, "expected_shortfall": expected_shortfall}
    )
    q, drawn = 1 - check_level(level), _check_scenarios(scenarios, len(r))
    statistic = float(_szekely(r, var, shortfall, q))
    return ShortfallTest(
        "acerbi_szekely", "number and size of losses beyond VaR against ES", level, len(r), int((r < -var).sum()), statistic,
        monte_carlo_p_value(-_szekely(drawn, var, shortfall, q), -statistic, seed=seed), "monte_carlo", len(drawn),
    )  # fmt: skip


def mcneil_frey(
    returns: npt.ArrayLike,
    value_at_risk: npt.ArrayLike,
    expected_shortfall: npt.ArrayLike,
    volatility: npt.ArrayLike,
    level: float,
    *,
    scenarios: npt.ArrayLike | None = None,
    bootstraps: int = 999,
    seed: int = 0,
) -> ShortfallTest:
    """Test whether losses beyond the value at risk are as large as forecast, whatever their number.

    Parameters
    ----------
    returns, value_at_risk, expected_shortfall, level
        As `acerbi_szekely`.
    volatility : array_like of shape (T,)
        Forecast for each return, **per period**.
    scenarios : array_like of shape (S, T), optional
        Returns drawn from the forecast of each day; without them the exceedances, less their mean, are bootstrapped.
    bootstraps : int
        Samples of the bootstrap.
    seed : int

    Raises
    ------
    DataError
        As `acerbi_szekely`.

    Notes
    -----
    Statistic: sqrt(n) mean(e)/sd(e) over the n exceptions; 0 with fewer than two.

    References
    ----------
    McNeil, Frey (2000), Estimation of Tail-Related Risk Measures for Heteroscedastic Financial Time Series, Journal of Empirical
    Finance 7; Efron, Tibshirani (1993), An Introduction to the Bootstrap.
    """
    r, var, shortfall, sigma = _check_forecasts(
        returns, {"value_at_risk": value_at_risk, "expected_shortfall": expected_shortfall, "volatility": volatility}
    )
    check_level(level)
    beyond = r < -var
    excess = (-r - shortfall) / sigma
    statistic = float(_studentised(excess, beyond.astype(float)))
    if scenarios is not None:
        drawn = _check_scenarios(scenarios, len(r))
        null = _studentised((-drawn - shortfall) / sigma, (drawn < -var).astype(float))
        p_value, method, count = monte_carlo_p_value(null, statistic, seed=seed), "monte_carlo", len(drawn)
    elif beyond.sum() >= 2:
        tail = excess[beyond] - excess[beyond].mean()
        chosen = np.random.default_rng(seed).choice(tail, size=(bootstraps, len(tail)))
        null = _studentised(chosen, np.ones_like(chosen))
        p_value, method, count = monte_carlo_p_value(null, statistic, seed=seed + 1), "bootstrap", bootstraps
    else:
        p_value, method, count = 1.0, "too few exceptions", 0
    return ShortfallTest(
        "mcneil_frey", "size of losses beyond VaR against ES", level, len(r), int(beyond.sum()), statistic, p_value, method,
        count,
    )  # fmt: skip
