"""The composition root: the only file that connects everything.

Start: lock, store, recovery of the journal, journal, shipper, hot state, proxy,
listeners. Stop in the opposite order, so that what was acknowledged is in the
store before the lock is given up. Reload swaps the book, all or nothing.
"""

from __future__ import annotations

import asyncio
import gc
import socket
import ssl
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

from aiohttp import web

from gateway.api.admin import add_admin_routes
from gateway.api.control import control_of, new_token, remove_control, write_control
from gateway.api.health import TallyCollector, add_health_routes
from gateway.api.usage import UsageApi
from gateway.config import load
from gateway.config.reload import FIXED_ALONE, load_again, log_warnings
from gateway.core.book import Book, Listener
from gateway.fleet.fleet import Fleet
from gateway.follow import Follower
from gateway.journal.errors import JournalError, JournalFull
from gateway.journal.folders import left_folders
from gateway.journal.recovery import Recovered, recover, recover_left
from gateway.journal.shipper import Shipper
from gateway.journal.writer import Journal
from gateway.log import LogThread
from gateway.proxy.answer import own_header_names
from gateway.proxy.directory import Directory
from gateway.proxy.door import Door
from gateway.proxy.handler import Proxy, wall_clock_us
from gateway.proxy.outbox import Outbox
from gateway.proxy.own import OwnPaths
from gateway.proxy.pool import Pool
from gateway.proxy.server import ProxyServer
from gateway.proxy.tally import Tally
from gateway.proxy.ticker import Ticker
from gateway.state.memory import MemoryState
from gateway.state.shared.identity import state_id
from gateway.store import mutations
from gateway.store.backend import backend_of
from gateway.store.base import ALONE
from gateway.store.database import Database
from gateway.store.fitting import BookRefused
from gateway.store.ledger import record_versions
from gateway.store.lock import DataLock
from gateway.store.retention_thread import RetentionThread
from gateway.workers.figures import Figures, counts_of, tally_of
from gateway.workers.ports import listening
from gateway.workers.siblings import Siblings

HOUSEKEEPING_S = 1.0  # refusals to the journal
SAVE_LIMITS_S = 5.0  # rate windows to the store; what a crash may forget of them
SHIP_PAUSE_S = 0.5  # rollups of half a second share their rows; readers who wait hurry it
VERSIONS_WAIT_S = 10.0  # for the store to note the plans of a new configuration
PRUNE_S = 60.0  # counters and accounts that nobody asked for
ACCOUNT_IDLE_US = 3600 * 1_000_000  # an account is forgotten after an hour without a call
# Requests make few cycles and are freed by count, so the collector may look seldom.
GC_THRESHOLDS = (50_000, 20, 50)


