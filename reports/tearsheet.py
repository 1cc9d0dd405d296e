"""quantstats' tear sheet of the net returns: the page that many allocators know, beside our own report."""

from __future__ import annotations

import html
import logging
import re
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path

import numpy as np
import pandas as pd

from backtest.statistics import SHORTEST_SAMPLE, trading_year
from backtest.store import Run, write_whole
from risk import DataError

__all__ = ["write_tearsheet"]

FAVICON = re.compile(r'<link rel="shortcut icon"[^>]*>')
"""The only thing quantstats' page loads from the network."""
YEARLY_CHART = "{{eoy_returns}}"
"""Its bar chart by year names the wrong years under pandas 3.1 and matplotlib 3.11; its table by year is right and stays."""


def write_tearsheet(run: Run | str | Path, out: str | Path) -> Path:
    """Write quantstats' HTML tear sheet of a run's net returns and return its path.

    Its definitions are quantstats' own: among others its column "Return" by calendar year sums daily returns. Left out of its
    page are its bar chart by year, whose labels are wrong, and its icon, which is fetched from a network.

    Parameters
    ----------
    run : Run or path of a run folder
    out : path-like

    Raises
    ------
    DataError
        If the run is shorter than 20 sessions, its returns do not vary or lose everything, or `out` cannot be written.
    """
    run = run if isinstance(run, Run) else Run(run)
    returns = run.nav["net_return"].rename("Net return")
    if len(returns) < SHORTEST_SAMPLE or np.ptp(returns.to_numpy()) == 0.0 or returns.min() <= -1.0:
        raise DataError(
            f"{run.folder}: a tear sheet needs {SHORTEST_SAMPLE} sessions of returns that vary and stay above -100 %; "
            f"this run has {len(returns)}, its lowest return is {returns.min():.4g}. Use `metafolio report`, which says what is not known."
        )
    name = str(run.record.get("name", run.folder.name))
    return write_whole(Path(out), _tearsheet(returns, f"{name}, net of fees", trading_year(run)))


@contextmanager
def _quiet_fonts() -> Iterator[None]:
    """Keep matplotlib from saying for every label that a machine has no Arial; it takes another font."""
    fonts = logging.getLogger("matplotlib.font_manager")
    level = fonts.level
    fonts.setLevel(logging.ERROR)
    try:
        yield
    finally:
        fonts.setLevel(level)


def _tearsheet(returns: pd.Series, title: str, periods_per_year: int) -> str:
    from quantstats import reports

    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings(), _quiet_fonts():
        # quantstats 0.0.86 and seaborn call what pandas 3.1 and matplotlib 3.11 mean to remove.
        warnings.filterwarnings("ignore", message="The inplace keyword in DataFrame.rename")
        warnings.filterwarnings("ignore", message="vert: bool was deprecated")
        warnings.filterwarnings("ignore", message="The set_bad function will be deprecated")
        # This one is of the chart by year, and right: the chart is drawn and left out.
        warnings.filterwarnings("ignore", message=r"set_ticklabels\(\) should only be used with a fixed number")
        page, template = Path(folder) / "tearsheet.html", Path(folder) / "template.html"
        original = (resources.files("quantstats") / "report.html").read_text(encoding="utf-8")
        template.write_text(FAVICON.sub("", original).replace(YEARLY_CHART, ""), encoding="utf-8")
        reports.html(
            returns,
            output=str(page),
            title=html.escape(title),
            periods_per_year=periods_per_year,
            template_path=str(template),
        )
        return page.read_text(encoding="utf-8")
