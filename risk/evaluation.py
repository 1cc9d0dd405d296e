"""Is a forecast of volatility right? Bias statistic, its bands and its course, and a table of many books.

A book's realised return r_t, per period of `horizon` days, over its forecast volatility s_t, per year, made before it:

    b_t = r_t / (s_t sqrt(horizon / periods_per_year))          standardised outcome: of variance 1 if the forecast is right
    B   = sqrt(sum_t (b_t - mean b)^2 / (T - 1))                bias statistic: above 1, risk is understated

If the b_t are independent normals, (T - 1) B^2 is chi-square with T - 1 degrees of freedom, and the band of B is exact. Returns have fatter tails:
the variance of B^2 is then 2/(T - 1) + (kappa - 3)/T with kappa the kurtosis of b, and the wide band is that of a
chi-square over its own n degrees of freedom, n = 2/variance, which has the same first two moments and is the exact band at kappa = 3.

Returns that overlap are refused, as bands and standard errors count T of them; the losses of `risk.losses` take them.
Arrays are (T,) for one book or (T, P) for P books on the same dates.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.special import gammaln
from scipy.stats import chi, chi2

from risk.checks import DataError, FloatArray, freeze
from risk.losses import check_books, check_positive, default_lags, mean_and_error, qlike

__all__ = [
    "BiasStatistic",
    "bias_statistic",
    "evaluate",
    "expected_deviation",
    "mean_rolling_deviation",
    "rolling_bias",
    "standardised_outcomes",
]

_TABLE = (
    *("books", "periods", "realised_volatility", "forecast_volatility", "bias", "standard_error", "kurtosis"),
    *("lower", "upper", "share_inside", "wide_lower", "wide_upper", "share_inside_wide"),
    *("rolling_deviation", "expected_deviation", "qlike", "inside"),
)


@dataclass(frozen=True)
class BiasStatistic:
    """Bias statistic of one or several books.

    Attributes
    ----------
    bias : float
        B, the mean over books.
    standard_error : float
        Newey-West, of that mean, from what each date adds to it: books that move together do not make it smaller; fat
        tails, and outcomes that cluster because the forecast lags, make it larger.
    books, periods : int
        P and T.
    kurtosis : float
        Of the outcomes, mean over books, at least 3. A sample's kurtosis tends to be too low in fat tails.
    lower, upper : float
        Band in which the B of one book lies with probability `confidence` if the forecast is right and outcomes are
        normal: exact.
    share_inside : float
        Share of the books in it.
    wide_lower, wide_upper, share_inside_wide : float
        The same, corrected for kurtosis.
    confidence : float
    """

    bias: float
    standard_error: float
    books: int
    periods: int
    kurtosis: float
    lower: float
    upper: float
    share_inside: float
    wide_lower: float
    wide_upper: float
    share_inside_wide: float
    confidence: float


def standardised_outcomes(
    realised: npt.ArrayLike,
    forecast: npt.ArrayLike,
    *,
    periods_per_year: float = 252,
    horizon: int = 1,
    step: int | None = None,
) -> FloatArray:
    """Return realised returns in units of their forecast volatility, shape of `realised`.

    Parameters
    ----------
    realised : array_like of shape (T,) or (T, P)
        Returns over `horizon` days each, decimals.
    forecast : array_like of the same shape
        Volatility per year, known before each return.
    periods_per_year : float
        Days in a year.
    horizon : int
        Days that a return spans.
    step : int, optional
        Days from one row to the next; by default `horizon`.

    Raises
    ------
    DataError
        If shapes disagree, an entry is not finite, a forecast is not positive, or `step` is below `horizon`: such returns
        overlap, and no band or standard error here would hold.

    Examples
    --------
    >>> standardised_outcomes([0.01, -0.02], [0.1587, 0.1587]).round(2).tolist()
    [1.0, -2.0]
    """
    r = check_books("realised", realised)
    s = check_positive("forecast", forecast, r.shape)
    if horizon < 1 or not periods_per_year > 0:
        raise DataError(f"`horizon` and `periods_per_year` must be positive; got {horizon!r} and {periods_per_year!r}.")
    if step is not None and step < horizon:
        raise DataError(
            f"`step` must be at least `horizon`; got {step} and {horizon}: returns overlap, so that T counts too much. Take "
            f"every {-(-horizon // step) if step > 0 else horizon}th row, or compare losses with `compare_losses`."
        )
    return freeze(r / (s * math.sqrt(horizon / periods_per_year)))


def _influence(outcomes: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return each book's B, shape (P,), and what each date adds to the books' mean of it, shape (T,)."""
    deviation = outcomes - outcomes.mean(axis=0)
    bias = np.sqrt((deviation**2).sum(axis=0) / (len(outcomes) - 1))
    safe = np.where(bias > 0, bias, 1.0)
    return bias, ((deviation**2 - bias**2) / (2 * safe)).mean(axis=1)


