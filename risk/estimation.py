"""The risk model of one day: exposures, factor covariance and specific variances as known at its close."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from risk.checks import BoolArray, DataError, FloatArray
from risk.covariance import FactorCovariance, exponential_weights, factor_covariance
from risk.exposures import DayExposures, day_exposures
from risk.history import FactorHistory, factor_history
from risk.model import FactorModel
from risk.noise import later_leverage, regression_noise, variance_outside
from risk.panel import Panel, UserExposures
from risk.regression import constraint_rows
from risk.residual_factors import blind_names
from risk.spec import REGRESSION_SETTINGS, RiskSpec
from risk.specific import LOOKBACK_HALF_LIVES, SpecificRisk, specific_risk

__all__ = ["Estimate", "estimate", "estimate_with_counts"]

Days = np.ndarray[tuple[int], np.dtype[np.intp]]
_ROUNDS = 5


@dataclass(frozen=True, eq=False)
class Estimate:
    """A risk model and what was filled, pooled, blended or floored to make it.

    Attributes
    ----------
    model : FactorModel
    history_days : int
        Days, or weeks, of factor returns behind it.
    filled_exposures : int
        Style exposures that were not known and are 0, the market average.
    clipped_exposures : int
        Members' style values cut at the winsor limit.
    unclassified : tuple of str
        Assets with no column among the countries or sectors that are factors.
    pooled : tuple of str
        Labels without a column of their own, as ``country:Malta``; ``country:`` for assets without one (`DayExposures`).
    absent : tuple of str
        Styles and signals that are no factor that day: too few members have one, all have the same, or categories explain it.
    covariance : FactorCovariance
        What was blended, floored, corrected and scaled in the covariance of factors.
    specific : SpecificRisk
        The same for specific risk; its variances are those before `regression_noise`.
    """

    model: FactorModel
    history_days: int
    filled_exposures: int
    clipped_exposures: int
    unclassified: tuple[str, ...]
    pooled: tuple[str, ...]
    absent: tuple[str, ...]
    covariance: FactorCovariance
    specific: SpecificRisk


def estimate(
    panel: Panel,
    members: BoolArray,
    size: FloatArray,
    spec: RiskSpec | None = None,
    *,
    t: int = -1,
    assets: BoolArray | None = None,
    history: FactorHistory | None = None,
    user: UserExposures | None = None,
) -> FactorModel:
    """Return the risk model as known at the close of day t, in annual units.

    Parameters
    ----------
    panel : Panel
    members : bool ndarray of shape (T, N)
        The estimation universe, decided at each day's close.
    size : ndarray of shape (T, N)
        Market capitalisation or the data set's proxy; NaN where not known, and then the last known one counts.
    spec : RiskSpec, optional
        By default that of `history`.
    t : int
        Row of `panel`; -1 is its last. Nothing after it is read.
    assets : bool ndarray of shape (N,), optional
        Assets of the model; by default the members of day t. Styles are standardised over the members in any case.
    history : FactorHistory, optional
        Of this panel or a longer one; its rows up to t are used, and the daily regressions are not run again.
    user : UserExposures, optional
        Exposures beside the estimated ones, or in their place; by default those of `history`.

    Returns
    -------
    FactorModel

    Raises
    ------
    DataError
        If there are fewer than `spec.minimum_history` days of factor returns, too few members on day t, no asset asked
        for, or `history` is of another panel or other settings.
    """
    return estimate_with_counts(panel, members, size, spec, t=t, assets=assets, history=history, user=user).model


def estimate_with_counts(
    panel: Panel,
    members: BoolArray,
    size: FloatArray,
    spec: RiskSpec | None = None,
    *,
    t: int = -1,
    assets: BoolArray | None = None,
    history: FactorHistory | None = None,
    user: UserExposures | None = None,
) -> Estimate:
    """Return what `estimate` returns, with the counts of everything that a rule filled, pooled, blended or floored.

    Parameters and errors are those of `estimate`.
    """
    if spec is None:
        spec = RiskSpec() if history is None else history.spec
    day = _row(t, len(panel.dates))
    if history is None:
        cut = slice(0, day + 1)
        history = factor_history(panel.until(day), members[cut], size[cut], spec, user=user and user.until(day))
    user = history.user if user is None else user
    _check_history(history, panel, spec, day, user)
    inside = members[day]
    wanted = inside if assets is None else assets
    _check_assets(inside, wanted, panel, spec, day)
    days = _regression_days(history, day, spec)
    sizes = history.descriptors.size[day]
    exposures = day_exposures(panel, day, history.descriptors.raw[day], sizes, inside, inside, spec, user)
    factors, X = _columns(exposures, history, day, days)
    lengths, periods = spec.in_regressions(), panel.periods_per_year / spec.sessions
    returns, present = _factor_rows(history, factors, days, lengths)
    pool = np.flatnonzero(inside | wanted)
    first = max(0, len(days) - int(LOOKBACK_HALF_LIVES * lengths.specific_half_life))
    specific = specific_risk(
        history.specific_returns[np.ix_(days[first:], pool)],
        sizes[pool],
        inside[pool],
        X[pool][:, [name.startswith("style:") for name in factors]],
        lengths,
        periods,
    )
    variance, noise, later = specific.variance, None, None
    if spec.regression_noise:
        variance, noise = _less_noise(exposures, X[pool], sizes[pool], inside[pool], specific.variance)
        later = _later_noise(history, factors, days, lengths) * periods
    covariance = factor_covariance(returns, present, factors, lengths, periods, noise, later)
    rows = np.flatnonzero(wanted)
    model = FactorModel(
        assets=[panel.assets[i] for i in rows],
        factors=factors,
        exposures=X[rows],
        factor_covariance=covariance.matrix,
        specific_variance=variance[np.searchsorted(pool, rows)],
    )
    return Estimate(
        model=model,
        history_days=len(days),
        filled_exposures=int(exposures.filled[rows].sum()),
        clipped_exposures=exposures.clipped,
        unclassified=tuple(panel.assets[i] for i in rows if exposures.unclassified[i]),
        pooled=exposures.pooled,
        absent=exposures.absent,
        covariance=covariance,
        specific=specific,
    )


def _columns(
    exposures: DayExposures, history: FactorHistory, day: int, days: Days
) -> tuple[tuple[str, ...], FloatArray]:
    """Return the model's factors and exposures: those of the day, less signals that no regression had, and blind ones."""
    blind = history.blind_exposures(day)
    known = np.flatnonzero(blind.any(axis=0))
    # A signal that no regression had, for want of assets, is no factor.
    had = {history.factors[k] for k in np.flatnonzero(history.present[days].any(axis=0))}
    kept = [k for k, name in enumerate(exposures.factors) if name in had or not name.startswith("signal:")]
    factors = (*(exposures.factors[k] for k in kept), *(blind_names(history.spec)[j] for j in known))
    return factors, np.hstack([exposures.matrix[:, kept], blind[:, known]])


