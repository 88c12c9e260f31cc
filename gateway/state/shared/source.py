"""Where shared accounts' figures come from: the store, but for what documents have."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, TypeVar

from gateway.core.periods import DAY_US
from gateway.core.rows import OWN_LOT, AccountVersion, BalanceRow, LedgerEntry, PlansVersion
from gateway.state.base import BalanceSource
from gateway.state.shared.document import mark_field

if TYPE_CHECKING:
    from gateway.state.shared.account import SharedAccount

T = TypeVar("T")


class SharedSource:
    """A BalanceSource: the store, but for what documents have.

    What the store said is kept until the account's terms change: what could change besides
    is in the document.
    """

    def __init__(self, store: BalanceSource, accounts: Mapping[str, SharedAccount]) -> None:
        self._store = store
        self._accounts = accounts
        self._plans: Sequence[PlansVersion] | None = None

    def forget(self) -> None:
        """Everything may have changed."""
        self._plans = None
        for shared in self._accounts.values():
            shared.forget()

    def _keep(self, account_id: str, what: str, read: Callable[[str], T]) -> T:
        shared = self._accounts.get(account_id)
        if shared is None:
            return read(account_id)
        if what not in shared.kept:
            shared.kept[what] = read(account_id)
        kept: T = shared.kept[what]
        return kept

    def balances(self, account_id: str) -> Iterable[BalanceRow]:
        stored = self._keep(account_id, "balances", lambda a: list(self._store.balances(a)))
        shared = self._accounts.get(account_id)
        if shared is None:
            return stored
        shared.base = {(row.meter, row.period_us, row.lot): row.used for row in stored}
        return shared.document.balances(stored)

    def uses(self, account_id: str, meter: str, period_us: int, bounds: Sequence[int]) -> list[int]:
        """What had been used before an instant stands in the document, noted by the first to ask.

        Where it does not yet, nobody was admitted after it but what the store has: all the rest
        was used before, in the store or not.
        """
        shared = self._accounts.get(account_id)
        if shared is None or len(bounds) < 2:
            return self._store.uses(account_id, meter, period_us, bounds)
        rows = self.balances(account_id)
        key = (meter, period_us, OWN_LOT)
        used = sum([row.used for row in rows if (row.meter, row.period_us, row.lot) == key])
        marks = shared.document.marks
        names = [mark_field(meter, period_us, at_us) for at_us in bounds[1:-1]]
        if not marks.keys() >= set(names):
            until_us = (max(bounds[-1], shared.now_us) // DAY_US + 1) * DAY_US  # the same all day
            later = self._store.uses(account_id, meter, period_us, (*bounds[1:-1], until_us))
            for n, name in enumerate(names):
                marks.setdefault(name, used - sum(later[n:]))
        stands = [0, *(marks[name] for name in names), used]
        return [after - before for before, after in pairwise(stands)]

    def entries(self, account_id: str) -> Sequence[LedgerEntry]:
        stored = self._keep(account_id, "entries", self._store.entries)
        shared = self._accounts.get(account_id)
        if shared is None:
            return stored
        shared.stored_entries = frozenset([entry.id for entry in stored])
        count = shared.stored_entries | shared.over
        early = [e for _, e in shared.document.entries.values() if e.id not in count]
        return [*early, *stored]

    def versions(self, account_id: str) -> Sequence[AccountVersion]:
        return self._keep(account_id, "versions", self._store.versions)

    def plans(self) -> Sequence[PlansVersion]:
        if self._plans is None:
            self._plans = self._store.plans()
        return self._plans
