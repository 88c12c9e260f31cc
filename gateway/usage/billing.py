"""What an account is billed for: the overage of each meter, by day and by month.

The daily report and the invoice are the same figures, cut differently: the days
of a month always sum to its invoice. Everything comes from the store. Must not
run on the event loop, and must not format.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from fractions import Fraction
from typing import NamedTuple
from zoneinfo import ZoneInfo

from gateway.core.book import Account, Allowance, Meter, OverageRate, Plan
from gateway.core.invoice import Invoice, MeterUse, billed_plan, make_invoice
from gateway.core.money import NOTHING, MoneyRounding
from gateway.core.overage import PERIODS_OF_MONTH, ReadUses, accrue_period, was_allowed
from gateway.core.periods import DAY_US, MONTH, SECOND_US, Period, Span
from gateway.core.statement import PeriodFigures
from gateway.core.terms import effective_plan, own_allowance
from gateway.store.database import Database
from gateway.store.sums import read_uses
from gateway.usage.records import Records


@dataclass(slots=True)
class MeterBill:
    """A meter's overage in a span of days; `days` only those that added to the bill."""

    meter: Meter
    figures: list[PeriodFigures]  # of the periods that touch the span, oldest first
    days: dict[int, tuple[int, Fraction]] = field(default_factory=dict)  # units, micro-dollars
    overdraft: int = 0
    rate: OverageRate | None = None

    @property
    def units(self) -> int:
        return sum(units for units, _ in self.days.values())

    @property
    def cost_micro(self) -> Fraction:
        return sum((cost for _, cost in self.days.values()), NOTHING)


