"""From a SQLite store to an empty PostgreSQL database: everything, in one transaction.

Invariant: either all rows are there, and the journal goes on where the SQLite store was,
or none is. Must run while no gateway does.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from typing import Any

from gateway.core.periods import MONTH
from gateway.store import postgres
from gateway.store.base import StoreError
from gateway.store.database import Database
from gateway.store.postgres import PgDatabase
from gateway.store.postgres_sink import copying, make_partitions

ROWS_PER_READ = 10_000
# What PostgreSQL numbers by itself goes on behind the copied rows.
_NUMBERED = ("labels", "audit_log")
_TABLES: dict[str, str] = {
    "accounts": "id, plan, anchor_us, title, disabled, created_us, terms",
    "keys": 'digest, id, account, "user", project, name, hint, created_us, expires_us,'
    " revoked_us, routes, networks",
    "labels": 'id, account, "user", project, key_id, caller, service, operation, route, method,'
    " book",
    "events": "seq, account, label, id, time_us, source, path, status, outcome, bytes_in,"
    " bytes_out, duration_us, upstream_us, request_id",
    "charges": "seq, n, meter, amount, period_us, lot, time_us",
    "rollups": "label, meter, period_us, hour_us, outcome, requests, events, amount",
    "refusals": "account, hour_us, route, operation, reason, count",
    "balances": "account, meter, period_us, lot, used",
    "ledger": "id, account, meter, kind, lot, period_us, amount, starts_us, expires_us,"
    " priority, every, price_micro, reason, actor, time_us",
    "members": 'account, "user", role',
    "account_versions": "account, from_us, document",
    "plans_versions": "from_us, book, document",
    "meters": "name, decimals",
    "limit_state": "limit_id, subject, a, b, expires_us",
    "audit_log": "id, time_us, actor, action, subject, detail",
    "removals": "month_us, part, archive, top_seq, events, charges, removed_us, is_done",
    "removed_sums": "label, meter, period_us, from_us, outcome, lot, requests, events, amount",
}
# Charges live in the month of their event.
_CHARGES = (
    "SELECT c.seq, c.n, c.meter, c.amount, c.period_us, c.lot, e.time_us"
    " FROM charges c JOIN events e ON e.seq = c.seq"
)


def copy_store(
    source: Database, url: str, tell: Callable[[str, int], None] = lambda table, rows: None
) -> str:
    """Copy everything; the journal's id, by which the database knows the gateway.

    `tell` hears of each table and its rows. Raises StoreError, DatabaseError, sqlite3.Error.
    """
    _refuse_unfinished(source)
    target = postgres.connect(url, statement_timeout_s=3600, application="tallygate copy")
    try:
        postgres.migrate(target)
        target.execute("BEGIN")
        _refuse_used(target)
        journal_id, applied_seq = source.execute(
            "SELECT journal_id, applied_seq FROM meta"
        ).fetchall()[0]
        target.execute(
            "INSERT INTO journals (journal_id, applied_seq) VALUES (?, ?)",
            (journal_id, applied_seq),
        )
        _make_months(source, target)
        for table, columns in _TABLES.items():
            tell(table, _copy_table(source, target, table, columns))
        for table in _NUMBERED:
            target.execute(
                f"SELECT setval(pg_get_serial_sequence('{table}', 'id'),"
                f" (SELECT coalesce(max(id), 0) + 1 FROM {table}), false)"
            )
        target.execute("COMMIT")
        target.execute("ANALYZE")
    finally:
        target.close()  # without a COMMIT nothing is there
    return str(journal_id)


def _refuse_unfinished(source: Database) -> None:
    """Of a month that is half removed the rest is in the archive already."""
    if source.execute("SELECT count(*) FROM removals WHERE is_done = 0").fetchall() != [(0,)]:
        text = "expected no month that is half removed, found one: run `tallygate retain` first"
        raise StoreError(text)


def _refuse_used(target: PgDatabase) -> None:
    for table in ("journals", *_TABLES):
        if target.execute(f"SELECT EXISTS (SELECT 1 FROM {table})").fetchall()[0][0]:
            raise StoreError(f"expected an empty database, found rows in {table}")


def _make_months(source: Database, target: PgDatabase) -> None:
    """A partition for each month that has events."""
    sql = "SELECT min(time_us), max(time_us) FROM events"
    first_us, last_us = source.execute(sql).fetchall()[0]
    months = []
    at_us = first_us
    while at_us is not None and at_us <= last_us:
        span = MONTH.span(at_us, 0)
        months.append(span.start_us)
        at_us = span.end_us
    make_partitions(target, months)


def _copy_table(source: Database, target: PgDatabase, table: str, columns: str) -> int:
    count = 0
    sql = _CHARGES if table == "charges" else f"SELECT {columns} FROM {table}"
    with copying(target, f"{table} ({columns})") as copy:
        for row in _rows(source, sql):
            copy.write_row(row)
            count += 1
    return count


def _rows(source: Database, sql: str) -> Iterator[tuple[Any, ...]]:
    """Read in parts: a table may be larger than memory."""
    assert isinstance(source, sqlite3.Connection), "the store that is left is SQLite's"
    cursor = source.execute(sql)
    while rows := cursor.fetchmany(ROWS_PER_READ):
        yield from rows
