"""What gateways that share a state do for each other, beside requests.

Answers to those who begin a group anew; holds that are renewed while their requests go
on; what a process that has ended did not tell any more (posted.py); and what other
gateways have changed (changes.py).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from typing import Any, Protocol

from gateway.core.book import StateSettings
from gateway.core.reload import RELOADED, Heard
from gateway.fleet.absences import Absences
from gateway.fleet.changes import Changed, Changes
from gateway.fleet.posted import Posted, reached
from gateway.journal.errors import JournalError
from gateway.journal.shipper import Shipper
from gateway.proxy.directory import Directory
from gateway.proxy.handler import wall_clock_us
from gateway.state.base import BalanceSource
from gateway.state.shared.barrier import BEAT_S, LOOK_S, Barrier
from gateway.state.shared.document import Document, Record, read, used_field
from gateway.state.shared.groups import Agreement, Group, GroupsDiffer, tags
from gateway.state.shared.link import Link, StateUnavailable
from gateway.state.shared.posts import body_again, used_by
from gateway.state.shared.shared import SharedState
from gateway.store.backend import Backend
from gateway.store.base import Store
from gateway.store.database import ERRORS, Database

CHANGES_S = 0.3  # how soon another gateway's change is known here
ADOPT_S = 5.0  # for the server to take what a journal that was left has
SHIP_WAIT_S = 3.0  # for what is closed here to be in the store, before an epoch begins


class Follower(Protocol):
    """Who is told that another gateway has reloaded (gateway/follow.py)."""

    def hear(self, heard: Heard) -> None: ...


class Gateway(Protocol):
    """What is asked of a running gateway (gateway/app.py)."""

    directory: Directory
    store: Store
    shipper: Shipper[Database]
    now_us: Callable[[], int]

    @property
    def journal(self) -> Any: ...

    @property
    def backend(self) -> Backend: ...

    @property
    def log(self) -> Callable[..., None]: ...

    @property
    def follower(self) -> Follower: ...


class Fleet:
    """This gateway among those that share its state. Implements state.shared.outside.Outside."""

    def __init__(
        self,
        gateway: Gateway,
        settings: StateSettings,
        store: BalanceSource,
        journal_id: str,
        store_seq: int,
    ) -> None:
        """`store_seq`: how much of the journal the store had before this process began.

        Raises StateUnavailable when the library is not there.
        """
        try:
            from gateway.state.shared.cluster import open_servers
        except ImportError as error:
            raise StateUnavailable(f"state.url: {error}") from None
        self._gateway = gateway
        self._journal_id = journal_id
        self._lease_us = settings.lease_us
        self._store_seq = store_seq
        names = tags(settings.prefix, settings.groups)
        self._servers = open_servers(settings.url, settings.timeout_s, names)
        self._agreement = Agreement(self._servers, names, journal_id)
        self._barriers = [
            Barrier(server, tag, journal_id, self, self._agreement)
            for server, tag in zip(self._servers, names, strict=True)
        ]
        # Greater than any before: the script answers a batch that it knows with what it said then.
        first_batch = time.time_ns() // 1000
        self._clock_us = gateway.now_us
        self._off_us: int | None = None  # from this machine's monotonic time to the server's time
        now_us = None if gateway.now_us is wall_clock_us else gateway.now_us
        lines = [
            Link(server, tag, journal_id, barrier.epoch, first_batch, now_us)
            for server, tag, barrier in zip(self._servers, names, self._barriers, strict=True)
        ]
        groups = [Group(t, line, self._lease_us) for t, line in zip(names, lines, strict=True)]
        for group in groups:
            group.link.before = self._record
            group.link.on_abandoned = self._abandoned
            if now_us is None:
                group.link.on_time = self._note_time
        self.state = SharedState(store, groups, journal_id, self)
        self.state.allows = settings.when_away == "allow"
        self._absences = Absences(groups, settings.when_away, gateway.log)
        self._chores: list[asyncio.Task[None]] = []
        self._changes = Changes(self._reader)
        self._posted = Posted(self.state, self._servers, self._reading)

    def _abandoned(self, why: str) -> None:
        self._gateway.log("state_batch_abandoned", level="error", error=why)

    def _record(self) -> None:
        """Nothing is told of that the journal would not know after a crash."""
        try:
            self._gateway.journal.flush()
        except JournalError as error:
            raise StateUnavailable(f"the journal cannot be written: {error}") from error

    def keep_id(self, state_id: str) -> None:
        """What the state is known by (state/shared/identity.py) stays; "" is not known."""
        self._agreement.state_id = state_id

    async def start(self) -> None:
        """Raises GroupsDiffer where the gateways that run have another number of groups."""
        reloaded = await asyncio.to_thread(self._changes.begin)
        if reloaded is not None:
            self._gateway.follower.hear(reloaded._replace(at_start=True))
        try:
            await self._agreement.reach()
        except GroupsDiffer:
            await self._close()
            raise
        except StateUnavailable:
            pass  # before the first request is decided it is asked again
        for group in self.state.groups:
            group.link.start()
        loop = asyncio.get_running_loop()
        beats = zip(self._barriers, self.state.groups, strict=True)
        self._chores = [loop.create_task(self._beat(*each)) for each in beats]
        self._chores.append(loop.create_task(self._absences.watch()))
        await self._post_again()
        # So that the first request finds a state that is begun.
        await asyncio.gather(*[self._look_at(group) for group in self.state.groups])
        self._chores += [loop.create_task(self._renew()), loop.create_task(self._hear())]

    async def _look_at(self, group: Group) -> None:
        try:
            await reached(group)
        except StateUnavailable as error:
            self._gateway.log("state_unavailable", level="warning", tag=group.tag, error=str(error))

    async def _post_again(self) -> None:
        """What this journal has that its last process may not have posted before it ended.

        All of it is in the store by now; a document that is begun later has it from there.
        """
        journal = (self._journal_id, self._store_seq, self._gateway.journal.last_seq)
        for _, again in await self._posted.missing(*journal):
            self.state.post_again(*again)

    async def adopt(self, journal_id: str, store_seq: int, last_seq: int) -> None:
        """The same of a journal whose gateway will not start again; it is in the store by now."""
        # Lines of their own: what is posted is noted under the journal that it came from.
        links: dict[int, Link] = {}
        first_batch = time.time_ns() // 1000
        missing = await self._posted.missing(journal_id, store_seq, last_seq)
        for n, (account, hold_id, seq, used) in missing:
            server, barrier, tag = self._servers[n], self._barriers[n], self.state.groups[n].tag
            if n not in links:
                links[n] = Link(server, tag, journal_id, barrier.epoch, first_batch)
                links[n].start()
            key = f"{tag}a:{account}"
            links[n].tell(body_again(key, journal_id, hold_id, seq, used_by(used)), (key,))
        for link in links.values():
            await link.stop(ADOPT_S)

    @property
    def trouble(self) -> str:
        """Why some of the state is away; "" while all of it is there."""
        return next((g.link.failure for g in self.state.groups if g.link.failure), "")

    @property
    def store_trouble(self) -> str:
        """Why what others change cannot be read from the store; "" while it can."""
        return self._changes.trouble

    async def stop(self) -> None:
        for chore in self._chores:
            chore.cancel()
        groups = self.state.groups
        self.state.drop_forms()
        await asyncio.gather(*[group.link.stop(2.0) for group in groups])
        left = [barrier.leave() for barrier in self._barriers]
        await asyncio.gather(*left, return_exceptions=True)
        await self._close()

    async def _close(self) -> None:
        self._changes.close()
        await asyncio.gather(*[server.close() for server in self._servers])

    # -- outside of an account ------------------------------------------------

    async def standing(self, account_id: str) -> list[str | int]:
        return await asyncio.to_thread(self._standing, account_id)

    def _standing(self, account_id: str) -> list[str | int]:
        fields: list[str | int] = []
        with self._reading() as database:
            database.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
            rows = "SELECT meter, period_us, lot, used FROM balances WHERE account = ?"
            for meter, period_us, lot, used in database.execute(rows, (account_id,)).fetchall():
                fields += (used_field(meter, period_us, lot), used)
            journals = "SELECT journal_id, applied_seq FROM journals"
            for journal_id, seq in database.execute(journals).fetchall():
                fields += (f"p|{journal_id}", seq)
        return fields

    async def has_event(self, account_id: str, record: Record) -> bool:
        return await asyncio.to_thread(self._has_event, account_id, record)

    def _has_event(self, account_id: str, record: Record) -> bool:
        sql = "SELECT 1 FROM events WHERE account = ? AND time_us = ? AND id = ?"
        with self._reading() as database:
            values = (account_id, record.time_us, record.id)
            return bool(database.execute(sql, values).fetchall())

    @contextmanager
    def _reading(self) -> Iterator[Database]:
        """A reader for some questions. Raises StateUnavailable, also where it goes meanwhile."""
        with closing(self._reader()) as database:
            try:
                yield database
            except ERRORS as error:
                raise StateUnavailable(f"the store cannot be read: {error}") from error

    def _reader(self) -> Database:
        """Raises StateUnavailable: without the store a document cannot be begun."""
        try:
            return self._gateway.backend.open_reader()
        except ERRORS as error:
            raise StateUnavailable(f"the store cannot be read: {error}") from error

    def reload(self, account_id: str) -> object:
        return self._gateway.directory.account_state(account_id)

    def now_us(self) -> int:
        """The server's time, once it has been heard: all gateways go by one clock."""
        if self._off_us is None:
            return self._clock_us()
        return time.monotonic_ns() // 1000 + self._off_us

    def _note_time(self, now_us: int, took_us: int) -> None:
        """It was that time there at an instant of the call; what fits already is kept."""
        least = now_us - time.monotonic_ns() // 1000
        known = least + took_us // 2 if self._off_us is None else self._off_us
        self._off_us = min(max(known, least), least + took_us)

    # -- what a barrier asks ---------------------------------------------------

    async def ship(self) -> None:
        self._record()
        gateway = self._gateway
        shipped = gateway.shipper.reached(gateway.journal.last_seq)
        try:
            await asyncio.wait_for(asyncio.wrap_future(shipped), SHIP_WAIT_S)
        except TimeoutError:
            raise StateUnavailable("the journal could not be shipped to the store") from None

    async def waiting(self, tag: str, epoch: str) -> list[tuple[str, str]]:
        (line,) = [group.link for group in self.state.groups if group.tag == tag]
        await line.heard()
        return self.state.waiting(tag, epoch)

    def begun(self, tag: str, epoch: str, without: list[str]) -> None:
        if without:
            self._gateway.log("state_begun_without", level="warning", tag=tag, journals=without)
        self._gateway.log("state_begun", tag=tag, epoch=epoch)

    # -- the audit ------------------------------------------------------------

    async def documents(self) -> dict[str, Document]:
        """Of the accounts that are live here. Raises StateUnavailable."""
        found = {}
        for state in self.state.accounts():
            shared = self.state.shared(state)
            reply = await shared.link.ask(["look", shared.key], (shared.key,))
            if reply[0] == 2:
                found[state.account.id] = read(reply[1])
        return found

    # -- chores ---------------------------------------------------------------

    async def _renew(self) -> None:
        every_us = self._lease_us // 3
        while True:
            await asyncio.sleep(every_us / 1_000_000)
            self.state.renew(self.now_us() - every_us)
            with suppress(StateUnavailable):
                await self._posted.mark(self._journal_id, self._gateway.journal.last_seq)

    async def _beat(self, barrier: Barrier, group: Group) -> None:
        """One for each group: a server that hangs keeps nobody from the others."""
        while True:
            try:
                if not await barrier.beat():
                    await reached(group)  # which finds that it is to be begun anew
                await asyncio.sleep(BEAT_S)
            except StateUnavailable:
                await asyncio.sleep(LOOK_S)  # others may wait for this one at its next server

    async def _hear(self) -> None:
        """Take up what other gateways, or a command line, have changed."""
        while True:
            await asyncio.sleep(CHANGES_S)
            await self.hear()
            with suppress(StateUnavailable):
                await self._agreement.repeat()

    async def hear(self) -> None:
        """What has been changed until now counts here when this returns."""
        with suppress(*ERRORS, StateUnavailable):  # `store_trouble` has it
            self._take_up(await asyncio.to_thread(self._changes.read))

    def _take_up(self, changes: list[Changed]) -> None:
        directory = self._gateway.directory
        if changes:
            self._gateway.store.forget()
            directory.forget_unknown()
        for change in changes:
            action, subject = change.action, change.subject
            if (reloaded := change.reload) is not None:
                self._gateway.follower.hear(reloaded)
            elif action.startswith("key."):
                if change.digest is not None:
                    directory.forget_key(change.digest)
            elif action != RELOADED:
                account_id = subject.partition("/")[0]  # of a member
                directory.forget_accounts({account_id})
                self.state.outdate(account_id)
