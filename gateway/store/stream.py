"""An account's events one after the other, however many: what an export reads.

Invariant: every event that was in the store when reading began and that the filter lets
through comes once, oldest first, and none that came later; memory does not grow. Between
pages no read is open, so that a slow client does not hold the WAL. Must not format.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from gateway.core.events import Event
from gateway.store import reports
from gateway.store.database import Database
from gateway.store.reports import (
    EVENTS,
    ActivityFilter,
    Place,
    filter_conditions,
    read_snapshot,
    span_conditions,
    with_charges,
)

PAGE_EVENTS = 500  # some 2 ms, and half a megabyte


def stream_events(connection: Database, account: str, wanted: ActivityFilter) -> Iterator[Event]:
    """Events of an account, oldest first. Raises one of ERRORS.

    The connection is its own while it lasts; one thread at a time.
    """
    # Events are never changed, and come in sequence: so this number is a moment.
    top = connection.execute("SELECT applied_seq FROM meta").fetchall()[0][0]
    after: Place | None = Place(-1, -1)
    while after is not None:
        events, after = _page(connection, account, wanted, top, after)
        yield from events


def _page(
    connection: Database, account: str, wanted: ActivityFilter, top: int, after: Place
) -> tuple[list[Event], Place | None]:
    """The events behind a place, and where to go on; None when there are no more."""
    where, values = span_conditions(account, wanted)
    where += ["(e.time_us, e.seq) > (?, ?)", "e.seq <= ?"]
    values += [*after, top]
    filters, filter_values = filter_conditions(wanted)
    with read_snapshot(connection):
        last = _last_looked_at(connection, where, values) if filters else None
        if last is not None:
            filters.append("(e.time_us, e.seq) <= (?, ?)")
            filter_values += last
        sql = f"{EVENTS} WHERE {' AND '.join([*where, *filters])} ORDER BY e.time_us, e.seq LIMIT ?"
        rows = connection.execute(sql, (*values, *filter_values, PAGE_EVENTS)).fetchall()
        events = with_charges(connection, rows)
    if len(rows) == PAGE_EVENTS:
        return events, Place(rows[-1][2], rows[-1][0])
    return events, last


def _last_looked_at(connection: Database, where: list[str], values: list[Any]) -> Place | None:
    """Where a page that finds little ends; None when it may look at all that is left."""
    sql = (
        f"SELECT e.time_us, e.seq FROM events e WHERE {' AND '.join(where)}"
        f" ORDER BY e.time_us, e.seq LIMIT 1 OFFSET {reports.SCAN_MAX - 1}"
    )
    rows = connection.execute(sql, values).fetchall()
    return Place(*rows[0]) if rows else None
