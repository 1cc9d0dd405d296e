"""What specific returns still have in common: the fund's own signals, and blind factors found in the returns themselves.

An optimizer goes where its risk model is blind. The specific returns e of a day are therefore regressed again, with
each asset's own precision 1/s^2 (exponentially weighted, half-life 84) and exposures known at the close of the day before: on
signals first, then on blind factors,

    g = argmin_g sum_i (e_i - b_i'g)^2 / s_i^2        with errors of covariance (B'diag(1/s^2)B)^-1

so that the history of g is out of sample: a component that was only noise of the past earns the little that noise earns, and
what noise earns is known and can be taken off its variance.

Blind factors are asymptotic principal components. Every few days the specific returns of a trailing window, less what signals
explain, in units of each asset's own volatility and cut at a few of them, are written as Z (W days, n assets); the leading
eigenvectors of Z Z'/n are the days' common movements, and the assets' covariances with them the exposures B. Principal
components have no sign, and rotate where their variances meet: a new basis is turned onto the one before by the rotation that
brings it nearest in the metric 1/s^2 (orthogonal Procrustes), and a factor keeps its meaning over time.

References
----------
Connor, Korajczyk (1988), Risk and Return in an Equilibrium APT, Journal of Financial Economics 21; Schonemann (1966), A
Generalized Solution of the Orthogonal Procrustes Problem, Psychometrika 31.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.linalg import eigh

from risk.checks import BoolArray, FloatArray, freeze
from risk.spec import RiskSpec

__all__ = ["ResidualFactors", "ResidualReturns", "blind_names"]

ASSETS_PER_FACTOR = 10
ASSETS_PER_SIGNAL = 100
"""With fewer, a day's signal return is the noise of single names, and what is left of it after that noise is not to be trusted."""
CUT = 5.0
MINIMUM_DAYS, HALF_LIFE = 21, 84.0
LOWEST_VOLATILITY = 1e-4


@dataclass(frozen=True, eq=False)
class ResidualReturns:
    """What one day's specific returns have in common.

    Attributes
    ----------
    factor_returns : ndarray of shape (S + J,)
        Of the signals and of the blind factors, per regression; 0 where absent.
    present : bool ndarray of shape (S + J,)
    noise : ndarray of shape (S + J, S + J)
        Covariance of their errors, per regression; 0 where absent.
    rest : ndarray of shape (N,)
        Specific returns less all of it; NaN where not known.
    """

    factor_returns: FloatArray
    present: BoolArray
    noise: FloatArray
    rest: FloatArray


def blind_names(spec: RiskSpec) -> tuple[str, ...]:
    """Return the names of the blind factors.

    Examples
    --------
    >>> blind_names(RiskSpec(blind_factors=2))
    ('blind:01', 'blind:02')
    """
    return tuple(f"blind:{number:02d}" for number in range(1, spec.blind_factors + 1))