def _less_noise(
    exposures: DayExposures, X: FloatArray, size: FloatArray, inside: BoolArray, variance: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Return specific variances less what the regressions' noise put into them, and what the first put into factors.

    Parameters
    ----------
    X : ndarray of shape (n, K)
        Of the model, whose first columns are those of `exposures` but for signals: these and blind factors are not in the
        regression.
    size, inside, variance : ndarray of shape (n,)
        Size, membership, and variance of what the regression leaves, per year.
    """
    own = np.array([not name.startswith("signal:") for name in exposures.factors])
    columns = np.flatnonzero(own)
    later = np.delete(X, columns, axis=1)
    variance = variance / (1.0 - later_leverage(later, variance))
    fitted, members = X[:, columns], X[np.ix_(inside, columns)]
    weights = np.sqrt(size[inside])
    rows = constraint_rows(members, exposures.families, size[inside])
    fit = regression_noise(members, weights, rows, variance[inside])
    covariance, left = fit.covariance, variance
    # Noise is made of what it is taken off: a few rounds settle it, the first one where there are many assets.
    for _ in range(_ROUNDS):
        before, left = left, variance_outside(covariance, variance, fitted)
        left[inside] /= fit.kept
        covariance = fit.covariance_of(left[inside])
        if np.abs(left / before - 1).max() < 1e-3:
            break
    noise = np.zeros((X.shape[1], X.shape[1]))
    noise[np.ix_(columns, columns)] = covariance
    return left, noise


def _later_noise(history: FactorHistory, factors: tuple[str, ...], days: Days, spec: RiskSpec) -> FloatArray:
    """Return the covariance of the errors of signals and blind factors among `factors`, shape (K, K), per regression."""
    place = {name: r for r, name in enumerate(history.residual_factors)}
    columns = [k for k, name in enumerate(factors) if name in place]
    among = [place[factors[k]] for k in columns]
    weights = exponential_weights(len(days), spec.volatility_half_life)
    found = history.noise[days]
    known = weights @ (np.diagonal(found, axis1=1, axis2=2) > 0)
    mean = np.tensordot(weights, found, 1) / np.where(known > 0, known, 1.0)
    noise = np.zeros((len(factors), len(factors)))
    noise[np.ix_(columns, columns)] = ((mean + mean.T) / 2)[np.ix_(among, among)]
    return noise


def _row(t: int, length: int) -> int:
    if not -length <= t < length:
        raise DataError(f"`t` must be a row of the panel, {-length} to {length - 1}; got {t}.")
    return t % length


def _check_history(history: FactorHistory, panel: Panel, spec: RiskSpec, day: int, user: UserExposures | None) -> None:
    if history.assets != panel.assets or not history.dates[: day + 1].equals(panel.dates[: day + 1]):
        raise DataError(
            "`history` must be of the same panel: its assets or its dates up to day t differ. Compute it with "
            "`factor_history` from this panel, or leave it out."
        )
    if history.spec.regression_settings() != spec.regression_settings():
        raise DataError(
            "`history` was computed with other regression settings than `spec` ("
            f"{', '.join(REGRESSION_SETTINGS)}). Compute it again with `factor_history`, or leave it out."
        )
    if user is not None and (user.values.shape[2] != len(panel.assets) or len(user.values) <= day):
        raise DataError(
            f"`user` must have values for {len(panel.assets)} assets up to row {day}; got shape {user.values.shape}."
        )
    if (user and user.factors) != (history.user and history.user.factors):
        raise DataError(
            "`history` was computed with other `user` exposures. Compute it again with `factor_history`, or leave it out."
        )


def _check_assets(members: BoolArray, wanted: BoolArray, panel: Panel, spec: RiskSpec, day: int) -> None:
    if wanted.shape != members.shape or wanted.dtype != np.bool_:
        raise DataError(f"`assets` must be boolean of shape {members.shape}; got {wanted.dtype} of {wanted.shape}.")
    if not wanted.any():
        raise DataError(f"`assets` must choose at least one asset for {panel.dates[day].date()}; it chooses none.")
    if members.sum() < spec.minimum_assets:
        raise DataError(
            f"`members` must hold at least {spec.minimum_assets} assets on {panel.dates[day].date()}; it holds "
            f"{int(members.sum())}. Use a wider universe or lower `minimum_assets` in RiskSpec."
        )


def _regression_days(history: FactorHistory, day: int, spec: RiskSpec) -> Days:
    days = np.flatnonzero(np.isfinite(history.r_squared[: day + 1]))
    wanted = spec.in_regressions().minimum_history
    if len(days) < wanted:
        raise DataError(
            f"`panel` must give at least {wanted} {'days' if spec.sessions == 1 else 'weeks'} of factor returns up to "
            f"{history.dates[day].date()}; it gives {len(days)}. Start later, or lower `minimum_history` in RiskSpec."
        )
    return days


def _factor_rows(
    history: FactorHistory, factors: tuple[str, ...], days: Days, spec: RiskSpec
) -> tuple[FloatArray, BoolArray]:
    """Return returns and presence of `factors` on `days`; a factor that the history never saw is absent throughout.

    Returns of signals are about their mean: what the fund expects to earn on them is no risk. The means of other factors
    are far below their errors, and taken as 0 (`risk.moments`).
    """
    returns, present = np.zeros((len(days), len(factors))), np.zeros((len(days), len(factors)), dtype=np.bool_)
    column = {name: k for k, name in enumerate(history.factors)}
    for k, name in enumerate(factors):
        if name in column:
            returns[:, k] = history.factor_returns[days, column[name]]
            present[:, k] = history.present[days, column[name]]
    weights = exponential_weights(len(returns), spec.correlation_half_life)[:, None] * present
    mean = (weights * returns).sum(axis=0) / np.where(present.any(axis=0), weights.sum(axis=0), 1.0)
    signal = np.array([name.startswith("signal:") for name in factors])
    return np.asarray(returns - np.where(present & signal, mean, 0.0)), present
