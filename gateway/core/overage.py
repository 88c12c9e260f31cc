"""How overage came about: which units, when, and what each stretch of time added to the bill.

Rules: units past a period's grants are billed at the rate in force, if the
account could go into overage at some time of the period until then; else they
are an estimate's error, and nobody's bill. What a trial or an unenforced plan
let pass is not billed by the plan that follows. Units that are granted later
(a top-up, more seats) take billed ones back: a stretch may add less than
nothing. What a stretch added never changes once all its requests have ended, so
it may be told again. Amounts are in the meter's smallest unit, costs exact
fractions of micro-dollars. Must not know the clock or the store.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Collection, Sequence
from fractions import Fraction
from itertools import pairwise
from typing import NamedTuple

from gateway.core.book import Allowance, OverageRate
from gateway.core.ledger import Mark
from gateway.core.money import NOTHING, Bill, Stand, bills
from gateway.core.periods import Span
from gateway.core.statement import NOTED_US, Books, PeriodFigures, Stage
from gateway.core.terms import NOT_ENFORCED, own_allowance

# Of one month: hours are the shortest periods that there are.
PERIODS_OF_MONTH = 24 * 32
_NO_BILL = Bill(0, 0, None, NOTHING)


class Use(NamedTuple):
    """What requests admitted in a stretch of time used from the period's own lot."""

    from_us: int
    to_us: int
    amount: int


class Accrued(NamedTuple):
    """What a stretch of time added to the bill."""

    from_us: int
    to_us: int
    units: int
    cost_micro: Fraction


# What requests of a period used from its own lot: the period's start, and bounds in ascending
# order -> one amount between each two of them.
ReadUses = Callable[[int, Sequence[int]], list[int]]


def accrue_period(
    books: Books,
    period: PeriodFigures,
    cuts: Sequence[int],
    until_us: int,
    now_us: int,
    read_uses: ReadUses,
) -> tuple[list[Accrued], Bill]:
    """How one period's overage came about, told apart at `cuts`.

    Nothing is read where there cannot be any.
    """
    span = period.span
    end_us = min(span.end_us, until_us)
    if not was_billed(books, span, until_us) or not _may_have_overage(books, period):
        return [], Bill(period.overage, 0, None, NOTHING)
    inside = [at_us for at_us in (*cuts, *switches(books, span)) if span.start_us < at_us < end_us]
    bounds = sorted({span.start_us, *inside, end_us})
    first = max(0, bisect_left(bounds, books.born_us) - 1)  # nothing was used before
    amounts = [0] * first + read_uses(span.start_us, bounds[first:])
    uses = [Use(*pair, n) for pair, n in zip(pairwise(bounds), amounts, strict=True)]
    return accrue(books, span, uses, period.carried_in, now_us)


def _may_have_overage(books: Books, period: PeriodFigures) -> bool:
    """Whether a period has overage, or may have had some that was granted later."""
    if period.overage or period.topped_up:
        return True
    span = period.span
    return any(span.start_us < stage.from_us < span.end_us for stage in books.terms)


def cost_of_month(
    books: Books, month: Span, now_us: int, read_uses: ReadUses, but: Collection[int] = ()
) -> Fraction:
    """What a month's days added to the bill, in micro-dollars, but for periods that start so."""
    total = NOTHING
    until_us = min(month.end_us, now_us + 1)
    for period in books.history(until_us - 1, PERIODS_OF_MONTH, month.start_us):
        if period.span.start_us in but:
            continue
        added, _ = accrue_period(books, period, month, until_us, now_us, read_uses)
        total += sum((a.cost_micro for a in added if a.from_us >= month.start_us), NOTHING)
    return total


