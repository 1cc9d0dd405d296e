"""metafolio: from the predictions of staked models to a market-neutral book, its risk, and each model's contribution."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table

if TYPE_CHECKING:
    import pandas as pd

    from backtest.live import LiveBook
    from backtest.store import Run

app = typer.Typer(
    help=__doc__,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
errors = Console(stderr=True)

Data = Annotated[Path, typer.Argument(metavar="DATA", help="Folder of the data set.", show_default=False)]
RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a finished run.", show_default=False)]
ProductName = Annotated[str, typer.Option("--product", help="one, supreme, or the path of a product TOML file.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="No progress, no tables.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON, and nothing else.")]
Seed = Annotated[int, typer.Option("--seed", help="Seed of everything that is drawn.", min=0)]

Report = Callable[[str, float], None]

SHARES = ("position", "gross", "net", "country", "sector", "turnover", "volatility")
"""Limits in fractions of net assets, or per year: shown in percent."""


@contextmanager
def progress_bars(*, show: bool) -> Iterator[Report]:
    """Yield a function (stage, share done) that draws one bar with time remaining for each stage, on standard error."""
    columns = (
        TextColumn("{task.description:<34}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn(elapsed_when_finished=True),
    )
    with Progress(*columns, console=errors, disable=not show) as bars:
        tasks: dict[str, TaskID] = {}

        def report(stage: str, done: float) -> None:
            if stage not in tasks:
                tasks[stage] = bars.add_task(stage, total=1.0)
            bars.update(tasks[stage], completed=done)

        yield report


def emit(record: dict[str, Any], lines: Callable[[Console], None], *, as_json: bool, quiet: bool) -> None:
    """Print a result for machines or for people."""
    if as_json:
        typer.echo(json.dumps(record, indent=2, default=str, allow_nan=False))
    elif not quiet:
        lines(Console())


def show_runs(runs: list[Run], console: Console) -> None:
    """Print the main statistics of one or more runs side by side, each with its 95 % interval and definition."""
    from backtest.statistics import SUMMARY, run_statistics
    from reports.cells import band_text, with_unit

    found = [run_statistics(run).select(SUMMARY) for run in runs]
    names = (f"{escape(run.record['name'])}, 95 %" for run in runs)
    table = Table("statistic", *names, "definition", box=None, pad_edge=False)
    for column in table.columns[1:-1]:
        column.justify, column.no_wrap = "right", True
    for rows in zip(*found, strict=True):
        bands = (f"\n[dim]{band_text(item.band, item.unit)}[/dim]" if item.band else "" for item in rows)
        values = (with_unit(item.value, item.unit) + band for item, band in zip(rows, bands, strict=True))
        table.add_row(rows[0].label, *values, f"[dim]{rows[0].definition}[/dim]")
    console.print(table, highlight=False)
    show_lines(
        ["All statistics, with conventions and bootstrap intervals: metafolio report RUN --out report.html"], console
    )
    for run in runs:
        record = run.record
        show_lines(
            [f"{record['name']}, {record['start']} to {record['end']}: {record['status']}; run folder {run.folder}"],
            console,
        )


def show_book(book: LiveBook, costs: pd.DataFrame, out: Path, console: Console) -> None:
    """Print one date's book: its size, what its limits cost, and its proof."""
    from engine.contribution import FEW_DIRECTIONS
    from reports.cells import money, percent, scientific

    solution, proof = book.solution, book.solution.certificate
    size = f"{int((book.orders['target_weight'] != 0).sum())} positions, gross {percent(solution.gross, 0)}"
    risk = f"forecast volatility {percent(solution.volatility)} a year"
    show_lines([f"{size}, {risk}, trading cost {money(book.orders['cost'].sum())}", ""], console)
    show_limit_costs(costs, console)
    lines = ["", *(f"limit widened: {name} by {amount:.4g}" for name, amount in solution.relaxed.items())]
    if solution.fallback:
        lines.append(f"solved by {solution.method}: {solution.fallback}")
    lines.append(
        f"proven: no book within these limits is better (gap {scientific(proof.gap)} of annual alpha), and every limit is met "
        f"(to {scientific(proof.primal_residual)})"
    )
    if solution.free_directions < FEW_DIRECTIONS:
        count = f"only {solution.free_directions}" if solution.free_directions else "no"
        lines.append(
            f"the limits leave {count} direction{'s'[: solution.free_directions != 1]} for the book to answer in when signals change a little"
        )
    show_lines([*lines, f"orders: {out}"], console)


