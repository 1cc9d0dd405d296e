"""The risk report as one HTML file that holds everything it shows and asks nothing of the network."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import plotly.graph_objects as go
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from backtest.risk_model_state import ModelState
from backtest.risk_record import Measure
from backtest.risk_scenarios import Scenarios
from backtest.risk_sources import Sources
from backtest.risk_view import RiskView
from backtest.store import write_whole
from reports import cells, figures, records, risk_figures
from reports import risk_loss_tables as losses
from reports import risk_record_tables as past
from reports import risk_tables as tables
from reports.risk_cells import absences, bound_text, level_text, measure_text, unit_text
from reports.risk_tables import Sheet

__all__ = ["write_risk"]

HEADLINE_FACTORS, SHOWN_ASSETS, SHOWN_BREACHES = 12, 20, 12
SHOWN_GROUPS = 12
SHOWN_DAYS = 126
"""Of the use of limits, before the reader asks for more."""
CORRELATED = ("market", "sector", "style", "signal")
"""Families in the picture of correlations."""


@dataclass(frozen=True)
class Figure:
    """A drawing with its place on the page: element, JSON that is safe inside a script, and pixels reserved for it."""

    name: str
    specification: Markup
    height: int


def write_risk(view: RiskView, out: str | Path) -> Path:
    """Write a risk report as one HTML file and return its path.

    The file is written whole or not at all. The same view gives the same bytes.

    Raises
    ------
    DataError
        If `out` cannot be written.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("reports"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    text = environment.get_template("risk.html").render(_content(view))
    return write_whole(Path(out), text)


def _content(view: RiskView) -> dict[str, Any]:
    drawn = {name: _figure(name, figure) for name, figure in _figures(view).items()}
    return {
        "plotly": Markup(get_plotlyjs()),
        "view": view,
        "day": cells.date(view.date),
        "headline": [_card(measure, view.currency) for measure in view.headline],
        "figures": drawn,
        "shown_days": SHOWN_DAYS,
        "breaches": _breached(view),
        "missing": absences(view.missing),
        "why": view.missing,
        "limits": _limits(view),
        "sources": None if view.sources is None else _sources(view.sources),
        "scenarios": None if view.scenarios is None else _scenarios(view.scenarios),
        "tails": losses.tail_sheet(view.tails),
        "forecast": _forecast(view),
        "studies": None if view.studies is None else past.study_sheet(view.studies.summary),
        "attribution": _attribution(view),
        "model": None if view.model is None else _model(view.model),
        "mandate": records.terms_table(view.mandate),
        "rule": records.terms_table(view.rule),
        "risk_model": records.terms_table(view.product.get("risk_model", {})),
        "assumed": _assumed({"mandate": view.mandate, "product": view.product, "monitoring": view.rule}),
    }


def _figure(name: str, figure: go.Figure) -> Figure:
    return Figure(name, Markup(figures.as_json(figure)), int(figure.layout.height))


def _card(measure: Measure, currency: str) -> dict[str, Any]:
    return {
        "label": measure.label,
        "value": measure_text(measure, currency),
        "unit": unit_text(measure.unit),
        "bound": bound_text(measure),
        "note": measure.note,
        "definition": measure.definition,
        "alert": measure.alert,
    }


def _breached(view: RiskView) -> list[str]:
    """Return each breach of the day in a sentence."""
    if view.limits is None:
        return []
    breaches, said = view.limits.breaches, []
    for _, row in breaches[breaches["open"]].sort_values("hard", ascending=False, kind="stable").iterrows():
        name = str(row["limit"])
        family, asset = name.partition(":")[0], f" of {row['asset']}" if row["asset"] else ""
        worst, beyond = level_text(family, row["worst"]), level_text(family, row["excess"], exact=True)
        said.append(
            f"{name.capitalize()}{asset}: since {cells.date(row['start'])} ({int(row['days'])} session{'s'[: row['days'] != 1]}), "
            f"at worst {worst}, {beyond} beyond limit and tolerance; {row['kind']} ({row['cause']}), {'hard' if row['hard'] else 'soft'}."
        )
    return said


def _assumed(terms: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, str]]:
    """Return the terms that were never published, by where they stand."""
    found = {
        part: [str(name).replace("_", " ") for name in values.get("assumed", ())] for part, values in terms.items()
    }
    return [(part, ", ".join(names)) for part, names in found.items() if names]


