"""Schema versions, settings of a connection, and the lock."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.store import connect
from gateway.store.backend import JOURNAL_ID_FILE, journal_id_of
from gateway.store.base import StoreError
from gateway.store.durable import draft_of
from gateway.store.lock import DataLock, DataLocked
from gateway.store.sink import SqliteSink
from gateway.store.sqlite import SqliteStore


def test_a_new_store_has_an_identity_that_stays(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "store.db"
    first = SqliteSink.open(path)
    assert first.applied_seq == 0
    first.close()
    again = SqliteSink.open(path)
    assert again.journal_id == first.journal_id != ""
    again.close()


def test_what_a_gateway_makes_is_its_own(tmp_path: Path) -> None:
    home = tmp_path / "data"
    with DataLock(home):
        sink = SqliteSink.open(home / "store.db")
        found = {path.name: path.stat().st_mode & 0o777 for path in home.iterdir()}
        sink.close()
    assert home.stat().st_mode & 0o777 == 0o700
    assert found == dict.fromkeys(("lock", "store.db", "store.db-wal", "store.db-shm"), 0o600)


def test_so_is_the_name_of_its_journal(tmp_path: Path) -> None:
    home = tmp_path / "journal"
    home.mkdir()
    draft_of(home / JOURNAL_ID_FILE).touch(0o644)  # of one that was killed
    name = journal_id_of(home)
    assert journal_id_of(home) == name
    assert [path.stat().st_mode & 0o777 for path in home.iterdir()] == [0o600]


def test_a_store_that_others_may_read_stays_so(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    SqliteSink.open(path).close()
    path.chmod(0o640)
    SqliteSink.open(path).close()
    assert path.stat().st_mode & 0o777 == 0o640


def test_a_newer_store_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    SqliteSink.open(path).close()
    raw = sqlite3.connect(path)
    raw.execute("PRAGMA user_version = 99")
    raw.close()
    with pytest.raises(StoreError, match="written by a newer tallygate"):
        SqliteSink.open(path)
    with pytest.raises(StoreError, match="found 99"):
        SqliteStore(path)


def test_migrations_go_one_by_one_and_as_a_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "store.db"
    SqliteSink.open(path).close()
    steps = tmp_path / "steps"
    steps.mkdir()
    first = sorted(connect.MIGRATIONS.glob("*.sql"))
    for file in first:
        (steps / file.name).write_text(file.read_text())
    bad = steps / "0900_bad.sql"
    bad.write_text("CREATE TABLE half (x); INSERT INTO nowhere VALUES (1);")
    monkeypatch.setattr(connect, "MIGRATIONS", steps)
    with pytest.raises(sqlite3.OperationalError):
        SqliteSink.open(path)
    bad.write_text("CREATE TABLE whole (x);")
    sink = SqliteSink.open(path)
    names = [row[0] for row in sink.connection.execute("SELECT name FROM sqlite_master")]
    assert "whole" in names and "half" not in names
    assert sink.connection.execute("PRAGMA user_version").fetchall() == [(len(first) + 1,)]
    sink.close()


def test_no_store_no_reader(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no store there"):
        SqliteStore(tmp_path / "store.db")
    assert list(tmp_path.iterdir()) == []


def test_an_old_sqlite_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connect, "SQLITE_MIN", (99, 0, 0))
    with pytest.raises(StoreError, match="expected SQLite"):
        SqliteSink.open(tmp_path / "store.db")


def test_readers_cannot_write(tmp_path: Path) -> None:
    SqliteSink.open(tmp_path / "store.db").close()
    reader = SqliteStore(tmp_path / "store.db")
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        reader.connection.execute("DELETE FROM events")
    reader.close()


def test_a_failed_fsync_is_never_called_durable_again(
    tmp_path: Path,
) -> None:
    class Failing:
        def __init__(self, connection: sqlite3.Connection) -> None:
            self.connection = connection
            self.in_transaction = False
            self.fail = True

        def execute(self, sql: str, values: tuple[object, ...] = ()) -> sqlite3.Cursor:
            if sql == "COMMIT" and self.fail:
                self.connection.execute("ROLLBACK")
                error = sqlite3.OperationalError("disk I/O error")
                error.sqlite_errorcode = sqlite3.SQLITE_IOERR_FSYNC
                raise error
            return self.connection.execute(sql, values)

    sink = SqliteSink.open(tmp_path / "store.db")
    failing = Failing(sink.connection)
    broken = SqliteSink(tmp_path / "store.db", failing)  # type: ignore[arg-type]
    with pytest.raises(sqlite3.OperationalError):
        broken.make_durable()
    failing.fail = False  # the kernel would now say: all well
    with pytest.raises(StoreError, match="fsync of the store failed"):
        broken.make_durable()
    sink.close()


def test_the_lock_names_its_holder(tmp_path: Path) -> None:
    with DataLock(tmp_path):
        code = (
            "import sys\nfrom gateway.store.lock import DataLock, DataLocked\n"
            "try:\n DataLock(sys.argv[1])\n"
            "except DataLocked as error:\n print(error.pid, error)"
        )
        command = [sys.executable, "-c", code, str(tmp_path)]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        assert said.startswith(f"{os.getpid()} ")
        assert "stop that gateway" in said
        with pytest.raises(DataLocked):
            DataLock(tmp_path)
    with DataLock(tmp_path):
        pass


def test_a_dead_holder_is_no_holder(tmp_path: Path) -> None:
    code = (
        "import os, sys\nfrom gateway.store.lock import DataLock\n"
        "held = DataLock(sys.argv[1])\nos._exit(1)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
    assert (tmp_path / "lock").read_text().isdigit()
    DataLock(tmp_path).close()
