"""Two models that learn from the past how the price signals were rewarded: a ridge and gradient-boosted trees.

Walk-forward, in weekly cross-sections. At a decision date t a fit may use the cross-section of an earlier date u only if its
forward window has ended: u + 22 <= t in trading days. The first fit waits for 52 such cross-sections, uses the last 156 (three
years), and is renewed every 13 weekly dates. Between fits the model stands still.

Features are the other signals, gaussianised over the members of their date, 0 (the median) where a signal is not known; an
asset with fewer than half of its signals known is neither learned from nor predicted. The target is the gaussianised return
from u + 2 to u + 22 after market, country and sector means. A member that leaves within the window compounds to its last
price; its delisting return is not used.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

from backtest.cross_section import HORIZON, LAG, Codes, CrossSection, gaussianise, without_group_means
from risk.checks import FloatArray

__all__ = ["LEARNERS", "WalkForward", "feature_matrix", "forward_target"]

FIRST_FIT_WEEKS, TRAINING_WEEKS, REFIT_WEEKS = 52, 156, 13
MIN_KNOWN_SHARE = 0.5
SEED = 0

Features = npt.NDArray[np.float32]


class Predictor(Protocol):
    """A fitted regression."""

    def predict(self, X: Features) -> FloatArray:
        """Return one prediction per row of X."""
        ...


def fit_ridge(X: Features, y: Features) -> Predictor:
    """Return a ridge regression with a penalty of one per row.

    Three years of overlapping four-week targets hold some forty independent months, and a month's information coefficient
    of a signal is several times its mean: noise in a coefficient is as large as the coefficient. A penalty that halves a
    feature of unit variance says so.

    References
    ----------
    Hoerl, Kennard (1970), Ridge regression: biased estimation for nonorthogonal problems; for cross-sections of returns:
    Gu, Kelly, Xiu (2020), Empirical asset pricing via machine learning.
    """
    from sklearn.linear_model import Ridge

    model: Predictor = Ridge(alpha=float(len(y)), solver="cholesky").fit(X.astype(np.float64), y.astype(np.float64))
    return model


def fit_gradient_boosting(X: Features, y: Features) -> Predictor:
    """Return boosted shallow trees, strongly regularised: at least half a percent of the rows in each leaf.

    References
    ----------
    Friedman (2001), Greedy function approximation: a gradient boosting machine; for cross-sections of returns: Gu, Kelly,
    Xiu (2020), Empirical asset pricing via machine learning.
    """
    from sklearn.ensemble import HistGradientBoostingRegressor

    # No subsampling of any kind and no early stopping: the fit is a function of the rows alone.
    model: Predictor = HistGradientBoostingRegressor(
        learning_rate=0.05,
        max_iter=80,
        max_leaf_nodes=8,
        min_samples_leaf=max(20, len(y) // 200),
        max_bins=63,
        early_stopping=False,
        random_state=SEED,
    ).fit(X, y)
    return model


LEARNERS: dict[str, Callable[[Features, Features], Predictor]] = {
    "ridge": fit_ridge,
    "gradient_boosting": fit_gradient_boosting,
}


def feature_matrix(signals: FloatArray) -> Features:
    """Return the features of one date: each signal gaussianised, 0 where it is not known.

    Parameters
    ----------
    signals : ndarray of shape (n, S)
        NaN where not known. A row with fewer than half of its signals known is all NaN in the result.

    Returns
    -------
    float32 ndarray of shape (n, S)
    """
    known = np.isfinite(signals)
    features = np.column_stack([gaussianise(column) for column in signals.T])
    features[~known] = 0.0
    features[known.mean(axis=1) < MIN_KNOWN_SHARE] = np.nan
    return features.astype(np.float32)


def forward_target(
    returns: FloatArray, t: int, columns: npt.NDArray[np.intp], country: Codes, sector: Codes
) -> FloatArray:
    """Return the gaussianised forward return after market, country and sector means of the members of day t, (n,).

    Parameters
    ----------
    returns : ndarray of shape (T, N)
        Needs rows to t + 22; reads t + 3 to t + 22. A missing row counts as 0.
    t : int
    columns : int ndarray of shape (n,)
        Where the members of day t stand among the assets.
    country, sector : int16 ndarray of shape (n,)
        Their labels in force on day t.

    Returns
    -------
    ndarray of shape (n,)
        NaN for a member without a single row in the window.
    """
    window = returns[t + LAG + 1 : t + LAG + HORIZON + 1][:, columns]
    known = np.isfinite(window)
    growth = np.multiply.reduce(np.where(known, 1.0 + window, 1.0), axis=0)
    forward = np.where(known.any(axis=0), growth - 1.0, np.nan)
    return gaussianise(without_group_means(forward, country, sector))


@dataclass(frozen=True, eq=False)
class _Week:
    """One weekly cross-section that waits to be learned from."""

    t: int
    columns: npt.NDArray[np.intp]
    country: Codes
    sector: Codes
    features: Features


@dataclass(eq=False)
class WalkForward:
    """The learned models at the date they have been walked to.

    Call, for each weekly date in order, `renew`, then `predict`, then `add`.

    Attributes
    ----------
    returns : ndarray of shape (T, N)
        Of the whole panel; a fit at t reads no row after t.
    """

    returns: FloatArray
    _waiting: deque[_Week] = field(default_factory=deque)
    _learned_from: deque[tuple[Features, Features]] = field(default_factory=lambda: deque(maxlen=TRAINING_WEEKS))
    _weeks_since_fit: int | None = None
    _training: tuple[tuple[Features, Features], ...] | None = None
    _fitted: dict[str, Predictor] = field(default_factory=dict)

    def renew(self, t: int) -> None:
        """Take in the cross-sections whose forward window has ended by t; renew the fit if it is due."""
        while self._waiting and self._waiting[0].t + LAG + HORIZON <= t:
            self._learned_from.append(self._with_target(self._waiting.popleft()))
        if self._weeks_since_fit is not None:
            self._weeks_since_fit += 1
        first = self._weeks_since_fit is None and len(self._learned_from) >= FIRST_FIT_WEEKS
        if first or self._weeks_since_fit == REFIT_WEEKS:
            self._weeks_since_fit = 0
            # The rows are fixed now; the fit itself waits until a prediction is asked for.
            self._training = tuple(self._learned_from)

    def predict(self, features: Features) -> dict[str, FloatArray]:
        """Return each learned model's predictions, (n,); all NaN before the first fit.

        Parameters
        ----------
        features : float32 ndarray of shape (n, S)
        """
        usable = np.isfinite(features).all(axis=1)
        predictions = {name: np.full(len(features), np.nan) for name in LEARNERS}
        with _one_thread():
            if self._training is not None:
                X = np.concatenate([week[0] for week in self._training])
                y = np.concatenate([week[1] for week in self._training])
                self._fitted = {name: fit(X, y) for name, fit in LEARNERS.items()}
                self._training = None
            if usable.any():
                for name, model in self._fitted.items():
                    predictions[name][usable] = model.predict(features[usable])
        return predictions

    def add(self, t: int, section: CrossSection, features: Features) -> None:
        """Keep the cross-section of day t until its forward window has ended."""
        self._waiting.append(_Week(t, section.columns, section.country, section.sector, features))

    def _with_target(self, week: _Week) -> tuple[Features, Features]:
        target = forward_target(self.returns, week.t, week.columns, week.country, week.sector)
        usable = np.isfinite(target) & np.isfinite(week.features).all(axis=1)
        return week.features[usable], target[usable].astype(np.float32)


@contextmanager
def _one_thread() -> Iterator[None]:
    """One thread: a sum split over threads depends on how many there are."""
    with threadpool_limits(limits=1):
        yield
