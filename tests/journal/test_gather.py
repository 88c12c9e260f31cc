"""Gathered records: written once a turn, in their place, or the turn is told."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.journal.errors import JournalBroken, JournalError, JournalFull
from tests.journal.making import event, opened, plain, segments, ship, stored, write


def failing(code: int) -> Callable[[int, bytes, int], int]:
    def pwrite(fd: int, data: bytes, at: int) -> int:
        os.pwrite(fd, data[: len(data) // 2], at)  # half of it gets there
        raise OSError(code, os.strerror(code))

    return pwrite


def test_nothing_is_written_before_the_flush(tmp_path: Path) -> None:
    with opened(tmp_path) as journal:
        journal.gather()
        write(journal, event(1))
        assert b"items" not in segments(tmp_path)[0].read_bytes()
        assert (journal.last_seq, journal.written_seq) == (2, 0)
        journal.flush()
        assert b"items/1" in segments(tmp_path)[0].read_bytes()
        assert journal.written_seq == 2
        write(journal, event(2))
    assert ship(tmp_path).events == 2


def test_gathering_over_many_segments(tmp_path: Path) -> None:
    with opened(tmp_path) as journal:
        journal.gather()
        for number in range(2_000):
            write(journal, event(number))
            if number % 7 == 0:
                journal.flush()
    assert ship(tmp_path).events == 2_000
    assert stored(tmp_path) == [event(number).id for number in range(2_000)]


def test_a_full_disk_keeps_what_was_gathered_and_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened(tmp_path) as journal:
        journal.gather()
        write(journal, event(1))
        journal.flush()
        made = event(2, operation="first used in what could not be written")
        write(journal, made)
        monkeypatch.setattr("gateway.journal.writer._pwrite", failing(errno.ENOSPC))
        for _ in range(2):  # whoever flushes is told, each time
            with pytest.raises(JournalFull, match="disk"):
                journal.flush()
        with pytest.raises(JournalFull):
            journal.write_open("id", 1, "acc", "r", ())
        assert journal.is_full
        journal.write_close(plain(made))  # of a request that had been admitted
        monkeypatch.undo()
        write(journal, event(3))
        assert not journal.is_full
        journal.flush()
    assert ship(tmp_path).events == 4
    assert stored(tmp_path) == [event(1).id, made.id, made.id, event(3).id]


def test_a_broken_disk_leaves_a_journal_that_can_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(JournalBroken), opened(tmp_path) as journal:
        journal.gather()
        write(journal, event(1))
        journal.flush()
        write(journal, event(2))
        monkeypatch.setattr("gateway.journal.writer._pwrite", failing(errno.EIO))
        with pytest.raises(JournalBroken):
            journal.flush()
        with pytest.raises(JournalFull, match="failed"):
            write(journal, event(3))
    monkeypatch.undo()
    assert ship(tmp_path).events == 1
    assert stored(tmp_path) == [event(1).id]


def test_a_segment_that_cannot_be_begun_is_used_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = 0
    with opened(tmp_path) as journal:
        for number in range(2_000):
            if number == 50:
                monkeypatch.setattr("gateway.journal.writer._pwrite", failing_header)
            if number == 600:
                monkeypatch.undo()
            try:
                made = event(number)
                journal.write_open(made.id, made.time_us, made.account, made.route, ())
                journal.write_close(plain(made))
                written += 1
            except JournalError:
                continue
    found = ship(tmp_path)
    assert found.events == written > 1_000
    assert found.in_flight == 1  # it was open when no segment could be begun


def failing_header(fd: int, data: bytes, at: int) -> int:
    if at == 0:
        raise OSError(errno.ENOSPC, "No space left on device")
    return os.pwrite(fd, data, at)


async def test_who_waits_before_the_flush_is_answered_soon_after(tmp_path: Path) -> None:
    with opened(tmp_path, sync="always") as journal:
        journal.gather()
        loop = asyncio.get_running_loop()
        seq = write(journal, event(1))
        waiting = journal.synced(seq)
        await asyncio.sleep(0.05)  # the keeper has looked, and found nothing written
        assert not waiting.done()
        journal.flush()
        began_s = loop.time()
        await asyncio.wait_for(waiting, 10)
        assert loop.time() - began_s < 0.5
