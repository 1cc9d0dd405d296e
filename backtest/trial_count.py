"""How many independent trials a set of trials amounts to. Variants of one idea are not as many draws of luck as there are variants.

Three answers stand beside each other, each right for another question:

- `cluster_trials`: how many ideas were tried. A variant belongs to the idea whose returns it shares. Judge the best **idea** by this
  number, by the returns of `cluster_returns`; the best variant of an idea was chosen once more within it.
- `effective_rank`: in how many directions the returns vary. A return that all trials share pulls it down to a few.
- `noise_maximum`: how many independent trials would have so high a best one, if none had skill. This is the number that the best
  **trial** must be deflated by, and its draws give that trial's p-value with no number at all.

References: Lopez de Prado, Lewis (2019), Detection of False Investment Strategies Using Unsupervised Learning Methods, Quantitative
Finance 19(9). Rousseeuw (1987), Silhouettes, Journal of Computational and Applied Mathematics 20. White (2000), A Reality Check for
Data Snooping, Econometrica 68. Romano, Wolf (2005), Stepwise Multiple Testing as Formalized Data Snooping, Econometrica 73.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.cluster.hierarchy import leaves_list, linkage
from scipy.optimize import brentq
from scipy.spatial.distance import squareform
from scipy.special import ndtri

from backtest.sharpe import check_trials
from backtest.sharpe_tests import expected_maximum
from risk import DataError
from risk.checks import FloatArray, freeze

__all__ = [
    "NoiseMaximum",
    "TrialClusters",
    "cluster_returns",
    "cluster_trials",
    "effective_rank",
    "noise_maximum",
]

IntArray = npt.NDArray[np.intp]
_EVERY_CUT = 64
"""Numbers of clusters up to which each is tried; above it, 60 in a geometric series."""
_SAME = 1e-12
"""Distance of correlations below which trials are the same but for rounding."""


@dataclass(frozen=True, eq=False)
class TrialClusters:
    """Trials grouped by what they earn on the same days.

    Attributes
    ----------
    labels : ndarray of shape (n,)
        Cluster of each trial, 0 ... count - 1 in order of first appearance.
    count : int
    quality : float
        Mean of the silhouettes over their standard deviation; 0 where every trial is its own cluster or all are one.
    silhouettes : ndarray of shape (n,)
        From -1 (nearer to another cluster) to 1; 0 for a cluster of one.
    noise_correlation : float
        Mean correlation that two groups must exceed to be joined.
    """

    labels: IntArray
    count: int
    quality: float
    silhouettes: FloatArray
    noise_correlation: float


def cluster_trials(returns: npt.ArrayLike) -> TrialClusters:
    """Return the trials grouped by correlation, in the number of groups with the best silhouettes.

    Parameters
    ----------
    returns : array_like of shape (T, n)
        Per period, T at least 20; memory grows with n^2.

    Raises
    ------
    DataError
        If a return is not finite, there are fewer than 20 periods, or a trial does not vary.

    Notes
    -----
    Groups are joined in order of their mean correlation (average linkage). Of the possible numbers of groups that is taken for which
    mean over standard deviation of the silhouettes, on distances sqrt((1 - rho)/2), is highest (Lopez de Prado and Lewis 2019, with a
    tree instead of random starts of k-means, so that the answer is always the same). Groups are not joined at a mean correlation below
    Phi^-1(1 - 0.05/pairs)/sqrt(T), which among independent trials not one pair in 20 data sets exceeds: noise forms no groups.
    Silhouettes cannot tell one group from two: trials that share one return and nothing else are split.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> ideas = rng.standard_normal((500, 3))
    >>> variants = np.repeat(ideas, 4, axis=1) + 0.5 * rng.standard_normal((500, 12))
    >>> cluster_trials(variants).labels.tolist()
    [0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2]
    """
    z = _standardised(returns)
    T, n = z.shape
    if n == 1:
        return TrialClusters(freeze(np.zeros(1, dtype=np.intp)), 1, 0.0, freeze(np.zeros(1)), 0.0)
    floor = float(ndtri(1.0 - 0.05 / (n * (n - 1) / 2))) / math.sqrt(T)
    apart = 1.0 - z.T @ z / T
    apart = np.where(np.abs(apart) < _SAME, 0.0, (apart + apart.T) / 2.0)
    np.fill_diagonal(apart, 0.0)
    tree = linkage(squareform(apart, checks=False), "average")
    order = leaves_list(tree).astype(np.intp)
    joined = _joined_at(tree, order)
    distance = np.sqrt(apart[np.ix_(order, order)] / 2.0)
    before = np.concatenate([np.zeros((n, 1)), np.cumsum(distance, axis=1)], axis=1)
    fewest = n - int((1.0 - tree[:, 2] > floor).sum())
    best, score = np.arange(n), 0.0
    shape = np.zeros(n)
    if fewest == 1:
        best = np.zeros(n, dtype=np.intp)
    for count in _cuts(max(2, fewest), n):
        label = np.concatenate([[0], np.cumsum(joined >= n - count)])
        found = _silhouettes(before, label)
        mean, deviation = float(found.mean()), float(found.std())
        quality = mean / max(deviation, _SAME)
        if mean > 0 and quality > score:
            best, score, shape = label, quality, found
    labels, silhouettes = np.empty(n, dtype=np.intp), np.empty(n)
    labels[order], silhouettes[order] = best, shape
    labels = _by_appearance(labels)
    return TrialClusters(freeze(labels), int(labels.max()) + 1, score, freeze(silhouettes), floor)


def _standardised(returns: npt.ArrayLike) -> FloatArray:
    """Return each trial's returns less their mean over their standard deviation (divisor T)."""
    r = check_trials(returns, least=20)
    constant = np.flatnonzero(np.ptp(r, axis=0) == 0.0)
    if len(constant):
        raise DataError(f"`returns`: trial {constant[0]} and {len(constant)} in all do not vary. Leave them out.")
    z = r - r.mean(axis=0)
    return np.asarray(z / z.std(axis=0))


