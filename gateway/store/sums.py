"""Sums of an account over a span of time: by operation, project, user, key, and by day.

Whole hours come from the rollups; the hours that a span cuts are summed from their
events, those of removed events from `removed_sums`, by where its spans begin. Spans
contain their start and not their end. What counts in a further allowance (lot '@...') is
no part of any sum. Every function sees one moment of the store. Must not format, and must
not know periods, days or time zones: instants are the caller's.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Literal, NamedTuple

from gateway.core.periods import HOUR_US
from gateway.core.rows import BalanceRow
from gateway.store.database import Database
from gateway.store.reports import OperationRow, read_snapshot

Dimension = Literal["operation", "project", "user", "key", "route", "service", "caller"]
_COLUMNS: dict[Dimension, str] = {
    "operation": "l.operation",
    "project": "l.project",
    "user": "l.user",
    "key": "l.key_id",
    "route": "l.route",
    "service": "l.service",
    "caller": "l.caller",
}


class SumRow(NamedTuple):
    """What one operation, project, user... used of a meter, in smallest units."""

    meter: str
    name: str
    events: int
    amount: int


class RequestRow(NamedTuple):
    """How many requests of an operation ended so; `is_refused`: they were not forwarded."""

    operation: str
    outcome: str  # of a refused one its reason
    is_refused: bool
    times: int


class SpanRow(NamedTuple):
    """What was used of a meter from an instant to another."""

    from_us: int
    to_us: int
    events: int
    amount: int


def read_sums(
    connection: Database,
    account: str,
    from_us: int,
    to_us: int,
    by: Dimension,
    meter: str | None = None,
) -> list[SumRow]:
    """Of one meter or of all; by meter, the largest amounts first."""
    column = _COLUMNS[by]
    found: dict[tuple[str, str], tuple[int, int]] = {}
    with read_snapshot(connection):
        for sql, span in (
            *((_SUMS, span) for span in _whole_hours(from_us, to_us)),
            *((_CUT_SUMS, span) for span in _cut_hours(from_us, to_us)),
        ):
            values = {"account": account, "meter": meter, "from": span[0], "to": span[1]}
            for *key, events, amount in connection.execute(sql.format(column), values).fetchall():
                e, a = found.get((key[0], key[1]), (0, 0))
                found[key[0], key[1]] = (e + events, a + amount)
    rows = [SumRow(*key, *sums) for key, sums in found.items()]
    return sorted(rows, key=lambda row: (row.meter, -row.amount, row.name))


def read_requests(connection: Database, account: str, from_us: int, to_us: int) -> list[RequestRow]:
    """Every request once, by operation and outcome.

    Refusals are kept by the hour: one counts where its hour begins inside the span.
    """
    found: dict[tuple[str, str, bool], int] = {}
    with read_snapshot(connection):
        for sql, is_refused, spans in (
            (_REQUESTS, False, _whole_hours(from_us, to_us)),
            (_CUT_REQUESTS, False, _cut_hours(from_us, to_us)),
            (_REFUSALS, True, [(from_us, to_us)]),
        ):
            for span in spans:
                rows = connection.execute(sql, (account, *span)).fetchall()
                for operation, outcome, times in rows:
                    key = (operation, outcome, is_refused)
                    found[key] = found.get(key, 0) + times
    return sorted(RequestRow(*key, times) for key, times in found.items())


def read_spans(
    connection: Database,
    account: str,
    meter: str,
    bounds: Sequence[int],
    period_us: int | None = None,
) -> list[SpanRow]:
    """What was used between each two of `bounds`: days, when they are midnights.

    Of one of the meter's periods, or of all. `bounds` ascend; there is one row fewer than
    bounds, also where nothing was used.
    """
    spans = list(pairwise(bounds))
    sums = [(0, 0)] * len(spans)
    with read_snapshot(connection):
        whole = (bounds[0], bounds[-1]) if bounds else (0, 0)
        hours = connection.execute(_BY_HOUR, (account, meter, *whole, period_us)).fetchall()
        by_hour = {hour_us: (events, amount) for hour_us, events, amount in hours}
        for n, (from_us, to_us) in enumerate(spans):
            parts = [
                by_hour[hour_us]
                for first_us, end_us in _whole_hours(from_us, to_us)
                for hour_us in range(first_us, end_us, HOUR_US)
                if hour_us in by_hour
            ]
            for cut in _cut_hours(from_us, to_us):
                parts += connection.execute(_CUT, (account, meter, *cut, period_us)).fetchall()
            sums[n] = (sum(part[0] for part in parts), sum(part[1] for part in parts))
    return [SpanRow(*span, *total) for span, total in zip(spans, sums, strict=True)]


def read_uses(
    connection: Database, account: str, meter: str, period_us: int, bounds: Sequence[int]
) -> list[int]:
    """How much requests used from a period's own lot between each two of `bounds`.

    Where other lots paid too, it looks at every event: about half a second a million.
    """
    with read_snapshot(connection):
        amounts = [row.amount for row in read_spans(connection, account, meter, bounds, period_us)]
        if connection.execute(_HAS_LOTS, (account, meter, period_us)).fetchall()[0][0]:
            for n, span in enumerate(pairwise(bounds)):
                values = (account, meter, *span, period_us)
                rows = connection.execute(_LOTS_CUT, values).fetchall()
                amounts[n] -= sum(amount for (amount,) in rows)
    return amounts


def read_periods(
    connection: Database, account: str, meter: str, from_us: int, to_us: int
) -> tuple[list[BalanceRow], list[OperationRow]]:
    """A meter's periods that began in the span, oldest first.

    What each of their lots paid, and their operations, largest first.
    """
    values = (account, meter, from_us, to_us)
    with read_snapshot(connection):
        balances = connection.execute(_PERIODS, values).fetchall()
        operations = connection.execute(_PERIOD_OPERATIONS, values).fetchall()
    return (
        [BalanceRow(*row) for row in balances],
        [OperationRow(meter, *row) for row in operations],
    )


def _whole_hours(from_us: int, to_us: int) -> list[tuple[int, int]]:
    """The part of a span that consists of whole hours: one or none."""
    first_us, end_us = -(-from_us // HOUR_US) * HOUR_US, to_us - to_us % HOUR_US
    return [(first_us, end_us)] if first_us < end_us else []


def _cut_hours(from_us: int, to_us: int) -> Iterator[tuple[int, int]]:
    """The rest of it: at most an hour's part at each end."""
    whole = _whole_hours(from_us, to_us)
    first_us, end_us = whole[0] if whole else (to_us, to_us)
    if from_us < first_us:
        yield from_us, first_us
    if end_us < to_us:
        yield end_us, to_us


