"""A store with a past: many keys or many events, written by SQL in a minute.

Invariant: what is written is what the gateway itself would have left behind, sums
included, so that `tallygate audit` finds nothing. Written past `gateway.store`,
which would take minutes for ten million events; the schema is the store's own. No
gateway may run on the store meanwhile.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from gateway.core.identity import format_key
from gateway.store.connect import open_writer

KEYS_PER_ACCOUNT = 10
EVENT_ACCOUNTS = 1_000
EVENT_DAYS = 60
OPERATIONS = 10
MONDAY_US = 1_767_571_200_000_000  # 2026-01-05, the anchor of all accounts here
WEEK_US = 7 * 86_400_000_000
HOUR_US = 3_600_000_000


def write_keys(database: Path, count: int, usable: int) -> list[str]:
    """Put `count` keys of count/10 accounts into the store; returns `usable` of them.

    The usable ones lie anywhere among the others. Of these the secret is not
    made at all: only its SHA-256 is kept anyway, and any 32 bytes look alike.
    """
    source = random.Random(count)
    chosen = sorted(source.sample(range(count), min(usable, count)))
    keys = {n: format_key("test", hashlib.sha256(b"key %d" % n).digest()) for n in chosen}
    rows = []
    for n in range(count):
        key = keys.get(n)
        digest = hashlib.sha256(key.encode()).digest() if key else source.randbytes(32)
        rows.append((digest, f"key_{n}", f"account_{n // KEYS_PER_ACCOUNT}"))
    rows.sort()
    with _bulk(database) as db:
        db.executemany(
            "INSERT INTO accounts (id, plan, anchor_us, title, disabled, created_us)"
            " VALUES (?, 'bench', ?, '', 0, ?)",
            ((f"account_{n}", MONDAY_US, MONDAY_US) for n in range(-(-count // KEYS_PER_ACCOUNT))),
        )
        db.executemany(
            "INSERT INTO keys (digest, id, account, user, project, name, hint, created_us)"
            f" VALUES (?, ?, ?, 'user', 'project', '', 'tg_test_…', {MONDAY_US})",
            rows,
        )
    used = list(keys.values())
    source.shuffle(used)
    return used


def write_events(database: Path, count: int, now_us: int) -> None:
    """Put `count` events of 1,000 accounts and the last 60 days into the store.

    They have negative numbers, oldest first, so that they never meet those of the journal.
    """
    step_us = EVENT_DAYS * 86_400_000_000 // count
    first_us = now_us - count * step_us
    with _bulk(database) as db:
        db.execute("DROP INDEX events_by_account")
        db.execute(_ACCOUNTS, {"accounts": EVENT_ACCOUNTS, "anchor": MONDAY_US})
        names = {"accounts": EVENT_ACCOUNTS, "operations": OPERATIONS}
        db.execute(_LABELS, names)
        db.execute(_EVENTS, {**names, "count": count, "first": first_us, "step": step_us})
        spans = {"anchor": MONDAY_US, "week": WEEK_US}
        db.execute(_CHARGES, spans)
        db.execute(_ROLLUPS, {**spans, "hour": HOUR_US})
        db.execute(_BALANCES)
        db.execute("CREATE INDEX events_by_account ON events (account, time_us)")


def forget_pages(database: Path) -> None:
    """Take the files out of the page cache, so that the next start reads the disk."""
    for path in database.parent.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


@contextlib.contextmanager
def _bulk(database: Path) -> Iterator[sqlite3.Connection]:
    """One transaction without regard to crashes; the journal mode is left as it was."""
    open_writer(database).close()  # makes the store and its schema where there is none
    db = sqlite3.connect(database, isolation_level=None)
    try:
        db.execute("PRAGMA synchronous = OFF")
        db.execute("PRAGMA journal_mode = OFF")
        db.execute("PRAGMA cache_size = -500000")
        db.execute("PRAGMA temp_store = MEMORY")
        db.execute("BEGIN IMMEDIATE")
        yield db
        db.execute("COMMIT")
        db.execute("PRAGMA journal_mode = WAL")
    finally:
        db.close()


_ACCOUNTS = """
WITH RECURSIVE number (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM number WHERE n + 1 < :accounts)
INSERT INTO accounts (id, plan, anchor_us, title, disabled, created_us)
SELECT 'past_' || n, 'bench', :anchor, '', 0, :anchor FROM number
"""

_LABELS = """
INSERT INTO labels (id, account, user, project, key_id, caller, service, operation, route,
                    method, book)
WITH RECURSIVE number (n) AS
    (SELECT 0 UNION ALL SELECT n + 1 FROM number WHERE n + 1 < :accounts * :operations)
SELECT n + 1, 'past_' || (n / :operations), 'user', 'project', 'past_key_' || (n / :operations),
       'api_key', 'backend', 'operation ' || (n % :operations), 'route-' || (n % :operations),
       'GET', '000000000000'
FROM number
"""

_EVENTS = """
INSERT INTO events (seq, account, label, id, time_us, source, path, status, outcome, bytes_in,
                    bytes_out, duration_us, upstream_us, request_id)
WITH RECURSIVE number (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM number WHERE n + 1 < :count),
     numbered (n, time_us, account, operation) AS
    (SELECT n, :first + n * :step, n * 7919 % :accounts, n / :accounts % :operations FROM number)
SELECT n - :count, 'past_' || account, account * :operations + operation + 1,
       printf('%08x-%04x-7000-8000-%012x', time_us / 65536000, time_us / 1000 & 65535, n),
       time_us, '127.0.0.1', '/api/v1/resource-' || operation || '/42', 200, 'charged',
       0, 316, 900, 700, ''
FROM numbered
"""

_PERIOD = "time_us - (time_us - :anchor) % :week"

_CHARGES = f"""
INSERT INTO charges (seq, n, meter, amount, period_us)
SELECT seq, 0, 'coins', 1, {_PERIOD} FROM events WHERE seq < 0
"""

_ROLLUPS = f"""
INSERT INTO rollups (label, meter, period_us, hour_us, outcome, requests, events, amount)
SELECT label, 'coins', {_PERIOD}, time_us - time_us % :hour, outcome, count(*), count(*), count(*)
FROM events WHERE seq < 0 GROUP BY 1, 3, 4, 5
"""

_BALANCES = """
INSERT INTO balances (account, meter, period_us, lot, used)
SELECT account, meter, period_us, '', sum(amount)
FROM rollups JOIN labels ON labels.id = rollups.label GROUP BY 1, 2, 3
"""
