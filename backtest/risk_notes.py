"""What a reader must know of a whole risk report, in sentences."""

from __future__ import annotations

import pandas as pd

from backtest.risk_losses import HISTORICAL_RATIO, historical_over_parametric
from backtest.risk_run import RiskBook
from backtest.store import Run, code_fingerprint

__all__ = ["NEEDS_DATA", "loss_notes", "run_notes"]

NEEDS_DATA = "Needs the data set of the run, which cannot be used."
"""Why a part is not there; why the data set cannot be used is said once, in its own place."""


def run_notes(run: Run, book: RiskBook, *, recomputed: bool) -> list[str]:
    """Return what must be known of a run and of its book on the day.

    Parameters
    ----------
    recomputed : bool
        Whether parts of the report are computed again from the run's data set.
    """
    notes = []
    if book.decided != book.date:
        notes.append(
            f"Risk is that of the book held at the close of {book.date:%Y-%m-%d}, by the risk model of the decision of "
            f"{book.decided:%Y-%m-%d}, which was in force."
        )
    if not book.calibrates:
        notes.append(
            "Calibration is off in this product (`risk_model.calibration_half_life`): every calibrated forecast is the risk model's own, "
            "and so the volatility limit is held against that."
        )
    if len(book.outside):
        notes.append(
            f"{len(book.outside)} positions, {100 * book.outside.abs().sum():.2f} % of net assets in gross, are outside the model in "
            "force: they are in gross and net, and in no other number of risk."
        )
    # How a run ended is not known on its earlier days.
    record = run.record
    if record.get("status") != "complete" and book.date >= pd.Timestamp(record["end"]):
        notes.append(f"The run ended early on this day ({record['status']}). {str(record['reason']).rstrip('.')}.")
    if recomputed and record.get("code") != code_fingerprint():
        notes.append(
            "The run was made by another version of the code: parts that are computed from its data again (model, replays, historical "
            "losses, attribution) may differ from what ruled its decisions."
        )
    return notes


def loss_notes(tails: pd.DataFrame, proxied: float) -> list[str]:
    """Return what must be known of the losses of past returns, and whether they held more than the forecast allows for.

    Parameters
    ----------
    tails : DataFrame
        As `book_tails`.
    proxied : float
        Share of gross times days that has no return of its own.
    """
    notes = []
    if proxied > 0:
        notes.append(
            f"In the historical value at risk {100 * proxied:.1f} % of gross times days has no return of its own: it counts with today's "
            "exposures times that day's factor returns."
        )
    ratio = historical_over_parametric(tails)
    if ratio > HISTORICAL_RATIO:
        notes.append(
            f"Historical value at risk (99 %, one day) is {ratio:.1f} times the one by the calibrated forecast: past days held larger losses "
            f"for today's weights than the forecast allows for. Said from a ratio of {HISTORICAL_RATIO:g} on (assumed)."
        )
    return notes
