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

from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple

from gateway.core.book import Allowance, OverageRate
from gateway.core.periods import Span
from gateway.core.statement import NOTED_US, Books, Stage
from gateway.core.terms import NOT_ENFORCED, own_allowance

NOTHING = Fraction(0)


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


class Bill(NamedTuple):
    """Where a period stands at an instant."""

    over: int  # units past the grants
    units: int  # those of them that are billed
    rate: OverageRate | None
    cost_micro: Fraction


def exact_cost(rate: OverageRate, units: int) -> Fraction:
    """What so many units past the grants cost, in micro-dollars."""
    if rate.rounding == "lot":
        return Fraction(-(-units // rate.units) * rate.price_micro)
    return Fraction(units * rate.price_micro, rate.units)


def whole_micro(cost_micro: Fraction) -> int:
    """Micro-dollars as they are shown: rounded up."""
    return -(-cost_micro.numerator // cost_micro.denominator)


def accrue(
    books: Books, span: Span, uses: Sequence[Use], carried_in: int, now_us: int
) -> tuple[list[Accrued], Bill]:
    """Stretch by stretch from the period's start, and where it stands behind the last.

    `uses` are contiguous and begin with the period. The last one may end behind `now_us`:
    then the terms are the latest.
    """
    used = base = 0
    bill = Bill(0, 0, None, NOTHING)
    added = []
    for use in uses:
        used += use.amount
        at_us = use.to_us - 1
        if at_us >= now_us:
            at_us = now_us + NOTED_US
        if not _is_enforced(books.stage_at(at_us)):
            base = _over(books, span, used, carried_in, use.to_us)
        over = _over(books, span, used, carried_in, at_us)
        before, bill = bill, _bill(books, span, over, min(base, over), at_us)
        units, cost = bill.units - before.units, bill.cost_micro - before.cost_micro
        added.append(Accrued(use.from_us, use.to_us, units, cost))
    return added, bill


def _over(books: Books, span: Span, used: int, carried_in: int, at_us: int) -> int:
    """Units past the grants, as of an instant."""
    allowance = books.allowance_at(span, at_us)
    if allowance is None:
        return 0
    return max(0, used - allowance.amount - carried_in - books.topped_up(span, at_us))


def _bill(books: Books, span: Span, over: int, base: int, at_us: int) -> Bill:
    allowance = books.allowance_at(span, at_us)
    rate = None if allowance is None else allowance.overage
    if rate is None or not was_billed(books, span, at_us):
        return Bill(over, 0, None, NOTHING)
    return Bill(over, over - base, rate, exact_cost(rate, over - base))


def _own(books: Books, stage: Stage) -> Allowance | None:
    return own_allowance(stage.plan, books.meter)


def _is_enforced(stage: Stage) -> bool:
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
        if stage.to_us > span.start_us and stage.from_us <= until_us
    )
    return [own for own in found if own is not None]


def switches(books: Books, span: Span) -> list[int]:
    """When a plan that is not enforced gave way to one that is, within a period."""
    return [
        stage.from_us
        for before, stage in zip(books.terms, books.terms[1:], strict=False)
        if span.start_us < stage.from_us < span.end_us
        and _is_enforced(stage)
        and not _is_enforced(before)
    ]
