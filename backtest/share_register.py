"""Who owns the fund: series of units with their own fees, and the dealing that issues and cancels units.

A day, in this order:

1. At a session that begins a period the incentive fee, and at one that begins a month the management fee, are fixed on the close
   of the day before, series by series (`backtest.fee_series`).
2. The day's profit before fees belongs to the series in proportion to what they were worth when it began, so all have the same return
   before fees, and a series' return is that less its own fees over its own value when the day began.
3. On a dealing day, redemptions and then subscriptions are dealt at that close, at prices that nobody knew before. Capital pays the
   month's fee for months that it is in the fund: a newcomer pays it out of the subscription, a leaver gets back what was charged that day.
   What leaves pays its incentive fee; its price is after it.

At every close the units outstanding times their net assets per unit are the fund's net assets. The fund's net return is that of the
first series, followed whether or not somebody still holds it: with a series for each subscription, flows cannot move it.

With ``equalisation = "none"`` all units share one mark: units are dealt at net assets per unit before the fee that has accrued, and
the mark of the whole rises by what comes in. The fee on the whole is right, but newcomers bear a part of the fee on profit made before
they came, or earn back a loss that they did not have free of fee.
"""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from backtest.dealing import Deal, Dealing, DealKind, Lot, Outcome, Waiting
from backtest.fee_series import FeeSeries, month_fee
from backtest.flows import Flow, Flows
from backtest.fund_terms import FundTerms, period_begins
from backtest.ledger import CENT, LedgerError
from risk import DataError

__all__ = ["Charges", "ShareRegister"]

PATH = "aum path"


@dataclass(frozen=True)
class Charges:
    """Fees of the whole fund, in money."""

    management_fee: float
    incentive_fee: float


