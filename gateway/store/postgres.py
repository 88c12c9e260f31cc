"""Connections to PostgreSQL that take the store's SQL.

The statements are SQLite's (gateway/store/database.py); each text is translated once.
Values are put into the text by libpq's own quoting, so that a value without a type means
what it would in SQLite. Invariant: whatever goes wrong is a DatabaseError, and no call
waits longer than the settings say.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import psycopg
from psycopg import errors
from psycopg.adapt import Dumper, Loader
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.pq import TransactionStatus

from gateway.store.base import StoreError, StoreUnavailable
from gateway.store.database import AlreadyThere, Database, DatabaseError
from gateway.store.reader import StoreReader

T = TypeVar("T")

SERVER_MIN = 140000
CONNECT_TIMEOUT_S = 5
LOOK_UP_TIMEOUT_S = 2  # of the request path
SNAPSHOT_TIMEOUT_S = 600  # of one statement of an audit
STATEMENT_TIMEOUT_S = 30  # of the writer and of reports
MIGRATIONS = Path(__file__).parent / "migrations_postgres"
# Only one process changes the schema, or makes a partition, at a time.
SCHEMA_LOCK = 0x7461_6C6C_7967_6174  # "tallygat"
_VERSION_TABLE = """
    CREATE TABLE IF NOT EXISTS schema_version (version INTEGER NOT NULL, applied_at TIMESTAMPTZ
    NOT NULL DEFAULT now())
"""


class PgCursor:
    """Implements gateway.store.database.Cursor."""

    __slots__ = ("_cursor",)

    def __init__(self, cursor: psycopg.Cursor[Any]) -> None:
        self._cursor = cursor

    @property
    def rowcount(self) -> int:
        return self._cursor.rowcount

    def fetchall(self) -> list[Any]:
        if self._cursor.description is None:
            return []
        try:
            return self._cursor.fetchall()
        except psycopg.Error as error:
            raise DatabaseError(_sentence(error)) from error

    def __iter__(self) -> Iterator[Any]:
        return iter(self.fetchall())


class PgDatabase:
    """Implements gateway.store.database.Database. One thread at a time."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self._connection = connection

    @property
    def connection(self) -> psycopg.Connection[Any]:
        return self._connection

    @property
    def is_usable(self) -> bool:
        return not (self._connection.closed or self._connection.broken)

    @property
    def in_transaction(self) -> bool:
        return self._connection.info.transaction_status is not TransactionStatus.IDLE

    def execute(self, sql: str, parameters: Any = (), /) -> PgCursor:
        text, numbered = translate(sql)
        values: Any = parameters
        if not parameters:
            values, text = None, text.replace("%%", "%")
        elif numbered and not isinstance(parameters, Mapping):
            values = {f"p{n}": value for n, value in enumerate(parameters, 1)}
        return self._run(lambda cursor: cursor.execute(text, values))

    def executemany(self, sql: str, parameters: Any, /) -> PgCursor:
        text, _ = translate(sql)
        rows = list(parameters)
        return self._run(lambda cursor: cursor.executemany(text, rows))

    def _run(self, work: Any) -> PgCursor:
        cursor = self._connection.cursor()
        try:
            work(cursor)
        except errors.UniqueViolation as error:
            raise AlreadyThere(_sentence(error)) from error
        except (psycopg.Error, OSError) as error:
            raise DatabaseError(_sentence(error)) from error
        return PgCursor(cursor)

    def close(self) -> None:
        self._connection.close()


class _Connection(psycopg.Connection[Any]):
    """Gives up by itself when the server says nothing: one that is frozen keeps no deadline."""

    answer_timeout_s = float(STATEMENT_TIMEOUT_S)

    def wait(self, gen: Any, *args: Any, **kwargs: Any) -> Any:
        return super().wait(self._timed(gen), *args, **kwargs)

    def _timed(self, gen: Any) -> Generator[Any, Any, Any]:
        """Each word of the server begins the time anew."""
        deadline_s = time.monotonic() + self.answer_timeout_s
        try:
            value = next(gen)
            while True:
                ready = yield value
                if ready:
                    deadline_s = time.monotonic() + self.answer_timeout_s
                elif time.monotonic() > deadline_s:
                    self.pgconn.finish()  # nobody knows what it is still going to say
                    text = f"the server did not answer within {self.answer_timeout_s:g} s"
                    raise psycopg.OperationalError(text)
                value = gen.send(ready)
        except StopIteration as done:
            return done.value


class _IntegerLoader(Loader):
    """Sums of BIGINT are NUMERIC; all of the store's are whole."""

    def load(self, data: Any) -> int:
        return int(bytes(data))


class _NoFloat(Dumper):
    """A float would be rounded in silence; no figure of the store is one."""

    def dump(self, obj: float) -> bytes:
        raise psycopg.DataError(f"expected an integer, found {obj!r}")


def connect(
    url: str, statement_timeout_s: float = STATEMENT_TIMEOUT_S, application: str = "tallygate"
) -> PgDatabase:
    """A connection of its own. Raises DatabaseError."""
    options = f"-c statement_timeout={round(statement_timeout_s * 1000)} -c timezone=UTC"
    given = conninfo_to_dict(url)
    if given.get("options"):
        options = f"{given['options']} {options}"
    info = make_conninfo(
        url,
        connect_timeout=given.get("connect_timeout", CONNECT_TIMEOUT_S),
        # A server that has gone without a word is given up after this time, too.
        tcp_user_timeout=round(statement_timeout_s * 1000) + 1000,
        keepalives_idle=10,
        keepalives_interval=5,
        keepalives_count=3,
        application_name=given.get("application_name", application),
        options=options,
    )
    try:
        connection = _Connection.connect(info, autocommit=True, cursor_factory=psycopg.ClientCursor)
    except psycopg.Error as error:
        raise DatabaseError(_sentence(error)) from error
    connection.answer_timeout_s = statement_timeout_s + 1.0  # the server's own comes first
    connection.adapters.register_loader("numeric", _IntegerLoader)
    connection.adapters.register_dumper(float, _NoFloat)
    return PgDatabase(connection)


