"""Amounts as people write them: decimal text to integer units and back.

An amount is an integer in the meter's smallest unit; a meter with 2 decimals counts
hundredths. No float is made on the way, in either direction. Must not round: a text
that does not fit exactly is refused.
"""

from __future__ import annotations

import re

# Beyond this an integer is no longer exact in JSON readers and in Lua; sums of 1,024 such
# amounts still fit 64 bits.
AMOUNT_MAX = 2**53 - 1
DECIMALS_MAX = 12

_NUMBER = re.compile(r"([+-]?)([0-9]{1,20})(?:\.([0-9]{1,20}))?", re.ASCII)


def format_amount(amount: int, decimals: int) -> str:
    """1234 with 2 decimals is "12.34"; with 0 decimals "1234"."""
    if decimals == 0:
        return str(amount)
    sign = "-" if amount < 0 else ""
    whole, part = divmod(abs(amount), 10**decimals)
    return f"{sign}{whole}.{part:0{decimals}d}"


def parse_amount(text: str, decimals: int) -> int:
    """ "12.3" with 2 decimals is 1230.

    Raises ValueError saying what was expected and found: no plain decimal number, more
    digits behind the point than the meter has, or larger than AMOUNT_MAX either way.
    """
    match = _NUMBER.fullmatch(text)
    if match is None:
        raise ValueError(f"expected a decimal number like 12 or 0.5, found {text[:40]!r}")
    sign, whole, part = match[1], match[2], (match[3] or "").rstrip("0")
    if len(part) > decimals:
        raise ValueError(f"expected at most {decimals} digits behind the point, found {text!r}")
    amount = int(whole + part.ljust(decimals, "0"))
    if amount > AMOUNT_MAX:
        raise ValueError(f"expected at most {format_amount(AMOUNT_MAX, decimals)}, found {text}")
    return -amount if sign == "-" else amount


def json_amount(amount: int, decimals: int) -> int | str:
    """As shown in JSON: an int where the meter has no decimals, else exact decimal text."""
    return amount if decimals == 0 else format_amount(amount, decimals)


def percent(part: int, whole: int) -> str:
    """With one decimal, rounded half up; "0.0" of nothing."""
    tenths = (part * 2_000 + whole) // (2 * whole) if whole else 0
    return f"{tenths // 10}.{tenths % 10}"
