"""The planted alpha: latent signals whose reach into the future is known in closed form.

Each asset i carries J latent signals z_ij, AR(1) in sessions with unit variance and half-life H_j:

    z_ij(t) = f_j z_ij(t-1) + sqrt(1 - f_j^2) n_ij(t)        f_j = 2^(-1/H_j)

The innovations n are neutral to every true exposure across all assets, so z is neutral on every date. The daily specific
return, in units of the asset's daily specific volatility, is

    y_i(t+1) = b s_i(t) + sqrt(1 - b^2) e_i(t+1)             s = sum_j w_j z_j,  sum_j w_j^2 = 1

with e independent Student-t of variance 1. Over h sessions from t + lag on, the sum Y of y has

    E[Y | z(t)] = b sum_j w_j g_j z_j(t)                     g_j = f_j^lag (1 - f_j^h) / (1 - f_j)
    Var Y       = h (1 - b^2) + b^2 sum_j w_j^2 sum_{k,l<h} f_j^|k-l|

so a prediction of unit variance with loadings c_j on the latents has the information coefficient b sum_j c_j w_j g_j / sd(Y).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from backtest.synthetic_spec import SESSIONS_PER_YEAR, SIGNAL_HORIZON
from risk import DataError
from risk.checks import FloatArray, freeze

__all__ = ["Latents", "SignalPath", "draw_path", "plant"]

Float32Array = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Latents:
    """J latent signals and the strength with which they move specific returns.

    Attributes
    ----------
    half_lives : ndarray of shape (J,)
        In sessions.
    weights : ndarray of shape (J,)
        Unit length.
    daily_coefficient : float
        b: the one-day information coefficient of the combined score.
    """

    half_lives: FloatArray
    weights: FloatArray
    daily_coefficient: float

    @property
    def persistence(self) -> FloatArray:
        """Return f, the one-session autocorrelation of each latent, shape (J,)."""
        return np.asarray(0.5 ** (1.0 / self.half_lives), dtype=np.float64)

    def reach(self, lag: int, horizon: int) -> FloatArray:
        """Return g: what one unit of each latent adds up to over the window, shape (J,)."""
        f = self.persistence
        return np.asarray(f**lag * (1 - f**horizon) / (1 - f), dtype=np.float64)

    def window_variance(self, horizon: int) -> float:
        """Return the variance of a specific return over `horizon` sessions, in daily specific variances."""
        b2 = self.daily_coefficient**2
        return horizon * (1 - b2) + b2 * _drift_sum(self.persistence, self.weights, horizon)

    def information_coefficient(
        self, loadings: npt.ArrayLike, *, lag: int = 0, horizon: int = SIGNAL_HORIZON
    ) -> FloatArray:
        """Return the true information coefficient of predictions with given loadings.

        Parameters
        ----------
        loadings : array_like of shape (..., J)
            Of a prediction whose variance is 1.
        lag, horizon : int
            The specific return is that of sessions t + lag + 1 to t + lag + horizon.

        Returns
        -------
        ndarray of shape (...,)
            Correlation with the specific return in units of the asset's specific volatility.

        Examples
        --------
        >>> latents = plant((20.0,), 0.06)
        >>> round(float(latents.information_coefficient([1.0])), 6)
        0.06
        """
        c = np.asarray(loadings, dtype=np.float64)
        strength = self.daily_coefficient * self.weights * self.reach(lag, horizon)
        return np.asarray(c @ strength / np.sqrt(self.window_variance(horizon)), dtype=np.float64)

    def best_loadings(self) -> FloatArray:
        """Return the loadings of the perfect forecast of the next 20 sessions, shape (J,), unit length."""
        best = self.weights * self.reach(0, SIGNAL_HORIZON)
        return np.asarray(best / np.linalg.norm(best), dtype=np.float64)

    def expected_return(self, z: npt.NDArray[np.floating], specific_volatility: FloatArray) -> FloatArray:
        """Return the planted alpha: the specific return expected over the next 20 sessions, per year, shape (N,).

        Parameters
        ----------
        z : ndarray of shape (J, N)
        specific_volatility : ndarray of shape (N,)
            Annual.
        """
        ahead = self.daily_coefficient * (self.weights * self.reach(0, SIGNAL_HORIZON)) @ z
        yearly = np.sqrt(SESSIONS_PER_YEAR) / SIGNAL_HORIZON
        return np.asarray(specific_volatility * ahead * yearly, dtype=np.float64)


def _drift_sum(persistence: FloatArray, weights: FloatArray, horizon: int) -> float:
    """Return sum_j w_j^2 sum_{k,l<h} f_j^|k-l|."""
    gaps = np.arange(1, horizon)
    within = horizon + 2 * (persistence[:, None] ** gaps) @ (horizon - gaps)
    return float(weights**2 @ within)


def plant(half_lives: tuple[float, ...], information_coefficient: float) -> Latents:
    """Return equally weighted latents whose perfect 20-session forecast has the given information coefficient.

    Raises
    ------
    DataError
        If that takes more drift in a day than the day's whole variance.

    Notes
    -----
    With G^2 = sum_j (w_j g_j)^2 and R the double sum of the module's Var Y, IC^2 = b^2 G^2 / (h (1 - b^2) + b^2 R), so
    b^2 = IC^2 h / (G^2 - IC^2 (R - h)).
    """
    lives = np.asarray(half_lives, dtype=np.float64)
    weights = np.full(len(lives), 1.0 / np.sqrt(len(lives)))
    unit = Latents(freeze(lives), freeze(weights), 1.0)
    squared = information_coefficient**2
    total = float(np.sum((weights * unit.reach(0, SIGNAL_HORIZON)) ** 2))
    spread = _drift_sum(unit.persistence, weights, SIGNAL_HORIZON) - SIGNAL_HORIZON
    b2 = squared * SIGNAL_HORIZON / (total - squared * spread)
    if not b2 < 1:
        raise DataError(
            f"`information_coefficient` {information_coefficient} over {SIGNAL_HORIZON} sessions cannot be planted with "
            f"half-lives {half_lives}: the signals die too soon. Lower it, or give longer half-lives."
        )
    return Latents(freeze(lives), freeze(weights), float(np.sqrt(b2)))


@dataclass(frozen=True, eq=False)
class SignalPath:
    """The latents as they came out.

    Attributes
    ----------
    scores : float32 ndarray of shape (T, N)
        s, known at each session's close.
    kept : float32 ndarray of shape (D, J, N)
        z on the prediction dates.
    """

    scores: Float32Array
    kept: Float32Array


def draw_path(
    latents: Latents, exposures: FloatArray, sessions: int, keep: npt.NDArray[np.intp], rng: np.random.Generator
) -> SignalPath:
    """Return one path of the latents, neutral to `exposures` (N, K) on every session, kept in full on `keep`.

    The projection takes K of N dimensions; the rest is scaled up so that the mean variance across assets is 1.
    """
    basis, spread, _ = np.linalg.svd(exposures, full_matrices=False)
    basis = basis[:, spread > 1e-10 * spread[0]].astype(np.float32)
    n, taken = basis.shape
    scale = np.float32(np.sqrt(n / (n - taken)))
    f = latents.persistence.astype(np.float32)[:, None]
    step = np.sqrt(1 - f**2, dtype=np.float32)
    weights = latents.weights.astype(np.float32)
    position = {int(session): place for place, session in enumerate(keep)}
    scores = np.empty((sessions, n), dtype=np.float32)
    kept = np.empty((len(keep), len(weights), n), dtype=np.float32)
    z = np.zeros((len(weights), n), dtype=np.float32)
    for session in range(sessions):
        noise = rng.standard_normal(z.shape, dtype=np.float32)
        noise = (noise - (noise @ basis) @ basis.T) * scale
        z = noise if session == 0 else f * z + step * noise
        scores[session] = weights @ z
        if session in position:
            kept[position[session]] = z
    return SignalPath(scores, kept)
