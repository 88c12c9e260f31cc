"""Reads for people: usage by operation, and events page by page.

Every function reads through a connection that the caller gives, so that several can share
one snapshot (`read_snapshot`). The longest are tens of milliseconds: keep them off the
event loop. Must not format.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import orjson

from gateway.core.events import Event, Posted
from gateway.core.rows import BalanceRow
from gateway.store.balances import read_balances
from gateway.store.database import Database

PAGE_MAX = 1_000
# Events looked at for one page when a filter has no index: about 50 ms. A page may end
# there with fewer rows than asked, and a cursor to go on.
SCAN_MAX = 20_000

_EVENT_COLUMNS = (
    "e.seq, e.id, e.time_us, l.account, l.user, l.project, l.key_id, l.caller, e.source, l.service,"
    " l.operation, l.route, l.method, e.path, e.status, e.outcome, e.bytes_in, e.bytes_out,"
    " e.duration_us, e.upstream_us, e.request_id, l.book"
)
_CHARGES_AT = 15  # of an Event
EVENTS = f"SELECT {_EVENT_COLUMNS} FROM events e JOIN labels l ON l.id = e.label"


class OperationRow(NamedTuple):
    """What one operation used of a meter in a period."""

    meter: str
    period_us: int
    operation: str
    events: int
    amount: int


class UsageRows(NamedTuple):
    balances: list[BalanceRow]
    operations: list[OperationRow]


class Place(NamedTuple):
    """Where a page ended: pages run from new to old by time, then sequence."""

    time_us: int
    seq: int


class Page(NamedTuple):
    events: list[Event]
    next: Place | None  # None: nothing older


@dataclass(frozen=True, slots=True)
class ActivityFilter:
    """None: not filtered. `from_us` is in, `to_us` is not; statuses are inclusive."""

    from_us: int | None = None
    to_us: int | None = None
    user: str | None = None
    project: str | None = None
    key_id: str | None = None
    operation: str | None = None
    route: str | None = None
    outcome: str | None = None
    meter: str | None = None
    status_min: int | None = None
    status_max: int | None = None


@contextmanager
def read_snapshot(connection: Database) -> Iterator[Database]:
    """All reads inside see the store at one moment. Keep it short: it holds the WAL."""
    if connection.in_transaction:
        yield connection  # of the snapshot around this one
        return
    connection.execute("BEGIN")
    try:
        yield connection
    finally:
        connection.execute("COMMIT")


def read_usage(connection: Database, account: str, periods: Sequence[tuple[str, int]]) -> UsageRows:
    """Balances, and operations of these (meter, period_us), as of one moment."""
    with read_snapshot(connection):
        balances = read_balances(connection, account, min((p for _, p in periods), default=0))
        operations: list[OperationRow] = []
        for meter, period_us in periods:
            rows = connection.execute(_OPERATIONS, (account, meter, period_us)).fetchall()
            operations += [OperationRow(meter, period_us, *row) for row in rows]
    return UsageRows(balances, operations)


_OPERATIONS = """
    SELECT l.operation, sum(r.events), sum(r.amount)
    FROM labels l JOIN rollups r ON r.label = l.id AND r.meter = ?2 AND r.period_us = ?3
    WHERE l.account = ?1 GROUP BY l.operation ORDER BY 3 DESC, 1
"""


def read_activity(
    connection: Database,
    account: str,
    wanted: ActivityFilter,
    limit: int,
    after: Place | None = None,
) -> Page:
    """Events of an account, newest first, beginning behind `after`."""
    limit = min(limit, PAGE_MAX)
    with read_snapshot(connection):
        where, values = span_conditions(account, wanted)
        if after is not None:
            where.append("(e.time_us, e.seq) < (?, ?)")
            values += after
        filters, filter_values = filter_conditions(wanted)
        floor = _floor(connection, where, values) if filters else None
        if floor is not None:
            filters.append("(e.time_us, e.seq) >= (?, ?)")
            filter_values += floor
        sql = (
            f"{EVENTS} WHERE {' AND '.join([*where, *filters])}"
            " ORDER BY e.time_us DESC, e.seq DESC LIMIT ?"
        )
        rows = connection.execute(sql, (*values, *filter_values, limit + 1)).fetchall()
        events = with_charges(connection, rows[:limit])
    if len(rows) > limit:
        return Page(events, Place(rows[limit - 1][2], rows[limit - 1][0]))
    return Page(events, floor)


def span_conditions(account: str, wanted: ActivityFilter) -> tuple[list[str], list[Any]]:
    """The part of the condition that the index answers."""
    where: list[str] = ["e.account = ?"]
    values: list[Any] = [account]
    parts: tuple[tuple[str, Any], ...] = (
        ("e.time_us >= ?", wanted.from_us),
        ("e.time_us < ?", wanted.to_us),
    )
    for text, value in parts:
        if value is not None:
            where.append(text)
            values.append(value)
    return where, values


def filter_conditions(wanted: ActivityFilter) -> tuple[list[str], list[Any]]:
    """The part that each event has to be looked at for."""
    parts: tuple[tuple[str, Any], ...] = (
        ("l.user = ?", wanted.user),
        ("l.project = ?", wanted.project),
        ("l.key_id = ?", wanted.key_id),
        ("l.operation = ?", wanted.operation),
        ("l.route = ?", wanted.route),
        ("e.outcome = ?", wanted.outcome),
        ("e.status >= ?", wanted.status_min),
        ("e.status <= ?", wanted.status_max),
        ("EXISTS (SELECT 1 FROM charges c WHERE c.seq = e.seq AND c.meter = ?)", wanted.meter),
    )
    chosen = [(text, value) for text, value in parts if value is not None]
    return [text for text, _ in chosen], [value for _, value in chosen]


def _floor(connection: Database, where: list[str], values: list[Any]) -> Place | None:
    """The last event that this page may look at, None when it may look at all."""
    sql = (
        f"SELECT e.time_us, e.seq FROM events e WHERE {' AND '.join(where)}"
        f" ORDER BY e.time_us DESC, e.seq DESC LIMIT 1 OFFSET {SCAN_MAX - 1}"
    )
    rows = connection.execute(sql, values).fetchall()
    return Place(*rows[0]) if rows else None


def with_charges(connection: Database, rows: list[tuple[Any, ...]]) -> list[Event]:
    """The events of rows of EVENTS, with all that was posted for them."""
    charges: dict[int, list[Posted]] = {row[0]: [] for row in rows}
    sql = (
        "SELECT seq, meter, amount, period_us, lot FROM charges"
        " WHERE seq IN (SELECT value FROM json_each(?)) ORDER BY seq, n"
    )
    for seq, *posted in connection.execute(sql, (orjson.dumps(list(charges)).decode(),)).fetchall():
        charges[seq].append(Posted(*posted))
    return [_event(row, tuple(charges[row[0]])) for row in rows]


def _event(row: tuple[Any, ...], charges: tuple[Posted, ...]) -> Event:
    fields = [*row[1 : 1 + _CHARGES_AT], charges, *row[1 + _CHARGES_AT :]]
    event = Event(*fields)
    return event if event.request_id else event._replace(request_id=event.id)
