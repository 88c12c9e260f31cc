"""Removing events from SQLite, a little at a time, through the store's one writer.

Invariant: once a removal is noted, its archive has everything of the month up to its
sequence; so a removal that a crash has cut short is only gone on with. The pages that
become free are used for new events; the file does not become smaller by itself.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from gateway.core.periods import MONTH, Span
from gateway.store.connect import open_reader
from gateway.store.database import Database
from gateway.store.removal import (
    SEQ_AT,
    Outcome,
    Removal,
    Rows,
    add_sums_sql,
    event_pages,
    insert_removal,
    removals,
)

T = TypeVar("T")
# Runs a change with the writing connection, in a transaction of its own.
Run = Callable[[Callable[[Database], Any]], Any]

DELETE_EVENTS = 500  # in one transaction: some 50 ms, mostly its fsync, with nothing shipped


class SqliteRemover:
    """Implements gateway.store.removal.Remover. `run` is the one writer's."""

    def __init__(self, path: Path, run: Run) -> None:
        """Raises StoreError."""
        self._run = run
        self._reader: sqlite3.Connection = open_reader(path)

    @property
    def store_id(self) -> str:
        sql = "SELECT journal_id FROM meta"
        return str(self._reader.execute(sql).fetchall()[0][0])

    @property
    def connection(self) -> Database:
        return self._reader

    def take_turn(self) -> bool:
        return True  # whoever has the writer has the lock of the data directory

    def top_seq(self) -> int:
        top: int = self._reader.execute("SELECT applied_seq FROM meta").fetchall()[0][0]
        return top

    def charges_of(self, span: Span, seqs: str) -> Rows:
        return self._reader.execute(_CHARGES, (seqs,)).fetchall()

    def remove(self, removal: Removal, rest: Callable[[], None]) -> Outcome:
        self._run(lambda connection: insert_removal(connection, removal._replace(is_done=0)))
        self._delete(removal, rest)
        return "removed"

    def resume(self, rest: Callable[[], None]) -> list[Removal]:
        found = [removal for removal in removals(self._reader) if not removal.is_done]
        for removal in found:
            self._delete(removal, rest)
        return found

    def tidy(self, before_us: int) -> None:
        """Nothing: free pages are used again."""

    def close(self) -> None:
        self._reader.close()

    def _delete(self, removal: Removal, rest: Callable[[], None]) -> None:
        for seqs in self._parts(removal):
            self._run(partial(_delete_part, seqs))
            rest()
        key = (removal.month_us, removal.part)
        self._run(lambda connection: connection.execute(_DONE, key))

    def _parts(self, removal: Removal) -> Iterator[str]:
        """What is still there of a removal: JSON lists of sequences."""
        part: list[int] = []
        span = MONTH.span(removal.month_us, 0)
        for rows in event_pages(self._reader, _PLACES, span, removal.top_seq):
            part += [row[SEQ_AT] for row in rows]
            while len(part) >= DELETE_EVENTS:
                yield str(part[:DELETE_EVENTS])
                part = part[DELETE_EVENTS:]
        if part:
            yield str(part)


def _delete_part(seqs: str, connection: Database) -> None:
    """What is there of them, so that it may be done twice."""
    connection.execute(_ADD_SUMS, (seqs,))
    for table in ("charges", "events"):
        connection.execute(f"DELETE FROM {table} WHERE {_CHOSEN}", (seqs,))


_CHOSEN = "seq IN (SELECT value FROM json_each(?1))"
_ADD_SUMS = add_sums_sql("events", "charges", f"e.{_CHOSEN}", "max")
# With its label, as the archive has it: an event without one is a case for the audit.
_PLACES = "SELECT e.seq, l.id, e.time_us FROM events e JOIN labels l ON l.id = e.label"
_CHARGES = (
    f"SELECT seq, n, meter, amount, period_us, lot FROM charges WHERE {_CHOSEN} ORDER BY 1, 2"
)
_DONE = "UPDATE removals SET is_done = 1 WHERE month_us = ? AND part = ?"
