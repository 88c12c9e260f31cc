"""Amounts as people write them, and as integers in the meter's smallest unit.

Exact both ways: no float is ever made of an amount.
"""

from __future__ import annotations

import re

from gateway.core.ledger import AMOUNT_MAX

_DECIMAL = re.compile(r"[0-9]+(?:\.[0-9]+)?").fullmatch


def format_amount(amount: int, decimals: int) -> str:
    """123 with 2 decimals is "1.23"; trailing zeros stay off ("1.5", "2")."""
    if decimals == 0:
        return str(amount)
    sign = "-" if amount < 0 else ""
    whole, rest = divmod(abs(amount), 10**decimals)
    fraction = f"{rest:0{decimals}d}".rstrip("0")
    return f"{sign}{whole}.{fraction}" if fraction else f"{sign}{whole}"


def parse_amount(text: str, decimals: int) -> int:
    """The amount in smallest units. Raises ValueError saying what was expected."""
    if _DECIMAL(text) is None:
        raise ValueError(f"expected a decimal number like 12 or 0.5, found {text!r}")
    whole, _, fraction = text.partition(".")
    fraction = fraction.rstrip("0")
    if len(fraction) > decimals:
        raise ValueError(f"expected at most {decimals} decimals, found {text!r}")
    amount = int(whole) * 10**decimals + int(fraction.ljust(decimals, "0") or "0")
    if amount > AMOUNT_MAX:
        raise ValueError(f"expected less than 2**53 smallest units, found {text!r}")
    return amount
