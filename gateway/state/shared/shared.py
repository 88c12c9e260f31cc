"""Hot state that several processes share through Redis or Valkey.

Question: as in gateway/state/base.py, of all processes together. Where one number decides,
the script decides, in the same call for all limits of an account (run.lua: hold); where
more than one does, this process decides on what it knows and writes it only if nobody
else has been faster (account.py). What is live here is a copy, for the answer's headers
and for the time when the server is away.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from concurrent.futures import Future
from functools import partial
from typing import Any

from gateway.core.book import Book
from gateway.core.ledger import Balance
from gateway.core.limits import Concurrency, Counter
from gateway.core.pricing import Charges, Counted
from gateway.core.refusals import Refusal
from gateway.core.rows import LedgerEntry
from gateway.core.waiting import NotLoaded
from gateway.state.base import AccountState, Ask, BalanceSource, Hold, Posting, Settlement
from gateway.state.careful import decide
from gateway.state.memory import MemoryState, subject_of
from gateway.state.shared.account import LEASE_US, SharedAccount
from gateway.state.shared.document import held_field, row_of, used_field
from gateway.state.shared.limits import limit_body, refusal_by, tell_counters
from gateway.state.shared.link import Link, Overtaken, Reply, StateUnavailable
from gateway.state.shared.outside import Outside
from gateway.state.shared.source import SharedSource
from gateway.state.spending import Spending

FRESH_S = 0.2  # what is told of an account may be so old
TRIES = 20  # each was overtaken by another process


class SharedState(MemoryState):
    """Implements what the request path asks of MemoryState, and `admit_together`."""

    def __init__(
        self, source: BalanceSource, link: Link, tag: str, owner: str, outside: Outside
    ) -> None:
        """`tag` begins all keys; `owner` is the id of this process's journal."""
        self._shared: dict[str, SharedAccount] = {}
        self._source = SharedSource(source, self._shared)
        self._life = link.first_batch
        super().__init__(self._source)
        self.link = link
        self._tag = tag
        self._owner = owner
        self._outside = outside
        self._gauges: dict[str, list[str]] = {}  # by hold, where there are any
        self._local: set[str] = set()  # holds that the server does not know
        self.allows = True  # what to do while the server is away

    def use(self, book: Book) -> None:
        super().use(book)
        self.outdate_all()

    def shared(self, state: AccountState) -> SharedAccount:
        found = self._shared.get(state.account.id)
        if found is None or found.state is not state:
            found = SharedAccount(
                state,
                self,
                self._accounts,
                self.link,
                self._tag,
                self._owner,
                self._life,
                self._outside,
            )
            self._shared[state.account.id] = found
        return found

    def evict_idle(self, shipped_seq: int, before_us: int) -> set[str]:
        evicted = super().evict_idle(shipped_seq, before_us)
        for account_id in evicted:
            self._shared.pop(account_id, None)
        return evicted

    # -- the decision ---------------------------------------------------------

    async def admit_together(self, ask: Ask) -> Hold | Refusal:
        """Reserve everything the request needs, or nothing. Raises StateUnavailable."""
        try:
            return await self._admit(ask)
        except StateUnavailable as error:
            if not self.allows or isinstance(error, Overtaken):
                raise
        return await self._admit_alone(ask)

    async def _admit_alone(self, ask: Ask) -> Hold | Refusal:
        """From what is known here; the server hears of it when it is back."""
        while True:
            try:
                decision = self.admit(ask)
            except NotLoaded as missing:
                await asyncio.wrap_future(missing.future)
                continue
            if isinstance(decision, Hold):
                decision.gauges = []  # given back as those of the others are
                self._local.add(ask.event_id)
            return decision

    async def _admit(self, ask: Ask) -> Hold | Refusal:
        shared = self.shared(ask.account)
        for _ in range(TRIES):
            charged = self._plainly(ask, shared)
            if charged is None:
                return await self._admit_carefully(ask, shared)
            counters, limits, keys = self._limits(ask)
            body = self._hold_step(ask, shared, charged, limits)
            late = partial(self._too_late, shared, ask, limits, keys)
            reply = await self.link.ask(body, (shared.key, *keys), late)
            kind = reply[0]
            if kind == 1 or kind == 0:
                tell_counters(counters, reply[1])
                stands = reply[2]
                for n, (balance, _) in enumerate(charged):
                    balance.used, balance.held = stands[2 * n], stands[2 * n + 1]
            if kind == 1:
                hold = Hold(ask.account, charged, counters, [], ask)
                self._note_gauges(ask, limits)
                return self._begun(hold, ask)
            if kind == 0:
                decision = decide(ask, counters, charged, self._accounts)
                if isinstance(decision, Refusal):
                    return decision
            elif kind in (2, 3):  # it knows more, or nothing
                shared.is_current = False
        raise Overtaken("other processes were faster each time")

    def _begun(self, hold: Hold, ask: Ask) -> Hold:
        state = ask.account
        state.in_flight += 1
        self._open.add(hold)
        state.touched_us = ask.time_us
        self.shared(state).own[ask.event_id] = hold
        return hold

    def _plainly(self, ask: Ask, shared: SharedAccount) -> list[tuple[Balance, int]] | None:
        """The balances, where one number of each decides and the document has it."""
        if ask.counted or not shared.is_current:
            return None
        rows = shared.document.rows
        balances = ask.account.balances
        charged = []
        for meter, amount in ask.charges:
            balance = balances.get(meter)
            if balance is None or ask.time_us >= balance.end_us or balance.room < 0:
                return None
            if (meter, balance.span[0], "") not in rows:
                return None
            charged.append((balance, amount))
        return charged

    def _hold_step(
        self,
        ask: Ask,
        shared: SharedAccount,
        charged: list[tuple[Balance, int]],
        limits: list[list[Any]],
    ) -> list[Any]:
        parts = [
            (used_field(b.meter, b.span[0], ""), held_field(b), amount, b.room, b.end_us)
            for b, amount in charged
        ]
        text = shared.plain_text(ask, charged)
        id_ = ask.event_id
        return ["hold", shared.key, shared.document.terms, id_, text, LEASE_US, limits, parts]

    async def _admit_carefully(self, ask: Ask, shared: SharedAccount) -> Hold | Refusal:
        """Rate limits first, then everything else; they are given back if that refuses."""
        counters, limits, keys = self._limits(ask)
        if limits:
            reply = await self.link.ask(
                ["limits", ask.event_id, limits],
                keys,
                lambda r: self._untake(ask, limits, keys) if r[0] else None,
            )
            tell_counters(counters, reply[1])
            if not reply[0]:
                return refusal_by(counters, ask.time_us)
        try:
            decision = await shared.admit(ask, counters)
        except BaseException:
            if limits:
                self._untake(ask, limits, keys)
            raise
        if isinstance(decision, Refusal):
            if limits:
                self._untake(ask, limits, keys)
            return decision
        self._note_gauges(ask, limits)
        return decision

    def _note_gauges(self, ask: Ask, limits: list[list[Any]]) -> None:
        """Limits of requests in flight, to be given back when it ends."""
        gauges = [limit[1] for limit in limits if limit[0] == "c"]
        if gauges:
            self._gauges[ask.event_id] = gauges

    def _untake(self, ask: Ask, limits: list[list[Any]], keys: tuple[str, ...]) -> None:
        self.link.tell(["untake", ask.event_id, limits], keys)

    def _too_late(
        self,
        shared: SharedAccount,
        ask: Ask,
        limits: list[list[Any]],
        keys: tuple[str, ...],
        reply: Reply,
    ) -> None:
        """The request was let in when nobody waited for that any more."""
        if reply[0] == 1:
            held = [(held_field(ask.account.balances[m]), n) for m, n in ask.charges]
            shared.posts.tell(ask.event_id, 0, held, [], [])
            if limits:
                self._untake(ask, limits, keys)

    # -- what is told ---------------------------------------------------------

    def balance(self, state: AccountState, meter: str, now_us: int) -> Balance:
        """As all processes know it. Raises NotLoaded where the copy is not fresh."""
        self._want_fresh(state)
        return super().balance(state, meter, now_us)

    def spending(self, state: AccountState, now_us: int) -> Spending:
        """As all processes know it. Raises NotLoaded where the copy is not fresh."""
        self._want_fresh(state)
        return super().spending(state, now_us)

    def _want_fresh(self, state: AccountState) -> None:
        shared = self.shared(state)
        is_fresh = shared.is_current and time.monotonic() - shared.read_s < FRESH_S
        if self.link.failure or is_fresh:
            return
        raise _not_before(shared.refresh())

    def take_back(self, state: AccountState, entry: LedgerEntry) -> None:
        """Raises NotLoaded: it is asked again until `has_entry`, or until there is no room."""
        raise _not_before(self.shared(state).take_back(entry))

    def apply_entry(self, state: AccountState, entry: LedgerEntry) -> None:
        """It is in the store: everybody reads it there before the next decision."""
        shared = self.shared(state)
        self.outdate(state.account.id)
        self.link.tell(["changed", shared.key], (shared.key,))

    def undo_entry(self, state: AccountState, entry: LedgerEntry) -> None:
        """What was taken back in advance did not reach the store."""
        self.shared(state).undo_entry(entry)

    # -- limits ---------------------------------------------------------------

    def _limits(self, ask: Ask) -> tuple[list[Counter], list[list[Any]], tuple[str, ...]]:
        """The counters here, and the limits as the script takes them, with their keys."""
        counters = []
        limits: list[list[Any]] = []
        keys = []
        for limit in ask.limits:
            counters.append(self._counter(limit, ask))
            key = f"{self._tag}l:{limit.id}:{subject_of(limit, ask)}"
            keys.append(key)
            limits.append(limit_body(limit, key))
        return counters, limits, tuple(keys)

    # -- the end of a request -------------------------------------------------

    def is_plain(self, hold: Hold) -> bool:
        """Whether its settlement needs to know no more than the hold."""
        if not (hold.is_plain and self.shared(hold.account).is_current):
            return False
        return all([balance.is_plain for balance, _ in hold.reserved])

    async def settlement_together(
        self, hold: Hold, charges: Charges, counted: tuple[Counted, ...]
    ) -> Settlement:
        """What a hold comes to where lots or counters have a say; it is posted by then.

        The event is to be written next, and `settle` called. While the server is away, what is
        known here decides.
        """
        shared = self.shared(hold.account)
        assert hold.ask is not None
        try:
            if hold.ask.event_id in self._local:
                raise StateUnavailable("it was admitted while the server was away")
            return await shared.settle(hold, charges, counted)
        except Exception:  # also of the store: the request is over, and is settled
            return self.settlement(hold, charges, counted)

    def settle(self, hold: Hold, settlement: Settlement, seq: int = 0) -> None:
        """Post it, as the record of the journal says."""
        assert hold.ask is not None
        shared = self.shared(hold.account)
        id_ = hold.ask.event_id
        gauges = self._let_go(hold, id_)
        if hold in shared.posted:
            shared.posted.discard(hold)
            hold.is_open, hold.ask = False, None
            shared.posts.tell(id_, seq, [], _used(settlement.postings), gauges)
            return
        held = [] if id_ in self._local else _held(hold)
        self._local.discard(id_)
        shared.own.pop(id_, None)
        super().settle(hold, settlement)
        shared.posts.tell(id_, seq, held, _used(settlement.postings), gauges)

    def release(self, hold: Hold) -> None:
        """Give everything back; requests stay counted by rate limits."""
        assert hold.ask is not None
        shared = self.shared(hold.account)
        id_ = hold.ask.event_id
        gauges = self._let_go(hold, id_)
        is_local = id_ in self._local
        self._local.discard(id_)
        if self.is_plain(hold) or is_local:
            held = [] if is_local else _held(hold)
            shared.own.pop(id_, None)
            super().release(hold)
            shared.posts.tell(id_, 0, held, [], gauges)
        else:
            shared.release(hold)
            if gauges:
                self.link.tell(["untake", id_, [["c", key] for key in gauges]], tuple(gauges))

    def _let_go(self, hold: Hold, hold_id: str) -> list[str]:
        """The keys of the limits of requests in flight that count this one no more."""
        for counter in hold.counters:
            if isinstance(counter, Concurrency):
                counter.in_flight = max(0, counter.in_flight - 1)
        return self._gauges.pop(hold_id, [])

    def renew(self, before_us: int) -> None:
        """Tell that requests that were admitted before an instant go on."""
        for hold in self._open:
            ask = hold.ask
            if ask is None or ask.time_us >= before_us or ask.event_id in self._local:
                continue
            shared = self.shared(hold.account)
            if ask.event_id in shared.own:
                gauges = self._gauges.get(ask.event_id, [])
                body = ["renew", shared.key, ask.event_id, LEASE_US, gauges]
                self.link.tell(body, (shared.key, *gauges))

    def post_again(self, account_id: str, hold_id: str, seq: int, used: list[Posting]) -> None:
        """An event of an earlier process, in case it ended before it could post it."""
        key = f"{self._tag}a:{account_id}"
        body = ["post", key, hold_id, self._owner, seq, 0, _used(used), []]
        self.link.tell(body, (key,))

    def waiting(self) -> list[tuple[str, str]]:
        """Open holds, by the key where they wait for their account's next document."""
        found = []
        for hold in self._open:
            ask = hold.ask
            if ask is not None and ask.event_id in self.shared(hold.account).own:
                found.append(self.shared(hold.account).waiting(hold))
        return found

    def outdate(self, account_id: str) -> None:
        """The account was changed elsewhere: its terms are read before the next decision."""
        shared = self._shared.get(account_id)
        if shared is not None:
            shared.is_current = False
            shared.kept.clear()

    def outdate_all(self) -> None:
        """Anything was changed elsewhere."""
        self._source.forget()


def _not_before(done: asyncio.Future[Any]) -> NotLoaded:
    """For whoever waits in another thread."""
    answer: Future[None] = Future()
    done.add_done_callback(lambda _: answer.set_result(None))
    return NotLoaded(answer)


def _held(hold: Hold) -> list[tuple[str, int]]:
    return [(held_field(balance), amount) for balance, amount in hold.reserved if amount]


def _used(postings: Sequence[Posting]) -> list[tuple[str, int]]:
    """Fields of the document, and what is added to them."""
    return [(used_field(*row_of(posting)), posting[1]) for posting in postings]
