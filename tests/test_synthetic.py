from __future__ import annotations

import filecmp
import json
import tomllib
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError
from scipy.integrate import quad
from scipy.stats import norm, t

from backtest.synthetic import MarketSpec, Truth, read_truth, write_market
from backtest.synthetic_latents import Latents, draw_path, plant
from backtest.synthetic_market import draw_assets, draw_returns, truncated_variance
from risk import DataError

# A strong alpha, so that sampling error is small beside it.
SPEC = MarketSpec(
    assets=400,
    years=3.0,
    models=60,
    countries=3,
    sectors=4,
    seed=7,
    information_coefficient=0.2,
    skill_low=0.05,
    skill_high=0.12,
)
TINY = MarketSpec(assets=40, years=0.6, models=12, countries=3, sectors=3, seed=1)


@pytest.fixture(scope="module")
def truth(tmp_path_factory: pytest.TempPathFactory) -> Truth:
    return write_market(tmp_path_factory.mktemp("market") / "data", SPEC)


def wide(table: pd.DataFrame, column: str) -> pd.DataFrame:
    return table.pivot_table(index="date", columns="asset", values=column, dropna=False)


def truth_table(truth: Truth, name: str) -> pd.DataFrame:
    return pd.read_parquet(truth.folder / "truth" / f"{name}.parquet")


@pytest.fixture(scope="module")
def specific(truth: Truth) -> pd.DataFrame:
    return wide(truth_table(truth, "specific_returns"), "specific_return")


@pytest.fixture(scope="module")
def market(truth: Truth) -> pd.DataFrame:
    return pd.read_parquet(truth.folder / "market.parquet")


@pytest.fixture(scope="module")
def predictions(truth: Truth) -> dict[pd.Timestamp, pd.DataFrame]:
    files = sorted((truth.folder / "predictions").glob("*.parquet"))
    return {pd.Timestamp(file.stem): pd.read_parquet(file).set_index("asset") for file in files}


def forward_score(truth: Truth, specific: pd.DataFrame, lag: int, horizon: int) -> pd.DataFrame:
    """Specific return of sessions t+lag+1..t+lag+horizon in specific volatilities, every 20th session, no overlap."""
    volatility = np.sqrt(truth.risk_model.specific_variance / 252)
    cumulated = specific.reindex(columns=list(truth.risk_model.assets)).cumsum(skipna=False)
    ahead = cumulated.shift(-lag - horizon) - cumulated.shift(-lag)
    return ahead / (volatility * np.sqrt(horizon))


def spaced(dates: list[pd.Timestamp], sessions: pd.Index, gap: int) -> list[pd.Timestamp]:
    kept: list[pd.Timestamp] = []
    for date in dates:
        if not kept or sessions.get_loc(date) - sessions.get_loc(kept[-1]) >= gap:
            kept.append(date)
    return kept


# Layout


def test_files_have_the_layout_of_a_data_set(truth: Truth) -> None:
    folder = truth.folder
    assert tomllib.loads((folder / "dataset.toml").read_text()) == {
        "name": "synthetic market",
        "source": "synthetic, seed 7",
        "currency": "USD",
        "return_kind": "total",
        "close_kind": "raw",
        "periods_per_year": 252,
    }
    assets = pq.read_schema(folder / "assets.parquet")
    assert assets.names == ["asset", "name", "country", "sector", "currency"]
    schema = pq.read_schema(folder / "market.parquet")
    assert schema.names == ["date", "asset", "return", "market_cap", "close", "dollar_volume", "delisting_return"]
    assert schema.field("date").type == pa.timestamp("ms")
    assert schema.field("asset").type == pa.string()
    assert all(schema.field(name).type == pa.float64() for name in schema.names[2:])
    stakes = pq.read_schema(folder / "stakes.parquet")
    assert [(f.name, f.type) for f in stakes] == [
        ("date", pa.timestamp("ms")),
        ("model", pa.string()),
        ("stake", pa.float64()),
    ]
    some = sorted((folder / "predictions").iterdir())[3]
    schema = pq.read_schema(some)
    assert schema.names[0] == "asset"
    assert set(schema.names[1:]) <= set(truth.models.index)
    assert all(schema.field(name).type == pa.float32() for name in schema.names[1:])
    assert set(json.loads(schema.metadata[b"submitted"])) == set(schema.names[1:])
    assert not list(folder.parent.glob("*.partial"))


