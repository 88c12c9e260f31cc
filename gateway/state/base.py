"""Hot state: what admit decides on, behind one interface.

Question: may this request go ahead, given everything counted so far?
Invariant: a request's limits and budgets are decided in one step: all pass and
all are counted, or nothing changes. Embedded: gateway/state/memory.py.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from gateway.core.book import Account, Plan
from gateway.core.ledger import Balance
from gateway.core.limits import Concurrency, Counter, RateLimit
from gateway.core.pricing import Charges
from gateway.core.refusals import Refusal
from gateway.core.rows import BalanceRow


class BalanceSource(Protocol):
    """Where balances come from when an account is seen for the first time."""

    def balances(self, account_id: str) -> Iterable[BalanceRow]: ...


class AccountState:
    """One account's live balances. `plan` is what they were last bound to."""

    __slots__ = ("account", "plan", "balances", "in_flight", "last_seq", "touched_us")

    def __init__(self, account: Account, plan: Plan) -> None:
        self.account = account
        self.plan = plan
        self.balances: dict[str, Balance] = {}
        self.in_flight = 0
        self.last_seq = 0  # of the last journal record; evicted only when shipped
        self.touched_us = 0

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


class Hold:
    """What an admitted request has reserved; settled or released exactly once."""

    __slots__ = ("account", "reserved", "counters", "gauges", "is_open")

    def __init__(
        self,
        account: AccountState,
        reserved: list[tuple[Balance, int]],
        counters: list[Counter],
        gauges: list[Concurrency],
    ) -> None:
        self.account = account
        self.reserved = reserved
        self.counters = counters
        self.gauges = gauges  # those of the counters that are given back
        self.is_open = True

    def __repr__(self) -> str:
        state = "open" if self.is_open else "done"
        return f"<Hold {self.account.account.id} {[a for _, a in self.reserved]} {state}>"


class HotState(Protocol):
    """The questions the proxy asks; every implementation passes the same tests."""

    def account(self, account: Account, plan: Plan) -> AccountState: ...

    def admit(self, ask: Ask) -> Hold | Refusal: ...

    def settle(self, hold: Hold, charges: Charges) -> None:
        """Post the exact charges, in the order they were reserved."""
        ...

    def release(self, hold: Hold) -> None:
        """Void everything that was reserved."""
        ...
