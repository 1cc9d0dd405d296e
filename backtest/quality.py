"""Is this data usable: everything that is wrong, missing or odd in a data set, and what a backtest would drop and why.

`Dataset` refuses at the first error; this report lists all of them, by the same rules.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pandas as pd

from backtest.condition_files import read_condition_files
from backtest.condition_quality import check_conditions, describe_conditions, ended_assets
from backtest.dataset import Dataset
from backtest.dataset_settings import DatasetSettings
from backtest.market_quality import find_market_oddities
from backtest.market_rows import build_panel
from backtest.market_rules import Finding, Severity, find_row_errors, find_unknown_returns
from backtest.model_quality import attempt, check_models
from backtest.universe import UniverseRule, universe
from risk import Panel

__all__ = ["QualityReport", "check"]


@dataclass(frozen=True, eq=False)
class QualityReport:
    """What `check` found.

    Attributes
    ----------
    settings : DatasetSettings
    counts : dict of str to int
        assets, dates, rows, prediction_dates, models.
    span : tuple of Timestamp or None
        First and last trading day; None where the market cannot be read.
    features : dict of str to bool
        Optional files that exist.
    findings : tuple of Finding
        Errors first, then warnings, then facts.
    excluded : DataFrame or None
        Universe under the rule: index `members` and the reasons of exclusion, columns `mean` (assets per day) and `last`
        (on the last day). None where a backtest would refuse the market.
    size_source : str or None
        What the universe takes for size.
    models : DataFrame or None
        Per model: dates with predictions, and how many are constant, missing, few, late; rows of unknown assets.
    conditions : dict of str to dict
        For each of the files events, rates, fx and borrow that can be read: rows, span (first and last date), how many
        assets or currencies it names and, of events, how many of each of the kinds.
    """

    settings: DatasetSettings
    counts: dict[str, int]
    span: tuple[pd.Timestamp, pd.Timestamp] | None
    features: dict[str, bool]
    findings: tuple[Finding, ...]
    excluded: pd.DataFrame | None
    size_source: str | None
    models: pd.DataFrame | None
    conditions: dict[str, dict[str, Any]]

    @property
    def usable(self) -> bool:
        """Whether a backtest would accept the data."""
        return not any(finding.severity is Severity.ERROR for finding in self.findings)

    def lines(self) -> list[str]:
        """Return the report as lines of text."""
        counts, settings = self.counts, self.settings
        span = "no readable market" if self.span is None else f"{self.span[0].date()} to {self.span[1].date()}"
        absent = [name for name, there in self.features.items() if not there]
        unread = [name for name in ("scores",) if self.features[name]]
        lines = [
            f"{settings.name}: {counts['assets']:,} assets, {counts['dates']:,} trading days, {counts['rows']:,} rows, {span}",
            f"currency {settings.currency}, returns {settings.return_kind}, closes {settings.close_kind}, "
            f"{settings.periods_per_year} days a year",
            f"{counts['prediction_dates']:,} prediction dates, {counts['models']:,} models",
            f"not given, so off: {', '.join(absent) or 'nothing'}",
            *([f"given, and not used yet: {', '.join(unread)}"] if unread else []),
            *(_describe(name, facts) for name, facts in self.conditions.items()),
        ]
        lines += [f"{finding.severity.value}: {finding.message}" for finding in self.findings]
        if self.excluded is not None:
            lines.append(f"universe, assets per day (size: {self.size_source}):")
            lines += [
                f"  {reason}: {row['mean']:,.1f} on average, {row['last']:,.0f} on the last day"
                for reason, row in self.excluded.iterrows()
            ]
        errors = sum(finding.severity is Severity.ERROR for finding in self.findings)
        lines.append("usable" if self.usable else f"not usable: {errors} error(s) above")
        return lines

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain values for JSON."""
        return {
            "usable": self.usable,
            "settings": self.settings.model_dump(),
            "counts": self.counts,
            "span": None if self.span is None else [str(day.date()) for day in self.span],
            "features": self.features,
            "findings": [
                {
                    "severity": finding.severity.value,
                    "rule": finding.rule,
                    "file": finding.file,
                    "count": finding.count,
                    "message": finding.message,
                }
                for finding in self.findings
            ],
            "universe": None if self.excluded is None else self.excluded.to_dict(orient="index"),
            "size_source": self.size_source,
            "models": None if self.models is None else self.models.to_dict(orient="index"),
            "conditions": self.conditions,
        }


def _describe(name: str, facts: dict[str, Any]) -> str:
    """Return the line on one file of trading conditions."""
    span = f", {facts['span'][0]} to {facts['span'][1]}" if facts["span"] else ""
    counts = [f"{facts[unit]:,} {unit}" for unit in ("assets", "currencies") if unit in facts]
    kinds = [f"{count:,} {kind}" for kind, count in facts.get("kinds", {}).items()]
    return f"{name}: {facts['rows']:,} rows{span}, {', '.join([*counts, *kinds])}"


def check(data: Dataset, rule: UniverseRule | None = None) -> QualityReport:
    """Return everything that is wrong, missing or odd in a data set.

    Parameters
    ----------
    data : Dataset
    rule : UniverseRule, optional
        Who may be held; by default the default rule without demands on columns that the market does not have.
    """
    findings: list[Finding] = []
    rows = attempt(findings, "market", data.market_rows)
    labels = attempt(findings, "assets", lambda: data.label_table)
    files, unread = read_condition_files(data.folder)
    panel: Panel | None = None
    if rows is not None:
        findings += find_row_errors(rows, data.settings)
        findings += find_unknown_returns(rows, data.settings)
        if labels is not None:
            sound = not any(finding.severity is Severity.ERROR for finding in findings)
            panel = build_panel(rows, labels, data.settings, rows.unknown_returns())
            findings += find_market_oddities(rows, panel, labels, data.settings, ended_assets(files))
            panel = panel if sound else None
    findings += unread if panel is None else [*unread, *check_conditions(data, files, panel)]
    excluded, source = None, None
    if panel is not None:
        chosen = universe(
            panel, rule or UniverseRule.for_columns(data.market_columns()), stale_days=data.settings.stale_days
        )
        daily = pd.concat(
            [pd.Series(chosen.members.sum(axis=1), index=panel.dates, name="members"), chosen.excluded], axis=1
        )
        excluded, source = pd.DataFrame({"mean": daily.mean(), "last": daily.iloc[-1]}), chosen.size_source
    assets = None if rows is None else frozenset(rows.assets)
    found, models = check_models(data, None if rows is None else rows.dates, assets)
    findings += found
    order = list(Severity)
    dates = attempt([], "predictions/", data.prediction_dates)
    return QualityReport(
        settings=data.settings,
        counts={
            "assets": 0 if rows is None else len(rows.assets),
            "dates": 0 if rows is None else len(rows.dates),
            "rows": 0 if rows is None else len(rows.day),
            "prediction_dates": 0 if dates is None else len(dates),
            "models": 0 if models is None else len(models),
        },
        span=None if rows is None else (rows.dates[0], rows.dates[-1]),
        features=data.features(),
        findings=tuple(sorted(findings, key=lambda finding: order.index(finding.severity))),
        excluded=excluded,
        size_source=source,
        models=models,
        conditions=describe_conditions(files),
    )