_SUMS = """
    SELECT r.meter, {}, sum(r.events), sum(r.amount)
    FROM labels l JOIN rollups r ON r.label = l.id AND r.hour_us >= :from AND r.hour_us < :to
    WHERE l.account = :account AND r.meter != '' AND (:meter IS NULL OR r.meter = :meter)
    GROUP BY 1, 2
"""
_CHARGES = """
    FROM events e JOIN labels l ON l.id = e.label
    JOIN charges c ON c.seq = e.seq AND substr(c.lot, 1, 1) != '@'
"""
# Of removed events; see add_sums_sql in store/removal.py for where their spans begin.
_REMOVED = """
    FROM labels l JOIN removed_sums r ON r.label = l.id AND substr(r.lot, 1, 1) != '@'
"""
_CUT_SUMS = f"""
    SELECT c.meter, {{0}}, count(DISTINCT e.seq), sum(c.amount) {_CHARGES}
    WHERE e.account = :account AND e.time_us >= :from AND e.time_us < :to
    AND (:meter IS NULL OR c.meter = :meter) GROUP BY 1, 2
    UNION ALL
    SELECT r.meter, {{0}}, sum(r.events), sum(r.amount) {_REMOVED}
    WHERE l.account = :account AND r.from_us >= :from AND r.from_us < :to AND r.meter != ''
    AND (:meter IS NULL OR r.meter = :meter) GROUP BY 1, 2
"""
_REQUESTS = """
    SELECT l.operation, r.outcome, sum(r.requests)
    FROM labels l JOIN rollups r ON r.label = l.id AND r.requests > 0
    WHERE l.account = ? AND r.hour_us >= ? AND r.hour_us < ? GROUP BY 1, 2
"""
_CUT_REQUESTS = f"""
    SELECT l.operation, e.outcome, count(*) FROM events e JOIN labels l ON l.id = e.label
    WHERE e.account = ?1 AND e.time_us >= ?2 AND e.time_us < ?3 GROUP BY 1, 2
    UNION ALL
    SELECT l.operation, r.outcome, sum(r.requests) {_REMOVED}
    WHERE l.account = ?1 AND r.from_us >= ?2 AND r.from_us < ?3 AND r.requests > 0 GROUP BY 1, 2
"""
_REFUSALS = """
    SELECT operation, reason, sum(count) FROM refusals
    WHERE account = ? AND hour_us >= ? AND hour_us < ? GROUP BY 1, 2
"""
_BY_HOUR = """
    SELECT r.hour_us, sum(r.events), sum(r.amount)
    FROM labels l JOIN rollups r ON r.label = l.id
    WHERE l.account = ?1 AND r.meter = ?2 AND r.hour_us >= ?3 AND r.hour_us < ?4
    AND (?5 IS NULL OR r.period_us = ?5) GROUP BY 1
"""
_CUT = f"""
    SELECT count(DISTINCT e.seq), coalesce(sum(c.amount), 0) {_CHARGES}
    WHERE e.account = ?1 AND c.meter = ?2 AND e.time_us >= ?3 AND e.time_us < ?4
    AND (?5 IS NULL OR c.period_us = ?5)
    UNION ALL
    SELECT coalesce(sum(r.events), 0), coalesce(sum(r.amount), 0) {_REMOVED}
    WHERE l.account = ?1 AND r.meter = ?2 AND r.from_us >= ?3 AND r.from_us < ?4
    AND (?5 IS NULL OR r.period_us = ?5)
"""
_HAS_LOTS = """
    SELECT EXISTS (SELECT 1 FROM balances WHERE account = ? AND meter = ? AND period_us = ?
                   AND lot != '' AND substr(lot, 1, 1) != '@')
"""
_LOTS_CUT = f"""
    SELECT coalesce(sum(c.amount), 0) {_CHARGES}
    WHERE e.account = ?1 AND c.meter = ?2 AND e.time_us >= ?3 AND e.time_us < ?4
    AND c.period_us = ?5 AND c.lot != ''
    UNION ALL
    SELECT coalesce(sum(r.amount), 0) {_REMOVED}
    WHERE l.account = ?1 AND r.meter = ?2 AND r.from_us >= ?3 AND r.from_us < ?4
    AND r.period_us = ?5 AND r.lot != ''
"""
_PERIODS = """
    SELECT meter, period_us, lot, used FROM balances
    WHERE account = ? AND meter = ? AND period_us >= ? AND period_us < ?
    AND substr(lot, 1, 1) != '@' ORDER BY period_us, lot
"""
_PERIOD_OPERATIONS = """
    SELECT r.period_us, l.operation, sum(r.events), sum(r.amount)
    FROM labels l JOIN rollups r ON r.label = l.id
    WHERE l.account = ? AND r.meter = ? AND r.period_us >= ? AND r.period_us < ?
    GROUP BY 1, 2 ORDER BY 1, 4 DESC, 2
"""
