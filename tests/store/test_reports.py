"""Pages of events neither miss nor repeat one; filters choose exactly theirs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gateway.core.events import Event, Posted
from gateway.store import reports
from gateway.store.reports import ActivityFilter, OperationRow, Place
from gateway.store.sqlite import SqliteStore
from tests.journal.making import START_US, WEEK_US, event, opened, ship, write
from tests.support.stores import each_store, open_store

pytestmark = each_store

ACCOUNT = "acc0"


def made_events() -> list[Event]:
    made = [event(number) for number in range(200)]
    made[3] = made[3]._replace(status=502, outcome="upstream_error", charges=())
    made[6] = made[6]._replace(charges=(Posted("coins", 1, WEEK_US), Posted("gold", 2, 0)))
    made[9] = made[9]._replace(time_us=made[6].time_us)  # the same instant
    made[12] = made[12]._replace(time_us=START_US + 10**9)  # settled long after it began
    return made


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    with opened(tmp_path) as journal:
        for made in made_events():
            write(journal, made)
    ship(tmp_path)
    reader = open_store(tmp_path)
    yield reader
    reader.close()


def all_pages(store: SqliteStore, wanted: ActivityFilter, limit: int) -> list[Event]:
    found: list[Event] = []
    after: Place | None = None
    while True:
        page = reports.read_activity(store.connection, ACCOUNT, wanted, limit, after)
        found += page.events
        if page.next is None:
            return found
        after = page.next


def expected(choose: Callable[[Event], bool]) -> list[Event]:
    mine = [
        (made.time_us, number, made)
        for number, made in enumerate(made_events())
        if made.account == ACCOUNT and choose(made)
    ]
    return [made for _, _, made in sorted(mine, reverse=True)]


@pytest.mark.parametrize("limit", [1, 7, 1000])
def test_pages_run_from_new_to_old(store: SqliteStore, limit: int) -> None:
    assert all_pages(store, ActivityFilter(), limit) == expected(lambda made: True)


FILTERS: list[tuple[ActivityFilter, Callable[[Event], bool]]] = [
    (ActivityFilter(user="user2"), lambda e: e.user == "user2"),
    (ActivityFilter(project="none"), lambda e: False),
    (ActivityFilter(key_id="key_1"), lambda e: True),
    (ActivityFilter(operation="Operation 1"), lambda e: e.operation == "Operation 1"),
    (
        ActivityFilter(route="route-0", user="user1"),
        lambda e: e.route == "route-0" and e.user == "user1",
    ),
    (ActivityFilter(outcome="upstream_error"), lambda e: e.outcome == "upstream_error"),
    (ActivityFilter(meter="gold"), lambda e: any(c.meter == "gold" for c in e.charges)),
    (ActivityFilter(status_min=500), lambda e: e.status >= 500),
    (ActivityFilter(status_min=200, status_max=299), lambda e: e.status == 200),
    (
        ActivityFilter(from_us=START_US + 30_000_000, to_us=START_US + 90_000_000),
        lambda e: START_US + 30_000_000 <= e.time_us < START_US + 90_000_000,
    ),
]


@pytest.mark.parametrize("number", range(len(FILTERS)))
@pytest.mark.parametrize("scan", [3, 20_000])
def test_filters(
    store: SqliteStore, number: int, scan: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reports, "SCAN_MAX", scan)  # pages that end early lose nothing
    wanted, choose = FILTERS[number]
    assert all_pages(store, wanted, 4) == expected(choose)


def test_another_account_sees_nothing_of_it(store: SqliteStore) -> None:
    page = reports.read_activity(store.connection, "acc1", ActivityFilter(), 1000)
    assert {made.account for made in page.events} == {"acc1"}


@pytest.mark.parametrize("store_kind", ["sqlite"], indirect=True)
def test_the_page_reads_no_more_than_its_index(store: SqliteStore) -> None:
    sql = (
        "EXPLAIN QUERY PLAN SELECT e.seq FROM events e JOIN labels l ON l.id = e.label"
        " WHERE e.account = 'a' AND (e.time_us, e.seq) < (5, 5) AND e.status = 3"
        " ORDER BY e.time_us DESC, e.seq DESC LIMIT 5"
    )
    plan = " ".join(row[3] for row in store.connection.execute(sql).fetchall())
    assert "USING INDEX events_by_account (account=? AND time_us<?)" in plan
    assert "TEMP B-TREE" not in plan


def test_operations_add_up_to_the_balance(store: SqliteStore) -> None:
    rows = reports.read_usage(store.connection, ACCOUNT, [("coins", WEEK_US), ("gold", 0)])
    assert {row.operation for row in rows.operations} == {"Operation 0", "Operation 1"}
    used = {(row.meter, row.period_us): row.used for row in rows.balances}
    total = sum(row.amount for row in rows.operations if row.meter == "coins")
    assert used[("coins", WEEK_US)] == total > 0
    assert OperationRow("gold", 0, "Operation 0", 1, 2) in rows.operations


def test_requests_count_everything_once(store: SqliteStore) -> None:
    sql = "SELECT outcome, sum(count) FROM requests WHERE account = ? GROUP BY 1"
    rows = dict(store.connection.execute(sql, (ACCOUNT,)).fetchall())
    assert rows == {"charged": 66, "upstream_error": 1}
