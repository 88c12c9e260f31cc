"""Several hot states that share one account, as processes would: a Stage of them."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from gateway.core.book import Account, Plan
from gateway.core.ledger import Balance
from gateway.core.periods import Period
from gateway.core.pricing import Charges, Counted
from gateway.core.refusals import Refusal
from gateway.core.rows import LedgerEntry
from gateway.core.terms import effective_plan
from gateway.state.base import AccountState, Hold, Settlement
from gateway.state.memory import MemoryState
from gateway.state.shared.account import SharedAccount
from gateway.state.shared.cluster import open_servers
from gateway.state.shared.document import Record, used_field
from gateway.state.shared.groups import Group, GroupServer, place_of, tags
from gateway.state.shared.link import Link
from gateway.state.shared.shared import SharedState
from gateway.state.spending import Spending
from tests.state.stage import Stage, Store
from tests.support.asking import Asking
from tests.support.cluster import cluster
from tests.support.valkey import server

T = TypeVar("T")

ACCOUNT = "acme"
HANGS_S = 10.0  # for so long time stands

_tags = itertools.count()


class Clock(asyncio.SelectorEventLoop):
    """An event loop whose time can be stopped: no timer ends then, unless a test hangs."""

    _began_s: float | None = None  # by the loop's time, which stands since then
    _lost_s = 0.0

    def time(self) -> float:
        now_s = super().time() - self._lost_s
        if self._began_s is None:
            return now_s
        return max(self._began_s, now_s - HANGS_S)

    def stop_time(self) -> None:
        self._began_s = self.time()

    def go_on(self) -> None:
        self._lost_s, self._began_s = super().time() - self.time(), None


class Process:
    """A hot state, its line, and what it is told of the world. Implements Outside."""

    def __init__(self, fleet: Fleet, name: str) -> None:
        self.fleet = fleet
        self.name = name
        self.seq = 0
        self.servers = open_servers(fleet.url, 2.0, fleet.tags)
        batch = next(fleet.batches)
        lines = [
            Link(server, tag, name, self._epoch_of(server, tag), batch, self.now_us)
            for server, tag in zip(self.servers, fleet.tags, strict=True)
        ]
        self.groups = [
            Group(tag, line, fleet.lease_us) for tag, line in zip(fleet.tags, lines, strict=True)
        ]
        self.state = SharedState(fleet.store, self.groups, name, self)
        home = place_of(ACCOUNT, len(self.groups))
        self.server, self.link = self.servers[home], self.groups[home].link

    def _epoch_of(self, server: GroupServer, tag: str) -> Callable[[str], Awaitable[str]]:
        async def epoch(found: str) -> str:
            if not found:
                await server.command("SET", f"{tag}epoch", "1")
            return found or "1"

        return epoch

    def start(self) -> None:
        for group in self.groups:
            group.link.start()

    async def end(self) -> None:
        for group in self.groups:
            await group.link.stop(1.0)
        for one in self.servers:
            await one.close()

    async def tell(self, open_holds: list[tuple[str, str]]) -> None:
        """As a barrier does, of what its state says is waiting."""
        for key, holds in open_holds:
            await self.server.command("HSET", key, self.name, holds)

    @property
    def is_busy(self) -> bool:
        return any(group.link.waiting for group in self.groups)

    def has_ahead(self, shared: SharedAccount) -> bool:
        """Whether requests that did not come have something that is yet to be given back."""
        return any(form.ahead.left for form in shared.forms.values())

    async def standing(self, account_id: str) -> list[str | int]:
        found: list[str | int] = []
        for row in self.fleet.store.balances(account_id):
            found += (used_field(row.meter, row.period_us, row.lot), row.used)
        for name, seq in self.fleet.shipped.items():
            found += (f"p|{name}", seq)
        return found

    async def has_event(self, account_id: str, record: Record) -> bool:
        return record.id in self.fleet.settled

    def reload(self, account_id: str) -> object:
        return self.fleet.bind(self)

    def now_us(self) -> int:
        return self.fleet.now_us


class Fleet(Stage):
    """Each step is done by the next process; what one does the others know."""

    groups = 1

    def __init__(
        self,
        *plans: Plan,
        from_us: int = 0,
        processes: int = 2,
        lease_us: int = 15_000_000,
        **account: Any,
    ) -> None:
        self.lease_us = lease_us
        self.loop = Clock()
        self.tags = tags(f"t{next(_tags)}", self.groups)
        self.key = f"{self.tags[place_of(ACCOUNT, self.groups)]}a:{ACCOUNT}"
        self.batches = itertools.count(1_000_000, 1_000_000)
        self.now_us = from_us
        self.shipped: dict[str, int] = {}
        self.settled: set[str] = set()
        self.asks = itertools.count()
        self.account = Account(ACCOUNT, plans[0].name, **account)
        self.store = Store(self.account, plans, from_us)
        self.processes = [Process(self, f"w{n}") for n in range(processes)]
        for process in self.processes:
            self.loop.call_soon(process.start)
        self.owners: dict[int, Process] = {}
        self.turn = 0
        self.pinned: Process | None = None
        self.hot: Any = _Turns(self)

    @property
    def url(self) -> str:
        return server().url

    def run(self, work: Awaitable[T]) -> T:
        return self.loop.run_until_complete(asyncio.wait_for(work, 20))

    def close(self) -> None:
        self.loop.go_on()
        for process in self.processes:
            self._end(process)
        self.run(self._end_tasks(asyncio.all_tasks(self.loop)))
        self.loop.close()

    async def _end_tasks(self, left: set[asyncio.Task[Any]]) -> None:
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        await asyncio.sleep(0)  # transports end in a turn of their own

    def next(self) -> Process:
        """The one whose turn it is, unless one is pinned."""
        if self.pinned is not None:
            return self.pinned
        self.turn += 1
        return self.processes[self.turn % len(self.processes)]

    def bind(self, process: Process | None = None) -> AccountState:
        """Without a process: after a change, of which all are told."""
        plan = self.store.books[-1].plans[self.account.plan]
        if process is None:
            self.changed()
            process = self.processes[0]
        return process.state.account(self.account, effective_plan(plan, self.account))

    def changed(self) -> None:
        """The account's terms: every process is to read them again."""
        self.run(self.processes[0].link.ask(["changed", self.key], (self.key,)))
        for process in self.processes:
            process.state.outdate_all()

    @property
    def state(self) -> AccountState:  # type: ignore[override]
        return self.bind(self.next())

    def use_periods(self, periods: dict[str, Period]) -> None:
        for process in self.processes:
            process.state._accounts.periods = periods

    def advance(self, now_us: int) -> None:
        """The clock goes on; what is on its way is renewed, as it is by timers."""
        if now_us > self.now_us:
            self.now_us = now_us
            for process in self.processes:
                process.state.renew(now_us)
            for process in self.processes:
                self.hot.drain(process)

    def change(self, at_us: int, **fields: Any) -> None:
        self.advance(at_us)
        super().change(at_us, **fields)

    def balances(self, at_us: int) -> list[Balance]:
        state = self.state
        present = self.hot.balance(state, "coins", at_us)
        return [*[b for b in state.aside if b.meter == "coins"], present]

    def refresh(self, process: Process) -> None:
        async def refreshed() -> None:
            await process.state.shared(self.bind(process)).refresh()

        self.run(refreshed())

    def restart(self) -> None:
        """Every process ends without a word, and others come; the old ones' holds run out."""
        old = self.processes
        self.processes = [Process(self, f"w{next(_tags)}") for _ in old]
        self.owners.clear()
        for process in old:
            self._end(process)
        for process in self.processes:
            self.loop.call_soon(process.start)
        self.run(self._run_out())

    async def _run_out(self) -> None:
        command = self.processes[0].server.command
        for name, value in (await command("HGETALL", self.key)).items():
            if name.startswith((b"o|", b"j|")):
                _, _, text = value.decode().partition(" ")
                await command("HSET", self.key, name.decode(), f"1 {text}", "x", 1)

    def lose(self) -> None:
        """The server forgets the account; the store knows all of it."""
        self.run(self.processes[0].server.command("DEL", self.key))
        for process in self.processes:
            process.state.outdate_all()

    def _end(self, process: Process) -> None:
        self.run(process.end())
        self.run(asyncio.sleep(0))


