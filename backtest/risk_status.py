"""What a scheduler acts on: whether a limit is breached on the day of a risk report, and how much of each limit was used."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from backtest.monitoring import Monitoring
from backtest.monitoring_rule import FAMILIES
from engine import Mandate

__all__ = ["Status", "limit_use", "status_of"]


@dataclass(frozen=True)
class Status:
    """What a scheduler acts on, in words and names.

    Attributes
    ----------
    level : {"ok", "drift", "soft", "hard", "model"}
        ``hard``: a hard limit is breached on the day. ``soft``: only soft ones are. ``drift``: none is, but limits
        that leave room are exceeded within tolerance. ``model``: there is no book, and no limit.
    text : str
    hard, soft : tuple of str
        Limits that are breached.
    drifted : tuple of str
        Limits whose own bound is exceeded by less than the tolerance for drift.
    """

    level: Literal["ok", "drift", "soft", "hard", "model"]
    text: str
    hard: tuple[str, ...] = ()
    soft: tuple[str, ...] = ()
    drifted: tuple[str, ...] = ()


def status_of(limits: Monitoring) -> Status:
    """Return the status of a book's limits on the day."""
    table = limits.table
    hard = tuple(table.index[table["breach"] & table["hard"]])
    soft = tuple(table.index[table["breach"] & ~table["hard"]])
    drifted = tuple(table.index[table["outside_limit"] & ~table["breach"]])
    open_ = limits.breaches[limits.breaches["open"] & (limits.breaches["limit"] == "position")]
    names = {"position": f"position ({', '.join(open_['asset'])})"}
    if hard:
        return Status(
            "hard", f"HARD BREACH of {', '.join(names.get(name, name) for name in hard)}", hard, soft, drifted
        )
    if soft:
        return Status("soft", f"Soft breach of {', '.join(soft)}; no hard limit is breached", hard, soft, drifted)
    # A band of 0 is left with the first price after a decision; what is meant to have room is named.
    room = [name for name in drifted if float(table["upper"][name]) > 0]
    if room:
        return Status(
            "drift", f"No breach, but beyond their limit within tolerance: {', '.join(room)}", hard, soft, drifted
        )
    return Status("ok", "OK: no limit is breached", hard, soft, drifted)


def limit_use(limits: Monitoring, mandate: Mandate) -> pd.DataFrame:
    """Return each day's largest level over its monitored bound in each family of limits that has one.

    Returns
    -------
    DataFrame, dates by families
        Above 1 is a breach.
    """
    bounds, levels = limits.rule.bounds(mandate), limits.levels
    found = {}
    for family in FAMILIES:
        lower, upper, tolerance = bounds[family]
        columns = [name for name in levels.columns if str(name).partition(":")[0] == family]
        if not columns or np.isnan(tolerance) or not upper + tolerance > 0:
            continue
        above = levels[columns] / (upper + tolerance)
        below = levels[columns] / (lower - tolerance) if np.isfinite(lower) else above
        found[family] = np.fmax(above, below).max(axis=1)
    return pd.DataFrame(found, index=levels.index)
