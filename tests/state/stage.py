"""A hot state over a store in memory: what it posts can be read back, as after a crash."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

from gateway.core.book import Account, Allowance, OverageRate, Plan
from gateway.core.ledger import Balance
from gateway.core.money import NOTHING, whole_micro
from gateway.core.overage import cost_of_month
from gateway.core.periods import Period
from gateway.core.pricing import Counted
from gateway.core.refusals import Refusal
from gateway.core.rows import AccountVersion, BalanceRow, EntryKind, LedgerEntry, PlansVersion
from gateway.core.statement import Books, stages
from gateway.core.terms import Timeline, effective_plan
from gateway.state.base import Hold, Posting
from gateway.state.memory import MemoryState
from tests.support.asking import Asking

S = 1_000_000
DOLLAR = 1_000_000  # micro-dollars
MONTH, WEEK, DAY = Period("month"), Period("week"), Period("day")


def us(text: str) -> int:
    """An instant written as ISO 8601, UTC unless it says otherwise."""
    at = datetime.fromisoformat(text)
    return round((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * S)


def allowance(meter: str, amount: int, period: Period = MONTH, **more: Any) -> Allowance:
    return Allowance(meter, amount, period, **more)


def priced(cents: int, units: int = 1) -> OverageRate:
    return OverageRate(cents * DOLLAR // 100, units)


class Store:
    """A state.base.BalanceSource that keeps what was posted."""

    def __init__(self, account: Account, plans: Sequence[Plan], from_us: int = 0) -> None:
        self.sums: dict[tuple[str, int, str], int] = {}
        self.posted: list[tuple[int, str, int, str, int]] = []  # instant, meter, period, lot, units
        self.ledger: list[LedgerEntry] = []
        self.history = [AccountVersion(from_us, account)]
        self.books = [PlansVersion(from_us, "1", {plan.name: plan for plan in plans})]

    def post(self, postings: Sequence[Posting], at_us: int = 0) -> None:
        for posting in postings:
            meter, amount, period_us, *lot = posting
            key = (meter, period_us, str(lot[0]) if lot else "")
            self.sums[key] = self.sums.get(key, 0) + amount
            self.posted.append((at_us, *key, amount))

    def balances(self, account_id: str) -> list[BalanceRow]:
        return [BalanceRow(*key, used) for key, used in self.sums.items()]

    def uses(self, account_id: str, meter: str, period_us: int, bounds: Sequence[int]) -> list[int]:
        own = [(t, n) for t, *key, n in self.posted if key == [meter, period_us, ""]]
        return [sum(n for t, n in own if a <= t < b) for a, b in pairwise(bounds)]

    def entries(self, account_id: str) -> list[LedgerEntry]:
        return list(self.ledger)

    def versions(self, account_id: str) -> list[AccountVersion]:
        return list(self.history)

    def plans(self) -> list[PlansVersion]:
        return list(self.books)


class Stage:
    """One account, its hot state and its store."""

    def __init__(self, *plans: Plan, from_us: int = 0, **account: Any) -> None:
        self.account = Account("acme", plans[0].name, **account)
        self.store = Store(self.account, plans, from_us)
        self.restart()

    def restart(self) -> None:
        """As after a crash: what was posted is there, holds are not."""
        self.hot = MemoryState(self.store)
        self.bind()

    def bind(self) -> None:
        plan = self.store.books[-1].plans[self.account.plan]
        self.state = self.hot.account(self.account, effective_plan(plan, self.account))

    def use_periods(self, periods: dict[str, Period]) -> None:
        """Of meters without an allowance."""
        self.hot._accounts.periods = periods

    def change(self, at_us: int, **fields: Any) -> None:
        """Change the account."""
        self.account = replace(self.account, **fields)
        self.store.history.append(AccountVersion(at_us, self.account))
        self.bind()

    def give(
        self,
        entry_id: str,
        amount: int,
        at_us: int,
        *,
        meter: str = "coins",
        kind: EntryKind = "bundle",
        lot: str | None = None,
        starts_us: int | None = None,
        expires_us: int | None = None,
        priority: int = 0,
        every: str = "",
        period_us: int = 0,
    ) -> LedgerEntry:
        """Add a ledger entry, by default a bundle; `lot` "" is the current period's own."""
        if lot == "" and not period_us:
            period_us = self.hot.balance(self.state, meter, at_us).span.start_us
        entry = LedgerEntry(
            *(entry_id, "acme", meter, kind, entry_id if lot is None else lot, period_us, amount),
            *(at_us if starts_us is None else starts_us, expires_us, priority, every, 0),
            *("because", "ops", at_us),
        )
        self.store.ledger.append(entry)
        self.hot.apply_entry(self.state, entry)
        return entry

    def admit(
        self, at_us: int, *charges: tuple[str, int], counted: tuple[Counted, ...] = ()
    ) -> Hold | Refusal:
        return self.hot.admit(Asking(self.state, at_us, charges, counted=counted))

    def hold(
        self, at_us: int, *charges: tuple[str, int], counted: tuple[Counted, ...] = ()
    ) -> Hold:
        hold = self.admit(at_us, *charges, counted=counted)
        assert isinstance(hold, Hold), hold
        return hold

    def refusal(
        self, at_us: int, *charges: tuple[str, int], counted: tuple[Counted, ...] = ()
    ) -> Refusal:
        refusal = self.admit(at_us, *charges, counted=counted)
        assert isinstance(refusal, Refusal), refusal
        return refusal

    def settle(
        self,
        hold: Hold,
        charges: tuple[tuple[str, int], ...] | None = None,
        counted: tuple[Counted, ...] | None = None,
    ) -> tuple[Posting, ...]:
        """Post exactly what was reserved, or something else."""
        if counted is None:
            counted = hold.ask.counted if hold.ask is not None else ()
        exact = hold.charges if charges is None else charges
        assert hold.ask is not None
        at_us = hold.ask.time_us
        settlement = self.hot.settlement(hold, exact, counted)
        self.hot.settle(hold, settlement)
        self.store.post(settlement.postings, at_us)
        return settlement.postings

    def spend(self, at_us: int, amount: int, meter: str = "coins") -> tuple[Posting, ...]:
        return self.settle(self.hold(at_us, (meter, amount)))

    def balance(self, at_us: int, meter: str = "coins") -> Balance:
        return self.hot.balance(self.state, meter, at_us)

    def balances(self, at_us: int) -> list[Balance]:
        """Of coins: those that are put aside, and the present one."""
        present = self.balance(at_us)
        return [*[b for b in self.state.aside if b.meter == "coins"], present]

    def invoiced_micro(self, now_us: int) -> int:
        """What the invoice of the month bills for overage, from the store alone."""
        store = self.store
        month = MONTH.span(now_us, self.account.anchor_us, self.account.timezone)
        timeline = Timeline(store.history, store.books)
        terms = stages(timeline, self.account, self.state.plan)
        total = NOTHING
        for meter in {a.meter for plan in store.books[-1].plans.values() for a in plan.allowances}:
            balances = store.balances("acme")
            books = Books(meter, MONTH, timeline, terms, store.ledger, balances)

            def read(period_us: int, bounds: Sequence[int], meter: str = meter) -> list[int]:
                return store.uses("acme", meter, period_us, bounds)

            total += cost_of_month(books, month, now_us, read)
        return whole_micro(total)
