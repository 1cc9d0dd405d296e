"""What was published of the two funds, with its source: to be shown beside ours, and never fitted to.

Most of it is second-hand: investor letters and press, copied by others. None of it was used to choose a parameter, and a backtest on other
assets, dates and signals has no reason to meet it; it says what the real funds' numbers look like.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum

import pandas as pd

from risk import DataError

__all__ = ["NEVER_FITTED", "PublishedFigure", "Source", "beside", "published"]

NEVER_FITTED = "Published by or about the fund; shown beside ours, never fitted to."


class Source(StrEnum):
    """How near a figure is to the fund itself."""

    FUND = "the fund's own slides"
    COPY = "copy of the fund's own text or data by others"
    PRESS = "press or second-hand"
    READ_OFF = "read off a chart or converted by us"


@dataclass(frozen=True)
class PublishedFigure:
    """One published number.

    Attributes
    ----------
    fund : str
        ``One`` or ``Supreme``.
    item : str
    period : str
    value : float
        Decimal; money in US dollars; NaN where only words were published.
    unit : str
    basis : str
        Net or gross of fees, class, risk-free rate, as far as stated.
    source : Source
    address : str
        Where it was found.
    ours : str
        Name of our statistic of the nearest definition (`backtest.statistics`), from daily returns over our own period; empty where
        there is none, or the basis was not stated.
    """

    fund: str
    item: str
    period: str
    value: float
    unit: str
    basis: str
    source: Source
    address: str
    ours: str = ""


_LETTER = "https://scribd.com/document/555058339/Investor-Letter-December-2021"
_ARTICLE = (
    "https://www.fa-mag.com/news/paul-tudor-jones-backed-quant-manager-returns-20--using-crowdsourced-ideas-72221.html"
)
_SITE = "https://empresa-journal.com/2023/01/14/the-last-hedge-fund/"
_MONTHS = "https://github.com/tim-dombrowski/numerai-fund-project"
_BLOG = "https://blog.numer.ai/jpmorgan-secures-500m-capacity/"
_FORUM = "https://forum.numer.ai/t/score-submissions-and-liquidity/6441"
_NO_ADDRESS = "second-hand; no address"
_SLIDES = "Numerai fund update slides, April 2022"
_SINCE = "2019-09 to 2024-01"
_CLASS = "net of fees, class with a 1 % management fee"
_RATIO, _FRACTION, _YEAR, _MONEY = "ratio", "fraction", "fraction per year", "US dollars"

FIGURES = tuple(
    PublishedFigure(*row)
    for row in (
        ("One", "Return", "2020", 0.0768, _FRACTION, _CLASS, Source.COPY, _LETTER, ""),
        ("One", "Return", "2021", 0.1586, _FRACTION, _CLASS, Source.COPY, _LETTER, ""),
        ("One", "Return", "2022", 0.20, _FRACTION, "about; basis not stated", Source.PRESS, _ARTICLE, ""),
        ("One", "Return", "2019-09 to 2023-02", 0.49, _FRACTION, "cumulative; basis not stated", Source.PRESS, _ARTICLE, ""),
        ("One", "Return", "spring and summer 2023", -0.21, _FRACTION, "net; three losing months compounded, about -10 %, -5.5 %, -7.3 %", Source.READ_OFF, _MONTHS, ""),
        ("One", "Return", "2024", 0.2545, _FRACTION, "net of fees", Source.PRESS, _BLOG, ""),
        ("One", "Mean return", _SINCE, 0.049, _YEAR, "net of fees, from monthly returns", Source.READ_OFF, _MONTHS, ""),
        ("One", "Annualised return", "to 2023-01", 0.1053, _YEAR, "basis not stated", Source.COPY, _SITE, ""),
        ("One", "Sharpe ratio", "2021", 1.68, _RATIO, "gross of fees", Source.COPY, _LETTER, "sharpe_before_fees"),
        ("One", "Sharpe ratio, last twelve months", "to 2022-04", 2.07, _RATIO, "gross of fees, risk-free rate 0", Source.FUND, _SLIDES, "sharpe_before_fees_ltm"),
        ("One", "Sharpe ratio", "to 2023-01", 1.42, _RATIO, "basis not stated", Source.COPY, _SITE, ""),
        ("One", "Sharpe ratio", "2024", 2.75, _RATIO, "risk-free rate 0; net or gross not stated", Source.PRESS, _BLOG, ""),
        ("One", "Sortino ratio", "to 2023-01", 3.64, _RATIO, "basis not stated", Source.COPY, _SITE, ""),
        ("One", "Volatility", "2021", 0.1012, _YEAR, "gross of fees, as the Sharpe ratio beside it", Source.COPY, _LETTER, "volatility_before_fees"),
        ("One", "Volatility", "to 2023-01", 0.0742, _YEAR, "basis not stated", Source.COPY, _SITE, ""),
        ("One", "Volatility", _SINCE, 0.102, _YEAR, "net of fees, from monthly returns", Source.READ_OFF, _MONTHS, "volatility_net"),
        ("One", "Maximum drawdown", "2020", -0.0652, _FRACTION, "basis not stated", Source.COPY, _LETTER, ""),
        ("One", "Maximum drawdown", "2021", -0.0523, _FRACTION, "basis not stated", Source.COPY, _LETTER, ""),
        ("One", "Beta to the S&P 500", _SINCE, 0.03, _RATIO, "net of fees, monthly, t 0.3", Source.READ_OFF, _MONTHS, ""),
        ("One", "Assets", "2022-04", 70e6, _MONEY, "from 7 million before", Source.FUND, _SLIDES, ""),
        ("One", "Assets", "2023-02", 300e6, _MONEY, "about; may be the firm's", Source.PRESS, _ARTICLE, ""),
        ("One", "Assets", "2023", 350e6, _MONEY, "about; may be the firm's", Source.PRESS, _FORUM, ""),
        ("One", "Assets", "2025-08", 450e6, _MONEY, "about, from 60 million three years before; may be the firm's", Source.PRESS, _BLOG, ""),
        ("One", "Assets", "end of 2025", 560e6, _MONEY, "about; may be the firm's", Source.PRESS, _NO_ADDRESS, ""),
        ("One", "Assets", "2026-07", 700e6, _MONEY, "about; may be the firm's", Source.PRESS, _NO_ADDRESS, ""),
        ("Supreme", "Mean return", "2022-08 to 2024-01", -0.050, _YEAR, "net of fees, from monthly returns", Source.READ_OFF, _MONTHS, ""),
        ("Supreme", "Volatility", "2022-08 to 2024-01", 0.166, _YEAR, "net of fees, from monthly returns", Source.READ_OFF, _MONTHS, "volatility_net"),
        ("Supreme", "Correlation with One", "2022-08 to 2024-01", 0.88, _RATIO, "net of fees, monthly", Source.READ_OFF, _MONTHS, ""),
    )
)  # fmt: skip


def published(fund: str) -> tuple[PublishedFigure, ...]:
    """Return what was published of ``One`` or ``Supreme``.

    Raises
    ------
    DataError
        If the fund is another.

    Examples
    --------
    >>> [figure.value for figure in published("One") if figure.item == "Return" and figure.period == "2021"]
    [0.1586]
    """
    found = tuple(figure for figure in FIGURES if figure.fund.casefold() == fund.casefold())
    if not found:
        raise DataError(f"nothing was published of {fund!r}; known are One and Supreme.")
    return found


def beside(fund: str, statistics: Mapping[str, float | None]) -> pd.DataFrame:
    """Return the published figures of a fund with ours beside them where a definition is near.

    Parameters
    ----------
    fund : str
        ``One`` or ``Supreme``.
    statistics : mapping
        Our statistics by name, as ``run.record["statistics"]``.

    Returns
    -------
    DataFrame
        The fields of `PublishedFigure`, `ours` holding our value (NaN where there is none). The periods differ: ours is the run's.

    Raises
    ------
    DataError
        If the fund is unknown or a statistic is missing.
    """
    rows = []
    for figure in published(fund):
        if figure.ours and figure.ours not in statistics:
            raise DataError(f"`statistics` lacks {figure.ours!r}; give those of a run of this version.")
        value = statistics[figure.ours] if figure.ours else None
        rows.append(asdict(figure) | {"source": figure.source.value, "ours": float("nan") if value is None else value})
    return pd.DataFrame(rows)