def _figures(view: RiskView) -> dict[str, go.Figure]:
    drawn: dict[str, go.Figure] = {}
    if view.limits is not None:
        record = view.limits.forecast
        if len(view.use.columns):
            drawn["use"] = risk_figures.use_figure(view.use, shown=SHOWN_DAYS)
        drawn["volatility"] = risk_figures.forecast_figure(record, view.mandate.get("volatility_limit"))
        drawn["ratio"] = risk_figures.ratio_figure(record)
    if view.sources is not None:
        families = view.sources.families
        drawn["families"] = risk_figures.bar_figure(list(families.index), families["contribution"], loss=True)
    if view.scenarios is not None:
        stresses = view.scenarios.stresses
        drawn["stresses"] = risk_figures.bar_figure(list(stresses.index), stresses["loss"], loss=True)
    if view.forecast is not None and len(view.forecast.exceptions):
        drawn["exceptions"] = risk_figures.exception_figure(view.forecast.exceptions, "student")
    if view.studies is not None and len(view.studies.rolling):
        drawn["studies"] = risk_figures.series_figure(view.studies.rolling, band=view.studies.band)
    if view.attribution is not None:
        families = view.attribution.families
        drawn["attribution"] = risk_figures.bar_figure(
            [str(name).replace("_", " ") for name in families.index], families["contribution"]
        )
    if view.model is not None:
        drawn |= _model_figures(view.model)
    return drawn


def _model_figures(state: ModelState) -> dict[str, go.Figure]:
    chosen = [name for name in state.correlation.columns if str(name).partition(":")[0] in CORRELATED]
    drawn = {"r_squared": risk_figures.share_figure(state.r_squared)}
    if chosen:
        drawn["correlation"] = risk_figures.correlation_figure(state.correlation.loc[chosen, chosen])
    return drawn


def _limits(view: RiskView) -> dict[str, Any] | None:
    if view.limits is None:
        return None
    breaches = view.limits.breaches
    return {
        "worst": tables.limit_sheet(view.limits, worst=True),
        "all": tables.limit_sheet(view.limits, worst=False),
        "count": len(view.limits.table),
        "breaches": tables.breach_sheet(breaches, count=SHOWN_BREACHES),
        "ever": len(breaches),
        "hard": int(breaches["hard"].sum()),
        "days": len(view.use),
    }


def _sources(sources: Sources) -> dict[str, Any]:
    return {
        "families": tables.family_sheet(sources.families),
        "factors": tables.factor_sheet(sources.factors, count=HEADLINE_FACTORS),
        "all_factors": tables.factor_sheet(sources.factors),
        "count": len(sources.factors),
        "sectors": tables.group_sheet(sources.sectors),
        "countries": tables.group_sheet(sources.countries, count=SHOWN_GROUPS),
        "all_countries": tables.group_sheet(sources.countries) if len(sources.countries) > SHOWN_GROUPS else None,
        "country_count": len(sources.countries),
        "assets": tables.asset_sheet(sources.assets, count=SHOWN_ASSETS),
        "crowding": tables.crowding_sheet(sources.crowding),
        "explained": cells.percent(sources.crowding_explained, 1),
        "thin": {name: cells.percent(value, 1) for name, value in sources.thin.items()},
        "concentration": tables.measure_sheet(_concentration(sources)),
        "liquidity": tables.measure_sheet(_liquidity(sources)),
        "participation": cells.percent(sources.participation, 0),
        "factor_share": cells.percent(sources.factor_share, 1),
        "specific_share": cells.percent(sources.specific_share, 1),
        "volatility": cells.percent(sources.volatility, 2),
        "multiplier": cells.number(sources.multiplier, 2),
        "calibrated": cells.percent(sources.calibrated_volatility, 2),
    }


def _concentration(sources: Sources) -> list[tuple[str, str, str]]:
    found = sources.concentration
    rows = [
        ("Positions", cells.integer(found.positions), "Assets held that the model knows."),
        (
            "Effective positions",
            cells.number(found.effective_positions, 0),
            "Number of equal positions that would be as concentrated in weight.",
        ),
        (
            "Effective risk positions",
            cells.number(found.effective_risk_positions, 0),
            "The same by contribution to risk.",
        ),
        (
            "Effective bets",
            cells.number(found.effective_bets, 0),
            "Number of equal uncorrelated bets, factors and single names, that would be as concentrated in variance.",
        ),
    ]
    for count, gross, risk in zip(found.top, found.top_gross, found.top_risk, strict=True):
        text = f"{cells.percent(float(gross), 1)} / {cells.percent(float(risk), 1)}"
        rows.append((f"Largest {count}", text, "Share of gross in the largest / of variance from the riskiest."))
    return rows


