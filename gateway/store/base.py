"""What a store answers, whatever database it is.

The contract of the read side: plain frozen rows, small synchronous questions. Writing goes
through the one writer (gateway.journal.shipper) with the functions of `mutations`. Must
not know SQL.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from gateway.core.book import Account
from gateway.core.identity import KeyRecord
from gateway.core.rows import AccountVersion, BalanceRow, LedgerEntry, LimitState, PlansVersion

ALONE = "alone"  # what a gateway decides with that shares no state


class StoreError(Exception):
    """The store cannot be used as it is; the text names the remedy."""


class StoreUnavailable(StoreError):
    """The store did not answer just now; the request that asked is refused with 503."""


class Store(Protocol):
    """The questions of the request path. Raise StoreUnavailable, or NotLoaded."""

    def account(self, account_id: str) -> Account | None: ...

    def key(self, digest: bytes) -> KeyRecord | None: ...

    def balances(self, account_id: str, since_us: int = 0) -> list[BalanceRow]:
        """Periods that began at `since_us` or later, those of no period (0), and all lots."""
        ...

    def uses(self, account_id: str, meter: str, period_us: int, bounds: Sequence[int]) -> list[int]:
        """What requests used from a period's own lot between each two of `bounds`, ascending."""
        ...

    def entries(self, account_id: str) -> list[LedgerEntry]:
        """The account's ledger, newest first."""
        ...

    def versions(self, account_id: str) -> list[AccountVersion]:
        """The account's history, oldest first."""
        ...

    def plans(self) -> list[PlansVersion]:
        """The plans' history, oldest first."""
        ...

    def limit_states(self, now_us: int) -> Iterator[LimitState]:
        """Those that have not expired."""
        ...

    def forget(self) -> None:
        """Something was changed by this process: answers that are kept count no more."""
        ...

    def close(self) -> None: ...
