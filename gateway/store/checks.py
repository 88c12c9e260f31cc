"""The audit's SQL: are the sums what the events say?

Everything is recomputed from events and charges through one connection that sees one
moment (SqliteSink.snapshot), in slices of the sequence, so that memory follows the
number of sums and not of events. What removed events added up to was noted when they were
removed, from themselves, and is added. Must not use what it checks to compute what it
expects.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from gateway.core.periods import HOUR_US
from gateway.store.database import Database

# Sequences of one journal. SQLite has one journal, numbered from 1; in PostgreSQL each writer has
# its own, and the n-th begins at (n - 1) * JOURNAL_SPAN.
JOURNAL_SPAN = 1 << 44
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


def recount(connection: Database) -> Counts:
    """Compute the sums anew into temporary tables; how many rows there were."""
    for statement in _TEMPORARY:
        connection.execute(statement)
    for span in _slices(connection):
        connection.execute(_RECOUNT_ROLLUPS, span)
        connection.execute(_RECOUNT_BALANCES, span)
    connection.execute(_RECOUNT_REMOVED_ROLLUPS)
    connection.execute(_RECOUNT_REMOVED_BALANCES)
    connection.execute("DELETE FROM temp.used WHERE used = 0")  # nothing taken, no row
    return Counts(*connection.execute(_COUNTS).fetchall()[0])


def _slices(connection: Database) -> Iterator[tuple[int, int]]:
    """Spans of sequences that have all of the events; each journal has a range of its own."""
    top = -(1 << 62)
    while True:
        low = connection.execute(_NEXT, (top,)).fetchall()[0][0]
        if low is None:
            return
        end = (low // JOURNAL_SPAN + 1) * JOURNAL_SPAN
        top = connection.execute(_LAST, (end,)).fetchall()[0][0]
        for first in range(low, top + 1, SLICE):
            yield first, min(first + SLICE - 1, top)


def differences(connection: Database) -> list[Difference]:
    """After `recount`: what the stored sums say otherwise, and what stands alone."""
    found: list[Difference] = []
    for table, sql in _CHECKS:
        rows = connection.execute(f"{sql} LIMIT {DIFFERENCES_MAX}").fetchall()
        found += [Difference(table, *row) for row in rows]
    return found


# (account, meter, period_us, lot) -> amount
Counters = dict[tuple[str, str, int, str], int]


def expected_balances(connection: Database) -> Counters:
    """After `recount`: used by (account, meter, period_us, lot), from events and charges alone.

    Lots that live beside periods are summed over all of them, with period_us 0.
    """
    sql = """
        SELECT account, meter, period_us, lot, used FROM temp.used
        WHERE lot = '' OR substr(lot, 1, 1) = '@'
        UNION ALL
        SELECT account, meter, 0, lot, sum(used) FROM temp.used
        WHERE lot != '' AND substr(lot, 1, 1) != '@' GROUP BY 1, 2, 4
    """
    return {tuple(key): used for *key, used in connection.execute(sql).fetchall()}


def topped_up(connection: Database) -> Counters:
    """What the ledger gave to the own lots of periods."""
    sql = (
        "SELECT account, meter, period_us, '', sum(amount) FROM ledger WHERE lot = ''"
        " GROUP BY 1, 2, 3"
    )
    return {tuple(key): amount for *key, amount in connection.execute(sql).fetchall()}


_TEMPORARY = (
    "DROP TABLE IF EXISTS temp.sums",
    "DROP TABLE IF EXISTS temp.used",
    "CREATE TABLE temp.sums (label BIGINT, meter TEXT, period_us BIGINT, hour_us BIGINT,"
    " outcome TEXT, requests BIGINT, events BIGINT, amount BIGINT,"
    " PRIMARY KEY (label, meter, period_us, hour_us, outcome)) WITHOUT ROWID",
    "CREATE TABLE temp.used (account TEXT, meter TEXT, period_us BIGINT, lot TEXT, used BIGINT,"
    " PRIMARY KEY (account, meter, period_us, lot)) WITHOUT ROWID",
)
_NEXT = """
    SELECT min(low) FROM (
        SELECT min(seq) AS low FROM events WHERE seq > ?1
        UNION ALL
        SELECT min(seq) FROM charges WHERE seq > ?1
    ) AS lows
"""
_LAST = """
    SELECT max(top) FROM (
        SELECT max(seq) AS top FROM events WHERE seq < ?1
        UNION ALL
        SELECT max(seq) FROM charges WHERE seq < ?1
    ) AS tops
"""
# What counts in a further allowance ('@...') is no charge; what several lots paid is one.
_RECOUNT_ROLLUPS = f"""
    INSERT INTO temp.sums
    SELECT e.label, coalesce(c.meter, ''), coalesce(c.period_us, 0),
           e.time_us - e.time_us % {HOUR_US}, e.outcome,
           sum(coalesce(c.is_request, 1)), sum(coalesce(c.is_event, 0)), coalesce(sum(c.amount), 0)
    FROM events e LEFT JOIN (
        SELECT *, CASE WHEN EXISTS (
            SELECT 1 FROM charges o WHERE o.seq = charges.seq AND o.n < charges.n
            AND substr(o.lot, 1, 1) != '@'
        ) THEN 0 ELSE 1 END AS is_request, CASE WHEN EXISTS (
            SELECT 1 FROM charges o WHERE o.seq = charges.seq AND o.n < charges.n
            AND substr(o.lot, 1, 1) != '@' AND o.meter = charges.meter
        ) THEN 0 ELSE 1 END AS is_event
        FROM charges WHERE substr(lot, 1, 1) != '@'
    ) c ON c.seq = e.seq
    WHERE e.seq BETWEEN ? AND ? GROUP BY 1, 2, 3, 4, 5
    ON CONFLICT (label, meter, period_us, hour_us, outcome) DO UPDATE SET
        requests = sums.requests + excluded.requests,
        events = sums.events + excluded.events, amount = sums.amount + excluded.amount
