"""Periods of allowances: which one an instant belongs to.

Computed from the instant alone, so no job has to run at a reset and downtime
changes nothing. Instants are microseconds since the epoch, UTC. A period
contains its start and not its end.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal, NamedTuple

SECOND_US = 1_000_000
HOUR_US = 3600 * SECOND_US
DAY_US = 24 * HOUR_US
WEEK_US = 7 * DAY_US

PeriodKind = Literal["hour", "day", "week", "month"]


class Span(NamedTuple):
    start_us: int
    end_us: int


@dataclass(frozen=True, slots=True)
class Period:
    """hour and day: UTC; week: anchored to the account; month: calendar, UTC."""

    kind: PeriodKind

    def span(self, at_us: int, anchor_us: int) -> Span:
        """The period that contains `at_us`, for an account anchored at `anchor_us`."""
        if self.kind == "month":
            return _month(at_us)
        length = _LENGTH_US[self.kind]
        anchor = anchor_us if self.kind == "week" else 0
        start = at_us - (at_us - anchor) % length
        return Span(start, start + length)


_LENGTH_US = {"hour": HOUR_US, "day": DAY_US, "week": WEEK_US}


def _month(at_us: int) -> Span:
    moment = datetime.fromtimestamp(at_us // SECOND_US, UTC)
    start = moment.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    if start.month == 12:
        end = start.replace(year=start.year + 1, month=1)
    else:
        end = start.replace(month=start.month + 1)
    return Span(int(start.timestamp()) * SECOND_US, int(end.timestamp()) * SECOND_US)