def test_rows_are_ascending_distinct_and_complete(truth: Truth, market: pd.DataFrame) -> None:
    assert market["date"].dt.tz is None
    keys = pd.MultiIndex.from_frame(market[["date", "asset"]])
    assert keys.is_monotonic_increasing
    assert keys.is_unique
    assert set(market["asset"]) == set(truth.risk_model.assets)
    assert market[["market_cap", "close", "dollar_volume"]].gt(0).all(axis=None)
    first = market.groupby("asset")["date"].transform("min") == market["date"]
    assert (market["return"].isna() == first).all()
    assert market["return"].min() > -1
    assert market["return"].max() <= 8
    assert truth.clipped_returns == 0


def test_predictions_are_dated_on_the_first_session_of_each_iso_week(
    predictions: dict[pd.Timestamp, pd.DataFrame], market: pd.DataFrame
) -> None:
    sessions = pd.DatetimeIndex(market["date"].unique())
    weeks = sessions.strftime("%G-%V")
    assert list(predictions) == list(sessions[~weeks.duplicated()])


def test_predictions_name_exactly_the_listed_assets(
    predictions: dict[pd.Timestamp, pd.DataFrame], specific: pd.DataFrame
) -> None:
    for date, frame in predictions.items():
        listed = specific.columns[specific.loc[date].notna()]
        assert list(frame.index) == list(listed)


# The market against its truth


def test_returns_are_factors_plus_specific_and_span_missing_rows(
    truth: Truth, market: pd.DataFrame, specific: pd.DataFrame
) -> None:
    factors = truth_table(truth, "factor_returns").set_index("date")
    model = truth.risk_model
    planted = factors.to_numpy() @ model.exposures.T + specific[list(model.assets)].to_numpy(np.float64)
    planted = pd.DataFrame(planted, index=specific.index, columns=list(model.assets))
    reported = wide(market, "return").reindex_like(planted)
    spans = 0
    for asset in model.assets:
        rows = market.loc[market["asset"] == asset, "date"].to_numpy()
        index = (1 + planted.loc[rows[0] : rows[-1], asset]).cumprod()[rows]
        expected = (index / index.shift()).iloc[1:] - 1
        np.testing.assert_allclose(reported.loc[rows[1:], asset], expected, atol=2e-7)
        spans += int((np.diff(specific.index.get_indexer(rows)) > 1).sum())
    assert spans > 1000


def test_local_holidays_close_one_country_and_leave_another_open(truth: Truth, market: pd.DataFrame) -> None:
    country = pd.read_parquet(truth.folder / "assets.parquet").set_index("asset")["country"]
    closed = pd.crosstab(market["date"], market["asset"].map(country)) == 0
    assert closed.sum().between(7, 9).all()
    assert not closed.all(axis=1).any()


def test_specific_variance_is_realised(truth: Truth, specific: pd.DataFrame) -> None:
    complete = specific.dropna(axis=1)
    true = pd.Series(truth.risk_model.specific_variance, index=list(truth.risk_model.assets))[complete.columns]
    ratio = 252 * (complete.astype(np.float64) ** 2).mean() / true
    scaled = complete / np.sqrt(true / 252)
    kurtosis = float((scaled.astype(np.float64) ** 4).mean().mean())
    error = np.sqrt((kurtosis - 1) / complete.size)
    assert abs(ratio.mean() - 1) < 4 * error
    assert error < 0.02
    assert kurtosis > 5
    assert np.corrcoef(np.log(ratio * true), np.log(true))[0, 1] > 0.9


