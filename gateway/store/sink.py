"""The writing side of the SQLite store, as the shipper uses it.

Invariant: batches and the sequence they bring the store to are one transaction, so that
a record is in the store exactly once, whenever the process dies. Batches are committed
with synchronous=NORMAL, for the journal still has them; `make_durable` and every change
that is not in the journal go with FULL, which syncs the whole WAL.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable
from itertools import chain
from pathlib import Path
from typing import TypeVar

from gateway.core.batch import Batch
from gateway.store import apply
from gateway.store.base import StoreError
from gateway.store.connect import open_snapshot, open_writer

T = TypeVar("T")


class SqliteSink:
    """Implements gateway.journal.sink.Sink for sqlite3. One thread at a time."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self._path = path
        self._connection = connection
        self._dirty = True  # committed and perhaps not on disk
        self._sync_failed = ""
        row = connection.execute("SELECT journal_id, applied_seq FROM meta").fetchall()[0]
        self.journal_id: str = row[0]
        self.applied_seq: int = row[1]

    @classmethod
    def open(cls, path: str | Path) -> SqliteSink:
        """Open or make the store. Raises StoreError, sqlite3.Error."""
        return cls(Path(path), open_writer(Path(path)))

    @property
    def connection(self) -> sqlite3.Connection:
        return self._connection

    def apply(self, batches: Iterable[Batch]) -> int:
        rest = iter(batches)
        first = next(rest, None)
        if first is None:
            return 0  # no transaction for nothing
        seq, events = self._transact(lambda c: self._apply(c, chain((first,), rest)))
        self.applied_seq = seq
        self._dirty = True
        return events

    def _apply(self, connection: sqlite3.Connection, batches: Iterable[Batch]) -> tuple[int, int]:
        """The sequence that the store is brought to, and the number of events."""
        seq, events = self.applied_seq, 0
        sums = apply.Sums()
        for batch in batches:
            if batch.first_seq != seq + 1:
                raise ValueError(f"expected records from {seq + 1}, found {batch.first_seq}")
            apply.apply_rows(connection, batch, sums)
            seq = batch.last_seq
            events += len(batch.events)
        apply.apply_sums(connection, sums)
        moved = connection.execute(
            "UPDATE meta SET applied_seq = ? WHERE applied_seq = ?", (seq, self.applied_seq)
        )
        if moved.rowcount != 1:
            raise StoreError("another process has written to the store: two gateways run on it")
        return seq, events

    def run(self, change: Callable[[sqlite3.Connection], T]) -> T:
        return self._transact_durably(change)

    def snapshot(self) -> sqlite3.Connection:
        return open_snapshot(self._path)

    def make_durable(self) -> None:
        if self._dirty:
            self._transact_durably(
                lambda connection: connection.execute("UPDATE meta SET journal_id = journal_id")
            )
            self._dirty = False

    def close(self) -> None:
        self._connection.close()

    def _transact_durably(self, change: Callable[[sqlite3.Connection], T]) -> T:
        if self._sync_failed:
            raise StoreError(f"an fsync of the store failed: {self._sync_failed}; restart")
        self._connection.execute("PRAGMA synchronous = FULL")
        try:
            return self._transact(change)
        except sqlite3.OperationalError as error:
            # Never again called durable: the kernel may have dropped the pages (fsyncgate).
            # A restart copies the WAL into the database and syncs that before it goes on.
            if error.sqlite_errorcode == sqlite3.SQLITE_IOERR_FSYNC:
                self._sync_failed = str(error)
            raise
        finally:
            self._connection.execute("PRAGMA synchronous = NORMAL")

    def _transact(self, change: Callable[[sqlite3.Connection], T]) -> T:
        connection = self._connection
        connection.execute("BEGIN IMMEDIATE")
        try:
            result = change(connection)
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        return result


def checkpoint(connection: sqlite3.Connection) -> None:
    """Copy the whole WAL into the database and sync it; both files are as small as they get."""
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
