"""Does a value at risk cover what it says? Tests of a record of exceptions, exact at every sample length.

Under the null the T exceptions I_t (a loss beyond the value at risk of `level`) are independent, each with probability
q = 1 - level. x = sum I_t; n_ij counts the days in state j after a day in state i; 0 log 0 = 0 throughout, so that no record,
not even one of no exception or of nothing else, has an undefined statistic.

    unconditional   LR_pof = 2 [l(x; T) - x log q - (T - x) log(1 - q)],       l(k; n) = k log(k/n) + (n - k) log(1 - k/n)
    independence    LR_ind = 2 [l(n01; n00 + n01) + l(n11; n10 + n11) - l(n01 + n11; T - 1)]
    conditional     LR_cc  = LR_pof + LR_ind

Their chi-square limits are poor at the lengths in use: at 250 days and 99 % there are 2 or 3 exceptions, and the statistics take a handful
of values. The null distributions are therefore enumerated. LR_pof is a function of a binomial x. Given x, every arrangement of the
exceptions is equally likely whatever q is, and LR_ind depends on it through the numbers of runs of ones and of zeros and the first and last day only,
which are counted by binomial coefficients; LR_cc mixes these distributions over x. Each result has three p-values:

    p_value             P(statistic at least as large), exact; its level is at most the nominal one, as the statistic is discrete
    randomised_p_value  P(larger) + U P(equal), U uniform and seeded: exactly uniform under the null (Dufour's breaking of ties)
    asymptotic_p_value  from the chi-square or the normal limit, for comparison with what others print
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.special import gammaln, xlogy
from scipy.stats import binom, chi2, norm

from risk.checks import BoolArray, DataError, FloatArray, freeze
from risk.laws import check_level

__all__ = [
    "CoverageTest",
    "binomial",
    "christoffersen_independence",
    "conditional_coverage",
    "coverage_tests",
    "kupiec",
    "traffic_light",
]

_NEGLIGIBLE = -60.0
"""Logarithm of a probability below which a number of exceptions is left out of a mixture (1e-26)."""


@dataclass(frozen=True)
class CoverageTest:
    """One test of a record of exceptions.

    Attributes
    ----------
    name, definition : str
    level : float
        Confidence level of the value at risk.
    periods, exceptions : int
        T and x.
    statistic : float
    p_value, randomised_p_value, asymptotic_p_value : float
        As the module's first lines say; use the first to judge one record, the second to study many.
    """

    name: str
    definition: str
    level: float
    periods: int
    exceptions: int
    statistic: float
    p_value: float
    randomised_p_value: float
    asymptotic_p_value: float


def _counted(exceptions: npt.ArrayLike, level: float) -> tuple[BoolArray, int, int, float]:
    """Return a record of exceptions, T, x and q."""
    record = np.asarray(exceptions)
    if record.ndim != 1 or not len(record) or record.dtype != np.bool_:
        raise DataError(
            f"`exceptions` must be boolean of shape (T,) with T at least 1; got {record.dtype} of {record.shape}. Compute it "
            "as returns < -value_at_risk."
        )
    return record, len(record), int(record.sum()), 1 - check_level(level)


def _likelihood(k: Any, n: Any) -> Any:
    """Return l(k; n), the log-likelihood of k in n at its maximum; 0 where n is 0."""
    return xlogy(k, k) + xlogy(n - k, n - k) - xlogy(n, n)


def _pof(x: Any, periods: int, q: float) -> FloatArray:
    return np.asarray(np.maximum(2 * (_likelihood(x, periods) - xlogy(x, q) - xlogy(periods - x, 1 - q)), 0.0))


def _independence(n00: Any, n01: Any, n10: Any, n11: Any) -> FloatArray:
    all_days = n00 + n01 + n10 + n11
    apart = _likelihood(n01, n00 + n01) + _likelihood(n11, n10 + n11)
    return np.asarray(np.maximum(2 * (apart - _likelihood(n01 + n11, all_days)), 0.0))


def _transitions(record: BoolArray) -> tuple[int, int, int, int]:
    before, after = record[:-1], record[1:]
    pairs = ((~before & ~after), (~before & after), (before & ~after), (before & after))
    n00, n01, n10, n11 = (int(pair.sum()) for pair in pairs)
    return n00, n01, n10, n11


@lru_cache(maxsize=4096)
def _independence_given(x: int, periods: int) -> tuple[FloatArray, FloatArray]:
    """Return the values of LR_ind over all records of x exceptions in `periods` days, and their probabilities.

    A record of r runs of ones and m of zeros can be made in C(x - 1, r - 1) C(T - x - 1, m - 1) ways for each first day;
    m is r - 1, r or r + 1 as both, one or no end of the record is an exception.
    """
    zeros = periods - x
    if x == 0 or zeros == 0:
        return np.zeros(1), np.ones(1)

    def log_choose(n: Any, k: Any) -> Any:
        return gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1)

    values, logs = [], []
    for first, last in ((0, 0), (0, 1), (1, 0), (1, 1)):
        runs = np.arange(1, x + 1)
        blanks = runs + 1 - first - last
        runs, blanks = runs[(blanks >= 1) & (blanks <= zeros)], blanks[(blanks >= 1) & (blanks <= zeros)]
        values.append(_independence(zeros - blanks, runs - first, runs - last, x - runs))
        logs.append(log_choose(x - 1, runs - 1) + log_choose(zeros - 1, blanks - 1))
    log = np.concatenate(logs)
    probability = np.exp(log - log.max())
    return freeze(np.concatenate(values)), freeze(probability / probability.sum())


@lru_cache(maxsize=64)
def _conditional_law(periods: int, q: float) -> tuple[FloatArray, FloatArray]:
    """Return the values of LR_cc and their probabilities; numbers of exceptions less likely than 1e-26 are left out."""
    numbers = np.arange(periods + 1)
    log = binom.logpmf(numbers, periods, q)
    values, probabilities = [], []
    for x in numbers[log > _NEGLIGIBLE]:
        value, probability = _independence_given(int(x), periods)
        values.append(value + _pof(float(x), periods, q))
        probabilities.append(probability * np.exp(log[x]))
    return freeze(np.concatenate(values)), freeze(np.concatenate(probabilities))


def _p_values(values: FloatArray, probabilities: FloatArray, observed: float, seed: int) -> tuple[float, float]:
    """Return the exact and the randomised p-value of a discrete statistic."""
    tolerance = 1e-9 * (1 + abs(observed))
    above = float(probabilities[values > observed + tolerance].sum())
    equal = float(probabilities[np.abs(values - observed) <= tolerance].sum())
    uniform = float(np.random.default_rng(seed).random())
    return min(above + equal, 1.0), min(above + uniform * equal, 1.0)


def kupiec(exceptions: npt.ArrayLike, level: float, *, seed: int = 0) -> CoverageTest:
    """Test whether there are as many exceptions as the level says: Kupiec's proportion of failures.

    Parameters
    ----------
    exceptions : array_like of bool of shape (T,)
    level : float
        Confidence level of the value at risk, as 0.99.
    seed : int
        Of the uniform that breaks ties in `randomised_p_value`; give every record its own.

    Raises
    ------
    DataError
        If `exceptions` is not boolean of shape (T,) or `level` not between 0.5 and 1.

    References
    ----------
    Kupiec (1995), Techniques for Verifying the Accuracy of Risk Measurement Models, Journal of Derivatives 3.

    Examples
    --------
    >>> import numpy as np
    >>> test = kupiec(np.arange(250) < 7, 0.99)
    >>> round(test.statistic, 3), round(test.p_value, 3), round(test.asymptotic_p_value, 3)
    (5.497, 0.014, 0.019)
    """
    _, T, x, q = _counted(exceptions, level)
    numbers = np.arange(T + 1)
    statistic = float(_pof(float(x), T, q))
    exact, randomised = _p_values(_pof(numbers.astype(float), T, q), binom.pmf(numbers, T, q), statistic, seed)
    return CoverageTest(
        "kupiec", "likelihood ratio: number of exceptions", level, T, x, statistic, exact, randomised,
        float(chi2.sf(statistic, 1)),
    )  # fmt: skip


def binomial(
    exceptions: npt.ArrayLike,
    level: float,
    *,
    alternative: Literal["two-sided", "greater"] = "two-sided",
    seed: int = 0,
) -> CoverageTest:
    """Test the number of exceptions by its binomial probability.

    ``two-sided`` counts numbers no likelier than the one met; ``greater`` only more exceptions, that is too low a value
    at risk. The statistic is the number of exceptions. Parameters, errors and the rest as in `kupiec`.

    References
    ----------
    Clopper, Pearson (1934), The Use of Confidence or Fiducial Limits, Biometrika 26.
    """
    _, T, x, q = _counted(exceptions, level)
    if alternative not in ("two-sided", "greater"):
        raise DataError(f"`alternative` must be 'two-sided' or 'greater'; got {alternative!r}.")
    numbers = np.arange(T + 1)
    two = alternative == "two-sided"
    extremity = -binom.logpmf(numbers, T, q) if two else numbers.astype(float)
    exact, randomised = _p_values(extremity, binom.pmf(numbers, T, q), float(extremity[x]), seed)
    score = (x - T * q) / np.sqrt(T * q * (1 - q))
    limit = 2 * norm.sf(abs(score)) if two else norm.sf(score)
    return CoverageTest(
        f"binomial_{alternative.replace('-', '_')}", f"number of exceptions, {alternative}", level, T, x, float(x), exact,
        randomised, float(limit),
    )  # fmt: skip


def christoffersen_independence(exceptions: npt.ArrayLike, level: float, *, seed: int = 0) -> CoverageTest:
    """Test whether an exception today makes one tomorrow likelier or less so.

    Exact given the number of exceptions, hence whatever the true coverage. Parameters and errors as in `kupiec`.

    References
    ----------
    Christoffersen (1998), Evaluating Interval Forecasts, International Economic Review 39.
    """
    record, T, x, _ = _counted(exceptions, level)
    statistic = float(_independence(*_transitions(record)))
    exact, randomised = _p_values(*_independence_given(x, T), statistic, seed)
    return CoverageTest(
        "independence", "likelihood ratio: exceptions follow each other no more than by chance", level, T, x, statistic,
        exact, randomised, float(chi2.sf(statistic, 1)),
    )  # fmt: skip


def conditional_coverage(exceptions: npt.ArrayLike, level: float, *, seed: int = 0) -> CoverageTest:
    """Test number and independence of exceptions at once: LR_pof + LR_ind.

    Parameters, errors and reference as in `christoffersen_independence`.
    """
    record, T, x, q = _counted(exceptions, level)
    statistic = float(_pof(float(x), T, q)) + float(_independence(*_transitions(record)))
    exact, randomised = _p_values(*_conditional_law(T, q), statistic, seed)
    return CoverageTest(
        "conditional_coverage", "likelihood ratio: number and independence of exceptions", level, T, x, statistic, exact,
        randomised, float(chi2.sf(statistic, 2)),
    )  # fmt: skip


def coverage_tests(exceptions: npt.ArrayLike, level: float, *, seed: int = 0) -> pd.DataFrame:
    """Return every test of a record of exceptions, one row each, indexed by name; columns as `CoverageTest`.

    Parameters and errors as in `kupiec`.
    """
    tests = [
        kupiec(exceptions, level, seed=seed),
        binomial(exceptions, level, seed=seed),
        binomial(exceptions, level, alternative="greater", seed=seed),
        christoffersen_independence(exceptions, level, seed=seed),
        conditional_coverage(exceptions, level, seed=seed),
    ]
    return pd.DataFrame(tests).set_index("name")


def traffic_light(exceptions: npt.ArrayLike, level: float) -> Literal["green", "yellow", "red"]:
    """Return the supervisors' zone: how likely so many or fewer exceptions are if the level holds.

    Green below 95 %, yellow below 99.99 %, red above; at 250 days and 99 % that is 0-4, 5-9, and 10 or more.

    References
    ----------
    Basel Committee on Banking Supervision (1996), Supervisory Framework for the Use of Backtesting.

    Examples
    --------
    >>> import numpy as np
    >>> traffic_light(np.arange(250) < 5, 0.99)
    'yellow'
    """
    _, T, x, q = _counted(exceptions, level)
    share = float(binom.cdf(x, T, q))
    return "green" if share < 0.95 else "yellow" if share < 0.9999 else "red"