class Gateway:
    """One running gateway. `start`, then `stop`; `reload` in between."""

    proxy_port: int
    admin_port: int

    def __init__(
        self,
        config: Path,
        env: Mapping[str, str],
        log: LogThread,
        book: Book | None = None,
        siblings: Siblings | None = None,
    ) -> None:
        """`book`: loaded already. `siblings`: this is one of several workers."""
        self.config = config
        self.env = dict(env)
        self.log = log
        self.siblings = siblings
        self.book: Book = book or self._load()
        self.token = siblings.start.token if siblings else new_token()
        self.ticker = Ticker()
        self.tally = Tally(log)
        self.is_draining = False
        self.now_us = wall_clock_us
        self.fleet: Fleet | None = None
        self.follower = Follower(self)
        self._door: Door | None = None
        self._is_leaving = False  # others go on serving at the same ports
        self._admin: web.AppRunner | None = None
        self._chores: asyncio.Task[None] | None = None

    def _load(self) -> Book:
        loaded = load(self.config, self.env)
        log_warnings(loaded, self.log)
        return loaded.book

    async def start(self) -> None:
        """Serve. Raises DataLocked, StoreError, JournalError, OSError."""
        self.loop = asyncio.get_running_loop()
        book = self.book
        self._data_dir = Path(book.data_dir)  # a reload does not move it
        # Workers have inherited the lock that the supervisor took.
        self.lock = None if self.siblings else DataLock(book.data_dir)
        shared = await state_id(book.state) if book.state.url else ALONE
        self._open_records(book, shared)
        book = self.book
        left = self._recover_left()
        limits = [*book.limits, *(x for plan in book.plans.values() for x in plan.limits)]
        limits += [limit for route in book.routes for limit in route.limits]
        self.state.restore(self.store.limit_states(self.now_us()), limits)
        self.directory = Directory(book, self.store, self.state)
        if self.fleet is not None:
            await self.fleet.start()
            await self._adopt(left)
        self.usage = UsageApi(self)
        self.proxy = Proxy(
            book,
            self.state,
            self.directory,
            self.journal,
            self.tally,
            self._make_pool,
            self._own_paths(book),
            Outbox(self.loop, self.journal.flush, self._journal_failed),
            self.now_us,
        )
        self.server = ProxyServer(self.proxy, self.ticker)
        self.ticker.start(self.loop)
        await self._listen(book)
        self._chores = self.loop.create_task(self._do_chores())
        self.retention.start()
        self.follower.begin()
        gc.collect()
        gc.freeze()
        gc.set_threshold(*GC_THRESHOLDS)
        self.log("started", version=book.version, proxy=self.proxy_port, admin=self.admin_port)

    def _open_records(self, book: Book, state: str) -> None:
        """Store and journal, with everything an earlier process left behind."""
        self.backend = backend_of(book.store)
        self.sink = self.backend.open_sink(book.journal.dir, state)
        recovered = recover(book.journal.dir, self.sink)
        if recovered.segments:
            self.log("recovered", **recovered._asdict())
        self.journal = Journal.open(book.journal, recovered.journal_id, recovered.next_seq)
        self.journal.gather()  # the outbox writes it, once a turn of the loop
        self.shipper: Shipper[Database] = Shipper(
            book.journal.dir, self.sink, self.journal, self._report, SHIP_PAUSE_S
        )
        self.shipper.start()
        self.retention = RetentionThread(
            book, self.backend, self.shipper.submit, lambda: self.now_us(), self.log
        )
        self.book = self._record_versions(book)
        self.store = self.backend.open_store()
        self.state = MemoryState(self.store)
        if book.state.url:
            journal = (recovered.journal_id, recovered.store_seq)
            self.fleet = Fleet(self, book.state, self.store, *journal)
            self.fleet.keep_id(state)
            self.state = self.fleet.state
            self.now_us = self.fleet.now_us

    def _recover_left(self) -> list[Recovered]:
        """What another number of workers has left goes into the store."""
        journal_dir = self.book.journal.dir
        start = self.siblings.start if self.siblings else None
        return self.recover_left(start.left if start else left_folders(journal_dir, 1))

    def recover_left(self, folders: Iterable[str]) -> list[Recovered]:
        """Raises StoreError, JournalError, OSError."""
        found = recover_left(folders, self.backend.open_sink)
        for folder, recovered in found.items():
            self.log("recovered", folder=folder, **recovered._asdict())
        return list(found.values())

    async def adopt(self, folder: str) -> None:
        """Take over the journal of a worker that has ended for good."""
        await self._adopt(await asyncio.to_thread(self.recover_left, [folder]))

    async def _adopt(self, journals: Iterable[Recovered]) -> None:
        for left in journals:
            if self.fleet is not None:
                await self.fleet.adopt(left.journal_id, left.store_seq, left.next_seq - 1)

    def _record_versions(self, book: Book, announces: bool = False) -> Book:
        """The history of plans and declared accounts goes on with the book that is given back."""
        now_us, before, address = self.now_us(), self.book.version, socket.gethostname()

        def record(store: Database) -> Book:
            fitted = record_versions(store, book, now_us)
            if announces:
                mutations.log_reload(store, before, book, time_us=now_us, address=address)
            return fitted

        return self.shipper.submit(record).result(VERSIONS_WAIT_S)

    def _report(self, fact: str, figures: Mapping[str, object]) -> None:
        self.log(fact, level="warning", **figures)

    def _journal_failed(self, exc: Exception) -> None:
        self.log("journal_failed", level="error", error=str(exc))

    def _make_pool(self, book: Book, name: str) -> Pool:
        return Pool(book.upstreams[name], self.loop, self.ticker, own_header_names(book))

    def _own_paths(self, book: Book) -> OwnPaths:
        return OwnPaths(self.usage.paths(book), self.usage.views(book))

    # -- listeners --------------------------------------------------------

    async def _listen(self, book: Book) -> None:
        proxy = book.proxy_listener
        self._door = Door(self.server, _tls(proxy))
        with listening("listeners.proxy", proxy.host, proxy.port):
            is_shared = self.siblings is not None
            self.proxy_port = await self._door.open(proxy.host, proxy.port, is_shared)
        self.admin_port = 0
        if book.admin_listener is not None:
            await self._listen_admin(book.admin_listener)

    async def _listen_admin(self, listener: Listener) -> None:
        app = web.Application()
        add_health_routes(app, self._collect, self.problems)
        add_admin_routes(app, self, self.token)
        self._admin = web.AppRunner(app, access_log=None, keepalive_timeout=30.0)
        await self._admin.setup()
        site = web.TCPSite(
            self._admin,
            listener.host,
            listener.port,
            ssl_context=_tls(listener),
            reuse_port=self.siblings is not None,
        )
        with listening("listeners.admin", listener.host, listener.port):
            await site.start()
        self.admin_port = self._admin.addresses[0][1]
        if self.siblings is None:
            write_control(self._data_dir, control_of(listener, self.admin_port, self.token))

    def problems(self) -> list[str]:
        """Why no traffic should come here; empty when it may."""
        found = []
        if self.is_draining and not self._is_leaving:
            found.append("draining")
        if self.journal.is_full:
            found.append("journal full")
        trouble = self.shipper.lag().trouble
        if not trouble and self.fleet is not None:  # which reads it also when nothing is shipped
            trouble = self.fleet.store_trouble
        if trouble:
            found.append(f"store: {trouble}")
        if self.fleet is not None and self.fleet.trouble and not self.fleet.state.allows:
            found.append(f"state: {self.fleet.trouble}")
        return found

    async def _collect(self) -> TallyCollector:
        """The metrics of all processes that share this listener."""
        own = self.counted()
        if self.siblings is None:
            return TallyCollector(self.tally, own.gauges, self.book.version, 0)
        counts, gauges, restarts = await self.siblings.gather(own)
        return TallyCollector(tally_of(counts), gauges, self.book.version, restarts)

    def counted(self) -> Figures:
        """The metrics of this process."""
        return Figures(counts_of(self.tally), self.figures())

    def figures(self) -> dict[str, float]:
        """Gauges for /metrics; names as in api/health.py."""
        pools = self.proxy.pools.values()
        return {
            "connections": len(self.server.connections),
            "in_flight": sum(
                connection.has_hold
                for connection in (*self.server.connections, *self.server.departed)
            ),
            "upstream_connections": sum(len(pool.open) for pool in pools),
            "upstream_idle": sum(len(pool.idle) for pool in pools),
            "journal_unshipped_bytes": self.journal.unshipped_bytes,
            "journal_unshipped_records": self.shipper.lag().events,
            "journal_full": int(self.journal.is_full),
            "accounts_loaded": sum(1 for _ in self.state.accounts()),
            "state_away": int(self.fleet is not None and bool(self.fleet.trouble)),
            "workers": 0 if self._is_leaving else 1,
        }

    # -- while it runs ----------------------------------------------------

    async def _do_chores(self) -> None:
        pruned_s = saved_s = time.monotonic()
        while True:
            await asyncio.sleep(HOUSEKEEPING_S)
            self._record_refusals()
            if time.monotonic() - saved_s > SAVE_LIMITS_S:
                saved_s = time.monotonic()
                self._save_limits()
            if time.monotonic() - pruned_s > PRUNE_S:
                pruned_s = time.monotonic()
                now_us = self.now_us()
                self.state.prune(now_us)
                idle_us = now_us - ACCOUNT_IDLE_US
                self.directory.forget_accounts(
                    self.state.evict_idle(self.shipper.shipped_seq, idle_us)
                )

    def _record_refusals(self) -> None:
        """What was refused since the last time goes to the journal, counted."""
        now_us = self.now_us()
        refused = self.tally.flush(now_us)
        if refused:
            try:
                self.journal.write_refused(refused)
            except JournalFull:
                # Refusals are counts, not money: they give way first, and say so.
                lost = sum(row.times for row in refused)
                self.log("refusals_not_recorded", level="warning", refusals=lost)
            except JournalError as exc:
                self.log("journal_failed", level="error", error=str(exc))

    def _save_limits(self) -> None:
        """Rate windows that have changed go to the store."""
        rows = self.state.unsaved()
        now_us = self.now_us()
        if rows:
            self.shipper.submit(lambda store: mutations.save_limit_states(store, rows, now_us))

    def reload(self) -> None:
        """Take the configuration anew; a wrong one changes nothing."""
        book = load_again(self.config, self.env, self.book, self.log, FIXED_ALONE)
        if book is not None:
            self.use(book, announces=True)

    def use(self, book: Book, announces: bool = False) -> list[str]:
        """Go on with another book; requests in flight keep theirs. Or why the store refuses it.

        `announces`: other gateways that share the state are to read theirs anew.
        """
        changed = book.version != self.book.version
        try:
            book = self._record_versions(book, announces and changed and self.fleet is not None)
        except BookRefused as refused:
            if self.siblings is None:  # else the supervisor says it, once
                self.log("reload_refused", level="error", problems=refused.problems)
            return refused.problems
        self.book = book
        self.store.forget()
        self.proxy.use(book, self._own_paths(book))
        self.server.refresh()
        self.log("reloaded", version=book.version)
        return []

    # -- the end ----------------------------------------------------------

    async def stop(self, hurry: asyncio.Event | None = None) -> None:
        """Finish what is in flight, ship everything, give the lock up.

        `hurry`: others serve at the same ports; clients may stay until it is set.
        """
        self._is_leaving = hurry is not None and not hurry.is_set()
        self.is_draining = True
        if self._door is not None:
            self._door.close()
        self.follower.stop()
        cut = await self.server.drain(self.book.server.drain_timeout_s, hurry)
        if self._chores is not None:
            self._chores.cancel()
        self._record_refusals()
        self._save_limits()
        if self._admin is not None:
            if self.siblings is None:
                remove_control(self._data_dir)
            await self._admin.cleanup()
        if self.fleet is not None:
            await self.fleet.stop()
        await asyncio.to_thread(self.retention.stop)
        self.ticker.stop()
        for pool in self.proxy.pools.values():
            pool.close()
        self._close_records(cut)

    def _close_records(self, cut: int) -> None:
        try:
            self.journal.close()
        except JournalError as exc:
            self._journal_failed(exc)
        shipped = self.shipper.stop(drain=True)
        self.store.close()
        self.sink.close()
        if self.lock is not None:
            self.lock.close()
        self.log("stopped", shipped=shipped, connections_cut=cut)


def _tls(listener: Listener) -> ssl.SSLContext | None:
    if listener.tls is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(listener.tls.cert_file, listener.tls.key_file)
    return context