def _cuts(fewest: int, trials: int) -> list[int]:
    """Return the numbers of clusters to try, ascending, below that of trials."""
    every = range(fewest, min(trials, fewest + _EVERY_CUT))
    coarse = np.geomspace(fewest, max(trials - 1, fewest), 60).astype(int)
    return sorted({*every, *(int(k) for k in coarse if k < trials)})


def _joined_at(tree: FloatArray, order: IntArray) -> IntArray:
    """Return the merge, 0 ... n - 2, that joins each leaf of the tree's order to the next one."""
    n = len(order)
    first = np.empty(2 * n - 1, dtype=np.intp)
    first[order] = np.arange(n)
    last = first.copy()
    merge = np.empty(n - 1, dtype=np.intp)
    for k, (a, b) in enumerate(tree[:, :2].astype(np.intp)):
        left, right = (a, b) if first[a] < first[b] else (b, a)
        merge[last[left]] = k
        first[n + k], last[n + k] = first[left], last[right]
    return merge


def _silhouettes(before: FloatArray, label: IntArray) -> FloatArray:
    """Return silhouettes from the running sums of distances along the tree's order, where clusters are neighbours."""
    starts = np.flatnonzero(np.diff(label, prepend=-1))
    ends = np.append(starts[1:], len(label))
    size = ends - starts
    row = np.arange(len(label))
    mean = before[:, ends] - before[:, starts]
    own = mean[row, label] / np.maximum(size[label] - 1, 1)
    mean /= size
    mean[row, label] = math.inf
    other = mean.min(axis=1)
    larger = np.maximum(own, other)
    # Running sums leave 1e-13 where distances are 0; nothing that small is a distance.
    known = (size[label] > 1) & (larger > _SAME)
    return np.asarray(np.divide(other - own, larger, out=np.zeros(len(label)), where=known))


def _by_appearance(labels: IntArray) -> IntArray:
    _, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    return np.asarray(np.argsort(np.argsort(first))[inverse], dtype=np.intp)


def cluster_returns(returns: npt.ArrayLike, clusters: TrialClusters) -> FloatArray:
    """Return the return of each cluster, shape (T, count): the mean of its trials' returns at a standard deviation of 1 each.

    Raises
    ------
    DataError
        As `cluster_trials`, or if there are not as many trials as labels.
    """
    z = _standardised(returns)
    r = check_trials(returns)
    if z.shape[1] != len(clusters.labels):
        raise DataError(f"`returns` must hold {len(clusters.labels)} trials, as `clusters`; got {z.shape[1]}.")
    member = np.zeros((z.shape[1], clusters.count))
    member[np.arange(z.shape[1]), clusters.labels] = 1.0
    return np.asarray((r / r.std(axis=0)) @ (member / member.sum(axis=0)))


