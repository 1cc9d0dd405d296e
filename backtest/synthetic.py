"""A market whose truth is known, written as a data set: the folder that every other command reads, and the truth beside it.

`dataset.toml`, `assets.parquet`, `market.parquet`, `predictions/`, `stakes.parquet` are an ordinary data set (prices, caps and
volumes in its currency). `truth/` holds what no user of the data may know:

    truth.json                   the spec, the strength of the planted alpha, what was redrawn, clipped and planted
    models.parquet               per model: kind, information coefficients, overlap group, persistence, source, loadings
    factor_covariance.parquet    factor, then one column per factor; annual
    exposures.parquet            asset, then one column per factor; constant in time
    specific_variance.parquet    asset, specific_variance; annual
    factor_returns.parquet       date, then one column per factor; per session
    specific_returns.parquet     date, asset, specific_return; per session, of listed assets, on local holidays too
    expected_returns.parquet     date, asset, alpha: the specific return expected over the next 20 sessions, per year
    splits.parquet               date, asset, ratio (new shares for one old)
    blemishes.parquet            date, model, kind: what is wrong on purpose

Random streams are drawn per subject, so the market does not change with the number of models.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
from threadpoolctl import threadpool_limits

from backtest import synthetic_files as files
from backtest import synthetic_market as market
from backtest import synthetic_models as models
from backtest.products import Rebalance, decision_days
from backtest.store import partial_of, working_folder
from backtest.synthetic_latents import Latents, draw_path, plant
from backtest.synthetic_spec import MarketSpec
from risk import DataError, FactorModel

__all__ = ["MarketSpec", "Truth", "read_truth", "write_market"]

Progress = Callable[[float], None]
SCHEDULES: dict[str, Rebalance] = {"day": "daily", "week": "weekly", "month": "monthly"}
WORLD_SHARE = 0.25
"""Share of the work, for the progress bar, that is done when the predictions begin."""


@dataclass(frozen=True, eq=False)
class Truth:
    """What is true of a synthetic market.

    Attributes
    ----------
    folder : Path
    spec : MarketSpec
    risk_model : FactorModel
        True exposures, factor covariance and specific variance, annual.
    latents : Latents
        The planted signals; `latents.information_coefficient` gives any model's, at any lag and horizon.
    models : DataFrame
        As in `truth/models.parquet`, by model.
    splits, blemishes : DataFrame
    redrawn_shocks, clipped_returns : int
        Specific shocks beyond 12 standard deviations, drawn again; returns held to [-95 %, +800 %] (0 is usual).
    """

    folder: Path
    spec: MarketSpec
    risk_model: FactorModel
    latents: Latents
    models: pd.DataFrame
    splits: pd.DataFrame
    blemishes: pd.DataFrame
    redrawn_shocks: int
    clipped_returns: int

    @property
    def raw_return_ratio(self) -> float:
        """Return by what a model's information coefficient shrinks against specific returns that are not scaled.

        Information coefficients are stated against returns in units of each asset's volatility s. Against raw ones a
        score's is E[s] / sqrt(E[s^2]) times that; a forecast that scales its score by s loses nothing.
        """
        variance = self.risk_model.specific_variance
        return float(np.mean(np.sqrt(variance)) / np.sqrt(np.mean(variance)))

    def information_coefficients(self, *, lag: int = 0, horizon: int = 20) -> pd.Series[float]:
        """Return each model's true information coefficient for sessions t + lag + 1 to t + lag + horizon, by model."""
        loadings = self.models.filter(regex=r"^loading_\d+$").to_numpy(np.float64)
        values = self.latents.information_coefficient(loadings, lag=lag, horizon=horizon)
        return pd.Series(values, index=self.models.index, name="information_coefficient")

    def model_correlation(self) -> pd.DataFrame:
        """Return the true correlation of the models' predictions, models by models."""
        sources = models.mixing(self.models, self.spec.crowding)
        names = self.models.index
        return pd.DataFrame(sources @ sources.T, index=names, columns=names)

    def meta_model_coefficient(self, stakes: pd.Series[float], *, lag: int = 0, horizon: int = 20) -> float:
        """Return the true information coefficient of the stake-weighted mean of some models' predictions.

        Parameters
        ----------
        stakes : Series by model
            Of the models in use on a date; full coverage is assumed.
        lag, horizon : int
            As in `information_coefficients`.

        Raises
        ------
        DataError
            If a model is not of this market, or no stake is positive.

        Notes
        -----
        b's / sqrt(s' C s) with b the models' coefficients and C their true correlation. Gaussianised ranks, which the
        engine averages, are these predictions up to the sampling error of a rank.
        """
        unknown = stakes.index.difference(self.models.index)
        if len(unknown):
            raise DataError(f"`stakes` names {unknown[0]!r}, which is no model of {self.folder}; give its models only.")
        if not (stakes > 0).any():
            raise DataError("`stakes` must hold a positive stake; got none.")
        s = stakes.reindex(self.models.index, fill_value=0.0).to_numpy(np.float64)
        mean = float(self.information_coefficients(lag=lag, horizon=horizon).to_numpy() @ s)
        return mean / float(np.sqrt(s @ self.model_correlation().to_numpy() @ s))


