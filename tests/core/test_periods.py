"""Periods tile time exactly, whatever the calendar does."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.periods import DAY_US, EVER_US, HOUR_US, WEEK_US, Period, PeriodKind, Span

YEAR_US = 366 * 86_400 * 1_000_000


def us(text: str) -> int:
    return round(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1e6)


def offset_us(text: str) -> int:
    """An instant with its offset."""
    return round(datetime.fromisoformat(text).timestamp() * 1e6)


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


# Clocks that go forward and back by an hour or half of one, at midnight, over midnight, and a
# place that left out a day.
ZONES = (
    "UTC",
    "Europe/Kyiv",
    "America/New_York",
    "America/Sao_Paulo",
    "America/Havana",
    "Asia/Beirut",
    "Asia/Kolkata",
    "Australia/Lord_Howe",
    "Pacific/Apia",
)
PERIODS = (
    Period("hour"),
    Period("day"),
    Period("week"),
    Period("month"),
    Period("fixed", 10 * DAY_US),
    Period("fixed", 5 * HOUR_US + 7),
    *(Period("week", weekday=weekday) for weekday in range(7)),
)


@pytest.mark.parametrize(
    ("zone", "at", "start", "end", "hours"),
    [
        ("Europe/Kyiv", "2026-03-29", "2026-03-29T00:00+02:00", "2026-03-30T00:00+03:00", 23),
        ("Europe/Kyiv", "2026-10-25", "2026-10-25T00:00+03:00", "2026-10-26T00:00+02:00", 25),
        ("America/New_York", "2026-03-08", "2026-03-08T00:00-05:00", "2026-03-09T00:00-04:00", 23),
        ("America/New_York", "2026-11-01", "2026-11-01T00:00-04:00", "2026-11-02T00:00-05:00", 25),
        # midnight is skipped: the day begins at one o'clock
        ("Asia/Beirut", "2022-03-27", "2022-03-27T01:00+03:00", "2022-03-28T00:00+03:00", 23),
        ("America/Sao_Paulo", "2018-11-04", "2018-11-04T01:00-02:00", "2018-11-05T00:00-02:00", 23),
        # midnight comes twice: the day begins with the first
        ("America/Havana", "2023-11-05", "2023-11-05T00:00-04:00", "2023-11-06T00:00-05:00", 25),
        # December 30 did not happen
        ("Pacific/Apia", "2011-12-29", "2011-12-29T00:00-10:00", "2011-12-31T00:00+14:00", 24),
    ],
)
def test_days_when_the_clock_is_changed(
    zone: str, at: str, start: str, end: str, hours: int
) -> None:
    span = Period("day").span(us(f"{at}T12:00"), 0, zone)
    assert span == (offset_us(start), offset_us(end))
    assert span.end_us - span.start_us == hours * HOUR_US
    assert Period("day").span(span.start_us - 1, 0, zone).end_us == span.start_us


@pytest.mark.parametrize(
    ("period", "at", "start", "end"),
    [
        ("month", "2026-03-15T00:00", "2026-03-01T00:00+02:00", "2026-04-01T00:00+03:00"),
        ("month", "2026-10-31T22:30", "2026-11-01T00:00+02:00", "2026-12-01T00:00+02:00"),
        ("month", "2024-02-29T21:59", "2024-02-01T00:00+02:00", "2024-03-01T00:00+02:00"),
        (0, "2026-03-29T20:59", "2026-03-23T00:00+02:00", "2026-03-30T00:00+03:00"),
        (0, "2026-03-29T21:00", "2026-03-30T00:00+03:00", "2026-04-06T00:00+03:00"),
        (6, "2026-10-25T12:00", "2026-10-25T00:00+03:00", "2026-11-01T00:00+02:00"),
        (3, "2026-01-01T00:00", "2026-01-01T00:00+02:00", "2026-01-08T00:00+02:00"),
    ],
)
def test_months_and_weekday_weeks_of_a_time_zone(
    period: str | int, at: str, start: str, end: str
) -> None:
    kind = Period("week", weekday=period) if isinstance(period, int) else Period("month")
    assert kind.span(us(at), 123, "Europe/Kyiv") == (offset_us(start), offset_us(end))


@pytest.mark.parametrize(
    ("day", "is_leap"), [("1900-03-01", False), ("2000-03-01", True), ("2100-03-01", False)]
)
def test_leap_years_of_centuries(day: str, is_leap: bool) -> None:
    february = Period("month").span(us(day) - 1, 0)
    assert february.end_us - february.start_us == (29 if is_leap else 28) * DAY_US


def test_a_fixed_period_is_counted_from_the_anchor_both_ways() -> None:
    anchor = us("2024-02-25T06:30")
    period = Period("fixed", 10 * DAY_US)
    assert period.span(us("2024-03-06T06:30"), anchor, "Asia/Kolkata").start_us == us(
        "2024-03-06T06:30"
    )
    assert period.span(us("2024-03-06T06:29:59"), anchor) == (anchor, anchor + 10 * DAY_US)
    assert period.span(anchor - 1, anchor) == (anchor - 10 * DAY_US, anchor)


def test_an_account_anchored_week_does_not_move_with_the_clock() -> None:
    anchor = us("2026-03-25T12:00")
    assert Period("week").span(us("2026-04-01T11:59"), anchor, "Europe/Kyiv").start_us == anchor


def test_ever_is_one_period() -> None:
    assert Period("ever").span(us("2026-01-01"), 5, "Asia/Kolkata") == Span(0, EVER_US)


@given(
    st.sampled_from(PERIODS),
    st.sampled_from(ZONES),
    st.integers(us("2005-01-01"), us("2037-12-31")),
    st.integers(0, us("2037-12-31")),
)
def test_periods_of_time_zones_tile_time(
    period: Period, zone: str, at_us: int, anchor_us: int
) -> None:
    span = period.span(at_us, anchor_us, zone)
    assert span.start_us <= at_us < span.end_us
    assert period.span(span.start_us, anchor_us, zone) == span
    assert period.span(span.end_us - 1, anchor_us, zone) == span
    assert period.span(span.end_us, anchor_us, zone).start_us == span.end_us
