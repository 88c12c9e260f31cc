"""Hot state that several processes share through Redis or Valkey.

Question: as in gateway/state/base.py, of all processes together. Where one number decides,
the script decides, in the same call for all limits of an account (run.lua: take); where
more than one does, this process decides on what it knows and writes it only if nobody
else has been faster (admission.py). What is live here is a copy, for the answer's headers
and for the time when the server is away.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from typing import Any

import orjson

from gateway.core.book import Book
from gateway.core.ledger import Balance
from gateway.core.limits import Figures, RateLimit
from gateway.core.pricing import Charges, Counted
from gateway.core.refusals import Refusal
from gateway.core.rows import LedgerEntry
from gateway.core.waiting import NotLoaded
from gateway.state.base import AccountState, Ask, BalanceSource, Hold, Posting, Settlement
from gateway.state.memory import MemoryState
from gateway.state.shared.account import SharedAccount
from gateway.state.shared.admission import Admission
from gateway.state.shared.groups import Group
from gateway.state.shared.in_flight import NO_GAUGES, InFlight
from gateway.state.shared.limits import let_go
from gateway.state.shared.link import Overtaken, StateUnavailable
from gateway.state.shared.outside import Outside
from gateway.state.shared.places import Place, Places
from gateway.state.shared.posts import (
    AS_IT_SAYS,
    NOTHING,
    Ended,
    Held,
    body_again,
    held_by,
    used_by,
)
from gateway.state.shared.renewal import Renewal
from gateway.state.shared.source import SharedSource
from gateway.state.shared.stake import Stake, StakeHold
from gateway.state.spending import Spending

FRESH_S = 0.2  # what is told of an account may be so old
LOOKED_MAX = 1000  # callers of whose limits that is remembered


class SharedState(MemoryState):
    """Implements what the request path asks of MemoryState, and `admit_together`."""

    def __init__(
        self, source: BalanceSource, groups: Sequence[Group], owner: str, outside: Outside
    ) -> None:
        """`groups` are all there are; `owner` is the id of this process's journal."""
        self._shared: dict[str, SharedAccount] = {}
        self._source = SharedSource(source, self._shared)
        self._life = f"{owner}/{groups[0].link.first_batch}."
        super().__init__(self._source)
        self.groups = groups
        self._owner = owner
        self._outside = outside
        self._local: set[str] = set()  # holds that the server does not know
        self._places = Places(groups, self._counter)
        self._in_flight = InFlight()
        self._admission = Admission(self.shared, self._accounts, self._places, self._in_flight)
        self._looked_s: dict[tuple[str, ...], float] = {}  # when limits were read, by their keys
        self.allows = True  # what to do while the server is away

    def use(self, book: Book) -> None:
        super().use(book)
        self.outdate_all()

    def shared(self, state: AccountState) -> SharedAccount:
        found = self._shared.get(state.account.id)
        if found is None or found.state is not state:
            group = self._places.group_of(state.account.id)
            found = self._shared[state.account.id] = SharedAccount(
                state, self, self._accounts, group, self._owner, self._life, self._outside
            )
        return found

    def evict_idle(self, shipped_seq: int, before_us: int) -> set[str]:
        evicted = super().evict_idle(shipped_seq, before_us)
        for account_id in evicted:
            self._shared.pop(account_id, None)
        return evicted

    # -- the decision ---------------------------------------------------------

    def admit_at_once(self, ask: Ask) -> Hold | None:
        """What was taken ahead for a request like this one; None: `admit_together`."""
        return self._admission.admit_at_once(ask)

    async def admit_together(self, ask: Ask) -> Hold | Refusal:
        """Reserve everything the request needs, or nothing. Raises StateUnavailable."""
        try:
            if len(self.groups) > 1:
                return await self._admission.admit_apart(ask, self.allows)
            return await self._admission.admit(ask)
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
        if shared.link.failure or is_fresh:
            return
        # When the server has gone meanwhile, the copy is what there is.
        raise _not_before(shared.refresh(), lambda: bool(shared.link.failure))

    def figures(self, limits: Sequence[RateLimit], ask: Ask) -> list[Figures]:
        """As all processes count them. Raises NotLoaded where what is known here is not fresh."""
        places = self._places.all(limits, ask)
        keys = tuple([key for place in places for key in place.keys])
        is_away = any([place.group.link.failure for place in places])
        is_fresh = time.monotonic() - self._looked_s.get(keys, float("-inf")) < FRESH_S
        if places and not (is_away or is_fresh):
            looked = asyncio.ensure_future(self._look(places, keys))
            raise _not_before(looked, lambda: any([place.group.link.failure for place in places]))
        return super().figures(limits, ask)

    async def _look(self, places: Iterable[Place], keys: tuple[str, ...]) -> None:
        await asyncio.gather(*[place.look() for place in places])
        if len(self._looked_s) >= LOOKED_MAX:
            self._looked_s.clear()
        self._looked_s[keys] = time.monotonic()

    def take_back(self, state: AccountState, entry: LedgerEntry) -> None:
        """Raises NotLoaded: it is asked again until `has_entry`, or until there is no room."""
        raise _not_before(self.shared(state).take_back(entry))

    def apply_entry(self, state: AccountState, entry: LedgerEntry) -> None:
        """It is in the store: everybody reads it there before the next decision."""
        shared = self.shared(state)
        self.outdate(state.account.id)
        shared.link.tell(["changed", shared.key], (shared.key,))

    def undo_entry(self, state: AccountState, entry: LedgerEntry) -> None:
        """What was taken back in advance did not reach the store."""
        self.shared(state).undo_entry(entry)

    # -- the end of a request -------------------------------------------------

    def is_plain(self, hold: Hold) -> bool:
        """Whether its settlement needs to know no more than the hold."""
        if not hold.is_plain:
            return False
        shared = hold.form.shared if isinstance(hold, StakeHold) else self.shared(hold.account)
        if not shared.is_current:
            return False
        for balance, _ in hold.reserved:  # noqa: SIM110 - for every request
            if not balance.is_plain:
                return False
        return True

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
            return shared.spent.get(hold) or self.settlement(hold, charges, counted)

    def settle(self, hold: Hold, settlement: Settlement, seq: int = 0) -> None:
        """Post it, as the record of the journal says."""
        assert hold.ask is not None
        id_, time_us = hold.ask.event_id, hold.ask.time_us
        if isinstance(hold, StakeHold):
            shared = hold.form.shared
            if hold not in shared.posted and hold not in shared.spent:
                form = hold.form
                is_in_flight = form.gauges or self._in_flight.apart
                gauges = self._in_flight.let_go(hold, id_) if is_in_flight else NO_GAUGES
                shared.own.pop(id_, None)
                self._settle_copy(hold, settlement)
                is_as_held = settlement.amounts is None and settlement.moves is None
                used = None if is_as_held else used_by(settlement.postings)
                ended = Ended(id_, seq, time_us, used, gauges, NOTHING, hold.stake, form)
                shared.posts.tell(ended)
                return
        shared = self.shared(hold.account)
        gauges = self._in_flight.let_go(hold, id_)
        if hold in shared.posted:
            shared.posted.discard(hold)
            hold.is_open, hold.ask = False, None
            shared.posts.tell(Ended(id_, seq, time_us, used_by(settlement.postings), gauges))
            return
        is_local = id_ in self._local
        self._local.discard(id_)
        shared.own.pop(id_, None)
        used = used_by(settlement.postings)
        if shared.spent.pop(hold, None) is not None:
            # The copy has it, but nobody heard whether the document does.
            hold.is_open, hold.ask = False, None
            stake = (hold.stake, hold.form) if isinstance(hold, StakeHold) else (None, None)
            shared.posts.tell(Ended(id_, seq, time_us, used, gauges, AS_IT_SAYS, *stake))
        else:
            is_held = self._settle_copy(hold, settlement) and not is_local
            held: Held = held_by(hold) if is_held else AS_IT_SAYS
            shared.posts.tell(Ended(id_, seq, time_us, used, gauges, held))

    def _settle_copy(self, hold: Hold, settlement: Settlement) -> bool:
        """False where the copy was being made anew when the server went away."""
        moves = settlement.moves
        is_held = not moves or all([balance.held >= held for balance, held, _ in moves])
        if is_held:
            super().settle(hold, settlement)
        else:
            self._end(hold)
        return is_held

    def release(self, hold: Hold) -> None:
        """Give everything back; requests stay counted by rate limits."""
        assert hold.ask is not None
        shared = self.shared(hold.account)
        id_ = hold.ask.event_id
        gauges = self._in_flight.let_go(hold, id_)
        is_local = id_ in self._local
        self._local.discard(id_)
        if isinstance(hold, StakeHold):
            # The document has only sums of it, so it is given back as one, whatever is known here.
            shared.own.pop(id_, None)
            if self.is_plain(hold):
                super().release(hold)
            else:
                shared.is_current = False
                self._end(hold)
            shared.posts.tell(Ended(id_, 0, 0, None, gauges, NOTHING, hold.stake, hold.form))
        elif self.is_plain(hold) or is_local:
            shared.own.pop(id_, None)
            super().release(hold)
            held: Held = AS_IT_SAYS if is_local else held_by(hold)
            shared.posts.tell(Ended(id_, 0, 0, [], gauges, held))
        else:
            shared.release(hold)
            if gauges:
                let_go(shared.link, id_, gauges)

    def renew(self, before_us: int) -> None:
        """Tell that requests that were admitted before an instant go on."""
        stakes: set[Stake] = set()
        for hold in self._open:
            ask = hold.ask
            if ask is None or ask.time_us >= before_us or ask.event_id in self._local:
                continue
            shared = self.shared(hold.account)
            if ask.event_id not in shared.own:
                continue
            gauges = self._in_flight.renew(ask.event_id)
            if isinstance(hold, StakeHold):
                if hold.stake in stakes and not gauges:
                    continue
                stakes.add(hold.stake)
            shared.link.put(Renewal(hold, shared.key, gauges, shared.lease_us, shared.refresh))

    def post_again(self, account_id: str, hold_id: str, seq: int, used: list[Posting]) -> None:
        """An event of an earlier process, in case it ended before it could post it."""
        group = self._places.group_of(account_id)
        key = f"{group.tag}a:{account_id}"
        group.link.tell(body_again(key, self._owner, hold_id, seq, used_by(used)), (key,))

    def waiting(self, tag: str, epoch: str) -> list[tuple[str, str]]:
        """Open holds of a group, by the key where they wait for their account's document."""
        found = {
            f"{tag}w:{account_id}:{epoch}": shared.waiting(_is_same(shared.link.epoch, epoch))
            for account_id, shared in self._shared.items()
            if self._places.group_of(account_id).tag == tag
        }
        return [(key, orjson.dumps(bodies).decode()) for key, bodies in found.items() if bodies]

    def prune(self, now_us: int) -> int:
        self.drop_forms()  # they have counters
        return super().prune(now_us)

    def drop_forms(self) -> None:
        """What was taken ahead of requests is given back."""
        for shared in self._shared.values():
            shared.drop_forms()

    def behind(self) -> set[str]:
        """Tags of groups that have yet to be told what was posted."""
        return {group.tag for group in self.groups if group.link.behind}

    def outdate(self, account_id: str) -> None:
        """The account was changed elsewhere: its terms are read before the next decision."""
        shared = self._shared.get(account_id)
        if shared is not None:
            shared.forget()

    def outdate_all(self) -> None:
        """Anything was changed elsewhere."""
        self._source.forget()


def _is_same(epoch: str, other: str) -> bool:
    """Whether they are of one process of the server."""
    return epoch.partition(".")[0] == other.partition(".")[0]


def _not_before(
    done: asyncio.Future[Any], goes_on: Callable[[], bool] = lambda: False
) -> NotLoaded:
    """For whoever waits in another thread; a failure is theirs, unless it goes on without."""
    answer: Future[None] = Future()

    def tell(done: asyncio.Future[Any]) -> None:
        if not answer.set_running_or_notify_cancel():
            return
        failure = None if done.cancelled() else done.exception()
        if failure is None or goes_on():
            answer.set_result(None)
        else:
            answer.set_exception(failure)

    done.add_done_callback(tell)
    return NotLoaded(answer)
