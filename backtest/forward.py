"""Realised returns after a date: for scoring only, never for a decision."""

from __future__ import annotations

import numpy as np

from risk import Panel
from risk.checks import BoolArray, FloatArray

__all__ = ["forward_returns"]


def forward_returns(panel: Panel, gone: BoolArray, t: int, *, lag: int, horizon: int) -> FloatArray | None:
    """Return each asset's simple return from the close of t + lag to that of t + lag + horizon, shape (N,).

    A missing row is an unchanged price, and the next return spans it. A leaver compounds to its last price plus its
    delisting return on the day it is gone, and then 0.

    Parameters
    ----------
    panel : Panel
    gone : bool ndarray of shape (T, N)
        True from the day on which an asset is gone.
    t : int
        Day of the decision.
    lag, horizon : int
        Trading days.

    Returns
    -------
    ndarray of shape (N,) or None
        None where the panel ends before the horizon does: the round is not resolved.
    """
    first, last = t + lag + 1, t + lag + horizon
    if last >= len(panel.dates):
        return None
    growth: FloatArray = np.prod(1.0 + np.nan_to_num(panel.returns[first : last + 1]), axis=0)
    leaves = gone[last] & ~gone[first - 1]
    growth[leaves] *= 1.0 + np.nan_to_num(panel.delisting_return[leaves])
    return growth - 1.0
