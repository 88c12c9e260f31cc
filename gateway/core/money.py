"""Money: micro-dollars inside, cents on an invoice.

A micro-dollar is the millionth part of a dollar. Rates are exact ratios of
micro-dollars to units; what a line comes to is rounded once, where it is
shown. Must not know accounts or time.
"""

from __future__ import annotations

from typing import Literal

from gateway.core.book import OverageRate

MICRO = 1_000_000  # micro-dollars in a dollar
CENT_MICRO = 10_000
MoneyRounding = Literal["half_up", "up"]


def overage_micro(rate: OverageRate, units: int) -> int:
    """What so many units past the grants cost, rounded up to the micro-dollar.

    `lot` charges every lot of `rate.units` that was begun.
    """
    if rate.rounding == "lot":
        return -(-units // rate.units) * rate.price_micro
    return -(-units * rate.price_micro // rate.units)


def to_cents(micro: int, rounding: MoneyRounding) -> int:
    """Micro-dollars as whole cents."""
    if rounding == "up":
        return -(-micro // CENT_MICRO)
    return (2 * micro + CENT_MICRO) // (2 * CENT_MICRO)


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
