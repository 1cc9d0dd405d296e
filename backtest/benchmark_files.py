"""Where the benchmark models' predictions go: beside the market they were computed from, or in a copy of the data set.

Everything is written under a `.partial` name and renamed when it is whole.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd

from backtest.dataset import OPTIONAL_FILES
from backtest.store import partial_of, working_folder
from risk import DataError

__all__ = ["open_target", "write_date", "write_equal_stakes"]

REMEDY = "Copy the data set to a folder of your own, or name such a folder as output."

COPIED = ("assets", "market", *(name for name in OPTIONAL_FILES if name != "stakes"))


@contextmanager
def open_target(source: Path, out: Path) -> Iterator[Path]:
    """Give a folder to write `stakes.parquet` and date files to; when the block ends well, they are in place in `out`.

    Parameters
    ----------
    source : Path
        The data set's folder.
    out : Path
        The same folder; or another, which becomes a copy of the data set with its own predictions and stakes.

    Raises
    ------
    DataError
        If there are predictions or stakes already, `out` is another folder that is not empty, something is left from an
        unfinished run, or `out` cannot be written.
    """
    if out.resolve() == source.resolve():
        for name in ("predictions", "stakes.parquet", "stakes.csv"):
            if (source / name).exists():
                raise DataError(
                    f"`{source / name}` exists already and is not overwritten. Remove it, or name another folder to "
                    "write a copy of the data set with the benchmark models to."
                )
        with working_folder(source / "predictions.partial", REMEDY) as work:
            yield work
            (work / "stakes.parquet").rename(source / "stakes.parquet")
            work.rename(source / "predictions")
        return
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DataError(f"`{out}` exists already and is not an empty folder. Name another, or remove it first.")
    with working_folder(partial_of(out), REMEDY) as copy:
        _copy_data(source, copy)
        work = copy / "predictions"
        work.mkdir()
        yield work
        (work / "stakes.parquet").rename(copy / "stakes.parquet")
        if out.exists():
            out.rmdir()
        copy.rename(out)


def _copy_data(source: Path, copy: Path) -> None:
    """Copy the files of a data set by their names; predictions, stakes and whatever else lies there stay behind."""
    names = ["dataset.toml", *(name + suffix for name in COPIED for suffix in (".parquet", ".csv", ""))]
    for path in (source / name for name in names):
        # Contents without permissions: a copy of a read-only data set is to be written to.
        if path.is_file():
            shutil.copyfile(path, copy / path.name)
        elif path.is_dir():
            for part in sorted(path.rglob("*.parquet")):
                place = copy / part.relative_to(source)
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(part, place)


def write_date(work: Path, date: pd.Timestamp, predictions: pd.DataFrame) -> pd.DataFrame:
    """Write one date's file, wide, float32, and return what was written.

    A model that tells no two assets apart has said nothing: its column is left out. So is an asset of which no model
    knows anything.

    Parameters
    ----------
    predictions : DataFrame of shape (n, M)
        Index asset.
    """
    says = predictions.columns[predictions.max() > predictions.min()]
    written = predictions[says].dropna(how="all").astype("float32")
    written.reset_index().to_parquet(work / f"{date:%Y-%m-%d}.parquet", compression="zstd", index=False)
    return written


def write_equal_stakes(work: Path, date: pd.Timestamp, models: list[str]) -> None:
    """Write a stake of 1 for every model, in force from `date`."""
    frame = pd.DataFrame({"date": [date] * len(models), "model": models, "stake": 1.0})
    frame["date"] = frame["date"].astype("datetime64[ms]")
    frame.to_parquet(work / "stakes.parquet", compression="zstd", index=False)
