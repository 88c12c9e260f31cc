"""Batches of the journal into SQL, inside a transaction that the caller holds.

Invariant: events, charges, rollups, refusals and balances change together or not at all,
by exactly the batches. Statements take many rows each: the interpreter lock is handed
over at every step of SQLite, and next to a busy event loop each hand-over may cost
milliseconds.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, TypeVar

from gateway.core.batch import Batch, EventRow, Label
from gateway.core.periods import HOUR_US
from gateway.core.rows import CAP_MARK
from gateway.store.database import Database

ROW_STEPS = (256, 64, 16, 4, 1)  # rows per statement; a few sizes, so that all stay prepared
PART_ROWS = ROW_STEPS[0]
_NOTHING = (0, 0, 0)

T = TypeVar("T")
# label, hour, outcome, meter, period -> requests, events, amount. Tuples of plain values: the
# garbage collector forgets them at first sight, and so does not stop the event loop for them.
Key = tuple[int, int, str, str, int]
Cell = tuple[int, int, int]
Cells = dict[Key, Cell]
# account, meter, period, lot -> amount
Used = dict[tuple[str, str, int, str], int]


class Sums:
    """What a transaction adds to the sums, kept until its last batch."""

    def __init__(self) -> None:
        self.cells: Cells = {}
        self.accounts: dict[int, str] = {}  # by label
        self.refusals: dict[tuple[str, int, str, str, str], int] = {}
        # What lots beside the periods paid, and what further allowances count: not in the cells.
        self.lots: Used = {}

    def count_refused(self, batch: Batch) -> None:
        """Add a batch's refusals."""
        for time_us, account, route, operation, reason, count in batch.refused:
            key = (account, time_us - time_us % HOUR_US, route, operation, reason)
            self.refusals[key] = self.refusals.get(key, 0) + count


def apply_rows(connection: Database, batch: Batch, sums: Sums) -> None:
    """Write the batch's events and charges, and remember what they add up to."""
    number_labels(connection, {row[2] for row in batch.events if not row[2].id})
    charges: list[Any] = []
    insert(connection, _EVENTS, take_apart(batch.events, charges, sums))
    insert(connection, _CHARGES, charges)
    sums.count_refused(batch)


def apply_sums(connection: Database, sums: Sums) -> None:
    """In parts: while a part's Python runs, the event loop waits for the interpreter."""
    used = dict(sums.lots)
    for cells in _parts(sums.cells.items()):
        insert(connection, ROLLUPS, rollup_rows(cells, sums.accounts, used))
    # A lot from which nothing was taken has no row: another lot may have paid it all.
    for balances in _parts(row for row in used.items() if row[1]):
        insert(connection, BALANCES, [v for key, amount in balances for v in (*key, amount)])
    for counts in _parts(sums.refusals.items()):
        insert(connection, REFUSALS, [v for key, count in counts for v in (*key, count)])


def number_labels(connection: Database, labels: Iterable[Label]) -> None:
    """Give each label its number in this store."""
    for label in labels:
        rows = connection.execute(_LABEL, label.values).fetchall()
        label.id = rows[0][0]


def take_apart(rows: list[EventRow], charges: list[Any], sums: Sums) -> list[Any]:
    """The values of the events table; charges and sums are added to what is given."""
    events: list[Any] = []
    cells, accounts = sums.cells, sums.accounts
    for row in rows:
        # fmt: off
        (_, seq, label, event_id, time_us, source, path, status, outcome, posted,
         bytes_in, bytes_out, duration_us, upstream_us, request_id) = row
        events += (seq, label.account, label.id, event_id, time_us, source, path, status,
                   outcome, bytes_in, bytes_out, duration_us, upstream_us, request_id)
        # fmt: on
        accounts[label.id] = label.account
        hour_us = time_us - time_us % HOUR_US
        if len(posted) == 1 and len(posted[0]) == 3:  # nearly every event
            meter, amount, period_us = posted[0]
            key = (label.id, hour_us, outcome, meter, period_us)
            r, e, a = cells.get(key, _NOTHING)
            charges += (seq, 0, meter, amount, period_us, "")
            cells[key] = (r + 1, e + 1, a + amount)
        else:
            _take_charges(seq, label, hour_us, outcome, posted, charges, sums)
    return events


