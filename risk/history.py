"""The history of factor returns: one regression a day, or a week, each from data up to that day only."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from risk.checks import BoolArray, DataError, FloatArray, freeze
from risk.descriptors import Descriptors, compound, trailing_descriptors
from risk.exposures import day_exposures, factor_order
from risk.panel import Panel, UserExposures
from risk.regression import constrained_least_squares, constraint_rows, winsorise_returns
from risk.residual_factors import ResidualFactors, blind_names
from risk.rows import GrowingRows
from risk.spec import RiskSpec

__all__ = ["FactorHistory", "extended_history", "factor_history"]

Progress = Callable[[int, int], None]


@dataclass(frozen=True, eq=False)
class FactorHistory:
    """Factor and specific returns. Row t was computed from data up to t and exposures known before its returns began.

    With `spec.frequency` daily there is a regression a day, of the return of that day. Weekly, there is one on every fifth
    row of the panel, of the returns over the five sessions that end there, and everything in its row is per week.

    Attributes
    ----------
    dates : DatetimeIndex of length T
    assets : tuple of str, length N
    spec : RiskSpec
    factors : tuple of str, length K
        Every factor of any day.
    factor_returns : ndarray of shape (T, K)
        Per regression; 0 where `present` is False.
    present : bool ndarray of shape (T, K)
        Whether the factor was in that day's regression. A day without a regression has no factor present.
    residual_factors : tuple of str, length R
        The signals, then the blind factors: those of the second regression.
    noise : ndarray of shape (T, R, R)
        Covariance of the errors of their returns, per regression; 0 where absent.
    specific_returns : ndarray of shape (T, N)
        Return less exposures times factor returns, signals and blind factors included, per regression, from the whole
        return; NaN where not known. Known for every asset with a usable return that day and a size before, members or not.
    r_squared : ndarray of shape (T,)
        Of the regression; NaN on a day without one.
    counts : DataFrame of T rows
        Of the regression: ``assets`` in it, and ``missing`` members without a usable return; ``factors``; ``filled`` style
        values that were not known and are 0 (the market average), and ``clipped`` ones at the winsor limit, over the
        members; ``pooled`` labels without a column of their own; ``unclassified`` assets whose pool was too thin to be a
        factor; ``absent`` styles and signals that too few members have, or all alike, or that categories explain;
        ``winsorised`` returns cut; ``bounded`` assets beyond Huber's bound, ``iterations`` and ``unconverged`` (1 or 0);
        ``rank_deficient`` (1 or 0). Of the day's data, see `Descriptors.counts`: ``floored``, ``stale`` and
        ``suspected_splits`` returns.
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
    residual_factors: tuple[str, ...]
    noise: FloatArray
    specific_returns: FloatArray
    r_squared: FloatArray
    counts: pd.DataFrame
    descriptors: Descriptors
    user: UserExposures | None = None
    _specific_rows: GrowingRows | None = None
    _noise_rows: GrowingRows | None = None
    _residual: ResidualFactors | None = None
    _blind: tuple[tuple[int, ...], tuple[npt.NDArray[np.float32], ...]] = ((), ())

    def blind_exposures(self, t: int) -> FloatArray:
        """Return the exposures to the blind factors as known at the close of day t, shape (N, J)."""
        days, exposures = self._blind
        place = bisect_right(days, t)
        if not place:
            return np.zeros((len(self.assets), self.spec.blind_factors))
        return exposures[place - 1].astype(np.float64)


@dataclass(frozen=True, eq=False)
class _Day:
    factors: tuple[str, ...]
    factor_returns: FloatArray
    r_squared: float
    counts: tuple[int, ...]


_COUNTS = (
    *("assets", "missing", "factors", "filled", "clipped", "pooled", "unclassified", "absent"),
    *("winsorised", "bounded", "iterations", "unconverged", "rank_deficient"),
)
_DATA_COUNTS = ("floored", "stale", "suspected_splits")


@dataclass(frozen=True, eq=False)
class _Market:
    """What a regression reads."""

    panel: Panel
    members: BoolArray
    size: FloatArray
    spec: RiskSpec
    user: UserExposures | None

    def check(self) -> None:
        shape = self.panel.returns.shape
        for name, array in (("members", self.members), ("size", self.size)):
            if array.shape != shape:
                raise DataError(f"`{name}` must have shape {shape}, as the panel; got {array.shape}.")
        if self.members.dtype != np.bool_:
            raise DataError(f"`members` must be boolean; got {self.members.dtype}.")
        user = self.user
        if user is not None and user.values.shape != (shape[0], len(user.factors), shape[1]):
            raise DataError(
                f"`user` must have values of shape {(shape[0], len(user.factors), shape[1])}, as the panel; got "
                f"{user.values.shape}."
            )


