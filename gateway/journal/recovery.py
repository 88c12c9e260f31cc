"""At start: what earlier processes left in the journal goes into the store.

Invariant: when `recover` returns, the store has every record that was ever acknowledged,
the old segments are gone, and balances can be trusted. What was open without a close
was in flight at a crash: neither charged nor held. Must run before anything is served.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple, Protocol

from gateway.journal.reader import Reader
from gateway.journal.segment import list_segments
from gateway.journal.shipper import BATCH_EVENTS
from gateway.journal.sink import C, Sink


class Recovered(NamedTuple):
    """`in_flight`: requests that a crash cut off; `torn_bytes` of records never acknowledged.

    `store_seq`: the last record that the store had before.
    """

    journal_id: str
    next_seq: int
    events: int
    refused: int
    in_flight: int
    torn_bytes: int
    segments: int
    store_seq: int


def recover(directory: str, sink: Sink[C]) -> Recovered:
    """Ship what is left in `directory`, then delete its segments.

    Raises JournalDamaged for a broken record in the middle, JournalMismatch when journal
    and store do not belong together or the store is older, and the store's own errors.
    Nothing is deleted then; it may be called again.
    """
    home = Path(directory)
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    store_seq = sink.applied_seq
    reader = Reader(home, sink.journal_id, store_seq)
    events = 0
    try:
        known = -1
        while sink.applied_seq > known:
            known = sink.applied_seq
            events += sink.apply(reader.batches(BATCH_EVENTS))
        in_flight = reader.in_flight
        reader.end_segment()
    finally:
        reader.close()
    sink.make_durable()
    segments = list_segments(home)
    for _, path in segments:
        path.unlink()
    return Recovered(
        journal_id=sink.journal_id,
        next_seq=sink.applied_seq + 1,
        events=events,
        refused=reader.refused,
        in_flight=in_flight,
        torn_bytes=reader.torn_bytes,
        segments=len(segments),
        store_seq=store_seq,
    )


class OwnedSink(Sink[C], Protocol[C]):
    """A sink that its user closes."""

    def close(self) -> None: ...


def recover_left(
    folders: Iterable[str], open_sink: Callable[[str], OwnedSink[C]]
) -> dict[str, Recovered]:
    """The same of journals that nobody writes any more; by folder. Raises as `recover` does.

    A folder keeps its journal's name: who writes there again goes on where it ended.
    """
    found = {}
    for folder in folders:
        sink = open_sink(folder)
        try:
            found[folder] = recover(folder, sink)
        finally:
            sink.close()
    return found