def _take_charges(
    seq: int,
    label: Label,
    hour_us: int,
    outcome: str,
    posted: list[list[Any]],
    charges: list[Any],
    sums: Sums,
) -> None:
    """An event without charges, with several, or with one that another lot paid."""
    cells, lots = sums.cells, sums.lots
    seen: set[str] = set()
    for n, (meter, amount, period_us, *rest) in enumerate(posted):
        lot = rest[0] if rest else ""
        charges += (seq, n, meter, amount, period_us, lot)
        if lot:
            used = (label.account, meter, period_us, lot)
            lots[used] = lots.get(used, 0) + amount
            if lot[0] == CAP_MARK:
                continue  # counted for a limit, not charged once more
            # A cell sums over all lots; what this one paid is taken out of the own lot's sum.
            own = (label.account, meter, period_us, "")
            lots[own] = lots.get(own, 0) - amount
        key = (label.id, hour_us, outcome, meter, period_us)
        r, e, a = cells.get(key, _NOTHING)
        cells[key] = (r + (not seen), e + (meter not in seen), a + amount)
        seen.add(meter)
    if not seen:
        key = (label.id, hour_us, outcome, "", 0)
        r, e, a = cells.get(key, _NOTHING)
        cells[key] = (r + 1, e, a)


def rollup_rows(cells: list[tuple[Key, Cell]], accounts: dict[int, str], used: Used) -> list[Any]:
    """The values of the rollups table; what was used is added to `used`."""
    rows: list[Any] = []
    for (label, hour_us, outcome, meter, period_us), cell in cells:
        rows += (label, meter, period_us, hour_us, outcome, *cell)
        if cell[1]:
            key = (accounts[label], meter, period_us, "")
            used[key] = used.get(key, 0) + cell[2]
    return rows


def _parts(items: Iterable[T]) -> Iterator[list[T]]:
    rest = iter(items)
    while part := list(islice(rest, PART_ROWS)):
        yield part


class Insert:
    """An INSERT of many rows at once, prepared in each of ROW_STEPS sizes."""

    def __init__(self, table: str, columns: int, on_conflict: str = "") -> None:
        self.columns = columns
        self._table = table
        self._on_conflict = on_conflict
        self.texts = tuple(self.of(size) for size in ROW_STEPS)

    def of(self, rows: int) -> str:
        """The statement for so many rows."""
        row = "(" + ",".join("?" * self.columns) + ")"
        return f"INSERT INTO {self._table} VALUES {','.join([row] * rows)} {self._on_conflict}"


def insert(connection: Database, statement: Insert, values: Sequence[Any]) -> None:
    """Insert the rows that stand one after the other in `values`."""
    at = 0
    for size, text in zip(ROW_STEPS, statement.texts, strict=True):
        width = size * statement.columns
        while len(values) - at >= width:
            connection.execute(text, values[at : at + width])
            at += width


_EVENTS = Insert("events", 14)
_CHARGES = Insert("charges", 6)
ROLLUPS = Insert(
    "rollups",
    8,
    "ON CONFLICT (label, meter, period_us, hour_us, outcome) DO UPDATE SET"
    " requests = rollups.requests + excluded.requests,"
    " events = rollups.events + excluded.events, amount = rollups.amount + excluded.amount",
)
BALANCES = Insert(
    "balances",
    5,
    "ON CONFLICT (account, meter, period_us, lot)"
    " DO UPDATE SET used = balances.used + excluded.used",
)
REFUSALS = Insert(
    "refusals",
    6,
    "ON CONFLICT (account, hour_us, route, operation, reason)"
    " DO UPDATE SET count = refusals.count + excluded.count",
)
_LABEL = (
    "INSERT INTO labels (account, user, project, key_id, caller, service, operation, route,"
    " method, book) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
    " ON CONFLICT (account, user, project, key_id, caller, service, operation, route, method,"
    " book) DO UPDATE SET account = excluded.account RETURNING id"
)
