"""The writing side of the PostgreSQL store, as the shipper uses it.

Invariant: as of the SQLite one (gateway/store/sink.py): batches and the sequence that
they bring their journal to are one transaction, guarded by the sequence it was at. So a
record is in the store exactly once, also when the reply to a COMMIT is lost: the next
batch finds out how far the store is. Batches are committed without waiting for the
server's disk, for the journal still has them; `make_durable`, and every change that is
not in the journal, wait for it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from datetime import UTC, datetime
from itertools import chain
from typing import Any, TypeVar

import psycopg

from gateway.core.batch import Batch, Label
from gateway.core.periods import MONTH, SECOND_US
from gateway.store import postgres
from gateway.store.apply import BALANCES, REFUSALS, ROLLUPS, Insert, Sums, rollup_rows, take_apart
from gateway.store.base import StoreError
from gateway.store.checks import JOURNAL_SPAN
from gateway.store.claim import claim
from gateway.store.database import Database, DatabaseError
from gateway.store.postgres import PgDatabase

T = TypeVar("T")

ROWS_PER_INSERT = 500


class PostgresSink:
    """Implements gateway.journal.sink.Sink. One thread at a time."""

    def __init__(self, url: str, journal_id: str, state: str | None = None) -> None:
        """`state`: what a gateway decides with (claim.py). Raises StoreError, DatabaseError."""
        self._url = url
        self.journal_id = journal_id
        self.applied_seq = 0
        self._no = 0
        self._months: set[int] = set()  # those that have partitions
        self._dirty = True
        self._state = state
        self._database = postgres.connect(url)
        self._enter(lambda: postgres.migrate(self._database))

    def _enter(self, first: Callable[[], object] = lambda: None) -> None:
        """Go on with a new connection. Who does not get the claim has none, and makes another."""
        try:
            first()
            if self._state is not None:
                claim(self._database, self._state, self.journal_id)
            self._find_journal()
        except BaseException:
            self._database.close()
            raise

    def _find_journal(self) -> None:
        """How far the store is, which only the store knows."""
        select = "SELECT no, applied_seq FROM journals WHERE journal_id = ?"
        rows = self._database.execute(select, (self.journal_id,)).fetchall()
        if not rows:
            sql = "INSERT INTO journals (journal_id, applied_seq) VALUES (?, 0)"
            self._database.execute(sql, (self.journal_id,))
            rows = self._database.execute(select, (self.journal_id,)).fetchall()
        self._no, self.applied_seq = rows[0]

    @property
    def connection(self) -> Database:
        return self._database

    def apply(self, batches: Iterable[Batch]) -> int:
        self._reconnect()
        rest = iter(batches)
        first = next(rest, None)
        if first is None:
            return 0
        seq, events = self._transact(
            lambda database: self._apply(database, chain((first,), rest)), is_durable=False
        )
        self.applied_seq = seq
        self._dirty = True
        return events

    def _apply(self, database: PgDatabase, batches: Iterable[Batch]) -> tuple[int, int]:
        """The sequence that the store is brought to, and the number of events."""
        lock = "SELECT applied_seq FROM journals WHERE no = ? FOR UPDATE"
        if database.execute(lock, (self._no,)).fetchall() != [(self.applied_seq,)]:
            raise StoreError("another process has written this journal: two gateways have it")
        seq, count = self.applied_seq, 0
        sums = Sums()
        for batch in batches:
            if batch.first_seq != seq + 1:
                raise ValueError(f"expected records from {seq + 1}, found {batch.first_seq}")
            if batch.events:
                self._copy(database, batch, sums)
            sums.count_refused(batch)
            seq = batch.last_seq
            count += len(batch.events)
        _add_sums(database, sums)
        database.execute("UPDATE journals SET applied_seq = ? WHERE no = ?", (seq, self._no))
        return seq, count

    def _copy(self, database: PgDatabase, batch: Batch, sums: Sums) -> None:
        """The batch's events and charges; what they add up to goes to `sums`."""
        _number_labels(database, {row[2] for row in batch.events if not row[2].id})
        charges: list[Any] = []
        events = take_apart(batch.events, charges, sums)
        times = {row[1]: row[4] for row in batch.events}
        months = months_of(times.values()) - self._months
        make_partitions(database, months)
        # Old ones are asked for each time: retention may have dropped them meanwhile.
        self._months = set(sorted(self._months | months)[-2:])
        offset = (self._no - 1) * JOURNAL_SPAN
        events[:: _EVENTS.width] = [seq + offset for seq in events[:: _EVENTS.width]]
        copy_rows(database, _EVENTS, events)
        if charges:
            width = _CHARGES.width - 1  # without the event's time
            seqs, *columns = [charges[n::width] for n in range(width)]
            numbers = [seq + offset for seq in seqs]
            rows = zip(numbers, *columns, [times[seq] for seq in seqs], strict=True)
            copy_rows(database, _CHARGES, list(chain.from_iterable(rows)))

    def run(self, change: Callable[[Database], T]) -> T:
        self._reconnect()
        return self._transact(change, is_durable=True)

    def snapshot(self) -> Database:
        return postgres.open_snapshot(self._url)

    def make_durable(self) -> None:
        if self._dirty:
            # Its commit waits for the server's log, in which the batches stand before it.
            self.run(lambda database: database.execute(_TOUCH, (self._no,)))
            self._dirty = False

    def close(self) -> None:
        self._database.close()

    def _reconnect(self) -> None:
        """After a lost connection; the store may be further than we were told."""
        if not self._database.is_usable:
            self._database.close()
            self._database = postgres.connect(self._url)
            self._enter()

    def _transact(self, change: Callable[[PgDatabase], T], *, is_durable: bool) -> T:
        database = self._database
        mode = "on" if is_durable else "off"
        database.execute("BEGIN")
        try:
            database.execute(f"SET LOCAL synchronous_commit = {mode}")
            result = change(database)
            database.execute("COMMIT")
        except BaseException:
            self._months.clear()  # what was made in this transaction is gone
            roll_back(database)
            raise
        return result


