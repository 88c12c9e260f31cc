"""The journal's reading side: which records follow, verified.

Reads only the files, alike for a journal that is being written and for one that a killed
process left. Invariant: a batch has every record of its span, each with a good checksum.
A line that is not complete yet, or was torn by a kill, ends the reading; a bad line
that good ones follow is damage and is raised, never skipped. Must not know the store.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from zlib import crc32

import orjson

from gateway.core.batch import Batch, Label, LabelValues
from gateway.core.events import Refused
from gateway.journal.errors import JournalDamaged, JournalError, JournalMismatch
from gateway.journal.record import CRC_CHARS, RECORD_MAX_BYTES, is_sealed
from gateway.journal.segment import Header, list_segments, read_header

CHUNK_BYTES = 16 * RECORD_MAX_BYTES  # some 300 events: the interpreter is held under 1 ms
LABELS_KEPT = 50_000  # shared between segments, so that a store numbers each once
_OPEN = ord("o")
_CLOSE = "c"
_KIND_AT = 2  # of a body: ["c",...


@dataclass(slots=True)
class _Place:
    """A segment being read."""

    path: Path
    number: int
    fd: int
    header: Header
    offset: int
    labels: list[Label]
    in_flight: int


class Reader:
    """Batches of records after `after_seq`, in sequence. One thread uses it."""

    def __init__(self, directory: Path, journal_id: str, after_seq: int) -> None:
        self.last_seq = after_seq  # of the last record returned, or skipped as known
        self.finished: list[Path] = []  # segments read to their end, for their deletion
        self.torn_bytes = 0  # of records that a kill cut off; nobody was told they exist
        self.refused = 0  # refusals counted in what was returned
        self.abandoned = 0  # opens without a close, of processes that ended
        self._directory = directory
        self._journal_id = journal_id
        self._known = after_seq
        self._place: _Place | None = None
        self._labels: dict[LabelValues, Label] = {}

    def read(self) -> Batch | None:
        """The next records, some hundred at most; None when none are there.

        Raises JournalDamaged, JournalMismatch, OSError.
        """
        batch = Batch(self.last_seq + 1, self.last_seq)
        while self.last_seq < batch.first_seq:
            if not (self._place and self._read_chunk(batch)) and not self._go_on():
                return None
        batch.last_seq = self.last_seq
        return batch

    def batches(self, max_events: int) -> Iterator[Batch]:
        """What follows, up to a little over `max_events`.

        Raises as `read`, but not behind a good batch: the next call comes to the same place.
        """
        events = good = 0
        while events < max_events:
            try:
                batch = self.read()
            except (JournalError, OSError):
                if not good:
                    raise
                return
            if batch is None:
                return
            good += 1
            events += len(batch.events)
            yield batch

    @property
    def position(self) -> int:
        """Bytes read of what the last writing process wrote."""
        return self._place.header.position + self._place.offset if self._place else 0

    @property
    def in_flight(self) -> int:
        """Requests opened and not closed, as far as read, in every process's records."""
        return self.abandoned + (self._place.in_flight if self._place else 0)

    def close(self) -> None:
        if self._place:
            os.close(self._place.fd)
            self._place = None

    # -- within a segment

    def _read_chunk(self, batch: Batch) -> bool:
        """Add what one read finds; False when there is nothing more for now."""
        place = self._place
        assert place is not None
        chunk = os.pread(place.fd, CHUNK_BYTES, place.offset)
        end = chunk.rfind(b"\n") + 1
        if not end:
            return False
        lines = chunk[:end].splitlines(keepends=True)
        bodies = [line[CRC_CHARS:] for line in lines]
        found = b"".join([line[:CRC_CHARS] for line in lines])
        if found != b"%08x" * len(lines) % tuple(map(crc32, bodies)):
            bodies = self._good_part(place, lines)
            if not bodies:
                return False
        self._check_sequence(place, bodies)
        self._decode(place, bodies, batch)
        place.offset += sum(map(len, bodies)) + CRC_CHARS * len(bodies)
        return True

    def _good_part(self, place: _Place, lines: list[bytes]) -> list[bytes]:
        """The bodies before the first bad line, which only an unfinished one may be."""
        good = [is_sealed(line) for line in lines]
        count = good.index(False)
        if count == 0 and any(good):
            what = f"a broken record, {sum(good)} good ones follow"
            raise JournalDamaged(str(place.path), place.offset, what)
        return [line[CRC_CHARS:] for line in lines[:count]]

    def _check_sequence(self, place: _Place, bodies: list[bytes]) -> None:
        first: int = orjson.loads(bodies[0])[1]
        last: int = orjson.loads(bodies[-1])[1]
        first_ok = first == self.last_seq + 1 or first <= self._known
        if last - first + 1 != len(bodies) or not first_ok:
            what = f"expected record {self.last_seq + 1}, found {len(bodies)}: {first} to {last}"
            raise JournalDamaged(str(place.path), place.offset, what)
        self.last_seq = max(last, self.last_seq)

    def _decode(self, place: _Place, bodies: list[bytes], batch: Batch) -> None:
        kept = [body for body in bodies if body[_KIND_AT] != _OPEN]
        opened = len(bodies) - len(kept)
        closed = 0
        for row in orjson.loads(b"[" + b",".join(kept) + b"]"):
            if row[0] == _CLOSE:
                closed += 1
                label = row[2]
                row[2] = place.labels[label] if label.__class__ is int else self._define(label)
                if row[1] > self._known:
                    batch.events.append(row)
            elif row[1] > self._known:
                batch.refused.extend(Refused(*values) for values in row[2])
        self.refused += sum(row[5] for row in batch.refused)
        batch.opened += opened
        place.in_flight = max(place.in_flight + opened - closed, 0)

    def _define(self, texts: list[str]) -> Label:
        assert self._place is not None
        values = LabelValues(*texts)
        label = self._labels.get(values)
        if label is None:
            if len(self._labels) >= LABELS_KEPT:
                self._labels.clear()
            label = self._labels[values] = Label(values)
        self._place.labels.append(label)
        return label

    # -- from segment to segment

    def _go_on(self) -> bool:
        """Go to the next segment that was begun, if this one is at its end."""
        found = self._next_begun()
        if found is None:
            return False
        number, path, header, size = found
        if header.first_seq > self.last_seq + 1:
            if self._place and self._has_more():
                return True  # it grew since; read on here first
            raise self._gap(path, header)
        self._leave(header)
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self._place = _Place(path, number, fd, header, size, [], header.in_flight)
        return True

    def _next_begun(self) -> tuple[int, Path, Header, int] | None:
        current = self._place.number if self._place else -1
        for number, path in list_segments(self._directory):
            if number > current:
                begun = read_header(path, self._journal_id)
                if begun is not None:
                    return number, path, *begun
        return None

    def _has_more(self) -> bool:
        assert self._place is not None
        rest = os.pread(self._place.fd, CHUNK_BYTES, self._place.offset)
        line, newline, _ = rest.partition(b"\n")
        return is_sealed(line + newline)

    def _gap(self, path: Path, header: Header) -> JournalError:
        missing = f"records {self.last_seq + 1} to {header.first_seq - 1}"
        if self._place:
            return JournalDamaged(str(self._place.path), self._place.offset, f"{missing} are lost")
        return JournalMismatch(
            f"{path}: the store has the records up to {self.last_seq}, but {missing} are in no"
            " segment: the store is older than the journal. Restore the newest store, or the"
            " missing segment files"
        )

    def _leave(self, following: Header) -> None:
        place = self._place
        if place is not None:
            self.end_segment()
            if following.position == 0:  # another process began it: the old one has ended
                self.abandoned += place.in_flight

    def end_segment(self) -> None:
        """Judge what stands behind the last good record, and leave the segment.

        Raises JournalDamaged when good records stand behind a bad one.
        """
        place = self._place
        if place is None:
            return
        carry, offset = b"", place.offset
        while piece := os.pread(place.fd, CHUNK_BYTES, offset):
            offset += len(piece)
            if not piece.strip(b"\0"):
                continue
            self.torn_bytes += len(piece.strip(b"\0"))
            *lines, carry = (carry + piece).split(b"\n")
            if any(is_sealed(line.rpartition(b"\0")[2] + b"\n") for line in lines):
                what = "a broken record, good ones follow further on"
                raise JournalDamaged(str(place.path), place.offset, what)
        os.close(place.fd)
        self.finished.append(place.path)
        self._place = None
