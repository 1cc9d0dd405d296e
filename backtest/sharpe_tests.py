"""What a Sharpe ratio proves: the chance that it is above a benchmark, the record that would show it, and what choosing the best costs.

Ratios, benchmarks and the variance among trials are **per period**, as in `SharpeSample`: divide a ratio per year by the root of the
periods in a year, a variance by their number.

References: Bailey, Lopez de Prado (2012), The Sharpe Ratio Efficient Frontier, Journal of Risk 15(2). Bailey, Lopez de Prado
(2014), The Deflated Sharpe Ratio, Journal of Portfolio Management 40(5). Sidak (1967), Rectangular Confidence Regions, JASA 62.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.special import log_ndtr, ndtr, ndtri

from backtest.sharpe import SharpeSample
from risk import DataError

__all__ = [
    "DeflatedSharpe",
    "deflated_sharpe",
    "expected_maximum",
    "minimum_track_record",
    "probabilistic_sharpe",
]


def probabilistic_sharpe(sample: SharpeSample, benchmark: float = 0.0) -> float:
    """Return the probabilistic Sharpe ratio: the confidence at which the true ratio is above a benchmark.

    Parameters
    ----------
    sample : SharpeSample
    benchmark : float
        Per period.

    Notes
    -----
    Phi((S - S*)/se(S)), for independent returns (Bailey and Lopez de Prado 2012). One minus it is the p-value of a one-sided test.

    Examples
    --------
    The worked example of the paper: 24 months.

    >>> round(probabilistic_sharpe(SharpeSample(0.458, -2.448, 10.164, 24)), 3)
    0.913
    """
    return float(ndtr((sample.ratio - benchmark) / sample.standard_error))


def minimum_track_record(sample: SharpeSample, benchmark: float = 0.0, *, confidence: float = 0.95) -> float:
    """Return the number of periods from which on such a track record shows a ratio above the benchmark.

    Parameters
    ----------
    sample : SharpeSample
        Its number of periods is not used: ratio, skewness and kurtosis are taken to stay as they are.
    benchmark : float
        Per period.
    confidence : float
        Between 0.5 and 1, ends excluded.

    Returns
    -------
    float
        Not rounded; infinite where the ratio is not above the benchmark.

    Raises
    ------
    DataError
        If `confidence` is out of range.

    Notes
    -----
    1 + (1 - g3 S + (g4 - 1) S^2/4) (z/(S - S*))^2 with z the normal quantile (Bailey and Lopez de Prado 2012): the T at
    which `probabilistic_sharpe` is `confidence`.

    Examples
    --------
    Days of 250 in a year that show a ratio of 2 per year to be above 1, in years:

    >>> round(minimum_track_record(SharpeSample(2 / 250**0.5, 0, 3, 250), 1 / 250**0.5) / 250, 2)
    2.73
    """
    if not 0.5 < confidence < 1:
        raise DataError(f"`confidence` must lie between 0.5 and 1, as 0.95; got {confidence!r}.")
    if sample.ratio <= benchmark:
        return math.inf
    spread = sample.standard_error * math.sqrt(sample.periods - 1)
    reach = spread * float(ndtri(confidence)) / (sample.ratio - benchmark)
    # Not `reach**2`, which overflows to an error where this overflows to infinity.
    return 1.0 + reach * reach


def expected_maximum(trials: float) -> float:
    """Return the expected maximum of so many independent standard normal numbers; 0 for one.

    Parameters
    ----------
    trials : float
        At least 1; an effective number need not be whole.

    Raises
    ------
    DataError
        If `trials` is below 1 or not finite.

    Notes
    -----
    (1 - c) Phi^-1(1 - 1/N) + c Phi^-1(1 - 1/(N e)), c Euler's constant: the mean of the Gumbel law that the maximum tends to
    (Bailey and Lopez de Prado 2014). Exact 0.564, 1.539, 2.508, 3.241 for 2, 10, 100, 1000; this gives 0.520, 1.575, 2.531,
    3.255. Below 1.3 trials the approximation is negative, and 0 is returned.

    Examples
    --------
    >>> round(expected_maximum(10), 2)
    1.57
    """
    if not 1 <= trials < math.inf:
        raise DataError(f"`trials` must be a finite number of at least 1; got {trials!r}.")
    if trials == 1:
        return 0.0
    upper, lower = ndtri([1.0 - 1.0 / trials, 1.0 - 1.0 / (trials * math.e)])
    return max(0.0, float((1.0 - np.euler_gamma) * upper + np.euler_gamma * lower))


@dataclass(frozen=True)
class DeflatedSharpe:
    """What remains of a Sharpe ratio that was the best of several trials.

    Attributes
    ----------
    probability : float
        Deflated Sharpe ratio: the confidence at which the true ratio is above what the best of the trials would show if none
        had any skill. Significant at 5 % from 0.95 on.
    benchmark : float
        That ratio, per period.
    familywise : float
        Probability that the best of so many independent trials without skill shows less: Phi(S/se)^N (Sidak). Significant at
        5 % from 0.95 on. Its level is exact where the trials are independent, that of `probability` is far below 5 %: there the
        error of one trial is counted on top of a maximum that already holds it.
    trials : float
        Independent trials counted.
    trial_deviation : float
        Standard deviation of the trials' ratios, per period.
    """

    probability: float
    benchmark: float
    familywise: float
    trials: float
    trial_deviation: float


def deflated_sharpe(sample: SharpeSample, *, trials: float, trial_variance: float) -> DeflatedSharpe:
    """Return the Sharpe ratio of the best trial, deflated for the number of trials behind it.

    Parameters
    ----------
    sample : SharpeSample
        Of the best trial.
    trials : float
        Number of independent trials, at least 1; `backtest.trial_count` estimates it.
    trial_variance : float
        Variance of the ratios of all trials, per period. Of few or correlated trials it is a poor estimate: with independent
        trials without skill it tends to 1/T.

    Raises
    ------
    DataError
        If `trials` is below 1, or `trial_variance` is negative or not finite.

    Notes
    -----
    The probabilistic Sharpe ratio against sqrt(V) times the expected maximum (Bailey and Lopez de Prado 2014). It assumes that the
    trials' ratios are draws about a mean of 0. A return that all trials share moves that mean and is not in V: it is judged by the
    error of the best trial, as one trial would be. So count the trials as they are relative to one another, not by what they share.

    Examples
    --------
    The worked example of the paper: the best of 100 trials shows 2.5 per year over 1250 days.

    >>> best = SharpeSample(2.5 / 250**0.5, -3, 10, 1250)
    >>> found = deflated_sharpe(best, trials=100, trial_variance=0.5 / 250)
    >>> round(found.benchmark, 4), round(found.probability, 3)
    (0.1132, 0.9)
    """
    if not 0 <= trial_variance < math.inf:
        raise DataError(f"`trial_variance` must be a finite number of at least 0; got {trial_variance!r}.")
    deviation = math.sqrt(trial_variance)
    benchmark = deviation * expected_maximum(trials)
    # The logarithm keeps what a power of a number close to 1 would lose.
    familywise = math.exp(trials * float(log_ndtr(sample.ratio / sample.standard_error)))
    return DeflatedSharpe(probabilistic_sharpe(sample, benchmark), benchmark, familywise, float(trials), deviation)