def make_partitions(database: PgDatabase, months: Iterable[int]) -> None:
    """Of the calendar months of UTC that begin at these instants; inside a transaction."""
    for month_us in sorted(months):
        _, end_us = MONTH.span(month_us, 0)
        database.execute("SELECT pg_advisory_xact_lock(?)", (postgres.SCHEMA_LOCK,))
        for table, name in zip(("events", "charges"), partitions_of(month_us), strict=True):
            database.execute(
                f"CREATE TABLE IF NOT EXISTS {name} PARTITION OF {table}"
                f" FOR VALUES FROM ({month_us}) TO ({end_us})"
            )


def months_of(times_us: Collection[int]) -> set[int]:
    """The calendar months of UTC that instants are in, each by its begin."""
    first = MONTH.span(min(times_us), 0)
    if max(times_us) < first.end_us:  # nearly always
        return {first.start_us}
    return {MONTH.span(time_us, 0).start_us for time_us in times_us}


def partitions_of(month_us: int) -> tuple[str, str]:
    """The tables with the events and the charges of a month."""
    name = datetime.fromtimestamp(month_us // SECOND_US, UTC).strftime("%Y_%m")
    return f"events_{name}", f"charges_{name}"


def month_of_partition(name: str) -> int | None:
    """The month of a table that `partitions_of` named; None for any other."""
    try:
        first = datetime.strptime(name, "events_%Y_%m").replace(tzinfo=UTC)
    except ValueError:
        return None
    return int(first.timestamp()) * SECOND_US


_TOUCH = "UPDATE journals SET applied_seq = applied_seq WHERE no = ?"


def roll_back(database: PgDatabase) -> None:
    """Or, where that is not possible, let go of the connection: the server then does it."""
    try:
        if database.in_transaction:
            database.execute("ROLLBACK")
    except DatabaseError:
        database.close()


_ESCAPES = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})


