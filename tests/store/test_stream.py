"""An export has every event of its moment once, oldest first, however it is cut into pages."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.core.events import Event, Posted
from gateway.store import reports, stream
from gateway.store.reports import ActivityFilter
from gateway.store.sqlite import SqliteStore
from tests.journal.making import START_US, WEEK_US, event, opened, ship, write
from tests.support.stores import each_store, open_store

pytestmark = each_store

ACCOUNT = "acc0"
EVENTS = 300


def made_events() -> list[Event]:
    made = [event(number) for number in range(EVENTS)]
    made[9] = made[9]._replace(time_us=made[6].time_us)  # the same instant
    made[12] = made[12]._replace(time_us=START_US + 10**9)  # settled long after it began
    lots = (Posted("coins", 1, WEEK_US), Posted("coins", 2, WEEK_US, "bundle"))
    made[15] = made[15]._replace(charges=lots)
    return made


def in_order() -> list[Event]:
    mine = [
        (made.time_us, seq, made)
        for seq, made in enumerate(made_events())
        if made.account == ACCOUNT
    ]
    return [made for _, _, made in sorted(mine)]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    with opened(tmp_path) as journal:
        for made in made_events():
            write(journal, made)
    ship(tmp_path)
    reader = open_store(tmp_path)
    yield reader
    reader.close()


@pytest.mark.parametrize("page", [1, 7, 100, 500])
@pytest.mark.parametrize("scan", [3, 20_000])
def test_every_event_once(
    store: SqliteStore, page: int, scan: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "PAGE_EVENTS", page)
    monkeypatch.setattr(reports, "SCAN_MAX", scan)
    right = in_order()
    assert list(stream.stream_events(store.connection, ACCOUNT, ActivityFilter())) == right
    for wanted, chosen in (
        (ActivityFilter(user="user2"), [e for e in right if e.user == "user2"]),
        (ActivityFilter(operation="nothing"), []),
        (
            ActivityFilter(from_us=START_US + 60_000_000, to_us=START_US + 90_000_000),
            [e for e in right if 60_000_000 <= e.time_us - START_US < 90_000_000],
        ),
    ):
        assert list(stream.stream_events(store.connection, ACCOUNT, wanted)) == chosen


def test_what_comes_while_it_is_read_is_not_in_it(
    store: SqliteStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "PAGE_EVENTS", 10)
    reading = stream.stream_events(store.connection, ACCOUNT, ActivityFilter())
    found = [next(reading) for _ in range(25)]
    assert not store.connection.in_transaction  # a slow client does not hold the WAL
    with opened(tmp_path) as journal:
        for number in range(EVENTS):  # at instants before and behind the place
            write(journal, event(number, account=ACCOUNT))
    ship(tmp_path)
    found += reading
    assert found == in_order()


def test_nobody_has_no_events(store: SqliteStore) -> None:
    assert list(stream.stream_events(store.connection, "nobody", ActivityFilter())) == []


@pytest.mark.parametrize("store_kind", ["sqlite"], indirect=True)
def test_a_page_reads_no_more_than_its_index(store: SqliteStore) -> None:
    statements: list[str] = []
    store.connection.set_trace_callback(statements.append)
    wanted = ActivityFilter(user="user2", from_us=1, to_us=1 << 60)
    list(stream.stream_events(store.connection, ACCOUNT, wanted))
    store.connection.set_trace_callback(None)
    read = [sql for sql in statements if sql.startswith("SELECT e.")]
    assert len(read) == 2
    for sql in read:
        plan = " ".join(
            row[3] for row in store.connection.execute(f"EXPLAIN QUERY PLAN {sql}").fetchall()
        )
        assert "INDEX events_by_account (account=? AND time_us>?" in plan
        assert "TEMP B-TREE" not in plan
