"""The report of a run: one HTML file that holds everything it shows and asks nothing of the network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
import plotly.graph_objects as go
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from backtest import series
from backtest.contributions import contribution_summary, scoring_block
from backtest.statistic import Statistic
from backtest.statistic_intervals import with_bootstrap
from backtest.statistics import by_year, run_statistics, trading_year
from backtest.store import Run, write_whole
from backtest.trial_report import TrialReport
from reports import cells, figures, records, tables
from reports.evidence import evidence, evidence_figures, gross_to_net
from reports.trials import trial_statistics

__all__ = ["write"]

HEADLINES = [
    "annual_return_net",
    "sharpe_before_fees",
    "sharpe_before_fees_ltm",
    "sharpe_net",
    "volatility_before_fees",
    "max_drawdown",
    "beta",
    "turnover",
]
PLAIN_LIMITS = ("net", "beta", "gross", "position")
FAMILIES_AS_HEAT = ("country", "sector")
SHOWN_MODELS = 20
"""From each end, where a run has more than twice as many."""


@dataclass(frozen=True)
class Figure:
    """A drawing with its place on the page.

    Attributes
    ----------
    name : str
        Identifier of its element.
    specification : Markup
        JSON, safe inside a script element.
    height : int
        Pixels, reserved before it is drawn.
    title, last : str
        Heading of a small one, and where it stands now.
    """

    name: str
    specification: Markup
    height: int
    title: str = ""
    last: str = ""


def write(
    run: Run | str | Path,
    out: str | Path,
    *,
    labels: pd.DataFrame | None = None,
    trials: TrialReport | None = None,
) -> Path:
    """Write the report of a finished run as one HTML file and return its path.

    The file is replaced whole or not at all. The same run gives the same bytes.

    Parameters
    ----------
    run : Run or path of a run folder
    out : path-like
    labels : DataFrame indexed by asset, optional
        Words to show beside an asset, such as name, country, sector. Default: country and sector of the run's last risk model.
    trials : TrialReport, optional
        The run among all backtests on its data (`backtest.trial_report.trial_report`). Without it the report says that it takes the
        run as the only one.

    Raises
    ------
    DataError
        If the folder holds no finished run, a table of it is missing, or `out` cannot be written.
    """
    run = run if isinstance(run, Run) else Run(run)
    text = _template().render(_content(run, labels, trials))
    return write_whole(Path(out), text)


def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("reports"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html")


def _content(run: Run, labels: pd.DataFrame | None, trials: TrialReport | None) -> dict[str, Any]:
    nav, solves, exposures = run.nav, run.table("solves"), run.table("exposures")
    meta_model, notices = run.table("meta_model"), run.table("notices")
    year = trading_year(run)
    found = with_bootstrap(run_statistics(run), nav, periods_per_year=year)
    limit = run.record.get("mandate", {}).get("volatility_limit")
    years = by_year(nav, solves, volatility_limit=limit, periods_per_year=year)
    steps = gross_to_net(run, nav)
    return {
        "plotly": Markup(get_plotlyjs()),
        "record": run.record,
        "facts": _facts(run.record),
        "assumed": _assumed(run.record),
        "features": _features(run.record),
        "assumed_terms": records.assumed_table(run.record),
        "headlines": [_statistic(item) for item in found.select(HEADLINES)],
        "statistics": [(group.value, [_statistic(item) for item in items]) for group, items in found.groups().items()],
        "evidence": evidence(run, nav, found),
        "trials": None if trials is None else [_statistic(item) for item in trial_statistics(trials)],
        "steps": steps,
        "figures": _figures(run, nav, solves, exposures, limit) | _evidence_figures(nav, year, steps),
        "panels": _panels(exposures),
        "heats": _heats(exposures),
        "months": tables.month_table(nav["net_return"]),
        "years": tables.year_table(years),
        "worst_violation": "" if solves.empty else cells.scientific(float(solves["primal_residual"].max())),
        "limits": tables.limit_table(series.limit_use(exposures)),
        "positions": _positions(run, labels),
        "solves": records.solve_table(solves),
        "binding": records.binding_table(solves, run.table("duals")),
        "contribution": _contribution(run, nav, meta_model),
        "left_out": records.left_out_table(meta_model),
        "universe": records.universe_table(run.table("universe")),
        "notices": records.notice_table(notices),
        "recent_notices": records.recent_notices(notices),
        "product": records.terms_table(run.record.get("product", {})),
        "mandate": records.terms_table(run.record.get("mandate", {})),
        "versions": run.record.get("versions", {}),
    }


def _figures(
    run: Run, nav: pd.DataFrame, solves: pd.DataFrame, exposures: pd.DataFrame, limit: float | None
) -> dict[str, Figure]:
    net, before, year = nav["net_return"], nav["return_before_fees"], trading_year(run)
    forecast = exposures[exposures["factor"] == "volatility"].set_index("date")["exposure"]
    realised = series.rolling_volatility(before, periods_per_year=year)
    drawn = {
        "equity": figures.equity_figure(series.growth(net), series.growth(before)),
        "drawdown": figures.drawdown_figure(series.drawdown(net)),
        "volatility": figures.volatility_figure(realised, forecast, solves.set_index("date")["volatility"], limit),
        "charges": figures.charges_figure(series.cumulative_charges(nav)),
        "turnover": figures.turnover_figure(series.monthly_turnover(nav)),
    }
    return {name: _figure(name, figure) for name, figure in drawn.items()}


def _evidence_figures(nav: pd.DataFrame, year: int, steps: Mapping[str, Any] | None) -> dict[str, Figure]:
    drawn = evidence_figures(nav, year) | ({} if steps is None else {"waterfall": steps["figure"]})
    return {name: _figure(name, figure) for name, figure in drawn.items()}


def _figure(name: str, figure: go.Figure, title: str = "", last: str = "") -> Figure:
    return Figure(name, Markup(figures.as_json(figure)), int(figure.layout.height), title, last)


def _panels(exposures: pd.DataFrame) -> list[Figure]:
    """Return a small figure for each exposure with a limit that is neither volatility nor drawn as a heat map."""
    limited = exposures[exposures["limit_lower"].notna() | exposures["limit_upper"].notna()]
    names = [name for name in PLAIN_LIMITS if name in set(limited["factor"])]
    names += [
        name
        for name in dict.fromkeys(limited["factor"])
        if name not in (*PLAIN_LIMITS, "volatility") and name.split(":", 1)[0] not in FAMILIES_AS_HEAT
    ]
    panels = []
    for j, name in enumerate(names):
        rows = limited[limited["factor"] == name].set_index("date")
        tickformat = figures.PERCENT if tables.exposure_text(name, 0.0).endswith("%") else ""
        figure = figures.limit_figure(rows["exposure"], rows["limit_lower"], rows["limit_upper"], tickformat=tickformat)
        title = "largest position" if name == "position" else name
        panels.append(_figure(f"panel-{j}", figure, title, _standing(name, rows)))
    return panels


def _standing(name: str, rows: pd.DataFrame) -> str:
    low, high = float(rows["limit_lower"].iloc[-1]), float(rows["limit_upper"].iloc[-1])
    text = tables.exposure_text
    if low == -high:
        limit = f"limit {text(name, 0.0)}" if high == 0 else f"limit \N{PLUS-MINUS SIGN}{text(name, high)}"
    else:
        sides = [
            f"{word} {text(name, side)}" for word, side in (("at least", low), ("at most", high)) if pd.notna(side)
        ]
        limit = ", ".join(sides)
    return f"{text(name, float(rows['exposure'].iloc[-1]))}; {limit}"


def _heats(exposures: pd.DataFrame) -> list[Figure]:
    heats = []
    for family in FAMILIES_AS_HEAT:
        rows = exposures[exposures["factor"].str.startswith(f"{family}:")]
        if rows.empty:
            continue
        short = rows.assign(factor=rows["factor"].str.removeprefix(f"{family}:"))
        table = short.pivot_table(index="date", columns="factor", values="exposure", sort=True)
        last = f"largest on the last date {cells.percent(float(table.iloc[-1].abs().max()), 2)}"
        heats.append(_figure(f"heat-{family}", figures.heat_figure(table), family, last))
    return heats


def _positions(run: Run, labels: pd.DataFrame | None) -> list[cells.Table]:
    weights, signals = run.table("weights"), run.table("signals")
    words = _labels_of_model(run) if labels is None else labels
    return [tables.position_table(weights, signals, words, side=side) for side in (1, -1)]


def _labels_of_model(run: Run) -> pd.DataFrame:
    """Return country and sector as the last stored risk model has them: the column in which an asset has a 1."""
    dates = run.model_dates()
    if not dates:
        return pd.DataFrame()
    model = run.model(dates[-1])
    loadings = pd.DataFrame(model.exposures, index=list(model.assets), columns=list(model.factors))
    found = {}
    for family in FAMILIES_AS_HEAT:
        names = [name for name in model.factors if name.startswith(f"{family}:")]
        if names:
            one = loadings[names].set_axis([name.removeprefix(f"{family}:") for name in names], axis=1) == 1.0
            found[family] = one.idxmax(axis=1).where(one.any(axis=1), "")
    return pd.DataFrame(found, index=loadings.index)


def _contribution(run: Run, nav: pd.DataFrame, meta_model: pd.DataFrame) -> dict[str, Any] | None:
    """Return the section on models, or None where the run has not been attributed."""
    if not run.has("contribution"):
        return None
    scored = run.table("contribution")
    product: Mapping[str, Any] = run.record.get("product", {})
    days = int(product.get("score_horizon_days", 20)) + int(product.get("score_lag_days", 2))
    rounds = pd.DatetimeIndex(scored["date"])
    block = scoring_block(rounds, pd.DatetimeIndex(nav.index), days)
    summary = contribution_summary(scored, block=block)
    shown = summary
    if len(summary) > 2 * SHOWN_MODELS:
        shown = pd.concat([summary.head(SHOWN_MODELS), summary.tail(SHOWN_MODELS)])
    return {
        "rounds": int(rounds.nunique()),
        "models": len(summary),
        "shown": len(shown),
        "block": block,
        "figure": None if shown.empty else _figure("contribution", figures.contribution_figure(shown)),
        "table": records.contribution_table(shown, meta_model),
    }


def _statistic(item: Statistic) -> dict[str, str]:
    return {
        "label": item.label,
        "value": cells.with_unit(item.value, item.unit),
        "unit": item.unit.value,
        "band": cells.band_text(item.band, item.unit),
        "method": "" if item.band is None else item.band.method,
        "definition": item.definition,
        "convention": item.convention,
        "note": item.note,
    }


def _facts(record: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return what the head of the page states, leaving out what the run does not."""
    data, product = record.get("data", {}), record.get("product", {})
    currency = data.get("currency", "")
    span = f"{record.get('start', cells.UNKNOWN)} to {record.get('end', cells.UNKNOWN)}"
    facts = [
        ("Mandate", record.get("mandate", {}).get("name")),
        ("Period", span),
        ("Capital at start", cells.money(record["nav0"], currency) if "nav0" in record else None),
        ("Rebalanced", product.get("rebalance")),
        ("Data set", data.get("name")),
        ("Source", data.get("source")),
        ("Returns", f"{data['return_kind']}, in {currency}" if "return_kind" in data else None),
        ("Size measured by", str(record["size_source"]).replace("_", " ") if record.get("size_source") else None),
        ("Not asked, for lack of the column", ", ".join(record.get("universe_not_applied", ())).replace("_", " ")),
        ("Seed", record.get("seed")),
        ("Data fingerprint", data.get("fingerprint")),
        ("Code fingerprint", record.get("code")),
    ]
    return [(label, str(value)) for label, value in facts if value not in (None, "")]


def _assumed(record: Mapping[str, Any]) -> list[tuple[str, list[str]]]:
    """Return the terms of product and mandate that were never published."""
    named = [(part, record.get(part, {}).get("assumed", ())) for part in ("product", "mandate")]
    return [(part, [str(name).replace("_", " ").replace(".", " ") for name in names]) for part, names in named if names]


def _features(record: Mapping[str, Any]) -> list[str]:
    features: Mapping[str, Any] = record.get("data", {}).get("features", {})
    return [str(name) for name, there in features.items() if not there]
