"""Money: micro-dollars inside, cents on an invoice.

A micro-dollar is the millionth part of a dollar. Rates are exact ratios of
micro-dollars to units; what a line comes to is rounded once, where it is
shown. The rule of what units past the grants cost stands here once, for the
spending cap and for the invoice. Must not know accounts or time.
"""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from typing import Literal, NamedTuple

from gateway.core.book import OverageRate

MICRO = 1_000_000  # micro-dollars in a dollar
CENT_MICRO = 10_000
NOTHING = Fraction(0)
MoneyRounding = Literal["half_up", "up"]


class Stand(NamedTuple):
    """Where a period stood at an instant.

    `over`: units past the grants. `rate`: what they cost, None when nobody is billed for
    them. `waived`: how many of them a plan that is not enforced let pass until then; None
    where no such plan was in force, and what was waived before stays so.
    """

    over: int
    rate: OverageRate | None
    waived: int | None = None


class Bill(NamedTuple):
    """What a period that stands so is billed for."""

    over: int
    units: int  # those of them that are billed
    rate: OverageRate | None
    cost_micro: Fraction


def bills(stands: Iterable[Stand]) -> list[Bill]:
    """The bill at each of a period's instants, in the order of time."""
    found = []
    waived = 0
    for stand in stands:
        if stand.waived is not None:
            waived = stand.waived
        over, rate = stand.over, stand.rate
        units = 0 if rate is None else over - min(waived, over)
        cost = NOTHING if rate is None else exact_cost(rate, units)
        found.append(Bill(over, units, rate, cost))
    return found


def exact_cost(rate: OverageRate, units: int) -> Fraction:
    """What so many units past the grants cost, in micro-dollars.

    `lot` charges every lot of `rate.units` that was begun.
    """
    if rate.rounding == "lot":
        return Fraction(-(-units // rate.units) * rate.price_micro)
    return Fraction(units * rate.price_micro, rate.units)


def whole_micro(cost_micro: Fraction) -> int:
    """Micro-dollars as they are shown: rounded up."""
    return -(-cost_micro.numerator // cost_micro.denominator)


def round_cents(cost_micro: Fraction, rounding: MoneyRounding) -> int:
    """Micro-dollars as whole cents: half up, or always up."""
    cents = cost_micro / CENT_MICRO
    if rounding == "up":
        return -(-cents.numerator // cents.denominator)
    return (2 * cents.numerator + cents.denominator) // (2 * cents.denominator)


def format_cents(cents: int) -> str:
    """41467 is "414.67"."""
    sign = "-" if cents < 0 else ""
    return f"{sign}{abs(cents) // 100}.{abs(cents) % 100:02d}"


def format_micro(micro: int) -> str:
    """Exact, at least two digits behind the point: 10_000 is "0.01", 5 is "0.000005"."""
    sign = "-" if micro < 0 else ""
    text = f"{abs(micro) // MICRO}.{abs(micro) % MICRO:06d}".rstrip("0")
    whole, _, part = text.partition(".")
    return f"{sign}{whole}.{part.ljust(2, '0')}"
