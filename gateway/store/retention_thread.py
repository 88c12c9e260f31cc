"""Retention beside a running gateway: soon after the start, and then hourly.

Its reads have a connection of their own and its changes go through the store's one writer,
a little at a time; so requests and shipping go on meanwhile. Raises nothing: what goes
wrong is logged and tried again.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from gateway.core.book import Book
from gateway.store.backend import Backend
from gateway.store.base import StoreError
from gateway.store.database import ERRORS, Database
from gateway.store.retention import Log, Retainer

FIRST_S = 5.0  # after the start, which has enough to do
EVERY_S = 3600.0
PAUSE_S = 0.02  # between pages of some 10 ms: the event loop needs the interpreter, too
CHANGE_WAIT_S = 60.0  # for the store's writer, which may be behind

Submit = Callable[[Callable[[Database], Any]], Future[Any]]


class Stopped(Exception):
    """The process is to end; what was begun is gone on with after the next start."""


class RetentionThread:
    def __init__(
        self, book: Book, backend: Backend, submit: Submit, now_us: Callable[[], int], log: Log
    ) -> None:
        """Raises StoreError where the archive cannot be written."""
        settings = book.store.retention
        self._now_us = now_us
        self._log = log
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        if settings is not None:
            self._retainer = Retainer(
                backend,
                settings,
                lambda change: submit(change).result(CHANGE_WAIT_S),
                self._rest,
                log,
            )
            self._thread = threading.Thread(target=self._run, name="retention", daemon=True)

    def start(self) -> None:
        """Nothing happens where none is configured."""
        if self._thread is not None:
            self._thread.start()

    def stop(self, timeout_s: float = 10.0) -> None:
        """Before the store's writer ends."""
        self._ended.set()
        if self._thread is not None and self._thread.is_alive():
            self._thread.join(timeout_s)

    def _rest(self) -> None:
        if self._ended.wait(PAUSE_S):
            raise Stopped

    def _run(self) -> None:
        wait_s = FIRST_S
        while not self._ended.wait(wait_s):
            wait_s = EVERY_S
            try:
                self._retainer.retain(self._now_us())
            except Stopped:
                return
            except (StoreError, OSError, TimeoutError, RuntimeError, *ERRORS) as error:
                kind = type(error).__name__
                self._log("retention_failed", level="warning", error=str(error), kind=kind)
