"""What if: the profit and loss of a portfolio under named shocks, in parts by factor that sum to the whole.

A stress is a shock f to the factors and e to the specific returns. Today's portfolio loses -(x'f + w'e), with x = X'w its
exposures of today. How likely that is says its Mahalanobis distance sqrt((f'F^+ f + sum_i e_i^2 / d_i) / years), in
standard deviations of a period of that many years.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from risk.checks import DataError, FloatArray, check_array
from risk.crowding import STYLE_FAMILIES, style_columns
from risk.model import FactorModel
from risk.scenario import Stress, check_size, check_years, make_stress, solve_covariance

__all__ = [
    "MONTH",
    "conditional_shock",
    "deleveraging",
    "factor_shock",
    "market_move",
    "reverse_stress",
    "worst_case",
]

MONTH = 1.0 / 12.0
"""Default period, in years, of a stress stated in standard deviations."""


def _checked(model: FactorModel, weights: npt.ArrayLike, years: float) -> tuple[FloatArray, float]:
    return check_array("weights", weights, (len(model.assets),)), check_years(years)


def _shock_vector(model: FactorModel, shocks: Mapping[str, float]) -> tuple[list[int], FloatArray]:
    column = {name: k for k, name in enumerate(model.factors)}
    unknown = [name for name in shocks if name not in column]
    if unknown or not shocks:
        raise DataError(
            f"`shocks` must name factors of the model; got {', '.join(map(repr, unknown)) or 'none'}. Its factors are "
            f"{', '.join(model.factors)}."
        )
    return [column[name] for name in shocks], check_array("shocks", list(shocks.values()), (len(shocks),))


def _said(shocks: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:+.4g}" for name, value in shocks.items())


def _period(years: float) -> str:
    months = f"{12 * years:.3g}"
    return f"{months} month" if months == "1" else f"{months} months"


def factor_shock(
    model: FactorModel, weights: npt.ArrayLike, name: str, shocks: Mapping[str, float], *, years: float = MONTH
) -> Stress:
    """Return the stress of an instantaneous shock to some factors; the others, and specific returns, stay put.

    Parameters
    ----------
    model : FactorModel
    weights : array_like of shape (N,)
        Fractions of net asset value.
    name : str
    shocks : mapping of str to float
        Returns of factors by name.
    years : float
        Period that `distance` is measured against.

    Raises
    ------
    DataError
        If a factor is not the model's, a number is not finite, or `years` is not positive.

    Examples
    --------
    >>> import numpy as np
    >>> model = FactorModel(["A", "B"], ["market"], [[1.5], [0.5]], [[0.04]], [0.09, 0.09])
    >>> round(factor_shock(model, [0.5, 0.5], "crash", {"market": -0.2}).loss, 4)
    0.2
    """
    w, years = _checked(model, weights, years)
    columns, values = _shock_vector(model, shocks)
    vector = np.zeros(len(model.factors))
    vector[columns] = values
    return make_stress(model, w, name, f"{_said(shocks)}; other factors 0", vector, years=years)


def conditional_shock(
    model: FactorModel, weights: npt.ArrayLike, name: str, shocks: Mapping[str, float], *, years: float = MONTH
) -> Stress:
    """Return the stress of a shock to some factors with the move of the others that the covariance then expects.

    Parameters
    ----------
    shocks : mapping of str to float
        Returns of the factors S by name.
    model, weights, name, years
        As `factor_shock`.

    Raises
    ------
    DataError
        As `factor_shock`, and if the shocks contradict each other: F_SS has lost rank and they lie outside its range, or
        a factor without variance is to move.

    Notes
    -----
    E[f | f_S = s] = F_.S F_SS^-1 s. Where F_SS has lost rank, the pseudo-inverse on the scale of correlations, its
    eigenvalues below 1e-10 of the largest taken as 0: for shocks in the range of F_SS the expectation is unique.

    References
    ----------
    Kupiec (1998), Stress Testing in a Value at Risk Framework, Journal of Derivatives 6.
    """
    w, years = _checked(model, weights, years)
    columns, values = _shock_vector(model, shocks)
    F = model.factor_covariance
    solved, squared = solve_covariance(F[np.ix_(columns, columns)], values)
    if not np.isfinite(squared):
        raise DataError(
            f"`shocks` contradict the factor covariance: these factors cannot move by {_said(shocks)} together. Shock "
            "fewer of them, or use `factor_shock`, which asks for no likelihood."
        )
    vector = F[:, columns] @ solved
    vector[columns] = values  # to the last digit
    definition = f"{_said(shocks)}; the other factors as expected given these"
    return make_stress(model, w, name, definition, vector, years=years)


def market_move(
    model: FactorModel,
    weights: npt.ArrayLike,
    name: str,
    benchmark: npt.ArrayLike,
    move: float,
    *,
    years: float = MONTH,
) -> Stress:
    """Return the stress of a move of a benchmark portfolio, every asset following by its predicted beta.

    Parameters
    ----------
    benchmark : array_like of shape (N,)
        Its weights.
    move : float
        Return of the benchmark.
    model, weights, name, years
        As `factor_shock`.

    Raises
    ------
    DataError
        If an array has another shape, a number is not finite, or the benchmark holds nothing.

    Notes
    -----
    With y = X'b, E[f | r_b = m] = F y m / b'V b and E[e | r_b = m] = d b m / b'V b: the loss is beta times the move.
    """
    w, years = _checked(model, weights, years)
    b = check_array("benchmark", benchmark, w.shape)
    if not b.any():
        raise DataError("`benchmark` must hold at least one asset; all its weights are 0, so nothing follows it.")
    size = float(check_array("move", move, ())) / model.variance(b)
    return make_stress(
        model,
        w,
        name,
        f"benchmark {move:+.4g}; every asset by its predicted beta",
        model.factor_covariance @ (model.exposures.T @ b) * size,
        years=years,
        specific_shocks=model.specific_variance * b * size,
    )


def worst_case(
    model: FactorModel, weights: npt.ArrayLike, name: str, size: float, *, years: float = MONTH, specific: bool = False
) -> Stress:
    """Return the costliest of all scenarios of a given Mahalanobis distance.

    Parameters
    ----------
    size : float
        Distance, in standard deviations of a period of `years`; >= 0.
    specific : bool
        Whether specific returns share in the scenario; `size` is then the distance of both together.
    model, weights, name, years
        As `factor_shock`.

    Raises
    ------
    DataError
        If a number is out of its range or not finite.

    Notes
    -----
    The largest loss over {f : f'F^+ f <= size^2 years} is size sqrt(years x'F x), at f = -size sqrt(years) F x /
    sqrt(x'F x); with specific returns, size sqrt(years) sigma at f = -size sqrt(years) F x / sigma, e likewise. A
    portfolio without factor risk loses nothing, and `note` says so.

    References
    ----------
    Studer (1997), Maximum Loss for Measurement of Market Risk, ETH Zurich.
    """
    w, years = _checked(model, weights, years)
    reach = check_size("size", size) * float(np.sqrt(years))
    return _steepest(model, w, name, "costliest scenario", reach, years=years, specific=specific)


def reverse_stress(
    model: FactorModel, weights: npt.ArrayLike, name: str, loss: float, *, years: float = MONTH, specific: bool = False
) -> Stress:
    """Return the likeliest scenario that loses a given amount: that of the smallest Mahalanobis distance.

    Parameters
    ----------
    loss : float
        Fraction of net asset value; > 0.
    specific : bool
        Whether specific returns share in the scenario.
    model, weights, name, years
        As `factor_shock`.

    Raises
    ------
    DataError
        If a number is out of its range, or the portfolio has no risk of that kind, so that no scenario loses anything.

    Notes
    -----
    f = -loss F x / x'F x, at the distance loss / sqrt(years x'F x); with specific returns sigma^2 stands for x'F x.

    References
    ----------
    Breuer, Jandacka, Rheinberger, Summer (2009), How to Find Plausible, Severe and Useful Stress Scenarios, International
    Journal of Central Banking 5.
    """
    w, years = _checked(model, weights, years)
    if not check_size("loss", loss) > 0:
        raise DataError(f"`loss` must be positive; got {loss}.")
    deviation = _deviation(model, w, specific)
    if deviation == 0:
        raise DataError(
            f"`loss` of {loss:g} is out of reach: the portfolio has no {'risk' if specific else 'factor risk'}. "
            f"{'Give a portfolio that holds something.' if specific else 'Let specific returns share: specific=True.'}"
        )
    return _steepest(
        model,
        w,
        name,
        f"likeliest scenario that loses {loss:.4g}",
        loss / deviation,
        years=years,
        specific=specific,
    )


def _deviation(model: FactorModel, w: FloatArray, specific: bool) -> float:
    """Return sqrt(x'F x), or sigma with specific risk, per year; 0 where no more than rounding is left of either."""
    x, deviation = model.exposures.T @ w, np.sqrt(np.maximum(np.diag(model.factor_covariance), 0.0))
    own = float(x @ model.factor_covariance @ x)
    # Rounding leaves 1e-16 of the terms that cancel: squares of exposures in x'F x, weights times exposures in X'w.
    in_product = 1e-14 * float(np.abs(x) @ deviation) ** 2
    in_exposures = (1e-14 * float((np.abs(model.exposures).T @ np.abs(w)) @ deviation)) ** 2
    factor = own if own > max(in_product, in_exposures) else 0.0
    return float(np.sqrt(factor + (float((model.specific_variance * w) @ w) if specific else 0.0)))


def _steepest(
    model: FactorModel, w: FloatArray, name: str, definition: str, reach: float, *, years: float, specific: bool
) -> Stress:
    """Return the scenario -reach V w / sigma: in the metric of V, the direction of steepest loss."""
    deviation = _deviation(model, w, specific)
    scale = reach / deviation if deviation > 0 else 0.0
    whose = "factor and specific returns" if specific else "factor returns"
    size = reach / np.sqrt(years)
    return make_stress(
        model,
        w,
        name,
        f"{definition}, {whose} {size:.4g} standard deviations of {_period(years)} away",
        -scale * (model.factor_covariance @ (model.exposures.T @ w)),
        years=years,
        specific_shocks=-scale * model.specific_variance * w if specific else None,
        note="" if deviation > 0 else "the portfolio has no such risk: no scenario loses anything",
    )


def deleveraging(
    model: FactorModel,
    weights: npt.ArrayLike,
    name: str,
    size: float = 3.0,
    *,
    families: Sequence[str] = STYLE_FAMILIES,
    specific_size: float = 0.0,
    years: float = MONTH / 4,
) -> Stress:
    """Return the stress of all holders of style portfolios leaving at once, each style against the portfolio.

    Parameters
    ----------
    size : float
        Move of each style in its standard deviations of a period of `years`; >= 0.
    families : sequence of str
        Families of factors that count as styles.
    specific_size : float
        Move of each asset's specific return against the portfolio, in its standard deviations, where others hold the
        same names; 0: none.
    model, weights, name, years
        As `factor_shock`; the period is a week by default.

    Raises
    ------
    DataError
        If a number is out of its range, or the model has no factor of `families`.

    Notes
    -----
    f_k = -sign(x_k) size sqrt(years F_kk): the loss, size sqrt(years) sum_k |x_k| sqrt(F_kk), is each style's own loss
    added up, as if they fell together. `distance` says how far that is from what their correlations expect.

    References
    ----------
    Khandani, Lo (2011), What Happened to the Quants in August 2007?, Journal of Financial Markets 14.
    """
    w, years = _checked(model, weights, years)
    chosen, root = style_columns(model, families), float(np.sqrt(years))
    deviation = np.zeros(len(model.factors))
    deviation[chosen] = np.sqrt(np.maximum(np.diag(model.factor_covariance)[chosen], 0.0))
    own = check_size("specific_size", specific_size)
    said = f"each {' and '.join(families)} factor {size:g} standard deviations of {_period(years)} against the book"
    if own:
        said += f", each specific return {own:g}"
    return make_stress(
        model,
        w,
        name,
        said,
        -np.sign(model.exposures.T @ w) * check_size("size", size) * root * deviation,
        years=years,
        specific_shocks=-np.sign(w) * own * root * np.sqrt(model.specific_variance) if own else None,
    )
