"""Histories of accounts and plans for the tests of statements and bills."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from gateway.core.book import Account, Allowance, OverageRate, Plan
from gateway.core.periods import MONTH, Period
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
