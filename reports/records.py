"""Tables of decisions, models, exclusions, notices and terms: what a run recorded, counted and put in order."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from reports.cells import UNKNOWN, Cell, Table, date, integer, number, percent, scientific

__all__ = [
    "assumed_table",
    "binding_table",
    "contribution_table",
    "left_out_table",
    "notice_table",
    "recent_notices",
    "solve_table",
    "terms_table",
    "universe_table",
]

CERTIFIED = 1e-6
"""Residual above which a solve is shown as an alert."""


def solve_table(solves: pd.DataFrame) -> Table:
    """Return how the decisions were solved: statuses, methods and the worst residual of each kind."""
    empty = "No decision was made."
    if solves.empty:
        return Table.of(["Measure", "Value", "Where"], [], empty=empty)
    rows: list[list[Cell | str]] = [
        ["Decisions", integer(len(solves)), f"{date(solves['date'].min())} to {date(solves['date'].max())}"]
    ]
    for column, label in (("status", "Status"), ("method", "Method")):
        rows += [[f"{label}: {name}", integer(count), ""] for name, count in solves[column].value_counts().items()]
    for column, label in (("fallback", "Needed another solver"), ("relaxed", "Limits widened")):
        used = solves[solves[column].fillna("") != ""]
        where = f"last on {date(used['date'].max())}: {used[column].iloc[-1]}" if len(used) else ""
        rows.append([label, Cell(integer(len(used)), alert=len(used) > 0), where])
    for column, label in (
        ("primal_residual", "Largest violation of a limit, in its own unit"),
        ("dual_residual", "Largest dual residual, annual alpha"),
        ("complementarity", "Largest complementarity, annual alpha"),
        ("gap", "Largest duality gap, annual alpha"),
    ):
        worst, where = solves[column].max(), ""
        if np.isfinite(worst):
            where = f"on {date(solves.sort_values(column)['date'].iloc[-1])}"
        rows.append([label, Cell(scientific(worst), alert=bool(worst > CERTIFIED)), where])
    for column, label in (
        ("iterations", "Iterations"),
        ("free_directions", "Free directions"),
        ("assets", "Assets in the problem"),
        ("models", "Models in the meta model"),
    ):
        values = solves[column]
        rows.append(
            [
                label,
                number(float(values.median()), 0),
                f"median; from {integer(values.min())} to {integer(values.max())}",
            ]
        )
    return Table.of(["Measure", "Value", "Where"], rows, empty=empty, words=(0, 2))


def binding_table(solves: pd.DataFrame, duals: pd.DataFrame, *, count: int = 20) -> Table:
    """Return how often each limit bound and what it cost: its mean price over all decisions."""
    by_limit = duals.assign(size=duals["price"].abs()).groupby("limit")
    prices = by_limit[["price", "size"]].mean().rename(columns={"price": "mean"})
    often = solves["binding"].explode().dropna().value_counts() / max(len(solves), 1)
    table = prices.join(often.rename("often"), how="outer").fillna({"often": 0.0})
    table = table[(table["often"] > 0) | (table["size"] > 0)].sort_values(
        ["often", "size"], ascending=False, kind="stable"
    )
    rows = [
        [str(name), percent(row["often"], 0), number(row["mean"], 4), number(row["size"], 4)]
        for name, row in table.head(count).iterrows()
    ]
    left = len(table) - len(rows)
    note = f"{left} more limits bound less often or cost less." if left > 0 else ""
    return Table.of(
        ["Limit", "Binds in", "Mean price", "Mean absolute price"], rows, empty="No limit ever bound.", note=note
    )


def contribution_table(summary: pd.DataFrame, meta_model: pd.DataFrame) -> Table:
    """Return mean true contribution of the shown models with its error, stake, coverage and use."""
    used = meta_model[meta_model["used"]]
    coverage = used.groupby("model")["coverage"].mean()
    share = meta_model.groupby("model")["used"].mean()
    rows = [
        [
            str(model),
            number(row["true_contribution"], 5),
            number(row["standard_error"], 5),
            percent(row["share_positive"], 0),
            integer(row["rounds"]),
            percent(row["stake"], 2),
            integer(coverage.get(model, np.nan)),
            percent(share.get(model, np.nan), 0),
        ]
        for model, row in summary.iterrows()
    ]
    columns = [
        "Model",
        "Mean TC",
        "Standard error",
        "Rounds above 0",
        "Rounds",
        "Mean share of stake",
        "Assets covered",
        "Decisions used in",
    ]
    return Table.of(columns, rows, empty="No round has been scored.")


def left_out_table(meta_model: pd.DataFrame) -> Table:
    """Return how many models were left out of the meta model, by reason."""
    out = meta_model[~meta_model["used"].astype(bool)]
    total = max(len(meta_model), 1)
    rows = []
    # "covers 3 of 209 assets" and "covers 4 of 210 assets" are one reason.
    kinds = out["reason"].map(lambda reason: re.sub(r"\d+", "\N{HORIZONTAL ELLIPSIS}", str(reason)))
    for reason, group in sorted(out.groupby(kinds), key=lambda pair: -len(pair[1])):
        names = sorted(group["model"].unique())
        listed = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
        rows.append([str(reason), listed, integer(len(group)), percent(len(group) / total, 2), integer(len(names))])
    columns = ["Reason", "Models", "Model and decision pairs", "Share of all", "Different models"]
    return Table.of(columns, rows, empty="Every model was used in every decision.", words=(0, 1))


def universe_table(universe: pd.DataFrame) -> Table:
    """Return how many assets the universe rule left out at decisions, by reason."""
    last = universe["date"].max()
    rows, idle = [], []
    for reason, group in universe.groupby("reason"):
        name, latest = str(reason).replace("_", " "), group.loc[group["date"] == last, "assets"].sum()
        if group["assets"].max() == 0:
            idle.append(name)
            continue
        rows.append([name, number(group["assets"].mean(), 1), integer(group["assets"].max()), integer(latest)])
    columns = ["Reason", "Mean assets a decision", "Most", "Last decision"]
    note = f"Never the reason: {', '.join(idle)}." if idle else ""
    return Table.of(columns, rows, empty="No asset was left out.", note=note)


def notice_table(notices: pd.DataFrame) -> Table:
    """Return the notices of the run, counted by kind."""
    rows = []
    for kind, group in sorted(notices.groupby("kind"), key=lambda pair: -len(pair[1])):
        size = group["amount"].abs()
        rows.append(
            [
                str(kind),
                integer(len(group)),
                integer(group["asset"].nunique()),
                date(group["date"].min()),
                date(group["date"].max()),
                percent(size.max(), 2) if size.notna().any() else "",
            ]
        )
    return Table.of(["Notice", "Times", "Names", "First", "Last", "Largest amount"], rows, empty="Nothing to report.")


def recent_notices(notices: pd.DataFrame, *, count: int = 4) -> Table:
    """Return the latest notices of each kind, newest first."""
    ordered = notices.sort_values("date", kind="stable")
    latest = ordered.groupby("kind").tail(count).iloc[::-1]
    rows = [
        [
            date(row["date"]),
            *(str(row[column]) for column in ("kind", "asset", "detail")),
            percent(row["amount"], 2) if np.isfinite(row["amount"]) else "",
        ]
        for _, row in latest.iterrows()
    ]
    note = (
        f"At most {count} of each kind; all {integer(len(notices))} are in notices.parquet."
        if len(notices) > len(rows)
        else ""
    )
    return Table.of(
        ["Date", "Notice", "Name", "Detail", "Amount"], rows, empty="Nothing to report.", words=range(4), note=note
    )


def terms_table(terms: Mapping[str, Any]) -> Table:
    """Return a product's or mandate's terms as written; those that its `assumed` list names are marked."""
    assumed = {str(name) for name in terms.get("assumed", ())}
    rows: list[list[Cell | str]] = []
    for name, value in _flat(terms):
        if name == "assumed":
            continue
        mark = "assumed" if name in assumed or name.split(".", 1)[0] in assumed else ""
        rows.append([name, _term(value), Cell(mark, alert=bool(mark))])
    return Table.of(["Term", "Value", ""], rows, empty="The run does not state them.", words=range(3))


def assumed_table(record: Mapping[str, Any]) -> Table:
    """Return the terms of product and mandate that were never published, with what was assumed."""
    rows = []
    for part in ("product", "mandate"):
        terms = record.get(part, {})
        values = dict(_flat(terms))
        for name in map(str, terms.get("assumed", ())):
            found = {key: value for key, value in values.items() if key == name or key.startswith(f"{name}.")}
            rows += [[part.capitalize(), key, _term(value)] for key, value in found.items()]
    return Table.of(["Part", "Assumed term", "Value"], rows, empty="No term is marked as assumed.", words=range(3))


def _flat(terms: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    flat: list[tuple[str, Any]] = []
    for name, value in terms.items():
        if isinstance(value, Mapping):
            flat += _flat(value, f"{prefix}{name}.")
        else:
            flat.append((f"{prefix}{name}", value))
    return flat


def _term(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if not isinstance(value, (int, float)):
        return ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
    return UNKNOWN if not np.isfinite(value) else f"{value:,.10g}"