def _returns(market: _Market, usable: BoolArray, t: int) -> FloatArray:
    """Return the returns since the last regression, NaN where not known: on fewer than half of its sessions."""
    sessions = market.spec.sessions
    known, returns = usable[t + 1 - sessions : t + 1], market.panel.returns[t + 1 - sessions : t + 1]
    if sessions == 1:
        return np.where(known[0], returns[0], np.nan)
    return np.where(2 * known.sum(axis=0) >= sessions, np.expm1(compound(returns, known).sum(axis=0)), np.nan)


def _regress(
    market: _Market, descriptors: Descriptors, residual: ResidualFactors, t: int
) -> tuple[_Day | None, FloatArray, FloatArray, int]:
    """Return the regressions that end on day t (None with too few assets), specific returns, noise, and the assets there are.

    What is left by market, categories and styles is regressed again on signals and blind factors, which `residual` follows.
    """
    spec, before = market.spec, t - market.spec.sessions
    unknown, every = np.full(len(market.panel.assets), np.nan), _residual_names(market)
    noise = np.zeros((len(every), len(every)))
    if before < 0 or t % spec.sessions:
        return None, unknown, noise, 0
    returns, members = _returns(market, descriptors.usable, t), market.members[before]
    sample = members & np.isfinite(returns)
    if sample.sum() < spec.minimum_assets:
        return None, unknown, noise, int(sample.sum())
    size, raw = descriptors.size[before], descriptors.raw[before]
    exposures = day_exposures(market.panel, before, raw, size, members, sample, spec, market.user)
    bet = np.array([name.startswith("signal:") for name in exposures.factors])
    whole = exposures.matrix[:, ~bet]
    X, caps = whole[sample], size[sample]
    cut, winsorised = winsorise_returns(returns[sample], spec.return_winsor)
    rows = constraint_rows(X, exposures.families, caps)
    fit = constrained_least_squares(X, cut, np.sqrt(caps), rows, spec.huber)
    counts = (
        int(sample.sum()),
        int((members & ~sample).sum()),
        len(exposures.factors),
        int(exposures.filled[members].sum()),
        exposures.clipped,
        len(exposures.pooled),
        int(exposures.unclassified[sample].sum()),
        len(exposures.absent),
        winsorised,
        fit.bounded,
        fit.iterations,
        int(not fit.converged),
        int(fit.rank_deficient),
    )
    specific = np.where(np.isfinite(size), returns - whole @ fit.factor_returns, np.nan)
    signals = tuple(name for name, is_bet in zip(exposures.factors, bet, strict=True) if is_bet)
    common = residual.add(specific, exposures.matrix[:, bet])
    present = np.flatnonzero(common.present)
    names = (*signals, *blind_names(spec))
    places = [every.index(name) for name in names]
    noise[np.ix_(places, places)] = common.noise
    day = _Day(
        factors=(*(name for name in exposures.factors if name not in signals), *(names[k] for k in present)),
        factor_returns=np.concatenate([fit.factor_returns, common.factor_returns[present]]),
        r_squared=fit.r_squared,
        counts=counts,
    )
    return day, common.rest, noise, int(sample.sum())


def _residual_names(market: _Market) -> tuple[str, ...]:
    given = () if market.user is None else market.user.factors
    return (*(name for name in given if name.startswith("signal:")), *blind_names(market.spec))


