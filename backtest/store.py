"""The run folder: its tables and their columns, and a finished run as it is read."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from risk import DataError, FactorModel

__all__ = [
    "FORMAT",
    "LATER_TABLES",
    "SCHEMAS",
    "Run",
    "code_fingerprint",
    "partial_of",
    "working_folder",
    "write_whole",
]

FORMAT = 1
"""Version of the run folder; a folder of a later one is refused."""
_DATE, _NAME, _NUMBER = pa.timestamp("ms"), pa.string(), pa.float64()


def _schema(dates: str, names: str, numbers: str, extra: Mapping[str, pa.DataType] | None = None) -> pa.Schema:
    fields = [(name, _DATE) for name in dates.split()]
    fields += [(name, _NAME) for name in names.split()]
    fields += [(name, _NUMBER) for name in numbers.split()]
    return pa.schema(fields + list((extra or {}).items()))


SCHEMAS: dict[str, pa.Schema] = {
    "nav": _schema(
        "date",
        "",
        "nav gross_return cost financing return_before_fees management_fee incentive_fee net_return nav_per_share cash gross net turnover market_return forecast calibrated_forecast",
    ),
    "lines": _schema("date", "line", "amount"),
    "deals": _schema(
        "date requested",
        "investor kind outcome detail",
        "amount units price management_fee incentive_fee",
        {"series": pa.int64()},
    ),
    "shares": _schema(
        "date opened",
        "investor",
        "units nav_per_unit high_water_mark accrued_fee value",
        {"series": pa.int64()},
    ),
    "weights": _schema("date", "asset", "target weight"),
    "positions": _schema("date", "asset", "shares price value pnl"),
    "trades": _schema("date decided", "asset reason", "shares price trade cost"),
    "solves": _schema(
        "date predictions_date",
        "status method fallback relaxed",
        "primal_residual dual_residual complementarity gap objective volatility multiplier gross",
        {
            "iterations": pa.int64(),
            "free_directions": pa.int64(),
            "assets": pa.int64(),
            "models": pa.int64(),
            "binding": pa.list_(_NAME),
        },
    ),
    "duals": _schema("date", "limit", "price"),
    "exposures": _schema("date", "factor", "exposure forecast_risk limit_lower limit_upper"),
    "signals": _schema("date", "asset", "meta_model alpha benchmark_weight"),
    "meta_model": _schema(
        "date", "model reason", "stake", {"used": pa.bool_(), "coverage": pa.int64(), "filled": pa.int64()}
    ),
    "assets": _schema("date", "asset country sector", "traded_value"),
    "factor_returns": _schema("date", "factor", "factor_return exposure"),
    "group_returns": _schema("date", "family group", "weight group_return"),
    "universe": _schema("date", "reason", "", {"assets": pa.int64()}),
    "notices": _schema("date", "kind asset detail", "amount"),
    "contribution": _schema("date", "model", "stake true_contribution mask_standard_error"),
    "gradient": _schema("date", "asset", "gradient"),
}
"""Columns of every table of a run folder, with their types."""

LATER_TABLES = frozenset({"contribution", "gradient"})
"""Tables that `metafolio attribute` adds to a finished run."""


def code_fingerprint() -> str:
    """Return the SHA-256 of metafolio's own source and presets: what decided the numbers, beside data and mandate."""
    root = Path(__file__).resolve().parent.parent
    digest = hashlib.sha256()
    for room in ("risk", "engine", "backtest"):
        for path in sorted((root / room).rglob("*")):
            if path.suffix in {".py", ".toml"}:
                digest.update(path.relative_to(root).as_posix().encode())
                digest.update(path.read_bytes())
    return digest.hexdigest()


def partial_of(out: Path) -> Path:
    """Return the name under which `out` is written until it is whole.

    Raises
    ------
    DataError
        If `out` has no name of its own, such as ``.`` or ``/``.
    """
    if out.name in {"", ".."}:
        raise DataError(
            f"--out {str(out)!r} does not name what is to be written. Give it a name, such as {out / 'out'}."
        )
    return out.with_name(out.name + ".partial")


def write_whole(out: Path, text: str) -> Path:
    """Write a file beside its name and rename it, so that it is there whole or not at all; return its path.

    Raises
    ------
    DataError
        If it cannot be written.
    """
    partial = partial_of(out)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        try:
            partial.write_text(text, encoding="utf-8")
            partial.replace(out)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise DataError(f"{out}: cannot be written ({error.strerror}). Give another --out.") from error
    return out


@contextmanager
def working_folder(folder: Path, remedy: str) -> Iterator[Path]:
    """Make a folder to work in, and remove it if the work fails.

    Parameters
    ----------
    folder : Path
    remedy : str
        What to do where it cannot be made.

    Raises
    ------
    DataError
        If it exists already or cannot be made.
    """
    if folder.exists():
        raise DataError(
            f"`{folder}` is in the way: {folder.name} is left from an unfinished run, or in use by one. Remove it and try again."
        )
    try:
        folder.mkdir(parents=True)
    except OSError as error:
        raise DataError(f"`{folder.parent}` cannot be written ({error.strerror}). {remedy}") from error
    try:
        yield folder
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


class Run:
    """A finished run, read lazily from its folder.

    Parameters
    ----------
    folder : path-like

    Raises
    ------
    DataError
        If the folder holds no finished run.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        path = self.folder / "run.json"
        if not path.is_file():
            raise DataError(
                f"{self.folder}: holds no finished run (no run.json). Give a folder that `metafolio backtest` made."
            )
        try:
            self.record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise DataError(f"{path}: is no valid JSON ({error}). Run the backtest again.") from error
        if self.record.get("format", 1) > FORMAT:
            raise DataError(
                f"{self.folder}: was made by a later version of metafolio (folder format {self.record['format']}; this one "
                f"reads up to {FORMAT}). Install that version, or run the backtest again."
            )

    def has(self, table: str) -> bool:
        """Return True where the run folder holds this table."""
        return (self.folder / f"{table}.parquet").is_file()

    def table(self, name: str) -> pd.DataFrame:
        """Return a table by its name in `SCHEMAS`."""
        path = self.folder / f"{name}.parquet"
        if not path.is_file():
            remedy = "run `metafolio attribute` on it" if name in LATER_TABLES else "run the backtest again"
            raise DataError(f"{path}: is not there; {remedy}.")
        return pd.read_parquet(path)

    @property
    def nav(self) -> pd.DataFrame:
        """Daily account of the fund, indexed by date."""
        return self.table("nav").set_index("date")

    def model_dates(self) -> list[pd.Timestamp]:
        """Return the dates from which a stored risk model is in force."""
        return [
            pd.Timestamp(path.name.removeprefix("date=")) for path in sorted((self.folder / "models").glob("date=*"))
        ]

    def model(self, date: pd.Timestamp) -> FactorModel:
        """Return the risk model stored for a decision date."""
        folder = self.folder / "models" / f"date={date:%Y-%m-%d}"
        exposures = pd.read_parquet(folder / "exposures.parquet").set_index("asset")
        covariance = pd.read_parquet(folder / "factor_covariance.parquet").set_index("factor")
        specific = pd.read_parquet(folder / "specific_variance.parquet")["specific_variance"]
        return FactorModel(exposures.index, exposures.columns, exposures.to_numpy(), covariance.to_numpy(), specific)

    def models(self) -> Iterator[tuple[pd.Timestamp, FactorModel]]:
        """Yield each decision date with its risk model."""
        for date in self.model_dates():
            yield date, self.model(date)
