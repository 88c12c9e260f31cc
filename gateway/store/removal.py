"""Removing a month's events: which there are, and what stays of them.

Invariants: an event is removed in the transaction that adds it to `removed_sums`, so that
sums, bills and the audit see either the one or the other; events are never changed and
come with a rising sequence, so that a month up to a sequence is the same rows each time.
The databases' own parts are in removal_sqlite.py and removal_postgres.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any, Literal, NamedTuple, Protocol

from gateway.core.periods import HOUR_US, MONTH, SECOND_US, Span
from gateway.store.database import Database
from gateway.store.reports import EVENTS

PAGE_EVENTS = 500  # some 5 ms of Python, and half a megabyte
EVER = 1 << 62
SEQ_AT, ID_AT, TIME_AT, ACCOUNT_AT, REQUEST_ID_AT = 0, 1, 2, 3, 20  # in a row of EVENTS

Rows = list[tuple[Any, ...]]


class Removal(NamedTuple):
    """A row of `removals`: one time that events of a month were removed."""

    month_us: int
    part: int  # from 1; events that came late make a further one
    archive: str  # the manifest of the files that have them; "" when they were dropped
    top_seq: int
    events: int
    charges: int
    removed_us: int
    is_done: int

    @property
    def month(self) -> str:
        return month_name(self.month_us)


class Page(NamedTuple):
    """Events of one account, oldest first, as in `reports.EVENTS`, and their charges."""

    events: Rows
    charges: Rows  # seq, n, meter, amount, period_us, lot


# changed: the month has got others meanwhile; busy: somebody reads or writes it.
Outcome = Literal["removed", "changed", "busy"]


class Remover(Protocol):
    """What is different from database to database. One thread; raises one of ERRORS."""

    @property
    def store_id(self) -> str:
        """Which store this is: its first journal's id."""
        ...

    @property
    def connection(self) -> Database:
        """To read with; each statement sees what is committed then."""
        ...

    def take_turn(self) -> bool:
        """Whether no other process removes; kept until `close`."""
        ...

    def top_seq(self) -> int:
        """What comes later has a larger sequence, where that can be said; else EVER."""
        ...

    def charges_of(self, span: Span, seqs: str) -> Rows:
        """Charges of events of the span, by a JSON list of sequences."""
        ...

    def remove(self, removal: Removal, rest: Callable[[], None]) -> Outcome:
        """Remove exactly the events that `removal` counts, or nothing."""
        ...

    def resume(self, rest: Callable[[], None]) -> list[Removal]:
        """Go on where a crash has ended a removal; what was."""
        ...

    def tidy(self, before_us: int) -> None:
        """Give back what empty months take."""
        ...

    def close(self) -> None: ...


