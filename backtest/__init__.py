"""What would have happened: data sets, ledger, products, simulation and the run folder."""

from backtest.dataset import Dataset
from backtest.live import LiveBook, live_book, write_book
from backtest.rounds import attribute_run
from backtest.simulator import simulate
from backtest.store import Run

__all__ = ["Dataset", "LiveBook", "Run", "attribute_run", "live_book", "simulate", "write_book"]
