"""Retention that ends at any step, or beside others, loses no event and counts none twice."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import closing
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gateway.core.book import Archive, Retention
from gateway.core.events import Event
from gateway.core.periods import HOUR_US
from gateway.store import archive, removal_sqlite, retention_thread
from gateway.store.archive import CsvFile
from gateway.store.removal_postgres import PostgresRemover
from gateway.store.retention_thread import RetentionThread
from gateway.store.sink import SqliteSink
from gateway.usage.audit import audit
from tests.journal.making import shipping, store, write
from tests.store.retaining import (
    JANUARY_US,
    MINUTE_US,
    NOW_US,
    Crash,
    answers,
    archived,
    at,
    checked,
    crashing,
    ends_well,
    grant_lots,
    grid,
    journal_of,
    made,
    proven,
    reported,
    stored,
    written,
    written_by,
)
from tests.support.stores import backend, each_store

pytestmark = each_store


def test_a_crash_between_pages_loses_nothing(
    tmp_path: Path,
    events: list[Event],
    retain: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    store_kind: str,
) -> None:
    monkeypatch.setattr(removal_sqlite, "DELETE_EVENTS", 10)
    before = answers(tmp_path)
    # Three pages, one for each account; then SQLite deletes part by part.
    with pytest.raises(Crash):
        retain(rest=crashing(5 if store_kind == "sqlite" else 2))
    proven(tmp_path, events)
    assert answers(tmp_path) == before
    # What comes late in between is no part of what is being removed.
    late = written(tmp_path, grid("2025-12-24T18:00:00", MINUTE_US, 20), first=len(events))
    proven(tmp_path, [*events, *late])
    ends_well(tmp_path, [*events, *late], retain)


def stepping(work: Callable[..., Any], step: Callable[[], None]) -> Callable[..., Any]:
    """Before it nothing is done, behind it nobody has heard of what was."""

    def stepped(*arguments: Any, **named: Any) -> Any:
        step()
        result = work(*arguments, **named)
        step()
        return result

    return stepped


def test_a_crash_at_any_step_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, retain: Callable[..., Any], store_kind: str
) -> None:
    monkeypatch.setattr(removal_sqlite, "DELETE_EVENTS", 15)
    home = tmp_path / "home"
    grant_lots(home)
    events = written(home, grid("2025-11-25T00:00:00", 26 * HOUR_US, 60))
    for crashes in count():
        if store_kind == "sqlite":  # a month leaves in many steps: anew for each
            home = tmp_path / str(crashes)
            shutil.copytree(tmp_path / "home", home)
        with monkeypatch.context() as patch:
            put_steps(patch, crashing(crashes))
            try:
                retain(home=home)
                break
            except Crash:
                pass
        files = {row["id"]: row for row in archived(home)}
        assert files.keys() | set(stored(home)) == {one.id for one in events}
        assert reported(home).differences == ()
        if store_kind == "sqlite":
            ends_well(home, events, retain)
    assert crashes > 60
    ends_well(home, events, retain)


def put_steps(patch: pytest.MonkeyPatch, step: Callable[[], None]) -> None:
    """Wherever something is told to a disk, or to a database."""
    for name in ("sync", "write_durably", "_facts_of"):
        patch.setattr(archive, name, stepping(getattr(archive, name), step))
    patch.setattr(Path, "replace", stepping(Path.replace, step))
    patch.setattr(CsvFile, "write", stepping(CsvFile.write, step))
    patch.setattr(SqliteSink, "run", stepping(SqliteSink.run, step))
    patch.setattr(PostgresRemover, "__init__", executing(step))


def executing(step: Callable[[], None]) -> Callable[..., None]:
    """A remover of PostgreSQL whose statements are steps."""
    make = PostgresRemover.__init__

    def made_stepping(self: Any, url: str) -> None:
        make(self, url)
        self._database.execute = stepping(self._database.execute, step)

    return made_stepping


@pytest.mark.parametrize("store_kind", ["postgres"], indirect=True)
def test_only_one_process_removes_at_a_time(
    tmp_path: Path, events: list[Event], retain: Callable[..., Any], store_kind: str
) -> None:
    """With SQLite the lock of the data directory says it: tests/cli/test_stores.py."""
    with closing(backend(tmp_path).open_remover(lambda change: None)) as other:
        assert other.take_turn()
        assert retain() is None
    assert len(retain()) == 1


def test_events_that_come_while_a_month_is_copied_are_not_lost(
    tmp_path: Path, events: list[Event], retain: Callable[..., Any], store_kind: str
) -> None:
    late: list[Event] = []

    def rest() -> None:
        if not late:
            times = grid("2025-12-24T18:00:00", MINUTE_US, 20)
            late.extend(written_by(other, tmp_path, times, first=len(events)))

    with store(tmp_path) as other:
        retain(rest=rest)
    assert checked(tmp_path) + len(archived(tmp_path)) == len(events) + len(late)
    ends_well(tmp_path, [*events, *late], retain)


def test_a_month_that_is_read_is_left_for_the_next_time(
    tmp_path: Path, events: list[Event], retain: Callable[..., Any], store_kind: str
) -> None:
    facts = []
    with closing(backend(tmp_path).open_snapshot()) as snapshot:
        done = retain(log=lambda fact, **figures: facts.append((fact, figures)))
        report = audit(snapshot)  # of the moment it began
        assert report.is_clean and report.events == len(events)
    if store_kind == "postgres":
        assert done == [] and ("month_not_removed", "2025-12") in [
            (fact, figures["month"]) for fact, figures in facts
        ]
        done = retain()
    assert [removal.month for removal in done] == ["2025-12"]
    ends_well(tmp_path, events, retain)


@pytest.mark.parametrize("store_kind", ["postgres"], indirect=True)
def test_a_partition_goes_and_comes_back(
    tmp_path: Path, events: list[Event], retain: Callable[..., Any], store_kind: str
) -> None:
    with store(tmp_path) as sink:
        names = "SELECT relname FROM pg_class WHERE relkind = 'r' AND relispartition"
        here = f"{names} AND relnamespace = current_schema()::regnamespace ORDER BY 1"

        def tables() -> list[str]:
            return [row[0][-7:] for row in sink.connection.execute(here).fetchall()]

        assert tables() == 2 * ["2025_12", "2026_01", "2026_02"]
        retain()
        assert tables() == 2 * ["2026_01", "2026_02"]
        written_by(sink, tmp_path, grid("2025-12-30T00:00:00", HOUR_US, 3), first=len(events))
        assert tables() == 2 * ["2025_12", "2026_01", "2026_02"]


def test_a_gateway_ships_while_it_removes(
    tmp_path: Path, events: list[Event], monkeypatch: pytest.MonkeyPatch, store_kind: str
) -> None:
    monkeypatch.setattr(retention_thread, "FIRST_S", 0.0)
    monkeypatch.setattr(removal_sqlite, "DELETE_EVENTS", 3)
    facts: list[str] = []
    settings = Retention(2, Archive(str(tmp_path / "archive")))
    book: Any = SimpleNamespace(store=SimpleNamespace(retention=settings), meters={})
    late: list[Event] = []
    with (
        store(tmp_path) as sink,
        journal_of(tmp_path, sink) as journal,
        shipping(tmp_path, journal, sink) as shipper,
    ):
        thread = RetentionThread(
            book, backend(tmp_path), shipper.submit, lambda: NOW_US,
            lambda fact, **figures: facts.append(fact),
        )  # fmt: skip
        thread.start()
        while not facts:
            late.append(made(len(events) + len(late), at("2026-03-20") + len(late)))
            shipper.reached(write(journal, late[-1])).result(30)
        thread.stop()
    assert facts == ["month_removed"]
    left = sum(one.time_us >= JANUARY_US for one in events)
    assert checked(tmp_path) == left + len(late)
    assert len(late) > 1


def test_a_thread_stops_at_once_and_the_next_goes_on(
    tmp_path: Path, events: list[Event], monkeypatch: pytest.MonkeyPatch, retain: Callable[..., Any]
) -> None:
    monkeypatch.setattr(retention_thread, "FIRST_S", 0.0)
    asked = threading.Event()
    settings = Retention(2, Archive(str(tmp_path / "archive")))
    book: Any = SimpleNamespace(store=SimpleNamespace(retention=settings), meters={})

    def now_us() -> int:
        asked.set()
        return NOW_US

    with store(tmp_path) as sink:
        monkeypatch.setattr(retention_thread, "PAUSE_S", 30.0)

        def submit(change: Callable[[Any], Any]) -> Future[Any]:
            future: Future[Any] = Future()
            future.set_result(sink.run(change))
            return future

        thread = RetentionThread(
            book, backend(tmp_path), submit, now_us, lambda fact, **figures: None
        )
        thread.start()
        assert asked.wait(30)
        thread.stop(timeout_s=30)
    assert not [running for running in threading.enumerate() if running.name == "retention"]
    proven(tmp_path, events)
    ends_well(tmp_path, events, retain)