def month_name(month_us: int) -> str:
    """2026-03."""
    return datetime.fromtimestamp(month_us // SECOND_US, UTC).strftime("%Y-%m")


def kept_from_us(months: int, now_us: int) -> int:
    """The first instant that is kept with so many months beside the current one."""
    at_us = MONTH.span(now_us, 0).start_us
    for _ in range(months):
        at_us = MONTH.span(at_us - 1, 0).start_us
    return at_us


def due_months(connection: Database, before_us: int) -> list[Span]:
    """Months before an instant that have events, oldest first."""
    found: list[Span] = []
    from_us = -EVER
    while True:
        oldest_us = connection.execute(_OLDEST, (from_us, before_us)).fetchall()[0][0]
        if oldest_us is None:
            return found
        found.append(MONTH.span(oldest_us, 0))
        from_us = found[-1].end_us


def count_events(connection: Database, span: Span) -> int:
    count: int = connection.execute(_COUNT, span).fetchall()[0][0]
    return count


def pages(remover: Remover, span: Span, top_seq: int) -> Iterator[Page]:
    """All events of a month up to a sequence, account by account.

    Between pages no read is open, so that nobody waits for a slow disk.
    """
    for rows in event_pages(remover.connection, EVENTS, span, top_seq):
        seqs = ",".join(str(row[SEQ_AT]) for row in rows)
        yield Page(rows, remover.charges_of(span, f"[{seqs}]"))


def event_pages(connection: Database, select: str, span: Span, top_seq: int) -> Iterator[Rows]:
    """`select` begins with sequence, anything, time. No page is empty."""
    sql = f"{select} {_PAGE}"
    for account in _accounts(connection):
        after = (-EVER, -EVER)
        while True:
            values = (account, *span, *after, top_seq, PAGE_EVENTS)
            rows = connection.execute(sql, values).fetchall()
            if rows:
                yield rows
            if len(rows) < PAGE_EVENTS:
                break
            after = (rows[-1][TIME_AT], rows[-1][SEQ_AT])


def _accounts(connection: Database) -> Iterator[str]:
    """Of all events there ever were: their labels stay."""
    name = connection.execute("SELECT min(account) FROM labels").fetchall()[0][0]
    while name is not None:
        yield name
        sql = "SELECT min(account) FROM labels WHERE account > ?"
        name = connection.execute(sql, (name,)).fetchall()[0][0]


def next_part(connection: Database, month_us: int) -> int:
    sql = "SELECT coalesce(max(part), 0) + 1 FROM removals WHERE month_us = ?"
    part: int = connection.execute(sql, (month_us,)).fetchall()[0][0]
    return part


def removals(connection: Database) -> list[Removal]:
    """Oldest month first."""
    sql = f"SELECT {', '.join(Removal._fields)} FROM removals ORDER BY month_us, part"
    return [Removal(*row) for row in connection.execute(sql).fetchall()]


def removed_until_us(connection: Database) -> int | None:
    """The end of the last month whose events were removed; None when none was."""
    month_us = connection.execute("SELECT max(month_us) FROM removals").fetchall()[0][0]
    return None if month_us is None else MONTH.span(month_us, 0).end_us


def insert_removal(connection: Database, removal: Removal) -> None:
    marks = ", ".join("?" * len(removal))
    connection.execute(
        f"INSERT INTO removals ({', '.join(Removal._fields)}) VALUES ({marks})", removal
    )


# By the index on account and time: events may be very many, accounts are fewer.
_OLDEST = """
    SELECT min((
        SELECT min(e.time_us) FROM events e
        WHERE e.account = a.account AND e.time_us >= ?1 AND e.time_us < ?2
    )) FROM (SELECT DISTINCT account FROM labels) AS a
"""
_COUNT = """
    SELECT coalesce(sum((
        SELECT count(*) FROM events e
        WHERE e.account = a.account AND e.time_us >= ?1 AND e.time_us < ?2
    )), 0) FROM (SELECT DISTINCT account FROM labels) AS a
"""
_PAGE = """
    WHERE e.account = ? AND e.time_us >= ? AND e.time_us < ?
    AND (e.time_us, e.seq) > (?, ?) AND e.seq <= ? ORDER BY e.time_us, e.seq LIMIT ?
"""

_QUARTER_US = HOUR_US // 4  # what the offsets of time zones are multiples of


def add_sums_sql(events: str, charges: str, chosen: str, greatest: str) -> str:
    """Add events to `removed_sums`: of these tables, those that `chosen` says.

    They are summed by the hour, cut where bills are: at the begin of a period, at other terms
    of the account or the plans, and at quarters where a day may begin at one.
    """
    from_us = f"""{greatest}(
        e.time_us - e.time_us % CASE WHEN EXISTS (
            SELECT 1 FROM account_versions z
            WHERE z.account = e.account AND z.document LIKE '%"timezone":%'
        ) THEN {_QUARTER_US} ELSE {HOUR_US} END,
        CASE WHEN c.period_us <= e.time_us THEN c.period_us ELSE 0 END,
        coalesce((SELECT max(v.from_us) FROM account_versions v
                  WHERE v.account = e.account AND v.from_us <= e.time_us), 0),
        coalesce((SELECT max(p.from_us) FROM plans_versions p WHERE p.from_us <= e.time_us), 0)
    )"""
    earlier = f"""EXISTS (
        SELECT 1 FROM {charges} o WHERE o.seq = c.seq AND o.n < c.n AND substr(o.lot, 1, 1) != '@'
    """
    # What counts in a further allowance ('@...') is no charge; what several lots paid is one.
    return f"""
        INSERT INTO removed_sums
        SELECT label, meter, period_us, from_us, outcome, lot,
               sum(requests), sum(events), sum(amount)
        FROM (
            SELECT e.label, coalesce(c.meter, '') AS meter, coalesce(c.period_us, 0) AS period_us,
                   {from_us} AS from_us, e.outcome, coalesce(c.lot, '') AS lot,
                   CASE WHEN c.n > 0 AND {earlier}) THEN 0 ELSE 1 END AS requests,
                   CASE WHEN c.seq IS NULL OR c.n > 0 AND {earlier} AND o.meter = c.meter)
                        THEN 0 ELSE 1 END AS events,
                   coalesce(c.amount, 0) AS amount
            FROM {events} e
            LEFT JOIN {charges} c ON c.seq = e.seq AND substr(c.lot, 1, 1) != '@'
            WHERE {chosen}
            UNION ALL
            SELECT e.label, c.meter, c.period_us, {from_us}, e.outcome, c.lot, 0, 0, c.amount
            FROM {events} e JOIN {charges} c ON c.seq = e.seq
            WHERE {chosen} AND substr(c.lot, 1, 1) = '@'
        ) AS removed WHERE true GROUP BY 1, 2, 3, 4, 5, 6
        ON CONFLICT (label, meter, period_us, from_us, outcome, lot) DO UPDATE SET
            requests = removed_sums.requests + excluded.requests,
            events = removed_sums.events + excluded.events,
            amount = removed_sums.amount + excluded.amount
    """