class ResidualFactors:
    """The second regression of every day, followed from day to day: what day t gives depends on days up to t only.

    Parameters
    ----------
    assets : int
        N.
    spec : RiskSpec
        In regressions: `blind_factors` J, `blind_window` W, `blind_every`. Until half a window has passed there is no blind
        factor, and there are never more of them than one to ten assets.

    Attributes
    ----------
    exposures : float32 ndarray of shape (N, J)
        To the blind factors, as known at the close of the last day added: of size 1 for an asset whose volatility is the mean
        of the first estimate's; 0 for one with known specific returns on less than half the window, and for a factor that is
        absent.
    """

    def __init__(self, assets: int, spec: RiskSpec) -> None:
        self._spec = spec
        self._decay = 0.5 ** (spec.sessions / HALF_LIFE)
        self._window = np.full((spec.blind_window if spec.blind_factors else 0, assets), np.nan)
        self._square, self._weight, self._count = np.zeros(assets), np.zeros(assets), np.zeros(assets)
        self._precision, self._metric = np.zeros(assets), np.zeros(assets)
        self._days = self._factors = 0
        self._unit = 1.0
        self._shared = False
        self.exposures: npt.NDArray[np.float32] = freeze(np.zeros((assets, spec.blind_factors), dtype=np.float32))

    def copy(self) -> ResidualFactors:
        """Return one that goes on from here by itself."""
        other = copy.copy(self)
        self._shared = other._shared = True
        return other

    def add(self, specific_returns: FloatArray, signals: FloatArray) -> ResidualReturns:
        """Add a day, and return what its specific returns have in common.

        Parameters
        ----------
        specific_returns : ndarray of shape (N,)
            NaN where not known.
        signals : ndarray of shape (N, S)
            Exposures to the signals as known before the day; a column of zeros is absent, and all are with fewer assets than a
            hundred for each.
        """
        first, noise_first, rest = self._regressed(specific_returns, signals, ASSETS_PER_SIGNAL)
        second, noise_second, left = self._regressed(rest, self.exposures.astype(np.float64), ASSETS_PER_FACTOR)
        signal_count = signals.shape[1]
        noise = np.zeros((len(first) + len(second),) * 2)
        noise[:signal_count, :signal_count], noise[signal_count:, signal_count:] = noise_first, noise_second
        self._follow(specific_returns)
        if len(self._window):
            self._window = self._window.copy() if self._shared else self._window
            self._shared = False
            self._window[self._days % len(self._window)] = rest
            self._days += 1
            if 2 * self._days >= len(self._window) and self._days % self._spec.blind_every == 0:
                self._estimate()
        return ResidualReturns(np.concatenate([first, second]), np.diag(noise) > 0, noise, left)

    def _regressed(
        self, returns: FloatArray, exposures: FloatArray, assets_per_factor: int
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Return factor returns, the covariance of their errors (0: absent), and what is left of the returns.

        In the fit, and only there, a return is cut at five of its asset's standard deviations: one jump is nobody's factor.
        """
        known = np.isfinite(returns) & (self._precision > 0)
        factor_returns, noise = np.zeros(exposures.shape[1]), np.zeros((exposures.shape[1],) * 2)
        use = np.flatnonzero((exposures[known] != 0).any(axis=0))
        if not use.size or use.size * assets_per_factor > int(known.sum()):
            return factor_returns, noise, returns
        B = exposures[np.ix_(known, use)]
        weighted = B * self._precision[known, None]
        # A combination that no asset with a return today is exposed to cannot be told: the pseudo-inverse leaves it at 0.
        inverse = np.linalg.pinv(weighted.T @ B, rcond=1e-10, hermitian=True)
        limit = CUT / np.sqrt(self._precision[known])
        factor_returns[use] = inverse @ (weighted.T @ np.clip(returns[known], -limit, limit))
        noise[np.ix_(use, use)] = inverse
        return factor_returns, noise, returns - exposures @ factor_returns

    def _follow(self, specific_returns: FloatArray) -> None:
        """Update the precision of every asset in its own days: one without a return keeps what it had."""
        known = np.isfinite(specific_returns)
        step = np.where(known, self._decay, 1.0)
        self._square = step * self._square + np.where(known, specific_returns, 0.0) ** 2
        self._weight = step * self._weight + known
        self._count += known
        enough = self._count * self._spec.sessions >= MINIMUM_DAYS
        variance = np.maximum(self._square / np.where(enough, self._weight, 1.0), LOWEST_VOLATILITY**2)
        self._precision = np.where(enough, 1.0 / variance, 0.0)

    def _estimate(self) -> None:
        days = min(self._days, len(self._window))
        known = np.isfinite(self._window[:days])
        count = known.sum(axis=0)
        used = (2 * count >= days) & (self._precision > 0)
        factors = min(self._spec.blind_factors, int(used.sum()) // ASSETS_PER_FACTOR, days // 2)
        if not factors:
            return
        Z = np.where(known[:, used], self._window[:days, used], 0.0)
        volatility = np.maximum(np.sqrt((Z * Z).sum(axis=0) / count[used]), LOWEST_VOLATILITY)
        Z = np.clip(Z / volatility, -CUT, CUT)
        _, vectors = eigh(Z @ Z.T / Z.shape[1], subset_by_index=(days - factors, days - 1))
        loadings = Z.T @ vectors[:, ::-1]
        loadings /= np.sqrt((loadings * loadings).mean(axis=0))
        if not self._factors:
            self._unit = float(volatility.mean())
        exposures = np.zeros((len(used), factors))
        exposures[used] = loadings * (volatility / self._unit)[:, None]
        metric = np.zeros(len(used))
        metric[used] = self._unit / volatility
        whole = np.zeros(self.exposures.shape, dtype=np.float32)
        whole[:, :factors] = self._turned(exposures, metric)
        self.exposures, self._factors, self._metric = freeze(whole), factors, metric

    def _turned(self, exposures: FloatArray, metric: FloatArray) -> FloatArray:
        """Return exposures whose first columns are turned onto those before; of others, most assets have positive ones.

        The number of factors may change, with that of assets. The columns that both have are the ones that are turned.
        """
        common = min(self._factors, exposures.shape[1])
        before = self.exposures[:, :common] * self._metric[:, None]
        rotation, _, right = np.linalg.svd((exposures * metric[:, None]).T @ before)
        rotation[:, :common] = rotation[:, :common] @ right
        turned = exposures @ rotation
        new = (turned[:, common:] * metric[:, None]).sum(axis=0)
        turned[:, common:] *= np.where(new < 0, -1.0, 1.0)
        return np.asarray(turned)
