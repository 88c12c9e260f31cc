"""The journal's writing side: is it written down?

Invariant: when write_open, write_close or write_refused returns, the record is in the
kernel's hands and survives the death of this process; and whatever was opened can be
closed, for a close's space is reserved when its open is written. Called on the event loop
for every request, so each call makes one system call and no object that it can avoid;
everything slow is the keeper's. Must not know the store.

Why pwrite into reserved files and not O_APPEND or mmap: docs/decisions/0003-journal.md.
"""

from __future__ import annotations

import asyncio
import errno
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self
from zlib import crc32

import orjson

from gateway.core.book import JournalSettings
from gateway.core.events import Refused
from gateway.journal.errors import JournalBroken, JournalError, JournalFull
from gateway.journal.keeper import Keeper
from gateway.journal.record import (
    CLOSE_MAX_BYTES,
    FORMAT_VERSION,
    OPEN_MAX_BYTES,
    OPTIONS,
    RECORD_MAX_BYTES,
    RECORD_SHIFT,
    REFUSED_ROWS_MAX,
    encode_close,
    encode_open,
    encode_refused,
)
from gateway.journal.segment import Header, Segment

LABELS_MAX = 20_000  # per segment, about 8 MB; beyond it events carry their labels in full

_dumps = orjson.dumps
_pwrite = os.pwrite


class JournalStats(NamedTuple):
    last_seq: int
    synced_seq: int
    in_flight: int
    written_bytes: int  # by this process
    unshipped_bytes: int
    segments: int  # begun by this process
    is_full: bool
    full_total: int  # records that found no room
    syncs_total: int
    failed: str  # "" or why nothing more is accepted


