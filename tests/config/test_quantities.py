"""Durations, sizes, rates, amounts and instants: exact, or refused with the right form."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.config.problems import Expected
from gateway.config.quantities import (
    DURATION_MAX_US,
    in_units,
    parse_amount,
    parse_duration_us,
    parse_instant_us,
    parse_months,
    parse_rate,
    parse_size_bytes,
)
from gateway.core.units import AMOUNT_MAX, format_amount

SECOND = 1_000_000
UNITS_US = {"ms": 1_000, "s": SECOND, "m": 60 * SECOND, "h": 3600 * SECOND, "d": 86400 * SECOND}


@pytest.mark.parametrize(
    ("text", "us"),
    [("250ms", 250_000), ("30s", 30 * SECOND), ("5m", 300 * SECOND), ("2h", 7200 * SECOND),
     ("7d", 604_800 * SECOND), ("1h30m", 5400 * SECOND), ("1m30s500ms", 90_500_000),
     ("1.5s", 1_500_000), ("0s", 0), ("0.000001s", 1), ("366d", DURATION_MAX_US)],
)  # fmt: skip
def test_durations(text: str, us: int) -> None:
    assert parse_duration_us(text) == us


@pytest.mark.parametrize(
    ("text", "size"),
    [("8190B", 8190), ("512KB", 512_000), ("10MB", 10_000_000), ("2GB", 2_000_000_000),
     ("1KiB", 1024), ("2MiB", 2_097_152), ("1GiB", 1_073_741_824), ("1.5MB", 1_500_000),
     ("0B", 0), ("1TB", 10**12), ("1TiB", 2**40)],
)  # fmt: skip
def test_sizes(text: str, size: int) -> None:
    assert parse_size_bytes(text) == size


@pytest.mark.parametrize(
    ("text", "quota", "period_us"),
    [("10/second", 10, SECOND), ("10/sec", 10, SECOND), ("10/s", 10, SECOND),
     ("100/minute", 100, 60 * SECOND), ("1/min", 1, 60 * SECOND), ("1/m", 1, 60 * SECOND),
     ("10000/hour", 10_000, 3600 * SECOND), ("1000/day", 1000, 86_400 * SECOND),
     ("5/10s", 5, 10 * SECOND), ("5 / 10 seconds", 5, 10 * SECOND), ("3/500ms", 3, 500_000)],
)  # fmt: skip
def test_rates(text: str, quota: int, period_us: int) -> None:
    assert parse_rate(text) == (quota, period_us)


@pytest.mark.parametrize(
    ("text", "months"), [("13 months", 13), ("2 months", 2), ("24months", 24), ("1200 month", 1200)]
)
def test_months(text: str, months: int) -> None:
    assert parse_months(text) == months


@pytest.mark.parametrize(
    ("parse", "value", "hint"),
    [
        (parse_duration_us, 30, "a number needs its unit: ms, s, m, h or d"),
        (parse_duration_us, "30", "a number needs its unit: ms, s, m, h or d"),
        (parse_duration_us, "10sec", "did you mean 10s?"),
        (parse_duration_us, "10 s", "did you mean 10s?"),
        (parse_duration_us, "5 minutes", "did you mean 5m?"),
        (parse_duration_us, "5M", "did you mean 5m?"),
        (parse_duration_us, "5w", "unknown unit 'w'; units are ms, s, m, h and d"),
        (parse_duration_us, "30m1h", "each unit once, the larger ones first"),
        (parse_duration_us, "1s1s", "each unit once, the larger ones first"),
        (parse_duration_us, "-5s", ""),
        (parse_duration_us, "1:30", ""),
        (parse_duration_us, "\u0661s", ""),
        (parse_duration_us, "0.0000001s", ""),
        (parse_duration_us, "367d", ""),
        (parse_duration_us, True, ""),
        (parse_duration_us, None, ""),
        (parse_months, 13, "did you mean 13 months?"),
        (parse_months, "1 year", "did you mean 12 months?"),
        (parse_months, "13", "events leave by the calendar month"),
        (parse_months, "13m", "events leave by the calendar month"),
        (parse_months, "0 months", "late events and refunds need the last ones"),
        (parse_months, "1201 months", ""),
        (parse_months, True, ""),
        (parse_months, None, ""),
        (parse_size_bytes, 1024, "a number needs its unit: B, KB, MB, GB or KiB, MiB, GiB"),
        (parse_size_bytes, "1024", "a number needs its unit: B, KB, MB, GB or KiB, MiB, GiB"),
        (parse_size_bytes, "10mb", "did you mean 10MB?"),
        (parse_size_bytes, "10M", "did you mean 10MB?"),
        (parse_size_bytes, "10 MB", "did you mean 10MB?"),
        (parse_size_bytes, "5bytes", "did you mean 5B?"),
        (parse_size_bytes, "5Mbit",
         "unknown unit 'Mbit'; units are B, KB, MB, GB, TB and KiB, MiB, GiB, TiB"),
        (parse_size_bytes, "1.5B", ""),
        (parse_size_bytes, "-1MB", ""),
        (parse_size_bytes, "999999TB", ""),
        (parse_rate, 10, "say per what"),
        (parse_rate, "10", "say per what"),
        (parse_rate, "10/sek", "did you mean sec?"),
        (parse_rate, "10/fortnight",
         "unknown unit 'fortnight'; units are second, minute, hour and day"),
        (parse_rate, "10/week", "a rate is per day at most; per week is an allowance of a plan"),
        (parse_rate, "10/month", "a rate is per day at most; per month is an allowance of a plan"),
        (parse_rate, "0/hour", "a plan without the limit has no limit"),
        (parse_rate, "1.5/s", ""),
        (parse_rate, "-1/s", ""),
        (parse_rate, "1/0s", ""),
        (parse_rate, "2000000/s", ""),
        (parse_rate, "1000000001/day", ""),
        (parse_instant_us, "2026-01-05", "did you mean 2026-01-05T00:00:00Z?"),
        (parse_instant_us, "2026-01-05T00:00:00", "did you mean 2026-01-05T00:00:00Z?"),
        (parse_instant_us, "yesterday", ""),
        (parse_instant_us, 1767571200, ""),
    ],
)  # fmt: skip
def test_wrong_units_are_explained(
    parse: Callable[[object], object], value: object, hint: str
) -> None:
    with pytest.raises(Expected) as caught:
        parse(value)
    assert caught.value.hint == hint


def test_an_impossible_date_is_refused() -> None:
    for text in ("2026-02-30T00:00:00Z", "2026-13-01T00:00:00Z", "2026-01-01T24:01:00Z"):
        with pytest.raises(Expected):
            parse_instant_us(text)


@given(
    st.integers(0, 300), st.integers(0, 23), st.integers(0, 59), st.integers(0, 59),
    st.integers(0, 999),
)  # fmt: skip
def test_compound_durations_add_up(d: int, h: int, m: int, s: int, ms: int) -> None:
    parts = dict(zip(("d", "h", "m", "s", "ms"), (d, h, m, s, ms), strict=True))
    text = "".join(f"{count}{unit}" for unit, count in parts.items())
    assert parse_duration_us(text) == sum(n * UNITS_US[unit] for unit, n in parts.items())


@given(st.text(max_size=12))
def test_any_text_is_a_quantity_or_refused(text: str) -> None:
    for parse in (parse_duration_us, parse_size_bytes, parse_rate, parse_instant_us, parse_amount):
        try:
            parse(text)
        except Expected as exc:
            assert exc.expected


@given(st.integers(0, AMOUNT_MAX), st.integers(0, 12))
def test_amounts_are_exact(units: int, decimals: int) -> None:
    text = format_amount(units, decimals)
    assert in_units(parse_amount(text), decimals) == units
    assert in_units(parse_amount(Decimal(text)), decimals) == units


@given(
    st.decimals(allow_nan=False, allow_infinity=False, places=30, min_value=0), st.integers(0, 12)
)
def test_amounts_are_never_rounded(amount: Decimal, decimals: int) -> None:
    try:
        units = in_units(amount, decimals)
    except Expected:
        exact = Fraction(amount) * 10**decimals
        assert exact.denominator != 1 or exact > AMOUNT_MAX
    else:
        assert 0 <= units <= AMOUNT_MAX
        assert units == Fraction(amount) * 10**decimals


@pytest.mark.parametrize(
    "value",
    [-1, Decimal("-0.01"), True, None, "1e5", "-1", "٣", ".5", "5.", "1,5", "NaN", ".inf",
     Decimal("1e400"), Decimal("1e-400"), [], {}],
)  # fmt: skip
def test_what_is_no_amount(value: object) -> None:
    with pytest.raises(Expected):
        parse_amount(value)


@pytest.mark.parametrize("zeros", [11, 20, 28, 35])
def test_a_last_digit_far_behind_is_not_lost(zeros: int) -> None:
    with pytest.raises(Expected, match="at most 12 digits"):
        in_units(parse_amount(f"5.1{'0' * zeros}1"), 12)


def test_the_largest_amount() -> None:
    assert in_units(Decimal(AMOUNT_MAX), 0) == AMOUNT_MAX == 2**53 - 1
    with pytest.raises(Expected, match="2\\*\\*53"):
        in_units(Decimal(AMOUNT_MAX) + 1, 0)
    with pytest.raises(Expected, match="2\\*\\*53"):
        in_units(Decimal(10**16), 6)


@given(st.datetimes(datetime(1970, 1, 1), datetime(2100, 1, 1)), st.integers(-14 * 60, 14 * 60))
def test_instants_are_exact(moment: datetime, offset_m: int) -> None:
    aware = moment.replace(tzinfo=timezone(timedelta(minutes=offset_m)))
    span = aware - datetime(1970, 1, 1, tzinfo=UTC)
    assert parse_instant_us(aware.isoformat()) == span // timedelta(microseconds=1)
