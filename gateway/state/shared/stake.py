"""Requests on which one number of each balance decides, many at a time.

Question: how many of these requests may go ahead? Requests of one account that need the
same and count in the same limits have one form; those that come up until the next call of
the script ask in one step. The document keeps what this process holds for all of them in
sum: its stake. Invariant: a stake is lost as a whole, and one that was let go of is never
used again, so whoever ends gives back to the one that it was taken from.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import orjson

from gateway.core.ledger import Balance
from gateway.core.limits import Counter, RateLimit
from gateway.core.pricing import Charges
from gateway.state.base import Ask, Hold
from gateway.state.shared.ahead import AHEAD_US, Ahead, Watch, ends_of
from gateway.state.shared.document import (
    Part,
    held_field,
    part_field,
    part_name,
    stake_field,
    used_field,
)
from gateway.state.shared.limits import tell_counters
from gateway.state.shared.link import Reply, StateUnavailable

if TYPE_CHECKING:
    from gateway.state.shared.account import SharedAccount

# What the script says of a step.
REFUSED, DONE, KNOWS_MORE, NO_DOCUMENT, OVER, ONE_BY_ONE, LET_GO, NOT_YOUR_TURN, NOT_YET = range(9)


class Stake:
    """One life of it: `count` is of the requests that the server has in it, as far as it said."""

    __slots__ = ("life", "count", "is_told")

    def __init__(self, life: str) -> None:
        self.life = life
        self.count = 0
        self.is_told = False  # it waits for a document: what was open when an epoch began


class StakeHold(Hold):
    """A plain hold that the document has as a part of a stake."""

    __slots__ = ("stake", "form")

    def __init__(self, stake: Stake, form: Form, ask: Ask) -> None:
        super().__init__(ask.account, form.charged, form.counters, [], ask)
        self.stake = stake
        self.form = form


class Form:
    """Requests that differ in their ids only. Made anew whenever the copy is."""

    __slots__ = (
        "shared", "charges", "limits", "charged", "counters", "keys", "gauges", "bodies", "tail",
        "parts", "rooms", "used", "held", "take", "life", "ahead", "may_be_ahead",
        "is_used", "_give",
    )  # fmt: skip

    def __init__(
        self,
        shared: SharedAccount,
        charged: list[tuple[Balance, int]],
        counters: list[Counter],
        bodies: list[list[Any]],
        ask: Ask,
        may_be_ahead: bool,
    ) -> None:
        """`bodies` are the limits as the script takes them."""
        self.shared = shared
        self.charges: Charges = ask.charges  # kept, so that nothing else gets their identity
        self.limits: tuple[RateLimit, ...] = ask.limits
        self.charged = charged
        self.counters = counters
        self.bodies = bodies
        self.gauges = [body[1] for body in bodies if body[0] == "c"]
        self.keys = (shared.key, *[body[1] for body in bodies])
        self.parts = [Part(b.meter, b.span, amount) for b, amount in charged]
        self.rooms = [(balance, balance.room) for balance, _ in charged]
        self.used = [(used_field(b.meter, b.span[0], ""), amount) for b, amount in charged]
        self.held = [(held_field(b), part_name(b.meter, b.span), amount) for b, amount in charged]
        key, terms, life = shared.key, shared.document.terms, shared.stake.life
        steps = [
            (used, held, part_field(life, part), amount, balance.room, balance.span.end_us)
            for (used, _), (held, part, amount), (balance, _) in zip(
                self.used, self.held, charged, strict=True
            )
        ]
        self.tail = orjson.dumps([key, terms, life, shared.lease_us, bodies, steps])[1:]
        self.take: Take | None = None  # the step that is being gathered
        self.life = life
        self.ahead = Ahead()
        self.may_be_ahead = may_be_ahead and not self.gauges
        self.is_used = True  # the next request may find it
        given = [(held, part_field(life, part), n) for held, part, n in self.held if n]
        stake = _kept([[life, 1, given]])
        head = orjson.dumps([key, shared.posts.journal])[1:-1]
        # What one such request gives back, and what it pays or not.
        self._give = (head, stake, _kept(self.used), b"[]")

    def give(self, seq: int, time_us: int) -> bytes:
        """The step of one request that is over, and paid if it has a record (run.lua: give)."""
        head, stake, paid, nothing = self._give
        used = paid if seq else nothing
        return b'["give",%b,%d,%d,%b,[],%b,[],%d]' % (head, seq, seq, stake, used, time_us)

    def is_good(self, now_us: int) -> bool:
        """Whether its balances are as they were."""
        for balance, room in self.rooms:
            if now_us >= balance.end_us or balance.room != room:
                return False
        return True


def _kept(value: Any) -> bytes:
    """JSON in as many bytes as it has: what the library gives keeps its buffer of 4 KB."""
    return b"%b" % orjson.dumps(value)


Waiter = asyncio.Future[StakeHold | int]


class Take:
    """Requests of one form that ask together. Implements link.Step."""

    __slots__ = ("form", "stake", "keys", "_asks", "_late", "_until_us", "_watch")

    is_asked = True

    def __init__(
        self, form: Form, stake: Stake, late: Callable[[Take, list[Ask]], None], watch: Watch
    ) -> None:
        """`late` hears of requests that were let in when nobody waited for that any more."""
        self._watch = watch
        self._until_us = 0
        self.form = form
        self.stake = stake
        self.keys = form.keys
        self._asks: list[tuple[Ask, Waiter]] = []
        self._late = late

    def join(self, ask: Ask) -> Waiter:
        """Done with the hold, or with what the script said."""
        waiter: Waiter = asyncio.get_running_loop().create_future()
        self._asks.append((ask, waiter))
        return waiter

    def encode(self) -> bytes:
        self.form.take = None
        ids = orjson.dumps([ask.event_id for ask, _ in self._asks]) if self.form.gauges else b"0"
        is_open = b"true" if self.stake.count > 0 else b"false"
        more = 0
        if self.form.may_be_ahead:
            more = self.form.ahead.want(len(self._asks))
            self._until_us = self.form.shared.now_us + AHEAD_US
        return b'["take",%d,%d,%b,%b,%b' % (len(self._asks), more, is_open, ids, self.form.tail)

    def done(self, reply: Reply) -> None:
        kind = reply[0]
        if kind > DONE:
            self._tell(self._asks, kind)
            return
        form, stake, count = self.form, self.stake, reply[1]
        tell_counters(form.counters, reply[2])
        stands = reply[3]
        if count or reply[4] or not form.shared.is_busy:
            for n, (balance, _) in enumerate(form.charged):
                balance.used, balance.held = stands[2 * n], stands[2 * n + 1]
        # Else the copy may be ahead of that by what is being written.
        stake.count += count + reply[4]
        if reply[4]:
            self._add(reply[4])
        late = []
        for ask, waiter in self._asks[:count]:
            if waiter.done():
                late.append(ask)
            else:
                waiter.set_result(StakeHold(stake, form, ask))
        self._tell(self._asks[count:], NOT_YET if reply[5] else REFUSED)
        if late:
            self._late(self, late)

    def _add(self, count: int) -> None:
        """It was taken ahead."""
        form, ends = self.form, ends_of(self.form.counters)
        if form.ahead.ends != ends:
            form.shared.give_back(form, self.stake)
        form.ahead.add(count, self._until_us, ends)
        if form.is_used and self.stake is form.shared.stake:
            self._watch.add(form)
        else:
            form.shared.give_back(form, self.stake)

    def _tell(self, asks: Iterable[tuple[Ask, Waiter]], kind: int) -> None:
        for _, waiter in asks:
            if not waiter.done():
                waiter.set_result(kind)

    def fail(self, error: StateUnavailable) -> None:
        self.form.take = None
        for _, waiter in self._asks:
            if not waiter.done():
                waiter.set_exception(error)


def waiting_body(holds: list[StakeHold], stake: Stake, lease_us: int) -> list[Any]:
    """What is held is in another stake, as it waits for its document (run.lua: open)."""
    sums: dict[str, int] = {}
    since_us = min([hold.ask.time_us for hold in holds if hold.ask is not None])
    for hold in holds:
        hold.stake = stake
        for held, part, amount in hold.form.held:
            for name in (held, part_field(stake.life, part)) if amount else ():
                sums[name] = sums.get(name, 0) + amount
    stake.count = len(holds)
    return [stake_field(stake.life), lease_us, f"{since_us} {len(holds)}", list(sums.items())]
