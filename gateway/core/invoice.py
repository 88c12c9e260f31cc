"""An invoice preview: one account, one calendar month.

Each line is exact inside and rounded once, to the cent; the total is the sum of
the rounded lines, so that what is printed adds up. A trial, and a plan that is
not billed, cost nothing at all. Must not know the store.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal, NamedTuple

from gateway.core.book import Account, Meter, OverageRate, Plan
from gateway.core.money import MoneyRounding, round_cents
from gateway.core.periods import Span
from gateway.core.rows import LedgerEntry
from gateway.core.terms import NOT_ENFORCED, Timeline

LineKind = Literal["plan", "seats", "overage", "bundle"]


class Line(NamedTuple):
    """`units` in the meter's smallest unit, or seats; 0 where nothing is counted."""

    kind: LineKind
    title: str
    meter: str
    units: int
    cost_micro: Fraction
    cents: int


class MeterUse(NamedTuple):
    """A meter's month: what the plan includes, what was used and what is over.

    Of a meter with other periods than months, the sums of those that began in the month;
    `overage` is always what the month's days are billed for.
    """

    meter: Meter
    included: int
    used: int  # from the periods' own lots
    lots_used: int  # from bundles and other lots
    remaining: int
    overage: int
    overdraft: int  # past the grants, and not billed
    rate: OverageRate | None
    cost_micro: Fraction


@dataclass(frozen=True, slots=True)
class Invoice:
    plan: Plan
    seats: int
    lines: tuple[Line, ...]
    uses: tuple[MeterUse, ...]
    cap_micro: int | None
    total_cents: int


def make_invoice(
    plan: Plan,
    account: Account,
    uses: Sequence[MeterUse],
    bundles: Iterable[LedgerEntry],
    rounding: MoneyRounding,
) -> Invoice:
    """The preview: plan, seats, overage of each meter, then what was bought."""
    lines: list[Line] = []

    def add(kind: LineKind, title: str, meter: str, units: int, cost: Fraction) -> None:
        lines.append(Line(kind, title, meter, units, cost, round_cents(cost, rounding)))

    if plan.billing not in NOT_ENFORCED:
        if plan.price_micro:
            add("plan", plan.title or plan.name, "", 0, Fraction(plan.price_micro))
        if plan.seat_price_micro and account.seats:
            cost = Fraction(plan.seat_price_micro * account.seats)
            add("seats", f"{account.seats} seats", "", account.seats, cost)
    for use in uses:
        if use.overage or use.cost_micro:
            add("overage", use.meter.title, use.meter.name, use.overage, use.cost_micro)
    for entry in bundles:
        cost = Fraction(entry.price_micro)
        add("bundle", entry.reason, entry.meter, entry.amount, cost)
    total = sum(line.cents for line in lines)
    return Invoice(plan, account.seats, tuple(lines), tuple(uses), account.cap_micro, total)


def billed_plan(timeline: Timeline, plan: Plan, month: Span, at_us: int) -> str:
    """The name of the plan whose price a month has, as of an instant: the one that grants.

    A plan that was taken during the month, and whose allowances begin with the next, is
    paid from then on. A plan without allowances counts at once.
    """
    if not plan.allowances:
        return plan.name
    return timeline.granting_plan(plan.allowances[0].meter, month, at_us) or plan.name