def _kurtosis(outcomes: FloatArray) -> float:
    deviation = outcomes - outcomes.mean(axis=0)
    square = (deviation**2).mean(axis=0)
    fourth = (deviation**4).mean(axis=0) / np.where(square > 0, square, 1.0) ** 2
    return max(float(fourth.mean()), 3.0)


def _band(periods: int, kurtosis: float, confidence: float) -> tuple[float, float]:
    n = 2.0 / (2.0 / (periods - 1) + (kurtosis - 3.0) / periods)
    low, high = chi2.ppf((1 - confidence) / 2, n), chi2.ppf((1 + confidence) / 2, n)
    return math.sqrt(low / n), math.sqrt(high / n)


def bias_statistic(
    outcomes: npt.ArrayLike, *, confidence: float = 0.95, kurtosis: float | None = None
) -> BiasStatistic:
    """Return the bias statistic of standardised outcomes with its standard error and bands.

    Parameters
    ----------
    outcomes : array_like of shape (T,) or (T, P)
        As `standardised_outcomes` returns them, T at least 2.
    confidence : float
        Of the bands.
    kurtosis : float, optional
        For the wide band, at least 1; by default that of the sample, where it is above 3.

    Raises
    ------
    DataError
        If there are fewer than two dates, an entry is not finite, or `confidence` or `kurtosis` is out of range.

    Notes
    -----
    For large T and normal outcomes the 95 % band is about 1 +- sqrt(2/T).

    References
    ----------
    Menchero, Morozov, Pasqua (2013), Predicting Risk at Short Horizons, MSCI; Satterthwaite (1946), An
    Approximate Distribution of Estimates of Variance Components, Biometrics Bulletin 2.

    Examples
    --------
    >>> result = bias_statistic([1.2, -0.7, 0.1, -1.4, 0.8])
    >>> round(result.bias, 4), round(result.lower, 4), round(result.upper, 4)
    (1.0654, 0.348, 1.6691)
    """
    array = check_books("outcomes", outcomes)
    b = array if array.ndim == 2 else array[:, None]
    T = len(b)
    if T < 2:
        raise DataError(f"`outcomes` must hold at least 2 periods; got {T}.")
    if not 0 < confidence < 1:
        raise DataError(f"`confidence` must lie between 0 and 1; got {confidence!r}.")
    if kurtosis is not None and not kurtosis >= 1:
        raise DataError(f"`kurtosis` must be at least 1, as any is; got {kurtosis!r}.")
    bias, influence = _influence(b)
    kappa = _kurtosis(b) if kurtosis is None else float(kurtosis)
    lower, upper = _band(T, 3.0, confidence)
    wide_lower, wide_upper = _band(T, kappa, confidence)
    return BiasStatistic(
        bias=float(bias.mean()),
        standard_error=mean_and_error(influence, min(default_lags(T), T // 5))[1],
        books=b.shape[1],
        periods=T,
        kurtosis=kappa,
        lower=lower,
        upper=upper,
        share_inside=float(((bias >= lower) & (bias <= upper)).mean()),
        wide_lower=wide_lower,
        wide_upper=wide_upper,
        share_inside_wide=float(((bias >= wide_lower) & (bias <= wide_upper)).mean()),
        confidence=confidence,
    )


def rolling_bias(outcomes: npt.ArrayLike, window: int) -> FloatArray:
    """Return the bias statistic of each `window` periods, at the row of the last; NaN before the first is complete.

    Parameters
    ----------
    outcomes : array_like of shape (T,) or (T, P)
    window : int
        Periods, at least 2.

    Raises
    ------
    DataError
        If `window` is below 2 or an entry is not finite.
    """
    b = check_books("outcomes", outcomes)
    if window < 2:
        raise DataError(f"`window` must be at least 2 periods; got {window}.")
    result = np.full(b.shape, np.nan)
    if len(b) >= window:
        windows = np.lib.stride_tricks.sliding_window_view(b, window, axis=0)
        result[window - 1 :] = windows.std(axis=-1, ddof=1)
    return freeze(result)


def mean_rolling_deviation(outcomes: npt.ArrayLike, window: int) -> float:
    """Return the mean over windows and books of |B - 1| (MRAD); NaN with fewer periods than a window.

    It sees risk that is overstated in one year and understated in another, which the whole sample's B averages out. Compare with
    `expected_deviation`, which no forecast beats on average. Parameters and errors as in `rolling_bias`.

    References
    ----------
    Menchero, Morozov, Pasqua (2013), Predicting Risk at Short Horizons, MSCI.
    """
    deviation = np.abs(rolling_bias(outcomes, window) - 1.0)[window - 1 :]
    return float(deviation.mean()) if deviation.size else math.nan


def expected_deviation(window: int) -> float:
    """Return the mean of |B - 1| over windows of independent normal outcomes whose forecast is right.

    Raises
    ------
    DataError
        If `window` is below 2.

    Notes
    -----
    With n = window - 1, B = chi_n/sqrt(n). E|B - 1| = 2 P(B < 1) - 1 + E B - 2 E[B; B < 1], and
    E[B; B < 1] = E B P(chi_{n+1} < sqrt n).

    Examples
    --------
    >>> round(expected_deviation(12), 2)
    0.17
    """
    if window < 2:
        raise DataError(f"`window` must be at least 2 periods; got {window}.")
    n = window - 1
    mean = math.sqrt(2 / n) * math.exp(gammaln((n + 1) / 2) - gammaln(n / 2))
    return float(2 * chi.cdf(math.sqrt(n), n) - 1 + mean - 2 * mean * chi.cdf(math.sqrt(n), n + 1))


def evaluate(
    books: Mapping[str, tuple[npt.ArrayLike, npt.ArrayLike]],
    *,
    periods_per_year: float = 252,
    horizon: int = 1,
    step: int | None = None,
    window: int = 252,
    confidence: float = 0.95,
) -> pd.DataFrame:
    """Return how right each forecast was: one row per name, for a book or for a family of books on the same dates.

    Parameters
    ----------
    books : mapping of str to (realised, forecast)
        Each pair of shape (T,) or (T, P), as `standardised_outcomes` takes them.
    periods_per_year, horizon, step
        As `standardised_outcomes`.
    window : int
        Rows of the rolling bias.
    confidence : float
        Of the bands.

    Returns
    -------
    DataFrame
        The fields of `BiasStatistic`; ``realised_volatility`` and ``forecast_volatility``, root mean squares per year over
        books and dates; ``rolling_deviation`` (MRAD) with ``expected_deviation`` beside it; ``qlike``, the mean loss of annual
        variances; ``inside``, whether the mean bias is in the wide band of one book.

    Raises
    ------
    DataError
        If there is no book, or as `standardised_outcomes`; the message names the book.
    """
    if not books:
        raise DataError("`books` must hold at least one pair of realised returns and forecasts.")
    rows = {}
    for name, (realised, forecast) in books.items():
        try:
            b = standardised_outcomes(realised, forecast, periods_per_year=periods_per_year, horizon=horizon, step=step)
            statistic = bias_statistic(b, confidence=confidence)
        except DataError as error:
            raise DataError(f"`books[{name!r}]`: {error}") from error
        v, h = np.asarray(realised, float) ** 2 * (periods_per_year / horizon), np.asarray(forecast, float) ** 2
        rows[name] = {
            **asdict(statistic),
            "realised_volatility": math.sqrt(float(v.mean())),
            "forecast_volatility": math.sqrt(float(h.mean())),
            "rolling_deviation": mean_rolling_deviation(b, window),
            "expected_deviation": expected_deviation(window),
            "qlike": float(qlike(v, h).mean()),
            "inside": statistic.wide_lower <= statistic.bias <= statistic.wide_upper,
        }
    return pd.DataFrame.from_dict(rows, orient="index")[list(_TABLE)].rename_axis("book")
