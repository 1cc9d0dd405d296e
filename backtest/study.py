"""A sweep by name: what is varied, the runs, and for sizes the curve that they lie on."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from backtest.capacity import CapacityCurve, capacity_curve, capacity_variants
from backtest.dataset import Dataset
from backtest.execution_study import execution_variants
from backtest.products import load_product
from backtest.simulator import Progress
from backtest.store import write_whole
from backtest.sweep import Sweep, sweep
from backtest.variants import BASE, Variant, read_variants, varied
from risk import DataError

__all__ = ["Study", "study"]

CURVE = "capacity.json"


@dataclass(frozen=True, eq=False)
class Study:
    """A sweep with what was asked of it.

    Attributes
    ----------
    sweep : Sweep
    curve : CapacityCurve or None
        Where sizes were varied.
    """

    sweep: Sweep
    curve: CapacityCurve | None

    def to_dict(self) -> dict[str, Any]:
        """Return everything for JSON; NaN is None."""
        rows = self.sweep.table.reset_index().astype(object)
        return {
            "out": str(self.sweep.folder),
            "base": self.sweep.variants[0].name,
            "variants": rows.where(rows.notna(), None).to_dict(orient="records"),
            "capacity": None if self.curve is None else self.curve.to_dict(),
        }


def study(
    data: Dataset,
    product: str,
    vary: str,
    out: str | Path,
    *,
    start: str | pd.Timestamp | None = None,
    end: str | pd.Timestamp | None = None,
    aum: float | None = None,
    workers: int = 2,
    progress: Progress = lambda _stage, _done: None,
) -> Study:
    """Return a sweep of a product by the name of what is varied.

    Parameters
    ----------
    data : Dataset
    product : str
        ``one``, ``supreme`` or the path of a product TOML file.
    vary : str
        ``execution``: `execution_variants`. ``capacity``: `capacity_variants`, and the curve through them, also in
        `out`/capacity.json. Otherwise the path of a TOML file as `read_variants` reads.
    out, start, end, workers, progress
        As for `sweep`.
    aum : float, optional
        Size of the product, around which sizes are varied. Default: the product's own.

    Raises
    ------
    DataError
        As `sweep`, `read_variants` and `capacity_curve`.
    """
    terms, mandate = load_product(product)
    if aum is not None:
        terms, mandate = varied(terms, mandate, Variant(BASE, {"product.aum": terms.size("aum", aum)}))
    if vary == "execution":
        variants = execution_variants(terms, mandate)
    elif vary == "capacity":
        variants = capacity_variants(terms)
    elif vary.endswith(".toml"):
        variants = read_variants(Path(vary))
    else:
        raise DataError(f"unknown --vary {vary!r}; give `execution`, `capacity` or the path of a TOML file.")
    done = sweep(data, (terms, mandate), variants, out, start=start, end=end, workers=workers, progress=progress)
    if vary != "capacity":
        return Study(done, None)
    curve = capacity_curve(done.runs)
    write_whole(done.folder / CURVE, json.dumps(curve.to_dict(), indent=2, allow_nan=False) + "\n")
    return Study(done, curve)
