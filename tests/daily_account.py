"""Daily accounts of a fund made from a list of returns, for tests of its statistics."""

from __future__ import annotations

import numpy as np
import pandas as pd


def account(before, *, fees=0.0, start="2021-01-04", **columns):
    before = np.asarray(before, dtype=float)
    frame = pd.DataFrame({"return_before_fees": before}, index=pd.bdate_range(start, periods=len(before), name="date"))
    defaults = {"gross_return": before, "cost": 0.0, "financing": 0.0, "management_fee": fees, "incentive_fee": 0.0}
    defaults |= {"net_return": before - fees, "gross": 4.0, "net": 0.0, "turnover": 0.0}
    return frame.assign(**{**defaults, **columns})


def decisions(nav, binding=()):
    rows = {"date": nav.index[::5], "volatility": 0.08, "multiplier": 1.25}
    return pd.DataFrame(rows).assign(binding=[list(binding)] * len(nav.index[::5]))


def daily(n=700, seed=0):
    return np.random.default_rng(seed).standard_t(5, n) * 0.004 + 4e-4