def test_factor_covariance_is_realised(truth: Truth) -> None:
    factors = truth_table(truth, "factor_returns").set_index("date")
    F = truth.risk_model.factor_covariance
    assert tuple(factors.columns) == truth.risk_model.factors
    realised = 252 * factors.cov().to_numpy()
    error = np.sqrt((np.outer(np.diag(F), np.diag(F)) + F**2) / (len(factors) - 1))
    assert (np.abs(realised - F) < 4.5 * error).all()
    z = ((realised - F) / error)[np.triu_indices(len(F))]
    assert 0.3 < float(np.mean(z**2)) < 2.5


def test_cross_sectional_regression_finds_the_market_factor(
    truth: Truth, market: pd.DataFrame, specific: pd.DataFrame
) -> None:
    factors = truth_table(truth, "factor_returns").set_index("date")
    model = truth.risk_model
    days = market.groupby("date").size().nlargest(150).index
    reported = wide(market, "return")
    estimate, actual = [], []
    for day in days:
        row = reported.loc[day].reindex(list(model.assets)).to_numpy()
        known = np.isfinite(row)
        X = model.exposures[known]
        fitted = X @ np.linalg.lstsq(X, row[known], rcond=None)[0]
        estimate.append(fitted)
        actual.append(X @ factors.loc[day].to_numpy())
    assert np.corrcoef(np.concatenate(estimate), np.concatenate(actual))[0, 1] > 0.9
    assert specific.shape[1] == len(model.assets)


def test_country_and_sector_returns_sum_to_zero_over_capitalisation(market: pd.DataFrame, truth: Truth) -> None:
    model = truth.risk_model
    cap = market.groupby("asset")["market_cap"].first()[list(model.assets)].to_numpy()
    weights = cap / cap.sum()
    market_exposure = weights @ model.exposures
    for prefix in ("country:", "sector:"):
        chosen = [position for position, name in enumerate(model.factors) if name.startswith(prefix)]
        share = np.zeros(len(model.factors))
        share[chosen] = market_exposure[chosen]
        assert share.sum() == pytest.approx(1)
        assert share @ model.factor_covariance @ share == pytest.approx(0, abs=1e-12)
    styles = [position for position, name in enumerate(model.factors) if name.startswith("style:")]
    np.testing.assert_allclose(market_exposure[styles], 0, atol=1e-12)
    assert model.exposures[:, styles].std(axis=0) == pytest.approx(1)


def test_true_beta_has_the_planted_dispersion(truth: Truth) -> None:
    F, X = truth.risk_model.factor_covariance, truth.risk_model.exposures
    beta = X @ F[:, 0] / F[0, 0]
    assert beta.std() == pytest.approx(SPEC.beta_dispersion)


def test_close_follows_returns_and_splits(truth: Truth, market: pd.DataFrame) -> None:
    table = market.merge(truth.splits, on=["date", "asset"], how="left")
    table["before"] = table.groupby("asset")["close"].shift()
    table["cap_before"] = table.groupby("asset")["market_cap"].shift()
    moved = table[table["before"].notna()]
    ratio = moved["ratio"].fillna(1.0)
    np.testing.assert_allclose(moved["close"] * ratio / moved["before"], 1 + moved["return"], rtol=1e-12)
    np.testing.assert_allclose(moved["market_cap"] / moved["cap_before"], 1 + moved["return"], rtol=1e-12)
    assert (truth.splits["ratio"] == 2).sum() >= 5
    assert market.groupby("asset")["close"].first().between(5, 500).all()


def test_listing_and_delisting_rates_are_the_planted_ones(market: pd.DataFrame) -> None:
    start, end = market["date"].min(), market["date"].max()
    span = market.groupby("asset")["date"].agg(["min", "max"])
    late = int((span["min"] > start).sum())
    expected = SPEC.assets * SPEC.listing_share
    assert abs(late - expected) < 4 * np.sqrt(expected)
    # An asset whose country is closed on the last day is no leaver.
    gone = span["max"] < end - pd.Timedelta(days=7)
    exposed = ((span["max"] - span["min"]).dt.days / 365.25 - 21 / 252).clip(lower=0).sum() * SPEC.delisting_rate
    assert abs(gone.sum() - exposed) < 4 * np.sqrt(exposed) + 1
    given = market[market["delisting_return"].notna()]
    last = market.groupby("asset")["date"].max()
    assert (given["date"].to_numpy() == last[given["asset"]].to_numpy()).all()
    assert given["delisting_return"].between(-1, 0.3).all()
    assert (given["delisting_return"] < -0.1).any()
    assert len(given) < gone.sum() + 3