def accrue(
    books: Books, span: Span, uses: Sequence[Use], carried_in: int, now_us: int
) -> tuple[list[Accrued], Bill]:
    """Stretch by stretch from the period's start, and where it stands behind the last.

    `uses` are contiguous and begin with the period. The last one may end behind `now_us`:
    then the terms are the latest.
    """
    used = 0
    stands = []
    for use in uses:
        used += use.amount
        at_us = use.to_us - 1
        if at_us >= now_us:
            at_us = now_us + NOTED_US
        waived = None
        if not is_enforced(books.stage_of(span, at_us)):
            waived = _over(books, span, used, carried_in, use.to_us)
        over = _over(books, span, used, carried_in, at_us)
        stands.append(Stand(over, rate_at(books, span, at_us), waived))
    stretches = zip(uses, pairwise([_NO_BILL, *bills(stands)]), strict=True)
    added = [
        Accrued(
            *(use.from_us, use.to_us, bill.units - before.units),
            bill.cost_micro - before.cost_micro,
        )
        for use, (before, bill) in stretches
    ]
    return added, bills(stands)[-1] if stands else _NO_BILL


def marks_of(books: Books, span: Span, month_us: int, now_us: int) -> list[Mark]:
    """The instants within a period that its bill remembers, nothing used before them yet.

    They are the switches from a plan that is not enforced, and the month's start.
    """
    marks = [
        Mark(at_us, grants_at(books, span, at_us), None, is_switch=True)
        for at_us in switches(books, span)
        if at_us <= now_us + NOTED_US
    ]
    if span.start_us < month_us < span.end_us:
        at_us = month_us - 1
        granted, rate = grants_at(books, span, at_us), rate_at(books, span, at_us)
        marks.append(Mark(month_us, granted, rate, is_switch=False))
    return sorted(marks, key=lambda mark: (mark.at_us, not mark.is_switch))


def grants_at(books: Books, span: Span, at_us: int) -> int | None:
    """What a period's own lot had at an instant, without what was carried into it."""
    allowance = books.allowance_at(span, at_us)
    return None if allowance is None else allowance.amount + books.topped_up(span, at_us)


def _over(books: Books, span: Span, used: int, carried_in: int, at_us: int) -> int:
    """Units past the grants, as of an instant."""
    granted = grants_at(books, span, at_us)
    return 0 if granted is None else max(0, used - granted - carried_in)


def rate_at(books: Books, span: Span, at_us: int) -> OverageRate | None:
    """What a period's units past the grants cost, as of an instant; None when not billed."""
    allowance = books.allowance_at(span, at_us)
    if allowance is None or not is_enforced(books.stage_of(span, at_us)):
        return None
    return allowance.overage if was_billed(books, span, at_us) else None


def _own(books: Books, stage: Stage) -> Allowance | None:
    return own_allowance(stage.plan, books.meter)


def is_enforced(stage: Stage) -> bool:
    """Whether a plan's limits count at that time."""
    return stage.plan is None or stage.plan.billing not in NOT_ENFORCED


def was_billed(books: Books, span: Span, until_us: int) -> bool:
    """Whether units past the grants had a price at some time of a period."""
    return any(
        own.overage is not None and own.on_exhausted == "overage"
        for own in _in_force(books, span, until_us)
    )


def was_allowed(books: Books, span: Span, until_us: int) -> bool:
    """Whether the account could go past the grants at some time of a period."""
    return any(own.on_exhausted == "overage" for own in _in_force(books, span, until_us))


def _in_force(books: Books, span: Span, until_us: int) -> list[Allowance]:
    """The own allowances of the meter from a period's start until an instant."""
    found = (
        _own(books, stage)
        for stage in books.terms
        if stage.to_us > span.start_us
        and stage.from_us <= until_us
        and books.has_period(stage, span)
    )
    return [own for own in found if own is not None]


def switches(books: Books, span: Span) -> list[int]:
    """When a plan that is not enforced gave way to one that is, within a period."""
    terms = [stage for stage in books.terms if books.has_period(stage, span)]
    return [
        stage.from_us
        for before, stage in pairwise(terms)
        if span.start_us < stage.from_us < span.end_us
        and is_enforced(stage)
        and not is_enforced(before)
    ]