def factor_history(
    panel: Panel,
    members: BoolArray,
    size: FloatArray,
    spec: RiskSpec | None = None,
    *,
    user: UserExposures | None = None,
    progress: Progress | None = None,
) -> FactorHistory:
    """Return the factor returns of a universe and the specific returns of its assets.

    For every day t with `spec.minimum_assets` members of t - 1 that have a usable return at t: exposures as known at the
    close of t - 1, weighted least squares of the returns of t with weights sqrt(size), under the constraints of
    `risk.categories`. Weekly, t - 1 is t - 5, and t is every fifth row of the panel.

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
    market = _Market(panel, members, size, spec, user)
    market.check()
    history, most = _continued(market, None, progress)
    if not np.isfinite(history.r_squared).any():
        raise DataError(
            f"`members` must hold at least {spec.minimum_assets} assets with a return on some day; the most on any day "
            f"is {most}. Use a wider universe or lower `minimum_assets` in RiskSpec."
        )
    return history


def extended_history(
    history: FactorHistory,
    panel: Panel,
    members: BoolArray,
    size: FloatArray,
    *,
    user: UserExposures | None = None,
    progress: Progress | None = None,
) -> FactorHistory:
    """Return a history taken up where it ended: the same bits as computed anew, at the cost of the new days alone.

    Parameters
    ----------
    history : FactorHistory
        Of the first days of `panel`. It stays as it is, and shares its rows with the result.
    panel, members, size, user
        As for `factor_history`, over all days. Rows that `history` has are not read again, but for labels and members of
        its last ones: they must be those that it was computed from.
    progress : callable, optional

    Raises
    ------
    DataError
        If assets, first days or names of user exposures are not those of `history`, or shapes disagree.
    """
    start = len(history.dates)
    if history.assets != panel.assets or not history.dates.equals(panel.dates[:start]):
        raise DataError(
            "`panel` must begin with the days of `history` and hold its assets; one of them differs. Where assets have "
            "joined, compute the history again with `factor_history`."
        )
    if (user and user.factors) != (history.user and history.user.factors):
        raise DataError("`user` must have the factors that `history` was computed with; give the same ones.")
    market = _Market(panel, members, size, history.spec, user)
    market.check()
    return _continued(market, history, progress)[0]


def _continued(market: _Market, before: FactorHistory | None, progress: Progress | None) -> tuple[FactorHistory, int]:
    """Return a history up to the market's last day, and the most assets that any of the new days had."""
    panel, spec = market.panel, market.spec
    T, N = panel.returns.shape
    start = 0 if before is None else len(before.dates)
    total = 2 * (T - start)
    descriptors = trailing_descriptors(
        panel,
        market.members,
        market.size,
        spec,
        before=None if before is None else before.descriptors,
        progress=None if progress is None else lambda done, _: progress(done - start, total),
    )
    rows = before._specific_rows if before is not None else None
    specific = GrowingRows((N,), np.float64, T) if rows is None else rows.continued(start, T - start)
    residual = ResidualFactors(N, spec.in_regressions())
    if before is not None and before._residual is not None:
        residual = before._residual.copy()
    blind = {} if before is None else dict(zip(*before._blind, strict=True))
    R = len(_residual_names(market))
    rows = before._noise_rows if before is not None else None
    noises = GrowingRows((R, R), np.float64, T) if rows is None else rows.continued(start, T - start)
    days: dict[int, _Day] = {}
    most = 0
    for t in range(start, T):
        known = residual.exposures
        day, row, noise, count = _regress(market, descriptors, residual, t)
        noises.append(noise)
        if residual.exposures is not known:
            blind[t] = residual.exposures
        specific.append(row)
        most = max(most, count)
        if day is not None:
            days[t] = day
        if progress is not None:
            progress(T - start + t - start + 1, total)
    return _assembled(market, descriptors, days, specific, noises, residual, blind, before), most


def _assembled(
    market: _Market,
    descriptors: Descriptors,
    days: dict[int, _Day],
    specific: GrowingRows,
    noises: GrowingRows,
    residual: ResidualFactors,
    blind: dict[int, npt.NDArray[np.float32]],
    before: FactorHistory | None,
) -> FactorHistory:
    T, spec = len(market.panel.dates), market.spec
    known = set() if before is None else set(before.factors)
    factors = factor_order(known.union(*(day.factors for day in days.values())), spec, market.user)
    column = {name: k for k, name in enumerate(factors)}
    returns, present = np.zeros((T, len(factors))), np.zeros((T, len(factors)), dtype=np.bool_)
    r_squared, counts = np.full(T, np.nan), np.zeros((T, len(_COUNTS)), dtype=np.int64)
    if before is not None:
        first, columns = slice(0, len(before.dates)), [column[name] for name in before.factors]
        returns[first, columns], present[first, columns] = before.factor_returns, before.present
        r_squared[first], counts[first] = before.r_squared, before.counts[list(_COUNTS)].to_numpy()
    for t, day in days.items():
        columns = [column[name] for name in day.factors]
        returns[t, columns], present[t, columns] = day.factor_returns, True
        r_squared[t], counts[t] = day.r_squared, day.counts
    every: npt.NDArray[np.int64] = np.hstack([counts, descriptors.counts])
    return FactorHistory(
        dates=market.panel.dates,
        assets=market.panel.assets,
        spec=spec,
        factors=factors,
        factor_returns=freeze(returns),
        present=freeze(present),
        residual_factors=_residual_names(market),
        noise=noises.view(),
        specific_returns=specific.view(),
        r_squared=freeze(r_squared),
        counts=pd.DataFrame(every, index=market.panel.dates, columns=[*_COUNTS, *_DATA_COUNTS]),
        descriptors=descriptors,
        user=market.user,
        _specific_rows=specific,
        _noise_rows=noises,
        _residual=residual,
        _blind=(tuple(blind), tuple(blind.values())),
    )
