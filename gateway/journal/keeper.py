"""The journal's slow half, on a thread of its own: reserving segments and fsync.

Invariants: a segment that is handed out has its space and its name on disk; a waiter is
told "synced" only when an fsync that began after its record was written came back
well. After a failed fsync nothing is called good any more, for the kernel may have dropped
the pages and would report success the next time. Must not know what records mean.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from gateway.core.book import JournalSettings
from gateway.journal.errors import JournalBroken
from gateway.journal.record import RECORD_MAX_BYTES
from gateway.journal.segment import Segment, list_segments, reserve

SEGMENT_MIN_BYTES = 8 * RECORD_MAX_BYTES
RETRY_S = 1.0  # how often a full journal looks for space again
IDLE_S = 1.0  # how long the thread sleeps when nobody wakes it


class Written(Protocol):
    """What the keeper asks of the journal."""

    @property
    def segment(self) -> Segment: ...

    written_seq: int

    def refuse_opens(self) -> None: ...


class Keeper:
    def __init__(
        self, directory: Path, settings: JournalSettings, clock: Callable[[], float]
    ) -> None:
        self.failed = ""
        self.synced_seq = 0
        self.syncs_total = 0
        self._directory = directory
        self._next_number = max((n for n, _ in list_segments(directory)), default=0) + 1
        self._size = max(settings.segment_bytes, SEGMENT_MIN_BYTES)
        self._sync = settings.sync
        self._pause_s = settings.sync_interval_s if settings.sync == "interval" else IDLE_S
        self._clock = clock
        self._retry_at = clock()
        self._no_space = ""
        self._spares: deque[Segment] = deque()
        self._retired: deque[Segment] = deque()
        self._waiters: deque[tuple[int, asyncio.Future[None]]] = deque()
        self._journal: Written | None = None
        self._reserving = threading.Lock()
        self._syncing = threading.Lock()
        self._wake = threading.Event()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="journal-keeper", daemon=True)

    def start(self, journal: Written) -> None:
        self._journal = journal
        self.synced_seq = journal.written_seq
        self._thread.start()

    # -- space

    @property
    def spare_bytes(self) -> int:
        """What fits into the spare segments beside their headers and unused ends."""
        return len(self._spares) * (self._size - 2 * RECORD_MAX_BYTES)

    def reserve(self) -> None:
        """Reserve one more segment now. Raises OSError when there is no space."""
        self.reserve_up_to(len(self._spares) + 1)

    def reserve_up_to(self, spares: int) -> None:
        """Reserve one segment unless there are so many spares by now.

        Raises OSError when there is no space, or was none within the last RETRY_S.
        """
        with self._reserving:
            if len(self._spares) >= spares:
                return
            now = self._clock()
            if now < self._retry_at:
                raise OSError(f"{self._no_space} (tried less than a second ago)")
            try:
                self._spares.append(reserve(self._directory, self._next_number, self._size))
            except OSError as error:
                self._retry_at = now + RETRY_S
                self._no_space = str(error)
                raise
            self._next_number += 1

    @property
    def spares(self) -> int:
        return len(self._spares)

    def take(self) -> Segment:
        """The next segment to write; the thread reserves another. Raises OSError."""
        if not self._spares:
            self.reserve()
        self._wake.set()
        return self._spares.popleft()

    def give_back(self, segment: Segment) -> None:
        """A segment that was taken and could not be begun."""
        self._spares.appendleft(segment)

    def wake(self) -> None:
        self._wake.set()

    def retire(self, segment: Segment) -> None:
        """A full segment: synced once more, then closed."""
        self._retired.append(segment)
        self._wake.set()

    # -- durability

    def fail(self, reason: str) -> None:
        """Remember the first failure for good."""
        self.failed = self.failed or reason
        if self._journal is not None:
            self._journal.refuse_opens()
        self._wake.set()

    def wait_synced(self, seq: int) -> asyncio.Future[None]:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if seq <= self.synced_seq and not self.failed:
            future.set_result(None)
        else:
            self._waiters.append((seq, future))
            self._wake.set()
        return future

    def sync(self) -> None:
        """Sync everything written before the call. Raises JournalBroken."""
        with self._syncing:
            if not self.failed:
                self._sync_files()
            self._answer_waiters()
        if self.failed:
            raise JournalBroken(self.failed)

    def _sync_files(self) -> None:
        assert self._journal is not None
        target = self._journal.written_seq  # read before the files: they hold at least this much
        current = self._journal.segment
        retired = [self._retired.popleft() for _ in range(len(self._retired))]
        try:
            for segment in retired:
                os.fdatasync(segment.fd)
            if target > self.synced_seq:
                os.fdatasync(current.fd)
        except OSError as error:
            self.fail(f"fsync: {error}")
            return
        self.synced_seq = target
        self.syncs_total += 1
        for segment in retired:
            os.close(segment.fd)

    def _answer_waiters(self) -> None:
        ready: dict[asyncio.AbstractEventLoop, list[asyncio.Future[None]]] = {}
        while self._waiters and (self.failed or self._waiters[0][0] <= self.synced_seq):
            future = self._waiters.popleft()[1]
            ready.setdefault(future.get_loop(), []).append(future)
        for loop, futures in ready.items():
            loop.call_soon_threadsafe(_resolve, futures, self.failed)

    # -- the thread

    def _run(self) -> None:
        while not self._stopping:
            self._wake.wait(self._pause_s)
            self._wake.clear()
            self._restore_spare()
            if self._sync == "off":
                self._drop_retired()
            elif self._sync == "interval" or self._waiters or self._retired:
                self._sync_quietly()

    def _restore_spare(self) -> None:
        if self._spares or self._stopping:
            return
        try:
            self.reserve_up_to(1)
        except OSError:
            return  # the writer says so when somebody needs the space

    def _sync_quietly(self) -> None:
        assert self._journal is not None
        if self._journal.written_seq > self.synced_seq or self._retired or self._waiters:
            try:
                self.sync()
            except JournalBroken:
                return  # `failed` tells the writer, each waiter has been told

    def _drop_retired(self) -> None:
        while self._retired:
            os.close(self._retired.popleft().fd)

    def close(self) -> None:
        """End the thread, sync what is left, give unused segments back."""
        self._stopping = True
        self._wake.set()
        self._thread.join()
        if self._sync == "off":
            self._drop_retired()
        else:
            self._sync_quietly()
        while self._spares:
            spare = self._spares.popleft()
            os.close(spare.fd)
            spare.path.unlink(missing_ok=True)


def _resolve(futures: list[asyncio.Future[None]], failed: str) -> None:
    for future in futures:
        if future.done():  # cancelled: the client is gone
            continue
        if failed:
            future.set_exception(JournalBroken(failed))
        else:
            future.set_result(None)
