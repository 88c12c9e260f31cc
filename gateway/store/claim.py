"""Which gateways may decide beside each other on one PostgreSQL database?

Those that share a state, and no others: each would hand out the whole of every budget.
Invariant: a gateway holds an advisory lock of two numbers as long as it is connected, the
first of the schema, the second of what it decides with. It takes its own first and looks
for others then, so of two that start at once one sees the other.
"""

from __future__ import annotations

import hashlib
import random
import time

from gateway.store.base import ALONE, StoreError
from gateway.store.postgres import PgDatabase

WAIT_S = 3.0  # for the server to notice that a gateway which was killed is gone
LOOK_S = (0.05, 0.25)  # not the same for two that wait for each other
UNKNOWN = 0  # of a gateway that could not ask its state who it is
ALONE_BIT = 1 << 31


class Claimed(StoreError):
    """Another gateway decides on this database with a state of its own."""


def claim(database: PgDatabase, state: str, journal_id: str) -> None:
    """Hold it until the connection ends. Raises Claimed, DatabaseError.

    `state`: the id of a shared one, "" when it is not known, or ALONE.
    """
    schema = database.execute("SELECT current_schema()").fetchall()[0][0]
    first, second = _number(f"tallygate gateway {schema}"), _second(state, journal_id)
    lock = (_signed(first), _signed(second))
    give_up_s = time.monotonic() + WAIT_S
    while True:
        database.execute("SELECT pg_advisory_lock_shared(?, ?)", lock)
        found = database.execute(_HELD, (first,)).fetchall()
        others = [row[1:] for row in found if not _agree(second, row[0])]
        if not others:
            return
        database.execute("SELECT pg_advisory_unlock_shared(?, ?)", lock)
        if time.monotonic() > give_up_s:
            raise Claimed(_sentence(*others[0]))
        time.sleep(random.uniform(*LOOK_S))


def _second(state: str, journal_id: str) -> int:
    """One that decides alone is only itself, also where its last connection is still there."""
    if state == ALONE:
        return _number(journal_id) | ALONE_BIT
    return (_number(state) % (ALONE_BIT - 1)) + 1 if state else UNKNOWN


def _agree(one: int, other: int) -> bool:
    is_shared = not (one | other) & ALONE_BIT
    return one == other or (is_shared and UNKNOWN in (one, other))


def _number(name: str) -> int:
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:4])


def _signed(number: int) -> int:
    """As PostgreSQL's INTEGER; pg_locks shows it without a sign."""
    return number - (1 << 32) if number & ALONE_BIT else number


def _sentence(pid: int, address: str) -> str:
    return (
        "store.url: another gateway that does not share this state uses the database"
        f" (process {pid} of the server, from {address}): give both the same state.url and"
        " state.prefix, or stop it"
    )


# What has two numbers is marked with 2.
_HELD = """
    SELECT l.objid::bigint, l.pid, coalesce(host(a.client_addr), 'its own machine')
    FROM pg_locks l LEFT JOIN pg_stat_activity a ON a.pid = l.pid
    WHERE l.locktype = 'advisory' AND l.objsubid = 2 AND l.granted
    AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
    AND l.classid::bigint = ? ORDER BY l.pid
"""
