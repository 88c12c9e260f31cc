"""Ledger entries, members, and the history of accounts and plans.

Writers take the writing connection inside a transaction, readers any
connection. An entry's id is its idempotency key. Clocks and random ids are the
caller's.
"""

from __future__ import annotations

from collections.abc import Mapping

from gateway.core.book import Account, Book, Plan
from gateway.core.rows import OWN_LOT, AccountVersion, LedgerEntry, PlansVersion, is_cap_lot
from gateway.core.units import AMOUNT_MAX
from gateway.store.codec import dump_account, dump_plans, load_account, load_plans
from gateway.store.database import Database
from gateway.store.fitting import fit

# One event may be paid by all lots that an account has, and must fit a record of the journal
# (8 KiB) with them: for each its name, its meter and some numbers. About 45 lots at once.
LOTS_MAX_BYTES = 5_000
LOT_BYTES = 80
EVER = 1 << 62  # later than any instant, and more than any number of rows

_COLUMNS = ", ".join(LedgerEntry._fields)
# What may differ when an entry is sent again: who says so, when and why, and what follows
# from the time. A repetition may come after its period has ended.
_TELLING = ("time_us", "reason", "actor", "starts_us", "expires_us", "period_us")


class LedgerRefusal(ValueError):
    """An entry that cannot stand in the ledger; nothing was changed."""


def insert_entry(connection: Database, entry: LedgerEntry) -> tuple[LedgerEntry, bool]:
    """The entry as it stands in the ledger, and whether it is new.

    Raises ValueError when the id was used for something else; LedgerRefusal (a ValueError)
    for an amount beyond 53 bits, a lot that is not there or would have less than was used
    of it, and when the account has too many lots with units left.
    """
    stored = find_entry(connection, entry.id)
    if stored is not None:
        same = {name: getattr(entry, name) for name in _TELLING}
        if stored._replace(**same) != entry:
            raise ValueError(f"{entry.id} was already used: {stored.kind} of {stored.meter}")
        return stored, False
    _refuse_wrong(connection, entry)
    marks = ", ".join("?" * len(entry))
    connection.execute(f"INSERT INTO ledger ({_COLUMNS}) VALUES ({marks})", entry)
    return entry, True


def _refuse_wrong(connection: Database, entry: LedgerEntry) -> None:
    if not -AMOUNT_MAX <= entry.amount <= AMOUNT_MAX:
        raise LedgerRefusal(f"expected an amount of at most {AMOUNT_MAX}, found {entry.amount}")
    if not entry.id or is_cap_lot(entry.id):  # names of own lots and of further allowances
        raise LedgerRefusal(f"expected an id that does not begin with '@', found {entry.id!r}")
    if entry.lot == entry.id:
        _refuse_another_lot(connection, entry)
    elif entry.lot != OWN_LOT:
        _refuse_overdrawn(connection, entry)


def _refuse_another_lot(connection: Database, entry: LedgerEntry) -> None:
    if entry.amount < 0:
        raise LedgerRefusal(f"expected a lot of 0 or more units, found {entry.amount}")
    values = {"account": entry.account, "now_us": entry.time_us}
    ids, count = connection.execute(_OPEN_LOTS, values).fetchall()[0]
    taken = ids + len(entry.id.encode()) + len(entry.meter.encode()) + (count + 1) * LOT_BYTES
    if taken > LOTS_MAX_BYTES:
        text = f"account {entry.account!r} has {count} lots with units left; no more fit one event"
        raise LedgerRefusal(text)


def _refuse_overdrawn(connection: Database, entry: LedgerEntry) -> None:
    """What an entry changes is there, and keeps what was used of it."""
    # A recurring grant's lots are named after the grant and the instant they begin.
    names = (entry.lot, entry.lot.rpartition("@")[0])
    grant = find_entry(connection, names[0]) or find_entry(connection, names[1])
    if (
        grant is None
        or (grant.account, grant.meter) != (entry.account, entry.meter)
        or grant.lot != grant.id
        or (grant.id != entry.lot and not grant.every)
    ):
        raise LedgerRefusal(f"expected a lot of {entry.meter}, found {entry.lot!r}")
    changed, used = connection.execute(_LOT, (entry.account, entry.lot)).fetchall()[0]
    left = changed + (grant.amount if grant.id != entry.lot else 0) - used
    if entry.amount < 0 and left + entry.amount < 0:
        raise LedgerRefusal(f"expected to take back at most {left} of lot {entry.lot!r}")


