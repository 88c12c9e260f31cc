"""`tallygate serve` with several workers: who keeps them running, and speaks for all?

Loads the configuration, holds the lock and the ports, starts the workers and starts again
what dies or hangs; gives a new configuration to all of them or to none; sums their metrics.
Serves no request itself, so nothing that a request does can end it. Workers hold the lock,
too: as long as one of them lives, nobody else takes the data directory.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from gateway.api.control import control_of, new_token, remove_control, write_control
from gateway.config import Loaded
from gateway.config.reload import is_needed, load_again, log_difference, log_warnings
from gateway.core.book import Book, Listener
from gateway.core.reload import Heard
from gateway.journal.folders import left_folders, worker_folder
from gateway.log import LogThread
from gateway.store.base import StoreError
from gateway.store.lock import DataLock, DataLocked
from gateway.workers.channel import ChannelClosed, NotAnswered
from gateway.workers.figures import Counts, Gathered, add
from gateway.workers.member import Member, WorkerFailed
from gateway.workers.ports import Port, hold_port, listening
from gateway.workers.pulse import SHIP_S
from gateway.workers.siblings import Start

USE_S = 15.0  # for a worker to note the plans of a new configuration in the store
STAY_S = 1.0  # for clients that ask without a pause; a reload waits for no others
LOCK_S = 10.0  # beside the drain, for the workers of a supervisor that was killed


class Supervisor:
    """`start`, then `stop`; `reload` in between. Implements gateway.workers.member.Family."""

    def __init__(
        self, config: Path, env: Mapping[str, str], book: Book, log: LogThread, log_level: str
    ) -> None:
        self.book = book
        self.log = log
        self.members: list[Member] = []
        self._config = config
        self._env = dict(env)
        self._log_level = log_level
        self._data_dir = Path(book.data_dir)
        self._token = new_token()
        self._ports: list[Port] = []
        self._left: tuple[str, ...] = ()  # journals that the next worker to start takes over
        self._retiring: dict[Member, asyncio.Task[None]] = {}  # too many since a reload
        self._gone: Counts = {}  # what workers had counted whose number is no more
        self._gone_restarts = 0
        self._changing = asyncio.Lock()  # one reload at a time, and none while stopping
        self._is_leaving = False
        self._heard_id = -1  # of the last reload of another machine that was heard of

    # -- start and stop -------------------------------------------------------

    async def start(self) -> None:
        """Serve. Raises DataLocked, OSError, WorkerFailed; nothing runs then."""
        async with self._changing:
            await self._start(self.book)

    async def _start(self, book: Book) -> None:
        self._lock = await self._take_lock()
        try:
            self._hold("listeners.proxy", book.proxy_listener)
            if book.admin_listener is not None:
                self._hold("listeners.admin", book.admin_listener)
            if book.admin_listener is not None:  # any worker answers, as soon as there is one
                control = control_of(book.admin_listener, self._ports[1].number, self._token)
                write_control(self._data_dir, control)
            self._left = tuple(left_folders(book.journal.dir, book.workers))
            # The first one migrates the store and takes over what was left; then the others.
            await self._add(1)
            self._left = ()
            await self._grow(book.workers)
        except BaseException:
            await self._end_all(SHIP_S)
            raise
        ports = [port.number for port in self._ports]
        self.log("serving", workers=len(self.members), ports=ports, version=book.version)

    def _hold(self, key: str, listener: Listener) -> None:
        """Raises OSError."""
        with listening(key, listener.host, listener.port):
            self._ports.append(hold_port(listener.host, listener.port))

    async def _take_lock(self) -> DataLock:
        """Raises DataLocked; workers whose supervisor has died are waited for."""
        give_up_s = time.monotonic() + self.book.server.drain_timeout_s + LOCK_S
        while True:
            try:
                return DataLock(self._data_dir)
            except DataLocked as locked:
                if not locked.pid or _is_alive(locked.pid) or time.monotonic() > give_up_s:
                    raise
            await asyncio.sleep(0.1)

    async def _add(self, number: int) -> None:
        member = Member(number, self)
        self.members.append(member)
        await member.start()

    async def _grow(self, workers: int) -> None:
        """Start those that are not there yet. Raises WorkerFailed when one of them cannot."""
        there = len(self.members)
        started = [self._add(number) for number in range(there + 1, workers + 1)]
        for failed in await asyncio.gather(*started, return_exceptions=True):
            if isinstance(failed, BaseException):
                raise failed

    async def stop(self) -> int:
        """Let all drain; the exit code."""
        self._is_leaving = True
        for member in self._all():  # at once, also while a reload waits for others to drain
            member.leave()
        async with self._changing:
            return await self._end_all(self.book.server.drain_timeout_s + SHIP_S)

    async def _end_all(self, timeout_s: float) -> int:
        ended = await asyncio.gather(*(member.stop(timeout_s) for member in self.members))
        await asyncio.gather(*self._retiring.values())
        for port in self._ports:
            port.close()
        if self.book.admin_listener is not None:
            remove_control(self._data_dir)
        self._lock.close()
        return 0 if all(ended) else 1

    # -- what a member asks ---------------------------------------------------

    def start_of(self, member: Member) -> Start:
        book = self._book_of(member.number)
        return Start(member.number, book, self._token, self._left, self._log_level)

    def inherited(self) -> tuple[int, ...]:
        return (self._lock.fd,)

    async def answer(self, member: Member, what: str, argument: Any) -> Any:
        others = [other for other in self._all() if other is not member]
        if what == "others":
            found = await asyncio.gather(*(other.answer_of(argument) for other in others))
            return [answer for answers in found for answer in answers]
        if what == "sum":
            await asyncio.gather(*(other.answer_of("figures") for other in others))
            return self._sum()
        if what == "reload":
            await self.hear(argument)
        return None

    def _all(self) -> list[Member]:
        return [*self.members, *self._retiring]

    def _sum(self) -> Gathered:
        """Of what all have said last, which each had said before it was asked for it."""
        counts, gauges = dict(self._gone), dict[str, float]()
        for member in self._all():
            add(counts, member.counts())
            add(gauges, member.gauges())
        restarts = self._gone_restarts + sum(member.restarts for member in self._all())
        return Gathered(counts, gauges, restarts)

    def _book_of(self, number: int) -> Book:
        """The book for one worker: the ports that were found, a journal of its own."""
        book = self.book
        admin = book.admin_listener
        if admin is not None:
            admin = replace(admin, port=self._ports[1].number)
        return replace(
            book,
            proxy_listener=replace(book.proxy_listener, port=self._ports[0].number),
            admin_listener=admin,
            journal=replace(book.journal, dir=worker_folder(book.journal.dir, number)),
        )

    # -- another configuration ------------------------------------------------

    async def reload(self) -> None:
        """Take the configuration anew, with all workers; a wrong one changes nothing."""
        async with self._changing:
            if self._is_leaving:
                return
            book = await asyncio.to_thread(load_again, self._config, self._env, self.book, self.log)
            if book is not None:
                await self._go_on(book, announces=True)

    async def hear(self, heard: Heard) -> None:
        """The same once for all workers, each of which hears what another machine has reloaded."""
        async with self._changing:
            if self._is_leaving or heard.id <= self._heard_id:
                return
            self._heard_id = heard.id
            before = self.book
            if heard.rules_version == before.rules_version:
                return
            book = await asyncio.to_thread(load_again, self._config, self._env, before, self.log)
            if book is not None and is_needed(heard, before, book):
                await self._go_on(book, announces=False)
            log_difference(heard, self.book, self.log)

    async def _go_on(self, book: Book, announces: bool) -> None:
        before = self.book
        self.book = book
        for member in self._retiring:  # it would go on with the book that it has
            member.leave(STAY_S)
        first = next((member for member in self.members if member.is_ready), None)
        if first is not None and not await self._use_first(first, announces):
            self.book = before
            return
        # Who is starting takes it up as soon as it has started.
        others = [member for member in self.members if member is not first]
        announces = announces and first is None
        await asyncio.gather(*(self._use(member, announces) for member in others))
        await self._resize(book.workers)
        self.log("reloaded", version=book.version, workers=len(self.members))

    async def _use_first(self, member: Member, announces: bool) -> bool:
        """One notes the plans in the store before the others do; it cannot: nothing changes."""
        try:
            argument = (self._book_of(member.number), announces)
            problems = await member.ask("use", argument, USE_S)
        except (ChannelClosed, NotAnswered, TimeoutError) as error:
            problems = [f"{type(error).__name__}: {error}"]
            member.restart()  # nobody knows how far it came; the next one has the old book
        if problems:
            self.log("reload_refused", level="error", problems=problems)
        return not problems

    async def _use(self, member: Member, announces: bool) -> None:
        try:
            refused = await member.ask("use", (self._book_of(member.number), announces), USE_S)
            text = "; ".join(refused)
        except ChannelClosed:
            return  # it has ended, and starts with the new book
        except (NotAnswered, TimeoutError) as error:
            text = f"{type(error).__name__}: {error}"
        if text:
            self.log("worker_not_reloaded", level="error", worker=member.number, error=text)
            member.restart()

    async def _resize(self, workers: int) -> None:
        """More of them, or fewer; who is too many drains."""
        there = len(self.members)
        if workers > there:  # a number, and its journal, is its worker's until that has ended
            await asyncio.gather(*self._retiring.values())
        try:
            await self._grow(workers)
        except WorkerFailed as error:
            self.log("worker_not_added", level="error", error=str(error))
            workers = there
        loop = asyncio.get_running_loop()
        leaving, self.members[workers:] = self.members[workers:], []
        for member in leaving:
            self._retiring[member] = loop.create_task(self._retire(member))

    async def _retire(self, member: Member) -> None:
        """Let it drain; what it has counted stays in the sums, what it has journaled is shipped."""
        drain_s = self.book.server.drain_timeout_s
        # The other half is for requests that come last.
        await member.stop(drain_s + SHIP_S, stay_s=drain_s / 2)
        if not self._is_leaving:
            await self._adopt(worker_folder(self.book.journal.dir, member.number))
        del self._retiring[member]
        add(self._gone, member.counts())
        self._gone_restarts += member.restarts

    async def _adopt(self, folder: str) -> None:
        """What a worker may not have shipped before it ended; or the next start does it."""
        try:
            await self.members[0].ask("adopt", folder, USE_S)
        except (ChannelClosed, NotAnswered, TimeoutError) as error:
            self.log("journal_left", level="warning", folder=folder, error=str(error))


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def run(config: Path, loaded: Loaded, *, log_level: str = "info") -> int:
    """Run the workers of a configuration until SIGTERM or SIGINT; the exit code."""
    log = LogThread(log_level)
    try:
        log_warnings(loaded, log)
        return asyncio.run(_main(config, loaded.book, log, log_level))
    except (StoreError, WorkerFailed, OSError) as exc:
        log("not_started", level="error", error=str(exc), kind=type(exc).__name__)
        return 1
    finally:
        log.close()


async def _main(config: Path, book: Book, log: LogThread, log_level: str) -> int:
    supervisor = Supervisor(config, os.environ, book, log, log_level)
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    reloads: set[asyncio.Task[None]] = set()

    def reload() -> None:
        task = loop.create_task(supervisor.reload())
        reloads.add(task)
        task.add_done_callback(reloads.discard)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    loop.add_signal_handler(signal.SIGHUP, reload)
    await supervisor.start()
    await ended.wait()
    return await supervisor.stop()
