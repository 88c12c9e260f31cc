"""What gateways that share a state do for each other, beside requests.

A new epoch when the server has lost what it knew; holds that are renewed while their
requests go on; and changes that another gateway has made, which are read from the
store's audit log a few times a second, so that a message that is missed is missed for no
longer than that.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable
from contextlib import closing, suppress
from typing import Any, NamedTuple, Protocol

from gateway.core.book import StateSettings
from gateway.journal.shipper import Shipper
from gateway.proxy.directory import Directory
from gateway.proxy.handler import wall_clock_us
from gateway.state.base import BalanceSource, Posting
from gateway.state.shared.document import LEASE_US, Document, Record, read, row_of, used_field
from gateway.state.shared.link import Link, StateUnavailable, posted_key
from gateway.state.shared.shared import SharedState
from gateway.store.backend import Backend
from gateway.store.base import Store
from gateway.store.checks import JOURNAL_SPAN
from gateway.store.database import ERRORS, Database

CHANGES_S = 0.3  # how soon another gateway's change is known here
RENEW_S = LEASE_US / 3 / 1_000_000
LATE_CHANGES = 100  # that may be committed after a later one
MEMBER_S = 2  # a gateway that has not been heard for longer is not waited for
REBUILD_MS = 10_000  # for all gateways to tell what they know; half of it is waited
ADOPT_S = 5.0  # for the server to take what a journal that was left has
SHIP_WAIT_S = 3.0  # for what is closed here to be in the store, before an epoch begins


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


class Changed(NamedTuple):
    """A row of the audit log; `digest` is that of the key that it is about."""

    action: str
    subject: str
    digest: bytes | None


class Fleet:
    """This gateway among those that share its state. Implements state.shared.outside.Outside."""

    def __init__(
        self, gateway: Gateway, settings: StateSettings, store: BalanceSource, journal_id: str
    ) -> None:
        """Raises StateUnavailable when the library is not there."""
        try:
            from gateway.state.shared.servers import RedisServer
        except ImportError as error:
            raise StateUnavailable(f"state.url: {error}") from None
        self._gateway = gateway
        self._journal_id = journal_id
        self._told = ""  # the last beginning that this gateway has told what it knows
        self._server = RedisServer(settings.url, settings.timeout_s)
        # Greater than any before: the script answers a batch that it knows with what it said then.
        first_batch = time.time_ns() // 1000
        tag = self._tag = f"{settings.prefix}{{0}}"  # one group: all keys are on one server
        self._clock_us = gateway.now_us
        self._off_us: int | None = None  # from this machine's monotonic time to the server's time
        now_us = None if gateway.now_us is wall_clock_us else gateway.now_us
        self.link = Link(self._server, tag, journal_id, self._epoch, first_batch, now_us)
        if now_us is None:
            self.link.on_time = self._note_time
        self.state = SharedState(store, self.link, tag, journal_id, self)
        self.state.allows = settings.when_away == "allow"
        self._chores: list[asyncio.Task[None]] = []
        self._seen: set[int] = set()  # the last numbers of the audit log

    async def start(self) -> None:
        await asyncio.to_thread(self._changes)
        self.link.start()
        await self._post_again()
        try:
            # So that the first request finds a state that is begun.
            await self.link.ask(["look", f"{self._tag}a:"], (f"{self._tag}a:",))
        except StateUnavailable as error:
            self._gateway.log("state_unavailable", level="warning", error=str(error))
        loop = asyncio.get_running_loop()
        self._chores = [loop.create_task(self._renew()), loop.create_task(self._hear())]

    async def _post_again(self) -> None:
        """What this journal has that its last process may not have posted before it ended.

        All of it is in the store by now; a document that is begun later has it from there.
        """
        try:
            posted = await self._server.command("GET", posted_key(self._tag, self._journal_id))
        except StateUnavailable:
            return  # when it is back it is another epoch, and begun from the store
        if posted is not None:
            later = await asyncio.to_thread(self._later, self._journal_id, int(posted))
            for account, hold_id, seq, used in later:
                self.state.post_again(account, hold_id, seq, used)

    async def adopt(self, journal_id: str) -> None:
        """The same of a journal whose gateway will not start again; it is in the store by now."""
        try:
            posted = await self._server.command("GET", posted_key(self._tag, journal_id))
        except StateUnavailable:
            return  # as above
        if posted is None:
            return
        # A line of its own: what is posted is noted under the journal that it came from.
        link = Link(self._server, self._tag, journal_id, self._epoch, time.time_ns() // 1000)
        link.start()
        later = await asyncio.to_thread(self._later, journal_id, int(posted))
        for account, hold_id, seq, used in later:
            key = f"{self._tag}a:{account}"
            fields = [(used_field(*row_of(posting)), posting[1]) for posting in used]
            singles = [(hold_id, 0, fields, 0)]
            link.tell(["give", key, journal_id, seq, seq, [], singles, [], [], 0], (key,))
        await link.stop(ADOPT_S)

    def _later(self, journal_id: str, seq: int) -> list[tuple[str, str, int, list[Posting]]]:
        """Events of a journal after a record: account, id, record and postings."""
        events: dict[int, tuple[str, str, int, list[Posting]]] = {}
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

    async def stop(self) -> None:
        for chore in self._chores:
            chore.cancel()
        await self.link.stop(2.0)
        await self._server.close()

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

    # -- epochs ---------------------------------------------------------------

    async def _epoch(self, found: str) -> str:
        """The server's; or a new one, begun when all gateways have told what they know.

        An epoch names the server's process: another one, after a restart or in the place of
        one that failed, may have come back with less than was told.
        """
        command = self._server.command
        run_id = await self._server.run_id()
        mine = f"{run_id}.{secrets.token_hex(8)}"
        while not found.startswith(run_id):
            if await command("SET", f"{self._tag}rebuild", mine, "NX", "PX", REBUILD_MS):
                await command("DEL", f"{self._tag}epoch")
                await self._gather(mine)
                await self._server.remove(f"{self._tag}a:*")
                await command("SET", f"{self._tag}epoch", mine)
                await command("DEL", f"{self._tag}rebuild")
                self._gateway.log("state_begun", epoch=mine)
            await asyncio.sleep(CHANGES_S / 4)
            found = (await command("GET", f"{self._tag}epoch") or b"").decode()
        return found

    async def _gather(self, rebuild: str) -> None:
        """Wait for every gateway that is there: its journal shipped, its open holds told."""
        await self._tell(rebuild)
        began_s = time.monotonic()
        while time.monotonic() - began_s < REBUILD_MS / 1000 / 2:
            await asyncio.sleep(CHANGES_S / 4)
            told = set(await self._server.command("SMEMBERS", f"{self._tag}told:{rebuild}"))
            is_heard = time.monotonic() - began_s > 2 * CHANGES_S
            if is_heard and set(await self._members()) <= told:
                return
        missing = [name.decode() for name in await self._members() if name not in told]
        self._gateway.log("state_begun_without", level="warning", journals=missing)

    async def _members(self) -> list[bytes]:
        """Journals of the gateways that were there just now."""
        beats: dict[bytes, bytes] = await self._server.command("HGETALL", f"{self._tag}members")
        seconds, _ = await self._server.command("TIME")
        return [name for name, beat in beats.items() if int(beat) >= int(seconds) - MEMBER_S]

    async def _tell(self, rebuild: str) -> None:
        """What is closed here goes to the store, and what is open waits for its account."""
        command, gateway = self._server.command, self._gateway
        gateway.journal.flush()
        shipped = gateway.shipper.reached(gateway.journal.last_seq)
        try:
            await asyncio.wait_for(asyncio.wrap_future(shipped), SHIP_WAIT_S)
        except TimeoutError:
            raise StateUnavailable("the journal could not be shipped to the store") from None
        for key, hold in self.state.waiting(rebuild):
            await command("RPUSH", key, hold)
            await command("PEXPIRE", key, LEASE_US // 1000)
        await command("SADD", f"{self._tag}told:{rebuild}", self._journal_id)
        await command("EXPIRE", f"{self._tag}told:{rebuild}", 60)
        self._told = rebuild

    async def _beat(self) -> None:
        """Say that this gateway is there, and answer to one that begins anew."""
        seconds, _ = await self._server.command("TIME")
        await self._server.command("HSET", f"{self._tag}members", self._journal_id, int(seconds))
        rebuild = (await self._server.command("GET", f"{self._tag}rebuild") or b"").decode()
        if rebuild and rebuild != self._told:
            await self._tell(rebuild)

    # -- the audit ------------------------------------------------------------

    async def documents(self) -> dict[str, Document]:
        """Of the accounts that are live here. Raises StateUnavailable."""
        found = {}
        for state in self.state.accounts():
            shared = self.state.shared(state)
            reply = await self.link.ask(["look", shared.key], (shared.key,))
            if reply[0] == 2:
                found[state.account.id] = read(reply[1])
        return found

    # -- chores ---------------------------------------------------------------

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(RENEW_S)
            self.state.renew(self.now_us() - int(RENEW_S * 1_000_000))

    async def _hear(self) -> None:
        """Take up what other gateways, or a command line, have changed."""
        while True:
            await asyncio.sleep(CHANGES_S)
            await self.hear()
            with suppress(StateUnavailable):
                await self._beat()

    async def hear(self) -> None:
        """What has been changed until now counts here when this returns."""
        with suppress(*ERRORS, StateUnavailable):  # requests say so where it matters
            self._take_up(await asyncio.to_thread(self._changes))

    def _changes(self) -> list[Changed]:
        """What has come into the audit log since the last time.

        Numbers are given before they are committed, so the last ones are looked at again.
        """
        since = max(self._seen, default=0) - LATE_CHANGES
        with closing(self._reader()) as database:
            rows = database.execute(_CHANGED, (since,)).fetchall()
        found = [Changed(*row[1:]) for row in rows if row[0] not in self._seen]
        self._seen = {row[0] for row in rows}
        return found

    def _take_up(self, changes: list[Changed]) -> None:
        directory = self._gateway.directory
        if changes:
            self._gateway.store.forget()
            directory.forget_unknown()
        for action, subject, digest in changes:
            if action.startswith("key."):
                if digest is not None:
                    directory.forget_key(digest)
            else:
                account_id = subject.partition("/")[0]  # of a member
                directory.forget_accounts({account_id})
                self.state.outdate(account_id)


_CHANGED = """
    SELECT a.id, a.action, a.subject, k.digest FROM audit_log a
    LEFT JOIN keys k ON k.id = a.subject AND a.action LIKE 'key.%' WHERE a.id > ? ORDER BY a.id
"""

_LATER = """
    SELECT e.seq, e.account, e.id, c.meter, c.amount, c.period_us, c.lot FROM events e
    LEFT JOIN charges c ON c.seq = e.seq AND c.time_us = e.time_us
    WHERE e.seq > ? AND e.seq < ? ORDER BY e.seq, c.n
"""
