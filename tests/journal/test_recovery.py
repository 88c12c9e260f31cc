"""After a crash: what was acknowledged is in the store, what was in flight is gone."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from gateway.journal.errors import JournalMismatch
from tests.journal.making import (
    WEEK_US,
    event,
    opened,
    segments,
    ship,
    store,
    stored,
    write,
)
from tests.support.stores import each_store, open_store

pytestmark = each_store


def test_nothing_to_recover(tmp_path: Path) -> None:
    found = ship(tmp_path)
    assert (found.next_seq, found.events, found.in_flight, found.segments) == (1, 0, 0, 0)


def test_requests_in_flight_are_neither_charged_nor_held(tmp_path: Path) -> None:
    with opened(tmp_path) as journal:
        write(journal, event(3))
        for number in (6, 9):
            made = event(number)
            journal.write_open(made.id, made.time_us, made.account, made.route, (("coins", 3),))
    found = ship(tmp_path)
    assert (found.events, found.in_flight) == (1, 2)
    reader = open_store(tmp_path)
    assert [(row.meter, row.used) for row in reader.balances("acc0")] == [("coins", 4)]
    reader.close()


def test_in_flight_is_counted_over_segments_and_processes(tmp_path: Path) -> None:
    for first in (1, None):
        with opened(tmp_path, next_seq=first or 2_003) as journal:
            made = event(0)
            journal.write_open(made.id, made.time_us, made.account, made.route, ())
            journal.write_open(made.id, made.time_us, made.account, made.route, ())
            for number in range(1_000):
                write(journal, event(number))
    found = ship(tmp_path)
    assert (found.events, found.in_flight) == (2_000, 4)


def test_recovery_may_die_and_come_again(tmp_path: Path) -> None:
    with opened(tmp_path) as journal:
        for number in range(100):
            write(journal, event(number))
    copies = tmp_path / "copies"
    shutil.copytree(tmp_path / "journal", copies)
    assert ship(tmp_path).events == 100
    assert segments(tmp_path) == []
    for path in copies.iterdir():  # as if it had died before deleting
        shutil.copy(path, tmp_path / "journal")
    again = ship(tmp_path)
    assert (again.events, again.next_seq) == (0, 201)
    assert len(stored(tmp_path)) == 100
    assert segments(tmp_path) == []


@pytest.mark.parametrize("store_kind", ["sqlite"], indirect=True)
def test_a_restored_older_store_is_refused(tmp_path: Path) -> None:
    with opened(tmp_path) as journal:
        write(journal, event(1))
    with store(tmp_path) as sink:
        backup = tmp_path / "backup.db"
        sink.connection.execute("VACUUM INTO ?", (str(backup),))
    ship(tmp_path)
    with opened(tmp_path) as journal:
        write(journal, event(2))
    for leftover in tmp_path.glob("store.db*"):
        leftover.unlink()
    backup.rename(tmp_path / "store.db")
    with pytest.raises(JournalMismatch, match="older than the journal"):
        ship(tmp_path)


def test_a_newer_store_than_the_journal_goes_on(tmp_path: Path) -> None:
    """Power was lost: the store had been synced, the journal's last records had not."""
    with opened(tmp_path) as journal:
        for number in range(10):
            write(journal, event(number))
    ship(tmp_path)
    with opened(tmp_path, next_seq=11) as journal:
        write(journal, event(99))
    found = ship(tmp_path)
    assert found.next_seq == 21
    assert len(stored(tmp_path)) == 10


def test_balances_rollups_and_events_agree(tmp_path: Path) -> None:
    with opened(tmp_path) as journal:
        for number in range(300):
            write(journal, event(number))
    ship(tmp_path)
    expected = sum(1 + number % 4 for number in range(300))
    with store(tmp_path) as sink:
        for sql in (
            "SELECT sum(used) FROM balances",
            "SELECT sum(amount) FROM rollups",
            "SELECT sum(amount) FROM charges",
        ):
            assert sink.connection.execute(sql).fetchall() == [(expected,)]
        periods = sink.connection.execute("SELECT DISTINCT period_us FROM balances").fetchall()
    assert periods == [(WEEK_US,)]
