"""Does a configuration fit what the store has?

Invariant: a book that would give kept figures another meaning, or leave accounts without the
limits of their plan, is refused as a whole, before anything is decided by it.
Functions take the writing connection inside a transaction.
"""

from __future__ import annotations

from dataclasses import replace

import orjson

from gateway.core.book import Book, Meter
from gateway.store.base import StoreError
from gateway.store.database import Database


class BookRefused(StoreError):
    """The store has what this configuration cannot be used with; nothing was changed."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


def fit(connection: Database, book: Book) -> Book:
    """Note what later books are compared with; the book with what the store knows.

    Raises BookRefused.
    """
    noted = kept_decimals(connection)
    changed = [meter for meter in book.meters.values() if noted.get(meter.name) != meter.decimals]
    problems = [
        f"meters.{meter.name}.decimals: expected {noted[meter.name]}, in which its figures are"
        f" kept, found {meter.decimals}; give the meter another name"
        for meter in changed
        if meter.name in noted and _has_figures(connection, meter.name)
    ]
    problems += _missing_plans(connection, book)
    if problems:
        raise BookRefused(problems)
    _note(connection, changed)
    past = {name: decimals for name, decimals in noted.items() if name not in book.meters}
    return replace(book, past_decimals=past)


def kept_decimals(connection: Database) -> dict[str, int]:
    """In which decimals each meter's figures are kept, also of those that are no more."""
    return dict(connection.execute("SELECT name, decimals FROM meters").fetchall())


def _missing_plans(connection: Database, book: Book) -> list[str]:
    """Plans of stored accounts that would fall to another one, or to none.

    A disabled account is refused every call, and is enabled again with a plan that is there.
    """
    rows = connection.execute("SELECT DISTINCT plan FROM accounts WHERE disabled = 0").fetchall()
    missing = sorted(plan for (plan,) in rows if plan and plan not in book.plans)
    return [said for plan in missing for said in _missing_plan(connection, book, plan)]


def _missing_plan(connection: Database, book: Book, plan: str) -> list[str]:
    sql = "SELECT id FROM accounts WHERE plan = ? AND disabled = 0 ORDER BY id"
    rows = connection.execute(sql, (plan,)).fetchall()
    # What is declared counts in place of what is stored.
    found = [account for (account,) in rows if account not in book.accounts]
    if not found:
        return []
    have = "1 account has" if len(found) == 1 else f"{len(found):,} accounts have"
    return [f"plans: expected {plan!r}, which {have} ({found[0]}), found none"]


def _note(connection: Database, meters: list[Meter]) -> None:
    for meter in meters:
        connection.execute(
            "INSERT INTO meters VALUES (?, ?)"
            " ON CONFLICT (name) DO UPDATE SET decimals = excluded.decimals",
            (meter.name, meter.decimals),
        )


def _has_figures(connection: Database, meter: str) -> bool:
    """Anything that is counted in the meter's smallest unit, asked only where decimals differ."""
    found = any(
        connection.execute(f"SELECT 1 FROM {table} WHERE meter = ? LIMIT 1", (meter,)).fetchall()
        for table in ("balances", "ledger", "rollups", "removed_sums")
    )
    return found or _has_own_amount(connection, meter)


def _has_own_amount(connection: Database, meter: str) -> bool:
    """Whether an account has an allowance of its own."""
    rows = connection.execute("SELECT terms FROM accounts WHERE terms != '{}'").fetchall()
    return any(meter in dict(orjson.loads(terms).get("allowances", ())) for (terms,) in rows)