def open_snapshot(url: str) -> PgDatabase:
    """One that sees what is committed now, until it is closed; it may take its time."""
    database = connect(url, SNAPSHOT_TIMEOUT_S, application="tallygate audit")
    try:
        database.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        # What retention empties is gone for older snapshots, too: it waits until this one ends.
        database.execute("LOCK TABLE events, charges IN ACCESS SHARE MODE")
        database.execute("SELECT applied_seq FROM meta").fetchall()  # the first read pins it
    except BaseException:
        database.close()
        raise
    return database


def where(url: str) -> str:
    """The server and database of a URL, to be shown: no password, no user."""
    parts = conninfo_to_dict(url)
    return f"{parts.get('host') or 'localhost'}:{parts.get('port') or 5432}/{parts.get('dbname')}"


class PostgresStore(StoreReader):
    """The read side for the request path; a lost connection is made anew by the next question."""

    def __init__(self, url: str, statement_timeout_s: float = LOOK_UP_TIMEOUT_S) -> None:
        self._url = url
        self._timeout_s = statement_timeout_s
        super().__init__(connect(url, statement_timeout_s))

    @property
    def connection(self) -> Database:
        if not self._is_usable:
            self._connection.close()
            self._connection = connect(self._url, self._timeout_s)
        return self._connection

    @property
    def _is_usable(self) -> bool:
        return isinstance(self._connection, PgDatabase) and self._connection.is_usable

    def _read(self, read: Callable[[Database], T]) -> T:
        was_kept = self._is_usable
        try:
            return super()._read(read)
        except StoreUnavailable:
            # A connection that was kept tells of a restart only when it is used.
            if not was_kept or self._is_usable:
                raise
        return super()._read(read)


# -- the schema -----------------------------------------------------------------


def pending(database: PgDatabase) -> list[Path]:
    """Migrations that are not applied yet. Raises StoreError for a newer or too old database."""
    if database.connection.info.server_version < SERVER_MIN:
        found = database.connection.info.server_version // 10_000
        raise StoreError(f"expected PostgreSQL 14 or newer, found {found}")
    files = sorted(MIGRATIONS.glob("[0-9]*.sql"))
    version = _version(database)
    if version > len(files):
        raise StoreError(
            f"expected schema {len(files)} or older, found {version}: the database was written by"
            " a newer tallygate; start that version"
        )
    return files[version:]


def migrate(database: PgDatabase) -> list[Path]:
    """Bring the schema forward, all or nothing; what was applied. Raises StoreError."""
    if not pending(database):
        return []  # the usual case, and needs no lock
    database.execute("BEGIN")
    try:
        database.execute("SELECT pg_advisory_xact_lock(?)", (SCHEMA_LOCK,))
        database.execute(_VERSION_TABLE)
        files = pending(database)  # another process may have been first
        for number, file in enumerate(files, _version(database) + 1):
            database.connection.execute(file.read_text().encode())
            database.execute("INSERT INTO schema_version (version) VALUES (?)", (number,))
        database.execute("COMMIT")
    except BaseException:
        if database.is_usable:
            database.execute("ROLLBACK")
        raise
    return files


def _version(database: PgDatabase) -> int:
    found = database.execute("SELECT to_regclass('schema_version') IS NOT NULL").fetchall()
    if not found[0][0]:
        return 0
    sql = "SELECT coalesce(max(version), 0) FROM schema_version"
    version: int = database.execute(sql).fetchall()[0][0]
    return version


# -- the translation --------------------------------------------------------------

_REWRITES = (
    (re.compile(r"\bBEGIN IMMEDIATE\b"), "BEGIN"),
    (re.compile(r"\bINDEXED BY \w+"), ""),
    (re.compile(r"\bWITHOUT ROWID\b"), ""),
    (re.compile(r"\bCROSS JOIN\b"), "JOIN"),
    (re.compile(r"\btemp\."), "pg_temp."),
    (re.compile(r"\bmain\."), ""),
    # A reserved word here; behind a point it is a name.
    (re.compile(r'(?<![.\w"])user(?![\w"])'), '"user"'),
    (re.compile(r"length\(CAST\((.+?) AS BLOB\)\)"), r"octet_length(\1)"),
    (
        re.compile(r"SELECT value FROM json_each\(\?\)"),
        "SELECT value::bigint FROM json_array_elements_text(?::json) AS listed (value)",
    ),
)
_PLACEHOLDER = re.compile(r"\?(\d+)|\?|(?<![:\w]):([a-z_]\w*)")


@lru_cache(maxsize=512)
def translate(sql: str) -> tuple[str, bool]:
    """The statement for psycopg, and whether its placeholders are numbered (`?1` is `%(p1)s`)."""
    for pattern, replacement in _REWRITES:
        sql = pattern.sub(replacement, sql)
    numbered = False

    def place(match: re.Match[str]) -> str:
        nonlocal numbered
        number, name = match.groups()
        if number:
            numbered = True
            return f"%(p{number})s"
        return f"%({name})s" if name else "%s"

    return _PLACEHOLDER.sub(place, sql.replace("%", "%%")), numbered


def _sentence(error: Exception) -> str:
    """The first line; a server adds the statement, which may be long."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
