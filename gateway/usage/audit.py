"""Do events, sums, balances and counters say the same, on a live system?

`audit` proves invariant 3 on one snapshot of the store. Live counters are compared too
when they are given as they stood at exactly the snapshot's sequence: take them and
`journal.last_seq` in one step of the event loop, and ask `shipper.barrier` for that
sequence in the same step. Reads only. Must not run on the event loop.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from gateway.core.rows import is_cap_lot
from gateway.store import checks
from gateway.store.checks import JOURNAL_SPAN, Difference
from gateway.store.database import Database

# (account, meter, period_us, lot) -> amount in smallest units; period_us is 0 for lots that
# live beside periods
Counters = Mapping[tuple[str, str, int, str], int]


@dataclass(frozen=True, slots=True)
class AuditReport:
    seq: int  # everything in the journal up to here was checked
    events: int
    charges: int
    rollups: int
    balances: int
    counters: int  # live counters compared
    differences: tuple[Difference, ...]
    duration_us: int
    worker: int = 1  # whose live counters these are, of so many of its machine
    workers: int = 1

    @property
    def is_clean(self) -> bool:
        return not self.differences


# (meter, period_us, lot) -> amount
Counted = Mapping[tuple[str, int, str], int]


class LaterThanSnapshot(Exception):
    """A counter has records that the snapshot has not: take another one, a little later."""


def audit(
    snapshot: Database,
    used: Counters | None = None,
    topped_up: Counters | None = None,
    clock: Callable[[], int] = time.monotonic_ns,
) -> AuditReport:
    """Recompute everything that is summed, compare, and close the snapshot's transaction.

    `used` and `topped_up` are live counters; a subject that they do not name is not
    compared, for nobody has loaded it. Raises one of ERRORS.
    """
    began_ns = clock()
    try:
        counts = checks.recount(snapshot)
        found = checks.differences(snapshot)
        for name, live, expected in (
            ("counters", used, checks.expected_balances),
            ("topped_up", topped_up, checks.topped_up),
        ):
            if live is not None:
                found += _compare(name, live, expected(snapshot))
    finally:
        if snapshot.in_transaction:
            snapshot.execute("ROLLBACK")
    return AuditReport(
        *counts,
        counters=len(used or ()) + len(topped_up or ()),
        differences=tuple(found),
        duration_us=(clock() - began_ns) // 1_000,
    )


def _compare(name: str, live: Counters, expected: Counters) -> list[Difference]:
    found = []
    for key, amount in live.items():
        right = expected.get(key, 0)
        if amount != right:
            found.append(Difference(name, "/".join(map(str, key)), right, amount))
    return found[: checks.DIFFERENCES_MAX]


def counted_at(
    snapshot: Database, account: str, rows: Counted, journals: Mapping[str, int]
) -> Counters:
    """Counters that several gateways share, brought to the snapshot.

    `rows` are as of the records `journals` says; what the store has of later ones is added.
    Raises LaterThanSnapshot.
    """
    found = {
        (account, *row): used for row, used in rows.items() if not row[2] or is_cap_lot(row[2])
    }
    known = "SELECT no, journal_id, applied_seq FROM journals"
    for no, journal_id, applied in snapshot.execute(known).fetchall():
        counted = journals.get(journal_id, 0)
        if counted > applied:
            raise LaterThanSnapshot
        if counted == applied:
            continue
        bounds = ((no - 1) * JOURNAL_SPAN + counted, (no - 1) * JOURNAL_SPAN + applied)
        for meter, period_us, lot, amount in snapshot.execute(
            _LATER, (account, *bounds)
        ).fetchall():
            key = (account, meter, period_us, lot)
            if key in found:
                found[key] += amount
    return found


_LATER = """
    SELECT c.meter, c.period_us, c.lot, sum(c.amount) FROM events e
    JOIN charges c ON c.seq = e.seq AND c.time_us = e.time_us
    WHERE e.account = ? AND e.seq > ? AND e.seq <= ? GROUP BY 1, 2, 3
"""
