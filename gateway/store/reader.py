"""The store's read side, as the request path asks it.

Each method is one or two look-ups by primary key; results are fetched whole, so that no
read stays open. Must not write.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Any, TypeVar

import orjson

from gateway.core.book import Account
from gateway.core.identity import KeyRecord
from gateway.core.rows import (
    AccountVersion,
    BalanceRow,
    LedgerEntry,
    LimitState,
    PlansVersion,
)
from gateway.store.balances import read_balances
from gateway.store.base import StoreUnavailable
from gateway.store.codec import load_account
from gateway.store.database import ERRORS, Database
from gateway.store.ledger import account_versions, list_entries, plans_versions
from gateway.store.sums import read_uses

T = TypeVar("T")

ACCOUNT_COLUMNS = "id, plan, anchor_us, title, disabled, terms"
KEY_COLUMNS = (
    *("id", "digest", "account", "user", "project", "name", "hint"),
    *("created_us", "expires_us", "revoked_us", "routes", "networks"),
)
SELECT_KEY = f"SELECT {', '.join(KEY_COLUMNS)} FROM keys"


class StoreReader:
    """Implements gateway.store.base.Store on a connection. Used by one thread at a time."""

    def __init__(self, connection: Database) -> None:
        self._connection = connection
        self._plans: tuple[tuple[Any, ...], list[PlansVersion]] | None = None

    @property
    def connection(self) -> Database:
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
        return self._read(lambda connection: read_balances(connection, account_id, since_us))

    def uses(self, account_id: str, meter: str, period_us: int, bounds: Sequence[int]) -> list[int]:
        return self._read(
            lambda connection: read_uses(connection, account_id, meter, period_us, bounds)
        )

    def entries(self, account_id: str) -> list[LedgerEntry]:
        return self._read(lambda connection: list_entries(connection, account_id))

    def versions(self, account_id: str) -> list[AccountVersion]:
        return self._read(lambda connection: account_versions(connection, account_id))

    def plans(self) -> list[PlansVersion]:
        """Kept while the configuration stays the same: they are asked for at every period."""
        count = self._ask("SELECT count(*), max(from_us) FROM plans_versions", ())[0]
        if self._plans is None or self._plans[0] != count:
            self._plans = (count, self._read(plans_versions))
        return self._plans[1]

    def _read(self, read: Callable[[Database], T]) -> T:
        """Raises StoreUnavailable."""
        try:
            return read(self.connection)
        except ERRORS as error:
            raise StoreUnavailable(f"the store cannot be read: {error}") from error

    def _ask(self, sql: str, values: tuple[Any, ...]) -> list[tuple[Any, ...]]:
        return self._read(lambda connection: connection.execute(sql, values).fetchall())

    def limit_states(self, now_us: int) -> Iterator[LimitState]:
        sql = "SELECT limit_id, subject, a, b, expires_us FROM limit_state WHERE expires_us > ?"
        for row in self._ask(sql, (now_us,)):
            yield LimitState(*row)

    def forget(self) -> None:
        """Nothing is kept but the plans, which are looked at each time."""

    def close(self) -> None:
        self.connection.close()


def account_of(row: tuple[Any, ...]) -> Account:
    """From ACCOUNT_COLUMNS."""
    account_id, plan, anchor_us, title, disabled, terms = row
    return load_account(
        terms, id=account_id, plan=plan, anchor_us=anchor_us, title=title, disabled=bool(disabled)
    )


def key_of(row: tuple[Any, ...]) -> KeyRecord:
    """From KEY_COLUMNS."""
    fields = dict(zip(KEY_COLUMNS, row, strict=True))
    for name, read in (("routes", frozenset), ("networks", _networks)):
        if fields[name] is not None:
            fields[name] = read(orjson.loads(fields[name]))
    return KeyRecord(**fields)


def _networks(texts: list[str]) -> tuple[IPv4Network | IPv6Network, ...]:
    return tuple(map(ip_network, texts))
