"""What gateways that share a state do for each other, beside requests.

Answers to those who begin a group anew; holds that are renewed while their requests go
on; and changes that another gateway has made, which are read from the store's audit log
a few times a second, so that a message that is missed is missed for no longer than that.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from contextlib import closing, suppress
from typing import Any, NamedTuple, Protocol

from gateway.core.book import StateSettings
from gateway.core.reload import RELOADED, Heard, heard
from gateway.journal.errors import JournalError
from gateway.journal.shipper import Shipper
from gateway.proxy.directory import Directory
from gateway.proxy.handler import wall_clock_us
from gateway.state.base import BalanceSource, Posting
from gateway.state.shared.barrier import BEAT_S, LOOK_S, Barrier
from gateway.state.shared.document import LEASE_US, Document, Record, read, used_field
from gateway.state.shared.groups import Agreement, Group, GroupsDiffer, place_of, tags
from gateway.state.shared.link import Link, StateUnavailable, posted_key
from gateway.state.shared.posts import body_again, used_by
from gateway.state.shared.shared import SharedState
from gateway.store.backend import Backend
from gateway.store.base import Store
from gateway.store.checks import JOURNAL_SPAN
from gateway.store.database import ERRORS, Database

CHANGES_S = 0.3  # how soon another gateway's change is known here
RENEW_S = LEASE_US / 3 / 1_000_000
LATE_CHANGES = 100  # that may be committed after a later one
POSTED_KEPT_S = 172_800  # as what the script keeps (run.lua)
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


Again = tuple[str, str, int, list[Posting]]  # account, id, record and postings of an event


class Changed(NamedTuple):
    """A row of the audit log; `digest` is that of the key that it is about, `detail` a reload's."""

    id: int
    action: str
    subject: str
    digest: bytes | None
    detail: str | None


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
        groups = [
            Group(tag, Link(server, tag, journal_id, barrier.epoch, first_batch, now_us))
            for server, tag, barrier in zip(self._servers, names, self._barriers, strict=True)
        ]
        for group in groups:
            group.link.before = self._record
            group.link.on_abandoned = self._abandoned
            if now_us is None:
                group.link.on_time = self._note_time
        self.state = SharedState(store, groups, journal_id, self)
        self.state.allows = settings.when_away == "allow"
        self._chores: list[asyncio.Task[None]] = []
        self._hearing = threading.Lock()
        self._log_reader: Database | None = None
        self._seen: set[int] = set()  # the last numbers of the audit log
        self._marked = -1  # the journal's record that all groups have

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
        for reloaded in _reloads(await asyncio.to_thread(self._changes))[-1:]:
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
        await self._post_again()
        # So that the first request finds a state that is begun.
        await asyncio.gather(*[self._look_at(group) for group in self.state.groups])
        self._chores += [loop.create_task(self._renew()), loop.create_task(self._hear())]

    async def _look_at(self, group: Group) -> None:
        try:
            await _reached(group)
        except StateUnavailable as error:
            self._gateway.log("state_unavailable", level="warning", tag=group.tag, error=str(error))

    async def _post_again(self) -> None:
        """What this journal has that its last process may not have posted before it ended.

        All of it is in the store by now; a document that is begun later has it from there.
        """
        journal = (self._journal_id, self._store_seq, self._gateway.journal.last_seq)
        for _, again in await self._not_posted(*journal):
            self.state.post_again(*again)

    async def adopt(self, journal_id: str, store_seq: int, last_seq: int) -> None:
        """The same of a journal whose gateway will not start again; it is in the store by now."""
        # Lines of their own: what is posted is noted under the journal that it came from.
        links: dict[int, Link] = {}
        first_batch = time.time_ns() // 1000
        journal = (journal_id, store_seq, last_seq)
        for n, (account, hold_id, seq, used) in await self._not_posted(*journal):
            server, barrier, tag = self._servers[n], self._barriers[n], self.state.groups[n].tag
            if n not in links:
                links[n] = Link(server, tag, journal_id, barrier.epoch, first_batch)
                links[n].start()
            key = f"{tag}a:{account}"
            links[n].tell(body_again(key, journal_id, hold_id, seq, used_by(used)), (key,))
        for link in links.values():
            await link.stop(ADOPT_S)

    async def _not_posted(
        self, journal_id: str, store_seq: int, last_seq: int
    ) -> list[tuple[int, Again]]:
        """By group, what it may not have of a journal that had been shipped to a record before.

        A group that knows of more than the journal's last record is begun anew: the machine
        lost its power before that was on the disk.
        """
        groups = self.state.groups
        numbers = range(len(groups))
        posted = await asyncio.gather(*[self._posted(n, journal_id, store_seq) for n in numbers])
        for group, seq in zip(groups, posted, strict=True):
            if seq is not None and seq > last_seq:
                group.link.distrust()
        known = [seq for seq in posted if seq is not None]
        if not known:
            return []
        found = []
        for again in await asyncio.to_thread(self._later, journal_id, min(known)):
            n = place_of(again[0], len(groups))
            before = posted[n]
            if before is not None and again[2] > before:
                found.append((n, again))
        return found

    async def _posted(self, n: int, journal_id: str, store_seq: int) -> int | None:
        """The last record that a group is known to have.

        One that was begun anew while the gateway was away has what the store had then. None: it
        cannot be asked, and will be begun from the store.
        """
        group = self.state.groups[n]
        try:
            found = await self._servers[n].command("GET", posted_key(group.tag, journal_id))
        except StateUnavailable:
            group.link.distrust()
            return None
        return store_seq if found is None else int(found)

    async def _mark_posted(self) -> None:
        """How far each group is, so that little has to be posted again: some have few posts."""
        seq = self._gateway.journal.last_seq
        if seq == self._marked:
            return
        groups = self.state.groups
        behind = self.state.behind()
        done = await asyncio.gather(*[_reached(g) for g in groups], return_exceptions=True)
        behind |= self.state.behind()
        marks = []
        for group, server, answer in zip(groups, self._servers, done, strict=True):
            if not (isinstance(answer, BaseException) or group.tag in behind):
                key = posted_key(group.tag, self._journal_id)
                marks.append(server.command("SET", key, seq, "EX", POSTED_KEPT_S))
        await asyncio.gather(*marks)
        if len(marks) == len(groups):
            self._marked = seq

    def _later(self, journal_id: str, seq: int) -> list[Again]:
        """What the store has of a journal after a record."""
        events: dict[int, Again] = {}
        with closing(self._reader()) as database:
            numbers = "SELECT no FROM journals WHERE journal_id = ?"
            (no,) = database.execute(numbers, (journal_id,)).fetchall()[0]
            offset = (no - 1) * JOURNAL_SPAN
            bounds = (offset + seq, offset + JOURNAL_SPAN)
            for row in database.execute(_LATER, bounds).fetchall():
                at, account, event_id, meter, amount, period_us, lot = row
                event = events.setdefault(at, (account, event_id, at - offset, []))
                if meter is not None:
                    event[3].append((meter, amount, period_us, lot))
        return list(events.values())

    @property
    def trouble(self) -> str:
        """Why some of the state is away; "" while all of it is there."""
        return next((g.link.failure for g in self.state.groups if g.link.failure), "")

    async def stop(self) -> None:
        for chore in self._chores:
            chore.cancel()
        groups = self.state.groups
        await asyncio.gather(*[group.link.stop(2.0) for group in groups])
        left = [barrier.leave() for barrier in self._barriers]
        await asyncio.gather(*left, return_exceptions=True)
        await self._close()

    async def _close(self) -> None:
        reader, self._log_reader = self._log_reader, None
        if reader is not None:
            reader.close()
        await asyncio.gather(*[server.close() for server in self._servers])

    # -- outside of an account ------------------------------------------------

    async def standing(self, account_id: str) -> list[str | int]:
        return await asyncio.to_thread(self._standing, account_id)

    def _standing(self, account_id: str) -> list[str | int]:
        fields: list[str | int] = []
        with closing(self._reader()) as database:
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
        with closing(self._reader()) as database:
            values = (account_id, record.time_us, record.id)
            return bool(database.execute(sql, values).fetchall())

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
        gateway = self._gateway
        gateway.journal.flush()
        shipped = gateway.shipper.reached(gateway.journal.last_seq)
        try:
            await asyncio.wait_for(asyncio.wrap_future(shipped), SHIP_WAIT_S)
        except TimeoutError:
            raise StateUnavailable("the journal could not be shipped to the store") from None

    def waiting(self, tag: str, epoch: str) -> list[tuple[str, str]]:
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
        while True:
            await asyncio.sleep(RENEW_S)
            self.state.renew(self.now_us() - int(RENEW_S * 1_000_000))
            with suppress(StateUnavailable):
                await self._mark_posted()

    async def _beat(self, barrier: Barrier, group: Group) -> None:
        """One for each group: a server that hangs keeps nobody from the others."""
        while True:
            try:
                if not await barrier.beat():
                    await _reached(group)  # which finds that it is to be begun anew
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
        with suppress(*ERRORS, StateUnavailable):  # requests say so where it matters
            self._take_up(await asyncio.to_thread(self._changes))

    def _changes(self) -> list[Changed]:
        """What has come into the audit log since the last time.

        Numbers are given before they are committed, so the last ones are looked at again.
        """
        with self._hearing:
            since = max(self._seen, default=0) - LATE_CHANGES
            rows = self._read_log(since)
            found = [Changed(*row) for row in rows if row[0] not in self._seen]
            self._seen = {row[0] for row in rows}
            return found

    def _read_log(self, since: int) -> list[Any]:
        """By a connection that stays: another one each time costs more than the answer."""
        database = self._log_reader or self._reader()
        self._log_reader = None
        try:
            rows = database.execute(_CHANGED, (since,)).fetchall()
        except BaseException:
            database.close()
            raise
        self._log_reader = database
        return rows

    def _take_up(self, changes: list[Changed]) -> None:
        directory = self._gateway.directory
        if changes:
            self._gateway.store.forget()
            directory.forget_unknown()
        for reloaded in _reloads(changes):
            self._gateway.follower.hear(reloaded)
        for _, action, subject, digest, _ in changes:
            if action.startswith("key."):
                if digest is not None:
                    directory.forget_key(digest)
            elif action != RELOADED:
                account_id = subject.partition("/")[0]  # of a member
                directory.forget_accounts({account_id})
                self.state.outdate(account_id)


def _reloads(changes: list[Changed]) -> list[Heard]:
    return [heard(c.id, c.subject, c.detail) for c in changes if c.detail is not None]


async def _reached(group: Group) -> None:
    """Done when all that was told before is. Raises StateUnavailable."""
    key = f"{group.tag}a:"
    await group.link.ask(["look", key], (key,))


_CHANGED = f"""
    SELECT a.id, a.action, a.subject, k.digest,
    CASE WHEN a.action = '{RELOADED}' THEN a.detail END FROM audit_log a
    LEFT JOIN keys k ON k.id = a.subject AND a.action LIKE 'key.%' WHERE a.id > ? ORDER BY a.id
"""

_LATER = """
    SELECT e.seq, e.account, e.id, c.meter, c.amount, c.period_us, c.lot FROM events e
    LEFT JOIN charges c ON c.seq = e.seq AND c.time_us = e.time_us
    WHERE e.seq > ? AND e.seq < ? ORDER BY e.seq, c.n
"""
