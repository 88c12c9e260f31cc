"""Where operations work inside a running gateway.

The event loop owns the hot state and the journal, the shipper's thread writes
the store; an operation runs in a third thread and asks each for its part.
Invariant: nothing of the hot state is touched outside the loop's thread. Must
not be called on the loop: it waits for it.
"""

from __future__ import annotations

import asyncio
import os
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from concurrent.futures import TimeoutError as FutureTimeout
from contextlib import AbstractContextManager, closing
from dataclasses import replace
from typing import Any, Protocol, TypeVar

from gateway.api.operations import Hot, OpenHold
from gateway.api.problem import ApiProblem
from gateway.core.book import Book
from gateway.core.waiting import NotLoaded
from gateway.journal.shipper import BarrierPassed, Shipper
from gateway.proxy.directory import Directory
from gateway.proxy.server import ProxyServer
from gateway.state.memory import MemoryState
from gateway.state.shared.document import Document, journaled
from gateway.state.shared.link import StateUnavailable
from gateway.store.backend import Backend
from gateway.store.base import Store
from gateway.store.database import ERRORS, Database
from gateway.usage.audit import AuditReport, LaterThanSnapshot, audit, counted_at

T = TypeVar("T")

LOAD_WAIT_S = 8.0  # for all that the event loop has to read first; a look-up gives up before
HOT_WAIT_S = 10.0  # for a turn of the event loop; it is late by milliseconds at most
# For the store's writer. A batch takes some 100 ms; a locked store is given up after 5 s for
# the batch before the change, and another 5 s for the change, which then fails for certain.
CHANGE_WAIT_S = 15.0
# A hold lives as long as its request, which its process renews by being alive.
HOLD_LEASE_US = 60_000_000
AUDIT_WAIT_S = 60.0  # for everything in the journal to be shipped
AUDIT_PAUSE_S = 0.2
AUDIT_TRIES = 5  # the store may have gone past the moment that was asked for

Counters = dict[tuple[str, str, int, str], int]


class LastSeq(Protocol):
    """What is asked of the journal."""

    last_seq: int

    def flush(self) -> None: ...


class Fleet(Protocol):
    """What is asked of gateways that share a state (gateway/fleet/fleet.py)."""

    async def documents(self) -> dict[str, Document]: ...


class Siblings(Protocol):
    """What is asked of the other workers (gateway/workers/siblings.py)."""

    @property
    def number(self) -> int: ...

    async def ask(self, what: str) -> list[Any]: ...


class Gateway(Protocol):
    """What is asked of a running gateway (gateway/app.py)."""

    book: Book
    loop: asyncio.AbstractEventLoop
    directory: Directory
    state: MemoryState
    store: Store
    shipper: Shipper[Database]
    server: ProxyServer
    now_us: Callable[[], int]

    @property
    def fleet(self) -> Fleet | None: ...

    @property
    def siblings(self) -> Siblings | None: ...

    @property
    def journal(self) -> LastSeq: ...

    @property
    def backend(self) -> Backend: ...


