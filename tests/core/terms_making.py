"""Histories of accounts and plans for the tests of statements and bills."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from itertools import pairwise
from typing import Any

from hypothesis import strategies as st

from gateway.core.book import Account, Allowance, OverageRate, Plan
from gateway.core.periods import DAY_US, MONTH, Period
from gateway.core.rows import AccountVersion, BalanceRow, EntryKind, LedgerEntry, PlansVersion
from gateway.core.statement import Books, stages
from gateway.core.terms import Timeline

WEEK = Period("week")
DOLLAR = OverageRate(1_000_000)
ACME = Account("acme", "paid")


def us(text: str) -> int:
    """Microseconds of an instant such as 2026-03-02, UTC."""
    moment = datetime.fromisoformat(text if "T" in text else f"{text}T00:00")
    return int(moment.replace(tzinfo=None).timestamp() - datetime(1970, 1, 1).timestamp()) * 10**6


def plan(amount: int = 100, name: str = "paid", period: Period = MONTH, **more: Any) -> Plan:
    """A plan with one meter, coins. Fields of the allowance come with it."""
    terms = {k: more.pop(k) for k in ("rollover", "overage", "on_exhausted", "per_seat", "settable")
             if k in more}  # fmt: skip
    return Plan(name, (Allowance("coins", amount, period, **terms),), **more)


def paying(amount: int = 100, **more: Any) -> Plan:
    """A plan that goes into overage at a dollar a coin."""
    return plan(amount, **{"on_exhausted": "overage", "overage": DOLLAR, **more})


def timeline(
    accounts: Sequence[tuple[str, Account]], plans: Sequence[tuple[str, Sequence[Plan]]]
) -> Timeline:
    """(instant, as it was from then on), oldest first."""
    return Timeline(
        [AccountVersion(us(at), account) for at, account in accounts],
        [PlansVersion(us(at), "v", {p.name: p for p in them}) for at, them in plans],
    )


def entry(
    number: int,
    amount: int,
    at: str,
    *,
    kind: EntryKind = "topup",
    period: str = "",
    lot: str | None = None,
    expires: str = "",
    **more: Any,
) -> LedgerEntry:
    """An entry of coins: on a period's own lot where `period` is given, else a lot of its own."""
    made_id = f"e{number}"
    own = "" if period else made_id
    fields: dict[str, Any] = {
        "starts_us": us(at),
        "expires_us": us(expires) if expires else None,
        "priority": 0,
        "every": "",
        "price_micro": 0,
        "reason": "",
        "actor": "ops",
        **more,
    }
    return LedgerEntry(
        made_id,
        "acme",
        "coins",
        kind,
        own if lot is None else lot,
        us(period) if period else 0,
        amount,
        time_us=us(at),
        **fields,
    )


def used(amount: int, period: str, lot: str = "") -> BalanceRow:
    return BalanceRow("coins", us(period), lot, amount)


def books(
    history: Timeline,
    entries: Sequence[LedgerEntry] = (),
    balances: Sequence[BalanceRow] = (),
    account: Account = ACME,
    now: Plan | None = None,
) -> Books:
    terms = stages(history, account, now or plan())
    return Books("coins", MONTH, history, terms, entries, balances)


AMOUNTS = st.integers(0, 200)


@st.composite
def lives(
    draw: st.DrawFn, /, **terms: Any
) -> tuple[Timeline, list[LedgerEntry], list[BalanceRow], int]:
    """Some months of an account: seats, top-ups, use; rollover or none."""
    months = [f"2026-{n:02}-01" for n in range(1, draw(st.integers(2, 8)))]
    sold = plan(per_seat=True, rollover=draw(st.sampled_from([0, 30, 1000])), **terms)
    accounts = [AccountVersion(us("2026-01-01"), ACME)]
    for n, start in enumerate(months):
        if draw(st.booleans()):
            seats = replace(accounts[-1].account, seats=draw(st.integers(0, 4)))
            accounts.append(AccountVersion(us(start) + (n + 1) * DAY_US, seats))
    entries = [
        entry(n, draw(st.integers(-60, 200)), start, period=start)
        for n, start in enumerate(months)
        if draw(st.booleans())
    ]
    balances = [used(draw(AMOUNTS), start) for start in months]
    history = Timeline(accounts, [PlansVersion(us("2026-01-01"), "v", {"paid": sold})])
    return history, entries, balances, us(months[-1]) + 20 * DAY_US


class Source:
    """What the hot state reads, from the same life."""

    def __init__(
        self, history: Timeline, entries: list[LedgerEntry], rows: list[BalanceRow]
    ) -> None:
        self._history, self._entries, self._rows = history, entries, rows

    def balances(self, account_id: str, since_us: int = 0) -> list[BalanceRow]:
        return self._rows

    def uses(self, account_id: str, meter: str, period_us: int, bounds: Sequence[int]) -> list[int]:
        """All of a period's in its first hour."""
        used = sum(
            row.used for row in self._rows if (row.meter, row.period_us) == (meter, period_us)
        )
        return [used if a <= period_us < b else 0 for a, b in pairwise(bounds)]

    def entries(self, account_id: str) -> list[LedgerEntry]:
        return self._entries

    def versions(self, account_id: str) -> list[AccountVersion]:
        return list(self._history.accounts)

    def plans(self) -> list[PlansVersion]:
        return list(self._history.plans)
