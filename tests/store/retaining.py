"""Events of many months and what is asked of them, for the tests of retention."""

from __future__ import annotations

import csv
import gzip
import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pyarrow import parquet

from gateway.core.book import Account, Plan
from gateway.core.events import Event, Posted
from gateway.core.periods import DAY_US, HOUR_US, WEEK_US
from gateway.core.rows import LedgerEntry
from gateway.journal.writer import Journal
from gateway.store.archive import CHARGE_COLUMNS, EVENT_COLUMNS
from gateway.store.ledger import insert_entry, record_account_version, record_plans_version
from gateway.store.removal import removals
from gateway.store.sums import read_requests, read_spans, read_sums, read_uses
from gateway.usage.audit import AuditReport, audit
from tests.journal.making import event, opened, settings, ship, shipping, store, write
from tests.support.stores import backend, open_report

ACCOUNTS = ("acc0", "acc1", "acc2")
MINUTE_US = HOUR_US // 60
DECIMALS = {"coins": 2}


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * 1_000_000


NOW_US = at("2026-03-20T12:00:00")
JANUARY_US, FEBRUARY_US = at("2026-01-01"), at("2026-02-01")
# In the middle of an hour: other terms, and a week of the account's own.
CHANGED_US = at("2026-01-10T10:23:45")
WEEKS_FROM_US = at("2025-12-01T09:17:00")


def week_of(time_us: int) -> int:
    return time_us - (time_us - WEEKS_FROM_US) % WEEK_US


def made(number: int, time_us: int, **changes: Any) -> Event:
    """Each kind of charges in turn."""
    week_us = week_of(time_us)
    lot = f"grant-{event(number).account}"
    kinds: tuple[tuple[Posted, ...], ...] = (
        (Posted("coins", 1 + number % 4, week_us),),
        (),
        (Posted("coins", 2, week_us), Posted("coins", 3, week_us, lot), Posted("gold", 1, 0)),
        (
            Posted("coins", 5, time_us - time_us % DAY_US, "@day"),
            Posted("coins", 5, week_us, lot),
        ),
        (Posted("coins", 4, time_us - time_us % DAY_US, "@day"),),
    )
    charges = kinds[number % len(kinds)]
    request_id = "" if number % 2 else "own"
    values = {"charges": charges, "time_us": time_us, "request_id": request_id or event(number).id}
    return event(number, **(values | changes))


def written(home: Path, times_us: list[int], first: int = 0) -> list[Event]:
    """Events at these times, in the store of `home`."""
    events = [made(first + n, time_us) for n, time_us in enumerate(times_us)]
    with opened(home) as journal:
        for one in events:
            write(journal, one)
    ship(home)
    return events


def written_by(sink: Any, home: Path, times_us: list[int], first: int) -> list[Event]:
    """The same through a sink that is open, as a running gateway's is."""
    events = [made(first + n, time_us) for n, time_us in enumerate(times_us)]
    with journal_of(home, sink) as journal, shipping(home, journal, sink) as shipper:
        for one in events:
            seq = write(journal, one)
        shipper.reached(seq).result(60)
    return events


@contextmanager
def journal_of(home: Path, sink: Any) -> Iterator[Journal]:
    journal = Journal.open(settings(home), sink.journal_id, sink.applied_seq + 1)
    try:
        yield journal
    finally:
        journal.close()


def grid(start: str, step_us: int, count: int) -> list[int]:
    return [at(start) + n * step_us for n in range(count)]


def grant_lots(home: Path) -> None:
    """Accounts with their history, and the lots that events take from."""
    with store(home) as sink:
        for name in ACCOUNTS:
            account = Account(name, "free", timezone="Asia/Kolkata" if name == "acc1" else "UTC")
            sink.run(lambda c, a=account: record_account_version(c, a, at("2025-11-03T08:08:08")))
            sink.run(
                lambda c, a=account: record_account_version(c, replace(a, plan="pro"), CHANGED_US)
            )
            lot = f"grant-{name}"
            grant = LedgerEntry(
                *(lot, name, "coins", "grant", lot, 0, 10**6, 0, None, 0, "", 0, "", "", 1)
            )
            sink.run(lambda c, entry=grant: insert_entry(c, entry))
        for meter in DECIMALS.items():
            sink.run(lambda c, row=meter: c.execute("INSERT INTO meters VALUES (?, ?)", row))
        sink.run(lambda c: record_plans_version(c, "b1", {"free": Plan("free")}, WEEKS_FROM_US))
        edited = {"free": Plan("free"), "pro": Plan("pro")}
        sink.run(lambda c: record_plans_version(c, "b2", edited, CHANGED_US + MINUTE_US))


