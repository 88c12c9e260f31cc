"""Does a configuration fit what the store has?

Invariant: a book that would give kept figures another meaning is refused as a whole,
before anything is decided by it. Functions take the writing connection inside a
transaction.
"""

from __future__ import annotations

import orjson

from gateway.core.book import Book, Meter
from gateway.store.base import StoreError
from gateway.store.database import Database


class BookRefused(StoreError):
    """The store has what this configuration cannot be used with; nothing was changed."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


def fit(connection: Database, book: Book) -> None:
    """Note what later books are compared with. Raises BookRefused."""
    noted = dict(connection.execute("SELECT name, decimals FROM meters").fetchall())
    changed = [meter for meter in book.meters.values() if noted.get(meter.name) != meter.decimals]
    problems = [
        f"meters.{meter.name}.decimals: expected {noted[meter.name]}, in which its figures are"
        f" kept, found {meter.decimals}; give the meter another name"
        for meter in changed
        if meter.name in noted and _has_figures(connection, meter.name)
    ]
    if problems:
        raise BookRefused(problems)
    _note(connection, changed)


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
