"""What the manager promised: limits, alpha rule, risk aversion and trading-cost assumptions of a fund, as TOML."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from risk import DataError

__all__ = ["AlphaRule", "CostRule", "Mandate", "Tiers", "load_mandate", "make_spec", "read_spec"]

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Tier = Annotated[int, Field(ge=0)]


S = TypeVar("S", bound=BaseModel)


class Spec(BaseModel):
    """A frozen, closed specification: an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class AlphaRule(Spec):
    """Grinold's rule (Grinold 1994, Alpha is volatility times IC times score), annualised.

    alpha_i = information_coefficient * sigma_i * sqrt(252 / horizon_days) * score_i, with sigma_i the annual specific
    volatility and the score of mean 0 and standard deviation 1.
    """

    information_coefficient: Annotated[float, Field(gt=0, le=1)] = 0.03
    horizon_days: Positive = 20
    half_life_days: Positive | None = None
    """Trading days after which half of alpha is gone: the book is then aimed at what is left of it over the life of a position
    (`engine.decay`). Left out: it does not decay."""


class CostRule(Spec):
    """Trading-cost assumptions: the optimizer prices and the ledger charges the same ones."""

    half_spread_bps: NonNegative = 5.0
    commission_bps: NonNegative = 0.5
    impact_coefficient: NonNegative = 0.7
    """Y of the square-root law: average cost of a trade = Y sigma_day sqrt(value / daily dollar volume)."""
    borrow_fee_annual: NonNegative = 0.005
    expected_holding_days: Positive = 60
    """Trading days over which a trade's cost is spread; its inverse is the trading rate, the share of the way to its aim that the book
    goes in a day."""


class Tiers(Spec):
    """Which rows give way where a mandate relaxes, and in what order: tier 0 never, the highest tier first.

    By default the book stays neutral: styles give way before beta. Whatever the tiers, turnover gives way before any row, and
    position caps, gross and volatility never do.
    """

    net: Tier = 0
    country: Tier = 0
    sector: Tier = 0
    beta: Tier = 1
    style: Tier = 2


class Mandate(Spec):
    """Limits and preferences of a fund.

    A limit of 0 is an equality, a positive one a band around 0, and one that is left out is no limit. Weights are
    fractions of net asset value; volatility is per year; style exposures are sums of weight times standardised exposure.
    """

    name: str
    position_limit: Positive
    """Hard and monitored daily."""
    position_target: Positive
    """What the optimizer aims at, so that drift does not breach `position_limit`."""
    gross_limit: Positive
    risk_aversion: Positive
    net_limit: NonNegative | None = None
    country_limit: NonNegative | None = None
    sector_limit: NonNegative | None = None
    beta_limit: NonNegative | None = None
    style_limit: NonNegative | None = None
    volatility_limit: Positive | None = None
    volatility_target: Positive | None = None
    """Forecast volatility that the book is scaled towards, as far as all limits and trading costs let it: at most `volatility_limit`.
    Left out: `risk_aversion` alone sets the scale."""
    turnover_limit: Positive | None = None
    minimum_assets: Annotated[int, Field(ge=2)] = 20
    """A date with fewer assets than this is refused."""
    minimum_model_assets: Annotated[int, Field(ge=2)] = 20
    """A model that covers fewer assets than this on a date is left out of that date."""
    on_infeasible: Literal["stop", "hold", "relax"] = "stop"
    """On a date without a portfolio within all limits: end the run, leave the book as it is, or widen limits by `tiers`."""
    tiers: Tiers = Tiers()
    alpha: AlphaRule = AlphaRule()
    costs: CostRule = CostRule()
    assumed: tuple[str, ...] = ()
    """Fields that were never published by the fund and are our assumption."""

    @model_validator(mode="after")
    def _target_within_limit(self) -> Mandate:
        if self.position_target > self.position_limit:
            raise ValueError(
                f"position_target {self.position_target} must not exceed position_limit {self.position_limit}"
            )
        target, limit = self.volatility_target, self.volatility_limit
        if target is not None and limit is not None and target > limit:
            raise ValueError(f"volatility_target {target} must not exceed volatility_limit {limit}")
        known = {*type(self).model_fields, *(f"alpha.{field}" for field in AlphaRule.model_fields)}
        known |= {f"costs.{field}" for field in CostRule.model_fields}
        known |= {f"tiers.{field}" for field in Tiers.model_fields}
        unknown = sorted(set(self.assumed) - known)
        if unknown:
            raise ValueError(f"assumed names no field: {', '.join(unknown)}")
        return self


def read_spec(kind: type[S], path: Path) -> S:
    """Read a TOML file as a frozen specification.

    Raises
    ------
    DataError
        One paragraph that names the file, each wrong field, its value and what is allowed.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}). Give the path of a TOML file.") from error
    try:
        record = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise DataError(f"{path}: is not valid TOML ({error}).") from error
    return make_spec(kind, record, str(path))


def make_spec(kind: type[S], record: Mapping[str, Any], source: str) -> S:
    """Return a frozen specification of what was read from `source`, which the message of an error begins with.

    Raises
    ------
    DataError
        One paragraph that names each wrong field, its value and what is allowed.
    """
    try:
        return kind.model_validate(record)
    except ValidationError as error:
        raise DataError(f"{source}: {_explain(kind, error)}") from error


def _known_keys(kind: type[BaseModel], path: Sequence[int | str]) -> str:
    """Return the fields of the specification that `path` leads to."""
    inner: Any = kind
    for step in path:
        inner = inner.model_fields[str(step)].annotation
    return ", ".join(inner.model_fields)


def _explain(kind: type[BaseModel], error: ValidationError) -> str:
    parts = []
    for item in error.errors():
        field = ".".join(str(step) for step in item["loc"]) or "file"
        if item["type"] == "extra_forbidden":
            parts.append(f"unknown key `{field}`; known keys are {_known_keys(kind, item['loc'][:-1])}")
        else:
            parts.append(f"`{field}` = {item['input']!r}: {item['msg']}" if item["loc"] else item["msg"])
    return "; ".join(parts) + "."


def load_mandate(name: str) -> Mandate:
    """Return a mandate by the name of a preset (``one``, ``supreme``) or the path of a TOML file."""
    preset = resources.files("engine") / "mandates" / f"{name}.toml"
    if preset.is_file():
        with resources.as_file(preset) as path:
            return read_spec(Mandate, path)
    if not name.endswith(".toml"):
        raise DataError(f"unknown mandate {name!r}; give `one`, `supreme` or the path of a TOML file.")
    return read_spec(Mandate, Path(name))
