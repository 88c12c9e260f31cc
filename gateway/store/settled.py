"""Events of all accounts in the order in which they were settled, of however many journals.

Within a journal its sequence is that order; between journals the instant of the settlement
decides. Invariant: whoever goes on from a place that was returned gets every event once,
also when other journals' events come into the store later than newer ones, or when a
journal is begun meanwhile. Must not format.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from heapq import merge
from itertools import islice
from typing import Any, NamedTuple

from gateway.core.events import Event
from gateway.store.checks import JOURNAL_SPAN
from gateway.store.database import Database
from gateway.store.reports import EVENTS, read_snapshot, with_charges

# One sequence of each journal; each journal has a span of its own (store/checks.py).
Places = tuple[int, ...]


class _Settled(NamedTuple):
    seq: int
    event: Event


class Older(NamedTuple):
    """Newest first. `next` is where to go on, None at the end."""

    events: list[Event]
    next: Places | None


def last_places(connection: Database) -> Places:
    """The last event of each journal; what comes later is newer."""
    found: list[int] = []
    before = 1 << 62
    while True:
        sql = "SELECT max(seq) FROM events WHERE seq < ?"
        top = connection.execute(sql, (before,)).fetchall()[0][0]
        if top is None:
            return tuple(found[::-1])
        found.append(top)
        before = _begin(top)


def read_newer(
    connection: Database, after: Places, limit: int, account: str | None = None
) -> tuple[list[Event], Places]:
    """What was settled after these places, oldest first, and the places to go on from.

    A journal without a place is a new one: all of it is newer.
    """
    places = {_begin(seq): seq for seq in after}
    with read_snapshot(connection):
        parts = []
        for top in last_places(connection):
            since = places.setdefault(_begin(top), _begin(top))
            parts.append(_after(connection, since, limit, account) if top > since else [])
    found = list(islice(merge(*parts, key=_instant), limit))
    for seq, _ in found:
        places[_begin(seq)] = seq
    return [event for _, event in found], tuple(sorted(places.values()))


def read_older(
    connection: Database,
    before: Places | None,
    limit: int,
    is_wanted: Callable[[Event], bool],
    window: int,
    most: int,
) -> Older:
    """What was settled before these places, newest first; None: all there is.

    Looks at no more than `most` events, some `window` at a time of each journal: a page may
    end early.
    """
    with read_snapshot(connection):
        if before is None:
            before = tuple(top + 1 for top in last_places(connection))
        ends = {_begin(seq): seq for seq in before}
        parts = [_backwards(connection, end, window) for end in ends.values()]
        events: list[Event] = []
        for seq, event in islice(merge(*parts, key=_instant, reverse=True), most):
            ends[_begin(seq)] = seq
            if is_wanted(event):
                events.append(event)
            if len(events) == limit:
                break
        return Older(events, _with_older(connection, ends))


def _begin(seq: int) -> int:
    """Where a sequence's journal begins."""
    return seq // JOURNAL_SPAN * JOURNAL_SPAN


def _instant(settled: _Settled) -> int:
    return settled.event.time_us + settled.event.duration_us


def _after(connection: Database, since: int, limit: int, account: str | None) -> list[_Settled]:
    where, values = "e.seq > ? AND e.seq < ?", [since, _begin(since) + JOURNAL_SPAN]
    if account is not None:
        return _read(connection, f"{where} AND e.account = ?", [*values, account], "ASC", limit)
    return _read(connection, where, values, "ASC", limit)


def _backwards(connection: Database, end: int, window: int) -> Iterator[_Settled]:
    """Of one journal, from an end that is not included."""
    while True:
        values = [_begin(end), end]
        found = _read(connection, "e.seq > ? AND e.seq < ?", values, "DESC", window)
        yield from found
        if len(found) < window:
            return
        end = found[-1].seq


def _read(
    connection: Database, where: str, values: list[Any], order: str, limit: int
) -> list[_Settled]:
    sql = f"{EVENTS} WHERE {where} ORDER BY e.seq {order} LIMIT ?"
    rows = connection.execute(sql, (*values, limit)).fetchall()
    events = with_charges(connection, rows)
    return [_Settled(row[0], event) for row, event in zip(rows, events, strict=True)]


def _with_older(connection: Database, ends: Mapping[int, int]) -> Places | None:
    """The places of those journals that have more."""
    sql = "SELECT 1 FROM events WHERE seq > ? AND seq < ? LIMIT 1"
    left = [end for begin, end in ends.items() if connection.execute(sql, (begin, end)).fetchall()]
    return tuple(sorted(left)) or None
