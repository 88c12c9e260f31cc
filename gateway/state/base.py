"""Hot state: what admit decides on, behind one interface.

Question: may this request go ahead, given everything counted so far?
Invariant: a request's limits and budgets are decided in one step: all pass and
all are counted, or nothing changes. Embedded: gateway/state/memory.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple, Protocol

from gateway.core.book import Account, Plan
from gateway.core.ledger import Balance, Lot, Part
from gateway.core.limits import Concurrency, Counter, RateLimit
from gateway.core.pricing import Charges, Counted
from gateway.core.refusals import Refusal
from gateway.core.rows import AccountVersion, BalanceRow, LedgerEntry, PlansVersion
from gateway.core.terms import Timeline

# meter, amount, start of the period, and the lot where it is not the period's own
Posting = tuple[str, int, int] | tuple[str, int, int, str]


class BalanceSource(Protocol):
    """Where an account's figures come from when it is seen for the first time."""

    def balances(self, account_id: str) -> Iterable[BalanceRow]: ...

    def entries(self, account_id: str) -> Sequence[LedgerEntry]: ...

    def versions(self, account_id: str) -> Sequence[AccountVersion]:
        """Oldest first."""
        ...

    def plans(self) -> Sequence[PlansVersion]:
        """Oldest first."""
        ...


class AccountState:
    """One account's live balances. `plan` is what they were last bound to."""

    __slots__ = (
        "account", "plan", "balances", "in_flight", "last_seq", "touched_us", "entries", "timeline",
        "lots", "lots_used",
    )  # fmt: skip

    def __init__(self, account: Account, plan: Plan) -> None:
        self.account = account
        self.plan = plan
        self.balances: dict[str, Balance] = {}
        self.in_flight = 0
        self.last_seq = 0  # of the last journal record; evicted only when shipped
        self.touched_us = 0
        # Read from the store when the first balance is; see state/accounts.py.
        self.entries: list[LedgerEntry] | None = None
        self.timeline = Timeline((), ())
        self.lots: dict[tuple[str, str], Lot] = {}  # by meter and id, live
        self.lots_used: dict[tuple[str, str], int] = {}  # as it was when it was read

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


class CountedHold(NamedTuple):
    """A quantity held on its counter; the meter's part of it moves with the counter."""

    counted: Counted
    counter: Balance
    meter: Balance


class Hold:
    """What an admitted request has reserved; settled or released exactly once."""

    __slots__ = (
        "account", "reserved", "counters", "gauges", "is_open", "counted", "caps", "is_plain",
    )  # fmt: skip

    def __init__(
        self,
        account: AccountState,
        reserved: list[tuple[Balance, int]],
        counters: list[Counter],
        gauges: list[Concurrency],
        counted: list[CountedHold] | None = None,
        caps: list[tuple[Balance, int]] | None = None,
        is_plain: bool = True,
    ) -> None:
        self.account = account
        self.reserved = reserved
        self.counters = counters
        self.gauges = gauges  # those of the counters that are given back
        self.is_open = True
        self.counted = counted or []
        self.caps = caps or []  # held in further allowances, in the order of `reserved`
        self.is_plain = is_plain  # no lots, caps or counters: each charge is one posting

    def __repr__(self) -> str:
        state = "open" if self.is_open else "done"
        return f"<Hold {self.account.account.id} {[a for _, a in self.reserved]} {state}>"


class Settlement(NamedTuple):
    """What a hold comes to: worked out once, journaled, then posted as it stands."""

    postings: tuple[Posting, ...]
    # balance, what is given back of its hold, and what each lot pays; None: one each, in order
    moves: list[tuple[Balance, int, list[Part]]] | None = None


class HotState(Protocol):
    """The questions the proxy asks; every implementation passes the same tests."""

    def account(self, account: Account, plan: Plan) -> AccountState: ...

    def admit(self, ask: Ask) -> Hold | Refusal: ...

    def settlement(
        self, hold: Hold, charges: Charges, counted: tuple[Counted, ...] = ()
    ) -> Settlement:
        """What the exact charges and counts come to, in the order they were reserved."""
        ...

    def settle(self, hold: Hold, settlement: Settlement) -> None:
        """Post it, in the same turn in which it was worked out."""
        ...

    def release(self, hold: Hold) -> None:
        """Void everything that was reserved."""
        ...