class LivePlace:
    """Implements gateway.api.operations.Place on a running gateway."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._lock = threading.Lock()

    def now_us(self) -> int:
        return self._gateway.now_us()

    def hot(self, work: Callable[[Hot], T]) -> T:
        """Run work on the event loop; raises what it raises. Again, where it has to wait."""
        give_up_s = time.monotonic() + LOAD_WAIT_S
        try:
            while True:
                try:
                    return self._on_loop(work)
                except NotLoaded as missing:
                    _loaded(missing.future, give_up_s)
        except StateUnavailable as exc:
            text = f"the shared state does not answer ({str(exc).rstrip(': ')})"
            raise ApiProblem("store_unavailable", text) from exc

    def _on_loop(self, work: Callable[[Hot], T]) -> T:
        future: Future[T] = Future()

        def run() -> None:
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(work(self._hot()))
                except Exception as exc:
                    future.set_exception(exc)

        self._gateway.loop.call_soon_threadsafe(run)
        return _result(future, HOT_WAIT_S, "the event loop")

    def _hot(self) -> Hot:
        gateway = self._gateway
        return Hot(gateway.book, gateway.directory, gateway.state, gateway.store)

    def change(self, work: Callable[[Database], T]) -> T:
        future = self._gateway.shipper.submit(work)
        try:
            changed = _result(future, CHANGE_WAIT_S, "the store")
        except ERRORS as exc:
            raise ApiProblem("store_unavailable", f"the store refused the change: {exc}") from exc
        self._gateway.loop.call_soon_threadsafe(self._gateway.store.forget)
        self._ask_others("changed")  # whoever is asked next knows it
        return changed

    def _ask_others(self, what: str) -> list[Any]:
        """What the other workers of this machine say; they answer within a second or not."""
        siblings = self._gateway.siblings
        if siblings is None:
            return []
        asked = asyncio.run_coroutine_threadsafe(siblings.ask(what), self._gateway.loop)
        return _result(asked, HOT_WAIT_S, "the supervisor")

    def read(self, work: Callable[[Database], T]) -> T:
        with closing(self.reader()) as connection:
            return work(connection)

    def reader(self) -> Database:
        """A read connection that its user closes; it may go from thread to thread."""
        return self._gateway.backend.open_reader()

    def wait_shipped(self, timeout_s: float, seq: int | None = None) -> bool:
        shipper = self._gateway.shipper
        if not shipper.lag().trouble:
            self._ask_others("ship")  # the last call may have gone to another worker
        wanted = self.hot(lambda _: self._gateway.journal.last_seq) if seq is None else seq
        if shipper.shipped_seq >= wanted:
            return True
        if shipper.lag().trouble:
            return False  # it will be a while: nobody waits, and nobody is waited for
        try:
            shipper.reached(wanted).result(timeout_s)
        except (FutureTimeout, CancelledError):
            return False
        return True

    def holds(self) -> list[OpenHold]:
        """Of every connection's request, also where the client has gone meanwhile."""
        found = self.hot(lambda _: open_holds(self._gateway))
        for others in self._ask_others("holds"):
            found += (OpenHold(*hold) for hold in others)
        return sorted(found)

    def exclusive(self) -> AbstractContextManager[Any]:
        return self._lock

    def audit(self) -> AuditReport:
        """Compare live counters, sums and events as of one record of the journal."""
        fleet, siblings = self._gateway.fleet, self._gateway.siblings
        if fleet is not None:
            report = self._audit_shared(fleet)
            if siblings is None:
                return report
            return replace(report, worker=siblings.number, workers=self._gateway.book.workers)
        for _ in range(AUDIT_TRIES):
            with self._lock:
                used, topped_up, pinned = self.hot(lambda hot: self._pin(hot.state))
                try:
                    snapshot = pinned.result(AUDIT_WAIT_S)
                except BarrierPassed:
                    continue
                except (FutureTimeout, CancelledError):
                    text = f"the journal was not shipped within {AUDIT_WAIT_S:.0f} s"
                    raise ApiProblem("store_unavailable", text) from None
            with closing(snapshot):
                return audit(snapshot, used, topped_up)
        text = "the store was ahead of the counters each time; try again"
        raise ApiProblem("store_unavailable", text)

    def _audit_shared(self, fleet: Fleet) -> AuditReport:
        """The same of counters that gateways share: each says which records it has."""
        asked = asyncio.run_coroutine_threadsafe(fleet.documents(), self._gateway.loop)
        try:
            documents = _result(asked, AUDIT_WAIT_S, "the shared state")
        except StateUnavailable as error:
            reason = str(error).rstrip(": ")  # some exceptions have a name and no text
            text = f"the shared state does not answer ({reason})"
            raise ApiProblem("store_unavailable", text) from None
        give_up = time.monotonic() + AUDIT_WAIT_S
        while True:
            with closing(self._gateway.backend.open_snapshot()) as snapshot:
                used: Counters = {}
                try:
                    for account_id, document in documents.items():
                        rows = journaled(document)
                        used |= counted_at(snapshot, account_id, rows, document.journals)
                    return audit(snapshot, used)
                except LaterThanSnapshot:
                    pass
            if time.monotonic() > give_up:
                text = f"the journals were not shipped within {AUDIT_WAIT_S:.0f} s"
                raise ApiProblem("store_unavailable", text)
            time.sleep(AUDIT_PAUSE_S)

    def _pin(self, state: MemoryState) -> tuple[Counters, Counters, Future[Database]]:
        """The counters now, and the store at the record they stand at; in one step of the loop."""
        used: Counters = {}
        topped_up: Counters = {}
        for account in state.accounts():
            for balance in account.balances.values():
                for counted in (balance, *balance.caps):
                    key = (account.account.id, counted.meter, counted.span.start_us, counted.lot)
                    used[key] = counted.used
                key = (account.account.id, balance.meter, balance.span.start_us, "")
                topped_up[key] = balance.topped_up
            for (meter, lot_id), lot in account.lots.items():
                used[account.account.id, meter, 0, lot_id] = lot.used
        journal = self._gateway.journal
        journal.flush()
        return used, topped_up, self._gateway.shipper.barrier(journal.last_seq)


def open_holds(gateway: Gateway) -> list[OpenHold]:
    """Of one process. On the loop's thread."""
    expires_us = gateway.now_us() + HOLD_LEASE_US
    owner = f"{socket.gethostname()}:{os.getpid()}"
    found = []
    for connection in (*gateway.server.connections, *gateway.server.departed):
        x = connection.exchange
        if x is None or x.hold is None or not connection.has_hold:
            continue
        amounts = {b.meter: n for b, n in x.hold.reserved}
        amounts |= {share.counter.meter: n for share, n in x.hold.counts}
        found.append(
            OpenHold(
                id=x.event_id,
                request_id=x.request_id,
                account=x.account.account.id,
                user=x.user,
                project=x.project,
                key_id=x.key_id,
                route=x.route_name,
                operation=x.route.operation,
                owner=owner,
                time_us=x.time_us,
                expires_us=expires_us,
                amounts=tuple(amounts.items()),
            )
        )
    return found


def _loaded(future: Future[Any], give_up_s: float) -> None:
    """Wait for what others may wait for, too: it is not cancelled."""
    try:
        left_s = give_up_s - time.monotonic()
        if left_s <= 0:
            raise FutureTimeout
        future.result(left_s)
    except (FutureTimeout, CancelledError):
        text = f"the store did not answer within {LOAD_WAIT_S:.0f} s; nothing was changed"
        raise ApiProblem("store_unavailable", text) from None


def _result(future: Future[T], timeout_s: float, who: str) -> T:
    """The result, or a refusal that says whether anything can still come of it."""
    try:
        return future.result(timeout_s)
    except FutureTimeout:
        if future.cancel():
            text = f"{who} did not answer within {timeout_s:.0f} s; nothing was changed"
        else:
            text = f"{who} did not finish within {timeout_s:.0f} s; the change may still be made"
        raise ApiProblem("store_unavailable", text) from None
