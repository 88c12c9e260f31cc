"""Changes of accounts, keys and limit states; store/ledger.py has the ledger's.

Each function takes the writing connection inside a transaction: `shipper.submit` while a
gateway runs, `SqliteSink.run` from the command line when none does. They raise
one of ALREADY_THERE for an id or digest that is taken. Clocks and random ids are the
caller's.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import orjson

from gateway.core.book import Account, Book
from gateway.core.identity import KeyRecord
from gateway.core.reload import RELOADED, detail_of
from gateway.core.rows import LimitState
from gateway.store.codec import dump_account
from gateway.store.database import Database
from gateway.store.reader import ACCOUNT_COLUMNS, SELECT_KEY, account_of, key_of


def insert_account(connection: Database, account: Account, created_us: int) -> None:
    connection.execute(
        "INSERT INTO accounts (id, plan, anchor_us, title, disabled, terms, created_us)"
        " VALUES (?, ?, ?, ?, ?, ?, ?)",
        (*_account_values(account), created_us),
    )


def update_account(connection: Database, account: Account) -> bool:
    """Everything but the id; whether there is such an account."""
    account_id, *values = _account_values(account)
    sql = (
        "UPDATE accounts SET plan = ?, anchor_us = ?, title = ?, disabled = ?, terms = ?"
        " WHERE id = ?"
    )
    return connection.execute(sql, (*values, account_id)).rowcount == 1


def find_account(connection: Database, account_id: str) -> Account | None:
    sql = f"SELECT {ACCOUNT_COLUMNS} FROM accounts WHERE id = ?"
    rows = connection.execute(sql, (account_id,)).fetchall()
    return account_of(rows[0]) if rows else None


def insert_key(connection: Database, key: KeyRecord) -> None:
    values = (
        *(key.digest, key.id, key.account, key.user, key.project, key.name, key.hint),
        *(key.created_us, key.expires_us, key.revoked_us),
        *(_json(key.routes), _json(key.networks)),
    )
    connection.execute(f"INSERT INTO keys VALUES ({','.join('?' * len(values))})", values)


def find_key(connection: Database, key_id: str) -> KeyRecord | None:
    sql = f"{SELECT_KEY} WHERE id = ?"
    rows = connection.execute(sql, (key_id,)).fetchall()
    return key_of(rows[0]) if rows else None


def revoke_key(connection: Database, key_id: str, at_us: int) -> bool:
    """Whether it was valid until now: a second revocation changes nothing."""
    sql = "UPDATE keys SET revoked_us = ? WHERE id = ? AND revoked_us IS NULL"
    return connection.execute(sql, (at_us, key_id)).rowcount == 1


def set_key_expiry(connection: Database, key_id: str, expires_us: int | None) -> bool:
    """Whether there is such a key."""
    sql = "UPDATE keys SET expires_us = ? WHERE id = ?"
    return connection.execute(sql, (expires_us, key_id)).rowcount == 1


def list_keys(connection: Database, account: str | None = None) -> list[KeyRecord]:
    """Of one account or of all, oldest first."""
    where = "" if account is None else "WHERE account = ?"
    sql = f"{SELECT_KEY} {where} ORDER BY account, created_us, id"
    rows = connection.execute(sql, () if account is None else (account,)).fetchall()
    return [key_of(row) for row in rows]


def save_limit_states(connection: Database, states: Iterable[LimitState], now_us: int) -> None:
    """Keep these and forget what has expired."""
    connection.execute("DELETE FROM limit_state WHERE expires_us <= ?", (now_us,))
    connection.executemany(
        "INSERT INTO limit_state VALUES (?, ?, ?, ?, ?) ON CONFLICT (limit_id, subject)"
        " DO UPDATE SET a = excluded.a, b = excluded.b, expires_us = excluded.expires_us",
        states,
    )


def log_audit(
    connection: Database,
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


def log_reload(
    connection: Database, before: str, book: Book, *, time_us: int, address: str
) -> None:
    """A machine's configuration was reloaded; `before` is the version until now."""
    log_audit(
        connection,
        time_us=time_us,
        actor="SIGHUP",
        action=RELOADED,
        subject=book.version,
        detail=detail_of(before, book, address),
    )


def _account_values(account: Account) -> tuple[Any, ...]:
    columns = ("id", "plan", "anchor_us", "title", "disabled")
    values = (account.id, account.plan, account.anchor_us, account.title, int(account.disabled))
    return *values, dump_account(account, without=columns)


def _json(names: Iterable[object] | None) -> str | None:
    return None if names is None else orjson.dumps(sorted(map(str, names))).decode()
