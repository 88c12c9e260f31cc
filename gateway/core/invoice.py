"""An invoice preview: one account, one calendar month.

Lines are micro-dollars, rounded once each to the cent; the total is the sum of
the rounded lines, so that what is printed adds up. Overage is billed where it
was allowed at some time of the month: units past the grants of a plan that
blocks are an estimate's error, and are nobody's bill. Must not know the store.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from gateway.core.book import Account, Meter, OverageRate, Plan
from gateway.core.money import MoneyRounding, overage_micro, to_cents
from gateway.core.rows import LedgerEntry


class Line(NamedTuple):
    """`units` and `included` are in the meter's smallest unit; 0 where there is no meter."""

    kind: str  # plan, seats, overage, bundle
    title: str
    meter: str
    units: int
    amount_micro: int
    cents: int


class MeterUse(NamedTuple):
    """A monthly meter's month: what the plan includes, what was used and what is over."""

    meter: Meter
    included: int
    used: int  # from the period's own lot
    lots_used: int  # from bundles and other lots
    remaining: int
    overage: int
    rate: OverageRate | None
    is_billed: bool


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
    """The preview. A plan of a trial, or that is not billed, costs nothing at all."""
    lines = []
    if plan.billing not in ("trial", "off"):
        if plan.price_micro:
            lines.append(("plan", plan.title or plan.name, "", 0, plan.price_micro))
        if plan.seat_price_micro and account.seats:
            micro = plan.seat_price_micro * account.seats
            lines.append(("seats", f"{account.seats} seats", "", account.seats, micro))
        for use in uses:
            if use.overage and use.rate is not None and use.is_billed:
                micro = overage_micro(use.rate, use.overage)
                lines.append(("overage", use.meter.title, use.meter.name, use.overage, micro))
    for entry in bundles:
        lines.append(("bundle", entry.reason, entry.meter, entry.amount, entry.price_micro))
    made = tuple(Line(*line, to_cents(line[4], rounding)) for line in lines)
    total = sum(line.cents for line in made)
    return Invoice(plan, account.seats, made, tuple(uses), account.cap_micro, total)
