"""What a hot state is given in its place: a request that asks, and a store without figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gateway.core.limits import RateLimit
from gateway.core.pricing import Charges, Counted
from gateway.core.rows import AccountVersion, BalanceRow, LedgerEntry, PlansVersion
from gateway.state.base import AccountState


@dataclass
class Asking:
    """A state.base.Ask."""

    account: AccountState
    time_us: int
    charges: Charges
    limits: tuple[RateLimit, ...] = ()
    counted: tuple[Counted, ...] = ()
    key_id: str = "k"
    user: str = "u"
    project: str = "p"
    source: str = "127.0.0.1"
    route_name: str = "r"
    event_id: str = "e"
    request_id: str = "q"


class NoStore:
    """A state.base.BalanceSource in which nothing was used or changed yet."""

    def balances(self, account_id: str) -> list[BalanceRow]:
        return []

    def uses(self, account_id: str, meter: str, period_us: int, bounds: Sequence[int]) -> list[int]:
        return [0] * (len(bounds) - 1)

    def entries(self, account_id: str) -> list[LedgerEntry]:
        return []

    def versions(self, account_id: str) -> list[AccountVersion]:
        return []

    def plans(self) -> list[PlansVersion]:
        return []