class Journal:
    """One process's part of the journal. Not thread-safe: one thread writes."""

    def __init__(
        self, keeper: Keeper, settings: JournalSettings, journal_id: str, next_seq: int
    ) -> None:
        self.journal_id = journal_id
        self.last_seq = self.written_seq = next_seq - 1
        self._gathered: list[bytes] | None = None  # lines that `flush` will write
        self._is_stuck = False  # the last flush failed
        self._sync_always = settings.sync == "always"
        self._keeper = keeper
        self._max_bytes = settings.max_bytes
        self._in_flight = 0
        self._labels: dict[tuple[str, ...], int] = {}
        self._position: int  # bytes of this process's earlier segments
        self._shipped = 0  # bytes of this process that are in the store
        self._segments = 0
        self._full = False
        self._full_total = 0
        self._offset = 0
        self._begin(keeper.take(), 0)

    @classmethod
    def open(
        cls,
        settings: JournalSettings,
        journal_id: str,
        next_seq: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> Self:
        """A journal that goes on at `next_seq` in a new segment, its keeper thread running.

        Raises OSError when the directory cannot be made or two segments not be reserved.
        """
        directory = Path(settings.dir)
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        keeper = Keeper(directory, settings, clock)
        keeper.reserve()
        keeper.reserve()
        journal = cls(keeper, settings, journal_id, next_seq)
        keeper.start(journal)
        return journal

    def write_open(
        self,
        event_id: str,
        time_us: int,
        account: str,
        route: str,
        charges: tuple[tuple[str, int], ...],
    ) -> int:
        """Write down that a request was admitted; returns the record's sequence number.

        Raises JournalFull when there is no room for it and its close, JournalBroken when
        the disk fails, ValueError for an amount beyond 53 bits or far too many charges.
        """
        if self._offset + (self._in_flight << RECORD_SHIFT) > self._open_end:
            self._make_room(RECORD_MAX_BYTES)
        if self._offset > self._roll_at:
            self._roll()
        seq = self.last_seq + 1
        try:
            body = _dumps(("o", seq, event_id, time_us, account, route, charges), None, OPTIONS)
        except TypeError:
            body = encode_open(seq, event_id, time_us, account, route, charges)
        if len(body) > OPEN_MAX_BYTES:
            body = encode_open(seq, event_id, time_us, account, route, charges)
        self._append(body, seq)
        self._in_flight += 1
        return seq

    def write_close(self, fields: tuple[Any, ...]) -> int:
        """Write down a settled request, `fields` in the order of core.events.Event.

        After its write_open there is always room, whatever the texts hold. Raises
        JournalError when the disk fails: the answer's last byte must not be sent.
        """
        # fmt: off
        (event_id, time_us, account, user, project, key_id, caller, source, service,
         operation, route, method, path, status, outcome, charges, bytes_in, bytes_out,
         duration_us, upstream_us, request_id, book) = fields
        # fmt: on
        if self._offset > self._roll_at:
            self._roll()
        seq = self.last_seq + 1
        values = (
            *(account, user, project, key_id, caller),
            *(service, operation, route, method, book),
        )
        label = self._labels.get(values, values)
        if request_id == event_id:
            request_id = ""
        # fmt: off
        row = ("c", seq, label, event_id, time_us, source, path, status, outcome, charges,
               bytes_in, bytes_out, duration_us, upstream_us, request_id)
        # fmt: on
        try:
            body = _dumps(row, None, OPTIONS)
        except TypeError:
            body = encode_close(seq, label, row[3:])
        if len(body) > CLOSE_MAX_BYTES:
            body = encode_close(seq, label, row[3:])
        self._append(body, seq)
        if label is values and len(self._labels) < LABELS_MAX:
            self._labels[values] = len(self._labels)
        if self._in_flight:
            self._in_flight -= 1
        return seq

    def write_refused(self, rows: Sequence[Refused]) -> int:
        """Write down counted refusals; returns the last record's sequence number.

        Raises JournalFull, with none written, when there is no room; JournalError when the
        disk fails on the way.
        """
        parts = [rows[i : i + REFUSED_ROWS_MAX] for i in range(0, len(rows), REFUSED_ROWS_MAX)]
        need = len(parts) * RECORD_MAX_BYTES
        if self._offset + need + (self._in_flight << RECORD_SHIFT) > self._open_end:
            self._make_room(need)
        for part in parts:
            if self._offset > self._roll_at:
                self._roll()
            self._append(encode_refused(self.last_seq + 1, part), self.last_seq + 1)
        self.flush()
        return self.last_seq

    def _append(self, body: bytes, seq: int) -> None:
        line = b"%08x%b" % (crc32(body), body)
        if self._gathered is None:
            self._write(self._fd, line, self._offset)
            self.written_seq = seq
        else:
            self._gathered.append(line)
        self._offset += len(line)
        self.last_seq = seq

    def gather(self) -> None:
        """From now on records are written by `flush`, many with one system call.

        Who asks for this promises that nothing that depends on a record leaves the
        process before `flush` has returned (gateway.proxy.outbox).
        """
        if self._gathered is None:
            self._gathered = []

    def flush(self) -> None:
        """Write what was gathered. Raises JournalError when the disk does not take it.

        It stays gathered then, and every later flush tries it again in the same place: later
        records count on its sequence, its labels and its bytes. Opens are refused until it
        is written, and whoever flushes is told, so that no answer leaves unrecorded.
        """
        if self._gathered:
            data = b"".join(self._gathered)
            try:
                self._write(self._fd, data, self._offset - len(data))
            except JournalError:
                self._is_stuck = True
                self.refuse_opens()
                raise
            self._gathered.clear()
            self._is_stuck = False
        self.written_seq = self.last_seq
        if self._sync_always:
            self._keeper.wake()  # somebody may wait for what was not written yet

    def _write(self, fd: int, data: bytes, offset: int) -> None:
        try:
            written = _pwrite(fd, data, offset)
            while written < len(data):  # a signal, or the last bytes of a quota
                written += _pwrite(fd, data[written:], offset + written)
        except OSError as error:
            raise self._refused_by_disk(error) from error

    def _refused_by_disk(self, error: OSError) -> JournalError:
        """The next record takes the same place, so half a line does no harm."""
        if error.errno in (errno.ENOSPC, errno.EDQUOT):  # a file system that overbooks
            self._full_total += 1
            return JournalFull("disk", str(error))
        self._keeper.fail(f"write: {error}")
        return JournalBroken(f"the journal cannot be written: {error}")

    def _make_room(self, need_bytes: int) -> None:
        """Room for `need_bytes` and the closes of all in flight, or JournalFull."""
        try:
            reason = self._find_room(need_bytes + (self._in_flight << RECORD_SHIFT))
        except OSError as error:
            reason = JournalFull("disk", f"no space for another segment: {error}")
        self._full = reason is not None
        if reason is not None:
            self._full_total += 1
            raise reason

    def _find_room(self, need_bytes: int) -> JournalFull | None:
        keeper = self._keeper
        if keeper.failed:
            return JournalFull("failed", f"{keeper.failed}; restart the gateway")
        if self._is_stuck:
            self.flush()
        if self._offset + need_bytes > self._max_offset():
            held = f"{self.unshipped_bytes} bytes are not in the store yet"
            return JournalFull("max_size", f"{held}, the limit is {self._max_bytes}")
        while self._offset + need_bytes > self._space_end():
            keeper.reserve_up_to(keeper.spares + 1)
        self._set_open_end()
        return None

    def _max_offset(self) -> int:
        """The offset here at which the unshipped records reach their limit."""
        return self._max_bytes - (self._position - self._shipped)

    def _space_end(self) -> int:
        """The offset up to which records fit, were the spare segments part of this one."""
        return self._roll_at + self._keeper.spare_bytes

    def _roll(self) -> None:
        """Go on in the next segment; its number of spares is the keeper's to restore."""
        self.flush()
        old = self._segment
        try:
            segment = self._keeper.take()
        except OSError as error:
            raise self._refused_by_disk(error) from error
        try:
            self._begin(segment, self._position + self._offset)
        except JournalError:
            self._keeper.give_back(segment)
            raise
        self._keeper.retire(old)

    def _begin(self, segment: Segment, position: int) -> None:
        first_seq = self.last_seq + 1
        header = Header(FORMAT_VERSION, self.journal_id, first_seq, self._in_flight, position)
        line = header.line()
        self._write(segment.fd, line, 0)
        self._position = position
        self._segment = segment
        self._segments += 1
        self._fd = segment.fd
        self._offset = len(line)
        self._roll_at = segment.size - RECORD_MAX_BYTES
        self._labels.clear()
        self._set_open_end()

    def _set_open_end(self) -> None:
        """Up to which offset an open is written without asking further."""
        self._open_end = min(self._max_offset(), self._space_end()) - RECORD_MAX_BYTES
        if self._keeper.failed:  # looked at last: the keeper's thread may set it any time
            self.refuse_opens()

    def refuse_opens(self) -> None:
        """From now on every open asks for room, and is told why there is none."""
        self._open_end = -1

    @property
    def is_full(self) -> bool:
        """Whether the last request found no room and the next would find none either."""
        if self._keeper.failed or self._is_stuck:
            return True
        if self._full:
            need = RECORD_MAX_BYTES + (self._in_flight << RECORD_SHIFT)
            self._full = self._offset + need > min(self._max_offset(), self._space_end())
        return self._full

    @property
    def segment(self) -> Segment:
        return self._segment

    @property
    def unshipped_bytes(self) -> int:
        return self._position + self._offset - self._shipped

    @property
    def needs_sync(self) -> bool:
        return self._keeper.synced_seq < self.last_seq

    @property
    def stats(self) -> JournalStats:
        keeper = self._keeper
        return JournalStats(
            last_seq=self.last_seq,
            synced_seq=keeper.synced_seq,
            in_flight=self._in_flight,
            written_bytes=self._position + self._offset,
            unshipped_bytes=self.unshipped_bytes,
            segments=self._segments,
            is_full=self.is_full,
            full_total=self._full_total,
            syncs_total=keeper.syncs_total,
            failed=keeper.failed,
        )

    def note_shipped(self, position: int) -> None:
        """The shipper's word, from its thread: this many bytes of ours are in the store."""
        self._shipped = position

    def sync(self) -> None:
        """Block until everything written is on disk. Raises JournalBroken when it is not."""
        self._keeper.sync()

    def synced(self, seq: int) -> asyncio.Future[None]:
        """A future, done when record `seq` is on disk; many waiters share one fsync.

        To be called on an event loop; fails with JournalBroken.
        """
        return self._keeper.wait_synced(seq)

    def close(self) -> None:
        """Write and sync everything, give the reserved space back, end the keeper.

        Raises JournalError when what was gathered cannot be written, after the rest.
        """
        try:
            self.flush()
        finally:
            self._keeper.close()
            os.ftruncate(self._fd, self._offset - sum(map(len, self._gathered or ())))
            if not self._keeper.failed:
                os.fsync(self._fd)
            os.close(self._fd)

    def __repr__(self) -> str:
        return f"<Journal {self.last_seq} {self._segment!r}+{self._offset}>"