def test_truncated_variance_agrees_with_integration() -> None:
    for degrees, limit in ((4.5, 16.0), (3.0, 5.0), (30.0, 2.0)):
        mass = quad(lambda x, n=degrees: t.pdf(x, n), -limit, limit)[0]
        second = quad(lambda x, n=degrees: x * x * t.pdf(x, n), -limit, limit)[0]
        assert truncated_variance(degrees, limit) == pytest.approx(second / mass, rel=1e-7)


# The planted alpha and the models


def test_latent_moments_agree_with_brute_force() -> None:
    latents = plant((5, 40), 0.1)
    f, w, b = latents.persistence, latents.weights, latents.daily_coefficient
    c = np.array([0.3, -0.5])
    for lag, horizon in ((0, 20), (2, 20), (1, 5)):
        covariance = sum(b * (c * w * f**k).sum() for k in range(lag, lag + horizon))
        variance = horizon * (1 - b * b) + sum(
            b * b * (w**2 * f ** abs(k - m)).sum() for k in range(horizon) for m in range(horizon)
        )
        expected = covariance / np.sqrt(variance)
        assert latents.information_coefficient(c, lag=lag, horizon=horizon) == pytest.approx(expected, rel=1e-12)
    assert latents.information_coefficient(latents.best_loadings()) == pytest.approx(0.1, rel=1e-12)


def test_signals_are_neutral_standardised_and_persistent() -> None:
    rng = np.random.default_rng(0)
    X = draw_assets(TINY, rng).model.exposures
    latents = plant((4, 16), 0.05)
    path = draw_path(latents, X, 400, np.arange(400), rng)
    np.testing.assert_allclose(path.kept @ X, 0, atol=1e-4 * np.abs(X).sum())
    np.testing.assert_allclose(path.scores, np.einsum("j,tjn->tn", latents.weights, path.kept), atol=1e-5)
    assert float((path.scores**2).mean()) == pytest.approx(1, abs=0.1)
    for j in range(2):
        z = path.kept[:, j]
        assert float((z[1:] * z[:-1]).mean() / (z**2).mean()) == pytest.approx(latents.persistence[j], abs=0.02)


def test_news_in_a_signal_moves_the_next_session_and_not_its_own() -> None:
    rng = np.random.default_rng(3)
    assets = draw_assets(TINY, rng)
    latents = plant((2,), 0.2)
    path = draw_path(latents, assets.model.exposures, 3000, np.zeros(0, dtype=np.intp), rng)
    returns = draw_returns(TINY, assets, path.scores, latents.daily_coefficient, rng)
    news = path.scores[1:-1] - latents.persistence[0] * path.scores[:-2]
    scaled = returns.specific / np.sqrt(assets.model.specific_variance / 252)
    slopes = [float((news * y).mean() / (news**2).mean()) for y in (scaled[1:-1], scaled[2:])]
    error = 1 / np.sqrt(np.sum(news**2))
    assert latents.daily_coefficient > 20 * error
    assert abs(slopes[0]) < 4 * error
    assert abs(slopes[1] - latents.daily_coefficient) < 4 * error


@pytest.mark.parametrize(("lag", "horizon"), [(0, 20), (2, 20), (0, 5)])
def test_perfect_forecast_has_its_information_coefficient(
    truth: Truth, specific: pd.DataFrame, lag: int, horizon: int
) -> None:
    alpha = wide(truth_table(truth, "expected_returns"), "alpha")
    score = alpha / np.sqrt(pd.Series(truth.risk_model.specific_variance, index=list(truth.risk_model.assets)))
    ahead = forward_score(truth, specific, lag, horizon)
    dates = spaced(list(alpha.index), ahead.index, lag + horizon)
    coefficients = np.array([score.loc[d].corr(ahead.loc[d]) for d in dates if ahead.loc[d].notna().any()])
    expected = float(truth.latents.information_coefficient(truth.latents.best_loadings(), lag=lag, horizon=horizon))
    error = coefficients.std(ddof=1) / np.sqrt(len(coefficients))
    assert error < expected / 8
    assert abs(coefficients.mean() - expected) < 4 * error


