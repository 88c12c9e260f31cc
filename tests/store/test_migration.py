"""A store of the first schema is brought forward with everything that it had."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.core.book import Account
from gateway.core.periods import HOUR_US
from gateway.core.rows import AccountVersion, BalanceRow, LedgerEntry
from gateway.store import reports
from gateway.store.connect import MIGRATIONS
from gateway.store.reports import ActivityFilter
from gateway.store.sink import SqliteSink
from gateway.store.sqlite import SqliteStore
from gateway.usage.audit import audit
from tests.journal.making import START_US, WEEK_US, event, opened, ship, write

HOUR = START_US - START_US % HOUR_US
OLD = (
    "INSERT INTO meta VALUES (1, 'an old journal', 4)",
    "INSERT INTO accounts VALUES ('acc', 'free', 7, 'Ünïcode', 1, 42), ('b', 'pro', 8, '', 0, 43)",
    "INSERT INTO topups VALUES ('t1', 'acc', 'coins', 1000, 50, 'why', 'ops', 3),"
    f" ('t2', 'acc0', 'coins', {WEEK_US}, -2, '', 'cli', 4)",
    "INSERT INTO labels VALUES (1, 'acc0', 'u', 'web', 'key_1', 'api_key', 'demo', 'Op', 'r',"
    " 'GET', 'book')",
    f"INSERT INTO events VALUES (2, 'acc0', 1, 'e2', {START_US}, '192.0.2.1', '/', 200, 'charged',"
    " 1, 2, 3, 4, '')",
    f"INSERT INTO events VALUES (4, 'acc0', 1, 'e4', {START_US}, '192.0.2.1', '/', 200, 'charged',"
    " 1, 2, 3, 4, 'mine')",
    f"INSERT INTO charges VALUES (2, 0, 'coins', 8, {WEEK_US}), (4, 0, 'gold', 0, 0)",
    f"INSERT INTO rollups VALUES (1, 'coins', {WEEK_US}, {HOUR}, 'charged', 1, 1, 8),"
    f" (1, 'gold', 0, {HOUR}, 'charged', 1, 1, 0)",
    f"INSERT INTO balances VALUES ('acc0', 'coins', {WEEK_US}, 8), ('acc0', 'gold', 0, 0)",
)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    old = sqlite3.connect(tmp_path / "store.db")
    old.executescript((MIGRATIONS / "0001_init.sql").read_text())
    old.execute("PRAGMA user_version = 1")
    for sql in OLD:
        old.execute(sql)
    old.commit()
    old.close()
    return tmp_path


@pytest.fixture
def store(home: Path) -> Iterator[SqliteStore]:
    SqliteSink.open(home / "store.db").close()
    made = SqliteStore(home / "store.db")
    yield made
    made.close()


def test_accounts_and_their_history(store: SqliteStore) -> None:
    account = Account("acc", "free", 7, "Ünïcode", disabled=True)
    assert store.account("acc") == account
    assert store.versions("acc") == [AccountVersion(42, account)]
    assert store.versions("b") == [AccountVersion(43, Account("b", "pro", 8))]
    assert store.plans() == []


def test_topups_are_ledger_entries(store: SqliteStore) -> None:
    assert store.entries("acc") == [
        LedgerEntry(
            *("t1", "acc", "coins", "topup", "", 1000, 50, 1000, None, 0, "", 0, "why", "ops", 3)
        )
    ]
    assert [(entry.id, entry.amount) for entry in store.entries("acc0")] == [("t2", -2)]
    names = store.connection.execute("SELECT name FROM sqlite_master").fetchall()
    assert ("topups",) not in names


def test_balances_and_events_have_the_own_lot(store: SqliteStore) -> None:
    assert store.balances("acc0") == [BalanceRow("coins", WEEK_US, "", 8)]
    page = reports.read_activity(store.connection, "acc0", ActivityFilter(), 10)
    assert [(e.id, [tuple(c) for c in e.charges]) for e in page.events] == [
        ("e4", [("gold", 0, 0, "")]),
        ("e2", [("coins", 8, WEEK_US, "")]),
    ]


def test_it_goes_on_where_it_was(home: Path) -> None:
    with opened(home) as journal:
        assert journal.journal_id == "an old journal"
        assert write(journal, event(0)) == 6
    ship(home)
    sink = SqliteSink.open(home / "store.db")
    snapshot = sink.snapshot()
    report = audit(snapshot)
    assert report.is_clean, report.differences
    assert (report.seq, report.events) == (6, 3)
    snapshot.close()
    sink.close()
