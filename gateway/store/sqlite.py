"""The SQLite store's read side, as the request path asks it.

Each method is one or two prepared look-ups by primary key, some 20 microseconds, on a
connection of its own; results are fetched whole, so that no read stays open and holds the
WAL. Must not write.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Any

import orjson

from gateway.core.book import Account
from gateway.core.identity import KeyRecord
from gateway.core.rows import BalanceRow, LimitState
from gateway.store.base import StoreUnavailable
from gateway.store.connect import open_reader

ACCOUNT_COLUMNS = "id, plan, anchor_us, title, disabled"
KEY_COLUMNS = (
    *("id", "digest", "account", "user", "project", "name", "hint"),
    *("created_us", "expires_us", "revoked_us", "routes", "networks"),
)
SELECT_KEY = f"SELECT {', '.join(KEY_COLUMNS)} FROM keys"
_BALANCES = """
    SELECT meter, period_us, sum(used), sum(topped_up) FROM (
        SELECT meter, period_us, used, 0 AS topped_up FROM balances WHERE account = ?1
        UNION ALL
        SELECT meter, period_us, 0, amount FROM topups WHERE account = ?1
    ) WHERE period_us = 0 OR period_us >= ?2 GROUP BY meter, period_us
"""


class SqliteStore:
    """Implements gateway.store.base.Store. Used by one thread at a time."""

    def __init__(self, path: str | Path) -> None:
        """Raises StoreError when there is no store of this version."""
        self._connection = open_reader(Path(path))

    @property
    def connection(self) -> sqlite3.Connection:
        return self._connection

    def account(self, account_id: str) -> Account | None:
        sql = f"SELECT {ACCOUNT_COLUMNS} FROM accounts WHERE id = ?"
        rows = self._ask(sql, (account_id,))
        return account_of(rows[0]) if rows else None

    def key(self, digest: bytes) -> KeyRecord | None:
        sql = f"{SELECT_KEY} WHERE digest = ?"
        rows = self._ask(sql, (digest,))
        return key_of(rows[0]) if rows else None

    def balances(self, account_id: str, since_us: int = 0) -> list[BalanceRow]:
        return [BalanceRow(*row) for row in self._ask(_BALANCES, (account_id, since_us))]

    def _ask(self, sql: str, values: tuple[Any, ...]) -> list[tuple[Any, ...]]:
        try:
            return self._connection.execute(sql, values).fetchall()
        except sqlite3.Error as error:
            raise StoreUnavailable(f"the store cannot be read: {error}") from error

    def limit_states(self, now_us: int) -> Iterator[LimitState]:
        sql = "SELECT limit_id, subject, a, b, expires_us FROM limit_state WHERE expires_us > ?"
        for row in self._connection.execute(sql, (now_us,)):
            yield LimitState(*row)

    def close(self) -> None:
        self._connection.close()


def read_balances(
    connection: sqlite3.Connection, account_id: str, since_us: int
) -> list[BalanceRow]:
    rows = connection.execute(_BALANCES, (account_id, since_us)).fetchall()
    return [BalanceRow(*row) for row in rows]


def account_of(row: tuple[Any, ...]) -> Account:
    """From ACCOUNT_COLUMNS."""
    account_id, plan, anchor_us, title, disabled = row
    return Account(account_id, plan, anchor_us, title, bool(disabled))


def key_of(row: tuple[Any, ...]) -> KeyRecord:
    """From KEY_COLUMNS."""
    fields = dict(zip(KEY_COLUMNS, row, strict=True))
    for name, read in (("routes", frozenset), ("networks", _networks)):
        if fields[name] is not None:
            fields[name] = read(orjson.loads(fields[name]))
    return KeyRecord(**fields)


def _networks(texts: list[str]) -> tuple[IPv4Network | IPv6Network, ...]:
    return tuple(map(ip_network, texts))