def test_planted_alpha_is_the_expected_return_in_its_units(truth: Truth, specific: pd.DataFrame) -> None:
    alpha = wide(truth_table(truth, "expected_returns"), "alpha").astype(np.float64)
    total = specific.astype(np.float64).cumsum(skipna=False)
    ahead = (total.shift(-20) - total).loc[alpha.index] * 252 / 20
    dates = spaced([d for d in alpha.index if ahead.loc[d].notna().any()], specific.index, 20)
    x, y = alpha.loc[dates].to_numpy().ravel(), ahead.loc[dates].to_numpy().ravel()
    known = np.isfinite(x) & np.isfinite(y)
    x, y = x[known], y[known]
    slope = x @ y / (x @ x)
    error = np.sqrt(np.sum(x**2 * (y - slope * x) ** 2)) / (x @ x)
    assert abs(slope - 1) < 4 * error
    assert error < 0.15


def realised_coefficients(
    truth: Truth, specific: pd.DataFrame, predictions: dict[pd.Timestamp, pd.DataFrame]
) -> pd.DataFrame:
    ahead = forward_score(truth, specific, 0, 20)
    wrong = set(zip(truth.blemishes["date"], truth.blemishes["model"], strict=True))
    rows = {}
    for date in spaced(list(predictions), ahead.index, 20):
        if ahead.loc[date].notna().any():
            frame = predictions[date].astype(np.float64)
            frame = frame[[name for name in frame.columns if (date, name) not in wrong]]
            rows[date] = frame.corrwith(ahead.loc[date].reindex(frame.index))
    return pd.DataFrame(rows).T


def test_every_model_has_its_true_information_coefficient(
    truth: Truth, specific: pd.DataFrame, predictions: dict[pd.Timestamp, pd.DataFrame]
) -> None:
    coefficients = realised_coefficients(truth, specific, predictions)
    mean = coefficients.mean().reindex(truth.models.index)
    error = (coefficients.std() / np.sqrt(coefficients.count())).reindex(truth.models.index)
    z = (mean - truth.models["information_coefficient"]) / error
    assert z.abs().max() < 4.5
    assert 0.5 < float((z**2).mean()) < 1.9
    kind = truth.models["kind"]
    for name, sign in (("skilled", 1), ("copy", 1), ("noise", 0), ("anti", -1)):
        by_date = coefficients[kind.index[kind == name]].mean(axis=1)
        middle, spread = by_date.mean(), by_date.std() / np.sqrt(len(by_date))
        assert sign * middle > 4 * spread or (sign == 0 and abs(middle) < 4 * spread)


def test_kinds_and_skills_are_the_planted_shares(truth: Truth) -> None:
    models = truth.models
    assert models["kind"].value_counts().to_dict() == {"skilled": 36, "noise": 12, "copy": 6, "anti": 6}
    skilled = models.loc[models["kind"] == "skilled", "information_coefficient"]
    assert skilled.between(0.0, SPEC.skill_high).all()
    assert skilled.std() > 0.01
    assert (models.loc[models["kind"] == "noise", "information_coefficient"] == 0).all()
    assert (models.loc[models["kind"] == "anti", "information_coefficient"] < 0).all()
    pd.testing.assert_series_equal(
        truth.information_coefficients(), models["information_coefficient"], check_names=False, rtol=1e-12
    )
    lagged = truth.information_coefficients(lag=2)
    pd.testing.assert_series_equal(lagged, models["information_coefficient_lagged"], check_names=False, rtol=1e-12)


