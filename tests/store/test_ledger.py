"""Ledger entries, members and histories come back as they were put in."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.core.book import Account, Allowance, OverageRate, Plan
from gateway.core.periods import Period
from gateway.core.rows import AccountVersion, LedgerEntry
from gateway.store import ledger
from gateway.store.connect import MIGRATIONS, open_writer
from gateway.store.sink import SqliteSink
from gateway.store.sqlite import SqliteStore

ENTRY = LedgerEntry(
    id="e1",
    account="acc",
    meter="coins",
    kind="topup",
    lot="",
    period_us=1000,
    amount=50,
    starts_us=1000,
    expires_us=None,
    priority=0,
    every="",
    price_micro=0,
    reason="goodwill",
    actor="ops",
    time_us=1,
)
PLANS = {
    "paid": Plan(
        "paid",
        (
            Allowance("coins", 10, Period("week"), settable=True),
            Allowance("uc", 5, Period("month"), "overage", 402, True, 3, OverageRate(10_000, 100)),
            Allowance("uc", 1, Period("fixed", 777)),
            Allowance("uc", 1, Period("week", weekday=2)),
        ),
        billing="free",
        price_micro=256_000_000,
        on_leave="at_once",
    )
}


@pytest.fixture
def sink(tmp_path: Path) -> Iterator[SqliteSink]:
    made = SqliteSink.open(tmp_path / "store.db")
    yield made
    made.close()


@pytest.fixture
def reader(sink: SqliteSink, tmp_path: Path) -> Iterator[SqliteStore]:
    made = SqliteStore(tmp_path / "store.db")
    yield made
    made.close()


def test_an_entry_is_made_once(sink: SqliteSink, reader: SqliteStore) -> None:
    assert sink.run(lambda c: ledger.insert_entry(c, ENTRY)) == (ENTRY, True)
    later = ENTRY._replace(time_us=9, reason="again", period_us=2000)
    assert sink.run(lambda c: ledger.insert_entry(c, later)) == (ENTRY, False)
    for other in (ENTRY._replace(amount=51), ENTRY._replace(account="b")):
        with pytest.raises(ValueError, match="already used"):
            sink.run(lambda c, other=other: ledger.insert_entry(c, other))  # type: ignore[misc]
    with pytest.raises(ValueError, match="amount"):
        sink.run(lambda c: ledger.insert_entry(c, ENTRY._replace(id="e2", amount=2**53)))
    assert reader.entries("acc") == [ENTRY]


def test_entries_page_from_new_to_old(sink: SqliteSink) -> None:
    made = [ENTRY._replace(id=f"e{n}", time_us=n // 2) for n in range(7)]
    for entry in made:
        sink.run(lambda c, entry=entry: ledger.insert_entry(c, entry))  # type: ignore[misc]
    found: list[LedgerEntry] = []
    before = None
    while page := ledger.list_entries(sink.connection, "acc", before=before, limit=2):
        found += page
        before = (page[-1].time_us, page[-1].id)
    assert found == made[::-1]


def test_members(sink: SqliteSink) -> None:
    assert sink.run(lambda c: ledger.put_member(c, "acc", "ann", "owner")) is None
    assert sink.run(lambda c: ledger.put_member(c, "acc", "ann", "member")) == "owner"
    assert sink.run(lambda c: ledger.list_members(c, "acc")) == {"ann": "member"}
    assert sink.run(lambda c: ledger.remove_member(c, "acc", "ann"))
    assert not sink.run(lambda c: ledger.remove_member(c, "acc", "ann"))


def test_the_history_of_an_account(sink: SqliteSink, reader: SqliteStore) -> None:
    first = Account("acc", "free", 7, "A", seats=3, settings=(("ai", "off"),))
    second = Account("acc", "paid", cap_micro=0, overage=False, limits=(("hourly", 5),))
    for account, at_us in ((first, 10), (first, 20), (second, 30), (first, 5)):
        sink.run(
            lambda c, a=account, t=at_us: ledger.record_account_version(c, a, t)  # type: ignore[misc]
        )
    # The last change came with a clock that was set back: it replaces what it follows.
    assert reader.versions("acc") == [AccountVersion(10, first), AccountVersion(30, first)]


def test_the_history_of_plans(sink: SqliteSink, reader: SqliteStore) -> None:
    assert sink.run(lambda c: ledger.record_plans_version(c, "b1", PLANS, 10))
    assert reader.plans()[0].plans == PLANS
    assert not sink.run(lambda c: ledger.record_plans_version(c, "b2", PLANS, 20))
    assert sink.run(lambda c: ledger.record_plans_version(c, "b3", {}, 30))
    assert [(v.from_us, v.book) for v in reader.plans()] == [(10, "b1"), (30, "b3")]


def test_an_old_store_is_brought_forward(tmp_path: Path) -> None:
    path = tmp_path / "old.db"
    old = sqlite3.connect(path)
    old.executescript((MIGRATIONS / "0001_init.sql").read_text())
    old.execute("PRAGMA user_version = 1")
    old.execute("INSERT INTO meta VALUES (1, 'j', 5)")
    old.execute("INSERT INTO accounts VALUES ('acc', 'free', 7, 'A', 1, 42)")
    old.execute("INSERT INTO topups VALUES ('t1', 'acc', 'coins', 1000, 50, 'why', 'ops', 3)")
    old.execute("INSERT INTO balances VALUES ('acc', 'coins', 1000, 8)")
    old.execute("INSERT INTO charges VALUES (1, 0, 'coins', 8, 1000)")
    old.commit()
    old.close()
    open_writer(path).close()
    store = SqliteStore(path)
    account = Account("acc", "free", 7, "A", disabled=True)
    assert store.account("acc") == account
    assert store.versions("acc") == [AccountVersion(42, account)]
    assert store.entries("acc") == [ENTRY._replace(id="t1", reason="why", time_us=3)]
    assert [tuple(row) for row in store.balances("acc")] == [("coins", 1000, "", 8)]
    assert store.connection.execute("SELECT lot FROM charges").fetchall() == [("",)]
    store.close()
