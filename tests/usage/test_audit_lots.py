"""The audit knows lots: what they paid, who brought them, and that none gave too much."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.core.events import Posted
from gateway.core.rows import LedgerEntry
from gateway.store import checks
from gateway.store.ledger import insert_entry
from gateway.store.sink import SqliteSink
from gateway.usage.audit import AuditReport, audit
from tests.journal.making import WEEK_US, event, opened, ship, store, write
from tests.support.stores import each_store

pytestmark = each_store

DAY_US = 1_763_596_800_000_000
NEXT_WEEK_US = WEEK_US + 7 * 86_400_000_000
BUNDLE = LedgerEntry(
    id="b@1",  # an id may look like an occurrence
    account="acc",
    meter="coins",
    kind="bundle",
    lot="b@1",
    period_us=0,
    amount=100,
    starts_us=0,
    expires_us=None,
    priority=0,
    every="",
    price_micro=10_000_000,
    reason="",
    actor="ops",
    time_us=1,
)
ENTRIES = (
    BUNDLE,
    BUNDLE._replace(id="back", kind="adjustment", lot="b@1", amount=-10),
    BUNDLE._replace(id="gift", kind="recurring", lot="gift", amount=5, every="week"),
    BUNDLE._replace(id="more", kind="adjustment", lot=f"gift@{WEEK_US}", amount=1),
    BUNDLE._replace(id="topup", kind="topup", lot="", period_us=WEEK_US, amount=7),
)
EVENTS = (
    (Posted("coins", 3, WEEK_US), Posted("coins", 50, WEEK_US, "b@1")),
    (Posted("coins", 6, WEEK_US, f"gift@{WEEK_US}"), Posted("coins", 6, DAY_US, "@day")),
    (Posted("coins", 5, NEXT_WEEK_US, f"gift@{NEXT_WEEK_US}"),),
    (Posted("coins", 40, NEXT_WEEK_US, "b@1"), Posted("gold", 1, 0)),
    (Posted("coins", 1, DAY_US, "@day"), Posted("coins", 0, WEEK_US), Posted("gold", 1, 0)),
)


@pytest.fixture
def sink(tmp_path: Path) -> Iterator[SqliteSink]:
    with opened(tmp_path) as journal:
        for charges in EVENTS:
            write(journal, event(0, account="acc", charges=charges))
    ship(tmp_path)
    with store(tmp_path) as made:
        for entry in ENTRIES:
            made.run(lambda c, entry=entry: insert_entry(c, entry))  # type: ignore[misc]
        yield made


def run(sink: SqliteSink, **live: dict[tuple[str, str, int, str], int]) -> AuditReport:
    snapshot = sink.snapshot()
    try:
        return audit(snapshot, **live)  # type: ignore[arg-type]
    finally:
        snapshot.close()


def test_lots_that_add_up_are_clean(sink: SqliteSink) -> None:
    report = run(sink)
    assert report.is_clean, report.differences
    assert (report.events, report.charges, report.balances) == (5, 10, 7)


TAMPERED = [
    ("balances", "UPDATE charges SET lot = '' WHERE lot = 'b@1'"),
    ("balances", "UPDATE balances SET used = used + 1 WHERE lot = '@day'"),
    ("balances", "UPDATE balances SET lot = '@week' WHERE lot = '@day'"),
    ("balances", "INSERT INTO balances VALUES ('acc', 'coins', 5, '', 0)"),
    ("rollups", "UPDATE charges SET lot = '@day' WHERE lot = 'b@1'"),
    ("ledger", "DELETE FROM ledger WHERE id = 'b@1'"),
    ("ledger", "DELETE FROM ledger WHERE id = 'gift'"),
    ("ledger", "UPDATE ledger SET account = 'other' WHERE id = 'b@1'"),
    ("ledger", "UPDATE ledger SET meter = 'gold' WHERE id = 'gift'"),
    ("ledger", "UPDATE ledger SET lot = 'nothing' WHERE id = 'back'"),
    ("ledger", "UPDATE ledger SET amount = 99 WHERE id = 'b@1'"),
    ("ledger", "UPDATE ledger SET amount = -101 WHERE id = 'back'"),
    ("ledger", "UPDATE ledger SET amount = 4 WHERE id = 'gift'"),
    ("ledger", "DELETE FROM ledger WHERE id = 'more'"),
    ("ledger", "UPDATE ledger SET every = '' WHERE id = 'gift'"),
]


@pytest.mark.parametrize(("table", "sql"), TAMPERED)
def test_a_tampered_row_is_found(sink: SqliteSink, table: str, sql: str) -> None:
    assert sink.connection.execute(sql).rowcount >= 1
    assert table in {difference.table for difference in run(sink).differences}


def test_what_is_wrong_is_said(sink: SqliteSink) -> None:
    sink.connection.execute("UPDATE ledger SET amount = 95 WHERE id = 'b@1'")
    (found,) = run(sink).differences
    assert found == checks.Difference("ledger", "lot b@1 of acc overdrawn", 85, 90)


def test_live_lots_are_compared_over_all_periods(sink: SqliteSink) -> None:
    live = {
        ("acc", "coins", WEEK_US, ""): 3,
        ("acc", "coins", DAY_US, "@day"): 7,
        ("acc", "coins", 0, "b@1"): 90,
        ("acc", "coins", 0, f"gift@{WEEK_US}"): 6,
        ("acc", "coins", 0, "unused"): 0,
    }
    assert run(sink, used=live).is_clean
    report = run(sink, used=live | {("acc", "coins", 0, "b@1"): 89})
    assert report.differences == (checks.Difference("counters", "acc/coins/0/b@1", 90, 89),)
