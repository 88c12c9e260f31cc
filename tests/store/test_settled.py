"""Events in the order of their settlement, of one journal and of several in one store."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from gateway.core.events import Event
from gateway.journal.recovery import recover
from gateway.journal.writer import Journal
from gateway.store.settled import Places, last_places, read_newer, read_older
from tests.journal.making import START_US, event, settings, write
from tests.support.stores import backend, each_store, open_report

pytestmark = each_store
EVERY = 1 << 30


def ship(home: Path, name: str, made: list[Event]) -> None:
    """Events of one journal, into the store that all of them share."""
    folder = str(home / name)
    with closing(backend(home).open_sink(folder)) as sink:
        next_seq = sink.applied_seq + 1
        journal = Journal.open(settings(home, dir=folder), sink.journal_id, next_seq)
        for one in made:
            write(journal, one)
        journal.close()
        recover(folder, sink)


def followed(report: Any, after: Places, limit: int) -> tuple[list[int], Places]:
    """Numbers of all that is newer, page by page."""
    found: list[int] = []
    while True:
        events, after = read_newer(report, after, limit)
        if not events:
            return found, after
        found += map(number_of, events)


def turned(
    report: Any, limit: int, is_wanted: Callable[[Event], bool] = lambda _: True, most: int = EVERY
) -> list[int]:
    """Numbers of all, newest first, page by page."""
    found: list[int] = []
    places: Places | None = None
    while True:
        page = read_older(report, places, limit, is_wanted, 5, most)
        found += map(number_of, page.events)
        places = page.next
        if places is None:
            return found


def number_of(found: Event) -> int:
    return (found.time_us - START_US) // 1_000_000


def test_one_journal_in_its_sequence(tmp_path: Path) -> None:
    ship(tmp_path, "one", [event(number) for number in range(200)])
    with closing(open_report(tmp_path)) as report:
        found, places = followed(report, (), 33)
        assert found == list(range(200))
        assert read_newer(report, places, 10) == ([], places)
        assert turned(report, 33) == found[::-1]
        mine, _ = read_newer(report, (), 1000, "acc0")
        assert [number_of(one) for one in mine] == list(range(0, 200, 3))


def test_an_empty_store(tmp_path: Path) -> None:
    ship(tmp_path, "one", [])
    with closing(open_report(tmp_path)) as report:
        assert last_places(report) == ()
        assert read_newer(report, (0,), 10)[0] == []
        assert turned(report, 10) == []


several = pytest.mark.parametrize("store_kind", ["postgres"], indirect=True)


@several
def test_several_journals_are_one_order(tmp_path: Path) -> None:
    ship(tmp_path, "one", [event(number) for number in range(0, 60, 2)])
    ship(tmp_path, "two", [event(number) for number in range(1, 60, 2)])
    with closing(open_report(tmp_path)) as report:
        assert len(last_places(report)) == 2
        assert followed(report, (), 7)[0] == list(range(60))
        assert turned(report, 7) == list(range(59, -1, -1))
        assert turned(report, 3, lambda e: e.account == "acc1", 10) == list(range(58, 0, -3))


@several
def test_every_event_is_followed_once_whichever_journal_it_comes_from(tmp_path: Path) -> None:
    ship(tmp_path, "one", [event(number) for number in range(10)])
    ship(tmp_path, "two", [event(number) for number in range(10, 20)])
    with closing(open_report(tmp_path)) as report:
        places = last_places(report)
        ship(tmp_path, "one", [event(number) for number in (20, 23)])
        found, places = followed(report, places, 10)
        assert found == [20, 23]
        # An older event that comes into the store later, and a journal that was not there.
        ship(tmp_path, "two", [event(21)])
        ship(tmp_path, "three", [event(22)])
        found, places = followed(report, places, 1)
        assert found == [21, 22]
        assert followed(report, places, 10)[0] == []


@several
def test_pages_go_on_where_they_ended_while_more_comes(tmp_path: Path) -> None:
    ship(tmp_path, "one", [event(number) for number in range(0, 20, 2)])
    ship(tmp_path, "two", [event(number) for number in range(1, 20, 2)])
    with closing(open_report(tmp_path)) as report:
        page = read_older(report, None, 5, lambda _: True, 5, EVERY)
        ship(tmp_path, "two", [event(20)])
        ship(tmp_path, "three", [event(21)])
        rest = read_older(report, page.next, 100, lambda _: True, 5, EVERY)
    found = [number_of(one) for one in (*page.events, *rest.events)]
    assert found == list(range(19, -1, -1))
    assert rest.next is None
