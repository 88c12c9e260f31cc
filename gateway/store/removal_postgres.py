"""Removing a month from PostgreSQL: its partitions are emptied, and then dropped.

Invariant: what is emptied is what was counted, for nobody can add to the month from the
count on. Who writes or reads other months does not wait for that; dropping a partition
needs the whole table for a moment, is asked for LOCK_TIMEOUT_MS at a time, and is left for
the next time when it is not granted.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TypeVar

from psycopg import errors

from gateway.core.periods import MONTH, Span
from gateway.store import postgres
from gateway.store.database import Database, DatabaseError
from gateway.store.postgres_sink import month_of_partition, partitions_of, roll_back
from gateway.store.removal import (
    EVER,
    Outcome,
    Removal,
    Rows,
    add_sums_sql,
    insert_removal,
    removed_until_us,
)

T = TypeVar("T")

# Who reads or writes meanwhile waits as long behind us; below PostgreSQL's own second for
# deadlocks, so that it is we who give way.
LOCK_TIMEOUT_MS = 800
TRIES = 5
TURN_LOCK = postgres.SCHEMA_LOCK + 1  # one process removes at a time
STATEMENT_TIMEOUT_S = 1800  # of one that sums a month; only late events of it wait


class PostgresRemover:
    """Implements gateway.store.removal.Remover."""

    def __init__(self, url: str) -> None:
        """Raises DatabaseError."""
        application = "tallygate retention"
        self._database = postgres.connect(url, STATEMENT_TIMEOUT_S, application)

    @property
    def store_id(self) -> str:
        sql = "SELECT journal_id FROM journals ORDER BY no LIMIT 1"
        rows = self._database.execute(sql).fetchall()
        return str(rows[0][0]) if rows else ""

    @property
    def connection(self) -> Database:
        return self._database

    def take_turn(self) -> bool:
        sql = "SELECT pg_try_advisory_lock(?)"
        return bool(self._database.execute(sql, (TURN_LOCK,)).fetchall()[0][0])

    def top_seq(self) -> int:
        return EVER  # each journal has sequences of its own: the count has to tell

    def charges_of(self, span: Span, seqs: str) -> Rows:
        return self._database.execute(_CHARGES, (*span, seqs)).fetchall()

    def remove(self, removal: Removal, rest: Callable[[], None]) -> Outcome:
        tables = partitions_of(removal.month_us)
        for _ in range(TRIES):
            try:
                return self._transact(lambda: self._empty(removal, *tables))
            except _Busy:
                rest()
        return "busy"

    def _empty(self, removal: Removal, events: str, charges: str) -> Outcome:
        """Note the sums, and empty both partitions, unless they have more than was counted."""
        database = self._database
        # Late events of the month wait; who reads does not.
        database.execute(f"LOCK TABLE {events}, {charges} IN SHARE MODE")
        counted = f"SELECT (SELECT count(*) FROM {events}), (SELECT count(*) FROM {charges})"
        if database.execute(counted).fetchall() != [(removal.events, removal.charges)]:
            return "changed"
        database.execute(add_sums_sql(events, charges, "true", "greatest"))
        database.execute(f"TRUNCATE {events}, {charges}")
        insert_removal(database, removal)
        return "removed"

    def resume(self, rest: Callable[[], None]) -> list[Removal]:
        return []  # a month goes in one transaction

    def tidy(self, before_us: int) -> None:
        """Drop the partitions of removed months that are empty."""
        until_us = removed_until_us(self._database) or 0
        names = self._database.execute(_PARTITIONS).fetchall()
        months = {month_of_partition(name) for (name,) in names}
        for month_us in sorted(month for month in months if month is not None):
            if MONTH.span(month_us, 0).end_us <= min(before_us, until_us):
                try:
                    self._transact(partial(self._drop, *partitions_of(month_us)))
                except _Busy:
                    return  # the next time

    def _drop(self, events: str, charges: str) -> None:
        database = self._database
        # A writer that makes the partition anew comes before or after.
        database.execute("SELECT pg_advisory_xact_lock(?)", (postgres.SCHEMA_LOCK,))
        database.execute(f"LOCK TABLE {events}, {charges} IN SHARE MODE")
        has_rows = f"SELECT EXISTS (SELECT 1 FROM {events}) OR EXISTS (SELECT 1 FROM {charges})"
        if not database.execute(has_rows).fetchall()[0][0]:
            database.execute(f"DROP TABLE {events}, {charges}")

    def _transact(self, work: Callable[[], T]) -> T:
        """Raises _Busy when a lock was not to be had in time."""
        database = self._database
        database.execute("BEGIN")
        try:
            database.execute("SET LOCAL synchronous_commit = on")
            database.execute(f"SET LOCAL lock_timeout = {LOCK_TIMEOUT_MS}")
            result = work()
            database.execute("COMMIT")
        except DatabaseError as error:
            roll_back(database)
            if isinstance(error.__cause__, errors.LockNotAvailable | errors.DeadlockDetected):
                raise _Busy from error
            raise
        except BaseException:
            roll_back(database)
            raise
        return result

    def close(self) -> None:
        self._database.close()


class _Busy(Exception):
    """Somebody reads or writes what is to be locked."""


_CHARGES = """
    SELECT seq, n, meter, amount, period_us, lot FROM charges
    WHERE time_us >= ? AND time_us < ?
    AND seq IN (SELECT value FROM json_each(?)) ORDER BY seq, n
"""
_PARTITIONS = """
    SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
    WHERE i.inhparent = to_regclass('events')
"""
