"""What a data set says about itself: `dataset.toml`, with a stated default for every key."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from risk import DataError

__all__ = ["DatasetSettings", "read_settings"]


class DatasetSettings(BaseModel):
    """Units and tolerances of a data set.

    Attributes
    ----------
    name : str
        Shown in reports; the folder's name where not given.
    source : str
        Where the data comes from, shown in reports.
    currency : str
        Currency of market caps and dollar volumes.
    return_kind : {"total", "price", "local", "local_price"}
        Total return or price return without dividends, both in `currency`; or either in each asset's own currency.
    close_kind : {"raw", "adjusted"}
        Whether past closes were restated for later splits and dividends.
    periods_per_year : int
        Trading days in a year.
    max_return : float
        A return above this (8.0 is +800 %) is refused as absurd.
    max_unknown_returns : float
        Largest share of the market's rows whose return may be missing after the asset's first row. Up to this share each
        is taken as 0 (value unchanged), counted and listed; above it the file is refused.
    stale_days : int
        Sessions of its country without a row after which an asset is gone.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = ""
    source: str = ""
    currency: str = Field(default="USD", pattern=r"^[A-Z]{3}$")
    return_kind: Literal["total", "price", "local", "local_price"] = "total"
    close_kind: Literal["raw", "adjusted"] = "raw"
    periods_per_year: int = Field(default=252, ge=1, le=366)
    max_return: float = Field(default=8.0, gt=0, allow_inf_nan=False)
    max_unknown_returns: float = Field(default=5e-6, ge=0, le=1)
    stale_days: int = Field(default=10, ge=1)

    @property
    def local(self) -> bool:
        """Whether returns are in each asset's own currency."""
        return self.return_kind in ("local", "local_price")

    @property
    def dividends_inside(self) -> bool:
        """Whether returns hold dividends; else they are paid on top, where the events list them."""
        return self.return_kind in ("total", "local")


def read_settings(folder: Path) -> DatasetSettings:
    """Return the settings of the data set in `folder`: its `dataset.toml`, or the defaults where it has none.

    Raises
    ------
    DataError
        If the file is no TOML, or a key is unknown or out of range.
    """
    path = folder / "dataset.toml"
    given: dict[str, object] = {}
    if path.is_file():
        try:
            given = tomllib.loads(path.read_text(encoding="utf-8"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise DataError(f"`dataset.toml` is no valid TOML: {error}. Correct that line.") from error
    try:
        return DatasetSettings.model_validate({"name": folder.resolve().name, **given})
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        known = ", ".join(DatasetSettings.model_fields)
        if first["type"] == "extra_forbidden":
            raise DataError(f"`dataset.toml`: unknown key `{key}`. Known keys are {known}.") from error
        raise DataError(f"`dataset.toml`: `{key}` is {first['input']!r}: {first['msg']}. Correct the value.") from error
