"""The files of a synthetic market: how the drawn arrays become the data set and the truth beside it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from backtest import synthetic_market as market
from backtest import synthetic_models as models
from backtest.synthetic_latents import Latents, SignalPath
from backtest.synthetic_spec import COUNTRIES, SECTORS, SESSIONS_PER_YEAR, MarketSpec
from risk.checks import BoolArray

__all__ = [
    "write_assets",
    "write_description",
    "write_expected",
    "write_frame",
    "write_market",
    "write_predictions",
    "write_text",
    "write_world",
]

_TEXT = ("model", "asset", "kind", "copied_from", "overlap_group")
Progress = Callable[[float], None]


def write_description(folder: Path, spec: MarketSpec) -> None:
    """Write `dataset.toml`."""
    lines = {
        "name": spec.name,
        "source": f"synthetic, seed {spec.seed}",
        "currency": spec.currency,
        "return_kind": "total",
        "close_kind": "raw",
    }
    # JSON strings are TOML basic strings.
    text = "".join(f"{key} = {json.dumps(value)}\n" for key, value in lines.items())
    write_text(folder / "dataset.toml", text + f"periods_per_year = {SESSIONS_PER_YEAR}\n")


def write_assets(folder: Path, spec: MarketSpec, assets: market.Assets) -> None:
    """Write `assets.parquet`; every company trades in the currency of the data set."""
    frame = pd.DataFrame(
        {
            "asset": assets.names,
            "name": [f"Synthetic company {name[1:]}" for name in assets.names],
            "country": [COUNTRIES[code] for code in assets.country],
            "sector": [SECTORS[code] for code in assets.sector],
            "currency": spec.currency,
        }
    )
    write_frame(folder / "assets.parquet", frame)


def write_market(
    folder: Path,
    sessions: pd.DatetimeIndex,
    names: tuple[str, ...],
    has_row: BoolArray,
    prices: market.Prices,
    delisting: npt.NDArray[np.float64],
) -> None:
    """Write one row per session and asset; the delisting return stands on a leaver's last row, null elsewhere."""
    last = len(sessions) - 1 - np.argmax(has_row[::-1], axis=0)
    received = np.full(has_row.shape, np.nan)
    received[last, np.arange(len(names))] = delisting
    columns = {
        "return": prices.returns,
        "market_cap": prices.market_cap,
        "close": prices.close,
        "dollar_volume": prices.dollar_volume,
        "delisting_return": received,
    }
    write_long(folder / "market.parquet", sessions, names, has_row, columns)


def write_world(
    truth: Path,
    sessions: pd.DatetimeIndex,
    assets: market.Assets,
    returns: market.Returns,
    listed: BoolArray,
    prices: market.Prices,
) -> None:
    """Write the true factor model, the factor and specific returns that came out, and the splits."""
    factors = list(assets.model.factors)
    covariance = pd.DataFrame(assets.model.factor_covariance, columns=factors)
    covariance.insert(0, "factor", factors)
    write_frame(truth / "factor_covariance.parquet", covariance)
    exposures = pd.DataFrame(assets.model.exposures, columns=factors)
    exposures.insert(0, "asset", assets.names)
    write_frame(truth / "exposures.parquet", exposures)
    variance = pd.DataFrame({"asset": assets.names, "specific_variance": assets.model.specific_variance})
    write_frame(truth / "specific_variance.parquet", variance)
    realised = pd.DataFrame(returns.factor, columns=factors)
    realised.insert(0, "date", sessions)
    write_frame(truth / "factor_returns.parquet", realised)
    write_long(
        truth / "specific_returns.parquet", sessions, assets.names, listed, {"specific_return": returns.specific}
    )
    splits = pd.DataFrame(
        {
            "date": sessions[prices.splits["session"].to_numpy()],
            "asset": np.asarray(assets.names, dtype=object)[prices.splits["asset"].to_numpy()],
            "ratio": prices.splits["ratio"],
        }
    )
    write_frame(truth / "splits.parquet", splits)


