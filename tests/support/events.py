"""Reading the metered events from the store, past the product's own code.

The tests look at the SQLite file, or the PostgreSQL database, itself, so that an event
counts only when it is really there.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gateway.store import postgres
from gateway.store.database import Database, DatabaseError
from tests.support.stores import settings_of

_EVENTS = """
    SELECT e.seq, e.id, e.time_us, e.account, l.user, l.project, l.caller, e.source, l.service,
           l.operation, l.route, l.method, e.path, e.status, e.outcome, e.bytes_in, e.bytes_out,
           e.duration_us, CASE e.request_id WHEN '' THEN e.id ELSE e.request_id END AS request_id
    FROM events e JOIN labels l ON l.id = e.label
"""


_NAMES = (
    *("seq", "id", "time_us", "account", "user", "project", "caller", "source", "service"),
    *("operation", "route", "method", "path", "status", "outcome", "bytes_in", "bytes_out"),
    *("duration_us", "request_id"),
)


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """What the tests ask of an event; `charges` is amount by meter."""

    id: str
    time_us: int
    account: str
    user: str
    project: str
    caller: str
    source: str
    service: str
    operation: str
    route: str
    method: str
    path: str
    status: int
    outcome: str
    charges: dict[str, int]
    bytes_in: int
    bytes_out: int
    duration_us: int
    request_id: str


def read_events(data_dir: Path, **match: object) -> list[StoredEvent]:
    """Events whose fields have these values, oldest first; none before the store exists."""
    database = _open(data_dir)
    if database is None:
        return []
    where = " AND ".join(f'"{name}" = ?' for name in match) or "1 = 1"
    values = list(match.values())
    try:
        database.execute("BEGIN")  # events and charges of one moment
        query = f"SELECT * FROM ({_EVENTS}) AS found WHERE {where} ORDER BY time_us, seq"
        rows = [dict(zip(_NAMES, row, strict=True)) for row in database.execute(query, values)]
        charges: dict[int, dict[str, int]] = {}
        of_them = f"SELECT seq FROM ({_EVENTS}) AS found WHERE {where}"
        query = f"SELECT seq, meter, amount FROM charges WHERE seq IN ({of_them})"
        for seq, meter, amount in database.execute(query, values):
            charges.setdefault(seq, {})[meter] = amount
        return [_event(row, charges.get(row["seq"], {})) for row in rows]
    except (sqlite3.OperationalError, DatabaseError) as error:
        if "no such table" in str(error) or "does not exist" in str(error):
            return []
        raise
    finally:
        database.close()


def _open(data_dir: Path) -> Database | None:
    """None where there is no store yet."""
    url = settings_of(data_dir).url
    if url:
        database = postgres.connect(url, application="test")
        database.execute("SET default_transaction_isolation = 'repeatable read'")
        return database
    path = data_dir / "tallygate.db"
    if not path.exists():
        return None
    return sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=10)


def _event(row: dict[str, Any], charges: dict[str, int]) -> StoredEvent:
    fields = {name: row[name] for name in StoredEvent.__slots__ if name != "charges"}
    return StoredEvent(charges=charges, **fields)