def reported(home: Path) -> AuditReport:
    with closing(backend(home).open_snapshot()) as snapshot:
        return audit(snapshot)


def checked(home: Path) -> int:
    """The audit is clean; how many events the store has."""
    report = reported(home)
    assert report.is_clean, report.differences
    return report.events


def answers(home: Path) -> Any:
    """What bills and pages are made from, for spans that are cut in hours."""
    cut_us = [WEEKS_FROM_US + n * WEEK_US for n in range(16)]
    half_us = at("2026-01-09T18:30:00")  # midnight of acc1
    bounds = sorted([*cut_us, CHANGED_US, CHANGED_US + MINUTE_US, FEBRUARY_US])
    with closing(open_report(home)) as reader:
        return [
            [
                [read_uses(reader, name, "coins", week, [week, week + WEEK_US]) for week in cut_us],
                read_uses(reader, name, "coins", week_of(CHANGED_US), [
                    week_of(CHANGED_US), CHANGED_US, CHANGED_US + MINUTE_US,
                    week_of(CHANGED_US) + WEEK_US,
                ]),
                read_spans(reader, name, "coins", bounds),
                read_spans(reader, name, "gold", [JANUARY_US, CHANGED_US, FEBRUARY_US]),
                *(
                    [
                        read_sums(reader, name, CHANGED_US, half_us + WEEK_US, "operation"),
                        read_sums(reader, name, WEEKS_FROM_US, CHANGED_US, "user", "coins"),
                        read_requests(reader, name, CHANGED_US, FEBRUARY_US),
                        read_requests(reader, name, JANUARY_US, CHANGED_US + MINUTE_US),
                    ]
                ),
                (
                    read_spans(reader, name, "coins", [half_us + n * DAY_US for n in range(9)])
                    if name == "acc1"
                    else None
                ),
            ]
            for name in ACCOUNTS
        ]  # fmt: skip


def stored(home: Path) -> list[str]:
    with closing(open_report(home)) as reader:
        return [row[0] for row in reader.execute("SELECT id FROM events ORDER BY seq").fetchall()]


def read_table(path: Path) -> list[dict[str, Any]]:
    if path.suffix == ".parquet":
        found: list[dict[str, Any]] = parquet.read_table(path).to_pylist()
        return found
    with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
        columns = EVENT_COLUMNS if path.name.startswith("events") else CHARGE_COLUMNS
        return [
            {name: row[name] if is_text else int(row[name]) for name, is_text in columns}
            for row in csv.DictReader(file)
        ]


def archived(home: Path, table: str = "events") -> list[dict[str, Any]]:
    """Rows of all files that have a manifest and are noted in the store, proven against it."""
    rows = []
    with closing(open_report(home)) as reader:
        noted = [removal.archive for removal in removals(reader)]
    for name in noted:
        manifest = json.loads((home / "archive" / name).read_text())
        for file in manifest["files"]:
            path = home / "archive" / file["name"]
            assert hashlib.sha256(path.read_bytes()).hexdigest() == file["sha256"]
            found = read_table(path)
            assert len(found) == file["rows"] and path.stat().st_size == file["bytes"]
            rows += found if file["table"] == table else []
    return rows


class Crash(Exception):
    """The process ends here."""


def crashing(step: int) -> Callable[[], None]:
    """Raises the `step`-th time that it is called."""
    left = iter(range(step))

    def rest() -> None:
        if next(left, None) is None:
            raise Crash

    return rest


def proven(home: Path, events: list[Event]) -> None:
    """No event is lost, and none is in the store's sums twice."""
    checked(home)
    files = {row["id"] for row in archived(home)} if (home / "archive").exists() else set()
    assert files | set(stored(home)) == {one.id for one in events}


def ends_well(home: Path, events: list[Event], retain: Callable[..., Any]) -> None:
    """A rerun puts each event into one place."""
    retain(home=home)
    found = [row["id"] for row in archived(home)] + stored(home)
    assert sorted(found) == sorted(one.id for one in events)
    assert set(stored(home)) == {one.id for one in events if one.time_us >= JANUARY_US}
    checked(home)
    assert {path.name.startswith(".") for path in (home / "archive").iterdir()} == {False}
