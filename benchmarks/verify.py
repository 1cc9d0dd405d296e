"""Re-derive a run's limits and account from its folder and its data set: the checks of `metafolio audit` alone.

    python benchmarks/verify.py RUN

Prints every check with its worst difference. Exit code 1 where one fails.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd

from backtest import Run
from backtest.audit_evidence import Check, read_evidence
from backtest.rederivation import data_of, rederive
from backtest.rederived_account import account_checks
from backtest.rederived_decisions import decision_checks

LIMIT, SOLVE = "limit ", "solve "


def limit_violations(run: Path) -> pd.Series:
    """Return the worst violation of each kind of limit over all decisions; 0 where there is none."""
    finished = Run(run)
    checks, _ = decision_checks(read_evidence(finished, data_of(finished)))
    return _worst([check for check in checks if check.name.startswith(LIMIT)]).rename(
        lambda name: name.removeprefix(LIMIT)
    )


def residuals(run: Path) -> pd.Series:
    """Return the worst residual of the solves, as the run recorded them."""
    finished = Run(run)
    checks, _ = decision_checks(read_evidence(finished, data_of(finished)))
    return _worst([check for check in checks if check.name.startswith(SOLVE)]).rename(
        lambda name: name.removeprefix(SOLVE)
    )


def account_differences(run: Path) -> pd.Series:
    """Return by how much the account differs from what is derived, at worst over all days: of net assets, or in money."""
    finished = Run(run)
    checks = list(account_checks(read_evidence(finished, data_of(finished))))
    return _worst([check for check in checks if not check.not_covered])


def _worst(checks: list[Check]) -> pd.Series:
    return pd.Series({check.name + (" (money)" if check.unit == "money" else ""): check.worst for check in checks})


def main() -> int:
    """Print the checks of a run."""
    run = Run(sys.argv[1])
    checks = rederive(run, data_of(run))
    for check in checks:
        print(
            f"{check.name:24} {check.worst:9.2e}  at most {check.tolerance:.0e} {check.unit:18} {check.state}  {check.where}"
        )
    failed = [check.name for check in checks if not check.passed]
    print(f"FAILED: {', '.join(failed)}" if failed else "all hold")
    return int(bool(failed))


if __name__ == "__main__":
    raise SystemExit(main())
