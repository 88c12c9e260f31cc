"""Shipping is exactly once, whatever fails between its steps."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import pytest

from gateway.core.batch import Batch
from gateway.journal.reader import Reader
from gateway.journal.shipper import BarrierPassed, Shipper
from gateway.store.sink import SqliteSink
from tests.journal.making import event, opened, segments, ship, shipping, store, stored, write

T = TypeVar("T")


class Failing:
    """A store that fails as told, each failure once or until it is healed."""

    def __init__(self, sink: SqliteSink) -> None:
        self.sink = sink
        self.before_apply: list[Exception] = []
        self.after_apply: list[Exception] = []
        self.broken: Exception | None = None
        self.sync_broken: Exception | None = None
        self.synced_at = -1

    @property
    def journal_id(self) -> str:
        return self.sink.journal_id

    @property
    def applied_seq(self) -> int:
        return self.sink.applied_seq

    def apply(self, batches: Iterable[Batch]) -> int:
        if self.broken:
            raise self.broken
        if self.before_apply:
            raise self.before_apply.pop()
        events = self.sink.apply(batches)
        if self.after_apply:
            raise self.after_apply.pop()
        return events

    def run(self, change: Callable[[sqlite3.Connection], T]) -> T:
        return self.sink.run(change)

    def snapshot(self) -> sqlite3.Connection:
        return self.sink.snapshot()

    def make_durable(self) -> None:
        if self.sync_broken:
            raise self.sync_broken
        self.sink.make_durable()
        self.synced_at = self.sink.applied_seq


def count(connection: sqlite3.Connection) -> int:
    number: int = connection.execute("SELECT count(*) FROM events").fetchall()[0][0]
    return number


def test_a_closed_event_reaches_the_store(tmp_path: Path) -> None:
    with (
        store(tmp_path) as sink,
        opened(tmp_path) as journal,
        shipping(tmp_path, journal, sink) as shipper,
    ):
        shipper.reached(write(journal, event(1))).result(10)
        assert shipper.lag().events == 0
        assert journal.unshipped_bytes == 0
        rows = sink.connection.execute("SELECT id, account, path FROM activity").fetchall()
    assert rows == [(event(1).id, "acc1", "/items/1")]


def test_a_failed_apply_is_tried_again_and_counted_once(tmp_path: Path) -> None:
    facts: list[str] = []
    with store(tmp_path) as sink, opened(tmp_path) as journal:
        failing = Failing(sink)
        failing.before_apply = [sqlite3.OperationalError("database is locked")] * 2
        for number in range(100):
            write(journal, event(number))
        shipper = Shipper(
            str(tmp_path / "journal"), failing, journal, lambda fact, _: facts.append(fact), 0.01
        )
        shipper.start()
        shipper.reached(journal.last_seq).result(10)
        assert shipper.stop()
        assert shipper.lag().failures_total == 2
        assert shipper.lag().trouble == ""
    assert facts == ["shipping_failed", "shipping_resumed"]  # one line per incident
    assert len(stored(tmp_path)) == 100


def test_trouble_grows_the_journal_and_loses_nothing(tmp_path: Path) -> None:
    with store(tmp_path) as sink, opened(tmp_path) as journal:
        failing = Failing(sink)
        failing.broken = sqlite3.OperationalError("database or disk is full")
        with shipping(tmp_path, journal, failing) as shipper:
            for number in range(1_000):
                write(journal, event(number))
            wait(lambda: bool(shipper.lag().trouble))
            assert "disk is full" in shipper.lag().trouble
            assert journal.unshipped_bytes > 100_000
            assert len(segments(tmp_path)) > 3
            failing.broken = None
            shipper.reached(journal.last_seq).result(10)
    assert stored(tmp_path) == [event(number).id for number in range(1_000)]


def test_stopping_in_trouble_leaves_the_rest_to_the_next_start(tmp_path: Path) -> None:
    with store(tmp_path) as sink, opened(tmp_path) as journal:
        failing = Failing(sink)
        failing.broken = sqlite3.OperationalError("disk I/O error")
        shipper: Shipper[Any] = Shipper(str(tmp_path / "journal"), failing, journal, pause_s=0.01)
        shipper.start()
        write(journal, event(1))
        assert not shipper.stop(drain=True, timeout_s=0.3)
    assert ship(tmp_path).events == 1


def test_drain_ships_everything(tmp_path: Path) -> None:
    with store(tmp_path) as sink, opened(tmp_path) as journal:
        shipper: Shipper[Any] = Shipper(str(tmp_path / "journal"), sink, journal)
        shipper.start()
        for number in range(10_000):
            write(journal, event(number))
        assert shipper.stop(drain=True)
    assert len(stored(tmp_path)) == 10_000


def test_a_segment_goes_only_when_the_store_is_on_disk(tmp_path: Path) -> None:
    with store(tmp_path) as sink, opened(tmp_path) as journal:
        failing = Failing(sink)
        failing.sync_broken = sqlite3.OperationalError("disk I/O error")
        with shipping(tmp_path, journal, failing) as shipper:
            for number in range(1_000):
                write(journal, event(number))
            wait(lambda: shipper.shipped_seq == journal.last_seq)
            assert len(segments(tmp_path)) > 3  # applied, and kept
            failing.sync_broken = None
            wait(lambda: len(segments(tmp_path)) <= 2)
            assert failing.synced_at >= 0
    assert len(stored(tmp_path)) == 1_000


def test_dying_after_the_commit_applies_nothing_twice(tmp_path: Path) -> None:
    with store(tmp_path) as sink, opened(tmp_path) as journal:
        for number in range(10):
            write(journal, event(number))
        failing = Failing(sink)
        failing.after_apply = [SystemError("died here")]
        with shipping(tmp_path, journal, failing):
            wait(lambda: sink.applied_seq == 20)
    assert ship(tmp_path).events == 0
    assert len(stored(tmp_path)) == 10


class Dying:
    """A connection that dies at its n-th statement, before or after it was done."""

    def __init__(self, connection: sqlite3.Connection, step: int, after: bool) -> None:
        self.connection = connection
        self.left = step
        self.after = after

    @property
    def in_transaction(self) -> bool:
        return self.connection.in_transaction

    def execute(self, sql: str, values: Any = ()) -> sqlite3.Cursor:
        if sql == "ROLLBACK":
            return self.connection.execute(sql)
        self.left -= not sql.startswith(("SELECT", "PRAGMA"))
        if self.left < 0 and not self.after:
            raise sqlite3.OperationalError("died")
        cursor = self.connection.execute(sql, values)
        if self.left < 0:
            raise sqlite3.OperationalError("died")
        return cursor


@pytest.mark.parametrize("after", [False, True])
def test_dying_at_any_statement_applies_all_or_nothing(tmp_path: Path, after: bool) -> None:
    """Dying is rolling back, but for a commit that was done."""
    with opened(tmp_path) as journal:
        for number in range(30):
            write(journal, event(number))
    with store(tmp_path) as sink:
        nothing = dump(sink.connection)
    outcomes = [dies_at(tmp_path, step, after) for step in range(100)]
    assert outcomes[0] == nothing
    last = outcomes.index(outcomes[-1])
    assert 10 < last < 90
    assert all(outcome == nothing for outcome in outcomes[:last])
    assert all(outcome == outcomes[-1] for outcome in outcomes[last:])
    assert ship(tmp_path).next_seq == 61
    assert len(stored(tmp_path)) == 30


def dies_at(home: Path, step: int, after: bool) -> list[object]:
    with store(home) as sink:
        before = sink.applied_seq
        dying: Any = Dying(sink.connection, step, after)
        reader = Reader(home / "journal", sink.journal_id, before)
        with suppress(sqlite3.OperationalError):
            SqliteSink(home / "store.db", dying).apply(reader.batches(1_000))
        reader.close()
        return dump(sink.connection)


def dump(connection: sqlite3.Connection) -> list[object]:
    tables = ("events", "charges", "rollups", "balances", "refusals", "meta")
    return [connection.execute(f"SELECT * FROM {table}").fetchall() for table in tables]


def test_changes_run_between_batches_and_answer(tmp_path: Path) -> None:
    with store(tmp_path) as sink, opened(tmp_path) as journal:
        with shipping(tmp_path, journal, sink) as shipper:
            shipper.reached(write(journal, event(1))).result(10)
            assert shipper.submit(count).result(10) == 1
            with pytest.raises(sqlite3.IntegrityError):
                shipper.submit(insert_twice).result(10)
            assert shipper.submit(members).result(10) == 0  # rolled back as a whole
        with pytest.raises(RuntimeError, match="stopped"):
            shipper.submit(count).result(10)


def insert_twice(connection: sqlite3.Connection) -> None:
    for _ in range(2):
        connection.execute("INSERT INTO members VALUES ('acc', 'ann', 'owner')")


def members(connection: sqlite3.Connection) -> int:
    number: int = connection.execute("SELECT count(*) FROM members").fetchall()[0][0]
    return number


def test_a_barrier_sees_exactly_its_sequence(tmp_path: Path) -> None:
    with (
        store(tmp_path) as sink,
        opened(tmp_path) as journal,
        shipping(tmp_path, journal, sink) as shipper,
    ):
        for number in range(500):
            write(journal, event(number))
        barrier = shipper.barrier(journal.last_seq)
        for number in range(500, 1_000):
            write(journal, event(number))
        shipper.reached(journal.last_seq).result(10)  # shipping goes on meanwhile
        snapshot = barrier.result(10)
        assert count(snapshot) == 500
        assert count(sink.connection) == 1_000
        snapshot.close()
        with pytest.raises(BarrierPassed):
            shipper.barrier(journal.last_seq - 2).result(10)


def test_barriers_wait_for_their_time(tmp_path: Path) -> None:
    with store(tmp_path) as sink, opened(tmp_path) as journal:
        for number in range(100):
            write(journal, event(number))
        shipper: Shipper[Any] = Shipper(str(tmp_path / "journal"), sink, journal, pause_s=0.01)
        barriers = {seq: shipper.barrier(seq) for seq in (150, 50, 200, 49)}
        late = shipper.barrier(500)
        shipper.start()
        for seq, barrier in barriers.items():
            snapshot = barrier.result(10)
            assert count(snapshot) == seq // 2
            snapshot.close()
        assert not late.done()
        shipper.stop()
        with pytest.raises(RuntimeError, match="stopped"):
            late.result(10)
    assert len(stored(tmp_path)) == 100


def wait(condition: Callable[[], bool], timeout_s: float = 10.0) -> None:
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.005)
