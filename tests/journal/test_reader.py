"""The reading side: a torn tail is ignored, damage is raised, a gap is never skipped."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.core.batch import event_of
from gateway.core.events import Posted
from gateway.journal.errors import JournalDamaged, JournalMismatch
from gateway.journal.reader import Reader
from gateway.journal.segment import read_header
from tests.journal.making import event, opened, segments, ship, store, stored, write

WIDE = Posted("gold", 3, 0, "ü \U0001f4b0")


def journal_of(home: Path, events: int) -> Path:
    """The one segment of a journal with so many events, opens and closes in turn."""
    with opened(home) as journal:
        for number in range(events):
            write(journal, event(number))
    return segments(home)[0]


def test_events_come_back_as_they_were(tmp_path: Path) -> None:
    made = [
        event(1),
        event(2, charges=(), outcome="free", request_id="theirs"),
        event(3, path="/\n\r\t\x00\u2028ü", status=0, outcome="client_gone"),
        event(4, charges=(Posted("coins", 1, 5), Posted("coins", 2, 5, "lot"), WIDE)),
    ]
    with opened(tmp_path) as journal:
        for one in made:
            write(journal, one)
    with store(tmp_path) as sink:
        reader = Reader(tmp_path / "journal", sink.journal_id, 0)
        batch = reader.read()
        reader.close()
    assert batch is not None
    assert [event_of(row) for row in batch.events] == made
    assert [len(charge) for charge in batch.events[3][9]] == [3, 4, 4]
    assert (batch.first_seq, batch.last_seq, batch.opened) == (1, 8, 4)


def test_a_torn_tail_at_every_byte_is_ignored(tmp_path: Path) -> None:
    path = journal_of(tmp_path, 3)
    whole = path.read_bytes()
    last = whole[:-1].rfind(b"\n") + 1
    for size in range(last, len(whole)):
        path.write_bytes(whole[:size] + b"\0" * 5_000)
        with store(tmp_path) as sink:
            reader = Reader(path.parent, sink.journal_id, 0)
            batch = reader.read()
            assert batch is not None and batch.last_seq == 5
            assert len(batch.events) == 2
            assert reader.in_flight == 1
            reader.end_segment()
            assert reader.torn_bytes == size - last
            reader.close()


def test_a_torn_header_is_a_segment_not_begun(tmp_path: Path) -> None:
    path = journal_of(tmp_path, 1)
    whole = path.read_bytes()
    end = whole.index(b"\n")
    with store(tmp_path) as sink:
        for size in range(end + 1):
            path.write_bytes(whole[:size] + b"\0" * 500)
            assert read_header(path, sink.journal_id) is None
        assert Reader(path.parent, sink.journal_id, 0).read() is None


@pytest.mark.parametrize("records_from_end", [1, 2, 3])
def test_a_broken_record_in_the_middle_is_raised(tmp_path: Path, records_from_end: int) -> None:
    path = journal_of(tmp_path, 5)
    whole = path.read_bytes()
    lines = whole.splitlines(keepends=True)
    broken = len(lines) - 1 - records_from_end
    lines[broken] = lines[broken].replace(b"acc", b"bcc").replace(b"items", b"stems")
    path.write_bytes(b"".join(lines))
    with pytest.raises(JournalDamaged, match=f"{records_from_end} good ones follow") as caught:
        ship(tmp_path)
    assert caught.value.offset == len(b"".join(lines[:broken]))
    assert len(stored(tmp_path)) == 5 - 1 - records_from_end // 2  # all before it is safe
    assert path.exists()


def test_a_hole_of_zeros_with_records_behind_is_raised(tmp_path: Path) -> None:
    path = journal_of(tmp_path, 200)
    whole = path.read_bytes()
    cut = whole.index(b"\n", len(whole) // 2) + 1
    path.write_bytes(whole[:cut] + b"\0" * 300_000 + whole[cut:])
    with pytest.raises(JournalDamaged, match="good ones follow"):
        ship(tmp_path)


def test_a_broken_header_before_records_is_raised(tmp_path: Path) -> None:
    path = journal_of(tmp_path, 1)
    path.write_bytes(b"X" + path.read_bytes()[1:])
    with pytest.raises(JournalDamaged, match="header"):
        ship(tmp_path)


def test_a_missing_segment_is_raised(tmp_path: Path) -> None:
    with opened(tmp_path) as journal:
        for number in range(1_000):
            write(journal, event(number))
    segments(tmp_path)[1].unlink()
    with pytest.raises(JournalDamaged, match="are lost"):
        ship(tmp_path)


def test_a_missing_first_segment_means_an_older_store(tmp_path: Path) -> None:
    with opened(tmp_path) as journal:
        for number in range(1_000):
            write(journal, event(number))
    segments(tmp_path)[0].unlink()
    with pytest.raises(JournalMismatch, match="older than the journal"):
        ship(tmp_path)


def test_another_journal_is_refused(tmp_path: Path) -> None:
    journal_of(tmp_path, 1)
    (tmp_path / "store.db").rename(tmp_path / "other.db")
    with pytest.raises(JournalMismatch, match="belongs to journal"):
        ship(tmp_path)


def test_a_newer_format_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.journal.writer.FORMAT_VERSION", 9)
    journal_of(tmp_path, 1)
    with pytest.raises(JournalMismatch, match="found 9"):
        ship(tmp_path)


def test_records_of_the_store_are_skipped_with_their_labels_kept(tmp_path: Path) -> None:
    journal_of(tmp_path, 10)
    with store(tmp_path) as sink:
        reader = Reader(tmp_path / "journal", sink.journal_id, 12)
        batch = reader.read()
        reader.close()
    assert batch is not None
    assert (batch.first_seq, batch.last_seq) == (13, 20)
    assert [event_of(row) for row in batch.events] == [event(n) for n in range(6, 10)]


def test_reading_follows_the_writer_across_segments(tmp_path: Path) -> None:
    with opened(tmp_path) as journal:
        with store(tmp_path) as sink:
            reader = Reader(tmp_path / "journal", sink.journal_id, 0)
        seen = 0
        for number in range(2_000):
            write(journal, event(number))
            if number % 37 == 0:
                while batch := reader.read():
                    seen += len(batch.events)
        while batch := reader.read():
            seen += len(batch.events)
        assert seen == 2_000
        assert reader.position == journal.unshipped_bytes
        reader.close()
