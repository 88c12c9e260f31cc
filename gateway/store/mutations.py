"""Changes of accounts, keys, top-ups and limit states.

Each function takes the writing connection inside a transaction: `shipper.submit` while a
gateway runs, `SqliteSink.run` from the command line when none does. They raise
sqlite3.IntegrityError for an id or digest that is taken. Clocks and random ids are the
caller's.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from typing import Any

import orjson

from gateway.core.book import Account
from gateway.core.identity import KeyRecord
from gateway.core.rows import LimitState
from gateway.core.units import AMOUNT_MAX
from gateway.store.base import Topup
from gateway.store.sqlite import ACCOUNT_COLUMNS, SELECT_KEY, account_of, key_of


def insert_account(connection: sqlite3.Connection, account: Account, created_us: int) -> None:
    connection.execute(
        "INSERT INTO accounts VALUES (?, ?, ?, ?, ?, ?)",
        (*_account_values(account), created_us),
    )


def update_account(connection: sqlite3.Connection, account: Account) -> bool:
    """Everything but the id; whether there is such an account."""
    account_id, *values = _account_values(account)
    sql = "UPDATE accounts SET plan = ?, anchor_us = ?, title = ?, disabled = ? WHERE id = ?"
    return connection.execute(sql, (*values, account_id)).rowcount == 1


def list_accounts(connection: sqlite3.Connection) -> list[Account]:
    sql = f"SELECT {ACCOUNT_COLUMNS} FROM accounts ORDER BY id"
    return [account_of(row) for row in connection.execute(sql).fetchall()]


def insert_key(connection: sqlite3.Connection, key: KeyRecord) -> None:
    values = (
        *(key.digest, key.id, key.account, key.user, key.project, key.name, key.hint),
        *(key.created_us, key.expires_us, key.revoked_us),
        *(_json(key.routes), _json(key.networks)),
    )
    connection.execute(f"INSERT INTO keys VALUES ({','.join('?' * len(values))})", values)


def find_key(connection: sqlite3.Connection, key_id: str) -> KeyRecord | None:
    sql = f"{SELECT_KEY} WHERE id = ?"
    rows = connection.execute(sql, (key_id,)).fetchall()
    return key_of(rows[0]) if rows else None


def revoke_key(connection: sqlite3.Connection, key_id: str, at_us: int) -> bool:
    """Whether it was valid until now: a second revocation changes nothing."""
    sql = "UPDATE keys SET revoked_us = ? WHERE id = ? AND revoked_us IS NULL"
    return connection.execute(sql, (at_us, key_id)).rowcount == 1


def set_key_expiry(connection: sqlite3.Connection, key_id: str, expires_us: int | None) -> bool:
    """Whether there is such a key."""
    sql = "UPDATE keys SET expires_us = ? WHERE id = ?"
    return connection.execute(sql, (expires_us, key_id)).rowcount == 1


def list_keys(connection: sqlite3.Connection, account: str | None = None) -> list[KeyRecord]:
    """Of one account or of all, oldest first."""
    where = "" if account is None else "WHERE account = ?"
    sql = f"{SELECT_KEY} {where} ORDER BY account, created_us, id"
    rows = connection.execute(sql, () if account is None else (account,)).fetchall()
    return [key_of(row) for row in rows]


def insert_topup(connection: sqlite3.Connection, topup: Topup) -> bool:
    """Whether it is new: the same id again changes nothing.

    A negative amount takes back. Raises ValueError when the id was used for something
    else, or for an amount beyond 53 bits.
    """
    if not -AMOUNT_MAX <= topup.amount <= AMOUNT_MAX:
        raise ValueError(f"expected an amount of at most {AMOUNT_MAX}, found {topup.amount}")
    sql = "INSERT INTO topups VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING"
    if connection.execute(sql, topup).rowcount == 1:
        return True
    row = connection.execute("SELECT * FROM topups WHERE id = ?", (topup.id,)).fetchall()[0]
    stored = Topup(*row)
    if stored._replace(time_us=topup.time_us, reason=topup.reason, actor=topup.actor) != topup:
        raise ValueError(f"top-up {topup.id} was already made with other values: {stored}")
    return False


def list_topups(connection: sqlite3.Connection, account: str) -> list[Topup]:
    sql = "SELECT * FROM topups WHERE account = ? ORDER BY time_us, id"
    return [Topup(*row) for row in connection.execute(sql, (account,)).fetchall()]


def save_limit_states(
    connection: sqlite3.Connection, states: Iterable[LimitState], now_us: int
) -> None:
    """Keep these and forget what has expired."""
    connection.execute("DELETE FROM limit_state WHERE expires_us <= ?", (now_us,))
    connection.executemany(
        "INSERT INTO limit_state VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET"
        " a = excluded.a, b = excluded.b, expires_us = excluded.expires_us",
        states,
    )


def log_audit(
    connection: sqlite3.Connection,
    *,
    time_us: int,
    actor: str,
    action: str,
    subject: str,
    detail: str = "",
) -> None:
    """Who changed what: one row, in the transaction of the change itself."""
    sql = "INSERT INTO audit_log (time_us, actor, action, subject, detail) VALUES (?, ?, ?, ?, ?)"
    connection.execute(sql, (time_us, actor, action, subject, detail))


def _account_values(account: Account) -> tuple[Any, ...]:
    return account.id, account.plan, account.anchor_us, account.title, int(account.disabled)


def _json(names: Iterable[object] | None) -> str | None:
    return None if names is None else orjson.dumps(sorted(map(str, names))).decode()
