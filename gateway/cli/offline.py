"""Operations straight on the store, while no gateway runs.

Invariant: the caller holds the lock on the data directory, so this process is
the only writer; what a crash has left in the journal is in the store before
anything is asked.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, closing, nullcontext
from typing import Any, TypeVar

from gateway.api.endpoints import find_endpoint, perform
from gateway.api.operations import Call, Hot, OpenHold, Operations, Operator
from gateway.api.problem import ApiProblem
from gateway.cli.options import Failed
from gateway.core.book import Book
from gateway.core.waiting import NotLoaded
from gateway.journal.folders import left_folders
from gateway.journal.recovery import recover, recover_left
from gateway.journal.sink import Sink
from gateway.proxy.directory import Directory
from gateway.state.memory import MemoryState
from gateway.store.backend import Backend, backend_of
from gateway.store.base import StoreError
from gateway.store.database import ERRORS, Database
from gateway.store.ledger import record_versions
from gateway.usage.audit import AuditReport, audit

T = TypeVar("T")


class OfflinePlace:
    """Implements gateway.api.operations.Place on a store that nobody else writes."""

    def __init__(self, book: Book, backend: Backend, sink: Sink[Database]) -> None:
        self._sink = sink
        self._backend = backend
        self._store = backend.open_store()
        state = MemoryState(self._store)
        directory = Directory(book, self._store, state)
        self._hot = Hot(book, directory, state, self._store)

    def now_us(self) -> int:
        return time.time_ns() // 1000

    def hot(self, work: Callable[[Hot], T]) -> T:
        while True:
            try:
                return work(self._hot)
            except NotLoaded as missing:
                missing.future.result()

    def change(self, work: Callable[[Database], T]) -> T:
        changed = self._sink.run(work)
        self._store.forget()
        return changed

    def read(self, work: Callable[[Database], T]) -> T:
        with closing(self._backend.open_reader()) as connection:
            return work(connection)

    def wait_shipped(self, timeout_s: float, seq: int | None = None) -> bool:
        return True

    def exclusive(self) -> AbstractContextManager[Any]:
        return nullcontext()

    def holds(self) -> list[OpenHold]:
        return []  # they ended with their process

    def audit(self) -> AuditReport:
        snapshot = self._sink.snapshot()
        try:
            return audit(snapshot)
        finally:
            snapshot.close()

    def close(self) -> None:
        self._store.close()


class OfflineOffice:
    """Implements gateway.cli.office.Office. Raises StoreError, JournalError, OSError."""

    def __init__(self, book: Book, operator: str) -> None:
        self._operator = Operator(f"cli:{operator}", "local", "admin")
        backend = backend_of(book.store)
        self._sink = backend.open_sink(book.journal.dir)
        try:
            recover(book.journal.dir, self._sink)
            recover_left(left_folders(book.journal.dir, 1), backend.open_sink)
            now_us = time.time_ns() // 1000
            fitted = self._sink.run(lambda store: record_versions(store, book, now_us))
            self._place = OfflinePlace(fitted, backend, self._sink)
        except BaseException:
            self._sink.close()
            raise
        self._operations = Operations(self._place)

    def call(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        idempotency_key: str = "",
    ) -> dict[str, Any]:
        try:
            endpoint, params = find_endpoint(method, path)
        except LookupError:
            raise Failed(f"there is nothing at {path}") from None
        call = Call(self._operator, params, query or {}, body or {}, idempotency_key)
        try:
            return perform(endpoint, self._operations, call).document
        except ApiProblem as exc:
            raise Failed(exc.detail) from None
        except (StoreError, *ERRORS) as exc:
            raise Failed(f"the store cannot be used: {exc}") from None

    def close(self) -> None:
        self._place.close()
        self._sink.close()