class Month(NamedTuple):
    """A calendar month of an account, in the time zone that it had when the month began.

    So a time zone that is changed later moves no day that was told.
    """

    name: str  # YYYY-MM
    span: Span
    timezone: str

    @property
    def days(self) -> list[int]:
        """The first instants of its days, and its end."""
        days = [self.span.start_us]
        while days[-1] < self.span.end_us:
            after_us = Period("day").span(days[-1], 0, self.timezone).end_us
            days.append(min(after_us, self.span.end_us))
        return days

    def date(self, day_us: int) -> str:
        """The date of a day's first instant: 2026-03-01."""
        moment = datetime.fromtimestamp(day_us // SECOND_US, ZoneInfo(self.timezone))
        return moment.date().isoformat()


def month_of(records: Records, name: str) -> Month:
    """The month of a name such as 2026-03."""
    first = datetime.fromisoformat(f"{name}-01").replace(tzinfo=UTC)
    first_us = int(first.timestamp()) * SECOND_US
    timezone = records.stage_at(first_us).account.timezone
    return Month(name, MONTH.span(first_us + 14 * DAY_US, 0, timezone), timezone)


def read_meter_bill(
    connection: Database, records: Records, meter: Meter, days: Sequence[int], now_us: int
) -> MeterBill:
    """The overage between the first and the last of `days`, by the days that they bound.

    What was admitted after `now_us` is not there yet. Raises one of ERRORS.
    """
    books = records.books(meter)
    until_us = min(days[-1], now_us + 1)
    figures = books.history(until_us - 1, PERIODS_OF_MONTH, days[0])
    bill = MeterBill(meter, [f for f in figures if f.span.end_us > days[0]])
    read = _reader(connection, records.account.id, meter.name)
    for period in bill.figures:
        added, stands = accrue_period(books, period, days, until_us, now_us, read)
        bill.overdraft += stands.over - stands.units
        bill.rate = stands.rate or bill.rate
        for entry in added:
            if entry.from_us >= days[0] and (entry.units or entry.cost_micro):
                day_us = days[bisect_right(days, entry.from_us) - 1]
                units, cost = bill.days.get(day_us, (0, NOTHING))
                bill.days[day_us] = (units + entry.units, cost + entry.cost_micro)
    return bill


class PeriodBill(NamedTuple):
    """What a meter's present period is billed for; `is_allowed`: it could go past its grants."""

    units: int
    cost_micro: Fraction
    is_allowed: bool


def read_period_bill(
    connection: Database, records: Records, meter: Meter, now_us: int
) -> PeriodBill:
    """Of the period that is now, up to now. Raises one of ERRORS."""
    books = records.books(meter)
    period = books.history(now_us, 1)[-1]
    read = _reader(connection, records.account.id, meter.name)
    _, bill = accrue_period(books, period, (), now_us + 1, now_us, read)
    return PeriodBill(bill.units, bill.cost_micro, was_allowed(books, period.span, now_us))


def _reader(connection: Database, account: str, meter: str) -> ReadUses:
    return lambda start_us, bounds: read_uses(connection, account, meter, start_us, bounds)


def read_bills(
    connection: Database,
    records: Records,
    meters: Mapping[str, Meter],
    month: Month,
    days: Sequence[int],
    now_us: int,
) -> list[MeterBill]:
    """The overage of each meter that a plan of the month limits, on some of its days."""
    if len(days) < 2:
        return []
    _, plan = terms_of_month(records, month.span, now_us)
    plans = [plan]  # what a plan that was left was billed for is taken back, and told
    for stage in records.terms:
        if stage.plan and stage.from_us < month.span.end_us and stage.to_us > month.span.start_us:
            plans.append(stage.plan)
    wanted = dict.fromkeys(a.meter for plan in plans for a in own_allowances(plan))
    return [
        read_meter_bill(connection, records, meters[name], days, now_us)
        for name in wanted
        if name in meters
    ]


def read_invoice(
    connection: Database,
    records: Records,
    meters: Mapping[str, Meter],
    month: Month,
    now_us: int,
    rounding: MoneyRounding,
) -> Invoice:
    """The preview of a month by what was in force at its end, or is now."""
    account, plan = terms_of_month(records, month.span, now_us)
    bills = read_bills(connection, records, meters, month, month.days, now_us)
    rates = {allowance.meter: allowance.overage for allowance in own_allowances(plan)}
    uses = [_use(bill, month.span, rates.get(bill.meter.name)) for bill in bills]
    bought = [
        entry
        for entry in reversed(records.entries)
        if entry.price_micro and month.span.start_us <= entry.time_us < month.span.end_us
    ]
    priced = _priced(records, plan, account, month.span)
    return make_invoice(priced, account, uses, bought, rounding)


def terms_of_month(records: Records, month: Span, now_us: int) -> tuple[Account, Plan]:
    """The account and its effective plan at the end of a month, or now."""
    if month.end_us > now_us:
        return records.account, records.plan
    stage = records.stage_at(month.end_us - 1)
    return stage.account, stage.plan or records.plan


def _priced(records: Records, plan: Plan, account: Account, month: Span) -> Plan:
    """The plan whose price the month has."""
    at_us = month.end_us - 1
    name = billed_plan(records.timeline, plan, month, at_us)
    found = plan if name == plan.name else records.timeline.plan_at(name, at_us)
    return plan if found is None else effective_plan(found, account)


def own_allowances(plan: Plan) -> list[Allowance]:
    """The allowance of each meter that its units come from, in the plan's order."""
    meters = dict.fromkeys(allowance.meter for allowance in plan.allowances)
    found = (own_allowance(plan, meter) for meter in meters)
    return [allowance for allowance in found if allowance is not None]


def _use(bill: MeterBill, month: Span, rate: OverageRate | None) -> MeterUse:
    began = [f for f in bill.figures if month.start_us <= f.span.start_us < month.end_us]
    return MeterUse(
        bill.meter,
        included=sum(f.limit for f in began),
        used=sum(f.used for f in began),
        lots_used=sum(f.lots_used for f in began),
        remaining=sum(max(0, f.limit - f.used) for f in began),
        overage=bill.units,
        overdraft=bill.overdraft,
        rate=bill.rate or rate,
        cost_micro=bill.cost_micro,
    )