class ClusterFleet(Fleet):
    """On several groups of a Cluster: limits that accounts share are in others than theirs."""

    groups = 5

    @property
    def url(self) -> str:
        return cluster().url


class _Turns:
    """What a Stage asks of its hot state."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet

    def admit(self, ask: Asking) -> Hold | Refusal:
        fleet, process = self.fleet, self.fleet.next()
        fleet.advance(ask.time_us)
        ask.account = fleet.bind(process)
        ask.event_id = f"e{next(fleet.asks)}"
        decision = fleet.run(process.state.admit_together(ask))
        if isinstance(decision, Hold):
            fleet.owners[id(decision)] = process
        return decision

    def settlement(self, hold: Hold, charges: Charges, counted: tuple[Counted, ...]) -> Settlement:
        process = self.fleet.owners[id(hold)]
        if process.state.is_plain(hold):
            return process.state.settlement(hold, charges, counted)
        return self.fleet.run(process.state.settlement_together(hold, charges, counted))

    def settle(self, hold: Hold, settlement: Settlement) -> None:
        process = self.fleet.owners.pop(id(hold))
        assert hold.ask is not None
        self.fleet.settled.add(hold.ask.event_id)
        process.seq += 1
        process.state.settle(hold, settlement, process.seq)
        self.drain(process)

    def release(self, hold: Hold) -> None:
        process = self.fleet.owners.pop(id(hold))

        async def release() -> None:
            process.state.release(hold)

        self.fleet.run(release())
        self.drain(process)

    def drain(self, process: Process) -> None:
        self.fleet.loop.go_on()  # what nobody used is given back by a timer
        shared = process.state.shared(self.fleet.bind(process))

        async def told() -> None:
            while process.is_busy or shared.is_busy or process.has_ahead(shared):
                await asyncio.sleep(0)

        self.fleet.run(told())

    def balance(self, state: AccountState, meter: str, now_us: int) -> Balance:
        fleet = self.fleet
        fleet.advance(now_us)
        process = next(p for p in fleet.processes if p.state.loaded(ACCOUNT) is state)
        fleet.refresh(process)
        return MemoryState.balance(process.state, state, meter, now_us)

    def spending(self, state: AccountState, now_us: int) -> Spending:
        fleet = self.fleet
        fleet.advance(now_us)
        process = next(p for p in fleet.processes if p.state.loaded(ACCOUNT) is state)
        fleet.refresh(process)
        return MemoryState.spending(process.state, state, now_us)

    def apply_entry(self, state: AccountState, entry: LedgerEntry) -> None:
        self.fleet.advance(entry.time_us)
        self.fleet.changed()
