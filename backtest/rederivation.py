"""A finished run derived anew from its folder and its data set, with arithmetic that the simulator has no part in."""

from __future__ import annotations

from backtest.audit_evidence import Check, read_evidence
from backtest.dataset import Dataset
from backtest.rederived_account import account_checks
from backtest.rederived_decisions import decision_checks
from backtest.rederived_trades import trade_checks
from backtest.store import Run
from risk import DataError

__all__ = ["data_check", "data_of", "rederive"]


def data_of(run: Run, folder: str | None = None) -> Dataset:
    """Return the data set that a run was made on, opened where it was or in another folder.

    Raises
    ------
    DataError
        If it is not there.
    """
    try:
        return Dataset(run.record["data"]["path"] if folder is None else folder)
    except DataError as error:
        raise DataError(
            f"the data set of {run.folder} cannot be opened: {error} If it was moved, say where it is."
        ) from error


def data_check(run: Run, data: Dataset) -> Check:
    """Return whether the files of a data set are those that the run was made on."""
    files = data.file_fingerprints()
    same = data.fingerprint() == run.record["data"]["fingerprint"]
    return Check(
        "data set", "SHA-256 of its files = the run's", 0.0 if same else 1.0, 0.0, len(files), unit="data sets"
    )


def rederive(run: Run, data: Dataset) -> tuple[Check, ...]:
    """Return all that must hold of a run, each with the worst difference found.

    Parameters
    ----------
    run : Run
    data : Dataset
        That the run was made on.

    Raises
    ------
    DataError
        If a table of the run is missing or cannot be laid out by the days of its account.
    """
    evidence = read_evidence(run, data)
    decisions, variances = decision_checks(evidence)
    account, trades = account_checks(evidence), trade_checks(evidence, variances)
    return data_check(run, data), *account, *decisions, *trades