# Bytes of names, and number, of an account's lots with units left.
_OPEN_LOTS = """
    SELECT coalesce(sum(length(CAST(id || meter AS BLOB))), 0), count(*) FROM ledger g
    WHERE account = :account AND lot = id AND (expires_us IS NULL OR expires_us > :now_us) AND (
        every != '' OR
        (SELECT sum(amount) FROM ledger e WHERE e.account = :account AND e.lot = g.id) >
        (SELECT coalesce(sum(used), 0) FROM balances b INDEXED BY balances_by_lot
         WHERE b.account = :account AND b.lot = g.id AND b.lot != '' AND substr(b.lot, 1, 1) != '@')
    )
"""
_LOT = """
    SELECT (SELECT coalesce(sum(amount), 0) FROM ledger WHERE account = ?1 AND lot = ?2),
           (SELECT coalesce(sum(used), 0) FROM balances INDEXED BY balances_by_lot
            WHERE account = ?1 AND lot = ?2 AND lot != '' AND substr(lot, 1, 1) != '@')
"""


def find_entry(connection: Database, entry_id: str) -> LedgerEntry | None:
    sql = f"SELECT {_COLUMNS} FROM ledger WHERE id = ?"
    rows = connection.execute(sql, (entry_id,)).fetchall()
    return LedgerEntry(*rows[0]) if rows else None


def list_entries(
    connection: Database,
    account: str,
    *,
    before: tuple[int, str] | None = None,
    limit: int | None = None,
) -> list[LedgerEntry]:
    """Of one account, newest first, beginning behind (time_us, id)."""
    sql = (
        f"SELECT {_COLUMNS} FROM ledger WHERE account = ? AND (time_us, id) < (?, ?)"
        " ORDER BY time_us DESC, id DESC LIMIT ?"
    )
    time_us, entry_id = before or (EVER, "")
    values = (account, time_us, entry_id, EVER if limit is None else limit)
    return [LedgerEntry(*row) for row in connection.execute(sql, values).fetchall()]


def put_member(connection: Database, account: str, user: str, role: str) -> str | None:
    """The role that the user had before."""
    sql = "SELECT role FROM members WHERE account = ? AND user = ?"
    rows = connection.execute(sql, (account, user)).fetchall()
    connection.execute(
        "INSERT INTO members VALUES (?, ?, ?)"
        " ON CONFLICT (account, user) DO UPDATE SET role = excluded.role",
        (account, user, role),
    )
    return rows[0][0] if rows else None


def remove_member(connection: Database, account: str, user: str) -> bool:
    """Whether there was one."""
    sql = "DELETE FROM members WHERE account = ? AND user = ?"
    return connection.execute(sql, (account, user)).rowcount == 1


def list_members(connection: Database, account: str) -> dict[str, str]:
    """Roles by user."""
    sql = "SELECT user, role FROM members WHERE account = ? ORDER BY user"
    return dict(connection.execute(sql, (account,)).fetchall())


def record_account_version(connection: Database, account: Account, now_us: int) -> bool:
    """Keep the account as it is from now on; whether that is news.

    History is only added to: after a clock that was set back, a microsecond after the last.
    """
    sql = (
        "SELECT from_us, document FROM account_versions WHERE account = ?"
        " ORDER BY from_us DESC LIMIT 1"
    )
    rows = connection.execute(sql, (account.id,)).fetchall()
    if rows and load_account(rows[0][1]) == account:
        return False
    from_us = max(now_us, rows[0][0] + 1) if rows else now_us
    sql = "INSERT INTO account_versions VALUES (?, ?, ?)"
    connection.execute(sql, (account.id, from_us, dump_account(account)))
    return True


def account_versions(connection: Database, account: str) -> list[AccountVersion]:
    """Oldest first."""
    sql = "SELECT from_us, document FROM account_versions WHERE account = ? ORDER BY from_us"
    rows = connection.execute(sql, (account,)).fetchall()
    return [AccountVersion(from_us, load_account(document)) for from_us, document in rows]


def record_plans_version(
    connection: Database, book: str, plans: Mapping[str, Plan], now_us: int
) -> bool:
    """Keep the plans as they are from now on, as `record_account_version`."""
    sql = "SELECT from_us, document FROM plans_versions ORDER BY from_us DESC LIMIT 1"
    rows = connection.execute(sql).fetchall()
    if rows and load_plans(rows[0][1]) == plans:
        return False
    from_us = max(now_us, rows[0][0] + 1) if rows else now_us
    sql = "INSERT INTO plans_versions VALUES (?, ?, ?)"
    connection.execute(sql, (from_us, book, dump_plans(plans)))
    return True


def record_versions(connection: Database, book: Book, now_us: int) -> Book:
    """The history of plans and declared accounts goes on with a book. Raises BookRefused.

    The book with what the store knows (gateway/store/fitting.py).
    """
    fitted = fit(connection, book)
    record_plans_version(connection, book.version, book.plans, now_us)
    for account in book.accounts.values():
        record_account_version(connection, account, now_us)
    return fitted


def plans_versions(connection: Database) -> list[PlansVersion]:
    """Oldest first."""
    rows = connection.execute("SELECT * FROM plans_versions ORDER BY from_us").fetchall()
    return [PlansVersion(from_us, book, load_plans(document)) for from_us, book, document in rows]
