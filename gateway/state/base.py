"""Hot state: what admit decides on, behind one interface.

Question: may this request go ahead, given everything counted so far?
Invariant: a request's limits and budgets are decided in one step: all pass and
all are counted, or nothing changes. Embedded: gateway/state/memory.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from types import MappingProxyType
from typing import Any, Protocol

from gateway.core.book import Account, Plan
from gateway.core.counting import Count, Moved
from gateway.core.ledger import Balance, Lot, Part
from gateway.core.limits import Concurrency, Counter, RateLimit
from gateway.core.pricing import Charges, Counted
from gateway.core.rows import AccountVersion, BalanceRow, LedgerEntry, PlansVersion
from gateway.core.terms import Timeline

# meter, amount, start of the period, and the lot where it is not the period's own
Posting = tuple[str, int, int] | tuple[str, int, int, str]


class BalanceSource(Protocol):
    """Where an account's figures come from when it is seen for the first time."""

    def balances(self, account_id: str) -> Iterable[BalanceRow]: ...

    def uses(self, account_id: str, meter: str, period_us: int, bounds: Sequence[int]) -> list[int]:
        """What requests used from a period's own lot between each two of `bounds`, ascending.

        Behind the last of them there is nothing.
        """
        ...

    def entries(self, account_id: str) -> Sequence[LedgerEntry]: ...

    def versions(self, account_id: str) -> Sequence[AccountVersion]:
        """Oldest first."""
        ...

    def plans(self) -> Sequence[PlansVersion]:
        """Oldest first."""
        ...


NOTHING: Mapping[Any, Any] = MappingProxyType({})


class AccountState:
    """One account's live balances. `plan` is what they were last bound to."""

    __slots__ = (
        "account", "plan", "balances", "in_flight", "last_seq", "touched_us", "entries", "timeline",
        "lots", "lots_used", "aside", "caps", "spent",
    )  # fmt: skip

    def __init__(self, account: Account, plan: Plan) -> None:
        self.account = account
        self.plan = plan
        self.balances: dict[str, Balance] = {}
        self.in_flight = 0  # open holds
        self.last_seq = 0  # of the last journal record; evicted only when shipped
        self.touched_us = 0
        # The rest is nothing for most of very many accounts, so they share it: never changed in
        # place. Read from the store when the first balance is; see state/accounts.py.
        self.entries: tuple[LedgerEntry, ...] | None = None
        self.timeline = Timeline((), ())
        self.lots: Mapping[tuple[str, str], Lot] = NOTHING  # by meter and id, live
        self.lots_used: Mapping[tuple[str, str], int] = NOTHING  # as it was when it was read
        # Balances that are not the current ones, but may still be held or come back.
        self.aside: tuple[Balance, ...] = ()
        self.caps: Mapping[tuple[str, str], Balance] = NOTHING  # by meter and lot, live
        # By meter and start of the month: what closed periods added to its bill, micro-dollars.
        self.spent: Mapping[tuple[str, int], Fraction] = NOTHING

    def __repr__(self) -> str:
        return f"<AccountState {self.account.id} {list(self.balances.values())}>"


class Ask(Protocol):
    """What a request puts to the hot state; the proxy's Exchange is one."""

    @property
    def key_id(self) -> str: ...
    @property
    def user(self) -> str: ...
    @property
    def route_name(self) -> str: ...

    account: AccountState
    limits: tuple[RateLimit, ...]
    project: str
    source: str
    time_us: int
    charges: Charges
    counted: tuple[Counted, ...]  # what counted rules add to their counters
    event_id: str
    request_id: str


class Hold:
    """What an admitted request has reserved; settled or released exactly once.

    A plain one has neither lots nor caps nor counters: each charge is one posting.
    """

    __slots__ = ("account", "reserved", "counters", "gauges", "is_open", "ask", "charges")

    is_plain = True
    counts: Sequence[Count] = ()
    caps: Sequence[tuple[Balance, int]] = ()

    def __init__(
        self,
        account: AccountState,
        reserved: list[tuple[Balance, int]],
        counters: list[Counter],
        gauges: list[Concurrency],
        ask: Ask,
    ) -> None:
        self.account = account
        self.reserved = reserved
        self.counters = counters
        self.gauges = gauges  # those of the counters that are given back
        self.is_open = True
        self.charges = ask.charges
        self.ask: Ask | None = ask  # while it is open; the two would else keep each other alive

    def __repr__(self) -> str:
        state = "open" if self.is_open else "done"
        return f"<Hold {self.account.account.id} {[a for _, a in self.reserved]} {state}>"


class CarefulHold(Hold):
    """A hold that also has quantities of counters, or units of further allowances."""

    __slots__ = ("counts", "caps")

    is_plain = False

    def __init__(
        self,
        account: AccountState,
        reserved: list[tuple[Balance, int]],
        counters: list[Counter],
        gauges: list[Concurrency],
        ask: Ask,
        counts: Sequence[Count],
        caps: Sequence[tuple[Balance, int]],
    ) -> None:
        super().__init__(account, reserved, counters, gauges, ask)
        self.counts = counts  # in the order of ask.counted
        self.caps = caps  # of fixed amounts; shares hold the rest


class Settlement:
    """What a hold comes to: worked out once, journaled, then posted as it stands."""

    __slots__ = ("postings", "moves", "moved", "amounts")

    def __init__(
        self,
        postings: tuple[Posting, ...],
        moves: list[tuple[Balance, int, list[Part]]] | None = None,
        moved: Sequence[Moved] = (),
        amounts: Charges | None = None,
    ) -> None:
        self.postings = postings
        self.amounts = amounts  # without moves: what is charged; None: what was reserved
        # balance, what is given back of its hold, and what each lot pays; None: what was reserved
        self.moves = moves
        self.moved = moved  # shares of counters
