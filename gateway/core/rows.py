"""What hot state and store tell each other at start and while running.

Plain rows; amounts in the meter's smallest unit, instants in microseconds. A
lot is a source of units: "" is the period's own allowance with its top-ups,
"@day" (an allowance's period kind) counts a further allowance of the meter,
anything else is the id of the ledger entry that brought the lot.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from gateway.core.book import Account, Plan

EntryKind = Literal["topup", "bundle", "promotion", "recurring", "refund", "adjustment"]
OWN_LOT = ""  # of a period: allowance, carried over, top-ups
CAP_MARK = "@"  # a further allowance's lot begins with it


def is_cap_lot(lot: str) -> bool:
    """Whether it counts a further allowance: no units are paid from it."""
    return lot[:1] == CAP_MARK


class BalanceRow(NamedTuple):
    """What was used of one meter in one period from one lot."""

    meter: str
    period_us: int
    lot: str
    used: int


class LedgerEntry(NamedTuple):
    """Units given or taken back by somebody, for a reason; never changed, never deleted.

    `topup` and `adjustment` change the lot they name (`amount` may be
    negative); the others bring a lot of their own, whose id is the entry's.
    """

    id: str  # the idempotency key where there was one
    account: str
    meter: str
    kind: EntryKind
    lot: str
    period_us: int  # with lot "": the start of the period; else 0
    amount: int
    starts_us: int
    expires_us: int | None  # None: never
    priority: int  # among lots that expire together: the lower burns first
    every: str  # recurring: the period kind in which it is given anew; else ""
    price_micro: int  # what was paid for it, micro-dollars
    reason: str
    actor: str
    time_us: int


class AccountVersion(NamedTuple):
    """An account as it was from an instant on."""

    from_us: int
    account: Account


class PlansVersion(NamedTuple):
    """The plans of a configuration as they were from an instant on."""

    from_us: int
    book: str  # version
    plans: dict[str, Plan]


class LimitState(NamedTuple):
    """A counter as it is kept; see `saved` in core/limits.py for `first` and `second`."""

    limit_id: str
    subject: str
    first: int
    second: int
    expires_us: int
