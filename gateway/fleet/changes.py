"""What other gateways, or a command line, have changed: read from the store's audit log.

Asked a few times a second, so that a message that is missed is missed for no longer than
that. Invariant: each change is told once. Must not know what a change is for.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from gateway.core.reload import RELOADED, Heard, heard
from gateway.store.database import Database

LATE = 100  # changes that may be committed after a later one


class Changed(NamedTuple):
    """A row of the audit log; `digest` is that of the key that it is about, `detail` a reload's."""

    id: int
    action: str
    subject: str
    digest: bytes | None
    detail: str | None

    @property
    def reload(self) -> Heard | None:
        """Of a configuration, if it is one."""
        return None if self.detail is None else heard(self.id, self.subject, self.detail)


class Changes:
    """By a connection that stays: another one each time costs more than the answer.

    `reader` raises StateUnavailable where the store cannot be read. From any thread.
    """

    def __init__(self, reader: Callable[[], Database]) -> None:
        self._reader = reader
        self._lock = threading.Lock()
        self._database: Database | None = None
        self._dropping = threading.Lock()
        self._is_closed = False
        self._seen: set[int] = set()  # the last numbers
        self._failure = ""  # of the last time
        self.trouble = ""  # why the store cannot be read; "" while it can

    def begin(self) -> Heard | None:
        """What comes from now on is told; the last reload of a configuration before that."""
        with self._lock:
            newest = self._read(_NEWEST, ())[0][0] or 0
            self._seen = {row[0] for row in self._read(_CHANGED, (newest - LATE,))}
            last = self._read(_LAST_RELOAD, ())
            return heard(*last[0]) if last else None

    def read(self) -> list[Changed]:
        """What has come since the last time.

        Numbers are given before they are committed, so the last ones are looked at again.
        """
        with self._lock:
            rows = self._read_or_note(_CHANGED, (max(self._seen, default=0) - LATE,))
            found = [Changed(*row) for row in rows if row[0] not in self._seen]
            self._seen = {row[0] for row in rows}
            return found

    def close(self) -> None:
        """What is being read is read to its end; nobody waits for that."""
        self._is_closed = True
        self._drop()

    def _drop(self) -> None:
        with self._dropping:
            database, self._database = self._database, None
        if database is not None:
            database.close()

    def _read_or_note(self, sql: str, values: Sequence[int]) -> list[Any]:
        """Two failures in a row are trouble: a connection that was kept may be lost by itself."""
        before, self._failure = self._failure, ""
        try:
            rows = self._read(sql, values)
        except Exception as error:
            self._failure = f"{type(error).__name__}: {error}"
            self.trouble = self._failure if before else self.trouble
            raise
        self.trouble = ""
        return rows

    def _read(self, sql: str, values: Sequence[int]) -> list[Any]:
        database = self._database or self._reader()
        self._database = None
        try:
            rows = database.execute(sql, values).fetchall()
        except BaseException:
            database.close()
            raise
        self._database = database
        if self._is_closed:
            self._drop()
        return rows


_NEWEST = "SELECT max(id) FROM audit_log"
_CHANGED = f"""
    SELECT a.id, a.action, a.subject, k.digest,
    CASE WHEN a.action = '{RELOADED}' THEN a.detail END FROM audit_log a
    LEFT JOIN keys k ON k.id = a.subject AND a.action LIKE 'key.%' WHERE a.id > ? ORDER BY a.id
"""
_LAST_RELOAD = f"""
    SELECT id, subject, detail FROM audit_log WHERE action = '{RELOADED}' ORDER BY id DESC LIMIT 1
"""