def test_copies_are_near_or_exact(truth: Truth, predictions: dict[pd.Timestamp, pd.DataFrame]) -> None:
    wrong = set(truth.blemishes["date"])
    copies = truth.models[truth.models["kind"] == "copy"]
    assert set(copies["copy_correlation"]) == {1.0, 0.995}
    clean = [date for date in predictions if date not in wrong]
    for name, row in copies.iterrows():
        for date in clean[::20]:
            own, source = predictions[date][name], predictions[date][row["copied_from"]]
            if row["copy_correlation"] == 1:
                assert own.equals(source)
            else:
                assert 0.99 < own.corr(source) < 0.999
    assert (truth.models.loc[copies["copied_from"], "kind"] == "skilled").all()


def test_models_of_a_group_overlap_and_others_less(truth: Truth, predictions: dict[pd.Timestamp, pd.DataFrame]) -> None:
    skilled = truth.models[truth.models["kind"] == "skilled"]
    dates = [date for date in predictions if date not in set(truth.blemishes["date"])][-60:]
    correlation = sum(predictions[date][skilled.index].corr() for date in dates) / len(dates)
    same = skilled["overlap_group"].to_numpy()[:, None] == skilled["overlap_group"].to_numpy()[None, :]
    above = np.triu(np.ones_like(same), k=1).astype(bool)
    inside, outside = correlation.to_numpy()[same & above], correlation.to_numpy()[~same & above]
    assert inside.mean() > SPEC.crowding * 0.8
    assert inside.mean() > outside.mean() + 0.1


def test_models_correlate_as_the_truth_says(truth: Truth, predictions: dict[pd.Timestamp, pd.DataFrame]) -> None:
    dates = [date for date in predictions if date not in set(truth.blemishes["date"])][-60:]
    realised = sum(predictions[date][truth.models.index].corr().to_numpy() for date in dates) / len(dates)
    expected = truth.model_correlation().to_numpy()
    np.testing.assert_allclose(np.diag(expected), 1, atol=1e-12)
    assert np.abs(realised - expected).max() < 0.06
    exact = truth.models.index[truth.models["copy_correlation"] == 1]
    for name in exact:
        assert truth.model_correlation().loc[name, truth.models.loc[name, "copied_from"]] == pytest.approx(1)


def test_meta_model_has_its_true_information_coefficient(
    truth: Truth, specific: pd.DataFrame, predictions: dict[pd.Timestamp, pd.DataFrame]
) -> None:
    ahead = forward_score(truth, specific, 0, 20)
    wrong = set(truth.blemishes["model"])
    whole = truth.models[(truth.models["coverage"] == 1) & (truth.models["first_date"] == min(predictions))]
    names = [name for name in whole.index if name not in wrong]
    stakes = pd.read_parquet(truth.folder / "stakes.parquet").groupby("model")["stake"].first()[names]
    coefficients = []
    for date in spaced(list(predictions), ahead.index, 20):
        ranked = predictions[date][names].rank()
        meta = pd.Series(norm.ppf((ranked - 0.5) / len(ranked)) @ stakes, index=ranked.index)
        if ahead.loc[date].notna().any():
            coefficients.append(meta.corr(ahead.loc[date].reindex(meta.index)))
    error = np.std(coefficients, ddof=1) / np.sqrt(len(coefficients))
    expected = truth.meta_model_coefficient(stakes)
    assert abs(np.mean(coefficients) - expected) < 4 * error
    assert error < expected / 4
    with pytest.raises(DataError, match="'nobody'"):
        truth.meta_model_coefficient(pd.Series({"nobody": 1.0}))
    with pytest.raises(DataError, match="positive"):
        truth.meta_model_coefficient(stakes * 0)


def test_turnover_is_the_planted_one(truth: Truth, predictions: dict[pd.Timestamp, pd.DataFrame]) -> None:
    sessions = wide(truth_table(truth, "specific_returns"), "specific_return").index
    dates = list(predictions)
    pairs = [(a, b) for a, b in pairwise(dates) if sessions.get_loc(b) - sessions.get_loc(a) == 5]
    wrong = set(truth.blemishes["date"])
    pairs = [(a, b) for a, b in pairs if not {a, b} & wrong]
    table = pd.DataFrame([predictions[a].corrwith(predictions[b]) for a, b in pairs])
    difference = table.mean() - truth.models["weekly_autocorrelation"]
    assert difference.abs().max() < 0.03
    assert truth.models["weekly_autocorrelation"].max() - truth.models["weekly_autocorrelation"].min() > 0.3


