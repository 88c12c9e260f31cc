"""The writing side: room is reserved, full is said and passes, failure is final."""

from __future__ import annotations

import asyncio
import errno
import os
from pathlib import Path

import pytest

from gateway.core.events import Posted, Refused
from gateway.journal.errors import JournalBroken, JournalFull
from gateway.journal.reader import Reader
from gateway.journal.record import RECORD_MAX_BYTES
from gateway.journal.writer import Journal
from tests.journal.making import (
    SEGMENT_BYTES,
    event,
    opened,
    plain,
    segments,
    settings,
    ship,
    shipping,
    store,
    stored,
    write,
)


def read_all(home: Path) -> Reader:
    with store(home) as sink:
        reader = Reader(home / "journal", sink.journal_id, sink.applied_seq)
    while reader.read():
        pass
    reader.close()
    return reader


def test_sequence_goes_up_by_one(tmp_path: Path) -> None:
    with opened(tmp_path, next_seq=41) as journal:
        made = event(1)
        assert journal.write_open(made.id, made.time_us, "acc", "r", (("coins", 1),)) == 41
        assert journal.write_close(plain(made)) == 42
        refused = Refused(made.time_us, "acc", "r", "op", "blocked:hourly", 7)
        assert journal.write_refused([refused]) == journal.last_seq == 43


def test_each_start_begins_a_new_segment(tmp_path: Path) -> None:
    for number in range(3):
        with opened(tmp_path, next_seq=2 * number + 1) as journal:
            write(journal, event(number))
    assert len(segments(tmp_path)) == 3
    assert ship(tmp_path).events == 3


def test_a_clean_close_leaves_no_reserved_space(tmp_path: Path) -> None:
    with opened(tmp_path) as journal:
        write(journal, event(1))
        assert sum(path.stat().st_size for path in segments(tmp_path)) == 2 * SEGMENT_BYTES
    assert sum(path.stat().st_size for path in segments(tmp_path)) < 1_000


def test_records_roll_over_many_segments(tmp_path: Path) -> None:
    with opened(tmp_path) as journal:
        for number in range(3_000):
            write(journal, event(number))
        assert journal.stats.segments > 5
    assert ship(tmp_path).events == 3_000
    assert stored(tmp_path) == [event(number).id for number in range(3_000)]


def test_max_size_refuses_opens_and_keeps_room_for_closes(tmp_path: Path) -> None:
    with opened(tmp_path, max_bytes=6 * SEGMENT_BYTES) as journal:
        admitted = open_until_full(journal)
        assert journal.is_full
        for number in range(admitted):
            journal.write_close(plain(event(number, path="/" + "x" * 3_900)))
        assert journal.unshipped_bytes <= 6 * SEGMENT_BYTES
        open_until_full(journal)
        with pytest.raises(JournalFull, match="max_size") as caught:
            journal.write_open("id", 1, "acc", "r", ())
        assert caught.value.reason == "max_size"
    assert ship(tmp_path).events >= admitted


def open_until_full(journal: Journal) -> int:
    for number in range(100_000):
        made = event(number)
        try:
            journal.write_open(made.id, made.time_us, made.account, made.route, ())
        except JournalFull:
            return number
    raise AssertionError("never full")


