"""Sums over any span are those of its events, whether rollups or events were asked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from itertools import pairwise

import pytest

from gateway.core.events import Event, Posted, Refused
from gateway.core.periods import DAY_US, HOUR_US
from gateway.core.rows import BalanceRow
from gateway.store import sums
from gateway.store.reports import OperationRow
from gateway.store.sqlite import SqliteStore
from gateway.store.sums import Dimension, RequestRow, SpanRow, SumRow
from tests.journal.making import WEEK_US, event, opened, ship, write
from tests.support.stores import each_store, open_store

pytestmark = each_store

ACCOUNT = "acc0"
START = 1_763_596_800_000_000  # midnight UTC
STEP_US = 17 * 60_000_000 + 1
EVENTS = 600
NEXT_WEEK_US = WEEK_US + 7 * DAY_US


def made_events() -> list[Event]:
    """Some seven days; of every third account events in two weeks, several lots, two meters."""
    made = []
    for number in range(EVENTS):
        time_us = START + number * STEP_US
        week_us = WEEK_US if time_us < NEXT_WEEK_US else NEXT_WEEK_US
        charges: tuple[Posted, ...] = (Posted("coins", 1 + number % 4, week_us),)
        if number % 9 == 0:
            charges += (
                Posted("coins", 2, week_us, "bundle"),
                Posted("coins", 3 + number % 4, time_us - time_us % DAY_US, "@day"),
                Posted("gold", 7, 0),
            )
        if number % 15 == 0:
            charges = ()
        outcome = "polling" if number % 15 == 0 else "charged"
        project = f"p{number % 2}"
        made.append(
            event(number, time_us=time_us, charges=charges, outcome=outcome, project=project)
        )
    return made


REFUSED = [
    Refused(START + 5, ACCOUNT, "r", "Operation 0", "blocked:coins", 3),
    Refused(START + HOUR_US + 5, ACCOUNT, "r", "Operation 0", "blocked:coins", 4),
    Refused(START + HOUR_US + 5, "acc1", "r", "Operation 0", "blocked:coins", 9),
]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SqliteStore]:
    home = tmp_path_factory.mktemp("sums")
    with opened(home) as journal:
        for made in made_events():
            write(journal, made)
        journal.write_refused(REFUSED)
    ship(home)
    reader = open_store(home)
    yield reader
    reader.close()


def mine(from_us: int, to_us: int) -> list[Event]:
    return [m for m in made_events() if m.account == ACCOUNT and from_us <= m.time_us < to_us]


SPANS = [
    (START, START + 30 * DAY_US),
    (START + DAY_US, START + 2 * DAY_US),
    (START + 30 * 60_000_000, START + DAY_US + 45 * 60_000_000),  # cut at both ends
    (START + 1, START + HOUR_US - 1),  # within an hour
    (START + 59 * 60_000_000, START + 61 * 60_000_000),  # around an hour
    (START + HOUR_US // 2, START + HOUR_US),
    (START + 5 * STEP_US, START + 9 * STEP_US + 1),
    (START, START),
    (START + DAY_US, START),
    (0, START),
]
DIMENSIONS: list[tuple[Dimension, Callable[[Event], str]]] = [
    ("operation", lambda e: e.operation),
    ("project", lambda e: e.project),
    ("user", lambda e: e.user),
    ("key", lambda e: e.key_id),
]


@pytest.mark.parametrize("span", SPANS)
@pytest.mark.parametrize(("by", "name_of"), DIMENSIONS)
def test_sums(
    store: SqliteStore, span: tuple[int, int], by: Dimension, name_of: Callable[[Event], str]
) -> None:
    events: Counter[tuple[str, str]] = Counter()
    amounts: Counter[tuple[str, str]] = Counter()
    for made in mine(*span):
        for meter in {charge.meter for charge in made.charges}:
            events[meter, name_of(made)] += 1
        for charge in made.charges:
            if not charge.lot.startswith("@"):
                amounts[charge.meter, name_of(made)] += charge.amount
    right = [SumRow(*key, events[key], amount) for key, amount in amounts.items()]
    right.sort(key=lambda row: (row.meter, -row.amount, row.name))
    assert sums.read_sums(store.connection, ACCOUNT, *span, by) == right
    gold = sums.read_sums(store.connection, ACCOUNT, *span, by, "gold")
    assert gold == [row for row in right if row.meter == "gold"]


@pytest.mark.parametrize("span", SPANS)
def test_every_request_counts_once(store: SqliteStore, span: tuple[int, int]) -> None:
    found = Counter((made.operation, made.outcome, False) for made in mine(*span))
    for row in REFUSED:
        if row.account == ACCOUNT and span[0] <= row.time_us - row.time_us % HOUR_US < span[1]:
            found[row.operation, row.reason, True] += row.times
    right = sorted(RequestRow(*key, times) for key, times in found.items())
    assert sums.read_requests(store.connection, ACCOUNT, *span) == right


@pytest.mark.parametrize("offset_us", [0, HOUR_US * 11 // 2, HOUR_US - 1, 60_000_000])
def test_days_of_any_time_zone(store: SqliteStore, offset_us: int) -> None:
    bounds = [START - DAY_US + n * DAY_US + offset_us for n in range(11)]
    rows = sums.read_spans(store.connection, ACCOUNT, "coins", bounds)
    right = []
    for from_us, to_us in pairwise(bounds):
        charged = [
            [c.amount for c in made.charges if c.meter == "coins" and c.lot != "@day"]
            for made in mine(from_us, to_us)
        ]
        events = sum(1 for amounts in charged if amounts)
        right.append(SpanRow(from_us, to_us, events, sum(map(sum, charged))))
    assert rows == right
    assert sum(row.amount for row in rows) > 200


def test_spans_may_be_short_and_of_any_number(store: SqliteStore) -> None:
    whole = sums.read_spans(store.connection, ACCOUNT, "coins", [START, START + HOUR_US])
    minutes = [START + n * 60_000_000 for n in range(61)]
    parts = sums.read_spans(store.connection, ACCOUNT, "coins", minutes)
    assert len(parts) == 60
    assert sum(row.amount for row in parts) == whole[0].amount > 0
    assert sums.read_spans(store.connection, ACCOUNT, "coins", [START]) == []
    assert sums.read_spans(store.connection, ACCOUNT, "coins", []) == []


def test_periods_add_up_to_what_their_lots_paid(store: SqliteStore) -> None:
    balances, operations = sums.read_periods(
        store.connection, ACCOUNT, "coins", WEEK_US, NEXT_WEEK_US + 1
    )
    assert [(row.period_us, row.lot) for row in balances] == [
        (WEEK_US, ""),
        (WEEK_US, "bundle"),
        (NEXT_WEEK_US, ""),
        (NEXT_WEEK_US, "bundle"),
    ]
    for week_us in (WEEK_US, NEXT_WEEK_US):
        used = sum(row.used for row in balances if row.period_us == week_us)
        assert used == sum(row.amount for row in operations if row.period_us == week_us) > 0
    amounts = [row.amount for row in operations if row.period_us == WEEK_US]
    assert amounts == sorted(amounts, reverse=True)
    last, _ = sums.read_periods(store.connection, ACCOUNT, "coins", NEXT_WEEK_US, 1 << 62)
    assert last == balances[2:]
    ever, rows = sums.read_periods(store.connection, ACCOUNT, "gold", 0, 1)
    assert ever == [BalanceRow("gold", 0, "", sum(row.amount for row in rows))]
    assert {type(row) for row in rows} == {OperationRow}