def test_late_joiners_and_partial_coverage(truth: Truth, predictions: dict[pd.Timestamp, pd.DataFrame]) -> None:
    models = truth.models
    first = {name: min(date for date in predictions if name in predictions[date]) for name in models.index}
    assert (pd.Series(first) == models["first_date"]).all()
    assert (models["first_date"] > min(predictions)).sum() == round(SPEC.late_share * SPEC.models)
    partial = models[models["coverage"] < 1]
    assert len(partial) == round(SPEC.partial_share * SPEC.models)
    assert partial["coverage"].between(0.7, 0.9).all()
    last = predictions[max(predictions)]
    for name in partial.index:
        assert 0.65 < last[name].notna().mean() < 0.95


def test_blemishes_are_exactly_the_planted_ones(truth: Truth, predictions: dict[pd.Timestamp, pd.DataFrame]) -> None:
    found = set()
    whole = truth.models.index[truth.models["coverage"] == 1]
    for date, frame in predictions.items():
        metadata = pq.read_schema(truth.folder / "predictions" / f"{date:%Y-%m-%d}.parquet").metadata
        for name, when in json.loads(metadata[b"submitted"]).items():
            if pd.Timestamp(when) > date + pd.Timedelta(hours=16):
                found.add((date, name, "late"))
        for name in frame.columns.intersection(whole):
            count, distinct = frame[name].count(), frame[name].nunique()
            if count == 0:
                found.add((date, name, "missing"))
            elif count == 3:
                found.add((date, name, "sparse"))
            elif distinct == 1:
                found.add((date, name, "constant"))
            else:
                assert count == len(frame)
    assert found == set(truth.blemishes.itertuples(index=False, name=None))
    assert truth.blemishes["kind"].value_counts().to_dict() == {"late": 6, "constant": 1, "missing": 1, "sparse": 1}


def test_without_blemishes_there_are_none(tmp_path: Path) -> None:
    truth = write_market(tmp_path / "data", TINY.model_copy(update={"blemishes": False}))
    assert truth.blemishes.empty
    covered = truth.models.index[truth.models["coverage"] == 1]
    for file in (tmp_path / "data" / "predictions").iterdir():
        frame = pd.read_parquet(file)
        assert frame[frame.columns.intersection(covered)].notna().all(axis=None)


def test_every_model_is_staked_from_its_first_date(truth: Truth) -> None:
    stakes = pd.read_parquet(truth.folder / "stakes.parquet")
    assert (stakes["stake"] > 0).all()
    assert not stakes.duplicated(["date", "model"]).any()
    assert stakes["date"].is_monotonic_increasing
    first = stakes.groupby("model")["date"].min()
    pd.testing.assert_series_equal(first, truth.models["first_date"].sort_index(), check_names=False)
    assert len(stakes) > 2 * SPEC.models
    opening = stakes.groupby("model")["stake"].first()
    assert opening.mean() > 1.3 * opening.median()
    money = opening.groupby(truth.models["kind"]).sum() / opening.sum()
    assert money.to_dict() == pytest.approx({"skilled": 0.6, "copy": 0.1, "noise": 0.2, "anti": 0.1})


# Writing


def files(folder: Path) -> list[Path]:
    return sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())


def test_same_spec_gives_the_same_bytes_and_another_seed_does_not(tmp_path: Path) -> None:
    for name, spec in (("a", TINY), ("b", TINY), ("c", TINY.model_copy(update={"seed": 2}))):
        write_market(tmp_path / name, spec)
    names = files(tmp_path / "a")
    assert names == files(tmp_path / "b")
    _, differ, odd = filecmp.cmpfiles(tmp_path / "a", tmp_path / "b", [str(n) for n in names], shallow=False)
    assert not differ
    assert not odd
    assert not filecmp.cmp(tmp_path / "a" / "market.parquet", tmp_path / "c" / "market.parquet", shallow=False)