def test_a_full_journal_goes_on_when_the_store_has_caught_up(tmp_path: Path) -> None:
    with store(tmp_path) as sink, opened(tmp_path, max_bytes=3 * SEGMENT_BYTES) as journal:
        with pytest.raises(JournalFull):
            for number in range(100_000):
                write(journal, event(number))
        assert journal.is_full
        with shipping(tmp_path, journal, sink) as shipper:
            shipper.reached(journal.last_seq).result(10)
            assert not journal.is_full
            write(journal, event(1))


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def test_no_space_on_disk_is_full_and_passes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.posix_fallocate

    def no_space(fd: int, offset: int, size: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    clock = Clock()
    with store(tmp_path) as sink:
        journal = Journal.open(settings(tmp_path), sink.journal_id, 1, clock)
    monkeypatch.setattr(os, "posix_fallocate", no_space)
    admitted = open_until_full(journal)
    assert journal.is_full
    for number in range(admitted):  # each as large as it can be
        journal.write_close(plain(event(number, path="/" + "\x01" * 9_000)))
    files = len(segments(tmp_path))
    monkeypatch.setattr(os, "posix_fallocate", real)
    with pytest.raises(JournalFull, match="disk"):
        open_until_full(journal)
        journal.write_open("id", 1, "acc", "r", ())
    assert len(segments(tmp_path)) == files  # tried at most once a second
    clock.now_s += 1.1
    write(journal, event(1))
    assert not journal.is_full
    journal.close()
    assert ship(tmp_path).events == admitted + 1


def test_a_failed_reservation_leaves_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_space(fd: int, offset: int, size: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", no_space)
    with pytest.raises(OSError, match="No space"), opened(tmp_path):
        pass
    assert segments(tmp_path) == []


def test_short_writes_are_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.pwrite
    with opened(tmp_path) as journal:
        monkeypatch.setattr(
            "gateway.journal.writer._pwrite", lambda fd, data, at: real(fd, data[:7], at)
        )
        write(journal, event(1))
        monkeypatch.undo()
    assert ship(tmp_path).events == 1


def test_a_failed_write_breaks_the_request_and_the_next_takes_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.pwrite

    def fails_half_way(fd: int, data: bytes, at: int) -> int:
        if len(data) > 50 and at > 1_000:
            real(fd, data[:40], at)
            raise OSError(errno.EIO, "Input/output error")
        return real(fd, data, at)

    with opened(tmp_path) as journal:
        for number in range(3):
            write(journal, event(number))
        monkeypatch.setattr("gateway.journal.writer._pwrite", fails_half_way)
        with pytest.raises(JournalBroken, match="Input/output"):
            for number in range(3, 20):
                write(journal, event(number))
        written = journal.last_seq
        monkeypatch.undo()
        assert journal.is_full
        assert "Input/output" in journal.stats.failed
        with pytest.raises(JournalFull, match="restart"):
            journal.write_open("id", 1, "acc", "r", ())
        journal.write_close(plain(event(99)))  # what was admitted may still be written
        assert journal.last_seq == written + 1
    assert ship(tmp_path).next_seq == written + 2


async def test_waiters_share_an_fsync(tmp_path: Path) -> None:
    with opened(tmp_path, sync="always") as journal:
        futures = [journal.synced(write(journal, event(number))) for number in range(200)]
        await asyncio.wait_for(asyncio.gather(*futures), 10)
        assert journal.stats.synced_seq == journal.last_seq
        assert not journal.needs_sync
        assert journal.stats.syncs_total < 100


async def test_a_synced_record_is_answered_at_once(tmp_path: Path) -> None:
    with opened(tmp_path, sync="always") as journal:
        seq = write(journal, event(1))
        assert journal.needs_sync
        journal.sync()
        assert journal.synced(seq).done()


async def test_a_failed_fsync_is_final(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.fdatasync

    def fails(fd: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with opened(tmp_path, sync="always") as journal:
        monkeypatch.setattr(os, "fdatasync", fails)
        with pytest.raises(JournalBroken, match="fsync"):
            await asyncio.wait_for(journal.synced(write(journal, event(1))), 10)
        monkeypatch.setattr(os, "fdatasync", real)  # the kernel would now say: all well
        with pytest.raises(JournalBroken, match="fsync"):
            journal.sync()
        with pytest.raises(JournalFull, match="failed"):
            write(journal, event(2))
        assert journal.needs_sync


def test_interval_syncs_by_itself(tmp_path: Path) -> None:
    with opened(tmp_path, sync="interval", sync_interval_s=0.01) as journal:
        write(journal, event(1))
        for _ in range(500):
            if not journal.needs_sync:
                break
            os.sched_yield()
            asyncio.run(asyncio.sleep(0.01))
        assert not journal.needs_sync


def test_labels_are_written_once_per_segment(tmp_path: Path) -> None:
    with opened(tmp_path) as journal:
        for number in range(50):
            write(journal, event(0, id=str(number)))
    content = segments(tmp_path)[0].read_bytes()
    assert content.count(b"Operation 0") == 1
    assert ship(tmp_path).events == 50


def test_many_refusals_need_little(tmp_path: Path) -> None:
    rows = [Refused(1, f"acc{n}", "r", "op", "blocked:hourly", 3) for n in range(100)]
    with opened(tmp_path) as journal:
        journal.write_refused(rows)
        assert journal.unshipped_bytes < 10_000
        assert journal.last_seq < 20
    assert ship(tmp_path).refused == 300


def test_refusals_find_a_full_journal_too(tmp_path: Path) -> None:
    row = Refused(1, "acc", "r", "op", "blocked:hourly", 3)
    with opened(tmp_path, max_bytes=2 * RECORD_MAX_BYTES) as journal:
        with pytest.raises(JournalFull):
            journal.write_refused([row] * 1_000)
        assert journal.last_seq == 0


def test_reading_while_nothing_is_written(tmp_path: Path) -> None:
    with opened(tmp_path):
        assert read_all(tmp_path).last_seq == 0


def test_text_that_is_no_utf8_is_written(tmp_path: Path) -> None:
    made = event(1, path="/caf\udce9", user="\ud800", charges=(Posted("coins", 3, 0),))
    with opened(tmp_path) as journal:
        write(journal, made)
        write(journal, made)
    assert ship(tmp_path).events == 2