def write_expected(
    truth: Path,
    dates: pd.DatetimeIndex,
    dates_at: npt.NDArray[np.intp],
    assets: market.Assets,
    latents: Latents,
    path: SignalPath,
    listed: BoolArray,
) -> None:
    """Write the planted alpha of the assets listed on each prediction date."""
    volatility = np.sqrt(assets.model.specific_variance)
    alpha = np.stack([latents.expected_return(z, volatility) for z in path.kept]).astype(np.float32)
    write_long(truth / "expected_returns.parquet", dates, assets.names, listed[dates_at], {"alpha": alpha})


def write_predictions(
    folder: Path,
    dates: pd.DatetimeIndex,
    dates_at: npt.NDArray[np.intp],
    names: tuple[str, ...],
    book: models.ModelBook,
    blemishes: pd.DataFrame,
    path: SignalPath,
    listed: BoolArray,
    rng: np.random.Generator,
    progress: Progress,
) -> None:
    """Write one wide file per date: the assets listed that day by the models that have joined."""
    (folder / "predictions").mkdir()
    labels = np.asarray(names, dtype=object)
    noise = models.NoisePath(book, rng)
    scale, offset = (each.astype(np.float32)[:, None] for each in (book.scale, book.offset))
    wrong = {(row.date, row.model): str(row.kind) for row in blemishes.itertuples()}
    for at, date in enumerate(dates):
        elapsed = int(dates_at[at] - dates_at[at - 1]) if at else 0
        x = noise.predict(path.kept[at], elapsed)
        values = offset + scale * np.where(book.covers, x, np.float32(np.nan))
        here = np.flatnonzero(listed[dates_at[at]])
        values = values[:, here]
        minutes = rng.integers(0, 180, size=len(book.names))
        columns: dict[str, pa.Array] = {"asset": pa.array(labels[here], pa.string())}
        submitted = {}
        for k in np.flatnonzero(book.joins <= at):
            name = book.names[k]
            kind = wrong.get((date, name))
            columns[name] = pa.array(_spoil(values[k], kind), from_pandas=True)
            # Handed in between noon and three, or on the next morning.
            hours = 33 if kind == "late" else 12
            submitted[name] = (date + pd.Timedelta(hours=hours, minutes=int(minutes[k]))).isoformat()
        table = pa.table(columns).replace_schema_metadata({"submitted": json.dumps(submitted)})
        pq.write_table(
            table,
            folder / "predictions" / f"{date:%Y-%m-%d}.parquet",
            use_dictionary=False,
            write_statistics=False,
            compression="none",
        )
        progress((at + 1) / len(dates))


def _spoil(values: npt.NDArray[np.float32], kind: str | None) -> npt.NDArray[np.float32]:
    """Return a model's column as its blemish leaves it."""
    if kind == "constant":
        return np.full_like(values, values[0])
    if kind in ("missing", "sparse"):
        left = np.full_like(values, np.nan)
        kept = 3 if kind == "sparse" else 0
        left[:kept] = values[:kept]
        return left
    return values


def write_long(
    path: Path,
    dates: pd.DatetimeIndex,
    names: tuple[str, ...],
    rows: BoolArray,
    columns: dict[str, npt.NDArray[np.floating]],
) -> None:
    """Write tables of (T, N) as one row per entry of `rows`, by date, then asset; NaN becomes null."""
    when, who = np.nonzero(rows)
    days = dates.to_numpy().astype("datetime64[ms]")
    arrays = {
        "date": pa.array(days[when]),
        "asset": pa.array(names, pa.string()).take(pa.array(who)),
        **{name: pa.array(values[rows], from_pandas=True) for name, values in columns.items()},
    }
    pq.write_table(pa.table(arrays), path, use_dictionary=["date", "asset"], compression="zstd")


def write_frame(path: Path, frame: pd.DataFrame) -> None:
    """Write a small table; columns of names are strings and dates milliseconds even where the table is empty."""
    text = {name: pa.string() for name in _TEXT if name in frame}
    dated = {name: pa.timestamp("ms") for name in ("date", "first_date") if name in frame}
    arrays = {
        str(name): pa.array(frame[name], type=(text | dated).get(str(name)), from_pandas=True) for name in frame.columns
    }
    pq.write_table(pa.table(arrays), path, compression="zstd")


def write_text(path: Path, text: str) -> None:
    """Write text with the same line ends everywhere."""
    path.write_text(text, encoding="utf-8", newline="\n")
