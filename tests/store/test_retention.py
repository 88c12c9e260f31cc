"""Events leave after their time: each is in the files or in the store, and all sums stay."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from gateway.core.book import Archive, Retention
from gateway.core.events import Event, Posted
from gateway.store import removal_sqlite
from gateway.store.backend import JOURNAL_ID_FILE, write_journal_id
from gateway.store.base import StoreError
from gateway.store.copying import copy_store
from gateway.store.removal import kept_from_us, removals, removed_until_us
from gateway.store.retention import Due, plan
from gateway.store.retention import Plan as Planned
from tests.journal.making import store
from tests.store.retaining import (
    FEBRUARY_US,
    JANUARY_US,
    MINUTE_US,
    NOW_US,
    Crash,
    answers,
    archived,
    at,
    checked,
    crashing,
    grid,
    reported,
    stored,
    written,
)
from tests.support.stores import backend, each_store, open_report, postgres_url, use_kind

pytestmark = each_store


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


@pytest.mark.parametrize("format", ["csv", "parquet"])
def test_the_files_are_read_by_the_gateways_user_alone(
    tmp_path: Path, events: list[Event], retain: Callable[..., Any], format: str
) -> None:
    assert events
    retain(format=format)
    home = tmp_path / "archive"
    assert home.stat().st_mode & 0o777 == 0o700
    modes = [path.stat().st_mode & 0o777 for path in home.iterdir()]
    assert modes == [0o600] * 3


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
        "exact": f"{total // 100}.{total % 100:02}",
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


def test_what_the_audit_has_to_tell_of_is_not_removed(
    tmp_path: Path, events: list[Event], retain: Callable[..., Any]
) -> None:
    with store(tmp_path) as sink:
        sink.connection.execute("UPDATE events SET label = 10000 WHERE seq = 2")
    for _ in range(2):
        retain()
    assert events[0].id in stored(tmp_path)
    assert "labels" in {difference.table for difference in reported(tmp_path).differences}
    with closing(open_report(tmp_path)) as reader:
        assert len(removals(reader)) <= 1


def test_a_folder_of_another_store_is_left_alone(
    tmp_path: Path, events: list[Event], retain: Callable[..., Any]
) -> None:
    (tmp_path / "archive").mkdir()
    manifest = tmp_path / "archive" / "manifest-2025-12.json"
    manifest.write_text('{"store": "other"}')
    with pytest.raises(StoreError, match="found files of another"):
        retain()
    assert checked(tmp_path) == len(events)
    assert [path.name for path in (tmp_path / "archive").iterdir()] == [manifest.name]


def test_an_archive_that_cannot_be_written_is_said_before(
    tmp_path: Path, retain: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(StoreError, match=r"pip install 'tallygate\[parquet\]'"):
        retain(format="parquet")
    (tmp_path / "archive").touch()
    with pytest.raises(StoreError, match=r"store\.retention\.archive\.dir"):
        retain()


def test_a_plan_changes_nothing(
    tmp_path: Path, events: list[Event], retain: Callable[..., Any]
) -> None:
    kept = Retention(2, Archive(str(tmp_path / "archive")))
    old = sum(one.time_us < JANUARY_US for one in events)
    found = plan(backend(tmp_path), kept, NOW_US)
    assert found == Planned(
        "2026-01-01T00:00:00Z", [Due("2025-12", old, "manifest-2025-12.json")], []
    )
    assert not (tmp_path / "archive").exists() and checked(tmp_path) == len(events)
    retain()
    assert plan(backend(tmp_path), kept, NOW_US).months == []


@pytest.mark.parametrize(
    ("months", "now", "kept"),
    [(2, "2026-03-01", "2026-01-01"), (2, "2026-03-31T23:59:59", "2026-01-01"),
     (13, "2026-03-20", "2025-02-01"), (24, "2026-01-01", "2024-01-01")],
)  # fmt: skip
def test_whole_months_are_kept(months: int, now: str, kept: str) -> None:
    assert kept_from_us(months, at(now)) == at(kept)


@pytest.mark.parametrize("store_kind", ["sqlite"], indirect=True)
def test_what_is_removed_goes_along_to_postgresql(
    tmp_path: Path,
    events: list[Event],
    retain: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    store_kind: str,
) -> None:
    monkeypatch.setattr(removal_sqlite, "DELETE_EVENTS", 10)
    before = answers(tmp_path)
    url = postgres_url(tmp_path)
    with pytest.raises(Crash):
        retain(rest=crashing(5))
    with (
        closing(backend(tmp_path).open_snapshot()) as source,
        pytest.raises(StoreError, match="tallygate retain"),
    ):
        copy_store(source, url)
    retain()
    with closing(backend(tmp_path).open_snapshot()) as source:
        journal_id = copy_store(source, url)
    with closing(open_report(tmp_path)) as reader:
        noted = removals(reader)
    use_kind("postgres")
    assert answers(tmp_path) == before
    checked(tmp_path)
    with closing(open_report(tmp_path)) as reader:
        assert removals(reader) == noted and removed_until_us(reader) == JANUARY_US
    write_journal_id(tmp_path / "journal" / JOURNAL_ID_FILE, journal_id)
    assert retain() == [] and len(retain(at("2026-04-20"))) == 1  # in the same folder