def effective_rank(returns: npt.ArrayLike) -> float:
    """Return the participation ratio of the trials' correlations: in how many directions of equal size they vary.

    Parameters
    ----------
    returns : array_like of shape (T, n)
        Per period, T at least 20.

    Returns
    -------
    float
        Between 1 and n.

    Raises
    ------
    DataError
        As `cluster_trials`.

    Notes
    -----
    With eigenvalues l of the correlations, (sum l)^2 / sum l^2 = n / (1 + (n - 1) c), c the mean squared correlation of two trials.
    Of that the 1/(T - 1) is taken off that independent trials show, 0 where nothing is left, and the rest is scaled to 1 for equal ones.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> round(effective_rank(np.repeat(rng.standard_normal((2000, 3)), 5, axis=1)), 1)
    3.0
    """
    z = _standardised(returns)
    T, n = z.shape
    if n == 1:
        return 1.0
    # The squares of all correlations sum to those of the smaller of the two products.
    product = z.T @ z if n <= T else z @ z.T
    squared = (float((product**2).sum()) / T**2 - n) / (n * (n - 1))
    noise = 1.0 / (T - 1)
    return float(n / (1.0 + (n - 1) * max(0.0, (squared - noise) / (1.0 - noise))))


@dataclass(frozen=True, eq=False)
class NoiseMaximum:
    """The best of the trials, were all of them without skill but as dependent on one another as they are.

    Attributes
    ----------
    maxima : ndarray of shape (draws,)
        Highest ratio of each draw in standard errors, ascending.
    expected : float
        Their mean.
    excess : float
        Mean of the highest ratio less that of all trials, over the root mean square of the ratios' standard deviation across trials.
    independent_trials : float
        Number of independent trials with that expected maximum (`expected_maximum`), between 1 and n: what `deflated_sharpe` needs
        beside the variance across trials. Independent trials themselves come out 5 to 10 % short, by the error of that formula.
    """

    maxima: FloatArray
    expected: float
    excess: float
    independent_trials: float

    def p_value(self, statistic: float) -> float:
        """Return the probability of a best trial at least so high without any skill, its ratio given in standard errors.

        A Monte Carlo p-value, (1 + number of draws as high) / (1 + draws): exact in size for any dependence between trials.
        """
        above = len(self.maxima) - int(np.searchsorted(self.maxima, statistic, side="left"))
        return (1 + above) / (1 + len(self.maxima))


def noise_maximum(returns: npt.ArrayLike, *, draws: int = 1000, seed: int = 0) -> NoiseMaximum:
    """Return what the best of the trials would show if none had skill, by simulation.

    Parameters
    ----------
    returns : array_like of shape (T, n)
        Per period, T at least 20.
    draws, seed : int

    Raises
    ------
    DataError
        As `cluster_trials`, or if `draws` is below 100.

    Notes
    -----
    A draw weighs the days' standardised returns by independent standard normal numbers: sum_t g_t z_{t,i} / sqrt(T) has exactly the
    sample's correlations between trials, whatever n and T (a multiplier bootstrap of White's reality check). Days are taken as independent.

    Examples
    --------
    >>> days = np.random.default_rng(0).standard_normal((1000, 50))
    >>> found = noise_maximum(days)
    >>> 40 < found.independent_trials <= 50, found.p_value(2.0) > 0.5 > 0.01 > found.p_value(4.5)
    (True, True)
    """
    z = _standardised(returns)
    if draws < 100:
        raise DataError(f"`draws` must be at least 100; got {draws}.")
    T, n = z.shape
    ratio = np.random.default_rng(seed).standard_normal((draws, T)) @ z / math.sqrt(T)
    maxima = ratio.max(axis=1)
    spread = math.sqrt(float(ratio.var(axis=1, ddof=1).mean())) if n > 1 else 0.0
    excess = float((maxima - ratio.mean(axis=1)).mean()) / spread if spread > _SAME else 0.0
    return NoiseMaximum(freeze(np.sort(maxima)), float(maxima.mean()), excess, _trials_with(excess, n))


def _trials_with(maximum: float, most: int) -> float:
    """Return the number of independent trials, 1 ... `most`, whose expected maximum is that given."""
    if maximum <= 0.0 or most == 1:
        return 1.0
    if maximum >= expected_maximum(most):
        return float(most)
    return float(brentq(lambda trials: expected_maximum(trials) - maximum, 1.0, most))