"""
_RECOUNT_BALANCES = """
    INSERT INTO temp.used
    SELECT e.account, c.meter, c.period_us, c.lot, sum(c.amount)
    FROM charges c JOIN events e ON e.seq = c.seq
    WHERE c.seq BETWEEN ? AND ? GROUP BY 1, 2, 3, 4
    ON CONFLICT (account, meter, period_us, lot) DO UPDATE SET used = used.used + excluded.used
"""
# Of events that retention has removed; what they added up to was noted then, from the events.
_RECOUNT_REMOVED_ROLLUPS = f"""
    INSERT INTO temp.sums
    SELECT label, meter, period_us, from_us - from_us % {HOUR_US}, outcome,
           sum(requests), sum(events), sum(amount)
    FROM removed_sums WHERE substr(lot, 1, 1) != '@' GROUP BY 1, 2, 3, 4, 5
    ON CONFLICT (label, meter, period_us, hour_us, outcome) DO UPDATE SET
        requests = sums.requests + excluded.requests,
        events = sums.events + excluded.events, amount = sums.amount + excluded.amount
"""
_RECOUNT_REMOVED_BALANCES = """
    INSERT INTO temp.used
    SELECT l.account, r.meter, r.period_us, r.lot, sum(r.amount)
    FROM removed_sums r JOIN labels l ON l.id = r.label
    WHERE r.meter != '' GROUP BY 1, 2, 3, 4
    ON CONFLICT (account, meter, period_us, lot) DO UPDATE SET used = used.used + excluded.used
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
        ) AS both_sides GROUP BY {named} HAVING sum(expected) != sum(found) OR sum(e) != sum(f)
    """


# Lots of balances: '' and '@...' are of periods; others are brought by an entry of the same
# name, or by a recurring one, whose lots have '@' and the instant they begin behind it.
_IS_LOT = "b.lot != '' AND substr(b.lot, 1, 1) != '@'"
_IS_OF_RECURRING = "l.every != '' AND substr({lot}, 1, length(l.id) + 1) = l.id || '@'"
_UNKNOWN_LOTS = f"""
    SELECT 'no entry brought lot ' || b.lot || ' of ' || b.account, 0, b.used FROM balances b
    WHERE {_IS_LOT} AND NOT EXISTS (
        SELECT 1 FROM ledger l WHERE l.account = b.account AND l.meter = b.meter AND l.lot = l.id
        AND (l.id = b.lot OR {_IS_OF_RECURRING.format(lot="b.lot")})
    )
"""
_UNKNOWN_CHANGES = f"""
    SELECT 'no entry brought the lot of entry ' || c.id, 0, c.amount FROM ledger c
    WHERE c.lot NOT IN ('', c.id) AND NOT EXISTS (
        SELECT 1 FROM ledger l WHERE l.account = c.account AND l.meter = c.meter AND l.lot = l.id
        AND (l.id = c.lot OR {_IS_OF_RECURRING.format(lot="c.lot")})
    )
"""
_OVERDRAWN = """
    SELECT 'lot ' || lot || ' of ' || account || ' overdrawn', granted, used FROM (
        SELECT l.lot, l.account, sum(l.amount) AS granted, (
            SELECT coalesce(sum(b.used), 0) FROM balances b
            WHERE b.account = l.account AND b.lot = l.lot
        ) AS used
        FROM ledger l WHERE l.lot != '' AND l.every = '' AND EXISTS (
            SELECT 1 FROM ledger g WHERE g.id = l.lot AND g.every = ''
        ) GROUP BY l.account, l.lot
    ) AS lots WHERE used > granted
"""
_OVERDRAWN_RECURRING = f"""
    SELECT 'lot ' || lot || ' of ' || account || ' overdrawn', granted, used FROM (
        SELECT b.lot, b.account, sum(b.used) AS used, max(l.amount) + (
            SELECT coalesce(sum(c.amount), 0) FROM ledger c
            WHERE c.account = b.account AND c.lot = b.lot
        ) AS granted
        FROM balances b JOIN ledger l ON l.account = b.account AND l.meter = b.meter
            AND {_IS_OF_RECURRING.format(lot="b.lot")}
        WHERE {_IS_LOT} GROUP BY b.account, b.lot
    ) AS lots WHERE used > granted
"""
_ROLLUP_KEYS = "label meter period_us hour_us outcome"
_BALANCE_KEYS = "account meter period_us lot"
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
        "SELECT 'applied_seq', top, applied_seq FROM meta,"
        " (SELECT max(seq) AS top FROM events) AS last WHERE top > applied_seq",
    ),
    (
        "charges",
        "SELECT 'negative amount of charge ' || seq, 0, amount FROM charges WHERE amount < 0",
    ),
    ("ledger", _UNKNOWN_LOTS),
    ("ledger", _UNKNOWN_CHANGES),
    ("ledger", _OVERDRAWN),
    ("ledger", _OVERDRAWN_RECURRING),
)
