"""Value at risk and expected shortfall of a book: five ways, each of which says what it assumes.

All are losses as fractions of net asset value, positive in general, met over `horizon` periods at a confidence `level`; returns are
about a mean of 0 unless they are a historical sample, and returns of several periods add up (the book is held at constant weights).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from risk.checks import DataError, FloatArray, check_array
from risk.laws import EmpiricalLaw, StudentLaw, check_level, check_series, ewma_volatility
from risk.model import FactorModel

__all__ = [
    "Tail",
    "filtered_historical_tail",
    "forecast_volatility",
    "historical_tail",
    "monte_carlo_tail",
    "normal_tail",
    "student_tail",
]

_BLOCK = 20_000
"""Scenarios drawn at once, to bound memory."""


@dataclass(frozen=True)
class Tail:
    """A book's value at risk and expected shortfall.

    Attributes
    ----------
    method : str
    value_at_risk : float
        Loss exceeded with probability 1 - level, fraction of net asset value over the horizon.
    expected_shortfall : float
        Mean loss in the worst 1 - level of cases, same unit.
    value_at_risk_error, expected_shortfall_error : float
        Standard errors of the sample or of the draws; 0 for a closed form, whose model error is not in it.
    level : float
    horizon : int
        Periods.
    observations : int
        Returns or draws the numbers were read from; 0 for a closed form.
    definition : str
    """

    method: str
    value_at_risk: float
    expected_shortfall: float
    value_at_risk_error: float
    expected_shortfall_error: float
    level: float
    horizon: int
    observations: int
    definition: str


def _check_horizon(horizon: int) -> int:
    if isinstance(horizon, bool) or horizon != int(horizon) or horizon < 1:
        raise DataError(f"`horizon` must be a whole number of periods, at least 1; got {horizon!r}.")
    return int(horizon)


def _period_volatility(model: FactorModel, weights: npt.ArrayLike, periods_per_year: float) -> float:
    if not periods_per_year > 0:
        raise DataError(f"`periods_per_year` must be positive, as 252 for days; got {periods_per_year!r}.")
    return model.volatility(check_array("weights", weights, (len(model.assets),))) / math.sqrt(periods_per_year)


def _book_returns(returns: npt.ArrayLike, weights: npt.ArrayLike | None) -> FloatArray:
    if weights is None:
        return check_series("returns", returns, least=2)
    shape = np.shape(returns)
    if len(shape) != 2 or shape[0] < 2:
        raise DataError(f"`returns` must have shape (T, N) with T at least 2 when weights are given; got {shape}.")
    return np.asarray(check_array("returns", returns, shape) @ check_array("weights", weights, (shape[1],)))


def forecast_volatility(
    returns: FloatArray, volatility: npt.ArrayLike | None, periods: int, half_life: float, periods_per_year: float
) -> tuple[FloatArray, int]:
    """Return the volatility forecast for each return, per period, and the first one that there is.

    Parameters
    ----------
    returns : ndarray of shape (T,)
    volatility : array_like of shape (periods,), optional
        Annual. Without it, the exponentially weighted volatility of the returns before, from `half_life` returns on.
    periods : int
        T, or T + 1 with the coming one.
    half_life : float
    periods_per_year : float

    Raises
    ------
    DataError
        If a volatility is not finite and positive, or their number differs.
    """
    if volatility is None:
        sigma, first = ewma_volatility(returns, half_life)[:periods], math.ceil(half_life)
    else:
        sigma, first = check_array("volatility", volatility, (periods,)) / math.sqrt(periods_per_year), 0
    if (sigma[first:] <= 0).any():
        t = first + int(np.argmin(sigma[first:]))
        raise DataError(
            f"`volatility` must be positive; got {sigma[t]:.4g} at position {t}. Leave out periods without a book."
        )
    return sigma, first


def _closed_form(
    method: str,
    law: StudentLaw,
    model: FactorModel,
    weights: npt.ArrayLike,
    level: float,
    horizon: int,
    periods_per_year: float,
    definition: str,
) -> Tail:
    h = _check_horizon(horizon)
    scale = _period_volatility(model, weights, periods_per_year) * math.sqrt(h)
    risk, shortfall = scale * law.value_at_risk(level), scale * law.expected_shortfall(level)
    return Tail(method, risk, shortfall, 0.0, 0.0, level, h, 0, f"{definition}, factor-model volatility, mean 0")


def _sampled(method: str, sample: FloatArray, level: float, horizon: int, effective: float, definition: str) -> Tail:
    law = EmpiricalLaw(sample)
    risk, shortfall = law.value_at_risk(level), law.expected_shortfall(level)
    return Tail(
        method, risk, shortfall, *law.standard_errors(level, effective), level, horizon, len(sample), definition
    )


def normal_tail(
    model: FactorModel, weights: npt.ArrayLike, *, level: float = 0.99, horizon: int = 1, periods_per_year: float = 252
) -> Tail:
    """Return the tail of a normal return with the factor model's volatility.

    Parameters
    ----------
    model : FactorModel
    weights : array_like of shape (N,)
    level : float
        Confidence, between 0.5 and 1.
    horizon : int
        Periods; volatility grows with its root.
    periods_per_year : float

    Raises
    ------
    DataError
        If a weight is not finite, or `level`, `horizon` or `periods_per_year` is out of range.

    Examples
    --------
    >>> import numpy as np
    >>> model = FactorModel(["A", "B"], ["market"], np.ones((2, 1)), [[0.04]], [0.09, 0.09])
    >>> round(normal_tail(model, [0.5, -0.5]).value_at_risk, 4)
    0.0311
    """
    law = StudentLaw(math.inf)
    return _closed_form("normal", law, model, weights, level, horizon, periods_per_year, "normal law")


def student_tail(
    model: FactorModel,
    weights: npt.ArrayLike,
    *,
    dof: float,
    level: float = 0.99,
    horizon: int = 1,
    periods_per_year: float = 252,
) -> Tail:
    """Return the tail of a Student-t return whose volatility is the factor model's.

    Over several periods the same t is scaled by the root of the horizon: prudent, as a sum of independent t returns is
    nearer to normal (`monte_carlo_tail` draws the sum).

    Parameters
    ----------
    dof : float
        Degrees of freedom, above 2 (`fit_dof` of standardised outcomes).
    model, weights, level, horizon, periods_per_year
        As `normal_tail`, and the same errors.
    """
    definition = f"Student-t law of {dof:g} degrees of freedom"
    return _closed_form("student", StudentLaw(dof), model, weights, level, horizon, periods_per_year, definition)


def historical_tail(
    returns: npt.ArrayLike, weights: npt.ArrayLike | None = None, *, level: float = 0.99, horizon: int = 1
) -> Tail:
    """Return the tail of the returns that today's book would have had.

    Parameters
    ----------
    returns : array_like of shape (T, N), or (T,) without weights
        Of the assets, or of the book, per period.
    weights : array_like of shape (N,), optional
    level : float
    horizon : int
        Sums of so many successive returns are taken, overlapping; the standard errors count T / horizon of them.

    Raises
    ------
    DataError
        If an entry is not finite, or there are fewer than 1/(1 - level) - 1 sums: the tail would be extrapolated.
    """
    r, h = _book_returns(returns, weights), _check_horizon(horizon)
    if len(r) < h:
        raise DataError(f"`returns` must hold at least `horizon` = {h} periods; got {len(r)}.")
    sums = np.convolve(r, np.ones(h), mode="valid")
    return _sampled("historical", sums, level, h, len(r) / h, "empirical law of past returns at today's weights")


def filtered_historical_tail(
    returns: npt.ArrayLike,
    weights: npt.ArrayLike | None = None,
    *,
    volatility: npt.ArrayLike | None = None,
    half_life: float = 21.0,
    level: float = 0.99,
    horizon: int = 1,
    periods_per_year: float = 252,
    seed: int = 0,
) -> Tail:
    """Return the tail of past returns, each in units of the volatility forecast for it, at today's volatility.

    Parameters
    ----------
    returns, weights, level
        As `historical_tail`.
    volatility : array_like of shape (T + 1,), optional
        Annual forecast made before each return, as by a factor model, then that for the coming period. Without it, the
        exponentially weighted volatility of the returns before, and the first `half_life` returns only start it.
    half_life : float
        Periods.
    horizon : int
        Above 1: sums of so many standardised returns drawn at random (20,000, seeded), at constant volatility.
    periods_per_year : float
        Of `volatility`.
    seed : int

    Raises
    ------
    DataError
        As `historical_tail`, or if a volatility is not positive.

    References
    ----------
    Barone-Adesi, Giannopoulos, Vosper (1999), VaR without Correlations for Portfolios of Derivative Securities, Journal
    of Futures Markets 19.
    """
    r, h = _book_returns(returns, weights), _check_horizon(horizon)
    sigma, start = forecast_volatility(r, volatility, len(r) + 1, half_life, periods_per_year)
    if start >= len(r):
        raise DataError(
            f"`returns` must be longer than `half_life` = {half_life:g}, which only starts the volatility; got {len(r)}."
        )
    source = f"EWMA of half-life {half_life:g}" if volatility is None else "the forecasts given"
    definition = f"empirical law of returns over their volatility ({source}), at today's volatility"
    z = r[start:] / sigma[start:-1]
    sample = z if h == 1 else np.random.default_rng(seed).choice(z, size=(_BLOCK, h)).sum(axis=1)
    return _sampled("filtered_historical", sample * sigma[-1], level, h, min(len(sample), len(z)), definition)


def monte_carlo_tail(
    model: FactorModel,
    weights: npt.ArrayLike,
    *,
    dof: float,
    level: float = 0.99,
    horizon: int = 1,
    draws: int = 100_000,
    periods_per_year: float = 252,
    seed: int = 0,
) -> Tail:
    """Return the tail of multivariate Student-t returns of factors and of specific risk, drawn period by period.

    Notes
    -----
    Each period r = s (x'R g + e), R R' = F, g of K normals, e normal with the book's specific variance, and
    s^2 = (dof - 2)/chi2_dof common to all: crises hit every factor at once. Over one period the book's law is exactly that of
    `student_tail`, which the tests check; over several, periods are independent.

    Parameters
    ----------
    dof : float
        Above 2; infinite is normal.
    draws : int
        Scenarios.
    model, weights, level, horizon, periods_per_year
        As `normal_tail`, and the same errors.
    seed : int
    """
    law, h = StudentLaw(dof), _check_horizon(horizon)
    check_level(level)
    if draws < 1000:
        raise DataError(f"`draws` must be at least 1000; got {draws}.")
    scale = _period_volatility(model, weights, periods_per_year)  # also checks the weights
    w = np.asarray(weights, dtype=np.float64)
    values, vectors = np.linalg.eigh(model.factor_covariance)
    loadings = (np.sqrt(np.maximum(values, 0.0)) * vectors).T @ (model.exposures.T @ w)
    specific = math.sqrt(float(model.specific_variance @ (w * w)))
    rng = np.random.default_rng(seed)
    sums = np.zeros(draws)
    if scale > 0:
        for start in range(0, draws, _BLOCK):
            block = slice(start, min(start + _BLOCK, draws))
            size = block.stop - block.start
            for _ in range(h):
                shock = rng.standard_normal((size, len(loadings))) @ loadings + specific * rng.standard_normal(size)
                if not math.isinf(law.dof):
                    shock *= np.sqrt((law.dof - 2) / rng.chisquare(law.dof, size))
                sums[block] += shock
    definition = f"multivariate Student-t of {dof:g} degrees of freedom through the factor model, mean 0"
    return _sampled("monte_carlo", sums / math.sqrt(periods_per_year), level, h, draws, definition)
