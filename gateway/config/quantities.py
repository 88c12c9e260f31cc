"""Durations, sizes, rates, amounts and instants as people write them.

Text in, exact integers out: microseconds, bytes, smallest units of a meter.
What cannot be exact is refused with a sentence about the right form (Expected).
No float is involved. Must not know models or YAML.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from decimal import Context, Decimal
from fractions import Fraction
from typing import NamedTuple

from gateway.config.problems import Expected, did_you_mean, shown
from gateway.core.units import AMOUNT_MAX

DURATION_MAX_US = 366 * 24 * 3600 * 1_000_000  # a year: longer is a mistake
QUOTA_MAX = 1_000_000_000
RATE_PER_SECOND_MAX = 1_000_000  # GCRA counts in microseconds
# Single events are asked for by late journals, refunds and exports; a century is a mistake.
MONTHS_KEPT = (2, 1200)

_UNIT_US = {
    "ms": 1_000,
    "s": 1_000_000,
    "m": 60_000_000,
    "h": 3_600_000_000,
    "d": 86_400_000_000,
}
_SIZE_UNITS = {
    "B": 1,
    "KB": 1000,
    "MB": 1000**2,
    "GB": 1000**3,
    "TB": 1000**4,
    "KiB": 1024,
    "MiB": 1024**2,
    "GiB": 1024**3,
    "TiB": 1024**4,
}
_RATE_UNITS = {
    "ms": _UNIT_US["ms"],
    **dict.fromkeys(("s", "sec", "second", "seconds"), _UNIT_US["s"]),
    **dict.fromkeys(("m", "min", "minute", "minutes"), _UNIT_US["m"]),
    **dict.fromkeys(("h", "hour", "hours"), _UNIT_US["h"]),
    **dict.fromkeys(("d", "day", "days"), _UNIT_US["d"]),
}
_DURATION_WORDS = {  # what people write instead, and what they mean
    **dict.fromkeys(("msec", "millis", "millisecond", "milliseconds"), "ms"),
    **dict.fromkeys(("sec", "secs", "second", "seconds"), "s"),
    **dict.fromkeys(("min", "mins", "minute", "minutes"), "m"),
    **dict.fromkeys(("hr", "hrs", "hour", "hours"), "h"),
    **dict.fromkeys(("day", "days"), "d"),
}
_PART = re.compile(r"([0-9]{1,15})(?:\.([0-9]{1,9}))?(ms|s|m|h|d)")
_DURATION = re.compile(rf"(?:{_PART.pattern})+")
_NUMBER_AND_WORD = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,9})?) *([A-Za-z]*)")
_RATE = re.compile(r"([0-9]{1,15}) */ *([0-9]{0,9}) *([A-Za-z]+)")
_MONTHS = re.compile(r"([0-9]{1,9}) *months?")
_YEARS = re.compile(r"([0-9]{1,3}) *years?")
_INSTANT = re.compile(
    r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d{1,6})?([Zz]|[+-]\d\d:\d\d)", re.ASCII
)
_DURATION_FORM = "a duration such as 250ms, 30s, 5m, 2h or 7d"
_SIZE_FORM = "a size such as 512KB, 10MB or 2GiB"
_RATE_FORM = "a rate such as 10/second, 100/minute, 1000/hour or 5/10s"
_MONTHS_FORM = "a number of calendar months such as 13 months"
_EXACT = Context(prec=200)  # amounts have at most 81 digits: nothing is ever rounded
_INSTANT_FORM = "an instant such as 2026-01-05T00:00:00Z"


class Rate(NamedTuple):
    """`quota` per `period_us`."""

    quota: int
    period_us: int


def parse_duration_us(value: object) -> int:
    """`250ms`, `30s`, `1h30m`, `1.5s` in microseconds; zero is a duration.

    Raises Expected.
    """
    if not isinstance(value, str):
        raise Expected(_DURATION_FORM, hint=_needs_unit(value, "ms, s, m, h or d"))
    if not _DURATION.fullmatch(value):
        raise Expected(_DURATION_FORM, hint=_duration_hint(value))
    total = Fraction(0)
    units = []
    for whole, fraction, unit in _PART.findall(value):
        total += Fraction(f"{whole}.{fraction or 0}") * _UNIT_US[unit]
        units.append(_UNIT_US[unit])
    if units != sorted(set(units), reverse=True):
        raise Expected(_DURATION_FORM, hint="each unit once, the larger ones first")
    if total != int(total) or total > DURATION_MAX_US:
        raise Expected("a duration of whole microseconds, at most 366d")
    return int(total)


def parse_months(value: object) -> int:
    """`13 months`: calendar months, that events are kept for.

    Raises Expected.
    """
    found = _MONTHS.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise Expected(_MONTHS_FORM, hint=_months_hint(value))
    months = int(found[1])
    least, most = MONTHS_KEPT
    if not least <= months <= most:
        hint = "late events and refunds need the last ones" if months < least else ""
        raise Expected(f"{least} to {most} months", hint=hint)
    return months


def parse_size_bytes(value: object) -> int:
    """`512KB`, `10MB` (powers of 1,000), `2GiB` (of 1,024), `8190B` in bytes.

    Raises Expected.
    """
    found = _NUMBER_AND_WORD.fullmatch(value) if isinstance(value, str) else None
    if found is None or not isinstance(value, str):
        raise Expected(_SIZE_FORM, hint=_needs_unit(value, "B, KB, MB, GB or KiB, MiB, GiB"))
    number, unit = found.groups()
    if unit not in _SIZE_UNITS or " " in value:
        raise Expected(_SIZE_FORM, hint=_size_hint(number, unit))
    size = Fraction(number) * _SIZE_UNITS[unit]
    if size != int(size) or size > AMOUNT_MAX:
        raise Expected("a size of whole bytes, less than 9PB")
    return int(size)


def parse_rate(value: object) -> Rate:
    """`10/second`, `100/min`, `5/10s`.

    Raises Expected.
    """
    found = _RATE.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        hint = "say per what" if isinstance(value, int) or str(value).isdigit() else ""
        raise Expected(_RATE_FORM, hint=hint)
    quota, count, unit = int(found[1]), int(found[2] or 1), found[3]
    if unit not in _RATE_UNITS:
        raise Expected(_RATE_FORM, hint=_rate_hint(unit))
    period_us = count * _RATE_UNITS[unit]
    if quota < 1:
        raise Expected("a rate of at least 1", hint="a plan without the limit has no limit")
    if quota > QUOTA_MAX or quota * 1_000_000 > RATE_PER_SECOND_MAX * period_us:
        raise Expected(
            f"a rate of at most {RATE_PER_SECOND_MAX:,} per second, {QUOTA_MAX:,} in all"
        )
    if not 0 < period_us <= DURATION_MAX_US:
        raise Expected("a rate over at least 1ms and at most 366 days")
    return Rate(quota, period_us)


def parse_amount(value: object) -> Decimal:
    """A number from a YAML number (int or Decimal) or its text, never negative.

    Raises Expected for everything else: booleans, infinities, too many digits.
    """
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,40}(\.[0-9]{1,40})?", value):
        value = Decimal(value)
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        raise Expected("an amount such as 1 or 0.25")
    amount = Decimal(value)
    if amount < 0:
        raise Expected("an amount that is not negative")
    if abs(amount.adjusted()) > 40:  # before any arithmetic: 1e999 has a thousand digits
        raise Expected(f"an amount of 0, or between 1e-40 and {AMOUNT_MAX:,}")
    return amount


def in_units(amount: Decimal, decimals: int) -> int:
    """An amount in the meter's smallest unit of 10**-decimals.

    Raises Expected when the meter cannot represent it exactly, or it is too large.
    """
    units = amount.scaleb(decimals, _EXACT)
    if units != units.to_integral_value():
        digits = "whole numbers only" if decimals == 0 else f"at most {decimals} digits"
        hint = f"the meter has decimals: {decimals}"
        raise Expected(f"an amount of {digits}", found=shown(amount), hint=hint)
    if units > AMOUNT_MAX:
        raise Expected(
            f"an amount below 2**53 smallest units ({AMOUNT_MAX:,})", found=shown(amount)
        )
    return int(units)


def parse_instant_us(value: object) -> int:
    """An RFC 3339 text in microseconds since the epoch, UTC.

    Raises Expected; a text without a time zone is refused, since it is not one instant.
    """
    if not isinstance(value, str) or not _INSTANT.fullmatch(value):
        hint = ""
        if isinstance(value, str) and re.fullmatch(r"\d{4}-\d\d-\d\d", value):
            hint = f"did you mean {value}T00:00:00Z?"
        elif isinstance(value, str) and _INSTANT.fullmatch(value + "Z"):
            hint = f"did you mean {value}Z?"
        raise Expected(_INSTANT_FORM, hint=hint)
    try:
        moment = datetime.fromisoformat(value.upper())
    except ValueError as exc:
        raise Expected(_INSTANT_FORM, hint=str(exc)) from None
    span = moment - datetime(1970, 1, 1, tzinfo=UTC)
    return (span.days * 86_400 + span.seconds) * 1_000_000 + span.microseconds


def _needs_unit(value: object, units: str) -> str:
    is_number = isinstance(value, int | Decimal) and not isinstance(value, bool)
    return f"a number needs its unit: {units}" if is_number else ""


def _duration_hint(value: str) -> str:
    found = _NUMBER_AND_WORD.fullmatch(value)
    if found is None:
        return ""
    number, word = found.groups()
    if not word:
        return "a number needs its unit: ms, s, m, h or d"
    folded = word.casefold()
    unit = folded if folded in _UNIT_US else _DURATION_WORDS.get(folded, "")
    if unit:
        return f"did you mean {number}{unit}?"
    return f"unknown unit {word!r}; units are ms, s, m, h and d"


def _months_hint(value: object) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return f"did you mean {value} months?"
    years = _YEARS.fullmatch(value) if isinstance(value, str) else None
    if years:
        return f"did you mean {int(years[1]) * 12} months?"
    return "events leave by the calendar month" if isinstance(value, str) else ""


def _size_hint(number: str, unit: str) -> str:
    if not unit:
        return "a number needs its unit: B, KB, MB, GB or KiB, MiB, GiB"
    by_folded = {name.casefold(): name for name in _SIZE_UNITS}
    by_folded.update(k="KB", m="MB", g="GB", t="TB", ki="KiB", mi="MiB", gi="GiB", byte="B")
    meant = by_folded.get(unit.casefold()) or by_folded.get(unit.casefold().rstrip("s"))
    if meant:
        return f"did you mean {number}{meant}?"
    return f"unknown unit {unit!r}; units are B, KB, MB, GB, TB and KiB, MiB, GiB, TiB"


def _rate_hint(unit: str) -> str:
    if unit.casefold().startswith(("week", "month", "year")):
        return f"a rate is per day at most; per {unit} is an allowance of a plan"
    close = did_you_mean(unit, _RATE_UNITS)
    return close or f"unknown unit {unit!r}; units are second, minute, hour and day"
