"""Events that several lots pay: what of them goes into which sum."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.core.events import Posted
from gateway.core.rows import BalanceRow
from gateway.store import balances, reports
from gateway.store.reports import ActivityFilter, OperationRow
from gateway.store.sqlite import SqliteStore
from tests.journal.making import WEEK_US, event, opened, ship, write
from tests.support.stores import each_store, open_store

pytestmark = each_store

DAY_US = 1_763_596_800_000_000
SPLIT = (
    Posted("coins", 3, WEEK_US),
    Posted("coins", 4, WEEK_US, "bundle"),
    Posted("coins", 5, WEEK_US, "gift@77"),
    Posted("coins", 12, DAY_US, "@day"),
    Posted("gold", 1, 0),
)
CHARGES: list[tuple[Posted, ...]] = [
    SPLIT,
    (Posted("coins", 6, WEEK_US, "bundle"), Posted("coins", 6, DAY_US, "@day")),
    (Posted("coins", 2, WEEK_US),),
    (Posted("coins", 9, DAY_US, "@day"), Posted("coins", 9, WEEK_US)),  # the order is no matter
    (Posted("coins", 1, DAY_US, "@day"),),
    (Posted("coins", 0, WEEK_US),),
    (),
]
BALANCES = [
    BalanceRow("coins", WEEK_US, "", 14),
    BalanceRow("coins", WEEK_US, "bundle", 10),
    BalanceRow("coins", WEEK_US, "gift@77", 5),
    BalanceRow("coins", DAY_US, "@day", 28),
    BalanceRow("gold", 0, "", 1),
]


def shipped(home: Path, charges: list[tuple[Posted, ...]]) -> SqliteStore:
    with opened(home) as journal:
        for made in charges:
            write(journal, event(0, account="acc", charges=made))
    ship(home)
    return open_store(home)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    made = shipped(tmp_path, CHARGES)
    yield made
    made.close()


def test_balances_are_by_lot(store: SqliteStore) -> None:
    assert sorted(store.balances("acc")) == sorted(BALANCES)


def test_an_event_counts_once_for_each_of_its_meters(store: SqliteStore) -> None:
    sql = "SELECT meter, period_us, sum(requests), sum(events), sum(amount) FROM rollups"
    sql += " GROUP BY 1, 2 ORDER BY 1"
    assert store.connection.execute(sql).fetchall() == [
        ("", 0, 2, 0, 0),
        ("coins", WEEK_US, 5, 5, 3 + 4 + 5 + 6 + 2 + 9),
        ("gold", 0, 0, 1, 1),
    ]
    usage = reports.read_usage(store.connection, "acc", [("coins", WEEK_US)])
    assert usage.operations == [OperationRow("coins", WEEK_US, "Operation 0", 5, 29)]


def test_events_come_back_with_their_lots(store: SqliteStore) -> None:
    page = reports.read_activity(store.connection, "acc", ActivityFilter(), 100)
    assert [made.charges for made in page.events] == CHARGES[::-1]


def test_a_lot_from_which_nothing_was_taken_has_no_row(tmp_path: Path) -> None:
    store = shipped(tmp_path, [(Posted("coins", 6, WEEK_US, "bundle"),), CHARGES[5]])
    assert store.balances("acc") == [BalanceRow("coins", WEEK_US, "bundle", 6)]
    store.close()


def test_balances_are_the_same_whatever_a_batch_holds(tmp_path: Path) -> None:
    for made in CHARGES:
        shipped(tmp_path, [made]).close()
    store = open_store(tmp_path)
    assert sorted(store.balances("acc")) == sorted(BALANCES)
    store.close()


def test_since_leaves_out_old_periods_but_no_lot(store: SqliteStore) -> None:
    later = [row for row in BALANCES if row.period_us != WEEK_US or row.lot]
    assert sorted(store.balances("acc", since_us=WEEK_US + 1)) == sorted(later)
    assert sorted(store.balances("acc", since_us=1)) == sorted(BALANCES)


@pytest.mark.parametrize("store_kind", ["sqlite"], indirect=True)
def test_balances_are_found_by_index(store: SqliteStore) -> None:
    plan = " ".join(
        row[3]
        for row in store.connection.execute(
            f"EXPLAIN QUERY PLAN {balances.SELECT_BALANCES}", ("acc", 1)
        ).fetchall()
    )
    assert "SCAN balances" not in plan and "SCAN b " not in plan
    assert "PRIMARY KEY (account=? AND meter=? AND period_us>?)" in plan
