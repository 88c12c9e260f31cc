"""Periods tile time exactly, whatever the calendar does."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.periods import WEEK_US, Period, PeriodKind

YEAR_US = 366 * 86_400 * 1_000_000


def us(text: str) -> int:
    return round(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1e6)


@pytest.mark.parametrize(
    ("kind", "at", "start", "end"),
    [
        ("month", "2024-02-29T23:59:59.999999", "2024-02-01", "2024-03-01"),
        ("month", "2026-12-31T23:59:59", "2026-12-01", "2027-01-01"),
        ("month", "2027-01-01", "2027-01-01", "2027-02-01"),
        ("day", "2024-02-29T12:00:00", "2024-02-29", "2024-03-01"),
        ("hour", "2026-03-29T02:30:00", "2026-03-29T02:00:00", "2026-03-29T03:00:00"),
    ],
)
def test_calendar(kind: PeriodKind, at: str, start: str, end: str) -> None:
    assert Period(kind).span(us(at), 0) == (us(start), us(end))


def test_weeks_begin_at_the_accounts_own_instant() -> None:
    anchor = us("2026-01-07T10:37:12.5")
    span = Period("week").span(us("2026-01-21T10:37:12.5"), anchor)
    assert span == (anchor + 2 * WEEK_US, anchor + 3 * WEEK_US)
    assert Period("week").span(span.start_us - 1, anchor).end_us == span.start_us
    assert Period("week").span(anchor - 1, anchor) == (anchor - WEEK_US, anchor)


@given(
    st.sampled_from(["hour", "day", "week", "month"]),
    st.integers(0, 200 * YEAR_US),
    st.integers(0, 60 * YEAR_US),
)
def test_every_instant_is_in_one_period(kind: PeriodKind, at_us: int, anchor_us: int) -> None:
    span = Period(kind).span(at_us, anchor_us)
    assert span.start_us <= at_us < span.end_us
    assert Period(kind).span(span.start_us, anchor_us) == span
    assert Period(kind).span(span.end_us - 1, anchor_us) == span
    assert Period(kind).span(span.end_us, anchor_us).start_us == span.end_us
