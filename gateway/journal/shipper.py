"""From the journal to the store: the store's only writer.

Invariant: every record is applied exactly once and in sequence, and a segment is deleted
only when all of it is on disk in the store. When the store cannot take a batch, the
records wait and the journal grows; nothing is dropped. Changes of accounts and keys run
here too, between batches, for a store has one writer. Must not know SQL.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from heapq import heappop, heappush
from itertools import chain
from pathlib import Path
from typing import Generic, NamedTuple, Protocol

from gateway.core.batch import Batch
from gateway.journal.errors import JournalError
from gateway.journal.reader import Reader
from gateway.journal.sink import C, Sink, T

# Per transaction: some 200 ms. What many keys add to the sums is written once for all of them, so
# a large one costs less for each event (bench/scaling.py).
BATCH_EVENTS = 50_000
PAUSE_S = 0.1  # between batches when caught up
# After a large transaction: more events then share an index page and a rollup row, which
# is half of the cost (bench/journal.py). Who asks with `reached` does not wait for it.
LARGE_EVENTS = 500
LARGE_PAUSES = 10  # times the pause
BACKOFF_S = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0)

Report = Callable[[str, Mapping[str, object]], None]


class Source(Protocol):
    """What the shipper asks of the journal being written."""

    last_seq: int

    def note_shipped(self, position: int) -> None: ...


class Lag(NamedTuple):
    shipped_seq: int
    events: int  # records in the journal and not in the store
    batches_total: int
    events_total: int
    failures_total: int
    trouble: str  # "" or why it does not go on


class BarrierPassed(Exception):
    """More than the asked sequence is in the store already."""


class _Barrier(NamedTuple):
    seq: int
    order: int
    pin: bool  # with a snapshot at exactly `seq`
    future: Future[object]


class Shipper(Generic[C]):
    def __init__(
        self,
        directory: str,
        sink: Sink[C],
        journal: Source,
        report: Report = lambda fact, figures: None,
        pause_s: float = PAUSE_S,
    ) -> None:
        self._sink = sink
        self._journal = journal
        self._report = report
        self._pause_s = pause_s
        self._directory = Path(directory)
        self._reader = self._new_reader()
        self._rest: Batch | None = None  # read, and behind a barrier
        self._large = False  # the last transaction
        self._jobs: deque[Callable[[], None]] = deque()
        self._barriers: list[_Barrier] = []
        self._registered: deque[_Barrier] = deque()
        self._orders = 0
        self._failures = 0  # in a row
        self._failures_total = 0
        self._batches_total = 0
        self._events_total = 0
        self._trouble = ""
        self._wake = threading.Event()
        self._stopping = False
        self._drain = False
        self._thread = threading.Thread(target=self._run, name="store-writer", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self, drain: bool = True, timeout_s: float = 30.0) -> bool:
        """End the thread, after shipping everything when `drain`; whether all is shipped.

        What does not get into the store in time stays in the journal for the next start.
        """
        self._drain = drain
        self._stopping = True
        self._wake.set()
        self._thread.join(timeout_s)
        if self._thread.is_alive():
            self._drain = False  # in trouble: give up at the next step
            self._wake.set()
            self._thread.join(1.0)
        return self.shipped_seq >= self._journal.last_seq

    @property
    def shipped_seq(self) -> int:
        return self._sink.applied_seq

    def lag(self) -> Lag:
        shipped = self.shipped_seq
        return Lag(
            shipped_seq=shipped,
            events=max(self._journal.last_seq - shipped, 0),
            batches_total=self._batches_total,
            events_total=self._events_total,
            failures_total=self._failures_total,
            trouble=self._trouble,
        )

    def submit(self, change: Callable[[C], T]) -> Future[T]:
        """Run `change` with the writing connection, in its own durable transaction.

        The future fails with whatever `change` or the store raises; nothing is changed then.
        """
        future: Future[T] = Future()
        self._jobs.append(lambda: _settle(future, lambda: self._sink.run(change)))
        self._nudge(future)
        return future

    def reached(self, seq: int) -> Future[object]:
        """Done when everything up to `seq` is in the store; shipping hurries up."""
        return self._register(seq, pin=False)

    def barrier(self, seq: int) -> Future[C]:
        """A read connection that sees the store at exactly `seq`; its owner closes it.

        Call it on the journal's thread with `journal.last_seq`, before anything more is
        written. Fails with BarrierPassed when that is too late.
        """
        future: Future[C] = self._register(seq, pin=True)  # type: ignore[assignment]
        return future

    def _register(self, seq: int, pin: bool) -> Future[object]:
        future: Future[object] = Future()
        self._orders += 1
        self._registered.append(_Barrier(seq, self._orders, pin, future))
        self._nudge(future)
        return future

    def _nudge(self, future: Future[T]) -> None:
        if self._stopping and not self._thread.is_alive():
            future.set_exception(RuntimeError("the store's writer has stopped"))
        self._wake.set()

    # -- the thread

    def _run(self) -> None:
        while True:
            stopping = self._stopping  # before shipping: what was written until now is seen
            self._run_jobs()
            more = self._ship()
            self._answer_barriers()
            if stopping and self._is_done(more):
                break
            if not more:
                self._wake.wait(self._wait_s())
                self._wake.clear()
        self._reader.close()
        self._fail_rest()

    def _is_done(self, more: bool) -> bool:
        return not self._drain or not (more or self._jobs or self._trouble)

    def _wait_s(self) -> float:
        if self._trouble:
            return BACKOFF_S[min(self._failures, len(BACKOFF_S)) - 1]
        return self._pause_s * (LARGE_PAUSES if self._large else 1)

    def _new_reader(self) -> Reader:
        return Reader(self._directory, self._sink.journal_id, self._sink.applied_seq)

    def _run_jobs(self) -> None:
        while self._jobs:
            self._jobs.popleft()()

    def _ship(self) -> bool:
        """Apply what is there; whether more is likely to be there at once."""
        try:
            events = self._sink.apply(self._take(BATCH_EVENTS))
            self._journal.note_shipped(self._reader.position)
            self._delete_finished()
        except Exception as error:  # whatever the store or disk says: wait and try again
            self._note_failure(error)
            return False
        if self._trouble:
            self._report("shipping_resumed", {"failures": self._failures})
        self._trouble, self._failures = "", 0
        self._events_total += events
        self._batches_total += events > 0
        self._large = events >= LARGE_EVENTS
        return events >= BATCH_EVENTS or self._rest is not None

    def _take(self, max_events: int) -> Iterator[Batch]:
        """Batches of one transaction; it ends where a barrier wants to look."""
        applied = self._sink.applied_seq
        rest, self._rest = self._rest, None
        for batch in chain((rest,) if rest else (), self._reader.batches(max_events)):
            # After reading: who asks for a barrier writes more only after that, so what
            # was read beyond a barrier's sequence finds it here.
            self._take_barriers()
            stops = [b.seq for b in self._barriers if b.pin and applied <= b.seq <= batch.last_seq]
            if not stops:
                yield batch
                continue
            head, self._rest = split(batch, min(stops))
            if head:
                yield head
            return

    def _delete_finished(self) -> None:
        """Segments that are wholly in the store go, once the store is on disk."""
        if not self._reader.finished:
            return
        self._sink.make_durable()
        while self._reader.finished:
            path = self._reader.finished[0]
            path.unlink(missing_ok=True)
            self._reader.finished.pop(0)

    def _note_failure(self, error: Exception) -> None:
        self._failures += 1
        self._failures_total += 1
        trouble = f"{type(error).__name__}: {error}"
        if trouble != self._trouble:
            kind = "journal_damaged" if isinstance(error, JournalError) else "shipping_failed"
            self._report(kind, {"error": trouble, "shipped_seq": self.shipped_seq})
        self._trouble = trouble
        self._rest = None
        self._reader.close()  # what it returned is gone: read it again from the files
        self._reader = self._new_reader()

    # -- barriers

    def _take_barriers(self) -> None:
        while self._registered:
            heappush(self._barriers, self._registered.popleft())

    def _answer_barriers(self) -> None:
        self._take_barriers()
        while self._barriers and self._barriers[0].seq <= self.shipped_seq:
            barrier = heappop(self._barriers)
            if not barrier.future.set_running_or_notify_cancel():
                continue
            if not barrier.pin:
                barrier.future.set_result(None)
            elif barrier.seq < self.shipped_seq:
                passed = f"asked for {barrier.seq}, the store is at {self.shipped_seq}"
                barrier.future.set_exception(BarrierPassed(passed))
            else:
                _resolve(barrier.future, self._sink.snapshot)

    def _fail_rest(self) -> None:
        self._run_jobs()
        self._answer_barriers()
        for barrier in self._barriers:
            if barrier.future.set_running_or_notify_cancel():
                barrier.future.set_exception(RuntimeError("the store's writer has stopped"))


def split(batch: Batch, seq: int) -> tuple[Batch | None, Batch | None]:
    """The batch up to `seq` and the rest, None where one is empty.

    Refusals, which do not carry their sequence, go with the rest if there is one.
    """
    if seq < batch.first_seq:
        return None, batch
    if seq >= batch.last_seq:
        return batch, None
    head = Batch(batch.first_seq, seq, [row for row in batch.events if row[1] <= seq])
    rest = Batch(seq + 1, batch.last_seq, [row for row in batch.events if row[1] > seq])
    rest.refused = batch.refused
    return head, rest


def _settle(future: Future[T], work: Callable[[], T]) -> None:
    if future.set_running_or_notify_cancel():
        _resolve(future, work)


def _resolve(future: Future[T], work: Callable[[], T]) -> None:
    try:
        result = work()
    except Exception as error:
        future.set_exception(error)
    else:
        future.set_result(result)