def _liquidity(sources: Sources) -> list[tuple[str, str, str]]:
    rows = [
        (
            f"{cells.percent(share, 0)} of gross",
            f"{cells.number(float(days), 2)} days" if math.isfinite(days) else "never",
            "Sold entirely within so many trading days.",
        )
        for share, days in zip(sources.liquidity.index.astype(float), sources.liquidity["days"], strict=True)
    ]
    rows += [
        (
            f"Sold within {days:g} day{'s'[: days != 1]}",
            f"{cells.percent(row['liquidated'], 1)}",
            f"Share of gross; longs {cells.percent(row['long'], 1)}, shorts {cells.percent(row['short'], 1)}.",
        )
        for days, row in sources.liquidated.iterrows()
    ]
    rows.append(
        ("Volume not known", cells.percent(sources.liquidity_unknown, 2), "Share of gross; it counts as never sold.")
    )
    return rows


def _scenarios(found: Scenarios) -> dict[str, Any]:
    return {
        "stresses": losses.stress_sheet(found.stresses),
        "replays": losses.replay_sheet(found.replays),
        "regimes": losses.regime_sheet(found.regimes),
        "missing": found.replays_missing,
    }


def _forecast(view: RiskView) -> dict[str, Any] | None:
    found = view.forecast
    if found is None:
        return None
    return {
        "days": found.days,
        "bias": past.bias_sheet(found.bias),
        "years": past.year_sheet(found.years),
        "losses": past.loss_sheet(found.losses),
        "tails": losses.var_sheet(found.tails),
        "missing": list(found.missing.values()),
    }


def _attribution(view: RiskView) -> dict[str, Any] | None:
    found = view.attribution
    if found is None:
        return None
    source = {
        "regression": "Exposures are those of each day's own regression, known at the close before.",
        "model": "Exposures are those of the model in force, up to a decision old.",
    }
    unpriced = sum(found.unpriced.values())
    said = [source[found.exposure_source]]
    if found.without_factors:
        said.append(f"{found.without_factors} days have no factor returns: all of their return is specific.")
    if unpriced:
        said.append(
            f"On {unpriced} days and factors the book was exposed to a factor of the decision's model that had no return that day; "
            "what it earned there is specific."
        )
    if found.without_yardstick:
        said.append(
            "Held while the universe held nothing in the group, and measured against the universe: "
            + ", ".join(f"{name} ({days} days)" for name, days in found.without_yardstick.items())
            + "."
        )
    years = [[str(year), *(cells.percent(value, 2) for value in row)] for year, row in found.years.iterrows()]
    heads = ["Year", *(str(name).replace("_", " ").capitalize() for name in found.years.columns)]
    return {
        "span": f"{cells.date(found.first)} to {cells.date(found.last)}",
        "total": cells.percent(found.total, 2),
        "linking": found.linking,
        "families": past.line_sheet(found.families, exposures=False),
        "lines": past.line_sheet(found.lines, exposures=True),
        "years": Sheet(cells.Table.of(heads, years, empty="No year."), ("",) * len(heads)),
        "country": past.brinson_sheet(found.country),
        "sector": past.brinson_sheet(found.sector),
        "effects": past.effect_sheet(found.effects),
        "notes": said,
    }


def _model(state: ModelState) -> dict[str, Any]:
    main = state.factors[state.factors["family"].isin(CORRELATED)]
    return {
        "date": cells.date(state.date),
        "assets": f"{len(state.model.assets):,}",
        "factors": f"{len(state.model.factors):,}",
        "condition": cells.number(state.condition, 1),
        "main": past.model_sheet(main),
        "all": past.model_sheet(state.factors),
        "estimate": past.rule_sheet(state.rules),
        "counts": past.count_sheet(state.counts),
        "years": tables.measure_sheet(
            [
                (
                    str(year),
                    cells.percent(float(row["mean"]), 1),
                    f"{row['days']:.0f} days; median {cells.percent(float(row['median']), 1)}, 5 % to 95 %: "
                    f"{cells.percent(float(row['low']), 1)} to {cells.percent(float(row['high']), 1)}",
                )
                for year, row in state.years.iterrows()
            ]
        ),
        "note": state.note,
    }
