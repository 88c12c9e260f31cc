"""When another gateway has reloaded its configuration: who reads this one's own anew, and when?

Invariants: one at a time, and the last that was heard; nobody who reads the audit log waits
for it; a store that does not answer is asked again. Must not know where it was heard.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from gateway.config.reload import FIXED_ALONE, is_needed, load_again, log_difference
from gateway.core.book import Book
from gateway.core.reload import Heard
from gateway.store.database import ERRORS
from gateway.workers.siblings import Siblings

AGAIN_S = 1.0


class Gateway(Protocol):
    """What is asked of a running gateway (gateway/app.py)."""

    config: Path
    env: dict[str, str]
    book: Book

    @property
    def log(self) -> Callable[..., None]: ...

    @property
    def siblings(self) -> Siblings | None: ...

    def use(self, book: Book) -> list[str]: ...


class Follower:
    """`hear` at any time; nothing is done before `begin` and after `stop`."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._heard: Heard | None = None
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def begin(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._run())

    def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()

    def hear(self, heard: Heard) -> None:
        """Another gateway has reloaded."""
        self._heard = heard
        self._wake.set()

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            heard, self._heard = self._heard, None
            if heard is not None:
                await self._try(heard)

    async def _try(self, heard: Heard) -> None:
        try:
            await self._follow(heard)
        except (*ERRORS, TimeoutError) as error:
            text = f"{type(error).__name__}: {error}"
            self._gateway.log("reload_delayed", level="warning", error=text)
            await asyncio.sleep(AGAIN_S)
            if self._heard is None:
                self.hear(heard)

    async def _follow(self, heard: Heard) -> None:
        """The same as a reload; a worker's supervisor does it for all of them."""
        gateway = self._gateway
        if gateway.siblings is not None:
            await gateway.siblings.reload(heard)
        elif heard.rules_version != gateway.book.rules_version:
            await self._reload(heard)
            log_difference(heard, gateway.book, gateway.log)

    async def _reload(self, heard: Heard) -> None:
        gateway = self._gateway
        before = gateway.book
        book = await asyncio.to_thread(
            load_again, gateway.config, gateway.env, before, gateway.log, FIXED_ALONE
        )
        # A signal that came meanwhile has read the same file later.
        if book is not None and gateway.book is before and is_needed(heard, before, book):
            gateway.use(book)
