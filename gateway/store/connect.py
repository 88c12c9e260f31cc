"""Opening the SQLite file: settings of a connection, and the schema's version.

Invariant: a connection is only handed out at the schema version that this program knows.
An older file is brought forward, one transaction for each numbered file in migrations/; a
newer one is refused.
"""

from __future__ import annotations

import os
import secrets
import sqlite3
from pathlib import Path

from gateway.store.base import StoreError

SQLITE_MIN = (3, 37, 0)  # STRICT tables; RETURNING came with 3.35
BUSY_TIMEOUT_MS = 5_000  # only a backup or an operator's SQL prompt can hold the lock
WRITER_CACHE_KIB = 8_192  # index leaves of one batch; see bench/journal.py
READER_CACHE_KIB = 2_048
# Pages of WAL before it is copied into the database: 32 MB. Fewer copies of hot pages.
CHECKPOINT_PAGES = 8_000
WAL_LIMIT_BYTES = 128 * 1024 * 1024  # a WAL grown under a long reader shrinks to this
MIGRATIONS = Path(__file__).parent / "migrations"


def open_writer(path: Path) -> sqlite3.Connection:
    """The writing connection, schema up to date. May be handed from thread to thread.

    Raises StoreError when the file is of a newer version, or SQLite is too old.
    """
    if sqlite3.sqlite_version_info < SQLITE_MIN:
        raise StoreError(f"expected SQLite 3.37 or newer, found {sqlite3.sqlite_version}")
    _make_private(path)
    connection = _connect(path, WRITER_CACHE_KIB)
    mode = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
    if mode != "wal":
        raise StoreError(f"{path}: expected a file system with WAL support, SQLite chose {mode}")
    # NORMAL: a commit need not reach the disk, for the journal keeps the records until
    # SqliteSink.make_durable has. What the journal does not have is committed with FULL.
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
    connection.execute(f"PRAGMA journal_size_limit = {WAL_LIMIT_BYTES}")
    migrate(connection, path)
    return connection


def _make_private(path: Path) -> None:
    """Others of the machine read no keys and events; SQLite gives -wal and -shm the same mode."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))


def open_reader(path: Path, query_only: bool = True) -> sqlite3.Connection:
    """A connection for reading, unable to write if `query_only`.

    Raises StoreError when there is no store yet, or one of another version.
    """
    if not path.exists():
        raise StoreError(f"{path}: no store there; start the gateway once to make it")
    connection = _connect(path, READER_CACHE_KIB)
    connection.execute(f"PRAGMA query_only = {int(query_only)}")
    version = _version(connection)
    if version != len(_files()):
        connection.close()
        raise StoreError(f"{path}: expected schema {len(_files())}, found {version}")
    return connection


def open_snapshot(path: Path) -> sqlite3.Connection:
    """One that sees what is committed now, until it is closed; it can make temporary tables."""
    reader = open_reader(path, query_only=False)
    reader.execute("PRAGMA temp_store = FILE")  # they may be large
    reader.execute("BEGIN")
    reader.execute("SELECT applied_seq FROM meta").fetchall()  # the first read pins it
    return reader


def migrate(connection: sqlite3.Connection, path: Path) -> None:
    """Bring the schema forward to the newest version we know. Raises StoreError."""
    files = _files()
    version = _version(connection)
    if version > len(files):
        raise StoreError(
            f"{path}: expected schema {len(files)} or older, found {version}: the store was"
            " written by a newer tallygate; start that version"
        )
    for number, file in enumerate(files[version:], version + 1):
        script = f"BEGIN IMMEDIATE;\n{file.read_text()}\nPRAGMA user_version = {number};\nCOMMIT;"
        try:
            connection.executescript(script)
        except sqlite3.Error:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
    connection.execute("INSERT OR IGNORE INTO meta VALUES (1, ?, 0)", (secrets.token_hex(8),))


def pending(path: Path) -> list[Path]:
    """Migrations that are not applied yet; all of them where there is no store."""
    if not path.exists():
        return _files()
    connection = _connect(path, READER_CACHE_KIB)
    try:
        return _files()[_version(connection) :]
    finally:
        connection.close()


def _connect(path: Path, cache_kib: int) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    connection.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
    connection.execute(f"PRAGMA cache_size = -{cache_kib}")
    connection.execute("PRAGMA temp_store = MEMORY")
    return connection


def _version(connection: sqlite3.Connection) -> int:
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    return version


def _files() -> list[Path]:
    return sorted(MIGRATIONS.glob("[0-9]*.sql"))
