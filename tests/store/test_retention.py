"""Events leave after their time: each is in the files or in the store, and all sums stay."""

from __future__ import annotations

import csv
import gzip
import hashlib
import json
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pyarrow import parquet

from gateway.core.book import Account, Archive, Plan, Retention
from gateway.core.events import Event, Posted
from gateway.core.periods import DAY_US, HOUR_US, WEEK_US
from gateway.core.rows import LedgerEntry
from gateway.store import removal_sqlite
from gateway.store.archive import CHARGE_COLUMNS, EVENT_COLUMNS
from gateway.store.ledger import insert_entry, record_account_version, record_plans_version
from gateway.store.removal import removals
from gateway.store.retention import Retainer
from gateway.store.sums import read_requests, read_spans, read_sums, read_uses
from gateway.usage.audit import audit
from tests.journal.making import event, opened, ship, store, write
from tests.support.stores import backend, each_store, open_report

pytestmark = each_store

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


def grid(start: str, step_us: int, count: int) -> list[int]:
    return [at(start) + n * step_us for n in range(count)]


@pytest.fixture
def events(tmp_path: Path) -> list[Event]:
    """From December to March, dense around the changes of January."""
    with store(tmp_path) as sink:
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
        sink.run(lambda c: record_plans_version(c, "b1", {"free": Plan("free")}, WEEKS_FROM_US))
        edited = {"free": Plan("free"), "pro": Plan("pro")}
        sink.run(lambda c: record_plans_version(c, "b2", edited, CHANGED_US + MINUTE_US))
    times = grid("2025-12-20T00:00:00", 5 * HOUR_US + 7 * MINUTE_US, 150)
    times += grid("2026-01-10T09:50:00", 2 * MINUTE_US + 1, 90)
    times += grid("2026-02-01T00:00:00", 11 * HOUR_US, 60)
    return written(tmp_path, sorted(times))


@pytest.fixture
def retain(tmp_path: Path, store_kind: str) -> Callable[..., Any]:
    """Run it, at NOW_US if not told otherwise."""

    def run(now_us: int = NOW_US, months: int = 2, format: str | None = "csv", **more: Any) -> Any:
        archive = None if format is None else Archive(str(tmp_path / "archive"), format)  # type: ignore[arg-type]
        with store(tmp_path) as sink:
            settings = Retention(months, archive)
            retainer = Retainer(backend(tmp_path), settings, DECIMALS, sink.run, **more)
            return retainer.retain(now_us)

    return run


def checked(home: Path) -> int:
    """The audit is clean; how many events the store has."""
    with closing(backend(home).open_snapshot()) as snapshot:
        report = audit(snapshot)
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


def test_what_is_old_is_archived_and_everything_stays_the_same(
    tmp_path: Path, events: list[Event], retain: Callable[..., Any]
) -> None:
    before = answers(tmp_path)
    count = checked(tmp_path)
    assert count == len(events)
    done = retain()
    old = [one for one in events if one.time_us < JANUARY_US]
    assert [(removal.month, removal.events) for removal in done] == [("2025-12", len(old))]
    assert checked(tmp_path) == len(events) - len(old)
    assert answers(tmp_path) == before
    done = retain(at("2026-05-01"))
    assert [removal.month for removal in done] == ["2026-01", "2026-02"]
    left = [one.id for one in events if one.time_us >= at("2026-03-01")]
    assert stored(tmp_path) == left
    assert checked(tmp_path) == len(left)
    assert answers(tmp_path) == before
    assert retain(at("2026-05-01")) == []


@pytest.mark.parametrize("format", ["csv", "parquet"])
def test_the_files_have_all_of_an_event(
    tmp_path: Path, events: list[Event], retain: Callable[..., Any], format: str
) -> None:
    retain(at("2026-04-20"), format=format)
    old = {one.id: one for one in events if one.time_us < FEBRUARY_US}
    rows = archived(tmp_path)
    assert len(rows) == len(old) and {row["id"] for row in rows} == old.keys()
    seqs = {}
    for row in rows:
        one = old[row["id"]]
        seqs[row["seq"]] = one
        named = {**row, "key_id": row["key"], "book": row["price_book"]}
        fields = [name for name in Event._fields if name != "charges"]
        assert [named[name] for name in fields] == [getattr(one, name) for name in fields]
    charges: dict[str, list[Posted]] = {}
    for row in archived(tmp_path, "charges"):
        one = seqs[row["seq"]]
        assert (row["event"], row["account"], row["time_us"]) == (one.id, one.account, one.time_us)
        assert row["n"] == len(charges.setdefault(one.id, []))
        charges[one.id].append(Posted(row["meter"], row["amount"], row["period_us"], row["lot"]))
    assert charges == {one.id: list(one.charges) for one in old.values() if one.charges}


