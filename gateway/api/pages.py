"""Long lists from the store, a page at a time.

Rows come in the order of their id, from after a given one, so that a page costs
the same at the beginning and at the end of a million rows. Each function gives
at most `count` rows.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from gateway.core.book import Account
from gateway.core.identity import KeyRecord
from gateway.store.database import Database
from gateway.store.reader import ACCOUNT_COLUMNS, SELECT_KEY, account_of, key_of


def accounts_after(connection: Database, after: str, count: int) -> list[Account]:
    sql = f"SELECT {ACCOUNT_COLUMNS} FROM accounts WHERE id > ? ORDER BY id LIMIT ?"
    return [account_of(row) for row in connection.execute(sql, (after, count)).fetchall()]


def keys_after(
    connection: Database, account: str | None, after: str, count: int
) -> list[KeyRecord]:
    """Of one account, or of all."""
    where = "" if account is None else "account = ? AND"
    sql = f"{SELECT_KEY} WHERE {where} id > ? ORDER BY id LIMIT ?"
    values = (after, count) if account is None else (account, after, count)
    return [key_of(row) for row in connection.execute(sql, values).fetchall()]


def audit_log_before(
    connection: Database,
    before: int | None,
    count: int,
    wanted: Mapping[str, str | None],
) -> list[dict[str, Any]]:
    """Entries of the audit log, newest first: id, time_us, actor, action, subject, and details.

    `wanted` subject, action and actor, None: any. An account's subject has its members, too.
    """
    sql = (
        "SELECT id, time_us, actor, action, subject, detail FROM audit_log"
        " WHERE (:before IS NULL OR id < :before)"
        " AND (:subject IS NULL OR subject = :subject"
        " OR substr(subject, 1, length(:subject) + 1) = :subject || '/')"
        " AND (:action IS NULL OR action = :action) AND (:actor IS NULL OR actor = :actor)"
        " ORDER BY id DESC LIMIT :count"
    )
    values = {**wanted, "before": before, "count": count}
    names = ("id", "time_us", "actor", "action", "subject")
    return [
        {**dict(zip(names, row[:5], strict=True)), **(json.loads(row[5]) if row[5] else {})}
        for row in connection.execute(sql, values).fetchall()
    ]
