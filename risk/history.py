"""The history of factor returns: one regression a day, each from data up to that day only."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from risk.checks import BoolArray, DataError, FloatArray, freeze
from risk.descriptors import Descriptors, trailing_descriptors
from risk.exposures import day_exposures, factor_order
from risk.panel import Panel, UserExposures
from risk.regression import constrained_least_squares, constraint_rows, winsorise_returns
from risk.spec import RiskSpec

__all__ = ["FactorHistory", "factor_history"]

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class FactorHistory:
    """Daily factor and specific returns. Row t was computed from data up to t and exposures known at t - 1.

    Attributes
    ----------
    dates : DatetimeIndex of length T
    assets : tuple of str, length N
    spec : RiskSpec
    factors : tuple of str, length K
        Every factor of any day.
    factor_returns : ndarray of shape (T, K)
        Per day; 0 where `present` is False.
    present : bool ndarray of shape (T, K)
        Whether the factor was in that day's regression. A day without a regression has no factor present.
    specific_returns : ndarray of shape (T, N)
        Return less exposures times factor returns, per day, from the whole return; NaN where not known. Known for
        every asset with a return that day and a size the day before, members or not.
    r_squared : ndarray of shape (T,)
        Of the regression; NaN on a day without one.
    counts : DataFrame of T rows
        ``assets`` in the regression; ``factors``; ``filled`` style values that were not known and are 0 (the market
        average), and ``clipped`` ones at the winsor limit, over the members; ``pooled`` labels that went to
        ``(other)``; ``unclassified`` assets whose pool was too thin to be a factor; ``absent`` styles and signals that
        too few members have, or all alike; ``winsorised`` returns cut in the regression; ``rank_deficient`` 1 or 0;
        ``floored`` returns that entered descriptors as -99.99 %.
    descriptors : Descriptors
        What the exposures are standardised from.
    user : UserExposures or None
    """

    dates: pd.DatetimeIndex
    assets: tuple[str, ...]
    spec: RiskSpec
    factors: tuple[str, ...]
    factor_returns: FloatArray
    present: BoolArray
    specific_returns: FloatArray
    r_squared: FloatArray
    counts: pd.DataFrame
    descriptors: Descriptors
    user: UserExposures | None = None


@dataclass(frozen=True, eq=False)
class _Day:
    factors: tuple[str, ...]
    factor_returns: FloatArray
    specific_returns: FloatArray
    r_squared: float
    counts: tuple[int, ...]


_COUNTS = ("assets", "factors", "filled", "clipped", "pooled", "unclassified", "absent", "winsorised", "rank_deficient")


def _check_universe(panel: Panel, members: BoolArray, size: FloatArray, user: UserExposures | None) -> None:
    for name, array in (("members", members), ("size", size)):
        if array.shape != panel.returns.shape:
            raise DataError(f"`{name}` must have shape {panel.returns.shape}, as the panel; got {array.shape}.")
    if members.dtype != np.bool_:
        raise DataError(f"`members` must be boolean; got {members.dtype}.")
    T, N = panel.returns.shape
    if user is not None and user.values.shape != (T, len(user.factors), N):
        raise DataError(
            f"`user` must have values of shape {(T, len(user.factors), N)}, as the panel; got {user.values.shape}."
        )


def _regress(
    panel: Panel,
    members: BoolArray,
    descriptors: Descriptors,
    sample: BoolArray,
    t: int,
    spec: RiskSpec,
    user: UserExposures | None,
) -> _Day:
    size, before = descriptors.size[t - 1], members[t - 1]
    exposures = day_exposures(panel, t - 1, descriptors.raw[t - 1], size, before, sample, spec, user)
    X, caps = exposures.matrix[sample], size[sample]
    cut, winsorised = winsorise_returns(panel.returns[t][sample], spec.return_winsor)
    fit = constrained_least_squares(X, cut, np.sqrt(caps), constraint_rows(X, exposures.families, caps))
    specific = panel.returns[t] - exposures.matrix @ fit.factor_returns
    counts = (
        int(sample.sum()),
        len(exposures.factors),
        int(exposures.filled[before].sum()),
        exposures.clipped,
        len(exposures.pooled),
        int(exposures.unclassified[sample].sum()),
        len(exposures.absent),
        winsorised,
        int(fit.rank_deficient),
    )
    specific[~np.isfinite(size)] = np.nan
    return _Day(exposures.factors, fit.factor_returns, specific, fit.r_squared, counts)


def factor_history(
    panel: Panel,
    members: BoolArray,
    size: FloatArray,
    spec: RiskSpec | None = None,
    *,
    user: UserExposures | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> FactorHistory:
    """Return the daily factor returns of a universe and the specific returns of its assets.

    For every day t with `spec.minimum_assets` members of t - 1 that have a return at t: exposures as known at the
    close of t - 1, weighted least squares of the returns of t with weights sqrt(size), the factor returns of countries
    and of sectors constrained to a size-weighted sum of 0 over the assets of the regression.

    Parameters
    ----------
    panel : Panel
    members : bool ndarray of shape (T, N)
        The estimation universe, decided at each day's close.
    size : ndarray of shape (T, N)
        Market capitalisation or the data set's proxy, known at each day's close; NaN where not known, and then the
        last known one counts.
    spec : RiskSpec, optional
    user : UserExposures, optional
        Exposures beside the estimated ones, or in their place.
    progress : callable, optional
        Called with (days done, days in all), over descriptors first and regressions then.

    Returns
    -------
    FactorHistory

    Raises
    ------
    DataError
        If shapes disagree, a member has no size, or no day has enough assets.
    """
    spec = RiskSpec() if spec is None else spec
    _check_universe(panel, members, size, user)
    T = len(panel.dates)
    descriptors = trailing_descriptors(
        panel, members, size, spec.styles, progress=None if progress is None else lambda done, _: progress(done, 2 * T)
    )
    specific = np.full(panel.returns.shape, np.nan)
    days: dict[int, _Day] = {}
    largest = 0
    for t in range(1, T):
        sample = members[t - 1] & np.isfinite(panel.returns[t])
        largest = max(largest, int(sample.sum()))
        if sample.sum() >= spec.minimum_assets:
            days[t] = _regress(panel, members, descriptors, sample, t, spec, user)
            specific[t] = days[t].specific_returns
        if progress is not None:
            progress(T + t + 1, 2 * T)
    if not days:
        raise DataError(
            f"`members` must hold at least {spec.minimum_assets} assets with a return on some day; the most on any day "
            f"is {largest}. Use a wider universe or lower `minimum_assets` in RiskSpec."
        )
    return _assemble(panel, spec, descriptors, days, specific, user)


def _assemble(
    panel: Panel,
    spec: RiskSpec,
    descriptors: Descriptors,
    days: dict[int, _Day],
    specific: FloatArray,
    user: UserExposures | None,
) -> FactorHistory:
    T = len(panel.dates)
    factors = factor_order({name for day in days.values() for name in day.factors}, spec, user)
    column = {name: k for k, name in enumerate(factors)}
    returns, present = np.zeros((T, len(factors))), np.zeros((T, len(factors)), dtype=np.bool_)
    r_squared, counts = np.full(T, np.nan), np.zeros((T, len(_COUNTS)), dtype=np.int64)
    for t, day in days.items():
        columns = [column[name] for name in day.factors]
        returns[t, columns], present[t, columns] = day.factor_returns, True
        r_squared[t], counts[t] = day.r_squared, day.counts
    table = pd.DataFrame(counts, index=panel.dates, columns=list(_COUNTS)).assign(floored=descriptors.floored_returns)
    return FactorHistory(
        dates=panel.dates,
        assets=panel.assets,
        spec=spec,
        factors=factors,
        factor_returns=freeze(returns),
        present=freeze(present),
        specific_returns=freeze(specific),
        r_squared=freeze(r_squared),
        counts=table,
        descriptors=descriptors,
        user=user,
    )