class Columns:
    """What a COPY brings into a table."""

    def __init__(self, table: str, columns: str) -> None:
        """`columns`: names, each with s for a text or d for an integer."""
        pairs = [column.split(":") for column in columns.split()]
        self.head = f"{table} ({', '.join([name for name, _ in pairs])})"
        self.width = len(pairs)
        self.texts = [n for n, (_, kind) in enumerate(pairs) if kind == "s"]
        self.line = "\t".join([f"%{kind}" for _, kind in pairs]) + "\n"


_EVENTS = Columns(
    "events",
    "seq:d account:s label:d id:s time_us:d source:s path:s status:d outcome:s bytes_in:d"
    " bytes_out:d duration_us:d upstream_us:d request_id:s",
)
_CHARGES = Columns("charges", "seq:d n:d meter:s amount:d period_us:d lot:s time_us:d")


def copy_rows(database: PgDatabase, columns: Columns, values: list[Any]) -> None:
    """Add the rows that stand one after the other in `values`; texts in it may be changed.

    All in one format, with a fifth of what the driver takes for it value by value.
    """
    rows, width = len(values) // columns.width, columns.width
    text = columns.line * rows % tuple(values)
    is_plain = "\\" not in text and "\r" not in text
    if not is_plain or text.count("\n") != rows or text.count("\t") != rows * (width - 1):
        for n in columns.texts:
            values[n::width] = [value.translate(_ESCAPES) for value in values[n::width]]
        text = columns.line * rows % tuple(values)
    with copying(database, columns.head) as copy:
        copy.write(text)


class copying:
    """A COPY whose failures are DatabaseErrors."""

    def __init__(self, database: PgDatabase, table: str) -> None:
        self._manager = database.connection.cursor().copy(f"COPY {table} FROM STDIN".encode())

    def __enter__(self) -> psycopg.Copy:
        try:
            return self._manager.__enter__()
        except psycopg.Error as error:
            raise DatabaseError(str(error)) from error

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        try:
            self._manager.__exit__(kind, error, trace)
        except psycopg.Error as failed:
            raise DatabaseError(str(failed)) from failed
        if isinstance(error, psycopg.Error):
            raise DatabaseError(str(error)) from error


def _number_labels(database: PgDatabase, labels: set[Label]) -> None:
    """Give each label its number, in one order, so that two writers do not wait for each other."""
    for part in _parts(sorted(labels, key=lambda label: label.values)):
        row = f"({', '.join('?' * len(part[0].values))})"
        names = ", ".join(part[0].values._fields)
        # A row that is there is not touched: an update of it would make each writer wait.
        sql = f"INSERT INTO labels ({names}) VALUES {', '.join([row] * len(part))}"
        values = [value for label in part for value in label.values]
        database.execute(f"{sql} ON CONFLICT DO NOTHING", values)
        found = database.execute(
            f"SELECT id, {names} FROM labels WHERE ({names}) IN ({', '.join([row] * len(part))})",
            values,
        ).fetchall()
        numbers = {tuple(texts): number for number, *texts in found}
        for label in part:
            label.id = numbers[tuple(label.values)]


def _add_sums(database: PgDatabase, sums: Sums) -> None:
    """Sorted by their keys: two writers take the rows' locks in one order."""
    used = dict(sums.lots)
    values = rollup_rows(sorted(sums.cells.items()), sums.accounts, used)
    width = ROLLUPS.columns
    rollups = [values[n : n + width] for n in range(0, len(values), width)]
    _insert(database, ROLLUPS, rollups)
    _insert(database, BALANCES, [[*key, n] for key, n in sorted(used.items()) if n])
    _insert(database, REFUSALS, [[*key, n] for key, n in sorted(sums.refusals.items())])


def _insert(database: PgDatabase, statement: Insert, rows: list[list[Any]]) -> None:
    for part in _parts(rows):
        database.execute(statement.of(len(part)), [value for row in part for value in row])


def _parts(rows: list[T]) -> Iterator[list[T]]:
    for at in range(0, len(rows), ROWS_PER_INSERT):
        yield rows[at : at + ROWS_PER_INSERT]