def show_limit_costs(costs: pd.DataFrame, console: Console) -> None:
    """Print what every limit costs, the dearest first."""
    from reports.cells import number, percent

    table = Table("limit", "tightest", "level", "bound", "cost a year", box=None, pad_edge=False, header_style="bold")
    for column in table.columns[2:]:
        column.justify, column.no_wrap = "right", True
    for name, row in costs.sort_values("cost", ascending=False, kind="stable").iterrows():
        shown = percent if name in SHARES else number
        tightest = str(row["tightest"]) if row["rows"] > 1 else ""
        cells = shown(row["level"], 2), shown(row["bound"], 2), percent(row["cost"], 2)
        table.add_row(escape(str(name)), escape(tightest), *cells)
    console.print(table, highlight=False)
    note = "Cost: what the book would gain, in alpha less risk and costs, if that limit alone were not there."
    show_lines([note], console)


def show_lines(lines: list[str], console: Console) -> None:
    """Print lines as they are."""
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def finish_run(run: Run, *, as_json: bool, quiet: bool) -> None:
    """Print a run; a run that stopped before its end is a failure."""
    record = run.record
    emit(
        {
            "run": str(run.folder),
            **{key: record[key] for key in ("name", "status", "reason", "start", "end", "statistics")},
        },
        lambda console: show_runs([run], console),
        as_json=as_json,
        quiet=quiet,
    )
    if record["status"] != "complete":
        reason = str(record["reason"]).rstrip(".")
        text = f"metafolio: the run ended early ({record['status']}): {reason}. What was done until then is in {run.folder}."
        errors.print(text, style="red", markup=False, highlight=False, soft_wrap=True)
        raise typer.Exit(1)


