"""Which database the store is in: the one place that chooses.

A store is opened three ways: to be written (by the shipper alone), to be asked by the
request path, and to be read by reports. Must not know SQL.
"""

from __future__ import annotations

import secrets
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from gateway.core.book import StoreSettings
from gateway.store.awaited import AwaitedStore
from gateway.store.base import Store, StoreError
from gateway.store.connect import open_reader, open_snapshot, open_writer, pending
from gateway.store.database import Database, DatabaseError
from gateway.store.durable import write_durably
from gateway.store.reader import StoreReader
from gateway.store.removal import Remover
from gateway.store.removal_sqlite import Run, SqliteRemover
from gateway.store.sink import SqliteSink
from gateway.store.sqlite import SqliteStore

if TYPE_CHECKING:
    from gateway.store.postgres_sink import PostgresSink

JOURNAL_ID_FILE = "journal.id"


class Backend(Protocol):
    """Raises StoreError where it cannot be opened."""

    @property
    def where(self) -> str:
        """File or server, as it may be shown."""
        ...

    def open_sink(self, journal_dir: str, state: str | None = None) -> SqliteSink | PostgresSink:
        """The only writer of this process; the schema is up to date then.

        `state`: for a gateway the id of the state that it shares, "" if it cannot be known just
        now, or ALONE; others that do not share it are refused then.
        """
        ...

    def open_store(self) -> Store:
        """For the request path, on its thread."""
        ...

    def open_reader(self) -> Database:
        """For a report; its user closes it."""
        ...

    def open_snapshot(self) -> Database:
        """For an audit: one that sees what is committed now, until it is closed."""
        ...

    def open_remover(self, run: Run) -> Remover:
        """To remove events; `run` makes changes through the only writer, where there is one."""
        ...

    def pending(self) -> list[Path]:
        """Migrations that are not applied yet."""
        ...

    def migrate(self) -> None:
        """Apply them; the caller holds the lock of the data directory."""
        ...


class SqliteBackend:
    def __init__(self, path: str) -> None:
        self._path = Path(path)

    @property
    def where(self) -> str:
        return str(self._path)

    def open_sink(self, journal_dir: str, state: str | None = None) -> SqliteSink:
        return SqliteSink.open(self._path)

    def open_store(self) -> Store:
        return SqliteStore(self._path)

    def open_reader(self) -> Database:
        return open_reader(self._path)

    def open_snapshot(self) -> Database:
        return open_snapshot(self._path)

    def open_remover(self, run: Run) -> Remover:
        return SqliteRemover(self._path, run)

    def pending(self) -> list[Path]:
        return pending(self._path)

    def migrate(self) -> None:
        open_writer(self._path).close()


class PostgresBackend:
    def __init__(self, settings: StoreSettings) -> None:
        """Raises StoreError when the library is not there."""
        try:
            from gateway.store import postgres, postgres_sink, removal_postgres
        except ImportError as error:
            text = f"store.url: expected psycopg: pip install 'tallygate[postgres]' ({error})"
            raise StoreError(text) from None
        self._url = settings.url
        self._postgres = postgres
        self._sink = postgres_sink
        self._remover = removal_postgres

    @property
    def where(self) -> str:
        return self._postgres.where(self._url)

    def open_sink(self, journal_dir: str, state: str | None = None) -> PostgresSink:
        try:
            return self._sink.PostgresSink(self._url, journal_id_of(Path(journal_dir)), state)
        except DatabaseError as error:
            raise StoreError(f"{self.where}: {error}") from error

    def open_store(self) -> Store:
        def open_reader() -> StoreReader:
            reader: StoreReader = self._postgres.PostgresStore(self._url)
            return reader

        try:
            return AwaitedStore(open_reader)
        except DatabaseError as error:
            raise StoreError(f"{self.where}: {error}") from error

    def open_reader(self) -> Database:
        return self._postgres.connect(self._url, application="tallygate report")

    def open_snapshot(self) -> Database:
        return self._postgres.open_snapshot(self._url)

    def open_remover(self, run: Run) -> Remover:
        return self._remover.PostgresRemover(self._url)

    def pending(self) -> list[Path]:
        with closing(self._postgres.connect(self._url)) as database:
            return self._postgres.pending(database)

    def migrate(self) -> None:
        with closing(self._postgres.connect(self._url)) as database:
            self._postgres.migrate(database)


def backend_of(settings: StoreSettings) -> SqliteBackend | PostgresBackend:
    """The one that the configuration names. Raises StoreError."""
    return PostgresBackend(settings) if settings.url else SqliteBackend(settings.path)


def journal_id_of(directory: Path) -> str:
    """The journal's name, made the first time: what the store knows this writer by.

    Raises OSError.
    """
    path = directory / JOURNAL_ID_FILE
    try:
        return path.read_text().strip()
    except FileNotFoundError:
        journal_id = secrets.token_hex(8)
        write_journal_id(path, journal_id)
        return journal_id


def write_journal_id(path: Path, journal_id: str) -> None:
    """On disk when this returns. Raises OSError."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_durably(path, f"{journal_id}\n".encode())
