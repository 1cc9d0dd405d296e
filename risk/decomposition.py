"""Where a portfolio's forecast risk comes from: factors, specific risk, assets, groups and sleeves, in parts that sum to the whole.

With x = X'w, the volatility is sigma = sqrt(x'F x + sum_i d_i w_i^2). It is homogeneous of degree 1 in w, so by Euler the
contributions w_i (V w)_i / sigma sum to it, and with them those of any sleeves s that sum to w: s'V w / sigma.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.sparse import csr_array

from risk.checks import DataError, FloatArray, check_array, check_labels, freeze
from risk.model import FactorModel

__all__ = ["SLEEVE_TOLERANCE", "Decomposition", "Parts", "decompose", "family"]

SLEEVE_TOLERANCE = 1e-12
"""Sleeves must meet each weight to this fraction of net asset value: rounding, and no more."""


def family(factor: str) -> str:
    """Return the family of a factor: what stands before the colon, or the whole name.

    Examples
    --------
    >>> family("country:US"), family("market")
    ('country', 'market')
    """
    return factor.partition(":")[0]


@dataclass(frozen=True, eq=False)
class Parts:
    """Forecast risk of a portfolio by G parts of it that sum to it: the groups of its assets, or its sleeves.

    Attributes
    ----------
    name : str
        Of the grouping: ``country``, say.
    labels : tuple of str, length G
        Groups by name; sleeves in the order given.
    net, gross : ndarray of shape (G,)
        Sum of weights and of their absolute values, fractions of net asset value.
    exposures : ndarray of shape (G, K)
        X'w of the part alone: they sum to the portfolio's.
    volatility : ndarray of shape (G,)
        Of the part if it stood alone, per year. These do not sum to the portfolio's.
    factor_contribution, specific_contribution : ndarray of shape (G,)
        Per year; with s the part, s'X F x / sigma and s'(d w) / sigma.
    """

    name: str
    labels: tuple[str, ...]
    net: FloatArray
    gross: FloatArray
    exposures: FloatArray
    volatility: FloatArray
    factor_contribution: FloatArray
    specific_contribution: FloatArray

    @property
    def contribution(self) -> FloatArray:
        """Covariance with the portfolio over its volatility, s'V w / sigma, per year, shape (G,): sums to the portfolio's volatility."""
        return freeze(self.factor_contribution + self.specific_contribution)

    @property
    def correlation(self) -> FloatArray:
        """Forecast correlation of each part with the whole portfolio, shape (G,); 0 for an empty part."""
        alone = self.volatility > 0
        return freeze(np.where(alone, self.contribution / np.where(alone, self.volatility, 1.0), 0.0))

    def table(self) -> pd.DataFrame:
        """Return one row per part: net, gross, volatility, contribution with its two halves, and correlation."""
        columns = ("net", "gross", "volatility", "contribution", "factor_contribution", "specific_contribution")
        data = {column: getattr(self, column) for column in (*columns, "correlation")}
        return pd.DataFrame(data, index=pd.Index(self.labels, name=self.name))


@dataclass(frozen=True, eq=False)
class Decomposition:
    """Forecast risk of a portfolio in parts. All of an empty portfolio's parts are 0.

    Attributes
    ----------
    assets : tuple of str, length N
    factors : tuple of str, length K
    volatility : float
        sigma = sqrt(w'Vw), per year.
    factor_variance, specific_variance : float
        Parts of sigma^2, per year, squared: they sum to it.
    exposures : ndarray of shape (K,)
        x = X'w.
    factor_volatility : ndarray of shape (K,)
        Of each factor, per year.
    factor_correlation : ndarray of shape (K,)
        rho: of each factor with the portfolio.
    factor_marginal : ndarray of shape (K,)
        Change of volatility per unit of exposure, (F x)_k / sigma, per year: factor volatility times correlation.
    factor_contribution : ndarray of shape (K,)
        Exposure times volatility times correlation, x_k (F x)_k / sigma, per year.
    specific_contribution : float
        Per year; with `factor_contribution` it sums to `volatility`.
    families : tuple of str, length J
        Families of factors, in the order of `factors`.
    family_contribution : ndarray of shape (J,)
        Sum of its factors' contributions, per year; with `specific_contribution` they sum to `volatility`.
    family_volatility : ndarray of shape (J,)
        Of the family's exposures alone, sqrt(x_J'F_JJ x_J), per year. These do not sum.
    marginal : ndarray of shape (N,)
        Change of volatility per unit of weight, (V w)_i / sigma, per year.
    contribution : ndarray of shape (N,)
        w_i times `marginal`, per year: sums to `volatility`.
    groups : tuple of Parts
        One per grouping asked for.
    sleeves : Parts or None
        Of the sleeves given.
    """

    assets: tuple[str, ...]
    factors: tuple[str, ...]
    volatility: float
    factor_variance: float
    specific_variance: float
    exposures: FloatArray
    factor_volatility: FloatArray
    factor_correlation: FloatArray
    factor_marginal: FloatArray
    factor_contribution: FloatArray
    specific_contribution: float
    families: tuple[str, ...]
    family_contribution: FloatArray
    family_volatility: FloatArray
    marginal: FloatArray
    contribution: FloatArray
    groups: tuple[Parts, ...] = ()
    sleeves: Parts | None = None

    @property
    def specific_share(self) -> float:
        """Specific variance as a share of variance; 0 for an empty portfolio."""
        total = self.factor_variance + self.specific_variance
        return self.specific_variance / total if total > 0 else 0.0

    @property
    def factor_share(self) -> float:
        """Factor variance as a share of variance; 0 for an empty portfolio."""
        total = self.factor_variance + self.specific_variance
        return self.factor_variance / total if total > 0 else 0.0

    def group(self, name: str) -> Parts:
        """Return the parts of one grouping.

        Raises
        ------
        DataError
            If the portfolio was not grouped by `name`.
        """
        for parts in self.groups:
            if parts.name == name:
                return parts
        known = ", ".join(parts.name for parts in self.groups) or "nothing"
        raise DataError(f"`name` must be one of the groupings; got {name!r}, grouped by {known}. Pass it in `groups`.")


@dataclass(frozen=True, eq=False)
class _Whole:
    """What every part is measured against."""

    model: FactorModel
    weights: FloatArray
    covariance: FloatArray  # F x, of each factor with the portfolio, times sigma
    inverse: float  # 1 / sigma, 0 for an empty portfolio

    def parts(
        self,
        name: str,
        labels: tuple[str, ...],
        net: FloatArray,
        gross: FloatArray,
        exposures: FloatArray,
        specific_variance: FloatArray,
        specific_covariance: FloatArray,
    ) -> Parts:
        variance = ((exposures @ self.model.factor_covariance) * exposures).sum(axis=1) + specific_variance
        return Parts(
            name=name,
            labels=labels,
            net=freeze(net),
            gross=freeze(gross),
            exposures=freeze(exposures),
            volatility=freeze(np.sqrt(np.maximum(variance, 0.0))),
            factor_contribution=freeze(exposures @ self.covariance * self.inverse),
            specific_contribution=freeze(specific_covariance * self.inverse),
        )


def _codes(name: str, labels: Sequence[str], n: int) -> tuple[npt.NDArray[np.intp], tuple[str, ...]]:
    """Return the code of each asset's group and the groups' names, in alphabetical order."""
    values = np.asarray(labels, dtype=object)
    if values.shape != (n,):
        raise DataError(f"`groups[{name!r}]` must have shape ({n},), a label for each asset; got {values.shape}.")
    codes, found = pd.factorize(values)
    texts = [str(label) for label in found]
    if (codes < 0).any() or "" in texts:
        absent = int(np.argmax(codes < 0)) if (codes < 0).any() else int(np.argmax(values == ""))
        raise DataError(
            f"`groups[{name!r}]` must hold a label for each asset; position {absent} has none. Name the group of those "
            "without one, '(none)' say: no asset's risk is left out."
        )
    order = sorted(range(len(texts)), key=texts.__getitem__)
    place = np.empty(len(order), dtype=np.intp)
    place[order] = np.arange(len(order))
    return place[codes], check_labels(f"groups[{name!r}]", [texts[code] for code in order])


def _group(whole: _Whole, name: str, labels: Sequence[str]) -> Parts:
    w, model = whole.weights, whole.model
    codes, names = _codes(name, labels, len(w))
    n, groups = len(w), len(names)
    # One weight per column: the product with X costs N K, however many groups there are.
    split = csr_array((w, (codes, np.arange(n))), shape=(groups, n))

    def sums(values: FloatArray) -> FloatArray:
        return np.asarray(np.bincount(codes, weights=values, minlength=groups), dtype=np.float64)

    specific = sums(model.specific_variance * w * w)
    return whole.parts(
        name,
        names,
        net=sums(w),
        gross=sums(np.abs(w)),
        exposures=np.asarray(split @ model.exposures),
        specific_variance=specific,
        specific_covariance=specific,
    )


def _sleeves(whole: _Whole, sleeves: npt.ArrayLike, names: Sequence[str], tolerance: float) -> Parts:
    labels = check_labels("sleeve_names", names)
    w, d = whole.weights, whole.model.specific_variance
    S = check_array("sleeves", sleeves, (len(labels), len(w)))
    gap = np.abs(S.sum(axis=0) - w)
    if gap.max() > tolerance:
        worst = int(np.argmax(gap))
        raise DataError(
            f"`sleeves` must sum to `weights` within {tolerance:g}; {whole.model.assets[worst]!r} is off by "
            f"{gap[worst]:.3g} of net asset value. Give what no model explains a sleeve of its own, '(fund:book)' say."
        )
    return whole.parts(
        "sleeve",
        labels,
        net=S.sum(axis=1),
        gross=np.abs(S).sum(axis=1),
        exposures=S @ whole.model.exposures,
        specific_variance=(S * S) @ d,
        specific_covariance=S @ (d * w),
    )


def _families(factors: tuple[str, ...], x: FloatArray, F: FloatArray) -> tuple[tuple[str, ...], FloatArray, FloatArray]:
    """Return the families, their volatility alone, and the (J, K) table of who belongs to which."""
    names = tuple(dict.fromkeys(family(factor) for factor in factors))
    belongs = np.array([[family(factor) == name for factor in factors] for name in names], dtype=np.float64)
    alone = belongs * x
    variance = ((alone @ F) * alone).sum(axis=1)
    return names, np.sqrt(np.maximum(variance, 0.0)), belongs


def decompose(
    model: FactorModel,
    weights: npt.ArrayLike,
    *,
    groups: Mapping[str, Sequence[str]] | None = None,
    sleeves: npt.ArrayLike | None = None,
    sleeve_names: Sequence[str] | None = None,
    tolerance: float = SLEEVE_TOLERANCE,
) -> Decomposition:
    """Return the portfolio's forecast volatility by factor, family, specific risk, asset, group and sleeve.

    Parameters
    ----------
    model : FactorModel
    weights : array_like of shape (N,)
        Fractions of net asset value in the order of `model.assets`.
    groups : mapping of str to sequence of str of length N, optional
        Groupings by name, each with a label for every asset: ``{"country": [...], "sector": [...]}``.
    sleeves : array_like of shape (S, N), optional
        Portfolios that sum to `weights`: those of the models behind it, say.
    sleeve_names : sequence of str of length S, optional
        Wanted with `sleeves`.
    tolerance : float
        How far the sleeves of an asset may be from its weight, a fraction of net asset value. Their contributions meet
        the volatility only as well as they meet the weights.

    Returns
    -------
    Decomposition

    Raises
    ------
    DataError
        If an array has another shape or an entry is not finite, an asset has no label in a grouping, the sleeves do not
        sum to `weights`, or they are given without names.

    References
    ----------
    Grinold, Kahn (2000), Active Portfolio Management, chapter 3; Menchero, Davis (2011), Risk Contribution Is Exposure
    Times Volatility Times Correlation, Journal of Portfolio Management 37.

    Examples
    --------
    >>> import numpy as np
    >>> model = FactorModel(["A", "B"], ["market"], np.ones((2, 1)), [[0.04]], [0.09, 0.09])
    >>> parts = decompose(model, [0.6, 0.4], groups={"country": ["US", "FR"]})
    >>> round(parts.volatility, 4), round(parts.factor_share, 4)
    (0.2946, 0.4608)
    >>> parts.group("country").contribution.round(4).tolist()
    [0.1032, 0.1914]
    """
    w = check_array("weights", weights, (len(model.assets),))
    x = model.exposures.T @ w
    covariance = model.factor_covariance @ x
    # x'F x of a singular F may round to just below 0; it is kept, so that the parts sum.
    factor_variance, specific = float(x @ covariance), model.specific_variance * w
    specific_variance = float(specific @ w)
    sigma = float(np.sqrt(max(factor_variance + specific_variance, 0.0)))
    inverse = 1.0 / sigma if sigma > 0 else 0.0
    deviation = np.sqrt(np.maximum(np.diag(model.factor_covariance), 0.0))
    marginal = (model.exposures @ covariance + specific) * inverse
    contribution = x * covariance * inverse
    families, family_volatility, belongs = _families(model.factors, x, model.factor_covariance)
    whole = _Whole(model, w, covariance, inverse)
    if (sleeves is None) != (sleeve_names is None):
        raise DataError("`sleeves` and `sleeve_names` must be given together; one of them is missing.")
    return Decomposition(
        assets=model.assets,
        factors=model.factors,
        volatility=sigma,
        factor_variance=factor_variance,
        specific_variance=specific_variance,
        exposures=freeze(x),
        factor_volatility=freeze(deviation),
        factor_correlation=freeze(covariance * inverse / np.where(deviation > 0, deviation, 1.0)),
        factor_marginal=freeze(covariance * inverse),
        factor_contribution=freeze(contribution),
        specific_contribution=specific_variance * inverse,
        families=families,
        family_contribution=freeze(belongs @ contribution),
        family_volatility=freeze(family_volatility),
        marginal=freeze(marginal),
        contribution=freeze(w * marginal),
        groups=tuple(_group(whole, name, labels) for name, labels in (groups or {}).items()),
        sleeves=None if sleeves is None or sleeve_names is None else _sleeves(whole, sleeves, sleeve_names, tolerance),
    )