def test_the_manifest_says_what_there_is(
    tmp_path: Path, events: list[Event], retain: Callable[..., Any]
) -> None:
    retain()
    manifest = json.loads((tmp_path / "archive" / "manifest-2025-12.json").read_text())
    old = [one for one in events if one.time_us < JANUARY_US]
    charged = [c for one in old for c in one.charges if not c.lot.startswith("@")]
    coins = [charge.amount for charge in charged if charge.meter == "coins"]
    assert (manifest["month"], manifest["part"]) == ("2025-12", 1)
    assert [file["name"] for file in manifest["files"]] == [
        "events-2025-12.csv.gz", "charges-2025-12.csv.gz",
    ]  # fmt: skip
    total = sum(coins)
    assert manifest["meters"]["coins"] == {
        "charges": len(coins), "amount": total, "decimals": 2,
        "exact": f"{total // 100}.{total % 100:02}".rstrip("0").rstrip("."),
    }  # fmt: skip
    assert manifest["meters"]["gold"]["decimals"] == 0


def test_without_an_archive_events_are_dropped(
    tmp_path: Path, events: list[Event], retain: Callable[..., Any]
) -> None:
    before = answers(tmp_path)
    retain(at("2026-04-20"), format=None)
    assert stored(tmp_path) == [one.id for one in events if one.time_us >= FEBRUARY_US]
    assert answers(tmp_path) == before
    checked(tmp_path)
    assert not (tmp_path / "archive").exists()


def test_late_events_are_taken_and_archived_later(
    tmp_path: Path, events: list[Event], retain: Callable[..., Any]
) -> None:
    retain()
    late = written(tmp_path, grid("2025-12-24T18:00:00", MINUTE_US, 20), first=len(events))
    before = answers(tmp_path)
    assert checked(tmp_path) == sum(one.time_us >= JANUARY_US for one in events) + len(late)
    done = retain()
    assert [(removal.month, removal.part, removal.archive) for removal in done] == [
        ("2025-12", 2, "manifest-2025-12-2.json")
    ]
    assert (tmp_path / "archive" / "events-2025-12-2.csv.gz").exists()
    assert answers(tmp_path) == before
    found = [row["id"] for row in archived(tmp_path)]
    wanted = [one.id for one in events if one.time_us < JANUARY_US] + [one.id for one in late]
    assert sorted(found) == sorted(wanted)
    checked(tmp_path)


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
    retain()
    found = [row["id"] for row in archived(home)] + stored(home)
    assert sorted(found) == sorted(one.id for one in events)
    assert set(stored(home)) == {one.id for one in events if one.time_us >= JANUARY_US}
    checked(home)
    assert {path.name.startswith(".") for path in (home / "archive").iterdir()} == {False}


@pytest.mark.parametrize("step", range(8))
def test_a_crash_between_pages_loses_nothing(
    tmp_path: Path,
    events: list[Event],
    retain: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    step: int,
) -> None:
    monkeypatch.setattr(removal_sqlite, "DELETE_EVENTS", 10)
    before = answers(tmp_path)
    try:
        retain(rest=crashing(step))
    except Crash:
        pass
    else:
        assert step > 3  # there are three pages, and then only SQLite takes steps
    proven(tmp_path, events)
    assert answers(tmp_path) == before
    # What comes late in between is no part of what is being removed.
    late = written(tmp_path, grid("2025-12-24T18:00:00", MINUTE_US, 20), first=len(events))
    proven(tmp_path, [*events, *late])
    ends_well(tmp_path, [*events, *late], retain)
