"""Events, journals and stores for the tests of everything durable."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gateway.core.book import JournalSettings
from gateway.core.events import Event, Posted
from gateway.journal.recovery import Recovered, recover
from gateway.journal.shipper import Shipper
from gateway.journal.writer import Journal
from tests.support.stores import open_sink

START_US = 1_763_650_000_000_000
WEEK_US = 1_763_251_200_000_000
HOUR_US = 3_600_000_000
SEGMENT_BYTES = 64 * 1024


def settings(home: Path, **changes: Any) -> JournalSettings:
    values: dict[str, Any] = {
        "dir": str(home / "journal"),
        "sync": "off",
        "segment_bytes": SEGMENT_BYTES,
        "max_bytes": 64 * 1024 * 1024,
    }
    return JournalSettings(**(values | changes))


def event(number: int, **changes: Any) -> Event:
    made = Event(
        id=f"0198f3c2-7b1e-7c3a-9d21-{number:012x}",
        time_us=START_US + number * 1_000_000,
        account=f"acc{number % 3}",
        user=f"user{number % 5}",
        project="web",
        key_id="key_1",
        caller="api_key",
        source="192.0.2.7",
        service="demo",
        operation=f"Operation {number % 2}",
        route=f"route-{number % 2}",
        method="GET",
        path=f"/items/{number}",
        status=200,
        outcome="charged",
        charges=(Posted("coins", 1 + number % 4, WEEK_US),),
        bytes_in=10,
        bytes_out=316,
        duration_us=1234,
        upstream_us=1200,
        request_id=f"0198f3c2-7b1e-7c3a-9d21-{number:012x}",
        book="abcdef012345",
    )
    return made._replace(**changes)


def plain(made: Event) -> tuple[Any, ...]:
    """As the request path hands it over."""
    postings = tuple(tuple(p) if p.lot else tuple(p[:3]) for p in made.charges)
    return tuple(postings if isinstance(v, tuple) else v for v in made)


def write(journal: Journal, made: Event) -> int:
    charges = tuple((posted.meter, posted.amount) for posted in made.charges)
    journal.write_open(made.id, made.time_us, made.account, made.route, charges)
    return journal.write_close(plain(made))


@contextmanager
def opened(home: Path, next_seq: int | None = None, **changes: Any) -> Iterator[Journal]:
    """A journal of the store in `home`."""
    with store(home) as sink:
        journal_id, known = sink.journal_id, sink.applied_seq
    journal = Journal.open(settings(home, **changes), journal_id, next_seq or known + 1)
    try:
        yield journal
    finally:
        journal.close()


@contextmanager
def store(home: Path) -> Iterator[Any]:
    sink = open_sink(home)
    try:
        yield sink
    finally:
        sink.close()


@contextmanager
def shipping(home: Path, journal: Journal, sink: Any) -> Iterator[Shipper[Any]]:
    shipper: Shipper[Any] = Shipper(str(home / "journal"), sink, journal, pause_s=0.01)
    shipper.start()
    try:
        yield shipper
    finally:
        shipper.stop(drain=False, timeout_s=10)


def ship(home: Path) -> Recovered:
    """What a start does: everything that is left goes into the store."""
    with store(home) as sink:
        return recover(str(home / "journal"), sink)


def stored(home: Path) -> list[str]:
    """Ids of all events in the store, in sequence."""
    with store(home) as sink:
        return [row[0] for row in sink.connection.execute("SELECT id FROM events ORDER BY seq")]


def segments(home: Path) -> list[Path]:
    return sorted((home / "journal").glob("*.journal"))
