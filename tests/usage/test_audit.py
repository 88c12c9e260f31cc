"""The audit is clean on what was shipped, and finds each tampered row."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.core.events import Posted, Refused
from gateway.core.rows import LedgerEntry
from gateway.journal.shipper import Shipper
from gateway.store import checks
from gateway.store.ledger import insert_entry
from gateway.store.sink import SqliteSink
from gateway.usage.audit import AuditReport, audit
from tests.journal.making import (
    HOUR_US,
    START_US,
    WEEK_US,
    event,
    opened,
    ship,
    shipping,
    store,
    write,
)
from tests.support.stores import each_store

pytestmark = each_store

EVENTS = 500


@pytest.fixture
def sink(tmp_path: Path) -> Iterator[SqliteSink]:
    with opened(tmp_path) as journal:
        for number in range(EVENTS):
            made = event(number, time_us=event(0).time_us + number * HOUR_US // 50)
            if number % 7 == 0:
                made = made._replace(charges=(), outcome="free")
            if number % 11 == 0:
                made = made._replace(charges=(Posted("coins", 2, WEEK_US), Posted("gold", 1, 0)))
            write(journal, made)
        journal.write_refused([Refused(made.time_us, "acc0", "r", "op", "blocked:x", 5)])
    ship(tmp_path)
    with store(tmp_path) as made_sink:
        yield made_sink


def run(sink: SqliteSink, **live: dict[tuple[str, str, int, str], int]) -> AuditReport:
    snapshot = sink.snapshot()
    try:
        return audit(snapshot, **live)  # type: ignore[arg-type]
    finally:
        snapshot.close()


def test_what_was_shipped_is_clean(sink: SqliteSink, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "SLICE", 37)
    report = run(sink)
    assert report.is_clean, report.differences
    assert report.events == EVENTS
    assert report.seq == 2 * EVENTS + 1
    assert report.charges > 400 and report.rollups > 50 and report.balances == 6


TAMPERED = [
    ("rollups", "UPDATE charges SET amount = amount + 1 WHERE seq = 4"),
    ("balances", "UPDATE charges SET period_us = 5 WHERE seq = 4"),
    ("balances", "DELETE FROM charges WHERE seq = 4"),
    ("charges", "INSERT INTO charges VALUES (3, 0, 'coins', 1, 0, '')"),
    ("charges", "INSERT INTO charges VALUES (4, 1, 'gold', -1, 0, '')"),
    ("rollups", "DELETE FROM events WHERE seq = 4"),
    ("rollups", "DELETE FROM events WHERE seq = 2"),
    ("rollups", "UPDATE events SET outcome = 'free' WHERE seq = 4"),
    ("rollups", "UPDATE events SET time_us = time_us + 3600000000 WHERE seq = 4"),
    ("labels", "UPDATE events SET account = 'acc2' WHERE seq = 4"),
    ("labels", "UPDATE labels SET account = 'thief' WHERE id = 1"),
    ("labels", "DELETE FROM labels WHERE id = 1"),
    ("rollups", "UPDATE rollups SET amount = amount + 1 WHERE label = 1"),
    ("rollups", "UPDATE rollups SET requests = requests + 1 WHERE label = 1"),
    ("rollups", "DELETE FROM rollups WHERE label = 1"),
    ("rollups", "INSERT INTO rollups VALUES (1, 'coins', 7, 7, 'charged', 0, 0, 0)"),
    ("balances", "UPDATE balances SET used = used - 1 WHERE account = 'acc1'"),
    ("balances", "DELETE FROM balances WHERE account = 'acc1'"),
    ("balances", "INSERT INTO balances VALUES ('acc9', 'coins', 0, '', 0)"),
    ("meta", "UPDATE meta SET applied_seq = 3"),
]


@pytest.mark.parametrize(("table", "sql"), TAMPERED)
def test_a_tampered_row_is_found(sink: SqliteSink, table: str, sql: str, store_kind: str) -> None:
    if store_kind == "postgres":  # charges have their event's time, journals are a table
        sql = sql.replace(", 0, '')", f", 0, '', {START_US})") if "charges" in sql else sql
        sql = sql.replace("UPDATE meta", "UPDATE journals")
    assert sink.connection.execute(sql).rowcount >= 1
    report = run(sink)
    assert table in {difference.table for difference in report.differences}


def test_live_counters_are_compared(sink: SqliteSink) -> None:
    snapshot = sink.snapshot()
    checks.recount(snapshot)
    right = checks.expected_balances(snapshot)
    snapshot.close()
    assert run(sink, used=right).is_clean
    key = ("acc1", "coins", WEEK_US, "")
    report = run(sink, used=right | {key: right[key] + 1, ("acc9", "coins", 0, ""): 0})
    assert [(d.table, d.expected + 1) for d in report.differences] == [("counters", right[key] + 1)]
    assert report.counters == len(right) + 1


def test_live_topups_are_compared(sink: SqliteSink) -> None:
    entry = LedgerEntry(
        *("t1", "acc1", "coins", "topup", "", WEEK_US, 50, WEEK_US, None, 0, "", 0, "", "ops", 1)
    )
    sink.run(lambda connection: insert_entry(connection, entry))
    assert run(sink, topped_up={("acc1", "coins", WEEK_US, ""): 50}).is_clean
    sink.connection.execute("UPDATE ledger SET amount = 51")
    report = run(sink, topped_up={("acc1", "coins", WEEK_US, ""): 50})
    assert [difference.table for difference in report.differences] == ["topped_up"]


def test_a_live_system_proves_its_counters(tmp_path: Path) -> None:
    """Counters are kept as the gateway keeps them, writing goes on during the audit."""
    live: dict[tuple[str, str, int, str], int] = {}
    with (
        store(tmp_path) as sink,
        opened(tmp_path) as journal,
        shipping(tmp_path, journal, sink) as shipper,
    ):
        for round_ in range(5):
            for number in range(300):
                made = event(number)
                write(journal, made)
                for meter, amount, period_us, lot in made.charges:
                    key = (made.account, meter, period_us, lot)
                    live[key] = live.get(key, 0) + amount
            report = prove(
                shipper,
                journal.last_seq,
                dict(live),
                lambda: write(journal, event(0, charges=())),
            )
            assert report.is_clean, report.differences
            assert report.events == 300 * (round_ + 1) + round_


def prove(
    shipper: Shipper[object],
    seq: int,
    live: dict[tuple[str, str, int, str], int],
    meanwhile: object,
) -> AuditReport:
    barrier = shipper.barrier(seq)
    assert callable(meanwhile)
    meanwhile()
    snapshot = barrier.result(10)
    try:
        return audit(snapshot, live)  # type: ignore[arg-type]
    finally:
        snapshot.close()  # type: ignore[attr-defined]