@app.command()
def demo(
    out: Annotated[Path, typer.Option("--out", help="Folder to write to; must not exist.")] = Path("metafolio-demo"),
    seed: Seed = 0,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Make a market whose truth is known, and run every step on it: check, One and Supreme, contributions, reports."""
    from backtest.demo import run_demo
    from reports import write

    with progress_bars(show=not quiet and not as_json) as report:
        found, runs = run_demo(out, seed, report)
        pages = []
        for done, run in enumerate(runs):
            report("reports", done / len(runs))
            pages.append(write(run, out / f"{run.folder.name}.html"))
        report("reports", 1.0)

    def lines(console: Console) -> None:
        show_lines(found.lines(), console)
        console.print()
        show_runs(runs, console)
        show_lines([f"report: {page.resolve()}" for page in pages], console)

    emit(
        {
            "check": found.to_dict(),
            "runs": [{"run": str(run.folder), **run.record["statistics"]} for run in runs],
            "reports": [str(page) for page in pages],
        },
        lines,
        as_json=as_json,
        quiet=quiet,
    )


@app.command()
def check(data: Data, quiet: Quiet = False, as_json: AsJson = False) -> None:
    """Say whether a data set is usable; what is missing, odd or dropped, and what a backtest would do about it."""
    from backtest.dataset import Dataset
    from backtest.quality import check as quality

    found = quality(Dataset(data))
    emit(found.to_dict(), lambda console: show_lines(found.lines(), console), as_json=as_json, quiet=quiet)
    if not found.usable:
        raise typer.Exit(1)


@app.command("benchmark-models")
def benchmark_models(
    data: Data,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Write a complete copy of the data set there instead.", show_default=False),
    ] = None,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Write predictions of named models that need market data only, with equal stakes."""
    from backtest.benchmark_models import write_benchmark_models
    from backtest.dataset import Dataset

    with progress_bars(show=not quiet and not as_json) as report:
        summary = write_benchmark_models(
            Dataset(data), data if out is None else out, progress=lambda done: report("benchmark models", done)
        )
    record = {
        "data": str(summary.folder),
        "dates": len(summary.dates),
        "skipped_dates": [f"{date:%Y-%m-%d}" for date in summary.skipped_dates],
        "models": summary.models.to_dict(orient="index"),
        "filled_features": summary.filled_features,
    }

    def lines(console: Console) -> None:
        table = Table("model", "dates", "predictions", "not known", box=None, pad_edge=False, header_style="bold")
        for name, row in summary.models.iterrows():
            table.add_row(escape(str(name)), *(f"{row[column]:,}" for column in ("dates", "predictions", "absent")))
        console.print(table)
        text = (
            f"{len(summary.dates)} dates, each model with a stake of 1, in {summary.folder}; {len(summary.skipped_dates)} "
            f"dates skipped for a universe that was too small; {summary.filled_features:,} features that were not known "
            "were taken as their median by the learned models."
        )
        show_lines([text], console)

    emit(record, lines, as_json=as_json, quiet=quiet)


@app.command()
def backtest(
    data: Data,
    out: Annotated[Path, typer.Option("--out", help="Run folder to make; must not exist.", show_default=False)],
    product: ProductName = "one",
    start: Annotated[
        str | None,
        typer.Option(help="First day, as 2024-01-31. Default: the first that can be decided on.", show_default=False),
    ] = None,
    end: Annotated[str | None, typer.Option(help="Last day. Default: the data's.", show_default=False)] = None,
    aum: Annotated[
        float | None, typer.Option(help="Net assets at the start. Default: the product's.", show_default=False)
    ] = None,
    flows: Annotated[
        Path | None,
        typer.Option(
            help="CSV or Parquet of date, investor, amount (above 0 subscribes, below redeems), or of date, aum: a path of net assets.",
            show_default=False,
        ),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with an unfinished run from its last decision, to the same bytes.")
    ] = False,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Simulate a fund on a data set and leave a run folder behind.

    A run that is killed, interrupted or out of disk leaves OUT.partial; the same command with --resume goes on with it.
    """
    from backtest import Dataset, simulate
    from backtest.flows import read_flows

    money = None if flows is None else read_flows(flows)
    with progress_bars(show=not quiet and not as_json) as report:
        run = simulate(
            Dataset(data), product, out=out, start=start, end=end, aum=aum, flows=money, resume=resume, progress=report
        )
    finish_run(run, as_json=as_json, quiet=quiet)


@app.command()
def sweep(
    data: Data,
    vary: Annotated[
        str,
        typer.Option(
            help="execution: lag, costs, borrow, delistings, rebalance, volatility target, decaying alpha, one at a time. capacity: the "
            "size. FILE.toml: a table for each variant, as \\[wide] and mandate.style_limit = 0.2 below it.",
            show_default=False,
        ),
    ],
    out: Annotated[
        Path, typer.Option("--out", help="Folder of the runs; an unfinished sweep goes on.", show_default=False)
    ],
    product: ProductName = "one",
    start: Annotated[
        str | None, typer.Option(help="First day, as in `metafolio backtest`.", show_default=False)
    ] = None,
    end: Annotated[str | None, typer.Option(help="Last day. Default: the data's.", show_default=False)] = None,
    aum: Annotated[
        float | None, typer.Option(help="Net assets at the start. Default: the product's.", show_default=False)
    ] = None,
    workers: Annotated[int, typer.Option(help="Processes.", min=1)] = 2,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Run variants of a product side by side, each a run folder of its own under OUT.

    A sweep that was killed goes on when the same command is given again: finished runs are kept.
    """
    from backtest import Dataset
    from backtest.study import study
    from reports.study_terminal import study_lines

    with progress_bars(show=not quiet and not as_json) as report:
        found = study(
            Dataset(data), product, vary, out, start=start, end=end, aum=aum, workers=workers, progress=report
        )
    emit(found.to_dict(), lambda console: study_lines(found, console), as_json=as_json, quiet=quiet)


@app.command()
def optimize(
    data: Data,
    date: Annotated[str, typer.Option(help="Decision day, as 2024-01-31.", show_default=False)],
    out: Annotated[Path, typer.Option("--out", help="CSV of orders to write; must not exist.", show_default=False)],
    product: ProductName = "one",
    holdings: Annotated[
        Path | None, typer.Option(help="CSV of asset, shares. Default: an empty book.", show_default=False)
    ] = None,
    nav: Annotated[
        float | None, typer.Option(help="Net assets. Default: the product's size.", show_default=False)
    ] = None,
    restricted: Annotated[
        Path | None, typer.Option(help="CSV of asset: names that may not be traded.", show_default=False)
    ] = None,
    multiplier: Annotated[
        float,
        typer.Option(
            help="What the book's past says its forecast volatility is to be multiplied by: calibrated_forecast over forecast "
            "in the nav table of its run. The volatility limit is on the product."
        ),
    ] = 1.0,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Make one date's book, for trading: asset, target_weight, trade_shares, trade_value, cost, reason."""
    from backtest import Dataset, live_book, write_book
    from backtest.live import check_out
    from engine.prices import limit_costs

    check_out(out)
    with progress_bars(show=not quiet and not as_json) as report:
        book = live_book(
            Dataset(data),
            product,
            date,
            holdings=holdings,
            nav=nav,
            restricted=restricted,
            multiplier=multiplier,
            progress=report,
        )
        solution, costs = book.solution, limit_costs(book.problem, book.solution)
        write_book(book.orders, out)
    record = {
        "out": str(out),
        "status": solution.status.value,
        "method": solution.method,
        "volatility": solution.volatility,
        "gross": solution.gross,
        "binding": list(solution.binding),
        "relaxed": dict(solution.relaxed),
        "gap": solution.certificate.gap,
        "free_directions": solution.free_directions,
        "limits": costs.reset_index().to_dict(orient="records"),
        "positions": len(book.orders),
        "cost": float(book.orders["cost"].sum()),
    }
    emit(record, lambda console: show_book(book, costs, out, console), as_json=as_json, quiet=quiet)


@app.command()
def attribute(
    run: RunFolder,
    masks: Annotated[int, typer.Option(help="Stake-dropout masks of a round.", min=1)] = 100,
    seed: Seed = 0,
    rounds: Annotated[
        int | None, typer.Option(help="Only the last so many resolved rounds. Default: all.", min=1, show_default=False)
    ] = None,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Score every model by true contribution: the derivative of the book's return by its stake, through the optimizer."""
    from backtest import Run, attribute_run
    from backtest.contributions import run_contributions

    with progress_bars(show=not quiet and not as_json) as report:
        scored = attribute_run(Run(run), masks=masks, seed=seed, rounds=rounds, progress=report)
    summary = run_contributions(scored)

    def lines(console: Console) -> None:
        table = Table(
            "model",
            "share of stake",
            "mean TC",
            "standard error",
            "rounds",
            box=None,
            pad_edge=False,
            header_style="bold",
        )
        for name, row in summary.iterrows():
            numbers = (f"{row['true_contribution']:.5f}", f"{row['standard_error']:.5f}", f"{row['rounds']:.0f}")
            table.add_row(escape(str(name)), f"{row['stake']:.2%}", *numbers)
        console.print(table)
        show_lines([f"tables: {scored.folder}/contribution.parquet and gradient.parquet"], console)

    models = summary.reset_index().astype(object).where(summary.reset_index().notna(), None)
    emit({"run": str(run), "models": models.to_dict(orient="records")}, lines, as_json=as_json, quiet=quiet)


@app.command()
def report(
    run: RunFolder,
    out: Annotated[Path, typer.Option("--out", help="HTML file to write.", show_default=False)],
    tearsheet: Annotated[
        Path | None,
        typer.Option(help="Also write quantstats' tear sheet of the net returns there.", show_default=False),
    ] = None,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Write a run's report: one HTML file that needs no network."""
    from backtest import Run
    from backtest.trial_report import trial_report
    from reports import write, write_tearsheet

    finished = Run(run)
    pages = [write(finished, out, trials=trial_report(finished))]
    if tearsheet is not None:
        pages.append(write_tearsheet(finished, tearsheet))
    emit(
        {"reports": [str(page) for page in pages]},
        lambda console: show_lines([f"report: {page.resolve()}" for page in pages], console),
        as_json=as_json,
        quiet=quiet,
    )


@app.command()
def audit(
    run: RunFolder,
    dates: Annotated[int, typer.Option(help="Sessions after which the data are replaced, drawn at random.", min=1)] = 2,
    seed: Seed = 0,
    fields: Annotated[
        str | None,
        typer.Option(
            help="What to replace, separated by commas, as return,labels,stakes. Default: all there is.",
            show_default=False,
        ),
    ] = None,
    data: Annotated[
        str | None, typer.Option(help="Folder of the data set, if it was moved.", show_default=False)
    ] = None,
    self_test: Annotated[
        bool, typer.Option(help="Plant twelve leaks in a small synthetic market; each must be caught.")
    ] = True,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Derive a run anew from its folder and data set, and prove that nothing in it looked ahead.

    Data after random dates are replaced field by field, and the run is made again up to soon after them: all that was written
    up to the date must be the same to the bit.

    Exit code 0: all proven. 1: something is not, and one paragraph says what. 2: bad usage.
    """
    from backtest import Run
    from backtest.audit import audit as prove
    from reports.audit_terminal import audit_lines

    chosen = None if fields is None else [name.strip() for name in fields.split(",") if name.strip()]
    with progress_bars(show=not quiet and not as_json) as report:
        found = prove(Run(run), data=data, dates=dates, seed=seed, fields=chosen, self_test=self_test, progress=report)
    emit(found.to_dict(), lambda console: audit_lines(found, console), as_json=as_json, quiet=quiet)
    if not found.passed:
        text = f"metafolio: {run} is not proven. {' '.join(found.failures)}"
        errors.print(text, style="red", markup=False, highlight=False, soft_wrap=True)
        raise typer.Exit(1)


HARD_BREACH = 3
"""Exit code of a risk report on a day when a hard limit is breached."""


@app.command()
def risk(
    folder: Annotated[
        Path, typer.Argument(metavar="DATA|RUN", help="Folder of a data set, or of a finished run.", show_default=False)
    ],
    date: Annotated[
        str | None,
        typer.Option(
            help="Day of the report, as 2024-01-31: a session of the run, from its first decision on, or a trading day of the data set. "
            "Another one is refused, with the last one before it. Default: the last.",
            show_default=False,
        ),
    ] = None,
    product: Annotated[
        str | None,
        typer.Option(
            "--product",
            help="Of a data set: one, supreme, or the path of a product TOML file. Default: one.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="HTML file to write; must not exist.", show_default=False)
    ] = None,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Report the risk of a run's book, or of a data set's risk model alone.

    Exit code 0: the report is made, and no hard limit is breached on the day.
    1: there is no report, and one paragraph says why.
    2: bad usage.
    3: the report is made, and a hard limit is breached on the day.
    """
    from backtest import Dataset, Run
    from backtest.live import check_out
    from backtest.risk_view import book_risk, model_risk
    from reports.risk_page import write_risk
    from reports.risk_terminal import risk_lines
    from risk import DataError

    is_run = (folder / "run.json").is_file()
    if is_run and product is not None:
        raise typer.BadParameter(
            "a run has its own product; leave it out, or give the data set", param_hint="--product"
        )
    if not is_run and not any(folder.glob("market*")):
        what = "holds neither a finished run (run.json) nor a data set (market)" if folder.is_dir() else "is no folder"
        raise DataError(f"{folder}: {what}. Give a folder that `metafolio backtest` made, or a data set.")
    if out is not None:
        check_out(out)
    with progress_bars(show=not quiet and not as_json) as report:
        if is_run:
            view = book_risk(Run(folder), date=date, progress=report)
        else:
            view = model_risk(Dataset(folder), product or "one", date=date, progress=report)
        if out is not None:
            write_risk(view, out)

    def lines(console: Console) -> None:
        risk_lines(view, console)
        show_lines([f"report: {out.resolve()}"] if out is not None else [], console)

    emit(view.to_dict(), lines, as_json=as_json, quiet=quiet)
    if view.hard_breach:
        raise typer.Exit(HARD_BREACH)


@app.command()
def trials(
    place: Annotated[
        Path,
        typer.Argument(metavar="RUN|FOLDER", help="A finished run, or a folder that holds runs.", show_default=False),
    ],
    also: Annotated[
        list[Path] | None,
        typer.Option(help="Another folder whose trials count; may be given several times.", show_default=False),
    ] = None,
    record: Annotated[
        bool, typer.Option("--record", help="First record the runs that lie there and are not in the ledger.")
    ] = False,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """List the backtests that were made, and judge a run by all of them on its data set.

    Every finished backtest is recorded in metafolio-trials.sqlite beside its run folder; ledgers in the folders below count too.
    """
    from backtest import Run
    from backtest.trial_folder import read_folder
    from backtest.trial_ledger import record_trial
    from backtest.trial_report import trial_report
    from reports.cells import integer, number

    is_run = (place / "run.json").is_file()
    folder = place.resolve().parent if is_run else place
    found = read_folder(folder, also=also or [])
    if record:
        for run in found.unrecorded:
            record_trial(run)
        found = read_folder(folder, also=also or [])
    judged = trial_report(Run(place), also=also or []) if is_run else None
    listed = found.trials if judged is None else judged.family
    lacking = len(found.unrecorded)

    def lines(console: Console) -> None:
        table = Table("recorded", "run", "data set", "product", "from", "to", "status", box=None, pad_edge=False)
        for name in ("sessions", "before fees", "net", "times"):
            table.add_column(name, justify="right", no_wrap=True)
        for trial in listed:
            at = trial.last_recorded[:16].replace("T", " ") or "not in the ledger"
            data = f"{trial.data_name} {trial.fingerprint[:8]}"
            ratios = (number(ratio) for ratio in (trial.sharpe_before_fees, trial.sharpe_net))
            texts = (at, trial.run, data, trial.product, trial.start, trial.end, trial.status)
            table.add_row(*map(escape, texts), integer(len(trial.returns)), *ratios, integer(trial.times))
        console.print(table, highlight=False)
        show_lines(["before fees, net: Sharpe ratios a year over the trial's own sessions; recorded: UTC"], console)
        if judged is not None:
            show_lines(["", *judged.lines()], console)
        elif lacking or found.unreadable:
            show_lines([f"{lacking} not in the ledger; --record adds them", *found.unreadable], console)

    result = {"trials": [trial.to_dict() for trial in listed], "unrecorded": lacking, "unreadable": found.unreadable}
    emit(result | {"report": judged and judged.to_dict()}, lines, as_json=as_json, quiet=quiet)


def main() -> None:
    """Run the command line: 0 done, 1 the work failed (one paragraph says why), 2 bad usage, 3 a hard limit is breached."""
    from engine import InfeasibleMandate, SolverFailure
    from risk import DataError

    try:
        app()
    except (DataError, InfeasibleMandate, SolverFailure, OSError) as error:
        errors.print(f"metafolio: {error}", style="red", markup=False, highlight=False, soft_wrap=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
