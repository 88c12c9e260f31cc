"""Reading what others have changed: when is it the store's trouble?"""

from __future__ import annotations

import threading
from typing import Any

import pytest

from gateway.fleet.changes import Changes
from gateway.store.database import DatabaseError


class _Store:
    """A store that is there or not, by connections that may be lost. A database.Database."""

    in_transaction = False
    is_away = False
    is_lost = False

    def open(self) -> _Store:
        if self.is_away:
            raise DatabaseError("connection refused")
        self.is_lost = False
        return self

    def execute(self, sql: str, parameters: Any = (), /) -> Any:
        if self.is_lost or self.is_away:
            raise DatabaseError("server closed the connection")
        return self

    executemany = execute
    rowcount = 0

    def fetchall(self) -> list[Any]:
        return []

    def __iter__(self) -> Any:
        return iter(())

    def close(self) -> None: ...


def test_a_store_that_stays_away_is_trouble_until_it_answers() -> None:
    store = _Store()
    changes = Changes(store.open)
    changes.read()
    store.is_away = True
    for trouble in ("", "DatabaseError: connection refused", "DatabaseError: connection refused"):
        with pytest.raises(DatabaseError):
            changes.read()
        assert changes.trouble == trouble
    store.is_away = False
    assert changes.read() == []
    assert changes.trouble == ""


def test_a_connection_that_was_lost_by_itself_is_none() -> None:
    store = _Store()
    changes = Changes(store.open)
    for _ in range(2):
        changes.read()
        store.is_lost = True
        with pytest.raises(DatabaseError):
            changes.read()
        assert changes.trouble == ""


def test_what_is_being_read_as_it_ends_leaves_no_connection_open() -> None:
    store = _Store()
    changes = Changes(store.open)
    is_asked, may_answer = threading.Event(), threading.Event()
    closed: list[bool] = []

    def fetchall() -> list[Any]:
        is_asked.set()
        assert may_answer.wait(20)
        return []

    store.fetchall = fetchall  # type: ignore[method-assign]
    store.close = lambda: closed.append(True)  # type: ignore[method-assign]
    reading = threading.Thread(target=changes.read)
    reading.start()
    assert is_asked.wait(20)
    changes.close()
    may_answer.set()
    reading.join(20)
    assert closed == [True]
