"""One account of the shared state, where more than one number decides.

Question: what does this request reserve, or come to, given what all processes did? The
jobs that came up are done on the copy here, in order, and what they changed is written
in one step if the document is still the one that they were done on; else they are undone
and done again on the newer one. Invariants: a job has its result only when it is
written; the copy is never ahead of the document but for what is being written.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

from gateway.core.counting import move
from gateway.core.ledger import Balance
from gateway.core.limits import Counter
from gateway.core.periods import DAY_US
from gateway.core.pricing import Charges, Counted
from gateway.core.refusals import Refusal
from gateway.core.rows import LedgerEntry
from gateway.core.waiting import NotLoaded
from gateway.state.accounts import Accounts
from gateway.state.base import AccountState, Ask, CarefulHold, Hold, Settlement
from gateway.state.careful import decide
from gateway.state.memory import MemoryState
from gateway.state.refusal import counter_row
from gateway.state.shared.document import (
    LEASE_US,
    Document,
    Record,
    Row,
    StakeRow,
    held_field,
    held_fields,
    mark_fields,
    read,
    record_of,
    row_of,
    take_back,
    used_field,
    write_step,
)
from gateway.state.shared.link import Link, Overtaken, Reply
from gateway.state.shared.outside import Outside
from gateway.state.shared.posts import Ended, Posts
from gateway.state.shared.replay import replay
from gateway.state.shared.stake import Form, Stake, StakeHold, waiting_body

OVERTAKEN_S = 5.0  # nobody waits for longer while others are faster
ROWS_KEPT_US = 40 * DAY_US  # of periods that are not used any more


class Job:
    """`run` works on the copy; `undo` gives back what is not in the copy."""

    def __init__(self, run: Callable[[], Any], undo: Callable[[], object], hold_id: str) -> None:
        self.run = run
        self.undo = undo
        self.hold_id = hold_id
        self.result: asyncio.Future[Any] = asyncio.get_running_loop().create_future()


class SharedAccount:
    """The document of one account, and the copy that is worked on."""

    __slots__ = (
        "state", "key", "document", "is_current", "read_s", "own", "posted", "spent", "base",
        "over", "stored_entries", "kept", "_there", "_memory", "_accounts", "link", "_waiting_key",
        "_owner", "_life", "_outside", "_jobs", "_task", "_found", "_rows", "_records", "_gone",
        "_entries", "posts", "stake", "forms", "_stakes", "_ended", "_gone_stakes", "_lives",
    )  # fmt: skip

    def __init__(
        self,
        state: AccountState,
        memory: MemoryState,
        accounts: Accounts,
        link: Link,
        tag: str,
        owner: str,
        life: str,
        outside: Outside,
    ) -> None:
        """`owner` is this gateway's journal; all that this process holds is of lives that begin
        with `life`, which begins with the owner.
        """
        self.state = state
        self.key = f"{tag}a:{state.account.id}"
        self.document = self._there = Document()  # as it is worked on, and as the server has it
        self.is_current = False  # the copy was made from the document, and has its terms
        self.read_s = float("-inf")  # when, on the monotonic clock
        self.own: dict[str, Hold] = {}  # holds of this process, by id
        self.posted: set[Hold] = set()  # those of which the charges are in the document already
        self.spent: dict[Hold, Settlement] = {}  # settled on the copy, and not known to be written
        self.base: dict[Row, int] = {}  # the store's rows, as they were read last
        self._memory = memory
        self._accounts = accounts
        self.link = link
        self._waiting_key = f"{tag}w:{state.account.id}:"  # and the epoch
        self._owner = owner
        self._life = life
        self._outside = outside
        self.posts = Posts(link, self.key, owner, self.refresh)
        self._lives = itertools.count()
        self.stake = Stake(f"{life}{next(self._lives)}")
        self.forms: dict[tuple[Any, ...], Form] = {}  # of the copy as it is
        self._jobs: deque[Job] = deque()
        self._task: asyncio.Task[None] | None = None
        self._found: Document | None = None  # read, and not yet replayed
        self._rows: dict[Row, int] = {}  # as they are to be written
        self._records: dict[str, Record] = {}
        self._stakes: dict[str, StakeRow] = {}
        self._ended: list[Stake] = []  # one for each hold that is none of it any more
        self._gone: dict[str, Record] = {}
        self._gone_stakes: set[str] = set()
        self._entries: dict[str, tuple[int, LedgerEntry]] = {}
        self.stored_entries: frozenset[str] = frozenset()  # ids, as they were read last
        self.kept: dict[str, Any] = {}  # answers of the store
        self.over: set[str] = set()  # ids of those that were given up without a word

    # -- jobs -----------------------------------------------------------------

    @property
    def now_us(self) -> int:
        return self._outside.now_us()

    @property
    def is_busy(self) -> bool:
        return bool(self._jobs)

    async def admit(self, ask: Ask, counters: list[Counter]) -> Hold | Refusal:
        """Everything but the rate limits, which are taken: `counters` are for the answer."""
        found: Hold | Refusal = await self._do(
            lambda: self._admit(ask, counters),
            lambda: self.own.pop(ask.event_id, None),
            ask.event_id,
        )
        return found

    async def settle(
        self, hold: Hold, charges: Charges, counted: tuple[Counted, ...]
    ) -> Settlement:
        """What the hold comes to; it is posted, unless this process ends before the journal."""
        ask = hold.ask
        assert ask is not None

        def run() -> Settlement:
            return self._settle(hold, ask, charges, counted)

        settlement: Settlement = await self._do(run, lambda: self.posted.discard(hold))
        self.spent.pop(hold, None)
        self.own.pop(ask.event_id, None)
        return settlement

    def release(self, hold: Hold) -> None:
        """In a while; whoever reserved waits for nothing."""
        ask = hold.ask
        assert ask is not None

        def run() -> None:
            hold.is_open, hold.ask = True, ask
            MemoryState.release(self._memory, hold)
            self._forget(hold, ask)

        job = self._queue(Job(run, lambda: None, ""))
        job.add_done_callback(lambda _: self.own.pop(ask.event_id, None))
        hold.is_open, hold.ask = False, None

    def take_back(self, entry: LedgerEntry) -> asyncio.Future[Any]:
        """Let an entry count in advance, if what it takes is free then."""
        return self._queue(Job(lambda: self._take_back(entry), lambda: None, ""))

    def undo_entry(self, entry: LedgerEntry) -> None:
        def run() -> None:
            self._entries.pop(entry.id, None)
            self._accounts.undo_entry(self.state, entry)

        self._queue(Job(run, lambda: None, ""))

    def refresh(self) -> asyncio.Future[Any]:
        """Done when the copy is what the document was after this call."""
        self.is_current = False
        return self._queue(Job(lambda: None, lambda: None, ""))

    async def _do(
        self, run: Callable[[], Any], undo: Callable[[], object], hold_id: str = ""
    ) -> Any:
        return await self._queue(Job(run, undo, hold_id))

    def _queue(self, job: Job) -> asyncio.Future[Any]:
        self._jobs.append(job)
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._drive())
        return job.result

    async def _drive(self) -> None:
        done_s = time.monotonic()
        try:
            while self._jobs:
                jobs = list(self._jobs)
                try:
                    results = await self._run(jobs)
                except NotLoaded as missing:
                    self._undo(jobs)
                    await asyncio.wrap_future(missing.future)
                    continue
                if results is None:
                    if time.monotonic() - done_s > OVERTAKEN_S:
                        raise Overtaken("other processes were faster each time")
                    self._undo(jobs)
                    continue
                done_s = time.monotonic()
                for job, result in zip(jobs, results, strict=True):
                    self._jobs.popleft()
                    if not job.result.done():
                        job.result.set_result(result)
        except Exception as error:
            self._undo(self._jobs)
            for job in self._jobs:
                if not job.result.done():
                    job.result.set_exception(error)
                    job.result.exception()  # of some nobody asks
            self._jobs.clear()
        finally:
            self._task = None

    async def _run(self, jobs: Sequence[Job]) -> list[Any] | None:
        """The results, written; None when somebody else was faster."""
        is_fresh = not self.is_current
        if is_fresh:
            await self._read()
        self._rows = dict(self.document.rows)
        self._take_over_holds()
        self._entries = {
            k: e
            for k, e in self.document.entries.items()
            if k not in self.stored_entries and k not in self.over
        }
        results = [job.run() for job in jobs]
        written = self._written()
        ends_us = self._outside.now_us() + LEASE_US
        step = write_step(self.key, self._there, written, ends_us)
        if step is None:
            # Nothing is written that would tell: a refusal may be of what was held long ago.
            return results if is_fresh else None
        ids = [job.hold_id for job in jobs if job.hold_id in self._records]
        reply = await self.link.ask(step, (self.key,), lambda r: self._too_late(r, ids))
        if reply[0] != 1:
            self._found = read(reply[1]) if reply[0] == 2 else None
            return None
        written.version = str(reply[1])
        self._there = written
        self.document = replace(written, marks=dict(written.marks))
        for stake in self._ended:
            stake.count -= 1
        self._gone, self._gone_stakes = {}, set()
        return results

    def _take_over_holds(self) -> None:
        """Those that the document is to have, but for what jobs change; own ones go on."""
        now_us = self._outside.now_us()
        self._records, self._stakes, self._ended = {}, {}, []
        for hold_id, record in self.document.records.items():
            if hold_id not in self._gone:
                is_late = record.ends_us < now_us and hold_id in self.own
                self._records[hold_id] = replace(record) if is_late else record
        for life, row in self.document.stakes.items():
            if life not in self._gone_stakes:
                is_late = row.ends_us < now_us and life.startswith(self._life)
                self._stakes[life] = replace(row, ends_us=now_us + LEASE_US) if is_late else row

    def _undo(self, jobs: Iterable[Job]) -> None:
        self.is_current = False
        for job in jobs:
            job.undo()

    def _too_late(self, reply: Reply, ids: list[str]) -> None:
        """What was written is held for requests that were told no."""
        if reply[0] == 1:
            for hold_id in ids:
                self.posts.tell(Ended(hold_id, 0, 0, [], []))

    # -- on the copy ----------------------------------------------------------

    def _admit(self, ask: Ask, counters: list[Counter]) -> Hold | Refusal:
        state, accounts, now_us = self.state, self._accounts, ask.time_us
        reserved = [(accounts.balance(state, m, now_us), amount) for m, amount in ask.charges]
        decision = decide(ask, [], reserved, accounts)
        if isinstance(decision, Refusal):
            rows = [replace(counter_row(c, now_us), refused=False) for c in counters]
            return replace(decision, limits=(*rows, *decision.limits))
        for balance, amount in decision.needs.items():
            balance.hold(amount)
        move(decision.moved)
        if decision.counts or decision.caps:
            counts, caps = decision.counts, decision.caps
            hold: Hold = CarefulHold(state, reserved, counters, [], ask, counts, caps)
        else:
            hold = Hold(state, reserved, counters, [], ask)
        state.in_flight += 1
        state.touched_us = now_us
        accounts.holds.add(hold)
        self.own[ask.event_id] = hold
        self._records[ask.event_id] = record_of(hold, self._life)
        return hold

    def _take_back(self, entry: LedgerEntry) -> None:
        balance = self._accounts.balance(self.state, entry.meter, entry.time_us)
        if balance.free(entry.lot) + entry.amount >= 0:
            self._accounts.apply_entry(self.state, entry)
            self._entries[entry.id] = (self._outside.now_us() + LEASE_US, entry)

    def waiting(self) -> list[list[Any]]:
        """Open holds, as they wait while there is no document (run.lua: open).

        What is in the stake is in a new one from now on.
        """
        found = []
        staked = []
        for hold in self.own.values():
            if isinstance(hold, StakeHold):
                staked.append(hold)
            elif hold.ask is not None:
                record = record_of(hold, self._life)
                held = [(held_field(balance), amount) for balance, amount in hold.reserved]
                found.append([f"o|{record.id}", LEASE_US, record.text(), held])
        if staked:
            self.renew_stake()
            found.append(waiting_body(staked, self.stake))
        return found

    def renew_stake(self) -> None:
        """The stake was let go of; who holds something of it knows that one."""
        self.stake = Stake(f"{self._life}{next(self._lives)}")
        self.forms.clear()

    def _settle(
        self, hold: Hold, ask: Ask, charges: Charges, counted: tuple[Counted, ...]
    ) -> Settlement:
        settlement = self._memory.settlement(hold, charges, counted)
        MemoryState.settle(self._memory, hold, settlement)
        hold.is_open, hold.ask = True, ask  # until the event is written
        self.posted.add(hold)
        self.spent[hold] = settlement
        fields = []
        for posting in settlement.postings:
            row, amount = row_of(posting), posting[1]
            self._rows[row] = self._rows.get(row, self.base.get(row, 0)) + amount
            fields.append((used_field(*row), amount))
        record = self._forget(hold, ask) or record_of(hold, self._life)
        if fields:
            self._records[ask.event_id] = replace(record, posted=tuple(fields), ends_us=0)
        return settlement

    def _forget(self, hold: Hold, ask: Ask) -> Record | None:
        """The document is not to hold it any more; its record, where it had one."""
        if not isinstance(hold, StakeHold):
            return self._records.pop(ask.event_id, None)
        row = self._stakes.get(hold.stake.life)
        if row is not None:
            self._stakes[hold.stake.life] = row.without(hold.form.parts)
            self._ended.append(hold.stake)
        return None

    # -- the document ---------------------------------------------------------

    async def _read(self) -> None:
        """Make the copy anew from the document."""
        document, self._found = self._found, None
        account_id = self.state.account.id
        while document is None:
            reply = await self.link.ask(["look", self.key], (self.key,))
            if reply[0] == 3:
                fields = await self._outside.standing(account_id)
                body = ["open", self.key, self._waiting_key, fields]
                reply = await self.link.ask(body, (self.key,))
            document = read(reply[1])
        if not self.document.rows.keys() <= document.rows.keys():
            self.kept.clear()  # what has gone from here is the store's now
        if document.terms != self.document.terms:
            self.kept.clear()
            self._outside.reload(account_id)
        self._there = document
        document = replace(document, rows=dict(document.rows), marks=dict(document.marks))
        now_us = self._outside.now_us()
        self._gone = {}
        for hold_id, record in document.records.items():
            is_left = self._is_left(record.owner)
            if (record.ends_us < now_us or is_left) and hold_id not in self.own:
                await self._let_go(document, record)
        self._gone_stakes = {
            life
            for life, stake in document.stakes.items()
            if life != self.stake.life and (stake.ends_us < now_us or self._is_left(life))
        }
        self.over = {k for k, (ends_us, _) in document.entries.items() if ends_us < now_us}
        left = {k: r for k, r in document.records.items() if k not in self._gone}
        self.document = document
        stakes = {k: row for k, row in document.stakes.items() if k not in self._gone_stakes}
        replayed = replace(document, records=left, stakes=stakes)
        replay(self._accounts, self.state, replayed, self.own, now_us)
        self.forms.clear()
        self.spent.clear()
        self.is_current = True
        self.read_s = time.monotonic()

    def _is_left(self, life: str) -> bool:
        """Whether it is of an earlier process of this gateway."""
        return life.startswith(f"{self._owner}/") and not life.startswith(self._life)

    async def _let_go(self, document: Document, record: Record) -> None:
        """A process has ended without a word: what it held is free, what it posted is asked for."""
        self._gone[record.id] = record
        if record.posted and not await self._outside.has_event(self.state.account.id, record):
            take_back(document, record)

    def _live(self) -> list[Balance]:
        state = self.state
        return [*state.balances.values(), *state.aside, *state.caps.values()]

    def _written(self) -> Document:
        """The document as it is to be."""
        live = self._live()
        rows = self._rows
        needed: set[Row] = set()
        for balance in live:
            needed.add((balance.meter, balance.span.start_us, balance.lot))
            needed |= {(balance.meter, balance.span.start_us, lot.id) for lot in balance.lots}
        for row in needed:
            rows.setdefault(row, self.base.get(row, 0))
        rows = {r: used for r, used in rows.items() if r in needed or self._is_to_stay(r, used)}
        held = {name: amount for name, amount in held_fields(live).items() if amount}
        document = self.document
        kept = {f"m|{meter}|{period_us}" for meter, period_us, _ in rows}
        marks = {n: used for n, used in document.marks.items() if n.rsplit("|", 1)[0] in kept}
        marks |= mark_fields(self.state)
        return Document(
            *(document.version, document.terms, rows, held, marks),
            *(self._records, {k: row for k, row in self._stakes.items() if row.count > 0}),
            self._entries,
        )

    def _is_to_stay(self, row: Row, used: int) -> bool:
        """Whether somebody may yet post to it, or the store lacks some; else its row is final."""
        meter, period_us, _ = row
        if used != self.base.get(row, 0):
            return True
        now_us = self._outside.now_us()
        if period_us >= now_us - ROWS_KEPT_US:
            return True
        return period_us >= self._accounts.span_of(self.state, meter, now_us).start_us
