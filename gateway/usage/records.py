"""What the store has on an account, read together: its history, its ledger, what it used.

Reads through the caller's connection. Must not run on the event loop, and must not format.
"""

from __future__ import annotations

from typing import NamedTuple

from gateway.core.book import Account, Meter, Plan
from gateway.core.rows import BalanceRow, LedgerEntry
from gateway.core.statement import Books, Stage, stage_at, stages
from gateway.core.terms import Timeline
from gateway.store.balances import read_balances
from gateway.store.database import Database
from gateway.store.ledger import account_versions, list_entries, plans_versions
from gateway.store.reports import read_snapshot


class Records(NamedTuple):
    """Of one account. `account` and `plan` (effective) are what is in force now."""

    account: Account
    plan: Plan
    timeline: Timeline
    terms: list[Stage]
    entries: list[LedgerEntry]  # newest first
    balances: list[BalanceRow]

    def stage_at(self, at_us: int) -> Stage:
        """The terms in force at an instant; before the account was made, the first."""
        return stage_at(self.terms, at_us)

    def books(self, meter: Meter) -> Books:
        """One meter's part of it."""
        return Books(
            meter.name, meter.period, self.timeline, self.terms, self.entries, self.balances
        )


def read_records(connection: Database, account: Account, plan: Plan) -> Records:
    """As of one moment of the store. Raises one of ERRORS."""
    with read_snapshot(connection):
        timeline = Timeline(account_versions(connection, account.id), plans_versions(connection))
        entries = list_entries(connection, account.id)
        balances = read_balances(connection, account.id, 0)
    return Records(account, plan, timeline, stages(timeline, account, plan), entries, balances)
