"""Instants as people and machines write them: RFC 3339 in UTC."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def iso(time_us: int) -> str:
    """Microseconds since the epoch as text; fractions only where there are any."""
    return (_EPOCH + timedelta(microseconds=time_us)).isoformat().replace("+00:00", "Z")
