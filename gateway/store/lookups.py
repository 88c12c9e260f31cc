"""Single events, found by their ids.

An event's id is a UUIDv7, whose first 48 bits are its millisecond: so the index
on account and time finds it. Reads only.
"""

from __future__ import annotations

from gateway.core.events import Event
from gateway.store.database import Database
from gateway.store.reports import EVENTS, with_charges

MILLISECOND_US = 1_000


def time_of_id(event_id: str) -> int | None:
    """The instant that an event's id begins with; None for anything that is none."""
    try:
        return int(event_id.replace("-", "")[:12], 16) * MILLISECOND_US
    except ValueError:
        return None


def find_event(connection: Database, account: str, event_id: str) -> Event | None:
    """An event of an account by id; None for anything that is none."""
    first_us = time_of_id(event_id)
    if first_us is None:
        return None
    # The id's millisecond never runs behind the event's time; it may be ahead of a
    # clock that was set back, so a little more is looked at.
    sql = f"{EVENTS} WHERE e.account = ? AND e.time_us BETWEEN ? AND ? AND e.id = ?"
    span = (first_us - MILLISECOND_US, first_us + MILLISECOND_US)
    rows = connection.execute(sql, (account, *span, event_id)).fetchall()
    events = with_charges(connection, rows)
    return events[0] if events else None
