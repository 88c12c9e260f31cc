"""The audit's SQL: are the sums what the events say?

Everything is recomputed from events and charges through one connection that sees one
moment (SqliteSink.snapshot), in slices of the sequence, so that memory follows the
number of sums and not of events. Must not use what it checks to compute what it expects.
"""

from __future__ import annotations

import sqlite3
from typing import NamedTuple

from gateway.core.periods import HOUR_US

SLICE = 100_000  # records per statement: some 100 ms, without the interpreter lock
DIFFERENCES_MAX = 100  # of each kind; more would say nothing new


class Difference(NamedTuple):
    """Something that does not add up: in which table, which row, expected and found."""

    table: str
    row: str
    expected: int
    found: int


class Counts(NamedTuple):
    seq: int  # applied, and so checked, up to here
    events: int
    charges: int
    rollups: int
    balances: int


def recount(connection: sqlite3.Connection) -> Counts:
    """Compute the sums anew into temporary tables; how many rows there were."""
    for statement in _TEMPORARY:
        connection.execute(statement)
    low, top = connection.execute(_SPAN).fetchall()[0]
    for first in range(low, top + 1, SLICE):
        connection.execute(_RECOUNT_ROLLUPS, (first, first + SLICE - 1))
        connection.execute(_RECOUNT_BALANCES, (first, first + SLICE - 1))
    return Counts(*connection.execute(_COUNTS).fetchall()[0])


def differences(connection: sqlite3.Connection) -> list[Difference]:
    """After `recount`: what the stored sums say otherwise, and what stands alone."""
    found: list[Difference] = []
    for table, sql in _CHECKS:
        rows = connection.execute(f"{sql} LIMIT {DIFFERENCES_MAX}").fetchall()
        found += [Difference(table, *row) for row in rows]
    return found


def expected_balances(connection: sqlite3.Connection) -> dict[tuple[str, str, int], int]:
    """After `recount`: used by (account, meter, period_us), from events and charges alone."""
    rows = connection.execute("SELECT account, meter, period_us, used FROM temp.used").fetchall()
    return {(account, meter, period_us): used for account, meter, period_us, used in rows}


def topped_up(connection: sqlite3.Connection) -> dict[tuple[str, str, int], int]:
    sql = "SELECT account, meter, period_us, sum(amount) FROM topups GROUP BY 1, 2, 3"
    return {(a, m, p): amount for a, m, p, amount in connection.execute(sql).fetchall()}


_TEMPORARY = (
    "DROP TABLE IF EXISTS temp.sums",
    "DROP TABLE IF EXISTS temp.used",
    "CREATE TABLE temp.sums (label, meter, period_us, hour_us, outcome, requests, events, amount,"
    " PRIMARY KEY (label, meter, period_us, hour_us, outcome)) WITHOUT ROWID",
    "CREATE TABLE temp.used (account, meter, period_us, used,"
    " PRIMARY KEY (account, meter, period_us)) WITHOUT ROWID",
)
_SPAN = """
    SELECT min(low), max(top) FROM (
        SELECT coalesce(min(seq), 0) AS low, coalesce(max(seq), 0) AS top FROM events
        UNION ALL
        SELECT coalesce(min(seq), 0), coalesce(max(seq), 0) FROM charges
    )
"""
_RECOUNT_ROLLUPS = f"""
    INSERT INTO temp.sums
    SELECT e.label, coalesce(c.meter, ''), coalesce(c.period_us, 0),
           e.time_us - e.time_us % {HOUR_US}, e.outcome,
           sum(coalesce(c.n, 0) = 0), count(c.seq), coalesce(sum(c.amount), 0)
    FROM events e LEFT JOIN charges c ON c.seq = e.seq
    WHERE e.seq BETWEEN ? AND ? GROUP BY 1, 2, 3, 4, 5
    ON CONFLICT DO UPDATE SET requests = requests + excluded.requests,
        events = events + excluded.events, amount = amount + excluded.amount
"""
_RECOUNT_BALANCES = """
    INSERT INTO temp.used
    SELECT e.account, c.meter, c.period_us, sum(c.amount)
    FROM charges c JOIN events e ON e.seq = c.seq
    WHERE c.seq BETWEEN ? AND ? GROUP BY 1, 2, 3
    ON CONFLICT DO UPDATE SET used = used + excluded.used
"""
_COUNTS = """
    SELECT (SELECT applied_seq FROM meta), (SELECT count(*) FROM events),
           (SELECT count(*) FROM charges), (SELECT count(*) FROM rollups),
           (SELECT count(*) FROM balances)
"""


def _compare(stored: str, again: str, keys: str, column: str) -> str:
    """Rows of either table whose `column` is not the other's; a missing row counts as NULL."""
    key = " || '/' || ".join(keys.split())
    named = ", ".join(keys.split())
    return f"""
        SELECT {key} || ' {column}', sum(expected), sum(found) FROM (
            SELECT {named}, {column} AS expected, 0 AS found, 1 AS e, 0 AS f FROM {again}
            UNION ALL
            SELECT {named}, 0, {column}, 0, 1 FROM {stored}
        ) GROUP BY {named} HAVING sum(expected) != sum(found) OR sum(e) != sum(f)
    """


_ROLLUP_KEYS = "label meter period_us hour_us outcome"
_BALANCE_KEYS = "account meter period_us"
_CHECKS = (
    *(
        ("rollups", _compare("main.rollups", "temp.sums", _ROLLUP_KEYS, column))
        for column in ("requests", "events", "amount")
    ),
    ("balances", _compare("main.balances", "temp.used", _BALANCE_KEYS, "used")),
    (
        "charges",
        "SELECT 'no event for charge ' || c.seq, 0, 1 FROM charges c"
        " WHERE NOT EXISTS (SELECT 1 FROM events e WHERE e.seq = c.seq)",
    ),
    (
        "labels",
        "SELECT 'no such label for event ' || e.seq, 1, 0 FROM events e WHERE NOT EXISTS"
        " (SELECT 1 FROM labels l WHERE l.id = e.label AND l.account = e.account)",
    ),
    (
        "meta",
        "SELECT 'applied_seq', top, applied_seq FROM meta, (SELECT max(seq) AS top FROM events)"
        " WHERE top > applied_seq",
    ),
    (
        "charges",
        "SELECT 'negative amount of charge ' || seq, 0, amount FROM charges WHERE amount < 0",
    ),
)
