"""What the store's SQL runs on: SQLite's own connection, or one to PostgreSQL.

All statements of the store are written once, in what both understand; where they
differ, it is SQLite's form that stands there, and gateway/store/postgres.py translates it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from typing import Any, Protocol


class Cursor(Protocol):
    """What a statement gave. Rows are tuples of int, str, bytes and None."""

    @property
    def rowcount(self) -> int: ...

    def fetchall(self) -> list[Any]: ...

    def __iter__(self) -> Iterator[Any]: ...


class Database(Protocol):
    """One connection; a statement outside BEGIN and COMMIT is a transaction of its own."""

    @property
    def in_transaction(self) -> bool: ...

    def execute(self, sql: str, parameters: Any = ..., /) -> Cursor:
        """`sql` has ?, ?1 or :name for `parameters`. Raises one of ERRORS."""
        ...

    def executemany(self, sql: str, parameters: Any, /) -> Cursor: ...

    def close(self) -> None: ...


class DatabaseError(Exception):
    """PostgreSQL did not do what it was told, or could not be asked."""


class AlreadyThere(DatabaseError):
    """A row with this key is there already."""


ERRORS = (sqlite3.Error, DatabaseError)
ALREADY_THERE = (sqlite3.IntegrityError, AlreadyThere)
