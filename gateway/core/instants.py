"""Instants as people and machines write them: RFC 3339 in UTC."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LAST_US = (datetime.max.replace(tzinfo=UTC) - _EPOCH) // timedelta(microseconds=1)


def iso(time_us: int) -> str:
    """Microseconds since the epoch as text; fractions only where there are any.

    What lies beyond the year 9999, such as the end of a period that has none, is its end.
    """
    if time_us > _LAST_US:
        return "9999-12-31T23:59:59Z"
    return (_EPOCH + timedelta(microseconds=time_us)).isoformat().replace("+00:00", "Z")