class ShareRegister:
    """Series, lots and requests of one fund. A day is `open_day`, `close_day`, `deal`; the last one ends with `finish`.

    Parameters
    ----------
    terms : FundTerms
    nav : float
        Net assets at the start, in money: the first series.
    start : Timestamp
        First session.
    flows : Flows, optional
    investor : str
        Who holds the first series.

    Raises
    ------
    DataError
        If `nav` is no positive amount, or a flow is dated before the first session or asks for more than the capacity.

    Examples
    --------
    >>> days = [pd.Timestamp("2024-12-30"), pd.Timestamp("2024-12-31"), pd.Timestamp("2025-01-02")]
    >>> register = ShareRegister(FundTerms(management_fee_annual=0.012), 1_000_000.0, days[0])
    >>> register.open_day(days[0], 1_000_000.0)
    Charges(management_fee=1000.0, incentive_fee=0.0)
    >>> register.close_day(1_049_000.0)
    >>> register.open_day(days[1], 1_049_000.0)
    Charges(management_fee=0.0, incentive_fee=0.0)
    >>> register.close_day(1_100_000.0)
    >>> fees = register.open_day(days[2], 1_100_000.0)
    >>> fees.incentive_fee, round(fees.management_fee, 2)
    (20000.0, 1080.0)
    """

    def __init__(
        self,
        terms: FundTerms,
        nav: float,
        start: pd.Timestamp,
        *,
        flows: Flows | None = None,
        investor: str = "founder",
    ) -> None:
        if not 0 < nav < float("inf"):
            raise DataError(f"nav must be a positive amount of money; got {nav}.")
        self.terms = terms
        self.series = [FeeSeries.issue(start, nav)]
        self.lots = [Lot(investor, 0, start, self.series[0].issued)]
        self._flows = flows or Flows()
        self._requests, self._steps = list(self._flows.requests), list(self._flows.path)
        self._waiting: list[Waiting] = []
        self._date: pd.Timestamp | None = None
        self._dealing = False
        self._check_flows(start)

    def _check_flows(self, start: pd.Timestamp) -> None:
        for date in [*(flow.date for flow in self._requests), *(date for date, _ in self._steps)]:
            if date < start:
                raise DataError(
                    f"flows: {date:%Y-%m-%d} is before the first session, {start:%Y-%m-%d}; add it to the net assets at the start."
                )
        for date, aum in self._steps:
            if self.terms.capacity is not None and aum > self.terms.capacity:
                raise DataError(
                    f"flows: `aum` {aum:,.0f} on {date:%Y-%m-%d} is above the fund's capacity, {self.terms.capacity:,.0f}; give "
                    "less, or terms with another `capacity`."
                )

    @property
    def net_assets(self) -> float:
        """Units outstanding times net assets per unit, in money."""
        return sum(held * series.value for held, series in zip(self._held(), self.series, strict=True))

    @property
    def nav_per_share(self) -> float:
        """Net assets per unit of the first series; it starts at 100 and compounds the net return."""
        return self.series[0].nav_per_unit

    @property
    def lead_fees(self) -> tuple[float, float]:
        """Management and incentive fee of the day on the first series, fractions of its value when the day began."""
        lead = self.series[0]
        return lead.management / lead.opening, lead.incentive / lead.opening

    @property
    def waiting(self) -> tuple[Flow, ...]:
        """Requests that have not been settled, with what is left of their amounts."""
        left = [Flow(item.flow.date, item.flow.investor, item.left) for item in self._waiting]
        return (*left, *self._requests)

    @property
    def statement(self) -> pd.DataFrame:
        """Lots as a table: ``series, investor, opened, units, nav_per_unit, high_water_mark`` (per unit), ``accrued_fee``, ``value``.

        ``accrued_fee`` is the incentive fee that would be due today and ``value`` is before it, both in money for the lot.
        """
        rows = []
        for lot in self.lots:
            series = self.series[lot.series]
            fee = series.accrued(self.terms, self._date or lot.opened) / series.issued
            rows.append(
                {
                    "series": lot.series,
                    "investor": lot.investor,
                    "opened": lot.opened,
                    "units": lot.units,
                    "nav_per_unit": series.nav_per_unit,
                    "high_water_mark": series.mark_per_unit,
                    "accrued_fee": lot.units * fee,
                    "value": lot.units * series.nav_per_unit,
                }
            )
        return pd.DataFrame(rows)

    def open_day(self, date: pd.Timestamp, nav: float) -> Charges:
        """Return the fees that fall due on `date`, given net assets at the close before it.

        Raises
        ------
        LedgerError
            If units times net assets per unit are not these net assets, to half a cent.
        """
        self._meet(nav)
        previous = self._date
        month = previous is None or period_begins(previous, date, "monthly")
        period = previous is not None and period_begins(previous, date, self.terms.crystallisation)
        self._dealing = previous is not None and period_begins(previous, date, self.terms.dealing)
        for series in self.series:
            series.open_day(self.terms, previous or date, month=month, period=period)
        self._date = date
        return self._charges()

    def close_day(self, nav: float) -> None:
        """Give every series its part of net assets at the close, after the fees that `open_day` asked for."""
        charges = self._charges()
        opening = sum(held * series.opening for held, series in zip(self._held(), self.series, strict=True))
        growth = (nav + charges.management_fee + charges.incentive_fee) / opening
        for series in self.series:
            series.close_day(growth)
        self._meet(nav)

    def finish(self, nav: float) -> Charges:
        """Return the incentive fee on the unfinished period, and take it: after the last day's dealing."""
        self._meet(nav)
        total = 0.0
        for held, series in zip(self._held(), self.series, strict=True):
            fee = series.crystallise(self.terms, self._today)
            series.value -= fee
            series.incentive += fee
            total += held * fee
        return Charges(0.0, total)

    def deal(self) -> Dealing:
        """Return what is dealt at today's close, after `close_day`: nothing but on a dealing day."""
        if not self._dealing:
            return Dealing()
        self._dealing = False
        while self._requests and self._requests[0].date <= self._today:
            flow = self._requests.pop(0)
            self._waiting.append(Waiting(flow, flow.amount))
        deals = self._follow_path()
        for item in [item for item in self._waiting if item.flow.amount < 0]:
            deals += self._redeem(item)
        for item in [item for item in self._waiting if item.flow.amount > 0]:
            deals += self._subscribe(item)
        return Dealing(tuple(deals))

    @property
    def _today(self) -> pd.Timestamp:
        assert self._date is not None
        return self._date

    def _held(self) -> list[float]:
        """Return the share of each series that is outstanding; above 1 where all units are in one series and grew."""
        units = [0.0] * len(self.series)
        for lot in self.lots:
            units[lot.series] += lot.units
        return [held / series.issued for held, series in zip(units, self.series, strict=True)]

    def _charges(self) -> Charges:
        pairs = list(zip(self._held(), self.series, strict=True))
        return Charges(sum(held * s.management for held, s in pairs), sum(held * s.incentive for held, s in pairs))

    def _meet(self, nav: float) -> None:
        """Prove that the series are worth `nav`, and spread the rounding over them."""
        total = self.net_assets
        if abs(total - nav) > max(CENT, 1e-12 * abs(nav)):
            raise LedgerError(f"units times net assets per unit are {total:,.4f}; the books hold {nav:,.4f}.")
        if total > 0:
            for series in self.series:
                series.value = series.value / total * nav

    def _refused(self, item: Waiting, amount: float, detail: str) -> Deal:
        kind = DealKind.SUBSCRIPTION if item.flow.amount > 0 else DealKind.REDEMPTION
        return Deal(self._today, item.flow.date, item.flow.investor, kind, Outcome.REFUSED, abs(amount), detail=detail)

    def _waits(self, item: Waiting, detail: str) -> list[Deal]:
        """Return the record of a wait, once for each reason."""
        if item.told == detail:
            return []
        item.told = detail
        flow, kind = item.flow, DealKind.REDEMPTION
        return [Deal(self._today, flow.date, flow.investor, kind, Outcome.WAITING, -item.left, detail=detail)]

    def _redeem(self, item: Waiting) -> list[Deal]:
        today, flow = self._today, item.flow
        earliest = flow.date + pd.Timedelta(days=self.terms.notice_days)
        if earliest > today:
            return self._waits(item, f"notice of {self.terms.notice_days} days ends {earliest:%Y-%m-%d}")
        lots = [lot for lot in self.lots if lot.investor == flow.investor]
        free = [lot for lot in lots if self._lockup_ends(lot) <= today.to_period("M")]
        takings = self._takings(free, -item.left)
        if sum(units == lot.units for lot, units in takings) == len(self.lots):
            self._waiting.remove(item)
            return [self._refused(item, item.left, "it is all of the fund: end the run before, or leave a part")]
        deals = [self._cancel(lot, units, flow.date) for lot, units in takings]
        item.left += sum(deal.amount for deal in deals)
        if -item.left >= CENT and len(free) < len(lots):
            until = min(self._lockup_ends(lot) for lot in lots if lot not in free)
            return deals + self._waits(item, f"lockup of {self.terms.lockup_months} months ends in {until}")
        self._waiting.remove(item)
        if -item.left >= CENT and (not lots or item.left > -float("inf")):
            deals.append(self._refused(item, item.left, f"{flow.investor} holds no more units"))
        return deals

    def _lockup_ends(self, lot: Lot) -> pd.Period:
        """Return the month on whose dealing day the lot can be redeemed.

        Whole calendar months: the first session of a month is now the 1st, now the 4th, and a lockup of a year is not to
        become thirteen months by that.
        """
        return lot.opened.to_period("M") + self.terms.lockup_months

    def _takings(self, lots: list[Lot], amount: float) -> list[tuple[Lot, float]]:
        """Return the units of each lot, oldest first, that pay out `amount`, or all where they are worth less."""
        takings = []
        for lot in lots:
            price, _, _ = self._price(lot)
            if price <= 0 or amount < CENT:
                continue
            # Less than half a cent is not worth a lot of its own.
            units = lot.units if lot.units * price - amount < CENT else amount / price
            takings.append((lot, units))
            amount -= units * price
        return takings

    def _price(self, lot: Lot) -> tuple[float, float, float]:
        """Return what a unit is paid out at, the incentive fee taken on it, and the month's fee given back with it."""
        series = self.series[lot.series]
        fee = series.accrued(self.terms, self._today, refund=series.management)
        paid = series.value + series.management - fee
        return paid / series.issued, fee / series.issued, series.management / series.issued

    def _cancel(self, lot: Lot, units: float, requested: pd.Timestamp) -> Deal:
        price, fee, refund = self._price(lot)
        lot.units -= units
        if lot.units == 0:
            self.lots.remove(lot)
        kind, outcome = DealKind.REDEMPTION, Outcome.DEALT
        return Deal(
            *(self._today, requested, lot.investor, kind, outcome, units * price, units, price),
            *(-units * refund, units * fee, lot.series),
        )

    def _subscribe(self, item: Waiting) -> list[Deal]:
        self._waiting.remove(item)
        amount, deals = item.left, []
        if self.terms.capacity is not None:
            amount = min(amount, self.terms.capacity - self.net_assets)
        if amount >= CENT:
            deals.append(self._issue(item.flow.date, item.flow.investor, amount))
        rest = item.left - sum(deal.amount for deal in deals)
        if rest > 0:
            deals.append(self._refused(item, rest, f"the fund is at its capacity, {self.terms.capacity:,.0f}"))
        return deals

    def _issue(self, requested: pd.Timestamp, investor: str, amount: float) -> Deal:
        """Issue units for `amount`, of which the month's fee is paid at once."""
        fee, kind, outcome = month_fee(self.terms, amount), DealKind.SUBSCRIPTION, Outcome.DEALT
        if self.terms.equalisation == "series":
            series = FeeSeries.issue(self._today, amount)
            series.management = fee
            series.value -= fee
            units = series.issued
            self.series.append(series)
        else:
            series = self.series[0]
            held = sum(lot.units for lot in self.lots)
            units = (amount - fee) / series.nav_per_unit
            series.mark = (held * series.mark_per_unit + amount) / (held + units) * series.issued
        number = len(self.series) - 1
        self.lots.append(Lot(investor, number, self._today, units))
        return Deal(
            *(self._today, requested, investor, kind, outcome, amount, units, amount / units),
            *(fee, 0.0, number),
        )

    def _follow_path(self) -> list[Deal]:
        """Bring net assets to the latest step of the path that is due: pro rata on the way down, as one investor on the way up."""
        due = [step for step in self._steps if step[0] <= self._today]
        self._steps = self._steps[len(due) :]
        if not due:
            return []
        (asked, target), nav = due[-1], self.net_assets
        if target > nav:
            # What comes in pays its month's fee at once, and net assets are to be `target` after it.
            return [self._issue(asked, PATH, (target - nav) / (1 - self.terms.management_fee_annual / 12))]
        return [self._cancel(lot, lot.units * (1 - target / nav), asked) for lot in list(self.lots)]
