"""One account of the shared state, where more than one number decides.

Question: what does this request reserve, or come to, given what all processes did? The
jobs that came up are done on the copy here, in order, and what they changed is written
in one step if the document is still the one that they were done on; else they are undone
and done again on the newer one (jobs.py). Invariant: the copy is never ahead of the
document but for what is being written.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from gateway.core.counting import move
from gateway.core.limits import Counter
from gateway.core.pricing import Charges, Counted
from gateway.core.refusals import Refusal
from gateway.core.rows import LedgerEntry
from gateway.state.accounts import Accounts
from gateway.state.base import AccountState, Ask, CarefulHold, Hold, Settlement
from gateway.state.careful import decide
from gateway.state.memory import MemoryState
from gateway.state.refusal import counter_row
from gateway.state.shared.document import (
    Document,
    Row,
    held_field,
    record_of,
    row_of,
    used_field,
    write_step,
)
from gateway.state.shared.draft import Draft
from gateway.state.shared.groups import Group
from gateway.state.shared.jobs import Job, Jobs
from gateway.state.shared.limits import as_taken
from gateway.state.shared.link import Reply
from gateway.state.shared.outside import Outside
from gateway.state.shared.posts import AS_IT_SAYS, Ended, Posts
from gateway.state.shared.reader import Reader
from gateway.state.shared.replay import replay
from gateway.state.shared.stake import (
    DONE,
    NOT_YOUR_TURN,
    Form,
    Stake,
    StakeHold,
    waiting_body,
)

# Who is overtaken so often is far away, or many others write: it may have a turn, in which the
# others wait. It is as long as three tries that take what the last one took, within bounds: one
# that ends in its turn has it all the same.
TURN_AFTER = 3
TURN_TRIES = 3
TURN_MIN_US, TURN_MAX_US = 100_000, 2_000_000
TURN_LOOK_S = 0.01


class SharedAccount:
    """The document of one account, and the copy that is worked on."""

    __slots__ = (
        "state", "link", "lease_us", "key", "document", "is_current", "read_s", "own", "posted",
        "spent", "base", "stored_entries", "over", "kept", "posts", "stake", "forms", "_there",
        "_memory", "_accounts", "_outside", "_life", "_lives", "_reader", "_jobs", "_overtaken",
        "_turn_us",
    )  # fmt: skip

    def __init__(
        self,
        state: AccountState,
        memory: MemoryState,
        accounts: Accounts,
        group: Group,
        owner: str,
        life: str,
        outside: Outside,
    ) -> None:
        """`owner` is this gateway's journal; all that this process holds is of lives that begin
        with `life`, which begins with the owner.
        """
        self.state = state
        self.link = group.link
        self.lease_us = group.lease_us
        self.key = f"{group.tag}a:{state.account.id}"
        self.document = self._there = Document()  # as it is worked on, and as the server has it
        self.is_current = False  # the copy was made from the document, and has its terms
        self.read_s = float("-inf")  # when, on the monotonic clock
        self.own: dict[str, Hold] = {}  # holds of this process, by id
        self.posted: set[Hold] = set()  # those of which the charges are in the document already
        self.spent: dict[Hold, Settlement] = {}  # settled on the copy, and not known to be written
        self.base: dict[Row, int] = {}  # the store's rows, as they were read last
        self.stored_entries: frozenset[str] = frozenset()  # ids, as they were read last
        self.over: set[str] = set()  # ids of those that were given up without a word
        self.kept: dict[str, Any] = {}  # answers of the store
        self.posts = Posts(self.link, self.key, owner, self.refresh)
        self._memory = memory
        self._accounts = accounts
        self._outside = outside
        self._life = life
        self._lives = itertools.count()
        self.stake = Stake(f"{life}{next(self._lives)}")
        self.forms: dict[tuple[Any, ...], Form] = {}  # of the copy as it is
        self._reader = Reader(self.link, group.tag, state.account.id, owner, life, outside)
        self._jobs = Jobs(self._write, self.outdate)
        self._overtaken = 0  # times, less those it was not
        self._turn_us = TURN_MIN_US

    @property
    def now_us(self) -> int:
        return self._outside.now_us()

    @property
    def is_busy(self) -> bool:
        return self._jobs.is_busy

    def outdate(self) -> None:
        """The document is read before anything is decided."""
        self.is_current = False

    def forget(self) -> None:
        """Its terms may have changed: the store is asked anew, too."""
        self.kept.clear()
        self.outdate()

    # -- jobs -----------------------------------------------------------------

    async def admit(self, ask: Ask, counters: list[Counter]) -> Hold | Refusal:
        """Everything but the rate limits, which are taken: `counters` are for the answer."""
        found: Hold | Refusal = await self._jobs.put(
            lambda draft: self._admit(draft, ask, counters),
            lambda: self.own.pop(ask.event_id, None),
            hold_id=ask.event_id,
        )
        return found

    async def settle(
        self, hold: Hold, charges: Charges, counted: tuple[Counted, ...]
    ) -> Settlement:
        """What the hold comes to; it is posted, unless this process ends before the journal."""
        ask = hold.ask
        assert ask is not None

        def run(draft: Draft) -> Settlement:
            return self._settle(draft, hold, ask, charges, counted)

        def written() -> None:
            self.spent.pop(hold, None)
            self.own.pop(ask.event_id, None)  # it is held no more

        def undo() -> None:
            self.posted.discard(hold)

        settlement: Settlement = await self._jobs.put(run, undo, written)
        return settlement

    def release(self, hold: Hold) -> None:
        """In a while; whoever reserved waits for nothing."""
        ask = hold.ask
        assert ask is not None

        def run(draft: Draft) -> None:
            if draft.forget(hold, ask.event_id) is None:
                return  # it went with the document that had it
            hold.is_open, hold.ask = True, ask
            MemoryState.release(self._memory, hold)

        released = self._jobs.put(run)
        released.add_done_callback(lambda done: self._released(ask.event_id, done))
        hold.is_open, hold.ask = False, None

    def _released(self, hold_id: str, done: asyncio.Future[Any]) -> None:
        self.own.pop(hold_id, None)
        if done.cancelled() or done.exception() is not None:
            self.posts.tell(Ended(hold_id, 0, 0, [], [], AS_IT_SAYS))

    def take_back(self, entry: LedgerEntry) -> asyncio.Future[Any]:
        """Let an entry count in advance, if what it takes is free then."""
        return self._jobs.put(lambda draft: self._take_back(draft, entry))

    def undo_entry(self, entry: LedgerEntry) -> None:
        """What was taken back in advance did not reach the store."""

        def run(draft: Draft) -> None:
            draft.entries.pop(entry.id, None)
            self._accounts.undo_entry(self.state, entry)

        self._jobs.put(run)

    def refresh(self) -> asyncio.Future[Any]:
        """Done when the copy is what the document was after this call."""
        self.outdate()
        return self._jobs.put(lambda draft: None)

    async def _write(self, jobs: Sequence[Job]) -> list[Any] | None:
        """The results, written; None when somebody else was faster."""
        began_s = time.monotonic()
        is_fresh = not self.is_current
        if is_fresh:
            await self._read()
        entries_over = self.stored_entries | self.over
        draft = Draft(self.document, self.own, self._life, entries_over, self.now_us, self.lease_us)
        results = [job.run(draft) for job in jobs]
        now_us = self.now_us
        written = draft.written(self.state, self._accounts, self.base, now_us)
        step = write_step(self.key, self._there, written, now_us + self.lease_us)
        if step is None:
            # Nothing is written that would tell: a refusal may be of what was held long ago.
            return results if is_fresh else None
        ids = [job.hold_id for job in jobs if job.hold_id in draft.records]
        step += (self._life, self._turn_us if self._overtaken >= TURN_AFTER else 0)
        reply = await self.link.ask(step, (self.key,), lambda r: self._too_late(r, ids))
        try_us = int((time.monotonic() - began_s) * 1e6)
        self._turn_us = min(max(TURN_TRIES * try_us, TURN_MIN_US), TURN_MAX_US)
        if reply[0] != DONE:
            self._overtaken = min(self._overtaken + 1, TURN_AFTER + 1)
            self._reader.told(reply)
            if reply[0] == NOT_YOUR_TURN:
                await asyncio.sleep(TURN_LOOK_S)
            return None
        self._overtaken = max(0, self._overtaken - 1)  # who is far stays far
        written.version = str(reply[1])
        self._there = written
        self.document = replace(written, marks=dict(written.marks))
        for stake in draft.given_back:
            stake.count -= 1
        return results

    def _too_late(self, reply: Reply, ids: list[str]) -> None:
        """What was written is held for requests that were told no."""
        if reply[0] == 1:
            for hold_id in ids:
                self.posts.tell(Ended(hold_id, 0, 0, [], [], AS_IT_SAYS))

    async def _read(self) -> None:
        """Make the copy anew from the document."""
        self.drop_forms()  # before: the document is then read without what is given back
        self._there = there = await self._reader.read()
        if not self.document.rows.keys() <= there.rows.keys():
            self.kept.clear()  # what has gone from here is the store's now
        if there.terms != self.document.terms:
            self.kept.clear()
            self._outside.reload(self.state.account.id)
        document = replace(there, rows=dict(there.rows), marks=dict(there.marks))
        now_us = self.now_us
        reader = self._reader
        document.records = await reader.records_of_those_there(document, self.own, now_us)
        lives = {hold.stake.life for hold in self.own.values() if isinstance(hold, StakeHold)}
        lives.add(self.stake.life)
        document.stakes = reader.stakes_of_those_there(document, lives, now_us)
        self.over = {k for k, (ends_us, _) in document.entries.items() if ends_us < now_us}
        self.document = document
        replay(self._accounts, self.state, document, self.own, now_us)
        self.spent.clear()
        self.is_current = True
        self.read_s = time.monotonic()

    # -- on the copy ----------------------------------------------------------

    def _admit(self, draft: Draft, ask: Ask, counters: list[Counter]) -> Hold | Refusal:
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
        draft.records[ask.event_id] = record_of(hold, self._life)
        return hold

    def _take_back(self, draft: Draft, entry: LedgerEntry) -> None:
        balance = self._accounts.balance(self.state, entry.meter, entry.time_us)
        if balance.free(entry.lot) + entry.amount >= 0:
            self._accounts.apply_entry(self.state, entry)
            draft.entries[entry.id] = (self.now_us + self.lease_us, entry)

    def _settle(
        self, draft: Draft, hold: Hold, ask: Ask, charges: Charges, counted: tuple[Counted, ...]
    ) -> Settlement:
        settlement = self._memory.settlement(hold, charges, counted)
        MemoryState.settle(self._memory, hold, settlement)
        hold.is_open, hold.ask = True, ask  # until the event is written
        self.posted.add(hold)
        self.spent[hold] = settlement
        fields = []
        for posting in settlement.postings:
            row, amount = row_of(posting), posting[1]
            draft.rows[row] = draft.rows.get(row, self.base.get(row, 0)) + amount
            fields.append((used_field(*row), amount))
        record = draft.forget(hold, ask.event_id) or record_of(hold, self._life)
        if fields:
            draft.records[ask.event_id] = replace(record, posted=tuple(fields), ends_us=0)
        return settlement

    # -- what is open ---------------------------------------------------------

    def waiting(self, has_limits: bool) -> list[list[Any]]:
        """Open holds, as they wait while there is no document (run.lua: open).

        What is in the stake is in a new one from now on. `has_limits`: the server has the rate
        limits, so what was taken of them ahead is given back; else it has less than was taken.
        What is still being made is made in the new document.
        """
        unwritten = self._jobs.unwritten
        found = []
        staked = []
        for hold in self.own.values():
            if isinstance(hold, StakeHold):
                staked.append(hold)
            elif hold.ask is not None and hold.ask.event_id not in unwritten:
                record = record_of(hold, self._life)
                held = [(held_field(balance), amount) for balance, amount in hold.reserved]
                found.append([f"o|{record.id}", self.lease_us, record.text(), held])
        self.renew_stake(has_limits)  # what was taken ahead is lost with the document
        if staked:
            found.append(waiting_body(staked, self.stake, self.lease_us))
            self.stake.is_told = True
            self.renew_stake()  # nothing is added to it, so who ends may always give back to it
        return found

    def renew_stake(self, has_limits: bool = True) -> None:
        """The stake was let go of; who holds something of it knows that one."""
        for form in self.forms.values():
            count = form.ahead.drop()
            if has_limits:
                self._untake(form, count)
        self.drop_forms()
        self.stake = Stake(f"{self._life}{next(self._lives)}")

    def is_ahead(self, refusal: Refusal) -> bool:
        """Whether somebody may give back what was taken ahead of the meter that refused."""
        now_us = self.now_us
        names = [name for name, ends_us in self.document.ahead.items() if ends_us > now_us]
        (first,) = [row for row in refusal.limits if row.refused]
        return any(
            [name.startswith(f"h|{first.meter}|" if first.meter else "h|") for name in names]
        )

    # -- forms ----------------------------------------------------------------

    def drop_forms(self) -> None:
        """They are made anew; what was taken ahead for one is given back."""
        for form in self.forms.values():
            form.is_used = False
            self.give_back(form, self.stake)
        self.forms.clear()

    def give_back(self, form: Form, stake: Stake) -> None:
        """What was taken ahead of requests that did not come."""
        count = form.ahead.drop()
        if not count:
            return
        for _ in range(count):
            self.posts.tell(Ended("", 0, 0, None, [], stake=stake, form=form))
        for balance, amount in form.charged:
            balance.void(amount * count)
        self._untake(form, count)

    def _untake(self, form: Form, count: int) -> None:
        if form.bodies and count:
            bodies = as_taken(form.bodies, form.ahead.ends, form.ahead.late_us)
            self.link.tell(["untake", [""] * count, bodies], form.keys[1:])