def test_the_market_does_not_change_with_the_models(tmp_path: Path) -> None:
    write_market(tmp_path / "a", TINY)
    write_market(tmp_path / "b", TINY.model_copy(update={"models": 1}))
    assert filecmp.cmp(tmp_path / "a" / "market.parquet", tmp_path / "b" / "market.parquet", shallow=False)


def test_progress_rises_to_one(tmp_path: Path) -> None:
    seen: list[float] = []
    write_market(tmp_path / "data", TINY, seen.append)
    assert seen == sorted(seen)
    assert seen[-1] == 1.0
    assert 0 < seen[0] < 0.5


def test_truth_is_read_back(truth: Truth) -> None:
    again = read_truth(truth.folder)
    assert again.spec == SPEC
    assert again.risk_model.factors[0] == "market"
    np.testing.assert_array_equal(again.risk_model.factor_covariance, truth.risk_model.factor_covariance)
    assert 0.8 < truth.raw_return_ratio < 1
    with pytest.raises(DataError, match="no synthetic market"):
        read_truth(truth.folder / "predictions")


def test_an_existing_folder_is_refused_and_untouched(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("x")
    (tmp_path / "file").write_text("x")
    for name in ("mine", "file"):
        with pytest.raises(DataError, match="already exists"):
            write_market(tmp_path / name, TINY)
    (tmp_path / "new.partial").mkdir()
    with pytest.raises(DataError, match=r"new\.partial is left from an unfinished run"):
        write_market(tmp_path / "new", TINY)
    with pytest.raises(DataError, match="cannot be written"):
        write_market(tmp_path / "file" / "below", TINY)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "mine", "new.partial"]


def test_an_empty_folder_is_used(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    write_market(tmp_path / "data", TINY)
    assert (tmp_path / "data" / "market.parquet").is_file()


def test_a_failure_leaves_nothing_behind(tmp_path: Path) -> None:
    def fail(share: float) -> None:
        if share > 0.5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_market(tmp_path / "data", TINY, fail)
    assert list(tmp_path.iterdir()) == []


def test_one_country_and_one_sector_make_no_family(tmp_path: Path) -> None:
    spec = MarketSpec(assets=20, years=0.25, models=1, countries=1, sectors=1, prediction_every="month")
    truth = write_market(tmp_path / "data", spec)
    assert truth.risk_model.factors == ("market", "style:beta", "style:size", "style:residual_volatility")
    rows = pd.read_parquet(tmp_path / "data" / "market.parquet")
    predicted = sorted(path.stem for path in (tmp_path / "data" / "predictions").iterdir())
    sessions = pd.DatetimeIndex(rows["date"].unique())
    assert predicted == [f"{day:%Y-%m-%d}" for day in sessions[~sessions.strftime("%Y-%m").duplicated()]]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"assets": 3}, "assets"),
        ({"assets": 30}, "at least twice"),
        ({"years": -1}, "years"),
        ({"countries": 40}, "countries"),
        ({"sectors": 0}, "sectors"),
        ({"models": 0}, "models"),
        ({"start": "yesterday"}, "start"),
        ({"prediction_every": "hour"}, "prediction_every"),
        ({"tail_degrees": 2}, "tail_degrees"),
        ({"specific_volatility": 0.9}, "-100 %"),
        ({"skill_high": 0.07}, "no model can know more"),
        ({"copy_share": 0.5, "noise_share": 0.5}, "the rest is skilled"),
        ({"half_lives": ()}, "half_lives"),
        ({"volatility": 0.2}, "volatility"),
    ],
)
def test_a_bad_spec_is_refused_by_name(changes: dict[str, object], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        MarketSpec(**changes)


def test_an_alpha_that_dies_too_soon_cannot_be_planted(tmp_path: Path) -> None:
    spec = TINY.model_copy(update={"half_lives": (0.1,), "information_coefficient": 0.5})
    with pytest.raises(DataError, match="die too soon"):
        write_market(tmp_path / "data", spec)
    assert list(tmp_path.iterdir()) == []


def test_latents_are_frozen() -> None:
    latents = plant((20,), 0.06)
    assert isinstance(latents, Latents)
    with pytest.raises(ValueError, match="read-only"):
        latents.weights[0] = 2
