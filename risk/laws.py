"""Laws of a book's return over one period, from which a tail is read: Student-t, normal in its limit, and empirical.

A law is that of a return of known scale. `value_at_risk` and `expected_shortfall` are losses, so positive in general:

    VaR = -Q(q)        ES = -(1/q) integral_0^q Q(u) du        q = 1 - level, Q the quantile function of the return
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize_scalar
from scipy.signal import lfilter
from scipy.special import ndtri, stdtrit
from scipy.stats import norm, t

from risk.checks import DataError, FloatArray, check_array, freeze

__all__ = ["EmpiricalLaw", "StudentLaw", "check_level", "check_series", "ewma_volatility", "fit_dof"]

_DOF_RANGE = (2.05, 200.0)


def check_series(name: str, value: npt.ArrayLike, *, least: int = 1) -> FloatArray:
    """Return `value` as a finite read-only array of shape (T,) with T at least `least`.

    Raises
    ------
    DataError
        If it has another number of dimensions, is too short, or an entry is no finite number.
    """
    array = check_array(name, value, np.shape(value))
    if array.ndim != 1 or len(array) < least:
        raise DataError(f"`{name}` must have shape (T,) with T at least {least}; got {array.shape}.")
    return array


def check_level(level: float) -> float:
    """Return the confidence level of a value at risk, or refuse it where it is not between 0.5 and 1.

    Raises
    ------
    DataError
        If `level` is no such number.
    """
    if not 0.5 < level < 1:
        raise DataError(f"`level` must lie between 0.5 and 1, as 0.99 for a loss met on 1 day in 100; got {level!r}.")
    return float(level)


@dataclass(frozen=True)
class StudentLaw:
    """Student's t of mean 0 and **variance 1**; normal where `dof` is infinite.

    Parameters
    ----------
    dof : float
        Degrees of freedom, above 2.

    Raises
    ------
    DataError
        If `dof` is 2 or less: such a law has no variance.

    Notes
    -----
    With nu = dof, s = sqrt((nu - 2)/nu), x = t_nu^-1(q) and f_nu the density of t: VaR = -s x and
    ES = s f_nu(x)/q (nu + x^2)/(nu - 1).

    References
    ----------
    McNeil, Frey, Embrechts (2015), Quantitative Risk Management.

    Examples
    --------
    >>> law = StudentLaw(float("inf"))
    >>> round(law.value_at_risk(0.99), 4), round(law.expected_shortfall(0.975), 4)
    (2.3263, 2.3378)
    """

    dof: float

    def __post_init__(self) -> None:
        if not self.dof > 2:
            raise DataError(f"`dof` must be above 2, for the law to have a variance; got {self.dof!r}.")

    def quantile(self, u: FloatArray) -> FloatArray:
        """Return Q(u), shape of `u`."""
        if math.isinf(self.dof):
            return np.asarray(ndtri(u))
        return np.asarray(math.sqrt((self.dof - 2) / self.dof) * stdtrit(self.dof, u))

    def value_at_risk(self, level: float) -> float:
        """Return the loss exceeded with probability 1 - level, in standard deviations."""
        return -float(self.quantile(np.asarray(1 - check_level(level))))

    def expected_shortfall(self, level: float) -> float:
        """Return the mean loss beyond the value at risk, in standard deviations."""
        q = 1 - check_level(level)
        if math.isinf(self.dof):
            return float(norm.pdf(ndtri(q)) / q)
        nu, x = self.dof, float(stdtrit(self.dof, q))
        return float(math.sqrt((nu - 2) / nu) * t.pdf(x, nu) / q * (nu + x * x) / (nu - 1))


@dataclass(frozen=True, eq=False)
class EmpiricalLaw:
    """The law of a sample of n returns: Q(i/(n+1)) is the i-th lowest, linear between, flat beyond the ends.

    With these plotting positions the next independent return of the same continuous law falls below Q(i/(n+1)) with probability exactly
    i/(n+1), whatever the law, so that a value at risk covers what it says out of sample too.

    Parameters
    ----------
    sample : array_like of shape (n,)

    Raises
    ------
    DataError
        If an entry is not finite, or, when a tail is asked for, n is below 1/(1 - level) - 1: the tail would be
        extrapolated.

    References
    ----------
    Weibull (1939), The Phenomenon of Rupture in Solids; Manistre, Hancock (2005), Variance of the CTE Estimator, North
    American Actuarial Journal 9 (the standard error of expected shortfall).

    Examples
    --------
    >>> law = EmpiricalLaw([-0.03, -0.01, 0.0, 0.01])
    >>> law.value_at_risk(0.8), round(law.expected_shortfall(0.6), 4)
    (0.03, 0.025)
    """

    sample: FloatArray

    def __init__(self, sample: npt.ArrayLike) -> None:
        object.__setattr__(self, "sample", freeze(np.sort(check_series("sample", sample))))

    def quantile(self, u: FloatArray) -> FloatArray:
        """Return Q(u), shape of `u`."""
        n = len(self.sample)
        return np.asarray(np.interp(np.asarray(u) * (n + 1), np.arange(1, n + 1), self.sample))

    def _tail(self, level: float) -> float:
        q, n = 1 - check_level(level), len(self.sample)
        if q * (n + 1) < 1 - 1e-9:
            raise DataError(
                f"`sample` must hold at least {math.ceil(1 / q - 1e-9) - 1} returns for a level of {level:g}; got {n}. Use "
                "a longer window, a lower level or a parametric law."
            )
        return q

    def value_at_risk(self, level: float) -> float:
        """Return the loss exceeded with probability 1 - level."""
        return -float(self.quantile(np.asarray(self._tail(level))))

    def expected_shortfall(self, level: float) -> float:
        """Return the mean loss beyond the value at risk, the integral of the same quantile function."""
        q = self._tail(level)
        positions = np.arange(1, len(self.sample) + 1) / (len(self.sample) + 1)
        nodes = np.concatenate([[0.0], positions[positions < q], [q]])
        return -float(np.trapezoid(self.quantile(nodes), nodes)) / q

    def standard_errors(self, level: float, effective: float | None = None) -> tuple[float, float]:
        """Return the sampling errors of value at risk and expected shortfall, for `effective` independent returns.

        Notes
        -----
        Of VaR: half of Q(q + e) - Q(q - e) with e = sqrt(q (1 - q)/n). Of ES: sqrt((variance of the tail + level
        (ES - VaR)^2)/(n q)).
        """
        q, n = self._tail(level), float(len(self.sample) if effective is None else effective)
        step = math.sqrt(q * (1 - q) / n)
        low, high = self.quantile(np.array([max(q - step, 0.0), min(q + step, 1.0)]))
        shortfall, risk = self.expected_shortfall(level), self.value_at_risk(level)
        tail = self.sample[self.sample <= -risk]
        spread = float(tail.var()) + level * (shortfall - risk) ** 2
        return float(high - low) / 2, math.sqrt(spread / (n * q))


def ewma_volatility(returns: npt.ArrayLike, half_life: float) -> FloatArray:
    """Return the exponentially weighted root mean square of past returns, shape (T + 1,), per period.

    Entry t is known at the close of t - 1: it weighs returns[:t], the newest most, and its weights sum to 1. Entry 0 is
    NaN, entry T is the forecast of the next return. About a mean of 0.

    Raises
    ------
    DataError
        If `returns` is not finite or `half_life` not positive.

    Examples
    --------
    >>> ewma_volatility([0.01, 0.01, 0.02], 1.0).round(4).tolist()
    [nan, 0.01, 0.01, 0.0165]
    """
    r = check_series("returns", returns)
    if not half_life > 0:
        raise DataError(f"`half_life` must be positive, in periods; got {half_life!r}.")
    decay = 0.5 ** (1.0 / half_life)
    squares = lfilter([1.0], [1.0, -decay], r * r)
    weights = lfilter([1.0], [1.0, -decay], np.ones(len(r)))
    return freeze(np.concatenate([[np.nan], np.sqrt(squares / weights)]))


def fit_dof(outcomes: npt.ArrayLike) -> float:
    """Return the degrees of freedom of the unit-variance Student-t most likely to have made a sample.

    The sample is scaled to a mean square of 1 first. The answer lies between 2.05 and 200; 200 says that no fatter tail than the
    normal's was found.

    Parameters
    ----------
    outcomes : array_like of shape (T,)
        Standardised, of mean about 0.

    Raises
    ------
    DataError
        If there are fewer than 20 outcomes, one is not finite, or all are 0.
    """
    b = check_series("outcomes", outcomes, least=20)
    scale = float(np.sqrt(np.mean(b * b)))
    if scale == 0:
        raise DataError("`outcomes` must not all be 0: such a sample has no tail.")
    z = b / scale

    def loss(log_dof: float) -> float:
        nu = math.exp(log_dof)
        spread = math.sqrt((nu - 2) / nu)
        return float(-t.logpdf(z / spread, nu).mean() + math.log(spread))

    low, high = _DOF_RANGE
    best = minimize_scalar(loss, bounds=(math.log(low), math.log(high)), method="bounded")
    return float(math.exp(best.x))
