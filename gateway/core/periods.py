"""Periods of allowances: which one an instant belongs to.

Computed from the instant alone, so no job has to run at a reset and downtime
changes nothing. Instants are microseconds since the epoch, UTC. A period
contains its start and not its end. Days, weeks of a weekday and months begin
at midnight in the account's time zone; where a clock change skips midnight,
at the first instant of that day.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Literal, NamedTuple
from zoneinfo import ZoneInfo

SECOND_US = 1_000_000
HOUR_US = 3600 * SECOND_US
DAY_US = 24 * HOUR_US
WEEK_US = 7 * DAY_US
EVER_US = 1 << 62  # the end of a period without one: the year 148 000

PeriodKind = Literal["hour", "day", "week", "month", "fixed", "ever"]


class Span(NamedTuple):
    start_us: int
    end_us: int


@dataclass(frozen=True, slots=True)
class Period:
    """hour: of the clock; day and month: of the account's time zone; week: anchored

    to the account, or beginning at a weekday (0 is Monday); fixed: `length_us`,
    anchored to the account; ever: one that has no end.
    """

    kind: PeriodKind
    length_us: int = 0
    weekday: int | None = None

    def span(self, at_us: int, anchor_us: int, timezone: str = "UTC") -> Span:
        """The period that contains `at_us`, for an account anchored at `anchor_us`."""
        if self.kind == "ever":
            return Span(0, EVER_US)
        if self.kind == "month" or self.weekday is not None or self.kind == "day":
            return self._calendar(at_us, timezone)
        length = self.length_us if self.kind == "fixed" else _LENGTH_US[self.kind]
        anchor = 0 if self.kind == "hour" else anchor_us
        start = at_us - (at_us - anchor) % length
        return Span(start, start + length)

    def _calendar(self, at_us: int, timezone: str) -> Span:
        if timezone == "UTC" and self.kind == "day":
            start = at_us - at_us % DAY_US
            return Span(start, start + DAY_US)
        zone: tzinfo = UTC if timezone == "UTC" else ZoneInfo(timezone)
        local = datetime.fromtimestamp(at_us // SECOND_US, zone)
        first = datetime(local.year, local.month, local.day)
        if self.kind == "month":
            first = first.replace(day=1)
            after = (first + timedelta(days=32)).replace(day=1)
        elif self.kind == "day":
            after = first + timedelta(days=1)
        else:
            first -= timedelta(days=(local.weekday() - (self.weekday or 0)) % 7)
            after = first + timedelta(days=7)
        return Span(_instant_us(first, zone), _instant_us(after, zone))


MONTH = Period("month")
_LENGTH_US = {"hour": HOUR_US, "week": WEEK_US}


def _instant_us(naive: datetime, zone: tzinfo) -> int:
    """The first instant at or after a local wall-clock time; the earlier where there are two."""
    # A time that a clock change skips is read with the offset before it: the change itself.
    return int(naive.replace(tzinfo=zone).timestamp()) * SECOND_US