def write_market(folder: Path, spec: MarketSpec, progress: Progress | None = None) -> Truth:
    """Write a synthetic data set and its truth to `folder`, whole or not at all, and return the truth.

    Parameters
    ----------
    folder : Path
        Must not exist, or be empty. Written as `folder`.partial and renamed.
    spec : MarketSpec
    progress : callable, optional
        Called with the share of the work that is done, from 0 to 1.

    Raises
    ------
    DataError
        If the spec's alpha cannot be planted, `folder` is not empty or is a file, an earlier `.partial` is in the way, or the place cannot be written.

    Notes
    -----
    The same spec gives the same bytes. BLAS is held to one thread, for its sums depend on the number of threads.
    """
    folder = Path(folder).resolve()
    partial = partial_of(folder)
    latents = plant(spec.half_lives, spec.information_coefficient)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise DataError(f"{folder} already exists and is not an empty folder; name another, or remove it first.")
    with working_folder(partial, "Name a folder that you may write to."):
        with threadpool_limits(limits=1):
            _write_all(partial, spec, latents, progress or (lambda _: None))
        if folder.exists():
            folder.rmdir()
        partial.rename(folder)
    return read_truth(folder)


def _write_all(folder: Path, spec: MarketSpec, latents: Latents, progress: Progress) -> None:
    seeds = np.random.SeedSequence(spec.seed).spawn(9)
    rng = [np.random.default_rng(seed) for seed in seeds]
    sessions = market.calendar(spec)
    dates_at = _prediction_sessions(sessions, spec.prediction_every)
    dates = sessions[dates_at]
    assets = market.draw_assets(spec, rng[0])
    path = draw_path(latents, assets.model.exposures, len(sessions), dates_at, rng[1])
    returns = market.draw_returns(spec, assets, path.scores, latents.daily_coefficient, rng[2])
    progress(0.4 * WORLD_SHARE)
    listed, has_row, delisting = market.draw_rows(spec, assets, len(sessions), rng[3])
    prices = market.draw_prices(spec, assets, returns.total, listed, has_row, rng[4])
    book = models.draw_models(spec, latents, len(dates), rng[5])
    blemishes = models.plant_blemishes(spec, book, dates, rng[7])
    progress(0.6 * WORLD_SHARE)

    truth = folder / "truth"
    truth.mkdir()
    files.write_description(folder, spec)
    files.write_assets(folder, spec, assets)
    files.write_market(folder, sessions, assets.names, has_row, prices, delisting)
    files.write_frame(folder / "stakes.parquet", models.draw_stakes(book, dates, rng[6]))
    files.write_frame(truth / "models.parquet", models.model_table(book, latents, dates))
    files.write_frame(truth / "blemishes.parquet", blemishes)
    files.write_world(truth, sessions, assets, returns, listed, prices)
    files.write_expected(truth, dates, dates_at, assets, latents, path, listed)
    counts = {
        "daily_coefficient": latents.daily_coefficient,
        "redrawn_shocks": returns.redrawn,
        "clipped_returns": returns.clipped,
        "sessions": len(sessions),
        "prediction_dates": len(dates),
        "assets_delisted": int((listed[-1] == 0).sum()),
        "splits": len(prices.splits),
        "tail_limit": market.TAIL_LIMIT,
        "factor_drift": dict(zip(assets.model.factors, assets.drift.tolist(), strict=True)),
    }
    files.write_text(
        truth / "truth.json", json.dumps({"spec": spec.model_dump(mode="json"), **counts}, indent=2) + "\n"
    )
    progress(WORLD_SHARE)

    def tick(share: float) -> None:
        progress(WORLD_SHARE + (1 - WORLD_SHARE) * share)

    files.write_predictions(folder, dates, dates_at, assets.names, book, blemishes, path, listed, rng[8], tick)


def _prediction_sessions(sessions: pd.DatetimeIndex, every: str) -> npt.NDArray[np.intp]:
    """Return the positions of the first session of each day, ISO week or month."""
    first = decision_days(sessions, SCHEDULES[every])
    first[0] = True  # a market begins with predictions
    return np.flatnonzero(first)


def read_truth(folder: Path) -> Truth:
    """Return the truth of a data set that `write_market` wrote.

    Raises
    ------
    DataError
        If `folder` has no truth.
    """
    truth = Path(folder) / "truth"
    if not (truth / "truth.json").is_file():
        raise DataError(f"{truth / 'truth.json'} does not exist: {folder} is no synthetic market; write one first.")
    facts = json.loads((truth / "truth.json").read_text(encoding="utf-8"))
    spec = MarketSpec.model_validate(facts["spec"])
    exposures = pd.read_parquet(truth / "exposures.parquet").set_index("asset")
    covariance = pd.read_parquet(truth / "factor_covariance.parquet").set_index("factor")
    variance = pd.read_parquet(truth / "specific_variance.parquet")["specific_variance"]
    return Truth(
        folder=Path(folder),
        spec=spec,
        risk_model=FactorModel(exposures.index, exposures.columns, exposures, covariance, variance),
        latents=plant(spec.half_lives, spec.information_coefficient),
        models=pd.read_parquet(truth / "models.parquet").set_index("model"),
        splits=pd.read_parquet(truth / "splits.parquet"),
        blemishes=pd.read_parquet(truth / "blemishes.parquet"),
        redrawn_shocks=int(facts["redrawn_shocks"]),
        clipped_returns=int(facts["clipped_returns"]),
    )
